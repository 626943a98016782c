//! Cancelling: a second connection names process and secret of the first, as PostgreSQL has it.
//!
//! A connection registers when it is let in. A cancel reaches the statement that runs at that moment, and nothing after
//! it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::Notify;

use super::scram::is_same;

/// The connections that were let in, by process number.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    entries: Mutex<HashMap<i32, Entry>>,
    last: AtomicI32,
}

#[derive(Debug)]
struct Entry {
    secret: [u8; 4],
    running: Arc<Running>,
}

/// The statement of a connection that can be cancelled now.
#[derive(Debug, Default)]
struct Running(Mutex<Option<Arc<Notify>>>);

/// A registered connection; dropping it takes it out.
#[derive(Debug)]
pub(crate) struct Place {
    registry: Arc<Registry>,
    pub(crate) process: i32,
    pub(crate) secret: [u8; 4],
    running: Arc<Running>,
}

impl Registry {
    /// `None` when the system has no randomness.
    pub(crate) fn register(self: &Arc<Registry>) -> Option<Place> {
        let mut secret = [0; 4];
        SystemRandom::new().fill(&mut secret).ok()?;
        let process = self.last.fetch_add(1, Ordering::Relaxed).wrapping_add(1) & i32::MAX;
        let running = Arc::new(Running::default());
        let entry = Entry { secret, running: Arc::clone(&running) };
        self.lock().insert(process, entry);
        Some(Place { registry: Arc::clone(self), process, secret, running })
    }

    /// Cancels what runs on that connection, if the secret is its own. Whoever asks is told nothing.
    pub(crate) fn cancel(&self, process: i32, secret: &[u8]) {
        let entries = self.lock();
        let Some(entry) = entries.get(&process) else { return };
        if is_same(secret, &entry.secret)
            && let Some(running) = &*entry.running.0.lock().unwrap_or_else(PoisonError::into_inner)
        {
            running.notify_one();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<i32, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// From now until the answer is dropped, a cancel wakes it.
    pub(crate) fn begin(&self) -> Cancellable {
        let woken = Arc::new(Notify::new());
        *self.running.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&woken));
        Cancellable { running: Arc::clone(&self.running), woken }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.process);
    }
}

/// A statement that can be cancelled.
#[derive(Debug)]
pub(crate) struct Cancellable {
    running: Arc<Running>,
    woken: Arc<Notify>,
}

impl Cancellable {
    /// Ends when the statement is cancelled. Safe to ask again after it was dropped.
    pub(crate) async fn cancelled(&self) {
        self.woken.notified().await;
    }
}

impl Drop for Cancellable {
    fn drop(&mut self) {
        *self.running.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn only_the_statement_that_runs_is_cancelled_and_only_with_its_secret() {
        let registry = Arc::new(Registry::default());
        let place = registry.register().unwrap();
        let other = registry.register().unwrap();
        let running = place.begin();
        registry.cancel(place.process, &[]);
        registry.cancel(place.process, &place.secret.map(|byte| !byte));
        registry.cancel(other.process, &other.secret);
        registry.cancel(-1, &place.secret);
        assert!(running.cancelled().now_or_never().is_none());
        registry.cancel(place.process, &place.secret);
        assert!(running.cancelled().now_or_never().is_some());
        drop(running);
        registry.cancel(place.process, &place.secret);
        assert!(place.begin().cancelled().now_or_never().is_none());
        let process = place.process;
        drop(place);
        assert!(!registry.lock().contains_key(&process));
    }
}
