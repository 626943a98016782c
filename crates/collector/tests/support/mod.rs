//! A collector on a free port of the loopback, and a client that writes the bytes it is told to.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses a part of it, and a test that cannot go on must panic"
)]

pub mod slow_disk;

use bytes::Bytes;
use collector::Config;
use collector::server::{Running, start};
use model::payload::CollectorPayload;
use model::position::Offset;
use model::time::{Clock, Timestamp};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use stream::Stream;
use stream::memory::Memory;

pub const NOW: Timestamp = Timestamp(1_700_000_000_123);

#[derive(Debug)]
pub struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        NOW
    }
}

pub fn loopback() -> Config {
    Config { bind: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 0, threads: 1, ..Config::default() }
}

pub struct Collector {
    pub running: Running,
    pub raw: Memory,
}

impl Collector {
    pub fn new() -> Collector {
        Collector::with(loopback())
    }

    pub fn with(config: Config) -> Collector {
        let raw = Memory::new("raw", 2);
        let running = start(config, Arc::new(raw.clone()), Arc::new(FixedClock)).unwrap();
        Collector { running, raw }
    }

    pub fn connect(&self) -> Client {
        Client::new(self.running.address)
    }

    /// Sends one request on a connection of its own.
    pub fn send(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut client = self.connect();
        client.write(request.as_ref());
        client.answer(request.as_ref().starts_with(b"HEAD "))
    }

    /// The payloads that are stored, partition by partition.
    pub fn records(&self) -> Vec<CollectorPayload> {
        self.stored(false).iter().map(|bytes| CollectorPayload::decode(bytes).unwrap()).collect()
    }

    /// The bad rows that are stored.
    pub fn bad_rows(&self) -> Vec<serde_json::Value> {
        self.stored(true).iter().map(|bytes| serde_json::from_slice(bytes).unwrap()).collect()
    }

    fn stored(&self, bad_rows: bool) -> Vec<Bytes> {
        let mut stored = Vec::new();
        for partition in self.raw.partitions() {
            let chunk = self.raw.read(partition, Offset::BEGINNING, usize::MAX).unwrap();
            stored.extend(chunk.records.into_iter().map(|record| record.bytes));
        }
        assert_eq!(stored.len() as u64, self.running.counters.accepted());
        let bad = |bytes: &Bytes| bytes.starts_with(b"{");
        assert_eq!(
            stored.iter().filter(|bytes| bad(bytes)).count() as u64,
            self.running.counters.bad_rows()
        );
        stored.retain(|bytes| bad(bytes) == bad_rows);
        stored
    }

    /// The only record.
    pub fn record(&self) -> CollectorPayload {
        let mut records = self.records();
        assert_eq!(records.len(), 1);
        records.remove(0)
    }
}

pub struct Client(BufReader<TcpStream>);

impl Client {
    pub fn new(address: SocketAddr) -> Client {
        Client::from(TcpStream::connect(address).unwrap())
    }

    pub fn from(socket: TcpStream) -> Client {
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Client(BufReader::new(socket))
    }

    /// The collector may have closed its side already: what matters is what it answered.
    pub fn write(&mut self, bytes: &[u8]) {
        let _ = self.0.get_mut().write_all(bytes);
    }

    pub fn answer(&mut self, head_only: bool) -> Answer {
        self.try_answer(head_only).expect("an answer")
    }

    /// `None` when the connection ends instead.
    pub fn try_answer(&mut self, head_only: bool) -> Option<Answer> {
        let mut line = String::new();
        if self.0.read_line(&mut line).unwrap_or(0) == 0 {
            return None;
        }
        let status = line.strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            let line = line.strip_suffix("\r\n").unwrap();
            let Some((name, value)) = line.split_once(": ") else {
                assert_eq!(line, "");
                break;
            };
            headers.push((name.to_owned(), value.to_owned()));
        }
        let mut answer = Answer { status, headers, body: Vec::new() };
        if !head_only {
            let length = answer.header("Content-Length").expect("a length").parse().unwrap();
            answer.body = vec![0; length];
            self.0.read_exact(&mut answer.body).unwrap();
        }
        Some(answer)
    }

    /// Whether there is an answer, or an end, to read now.
    pub fn has_answer(&mut self) -> bool {
        self.0.get_ref().set_nonblocking(true).unwrap();
        let found = self.0.fill_buf().is_ok();
        self.0.get_ref().set_nonblocking(false).unwrap();
        found
    }

    /// Whether the collector has ended the connection.
    pub fn ended(&mut self) -> bool {
        matches!(self.0.read(&mut [0]), Ok(0) | Err(_))
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub fn names(&self) -> Vec<&str> {
        self.headers.iter().map(|(name, _)| name.as_str()).collect()
    }

    pub fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }
}
