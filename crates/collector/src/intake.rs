//! Takes whole requests: writes their records, hands them to the stream, and keeps account of what became of them.
//! One for all connections. Knows nothing of sockets.

use crate::bad_rows::Maker;
use crate::batching::Batching;
use crate::config::Config;
use crate::counters::{Counters, Reason, Violation};
use crate::memory::Budget;
use crate::meter::Meter;
use crate::oversized::Keeper;
use crate::sink::store::{Refusal, Store, Storing};
use crate::sizes::{Fitted, Limits};
use crate::source_ip;
use crate::too_large::TooLarge;
use bytes::Bytes;
use model::causes::Causes;
use model::time::{Clock, Timestamp};
use regex::Regex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::time::Instant;

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Intake {
    pub(crate) config: Config,
    pub(crate) counters: Arc<Counters>,
    pub(crate) budget: Budget,
    /// The record's `collector` field: `snowmelt-VERSION-SINK`.
    pub(crate) collector: String,
    /// Matches values of the do-not-track cookie, where there is one.
    pub(crate) do_not_track: Option<Regex>,
    pub(crate) limits: Limits,
    pub(crate) meter: Arc<Meter>,
    pub(crate) too_large: TooLarge,
    stores: Stores,
    clock: Arc<dyn Clock>,
    /// Where requests share records.
    batching: Option<Arc<Batching>>,
    /// The process was asked to end.
    leaving: AtomicBool,
    draining: AtomicBool,
}

/// What one request hands to the stream, and what is counted of it.
#[derive(Debug)]
pub(crate) struct Records {
    records: Vec<Bytes>,
    bad_rows: usize,
    bytes: usize,
    violation: Option<Violation>,
    /// The whole payload, where it is to be kept beside what is recorded of it.
    oversized: Option<Vec<u8>>,
}

impl From<Vec<u8>> for Records {
    fn from(record: Vec<u8>) -> Records {
        Records {
            bytes: record.len(),
            records: vec![Bytes::from(record)],
            bad_rows: 0,
            violation: None,
            oversized: None,
        }
    }
}

impl From<Fitted> for Records {
    fn from(fitted: Fitted) -> Records {
        let bad_rows = fitted.bad_rows.len();
        let mut records = fitted.payloads;
        records.extend(fitted.bad_rows);
        let bytes = records.iter().map(Bytes::len).sum();
        Records { bytes, records, bad_rows, violation: fitted.violation, oversized: None }
    }
}

impl Records {
    /// One bad row.
    pub(crate) fn bad_row(row: String) -> Records {
        Fitted { bad_rows: vec![Bytes::from(row)], ..Fitted::default() }.into()
    }

    /// What the parts of a payload come to, and the payload itself.
    pub(crate) fn of_oversized(fitted: Fitted, payload: Vec<u8>) -> Records {
        let oversized = fitted.violation.map(|_| payload);
        Records { oversized, ..Records::from(fitted) }
    }
}

/// A count of what was handed over, for when its fate is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tally {
    records: usize,
    bad_rows: usize,
    bytes: usize,
    violation: Option<Violation>,
}

/// Where what is taken goes to.
#[derive(Debug)]
pub(crate) struct Stores {
    /// Of the sink of good records: [`crate::sink::Destination::kind`].
    pub(crate) kind: String,
    pub(crate) good: Arc<Store>,
    /// Where bad rows go; `None` means beside the records that they came with.
    pub(crate) bad: Option<Arc<Store>>,
    /// Where payloads are kept that are too large for a record, if they are.
    pub(crate) oversized: Option<Keeper>,
}

impl Intake {
    /// Over the embedded log alone.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn new(
        config: Config,
        raw: Arc<dyn stream::Stream>,
        clock: Arc<dyn Clock>,
    ) -> Intake {
        let meter = Arc::new(Meter::new(false, None));
        let good = Arc::new(Store::direct(raw));
        let stores = Stores { kind: "log".to_owned(), good, bad: None, oversized: None };
        Intake::over(config, stores, Arc::default(), meter, clock)
    }

    /// The configuration must have passed [`Config::check`].
    pub(crate) fn over(
        config: Config,
        stores: Stores,
        counters: Arc<Counters>,
        meter: Arc<Meter>,
        clock: Arc<dyn Clock>,
    ) -> Intake {
        let batching = config.compression.enabled.then(|| {
            let (good, clock) = (Arc::clone(&stores.good), Arc::clone(&clock));
            let store = move |records| good.store(records, &Bytes::new(), clock.now());
            let record_bytes_max = config.networking.max_record_size;
            Batching::new(&config.compression, record_bytes_max, Box::new(store))
        });
        Intake {
            budget: Budget::new(config.memory.max_in_flight_bytes, Arc::clone(&counters)),
            counters,
            collector: format!("snowmelt-{}-{}", config.version, stores.kind),
            do_not_track: config.do_not_track_cookie.pattern().unwrap_or_default(),
            limits: Limits::new(&config.networking, config.compat),
            config,
            meter,
            too_large: TooLarge::default(),
            stores,
            clock,
            batching,
            leaving: AtomicBool::new(false),
            draining: AtomicBool::new(false),
        }
    }

    /// Makes the bad rows of this instant.
    pub(crate) fn bad_rows(&self, now: Timestamp) -> Maker {
        Maker::new(&self.config.version, now)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// From now on every answer closes its connection, and no record waits for more payloads.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        if let Some(batching) = &self.batching {
            batching.flush();
        }
    }

    pub(crate) fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// The process was asked to end: requests are still taken, and `/health` says so if it is to.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// What `/health` says.
    pub(crate) fn is_healthy(&self) -> bool {
        !self.config.pre_termination_unhealthy || !self.leaving.load(Ordering::Relaxed)
    }

    /// What `/sink-health` says.
    pub(crate) fn sinks_are_healthy(&self) -> bool {
        self.stores.good.is_healthy() && self.stores.bad.as_ref().is_none_or(|bad| bad.is_healthy())
    }

    /// Sends what waits for the sinks, until `by`. How many records they have not confirmed.
    pub(crate) async fn drain_sinks(&self, by: Instant) -> u64 {
        let bad = async {
            match &self.stores.bad {
                Some(bad) => bad.drain(by).await,
                None => 0,
            }
        };
        let (good, bad) = tokio::join!(self.stores.good.drain(by), bad);
        good + bad
    }

    /// Hands all records of one request to its sink, side by side; ready when the request may be answered. The
    /// partitions take turns, or the client's address chooses one.
    pub(crate) fn store(
        &self,
        mut records: Records,
        ip_address: &str,
    ) -> (Tally, impl Future<Output = Result<(), Refusal>> + use<>) {
        let tally = Tally {
            records: records.records.len(),
            bad_rows: records.bad_rows,
            bytes: records.bytes,
            violation: records.violation,
        };
        let now = self.now();
        let oversized = records.oversized.take().zip(self.stores.oversized.clone());
        let kept = oversized.map(|(payload, keeper)| keeper.keep(payload, now));
        let shared = match (&self.batching, &records.records[..]) {
            (Some(batching), [payload]) if records.bad_rows == 0 && !self.draining() => {
                Some(batching.add(payload))
            }
            _ => None,
        };
        let alone = match shared {
            None => Some(self.store_alone(records, ip_address)),
            Some(_) => None,
        };
        let stored = async move {
            let stored = match (alone, shared) {
                (Some((None, None)), _) => Ok(()),
                (Some((Some(stored), None) | (None, Some(stored))), _) => stored.await,
                (Some((Some(good), Some(bad))), _) => {
                    good.await?;
                    bad.await
                }
                (None, Some(Ok(wait))) => wait.await.unwrap_or_else(|_| Err(not_compressed(None))),
                (None, Some(Err(error))) => Err(not_compressed(Some(error))),
                (None, None) => Err(not_compressed(None)),
            };
            // Not before: what is refused comes again.
            if let (Ok(()), Some(kept)) = (&stored, kept) {
                kept.await;
            }
            stored
        };
        (tally, stored)
    }

    fn store_alone(
        &self,
        mut records: Records,
        ip_address: &str,
    ) -> (Option<Storing>, Option<Storing>) {
        let by_address =
            self.config.use_ip_address_as_partition_key && ip_address != source_ip::UNKNOWN;
        let key =
            if by_address { Bytes::copy_from_slice(ip_address.as_bytes()) } else { Bytes::new() };
        match &self.stores.bad {
            Some(bad) if records.bad_rows > 0 => {
                let now = self.now();
                let payloads = records.records.len() - records.bad_rows;
                let rows = records.records.split_off(payloads);
                let good =
                    (payloads > 0).then(|| self.stores.good.store(records.records, &key, now));
                (good, Some(bad.store(rows, &key, now)))
            }
            _ => (Some(self.stores.good.store(records.records, &key, self.now())), None),
        }
    }

    /// Notes what became of it.
    pub(crate) fn settle(&self, stored: Result<(), Refusal>, tally: Tally) -> Result<(), Reason> {
        let error = match stored {
            Ok(()) => {
                self.counters.accept(tally.records, tally.bad_rows, tally.bytes);
                if let Some(violation) = tally.violation {
                    self.counters.violate(violation, tally.bad_rows);
                }
                if self.stores.good.settle(true) {
                    tracing::info!(sink = self.stores.good.name(), "records are taken again");
                }
                return Ok(());
            }
            Err(error) => error,
        };
        let reason = reason_of(&error);
        self.counters.reject(reason);
        // Each refusal is counted; only the first of a row is logged, since a full disk refuses thousands a second.
        if reason != Reason::TooLarge && self.stores.good.settle(false) {
            tracing::warn!(sink = self.stores.good.name(), error = %Causes(&error), "requests are answered 503");
        }
        Err(reason)
    }
}

fn not_compressed(error: Option<std::io::Error>) -> Refusal {
    let error = error.unwrap_or_else(|| std::io::Error::other("nobody stored the record"));
    let source = Arc::new(error);
    stream::Error::Io { action: "compress", path: "a record".into(), source }.into()
}

fn reason_of(refusal: &Refusal) -> Reason {
    match refusal {
        Refusal::Stream(error) => reason_of_stream(error),
        Refusal::MemoryFull => Reason::Busy,
        Refusal::SpoolFull => Reason::DiskFull,
        Refusal::TooLarge(_) => Reason::TooLarge,
        Refusal::Closed => Reason::Closed,
    }
}

fn reason_of_stream(error: &stream::Error) -> Reason {
    match error {
        stream::Error::Full { .. } => Reason::DiskFull,
        stream::Error::Busy { .. } => Reason::Busy,
        stream::Error::Poisoned { .. } => Reason::Poisoned,
        stream::Error::Closed { .. } => Reason::Closed,
        stream::Error::TooLarge { .. } => Reason::TooLarge,
        stream::Error::Io { .. }
        | stream::Error::Empty { .. }
        | stream::Error::Trimmed { .. }
        | stream::Error::UnknownPartition { .. }
        | stream::Error::Damaged { .. }
        | stream::Error::NewerFormat { .. } => Reason::StreamError,
    }
}
