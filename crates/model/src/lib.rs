//! The words of the domain and their codecs: what every other crate means by a position, a cut, a collector payload,
//! an enriched event, a bad row.
//!
//! This crate never reads a clock, draws a random number, opens a file or waits: time and files are traits here
//! ([`time::Clock`], [`files::Files`]) and are implemented by the crates that own them.
//!
//! Glossary, in the order of the flow:
//! - *collector payload*: one HTTP request as the collector recorded it ([`payload`]).
//! - *raw record*: the bytes of a collector payload at a [`position`] of the raw stream.
//! - *enriched event*: 131 columns ([`event`]); *bad row*: why there is none ([`bad_row`]).
//! - *failed event*: as much of an event as could be made, beside its bad row ([`failed`]).
//! - *Iglu schema*: named by a schema key ([`iglu`]).
//! - *analytics SDK*: enriched events as their consumers read them ([`sdk`]).
//! - *cut*: for each partition the first offset that is not in the batch view ([`cut`]).

pub mod position;

pub mod cut;

pub mod payload;

pub mod iglu;

pub mod event;

pub mod decimal;

pub mod bad_row;

pub mod failed;

pub mod time;

pub mod uuid;

pub mod sdk;

pub mod duration;

pub mod secret;

pub mod causes;

pub mod files;
