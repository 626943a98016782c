//! What each form of a path finds, changes, and refuses.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::JsonPath;

fn document() -> Value {
    json!({
        "email": "a@x.example", "phone": "12", "it's": true, "a.b": 1, "größe": 3,
        "tags": ["r", "s", "t", "u"],
        "books": [
            {"name": "A", "price": 5, "meta": {"name": "deep"}},
            {"name": "B", "price": 12.5, "sold": null},
            {"name": "C", "price": 20},
        ],
    })
}

fn select(path: &str, value: &Value) -> Value {
    let path: JsonPath = path.parse().unwrap();
    path.select(value).into_iter().cloned().collect()
}

#[test]
fn every_form_of_a_path_finds_its_values() {
    let all = document();
    let cases = [
        ("$", json!([all])),
        ("$.email", json!(["a@x.example"])),
        ("$['email']", json!(["a@x.example"])),
        ("$.['email','phone']", json!(["a@x.example", "12"])),
        ("$['phone', 'email', 'missing']", json!(["12", "a@x.example"])),
        (r#"$["email"]"#, json!(["a@x.example"])),
        (r"$['it\'s']", json!([true])),
        ("$['a.b']", json!([1])),
        ("$.größe", json!([3])),
        ("$.missing", json!([])),
        ("$.email.missing", json!([])),
        ("$.tags", json!([["r", "s", "t", "u"]])),
        ("$.tags[0]", json!(["r"])),
        ("$.tags[-1]", json!(["u"])),
        ("$.tags[4]", json!([])),
        ("$.tags[-5]", json!([])),
        ("$.tags[0,2]", json!(["r", "t"])),
        ("$.tags[1:3]", json!(["s", "t"])),
        ("$.tags[:2]", json!(["r", "s"])),
        ("$.tags[-2:]", json!(["t", "u"])),
        ("$.tags[::2]", json!(["r", "t"])),
        ("$.tags[3:1]", json!([])),
        ("$.tags[*]", json!(["r", "s", "t", "u"])),
        ("$.tags.*", json!(["r", "s", "t", "u"])),
        ("$.books[*].name", json!(["A", "B", "C"])),
        ("$..name", json!(["A", "deep", "B", "C"])),
        ("$.books[0]..name", json!(["A", "deep"])),
        ("$..['name','sold']", json!(["A", "deep", "B", null, "C"])),
        ("$..books[0].price", json!([5])),
        ("$.books[?(@.name == 'B')].price", json!([12.5])),
        ("$.books[?(@.name == \"B\")].price", json!([12.5])),
        ("$.books[?(@.price > 5 && @.price <= 20)].name", json!(["B", "C"])),
        ("$.books[?(@.price<10||@.name=='C')].name", json!(["A", "C"])),
        ("$.books[?(@.sold)].name", json!(["B"])),
        ("$.books[?(!@.sold)].name", json!(["A", "C"])),
        ("$.books[?(@.sold == null)].name", json!(["B"])),
        ("$.books[?(@.sold != null)].name", json!(["A", "C"])),
        ("$.books[?(@.meta.name == 'deep')].name", json!(["A"])),
        ("$.books[?(@['name'] != 'B' && (@.price == 5.0 || @.price == 7))].name", json!(["A"])),
        ("$.tags[?(@ == 's')]", json!(["s"])),
        ("$.tags[?(@ >= 's' && @ < 'u')]", json!(["s", "t"])),
    ];
    for (path, expected) in cases {
        assert_eq!(select(path, &all), expected, "{path}");
    }
}

#[test]
fn a_text_that_is_no_path_is_refused_with_its_place() {
    let cases = [
        ("", 1),
        ("a", 1),
        ("$a", 2),
        ("$.", 3),
        ("$.a.", 5),
        ("$.a b", 4),
        ("$[", 3),
        ("$['a'", 6),
        ("$['a", 5),
        ("$[a]", 3),
        ("$[]", 3),
        ("$[1:2:0]", 8),
        ("$[99999999999999999999]", 3),
        ("$.a.length()", 11),
        ("$[?(@.a == )]", 12),
        ("$[?('a')]", 8),
        ("$[?(@.a == 'b']", 15),
        ("$[?(@.a = 'b')]", 9),
    ];
    for (text, at) in cases {
        let error = text.parse::<JsonPath>().unwrap_err();
        assert_eq!(error.at, at, "{error}");
        assert!(error.to_string().contains(text));
    }
    let nested = format!("$[?({}@.a{})]", "(".repeat(100_000), ")".repeat(100_000));
    assert!(nested.parse::<JsonPath>().is_err());
}

#[test]
fn a_change_reaches_each_place_once_and_adds_none() {
    let wrap = |value: &mut Value| *value = json!([value.take()]);
    let cases = [
        ("$.a", json!({"a": 1, "b": 2}), json!({"a": [1], "b": 2})),
        ("$.['a','c']", json!({"a": 1, "b": 2}), json!({"a": [1], "b": 2})),
        ("$['a','a']", json!({"a": 1}), json!({"a": [1]})),
        ("$[0,0,-1]", json!([1]), json!([[1]])),
        ("$.a.b.c", json!({"a": {"b": 1}}), json!({"a": {"b": 1}})),
        ("$[?(@.a)].a", json!([{"a": 1}, {"b": 1}]), json!([{"a": [1]}, {"b": 1}])),
        ("$", json!(1), json!([1])),
    ];
    for (path, mut value, expected) in cases {
        path.parse::<JsonPath>().unwrap().change(&mut value, &mut { wrap });
        assert_eq!(value, expected, "{path}");
    }
    // Both steps are deep: `b` is below the outer and the inner `a`.
    let mut value = json!({"a": {"a": {"b": 1}}});
    let mut count = 0;
    "$..a..b".parse::<JsonPath>().unwrap().change(&mut value, &mut |_| count += 1);
    assert_eq!((count, select("$..a..b", &value)), (1, json!([1, 1])));
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\$[\\$.\\[\\]'\"*?(@)a0-9:,!=<>&| -]{0,24}") {
        if let Ok(path) = text.parse::<JsonPath>() {
            let mut value = document();
            let found = path.select(&value).len();
            let mut changed = 0;
            path.change(&mut value, &mut |_| changed += 1);
            prop_assert!(changed <= found);
            prop_assert_eq!(value, document());
        }
    }
}
