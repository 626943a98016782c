//! Requests as they came from trackers, byte for byte into the whole binary, and what SQL answers for each of them.
//!
//! `testdata/captures/own` holds requests of our own, which always run; the captures of real trackers run where they lie
//! beside the checkout (`../shared`, or the folder that `SHARED_FIXTURES` names). `outcomes.tsv` says for each file what
//! it becomes, and `golden/` has all columns of some. `BLESS=1` writes both anew; read the difference before it is kept.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{Up, wait_until};
use serde_json::{Map, Value, json};

/// One partition, so that positions are in the order of sending; iterations are asked for by the test.
const SETTINGS: [&str; 2] = ["stream.partitions=1", "batch.interval=1h"];

/// Captures of which every column is compared: each tracker, GET and POST, each kind of event.
const GOLDEN: [&str; 16] = [
    "browser-tracker-3.24.6-chromium/get-ecommerce-transaction.02.http",
    "browser-tracker-3.24.6-chromium/post-ecommerce-transaction.02.http",
    "browser-tracker-4.10.1-chromium/get-page_view.01.http",
    "browser-tracker-4.10.1-chromium/post-anonymous-server.02.http",
    "javascript-tracker-4.10.1-chromium/get-page_ping.02.http",
    "javascript-tracker-4.10.1-chromium/post-crossdomain-and-duplicate-tabs.02.http",
    "javascript-tracker-4.10.1-chromium/post-page_view.02.http",
    "node-snowplow-tracker-0.4.4/post-struct.01.http",
    "node-tracker-3.24.6/post-ecommerce_transaction.01.http",
    "node-tracker-4.8.0/get-b64-form_change.01.http",
    "node-tracker-4.8.0/post-b64-batch-mixed.01.http",
    "python-snowplow-tracker-0.10.0/get-link_click.01.http",
    "python-snowplow-tracker-1.1.0/get-b64-page_view.01.http",
    "python-snowplow-tracker-1.1.0/post-b64-page_view-subject-contexts-ttm.01.http",
    "python-snowplow-tracker-1.1.0/post-b64-struct-awkward.01.http",
    "rust-snowplow_tracker-0.2.0/post-timing.01.http",
];

/// Captures whose data is malformed, and what is wrong with them. All other bad rows name a schema that nobody
/// published, or a path without an adapter.
const MALFORMED: [(&str, &str); 3] = [
    (
        "javascript-tracker-4.10.1-chromium/get-stateless.01.http",
        "a stateless tracker sends client_session 1-0-2 with an empty userId and sessionId, which its schema refuses",
    ),
    (
        "javascript-tracker-4.10.1-chromium/post-stateless.02.http",
        "a stateless tracker sends client_session 1-0-2 with an empty userId and sessionId, which its schema refuses",
    ),
    (
        "node-snowplow-tracker-0.4.4/post-ecommerce-malformed-entities.01.http",
        "its user passed order lines where entities belong",
    ),
];

/// Schemas in the captures that are private to those who sent them.
const PRIVATE_SCHEMAS: [&str; 2] = ["iglu:com.acme/", "iglu:com.dbt/invocation/"];

/// A path in the captures for which there is no adapter.
const PATH_WITHOUT_ADAPTER: &str = "com.acme/track";

#[test]
fn requests_of_our_own_become_what_is_written_beside_them() {
    let own = requests(&folder().join("own"), "own/");
    assert!(own.len() >= 6, "{}: only {} requests", folder().display(), own.len());
    let replayed = Replayed::of(&own);
    replayed.compare_outcomes("own/");
    let golden = own.iter().filter(|request| !request.is_preflight()).map(|request| &*request.file);
    replayed.compare_columns(golden.filter(|file| !file.starts_with("own/bad-")));
}

#[test]
fn captures_of_real_trackers_become_what_is_written_beside_them() {
    let shared = shared().join("fixtures/tracker-captures");
    if !shared.is_dir() {
        eprintln!("no captures in {}: only requests of our own are replayed", shared.display());
        return;
    }
    let captures = requests(&shared, "");
    let manifest = std::fs::read_to_string(shared.join("manifest.json")).unwrap();
    let manifest: Vec<Value> = serde_json::from_str(&manifest).unwrap();
    assert_eq!(captures.len(), manifest.len(), "files and manifest.json");
    let replayed = Replayed::of(&captures);
    for entry in &manifest {
        let file = entry["file"].as_str().unwrap();
        let events = entry["events"].as_array().unwrap().len();
        let Some(rows) = replayed.rows.get(file) else {
            assert_eq!(events, 0, "{file}: a preflight");
            continue;
        };
        // A refused payload is one bad row, however many events it has.
        let refused = rows.bad.first().is_some_and(|row| row["type"] == "adapter_failures");
        let expected = if refused { 1 } else { events };
        assert_eq!(rows.count(), expected, "{file}: rows");
    }
    replayed.explain_bad_rows();
    replayed.compare_outcomes("");
    replayed.compare_columns(GOLDEN.into_iter());
}

#[test]
fn every_golden_file_is_compared_with_something() {
    let own = requests(&folder().join("own"), "own/");
    let compared: BTreeSet<String> =
        own.iter().map(|request| &*request.file).chain(GOLDEN).map(golden_name).collect();
    for entry in std::fs::read_dir(folder().join("golden")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(compared.contains(&name), "golden/{name} belongs to no request");
    }
}

/// One request as it is on the wire.
struct Request {
    /// Folder and file name.
    file: String,
    bytes: Vec<u8>,
}

impl Request {
    fn is_preflight(&self) -> bool {
        self.bytes.starts_with(b"OPTIONS ")
    }

    /// Whether the text is anywhere in the request; upper and lower case are the same.
    fn contains(&self, text: &str) -> bool {
        let mut windows = self.bytes.windows(text.len());
        windows.any(|window| window.eq_ignore_ascii_case(text.as_bytes()))
    }

    /// Sends the request on a connection of its own; the status of the answer.
    fn send(&self, address: &str) -> u16 {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(&self.bytes).unwrap();
        let mut answer = Vec::new();
        while !answer.windows(4).any(|window| window == b"\r\n\r\n") {
            let mut part = [0; 4096];
            let count = stream.read(&mut part).unwrap();
            assert!(count > 0, "{}: the connection was closed without an answer", self.file);
            answer.extend_from_slice(&part[..count]);
        }
        let line = String::from_utf8_lossy(&answer);
        line.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

/// What one request became.
#[derive(Debug, Default, PartialEq)]
struct Rows {
    /// Rows of `atomic.events` in the order of their positions, by column.
    events: Vec<Map<String, Value>>,
    /// Rows of `atomic.bad_rows`.
    bad: Vec<Map<String, Value>>,
}

impl Rows {
    /// All rows after an offset.
    fn read(up: &Up, beyond: &str) -> Rows {
        let read = |table: &str| {
            let sql = format!(
                "SELECT * FROM atomic.{table} WHERE _offset > '{beyond}' ORDER BY _offset, _index"
            );
            let (status, answer) = up.post_json("/api/v1/sql", &json!({ "sql": sql }));
            assert_eq!(status, 200, "{answer}");
            let columns = answer["columns"].as_array().unwrap();
            let row = |row: &Value| {
                let names =
                    columns.iter().map(|column| column["name"].as_str().unwrap().to_owned());
                names.zip(row.as_array().unwrap().clone()).collect()
            };
            answer["rows"].as_array().unwrap().iter().map(row).collect()
        };
        Rows { events: read("events"), bad: read("bad_rows") }
    }

    fn count(&self) -> usize {
        self.events.len() + self.bad.len()
    }

    fn all(&self) -> impl Iterator<Item = &Map<String, Value>> {
        self.events.iter().chain(&self.bad)
    }

    /// Where the rows come from.
    fn offsets(&self) -> BTreeSet<String> {
        self.all().map(|row| row["_offset"].as_str().unwrap().to_owned()).collect()
    }

    /// One line of `outcomes.tsv` without the file name.
    fn outcome(&self) -> String {
        let types: BTreeSet<_> = self.bad.iter().map(|row| row["type"].as_str().unwrap()).collect();
        let reasons: BTreeSet<_> = self.bad.iter().flat_map(reasons).collect();
        let join =
            |parts: Vec<String>| if parts.is_empty() { "-".to_owned() } else { parts.join(" ") };
        format!(
            "{}\t{}\t{}\t{}",
            self.events.len(),
            self.bad.len(),
            join(types.into_iter().map(str::to_owned).collect()),
            join(reasons.into_iter().collect()),
        )
    }
}

/// What a bad row complains about: kind of error and schema, or the field of the request.
fn reasons(row: &Map<String, Value>) -> Vec<String> {
    let messages: Vec<Value> = serde_json::from_str(row["messages"].as_str().unwrap()).unwrap();
    let reason = |message: &Value| {
        let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str);
        match (text("/schemaKey"), text("/error/error").or(text("/error"))) {
            (Some(schema), Some(error)) => format!("{error}:{schema}"),
            (Some(schema), None) => schema.to_owned(),
            (None, _) => {
                let field = text("/field").unwrap_or_else(|| panic!("{message} has no field"));
                format!("{field}:{}", text("/value").unwrap_or("null"))
            }
        }
    };
    messages.iter().map(reason).collect()
}

/// All requests sent, and what they became.
struct Replayed<'a> {
    requests: &'a [Request],
    rows: BTreeMap<&'a str, Rows>,
}

impl Replayed<'_> {
    /// Sends the requests one by one, and tells their rows by position. An iteration at the end changes none of them but
    /// their layer.
    fn of(requests: &[Request]) -> Replayed<'_> {
        let folder = tempfile::tempdir().unwrap();
        let up = Up::start(&folder.path().join("data"), &SETTINGS);
        let mut rows = BTreeMap::new();
        let mut last = String::new();
        for request in requests {
            let status = request.send(&up.collector);
            assert_eq!(status, 200, "{}", request.file);
            if request.is_preflight() {
                continue;
            }
            wait_until(&request.file, || Rows::read(&up, &last).count() > 0);
            // Again: events and bad rows are two statements, and only one of them may have come after the record.
            let new = Rows::read(&up, &last);
            let offsets = new.offsets();
            // More than one: a preflight before it was taken for an event.
            assert_eq!(offsets.len(), 1, "{}: {offsets:?}", request.file);
            last = offsets.into_iter().next().unwrap();
            assert!(new.all().all(|row| row["_layer"] == "speed"), "{}", request.file);
            rows.insert(&*request.file, new);
        }
        assert_eq!(
            requests.last().map(Request::is_preflight),
            Some(false),
            "nothing would show its row"
        );
        up.batch_run();
        let mut batch = Rows::read(&up, "");
        assert!(batch.all().all(|row| row["_layer"] == "batch"));
        let mut speed = Rows::default();
        for request in rows.values() {
            speed.events.extend(request.events.iter().cloned());
            speed.bad.extend(request.bad.iter().cloned());
        }
        batch.forget_layers();
        speed.forget_layers();
        assert_eq!(batch.count(), speed.count(), "rows of the batch layer and of the speed layer");
        for (batch, speed) in batch.all().zip(speed.all()) {
            // Columns of schemas that came with later requests were not there yet.
            let mut batch = batch.clone();
            batch.retain(|column, value| !value.is_null() || speed.contains_key(column));
            assert_eq!(batch, *speed, "the batch layer and the speed layer differ");
        }
        Replayed { requests, rows }
    }

    /// # Panics
    /// For a bad row that is neither about a schema nor a path that nobody knows, in a file that is not known to be
    /// malformed; and for a file that is said to be malformed and has no bad row.
    fn explain_bad_rows(&self) {
        for (file, rows) in &self.rows {
            if let Some((_, why)) = MALFORMED.iter().find(|(malformed, _)| malformed == file) {
                assert!(!rows.bad.is_empty(), "{file}: accepted, though {why}");
                continue;
            }
            for reason in rows.bad.iter().flat_map(reasons) {
                let private = PRIVATE_SCHEMAS
                    .iter()
                    .any(|schema| reason.starts_with(&format!("ResolutionError:{schema}")));
                let no_adapter = reason == format!("vendor/version:{PATH_WITHOUT_ADAPTER}");
                assert!(private || no_adapter, "{file}: unexplained bad row: {reason}");
            }
        }
    }

    /// Compares with the lines of `outcomes.tsv` that begin with `prefix`; without one, with those of the captures.
    fn compare_outcomes(&self, prefix: &str) {
        let _writing = OUTCOMES.lock().unwrap();
        let path = folder().join("outcomes.tsv");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let mut written: BTreeMap<String, String> = BTreeMap::new();
        for line in text.lines().skip(1) {
            let (file, outcome) = line.split_once('\t').unwrap();
            written.insert(file.to_owned(), outcome.to_owned());
        }
        let is_own = |file: &String| file.starts_with("own/");
        let (ours, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
            written.into_iter().partition(|(file, _)| is_own(file) != prefix.is_empty());
        let outcome = |request: &Request| {
            let outcome = self.rows.get(&*request.file).map(Rows::outcome);
            (request.file.clone(), outcome.unwrap_or_else(|| "0\t0\t-\t-".to_owned()))
        };
        let found: BTreeMap<String, String> = self.requests.iter().map(outcome).collect();
        if blessing() {
            let mut text = String::from("file\tenriched\tbad\tbad row types\treasons\n");
            for (file, outcome) in others.iter().chain(&found).collect::<BTreeMap<_, _>>() {
                writeln!(text, "{file}\t{outcome}").unwrap();
            }
            std::fs::write(path, text).unwrap();
            return;
        }
        assert_eq!(found.keys().collect::<Vec<_>>(), ours.keys().collect::<Vec<_>>(), "files");
        for (file, outcome) in &found {
            assert_eq!(outcome, &ours[file], "{file} (`BLESS=1` accepts it)");
        }
    }

    /// Compares all columns of the events of these files with `golden/`.
    fn compare_columns<'f>(&self, files: impl Iterator<Item = &'f str>) {
        for file in files {
            let request = self.requests.iter().find(|request| request.file == file);
            let request = request.unwrap_or_else(|| panic!("no {file}"));
            let rows = &self.rows[file].events;
            assert!(!rows.is_empty(), "{file} has no events");
            let found: Vec<_> = rows.iter().map(|row| golden_of(request, row)).collect();
            let path = folder().join("golden").join(golden_name(file));
            if blessing() {
                std::fs::write(&path, serde_json::to_string_pretty(&found).unwrap() + "\n")
                    .unwrap();
                continue;
            }
            let text = std::fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let golden: Vec<Map<String, Value>> = serde_json::from_str(&text).unwrap();
            assert_eq!(found.len(), golden.len(), "{file}: events");
            for (index, (found, golden)) in found.iter().zip(&golden).enumerate() {
                let names = |row: &Map<String, Value>| row.keys().cloned().collect::<Vec<_>>();
                assert_eq!(names(found), names(golden), "{file}: event {index}: columns");
                for (column, value) in golden {
                    assert_eq!(&found[column], value, "{file}: event {index}: {column}");
                }
            }
        }
    }
}

/// The two tests bless one file.
static OUTCOMES: std::sync::Mutex<()> = std::sync::Mutex::new(());

impl Rows {
    fn forget_layers(&mut self) {
        // Both layers stamp the time of their own work.
        let of_layer = ["_layer", "etl_tstamp", "failure_tstamp", "bad_row", "messages"];
        for row in self.events.iter_mut().chain(&mut self.bad) {
            row.retain(|column, _| !of_layer.contains(&&**column));
        }
    }
}

/// The file in `golden/` for a request.
fn golden_name(file: &str) -> String {
    format!("{}.json", file.strip_suffix(".http").unwrap().replace('/', "-"))
}

/// The 131 columns of an event, with a name instead of what is different at every run.
fn golden_of(request: &Request, row: &Map<String, Value>) -> Map<String, Value> {
    let mut golden = row.clone();
    // Without the position, and without the columns made from the three JSON ones, which grow with what is sent.
    let more = ["_", "unstruct_event_", "contexts_"];
    golden.retain(|column, _| !more.iter().any(|start| column.starts_with(start)));
    assert_eq!(golden.len(), 131, "{}: columns", request.file);
    for id in ["event_id", "network_userid"] {
        // An id that the request does not have was made by the collector or by the enrich function. Anonymous visitors
        // are no one: the id of zeros is the same at every run.
        let is_generated = |id: &str| is_uuid(id) && id != NO_ONE && !request.contains(id);
        if golden[id].as_str().is_some_and(is_generated) {
            golden[id] = "<generated id>".into();
        }
    }
    let collected = millis(&golden["collector_tstamp"]).unwrap();
    let derived = millis(&golden["derived_tstamp"]).unwrap();
    let enriched = millis(&golden["etl_tstamp"]).unwrap();
    assert!(enriched >= collected, "{}: enriched before it was collected", request.file);
    if golden["true_tstamp"].is_null() {
        golden["derived_tstamp"] = match collected - derived {
            0 => "<collector time>".into(),
            before => format!("<collector time> - {before} ms").into(),
        };
    }
    golden["collector_tstamp"] = "<collector time>".into();
    golden["etl_tstamp"] = "<time of enriching>".into();
    golden
}

/// The network user id of who does not want one.
const NO_ONE: &str = "00000000-0000-0000-0000-000000000000";

fn is_uuid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

/// Milliseconds since 1970 of a time as the API shows it.
fn millis(value: &Value) -> Option<i64> {
    let text = value.as_str()?.trim_end_matches('Z').replace('T', " ");
    let text = if text.contains('.') { text } else { format!("{text}.000") };
    let (seconds, fraction) = text.split_once('.').unwrap();
    let millis: String = fraction.chars().chain("000".chars()).take(3).collect();
    model::time::Timestamp::from_tsv(&format!("{seconds}.{millis}")).map(|time| time.0)
}

fn blessing() -> bool {
    std::env::var_os("BLESS").is_some()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/captures")
}

fn shared() -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    std::env::var_os("SHARED_FIXTURES").map_or_else(beside, PathBuf::from)
}

/// The requests under a folder, in the order of their names.
fn requests(dir: &Path, prefix: &str) -> Vec<Request> {
    let mut paths: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            found.extend(requests(&path, &format!("{prefix}{name}/")));
        } else if name.ends_with(".http") {
            let bytes = std::fs::read(&path).unwrap();
            found.push(Request { file: format!("{prefix}{name}"), bytes });
        }
    }
    found
}
