//! All that an outcome depends on besides the record: Iglu schemas, registries to ask for others, and settings.
//!
//! A recipe is a stored artefact with a digest. Both layers load it by digest, and every range of positions names the
//! one it was enriched with. The artefact is one JSON text in a fixed order of keys; the embedded schemas stand in it
//! by their digest only, since they come with the function's version. What registries answer is not in it: an answer
//! comes when it is asked for, and is kept beside it for good (`assets`).

use std::collections::BTreeMap;
use std::sync::Arc;

use model::event::EnrichedEvent;
use model::iglu::SchemaKey;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::VERSION;
use crate::enrichments::{self, Asset, Assets, Config, Enrichments, InvalidEnrichment};
use crate::iglu::{Answer, Resolver, Schemas};
use crate::validate::Lengths;

/// The newest version of the artefact's own form. The first one had no resolver, the second no enrichments; a recipe
/// without them is still written so.
const FORMAT: u64 = 3;
const FORMAT_WITHOUT_ENRICHMENTS: u64 = 2;
const FORMAT_WITHOUT_RESOLVER: u64 = 1;

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
    /// Whether an event that has a bad row is also kept as a failed event. Snowplow: `enrich-core.md` 5.4.
    #[serde(skip_serializing_if = "is_off")]
    pub failed_events: bool,
    /// Whether an event stays good whose text columns are longer than allowed. Snowplow's `validation.acceptInvalid`.
    #[serde(skip_serializing_if = "is_off")]
    pub accept_invalid: bool,
    /// The most UTF-16 code units of text columns, where they are to be others than Snowplow's. Its
    /// `validation.atomicFieldsLimits`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub atomic_field_limits: BTreeMap<String, u32>,
    /// Whether bad rows show long parameters, headers and messages whole, as Snowplow's do, although their published
    /// schemas do not allow it.
    #[serde(skip_serializing_if = "is_off")]
    pub whole_bad_rows: bool,
}

/// Settings that came later stand in the artefact only where they are used: an older one keeps its digest.
fn is_off(setting: &bool) -> bool {
    !setting
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            json_depth_max: 50,
            record_bytes_max: 1_000_000,
            payload_bytes_max: 10_000_000,
            container_bytes_max: 64 * 1024 * 1024,
            forwarded_must_be_last: true,
            failed_events: false,
            accept_invalid: false,
            atomic_field_limits: BTreeMap::new(),
            whole_bad_rows: false,
        }
    }
}

impl Settings {
    /// What cannot be meant: limits of columns that have none.
    ///
    /// # Errors
    /// All such names.
    pub fn check(&self) -> Result<(), InvalidLimits> {
        let unknown = self.atomic_field_limits.keys().filter(|name| !Lengths::has(name));
        let unknown: Vec<String> = unknown.cloned().collect();
        if unknown.is_empty() { Ok(()) } else { Err(InvalidLimits(unknown)) }
    }
}

/// Names that are no text column of an event.
#[derive(Debug, thiserror::Error)]
#[error("no text column of an event is named {}", .0.join(", "))]
pub struct InvalidLimits(pub Vec<String>);

/// Schemas, settings and enrichments under one digest. Cheap to share behind an `Arc`.
#[derive(Clone, Debug)]
pub struct Recipe {
    schemas: Schemas,
    settings: Settings,
    enrichments: Enrichments,
    lengths: Arc<Lengths>,
    json: Arc<str>,
    digest: Arc<str>,
}

/// A text that is not a recipe of this function.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRecipe {
    #[error("the recipe is not readable: {0}")]
    Form(String),
    #[error("the recipe has format {0}, this binary reads formats up to {FORMAT}")]
    Format(u64),
    /// Another version of the function, or of its embedded schemas, would give other outcomes.
    #[error("the recipe was made for {what} {found}, this binary has {ours}")]
    OtherFunction { what: &'static str, found: String, ours: String },
    /// A configuration that this binary cannot use, or a file that it needs and that is not there.
    #[error(transparent)]
    Enrichment(#[from] InvalidEnrichment),
}

impl Recipe {
    /// The recipe of these schemas and settings, without configured enrichments.
    pub fn new(schemas: Schemas, settings: Settings) -> Recipe {
        Recipe::assemble(schemas, settings, Enrichments::none())
    }

    /// The same with these enrichments instead of its own.
    #[must_use]
    pub fn with_enrichments(&self, enrichments: Enrichments) -> Recipe {
        Recipe::assemble(self.schemas.clone(), self.settings.clone(), enrichments)
    }

    /// The same with other registries to ask.
    #[must_use]
    pub fn with_resolver(&self, resolver: Resolver) -> Recipe {
        let schemas = self.schemas.with_resolver(resolver);
        Recipe::assemble(schemas, self.settings.clone(), self.enrichments.clone())
    }

    fn assemble(schemas: Schemas, settings: Settings, enrichments: Enrichments) -> Recipe {
        let json = print(&schemas, &settings, &enrichments);
        let digest: String =
            Sha256::digest(json.as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
        let lengths = Arc::new(Lengths::with(&settings.atomic_field_limits));
        let (json, digest) = (json.into(), digest.into());
        Recipe { schemas, settings, enrichments, lengths, json, digest }
    }

    /// The same recipe, knowing more of what its registries have answered. See [`Schemas::with_answers`].
    #[must_use]
    pub fn with_answers(
        &self,
        more: impl IntoIterator<Item = (SchemaKey, Arc<Answer>)>,
        answers_max: usize,
    ) -> Recipe {
        Recipe { schemas: self.schemas.with_answers(more, answers_max), ..self.clone() }
    }

    /// The recipe that asks the same registries anew, from another epoch on. Without a resolver it is the same recipe.
    #[must_use]
    pub fn with_epoch(&self, epoch: u64) -> Recipe {
        let Some(resolver) = self.schemas.resolver() else { return self.clone() };
        self.with_resolver(Resolver { epoch, ..resolver.clone() })
    }

    /// The name of the recipe: SHA-256 of [`Recipe::to_json`], 64 hex digits.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The stored artefact. Equal recipes have equal texts.
    pub fn to_json(&self) -> String {
        self.json.to_string()
    }

    pub fn schemas(&self) -> &Schemas {
        &self.schemas
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn lengths(&self) -> &Lengths {
        &self.lengths
    }

    /// Whether a good event has a text that is longer than its column allows, which only `accept_invalid` lets pass. What
    /// Snowplow counts as `invalid_enriched`. Snowplow: `enrich-core.md` 7.4.
    pub fn accepts_too_long(&self, event: &EnrichedEvent) -> bool {
        self.settings.accept_invalid && !self.lengths.check(event).1.is_empty()
    }

    pub fn enrichments(&self) -> &Enrichments {
        &self.enrichments
    }

    /// Reads the stored artefact of a recipe whose enrichments read no files. See [`Recipe::read`].
    ///
    /// # Errors
    /// As [`Recipe::read`]; also when an enrichment reads a file.
    pub fn from_json(text: &str) -> Result<Recipe, InvalidRecipe> {
        Recipe::read(text, |_| None)
    }

    /// Reads the stored artefact. The result has the digest of `text` if `text` came from [`Recipe::to_json`]. `asset`
    /// gives the bytes of a file by their digest; that they have it is for the caller to check.
    ///
    /// # Errors
    /// When the text is not a recipe, or one for another function version or embedded set than this binary has, or an
    /// enrichment cannot be used.
    pub fn read(
        text: &str,
        asset: impl Fn(&str) -> Option<Arc<dyn AsRef<[u8]> + Send + Sync>>,
    ) -> Result<Recipe, InvalidRecipe> {
        let form = |error: serde_json::Error| InvalidRecipe::Form(error.to_string());
        let object: Map<String, Value> = serde_json::from_str(text).map_err(form)?;
        match object.get("format").and_then(Value::as_u64) {
            Some(FORMAT_WITHOUT_RESOLVER..=FORMAT) => {}
            Some(other) => return Err(InvalidRecipe::Format(other)),
            None => return Err(InvalidRecipe::Form("no `format`".to_owned())),
        }
        expect_ours("function version", &object, "function", VERSION)?;
        expect_ours("embedded schemas", &object, "embedded-schemas", Schemas::embedded_digest())?;
        let settings = object.get("settings").cloned().unwrap_or_default();
        let settings: Settings = serde_json::from_value(settings).map_err(form)?;
        settings.check().map_err(|error| InvalidRecipe::Form(error.to_string()))?;
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
        let mut schemas = Schemas::embedded().with_local(local);
        if let Some(resolver) = object.get("resolver") {
            schemas =
                schemas.with_resolver(serde_json::from_value(resolver.clone()).map_err(form)?);
        }
        let enrichments = read_enrichments(&object, asset)?;
        Ok(Recipe::assemble(schemas, settings, enrichments))
    }
}

fn read_enrichments(
    object: &Map<String, Value>,
    asset: impl Fn(&str) -> Option<Arc<dyn AsRef<[u8]> + Send + Sync>>,
) -> Result<Enrichments, InvalidRecipe> {
    let Some(Value::Object(files)) = object.get("enrichments") else {
        return Ok(Enrichments::none());
    };
    let configs =
        files.iter().map(|(file, json)| Config { file: file.clone(), json: json.clone() });
    let mut assets = Assets::new();
    if let Some(Value::Object(pinned)) = object.get("assets") {
        for (address, digest) in pinned {
            let digest = digest.as_str().unwrap_or_default();
            if let Some(bytes) = asset(digest) {
                assets.insert(address.clone(), Asset { digest: digest.to_owned(), bytes });
            }
        }
    }
    Ok(Enrichments::new(configs.collect(), &assets)?)
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

fn print(schemas: &Schemas, settings: &Settings, enrichments: &Enrichments) -> String {
    let local: Map<String, Value> =
        schemas.local().map(|(key, schema)| (key.to_string(), schema.clone())).collect();
    let settings =
        serde_json::to_value(settings).expect("the settings are numbers, booleans and names");
    let mut recipe = Map::new();
    let format = match (enrichments.configs(), schemas.resolver()) {
        ([], None) => FORMAT_WITHOUT_RESOLVER,
        ([], Some(_)) => FORMAT_WITHOUT_ENRICHMENTS,
        _ => FORMAT,
    };
    recipe.insert("format".to_owned(), format.into());
    recipe.insert("function".to_owned(), VERSION.into());
    recipe.insert("embedded-schemas".to_owned(), Schemas::embedded_digest().into());
    recipe.insert("settings".to_owned(), settings);
    recipe.insert("schemas".to_owned(), Value::Object(local));
    if let Some(resolver) = schemas.resolver() {
        let resolver = serde_json::to_value(resolver).expect("a resolver is texts and numbers");
        recipe.insert("resolver".to_owned(), resolver);
    }
    if !enrichments.configs().is_empty() {
        let (configs, assets) = enrichments::print(enrichments);
        recipe.insert("enrichments".to_owned(), configs);
        recipe.insert("assets".to_owned(), assets);
    }
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
    fn what_is_too_long_is_told_only_where_it_is_accepted() {
        let event = |country: &str| EnrichedEvent {
            geo_country: Some(country.to_owned()),
            ..EnrichedEvent::default()
        };
        let strict = Recipe::new(Schemas::embedded(), Settings::default());
        let settings = Settings { accept_invalid: true, ..Settings::default() };
        let lenient = Recipe::new(Schemas::embedded(), settings);
        assert!(lenient.accepts_too_long(&event("CHE")));
        assert!(!lenient.accepts_too_long(&event("CH")) && !strict.accepts_too_long(&event("CHE")));
    }

    #[test]
    fn another_setting_is_another_recipe() {
        let digest = |settings| Recipe::new(Schemas::embedded(), settings).digest().to_owned();
        let shorter = Settings { record_bytes_max: 999_999, ..Settings::default() };
        assert_ne!(digest(Settings::default()), digest(shorter));
    }

    #[test]
    fn registries_are_part_of_a_recipe_and_their_answers_are_not() {
        let plain = Recipe::new(Schemas::embedded(), Settings::default());
        let repository = crate::iglu::Repository {
            name: "Acme".to_owned(),
            priority: 5,
            vendor_prefixes: vec!["com.acme".to_owned()],
            uri: "https://registry.example/api".to_owned(),
        };
        let resolver = Resolver { epoch: 1, repositories: vec![repository], embedded: Vec::new() };
        let asking =
            Recipe::new(Schemas::embedded().with_resolver(resolver.clone()), Settings::default());
        assert_ne!(asking.digest(), plain.digest());
        let read = Recipe::from_json(&asking.to_json()).unwrap();
        assert_eq!(read.digest(), asking.digest());
        assert_eq!(read.schemas().resolver(), Some(&resolver));

        let absent = key("iglu:com.acme/a/jsonschema/1-0-0");
        let answer = Arc::new(Answer::absent(Vec::new()));
        let knowing = asking.with_answers([(absent.clone(), answer)], 10);
        assert_eq!(knowing.digest(), asking.digest());
        assert!(knowing.schemas().validate(&absent, &json!({})).is_some());
        assert!(asking.schemas().validate(&absent, &json!({})).is_none());

        let later = knowing.with_epoch(2);
        assert_ne!(later.digest(), asking.digest());
        assert!(later.schemas().validate(&absent, &json!({})).is_none());
        assert_eq!(later.with_epoch(1).digest(), asking.digest());
        assert_eq!(plain.with_epoch(2).digest(), plain.digest());
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
        for text in ["", "[]", "{}", r#"{"format":4}"#] {
            assert!(Recipe::from_json(text).is_err(), "{text}");
        }
    }
}
