//! The wide columns of one table that follow from what was seen.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use arrow::datatypes::{DataType, Field, Fields};
use model::iglu::SchemaKey;
use model::sdk::{Place, key};

use super::form::{Form, Member, item_field};
use super::inventory::{Seen, Union};
use super::shape::Shape;

/// The most columns of one table. Families beyond it are in the JSON columns alone: those that came last.
pub const COLUMNS_MAX: usize = 1000;

/// The first field of each entity: the full version of its schema. A property of the same name is not shown.
pub(super) const SCHEMA_VERSION: &str = "_schema_version";

/// All wide columns of a table, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Columns {
    columns: Vec<Column>,
    /// The column of each family: its schema keys up to the model.
    unstruct_events: HashMap<Box<str>, usize>,
    contexts: HashMap<Box<str>, usize>,
    left_out: usize,
}

/// One wide column.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    name: String,
    pub(super) is_context: bool,
    pub(super) form: Form,
    /// The beginnings of the schema keys that it shows, up to the model and the `-` behind it.
    pub(super) families: BTreeSet<String>,
}

impl Columns {
    /// The columns for all that was seen.
    pub fn of(all: &Union<'_>) -> Columns {
        // Kinds, then names, then versions: the fields of a column are in the order of its versions.
        let mut families: BTreeMap<String, Vec<&Seen>> = BTreeMap::new();
        for &seen in all.keys() {
            let place = if seen.is_context { Place::Contexts } else { Place::UnstructEvent };
            families.entry(key(place, &seen.schema)).or_default().push(seen);
        }
        // Which are left out must not depend on when they came below the cut: by their names it depends on nothing else.
        let left_out = families.len().saturating_sub(COLUMNS_MAX);
        let mut columns = Columns { left_out, ..Columns::default() };
        for (at, (name, seen)) in families.into_iter().take(COLUMNS_MAX).enumerate() {
            let column = Column::of(name, &seen);
            let places = if column.is_context {
                &mut columns.contexts
            } else {
                &mut columns.unstruct_events
            };
            for family in &column.families {
                places.insert(family.trim_end_matches('-').into(), at);
            }
            columns.columns.push(column);
        }
        columns
    }

    pub fn len(&self) -> usize {
        self.columns.len()
    }

    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Families that have no column because there are too many.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Column> {
        self.columns.iter()
    }

    pub fn get(&self, at: usize) -> Option<&Column> {
        self.columns.get(at)
    }

    /// The column that shows data of this schema key, as a text.
    pub(super) fn place_of(&self, is_context: bool, schema: &str) -> Option<usize> {
        let places = if is_context { &self.contexts } else { &self.unstruct_events };
        places.get(family_of(schema)?).copied()
    }
}

impl Column {
    fn of(name: String, seen: &[&Seen]) -> Column {
        let mut ordered: Vec<&&Seen> = seen.iter().collect();
        // Families that share a name are taken one after the other.
        ordered
            .sort_by(|one, other| one.schema.cmp(&other.schema).then(one.shape.cmp(&other.shape)));
        let mut forms = ordered.iter().map(|seen| &*seen.shape);
        let mut form = forms.next().map_or(Form::Leaf(Shape::Json), Form::of);
        forms.for_each(|shape| form.widen(shape));
        let families = seen.iter().map(|seen| beginning(&seen.schema)).collect();
        let is_context = seen.iter().any(|seen| seen.is_context);
        let form = match form {
            Form::Struct(mut members) => {
                if is_context {
                    members.retain(|member| member.name != SCHEMA_VERSION);
                    members.insert(0, version());
                }
                Form::Struct(members)
            }
            // What is no object has no fields.
            _ => Form::Leaf(Shape::Json),
        };
        Column { name, is_context, form, families }
    }

    /// `unstruct_event_com_acme_cart_1`. Snowplow: `analytics-sdk.md` 3.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A struct for a self-describing event, a list of structs for entities, a text for what is JSON text.
    pub fn data_type(&self) -> DataType {
        match (&self.form, self.is_context) {
            (form @ Form::Struct(_), true) => DataType::List(item_field(form.data_type())),
            (form, _) => form.data_type(),
        }
    }

    pub fn field(&self) -> Field {
        Field::new(&self.name, self.data_type(), true)
    }

    /// Which of the JSON columns of an event its values are made from.
    pub fn sources(&self) -> &'static [&'static str] {
        if self.is_context { &["contexts", "derived_contexts"] } else { &["unstruct_event"] }
    }

    /// The fields of the struct; none for JSON text.
    pub fn fields(&self) -> Fields {
        match self.form.data_type() {
            DataType::Struct(fields) => fields,
            _ => Fields::empty(),
        }
    }
}

fn version() -> Member {
    Member {
        name: SCHEMA_VERSION.to_owned(),
        properties: Vec::new(),
        form: Form::Leaf(Shape::Text),
    }
}

/// `iglu:com.acme/cart/jsonschema/1-`.
fn beginning(schema: &SchemaKey) -> String {
    format!("iglu:{}/{}/{}/{}-", schema.vendor(), schema.name(), schema.format(), schema.model())
}

/// `iglu:com.acme/cart/jsonschema/1` of `iglu:com.acme/cart/jsonschema/1-0-2`.
fn family_of(schema: &str) -> Option<&str> {
    let version = schema.rfind('/')?;
    let model = schema[version..].find('-')?;
    Some(&schema[..version + model])
}

/// `1-0-2` of `iglu:com.acme/cart/jsonschema/1-0-2`.
pub(super) fn version_of(schema: &str) -> &str {
    schema.rsplit('/').next().unwrap_or(schema)
}

#[cfg(test)]
mod tests {
    use super::super::inventory::{Inventory, Mentions, Schemas};
    use super::*;
    use model::position::Offset;
    use serde_json::{Value, json};

    /// Schemas as they are seen in an iteration.
    fn seen(iteration: u64, schemas: &[(Place, &str, Value)]) -> Schemas {
        let mut inventory = Inventory::default();
        for (place, uri, shape) in schemas {
            let mut mentions = Mentions::default();
            let entity = json!({"schema": uri, "data": {}});
            let data = if *place == Place::UnstructEvent { entity } else { json!([entity]) };
            let text = json!({"schema": "iglu:a/b/jsonschema/1-0-0", "data": data}).to_string();
            mentions.note_text(Offset::BEGINNING, *place, &text);
            let shape = || Ok::<Shape, ()>(shape.clone().try_into().unwrap());
            let events = mentions.schemas(|_| shape()).unwrap();
            inventory.admit(&Inventory { events, ..Inventory::default() }, iteration);
        }
        inventory.events
    }

    fn columns_of<const N: usize>(schemas: [&Schemas; N]) -> Columns {
        let mut all = Union::new();
        schemas.iter().for_each(|schemas| schemas.add_to(&mut all, Offset::BEGINNING));
        Columns::of(&all)
    }

    fn shown(columns: &Columns) -> Vec<String> {
        columns.iter().map(|it| format!("{} {}", it.name(), it.data_type())).collect()
    }

    #[test]
    fn columns_have_the_names_and_types_of_their_families() {
        let batch = seen(
            1,
            &[
                (
                    Place::UnstructEvent,
                    "iglu:com.acme/cart/jsonschema/1-0-0",
                    json!({"total": "bigint"}),
                ),
                (Place::UnstructEvent, "iglu:com.acme/cart/jsonschema/2-0-0", json!("json")),
                (Place::Contexts, "iglu:com.acme/user/jsonschema/1-0-0", json!({"id": "text"})),
            ],
        );
        let speed = seen(
            2,
            &[
                (
                    Place::UnstructEvent,
                    "iglu:com.acme/cart/jsonschema/1-0-10",
                    json!({"total": "double", "couponCode": "text"}),
                ),
                (
                    Place::DerivedContexts,
                    "iglu:com.acme/user/jsonschema/1-0-1",
                    json!({"id": "text", "_schema_version": "bigint"}),
                ),
            ],
        );
        let expected = [
            r#"contexts_com_acme_user_1 List(Struct("_schema_version": Utf8View, "id": Utf8View))"#,
            r#"unstruct_event_com_acme_cart_1 Struct("total": Float64, "coupon_code": Utf8View)"#,
            "unstruct_event_com_acme_cart_2 Utf8View",
        ];
        let columns = columns_of([&batch, &speed]);
        assert_eq!(shown(&columns), expected);
        assert_eq!(shown(&columns_of([&speed, &batch])), expected);
        assert_eq!(columns.place_of(false, "iglu:com.acme/cart/jsonschema/1-0-7"), Some(1));
        assert_eq!(columns.place_of(true, "iglu:com.acme/cart/jsonschema/1-0-7"), None);
        assert_eq!(columns.place_of(false, "iglu:com.acme/cart/jsonschema/10-0-0"), None);
        assert_eq!(columns.place_of(false, "cart"), None);
    }

    #[test]
    fn families_that_differ_in_their_dashes_alone_share_a_column() {
        let both = seen(
            1,
            &[
                (Place::Contexts, "iglu:com.acme/my-name/jsonschema/1-0-0", json!({"a": "text"})),
                (Place::Contexts, "iglu:com.acme/my_name/jsonschema/1-0-0", json!({"b": "text"})),
            ],
        );
        let columns = columns_of([&both]);
        assert_eq!(columns.len(), 1);
        for schema in
            ["iglu:com.acme/my-name/jsonschema/1-0-0", "iglu:com.acme/my_name/jsonschema/1-2-3"]
        {
            assert_eq!(columns.place_of(true, schema), Some(0));
        }
    }

    #[test]
    fn families_beyond_the_bound_are_the_last_by_name_whenever_they_came() {
        let uris: Vec<String> = (0..=COLUMNS_MAX)
            .map(|at| format!("iglu:com.acme/n{at:04}/jsonschema/1-0-0"))
            .collect();
        let schemas: Vec<(Place, &str, Value)> =
            uris.iter().map(|uri| (Place::Contexts, uri.as_str(), json!("json"))).collect();
        for (first, second) in [(1, 2), (2, 1)] {
            let columns = columns_of([&seen(first, &schemas[1..]), &seen(second, &schemas[..1])]);
            assert_eq!((columns.len(), columns.left_out()), (COLUMNS_MAX, 1));
            assert_eq!(columns.place_of(true, &uris[0]), Some(0));
            assert_eq!(columns.place_of(true, &uris[COLUMNS_MAX]), None);
        }
    }
}
