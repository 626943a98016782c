//! The simulator's command: many seeds, or one to replay.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};

const USAGE: &str = "usage: sim [--seeds N] [--from SEED] [--steps N] | --seed SEED [--steps N]";

/// Steps of one seed.
const STEPS: u32 = 100;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode> {
    let (mut from, mut seeds, mut steps) = (0, 200, STEPS);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().with_context(|| format!("`{name}` wants a value"))?;
        let number: u64 = value.parse().with_context(|| format!("`{name} {value}`"))?;
        match name.as_str() {
            "--seeds" => seeds = number,
            "--from" => from = number,
            "--seed" => (from, seeds) = (number, 1),
            "--steps" => steps = u32::try_from(number)?,
            _ => bail!("`{name}` is not an option"),
        }
    }
    let failed = simulate(from, seeds, steps);
    println!("{} passed, {failed} failed", seeds - failed);
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the seeds on all cores and returns how many failed.
fn simulate(from: u64, seeds: u64, steps: u32) -> u64 {
    let (next, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= seeds {
                        return;
                    }
                    if !passes(from + at, steps) {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    failed.into_inner()
}

fn passes(seed: u64, steps: u32) -> bool {
    let run = || sim::log::run(seed, steps).and_then(|()| sim::world::run(seed, steps));
    let replay = format!("replay it with `cargo xtask sim --seed {seed} --steps {steps}`");
    match std::panic::catch_unwind(run) {
        Ok(Ok(())) => true,
        Ok(Err(violation)) => {
            println!("seed {seed} failed; {replay}\n{violation}");
            false
        }
        Err(_) => {
            println!("seed {seed} panicked; {replay}");
            false
        }
    }
}
