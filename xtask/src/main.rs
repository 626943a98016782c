//! `cargo xtask …`: the project's automation. `cargo xtask test` is the README's test command, and all that CI runs.

mod bench;

mod fuzz;
mod setup;

#[cfg(test)]
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::LazyLock;
use std::time::Instant;

use anyhow::{Context, Result, bail};

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test         install what the tests need, then format, all tests (200 seeds of the
               simulator among them), lints, docs
  setup        only install what the tests need (the Python, Node and browser trackers,
               Chromium, and clients of PostgreSQL)
  generate     write the pages under docs/reference/ again, from the code
  sim [ARGS]   the simulator: --seeds N, --from SEED, --seed SEED to replay one
  bench [NAME] the measurements of docs/benchmarks.md, in release: collector, enrich, batch,
               pipeline; first-run only when named
  fuzz ARGS    the readers of bytes from outside: --quick, --long, TARGET [--seconds N], --list
";

/// What the property tests draw their cases from. Fixed here, so that a change is told from bad luck; whoever looks for
/// new faults sets it to another number.
const PROPTEST_SEED: &str = "PROPTEST_RNG_SEED";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rest = arguments.get(1..).unwrap_or_default();
    let done = match arguments.first().map(String::as_str) {
        Some("test") if rest.is_empty() => test(),
        Some("setup") if rest.is_empty() => setup::pg_server()
            .and_then(|()| setup::trackers())
            .and_then(|trackers| Ok((trackers, setup::browser()?, setup::pg_clients()?)))
            .and_then(|ready| Ok((ready, setup::storage()?)))
            .map(|((trackers, browser, clients), storage)| {
                println!("ready: TRACKERS_DIR={}", trackers.display());
                println!("ready: BROWSER_DIR={}", browser.display());
                println!("ready: PG_CLIENTS_DIR={}", clients.display());
                println!("ready: WEED={}", storage.display());
            }),
        Some("generate") if rest.is_empty() => generate(),
        Some("sim") => simulate(rest),
        Some("bench") => bench::bench(rest),
        Some("fuzz") => fuzz::run(rest),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Everything CI checks, cheapest first.
fn test() -> Result<()> {
    let started = Instant::now();
    let trackers = step("set-up: trackers", setup::trackers)?;
    let browser = step("set-up: browser", setup::browser)?;
    let pg_clients = step("set-up: clients of PostgreSQL", setup::pg_clients)?;
    step("set-up: PostgreSQL server", setup::pg_server)?;
    let storage = step("set-up: storage of the kind of S3", setup::storage)?;
    step("format", || cargo(&["fmt", "--all", "--check"]))?;
    // The tests build all code; running them first leaves clippy and docs little to do.
    step("tests", || {
        run(Command::new(cargo_path())
            .args(["test", "--locked", "--workspace"])
            .env("TRACKERS_DIR", &trackers)
            .env("BROWSER_DIR", &browser)
            .env("PG_CLIENTS_DIR", &pg_clients)
            .env(PROPTEST_SEED, std::env::var_os(PROPTEST_SEED).unwrap_or("1".into())))
    })?;
    // What is off by default; its crate alone, which sees no DataFusion.
    step("tests of cloud storage", || {
        run(Command::new(cargo_path())
            .args(["test", "--locked", "--package", "assets", "--features", "cloud"])
            .args(["--test", "cloud"])
            .env("WEED", &storage))
    })?;
    step("lints", || {
        cargo(&["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"])
    })?;
    step("docs", || {
        let mut docs = Command::new(cargo_path());
        docs.args(["doc", "--locked", "--workspace", "--no-deps", "--document-private-items"]);
        run(docs.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links"))
    })?;
    println!("\nall checks passed in {} s", started.elapsed().as_secs());
    Ok(())
}

/// The test that finds a stale page writes it instead.
fn generate() -> Result<()> {
    let mut command = Command::new(cargo_path());
    command.args(["test", "--locked", "--package", "snowmelt", "--bin", "snowmelt", "reference"]);
    run(command.env("BLESS", "1"))
}

fn simulate(arguments: &[String]) -> Result<()> {
    let mut command = Command::new(cargo_path());
    command.args(["run", "--locked", "--quiet", "--package", "sim", "--"]).args(arguments);
    run(&mut command)
}

fn step<T>(name: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("\n== {name}");
    let started = Instant::now();
    let done = act().with_context(|| format!("step `{name}`"))?;
    println!("== {name}: ok, {} s", started.elapsed().as_secs());
    Ok(done)
}

fn cargo(arguments: &[&str]) -> Result<()> {
    run(Command::new(cargo_path()).args(arguments))
}

fn cargo_path() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
}

fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let status = command.current_dir(root()).status().with_context(|| format!("start {shown}"))?;
    if !status.success() {
        bail!("{shown} ended with {status}");
    }
    Ok(())
}

/// The checkout that `cargo xtask` was called in. Asked of cargo at run time: a target folder that several checkouts
/// share may hold a binary that was built in another one.
fn root() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let built_in = || env!("CARGO_MANIFEST_DIR").into();
        let xtask = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(built_in, PathBuf::from);
        xtask.parent().expect("xtask lies in the checkout").to_owned()
    });
    &ROOT
}
