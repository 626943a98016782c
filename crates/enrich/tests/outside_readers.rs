//! What enrich makes, as others read it: every bad row obeys its published schema, and every line of an enriched or
//! failed event is one for Snowplow's analytics SDK.
//!
//! Checked here with the published schemas in `testdata/published`. Where `TRACKERS_DIR` names the folder that
//! `cargo xtask test` sets up, Python's `jsonschema` and the analytics SDK of PyPI read the same lines.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops at what it does not expect, also in its helpers"
)]

mod cases;
mod local_schemas;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use enrich::iglu::Schemas;
use enrich::{Outcome, Recipe, Settings, enrich, processor};
use jsonschema::Validator;
use model::event::{COLUMNS, EnrichedEvent};
use model::position::{Offset, Partition, RawRecord};
use model::sdk::Event;
use model::time::Timestamp;
use serde_json::{Value, json};

use local_schemas::schemas_below;

const AT: Timestamp = Timestamp(1_790_000_000_123);

/// All that the cases come to, with failed events on.
#[derive(Default)]
struct Made {
    bad_rows: Vec<String>,
    lines: Vec<String>,
    failed: Vec<EnrichedEvent>,
}

impl Made {
    fn of_all_cases() -> Made {
        let mut made = Made::default();
        let own = cases::repository().join("testdata/enrich");
        let acceptance = cases::acceptance().map(|it| (it.clone(), it.join("record-cases.jsonl")));
        for (folder, file) in
            [(own.clone(), own.join("records.jsonl"))].into_iter().chain(acceptance)
        {
            let schemas = schemas_below(&folder.join("schemas"));
            for case in cases::read(&file) {
                made.add(&cases::record(&case), &cases::recipe(&case, &schemas));
            }
        }
        let golden = cases::repository().join("crates/enrich/tests/golden");
        let recipe = Recipe::new(schemas_below(&own.join("schemas")), Settings::default());
        for case in std::fs::read_dir(golden).unwrap() {
            let record = std::fs::read_to_string(case.unwrap().path().join("record.b64")).unwrap();
            made.add(&STANDARD.decode(record.trim()).unwrap(), &recipe);
        }
        for case in long_requests() {
            made.add(&cases::record(&case), &Recipe::new(Schemas::embedded(), Settings::default()));
        }
        made
    }

    fn add(&mut self, bytes: &[u8], recipe: &Recipe) {
        let settings = Settings { failed_events: true, ..recipe.settings().clone() };
        if settings.whole_bad_rows {
            // These are meant to be longer than published.
            return;
        }
        let recipe = Recipe::new(recipe.schemas().clone(), settings);
        let partition = Partition::of_stream("raw", 0);
        let record = RawRecord { partition: &partition, offset: Offset::BEGINNING, bytes };
        for outcome in enrich(&record, &recipe).unwrap() {
            match outcome {
                Outcome::Enriched(mut event) => {
                    event.etl_tstamp = Some(AT);
                    self.lines.push(event.to_tsv());
                }
                Outcome::Failed { bad_row, event } => {
                    self.bad_rows.push(bad_row.to_json(&processor(), AT));
                    let event = event.stamp(&processor(), AT);
                    self.lines.push(event.to_tsv());
                    self.failed.push(event);
                }
                Outcome::Bad(bad_row) => self.bad_rows.push(bad_row.to_json(&processor(), AT)),
                Outcome::Dropped { .. } | Outcome::Pii(_) => {}
            }
        }
    }
}

/// Requests with a field each that is longer than a bad row may show.
fn long_requests() -> Vec<Value> {
    let long = "ä".repeat(9000);
    let json = "/com.snowplowanalytics.snowplow/tp2";
    let request = |field: &str, value: Value| {
        let mut payload = json!({"path": "/i", "querystring": "e=none", field: value});
        if payload["path"] == json {
            payload["contentType"] = "application/json".into();
        }
        json!({ "payload": payload })
    };
    let text = |field: &str| request(field, long.clone().into());
    let querystring = format!("e=none&{0}={0}&refr=http://a%00.example/{0}", "a".repeat(600));
    let described = json!({"schema": "iglu:com.acme/none/jsonschema/1-0-0", "data": {"a": long}});
    vec![
        text("collector"),
        text("userAgent"),
        text("refererUri"),
        text("hostname"),
        text("ipAddress"),
        text("contentType"),
        text("querystring"),
        request("querystring", querystring.into()),
        request("headers", json!([long, "a: b"])),
        request("path", format!("/{0}/{0}", "v".repeat(100)).into()),
        request("path", long.clone().into()),
        request("networkUserId", long.clone().into()),
        request("schema", long.clone().into()),
        request("encoding", long.clone().into()),
        request("timestamp", i64::MAX.into()),
        request("timestamp", (-62_167_219_200_001_i64).into()),
        json!({"payload": {"path": json, "contentType": long, "body": "{}"}}),
        json!({"payload": {"path": json, "contentType": "application/json", "body": long}}),
        json!({"payload": {"path": json, "contentType": "application/json", "body": described.to_string()}}),
        json!({"payload": {"path": "/r/tp2", "querystring": format!("a={}", "b".repeat(900))}}),
        json!({"payload": {"path": "/com.snowplowanalytics.iglu/v1", "contentType": "application/json", "body": long}}),
        json!({"payload": {"path": "/com.snowplowanalytics.iglu/v1", "querystring": "schema=".to_owned() + &"a".repeat(600)}}),
    ]
}

/// The published schemas by their URIs. Formats are asserted, as Python is told to do.
fn published() -> BTreeMap<String, Validator> {
    let folder = cases::repository().join("testdata/published");
    let mut folders = vec![folder.clone()];
    let mut schemas = BTreeMap::new();
    while let Some(inner) = folders.pop() {
        for path in std::fs::read_dir(&inner).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_none() {
                let schema: Value =
                    serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
                let validator = jsonschema::draft4::options()
                    .should_validate_formats(true)
                    .build(&schema)
                    .unwrap();
                let place = path.strip_prefix(&folder).unwrap().to_str().unwrap();
                schemas.insert(format!("iglu:{place}"), validator);
            }
        }
    }
    schemas
}

/// Says what is wrong with self-describing data whose schema is among these.
fn problems(described: &Value, published: &BTreeMap<String, Validator>) -> Vec<String> {
    let uri = described["schema"].as_str().unwrap();
    let validator =
        published.get(uri).unwrap_or_else(|| panic!("{uri} is not in testdata/published"));
    let errors = validator.iter_errors(&described["data"]);
    errors.map(|error| format!("{uri} at {}: {error:.200}", error.instance_path())).collect()
}

#[test]
fn every_bad_row_and_every_failure_obeys_its_published_schema() {
    let (made, published) = (Made::of_all_cases(), published());
    let (mut kinds, mut wrong) = (BTreeSet::new(), Vec::new());
    for row in &made.bad_rows {
        let row: Value = serde_json::from_str(row).unwrap();
        kinds.insert(row["schema"].as_str().unwrap().to_owned());
        wrong.extend(problems(&row, &published));
    }
    for event in &made.failed {
        let cell: Value = serde_json::from_str(event.derived_contexts.as_ref().unwrap()).unwrap();
        let entities = cell["data"].as_array().unwrap().iter();
        let failures: Vec<&Value> =
            entities.filter(|it| it["schema"] == model::failed::FAILURE).collect();
        assert!(!failures.is_empty());
        wrong.extend(failures.into_iter().flat_map(|failure| problems(failure, &published)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(made.bad_rows.len() >= 80 && made.failed.len() >= 30);
    // All that enrich makes; a generic error is the collector's.
    assert_eq!(kinds.len(), 6, "{kinds:?}");
}

#[test]
fn every_line_is_an_event_of_the_analytics_sdk() {
    let made = Made::of_all_cases();
    assert!(made.lines.len() >= 60);
    for line in &made.lines {
        let Err(error) = Event::parse(line) else { continue };
        // A failed event may be one because it names no collector, or no time that can be.
        let cells: Vec<&str> = line.split('\t').collect();
        let is_empty = |name: &str| {
            let place = COLUMNS.iter().position(|column| column.name == name).unwrap();
            cells[place].is_empty()
        };
        assert!(is_empty("v_collector") || is_empty("collector_tstamp"), "{error}: {line}");
    }
}

#[test]
fn python_reads_the_same() {
    let Some(trackers) = std::env::var_os("TRACKERS_DIR").map(PathBuf::from) else {
        println!("TRACKERS_DIR is not set: `cargo xtask test` lets Python read them too");
        return;
    };
    let made = Made::of_all_cases();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/outside_readers/read.py");
    let mut python = Command::new(trackers.join("python/bin/python"))
        .arg(script)
        .arg(cases::repository().join("testdata/published"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = python.stdin.take().unwrap();
    for row in &made.bad_rows {
        writeln!(input, "{row}").unwrap();
    }
    let complete = |line: &&String| Event::parse(line).is_ok();
    let lines: Vec<&String> = made.lines.iter().filter(complete).collect();
    for line in &lines {
        let flat = Value::Object(Event::parse(line).unwrap().to_flat_json());
        writeln!(input, "{}", json!({ "line": line, "flat": flat })).unwrap();
    }
    drop(input);
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let read = String::from_utf8(output.stdout).unwrap();
    let expected =
        format!("{} bad rows obey, {} lines are events", made.bad_rows.len(), lines.len());
    assert_eq!(read.trim(), expected);
}
