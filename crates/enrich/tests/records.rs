//! Data-driven tests of whole records: one JSON object per line, a request and what is expected of its outcomes.
//!
//! Our own vectors (`testdata/enrich/records.jsonl`) always run. The acceptance vectors run where the specification's
//! folder lies beside the checkout or is named by `SHARED_FIXTURES`.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops at what it does not expect, also in its helpers"
)]

mod cases;
mod local_schemas;

use std::collections::BTreeMap;
use std::path::Path;

use enrich::iglu::Schemas;
use enrich::{Outcome, Recipe, enrich, processor};
use model::event::{COLUMNS, EnrichedEvent};
use model::position::{Offset, Partition, RawRecord};
use model::time::Timestamp;
use serde_json::{Map, Value, json};

use local_schemas::schemas_below;

fn outcomes(bytes: &[u8], recipe: &Recipe) -> Vec<Outcome> {
    let partition = Partition::of_stream("raw", 0);
    let record = RawRecord { partition: &partition, offset: Offset::from_number(7), bytes };
    let outcomes = enrich(&record, recipe).unwrap();
    assert_eq!(enrich(&record, recipe).unwrap(), outcomes, "twice the same");
    outcomes
}

/// Says where outcomes differ from what is expected, or nothing.
fn difference(outcomes: &[Outcome], expect: &Value) -> Option<String> {
    let good: Vec<&EnrichedEvent> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            Outcome::Enriched(event) => Some(&**event),
            _ => None,
        })
        .collect();
    let bad: Vec<Value> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            Outcome::Bad(row) | Outcome::Failed { bad_row: row, .. } => {
                Some(row.to_json(&processor(), Timestamp(0)))
            }
            Outcome::Enriched(_) | Outcome::Dropped { .. } | Outcome::Pii(_) => None,
        })
        .map(|text| serde_json::from_str(&text).unwrap())
        .collect();
    let failed: Vec<EnrichedEvent> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            Outcome::Failed { event, .. } => Some(event.stamp(&processor(), Timestamp(0))),
            _ => None,
        })
        .collect();
    let none = Vec::new();
    let expected_good = expect["good"].as_array().unwrap_or(&none);
    let expected_bad = expect["bad"].as_array().unwrap_or(&none);
    if (good.len(), bad.len()) != (expected_good.len(), expected_bad.len()) {
        return Some(format!("{} good and {} bad: {}", good.len(), bad.len(), json!(bad)));
    }
    let expected_failed = expect["failed"].as_array().unwrap_or(&none);
    if failed.len() != expected_failed.len() {
        return Some(format!("{} failed events", failed.len()));
    }
    good.iter()
        .copied()
        .zip(expected_good)
        .chain(failed.iter().zip(expected_failed))
        .find_map(|(event, expected)| event_difference(event, expected))
        .or_else(|| {
            let mut pairs = bad.iter().zip(expected_bad);
            pairs.find_map(|(row, expected)| bad_row_difference(row, expected))
        })
        .or_else(|| {
            let mut pairs = failed.iter().zip(expected_failed);
            pairs.find_map(|(event, expected)| failures_difference(event, expected))
        })
}

/// Compares the failure entities, which come first, on the keys that are given.
fn failures_difference(event: &EnrichedEvent, expected: &Value) -> Option<String> {
    let cell: Value = serde_json::from_str(event.derived_contexts.as_ref()?).unwrap();
    let entities = cell["data"].as_array().unwrap();
    let is_failure = |entity: &&Value| entity["schema"] == model::failed::FAILURE;
    let found: Vec<&Value> = entities.iter().take_while(is_failure).map(|it| &it["data"]).collect();
    let others: Vec<&str> =
        entities[found.len()..].iter().map(|it| it["schema"].as_str().unwrap()).collect();
    let wanted = expected["failures"].as_array().unwrap();
    let same = wanted.len() == found.len()
        && wanted.iter().zip(&found).all(|(wanted, found)| {
            wanted.as_object().unwrap().iter().all(|(key, value)| match key.as_str() {
                "errors" => reports_match(value, &found["errors"]),
                key => found[key] == *value,
            })
        })
        && json!(others) == *expected.get("others").unwrap_or(&json!([]));
    (!same).then(|| format!("failures {cell}"))
}

fn event_difference(event: &EnrichedEvent, expected: &Value) -> Option<String> {
    let line = event.to_tsv();
    let cells: BTreeMap<&str, &str> =
        COLUMNS.iter().map(|column| column.name).zip(line.split('\t')).collect();
    let fields = expected["fields"].as_object().unwrap();
    let empty = expected["null"].as_array().into_iter().flatten();
    let wrong_field = fields.iter().find_map(|(name, value)| {
        let (name, same) = match name.strip_suffix("_json") {
            Some(name) => {
                (name, serde_json::from_str::<Value>(cells[name]).ok().as_ref() == Some(value))
            }
            None => (name.as_str(), value.as_str() == Some(cells[name.as_str()])),
        };
        (!same).then(|| format!("{name} is `{}`, expected {value}", cells[name]))
    });
    wrong_field.or_else(|| {
        let mut empty = empty.map(|name| name.as_str().unwrap());
        empty.find(|name| !cells[name].is_empty()).map(|name| format!("{name} is not null"))
    })
}

fn bad_row_difference(row: &Value, expected: &Value) -> Option<String> {
    let kind = row["schema"].as_str().unwrap().split('/').nth(1).unwrap();
    if expected["type"] != kind {
        return Some(format!("a {kind}: {row}"));
    }
    let messages = expected["messages"].as_array()?;
    let failure = &row["data"]["failure"];
    let found: Vec<&Value> = match (&failure["messages"], &failure["message"]) {
        (Value::Array(messages), _) => messages.iter().collect(),
        (_, message) => vec![message],
    };
    let count = expected["messages_count"].as_u64().unwrap_or(messages.len() as u64);
    let same = found.len() as u64 == count
        && messages.iter().zip(&found).all(|(expected, found)| {
            // The messages of enrichment failures are wrapped.
            message_matches(expected, found.get("message").unwrap_or(found))
        });
    (!same).then(|| format!("messages {failure}"))
}

fn message_matches(expected: &Value, found: &Value) -> bool {
    expected.as_object().unwrap().iter().all(|(key, value)| match key.as_str() {
        "dataReports" => reports_match(value, &found["error"]["dataReports"]),
        "error" if found["error"].is_object() => found["error"]["error"] == *value,
        key => found.get(key) == Some(value),
    })
}

/// As sets, on the keys that are given.
fn reports_match(expected: &Value, found: &Value) -> bool {
    let (Some(expected), Some(found)) = (expected.as_array(), found.as_array()) else {
        return false;
    };
    let matches = |wanted: &Map<String, Value>, found: &Value| {
        wanted.iter().all(|(key, value)| found.get(key) == Some(value))
    };
    expected.len() == found.len()
        && expected
            .iter()
            .all(|wanted| found.iter().any(|found| matches(wanted.as_object().unwrap(), found)))
}

/// Runs a file of cases; gives the number of those that ran.
fn check(file: &Path, schemas: Schemas) -> usize {
    let (mut ran, mut left, mut wrong) = (0, 0, Vec::new());
    for case in cases::read(file) {
        if case["enrichments"].as_array().is_some_and(|configured| !configured.is_empty()) {
            // Not for this build: it has no optional enrichments.
            left += 1;
            continue;
        }
        ran += 1;
        let recipe = cases::recipe(&case, &schemas);
        let found = outcomes(&cases::record(&case), &recipe);
        if let Some(difference) = difference(&found, &case["expect"]) {
            wrong.push(format!("{}: {difference}", case["id"]));
        }
    }
    println!(
        "{}: {} of {ran} pass, {left} are not for this build",
        file.display(),
        ran - wrong.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    ran
}

#[test]
fn our_own_vectors_of_records_hold() {
    let folder = cases::repository().join("testdata/enrich");
    let ran = check(&folder.join("records.jsonl"), schemas_below(&folder.join("schemas")));
    assert!(ran >= 90);
}

#[test]
fn the_acceptance_vectors_of_records_hold() {
    if let Some(folder) = cases::acceptance() {
        check(&folder.join("record-cases.jsonl"), schemas_below(&folder.join("schemas")));
    }
}
