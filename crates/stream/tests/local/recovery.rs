//! What opening makes of each state in which a crash, or something worse, can leave a folder.

use std::os::unix::fs::FileExt;
use std::path::Path;

use model::position::Offset;
use stream::local::Durability;
use stream::{Error, Stream};

use crate::folder::{Folder, append, content, content_from, pairs, raw, try_append};

/// The first byte at which a file has the bytes of `text`.
fn find(path: &Path, text: &str) -> u64 {
    let bytes = std::fs::read(path).unwrap();
    bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap() as u64
}

fn flip(path: &Path, at: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
}

fn zero(path: &Path, at: u64, count: usize) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&vec![0; count], at).unwrap();
}

/// A folder whose log had three batches of two records.
fn with_three_batches() -> Folder {
    let folder = Folder::new();
    let log = folder.open();
    append(&log, &["one a", "one b"]);
    append(&log, &["two a", "two b"]);
    append(&log, &["three a", "three b"]);
    folder
}

fn assert_damaged<T: std::fmt::Debug>(result: Result<T, Error>, path: &Path, expect_at: u64) {
    match result {
        Err(error @ Error::Damaged { .. }) => {
            let text = error.to_string();
            assert!(text.contains("snowmelt stream repair"), "{text}");
            assert!(text.contains(path.to_str().unwrap()), "{text}");
            assert!(text.contains(&format!("at byte {expect_at}:")), "{text}");
        }
        other => panic!("expected damage, found {other:?}"),
    }
}

#[test]
fn everything_is_there_after_a_restart_and_offsets_go_on() {
    let folder = with_three_batches();
    let log = folder.open();
    assert_eq!(append(&log, &["four"]).first.number(), 6);
    let texts = ["one a", "one b", "two a", "two b", "three a", "three b", "four"];
    assert_eq!(content(&log), pairs(&(0..).zip(texts).collect::<Vec<_>>()));
    assert!(folder.torn_files().is_empty());
}

#[test]
fn a_torn_last_batch_is_cut_off_and_kept_beside() {
    let folder = with_three_batches();
    let path = folder.last_segment();
    let at = find(&path, "three b") - 28;
    // The record's second half never reached the disk.
    zero(&path, at + 30, 5);
    let log = folder.open();
    let kept = [(0, "one a"), (1, "one b"), (2, "two a"), (3, "two b"), (4, "three a")];
    assert_eq!(content(&log), pairs(&kept));
    assert_eq!(log.end(&raw()).unwrap(), Offset::from_number(5));
    let torn = folder.torn_files();
    assert_eq!(torn.len(), 1);
    assert_eq!(std::fs::read(&torn[0]).unwrap()[28..], *b"th");
    assert!(std::fs::read(&path).unwrap()[at as usize..].iter().all(|&byte| byte == 0));
    assert_eq!(append(&log, &["instead"]).first.number(), 5);
    drop(log);
    let log = folder.open();
    assert_eq!(content(&log).last(), Some(&(5, "instead".to_owned())));
    assert_eq!(folder.torn_files().len(), 1, "nothing is cut twice");
}

#[test]
fn a_torn_batch_whose_later_pages_arrived_is_still_a_torn_tail() {
    let folder = with_three_batches();
    let path = folder.last_segment();
    let at = find(&path, "three a") - 28;
    // The first record of the batch is missing, the second is whole.
    zero(&path, at, 28 + 7);
    let log = folder.open();
    assert_eq!(content(&log).len(), 4);
    assert_eq!(folder.torn_files().len(), 1);
    // What was whole does not come back behind the next batch, which is of another length.
    append(&log, &["3"]);
    drop(log);
    assert_eq!(content(&folder.open()).last(), Some(&(4, "3".to_owned())));
}

#[test]
fn a_tail_torn_twice_at_one_place_is_kept_twice() {
    let folder = with_three_batches();
    for round in 1..=2 {
        let path = folder.last_segment();
        flip(&path, find(&path, "three a"));
        let log = folder.open();
        assert_eq!(folder.torn_files().len(), round);
        append(&log, &["three a", "three b"]);
    }
}

#[test]
fn a_flipped_byte_before_a_later_batch_is_damage() {
    for text in ["one a", "one b", "two a", "two b"] {
        let folder = with_three_batches();
        let path = folder.last_segment();
        let at = find(&path, text);
        flip(&path, at);
        let before = std::fs::read(&path).unwrap();
        assert_damaged(folder.try_open(), &path, at - 28);
        assert_eq!(std::fs::read(&path).unwrap(), before, "opening changed nothing");
        assert!(folder.torn_files().is_empty());
    }
}

#[test]
fn a_lost_page_before_a_later_batch_is_damage() {
    let folder = with_three_batches();
    let path = folder.last_segment();
    let at = find(&path, "one b") - 28;
    let to = find(&path, "three a") - 28;
    zero(&path, at, (to - at) as usize);
    assert_damaged(folder.try_open(), &path, at);
}

#[test]
fn a_flipped_byte_in_an_older_segment_is_damage_when_it_is_read() {
    let folder = Folder::new();
    let log = folder.open();
    let long = "x".repeat(3000);
    for number in 0..6 {
        append(&log, &[&format!("record {number} {long}")]);
    }
    let first = folder.segments()[0].clone();
    assert!(folder.segments().len() > 1);
    let at = find(&first, "record 0");
    flip(&first, at + 100);
    assert_damaged(content_from(&log, Offset::BEGINNING), &first, at - 28);
    drop(log);
    let log = folder.open();
    assert_damaged(content_from(&log, Offset::BEGINNING), &first, at - 28);
    let later = content_from(&log, Offset::from_number(4)).unwrap();
    assert_eq!(later.len(), 2, "what is whole is read");
}

#[test]
fn a_missing_end_of_an_older_segment_is_damage_when_it_is_read() {
    let folder = Folder::new();
    let log = folder.open();
    let long = "x".repeat(1500);
    for number in 0..6 {
        append(&log, &[&format!("record {number} {long}")]);
    }
    drop(log);
    let first = folder.segments()[0].clone();
    let at = find(&first, "record 1") - 28;
    zero(&first, at, 8192 - at as usize);
    assert_damaged(content_from(&folder.open(), Offset::BEGINNING), &first, at);
    std::fs::File::options().write(true).open(&first).unwrap().set_len(at).unwrap();
    assert_damaged(content_from(&folder.open(), Offset::BEGINNING), &first, at);
}

#[test]
fn a_truncated_last_segment_is_damage() {
    for bytes in [8000, 4200, 4096, 100, 0] {
        let folder = with_three_batches();
        let path = folder.last_segment();
        std::fs::File::options().write(true).open(&path).unwrap().set_len(bytes).unwrap();
        let at = if bytes < 4096 { 0 } else { bytes };
        assert_damaged(folder.try_open(), &path, at);
    }
}

#[test]
fn a_zeroed_header_is_damage() {
    let folder = with_three_batches();
    let path = folder.last_segment();
    zero(&path, 0, 4096);
    assert_damaged(folder.try_open(), &path, 0);
}

/// Writes a number into a header, or into the first record, and makes the checksum right: what no crash does.
fn forge(path: &Path, at: usize, number: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
    let sum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..4096]);
    bytes[12..16].copy_from_slice(&sum.to_le_bytes());
    let end = 4096 + 28 + u32::from_le_bytes(bytes[4096..4100].try_into().unwrap()) as usize;
    let sum = crc32c::crc32c_append(crc32c::crc32c(&bytes[16..24]), &bytes[4096..4100]);
    let sum = crc32c::crc32c_append(sum, &bytes[4104..end]);
    bytes[4100..4104].copy_from_slice(&sum.to_le_bytes());
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn numbers_that_contradict_each_other_or_cannot_be_are_damage_despite_their_checksum() {
    let (base, predecessor_end, first_batch) = (24, 40, 48);
    let (offset, batch) = (4096 + 8, 4096 + 16);
    for (at, number, damaged_at) in [
        (predecessor_end, 7, 0),
        (base, u64::MAX - 1, 0),
        (first_batch, u64::MAX, 0),
        (offset, u64::MAX, 4096),
        (batch, u64::MAX, 4096),
    ] {
        let folder = with_three_batches();
        forge(&folder.last_segment(), at, number);
        let path = match at == base {
            true => folder.partition_dir().join(format!("{number:020}.segment")),
            false => folder.last_segment(),
        };
        std::fs::rename(folder.last_segment(), &path).unwrap();
        assert_damaged(folder.try_open(), &path, damaged_at);
    }
}

#[test]
fn a_predecessor_that_would_end_before_it_begins_is_damage() {
    let folder = Folder::new();
    let log = folder.open();
    (0..8).for_each(|_| _ = append(&log, &[&"x".repeat(5000)]));
    drop(log);
    let segments = folder.segments();
    forge(&segments[2], 40, 0);
    assert_damaged(folder.try_open(), &segments[2], 0);
}

#[test]
fn a_segment_of_another_partition_is_damage() {
    let folder = with_three_batches();
    let path = folder.last_segment();
    let bytes = std::fs::read(&path).unwrap();
    let other = folder.streams_dir().join("raw/1");
    std::fs::create_dir_all(&other).unwrap();
    std::fs::write(other.join(path.file_name().unwrap()), bytes).unwrap();
    let error = folder.try_open().unwrap_err().to_string();
    assert!(error.contains("the file belongs to `raw/0`"), "{error}");
}

#[test]
fn a_missing_segment_in_the_middle_is_damage() {
    let folder = Folder::new();
    let log = folder.open();
    let long = "x".repeat(5000);
    for _ in 0..8 {
        append(&log, &[&long]);
    }
    drop(log);
    let segments = folder.segments();
    assert!(segments.len() > 3);
    std::fs::remove_file(&segments[1]).unwrap();
    assert_damaged(folder.try_open(), &segments[2], 0);
}

#[test]
fn a_prepared_segment_that_was_left_over_is_removed() {
    let folder = with_three_batches();
    let prepared = folder.partition_dir().join("next.prepared");
    std::fs::write(&prepared, b"half of it").unwrap();
    let log = folder.open();
    assert!(!prepared.exists());
    assert_eq!(content(&log).len(), 6);
}

#[test]
fn a_folder_without_its_first_segment_is_a_new_partition() {
    // The crash came after the folder was made, or while its first segment was prepared.
    let folder = Folder::new();
    std::fs::create_dir_all(folder.partition_dir()).unwrap();
    std::fs::write(folder.partition_dir().join("next.prepared"), [0; 100]).unwrap();
    assert_eq!(append(&folder.open(), &["one"]).first, Offset::BEGINNING);
}

#[test]
fn a_segment_whose_name_was_not_yet_durable_is_made_again() {
    let folder = Folder::new();
    let log = folder.open();
    let long = "x".repeat(3000);
    append(&log, &[&long]);
    let end = log.end(&raw()).unwrap();
    // This one does not fit, so a second segment is made for it. Its name is lost, and it was never acknowledged.
    append(&log, &[&long, &long]);
    drop(log);
    std::fs::remove_file(folder.last_segment()).unwrap();
    let log = folder.open();
    assert_eq!(log.end(&raw()).unwrap(), end);
    assert_eq!(append(&log, &["again"]).first, end);
}

#[test]
fn an_empty_last_segment_keeps_the_end_of_the_one_before() {
    let folder = Folder::new();
    let log = folder.open();
    append(&log, &[&"x".repeat(3000)]);
    append(&log, &[&"y".repeat(3000)]);
    drop(log);
    assert_eq!(folder.segments().len(), 2);
    let path = folder.last_segment();
    flip(&path, 5000);
    let log = folder.open();
    assert_eq!(log.end(&raw()).unwrap(), Offset::from_number(1));
    assert_eq!(content(&log).len(), 1);
    assert_eq!(append(&log, &["next"]).first, Offset::from_number(1));
    assert_eq!(content(&log).len(), 2);
}

#[test]
fn a_trimmed_log_starts_where_it_was_trimmed_after_a_restart() {
    let folder = Folder::new();
    let log = folder.open();
    let long = "x".repeat(3000);
    for _ in 0..10 {
        append(&log, &[&long]);
    }
    log.trim(&raw(), Offset::from_number(5)).unwrap();
    let start = log.start(&raw()).unwrap();
    assert!(start > Offset::BEGINNING && start <= Offset::from_number(5));
    log.trim(&raw(), Offset::from_number(u64::MAX)).unwrap();
    let start = log.start(&raw()).unwrap();
    assert_eq!(folder.segments().len(), 1);
    drop(log);
    let log = folder.open();
    assert_eq!(log.start(&raw()).unwrap(), start);
    assert_eq!(log.end(&raw()).unwrap(), Offset::from_number(10));
    let trimmed = log.read(&raw(), Offset::BEGINNING, 100);
    assert!(matches!(trimmed, Err(Error::Trimmed { .. })));
    assert_eq!(append(&log, &["next"]).first, Offset::from_number(10));
}

#[test]
fn a_batch_larger_than_a_segment_gets_one_of_its_own_size() {
    let folder = Folder::new();
    let log = folder.open();
    let huge = "h".repeat(100_000);
    // Also as the very first batch, where the empty segment is replaced.
    append(&log, &[&huge]);
    assert_eq!(folder.segments().len(), 1);
    append(&log, &["small"]);
    append(&log, &[&huge, &huge]);
    append(&log, &["small"]);
    let expect = [(0, &*huge), (1, "small"), (2, &*huge), (3, &*huge), (4, "small")];
    assert_eq!(content(&log), pairs(&expect));
    drop(log);
    assert_eq!(content(&folder.open()), pairs(&expect));
}

#[test]
fn records_beyond_the_bounds_are_refused() {
    let mut folder = Folder::new();
    folder.options.record_bytes_max = 10;
    folder.options.queue_bytes_max = 100;
    let log = folder.open();
    append(&log, &["0123456789"]);
    for texts in [&["0123456789x"][..], &["12345678"; 3]] {
        let refused = try_append(&log, texts);
        assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
    }
}

#[test]
fn damage_in_the_last_segment_of_a_relaxed_stream_only_ends_it_earlier() {
    let mut folder = Folder::new();
    folder.options.durability = Durability::Relaxed;
    let log = folder.open();
    append(&log, &["one"]);
    append(&log, &["two"]);
    append(&log, &["three"]);
    drop(log);
    let path = folder.last_segment();
    flip(&path, find(&path, "two"));
    let log = folder.open();
    assert_eq!(content(&log), pairs(&[(0, "one")]));
    assert_eq!(folder.torn_files().len(), 1);
}

#[test]
fn a_stream_that_becomes_synced_goes_on_in_a_segment_that_says_so() {
    let mut folder = Folder::new();
    folder.options.durability = Durability::Relaxed;
    append(&folder.open(), &["one"]);
    folder.options.durability = Durability::Synced;
    let log = folder.open();
    append(&log, &["two"]);
    append(&log, &["three"]);
    assert_eq!(folder.segments().len(), 2);
    drop(log);
    assert_eq!(content(&folder.open()), pairs(&[(0, "one"), (1, "two"), (2, "three")]));
    let path = folder.last_segment();
    let at = find(&path, "two");
    flip(&path, at);
    assert_damaged(folder.try_open(), &path, at - 28);
}

#[test]
fn partitions_are_only_ever_added() {
    let folder = Folder::new();
    let open = |partitions| {
        let files = folder.files.clone();
        let options = folder.options.clone();
        stream::local::Local::open(files, &folder.streams_dir(), "raw", partitions, options)
    };
    assert_eq!(open(3).unwrap().partitions().len(), 3);
    assert_eq!(open(1).unwrap().partitions().len(), 3);
    assert_eq!(open(4).unwrap().partitions().len(), 4);
}

#[test]
fn a_closed_log_takes_nothing_and_is_still_read() {
    for drive in [stream::local::Drive::Inline, stream::local::Drive::Threads] {
        let mut folder = Folder::new();
        folder.options.drive = drive;
        let log = folder.open();
        append(&log, &["one"]);
        log.close();
        assert!(matches!(try_append(&log, &["two"]), Err(Error::Closed { .. })));
        assert_eq!(content(&log), pairs(&[(0, "one")]));
        let beyond = Offset::from_number(1);
        assert!(!log.wait(&raw(), beyond, std::time::Duration::from_secs(3600)));
        log.close();
    }
}
