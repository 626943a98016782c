//! The house rules that a compiler does not know, as ordinary tests: which crate may see which, an opening paragraph in
//! every module, a page for every durable format, no stubs, licences.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The edges between our crates; see ARCHITECTURE.md. `snowmelt` may see all of them.
const EDGES: [(&str, &[&str]); 10] = [
    ("model", &[]),
    ("enrich", &["model"]),
    ("stream", &["model"]),
    ("assets", &["model", "enrich"]),
    ("views", &["model"]),
    ("collector", &["model", "stream"]),
    ("speed", &["model", "enrich", "stream", "assets", "views"]),
    ("batch", &["model", "enrich", "stream", "assets", "views"]),
    ("serving", &["model", "views"]),
    ("sim", &["model", "enrich", "stream", "assets", "views", "speed", "batch"]),
];

/// What must not be anywhere below a crate, so that the rule its boundary stands for holds.
const FORBIDDEN: [(&str, &[&str]); 6] = [
    ("model", &["tokio", "hyper", "reqwest", "rand", "chrono", "arrow", "datafusion"]),
    ("enrich", &["tokio", "hyper", "reqwest", "rand", "chrono", "arrow", "datafusion"]),
    ("stream", &["arrow", "datafusion"]),
    ("assets", &["tokio", "arrow", "datafusion"]),
    ("collector", &["arrow", "datafusion", "enrich"]),
    ("views", &["datafusion", "tokio"]),
];

#[test]
fn crates_see_only_what_the_architecture_allows() {
    let ours: BTreeSet<&str> = EDGES.iter().map(|(name, _)| *name).collect();
    for (name, allowed) in EDGES {
        let found: BTreeSet<String> =
            dependencies(name).into_iter().filter(|it| ours.contains(it.as_str())).collect();
        let allowed: BTreeSet<String> = allowed.iter().map(|it| (*it).to_owned()).collect();
        let more: Vec<&String> = found.difference(&allowed).collect();
        assert!(
            more.is_empty(),
            "crate `{name}` sees {more:?}, which ARCHITECTURE.md does not allow"
        );
    }
}

#[test]
fn heavy_and_impure_crates_stay_where_they_belong() {
    for (name, forbidden) in FORBIDDEN {
        let tree = tree_of(name);
        for crate_name in forbidden {
            assert!(
                !tree.contains(*crate_name),
                "`{crate_name}` is below `{name}`: cargo tree -p {name} -i {crate_name}"
            );
        }
    }
}

#[test]
fn every_module_opens_with_a_paragraph() {
    for file in rust_files() {
        let text = read(&file);
        let is_included =
            file.file_name().is_some_and(|name| name == "table.rs") && text.starts_with("// ");
        assert!(text.starts_with("//!") || is_included, "{}: no opening paragraph", file.display());
    }
}

#[test]
fn nothing_is_left_undone() {
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("#[", "ignore"),
    ];
    for file in rust_files() {
        let text = read(&file);
        for mark in marks {
            assert!(!text.contains(mark), "{}: {mark}", file.display());
        }
    }
}

#[test]
fn every_durable_format_has_its_page_and_the_architecture_links_it() {
    let architecture = read(&crate::root().join("ARCHITECTURE.md"));
    let pages: BTreeMap<String, PathBuf> = walk(&crate::root().join("docs/formats"))
        .into_iter()
        .filter_map(|path| Some((path.file_name()?.to_str()?.to_owned(), path)))
        .collect();
    for name in [
        "segment.md",
        "enriched-stream.md",
        "master.md",
        "manifest.md",
        "table-files.md",
        "facts.md",
        "spool.md",
    ] {
        let page = pages.get(name).unwrap_or_else(|| panic!("docs/formats/{name} is missing"));
        assert!(
            read(page).to_lowercase().contains("version"),
            "docs/formats/{name} says nothing of versions"
        );
        assert!(
            architecture.contains(&format!("docs/formats/{name}")),
            "ARCHITECTURE.md does not link {name}"
        );
    }
}

/// `deny.toml` says which; here it is held against what is built, also where the tool that reads it is not installed.
#[test]
fn the_licence_of_every_dependency_is_one_that_is_allowed() {
    let deny = read(&crate::root().join("deny.toml"));
    let list = deny.split_once("\nallow = [").unwrap().1.split_once(']').unwrap().0;
    let allowed: BTreeSet<&str> = list
        .lines()
        .filter_map(|line| line.trim().strip_prefix('"')?.strip_suffix("\","))
        .collect();
    assert!(allowed.contains("Apache-2.0"), "{allowed:?}");
    let mut command = Command::new(crate::cargo_path());
    command.args(["tree", "--workspace", "--locked", "--offline", "--prefix", "none"]);
    command.args(["--format", "{p}|{l}"]);
    let output = command.current_dir(crate::root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let crates: BTreeSet<(&str, &str)> =
        text.lines().filter_map(|line| line.trim_end_matches(" (*)").split_once('|')).collect();
    assert!(crates.len() > 100, "{} crates", crates.len());
    for (name, licence) in crates {
        let is_one = |it: &str| {
            it.split(" OR ").flat_map(|it| it.split('/')).any(|it| allowed.contains(it.trim()))
        };
        let is_allowed = licence.split(" AND ").all(|part| is_one(part.trim_matches(['(', ')'])));
        assert!(is_allowed, "{name} is under `{licence}`, which deny.toml does not allow");
    }
}

fn dependencies(name: &str) -> Vec<String> {
    let manifest = read(&crate::root().join("crates").join(name).join("Cargo.toml"));
    let section = manifest.split("[dependencies]").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    section
        .lines()
        .filter_map(|line| Some(line.split(['.', ' ', '=']).next()?.to_owned()))
        .collect()
}

/// The names of all crates below one, without those that only its tests or its build need.
fn tree_of(name: &str) -> BTreeSet<String> {
    let mut command = Command::new(crate::cargo_path());
    command.args([
        "tree",
        "--locked",
        "--offline",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--package",
        name,
    ]);
    let output = command.current_dir(crate::root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect()
}

fn rust_files() -> Vec<PathBuf> {
    let folders = ["crates", "fuzz", "xtask"].map(|name| crate::root().join(name));
    let is_rust = |path: &PathBuf| path.extension().is_some_and(|it| it == "rs");
    folders.iter().flat_map(|folder| walk(folder)).filter(is_rust).collect()
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
