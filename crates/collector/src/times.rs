//! How long things took, as a histogram that many threads add to: requests, and batches on their way to a sink.
//! Printed by `/metrics`; nothing here measures.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets, in microseconds.
const BOUNDS: [u64; 12] = [
    500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000,
    5_000_000,
];

/// A histogram since the start.
#[derive(Debug, Default)]
pub struct Times {
    buckets: [AtomicU64; BOUNDS.len()],
    beyond: AtomicU64,
    sum_micros: AtomicU64,
}

/// The histogram at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Upper bounds in seconds, and how many took at most so long. Those beyond the last are in `count` only.
    pub at_most: Vec<(f64, u64)>,
    pub count: u64,
    pub sum: Duration,
}

impl Times {
    pub(crate) fn add(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let place = BOUNDS.iter().position(|&bound| micros <= bound);
        place.map_or(&self.beyond, |place| &self.buckets[place]).fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub fn snapshot(&self) -> Snapshot {
        let mut below = 0;
        let at_most = BOUNDS.iter().zip(&self.buckets).map(|(&bound, bucket)| {
            below += bucket.load(Ordering::Relaxed);
            (Duration::from_micros(bound).as_secs_f64(), below)
        });
        let at_most = at_most.collect();
        let count = below + self.beyond.load(Ordering::Relaxed);
        let sum = Duration::from_micros(self.sum_micros.load(Ordering::Relaxed));
        Snapshot { at_most, count, sum }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_the_count_has_what_lies_beyond() {
        let times = Times::default();
        for millis in [1, 1, 7, 60_000] {
            times.add(Duration::from_millis(millis));
        }
        let found = times.snapshot();
        assert_eq!(found.at_most[..2], [(0.0005, 0), (0.001, 2)]);
        assert_eq!(found.at_most.last(), Some(&(5.0, 3)));
        assert_eq!((found.count, found.sum), (4, Duration::from_millis(60_009)));
    }
}
