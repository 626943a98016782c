//! All that an outcome depends on besides the record: Iglu schemas and settings.
//!
//! A recipe is a stored artefact with a digest. Both layers load it by digest, and every range of positions names the
//! one it was enriched with. The artefact is one JSON text in a fixed order of keys; the embedded schemas stand in it
//! by their digest only, since they come with the function's version.

use model::iglu::SchemaKey;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::VERSION;
use crate::iglu::Schemas;

/// The version of the artefact's own form.
const FORMAT: u64 = 1;

/// The choices that change outcomes. The defaults are Snowplow's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Settings {
    /// The deepest level of a JSON text from outside; the root is level 1. Values above 127 count as 127.
    /// Snowplow: `enrich-core.md` 3.5.
    pub json_depth_max: u32,
    /// The largest enriched event or bad row, in bytes; a longer one becomes a size violation.
    pub record_bytes_max: u64,
    /// The largest payload inside a compressed record, in bytes.
    pub payload_bytes_max: u64,
    /// The most bytes that one compressed record may unfold to; what lies beyond counts as corrupt. Snowplow has no
    /// such bound.
    pub container_bytes_max: u64,
    /// Whether a `Forwarded` header counts only if no other header follows it, as in Snowplow.
    pub forwarded_must_be_last: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            json_depth_max: 50,
            record_bytes_max: 1_000_000,
            payload_bytes_max: 10_000_000,
            container_bytes_max: 64 * 1024 * 1024,
            forwarded_must_be_last: true,
        }
    }
}

/// Schemas and settings under one digest. Cheap to share behind an `Arc`.
#[derive(Clone, Debug)]
pub struct Recipe {
    schemas: Schemas,
    settings: Settings,
    json: String,
    digest: String,
}

/// A text that is not a recipe of this function.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRecipe {
    #[error("the recipe is not readable: {0}")]
    Form(String),
    #[error("the recipe has format {0}, this binary reads format {FORMAT}")]
    Format(u64),
    /// Another version of the function, or of its embedded schemas, would give other outcomes.
    #[error("the recipe was made for {what} {found}, this binary has {ours}")]
    OtherFunction { what: &'static str, found: String, ours: String },
}

impl Recipe {
    /// The recipe of these schemas and settings.
    pub fn new(schemas: Schemas, settings: Settings) -> Recipe {
        let json = print(&schemas, &settings);
        let digest = Sha256::digest(json.as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
        Recipe { schemas, settings, json, digest }
    }

    /// The name of the recipe: SHA-256 of [`Recipe::to_json`], 64 hex digits.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The stored artefact. Equal recipes have equal texts.
    pub fn to_json(&self) -> String {
        self.json.clone()
    }

    pub fn schemas(&self) -> &Schemas {
        &self.schemas
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Reads the stored artefact. The result has the digest of `text` if `text` came from [`Recipe::to_json`].
    ///
    /// # Errors
    /// When the text is not a recipe, or one for another function version or embedded set than this binary has.
    pub fn from_json(text: &str) -> Result<Recipe, InvalidRecipe> {
        let form = |error: serde_json::Error| InvalidRecipe::Form(error.to_string());
        let object: Map<String, Value> = serde_json::from_str(text).map_err(form)?;
        match object.get("format").and_then(Value::as_u64) {
            Some(FORMAT) => {}
            Some(other) => return Err(InvalidRecipe::Format(other)),
            None => return Err(InvalidRecipe::Form("no `format`".to_owned())),
        }
        expect_ours("function version", &object, "function", VERSION)?;
        expect_ours("embedded schemas", &object, "embedded-schemas", Schemas::embedded_digest())?;
        let settings = object.get("settings").cloned().unwrap_or_default();
        let settings: Settings = serde_json::from_value(settings).map_err(form)?;
        let Some(Value::Object(schemas)) = object.get("schemas") else {
            return Err(InvalidRecipe::Form("no `schemas`".to_owned()));
        };
        let local: Vec<(SchemaKey, Value)> = schemas
            .iter()
            .map(|(key, schema)| match SchemaKey::parse(key) {
                Ok(parsed) => Ok((parsed, schema.clone())),
                Err(error) => Err(InvalidRecipe::Form(format!("schema key `{key}`: {error}"))),
            })
            .collect::<Result<_, _>>()?;
        Ok(Recipe::new(Schemas::embedded().with_local(local), settings))
    }
}

fn expect_ours(
    what: &'static str,
    object: &Map<String, Value>,
    key: &str,
    ours: &str,
) -> Result<(), InvalidRecipe> {
    match object.get(key).and_then(Value::as_str) {
        Some(found) if found == ours => Ok(()),
        Some(found) => Err(InvalidRecipe::OtherFunction {
            what,
            found: found.to_owned(),
            ours: ours.to_owned(),
        }),
        None => Err(InvalidRecipe::Form(format!("no `{key}`"))),
    }
}

fn print(schemas: &Schemas, settings: &Settings) -> String {
    let local: Map<String, Value> =
        schemas.local().map(|(key, schema)| (key.to_string(), schema.clone())).collect();
    let settings = serde_json::to_value(settings).expect("the settings are numbers and booleans");
    let mut recipe = Map::new();
    recipe.insert("format".to_owned(), FORMAT.into());
    recipe.insert("function".to_owned(), VERSION.into());
    recipe.insert("embedded-schemas".to_owned(), Schemas::embedded_digest().into());
    recipe.insert("settings".to_owned(), settings);
    recipe.insert("schemas".to_owned(), Value::Object(local));
    Value::Object(recipe).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key(uri: &str) -> SchemaKey {
        SchemaKey::parse(uri).unwrap()
    }

    #[test]
    fn a_recipe_reads_back_with_its_digest() {
        let schemas = Schemas::embedded().with_local([
            (
                key("iglu:org.example/b/jsonschema/1-0-0"),
                json!({"type": "object", "maximum": 1.50}),
            ),
            (key("iglu:org.example/a/jsonschema/1-0-0"), json!({"type": "object"})),
        ]);
        let recipe = Recipe::new(schemas, Settings { json_depth_max: 40, ..Settings::default() });
        let read = Recipe::from_json(&recipe.to_json()).unwrap();
        assert_eq!(read.digest(), recipe.digest());
        assert_eq!(read.to_json(), recipe.to_json());
        assert_eq!(read.settings(), recipe.settings());
        assert_eq!(recipe.digest().len(), 64);
    }

    #[test]
    fn another_setting_is_another_recipe() {
        let digest = |settings| Recipe::new(Schemas::embedded(), settings).digest().to_owned();
        let shorter = Settings { record_bytes_max: 999_999, ..Settings::default() };
        assert_ne!(digest(Settings::default()), digest(shorter));
    }

    #[test]
    fn a_recipe_of_another_function_is_refused_by_name() {
        let text = Recipe::new(Schemas::embedded(), Settings::default()).to_json();
        let other = text.replacen(VERSION, "9.9.9", 1);
        let error = Recipe::from_json(&other).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("the recipe was made for function version 9.9.9, this binary has {VERSION}")
        );
        for text in ["", "[]", "{}", r#"{"format":2}"#] {
            assert!(Recipe::from_json(text).is_err(), "{text}");
        }
    }
}
