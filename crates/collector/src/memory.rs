//! The budget of bytes that all connections share: what a body or a record takes is held until it is answered.
//! When it is used up, requests are answered 503 instead of growing the process.

use crate::counters::Counters;
use std::sync::Arc;

/// The bound on bytes in use; they are counted in [`Counters::in_flight_bytes`].
#[derive(Debug)]
pub(crate) struct Budget {
    bytes_max: usize,
    counters: Arc<Counters>,
}

/// Bytes that belong to one request; given back on drop.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    budget: &'a Budget,
    bytes: usize,
}

/// The budget does not have that much left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Exhausted;

impl Budget {
    pub(crate) fn new(bytes_max: usize, counters: Arc<Counters>) -> Budget {
        Budget { bytes_max, counters }
    }

    pub(crate) fn hold(&self) -> Held<'_> {
        Held { budget: self, bytes: 0 }
    }
}

impl Held<'_> {
    /// Holds `bytes` more.
    pub(crate) fn add(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let before = self.budget.counters.hold(bytes);
        if before.saturating_add(bytes) > self.budget.bytes_max {
            self.budget.counters.release(bytes);
            return Err(Exhausted);
        }
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.budget.counters.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_not_held_and_what_is_dropped_is_given_back() {
        let budget = Budget::new(10, Arc::default());
        let mut first = budget.hold();
        first.add(6).unwrap();
        let mut second = budget.hold();
        assert_eq!(second.add(5), Err(Exhausted));
        second.add(4).unwrap();
        assert_eq!(first.add(1), Err(Exhausted));
        drop(second);
        first.add(4).unwrap();
        drop(first);
        assert_eq!(budget.counters.in_flight_bytes(), 0);
    }
}
