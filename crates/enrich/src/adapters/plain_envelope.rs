//! A valid envelope of the second tracker protocol, read straight into parameters.
//!
//! Nearly every request carries one, and to build a JSON document of it, check that against its schema and take it apart
//! again is a third of what enriching costs. Here the same schema is checked on the way: an envelope of an embedded
//! version, all values texts, all names known, none of the required ones missing. Whatever is otherwise is not judged
//! here: `tracker_post` reads it again and finds the words.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::iglu::Schemas;
use crate::names::Names;
use crate::querystring::Pair;
use crate::tape::{Item, Kind, Tape};

/// The events of an envelope, in order; `None` if there is anything to say against it.
pub(super) fn read(body: &str, json_depth_max: u32) -> Option<Vec<Vec<Pair<'_>>>> {
    let tape = Tape::read(body, json_depth_max)?;
    let (mut schema, mut data) = (None, None);
    for (key, value) in tape.root().entries() {
        let place = match key.raw() {
            "schema" => &mut schema,
            "data" => &mut data,
            _ => return None,
        };
        if place.replace(value).is_some() {
            return None;
        }
    }
    let version = VERSIONS.get(&*schema?.text()?)?;
    let events: Vec<_> = data?.items().map(|event| version.read(event)).collect::<Option<_>>()?;
    (!events.is_empty()).then_some(events)
}

/// What an embedded version of the envelope's schema says of an event.
struct Version {
    /// The required names come first.
    names: Names,
    required: usize,
}

impl Version {
    /// Names and values as they came: of equal names the last one counts.
    fn read<'t>(&self, event: Item<'_, 't>) -> Option<Vec<Pair<'t>>> {
        if event.kind() != Kind::Object {
            return None;
        }
        // A page view of the browser tracker has some 25.
        let mut pairs = Vec::with_capacity(32);
        let mut seen = 0u64;
        for (key, value) in event.entries() {
            let name = key.raw();
            let place = self.names.place(name)?;
            if place < self.required {
                seen |= 1 << place;
            }
            pairs.push((name.into(), Some(value.text()?)));
        }
        (seen.count_ones() as usize == self.required).then_some(pairs)
    }
}

/// By the text of the schema's key. Only of schemas that ask for nothing else than is checked here.
static VERSIONS: LazyLock<BTreeMap<String, Version>> = LazyLock::new(|| {
    let schemas = Schemas::embedded();
    let envelopes = Schemas::embedded_keys()
        .filter(|key| key.vendor() == crate::path::SNOWPLOW && key.name() == "payload_data");
    envelopes.filter_map(|key| Some((key.to_string(), version(schemas.find(key)?)?))).collect()
});

fn version(schema: &serde_json::Value) -> Option<Version> {
    let items = schema.get("items")?;
    let properties = items.get("properties")?.as_object()?;
    let text = serde_json::json!({"type": "string"});
    let is_plain = properties.values().all(|property| *property == text)
        && items.get("additionalProperties") == Some(&false.into())
        && schema.get("$supersededBy").is_none();
    let required = items.get("required")?.as_array()?.iter();
    let required: Vec<&str> = required.map(|name| name.as_str()).collect::<Option<_>>()?;
    let others = properties.keys().map(String::as_str).filter(|name| !required.contains(name));
    let names = Names::new(required.iter().copied().chain(others));
    (is_plain && required.len() < 64).then_some(Version { names, required: required.len() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn envelope(version: &str, data: serde_json::Value) -> String {
        let schema =
            format!("iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/{version}");
        json!({"schema": schema, "data": data}).to_string()
    }

    #[test]
    fn every_embedded_version_is_read() {
        assert_eq!(VERSIONS.len(), 5);
        for version in ["1-0-0", "1-0-1", "1-0-2", "1-0-3", "1-0-4"] {
            let body = envelope(version, json!([{"e": "pv", "p": "web", "tv": "js-4"}]));
            let pair = |name: &'static str, value: &'static str| (name.into(), Some(value.into()));
            let expected = vec![pair("e", "pv"), pair("p", "web"), pair("tv", "js-4")];
            assert_eq!(read(&body, 50), Some(vec![expected]), "{version}");
        }
    }

    #[test]
    fn whatever_is_otherwise_is_left_to_the_long_way() {
        let good = json!({"e": "pv", "p": "web", "tv": "js-4"});
        for data in [
            json!([]),
            json!({}),
            json!(["text"]),
            json!([{"e": "pv", "p": "web"}]),
            json!([{"e": "pv", "p": "web", "tv": 4}]),
            json!([{"e": "pv", "p": "web", "tv": null}]),
            json!([good, {"e": "pv", "p": "web", "tv": "js-4", "unknown": "x"}]),
        ] {
            assert_eq!(read(&envelope("1-0-4", data.clone()), 50), None, "{data}");
        }
        // A parameter of a later version.
        let later = json!([{"e": "pv", "p": "web", "tv": "js-4", "ttm": "1"}]);
        assert!(read(&envelope("1-0-4", later.clone()), 50).is_some());
        assert!(read(&envelope("1-0-3", later), 50).is_none());
        let body = envelope("1-0-4", json!([good]));
        assert!(read(&body, 4).is_some());
        assert!(read(&body, 3).is_none());
        assert!(read(&body.replacen('{', r#"{"more":1,"#, 1), 50).is_none());
        assert!(read(&body.replace("1-0-4", "1-0-9"), 50).is_none());
        assert!(read(&body.replace("js-4", r"\ud83d"), 50).is_none());
    }
}
