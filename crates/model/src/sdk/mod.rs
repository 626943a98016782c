//! The analytics SDK: a line of enriched TSV as a typed event, and the event as JSON.
//!
//! For whoever consumes enriched events: `snowmelt stream tail enriched --json`, and programs that read the enriched
//! stream of Snowplow or of ours. Reading here is more lenient than [`crate::event::EnrichedEvent::from_tsv`], which
//! reads only what we wrote and loses nothing: numbers become doubles here, timestamps may have any fraction. Therefore
//! never compare an event that went through here with one that did not. Snowplow: `analytics-sdk.md`.

mod cells;

mod keys;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::event::{COLUMNS, Kind};
use crate::iglu::{Criterion, SchemaKey, SelfDescribing};

pub use keys::{Place, key};

const UNSTRUCT_EVENT: &str = "iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0";
const CONTEXTS: &str = "iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-0";

const UNSTRUCT_EVENT_CRITERION: &str =
    "iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-*";
const CONTEXTS_CRITERION: &str = "iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-*";

/// One enriched event, as far as its consumers tell it apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Every column but the three below, in the order of the TSV, in its JSON form; null when unset.
    columns: Vec<(&'static str, Value)>,
    pub unstruct_event: Option<SelfDescribing>,
    pub contexts: Vec<SelfDescribing>,
    pub derived_contexts: Vec<SelfDescribing>,
}

/// Why a line is no enriched event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParsingError {
    #[error("the line has no tabs")]
    NotTsv,
    #[error("an enriched event has 131 cells, found {0}")]
    FieldNumberMismatch(usize),
    /// At least one, in the order of the columns.
    #[error("{} of the cells cannot be read, the first is {}: {}", .0.len(), .0[0].column, .0[0].message)]
    RowDecoding(Vec<InvalidValue>),
}

/// A cell that does not have its column's form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidValue {
    pub column: &'static str,
    pub value: String,
    pub message: String,
}

impl ParsingError {
    /// As the `failure` of a `loader_parsing_error` shows it.
    pub fn to_json(&self) -> Value {
        match self {
            ParsingError::NotTsv => json!({"type": "NotTSV"}),
            ParsingError::FieldNumberMismatch(count) => {
                json!({"type": "FieldNumberMismatch", "fieldCount": count})
            }
            ParsingError::RowDecoding(values) => {
                let errors: Value = values.iter().map(InvalidValue::to_json).collect();
                json!({"type": "RowDecodingError", "errors": errors})
            }
        }
    }
}

impl InvalidValue {
    fn to_json(&self) -> Value {
        json!({"type": "InvalidValue", "key": self.column, "value": self.value, "message": self.message})
    }
}

impl Event {
    /// Reads one line, without its line end. Nothing is cut.
    ///
    /// # Errors
    /// All cells that cannot be read at once, unless the line does not even have 131 of them.
    pub fn parse(line: &str) -> Result<Event, ParsingError> {
        Event::parse_truncating(line, &BTreeMap::new())
    }

    /// The same, with texts cut to the most UTF-16 code units that their column may have. The event id is never cut.
    ///
    /// # Errors
    /// As [`Event::parse`].
    pub fn parse_truncating(
        line: &str,
        lengths_max: &BTreeMap<&str, usize>,
    ) -> Result<Event, ParsingError> {
        let count = line.split('\t').count();
        if count == 1 {
            return Err(ParsingError::NotTsv);
        }
        if count != COLUMNS.len() {
            return Err(ParsingError::FieldNumberMismatch(count));
        }
        let mut event = Event {
            columns: Vec::with_capacity(COLUMNS.len() - 3),
            unstruct_event: None,
            contexts: Vec::new(),
            derived_contexts: Vec::new(),
        };
        let mut invalid = Vec::new();
        for (column, text) in COLUMNS.iter().zip(line.split('\t')) {
            let read = match (column.name, column.kind) {
                ("unstruct_event", _) => {
                    unstruct_event(text).map(|found| event.unstruct_event = found)
                }
                ("contexts", _) => contexts(text).map(|found| event.contexts = found),
                ("derived_contexts", _) => {
                    contexts(text).map(|found| event.derived_contexts = found)
                }
                (name, kind) => cells::read(name, kind, text, lengths_max.get(name).copied())
                    .map(|value| event.columns.push((name, value))),
            };
            if let Err(message) = read {
                let (column, value) = (column.name, text.to_owned());
                invalid.push(InvalidValue { column, value, message });
            }
        }
        if invalid.is_empty() { Ok(event) } else { Err(ParsingError::RowDecoding(invalid)) }
    }

    /// The value of a column that is no JSON, in its JSON form; null when unset, or when there is no such column.
    pub fn column(&self, name: &str) -> &Value {
        self.columns
            .iter()
            .find(|(known, _)| *known == name)
            .map_or(&Value::Null, |(_, value)| value)
    }

    /// `latitude,longitude`, if both are set.
    pub fn geo_location(&self) -> Option<String> {
        match (self.column("geo_latitude"), self.column("geo_longitude")) {
            (Value::Number(latitude), Value::Number(longitude)) => {
                Some(format!("{latitude},{longitude}"))
            }
            _ => None,
        }
    }

    /// What the event holds besides its columns: which schemas, and where.
    pub fn inventory(&self) -> BTreeSet<(Place, SchemaKey)> {
        self.entities().map(|(place, entity)| (place, entity.schema.clone())).collect()
    }

    /// All columns in the order of the TSV, with wrapped JSON: `{}` for no contexts, null for no self-describing event.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut columns = self.columns.iter();
        let wrapped = |entities: &[SelfDescribing]| match entities {
            [] => json!({}),
            entities => {
                let data: Value =
                    entities.iter().cloned().map(SelfDescribing::into_value).collect();
                json!({"schema": CONTEXTS, "data": data})
            }
        };
        let value = |name: &str| match name {
            "unstruct_event" => self.unstruct_event.clone().map_or(
                Value::Null,
                |event| json!({"schema": UNSTRUCT_EVENT, "data": event.into_value()}),
            ),
            "contexts" => wrapped(&self.contexts),
            "derived_contexts" => wrapped(&self.derived_contexts),
            _ => columns.next().map_or(Value::Null, |(_, value)| value.clone()),
        };
        let names = COLUMNS.iter().map(|column| column.name);
        let values: Vec<Value> = names.clone().map(value).collect();
        names.map(str::to_owned).zip(values).collect()
    }

    /// The flat form of warehouses: the columns, nulls included, then one key for each family of schemas (see
    /// [`key`]) and `geo_location`. The entities of a family are an array, each with its `_schema_version`; where the
    /// same family is in both kinds of contexts, the derived ones stay.
    pub fn to_flat_json(&self) -> Map<String, Value> {
        let mut flat: Map<String, Value> =
            self.columns.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        for entities in [&self.contexts, &self.derived_contexts] {
            for (key, group) in groups(entities) {
                flat.insert(key, group);
            }
        }
        if let Some(event) = &self.unstruct_event {
            flat.insert(key(Place::UnstructEvent, &event.schema), event.data.clone());
        }
        if let Some(location) = self.geo_location() {
            flat.insert("geo_location".to_owned(), location.into());
        }
        flat
    }

    fn entities(&self) -> impl Iterator<Item = (Place, &SelfDescribing)> {
        let event = self.unstruct_event.iter().map(|event| (Place::UnstructEvent, event));
        let contexts = self.contexts.iter().map(|entity| (Place::Contexts, entity));
        let derived = self.derived_contexts.iter().map(|entity| (Place::DerivedContexts, entity));
        event.chain(contexts).chain(derived)
    }
}

/// The entities of each family, families in the order of their first entity. Two families may have one key; then the
/// last one wins where they are put together.
fn groups(entities: &[SelfDescribing]) -> Vec<(String, Value)> {
    let mut families: Vec<(&SchemaKey, Vec<Value>)> = Vec::new();
    for SelfDescribing { schema, data } in entities {
        let same = |(known, _): &&mut (&SchemaKey, _)| {
            (known.vendor(), known.name(), known.format(), known.model())
                == (schema.vendor(), schema.name(), schema.format(), schema.model())
        };
        let mut data = match data {
            Value::Object(fields) => fields.clone(),
            _ => Map::new(),
        };
        data.insert("_schema_version".to_owned(), schema.version().to_string().into());
        match families.iter_mut().find(same) {
            Some((_, members)) => members.push(data.into()),
            None => families.push((schema, vec![data.into()])),
        }
    }
    let named = |(schema, members): (&SchemaKey, Vec<Value>)| {
        (key(Place::Contexts, schema), Value::Array(members))
    };
    families.into_iter().map(named).collect()
}

fn unstruct_event(text: &str) -> Result<Option<SelfDescribing>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    entity(unwrap(text, UNSTRUCT_EVENT_CRITERION)?).map(Some)
}

fn contexts(text: &str) -> Result<Vec<SelfDescribing>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    match unwrap(text, CONTEXTS_CRITERION)? {
        Value::Array(items) => items.into_iter().map(entity).collect(),
        _ => Err("the data of the contexts is no array".to_owned()),
    }
}

/// The data of a wrapper.
fn unwrap(text: &str, criterion: &str) -> Result<Value, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let SelfDescribing { schema, data } = entity(value)?;
    let criterion = Criterion::parse(criterion).map_err(|error| error.to_string())?;
    match criterion.matches(&schema) {
        true => Ok(data),
        false => Err(format!("Unknown payload: {schema}")),
    }
}

fn entity(value: Value) -> Result<SelfDescribing, String> {
    SelfDescribing::from_value(value).map_err(|(reason, _)| reason.to_string())
}

/// A text that is longer than its column may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooLong {
    pub column: &'static str,
    /// UTF-16 code units.
    pub length: usize,
    pub length_max: usize,
}

/// The texts that are longer than the columns of the atomic table. These limits are smaller than those of enrich for
/// three columns, so that what enrich calls good may still be listed here.
pub fn over_long(event: &Event) -> Vec<TooLong> {
    let limit = |name: &str, enrich_max: usize| match name {
        "page_url" | "page_referrer" => 4096,
        "mkt_clickid" => 128,
        _ => enrich_max,
    };
    let too_long = |column: &crate::event::Column| {
        let (Kind::Text(enrich_max), Value::String(text)) =
            (column.kind, event.column(column.name))
        else {
            return None;
        };
        let (length, length_max) = (text.encode_utf16().count(), limit(column.name, enrich_max));
        (length > length_max).then_some(TooLong { column: column.name, length, length_max })
    };
    COLUMNS.iter().filter_map(too_long).collect()
}

#[cfg(test)]
mod tests;
