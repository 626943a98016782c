//! The durable collector against a bare axum handler that reads the same body and answers the same headers, each in a
//! process of its own, in turn, under the same `wrk` line on the same cores.
//!
//! `cargo bench -p collector` prints requests per second of both, the median of their ratios, the latency at half of the
//! durable load, events per second with ten events in a POST, and how its memory changes while it has all the load that
//! it can take. `wrk` must be installed. `ROUNDS` (5), `SECONDS` (5), `CONNECTIONS` (64) and `MEMORY_SECONDS` (15) change
//! the run; ten minutes of the last want 20 GB of disk. Everything stays on the loopback and ends by itself.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use model::time::{Clock, Timestamp};
use stream::disk::Disk;
use stream::local::{Local, Options};

const PATH: &str = "/com.snowplowanalytics.snowplow/tp2";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().position(|argument| argument == "--serve") {
        Some(at) => serve(&arguments[at + 1], Path::new(&arguments[at + 2])),
        None => measure(),
    }
}

fn measure() {
    let number = |name: &str, default: u32| {
        std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
    };
    let (rounds, seconds) = (number("ROUNDS", 5), number("SECONDS", 5));
    let connections = number("CONNECTIONS", 64);
    // Beside the build, so that the log is on a real disk.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let load = Load { folder: folder.path().to_owned(), seconds, connections };

    let (mut durable, mut bare, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        let of = |kind| {
            let server = Server::start(kind, folder.path());
            if kind == "durable" && round == 1 {
                server.keep_headers(folder.path());
            }
            load.run(server.address, 1, 0)
        };
        let (ours, theirs) = (of("durable"), of("bare"));
        let ratio = ours.per_second / theirs.per_second;
        println!("round {round}: durable {ours}; bare {theirs}; ratio {ratio:.2}");
        durable.push(ours.per_second);
        bare.push(theirs.per_second);
        ratios.push(ratio);
    }
    let (durable, bare) = (median(durable), median(bare));
    println!(
        "collector: 1 event per request, fsync before 200: {durable:.0} requests/s, a bare handler {bare:.0}; \
         median of the ratios {:.2}",
        median(ratios)
    );

    let server = Server::start("durable", folder.path());
    let pause_ms = f64::from(connections) / (durable / 2.0) * 1000.0;
    let half = load.run(server.address, 1, pause_ms.round() as u32);
    println!("collector: at {:.0} % of that load: {half}", half.per_second / durable * 100.0);
    drop(server);

    let server = Server::start("durable", folder.path());
    let tens = load.run(server.address, 10, 0);
    println!("collector: 10 events per request: {:.0} events/s; {tens}", tens.per_second * 10.0);
    drop(server);

    let server = Server::start("durable", folder.path());
    let load = Load { seconds: number("MEMORY_SECONDS", 15), ..load };
    println!("collector: {}", memory_under(&load, &server));
}

/// Loads a server and looks at its resident memory ten times a second: what it has as a rule in the first and in the last
/// third of the time, and their ratio. The first tenth is left out, in which buffers and caches come to be.
fn memory_under(load: &Load, server: &Server) -> String {
    let (seen, samples) = std::thread::scope(|scope| {
        let loading = scope.spawn(|| load.run(server.address, 1, 0));
        let mut samples = Vec::new();
        while !loading.is_finished() {
            samples.push(resident_bytes(server.child.id()));
            std::thread::sleep(Duration::from_millis(100));
        }
        (loading.join().expect("wrk"), samples)
    });
    let samples = &samples[samples.len() / 10..];
    let mebibytes =
        |samples: &[u64]| median(samples.iter().map(|&bytes| bytes as f64 / 1_048_576.0).collect());
    let third = samples.len() / 3;
    let (first, last) =
        (mebibytes(&samples[..third]), mebibytes(&samples[samples.len() - third..]));
    format!(
        "memory in {} s of all the load it takes ({seen}): {first:.1} MiB in the first third, {last:.1} MiB in the last, \
         ratio {:.2}",
        load.seconds,
        last / first
    )
}

fn resident_bytes(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What `wrk` is told.
struct Load {
    folder: PathBuf,
    seconds: u32,
    connections: u32,
}

/// What it saw.
struct Seen {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:.0} requests/s, p50 {:.1} ms, p99 {:.1} ms",
            self.per_second, self.p50_ms, self.p99_ms
        )
    }
}

impl Load {
    /// `pause_ms` is what each connection waits between two requests.
    fn run(&self, to: SocketAddr, events: usize, pause_ms: u32) -> Seen {
        let script = self.folder.join("post.lua");
        fs::write(&script, lua(events, pause_ms)).expect("write the script");
        let output = Command::new("wrk")
            .args(["-t1", &format!("-c{}", self.connections), &format!("-d{}s", self.seconds)])
            .args(["--timeout", "10s", "-s"])
            .arg(&script)
            .arg(format!("http://{to}{PATH}"))
            .output()
            .expect("run `wrk` (apt-get install wrk)");
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().find_map(|line| line.strip_prefix("RESULT "));
        let line = line.unwrap_or_else(|| panic!("wrk has no result:\n{text}"));
        let numbers: Vec<f64> =
            line.split(' ').map(|text| text.parse().expect("a number")).collect();
        let [requests, micros, p50, p99, refused] = numbers[..] else { panic!("{line}") };
        assert_eq!(refused, 0.0, "requests were refused or broke: {line}");
        Seen { per_second: requests / (micros / 1e6), p50_ms: p50 / 1000.0, p99_ms: p99 / 1000.0 }
    }
}

fn lua(events: usize, pause_ms: u32) -> String {
    let delay = match pause_ms {
        0 => String::new(),
        pause => format!("function delay() return {pause} end\n"),
    };
    format!(
        "wrk.method = 'POST'\n\
         wrk.body = [==[{}]==]\n\
         wrk.headers['Content-Type'] = 'application/json; charset=utf-8'\n\
         wrk.headers['User-Agent'] = '{AGENT}'\n\
         wrk.headers['Accept'] = '*/*'\n\
         wrk.headers['Accept-Language'] = 'en-GB,en;q=0.9'\n\
         wrk.headers['Origin'] = 'https://shop.example'\n\
         wrk.headers['Referer'] = 'https://shop.example/'\n\
         {delay}\
         done = function(summary, latency, requests)\n\
           local e = summary.errors\n\
           io.write(string.format('RESULT %d %d %d %d %d\\n', summary.requests, summary.duration,\n\
             latency:percentile(50), latency:percentile(99),\n\
             e.status + e.connect + e.read + e.write + e.timeout))\n\
         end\n",
        body(events)
    )
}

const AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36";

/// Page views as a browser sends them, about 1 KB each.
fn body(events: usize) -> String {
    let page = r#"{"schema":"iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-0","data":[{"schema":"iglu:com.snowplowanalytics.snowplow/web_page/jsonschema/1-0-0","data":{"id":"6a1e4a1c-9f0b-4c5e-8f43-0c2e5a7f9d10"}}]}"#;
    let event = format!(
        r#"{{"e":"pv","url":"https://shop.example/skis/all-mountain?colour=red&size=176","page":"All-mountain skis","refr":"https://search.example/?q=skis","eid":"3f2b8f5e-0f2d-4c7a-9a35-61d0c41f3b7e","tv":"js-4.6.0","tna":"shop","aid":"shop","p":"web","cookie":"1","cs":"UTF-8","lang":"en-GB","res":"1920x1080","cd":"24","tz":"Europe/Zurich","dtm":"1763990000123","stm":"1763990000456","vp":"1903x969","ds":"1903x4210","vid":"3","sid":"0b7b5a3e-2f7c-4a49-a1df-5f7f0f6f5a01","duid":"c7a3e1c4-1c5d-4c0f-9f0f-7d1a2b3c4d5e","co":{}}}"#,
        quoted(page)
    );
    let events = vec![event; events].join(",");
    format!(
        r#"{{"schema":"iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4","data":[{events}]}}"#
    )
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\\\""))
}

/// A server in a process of its own; it ends when it is dropped.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(kind: &str, folder: &Path) -> Server {
        let mut child = Command::new(std::env::current_exe().expect("our own path"))
            .args(["--serve", kind])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start a server");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("an address");
        Server { child, address: line.trim().parse().expect("an address") }
    }

    /// Keeps the headers of an answer for the bare handler.
    fn keep_headers(&self, folder: &Path) {
        let body = body(1);
        let mut socket = TcpStream::connect(self.address).expect("connect");
        let request = format!(
            "POST {PATH} HTTP/1.1\r\nHost: {}\r\nOrigin: https://shop.example\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.address,
            body.len()
        );
        socket.write_all(request.as_bytes()).expect("send");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        fs::write(folder.join("headers"), answer).expect("keep the headers");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It ends when its stdin does.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The child: prints its address and serves until stdin ends.
fn serve(kind: &str, folder: &Path) {
    match kind {
        "durable" => serve_durable(folder),
        "bare" => serve_bare(folder),
        other => panic!("no server is called {other}"),
    }
}

#[derive(Debug)]
struct System;

impl Clock for System {
    #[expect(clippy::disallowed_methods, reason = "a clock has to read the time somewhere")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp(since.expect("after 1970").as_millis() as i64)
    }
}

fn serve_durable(folder: &Path) {
    let folder = tempfile::tempdir_in(folder).expect("a folder for the log");
    let raw = Local::open(Arc::new(Disk), folder.path(), "raw", 2, Options::default());
    let config = collector::Config {
        bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: 0,
        ..collector::Config::default()
    };
    let raw = Arc::new(raw.expect("an empty log"));
    let running = collector::server::start(config, raw, Arc::new(System)).expect("the collector");
    announce(running.address);
    running.shutdown();
}

fn serve_bare(folder: &Path) {
    let headers = kept_headers(folder);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
    let listener = listener.expect("a free port");
    let address = listener.local_addr().expect("its address");
    let handler = move |body: Bytes| {
        let answer = answer(&headers, &body);
        async move { answer }
    };
    let router = axum::Router::new().route(PATH, post(handler));
    runtime.spawn(async move { axum::serve(listener, router).await });
    announce(address);
    runtime.shutdown_background();
}

fn announce(address: SocketAddr) {
    println!("{address}");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// Those of the collector's answer that the HTTP library does not set by itself.
fn kept_headers(folder: &Path) -> HeaderMap {
    let text = fs::read_to_string(folder.join("headers")).expect("the headers are kept");
    let head = text.split("\r\n\r\n").next().unwrap_or_default();
    let by_itself = ["date", "content-length", "connection"];
    head.lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .filter(|(name, _)| !by_itself.contains(&name.to_ascii_lowercase().as_str()))
        .map(|(name, value)| {
            let name = HeaderName::try_from(name).expect("a name");
            (name, HeaderValue::try_from(value).expect("a value"))
        })
        .collect()
}

/// A fresh network user id in the cookie, as the collector gives a new visitor.
fn answer(headers: &HeaderMap, body: &Bytes) -> Response {
    std::hint::black_box(body);
    let mut headers = headers.clone();
    if let Some(cookie) = headers.get_mut("set-cookie") {
        let text = cookie.to_str().expect("printable");
        let rest = text.split_once(';').map_or("", |(_, rest)| rest);
        let text = format!("sp={};{rest}", uuid::Uuid::new_v4());
        *cookie = HeaderValue::try_from(text).expect("printable");
    }
    (headers, "ok").into_response()
}
