//! Registries on the network, through the binary: a schema is fetched once, an absence is a bad row, and while a
//! registry is away events are accepted, wait, and become what they would have been.

#![allow(clippy::unwrap_used)]

mod common;

#[path = "../../assets/tests/loopback/mod.rs"]
mod loopback;

use std::path::{Path, PathBuf};

use common::{Up, event_id, run, stderr_of, stdout_of, wait_until};
use loopback::Registry;
use serde_json::{Value, json};

/// A resolver file that names one registry.
fn resolver(folder: &Path, uri: &str) -> PathBuf {
    let path = folder.join("resolver.json");
    let document = json!({
        "schema": "iglu:com.snowplowanalytics.iglu/resolver-config/jsonschema/1-0-3",
        "data": {
            "cacheSize": 500,
            "repositories": [{
                "name": "Acme", "priority": 0, "vendorPrefixes": ["com.acme"],
                "connection": {"http": {"uri": uri, "apikey": "s3cret-key"}},
            }],
        },
    });
    std::fs::write(&path, document.to_string()).unwrap();
    path
}

fn start(data_dir: &Path, resolver: &Path) -> Up {
    let setting = format!("enrich.resolver={}", resolver.display());
    Up::start(data_dir, &[setting.as_str(), "batch.interval=1h"])
}

/// A request with one event of `com.acme/<name>`; its id has this number.
fn send(up: &Up, name: &str, number: u64) {
    let data =
        json!({"schema": format!("iglu:com.acme/{name}/jsonschema/1-0-0"), "data": {"arms": 6}});
    let event = json!({"schema": "iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0", "data": data});
    let body = json!({
        "schema": "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4",
        "data": [{"e": "ue", "p": "srv", "tv": "test-1", "eid": event_id(number), "ue_pr": event.to_string()}],
    });
    assert_eq!(up.post_tp2(body.to_string().as_bytes()), 200);
}

fn settle(up: &Up, rows: u64) {
    wait_until("everything is visible", || up.rows() == rows);
}

/// Every row of both tables as a client sees it, times of enriching and layers left aside.
fn answer(up: &Up) -> Vec<Vec<Value>> {
    let mut rows = up.sql(
        "SELECT _partition, _offset, _index, event_id, event_name, unstruct_event FROM atomic.events ORDER BY 1, 2, 3",
    );
    let mut bad = up.sql(
        "SELECT _partition, _offset, _index, type, messages FROM atomic.bad_rows ORDER BY 1, 2, 3",
    );
    for row in &mut bad {
        let mut messages: Value = serde_json::from_str(row[4].as_str().unwrap()).unwrap();
        forget_times(&mut messages);
        row[4] = messages;
    }
    rows.append(&mut bad);
    rows
}

fn forget_times(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("lastAttempt");
            fields.values_mut().for_each(forget_times);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_times),
        _ => {}
    }
}

fn metric(up: &Up, line: &str) -> u64 {
    let text = up.get("/metrics").1;
    let value = text.lines().find_map(|it| it.strip_prefix(line)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no `{line}` in\n{text}"))
}

#[test]
fn a_registry_that_is_away_makes_events_wait_and_changes_no_outcome() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let registry = Registry::start();
    registry.publish("com.acme/box/jsonschema/1-0-0", "integer");
    let resolver = resolver(folder.path(), &registry.uri());
    let up = start(&data_dir, &resolver);
    for number in 0..8 {
        send(&up, if number % 2 == 0 { "box" } else { "none" }, number);
    }
    settle(&up, 8);
    assert_eq!(up.number("SELECT count(*) FROM atomic.events"), 4);
    let messages = up.sql("SELECT messages FROM atomic.bad_rows LIMIT 1");
    let messages: Value = serde_json::from_str(messages[0][0].as_str().unwrap()).unwrap();
    let history = messages[0]["error"]["lookupHistory"].as_array().unwrap();
    let said: Vec<(&str, &str)> = history
        .iter()
        .map(|it| (it["repository"].as_str().unwrap(), it["errors"][0]["error"].as_str().unwrap()))
        .collect();
    assert_eq!(said, [("Acme", "NotFound"), ("Iglu Client Embedded", "NotFound")]);
    assert_eq!(registry.requests().len(), 2, "one question for each key");
    assert_eq!(metric(&up, "snowmelt_facts "), 2);
    let found = "snowmelt_registry_questions_total{registry=\"Acme\",result=\"found\"} ";
    assert_eq!(metric(&up, found), 1);

    // The registry goes away. What is known goes on; what is new is accepted, and waits.
    let address = registry.address;
    drop(registry);
    send(&up, "box", 100);
    settle(&up, 9);
    send(&up, "late", 101);
    wait_until("the partition waits", || metric(&up, "snowmelt_waiting_partitions ") == 1);
    for number in 102..110 {
        send(&up, "box", number);
    }
    let status = up.status();
    let held_up = status["speed"]["held_up"].as_str().unwrap().to_owned();
    assert!(held_up.contains("`Acme`") && held_up.contains("com.acme/late"), "{held_up}");
    let (health, text) = up.get("/health");
    assert!(health == 503 && text.contains("com.acme/late"), "{health} {text}");
    let (refused, text) = up.post_json("/api/v1/batch", &json!({}));
    assert!(refused != 200 && text.to_string().contains("com.acme/late"), "{text}");
    assert_eq!(up.number("SELECT count(*) FROM lambda.iterations"), 1, "only the first, empty one");
    assert_eq!(up.number("SELECT count(*) FROM atomic.bad_rows"), 4, "nothing became a bad row");

    // It comes back.
    let registry = Registry::at(address);
    registry.publish("com.acme/late/jsonschema/1-0-0", "integer");
    settle(&up, 18);
    wait_until("all is well", || up.get("/health").0 == 200);
    assert_eq!(up.number("SELECT count(*) FROM atomic.events"), 14);
    assert_eq!(metric(&up, "snowmelt_waiting_partitions "), 0);

    // Both layers say the same, and so does the next process, whatever the registry says then.
    let speed = answer(&up);
    up.batch_run();
    assert_eq!(up.number("SELECT count(*) FROM atomic.events WHERE _layer = 'batch'"), 14);
    assert_eq!(answer(&up), speed);
    send(&up, "none", 200);
    settle(&up, 19);
    let before = answer(&up);
    let asked = registry.requests().len();
    registry.publish("com.acme/none/jsonschema/1-0-0", "integer");
    up.kill9();
    drop(registry);
    let up = start(&data_dir, &resolver);
    assert_eq!(answer(&up), before);
    assert!(asked <= 3, "{asked} questions after the return");
    let stderr = up.stderr();
    assert!(!stderr.contains("s3cret-key"), "{stderr}");
    assert!(up.terminate().success());
    for entry in walk(&data_dir) {
        let content = std::fs::read(&entry).unwrap();
        let is_told = content.windows(10).any(|window| window == b"s3cret-key");
        assert!(!is_told, "{} holds the API key", entry.display());
    }
}

#[test]
fn a_schema_that_came_late_counts_from_the_next_iteration_on_and_everywhere_after_a_rebuild() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let registry = Registry::start();
    let resolver = resolver(folder.path(), &registry.uri());
    let up = start(&data_dir, &resolver);
    send(&up, "late", 1);
    settle(&up, 1);
    registry.publish("com.acme/late/jsonschema/1-0-0", "integer");
    send(&up, "late", 2);
    settle(&up, 2);
    assert_eq!(up.number("SELECT count(*) FROM atomic.bad_rows"), 2, "an absence holds");
    up.batch_run();
    send(&up, "late", 3);
    settle(&up, 3);
    assert_eq!(up.number("SELECT count(*) FROM atomic.events"), 1);
    assert_eq!(
        up.number("SELECT count(*) FROM atomic.bad_rows"),
        2,
        "below the cut nothing changes"
    );
    let recipes = up.sql("SELECT DISTINCT recipe FROM lambda.iterations");
    assert!(!recipes.is_empty());
    let data = data_dir.to_str().unwrap();
    stdout_of(["batch", "run", "--rebuild", "--data-dir", data]);
    wait_until("all are events", || up.number("SELECT count(*) FROM atomic.events") == 3);
    assert_eq!(up.rows(), 3);
}

#[test]
fn a_wrong_address_is_mended_by_another_resolver() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let registry = Registry::start();
    let dead = format!("http://{}", registry.address);
    drop(registry);
    let path = resolver(folder.path(), &dead);
    let up = start(&data_dir, &path);
    send(&up, "box", 1);
    wait_until("the partition waits", || metric(&up, "snowmelt_waiting_partitions ") == 1);
    up.kill9();
    let registry = Registry::start();
    registry.publish("com.acme/box/jsonschema/1-0-0", "integer");
    resolver(folder.path(), &registry.uri());
    let up = start(&data_dir, &path);
    settle(&up, 1);
    assert_eq!(up.number("SELECT count(*) FROM atomic.events"), 1);
    assert!(up.terminate().success());
}

#[test]
fn records_are_enriched_offline_with_registries_where_they_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let registry = Registry::start();
    registry.publish("com.acme/box/jsonschema/1-0-0", "integer");
    let resolver = resolver(folder.path(), &registry.uri());
    let up = start(&data_dir, &resolver);
    send(&up, "box", 1);
    settle(&up, 1);
    assert!(up.terminate().success());
    let records = folder.path().join("records");
    let data = data_dir.to_str().unwrap();
    std::fs::write(&records, stdout_of(["stream", "dump", "raw", "--data-dir", data])).unwrap();
    let (records, file) = (records.to_str().unwrap(), resolver.to_str().unwrap());
    let goods = |text: &str| {
        let line: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        line["good"].as_array().unwrap().len()
    };
    assert_eq!(goods(&stdout_of(["enrich", records])), 0, "without a resolver nobody is asked");
    let asked = registry.requests().len();
    let output = run(["enrich", "--resolver", file, records]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && stderr.contains(&registry.uri()), "{stderr}");
    assert_eq!(goods(std::str::from_utf8(&output.stdout).unwrap()), 1);
    assert_eq!(registry.requests().len(), asked + 1);
    drop(registry);
    let stderr = stderr_of(["enrich", "--resolver", file, records]);
    assert!(stderr.contains("gives no answer about iglu:com.acme/box"), "{stderr}");
    std::fs::write(&resolver, "{}").unwrap();
    let set = format!("enrich.resolver={file}");
    let stderr = stderr_of(["config", "check", "--set", &set]);
    assert!(stderr.contains("`enrich.resolver`") && stderr.contains("missing field"), "{stderr}");
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found
}
