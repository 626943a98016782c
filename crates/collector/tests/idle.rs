//! Very many connections that say nothing: what each takes of memory, and how an honest client is served while they hold
//! every place. `IDLE_CONNECTIONS=100000` is the large one. Where the system allows a process fewer file descriptors, the
//! collector has as many places as it allows, and all connections come all the same: the longest silent give way.
//!
//! The clients are processes of their own, so that neither their descriptors nor their memory count: this test binary
//! once more, which looks first whether it is meant to be such a process.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must panic")]

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::slow_disk::resident_bytes;
use support::{Client, Collector, loopback};
use tokio::net::TcpSocket;

/// What the test command opens.
const CONNECTIONS: usize = 2_000;
/// Connections from one address, for the system has some 28,000 ports for them.
const PER_ADDRESS: usize = 20_000;
/// Descriptors for everything else.
const SPARE: u64 = 100;
/// What `docs/limits.md` promises of a connection without a request.
const BYTES_PER_CONNECTION_MAX: usize = 16 << 10;
/// Where the clients of a process connect to, how many they are, and how many come before them.
const CLIENTS: &str = "IDLE_CLIENTS";

/// As many descriptors as the system lets us have, up to what is wanted.
fn descriptors(wanted: u64) -> u64 {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Only the superuser may raise the hard limit, and not everywhere.
    let raised = Rlimit { current: Some(wanted), maximum: maximum.map(|it| it.max(wanted)) };
    let allowed = Rlimit { current: Some(maximum.unwrap_or(wanted).min(wanted)), maximum };
    if setrlimit(Resource::Nofile, raised).is_err() {
        setrlimit(Resource::Nofile, allowed).unwrap();
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Is the clients, if this is that process: each connects from one of the addresses 127.0.0.2, 127.0.0.3, …, so that the
/// ports of one are not all there are, makes a request, and then keeps its connection until the test is over.
fn is_the_clients() -> bool {
    let Ok(clients) = std::env::var(CLIENTS) else { return false };
    let words: Vec<&str> = clients.split(' ').collect();
    let to: SocketAddr = words[0].parse().unwrap();
    let (count, before): (usize, usize) = (words[1].parse().unwrap(), words[2].parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let connect = |number: usize| {
        let last = u8::try_from(2 + number / PER_ADDRESS).unwrap();
        let socket = runtime.block_on(async {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0))).unwrap();
            socket.connect(to).await.unwrap().into_std().unwrap()
        });
        socket.set_nonblocking(false).unwrap();
        socket
    };
    let ask = |mut socket: TcpStream| {
        socket.write_all(b"GET /robots.txt HTTP/1.1\r\nHost: c\r\n\r\n").unwrap();
        assert!(socket.read(&mut [0; 1024]).unwrap() > 0);
        socket
    };
    let held: Vec<TcpStream> =
        (before..before + count).map(|number| ask(connect(number))).collect();

    // The test closes its end, or is gone.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    drop(held);
    true
}

/// Ends with its handle.
struct Clients(Child);

impl Clients {
    /// `test` is the name of the test that calls this. No process has more than `per_process` clients.
    fn start(test: &str, to: SocketAddr, count: usize, per_process: usize) -> Vec<Clients> {
        let start = |before: usize| {
            let count = per_process.min(count - before);
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", test, "--nocapture"]);
            command.env(CLIENTS, format!("{to} {count} {before}"));
            Clients(command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap())
        };
        (0..count).step_by(per_process).map(start).collect()
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // It has ended, or ends now.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks for `/i` on a connection of its own, again and again; how long each answer took, sorted.
fn honest(address: SocketAddr, requests: usize) -> Vec<Duration> {
    let mut took: Vec<Duration> = (0..requests)
        .map(|_| {
            let asked = Instant::now();
            let mut client = Client::new(address);
            client.write(b"GET /i?e=pv HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
            assert_eq!(client.answer(false).status, 200);
            asked.elapsed()
        })
        .collect();
    took.sort();
    took
}

#[test]
fn idle_connections_take_little_and_give_way_to_those_who_ask() {
    if is_the_clients() {
        return;
    }
    let test = "idle_connections_take_little_and_give_way_to_those_who_ask";
    let wanted: usize =
        std::env::var("IDLE_CONNECTIONS").map_or(CONNECTIONS, |text| text.parse().unwrap());
    let allowed = descriptors(wanted as u64 + SPARE);
    let places = wanted.min(usize::try_from(allowed.saturating_sub(SPARE)).unwrap_or(wanted));
    if places < wanted {
        eprintln!(
            "the system allows {allowed} descriptors: {places} places for {wanted} connections"
        );
    }
    assert!(places >= 100, "{allowed} descriptors are too few for this test: raise `ulimit -n`");
    let mut config = loopback();
    config.threads = 2;
    config.networking.max_connections = places;
    let collector = Collector::with(config);
    let (address, counters) = (collector.running.address, &collector.running.counters);

    // What is there once for all is there after a first request.
    let alone = honest(address, 100);
    let before = resident_bytes();
    let mut clients = Clients::start(test, address, wanted, places);
    let mut asked = 0;
    let mut patience = Instant::now() + Duration::from_secs(60);
    while counters.requests() < 100 + wanted as u64 {
        if counters.requests() > asked {
            asked = counters.requests();
            patience = Instant::now() + Duration::from_secs(60);
        }
        assert!(Instant::now() < patience, "no more than {asked} connections");
        let mut ended = clients.iter_mut().map(|it| it.0.try_wait().unwrap());
        assert!(ended.all(|status| status.is_none()), "the clients have ended");
        std::thread::sleep(Duration::from_millis(10));
    }
    if places == wanted {
        assert_eq!(counters.connections_open(), places as u64);
    }
    let per_connection = resident_bytes().saturating_sub(before) / places;

    // Every place is taken: somebody gives theirs up, the oldest first.
    let among = honest(address, 500);
    let at = |took: &[Duration], hundredths: usize| took[(took.len() - 1) * hundredths / 100];
    eprintln!(
        "{wanted} idle connections, {places} places: {per_connection} bytes each; an honest client is answered in {:?} as a rule, {:?} at \
         most, and was in {:?} and {:?} without them",
        at(&among, 50),
        at(&among, 100),
        at(&alone, 50),
        at(&alone, 100),
    );
    assert!(per_connection < BYTES_PER_CONNECTION_MAX, "{per_connection} bytes each");
    assert!(at(&among, 50) < Duration::from_millis(500), "{among:?}");
    assert_eq!(counters.accepted(), 600);
    assert!(counters.connections_open() <= places as u64);
    // A few gave way, for many at once; the rest are still there.
    assert!(counters.connections_open() >= places as u64 * 9 / 10);
}
