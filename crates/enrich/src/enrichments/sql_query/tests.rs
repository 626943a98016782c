//! Queries of events and entities of rows, without a database.

use serde_json::json;

use super::super::trial::{self, Trial, contexts, entities};
use super::super::{Assets, Config};
use super::*;
use crate::look_up::Answer;

fn config(change: impl FnOnce(&mut Value)) -> Config {
    let mut parameters = json!({
        "inputs": [{"placeholder": 1, "pojo": {"field": "user_id"}}],
        "database": {"postgresql": {
            "host": "db.example", "port": 5432, "sslMode": true, "username": "reader", "password": "s3cret",
            "database": "crm",
        }},
        "query": {"sql": "SELECT name FROM users WHERE id = ?"},
        "output": {
            "expectedRows": "AT_MOST_ONE",
            "json": {"schema": "iglu:com.acme/u/jsonschema/1-0-0", "describes": "ALL_ROWS", "propertyNames": "CAMEL_CASE"},
        },
        "cache": {"size": 100, "ttl": 60},
    });
    change(&mut parameters);
    let schema = ".enrichments/sql_query_enrichment_config/jsonschema/1-0-1";
    trial::config("sql.json", schema, &parameters)
}

fn trial(change: impl FnOnce(&mut Value)) -> Trial {
    Trial::of(vec![config(change)])
}

/// The query of an event, if it makes one.
fn asked(trial: &Trial, parameters: &[(&str, &str)]) -> Option<SqlRequest> {
    let missing = trial.try_outcomes(parameters).err()?;
    assert!(missing.schemas.is_empty() && missing.look_ups.len() == 1, "{missing:?}");
    match &missing.look_ups[0].request {
        Request::Sql(request) => Some(request.clone()),
        other => panic!("{other:?}"),
    }
}

fn values(trial: &Trial, parameters: &[(&str, &str)]) -> Option<Vec<(SqlKind, String)>> {
    let request = asked(trial, parameters)?;
    Some(request.values.into_iter().map(|it| (it.kind, it.text)).collect())
}

#[test]
fn a_query_goes_to_the_database_of_the_configuration() {
    let request = asked(&trial(|_| {}), &[("uid", "7' OR 1=1")]).unwrap();
    assert_eq!(&*request.statement, "SELECT name FROM users WHERE id = $1");
    assert_eq!((request.timeout_ms, request.database.tls), (1000, Tls::Verified));
    assert_eq!(request.values, [SqlValue { kind: SqlKind::Text, text: "7' OR 1=1".to_owned() }]);
    assert_eq!(asked(&trial(|_| {}), &[]), None, "no value, no query");
    let other = trial(|it| {
        it["query"]["timeout"] = json!(250);
        it["database"]["postgresql"]["sslInsecure"] = json!(true);
    });
    let request = asked(&other, &[("uid", "7")]).unwrap();
    assert_eq!((request.timeout_ms, request.database.tls), (250, Tls::Unverified));
    let plain = trial(|it| it["database"]["postgresql"]["sslMode"] = json!(false));
    assert_eq!(asked(&plain, &[("uid", "7")]).unwrap().database.tls, Tls::Off);
}

#[test]
fn columns_are_bound_as_what_they_are() {
    let of = |field: &str, parameters: &[(&str, &str)]| {
        let trial = trial(|it| it["inputs"][0]["pojo"]["field"] = json!(field));
        values(&trial, parameters).map(|mut it| it.remove(0))
    };
    let some = |kind, text: &str| Some((kind, text.to_owned()));
    assert_eq!(of("user_id", &[("uid", "007")]), some(SqlKind::Text, "007"));
    assert_eq!(of("domain_sessionidx", &[("vid", "7")]), some(SqlKind::Integer, "7"));
    assert_eq!(of("se_value", &[("se_va", "7.50")]), some(SqlKind::Decimal, "7.50"));
    assert_eq!(of("br_cookies", &[("cookie", "1")]), some(SqlKind::Short, "1"));
    assert_eq!(of("collector_tstamp", &[]), some(SqlKind::Text, "2026-09-21 14:13:20.000"));
    assert_eq!(of("geo_country", &[]), None);
}

#[test]
fn json_values_are_bound_as_what_they_read_as() {
    let of = |data: Value, path: &str| {
        let trial = trial(|it| {
            it["inputs"] = json!([{"placeholder": 1, "json": {
                "field": "contexts", "schemaCriterion": "iglu:com.acme/u/jsonschema/1-*-*", "jsonPath": path,
            }}]);
        });
        let sent = contexts(&json!([
            {"schema": "iglu:com.acme/u/jsonschema/1-0-0", "data": data},
            {"schema": "iglu:com.acme/u/jsonschema/1-0-0", "data": {"a": "second"}},
        ]));
        values(&trial, &[("co", &sent)]).map(|mut it| it.remove(0))
    };
    let big = 1_u64 << 40;
    for (data, expected) in [
        (json!("x"), Some((SqlKind::Text, "x".to_owned()))),
        (json!(""), Some((SqlKind::Text, String::new()))),
        (json!("01234"), Some((SqlKind::Integer, "1234".to_owned()))),
        (json!(big.to_string()), Some((SqlKind::Long, big.to_string()))),
        (json!("-1.50"), Some((SqlKind::Double, "-1.5".to_owned()))),
        (json!("1e3"), Some((SqlKind::Double, "1000".to_owned()))),
        (json!("1e999"), Some((SqlKind::Text, "1e999".to_owned()))),
        (json!("inf"), Some((SqlKind::Text, "inf".to_owned()))),
        (json!("true"), Some((SqlKind::Boolean, "true".to_owned()))),
        (json!(7), Some((SqlKind::Integer, "7".to_owned()))),
        (json!(big), Some((SqlKind::Long, big.to_string()))),
        (json!(0.5), Some((SqlKind::Double, "0.5".to_owned()))),
        (json!(false), Some((SqlKind::Boolean, "false".to_owned()))),
        (json!(null), None),
        (json!({"b": 1}), None),
        (json!([1]), None),
    ] {
        assert_eq!(of(json!({"a": data}), "$.a"), expected, "{data}");
    }
    assert_eq!(of(json!({"a": [1, 2]}), "$.a[*]"), None, "many");
    assert_eq!(of(json!({"b": 1}), "$.a"), None, "none");
}

#[test]
fn the_last_input_that_is_found_counts_and_gaps_ask_nothing() {
    let two = |sql: &str| {
        trial(|it| {
            it["query"]["sql"] = json!(sql);
            it["inputs"] = json!([
                {"placeholder": 1, "pojo": {"field": "user_id"}},
                {"placeholder": 1, "pojo": {"field": "domain_userid"}},
                {"placeholder": 2, "pojo": {"field": "network_userid"}},
            ]);
        })
    };
    let texts = |trial: &Trial, parameters: &[(&str, &str)]| {
        let values = values(trial, parameters)?;
        Some(values.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(","))
    };
    let trial = two("SELECT ?, ?");
    let all = [("uid", "u"), ("duid", "d"), ("tnuid", "n")];
    assert_eq!(texts(&trial, &all).as_deref(), Some("d,n"));
    assert_eq!(texts(&trial, &[all[0], all[2]]).as_deref(), Some("u,n"));
    assert_eq!(texts(&trial, &all[..2]), None, "one of two");
    assert_eq!(texts(&trial, &all[2..]), None, "a gap");
    assert_eq!(texts(&two("SELECT ?"), &all), None, "more than the statement has");
    assert_eq!(texts(&two("SELECT ?, ?, ?"), &all), None, "fewer");
}

fn rows(columns: &[(&str, &str)], rows: &[&[Option<&str>]]) -> Answer {
    let columns: Vec<Value> =
        columns.iter().map(|(label, kind)| json!({"label": label, "type": kind})).collect();
    Ok(json!({"columns": columns, "rows": rows}))
}

/// The data of the entities that an answer gives, or the failures.
fn made(change: impl FnOnce(&mut Value), answer: Answer) -> Result<Vec<Value>, Vec<String>> {
    let mut trial = trial(change);
    let missing = trial.try_outcomes(&[("uid", "7")]).unwrap_err();
    trial.answers.insert(&missing.look_ups[0], answer);
    match &trial.outcomes(&[("uid", "7")])[..] {
        [crate::Outcome::Enriched(event)] => {
            let all = entities(event.derived_contexts.as_deref());
            Ok(all.into_iter().map(|mut it| it["data"].take()).collect())
        }
        _ => Err(trial.failures(&[("uid", "7")])),
    }
}

#[test]
fn values_of_rows_become_json() {
    let columns = [
        ("a_boolean", "boolean"),
        ("an_integer", "integer"),
        ("a_float", "float"),
        ("not_a_number", "float"),
        ("a_text", "text"),
        ("a_date", "date"),
        ("no_day", "date"),
        ("a_json", "other"),
        ("a_numeric", "other"),
        ("a_uuid", "other"),
        ("nothing", "integer"),
    ];
    let row = [
        Some("t"),
        Some("-9007199254740993"),
        Some("1e+20"),
        Some("NaN"),
        Some("12"),
        Some("2026-11-22"),
        Some("infinity"),
        Some(r#"{"z": [1, null]}"#),
        Some("12.50"),
        Some("5d2ae0a5-dd2f-4f26-8d0c-9f2b0b9f3c55"),
        None,
    ];
    let data = made(|_| {}, rows(&columns, &[&row])).unwrap();
    let expected = r#"{"aBoolean":true,"anInteger":-9007199254740993,"aFloat":1e+20,"notANumber":null,"aText":"12","aDate":"2026-11-22T00:00:00.000Z","noDay":"infinity","aJson":{"z":[1,null]},"aNumeric":12.50,"aUuid":"5d2ae0a5-dd2f-4f26-8d0c-9f2b0b9f3c55","nothing":null}"#;
    assert_eq!(data[0].to_string(), expected);
}

#[test]
fn names_of_columns_become_names_of_properties() {
    for (names, expected) in [
        ("AS_IS", ["user_name1", "aB", "_x", "a_"]),
        ("CAMEL_CASE", ["userName1", "aB", "X", "a_"]),
        ("PASCAL_CASE", ["UserName1", "AB", "X", "A_"]),
        ("SNAKE_CASE", ["user_name_1", "a_b", "_x", "a_"]),
        ("LOWER_CASE", ["user_name1", "ab", "_x", "a_"]),
        ("UPPER_CASE", ["USER_NAME1", "AB", "_X", "A_"]),
    ] {
        let names: PropertyNames = serde_json::from_value(json!(names)).unwrap();
        let labels = ["user_name1", "aB", "_x", "a_"];
        assert_eq!(labels.map(|label| names.of(label)), expected, "{names:?}");
    }
    assert_eq!(PropertyNames::CamelCase.of("a_1b"), "a1b");
}

#[test]
fn rows_become_entities_as_the_output_says() {
    let set = |expected: &'static str, describes: &'static str| {
        move |it: &mut Value| {
            it["output"]["expectedRows"] = json!(expected);
            it["output"]["json"]["describes"] = json!(describes);
        }
    };
    let of = |count: usize| {
        let texts: Vec<String> = (0..count).map(|at| at.to_string()).collect();
        let all: Vec<[Option<&str>; 1]> = texts.iter().map(|it| [Some(it.as_str())]).collect();
        let all: Vec<&[Option<&str>]> = all.iter().map(|it| &it[..]).collect();
        rows(&[("a", "integer")], &all)
    };
    let object = |at: usize| json!({"a": at});
    for (expected, describes, count, data) in [
        ("EXACTLY_ONE", "ALL_ROWS", 1, Some(vec![object(0)])),
        ("EXACTLY_ONE", "ALL_ROWS", 0, None),
        ("EXACTLY_ONE", "EVERY_ROW", 2, None),
        ("AT_MOST_ONE", "ALL_ROWS", 0, Some(vec![])),
        ("AT_MOST_ONE", "ALL_ROWS", 1, Some(vec![object(0)])),
        ("AT_MOST_ONE", "ALL_ROWS", 2, None),
        ("AT_LEAST_ONE", "EVERY_ROW", 0, None),
        ("AT_LEAST_ONE", "EVERY_ROW", 2, Some(vec![object(0), object(1)])),
        ("AT_LEAST_ZERO", "EVERY_ROW", 0, Some(vec![])),
    ] {
        let made = made(set(expected, describes), of(count));
        match data {
            Some(data) => assert_eq!(made.unwrap(), data, "{expected} {describes} {count}"),
            None => {
                let failures = made.unwrap_err();
                assert_eq!(failures[0], "Error while executing the sql lookup");
                assert!(failures[1].starts_with(&format!("{count} rows")), "{failures:?}");
            }
        }
    }
    // A list is one entity, also an empty one.
    let list = |expected| {
        let mut config = config(set(expected, "ALL_ROWS"));
        config.json["data"]["parameters"]["output"]["json"]["schema"] =
            json!("iglu:com.acme/list/jsonschema/1-0-0");
        let mut trial = Trial::of(vec![config]);
        let key = SchemaKey::parse("iglu:com.acme/list/jsonschema/1-0-0").unwrap();
        let schemas =
            crate::iglu::Schemas::embedded().with_local([(key, json!({"type": "array"}))]);
        trial.recipe = crate::Recipe::new(schemas, crate::Settings::default())
            .with_enrichments(trial.recipe.enrichments().clone());
        trial
    };
    for (count, expected) in [(0, json!([])), (2, json!([object(0), object(1)]))] {
        let mut trial = list("AT_LEAST_ZERO");
        let missing = trial.try_outcomes(&[("uid", "7")]).unwrap_err();
        trial.answers.insert(&missing.look_ups[0], of(count));
        let event = trial.event(&[("uid", "7")]);
        assert_eq!(entities(event.derived_contexts.as_deref())[0]["data"], expected);
    }
}

#[test]
fn an_error_fails_the_event_unless_it_is_ignored() {
    let error = || Err("SQL postgresql://db.example:5432/crm: no answer within 1000 ms".to_owned());
    let failures = made(|_| {}, error()).unwrap_err();
    assert_eq!(failures[0], "Error while executing the sql lookup");
    assert!(failures[1].contains("no answer within") && failures.len() == 2, "{failures:?}");
    assert_eq!(made(|it| it["ignoreOnError"] = json!(true), error()), Ok(vec![]));
    let odd = made(|_| {}, Ok(json!({"columns": [], "rows": [["1"]]}))).unwrap_err();
    assert!(odd[1].contains("no rows"), "{odd:?}");
}

#[test]
fn a_configuration_that_cannot_be_meant_is_refused_without_its_password() {
    let refused = |change: fn(&mut Value)| {
        let result = Trial::with_assets(vec![config(change)], &Assets::new());
        let message = result.err().unwrap().to_string();
        assert!(!message.contains("s3cret"), "{message}");
        message
    };
    for (change, expected) in [
        (
            (|it| it["query"]["sql"] = json!("SELECT 1; SELECT ?")) as fn(&mut Value),
            "`query.sql`: it holds more than one statement",
        ),
        (
            |it| {
                let mut database = it["database"].take();
                it["database"] = json!({"mysql": database["postgresql"].take()});
            },
            "MySQL is not asked",
        ),
        (|it| it["inputs"][0]["pojo"]["field"] = json!("nothing"), "no column `nothing`"),
        (|it| it["inputs"][0]["placeholder"] = json!(0), "placeholder"),
        (|it| it["database"]["postgresql"]["port"] = json!("x"), "port"),
        (
            |it| {
                it["database"]["postgresql"]["sslMode"] = json!(false);
                it["database"]["postgresql"]["sslInsecure"] = json!(true);
            },
            "`sslInsecure` means nothing",
        ),
        (|it| it["query"]["timeout"] = json!(0), "timeout"),
        (|it| it["database"]["mysql"] = it["database"]["postgresql"].clone(), "/database"),
        (|it| it["database"]["postgresql"]["password"] = json!({"a": "s3cret"}), "/password"),
    ] {
        let message = refused(change);
        assert!(message.contains(expected), "{expected}: {message}");
    }
}
