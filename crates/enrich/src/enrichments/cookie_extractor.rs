//! Entities for chosen cookies of the request. Snowplow: `enrichments.md` 14.
//!
//! Only a semicolon separates cookies here; Snowplow's reader stops at a comma and loses those behind it.

use model::bad_row::EnrichmentError;
use model::iglu::SchemaKey;
use serde_json::json;

use super::{Assets, Enrichment, Kind, Work, configured};

pub(super) const KIND: Kind = Kind {
    name: "cookie_extractor_config",
    criterion: "iglu:com.snowplowanalytics.snowplow/cookie_extractor_config/jsonschema/1-0-*",
    schema: include_str!("cookie_extractor.schema.json"),
    identifier: "cookie-extractor",
    many: false,
    assets: configured::no_assets,
    build: |data, _: &Assets| {
        let Settings { cookies } = configured::parameters(data)?;
        Ok(Box::new(CookieExtractor { cookies, schema: configured::schema_key(COOKIE) }))
    },
};

const COOKIE: &str = "iglu:org.ietf/http_cookie/jsonschema/1-0-0";

#[derive(serde::Deserialize)]
struct Settings {
    cookies: Vec<String>,
}

#[derive(Debug)]
struct CookieExtractor {
    /// By their names.
    cookies: Vec<String>,
    schema: SchemaKey,
}

impl Enrichment for CookieExtractor {
    fn run(&self, work: &mut Work<'_>) -> Result<(), Vec<EnrichmentError>> {
        for header in &work.request.headers {
            let Some((name, cookies)) = header.split_once(':') else { continue };
            if !name.trim().eq_ignore_ascii_case("cookie") {
                continue;
            }
            for (name, value) in cookies.split(';').map(pair) {
                if self.cookies.iter().any(|wanted| wanted == name) {
                    work.derive(self.schema.clone(), json!({"name": name, "value": value}));
                }
            }
        }
        Ok(())
    }
}

/// A cookie's name, and its value without quotes: `None` without an equals sign.
fn pair(text: &str) -> (&str, Option<&str>) {
    match text.split_once('=') {
        None => (text.trim(), None),
        Some((name, value)) => {
            let value = value.trim();
            let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            (name.trim(), Some(inner.unwrap_or(value)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_a_name_and_perhaps_a_value() {
        assert_eq!(pair(" sp=abc"), ("sp", Some("abc")));
        assert_eq!(pair("a"), ("a", None));
        assert_eq!(pair("a="), ("a", Some("")));
        assert_eq!(pair(" a = \"x=y\" "), ("a", Some("x=y")));
        assert_eq!(pair("a=\""), ("a", Some("\"")));
    }
}
