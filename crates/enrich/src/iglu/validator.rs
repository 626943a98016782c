//! One compiled schema: draft 4 with the habits of the validator that Snowplow runs.
//!
//! Made by [`super::Schemas`] at the first use of a schema. The `jsonschema` crate does the work; here is what differs
//! from its defaults: integers are decided by spelling, `nullable`, the list of formats, references that are never
//! fetched. How findings are worded is in [`super::report`].
//!
//! Known difference: patterns are read as ECMA 262 regular expressions with the extensions of `fancy-regex`, not as
//! Java ones, so a `$` does not match before a last line break, and `\h` or `\p{javaLowerCase}` make the schema invalid.

use std::error::Error;

use jsonschema::paths::Location;
use jsonschema::{
    Draft, Keyword, PatternOptions, Retrieve, Uri, ValidationError, ValidationOptions,
};
use model::bad_row::{DataReport, SchemaIssue};
use serde_json::{Map, Value};

use super::quick::Quick;
use super::{formats, report};
use crate::tape::Item;

/// Steps that one match of a pattern may go back; beyond them the text counts as not matching.
const BACKTRACK_LIMIT: usize = 100_000;

/// Bytes that one compiled pattern may take.
const PATTERN_BYTES_MAX: usize = 4 << 20;

pub(super) struct Validator {
    full: jsonschema::Validator,
    quick: Option<Box<Quick>>,
}

impl Validator {
    /// Checks a schema against the draft 4 meta schema, and compiles it.
    ///
    /// # Errors
    /// What is wrong with the schema: at least one issue, sorted by path and message.
    pub(super) fn compile(schema: &Value) -> Result<Validator, Vec<SchemaIssue>> {
        let meta = jsonschema::draft4::meta::validator();
        let issues: Vec<_> = meta.iter_errors(schema).collect();
        if !issues.is_empty() {
            return Err(report::schema_issues(schema, issues));
        }
        let prepared = prepare(schema);
        let full = options().build(&prepared).map_err(|error| {
            vec![SchemaIssue { path: "$".to_owned(), message: error.to_string() }]
        })?;
        Ok(Validator { full, quick: Quick::compile(&prepared).map(Box::new) })
    }

    /// What is wrong with a schema, each with a JSON pointer to its place in it; nothing if it compiles.
    pub(super) fn problems(schema: &Value) -> Vec<(String, String)> {
        let meta = jsonschema::draft4::meta::validator();
        let mut problems: Vec<(String, String)> = meta
            .iter_errors(schema)
            .flat_map(|error| {
                let pointer = error.instance_path().as_str().to_owned();
                // The meta schema says of a pattern only that it is none.
                let pattern = schema.pointer(&pointer).and_then(Value::as_str);
                let pattern = pattern.filter(|_| pointer.ends_with("/pattern"));
                if let Some(Err(message)) = pattern.map(Validator::check_pattern) {
                    return vec![(pointer, message)];
                }
                let reports = report::data_reports(schema, [error]);
                reports.into_iter().map(|report| (pointer.clone(), report.message)).collect()
            })
            .collect();
        problems.sort();
        problems.dedup();
        problems
    }

    /// Whether a pattern can be matched against.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check_pattern(pattern: &str) -> Result<(), String> {
        match options().build(&serde_json::json!({ "pattern": pattern })) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("`{pattern}` is no pattern: {error}")),
        }
    }

    /// What is wrong with the data: nothing, if it obeys. Sorted, without doubles.
    pub(super) fn validate(&self, data: &Value) -> Vec<DataReport> {
        if self.full.is_valid(data) {
            return Vec::new();
        }
        report::data_reports(data, self.full.iter_errors(data))
    }

    /// Whether data surely obeys; if not, [`Validator::validate`] knows. No key stands twice in an object of it.
    pub(super) fn surely_allows(&self, data: Item<'_, '_>) -> bool {
        self.quick.as_ref().is_some_and(|quick| quick.allows(data))
    }
}

pub(super) fn options() -> ValidationOptions<'static> {
    let patterns = PatternOptions::fancy_regex()
        .backtrack_limit(BACKTRACK_LIMIT)
        .size_limit(PATTERN_BYTES_MAX)
        .dfa_size_limit(PATTERN_BYTES_MAX);
    let options = jsonschema::options()
        .with_draft(Draft::Draft4)
        .should_validate_formats(true)
        .with_pattern_options(patterns)
        .with_retriever(NeverFetched)
        .with_keyword("type", type_keyword);
    let options = formats::CHECKED
        .iter()
        .fold(options, |options, (name, check)| options.with_format(*name, check));
    formats::UNKNOWN
        .iter()
        .fold(options, |options, name| options.with_format(*name, |_: &str| true))
}

/// A reference to another document stands for the schema that everything obeys. Snowplow: enrich-core.md 4.7.
struct NeverFetched;

impl Retrieve for NeverFetched {
    fn retrieve(&self, _uri: &Uri<String>) -> Result<Value, Box<dyn Error + Send + Sync>> {
        Ok(Value::Object(Map::new()))
    }
}

/// A schema as it is compiled: without what only names it, and with references to other documents taken out, also those
/// that point into the middle of one.
fn prepare(schema: &Value) -> Value {
    let Value::Object(schema) = schema else {
        return schema.clone();
    };
    let elsewhere =
        |reference: &Value| reference.as_str().is_some_and(|text| !text.starts_with('#'));
    if schema.get("$ref").is_some_and(elsewhere) {
        return Value::Object(Map::new());
    }
    let mut prepared = Map::with_capacity(schema.len());
    for (keyword, value) in schema {
        let value = match (keyword.as_str(), value) {
            // `id` moves the base of references; without one, `#/…` is always this document.
            ("$schema" | "self" | "$supersededBy", _) => continue,
            ("id", Value::String(id)) if !id.starts_with('#') => continue,
            (
                "properties" | "patternProperties" | "definitions" | "dependencies",
                Value::Object(schemas),
            ) => schemas.iter().map(|(name, schema)| (name.clone(), prepare(schema))).collect(),
            ("allOf" | "anyOf" | "oneOf" | "items", Value::Array(schemas)) => {
                schemas.iter().map(prepare).collect()
            }
            ("items" | "additionalItems" | "additionalProperties" | "not", Value::Object(_)) => {
                prepare(value)
            }
            ("enum", Value::Array(members)) if is_nullable(schema) => {
                members.iter().cloned().chain([Value::Null]).collect()
            }
            _ => value.clone(),
        };
        prepared.insert(keyword.clone(), value);
    }
    Value::Object(prepared)
}

fn is_nullable(schema: &Map<String, Value>) -> bool {
    schema.get("nullable") == Some(&Value::Bool(true))
}

/// The seven types of draft 4.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Array,
    Boolean,
    Integer,
    Null,
    Number,
    Object,
    String,
}

impl Type {
    fn parse(name: &str) -> Option<Type> {
        Some(match name {
            "array" => Type::Array,
            "boolean" => Type::Boolean,
            "integer" => Type::Integer,
            "null" => Type::Null,
            "number" => Type::Number,
            "object" => Type::Object,
            "string" => Type::String,
            _ => return None,
        })
    }

    fn of(value: &Value) -> Type {
        match value {
            Value::Null => Type::Null,
            Value::Bool(_) => Type::Boolean,
            Value::Number(number) => {
                // By spelling: digits alone, however many, are an integer; `1.0`, `1E2` and a negative zero are not.
                let text = number.as_str();
                let is_integer = text != "-0" && !text.contains(['.', 'e', 'E']);
                if is_integer { Type::Integer } else { Type::Number }
            }
            Value::String(_) => Type::String,
            Value::Array(_) => Type::Array,
            Value::Object(_) => Type::Object,
        }
    }
}

/// The name of a value's type, as reports give it.
pub(super) fn type_name(value: &Value) -> &'static str {
    match Type::of(value) {
        Type::Array => "array",
        Type::Boolean => "boolean",
        Type::Integer => "integer",
        Type::Null => "null",
        Type::Number => "number",
        Type::Object => "object",
        Type::String => "string",
    }
}

/// The keyword `type`, instead of the crate's own.
struct Types {
    allowed: Vec<Type>,
    /// As reports give it: `string`, or `[string, null]` where the schema has a list.
    expected: String,
}

fn type_keyword<'a>(
    schema: &'a Map<String, Value>,
    types: &'a Value,
    _path: Location,
) -> Result<Box<dyn for<'i> Keyword<'i>>, ValidationError<'a>> {
    let unknown = || ValidationError::custom(format!("{types} names no type"));
    let parse = |name: &Value| name.as_str().and_then(Type::parse).ok_or_else(unknown);
    let mut allowed = match types {
        Value::Array(names) => names.iter().map(parse).collect::<Result<Vec<_>, _>>()?,
        name => vec![parse(name)?],
    };
    if is_nullable(schema) {
        allowed.push(Type::Null);
    }
    Ok(Box::new(Types { allowed, expected: report::plain(types) }))
}

impl<'i> Keyword<'i> for Types {
    fn validate(&self, instance: &'i Value) -> Result<(), ValidationError<'i>> {
        if self.is_valid(instance) {
            return Ok(());
        }
        // The report needs both types; the crate adds the keyword and the path.
        Err(ValidationError::custom(self.expected.clone()))
    }

    fn is_valid(&self, instance: &'i Value) -> bool {
        let found = Type::of(instance);
        self.allowed.iter().any(|allowed| {
            *allowed == found || (*allowed == Type::Number && found == Type::Integer)
        })
    }
}
