//! Enrichments: the steps that run over every event, in one order.
//!
//! A step is one file here and one line in [`ORDER`]. All steps run, whatever failed before, also for an event whose
//! parameters did not convert. Some need no configuration and are always on; their failures are fatal for the event.
//! The others run if a recipe turns them on ([`configured`]). Snowplow: `enrich-core.md` 3.2, `enrichments.md` 2.

mod configured;

mod inspect;

mod anon_ip;
mod api_request;
mod asn_lookups;
mod bot_detection;
mod campaign_attribution;
mod collector_version;
mod cookie_extractor;
mod cross_domain;
mod cross_navigation;
mod currency_conversion;
mod derived_tstamp;
mod event_fingerprint;
mod event_name;
mod event_spec;
mod http_header_extractor;
mod iab;
mod ip_lookups;
mod javascript;
mod page_url;
mod pii;
mod referer_parser;
mod referrer;
mod sql_query;
mod ua_parser;
mod yauaa;

// What several of them use.
mod cache;
mod hash;
mod inputs;
mod rule_set;

#[cfg(test)]
mod cases;

#[cfg(test)]
mod trial;

use std::cell::OnceCell;
use std::sync::Arc;

use model::bad_row::EnrichmentError;
use model::event::EnrichedEvent;
use model::iglu::SchemaKey;
use model::position::RawRecord;
use serde_json::Value;

use crate::entity::{Entity, Known};
use crate::look_up::Asking;
use crate::querystring::{self, OwnedPair};
use crate::request::{Parameters, Request};
use crate::uri::Uri;

pub(crate) use configured::print;
pub use configured::{Asset, Assets, Config, Enrichments, InvalidEnrichment};
use configured::{Enrichment, Kind};
pub use inspect::{Inspection, inspect};
pub(crate) use pii::transformation_event;
#[cfg(test)]
pub(crate) use {
    cross_domain::split as split_cross_domain, derived_tstamp::derive as derive_tstamp,
};

/// An event on its way through the steps. Its JSON columns are not printed yet: they stand beside it.
pub(crate) struct Work<'a> {
    pub(crate) record: &'a RawRecord<'a>,
    /// The place of the event among the outcomes of its record.
    pub(crate) index: usize,
    pub(crate) json_depth_max: u32,
    /// For what only the world outside knows.
    pub(crate) look_ups: Asking<'a>,
    pub(crate) request: &'a Request<'a>,
    /// The event's parameters, as the adapter gave them.
    pub(crate) parameters: &'a Parameters<'a>,
    pub(crate) event: Box<EnrichedEvent>,
    /// The self-describing event, if there is a valid one.
    pub(crate) unstruct: Option<Entity>,
    /// The valid entities that the tracker sent.
    pub(crate) contexts: Vec<Entity>,
    /// The entities that steps added, the newest last. They are checked after all steps.
    pub(crate) derived: Vec<Entity>,
    /// Set by `page_url`.
    pub(crate) page_uri: Option<Uri>,
    /// Set by `referrer`.
    pub(crate) referrer_uri: Option<Uri>,
    /// See [`Work::page_query`].
    pub(crate) page_query: OnceCell<Vec<OwnedPair>>,
    /// What a script has written over.
    pub(crate) rewritten: Rewritten,
    /// The data of the event that tells which personal data was replaced.
    pub(crate) pii: Option<Value>,
    /// The rule that leaves the event out.
    pub(crate) dropped: Option<String>,
}

/// The JSON of a tracker that a script has replaced: it is checked once more after all steps, and what is not valid is
/// left out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rewritten {
    pub(crate) unstruct: bool,
    pub(crate) contexts: bool,
}

/// A line of the table.
enum Place {
    /// On for every event.
    Always(fn(&mut Work<'_>) -> Result<(), EnrichmentError>),
    /// On if a configuration file says so.
    Configured(&'static Kind),
    /// On for every event, and does more if a configuration file says so.
    Extended { kind: &'static Kind, otherwise: fn(&mut Work<'_>) -> Result<(), EnrichmentError> },
}

/// The order is part of the meaning: a step sees what those before it have left.
const ORDER: &[Place] = &[
    Place::Always(collector_version::run),
    Place::Always(page_url::run),
    Place::Always(derived_tstamp::run),
    // Before anon_ip, which hides part of the address; after derived_tstamp, which decides whether a line of its lists
    // is in force.
    Place::Configured(&iab::KIND),
    Place::Configured(&ua_parser::KIND),
    Place::Configured(&currency_conversion::KIND),
    Place::Always(referrer::run),
    Place::Configured(&referer_parser::KIND), // After page_url and referrer: it compares both hosts.
    Place::Configured(&campaign_attribution::KIND), // After page_url: it reads the page's query.
    Place::Extended { kind: &cross_navigation::KIND, otherwise: cross_domain::run }, // So does this one.
    Place::Configured(&event_fingerprint::KIND),
    Place::Configured(&cookie_extractor::KIND),
    Place::Configured(&http_header_extractor::KIND),
    Place::Configured(&yauaa::KIND),
    Place::Always(event_name::run),
    Place::Configured(&ip_lookups::KIND), // Before anon_ip: it needs the whole address.
    Place::Configured(&asn_lookups::KIND), // After ip_lookups: it marks the network that was found.
    // After iab, yauaa and asn_lookups: it reads what they added.
    Place::Configured(&bot_detection::KIND),
    // After all that makes entities without asking anybody: a script sees what they have made, and the whole address.
    Place::Configured(&javascript::KIND),
    Place::Configured(&sql_query::KIND), // After the scripts: it may ask with what they have made.
    Place::Configured(&api_request::KIND), // After sql_query: it may ask with what the rows have said.
    Place::Configured(&anon_ip::KIND),     // After all that needs the whole address.
    Place::Configured(&pii::KIND),         // After all that needs the clear values.
    Place::Configured(&event_spec::KIND), // Last: it counts the entities that all others have made.
];

/// Enrichments of Snowplow that are known by name and not made, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    (
        "user_agent_utils_config",
        "the library that its values come from is no longer kept; use ua_parser_config or yauaa_enrichment_config",
    ),
    (
        "weather_enrichment_config",
        "Snowplow runs it before there is a location, so that every event fails; remove the file",
    ),
];

impl<'a> Work<'a> {
    /// The page's query string, decoded; of equal names the last counts. Empty without one.
    pub(crate) fn page_query(&self) -> &[OwnedPair] {
        self.page_query.get_or_init(|| {
            let query = self.page_uri.as_ref().and_then(|uri| uri.query());
            let split = |query| querystring::split(query, self.request.charset);
            query.map_or_else(Vec::new, split).into_iter().map(querystring::owned).collect()
        })
    }

    /// Adds an entity. It stands before those that earlier steps added.
    pub(crate) fn derive(&mut self, schema: SchemaKey, data: Value) {
        self.derived.push(Entity::new(schema, data));
    }

    /// The same with data that is shared by many events.
    pub(crate) fn derive_known(&mut self, schema: SchemaKey, data: Arc<Known>) {
        self.derived.push(Entity::of_known(schema, data));
    }
}

fn input_data(field: &str, value: Option<&str>, expectation: impl Into<String>) -> EnrichmentError {
    EnrichmentError::InputData {
        field: field.to_owned(),
        value: value.map(str::to_owned),
        expectation: expectation.into(),
    }
}
