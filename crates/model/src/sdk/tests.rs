//! Data-driven tests of the SDK: one JSON object per line.
//!
//! Our own cases (`testdata/sdk/cases.jsonl`) always run: `cells` by column, or a whole line as `tsv`; then the `error`,
//! or what is expected of the flat form (`flat_non_null`, exact; `key_count`, all keys) and of the wrapped one (`json`).
//! `lengths_max` cuts texts. The acceptance cases, and events with their JSON from the SDK's own tests, run where the
//! specification's folder lies beside the checkout or is named by `SHARED_FIXTURES`.

use std::path::{Path, PathBuf};

use super::*;
use proptest::prelude::*;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn shared() -> PathBuf {
    std::env::var_os("SHARED_FIXTURES")
        .map_or_else(|| repository().join("../shared"), PathBuf::from)
}

fn line(case: &Value) -> String {
    if let Some(tsv) = case["tsv"].as_str() {
        return tsv.to_owned();
    }
    let required = |name: &str| match name {
        "collector_tstamp" => "2026-01-01 00:00:00.000",
        "event_id" => "11111111-1111-4111-8111-111111111111",
        "v_collector" => "c",
        "v_etl" => "e",
        _ => "",
    };
    let cell = |column: &crate::event::Column| match &case["cells"][column.name] {
        Value::Null => required(column.name).to_owned(),
        Value::String(text) => text.clone(),
        json => json.to_string(),
    };
    COLUMNS.iter().map(cell).collect::<Vec<String>>().join("\t")
}

/// Numbers by their value: `1e-7` is `1e-07`.
fn same(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::Number(found), Value::Number(expected)) => {
            found == expected || found.as_f64() == expected.as_f64()
        }
        (Value::Array(found), Value::Array(expected)) => {
            found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| same(a, b))
        }
        (Value::Object(found), Value::Object(expected)) => {
            found.len() == expected.len()
                && expected.iter().all(|(key, value)| has(found, key, value))
        }
        (found, expected) => found == expected,
    }
}

fn has(fields: &Map<String, Value>, key: &str, value: &Value) -> bool {
    fields.get(key).is_some_and(|found| same(found, value))
}

fn difference(case: &Value) -> Option<String> {
    let lengths: BTreeMap<&str, usize> = case["lengths_max"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, length)| (name.as_str(), length.as_u64().unwrap() as usize))
        .collect();
    let event = match (Event::parse_truncating(&line(case), &lengths), &case["error"]) {
        (Err(error), expected) if error.to_json() == *expected => return None,
        (Err(error), _) => return Some(error.to_json().to_string()),
        (Ok(_), Value::Object(_)) => return Some("the line was read".to_owned()),
        (Ok(event), _) => event,
    };
    let flat = event.to_flat_json();
    let expected = case["flat_non_null"].as_object().cloned().unwrap_or_default();
    let found: Map<String, Value> = flat
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    // The keys that are given, and those of the required columns.
    let missing = expected.iter().find(|(key, value)| !has(&found, key, value));
    if let Some((key, value)) = missing {
        return Some(format!("{key} is {:?}, expected {value}", found.get(key)));
    }
    let required = ["collector_tstamp", "event_id", "v_collector", "v_etl"];
    if let Some(key) =
        found.keys().find(|key| !expected.contains_key(*key) && !required.contains(&key.as_str()))
    {
        return Some(format!("{key} is there, and not expected"));
    }
    if let Some(count) = case["key_count"].as_u64().filter(|count| *count != flat.len() as u64) {
        return Some(format!("{} keys, expected {count}", flat.len()));
    }
    let wrapped = event.to_json();
    let mut parts = case["json"].as_object().into_iter().flatten();
    parts.find(|(key, value)| !has(&wrapped, key, value)).map(|(key, value)| {
        format!("{key} is {:?} in the wrapped form, expected {value}", wrapped.get(key))
    })
}

/// Runs a file of cases; gives their number.
fn check(file: &Path) -> usize {
    let text = std::fs::read_to_string(file).unwrap();
    let cases: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            difference(case).map(|difference| format!("{}: {difference}", case["id"]))
        })
        .collect();
    println!("{}: {} of {} pass", file.display(), cases.len() - wrong.len(), cases.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    cases.len()
}

#[test]
fn our_own_cases_of_the_sdk_hold() {
    assert!(check(&repository().join("testdata/sdk/cases.jsonl")) >= 20);
}

#[test]
fn the_acceptance_cases_of_the_sdk_hold() {
    let file = shared().join("fixtures/enrich-core/sdk-cases.jsonl");
    if file.exists() {
        check(&file);
    } else {
        println!("{} is not here: our own cases alone were run", file.display());
    }
}

#[test]
fn the_events_of_the_published_sdk_have_its_json() {
    let folder = shared().join("fixtures/upstream/enrich/analytics-sdk");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("{} is not here: our own cases alone were run", folder.display());
        return;
    };
    let mut count = 0;
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.extension().is_none_or(|extension| extension != "tsv") {
            continue;
        }
        let line = std::fs::read_to_string(&path).unwrap();
        let json = std::fs::read_to_string(path.with_extension("json")).unwrap();
        let expected: Map<String, Value> = serde_json::from_str(&json).unwrap();
        let found = Event::parse(line.trim_end_matches(['\r', '\n'])).unwrap().to_flat_json();
        for (key, value) in &expected {
            assert!(has(&found, key, value), "{key} of {}: {:?}", path.display(), found.get(key));
        }
        assert_eq!(found.len(), expected.len(), "{}", path.display());
        count += 1;
    }
    assert!(count > 0);
}

fn schema(uri: &str) -> SchemaKey {
    SchemaKey::parse(uri).unwrap()
}

#[test]
fn keys_are_named_as_warehouses_name_them() {
    for (uri, name) in [
        ("iglu:org.w3/PerformanceTiming/jsonschema/1-0-0", "contexts_org_w3_performance_timing_1"),
        ("iglu:org.schema/WebPage/jsonschema/1-0-0", "contexts_org_schema_web_page_1"),
        ("iglu:com.acme/HTTPRequest/jsonschema/2-1-0", "contexts_com_acme_httprequest_2"),
        ("iglu:com.Acme/cartV2Item/jsonschema/1-0-0", "contexts_com_acme_cart_v2_item_1"),
        ("iglu:com.acme/cart_-Item/jsonschema/1-0-0", "contexts_com_acme_cart__item_1"),
        ("iglu:com.acme-shop/Cart/jsonschema/1-0-0", "contexts_com_acme_shop_cart_1"),
    ] {
        assert_eq!(key(Place::Contexts, &schema(uri)), name);
        assert_eq!(key(Place::DerivedContexts, &schema(uri)), name);
    }
    let of_events = key(
        Place::UnstructEvent,
        &schema("iglu:com.snowplowanalytics.self-desc/schema/jsonschema/1-0-0"),
    );
    assert_eq!(of_events, "unstruct_event_com_snowplowanalytics_self_desc_schema_1");
}

#[test]
fn the_inventory_names_each_schema_and_its_place_once() {
    let entity = |uri: &str| json!({"schema": uri, "data": {}});
    let one = "iglu:com.acme/one/jsonschema/1-0-0";
    let two = "iglu:com.acme/two/jsonschema/1-0-0";
    let case = json!({"cells": {
        "unstruct_event": {"schema": UNSTRUCT_EVENT, "data": entity(one)},
        "contexts": {"schema": CONTEXTS, "data": [entity(two), entity(one), entity(two)]},
        "derived_contexts": {"schema": CONTEXTS, "data": [entity(one)]},
    }});
    let inventory: Vec<(Place, SchemaKey)> =
        Event::parse(&line(&case)).unwrap().inventory().into_iter().collect();
    let expected = [
        (Place::UnstructEvent, schema(one)),
        (Place::Contexts, schema(one)),
        (Place::Contexts, schema(two)),
        (Place::DerivedContexts, schema(one)),
    ];
    assert_eq!(inventory, expected);
}

#[test]
fn texts_longer_than_the_table_are_listed() {
    let long = "ä".repeat(4097);
    let case = json!({"cells": {"page_url": long, "page_title": long, "tr_currency": "EUR"}});
    let found = over_long(&Event::parse(&line(&case)).unwrap());
    let title = TooLong { column: "page_title", length: 4097, length_max: 2000 };
    assert_eq!(found, [TooLong { column: "page_url", length: 4097, length_max: 4096 }, title]);
}

proptest! {
    #[test]
    fn no_line_makes_the_reader_panic(cells in proptest::collection::vec(".{0,12}", 131)) {
        _ = Event::parse(&cells.join("\t")).map(|event| (event.to_json(), event.to_flat_json()));
    }
}
