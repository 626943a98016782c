//! What the registries on the network said about a schema key, as the enrich function uses it.
//!
//! Made by `assets`, which keeps each one as a durable fact. An answer is whole: it holds the schema to validate with,
//! also where another version superseded the one that was asked for, so that no answer leads to a second question.

use std::collections::HashMap;
use std::sync::Arc;

use model::bad_row::Lookup;
use model::iglu::{SchemaKey, Version};
use serde_json::Value;

use super::Entry;

/// Answers by the key that was asked for.
pub(super) type Answers = HashMap<SchemaKey, Arc<Answer>>;

/// The answer of all registries together. Shared by all recipes that know it, with its compiled validator.
pub struct Answer {
    pub(super) content: Content,
}

pub(super) enum Content {
    Found { repository: String, entry: Box<Entry>, superseded_by: Option<Version> },
    Absent(Vec<Lookup>),
}

impl Answer {
    /// A registry has the schema. With `superseded_by` it is the schema of that version.
    pub fn found(
        key: &SchemaKey,
        repository: String,
        schema: Value,
        superseded_by: Option<Version>,
    ) -> Answer {
        let entry_key = superseded_by.map_or_else(|| key.clone(), |newer| key.with_version(newer));
        let entry = Box::new(Entry::new(entry_key, schema));
        Answer { content: Content::Found { repository, entry, superseded_by } }
    }

    /// No registry has it; what each of them said.
    pub fn absent(lookups: Vec<Lookup>) -> Answer {
        Answer { content: Content::Absent(lookups) }
    }

    /// The registry, the schema, and the version that superseded the one asked for.
    pub fn schema(&self) -> Option<(&str, &Value, Option<Version>)> {
        match &self.content {
            Content::Found { repository, entry, superseded_by } => {
                Some((repository, &entry.schema, *superseded_by))
            }
            Content::Absent(_) => None,
        }
    }

    /// What each registry said, if none has the schema.
    pub fn absence(&self) -> Option<&[Lookup]> {
        match &self.content {
            Content::Found { .. } => None,
            Content::Absent(lookups) => Some(lookups),
        }
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.content {
            Content::Found { repository, entry, .. } => {
                write!(f, "{} from {repository}", entry.key)
            }
            Content::Absent(lookups) => write!(f, "absent: {lookups:?}"),
        }
    }
}
