//! JSON texts from outside: bodies, self-describing events, contexts. Snowplow: `enrich-core.md` 3.5.
//!
//! The depth is counted before the parser runs, without recursion, so a hostile text costs one pass over its bytes.
//! Numbers keep their spelling and objects the order of their keys.
//!
//! Half of a surrogate pair (`\\ud83d` alone) is what browsers send when a title was cut in the middle of an emoji. It
//! is no character, but no reason to lose the events beside it: it becomes U+FFFD.

use serde_json::{Map, Value};

/// What a limit of settings is cut to: the parser's own guard stands just above.
const DEPTH_MAX: u32 = 127;

/// Reads a text whose deepest value lies at most at level `depth_max`; the root is level 1.
///
/// # Errors
/// The text of the bad row.
pub(crate) fn parse(text: &str, depth_max: u32) -> Result<Value, String> {
    if is_deeper_than(text, depth_max.min(DEPTH_MAX)) {
        return Err("invalid json: maximum allowed JSON depth exceeded".to_owned());
    }
    let parsed = serde_json::from_str(text).or_else(|error| match without_lone_surrogates(text) {
        Some(mended) => serde_json::from_str(&mended),
        None => Err(error),
    });
    parsed.map_err(|error| format!("invalid json: {error}"))
}

/// The text with `\\ufffd` for each escaped surrogate that has no partner; `None` when there is none.
fn without_lone_surrogates(text: &str) -> Option<String> {
    let mut mended = String::with_capacity(text.len());
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = text.as_bytes()[at..].iter().position(|&byte| byte == b'\\') {
        at += found;
        match escaped_unit(text, at) {
            Some(0xd800..=0xdbff)
                if matches!(escaped_unit(text, at + 6), Some(0xdc00..=0xdfff)) =>
            {
                at += 12
            }
            Some(0xd800..=0xdfff) => {
                mended.push_str(&text[copied..at]);
                mended.push_str("\\ufffd");
                at += 6;
                copied = at;
            }
            Some(_) => at += 6,
            // A backslash and what it escapes, which may be another backslash.
            None => at += 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
        }
    }
    mended.push_str(&text[copied..]);
    (copied > 0).then_some(mended)
}

/// The UTF-16 unit that is escaped at this place.
fn escaped_unit(text: &str, at: usize) -> Option<u16> {
    let digits = text.get(at..)?.strip_prefix("\\u")?.get(..4)?;
    digits
        .bytes()
        .all(|byte| byte.is_ascii_hexdigit())
        .then(|| u16::from_str_radix(digits, 16).ok())?
}

/// The object `{"schema": …, "data": …}`.
pub(crate) fn self_describing(schema: &str, data: Value) -> Value {
    let mut object = Map::with_capacity(2);
    object.insert("schema".to_owned(), schema.into());
    object.insert("data".to_owned(), data);
    Value::Object(object)
}

/// Whether a value begins below `depth_max` open containers. For a text that is not JSON any answer will do.
fn is_deeper_than(text: &str, depth_max: u32) -> bool {
    let mut depth = 0u32;
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => {}
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ if depth >= depth_max => return true,
            b'[' | b'{' => depth += 1,
            b'"' => {
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => _ = bytes.next(),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn half_a_surrogate_pair_does_not_make_a_text_bad() {
        for (text, expect) in [
            (r#"["a\ud83d"]"#, "a\u{fffd}"),
            (r#"["\udE00b"]"#, "\u{fffd}b"),
            (r#"["\ud83d\ud83d\ude00"]"#, "\u{fffd}\u{1f600}"),
            (r#"["\ud83d\n"]"#, "\u{fffd}\n"),
            (r#"["\\ud83d \ud800"]"#, "\\ud83d \u{fffd}"),
        ] {
            assert_eq!(parse(text, 50).unwrap()[0], expect, "{text}");
        }
        for text in [r#"["\ud83"]"#, r#"["\ud83d]"#, "\\", "\\u", r#"{"\ud800"#] {
            assert!(parse(text, 50).is_err(), "{text}");
        }
    }

    fn depth(value: &Value) -> u32 {
        let deepest = match value {
            Value::Array(items) => items.iter().map(depth).max(),
            Value::Object(map) => map.values().map(depth).max(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        };
        1 + deepest.unwrap_or(0)
    }

    fn trees() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            "[a\\[\\]{}\"\\\\]{0,6}".prop_map(Value::from)
        ];
        leaf.prop_recursive(6, 40, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                proptest::collection::vec(("[a\"{\\[]{0,3}", inner), 0..4)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_value_passes_at_its_own_depth_and_not_below(value in trees()) {
            let depth = depth(&value);
            for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
                prop_assert_eq!(parse(&text, depth).unwrap(), value.clone());
                prop_assert!(parse(&text, depth - 1).is_err());
            }
        }
    }

    #[test]
    fn a_hundred_thousand_brackets_are_refused_and_do_not_overflow() {
        let text = "[".repeat(100_000);
        let expected = Err("invalid json: maximum allowed JSON depth exceeded".to_owned());
        assert_eq!(parse(&text, 50), expected);
        assert_eq!(parse(&text, u32::MAX), expected);
        let deep = "[".repeat(127) + &"]".repeat(127);
        assert!(parse(&deep, 1000).is_ok());
    }

    #[test]
    fn numbers_keep_their_spelling() {
        let text = r#"{"z":1.0,"a":12345678901234567890123,"m":-0.0,"e":1.50}"#;
        assert_eq!(parse(text, 50).unwrap().to_string(), text);
    }
}
