//! Query strings: what may stand in one, and its pairs of names and values. Snowplow: `enrich-core.md` 1.4.
//!
//! Called for the request itself, for form bodies and for the query of a page URL. Order and duplicates are kept;
//! adapters turn the pairs into a map.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use crate::charset::Charset;
use crate::uri;

/// A name and its value: `None` without an equals sign, empty with nothing after it.
pub(crate) type Pair<'a> = (Cow<'a, str>, Option<Cow<'a, str>>);

/// The same with texts of its own.
pub(crate) type OwnedPair = (String, Option<String>);

pub(crate) fn owned((name, value): Pair<'_>) -> OwnedPair {
    (name.into_owned(), value.map(Cow::into_owned))
}

/// Checks and splits a query string. What follows a raw `#` is dropped.
///
/// # Errors
/// The reason, when a character cannot stand in the query of a URI.
pub(crate) fn parse(text: &str, charset: Charset) -> Result<Vec<Pair<'_>>, String> {
    let (query, fragment) = match text.split_once('#') {
        Some((query, fragment)) => (query, fragment),
        None => (text, ""),
    };
    uri::check_query(query)
        .and_then(|()| uri::check_query(fragment))
        .map_err(|error| error.to_string())?;
    Ok(split(query, charset))
}

/// Splits a query that is known to be well-formed. Pieces with an empty name are dropped.
pub(crate) fn split(query: &str, charset: Charset) -> Vec<Pair<'_>> {
    // A tracker's pixel has some 25 of them.
    let mut pairs = Vec::with_capacity(query.len() / 16);
    let mut rest = query;
    while !rest.is_empty() {
        let (piece, behind) = match memchr2(b'&', b';', rest.as_bytes()) {
            Some(end) => (&rest[..end], &rest[end + 1..]),
            None => (rest, ""),
        };
        rest = behind;
        let (name, value) = match memchr(b'=', piece.as_bytes()) {
            Some(end) => (&piece[..end], Some(&piece[end + 1..])),
            None => (piece, None),
        };
        if !name.is_empty() {
            pairs.push((decode(name, charset), value.map(|value| decode(value, charset))));
        }
    }
    pairs
}

/// Undoes the encoding of a name or value. A character outside ASCII gives the low 8 bits of each of its UTF-16 units:
/// only what is percent-encoded is safe.
fn decode(text: &str, charset: Charset) -> Cow<'_, str> {
    if charset == Charset::Utf8 && !text.bytes().any(|byte| matches!(byte, b'%' | b'+' | 0x80..)) {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.chars();
    loop {
        let plain = rest.as_str().bytes();
        let plain = plain.take_while(|byte| !matches!(byte, b'%' | b'+' | 0x80..)).count();
        let (plain, others) = rest.as_str().split_at(plain);
        bytes.extend_from_slice(plain.as_bytes());
        rest = others.chars();
        let Some(character) = rest.next() else { break };
        match character {
            '+' => bytes.push(b' '),
            '%' => match uri::escaped_byte(rest.as_str().as_bytes()) {
                Some(byte) => {
                    bytes.push(byte);
                    rest.next();
                    rest.next();
                }
                None => bytes.push(b'%'),
            },
            character if character.is_ascii() => bytes.push(character as u8),
            character => {
                let mut units = [0; 2];
                bytes.extend(character.encode_utf16(&mut units).iter().map(|unit| *unit as u8));
            }
        }
    }
    if charset == Charset::Utf8 {
        let text = String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        return Cow::Owned(text);
    }
    Cow::Owned(charset.decode(&bytes).into_owned())
}
