//! The head of a request: request line and headers, found in the bytes as they came and never copied.
//!
//! The record needs names, order, case and duplicates of the headers as they arrived, and query strings that other
//! servers refuse (a raw space, quotes, Latin-1 bytes), so the request line is read here and only the header lines are
//! `httparse`'s. What could be understood in two ways by two programs in a row (request smuggling) is refused: a bare
//! CR or LF, a folded line, a space before the colon, two lengths, a length beside a transfer coding.

use crate::config::{HEADERS_MAX, Networking};
use crate::query;
use std::borrow::Cow;
use std::ops::Range;

/// Where the head ends, looked for as bytes arrive: each byte is looked at once.
#[derive(Debug, Default)]
pub(crate) struct Search {
    scanned: usize,
    line_start: usize,
    request_line_end: Option<usize>,
}

/// What is known of a head besides its bytes. All places are counted from the head's first byte.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    /// Bytes of the head; the body begins there.
    pub(crate) length: usize,
    pub(crate) method: Method,
    pub(crate) framing: Framing,
    pub(crate) version: Version,
    /// Whether the client allows another request on the connection.
    pub(crate) keep_alive: bool,
    /// `Expect: 100-continue`.
    pub(crate) expects_continue: bool,
    path: Range<usize>,
    query: Option<Range<usize>>,
    authority: Option<Range<usize>>,
    headers: Vec<HeaderPlace>,
    known: [Option<u16>; KNOWN.len()],
}

#[derive(Clone, Debug)]
struct HeaderPlace {
    name: Range<usize>,
    value: Range<usize>,
}

/// The methods that make a difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Method {
    #[default]
    Get,
    Head,
    Post,
    Options,
    Other,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Version {
    Http10,
    #[default]
    Http11,
}

/// How the end of the body is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is no body.
    #[default]
    Empty,
    /// Bytes, at least one.
    Length(u64),
    Chunked,
}

/// Headers that the collector looks at itself; the first of each name counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Host,
    Cookie,
    Origin,
    Referer,
    UserAgent,
    ContentType,
    ContentEncoding,
    SpAnonymous,
    XForwardedFor,
}

const KNOWN: [&str; 9] = [
    "host",
    "cookie",
    "origin",
    "referer",
    "user-agent",
    "content-type",
    "content-encoding",
    "sp-anonymous",
    "x-forwarded-for",
];

/// Why a head is answered 400. The texts are for logs, the client gets none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadHead {
    #[error("the request line is longer than `collector.networking.max-request-line-length`")]
    RequestLineTooLong,
    #[error("the headers are longer than `collector.networking.max-headers-length`")]
    HeadersTooLong,
    #[error("there are more headers than `collector.networking.max-headers`")]
    TooManyHeaders,
    #[error("a line ends without CR")]
    BareLineFeed,
    #[error("the request line is not method, target and version")]
    RequestLine,
    #[error("the version is neither HTTP/1.0 nor HTTP/1.1")]
    Version,
    #[error("the request target is neither a path nor a URL")]
    Target,
    #[error("the request target has characters that a URI may not have")]
    IllegalTarget,
    #[error("a header line is malformed")]
    Header,
    #[error("there is more than one Host header")]
    Host,
    #[error("the length of the body is not a number, or given twice")]
    ContentLength,
    #[error("the transfer coding is unknown, or stands beside a length or in HTTP/1.0")]
    TransferCoding,
}

impl Search {
    /// The length of the head, once all of it is in `bytes`, which begin with the request line. To be called again
    /// with more bytes.
    pub(crate) fn end(
        &mut self,
        bytes: &[u8],
        limits: &Networking,
    ) -> Result<Option<usize>, BadHead> {
        for at in memchr::memchr_iter(b'\n', &bytes[self.scanned..]) {
            let at = self.scanned + at;
            if at == self.line_start || bytes[at - 1] != b'\r' {
                return Err(BadHead::BareLineFeed);
            }
            let line_is_empty = at - 1 == self.line_start;
            self.line_start = at + 1;
            match self.request_line_end {
                None => {
                    if at - 1 > limits.max_request_line_length {
                        return Err(BadHead::RequestLineTooLong);
                    }
                    self.request_line_end = Some(at + 1);
                }
                Some(begin) if at + 1 - begin > limits.max_headers_length + 2 => {
                    return Err(BadHead::HeadersTooLong);
                }
                Some(_) if line_is_empty => return Ok(Some(at + 1)),
                Some(_) => {}
            }
        }
        self.scanned = bytes.len();
        match self.request_line_end {
            None if bytes.len() > limits.max_request_line_length + 1 => {
                Err(BadHead::RequestLineTooLong)
            }
            Some(begin) if bytes.len() - begin > limits.max_headers_length + 2 => {
                Err(BadHead::HeadersTooLong)
            }
            _ => Ok(None),
        }
    }

    /// Where the request line ends, its line end included; known once [`Search::end`] found the end.
    pub(crate) fn request_line_end(&self) -> usize {
        self.request_line_end.unwrap_or(0)
    }
}

impl Head {
    /// Reads a whole head. `bytes` are exactly what [`Search::end`] measured.
    pub(crate) fn parse(
        bytes: &[u8],
        request_line_end: usize,
        headers_max: usize,
    ) -> Result<Head, BadHead> {
        let line = &bytes[..request_line_end.saturating_sub(2)];
        let (Some(method_end), Some(version_at)) =
            (memchr::memchr(b' ', line), memchr::memrchr(b' ', line))
        else {
            return Err(BadHead::RequestLine);
        };
        if method_end == version_at || !line[..method_end].iter().copied().all(is_token_byte) {
            return Err(BadHead::RequestLine);
        }
        let mut head = Head {
            length: bytes.len(),
            method: match &line[..method_end] {
                b"GET" => Method::Get,
                b"HEAD" => Method::Head,
                b"POST" => Method::Post,
                b"OPTIONS" => Method::Options,
                b"" => return Err(BadHead::RequestLine),
                _ => Method::Other,
            },
            version: match &line[version_at + 1..] {
                b"HTTP/1.1" => Version::Http11,
                b"HTTP/1.0" => Version::Http10,
                _ => return Err(BadHead::Version),
            },
            ..Head::default()
        };
        head.read_target(bytes, method_end + 1..version_at)?;
        head.read_headers(bytes, request_line_end, headers_max)?;
        Ok(head)
    }

    /// Splits the target. Any byte but a control is allowed in it: what the client sent is what is recorded.
    fn read_target(&mut self, bytes: &[u8], target: Range<usize>) -> Result<(), BadHead> {
        let text = &bytes[target.clone()];
        if text.iter().any(|&byte| (byte < b' ' && byte != b'\t') || byte == 0x7f) {
            return Err(BadHead::Target);
        }
        let mut path_at = target.start;
        if text == b"*" && self.method == Method::Options {
            // The server as a whole: a preflight like any other.
        } else if !text.starts_with(b"/") {
            let scheme = [&b"http://"[..], b"https://"]
                .into_iter()
                .find(|scheme| starts_with_ignore_case(text, scheme))
                .ok_or(BadHead::Target)?;
            let authority_at = target.start + scheme.len();
            let rest = &bytes[authority_at..target.end];
            let length = rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len());
            if length == 0 {
                return Err(BadHead::Target);
            }
            path_at = authority_at + length;
            self.authority = Some(authority_at..path_at);
        }
        let rest = &bytes[path_at..target.end];
        let end = path_at + memchr::memchr(b'#', rest).unwrap_or(rest.len());
        let mark = memchr::memchr(b'?', &bytes[path_at..end]).map(|at| path_at + at);
        self.path = path_at..mark.unwrap_or(end);
        self.query = mark.map(|at| at + 1..end);
        Ok(())
    }

    fn read_headers(
        &mut self,
        bytes: &[u8],
        begin: usize,
        headers_max: usize,
    ) -> Result<(), BadHead> {
        let mut storage = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let places = &mut storage[..headers_max.min(HEADERS_MAX)];
        let parsed = match httparse::parse_headers(&bytes[begin..], places) {
            Ok(httparse::Status::Complete((length, parsed))) if begin + length == bytes.len() => {
                parsed
            }
            Err(httparse::Error::TooManyHeaders) => return Err(BadHead::TooManyHeaders),
            Ok(_) | Err(_) => return Err(BadHead::Header),
        };
        let place = |part: &[u8]| {
            let at = part.as_ptr() as usize - bytes.as_ptr() as usize;
            at..at + part.len()
        };
        self.keep_alive = self.version == Version::Http11;
        self.headers.reserve_exact(parsed.len());
        let mut lengths = Lengths::default();
        for header in parsed.iter() {
            let value = header.value.trim_ascii();
            self.note(header.name, value, &mut lengths)?;
            // An empty value has no place of its own in what `trim_ascii` returns.
            let value = if value.is_empty() { 0..0 } else { place(value) };
            self.headers.push(HeaderPlace { name: place(header.name.as_bytes()), value });
        }
        self.framing = lengths.framing(self.version)?;
        Ok(())
    }

    /// Looks at the headers that steer the collector. The header is the next of the list.
    fn note(&mut self, name: &str, value: &[u8], lengths: &mut Lengths) -> Result<(), BadHead> {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        match name.len() {
            14 if is("content-length") => return lengths.content_length(value),
            17 if is("transfer-encoding") => return lengths.transfer_coding(value),
            10 if is("connection") => {
                for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                    if option.eq_ignore_ascii_case(b"close") {
                        self.keep_alive = false;
                        // It wins over any `keep-alive` that follows.
                        lengths.close = true;
                    } else if option.eq_ignore_ascii_case(b"keep-alive") {
                        self.keep_alive = !lengths.close;
                    }
                }
                return Ok(());
            }
            6 if is("expect") => {
                self.expects_continue =
                    value.eq_ignore_ascii_case(b"100-continue") && self.version == Version::Http11;
                return Ok(());
            }
            _ => {}
        }
        let Some(known) = KNOWN.iter().position(|known| known.len() == name.len() && is(known))
        else {
            return Ok(());
        };
        if known == Known::Host as usize && self.known[known].is_some() {
            return Err(BadHead::Host);
        }
        if self.known[known].is_none() {
            let index = u16::try_from(self.headers.len()).map_err(|_| BadHead::TooManyHeaders)?;
            self.known[known] = Some(index);
        }
        Ok(())
    }
}

/// What the headers say about the length of the body.
#[derive(Default)]
struct Lengths {
    length: Option<u64>,
    chunked: bool,
    close: bool,
}

impl Lengths {
    fn content_length(&mut self, value: &[u8]) -> Result<(), BadHead> {
        if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
            return Err(BadHead::ContentLength);
        }
        let length = value.iter().fold(0, |length, digit| length * 10 + u64::from(digit - b'0'));
        match self.length {
            Some(other) if other != length => Err(BadHead::ContentLength),
            _ => {
                self.length = Some(length);
                Ok(())
            }
        }
    }

    fn transfer_coding(&mut self, value: &[u8]) -> Result<(), BadHead> {
        if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(BadHead::TransferCoding);
        }
        self.chunked = true;
        Ok(())
    }

    fn framing(&self, version: Version) -> Result<Framing, BadHead> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(BadHead::TransferCoding),
            (true, None) if version == Version::Http10 => Err(BadHead::TransferCoding),
            (true, None) => Ok(Framing::Chunked),
            (false, None | Some(0)) => Ok(Framing::Empty),
            (false, Some(length)) => Ok(Framing::Length(length)),
        }
    }
}

/// A head together with its bytes.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) head: &'a Head,
    /// Begin with the request line; may go on after the head.
    pub(crate) bytes: &'a [u8],
}

impl<'a> View<'a> {
    /// The path as it came; empty for a URL without one.
    pub(crate) fn path(self) -> &'a [u8] {
        &self.bytes[self.head.path.clone()]
    }

    /// The path as text that may stand in a header of ours.
    pub(crate) fn path_text(self) -> Cow<'a, str> {
        text(self.path())
    }

    /// Whether path and query hold only what RFC 3986 allows there, and `[` and `]`. Only `compat.strict` asks.
    pub(crate) fn target_is_legal(self) -> bool {
        let query = self.head.query.clone().map_or(&b""[..], |place| &self.bytes[place]);
        query::is_legal(self.path()) && query::is_legal(query)
    }

    /// What follows the question mark, fragment excluded. `None` without a question mark.
    pub(crate) fn query(self) -> Option<Cow<'a, str>> {
        self.head.query.clone().map(|place| text(&self.bytes[place]))
    }

    /// The authority of a target in URL form.
    pub(crate) fn authority(self) -> Option<Cow<'a, str>> {
        self.head.authority.clone().map(|place| text(&self.bytes[place]))
    }

    /// All headers in the order of arrival.
    pub(crate) fn headers(self) -> impl Iterator<Item = (&'a str, Cow<'a, str>)> {
        self.head.headers.iter().map(move |header| {
            let name = &self.bytes[header.name.clone()];
            let name = str::from_utf8(name).expect("httparse takes ASCII names only");
            (name, text(&self.bytes[header.value.clone()]))
        })
    }

    /// The first header of this name.
    pub(crate) fn get(self, known: Known) -> Option<Cow<'a, str>> {
        let index = self.head.known[known as usize]?;
        Some(text(&self.bytes[self.head.headers[usize::from(index)].value.clone()]))
    }

    /// The first header of a name that is not among the known.
    pub(crate) fn find(self, name: &str) -> Option<Cow<'a, str>> {
        self.headers().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn has(self, known: Known) -> bool {
        self.head.known[known as usize].is_some()
    }
}

/// Bytes of a head as text: UTF-8 where they are that, else Latin-1, so that nothing is lost either way.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    match str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(bytes.iter().map(|&byte| char::from(byte)).collect()),
    }
}

fn starts_with_ignore_case(text: &[u8], start: &[u8]) -> bool {
    text.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start))
}

/// The bytes of methods, header names and cookie names.
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads a whole request head; panics where it does not end.
    pub(crate) fn parse(text: &[u8]) -> Result<Head, BadHead> {
        let limits = Networking::default();
        let mut search = Search::default();
        let end = search.end(text, &limits)?.expect("the head has an end");
        Head::parse(&text[..end], search.request_line_end(), limits.max_headers)
    }

    fn with_headers(headers: &str) -> Result<Head, BadHead> {
        parse(format!("POST /a/b HTTP/1.1\r\n{headers}\r\n").as_bytes())
    }

    #[test]
    fn names_order_case_and_duplicates_are_kept() {
        let bytes = b"GET /i?a=b HTTP/1.1\r\nhOsT: h\r\nX-A:1\r\nx-a: \t 2 \r\nEmpty:\r\n\r\n";
        let head = parse(bytes).unwrap();
        let view = View { head: &head, bytes };
        let headers: Vec<_> = view.headers().collect();
        let expect = [("hOsT", "h"), ("X-A", "1"), ("x-a", "2"), ("Empty", "")];
        assert_eq!(headers, expect.map(|(name, value)| (name, Cow::Borrowed(value))));
        assert_eq!(view.path(), b"/i");
        assert_eq!(view.query().as_deref(), Some("a=b"));
        assert_eq!(view.get(Known::Host).as_deref(), Some("h"));
    }

    /// Path, query, authority.
    type Target = (Vec<u8>, Option<String>, Option<String>);

    fn target(line: &[u8]) -> Result<Target, BadHead> {
        let bytes = [line, b"\r\n\r\n"].concat();
        let head = parse(&bytes)?;
        let view = View { head: &head, bytes: &bytes };
        let owned = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned);
        Ok((view.path().to_vec(), owned(view.query()), owned(view.authority())))
    }

    #[test]
    fn targets_that_others_refuse_are_kept_verbatim() {
        for query in
            ["a b", "a=\"x\"", "{\"a\":1}", "a|b^`\\<>", "%", "%zz", "a?b/c[d]", "  ", "é", ""]
        {
            let line = format!("GET /i?{query} HTTP/1.1");
            let expect = (b"/i".to_vec(), Some(query.to_owned()), None);
            assert_eq!(target(line.as_bytes()), Ok(expect), "{query}");
        }
        let latin1 = target(b"GET /i?a=\xe9 HTTP/1.1").unwrap();
        assert_eq!(latin1.1.as_deref(), Some("a=é"));
        assert_eq!(target(b"GET /i?a#b?c HTTP/1.1").unwrap().1.as_deref(), Some("a"));
        assert_eq!(target(b"GET /i#b?c HTTP/1.1").unwrap().1, None);
    }

    #[test]
    fn a_url_as_target_has_an_authority() {
        let (path, query, authority) = target(b"GET HTTP://u@h.example:81/i?a HTTP/1.1").unwrap();
        assert_eq!((path.as_slice(), query.as_deref()), (&b"/i"[..], Some("a")));
        assert_eq!(authority.as_deref(), Some("u@h.example:81"));
        assert_eq!(target(b"GET http://h?a HTTP/1.0").unwrap().0, b"");
    }

    #[test]
    fn request_lines_that_mean_nothing_are_refused() {
        for (line, error) in [
            (&b"GET"[..], BadHead::RequestLine),
            (b"GET /i", BadHead::RequestLine),
            (b" /i HTTP/1.1", BadHead::RequestLine),
            (b"G(T /i HTTP/1.1", BadHead::RequestLine),
            (b"GET /i HTTP/2.0", BadHead::Version),
            (b"GET /i http/1.1", BadHead::Version),
            (b"GET /i HTTP/1.1 ", BadHead::Version),
            (b"GET  HTTP/1.1", BadHead::Target),
            (b"GET  /i HTTP/1.1", BadHead::Target),
            (b"GET i HTTP/1.1", BadHead::Target),
            (b"GET * HTTP/1.1", BadHead::Target),
            (b"GET http:///i HTTP/1.1", BadHead::Target),
            (b"CONNECT h:443 HTTP/1.1", BadHead::Target),
            (b"GET /i?a\0b HTTP/1.1", BadHead::Target),
            (b"GET /i?a\rb HTTP/1.1", BadHead::Target),
        ] {
            assert_eq!(target(line), Err(error), "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn the_length_of_the_body_has_one_meaning_or_the_request_is_refused() {
        let framing = |headers: &str| with_headers(headers).map(|head| head.framing);
        assert_eq!(framing(""), Ok(Framing::Empty));
        assert_eq!(framing("Content-Length: 0\r\n"), Ok(Framing::Empty));
        assert_eq!(framing("content-length: 007\r\n"), Ok(Framing::Length(7)));
        assert_eq!(framing("Content-Length: 5\r\nContent-Length: 5\r\n"), Ok(Framing::Length(5)));
        assert_eq!(framing("Transfer-Encoding: Chunked\r\n"), Ok(Framing::Chunked));
        for length in ["", "-1", "+1", "1a", "5, 5", "5 5", "0x5", "18446744073709551617"] {
            let refused = framing(&format!("Content-Length: {length}\r\n"));
            assert_eq!(refused, Err(BadHead::ContentLength), "{length}");
        }
        let two = framing("Content-Length: 5\r\nContent-Length: 6\r\n");
        assert_eq!(two, Err(BadHead::ContentLength));
        for headers in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked, identity\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding:\r\n",
        ] {
            assert_eq!(framing(headers), Err(BadHead::TransferCoding), "{headers}");
        }
        let old = parse(b"POST /a/b HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(old.map(|head| head.framing), Err(BadHead::TransferCoding));
    }

    #[test]
    fn header_lines_with_two_readings_are_refused() {
        for (headers, error) in [
            ("Content-Length : 5\r\n", BadHead::Header),
            ("A: b\r\n folded\r\n", BadHead::Header),
            ("A: b\r\n\tfolded\r\n", BadHead::Header),
            (" A: b\r\n", BadHead::Header),
            ("A: b\rc\r\n", BadHead::Header),
            ("A: b\0c\r\n", BadHead::Header),
            ("no colon\r\n", BadHead::Header),
            (": b\r\n", BadHead::Header),
            ("A: b\nB: c\r\n", BadHead::BareLineFeed),
            ("A: b\n\n", BadHead::BareLineFeed),
            ("Host: a\r\nhost: b\r\n", BadHead::Host),
        ] {
            assert_eq!(with_headers(headers).map(|_| ()), Err(error), "{headers:?}");
        }
    }

    #[test]
    fn keep_alive_follows_version_and_connection_header() {
        for (version, connection, keep_alive) in [
            ("1.1", "", true),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "Connection: Upgrade, CLOSE\r\n", false),
            ("1.1", "Connection: close\r\nConnection: keep-alive\r\n", false),
            ("1.0", "", false),
            ("1.0", "connection: Keep-Alive\r\n", true),
        ] {
            let text = format!("GET /i HTTP/{version}\r\n{connection}\r\n");
            assert_eq!(parse(text.as_bytes()).unwrap().keep_alive, keep_alive, "{text}");
        }
    }

    fn search(text: &str, line_max: usize, headers_max: usize) -> Result<Option<usize>, BadHead> {
        let limits = Networking {
            max_request_line_length: line_max,
            max_headers_length: headers_max,
            ..Networking::default()
        };
        Search::default().end(text.as_bytes(), &limits)
    }

    #[test]
    fn limits_are_met_exactly() {
        let head = "GET / HTTP/1.1\r\nA: b\r\n\r\n";
        assert_eq!(search(head, 14, 6), Ok(Some(head.len())));
        assert_eq!(search(head, 13, 6), Err(BadHead::RequestLineTooLong));
        assert_eq!(search(head, 14, 5), Err(BadHead::HeadersTooLong));
        assert_eq!(search(&"a".repeat(15), 14, 6), Ok(None));
        assert_eq!(search(&"a".repeat(16), 14, 6), Err(BadHead::RequestLineTooLong));
        assert_eq!(search("GET / HTTP/1.1\r\nA: bbbbbb", 14, 6), Err(BadHead::HeadersTooLong));
        let many = "A: b\r\n".repeat(101);
        assert_eq!(with_headers(&many).map(|_| ()), Err(BadHead::TooManyHeaders));
        assert!(with_headers(&many[6..]).is_ok());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(mut bytes: Vec<u8>) {
            let _ = Search::default().end(&bytes, &Networking::default());
            bytes.extend_from_slice(b"\r\n\r\n");
            let mut search = Search::default();
            if let Ok(Some(end)) = search.end(&bytes, &Networking::default()) {
                let _ = Head::parse(&bytes[..end], search.request_line_end(), 100);
            }
        }

        #[test]
        fn the_end_is_found_at_the_same_place_however_the_bytes_arrive(cut in 0_usize..40) {
            let bytes = b"GET /i HTTP/1.1\r\nHost: a\r\nA: b\r\n\r\nnext";
            let limits = Networking::default();
            let mut search = Search::default();
            let first = search.end(&bytes[..cut.min(bytes.len())], &limits).unwrap();
            let end = first.or_else(|| search.end(bytes, &limits).unwrap());
            prop_assert_eq!(end, Some(bytes.len() - 4));
        }
    }
}
