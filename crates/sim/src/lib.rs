//! Deterministic simulation: the log alone, then all roles in one process, behind the seams for files, clock and
//! registry, with every kind of crash.
//!
//! One thread, one seed. A failing run prints its seed and the command that replays it. Reading order: what a disk may
//! do ([`disk`]), the log on it ([`log`]), the whole pipeline against law 1 ([`world`]).

pub mod chance;

pub mod disk;

pub mod log;

/// A promise that was not kept.
#[derive(Debug)]
pub struct Violation {
    what: String,
    step: Option<u32>,
}

impl Violation {
    pub fn new(what: impl Into<String>) -> Violation {
        Violation { what: what.into(), step: None }
    }

    fn at_step(mut self, step: u32) -> Violation {
        self.step = Some(step);
        self
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.step {
            Some(step) => write!(f, "step {step}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}
