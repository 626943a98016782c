//! The places of connections: how many may be open at a time, and who gives up a place when all are taken.
//!
//! Clients that connect and say nothing, or say it a byte at a time, could take every place for as long as the timeouts
//! allow. So when a client comes and no place is free, one is taken from whoever uses it least: the connection that has
//! been without a request for longest, else the slowest head, else the slowest body or reader of an answer, those only
//! once they have had a fair time. While a request is being stored its connection keeps its place.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// How long a head may take while others wait for a place.
const HEAD_PATIENCE: Duration = Duration::from_secs(1);
/// The same for a body, and for a client to take its answer.
const TRANSFER_PATIENCE: Duration = Duration::from_secs(5);
/// Of so many places one is asked for at a time.
const PLACES_PER_QUESTION: usize = 64;
/// How often those who wait look again whether somebody has become slow.
const RECHECK: Duration = Duration::from_millis(20);

/// What a connection does with its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// There is no request; also before the first.
    Idle,
    /// The head of a request has begun.
    Head,
    /// The body of a request is being read, or its answer written.
    Transfer,
    /// The request is there, and being stored.
    Busy,
    /// Somebody else waits for the place.
    Wanted,
}

/// All places.
#[derive(Debug)]
pub(crate) struct Places {
    began: Instant,
    max: u32,
    free: Arc<Semaphore>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    slots: HashMap<u64, Arc<Slot>>,
}

/// The place of one connection; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    number: u64,
    slot: Arc<Slot>,
    _permit: OwnedSemaphorePermit,
}

/// Since when, in microseconds, and in which phase.
#[derive(Debug)]
struct Slot {
    state: AtomicU64,
    asked: Notify,
}

impl Places {
    pub(crate) fn new(max: usize) -> Arc<Places> {
        let max = u32::try_from(max).unwrap_or(u32::MAX).min(Semaphore::MAX_PERMITS as u32);
        let free = Arc::new(Semaphore::new(max as usize));
        Arc::new(Places { began: Instant::now(), max, free, taken: Mutex::default() })
    }

    /// Waits for a free place; if there is none, somebody is asked for theirs.
    pub(crate) async fn take(self: &Arc<Places>) -> Place {
        loop {
            if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
                return self.place(permit);
            }
            self.ask();
            let freed = Arc::clone(&self.free).acquire_owned();
            if let Ok(Ok(permit)) = tokio::time::timeout(RECHECK, freed).await {
                return self.place(permit);
            }
        }
    }

    /// Asks the connections that use their places least to give them up: one, and of many a few at once, so that a flood
    /// of new ones does not wait for each. Says whether there is any.
    pub(crate) fn ask(&self) -> bool {
        let now = self.micros();
        let count = (self.max as usize / PLACES_PER_QUESTION).max(1);
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        for (phase, patience) in [
            (Phase::Idle, Duration::ZERO),
            (Phase::Head, HEAD_PATIENCE),
            (Phase::Transfer, TRANSFER_PATIENCE),
        ] {
            let of_phase = taken.slots.values().filter_map(|slot| {
                let state = slot.state.load(Ordering::Relaxed);
                let since = state >> 3;
                let is_slow = state & 7 == phase as u64
                    && u128::from(now.saturating_sub(since)) >= patience.as_micros();
                is_slow.then_some((state, slot))
            });
            let mut slow: Vec<(u64, &Arc<Slot>)> = of_phase.collect();
            // One phase, so that the order of the states is that of their times.
            slow.sort_unstable_by_key(|(state, _)| *state);
            let asked = slow.into_iter().take(count).filter(|(state, slot)| slot.ask(*state));
            if asked.count() > 0 {
                return true;
            }
        }
        false
    }

    /// Ready when no place is taken any more.
    pub(crate) async fn all_free(&self) {
        // It is never closed.
        let _ = self.free.acquire_many(self.max).await;
    }

    pub(crate) fn taken(&self) -> usize {
        self.max as usize - self.free.available_permits()
    }

    fn place(self: &Arc<Places>, permit: OwnedSemaphorePermit) -> Place {
        let state = AtomicU64::new(self.micros() << 3 | Phase::Idle as u64);
        let slot = Arc::new(Slot { state, asked: Notify::new() });
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let number = taken.next;
        taken.next += 1;
        taken.slots.insert(number, Arc::clone(&slot));
        Place { places: Arc::clone(self), number, slot, _permit: permit }
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX >> 3)
    }
}

impl Slot {
    /// Asks for the place. If its request has come meanwhile, it keeps it, and whoever waits asks again.
    fn ask(&self, state: u64) -> bool {
        let wanted = Phase::Wanted as u64;
        let asked =
            self.state.compare_exchange(state, wanted, Ordering::Relaxed, Ordering::Relaxed);
        if asked.is_ok() {
            self.asked.notify_one();
        }
        asked.is_ok()
    }
}

impl Place {
    /// A place that nobody else waits for.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn alone() -> Place {
        let places = Places::new(1);
        let permit = Arc::clone(&places.free).try_acquire_owned().expect("nobody has it yet");
        places.place(permit)
    }

    /// Says what the connection does from now on. A request that is being read does not lose its place to one who asked
    /// before.
    pub(crate) fn enter(&self, phase: Phase) {
        let since = match phase {
            Phase::Busy | Phase::Wanted => 0,
            Phase::Idle | Phase::Head | Phase::Transfer => self.places.micros(),
        };
        self.slot.state.store(since << 3 | phase as u64, Ordering::Relaxed);
    }

    /// Ready when somebody waits for the place and the connection does not use it.
    pub(crate) async fn given_up(&self) {
        loop {
            self.slot.asked.notified().await;
            // The question may be an old one, from before the last request.
            if self.is_wanted() {
                return;
            }
        }
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.slot.state.load(Ordering::Relaxed) & 7 == Phase::Wanted as u64
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.slots.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<F: Future>(future: F) -> F::Output {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().start_paused(true).build().unwrap().block_on(future)
    }

    async fn pass(time: Duration) {
        tokio::time::advance(time).await;
    }

    #[test]
    fn the_longest_idle_is_asked_first_then_slow_heads_then_slow_bodies() {
        run(async {
            let places = Places::new(4);
            let (body, head) = (places.take().await, places.take().await);
            let (first, second) = (places.take().await, places.take().await);
            body.enter(Phase::Transfer);
            head.enter(Phase::Head);
            pass(Duration::from_millis(10)).await;
            second.enter(Phase::Idle);
            assert!(places.ask());
            assert!(first.is_wanted() && !second.is_wanted());
            assert!(places.ask());
            assert!(second.is_wanted());
            assert!(!places.ask());
            pass(HEAD_PATIENCE).await;
            assert!(places.ask());
            assert!(head.is_wanted() && !body.is_wanted());
            assert!(!places.ask());
            pass(TRANSFER_PATIENCE).await;
            assert!(places.ask());
            assert!(body.is_wanted());
        });
    }

    #[test]
    fn a_request_that_is_there_keeps_its_place() {
        run(async {
            let places = Places::new(1);
            let place = places.take().await;
            place.enter(Phase::Busy);
            pass(Duration::from_secs(60)).await;
            assert!(!places.ask());
            place.enter(Phase::Idle);
            assert!(places.ask());
            // It came before the connection noticed.
            place.enter(Phase::Busy);
            place.enter(Phase::Idle);
            let soon = tokio::time::timeout(Duration::from_secs(1), place.given_up());
            assert!(soon.await.is_err());
            assert!(places.ask());
            place.given_up().await;
        });
    }

    #[test]
    fn who_comes_when_all_is_full_gets_the_place_that_is_given_up() {
        run(async {
            let places = Places::new(1);
            let place = places.take().await;
            let holder = tokio::spawn(async move { place.given_up().await });
            let next = places.take().await;
            holder.await.unwrap();
            assert_eq!(places.taken(), 1);
            drop(next);
            places.all_free().await;
            assert_eq!((places.taken(), places.taken.lock().unwrap().slots.len()), (0, 0));
        });
    }

    #[test]
    fn who_waits_looks_again_when_somebody_has_become_slow() {
        run(async {
            let places = Places::new(1);
            let place = places.take().await;
            place.enter(Phase::Head);
            let begin = Instant::now();
            let holder = tokio::spawn(async move { place.given_up().await });
            let _next = places.take().await;
            assert!(begin.elapsed() < HEAD_PATIENCE + RECHECK * 2);
            holder.await.unwrap();
        });
    }
}
