//! `cargo xtask fuzz`: builds the fuzz targets with coverage and lets libFuzzer drive them, one after the other.
//!
//! Works on stable: the coverage is LLVM's own (`-C passes=sancov-module`), and no sanitizer is used, since there is no
//! unsafe code of ours to sanitize. What libFuzzer finds lies beside the build, in `fuzz-finds/TARGET`, and is where the
//! next run goes on; the corpus in the repository is only read. Not here: the targets themselves (`fuzz/`).

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

pub(crate) const USAGE: &str = "\
usage: cargo xtask fuzz --quick | --long | TARGET [--seconds N] | TARGET --replay FILE | --list

  --quick    a minute for each target
  --long     ten minutes for each target
";

const QUICK_SECONDS: u64 = 60;
const LONG_SECONDS: u64 = 600;

/// What `cargo fuzz build -s none` gives the compiler.
const COVERAGE: [&str; 8] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

/// The largest input that is tried, and how long and how large one may be.
const LIMITS: [&str; 3] = ["-max_len=4096", "-timeout=10", "-rss_limit_mb=2048"];

/// Does what the arguments after `fuzz` say.
///
/// # Errors
/// When they say nothing, the build fails, or a target does; the message of the last says how to replay it.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["--list"] => targets()?.iter().for_each(|target| println!("{target}")),
        ["--quick"] => all(QUICK_SECONDS)?,
        ["--long"] => all(LONG_SECONDS)?,
        [target] => one(&build()?, known(target)?, QUICK_SECONDS)?,
        [target, "--seconds", seconds] => {
            let seconds = seconds.parse().with_context(|| format!("`--seconds {seconds}`"))?;
            one(&build()?, known(target)?, seconds)?;
        }
        [target, "--replay", file] => {
            crate::run(Command::new(build()?).env("FUZZ_TARGET", known(target)?).arg(file))?;
        }
        _ => bail!("what to fuzz?\n{USAGE}"),
    }
    Ok(())
}

/// All targets; one that fails does not keep the others from their turn.
fn all(seconds: u64) -> Result<()> {
    let binary = build()?;
    let targets = targets()?;
    let failures: Vec<String> = targets
        .iter()
        .filter_map(|target| one(&binary, target, seconds).err())
        .map(|error| format!("{error:#}"))
        .collect();
    println!("\n{} passed, {} failed", targets.len() - failures.len(), failures.len());
    if failures.is_empty() { Ok(()) } else { bail!("{}", failures.join("\n")) }
}

fn one(binary: &Path, target: &str, seconds: u64) -> Result<()> {
    println!("\n== {target}: {seconds} s");
    let finds = folder("fuzz-finds", target)?;
    let failures = folder("fuzz-failures", target)?;
    let corpus = crate::root().join("fuzz/corpus").join(target);
    let mut command = Command::new(binary);
    command.env("FUZZ_TARGET", target).arg(&finds).arg(corpus).args(LIMITS);
    command.arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-artifact_prefix={}/", failures.display()));
    command.args(["-print_final_stats=1", "-verbosity=0"]);
    crate::run(&mut command).with_context(|| {
        format!(
            "target `{target}` failed; its input lies in {}, and is replayed with `cargo xtask fuzz {target} --replay FILE`",
            failures.display()
        )
    })
}

/// Builds the program that libFuzzer drives.
fn build() -> Result<PathBuf> {
    let host = host()?;
    let target_dir = crate::setup::build_dir().join("fuzz");
    let mut build = Command::new(crate::cargo_path());
    build.args(["build", "--locked", "--package", "fuzz", "--features", "libfuzzer"]);
    build.args(["--bin", "libfuzzer", "--profile", "fuzz"]);
    // Named, so that build scripts and macros are not instrumented.
    build.args(["--target", &host, "--target-dir"]).arg(&target_dir);
    build.env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\u{1f}"));
    crate::run(&mut build)?;
    Ok(target_dir.join(host).join("fuzz/libfuzzer"))
}

fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("start rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc names no host")?.to_owned())
}

/// The folders of the corpus; a test holds them against the table of targets.
fn targets() -> Result<Vec<String>> {
    let corpus = crate::root().join("fuzz/corpus");
    let entries =
        std::fs::read_dir(&corpus).with_context(|| format!("list {}", corpus.display()))?;
    let mut targets = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("list {}", corpus.display()))?;
        if entry.path().is_dir() {
            targets.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    targets.sort();
    Ok(targets)
}

fn known(target: &str) -> Result<&str> {
    let targets = targets()?;
    match targets.iter().any(|known| known == target) {
        true => Ok(target),
        false => bail!("`{target}` is no target; these are: {}", targets.join(", ")),
    }
}

fn folder(kind: &str, target: &str) -> Result<PathBuf> {
    let folder = crate::setup::build_dir().join(kind).join(target);
    std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    Ok(folder)
}
