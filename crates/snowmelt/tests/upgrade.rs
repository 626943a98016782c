//! A data folder that an earlier build left behind: this one goes on with it. And what a later build left behind is
//! refused by name, with nothing changed.
//!
//! What the folder holds, and how it came to be: `testdata/formats/v1/README.md`.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Up, event_id, stdout_of};
use serde_json::{Value, json};

/// Requests that the earlier build took, and how many of them lie below its cut.
const SENT: u64 = 18;
const BELOW_THE_CUT: u64 = 12;

const SETTINGS: [&str; 1] = ["batch.interval=1h"];

/// The folder of version 1, unpacked.
fn unpacked() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let archive =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/formats/v1/data-folder.tar.gz");
    let tar =
        Command::new("tar").args(["-xzf", archive, "-C"]).arg(folder.path()).status().unwrap();
    assert!(tar.success(), "tar: {tar}");
    let data_dir = folder.path().join("data");
    (folder, data_dir)
}

/// Each third request was a box that the schema of that time refused.
fn views(numbers: std::ops::Range<u64>) -> Vec<String> {
    numbers.filter(|number| number % 3 != 2).map(event_id).collect()
}

fn ids(up: &Up, condition: &str) -> Vec<String> {
    let sql = format!("SELECT event_id FROM atomic.events WHERE {condition} ORDER BY event_id");
    up.sql(&sql).iter().map(|row| row[0].as_str().unwrap().to_owned()).collect()
}

fn bad_rows(up: &Up, condition: &str) -> u64 {
    up.number(&format!("SELECT count(*) FROM atomic.bad_rows WHERE {condition}"))
}

#[test]
fn a_data_folder_of_version_1_is_gone_on_with() {
    let (folder, data_dir) = unpacked();
    let data = data_dir.to_str().unwrap();
    // Before any server touches it.
    let listed = stdout_of(["stream", "list", "--data-dir", data]);
    assert_eq!(listed.matches("whole").count(), 6, "{listed}");
    for (stream, records) in [("raw", SENT), ("enriched", 12), ("bad", 6)] {
        let tail = stdout_of(["stream", "tail", stream, "--data-dir", data]);
        assert_eq!(tail.lines().count() as u64, records, "{stream}: {tail}");
    }
    assert_eq!(stdout_of(["batch", "list", "--json", "--data-dir", data]).lines().count(), 3);

    let up = Up::start(&data_dir, &SETTINGS);
    assert!(data_dir.join("streams/failed/0").is_dir());
    assert_eq!(ids(&up, "_layer = 'batch'"), views(0..BELOW_THE_CUT));
    assert_eq!(ids(&up, "_layer = 'speed'"), views(BELOW_THE_CUT..SENT));
    assert_eq!((bad_rows(&up, "_layer = 'batch'"), bad_rows(&up, "_layer = 'speed'")), (4, 2));
    // That version made no failed events; from its cut on this one does, and history stays until a rebuild.
    let failed =
        "SELECT _layer, count(*) FROM atomic.failed_events GROUP BY _layer ORDER BY _layer";
    assert_eq!(up.sql(failed), [[json!("speed"), json!(2)]]);
    let cut = up.sql("SELECT partition, cut_offset, frontier FROM lambda.cut ORDER BY partition");
    assert_eq!(cut[1], [json!("raw/1"), json!(format!("{:020}", 6)), json!(format!("{:020}", 9))]);

    // It takes more, and iterations go on where the last one ended. The third one was the hand-over: this build embeds
    // more schemas, so the recipe of that time is another one.
    assert_eq!(up.send_ids(&[event_id(SENT)]), 200);
    assert_eq!(up.batch_run(), 4);
    let mut all = views(0..SENT);
    all.push(event_id(SENT));
    assert_eq!(ids(&up, "_layer = 'batch'"), all);
    assert_eq!(bad_rows(&up, "_layer = 'batch'"), 6);
    assert_eq!(up.sql(failed), [[json!("batch"), json!(2)]]);
    let (status, answer) = up.post_json("/api/v1/batch", &json!({"rebuild": true}));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(up.sql(failed), [[json!("batch"), json!(6)]]);
    assert!(up.terminate().success());

    // A rebuild reads the old files of the master dataset, with a schema that was mended.
    let schema = folder.path().join("schemas/com.acme/box/jsonschema/1-0-0");
    fs::create_dir_all(schema.parent().unwrap()).unwrap();
    let text = json!({
        "self": {"vendor": "com.acme", "name": "box", "format": "jsonschema", "version": "1-0-0"},
        "type": "object", "properties": {"size": {"type": "integer"}},
    });
    fs::write(&schema, text.to_string()).unwrap();
    let schemas = format!("enrich.schemas={}", folder.path().join("schemas").display());
    let up = Up::start(&data_dir, &[SETTINGS[0], &schemas]);
    assert_eq!(ids(&up, "true"), all);
    let (status, answer) = up.post_json("/api/v1/batch", &json!({"rebuild": true}));
    assert_eq!((status, &answer["published"]), (200, &json!(true)), "{answer}");
    assert_eq!(ids(&up, "true"), (0..=SENT).map(event_id).collect::<Vec<_>>());
    assert_eq!(bad_rows(&up, "true"), 0);
    assert_eq!(up.sql(failed), Vec::<Vec<Value>>::new());
    assert!(up.terminate().success());
}

#[test]
fn what_a_later_build_wrote_stops_the_start_by_name_and_stays_as_it_is() {
    let edits: [(&str, Edit); 3] = [
        ("catalog/00000000000000000002.json", |bytes| bytes[r#"{"format":"#.len()] = b'9'),
        ("streams/raw/1/00000000000000000000.segment", |bytes| bytes[8] = 9),
        ("streams/enriched/0/00000000000000000000.segment", |bytes| bytes[8] = 9),
    ];
    for (name, edit) in edits {
        let (_folder, data_dir) = unpacked();
        let path = edited(&data_dir, name, edit);
        let later = fs::read(&path).unwrap();
        let not_up = Up::try_start(&data_dir, &SETTINGS).err().unwrap();
        assert_eq!(not_up.status.code(), Some(1), "{name}: {}", not_up.stderr);
        for part in [path.to_str().unwrap(), "format 9", "newer"] {
            assert!(not_up.stderr.contains(part), "{name}: no `{part}` in: {}", not_up.stderr);
        }
        assert_eq!(fs::read(&path).unwrap(), later, "{name} was changed");
    }
}

#[test]
fn a_master_file_of_a_later_build_stops_the_rebuild_that_needs_it_and_nothing_else() {
    let (_folder, data_dir) = unpacked();
    let path = edited(&data_dir, "master/raw/0/00000000000000000003.raw.zst", |bytes| bytes[8] = 9);
    let up = Up::start(&data_dir, &SETTINGS);
    let (status, answer) = up.post_json("/api/v1/batch", &json!({"rebuild": true}));
    assert_ne!(status, 200, "{answer}");
    let said = answer.to_string();
    assert!(said.contains(path.to_str().unwrap()) && said.contains("newer"), "{said}");
    assert_eq!(ids(&up, "true"), views(0..SENT));
    assert_eq!(bad_rows(&up, "true"), 6);
    assert!(up.terminate().success());
}

type Edit = fn(&mut Vec<u8>);

fn edited(data_dir: &Path, name: &str, edit: Edit) -> PathBuf {
    let path = data_dir.join(name);
    let mut bytes = fs::read(&path).unwrap();
    edit(&mut bytes);
    fs::write(&path, bytes).unwrap();
    path
}
