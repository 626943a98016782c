//! The last check of an event: the lengths of its text columns. Snowplow: `enrich-core.md` 5.2 and 5.3.
//!
//! Runs after the enrichments, over what they wrote too. Nothing is ever cut.

use model::bad_row::{DataReport, FailureMessage, IgluError};
use model::event::{COLUMNS, Cell, EnrichedEvent, Kind};

use crate::parameters::atomic_report;

const ATOMIC: &str = "iglu:com.snowplowanalytics.snowplow/atomic/jsonschema/1-0-0";

/// One report for each column that is longer than its limit, in UTF-16 code units.
pub(crate) fn atomic_lengths(event: &EnrichedEvent) -> Vec<DataReport> {
    let mut reports = Vec::new();
    for (column, cell) in COLUMNS.iter().zip(event.cells()) {
        let (Kind::Text(limit), Cell::Text(text)) = (column.kind, cell) else { continue };
        // No text has more UTF-16 units than bytes, so most need no counting.
        if text.len() > limit && text.encode_utf16().count() > limit {
            let message = format!("Field is longer than maximum allowed size {limit}");
            reports.push(atomic_report(message, column.name, "atomic_field_length_exceeded"));
        }
    }
    reports
}

/// All reports against atomic fields as one message; none if there are none.
pub(crate) fn atomic_failure(data_reports: Vec<DataReport>) -> Option<FailureMessage> {
    (!data_reports.is_empty()).then(|| FailureMessage::Iglu {
        schema_key: ATOMIC.to_owned(),
        error: IgluError::Validation { data_reports, superseded_by: None },
    })
}
