//! Look-ups through the binary: what an API, a database and a table of exchange rates have said stands in the rows, in both
//! layers and after a rebuild, although they say something else by then. Inner hosts of APIs are asked only where the
//! configuration allows it.

#![allow(clippy::unwrap_used)]

mod common;

#[path = "../../assets/tests/database/mod.rs"]
mod database;

#[path = "../../assets/tests/loopback/mod.rs"]
mod loopback;

use std::path::Path;

use common::{Up, event_id, wait_until};
use database::Database;
use loopback::Registry;
use serde_json::{Value, json};

/// Writes the configuration of an enrichment.
fn write(folder: &Path, vendor: &str, name: &str, version: &str, parameters: &Value) {
    let document = json!({
        "schema": format!("iglu:{vendor}/{name}/jsonschema/{version}"),
        "data": {"vendor": vendor, "name": name, "enabled": true, "parameters": parameters},
    });
    std::fs::write(folder.join(format!("{name}.json")), document.to_string()).unwrap();
}

const SNOWPLOW: &str = "com.snowplowanalytics.snowplow";
const ENRICHMENTS: &str = "com.snowplowanalytics.snowplow.enrichments";

fn configure(folder: &Path, api: &Registry) {
    let input = json!({"key": "uid", "pojo": {"field": "user_id"}});
    let uri = format!("{}/users/{{{{uid}}}}", api.uri());
    let http = json!({"method": "GET", "uri": uri, "timeout": 60000, "authentication": {}});
    let parameters = json!({
        "inputs": [input],
        "api": {"http": http},
        "outputs": [{"schema": "iglu:com.acme/user/jsonschema/1-0-0", "json": {"jsonPath": "$"}}],
        "cache": {"size": 10, "ttl": 0},
    });
    write(folder, ENRICHMENTS, "api_request_enrichment_config", "1-0-2", &parameters);
}

fn schemas(folder: &Path) {
    for name in ["user", "plan"] {
        let place = folder.join("com.acme").join(name).join("jsonschema");
        std::fs::create_dir_all(&place).unwrap();
        let key =
            json!({"vendor": "com.acme", "name": name, "format": "jsonschema", "version": "1-0-0"});
        let schema = json!({
            "$schema": "http://iglucentral.com/schemas/com.snowplowanalytics.self-desc/schema/jsonschema/1-0-0#",
            "self": key, "type": "object",
        });
        std::fs::write(place.join("1-0-0"), schema.to_string()).unwrap();
    }
}

fn start(folder: &Path, more: &[&str]) -> Up {
    let own = [
        format!("enrich.enrichments={}", folder.join("enrichments").display()),
        format!("enrich.schemas={}", folder.join("schemas").display()),
        "batch.interval=1h".to_owned(),
    ];
    let settings: Vec<&str> = own.iter().map(String::as_str).chain(more.iter().copied()).collect();
    Up::start(&folder.join("data"), &settings)
}

/// A request with a transaction of this user.
fn send(up: &Up, number: u64, user: &str) {
    let event = json!({
        "e": "tr", "p": "srv", "tv": "test-1", "eid": event_id(number), "uid": user, "tr_id": "1",
        "tr_cu": "GBP", "tr_tt": "12.99",
    });
    let body = json!({
        "schema": "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4",
        "data": [event],
    });
    assert_eq!(up.post_tp2(body.to_string().as_bytes()), 200);
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("enrichments")).unwrap();
    schemas(&folder.path().join("schemas"));
    folder
}

#[test]
fn an_inner_host_is_asked_only_where_the_configuration_allows_it() {
    let folder = folder();
    let api = Registry::start();
    api.answer_at("/users/7", 200, r#"{"plan": "gold"}"#);
    configure(&folder.path().join("enrichments"), &api);
    let up = start(folder.path(), &[]);
    send(&up, 1, "7");
    wait_until("the event is a bad row", || up.number("SELECT count(*) FROM atomic.bad_rows") == 1);
    let messages = up.sql("SELECT messages FROM atomic.bad_rows");
    assert!(messages[0][0].as_str().unwrap().contains("not among `enrich.look-up-hosts`"));
    assert_eq!(api.connections(), 0);
    drop(up);
    // With the key the next event is good. The first one was answered, and stays what it is.
    let up = start(folder.path(), &[&format!("enrich.look-up-hosts={}", api.address)]);
    send(&up, 2, "7");
    wait_until("the event is there", || up.number("SELECT count(*) FROM atomic.events") == 1);
    up.rebuild();
    assert_eq!(up.number("SELECT count(*) FROM atomic.bad_rows"), 1);
    assert_eq!(api.requests().len(), 1);
}

#[test]
fn what_was_answered_stays_in_both_layers_and_after_a_rebuild() {
    let folder = folder();
    let enrichments = folder.path().join("enrichments");
    let (api, database) = (Registry::start(), Database::start());
    configure(&enrichments, &api);
    database.run(
        "CREATE TABLE plans (id text, plan_name text); GRANT SELECT ON plans TO scram; \
         INSERT INTO plans SELECT at::text, 'gold' FROM generate_series(0, 3) at",
    );
    let postgresql = json!({
        "host": "127.0.0.1", "port": database.port, "sslMode": true, "sslInsecure": true, "username": "scram",
        "password": "s3cret-p4ss", "database": "postgres",
    });
    database.run("ALTER USER scram PASSWORD 's3cret-p4ss'");
    let parameters = json!({
        "inputs": [{"placeholder": 1, "pojo": {"field": "user_id"}}],
        "database": {"postgresql": postgresql},
        "query": {"sql": "SELECT plan_name, now()::text AS asked_at FROM plans WHERE id = ?", "timeout": 60000},
        "output": {"expectedRows": "EXACTLY_ONE", "json": {
            "schema": "iglu:com.acme/plan/jsonschema/1-0-0", "describes": "ALL_ROWS", "propertyNames": "CAMEL_CASE",
        }},
        "cache": {"size": 10, "ttl": 0},
    });
    write(&enrichments, ENRICHMENTS, "sql_query_enrichment_config", "1-0-1", &parameters);
    let parameters = json!({
        "apiKey": "s3cret-key", "baseCurrency": "EUR", "rateAt": "EOD_PRIOR", "accountType": "DEVELOPER", "uri": api.uri(),
    });
    write(&enrichments, SNOWPLOW, "currency_conversion_config", "1-0-0", &parameters);
    let says = |plan: &str, euros: f64| {
        let rates =
            json!({"rates": {"USD": 1, "GBP": 0.79, "EUR": euros}, "plan": plan}).to_string();
        api.behave_always(Some(loopback::Behaviour::Says(200, String::new(), rates.into())));
    };
    says("gold", 0.92);
    let up = start(folder.path(), &[&format!("enrich.look-up-hosts={}", api.address)]);
    for number in 0..4 {
        send(&up, number, &number.to_string());
    }
    wait_until("all events are there", || up.rows() == 4);
    let rows = || {
        up.sql(
            "SELECT _partition, _offset, event_id, base_currency, tr_total_base, derived_contexts FROM atomic.events \
             ORDER BY event_id",
        )
    };
    let before = rows();
    for row in &before {
        assert_eq!((&row[3], &row[4]), (&json!("EUR"), &json!("15.13")));
        let entities = row[5].as_str().unwrap();
        assert!(entities.contains(r#""planName":"gold""#), "{entities}");
        assert!(entities.contains("com.acme/user"), "{entities}");
    }
    // A question for each event, and one for the rates of the day (of two, if midnight passed).
    let asked = api.requests().len();
    assert!((5..=6).contains(&asked), "{asked}");

    says("silver", 2.0);
    database.run("UPDATE plans SET plan_name = 'silver'");
    up.batch_run();
    assert_eq!(rows(), before, "the batch layer");
    up.rebuild();
    assert_eq!(rows(), before, "a rebuild");
    assert_eq!(api.requests().len(), asked);
    let said = format!("{}{}", up.stderr(), up.status());
    assert!(!said.contains("s3cret"), "{said}");
    send(&up, 9, "3");
    wait_until("another event", || up.rows() == 5);
    let last = rows().remove(4);
    assert!(last[5].as_str().unwrap().contains(r#""planName":"silver""#), "{last:?}");
}
