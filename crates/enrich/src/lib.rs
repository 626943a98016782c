//! The one function that both layers call: a raw record and a recipe in, outcomes out.
//!
//! Pure: no clock, no randomness, no files, no network, no async, none of them among the dependencies either. Equal
//! arguments give equal outcomes, whatever the bytes are. What Snowplow makes by chance is derived here: a missing
//! event id comes from the record's position. What depends on the moment (`etl_tstamp`, a bad row's failure time) is
//! stamped by the layer that called.
//!
//! Read in the order of the flow: [`enrich`] in `pipeline`, then decoding, adapters, parameters, enrichments.

mod pipeline;

mod outcome;

mod recipe;

// From bytes to a request.
mod charset;
mod client_ip;
mod collector_row;
mod container;
mod loader;
mod path;
mod querystring;
mod request;

// From a request to the parameters of its events.
mod adapters;

// From parameters to columns.
mod base64_lenient;
mod convert;
mod entity;
mod event_id;
mod json;
mod json_path;
mod names;
mod parameters;
mod self_describing;
mod tape;
mod uri;

// From columns to an enriched event.
pub mod enrichments;
mod validate;
mod wrong;

pub mod iglu;

pub mod look_up;

#[cfg(test)]
mod cases;

pub use enrichments::Enrichments;
pub use outcome::{Missing, Outcome};
pub use pipeline::{enrich, enrich_knowing};
pub use recipe::{InvalidLimits, InvalidRecipe, Recipe, Settings};

/// The name in `v_etl` and in the processor of bad rows, the same for both layers.
pub const ARTIFACT: &str = "snowmelt-enrich";

/// The version of the function. It changes only when a golden outcome changes.
pub const VERSION: &str = "0.1.0";

/// Who makes the bad rows.
pub fn processor() -> model::bad_row::Processor {
    model::bad_row::Processor { artifact: ARTIFACT.to_owned(), version: VERSION.to_owned() }
}
