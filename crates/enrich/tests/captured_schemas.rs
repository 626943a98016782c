//! The embedded schemas against what trackers send: our own samples always, and every self-describing JSON in the
//! recorded tracker requests where the folder with the fixtures lies beside the checkout or is named by
//! `SHARED_FIXTURES`.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops at what it does not expect, also in its helpers"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use enrich::iglu::Schemas;
use model::iglu::{SchemaKey, SelfDescribing};
use serde_json::{Value, json};

/// Schemas that the recorded requests name and that are nobody's but their vendor's.
fn is_not_embedded(key: &SchemaKey) -> bool {
    matches!(key.vendor(), "com.acme" | "com.dbt")
}

/// What is wrong in the recorded requests: (part of the file's path, name of the schema, files).
const INVALID: &[(&str, &str, usize)] = &[
    // Items of an order given where entities belong; the fixtures' README calls it malformed.
    ("node-snowplow-tracker-0.4.4/", "contexts", 1),
    // With cookies and storage off the tracker sends an empty `userId`, which the published schema's pattern refuses.
    ("stateless.", "client_session", 2),
];

#[test]
fn samples_of_our_own_obey_their_schemas() {
    let session = json!({
        "userId": "6b0f3c1e-9a2d-4f57-8c11-3f2a9d7e5b60", "sessionId": "0d8f1a52-7f44-4f0e-9a35-6f1d2c3b4a59",
        "sessionIndex": 3, "previousSessionId": null, "storageMechanism": "COOKIE_1", "eventIndex": 7
    });
    let mut anonymous = session.clone();
    anonymous["userId"] = json!("");
    let snowplow = "com.snowplowanalytics.snowplow";
    let cases = [
        (
            format!("{snowplow}/web_page/jsonschema/1-0-0"),
            json!({"id": "6b0f3c1e-9a2d-4f57-8c11-3f2a9d7e5b60"}),
            true,
        ),
        (format!("{snowplow}/web_page/jsonschema/1-0-0"), json!({"id": 1}), false),
        (
            format!("{snowplow}/link_click/jsonschema/1-0-1"),
            json!({"targetUrl": "https://shop.example.test/"}),
            true,
        ),
        (
            format!("{snowplow}/link_click/jsonschema/1-0-1"),
            json!({"targetUrl": "x", "colour": "red"}),
            false,
        ),
        (format!("{snowplow}/client_session/jsonschema/1-0-2"), session, true),
        (format!("{snowplow}/client_session/jsonschema/1-0-2"), anonymous, false),
        (
            format!("{snowplow}/add_to_cart/jsonschema/1-0-0"),
            json!({"sku": "A1", "quantity": 2, "unitPrice": 9.5, "currency": "EUR"}),
            true,
        ),
        (
            "com.snowplowanalytics.mobile/screen_view/jsonschema/1-0-0".to_owned(),
            json!({"name": "Basket", "id": "6b0f3c1e-9a2d-4f57-8c11-3f2a9d7e5b60"}),
            true,
        ),
        (
            "org.ietf/http_client_hints/jsonschema/1-0-0".to_owned(),
            json!({"isMobile": false, "brands": [{"brand": "Chromium", "version": "156"}]}),
            true,
        ),
        (
            "com.snowplowanalytics.iglu/validation_info/jsonschema/1-0-0".to_owned(),
            json!({"originalSchema": "iglu:org.example/a/jsonschema/1-0-0", "validatedWith": "1-0-2"}),
            true,
        ),
    ];
    for (path, data, valid) in cases {
        let key = SchemaKey::parse(&format!("iglu:{path}")).unwrap();
        let answer = Schemas::embedded().validate(&key, &data).unwrap();
        assert_eq!(answer.is_ok(), valid, "{key}: {answer:?}");
    }
}

#[test]
fn recorded_requests_obey_the_embedded_schemas_but_for_the_known_ones() {
    let Some(captures) = captures() else {
        return;
    };
    let schemas = Schemas::embedded();
    let (mut valid, mut not_embedded) = (BTreeMap::new(), 0);
    let mut invalid = Vec::new();
    for file in files(&captures) {
        for SelfDescribing { schema, data } in described(&file) {
            if is_not_embedded(&schema) {
                assert!(schemas.find(&schema).is_none(), "{schema} is embedded");
                not_embedded += 1;
                continue;
            }
            assert!(
                schemas.find(&schema).is_some(),
                "{schema} of {} is not embedded",
                file.display()
            );
            match schemas.validate(&schema, &data).unwrap() {
                Ok(_) => *valid.entry(schema).or_insert(0) += 1,
                Err(error) => invalid.push((file.display().to_string(), schema, error)),
            }
        }
    }
    let count: usize = valid.values().sum();
    println!(
        "{count} valid, of {} schemas; {} invalid; {not_embedded} not embedded",
        valid.len(),
        invalid.len()
    );
    for (part, name, expected) in INVALID {
        let before = invalid.len();
        invalid.retain(|(file, schema, _)| !(file.contains(part) && schema.name() == *name));
        assert_eq!(before - invalid.len(), *expected, "{part} {name}");
    }
    assert!(invalid.is_empty(), "{invalid:#?}");
    assert!(count > 300, "{count} is too few: are the requests read right?");
}

fn captures() -> Option<PathBuf> {
    let shared = match std::env::var_os("SHARED_FIXTURES") {
        Some(shared) => PathBuf::from(shared),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
    };
    let captures = shared.join("fixtures/tracker-captures");
    captures.is_dir().then_some(captures)
}

fn files(captures: &Path) -> Vec<PathBuf> {
    let entries = |dir: &Path| {
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    };
    let mut files: Vec<_> = entries(captures)
        .into_iter()
        .filter(|path| path.is_dir())
        .flat_map(|dir| entries(&dir))
        .collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "http"));
    files.sort();
    files
}

/// Every self-describing JSON in a request, wrappers and what they wrap.
fn described(file: &Path) -> Vec<SelfDescribing> {
    let request = fs::read(file).unwrap();
    let head_end = request.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    let head = std::str::from_utf8(&request[..head_end]).unwrap();
    let body = &request[head_end + 4..];
    let line = head.lines().next().unwrap();
    let (method, target) = line.split_once(' ').unwrap();
    let target = target.rsplit_once(' ').unwrap().0;
    let mut found = Vec::new();
    match method {
        "GET" => {
            let query = target.split_once('?').map_or("", |(_, query)| query);
            for pair in query.split('&') {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                parameter(name, &percent_decode(value), &mut found);
            }
        }
        "POST" => {
            let payload: Value = serde_json::from_slice(body).unwrap();
            for event in payload["data"].as_array().unwrap() {
                for (name, value) in event.as_object().unwrap() {
                    parameter(name, value.as_str().unwrap(), &mut found);
                }
            }
            found.push(SelfDescribing::from_value(payload).unwrap());
        }
        // A preflight.
        _ => {}
    }
    found
}

fn parameter(name: &str, value: &str, into: &mut Vec<SelfDescribing>) {
    let json = match name {
        "ue_pr" | "co" => value.to_owned(),
        "ue_px" | "cx" => {
            let config = GeneralPurposeConfig::new()
                .with_decode_padding_mode(DecodePaddingMode::Indifferent);
            let engine = GeneralPurpose::new(&alphabet::URL_SAFE, config);
            let value = value.replace('+', "-").replace('/', "_");
            String::from_utf8(engine.decode(value).unwrap()).unwrap()
        }
        _ => return,
    };
    nested(serde_json::from_str(&json).unwrap(), into);
}

fn nested(value: Value, into: &mut Vec<SelfDescribing>) {
    let Ok(described) = SelfDescribing::from_value(value) else {
        return;
    };
    match &described.data {
        Value::Array(entities) => entities.iter().for_each(|entity| nested(entity.clone(), into)),
        event => nested(event.clone(), into),
    }
    into.push(described);
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut decoded, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        match bytes[at] {
            b'%' => {
                let escape = std::str::from_utf8(&bytes[at + 1..at + 3]).unwrap();
                decoded.push(u8::from_str_radix(escape, 16).unwrap());
                at += 3;
            }
            b'+' => {
                decoded.push(b' ');
                at += 1;
            }
            byte => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).unwrap()
}
