//! What the registries answer and what the validator says, on schemas made for the purpose.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn key(path: &str) -> SchemaKey {
    SchemaKey::parse(&format!("iglu:{path}")).unwrap()
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Schemas without a resolver leave no question open.
trait Settled {
    fn settled(&self, key: &SchemaKey, data: &Value) -> Result<Validated, IgluError>;
}

impl Settled for Schemas {
    fn settled(&self, key: &SchemaKey, data: &Value) -> Result<Validated, IgluError> {
        self.validate(key, data).expect("there is nobody to ask")
    }
}

/// The findings for a value against a schema, as `keyword path targets`.
fn findings(schema: &Value, data: &str) -> Vec<String> {
    let key = key("org.example/tried/jsonschema/1-0-0");
    let schemas = Schemas::embedded().with_local([(key.clone(), schema.clone())]);
    match schemas.settled(&key, &value(data)) {
        Ok(_) => vec![],
        Err(IgluError::Validation { data_reports, .. }) => data_reports
            .into_iter()
            .map(|report| {
                assert!(report.message.starts_with('$'), "{}", report.message);
                let targets = report.targets.join("|");
                format!("{} {} {targets}", report.keyword.unwrap(), report.path.unwrap())
                    .trim_end()
                    .to_owned()
            })
            .collect(),
        Err(IgluError::InvalidSchema { schema_issues }) => schema_issues
            .into_iter()
            .map(|issue| format!("schema {} {}", issue.path, issue.message))
            .collect(),
        Err(IgluError::Resolution { .. }) => panic!("the schema is there"),
    }
}

fn check(schema: &Value, cases: &[(&str, &[&str])]) {
    for (data, expected) in cases {
        assert_eq!(findings(schema, data), *expected, "{data} against {schema}");
    }
}

#[test]
fn integers_are_decided_by_spelling() {
    let schema = json!({"type": "integer"});
    for data in [
        "0",
        "-7",
        "9007199254740993",
        "123456789012345678901234567890",
        "-123456789012345678901234567890",
    ] {
        assert!(findings(&schema, data).is_empty(), "{data}");
    }
    for data in ["1.0", "1E2", "1e2", "-0", "-0.0", "1.5", "123456789012345678901234567890.0"] {
        assert_eq!(findings(&schema, data), ["type $ number|integer"], "{data}");
    }
    // Every spelling is a number.
    for data in ["1", "1.0", "1E400", "-0", "123456789012345678901234567890"] {
        assert!(findings(&json!({"type": "number"}), data).is_empty(), "{data}");
    }
    assert_eq!(
        findings(&json!({"type": ["integer", "null"]}), "1.0"),
        ["unionType $ number|[integer, null]"]
    );
    assert_eq!(
        findings(&json!({"items": {"type": "integer"}}), "[1, 2.0]"),
        ["type $[1] number|integer"]
    );
}

#[test]
fn types_are_strict_and_named() {
    check(
        &json!({"type": "array"}),
        &[("[]", &[]), ("{}", &["type $ object|array"]), ("null", &["type $ null|array"])],
    );
    check(
        &json!({"properties": {"a": {"type": ["string", "null"]}}}),
        &[(r#"{"a": null}"#, &[]), (r#"{"a": 1}"#, &["unionType $.a integer|[string, null]"])],
    );
    check(&json!({"type": "boolean"}), &[("true", &[]), (r#""true""#, &["type $ string|boolean"])]);
}

#[test]
fn null_is_allowed_where_the_schema_says_nullable() {
    let schema = json!({"properties": {
        "a": {"type": "string", "nullable": true, "enum": ["x"]},
        "nullable": {"type": "string"},
    }});
    check(
        &schema,
        &[
            (r#"{"a": null}"#, &[]),
            (r#"{"a": "x"}"#, &[]),
            (r#"{"a": "y"}"#, &["enum $.a [x, null]"]),
            (r#"{"nullable": null}"#, &["type $.nullable null|string"]),
        ],
    );
    check(&json!({"type": "string", "nullable": false}), &[("null", &["type $ null|string"])]);
}

#[test]
fn the_texts_of_snowplow() {
    let schema = json!({
        "type": "object",
        "properties": {"list": {"type": "array", "items": {"type": "object", "required": ["x"]}}, "u": {"type": ["string", "null"]}},
        "required": ["sku"],
        "additionalProperties": false
    });
    let key = key("org.example/tried/jsonschema/1-0-0");
    let schemas = Schemas::embedded().with_local([(key.clone(), schema)]);
    let data = value(r#"{"zz": 1, "list": [{"x": 1}, {}], "u": 2}"#);
    let Err(IgluError::Validation { data_reports, superseded_by: None }) =
        schemas.settled(&key, &data)
    else {
        panic!("the data is wrong");
    };
    let found: Vec<_> = data_reports
        .iter()
        .map(|report| {
            (
                report.message.as_str(),
                report.path.as_deref().unwrap(),
                report.keyword.as_deref().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            (
                "$.zz: is not defined in the schema and the schema does not allow additional properties",
                "$",
                "additionalProperties"
            ),
            ("$.sku: is missing but it is required", "$", "required"),
            ("$.list[1].x: is missing but it is required", "$.list[1]", "required"),
            ("$.u: integer found, [string, null] is required", "$.u", "unionType"),
        ]
    );
    let Err(IgluError::Validation { data_reports, .. }) = schemas.settled(&key, &json!([])) else {
        panic!("the data is wrong");
    };
    assert_eq!(data_reports[0].message, "$: array found, object expected");
    assert_eq!(data_reports[0].targets, ["array", "object"]);
}

#[test]
fn the_other_keywords_have_reports_too() {
    check(
        &json!({"minimum": 3, "maximum": 5}),
        &[("2", &["minimum $ 3"]), ("6.5", &["maximum $ 5"]), ("3", &[]), ("5.0", &[])],
    );
    check(
        &json!({"maximum": 5, "exclusiveMaximum": true}),
        &[("5", &["maximum $ 5"]), ("4.999", &[])],
    );
    check(
        &json!({"maximum": 9223372036854775807_i64}),
        &[
            ("9223372036854775807", &[]),
            ("9223372036854775808", &["maximum $ 9223372036854775807"]),
            ("99999999999999999999999999", &["maximum $ 9223372036854775807"]),
        ],
    );
    check(
        &json!({"minLength": 2, "maxLength": 3}),
        &[(r#""ab""#, &[]), (r#""a""#, &["minLength $ 2"]), (r#""abcd""#, &["maxLength $ 3"])],
    );
    check(
        &json!({"enum": ["a", 1, null]}),
        &[(r#""a""#, &[]), ("1", &[]), (r#""b""#, &["enum $ [a, 1, null]"])],
    );
    check(
        &json!({"minItems": 1, "maxItems": 2, "uniqueItems": true}),
        &[("[]", &["minItems $ 1"]), ("[1,2,3]", &["maxItems $ 2"]), ("[1,1]", &["uniqueItems $"])],
    );
    check(
        &json!({"minProperties": 1, "maxProperties": 1}),
        &[("{}", &["minProperties $ 1"]), (r#"{"a":1,"b":2}"#, &["maxProperties $ 1"])],
    );
    check(
        &json!({"items": [{}], "additionalItems": false}),
        &[("[1]", &[]), ("[1,2]", &["additionalItems $ 1"])],
    );
    check(
        &json!({"dependencies": {"a": ["b"]}}),
        &[(r#"{"a":1}"#, &["dependencies $ b"]), (r#"{"a":1,"b":1}"#, &[])],
    );
    check(
        &json!({"not": {"type": "string"}}),
        &[("1", &[]), (r#""a""#, &[r#"not $ {"type":"string"}"#])],
    );
    check(&json!({"multipleOf": 2}), &[("4", &[]), ("3", &["multipleOf $ 2"])]);
    check(
        &json!({"anyOf": [{"type": "string"}, {"properties": {"a": {"type": "integer"}}, "required": ["a"]}]}),
        &[(r#""a""#, &[]), (r#"{"a":"b"}"#, &["type $ object|string", "type $.a string|integer"])],
    );
    check(
        &json!({"oneOf": [{"type": "number"}, {"minimum": 3}]}),
        &[("1", &[]), ("4", &["oneOf $"])],
    );
    // Keywords of later drafts do nothing.
    check(
        &json!({"const": 1, "contains": {"type": "string"}, "if": {}, "then": false}),
        &[("2", &[]), ("[]", &[])],
    );
}

#[test]
fn lengths_are_counted_in_code_points() {
    check(
        &json!({"maxLength": 2, "minLength": 2}),
        &[(r#""🦀🦀""#, &[]), (r#""é\ud83e\udd80""#, &[]), (r#""🦀""#, &["minLength $ 2"])],
    );
}

#[test]
fn patterns_are_searched_not_anchored() {
    check(
        &json!({"pattern": "b+"}),
        &[(r#""abbc""#, &[]), (r#""ac""#, &["pattern $ b+"]), ("1", &[])],
    );
    check(
        &json!({"pattern": r"^\d{2}$"}),
        &[(r#""12""#, &[]), (r#""١٢""#, &[r"pattern $ ^\d{2}$"])],
    );
    check(
        &json!({"pattern": "^(?!x)a(?=b)"}),
        &[(r#""ab""#, &[]), (r#""xab""#, &["pattern $ ^(?!x)a(?=b)"])],
    );
}

#[test]
fn a_pattern_cannot_backtrack_for_ever() {
    let schema = json!({"pattern": r"^(?:(a|aa)+)+\1c$"});
    let text = format!("\"{}b\"", "a".repeat(60));
    assert_eq!(findings(&schema, &text), ["pattern $"]);
}

#[test]
fn formats_are_asserted_and_unknown_ones_pass() {
    check(
        &json!({"properties": {"t": {"format": "date-time"}, "d": {"format": "date"}, "u": {"format": "uuid"}, "i": {"format": "ipv4"},
            "r": {"format": "uri-reference"}, "x": {"format": "regex"}, "s": {"format": "strict-uri"}}}),
        &[
            (
                r#"{"t": "2026-11-22T10:00:00Z", "d": "2026-11-22", "u": "f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "i": "192.0.2.7"}"#,
                &[],
            ),
            (r#"{"r": " ", "x": "(", "s": "\u0001"}"#, &[]),
            (r#"{"t": 1, "d": null, "u": [], "i": {}}"#, &[]),
            (
                r#"{"t": "2026-11-22", "d": "x", "u": "y", "i": "z"}"#,
                &[
                    "dateTime $.d x|date",
                    "format $.i ipv4",
                    "dateTime $.t 2026-11-22|date-time",
                    "uuid $.u y|uuid",
                ],
            ),
        ],
    );
}

#[test]
fn references_stay_in_the_document() {
    check(
        &json!({"definitions": {"n": {"type": "integer"}}, "id": "http://example.test/base/schema.json",
            "properties": {"a": {"$ref": "#/definitions/n"}, "b": {"$ref": "http://192.0.2.1/never.json#/a/b"}, "c": {"$ref": "other.json"},
                "$ref": {"type": "string"}}}),
        &[
            (r#"{"a": 1, "b": [1], "c": {}}"#, &[]),
            (r#"{"a": "x"}"#, &["type $.a string|integer"]),
            (r#"{"$ref": 1}"#, &["type $.$ref integer|string"]),
        ],
    );
    check(
        &json!({"properties": {"child": {"$ref": "#"}}, "type": "object"}),
        &[
            (r#"{"child": {"child": {}}}"#, &[]),
            (r#"{"child": {"child": 1}}"#, &["type $.child.child integer|object"]),
        ],
    );
}

#[test]
fn a_schema_that_only_refers_to_itself_ends() {
    let schema = json!({"definitions": {"a": {"$ref": "#/definitions/b"}, "b": {"$ref": "#/definitions/a"}}, "$ref": "#/definitions/a"});
    let _ = findings(&schema, "1");
}

#[test]
fn paths_know_lists_from_objects() {
    check(
        &json!({"additionalProperties": {"additionalProperties": {"type": "string"}, "items": {"type": "string"}}}),
        &[(
            r#"{"0": {"1": 2, "": 3, "a/b~c.d": 4}, "l": [5]}"#,
            &[
                "type $.0. integer|string",
                "type $.0.1 integer|string",
                "type $.0.a/b~c.d integer|string",
                "type $.l[0] integer|string",
            ],
        )],
    );
}

#[test]
fn a_schema_that_is_none_is_said_to_be_so() {
    check(
        &json!({"properties": {"a": {"type": "text"}}, "required": []}),
        &[(
            "{}",
            &[
                "schema $.properties.a.type $.properties.a.type: does not have a value in the enumeration [array, boolean, integer, null, number, object, string]",
                "schema $.properties.a.type $.properties.a.type: string found, array expected",
                "schema $.required $.required: there must be a minimum of 1 items in the array",
            ],
        )],
    );
    for schema in [
        json!({"pattern": "("}),
        json!({"$ref": "#/definitions/none"}),
        json!([]),
        json!("x"),
        json!({"minimum": 1, "maxLength": -1}),
    ] {
        let found = findings(&schema, "1");
        assert!(
            !found.is_empty() && found.iter().all(|finding| finding.starts_with("schema ")),
            "{schema}: {found:?}"
        );
    }
}

#[test]
fn an_absent_schema_names_who_was_asked() {
    let absent = key("org.example/absent/jsonschema/1-0-0");
    let not_found = |repository: &str| Lookup {
        repository: repository.to_owned(),
        errors: vec![LookupError { error: "NotFound".to_owned(), message: None }],
        attempts: 1,
    };
    let embedded = Schemas::embedded();
    assert_eq!(
        embedded.settled(&absent, &json!({})),
        Err(IgluError::Resolution { lookup_history: vec![not_found(EMBEDDED_REPOSITORY)] })
    );
    let local = embedded.with_local([(key("org.example/other/jsonschema/1-0-0"), json!({}))]);
    assert_eq!(
        local.settled(&absent, &json!({})),
        Err(IgluError::Resolution {
            lookup_history: vec![not_found(EMBEDDED_REPOSITORY), not_found(LOCAL_REPOSITORY)]
        })
    );
}

#[test]
fn a_local_schema_hides_an_embedded_one_but_no_wrapper() {
    let link_click = key("com.snowplowanalytics.snowplow/link_click/jsonschema/1-0-1");
    let contexts = key("com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-0");
    let newer_contexts = key("com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-9");
    let anything = || json!({});
    let schemas = Schemas::embedded().with_local([
        (link_click.clone(), anything()),
        (contexts.clone(), anything()),
        (newer_contexts.clone(), anything()),
    ]);
    assert!(schemas.settled(&link_click, &json!("anything")).is_ok());
    assert!(Schemas::embedded().settled(&link_click, &json!("anything")).is_err());
    assert!(schemas.settled(&contexts, &json!("anything")).is_err());
    assert!(schemas.settled(&newer_contexts, &json!("anything")).is_ok());
    assert_eq!(schemas.find(&link_click), Some(&anything()));
    assert_ne!(schemas.find(&contexts), Some(&anything()));
}

#[test]
fn local_schemas_come_back_in_order_as_they_were_given() {
    let given = [
        (key("org.example/b/jsonschema/10-0-0"), json!({"b": 10})),
        (key("org.example/b/jsonschema/9-0-0"), json!({"b": 9})),
        (key("org.example/a/jsonschema/1-0-0"), json!({"first": true})),
        (key("org.example/a/jsonschema/1-0-0"), json!({"first": false})),
    ];
    let schemas = Schemas::embedded().with_local(given);
    let local: Vec<_> =
        schemas.local().map(|(key, schema)| (key.path(), schema.to_string())).collect();
    assert_eq!(
        local,
        [
            ("org.example/a/jsonschema/1-0-0", r#"{"first":true}"#.to_owned()),
            ("org.example/b/jsonschema/9-0-0", r#"{"b":9}"#.to_owned()),
            ("org.example/b/jsonschema/10-0-0", r#"{"b":10}"#.to_owned()),
        ]
    );
    assert_eq!(schemas.with_local([]).local().len(), 0);
}

#[test]
fn a_superseded_schema_gives_way_to_another_version_of_its_registry() {
    let old = key("org.example/basket/jsonschema/1-0-0");
    let new = key("org.example/basket/jsonschema/1-0-2");
    let schemas = Schemas::embedded().with_local([
        (old.clone(), json!({"$supersededBy": "1-0-2", "type": "integer"})),
        // The second hop is not taken.
        (new.clone(), json!({"$supersededBy": "1-0-3", "type": "string"})),
        (key("org.example/basket/jsonschema/1-0-3"), json!({"type": "boolean"})),
    ]);
    assert_eq!(
        schemas.settled(&old, &json!("x")),
        Ok(Validated { superseded_by: Some(new.clone()) })
    );
    let Err(IgluError::Validation { superseded_by, .. }) = schemas.settled(&old, &json!(1)) else {
        panic!("the newer schema wants a string");
    };
    assert_eq!(superseded_by.as_deref(), Some("1-0-2"));
    let third = key("org.example/basket/jsonschema/1-0-3");
    assert_eq!(
        schemas.settled(&new, &json!(true)),
        Ok(Validated { superseded_by: Some(third.clone()) })
    );
    assert_eq!(schemas.settled(&third, &json!(true)), Ok(Validated { superseded_by: None }));
}

#[test]
fn a_superseding_version_must_exist_and_be_greater() {
    for (superseding, error) in [
        (json!("1-0-2"), "ClientFailure"),
        (json!("1-0-1"), "ClientFailure"),
        (json!("x"), "ClientFailure"),
        (json!(3), "ClientFailure"),
        (json!("1-0-3"), "NotFound"),
    ] {
        let key = key("org.example/basket/jsonschema/1-0-2");
        let schemas =
            Schemas::embedded().with_local([(key.clone(), json!({"$supersededBy": superseding}))]);
        let Err(IgluError::Resolution { lookup_history }) = schemas.settled(&key, &json!({}))
        else {
            panic!("{superseding} supersedes");
        };
        let errors: Vec<_> =
            lookup_history.iter().map(|lookup| lookup.errors[0].error.as_str()).collect();
        assert_eq!(errors, ["NotFound", error], "{superseding}");
    }
}

/// Every file below `crates/enrich/schemas`, by its path there.
fn files(dir: &Path, root: &Path, into: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, root, into);
        } else {
            into.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
}

#[test]
fn the_table_lists_exactly_the_files_of_the_folder_in_order() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let mut found = Vec::new();
    files(&root, &root, &mut found);
    found.sort();
    let listed: Vec<_> = table::FILES.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(listed, found);
}

#[test]
fn every_embedded_schema_is_named_as_it_says_and_compiles() {
    assert_eq!(Schemas::embedded_keys().len(), table::FILES.len());
    for (path, content) in table::FILES {
        let key = key(path);
        let schema = value(content);
        let version = key.version().to_string();
        let expected = json!({"vendor": key.vendor(), "name": key.name(), "format": key.format(), "version": version});
        assert_eq!(schema["self"], expected, "{path}");
        if let Err(issues) = Validator::compile(&schema) {
            panic!("{path}: {issues:?}");
        }
        assert_eq!(schema.to_string(), content.trim_end(), "{path} is compact");
    }
}

#[test]
fn the_digest_of_the_embedded_set_is_stable_in_a_process_and_hex() {
    let digest = Schemas::embedded_digest();
    assert_eq!(digest.len(), 64);
    assert!(digest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(digest, Schemas::embedded_digest());
}

#[test]
fn the_wrappers_do_what_the_protocol_says() {
    let schemas = Schemas::embedded();
    let snowplow = |name: &str| key(&format!("com.snowplowanalytics.snowplow/{name}"));
    let cases = [
        ("contexts/jsonschema/1-0-0", json!([]), false),
        ("contexts/jsonschema/1-0-1", json!([]), true),
        ("contexts/jsonschema/1-0-1", json!({}), false),
        ("contexts/jsonschema/1-0-1", json!([{"schema": "iglu:a/b/c/1-0-0", "data": {}}]), true),
        ("contexts/jsonschema/1-0-1", json!([{"schema": "iglu:a/b/c/1-0-0"}]), false),
        (
            "unstruct_event/jsonschema/1-0-0",
            json!({"schema": "iglu:a/b/c/1-0-0", "data": {}}),
            true,
        ),
        (
            "unstruct_event/jsonschema/1-0-0",
            json!({"schema": "iglu:a/b/c/1-0-0", "data": {}, "more": 1}),
            false,
        ),
        ("payload_data/jsonschema/1-0-4", json!([{"e": "pv", "p": "web", "tv": "x"}]), true),
        ("payload_data/jsonschema/1-0-4", json!([{"e": "pv", "p": "web", "tv": 1}]), false),
        ("payload_data/jsonschema/1-0-4", json!([{"e": "pv", "p": "web"}]), false),
        (
            "payload_data/jsonschema/1-0-4",
            json!([{"e": "pv", "p": "web", "tv": "x", "zz": "y"}]),
            false,
        ),
        ("payload_data/jsonschema/1-0-4", json!([]), false),
    ];
    for (name, data, valid) in cases {
        assert_eq!(schemas.settled(&snowplow(name), &data).is_ok(), valid, "{name} {data}");
    }
}

/// Any JSON value, numbers in any spelling.
fn json_values() -> impl Strategy<Value = Value> {
    let number = "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,4})?"
        .prop_map(|text| value(&text));
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        number,
        ".{0,20}".prop_map(Value::String),
        "iglu:[a-z]{1,3}/[a-z]{1,3}/jsonschema/[0-9]-0-[0-9]".prop_map(Value::String),
    ];
    let name = prop_oneof![
        "[a-z~/]{0,4}",
        Just("schema".to_owned()),
        Just("data".to_owned()),
        Just("e".to_owned())
    ];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::vec((name.clone(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_data_makes_a_validator_panic_and_its_answer_is_always_the_same(data in json_values()) {
        let schemas = Schemas::embedded();
        for key in Schemas::embedded_keys() {
            prop_assert_eq!(schemas.settled(key, &data), schemas.settled(key, &data));
        }
    }

    #[test]
    fn no_schema_makes_the_compiler_panic(schema in json_values(), data in json_values()) {
        if let Ok(validator) = Validator::compile(&schema) {
            validator.validate(&data);
        }
    }
}

/// Schemas with two registries on the network, and what they have answered.
fn asked(answers: Vec<(SchemaKey, Answer)>) -> Schemas {
    let repository = |name: &str| Repository {
        name: name.to_owned(),
        priority: 0,
        vendor_prefixes: Vec::new(),
        uri: "http://registry.example".to_owned(),
    };
    let resolver = Resolver {
        epoch: 1,
        repositories: vec![repository("Zebra"), repository("Acme")],
        embedded: vec!["In a folder".to_owned()],
    };
    let answers = answers.into_iter().map(|(key, answer)| (key, Arc::new(answer)));
    Schemas::embedded().with_resolver(resolver).with_answers(answers, 100)
}

#[test]
fn a_question_that_nobody_has_answered_is_open() {
    let schemas = asked(vec![]);
    assert_eq!(schemas.validate(&key("org.example/a/jsonschema/1-0-0"), &json!({})), None);
    let embedded = key("com.snowplowanalytics.snowplow/web_page/jsonschema/1-0-0");
    assert!(schemas.validate(&embedded, &json!({})).is_some());
    assert_eq!(
        Schemas::embedded().with_answers([], 1).resolver(),
        None,
        "without a resolver there is nobody to answer"
    );
}

#[test]
fn an_answer_is_used_as_a_schema_of_the_recipe_is() {
    let (plain, old) =
        (key("org.example/a/jsonschema/1-0-0"), key("org.example/b/jsonschema/1-0-0"));
    let new = old.with_version("1-0-2".parse().unwrap());
    let schema = json!({"type": "integer"});
    let schemas = asked(vec![
        (plain.clone(), Answer::found(&plain, "Acme".to_owned(), schema.clone(), None)),
        (old.clone(), Answer::found(&old, "Acme".to_owned(), schema.clone(), Some(new.version()))),
    ]);
    assert_eq!(schemas.validate(&plain, &json!(1)), Some(Ok(Validated { superseded_by: None })));
    assert!(matches!(
        schemas.validate(&plain, &json!("x")),
        Some(Err(IgluError::Validation { superseded_by: None, .. }))
    ));
    assert_eq!(
        schemas.validate(&old, &json!(1)),
        Some(Ok(Validated { superseded_by: Some(new.clone()) }))
    );
    let Some(Err(IgluError::Validation { superseded_by, .. })) =
        schemas.validate(&old, &json!("x"))
    else {
        panic!("it does not obey");
    };
    assert_eq!(superseded_by.as_deref(), Some("1-0-2"));
    assert_eq!(schemas.validate(&new, &json!(1)), None, "this one was not asked for");
}

#[test]
fn the_history_of_an_absence_lists_all_registries_by_name() {
    let absent = key("org.example/a/jsonschema/1-0-0");
    let lookup = |repository: &str, error: LookupError| Lookup {
        repository: repository.to_owned(),
        errors: vec![error],
        attempts: 1,
    };
    let refused =
        LookupError { error: "ClientFailure".to_owned(), message: Some("status 403".to_owned()) };
    let answer =
        Answer::absent(vec![lookup("Zebra", refused.clone()), lookup("Acme", not_found())]);
    let schemas = asked(vec![(absent.clone(), answer)]);
    let expected = vec![
        lookup("Acme", not_found()),
        lookup("Iglu Client Embedded", not_found()),
        lookup("In a folder", not_found()),
        lookup("Zebra", refused),
    ];
    assert_eq!(
        schemas.validate(&absent, &json!({})),
        Some(Err(IgluError::Resolution { lookup_history: expected }))
    );
}

#[test]
fn answers_beyond_the_bound_take_the_place_of_earlier_ones() {
    let keys: Vec<SchemaKey> =
        (0..4).map(|at| key(&format!("org.example/a/jsonschema/1-0-{at}"))).collect();
    let answers = |keys: &[SchemaKey]| -> Vec<(SchemaKey, Arc<Answer>)> {
        keys.iter().map(|key| (key.clone(), Arc::new(Answer::absent(vec![])))).collect()
    };
    let known = |schemas: &Schemas| {
        keys.iter().filter(|key| schemas.validate(key, &json!({})).is_some()).count()
    };
    let some = asked(vec![]).with_answers(answers(&keys[..2]), 3);
    assert_eq!(known(&some), 2);
    assert_eq!(known(&some.with_answers(answers(&keys[2..3]), 3)), 3);
    assert_eq!(known(&some.with_answers(answers(&keys[2..4]), 3)), 2);
    assert_eq!(known(&some.with_answers(answers(&keys), 3)), 4, "one record may need more");
}
