//! Bytes of the client into messages, and messages of ours into bytes: version 3 of the PostgreSQL protocol.
//!
//! Called by a connection, with whatever a stranger sent. A length is checked before anything is kept for it, every
//! read is bounded by the message, and nothing here panics: a panic of the server ends the process. What the messages
//! mean is not here.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::error::Refusal;
use super::sqlstate;

/// The longest message of a client. A statement has at most 64 KiB; parameters may be longer texts.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// The longest message before the client is let in: user, database and options, or a proof of the password.
pub(crate) const STARTUP_BYTES_MAX: usize = 10_000;

/// Codes in the place of a protocol version.
const SSL_REQUEST: i32 = 80_877_103;
const GSSENC_REQUEST: i32 = 80_877_104;
const CANCEL_REQUEST: i32 = 80_877_102;

/// The first message of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    Tls,
    Gss,
    Cancel { process: i32, secret: Vec<u8> },
    Startup { minor: u16, parameters: Vec<(String, String)> },
}

/// A message of a client that was let in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Query(String),
    Parse {
        name: String,
        sql: String,
        types: Vec<u32>,
    },
    Bind(Bind),
    Describe(Target),
    Execute {
        portal: String,
        rows_max: u32,
    },
    Close(Target),
    Flush,
    Sync,
    Terminate,
    /// Belongs to COPY, which is refused; PostgreSQL ignores it outside of one.
    Copy,
    /// An answer to a question of authentication.
    Password(Bytes),
    FunctionCall,
}

/// Values for the parameters of a prepared statement.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bind {
    pub(crate) portal: String,
    pub(crate) statement: String,
    pub(crate) formats: Vec<u16>,
    pub(crate) values: Vec<Option<Bytes>>,
    pub(crate) result_formats: Vec<u16>,
}

/// What Describe and Close name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Statement(String),
    Portal(String),
}

/// Takes the first message from the buffer; `None` when more bytes are needed.
///
/// # Errors
/// [`Refusal`] for a length or a version that no client of ours sends.
pub(crate) fn opening(buffer: &mut BytesMut) -> Result<Option<Opening>, Refusal> {
    let Some(mut body) = body(buffer, 0, STARTUP_BYTES_MAX)? else { return Ok(None) };
    let code = i32_of(&mut body)?;
    Ok(Some(match code {
        SSL_REQUEST => Opening::Tls,
        GSSENC_REQUEST => Opening::Gss,
        CANCEL_REQUEST => {
            let process = i32_of(&mut body)?;
            Opening::Cancel { process, secret: body.to_vec() }
        }
        _ if code >> 16 == 3 => {
            let mut parameters = Vec::new();
            loop {
                let name = text_of(&mut body)?;
                if name.is_empty() {
                    break;
                }
                parameters.push((name, text_of(&mut body)?));
            }
            Opening::Startup { minor: (code & 0xffff) as u16, parameters }
        }
        _ => {
            let message = format!(
                "unsupported frontend protocol {}.{}: server supports 3.0 only",
                code >> 16,
                code & 0xffff
            );
            return Err(Refusal::fatal(sqlstate::FEATURE_NOT_SUPPORTED, message));
        }
    }))
}

/// Takes one message from the buffer; `None` when more bytes are needed.
///
/// # Errors
/// [`Refusal`] for a message that is too long, of an unknown kind, or not formed as its kind is.
pub(crate) fn message(buffer: &mut BytesMut, bytes_max: usize) -> Result<Option<Message>, Refusal> {
    let Some(kind) = buffer.first().copied() else { return Ok(None) };
    if !b"QPBDECHSXdcfpF".contains(&kind) {
        return Err(violation(format!("invalid frontend message type {kind}")));
    }
    let Some(mut body) = body(buffer, 1, bytes_max)? else { return Ok(None) };
    let message = match kind {
        b'Q' => Message::Query(text_of(&mut body)?),
        b'P' => {
            let (name, sql) = (text_of(&mut body)?, text_of(&mut body)?);
            let types = many(&mut body, |body| Ok(i32_of(body)?.cast_unsigned()))?;
            Message::Parse { name, sql, types }
        }
        b'B' => {
            let (portal, statement) = (text_of(&mut body)?, text_of(&mut body)?);
            let formats = many(&mut body, u16_of)?;
            let values = many(&mut body, value_of)?;
            let result_formats = many(&mut body, u16_of)?;
            Message::Bind(Bind { portal, statement, formats, values, result_formats })
        }
        b'D' => Message::Describe(target(&mut body)?),
        b'C' => Message::Close(target(&mut body)?),
        b'E' => {
            let portal = text_of(&mut body)?;
            Message::Execute { portal, rows_max: i32_of(&mut body)?.max(0).cast_unsigned() }
        }
        b'H' => Message::Flush,
        b'S' => Message::Sync,
        b'X' => Message::Terminate,
        b'p' => Message::Password(std::mem::take(&mut body)),
        b'F' => Message::FunctionCall,
        _ => Message::Copy,
    };
    if !body.is_empty() && matches!(kind, b'Q' | b'P' | b'B' | b'D' | b'C' | b'E') {
        return Err(violation("invalid message format"));
    }
    Ok(Some(message))
}

/// The bytes after the length word, once all of them are there.
fn body(buffer: &mut BytesMut, prefix: usize, max: usize) -> Result<Option<Bytes>, Refusal> {
    let Some(word) = buffer.get(prefix..prefix + 4) else { return Ok(None) };
    let length = word.try_into().map_or(0, i32::from_be_bytes);
    let length = usize::try_from(length).unwrap_or(0);
    if length < 4 {
        return Err(violation("invalid message length"));
    }
    if length > max {
        let message = format!("a message of {length} bytes is longer than the {max} that are read");
        return Err(Refusal::fatal(sqlstate::PROGRAM_LIMIT_EXCEEDED, message));
    }
    if buffer.len() < prefix + length {
        // Bounded by `max`.
        buffer.reserve(prefix + length - buffer.len());
        return Ok(None);
    }
    let mut whole = buffer.split_to(prefix + length).freeze();
    whole.advance(prefix + 4);
    Ok(Some(whole))
}

fn violation(message: impl Into<String>) -> Refusal {
    Refusal::fatal(sqlstate::PROTOCOL_VIOLATION, message)
}

fn i32_of(body: &mut Bytes) -> Result<i32, Refusal> {
    body.try_get_i32().map_err(|_| violation("a message ends too early"))
}

fn u16_of(body: &mut Bytes) -> Result<u16, Refusal> {
    body.try_get_u16().map_err(|_| violation("a message ends too early"))
}

/// A text that ends with a zero byte.
fn text_of(body: &mut Bytes) -> Result<String, Refusal> {
    let Some(end) = body.iter().position(|byte| *byte == 0) else {
        return Err(violation("a text of a message has no end"));
    };
    let text = body.split_to(end);
    body.advance(1);
    String::from_utf8(text.to_vec()).map_err(|_| {
        Refusal::fatal(
            sqlstate::CHARACTER_NOT_IN_REPERTOIRE,
            "invalid byte sequence for encoding \"UTF8\"",
        )
    })
}

/// A count, then that many items.
fn many<T>(
    body: &mut Bytes,
    item: impl Fn(&mut Bytes) -> Result<T, Refusal>,
) -> Result<Vec<T>, Refusal> {
    let count = u16_of(body)?;
    (0..count).map(|_| item(body)).collect()
}

fn value_of(body: &mut Bytes) -> Result<Option<Bytes>, Refusal> {
    let length = i32_of(body)?;
    if length == -1 {
        return Ok(None);
    }
    match usize::try_from(length) {
        Ok(length) if length <= body.len() => Ok(Some(body.split_to(length))),
        _ => Err(violation("a value of a message has a wrong length")),
    }
}

fn target(body: &mut Bytes) -> Result<Target, Refusal> {
    let kind = body.try_get_u8().map_err(|_| violation("a message ends too early"))?;
    let name = text_of(body)?;
    match kind {
        b'S' => Ok(Target::Statement(name)),
        b'P' => Ok(Target::Portal(name)),
        _ => Err(violation("a message names neither a statement nor a portal")),
    }
}

/// Writes one message: its kind, its length, its body.
pub(crate) fn put(into: &mut BytesMut, kind: u8, body: impl FnOnce(&mut BytesMut)) {
    into.put_u8(kind);
    let at = into.len();
    into.put_i32(0);
    body(into);
    let length = i32::try_from(into.len() - at).unwrap_or(i32::MAX);
    into[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

/// A text and its zero byte. A zero byte inside would end it early, so it is left out.
pub(crate) fn put_text(into: &mut BytesMut, text: &str) {
    into.extend(text.bytes().filter(|byte| *byte != 0));
    into.put_u8(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(kind: u8, body: &[u8]) -> BytesMut {
        let mut buffer = BytesMut::new();
        put(&mut buffer, kind, |buffer| buffer.put_slice(body));
        buffer
    }

    #[test]
    fn a_message_is_taken_when_all_of_it_is_there() {
        let whole = bytes(b'Q', b"select 1\0");
        for end in 0..whole.len() {
            let mut part = BytesMut::from(&whole[..end]);
            assert_eq!(message(&mut part, MESSAGE_BYTES_MAX).unwrap(), None, "{end}");
            assert_eq!(part.len(), end);
        }
        let mut twice = BytesMut::from(&[&whole[..], &whole[..]].concat()[..]);
        for _ in 0..2 {
            let taken = message(&mut twice, MESSAGE_BYTES_MAX).unwrap();
            assert_eq!(taken, Some(Message::Query("select 1".to_owned())));
        }
        assert!(twice.is_empty());
    }

    #[test]
    fn a_bind_has_values_and_formats() {
        let body = b"p\0s\0\0\x01\0\x01\0\x02\0\0\0\x02ab\xff\xff\xff\xff\0\x01\0\0";
        let Some(Message::Bind(bind)) = message(&mut bytes(b'B', body), 1000).unwrap() else {
            panic!("no bind");
        };
        assert_eq!((bind.portal.as_str(), bind.statement.as_str()), ("p", "s"));
        assert_eq!((bind.formats, bind.result_formats), (vec![1], vec![0]));
        assert_eq!(bind.values, [Some(Bytes::from_static(b"ab")), None]);
    }

    #[test]
    fn a_length_is_refused_before_anything_is_kept_for_it() {
        for length in [0x7fff_ffff_i32, -1, i32::MIN, 0, 3, 1_000_000_000] {
            let mut buffer = BytesMut::from(&b"Q"[..]);
            buffer.put_i32(length);
            assert!(message(&mut buffer, MESSAGE_BYTES_MAX).is_err(), "{length}");
            assert!(buffer.capacity() < 1000);
            let mut buffer = BytesMut::new();
            buffer.put_i32(length);
            assert!(opening(&mut buffer).is_err(), "{length}");
        }
    }

    #[test]
    fn a_startup_names_its_parameters() {
        let mut buffer = BytesMut::new();
        buffer.put_i32(4 + 4 + 17);
        buffer.put_i32(3 << 16);
        buffer.put_slice(b"user\0anna\0\0");
        buffer.put_slice(b"beyond");
        let opened = opening(&mut buffer).unwrap();
        let parameters = vec![("user".to_owned(), "anna".to_owned())];
        assert_eq!(opened, Some(Opening::Startup { minor: 0, parameters }));
        let mut old = BytesMut::from(&b"\0\0\0\x08\0\x02\0\0"[..]);
        assert!(opening(&mut old).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0usize..14) {
            let _ = opening(&mut BytesMut::from(&bytes[..]));
            let _ = message(&mut BytesMut::from(&bytes[..]), MESSAGE_BYTES_MAX);
            // Almost a message.
            let mut framed = BytesMut::new();
            put(&mut framed, b"QPBDECHSXdcfpF"[kind], |buffer| buffer.put_slice(&bytes));
            let _ = message(&mut framed, MESSAGE_BYTES_MAX);
        }
    }
}
