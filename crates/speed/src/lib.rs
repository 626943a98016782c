//! The speed layer: enriches the newest raw records and keeps the real-time view.
//!
//! In the order of the flow: the [`enricher`] reads raw and writes the derived streams (enriched, bad, failed), which
//! [`derived`] opens and whose entries are laid out in [`output`]; the [`loader`] reads them and feeds the real-time view;
//! [`service`] runs the two, one thread per partition. This crate never sees the batch layer: the cut reaches it as a
//! value. Everything it writes is derived and may be deleted; it is made again from raw, from the cut on.

pub mod output;

mod ranges;

mod pii;

pub mod derived;

pub mod enricher;

pub mod loader;

pub mod service;

pub mod config;

mod error;

pub use config::Config;
pub use error::Error;
pub use service::{Running, Speed};
