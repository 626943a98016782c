//! `snowmelt check-assets`: what files for enrichments are, and whether they can be used, before a server reads them.
//!
//! What a file is, is told by [`enrich::enrichments::inspect`]; here are folders, and how it is printed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use ::enrich::enrichments::{Asset, Inspection, inspect};
use anyhow::{Context, Result};
use model::time::civil_from_days;
use serde_json::{Value, json};

/// Look at files for enrichments: what they are, when they were made, what they say; exit code 1 if any cannot be used
///
/// A folder stands for all files in it and below, but for licences, notices and what a name with a dot in front hides.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  snowmelt check-assets ./snowmelt-data/assets/fetched
  snowmelt check-assets GeoLite2-City.mmdb --json")]
pub(crate) struct CheckAssets {
    /// Files and folders
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// One JSON object per file
    #[arg(long)]
    json: bool,
}

/// What lies beside files, and tells of them.
const BESIDE: [&str; 2] = ["LICENSE", "NOTICE"];

impl CheckAssets {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let mut files = Vec::new();
        for path in &self.paths {
            match path.is_dir() {
                true => walk(path, &mut files)?,
                false => files.push(path.clone()),
            }
        }
        let mut all_good = true;
        for path in &files {
            let found = look_at(path);
            all_good &= found.is_ok();
            match self.json {
                true => println!("{}", as_json(path, &found)),
                false => print(path, &found),
            }
        }
        if files.is_empty() {
            eprintln!("there is no file to look at");
        }
        Ok(if all_good && !files.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn look_at(path: &Path) -> Result<Inspection, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    inspect(&name, &Asset::of(Arc::new(bytes)))
}

fn print(path: &Path, found: &Result<Inspection, String>) {
    println!("{}", path.display());
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            println!("  cannot be used: {error}");
            return;
        }
    };
    println!("  {} for {}", found.kind, found.used_by);
    if let Some(built) = found.built {
        println!("  made {}", day(built));
    }
    for (name, value) in &found.samples {
        println!("  {name}: {value}");
    }
    if let Some(notice) = notice(path) {
        println!("  licence: {notice}");
    }
}

fn as_json(path: &Path, found: &Result<Inspection, String>) -> Value {
    let file = path.display().to_string();
    match found {
        Ok(found) => {
            let samples: serde_json::Map<String, Value> =
                found.samples.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            json!({
                "file": file, "kind": found.kind, "used_by": found.used_by, "made": found.built.map(day),
                "samples": samples, "licence": notice(path),
            })
        }
        Err(error) => json!({"file": file, "error": error}),
    }
}

/// The first line of what lies beside a file.
fn notice(path: &Path) -> Option<String> {
    let beside = |name: &&str| std::fs::read_to_string(path.parent()?.join(name)).ok();
    let text = BESIDE.iter().rev().find_map(beside)?;
    text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}

/// `2026-11-22`, from seconds since 1970.
fn day(seconds: u64) -> String {
    let days = i64::try_from(seconds / 86_400).unwrap_or_default();
    let (year, month, day) = civil_from_days(days);
    format!("{year:04}-{month:02}-{day:02}")
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("read `{}`", folder.display()))?;
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.with_context(|| format!("read `{}`", folder.display()))?.path());
    }
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            walk(&path, files)?;
        } else if !BESIDE.contains(&name.as_str()) {
            files.push(path);
        }
    }
    Ok(())
}
