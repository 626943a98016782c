//! Takes whole requests: writes their records, hands them to the stream, and keeps account of what became of them.
//! One for all connections. Knows nothing of sockets.

use crate::bad_rows::Maker;
use crate::batching::Batching;
use crate::config::Config;
use crate::counters::{Counters, Reason};
use crate::memory::Budget;
use crate::sizes::{Fitted, Limits};
use crate::source_ip;
use bytes::Bytes;
use model::causes::Causes;
use model::time::{Clock, Timestamp};
use regex::Regex;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use stream::{Append, Appended, Stream};

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Intake {
    pub(crate) config: Config,
    pub(crate) counters: Arc<Counters>,
    pub(crate) budget: Budget,
    /// The record's `collector` field: `snowmelt-VERSION-log`.
    pub(crate) collector: String,
    /// Matches values of the do-not-track cookie, where there is one.
    pub(crate) do_not_track: Option<Regex>,
    pub(crate) limits: Limits,
    raw: Arc<dyn Stream>,
    clock: Arc<dyn Clock>,
    next_partition: Arc<AtomicUsize>,
    /// Where requests share records.
    batching: Option<Arc<Batching>>,
    /// The last append succeeded, or there was none yet.
    stream_healthy: AtomicBool,
    draining: AtomicBool,
}

/// What one request hands to the stream, and what is counted of it.
#[derive(Debug)]
pub(crate) struct Records {
    records: Vec<Bytes>,
    bad_rows: usize,
    bytes: usize,
}

impl From<Vec<u8>> for Records {
    fn from(record: Vec<u8>) -> Records {
        Records { bytes: record.len(), records: vec![Bytes::from(record)], bad_rows: 0 }
    }
}

impl From<Fitted> for Records {
    fn from(fitted: Fitted) -> Records {
        let bad_rows = fitted.bad_rows.len();
        let mut records = fitted.payloads;
        records.extend(fitted.bad_rows);
        Records { bytes: records.iter().map(Bytes::len).sum(), records, bad_rows }
    }
}

impl Records {
    /// One bad row.
    pub(crate) fn bad_row(row: String) -> Records {
        Fitted { payloads: Vec::new(), bad_rows: vec![Bytes::from(row)] }.into()
    }
}

/// A count of what was handed over, for when its fate is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tally {
    records: usize,
    bad_rows: usize,
    bytes: usize,
}

impl Intake {
    /// The configuration must have passed [`Config::check`].
    pub(crate) fn new(config: Config, raw: Arc<dyn Stream>, clock: Arc<dyn Clock>) -> Intake {
        let next_partition = Arc::new(AtomicUsize::new(0));
        let batching = config.compression.enabled.then(|| {
            let (raw, turn) = (Arc::clone(&raw), Arc::clone(&next_partition));
            let store = move |records| append(&*raw, turn.fetch_add(1, Ordering::Relaxed), records);
            let record_bytes_max = config.networking.max_record_size;
            Batching::new(&config.compression, record_bytes_max, Box::new(store))
        });
        Intake {
            counters: Arc::default(),
            budget: Budget::new(config.memory.max_in_flight_bytes),
            collector: format!("snowmelt-{}-log", config.version),
            do_not_track: config.do_not_track_cookie.pattern().unwrap_or_default(),
            limits: Limits::new(&config.networking, config.compat),
            config,
            raw,
            clock,
            next_partition,
            batching,
            stream_healthy: AtomicBool::new(true),
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

    pub(crate) fn stream_healthy(&self) -> bool {
        self.stream_healthy.load(Ordering::Relaxed)
    }

    /// Hands all records of one request to one partition, where they lie side by side; ready when they are stored. The
    /// partitions take turns, or the client's address chooses one.
    pub(crate) fn store(
        &self,
        records: Records,
        ip_address: &str,
    ) -> (Tally, impl Future<Output = Result<Appended, stream::Error>> + use<>) {
        let tally = Tally {
            records: records.records.len(),
            bad_rows: records.bad_rows,
            bytes: records.bytes,
        };
        let shared = match (&self.batching, &records.records[..]) {
            (Some(batching), [payload]) if records.bad_rows == 0 && !self.draining() => {
                Some(batching.add(payload))
            }
            _ => None,
        };
        let alone = match shared {
            None => {
                let by_address =
                    self.config.use_ip_address_as_partition_key && ip_address != source_ip::UNKNOWN;
                let turn = match by_address {
                    true => hash(ip_address),
                    false => self.next_partition.fetch_add(1, Ordering::Relaxed),
                };
                Some(append(&*self.raw, turn, records.records))
            }
            Some(_) => None,
        };
        let stored = async move {
            match (alone, shared) {
                (Some(append), _) => append.await,
                (None, Some(Ok(wait))) => wait.await.unwrap_or_else(|_| Err(not_compressed(None))),
                (None, Some(Err(error))) => Err(not_compressed(Some(error))),
                (None, None) => Err(not_compressed(None)),
            }
        };
        (tally, stored)
    }

    /// Notes what became of it.
    pub(crate) fn settle(
        &self,
        appended: Result<Appended, stream::Error>,
        tally: Tally,
    ) -> Result<(), Reason> {
        let error = match appended {
            Ok(_) => {
                self.counters.accept(tally.records, tally.bad_rows, tally.bytes);
                if !self.stream_healthy.swap(true, Ordering::Relaxed) {
                    tracing::info!(stream = self.raw.name(), "records are taken again");
                }
                return Ok(());
            }
            Err(error) => error,
        };
        let reason = reason_of(&error);
        self.counters.reject(reason);
        // Each refusal is counted; only the first of a row is logged, since a full disk refuses thousands a second.
        let was_healthy =
            reason != Reason::TooLarge && self.stream_healthy.swap(false, Ordering::Relaxed);
        if was_healthy {
            tracing::warn!(stream = self.raw.name(), error = %Causes(&error), "requests are answered 503");
        }
        Err(reason)
    }
}

fn append(raw: &dyn Stream, turn: usize, records: Vec<Bytes>) -> Append {
    let partitions = raw.partitions();
    raw.append(&partitions[turn % partitions.len()], records)
}

/// The same for equal texts in every process of one build.
fn hash(text: &str) -> usize {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    // Which bits are lost on a small machine does not matter.
    hasher.finish() as usize
}

fn not_compressed(error: Option<std::io::Error>) -> stream::Error {
    let error = error.unwrap_or_else(|| std::io::Error::other("nobody stored the record"));
    stream::Error::Io { action: "compress", path: "a record".into(), source: Arc::new(error) }
}

fn reason_of(error: &stream::Error) -> Reason {
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
