//! `Content-Type` as it is recorded, and the text of a body by its charset. Snowplow: `collector.md` 4.5 and 1.8.

use crate::head::is_token_byte;
use std::borrow::Cow;
use std::fmt::Write;

/// A content type that could be parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContentType<'a> {
    /// Lower-case, one space after each semicolon, the charset last: `application/json; charset=utf-8`.
    pub(crate) text: Cow<'a, str>,
    charset: Option<String>,
}

impl<'a> ContentType<'a> {
    /// `None` for what is not `type/subtype` with parameters.
    pub(crate) fn parse(value: &'a str) -> Option<ContentType<'a>> {
        // What nearly every tracker sends.
        match value {
            "application/json" => {
                return Some(ContentType { text: Cow::Borrowed(value), charset: None });
            }
            "application/json; charset=utf-8" | "application/json; charset=UTF-8" => {
                let text = Cow::Borrowed("application/json; charset=utf-8");
                return Some(ContentType { text, charset: None });
            }
            _ => {}
        }
        let (media, mut rest) = match value.find(';') {
            Some(at) => value.split_at(at),
            None => (value, ""),
        };
        let (kind, subkind) = media.trim_ascii().split_once('/')?;
        if !is_token(kind) || !is_token(subkind) {
            return None;
        }
        let mut text = format!("{kind}/{subkind}").to_ascii_lowercase();
        let mut charset = None;
        while let Some(after) = rest.strip_prefix(';') {
            let after = after.trim_ascii_start();
            if after.is_empty() {
                break;
            }
            let (name, after) = after.split_once('=')?;
            let (parameter, after) = parameter_value(after)?;
            rest = after.trim_ascii_start();
            let name = name.to_ascii_lowercase();
            if !is_token(&name) {
                return None;
            }
            if name == "charset" {
                if !is_token(&parameter) {
                    return None;
                }
                charset.get_or_insert(parameter.to_lowercase());
            } else if is_token(&parameter) {
                let _ = write!(text, "; {name}={}", parameter.to_lowercase());
            } else {
                let escaped = parameter.to_lowercase().replace('\\', "\\\\").replace('"', "\\\"");
                let _ = write!(text, "; {name}=\"{escaped}\"");
            }
        }
        if !rest.trim_ascii().is_empty() && !rest.starts_with(';') {
            return None;
        }
        if let Some(charset) = &charset {
            let _ = write!(text, "; charset={charset}");
        }
        Some(ContentType { text: Cow::Owned(text), charset })
    }

    fn charset(&self) -> Charset {
        match self.charset.as_deref() {
            Some("iso-8859-1" | "latin1" | "iso8859_1") => Charset::Latin1,
            Some("utf-16") => Charset::Utf16 { little_endian: false },
            Some("utf-16be") => Charset::Utf16 { little_endian: false },
            Some("utf-16le") => Charset::Utf16 { little_endian: true },
            // Trackers send UTF-8. A name that is not known changes nothing, so that no event is lost by it.
            None | Some(_) => Charset::Utf8,
        }
    }
}

#[derive(Clone, Copy)]
enum Charset {
    Utf8,
    Latin1,
    Utf16 { little_endian: bool },
}

/// The body as text: wrong sequences become replacement characters, a byte order mark in front is dropped.
pub(crate) fn body_text<'a>(
    body: &'a [u8],
    content_type: Option<&ContentType<'_>>,
) -> Cow<'a, str> {
    match content_type.map_or(Charset::Utf8, ContentType::charset) {
        Charset::Utf8 => {
            let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
            // Nearly every body is whole, and looking for that alone is five times faster than looking for faults.
            str::from_utf8(body).map_or_else(|_| String::from_utf8_lossy(body), Cow::Borrowed)
        }
        Charset::Latin1 => Cow::Owned(body.iter().map(|&byte| char::from(byte)).collect()),
        Charset::Utf16 { little_endian } => {
            let (little_endian, body) = match body {
                [0xfe, 0xff, rest @ ..] => (false, rest),
                [0xff, 0xfe, rest @ ..] => (true, rest),
                _ => (little_endian, body),
            };
            let units = body.chunks(2).map(|pair| match *pair {
                [first, second] if little_endian => u16::from_le_bytes([first, second]),
                [first, second] => u16::from_be_bytes([first, second]),
                _ => 0xfffd,
            });
            let replaced = |unit: Result<char, _>| unit.unwrap_or(char::REPLACEMENT_CHARACTER);
            Cow::Owned(char::decode_utf16(units).map(replaced).collect())
        }
    }
}

/// A token or a quoted string, and what follows it.
fn parameter_value(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        let value = text[..end].trim_ascii_end();
        return is_token(value).then_some((Cow::Borrowed(value), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((Cow::Owned(value), &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            other => value.push(other),
        }
    }
    None
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn content_types_are_printed_in_one_form() {
        for (value, expect) in [
            ("application/json", "application/json"),
            ("application/json; charset=utf-8", "application/json; charset=utf-8"),
            ("Application/JSON; Charset=UTF-8", "application/json; charset=utf-8"),
            ("application/json;charset=\"UTF-8\"", "application/json; charset=utf-8"),
            ("application/json ; charset=utf-8 ;", "application/json; charset=utf-8"),
            ("text/plain; charset=a; b=C", "text/plain; b=c; charset=a"),
            ("multipart/form-data; boundary=AbC", "multipart/form-data; boundary=abc"),
            (
                "multipart/form-data; boundary=\"a b\\\"\"",
                "multipart/form-data; boundary=\"a b\\\"\"",
            ),
            ("application/x-www-form-urlencoded", "application/x-www-form-urlencoded"),
        ] {
            let parsed = ContentType::parse(value).map(|parsed| parsed.text.into_owned());
            assert_eq!(parsed.as_deref(), Some(expect), "{value}");
        }
    }

    #[test]
    fn what_is_no_content_type_is_none() {
        for value in [
            "",
            "json",
            "a/",
            "/b",
            "a/b/c",
            "a b/c",
            "a/b; c",
            "a/b; c=\"d",
            "a/b; =c",
            "a/b; c=d e",
            "a/b; c=\"d\" e",
            "a/b, c/d",
            "a/é",
        ] {
            assert_eq!(ContentType::parse(value), None, "{value}");
        }
    }

    #[test]
    fn bodies_are_read_by_their_charset() {
        let text = |body: &'static [u8], value: &str| {
            body_text(body, ContentType::parse(value).as_ref()).into_owned()
        };
        assert_eq!(text(b"\xef\xbb\xbf{\xc3\xa9}", "application/json"), "{é}");
        assert_eq!(text(b"a\xffb", "application/json; charset=utf-8"), "a\u{fffd}b");
        assert_eq!(text(b"\xe9", "text/plain; charset=ISO-8859-1"), "é");
        assert_eq!(text(b"\xff\xfe\xe9\x00x", "text/plain; charset=utf-16"), "é\u{fffd}");
        assert_eq!(text(b"\x00\xe9", "text/plain; charset=utf-16be"), "é");
        assert_eq!(text(b"\xc3\xa9", "text/plain; charset=nonsense"), "é");
        assert_eq!(body_text(b"", None), "");
    }

    proptest! {
        #[test]
        fn the_form_is_stable(value in "[a-zA-Z/;= \"\\\\é.,-]{0,40}") {
            if let Some(parsed) = ContentType::parse(&value) {
                let text = parsed.text.into_owned();
                let again = ContentType::parse(&text).map(|parsed| parsed.text.into_owned());
                prop_assert_eq!(again, Some(text.clone()));
            }
        }
    }
}
