//! The stored format, version 1: what was written once must stay readable, and the same steps must make the same bytes.
//!
//! `BLESS=1 cargo test -p stream` writes the fixture again; only a new version of the format is a reason to.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::files::Files;
use model::position::Offset;
use stream::Stream;
use stream::disk::Disk;
use stream::local::inspect;

use crate::faulty::Faulty;
use crate::folder::{Folder, append, content, raw, try_append};

fn fixture() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/formats/v1/streams/raw/0")
}

/// Three segments: the first ends early because a sync failed, the second is full, and the whole is trimmed nowhere.
fn written_now() -> (Folder, Vec<(u64, String)>) {
    let disk = Faulty::default();
    let folder = Folder::on(Arc::new(disk.clone()));
    let log = folder.open();
    append(&log, &["first", "of three", "in one batch"]);
    append(&log, &["a batch of its own"]);
    disk.faults.syncs.store(1, Ordering::SeqCst);
    try_append(&log, &["beyond the durable end"]).unwrap_err();
    append(&log, &["the offset before was given up"]);
    append(&log, &[&"fills the segment ".repeat(650)]);
    append(&log, &[&"goes to the next ".repeat(60)]);
    let content = content(&log);
    drop(log);
    (folder, content)
}

#[test]
fn the_same_steps_make_the_bytes_of_version_1() {
    let (folder, _) = written_now();
    if std::env::var_os("BLESS").is_some() {
        let _ = std::fs::remove_dir_all(fixture());
        std::fs::create_dir_all(fixture()).unwrap();
        for path in folder.segments() {
            std::fs::copy(&path, fixture().join(path.file_name().unwrap())).unwrap();
        }
    }
    assert_eq!(Disk.list(&fixture()).unwrap(), folder.names());
    for path in folder.segments() {
        let stored = std::fs::read(fixture().join(path.file_name().unwrap())).unwrap();
        assert!(std::fs::read(&path).unwrap() == stored, "{} differs", path.display());
    }
}

#[test]
fn version_1_is_read_and_goes_on() {
    let (_, expect) = written_now();
    let offsets: Vec<u64> = expect.iter().map(|record| record.0).collect();
    assert_eq!(offsets, [0, 1, 2, 3, 5, 6, 7]);

    let folder = Folder::new();
    std::fs::create_dir_all(folder.partition_dir()).unwrap();
    for name in Disk.list(&fixture()).unwrap() {
        std::fs::copy(fixture().join(&name), folder.partition_dir().join(&name)).unwrap();
    }
    let log = folder.open();
    assert_eq!(content(&log), expect);
    assert_eq!(append(&log, &["more"]).first, Offset::from_number(8));
    assert_eq!(log.start(&raw()).unwrap(), Offset::BEGINNING);

    let streams_dir = fixture().join("../..");
    let mut reader = inspect::Reader::open(Arc::new(Disk), &streams_dir, &raw(), None).unwrap();
    let mut found = Vec::new();
    while let Some(record) = reader.read_next().unwrap() {
        found.push((record.offset.number(), String::from_utf8(record.bytes.to_vec()).unwrap()));
    }
    assert_eq!(found, expect);
}
