//! Whether a sink is healthy: what `/sink-health` says, and what batches that wait for their next attempt listen to.
//!
//! A sink starts unhealthy, becomes healthy when anything shows that it answers (a batch, a probe), and unhealthy when
//! the retries of a batch are used up. Snowplow: `collector.md` 7.7. Who decides is `delivery`; here is only the state.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

/// How long a sink must have been unhealthy for its recovery to end waits. A sink that refuses a part of each batch turns
/// again and again: if each turn sent all waiting batches at once, the refused ones would be a storm.
const OUTAGE_MIN: Duration = Duration::from_secs(5);

/// One sink's state; shared.
#[derive(Debug)]
pub struct Health {
    healthy: AtomicBool,
    flips: AtomicU64,
    turned: Notify,
    recovered: Notify,
    /// Since when it has been as it is.
    since: Mutex<Instant>,
}

impl Default for Health {
    fn default() -> Health {
        Health {
            healthy: AtomicBool::new(false),
            flips: AtomicU64::new(0),
            turned: Notify::new(),
            recovered: Notify::new(),
            since: Mutex::new(Instant::now()),
        }
    }
}

impl Health {
    /// Of a sink that is known to answer, because it was opened.
    pub fn good() -> Health {
        let health = Health::default();
        health.healthy.store(true, Ordering::Relaxed);
        health
    }

    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// How often it changed, the first time included.
    pub fn flips(&self) -> u64 {
        self.flips.load(Ordering::Relaxed)
    }

    /// The sink answered. True when it had been unhealthy; then everybody who waits in [`Health::turned`] goes on, and
    /// after an outage everybody who waits in [`Health::recovered`].
    pub fn up(&self) -> bool {
        self.set(true)
    }

    /// The sink does not answer. True when it had been healthy; then its probe begins.
    pub fn down(&self) -> bool {
        self.set(false)
    }

    /// Ends when the state changes after this call: ask for it before looking at the state, and no change is missed.
    pub fn turned(&self) -> Notified<'_> {
        self.turned.notified()
    }

    /// Ends when the sink answers again after an outage of some seconds; asked for as [`Health::turned`].
    pub fn recovered(&self) -> Notified<'_> {
        self.recovered.notified()
    }

    fn set(&self, healthy: bool) -> bool {
        // The common case costs a read.
        if self.is_healthy() == healthy || self.healthy.swap(healthy, Ordering::Relaxed) == healthy
        {
            return false;
        }
        self.flips.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let since = {
            let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *since, now)
        };
        self.turned.notify_waiters();
        if healthy && now.duration_since(since) >= OUTAGE_MIN {
            self.recovered.notify_waiters();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_count() {
        let health = Health::default();
        assert!(!health.down() && !health.is_healthy());
        assert!(health.up() && !health.up() && health.is_healthy());
        assert!(health.down() && !health.is_healthy());
        assert_eq!(health.flips(), 2);
        assert!(Health::good().is_healthy());
    }
}
