//! The collector: takes tracker requests over HTTP/1 and appends each, as it came, to the raw stream.
//!
//! 200 follows the append and never precedes it; what cannot be stored is answered 503, so that the tracker keeps its
//! events. The collector looks into no event: vendor, version and body are enrich's business. It never reads the
//! stream, and knows nothing of batches, views or SQL.
//!
//! A request passes through the modules in this order:
//! [`server`] accepts, `places` says who may stay, `connection` reads and answers, `head`, `chunked` and `gunzip` find
//! the structure of the bytes, `route` says what a path means, `event` what the request comes to with the help of
//! `identity`, `redirect` and `query`; `record` writes the collector payload with the help of `source_ip`,
//! `content_type` and `cookie`; `sizes` makes several of one that is too large, or `bad_rows`, with the help of
//! `split`, and `oversized` keeps the whole; `intake` hands them to a [`sink`], alone or by `batching` in a `container`;
//! and `response` prints the answer with `cors` and `http_date`. [`counters`], [`meter`] and `memory` keep account; `tls`,
//! `key_store`, `https`, `health_port`, `statsd`, `access_log` and `too_large` are what an operator wants besides.

pub mod config;

pub mod import;

pub mod server;

pub mod counters;

mod places;

mod connection;

mod head;

mod chunked;

mod gunzip;

mod route;

mod event;

mod identity;

mod redirect;

mod query;

mod record;

mod source_ip;

mod content_type;

mod cookie;

mod sizes;

mod split;

mod bad_rows;

mod oversized;

mod too_large;

mod intake;

mod batching;

mod container;

pub mod sink;

pub mod times;

mod cors;

mod response;

mod http_date;

pub mod meter;

mod statsd;

mod access_log;

mod tls;

mod key_store;

mod https;

mod health_port;

mod memory;

mod error;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;

pub use config::Config;
pub use error::Error;
