//! One fact as bytes: what the registries answered about one key. See `docs/formats/facts.md`.
//!
//! Four lines of valid JSON: the format, a checksum over the body, the body, the end. Schemas keep their order of keys
//! and the spelling of their numbers. Where facts lie, and when they are written, is in [`crate::facts`].

use enrich::iglu::Answer;
use model::bad_row::{Lookup, LookupError};
use model::iglu::{SchemaKey, Version};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The newest version of the format.
pub(crate) const FORMAT: u64 = 1;

/// How a fact's bytes can be wrong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Written by a later release.
    Newer(u64),
    /// What is wrong.
    Damaged(String),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Body {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<Found>,
    #[serde(skip_serializing_if = "Option::is_none")]
    absent: Option<Vec<Absence>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Found {
    repository: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    superseded_by: Option<String>,
    schema: Value,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Absence {
    repository: String,
    error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// The bytes of a fact.
pub(crate) fn encode(key: &SchemaKey, answer: &Answer) -> String {
    let found = answer.schema().map(|(repository, schema, superseded_by)| Found {
        repository: repository.to_owned(),
        superseded_by: superseded_by.map(|version| version.to_string()),
        schema: schema.clone(),
    });
    let absent = answer.absence().map(|lookups| {
        let errors = lookups.iter().flat_map(|lookup| {
            lookup.errors.iter().map(|error| (lookup.repository.clone(), error.clone()))
        });
        let absence =
            |(repository, LookupError { error, message })| Absence { repository, error, message };
        errors.map(absence).collect()
    });
    let body = Body { key: key.to_string(), found, absent };
    frame(&serde_json::to_string(&body).expect("texts and JSON values print"))
}

/// The four lines around a body.
pub(crate) fn frame(body: &str) -> String {
    format!("{{\"format\":{FORMAT},\n\"sha256\":\"{}\",\n\"fact\":{body}\n}}\n", sha256(body))
}

/// The body inside of the four lines, as it was written.
pub(crate) fn body_of(bytes: &[u8]) -> Result<&str, Broken> {
    let damaged = |what: &str| Broken::Damaged(what.to_owned());
    let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is not text"))?;
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let format = line().strip_prefix("{\"format\":").and_then(|rest| rest.strip_suffix(','));
    match format.and_then(|number| number.parse::<u64>().ok()) {
        Some(FORMAT) => {}
        Some(newer) if newer > FORMAT => return Err(Broken::Newer(newer)),
        _ => return Err(damaged("it does not begin as a fact")),
    }
    let sum = line().strip_prefix("\"sha256\":\"").and_then(|rest| rest.strip_suffix("\","));
    let body = line().strip_prefix("\"fact\":").ok_or_else(|| damaged("it has no body"))?;
    if (lines.next(), lines.next(), lines.next()) != (Some("}"), Some(""), None) {
        return Err(damaged("it does not end as a fact"));
    }
    if sum != Some(sha256(body).as_str()) {
        return Err(damaged("its checksum differs"));
    }
    Ok(body)
}

/// The answer in the bytes of the fact about `key`.
pub(crate) fn decode(bytes: &[u8], key: &SchemaKey) -> Result<Answer, Broken> {
    let damaged = |what: &str| Broken::Damaged(what.to_owned());
    let body: Body = serde_json::from_str(body_of(bytes)?)
        .map_err(|error| Broken::Damaged(error.to_string()))?;
    if body.key != key.as_str() {
        return Err(Broken::Damaged(format!("it is about {}", body.key)));
    }
    match (body.found, body.absent) {
        (Some(found), None) => {
            let version = found.superseded_by.as_deref().map(Version::parse).transpose();
            let version = version.map_err(|error| Broken::Damaged(error.to_string()))?;
            Ok(Answer::found(key, found.repository, found.schema, version))
        }
        (None, Some(absences)) => Ok(Answer::absent(
            absences
                .into_iter()
                .map(|Absence { repository, error, message }| Lookup {
                    repository,
                    errors: vec![LookupError { error, message }],
                    attempts: 1,
                })
                .collect(),
        )),
        _ => Err(damaged("it holds not one answer")),
    }
}

pub(crate) fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::key;

    fn answers() -> Vec<Answer> {
        // Numbers that a float cannot hold must come back as they were written.
        let schema: Value =
            serde_json::from_str(r#"{"z": 1.0, "a": 123456789012345678901234567890}"#).unwrap();
        let a = key("a/jsonschema/1-0-0");
        let lookup = |repository: &str, error: &str, message: Option<&str>| Lookup {
            repository: repository.to_owned(),
            errors: vec![LookupError {
                error: error.to_owned(),
                message: message.map(str::to_owned),
            }],
            attempts: 1,
        };
        vec![
            Answer::found(&a, "Acme \"2\"\n".to_owned(), schema.clone(), None),
            Answer::found(&a, "Acme".to_owned(), schema, Some("1-0-2".parse().unwrap())),
            Answer::absent(vec![]),
            Answer::absent(vec![
                lookup("Acme", "NotFound", None),
                lookup("Other", "ClientFailure", Some("status 403")),
            ]),
        ]
    }

    #[test]
    fn a_fact_reads_back() {
        let a = key("a/jsonschema/1-0-0");
        for answer in answers() {
            let text = encode(&a, &answer);
            let read = decode(text.as_bytes(), &a).unwrap();
            assert_eq!(encode(&a, &read), text);
            assert_eq!(read.absence(), answer.absence());
            assert_eq!(
                read.schema().map(|(_, schema, _)| schema.to_string()),
                answer.schema().map(|(_, schema, _)| schema.to_string())
            );
            assert!(serde_json::from_str::<Value>(&text).is_ok(), "{text}");
            assert_eq!(text.lines().count(), 4);
        }
    }

    #[test]
    fn any_changed_or_missing_byte_is_seen() {
        let a = key("a/jsonschema/1-0-0");
        for answer in answers() {
            let text = encode(&a, &answer).into_bytes();
            for at in 0..text.len() {
                let mut changed = text.clone();
                changed[at] ^= 1;
                assert!(decode(&changed, &a).is_err(), "byte {at}");
                assert!(decode(&text[..at], &a).is_err(), "cut at {at}");
            }
        }
    }

    #[test]
    fn a_fact_of_another_key_or_a_later_format_is_refused() {
        let (a, b) = (key("a/jsonschema/1-0-0"), key("b/jsonschema/1-0-0"));
        let text = encode(&a, &Answer::absent(vec![]));
        assert!(
            matches!(decode(text.as_bytes(), &b), Err(Broken::Damaged(what)) if what.contains(a.as_str()))
        );
        let newer = text.replacen("\"format\":1", "\"format\":2", 1);
        assert_eq!(decode(newer.as_bytes(), &a).unwrap_err(), Broken::Newer(2));
    }

    /// Every released format stays readable.
    #[test]
    fn facts_of_format_1_are_read() {
        let a = key("a/jsonschema/1-0-0");
        let text = concat!(
            "{\"format\":1,\n",
            "\"sha256\":\"6fad84d25cd5d26941ad8325edd222deeb1fbcd0b869353c99a21f41dc9adff6\",\n",
            "\"fact\":{\"key\":\"iglu:com.acme/a/jsonschema/1-0-0\",\"absent\":[{\"repository\":\"Acme\",\"error\":\"NotFound\"}]}\n",
            "}\n"
        );
        let answer = decode(text.as_bytes(), &a).unwrap();
        assert_eq!(answer.absence().unwrap()[0].repository, "Acme");
    }
}
