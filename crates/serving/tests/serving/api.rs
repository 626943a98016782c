//! The HTTP API over a real socket.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use serving::config::Secret;
use serving::server::{Ports, Running, start};
use serving::{
    BatchAnswer, BatchRequest, Check, Config, Control, ControlError, Error, Failure, Health,
};
use stream::disk::Disk;

use crate::world::*;

struct Roles {
    health: Health,
}

impl Control for Roles {
    fn batch<'a>(
        &'a self,
        request: BatchRequest,
    ) -> BoxFuture<'a, Result<BatchAnswer, ControlError>> {
        // The two ways in are told apart by their answers.
        let iteration = if request.rebuild { 8 } else { 7 };
        async move { Ok(BatchAnswer { iteration, published: true }) }.boxed()
    }

    fn status(&self) -> Value {
        json!({"roles": ["server"]})
    }

    fn metrics(&self) -> String {
        "snowmelt_up 1\n".to_owned()
    }

    fn health(&self) -> Health {
        self.health.clone()
    }
}

pub(crate) fn config() -> Config {
    Config { http_port: 0, pg_port: 0, ..Config::default() }
}

pub(crate) fn serve(world: &World, config: &Config) -> Result<Running, Error> {
    serve_with(world, config, Health::default())
}

fn serve_with(world: &World, config: &Config, health: Health) -> Result<Running, Error> {
    let ends = world.log.ends();
    let ports = Ports {
        lambda: world.lambda.clone(),
        control: Arc::new(Roles { health }),
        files: Arc::new(Disk),
        data_dir: world.dir.path().to_owned(),
        raw_ends: Arc::new(move || ends.clone()),
        generations_kept: 1,
    };
    start(config, ports)
}

/// Status, head and body of the answer to a request that is written as it is.
fn send(to: SocketAddr, request: &str) -> (u16, String, String) {
    let mut socket = TcpStream::connect(to).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), body.to_owned())
}

fn get(to: SocketAddr, path: &str) -> (u16, String, String) {
    send(to, &format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n"))
}

fn post(to: SocketAddr, path: &str, body: &str) -> (u16, Value) {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    let (status, head, body) = send(to, &(head + body));
    assert!(head.contains("content-type: application/json"), "{head}");
    (status, serde_json::from_str(&body).unwrap())
}

/// The text of `GET /metrics`.
pub(crate) fn metrics(to: SocketAddr) -> String {
    get(to, "/metrics").2
}

/// The HTTP status of a statement.
pub(crate) fn sql_status(to: SocketAddr, sql: &str) -> u16 {
    post(to, "/api/v1/sql", &json!({"sql": sql}).to_string()).0
}

fn code(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap();
    let error = body["error"].as_object().unwrap();
    assert!(error["message"].is_string() && error["hint"].is_string());
    error["code"].as_str().unwrap().to_owned()
}

#[test]
fn a_statement_is_answered_in_the_documented_shape() {
    let world = World::new(small_log());
    world.see(0, 9);
    world.commit(&cut(&[(0, 5)]));
    let server = serve(&world, &config()).unwrap();
    let sql = "select app_id, domain_sessionidx, tr_total, collector_tstamp, br_cookies, refr_medium from atomic.events \
               order by _partition, _offset, _index limit 1";
    let (status, answer) = post(server.http, "/api/v1/sql", &json!({"sql": sql}).to_string());
    assert_eq!(status, 200);
    let expected = json!({
        "columns": [
            {"name": "app_id", "type": "text"},
            {"name": "domain_sessionidx", "type": "integer"},
            {"name": "tr_total", "type": "decimal(18,2)"},
            {"name": "collector_tstamp", "type": "timestamp"},
            {"name": "br_cookies", "type": "boolean"},
            {"name": "refr_medium", "type": "text"},
        ],
        "rows": [["app0", 0, "0.25", "2023-11-14T22:13:20.000Z", true, null]],
        "cut": {"raw/0": "00000000000000000005"},
        "frontier": {"raw/0": "00000000000000000009"},
        "iteration": 1,
    });
    assert_eq!(answer, expected);
    assert!(server.shutdown(Duration::from_secs(30)));
}

#[test]
fn errors_are_json_and_say_what_to_do() {
    let world = World::new(Log::default());
    let server = serve(&world, &config()).unwrap();
    let to = server.http;
    let (status, answer) = post(to, "/api/v1/sql", r#"{"sql":"drop table atomic.events"}"#);
    assert_eq!(status, 403);
    assert_eq!(answer["error"]["code"], "read_only");
    assert!(answer["error"]["hint"].as_str().unwrap().contains("SELECT"));
    for (body, expected) in [
        ("", "invalid_json"),
        ("{", "invalid_json"),
        ("{}", "invalid_json"),
        (r#"{"sql":1}"#, "invalid_json"),
        (r#"{"sql":"select 1","limit":1}"#, "invalid_json"),
        (r#"{"sql":"selekt"}"#, "syntax_error"),
        (r#"{"sql":"select * from nowhere"}"#, "invalid_statement"),
    ] {
        let (status, answer) = post(to, "/api/v1/sql", body);
        assert_eq!((status, answer["error"]["code"].as_str().unwrap()), (400, expected), "{body}");
    }
    let (status, _, body) = get(to, "/nothing");
    assert_eq!((status, code(&body)), (404, "not_found".to_owned()));
    let (status, _, body) = get(to, "/api/v1/sql");
    assert_eq!((status, code(&body)), (405, "method_not_allowed".to_owned()));
    let nowhere = "POST /nothing HTTP/1.0\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}";
    let (status, _, body) = send(to, nowhere);
    assert_eq!((status, code(&body)), (404, "not_found".to_owned()));
    let no_type = "POST /api/v1/sql HTTP/1.0\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}";
    let (status, _, body) = send(to, no_type);
    assert_eq!((status, code(&body)), (415, "unsupported_media_type".to_owned()));
    let text = "POST /api/v1/batch HTTP/1.0\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(send(to, text).0, 415);
    let long = format!(r#"{{"sql":"{}"}}"#, "x".repeat(1 << 20));
    let (status, answer) = post(to, "/api/v1/sql", &long);
    assert_eq!((status, answer["error"]["code"].as_str().unwrap()), (413, "body_too_large"));
    assert!(server.shutdown(Duration::from_secs(30)));
}

#[test]
fn status_metrics_health_and_batch_reach_the_process() {
    let world = World::new(small_log());
    world.commit(&cut(&[(0, 5)]));
    let server = serve(&world, &config()).unwrap();
    let to = server.http;
    let (status, _, body) = get(to, "/api/v1/status");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["iteration"], &body["roles"]), (200, &json!(1), &json!(["server"])));
    assert_eq!(body["cut"], json!({"raw/0": "00000000000000000005"}));
    assert_eq!(post(to, "/api/v1/sql", r#"{"sql":"select 1"}"#).0, 200);
    let (status, head, body) = get(to, "/metrics");
    assert_eq!(status, 200);
    assert!(head.contains("text/plain"));
    for line in [
        "snowmelt_up 1\n",
        "snowmelt_sql_statements_total{code=\"ok\"} 1\n",
        "snowmelt_served_iteration 1\n",
    ] {
        assert!(body.contains(line), "{line}: {body}");
    }
    assert_eq!(get(to, "/health").0, 200);
    let done = post(to, "/api/v1/batch", "{}");
    assert_eq!(done, (200, json!({"iteration": 7, "published": true})));
    let done = post(to, "/api/v1/batch", r#"{"rebuild":false,"heal":false}"#);
    assert_eq!(done, (200, json!({"iteration": 7, "published": true})));
    let done = post(to, "/api/v1/batch", r#"{"rebuild":true}"#);
    assert_eq!(done, (200, json!({"iteration": 8, "published": true})));
    let (status, answer) = post(to, "/api/v1/batch", r#"{"heal":true}"#);
    assert_eq!((status, answer["error"]["code"].as_str().unwrap()), (400, "not_available"));
    assert_eq!(post(to, "/api/v1/batch", r#"{"rebuilt":true}"#).0, 400);
    assert!(server.shutdown(Duration::from_secs(30)));
    let failure = Failure { message: "the disk is full".into(), hint: "free some".into() };
    let checks = vec![
        Check { name: "log", failure: None },
        Check { name: "disk", failure: Some(failure.clone()) },
    ];
    let warned = Health { checks: checks[..1].to_vec(), warnings: vec![failure] };
    let unwell = serve_with(&world, &config(), Health { checks, warnings: Vec::new() }).unwrap();
    let (status, _, body) = get(unwell.http, "/health");
    assert_eq!(status, 503);
    let expect = json!({
        "status": "failing",
        "error": {"code": "unwell", "message": "the disk is full", "hint": "free some"},
        "checks": [
            {"name": "log", "status": "ok"},
            {"name": "disk", "status": "failing", "message": "the disk is full", "hint": "free some"},
        ],
    });
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), expect);
    assert!(unwell.shutdown(Duration::from_secs(30)));

    let well = serve_with(&world, &config(), warned).unwrap();
    let (status, _, body) = get(well.http, "/health");
    assert_eq!(status, 200, "a warning is no failure");
    let expect = json!({
        "status": "ok",
        "checks": [{"name": "log", "status": "ok"}],
        "warnings": [{"message": "the disk is full", "hint": "free some"}],
    });
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), expect);
    assert!(well.shutdown(Duration::from_secs(30)));
}

#[test]
fn a_foreign_host_is_refused_and_no_cors_header_is_sent() {
    let world = World::new(Log::default());
    let server = serve(&world, &config()).unwrap();
    for path in ["/health", "/metrics", "/api/v1/status", "/nothing"] {
        let request =
            format!("GET {path} HTTP/1.0\r\nHost: evil.example:{}\r\n\r\n", server.http.port());
        let (status, _, body) = send(server.http, &request);
        assert_eq!((status, code(&body)), (403, "host_not_allowed".to_owned()));
    }
    assert_eq!(send(server.http, "GET /health HTTP/1.0\r\n\r\n").0, 403);
    let request = format!(
        "GET /health HTTP/1.0\r\nHost: {}\r\nOrigin: http://evil.example\r\n\r\n",
        server.http
    );
    let (status, head, _) = send(server.http, &request);
    assert_eq!(status, 200);
    assert!(!head.contains("access-control"), "{head}");
    let preflight = "OPTIONS /api/v1/sql HTTP/1.0\r\nHost: localhost\r\nOrigin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\n\r\n";
    let (status, head, _) = send(server.http, preflight);
    assert_eq!(status, 405);
    assert!(!head.contains("access-control"), "{head}");
    assert!(server.shutdown(Duration::from_secs(30)));
}

#[test]
fn with_a_password_everything_but_health_wants_it() {
    let world = World::new(Log::default());
    let config = Config { password: Some(Secret::new("s3cret")), ..config() };
    let server = serve(&world, &config).unwrap();
    let ask = |path: &str, header: &str| {
        send(server.http, &format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n{header}\r\n"))
    };
    assert_eq!(ask("/health", "").0, 200);
    for path in ["/metrics", "/api/v1/status", "/nothing"] {
        let (status, head, body) = ask(path, "");
        assert_eq!((status, code(&body)), (401, "unauthorized".to_owned()));
        assert!(head.contains("www-authenticate: basic"), "{head}");
        assert_eq!(ask(path, "Authorization: Bearer wrong\r\n").0, 401);
    }
    assert_eq!(ask("/metrics", "Authorization: Bearer s3cret\r\n").0, 200);
    // snowmelt:s3cret
    assert_eq!(ask("/metrics", "Authorization: Basic c25vd21lbHQ6czNjcmV0\r\n").0, 200);
    assert!(server.shutdown(Duration::from_secs(30)));
}

#[test]
fn an_open_bind_without_a_password_does_not_start() {
    let world = World::new(Log::default());
    let open = Config { bind: IpAddr::from([0, 0, 0, 0]), ..config() };
    match serve(&world, &open) {
        Err(Error::OpenWithoutPassword(_)) => {}
        other => panic!("{other:?}"),
    }
    let safe = Config { password: Some(Secret::new("x")), ..open };
    assert!(serve(&world, &safe).unwrap().shutdown(Duration::from_secs(30)));
}

#[test]
fn a_taken_port_is_named_with_its_key() {
    let world = World::new(Log::default());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = serve(&world, &Config { http_port: port, ..config() }).unwrap_err().to_string();
    assert!(
        error.contains(&format!("127.0.0.1:{port}")) && error.contains("server.http-port"),
        "{error}"
    );
}

const ENDLESS: &str =
    r#"{"sql":"select count(*) from generate_series(1, 1000000000000) a(x) where x % 7 = 8"}"#;

/// Sends a statement that does not end, and waits until it runs.
fn begin_endless(to: SocketAddr) -> TcpStream {
    let mut socket = TcpStream::connect(to).unwrap();
    let length = ENDLESS.len();
    write!(socket, "POST /api/v1/sql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{ENDLESS}").unwrap();
    wait_for(to, "snowmelt_sql_running 1\n");
    socket
}

fn wait_for(to: SocketAddr, line: &str) {
    let patience = Instant::now() + Duration::from_secs(60);
    while !get(to, "/metrics").2.contains(line) {
        assert!(Instant::now() < patience, "{line} does not come");
    }
}

#[test]
fn a_statement_is_cancelled_when_its_client_leaves() {
    let world = World::new(Log::default());
    let server =
        serve(&world, &Config { statement_timeout: Duration::from_secs(600), ..config() }).unwrap();
    let socket = begin_endless(server.http);
    drop(socket);
    wait_for(server.http, "snowmelt_sql_running 0\n");
    assert!(server.shutdown(Duration::from_secs(30)));
}

#[test]
fn shutdown_cancels_what_does_not_end_in_time() {
    let world = World::new(Log::default());
    let server =
        serve(&world, &Config { statement_timeout: Duration::from_secs(600), ..config() }).unwrap();
    let to = server.http;
    let _socket = begin_endless(to);
    let started = Instant::now();
    assert!(!server.shutdown(Duration::from_millis(200)));
    assert!(started.elapsed() < Duration::from_secs(300));
    assert!(TcpStream::connect(to).is_err());
}

#[test]
fn a_long_answer_is_streamed_whole() {
    let world = World::new(Log::default());
    let server = serve(&world, &config()).unwrap();
    let body = r#"{"sql":"select x, repeat('y', 100) from generate_series(1, 20000) a(x)"}"#;
    let (status, answer) = post(server.http, "/api/v1/sql", body);
    assert_eq!(status, 200);
    let rows = answer["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 20_000);
    let sum: u64 = rows.iter().map(|row| row[0].as_u64().unwrap()).sum();
    assert_eq!(sum, 20_000 * 20_001 / 2);
    assert!(server.shutdown(Duration::from_secs(30)));
}
