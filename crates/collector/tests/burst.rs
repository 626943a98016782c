//! Ten times the load on a slow disk: more than it can take for as long as it lasts. Nothing that was answered 200 is
//! lost, nothing else is heard but 503 with `Retry-After`, health checks are answered all the while, and when the burst
//! is over the same process goes on as before. `BURST_SECONDS` makes it longer.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must panic")]

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use collector::config::Health;
use collector::counters::Reason;
use collector::server::start;
use stream::local::{Local, Options};
use support::slow_disk::{SlowDisk, resident_bytes, stored};
use support::{Client, FixedClock, loopback};

const BODY_BYTES: usize = 8 << 10;
/// Each has a request under way at most, so that there must be more than the log's queues hold.
const CLIENTS: usize = 128;
/// All clients together, in a second. The disk below takes about 160: 64 KiB at a time in each of two partitions, ten
/// times a second.
const CALM_REQUESTS: u32 = 60;
const BURST_REQUESTS: u32 = 10 * CALM_REQUESTS;
const SYNC_MS: u64 = 100;

/// What was heard of the requests of one stretch of time.
#[derive(Default)]
struct Heard {
    accepted: BTreeSet<String>,
    refused: usize,
    /// Requests that were due but not sent, because the client still waited for the answer to an earlier one.
    late: usize,
}

/// Sends so many requests a second for so long, from [`CLIENTS`] connections.
fn load(address: SocketAddr, name: &str, per_second: u32, lasts: Duration) -> Heard {
    let begun = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let name = format!("{name}-{client}");
            let every = Duration::from_secs(CLIENTS as u64) / per_second;
            // Spread evenly: a client begins in its turn.
            let first = begun + every * client as u32 / CLIENTS as u32;
            std::thread::spawn(move || one_client(address, &name, first, every, begun + lasts))
        })
        .collect();
    let mut all = Heard::default();
    for client in clients {
        let one = client.join().unwrap();
        all.accepted.extend(one.accepted);
        all.refused += one.refused;
        all.late += one.late;
    }
    all
}

fn one_client(
    address: SocketAddr,
    name: &str,
    first: Instant,
    every: Duration,
    until: Instant,
) -> Heard {
    let mut heard = Heard::default();
    let mut connection = Client::new(address);
    let padding = "x".repeat(BODY_BYTES);
    for number in 0.. {
        let due = first + every * number;
        if due >= until {
            break;
        }
        match due.checked_duration_since(Instant::now()) {
            Some(wait) => std::thread::sleep(wait),
            None if due + every < Instant::now() => {
                heard.late += 1;
                continue;
            }
            None => {}
        }
        let id = format!("{name}-{number}");
        let body = format!("{id} {padding}");
        let head = format!("POST /com.acme/v1 HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len());
        connection.write(&[head.as_bytes(), body.as_bytes()].concat());
        let answer = connection.answer(false);
        match answer.status {
            200 => _ = heard.accepted.insert(id),
            503 => {
                assert!(answer.header("Retry-After").is_some());
                assert!(answer.header("Set-Cookie").is_none());
                heard.refused += 1;
            }
            status => panic!("status {status}"),
        }
        if answer.header("Connection") == Some("close") {
            connection = Client::new(address);
        }
    }
    heard
}

/// Asks for `/health` on a connection of its own until told to stop; how long each answer took.
fn ask_for_health(address: SocketAddr, over: &AtomicBool) -> Vec<Duration> {
    let mut took = Vec::new();
    while !over.load(Ordering::SeqCst) {
        let asked = Instant::now();
        let mut client = Client::new(address);
        client.write(b"GET /health HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n");
        assert_eq!(client.answer(false).status, 200);
        took.push(asked.elapsed());
        std::thread::sleep(Duration::from_millis(20));
    }
    took.sort();
    took
}

fn at(sorted: &[Duration], hundredths: usize) -> Duration {
    sorted[(sorted.len() - 1) * hundredths / 100]
}

#[test]
fn a_burst_on_a_slow_disk_loses_nothing_hears_503_alone_and_passes_without_a_restart() {
    let seconds = std::env::var("BURST_SECONDS").map_or(3, |text| text.parse().unwrap());
    let lasts = Duration::from_secs(seconds);
    let folder = tempfile::tempdir().unwrap();
    let disk = SlowDisk::default();
    let options = Options {
        queue_bytes_max: 256 << 10,
        batch_bytes_max: 64 << 10,
        disk_reserve_bytes: Some(0),
        ..Options::default()
    };
    let open = || {
        let files = Arc::new(disk.clone());
        Arc::new(Local::open(files, folder.path(), "raw", 2, options.clone()).unwrap())
    };
    let log = open();
    disk.sync_takes(SYNC_MS);
    let mut config = collector::Config { threads: 2, ..loopback() };
    config.health = Health { port: Some(0) };
    let running = start(config, log.clone(), Arc::new(FixedClock)).unwrap();
    let (address, health) = (running.address, running.health.unwrap());

    let calm = load(address, "calm", CALM_REQUESTS, Duration::from_secs(1));
    assert!(!calm.accepted.is_empty());
    let before = resident_bytes();
    let over = AtomicBool::new(false);
    let (burst, on_main, on_own) = std::thread::scope(|scope| {
        let on_main = scope.spawn(|| ask_for_health(address, &over));
        let on_own = scope.spawn(|| ask_for_health(health, &over));
        let burst = load(address, "burst", BURST_REQUESTS, lasts);
        over.store(true, Ordering::SeqCst);
        (burst, on_main.join().unwrap(), on_own.join().unwrap())
    });
    let grown = resident_bytes().saturating_sub(before);
    eprintln!(
        "in {lasts:?}: {} answered 200, {} answered 503, {} not sent because their client waited; {grown} bytes more; \
         /health in {:?} as a rule, {:?} at most, on its own port {:?} and {:?}",
        burst.accepted.len(),
        burst.refused,
        burst.late,
        at(&on_main, 50),
        at(&on_main, 100),
        at(&on_own, 50),
        at(&on_own, 100),
    );
    assert!(burst.refused > 0, "it was more than the disk can take");
    assert!(!burst.accepted.is_empty());
    assert_eq!(running.counters.rejected(Reason::Busy), (calm.refused + burst.refused) as u64);
    for health in [&on_main, &on_own] {
        // An fsync takes longer than any of these on a machine that has nothing else to do.
        assert!(at(health, 50) < Duration::from_millis(500), "{:?}", at(health, 50));
    }
    // Two queues, and what the requests of 128 clients take.
    assert!(grown < 32 << 20, "{grown} bytes more");

    // Recovery: within a while there is a whole second of the usual load without a refusal.
    let patience = Instant::now() + Duration::from_secs(60);
    let mut accepted: BTreeSet<String> =
        [calm.accepted, burst.accepted].into_iter().flatten().collect();
    let mut turns = 0;
    loop {
        let after = load(address, &format!("after-{turns}"), CALM_REQUESTS, Duration::from_secs(1));
        let is_well = after.refused == 0 && !after.accepted.is_empty();
        accepted.extend(after.accepted);
        if is_well {
            break;
        }
        turns += 1;
        assert!(Instant::now() < patience, "it does not recover");
    }
    running.shutdown();
    for log in [log, open()] {
        let stored = stored(&log);
        assert!(stored.values().all(|count| *count == 1), "something is stored twice");
        assert_eq!(stored.into_keys().collect::<BTreeSet<_>>(), accepted);
        log.close();
    }
}
