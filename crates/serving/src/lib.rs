//! The serving layer: one SQL statement is answered from the batch view below the cut and the real-time view from
//! there to the frontier, both pinned together, so that each raw record counts once.
//!
//! The binary starts it with [`server::start`]. It never writes: not the log, not the views, not the catalogue; what
//! the API can start (an iteration) goes through [`control::Control`]. It has two doors, HTTP and the Postgres wire, and
//! one engine behind them. Of a process without a server, [`admin`] shows health and metrics.

pub mod config;

pub mod control;

mod error;

pub mod sql;

mod session;

pub mod statement;

mod names;

mod adapt;

mod catalogue;

mod information_schema;

mod session_functions;

mod timestamp_text;

mod json_records;

pub mod merge;

mod wide;

mod batch_files;

mod bounded_functions;

mod lambda_tables;

mod answer;

mod json;

pub mod server;

pub mod admin;

mod api;

mod pg;

mod guard;

mod meter;

pub mod exposition;

pub use config::Config;
pub use control::{BatchAnswer, BatchRequest, Check, Control, ControlError, Failure, Health};
pub use error::Error;
pub use meter::FAMILIES;
