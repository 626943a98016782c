//! What one sink's machinery counts: read by `/metrics` and StatsD. Counters only grow; gauges say so.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use model::time::Timestamp;

use crate::times::Times;

/// Shared by all tasks of one sink.
#[derive(Debug, Default)]
pub struct Stats {
    /// How long each attempt took, answered or not.
    pub attempts: Times,
    delivered: AtomicU64,
    delivered_bytes: AtomicU64,
    retried: AtomicU64,
    held: AtomicU64,
    held_bytes: AtomicU64,
    held_oldest_ms: AtomicI64,
    last_success_ms: AtomicI64,
    spool_bytes: AtomicU64,
    spool_oldest_ms: AtomicI64,
}

impl Stats {
    /// Records that the sink has confirmed.
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Bytes of those records.
    pub fn delivered_bytes(&self) -> u64 {
        self.delivered_bytes.load(Ordering::Relaxed)
    }

    /// Records that were not taken by an attempt, once for each attempt.
    pub fn retried(&self) -> u64 {
        self.retried.load(Ordering::Relaxed)
    }

    /// Gauge: records in memory that the sink has not confirmed.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Gauge: bytes of those records and their keys.
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// When the oldest of those records came; `None` when there is none.
    pub fn held_oldest(&self) -> Option<Timestamp> {
        Some(self.held_oldest_ms.load(Ordering::Relaxed)).filter(|&ms| ms != 0).map(Timestamp)
    }

    /// When the sink last confirmed a record, if ever.
    pub fn last_success(&self) -> Option<Timestamp> {
        Some(self.last_success_ms.load(Ordering::Relaxed)).filter(|&ms| ms != 0).map(Timestamp)
    }

    /// Gauge: what the spool takes of the disk, in whole segments; 0 without one.
    pub fn spool_bytes(&self) -> u64 {
        self.spool_bytes.load(Ordering::Relaxed)
    }

    /// When the oldest request came that is in the spool and not confirmed; `None` when there is none.
    pub fn spool_oldest(&self) -> Option<Timestamp> {
        Some(self.spool_oldest_ms.load(Ordering::Relaxed)).filter(|&ms| ms != 0).map(Timestamp)
    }

    pub(super) fn confirmed(&self, records: usize, bytes: usize, now: Timestamp) {
        self.delivered.fetch_add(records as u64, Ordering::Relaxed);
        self.delivered_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.last_success_ms.store(now.0, Ordering::Relaxed);
    }

    pub(super) fn not_taken(&self, records: usize) {
        self.retried.fetch_add(records as u64, Ordering::Relaxed);
    }

    pub(super) fn holds(&self, records: usize, bytes: usize, oldest: Option<Timestamp>) {
        self.held.store(records as u64, Ordering::Relaxed);
        self.held_bytes.store(bytes as u64, Ordering::Relaxed);
        self.held_oldest_ms.store(oldest.map_or(0, |oldest| oldest.0), Ordering::Relaxed);
    }

    pub(super) fn spool_takes(&self, bytes: u64) {
        self.spool_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn spool_begins(&self, oldest: Option<Timestamp>) {
        self.spool_oldest_ms.store(oldest.map_or(0, |oldest| oldest.0), Ordering::Relaxed);
    }
}
