//! Look-ups of enrichments, against an API of our own on loopback, and the facts that they leave.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops at what it does not expect, also in its helpers"
)]

mod loopback;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use assets::look_ups::LookUp;
use assets::outside::Outside;
use assets::{Answers, Driver, Error};
use enrich::enrichments::{Assets, Config};
use enrich::iglu::Schemas;
use enrich::look_up::{Answer, HttpRequest, Request};
use enrich::{Enrichments, Outcome, Recipe, Settings};
use model::bad_row::BadRow;
use model::iglu::SchemaKey;
use model::payload::CollectorPayload;
use model::position::{Offset, Partition, RawRecord};
use serde_json::{Value, json};
use stream::disk::Disk;
use tempfile::TempDir;

use loopback::{Behaviour, Registry};

fn allowed() -> Arc<dyn LookUp> {
    Arc::new(Outside::new(vec!["127.0.0.1".parse().unwrap()]))
}

fn request(uri: String) -> HttpRequest {
    HttpRequest { method: "GET", uri, secret: None, body: None, timeout_ms: 5000, basic: None }
}

fn ask(asked: &Arc<dyn LookUp>, request: &HttpRequest) -> Answer {
    asked.look_up(&Request::Http(request.clone()))
}

fn get(api: &Registry, path: &str) -> Answer {
    ask(&allowed(), &request(format!("{}{path}", api.uri())))
}

#[test]
fn an_answer_in_json_is_one_and_all_else_is_an_error_in_words() {
    let api = Registry::start();
    api.answer_at("/good", 200, r#"{"a": 1.0}"#);
    assert_eq!(get(&api, "/good").unwrap().to_string(), r#"{"a":1.0}"#);
    api.answer_at("/created", 201, "[]");
    assert!(get(&api, "/created").is_ok());
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let large = format!("\"{}\"", "x".repeat(1 << 20));
    for (path, status, body, expected) in [
        ("/text", 200, "hello", "not JSON"),
        ("/empty", 204, "", "not JSON"),
        ("/absent", 404, "{}", "Request failed with status 404"),
        ("/broken", 500, "{}", "Request failed with status 500"),
        ("/deep", 200, &deep, "deeper than 64 levels"),
        ("/large", 200, &large, "larger than 1048576 bytes"),
    ] {
        api.answer_at(path, status, body);
        let what = get(&api, path).unwrap_err();
        assert!(what.contains(expected), "{path}: {what}");
    }
    api.behave_at("/off", Behaviour::BreaksOff);
    assert!(get(&api, "/off").unwrap_err().contains("Request failed"));
    // Elsewhere is nowhere.
    let moved = format!("Location: {}/good\r\n", api.uri());
    api.behave_at("/moved", Behaviour::Says(302, moved, Vec::new()));
    assert!(get(&api, "/moved").unwrap_err().contains("Request failed with status 302"));
}

#[test]
fn a_slow_api_ends_at_the_time_of_the_configuration() {
    let api = Registry::start();
    for behaviour in [Behaviour::Hangs, Behaviour::Endless] {
        api.behave_at("/slow", behaviour);
        let begun = Instant::now();
        let slow = HttpRequest { timeout_ms: 300, ..request(format!("{}/slow", api.uri())) };
        let what = ask(&allowed(), &slow).unwrap_err();
        assert!(what.contains("300 ms") || what.contains("larger than"), "{what}");
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}

#[test]
fn inner_addresses_are_reached_only_where_they_are_allowed() {
    let api = Registry::start();
    api.answer_at("/a", 200, "{}");
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        let uri = format!("http://{host}:{}/a", api.address.port());
        let nobody: Arc<dyn LookUp> = Arc::new(Outside::new(Vec::new()));
        let what = ask(&nobody, &request(uri)).unwrap_err();
        assert!(what.contains("inside this machine"), "{host}: {what}");
    }
    assert_eq!(api.connections(), 0);
    assert!(get(&api, "/a").is_ok());
    // A port that is named is the only one.
    let port = api.address.port();
    for (allowed, is_good) in
        [(format!("127.0.0.1:{port}"), true), (format!("127.0.0.1:{}", port ^ 1), false)]
    {
        let some: Arc<dyn LookUp> = Arc::new(Outside::new(vec![allowed.parse().unwrap()]));
        let answer = ask(&some, &request(format!("{}/a", api.uri())));
        assert_eq!(answer.is_ok(), is_good, "{allowed}: {answer:?}");
    }
}

#[test]
fn method_body_and_password_arrive_and_no_error_repeats_a_secret() {
    let api = Registry::start();
    api.answer_at("/a?key=s3cret", 500, "{}");
    let post = HttpRequest {
        method: "POST",
        body: Some(r#"{"uid":"7"}"#.to_owned()),
        basic: Some(("me".to_owned(), "s3cret".to_owned())),
        ..request(format!("{}/a?key=s3cret", api.uri()))
    };
    let what = ask(&allowed(), &post).unwrap_err();
    assert!(what.contains("POST") && !what.contains("s3cret"), "{what}");
    let came = api.requests().remove(0);
    assert_eq!((came.method.as_str(), came.body.as_str()), ("POST", r#"{"uid":"7"}"#));
    let header = |name: &str| {
        let found = came.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    };
    assert_eq!(header("authorization"), Some("Basic bWU6czNjcmV0"));
    assert_eq!(header("content-type"), Some("application/json"));
}

#[test]
fn a_host_that_fails_again_and_again_is_left_alone() {
    let api = Registry::start();
    api.answer_at("/bad", 500, "{}");
    let asked = allowed();
    let bad = request(format!("{}/bad", api.uri()));
    for _ in 0..5 {
        assert!(ask(&asked, &bad).unwrap_err().contains("status 500"));
    }
    assert!(ask(&asked, &bad).unwrap_err().contains("left alone"));
    assert_eq!(api.requests().len(), 5);
}

/// A recipe that asks the API for the user, and one schema of what it says.
fn recipe(api: &Registry, ttl: u32, ignores: bool) -> Arc<Recipe> {
    let parameters = json!({
        "inputs": [{"key": "uid", "pojo": {"field": "user_id"}}],
        "api": {"http": {"method": "GET", "uri": format!("{}/users/{{{{uid}}}}", api.uri()), "timeout": 5000, "authentication": {}}},
        "outputs": [{"schema": "iglu:com.acme/u/jsonschema/1-0-0", "json": {"jsonPath": "$"}}],
        "cache": {"size": 10, "ttl": ttl},
        "ignoreOnError": ignores,
    });
    let schema = "iglu:com.snowplowanalytics.snowplow.enrichments/api_request_enrichment_config/jsonschema/1-0-2";
    let data = json!({"vendor": "v", "name": "n", "enabled": true, "parameters": parameters});
    let config =
        Config { file: "api.json".to_owned(), json: json!({"schema": schema, "data": data}) };
    let key = SchemaKey::parse("iglu:com.acme/u/jsonschema/1-0-0").unwrap();
    let schemas = Schemas::embedded().with_local([(key, json!({"type": "object"}))]);
    let enrichments = Enrichments::new(vec![config], &Assets::new()).unwrap();
    Arc::new(Recipe::new(schemas, Settings::default()).with_enrichments(enrichments))
}

fn answers(data: &Path) -> Arc<Answers> {
    Arc::new(Answers::open(Arc::new(Disk), data, None, 10).unwrap().looking_up(allowed()))
}

/// A record at this offset with one event for each user.
fn drive(driver: &mut Driver, offset: u64, users: &[&str]) -> Result<Vec<Outcome>, Error> {
    let events: Vec<Value> =
        users.iter().map(|uid| json!({"e": "pv", "p": "web", "tv": "t", "uid": uid})).collect();
    let bytes = CollectorPayload {
        ip_address: "203.0.113.7".to_owned(),
        timestamp: 1_790_000_000_000,
        encoding: "UTF-8".to_owned(),
        collector: "c".to_owned(),
        path: Some("/com.snowplowanalytics.snowplow/tp2".to_owned()),
        content_type: Some("application/json".to_owned()),
        body: Some(
            json!({
                "schema": "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4",
                "data": events,
            })
            .to_string(),
        ),
        schema: "iglu:com.snowplowanalytics.snowplow/CollectorPayload/thrift/1-0-0".to_owned(),
        ..CollectorPayload::default()
    }
    .encode();
    let partition = Partition::of_stream("raw", 0);
    driver.drive(&RawRecord {
        partition: &partition,
        offset: Offset::from_number(offset),
        bytes: &bytes,
    })
}

/// What the entity of the one good event says.
fn said(outcomes: &Result<Vec<Outcome>, Error>) -> Value {
    let Ok([Outcome::Enriched(event)]) = outcomes.as_deref() else { panic!("{outcomes:?}") };
    let entities: Value = serde_json::from_str(event.derived_contexts.as_deref().unwrap()).unwrap();
    entities["data"][0]["data"].clone()
}

#[test]
fn what_a_record_was_answered_it_is_answered_for_ever() {
    let (data, api) = (TempDir::new().unwrap(), Registry::start());
    api.answer_at("/users/7", 200, r#"{"v": 1}"#);
    let recipe = recipe(&api, 0, false);
    let mut driver = Driver::new(Arc::clone(&recipe), answers(data.path()));
    let first = drive(&mut driver, 1, &["7"]);
    assert_eq!(said(&first), json!({"v": 1}));
    api.answer_at("/users/7", 200, r#"{"v": 2}"#);
    // The same process, another one, and one that only reads; with the API changed, then away.
    assert_eq!(drive(&mut driver, 1, &["7"]).unwrap(), *first.as_ref().unwrap());
    let mut other = Driver::new(Arc::clone(&recipe), answers(data.path()));
    assert_eq!(drive(&mut other, 1, &["7"]).unwrap(), *first.as_ref().unwrap());
    let mut guest =
        Driver::new(Arc::clone(&recipe), Arc::new(Answers::reading(Arc::new(Disk), data.path())));
    assert_eq!(drive(&mut guest, 1, &["7"]).unwrap(), *first.as_ref().unwrap());
    assert_eq!(api.requests().len(), 1);
    let error = drive(&mut guest, 2, &["7"]).unwrap_err();
    assert!(error.waits() && error.to_string().contains("/users/7"), "{error}");
    drop(api);
    assert_eq!(drive(&mut other, 1, &["7"]).unwrap(), *first.as_ref().unwrap());
    assert_eq!(answers(data.path()).stats().facts, 1);
}

#[test]
fn an_error_is_an_answer_too() {
    let (data, api) = (TempDir::new().unwrap(), Registry::start());
    let mut driver = Driver::new(recipe(&api, 0, false), answers(data.path()));
    for _ in 0..2 {
        let outcomes = drive(&mut driver, 1, &["7"]).unwrap();
        let [Outcome::Bad(row)] = &outcomes[..] else { panic!("{outcomes:?}") };
        let BadRow::EnrichmentFailures { messages, .. } = &**row else { panic!("{row:?}") };
        assert_eq!(messages[0].enrichment.as_ref().unwrap().1, "api-request");
        assert!(format!("{messages:?}").contains("status 404"));
        api.answer_at("/users/7", 200, r#"{"v": 1}"#);
    }
    assert_eq!(said(&drive(&mut driver, 2, &["7"])), json!({"v": 1}));
    let mut lenient = Driver::new(recipe(&api, 0, true), answers(data.path()));
    assert!(matches!(drive(&mut lenient, 1, &["7"]).as_deref(), Ok([Outcome::Enriched(_)])));
}

#[test]
fn one_question_of_many_records_and_threads_is_asked_once() {
    let (data, api) = (TempDir::new().unwrap(), Registry::start());
    api.answer_at("/users/7", 200, r#"{"v": 1}"#);
    let (recipe, shared) = (recipe(&api, 300, false), answers(data.path()));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let mut driver = Driver::new(Arc::clone(&recipe), Arc::clone(&shared));
            scope.spawn(move || {
                for offset in 0..10 {
                    assert_eq!(
                        said(&drive(&mut driver, thread * 100 + offset, &["7"])),
                        json!({"v": 1})
                    );
                }
            });
        }
    });
    assert_eq!(api.requests().len(), 1);
    // Two events of one record, two questions.
    api.answer_at("/users/8", 200, r#"{"v": 8}"#);
    let mut driver = Driver::new(recipe, shared);
    let outcomes = drive(&mut driver, 999, &["7", "8", "7"]).unwrap();
    assert_eq!(outcomes.len(), 3);
    assert_eq!(api.requests().len(), 2);
}

#[test]
fn a_damaged_fact_is_never_used() {
    let (data, api) = (TempDir::new().unwrap(), Registry::start());
    api.answer_at("/users/7", 200, r#"{"v": 1}"#);
    let recipe = recipe(&api, 0, false);
    let mut driver = Driver::new(Arc::clone(&recipe), answers(data.path()));
    drive(&mut driver, 1, &["7"]).unwrap();
    let only = |folder: &Path| std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let path = only(&only(&data.path().join("facts/look-ups")));
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"v\":1", "\"v\":2")).unwrap();
    let error = drive(&mut driver, 1, &["7"]).unwrap_err();
    assert!(matches!(error, Error::DamagedLookUp { .. }) && !error.waits(), "{error}");
    std::fs::write(&path, text.replace("\"format\":1", "\"format\":9")).unwrap();
    assert!(matches!(drive(&mut driver, 1, &["7"]), Err(Error::NewerFact { format: 9, .. })));
}
