//! Entities from an HTTP API, asked with values of the event. Snowplow: `enrichments.md` 21.
//!
//! Here is only what can be said without asking: which request an event makes, and what becomes of the answer. The
//! asking, its bounds and its cache are in `assets`.

use std::collections::BTreeMap;

use model::bad_row::EnrichmentError;
use model::iglu::SchemaKey;
use serde::Deserialize;
use serde_json::Value;

use super::inputs::{self, Found, Source, cell_text};
use super::{Assets, Enrichment, Kind, Work, configured};
use crate::json_path::JsonPath;
use crate::look_up::{Cache, Holds, HttpRequest, Question, Request};

pub(super) const KIND: Kind = Kind {
    name: "api_request_enrichment_config",
    criterion: "iglu:com.snowplowanalytics.snowplow.enrichments/api_request_enrichment_config/jsonschema/1-0-*",
    schema: include_str!("api_request.schema.json"),
    identifier: "api-request",
    many: false,
    assets: configured::no_assets,
    build: |data, _: &Assets| {
        let read: Data = serde_json::from_value(data.clone()).map_err(|error| error.to_string())?;
        Ok(Box::new(ApiRequest::new(read.parameters)?))
    },
};

#[derive(Deserialize)]
struct Data {
    parameters: Parameters,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    inputs: Vec<Input>,
    api: Api,
    outputs: Vec<WrittenOutput>,
    cache: WrittenCache,
    ignore_on_error: Option<bool>,
}

#[derive(Deserialize)]
struct Input {
    key: String,
    #[serde(flatten)]
    value: inputs::Written,
}

#[derive(Deserialize)]
struct Api {
    http: Http,
}

#[derive(Deserialize)]
struct Http {
    method: String,
    uri: String,
    timeout: u32,
    authentication: Authentication,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authentication {
    http_basic: Option<Basic>,
}

#[derive(Deserialize)]
struct Basic {
    username: String,
    password: String,
}

#[derive(Deserialize)]
struct WrittenOutput {
    schema: String,
    json: WrittenPath,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenPath {
    json_path: String,
}

#[derive(Deserialize)]
struct WrittenCache {
    size: usize,
    ttl: u32,
}

struct ApiRequest {
    inputs: Vec<(String, Source)>,
    method: &'static str,
    uri: String,
    timeout_ms: u32,
    basic: Option<(String, String)>,
    outputs: Vec<(SchemaKey, JsonPath)>,
    cache: Cache,
    ignores_errors: bool,
}

impl ApiRequest {
    fn new(parameters: Parameters) -> Result<ApiRequest, String> {
        let Http { method, uri, timeout, authentication } = parameters.api.http;
        check_host(&uri)?;
        let inputs = parameters.inputs.into_iter().map(|Input { key, value }| {
            let source = value.source().map_err(|what| format!("input `{key}`: {what}"))?;
            Ok((key, source))
        });
        let outputs = parameters.outputs.into_iter().map(|output| {
            let schema = SchemaKey::parse(&output.schema);
            let schema = schema.map_err(|error| format!("output `{}`: {error}", output.schema))?;
            let path = output.json.json_path.parse::<JsonPath>();
            Ok((schema, path.map_err(|error| error.to_string())?))
        });
        Ok(ApiRequest {
            inputs: inputs.collect::<Result<_, String>>()?,
            method: match method.as_str() {
                "POST" => "POST",
                "PUT" => "PUT",
                _ => "GET",
            },
            uri,
            timeout_ms: timeout,
            basic: authentication.http_basic.map(|basic| (basic.username, basic.password)),
            outputs: outputs.collect::<Result<_, String>>()?,
            cache: Cache { size: parameters.cache.size, ttl_s: parameters.cache.ttl },
            ignores_errors: parameters.ignore_on_error.unwrap_or(false),
        })
    }

    /// The request of an event; none if it lacks a value, or the template names one that is no input.
    fn request(&self, work: &Work<'_>) -> Option<HttpRequest> {
        let mut values = BTreeMap::new();
        for (key, source) in &self.inputs {
            values.insert(key.as_str(), text(source.find(work)?));
        }
        let uri = filled(&self.uri, &values)?;
        let body = (self.method != "GET").then(|| {
            let texts = values.iter().map(|(key, text)| ((*key).to_owned(), text.clone().into()));
            Value::Object(texts.collect()).to_string()
        });
        let (timeout_ms, basic) = (self.timeout_ms, self.basic.clone());
        Some(HttpRequest { method: self.method, uri, secret: None, body, timeout_ms, basic })
    }

    /// The entities that an answer holds, all or none.
    fn entities(&self, answer: &Value) -> Result<Vec<(SchemaKey, Value)>, String> {
        let mut entities = Vec::with_capacity(self.outputs.len());
        for (schema, path) in &self.outputs {
            let data = match path.select(answer)[..] {
                [] => Value::Null,
                [one] => one.clone(),
                ref several => several.iter().map(|it| (*it).clone()).collect(),
            };
            if data.is_null() || data.as_array().is_some_and(Vec::is_empty) {
                return Err(format!("the answer holds nothing for {schema}"));
            }
            entities.push((schema.clone(), data));
        }
        Ok(entities)
    }
}

impl Enrichment for ApiRequest {
    fn run(&self, work: &mut Work<'_>) -> Result<(), Vec<EnrichmentError>> {
        let Some(request) = self.request(work) else { return Ok(()) };
        let request = Request::Http(request);
        let holds = Holds::ForTheRecord;
        let question = Question { enrichment: KIND.name, request, cache: self.cache, holds };
        let Some(answer) = work.look_ups.ask(question) else { return Ok(()) };
        let entities = answer.as_ref().map_err(String::clone).and_then(|it| self.entities(it));
        match entities {
            // The first of them stands before the others.
            Ok(entities) => {
                entities.into_iter().rev().for_each(|(key, data)| work.derive(key, data))
            }
            Err(_) if self.ignores_errors => {}
            Err(error) => return Err(vec![EnrichmentError::Simple { error }]),
        }
        Ok(())
    }
}

impl std::fmt::Debug for ApiRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The rest may hold secrets.
        f.write_str("ApiRequest")
    }
}

/// An event must not choose whom we ask.
fn check_host(uri: &str) -> Result<(), String> {
    let rest = uri.strip_prefix("http://").or_else(|| uri.strip_prefix("https://"));
    let rest =
        rest.ok_or_else(|| format!("`uri` {uri} does not begin with http:// or https://"))?;
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.contains(['{', '}']) {
        return Err("`uri`: an input cannot stand in the host".to_owned());
    }
    match host.is_empty() {
        true => Err(format!("`uri` {uri} names no host")),
        false => Ok(()),
    }
}

/// A value as the API gets it.
fn text(found: Found<'_>) -> String {
    let plain = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let joined = |values: &mut dyn Iterator<Item = &Value>| {
        let texts: Vec<String> = values.map(plain).collect();
        texts.join(",")
    };
    match found {
        Found::Cell(cell) => cell_text(cell),
        Found::Values(values) => match values[..] {
            [Value::Array(items)] => joined(&mut items.iter()),
            _ => joined(&mut values.into_iter()),
        },
    }
}

/// The template with form-encoded values in place of `{{key}}`; none if braces are left.
fn filled(template: &str, values: &BTreeMap<&str, String>) -> Option<String> {
    let mut uri = String::with_capacity(template.len() + 32);
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once("{{") {
        let (key, after) = behind.split_once("}}")?;
        uri.push_str(before);
        encode(values.get(key.trim())?, &mut uri);
        rest = after;
    }
    uri.push_str(rest);
    (!rest.contains("}}")).then_some(uri)
}

fn encode(text: &str, uri: &mut String) {
    use std::fmt::Write;
    for byte in text.bytes() {
        match byte {
            b' ' => uri.push('+'),
            b'*' | b'-' | b'.' | b'_' => uri.push(byte.into()),
            byte if byte.is_ascii_alphanumeric() => uri.push(byte.into()),
            // Writing to a String cannot fail.
            byte => _ = write!(uri, "%{byte:02X}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::trial::{self, Trial, contexts, entities};
    use super::super::{Assets, Config};
    use super::*;
    use crate::look_up::Answer;

    fn config(change: impl FnOnce(&mut Value)) -> Config {
        let mut parameters = json!({
            "inputs": [{"key": "uid", "pojo": {"field": "user_id"}}],
            "api": {"http": {"method": "GET", "uri": "https://crm.example/v1/users/{{uid}}?k=1", "timeout": 800, "authentication": {}}},
            "outputs": [{"schema": "iglu:com.acme/u/jsonschema/1-0-0", "json": {"jsonPath": "$.profile"}}],
            "cache": {"size": 5000, "ttl": 300},
        });
        change(&mut parameters);
        let schema = ".enrichments/api_request_enrichment_config/jsonschema/1-0-2";
        trial::config("api.json", schema, &parameters)
    }

    fn trial(change: impl FnOnce(&mut Value)) -> Trial {
        Trial::of(vec![config(change)])
    }

    /// The request of an event, if it makes one.
    fn asked(trial: &Trial, parameters: &[(&str, &str)]) -> Option<HttpRequest> {
        let missing = trial.try_outcomes(parameters).err()?;
        assert!(missing.schemas.is_empty() && missing.look_ups.len() == 1, "{missing:?}");
        match &missing.look_ups[0].request {
            Request::Http(request) => Some(request.clone()),
            other => panic!("{other:?}"),
        }
    }

    fn answered(trial: &mut Trial, answer: Answer) {
        let missing = trial.try_outcomes(&[("uid", "7")]).unwrap_err();
        trial.answers.insert(&missing.look_ups[0], answer);
    }

    #[test]
    fn values_of_the_event_go_into_the_request_encoded() {
        let plain = trial(|_| {});
        let request = asked(&plain, &[("uid", "a b/ž?&{{uid}}")]).unwrap();
        assert_eq!(
            request.uri,
            "https://crm.example/v1/users/a+b%2F%C5%BE%3F%26%7B%7Buid%7D%7D?k=1"
        );
        assert_eq!((request.method, request.body, request.timeout_ms), ("GET", None, 800));
        assert_eq!(asked(&plain, &[]), None, "no value, no request");
        let unknown = trial(|it| it["api"]["http"]["uri"] = json!("http://a.example/{{other}}"));
        assert_eq!(asked(&unknown, &[("uid", "7")]), None);
        let post = trial(|it| {
            it["api"]["http"]["method"] = json!("POST");
            it["api"]["http"]["uri"] = json!("http://a.example/{{ uid }}");
            it["api"]["http"]["authentication"] =
                json!({"httpBasic": {"username": "u", "password": "p"}});
        });
        let request = asked(&post, &[("uid", "7")]).unwrap();
        assert_eq!(
            (request.uri.as_str(), request.body.as_deref()),
            ("http://a.example/7", Some("{\"uid\":\"7\"}"))
        );
        assert_eq!(request.basic, Some(("u".to_owned(), "p".to_owned())));
    }

    #[test]
    fn json_inputs_are_texts() {
        let of = |data: Value, path: &str| {
            let trial = trial(|it| {
                it["inputs"] = json!([{"key": "uid", "json": {
                    "field": "contexts", "schemaCriterion": "iglu:com.acme/u/jsonschema/1-*-*", "jsonPath": path,
                }}]);
                it["api"]["http"]["method"] = json!("PUT");
            });
            let sent = contexts(&json!([
                {"schema": "iglu:com.acme/v/jsonschema/1-0-0", "data": {"a": "v"}},
                {"schema": "iglu:com.acme/u/jsonschema/1-0-0", "data": data},
                {"schema": "iglu:com.acme/u/jsonschema/1-0-0", "data": {"a": "second"}},
            ]));
            let body = asked(&trial, &[("co", &sent)]).unwrap().body.unwrap();
            let body: Value = serde_json::from_str(&body).unwrap();
            body["uid"].as_str().unwrap().to_owned()
        };
        for (data, path, expected) in [
            (json!({"a": "x"}), "$.a", "x"),
            (json!({"a": 1.50}), "$.a", "1.5"),
            (json!({"a": null}), "$.a", "null"),
            (json!({"a": {"b": 1}}), "$.a", "{\"b\":1}"),
            (json!({"a": ["x", 1]}), "$.a", "x,1"),
            (json!({"a": ["x", 1]}), "$.a[*]", "x,1"),
            (json!({"b": 1}), "$.a", ""),
        ] {
            assert_eq!(of(data, path), expected);
        }
        let trial = trial(|it| {
            it["inputs"] = json!([{"key": "uid", "json": {
                "field": "unstruct_event", "schemaCriterion": "iglu:com.acme/u/jsonschema/1-*-*", "jsonPath": "$",
            }}]);
        });
        assert_eq!(asked(&trial, &[]), None, "no such entity");
    }

    #[test]
    fn an_answer_becomes_entities_and_an_error_a_failure() {
        let mut good = trial(|it| {
            it["outputs"].as_array_mut().unwrap().push(
                json!({"schema": "iglu:com.acme/v/jsonschema/1-0-0", "json": {"jsonPath": "$.first"}}),
            );
        });
        answered(&mut good, Ok(json!({"profile": {"a": 1}, "first": {"b": 2}})));
        let event = good.event(&[("uid", "7")]);
        assert_eq!(
            entities(event.derived_contexts.as_deref()),
            [
                json!({"schema": "iglu:com.acme/u/jsonschema/1-0-0", "data": {"a": 1}}),
                json!({"schema": "iglu:com.acme/v/jsonschema/1-0-0", "data": {"b": 2}}),
            ]
        );
        for (answer, expected) in [
            (Err("Request failed with status 500".to_owned()), "Request failed with status 500"),
            (Ok(json!({"other": 1})), "the answer holds nothing for iglu:com.acme/u"),
            (Ok(json!({"profile": []})), "the answer holds nothing"),
        ] {
            let mut strict = trial(|_| {});
            answered(&mut strict, answer.clone());
            let failures = strict.failures(&[("uid", "7")]);
            assert!(failures[0].contains(expected), "{failures:?}");
            let mut lenient = trial(|it| it["ignoreOnError"] = json!(true));
            answered(&mut lenient, answer);
            assert_eq!(lenient.event(&[("uid", "7")]).derived_contexts, None);
        }
    }

    #[test]
    fn a_configuration_that_cannot_be_meant_is_refused() {
        let refused = |change: fn(&mut Value)| {
            let result = Trial::with_assets(vec![config(change)], &Assets::new());
            result.err().unwrap().to_string()
        };
        let uri = |uri: &'static str| {
            let mut it = config(|_| {});
            it.json["data"]["parameters"]["api"]["http"]["uri"] = json!(uri);
            Trial::with_assets(vec![it], &Assets::new()).err().unwrap().to_string()
        };
        assert!(uri("http://{{uid}}.example/").contains("cannot stand in the host"));
        assert!(uri("file:///etc/{{uid}}").contains("does not begin with"));
        assert!(uri("http:///a").contains("names no host"));
        assert!(
            refused(|it| it["inputs"][0]["pojo"]["field"] = json!("nothing"))
                .contains("no column `nothing`")
        );
        assert!(
            refused(|it| it["inputs"][0]["pojo"]["field"] = json!("contexts"))
                .contains("use `json`")
        );
        assert!(
            refused(|it| it["outputs"][0]["json"]["jsonPath"] = json!("$["))
                .contains("character 3")
        );
        assert!(refused(|it| it["outputs"] = json!([])).contains("outputs"));
    }
}
