//! The Iglu schemas that a recipe knows, and whether data obeys them.
//!
//! Called by the enrich core for every payload, event and entity. Two registries, both fixed for the life of a
//! [`Schemas`]: the schemas embedded in this binary, and local ones that the recipe brings. Nothing here asks a
//! network; what neither registry has is absent, and that is an answer. Where local schemas come from is the business
//! of `assets`.

mod formats;
mod report;
mod table;
mod validator;

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::{Arc, LazyLock, OnceLock};

use model::bad_row::{IgluError, Lookup, LookupError};
use model::iglu::{SchemaKey, Version};
use serde_json::Value;
use sha2::{Digest, Sha256};

use validator::Validator;

/// What the embedded registry is called in a look-up history.
pub const EMBEDDED_REPOSITORY: &str = "Iglu Client Embedded";

/// What the local registry is called in a look-up history: the configuration key that fills it.
pub const LOCAL_REPOSITORY: &str = "enrich.schemas";

/// Two registries and their compiled validators; cheap to clone.
///
/// Order of look-up: a local schema hides an embedded one of the same key, so that an operator can try a schema before
/// it is published. The wrappers that the protocol itself stands on (`payload_data`, `contexts`, `unstruct_event` of
/// Snowplow, and the self-description schemas) are the exception: there the embedded one wins, since a folder must not
/// silently change what the adapters and the core rely on. Both rules hold for exact keys: a version that is not
/// embedded is always asked of the local registry.
///
/// A validator is compiled at its first use and kept; there are as many as there are schemas.
#[derive(Clone)]
pub struct Schemas {
    local: Arc<Registry>,
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
        Schemas { local: Arc::default() }
    }

    /// The embedded schemas and these local ones, which replace any earlier local ones. Of two schemas with one key the
    /// first stays.
    #[must_use]
    pub fn with_local(&self, local: impl IntoIterator<Item = (SchemaKey, Value)>) -> Schemas {
        Schemas { local: Arc::new(Registry::new(local)) }
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

    /// The schema that `key` names, superseding left aside.
    pub fn find(&self, key: &SchemaKey) -> Option<&Value> {
        self.registries(key)
            .into_iter()
            .find_map(|(_, registry)| registry.entry(key))
            .map(|entry| &entry.schema)
    }

    /// Checks data against a schema. Snowplow: enrich-core.md 4.6 and 4.7.
    ///
    /// # Errors
    /// A value for a bad row: no registry has the schema; the schema is not a valid one; the data does not obey it.
    /// Reports are sorted by path, keyword and targets.
    pub fn validate(&self, key: &SchemaKey, data: &Value) -> Result<Validated, IgluError> {
        let (entry, superseded_by) = self.look_up(key)?;
        let validator = entry
            .validator
            .get_or_init(|| Validator::compile(&entry.schema))
            .as_ref()
            .map_err(|issues| IgluError::InvalidSchema { schema_issues: issues.clone() })?;
        let data_reports = validator.validate(data);
        if data_reports.is_empty() {
            return Ok(Validated { superseded_by });
        }
        let superseded_by = superseded_by.map(|key| key.version().to_string());
        Err(IgluError::Validation { data_reports, superseded_by })
    }

    /// The first registry that can answer, answers.
    fn look_up(&self, key: &SchemaKey) -> Result<(&Entry, Option<SchemaKey>), IgluError> {
        let mut lookup_history = Vec::new();
        for (repository, registry) in self.registries(key) {
            match registry.look_up(key) {
                Ok(found) => return Ok(found),
                Err(error) => lookup_history.push(Lookup {
                    repository: repository.to_owned(),
                    errors: vec![error],
                    attempts: 1,
                }),
            }
        }
        lookup_history.sort_by(|left, right| left.repository.cmp(&right.repository));
        Err(IgluError::Resolution { lookup_history })
    }

    /// The registries in the order in which they are asked for a key. A recipe without local schemas has one.
    fn registries(&self, key: &SchemaKey) -> Vec<(&'static str, &Registry)> {
        let embedded: (_, &Registry) = (EMBEDDED_REPOSITORY, &EMBEDDED);
        let local: (_, &Registry) = (LOCAL_REPOSITORY, &self.local);
        if self.local.entries.is_empty() {
            vec![embedded]
        } else if is_wrapper(key) {
            vec![embedded, local]
        } else {
            vec![local, embedded]
        }
    }
}

impl fmt::Debug for Schemas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schemas").field("local", &self.local.entries.len()).finish_non_exhaustive()
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

/// Schemas by key, immutable.
#[derive(Default)]
struct Registry {
    /// In the order of the keys.
    entries: Vec<Entry>,
    places: HashMap<SchemaKey, usize>,
}

struct Entry {
    key: SchemaKey,
    schema: Value,
    validator: OnceLock<Result<Validator, Vec<model::bad_row::SchemaIssue>>>,
}

impl Registry {
    fn new(schemas: impl IntoIterator<Item = (SchemaKey, Value)>) -> Registry {
        let mut entries: Vec<Entry> = schemas
            .into_iter()
            .map(|(key, schema)| Entry { key, schema, validator: OnceLock::new() })
            .collect();
        entries.sort_by(|left, right| left.key.cmp(&right.key));
        entries.dedup_by(|later, earlier| later.key == earlier.key);
        let places =
            entries.iter().enumerate().map(|(place, entry)| (entry.key.clone(), place)).collect();
        Registry { entries, places }
    }

    fn entry(&self, key: &SchemaKey) -> Option<&Entry> {
        self.places.get(key).map(|place| &self.entries[*place])
    }

    /// The schema to validate with, and its key where it is another one. One hop, within this registry.
    fn look_up(&self, key: &SchemaKey) -> Result<(&Entry, Option<SchemaKey>), LookupError> {
        let not_found = || LookupError { error: "NotFound".to_owned(), message: None };
        let client_failure = |message: String| LookupError {
            error: "ClientFailure".to_owned(),
            message: Some(message),
        };
        let entry = self.entry(key).ok_or_else(not_found)?;
        let Some(superseding) = entry.schema.get("$supersededBy") else {
            return Ok((entry, None));
        };
        let version = superseding
            .as_str()
            .and_then(|text| Version::parse(text).ok())
            .filter(|version| *version > key.version())
            .ok_or_else(|| {
                client_failure(format!("{key} cannot be superseded by {superseding}"))
            })?;
        let superseding = key.with_version(version);
        let entry = self.entry(&superseding).ok_or_else(not_found)?;
        Ok((entry, Some(superseding)))
    }
}

#[cfg(test)]
mod tests;
