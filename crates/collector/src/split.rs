//! Splits the body of a POST of many events into bodies of fewer. Pure text work; sizes and records are `sizes`'s.
//! Snowplow: `collector.md` 6.3.
//!
//! The body is looked at as text and never becomes a tree: a small body of nested nothings would take a hundred times
//! its size as one. Events keep their bytes but for white space, and for escapes that JSON does not need.

use crate::counters::Violation;
use model::iglu::SchemaKey;
use serde::de::IgnoredAny;
use std::ops::Range;

/// Why a body cannot be split, in the words of the bad row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unsplittable {
    #[error("GET requests cannot be split")]
    NoBody,
    #[error("cannot split POST requests which are not json {0}")]
    NotJson(String),
    #[error("cannot split POST requests which are not self-describing {0}")]
    NotSelfDescribing(&'static str),
    #[error("cannot split POST requests which do not contain a data array")]
    NoArray,
    #[error("cannot split this POST request because event without \"data\" field is still too big")]
    TooLargeAround,
}

impl Unsplittable {
    /// What it counts as.
    pub(crate) fn violation(&self) -> Violation {
        match self {
            Unsplittable::NoBody => Violation::NoBody,
            Unsplittable::NotJson(_) => Violation::NotJson,
            Unsplittable::NotSelfDescribing(_) => Violation::NotSelfDescribing,
            Unsplittable::NoArray => Violation::NoArray,
            Unsplittable::TooLargeAround => Violation::AroundEvents,
        }
    }
}

/// A body of many events.
#[derive(Debug)]
pub(crate) struct Events {
    /// The whole body without white space.
    compact: String,
    /// The value of `schema`, with its quotes.
    schema: Range<usize>,
    /// The value of `data`, with its brackets.
    data: Range<usize>,
    /// Each event of it.
    events: Vec<Range<usize>>,
}

impl Events {
    /// Reads a body.
    pub(crate) fn read(body: &str) -> Result<Events, Unsplittable> {
        // Checks the grammar without recursion and builds nothing; all that follows may rely on it.
        serde_json::from_str::<IgnoredAny>(body)
            .map_err(|error| Unsplittable::NotJson(error.to_string()))?;
        let compact = compact(body);
        let bytes = compact.as_bytes();
        if bytes.first() != Some(&b'{') {
            return Err(Unsplittable::NotSelfDescribing("it is no object"));
        }
        let (mut schema, mut data) = (None, None);
        for member in elements(bytes, 0..bytes.len()) {
            let key_end = value_end(bytes, member.start);
            let value = key_end + 1..member.end;
            match &compact[member.start..key_end] {
                "\"schema\"" => schema = Some(value),
                "\"data\"" => data = Some(value),
                _ => {}
            }
        }
        let schema = schema.ok_or(Unsplittable::NotSelfDescribing("it has no schema"))?;
        let data = data.ok_or(Unsplittable::NotSelfDescribing("it has no data"))?;
        let uri = serde_json::from_str::<String>(&compact[schema.clone()]);
        if !uri.is_ok_and(|uri| SchemaKey::parse(&uri).is_ok()) {
            return Err(Unsplittable::NotSelfDescribing("its schema is no Iglu URI"));
        }
        if bytes[data.start] != b'[' {
            return Err(Unsplittable::NoArray);
        }
        let events = elements(bytes, data.clone());
        Ok(Events { compact, schema, data, events })
    }

    /// The length of `data` in its compact form.
    pub(crate) fn data_bytes(&self) -> usize {
        self.data.len()
    }

    /// The length of a body without events.
    pub(crate) fn empty_body_bytes(&self) -> usize {
        BEGIN.len() + self.schema.len() + MIDDLE.len() + END.len()
    }

    /// The length of one event.
    pub(crate) fn size(&self, event: usize) -> usize {
        self.events[event].len()
    }

    /// The length of each event.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = usize> + '_ {
        self.events.iter().map(ExactSizeIterator::len)
    }

    /// A body with these events, in this order.
    pub(crate) fn body(&self, events: impl Iterator<Item = usize>) -> String {
        let mut body = String::with_capacity(self.empty_body_bytes());
        for text in [BEGIN, &self.compact[self.schema.clone()], MIDDLE] {
            body.push_str(text);
        }
        for (place, event) in events.enumerate() {
            if place > 0 {
                body.push(',');
            }
            body.push_str(&self.compact[self.events[event].clone()]);
        }
        body.push_str(END);
        body
    }
}

const BEGIN: &str = "{\"schema\":";
const MIDDLE: &str = ",\"data\":[";
const END: &str = "]}";

/// Which of the events go together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Packed {
    /// Events of one record each, in order.
    pub(crate) batches: Vec<Vec<usize>>,
    /// Events that are too large alone.
    pub(crate) too_large: Vec<usize>,
}

/// Fills batches one after the other. Each event costs its size and `join` bytes of the `budget` of a batch.
pub(crate) fn pack(sizes: impl Iterator<Item = usize>, budget: usize, join: usize) -> Packed {
    let mut packed = Packed::default();
    let mut used = budget;
    for (event, size) in sizes.enumerate() {
        let cost = size + join;
        if cost > budget {
            packed.too_large.push(event);
            continue;
        }
        if used + cost > budget {
            packed.batches.push(Vec::new());
            used = 0;
        }
        used += cost;
        if let Some(batch) = packed.batches.last_mut() {
            batch.push(event);
        }
    }
    packed
}

/// Valid JSON without white space, its texts with the escapes they need and no others.
fn compact(json: &str) -> String {
    let bytes = json.as_bytes();
    let mut compact = String::with_capacity(json.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b' ' | b'\t' | b'\r' | b'\n' => at += 1,
            b'"' => {
                let end = text_end(bytes, at);
                let text = &json[at..end];
                // Half a surrogate pair is no text: it stays as it is.
                match text.contains('\\').then(|| serde_json::from_str::<String>(text)) {
                    Some(Ok(decoded)) => {
                        compact.push_str(&serde_json::Value::from(decoded).to_string())
                    }
                    Some(Err(_)) | None => compact.push_str(text),
                }
                at = end;
            }
            _ => {
                let rest = &bytes[at..];
                let end = rest.iter().position(|byte| b" \t\r\n\"".contains(byte));
                let end = at + end.unwrap_or(rest.len());
                compact.push_str(&json[at..end]);
                at = end;
            }
        }
    }
    compact
}

/// The members of a compact object, or the elements of a compact array.
fn elements(bytes: &[u8], container: Range<usize>) -> Vec<Range<usize>> {
    let mut elements = Vec::new();
    let last = container.end - 1;
    let mut at = container.start + 1;
    while at < last {
        let start = at;
        at = value_end(bytes, at);
        if bytes[at] == b':' {
            at = value_end(bytes, at + 1);
        }
        elements.push(start..at);
        // Past the comma.
        at += 1;
    }
    elements
}

/// Where the value that begins here ends, in compact JSON.
fn value_end(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0;
    let mut at = start;
    loop {
        match bytes.get(at) {
            Some(b'"') => {
                at = text_end(bytes, at);
                if depth == 0 {
                    return at;
                }
                continue;
            }
            Some(b'{' | b'[') => depth += 1,
            Some(b'}' | b']') if depth <= 1 => return if depth == 1 { at + 1 } else { at },
            Some(b'}' | b']') => depth -= 1,
            Some(b',' | b':') if depth == 0 => return at,
            None => return at,
            Some(_) => {}
        }
        at += 1;
    }
}

/// Where the text that begins with this quote ends.
fn text_end(bytes: &[u8], quote: usize) -> usize {
    let mut at = quote + 1;
    while let Some(found) = memchr::memchr2(b'"', b'\\', &bytes[at..]) {
        at += found;
        if bytes[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    const SCHEMA: &str = "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4";

    fn body(data: &str) -> String {
        format!("{{\"schema\":\"{SCHEMA}\",\"data\":{data}}}")
    }

    /// The packer's vectors in `collector.md` 6.3, as texts in the reversed order in which Snowplow has them.
    fn packed(texts: &[&str], budget: usize, join: usize) -> (Vec<Vec<String>>, Vec<String>) {
        let packed = pack(texts.iter().map(|text| text.len() + 2), budget, join);
        let named = |event: &usize| texts[*event].to_owned();
        let reversed = |batch: &Vec<usize>| batch.iter().rev().map(named).collect();
        let batches = packed.batches.iter().rev().map(reversed).collect();
        (batches, packed.too_large.iter().map(named).collect())
    }

    #[test]
    fn the_packers_vectors() {
        let of = |batches: &[&[&str]]| -> Vec<Vec<String>> {
            batches
                .iter()
                .map(|batch| batch.iter().map(|&text| text.to_owned()).collect())
                .collect()
        };
        assert_eq!(packed(&["a", "b", "c"], 9, 1), (of(&[&["c"], &["b", "a"]]), vec![]));
        let (batches, failed) = packed(&["1234567", "1", "123"], 8, 0);
        assert_eq!((batches, failed), (of(&[&["123", "1"]]), vec!["1234567".to_owned()]));
        assert_eq!(pack(std::iter::empty(), 9, 1), Packed::default());
        assert_eq!(pack([1].into_iter(), 0, 1).too_large, [0]);
    }

    #[test]
    fn what_cannot_be_split_says_why() {
        let why = |body: &str| Events::read(body).unwrap_err().to_string();
        assert!(
            why("s").starts_with("cannot split POST requests which are not json "),
            "{}",
            why("s")
        );
        assert!(
            why("{\"schema\":1} x").starts_with("cannot split POST requests which are not json ")
        );
        let start = "cannot split POST requests which are not self-describing ";
        for body in [
            "[]",
            "\"x\"",
            "{}",
            "{\"data\":[]}",
            &format!("{{\"schema\":\"{SCHEMA}\"}}"),
            "{\"schema\":\"s\",\"data\":[]}",
            "{\"schema\":\"iglu:a/b/jsonschema/1-0\",\"data\":[]}",
            "{\"schema\":[],\"data\":[]}",
        ] {
            assert!(why(body).starts_with(start), "{body}");
        }
        let no_array = "cannot split POST requests which do not contain a data array";
        for data in ["{}", "1", "null", "\"[]\""] {
            assert_eq!(why(&body(data)), no_array);
        }
    }

    #[test]
    fn events_keep_keys_numbers_and_order_and_lose_white_space() {
        let text = format!(
            "\n{{ \"other\" : [1, {{}}], \"data\" : [ {{ \"b\" : 1.50e+3 , \"a\" : [ ] }} , 7 , \"x, ] y\" , \
             \"\\u00e9\\/\\\"\\\\\" , \"\\ud800\" ] ,\t\"schema\" : \"{SCHEMA}\" }}\r\n"
        );
        let events = Events::read(&text).unwrap();
        let expect = body("[{\"b\":1.50e+3,\"a\":[]},7,\"x, ] y\",\"é/\\\"\\\\\",\"\\ud800\"]");
        assert_eq!(events.body(0..5), expect);
        assert_eq!(events.body([1].into_iter()), body("[7]"));
        assert_eq!(events.body(std::iter::empty()).len(), events.empty_body_bytes());
        assert_eq!(events.sizes().collect::<Vec<_>>()[1..3], [1, 8]);
        assert_eq!(events.data_bytes(), expect.len() - body("").len());
    }

    #[test]
    fn the_last_of_two_equal_keys_counts() {
        let text =
            format!("{{\"data\":1,\"schema\":0,\"schema\":\"{SCHEMA}\",\"d\\u0061ta\":[1]}}");
        assert_eq!(Events::read(&text).unwrap().body(0..1), body("[1]"));
    }

    #[test]
    fn deep_nesting_takes_no_stack() {
        let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        let events = Events::read(&body(&deep)).unwrap();
        assert_eq!(events.sizes().collect::<Vec<_>>(), [399_998]);
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((".{0,3}", inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_event_is_found_whole(events in prop::collection::vec(json(), 0..6), pretty: bool) {
            let value = serde_json::json!({"schema": SCHEMA, "data": events});
            let text = match pretty {
                true => serde_json::to_string_pretty(&value).unwrap(),
                false => value.to_string(),
            };
            let read = Events::read(&text).unwrap();
            prop_assert_eq!(read.body(0..events.len()), value.to_string());
            let sizes: Vec<usize> = events.iter().map(|event| event.to_string().len()).collect();
            prop_assert_eq!(read.sizes().collect::<Vec<_>>(), sizes);
        }

        #[test]
        fn arbitrary_texts_do_not_panic(text in "[\\[\\]{}:,\"\\\\ a1é-]{0,40}", as_data: bool) {
            let text = if as_data { body(&text) } else { text };
            let _ = Events::read(&text);
        }
    }
}
