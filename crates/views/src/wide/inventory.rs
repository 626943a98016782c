//! Which schemas the events of a table hold, and what these say: what the columns of the table follow from.
//!
//! Both layers note it while they make rows: the batch layer keeps it in the manifest, the speed layer beside its chunks.
//! What a pin answers from is the union of the two, wherever the cut is. An inventory only ever grows.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::error::ArrowError;
use memchr::memmem;
use model::event::EnrichedEvent;
use model::iglu::SchemaKey;
use model::position::Offset;
use model::sdk::Place;
use serde::{Deserialize, Serialize};

use super::json::Json;
use super::shape::Shape;
use crate::Error;
use crate::catalog::Table;

/// What was seen, for each table of events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    pub events: Schemas,
    pub failed_events: Schemas,
}

/// Schemas with what they say, and where they were seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Vec<Entry>", from = "Vec<Entry>")]
pub struct Schemas(BTreeMap<Seen, Where>);

/// A schema where it was seen. A schema that was changed under its name, as one may do before it is published, is
/// there once for each shape.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    pub(super) is_context: bool,
    pub(super) schema: SchemaKey,
    pub(super) shape: Arc<Shape>,
}

/// The iteration that first put an event with the schema below the cut; the largest number while none has.
pub type Since = u64;

/// Everything that columns follow from: what was seen, and since when it is below the cut.
pub type Union<'a> = BTreeMap<&'a Seen, Since>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Where {
    since: Since,
    /// The last record that holds it, among those of one partition; the beginning where that is not kept, as in manifests.
    last: Offset,
}

/// One schema as the manifest has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    place: Kind,
    #[serde(with = "schema_text")]
    schema: SchemaKey,
    since: Since,
    shape: Shape,
}

/// Where a schema was seen. Own and derived contexts share their columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    UnstructEvent,
    Contexts,
}

impl Inventory {
    /// The schemas of a table; none for bad rows, which have no columns of this kind.
    pub fn of(&self, table: Table) -> Option<&Schemas> {
        match table {
            Table::Events => Some(&self.events),
            Table::FailedEvents => Some(&self.failed_events),
            Table::BadRows => None,
        }
    }

    /// Takes in what an iteration has put below the cut.
    pub fn admit(&mut self, seen: &Inventory, iteration: u64) {
        let below =
            |seen: Where| Where { since: seen.since.min(iteration), last: Offset::BEGINNING };
        self.events.take_in(&seen.events, below);
        self.failed_events.take_in(&seen.failed_events, below);
    }

    /// Takes in what was seen above the cut in the same partition.
    pub fn add(&mut self, seen: &Inventory) {
        self.events.take_in(&seen.events, |seen| seen);
        self.failed_events.take_in(&seen.failed_events, |seen| seen);
    }

    /// Whether all that the other has is here, too, wherever it was seen.
    pub fn covers(&self, other: &Inventory) -> bool {
        self.events.covers(&other.events) && self.failed_events.covers(&other.failed_events)
    }
}

impl Schemas {
    fn take_in(&mut self, seen: &Schemas, place: impl Fn(Where) -> Where) {
        for (one, seen) in &seen.0 {
            let seen = place(*seen);
            match self.0.get_mut(one) {
                Some(Where { since, last }) => {
                    (*since, *last) = ((*since).min(seen.since), (*last).max(seen.last));
                }
                None => _ = self.0.insert(one.clone(), seen),
            }
        }
    }

    fn covers(&self, other: &Schemas) -> bool {
        other.0.keys().all(|seen| self.0.contains_key(seen))
    }

    /// Adds what a record at or beyond `from` holds.
    pub fn add_to<'a>(&'a self, all: &mut Union<'a>, from: Offset) {
        for (seen, Where { since, .. }) in self.0.iter().filter(|(_, seen)| seen.last >= from) {
            let known = all.entry(seen).or_insert(*since);
            *known = (*known).min(*since);
        }
    }

    /// Whether each schema describes entities, and its key, in order.
    pub fn keys(&self) -> impl Iterator<Item = (bool, &SchemaKey)> {
        self.0.keys().map(|seen| (seen.is_context, &seen.schema))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<Entry>> for Schemas {
    fn from(entries: Vec<Entry>) -> Schemas {
        let entry = |Entry { place, schema, since, shape }| {
            let is_context = place == Kind::Contexts;
            let seen = Seen { is_context, schema, shape: Arc::new(shape) };
            (seen, Where { since, last: Offset::BEGINNING })
        };
        Schemas(entries.into_iter().map(entry).collect())
    }
}

impl From<Schemas> for Vec<Entry> {
    fn from(schemas: Schemas) -> Vec<Entry> {
        let entry = |(seen, Where { since, .. }): (Seen, Where)| {
            let place = if seen.is_context { Kind::Contexts } else { Kind::UnstructEvent };
            Entry { place, schema: seen.schema, since, shape: Arc::unwrap_or_clone(seen.shape) }
        };
        schemas.0.into_iter().map(entry).collect()
    }
}

/// The names of the schemas that events hold, collected while their rows are made.
#[derive(Clone, Debug, Default)]
pub struct Mentions {
    /// With the last record that has each.
    unstruct_events: HashMap<Box<str>, Offset>,
    contexts: HashMap<Box<str>, Offset>,
}

/// How self-describing data begins, as the enrich function prints it.
const BEGINNING: &str = "\"schema\":\"";

impl Mentions {
    /// Takes note of what the event of a record holds.
    pub fn note(&mut self, offset: Offset, event: &EnrichedEvent) {
        for (place, text) in [
            (Place::UnstructEvent, &event.unstruct_event),
            (Place::Contexts, &event.contexts),
            (Place::DerivedContexts, &event.derived_contexts),
        ] {
            if let Some(text) = text {
                self.note_text(offset, place, text);
            }
        }
    }

    /// The same for the JSON text of one column.
    pub fn note_text(&mut self, offset: Offset, place: Place, text: &str) {
        let names = match place {
            Place::UnstructEvent => &mut self.unstruct_events,
            Place::Contexts | Place::DerivedContexts => &mut self.contexts,
        };
        // Reading the text costs ten times as much as a look at the names in it, which nearly always are known. The first
        // one is the envelope's; a text that shows no other is not as we print it.
        let mut inside = mentioned(text).skip(1).peekable();
        let mut is_known = inside.peek().is_some();
        for name in inside {
            match names.get_mut(name) {
                Some(last) => *last = (*last).max(offset),
                None => is_known = false,
            }
        }
        if is_known {
            return;
        }
        for (name, _) in entities(place, text) {
            match names.get_mut(name) {
                Some(last) => *last = (*last).max(offset),
                None => _ = names.insert(name.into(), offset),
            }
        }
    }

    /// The same for rows of a table; at which record is not kept.
    ///
    /// # Errors
    /// [`Error::Arrow`] when they are no rows of events.
    pub fn note_rows(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        for (place, name) in [
            (Place::UnstructEvent, "unstruct_event"),
            (Place::Contexts, "contexts"),
            (Place::DerivedContexts, "derived_contexts"),
        ] {
            let column = rows.column_by_name(name).and_then(|it| it.as_string_opt::<i32>());
            let Some(texts) = column else {
                return Err(ArrowError::SchemaError(format!("no texts in `{name}`")).into());
            };
            let from = Offset::BEGINNING;
            texts.iter().flatten().for_each(|text| self.note_text(from, place, text));
        }
        Ok(())
    }

    /// The schemas, and what `shape` says of each.
    ///
    /// # Errors
    /// Those of `shape`.
    pub fn schemas<S: Into<Arc<Shape>>, E>(
        &self,
        mut shape: impl FnMut(&SchemaKey) -> Result<S, E>,
    ) -> Result<Schemas, E> {
        let mut schemas = BTreeMap::new();
        for (is_context, names) in [(false, &self.unstruct_events), (true, &self.contexts)] {
            // What is no schema key was refused before, and has no column.
            for (name, last) in names {
                let Ok(schema) = SchemaKey::parse(name) else { continue };
                let shape = shape(&schema)?.into();
                let seen = Where { since: Since::MAX, last: *last };
                schemas.insert(Seen { is_context, schema, shape }, seen);
            }
        }
        Ok(Schemas(schemas))
    }
}

/// The names after each [`BEGINNING`]: those of all entities, the envelope's before them, and perhaps some that stand
/// deeper. Inside of a text a quote has a backslash before it, so that none is found there.
fn mentioned(text: &str) -> impl Iterator<Item = &str> {
    memmem::find_iter(text.as_bytes(), BEGINNING).map(|at| {
        let name = &text[at + BEGINNING.len()..];
        name.split('"').next().unwrap_or(name)
    })
}

/// The self-describing data in the JSON text of a column: schema and data, in their order.
pub(super) fn entities<'a>(
    place: Place,
    text: &'a str,
) -> impl Iterator<Item = (&'a str, Option<Json<'a>>)> {
    let inside = Json::of(text).and_then(|envelope| envelope.get("data"));
    let (one, several) = match place {
        Place::UnstructEvent => (inside, None),
        Place::Contexts | Place::DerivedContexts => (None, inside),
    };
    let several = several.into_iter().flat_map(Json::items);
    one.into_iter().chain(several).filter_map(|entity| {
        let (mut schema, mut data) = (None, None);
        for (name, value) in entity.entries() {
            match name {
                "schema" => schema = value.raw_text(),
                "data" => data = Some(value),
                _ => {}
            }
        }
        Some((schema?, data))
    })
}

/// A schema key as its URI.
mod schema_text {
    use model::iglu::SchemaKey;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(
        schema: &SchemaKey,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(schema.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SchemaKey, D::Error> {
        SchemaKey::parse(&String::deserialize(deserializer)?)
            .map_err(|error| D::Error::custom(error.code()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const CART: &str = "iglu:com.acme/cart/jsonschema/1-0-0";
    const USER: &str = "iglu:com.acme/user/jsonschema/1-0-0";
    const PAGE: &str = "iglu:com.acme/page/jsonschema/1-0-0";

    fn event() -> EnrichedEvent {
        let entity = |schema: &str, data| json!({"schema": schema, "data": data});
        let nested = json!({"inside": entity(PAGE, json!({})), "text": "\"schema\":\"iglu:x\""});
        EnrichedEvent {
            unstruct_event: Some(
                entity("iglu:a/ue/jsonschema/1-0-0", entity(CART, nested)).to_string(),
            ),
            contexts: Some(
                entity("iglu:a/co/jsonschema/1-0-0", json!([entity(USER, json!({}))])).to_string(),
            ),
            ..EnrichedEvent::default()
        }
    }

    fn names(schemas: &Schemas) -> Vec<(bool, &str)> {
        schemas.0.keys().map(|seen| (seen.is_context, seen.schema.as_str())).collect()
    }

    fn shape(_: &SchemaKey) -> Result<Shape, ()> {
        Ok(Shape::Text)
    }

    #[test]
    fn only_what_describes_data_of_the_event_itself_is_noted() {
        let mut mentions = Mentions::default();
        for _ in 0..2 {
            mentions.note(Offset::from_number(7), &event());
        }
        let schemas = mentions.schemas(shape).unwrap();
        assert_eq!(names(&schemas), [(false, CART), (true, USER)]);
        mentions.note_text(Offset::from_number(9), Place::DerivedContexts, r#"{"data":[{"data":{},"schema":"iglu:com.acme/page/jsonschema/1-0-0"}],"schema":"iglu:a/co/jsonschema/1-0-1"}"#);
        let schemas = mentions.schemas(shape).unwrap();
        assert_eq!(names(&schemas), [(false, CART), (true, PAGE), (true, USER)]);
    }

    #[test]
    fn an_inventory_reads_back_and_keeps_the_first_iteration() {
        let mut mentions = Mentions::default();
        mentions.note(Offset::from_number(7), &event());
        let seen = Inventory { events: mentions.schemas(shape).unwrap(), ..Inventory::default() };
        let mut kept = Inventory::default();
        assert!(!kept.covers(&seen));
        kept.admit(&seen, 3);
        kept.admit(&seen, 7);
        assert!(kept.covers(&seen));
        assert!(kept.events.0.values().all(|seen| seen.since == 3));
        let text = serde_json::to_string(&kept).unwrap();
        let expected = r#"{"events":[{"place":"unstruct_event","schema":"iglu:com.acme/cart/jsonschema/1-0-0","since":3,"shape":"text"},{"place":"contexts","schema":"iglu:com.acme/user/jsonschema/1-0-0","since":3,"shape":"text"}],"failed_events":[]}"#;
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<Inventory>(&text).unwrap(), kept);
        kept.add(&seen);
        assert_eq!(serde_json::to_string(&kept).unwrap(), expected);
    }

    #[test]
    fn what_only_lies_below_the_cut_is_told_apart() {
        let mut mentions = Mentions::default();
        for (number, version) in [(3, "1-0-0"), (5, "1-0-1"), (4, "1-0-1")] {
            let schema = format!("iglu:com.acme/cart/jsonschema/{version}");
            let text = json!({"schema": "a", "data": {"schema": schema, "data": {}}}).to_string();
            mentions.note_text(Offset::from_number(number), Place::UnstructEvent, &text);
        }
        let schemas = mentions.schemas(shape).unwrap();
        let count = |from| {
            let mut all = Union::new();
            schemas.add_to(&mut all, Offset::from_number(from));
            all.len()
        };
        assert_eq!([0, 3, 4, 5, 6].map(count), [2, 2, 1, 1, 0]);
    }
}
