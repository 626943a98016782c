//! Wide columns read from small JSON texts: the types they take, what does not fit, and pieces that hold no column.

use super::super::inventory::{Mentions, Union};
use super::*;
use arrow::array::{StringArray, StringViewArray};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use model::position::Offset;
use proptest::prelude::*;
use serde_json::{Value, json};

const CO: &str = "iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-1";
const UE: &str = "iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0";

fn entity(schema: &str, data: Value) -> Value {
    json!({"schema": schema, "data": data})
}

/// Columns for the schemas that the texts name, by what they say.
fn columns(texts: &[(Place, &Value)], shapes: &[(&str, Value)]) -> Columns {
    let mut mentions = Mentions::default();
    for (place, value) in texts {
        mentions.note_text(Offset::BEGINNING, *place, &value.to_string());
    }
    let schemas = mentions.schemas(|schema| {
        let shape = shapes.iter().find(|(uri, _)| *uri == schema.as_str());
        shape.map_or(Ok::<_, ()>(Shape::Json), |(_, shape)| Ok(shape.clone().try_into().unwrap()))
    });
    let (schemas, mut all) = (schemas.unwrap(), Union::new());
    schemas.add_to(&mut all, Offset::BEGINNING);
    Columns::of(&all)
}

fn shown(array: &ArrayRef) -> Vec<String> {
    let options = FormatOptions::new().with_null("null");
    let formatter = ArrayFormatter::try_new(array, &options).unwrap();
    (0..array.len()).map(|row| formatter.value(row).to_string()).collect()
}

#[test]
fn a_self_describing_event_is_a_struct_of_its_properties() {
    let cart = |version: &str, data| {
        entity(UE, entity(&format!("iglu:com.acme/cart/jsonschema/{version}"), data))
    };
    let texts = [
        cart("1-0-0", json!({"totalPrice": 12.0, "items": [{"sku": "a\nb", "n": 5}, {}]})),
        cart(
            "1-0-1",
            json!({"totalPrice": 0.25, "at": "2026-11-22T10:00:00.5+01:00", "x": {"y": [1]}}),
        ),
        cart("1-0-0", json!({"items": null, "day": "2026-11-22", "unknown": 1})),
    ];
    let columns = columns(
        &texts.each_ref().map(|text| (Place::UnstructEvent, text)),
        &[
            (
                "iglu:com.acme/cart/jsonschema/1-0-0",
                json!({"totalPrice": "bigint", "items": [{"sku": "text", "n": "bigint"}], "day": "date"}),
            ),
            (
                "iglu:com.acme/cart/jsonschema/1-0-1",
                json!({"totalPrice": "double", "at": "timestamp", "x": "json"}),
            ),
        ],
    );
    let mut rows: Vec<Option<String>> = texts.iter().map(|text| Some(text.to_string())).collect();
    rows.push(None);
    for array in [
        Arc::new(StringArray::from(rows.clone())) as ArrayRef,
        Arc::new(StringViewArray::from_iter(rows)),
    ] {
        let sources = Sources { unstruct_event: Some(&array), ..Sources::default() };
        let values = read(&columns, &[0], sources, 0..4, |_| true).unwrap().unwrap();
        assert_eq!(
            shown(&values[0]),
            [
                "{day: null, items: [{n: 5, sku: a\nb}, {n: null, sku: null}], total_price: 12.0, at: null, x: null}",
                "{day: null, items: null, total_price: 0.25, at: 2026-11-22T09:00:00.500, x: {\"y\":[1]}}",
                "{day: 2026-11-22, items: null, total_price: null, at: null, x: null}",
                "null",
            ]
        );
        assert_eq!(*values[0].data_type(), columns.get(0).unwrap().data_type());
    }
}

#[test]
fn entities_are_a_list_with_own_contexts_first() {
    let user = "iglu:com.acme/user/jsonschema/1-0-0";
    let newer = "iglu:com.acme/user/jsonschema/1-0-2";
    let free = "iglu:com.acme/free/jsonschema/1-0-0";
    let own = entity(CO, json!([entity(user, json!({"id": "a"})), entity(free, json!({"b": 1}))]));
    let derived = entity(CO, json!([entity(newer, json!({"id": "b"})), entity(free, json!(3))]));
    let columns = columns(
        &[(Place::Contexts, &own), (Place::DerivedContexts, &derived)],
        &[(user, json!({"id": "text"})), (newer, json!({"id": "text"}))],
    );
    let names: Vec<&str> = columns.iter().map(Column::name).collect();
    assert_eq!(names, ["contexts_com_acme_free_1", "contexts_com_acme_user_1"]);
    let own: ArrayRef = Arc::new(StringArray::from(vec![Some(own.to_string()), None]));
    let derived: ArrayRef = Arc::new(StringArray::from(vec![Some(derived.to_string()), None]));
    let sources =
        Sources { contexts: Some(&own), derived_contexts: Some(&derived), unstruct_event: None };
    let values = read(&columns, &[1, 0], sources, 0..2, |_| true).unwrap().unwrap();
    assert_eq!(
        shown(&values[0]),
        ["[{_schema_version: 1-0-0, id: a}, {_schema_version: 1-0-2, id: b}]", "null"]
    );
    assert_eq!(
        shown(&values[1]),
        [r#"[{"b":1,"_schema_version":"1-0-0"},{"_schema_version":"1-0-0"}]"#, "null"]
    );
}

#[test]
fn a_value_that_its_type_cannot_hold_is_null() {
    let schema = "iglu:com.acme/a/jsonschema/1-0-0";
    let value = |json: Value, of: &str| {
        let text = entity(UE, entity(schema, json!({"a": json})));
        let columns = columns(&[(Place::UnstructEvent, &text)], &[(schema, json!({"a": of}))]);
        let array: ArrayRef = Arc::new(StringArray::from(vec![text.to_string()]));
        let sources = Sources { unstruct_event: Some(&array), ..Sources::default() };
        let values = read(&columns, &[0], sources, 0..1, |_| true).unwrap().unwrap();
        shown(&values[0])[0].trim_start_matches("{a: ").trim_end_matches('}').to_owned()
    };
    for (json, of, expected) in [
        (json!(5.0), "bigint", "5"),
        (json!(9_223_372_036_854_775_807_i64), "bigint", "9223372036854775807"),
        (json!(9_223_372_036_854_775_808_u64), "bigint", "null"),
        (json!(5.5), "bigint", "null"),
        (json!("5"), "bigint", "null"),
        (serde_json::from_str("1e3").unwrap(), "bigint", "1000"),
        (serde_json::from_str("1e400").unwrap(), "double", "null"),
        (json!(7), "double", "7.0"),
        (json!(12.5), "decimal(18,2)", "12.50"),
        (json!(-0.25), "decimal(18,2)", "-0.25"),
        (json!(9.999), "decimal(18,2)", "null"),
        (serde_json::from_str("1e16").unwrap(), "decimal(18,2)", "null"),
        (serde_json::from_str("1e15").unwrap(), "decimal(18,2)", "1000000000000000.00"),
        (serde_json::from_str("0.000").unwrap(), "decimal(18,2)", "0.00"),
        (serde_json::from_str("1.5000e1").unwrap(), "decimal(18,2)", "15.00"),
        (json!(true), "boolean", "true"),
        (json!("true"), "boolean", "null"),
        (json!(1), "text", "null"),
        (json!("\u{e9}\""), "text", "\u{e9}\""),
        (json!("2016-12-31T23:59:60Z"), "timestamp", "2017-01-01T00:00:00"),
        (json!("2026-11-22 10:00:00.1234567-00:30"), "timestamp", "2026-11-22T10:30:00.123456"),
        (json!("2026-11-22T10:00:00"), "timestamp", "null"),
        (json!("2026-11-22"), "timestamp", "null"),
        (json!("2026-02-30"), "date", "null"),
        (json!("1969-12-31"), "date", "1969-12-31"),
        (json!("+12345-01-01"), "date", "null"),
        (json!([1, "a"]), "json", r#"[1,"a"]"#),
        (json!("a"), "json", "\"a\""),
        (json!(null), "json", "null"),
    ] {
        assert_eq!(value(json.clone(), of), expected, "{json} as {of}");
    }
}

#[test]
fn the_first_property_that_fits_is_shown() {
    let schema = "iglu:com.acme/a/jsonschema/1-0-0";
    let text = entity(UE, entity(schema, json!({"item_id": 2, "itemId": "x"})));
    let columns = columns(
        &[(Place::UnstructEvent, &text)],
        &[(schema, json!({"itemId": "bigint", "item_id": "bigint"}))],
    );
    let array: ArrayRef = Arc::new(StringArray::from(vec![text.to_string()]));
    let sources = Sources { unstruct_event: Some(&array), ..Sources::default() };
    let values = read(&columns, &[0], sources, 0..1, |_| true).unwrap().unwrap();
    assert_eq!(shown(&values[0]), ["{item_id: 2}"]);
}

proptest! {
    /// Whatever a file holds: rows stay rows, and arrays have the types that the columns say.
    #[test]
    fn no_text_makes_it_panic(
        texts in proptest::collection::vec(
            proptest::option::of("(\\{\"schema\":\"a/1-0\",\"data\":)?[\\[\\]{}:,\" \\\\ati0-9./-]{0,30}"), 0..6,
        ),
    ) {
        let schema = "iglu:com.acme/a/jsonschema/1-0-0";
        let known = entity(UE, entity(schema, json!({})));
        let list = entity(CO, json!([entity(schema, json!({}))]));
        let of = json!({"a": "bigint", "t": ["timestamp"], "i": {"a": "decimal(18,2)"}});
        let columns = columns(
            &[(Place::UnstructEvent, &known), (Place::Contexts, &list)],
            &[(schema, of)],
        );
        let inside = |text: &Option<String>| {
            text.as_ref().map(|text| known.to_string().replace("{}", text))
        };
        let first: ArrayRef = Arc::new(StringArray::from_iter(texts.iter().map(inside)));
        let second: ArrayRef = Arc::new(StringArray::from_iter(texts.iter()));
        let sources = Sources {
            unstruct_event: Some(&first), contexts: Some(&second), derived_contexts: Some(&first),
        };
        let values = read(&columns, &[0, 1], sources, 0..texts.len(), |_| true).unwrap().unwrap();
        let fields = columns.iter().map(Column::field).collect::<Vec<_>>();
        let schema = Arc::new(arrow::datatypes::Schema::new(fields));
        if !texts.is_empty() {
            prop_assert_eq!(RecordBatch::try_new(schema, values).unwrap().num_rows(), texts.len());
        }
    }
}

#[test]
fn rows_without_wide_columns_are_taken_in_pieces_that_their_nulls_fit_in() {
    let fields: serde_json::Map<String, Value> =
        (0..100).map(|at| (format!("f{at}"), json!("text"))).collect();
    let event = entity(UE, entity("iglu:com.acme/wide/jsonschema/1-0-0", json!({"f1": "x"})));
    let columns = columns(
        &[(Place::UnstructEvent, &event)],
        &[("iglu:com.acme/wide/jsonschema/1-0-0", json!(fields))],
    );
    let texts: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>; 8192]));
    let sources = Sources { unstruct_event: Some(&texts), ..Sources::default() };
    let pieces = pieces(&columns, &[0], sources, 8192, 1 << 20).unwrap();
    assert!(pieces.len() > 1, "a hundred fields are one piece");
    assert_eq!(pieces.iter().map(|piece| piece.len()).sum::<usize>(), 8192);
    for piece in pieces {
        let mut held = 0;
        let values = read(&columns, &[0], sources, piece.clone(), |bytes| {
            held += bytes;
            true
        });
        let values = values.unwrap().unwrap();
        assert_eq!(values[0].len(), piece.len());
        assert!(held <= PIECE_NULLS_MAX * VALUE_BYTES, "{held}");
        assert!(values[0].get_array_memory_size() <= 2 * held + (64 << 10), "{held}");
    }
    let none = read(&columns, &[0], sources, 0..1, |_| false);
    assert!(none.unwrap().is_none());
}
