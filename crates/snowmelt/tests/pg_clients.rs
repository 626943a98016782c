//! Real clients of PostgreSQL against the whole binary: psql, psycopg, asyncpg, node-postgres and pgjdbc are answered
//! what the API answers, before and after an iteration.
//!
//! The clients lie in the folder that `PG_CLIENTS_DIR` names; `cargo xtask test` installs them and sets it.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Up, wait_until};
use serde_json::{Value, json};

/// No run of a client takes longer, even on a slow machine.
const CLIENT_DEADLINE: Duration = Duration::from_secs(120);

/// One iteration, when the test asks for it.
const SETTINGS: [&str; 1] = ["batch.interval=1h"];

const EVENTS: u64 = 30;

#[test]
fn real_clients_are_answered_what_the_api_answers() {
    let clients = clients();
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(&folder.path().join("data"), &SETTINGS);
    send(&up);
    wait_until("everything is visible", || up.rows() == EVENTS);
    for layer in ["speed", "batch"] {
        assert_eq!(
            up.number(&format!("SELECT count(*) FROM atomic.events WHERE _layer = '{layer}'")),
            EVENTS
        );
        let truth = Truth::of(&up);
        truth.check("psycopg", &psycopg(&clients, &up), layer);
        truth.check("asyncpg", &asyncpg(&clients, &up), layer);
        truth.check("node-postgres", &node(&clients, &up), layer);
        truth.check("pgjdbc", &jdbc(&clients, &up, folder.path()), layer);
        psql(&up, layer);
        if layer == "speed" {
            up.batch_run();
        }
    }
    assert!(up.terminate().success());
}

#[test]
fn psql_knows_the_password_and_speaks_tls() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let up = Up::start(
        &folder.path().join("data"),
        &[
            "batch.interval=1h",
            "server.password=s3cret",
            &format!("server.tls-cert={}", cert.display()),
            &format!("server.tls-key={}", key.display()),
        ],
    );
    let (address, port) = up.pg.rsplit_once(':').unwrap();
    let ask = |password: &str, mode: &str| {
        let to = format!(
            "host=localhost hostaddr={address} port={port} user=snowmelt dbname=snowmelt {mode} sslrootcert={}",
            cert.display()
        );
        let mut command = Command::new("psql");
        command.args(["-X", &to, "-c", "\\conninfo"]).env("PGPASSWORD", password);
        let (out, err) = output_of(&mut command);
        String::from_utf8([out, err].concat()).unwrap()
    };
    let shown = ask("s3cret", "sslmode=verify-full");
    assert!(shown.contains("SSL connection (protocol: TLSv1.3"), "{shown}");
    let shown = ask("s3cret", "sslmode=disable");
    assert!(shown.contains("You are connected") && !shown.contains("SSL"), "{shown}");
    let shown = ask("wrong", "sslmode=verify-full");
    assert!(shown.contains("password authentication failed for user \"snowmelt\""), "{shown}");
}

/// Page views with prices and cookies, so that each type of column has values.
fn send(up: &Up) {
    for number in 0..EVENTS {
        let event = json!({
            "e": "tr", "p": "web", "tv": "test-1", "eid": common::event_id(number), "tr_id": number.to_string(),
            "tr_tt": format!("{}.25", number * 10), "vid": number.to_string(), "cookie": if number % 2 == 0 { "1" } else { "0" },
            "url": format!("http://shop.example/{number}"), "se_va": "1.5",
        });
        let body = json!({
            "schema": "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4",
            "data": [event],
        });
        assert_eq!(up.post_tp2(body.to_string().as_bytes()), 200);
    }
}

/// What the API answers.
struct Truth {
    first: Vec<Vec<Value>>,
}

impl Truth {
    fn of(up: &Up) -> Truth {
        let sql = "SELECT event_id, domain_sessionidx, se_value, tr_total, br_cookies, collector_tstamp, refr_medium \
                   FROM atomic.events ORDER BY event_id LIMIT 3";
        Truth { first: up.sql(sql) }
    }

    /// Holds each line of a client against it.
    fn check(&self, client: &str, lines: &[(String, Value)], layer: &str) {
        assert!(lines.len() > 10, "{client}: {lines:?}");
        for (name, value) in lines {
            let context = format!("{client}, {layer}: {name}");
            let number = value.as_u64().or_else(|| value.get(0)?.as_u64());
            match name.as_str() {
                "count" | "number" | "time" | "aware" | "prepared" | "transaction" | "after"
                | "parts" => {
                    assert_eq!(number, Some(EVENTS), "{context}: {value}");
                }
                "bound" | "any" if client == "pgjdbc" || name == "bound" => {
                    assert_eq!(number, Some(1), "{context}: {value}");
                }
                "any" => assert_eq!(number, Some(2), "{context}: {value}"),
                "null" if client == "pgjdbc" => assert_eq!(number, Some(EVENTS), "{context}"),
                "null" => assert_eq!(*value, json!([null, 0]), "{context}"),
                "column" => {
                    assert!(value == "count" || *value == json!(["count"]), "{context}: {value}")
                }
                "version" => {
                    assert!(value[0].as_str().unwrap().starts_with("PostgreSQL 15."), "{context}")
                }
                "pipeline" => assert_eq!(*value, json!([1, 2]), "{context}"),
                "cursor" => assert_eq!(*value, json!([7, 7]), "{context}"),
                "types" | "types-binary" => self.check_types(value, &context),
                "product" => assert_eq!(*value, json!(["PostgreSQL", 15]), "{context}"),
                "schemas" => assert_eq!(
                    *value,
                    json!(["atomic", "information_schema", "lambda", "pg_catalog"]),
                    "{context}"
                ),
                "catalogs" => assert_eq!(*value, json!(["snowmelt"]), "{context}"),
                "tables" => {
                    assert_eq!(*value, json!(["bad_rows", "events", "failed_events"]), "{context}")
                }
                "views" => assert_eq!(*value, json!(["cut", "iterations", "ledger"]), "{context}"),
                // 131, one of an entity that enrich adds, and the position.
                "columns" => assert_eq!(*value, json!(131 + 1 + 4), "{context}"),
                "types-of-columns" => {
                    let types = value.as_array().unwrap();
                    assert!(
                        types.len() > 5 && types.iter().all(|it| it == "timestamp"),
                        "{context}: {value}"
                    );
                }
                other => panic!("{client} says `{other}`"),
            }
        }
    }

    /// Clients have types of their own for the same values; as text they are the same.
    fn check_types(&self, rows: &Value, context: &str) {
        let rows = rows.as_array().unwrap();
        assert_eq!(rows.len(), self.first.len(), "{context}");
        for (row, truth) in rows.iter().zip(&self.first) {
            let row = row.as_array().unwrap();
            // A timestamp is left out where a client makes local time of it.
            let truth: Vec<&Value> = match row.len() {
                7 => truth.iter().collect(),
                _ => {
                    truth.iter().enumerate().filter(|(at, _)| *at != 5).map(|(_, it)| it).collect()
                }
            };
            for (found, expected) in row.iter().zip(truth) {
                assert_eq!(plain(found), plain(expected), "{context}: {row:?}");
            }
        }
    }
}

/// A value as text: timestamps without `T`, `Z` and empty decimals.
fn plain(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let is_time = text.len() > 19 && text.as_bytes()[4] == b'-' && text.contains(':');
    if !is_time {
        return text;
    }
    let text = text.replace('T', " ").replace('Z', "");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pg_clients")
}

fn psycopg(clients: &Path, up: &Up) -> Vec<(String, Value)> {
    let mut command = Command::new(clients.join("python/bin/python"));
    lines_of(command.arg(scripts().join("psycopg_client.py")).arg(&up.pg))
}

fn asyncpg(clients: &Path, up: &Up) -> Vec<(String, Value)> {
    let mut command = Command::new(clients.join("python/bin/python"));
    lines_of(command.arg(scripts().join("asyncpg_client.py")).arg(&up.pg))
}

fn node(clients: &Path, up: &Up) -> Vec<(String, Value)> {
    let mut command = Command::new("node");
    lines_of(command.arg(scripts().join("node_client.mjs")).arg(&up.pg).arg(clients.join("node")))
}

/// Java runs a source file as it is.
fn jdbc(clients: &Path, up: &Up, folder: &Path) -> Vec<(String, Value)> {
    let mut command = Command::new("java");
    command.arg("-cp").arg(clients.join("java/postgresql.jar"));
    command.arg(format!("-Djava.io.tmpdir={}", folder.display()));
    lines_of(command.arg(scripts().join("JdbcClient.java")).arg(&up.pg))
}

/// psql as a person uses it.
fn psql(up: &Up, layer: &str) {
    let ask = |command: &str| {
        let output = output_of(&mut psql_command(up, &["-c", command]));
        let stderr = String::from_utf8_lossy(&output.1);
        // Which is an answer, to what there is none of.
        let is_nothing = stderr.starts_with("Did not find any ") && stderr.lines().count() == 1;
        assert!(stderr.is_empty() || is_nothing, "{layer}: {command}: {stderr}");
        String::from_utf8(output.0).unwrap()
    };
    for (command, shown) in [
        ("\\conninfo", vec!["snowmelt"]),
        ("\\l", vec!["snowmelt", "UTF8"]),
        ("\\dn", vec!["atomic", "lambda"]),
        ("\\dt", vec!["events", "bad_rows", "failed_events", "table", "snowmelt"]),
        ("\\dt atomic.*", vec!["events", "bad_rows", "failed_events"]),
        ("\\dv lambda.*", vec!["cut", "iterations", "ledger", "view"]),
        ("\\dv", vec![]),
        ("\\d", vec!["events"]),
        (
            "\\d atomic.failed_events",
            vec!["Table \"atomic.failed_events\"", "derived_contexts", "_layer"],
        ),
        (
            "\\d atomic.events",
            vec![
                "Table \"atomic.events\"",
                "collector_tstamp",
                "timestamp without time zone",
                "tr_total",
                "numeric",
            ],
        ),
        ("\\d lambda.cut", vec!["View \"lambda.cut\"", "frontier"]),
        ("\\d+ atomic.events", vec!["Table \"atomic.events\"", "collector_tstamp", "Storage"]),
        ("\\d+ lambda.cut", vec!["View \"lambda.cut\"", "frontier"]),
        ("\\dp", vec!["atomic", "events"]),
        ("\\dT", vec!["List of data types"]),
        ("\\drds", vec![]),
        ("\\du", vec!["snowmelt"]),
        ("\\df", vec![]),
        ("\\di", vec![]),
        ("\\ds", vec![]),
        ("\\x on", vec![]),
        ("SELECT count(*) FROM atomic.events", vec!["count", "30"]),
        (r#"SELECT '{"a":{"b":[1,"x"]}}'::jsonb->'a'->'b'->>1 AS field"#, vec!["field", "x"]),
        ("SELECT contexts::json->'data'->0->>'schema' FROM atomic.events LIMIT 1", vec!["1 row"]),
        ("SELECT to_regtype('hstore')", vec!["1 row"]),
        ("SELECT count(*) FROM atomic.events WHERE collector_tstamp < '9999-12-31'", vec!["30"]),
        ("SELECT '9999-12-31'::timestamp AS last", vec!["9999-12-31 00:00:00"]),
        ("SELECT timestamp '0005-04-15 01:46:40' AS first", vec!["0005-04-15 01:46:40"]),
        ("SELECT version()", vec!["PostgreSQL 15."]),
        ("SHOW search_path", vec!["atomic"]),
    ] {
        let text = ask(command);
        for shown in shown {
            assert!(text.contains(shown), "{layer}: {command}: no `{shown}` in\n{text}");
        }
    }
    let csv = output_of(&mut psql_command(
        up,
        &["--csv", "-t", "-c", "SELECT event_id, tr_total FROM atomic.events ORDER BY 1 LIMIT 1"],
    ));
    assert_eq!(String::from_utf8(csv.0).unwrap().trim(), format!("{},0.25", common::event_id(0)));
    let refused = output_of(&mut psql_command(up, &["-c", "COPY atomic.events TO STDOUT"]));
    let refused = String::from_utf8(refused.1).unwrap();
    assert!(refused.contains("COPY is not supported") && refused.contains("HINT"), "{refused}");
}

fn psql_command(up: &Up, arguments: &[&str]) -> Command {
    let (host, port) = up.pg.rsplit_once(':').unwrap();
    let mut command = Command::new("psql");
    command.args(["-X", "-h", host, "-p", port, "-U", "snowmelt", "-d", "snowmelt"]);
    command.args(arguments).env_remove("PGPASSWORD").stdin(Stdio::null());
    command
}

/// stdout and stderr of a command that ends in time.
fn output_of(command: &mut Command) -> (Vec<u8>, Vec<u8>) {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("start {shown}: {error}: run `cargo xtask test`, which installs it")
        });
    // Read beside: a full pipe would keep the client from its end.
    let (out, err) = (read(child.stdout.take().unwrap()), read(child.stderr.take().unwrap()));
    let deadline = Instant::now() + CLIENT_DEADLINE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("{shown} did not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    (out.join().unwrap(), err.join().unwrap())
}

fn read(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// The lines of JSON that a client prints.
fn lines_of(command: &mut Command) -> Vec<(String, Value)> {
    let shown = format!("{command:?}");
    let (out, err) = output_of(command);
    let err = String::from_utf8_lossy(&err);
    let out = String::from_utf8(out).unwrap();
    assert!(err.is_empty(), "{shown}: {err}\n{out}");
    let line = |line: &str| -> (String, Value) {
        let mut line: Vec<Value> =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let value = line.pop().unwrap();
        (line.pop().unwrap().as_str().unwrap().to_owned(), value)
    };
    out.lines().map(line).collect()
}

fn clients() -> PathBuf {
    let dir = std::env::var_os("PG_CLIENTS_DIR").map(PathBuf::from).unwrap_or_default();
    assert!(
        dir.join("python/bin/python").exists() && dir.join("java/postgresql.jar").exists(),
        "PG_CLIENTS_DIR does not name a folder with clients of PostgreSQL: run `cargo xtask test`, which installs them"
    );
    dir
}
