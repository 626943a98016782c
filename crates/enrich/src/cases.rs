//! Data-driven tests of the single rules: one JSON object per line, `{"fn", "in", "out"}` or `{"fn", "in", "err"}`.
//!
//! Our own vectors (`testdata/enrich/rules.jsonl`) always run. The acceptance vectors run where the specification's
//! folder lies beside the checkout or is named by `SHARED_FIXTURES`. A new rule is one arm in [`run`].

use std::path::{Path, PathBuf};

use model::bad_row::EnrichmentError;
use model::iglu::SchemaKey;
use model::sdk::{self, Place};
use model::time::Timestamp;
use serde_json::{Value, json};

use crate::charset::Charset;
use crate::uri::Uri;
use crate::{base64_lenient, client_ip, convert, enrichments, path, querystring};

/// Rules in the acceptance vectors that are not the enrich function's, or not of this build.
const NOT_FOR_THIS_BUILD: &[(&str, &str)] = &[(
    "fingerprint",
    "the event fingerprint is an optional enrichment, which this build has none of",
)];

/// What a rule gives, in the form of the vectors.
type Answer = Result<Value, Value>;

fn run(rule: &str, input: &Value) -> Option<Answer> {
    let text = input.as_str().unwrap_or_default();
    let answer = match rule {
        "tsv_safe" => Ok(json!(convert::tsv_safe(text))),
        "int32" => converted(convert::int32(text)),
        "decimal" => converted(convert::decimal(text).map(|d| d.map(|d| d.as_str().to_owned()))),
        "bit" => converted(convert::bit(text).map(|bit| bit.map(i32::from))),
        "uuid_strict" => converted(convert::uuid_strict(text)),
        "uuid_lenient" => {
            model::uuid::lenient(text).map(Value::from).ok_or_else(|| json!("not valid UUID"))
        }
        "epoch_ms" => converted(convert::epoch_ms(text).map(|at| at.map(Timestamp::to_tsv))),
        "wxh" => converted(convert::width_and_height(text).map(|(w, h)| Some(json!([w, h])))),
        "event_type" => converted(convert::event_type(text)),
        "platform" => converted(convert::platform(text)),
        "user_agent" => Ok(json!(convert::user_agent(text))),
        "base64_lenient" => Ok(base64_lenient::decode(text).into()),
        "cut_ip" => Ok(json!(convert::tsv_safe(client_ip::cut(text)))),
        "client_ip" => {
            let headers: Vec<String> = serde_json::from_value(input["headers"].clone()).unwrap();
            let collector_ip = input["ipAddress"].as_str().unwrap();
            let forwarded_must_be_last = input["forwardedMustBeLast"].as_bool().unwrap_or(true);
            Ok(client_ip::client_ip(&headers, collector_ip, forwarded_must_be_last).into())
        }
        "path" => match path::vendor_and_version(text) {
            Some((vendor, version)) => Ok(json!([vendor, version])),
            None => Err(path::EXPECTATION.into()),
        },
        "querystring_utf8" => querystring_pairs(input.as_str(), "UTF-8"),
        "querystring_latin1" => querystring_pairs(input.as_str(), "ISO-8859-1"),
        "uri_parts" => uri_parts(text),
        "derived_tstamp" => {
            let at = |name: &str| input[name].as_str().and_then(Timestamp::from_tsv);
            let derived =
                enrichments::derive_tstamp(at("created"), at("sent"), at("collector"), at("true"));
            Ok(json!(derived.map(Timestamp::to_tsv)))
        }
        "cross_domain" => cross_domain(text),
        "schema_key" => match SchemaKey::parse(text) {
            Ok(key) => Ok(json!({
                "vendor": key.vendor(), "name": key.name(), "format": key.format(),
                "version": key.version().to_string(),
            })),
            Err(error) => Err(error.code().into()),
        },
        "sdk_key" => Ok(sdk_key(input).into()),
        _ => return None,
    };
    Some(answer)
}

fn converted<T: Into<Value>, I: IntoIterator<Item = T>>(result: Result<I, String>) -> Answer {
    result
        .map(|value| value.into_iter().next().map_or(Value::Null, Into::into))
        .map_err(Value::from)
}

fn querystring_pairs(text: Option<&str>, encoding: &str) -> Answer {
    let charset = Charset::of_name(encoding).unwrap();
    let Some(text) = text else { return Ok(json!([])) };
    let shown =
        |pairs: Vec<_>| json!(pairs.into_iter().map(querystring::owned).collect::<Vec<_>>());
    querystring::parse(text, charset).map(shown).map_err(|cause| {
        json!(format!(
            "could not extract name-value pairs from querystring with encoding {encoding}: {cause}"
        ))
    })
}

fn uri_parts(text: &str) -> Answer {
    let uri = Uri::parse(text)?;
    let cell = |part: Option<&str>| part.and_then(convert::tsv_safe);
    Ok(json!({
        "printed": uri.printed(), "scheme": cell(uri.scheme()), "host": cell(uri.host()), "port": uri.port(),
        "path": cell(uri.path()), "query": cell(uri.query()), "fragment": cell(uri.fragment()),
    }))
}

fn cross_domain(text: &str) -> Answer {
    match enrichments::split_cross_domain(text) {
        Ok(None) => Ok(json!({})),
        Ok(Some(link)) => Ok(json!({
            "domain_user_id": link.domain_userid, "timestamp": link.timestamp.map(Timestamp::to_tsv),
            "session_id": link.session_id, "user_id": link.user_id, "source_id": link.source_id,
            "source_platform": link.source_platform, "reason": link.reason,
        })),
        Err(EnrichmentError::InputData { field, value, expectation }) => {
            Err(json!({"field": field, "value": value, "expectation": expectation}))
        }
        Err(other) => panic!("{other:?}"),
    }
}

/// The key of a schema's family in the flat JSON of the analytics SDK.
fn sdk_key(input: &Value) -> String {
    let place = match input[0].as_str() {
        Some("unstruct_event") => Place::UnstructEvent,
        _ => Place::Contexts,
    };
    let text = |at: usize| input[at].as_str().unwrap();
    let uri = format!("iglu:{}/{}/jsonschema/{}-0-0", text(1), text(2), input[3]);
    sdk::key(place, &SchemaKey::parse(&uri).unwrap())
}

fn is_as_expected(answer: &Answer, case: &Value) -> bool {
    match (answer, case.get("err")) {
        (Ok(value), None) => *value == case["out"],
        (Err(error), Some(expected)) => {
            match expected.as_str().and_then(|e| e.strip_prefix("starts with: ")) {
                Some(start) => error.as_str().is_some_and(|error| error.starts_with(start)),
                None => error == expected,
            }
        }
        _ => false,
    }
}

/// Runs a file of cases; gives the number of those that ran and of those left to later builds.
fn check(file: &Path) -> (usize, usize) {
    let (mut ran, mut left, mut wrong) = (0, 0, Vec::new());
    for line in std::fs::read_to_string(file).unwrap().lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let rule = case["fn"].as_str().unwrap();
        if NOT_FOR_THIS_BUILD.iter().any(|(name, _)| *name == rule) {
            left += 1;
            continue;
        }
        let answer = run(rule, &case["in"]).unwrap_or_else(|| panic!("no rule is named {rule}"));
        ran += 1;
        if !is_as_expected(&answer, &case) {
            wrong.push(format!("{line}\n    got {answer:?}"));
        }
    }
    println!(
        "{}: {} of {ran} pass, {left} are not for this build",
        file.display(),
        ran - wrong.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    (ran, left)
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn our_own_vectors_of_the_rules_hold() {
    let (ran, left) = check(&repository().join("testdata/enrich/rules.jsonl"));
    assert!(ran >= 40 && left == 0);
}

#[test]
fn the_acceptance_vectors_of_the_rules_hold() {
    let shared = std::env::var_os("SHARED_FIXTURES")
        .map_or_else(|| repository().join("../shared"), PathBuf::from);
    let file = shared.join("fixtures/enrich-core/unit-cases.jsonl");
    if !file.exists() {
        println!("{} is not here: our own vectors alone were run", file.display());
        return;
    }
    check(&file);
}
