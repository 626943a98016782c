//! Laws over random histories: the log against a list, torn tails against every mixture of old and new sectors, and any
//! flipped bit.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::executor::block_on;
use model::position::Offset;
use proptest::prelude::*;
use stream::local::{Durability, Local};
use stream::{Error, Record, Stream};

use crate::faulty::Faulty;
use crate::folder::{Folder, raw};

#[derive(Clone, Debug)]
enum Action {
    Append(Vec<usize>),
    FailedSync(Vec<usize>),
    Reopen,
    Trim(prop::sample::Index),
    Read(prop::sample::Index, usize),
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1usize..40, 1usize..40, 500usize..6000], 1..6)
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => sizes().prop_map(Action::Append),
        1 => sizes().prop_map(Action::FailedSync),
        2 => Just(Action::Reopen),
        1 => any::<prop::sample::Index>().prop_map(Action::Trim),
        3 => (any::<prop::sample::Index>(), 0usize..8000).prop_map(|(at, bytes)| Action::Read(at, bytes)),
    ]
}

/// Records of which each is different.
fn records(sizes: &[usize], seed: usize) -> Vec<Bytes> {
    let record = |(part, &size): (usize, &usize)| {
        (0..size).map(|at| (at ^ seed.wrapping_mul(31) ^ part) as u8 | 1).collect()
    };
    sizes.iter().enumerate().map(record).collect()
}

fn read_all(log: &Local, from: Offset, bytes_max: usize) -> Result<Vec<Record>, Error> {
    let mut found = Vec::new();
    let mut from = from;
    loop {
        let chunk = log.read(&raw(), from, bytes_max)?;
        if chunk.records.is_empty() {
            assert_eq!(from, log.end(&raw())?.max(from));
            return Ok(found);
        }
        found.extend(chunk.records);
        from = chunk.next;
    }
}

fn append(log: &Local, records: &[Bytes]) -> Result<Vec<Record>, Error> {
    let appended = block_on(log.append(&raw(), records.to_vec()))?;
    let offsets = appended.first.number()..;
    let records = offsets.zip(records);
    Ok(records
        .map(|(offset, bytes)| Record { offset: Offset::from_number(offset), bytes: bytes.clone() })
        .collect())
}

/// A folder with some batches, the last of which lies in the same file as the one before.
struct Written {
    folder: Folder,
    path: PathBuf,
    /// The file before the last batch.
    before: Vec<u8>,
    after: Vec<u8>,
    batches: Vec<Vec<Record>>,
}

fn write(batches: &[Vec<usize>]) -> Option<Written> {
    let mut folder = Folder::new();
    folder.options.segment_bytes_first = 32 << 10;
    folder.options.segment_bytes_max = 32 << 10;
    let log = folder.open();
    let mut written = Vec::new();
    let mut before = (PathBuf::new(), Vec::new());
    for (seed, sizes) in batches.iter().enumerate() {
        let path = folder.last_segment();
        before = (path.clone(), std::fs::read(&path).unwrap());
        written.push(append(&log, &records(sizes, seed)).unwrap());
    }
    let path = folder.last_segment();
    let after = std::fs::read(&path).unwrap();
    let is_in_one_file = path == before.0 && before.1.len() == after.len();
    drop(log);
    is_in_one_file.then_some(Written { folder, path, before: before.1, after, batches: written })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_log_is_the_list_of_what_was_acknowledged(
        actions in prop::collection::vec(action(), 1..40),
        is_relaxed: bool,
    ) {
        let disk = Faulty::default();
        let mut folder = Folder::on(Arc::new(disk.clone()));
        if is_relaxed {
            folder.options.durability = Durability::Relaxed;
            // Each append is synced, so that a failed sync takes back none that was acknowledged.
            folder.options.relaxed_sync_bytes = 1;
        }
        let mut log = folder.open();
        let mut list: Vec<Record> = Vec::new();
        let mut above = Offset::BEGINNING;
        for (seed, action) in actions.iter().enumerate() {
            match action {
                Action::Append(sizes) => {
                    let records = append(&log, &records(sizes, seed)).unwrap();
                    prop_assert!(records[0].offset >= above, "offsets never turn back");
                    above = Offset::from_number(records.last().unwrap().offset.number() + 1);
                    prop_assert_eq!(log.end(&raw()).unwrap(), above);
                    list.extend(records);
                }
                Action::FailedSync(sizes) => {
                    // The sync that fails may also be that of a new segment.
                    let end = log.end(&raw()).unwrap();
                    disk.faults.syncs.store(1, Ordering::SeqCst);
                    let result = append(&log, &records(sizes, seed));
                    disk.faults.syncs.store(0, Ordering::SeqCst);
                    match result {
                        Ok(records) => list.extend(records),
                        Err(_) => prop_assert_eq!(log.end(&raw()).unwrap(), end),
                    }
                }
                Action::Reopen => {
                    drop(log);
                    log = folder.open();
                }
                Action::Trim(at) => {
                    let start = log.start(&raw()).unwrap();
                    let below = match list.len() {
                        0 => start,
                        count => list[at.index(count)].offset,
                    };
                    log.trim(&raw(), below).unwrap();
                    prop_assert!(log.start(&raw()).unwrap() <= below.max(start));
                }
                Action::Read(at, bytes_max) => {
                    let kept: Vec<&Record> = list
                        .iter()
                        .filter(|record| record.offset >= log.start(&raw()).unwrap())
                        .collect();
                    if !kept.is_empty() {
                        let at = at.index(kept.len());
                        let chunk = log.read(&raw(), kept[at].offset, *bytes_max).unwrap();
                        prop_assert!(!chunk.records.is_empty());
                        let expect = kept[at..at + chunk.records.len()].iter().copied();
                        prop_assert!(chunk.records.iter().eq(expect));
                    }
                }
            }
            let start = log.start(&raw()).unwrap();
            let kept: Vec<Record> =
                list.iter().filter(|record| record.offset >= start).cloned().collect();
            prop_assert_eq!(read_all(&log, start, 3000).unwrap(), kept);
        }
    }

    #[test]
    fn any_mixture_of_old_and_new_sectors_of_the_last_batch_is_a_torn_tail(
        batches in prop::collection::vec(sizes(), 1..6),
        arrived in prop::collection::vec(any::<bool>(), 64),
    ) {
        let Some(written) = write(&batches) else { return Ok(()) };
        let mut mixture = written.before.clone();
        for (sector, at) in (0..mixture.len()).step_by(512).enumerate() {
            if arrived[sector % arrived.len()] {
                mixture[at..at + 512].copy_from_slice(&written.after[at..at + 512]);
            }
        }
        std::fs::write(&written.path, &mixture).unwrap();
        let acknowledged = written.batches[..written.batches.len() - 1].concat();
        let all = written.batches.concat();
        for _ in 0..2 {
            let log = written.folder.open();
            let found = read_all(&log, Offset::BEGINNING, 3000).unwrap();
            prop_assert!(found.starts_with(&acknowledged), "nothing acknowledged is lost");
            prop_assert!(all.starts_with(&found), "nothing is made up");
            if mixture == written.after {
                prop_assert_eq!(&found, &all);
            }
        }
        let log = written.folder.open();
        let kept = read_all(&log, Offset::BEGINNING, 3000).unwrap();
        let more = append(&log, &records(&[3, 700], 77)).unwrap();
        drop(log);
        let found = read_all(&written.folder.open(), Offset::BEGINNING, 3000).unwrap();
        prop_assert_eq!(found, [kept, more].concat());
    }

    #[test]
    fn a_flipped_bit_is_damage_or_ends_the_last_batch(
        batches in prop::collection::vec(sizes(), 1..5),
        at in any::<prop::sample::Index>(),
    ) {
        let Some(written) = write(&batches) else { return Ok(()) };
        let end = written.after.iter().rposition(|&byte| byte != 0).unwrap() + 1;
        let mut flipped = written.after.clone();
        let bit = at.index(end * 8);
        flipped[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&written.path, &flipped).unwrap();
        let acknowledged = written.batches[..written.batches.len() - 1].concat();
        match written.folder.try_open() {
            Err(Error::Damaged { path, .. }) => prop_assert_eq!(path, written.path),
            Err(Error::NewerFormat { .. }) => prop_assert!((8..12).contains(&(bit / 8))),
            Err(other) => prop_assert!(false, "{}", other),
            Ok(log) => {
                let found = read_all(&log, Offset::BEGINNING, 3000).unwrap();
                prop_assert!(found.starts_with(&acknowledged));
                prop_assert!(written.batches.concat().starts_with(&found));
                prop_assert_eq!(written.folder.torn_files().len(), 1);
            }
        }
    }
}
