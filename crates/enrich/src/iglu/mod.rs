//! The Iglu schemas that a recipe knows, and whether data obeys them.
//!
//! Called by the enrich core for every payload, event and entity. Two registries, both fixed for the life of a
//! [`Schemas`]: the schemas embedded in this binary, and local ones that the recipe brings. What neither has is absent,
//! and that is an answer; unless the recipe names registries on the network, then it is their answer, or a question that
//! is still open. Nothing here asks a network. Where local schemas and answers come from is the business of `assets`.

mod answer;
mod formats;
pub mod lint;
mod quick;
mod report;
mod resolver;
mod table;
mod validator;

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};

use model::bad_row::{IgluError, Lookup, LookupError};
use model::iglu::{SchemaKey, Version};
use serde_json::Value;
use sha2::{Digest, Sha256};

pub use answer::Answer;
pub use resolver::{Repository, Resolver};

use answer::{Answers, Content};
use validator::Validator;

use crate::tape::Item;

/// What the embedded registry is called in a look-up history.
pub const EMBEDDED_REPOSITORY: &str = "Iglu Client Embedded";

/// What the local registry is called in a look-up history: the configuration key that fills it.
pub const LOCAL_REPOSITORY: &str = "enrich.schemas";

/// Two registries and their compiled validators, and what others have answered; cheap to clone.
///
/// Order of look-up: a local schema hides an embedded one of the same key, so that an operator can try a schema before
/// it is published. The wrappers that the protocol itself stands on (`payload_data`, `contexts`, `unstruct_event` of
/// Snowplow, and the self-description schemas) are the exception: there the embedded one wins, since a folder must not
/// silently change what the adapters and the core rely on. Both rules hold for exact keys: a version that is not
/// embedded is always asked of the local registry. Registries on the network come last, whatever their priority: what
/// the recipe holds needs no asking.
///
/// A validator is compiled at its first use and kept; there are as many as there are schemas.
#[derive(Clone)]
pub struct Schemas {
    local: Arc<Registry>,
    /// None: there is nobody else to ask.
    network: Option<Network>,
}

/// The registries on the network, as far as they have answered.
#[derive(Clone)]
struct Network {
    resolver: Arc<Resolver>,
    answers: Arc<Answers>,
}

/// Data that obeys its schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validated {
    /// The schema that took the place of the one asked for; the data is to be re-labelled with it.
    /// Snowplow: enrich-core.md 4.6.
    pub superseded_by: Option<SchemaKey>,
}

impl Schemas {
    /// The embedded schemas alone.
    pub fn embedded() -> Schemas {
        Schemas { local: Arc::default(), network: None }
    }

    /// The embedded schemas and these local ones, which replace any earlier local ones. Of two schemas with one key the
    /// first stays.
    #[must_use]
    pub fn with_local(&self, local: impl IntoIterator<Item = (SchemaKey, Value)>) -> Schemas {
        Schemas { local: Arc::new(Registry::new(local)), network: self.network.clone() }
    }

    /// These schemas, and registries to be asked for all others, of whom no answer is known yet.
    #[must_use]
    pub fn with_resolver(&self, resolver: Resolver) -> Schemas {
        let network = Network { resolver: Arc::new(resolver), answers: Arc::default() };
        Schemas { local: self.local.clone(), network: Some(network) }
    }

    /// Whom to ask for what is not here.
    pub fn resolver(&self) -> Option<&Resolver> {
        self.network.as_ref().map(|network| &*network.resolver)
    }

    /// These schemas with more answers. If there are more than `answers_max` in all, the earlier ones are forgotten: they
    /// are open questions again, until they are given again. Without a resolver nothing changes.
    #[must_use]
    pub fn with_answers(
        &self,
        more: impl IntoIterator<Item = (SchemaKey, Arc<Answer>)>,
        answers_max: usize,
    ) -> Schemas {
        let Some(network) = &self.network else { return self.clone() };
        let mut answers: Answers = more.into_iter().collect();
        if answers.len() + network.answers.len() <= answers_max {
            let earlier = network.answers.iter();
            answers.extend(earlier.map(|(key, answer)| (key.clone(), Arc::clone(answer))));
        }
        let (resolver, answers) = (Arc::clone(&network.resolver), Arc::new(answers));
        Schemas { local: self.local.clone(), network: Some(Network { resolver, answers }) }
    }

    /// Every local schema as it was given, in the order of the keys. A recipe keeps them.
    pub fn local(&self) -> impl ExactSizeIterator<Item = (&SchemaKey, &Value)> {
        self.local.entries.iter().map(|entry| (&entry.key, &entry.schema))
    }

    /// The keys of the embedded schemas, in order.
    pub fn embedded_keys() -> impl ExactSizeIterator<Item = &'static SchemaKey> {
        EMBEDDED.entries.iter().map(|entry| &entry.key)
    }

    /// SHA-256 over the embedded schemas, 64 hex digits. A recipe carries it: another set is another recipe.
    pub fn embedded_digest() -> &'static str {
        static DIGEST: LazyLock<String> = LazyLock::new(|| {
            let mut hash = Sha256::new();
            for (path, content) in table::FILES {
                for part in [path, content] {
                    hash.update((part.len() as u64).to_le_bytes());
                    hash.update(part);
                }
            }
            hash.finalize().iter().fold(String::new(), |mut hex, byte| {
                write!(hex, "{byte:02x}").expect("a String takes all text");
                hex
            })
        });
        &DIGEST
    }

    /// The schema that `key` names among those of the recipe, superseding left aside.
    pub fn find(&self, key: &SchemaKey) -> Option<&Value> {
        let registries = self.registries(key).into_iter().flatten();
        registries.filter_map(|(_, registry)| registry.entry(key)).map(|entry| &entry.schema).next()
    }

    /// The schema of this key as it stands, superseding left aside: one of the recipe's, or the one that registries answer
    /// a question about this very key with, whichever data came with it. `None` when that question is still open.
    pub fn look_up_plain(&self, key: &SchemaKey) -> Option<Option<&Value>> {
        if let Some(schema) = self.find(key) {
            return Some(Some(schema));
        }
        let Some(network) = &self.network else { return Some(None) };
        let answer = network.answers.get(key)?;
        Some(answer.schema().map(|(_, schema, _)| schema))
    }

    /// Checks data against a schema. `None` when registries on the network must be asked for it first.
    /// Snowplow: enrich-core.md 4.6 and 4.7.
    ///
    /// # Errors
    /// A value for a bad row: no registry has the schema; the schema is not a valid one; the data does not obey it.
    /// Reports are sorted by path, keyword and targets.
    pub fn validate(&self, key: &SchemaKey, data: &Value) -> Option<Result<Validated, IgluError>> {
        let (entry, superseded_by) = match self.look_up(key)? {
            Ok(found) => found,
            Err(error) => return Some(Err(error)),
        };
        Some(entry.validate(data, superseded_by))
    }

    /// The schema of this URI, if it is here and none has taken its place. `None` says no more than that
    /// [`Schemas::validate`] is to be asked.
    pub(crate) fn find_plain(&self, uri: &str) -> Option<Plain<'_>> {
        let entry = match self.local.entries.is_empty() {
            true => EMBEDDED.places.get(uri).map(|place| &EMBEDDED.entries[*place]),
            false => None,
        };
        if let Some(entry) = entry {
            return (!entry.is_superseded).then_some(Plain(entry));
        }
        match self.look_up(&SchemaKey::parse(uri).ok()?)? {
            Ok((entry, None)) => Some(Plain(entry)),
            Ok((_, Some(_))) | Err(_) => None,
        }
    }

    /// The first registry that can answer, answers.
    fn look_up(&self, key: &SchemaKey) -> Option<Result<(&Entry, Option<SchemaKey>), IgluError>> {
        let mut lookup_history = Vec::new();
        let missed = |repository: &str, error: LookupError| Lookup {
            repository: repository.to_owned(),
            errors: vec![error],
            attempts: 1,
        };
        for (repository, registry) in self.registries(key).into_iter().flatten() {
            match registry.look_up(key) {
                Ok(found) => return Some(Ok(found)),
                Err(error) => lookup_history.push(missed(repository, error)),
            }
        }
        if let Some(network) = &self.network {
            match &network.answers.get(key)?.content {
                Content::Found { entry, superseded_by, .. } => {
                    let newer = superseded_by.map(|version| key.with_version(version));
                    return Some(Ok((entry, newer)));
                }
                Content::Absent(lookups) => lookup_history.extend(lookups.iter().cloned()),
            }
            let embedded = network.resolver.embedded.iter();
            lookup_history.extend(embedded.map(|name| missed(name, not_found())));
        }
        lookup_history.sort_by(|left, right| left.repository.cmp(&right.repository));
        Some(Err(IgluError::Resolution { lookup_history }))
    }

    /// The recipe's own registries in the order in which they are asked for a key.
    fn registries(&self, key: &SchemaKey) -> [Option<(&'static str, &Registry)>; 2] {
        let embedded: (_, &Registry) = (EMBEDDED_REPOSITORY, &EMBEDDED);
        let local: (_, &Registry) = (LOCAL_REPOSITORY, &self.local);
        if self.local.entries.is_empty() {
            [Some(embedded), None]
        } else if is_wrapper(key) {
            [Some(embedded), Some(local)]
        } else {
            [Some(local), Some(embedded)]
        }
    }
}

impl fmt::Debug for Schemas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answers = self.network.as_ref().map(|network| network.answers.len());
        f.debug_struct("Schemas")
            .field("local", &self.local.entries.len())
            .field("answers", &answers)
            .finish_non_exhaustive()
    }
}

/// Whether the protocol itself stands on this schema.
fn is_wrapper(key: &SchemaKey) -> bool {
    match key.vendor() {
        "com.snowplowanalytics.snowplow" => {
            matches!(key.name(), "payload_data" | "contexts" | "unstruct_event")
        }
        "com.snowplowanalytics.self-desc" => true,
        _ => false,
    }
}

static EMBEDDED: LazyLock<Registry> = LazyLock::new(|| {
    Registry::new(table::FILES.iter().map(|(path, content)| {
        let key = SchemaKey::parse(&format!("iglu:{path}"))
            .expect("the paths of embedded schemas are tested");
        let schema = serde_json::from_str(content).expect("embedded schemas are tested to be JSON");
        (key, schema)
    }))
});

/// A schema that data is checked against as it stands.
#[derive(Clone, Copy)]
pub(crate) struct Plain<'a>(&'a Entry);

impl<'a> Plain<'a> {
    pub(crate) fn key(self) -> &'a SchemaKey {
        &self.0.key
    }

    /// Another for each schema of this process, never 0.
    pub(crate) fn number(self) -> u64 {
        self.0.number
    }

    /// Whether data surely obeys; if not, [`Schemas::validate`] knows. No key stands twice in an object of it.
    pub(crate) fn surely_allows(self, data: Item<'_, '_>) -> bool {
        self.0.validator().as_ref().is_ok_and(|validator| validator.surely_allows(data))
    }

    pub(crate) fn allows(self, data: &Value) -> bool {
        self.0.validator().as_ref().is_ok_and(|validator| validator.validate(data).is_empty())
    }
}

/// Schemas by key, immutable.
#[derive(Default)]
struct Registry {
    /// In the order of the keys.
    entries: Vec<Entry>,
    /// By the texts of the keys.
    places: HashMap<Box<str>, usize>,
}

struct Entry {
    key: SchemaKey,
    schema: Value,
    /// Whether it names a version that takes its place.
    is_superseded: bool,
    number: u64,
    validator: OnceLock<Compiled>,
}

type Compiled = Result<Validator, Vec<model::bad_row::SchemaIssue>>;

impl Entry {
    fn new(key: SchemaKey, schema: Value) -> Entry {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let is_superseded = schema.get("$supersededBy").is_some();
        Entry { key, schema, is_superseded, number, validator: OnceLock::new() }
    }

    fn validator(&self) -> &Compiled {
        self.validator.get_or_init(|| Validator::compile(&self.schema))
    }

    fn validate(
        &self,
        data: &Value,
        superseded_by: Option<SchemaKey>,
    ) -> Result<Validated, IgluError> {
        let validator = self
            .validator()
            .as_ref()
            .map_err(|issues| IgluError::InvalidSchema { schema_issues: issues.clone() })?;
        let data_reports = validator.validate(data);
        if data_reports.is_empty() {
            return Ok(Validated { superseded_by });
        }
        let superseded_by = superseded_by.map(|key| key.version().to_string());
        Err(IgluError::Validation { data_reports, superseded_by })
    }
}

fn not_found() -> LookupError {
    LookupError { error: "NotFound".to_owned(), message: None }
}

/// The version that takes the place of this schema's, if it names one; the error of a registry that names a wrong one.
/// Snowplow: enrich-core.md 4.6.
pub fn superseding(key: &SchemaKey, schema: &Value) -> Result<Option<Version>, LookupError> {
    let Some(superseding) = schema.get("$supersededBy") else { return Ok(None) };
    let version = superseding
        .as_str()
        .and_then(|text| Version::parse(text).ok())
        .filter(|version| *version > key.version());
    match version {
        Some(version) => Ok(Some(version)),
        None => Err(LookupError {
            error: "ClientFailure".to_owned(),
            message: Some(format!("{key} cannot be superseded by {superseding}")),
        }),
    }
}

impl Registry {
    fn new(schemas: impl IntoIterator<Item = (SchemaKey, Value)>) -> Registry {
        let mut entries: Vec<Entry> =
            schemas.into_iter().map(|(key, schema)| Entry::new(key, schema)).collect();
        entries.sort_by(|left, right| left.key.cmp(&right.key));
        entries.dedup_by(|later, earlier| later.key == earlier.key);
        let places = entries
            .iter()
            .enumerate()
            .map(|(place, entry)| (entry.key.as_str().into(), place))
            .collect();
        Registry { entries, places }
    }

    fn entry(&self, key: &SchemaKey) -> Option<&Entry> {
        self.places.get(key.as_str()).map(|place| &self.entries[*place])
    }

    /// The schema to validate with, and its key where it is another one. One hop, within this registry.
    fn look_up(&self, key: &SchemaKey) -> Result<(&Entry, Option<SchemaKey>), LookupError> {
        let entry = self.entry(key).ok_or_else(not_found)?;
        if !entry.is_superseded {
            return Ok((entry, None));
        }
        let Some(version) = superseding(key, &entry.schema)? else { return Ok((entry, None)) };
        let superseding = key.with_version(version);
        let entry = self.entry(&superseding).ok_or_else(not_found)?;
        Ok((entry, Some(superseding)))
    }
}

#[cfg(test)]
mod tests;
