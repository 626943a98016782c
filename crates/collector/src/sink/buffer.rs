//! What is sent together: requests gather until a batch is full or its time has come. Snowplow: `collector.md` 7.2.
//!
//! Pure: the time is an argument. A batch never exceeds the limits, because what does not fit flushes *before* it is
//! added. The records of one request stay together in one batch, unless they alone are more than a batch.

use std::time::Duration;

use tokio::time::Instant;

/// When a buffer is flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub records_max: usize,
    /// Keys included.
    pub bytes_max: usize,
    /// From one flush to the next.
    pub time_limit: Duration,
}

/// Things that wait to be sent, each with its size in bytes.
#[derive(Debug)]
pub struct Buffer<T> {
    bounds: Bounds,
    waiting: Vec<T>,
    bytes: usize,
    last_flush: Instant,
}

impl<T> Buffer<T> {
    pub fn new(bounds: Bounds, now: Instant) -> Buffer<T> {
        Buffer { bounds, waiting: Vec::new(), bytes: 0, last_flush: now }
    }

    /// Adds the records of one request, and returns the batches that this makes full.
    pub fn push(&mut self, request: Vec<(T, usize)>, now: Instant) -> Vec<Vec<T>> {
        let mut full = Vec::new();
        let bytes: usize = request.iter().map(|(_, bytes)| bytes).sum();
        if !self.fits(request.len(), bytes) {
            full.extend(self.flush(now));
        }
        for (record, bytes) in request {
            if !self.fits(1, bytes) {
                full.extend(self.flush(now));
            }
            if self.waiting.is_empty() {
                self.skip_idle_time(now);
            }
            self.waiting.push(record);
            self.bytes += bytes;
        }
        full
    }

    /// When the next flush is due; `None` while nothing waits.
    pub fn due_at(&self) -> Option<Instant> {
        (!self.waiting.is_empty()).then(|| self.last_flush + self.bounds.time_limit)
    }

    /// What waits, if its time has come.
    pub fn flush_if_due(&mut self, now: Instant) -> Option<Vec<T>> {
        if self.due_at()? <= now { self.flush(now) } else { None }
    }

    /// What waits, at once.
    pub fn flush(&mut self, now: Instant) -> Option<Vec<T>> {
        self.bytes = 0;
        self.last_flush = now;
        let batch = std::mem::take(&mut self.waiting);
        (!batch.is_empty()).then_some(batch)
    }

    fn fits(&self, records: usize, bytes: usize) -> bool {
        self.waiting.len() + records <= self.bounds.records_max
            && self.bytes + bytes <= self.bounds.bytes_max
    }

    /// The timer ticks while nothing waits as well: the first record waits for the rest of the interval it falls into.
    fn skip_idle_time(&mut self, now: Instant) {
        let idle = now.saturating_duration_since(self.last_flush);
        let limit = self.bounds.time_limit.as_nanos().max(1);
        let rest = idle.as_nanos() % limit;
        let rest = Duration::from_nanos(u64::try_from(rest).unwrap_or(u64::MAX));
        self.last_flush = now.checked_sub(rest).unwrap_or(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn buffer(now: Instant) -> Buffer<&'static str> {
        let bounds = Bounds { records_max: 3, bytes_max: 10, time_limit: 5 * SECOND };
        Buffer::new(bounds, now)
    }

    fn sized(names: &[&'static str], bytes: usize) -> Vec<(&'static str, usize)> {
        names.iter().map(|name| (*name, bytes)).collect()
    }

    #[test]
    fn what_does_not_fit_flushes_before_it_is_added() {
        let now = Instant::now();
        let mut buffer = buffer(now);
        assert!(buffer.push(sized(&["a", "b", "c"], 1), now).is_empty(), "three are allowed");
        assert_eq!(buffer.push(sized(&["d"], 9), now), [["a", "b", "c"]]);
        assert_eq!(buffer.push(sized(&["e"], 2), now), [["d"]]);
        assert!(buffer.push(sized(&["f"], 8), now).is_empty(), "10 bytes are allowed");
        assert_eq!(buffer.flush(now).unwrap(), ["e", "f"]);
        assert_eq!(buffer.flush(now), None);
    }

    #[test]
    fn a_request_stays_together_unless_it_is_more_than_a_batch() {
        let now = Instant::now();
        let mut buffer = buffer(now);
        buffer.push(sized(&["a", "b"], 1), now);
        assert_eq!(buffer.push(sized(&["c", "d"], 1), now), [["a", "b"]]);
        let full = buffer.push(sized(&["e", "f", "g", "h"], 1), now);
        assert_eq!(full, [vec!["c", "d"], vec!["e", "f", "g"]]);
        assert_eq!(buffer.flush(now).unwrap(), ["h"]);
    }

    #[test]
    fn time_flushes_what_waits_from_one_tick_to_the_next() {
        let start = Instant::now();
        let mut buffer = buffer(start);
        assert_eq!(buffer.due_at(), None);
        buffer.push(sized(&["a"], 1), start + 2 * SECOND);
        assert_eq!(buffer.due_at(), Some(start + 5 * SECOND), "as the timer ticks");
        assert_eq!(buffer.flush_if_due(start + 4 * SECOND), None);
        assert_eq!(buffer.flush_if_due(start + 5 * SECOND).unwrap(), ["a"]);
        buffer.push(sized(&["b"], 1), start + 17 * SECOND);
        assert_eq!(buffer.due_at(), Some(start + 20 * SECOND), "after idle ticks");
        // A flush by size starts the interval anew.
        buffer.push(sized(&["c"], 10), start + 18 * SECOND);
        assert_eq!(buffer.due_at(), Some(start + 23 * SECOND));
    }
}
