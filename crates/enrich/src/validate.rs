//! Findings against the atomic columns: those of parameters that do not convert, and the lengths of the text columns,
//! which are the last check of an event. Snowplow: `enrich-core.md` 2.5, 5.2 and 5.3.
//!
//! The lengths are checked after the enrichments, over what they wrote too. Nothing is ever cut.

use std::collections::BTreeMap;

use model::bad_row::{DataReport, FailureMessage, IgluError};
use model::event::{COLUMNS, Cell, EnrichedEvent, Kind};
use model::failed::{Cause, Failure};
use serde_json::{Map, Value};

const ATOMIC: &str = "iglu:com.snowplowanalytics.snowplow/atomic/jsonschema/1-0-0";

/// Findings of one phase; together they are one message.
#[derive(Debug, Default)]
pub(crate) struct AtomicErrors {
    reports: Vec<DataReport>,
    /// What was found under each name. Bad rows never show it, failed events do.
    values: Map<String, Value>,
}

impl AtomicErrors {
    /// A parameter whose value does not convert.
    pub(crate) fn unparsable(&mut self, message: String, parameter: &str, value: &str) {
        self.add(message, parameter, "atomic_field_parse_error", value);
    }

    fn add(&mut self, message: String, path: &str, keyword: &str, value: &str) {
        self.values.insert(path.to_owned(), value.into());
        self.reports.push(DataReport {
            message,
            path: Some(path.to_owned()),
            keyword: Some(keyword.to_owned()),
            targets: Vec::new(),
        });
    }

    /// All findings as one failure; none if there are none.
    pub(crate) fn into_failure(self) -> Option<Failure> {
        if self.reports.is_empty() {
            return None;
        }
        let error = IgluError::Validation { data_reports: self.reports, superseded_by: None };
        let message = FailureMessage::Iglu { schema_key: ATOMIC.to_owned(), error };
        let cause = Cause::Data { message, source: "atomic_field" };
        Some(Failure { cause, data: Some(self.values.into()) })
    }
}

/// The most UTF-16 code units of each text column, in the order of the columns.
#[derive(Clone, Debug)]
pub(crate) struct Lengths([usize; COLUMNS.len()]);

impl Lengths {
    /// Snowplow's limits, but for the columns that are named. Other names have no meaning.
    pub(crate) fn with(changed: &BTreeMap<String, u32>) -> Lengths {
        let length = |column: &model::event::Column| match (changed.get(column.name), column.kind) {
            (Some(changed), _) => *changed as usize,
            (None, Kind::Text(length)) => length,
            (None, _) => usize::MAX,
        };
        Lengths(std::array::from_fn(|at| length(&COLUMNS[at])))
    }

    /// Whether a limit can be set for a column of this name.
    pub(crate) fn has(name: &str) -> bool {
        COLUMNS.iter().any(|column| column.name == name && matches!(column.kind, Kind::Text(_)))
    }

    /// One finding for each text column that is longer than its limit, and the names of those columns.
    pub(crate) fn check(&self, event: &EnrichedEvent) -> (AtomicErrors, Vec<&'static str>) {
        let (mut errors, mut columns) = (AtomicErrors::default(), Vec::new());
        // No text has more UTF-16 units than bytes, so most need no counting.
        if event.texts_are_within(&self.0) {
            return (errors, columns);
        }
        for ((column, cell), length) in COLUMNS.iter().zip(event.cells()).zip(&self.0) {
            let Cell::Text(text) = cell else { continue };
            if text.len() > *length && text.encode_utf16().count() > *length {
                let message = format!("Field is longer than maximum allowed size {length}");
                errors.add(message, column.name, "atomic_field_length_exceeded", text);
                columns.push(column.name);
            }
        }
        (errors, columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_count_utf_16_units_and_can_be_changed() {
        let event = EnrichedEvent {
            tr_currency: Some("\u{1f600}\u{1f600}".to_owned()),
            mkt_network: Some("four".to_owned()),
            ..EnrichedEvent::default()
        };
        let (_, columns) = Lengths::with(&BTreeMap::new()).check(&event);
        assert_eq!(columns, ["tr_currency"], "two characters, four units, limit 3");
        let changed = [("tr_currency".to_owned(), 4), ("mkt_network".to_owned(), 3)];
        let (errors, columns) = Lengths::with(&changed.into()).check(&event);
        assert_eq!(columns, ["mkt_network"]);
        let Some(Failure { data, .. }) = errors.into_failure() else { panic!("no failure") };
        assert_eq!(data.unwrap().to_string(), r#"{"mkt_network":"four"}"#);
    }

    #[test]
    fn only_text_columns_have_a_length() {
        assert!(Lengths::has("page_url") && Lengths::has("etl_tags"));
        assert!(!Lengths::has("contexts") && !Lengths::has("txn_id") && !Lengths::has("nothing"));
    }
}
