//! Where the schemas of a recipe come from, besides those embedded in the binary.
//!
//! Asked when a recipe is made: at the start, and at every iteration. Folders of files are the one such registry; the
//! simulator has its own. Not here: how two registries of one recipe are ordered, see [`enrich::iglu::Schemas`]; and
//! registries on the network, which cannot list what they have, see [`crate::ask`].

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::files::Files;
use model::iglu::SchemaKey;
use serde_json::Value;

use crate::Error;

/// A source of Iglu schemas that can list all it has.
pub trait Registry: Send + Sync + Debug {
    /// Every schema, each key once, sorted by key. Blocking.
    fn schemas(&self) -> Result<Vec<(SchemaKey, Value)>, Error>;
}

/// Folders laid out as `vendor/name/format/version`, the way static Iglu registries are.
///
/// In a folder that has a folder `schemas`, only that one is read (a checkout of a registry has other things beside
/// it). Names that start with a dot are skipped, and so are formats other than `jsonschema`. A file above the level of
/// the versions is skipped with a warning, and so is an editor's backup of a schema. Where two folders have one key, the
/// first folder's schema counts.
///
/// In place of a folder there may be one JSON file: a schema or an array of schemas, each under the key that its `self`
/// says. That is what Iglu Server exports.
#[derive(Debug)]
pub struct Folders {
    files: Arc<dyn Files>,
    folders: Vec<PathBuf>,
}

/// The only format that can be validated with.
const FORMAT: &str = "jsonschema";

impl Folders {
    /// Reads nothing yet. Without folders, there are no schemas.
    pub fn new(files: Arc<dyn Files>, folders: Vec<PathBuf>) -> Folders {
        Folders { files, folders }
    }

    fn read(&self, root: &Path, into: &mut BTreeMap<SchemaKey, Value>) -> Result<(), Error> {
        let inner = root.join("schemas");
        // The root must be there; its folder `schemas` need not be.
        if self.names(root)?.is_none() {
            return self.read_file(root, into);
        }
        let root = if self.is_folder(&inner)? { inner } else { root.to_owned() };
        for vendor in self.folders_in(&root)? {
            for name in self.folders_in(&vendor)? {
                for format in self.folders_in(&name)? {
                    if format.file_name().is_some_and(|format| format == FORMAT) {
                        self.read_versions(&root, &format, into)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// A file with all schemas of a registry.
    fn read_file(&self, path: &Path, into: &mut BTreeMap<SchemaKey, Value>) -> Result<(), Error> {
        let content = self.files.read(path).map_err(|source| unreadable(path, source))?;
        let content: Value = serde_json::from_slice(&content)
            .map_err(|source| Error::NotJson { path: path.to_owned(), source })?;
        let schemas = match content {
            Value::Array(schemas) => schemas,
            schema => vec![schema],
        };
        for (place, schema) in schemas.into_iter().enumerate() {
            let key = key_of_self(&schema)
                .ok_or_else(|| Error::NoSelf { path: path.to_owned(), place: place + 1 })?;
            if key.format() == FORMAT {
                into.entry(key).or_insert(schema);
            }
        }
        Ok(())
    }

    fn read_versions(
        &self,
        root: &Path,
        format: &Path,
        into: &mut BTreeMap<SchemaKey, Value>,
    ) -> Result<(), Error> {
        for version in self.names(format)?.unwrap_or_default() {
            let path = format.join(&version);
            if is_backup(&version) {
                tracing::warn!(file = %path.display(), "skip what an editor left beside a schema");
                continue;
            }
            let key = key_of(root, &path)?;
            let content = self.files.read(&path).map_err(|source| unreadable(&path, source))?;
            let schema: Value = serde_json::from_slice(&content)
                .map_err(|source| Error::NotJson { path: path.clone(), source })?;
            expect_self(&key, &schema).map_err(|found| Error::OtherSchema {
                path: path.clone(),
                place: key.to_string(),
                found,
            })?;
            into.entry(key).or_insert(schema);
        }
        Ok(())
    }

    /// The folders in a folder; files beside them are told about.
    fn folders_in(&self, dir: &Path) -> Result<Vec<PathBuf>, Error> {
        let mut folders = Vec::new();
        for name in self.names(dir)?.unwrap_or_default() {
            let path = dir.join(name);
            if self.is_folder(&path)? {
                folders.push(path);
            } else {
                tracing::warn!(file = %path.display(), "skip a file that is no schema: schemas lie at vendor/name/jsonschema/1-0-0");
            }
        }
        Ok(folders)
    }

    fn is_folder(&self, path: &Path) -> Result<bool, Error> {
        match self.names(path) {
            Ok(names) => Ok(names.is_some()),
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The names in a folder, sorted, those with a leading dot left out; none if this is a file.
    fn names(&self, dir: &Path) -> Result<Option<Vec<String>>, Error> {
        match self.files.list(dir) {
            Ok(mut names) => {
                names.retain(|name| !name.starts_with('.'));
                names.sort();
                Ok(Some(names))
            }
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(None),
            Err(source) => Err(unreadable(dir, source)),
        }
    }
}

impl Registry for Folders {
    fn schemas(&self) -> Result<Vec<(SchemaKey, Value)>, Error> {
        let mut schemas = BTreeMap::new();
        for folder in &self.folders {
            self.read(folder, &mut schemas)?;
        }
        Ok(schemas.into_iter().collect())
    }
}

fn unreadable(path: &Path, source: io::Error) -> Error {
    Error::Io { action: "read the schema folder", path: path.to_owned(), source }
}

/// Whether an editor or a merge left a file of this name beside the one that it is about.
fn is_backup(name: &str) -> bool {
    const ENDINGS: [&str; 6] = ["~", "#", ".bak", ".orig", ".rej", ".swp"];
    ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// The key that a file's place stands for.
fn key_of(root: &Path, path: &Path) -> Result<SchemaKey, Error> {
    let place = path.strip_prefix(root).unwrap_or(path);
    let parts: Vec<_> = place.iter().map(|part| part.to_string_lossy()).collect();
    SchemaKey::parse(&format!("iglu:{}", parts.join("/")))
        .map_err(|source| Error::Misplaced { path: path.to_owned(), source })
}

/// The key that a schema says is its own.
fn key_of_self(schema: &Value) -> Option<SchemaKey> {
    let part = |name: &str| schema["self"][name].as_str();
    let (vendor, name, format) = (part("vendor")?, part("name")?, part("format")?);
    SchemaKey::parse(&format!("iglu:{vendor}/{name}/{format}/{}", part("version")?)).ok()
}

/// A schema that was copied to a new version without its `self` being changed would validate under a wrong name.
///
/// # Errors
/// What its `self` says instead.
pub(crate) fn expect_self(key: &SchemaKey, schema: &Value) -> Result<(), String> {
    let version = key.version().to_string();
    let parts = [
        ("vendor", key.vendor()),
        ("name", key.name()),
        ("format", key.format()),
        ("version", &version),
    ];
    let is_as_expected = parts.iter().all(|(part, expected)| {
        schema["self"][*part].as_str().is_some_and(|found| found == *expected)
    });
    if is_as_expected {
        return Ok(());
    }
    Err(match schema.get("self") {
        Some(found) => found.to_string(),
        None => "nothing".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;
    use stream::disk::Disk;
    use tempfile::TempDir;

    use super::*;

    fn put(root: &Path, path: &str, content: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn schema(vendor: &str, name: &str, version: &str, note: u32) -> String {
        let itself =
            json!({"vendor": vendor, "name": name, "format": "jsonschema", "version": version});
        json!({"self": itself, "maxLength": note}).to_string()
    }

    fn read(folders: &[&Path]) -> Result<Vec<(String, u64)>, Error> {
        let folders = folders.iter().map(|folder| (*folder).to_owned()).collect();
        let schemas = Folders::new(Arc::new(Disk), folders).schemas()?;
        let note = |schema: &Value| schema["maxLength"].as_u64().unwrap();
        Ok(schemas.iter().map(|(key, schema)| (key.path().to_owned(), note(schema))).collect())
    }

    #[test]
    fn a_folder_is_read_by_vendor_name_format_and_version() {
        let folder = TempDir::new().unwrap();
        put(
            folder.path(),
            "org.example/b/jsonschema/10-0-0",
            &schema("org.example", "b", "10-0-0", 1),
        );
        put(
            folder.path(),
            "org.example/b/jsonschema/9-0-0",
            &schema("org.example", "b", "9-0-0", 2),
        );
        put(
            folder.path(),
            "org.example/a/jsonschema/1-0-0",
            &schema("org.example", "a", "1-0-0", 3),
        );
        put(folder.path(), "org.example/a/thrift/1-0-0", "struct A {}");
        put(folder.path(), "org.example/a/jsonschema/.1-0-0.swp", "not json");
        put(folder.path(), "org.example/a/jsonschema/1-0-0~", "not json");
        put(folder.path(), "org.example/a/jsonschema/1-0-0.orig", "not json");
        put(folder.path(), ".git/a/b/c", "not json");
        put(folder.path(), "README.md", "# Ours");
        let found = read(&[folder.path()]).unwrap();
        let expected = [
            ("org.example/a/jsonschema/1-0-0", 3),
            ("org.example/b/jsonschema/9-0-0", 2),
            ("org.example/b/jsonschema/10-0-0", 1),
        ];
        assert_eq!(found, expected.map(|(path, note)| (path.to_owned(), note)));
    }

    #[test]
    fn in_a_checkout_only_the_folder_schemas_is_read() {
        let folder = TempDir::new().unwrap();
        put(
            folder.path(),
            "schemas/org.example/a/jsonschema/1-0-0",
            &schema("org.example", "a", "1-0-0", 1),
        );
        put(folder.path(), "ci/a/jsonschema/script", "not json");
        assert_eq!(
            read(&[folder.path()]).unwrap(),
            [("org.example/a/jsonschema/1-0-0".to_owned(), 1)]
        );
    }

    #[test]
    fn of_two_folders_the_first_counts() {
        let (first, second) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        put(
            first.path(),
            "org.example/a/jsonschema/1-0-0",
            &schema("org.example", "a", "1-0-0", 1),
        );
        put(
            second.path(),
            "org.example/a/jsonschema/1-0-0",
            &schema("org.example", "a", "1-0-0", 2),
        );
        put(
            second.path(),
            "org.example/a/jsonschema/1-0-1",
            &schema("org.example", "a", "1-0-1", 2),
        );
        let found: Vec<_> = read(&[first.path(), second.path()])
            .unwrap()
            .into_iter()
            .map(|(_, note)| note)
            .collect();
        assert_eq!(found, [1, 2]);
    }

    #[test]
    fn one_file_holds_a_registry() {
        let (file, folder) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        put(folder.path(), "com.acme/b/jsonschema/1-0-0", &schema("com.acme", "b", "1-0-0", 9));
        let [a, b, newer] = [("a", "1-0-0", 1), ("b", "1-0-0", 2), ("b", "1-0-1", 3)]
            .map(|(name, version, note)| schema("com.acme", name, version, note));
        put(file.path(), "all.json", &format!("[{a},{b},{newer}]"));
        let all = file.path().join("all.json");
        let key = |name: &str| format!("com.acme/{name}");
        assert_eq!(
            read(&[&all, folder.path()]).unwrap(),
            [
                (key("a/jsonschema/1-0-0"), 1),
                (key("b/jsonschema/1-0-0"), 2),
                (key("b/jsonschema/1-0-1"), 3)
            ]
        );
        put(file.path(), "one.json", &a);
        assert_eq!(
            read(&[&file.path().join("one.json")]).unwrap(),
            [(key("a/jsonschema/1-0-0"), 1)]
        );
        put(file.path(), "wrong.json", &format!("[{a},{{}}]"));
        let wrong = file.path().join("wrong.json");
        let message = read(&[&wrong]).unwrap_err().to_string();
        assert!(message.contains("wrong.json") && message.contains("schema 2"), "{message}");
        put(file.path(), "text.json", "schemas");
        let error = read(&[&file.path().join("text.json")]).unwrap_err();
        assert!(matches!(error, Error::NotJson { .. }), "{error}");
    }

    #[test]
    fn no_folders_and_an_empty_folder_have_no_schemas() {
        let folder = TempDir::new().unwrap();
        assert_eq!(read(&[]).unwrap(), []);
        assert_eq!(read(&[folder.path()]).unwrap(), []);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let cases = [
            ("org.example/a/jsonschema/1-0-0", "{", "read the schema"),
            ("org.example/a/jsonschema/1-0", "{}", "is not named as a schema"),
            ("org.example/a/jsonschema/1-0-0.json", "{}", "is not named as a schema"),
            ("org.example/a/jsonschema/0-0-1", "{}", "INVALID_SCHEMAVER"),
            ("org.example/a/jsonschema/1-0-0", "{}", "its `self` says nothing"),
            ("org.example/a/jsonschema/1-0-0", "[]", "its `self` says nothing"),
            (
                "org.example/a/jsonschema/1-0-0",
                &schema("org.example", "a", "1-0-1", 1),
                "iglu:org.example/a/jsonschema/1-0-0",
            ),
        ];
        for (path, content, expected) in cases {
            let folder = TempDir::new().unwrap();
            put(folder.path(), path, content);
            let message = read(&[folder.path()]).unwrap_err().to_string();
            let place = folder.path().join(path);
            assert!(message.contains(expected), "{message}");
            assert!(message.contains(place.to_str().unwrap()), "{message}");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let folder = TempDir::new().unwrap();
        let absent = folder.path().join("none");
        let message = read(&[&absent]).unwrap_err().to_string();
        assert_eq!(message, format!("read the schema folder {}", absent.display()));
        put(folder.path(), "file", "{}");
        assert!(read(&[&folder.path().join("file")]).is_err());
    }
}
