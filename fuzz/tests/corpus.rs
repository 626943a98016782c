//! What every run of the tests tries: the corpus of each target, and for two seconds mutations of it. libFuzzer, which
//! knows what was covered, tries more: `cargo xtask fuzz`.
//!
//! The mutations are the same in every run; `FUZZ_SEED` makes others, `FUZZ_SECONDS` gives them more time, `FUZZ_INPUT=FILE` with `FUZZ_TARGET=NAME`
//! replays one file.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fuzz::{TARGETS, Target, mutate};
use sim::chance::Chance;

const SECONDS: u64 = 2;

/// The largest file of the corpus: it is kept in the repository.
const CORPUS_BYTES_MAX: usize = 2048;

#[test]
fn every_target_keeps_its_laws_on_its_corpus_and_what_is_near_it() {
    if let (Ok(name), Ok(input)) = (std::env::var("FUZZ_TARGET"), std::env::var("FUZZ_INPUT")) {
        let target = fuzz::target(&name).unwrap_or_else(|| panic!("no target `{name}`"));
        return (target.run)(&fs::read(input).unwrap());
    }
    // A change is judged by its own faults: what is new is looked for by `cargo xtask fuzz`.
    let seed = number("FUZZ_SEED").unwrap_or(1);
    eprintln!("FUZZ_SEED={seed}");
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(target) = TARGETS.get(next.fetch_add(1, Ordering::Relaxed)) {
            if panic::catch_unwind(|| try_target(target, seed)).is_err() {
                failed.lock().unwrap().push(target.name);
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "these targets panicked: {failed:?}");
}

fn try_target(target: &Target, seed: u64) {
    let corpus = corpus(target);
    assert!(corpus.len() >= 2, "{}: the corpus has {} files", target.name, corpus.len());
    corpus.iter().for_each(|bytes| run(target, bytes));
    let until = Instant::now() + Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(SECONDS));
    let mut chance = Chance::seeded(seed);
    let mut tried = 0;
    while Instant::now() < until {
        run(target, &mutate::mutated(&corpus, &mut chance));
        tried += 1;
    }
    eprintln!("{}: {} files, {tried} mutations", target.name, corpus.len());
}

/// Runs one input; a panic leaves it in a file, to be replayed.
fn run(target: &Target, bytes: &[u8]) {
    let run = AssertUnwindSafe(|| (target.run)(bytes));
    if let Err(panic) = panic::catch_unwind(run) {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{}", target.name));
        fs::write(&path, bytes).unwrap();
        eprintln!(
            "target `{}` panicked; replay it with\n  FUZZ_TARGET={} FUZZ_INPUT={} cargo test -p fuzz",
            target.name,
            target.name,
            path.display()
        );
        panic::resume_unwind(panic);
    }
}

/// The files of a target, in the order of their names.
fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let entries =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let bytes = fs::read(path).unwrap();
            assert!(
                bytes.len() <= CORPUS_BYTES_MAX,
                "{} has {} bytes",
                path.display(),
                bytes.len()
            );
            bytes
        })
        .collect()
}

#[test]
fn every_folder_of_the_corpus_belongs_to_a_target_and_each_target_has_one() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(path.is_file() || fuzz::target(name).is_some(), "{}", path.display());
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}
