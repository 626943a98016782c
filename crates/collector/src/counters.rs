//! What the collector counts: read by `/metrics`, by the status page and by the tests that compare accepted with
//! stored. Counters only grow; gauges say so.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The disk reserve is reached, or the spool's `max-bytes` (503).
    DiskFull,
    /// The stream's queue is full, or too much waits for the sink (503).
    Busy,
    /// The stream takes nothing more until a restart (503).
    Poisoned,
    /// The stream is closed: the process is ending (503).
    Closed,
    /// Any other error of the stream (503).
    StreamError,
    /// `memory.max-in-flight-bytes` is reached (503).
    Memory,
    /// The body reached `networking.drop-payload-size`, or the record is too large for the stream (413).
    TooLarge,
    /// The head, the body or the answer took too long (408).
    Timeout,
    /// The bytes are not a request that can be understood in one way only (400, or 414).
    BadRequest,
}

impl Reason {
    /// Every reason, in the order of the enum.
    pub const ALL: [Reason; 9] = [
        Reason::DiskFull,
        Reason::Busy,
        Reason::Poisoned,
        Reason::Closed,
        Reason::StreamError,
        Reason::Memory,
        Reason::TooLarge,
        Reason::Timeout,
        Reason::BadRequest,
    ];

    /// The label in metrics and in the status page.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::DiskFull => "disk_full",
            Reason::Busy => "busy",
            Reason::Poisoned => "poisoned",
            Reason::Closed => "closed",
            Reason::StreamError => "stream_error",
            Reason::Memory => "memory",
            Reason::TooLarge => "too_large",
            Reason::Timeout => "timeout",
            Reason::BadRequest => "bad_request",
        }
    }
}

/// Why a request, or an event of one, is too large to be recorded as it is. Snowplow: `collector.md` 6.2 and 6.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// Above `networking.max-payload-size`; only with `compat.strict`.
    Payload,
    /// It has no body to split.
    NoBody,
    /// Its body is no JSON.
    NotJson,
    /// Its body is no self-describing JSON.
    NotSelfDescribing,
    /// Its body has no list of events.
    NoArray,
    /// What stands around the events is too large alone.
    AroundEvents,
    /// A single event is.
    Event,
}

impl Violation {
    /// Every one, in the order of the enum.
    pub const ALL: [Violation; 7] = [
        Violation::Payload,
        Violation::NoBody,
        Violation::NotJson,
        Violation::NotSelfDescribing,
        Violation::NoArray,
        Violation::AroundEvents,
        Violation::Event,
    ];

    /// The label in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Violation::Payload => "payload",
            Violation::NoBody => "no_body",
            Violation::NotJson => "not_json",
            Violation::NotSelfDescribing => "not_self_describing",
            Violation::NoArray => "no_array",
            Violation::AroundEvents => "around_events",
            Violation::Event => "event",
        }
    }
}

/// Shared by all connections.
#[derive(Debug, Default)]
pub struct Counters {
    requests: AtomicU64,
    accepted: AtomicU64,
    accepted_bytes: AtomicU64,
    bad_rows: AtomicU64,
    splits: AtomicU64,
    connections: AtomicU64,
    connections_open: AtomicU64,
    in_flight_bytes: AtomicUsize,
    rejected: [AtomicU64; Reason::ALL.len()],
    violations: [AtomicU64; Violation::ALL.len()],
    oversized_kept: AtomicU64,
    oversized_not_kept: AtomicU64,
}

impl Counters {
    /// Heads of requests that were read, whatever became of them.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Records that the stream has acknowledged, bad rows among them. Each was answered 200, unless its client was gone
    /// by then; with `compression.enabled` several share one record of the stream.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// How many of those records are bad rows: what was answered 200 but cannot be recorded as it is.
    pub fn bad_rows(&self) -> u64 {
        self.bad_rows.load(Ordering::Relaxed)
    }

    /// Requests that became several records.
    pub fn splits(&self) -> u64 {
        self.splits.load(Ordering::Relaxed)
    }

    /// Bytes of those records.
    pub fn accepted_bytes(&self) -> u64 {
        self.accepted_bytes.load(Ordering::Relaxed)
    }

    /// Connections since the start.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Gauge: what is open now.
    pub fn connections_open(&self) -> u64 {
        self.connections_open.load(Ordering::Relaxed)
    }

    /// Gauge: bytes of bodies and records that are held until their requests are answered; the bound is
    /// `memory.max-in-flight-bytes`.
    pub fn in_flight_bytes(&self) -> usize {
        self.in_flight_bytes.load(Ordering::Relaxed)
    }

    /// Requests that were refused for this reason.
    pub fn rejected(&self, reason: Reason) -> u64 {
        self.rejected[reason as usize].load(Ordering::Relaxed)
    }

    /// Requests that were refused, with each reason, in the order of [`Reason::ALL`].
    pub fn rejected_by_reason(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        Reason::ALL.into_iter().map(|reason| (reason, self.rejected(reason)))
    }

    /// Bad rows for requests or events that are too large, with each reason, in the order of [`Violation::ALL`].
    pub fn violations(&self) -> impl Iterator<Item = (Violation, u64)> + '_ {
        let count = |violation| self.violations[violation as usize].load(Ordering::Relaxed);
        Violation::ALL.into_iter().map(move |violation| (violation, count(violation)))
    }

    /// Requests that are too large and were kept whole in a file, with `oversized.keep`.
    pub fn oversized_kept(&self) -> u64 {
        self.oversized_kept.load(Ordering::Relaxed)
    }

    /// Those of which no file could be made.
    pub fn oversized_not_kept(&self) -> u64 {
        self.oversized_not_kept.load(Ordering::Relaxed)
    }

    pub(crate) fn kept(&self) {
        self.oversized_kept.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn not_kept(&self) {
        self.oversized_not_kept.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn violate(&self, violation: Violation, rows: usize) {
        self.violations[violation as usize].fetch_add(rows as u64, Ordering::Relaxed);
    }

    pub(crate) fn request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts what one request became.
    pub(crate) fn accept(&self, records: usize, bad_rows: usize, bytes: usize) {
        self.accepted.fetch_add(records as u64, Ordering::Relaxed);
        self.accepted_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if bad_rows > 0 {
            self.bad_rows.fetch_add(bad_rows as u64, Ordering::Relaxed);
        }
        if records > 1 {
            self.splits.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn reject(&self, reason: Reason) {
        self.rejected[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts bytes that are held from now on. How many were before.
    pub(crate) fn hold(&self, bytes: usize) -> usize {
        self.in_flight_bytes.fetch_add(bytes, Ordering::Relaxed)
    }

    pub(crate) fn release(&self, bytes: usize) {
        self.in_flight_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Counts an open connection until the returned value is dropped.
    pub(crate) fn connection(&self) -> OpenConnection<'_> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.connections_open.fetch_add(1, Ordering::Relaxed);
        OpenConnection(self)
    }
}

pub(crate) struct OpenConnection<'a>(&'a Counters);

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.connections_open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_counter_and_a_label_of_its_own() {
        let counters = Counters::default();
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
            counters.reject(reason);
        }
        assert!(counters.rejected_by_reason().all(|(_, count)| count == 1));
        let mut labels = Reason::ALL.map(Reason::as_str).to_vec();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Reason::ALL.len());
    }

    #[test]
    fn a_dropped_connection_is_no_longer_open() {
        let counters = Counters::default();
        let open = counters.connection();
        assert_eq!((counters.connections(), counters.connections_open()), (1, 1));
        drop(open);
        assert_eq!((counters.connections(), counters.connections_open()), (1, 0));
    }
}
