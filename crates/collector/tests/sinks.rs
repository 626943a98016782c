//! A collector over HTTP whose sinks follow a script: what trackers hear in each ack mode, what survives an outage and a
//! kill, and that what was accepted is delivered when the process ends. The delays of retries are tested on a clock of
//! their own, beside the delivery.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must panic")]

mod support;

use bytes::Bytes;
use collector::Config;
use collector::config::{Ack, BackoffPolicy, Buffer, Durability, OnFull, SinkConfig, SpoolConfig};
use collector::server::{Ports, Running, start_with};
use collector::sink::Destination;
use collector::sink::scripted::{Reply, Scripted};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use stream::disk::Disk;
use support::{Answer, Client, FixedClock, loopback};
use tempfile::TempDir;

const MOMENT: Duration = Duration::from_millis(10);

fn config(ack: Ack) -> Config {
    let sink = SinkConfig {
        buffer: Buffer { time_limit: MOMENT, ..Buffer::default() },
        backoff_policy: BackoffPolicy {
            min_backoff: MOMENT,
            max_backoff: Duration::from_millis(50),
            max_retries: 2,
            ..BackoffPolicy::default()
        },
        startup_check_interval: MOMENT,
        ..SinkConfig::default()
    };
    let mut config = loopback();
    config.durability = Durability { ack, ..Durability::default() };
    (config.streams.good, config.streams.bad) = (sink.clone(), sink);
    config.drain_deadline = Duration::from_secs(60);
    config
}

struct Setup {
    running: Running,
    bad: Scripted,
    data_dir: PathBuf,
}

fn start(config: Config, good: &Scripted, data_dir: &Path) -> Setup {
    let bad = Scripted::new("bad");
    let ports = Ports {
        good: Destination::Sink(Arc::new(good.clone())),
        bad: Some(Destination::Sink(Arc::new(bad.clone()))),
        clock: Arc::new(FixedClock),
        files: Arc::new(Disk),
        data_dir: data_dir.to_owned(),
        disk_reserve_bytes: Some(0),
    };
    let running = start_with(config, ports).unwrap();
    Setup { running, bad, data_dir: data_dir.to_owned() }
}

impl Setup {
    fn get(&self, path: &str) -> Answer {
        let mut client = Client::new(self.running.address);
        client.write(format!("GET {path} HTTP/1.1\r\nHost: c\r\n\r\n").as_bytes());
        client.answer(false)
    }

    /// One event with this number in it; its status.
    fn event(&self, number: usize) -> u16 {
        self.get(&format!("/i?e=pv&eid=number-{number:06}.")).status
    }
}

/// The numbers of the events among these records.
fn numbers(records: &[Bytes]) -> BTreeSet<usize> {
    let number = |record: &Bytes| {
        let text = String::from_utf8_lossy(record);
        let at = text.find("eid=number-").unwrap() + "eid=number-".len();
        text[at..at + 6].parse().unwrap()
    };
    records.iter().map(number).collect()
}

/// Looks again and again until it is so; a machine that is busy may take its time.
fn until(what: &str, so: impl Fn() -> bool) {
    let patience = Instant::now() + Duration::from_secs(30);
    while !so() {
        assert!(Instant::now() < patience, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn events_taken_while_the_stream_is_missing_are_delivered_when_it_is_there_and_after_a_kill() {
    let dir = TempDir::new().unwrap();
    let good = Scripted::missing("good");
    let setup = start(config(Ack::Spool), &good, &dir.path().join("data"));
    assert_eq!(setup.get("/health").status, 200);
    assert_eq!(setup.get("/sink-health").status, 503);
    assert!((0..200).all(|number| setup.event(number) == 200));
    assert!(good.taken().is_empty());
    assert_eq!(setup.running.good.stats().spool_oldest(), Some(support::NOW));

    // What a kill at this moment leaves is what lies on the disk at this moment.
    let killed = dir.path().join("killed");
    copy(&setup.data_dir, &killed);
    let restarted = Scripted::new("good");
    let after = start(config(Ack::Spool), &restarted, &killed);
    until("all of it is sent after a restart", || restarted.taken().len() == 200);
    assert_eq!(numbers(&restarted.taken()), (0..200).collect());
    assert_eq!(after.running.shutdown().records_left, 0);

    good.recover();
    until("all of it is sent", || good.taken().len() == 200);
    assert_eq!(numbers(&good.taken()), (0..200).collect());
    assert_eq!(setup.get("/sink-health").status, 200);
    assert_eq!(setup.running.shutdown().records_left, 0);
    // What was confirmed is not sent again by the next start.
    let idle = Scripted::new("good");
    let again = start(config(Ack::Spool), &idle, &setup.data_dir);
    assert_eq!(again.event(777), 200);
    until("the new one is sent", || !idle.taken().is_empty());
    assert_eq!(numbers(&idle.taken()), [777].into());
}

#[test]
fn a_request_hears_200_after_the_sink_and_408_without_it() {
    let dir = TempDir::new().unwrap();
    let good = Scripted::new("good");
    let mut config = config(Ack::Sink);
    config.networking.response_header_timeout = Duration::from_secs(3);
    let setup = start(config, &good, dir.path());
    assert_eq!(setup.event(1), 200);
    assert_eq!(good.taken().len(), 1, "it is there before the answer");
    good.set(false, |_| Reply::Fail);
    assert_eq!(setup.event(2), 408);
    until("the sink is unhealthy", || setup.get("/sink-health").status == 503);
    good.recover();
    until("the sink is healthy", || setup.get("/sink-health").status == 200);
    assert_eq!(setup.event(3), 200);
    assert!(!dir.path().join("good").exists(), "there is no spool");
}

#[test]
fn shutting_down_under_load_delivers_what_was_accepted() {
    for ack in [Ack::Buffer, Ack::Spool, Ack::Sink] {
        let dir = TempDir::new().unwrap();
        let good = Scripted::new("good");
        // A sink that now and then does not answer, as real ones do.
        let mut attempts = 0;
        good.set(true, move |_| {
            attempts += 1;
            if attempts % 3 == 0 { Reply::Fail } else { Reply::Take }
        });
        let mut config = config(ack);
        config.threads = 2;
        config.pre_termination_period = Duration::from_millis(300);
        config.pre_termination_unhealthy = true;
        config.networking.max_record_size = 2000;
        let setup = start(config, &good, dir.path());
        let (address, ended) = (setup.running.address, Arc::new(AtomicBool::new(false)));
        let clients: Vec<_> = (0..4_usize)
            .map(|client| {
                let ended = Arc::clone(&ended);
                std::thread::spawn(move || {
                    let (mut accepted, mut late, mut unhealthy) = (BTreeSet::new(), 0, 0);
                    for turn in 0..100_000 {
                        let number = turn * 4 + client;
                        // The listener may close between any two requests.
                        let Ok(socket) = std::net::TcpStream::connect(address) else { break };
                        let is_ending = ended.load(Ordering::SeqCst);
                        let mut connection = Client::from(socket);
                        let path = match turn % 5 {
                            3 => format!("/i?too-large={}", "x".repeat(3000)),
                            4 => "/health".to_owned(),
                            _ => format!("/i?eid=number-{number:06}."),
                        };
                        connection
                            .write(format!("GET {path} HTTP/1.1\r\nHost: c\r\n\r\n").as_bytes());
                        match connection.try_answer(false).map(|answer| answer.status) {
                            Some(200) if path.starts_with("/i?eid") => {
                                accepted.insert(number);
                                late += usize::from(is_ending);
                            }
                            Some(503) if path == "/health" => unhealthy += 1,
                            Some(_) => {}
                            None => break,
                        }
                    }
                    (accepted, late, unhealthy)
                })
            })
            .collect();
        until("there is load", || setup.running.counters.accepted() > 100);
        let begun = Instant::now();
        ended.store(true, Ordering::SeqCst);
        let (counters, bad) = (Arc::clone(&setup.running.counters), setup.bad.clone());
        let drained = setup.running.shutdown();
        let took = begun.elapsed();
        let (mut accepted, mut late, mut unhealthy) = (BTreeSet::new(), 0, 0);
        for client in clients {
            let (numbers, late_here, unhealthy_here) = client.join().unwrap();
            accepted.extend(numbers);
            late += late_here;
            unhealthy += unhealthy_here;
        }
        assert_eq!((drained.connections_cut, drained.records_left), (0, 0), "{ack:?}");
        assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(55), "{took:?}");
        assert!(late > 0, "requests are taken during the period");
        assert!(unhealthy > 0, "and /health says that it ends");
        assert!(counters.bad_rows() > 0);
        assert_eq!(bad.taken().len() as u64, counters.bad_rows(), "{ack:?}");
        let delivered = numbers(&good.taken());
        assert!(
            delivered.is_superset(&accepted),
            "{ack:?}: {} lost",
            accepted.difference(&delivered).count()
        );
        let good_ones = counters.accepted() - counters.bad_rows();
        assert_eq!(delivered.len() as u64, good_ones, "{ack:?}");
    }
}

#[test]
fn what_is_left_at_the_deadline_is_counted_and_stays_in_the_spool() {
    let dir = TempDir::new().unwrap();
    for (ack, again) in [(Ack::Spool, 7), (Ack::Buffer, 0)] {
        let away = Scripted::missing("good");
        let data_dir = dir.path().join(format!("{ack:?}"));
        let soon = Config { drain_deadline: Duration::from_millis(500), ..config(ack) };
        let setup = start(soon, &away, &data_dir);
        assert!((0..7).all(|number| setup.event(number) == 200));
        let begun = Instant::now();
        assert_eq!(setup.running.shutdown().records_left, 7, "{ack:?}");
        assert!(begun.elapsed() >= Duration::from_millis(500));
        let back = Scripted::new("good");
        let setup = start(config(ack), &back, &data_dir);
        until("the next start sends it", || back.taken().len() >= again);
        assert_eq!(setup.running.shutdown().records_left, 0);
        assert_eq!(numbers(&back.taken()).len(), again, "{ack:?}");
    }
}

#[test]
fn a_restart_repeats_of_a_spool_only_what_was_not_confirmed() {
    let dir = TempDir::new().unwrap();
    let mut config = Config { drain_deadline: Duration::from_millis(500), ..config(Ack::Spool) };
    config.streams.good.buffer.record_limit = 1;
    config.streams.good.thread_pool_size = 1;
    // All of it is one chunk of the spool, of which the sink takes a part and then stands still.
    let slow = Scripted::new("good");
    let mut left = 20;
    slow.set(true, move |_| match left {
        0 => Reply::Hang,
        _ => {
            left -= 1;
            Reply::Take
        }
    });
    let setup = start(config.clone(), &slow, dir.path());
    assert!((0..50).all(|number| setup.event(number) == 200));
    until("a part is taken", || slow.taken().len() == 20);
    assert_eq!(setup.running.shutdown().records_left, 30);
    let back = Scripted::new("good");
    let setup = start(config, &back, dir.path());
    until("the rest is taken", || back.taken().len() >= 30);
    assert_eq!(setup.running.shutdown().records_left, 0);
    assert_eq!(numbers(&slow.taken()), (0..20).collect());
    assert_eq!((back.taken().len(), numbers(&back.taken())), (30, (20..50).collect()));
}

#[test]
fn a_full_spool_refuses_or_buffers_as_told() {
    let dir = TempDir::new().unwrap();
    for on_full in [OnFull::Reject, OnFull::Buffer] {
        let good = Scripted::missing("good");
        let mut config = config(Ack::Spool);
        config.durability.on_full = on_full;
        config.durability.spool =
            SpoolConfig { segment_bytes: 64 << 10, max_bytes: 256 << 10, dir: None };
        let setup = start(config, &good, &dir.path().join(format!("{on_full:?}")));
        let big = "x".repeat(10_000);
        let send = |number: usize| setup.get(&format!("/i?eid=number-{number:06}.&{big}"));
        let answers: Vec<Answer> = (0..60).map(send).collect();
        let accepted = answers.iter().filter(|answer| answer.status == 200).count();
        match on_full {
            OnFull::Reject => {
                assert!((5..60).contains(&accepted), "{accepted}");
                let last = answers.last().unwrap();
                assert_eq!(last.status, 503);
                assert!(
                    last.header("Retry-After").is_some() && last.header("Set-Cookie").is_none()
                );
                assert_eq!(last.header("Access-Control-Allow-Origin"), Some("*"));
            }
            OnFull::Buffer => assert_eq!(accepted, 60),
        }
        good.recover();
        until("all that was accepted is sent", || numbers(&good.taken()).len() == accepted);
        until("the disk is given back", || setup.running.good.stats().spool_bytes() < 200 << 10);
        assert_eq!(send(99).status, 200, "and there is room again");
    }
}

#[test]
fn a_buffer_is_bounded_and_refuses_beyond() {
    let dir = TempDir::new().unwrap();
    let good = Scripted::missing("good");
    let mut config = config(Ack::Buffer);
    config.memory.max_in_flight_bytes = 64 << 10;
    let setup = start(config, &good, dir.path());
    let big = "x".repeat(10_000);
    let send = |number: usize| setup.get(&format!("/i?eid=number-{number:06}.&{big}")).status;
    let statuses: Vec<u16> = (0..20).map(send).collect();
    let accepted = statuses.iter().filter(|&&status| status == 200).count();
    assert!((3..7).contains(&accepted), "{statuses:?}");
    assert!(statuses[accepted..].iter().all(|&status| status == 503), "{statuses:?}");
    assert!(setup.running.good.stats().held_bytes() <= 64 << 10);
    good.recover();
    until("what was accepted is sent", || good.taken().len() == accepted);
    until("there is room again", || send(20) == 200);
}
