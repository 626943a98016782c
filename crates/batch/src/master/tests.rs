//! Round trips, every kind of damage, the chain.

use super::*;
use crate::testing::MemoryDisk;
use proptest::prelude::*;

fn raw_0() -> Partition {
    Partition::of_stream("raw", 0)
}

fn at(number: u64) -> Offset {
    Offset::from_number(number)
}

fn record(offset: u64, bytes: &[u8]) -> Record {
    Record { offset: at(offset), bytes: Bytes::copy_from_slice(bytes) }
}

fn written(disk: &MemoryDisk, from: u64, records: &[Record], to: u64) -> Footer {
    let mut writer = Writer::new(raw_0(), at(from));
    records.iter().for_each(|record| writer.push(record));
    let (content, footer) = writer.finish(at(to));
    assert_eq!(publish(disk, Path::new("/d"), &content, &footer).unwrap(), Published::New);
    footer
}

fn read(disk: &MemoryDisk, from: u64) -> Result<Vec<Record>, Error> {
    let mut reader = Reader::open(disk, Path::new("/d"), &raw_0(), at(from))?.unwrap();
    let mut records = Vec::new();
    while let Some(frame) = reader.read_frame()? {
        records.extend(frame);
    }
    Ok(records)
}

#[test]
fn a_file_is_named_by_partition_and_first_offset() {
    assert_eq!(name(&raw_0(), at(7)), "master/raw/0/00000000000000000007.raw.zst");
}

#[test]
fn a_large_file_has_several_frames_and_reads_back() {
    let disk = MemoryDisk::default();
    let records: Vec<Record> =
        (0..5000).map(|n| record(n * 3, format!("{n:01000}").as_bytes())).collect();
    let footer = written(&disk, 0, &records, 20_000);
    assert!(footer.frames.len() > 3, "{}", footer.frames.len());
    assert_eq!(read(&disk, 0).unwrap(), records);
    let read = Footer::read(&disk, Path::new("/d"), &raw_0(), at(0)).unwrap().unwrap();
    assert_eq!(read, footer);
    assert_eq!((footer.first, footer.last), (at(0), at(14_997)));
    assert_eq!((footer.records, footer.bytes), (5000, 5_000_000));
}

#[test]
fn every_flipped_bit_is_found_and_the_file_is_named() {
    let disk = MemoryDisk::default();
    let records = [record(5, b"one"), record(9, b""), record(10, &[0; 300])];
    written(&disk, 5, &records, 11);
    let path = path(Path::new("/d"), &raw_0(), at(5));
    let length = disk.read(&path).unwrap().len();
    for byte in 0..length {
        for bit in [0, 7] {
            disk.change(&path, |content| content[byte] ^= 1 << bit);
            let error = read(&disk, 5).expect_err(&format!("byte {byte} bit {bit}"));
            assert!(
                matches!(&error, Error::Damaged { path: named, .. } | Error::Newer { path: named, .. } if *named == path),
                "{error}"
            );
            disk.change(&path, |content| content[byte] ^= 1 << bit);
        }
    }
    assert_eq!(read(&disk, 5).unwrap(), records);
}

#[test]
fn every_shorter_or_longer_file_is_damaged() {
    let disk = MemoryDisk::default();
    written(&disk, 0, &[record(0, b"one"), record(1, b"two")], 2);
    let path = path(Path::new("/d"), &raw_0(), at(0));
    let whole = disk.read(&path).unwrap();
    for length in 0..whole.len() {
        disk.change(&path, |content| content.truncate(length));
        assert!(matches!(read(&disk, 0), Err(Error::Damaged { .. })), "{length}");
        disk.change(&path, |content| *content = whole.clone());
    }
    disk.change(&path, |content| content.push(0));
    assert!(matches!(read(&disk, 0), Err(Error::Damaged { .. })));
}

/// Changes the text of the footer and makes length and checksum right: what no disk does, but a program could.
fn forge_footer(content: &mut Vec<u8>, from: &str, to: &str) {
    let trailer = content.split_off(content.len() - TRAILER_BYTES as usize);
    let footer = content.split_off(content.len() - number(&trailer[0..4]) as usize);
    let footer = String::from_utf8(footer).unwrap();
    assert!(footer.contains(from), "{footer}");
    let footer = footer.replace(from, to);
    content.extend_from_slice(footer.as_bytes());
    content.extend_from_slice(&(footer.len() as u32).to_le_bytes());
    content.extend_from_slice(&crc32c::crc32c(footer.as_bytes()).to_le_bytes());
    content.extend_from_slice(&trailer[8..]);
}

#[test]
fn a_footer_that_lies_is_damage_and_makes_no_reader_take_its_word() {
    let most = u64::MAX.to_string();
    for (from, to) in [
        ("\"plain\":56", format!("\"plain\":{most}")),
        ("\"plain\":56", "\"plain\":1099511627776".to_owned()),
        ("\"plain\":56", "\"plain\":55".to_owned()),
        ("\"records\":2,\"crc32c\"", format!("\"records\":{most},\"crc32c\"")),
        ("\"stored\":", "\"stored\":1".to_owned()),
    ] {
        let disk = MemoryDisk::default();
        written(&disk, 0, &[record(0, b"one"), record(1, b"two")], 2);
        let path = path(Path::new("/d"), &raw_0(), at(0));
        disk.change(&path, |content| forge_footer(content, from, &to));
        assert!(matches!(read(&disk, 0), Err(Error::Damaged { .. })), "{to}");
    }
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let disk = MemoryDisk::default();
    written(&disk, 0, &[record(0, b"one")], 1);
    let path = path(Path::new("/d"), &raw_0(), at(0));
    disk.change(&path, |content| {
        let trailer = content.len() - TRAILER_BYTES as usize;
        content[trailer + 8..trailer + 12].copy_from_slice(&2u32.to_le_bytes());
    });
    let error = read(&disk, 0).unwrap_err();
    assert!(matches!(error, Error::Newer { version: 2, known: 1, .. }), "{error}");
    assert!(error.to_string().contains("00000000000000000000.raw.zst"), "{error}");
}

#[test]
fn a_file_under_another_name_is_refused() {
    let disk = MemoryDisk::default();
    let footer = written(&disk, 0, &[record(0, b"one")], 1);
    let content = disk.read(&path(Path::new("/d"), &raw_0(), at(0))).unwrap();
    let wrong = Footer { range: Range { from: at(1), ..footer.range.clone() }, ..footer };
    let _ = publish(&disk, Path::new("/d"), &content, &wrong).unwrap();
    assert!(matches!(read(&disk, 1), Err(Error::Damaged { .. })));
}

#[test]
fn a_chain_ends_where_a_name_is_missing_and_a_missing_file_below_the_cut_is_a_hole() {
    let disk = MemoryDisk::default();
    let links = [
        written(&disk, 0, &[record(0, b"a")], 4),
        written(&disk, 4, &[record(4, b"b")], 6),
        written(&disk, 6, &[record(7, b"c")], 8),
    ];
    let chain = |from, reaches| chain(&disk, Path::new("/d"), &raw_0(), at(from), at(reaches));
    assert_eq!(chain(0, 8).unwrap(), links);
    assert_eq!(chain(4, 4).unwrap(), links[1..]);
    assert_eq!(chain(8, 8).unwrap(), []);
    disk.remove(&path(Path::new("/d"), &raw_0(), at(4))).unwrap();
    assert_eq!(chain(0, 4).unwrap(), links[..1]);
    let hole = chain(0, 8).unwrap_err();
    assert!(matches!(&hole, Error::Hole { from, to, .. } if (*from, *to) == (at(4), at(8))));
    assert!(hole.to_string().contains("00000000000000000004.raw.zst"), "{hole}");
}

#[test]
fn a_file_of_the_first_release_stays_readable() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/format-1.raw.zst");
    let disk = MemoryDisk::default();
    let path = path(Path::new("/d"), &raw_0(), at(5));
    let content = std::fs::read(file).unwrap();
    let _ = files::publish(&disk, &path, &content).unwrap();
    assert_eq!(read(&disk, 5).unwrap(), [record(5, b"one"), record(9, b""), record(10, b"ten")]);
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        steps in proptest::collection::vec((1u64..1000, proptest::collection::vec(any::<u8>(), 0..200)), 1..40),
        from in 0u64..5,
        beyond in 1u64..5,
    ) {
        let disk = MemoryDisk::default();
        let mut offset = from;
        let records: Vec<Record> = steps.iter().map(|(step, bytes)| {
            offset += step;
            record(offset, bytes)
        }).collect();
        let footer = written(&disk, from, &records, offset + beyond);
        prop_assert_eq!(read(&disk, from).unwrap(), records);
        prop_assert_eq!(footer.range.to, at(offset + beyond));
    }
}
