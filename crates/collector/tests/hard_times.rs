//! The collector on the embedded log when the world is slow or confused: a disk whose fsync takes long, a clock that
//! jumps. Memory stays bounded, what cannot wait is answered 503, and what was answered 200 is there, once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must panic")]

mod support;

use collector::counters::Reason;
use collector::server::start;
use model::payload::CollectorPayload;
use model::position::Offset;
use model::time::{Clock, Timestamp};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use stream::Stream;
use stream::disk::Disk;
use stream::local::{Local, Options};
use support::slow_disk::{SlowDisk, resident_bytes, stored};
use support::{Client, FixedClock, NOW, loopback};

const BODY_BYTES: usize = 32 << 10;
const CLIENTS: usize = 48;
const REQUESTS: usize = 24;

/// What many clients at once were answered.
#[derive(Default)]
struct Rush {
    accepted: BTreeSet<String>,
    refused: usize,
    latencies: Vec<Duration>,
}

impl Rush {
    /// 99 of 100 answers came within this time.
    fn p99(&mut self) -> Duration {
        self.latencies.sort();
        self.latencies[self.latencies.len() * 99 / 100]
    }
}

fn rush(address: SocketAddr, name: &str) -> Rush {
    let padding = "x".repeat(BODY_BYTES);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (name, padding) = (name.to_owned(), padding.clone());
            std::thread::spawn(move || one_client(address, &format!("{name}-{client}"), &padding))
        })
        .collect();
    let mut all = Rush::default();
    for client in clients {
        let one = client.join().unwrap();
        all.accepted.extend(one.accepted);
        all.latencies.extend(one.latencies);
        all.refused += one.refused;
    }
    all
}

fn one_client(address: SocketAddr, name: &str, padding: &str) -> Rush {
    let mut rush = Rush::default();
    let mut connection = Client::new(address);
    for number in 0..REQUESTS {
        let id = format!("{name}-{number}");
        let body = format!("{id} {padding}");
        let head = format!("POST /com.acme/v1 HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len());
        let asked = Instant::now();
        connection.write(&[head.as_bytes(), body.as_bytes()].concat());
        let answer = connection.answer(false);
        rush.latencies.push(asked.elapsed());
        match answer.status {
            200 => _ = rush.accepted.insert(id),
            503 => {
                assert!(answer.header("Retry-After").is_some());
                rush.refused += 1;
            }
            status => panic!("status {status}"),
        }
        if answer.header("Connection") == Some("close") {
            connection = Client::new(address);
        }
    }
    rush
}

#[test]
fn on_a_slow_disk_memory_is_bounded_answers_come_later_or_are_503_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let disk = SlowDisk::default();
    let options = Options {
        queue_bytes_max: 256 << 10,
        batch_bytes_max: 128 << 10,
        disk_reserve_bytes: Some(0),
        ..Options::default()
    };
    let open = || {
        let files = Arc::new(disk.clone());
        Arc::new(Local::open(files, folder.path(), "raw", 2, options.clone()).unwrap())
    };
    let log = open();
    let config = collector::Config { threads: 2, ..loopback() };
    let running = start(config, log.clone(), Arc::new(FixedClock)).unwrap();

    let mut fast = rush(running.address, "fast");
    let before = resident_bytes();
    disk.sync_takes(100);
    let mut slow = rush(running.address, "slow");
    let grown = resident_bytes().saturating_sub(before);
    disk.sync_takes(0);
    let mut again = rush(running.address, "again");
    let (fast_p99, slow_p99, again_p99) = (fast.p99(), slow.p99(), again.p99());
    eprintln!(
        "p99 {fast_p99:?}, on the slow disk {slow_p99:?} with {} of {} answered 503, then {again_p99:?}; {grown} bytes more",
        slow.refused,
        CLIENTS * REQUESTS
    );
    assert!(slow_p99 > fast_p99 && slow_p99 >= Duration::from_millis(100));
    assert!(slow.refused > 0 && !slow.accepted.is_empty(), "{} refused", slow.refused);
    assert!(running.counters.rejected(Reason::Busy) >= slow.refused as u64);
    assert!(!again.accepted.is_empty());
    // More than twice as much was offered.
    assert!(grown < 16 << 20, "{grown} bytes more");

    running.shutdown();
    let accepted: BTreeSet<String> =
        [fast.accepted, slow.accepted, again.accepted].into_iter().flatten().collect();
    for log in [log, open()] {
        let stored = stored(&log);
        assert!(stored.values().all(|count| *count == 1), "something is stored twice");
        assert_eq!(stored.into_keys().collect::<BTreeSet<_>>(), accepted);
        log.close();
    }
}

/// Goes where it is told to.
#[derive(Debug)]
struct JumpingClock(AtomicI64);

impl Clock for JumpingClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

#[test]
fn when_the_clock_jumps_by_hours_requests_are_recorded_in_their_order_with_the_time_it_showed() {
    const HOUR: i64 = 3_600_000;
    let clock = Arc::new(JumpingClock(AtomicI64::new(NOW.0)));
    let folder = tempfile::tempdir().unwrap();
    let options = Options { disk_reserve_bytes: Some(0), ..Options::default() };
    let log = Arc::new(Local::open(Arc::new(Disk), folder.path(), "raw", 1, options).unwrap());
    let running = start(loopback(), log.clone(), clock.clone()).unwrap();
    let mut connection = Client::new(running.address);
    let jumps = [0, 5, -7, 30, -48, 1, 0, 24 * 365, -24 * 700];
    let mut shown = Vec::new();
    for (number, jump) in jumps.iter().enumerate() {
        shown.push(clock.0.fetch_add(jump * HOUR, Ordering::SeqCst) + jump * HOUR);
        connection.write(format!("GET /i?n={number} HTTP/1.1\r\n\r\n").as_bytes());
        let answer = connection.answer(false);
        assert_eq!(answer.status, 200);
        assert!(answer.header("Set-Cookie").unwrap().contains("Expires="));
    }
    running.shutdown();
    let chunk = log.read(&log.partitions()[0], Offset::BEGINNING, usize::MAX).unwrap();
    for ((number, record), shown) in chunk.records.iter().enumerate().zip(&shown) {
        let payload = CollectorPayload::decode(&record.bytes).unwrap();
        assert_eq!(payload.querystring, Some(format!("n={number}")));
        assert_eq!(payload.timestamp, *shown);
    }
    assert_eq!(chunk.records.len(), jumps.len());
}
