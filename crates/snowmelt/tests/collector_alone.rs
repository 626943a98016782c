//! The collector as a process of its own: lines on stdout, its log for a later `up`, health and metrics, signs of life.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must panic")]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use common::{Up, body_of, event_id, snowmelt, stdout_of, wait_until};
use model::payload::CollectorPayload;
use serde_json::{Value, json};

/// For what comes within moments on a quiet machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process `snowmelt run collector`.
struct Alone {
    child: Child,
    collector: String,
    admin: String,
    stderr: BufReader<ChildStderr>,
}

impl Alone {
    fn start(data_dir: &Path, settings: &[&str]) -> (Alone, BufReader<ChildStdout>) {
        let mut command = snowmelt(["run", "collector", "--data-dir"]);
        command.arg(data_dir);
        let defaults = [
            "collector.bind=127.0.0.1",
            "collector.port=0",
            "admin.port=0",
            "stream.disk-reserve=0",
            "collector.streams.good.buffer.time-limit=5ms",
            "collector.streams.bad.buffer.time-limit=5ms",
        ];
        for setting in defaults.iter().chain(settings) {
            command.args(["--set", setting]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let ready = match settings.contains(&"collector.streams.sink=stdout") {
            true => line_beside_the_log(&mut stderr),
            false => line_of(&mut stdout),
        };
        let part = |name: &str| {
            let part = ready.split(' ').find_map(|it| it.strip_prefix(name)?.strip_prefix('='));
            part.unwrap_or_else(|| panic!("no `{name}` in `{ready}`")).to_owned()
        };
        assert!(ready.starts_with("ready "), "{ready}");
        (Alone { child, collector: part("collector"), admin: part("admin"), stderr }, stdout)
    }

    fn post(&self, body: &[u8]) -> u16 {
        let url = format!("http://{}/com.snowplowanalytics.snowplow/tp2", self.collector);
        let request = agent().post(url).header("Content-Type", "application/json");
        request.send(body).unwrap().status().as_u16()
    }

    fn get(&self, address: &str) -> (u16, String) {
        let mut answer = agent().get(format!("http://{address}")).call().unwrap();
        // A pixel is no text.
        let body = answer.body_mut().read_to_vec().unwrap();
        (answer.status().as_u16(), String::from_utf8_lossy(&body).into_owned())
    }

    fn terminate(mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // Fails when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).build().into()
}

/// The next line that is none of the log, whose lines begin with the time.
fn line_beside_the_log(out: &mut impl BufRead) -> String {
    std::iter::repeat_with(|| line_of(out)).find(|line| !line.starts_with("20")).unwrap()
}

fn line_of(out: &mut impl BufRead) -> String {
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    line.strip_suffix('\n').unwrap().to_owned()
}

#[test]
fn records_are_lines_on_stdout_and_bad_rows_on_stderr() {
    let folder = tempfile::tempdir().unwrap();
    let (mut alone, mut stdout) = Alone::start(
        folder.path(),
        &["collector.streams.sink=stdout", "collector.networking.max-record-size=20000"],
    );
    let (status, health) = alone.get(&format!("{}/health", alone.admin));
    assert_eq!(status, 200, "{health}");
    assert_eq!(alone.get(&format!("{}/sink-health", alone.collector)).0, 200);
    assert_eq!(alone.get(&format!("{}/i?e=pv&p=web", alone.collector)).0, 200);
    let line = line_of(&mut stdout);
    assert!(!line.contains('='), "{line}");
    let payload = CollectorPayload::decode(&STANDARD_NO_PAD.decode(&line).unwrap()).unwrap();
    assert_eq!(payload.querystring.as_deref(), Some("e=pv&p=web"));
    assert_eq!(payload.collector, concat!("snowmelt-", env!("CARGO_PKG_VERSION"), "-stdout"));

    assert_eq!(alone.post(&vec![b'x'; 30_000]), 200);
    let row = STANDARD_NO_PAD.decode(line_beside_the_log(&mut alone.stderr)).unwrap();
    let row: Value = serde_json::from_slice(&row).unwrap();
    assert!(row["schema"].as_str().unwrap().contains("/size_violation/"), "{row}");

    let (_, metrics) = alone.get(&format!("{}/metrics", alone.admin));
    for line in [
        "snowmelt_collector_accepted_total 2",
        "snowmelt_collector_bad_rows_total 1",
        r#"snowmelt_sink_delivered_total{sink="stdout"} 1"#,
        r#"snowmelt_sink_delivered_total{sink="stderr"} 1"#,
        r#"snowmelt_check_failing{check="sink"} 0"#,
    ] {
        assert!(metrics.lines().any(|it| it == line), "no `{line}` in\n{metrics}");
    }
    assert_eq!(alone.get(&format!("{}/api/v1/status", alone.admin)).0, 404);
    assert!(!folder.path().join("streams").exists(), "nothing is stored");
    assert!(alone.terminate().success());
}

#[test]
fn what_it_prints_is_what_enrich_reads() {
    let folder = tempfile::tempdir().unwrap();
    let (mut alone, stdout) = Alone::start(folder.path(), &["collector.streams.sink=stdout"]);
    let mut enrich = snowmelt(["enrich"])
        .stdin(Stdio::from(stdout.into_inner()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut enriched = BufReader::new(enrich.stdout.take().unwrap());
    for number in 0..3 {
        let id = event_id(number);
        assert_eq!(alone.post(body_of(&[&id]).to_string().as_bytes()), 200);
        // It is there before the pipe ends.
        let line: Value = serde_json::from_str(&line_of(&mut enriched)).unwrap();
        assert_eq!(line["position"]["offset"].as_str().unwrap().parse(), Ok(number), "{line}");
        assert!(line["good"][0].as_str().unwrap().contains(&id), "{line}");
    }
    alone.child.kill().unwrap();
    assert!(enrich.wait().unwrap().success());
}

#[test]
fn while_nobody_reads_nobody_hears_200_and_then_each_record_is_there_once() {
    let folder = tempfile::tempdir().unwrap();
    let (alone, mut stdout) = Alone::start(
        folder.path(),
        &["collector.streams.sink=stdout", "collector.networking.response-header-timeout=1s"],
    );
    // More than a pipe holds.
    let pad = "x".repeat(40_000);
    let send = |number: usize| {
        let body = json!({"number": number, "pad": pad});
        alone.post(body.to_string().as_bytes())
    };
    let answers: Vec<u16> = (0..4).map(send).collect();
    assert_eq!(answers[0], 200);
    assert_eq!(answers[1..], [408; 3]);
    wait_until("the sink is not healthy", || {
        alone.get(&format!("{}/sink-health", alone.collector)).0 == 503
    });
    let (status, health) = alone.get(&format!("{}/health", alone.admin));
    assert_eq!((status, health.contains("`stdout` takes no records")), (503, true), "{health}");
    // What was given up by the clients is printed all the same, and nothing twice.
    let read = |line: String| {
        let bytes = STANDARD_NO_PAD.decode(line).unwrap();
        let payload = CollectorPayload::decode(&bytes).unwrap();
        let body: Value = serde_json::from_str(&payload.body.unwrap()).unwrap();
        body["number"].as_u64().unwrap()
    };
    let mut numbers: Vec<u64> = (0..4).map(|_| read(line_of(&mut stdout))).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2, 3]);
    wait_until("the sink is healthy", || {
        alone.get(&format!("{}/sink-health", alone.collector)).0 == 200
    });
    assert_eq!(send(4), 200);
    assert_eq!(read(line_of(&mut stdout)), 4);
    assert!(alone.terminate().success());
    assert_eq!(stdout.lines().count(), 0);
}

#[test]
fn bad_rows_and_log_lines_that_nobody_reads_hold_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (alone, mut stdout) = Alone::start(
        folder.path(),
        &[
            "collector.streams.sink=stdout",
            "collector.networking.max-record-size=100000",
            "collector.networking.drop-payload-size=300000",
            "collector.networking.response-header-timeout=1s",
            "collector.drain-deadline=1s",
        ],
    );
    // Bad rows of 10 kB fill the pipe of stderr, and each body that is too large is a line of the log.
    let oversized = vec![b'x'; 200_000];
    let answers: Vec<u16> = (0..12).map(|_| alone.post(&oversized)).collect();
    assert!(answers.contains(&408), "{answers:?}");
    assert_eq!(alone.post(&vec![b'x'; 300_000]), 413);
    assert_eq!(alone.get(&format!("{}/i?e=pv", alone.collector)).0, 200);
    assert!(line_of(&mut stdout).len() > 20);
    assert_eq!(alone.get(&format!("{}/health", alone.collector)).0, 200);
    let begun = Instant::now();
    assert!(!alone.terminate().success(), "bad rows are left");
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
}

#[test]
fn records_bad_rows_and_the_log_share_a_pipe_line_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = snowmelt(["-v", "run", "collector", "--data-dir"]);
    command.arg(folder.path());
    for setting in [
        "collector.bind=127.0.0.1",
        "collector.port=0",
        "admin.port=0",
        "stream.disk-reserve=0",
        "collector.streams.sink=stdout",
        "collector.streams.good.buffer.time-limit=1ms",
        "collector.streams.bad.buffer.time-limit=1ms",
        "collector.networking.max-record-size=100000",
        "collector.networking.drop-payload-size=300000",
    ] {
        command.args(["--set", setting]);
    }
    command.stdin(Stdio::null()).stdout(writer.try_clone().unwrap()).stderr(writer);
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut out = BufReader::new(reader);
    let ready = std::iter::repeat_with(|| line_of(&mut out)).find(|it| it.starts_with("ready "));
    let ready = ready.unwrap();
    let collector = ready.split(['=', ' ']).nth(2).unwrap();
    let url = format!("http://{collector}/com.acme/track");
    let read = std::thread::spawn(move || out.lines().map(Result::unwrap).collect::<Vec<_>>());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                // A record, a bad row, and a refusal that the log may tell.
                for length in [50_000, 200_000, 300_000].repeat(8) {
                    agent().post(&url).send(&vec![b'x'; length][..]).unwrap();
                }
            });
        }
    });
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    let (mut good, mut bad) = (0, 0);
    for line in read.join().unwrap().iter().filter(|line| !line.starts_with("20")) {
        let bytes = STANDARD_NO_PAD.decode(line).unwrap_or_else(|_| panic!("cut: {line:.200}"));
        match CollectorPayload::decode(&bytes) {
            Ok(payload) => good += usize::from(payload.body.unwrap().len() == 50_000),
            Err(_) => bad += usize::from(serde_json::from_slice::<Value>(&bytes).is_ok()),
        }
    }
    assert_eq!((good, bad), (32, 32));
}

#[test]
fn it_ends_when_its_reader_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let (mut alone, stdout) = Alone::start(folder.path(), &["collector.streams.sink=stdout"]);
    drop(stdout);
    // At once, and not by a time-out.
    assert_eq!(alone.get(&format!("{}/i?e=pv", alone.collector)).0, 503);
    let begun = Instant::now();
    assert!(!alone.child.wait().unwrap().success());
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    let said: Vec<String> = Read::by_ref(&mut alone.stderr).lines().map_while(Result::ok).collect();
    assert!(said.iter().any(|line| line.contains("nobody reads")), "{said:?}");
}

#[test]
fn a_spool_is_of_one_sink_and_is_not_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let stdout_sink = "collector.streams.sink=stdout";
    let spool = "collector.durability.ack=spool";
    let (alone, stdout) =
        Alone::start(folder.path(), &[stdout_sink, spool, "collector.drain-deadline=1s"]);
    // The pipe is full, and the rest is in the spool.
    let body = vec![b'x'; 200_000];
    for _ in 0..3 {
        assert_eq!(alone.post(&body), 200);
    }
    assert!(!alone.terminate().success());
    drop(stdout);

    // Not for the log, and not for nothing.
    let up = Up::start(folder.path(), &[spool]);
    assert_eq!(up.rows(), 0);
    let told = up.stderr();
    assert!(told.contains("spool/good-stdout") && told.contains("3 requests"), "{told}");
    up.terminate();
    let (alone, mut stdout) = Alone::start(folder.path(), &[stdout_sink, spool]);
    for _ in 0..3 {
        assert!(line_of(&mut stdout).len() > body.len());
    }
    assert!(alone.terminate().success());
}

#[test]
fn what_it_appends_to_the_log_is_there_for_the_other_roles() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path();
    let ids: Vec<String> = (0..20).map(event_id).collect();
    let send = |ids: &[String]| {
        let (alone, _) = Alone::start(data_dir, &[]);
        for id in ids {
            assert_eq!(alone.post(body_of(&[id]).to_string().as_bytes()), 200);
        }
        let (_, metrics) = alone.get(&format!("{}/metrics", alone.admin));
        assert!(metrics.contains(r#"snowmelt_log_poisoned{partition="raw/0"} 0"#), "{metrics}");
        assert!(alone.terminate().success());
    };
    send(&ids[..10]);
    let up = Up::start(data_dir, &[]);
    assert_eq!(up.rows(), 10);
    up.batch_run();
    assert!(up.terminate().success());
    // Behind the cut, and no position is given twice.
    send(&ids[10..]);
    let up = Up::start(data_dir, &[]);
    let found = up.sql("SELECT DISTINCT event_id FROM atomic.events ORDER BY event_id");
    let found: Vec<&str> = found.iter().map(|row| row[0].as_str().unwrap()).collect();
    assert_eq!(found, ids);
    assert_eq!(up.rows(), 20);
}

#[test]
fn what_the_other_roles_need_is_not_taken_from_them() {
    let folder = tempfile::tempdir().unwrap();
    for (setting, key) in [
        ("collector.streams.sink=stdout", "`snowmelt run collector`"),
        ("admin.port=0", "`admin.port`"),
    ] {
        let not_up = Up::try_start(folder.path(), &[setting]).err().unwrap();
        assert!(not_up.stderr.contains(key), "{}", not_up.stderr);
    }
    let output = snowmelt(["run", "collector,enricher"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && stderr.contains("possible values: collector"), "{stderr}");
    assert!(stdout_of(["run", "--help"]).contains("snowmelt up"));
}

#[test]
fn a_sign_of_life_is_sent_each_interval_and_none_when_it_is_switched_off() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(&folder.path().join("listener"), &[]);
    let (host, port) = up.collector.split_once(':').unwrap();
    let (url, port) =
        (format!("collector.telemetry.url={host}"), format!("collector.telemetry.port={port}"));
    let beating = |name: &str, method: &str, disable: &str| {
        let settings = [
            &url,
            &port,
            "collector.telemetry.secure=false",
            "collector.telemetry.interval=200ms",
            &format!("collector.telemetry.disable={disable}"),
            &format!("collector.telemetry.method={method}"),
            &format!("collector.telemetry.user-provided-id={name}"),
        ];
        Alone::start(&folder.path().join(name), &settings)
    };
    let begun = Instant::now();
    let _alone = [
        beating("post", "POST", "false"),
        beating("get", "GET", "false"),
        beating("off", "POST", "true"),
    ];
    let told = "unstruct_event_com_snowplowanalytics_oss_oss_context_1";
    let beats = |name: &str| {
        up.number(&format!(
            "SELECT count(*) FROM atomic.events WHERE event_name = 'oss_context' AND unstruct_event LIKE '%\"{name}\"%'"
        ))
    };
    for name in ["post", "get"] {
        while beats(name) < 3 {
            assert!(begun.elapsed() < PATIENCE, "{name}: {} of 3 were heard", beats(name));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let most = begun.elapsed().as_millis() as u64 / 200;
    assert!(beats("post") <= most + 1, "{} in {:?}", beats("post"), begun.elapsed());
    assert_eq!(beats("off"), 0);
    assert_eq!(up.number("SELECT count(*) FROM atomic.bad_rows"), 0);
    let shown = up.sql(&format!(
        "SELECT DISTINCT app_id, platform, {told}['application_version'] FROM atomic.events ORDER BY 1"
    ));
    assert_eq!(shown, [["snowmelt", "srv", env!("CARGO_PKG_VERSION")].map(Value::from).to_vec()]);
    // One id for each start of a process.
    let ids =
        up.number(&format!("SELECT count(DISTINCT {told}['app_generated_id']) FROM atomic.events"));
    assert_eq!(ids, 2);
}

#[test]
fn what_stands_in_the_way_of_a_start_is_named_before_anything_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let refused = |data_dir: &Path, settings: &[&str]| {
        let mut command = snowmelt(["run", "collector", "--data-dir"]);
        command.arg(data_dir);
        let free = ["collector.bind=127.0.0.1", "collector.port=0", "admin.port=0"];
        for setting in free.iter().chain(settings) {
            command.args(["--set", setting]);
        }
        let output = command.output().unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    for sink in ["collector.streams.sink=log", "collector.streams.sink=stdout"] {
        for key in ["admin.port", "collector.port"] {
            let stderr = refused(folder.path(), &[sink, &format!("{key}={port}")]);
            assert!(stderr.contains(key) && stderr.contains(&port.to_string()), "{sink}: {stderr}");
        }
    }
    let up = Up::start(folder.path(), &[]);
    let stderr = refused(folder.path(), &[]);
    assert!(stderr.contains("in use by another snowmelt process"), "{stderr}");
    drop(up);
    let stderr = refused(folder.path(), &["server.bind=0.0.0.0"]);
    assert!(stderr.contains("password"), "{stderr}");
}
