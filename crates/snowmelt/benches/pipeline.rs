//! The whole binary: how soon an accepted event is in an answer, what memory it takes, and how a merged scan compares
//! with DuckDB on the same files.
//!
//! `cargo bench -p snowmelt` starts real servers on the loopback and ends them. For DuckDB it wants `BENCH_PYTHON`, a
//! Python that has the package `duckdb`; `cargo xtask bench` sees to that. `EVENTS` (300,000) are in the scan.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on must stop")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Up, event_id, snowmelt, wait_until};
use serde_json::Value;

fn main() {
    // Beside the build, so that the log is on a real disk.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    visible(&folder.path().join("visible"));
    memory(&folder.path().join("memory"));
    scan(&folder.path().join("scan"));
}

/// From the moment the collector answers 200 to the moment an SQL answer has the event, under some load.
fn visible(data_dir: &Path) {
    let up = Up::start(data_dir, &["batch.interval=5s"]);
    for rate in [100, 1000] {
        let load = Load::start(&up, rate, 25);
        let mut waits: Vec<Duration> =
            (0..200).map(|n| wait_for_event(&up, rate * 1000 + n)).collect();
        load.end();
        waits.sort();
        let at = |share: usize| waits[waits.len() * share / 100].as_secs_f64() * 1000.0;
        println!(
            "pipeline: accepted to visible in SQL beside {rate} events/s: p50 {:.0} ms, p99 {:.0} ms",
            at(50),
            at(99)
        );
    }
    up.terminate();
}

fn wait_for_event(up: &Up, number: u64) -> Duration {
    let id = event_id(number);
    assert_eq!(up.send_ids(&[&id]), 200);
    let accepted = Instant::now();
    let statement = format!("SELECT count(*) FROM atomic.events WHERE event_id = '{id}'");
    while up.number(&statement) == 0 {
        assert!(accepted.elapsed() < Duration::from_secs(20), "{id} does not become visible");
    }
    accepted.elapsed()
}

/// Resident memory: idle, and after a while at 5,000 events per second.
fn memory(data_dir: &Path) {
    let up = Up::start(data_dir, &["batch.interval=10s"]);
    std::thread::sleep(Duration::from_secs(2));
    println!("pipeline: memory of `up` idle: {} MB", resident_mb(&up));
    let load = Load::start(&up, 5000, 40);
    let mut most = 0;
    for _ in 0..40 {
        std::thread::sleep(Duration::from_secs(1));
        most = most.max(resident_mb(&up));
    }
    let report = load.end();
    println!(
        "pipeline: memory of `up` at {:.0} events/s with an iteration each 10 s, most in 40 s: {most} MB; p99 of the \
         collector {:.1} ms",
        report["accepted_per_second"].as_f64().unwrap(),
        report["p99_ms"].as_f64().unwrap()
    );
    up.terminate();
}

fn resident_mb(up: &Up) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", up.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// Statements that a dashboard asks. The first reads no column, the second one, the others some.
const STATEMENTS: [(&str, &str); 4] = [
    ("all rows", "SELECT count(*) FROM {events}"),
    ("one column", "SELECT count(*) FROM {events} WHERE event_name = 'page_ping'"),
    (
        "a group by",
        "SELECT event_name, count(*), count(DISTINCT domain_userid) FROM {events} GROUP BY event_name",
    ),
    (
        "per page and minute",
        "SELECT date_trunc('minute', collector_tstamp) AS minute, page_urlpath, count(*) AS n FROM {events} \
         WHERE event_name = 'page_view' GROUP BY 1, 2 ORDER BY n DESC LIMIT 20",
    ),
];

/// The same statements over the same Parquet files, here through the merge, there by DuckDB.
fn scan(data_dir: &Path) {
    let events = std::env::var("EVENTS").map_or(300_000, |text| text.parse().unwrap());
    let up = Up::start(data_dir, &["batch.interval=1h"]);
    let mut sent = 0;
    while sent < events {
        let report = Load::with(&up, 0, 5, 50).end();
        sent += report["accepted"].as_u64().unwrap();
        wait_until("everything is visible", || up.rows() == sent);
        up.batch_run();
    }
    let files = files_of(data_dir);
    println!("pipeline: scan over {sent} events in {} files", files.len());
    let Some(python) = std::env::var_os("BENCH_PYTHON") else {
        panic!("BENCH_PYTHON is not set: run `cargo xtask bench pipeline`");
    };
    for (name, statement) in STATEMENTS {
        let ours = statement.replace("{events}", "atomic.events");
        let merged = median((0..7).map(|_| time(|| drop(up.sql(&ours)))).collect());
        let script = "import duckdb,sys,time,json\n\
                      files=json.loads(sys.argv[1]); sql=sys.argv[2].replace('{events}',f'read_parquet({files!r})')\n\
                      c=duckdb.connect(); times=[]\n\
                      for _ in range(7):\n\
                      \x20s=time.perf_counter(); c.execute(sql).fetchall(); times.append(time.perf_counter()-s)\n\
                      print(sorted(times)[3])";
        let output = Command::new(&python)
            .args(["-c", script, &serde_json::to_string(&files).unwrap(), statement])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let duckdb: f64 = text.trim().parse().unwrap_or_else(|_| {
            panic!("DuckDB has no answer: {}", String::from_utf8_lossy(&output.stderr))
        });
        println!(
            "pipeline: {name}: merged {:.1} ms over HTTP, DuckDB {:.1} ms in its process, ratio {:.2}",
            merged * 1000.0,
            duckdb * 1000.0,
            merged / duckdb
        );
    }
    up.terminate();
}

fn time(act: impl FnOnce()) -> f64 {
    let started = Instant::now();
    act();
    started.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The paths of the event files that the newest manifest lists.
fn files_of(data_dir: &Path) -> Vec<String> {
    let catalog = data_dir.join("catalog");
    let mut names: Vec<_> =
        std::fs::read_dir(&catalog).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|it| it == "json"));
    names.sort();
    let text = std::fs::read_to_string(names.last().unwrap()).unwrap();
    let manifest: Value = serde_json::from_str(&text).unwrap();
    let files = manifest["manifest"]["files"].as_array().unwrap();
    files
        .iter()
        .filter(|file| file["table"] == "events")
        .map(|file| data_dir.join(file["path"].as_str().unwrap()).display().to_string())
        .collect()
}

/// `snowmelt send` in the background.
struct Load(Child);

impl Load {
    fn start(up: &Up, events_per_second: u64, seconds: u64) -> Load {
        Load::with(up, events_per_second, seconds, 1)
    }

    fn with(up: &Up, events_per_second: u64, seconds: u64, events_per_request: u64) -> Load {
        let mut command = snowmelt(["send", "--json", "--connections", "16"]);
        command
            .args(["--rate", &events_per_second.to_string()])
            .args(["--duration", &format!("{seconds}s")])
            .args(["--events-per-request", &events_per_request.to_string()])
            .arg(format!("http://{}", up.collector));
        Load(command.stdout(Stdio::piped()).spawn().unwrap())
    }

    /// Waits for its end; its report.
    fn end(self) -> Value {
        let output = self.0.wait_with_output().unwrap();
        assert!(output.status.success());
        serde_json::from_slice(&output.stdout).unwrap()
    }
}
