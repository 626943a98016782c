//! `snowmelt stream verify` and `repair` on data folders of a real server, with each kind of damage: afterwards the server
//! starts, every record that was not damaged is there exactly once, and every other one is accounted for.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;

use common::{Up, event_id, run, wait_until};
use serde_json::{Value, json};

const REQUESTS: u64 = 45;
const EVENTS_PER_REQUEST: u64 = 16;
const SETTINGS: [&str; 2] = ["stream.partitions=1", "batch.interval=1h"];

/// A stopped data folder of one raw partition with several segments, made once.
struct Template {
    dir: tempfile::TempDir,
    /// For each event its offset.
    positions: BTreeMap<String, u64>,
}

/// Every request is one record of about 100 kB, so that a few of them fill a segment of 1 MiB.
fn template(archived: bool) -> &'static Template {
    static MADE: [OnceLock<Template>; 2] = [OnceLock::new(), OnceLock::new()];
    MADE[usize::from(archived)].get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let up = Up::start(dir.path(), &SETTINGS);
        for request in 0..REQUESTS {
            let first = request * EVENTS_PER_REQUEST;
            let event = |number: u64| {
                json!({"e": "pv", "p": "web", "tv": "test-1", "eid": event_id(number),
                       "url": format!("http://shop.example/{}", "y".repeat(2900)),
                       "refr": format!("http://shop.example/{}", "z".repeat(2900))})
            };
            let body = json!({
                "schema": "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4",
                "data": (first..first + EVENTS_PER_REQUEST).map(event).collect::<Vec<_>>(),
            });
            assert_eq!(up.post_tp2(body.to_string().as_bytes()), 200);
        }
        wait_until("all rows", || up.rows() == REQUESTS * EVENTS_PER_REQUEST);
        let positions = positions(&up);
        assert_eq!(positions.len() as u64, REQUESTS * EVENTS_PER_REQUEST);
        let raw = dir.path().join("streams/raw");
        if archived {
            // An iteration trims what it has archived; here the segments come back, as from a backup.
            let saved = tempfile::tempdir().unwrap();
            assert!(up.terminate().success());
            copy(&raw, &saved.path().join("raw"));
            let up = Up::start(dir.path(), &SETTINGS);
            assert_eq!(up.batch_run(), 1);
            assert!(up.terminate().success());
            std::fs::remove_dir_all(&raw).unwrap();
            copy(&saved.path().join("raw"), &raw);
        } else {
            assert!(up.terminate().success());
        }
        Template { dir, positions }
    })
}

fn positions(up: &Up) -> BTreeMap<String, u64> {
    let rows = up.sql("SELECT event_id, _offset FROM atomic.events");
    let count = rows.len();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let positions: BTreeMap<String, u64> =
        rows.iter().map(|row| (text(&row[0]), text(&row[1]).parse().unwrap())).collect();
    assert_eq!(positions.len(), count, "an event is there twice");
    positions
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

/// A copy of a template that a test may damage.
struct Damaged {
    dir: tempfile::TempDir,
    positions: BTreeMap<String, u64>,
}

impl Damaged {
    fn new(archived: bool) -> Damaged {
        let template = template(archived);
        let dir = tempfile::tempdir().unwrap();
        copy(template.dir.path(), dir.path());
        Damaged { dir, positions: template.positions.clone() }
    }

    fn segments(&self, partition: &str) -> Vec<PathBuf> {
        let folder = self.dir.path().join("streams").join(partition);
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut segments: Vec<PathBuf> =
            names.filter(|path| path.extension().is_some_and(|it| it == "segment")).collect();
        segments.sort();
        segments
    }

    fn stream(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = vec!["stream"];
        command.extend(arguments);
        command.extend(["--data-dir", self.dir.path().to_str().unwrap()]);
        let Output { status, stdout, stderr } = run(command);
        let text = [stdout, stderr].map(|it| String::from_utf8(it).unwrap()).concat();
        (status.code().unwrap(), text)
    }

    /// Verifies, repairs, starts, and compares: the events of `lost` offsets are gone, and each has left a bad row.
    fn assert_repaired(&self, lost: &[u64]) {
        let (code, text) = self.stream(&["verify"]);
        assert_eq!(code, 1, "{text}");
        assert!(text.contains("raw/0: DAMAGED") && text.contains("at byte"), "{text}");
        assert!(text.contains("snowmelt stream repair"), "{text}");
        let before = self.segments("raw/0");
        let (code, text) = self.stream(&["repair", "--dry-run"]);
        assert_eq!(code, 1, "{text}");
        if !lost.is_empty() {
            let (code, text) = self.stream(&["repair"]);
            assert_eq!(code, 1, "{text}");
            assert!(text.contains("--accept-loss"), "{text}");
        }
        assert_eq!(self.segments("raw/0"), before);
        let (code, text) = match lost {
            [] => self.stream(&["repair"]),
            _ => self.stream(&["repair", "--accept-loss"]),
        };
        assert_eq!(code, 0, "{text}");
        let (code, text) = self.stream(&["verify"]);
        assert_eq!(code, 0, "{text}");

        let up = Up::start(self.dir.path(), &SETTINGS);
        let mut expect = self.positions.clone();
        expect.retain(|_, offset| !lost.contains(offset));
        assert_eq!(positions(&up), expect);
        assert_eq!(self.lost_offsets(&up), lost);
        assert_eq!(up.send_ids(&[event_id(1_000_000)]), 200);
        let iteration = up.batch_run();
        assert!(iteration >= 1);
        assert_eq!(up.number("SELECT count(*) FROM atomic.events"), expect.len() as u64 + 1);
        assert_eq!(self.lost_offsets(&up), lost);
        let open = up.sql("SELECT * FROM lambda.ledger WHERE outcomes <> enriched + failed + bad + dropped + erased");
        assert!(open.is_empty(), "{open:?}");
        assert_eq!(up.number("SELECT sum(bad) FROM lambda.ledger"), lost.len() as u64);
        assert!(up.terminate().success());
        let (code, text) = self.stream(&["verify"]);
        assert_eq!(code, 0, "{text}");
    }

    fn lost_offsets(&self, up: &Up) -> Vec<u64> {
        let statement = "SELECT _offset FROM atomic.bad_rows WHERE messages LIKE '%a lost record%' ORDER BY _offset";
        let rows = up.sql(statement);
        rows.iter().map(|row| row[0].as_str().unwrap().parse().unwrap()).collect()
    }
}

fn base(path: &Path) -> u64 {
    path.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    std::fs::File::options().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

/// Where the record `offset` begins in its segment: its header holds the offset.
fn place_of(path: &Path, offset: u64) -> u64 {
    let content = std::fs::read(path).unwrap();
    let wanted = offset.to_le_bytes();
    let at = (4096..content.len() - 28).step_by(8).find(|&at| content[at + 8..at + 16] == wanted);
    at.unwrap() as u64
}

#[test]
fn a_flipped_byte_in_a_sealed_segment() {
    for archived in [false, true] {
        let damaged = Damaged::new(archived);
        let path = damaged.segments("raw/0")[1].clone();
        let offset = base(&path) + 1;
        overwrite(&path, place_of(&path, offset) + 5000, b"!");
        let kept = std::fs::read(&path).unwrap();
        damaged.assert_repaired(if archived { &[] } else { std::slice::from_ref(&offset) });
        let beside = path.with_extension("damaged");
        if !archived {
            assert!(std::fs::read(beside).unwrap() == kept);
        }
    }
}

#[test]
fn damage_in_the_tail_before_later_batches_stops_the_start_and_is_repaired() {
    let damaged = Damaged::new(false);
    let path = damaged.segments("raw/0").pop().unwrap();
    let offset = base(&path) + 1;
    overwrite(&path, place_of(&path, offset) + 5000, b"!");
    let not_up = Up::try_start(damaged.dir.path(), &SETTINGS).map(|_| ()).unwrap_err();
    assert!(not_up.stderr.contains("snowmelt stream repair"), "{}", not_up.stderr);
    damaged.assert_repaired(&[offset]);
}

#[test]
fn a_truncated_and_a_missing_segment() {
    for archived in [false, true] {
        let damaged = Damaged::new(archived);
        let segments = damaged.segments("raw/0");
        let next = base(&segments[1]);
        let at = place_of(&segments[0], next - 2);
        std::fs::File::options().write(true).open(&segments[0]).unwrap().set_len(at + 99).unwrap();
        let lost = [next - 2, next - 1];
        damaged.assert_repaired(if archived { &[] } else { &lost });

        let damaged = Damaged::new(archived);
        let segments = damaged.segments("raw/0");
        std::fs::remove_file(&segments[1]).unwrap();
        let lost: Vec<u64> = (base(&segments[1])..base(&segments[2])).collect();
        damaged.assert_repaired(if archived { &[] } else { &lost });
    }
}

#[test]
fn a_zeroed_page_and_a_destroyed_header() {
    let damaged = Damaged::new(false);
    let path = damaged.segments("raw/0")[1].clone();
    let offset = base(&path) + 2;
    let page = (place_of(&path, offset) + 4096) & !4095;
    overwrite(&path, page, &[0; 4096]);
    damaged.assert_repaired(&[offset]);

    let damaged = Damaged::new(false);
    overwrite(&damaged.segments("raw/0")[0], 0, &[0; 4096]);
    assert!(Up::try_start(damaged.dir.path(), &SETTINGS).is_err());
    damaged.assert_repaired(&[]);
}

#[test]
fn derived_streams_are_removed_and_made_again() {
    for partition in ["enriched/0", "bad/0", "failed/0"] {
        let damaged = Damaged::new(false);
        let path = damaged.segments(partition)[0].clone();
        overwrite(&path, 0, &[7; 64]);
        let (code, text) = damaged.stream(&["verify", partition]);
        assert_eq!(code, 1, "{text}");
        let (code, text) = damaged.stream(&["repair"]);
        assert_eq!(code, 0, "{text}");
        assert!(text.contains(&format!("removed {partition}")), "{text}");
        let up = Up::start(damaged.dir.path(), &SETTINGS);
        assert_eq!(positions(&up), damaged.positions);
        assert!(up.terminate().success());
    }
}

#[test]
fn a_raw_partition_that_is_gone_is_missed() {
    for archived in [false, true] {
        let damaged = Damaged::new(archived);
        std::fs::remove_dir_all(damaged.dir.path().join("streams/raw/0")).unwrap();
        let (code, text) = damaged.stream(&["verify"]);
        assert_eq!(code, 1, "{text}");
        assert!(text.contains("streams/raw/0` is missing"), "{text}");
        // A start that would hand out the positions again is refused, also when it has made the folder anew.
        for attempt in 0..2 {
            let not_up = Up::try_start(damaged.dir.path(), &SETTINGS).err();
            let not_up = not_up.unwrap_or_else(|| panic!("archived {archived}, attempt {attempt}"));
            assert!(not_up.stderr.contains("snowmelt stream repair"), "{}", not_up.stderr);
        }
        let (code, text) = damaged.stream(&["repair", "--accept-loss"]);
        assert_eq!(code, 0, "{text}");
        let up = Up::start(damaged.dir.path(), &SETTINGS);
        let kept = if archived { damaged.positions.len() } else { 0 };
        assert_eq!(positions(&up).len(), kept);
        let lost = if archived { 0 } else { REQUESTS as usize };
        assert_eq!(damaged.lost_offsets(&up).len(), lost);
        assert!(up.terminate().success());
    }
}

#[test]
fn verify_works_beside_a_running_server_under_load_and_repair_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let up = Up::start(dir.path(), &["batch.interval=500ms"]);
    let folder = dir.path().to_str().unwrap().to_owned();
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            for number in 0..300 {
                assert_eq!(up.send_ids(&[event_id(number)]), 200);
            }
        });
        while !sending.is_finished() {
            let output = run(["stream", "verify", "--json", "--data-dir", &folder]);
            let text = String::from_utf8(output.stdout).unwrap();
            assert_eq!(output.status.code(), Some(0), "{text}");
            for line in text.lines() {
                let found: Value = serde_json::from_str(line).unwrap();
                assert_eq!(found["damages"], json!([]), "{found}");
            }
        }
    });
    let output = run(["stream", "repair", "--data-dir", &folder]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(text.contains("must not run") && text.contains("in use"), "{text}");
    assert!(up.terminate().success());
}
