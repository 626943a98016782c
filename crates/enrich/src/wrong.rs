//! What the three phases of an event found wrong, as its bad row and as its failed event.
//!
//! The bad row shows the first phase that found something, the failed event shows all. Snowplow: `enrich-core.md` 0 and
//! 5.4.

use model::bad_row::{BadRow, EnrichmentMessage, EventView, FailureMessage};
use model::event::EnrichedEvent;
use model::failed::{Cause, FailedEvent, Failure, data_of};

/// Columns that a failed event keeps, however long they are.
const KEPT: [&str; 3] = ["event_id", "v_collector", "v_etl"];

/// Findings by phase, in the order in which bad rows show them.
#[derive(Debug, Default)]
pub(crate) struct Wrong {
    /// Of phase 1, mapping and validating what was sent.
    pub(crate) input: Vec<Failure>,
    /// Of phase 2, the enrichments.
    pub(crate) enrichments: Vec<EnrichmentMessage>,
    /// Of phase 3, validating what was made of it.
    pub(crate) output: Vec<Failure>,
    /// The text columns that are too long.
    pub(crate) too_long: Vec<&'static str>,
}

impl Wrong {
    pub(crate) fn is_nothing(&self) -> bool {
        self.input.is_empty() && self.enrichments.is_empty() && self.output.is_empty()
    }

    /// The event with all failures, and without what is too long.
    pub(crate) fn failed_event(&self, mut event: EnrichedEvent) -> FailedEvent {
        self.too_long
            .iter()
            .filter(|column| !KEPT.contains(*column))
            .for_each(|column| event.clear(column));
        let of_enrichment = |message: &EnrichmentMessage| Failure {
            data: data_of(&message.message),
            cause: Cause::Enrichment(message.clone()),
        };
        let enrichments = self.enrichments.iter().map(of_enrichment);
        let failures = self.input.iter().cloned().chain(enrichments);
        FailedEvent { event, failures: failures.chain(self.output.iter().cloned()).collect() }
    }

    /// The bad row of the first phase with findings. There are some.
    pub(crate) fn into_bad_row(self, payload: Box<EventView>) -> BadRow {
        if !self.input.is_empty() {
            BadRow::SchemaViolations { messages: messages(self.input), payload }
        } else if !self.enrichments.is_empty() {
            BadRow::EnrichmentFailures { messages: self.enrichments, payload }
        } else {
            BadRow::SchemaViolations { messages: messages(self.output), payload }
        }
    }
}

fn messages(failures: Vec<Failure>) -> Vec<FailureMessage> {
    let message = |failure: Failure| match failure.cause {
        Cause::Data { message, .. } => Some(message),
        // Phase 2 has a list of its own.
        Cause::Enrichment(_) => None,
    };
    failures.into_iter().filter_map(message).collect()
}
