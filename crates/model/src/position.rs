//! Where a row comes from: partition, offset, and the index of the outcome inside its record.
//!
//! A position is the identity of a row for ever. Offsets are opaque: they are compared and carried, never calculated
//! with and never counted by, because other streams have holes (Kafka) or 186-bit numbers (Kinesis). Only a stream that
//! hands out its own offsets may look inside one.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A partition's name, unique in the installation for ever, for example `raw/0`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(Arc<str>);

impl Partition {
    /// The partition `index` of the stream `stream`: `raw/0`.
    pub fn of_stream(stream: &str, index: u32) -> Partition {
        Partition(format!("{stream}/{index}").into())
    }

    /// Takes a name that came from a file, a configuration or a user.
    ///
    /// # Errors
    /// When the name is empty, longer than 255 bytes, or not made of segments of `[A-Za-z0-9._-]` joined by `/`.
    pub fn parse(name: &str) -> Result<Partition, InvalidPartition> {
        let segment_is_plain = |segment: &str| {
            !segment.is_empty()
                && segment != "."
                && segment != ".."
                && segment
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        if name.len() > 255 || !name.split('/').all(segment_is_plain) {
            return Err(InvalidPartition(name.to_owned()));
        }
        Ok(Partition(name.into()))
    }

    /// The partition of an offline input file; any text is allowed, since it names no folder of ours.
    pub fn offline(file: &str) -> Partition {
        Partition(format!("offline/{file}").into())
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A partition name that cannot be one of ours.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is not a partition name: segments of letters, digits, `.`, `_` and `-`, joined by `/`"
)]
pub struct InvalidPartition(pub String);

/// A place in a partition. Its text has 20 digits, so that text order is position order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(u64);

impl Offset {
    /// The beginning of every partition: no record lies below it.
    pub const BEGINNING: Offset = Offset(0);

    /// For the stream that hands out the number; nobody else makes offsets.
    pub const fn from_number(number: u64) -> Offset {
        Offset(number)
    }

    /// For the stream that handed it out; nobody else looks inside.
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}", self.0)
    }
}

impl fmt::Debug for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for Offset {
    type Err = InvalidOffset;

    fn from_str(text: &str) -> Result<Offset, InvalidOffset> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(number) if digits => Ok(Offset(number)),
            _ => Err(InvalidOffset(text.to_owned())),
        }
    }
}

/// A text that is not an offset.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an offset: a decimal number below 2^64")]
pub struct InvalidOffset(pub String);

/// The identity of one outcome.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub partition: Partition,
    pub offset: Offset,
    /// Numbers all outcomes of one record in order, from 0.
    pub index: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.partition, self.offset, self.index)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:?}:{}", self.partition, self.offset, self.index)
    }
}

/// A half-open range of one partition: `from` is in it, `to` is not.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Range {
    pub partition: Partition,
    pub from: Offset,
    pub to: Offset,
}

/// One raw record where it lies: what the enrich function is given.
#[derive(Clone, Copy, Debug)]
pub struct RawRecord<'a> {
    pub partition: &'a Partition,
    pub offset: Offset,
    /// The stored bytes: a Thrift collector payload, or a compressed container of several.
    pub bytes: &'a [u8],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_an_offset_sorts_as_the_offset() {
        let numbers = [0, 9, 10, 99, 1 << 40, u64::MAX];
        let mut texts: Vec<String> =
            numbers.iter().map(|&n| Offset::from_number(n).to_string()).collect();
        let sorted = texts.clone();
        texts.sort();
        assert_eq!(texts, sorted);
        for (text, number) in texts.iter().zip(numbers) {
            assert_eq!(text.len(), 20);
            assert_eq!(text.parse::<Offset>().unwrap().number(), number);
        }
    }

    #[test]
    fn names_that_could_leave_the_data_folder_are_refused() {
        for name in ["", "/", "raw/", "../raw/0", "raw/./0", "raw 0", "raw/0\n"] {
            assert!(Partition::parse(name).is_err(), "{name:?}");
        }
        assert_eq!(Partition::parse("raw/0").unwrap(), Partition::of_stream("raw", 0));
    }

    #[test]
    fn signs_and_spaces_are_not_offsets() {
        for text in ["", "+1", "-1", " 1", "1 ", "18446744073709551616"] {
            assert!(text.parse::<Offset>().is_err(), "{text:?}");
        }
    }
}
