//! The second tracker protocol: an envelope of events in the body, or one event in the query string.
//! Snowplow: `enrich-core.md` 1.8.
//!
//! Envelopes as trackers make them are read without a detour (`plain_envelope`); here are the words for all others. One
//! malformed event makes the whole request a bad row. Parameters of the query string win over every event's own.

use std::sync::LazyLock;

use model::bad_row::FailureMessage;
use model::iglu::Criterion;
use serde_json::Value;

use super::{Adapted, input_data, not_json, plain_envelope};
use crate::json;
use crate::querystring::Pair;
use crate::request::{Parameters, Request};
use crate::self_describing::{Checker, check_criterion, criterion, self_describing};

const CONTENT_TYPES: [&str; 3] =
    ["application/json", "application/json; charset=utf-8", "application/json; charset=UTF-8"];
static CRITERION: LazyLock<Criterion> = LazyLock::new(|| {
    criterion("iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-*")
});

pub(super) fn adapt<'r>(request: &'r Request<'_>, checker: Checker<'_>) -> Adapted<'r> {
    let has_query = !request.querystring.is_empty();
    match (request.body.as_deref(), request.content_type.as_deref()) {
        (None, _) if !has_query => Err(vec![
            input_data("body", None, "empty body: not a valid tracker protocol event"),
            input_data(
                "querystring",
                None,
                "empty querystring: not a valid tracker protocol event",
            ),
        ]),
        (_, Some(other)) if !CONTENT_TYPES.contains(&other) => Err(vec![content_type(Some(other))]),
        (Some(_), None) => Err(vec![content_type(None)]),
        // The wording is Snowplow's.
        (None, Some(_)) => {
            Err(vec![input_data("body", None, "empty body: not a valid track protocol event")])
        }
        (None, None) => Ok(vec![request.parameters()]),
        (Some(body), Some(_)) => envelope(body, request, checker),
    }
}

fn content_type(value: Option<&str>) -> FailureMessage {
    let expectation = format!("expected one of {}", CONTENT_TYPES.join(", "));
    input_data("contentType", value, &expectation)
}

fn envelope<'r>(body: &'r str, request: &'r Request<'_>, checker: Checker<'_>) -> Adapted<'r> {
    let query = request.parameters().into_over();
    if let Some(events) = plain_envelope::read(body, checker.json_depth_max) {
        let parameters = |event| Parameters::of_pairs(event).below(query.as_ref());
        return Ok(events.into_iter().map(parameters).collect());
    }
    let events = open(body, checker).map_err(|message| vec![message])?;
    let mut failures = Vec::new();
    let adapted = events
        .into_iter()
        .map(|event| Parameters::of_pairs(pairs(event, &mut failures)).below(query.as_ref()))
        .collect();
    if failures.is_empty() { Ok(adapted) } else { Err(failures) }
}

/// The items of a valid envelope. The criterion comes last: a wrong schema that cannot be resolved is reported as such.
fn open(body: &str, checker: Checker<'_>) -> Result<Vec<Value>, FailureMessage> {
    let value =
        json::parse(body, checker.json_depth_max).map_err(|error| not_json("body", body, error))?;
    let envelope = self_describing(value)?;
    checker.validate(&envelope.schema, &envelope.data)?;
    check_criterion(&envelope.schema, &CRITERION)?;
    match envelope.data {
        Value::Array(events) if !events.is_empty() => Ok(events),
        // The envelope's schema lets nothing else through, unless a local one replaces it.
        _ => Err(input_data("body", Some(body), "no events in the envelope")),
    }
}

/// The names and values of one event. The envelope's schema has seen to it that all are texts.
fn pairs(event: Value, failures: &mut Vec<FailureMessage>) -> Vec<Pair<'static>> {
    let Value::Object(event) = event else {
        failures.push(input_data("body", Some(&event.to_string()), "event is not an object"));
        return Vec::new();
    };
    event
        .into_iter()
        .filter_map(|(name, value)| match value {
            Value::String(text) => Some((name.into(), Some(text.into()))),
            Value::Null => {
                failures.push(input_data(&name, None, "value cannot be null"));
                None
            }
            other => {
                failures.push(input_data(&name, Some(&other.to_string()), "value is not a string"));
                None
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::iglu::Schemas;
    use proptest::prelude::*;

    /// What is read on the short way is what the long way gives.
    fn check(body: &str) {
        let (schemas, open_keys) = (Schemas::embedded(), RefCell::default());
        let checker = Checker { schemas: &schemas, open: &open_keys, json_depth_max: 8 };
        let Some(events) = plain_envelope::read(body, 8) else { return };
        let mut failures = Vec::new();
        let known = open(body, checker).unwrap();
        let known: Vec<_> = known
            .into_iter()
            .map(|event| Parameters::of_pairs(pairs(event, &mut failures)).to_pairs())
            .collect();
        assert!(failures.is_empty(), "{body}");
        let found = events.into_iter().map(|event| Parameters::of_pairs(event).to_pairs());
        assert_eq!(found.collect::<Vec<_>>(), known, "{body}");
    }

    const BODY: &str = r#"{"schema":"iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4","data":[{"e":"pv","p":"web","tv":"js-4.6.0","page":"\"é\u00e9\/","e":"pp"},{"tv":"a","p":"web","e":"se","url":""}]}"#;

    proptest! {
        #[test]
        fn an_envelope_that_was_changed_is_read_as_on_the_long_way(
            cuts in proptest::collection::vec((any::<usize>(), 0usize..4, "[\"\\\\{}\\[\\],:0epd1u. -]{0,3}"), 0..3),
        ) {
            let mut body = BODY.to_owned();
            for (place, count, other) in cuts {
                let from = body.floor_char_boundary(place % body.len());
                let to = body.floor_char_boundary((from + count).min(body.len())).max(from);
                body.replace_range(from..to, &other);
                if body.is_empty() {
                    break;
                }
            }
            check(&body);
        }
    }

    #[test]
    fn the_envelope_of_the_changes_is_read_on_the_short_way() {
        assert!(plain_envelope::read(BODY, 8).is_some());
        check(BODY);
    }
}
