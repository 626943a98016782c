//! The optional container around the payloads of one raw record. Snowplow: `enrich-core.md` 1.1.
//!
//! ```text
//! zstd or gzip of:  01 | 01 | [length, 4 bytes big-endian | one Thrift payload] …
//! ```
//!
//! Anything that does not begin like zstd or gzip is one bare payload. Entries are unfolded one at a time, into memory
//! that grows with the bytes that are really there, never with a length that is only claimed.

use std::io::{self, Read};

use crate::Settings;

const ZSTD: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
const GZIP: [u8; 2] = [0x1F, 0x8B];

/// The largest window that a zstd frame may ask for, as a power of two: 8 MiB, what every decoder must support.
const WINDOW_LOG_MAX: u32 = 23;

/// One thing found in a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// The bytes of one payload.
    Payload(Vec<u8>),
    /// A payload that was passed over, with its length.
    TooLarge(u64),
    UnsupportedVersion(u8, u8),
    /// Nothing behind this can be read.
    Corrupt,
}

/// What a record holds.
pub(crate) enum Contents<'a> {
    /// One payload, as it stands.
    Bare(&'a [u8]),
    Container(Entries<'a>),
}

/// Looks at the first bytes of a record.
pub(crate) fn open<'a>(record: &'a [u8], settings: &Settings) -> Contents<'a> {
    let source: io::Result<Box<dyn Read + 'a>> = if record.starts_with(&ZSTD) {
        zstd::Decoder::with_buffer(record).and_then(|mut decoder| {
            decoder.window_log_max(WINDOW_LOG_MAX)?;
            Ok(Box::new(decoder) as Box<dyn Read>)
        })
    } else if record.starts_with(&GZIP) {
        Ok(Box::new(flate2::bufread::MultiGzDecoder::new(record)))
    } else {
        return Contents::Bare(record);
    };
    Contents::Container(Entries {
        state: match source {
            Ok(source) => State::Header(source.take(settings.container_bytes_max)),
            Err(_) => State::Broken,
        },
        payload_bytes_max: settings.payload_bytes_max,
    })
}

/// The entries of a container, in order.
pub(crate) struct Entries<'a> {
    state: State<'a>,
    payload_bytes_max: u64,
}

enum State<'a> {
    Header(io::Take<Box<dyn Read + 'a>>),
    Entries(io::Take<Box<dyn Read + 'a>>),
    Broken,
    End,
}

impl Iterator for Entries<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        match std::mem::replace(&mut self.state, State::End) {
            State::Header(mut source) => {
                let mut versions = [0; 2];
                match source.read_exact(&mut versions) {
                    Ok(()) if versions == [1, 1] => self.entry(source),
                    Ok(()) => Some(Entry::UnsupportedVersion(versions[0], versions[1])),
                    Err(_) => Some(Entry::Corrupt),
                }
            }
            State::Entries(source) => self.entry(source),
            State::Broken => Some(Entry::Corrupt),
            State::End => None,
        }
    }
}

impl<'a> Entries<'a> {
    fn entry(&mut self, mut source: io::Take<Box<dyn Read + 'a>>) -> Option<Entry> {
        let length = match read_length(&mut source) {
            Ok(Some(length)) => u64::from(length),
            Ok(None) => return None,
            Err(_) => return Some(Entry::Corrupt),
        };
        let is_too_large = length > self.payload_bytes_max;
        let mut bytes = Vec::new();
        let mut limited = source.take(length);
        let read = match is_too_large {
            true => io::copy(&mut limited, &mut io::sink()),
            false => limited.read_to_end(&mut bytes).map(|count| count as u64),
        };
        match read {
            Ok(count) if count == length => {}
            // The length is what counts for a payload that is too large, even where its bytes are not all there.
            _ if is_too_large => return Some(Entry::TooLarge(length)),
            _ => return Some(Entry::Corrupt),
        }
        self.state = State::Entries(limited.into_inner());
        Some(if is_too_large { Entry::TooLarge(length) } else { Entry::Payload(bytes) })
    }
}

/// Four bytes, or nothing at the very end.
fn read_length(source: &mut impl Read) -> io::Result<Option<u32>> {
    let mut bytes = [0; 4];
    let mut filled = 0;
    while filled < bytes.len() {
        match source.read(&mut bytes[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(u32::from_be_bytes(bytes)))
}
