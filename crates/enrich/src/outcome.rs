//! What becomes of a raw record, and what a recipe can lack.
//!
//! Each record has at least one outcome; an outcome's index is its place in the list. Bad data is an outcome, never an
//! error.

use std::fmt;

use model::bad_row::BadRow;
use model::event::EnrichedEvent;
use model::failed::FailedEvent;
use model::iglu::SchemaKey;

use crate::look_up::Question;

/// What became of one event of a record, or of a whole record that has none.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// An enriched event; `etl_tstamp` is left to the layer.
    Enriched(Box<EnrichedEvent>),
    /// A bad row, and the event as far as it came; where the recipe asks for failed events.
    Failed { bad_row: Box<BadRow>, event: Box<FailedEvent> },
    /// A bad row alone.
    Bad(Box<BadRow>),
    /// Left out by a rule that the recipe names.
    Dropped { rule: String },
    /// Not the outcome of an event but what was pseudonymised in one, in clear: an event for the PII stream. It is
    /// counted nowhere, no view shows it, and it stands behind all outcomes of its record.
    Pii(Box<EnrichedEvent>),
}

/// What must still be asked before the record can be enriched: schemas of registries, look-ups of enrichments.
///
/// It may list schemas that turn out not to be needed: whether they are can depend on the answers to others. Without a
/// resolver absence is an answer, and without an enrichment that looks up there is nothing else to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Sorted, each once.
    pub schemas: Vec<SchemaKey>,
    /// What enrichments ask the world outside about this record, each once. None before all schemas are known: they
    /// decide what an event holds.
    pub look_ups: Vec<Question>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the recipe lacks an answer for")?;
        for (at, key) in self.schemas.iter().enumerate() {
            write!(f, "{} {key}", if at == 0 { "" } else { "," })?;
        }
        for (at, question) in self.look_ups.iter().enumerate() {
            write!(f, "{} {}", if at == 0 { "" } else { "," }, question.request)?;
        }
        Ok(())
    }
}

impl std::error::Error for Missing {}
