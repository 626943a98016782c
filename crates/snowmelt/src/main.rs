//! `snowmelt`: every role of a Snowplow-compatible Lambda architecture in one binary.
//!
//! This crate is the only one that knows all the others. It reads the configuration, puts the roles together
//! ([`roles`]), and has one file per command ([`commands`]). Data goes to stdout, everything else to stderr.

mod commands;

mod config;

mod roles;

mod process;

mod control;

mod health;

mod metrics;

mod reference;

mod watch;

mod telemetry;

mod data_folder;

mod archive;

mod endings;

mod stderr;

mod clock;

mod client;

mod load;

mod traffic;

mod table;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;

use crate::commands::LogFormat;

/// Events are made of many small texts that live on other threads than they were made on; the allocator of the system
/// keeps more memory for them, and takes longer (`docs/benchmarks.md`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let command = commands::CommandLine::parse();
    start_logging(command.verbose, command.log_format);
    match command.run() {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            stderr::say(&format!("snowmelt: {error:#}"));
            stderr::flush();
            ExitCode::FAILURE
        }
    }
}

/// Logs go to stderr; `SNOWMELT_LOG` is a filter such as `info` or `batch=debug`.
fn start_logging(verbose: bool, format: LogFormat) {
    let default = if verbose { "info" } else { "warn" };
    let filter = tracing_subscriber::EnvFilter::try_from_env("SNOWMELT_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    // The client of registries and look-ups writes down whole addresses, keys included.
    let filter = ["ureq=warn", "ureq_proto=warn"].into_iter().fold(filter, |filter, quiet| {
        filter.add_directive(quiet.parse().expect("it is a directive"))
    });
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(|| stderr::Stderr);
    match format {
        LogFormat::Text => logs.init(),
        // What a line is about lies flat beside its message.
        LogFormat::Json => logs.json().flatten_event(true).with_current_span(false).init(),
    }
}

/// `snowmelt sql … | head` is a normal ending.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
