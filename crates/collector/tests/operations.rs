//! What an operator relies on: HTTPS and its certificate's renewal, health under overload, metrics that are sent, the
//! access log.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must panic")]

mod support;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use collector::config::{AccessLog, Health, Ssl, Statsd};
use collector::server::{Running, start};
use model::payload::CollectorPayload;
use model::secret::Secret;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stream::memory::Memory;
use support::{Client, Collector, FixedClock, loopback};
use tempfile::TempDir;

/// Writes a certificate of `localhost`; returns it.
fn write_certificate(ssl: &Ssl) -> rustls::pki_types::CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(ssl.cert_file.as_ref().unwrap(), made.cert.pem()).unwrap();
    std::fs::write(ssl.key_file.as_ref().unwrap(), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

fn ssl(dir: &Path) -> Ssl {
    Ssl {
        enable: true,
        port: 0,
        cert_file: Some(dir.join("cert.pem")),
        key_file: Some(dir.join("key.pem")),
        ..Ssl::default()
    }
}

/// A request over TLS by somebody who trusts this certificate alone; `None` when there is no connection.
fn over_tls(
    address: SocketAddr,
    trusted: &rustls::pki_types::CertificateDer<'static>,
    request: &str,
) -> Option<String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut tls = rustls::Stream::new(&mut client, &mut socket);
    tls.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    // The pixel is no text, and the end of a connection without a farewell is an end all the same.
    let _ = tls.read_to_end(&mut answer);
    Some(String::from_utf8_lossy(&answer).into_owned())
}

const EVENT: &str = "GET /i?e=pv HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

fn with_ssl(ssl: Ssl) -> (Running, Memory) {
    let raw = Memory::new("raw", 1);
    let config = collector::Config { ssl, ..loopback() };
    (start(config, Arc::new(raw.clone()), Arc::new(FixedClock)).unwrap(), raw)
}

#[test]
fn events_come_over_https_and_a_renewed_certificate_needs_no_restart() {
    let dir = TempDir::new().unwrap();
    let ssl = ssl(dir.path());
    let first = write_certificate(&ssl);
    let (running, _raw) = with_ssl(ssl.clone());
    let https = running.https.unwrap();
    let answer = over_tls(https, &first, EVENT).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\nSet-Cookie: sp="), "{answer}");
    assert!(running.https != Some(running.address), "plain HTTP has a port of its own");

    let second = write_certificate(&ssl);
    assert!(over_tls(https, &second, EVENT).is_none(), "not before it is read");
    running.reload().unwrap();
    assert!(over_tls(https, &second, EVENT).unwrap().starts_with("HTTP/1.1 200"));
    assert!(over_tls(https, &first, EVENT).is_none());

    std::fs::write(ssl.key_file.as_ref().unwrap(), "half a fi").unwrap();
    let error = running.reload().unwrap_err().to_string();
    assert!(error.contains("collector.ssl.key-file") && error.contains("key.pem"), "{error}");
    assert!(
        over_tls(https, &second, EVENT).unwrap().starts_with("HTTP/1.1 200"),
        "the old one goes on"
    );
    assert_eq!(running.counters.accepted(), 3);
}

#[test]
fn the_key_may_come_from_a_store_as_java_has_it() {
    let stores = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/key-stores");
    for made_by in ["openssl", "keytool"] {
        let certificate = std::fs::read(stores.join(format!("{made_by}.der"))).unwrap();
        let ssl = Ssl {
            enable: true,
            port: 0,
            key_store: Some(stores.join(format!("{made_by}.p12"))),
            key_store_password: Some(Secret::new("snow-melt")),
            ..Ssl::default()
        };
        let (running, _raw) = with_ssl(ssl.clone());
        let answer = over_tls(running.https.unwrap(), &certificate.into(), EVENT).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{made_by}: {answer}");

        let wrong = Ssl { key_store_password: Some(Secret::new("guess")), ..ssl };
        let config = collector::Config { ssl: wrong, ..loopback() };
        let raw = Arc::new(Memory::new("raw", 1));
        let error = start(config, raw, Arc::new(FixedClock)).unwrap_err().to_string();
        assert!(error.contains("`collector.ssl.key-store`"), "{error}");
        assert!(error.contains("`key-store-password`") && !error.contains("guess"), "{error}");
    }
}

#[test]
fn plain_http_is_sent_to_https_or_not_served_at_all() {
    let dir = TempDir::new().unwrap();
    let both = Ssl { redirect: true, ..ssl(dir.path()) };
    write_certificate(&both);
    let (running, raw) = with_ssl(both.clone());
    let mut client = Client::new(running.address);
    client.write(b"GET /i?e=pv HTTP/1.1\r\nHost: localhost:8080\r\n\r\n");
    let answer = client.answer(false);
    assert_eq!(answer.status, 301);
    let https = format!("https://localhost:{}/i?e=pv", running.https.unwrap().port());
    assert_eq!(answer.header("Location"), Some(https.as_str()));
    assert_eq!(running.counters.accepted(), 0);
    drop((running, raw));
    let (running, _raw) = with_ssl(Ssl { only: true, redirect: false, ..both });
    assert_eq!(running.https, Some(running.address));
}

#[test]
fn a_missing_certificate_stops_the_start_by_name() {
    let dir = TempDir::new().unwrap();
    let config = collector::Config { ssl: ssl(dir.path()), ..loopback() };
    let error = start(config, Arc::new(Memory::new("raw", 1)), Arc::new(FixedClock)).unwrap_err();
    assert!(error.to_string().contains("`collector.ssl.cert-file`"), "{error}");
}

#[test]
fn the_health_port_answers_in_milliseconds_while_every_connection_is_taken() {
    let mut config = loopback();
    config.health = Health { port: Some(0) };
    config.networking.max_connections = 8;
    let collector = Collector::with(config);
    // All connections are held by clients that say nothing, and more wait in the queue.
    let idle: Vec<TcpStream> =
        (0..40).map(|_| TcpStream::connect(collector.running.address).unwrap()).collect();
    let health = collector.running.health.unwrap();
    let mut times = Vec::new();
    for path in ["/health", "/sink-health"].repeat(20) {
        let begun = Instant::now();
        let mut client = Client::new(health);
        client.write(format!("GET {path} HTTP/1.1\r\nHost: c\r\n\r\n").as_bytes());
        let answer = client.answer(false);
        times.push(begun.elapsed());
        assert_eq!((answer.status, answer.text()), (200, "ok"));
        assert!(client.ended());
    }
    times.sort();
    assert!(times[times.len() / 2] < Duration::from_secs(1), "{times:?}");
    let mut client = Client::new(health);
    client.write(b"GET /i HTTP/1.1\r\nHost: c\r\n\r\n");
    assert_eq!(client.answer(false).status, 404, "nothing else is there");
    let mut client = Client::new(health);
    client.write(b"HEAD /health HTTP/1.1\r\nHost: c\r\n\r\n");
    assert_eq!(client.answer(true).header("Content-Length"), Some("2"));
    drop(idle);
}

#[test]
fn an_agent_hears_of_requests_and_the_log_has_them() {
    let agent = UdpSocket::bind("127.0.0.1:0").unwrap();
    agent.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("access.log");
    let mut config = loopback();
    config.access_log = AccessLog { enabled: true, file: Some(file.clone()) };
    config.monitoring.metrics.statsd = Statsd {
        enabled: true,
        hostname: "127.0.0.1".to_owned(),
        port: agent.local_addr().unwrap().port(),
        // Only the end of the process is heard of.
        period: Duration::from_secs(3600),
        ..Statsd::default()
    };
    let collector = Collector::with(config);
    collector.send("GET /i?e=pv&secret=1 HTTP/1.1\r\nHost: c\r\n\r\n");
    collector.send("GET /health HTTP/1.1\r\nHost: c\r\n\r\n");
    collector.send("POST /com.acme/track HTTP/1.1\r\nHost: c\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}");
    collector.send("nonsense\r\n\r\n");
    let requests: Vec<_> = collector.running.meter.requests().collect();
    assert_eq!(requests.len(), 2, "neither health nor nonsense is measured: {requests:?}");
    assert_eq!(collector.running.meter.active(), 0);
    drop(collector);
    let mut heard = String::new();
    while !heard.contains("requests_count:1|c|#method:post,status_code:200,status_bucket:2xx") {
        let mut packet = [0; 2048];
        let length = agent.recv(&mut packet).unwrap();
        heard.push_str(str::from_utf8(&packet[..length]).unwrap());
        heard.push('\n');
    }
    assert!(heard.contains("snowplow.collector.requests_count:1|c|#method:get,"), "{heard}");
    let log = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 2, "{log}");
    assert!(lines[0].contains("\"method\":\"get\",\"path\":\"/i\",\"status\":200"), "{log}");
    assert!(lines[1].contains("\"path\":\"/com.acme/track\",\"status\":200"), "{log}");
    assert!(!log.contains("secret") && !log.contains("127.0.0.1"), "{log}");
}

#[test]
fn a_log_that_was_moved_away_is_begun_anew_at_a_reload() {
    let dir = TempDir::new().unwrap();
    let (file, moved) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
    let mut config = loopback();
    config.access_log = AccessLog { enabled: true, file: Some(file.clone()) };
    let collector = Collector::with(config);
    let lines = |file: &Path| std::fs::read_to_string(file).unwrap_or_default().lines().count();
    let until = |what: &str, so: &dyn Fn() -> bool| {
        let patience = Instant::now() + Duration::from_secs(30);
        while !so() {
            assert!(Instant::now() < patience, "{what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    collector.send("GET /a/before HTTP/1.1\r\n\r\n");
    until("the first line is written", &|| lines(&file) == 1);
    std::fs::rename(&file, &moved).unwrap();
    collector.send("GET /a/between HTTP/1.1\r\n\r\n");
    until("nobody has said that it was moved", &|| lines(&moved) == 2);
    collector.running.reload().unwrap();
    // Nothing more needs to happen for the new file to be there, as rotation with compression wants it.
    until("there is a new file", &|| file.exists());
    collector.send("GET /a/after HTTP/1.1\r\n\r\n");
    until("and the log goes on in it", &|| lines(&file) == 1);
    assert!(std::fs::read_to_string(&file).unwrap().contains("/a/after"));
    assert_eq!(lines(&moved), 2);

    // A place where no file can be made: the old one stays in use.
    std::fs::rename(dir.path(), dir.path().with_extension("gone")).unwrap();
    collector.running.reload().unwrap();
    collector.send("GET /a/more HTTP/1.1\r\n\r\n");
    let gone = dir.path().with_extension("gone");
    until("the old file goes on", &|| lines(&gone.join("access.log")) == 2);
    drop(collector);
    std::fs::rename(gone, dir.path()).unwrap();
}

#[test]
fn what_is_too_large_for_a_record_is_kept_whole_until_the_folder_is_full() {
    let dir = TempDir::new().unwrap();
    let mut config = loopback();
    config.networking.max_record_size = 2_000;
    config.oversized.keep = true;
    config.oversized.dir = Some(dir.path().join("kept"));
    config.oversized.max_bytes = 8_000;
    let collector = Collector::with(config);
    let query = format!("e=pv&url={}", "u".repeat(2_500));
    let pixel = format!("GET /i?{query} HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(collector.send(&pixel).status, 200);
    let events = format!(r#"[{{"e":"pv"}},{{"e":"{}"}}]"#, "v".repeat(2_100));
    let body = format!(r#"{{"schema":"iglu:a/b/jsonschema/1-0-0","data":{events}}}"#);
    let length = body.len();
    let post = format!("POST /a/b HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{body}");
    assert_eq!(collector.send(&post).status, 200);

    // A line of Base64 is a third longer than the payload: a third one has no room.
    assert_eq!(collector.send(&pixel).status, 200, "the bad row is there all the same");
    let counters = &collector.running.counters;
    assert_eq!((counters.oversized_kept(), counters.oversized_not_kept()), (2, 1));
    let violations: Vec<(&str, u64)> = counters
        .violations()
        .filter(|(_, count)| *count > 0)
        .map(|(violation, count)| (violation.as_str(), count))
        .collect();
    assert_eq!(violations, [("no_body", 2), ("event", 1)]);
    assert_eq!((collector.bad_rows().len(), collector.records().len()), (3, 1));

    let mut names: Vec<_> = std::fs::read_dir(dir.path().join("kept"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    let kept = names.iter().map(|path| {
        let line = std::fs::read_to_string(path).unwrap();
        let bytes = STANDARD.decode(line.strip_suffix('\n').unwrap()).unwrap();
        CollectorPayload::decode(&bytes).unwrap()
    });
    let [pixel, post]: [CollectorPayload; 2] = kept.collect::<Vec<_>>().try_into().unwrap();
    assert_eq!((pixel.querystring, pixel.body), (Some(query), None));
    assert_eq!(post.body, Some(body));
}
