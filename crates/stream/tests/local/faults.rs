//! What the log does while the disk fails, and what is left of it afterwards.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use model::position::Offset;
use stream::local::{Drive, Durability, Local};
use stream::{Error, Stream};

use crate::faulty::Faulty;
use crate::folder::{Folder, append, content, content_from, pairs, raw, try_append};

fn faulty() -> (Folder, Faulty) {
    let files = Faulty::default();
    (Folder::on(Arc::new(files.clone())), files)
}

fn end(log: &Local) -> u64 {
    log.end(&raw()).unwrap().number()
}

#[test]
fn after_a_failed_sync_nothing_of_the_batch_is_ever_read() {
    let (folder, disk) = faulty();
    let log = folder.open();
    append(&log, &["one", "two"]);
    disk.faults.syncs.store(1, Ordering::SeqCst);
    let failed = try_append(&log, &["lost", "lost too"]);
    assert!(matches!(failed, Err(Error::Io { action: "sync", .. })), "{failed:?}");
    assert_eq!(end(&log), 2);
    assert_eq!(folder.segments().len(), 2, "the next segment is there at once");
    let next = append(&log, &["three"]);
    assert_eq!(next.first, Offset::from_number(4), "above every offset ever handed out");
    let expect = pairs(&[(0, "one"), (1, "two"), (4, "three")]);
    assert_eq!(content(&log), expect);
    drop(log);
    // The pages of the lost batch are still in the file: only the next segment's header says that they do not count.
    let log = folder.open();
    assert_eq!(content(&log), expect);
    for from in 2..=4 {
        assert_eq!(
            content_from(&log, Offset::from_number(from)).unwrap(),
            pairs(&[(4, "three")]),
            "a reader that stopped at {from} finds what comes next"
        );
    }
    log.trim(&raw(), Offset::from_number(2)).unwrap();
    assert_eq!(folder.segments().len(), 1);
    assert_eq!(log.start(&raw()).unwrap(), Offset::from_number(2), "a reader at 2 goes on");
    assert_eq!(content(&log), pairs(&[(4, "three")]));
}

#[test]
fn a_failed_sync_followed_by_a_crash_keeps_the_end() {
    let (folder, disk) = faulty();
    let log = folder.open();
    append(&log, &["one"]);
    disk.faults.syncs.store(1, Ordering::SeqCst);
    try_append(&log, &["lost"]).unwrap_err();
    drop(log);
    let log = folder.open();
    assert_eq!((end(&log), content(&log)), (1, pairs(&[(0, "one")])));
    // And once more, with a segment that has no record at all.
    disk.faults.syncs.store(1, Ordering::SeqCst);
    try_append(&log, &["lost"]).unwrap_err();
    drop(log);
    let log = folder.open();
    assert_eq!(end(&log), 1);
    let next = append(&log, &["two"]).first.number();
    assert!(next > 2, "{next}");
    assert_eq!(content(&log), pairs(&[(0, "one"), (next, "two")]));
    drop(log);
    assert_eq!(content(&folder.open()), pairs(&[(0, "one"), (next, "two")]));
}

#[test]
fn two_failures_poison_the_partition_until_restart() {
    for which in 0..3 {
        let (folder, disk) = faulty();
        let log = folder.open();
        append(&log, &["one"]);
        match which {
            0 => disk.faults.syncs.store(2, Ordering::SeqCst),
            1 => {
                disk.faults.syncs.store(1, Ordering::SeqCst);
                disk.faults.creates.store(true, Ordering::SeqCst);
            }
            _ => {
                disk.faults.syncs.store(1, Ordering::SeqCst);
                disk.faults.dirs.store(true, Ordering::SeqCst);
            }
        }
        for _ in 0..2 {
            let failed = try_append(&log, &["lost"]);
            assert!(matches!(failed, Err(Error::Poisoned { .. })), "{failed:?}");
            disk.faults.syncs.store(0, Ordering::SeqCst);
            disk.faults.creates.store(false, Ordering::SeqCst);
            disk.faults.dirs.store(false, Ordering::SeqCst);
        }
        assert_eq!(content(&log), pairs(&[(0, "one")]), "reads go on");
        drop(log);
        let log = folder.open();
        append(&log, &["two"]);
        let found = content(&log);
        assert_eq!(found.first(), Some(&(0, "one".to_owned())));
        assert_eq!(found.last().map(|last| &*last.1), Some("two"));
    }
}

#[test]
fn a_segment_that_cannot_be_made_is_asked_for_again() {
    let (folder, disk) = faulty();
    let log = folder.open();
    let long = "x".repeat(3000);
    append(&log, &[&long]);
    disk.faults.creates.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        assert!(matches!(try_append(&log, &[&long]), Err(Error::Io { .. })));
    }
    append(&log, &["fits"]);
    disk.faults.creates.store(false, Ordering::SeqCst);
    append(&log, &[&long]);
    assert_eq!(content(&log), pairs(&[(0, &long), (1, "fits"), (2, &long)]));
}

#[test]
fn a_full_disk_refuses_appends_until_there_is_room_again() {
    let (folder, disk) = faulty();
    let log = folder.open();
    append(&log, &["one"]);
    disk.faults.full.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let refused = try_append(&log, &["refused", "refused too"]);
        assert!(matches!(refused, Err(Error::Full { .. })), "{refused:?}");
    }
    assert_eq!(content(&log), pairs(&[(0, "one")]));
    assert!(!folder.names().contains(&"next.prepared".to_owned()), "no room is wasted");
    disk.faults.full.store(false, Ordering::SeqCst);
    let second = append(&log, &["two"]).first.number();
    let expect = pairs(&[(0, "one"), (second, "two")]);
    assert_eq!(content(&log), expect);
    drop(log);
    assert_eq!(content(&folder.open()), expect);
}

#[test]
fn a_crash_on_a_full_disk_loses_nothing_acknowledged() {
    let (folder, disk) = faulty();
    let log = folder.open();
    append(&log, &["one"]);
    disk.faults.full.store(true, Ordering::SeqCst);
    try_append(&log, &["refused", "refused too"]).unwrap_err();
    drop(log);
    disk.faults.full.store(false, Ordering::SeqCst);
    let log = folder.open();
    assert_eq!(content(&log)[0], (0, "one".to_owned()));
    append(&log, &["two"]);
    assert_eq!(content(&log).last().map(|last| &*last.1), Some("two"));
}

#[test]
fn appends_are_refused_below_the_reserve_and_only_there() {
    let (mut folder, disk) = faulty();
    folder.options.disk_reserve_bytes = Some(1 << 30);
    let log = folder.open();
    for (available, is_taken) in [(1 << 30, true), ((1 << 30) - 1, false), (1 << 30, true)] {
        *disk.faults.available_bytes.lock().unwrap() = Some(available);
        match try_append(&log, &["x"]) {
            Ok(_) => assert!(is_taken),
            Err(Error::Full { available_bytes, reserve_bytes, .. }) => {
                assert!(!is_taken);
                assert_eq!((available_bytes, reserve_bytes), (available, 1 << 30));
            }
            Err(other) => panic!("{other}"),
        }
    }
    log.trim(&raw(), Offset::from_number(u64::MAX)).unwrap();
}

#[test]
fn the_default_reserve_is_a_gibibyte_or_a_twentieth_of_the_disk() {
    let (mut folder, disk) = faulty();
    folder.options.disk_reserve_bytes = None;
    let log = folder.open();
    *disk.faults.available_bytes.lock().unwrap() = Some(1000);
    let Err(Error::Full { reserve_bytes, .. }) = try_append(&log, &["x"]) else {
        panic!("1000 bytes are below any default");
    };
    let total = folder.files.space(&folder.streams_dir()).unwrap().total_bytes;
    assert_eq!(reserve_bytes, (total / 20).max(1 << 30));
}

#[test]
fn a_disk_without_room_for_a_large_segment_gets_a_small_one() {
    let (folder, disk) = faulty();
    let log = folder.open();
    append(&log, &[&"x".repeat(3000)]);
    *disk.faults.available_bytes.lock().unwrap() = Some(10_000);
    append(&log, &[&"x".repeat(3000)]);
    assert_eq!(folder.last_segment().metadata().unwrap().len(), 8192);
    *disk.faults.available_bytes.lock().unwrap() = Some(8000);
    let refused = try_append(&log, &[&"x".repeat(3000)]);
    assert!(matches!(refused, Err(Error::Full { .. })), "{refused:?}");
}

#[test]
fn a_relaxed_stream_takes_back_what_it_could_not_sync() {
    let (mut folder, disk) = faulty();
    folder.options.durability = Durability::Relaxed;
    folder.options.relaxed_sync_bytes = 100;
    let log = folder.open();
    append(&log, &[&"s".repeat(100)]);
    append(&log, &["not yet synced"]);
    assert_eq!(end(&log), 2);
    disk.faults.syncs.store(1, Ordering::SeqCst);
    try_append(&log, &[&"x".repeat(100)]).unwrap_err();
    assert_eq!(end(&log), 1);
    assert_eq!(append(&log, &["next"]).first, Offset::from_number(3));
    let expect = pairs(&[(0, &"s".repeat(100)), (3, "next")]);
    assert_eq!(content(&log), expect);
    drop(log);
    assert_eq!(content(&folder.open()), expect);
}

#[test]
fn a_relaxed_stream_that_cannot_seal_a_segment_goes_on_in_the_next() {
    let (mut folder, disk) = faulty();
    folder.options.durability = Durability::Relaxed;
    let log = folder.open();
    append(&log, &[&"x".repeat(3000)]);
    disk.faults.syncs.store(1, Ordering::SeqCst);
    append(&log, &[&"y".repeat(3000)]);
    assert_eq!(content(&log), pairs(&[(1, &"y".repeat(3000))]));
    drop(log);
    assert_eq!(content(&folder.open()), pairs(&[(1, &"y".repeat(3000))]));
}

#[test]
fn a_full_queue_answers_busy_at_once() {
    let (mut folder, _disk) = faulty();
    folder.options.drive = Drive::Threads;
    folder.options.queue_bytes_max = 2000;
    let log = folder.open();
    let record = bytes::Bytes::from(vec![b'x'; 1000]);
    let mut busy = 0;
    let mut waiting = Vec::new();
    // The writer needs a sync for each two records, so that thousands cannot all find room.
    for _ in 0..5000 {
        let mut append = log.append(&raw(), vec![record.clone()]);
        match (&mut append).now_or_never() {
            Some(Err(Error::Busy { queue_bytes_max: 2000, .. })) => busy += 1,
            Some(Err(other)) => panic!("{other}"),
            Some(Ok(_)) => {}
            None => waiting.push(append),
        }
    }
    assert!(busy > 0);
    for append in waiting {
        futures::executor::block_on(append).unwrap();
    }
    append(&log, &["there is room again"]);
    assert!(log.wait(&raw(), Offset::BEGINNING, Duration::ZERO));
}
