//! Leaves alone for a while who has failed again and again, so that a service that is down costs no time-out for each
//! event.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many failures, one after another, and it is left alone.
const FAILURES_MAX: u32 = 5;

/// For so long.
const PAUSE: Duration = Duration::from_secs(10);

/// Who has failed lately, by name.
#[derive(Debug, Default)]
pub(crate) struct Pauses(Mutex<HashMap<String, Failing>>);

#[derive(Debug, Default)]
struct Failing {
    failures: u32,
    until: Option<Instant>,
}

impl Pauses {
    /// What to say of who is left alone.
    pub(crate) const WHY: &'static str = "left alone after 5 failures";

    /// Whether it is to be left alone.
    pub(crate) fn holds(&self, name: &str) -> bool {
        let failing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let until = failing.get(name).and_then(|it| it.until);
        until.is_some_and(|until| Instant::now() < until)
    }

    pub(crate) fn note(&self, name: String, failed: bool) {
        let mut failing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !failed {
            failing.remove(&name);
            return;
        }
        let it = failing.entry(name).or_default();
        it.failures += 1;
        if it.failures >= FAILURES_MAX {
            // After the pause one failure is enough for another.
            it.until = Some(Instant::now() + PAUSE);
        }
    }
}
