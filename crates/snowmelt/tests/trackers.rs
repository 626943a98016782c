//! The real Python and Node trackers against the whole binary: what they send is what SQL answers, in the right
//! columns, once each, before, during and after an iteration.
//!
//! The trackers lie in the folder that `TRACKERS_DIR` names; `cargo xtask test` installs them and sets it.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Up, wait_until};
use serde_json::{Value, json};

/// No run of a tracker takes longer, even on a slow machine.
const TRACKER_DEADLINE: Duration = Duration::from_secs(180);

/// The real trackers, both ways of sending each: POST with base64, GET with plain JSON.
const SENDERS: [Sender; 4] = [
    Sender { tracker: Tracker::Python, method: "post" },
    Sender { tracker: Tracker::Python, method: "get" },
    Sender { tracker: Tracker::Node, method: "post" },
    Sender { tracker: Tracker::Node, method: "get" },
];

/// One at a time: the iterations are asked for by the test.
const SETTINGS: [&str; 1] = ["batch.interval=1h"];

#[test]
fn what_the_real_trackers_send_is_in_the_right_columns_in_both_layers() {
    let trackers = trackers();
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(&folder.path().join("data"), &SETTINGS);
    let mut sent = BTreeMap::new();
    for sender in SENDERS {
        let ids = sender.send(&trackers, &up, &format!("shop-{}", sender.name()));
        assert_eq!(ids.len(), 3, "{}: {ids:?}", sender.name());
        sent.insert(sender.name(), (sender, ids));
    }
    let count = sent.values().map(|(_, ids)| ids.len() as u64).sum::<u64>();
    wait_until("everything is visible", || up.rows() == count);
    assert_eq!(bad_rows(&up), Vec::<Vec<Value>>::new());
    for (sender, ids) in sent.values() {
        check_columns(&up, sender, ids, "speed");
    }
    up.batch_run();
    for (sender, ids) in sent.values() {
        check_columns(&up, sender, ids, "batch");
    }
    assert_eq!(up.rows(), count);
}

#[test]
fn each_event_of_the_real_trackers_counts_once_before_during_and_after_an_iteration() {
    let trackers = trackers();
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(&folder.path().join("data"), &SETTINGS);
    let mut ids = BTreeSet::new();
    for sender in SENDERS {
        ids.extend(sender.send(&trackers, &up, "before"));
    }
    wait_until("everything is visible", || up.rows() == ids.len() as u64);
    assert_eq!(layers(&up, &ids), only("speed", ids.len()), "before");

    // Answers are asked for all the time while iterations run and the trackers go on.
    let (over, answers) = (AtomicBool::new(false), AtomicUsize::new(0));
    let deadline = Instant::now() + 4 * TRACKER_DEADLINE;
    let (later, during) = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut during = BTreeSet::new();
            while !over.load(Ordering::Relaxed) && Instant::now() < deadline {
                during.insert(layers(&up, &ids));
                answers.fetch_add(1, Ordering::Relaxed);
            }
            during
        });
        let send = scope.spawn(|| {
            let sent = SENDERS.map(|sender| sender.send(&trackers, &up, "during"));
            sent.into_iter().flatten().collect::<BTreeSet<String>>()
        });
        wait_until("a first answer", || answers.load(Ordering::Relaxed) > 0 || watch.is_finished());
        while !send.is_finished() && !watch.is_finished() && Instant::now() < deadline {
            up.batch_run();
        }
        let later = send.join();
        over.store(true, Ordering::Relaxed);
        (later.unwrap(), watch.join().unwrap())
    });
    // One answer is wholly before an iteration or wholly after it: the cut moves at once.
    let allowed = BTreeSet::from([only("speed", ids.len()), only("batch", ids.len())]);
    assert!(during.is_subset(&allowed), "during: {during:?}");
    assert!(during.contains(&only("batch", ids.len())), "no answer came after an iteration");
    assert!(answers.load(Ordering::Relaxed) >= 3, "only {answers:?} answers");

    ids.extend(later);
    assert_eq!(ids.len(), 24, "each tracker makes ids of its own");
    up.batch_run();
    assert_eq!(layers(&up, &ids), only("batch", 24), "after");
    assert_eq!(up.rows(), 24);
    assert!(up.terminate().success());
}

/// How many of these events an answer has in each layer. Each is there, once.
fn layers(up: &Up, ids: &BTreeSet<String>) -> BTreeMap<String, usize> {
    let mut seen = BTreeSet::new();
    let mut layers = BTreeMap::new();
    for row in up.sql("SELECT event_id, _layer FROM atomic.events") {
        let (id, layer) = (row[0].as_str().unwrap(), row[1].as_str().unwrap());
        assert!(seen.insert(id.to_owned()), "{id} is doubled");
        if ids.contains(id) {
            *layers.entry(layer.to_owned()).or_default() += 1;
        }
    }
    let missing: Vec<_> = ids.difference(&seen).collect();
    assert!(missing.is_empty(), "missing: {missing:?}");
    layers
}

fn only(layer: &str, count: usize) -> BTreeMap<String, usize> {
    BTreeMap::from([(layer.to_owned(), count)])
}

fn bad_rows(up: &Up) -> Vec<Vec<Value>> {
    up.sql("SELECT type, messages FROM atomic.bad_rows")
}

#[derive(Clone, Copy)]
enum Tracker {
    Python,
    Node,
}

#[derive(Clone, Copy)]
struct Sender {
    tracker: Tracker,
    method: &'static str,
}

impl Sender {
    fn name(&self) -> String {
        let tracker = match self.tracker {
            Tracker::Python => "python",
            Tracker::Node => "node",
        };
        format!("{tracker}-{}", self.method)
    }

    /// Sends a page view, a structured and a self-describing event, in this order; their ids.
    fn send(&self, trackers: &Path, up: &Up, app_id: &str) -> Vec<String> {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/trackers");
        let url = format!("http://{}", up.collector);
        let mut command = match self.tracker {
            Tracker::Python => {
                let mut command = Command::new(trackers.join("python/bin/python"));
                command.arg(scripts.join("send.py")).args([&url, self.method, app_id]);
                command
            }
            Tracker::Node => {
                let mut command = Command::new("node");
                command.arg(scripts.join("send.mjs")).args([&url, self.method, app_id]);
                command.arg(trackers.join("node"));
                command
            }
        };
        lines_of(&mut command)
    }

    /// The columns that every event of this tracker has, whatever it is.
    fn columns(&self, app_id: &str) -> Value {
        let (name_tracker, v_tracker) = match self.tracker {
            Tracker::Python => ("python-shop", "py-1.1.0"),
            Tracker::Node => ("node-shop", "node-4.8.0"),
        };
        json!({
            "app_id": app_id,
            "platform": "web",
            "name_tracker": name_tracker,
            "v_tracker": v_tracker,
            "user_id": "anna",
            "user_ipaddress": "127.0.0.1",
            "br_lang": "de-DE",
            "os_timezone": "Europe/Vienna",
            "dvce_screenwidth": 1920,
            "dvce_screenheight": 1080,
            "br_viewwidth": 1440,
            "br_viewheight": 900,
            "br_colordepth": "24",
            "txn_id": null,
            "true_tstamp": null,
            "event_format": "jsonschema",
        })
    }
}

/// stdout of a command that ends in time and well.
fn lines_of(command: &mut Command) -> Vec<String> {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("start {shown}: {error}"));
    let deadline = Instant::now() + TRACKER_DEADLINE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            panic!("{shown} did not end: {}", String::from_utf8_lossy(&output.stderr));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{shown} ended with {}: {stderr}", output.status);
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn trackers() -> PathBuf {
    let dir = std::env::var_os("TRACKERS_DIR").map(PathBuf::from).unwrap_or_default();
    assert!(
        dir.join("python/bin/python").exists() && dir.join("node/node_modules").exists(),
        "TRACKERS_DIR does not name a folder with the real trackers: run `cargo xtask test`, which installs them"
    );
    dir
}

const WEB_PAGE: &str = r#"{"schema":"iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-1","data":[{"schema":"iglu:com.snowplowanalytics.snowplow/web_page/jsonschema/1-0-0","data":{"id":"8b3d0a1e-6c5f-4e0b-9a57-0d7f2c9b1a44"}}]}"#;

const LINK_CLICK: &str = r#"{"schema":"iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0","data":{"schema":"iglu:com.snowplowanalytics.snowplow/link_click/jsonschema/1-0-1","data":{"targetUrl":"https://shop.example.test/größen?a=1&b=2","elementId":"sizes"}}}"#;

/// The columns of the three events, by what the scripts told the trackers.
fn expected() -> [Value; 3] {
    let page_view = json!({
        "event": "page_view",
        "event_vendor": "com.snowplowanalytics.snowplow",
        "event_name": "page_view",
        "event_version": "1-0-0",
        "page_url": "https://shop.example.test/kettles/42?utm_source=letter&b=%C3%A4#details",
        "page_urlscheme": "https",
        "page_urlhost": "shop.example.test",
        "page_urlport": 443,
        "page_urlpath": "/kettles/42",
        "page_urlquery": "utm_source=letter&b=%C3%A4",
        "page_urlfragment": "details",
        "page_title": "Blue kettle – 20 % off",
        "page_referrer": "https://www.example.org/search?q=kettle",
        "refr_urlscheme": "https",
        "refr_urlhost": "www.example.org",
        "refr_urlport": 443,
        "refr_urlpath": "/search",
        "refr_urlquery": "q=kettle",
        "refr_medium": "unknown",
        "mkt_source": "letter",
        "contexts": WEB_PAGE,
        "unstruct_event": null,
        "se_category": null,
    });
    let structured = json!({
        "event": "struct",
        "event_vendor": "com.google.analytics",
        "event_name": "event",
        "event_version": "1-0-0",
        "se_category": "shop",
        "se_action": "add-to-basket",
        "se_label": "kettle",
        "se_property": "blue",
        "se_value": 19.99,
        "page_url": null,
        "contexts": null,
        "unstruct_event": null,
    });
    let self_describing = json!({
        "event": "unstruct",
        "event_vendor": "com.snowplowanalytics.snowplow",
        "event_name": "link_click",
        "event_version": "1-0-1",
        "unstruct_event": LINK_CLICK,
        "contexts": WEB_PAGE,
        "page_url": null,
        "se_category": null,
    });
    [page_view, structured, self_describing]
}

fn check_columns(up: &Up, sender: &Sender, ids: &[String], layer: &str) {
    for (id, event) in ids.iter().zip(expected()) {
        let mut expected = sender.columns(&format!("shop-{}", sender.name()));
        expected.as_object_mut().unwrap().extend(event.as_object().unwrap().clone());
        let expected = expected.as_object().unwrap();
        let columns: Vec<&str> = expected.keys().map(String::as_str).collect();
        let rows = up.sql(&format!(
            "SELECT _layer, {} FROM atomic.events WHERE event_id = '{id}'",
            columns.join(", ")
        ));
        let context = format!("{} {} {layer}", sender.name(), event["event"]);
        assert_eq!(rows.len(), 1, "{context}: {rows:?}");
        assert_eq!(rows[0][0], layer, "{context}");
        for ((name, expected), found) in expected.iter().zip(&rows[0][1..]) {
            assert_eq!(found, expected, "{context}: {name}");
        }
        check_times(up, id, &context);
    }
}

/// What is different at every run, held against itself. The Python tracker cuts the time of sending to whole seconds, so
/// that it may lie before that of the event.
fn check_times(up: &Up, id: &str, context: &str) {
    let row = &up.sql(&format!(
        "SELECT derived_tstamp <= collector_tstamp, \
         dvce_created_tstamp - dvce_sent_tstamp < INTERVAL '2' SECOND, etl_tstamp >= collector_tstamp, collector_tstamp - derived_tstamp < INTERVAL '1' HOUR, \
         length(network_userid), v_collector LIKE 'snowmelt-%', v_etl LIKE 'snowmelt-enrich-%', useragent IS NOT NULL, \
         derived_contexts LIKE '%/ua_parser_context/%', length(event_fingerprint) \
         FROM atomic.events WHERE event_id = '{id}'"
    ))[0];
    let all = [true, true, true, true].map(Value::from).into_iter().chain([json!(36)]);
    let all = all.chain([true, true, true, true].map(Value::from)).chain([json!(32)]);
    let expected: Vec<Value> = all.collect();
    assert_eq!(*row, expected, "{context}");
}
