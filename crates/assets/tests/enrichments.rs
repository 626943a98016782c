//! Files that enrichments read, fetched over HTTP from loopback.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops at what it does not expect, also in its helpers"
)]

mod loopback;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use assets::enrichments::{Configured, Source};
use loopback::{Behaviour, Registry};
use serde_json::json;
use stream::disk::Disk;
use tempfile::TempDir;

const PATH: &str = "lists/referers.json";

/// Writes the configuration of the list of referrers that the server has under this name.
fn configure(folder: &Path, server: SocketAddr, database: &str) {
    let json = json!({
        "schema": "iglu:com.snowplowanalytics.snowplow/referer_parser/jsonschema/2-0-0",
        "data": {
            "vendor": "com.snowplowanalytics.snowplow", "name": "referer_parser", "enabled": true,
            "parameters": {
                "internalDomains": [], "database": database,
                "uri": format!("http://{server}/schemas/lists"),
            },
        },
    });
    std::fs::write(folder.join("referer_parser.json"), json.to_string()).unwrap();
}

/// The enrichments of this folder, their files fetched once.
fn source(folder: &Path) -> Source {
    Source::new(Arc::new(Disk), Configured::Folder(folder.to_owned()))
}

/// The digest of the one file that the enrichments read.
fn digest(source: &Source) -> String {
    source.read().unwrap().assets().values().next().unwrap().digest.clone()
}

fn list(name: &str, etag: Option<&str>) -> Behaviour {
    let body = json!({"search": {name: {"domains": ["a.example"]}}}).to_string();
    let headers = etag.map_or_else(String::new, |etag| format!("ETag: {etag}\r\n"));
    Behaviour::Says(200, headers, body.into())
}

#[test]
fn a_file_on_the_network_is_fetched_once_and_its_absence_is_told_by_its_address() {
    let (server, folder) = (Registry::start(), TempDir::new().unwrap());
    server.answer(PATH, 200, r#"{"search": {}}"#);
    configure(folder.path(), server.address, "referers.json");
    let source = source(folder.path());
    let read = source.read().unwrap();
    assert_eq!((read.configs().len(), read.assets().len()), (1, 1));
    server.answer(PATH, 200, r#"{"social": {}}"#);
    assert_eq!(digest(&source), read.assets().values().next().unwrap().digest);
    assert_eq!(server.requests().len(), 1);

    configure(folder.path(), server.address, "nowhere.json");
    server.answer("lists/nowhere.json", 404, "");
    let error = source.read().unwrap_err().to_string();
    let address = format!("{}/schemas/lists/nowhere.json", server.uri());
    assert!(error.starts_with(&format!("fetch {address}, which an enrichment needs: ")), "{error}");
    assert!(error.contains("404"), "{error}");
}

#[test]
fn a_file_is_looked_at_again_and_a_new_version_is_another_recipe() {
    let (server, folder) = (Registry::start(), TempDir::new().unwrap());
    configure(folder.path(), server.address, "referers.json");
    let source = source(folder.path()).refreshing(Duration::ZERO);
    server.behave(PATH, list("One", Some("\"1\"")));
    let first = digest(&source);
    // The server is asked whether the file is still that one.
    server.behave(PATH, Behaviour::Says(304, String::new(), Vec::new()));
    assert_eq!(digest(&source), first);
    let tag = |name: &str| {
        let last = server.requests().pop().unwrap();
        last.headers.into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
    };
    assert_eq!(tag("if-none-match").as_deref(), Some("\"1\""));
    server.behave(PATH, list("Two", None));
    let second = digest(&source);
    assert_ne!(second, first);
    // Without a tag the content is compared.
    assert_eq!(digest(&source), second);
    assert_eq!(tag("if-none-match"), None);
    let refreshes = source.refreshes();
    assert_eq!((refreshes.unchanged, refreshes.changed, refreshes.failed), (2, 1, 0));
    assert!(refreshes.stale.is_empty());
}

#[test]
fn a_file_that_cannot_be_had_or_used_again_stays_as_it_was() {
    let (server, folder) = (Registry::start(), TempDir::new().unwrap());
    configure(folder.path(), server.address, "referers.json");
    let source = source(folder.path()).refreshing(Duration::ZERO);
    server.behave(PATH, list("One", Some("\"1\"")));
    let first = digest(&source);
    let bad = Behaviour::Says(200, String::new(), b"<html>".to_vec());
    let away = Behaviour::Says(503, String::new(), Vec::new());
    for (behaviour, why) in [(away, "503"), (bad, "cannot be used"), (Behaviour::BreaksOff, "")] {
        server.behave(PATH, behaviour);
        assert_eq!(digest(&source), first);
        let (address, what) = source.refreshes().stale.remove(0);
        assert!(address.ends_with(PATH) && what.contains(why), "{address} {what}");
    }
    assert_eq!(source.refreshes().failed, 3);
    assert_eq!(source.refreshes().changed, 0);
    server.behave(PATH, list("Two", None));
    assert_ne!(digest(&source), first);
    assert!(source.refreshes().stale.is_empty(), "all is well again");
}

#[test]
fn before_the_first_event_a_file_is_asked_for_more_than_once() {
    let (server, folder) = (Registry::start(), TempDir::new().unwrap());
    let address = server.address;
    configure(folder.path(), address, "referers.json");
    drop(server);
    let source = source(folder.path());
    std::thread::scope(|scope| {
        let read = scope.spawn(|| source.read());
        // The first attempt is refused; some later one is not.
        std::thread::sleep(Duration::from_millis(100));
        let server = Registry::at(address);
        server.behave(PATH, list("One", None));
        assert!(read.join().unwrap().is_ok());
    });
}
