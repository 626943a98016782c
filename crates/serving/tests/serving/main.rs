//! The serving layer from outside: SQL before, on and after a cut, holes, limits, and the HTTP API. One binary, because
//! linking the engine is what takes time.

mod api;
mod holes;
mod ledger;
mod limits;
mod merge;
mod slt;
mod world;
