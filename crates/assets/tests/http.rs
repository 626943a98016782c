//! Questions over HTTP, against a registry of our own on loopback: slow, wrong, empty, dead, limited, huge.

#![expect(clippy::unwrap_used, reason = "a test stops at what it does not expect")]

mod loopback;

use std::time::{Duration, Instant};

use assets::ask::{Ask, NoReply, Reply};
use assets::http::Http;
use assets::resolver_config::ResolverConfig;
use enrich::iglu::Repository;
use model::bad_row::LookupError;
use model::iglu::SchemaKey;
use serde_json::{Value, json};
use stream::disk::Disk;
use tempfile::TempDir;

use loopback::{Behaviour, Registry, schema};

const PATH: &str = "com.acme/a/jsonschema/1-0-0";

fn key(path: &str) -> SchemaKey {
    SchemaKey::parse(&format!("iglu:{path}")).unwrap()
}

/// The asker and the repositories of a resolver file with these registries, each with an API key or without one.
fn read(registries: &[(&str, &str, Option<&str>)]) -> (Http, Vec<Repository>) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("resolver.json");
    let repositories: Vec<Value> = registries
        .iter()
        .map(|(name, uri, api_key)| {
            let http = json!({"uri": uri, "apikey": api_key});
            json!({"name": name, "priority": 0, "vendorPrefixes": [], "connection": {"http": http}})
        })
        .collect();
    let document = json!({
        "schema": "iglu:com.snowplowanalytics.iglu/resolver-config/jsonschema/1-0-3",
        "data": {"cacheSize": 500, "repositories": repositories},
    });
    std::fs::write(&path, document.to_string()).unwrap();
    let config = ResolverConfig::read(&Disk, path.to_str().unwrap()).unwrap();
    (config.http(), config.resolver.repositories)
}

fn ask(registry: &Registry, api_key: Option<&str>, path: &str) -> Result<Reply, NoReply> {
    let (http, repositories) = read(&[("Acme", &format!("{}/", registry.uri()), api_key)]);
    http.ask(&repositories[0], &key(path))
}

fn why(reply: Result<Reply, NoReply>) -> String {
    let NoReply(why) = reply.unwrap_err();
    why
}

#[test]
fn a_schema_and_an_absence_are_answers_and_one_connection_carries_many() {
    let registry = Registry::start();
    registry.publish(PATH, "integer");
    let (http, repositories) = read(&[("Acme", &registry.uri(), Some("s3cret"))]);
    for _ in 0..5 {
        let reply = http.ask(&repositories[0], &key(PATH)).unwrap();
        assert_eq!(reply, Reply::Schema(schema(PATH, "integer")));
        let reply = http.ask(&repositories[0], &key("com.acme/b/jsonschema/1-0-0")).unwrap();
        assert_eq!(reply, Reply::not_found());
    }
    let requests = registry.requests();
    assert_eq!(requests.len(), 10);
    assert_eq!(requests[0].path, format!("/schemas/{PATH}"));
    let header = |name: &str| {
        let found = requests[0].headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| value.as_str())
    };
    assert_eq!(header("apikey"), Some("s3cret"));
    assert!(header("user-agent").unwrap().starts_with("snowmelt/"));
    assert_eq!(registry.connections(), 1);
}

#[test]
fn numbers_in_a_schema_keep_their_spelling() {
    let registry = Registry::start();
    registry.answer(PATH, 200, r#"{"maximum":1.50,"minimum":123456789012345678901234567890}"#);
    let Reply::Schema(schema) = ask(&registry, None, PATH).unwrap() else { panic!("it is there") };
    assert_eq!(schema.to_string(), r#"{"maximum":1.50,"minimum":123456789012345678901234567890}"#);
}

#[test]
fn what_says_nothing_about_the_key_is_no_answer() {
    let registry = Registry::start();
    for status in [408, 421, 425, 429, 500, 502, 503, 504] {
        registry.answer(PATH, status, "{}");
        assert_eq!(why(ask(&registry, None, PATH)), format!("status {status}"));
    }
    for (status, api_key) in [(401, None), (401, Some("k")), (403, Some("k"))] {
        registry.answer(PATH, status, "{}");
        assert!(why(ask(&registry, api_key, PATH)).contains("API key"), "{status}");
    }
    for body in ["", "<html>", "{\"a\":", "\u{0}"] {
        registry.answer(PATH, 200, body);
        assert!(why(ask(&registry, None, PATH)).contains("not JSON"), "{body}");
    }
    registry.answer(PATH, 200, &format!("\"{}\"", "x".repeat(2 << 20)));
    assert!(why(ask(&registry, None, PATH)).contains("larger than"));
    registry.behave(PATH, Behaviour::Endless);
    assert!(why(ask(&registry, None, PATH)).contains("larger than"));
    registry.behave(PATH, Behaviour::BreaksOff);
    assert!(ask(&registry, None, PATH).is_err());
}

#[test]
fn other_refusals_are_answers_that_a_look_up_history_tells() {
    let registry = Registry::start();
    registry.answer(PATH, 410, "{}");
    assert_eq!(ask(&registry, None, PATH).unwrap(), Reply::not_found());
    for status in [400, 403, 414] {
        registry.answer(PATH, status, "{}");
        let message = Some(format!("Unexpected response status {status}"));
        let error = LookupError { error: "ClientFailure".to_owned(), message };
        assert_eq!(ask(&registry, None, PATH).unwrap(), Reply::Not(error));
    }
}

#[test]
fn a_registry_that_is_slow_or_dead_gives_no_answer_in_time() {
    let registry = Registry::start();
    registry.behave(PATH, Behaviour::Hangs);
    let begun = Instant::now();
    assert_eq!(why(ask(&registry, None, PATH)), "no answer within 5 seconds");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    let (http, repositories) = read(&[("Acme", &registry.uri(), None)]);
    drop(registry);
    let refused = why(http.ask(&repositories[0], &key(PATH)));
    assert!(refused.to_lowercase().contains("refused"), "{refused}");
}

#[test]
fn a_connection_that_the_registry_has_closed_is_made_again() {
    let registry = Registry::start();
    let (http, repositories) = read(&[("Acme", &registry.uri(), None)]);
    assert_eq!(http.ask(&repositories[0], &key(PATH)).unwrap(), Reply::not_found());
    let address = registry.address;
    drop(registry);
    let again = Registry::at(address);
    again.publish(PATH, "string");
    assert_eq!(
        http.ask(&repositories[0], &key(PATH)).unwrap(),
        Reply::Schema(schema(PATH, "string"))
    );
}

#[test]
fn a_redirect_is_followed_and_the_api_key_is_not_taken_along() {
    let (registry, other) = (Registry::start(), Registry::start());
    other.publish(PATH, "integer");
    let to = |location: &str| Behaviour::Says(302, format!("Location: {location}\r\n"), Vec::new());
    registry.behave(PATH, to("/schemas/moved"));
    registry.behave("moved", to(&format!("{}/schemas/{PATH}", other.uri())));
    assert_eq!(
        ask(&registry, Some("s3cret"), PATH).unwrap(),
        Reply::Schema(schema(PATH, "integer"))
    );
    let has_key = |registry: &Registry| {
        let requests = registry.requests();
        requests.iter().filter(|it| it.headers.iter().any(|(name, _)| name == "apikey")).count()
    };
    assert_eq!((has_key(&registry), has_key(&other)), (2, 0));

    registry.behave(PATH, to(&format!("/schemas/{PATH}")));
    assert!(why(ask(&registry, None, PATH)).contains("more than 5 times"));
    for location in ["file:///etc/passwd", "//elsewhere.example/", "ftp://a.example/", ""] {
        registry.behave(PATH, to(location));
        assert!(why(ask(&registry, None, PATH)).contains("status 302"), "{location}");
    }
}

#[test]
fn a_key_that_no_registry_can_have_is_not_asked_for() {
    let registry = Registry::start();
    registry.behave_always(Some(Behaviour::Says(500, String::new(), Vec::new())));
    let long = format!("com.acme/{}/jsonschema/1-0-0", "a".repeat(600));
    for path in ["../a/jsonschema/1-0-0", "./a/jsonschema/1-0-0", &long] {
        assert_eq!(ask(&registry, None, path).unwrap(), Reply::not_found(), "{path}");
    }
    assert_eq!(registry.requests().len(), 0);
}

#[test]
fn the_versions_of_a_model_are_listed() {
    let registry = Registry::start();
    let (http, repositories) = read(&[("Acme", &registry.uri(), None)]);
    let list = |model: u32| {
        let key = key(&format!("com.acme/a/jsonschema/{model}-0-0"));
        http.list(&repositories[0], &key)
            .map(|keys| keys.iter().map(|key| key.version().to_string()).collect::<Vec<_>>())
    };
    let uris = json!(["iglu:com.acme/a/jsonschema/1-0-0", "iglu:com.acme/a/jsonschema/1-1-0"]);
    registry.answer("com.acme/a/jsonschema/1", 200, &uris.to_string());
    assert_eq!(list(1).unwrap(), ["1-0-0", "1-1-0"]);
    registry.answer("com.acme/a/jsonschema/2", 404, "");
    assert_eq!(list(2).unwrap(), [""; 0]);
    registry.answer("com.acme/a/jsonschema/3", 500, "");
    assert_eq!(list(3).unwrap_err().0, "status 500");
    registry.answer("com.acme/a/jsonschema/4", 200, r#"["com.acme"]"#);
    assert!(list(4).unwrap_err().0.contains("com.acme"));
    registry.answer("com.acme/a/jsonschema/5", 200, "{}");
    assert!(list(5).unwrap_err().0.contains("no list"));
}
