//! Bad rows: why a raw record, or one event of it, is not an enriched event.
//!
//! The enrich function makes them; the layer that called it prints them with its own processor time. Everything in a
//! bad row follows from the record and the recipe, except the failure time, which [`BadRow::to_json`] is given.
//! Snowplow: `enrich-core.md` 6.

mod fit;

use serde_json::{Map, Value, json};

use crate::event::EnrichedEvent;
use crate::time::Timestamp;

/// A bad row, by its Iglu schema.
#[derive(Clone, Debug, PartialEq)]
pub enum BadRow {
    /// The record is not a collector payload that can be read.
    CollectorPayloadFormatViolation { message: FormatMessage, payload_base64: String },
    /// The request's path has no adapter, or its adapter refuses the request.
    AdapterFailures {
        vendor: String,
        version: String,
        messages: Vec<FailureMessage>,
        payload: Box<RequestView>,
    },
    /// The request does not follow the tracker protocol.
    TrackerProtocolViolations {
        vendor: String,
        version: String,
        messages: Vec<FailureMessage>,
        payload: Box<RequestView>,
    },
    /// One event does not conform to a schema: the atomic one, its own, or that of an entity.
    SchemaViolations { messages: Vec<FailureMessage>, payload: Box<EventView> },
    /// One event could not be enriched.
    EnrichmentFailures { messages: Vec<EnrichmentMessage>, payload: Box<EventView> },
    /// A record, an event or a bad row is larger than allowed; the payload is cut.
    SizeViolation {
        maximum_allowed_size_bytes: u64,
        actual_size_bytes: u64,
        expectation: String,
        payload: String,
    },
    /// Anything else that a component refuses.
    GenericError { errors: Vec<String>, payload: String },
    /// A row that another component made, kept as its line of JSON: its maker and its time are in it.
    Forwarded { schema: &'static str, json: String },
}

/// Who made a bad row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processor {
    /// At most 512 characters.
    pub artifact: String,
    /// `N.N.N…`, at most 32 characters.
    pub version: String,
}

/// Why a record cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormatMessage {
    /// A field has a value that cannot be used.
    InputData { payload_field: String, value: Option<String>, expectation: String },
    /// Everything else.
    Fallback { error: String },
}

/// What is wrong with a request or with an event's data.
#[derive(Clone, Debug, PartialEq)]
pub enum FailureMessage {
    InputData {
        field: String,
        value: Option<String>,
        expectation: String,
    },
    NotJson {
        field: String,
        value: Option<String>,
        error: String,
    },
    /// `error` is a code: `INVALID_DATA_PAYLOAD`, `INVALID_IGLUURI` or `INVALID_SCHEMAVER`.
    NotIglu {
        json: Value,
        error: String,
    },
    CriterionMismatch {
        schema_key: String,
        schema_criterion: String,
    },
    Iglu {
        schema_key: String,
        error: IgluError,
    },
}

/// What an Iglu resolver says against a self-describing JSON.
#[derive(Clone, Debug, PartialEq)]
pub enum IgluError {
    /// No registry has the schema.
    Resolution { lookup_history: Vec<Lookup> },
    /// The data does not conform.
    Validation { data_reports: Vec<DataReport>, superseded_by: Option<String> },
    /// The schema itself is not a valid one.
    InvalidSchema { schema_issues: Vec<SchemaIssue> },
}

/// What one registry answered. Attempts and times are left out of equality between the layers; the last attempt is
/// printed as the failure time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    pub repository: String,
    pub errors: Vec<LookupError>,
    pub attempts: u32,
}

/// One kind of failed answer: `NotFound`, `RepoFailure` or `ClientFailure`, the latter two with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupError {
    pub error: String,
    pub message: Option<String>,
}

/// One finding of a validator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataReport {
    pub message: String,
    pub path: Option<String>,
    pub keyword: Option<String>,
    pub targets: Vec<String>,
}

/// One reason why a schema cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaIssue {
    pub path: String,
    pub message: String,
}

/// What went wrong in an enrichment.
#[derive(Clone, Debug, PartialEq)]
pub struct EnrichmentMessage {
    /// Schema key of the configuration, and identifier; none for the steps that need no configuration.
    pub enrichment: Option<(String, String)>,
    pub message: EnrichmentError,
}

/// The three shapes of an enrichment's message.
#[derive(Clone, Debug, PartialEq)]
pub enum EnrichmentError {
    InputData { field: String, value: Option<String>, expectation: String },
    Simple { error: String },
    Iglu { schema_key: String, error: IgluError },
}

/// A collector payload as bad rows show it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestView {
    pub vendor: String,
    pub version: String,
    pub querystring: Vec<(String, Option<String>)>,
    pub content_type: Option<String>,
    pub body: Option<String>,
    pub collector: String,
    pub encoding: String,
    pub hostname: Option<String>,
    pub timestamp: Option<Timestamp>,
    pub ip_address: Option<String>,
    pub useragent: Option<String>,
    pub referer_uri: Option<String>,
    pub headers: Vec<String>,
    pub network_userid: Option<String>,
}

/// One event of a payload as bad rows show it: how far it came, and what was sent.
#[derive(Clone, Debug, PartialEq)]
pub struct EventView {
    pub enriched: EnrichedEvent,
    pub raw: RawEventView,
}

/// The parameters of one event with the request's context.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawEventView {
    pub vendor: String,
    pub version: String,
    pub parameters: Vec<(String, Option<String>)>,
    pub content_type: Option<String>,
    pub loader_name: String,
    pub encoding: String,
    pub hostname: Option<String>,
    pub timestamp: Option<Timestamp>,
    pub ip_address: Option<String>,
    pub useragent: Option<String>,
    pub referer_uri: Option<String>,
    pub headers: Vec<String>,
    pub userid: Option<String>,
}

impl BadRow {
    /// The Iglu URI of the row's schema.
    pub fn schema(&self) -> &'static str {
        match self {
            BadRow::CollectorPayloadFormatViolation { .. } => {
                "iglu:com.snowplowanalytics.snowplow.badrows/collector_payload_format_violation/jsonschema/1-0-0"
            }
            BadRow::AdapterFailures { .. } => {
                "iglu:com.snowplowanalytics.snowplow.badrows/adapter_failures/jsonschema/1-0-0"
            }
            BadRow::TrackerProtocolViolations { .. } => {
                "iglu:com.snowplowanalytics.snowplow.badrows/tracker_protocol_violations/jsonschema/1-0-1"
            }
            BadRow::SchemaViolations { .. } => {
                "iglu:com.snowplowanalytics.snowplow.badrows/schema_violations/jsonschema/2-0-1"
            }
            BadRow::EnrichmentFailures { .. } => {
                "iglu:com.snowplowanalytics.snowplow.badrows/enrichment_failures/jsonschema/2-0-1"
            }
            BadRow::SizeViolation { .. } => {
                "iglu:com.snowplowanalytics.snowplow.badrows/size_violation/jsonschema/1-0-0"
            }
            BadRow::GenericError { .. } => {
                "iglu:com.snowplowanalytics.snowplow.badrows/generic_error/jsonschema/1-0-0"
            }
            BadRow::Forwarded { schema, .. } => schema,
        }
    }

    /// The row as one compact line of self-describing JSON, without a line end.
    pub fn to_json(&self, processor: &Processor, failure_tstamp: Timestamp) -> String {
        let at = failure_tstamp.to_iso();
        let messages = |messages: &[FailureMessage]| {
            messages.iter().map(|m| m.to_value(&at)).collect::<Value>()
        };
        let (failure, payload) = match self {
            BadRow::CollectorPayloadFormatViolation { message, payload_base64 } => (
                json!({"timestamp": at, "loader": "thrift", "message": message.to_value()}),
                payload_base64.as_str().into(),
            ),
            BadRow::AdapterFailures { vendor, version, messages: failed, payload }
            | BadRow::TrackerProtocolViolations { vendor, version, messages: failed, payload } => (
                json!({"timestamp": at, "vendor": vendor, "version": version, "messages": messages(failed)}),
                payload.to_value(),
            ),
            BadRow::SchemaViolations { messages: failed, payload } => {
                (json!({"timestamp": at, "messages": messages(failed)}), payload.to_value())
            }
            BadRow::EnrichmentFailures { messages, payload } => {
                let messages: Value =
                    messages.iter().map(|message| message.to_value(&at)).collect();
                (json!({"timestamp": at, "messages": messages}), payload.to_value())
            }
            BadRow::SizeViolation {
                maximum_allowed_size_bytes,
                actual_size_bytes,
                expectation,
                payload,
            } => (
                json!({
                    "timestamp": at,
                    "maximumAllowedSizeBytes": maximum_allowed_size_bytes,
                    "actualSizeBytes": actual_size_bytes,
                    "expectation": expectation,
                }),
                payload.as_str().into(),
            ),
            BadRow::GenericError { errors, payload } => {
                (json!({"timestamp": at, "errors": errors}), payload.as_str().into())
            }
            BadRow::Forwarded { json, .. } => return json.clone(),
        };
        json!({
            "schema": self.schema(),
            "data": {
                "processor": {"artifact": processor.artifact, "version": processor.version},
                "failure": failure,
                "payload": payload,
            },
        })
        .to_string()
    }
}

impl FormatMessage {
    fn to_value(&self) -> Value {
        match self {
            FormatMessage::InputData { payload_field, value, expectation } => {
                json!({"payloadField": payload_field, "value": value, "expectation": expectation})
            }
            FormatMessage::Fallback { error } => json!({"error": error}),
        }
    }
}

impl FailureMessage {
    fn to_value(&self, at: &str) -> Value {
        match self {
            FailureMessage::InputData { field, value, expectation } => {
                json!({"field": field, "value": value, "expectation": expectation})
            }
            FailureMessage::NotJson { field, value, error } => {
                json!({"field": field, "value": value, "error": error})
            }
            FailureMessage::NotIglu { json, error } => json!({"json": json, "error": error}),
            FailureMessage::CriterionMismatch { schema_key, schema_criterion } => {
                json!({"schemaKey": schema_key, "schemaCriterion": schema_criterion})
            }
            FailureMessage::Iglu { schema_key, error } => {
                json!({"schemaKey": schema_key, "error": error.to_value(at)})
            }
        }
    }
}

impl EnrichmentMessage {
    fn to_value(&self, at: &str) -> Value {
        let message = match &self.message {
            EnrichmentError::InputData { field, value, expectation } => {
                json!({"field": field, "value": value, "expectation": expectation})
            }
            EnrichmentError::Simple { error } => json!({"error": error}),
            EnrichmentError::Iglu { schema_key, error } => {
                json!({"schemaKey": schema_key, "error": error.to_value(at)})
            }
        };
        let enrichment = self
            .enrichment
            .as_ref()
            .map(|(key, identifier)| json!({"schemaKey": key, "identifier": identifier}));
        json!({"enrichment": enrichment, "message": message})
    }
}

impl IgluError {
    fn to_value(&self, at: &str) -> Value {
        match self {
            IgluError::Resolution { lookup_history } => {
                let history: Value =
                    lookup_history.iter().map(|lookup| lookup.to_value(at)).collect();
                json!({"error": "ResolutionError", "lookupHistory": history})
            }
            IgluError::Validation { data_reports, superseded_by } => {
                let reports: Value = data_reports.iter().map(DataReport::to_value).collect();
                let mut value = json!({"error": "ValidationError", "dataReports": reports});
                if let Some(version) = superseded_by {
                    value["supersededBy"] = version.as_str().into();
                }
                value
            }
            IgluError::InvalidSchema { schema_issues } => {
                let issues: Value = schema_issues
                    .iter()
                    .map(|issue| json!({"path": issue.path, "message": issue.message}))
                    .collect();
                json!({"error": "ValidationError", "schemaIssues": issues})
            }
        }
    }
}

impl Lookup {
    pub(crate) fn to_value(&self, at: &str) -> Value {
        let error = |error: &LookupError| match &error.message {
            None => json!({"error": error.error}),
            Some(message) => json!({"error": error.error, "message": message}),
        };
        let errors: Value = self.errors.iter().map(error).collect();
        json!({"repository": self.repository, "errors": errors, "attempts": self.attempts, "lastAttempt": at})
    }
}

impl DataReport {
    fn to_value(&self) -> Value {
        json!({"message": self.message, "path": self.path, "keyword": self.keyword, "targets": self.targets})
    }
}

impl RequestView {
    fn to_value(&self) -> Value {
        json!({
            "vendor": self.vendor,
            "version": self.version,
            "querystring": pairs(&self.querystring),
            "contentType": self.content_type,
            "body": self.body,
            "collector": self.collector,
            "encoding": self.encoding,
            "hostname": self.hostname,
            "timestamp": self.timestamp.map(Timestamp::to_iso),
            "ipAddress": self.ip_address,
            "useragent": self.useragent,
            "refererUri": self.referer_uri,
            "headers": self.headers,
            "networkUserId": self.network_userid,
        })
    }
}

impl EventView {
    fn to_value(&self) -> Value {
        let raw = &self.raw;
        let mut view = Map::new();
        view.insert("enriched".to_owned(), Value::Object(self.enriched.to_bad_row_json()));
        view.insert(
            "raw".to_owned(),
            json!({
                "vendor": raw.vendor,
                "version": raw.version,
                "parameters": pairs(&raw.parameters),
                "contentType": raw.content_type,
                "loaderName": raw.loader_name,
                "encoding": raw.encoding,
                "hostname": raw.hostname,
                "timestamp": raw.timestamp.map(Timestamp::to_iso),
                "ipAddress": raw.ip_address,
                "useragent": raw.useragent,
                "refererUri": raw.referer_uri,
                "headers": raw.headers,
                "userId": raw.userid,
            }),
        );
        Value::Object(view)
    }
}

fn pairs(pairs: &[(String, Option<String>)]) -> Value {
    pairs.iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(row: &BadRow, expect: &str) {
        let processor = Processor { artifact: "snowmelt-enrich".into(), version: "0.1.0".into() };
        assert_eq!(row.to_json(&processor, Timestamp(1_772_359_201_000)), expect);
    }

    #[test]
    fn a_format_violation_prints_in_the_published_order() {
        let row = BadRow::CollectorPayloadFormatViolation {
            message: FormatMessage::InputData {
                payload_field: "path".into(),
                value: None,
                expectation: "request does not contain a path".into(),
            },
            payload_base64: "CwBk".into(),
        };
        check(
            &row,
            r#"{"schema":"iglu:com.snowplowanalytics.snowplow.badrows/collector_payload_format_violation/jsonschema/1-0-0","data":{"processor":{"artifact":"snowmelt-enrich","version":"0.1.0"},"failure":{"timestamp":"2026-03-01T10:00:01.000Z","loader":"thrift","message":{"payloadField":"path","value":null,"expectation":"request does not contain a path"}},"payload":"CwBk"}}"#,
        );
    }

    #[test]
    fn a_lookup_carries_the_failure_time() {
        let lookup = Lookup {
            repository: "r".into(),
            errors: vec![LookupError { error: "NotFound".into(), message: None }],
            attempts: 1,
        };
        let error = IgluError::Resolution { lookup_history: vec![lookup] };
        assert_eq!(
            error.to_value("T").to_string(),
            r#"{"error":"ResolutionError","lookupHistory":[{"repository":"r","errors":[{"error":"NotFound"}],"attempts":1,"lastAttempt":"T"}]}"#
        );
    }

    #[test]
    fn an_event_in_a_bad_row_shows_all_columns_and_what_was_sent() {
        let row = BadRow::SchemaViolations {
            messages: vec![FailureMessage::NotJson {
                field: "unstruct".into(),
                value: Some("{".into()),
                error: "e".into(),
            }],
            payload: Box::new(EventView {
                enriched: EnrichedEvent::default(),
                raw: RawEventView {
                    parameters: vec![("e".into(), Some("ue".into())), ("x".into(), None)],
                    ..Default::default()
                },
            }),
        };
        let json: Value =
            serde_json::from_str(&row.to_json(
                &Processor { artifact: "a".into(), version: "1.0.0".into() },
                Timestamp(0),
            ))
            .unwrap();
        assert_eq!(json["data"]["payload"]["enriched"].as_object().unwrap().len(), 131);
        assert_eq!(
            json["data"]["payload"]["raw"]["parameters"].to_string(),
            r#"[{"name":"e","value":"ue"},{"name":"x","value":null}]"#
        );
    }
}
