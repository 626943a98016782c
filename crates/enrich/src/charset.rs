//! The charsets that a collector payload may name, and the decoding of their bytes.
//!
//! Every collector writes `UTF-8`. The others are the ones that any Java has; a name that is not here makes the record
//! unreadable, as an unknown charset does in Snowplow (`enrich-core.md` 1.3).

use std::borrow::Cow;

/// How the bytes behind `%XX` become text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charset {
    Utf8,
    Ascii,
    Latin1,
    /// The flag says whether the low byte comes first where there is no byte order mark.
    Utf16 {
        little_endian: bool,
    },
}

impl Charset {
    /// Finds a charset by its name or an alias, letter case left aside.
    pub(crate) fn of_name(name: &str) -> Option<Charset> {
        const NAMES: &[(&str, Charset)] = &[
            ("utf-8", Charset::Utf8),
            ("utf8", Charset::Utf8),
            ("us-ascii", Charset::Ascii),
            ("ascii", Charset::Ascii),
            ("iso-8859-1", Charset::Latin1),
            ("iso8859_1", Charset::Latin1),
            ("latin1", Charset::Latin1),
            ("utf-16", Charset::Utf16 { little_endian: false }),
            ("utf-16be", Charset::Utf16 { little_endian: false }),
            ("utf-16le", Charset::Utf16 { little_endian: true }),
        ];
        NAMES
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, charset)| *charset)
    }

    /// Decodes bytes; what is malformed becomes U+FFFD.
    pub(crate) fn decode(self, bytes: &[u8]) -> Cow<'_, str> {
        match self {
            // Nearly all of it is well-formed, and only to check that is several times faster.
            Charset::Utf8 => std::str::from_utf8(bytes)
                .map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed),
            Charset::Ascii => {
                bytes
                    .iter()
                    .map(|byte| {
                        if byte.is_ascii() {
                            char::from(*byte)
                        } else {
                            char::REPLACEMENT_CHARACTER
                        }
                    })
                    .collect()
            }
            Charset::Latin1 => bytes.iter().map(|byte| char::from(*byte)).collect(),
            Charset::Utf16 { little_endian } => decode_utf16(bytes, little_endian).into(),
        }
    }
}

fn decode_utf16(bytes: &[u8], little_endian: bool) -> String {
    let (little_endian, bytes) = match bytes {
        [0xFE, 0xFF, rest @ ..] => (false, rest),
        [0xFF, 0xFE, rest @ ..] => (true, rest),
        _ => (little_endian, bytes),
    };
    let units = bytes.chunks_exact(2).map(|pair| match little_endian {
        true => u16::from_le_bytes([pair[0], pair[1]]),
        false => u16::from_be_bytes([pair[0], pair[1]]),
    });
    let mut text: String =
        char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    if bytes.len() % 2 == 1 {
        text.push(char::REPLACEMENT_CHARACTER);
    }
    text
}
