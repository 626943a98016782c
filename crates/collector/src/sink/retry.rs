//! What follows a failed attempt: wait and send again, or say that the sink is unhealthy and send again at once.
//!
//! One [`Retry`] for each batch; pure. Nothing is ever given up: a batch is sent until the sink takes it, or until the
//! process ends. Snowplow: `collector.md` 7.3.
//!
//! ```text
//!             failed, left > 0: wait `delay`, left − 1
//!            ┌──────────────────────────────┐
//!            ▼                              │
//!  ───► attempt ── failed, left = 0: unhealthy, at once; left = retries ──► attempt …
//!            │
//!            └── taken: healthy
//! ```

use std::time::Duration;

use super::backoff::{Algorithm, Backoff};

/// The state of one batch.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    backoff: Backoff,
    retries: u32,
    left: u32,
    delay: Duration,
}

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Send what failed again after this time.
    After(Duration),
    /// Mark the sink unhealthy, and send what failed again at once.
    Unhealthy,
}

impl Retry {
    /// For a batch that is sent for the first time; after `retries` more attempts, at least one, the sink is unhealthy.
    pub fn new(backoff: Backoff, retries: u32) -> Retry {
        // Without a retry every attempt would be at once, for ever.
        let retries = retries.max(1);
        Retry { backoff, retries, left: retries, delay: backoff.first() }
    }

    /// The attempt failed, for the whole batch or a part of it.
    pub fn failed(&mut self, random: f64) -> Next {
        if self.left == 0 {
            self.left = self.retries;
            // Upstream starts over from the longest wait. With the other formula that would be ten minutes; there the
            // waits go on to grow.
            match self.backoff.algorithm {
                Algorithm::Uniform => self.delay = self.backoff.longest(),
                Algorithm::Decorrelated => {}
            }
            return Next::Unhealthy;
        }
        self.left -= 1;
        let wait = self.delay;
        self.delay = self.backoff.next(wait, random);
        Next::After(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(algorithm: Algorithm, retries: u32, expect: &[Next]) {
        let mut retry = Retry::new(Backoff { algorithm, min_ms: 500, max_ms: 1500 }, retries);
        let found: Vec<Next> = expect.iter().map(|_| retry.failed(0.5)).collect();
        assert_eq!(found, expect, "{algorithm:?}");
    }

    #[test]
    fn retries_end_in_unhealthy_and_begin_again() {
        let after = |ms| Next::After(Duration::from_millis(ms));
        check(
            Algorithm::Uniform,
            3,
            &[
                after(500),
                after(1000),
                after(1000),
                Next::Unhealthy,
                after(1500),
                after(1000),
                after(1000),
                Next::Unhealthy,
                after(1500),
            ],
        );
        check(
            Algorithm::Decorrelated,
            3,
            &[
                after(500),
                after(1000),
                after(1500),
                Next::Unhealthy,
                after(1500),
                after(1500),
                after(1500),
                Next::Unhealthy,
            ],
        );
    }
}
