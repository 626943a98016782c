//! Listing and reading beside the process that owns the log.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use model::position::Offset;
use stream::disk::Disk;
use stream::local::inspect::{self, Listing, Reader, State};
use stream::local::{Drive, Local, Options};
use stream::{Error, Stream};

use crate::folder::{Folder, append, pairs, raw};

fn reader(folder: &Folder, from: Option<u64>) -> Result<Reader, Error> {
    let from = from.map(Offset::from_number);
    Reader::open(Arc::new(Disk), &folder.streams_dir(), &raw(), from)
}

fn rest(reader: &mut Reader) -> Result<Vec<(u64, String)>, Error> {
    let mut found = Vec::new();
    while let Some(record) = reader.read_next()? {
        found.push((record.offset.number(), String::from_utf8(record.bytes.to_vec()).unwrap()));
    }
    Ok(found)
}

fn list(folder: &Folder) -> Listing {
    inspect::list(&Disk, &folder.streams_dir()).unwrap().remove(0)
}

#[test]
fn every_stream_and_partition_is_listed_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { disk_reserve_bytes: Some(0), ..Options::default() };
    for (name, partitions) in [("raw", 11), ("bad", 1)] {
        let files = Arc::new(Disk);
        let log = Local::open(files, dir.path(), name, partitions, options.clone()).unwrap();
        let last = log.partitions().last().unwrap().clone();
        futures::executor::block_on(log.append(&last, vec!["x".into()])).unwrap();
    }
    std::fs::write(dir.path().join("note.txt"), "not a stream").unwrap();
    let listings = inspect::list(&Disk, dir.path()).unwrap();
    let names: Vec<String> = listings.iter().map(|it| it.partition.to_string()).collect();
    assert_eq!(names[..3], ["bad/0", "raw/0", "raw/1"]);
    assert_eq!(names.last().unwrap(), "raw/10");
    let last = listings.last().unwrap();
    assert_eq!((last.start, last.end), (Offset::BEGINNING, Offset::from_number(1)));
    assert_eq!((last.bytes, last.segments.len()), (1 << 20, 1));
    assert!(matches!(last.state, State::Whole));
    assert!(matches!(inspect::list(&Disk, &dir.path().join("none")), Err(Error::Io { .. })));
}

#[test]
fn a_reader_follows_a_log_from_segment_to_segment_and_through_trims() {
    let folder = Folder::new();
    let log = folder.open();
    let mut from_start = reader(&folder, None).unwrap();
    assert_eq!(rest(&mut from_start).unwrap(), []);
    let long = "x".repeat(3000);
    for number in 0..10 {
        append(&log, &[&long]);
        assert_eq!(rest(&mut from_start).unwrap(), pairs(&[(number, &long)]));
    }
    assert_eq!(rest(&mut reader(&folder, Some(8)).unwrap()).unwrap().len(), 2);
    let mut behind = reader(&folder, None).unwrap();
    assert_eq!(behind.read_next().unwrap().unwrap().offset, Offset::BEGINNING);
    log.trim(&raw(), Offset::from_number(u64::MAX)).unwrap();
    assert!(matches!(reader(&folder, Some(0)), Err(Error::Trimmed { .. })));
    assert!(rest(&mut from_start).unwrap().is_empty());
    append(&log, &["after the trim"]);
    assert_eq!(rest(&mut from_start).unwrap(), pairs(&[(10, "after the trim")]));
    let listing = list(&folder);
    assert_eq!(listing.start, log.start(&raw()).unwrap());
    assert_eq!(listing.end, Offset::from_number(11));
}

#[test]
fn a_reader_sees_all_records_of_a_log_that_is_being_written() {
    let mut folder = Folder::new();
    folder.options.drive = Drive::Threads;
    folder.options.segment_bytes_max = 1 << 20;
    let log = Arc::new(folder.open());
    let writer = {
        let log = Arc::clone(&log);
        std::thread::spawn(move || {
            for number in 0..400 {
                append(&log, &[&format!("record {number}"), &"x".repeat(number * 7 + 1)]);
            }
        })
    };
    let mut reader = reader(&folder, None).unwrap();
    let mut next = 0;
    while next < 800 {
        for (offset, text) in rest(&mut reader).unwrap() {
            assert_eq!(offset, next);
            if offset % 2 == 0 {
                assert_eq!(text, format!("record {}", offset / 2));
            }
            next += 1;
        }
        assert!(!matches!(list(&folder).state, State::Damaged(_)), "{:?}", list(&folder).state);
    }
    writer.join().unwrap();
}

#[test]
fn a_half_written_batch_is_the_end_and_is_read_when_it_is_whole() {
    let folder = Folder::new();
    let log = folder.open();
    append(&log, &["one"]);
    let path = folder.last_segment();
    let before = std::fs::read(&path).unwrap();
    append(&log, &["two", "three"]);
    drop(log);
    let after = std::fs::read(&path).unwrap();
    let mut half = before.clone();
    half[..4096 + 32 + 40].copy_from_slice(&after[..4096 + 32 + 40]);
    std::fs::write(&path, &half).unwrap();
    let mut reader = reader(&folder, None).unwrap();
    assert_eq!(rest(&mut reader).unwrap(), pairs(&[(0, "one"), (1, "two")]));
    assert!(matches!(list(&folder).state, State::TornTail { at, .. } if at == 4096 + 64));
    assert_eq!(rest(&mut reader).unwrap(), []);
    std::fs::write(&path, &after).unwrap();
    assert_eq!(rest(&mut reader).unwrap(), pairs(&[(2, "three")]));
}

#[test]
fn damage_is_reported_with_its_place_and_nothing_is_changed() {
    let folder = Folder::new();
    let log = folder.open();
    append(&log, &["one"]);
    append(&log, &["two"]);
    append(&log, &["three"]);
    drop(log);
    let path = folder.last_segment();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(b"X", 4096 + 32 + 28).unwrap();
    let before = std::fs::read(&path).unwrap();
    let mut reader = reader(&folder, None).unwrap();
    assert_eq!(reader.read_next().unwrap().unwrap().offset, Offset::BEGINNING);
    let error = reader.read_next().unwrap_err();
    assert!(matches!(error, Error::Damaged { at, .. } if at == 4096 + 32), "{error}");
    let State::Damaged(Error::Damaged { at, .. }) = list(&folder).state else {
        panic!("{:?}", list(&folder).state);
    };
    assert_eq!(at, 4096 + 32);
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(folder.names().len(), 1);
}

#[test]
fn a_partition_without_segments_is_empty_and_one_that_is_not_there_is_an_error() {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.partition_dir()).unwrap();
    let mut reader = reader(&folder, None).unwrap();
    assert_eq!(rest(&mut reader).unwrap(), []);
    assert_eq!(list(&folder).segments.len(), 0);
    append(&folder.open(), &["one"]);
    assert_eq!(rest(&mut reader).unwrap(), pairs(&[(0, "one")]));
    let other = model::position::Partition::of_stream("raw", 7);
    let missing = Reader::open(Arc::new(Disk), &folder.streams_dir(), &other, None);
    assert!(matches!(missing, Err(Error::Io { .. })));
}
