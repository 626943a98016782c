//! URIs as `java.net.URI` reads them (RFC 2396, IPv6 literals, other non-ASCII characters), and the second, relaxed
//! attempt that re-encodes what the first refuses. Snowplow: `enrich-core.md` 3.8.
//!
//! Used for the page URL and the referrer; the query string check of 1.4 shares the character sets. Nothing here
//! decodes a part that goes into a column.

use std::net::Ipv6Addr;
use std::ops::Range;

use memchr::{memchr, memchr3};

/// A URI with the places of its parts in its printed text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Uri {
    printed: String,
    scheme: Option<Range<usize>>,
    host: Option<Range<usize>>,
    port: Option<i32>,
    path: Option<Range<usize>>,
    query: Option<Range<usize>>,
    fragment: Option<Range<usize>>,
}

/// A character where the grammar allows none of its kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidUri {
    #[error("Illegal character in {part} at index {at}")]
    Character { part: &'static str, at: usize },
    #[error("Malformed escape pair at index {at}")]
    Escape { at: usize },
    #[error("Expected {part} at index {at}")]
    Expected { part: &'static str, at: usize },
}

impl Uri {
    /// Reads a URI, strictly first and then relaxed.
    ///
    /// # Errors
    /// The text of the bad row, when neither attempt succeeds.
    pub(crate) fn parse(text: &str) -> Result<Uri, String> {
        let spaced = memchr(b' ', text.as_bytes()).is_some();
        let mended = if spaced { text.replace(' ', "%20") } else { text.to_owned() };
        let strict = match Uri::parse_strict(mended) {
            Ok(uri) => return Ok(uri),
            Err(error) => error,
        };
        Uri::parse_strict(re_encode(text)).map_err(|relaxed| {
            format!(
                "Provided URI [{text}] could not be parsed, neither by Java parsing (error: [{strict}]) nor by Scala \
                 parsing (error: [{relaxed}])."
            )
        })
    }

    /// The whole text after repairs.
    pub(crate) fn printed(&self) -> &str {
        &self.printed
    }

    pub(crate) fn scheme(&self) -> Option<&str> {
        self.part(&self.scheme)
    }

    /// `None` where the authority is not a plain host.
    pub(crate) fn host(&self) -> Option<&str> {
        self.part(&self.host)
    }

    /// The explicit port, else 443 if the scheme is exactly `https`, else 80.
    pub(crate) fn port(&self) -> i32 {
        self.port.unwrap_or(if self.scheme() == Some("https") { 443 } else { 80 })
    }

    pub(crate) fn path(&self) -> Option<&str> {
        self.part(&self.path)
    }

    /// What stands between the first `?` and the `#`, still encoded.
    pub(crate) fn query(&self) -> Option<&str> {
        self.part(&self.query)
    }

    pub(crate) fn fragment(&self) -> Option<&str> {
        self.part(&self.fragment)
    }

    fn part(&self, range: &Option<Range<usize>>) -> Option<&str> {
        range.clone().map(|range| &self.printed[range])
    }

    fn parse_strict(text: String) -> Result<Uri, InvalidUri> {
        let hash = memchr(b'#', text.as_bytes());
        let fragment = hash.map(|at| at + 1..text.len());
        let before_fragment = hash.unwrap_or(text.len());
        let mut uri = Uri {
            printed: String::new(),
            scheme: None,
            host: None,
            port: None,
            path: None,
            query: None,
            fragment,
        };
        let mut rest = 0..before_fragment;
        // A colon before any slash, question mark or hash ends a scheme.
        let bytes = text.as_bytes();
        if let Some(colon) = memchr3(b':', b'/', b'?', &bytes[..rest.end])
            && bytes[colon] == b':'
        {
            check_scheme(&text[..colon])?;
            uri.scheme = Some(0..colon);
            rest.start = colon + 1;
            if rest.is_empty() {
                return Err(InvalidUri::Expected { part: "scheme-specific part", at: rest.start });
            }
        }
        if uri.scheme.is_some() && text.as_bytes()[rest.start] != b'/' {
            check(&text, &rest, "opaque part", URIC)?;
        } else {
            uri.parse_hierarchical(&text, rest)?;
        }
        if let Some(fragment) = &uri.fragment {
            check(&text, fragment, "fragment", URIC)?;
        }
        uri.printed = text;
        Ok(uri)
    }

    fn parse_hierarchical(&mut self, text: &str, range: Range<usize>) -> Result<(), InvalidUri> {
        let bytes = text.as_bytes();
        let question = memchr(b'?', &bytes[range.clone()]).map(|at| range.start + at);
        let before_query = question.unwrap_or(range.end);
        let mut path = range.start..before_query;
        if text[path.clone()].starts_with("//") {
            let start = path.start + 2;
            let end = memchr(b'/', &bytes[start..path.end]).map_or(path.end, |at| start + at);
            if start == end && end == range.end {
                return Err(InvalidUri::Expected { part: "authority", at: start });
            }
            self.parse_authority(text, start..end)?;
            path.start = end;
        }
        check(text, &path, "path", PATH)?;
        self.path = Some(path);
        if let Some(question) = question {
            let query = question + 1..range.end;
            check(text, &query, "query", URIC)?;
            self.query = Some(query);
        }
        Ok(())
    }

    /// `user@host:port`; where that is not what stands there, any name of a registry, which has no host.
    fn parse_authority(&mut self, text: &str, range: Range<usize>) -> Result<(), InvalidUri> {
        let authority = &text[range.clone()];
        let user_len = authority.find('@').map_or(0, |at| at + 1);
        let user = range.start..range.start + user_len;
        if check(text, &user, "user info", AUTHORITY).is_ok()
            && let Some((host, port)) = server(&authority[user_len..])
        {
            let start = range.start + user_len;
            self.host = (!host.is_empty()).then(|| start..start + host.len());
            self.port = port;
            return Ok(());
        }
        check(text, &range, "authority", AUTHORITY)
    }
}

/// Checks the characters of a query.
pub(crate) fn check_query(query: &str) -> Result<(), InvalidUri> {
    check(query, &(0..query.len()), "query", URIC)
}

/// The byte of two hex digits at the start of `text`.
pub(crate) fn escaped_byte(text: &[u8]) -> Option<u8> {
    let digit = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    Some((digit(0)? * 16 + digit(1)?) as u8)
}

fn check_scheme(scheme: &str) -> Result<(), InvalidUri> {
    if scheme.is_empty() {
        return Err(InvalidUri::Expected { part: "scheme name", at: 0 });
    }
    let bad = scheme.bytes().enumerate().position(|(at, byte)| {
        !(byte.is_ascii_alphabetic() || at > 0 && (byte.is_ascii_digit() || b"+-.".contains(&byte)))
    });
    bad.map_or(Ok(()), |at| Err(InvalidUri::Character { part: "scheme name", at }))
}

/// Host and port of an authority without a user, `None` if it is not of that form.
fn server(text: &str) -> Option<(&str, Option<i32>)> {
    let host_len = match text.strip_prefix('[') {
        Some(literal) => literal.find(']')? + 2,
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at(host_len);
    let port = match rest.strip_prefix(':') {
        None if rest.is_empty() => None,
        None => return None,
        Some("") => None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(digits.parse().ok()?)
        }
        Some(_) => return None,
    };
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(literal) => {
            let (address, scope) = literal.split_once('%').unwrap_or((literal, "0"));
            let is_scope =
                !scope.is_empty() && scope.bytes().all(|byte| byte.is_ascii_alphanumeric());
            is_scope && address.parse::<Ipv6Addr>().is_ok()
        }
        None => is_ipv4(host) || is_host_name(host),
    };
    is_host.then_some((host, port))
}

fn is_ipv4(host: &str) -> bool {
    let mut groups = 0;
    host.split('.').all(|group| {
        groups += 1;
        (1..=3).contains(&group.len())
            && group.bytes().all(|byte| byte.is_ascii_digit())
            && group.parse::<u8>().is_ok()
    }) && groups == 4
}

/// Labels of letters, digits and inner hyphens; the last begins with a letter; a point may end the name.
fn is_host_name(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
        first.is_ascii_alphanumeric()
            && last.is_ascii_alphanumeric()
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
    };
    let last = host.rsplit('.').next().unwrap_or_default();
    host.split('.').all(is_label) && last.starts_with(|c: char| c.is_ascii_alphabetic())
}

/// Checks that a part has only allowed ASCII, whole escapes, and other characters that are neither control nor space.
fn check(text: &str, range: &Range<usize>, part: &'static str, kind: u8) -> Result<(), InvalidUri> {
    let bytes = text[range.clone()].as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        if ALLOWED[usize::from(byte)] & kind != 0 {
            at += 1;
        } else if byte == b'%' {
            escaped_byte(&bytes[at + 1..]).ok_or(InvalidUri::Escape { at: range.start + at })?;
            at += 3;
        } else if byte.is_ascii() {
            return Err(InvalidUri::Character { part, at: range.start + at });
        } else {
            let character = text[range.start + at..].chars().next().unwrap_or_default();
            if !is_other(character) {
                return Err(InvalidUri::Character { part, at: range.start + at });
            }
            at += character.len_utf8();
        }
    }
    Ok(())
}

fn is_other(character: char) -> bool {
    // Java's space characters beyond ASCII: categories Zs, Zl and Zp.
    let is_space = matches!(
        character,
        '\u{A0}' | '\u{1680}' | '\u{2000}'
            ..='\u{200A}' | '\u{2028}' | '\u{2029}' | '\u{202F}' | '\u{205F}' | '\u{3000}'
    );
    !is_space && !character.is_control()
}

/// Parts of a URI, by what may stand in them besides escapes. `URIC` is any part behind the path, or without one.
const PATH: u8 = 1;
const URIC: u8 = 2;
const AUTHORITY: u8 = 4;

/// The parts that each ASCII character may stand in.
static ALLOWED: [u8; 256] = {
    let mut allowed = [0; 256];
    let mut byte = 0u8;
    while byte < 128 {
        let is_unreserved = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'_' | b'.' | b'!' | b'~' | b'*' | b'\'' | b'(' | b')');
        let is_authority =
            is_unreserved || matches!(byte, b':' | b'@' | b'&' | b'=' | b'+' | b'$' | b',' | b';');
        let is_path = is_authority || byte == b'/';
        let is_uric = is_path || matches!(byte, b'?' | b'[' | b']');
        allowed[byte as usize] =
            is_path as u8 * PATH + is_uric as u8 * URIC + is_authority as u8 * AUTHORITY;
        byte += 1;
    }
    allowed
};

/// The relaxed attempt: each component is decoded where that is possible and encoded again.
fn re_encode(text: &str) -> String {
    let (before_fragment, fragment) = split_at(text, '#');
    let (before_query, query) = split_at(before_fragment, '?');
    let (scheme_and_authority, path) = split_path(before_query);
    let mut encoded = String::with_capacity(text.len() * 3);
    encoded.push_str(scheme_and_authority);
    for (at, segment) in path.split('/').enumerate() {
        if at > 0 {
            encoded.push('/');
        }
        re_encode_component(segment, &mut encoded);
    }
    if let Some(query) = query {
        encoded.push('?');
        for (at, pair) in query.split('&').enumerate() {
            if at > 0 {
                encoded.push('&');
            }
            let (name, value) = split_at(pair, '=');
            re_encode_component(name, &mut encoded);
            if let Some(value) = value {
                encoded.push('=');
                re_encode_component(value, &mut encoded);
            }
        }
    }
    if let Some(fragment) = fragment {
        encoded.push('#');
        re_encode_component(fragment, &mut encoded);
    }
    encoded
}

fn split_at(text: &str, separator: char) -> (&str, Option<&str>) {
    text.split_once(separator).map_or((text, None), |(before, after)| (before, Some(after)))
}

/// Scheme with `//` and authority, which stay as they are, and the path behind.
fn split_path(text: &str) -> (&str, &str) {
    let scheme_len = match text.find([':', '/']) {
        Some(colon) if text.as_bytes()[colon] == b':' && check_scheme(&text[..colon]).is_ok() => {
            colon + 1
        }
        _ => 0,
    };
    let rest = &text[scheme_len..];
    let path = match rest.strip_prefix("//") {
        Some(authority) => scheme_len + 2 + authority.find('/').unwrap_or(authority.len()),
        None => scheme_len,
    };
    text.split_at(path)
}

fn re_encode_component(component: &str, encoded: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let bytes = component.as_bytes();
    let mut at = 0;
    while let Some(&raw) = bytes.get(at) {
        let (byte, len) = match raw {
            b'%' => escaped_byte(&bytes[at + 1..]).map_or((b'%', 1), |byte| (byte, 3)),
            raw => (raw, 1),
        };
        at += len;
        // What stands in no component as it is: beyond the list of the specification, control characters too.
        let is_encoded = !byte.is_ascii()
            || byte.is_ascii_control()
            || b":/?#[]@!$&'()*,;= %<>{}^`|\\\"".contains(&byte);
        if is_encoded {
            encoded.push('%');
            encoded.push(char::from(HEX[usize::from(byte >> 4)]));
            encoded.push(char::from(HEX[usize::from(byte & 15)]));
        } else {
            encoded.push(char::from(byte));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic_and_what_is_printed_reads_back(text in "\\PC{0,40}") {
            if let Ok(uri) = Uri::parse(&text) {
                let again = Uri::parse(uri.printed()).unwrap();
                prop_assert_eq!(again, uri);
            }
        }

        #[test]
        fn texts_with_the_shape_of_a_uri_do_not_panic(
            text in "(https?|[a-z]{0,3}):?/{0,2}[a-z_%\\[\\]:@é|.]{0,12}(/[a-z$%|]{0,6}){0,3}(\\?[a-z=&%|]{0,9})?(#[a-z#?%]{0,6})?"
        ) {
            if let Ok(uri) = Uri::parse(&text) {
                prop_assert_eq!(Uri::parse(uri.printed()).unwrap(), uri);
            }
        }
    }
}
