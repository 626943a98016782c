//! `snowmelt backup` beside a server under load, with iterations, joined files and trimming all the while: each copy
//! starts, and has every event that was accepted before it was begun, once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::{Up, body_of, event_id, run, stdout_of};

#[test]
fn a_backup_taken_under_load_starts_and_answers_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let copies = tempfile::tempdir().unwrap();
    let up = Up::start(dir.path(), &["batch.interval=200ms", "batch.compact-files=2"]);
    let (accepted, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let backup = |number: u64| {
        let into = copies.path().join(number.to_string());
        let before = accepted.load(Ordering::SeqCst);
        let said = stdout_of([
            "backup",
            into.to_str().unwrap(),
            "--data-dir",
            dir.path().to_str().unwrap(),
        ]);
        assert!(said.contains("copied iteration") && said.contains("raw/1 up to"), "{said}");
        (into, before)
    };
    let taken = std::thread::scope(|scope| {
        scope.spawn(|| {
            // Events are sent in order, so that a count says which of them were accepted.
            let mut next = 0;
            while !done.load(Ordering::SeqCst) {
                let mut body = body_of(&(next..next + 20).map(event_id).collect::<Vec<_>>());
                for event in body["data"].as_array_mut().unwrap() {
                    event["page"] = "x".repeat(1500).into();
                }
                assert_eq!(up.post_tp2(body.to_string().as_bytes()), 200);
                next += 20;
                accepted.store(next, Ordering::SeqCst);
            }
        });
        common::wait_until("some iterations", || up.status()["iteration"].as_u64() > Some(3));
        let taken: Vec<_> = (0..4).map(backup).collect();
        done.store(true, Ordering::SeqCst);
        taken
    });
    let all = accepted.load(Ordering::SeqCst);
    assert!(up.terminate().success());
    for (into, before) in taken {
        let folder = into.to_str().unwrap();
        let verified = stdout_of(["stream", "verify", "--data-dir", folder]);
        assert!(verified.contains("raw/0: whole"), "{verified}");
        let copy = Up::start(&into, &["batch.interval=1h"]);
        for _ in 0..2 {
            let rows = copy.sql("SELECT event_id FROM atomic.events");
            let ids: BTreeSet<String> =
                rows.iter().map(|row| row[0].as_str().unwrap().to_owned()).collect();
            assert_eq!(ids.len(), rows.len(), "an event is there twice");
            let expect: BTreeSet<String> = (0..before).map(event_id).collect();
            assert!(expect.is_subset(&ids), "{} of {before} are there", ids.len());
            assert!(ids.is_subset(&(0..all).map(event_id).collect()));
            assert_eq!(copy.number("SELECT count(*) FROM atomic.bad_rows"), 0);
            copy.batch_run();
        }
        assert!(copy.terminate().success());
    }
}

#[test]
fn a_backup_never_writes_over_anything() {
    let dir = tempfile::tempdir().unwrap();
    let up = Up::start(&dir.path().join("data"), &[]);
    let data = dir.path().join("data");
    let into = dir.path().join("there");
    std::fs::create_dir(&into).unwrap();
    std::fs::write(into.join("precious"), "x").unwrap();
    let output = run(["backup", into.to_str().unwrap(), "--data-dir", data.to_str().unwrap()]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.contains("not empty"), "{text}");
    let output = run([
        "backup",
        dir.path().join("new").to_str().unwrap(),
        "--data-dir",
        into.to_str().unwrap(),
    ]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.contains("not a data folder"), "{text}");
    for inside in [data.join("copy"), dir.path().to_owned()] {
        let output =
            run(["backup", inside.to_str().unwrap(), "--data-dir", data.to_str().unwrap()]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains("lie in each other"), "{text}");
    }
    assert!(!data.join("copy").exists());
    assert!(up.terminate().success());
}

#[test]
fn a_hole_in_the_master_dataset_is_no_backup_and_verify_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let up = Up::start(&data, &["stream.partitions=1", "batch.interval=1h"]);
    for number in 0..3 {
        assert_eq!(up.send_ids(&[event_id(number)]), 200);
        up.batch_run();
    }
    let lost = data.join("master/raw/0/00000000000000000001.raw.zst");
    std::fs::rename(&lost, dir.path().join("away")).unwrap();
    let folder = data.to_str().unwrap();
    let into = dir.path().join("copy");
    for command in [
        vec!["backup", into.to_str().unwrap(), "--data-dir", folder],
        vec!["stream", "verify", "--data-dir", folder],
    ] {
        let output = run(&command);
        let text = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap()).concat();
        assert_eq!(output.status.code(), Some(1), "{command:?}: {text}");
        assert!(text.contains("00000000000000000001.raw.zst"), "{command:?}: {text}");
    }
    std::fs::rename(dir.path().join("away"), &lost).unwrap();
    assert!(run(["stream", "verify", "--data-dir", folder]).status.success());
    assert!(up.terminate().success());
}
