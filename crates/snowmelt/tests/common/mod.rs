//! A real `snowmelt up` in a child process, for the tests of the whole binary.
//!
//! Ports are free ones, the environment holds no keys of ours, and the child is killed by its id when its handle is
//! dropped. What the child wrote to stderr is shown when a test fails.

// Each test file compiles this one for itself, and none uses all of it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long a start may take on a slow machine under load.
const START_DEADLINE: Duration = Duration::from_secs(120);

/// A running server.
pub struct Up {
    pub child: Child,
    /// `host:port` of the collector.
    pub collector: String,
    /// `host:port` of the API.
    pub http: String,
    /// `host:port` of the Postgres wire.
    pub pg: String,
    pub data_dir: PathBuf,
    stderr: Arc<Mutex<String>>,
}

/// A start that did not come to be.
#[derive(Debug)]
pub struct NotUp {
    pub status: ExitStatus,
    pub stderr: String,
}

impl Up {
    /// Starts a server, and returns when it is ready. `settings` are `KEY=VALUE`, as after `--set`.
    pub fn start(data_dir: &Path, settings: &[&str]) -> Up {
        Up::try_start(data_dir, settings)
            .unwrap_or_else(|not_up| panic!("no start: {}\n{}", not_up.status, not_up.stderr))
    }

    /// As [`Up::start`]; the end of the process before it is ready is an answer too.
    pub fn try_start(data_dir: &Path, settings: &[&str]) -> Result<Up, NotUp> {
        let defaults = [
            "collector.bind=127.0.0.1",
            "collector.port=0",
            "server.http-port=0",
            "server.pg-port=0",
            // Other programs fill the disk of a test machine; what is tested is not that.
            "stream.disk-reserve=0",
        ];
        let mut command = snowmelt(["up", "--data-dir"]);
        command.arg(data_dir);
        for setting in defaults.iter().chain(settings) {
            command.args(["--set", setting]);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = Arc::new(Mutex::new(String::new()));
        let collecting = collect(child.stderr.take().unwrap(), Arc::clone(&stderr));
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let line = match lines.recv_timeout(START_DEADLINE) {
            Ok(line) => line,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("not ready after {START_DEADLINE:?}:\n{}", stderr.lock().unwrap());
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let status = child.wait().unwrap();
                collecting.join().unwrap();
                let stderr = stderr.lock().unwrap().clone();
                return Err(NotUp { status, stderr });
            }
        };
        let part = |name: &str| {
            let value = line.split(' ').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or_else(|| panic!("no `{name}` in `{line}`")).to_owned()
        };
        assert!(line.starts_with("ready "), "{line}");
        let (collector, http, pg) = (part("collector"), part("http"), part("pg"));
        Ok(Up { child, collector, http, pg, data_dir: data_dir.to_owned(), stderr })
    }

    /// The rows of one statement.
    pub fn sql(&self, statement: &str) -> Vec<Vec<Value>> {
        self.try_sql(statement).unwrap_or_else(|(status, error)| {
            panic!("`{statement}` was answered {status}: {error}\n{}", self.stderr())
        })
    }

    /// The rows of one statement, or status and body of the refusal.
    pub fn try_sql(&self, statement: &str) -> Result<Vec<Vec<Value>>, (u16, Value)> {
        let (status, answer) = self.post_json("/api/v1/sql", &json!({"sql": statement}));
        if status != 200 {
            return Err((status, answer));
        }
        let rows = answer["rows"].as_array().unwrap();
        Ok(rows.iter().map(|row| row.as_array().unwrap().clone()).collect())
    }

    /// The one number that a statement answers.
    pub fn number(&self, statement: &str) -> u64 {
        let rows = self.sql(statement);
        rows[0][0].as_u64().unwrap_or_else(|| panic!("`{statement}` answered {rows:?}"))
    }

    /// Events and bad rows together.
    pub fn rows(&self) -> u64 {
        self.number(
            "SELECT (SELECT count(*) FROM atomic.events) + (SELECT count(*) FROM atomic.bad_rows)",
        )
    }

    /// One iteration now; its number.
    pub fn batch_run(&self) -> u64 {
        self.iterate(&json!({}))
    }

    /// A new generation now; the number of the iteration that brought it in.
    pub fn rebuild(&self) -> u64 {
        self.iterate(&json!({"rebuild": true}))
    }

    fn iterate(&self, what: &Value) -> u64 {
        let (status, answer) = self.post_json("/api/v1/batch", what);
        assert_eq!(status, 200, "{answer}\n{}", self.stderr());
        answer["iteration"].as_u64().unwrap()
    }

    /// Status and body of a POST to the API.
    pub fn post_json(&self, path: &str, body: &Value) -> (u16, Value) {
        let url = format!("http://{}{path}", self.http);
        let mut answer = agent()
            .post(&url)
            .header("Content-Type", "application/json")
            .send(body.to_string())
            .unwrap_or_else(|error| panic!("{url}: {error}\n{}", self.stderr()));
        let status = answer.status().as_u16();
        let text = answer.body_mut().with_config().limit(u64::MAX).read_to_string().unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Status and text of a GET from the API.
    pub fn get(&self, path: &str) -> (u16, String) {
        let mut answer = agent().get(format!("http://{}{path}", self.http)).call().unwrap();
        (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
    }

    /// Status and body of the API's status.
    pub fn status(&self) -> Value {
        serde_json::from_str(&self.get("/api/v1/status").1).unwrap()
    }

    /// Posts page views with these event ids in one request; the status.
    pub fn send_ids<T: AsRef<str>>(&self, ids: &[T]) -> u16 {
        self.post_tp2(body_of(ids).to_string().as_bytes())
    }

    /// Posts a tp2 body; the status.
    pub fn post_tp2(&self, body: &[u8]) -> u16 {
        let url = format!("http://{}/com.snowplowanalytics.snowplow/tp2", self.collector);
        let answer = agent().post(&url).header("Content-Type", "application/json").send(body);
        answer.unwrap_or_else(|error| panic!("{url}: {error}\n{}", self.stderr())).status().as_u16()
    }

    /// Writes these bytes to the collector, ends the sending side, and reads until it closes or nothing comes for a
    /// while.
    pub fn raw_request(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(&self.collector).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        // The collector may close while we still write.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// What the child has written to stderr up to now.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Ends the process as a loss of power would, as far as a process can: nothing of it runs any more.
    pub fn kill9(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks the process to end, and waits for it.
    pub fn terminate(mut self) -> ExitStatus {
        self.ask_to_end();
        self.wait(Duration::from_secs(30))
    }

    /// Sends SIGTERM.
    pub fn ask_to_end(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// Lets the process stand still, as a debugger or a host under pressure does.
    pub fn suspend(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for the end of the process.
    pub fn wait(&mut self, at_most: Duration) -> ExitStatus {
        let deadline = Instant::now() + at_most;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "still running after {at_most:?}\n{}",
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // Fails when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("stderr of the server:\n{}", self.stderr());
        }
    }
}

/// `snowmelt send` in the background.
pub struct Load {
    child: Child,
    ids: PathBuf,
}

impl Load {
    /// Starts it; the ids of all accepted events go to the file `ids`.
    pub fn start(up: &Up, ids: &Path) -> Load {
        let ids = ids.to_owned();
        let child =
            snowmelt(["send", "--rate", "600", "--connections", "4", "--events-per-request", "4"])
                .args(["--duration", "300s", "--ids"])
                .arg(&ids)
                .arg(format!("http://{}", up.collector))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
        Load { child, ids }
    }

    /// Ends the load after the server is gone; the ids that were answered 200.
    pub fn end(mut self) -> Vec<String> {
        // The answers that the server gave before its end are in the sockets: a moment to read them.
        std::thread::sleep(Duration::from_millis(100));
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.accepted()
    }

    /// The ids that were answered 200 up to now.
    pub fn accepted(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.ids).unwrap_or_default();
        // Killed inside a write, the last line may be half.
        text.split_inclusive('\n')
            .filter_map(|line| line.strip_suffix('\n'))
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command under test, without keys of ours in its environment.
pub fn snowmelt<T: AsRef<OsStr>>(arguments: impl IntoIterator<Item = T>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_snowmelt"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SNOWMELT_") {
            command.env_remove(name);
        }
    }
    command.args(arguments);
    command
}

/// Runs a command to its end.
pub fn run<T: AsRef<OsStr>>(arguments: impl IntoIterator<Item = T>) -> Output {
    snowmelt(arguments).stdin(Stdio::null()).output().unwrap()
}

/// stdout of a command that succeeds.
pub fn stdout_of<T: AsRef<OsStr>>(arguments: impl IntoIterator<Item = T>) -> String {
    let output = run(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// stderr of a command that fails.
pub fn stderr_of<T: AsRef<OsStr>>(arguments: impl IntoIterator<Item = T>) -> String {
    let output = run(arguments);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success(), "succeeded: {stdout}");
    String::from_utf8(output.stderr).unwrap()
}

/// A tp2 body of page views with these event ids.
pub fn body_of<T: AsRef<str>>(ids: &[T]) -> Value {
    let event = |id: &T| json!({"e": "pv", "p": "web", "tv": "test-1", "eid": id.as_ref(), "url": "http://shop.example/"});
    json!({
        "schema": "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4",
        "data": ids.iter().map(event).collect::<Vec<_>>(),
    })
}

/// A tp2 body of page views with these event ids that all fail: what they have as contexts is no JSON.
pub fn failing_body_of<T: AsRef<str>>(ids: &[T]) -> Value {
    let mut body = body_of(ids);
    for event in body["data"].as_array_mut().unwrap() {
        event["co"] = json!("no JSON");
    }
    body
}

/// The `number`th event id of a test.
pub fn event_id(number: u64) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}

/// Waits until something is so.
pub fn wait_until(what: &str, is_so: impl FnMut() -> bool) {
    wait_within(Duration::from_secs(60), what, is_so);
}

/// Waits until something is so, which may take this long.
pub fn wait_within(at_most: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + at_most;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(180)))
        .http_status_as_error(false)
        .build()
        .into()
}

fn collect(
    mut from: impl Read + Send + 'static,
    into: Arc<Mutex<String>>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            into.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    })
}
