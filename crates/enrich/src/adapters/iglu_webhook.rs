//! The Iglu webhook: self-describing events from anything that can send a GET or a POST. Snowplow: `enrich-core.md`
//! 4.8, and 1.7 for the parameters that are kept.
//!
//! Nothing is validated against a schema here; a payload that does not conform becomes a schema violation later.

use model::bad_row::FailureMessage;
use model::iglu::SchemaKey;
use serde_json::{Map, Value};

use super::{Adapted, input_data, not_json};
use crate::request::{Parameters, Request};
use crate::self_describing::{Checker, UNSTRUCT_EVENT, self_describing};
use crate::{json, querystring};

const TRACKER: &str = "com.snowplowanalytics.iglu-v1";
const JSON_TYPES: [&str; 2] = ["application/json", "application/json; charset=utf-8"];
const FORM_TYPE: &str = "application/x-www-form-urlencoded";

/// What of the query string goes beside the event.
const KEPT: [&str; 7] = ["nuid", "aid", "cv", "eid", "ttm", "url", "p"];
/// What of the query string goes only beside the event.
const NOT_IN_DATA: [&str; 5] = ["schema", "nuid", "aid", "cv", "p"];

pub(super) fn adapt<'r>(request: &'r Request<'_>, checker: Checker<'_>) -> Adapted<'r> {
    let parameters = request.parameters();
    let schema = parameters.get("schema");
    match (schema, request.body.as_deref(), request.content_type.as_deref()) {
        (_, Some(_), None) => Err(vec![content_type(None, &all_types())]),
        (None, Some(body), Some(kind)) => {
            described_by_itself(body, kind, &parameters, checker).map_err(|message| vec![message])
        }
        (None, None, _) => Err(vec![
            input_data("schema", None, "empty `schema` field"),
            input_data("body", None, "empty body"),
        ]),
        (Some(schema), body, kind) => {
            let key = SchemaKey::parse(schema.unwrap_or_default())
                .map_err(|error| vec![input_data("schema", schema, error.code())])?;
            described_by_query(&key, body.zip(kind), request, &parameters, checker)
                .map_err(|message| vec![message])
        }
    }
}

fn all_types() -> Vec<&'static str> {
    JSON_TYPES.into_iter().chain([FORM_TYPE]).collect()
}

fn content_type(value: Option<&str>, expected: &[&str]) -> FailureMessage {
    input_data("contentType", value, &format!("expected one of {}", expected.join(", ")))
}

fn described_by_itself(
    body: &str,
    kind: &str,
    parameters: &Parameters<'_>,
    checker: Checker<'_>,
) -> Result<Vec<Parameters<'static>>, FailureMessage> {
    if !JSON_TYPES.contains(&kind) {
        return Err(content_type(Some(kind), &JSON_TYPES));
    }
    let entity = self_describing(parse(body, checker)?)?;
    Ok(vec![event(entity.into_value(), "app", parameters)])
}

fn described_by_query(
    key: &SchemaKey,
    body: Option<(&str, &str)>,
    request: &Request<'_>,
    parameters: &Parameters<'_>,
    checker: Checker<'_>,
) -> Result<Vec<Parameters<'static>>, FailureMessage> {
    let wrapped =
        |data, platform| event(json::self_describing(key.as_str(), data), platform, parameters);
    match body {
        None => Ok(vec![wrapped(Value::Object(data_of_query(parameters)), "app")]),
        Some((body, kind)) if JSON_TYPES.contains(&kind) => {
            let items = items(body, parse(body, checker)?)?;
            Ok(items.into_iter().map(|data| wrapped(data, "app")).collect())
        }
        Some((body, FORM_TYPE)) => {
            let pairs = querystring::parse(body, request.charset).map_err(|cause| {
                let expectation = format!("could not extract name-value pairs from body: {cause}");
                input_data("body", Some(body), &expectation)
            })?;
            let fields = pairs
                .into_iter()
                .map(querystring::owned)
                .map(|(name, value)| (name, value.map_or(Value::Null, Value::String)));
            Ok(vec![wrapped(Value::Object(fields.collect()), "srv")])
        }
        Some((_, other)) => Err(content_type(Some(other), &all_types())),
    }
}

fn parse(body: &str, checker: Checker<'_>) -> Result<Value, FailureMessage> {
    json::parse(body, checker.json_depth_max).map_err(|error| not_json("body", body, error))
}

/// The data of the events that a JSON body holds: one for each element of an array.
fn items(body: &str, value: Value) -> Result<Vec<Value>, FailureMessage> {
    match value {
        Value::Array(items) if items.is_empty() => {
            Err(input_data("body", Some(body), "empty array of events"))
        }
        Value::Array(items) => Ok(items),
        Value::Object(fields) if !fields.is_empty() => Ok(vec![Value::Object(fields)]),
        Value::Object(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            Err(input_data("body", Some(body), "has no key-value pairs"))
        }
    }
}

/// The query string as an event's data: every value a text, an empty or absent one null.
fn data_of_query(parameters: &Parameters<'_>) -> Map<String, Value> {
    parameters
        .to_pairs()
        .into_iter()
        .filter(|(name, _)| !NOT_IN_DATA.contains(&name.as_str()))
        .map(|(name, value)| {
            let value = value.filter(|value| !value.is_empty());
            (name, value.map_or(Value::Null, Value::String))
        })
        .collect()
}

fn event(entity: Value, platform: &str, query: &Parameters<'_>) -> Parameters<'static> {
    let mut event = Parameters::default();
    event.set("p", platform.to_owned());
    for name in KEPT {
        if let Some(value) = query.value(name) {
            event.set(name, value.to_owned());
        }
    }
    event.set("tv", TRACKER.to_owned());
    event.set("e", "ue".to_owned());
    event.set("ue_pr", json::self_describing(UNSTRUCT_EVENT, entity).to_string());
    event
}
