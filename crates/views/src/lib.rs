//! The two views and the place where they meet: batch files with their commits, the real-time view in memory, and the
//! pin that joins them for one question.
//!
//! Written by batch (files, commits) and speed (chunks), read by serving. This crate never enriches, never plans an
//! iteration, never speaks SQL, and compares offsets only through a [`model::cut::Cut`].
//!
//! In the order of reading:
//! - [`schema`] and [`shred`]: an enriched event or a bad row as typed columns, the same in both layers.
//! - [`rows`]: the reverse, as texts that can be compared.
//! - [`wide`]: the columns that follow from the schemas of what events hold.
//! - [`parquet`] and [`tables`]: table files of the batch view.
//! - [`catalog`]: manifests, the one commit point.
//! - [`realtime`]: the real-time view, a gap-free prefix per partition above the cut.
//! - [`lambda`]: manifest and real-time view pinned together.
//! - [`merge`]: the merge in plain Rust, which tests hold every other answer against.

pub mod schema;

pub mod shred;

pub mod rows;

pub mod wide;

pub mod parquet;

pub mod tables;

pub mod catalog;

pub mod realtime;

pub mod lambda;

pub mod merge;

mod error;

pub use error::Error;
