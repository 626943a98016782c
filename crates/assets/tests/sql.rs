//! Look-ups of `sql_query_enrichment_config` against a real PostgreSQL, and the facts that they leave.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops at what it does not expect, also in its helpers"
)]

mod database;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use assets::look_ups::LookUp;
use assets::outside::Outside;
use assets::{Answers, Driver};
use enrich::enrichments::{Assets, Config};
use enrich::iglu::Schemas;
use enrich::look_up::{self, Answer, Request, SqlKind, SqlRequest, SqlValue, Tls};
use enrich::{Enrichments, Outcome, Recipe, Settings};
use model::bad_row::BadRow;
use model::iglu::SchemaKey;
use model::payload::CollectorPayload;
use model::position::{Offset, Partition, RawRecord};
use serde_json::{Value, json};
use stream::disk::Disk;
use tempfile::TempDir;

use database::Database;

fn outside() -> Arc<dyn LookUp> {
    Arc::new(Outside::new(Vec::new()))
}

/// How a test signs in.
#[derive(Clone, Copy)]
struct As<'a> {
    host: &'a str,
    user: &'a str,
    password: &'a str,
    tls: Tls,
    timeout_ms: u32,
}

const TRUSTED: As<'_> = As {
    host: "127.0.0.1",
    user: "trusted",
    password: "s3cret",
    tls: Tls::Off,
    // Only what is tested for time ends by time.
    timeout_ms: 60_000,
};

fn request(port: u16, way: As<'_>, statement: &str, values: &[(SqlKind, &str)]) -> Request {
    let database = look_up::Database {
        host: way.host.to_owned(),
        port,
        tls: way.tls,
        username: way.user.to_owned(),
        password: way.password.to_owned(),
        name: "postgres".to_owned(),
    };
    let value = |&(kind, text): &(SqlKind, &str)| SqlValue { kind, text: text.to_owned() };
    Request::Sql(SqlRequest {
        database: Arc::new(database),
        statement: statement.into(),
        values: values.iter().map(value).collect(),
        timeout_ms: way.timeout_ms,
    })
}

fn ask(port: u16, way: As<'_>, statement: &str, values: &[(SqlKind, &str)]) -> Answer {
    outside().look_up(&request(port, way, statement, values))
}

#[test]
fn values_arrive_with_their_types_and_come_back_in_text() {
    let database = Database::shared();
    let statement = "SELECT $1 AS a, pg_typeof($1)::text, $2, $3, $4, $5, $6, $7, $8, pg_typeof($8)::text, \
        DATE '2026-11-22' AS d, '{\"a\": 1}'::jsonb AS j, NULL::text AS nothing, \
        TIMESTAMPTZ '2026-11-22 10:00:00+02' AS t";
    let values = [
        (SqlKind::Boolean, "true"),
        (SqlKind::Short, "1"),
        (SqlKind::Integer, "-7"),
        (SqlKind::Long, "9007199254740993"),
        (SqlKind::Float, "0.1"),
        (SqlKind::Double, "0.1"),
        (SqlKind::Decimal, "12.50"),
        (SqlKind::Text, "ž' OR 1=1; --"),
    ];
    let answer = ask(database.port, TRUSTED, statement, &values).unwrap();
    assert_eq!(
        answer["rows"],
        json!([[
            "t",
            "boolean",
            "1",
            "-7",
            "9007199254740993",
            "0.1",
            "0.1",
            "12.50",
            "ž' OR 1=1; --",
            "character varying",
            "2026-11-22",
            "{\"a\": 1}",
            null,
            "2026-11-22 08:00:00+00",
        ]])
    );
    let kinds: Vec<&str> = answer["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        [
            "boolean", "text", "integer", "integer", "integer", "float", "float", "other", "text",
            "text", "date", "other", "text", "other"
        ]
    );
    assert_eq!(answer["columns"][0]["label"], "a");
    let none = ask(database.port, TRUSTED, "SELECT 1 WHERE false", &[]).unwrap();
    assert_eq!(none["rows"], json!([]));
}

#[test]
fn a_query_that_fails_says_why_and_leaves_the_connection_as_it_was() {
    let database = Database::shared();
    database.run("CREATE TABLE IF NOT EXISTS kept (a int); GRANT ALL ON kept TO trusted");
    let outside = outside();
    let ask = |statement: &str, values: &[(SqlKind, &str)]| {
        outside.look_up(&request(database.port, TRUSTED, statement, values))
    };
    for (statement, values, expected) in [
        ("SELEKT 1", &[][..], "syntax error"),
        ("SELECT * FROM nowhere", &[], "\"nowhere\" does not exist (42P01)"),
        ("SELECT 1 / $1", &[(SqlKind::Integer, "0")], "division by zero"),
        ("SELECT 1; SELECT 2", &[], "multiple commands"),
        ("INSERT INTO kept VALUES (1) RETURNING a", &[], "read-only transaction"),
        ("SELECT $1", &[(SqlKind::Text, "a\0b")], "0x00"),
    ] {
        let what = ask(statement, values).unwrap_err();
        assert!(what.contains(expected), "{statement}: {what}");
        assert!(what.starts_with("SQL postgresql://127.0.0.1:"), "{what}");
    }
    // More than five errors, and it is not left alone: they say nothing of the next query.
    assert!(ask("SELECT 1", &[]).is_ok());
    let large = ask("SELECT repeat('x', 2000000)", &[]).unwrap_err();
    assert!(large.contains("larger than 1048576 bytes"), "{large}");
    let many = ask("SELECT repeat('x', 1000) FROM generate_series(1, 2000)", &[]).unwrap_err();
    assert!(many.contains("larger than 1048576 bytes"), "{many}");
    assert!(ask("COPY (SELECT 1) TO STDOUT", &[]).unwrap_err().contains("COPY"));
    assert!(ask("SELECT 1", &[]).is_ok());
}

#[test]
fn a_slow_query_ends_at_its_time_and_so_does_waiting_for_a_connection() {
    let database = Database::shared();
    let outside = outside();
    let slow = As { timeout_ms: 1500, ..TRUSTED };
    let begun = Instant::now();
    let failures: Vec<String> = std::thread::scope(|scope| {
        let ask = || outside.look_up(&request(database.port, slow, "SELECT pg_sleep(300)", &[]));
        let threads: Vec<_> = (0..12).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|it| it.join().unwrap().unwrap_err()).collect()
    });
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    for what in &failures {
        let is_time = what.contains("no answer within 1500 ms")
            || what.contains("statement timeout")
            || what.contains("left alone");
        assert!(is_time, "{what}");
    }
    // The server does not go on with them.
    let running = "SELECT count(*)::int FROM pg_stat_activity WHERE query LIKE '%pg_sleep(300)%' \
        AND state = 'active' AND pid <> pg_backend_pid()";
    while ask(database.port, TRUSTED, running, &[]).unwrap()["rows"] != json!([["0"]]) {
        assert!(begun.elapsed() < Duration::from_secs(120), "the server goes on");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn connections_are_few_and_used_again() {
    let mut database = Database::start();
    let port = database.port;
    let outside = outside();
    let pids = |count: usize| {
        let ask = || {
            let mine = "SELECT pg_backend_pid() FROM pg_sleep(0.05)";
            outside.look_up(&request(port, TRUSTED, mine, &[])).unwrap()["rows"][0][0].to_string()
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..count).map(|_| scope.spawn(ask)).collect();
            let pids = threads.into_iter().map(|it| it.join().unwrap());
            pids.collect::<std::collections::BTreeSet<String>>()
        })
    };
    let all = pids(40);
    assert!(all.len() <= 4, "{all:?}");
    assert!(all.contains(pids(1).first().unwrap()));
    // A connection that the server has ended is no failure of the next query.
    database.restart();
    assert_eq!(pids(1).len(), 1);
    drop(database);
    let request = request(port, As { timeout_ms: 5000, ..TRUSTED }, "SELECT 1", &[]);
    for _ in 0..5 {
        let what = outside.look_up(&request).unwrap_err();
        assert!(what.contains("connection refused"), "{what}");
    }
    assert!(outside.look_up(&request).unwrap_err().contains("left alone after 5 failures"));
}

#[test]
fn passwords_and_certificates_are_checked() {
    let database = Database::shared();
    let way = |user, password, tls| As { user, password, tls, ..TRUSTED };
    let select = |way: As<'_>| ask(database.port, way, "SELECT current_user::text", &[]);
    for (user, tls) in [
        ("scram", Tls::Off),
        ("scram", Tls::Unverified),
        ("hashed", Tls::Off),
        ("clear", Tls::Unverified),
    ] {
        assert_eq!(select(way(user, "s3cret", tls)).unwrap()["rows"], json!([[user]]));
        let what = select(way(user, "wr0ng", tls)).unwrap_err();
        assert!(what.contains("password authentication failed"), "{what}");
        assert!(!what.contains("wr0ng"), "{what}");
    }
    let what = select(way("clear", "s3cret", Tls::Off)).unwrap_err();
    assert!(what.contains("password in clear"), "{what}");
    let what = select(way("scram", "s3cret", Tls::Verified)).unwrap_err();
    assert!(what.contains("TLS: invalid peer certificate"), "{what}");
    let used = ask(
        database.port,
        way("scram", "s3cret", Tls::Unverified),
        "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
        &[],
    );
    assert_eq!(used.unwrap()["rows"], json!([["t"]]));
}

#[test]
fn a_certificate_that_the_system_trusts_is_one_for_its_host_alone() {
    // Which certificates are trusted is asked of the environment, so this runs in a process of its own.
    const PORT: &str = "SNOWMELT_TEST_DATABASE_PORT";
    let Some(port) = std::env::var_os(PORT) else {
        let database = Database::shared();
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["a_certificate_that_the_system_trusts_is_one_for_its_host_alone", "--exact"]);
        again.env(PORT, database.port.to_string()).env("SSL_CERT_FILE", &database.authority);
        let output = again.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    };
    let port: u16 = port.to_str().unwrap().parse().unwrap();
    let way = As { user: "scram", tls: Tls::Verified, host: "localhost", ..TRUSTED };
    assert!(ask(port, way, "SELECT 1", &[]).is_ok());
    let what = ask(port, As { host: "127.0.0.1", ..way }, "SELECT 1", &[]).unwrap_err();
    assert!(what.contains("TLS: invalid peer certificate"), "{what}");
}

/// A recipe that asks the database for the user.
fn recipe(port: u16, sql: &str, ignores: bool) -> Arc<Recipe> {
    let parameters = json!({
        "inputs": [{"placeholder": 1, "pojo": {"field": "user_id"}}],
        "database": {"postgresql": {
            "host": "127.0.0.1", "port": port, "sslMode": true, "sslInsecure": true,
            "username": "scram", "password": "s3cret", "database": "postgres",
        }},
        "query": {"sql": sql, "timeout": 60000},
        "output": {"expectedRows": "EXACTLY_ONE", "json": {
            "schema": "iglu:com.acme/u/jsonschema/1-0-0", "describes": "ALL_ROWS", "propertyNames": "CAMEL_CASE",
        }},
        "cache": {"size": 10, "ttl": 0},
        "ignoreOnError": ignores,
    });
    let schema = "iglu:com.snowplowanalytics.snowplow.enrichments/sql_query_enrichment_config/jsonschema/1-0-1";
    let data = json!({"vendor": "v", "name": "n", "enabled": true, "parameters": parameters});
    let config =
        Config { file: "sql.json".to_owned(), json: json!({"schema": schema, "data": data}) };
    let key = SchemaKey::parse("iglu:com.acme/u/jsonschema/1-0-0").unwrap();
    let schemas = Schemas::embedded().with_local([(key, json!({"type": "object"}))]);
    let enrichments = Enrichments::new(vec![config], &Assets::new()).unwrap();
    Arc::new(Recipe::new(schemas, Settings::default()).with_enrichments(enrichments))
}

fn answers(data: &Path) -> Arc<Answers> {
    Arc::new(Answers::open(Arc::new(Disk), data, None, 10).unwrap().looking_up(outside()))
}

/// The one outcome of a record at this offset.
fn drive(driver: &mut Driver, offset: u64, user: &str) -> Outcome {
    let bytes = CollectorPayload {
        ip_address: "203.0.113.7".to_owned(),
        timestamp: 1_790_000_000_000,
        encoding: "UTF-8".to_owned(),
        collector: "c".to_owned(),
        path: Some("/i".to_owned()),
        querystring: Some(format!("e=pv&p=web&tv=t&uid={user}")),
        schema: "iglu:com.snowplowanalytics.snowplow/CollectorPayload/thrift/1-0-0".to_owned(),
        ..CollectorPayload::default()
    }
    .encode();
    let partition = Partition::of_stream("raw", 0);
    let record =
        RawRecord { partition: &partition, offset: Offset::from_number(offset), bytes: &bytes };
    driver.drive(&record).unwrap().remove(0)
}

fn said(outcome: &Outcome) -> Value {
    let Outcome::Enriched(event) = outcome else { panic!("{outcome:?}") };
    let entities: Value = serde_json::from_str(event.derived_contexts.as_deref().unwrap()).unwrap();
    entities["data"][0].clone()
}

#[test]
fn what_a_record_was_answered_it_is_answered_for_ever() {
    let database = Database::shared();
    database.run(
        "CREATE TABLE people (id text, full_name text, credit numeric); GRANT SELECT ON people TO scram; \
         INSERT INTO people VALUES ('7', 'Ada', 12.50)",
    );
    let recipe = recipe(
        database.port,
        "SELECT full_name, credit, ? AS asked FROM people WHERE id = ?",
        false,
    );
    // One value for two placeholders is not enough.
    let data = TempDir::new().unwrap();
    let mut driver = Driver::new(recipe, answers(data.path()));
    assert!(
        matches!(&drive(&mut driver, 1, "7"), Outcome::Enriched(it) if it.derived_contexts.is_none())
    );

    let recipe =
        self::recipe(database.port, "SELECT full_name, credit FROM people WHERE id = ?", false);
    let mut driver = Driver::new(Arc::clone(&recipe), answers(data.path()));
    let first = drive(&mut driver, 1, "7");
    assert_eq!(
        said(&first).to_string(),
        r#"{"schema":"iglu:com.acme/u/jsonschema/1-0-0","data":{"fullName":"Ada","credit":12.50}}"#
    );
    // An error is an answer too.
    let missing = drive(&mut driver, 2, "8");
    let Outcome::Bad(row) = &missing else { panic!("{missing:?}") };
    let BadRow::EnrichmentFailures { messages, .. } = &**row else { panic!("{row:?}") };
    assert_eq!(messages[0].enrichment.as_ref().unwrap().1, "sql-query");
    assert!(format!("{messages:?}").contains("0 rows, where exactly one row is expected"));
    database
        .run("UPDATE people SET full_name = 'Grace'; INSERT INTO people VALUES ('8', 'Eve', 1)");
    // The same process, another one, and one that asks nobody.
    assert_eq!(drive(&mut driver, 1, "7"), first);
    let mut other = Driver::new(Arc::clone(&recipe), answers(data.path()));
    assert_eq!(drive(&mut other, 1, "7"), first);
    let reading = Arc::new(Answers::reading(Arc::new(Disk), data.path()));
    let mut guest = Driver::new(recipe, reading);
    assert_eq!(drive(&mut guest, 1, "7"), first);
    assert_eq!(drive(&mut guest, 2, "8"), missing);
    assert_eq!(said(&drive(&mut other, 3, "7"))["data"]["fullName"], "Grace");
    // No password and no statement in what is kept.
    for file in std::fs::read_dir(data.path().join("facts/look-ups")).unwrap() {
        for fact in std::fs::read_dir(file.unwrap().path()).unwrap() {
            let text = std::fs::read_to_string(fact.unwrap().path()).unwrap();
            assert!(!text.contains("s3cret") && !text.contains("SELECT"), "{text}");
        }
    }
    assert_eq!(answers(data.path()).stats().facts, 3);
}
