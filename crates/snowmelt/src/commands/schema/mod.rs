//! `snowmelt schema lint`: what is wrong with Iglu schemas, before an event names them; and `schema list`, in `list`.
//!
//! Finds the files and the keys that their places stand for; what is wrong inside of a file is told by
//! [`enrich::iglu::lint`]. Nothing is changed, and nobody is asked.

mod list;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ::enrich::iglu::lint::{Finding, Options, Place, Severity, lint, missing_versions};
use anyhow::{Context, Result, bail};
use clap::Subcommand;
use model::iglu::{SchemaKey, Version};
use serde_json::{Value, json};

/// Look at Iglu schemas before events name them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  snowmelt schema lint ./schemas
  snowmelt schema lint schemas/com.acme/cart/jsonschema/1-0-0
  snowmelt schema list --schemas ./schemas com.acme/cart/jsonschema/1")]
pub(crate) struct Schema {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Name what is wrong with schemas, with file and line; exit code 1 if any cannot be used
    ///
    /// Errors make enrich refuse a schema, or all data. Warnings are what does not mean what it seems to: keywords that
    /// have no effect, formats that are not checked, versions that are missing.
    #[command(after_help = "\
Examples:
  snowmelt schema lint ./schemas
  snowmelt schema lint --strict --json ./schemas
  snowmelt schema lint schemas/com.acme/cart/jsonschema/1-0-0")]
    Lint {
        /// Also warn of texts and numbers without bounds, optional properties that must not be null, and missing
        /// descriptions, as Snowplow's own linter does
        #[arg(long)]
        strict: bool,
        /// One JSON object per finding
        #[arg(long)]
        json: bool,
        /// Folders laid out as vendor/name/format/version, or files: a schema, or an array of schemas
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
    },
    /// Name the versions of a schema and who has each; exit code 1 if nobody has any
    #[command(after_help = "\
Examples:
  snowmelt schema list --schemas ./schemas com.acme/cart/jsonschema/1
  snowmelt schema list --resolver ./resolver.json com.acme/cart/jsonschema/1
  snowmelt schema list com.snowplowanalytics.snowplow/link_click/jsonschema/1")]
    List(list::List),
}

impl Schema {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let (strict, json, paths) = match self.action {
            Action::Lint { strict, json, paths } => (strict, json, paths),
            Action::List(list) => return list.run(),
        };
        let mut report = Report { json, ..Report::default() };
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        for path in &paths {
            match path.is_dir() {
                true => report.folder(path, strict, &mut out)?,
                false => drop(report.file(path, key_of(path).as_ref(), strict, &mut out)?),
            }
        }
        out.flush()?;
        if report.files == 0 {
            bail!(
                "there is no schema in {}: they lie at vendor/name/jsonschema/1-0-0",
                list(&paths)
            );
        }
        eprintln!("{} files, {} errors, {} warnings", report.files, report.errors, report.warnings);
        Ok(if report.errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn list(paths: &[PathBuf]) -> String {
    let texts: Vec<String> = paths.iter().map(|path| format!("`{}`", path.display())).collect();
    texts.join(", ")
}

/// What was looked at so far.
#[derive(Debug, Default)]
struct Report {
    json: bool,
    files: usize,
    errors: usize,
    warnings: usize,
}

impl Report {
    /// Looks at a registry: each file, and the versions of each schema.
    fn folder(&mut self, folder: &Path, strict: bool, out: &mut dyn Write) -> Result<()> {
        let inner = folder.join("schemas");
        let root = if inner.is_dir() { inner } else { folder.to_owned() };
        let mut versions: BTreeMap<PathBuf, Vec<Version>> = BTreeMap::new();
        let mut superseded: Vec<(PathBuf, String)> = Vec::new();
        for path in files_below(&root)? {
            let place = path.strip_prefix(&root).unwrap_or(&path);
            let parts: Vec<_> = place.iter().map(|part| part.to_string_lossy()).collect();
            if parts.len() != 4 || parts[2] != "jsonschema" {
                // Other formats, and files beside the schemas.
                continue;
            }
            let key = match SchemaKey::parse(&format!("iglu:{}", parts.join("/"))) {
                Ok(key) => key,
                Err(reason) => {
                    let message = format!(
                        "not named as a schema, vendor/name/jsonschema/1-0-0: {}",
                        reason.words()
                    );
                    self.print(&path, &whole(Severity::Error, message), out)?;
                    continue;
                }
            };
            let schema = self.file(&path, Some(&key), strict, out)?;
            let of_schema = path.parent().unwrap_or(&root).to_owned();
            versions.entry(of_schema).or_default().push(key.version());
            if let Some(newer) = schema["$supersededBy"].as_str() {
                superseded.push((path.clone(), newer.to_owned()));
            }
        }
        for (path, newer) in superseded {
            if !path.with_file_name(&newer).is_file() {
                let message = format!("it is superseded by {newer}, which is not in this folder");
                self.print(&path, &whole(Severity::Error, message), out)?;
            }
        }
        for (path, versions) in versions {
            for missing in missing_versions(&versions) {
                let message = format!("there is no {missing}, but a later version");
                self.print(&path, &whole(Severity::Warning, message), out)?;
            }
        }
        Ok(())
    }

    /// Looks at one file, and gives what is in it; null if that is no JSON.
    fn file(
        &mut self,
        path: &Path,
        key: Option<&SchemaKey>,
        strict: bool,
        out: &mut dyn Write,
    ) -> Result<Value> {
        let bytes = std::fs::read(path).with_context(|| format!("read `{}`", path.display()))?;
        self.files += 1;
        let text = match std::str::from_utf8(&bytes) {
            Ok(text) => text,
            Err(error) => {
                let message = format!("no UTF-8 at byte {}", error.valid_up_to());
                self.print(path, &whole(Severity::Error, message), out)?;
                return Ok(Value::Null);
            }
        };
        for finding in lint(text, Options { key, strict }) {
            self.print(path, &finding, out)?;
        }
        Ok(serde_json::from_str(text).unwrap_or_default())
    }

    fn print(&mut self, path: &Path, finding: &Finding, out: &mut dyn Write) -> Result<()> {
        let Finding { place: Place { line, column }, severity, pointer, message } = finding;
        match severity {
            Severity::Error => self.errors += 1,
            Severity::Warning => self.warnings += 1,
        }
        let file = path.display();
        if self.json {
            let finding = json!({
                "file": file.to_string(), "line": line, "column": column,
                "severity": severity.to_string(), "pointer": pointer, "message": message,
            });
            writeln!(out, "{finding}")?;
        } else if *line == 0 {
            writeln!(out, "{file}: {severity}: {message}")?;
        } else {
            writeln!(out, "{file}:{line}:{column}: {severity}: {message}")?;
        }
        Ok(())
    }
}

/// A finding about a file or a folder as a whole: it stands in no line.
fn whole(severity: Severity, message: String) -> Finding {
    Finding { place: Place::default(), severity, pointer: String::new(), message }
}

/// The key of a file that lies as in a registry.
fn key_of(path: &Path) -> Option<SchemaKey> {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    let [.., vendor, name, format, version] = parts.as_slice() else { return None };
    let uri = format!("iglu:{vendor}/{name}/{format}/{version}");
    SchemaKey::parse(&uri).ok().filter(|_| *format == "jsonschema")
}

/// All files below a folder, sorted; names with a leading dot are left out.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = || format!("read the folder `{}`", folder.display());
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(read)?
        .map(|entry| Ok(entry.with_context(read)?.path()))
        .collect::<Result<_>>()?;
    entries.sort();
    let mut files = Vec::new();
    for path in entries {
        let is_hidden = path.file_name().is_some_and(|it| it.to_string_lossy().starts_with('.'));
        if is_hidden {
            continue;
        }
        match path.is_dir() {
            true => files.extend(files_below(&path)?),
            false => files.push(path),
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, version: &str, more: &str) {
        let path = root.join("com.acme/cart/jsonschema").join(version);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let itself = json!({"vendor": "com.acme", "name": "cart", "format": "jsonschema", "version": version});
        let meta = "http://iglucentral.com/schemas/com.snowplowanalytics.self-desc/schema/jsonschema/1-0-0#";
        let text = format!(
            "{{\"$schema\": \"{meta}\",\n\"self\": {itself},\n\"type\": \"object\"{more}}}"
        );
        std::fs::write(path, text).unwrap();
    }

    fn check(root: &Path, expected: &[&str]) {
        let (mut report, mut out) = (Report::default(), Vec::new());
        report.folder(root, false, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let found: Vec<&str> =
            text.lines().map(|line| line.strip_prefix(root.to_str().unwrap()).unwrap()).collect();
        assert_eq!(found.len(), expected.len(), "{text}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found} should be {expected}");
        }
    }

    #[test]
    fn a_registry_is_held_against_its_places_and_versions() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "1-0-0", "");
        check(root.path(), &[]);
        put(root.path(), "1-0-2", ",\n\"minLength\": \"a\"");
        put(root.path(), "1-0-3", ",\n\"$supersededBy\": \"1-0-4\"");
        std::fs::write(root.path().join("com.acme/cart/jsonschema/latest"), "{}").unwrap();
        std::fs::write(root.path().join("README.md"), "ours").unwrap();
        check(
            root.path(),
            &[
                "/com.acme/cart/jsonschema/1-0-2:4:1: error: $.minLength: string found",
                "/com.acme/cart/jsonschema/latest: error: not named as a schema",
                "/com.acme/cart/jsonschema/1-0-3: error: it is superseded by 1-0-4",
                "/com.acme/cart/jsonschema: warning: there is no 1-0-1",
            ],
        );
    }

    #[test]
    fn a_file_in_a_registry_has_the_key_of_its_place() {
        let key = key_of(Path::new("a/com.acme/cart/jsonschema/1-0-0")).unwrap();
        assert_eq!(key.as_str(), "iglu:com.acme/cart/jsonschema/1-0-0");
        assert_eq!(key_of(Path::new("all.json")), None);
        assert_eq!(key_of(Path::new("com.acme/cart/jsonschema/cart.json")), None);
    }
}
