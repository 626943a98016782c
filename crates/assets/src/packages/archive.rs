//! Files of an npm archive: tar in gzip. Only those that are asked for by name; what else is in it, and where it would
//! go, does not matter.

use std::collections::BTreeMap;
use std::io::{self, Read};

use flate2::read::GzDecoder;

/// The largest file, and the largest archive when unpacked.
const BYTES_MAX: u64 = 1 << 30;

const BLOCK: usize = 512;

/// Files by name, without the folder that stands before all names in such an archive.
///
/// # Errors
/// For what is no such archive, is cut short or larger than a gibibyte.
pub(super) fn take(bytes: &[u8], wanted: &[&str]) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let odd = |error: io::Error| format!("its archive cannot be read: {error}");
    let mut archive = GzDecoder::new(bytes).take(BYTES_MAX);
    let mut found = BTreeMap::new();
    loop {
        let mut header = [0; BLOCK];
        archive.read_exact(&mut header).map_err(odd)?;
        if header.iter().all(|byte| *byte == 0) {
            return Ok(found);
        }
        let length = number(&header[124..136])
            .filter(|_| is_whole(&header))
            .ok_or("its archive cannot be read: not a tar header")?;
        let name = text(&header[..100]);
        let (_, inner) = name.split_once('/').unwrap_or_default();
        let is_file = matches!(header[156], b'0' | 0) && text(&header[345..500]).is_empty();
        let padded = length.div_ceil(BLOCK as u64) * BLOCK as u64;
        if is_file && wanted.contains(&inner) {
            let mut content = Vec::new();
            archive.by_ref().take(length).read_to_end(&mut content).map_err(odd)?;
            if content.len() as u64 != length {
                return Err(format!("its archive ends in the middle of {inner}"));
            }
            found.insert(inner.to_owned(), content);
            skip(&mut archive, padded - length).map_err(odd)?;
        } else {
            skip(&mut archive, padded).map_err(odd)?;
        }
    }
}

fn skip(archive: &mut impl Read, length: u64) -> io::Result<()> {
    let skipped = io::copy(&mut archive.take(length), &mut io::sink())?;
    if skipped == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// The sum of all bytes, those of the sum itself as blanks.
fn is_whole(header: &[u8; BLOCK]) -> bool {
    let sum: u64 = header
        .iter()
        .enumerate()
        .map(|(at, byte)| u64::from(if (148..156).contains(&at) { b' ' } else { *byte }))
        .sum();
    number(&header[148..156]) == Some(sum)
}

/// An octal number with blanks or zero bytes around it.
fn number(field: &[u8]) -> Option<u64> {
    u64::from_str_radix(text(field).trim(), 8).ok()
}

fn text(field: &[u8]) -> &str {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    std::str::from_utf8(&field[..end]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn entry(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
        let mut header = [0; BLOCK];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        header[156] = kind;
        header[148..156].fill(b' ');
        let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let mut bytes = header.to_vec();
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().div_ceil(BLOCK) * BLOCK, 0);
        bytes
    }

    fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        entries.iter().for_each(|entry| gzip.write_all(entry).unwrap());
        gzip.write_all(&[0; 2 * BLOCK]).unwrap();
        gzip.finish().unwrap()
    }

    #[test]
    fn only_regular_files_that_are_asked_for_are_taken() {
        let large = vec![7; 1000];
        let bytes = archive(&[
            entry("package/../../etc/passwd", b'0', b"x"),
            entry("/etc/passwd", b'0', b"x"),
            entry("package/a", b'2', b""),
            entry("package/b", b'0', &large),
            entry("package/c", b'0', b"c"),
        ]);
        let found = take(&bytes, &["a", "b", "d"]).unwrap();
        assert_eq!(found, BTreeMap::from([("b".to_owned(), large)]));
    }

    #[test]
    fn what_is_cut_short_or_none_is_refused() {
        let bytes = archive(&[entry("package/b", b'0', &[7; 100_000])]);
        for odd in [&bytes[..bytes.len() / 2], b"no archive", b""] {
            assert!(take(odd, &["b"]).unwrap_err().contains("archive"));
        }
        let mut broken = entry("package/b", b'0', b"x");
        broken[0] ^= 1;
        assert!(take(&archive(&[broken]), &["b"]).unwrap_err().contains("tar header"));
    }
}
