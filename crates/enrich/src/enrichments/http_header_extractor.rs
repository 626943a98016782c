//! Entities for chosen headers of the request. Snowplow: `enrichments.md` 15.
//!
//! A pattern such as `.*` copies cookies and addresses too. A value of more than 4096 characters makes the event a bad
//! row, by the entity's schema.

use fancy_regex::Regex;
use model::bad_row::EnrichmentError;
use model::iglu::SchemaKey;
use serde::Deserialize;
use serde_json::json;

use super::{Assets, Enrichment, Kind, Work, configured};

pub(super) const KIND: Kind = Kind {
    name: "http_header_extractor_config",
    criterion: "iglu:com.snowplowanalytics.snowplow.enrichments/http_header_extractor_config/jsonschema/1-0-*",
    schema: include_str!("http_header_extractor.schema.json"),
    identifier: "http-header-extractor",
    many: false,
    assets: configured::no_assets,
    build: |data, _: &Assets| {
        let settings: Settings = configured::parameters(data)?;
        let whole = format!("^(?:{})$", settings.headers_pattern);
        let pattern = Regex::new(&whole)
            .map_err(|error| format!("headersPattern is no regular expression: {error}"))?;
        Ok(Box::new(HttpHeaderExtractor { pattern, schema: configured::schema_key(HEADER) }))
    },
};

const HEADER: &str = "iglu:org.ietf/http_header/jsonschema/1-0-0";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Settings {
    headers_pattern: String,
}

#[derive(Debug)]
struct HttpHeaderExtractor {
    /// Of a header's whole name. Look-around is allowed, as in Java.
    pattern: Regex,
    schema: SchemaKey,
}

impl Enrichment for HttpHeaderExtractor {
    fn run(&self, work: &mut Work<'_>) -> Result<(), Vec<EnrichmentError>> {
        for header in &work.request.headers {
            let Some((name, value)) = header.split_once(':') else { continue };
            // A pattern that gives up after a million steps does not match.
            if self.pattern.is_match(name).unwrap_or(false) {
                let data = json!({"name": name.trim(), "value": value.trim()});
                work.derive(self.schema.clone(), data);
            }
        }
        Ok(())
    }
}
