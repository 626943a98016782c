//! What a schema says about the form of its data, as far as a column can show it.
//!
//! Made once for each schema, by the layer that validated with it, and kept in the manifest: from there on nobody needs
//! the schema. Whether data obeys is not asked here. Snowplow: `lake-and-postgres.md` 2, in its forgiving form: every
//! field may be null, an integer is always a bigint, and what has several forms is JSON text.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Schemas that nest deeper are JSON text from there on: columns are handled by recursion.
const DEPTH_MAX: usize = 16;

/// Properties of all levels together that a shape shows; a schema with more is JSON text. Engines handle some hundreds
/// of columns well, not some hundred thousand.
pub const PROPERTIES_MAX: usize = 1000;

/// The digits of the two sizes of decimals. Snowplow has a third one, of 9 digits.
const DECIMAL_SMALL: u8 = 18;
const DECIMAL_LARGE: u8 = 38;

/// The form of a value. Written as JSON: the name of a type, `[item]`, or `{"property": …}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "Value", try_from = "Value")]
pub enum Shape {
    /// The JSON text of the value.
    Json,
    Text,
    Boolean,
    Bigint,
    Double,
    /// Digits, and how many of them stand after the point.
    Decimal(u8, u8),
    Date,
    /// An instant, in microseconds.
    Timestamp,
    List(Box<Shape>),
    /// By the names of the properties as the schema has them; at least one.
    Struct(BTreeMap<String, Shape>),
}

impl Shape {
    /// The shape of data that obeys the schema.
    pub fn of_schema(schema: &Value) -> Shape {
        let shape = of(schema, 0).unwrap_or(Shape::Json);
        if shape.properties() > PROPERTIES_MAX { Shape::Json } else { shape }
    }

    /// The smallest shape that shows what either shows. What the two have not in common is JSON text, alone.
    #[must_use]
    pub fn join(&self, other: &Shape) -> Shape {
        match (self, other) {
            (one, other) if one == other => one.clone(),
            (Shape::List(one), Shape::List(other)) => Shape::List(Box::new(one.join(other))),
            (Shape::Struct(one), Shape::Struct(other)) => {
                let mut all = one.clone();
                for (name, shape) in other {
                    match all.get_mut(name) {
                        Some(known) => *known = known.join(shape),
                        None => _ = all.insert(name.clone(), shape.clone()),
                    }
                }
                Shape::Struct(all)
            }
            (one, other) => join_numbers(one, other).unwrap_or(Shape::Json),
        }
    }

    fn properties(&self) -> usize {
        match self {
            Shape::List(item) => item.properties(),
            Shape::Struct(properties) => {
                properties.len() + properties.values().map(Shape::properties).sum::<usize>()
            }
            _ => 0,
        }
    }
}

/// The number that holds both; `None` when one is no number.
pub(super) fn join_numbers(one: &Shape, other: &Shape) -> Option<Shape> {
    let digits = |shape: &Shape| match shape {
        Shape::Bigint => Some(Some((19, 0))),
        Shape::Decimal(precision, scale) => Some(Some((precision - scale, *scale))),
        Shape::Double => Some(None),
        _ => None,
    };
    Some(match (digits(one)?, digits(other)?) {
        (Some((19, 0)), Some((19, 0))) => Shape::Bigint,
        (Some((whole, scale)), Some((other_whole, other_scale))) => {
            decimal(whole.max(other_whole), scale.max(other_scale))
        }
        _ => Shape::Double,
    })
}

/// A decimal with so many digits before and after the point; a double if there is none.
fn decimal(whole: u8, scale: u8) -> Shape {
    let digits = whole.saturating_add(scale);
    let sizes = [DECIMAL_SMALL, DECIMAL_LARGE].into_iter();
    let size = sizes.filter(|size| digits <= *size).min();
    size.map_or(Shape::Double, |size| Shape::Decimal(size, scale))
}

/// `None` when the schema does not say what form its data has.
fn of(schema: &Value, depth: usize) -> Option<Shape> {
    let schema = schema.as_object()?;
    if depth >= DEPTH_MAX || schema.contains_key("$ref") {
        return Some(Shape::Json);
    }
    let own = own(schema, depth);
    // Each alternative may say more; what they say together is what can come.
    let alternatives = ["oneOf", "anyOf", "allOf"].into_iter().filter_map(|name| schema.get(name));
    let said = alternatives.filter_map(Value::as_array).flatten().filter_map(|alternative| {
        let is_null = alternative.get("type").is_some_and(|name| name == "null");
        if is_null { None } else { of(alternative, depth + 1) }
    });
    let own = match own {
        // An object that is free in itself: its alternatives may name properties.
        Some(Shape::Json) if is_object(schema) => None,
        own => own,
    };
    let all = own.into_iter().chain(said).reduce(|one, other| one.join(&other));
    all.or_else(|| is_object(schema).then_some(Shape::Json))
}

/// Whether objects are the only values, null left aside.
fn is_object(schema: &Map<String, Value>) -> bool {
    types(schema) == ["object"]
}

/// The types that the schema allows besides null, sorted.
fn types(schema: &Map<String, Value>) -> Vec<&str> {
    let mut types: Vec<&str> = match schema.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    types.retain(|name| *name != "null");
    types.sort_unstable();
    types.dedup();
    types
}

/// What the schema says without its alternatives.
fn own(schema: &Map<String, Value>, depth: usize) -> Option<Shape> {
    let types = types(schema);
    Some(match types[..] {
        ["object"] => object(schema, depth),
        ["array"] => Shape::List(Box::new(items(schema, depth))),
        ["string"] => match schema.get("format").and_then(Value::as_str) {
            Some("date") => Shape::Date,
            Some("date-time") => Shape::Timestamp,
            _ => Shape::Text,
        },
        ["boolean"] => Shape::Boolean,
        ["integer"] => integer(schema),
        ["number"] | ["integer", "number"] => number(schema),
        // Properties without a type say nothing about values that are no objects.
        [] => return schema.get("enum").and_then(Value::as_array).map(|values| of_values(values)),
        _ => Shape::Json,
    })
}

fn object(schema: &Map<String, Value>, depth: usize) -> Shape {
    let properties = schema.get("properties").and_then(Value::as_object);
    let shapes: BTreeMap<String, Shape> = properties
        .into_iter()
        .flatten()
        .map(|(name, schema)| (name.clone(), of(schema, depth + 1).unwrap_or(Shape::Json)))
        .collect();
    if shapes.is_empty() { Shape::Json } else { Shape::Struct(shapes) }
}

fn items(schema: &Map<String, Value>, depth: usize) -> Shape {
    let schemas: Vec<&Value> = match schema.get("items") {
        // A place of its own for each: one form must do for all.
        Some(Value::Array(places)) => {
            let others = schema.get("additionalItems").filter(|others| others.is_object());
            places.iter().chain(others).collect()
        }
        Some(one) => vec![one],
        None => Vec::new(),
    };
    let shapes = schemas.into_iter().map(|schema| of(schema, depth + 1).unwrap_or(Shape::Json));
    shapes.reduce(|one, other| one.join(&other)).unwrap_or(Shape::Json)
}

fn integer(schema: &Map<String, Value>) -> Shape {
    let bound = |name| schema.get(name).and_then(Value::as_number).map(ToString::to_string);
    let (least, most) = (bound("minimum"), bound("maximum"));
    let fits = |bound: &Option<String>| {
        bound.as_ref().is_none_or(|bound| bound.parse::<f64>().is_ok_and(is_bigint))
    };
    if least.is_none() || most.is_none() || (fits(&least) && fits(&most)) {
        return Shape::Bigint;
    }
    let digits = |bound: Option<String>| {
        bound.and_then(|bound| bound.parse::<f64>().ok()).map_or(0.0, |bound| bound.abs().log10())
    };
    // A double tells the number of digits well enough, one more than that is safe.
    let whole = digits(least).max(digits(most)).floor() + 2.0;
    if whole <= f64::from(DECIMAL_LARGE) { Shape::Decimal(DECIMAL_LARGE, 0) } else { Shape::Double }
}

fn is_bigint(number: f64) -> bool {
    (-(2f64.powi(63))..2f64.powi(63)).contains(&number)
}

/// Snowplow: a number that steps by whole ones is an integer; one that steps by a fraction between two bounds is a
/// decimal.
fn number(schema: &Map<String, Value>) -> Shape {
    let Some(step) = schema.get("multipleOf").and_then(Value::as_number) else {
        return Shape::Double;
    };
    let step = step.to_string();
    let (whole, fraction) = step.split_once('.').unwrap_or((&step, ""));
    let fraction = fraction.trim_end_matches('0');
    let plain = whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
    if !plain {
        return Shape::Double;
    }
    if fraction.is_empty() {
        return integer(schema);
    }
    let bound = |name| schema.get(name).and_then(Value::as_f64);
    let (Some(least), Some(most), Ok(scale)) =
        (bound("minimum"), bound("maximum"), u8::try_from(fraction.len()))
    else {
        return Shape::Double;
    };
    let digits = least.abs().max(most.abs()).max(1.0).log10().floor() + 1.0;
    if digits > f64::from(DECIMAL_LARGE) { Shape::Double } else { decimal(digits as u8, scale) }
}

/// The shape of a choice of values without a type.
fn of_values(values: &[Value]) -> Shape {
    let shape = |value: &Value| match value {
        Value::Null => None,
        Value::String(_) => Some(Shape::Text),
        Value::Bool(_) => Some(Shape::Boolean),
        Value::Number(number) if number.as_i64().is_some() => Some(Shape::Bigint),
        Value::Number(_) => Some(Shape::Double),
        Value::Array(_) | Value::Object(_) => Some(Shape::Json),
    };
    let shapes = values.iter().filter_map(shape);
    shapes.reduce(|one, other| one.join(&other)).unwrap_or(Shape::Json)
}

impl From<Shape> for Value {
    fn from(shape: Shape) -> Value {
        match shape {
            Shape::Json => "json".into(),
            Shape::Text => "text".into(),
            Shape::Boolean => "boolean".into(),
            Shape::Bigint => "bigint".into(),
            Shape::Double => "double".into(),
            Shape::Decimal(precision, scale) => format!("decimal({precision},{scale})").into(),
            Shape::Date => "date".into(),
            Shape::Timestamp => "timestamp".into(),
            Shape::List(item) => Value::Array(vec![Value::from(*item)]),
            Shape::Struct(properties) => Value::Object(
                properties.into_iter().map(|(name, shape)| (name, shape.into())).collect(),
            ),
        }
    }
}

/// A JSON that is no shape.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no shape of a column")]
pub struct NoShape(String);

impl TryFrom<Value> for Shape {
    type Error = NoShape;

    fn try_from(value: Value) -> Result<Shape, NoShape> {
        match value {
            Value::String(name) => named(&name).ok_or(NoShape(name)),
            Value::Array(mut items) if items.len() == 1 => {
                Ok(Shape::List(Box::new(items.remove(0).try_into()?)))
            }
            Value::Object(properties) if !properties.is_empty() => {
                let properties = properties.into_iter();
                let shapes = properties.map(|(name, shape)| Ok((name, shape.try_into()?)));
                Ok(Shape::Struct(shapes.collect::<Result<_, NoShape>>()?))
            }
            other => Err(NoShape(other.to_string())),
        }
    }
}

fn named(name: &str) -> Option<Shape> {
    Some(match name {
        "json" => Shape::Json,
        "text" => Shape::Text,
        "boolean" => Shape::Boolean,
        "bigint" => Shape::Bigint,
        "double" => Shape::Double,
        "date" => Shape::Date,
        "timestamp" => Shape::Timestamp,
        _ => {
            let digits = name.strip_prefix("decimal(")?.strip_suffix(')')?;
            let (precision, scale) = digits.split_once(',')?;
            let (precision, scale) = (precision.parse().ok()?, scale.parse().ok()?);
            let is_known =
                [DECIMAL_SMALL, DECIMAL_LARGE].contains(&precision) && scale <= precision;
            return is_known.then_some(Shape::Decimal(precision, scale));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(schema: Value, expected: Value) {
        let shape = Shape::of_schema(&schema);
        assert_eq!(Value::from(shape.clone()), expected, "{schema}");
        let text = serde_json::to_string(&shape).unwrap();
        assert_eq!(serde_json::from_str::<Shape>(&text).unwrap(), shape);
    }

    #[test]
    fn each_type_of_a_schema_has_its_shape() {
        for (schema, expected) in [
            (json!({"type": "string"}), "text"),
            (json!({"type": ["string", "null"]}), "text"),
            (json!({"type": "string", "format": "uuid"}), "text"),
            (json!({"type": "string", "format": "date"}), "date"),
            (json!({"type": ["null", "string"], "format": "date-time"}), "timestamp"),
            (json!({"type": "boolean"}), "boolean"),
            (json!({"type": "integer"}), "bigint"),
            (json!({"type": "integer", "minimum": 0, "maximum": 10}), "bigint"),
            (json!({"type": "integer", "minimum": 0}), "bigint"),
            (json!({"type": "integer", "minimum": 0, "maximum": 1e20}), "decimal(38,0)"),
            (json!({"type": "integer", "minimum": 0, "maximum": 1e40}), "double"),
            (json!({"type": "number"}), "double"),
            (json!({"type": ["integer", "number", "null"]}), "double"),
            (json!({"type": "number", "multipleOf": 1}), "bigint"),
            (json!({"type": "number", "multipleOf": 0.01}), "double"),
            (
                json!({"type": "number", "multipleOf": 0.01, "minimum": 0, "maximum": 100}),
                "decimal(18,2)",
            ),
            (
                json!({"type": "number", "multipleOf": 0.001, "minimum": 0, "maximum": 1e18}),
                "decimal(38,3)",
            ),
            (json!({"enum": ["a", "b", null]}), "text"),
            (json!({"enum": [1, 2]}), "bigint"),
            (json!({"enum": [1, 2.5]}), "double"),
            (json!({"enum": [1, "a"]}), "json"),
            (json!({"type": ["string", "integer"]}), "json"),
            (json!({"type": "object"}), "json"),
            (json!({"type": "object", "properties": {}}), "json"),
            (json!({"oneOf": [{"type": "string"}, {"type": "null"}]}), "text"),
            (json!({"oneOf": [{"type": "string"}, {"type": "integer"}]}), "json"),
            (json!({"anyOf": [{"type": "integer"}, {"type": "number"}]}), "double"),
            (json!({"$ref": "#/definitions/a"}), "json"),
            (json!({}), "json"),
            (json!(true), "json"),
        ] {
            check(schema, expected.into());
        }
    }

    #[test]
    fn objects_and_arrays_keep_their_form() {
        check(
            json!({
                "type": "object",
                "properties": {
                    "totalPrice": {"type": "number"},
                    "items": {"type": "array", "items": {
                        "type": "object", "properties": {"sku": {"type": "string"}},
                    }},
                    "extra": {},
                },
                "required": ["totalPrice"],
                "oneOf": [{"required": ["items"]}, {"required": ["extra"]}],
            }),
            json!({"extra": "json", "items": [{"sku": "text"}], "totalPrice": "double"}),
        );
        check(json!({"type": "array"}), json!(["json"]));
        check(
            json!({"type": "array", "items": [{"type": "string"}, {"type": "string"}]}),
            json!(["text"]),
        );
        check(
            json!({"type": "array", "items": [{"type": "string"}], "additionalItems": {"type": "integer"}}),
            json!(["json"]),
        );
        check(
            json!({"type": "object", "oneOf": [
                {"properties": {"a": {"type": "string"}}, "type": "object"},
                {"properties": {"b": {"type": "integer"}}, "type": "object"},
            ]}),
            json!({"a": "text", "b": "bigint"}),
        );
    }

    #[test]
    fn a_schema_without_an_end_is_json_text() {
        let mut deep = json!({"type": "string"});
        for _ in 0..40 {
            deep = json!({"type": "object", "properties": {"a": deep}});
        }
        let text = Value::from(Shape::of_schema(&deep)).to_string();
        assert_eq!(text.matches("\"a\"").count(), DEPTH_MAX);
        let properties: Map<String, Value> =
            (0..=PROPERTIES_MAX).map(|at| (format!("p{at}"), json!({"type": "string"}))).collect();
        check(json!({"type": "object", "properties": properties}), "json".into());
    }

    #[test]
    fn what_two_versions_have_not_in_common_is_json_text_alone() {
        let join = |one: Value, other: Value| {
            let [one, other]: [Shape; 2] = [one, other].map(|it| it.try_into().unwrap());
            assert_eq!(one.join(&other), other.join(&one));
            Value::from(one.join(&other))
        };
        assert_eq!(
            join(
                json!({"a": "bigint", "b": "text"}),
                json!({"b": ["text"], "c": "date", "a": "double"})
            ),
            json!({"a": "double", "b": "json", "c": "date"})
        );
        assert_eq!(join(json!(["bigint"]), json!(["decimal(18,2)"])), json!(["decimal(38,2)"]));
        assert_eq!(join(json!("decimal(38,30)"), json!("bigint")), json!("double"));
        assert_eq!(join(json!("decimal(18,2)"), json!("decimal(18,4)")), json!("decimal(38,4)"));
        assert_eq!(join(json!("date"), json!("timestamp")), json!("json"));
        assert_eq!(join(json!("json"), json!({"a": "text"})), json!("json"));
    }

    #[test]
    fn another_json_is_no_shape() {
        for text in
            ["1", "[]", "{}", "\"float\"", "[\"text\",\"text\"]", "\"decimal(10,2)\"", "null"]
        {
            assert!(serde_json::from_str::<Shape>(text).is_err(), "{text}");
        }
    }
}
