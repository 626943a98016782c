//! The form of a column: the shapes of all versions of a schema, merged in the order of the versions.
//!
//! Unlike a shape it has an order of fields, and their names as SQL shows them. Fields never change their order: what a
//! later version brings stands at the end. Snowplow: `lake-and-postgres.md` 2 and 3.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};

use super::shape::{Shape, join_numbers};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A shape without parts.
    Leaf(Shape),
    List(Box<Form>),
    Struct(Vec<Member>),
}

/// One field of a struct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    /// The names of the properties that it shows, as the schemas have them, sorted: more than one where they differ in
    /// nothing that the field's name keeps.
    pub(super) properties: Vec<String>,
    pub(super) form: Form,
}

impl Form {
    /// How many fields it has at its ends, and whether there is a list on the way to any.
    pub(super) fn extent(&self) -> (usize, bool) {
        match self {
            Form::Leaf(_) => (1, false),
            Form::List(item) => (item.extent().0, true),
            Form::Struct(members) => members.iter().fold((1, false), |(fields, has_lists), it| {
                let (more, lists) = it.form.extent();
                (fields + more, has_lists || lists)
            }),
        }
    }

    pub(super) fn of(shape: &Shape) -> Form {
        match shape {
            Shape::List(item) => Form::List(Box::new(Form::of(item))),
            Shape::Struct(properties) => {
                let mut members = Vec::new();
                add(&mut members, properties);
                Form::Struct(members)
            }
            leaf => Form::Leaf(leaf.clone()),
        }
    }

    /// Takes in a further version. What has nothing in common with what was there becomes JSON text, and stays it.
    pub(super) fn widen(&mut self, shape: &Shape) {
        match (&mut *self, shape) {
            (Form::List(item), Shape::List(other)) => item.widen(other),
            (Form::Struct(members), Shape::Struct(properties)) => add(members, properties),
            (Form::Leaf(leaf), other) if leaf == other => {}
            (Form::Leaf(leaf), other) => {
                let joined = join_numbers(leaf, other).unwrap_or(Shape::Json);
                *self = Form::Leaf(joined);
            }
            (Form::List(_) | Form::Struct(_), _) => *self = Form::Leaf(Shape::Json),
        }
    }

    /// The Arrow type. Texts are views: a batch of rows may hold more of them than offsets of 32 bits reach.
    pub(super) fn data_type(&self) -> DataType {
        match self {
            Form::Leaf(Shape::Boolean) => DataType::Boolean,
            Form::Leaf(Shape::Bigint) => DataType::Int64,
            Form::Leaf(Shape::Double) => DataType::Float64,
            Form::Leaf(Shape::Decimal(precision, scale)) => {
                DataType::Decimal128(*precision, (*scale).cast_signed())
            }
            Form::Leaf(Shape::Date) => DataType::Date32,
            Form::Leaf(Shape::Timestamp) => DataType::Timestamp(TimeUnit::Microsecond, None),
            Form::Leaf(Shape::Json | Shape::Text | Shape::List(_) | Shape::Struct(_)) => {
                DataType::Utf8View
            }
            Form::List(item) => DataType::List(item_field(item.data_type())),
            Form::Struct(members) => DataType::Struct(fields(members)),
        }
    }
}

/// The field of a list's items.
pub(super) fn item_field(data_type: DataType) -> Arc<Field> {
    Arc::new(Field::new("item", data_type, true))
}

fn fields(members: &[Member]) -> Fields {
    members.iter().map(|member| Field::new(&member.name, member.form.data_type(), true)).collect()
}

/// Adds properties to a struct: to the fields that have their names, the others behind all that there are.
fn add(members: &mut Vec<Member>, properties: &BTreeMap<String, Shape>) {
    let known = members.len();
    for (property, shape) in properties {
        let name = field_name(property);
        match members.iter_mut().find(|member| member.name == name) {
            Some(member) => {
                member.form.widen(shape);
                if let Err(place) = member.properties.binary_search(property) {
                    member.properties.insert(place, property.clone());
                }
            }
            None => {
                let properties = vec![property.clone()];
                members.push(Member { name, properties, form: Form::of(shape) });
            }
        }
    }
    members[known..].sort_by(|one, other| one.name.cmp(&other.name));
}

/// The name of a property as SQL shows it: `productId` becomes `product_id`, `HTTPStatus` `http_status`, `2nd-try`
/// `_2nd_try`. Snowplow: `batch.md` 6.2, `lake-and-postgres.md` 2.
pub(super) fn field_name(property: &str) -> String {
    let mut name = String::with_capacity(property.len() + 4);
    let characters: Vec<char> = property.chars().collect();
    for (at, character) in characters.iter().enumerate() {
        if character.is_ascii_uppercase() && at > 0 {
            let before = characters[at - 1];
            let begins_word = characters.get(at + 1).is_some_and(char::is_ascii_lowercase);
            let after_word = before.is_ascii_lowercase() || before.is_ascii_digit();
            if after_word || (before.is_ascii_uppercase() && begins_word) {
                name.push('_');
            }
        }
        let is_plain = character.is_ascii_alphanumeric();
        name.push(if is_plain { character.to_ascii_lowercase() } else { '_' });
    }
    if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn shape(json: Value) -> Shape {
        json.try_into().unwrap()
    }

    /// Names and types of a struct's fields.
    fn shown(form: &Form) -> Vec<String> {
        let Form::Struct(members) = form else { panic!("{form:?}") };
        let one = |member: &Member| format!("{} {}", member.name, member.form.data_type());
        members.iter().map(one).collect()
    }

    #[test]
    fn properties_are_named_as_columns_are() {
        for (property, name) in [
            ("sku", "sku"),
            ("productId", "product_id"),
            ("HTTPStatus", "http_status"),
            ("userID", "user_id"),
            ("v2Item", "v2_item"),
            ("Item", "item"),
            ("first-name", "first_name"),
            ("first.name", "first_name"),
            ("_id", "_id"),
            ("2nd", "_2nd"),
            ("größe", "gr__e"),
            ("", "_"),
        ] {
            assert_eq!(field_name(property), name, "{property}");
        }
    }

    #[test]
    fn what_a_later_version_brings_stands_at_the_end() {
        let mut form = Form::of(&shape(json!({"b": "bigint", "a": "text"})));
        assert_eq!(shown(&form), ["a Utf8View", "b Int64"]);
        form.widen(&shape(json!({"a": "text", "aa": "date", "0": "boolean", "b": "double"})));
        assert_eq!(shown(&form), ["a Utf8View", "b Float64", "_0 Boolean", "aa Date32"]);
        form.widen(&shape(json!({"b": ["text"]})));
        assert_eq!(shown(&form), ["a Utf8View", "b Utf8View", "_0 Boolean", "aa Date32"]);
        form.widen(&shape(json!(["text"])));
        assert_eq!(form, Form::Leaf(Shape::Json));
        form.widen(&shape(json!({"a": "text"})));
        assert_eq!(form, Form::Leaf(Shape::Json));
    }

    #[test]
    fn properties_with_one_name_are_one_field() {
        let form = Form::of(&shape(json!({"itemId": "bigint", "item_id": "double"})));
        assert_eq!(shown(&form), ["item_id Float64"]);
        let Form::Struct(members) = form else { unreachable!() };
        assert_eq!(members[0].properties, ["itemId", "item_id"]);
    }
}
