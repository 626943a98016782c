//! Failed events: as much of an event as could be enriched, with what went wrong as entities beside its data.
//!
//! The enrich function makes one next to the bad row of an event, where a recipe asks for it. The moment of the failure
//! stands in the entities, and the function does not know it: a layer stamps it together with `etl_tstamp`. All else
//! follows from the record and the recipe. Snowplow: `enrich-core.md` 5.4.

use serde_json::{Map, Value, json};

use crate::bad_row::{
    EnrichmentError, EnrichmentMessage, FailureMessage, IgluError, Lookup, Processor,
};
use crate::event::EnrichedEvent;
use crate::iglu::InvalidKey;
use crate::time::Timestamp;

/// The schema of the entities.
pub const FAILURE: &str = "iglu:com.snowplowanalytics.snowplow/failure/jsonschema/1-0-0";

/// How the cell of derived contexts begins, and how it ends.
const HEAD: &str =
    r#"{"schema":"iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-1","data":["#;
const TAIL: &str = "]}";

/// An event that has a bad row.
#[derive(Clone, Debug, PartialEq)]
pub struct FailedEvent {
    /// Without what is invalid, and without the entities of its failures.
    pub event: EnrichedEvent,
    /// Of all phases, in their order; at least one.
    pub failures: Vec<Failure>,
}

/// One thing that went wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub cause: Cause,
    /// What the cause is about. Anything but an object is printed inside of one.
    pub data: Option<Value>,
}

/// A message of the bad row of the same phase.
#[derive(Clone, Debug, PartialEq)]
pub enum Cause {
    /// Data that does not conform. `source` is `unstruct`, `contexts`, `derived_contexts` or `atomic_field`.
    Data {
        message: FailureMessage,
        source: &'static str,
    },
    Enrichment(EnrichmentMessage),
}

impl FailedEvent {
    /// The event as it is written: stamped, and with its failures before its other derived contexts.
    pub fn stamp(&self, processor: &Processor, at: Timestamp) -> EnrichedEvent {
        let iso = at.to_iso();
        let mut entities: Vec<String> = self
            .failures
            .iter()
            .map(|failure| {
                json!({"schema": FAILURE, "data": failure.to_value(processor, &iso)}).to_string()
            })
            .collect();
        let others = self.event.derived_contexts.as_deref();
        entities.extend(others.map(|cell| inner(cell).to_owned()));
        EnrichedEvent {
            etl_tstamp: Some(at),
            derived_contexts: Some(format!("{HEAD}{}{TAIL}", entities.join(","))),
            ..self.event.clone()
        }
    }
}

/// The entities in a cell of contexts, as they stand there. The cell is one of ours.
fn inner(cell: &str) -> &str {
    cell.strip_prefix(HEAD).and_then(|rest| rest.strip_suffix(TAIL)).unwrap_or_default()
}

impl Failure {
    fn to_value(&self, processor: &Processor, at: &str) -> Value {
        let (failure_type, errors, schema) = match &self.cause {
            Cause::Data { message, source } => of_data(message, source, at),
            Cause::Enrichment(message) => of_enrichment(message, at),
        };
        json!({
            "failureType": failure_type,
            "errors": errors,
            "schema": schema,
            "data": self.data.clone().map(object),
            "timestamp": at,
            "componentName": processor.artifact,
            "componentVersion": processor.version,
        })
    }
}

/// The published schema wants an object.
fn object(data: Value) -> Value {
    match data {
        Value::Object(_) | Value::Null => data,
        other => json!({"data": other}),
    }
}

type Parts = (String, Vec<Value>, Option<String>);

fn of_data(message: &FailureMessage, source: &str, at: &str) -> Parts {
    match message {
        FailureMessage::NotJson { error, .. } => {
            ("NotJSON".to_owned(), vec![json!({"message": error, "source": source})], None)
        }
        FailureMessage::NotIglu { error, .. } => {
            ("NotIglu".to_owned(), vec![json!({"message": words(error), "source": source})], None)
        }
        FailureMessage::CriterionMismatch { schema_key, schema_criterion } => {
            let message = format!(
                "Unexpected schema: {schema_key} does not match the criterion {schema_criterion}"
            );
            let error =
                json!({"message": message, "source": source, "criterion": schema_criterion});
            ("CriterionMismatch".to_owned(), vec![error], Some(schema_key.clone()))
        }
        FailureMessage::Iglu { schema_key, error } => {
            let (kind, errors) = of_iglu(schema_key, error, source, at);
            (kind.to_owned(), errors, Some(schema_key.clone()))
        }
        FailureMessage::InputData { field, expectation, .. } => {
            let message = format!("{field} - {expectation}");
            (
                "ValidationError".to_owned(),
                vec![json!({"message": message, "source": source})],
                None,
            )
        }
    }
}

fn of_enrichment(message: &EnrichmentMessage, at: &str) -> Parts {
    let (config, identifier) = match &message.enrichment {
        Some((config, identifier)) => (Some(config.clone()), identifier.as_str()),
        None => (None, ""),
    };
    let errors = match &message.message {
        EnrichmentError::InputData { field, expectation, .. } => {
            vec![json!({"message": format!("{field} - {expectation}"), "source": field})]
        }
        EnrichmentError::Simple { error } => vec![json!({"message": error})],
        EnrichmentError::Iglu { schema_key, error } => {
            of_iglu(schema_key, error, "derived_contexts", at).1
        }
    };
    // Without an identifier the blank at the end stays, as in Snowplow.
    (format!("EnrichmentError: {identifier}"), errors, config)
}

fn of_iglu(
    schema_key: &str,
    error: &IgluError,
    source: &str,
    at: &str,
) -> (&'static str, Vec<Value>) {
    match error {
        IgluError::Resolution { lookup_history } => {
            let history: Value = lookup_history.iter().map(|it| Lookup::to_value(it, at)).collect();
            let message = format!("Resolution error: schema {schema_key} not found");
            let error = json!({"message": message, "source": source, "lookupHistory": history});
            ("ResolutionError", vec![error])
        }
        IgluError::Validation { data_reports, .. } => {
            let error = |report: &crate::bad_row::DataReport| {
                json!({
                    "message": report.message, "source": source, "path": report.path,
                    "keyword": report.keyword, "targets": report.targets,
                })
            };
            ("ValidationError", data_reports.iter().map(error).collect())
        }
        IgluError::InvalidSchema { schema_issues } => {
            let error = |issue: &crate::bad_row::SchemaIssue| json!({"message": issue.message, "source": source, "path": issue.path});
            ("ValidationError", schema_issues.iter().map(error).collect())
        }
    }
}

/// The plain words of a code.
fn words(code: &str) -> &str {
    [InvalidKey::Uri, InvalidKey::Version]
        .into_iter()
        .find(|reason| reason.code() == code)
        .map_or("Invalid data payload", InvalidKey::words)
}

/// What an enrichment refuses, as an object: the field with its value.
pub fn data_of(message: &EnrichmentError) -> Option<Value> {
    let EnrichmentError::InputData { field, value, .. } = message else { return None };
    let value = value.as_deref().map_or(Value::Null, Value::from);
    Some(Value::Object(Map::from_iter([(field.clone(), value)])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bad_row::{DataReport, LookupError};

    const AT: Timestamp = Timestamp(1_772_359_201_000);

    fn stamped(failures: Vec<Failure>, derived_contexts: Option<&str>) -> EnrichedEvent {
        let event = EnrichedEvent {
            derived_contexts: derived_contexts.map(str::to_owned),
            ..EnrichedEvent::default()
        };
        let processor = Processor { artifact: "ours".to_owned(), version: "1.2.3".to_owned() };
        FailedEvent { event, failures }.stamp(&processor, AT)
    }

    fn entity(failure: Failure) -> Value {
        let cell = stamped(vec![failure], None).derived_contexts.unwrap();
        let cell: Value = serde_json::from_str(&cell).unwrap();
        assert_eq!(cell["data"][0]["schema"], FAILURE);
        cell["data"][0]["data"].clone()
    }

    fn data(message: FailureMessage, data: Value) -> Failure {
        Failure { cause: Cause::Data { message, source: "unstruct" }, data: Some(data) }
    }

    #[test]
    fn failures_come_before_the_other_entities_and_carry_the_moment() {
        let failure = data(
            FailureMessage::NotIglu { json: json!(7), error: "INVALID_IGLUURI".to_owned() },
            json!(7),
        );
        let others = format!("{HEAD}{{\"schema\":\"iglu:a/b/c/1-0-0\",\"data\":{{}}}}{TAIL}");
        let event = stamped(vec![failure.clone(), failure], Some(&others));
        assert_eq!(event.etl_tstamp, Some(AT));
        let one = r#"{"schema":"iglu:com.snowplowanalytics.snowplow/failure/jsonschema/1-0-0","data":{"failureType":"NotIglu","errors":[{"message":"Invalid Iglu URI","source":"unstruct"}],"schema":null,"data":{"data":7},"timestamp":"2026-03-01T10:00:01.000Z","componentName":"ours","componentVersion":"1.2.3"}}"#;
        let expected =
            format!("{HEAD}{one},{one},{{\"schema\":\"iglu:a/b/c/1-0-0\",\"data\":{{}}}}{TAIL}");
        assert_eq!(event.derived_contexts.unwrap(), expected);
    }

    #[test]
    fn each_kind_of_error_has_its_own_words() {
        let key = "iglu:com.acme/cart/jsonschema/1-0-0".to_owned();
        let report = DataReport {
            message: "$.a: string found, integer expected".to_owned(),
            path: Some("$.a".to_owned()),
            keyword: Some("type".to_owned()),
            targets: vec!["string".to_owned(), "integer".to_owned()],
        };
        let lookup = Lookup {
            repository: "r".to_owned(),
            errors: vec![LookupError { error: "NotFound".to_owned(), message: None }],
            attempts: 1,
        };
        let iglu = |error| FailureMessage::Iglu { schema_key: key.clone(), error };
        let cases = [
            (
                iglu(IgluError::Validation { data_reports: vec![report], superseded_by: None }),
                "ValidationError",
                json!({"message": "$.a: string found, integer expected", "source": "unstruct", "path": "$.a", "keyword": "type", "targets": ["string", "integer"]}),
                json!(key),
            ),
            (
                iglu(IgluError::Resolution { lookup_history: vec![lookup] }),
                "ResolutionError",
                json!({"message": format!("Resolution error: schema {key} not found"), "source": "unstruct", "lookupHistory": [
                    {"repository": "r", "errors": [{"error": "NotFound"}], "attempts": 1, "lastAttempt": AT.to_iso()}
                ]}),
                json!(key),
            ),
            (
                FailureMessage::NotJson {
                    field: "unstruct".to_owned(),
                    value: None,
                    error: "invalid json: e".to_owned(),
                },
                "NotJSON",
                json!({"message": "invalid json: e", "source": "unstruct"}),
                Value::Null,
            ),
        ];
        for (message, kind, error, schema) in cases {
            let entity = entity(data(message, json!({"a": "1"})));
            assert_eq!(entity["failureType"], kind);
            assert_eq!(entity["errors"], json!([error]));
            assert_eq!(entity["schema"], schema);
            assert_eq!(entity["data"], json!({"a": "1"}));
        }
    }

    #[test]
    fn an_enrichment_is_named_by_its_identifier() {
        let config = "iglu:com.acme/config/jsonschema/1-0-0".to_owned();
        let input = EnrichmentError::InputData {
            field: "event".to_owned(),
            value: None,
            expectation: "not recognized".to_owned(),
        };
        let failure = |enrichment, message: EnrichmentError| Failure {
            data: data_of(&message),
            cause: Cause::Enrichment(EnrichmentMessage { enrichment, message }),
        };
        let core = entity(failure(None, input));
        assert_eq!(core["failureType"], "EnrichmentError: ");
        assert_eq!(
            core["errors"],
            json!([{"message": "event - not recognized", "source": "event"}])
        );
        assert_eq!((&core["schema"], &core["data"]), (&Value::Null, &json!({"event": null})));
        let simple = EnrichmentError::Simple { error: "x".to_owned() };
        let named = entity(failure(Some((config.clone(), "acme".to_owned())), simple));
        assert_eq!(named["failureType"], "EnrichmentError: acme");
        assert_eq!(named["errors"], json!([{"message": "x"}]));
        assert_eq!((&named["schema"], &named["data"]), (&json!(config), &Value::Null));
    }
}
