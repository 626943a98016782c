//! The findings of a validator in Snowplow's words: message, path, keyword, targets.
//!
//! Made by [`super::validator`] for data that does not obey its schema, and for schemas that are none. The texts for
//! missing and additional properties and for types are Snowplow's own; the others have its form.
//! Snowplow: enrich-core.md 4.7.

use std::fmt::Write as _;

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use jsonschema::paths::Location;
use model::bad_row::{DataReport, SchemaIssue};
use serde_json::Value;

use super::validator::type_name;

/// One report for each finding, sorted by path, keyword, targets and message, without doubles.
pub(super) fn data_reports<'a>(
    data: &Value,
    errors: impl IntoIterator<Item = ValidationError<'a>>,
) -> Vec<DataReport> {
    let mut reports = Vec::new();
    for error in errors {
        add(data, &error, &mut reports);
    }
    let order = |report: &DataReport| {
        (
            report.path.clone(),
            report.keyword.clone(),
            report.targets.clone(),
            report.message.clone(),
        )
    };
    reports.sort_by_cached_key(order);
    reports.dedup();
    reports
}

/// The same for a schema that the meta schema refuses, or that cannot be compiled.
pub(super) fn schema_issues<'a>(
    schema: &Value,
    errors: impl IntoIterator<Item = ValidationError<'a>>,
) -> Vec<SchemaIssue> {
    let mut issues: Vec<SchemaIssue> = data_reports(schema, errors)
        .into_iter()
        .map(|report| SchemaIssue {
            path: report.path.unwrap_or_default(),
            message: report.message,
        })
        .collect();
    issues.sort_by(|left, right| (&left.path, &left.message).cmp(&(&right.path, &right.message)));
    issues.dedup();
    issues
}

/// A JSON value as it stands in the texts: strings without quotes, lists as `[a, b]`.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(members) => {
            format!("[{}]", members.iter().map(plain).collect::<Vec<_>>().join(", "))
        }
        value => value.to_string(),
    }
}

fn add(data: &Value, error: &ValidationError<'_>, reports: &mut Vec<DataReport>) {
    let path = path_text(data, error.instance_path());
    let mut push = |keyword: &str, at: &str, text: &str, targets: &[&str]| {
        reports.push(DataReport {
            message: format!("{at}: {text}"),
            path: Some(path.clone()),
            keyword: Some(keyword.to_owned()),
            targets: targets.iter().map(|target| (*target).to_owned()).collect(),
        });
    };
    let value = found(data, error.instance_path());
    let found = value.map_or("unknown", type_name);
    let limited = |keyword: &'static str, before: &str, limit: String, after: &str| {
        (keyword, format!("{before}{limit}{after}"), vec![limit])
    };
    let (keyword, text, targets) = match error.kind() {
        Kind::Required { property } => {
            let name = plain(property);
            let at = format!("{path}.{name}");
            // `dependencies` with a list of names ends here too.
            let keyword = if last_segment(error.schema_path()) == "required" {
                "required"
            } else {
                "dependencies"
            };
            return push(keyword, &at, "is missing but it is required", &[&name]);
        }
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            for name in unexpected {
                let text = "is not defined in the schema and the schema does not allow additional properties";
                push("additionalProperties", &format!("{path}.{name}"), text, &[name]);
            }
            return;
        }
        Kind::AdditionalItems { limit } => {
            let at = format!("{path}[{limit}]");
            return push(
                "additionalItems",
                &at,
                "no validator found at this index",
                &[&limit.to_string()],
            );
        }
        // Each branch that could have held says why it does not.
        Kind::AnyOf { context } | Kind::OneOfNotValid { context }
            if context.iter().any(|branch| !branch.is_empty()) =>
        {
            return context.iter().flatten().for_each(|inner| add(data, inner, reports));
        }
        Kind::AnyOf { .. } => ("anyOf", "should be valid to any of the schemas".to_owned(), vec![]),
        Kind::OneOfNotValid { .. } | Kind::OneOfMultipleValid { .. } => {
            ("oneOf", "should be valid to one and only one of the schemas".to_owned(), vec![])
        }
        Kind::Custom { keyword: _, message: expected } => {
            if expected.starts_with('[') {
                let text = format!("{found} found, {expected} is required");
                ("unionType", text, vec![found.to_owned(), expected.clone()])
            } else {
                (
                    "type",
                    format!("{found} found, {expected} expected"),
                    vec![found.to_owned(), expected.clone()],
                )
            }
        }
        // Only the meta schema has the crate's own `type`.
        Kind::Type { kind } => {
            let expected = match kind {
                TypeKind::Single(expected) => expected.to_string(),
                TypeKind::Multiple(expected) => {
                    let names: Vec<String> =
                        expected.iter().map(|expected| expected.to_string()).collect();
                    format!("[{}]", names.join(", "))
                }
            };
            return push(
                "type",
                &path,
                &format!("{found} found, {expected} expected"),
                &[found, &expected],
            );
        }
        Kind::Format { format } => {
            let value = value.map(plain).unwrap_or_default();
            let keyword = match format.as_str() {
                "date" | "date-time" => "dateTime",
                "uuid" => "uuid",
                _ => {
                    let text = format!("does not match the {format} pattern");
                    return push("format", &path, &text, &[format]);
                }
            };
            (keyword, format!("{value} is an invalid {format}"), vec![value, format.clone()])
        }
        Kind::Enum { options } => {
            limited("enum", "does not have a value in the enumeration ", plain(options), "")
        }
        Kind::MaxLength { limit } => {
            limited("maxLength", "may only be ", limit.to_string(), " characters long")
        }
        Kind::MinLength { limit } => {
            limited("minLength", "must be at least ", limit.to_string(), " characters long")
        }
        Kind::Maximum { limit } | Kind::ExclusiveMaximum { limit } => {
            limited("maximum", "must have a maximum value of ", limit.to_string(), "")
        }
        Kind::Minimum { limit } | Kind::ExclusiveMinimum { limit } => {
            limited("minimum", "must have a minimum value of ", limit.to_string(), "")
        }
        Kind::MaxItems { limit } => limited(
            "maxItems",
            "there must be a maximum of ",
            limit.to_string(),
            " items in the array",
        ),
        Kind::MinItems { limit } => limited(
            "minItems",
            "there must be a minimum of ",
            limit.to_string(),
            " items in the array",
        ),
        Kind::MaxProperties { limit } => limited(
            "maxProperties",
            "may only have a maximum of ",
            limit.to_string(),
            " properties",
        ),
        Kind::MinProperties { limit } => {
            limited("minProperties", "should have a minimum of ", limit.to_string(), " properties")
        }
        Kind::MultipleOf { multiple_of } => {
            limited("multipleOf", "must be multiple of ", multiple_of.to_string(), "")
        }
        Kind::Pattern { pattern } => {
            limited("pattern", "does not match the regex pattern ", pattern.clone(), "")
        }
        Kind::BacktrackLimitExceeded { .. } | Kind::RegexEngineFailure { .. } => (
            "pattern",
            "cannot be matched against the regex pattern within its limits".to_owned(),
            vec![],
        ),
        Kind::Not { schema } => {
            limited("not", "should not be valid to the schema ", schema.to_string(), "")
        }
        Kind::UniqueItems => {
            ("uniqueItems", "the items in the array must be unique".to_owned(), vec![])
        }
        Kind::Referencing(_) => ("$ref", "has a reference that leads nowhere".to_owned(), vec![]),
        // Keywords of later drafts, which draft 4 ignores.
        kind @ (Kind::Constant { .. }
        | Kind::Contains
        | Kind::ContentEncoding { .. }
        | Kind::ContentMediaType { .. }
        | Kind::FalseSchema
        | Kind::FromUtf8 { .. }
        | Kind::PropertyNames { .. }
        | Kind::UnevaluatedItems { .. }) => (kind_keyword(kind), error.to_string(), vec![]),
    };
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    push(keyword, &path, &text, &targets);
}

fn kind_keyword(kind: &Kind) -> &'static str {
    match kind {
        Kind::Constant { .. } => "const",
        Kind::Contains => "contains",
        Kind::PropertyNames { .. } => "propertyNames",
        _ => "schema",
    }
}

/// `$`, `$.a.b`, `$[0].x`.
fn path_text(data: &Value, location: &Location) -> String {
    let mut text = "$".to_owned();
    let mut at = Some(data);
    for segment in segments(location) {
        match at {
            Some(Value::Array(_)) => write!(text, "[{segment}]"),
            _ => write!(text, ".{segment}"),
        }
        .expect("a String takes all text");
        at = step(at, &segment);
    }
    text
}

/// The part of the data that a location names.
fn found<'a>(data: &'a Value, location: &Location) -> Option<&'a Value> {
    segments(location).try_fold(data, |at, segment| step(Some(at), &segment))
}

fn step<'a>(at: Option<&'a Value>, segment: &str) -> Option<&'a Value> {
    match at? {
        Value::Array(items) => items.get(segment.parse::<usize>().ok()?),
        Value::Object(members) => members.get(segment),
        _ => None,
    }
}

/// The parts of a JSON pointer. Not the crate's own iterator: it takes a property named `0` for an index and loses one
/// with an empty name.
fn segments(location: &Location) -> impl Iterator<Item = String> {
    location.as_str().split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~"))
}

fn last_segment(location: &Location) -> &str {
    location.as_str().rsplit('/').next().unwrap_or_default()
}
