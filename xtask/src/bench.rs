//! `cargo xtask bench`: the measurements, one after the other, each with a bound taken in the same run.
//!
//! Each measurement is a bench of the crate that it measures; here they only get what they need and are called. What
//! they print goes into `docs/benchmarks.md`. `first-run` is README's first command with empty caches, which takes a
//! while and is run only when it is named.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{cargo_path, root, run, setup, step};

/// Name, and the crate whose benches it runs.
const MEASUREMENTS: [(&str, &str); 4] = [
    ("collector", "collector"),
    ("enrich", "enrich"),
    ("batch", "batch"),
    ("pipeline", "snowmelt"),
];

/// Runs the named measurements; all of them but `first-run` when none is named.
pub(crate) fn bench(names: &[String]) -> Result<()> {
    let known = |name: &str| name == "first-run" || MEASUREMENTS.iter().any(|(it, _)| *it == name);
    if let Some(name) = names.iter().find(|name| !known(name)) {
        bail!("no measurement is called `{name}`: collector, enrich, batch, pipeline, first-run");
    }
    let is_wanted = |name: &str| {
        if names.is_empty() { name != "first-run" } else { names.iter().any(|it| it == name) }
    };
    for (name, package) in MEASUREMENTS {
        if is_wanted(name) {
            step(&format!("bench: {name}"), || {
                let mut command = Command::new(cargo_path());
                command.args(["bench", "--locked", "--package", package, "--benches"]);
                match name {
                    "collector" => setup::wrk()?,
                    "pipeline" => {
                        command.env("BENCH_PYTHON", setup::duckdb()?);
                    }
                    _ => {}
                }
                run(&mut command)
            })?;
        }
    }
    if is_wanted("first-run") {
        step("bench: first-run", first_run)?;
    }
    Ok(())
}

/// `cargo run -- demo --exit` from a fresh clone with an empty cargo home and an empty target folder.
fn first_run() -> Result<()> {
    let folder = setup::build_dir().join("first-run");
    remove(&folder)?;
    std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let clone = folder.join("snowmelt");
    run(Command::new("git").args(["clone", "--quiet"]).arg(root()).arg(&clone))?;
    let started = Instant::now();
    let status = Command::new(cargo_path())
        .args(["run", "--quiet", "--", "demo", "--exit"])
        .current_dir(&clone)
        .env("CARGO_HOME", folder.join("cargo-home"))
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .status()
        .context("start cargo")?;
    let seconds = started.elapsed().as_secs();
    remove(&folder)?;
    if !status.success() {
        bail!("`cargo run -- demo --exit` ended with {status}");
    }
    println!("first-run: `cargo run -- demo --exit` with empty caches: {seconds} s");
    Ok(())
}

fn remove(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", folder.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
