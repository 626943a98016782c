//! How old the oldest record is that a layer has not reached yet: the lag of frontier, archive and cut, in seconds.
//!
//! Offsets can't be counted by, and a record's own time is its client's business. So the ends of the raw stream are
//! looked at a few times per second, and remembered with the time of the look: a record is as old as the first look that
//! saw it. Ages count from the start of the process. Sampled by the thread that tidies, read by metrics and health.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use model::cut::Cut;
use model::position::{Offset, Partition};

/// Looks that are remembered per partition. Beyond it the one is forgotten that stands closest between two others, so
/// an age is exact to about a five-hundredth of the oldest.
const LOOKS_MAX: usize = 1024;

/// The ends of the raw stream over time.
#[derive(Debug)]
pub(crate) struct Watch {
    partitions: Vec<(Partition, Mutex<VecDeque<Look>>)>,
}

#[derive(Clone, Copy, Debug)]
struct Look {
    at: Instant,
    end: Offset,
}

impl Watch {
    pub(crate) fn new(partitions: &[Partition]) -> Watch {
        let watched = |partition: &Partition| (partition.clone(), Mutex::default());
        Watch { partitions: partitions.iter().map(watched).collect() }
    }

    /// Remembers the present ends, and forgets what every layer is done with: what lies below `cut`.
    pub(crate) fn look(&self, ends: &Cut, cut: &Cut, now: Instant) {
        for (partition, looks) in &self.partitions {
            let (end, cut) = (ends.of(partition), cut.of(partition));
            let mut looks = looks.lock().unwrap_or_else(PoisonError::into_inner);
            while looks.front().is_some_and(|look| look.end <= cut) {
                looks.pop_front();
            }
            if end > cut && looks.back().is_none_or(|look| look.end < end) {
                looks.push_back(Look { at: now, end });
            }
            if looks.len() > LOOKS_MAX {
                let least = (1..looks.len() - 1).min_by_key(|&n| looks[n + 1].at - looks[n - 1].at);
                least.and_then(|least| looks.remove(least));
            }
        }
    }

    /// The age of the oldest record at or above `position`; zero if there is none.
    pub(crate) fn age(&self, partition: &Partition, position: Offset, now: Instant) -> Duration {
        let found = self.partitions.iter().find(|(known, _)| known == partition);
        let Some((_, looks)) = found else { return Duration::ZERO };
        let looks = looks.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = looks.iter().find(|look| look.end > position);
        oldest.map_or(Duration::ZERO, |look| now.saturating_duration_since(look.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw() -> Partition {
        Partition::of_stream("raw", 0)
    }

    fn cut(offset: u64) -> Cut {
        Cut::new([(raw(), Offset::from_number(offset))])
    }

    fn age(watch: &Watch, position: u64, now: Instant) -> u64 {
        watch.age(&raw(), Offset::from_number(position), now).as_secs()
    }

    #[test]
    fn a_record_is_as_old_as_the_first_look_that_saw_it() {
        let watch = Watch::new(&[raw()]);
        let start = Instant::now();
        let second = |n| start + Duration::from_secs(n);
        watch.look(&cut(10), &cut(0), second(0));
        watch.look(&cut(10), &cut(0), second(1));
        watch.look(&cut(20), &cut(0), second(2));
        watch.look(&cut(30), &cut(0), second(5));
        let ages = [0, 9, 10, 19, 20, 30].map(|position| age(&watch, position, second(9)));
        assert_eq!(ages, [9, 9, 7, 7, 4, 0]);
        watch.look(&cut(30), &cut(20), second(9));
        assert_eq!([20, 30].map(|position| age(&watch, position, second(9))), [4, 0]);
        watch.look(&cut(30), &cut(30), second(9));
        assert_eq!(age(&watch, 0, second(20)), 0);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_stays_about_right() {
        let watch = Watch::new(&[raw()]);
        let start = Instant::now();
        for n in 0..10_000 {
            watch.look(&cut(n + 1), &cut(0), start + Duration::from_secs(n));
        }
        assert!(watch.partitions[0].1.lock().unwrap().len() <= LOOKS_MAX);
        let now = start + Duration::from_secs(10_000);
        assert_eq!(age(&watch, 0, now), 10_000);
        let middle = age(&watch, 5_000, now);
        assert!((4_950..=5_000).contains(&middle), "{middle}");
    }
}
