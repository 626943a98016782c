//! A JSON text looked at in place: no document is made of it.
//!
//! For the texts of events, which the enrich function has printed. Anything may stand in a file, so nothing here trusts
//! that a text is whole: what is cut short ends early, and nothing panics.

use std::borrow::Cow;

use memchr::memchr2;

/// One value, without the space around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Json<'a>(&'a str);

impl<'a> Json<'a> {
    /// The value that begins the text; `None` if there is none.
    pub(super) fn of(text: &'a str) -> Option<Json<'a>> {
        let text = text.trim_start_matches(is_space);
        let end = end_of_value(text.as_bytes());
        (end > 0).then(|| Json(&text[..end]))
    }

    /// The value as it is written.
    pub(super) fn written(self) -> &'a str {
        self.0
    }

    pub(super) fn is_null(self) -> bool {
        self.0 == "null"
    }

    pub(super) fn is_object(self) -> bool {
        self.0.starts_with('{')
    }

    pub(super) fn is_array(self) -> bool {
        self.0.starts_with('[')
    }

    pub(super) fn boolean(self) -> Option<bool> {
        match self.0 {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// The digits of a number.
    pub(super) fn number(self) -> Option<&'a str> {
        self.0.starts_with(|first: char| first == '-' || first.is_ascii_digit()).then_some(self.0)
    }

    /// The text between the quotes, escapes resolved.
    pub(super) fn text(self) -> Option<Cow<'a, str>> {
        let inside = self.raw_text()?;
        if !inside.contains('\\') {
            return Some(inside.into());
        }
        serde_json::from_str::<String>(self.0).ok().map(Cow::from)
    }

    /// The text between the quotes as it is written.
    pub(super) fn raw_text(self) -> Option<&'a str> {
        self.0.strip_prefix('"')?.strip_suffix('"')
    }

    /// The members of an object, in their order: names as they are written between the quotes, and values.
    pub(super) fn entries(self) -> impl Iterator<Item = (&'a str, Json<'a>)> {
        let mut rest = self.0.strip_prefix('{').unwrap_or_default();
        std::iter::from_fn(move || {
            rest = next(rest);
            let name = Json::of(rest)?;
            rest = rest[name.0.len()..].trim_start_matches(is_space).strip_prefix(':')?;
            rest = rest.trim_start_matches(is_space);
            let value = Json::of(rest)?;
            rest = &rest[value.0.len()..];
            Some((name.raw_text()?, value))
        })
    }

    /// The value of a member whose name needs no escape.
    pub(super) fn get(self, name: &str) -> Option<Json<'a>> {
        self.entries().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// The items of an array, in their order.
    pub(super) fn items(self) -> impl Iterator<Item = Json<'a>> {
        let mut rest = self.0.strip_prefix('[').unwrap_or_default();
        std::iter::from_fn(move || {
            rest = next(rest);
            let item = Json::of(rest)?;
            rest = &rest[item.0.len()..];
            Some(item)
        })
    }
}

fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r')
}

/// What follows the comma, if there is one.
fn next(rest: &str) -> &str {
    let rest = rest.trim_start_matches(is_space);
    rest.strip_prefix(',').unwrap_or(rest).trim_start_matches(is_space)
}

/// Where the value that begins here ends: behind its last byte, which is ASCII, or at the end of the text. 0 where none
/// begins.
fn end_of_value(bytes: &[u8]) -> usize {
    match bytes.first() {
        Some(b'"') => end_of_text(bytes, 0),
        Some(b'{' | b'[') => {
            let (mut depth, mut at) = (0usize, 0);
            while let Some(byte) = bytes.get(at) {
                match byte {
                    b'"' => {
                        at = end_of_text(bytes, at);
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => {
                        depth -= 1;
                        if depth == 0 {
                            return at + 1;
                        }
                    }
                    _ => {}
                }
                at += 1;
            }
            bytes.len()
        }
        _ => {
            let ends = |byte: &u8| {
                matches!(byte, b',' | b':' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r')
            };
            bytes.iter().position(ends).unwrap_or(bytes.len())
        }
    }
}

/// Behind the quote that ends the text whose first quote stands at `at`.
fn end_of_text(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
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

    /// The value as a document, read with nothing but what this file offers.
    fn rebuilt(json: Json<'_>) -> Value {
        if json.is_object() {
            let entry = |(name, value)| {
                let name: String = serde_json::from_str(&format!("\"{name}\"")).unwrap();
                (name, rebuilt(value))
            };
            Value::Object(json.entries().map(entry).collect())
        } else if json.is_array() {
            json.items().map(rebuilt).collect()
        } else if let Some(text) = json.text() {
            text.into_owned().into()
        } else {
            serde_json::from_str(json.written()).unwrap()
        }
    }

    #[test]
    fn values_are_what_a_parser_gives() {
        for text in [
            r#"{"a":[1,-2.5e3,true,false,null,"x\"y\\","é",{}],"b\"c":{"d":[[],[1]]},"":""}"#,
            "  { \"a\" : [ 1 , 2 ] , \"b\" : \"}\" }  ",
            "\"\"",
            "12",
            "[]",
        ] {
            let expected: Value = serde_json::from_str(text).unwrap();
            assert_eq!(rebuilt(Json::of(text).unwrap()), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[\\[\\]{}:,\" \\\\au0é-]{0,40}") {
            if let Some(json) = Json::of(&text) {
                for (name, value) in json.entries() {
                    _ = (name.len(), value.text(), value.entries().count(), value.items().count());
                }
                _ = (json.items().count(), json.text(), json.number(), json.get("a"));
            }
        }
    }
}
