//! Files of the master dataset that an earlier build wrote are read whole; those of a later one are refused by name.
//! What the archive holds: `testdata/formats/v1/README.md`.

#![allow(clippy::unwrap_used)]

use std::process::Command;

use batch::Error;
use batch::master::{self, Reader};
use model::payload::CollectorPayload;
use model::position::{Offset, Partition};
use stream::disk::Disk;

fn unpacked() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let archive =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/formats/v1/data-folder.tar.gz");
    let tar =
        Command::new("tar").args(["-xzf", archive, "-C"]).arg(folder.path()).status().unwrap();
    assert!(tar.success(), "tar: {tar}");
    folder
}

#[test]
fn a_chain_of_version_1_is_read_whole() {
    let folder = unpacked();
    let data_dir = folder.path().join("data");
    for index in 0..2 {
        let partition = Partition::of_stream("raw", index);
        let end = Offset::from_number(6);
        let chain = master::chain(&Disk, &data_dir, &partition, Offset::BEGINNING, end).unwrap();
        assert_eq!(chain.iter().map(|footer| footer.records).collect::<Vec<_>>(), [3, 3]);
        let mut numbers = Vec::new();
        for footer in &chain {
            let from = footer.range.from;
            let mut reader = Reader::open(&Disk, &data_dir, &partition, from).unwrap().unwrap();
            while let Some(records) = reader.read_frame().unwrap() {
                numbers.extend(records.iter().map(|record| {
                    let body = CollectorPayload::decode(&record.bytes).unwrap().body.unwrap();
                    (0..18).find(|number| body.contains(&format!("8000-{number:012x}"))).unwrap()
                }));
            }
        }
        assert_eq!(numbers, (0..6).map(|at| at * 2 + index).collect::<Vec<_>>());
    }
}

#[test]
fn a_file_of_a_later_version_is_refused_by_name() {
    let folder = unpacked();
    let data_dir = folder.path().join("data");
    let partition = Partition::of_stream("raw", 0);
    let path = master::path(&data_dir, &partition, Offset::BEGINNING);
    let whole = std::fs::read(&path).unwrap();
    // The version stands in the header and in the trailer.
    for at in [8, whole.len() - 12] {
        let mut bytes = whole.clone();
        bytes[at] = 9;
        std::fs::write(&path, bytes).unwrap();
        let error = Reader::open(&Disk, &data_dir, &partition, Offset::BEGINNING).unwrap_err();
        assert!(matches!(error, Error::Newer { version: 9, known: 1, .. }), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}
