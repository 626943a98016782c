//! Whether a sink is healthy: what `/sink-health` says, and what batches that wait for their next attempt listen to.
//!
//! A sink starts unhealthy, becomes healthy when anything shows that it answers (a batch, a probe), and unhealthy when
//! the retries of a batch are used up. Snowplow: `collector.md` 7.7. Who decides is `delivery`; here is only the state.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// One sink's state; shared.
#[derive(Debug, Default)]
pub struct Health {
    healthy: AtomicBool,
    flips: AtomicU64,
    turned: Notify,
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

    /// The sink answered. True when it had been unhealthy; then everybody who waits in [`Health::turned`] goes on.
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

    fn set(&self, healthy: bool) -> bool {
        // The common case costs a read.
        if self.is_healthy() == healthy || self.healthy.swap(healthy, Ordering::Relaxed) == healthy
        {
            return false;
        }
        self.flips.fetch_add(1, Ordering::Relaxed);
        self.turned.notify_waiters();
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
