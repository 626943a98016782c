//! Chromium with Snowplow's browser tracker: a page of one site, collectors of another over HTTP and HTTPS, and one of the
//! page's own site. What is stored, and what the browser keeps of the cookies, is what the guide promises.
//!
//! The tracker and what drives the browser lie in the folder that `BROWSER_DIR` names; `cargo xtask test` installs them,
//! and Chromium, and sets it. `CHROMIUM` names another browser than `/usr/bin/chromium`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must panic")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use collector::Config;
use collector::config::{SameSite, Ssl};
use collector::server::{Running, start};
use model::payload::CollectorPayload;
use model::position::Offset;
use model::time::{Clock, Timestamp};
use serde_json::{Value, json};
use stream::Stream;
use stream::memory::Memory;
use support::loopback;

/// A browser on a slow machine takes its time.
const PATIENCE: Duration = Duration::from_secs(300);
const NIL: &str = "00000000-0000-0000-0000-000000000000";

/// A browser throws cookies away that have expired by its own clock.
#[derive(Debug)]
struct RealClock;

impl Clock for RealClock {
    #[expect(clippy::disallowed_methods, reason = "a clock has to read the time somewhere")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Timestamp(i64::try_from(since.as_millis()).unwrap())
    }
}

struct Collector {
    running: Running,
    raw: Memory,
}

impl Collector {
    fn start(config: Config) -> Collector {
        let raw = Memory::new("raw", 1);
        let running = start(config, Arc::new(raw.clone()), Arc::new(RealClock)).unwrap();
        Collector { running, raw }
    }
}

/// All records, in the order in which they were stored.
fn records(raw: &Memory) -> Vec<CollectorPayload> {
    let chunk = raw.read(&raw.partitions()[0], Offset::BEGINNING, usize::MAX).unwrap();
    let payload = |bytes| CollectorPayload::decode(bytes).unwrap();
    chunk.records.iter().map(|record| payload(&record.bytes)).collect()
}

/// The application that a record's event is from: each step of the browser is one.
fn app_id(record: &CollectorPayload) -> String {
    match record.body.as_deref() {
        Some(body) => {
            let body: Value = serde_json::from_str(body).unwrap();
            body["data"][0]["aid"].as_str().unwrap().to_owned()
        }
        None => {
            let query = record.querystring.as_deref().unwrap();
            let value = query.split('&').find_map(|pair| pair.strip_prefix("aid="));
            value.unwrap().to_owned()
        }
    }
}

/// Serves the page with the tracker, and says how much of a step is stored. Ends with the test.
fn serve_page(tracker: String, raws: Vec<Memory>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = move |socket: TcpStream| -> std::io::Result<()> {
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut reader = BufReader::new(socket);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut header = String::from("-");
        while header.trim() != "" {
            header.clear();
            reader.read_line(&mut header)?;
        }
        let path = line.split(' ').nth(1).unwrap_or_default();
        let (kind, body) = if let Some(step) = path.strip_prefix("/stored/") {
            let stored = raws.iter().flat_map(records).filter(|it| app_id(it) == step).count();
            ("text/plain", stored.to_string())
        } else if path == "/sp.js" {
            ("text/javascript", tracker.clone())
        } else {
            ("text/html", "<!doctype html><title>Shop</title><script src=/sp.js></script>".into())
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        reader.get_mut().write_all(&[head.as_bytes(), body.as_bytes()].concat())
    };
    std::thread::spawn(move || {
        let answer = Arc::new(answer);
        for socket in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            // A browser opens connections ahead and says nothing on them, so each has a thread of its own; one that
            // breaks off asks again.
            std::thread::spawn(move || answer(socket));
        }
    });
    port
}

/// The folder with the browser's driver and the tracker.
fn browser_dir() -> PathBuf {
    let dir = std::env::var_os("BROWSER_DIR").map(PathBuf::from).unwrap_or_default();
    assert!(
        dir.join("node_modules/playwright-core").exists() && chromium().exists(),
        "BROWSER_DIR does not name a folder with the browser tracker, or there is no Chromium: run `cargo xtask test`, \
         which installs both"
    );
    dir
}

fn chromium() -> PathBuf {
    std::env::var_os("CHROMIUM").map_or_else(|| PathBuf::from("/usr/bin/chromium"), PathBuf::from)
}

/// Runs the driver to its end; what it said, by step.
fn drive(dir: &Path, ports: &Value) -> BTreeMap<String, Value> {
    let profile = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/drive.mjs");
    let mut child = Command::new("node")
        .arg(script)
        .args([dir.as_os_str(), chromium().as_os_str(), profile.path().as_os_str()])
        .arg(ports.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    // It has ended, as a rule.
    let _ = child.kill();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the browser's driver ended with {}: {stderr}", output.status);
    let lines = String::from_utf8(output.stdout).unwrap();
    let said = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    said.map(|said| (said["step"].as_str().unwrap().to_owned(), said)).collect()
}

/// What is stored of one step.
struct Step {
    records: Vec<CollectorPayload>,
    said: Value,
}

impl Step {
    fn ids(&self) -> Vec<&str> {
        self.records.iter().map(|record| record.network_userid.as_deref().unwrap()).collect()
    }

    /// The recorded `Cookie` header of each.
    fn cookies(&self) -> Vec<Option<&str>> {
        let cookie = |record: &'_ CollectorPayload| -> Option<usize> {
            let headers = record.headers.as_ref().unwrap();
            headers.iter().position(|header| header.starts_with("Cookie: "))
        };
        let found = self
            .records
            .iter()
            .map(|record| cookie(record).map(|at| record.headers.as_ref().unwrap()[at].as_str()));
        found.collect()
    }

    fn has_header(&self, expect: &str) -> bool {
        self.records.iter().all(|record| {
            let headers = record.headers.as_ref().unwrap();
            headers.iter().any(|header| header.eq_ignore_ascii_case(expect))
        })
    }

    /// The cookie of this name that the browser has for the collector.
    fn kept(&self, name: &str) -> Option<&Value> {
        self.said["jar"].as_array().unwrap().iter().find(|cookie| cookie["name"] == name)
    }

    /// Cookies that the page's scripts see.
    fn is_seen(&self, name: &str) -> bool {
        let seen = self.said["seen"].as_str().unwrap();
        seen.split("; ").any(|pair| pair.split('=').next() == Some(name))
    }
}

#[test]
fn a_browser_sends_over_both_schemes_across_sites_and_keeps_the_cookies_it_should() {
    let dir = browser_dir();
    let tracker = dir.join("node_modules/@snowplow/browser-tracker/dist/index.umd.min.js");
    let tracker = std::fs::read_to_string(tracker).unwrap();
    let files = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["collector.test".to_owned()]).unwrap();
    let ssl = Ssl {
        enable: true,
        port: 0,
        cert_file: Some(files.path().join("cert.pem")),
        key_file: Some(files.path().join("key.pem")),
        ..Ssl::default()
    };
    std::fs::write(ssl.cert_file.as_ref().unwrap(), made.cert.pem()).unwrap();
    std::fs::write(ssl.key_file.as_ref().unwrap(), made.signing_key.serialize_pem()).unwrap();
    let other_site = Collector::start(Config { ssl, ..loopback() });
    let mut config = loopback();
    config.cookie.secure = false;
    config.cookie.same_site = Some(SameSite::Lax);
    config.cookie.domains = vec!["shop.test".to_owned()];
    config.cookie.client_cookie_name = Some("spc".to_owned());
    let own_site = Collector::start(config);

    let page = serve_page(tracker, vec![other_site.raw.clone(), own_site.raw.clone()]);
    let ports = json!({
        "page": page,
        "plain": other_site.running.address.port(),
        "secure": other_site.running.https.unwrap().port(),
        "own": own_site.running.address.port(),
    });
    let said = drive(&dir, &ports);
    let mut steps: BTreeMap<String, Step> =
        said.into_iter().map(|(name, said)| (name, Step { records: Vec::new(), said })).collect();
    for record in [&other_site.raw, &own_site.raw].into_iter().flat_map(records) {
        steps.get_mut(&app_id(&record)).unwrap().records.push(record);
    }
    let step = |name: &str| &steps[name];

    for (name, step) in &steps {
        let count = if ["unload", "beacon"].contains(&name.as_str()) { 1 } else { 2 };
        assert_eq!(step.records.len(), count, "{name}: each event is stored once");
        for record in &step.records {
            let is_get = name.ends_with("-get");
            let path = if is_get { "/i" } else { "/com.snowplowanalytics.snowplow/tp2" };
            assert_eq!(record.path.as_deref(), Some(path), "{name}");
            assert_eq!(record.body.is_none(), is_get, "{name}");
            assert!(record.user_agent.as_deref().unwrap().contains("Chrome/"), "{name}");
        }
        assert!(step.has_header(&format!("Origin: http://www.shop.test:{page}")), "{name}");
    }

    // Over plain HTTP a browser refuses a `Secure` cookie, and `SameSite=None` wants that: every event has a new id.
    for name in ["plain-post", "plain-get"] {
        let step = step(name);
        assert_ne!(step.ids()[0], step.ids()[1], "{name}");
        assert_eq!(step.cookies(), [None, None], "{name}");
        assert!(step.kept("sp").is_none(), "{name}");
    }
    // Over HTTPS it keeps it, also for a collector of another site, and shows it to no script.
    let id = step("secure-post").ids()[0];
    let pair = format!("Cookie: sp={id}");
    let said = &step("secure-post").said;
    assert_eq!(step("secure-post").cookies(), [None, Some(pair.as_str())], "{said}");
    assert_eq!(step("secure-get").cookies(), [Some(pair.as_str()); 2]);
    for name in ["secure-post", "secure-get"] {
        let step = step(name);
        assert_eq!(step.ids(), [id, id], "{name}");
        let kept = step.kept("sp").unwrap();
        assert_eq!(kept["value"], id, "{name}");
        assert_eq!(
            (&kept["httpOnly"], &kept["secure"], &kept["sameSite"]),
            (&json!(true), &json!(true), &json!("None")),
            "{name}"
        );
        assert!(!step.is_seen("sp"), "{name}");
    }
    // What is sent while the page is left has it too.
    for name in ["unload", "beacon"] {
        let step = step(name);
        assert_eq!((step.ids(), step.cookies()), (vec![id], vec![Some(pair.as_str())]), "{name}");
    }
    // Anonymous: no id, no address, no cookie is stored. The tracker goes on to send the one that the browser has, and
    // the answer takes it away.
    for name in ["anonymous-post", "anonymous-get"] {
        let step = step(name);
        assert_eq!((step.ids(), step.cookies()), (vec![NIL, NIL], vec![None, None]), "{name}");
        assert!(step.records.iter().all(|record| record.ip_address == "unknown"), "{name}");
        assert!(step.has_header("SP-Anonymous: *"), "{name}");
        assert!(step.kept("sp").is_none(), "{name}: {}", step.said);
    }
    // A collector of the page's own site needs no TLS; the second cookie is for scripts.
    let id = step("own-post").ids()[0];
    for name in ["own-post", "own-get"] {
        let step = step(name);
        assert_eq!(step.ids(), [id, id], "{name}");
        let kept = step.kept("sp").unwrap();
        assert_eq!((&kept["domain"], &kept["sameSite"]), (&json!(".shop.test"), &json!("Lax")));
        assert!(step.is_seen("spc") && !step.is_seen("sp"), "{name}: {}", step.said);
    }
    // JSON across origins is asked for first, and so is `SP-Anonymous`.
    for collector in [&other_site, &own_site] {
        let asked = collector.running.meter.requests();
        let asked: Vec<_> = asked.filter(|(kind, _)| kind.method() == "options").collect();
        assert!(asked.iter().all(|(kind, _)| kind.status() == Some(200)), "{asked:?}");
        assert!(asked.iter().any(|(_, count)| *count > 0), "{asked:?}");
    }
}
