//! Finds a segment's id again when its header is destroyed, so that its records can still be told from damage.
//!
//! Used by [`super::survey`] only. The id enters a record's checksum first, so all that the other bytes see of it is a
//! state of 32 bits. The checksum can be run backwards over a record to that state, and some id has it. One record
//! proves nothing this way, since every record has such an id; that a second record has the same one does.

use super::entry::{self, Parsed, number};
use super::segment::RECORDS_AT;

/// The reflected polynomial of CRC-32C. Its highest bit is set, which is what makes a step reversible.
const POLYNOMIAL: u32 = 0x82F6_3B78;

/// An id under which the records of `content`, a whole segment file whose first record should be `base`, are valid.
/// It need not be the one that the segment had. `None` when nothing proves an id.
pub(crate) fn find_id(content: &[u8], base: u64) -> Option<u64> {
    let records = content.get(RECORDS_AT as usize..)?;
    // The header may be damaged elsewhere.
    let written = number(&content[16..24]);
    if count(records, written, base, 1) == 1 {
        return Some(written);
    }
    let solved = solve(records, base)?;
    (count(records, solved, base, 2) == 2).then_some(solved)
}

/// How many records, up to `enough`, stand one behind the other at the beginning.
fn count(mut records: &[u8], id: u64, base: u64, enough: u64) -> u64 {
    for found in 0..enough {
        match entry::parse(records, records.len() as u64, id) {
            Parsed::Entry(entry) if entry.offset == base + found => {
                records = &records[entry::stored_bytes(entry.bytes.len()) as usize..];
            }
            _ => return found,
        }
    }
    enough
}

/// An id with which the first record has the checksum that it has.
fn solve(records: &[u8], base: u64) -> Option<u64> {
    let header = records.get(..entry::HEADER_BYTES)?;
    let length = number(&header[0..4]) as usize;
    if length == 0 || number(&header[8..16]) != base {
        return None;
    }
    let bytes = records.get(entry::HEADER_BYTES..entry::HEADER_BYTES + length)?;
    let zero = crc32c::crc32c_append(0, &header[0..4]);
    let zero = crc32c::crc32c_append(zero, &header[8..]);
    let zero = crc32c::crc32c_append(zero, bytes);
    let seen = 4 + (entry::HEADER_BYTES - 8) + length;
    // Checksums that begin with different states differ by what the states' difference becomes after so many zeros.
    let state = backwards(zero ^ number(&header[4..8]) as u32, seen);
    // Of the id's eight bytes the first four are free: they are zero here.
    let before = crc32c::crc32c(&[0; 4]);
    Some(u64::from(!before ^ backwards(!state, 4)) << 32)
}

/// The state that so many bytes of zero turn into `state`.
fn backwards(state: u32, bytes: usize) -> u32 {
    (0..bytes * 8).fold(state, |state, _| {
        if state >> 31 == 1 { (state ^ POLYNOMIAL) << 1 | 1 } else { state << 1 }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::entry::Entry;
    use crate::local::segment::NUMBER_MAX;
    use proptest::prelude::*;

    fn segment(id: u64, base: u64, records: &[Vec<u8>]) -> Vec<u8> {
        let mut content = vec![0; RECORDS_AT as usize];
        for (index, bytes) in (0..).zip(records) {
            let entry = Entry { offset: base + u64::from(index), batch: 3, index, bytes };
            entry::encode(&mut content, id, &entry);
        }
        content
    }

    proptest! {
        #[test]
        fn two_records_tell_the_id(
            id: u64, base in 0..NUMBER_MAX - 1, first in proptest::collection::vec(any::<u8>(), 1..200),
            second in proptest::collection::vec(any::<u8>(), 1..200),
        ) {
            let content = segment(id, base, &[first, second]);
            let found = find_id(&content, base).unwrap();
            prop_assert_eq!(count(&content[RECORDS_AT as usize..], found, base, 3), 2);
        }

        #[test]
        fn one_record_proves_nothing_unless_the_id_is_still_there(
            id in 1u64.., bytes in proptest::collection::vec(any::<u8>(), 1..200),
        ) {
            let mut content = segment(id, 7, &[bytes]);
            prop_assert_eq!(find_id(&content, 7), None);
            content[16..24].copy_from_slice(&id.to_le_bytes());
            prop_assert_eq!(find_id(&content, 7), Some(id));
        }

        #[test]
        fn anything_is_looked_at_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut content = vec![1; RECORDS_AT as usize];
            content.extend(bytes);
            find_id(&content, 0);
            find_id(&content[..100], 0);
        }
    }
}
