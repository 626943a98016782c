//! Local schemas of the data-driven tests, from a folder laid out as `vendor/name/format/version`.

use std::path::Path;

use enrich::iglu::Schemas;
use model::iglu::SchemaKey;
use serde_json::Value;

/// The embedded schemas and those of a folder.
pub(crate) fn schemas_below(folder: &Path) -> Schemas {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let schema: Value =
                serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
            let this = &schema["self"];
            let part = |name: &str| this[name].as_str().unwrap().to_owned();
            let key = format!(
                "iglu:{}/{}/{}/{}",
                part("vendor"),
                part("name"),
                part("format"),
                part("version")
            );
            found.push((SchemaKey::parse(&key).unwrap(), schema));
        }
    }
    Schemas::embedded().with_local(found)
}
