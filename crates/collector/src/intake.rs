//! Takes whole requests: writes their records, hands them to the stream, and keeps account of what became of them.
//! One for all connections. Knows nothing of sockets.

use crate::config::Config;
use crate::counters::{Counters, Reason};
use crate::memory::Budget;
use bytes::Bytes;
use model::causes::Causes;
use model::time::{Clock, Timestamp};
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
    raw: Arc<dyn Stream>,
    clock: Arc<dyn Clock>,
    next_partition: AtomicUsize,
    /// The last append succeeded, or there was none yet.
    stream_healthy: AtomicBool,
    draining: AtomicBool,
}

impl Intake {
    pub(crate) fn new(config: Config, raw: Arc<dyn Stream>, clock: Arc<dyn Clock>) -> Intake {
        Intake {
            counters: Arc::default(),
            budget: Budget::new(config.memory.max_in_flight_bytes),
            collector: format!("snowmelt-{}-log", config.version),
            config,
            raw,
            clock,
            next_partition: AtomicUsize::new(0),
            stream_healthy: AtomicBool::new(true),
            draining: AtomicBool::new(false),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// From now on every answer closes its connection.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(crate) fn stream_healthy(&self) -> bool {
        self.stream_healthy.load(Ordering::Relaxed)
    }

    /// Hands all records of one request to one partition; the partitions take turns.
    pub(crate) fn append(&self, records: Vec<Bytes>) -> Append {
        let partitions = self.raw.partitions();
        let turn = self.next_partition.fetch_add(1, Ordering::Relaxed);
        self.raw.append(&partitions[turn % partitions.len()], records)
    }

    /// Notes what became of an append of so many bytes.
    pub(crate) fn settle(
        &self,
        appended: Result<Appended, stream::Error>,
        bytes: usize,
    ) -> Result<(), Reason> {
        let error = match appended {
            Ok(_) => {
                self.counters.accept(bytes);
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
