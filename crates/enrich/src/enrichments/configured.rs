//! The enrichments that a recipe turns on by Snowplow's own configuration files, compiled once and run for every event.
//!
//! What each kind is called, which versions of its configuration it reads and how it is made stands in its [`Kind`]; the
//! order stands in the table of the parent module. Everything that a step may use besides the event is here: its
//! parameters and the assets that the recipe pins by digest. Snowplow: `enrichments.md` 1.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use model::bad_row::{EnrichmentError, EnrichmentMessage};
use model::iglu::{Criterion, SchemaKey, SelfDescribing};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{LEFT_OUT, ORDER, Place, Work};

/// A configuration file as Snowplow has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The name of the file, without its folder. Files run in the order of their names where a kind may stand in
    /// several.
    pub file: String,
    /// `{"schema": …, "data": {"vendor", "name", "enabled", "parameters"}}`.
    pub json: Value,
}

/// The bytes of a file that an enrichment reads: a map of memory, or of a file.
#[derive(Clone)]
pub struct Asset {
    /// SHA-256, 64 hex digits.
    pub digest: String,
    pub bytes: Arc<dyn AsRef<[u8]> + Send + Sync>,
}

/// Assets by the address that a configuration names them with.
pub type Assets = BTreeMap<String, Asset>;

/// A set of configuration files that cannot be used. Names the file and what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("enrichment {file}: {message}")]
pub struct InvalidEnrichment {
    pub file: String,
    pub message: String,
}

/// The enrichments of a recipe. Cheap to clone.
#[derive(Clone)]
pub struct Enrichments {
    configs: Arc<[Config]>,
    assets: Arc<Assets>,
    warnings: Arc<[String]>,
    steps: Arc<[Step]>,
}

/// A kind of enrichment: all that is known of it before a configuration is read.
pub(super) struct Kind {
    /// The name part of the configuration's schema key, which is what Snowplow chooses the enrichment by.
    pub(super) name: &'static str,
    /// The configurations that are read, such as `iglu:com.acme/name/jsonschema/1-0-*`.
    pub(super) criterion: &'static str,
    /// The JSON Schema of the configuration's `data`.
    pub(super) schema: &'static str,
    /// How its failures name it. Snowplow: `enrichments.md` 1.3.
    pub(super) identifier: &'static str,
    /// Whether several files may configure it.
    pub(super) many: bool,
    /// The addresses of the files that it reads.
    pub(super) assets: fn(&Value) -> Vec<String>,
    /// Makes the step of a configuration's `data`, which obeys the schema. The error says what to change.
    pub(super) build: fn(&Value, &Assets) -> Built,
}

/// A step, or what to change in its configuration.
pub(super) type Built = Result<Box<dyn Enrichment>, String>;

/// An enrichment that is configured and ready.
pub(super) trait Enrichment: fmt::Debug + Send + Sync {
    /// Writes columns, adds entities by [`Work::derive`]. Failures do not keep later steps from running.
    fn run(&self, work: &mut Work<'_>) -> Result<(), Vec<EnrichmentError>>;
}

enum Step {
    Always(fn(&mut Work<'_>) -> Result<(), EnrichmentError>),
    Configured { enrichment: Box<dyn Enrichment>, name: (String, String) },
}

/// What all configurations have in common.
#[derive(Deserialize)]
struct Data {
    #[serde(default = "on")]
    enabled: bool,
}

fn on() -> bool {
    true
}

/// The place of a database that is given as `uri` and `database`: both joined by one slash.
pub(super) fn address(uri: &str, database: &str) -> String {
    match uri.ends_with('/') {
        true => format!("{uri}{database}"),
        false => format!("{uri}/{database}"),
    }
}

/// What a configuration says under `parameters`, which may be absent.
pub(super) fn parameters<T: DeserializeOwned>(data: &Value) -> Result<T, String> {
    let parameters = data.get("parameters").cloned().unwrap_or_else(|| Map::new().into());
    serde_json::from_value(parameters).map_err(|error| error.to_string())
}

/// The address of the file that stands under this name in the parameters, if there is one.
pub(super) fn file_at(data: &Value, name: &str) -> Option<String> {
    located(data.get("parameters")?.get(name)?)
}

/// The address that an object with `uri` and `database` gives.
pub(super) fn located(object: &Value) -> Option<String> {
    let text = |name: &str| object.get(name).and_then(Value::as_str);
    Some(address(text("uri")?, text("database")?))
}

/// The file that a configuration names.
pub(super) fn asset<'a>(assets: &'a Assets, address: &str) -> Result<&'a Asset, String> {
    assets.get(address).ok_or_else(|| format!("its file {address} is missing"))
}

/// The key of a schema that is written in the code.
pub(super) fn schema_key(uri: &str) -> SchemaKey {
    SchemaKey::parse(uri).expect("the key is well-formed")
}

/// No asset: what most kinds have for [`Kind::assets`].
pub(super) fn no_assets(_data: &Value) -> Vec<String> {
    Vec::new()
}

impl Enrichments {
    /// No configured enrichment: only the steps that need no configuration.
    pub fn none() -> Enrichments {
        Enrichments::assemble(Vec::new(), Assets::new(), Vec::new(), BTreeMap::new())
    }

    /// The addresses of all files that these configurations need, to be handed to [`Enrichments::new`].
    ///
    /// # Errors
    /// As [`Enrichments::new`], as far as it can be told without the files.
    pub fn addresses(configs: &[Config]) -> Result<Vec<String>, InvalidEnrichment> {
        let mut addresses = Vec::new();
        for config in configs {
            if let Some((kind, _, data)) = known(config)? {
                addresses.extend((kind.assets)(data));
            }
        }
        addresses.sort();
        addresses.dedup();
        Ok(addresses)
    }

    /// Compiles the configurations. Those that are disabled or unknown are left out; the latter with a warning.
    ///
    /// # Errors
    /// When a configuration does not obey its schema, names what its enrichment does not have, or needs an asset that
    /// is not among `assets`.
    pub fn new(
        mut configs: Vec<Config>,
        assets: &Assets,
    ) -> Result<Enrichments, InvalidEnrichment> {
        configs.sort_by(|a, b| a.file.cmp(&b.file));
        let mut warnings = Vec::new();
        let mut used = Assets::new();
        let mut ready: BTreeMap<&'static str, Vec<Step>> = BTreeMap::new();
        let mut kept = Vec::new();
        for config in configs {
            let invalid = |message| InvalidEnrichment { file: config.file.clone(), message };
            let Some((kind, key, data)) = known(&config)? else {
                warnings.extend(why_left_out(&config));
                continue;
            };
            for address in (kind.assets)(data) {
                let asset = asset(assets, &address).map_err(invalid)?.clone();
                used.insert(address, asset);
            }
            let enrichment = (kind.build)(data, assets).map_err(invalid)?;
            let steps = ready.entry(kind.name).or_default();
            if !steps.is_empty() && !kind.many {
                return Err(invalid(format!(
                    "another file configures {} too, remove one",
                    kind.name
                )));
            }
            steps.push(Step::Configured {
                enrichment,
                name: (key.to_string(), kind.identifier.to_owned()),
            });
            kept.push(config);
        }
        Ok(Enrichments::assemble(kept, used, warnings, ready))
    }

    fn assemble(
        configs: Vec<Config>,
        assets: Assets,
        warnings: Vec<String>,
        mut ready: BTreeMap<&'static str, Vec<Step>>,
    ) -> Enrichments {
        let mut steps = Vec::new();
        for place in ORDER {
            match place {
                Place::Always(step) => steps.push(Step::Always(*step)),
                Place::Configured(kind) => {
                    steps.extend(ready.remove(kind.name).unwrap_or_default())
                }
                Place::Extended { kind, otherwise } => match ready.remove(kind.name) {
                    Some(configured) => steps.extend(configured),
                    None => steps.push(Step::Always(*otherwise)),
                },
            }
        }
        Enrichments {
            configs: configs.into(),
            assets: assets.into(),
            warnings: warnings.into(),
            steps: steps.into(),
        }
    }

    /// The configurations in force, sorted by file.
    pub fn configs(&self) -> &[Config] {
        &self.configs
    }

    /// The assets in use, by address.
    pub fn assets(&self) -> &Assets {
        &self.assets
    }

    /// What the operator should know of files that were left out.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Runs all steps, whatever failed before. The failures are those of the last step first, as in Snowplow.
    pub(crate) fn run(&self, work: &mut Work<'_>) -> Vec<EnrichmentMessage> {
        let mut failures = Vec::new();
        for step in self.steps.iter() {
            let (errors, enrichment) = match step {
                Step::Always(step) => match step(work) {
                    Ok(()) => continue,
                    Err(error) => (vec![error], None),
                },
                Step::Configured { enrichment, name } => match enrichment.run(work) {
                    // Nobody will see what later steps would make of it.
                    Ok(()) if work.dropped.is_some() => return Vec::new(),
                    Ok(()) => continue,
                    Err(errors) => (errors, Some(name)),
                },
            };
            let message = |message| EnrichmentMessage { enrichment: enrichment.cloned(), message };
            failures.extend(errors.into_iter().rev().map(message));
        }
        failures.reverse();
        failures
    }
}

impl fmt::Debug for Enrichments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = self.configs.iter().map(|config| &config.file);
        f.write_str("Enrichments ")?;
        f.debug_list().entries(files).finish()
    }
}

impl Asset {
    /// An asset under the digest of its bytes.
    pub fn of(bytes: Arc<dyn AsRef<[u8]> + Send + Sync>) -> Asset {
        let digest = Sha256::digest((*bytes).as_ref());
        Asset { digest: digest.iter().map(|byte| format!("{byte:02x}")).collect(), bytes }
    }

    pub(super) fn text(&self) -> Result<&str, String> {
        std::str::from_utf8((*self.bytes).as_ref()).map_err(|error| error.to_string())
    }
}

impl fmt::Debug for Asset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Asset").field(&self.digest).finish()
    }
}

/// The kind of an enabled configuration, its key and its data; `None` when it is disabled or no kind is named so.
fn known(config: &Config) -> Result<Option<(&'static Kind, SchemaKey, &Value)>, InvalidEnrichment> {
    let invalid = |message| InvalidEnrichment { file: config.file.clone(), message };
    let (key, data) = SelfDescribing::split(&config.json).map_err(|_| {
        invalid("not a self-describing JSON: it needs `schema` and `data`".to_owned())
    })?;
    let Some(kind) = kind(&key) else { return Ok(None) };
    let criterion = Criterion::parse(kind.criterion).expect("the criterion is well-formed");
    if !criterion.matches(&key) {
        let message = format!("Schema key {key} is not supported, use one like {}", kind.criterion);
        return Err(invalid(message));
    }
    let read = Data::deserialize(data).map_err(|error| invalid(error.to_string()))?;
    if !read.enabled {
        return Ok(None);
    }
    check(kind, data).map_err(|message| invalid(format!("{key}: {message}")))?;
    Ok(Some((kind, key, data)))
}

fn kind(key: &SchemaKey) -> Option<&'static Kind> {
    ORDER.iter().find_map(|place| match place {
        Place::Configured(kind) | Place::Extended { kind, .. } => {
            (kind.name == key.name()).then_some(*kind)
        }
        Place::Always(_) => None,
    })
}

/// The warning about an enabled configuration that no kind is there for.
fn why_left_out(config: &Config) -> Option<String> {
    let (key, data) = SelfDescribing::split(&config.json).ok()?;
    let enabled = Data::deserialize(data).is_ok_and(|data| data.enabled);
    if !enabled || kind(&key).is_some() {
        return None;
    }
    let why = LEFT_OUT.iter().find(|(name, _)| *name == key.name()).map(|(_, why)| *why);
    let why = why.unwrap_or("no enrichment has this name");
    Some(format!("{}: {} is left out: {why}", config.file, key.name()))
}

/// Parts of a configuration that hold secrets: what is wrong there is said without repeating what is there.
const SECRETS: [&str; 3] = ["/apiKey", "/authentication", "/database"];

/// Checks a configuration's data against the kind's schema.
fn check(kind: &Kind, data: &Value) -> Result<(), String> {
    let schema: Value = serde_json::from_str(kind.schema).expect("the schema is JSON");
    let validator = jsonschema::draft4::new(&schema).expect("the schema compiles");
    let problems: Vec<String> = validator
        .iter_errors(data)
        .map(|error| match error.instance_path().as_str() {
            "" => error.to_string(),
            path if SECRETS.iter().any(|name| path.contains(name)) => {
                format!("{path}: {}", error.masked())
            }
            path => format!("{path}: {error}"),
        })
        .collect();
    match problems.is_empty() {
        true => Ok(()),
        false => Err(problems.join("; ")),
    }
}

/// Both as the artefact of a recipe has them: the files, and the digests of what they read.
pub(crate) fn print(enrichments: &Enrichments) -> (Value, Value) {
    let configs: Map<String, Value> = enrichments
        .configs
        .iter()
        .map(|config| (config.file.clone(), config.json.clone()))
        .collect();
    let assets: Map<String, Value> = enrichments
        .assets
        .iter()
        .map(|(address, asset)| (address.clone(), asset.digest.clone().into()))
        .collect();
    (configs.into(), assets.into())
}
