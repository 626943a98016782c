//! What the collector refuses, over a socket: requests with two readings, requests beyond the limits, and everything
//! while the stream takes nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must panic")]

mod support;

use bytes::Bytes;
use collector::counters::Reason;
use collector::server::start;
use model::position::{Offset, Partition};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use stream::memory::Memory;
use stream::{Append, Chunk, Error, Stream};
use support::{Client, Collector, FixedClock, loopback};

/// Sends a request with a second one hidden behind it: it must end in 400, and neither may be recorded.
fn refused(request: &str) {
    let collector = Collector::new();
    let mut client = collector.connect();
    client.write(format!("{request}GET /i?smuggled HTTP/1.1\r\n\r\n").as_bytes());
    let answer = client.answer(false);
    assert_eq!((answer.status, answer.body.len()), (400, 0), "{request:?}");
    assert_eq!(answer.header("Connection"), Some("close"));
    assert_eq!(answer.header("Content-Length"), Some("0"));
    assert!(client.ended(), "{request:?}");
    assert_eq!(collector.records().len(), 0);
    assert_eq!(collector.running.counters.rejected(Reason::BadRequest), 1);
}

#[test]
fn different_content_lengths_are_refused() {
    refused("POST /a/b HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc");
    refused("POST /a/b HTTP/1.1\r\nContent-Length: 3, 4\r\n\r\nabc");
    refused("POST /a/b HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\nabc");
}

#[test]
fn a_content_length_that_is_no_number_is_refused() {
    for length in ["+3", "-3", "3 3", "0x3", "", "three", "99999999999999999999999"] {
        refused(&format!("POST /a/b HTTP/1.1\r\nContent-Length: {length}\r\n\r\nabc"));
    }
}

#[test]
fn a_content_length_beside_a_transfer_coding_is_refused() {
    refused(
        "POST /a/b HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    );
    refused(
        "POST /a/b HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    );
}

#[test]
fn unknown_and_repeated_transfer_codings_are_refused() {
    for coding in
        ["gzip, chunked", "chunked, chunked", "identity", "xchunked", "\"chunked\"", "chunked;a=b"]
    {
        refused(&format!("POST /a/b HTTP/1.1\r\nTransfer-Encoding: {coding}\r\n\r\n0\r\n\r\n"));
    }
    refused(
        "POST /a/b HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    );
    refused("POST /a/b HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
}

#[test]
fn a_bare_carriage_return_or_line_feed_is_refused() {
    refused("GET /i HTTP/1.1\r\nA: b\rContent-Length: 5\r\n\r\n");
    refused("GET /i HTTP/1.1\r\nA: b\nB: c\r\n\r\n");
    refused("GET /i HTTP/1.1\nA: b\n\n");
    refused("GET /i?a\rb HTTP/1.1\r\n\r\n");
    refused("\n\nGET /i HTTP/1.1\r\n\r\n");
}

#[test]
fn a_folded_header_is_refused() {
    refused("GET /i HTTP/1.1\r\nA: b\r\n c\r\n\r\n");
    refused("GET /i HTTP/1.1\r\n A: b\r\n\r\n");
}

#[test]
fn a_space_before_the_colon_is_refused() {
    refused("POST /a/b HTTP/1.1\r\nContent-Length : 5\r\n\r\n");
    refused("POST /a/b HTTP/1.1\r\nTransfer-Encoding\t: chunked\r\n\r\n");
}

#[test]
fn bad_chunk_sizes_are_refused() {
    for chunks in [
        "x\r\n",
        "-1\r\n",
        "0x3\r\nabc\r\n",
        "3 \r\nabc\r\n",
        "3\nabc\r\n",
        "3\r\nabcd\r\n",
        "fffffffffffffffff\r\n",
    ] {
        refused(&format!(
            "POST /a/b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
        ));
    }
}

#[test]
fn two_hosts_are_refused() {
    refused("GET /i HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
}

#[test]
fn what_is_not_http_is_refused() {
    refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    refused("GET /i\r\n\r\n");
    refused("GET /i HTTP/0.9\r\n\r\n");
    refused("\u{16}\u{3}\u{1}\r\n\r\n");
}

#[test]
fn long_request_lines_and_headers_and_many_headers_are_refused_at_their_limits() {
    let collector = Collector::new();
    let line = |query: usize| format!("GET /i?{} HTTP/1.1\r\n\r\n", "q".repeat(query));
    // `GET /i?` and ` HTTP/1.1` are 16 bytes of the 20480.
    assert_eq!(collector.send(line(20_464)).status, 200);
    assert_eq!(collector.send(line(20_465)).status, 400);
    let headers = |value: usize| format!("GET /i HTTP/1.1\r\nA: {}\r\n\r\n", "v".repeat(value));
    // `A: ` and the line end are 5 bytes of the 40960.
    assert_eq!(collector.send(headers(40_955)).status, 200);
    assert_eq!(collector.send(headers(40_956)).status, 400);
    let many = |count: usize| format!("GET /i HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(count));
    assert_eq!(collector.send(many(100)).status, 200);
    assert_eq!(collector.send(many(101)).status, 400);
    // An endless head is refused before it ends.
    assert_eq!(collector.send("G".repeat(30_000)).status, 400);
    assert_eq!(collector.send(format!("GET /i HTTP/1.1\r\nA: {}", "v".repeat(50_000))).status, 400);
    assert_eq!(collector.records().len(), 3);
}

#[test]
fn a_body_of_the_drop_size_is_answered_413_and_one_below_passes() {
    let mut config = loopback();
    config.networking.drop_payload_size = 100_000;
    let collector = Collector::with(config);
    let sized = |length: usize| {
        format!("POST /a/b HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{}", "b".repeat(length))
    };
    let chunked = |length: usize| {
        let body = "b".repeat(length);
        format!(
            "POST /a/b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"
        )
    };
    for request in [sized(99_999), chunked(99_999)] {
        assert_eq!(collector.send(request).status, 200);
    }
    for request in [sized(100_000), chunked(100_000), sized(5_000_000), chunked(5_000_000)] {
        let mut client = collector.connect();
        client.write(request.as_bytes());
        let answer = client.answer(false);
        assert_eq!((answer.status, answer.body.len()), (413, 0));
        assert_eq!(answer.header("Connection"), Some("close"));
        assert!(client.ended());
    }
    assert_eq!(collector.records().len(), 2);
    assert_eq!(collector.running.counters.rejected(Reason::TooLarge), 4);
}

#[test]
fn a_body_over_the_drop_size_is_refused_before_it_is_sent() {
    let collector = Collector::new();
    let answer = collector
        .send("POST /a/b HTTP/1.1\r\nContent-Length: 2097152\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(answer.status, 413);
}

#[test]
fn a_head_and_a_body_that_do_not_come_are_answered_408() {
    let mut config = loopback();
    config.networking.header_read_timeout = Duration::from_millis(50);
    config.networking.body_read_timeout = Duration::from_millis(50);
    let collector = Collector::with(config);
    for request in ["GET /i HTTP/1.1\r\n", "POST /a/b HTTP/1.1\r\nContent-Length: 3\r\n\r\nab"] {
        let mut client = collector.connect();
        client.write(request.as_bytes());
        let answer = client.answer(false);
        assert_eq!((answer.status, answer.text()), (408, "Response timed out"));
        assert!(client.ended());
    }
    assert_eq!(collector.running.counters.rejected(Reason::Timeout), 2);
    assert_eq!(collector.records().len(), 0);
}

#[test]
fn an_idle_connection_is_closed() {
    let mut config = loopback();
    config.networking.idle_timeout = Duration::from_secs(1);
    let collector = Collector::with(config);
    assert!(collector.connect().try_answer(false).is_none());
    let mut client = collector.connect();
    client.write(b"GET /health HTTP/1.1\r\n\r\n");
    assert_eq!(client.answer(false).status, 200);
    assert!(client.ended());
}

#[test]
fn beyond_the_maximum_connections_wait_and_are_served_when_one_ends() {
    let mut config = loopback();
    config.networking.max_connections = 2;
    let collector = Collector::with(config);
    // A request that is coming in keeps its place.
    let open = || {
        let mut client = collector.connect();
        client
            .write(b"GET /health HTTP/1.1\r\n\r\nPOST /a/b HTTP/1.1\r\nContent-Length: 2\r\n\r\na");
        client
    };
    let (mut first, mut second, mut third) = (open(), open(), open());
    assert_eq!((first.answer(false).status, second.answer(false).status), (200, 200));
    assert_eq!(collector.running.counters.connections(), 2);
    drop(first);
    assert_eq!(third.answer(false).status, 200);
    assert_eq!(collector.running.counters.connections(), 3);
    second.write(b"b");
    assert_eq!(second.answer(false).status, 200);
}

/// A stream that refuses until it is told otherwise.
#[derive(Debug)]
struct Refusing {
    raw: Memory,
    error: Error,
    refuses: AtomicBool,
}

impl Stream for Refusing {
    fn name(&self) -> &str {
        self.raw.name()
    }
    fn partitions(&self) -> &[Partition] {
        self.raw.partitions()
    }
    fn append(&self, partition: &Partition, records: Vec<Bytes>) -> Append {
        if self.refuses.load(Ordering::SeqCst) {
            return Box::pin(std::future::ready(Err(self.error.clone())));
        }
        self.raw.append(partition, records)
    }
    fn read(&self, partition: &Partition, from: Offset, max: usize) -> Result<Chunk, Error> {
        self.raw.read(partition, from, max)
    }
    fn start(&self, partition: &Partition) -> Result<Offset, Error> {
        self.raw.start(partition)
    }
    fn end(&self, partition: &Partition) -> Result<Offset, Error> {
        self.raw.end(partition)
    }
    fn trim(&self, partition: &Partition, below: Offset) -> Result<(), Error> {
        self.raw.trim(partition, below)
    }
    fn wait(&self, partition: &Partition, beyond: Offset, at_most: Duration) -> bool {
        self.raw.wait(partition, beyond, at_most)
    }
}

#[test]
fn a_stream_that_takes_nothing_is_answered_503_and_nothing_is_recorded() {
    let partition = Partition::of_stream("raw", 0);
    let source = Arc::new(std::io::Error::other("input/output error"));
    for (error, reason) in [
        (
            Error::Full { partition: partition.clone(), available_bytes: 1, reserve_bytes: 2 },
            Reason::DiskFull,
        ),
        (
            Error::Busy { partition: partition.clone(), queued_bytes: 1, queue_bytes_max: 1 },
            Reason::Busy,
        ),
        (
            Error::Poisoned { partition: partition.clone(), reason: "sync".to_owned() },
            Reason::Poisoned,
        ),
        (Error::Closed { stream: "raw".to_owned() }, Reason::Closed),
        (Error::Io { action: "sync", path: "0.log".into(), source }, Reason::StreamError),
    ] {
        let raw = Memory::new("raw", 2);
        let refusing =
            Arc::new(Refusing { raw: raw.clone(), error, refuses: AtomicBool::new(true) });
        let stream: Arc<dyn Stream> = refusing.clone();
        let collector =
            Collector { running: start(loopback(), stream, Arc::new(FixedClock)).unwrap(), raw };
        let mut client = collector.connect();
        for request in [
            "POST /a/b HTTP/1.1\r\nOrigin: https://a.com\r\nContent-Length: 2\r\n\r\n{}",
            "GET /i?e=pv HTTP/1.1\r\nOrigin: https://a.com\r\n\r\n",
        ] {
            client.write(request.as_bytes());
            let answer = client.answer(false);
            assert_eq!((answer.status, answer.body.len()), (503, 0), "{reason:?}");
            assert_eq!(answer.header("Retry-After"), Some("5"));
            assert_eq!(answer.header("Access-Control-Allow-Origin"), Some("https://a.com"));
            assert_eq!(answer.header("Access-Control-Allow-Credentials"), Some("true"));
            assert_eq!(answer.header("Set-Cookie"), None);
        }
        assert_eq!(collector.running.counters.rejected(reason), 2);
        assert_eq!(collector.send("GET /health HTTP/1.1\r\n\r\n").status, 200);
        let sink = collector.send("GET /sink-health HTTP/1.1\r\n\r\n");
        assert_eq!((sink.status, sink.text()), (503, "Service Unavailable"));
        assert_eq!(collector.records().len(), 0);

        refusing.refuses.store(false, Ordering::SeqCst);
        client.write(b"GET /i?e=pv HTTP/1.1\r\n\r\n");
        assert_eq!(client.answer(false).status, 200);
        assert_eq!(collector.records().len(), 1);
        assert_eq!(collector.send("GET /sink-health HTTP/1.1\r\n\r\n").status, 200);
    }
}

#[test]
fn a_request_that_is_refused_is_not_kept_as_oversized() {
    let raw = Memory::new("raw", 2);
    let error = Error::Closed { stream: "raw".to_owned() };
    let stream = Refusing { raw, error, refuses: AtomicBool::new(true) };
    let stream = Arc::new(stream);
    let dir = tempfile::tempdir().unwrap();
    let mut config = loopback();
    config.networking.max_record_size = 1_000;
    config.oversized.keep = true;
    config.oversized.dir = Some(dir.path().to_owned());
    let running = start(config, stream.clone(), Arc::new(FixedClock)).unwrap();
    let request = format!("GET /i?{} HTTP/1.1\r\n\r\n", "x".repeat(2_000));
    let ask = || {
        let mut client = Client::new(running.address);
        client.write(request.as_bytes());
        client.answer(false).status
    };
    let files = || std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!((ask(), ask(), files()), (503, 503, 0));
    stream.refuses.store(false, Ordering::SeqCst);
    assert_eq!((ask(), files()), (200, 1));
}

#[test]
fn a_record_that_the_stream_finds_too_large_is_answered_413() {
    let raw = Memory::new("raw", 1);
    let error =
        Error::TooLarge { partition: Partition::of_stream("raw", 0), bytes: 2, bytes_max: 1 };
    let refusing = Refusing { raw: raw.clone(), error, refuses: AtomicBool::new(true) };
    let running = start(loopback(), Arc::new(refusing), Arc::new(FixedClock)).unwrap();
    let collector = Collector { running, raw };
    let mut client = collector.connect();
    client.write(b"GET /i?e=pv HTTP/1.1\r\n\r\n");
    assert_eq!(client.answer(false).status, 413);
    assert!(client.ended());
    assert_eq!(collector.running.counters.rejected(Reason::TooLarge), 1);
    assert_eq!(collector.send("GET /sink-health HTTP/1.1\r\n\r\n").status, 200);
}

#[test]
fn a_taken_port_is_named_with_the_way_out() {
    let collector = Collector::new();
    let mut config = loopback();
    config.port = collector.running.address.port();
    let error = start(config, Arc::new(Memory::new("raw", 1)), Arc::new(FixedClock)).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&collector.running.address.to_string()), "{text}");
    assert!(text.contains("`collector.port`"), "{text}");
}

#[test]
fn a_wrong_configuration_does_not_start() {
    let mut config = loopback();
    config.networking.max_headers = 0;
    let error = start(config, Arc::new(Memory::new("raw", 1)), Arc::new(FixedClock)).unwrap_err();
    assert!(error.to_string().contains("collector.networking.max-headers"), "{error}");
}

#[test]
fn shutdown_closes_idle_connections_and_refuses_new_ones() {
    let Collector { running, .. } = Collector::new();
    let address = running.address;
    let mut client = Client::new(address);
    client.write(b"GET /health HTTP/1.1\r\n\r\n");
    assert_eq!(client.answer(false).status, 200);
    let begin = Instant::now();
    assert_eq!(running.shutdown().connections_cut, 0);
    assert!(begin.elapsed() < Duration::from_secs(20));
    assert!(client.ended());
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn shutdown_cuts_off_what_has_not_finished_by_the_deadline() {
    let mut config = loopback();
    config.termination_deadline = Duration::from_millis(100);
    let Collector { running, raw } = Collector::with(config);
    let mut client = Client::new(running.address);
    // The second head shows that the first part of it was read before the shutdown.
    client.write(b"GET /health HTTP/1.1\r\n\r\nPOST /a/b HTTP/1.1\r\nContent-Length: 3\r\n\r\na");
    assert_eq!(client.answer(false).status, 200);
    assert_eq!(running.shutdown().connections_cut, 1);
    assert!(client.ended());
    assert_eq!(raw.end(&raw.partitions()[0]).unwrap(), Offset::BEGINNING);
}

#[test]
fn many_clients_at_once_are_stored_exactly_as_often_as_they_are_answered() {
    let mut config = loopback();
    config.threads = 2;
    let collector = Collector::with(config);
    let address = collector.running.address;
    let clients: Vec<_> = (0..8)
        .map(|client| {
            std::thread::spawn(move || {
                let mut connection = Client::new(address);
                for number in 0..100 {
                    let request = format!("GET /i?n={client}-{number} HTTP/1.1\r\n\r\n");
                    connection.write(request.as_bytes());
                    assert_eq!(connection.answer(false).status, 200);
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    let mut queries: Vec<_> =
        collector.records().into_iter().map(|record| record.querystring.unwrap()).collect();
    queries.sort_unstable();
    queries.dedup();
    assert_eq!(queries.len(), 800);
    assert_eq!(collector.running.counters.requests(), 800);
    for partition in collector.raw.partitions() {
        assert_eq!(collector.raw.end(partition).unwrap().number(), 400);
    }
}
