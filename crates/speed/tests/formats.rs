//! Entries of the derived streams that an earlier build wrote are read; those of a later one are refused by number.
//! What the archive holds: `testdata/formats/v1/README.md`.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use model::event::EnrichedEvent;
use model::position::Partition;
use speed::output::{self, InvalidEntry, Kind};
use stream::disk::Disk;
use stream::local::inspect::Reader;

fn unpacked() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let archive =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/formats/v1/data-folder.tar.gz");
    let tar =
        Command::new("tar").args(["-xzf", archive, "-C"]).arg(folder.path()).status().unwrap();
    assert!(tar.success(), "tar: {tar}");
    folder
}

fn entries(data_dir: &Path, stream: &str, index: u32) -> Vec<Bytes> {
    let partition = Partition::of_stream(stream, index);
    let mut reader =
        Reader::open(Arc::new(Disk), &data_dir.join("streams"), &partition, None).unwrap();
    std::iter::from_fn(|| reader.read_next().unwrap()).map(|record| record.bytes).collect()
}

#[test]
fn entries_of_version_1_are_read() {
    let folder = unpacked();
    let data_dir = folder.path().join("data");
    let (mut events, mut bad_rows) = (0, 0);
    for index in 0..2 {
        let mut ends = [0, 0];
        for (kind, stream) in [(Kind::Enriched, "enriched"), (Kind::Bad, "bad")] {
            for entry in entries(&data_dir, stream, index) {
                let part = output::decode(&entry).unwrap();
                assert_eq!((part.kind, part.part, part.parts), (kind, 0, 1));
                assert_eq!(part.mark.range.partition, Partition::of_stream("raw", index));
                let end = &mut ends[usize::from(kind == Kind::Bad)];
                assert_eq!(part.mark.range.from.number(), *end, "a gap");
                *end = part.mark.range.to.number();
                for row in output::rows(kind, &part.mark, part.rows, &part.body).unwrap() {
                    match kind {
                        Kind::Enriched => {
                            let event = EnrichedEvent::from_tsv(row.text).unwrap();
                            assert_eq!(event.event.as_deref(), Some("page_view"));
                            events += 1;
                        }
                        Kind::Failed | Kind::Pii => panic!("there were none"),
                        Kind::Bad => {
                            assert!(row.text.contains("schema_violations"), "{}", row.text);
                            bad_rows += 1;
                        }
                    }
                }
            }
        }
        assert_eq!(ends, [9, 9]);
    }
    assert_eq!((events, bad_rows), (12, 6));
}

#[test]
fn an_entry_of_a_later_version_is_refused_by_number() {
    let folder = unpacked();
    let mut entry = entries(&folder.path().join("data"), "enriched", 0)[0].to_vec();
    entry[0] = 9;
    assert_eq!(output::decode(&entry.into()), Err(InvalidEntry::Newer(9)));
}
