//! Enrichments: the steps that run over every event, in one order.
//!
//! A step is one file here and one line in [`ORDER`]. All steps run, whatever failed before, also for an event whose
//! parameters did not convert. The steps below need no configuration and are always on; their failures are fatal for
//! the event. Snowplow: `enrich-core.md` 3.2.

mod collector_version;
mod cross_domain;
mod derived_tstamp;
mod event_name;
mod page_url;
mod referrer;

use model::bad_row::{EnrichmentError, EnrichmentMessage};
use model::event::EnrichedEvent;
use model::iglu::SchemaKey;

use crate::request::Request;
use crate::uri::Uri;

#[cfg(test)]
pub(crate) use {
    cross_domain::split as split_cross_domain, derived_tstamp::derive as derive_tstamp,
};

/// An event on its way through the steps.
pub(crate) struct Work<'a> {
    pub(crate) request: &'a Request,
    pub(crate) event: EnrichedEvent,
    /// The schema of the event's self-describing event, if it has a valid one.
    pub(crate) unstruct: Option<SchemaKey>,
    /// Set by `page_url`.
    pub(crate) page_uri: Option<Uri>,
}

type Step = fn(&mut Work<'_>) -> Result<(), EnrichmentError>;

const ORDER: &[Step] = &[
    collector_version::run,
    page_url::run,
    derived_tstamp::run,
    referrer::run,
    cross_domain::run, // After page_url: it reads the page's query.
    event_name::run,
];

/// Runs all steps. The failures are those of the last step first, as in Snowplow.
pub(crate) fn run(work: &mut Work<'_>) -> Vec<EnrichmentMessage> {
    let mut failures: Vec<EnrichmentMessage> = ORDER
        .iter()
        .filter_map(|step| step(work).err())
        .map(|message| EnrichmentMessage { enrichment: None, message })
        .collect();
    failures.reverse();
    failures
}

fn input_data(field: &str, value: Option<&str>, expectation: impl Into<String>) -> EnrichmentError {
    EnrichmentError::InputData {
        field: field.to_owned(),
        value: value.map(str::to_owned),
        expectation: expectation.into(),
    }
}
