//! Clients that mean no good, over a socket: connections that say nothing, heads and bodies that never end, floods of
//! headers. Honest clients are served all the while, and what is held stays within its bound.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must panic")]

mod support;

use collector::counters::Reason;
use std::net::TcpStream;
use std::time::{Duration, Instant};
use support::{Client, Collector, loopback};

/// A collector with few places.
fn small(places: usize) -> Collector {
    let mut config = loopback();
    config.networking.max_connections = places;
    // No timeout makes room within the time of these tests.
    config.networking.header_read_timeout = Duration::from_secs(300);
    config.networking.body_read_timeout = Duration::from_secs(300);
    Collector::with(config)
}

/// Sends an event on a connection of its own; how long it took.
fn honest(collector: &Collector) -> Duration {
    let begin = Instant::now();
    assert_eq!(collector.send("GET /i?e=pv HTTP/1.1\r\nHost: h\r\n\r\n").status, 200);
    begin.elapsed()
}

#[test]
fn connections_that_say_nothing_give_way_to_those_that_do() {
    let collector = small(16);
    let mut silent = Vec::new();
    for number in 0..1_000 {
        silent.push(TcpStream::connect(collector.running.address).unwrap());
        if number % 100 == 99 {
            assert!(honest(&collector) < Duration::from_secs(120));
        }
    }
    assert!(collector.running.counters.connections_open() <= 16);
    assert_eq!(collector.records().len(), 10);
    // None of the silent ones was answered anything.
    let mut gone = Client::from(silent.remove(0));
    assert!(gone.ended());
}

#[test]
fn a_connection_that_was_used_longest_ago_gives_way_first() {
    let collector = small(2);
    let (mut first, mut second) = (collector.connect(), collector.connect());
    let ask = |client: &mut Client| {
        client.write(b"GET /i HTTP/1.1\r\n\r\n");
        client.try_answer(false).map(|answer| answer.status)
    };
    assert_eq!((ask(&mut first), ask(&mut second)), (Some(200), Some(200)));
    assert_eq!(ask(&mut first), Some(200));
    honest(&collector);
    assert_eq!(ask(&mut first), Some(200));
    assert!(second.ended());
}

#[test]
fn slow_heads_and_slow_bodies_take_no_place_for_long() {
    for beginning in
        ["GET /i HTTP/1.1\r\nA: ", "POST /a/b HTTP/1.1\r\nContent-Length: 100000\r\n\r\n{"]
    {
        let collector = small(4);
        let mut slow: Vec<Client> = (0..4).map(|_| collector.connect()).collect();
        slow.iter_mut().for_each(|client| client.write(beginning.as_bytes()));
        assert!(honest(&collector) < Duration::from_secs(120), "{beginning}");
        assert!(collector.running.counters.rejected(Reason::Timeout) >= 1);
        let answered = slow.iter_mut().map(Client::has_answer).filter(|&answered| answered).count();
        assert!((1..4).contains(&answered), "{answered}");
        assert_eq!(collector.records().len(), 1);
    }
}

#[test]
fn floods_of_headers_and_of_bytes_hold_no_more_than_their_limits() {
    let collector = small(64);
    let mut flooding: Vec<Client> = (0..32).map(|_| collector.connect()).collect();
    let line = format!("X: {}\r\n", "y".repeat(1_000));
    for client in &mut flooding {
        client.write(format!("GET /i HTTP/1.1\r\n{}", line.repeat(100)).as_bytes());
        assert_eq!(client.answer(false).status, 400);
        assert!(client.ended());
    }
    let garbage = [
        format!("GET /{} HTTP/1.1\r\n\r\n", "%".repeat(20_000)),
        format!("GET /i HTTP/1.1\r\nCookie: {}\r\n\r\n", "a=\";,{}\\".repeat(4_000)),
        format!("GET /i HTTP/1.1\r\nCookie: {}\r\n\r\n", ";".repeat(40_000)),
        format!("GET /i?{} HTTP/1.1\r\n\r\n", "&nuid".repeat(4_000)),
        format!("GET /i HTTP/1.1\r\nOrigin: {}\r\n\r\n", "https://a ".repeat(4_000)),
        format!("GET /i HTTP/1.1\r\nX-Forwarded-For: {}\r\n\r\n", "1.1.1.1,".repeat(4_000)),
        format!("GET /{} HTTP/1.1\r\n\r\n", "/".repeat(20_000)),
    ];
    for request in garbage {
        let status = collector.send(&request).status;
        assert!([200, 404].contains(&status), "{status}: {}", &request[..40]);
        honest(&collector);
    }
}

#[test]
fn a_post_that_cannot_be_split_sanely_becomes_one_row_and_no_flood() {
    let mut config = loopback();
    config.networking.max_record_size = 500_000;
    let collector = Collector::with(config);
    let schema = format!("iglu:{}/n/jsonschema/1-0-0", "v".repeat(499_000));
    let events = vec!["0"; 500_000].join(",");
    let body = format!("{{\"schema\":\"{schema}\",\"data\":[{events}]}}");
    let request = format!("POST /a/b HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    assert_eq!(collector.send(request).text(), "ok");
    assert_eq!((collector.records().len(), collector.bad_rows().len()), (0, 1));
    assert!(collector.running.counters.accepted_bytes() < 100_000);
    honest(&collector);
}
