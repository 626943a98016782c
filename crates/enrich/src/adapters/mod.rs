//! Adapters: from a request to the parameters of its events, or to what is wrong with the request.
//!
//! The path's vendor and version choose the adapter in [`ADAPTERS`]. An adapter knows nothing of columns. A request
//! that it refuses gives one bad row, whatever it holds. Snowplow: `enrich-core.md` 1.7.

mod iglu_webhook;
mod plain_envelope;
mod redirect;
mod tracker_get;
mod tracker_post;

use model::bad_row::{BadRow, FailureMessage};

use crate::path::SNOWPLOW;
use crate::request::{Parameters, Request};
use crate::self_describing::Checker;

/// At least one event, or at least one message.
type Adapted<'r> = Result<Vec<Parameters<'r>>, Vec<FailureMessage>>;

type Adapter = for<'r> fn(&'r Request<'_>, Checker<'_>) -> Adapted<'r>;

/// Vendor, version, adapter.
const ADAPTERS: &[(&str, &str, Adapter)] = &[
    (SNOWPLOW, "tp1", tracker_get::adapt),
    (SNOWPLOW, "tp2", tracker_post::adapt),
    ("r", "tp2", redirect::adapt),
    ("com.snowplowanalytics.iglu", "v1", iglu_webhook::adapt),
];

/// The parameters of the request's events.
///
/// # Errors
/// The bad row of the whole request.
pub(crate) fn adapt<'r>(
    request: &'r Request<'_>,
    checker: Checker<'_>,
) -> Result<Vec<Parameters<'r>>, Box<BadRow>> {
    let adapter = ADAPTERS
        .iter()
        .find(|(vendor, version, _)| *vendor == request.vendor && *version == request.version)
        .map_or(unsupported as Adapter, |(_, _, adapter)| *adapter);
    adapter(request, checker).map_err(|messages| Box::new(refused(request, messages)))
}

fn unsupported<'r>(request: &'r Request<'_>, _: Checker<'_>) -> Adapted<'r> {
    let route = format!("{}/{}", request.vendor, request.version);
    let expectation = "vendor/version combination is not supported";
    Err(vec![input_data("vendor/version", Some(&route), expectation)])
}

/// Only the routes of the second tracker protocol have a bad row of their own, the first one not.
fn refused(request: &Request<'_>, messages: Vec<FailureMessage>) -> BadRow {
    let vendor = request.vendor.clone().into_owned();
    let version = request.version.clone().into_owned();
    let payload = Box::new(request.view());
    match (vendor.as_str(), version.as_str()) {
        (SNOWPLOW | "r", "tp2") => {
            BadRow::TrackerProtocolViolations { vendor, version, messages, payload }
        }
        _ => BadRow::AdapterFailures { vendor, version, messages, payload },
    }
}

fn input_data(field: &str, value: Option<&str>, expectation: &str) -> FailureMessage {
    FailureMessage::InputData {
        field: field.to_owned(),
        value: value.map(str::to_owned),
        expectation: expectation.to_owned(),
    }
}

fn not_json(field: &str, value: &str, error: String) -> FailureMessage {
    FailureMessage::NotJson { field: field.to_owned(), value: Some(value.to_owned()), error }
}
