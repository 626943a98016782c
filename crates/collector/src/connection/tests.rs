//! A connection over a pipe, with time that the test moves: splits, pipelining, timeouts, the memory bound.

use super::body::BODY_STEP_BYTES;
use super::*;
use crate::config::Config;
use crate::places::Places;
use bytes::Bytes;
use model::payload::CollectorPayload;
use model::position::{Offset, Partition};
use model::time::{Clock, Timestamp};
use proptest::prelude::*;
use std::net::Ipv4Addr;
use std::sync::Arc;
use stream::memory::Memory;
use stream::{Append, Chunk, Stream};
use tokio::io::DuplexStream;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));
const POST: &str = "POST /com.acme/v1?a=b HTTP/1.1\r\nHost: c.example.com\r\nCookie: sp=id\r\n\
                    Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{\"a\":\"b\"}";
const CHUNKED: &str = "POST /com.acme/v1?a=b HTTP/1.1\r\nHost: c.example.com\r\nCookie: sp=id\r\n\
                       Transfer-Encoding: chunked\r\n\r\n4;x=y\r\n{\"a\"\r\n5\r\n:\"b\"}\r\n0\r\nT: u\r\n\r\n";

#[derive(Debug)]
struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        Timestamp(1_700_000_000_123)
    }
}

/// A stream whose appends are never answered.
#[derive(Debug)]
struct Silent(Memory);

impl Stream for Silent {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn partitions(&self) -> &[Partition] {
        self.0.partitions()
    }
    fn append(&self, _: &Partition, _: Vec<Bytes>) -> Append {
        Box::pin(std::future::pending())
    }
    fn read(
        &self,
        partition: &Partition,
        from: Offset,
        max: usize,
    ) -> Result<Chunk, stream::Error> {
        self.0.read(partition, from, max)
    }
    fn start(&self, partition: &Partition) -> Result<Offset, stream::Error> {
        self.0.start(partition)
    }
    fn end(&self, partition: &Partition) -> Result<Offset, stream::Error> {
        self.0.end(partition)
    }
    fn trim(&self, partition: &Partition, below: Offset) -> Result<(), stream::Error> {
        self.0.trim(partition, below)
    }
    fn wait(&self, partition: &Partition, beyond: Offset, at_most: Duration) -> bool {
        self.0.wait(partition, beyond, at_most)
    }
}

fn intake_of(config: Config, raw: &Memory) -> Intake {
    Intake::new(config, Arc::new(raw.clone()), Arc::new(Noon))
}

fn records(raw: &Memory) -> Vec<CollectorPayload> {
    let chunk = raw.read(&raw.partitions()[0], Offset::BEGINNING, usize::MAX).unwrap();
    chunk.records.iter().map(|record| CollectorPayload::decode(&record.bytes).unwrap()).collect()
}

/// Runs a connection against a client.
async fn with_client<F: Future>(
    intake: &Intake,
    pipe_bytes: usize,
    client: impl FnOnce(DuplexStream, watch::Sender<bool>) -> F,
) -> F::Output {
    let (ours, theirs) = tokio::io::duplex(pipe_bytes);
    let (stop, stopped) = watch::channel(false);
    let place = Place::alone();
    let served = serve(ours, PEER, intake, stopped, &place);
    let (output, ()) = tokio::join!(client(theirs, stop), served);
    assert_eq!(intake.counters.connections_open(), 0);
    output
}

/// Sends the pieces, ends the client's side, and returns all that was answered.
async fn exchange(intake: &Intake, pieces: &[&[u8]]) -> String {
    let answers = with_client(intake, 1 << 22, async |mut io: DuplexStream, _stop| {
        for piece in pieces {
            if io.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let _ = io.shutdown().await;
        let mut answers = Vec::new();
        io.read_to_end(&mut answers).await.unwrap();
        answers
    });
    // The pixel is no text.
    String::from_utf8_lossy(&answers.await).into_owned()
}

fn run<F: Future>(future: F) -> F::Output {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().start_paused(true).build().unwrap().block_on(future)
}

fn count(answers: &str, status: &str) -> usize {
    answers.matches(&format!("HTTP/1.1 {status} ")).count()
}

/// The record and the answers of one request that arrives in these pieces.
fn recorded(pieces: &[&[u8]]) -> (Vec<CollectorPayload>, String) {
    let raw = Memory::new("raw", 1);
    let intake = intake_of(Config::default(), &raw);
    let answers = run(exchange(&intake, pieces));
    assert_eq!(intake.counters.accepted(), records(&raw).len() as u64);
    (records(&raw), answers)
}

#[test]
fn a_request_that_arrives_byte_by_byte_is_the_same_record() {
    for request in [POST, CHUNKED] {
        let whole = recorded(&[request.as_bytes()]);
        assert_eq!((whole.0.len(), count(&whole.1, "200")), (1, 1), "{}", whole.1);
        assert_eq!(whole.0[0].body.as_deref(), Some("{\"a\":\"b\"}"));
        assert_eq!(whole.0[0].ip_address, "203.0.113.7");
        let bytes: Vec<&[u8]> = request.as_bytes().chunks(1).collect();
        assert_eq!(recorded(&bytes), whole);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_request_that_arrives_in_any_pieces_is_the_same_record(
        chunked: bool,
        mut cuts in prop::collection::vec(0_usize..300, 0..6),
    ) {
        let request = if chunked { CHUNKED } else { POST }.as_bytes();
        cuts.extend([0, request.len()]);
        cuts.iter_mut().for_each(|cut| *cut = (*cut).min(request.len()));
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &request[pair[0]..pair[1]]).collect();
        prop_assert_eq!(recorded(&pieces), recorded(&[request]));
    }

    #[test]
    fn arbitrary_bytes_do_not_panic_and_stored_is_accepted(
        pieces in prop::collection::vec(prop_oneof![
            any::<Vec<u8>>(),
            prop::sample::select(vec![
                "GET /i?", " HTTP/1.1\r\n", "POST /a/b HTTP/1.1\r\n", "\r\n", "\r\n\r\n", "Host: a\r\n",
                "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n", "0\r\n\r\n", POST, CHUNKED,
            ]).prop_map(|text| text.as_bytes().to_vec()),
        ], 0..8),
    ) {
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let raw = Memory::new("raw", 1);
        let intake = intake_of(Config::default(), &raw);
        let answers = run(exchange(&intake, &pieces));
        prop_assert_eq!(intake.counters.accepted(), records(&raw).len() as u64);
        prop_assert!(count(&answers, "200") >= records(&raw).len());
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let requests = format!("{POST}{CHUNKED}\r\n{POST}{}", POST.replace("a=b", "a=last"));
    let (records, answers) = recorded(&[requests.as_bytes()]);
    assert_eq!(count(&answers, "200"), 4, "{answers}");
    let queries: Vec<_> =
        records.iter().map(|record| record.querystring.as_deref().unwrap()).collect();
    assert_eq!(queries, ["a=b", "a=b", "a=b", "a=last"]);
}

#[test]
fn a_body_that_nobody_wants_is_passed_over() {
    let unwanted = "POST /i HTTP/1.1\r\nContent-Length: 10000\r\n\r\n";
    let body = POST.repeat(100);
    let get = "GET /i HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
    let requests = format!("{unwanted}{}{get}{POST}", &body[..10_000]);
    let (records, answers) = recorded(&[requests.as_bytes()]);
    assert_eq!(
        (count(&answers, "404"), count(&answers, "200"), records.len()),
        (1, 2, 2),
        "{answers}"
    );
    assert_eq!((records[0].body.as_deref(), records[1].body.is_some()), (None, true));
}

#[test]
fn an_unwanted_body_without_a_short_length_ends_the_connection() {
    for framing in [
        "Transfer-Encoding: chunked",
        "Content-Length: 65537",
        "Content-Length: 3\r\nExpect: 100-continue",
    ] {
        let request = format!("POST /i HTTP/1.1\r\n{framing}\r\n\r\n{POST}");
        let (records, answers) = recorded(&[request.as_bytes()]);
        assert_eq!(
            (count(&answers, "404"), count(&answers, "200"), records.len()),
            (1, 0, 0),
            "{answers}"
        );
        assert!(answers.contains("Connection: close\r\n"), "{answers}");
    }
}

#[test]
fn a_request_that_is_cut_off_is_not_recorded() {
    for request in [POST, CHUNKED] {
        for length in 0..request.len() {
            let (records, answers) = recorded(&[&request.as_bytes()[..length]]);
            assert_eq!((records.len(), answers.as_str()), (0, ""), "{length}");
        }
    }
}

#[test]
fn a_client_that_expects_continue_hears_it_before_it_sends_the_body() {
    let raw = Memory::new("raw", 1);
    let intake = intake_of(Config::default(), &raw);
    let (head, body) = POST.split_once("\r\n\r\n").unwrap();
    let head = format!("{head}\r\nExpect: 100-Continue\r\n\r\n");
    run(with_client(&intake, 1 << 16, async |mut io: DuplexStream, _stop| {
        io.write_all(head.as_bytes()).await.unwrap();
        let mut interim = [0; 25];
        io.read_exact(&mut interim).await.unwrap();
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
        io.write_all(body.as_bytes()).await.unwrap();
        io.shutdown().await.unwrap();
        let mut answer = String::new();
        io.read_to_string(&mut answer).await.unwrap();
        assert_eq!(count(&answer, "200"), 1);
    }));
    assert_eq!(records(&raw).len(), 1);
}

/// Sends a beginning and then nothing; returns the answer and how long it took.
fn stalled(intake: &Intake, beginning: &str) -> (String, Duration) {
    run(with_client(intake, 1 << 16, async |mut io: DuplexStream, _stop| {
        let begin = Instant::now();
        io.write_all(beginning.as_bytes()).await.unwrap();
        let mut answer = String::new();
        io.read_to_string(&mut answer).await.unwrap();
        (answer, begin.elapsed())
    }))
}

#[test]
fn a_slow_head_a_slow_body_and_a_slow_stream_are_answered_408() {
    let raw = Memory::new("raw", 1);
    let slow_stream = Intake::new(Config::default(), Arc::new(Silent(raw.clone())), Arc::new(Noon));
    let intake = intake_of(Config::default(), &raw);
    for (intake, beginning, seconds) in [
        (&intake, "GET /i HTTP/1.1\r\nHost:", 10),
        (&intake, "G", 10),
        (&intake, &POST[..POST.len() - 1], 25),
        (&intake, &CHUNKED[..CHUNKED.len() - 1], 25),
        (&slow_stream, POST, 30),
    ] {
        let before = intake.counters.rejected(Reason::Timeout);
        let (answer, took) = stalled(intake, beginning);
        assert_eq!(count(&answer, "408"), 1, "{answer}");
        assert!(answer.ends_with("\r\n\r\nResponse timed out"), "{answer}");
        assert!(answer.contains("Connection: close\r\n"), "{answer}");
        assert_eq!(took.as_secs(), seconds, "{beginning}");
        assert_eq!(intake.counters.rejected(Reason::Timeout), before + 1);
        assert_eq!(intake.counters.accepted(), 0);
    }
    assert_eq!(records(&raw).len(), 0);
}

#[test]
fn an_idle_connection_is_closed_without_an_answer() {
    let raw = Memory::new("raw", 1);
    let intake = intake_of(Config::default(), &raw);
    for (beginning, answers) in [("", 0), ("\r\n\r\n", 0), ("\r", 0), (POST, 1)] {
        let (answer, took) = stalled(&intake, beginning);
        assert_eq!(count(&answer, "200"), answers, "{answer}");
        assert_eq!((count(&answer, "408"), took.as_secs()), (0, 610));
    }
}

#[test]
fn a_client_that_does_not_read_its_answers_is_dropped() {
    let raw = Memory::new("raw", 1);
    let intake = intake_of(Config::default(), &raw);
    let took = run(with_client(&intake, 300, async |mut io: DuplexStream, _stop| {
        let begin = Instant::now();
        let mut sent = 0;
        while io.write_all(POST.as_bytes()).await.is_ok() {
            sent += 1;
        }
        assert!(sent < 100);
        begin.elapsed()
    }));
    assert_eq!(took.as_secs(), 30);
}

#[test]
fn a_client_that_does_not_read_its_answers_gives_its_place_to_who_waits() {
    let raw = Memory::new("raw", 1);
    let intake = intake_of(Config::default(), &raw);
    let took = run(async {
        let places = Places::new(1);
        let place = places.take().await;
        let (ours, mut theirs) = tokio::io::duplex(300);
        let (_stop, stopped) = watch::channel(false);
        let begin = Instant::now();
        let client = async { while theirs.write_all(POST.as_bytes()).await.is_ok() {} };
        let served = serve(ours, PEER, &intake, stopped, &place);
        let waiting = async {
            while !places.ask() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::join!(client, served, waiting);
        begin.elapsed()
    });
    assert_eq!(took.as_secs(), 5);
}

#[test]
fn an_idle_connection_ends_at_shutdown() {
    let raw = Memory::new("raw", 1);
    let intake = intake_of(Config::default(), &raw);
    run(with_client(&intake, 1 << 16, async |mut io: DuplexStream, stop: watch::Sender<bool>| {
        let begin = Instant::now();
        tokio::task::yield_now().await;
        intake.drain();
        stop.send(true).unwrap();
        assert_eq!(io.read(&mut [0; 9]).await.unwrap(), 0);
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }));
}

#[test]
fn a_request_under_way_at_shutdown_is_finished_and_its_connection_closed() {
    let raw = Memory::new("raw", 1);
    let intake = intake_of(Config::default(), &raw);
    let (begin, rest) = POST.split_at(100);
    let answer = run(with_client(
        &intake,
        1 << 16,
        async |mut io: DuplexStream, stop: watch::Sender<bool>| {
            io.write_all(begin.as_bytes()).await.unwrap();
            tokio::task::yield_now().await;
            intake.drain();
            stop.send(true).unwrap();
            tokio::task::yield_now().await;
            io.write_all(format!("{rest}{POST}").as_bytes()).await.unwrap();
            let mut answer = String::new();
            io.read_to_string(&mut answer).await.unwrap();
            answer
        },
    ));
    assert_eq!((count(&answer, "200"), records(&raw).len()), (1, 1), "{answer}");
    assert!(answer.contains("Connection: close\r\n"), "{answer}");
}

fn budget_of(bytes: usize) -> Config {
    let mut config = Config::default();
    config.memory.max_in_flight_bytes = bytes;
    config
}

#[test]
fn beyond_the_memory_bound_requests_are_answered_503_and_nothing_is_recorded() {
    let raw = Memory::new("raw", 1);
    let intake = intake_of(budget_of(100), &raw);
    let request = POST.replace("Host:", "Origin: https://shop.example.test\r\nHost:");
    let answer = run(exchange(&intake, &[request.as_bytes()]));
    assert_eq!(count(&answer, "503"), 1, "{answer}");
    for line in [
        "Retry-After: ",
        "Access-Control-Allow-Origin: https://shop.example.test\r\n",
        "Connection: close\r\n",
    ] {
        assert!(answer.contains(line), "{answer}");
    }
    assert!(!answer.contains("Set-Cookie"), "{answer}");
    assert_eq!((records(&raw).len(), intake.counters.rejected(Reason::Memory)), (0, 1));
    let health = run(exchange(&intake, &[b"GET /health HTTP/1.1\r\n\r\n"]));
    assert_eq!(count(&health, "200"), 1, "{health}");
}

#[test]
fn the_memory_of_a_request_is_given_back() {
    let raw = Memory::new("raw", 1);
    let intake = intake_of(budget_of(1000), &raw);
    let answers = run(exchange(&intake, &[POST.repeat(50).as_bytes()]));
    assert_eq!((count(&answers, "200"), records(&raw).len()), (50, 50));
}

#[test]
fn a_claimed_length_holds_nothing_and_bytes_that_arrive_are_held() {
    let raw = Memory::new("raw", 1);
    let intake = intake_of(budget_of(4 * BODY_STEP_BYTES), &raw);
    let head = "POST /a/b HTTP/1.1\r\nContent-Length: 2000000\r\n\r\n";
    // Four such claims fit beside each other: each holds one step.
    run(with_client(&intake, 1 << 22, async |mut io: DuplexStream, _stop| {
        io.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..9 {
            tokio::task::yield_now().await;
        }
        let mut three = intake.budget.hold();
        three.add(3 * BODY_STEP_BYTES).unwrap();
        drop(three);
        io.write_all(&vec![b'a'; 1_000_000]).await.unwrap();
        let mut answer = String::new();
        io.read_to_string(&mut answer).await.unwrap();
        assert_eq!(count(&answer, "503"), 1, "{answer}");
    }));
    let chunked = format!(
        "POST /a/b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n100000\r\n{}",
        "a".repeat(0x10_0000)
    );
    let answer = run(exchange(&intake, &[chunked.as_bytes()]));
    assert_eq!(count(&answer, "503"), 1, "{answer}");
    intake.budget.hold().add(4 * BODY_STEP_BYTES).unwrap();
}
