//! The serving layer from outside: SQL before, on and after a cut, holes, limits, and the HTTP API. One binary, because
//! linking the engine is what takes time.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world fails")]

mod api;
mod holes;
mod ledger;
mod limits;
mod merge;
mod pg;
mod slt;
mod wide;
mod world;
