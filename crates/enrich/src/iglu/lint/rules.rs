//! The rules of single keywords, held against every schema inside a schema.
//!
//! The meta schema of draft 4 has been obeyed before: keywords have the types they should have.

use serde_json::{Map, Value};

use super::Findings;
use super::lines::escaped;
use crate::iglu::formats;
use crate::iglu::validator::{self, Validator};

/// Keywords of later drafts, which draft 4 passes over.
const LATER: [&str; 14] = [
    "$anchor",
    "$comment",
    "$defs",
    "$dynamicRef",
    "const",
    "contains",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "if",
    "prefixItems",
    "propertyNames",
    "then",
    "unevaluatedProperties",
];

/// Pairs of which the first must not be above the second.
const BOUNDS: [(&str, &str); 4] = [
    ("minimum", "maximum"),
    ("minLength", "maxLength"),
    ("minItems", "maxItems"),
    ("minProperties", "maxProperties"),
];

/// Keywords and the type that they say something about.
const OF_TYPE: [(&str, &str); 13] = [
    ("maxLength", "string"),
    ("minLength", "string"),
    ("pattern", "string"),
    ("format", "string"),
    ("maximum", "number"),
    ("minimum", "number"),
    ("multipleOf", "number"),
    ("items", "array"),
    ("maxItems", "array"),
    ("minItems", "array"),
    ("properties", "object"),
    ("required", "object"),
    ("patternProperties", "object"),
];

/// A schema to look at.
pub(super) struct Rules<'a> {
    /// Where local references lead.
    pub(super) root: &'a Value,
    /// Where the root stands in its file.
    pub(super) at: &'a str,
    pub(super) strict: bool,
}

impl Rules<'_> {
    /// Looks at the schema and at all schemas inside of it.
    pub(super) fn check(&self, findings: &mut Findings) {
        let Value::Object(fields) = self.root else { return };
        if !types(fields).contains(&"object") {
            let message = "not `object`: such data makes no columns in a warehouse";
            findings.warn(&format!("{}/type", self.at), message);
        }
        if self.strict && !fields.contains_key("description") {
            let message = "no `description`: readers of the registry do not learn what it is for";
            findings.warn(self.at, message);
        }
        self.walk(self.root, self.at, findings);
    }

    fn walk(&self, schema: &Value, pointer: &str, findings: &mut Findings) {
        let Value::Object(fields) = schema else { return };
        if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
            // Beside a reference nothing else counts.
            return check_reference(self.root, reference, pointer, findings);
        }
        check_keywords(fields, pointer, findings);
        check_types(fields, pointer, findings);
        check_required(fields, pointer, findings);
        if self.strict {
            check_style(fields, pointer, findings);
        }
        for (inner, at) in subschemas(fields, pointer) {
            self.walk(inner, &at, findings);
        }
    }
}

fn check_reference(root: &Value, reference: &str, pointer: &str, findings: &mut Findings) {
    let at = format!("{pointer}/$ref");
    match reference.strip_prefix('#') {
        None => findings.warn(
            &at,
            format!("`{reference}` is never fetched: everything obeys a reference elsewhere"),
        ),
        Some(local) if root.pointer(local).is_none() => {
            findings.error(&at, format!("`{reference}` leads nowhere in this schema"));
        }
        Some(_) => {}
    }
}

fn check_keywords(fields: &Map<String, Value>, pointer: &str, findings: &mut Findings) {
    for keyword in LATER.iter().filter(|keyword| fields.contains_key(**keyword)) {
        let message = format!("`{keyword}` is of a later draft of JSON Schema: it has no effect");
        findings.warn(&format!("{pointer}/{keyword}"), message);
    }
    for (low, high) in BOUNDS {
        let number = |keyword: &str| fields.get(keyword).and_then(Value::as_f64);
        if let (Some(low_value), Some(high_value)) = (number(low), number(high))
            && low_value > high_value
        {
            let message = format!("`{low}` is above `{high}`: nothing obeys both");
            findings.error(&format!("{pointer}/{low}"), message);
        }
    }
    if let Some(format) = fields.get("format").and_then(Value::as_str)
        && !formats::CHECKED.iter().any(|(known, _)| *known == format)
    {
        let known: Vec<&str> = formats::CHECKED.iter().map(|(known, _)| *known).collect();
        let message = format!("`{format}` is not checked: known are {}", known.join(", "));
        findings.warn(&format!("{pointer}/format"), message);
    }
    let named = fields.get("patternProperties").and_then(Value::as_object);
    let patterns = fields
        .get("pattern")
        .and_then(Value::as_str)
        .map(|pattern| (pattern, format!("{pointer}/pattern")))
        .into_iter()
        .chain(named.into_iter().flatten().map(|(pattern, _)| {
            (pattern.as_str(), format!("{pointer}/patternProperties/{}", escaped(pattern)))
        }));
    for (pattern, at) in patterns {
        if let Err(message) = Validator::check_pattern(pattern) {
            findings.error(&at, message);
        }
    }
}

fn check_types(fields: &Map<String, Value>, pointer: &str, findings: &mut Findings) {
    let types = types(fields);
    if types.is_empty() {
        return;
    }
    let has = |wanted: &str| {
        types.contains(&wanted) || (wanted == "number" && types.contains(&"integer"))
    };
    for (keyword, of) in OF_TYPE.iter().filter(|(keyword, _)| fields.contains_key(*keyword)) {
        if !has(of) {
            let message = format!(
                "`{keyword}` is about the type {of}, which is not among {}: it has no effect",
                types.join(", ")
            );
            findings.warn(&format!("{pointer}/{keyword}"), message);
        }
    }
    // Values of an enumeration that the type rules out.
    let members = fields.get("enum").and_then(Value::as_array).into_iter().flatten();
    for (place, member) in members.enumerate() {
        let found = validator::type_name(member);
        let is_allowed =
            types.contains(&found) || (found == "integer" && types.contains(&"number"));
        if !is_allowed {
            let message =
                format!("{member} can never be: its type is {found}, not {}", types.join(" or "));
            findings.warn(&format!("{pointer}/enum/{place}"), message);
        }
    }
}

fn check_required(fields: &Map<String, Value>, pointer: &str, findings: &mut Findings) {
    let required = fields.get("required").and_then(Value::as_array).into_iter().flatten();
    let properties = fields.get("properties").and_then(Value::as_object);
    let is_closed = fields.get("additionalProperties") == Some(&Value::Bool(false))
        && !fields.contains_key("patternProperties");
    for (place, name) in required.enumerate() {
        let Some(name) = name.as_str() else { continue };
        if properties.is_some_and(|properties| properties.contains_key(name)) {
            continue;
        }
        let at = format!("{pointer}/required/{place}");
        match is_closed {
            true => findings.error(
                &at,
                format!("`{name}` is required and not among the properties: nothing obeys both"),
            ),
            false => findings
                .warn(&at, format!("`{name}` is required, and the properties do not describe it")),
        }
    }
}

/// What Snowplow's own linter asks for, since columns are made of it.
fn check_style(fields: &Map<String, Value>, pointer: &str, findings: &mut Findings) {
    let has = |keyword: &str| fields.contains_key(keyword);
    let types = types(fields);
    if types.contains(&"string") && !has("maxLength") && !has("enum") && !has("format") {
        findings.warn(pointer, "a text without `maxLength`: its column has the greatest length");
    }
    let is_number = types.contains(&"integer") || types.contains(&"number");
    if is_number && !(has("minimum") && has("maximum")) && !has("enum") {
        findings.warn(
            pointer,
            "a number without `minimum` and `maximum`: its column has the greatest size",
        );
    }
    let Some(properties) = fields.get("properties").and_then(Value::as_object) else { return };
    let required = fields.get("required").and_then(Value::as_array);
    let is_required =
        |name: &str| required.is_some_and(|names| names.iter().any(|it| it.as_str() == Some(name)));
    for (name, property) in properties.iter().filter(|(name, _)| !is_required(name)) {
        let Value::Object(property) = property else { continue };
        let types = self::types(property);
        if !types.is_empty() && !types.contains(&"null") {
            let at = format!("{pointer}/properties/{}", escaped(name));
            findings.warn(&at, format!("`{name}` is optional, but must not be null"));
        }
    }
}

fn types(fields: &Map<String, Value>) -> Vec<&str> {
    match fields.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The schemas directly inside, with their pointers.
fn subschemas<'a>(fields: &'a Map<String, Value>, pointer: &str) -> Vec<(&'a Value, String)> {
    let mut inner = Vec::new();
    for (keyword, value) in fields {
        let at = format!("{pointer}/{keyword}");
        match (keyword.as_str(), value) {
            (
                "properties" | "patternProperties" | "definitions" | "dependencies",
                Value::Object(members),
            ) => inner.extend(
                members.iter().map(|(name, schema)| (schema, format!("{at}/{}", escaped(name)))),
            ),
            ("allOf" | "anyOf" | "oneOf" | "items", Value::Array(items)) => inner
                .extend(items.iter().enumerate().map(|(place, it)| (it, format!("{at}/{place}")))),
            ("items" | "additionalItems" | "additionalProperties" | "not", Value::Object(_)) => {
                inner.push((value, at));
            }
            _ => {}
        }
    }
    inner
}
