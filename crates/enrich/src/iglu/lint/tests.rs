//! Schemas with a mistake each, and the line where it is told.

use super::*;

const HEAD: &str = r#"{
  "$schema": "http://iglucentral.com/schemas/com.snowplowanalytics.self-desc/schema/jsonschema/1-0-0#",
  "description": "A basket",
  "self": {"vendor": "com.acme", "name": "basket", "format": "jsonschema", "version": "1-0-0"},
  "type": "object",
"#;

/// The findings of a schema that goes on with `rest` from line 6 on, as text.
fn found(rest: &str, options: Options<'_>) -> Vec<String> {
    let print = |it: Finding| {
        format!("{}:{}: {}: {}", it.place.line, it.place.column, it.severity, it.message)
    };
    lint(&format!("{HEAD}{rest}"), options).into_iter().map(print).collect()
}

fn check(rest: &str, expected: &[&str]) {
    let found = found(rest, Options::default());
    let same = found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, expected)| found.starts_with(expected));
    assert!(same, "{rest}\n{found:#?}");
}

#[test]
fn a_sound_schema_has_no_findings() {
    check(
        r##"  "properties": {
    "sku": {"type": "string", "maxLength": 40, "pattern": "^[a-z]+$"},
    "at": {"type": ["string", "null"], "format": "date-time"},
    "kind": {"enum": ["a", 1, null]},
    "size": {"type": "number", "minimum": 1, "maximum": 1, "enum": [1, 2.5]},
    "next": {"$ref": "#/properties/sku"}
  },
  "required": ["sku"],
  "additionalProperties": false
}"##,
        &[],
    );
}

#[test]
fn each_mistake_is_told_with_its_line() {
    check("  \"properties\": {\n", &["7:1: error: no JSON: EOF"]);
    check(
        "  \"maxLength\": \"a\"\n}",
        &["6:3: error: $.maxLength: string found, integer expected"],
    );
    check(
        "  \"properties\": {\n    \"a\": {\n      \"type\": \"text\"}}}",
        &["8:7: error: $.properties.a.type: ", "8:7: error: "],
    );
    check(
        "  \"properties\": {\n    \"a\": {\"pattern\": \"(\"}}}",
        &["7:11: error: `(` is no pattern: "],
    );
    check("  \"patternProperties\": {\n    \"a/(\": {}}}", &["7:5: error: `a/(` is no pattern: "]);
    check(
        "  \"properties\": {},\n  \"required\": [\n    \"a\"],\n  \"additionalProperties\": false}",
        &["8:5: error: `a` is required and not among the properties: nothing obeys both"],
    );
    check(
        "  \"properties\": {\"a\": {\n    \"minimum\": 3, \"maximum\": 2}}}",
        &["7:5: error: `minimum` is above `maximum`"],
    );
    check(
        "  \"properties\": {\"a\": {},\n    \"a\": {}}}",
        &["7:5: error: this key stands here a second time"],
    );
    check(
        "  \"properties\": {\"a\": {\n    \"$ref\": \"#/definitions/b\"}}}",
        &["7:5: error: `#/definitions/b` leads nowhere"],
    );
    check(
        "  \"$supersededBy\": \"1-0-0\"}",
        &["6:3: error: iglu:com.acme/basket/jsonschema/1-0-0 cannot be superseded by"],
    );
}

#[test]
fn what_has_no_effect_is_a_warning() {
    check("  \"const\": 1}", &["6:3: warning: `const` is of a later draft"]);
    check(
        "  \"properties\": {\"a\": {\"type\": \"string\",\n   \"format\": \"strict-uri\"}}}",
        &["7:4: warning: `strict-uri` is not checked"],
    );
    check(
        "  \"properties\": {\"a\": {\"type\": \"integer\",\n   \"maxLength\": 3}}}",
        &["7:4: warning: `maxLength` is about the type string"],
    );
    check(
        "  \"properties\": {\"a\": {\"type\": \"string\", \"enum\": [\"a\",\n   1]}}}",
        &["7:4: warning: 1 can never be"],
    );
    check(
        "  \"properties\": {},\n  \"required\": [\"a\"]}",
        &["7:16: warning: `a` is required, and the properties do not describe it"],
    );
    check(
        "  \"items\": {\"allOf\": [{\n   \"$ref\": \"http://a.example/b\"}]}}",
        &["6:3: warning: `items` is about", "7:4: warning: `http://a.example/b` is never fetched"],
    );
}

#[test]
fn a_schema_says_who_it_is() {
    let lint = |text: &str| {
        let key = SchemaKey::parse("iglu:com.acme/basket/jsonschema/1-0-0").unwrap();
        let options = Options { key: Some(&key), strict: false };
        let findings = super::lint(text, options);
        findings.into_iter().map(|it| (it.place.line, it.message)).collect::<Vec<_>>()
    };
    assert_eq!(lint(&format!("{HEAD} \"id\": \"x\"}}")), []);
    let moved = format!("{HEAD} \"id\": \"x\"}}").replace("1-0-0\"}", "1-0-1\"}");
    assert_eq!(
        lint(&moved),
        [(
            4,
            "it says iglu:com.acme/basket/jsonschema/1-0-1, but it lies where iglu:com.acme/basket/jsonschema/1-0-0 belongs"
                .to_owned()
        )]
    );
    let bare = lint("{\"type\": \"array\"}");
    assert_eq!(bare.len(), 3, "{bare:?}");
    assert!(bare.iter().any(|(_, message)| message.starts_with("no `self`")));
    assert!(bare.iter().any(|(_, message)| message.starts_with("no `$schema`")));
    assert_eq!(lint("[]")[0].1, "a schema is an object");
    assert_eq!(lint("7")[0].1, "a schema is an object");
    let cut = format!("{HEAD} \"id\": \"x\"}}").replace(", \"version\": \"1-0-0\"", "");
    assert_eq!(lint(&cut), [(4, "without version, which is to be a text each".to_owned())]);
}

#[test]
fn a_file_of_several_schemas_is_read_item_by_item() {
    let sound = format!("{HEAD} \"id\": \"x\"}}");
    let text = format!(
        "[\n{sound},\n{HEAD} \"minLength\": 1,\n\"$ref\": \"#/self\",\n\"maxLength\": -1}}]"
    );
    let findings = lint(&text, Options::default());
    let found: Vec<_> = findings.iter().map(|it| (it.place.line, it.pointer.as_str())).collect();
    assert_eq!(found, [(15, "/1/maxLength")], "{findings:#?}");
}

#[test]
fn strict_asks_for_bounds_and_nulls() {
    let rest = "  \"properties\": {\n    \"a\": {\"type\": \"string\"},\n    \"b\": {\"type\": [\"integer\", \"null\"]}}}";
    let strict = found(rest, Options { key: None, strict: true });
    let expected = [
        "7:5: warning: `a` is optional, but must not be null",
        "7:5: warning: a text without `maxLength`",
        "8:5: warning: a number without `minimum` and `maximum`",
    ];
    let relevant: Vec<&String> = strict.iter().filter(|it| it.contains("warning")).collect();
    assert_eq!(relevant.len(), expected.len(), "{strict:#?}");
    for (found, expected) in relevant.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}");
    }
}

#[test]
fn gaps_in_the_versions_are_found() {
    let missing = |versions: &[&str]| {
        let versions: Vec<Version> = versions.iter().map(|it| it.parse().unwrap()).collect();
        missing_versions(&versions).iter().map(Version::to_string).collect::<Vec<_>>()
    };
    assert!(missing(&[]).is_empty());
    assert!(missing(&["1-0-0", "1-0-1", "1-1-0", "2-0-0", "1-0-2"]).is_empty());
    assert_eq!(missing(&["1-0-1"]), ["1-0-0"]);
    assert_eq!(missing(&["1-0-0", "1-0-3"]), ["1-0-1"]);
    assert_eq!(missing(&["1-0-0", "1-2-0", "4-0-0"]), ["1-1-0", "2-0-0"]);
    assert_eq!(missing(&["1-0-0", "1-1-1"]), ["1-1-0"]);
}
