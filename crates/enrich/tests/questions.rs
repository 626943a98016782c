//! What a record leaves open while registries have not answered, and that answers settle it for good.

#![expect(clippy::unwrap_used, reason = "a test stops at what it does not expect")]

use std::sync::Arc;

use enrich::iglu::{Answer, Repository, Resolver, Schemas};
use enrich::{Missing, Outcome, Recipe, Settings, enrich};
use model::bad_row::{BadRow, FailureMessage, IgluError, Lookup, LookupError};
use model::iglu::SchemaKey;
use model::payload::CollectorPayload;
use model::position::{Offset, Partition, RawRecord};
use serde_json::{Value, json};

fn key(name: &str) -> SchemaKey {
    SchemaKey::parse(&format!("iglu:com.acme/{name}/jsonschema/1-0-0")).unwrap()
}

fn asking() -> Recipe {
    let repository = Repository {
        name: "Acme".to_owned(),
        priority: 0,
        vendor_prefixes: Vec::new(),
        uri: "http://registry.example".to_owned(),
    };
    let resolver = Resolver { epoch: 1, repositories: vec![repository], embedded: Vec::new() };
    Recipe::new(Schemas::embedded().with_resolver(resolver), Settings::default())
}

fn described(name: &str) -> Value {
    json!({"schema": key(name).as_str(), "data": {"arms": 6}})
}

/// A tp2 request with a body of this schema and these events.
fn record(envelope: &str, events: &[Value]) -> Vec<u8> {
    let schema = format!("iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/{envelope}");
    CollectorPayload {
        ip_address: "203.0.113.7".to_owned(),
        timestamp: 1_790_000_000_000,
        encoding: "UTF-8".to_owned(),
        collector: "collector-1".to_owned(),
        path: Some("/com.snowplowanalytics.snowplow/tp2".to_owned()),
        content_type: Some("application/json".to_owned()),
        body: Some(json!({"schema": schema, "data": events}).to_string()),
        schema: "iglu:com.snowplowanalytics.snowplow/CollectorPayload/thrift/1-0-0".to_owned(),
        ..CollectorPayload::default()
    }
    .encode()
}

fn event(unstruct: &str, entities: &[&str]) -> Value {
    let of_snowplow = |name: &str| format!("iglu:com.snowplowanalytics.snowplow/{name}");
    let unstruct = json!({
        "schema": of_snowplow("unstruct_event/jsonschema/1-0-0"), "data": described(unstruct),
    });
    let entities: Vec<Value> = entities.iter().map(|name| described(name)).collect();
    let contexts = json!({"schema": of_snowplow("contexts/jsonschema/1-0-0"), "data": entities});
    json!({
        "e": "ue", "p": "srv", "tv": "t-1",
        "ue_pr": unstruct.to_string(), "co": contexts.to_string(),
    })
}

fn run(bytes: &[u8], recipe: &Recipe) -> Result<Vec<Outcome>, Missing> {
    let partition = Partition::of_stream("raw", 0);
    enrich(&RawRecord { partition: &partition, offset: Offset::from_number(7), bytes }, recipe)
}

fn found(name: &str) -> (SchemaKey, Arc<Answer>) {
    let schema = json!({"type": "object", "properties": {"arms": {"type": "integer"}}});
    (key(name), Arc::new(Answer::found(&key(name), "Acme".to_owned(), schema, None)))
}

#[test]
fn all_open_questions_of_a_record_are_listed_once_and_in_order() {
    let bytes = record("1-0-4", &[event("b", &["d", "a", "d"]), event("c", &["a"])]);
    let missing = run(&bytes, &asking()).unwrap_err();
    assert_eq!(missing.schemas, ["a", "b", "c", "d"].map(key));
    // Some answers leave the others open.
    let recipe = asking().with_answers([found("a"), found("c")], 10);
    assert_eq!(run(&bytes, &recipe).unwrap_err().schemas, ["b", "d"].map(key));
    let recipe = recipe.with_answers([found("b"), found("d")], 10);
    let outcomes = run(&bytes, &recipe).unwrap();
    assert_eq!(outcomes.len(), 2);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Enriched(_))));
}

#[test]
fn what_lies_in_an_envelope_that_nobody_knows_is_asked_for_at_once() {
    let bytes = record("1-0-9", &[event("b", &["a"])]);
    let missing = run(&bytes, &asking()).unwrap_err();
    let envelope = "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-9";
    let envelope = SchemaKey::parse(envelope).unwrap();
    assert_eq!(missing.schemas, [key("a"), key("b"), envelope]);
}

#[test]
fn an_absence_is_an_answer_and_tells_what_each_registry_said() {
    let lookup = |repository: &str| Lookup {
        repository: repository.to_owned(),
        errors: vec![LookupError { error: "NotFound".to_owned(), message: None }],
        attempts: 1,
    };
    let absent = (key("b"), Arc::new(Answer::absent(vec![lookup("Acme")])));
    let recipe = asking().with_answers([absent, found("a")], 10);
    let outcomes = run(&record("1-0-4", &[event("b", &["a"])]), &recipe).unwrap();
    let [Outcome::Bad(row)] = &outcomes[..] else { panic!("{outcomes:?}") };
    let BadRow::SchemaViolations { messages, .. } = &**row else { panic!("{row:?}") };
    let error = IgluError::Resolution {
        lookup_history: vec![lookup("Acme"), lookup("Iglu Client Embedded")],
    };
    assert_eq!(*messages, [FailureMessage::Iglu { schema_key: key("b").to_string(), error }]);
}

#[test]
fn what_needs_no_schema_leaves_nothing_open() {
    for bytes in
        [&b"not a payload"[..], &record("1-0-4", &[json!({"e": "pv", "p": "web", "tv": "t"})])]
    {
        assert_eq!(run(bytes, &asking()).unwrap().len(), 1);
    }
}
