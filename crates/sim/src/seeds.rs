//! Many seeds on all cores: for the test command, and for the simulator's own command line.

use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Violation, log, world};

/// Steps of one seed.
pub const STEPS: u32 = 45;

/// Runs the log alone and the whole world for `count` seeds from `from` on, `steps` steps each. Returns a text for each
/// seed that failed, with the command that replays it.
pub fn run(from: u64, count: u64, steps: u32) -> Vec<String> {
    let next = AtomicU64::new(0);
    let failures = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                return;
            }
            if let Some(failure) = run_one(from + at, steps) {
                failures.lock().expect("adding to a list does not panic").push(failure);
            }
        }
    };
    std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
    failures.into_inner().expect("all workers have ended")
}

fn run_one(seed: u64, steps: u32) -> Option<String> {
    let run = || -> Result<(), Violation> {
        log::run(seed, steps)?;
        world::run(seed, steps)
    };
    let what = match std::panic::catch_unwind(run) {
        Ok(Ok(())) => return None,
        Ok(Err(violation)) => format!("failed: {violation}"),
        Err(_) => "panicked; the message is above".to_owned(),
    };
    let mut text = String::new();
    let _ = write!(
        text,
        "seed {seed} {what}\nreplay it with `cargo xtask sim --seed {seed} --steps {steps}`"
    );
    Some(text)
}
