//! One stored record, byte for byte; `docs/formats/segment.md` has the same drawing.
//!
//! ```text
//!  0        4          8        16       24      28            28 + length   next multiple of 8
//!  ├────────┼──────────┼────────┼────────┼───────┼─────────────┼─────────────┤
//!  │ length │ checksum │ offset │ batch  │ index │ bytes       │ zeros       │      integers little-endian
//!  └────────┴──────────┴────────┴────────┴───────┴─────────────┴─────────────┘
//! ```
//!
//! The checksum is CRC-32C over segment id, length, offset, batch, index and bytes. `batch` counts the log batches of the
//! partition; `index` is the record's place in its batch, so that any valid record tells where its batch began.
//!
//! A record can be broken in these ways: length 0 (an unwritten place is all zeros, and must not look like a record),
//! longer than the file, a checksum that differs, a padding that is not zero, an offset or batch that is never handed
//! out, and, seen by [`super::scan`], an offset, batch or index that does not follow the record before.

use super::segment::NUMBER_MAX;

/// The bytes before the record's own.
pub(crate) const HEADER_BYTES: usize = 28;

/// Where records may begin, so that recovery looks for them at an eighth of all places.
pub(crate) const ALIGNMENT: u64 = 8;

/// A valid stored record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub(crate) offset: u64,
    pub(crate) batch: u64,
    pub(crate) index: u32,
    pub(crate) bytes: &'a [u8],
}

/// What begins at a place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed<'a> {
    Entry(Entry<'a>),
    /// An unwritten place.
    Nothing,
    /// Cannot be told from fewer than so many bytes.
    More(usize),
    /// Something else, and why it is not a record.
    Invalid(&'static str),
}

/// What a record of `length` bytes takes in a segment.
pub(crate) fn stored_bytes(length: usize) -> u64 {
    (HEADER_BYTES as u64 + length as u64).next_multiple_of(ALIGNMENT)
}

/// Appends a record to `into`.
///
/// # Panics
/// When the record is empty or does not fit a `u32`: the log refuses such records.
pub(crate) fn encode(into: &mut Vec<u8>, segment_id: u64, entry: &Entry<'_>) {
    let length = u32::try_from(entry.bytes.len()).expect("the log bounds the size of a record");
    assert!(length > 0, "the log refuses empty records");
    let mut header = [0; HEADER_BYTES];
    header[0..4].copy_from_slice(&length.to_le_bytes());
    header[8..16].copy_from_slice(&entry.offset.to_le_bytes());
    header[16..24].copy_from_slice(&entry.batch.to_le_bytes());
    header[24..28].copy_from_slice(&entry.index.to_le_bytes());
    let checksum = checksum(segment_id, &header, entry.bytes);
    header[4..8].copy_from_slice(&checksum.to_le_bytes());
    let end = into.len() as u64 + stored_bytes(entry.bytes.len());
    into.extend_from_slice(&header);
    into.extend_from_slice(entry.bytes);
    into.resize(end as usize, 0);
}

/// Reads the record at the head of `from`; `room` is what the file holds from there on.
pub(crate) fn parse(from: &[u8], room: u64, segment_id: u64) -> Parsed<'_> {
    if from.len() < HEADER_BYTES {
        return if room < HEADER_BYTES as u64 {
            Parsed::Invalid("the file ends inside of a record")
        } else {
            Parsed::More(HEADER_BYTES)
        };
    }
    let header: &[u8; HEADER_BYTES] = from[..HEADER_BYTES].try_into().expect("28 are 28");
    let length = number(&header[0..4]) as usize;
    if length == 0 {
        let unwritten = header.iter().all(|&byte| byte == 0);
        return if unwritten { Parsed::Nothing } else { Parsed::Invalid("a record of length 0") };
    }
    let stored = stored_bytes(length);
    if stored > room {
        return Parsed::Invalid("a record that is longer than the file");
    }
    let stored = stored as usize;
    if from.len() < stored {
        return Parsed::More(stored);
    }
    let end = HEADER_BYTES + length;
    let bytes = &from[HEADER_BYTES..end];
    if u64::from(checksum(segment_id, header, bytes)) != number(&header[4..8]) {
        return Parsed::Invalid("a record whose checksum differs");
    }
    if from[end..stored].iter().any(|&byte| byte != 0) {
        return Parsed::Invalid("a record whose padding is not zero");
    }
    let (offset, batch) = (number(&header[8..16]), number(&header[16..24]));
    if offset.max(batch) >= NUMBER_MAX {
        return Parsed::Invalid("a record whose offset or batch cannot be");
    }
    Parsed::Entry(Entry { offset, batch, index: number(&header[24..28]) as u32, bytes })
}

fn checksum(segment_id: u64, header: &[u8; HEADER_BYTES], bytes: &[u8]) -> u32 {
    let sum = crc32c::crc32c(&segment_id.to_le_bytes());
    let sum = crc32c::crc32c_append(sum, &header[0..4]);
    let sum = crc32c::crc32c_append(sum, &header[8..]);
    crc32c::crc32c_append(sum, bytes)
}

/// A little-endian number of up to 8 bytes.
pub(crate) fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEGMENT: u64 = 0x1234_5678_9abc_def0;

    fn encoded(entry: &Entry<'_>) -> Vec<u8> {
        let mut stored = Vec::new();
        encode(&mut stored, SEGMENT, entry);
        stored
    }

    #[test]
    fn zeros_are_nothing_and_a_record_of_no_bytes_is_invalid() {
        assert_eq!(parse(&[0; 64], 64, SEGMENT), Parsed::Nothing);
        assert_eq!(parse(&[0; 8], 64, SEGMENT), Parsed::More(HEADER_BYTES));
        let mut header = [0; 32];
        header[5] = 1;
        assert_eq!(parse(&header, 64, SEGMENT), Parsed::Invalid("a record of length 0"));
    }

    proptest! {
        #[test]
        fn a_record_reads_back(bytes in proptest::collection::vec(any::<u8>(), 1..200),
                               offset in 0..NUMBER_MAX, batch in 0..NUMBER_MAX, index: u32) {
            let entry = Entry { offset, batch, index, bytes: &bytes };
            let stored = encoded(&entry);
            prop_assert_eq!(stored.len() as u64, stored_bytes(bytes.len()));
            prop_assert_eq!(parse(&stored, stored.len() as u64, SEGMENT), Parsed::Entry(entry));
            let in_another_segment = parse(&stored, stored.len() as u64, SEGMENT ^ 1);
            prop_assert!(matches!(in_another_segment, Parsed::Invalid(_)));
        }

        #[test]
        fn every_flipped_bit_is_seen(bytes in proptest::collection::vec(any::<u8>(), 1..60), at: prop::sample::Index) {
            let entry = Entry { offset: 7, batch: 3, index: 1, bytes: &bytes };
            let mut stored = encoded(&entry);
            let bit = at.index(stored.len() * 8);
            stored[bit / 8] ^= 1 << (bit % 8);
            let parsed = parse(&stored, 1 << 30, SEGMENT);
            prop_assert!(matches!(parsed, Parsed::Invalid(_) | Parsed::More(_)), "{:?}", parsed);
        }

        #[test]
        fn a_number_that_is_never_handed_out_is_invalid(number in NUMBER_MAX.., is_batch: bool) {
            let (offset, batch) = if is_batch { (0, number) } else { (number, 0) };
            let stored = encoded(&Entry { offset, batch, index: 0, bytes: b"x" });
            prop_assert!(matches!(parse(&stored, 64, SEGMENT), Parsed::Invalid(_)));
        }

        #[test]
        fn any_bytes_are_parsed_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), room in 0u64..200) {
            let _ = parse(&bytes, room, SEGMENT);
        }
    }
}
