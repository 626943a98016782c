//! A collector in a process of its own whose sink is a file that is there or not: what `kill -9` in the middle of an
//! outage leaves, and what SIGTERM under load delivers.
//!
//! The process is this test binary once more: each test begins by looking whether it is meant to be that process.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must panic")]

mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use collector::Config;
use collector::config::{Ack, BackoffPolicy, Buffer, Durability, SinkConfig};
use collector::server::{Drained, Ports, start_with};
use collector::sink::{Answer, Destination, Entry, Failure, Limits, Refused, Sink};
use rustix::process::{Pid, Signal, kill_process};
use stream::disk::Disk;
use support::{FixedClock, loopback};
use tokio::signal::unix::{SignalKind, signal};

/// Tells the process where its files are, and that it is one.
const DIR: &str = "COLLECTOR_TEST_DIR";
const ACK: &str = "COLLECTOR_TEST_ACK";
/// A machine that is busy may take its time.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than any test: a process whose test is gone ends by itself.
const LIFE: Duration = Duration::from_secs(300);

/// A sink that writes the number of each event to a file, as long as the file `here` is there. Every third attempt
/// fails all the same, as with real ones now and then.
#[derive(Debug)]
struct FileSink {
    name: &'static str,
    dir: PathBuf,
    attempts: AtomicUsize,
}

impl FileSink {
    fn is_here(&self) -> Result<(), Failure> {
        match self.dir.join("here").exists() {
            true => Ok(()),
            false => Err(Failure("the sink is away".to_owned())),
        }
    }

    fn append(&self, batch: &[Entry]) -> Result<Vec<Refused>, Failure> {
        self.is_here()?;
        if self.attempts.fetch_add(1, Ordering::SeqCst).is_multiple_of(3) {
            return Err(Failure("not this time".to_owned()));
        }
        let mut lines = String::new();
        for entry in batch {
            let text = String::from_utf8_lossy(&entry.bytes);
            let begin = text.find("eid=number-").unwrap() + "eid=number-".len();
            lines.push_str(&text[begin..begin + 6]);
            lines.push('\n');
        }
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.join(self.name))
            .map_err(|error| Failure(error.to_string()))?;
        file.write_all(lines.as_bytes()).map_err(|error| Failure(error.to_string()))?;
        Ok(Vec::new())
    }
}

impl Sink for FileSink {
    fn name(&self) -> &str {
        self.name
    }

    fn limits(&self) -> Limits {
        Limits { record_bytes_max: 1 << 20, batch_records_max: 500, batch_bytes_max: 5 << 20 }
    }

    fn send<'a>(&'a self, batch: &'a [Entry]) -> Answer<'a, Vec<Refused>> {
        Box::pin(std::future::ready(self.append(batch)))
    }

    fn probe(&self) -> Answer<'_, ()> {
        Box::pin(std::future::ready(self.is_here()))
    }
}

/// With a sink that stays away the end comes after `drain_deadline`, and not before.
fn config(ack: Ack, drain_deadline: Duration) -> Config {
    let moment = Duration::from_millis(10);
    let sink = SinkConfig {
        buffer: Buffer { time_limit: moment, ..Buffer::default() },
        backoff_policy: BackoffPolicy {
            min_backoff: moment,
            max_backoff: Duration::from_millis(50),
            max_retries: 2,
            ..BackoffPolicy::default()
        },
        startup_check_interval: moment,
        ..SinkConfig::default()
    };
    let mut config = Config { threads: 2, ..loopback() };
    config.durability = Durability { ack, ..Durability::default() };
    (config.streams.good, config.streams.bad) = (sink.clone(), sink);
    config.networking.max_record_size = 4000;
    config.pre_termination_period = Duration::from_millis(300);
    config.drain_deadline = drain_deadline;
    config
}

/// Is the process until SIGTERM, if this is it. Says where it listens in the file `address`, and how it ended in `ended`.
fn is_the_process() -> bool {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else { return false };
    let ack = match std::env::var(ACK).unwrap().as_str() {
        "spool" => Ack::Spool,
        "buffer" => Ack::Buffer,
        other => panic!("{other}"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut terminate = {
        let _entered = runtime.enter();
        signal(SignalKind::terminate()).unwrap()
    };
    let sink = |name| {
        let sink = FileSink { name, dir: dir.clone(), attempts: AtomicUsize::new(0) };
        Destination::Sink(Arc::new(sink))
    };
    let ports = Ports {
        good: sink("good"),
        bad: Some(sink("bad")),
        clock: Arc::new(FixedClock),
        files: Arc::new(Disk),
        data_dir: dir.to_owned(),
        disk_reserve_bytes: Some(0),
    };
    let deadline = Duration::from_secs(if dir.join("here").exists() { 30 } else { 1 });
    let running = start_with(config(ack, deadline), ports).unwrap();
    write_whole(&dir.join("address"), &running.address.to_string());
    runtime.block_on(async { tokio::time::timeout(LIFE, terminate.recv()).await }).unwrap();
    let Drained { connections_cut, records_left } = running.shutdown();
    write_whole(&dir.join("ended"), &format!("{connections_cut} {records_left}"));
    true
}

/// Nobody sees half of it.
fn write_whole(file: &Path, text: &str) {
    let beside = file.with_extension("tmp");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(beside, file).unwrap();
}

/// The process, and what is in its folder. Dropping it kills it.
struct Process {
    child: Child,
    address: SocketAddr,
    dir: PathBuf,
}

impl Process {
    /// `test` is the name of the test that calls this.
    fn start(test: &str, dir: &Path, ack: &str) -> Process {
        for left in ["address", "ended"] {
            let _ = std::fs::remove_file(dir.join(left));
        }
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture"]).env(DIR, dir).env(ACK, ack);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let address = "0.0.0.0:0".parse().unwrap();
        let mut process = Process { child, address, dir: dir.to_owned() };
        until("the process listens", || {
            assert!(process.child.try_wait().unwrap().is_none(), "it did not start");
            dir.join("address").exists()
        });
        process.address = std::fs::read_to_string(dir.join("address")).unwrap().parse().unwrap();
        process
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        assert!(!self.child.wait().unwrap().success());
    }

    fn ask_to_end(&self) {
        let id = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(id, Signal::TERM).unwrap();
    }

    /// Waits for its end: the status, connections cut, records left.
    fn ended(mut self) -> (ExitStatus, String) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        (status, std::fs::read_to_string(self.dir.join("ended")).unwrap())
    }

    fn status(&self, path: &str) -> Option<u16> {
        get(self.address, path)
    }

    /// Four clients send events with numbers from `first` on until the process answers no more. What each heard 200
    /// for: events, and events that are too large for a record.
    fn load(&self, first: usize, over: &Arc<Load>) -> Vec<std::thread::JoinHandle<Sent>> {
        let address = self.address;
        (0..4)
            .map(|client| {
                let over = Arc::clone(over);
                std::thread::spawn(move || {
                    let mut sent = Sent::default();
                    for turn in 0..10_000 {
                        let number = first + turn * 4 + client;
                        let is_large = turn % 5 == 4;
                        let padding = if is_large { "x".repeat(6000) } else { String::new() };
                        let is_ending = over.ending.load(Ordering::SeqCst);
                        match get(address, &format!("/i?eid=number-{number:06}.{padding}")) {
                            Some(200) if is_large => _ = sent.large.insert(number),
                            Some(200) => _ = sent.events.insert(number),
                            Some(status) => panic!("status {status}"),
                            None => break,
                        }
                        over.accepted.fetch_add(1, Ordering::SeqCst);
                        sent.late += usize::from(is_ending);
                    }
                    sent
                })
            })
            .collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What clients and test tell each other.
#[derive(Default)]
struct Load {
    accepted: AtomicUsize,
    ending: AtomicBool,
}

#[derive(Debug, Default)]
struct Sent {
    events: BTreeSet<usize>,
    large: BTreeSet<usize>,
    /// Answered 200 after the process was asked to end.
    late: usize,
}

impl Sent {
    fn of(clients: Vec<std::thread::JoinHandle<Sent>>) -> Sent {
        let mut all = Sent::default();
        for client in clients {
            let one = client.join().unwrap();
            all.events.extend(one.events);
            all.large.extend(one.large);
            all.late += one.late;
        }
        all
    }
}

/// The status of a request on a connection of its own; `None` when there is no whole answer.
fn get(address: SocketAddr, path: &str) -> Option<u16> {
    let mut socket = TcpStream::connect(address).ok()?;
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    // A process that is killed ends its connections with a reset.
    let _ = socket.read_to_end(&mut answer);
    let answer = answer.strip_prefix(b"HTTP/1.1 ")?;
    str::from_utf8(answer.get(..3)?).unwrap().parse().ok()
}

/// The numbers that arrived at a sink, each as often as it did.
fn arrived(dir: &Path, sink: &str) -> Vec<usize> {
    let text = std::fs::read_to_string(dir.join(sink)).unwrap_or_default();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

fn until(what: &str, mut so: impl FnMut() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < patience, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn come_back(dir: &Path) {
    std::fs::write(dir.join("here"), "").unwrap();
}

#[test]
fn acceptance_8_a_kill_in_the_middle_of_an_outage_loses_no_event() {
    if is_the_process() {
        return;
    }
    let test = "acceptance_8_a_kill_in_the_middle_of_an_outage_loses_no_event";
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let (mut events, mut large) = (BTreeSet::new(), BTreeSet::new());
    for round in 0..3 {
        let process = Process::start(test, dir, "spool");
        assert_eq!(process.status("/health"), Some(200));
        assert_eq!(process.status("/sink-health"), Some(503));
        let load = Arc::default();
        let clients = process.load(round * 100_000, &load);
        until("there is load", || load.accepted.load(Ordering::SeqCst) >= 150);
        if round < 2 {
            process.kill();
        } else {
            // The last of the outage ends in order, and says how much it leaves.
            process.ask_to_end();
            let (status, ended) = process.ended();
            assert!(status.success());
            let left: usize = ended.strip_prefix("0 ").unwrap().parse().unwrap();
            assert!(left >= events.len() + large.len() + 150, "{ended}");
        }
        let sent = Sent::of(clients);
        events.extend(sent.events);
        large.extend(sent.large);
        assert!(arrived(dir, "good").is_empty());
    }
    let process = Process::start(test, dir, "spool");
    assert_eq!(process.status("/sink-health"), Some(503));
    come_back(dir);
    let all_there = || {
        let good: BTreeSet<usize> = arrived(dir, "good").into_iter().collect();
        let bad: BTreeSet<usize> = arrived(dir, "bad").into_iter().collect();
        good.is_superset(&events) && bad.is_superset(&large)
    };
    until("all of it is delivered", all_there);
    until("the sink is healthy", || process.status("/sink-health") == Some(200));
    process.ask_to_end();
    let (status, ended) = process.ended();
    assert!(status.success());
    assert_eq!(ended, "0 0");
    let all = arrived(dir, "good");
    let distinct: BTreeSet<usize> = all.iter().copied().collect();
    // Clients that were cut off do not know what became of their last request, four of them in each round.
    assert!(distinct.len() <= events.len() + 3 * 4, "{} of {}", distinct.len(), events.len());
    assert_eq!(all.len(), distinct.len(), "nothing was sent before, so nothing comes twice");
    eprintln!("{} events and {} bad rows after two kills and a SIGTERM", events.len(), large.len());
}

#[test]
fn acceptance_10_sigterm_under_load_delivers_what_was_accepted_good_and_bad() {
    if is_the_process() {
        return;
    }
    let test = "acceptance_10_sigterm_under_load_delivers_what_was_accepted_good_and_bad";
    for ack in ["spool", "buffer"] {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        come_back(dir);
        let process = Process::start(test, dir, ack);
        let load = Arc::new(Load::default());
        let clients = process.load(0, &load);
        until("there is load", || load.accepted.load(Ordering::SeqCst) >= 500);
        let asked = Instant::now();
        load.ending.store(true, Ordering::SeqCst);
        process.ask_to_end();
        let (status, ended) = process.ended();
        let took = asked.elapsed();
        let sent = Sent::of(clients);
        assert!(status.success());
        assert_eq!(ended, "0 0", "{ack}");
        assert!(took >= Duration::from_millis(300), "{took:?}");
        assert!(sent.late > 0, "requests are taken during the period");
        for (sink, accepted) in [("good", sent.events), ("bad", sent.large)] {
            let arrived = arrived(dir, sink);
            let distinct: BTreeSet<usize> = arrived.iter().copied().collect();
            assert_eq!(arrived.len(), distinct.len(), "{ack}, {sink}: something came twice");
            let lost = accepted.difference(&distinct).count();
            assert_eq!(lost, 0, "{ack}, {sink}: lost of {}", accepted.len());
            // Every client has finished its last request: nothing was cut.
            assert_eq!(distinct.len(), accepted.len(), "{ack}, {sink}");
        }
        eprintln!("{ack}: ended after {took:?}");
    }
}
