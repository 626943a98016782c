//! What an open partition says about itself: what waits for the disk, how long commits take, whether it is poisoned.
//!
//! Counted by the writer's side, read by metrics and health of the process. Nothing here changes the log.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use model::position::Partition;

/// A partition at one moment.
#[derive(Clone, Debug)]
pub struct Gauges {
    pub partition: Partition,
    /// Bytes of records that wait for their group commit, the batch in flight included.
    pub queued_bytes: usize,
    /// How long commits took, from the first byte written to the end of the sync.
    pub commits: CommitTimes,
    /// Why the partition takes no records until the next start, if it is so.
    pub poisoned: Option<String>,
}

/// A histogram of the commits since the start.
#[derive(Clone, Debug, PartialEq)]
pub struct CommitTimes {
    /// Upper bounds in seconds, and how many commits took at most so long. Commits beyond the last are in `count` only.
    pub at_most: Vec<(f64, u64)>,
    pub count: u64,
    pub sum: Duration,
}

/// Upper bounds of the buckets, in microseconds.
const BOUNDS: [u64; 12] = [
    500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000,
    5_000_000,
];

/// Where the writer counts.
#[derive(Debug, Default)]
pub(crate) struct Counting {
    buckets: [AtomicU64; BOUNDS.len()],
    count: AtomicU64,
    sum_micros: AtomicU64,
    poisoned: OnceLock<String>,
}

impl Counting {
    /// One commit has ended well.
    pub(crate) fn committed(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = BOUNDS.iter().position(|&bound| micros <= bound) {
            self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        }
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// The first reason stays.
    pub(crate) fn poisoned_by(&self, reason: &str) {
        self.poisoned.get_or_init(|| reason.to_owned());
    }

    pub(crate) fn poisoned(&self) -> Option<String> {
        self.poisoned.get().cloned()
    }

    pub(crate) fn commits(&self) -> CommitTimes {
        // The count is read first: buckets that move meanwhile must not exceed it.
        let count = self.count.load(Ordering::Relaxed);
        let sum = Duration::from_micros(self.sum_micros.load(Ordering::Relaxed));
        let mut below = 0;
        let at_most = BOUNDS.iter().zip(&self.buckets).map(|(&bound, bucket)| {
            below += bucket.load(Ordering::Relaxed);
            (Duration::from_micros(bound).as_secs_f64(), below)
        });
        let at_most: Vec<(f64, u64)> = at_most.collect();
        let last = at_most.last().map_or(0, |bucket| bucket.1);
        CommitTimes { at_most, count: count.max(last), sum }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative() {
        let counting = Counting::default();
        for millis in [1, 1, 7, 60_000] {
            counting.committed(Duration::from_millis(millis));
        }
        let times = counting.commits();
        assert_eq!(times.at_most[..2], [(0.0005, 0), (0.001, 2)]);
        assert_eq!(times.at_most.last(), Some(&(5.0, 3)));
        assert_eq!((times.count, times.sum), (4, Duration::from_millis(60_009)));
        counting.poisoned_by("first");
        counting.poisoned_by("second");
        assert_eq!(counting.poisoned().as_deref(), Some("first"));
    }
}
