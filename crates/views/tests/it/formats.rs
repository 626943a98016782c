//! Manifests and table files that an earlier build wrote are read; those of a later one are refused by name.
//! What the archive holds: `testdata/formats/v1/README.md`.

use std::process::Command;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use stream::disk::Disk;
use views::catalog::{Catalog, Table};
use views::{Error, rows, tables};

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
fn a_catalogue_of_version_1_and_its_table_files_are_read() {
    let folder = unpacked();
    let data_dir = folder.path().join("data");
    let catalog = Catalog::open_read(Arc::new(Disk), &data_dir).unwrap().unwrap();
    let newest = catalog.newest();
    assert_eq!((newest.iteration, newest.generation), (2, 0));
    assert_eq!(catalog.history().unwrap().len(), 3);
    let cut: Vec<u64> = newest.cut.iter().map(|(_, offset)| offset.number()).collect();
    assert_eq!(cut, [6, 6]);
    // It has no failed events: they came later.
    for (table, count) in [(Table::Events, 8), (Table::BadRows, 4), (Table::FailedEvents, 0)] {
        let batches: Vec<_> = newest
            .files_of(table)
            .flat_map(|file| tables::read(&Disk, &data_dir, file).unwrap())
            .collect();
        assert_eq!(rows::read(&batches).unwrap().len(), count);
    }
}

#[test]
fn a_table_file_of_a_later_version_is_refused_by_name() {
    let folder = unpacked();
    let data_dir = folder.path().join("data");
    let catalog = Catalog::open_read(Arc::new(Disk), &data_dir).unwrap().unwrap();
    let mut file = catalog.newest().files_of(Table::Events).next().unwrap().clone();
    let path = file.path_in(&data_dir);
    let mut bytes = std::fs::read(&path).unwrap();
    // In the metadata the value follows the key: one byte of field header, one of length, the digit.
    let key = b"snowmelt.table.format";
    let at = bytes.windows(key.len()).position(|it| it == key).unwrap() + key.len() + 2;
    assert_eq!(bytes[at], b'1');
    bytes[at] = b'9';
    file.sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(&path, bytes).unwrap();
    let error = tables::read(&Disk, &data_dir, &file).unwrap_err();
    assert!(matches!(error, Error::Newer { found: 9, known: 1, .. }), "{error}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}
