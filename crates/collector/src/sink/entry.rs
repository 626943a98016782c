//! The bytes of one request in the spool: when it came, its partition key, its records. `docs/formats/spool.md`.
//!
//! ```text
//!  1        8          1            n    for each record: 4        n
//!  version  ms (i64)   key length   key                   length   bytes
//! ```
//! Numbers are little-endian. The checksum is that of the segment's record around it, so what is read here is what was
//! written; a wrong length is a fault of the program that wrote it.

use bytes::{Buf, Bytes};
use model::time::Timestamp;

use super::Entry;

/// The version of the format.
const VERSION: u8 = 1;

/// The bytes of a request. The key is cut at 255 bytes.
pub(super) fn encode(records: &[Bytes], key: &Bytes, now: Timestamp) -> Bytes {
    let key = &key[..key.len().min(255)];
    let bytes: usize = records.iter().map(|record| 4 + record.len()).sum();
    let mut out = Vec::with_capacity(10 + key.len() + bytes);
    out.push(VERSION);
    out.extend_from_slice(&now.0.to_le_bytes());
    out.push(key.len() as u8);
    out.extend_from_slice(key);
    for record in records {
        out.extend_from_slice(&(record.len() as u32).to_le_bytes());
        out.extend_from_slice(record);
    }
    Bytes::from(out)
}

/// The request of these bytes, without copying them.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn decode(mut bytes: Bytes) -> Result<(Timestamp, Vec<Entry>), &'static str> {
    match bytes.try_get_u8() {
        Ok(VERSION) => {}
        Ok(_) => return Err("it has a newer format; use a newer snowmelt"),
        Err(_) => return Err("it is empty"),
    }
    let short = "it is shorter than it says";
    let came = Timestamp(bytes.try_get_i64_le().map_err(|_| short)?);
    let key_length = usize::from(bytes.try_get_u8().map_err(|_| short)?);
    if bytes.len() < key_length {
        return Err(short);
    }
    let key = bytes.split_to(key_length);
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let length = bytes.try_get_u32_le().map_err(|_| short)? as usize;
        if bytes.len() < length {
            return Err(short);
        }
        entries.push(Entry { bytes: bytes.split_to(length), key: key.clone() });
    }
    Ok((came, entries))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reads_back_and_every_shorter_one_is_refused() {
        let records = [Bytes::from_static(b"one"), Bytes::from_static(b"second")];
        let key = Bytes::from_static(b"10.0.0.1");
        let bytes = encode(&records, &key, Timestamp(1_700_000_000_123));
        let (came, entries) = decode(bytes.clone()).unwrap();
        assert_eq!(came, Timestamp(1_700_000_000_123));
        let expect = records.map(|bytes| Entry { bytes, key: key.clone() });
        assert_eq!(entries, expect);
        // Cut between two records it is whole; nothing but the checksum around it sees that.
        let whole = [18, 25];
        for length in (0..bytes.len()).filter(|length| !whole.contains(length)) {
            assert!(decode(bytes.slice(..length)).is_err(), "{length}");
        }
        let mut newer = bytes.to_vec();
        newer[0] = 2;
        assert!(decode(Bytes::from(newer)).unwrap_err().contains("newer"));
    }
}
