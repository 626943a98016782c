//! What is wrong with a schema before any event names it, told with line and column.
//!
//! For `snowmelt schema lint`. Errors are what makes enrich refuse the schema, or all data; warnings are what does not
//! mean what its author thinks. The rules of single keywords are in `rules`; what a registry's place has to do with it is
//! looked at by the caller, who knows the place.

mod lines;
mod rules;

use std::fmt;

use model::iglu::{SchemaKey, Version};
use serde_json::Value;

use lines::Lines;
pub use lines::Place;

use super::superseding;
use super::validator::Validator;

/// What `$schema` of an Iglu schema says.
const META: &str =
    "http://iglucentral.com/schemas/com.snowplowanalytics.self-desc/schema/jsonschema/1-0-0#";

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The schema cannot be used, or nothing can obey it.
    Error,
    /// It can be used, and may not mean what it seems to.
    Warning,
}

/// One thing that is wrong with a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub place: Place,
    pub severity: Severity,
    /// A JSON pointer to what it is about; empty for the whole schema.
    pub pointer: String,
    pub message: String,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

/// What the caller knows, and what it wants to know.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// The key that the schema's place in a registry stands for.
    pub key: Option<&'a SchemaKey>,
    /// Also tells of what Snowplow's own linter calls style: texts and numbers without bounds, optional properties that
    /// may not be null, missing descriptions.
    pub strict: bool,
}

/// Findings so far, by pointer.
#[derive(Debug, Default)]
struct Findings(Vec<(String, Severity, String)>);

impl Findings {
    fn error(&mut self, pointer: &str, message: impl Into<String>) {
        self.0.push((pointer.to_owned(), Severity::Error, message.into()));
    }

    fn warn(&mut self, pointer: &str, message: impl Into<String>) {
        self.0.push((pointer.to_owned(), Severity::Warning, message.into()));
    }
}

/// Reads a schema, or an array of schemas, and tells what is wrong, in the order of the lines.
pub fn lint(text: &str, options: Options<'_>) -> Vec<Finding> {
    let schema: Value = match serde_json::from_str(text) {
        Ok(schema) => schema,
        Err(error) => {
            let place = Place { line: error.line().max(1), column: error.column().max(1) };
            // The parser repeats the place in its text.
            let message = error.to_string();
            let message = message.split(" at line ").next().unwrap_or_default();
            return vec![Finding {
                place,
                severity: Severity::Error,
                pointer: String::new(),
                message: format!("no JSON: {message}"),
            }];
        }
    };
    let lines = Lines::of(text);
    let mut findings = Findings::default();
    match &schema {
        Value::Array(schemas) if !schemas.is_empty() => {
            for (place, schema) in schemas.iter().enumerate() {
                check(
                    schema,
                    &format!("/{place}"),
                    Options { key: None, ..options },
                    &mut findings,
                );
            }
        }
        schema => check(schema, "", options, &mut findings),
    }
    let finding = |(pointer, severity, message): (String, Severity, String)| Finding {
        place: lines.place(&pointer),
        severity,
        pointer,
        message,
    };
    let mut findings: Vec<Finding> = findings.0.into_iter().map(finding).collect();
    findings.extend(lines.doubled.iter().map(|(pointer, place)| Finding {
        place: *place,
        severity: Severity::Error,
        pointer: pointer.clone(),
        message: "this key stands here a second time: only one of both counts".to_owned(),
    }));
    findings
        .sort_by(|a, b| (a.place, &a.pointer, &a.message).cmp(&(b.place, &b.pointer, &b.message)));
    findings
}

/// Looks at one schema, which stands at `pointer`.
fn check(schema: &Value, pointer: &str, options: Options<'_>, findings: &mut Findings) {
    if !schema.is_object() {
        return findings.error(pointer, "a schema is an object");
    }
    check_itself(schema, pointer, options.key, findings);
    let problems = Validator::problems(schema);
    for (inner, message) in &problems {
        findings.error(&format!("{pointer}{inner}"), message.as_str());
    }
    // What the meta schema refuses need not have the form that the rules read.
    if problems.is_empty() {
        rules::Rules { root: schema, at: pointer, strict: options.strict }.check(findings);
    }
}

/// What the schema says of itself: who it is, of which kind, and what supersedes it.
fn check_itself(schema: &Value, pointer: &str, key: Option<&SchemaKey>, findings: &mut Findings) {
    let at = |keyword: &str| format!("{pointer}/{keyword}");
    match schema.get("$schema").and_then(Value::as_str) {
        Some(found) if found.trim_end_matches('#') == META.trim_end_matches('#') => {}
        Some(_) => {
            let message = format!("not Iglu's: it is read as `{META}` all the same");
            findings.warn(&at("$schema"), message);
        }
        None => findings.warn(pointer, format!("no `$schema`: it should be `{META}`")),
    }
    let Some(itself) = schema.get("self").and_then(Value::as_object) else {
        let message = "no `self`: an object of vendor, name, format and version";
        return findings.error(&at("self"), message);
    };
    let part = |name: &str| itself.get(name).and_then(Value::as_str);
    let names = ["vendor", "name", "format", "version"];
    let missing: Vec<&str> = names.into_iter().filter(|name| part(name).is_none()).collect();
    if !missing.is_empty() {
        let message = format!("without {}, which is to be a text each", missing.join(", "));
        return findings.error(&at("self"), message);
    }
    let uri = format!("iglu:{}", names.map(|name| part(name).unwrap_or_default()).join("/"));
    let found = match SchemaKey::parse(&uri) {
        Ok(found) => found,
        Err(reason) => return findings.error(&at("self"), format!("{uri}: {}", reason.words())),
    };
    if let Some(key) = key.filter(|key| **key != found) {
        let message = format!("it says {found}, but it lies where {key} belongs");
        findings.error(&at("self"), message);
    }
    if let Err(error) = superseding(&found, schema) {
        findings.error(&at("$supersededBy"), error.message.unwrap_or(error.error));
    }
}

/// What is missing in the versions of one schema: each begins at 1-0-0, and no step is left out.
pub fn missing_versions(versions: &[Version]) -> Vec<Version> {
    let mut sorted = versions.to_vec();
    sorted.sort();
    sorted.dedup();
    let version = |model: u32, revision: u32, addition: u32| {
        Version::parse(&format!("{model}-{revision}-{addition}")).ok()
    };
    let (mut missing, mut before) = (Vec::new(), None::<Version>);
    for found in sorted {
        let expected = match before {
            None => version(1, 0, 0),
            Some(it) if (it.model(), it.revision()) == (found.model(), found.revision()) => {
                version(it.model(), it.revision(), it.addition() + 1)
            }
            Some(it) if it.model() == found.model() => version(it.model(), it.revision() + 1, 0),
            Some(it) => version(it.model() + 1, 0, 0),
        };
        // Of a longer gap the first step stands for all.
        missing.extend(expected.filter(|expected| *expected != found));
        before = Some(found);
    }
    missing
}

#[cfg(test)]
mod tests;
