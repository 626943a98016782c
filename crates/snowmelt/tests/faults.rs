//! What the whole binary does when the world is hostile: garbage on the wire, taken ports, full disks, damaged files.
//!
//! Each test starts real processes on a folder of its own. Whatever happens, what was accepted is in the next answer,
//! and what cannot be answered in full is refused with a name and a way out.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{
    Load, Up, body_of, event_id, run, snowmelt, stderr_of, stdout_of, wait_until, wait_within,
};
use serde_json::Value;

/// The bytes of a segment's header. Format: `docs/formats/segment.md`.
const SEGMENT_HEADER: usize = 4096;

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    (folder, data_dir)
}

/// Waits until the speed layer has seen everything that was accepted.
fn settle(up: &Up) {
    wait_until("the frontier is the end of the log", || {
        up.number("SELECT count(*) FROM lambda.ledger WHERE pending") == 0
    });
}

/// Sends events one request each; every one must be accepted.
fn accept(up: &Up, numbers: std::ops::Range<u64>) {
    for number in numbers {
        assert_eq!(up.send_ids(&[event_id(number)]), 200);
    }
}

/// The events with our ids in order; fails where one is doubled.
fn ids(up: &Up) -> Vec<String> {
    let rows = up.sql("SELECT event_id FROM atomic.events ORDER BY event_id");
    rows.iter().map(|row| row[0].as_str().unwrap().to_owned()).collect()
}

fn expected(numbers: std::ops::Range<u64>) -> Vec<String> {
    numbers.map(event_id).collect()
}

/// All files below a folder with this extension, in order.
fn files_below(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path, extension));
        } else if path.extension().is_some_and(|it| it == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn the_segment(data_dir: &Path, partition: &str) -> PathBuf {
    let segments = files_below(&data_dir.join("streams").join(partition), "segment");
    assert_eq!(segments.len(), 1, "{segments:?}");
    segments[0].clone()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// Where the records of a segment end.
fn records_end(segment: &[u8]) -> usize {
    let mut at = SEGMENT_HEADER;
    loop {
        let length = u32::from_le_bytes(segment[at..at + 4].try_into().unwrap()) as usize;
        if length == 0 {
            return at;
        }
        at += (28 + length).next_multiple_of(8);
    }
}

/// A folder with `count` events in one raw partition, whose process was killed.
fn killed_with(data_dir: &Path, count: u64) {
    let up = Up::start(data_dir, &["stream.partitions=1"]);
    accept(&up, 0..count);
    settle(&up);
    assert_eq!(ids(&up), expected(0..count));
    up.kill9();
}

#[test]
fn garbage_on_the_wire_is_refused_or_a_bad_row_and_neighbours_are_stored() {
    let (_folder, data_dir) = folder();
    let mut up = Up::start(&data_dir, &[]);
    accept(&up, 0..1);
    let tp2 = "/com.snowplowanalytics.snowplow/tp2";
    let long = "x".repeat(50_000);
    let refused: [(&str, Vec<u8>, &[&str]); 8] = [
        ("garbage", vec![0, 1, 2, 255, 13, 10, 13, 10], &["400", ""]),
        ("no HTTP", b"hello\r\n\r\n".to_vec(), &["400", ""]),
        ("unknown method", format!("BREW {tp2} HTTP/1.1\r\nHost: h\r\n\r\n").into(), &["404"]),
        (
            "POST to the pixel",
            b"POST /i HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n".to_vec(),
            &["404"],
        ),
        (
            "huge header",
            format!("GET /i?e=pv HTTP/1.1\r\nHost: h\r\nX: {long}\r\n\r\n").into(),
            &["400"],
        ),
        (
            "huge request line",
            format!("GET /i?x={long} HTTP/1.1\r\nHost: h\r\n\r\n").into(),
            &["400"],
        ),
        (
            "huge body",
            format!("POST {tp2} HTTP/1.1\r\nHost: h\r\nContent-Length: 2097152\r\n\r\n").into(),
            &["413"],
        ),
        (
            "two lengths",
            format!(
                "POST {tp2} HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"
            )
            .into(),
            &["400"],
        ),
    ];
    for (what, request, statuses) in &refused {
        let answer = up.raw_request(request);
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(statuses.contains(&status), "{what}: {answer:.200}");
    }
    for half in [
        "POST",
        "POST /a/b HTTP/1.1\r\nHost",
        "POST /a/b HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf",
    ] {
        let answer = up.raw_request(half.as_bytes());
        assert!(!answer.contains(" 200 "), "half a request was accepted: {answer}");
    }
    settle(&up);
    assert_eq!(up.rows(), 1, "what was refused was stored");

    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep = format!(r#"{{"schema":"iglu:a/b/jsonschema/1-0-0","data":{nested}}}"#);
    let bad: [(&str, Vec<u8>); 6] = [
        ("invalid JSON", b"{\"schema\":".to_vec()),
        ("not UTF-8", vec![b'{', 0xff, 0xfe, b'}']),
        ("no events", body_of::<&str>(&[]).to_string().into()),
        ("no body", Vec::new()),
        ("deep nesting", nested.into()),
        ("deep nesting in an envelope", deep.into()),
    ];
    for (before, (what, body)) in bad.iter().enumerate() {
        assert_eq!(up.post_tp2(body), 200, "{what}");
        settle(&up);
        let rows = up.number("SELECT count(*) FROM atomic.bad_rows");
        assert_eq!(rows, before as u64 + 1, "{what}");
    }
    accept(&up, 1..2);
    settle(&up);
    assert_eq!(ids(&up), expected(0..2));
    up.batch_run();
    assert_eq!(ids(&up), expected(0..2));
    assert_eq!(up.number("SELECT count(*) FROM atomic.bad_rows"), bad.len() as u64);
    assert!(up.child.try_wait().unwrap().is_none());
}

#[test]
fn a_second_process_on_a_data_folder_is_refused_and_the_first_is_unharmed() {
    let (_folder, data_dir) = folder();
    let up = Up::start(&data_dir, &[]);
    accept(&up, 0..1);
    let second = Up::try_start(&data_dir, &[]).err().unwrap();
    assert_eq!(second.status.code(), Some(1), "{}", second.stderr);
    for part in [data_dir.to_str().unwrap(), "in use", "--data-dir", &up.child.id().to_string()] {
        assert!(second.stderr.contains(part), "no `{part}` in: {}", second.stderr);
    }
    accept(&up, 1..2);
    settle(&up);
    assert_eq!(ids(&up), expected(0..2));
    assert!(up.terminate().success());
}

#[test]
fn a_raw_stream_older_than_its_archive_is_refused_and_hands_out_no_position_twice() {
    let (_folder, data_dir) = folder();
    let up = Up::start(&data_dir, &[]);
    accept(&up, 0..4);
    assert_eq!(up.batch_run(), 1);
    assert!(up.terminate().success());
    let (raw, aside) = (data_dir.join("streams/raw"), data_dir.join("aside"));
    std::fs::rename(&raw, &aside).unwrap();
    let refused = Up::try_start(&data_dir, &[]).err().unwrap();
    for part in ["raw/", "archived", "restore", "streams"] {
        assert!(refused.stderr.contains(part), "no `{part}` in: {}", refused.stderr);
    }
    std::fs::remove_dir_all(&raw).unwrap();
    std::fs::rename(&aside, &raw).unwrap();
    let up = Up::start(&data_dir, &[]);
    accept(&up, 4..5);
    settle(&up);
    assert_eq!(ids(&up), expected(0..5));
    assert!(up.terminate().success());
}

#[test]
fn an_iteration_without_a_server_keeps_the_recipe_in_force() {
    let (folder, data_dir) = folder();
    let schema = folder.path().join("schemas/com.acme/flake/jsonschema/1-0-0");
    std::fs::create_dir_all(schema.parent().unwrap()).unwrap();
    let text = r#"{"self": {"vendor": "com.acme", "name": "flake", "format": "jsonschema", "version": "1-0-0"}, "type": "object"}"#;
    std::fs::write(&schema, text).unwrap();
    let setting = format!("enrich.schemas={}", folder.path().join("schemas").display());
    let up = Up::start(&data_dir, &[&setting, "batch.interval=1h"]);
    let recipe = up.status()["speed"]["recipe"].clone();
    accept(&up, 0..2);
    assert!(up.terminate().success());
    stdout_of(["batch", "run", "--data-dir", data_dir.to_str().unwrap()]);
    let up = Up::start(&data_dir, &[&setting, "batch.interval=1h"]);
    assert_eq!(up.status()["speed"]["recipe"], recipe);
    assert_eq!(up.number("SELECT count(*) FROM atomic.events WHERE _layer = 'batch'"), 2);
    assert!(up.terminate().success());
}

#[test]
fn a_port_that_is_taken_is_named_with_its_key_and_leaves_nothing_locked() {
    let (_folder, data_dir) = folder();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for key in ["collector.port", "server.http-port"] {
        let setting = format!("{key}={}", address.port());
        let not_up = Up::try_start(&data_dir, &[&setting]).err().unwrap();
        assert_eq!(not_up.status.code(), Some(1), "{}", not_up.stderr);
        for part in [address.to_string().as_str(), key] {
            assert!(not_up.stderr.contains(part), "no `{part}` in: {}", not_up.stderr);
        }
    }
    let up = Up::start(&data_dir, &[]);
    accept(&up, 0..1);
    assert!(up.terminate().success());
}

#[test]
fn a_data_folder_that_cannot_be_written_is_named() {
    let (folder, _) = folder();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let mut impossible = vec![file.join("data")];
    if !rustix::process::geteuid().is_root() {
        use std::os::unix::fs::PermissionsExt;
        let closed = folder.path().join("closed");
        fs::create_dir(&closed).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
        impossible.push(closed);
    }
    for data_dir in &impossible {
        let not_up = Up::try_start(data_dir, &[]).err().unwrap();
        assert_eq!(not_up.status.code(), Some(1), "{}", not_up.stderr);
        for part in [data_dir.to_str().unwrap(), "--data-dir"] {
            assert!(not_up.stderr.contains(part), "no `{part}` in: {}", not_up.stderr);
        }
    }
}

#[test]
fn below_the_disk_reserve_requests_are_answered_503_and_accepted_again_when_there_is_room() {
    let (folder, data_dir) = folder();
    let space = rustix::fs::statvfs(folder.path()).unwrap();
    let available = space.f_bavail * space.f_frsize;
    // Much, because other processes use the disk meanwhile.
    let ballast_bytes = (available / 4).min(8 << 30);
    let reserve = format!("stream.disk-reserve={}", available - ballast_bytes / 2);
    eprintln!("by a reserve: {ballast_bytes} of {available} bytes taken away");
    let up = Up::start(&data_dir, &[&reserve]);
    accept(&up, 0..5);
    let ballast = folder.path().join("ballast");
    let file = fs::File::create(&ballast).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, ballast_bytes).unwrap();
    refuses_for_want_of_room(&up, &["never"]);
    settle(&up);
    assert_eq!(ids(&up), expected(0..5));
    drop(file);
    fs::remove_file(&ballast).unwrap();
    wait_until("room again", || up.send_ids(&[event_id(5)]) == 200);
    settle(&up);
    assert_eq!(ids(&up), expected(0..6));
    up.kill9();
    assert_eq!(ids(&Up::start(&data_dir, &[&reserve])), expected(0..6));
}

fn refuses_for_want_of_room<T: AsRef<str>>(up: &Up, ids: &[T]) {
    let body = body_of(ids).to_string();
    let request = format!(
        "POST /com.snowplowanalytics.snowplow/tp2 HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = up.raw_request(request.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("Retry-After: "), "{answer}");
}

/// A small file system of its own, where the system lets us have one.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(bytes: u64) -> Option<Tmpfs> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "snowmelt-test"])
            .arg(folder.path())
            .stderr(Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then_some(Tmpfs(folder))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

/// The reserve is off here, so that the disk is really full; without the right to mount, the test above stands alone.
/// The disk fills twice while iterations run, and nobody restarts anything.
#[test]
fn a_disk_that_fills_and_is_freed_again_loses_nothing_and_everything_goes_on_by_itself() {
    let Some(tmpfs) = Tmpfs::mount(64 << 20) else {
        eprintln!("no tmpfs can be mounted here: only the reserve is tested");
        return;
    };
    eprintln!("by a tmpfs of 64 MiB");
    let data_dir = tmpfs.0.path().join("data");
    let settings = ["stream.partitions=1", "batch.interval=200ms"];
    let up = Up::start(&data_dir, &settings);
    let some = |from: u64| (from..from + 500).map(event_id).collect::<Vec<_>>();
    let mut accepted = 0;
    for round in 0..2 {
        let before = accepted;
        let mut ballast = Ballast::leaving(&tmpfs, 3 << 20);
        loop {
            match up.send_ids(&some(accepted)) {
                200 => accepted += 500,
                503 => break,
                status => panic!("status {status}"),
            }
            // What is archived is trimmed from the log, and that can be as fast as we send: take that room too.
            if (accepted - before) % 20_000 == 0 {
                ballast.grow(&tmpfs, 1 << 20);
            }
            assert!(accepted - before < 400_000, "a disk without an end");
        }
        // A smaller request may still fit; this one does not.
        refuses_for_want_of_room(&up, &some(accepted));
        eprintln!("round {round}: full after {} events", accepted - before);
        drop(ballast);
        wait_until("room again", || up.send_ids(&some(accepted)) == 200);
        accepted += 500;
        // The pauses between failed attempts grow to a minute.
        wait_within(Duration::from_secs(90), "iterations go on and cover everything", || {
            up.number("SELECT count(*) FROM atomic.events WHERE _layer = 'batch'") == accepted
        });
        // A request that was answered 503 was not stored; only the ids sent again are there.
        assert_eq!(ids(&up), expected(0..accepted));
    }
    up.kill9();
    let up = Up::start(&data_dir, &settings);
    assert_eq!(ids(&up), expected(0..accepted));
}

/// A file that takes the room of a disk away for as long as it lives.
struct Ballast(PathBuf);

impl Ballast {
    fn leaving(tmpfs: &Tmpfs, bytes: u64) -> Ballast {
        let mut ballast = Ballast(tmpfs.0.path().join("ballast"));
        ballast.grow(tmpfs, bytes);
        ballast
    }

    /// Leaves about so much. What others write meanwhile may get in the way: then less is taken.
    fn grow(&mut self, tmpfs: &Tmpfs, leave: u64) {
        let space = rustix::fs::statvfs(tmpfs.0.path()).unwrap();
        let free = space.f_bavail * space.f_frsize;
        let file = fs::OpenOptions::new().create(true).append(true).open(&self.0).unwrap();
        let _ = (&file).write_all(&vec![7; free.saturating_sub(leave) as usize]);
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_damaged_raw_segment_stops_the_start_by_name_and_nothing_is_deleted() {
    let (_folder, data_dir) = folder();
    killed_with(&data_dir, 20);
    let segment = the_segment(&data_dir, "raw/0");
    let whole = fs::read(&segment).unwrap();
    let end = records_end(&whole);
    let mut flipped = whole.clone();
    flipped[SEGMENT_HEADER + (end - SEGMENT_HEADER) / 2] ^= 1;
    let cut = whole[..SEGMENT_HEADER + (end - SEGMENT_HEADER) / 2].to_vec();
    for (what, bytes) in [("flipped", flipped), ("cut short", cut)] {
        fs::write(&segment, &bytes).unwrap();
        let not_up = Up::try_start(&data_dir, &["stream.partitions=1"]).err().unwrap();
        assert_eq!(not_up.status.code(), Some(1), "{what}: {}", not_up.stderr);
        for part in [segment.to_str().unwrap(), "at byte ", "snowmelt stream repair"] {
            assert!(not_up.stderr.contains(part), "{what}: no `{part}` in: {}", not_up.stderr);
        }
        let data = data_dir.to_str().unwrap();
        let listed = stdout_of(["stream", "list", "--json", "--data-dir", data]);
        let line = listed.lines().find(|line| line.contains("raw/0")).unwrap();
        let state =
            serde_json::from_str::<Value>(line).unwrap()["state"].as_str().unwrap().to_owned();
        assert!(state.starts_with("damaged: "), "{what}: {state}");
        assert_eq!(fs::read(&segment).unwrap(), bytes, "{what}: the file was changed");
    }
    // Brought back from a backup, all is well.
    fs::write(&segment, whole).unwrap();
    assert_eq!(ids(&Up::start(&data_dir, &["stream.partitions=1"])), expected(0..20));
}

#[test]
fn a_damaged_derived_stream_is_made_again() {
    for stream in ["enriched/0", "bad/0", "failed/0"] {
        let (_folder, data_dir) = folder();
        killed_with(&data_dir, 20);
        flip(&the_segment(&data_dir, stream), SEGMENT_HEADER + 40);
        let up = Up::start(&data_dir, &["stream.partitions=1"]);
        assert_eq!(ids(&up), expected(0..20), "{stream}");
        accept(&up, 20..21);
        settle(&up);
        assert_eq!(ids(&up), expected(0..21), "{stream}");
        up.kill9();
        let up = Up::start(&data_dir, &["stream.partitions=1"]);
        assert_eq!(ids(&up), expected(0..21), "{stream}");
    }
}

#[test]
fn a_torn_tail_is_cut_off_and_kept_and_every_acknowledged_record_stays() {
    let (_folder, data_dir) = folder();
    killed_with(&data_dir, 20);
    let segment = the_segment(&data_dir, "raw/0");
    let mut bytes = fs::read(&segment).unwrap();
    let end = records_end(&bytes);
    // The length is there, the rest is not what it says.
    bytes[end..end + 4].copy_from_slice(&100u32.to_le_bytes());
    bytes[end + 4..end + 60].fill(0xa5);
    fs::write(&segment, bytes).unwrap();
    let up = Up::start(&data_dir, &["stream.partitions=1"]);
    assert_eq!(ids(&up), expected(0..20));
    assert_eq!(files_below(&data_dir.join("streams/raw/0"), "torn").len(), 1);
    accept(&up, 20..25);
    settle(&up);
    assert_eq!(ids(&up), expected(0..25));
}

#[test]
fn a_missing_or_damaged_table_file_fails_the_query_and_never_shortens_it() {
    let (folder, data_dir) = folder();
    let up = Up::start(&data_dir, &["batch.interval=1h", "stream.partitions=1"]);
    accept(&up, 0..10);
    up.batch_run();
    accept(&up, 10..13);
    settle(&up);
    assert_eq!(ids(&up), expected(0..13));
    let tables = files_below(&data_dir.join("tables/events"), "parquet");
    let table = tables.first().unwrap();
    let aside = folder.path().join("aside");
    fs::rename(table, &aside).unwrap();
    fails_with_a_hole(&up, table);
    fs::copy(&aside, table).unwrap();
    assert_eq!(ids(&up), expected(0..13));

    let length = fs::metadata(table).unwrap().len() as usize;
    flip(table, length / 2);
    assert!(up.terminate().success());
    let up = Up::start(&data_dir, &["batch.interval=1h", "stream.partitions=1"]);
    fails_with_a_hole(&up, table);
    accept(&up, 13..14);
    settle(&up);
    fs::copy(&aside, table).unwrap();
    assert_eq!(ids(&up), expected(0..14));
}

/// What needs the file fails and names it; what does not need it is answered in full.
fn fails_with_a_hole(up: &Up, table: &Path) {
    for statement in [
        "SELECT count(*) FROM atomic.events",
        "SELECT event_id FROM atomic.events",
        "SELECT max(collector_tstamp) FROM atomic.events",
    ] {
        let (status, error) = up.try_sql(statement).unwrap_err();
        let error = &error["error"];
        assert_eq!((status, error["code"].as_str()), (500, Some("hole")), "{statement}: {error}");
        assert!(error["message"].as_str().unwrap().contains(table.to_str().unwrap()), "{error}");
    }
    match up.try_sql("SELECT count(*) FROM atomic.events WHERE _layer = 'speed'") {
        Ok(rows) => assert_eq!(rows[0][0].as_u64(), Some(3), "fewer rows"),
        Err((_, error)) => assert_eq!(error["error"]["code"], "hole", "{error}"),
    }
    assert_eq!(up.number("SELECT count(*) FROM lambda.cut"), 1);
    assert_eq!(up.number("SELECT count(*) FROM atomic.bad_rows"), 0);
}

/// In the middle of requests, an iteration and a rebuild.
#[test]
fn sigterm_under_load_ends_with_0_within_the_deadline_and_keeps_what_was_accepted() {
    let (folder, data_dir) = folder();
    let settings = ["batch.interval=200ms", "collector.termination-deadline=5s"];
    let mut before = HashSet::new();
    for round in 0..3 {
        let mut up = Up::start(&data_dir, &settings);
        let load = Load::start(&up, &folder.path().join(format!("ids-{round}")));
        wait_until("some load", || load.accepted().len() >= 200);
        let rebuild = rebuild_in_the_background(&up);
        let asked = Instant::now();
        up.ask_to_end();
        let status = up.wait(Duration::from_secs(60));
        let took = asked.elapsed();
        let accepted = load.end();
        rebuild.join().unwrap();
        assert!(status.success(), "{status}: {}", up.stderr());
        assert!(took < Duration::from_secs(40), "ended after {took:?}, the deadline is 5 s");
        eprintln!("round {round}: {} accepted, ended after {took:?}", accepted.len());
        assert!(!data_dir.join("run.json").exists());
        before.extend(accepted);
        drop(up);
        let up = Up::start(&data_dir, &settings);
        let stored = ids(&up);
        assert!(stored.windows(2).all(|pair| pair[0] < pair[1]), "an event is doubled");
        for id in &before {
            assert!(stored.binary_search(id).is_ok(), "{id} is lost");
        }
        assert!(up.terminate().success());
    }
}

/// The answer may never come.
fn rebuild_in_the_background(up: &Up) -> std::thread::JoinHandle<()> {
    let address = up.http.clone();
    let mut connection = TcpStream::connect(&address).unwrap();
    let request = format!(
        "POST /api/v1/batch HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: 16\r\nConnection: close\r\n\r\n{{\"rebuild\":true}}"
    );
    connection.write_all(request.as_bytes()).unwrap();
    std::thread::spawn(move || {
        let _ = connection.read_to_end(&mut Vec::new());
    })
}

/// `PAUSE_SECONDS=60` makes it a long one.
#[test]
fn a_process_that_stands_still_for_a_while_goes_on_where_it_was() {
    let seconds = std::env::var("PAUSE_SECONDS").map_or(3, |text| text.parse().unwrap());
    let (folder, data_dir) = folder();
    let up = Up::start(&data_dir, &["batch.interval=200ms"]);
    let load = Load::start(&up, &folder.path().join("ids"));
    let iterations = || up.number("SELECT max(iteration) FROM lambda.iterations");
    wait_until("load and an iteration", || load.accepted().len() >= 200 && iterations() >= 1);
    let cut = || up.sql("SELECT partition, cut_offset FROM lambda.cut ORDER BY partition");
    let (cut_before, iterations_before) = (cut(), iterations());
    up.suspend();
    std::thread::sleep(Duration::from_secs(seconds));
    let accepted_before = load.accepted().len();
    up.resume();
    wait_until("requests are accepted again, and iterations made", || {
        load.accepted().len() >= accepted_before + 200 && iterations() > iterations_before
    });
    let accepted = load.end();
    eprintln!("{seconds} s: {accepted_before} accepted before, {} in all", accepted.len());
    settle(&up);
    let stored = ids(&up);
    assert!(stored.windows(2).all(|pair| pair[0] < pair[1]), "an event is doubled");
    assert!(accepted.iter().all(|id| stored.binary_search(id).is_ok()), "an event is lost");
    for (before, now) in cut_before.iter().zip(&cut()) {
        assert!(before[1].as_str() <= now[1].as_str(), "the cut went from {before:?} to {now:?}");
    }
    up.batch_run();
    assert_eq!(ids(&up), stored);
    assert!(up.terminate().success());
}

#[test]
fn after_a_restart_ready_means_caught_up() {
    let (_folder, data_dir) = folder();
    let mut before = 0;
    for round in 0..4 {
        let up = Up::start(&data_dir, &["batch.interval=1h"]);
        assert_eq!(up.rows(), before, "round {round}");
        accept(&up, round * 50..round * 50 + 50);
        before += 50;
        if round % 2 == 0 {
            settle(&up);
        } else {
            up.batch_run();
        }
        up.kill9();
    }
    let up = Up::start(&data_dir, &["batch.interval=1h"]);
    assert_eq!(ids(&up), expected(0..before));
}

#[test]
fn commands_without_a_server_work_on_the_folder_or_say_what_to_do() {
    let (folder, data_dir) = folder();
    let data = data_dir.to_str().unwrap();
    let error = stderr_of(["sql", "SELECT 1", "--data-dir", data]);
    assert!(error.contains(data) && error.contains("snowmelt up"), "{error}");
    let error = stderr_of(["batch", "run", "--data-dir", data]);
    assert!(error.contains(data) && error.contains("--data-dir"), "{error}");
    let error = stderr_of(["stream", "list", "--data-dir", data]);
    assert!(error.contains(data), "{error}");

    let up = Up::start(&data_dir, &["batch.interval=1h"]);
    accept(&up, 0..7);
    assert_eq!(up.post_tp2(b"not JSON"), 200);
    settle(&up);
    let table =
        stdout_of(["sql", "SELECT count(*) AS n FROM atomic.events", "--json", "--data-dir", data]);
    assert_eq!(table.trim(), r#"{"n":7}"#);
    let error = stderr_of(["sql", "SELECT nothing FROM atomic.events", "--data-dir", data]);
    assert!(error.contains("nothing") && error.contains("hint: "), "{error}");
    assert!(up.terminate().success());

    let listed = stdout_of(["stream", "list", "--data-dir", data]);
    for part in ["raw/0", "raw/1", "enriched/0", "bad/1", "failed/1", "whole"] {
        assert!(listed.contains(part), "no `{part}` in:\n{listed}");
    }
    let tail = stdout_of(["stream", "tail", "raw", "--data-dir", data]);
    assert_eq!(tail.lines().count(), 8, "{tail}");
    assert!(tail.contains(&event_id(6)) && tail.contains("not JSON"), "{tail}");
    assert_eq!(stdout_of(["stream", "tail", "enriched", "--data-dir", data]).lines().count(), 7);
    let events = stdout_of(["stream", "tail", "enriched", "--json", "--data-dir", data]);
    for event in events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        assert!(event["event_id"].is_string() && event["collector_tstamp"].is_string(), "{event}");
    }
    assert_eq!(events.lines().count(), 7);
    let bad = stdout_of(["stream", "tail", "bad", "--data-dir", data]);
    assert!(bad.contains("tracker_protocol_violations"), "{bad}");
    let error = stderr_of(["stream", "tail", "nothing", "--data-dir", data]);
    assert!(error.contains("nothing") && error.contains("raw/0"), "{error}");

    let dump = stdout_of(["stream", "dump", "raw", "--data-dir", data]);
    let outcomes = outcomes_of(&dump);
    assert_eq!(outcomes, (7, 1));

    assert_eq!(stdout_of(["batch", "run", "--data-dir", data]).trim(), "published iteration 1");
    assert_eq!(
        stdout_of(["batch", "run", "--data-dir", data]).trim(),
        "nothing new: iteration 1 stands"
    );
    assert_eq!(stdout_of(["batch", "list", "--json", "--data-dir", data]).lines().count(), 2);
    let up = Up::start(&data_dir, &["batch.interval=1h"]);
    assert_eq!(ids(&up), expected(0..7));
    assert_eq!(up.number("SELECT count(*) FROM atomic.bad_rows"), 1);
    assert_eq!(up.number("SELECT count(*) FROM atomic.events WHERE _layer = 'batch'"), 7);

    let missing = folder.path().join("missing");
    let schemas = format!("enrich.schemas={}", missing.display());
    let output = run([
        "config",
        "check",
        "--set",
        "stream.partitions=0",
        "--set",
        "batch.interval=1ms",
        "--set",
        &schemas,
    ]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    for part in ["stream.partitions", "batch.interval", "enrich.schemas", missing.to_str().unwrap()]
    {
        assert!(error.contains(part), "no `{part}` in: {error}");
    }
    assert!(stdout_of(["config", "check"]).starts_with("ok"));
}

/// How many good and bad outcomes `snowmelt enrich` makes of a dump.
fn outcomes_of(dump: &str) -> (usize, usize) {
    let mut enrich =
        snowmelt(["enrich"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = enrich.stdin.take().unwrap();
    stdin.write_all(dump.as_bytes()).unwrap();
    drop(stdin);
    let output = enrich.wait_with_output().unwrap();
    assert!(output.status.success());
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let sum = |name: &str| lines.iter().map(|line| line[name].as_array().unwrap().len()).sum();
    (sum("good"), sum("bad"))
}
