//! Every key of the configuration, from the structs that are read: its path, type, default and doc comment.
//!
//! The schema is derived from the same structs and attributes as the reading, so no key can be missing.

use serde_json::Value;

use super::cell;
use crate::config::Config;

/// The JSON schema of the whole tree.
pub(crate) fn schema() -> Value {
    schemars::schema_for!(Config).to_value()
}

/// One key, or one section of keys.
struct Entry {
    path: String,
    meaning: String,
    /// Type and default; none for a section.
    value: Option<(String, String)>,
}

const INTRODUCTION: &str = "\
# Configuration

Made from the code by `cargo xtask generate`; `snowmelt config reference` prints this page, and with `--json` the JSON
schema. `snowmelt config dump` shows the values in force, `snowmelt config check` says what is wrong.

Values come from the defaults, then from a TOML file (`--config FILE`), then from the environment, then from
`--set KEY=VALUE`; a later one wins. In the environment `collector.idle-timeout` would be
`SNOWMELT_COLLECTOR__IDLE_TIMEOUT`: two underscores are a dot, one is a hyphen. A duration is written `500ms`, `10s`,
`10m`, `365d`. One value is enough where a list is meant. An unknown key is refused.
";

/// The whole page.
pub(crate) fn markdown() -> String {
    let mut text = INTRODUCTION.to_owned();
    let schema = schema();
    let mut entries = Vec::new();
    collect(&schema, &schema, "", &mut entries);
    // Keys of the root come first; each section has a table of its own.
    entries.sort_by_key(|entry| section_of(entry).to_owned());
    let mut open = None;
    for entry in &entries {
        let section = section_of(entry);
        if open != Some(section) {
            open = Some(section);
            if !section.is_empty() {
                text.push_str(&format!("\n## {section}\n"));
            }
            if entry.value.is_none() {
                text.push_str(&format!("\n{}\n", entry.meaning));
            }
            text.push_str("\n| Key | Type | Default | Meaning |\n|---|---|---|---|\n");
        }
        if let Some((kind, default)) = &entry.value {
            let Entry { path, meaning, .. } = entry;
            text.push_str(&format!("| `{path}` | {kind} | {default} | {} |\n", cell(meaning)));
        }
    }
    text
}

fn section_of(entry: &Entry) -> &str {
    match entry.value {
        None => &entry.path,
        Some(_) => entry.path.rsplit_once('.').map_or("", |(section, _)| section),
    }
}

fn collect(root: &Value, object: &Value, path: &str, into: &mut Vec<Entry>) {
    let Some(properties) = object["properties"].as_object() else { return };
    for (name, property) in properties {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let resolved = resolve(root, property);
        let own = property["description"].as_str();
        let meaning = own.or(resolved["description"].as_str()).unwrap_or_default().to_owned();
        if resolved["properties"].is_object() {
            into.push(Entry { path: path.clone(), meaning, value: None });
            collect(root, resolved, &path, into);
        } else {
            let value = Some((kind_of(root, property), default_of(property)));
            into.push(Entry { path, meaning, value });
        }
    }
}

/// What a property is, behind a reference and an "or null".
fn resolve<'a>(root: &'a Value, property: &'a Value) -> &'a Value {
    let one = property["anyOf"].as_array().and_then(|of| of.iter().find(|it| it["type"] != "null"));
    let property = one.unwrap_or(property);
    match property["$ref"].as_str().and_then(|name| name.strip_prefix('#')) {
        Some(pointer) => root.pointer(pointer).unwrap_or(property),
        None => property,
    }
}

fn kind_of(root: &Value, property: &Value) -> String {
    let property = resolve(root, property);
    let kind = match &property["type"] {
        Value::Array(kinds) => kinds.iter().find(|it| *it != "null").unwrap_or(&Value::Null),
        kind => kind,
    };
    match (kind.as_str(), property["format"].as_str()) {
        (_, Some("duration")) => "duration".to_owned(),
        (_, Some("ip")) => "IP address".to_owned(),
        (Some("boolean"), _) => "true or false".to_owned(),
        (Some("integer"), _) => "number".to_owned(),
        (Some("array"), _) => format!("list of {}s", kind_of(root, &property["items"])),
        (Some("object"), _) => {
            format!("table of {}s", kind_of(root, &property["additionalProperties"]))
        }
        (Some("string"), _) if property["enum"].is_array() => {
            let words: Vec<String> = property["enum"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|it| format!("`{}`", it.as_str().unwrap_or_default()))
                .collect();
            words.join(", ")
        }
        (Some("string"), _) => "text".to_owned(),
        (other, _) => other.unwrap_or("value").to_owned(),
    }
}

fn default_of(property: &Value) -> String {
    match &property["default"] {
        Value::Null => "not set".to_owned(),
        Value::Array(values) if values.is_empty() => "none".to_owned(),
        Value::Object(values) if values.is_empty() => "none".to_owned(),
        Value::String(text) => format!("`{}`", cell(text)),
        value => format!("`{value}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    use crate::config::UNSET;

    fn keys_of_schema() -> BTreeSet<String> {
        let (schema, mut entries) = (schema(), Vec::new());
        collect(&schema, &schema, "", &mut entries);
        entries.into_iter().filter(|it| it.value.is_some()).map(|it| it.path).collect()
    }

    fn sections_of_schema() -> BTreeSet<String> {
        let (schema, mut entries) = (schema(), Vec::new());
        collect(&schema, &schema, "", &mut entries);
        entries.into_iter().filter(|it| it.value.is_none()).map(|it| it.path).collect()
    }

    fn keys_of_table(table: &toml::Table, path: &str, into: &mut BTreeSet<String>) {
        for (name, value) in table {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            match value {
                // An empty one is a value: a table that has no keys of ours.
                toml::Value::Table(table) if !table.is_empty() => {
                    keys_of_table(table, &path, into);
                }
                _ => drop(into.insert(path)),
            }
        }
    }

    #[test]
    fn every_key_of_the_tree_has_an_entry_and_the_other_way_round() {
        let mut dumped = BTreeSet::new();
        let tree = toml::Table::try_from(Config::default()).unwrap();
        keys_of_table(&tree, "", &mut dumped);
        // A section none of whose keys is set is an empty table too.
        let sections = sections_of_schema();
        dumped.retain(|key| !sections.contains(key));
        assert!(dumped.len() > 30, "{dumped:?}");
        dumped.extend(UNSET.iter().map(|(key, _)| (*key).to_owned()));
        assert_eq!(keys_of_schema(), dumped);
    }

    #[test]
    fn every_key_says_what_it_means_and_a_default_has_the_form_of_its_type() {
        let (schema, mut entries) = (schema(), Vec::new());
        collect(&schema, &schema, "", &mut entries);
        for Entry { path, meaning, value } in &entries {
            assert!(meaning.len() > 5, "`{path}` has no doc comment");
            let Some((kind, default)) = value else { continue };
            let default = default.trim_matches('`');
            if kind == "duration" {
                assert!(model::duration::parse(default).is_ok(), "`{path}` = {default}");
            }
            assert!(!default.starts_with('{'), "`{path}` = {default}: a type of its own?");
        }
        assert!(schema["properties"]["batch"].is_object());
    }
}
