//! The data-driven cases of whole records: where they lie, and a case as the bytes of its record and its recipe.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use enrich::iglu::Schemas;
use enrich::{Recipe, Settings};
use model::payload::CollectorPayload;
use serde_json::Value;

/// The checkout.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The folder of the acceptance vectors, where the specification's lies beside the checkout or is named by
/// `SHARED_FIXTURES`.
pub(crate) fn acceptance() -> Option<PathBuf> {
    let shared = std::env::var_os("SHARED_FIXTURES")
        .map_or_else(|| repository().join("../shared"), PathBuf::from);
    let folder = shared.join("fixtures/enrich-core");
    if !folder.exists() {
        println!("{} is not here: our own vectors alone are run", folder.display());
        return None;
    }
    Some(folder)
}

/// The cases of a file.
pub(crate) fn read(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The recipe of a case without enrichments.
pub(crate) fn recipe(case: &Value, schemas: &Schemas) -> Recipe {
    let settings = match &case["settings"] {
        Value::Null => Settings::default(),
        settings => serde_json::from_value(settings.clone()).unwrap(),
    };
    Recipe::new(schemas.clone(), settings)
}

/// The record of a case: its bytes, or the payload's fields by their names on the wire.
pub(crate) fn record(case: &Value) -> Vec<u8> {
    if let Some(base64) = case["record_b64"].as_str() {
        return STANDARD.decode(base64).unwrap();
    }
    let payload = &case["payload"];
    let text = |name: &str| payload[name].as_str().map(str::to_owned);
    let or = |name: &str, default: &str| text(name).unwrap_or_else(|| default.to_owned());
    CollectorPayload {
        ip_address: or("ipAddress", "192.0.2.33"),
        timestamp: payload["timestamp"].as_i64().unwrap_or(1_790_000_000_000),
        encoding: or("encoding", "UTF-8"),
        collector: or("collector", "collector-1"),
        user_agent: text("userAgent"),
        referer_uri: text("refererUri"),
        path: text("path"),
        querystring: text("querystring"),
        body: text("body"),
        headers: payload["headers"]
            .as_array()
            .map(|all| all.iter().map(|h| h.as_str().unwrap().to_owned()).collect()),
        content_type: text("contentType"),
        hostname: text("hostname"),
        network_userid: text("networkUserId"),
        schema: or("schema", model::payload::SCHEMA),
    }
    .encode()
}
