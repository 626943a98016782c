//! A valid envelope of the second tracker protocol, read straight into parameters.
//!
//! Nearly every request carries one, and to build a JSON document of it, check that against its schema and take it apart
//! again is a third of what enriching costs. Here the same schema is checked on the way: an envelope of an embedded
//! version, all values texts, all names known, none of the required ones missing. Whatever is otherwise is not judged
//! here: `tracker_post` reads it again and finds the words.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use crate::iglu::Schemas;
use crate::querystring::Pair;

/// The levels of an envelope: itself, the list, an event, a value.
const DEPTH: u32 = 4;

/// The events of an envelope, in order; `None` if there is anything to say against it.
pub(super) fn read(body: &str, json_depth_max: u32) -> Option<Vec<Vec<Pair>>> {
    if json_depth_max < DEPTH {
        return None;
    }
    let envelope: Envelope<'_> = serde_json::from_str(body).ok()?;
    let names = VERSIONS.get(&*envelope.schema)?;
    let is_valid = |event: &Event| names.allow(&event.0);
    if envelope.data.is_empty() || !envelope.data.iter().all(is_valid) {
        return None;
    }
    Some(envelope.data.into_iter().map(|event| event.0).collect())
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    #[serde(borrow)]
    schema: Cow<'a, str>,
    data: Vec<Event>,
}

/// Names and values as they came. Of equal names the last one counts.
struct Event(Vec<Pair>);

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Event, D::Error> {
        deserializer.deserialize_map(Pairs)
    }
}

struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = Event;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Event, A::Error> {
        // A page view of the browser tracker has some 25.
        let mut pairs = Vec::with_capacity(32);
        while let Some((name, value)) = object.next_entry::<String, String>()? {
            pairs.push((name, Some(value)));
        }
        Ok(Event(pairs))
    }
}

/// What an embedded version of the envelope's schema says of an event.
struct Names {
    /// Sorted.
    known: Vec<String>,
    required: Vec<String>,
}

impl Names {
    fn allow(&self, event: &[Pair]) -> bool {
        let is_known = |name: &String| self.known.binary_search(name).is_ok();
        let has = |required: &String| event.iter().any(|(name, _)| name == required);
        event.iter().all(|(name, _)| is_known(name)) && self.required.iter().all(has)
    }
}

/// By the text of the schema's key. Only of schemas that ask for nothing else than is checked here.
static VERSIONS: LazyLock<BTreeMap<String, Names>> = LazyLock::new(|| {
    let schemas = Schemas::embedded();
    let envelopes = Schemas::embedded_keys()
        .filter(|key| key.vendor() == crate::path::SNOWPLOW && key.name() == "payload_data");
    envelopes.filter_map(|key| Some((key.to_string(), names(schemas.find(key)?)?))).collect()
});

fn names(schema: &serde_json::Value) -> Option<Names> {
    let items = schema.get("items")?;
    let properties = items.get("properties")?.as_object()?;
    let text = serde_json::json!({"type": "string"});
    let is_plain = properties.values().all(|property| *property == text)
        && items.get("additionalProperties") == Some(&false.into())
        && schema.get("$supersededBy").is_none();
    let mut known: Vec<String> = properties.keys().cloned().collect();
    known.sort();
    let required = items.get("required")?.as_array()?.iter();
    let required = required.map(|name| name.as_str().map(str::to_owned)).collect::<Option<_>>()?;
    is_plain.then_some(Names { known, required })
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
            let pair = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
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
