//! What an operator sees: health and metrics of a running server, its status, logs as JSON, and the pages and scripts that
//! the binary makes of itself.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use common::{Up, event_id, run, snowmelt, stdout_of, wait_until};
use serde_json::Value;

/// Reads Prometheus text form strictly: one HELP and one TYPE before the samples of a family, families in one piece, no
/// sample twice, histograms cumulative. The value of each sample by its name and labels.
fn parse_metrics(text: &str) -> (BTreeMap<String, String>, BTreeMap<String, f64>) {
    assert!(text.ends_with('\n'));
    let (mut kinds, mut samples) = (BTreeMap::new(), BTreeMap::new());
    let mut current = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, meaning) = help.split_once(' ').unwrap();
            assert!(!meaning.is_empty(), "{line}");
            let kind = lines.next().unwrap();
            let kind = kind
                .strip_prefix(&format!("# TYPE {name} "))
                .unwrap_or_else(|| panic!("{line}\n{kind}"));
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{kind}");
            assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} twice");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            current = name.to_owned();
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        let family = name.split('{').next().unwrap();
        let parts: &[&str] = match kinds[&current].as_str() {
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        let is_ours = parts.iter().any(|part| family == format!("{current}{part}"));
        assert!(is_ours, "`{line}` after the head of {current}");
        if let Some((_, labels)) = name.split_once('{') {
            assert!(labels.ends_with("\"}"), "{line}");
        }
        assert!(samples.insert(name.to_owned(), value).is_none(), "{name} twice");
    }
    (kinds, samples)
}

#[test]
fn metrics_are_well_formed_and_the_reference_has_each_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let up = Up::start(dir.path(), &["stream.partitions=1", "batch.interval=1h"]);
    let ids: Vec<String> = (0..20).map(event_id).collect();
    assert_eq!(up.send_ids(&ids), 200);
    assert_eq!(up.post_tp2(b"not json"), 200);
    wait_until("all rows", || up.rows() == 21);
    wait_until("an age", || {
        let (_, samples) = parse_metrics(&up.get("/metrics").1);
        samples["snowmelt_batch_cut_age_seconds{partition=\"raw/0\"}"] > 0.0
            && samples["snowmelt_batch_archive_lag_seconds{partition=\"raw/0\"}"] > 0.0
    });
    up.batch_run();
    let (kinds, samples) = parse_metrics(&up.get("/metrics").1);
    for (name, value) in [
        ("snowmelt_collector_accepted_total", 2.0),
        ("snowmelt_speed_outcomes_total{kind=\"enriched\"}", 20.0),
        ("snowmelt_speed_outcomes_total{kind=\"bad\"}", 1.0),
        ("snowmelt_log_commit_seconds_count{partition=\"raw/0\"}", 2.0),
        ("snowmelt_log_commit_seconds_bucket{partition=\"raw/0\",le=\"+Inf\"}", 2.0),
        ("snowmelt_log_poisoned{partition=\"raw/0\"}", 0.0),
        ("snowmelt_speed_frontier_lag_seconds{partition=\"raw/0\"}", 0.0),
        ("snowmelt_batch_cut_age_seconds{partition=\"raw/0\"}", 0.0),
        ("snowmelt_batch_archive_lag_seconds{partition=\"raw/0\"}", 0.0),
        ("snowmelt_batch_iterations_total", 1.0),
        ("snowmelt_disk_reserve_bytes", 0.0),
        ("snowmelt_check_failing{check=\"disk\"}", 0.0),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name}");
    }
    assert!(samples["snowmelt_batch_last_iteration_seconds"] > 0.0);
    let buckets = samples
        .iter()
        .filter(|(name, _)| name.contains("le=\"5\"") || name.contains("le=\"0.0005\""));
    assert!(buckets.map(|(_, value)| *value).all(|value| value <= 2.0));
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/metrics.md");
    let page = std::fs::read_to_string(page).unwrap();
    let documented: BTreeSet<String> = page
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split('`').next()?.to_owned()))
        .collect();
    assert_eq!(kinds.into_keys().collect::<BTreeSet<String>>(), documented);
}

/// The failing checks of `/health`, with what they say.
fn failing(up: &Up) -> BTreeMap<String, String> {
    let (status, text) = up.get("/health");
    let health: Value = serde_json::from_str(&text).unwrap();
    let checks = health["checks"].as_array().unwrap();
    assert_eq!(checks.len(), 8, "{health}");
    let failing: BTreeMap<String, String> = checks
        .iter()
        .filter(|check| check["status"] != "ok")
        .map(|check| {
            assert!(!check["hint"].as_str().unwrap().is_empty(), "{check}");
            let part = |name: &str| check[name].as_str().unwrap().to_owned();
            (part("name"), part("message"))
        })
        .collect();
    assert_eq!(status, if failing.is_empty() { 200 } else { 503 }, "{health}");
    assert_eq!(health["status"] == "ok", failing.is_empty(), "{health}");
    failing
}

#[test]
fn health_names_what_fails_and_ends_to_when_it_works_again() {
    let dir = tempfile::tempdir().unwrap();
    let schemas = tempfile::tempdir().unwrap();
    let setting = format!("enrich.schemas={}", schemas.path().display());
    let up = Up::start(dir.path(), &[&setting, "batch.interval=1h"]);
    assert_eq!(failing(&up), BTreeMap::new());
    let folder = dir.path().to_str().unwrap();
    let status = stdout_of(["status", "--data-dir", folder]);
    assert!(status.contains("health: ok") && status.contains("raw/1"), "{status}");

    // A schema that is none: the recipe in force stays.
    let schema = schemas.path().join("com.acme/thing/jsonschema/1-0-0");
    std::fs::create_dir_all(schema.parent().unwrap()).unwrap();
    std::fs::write(&schema, "{").unwrap();
    assert_eq!(up.send_ids(&[event_id(1)]), 200);
    let output = run(["batch", "run", "--data-dir", folder]);
    assert_eq!(output.status.code(), Some(1), "what was changed is not in force");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("com.acme") && error.contains("the recipe in force stays"), "{error}");
    let output = run(["config", "check", "--set", &setting]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("com.acme"));
    let found = failing(&up);
    assert_eq!(found.keys().collect::<Vec<_>>(), ["recipe"]);
    assert!(found["recipe"].contains("com.acme"), "{found:?}");
    let output = run(["status", "--data-dir", folder]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("FAILING recipe"), "{text}");
    let output = run(["status", "--json", "--data-dir", folder]);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["health"]["status"], "failing");
    assert_eq!(status["partitions"].as_array().unwrap().len(), 2);
    std::fs::remove_file(&schema).unwrap();
    up.batch_run();
    assert_eq!(failing(&up), BTreeMap::new());

    // A folder that cannot be written: the batch layer fails and goes on.
    let master = dir.path().join("master");
    std::fs::rename(&master, dir.path().join("away")).unwrap();
    std::fs::write(&master, "in the way").unwrap();
    assert_eq!(up.send_ids(&[event_id(2), event_id(3)]), 200);
    let (code, _) = up.post_json("/api/v1/batch", &serde_json::json!({}));
    assert_eq!(code, 500);
    let found = failing(&up);
    assert!(found["batch"].contains("master"), "{found:?}");
    let (_, samples) = parse_metrics(&up.get("/metrics").1);
    assert_eq!(samples["snowmelt_check_failing{check=\"batch\"}"], 1.0);
    std::fs::remove_file(&master).unwrap();
    std::fs::rename(dir.path().join("away"), &master).unwrap();
    up.batch_run();
    assert_eq!(failing(&up), BTreeMap::new());
    assert_eq!(up.rows(), 3);

    // A table file that is gone: statements name it, and so does this.
    let tables = dir.path().join("tables");
    std::fs::rename(&tables, dir.path().join("away")).unwrap();
    let found = failing(&up);
    assert!(found["files"].contains("tables/events"), "{found:?}");
    std::fs::rename(dir.path().join("away"), &tables).unwrap();
    assert_eq!(failing(&up), BTreeMap::new());
    assert_eq!(up.rows(), 3);
}

#[test]
fn a_start_that_forgets_schemas_or_partitions_says_so_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let schemas = tempfile::tempdir().unwrap();
    let schema = schemas.path().join("com.acme/thing/jsonschema/1-0-0");
    std::fs::create_dir_all(schema.parent().unwrap()).unwrap();
    std::fs::write(&schema, r#"{"self":{"vendor":"com.acme","name":"thing","format":"jsonschema","version":"1-0-0"},"type":"object"}"#).unwrap();
    let setting = format!("enrich.schemas={}", schemas.path().display());
    let up = Up::start(dir.path(), &[&setting, "stream.partitions=3"]);
    assert_eq!(up.send_ids(&[event_id(1)]), 200);
    assert!(up.terminate().success());
    let up = Up::start(dir.path(), &[]);
    let (_, status) = up.get("/api/v1/status");
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["partitions"].as_array().unwrap().len(), 3, "{status}");
    let log = up.stderr();
    assert!(log.contains("com.acme/thing") && log.contains("enrich.schemas"), "{log}");
}

#[test]
fn health_says_that_the_disk_has_no_room_beyond_its_reserve() {
    let dir = tempfile::tempdir().unwrap();
    let up = Up::start(dir.path(), &["stream.disk-reserve=9000000000000000"]);
    let found = failing(&up);
    assert_eq!(found.keys().collect::<Vec<_>>(), ["disk"]);
    assert!(found["disk"].contains("less than the reserve of 9000000000000000"), "{found:?}");
    assert_eq!(up.send_ids(&[event_id(1)]), 503);
    let (_, samples) = parse_metrics(&up.get("/metrics").1);
    assert_eq!(samples["snowmelt_collector_rejected_total{reason=\"disk_full\"}"], 1.0);
}

#[test]
fn logs_as_json_name_partition_file_and_place() {
    let dir = tempfile::tempdir().unwrap();
    let up = Up::start(dir.path(), &["stream.partitions=1"]);
    assert_eq!(up.send_ids(&[event_id(1)]), 200);
    assert!(up.terminate().success());
    // As a crash would leave it: half of a batch behind the last record.
    let segment = dir.path().join("streams/raw/0/00000000000000000000.segment");
    let content = std::fs::read(&segment).unwrap();
    let end = content.iter().rposition(|&byte| byte != 0).unwrap() as u64;
    let at = (end + 1).next_multiple_of(8);
    std::fs::File::options()
        .write(true)
        .open(&segment)
        .unwrap()
        .write_all_at(&[7; 40], at)
        .unwrap();
    let mut command = snowmelt(["--log-format", "json", "batch", "run", "--data-dir"]);
    let output = command.arg(dir.path()).env("SNOWMELT_STREAM__PARTITIONS", "1").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    let lines: Vec<Value> =
        stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let torn = lines.iter().find(|line| line["byte"] == at).unwrap_or_else(|| panic!("{stderr}"));
    assert_eq!((torn["level"].as_str(), torn["partition"].as_str()), (Some("WARN"), Some("raw/0")));
    assert_eq!(torn["file"].as_str(), segment.to_str());
    assert!(torn["message"].as_str().unwrap().contains("torn tail"), "{torn}");
}

#[test]
fn the_binary_makes_its_own_pages_and_scripts() {
    let page = stdout_of(["config", "reference"]);
    let stored =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/configuration.md");
    assert_eq!(page, std::fs::read_to_string(stored).unwrap());
    let schema: Value =
        serde_json::from_str(&stdout_of(["config", "reference", "--json"])).unwrap();
    assert!(schema["properties"]["collector"].is_object());
    for (shell, word) in
        [("bash", "complete -F"), ("zsh", "#compdef snowmelt"), ("fish", "complete -c snowmelt")]
    {
        let script = stdout_of(["completions", shell]);
        assert!(script.contains(word) && script.contains("accept-loss"), "{shell}");
    }
    assert!(stdout_of(["man"]).contains(".TH snowmelt 1"));
    let dir = tempfile::tempdir().unwrap();
    stdout_of(["man", "--out", dir.path().join("man1").to_str().unwrap()]);
    let page = std::fs::read_to_string(dir.path().join("man1/snowmelt-stream-repair.1")).unwrap();
    assert!(page.contains("snowmelt stream repair \\-\\-dry\\-run"), "{page}");
}

#[test]
fn a_request_that_does_not_end_is_cut_at_the_deadline_and_the_exit_code_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut up = Up::start(dir.path(), &["collector.termination-deadline=300ms"]);
    assert_eq!(up.send_ids(&[event_id(1)]), 200);
    let mut slow = TcpStream::connect(&up.collector).unwrap();
    let head = "POST /com.snowplowanalytics.snowplow/tp2 HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf";
    slow.write_all(head.as_bytes()).unwrap();
    wait_until("the connection", || {
        parse_metrics(&up.get("/metrics").1).1["snowmelt_collector_connections"] > 0.0
    });
    up.ask_to_end();
    let status = up.wait(Duration::from_secs(30));
    assert_eq!(status.code(), Some(1), "{}", up.stderr());
    wait_until("what it says", || up.stderr().contains("1 connections were cut"));
    let up = Up::start(dir.path(), &[]);
    assert_eq!(up.rows(), 1);
    assert_eq!(up.terminate().code(), Some(0));
}

#[test]
fn where_bodies_come_from_that_are_answered_413_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(folder.path(), &[]);
    let send = |headers: &str| {
        let head = format!(
            "POST /com.acme/track HTTP/1.1\r\nHost: h\r\n{headers}Content-Length: 3000000\r\n\r\n"
        );
        let answer = up.raw_request(head.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    };
    send("X-Forwarded-For: 203.0.113.7\r\n");
    wait_until("the source is told", || {
        up.stderr().contains(r#"203.0.113.7 (1, "/com.acme/track")"#)
    });
    send("X-Forwarded-For: 203.0.113.8\r\nSP-Anonymous: *\r\n");
    assert!(!up.stderr().contains("203.0.113.8"), "{}", up.stderr());
}

#[test]
fn events_that_are_good_only_because_too_long_is_allowed_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let too_long = format!("/i?e=pv&p=web&tv=test-1&eid={}&tr_id={}", event_id(1), "x".repeat(300));
    for (accept, enriched, counted) in [("false", 0, 0), ("true", 1, 1)] {
        let folder = folder.path().join(accept);
        let up = Up::start(&folder, &[&format!("enrich.accept-invalid={accept}")]);
        let answer = up.raw_request(format!("GET {too_long} HTTP/1.0\r\n\r\n").as_bytes());
        assert!(
            answer.starts_with("HTTP/1.0 200 ") || answer.starts_with("HTTP/1.1 200 "),
            "{answer}"
        );
        wait_until("the record is enriched", || up.rows() == 1);
        assert_eq!(up.number("SELECT count(*) FROM atomic.events"), enriched);
        let (_, samples) = parse_metrics(&up.get("/metrics").1);
        assert_eq!(samples["snowmelt_speed_invalid_enriched_total"] as u64, counted);
    }
}
