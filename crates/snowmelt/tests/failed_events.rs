//! An event that fails validation is one bad row and one failed event: in the stream, in both layers, on both sides of a
//! cut, after a rebuild and in a copy; and none with `enrich.failed-events = false`.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Up, event_id, failing_body_of, run, stdout_of, wait_until};
use serde_json::{Value, json};

const SETTINGS: [&str; 2] = ["batch.interval=1h", "stream.partitions=2"];

fn send_failing(up: &Up, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let body = failing_body_of(&[event_id(number)]);
        assert_eq!(up.post_tp2(body.to_string().as_bytes()), 200);
    }
}

/// Waits until so many records are visible.
fn settle(up: &Up, records: u64) {
    wait_until("all records", || {
        up.number("SELECT coalesce(sum(records), 0)::bigint FROM lambda.ledger WHERE NOT pending")
            == records
    });
}

/// Failed events by id and layer.
fn failed(up: &Up) -> Vec<Vec<Value>> {
    up.sql("SELECT event_id, _layer FROM atomic.failed_events ORDER BY event_id")
}

fn expected(
    layer_of: impl Fn(u64) -> &'static str,
    numbers: std::ops::Range<u64>,
) -> Vec<Vec<Value>> {
    numbers.map(|number| vec![json!(event_id(number)), json!(layer_of(number))]).collect()
}

#[test]
fn a_failed_event_is_shown_once_wherever_the_cut_stands() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let up = Up::start(&data_dir, &SETTINGS);
    send_failing(&up, 0..6);
    assert_eq!(up.send_ids(&[event_id(100), event_id(101)]), 200);
    settle(&up, 7);
    assert_eq!(failed(&up), expected(|_| "speed", 0..6));

    // What went wrong stands among the derived contexts, and what was valid is there.
    let row = &up.sql(
        "SELECT event, page_url, contexts, derived_contexts FROM atomic.failed_events LIMIT 1",
    )[0];
    assert_eq!(row[..3], [json!("page_view"), json!("http://shop.example/"), Value::Null]);
    let derived: Value = serde_json::from_str(row[3].as_str().unwrap()).unwrap();
    let failure = &derived["data"][0];
    assert_eq!(failure["schema"], "iglu:com.snowplowanalytics.snowplow/failure/jsonschema/1-0-0");
    assert_eq!(failure["data"]["failureType"], "NotJSON", "{failure}");
    assert!(failure["data"]["timestamp"].is_string(), "{failure}");

    assert_eq!(up.batch_run(), 1);
    send_failing(&up, 6..9);
    settle(&up, 10);
    let sides = |number| if number < 6 { "batch" } else { "speed" };
    assert_eq!(failed(&up), expected(sides, 0..9));
    let ledger = "SELECT sum(outcomes), sum(enriched), sum(failed), sum(bad) FROM lambda.ledger WHERE NOT pending";
    assert_eq!(up.sql(ledger), [[json!(11), json!(2), json!(9), json!(0)]]);
    let paired = "SELECT count(*) FROM atomic.failed_events f JOIN atomic.bad_rows b \
        ON f._partition = b._partition AND f._offset = b._offset AND f._index = b._index AND f._layer = b._layer";
    assert_eq!((up.number(paired), up.number("SELECT count(*) FROM atomic.bad_rows")), (9, 9));
    assert_eq!(up.number("SELECT count(*) FROM atomic.events"), 2);
    let status = up.status();
    assert_eq!((&status["speed"]["failed"], &status["speed"]["bad"]), (&json!(9), &json!(0)));
    let (_, metrics) = up.get("/metrics");
    for line in
        ["snowmelt_speed_outcomes_total{kind=\"failed\"} 9", "snowmelt_realtime_failed_events "]
    {
        assert!(metrics.contains(line), "no `{line}` in:\n{metrics}");
    }

    up.rebuild();
    assert_eq!(failed(&up), expected(|_| "batch", 0..9));
    send_failing(&up, 9..10);
    settle(&up, 11);
    let copy = folder.path().join("copy");
    let data = data_dir.to_str().unwrap();
    assert!(run(["backup", copy.to_str().unwrap(), "--data-dir", data]).status.success());
    up.kill9();

    let sides = |number| if number < 9 { "batch" } else { "speed" };
    for dir in [&copy, &data_dir] {
        let up = Up::start(dir, &SETTINGS);
        assert_eq!(failed(&up), expected(sides, 0..10));
        assert!(up.terminate().success());
    }
    let tail = stdout_of(["stream", "tail", "failed", "--json", "--data-dir", data]);
    let last: Value = serde_json::from_str(tail.lines().last().unwrap()).unwrap();
    assert!(last["contexts_com_snowplowanalytics_snowplow_failure_1"].is_array(), "{last}");
    assert!(stdout_of(["stream", "verify", "--data-dir", data]).contains("failed/0"));
}

#[test]
fn without_the_key_there_are_none_and_a_change_holds_from_the_next_cut_on() {
    let folder = tempfile::tempdir().unwrap();
    let off = [SETTINGS[0], SETTINGS[1], "enrich.failed-events=false"];
    let up = Up::start(folder.path(), &off);
    send_failing(&up, 0..3);
    settle(&up, 3);
    assert_eq!(failed(&up), Vec::<Vec<Value>>::new());
    let counts = "SELECT sum(failed), sum(bad) FROM lambda.ledger WHERE NOT pending";
    assert_eq!(up.sql(counts), [[json!(0), json!(3)]]);
    assert!(up.terminate().success());

    let up = Up::start(folder.path(), &SETTINGS);
    assert_eq!(up.sql(counts), [[json!(0), json!(3)]], "the recipe in force stays");
    up.batch_run();
    send_failing(&up, 3..5);
    settle(&up, 5);
    assert_eq!(failed(&up), expected(|_| "speed", 3..5));
    assert_eq!(up.sql(counts), [[json!(2), json!(3)]]);
    up.batch_run();
    assert_eq!(failed(&up), expected(|_| "batch", 3..5));
    assert!(up.terminate().success());
}
