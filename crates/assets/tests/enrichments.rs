//! Files that enrichments read, fetched over HTTP from loopback.

mod loopback;

use std::sync::Arc;

use assets::enrichments::{Configured, Source};
use loopback::Registry;
use serde_json::json;
use stream::disk::Disk;
use tempfile::TempDir;

#[test]
fn a_file_on_the_network_is_fetched_once_and_its_absence_is_told_by_its_address() {
    let server = Registry::start();
    server.answer("lists/referers.json", 200, r#"{"search": {}}"#);
    let folder = TempDir::new().unwrap();
    let config = |database: &str| {
        let json = json!({
            "schema": "iglu:com.snowplowanalytics.snowplow/referer_parser/jsonschema/2-0-0",
            "data": {
                "vendor": "com.snowplowanalytics.snowplow", "name": "referer_parser", "enabled": true,
                "parameters": {
                    "internalDomains": [], "database": database, "uri": format!("{}/schemas/lists", server.uri()),
                },
            },
        });
        std::fs::write(folder.path().join("referer_parser.json"), json.to_string()).unwrap();
    };
    config("referers.json");
    let source = Source::new(Arc::new(Disk), Configured::Folder(folder.path().to_owned()));
    let read = source.read().unwrap();
    assert_eq!((read.configs().len(), read.assets().len()), (1, 1));
    server.answer("lists/referers.json", 200, r#"{"social": {}}"#);
    let again = source.read().unwrap();
    assert_eq!(
        again.assets().values().next().unwrap().digest,
        read.assets().values().next().unwrap().digest
    );
    assert_eq!(server.requests().len(), 1);

    config("nowhere.json");
    server.answer("lists/nowhere.json", 404, "");
    let error = source.read().unwrap_err().to_string();
    let address = format!("{}/schemas/lists/nowhere.json", server.uri());
    assert!(error.starts_with(&format!("fetch {address}, which an enrichment needs: ")), "{error}");
    assert!(error.contains("404"), "{error}");
}
