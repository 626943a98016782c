//! The quick check against the full one: over the embedded schemas with data that nearly obeys them, and over small
//! schemas of every keyword with all kinds of data.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use super::super::{EMBEDDED, Validator};
use crate::tape::{Kind, Tape};

/// What passes here passes the full check. Says whether it passed here.
fn check(validator: &Validator, data: &Value) -> bool {
    let text = data.to_string();
    let Some(tape) = Tape::read(&text, 50).filter(Tape::is_canonical) else { return false };
    let is_allowed = validator.surely_allows(tape.root());
    if is_allowed {
        assert_eq!(validator.validate(data), [], "{text}");
    }
    is_allowed
}

/// Values that some schema asks for, and others.
fn values() -> impl Strategy<Value = Value> {
    let texts = [
        "",
        "a",
        "é\"\n",
        "3f2b8f5e-0f2d-4c7a-9a35-0123456789ab",
        "3F2B8F5E-0f2d-4c7a-9a35-0123456789ab",
        "3f2b8f5e-0f2d-4c7a-9a35-0123456789a",
        "0123456789abcdef",
        "2026-11-22T10:00:00.000Z",
        "https://shop.example/a?b=c",
        "iglu:com.acme/a/jsonschema/1-0-0",
        "iglu:com.acme/a/jsonschema/1-0",
        "iglu:com.acme/a/jsonschema/01-0-0",
        "COOKIE_1",
        "mobile",
        "192.0.2.1",
    ];
    let numbers =
        ["0", "1", "-1", "2.50", "-0.0", "99999999999999999999", "2147483647", "2147483648"];
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        select(texts.to_vec()).prop_map(Value::from),
        (0usize..300).prop_map(|length| "x".repeat(length).into()),
        select(numbers.to_vec()).prop_map(|text| serde_json::from_str(text).unwrap()),
        Just(json!([])),
        Just(json!(["a", "b"])),
        Just(json!([1, "b"])),
        Just(json!({})),
        Just(json!({"schema": "iglu:com.acme/a/jsonschema/1-0-0", "data": 1})),
    ]
}

/// The first value of these that a schema allows by itself.
fn obeying(schema: &Value) -> Option<Value> {
    let validator = Validator::compile(schema).unwrap();
    let candidates = [
        json!("a"),
        json!("3f2b8f5e-0f2d-4c7a-9a35-0123456789ab"),
        json!("2026-11-22T10:00:00.000Z"),
        json!("https://shop.example/a?b=c"),
        json!(1),
        json!(true),
        json!(["a"]),
        json!([]),
        json!({}),
        json!([{"schema": "iglu:com.acme/a/jsonschema/1-0-0", "data": 1}]),
        json!("iglu:com.acme/a/jsonschema/1-0-0"),
        schema["enum"][0].clone(),
    ];
    candidates.into_iter().find(|value| validator.validate(value).is_empty())
}

#[test]
fn data_of_nearly_every_embedded_schema_passes_quickly() {
    let mut slow = Vec::new();
    for entry in &EMBEDDED.entries {
        let validator = entry.validator().as_ref().unwrap();
        let data = match entry.schema["properties"].as_object() {
            Some(properties) => {
                let all = properties
                    .iter()
                    .filter_map(|(name, schema)| Some((name.clone(), obeying(schema)?)));
                Value::Object(all.collect())
            }
            None => obeying(&entry.schema).unwrap_or_default(),
        };
        if validator.validate(&data).is_empty() && !check(validator, &data) {
            slow.push(entry.key.to_string());
        }
    }
    assert_eq!(slow, [""; 0]);
}

proptest! {
    #[test]
    fn what_passes_quickly_obeys_an_embedded_schema(
        at in 0..EMBEDDED.entries.len(), picks in proptest::collection::vec((any::<usize>(), values()), 0..4),
    ) {
        let entry = &EMBEDDED.entries[at];
        let validator = entry.validator().as_ref().unwrap();
        let Some(properties) = entry.schema["properties"].as_object() else {
            for (_, value) in picks {
                check(validator, &value);
                check(validator, &json!([value]));
            }
            return Ok(());
        };
        let mut data: Map<String, Value> = properties
            .iter()
            .filter_map(|(name, schema)| Some((name.clone(), obeying(schema)?)))
            .collect();
        for (pick, value) in picks {
            match pick % (properties.len() + 1) {
                0 if pick % 2 == 0 => data.insert("unknown".to_owned(), value),
                0 => {
                    let last = data.keys().next_back().cloned();
                    last.and_then(|name| data.shift_remove(&name))
                }
                place => data.insert(properties.keys().nth(place - 1).unwrap().clone(), value),
            };
        }
        check(validator, &data.into());
    }

    #[test]
    fn what_passes_quickly_obeys_a_schema_of_any_keywords(
        picks in proptest::collection::vec(any::<usize>(), 1..5), data in values(),
    ) {
        let keywords = [
            json!({"type": "string"}),
            json!({"type": ["integer", "null"]}),
            json!({"type": "number"}),
            json!({"minLength": 1}),
            json!({"minLength": 3, "maxLength": 30}),
            json!({"format": "uuid"}),
            json!({"format": "of-nobody"}),
            json!({"format": "ipv4"}),
            json!({"pattern": "^a"}),
            json!({"enum": ["a", null]}),
            json!({"enum": ["a", 1]}),
            json!({"minimum": 1}),
            json!({"maximum": 1, "exclusiveMaximum": true}),
            json!({"minimum": -1.5}),
            json!({"minimum": 0, "maximum": 9_223_372_036_854_775_807_i64}),
            json!({"items": {"type": "string"}}),
            json!({"items": [{"type": "integer"}], "additionalItems": false}),
            json!({"minItems": 1, "maxItems": 2, "uniqueItems": true}),
            json!({"properties": {"data": {"type": "integer"}}, "required": ["data", "schema"]}),
            json!({"required": ["other"]}),
            json!({"additionalProperties": false}),
            json!({"properties": {"schema": {}}, "additionalProperties": {"type": "null"}}),
            json!({"patternProperties": {"^s": {}}, "additionalProperties": false}),
            json!({"maxProperties": 1}),
            json!({"oneOf": [{"type": "string"}, {"type": "object"}]}),
            json!({"not": {"type": "null"}}),
            json!({"nullable": true, "type": "string"}),
            json!({"definitions": {"a": {"type": "null"}}, "allOf": [{"$ref": "#/definitions/a"}]}),
            json!({"dependencies": {"schema": ["data"]}}),
        ];
        let mut schema = Map::new();
        for pick in picks {
            schema.extend(keywords[pick % keywords.len()].as_object().unwrap().clone());
        }
        if let Ok(validator) = Validator::compile(&schema.into()) {
            check(&validator, &data);
            let tape = data.to_string();
            let tape = Tape::read(&tape, 50);
            if let Some(Kind::Text) = tape.map(|tape| tape.root().kind()) {
                check(&validator, &json!([data]));
            }
        }
    }
}
