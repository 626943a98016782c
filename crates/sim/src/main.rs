//! The simulator's command: many seeds, or one to replay.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

const USAGE: &str = "usage: sim [--seeds N] [--from SEED] [--steps N] | --seed SEED [--steps N]";

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
    let (mut from, mut seeds, mut steps) = (0, 200, sim::seeds::STEPS);
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
    let failures = sim::seeds::run(from, seeds, steps);
    failures.iter().for_each(|failure| println!("{failure}\n"));
    println!("{} passed, {} failed", seeds - failures.len() as u64, failures.len());
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
