//! The batch layer: keeps the master dataset, recomputes the batch view from it, and moves the cut.
//!
//! The archiver copies raw records into immutable files that chain by position; the batcher enriches what lies between
//! the published cut and the end of that chain, writes table files, and publishes them with the new cut in one
//! manifest. It calls the same `enrich` function as the speed layer and never sees that layer: the two meet only in
//! `stream` and `views`. Every step may be killed and done again; only the manifest decides what exists.

pub mod master;

pub mod archiver;

pub mod plan;

pub mod batcher;

mod pieces;

mod garbage;

mod compaction;

pub mod rebuild;

pub mod hand_over;

pub mod progress;

pub mod trim;

pub mod config;

pub mod service;

mod error;

#[cfg(test)]
mod testing;

#[cfg(test)]
mod batcher_tests;

#[cfg(test)]
mod generation_tests;

#[cfg(test)]
mod service_tests;

pub use config::Config;
pub use error::Error;
