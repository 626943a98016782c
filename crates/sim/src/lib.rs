//! Deterministic simulation: the log alone, then all roles in one process, behind the seams for files, clock, schema
//! folders and registries, with every kind of crash.
//!
//! One thread, one seed. A failing run prints its seed and the command that replays it. Reading order: what a disk may
//! do ([`disk`]), the log on it ([`log`]), the whole pipeline against law 1 ([`world`]).

pub mod chance;

pub mod disk;

pub mod log;

pub mod requests;

pub mod network;

pub mod reference;

pub mod world;

pub mod seeds;

/// A promise that was not kept.
#[derive(Debug)]
pub struct Violation {
    what: String,
    step: Option<u32>,
    history: Vec<String>,
}

impl Violation {
    pub fn new(what: impl Into<String>) -> Violation {
        Violation { what: what.into(), step: None, history: Vec::new() }
    }

    fn at_step(mut self, step: u32) -> Violation {
        self.step = Some(step);
        self
    }

    /// Adds what happened last, for whoever replays the seed.
    fn after(mut self, history: &[String]) -> Violation {
        self.history = history[history.len().saturating_sub(40)..].to_vec();
        self
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.step {
            Some(step) => write!(f, "step {step}: {}", self.what)?,
            None => f.write_str(&self.what)?,
        }
        self.history.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}
