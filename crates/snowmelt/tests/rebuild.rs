//! History is fixed: a schema was wrong, a rebuild makes the bad rows events, while events go on arriving; the
//! generation before can still be asked, and small files are joined on the way.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::{Up, event_id, stderr_of, stdout_of, wait_until};
use serde_json::{Value, json};

/// Allows what `kind` says, and nothing else.
fn write_schema(folder: &Path, kind: &str) {
    let path = folder.join("com.acme/box/jsonschema/1-0-0");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let schema = json!({
        "self": {"vendor": "com.acme", "name": "box", "format": "jsonschema", "version": "1-0-0"},
        "type": "object",
        "properties": {"size": {"type": kind}},
    });
    std::fs::write(path, schema.to_string()).unwrap();
}

/// A request with one event of that schema; its id has this number.
fn send_box(up: &Up, number: u64) {
    let data = json!({"schema": "iglu:com.acme/box/jsonschema/1-0-0", "data": {"size": 7}});
    let event = json!({"schema": "iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0", "data": data});
    let body = json!({
        "schema": "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4",
        "data": [{"e": "ue", "p": "srv", "tv": "test-1", "eid": event_id(number), "ue_pr": event.to_string()}],
    });
    assert_eq!(up.post_tp2(body.to_string().as_bytes()), 200);
}

fn shown(up: &Up) -> (u64, u64) {
    let rows = up
        .sql("SELECT (SELECT count(*) FROM atomic.events) AS events, (SELECT count(*) FROM atomic.bad_rows) AS bad_rows");
    (rows[0][0].as_u64().unwrap(), rows[0][1].as_u64().unwrap())
}

fn settle(up: &Up, rows: u64) {
    wait_until("everything is visible", || up.rows() == rows);
}

#[test]
fn a_rebuild_makes_events_of_what_a_wrong_schema_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (schemas, data_dir) = (folder.path().join("schemas"), folder.path().join("data"));
    write_schema(&schemas, "string");
    let setting = format!("enrich.schemas={}", schemas.display());
    let settings = [setting.as_str(), "batch.interval=1h"];
    let up = Up::start(&data_dir, &settings);
    for number in 0..6 {
        send_box(&up, number);
    }
    up.batch_run();
    for number in 6..9 {
        send_box(&up, number);
    }
    assert_eq!(up.send_ids(&[event_id(100)]), 200);
    settle(&up, 10);
    assert_eq!(shown(&up), (1, 9));

    // The schema is mended. An ordinary iteration applies it from its cut on; history stays.
    write_schema(&schemas, "integer");
    let iteration = up.batch_run();
    send_box(&up, 9);
    settle(&up, 11);
    assert_eq!(shown(&up), (2, 9));

    let (status, answer) = up.post_json("/api/v1/batch", &json!({"rebuild": true}));
    assert_eq!(status, 200, "{answer}");
    assert!(answer["iteration"].as_u64().unwrap() > iteration && answer["published"] == true);
    assert_eq!(shown(&up), (11, 0));
    let (distinct, generation) = (
        up.number("SELECT count(DISTINCT event_id) FROM atomic.events"),
        up.number("SELECT max(generation) FROM lambda.iterations"),
    );
    assert_eq!((distinct, generation), (11, 1));
    let ledger =
        up.sql("SELECT sum(enriched), sum(failed), sum(bad), sum(records) FROM lambda.ledger WHERE NOT pending");
    assert_eq!(ledger[0], [json!(11), json!(0), json!(0), json!(11)]);

    // The generation before answers for what was below its cut, and says so.
    let ask = |generation: u64| {
        let sql = "SELECT (SELECT count(*) FROM atomic.events) AS events, (SELECT count(*) FROM atomic.bad_rows) AS bad_rows";
        up.post_json("/api/v1/sql", &json!({"sql": sql, "generation": generation}))
    };
    let (status, before) = ask(0);
    assert_eq!((status, &before["rows"][0]), (200, &json!([2, 9])), "{before}");
    assert!(before["note"].as_str().unwrap().contains("generation 1 is served"), "{before}");
    assert_eq!(before["cut"], before["frontier"]);
    let (status, now) = ask(1);
    assert_eq!((status, &now["rows"][0], &now["note"]), (200, &json!([11, 0]), &Value::Null));
    let (status, none) = ask(2);
    assert_eq!((status, &none["error"]["code"]), (404, &json!("no_generation")), "{none}");

    // What arrives afterwards, and a restart.
    send_box(&up, 10);
    settle(&up, 12);
    assert!(up.terminate().success());
    let up = Up::start(&data_dir, &settings);
    assert_eq!(shown(&up), (12, 0));
    assert!(up.terminate().success());
}

#[test]
fn a_rebuild_without_a_server_takes_the_recipe_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let (schemas, data_dir) = (folder.path().join("schemas"), folder.path().join("data"));
    write_schema(&schemas, "string");
    let setting = format!("enrich.schemas={}", schemas.display());
    let up = Up::start(&data_dir, &[&setting]);
    (0..4).for_each(|number| send_box(&up, number));
    settle(&up, 4);
    assert_eq!(shown(&up), (0, 4));
    assert!(up.terminate().success());
    write_schema(&schemas, "integer");
    let config = folder.path().join("snowmelt.toml");
    std::fs::write(&config, format!("[enrich]\nschemas = [\"{}\"]\n", schemas.display())).unwrap();
    let (dir, config) = (data_dir.to_str().unwrap(), config.to_str().unwrap());
    let said = stdout_of(["batch", "run", "--rebuild", "--data-dir", dir, "--config", config]);
    assert!(said.contains("published iteration"), "{said}");
    let up = Up::start(&data_dir, &[&setting]);
    assert_eq!(shown(&up), (4, 0));
    let ask = |generation: &str| {
        stdout_of([
            "sql",
            "SELECT count(*) FROM atomic.bad_rows",
            "--csv",
            "--generation",
            generation,
            "--data-dir",
            dir,
        ])
    };
    assert_eq!(ask("0").lines().nth(1), Some("4"));
    assert_eq!(ask("1").lines().nth(1), Some("0"));
    let refused = stderr_of(["sql", "SELECT 1", "--generation", "7", "--data-dir", dir]);
    assert!(
        refused.contains("no generation 7") && refused.contains("generations-kept"),
        "{refused}"
    );
    assert!(up.terminate().success());
}

#[test]
fn small_table_files_are_joined_and_the_answer_stays() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let up = Up::start(
        &data_dir,
        &["batch.interval=1h", "batch.compact-files=4", "stream.partitions=1"],
    );
    for number in 0..12 {
        assert_eq!(up.send_ids(&[event_id(number)]), 200);
        up.batch_run();
        assert_eq!(shown(&up), (number + 1, 0));
    }
    // Twelve iterations with an event each; each fourth file was joined with those before it.
    let files = || {
        let folders = std::fs::read_dir(data_dir.join("tables/events")).unwrap();
        let names = folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
        names.count()
    };
    wait_until("files that were joined are removed", || {
        up.batch_run();
        files() <= 6
    });
    let iterations = up.number("SELECT count(*) FROM lambda.iterations");
    assert!(iterations > 13, "{iterations}");
    assert_eq!(up.number("SELECT count(DISTINCT event_id) FROM atomic.events"), 12);
    assert!(up.terminate().success());
}
