//! `snowmelt config check|dump`: what a configuration amounts to, without starting anything.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use crate::config::{self, Sources};

/// Check a configuration, or show every key with its effective value
///
/// Values come from the defaults, then `--config FILE`, then the environment (SNOWMELT_COLLECTOR__PORT is
/// collector.port), then `--set KEY=VALUE`.
///
/// Example: snowmelt config check --config snowmelt.toml --set batch.interval=1m
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Config {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Say whether the configuration can be used, and name every problem; exit code 1 if it cannot
    Check(Sources),
    /// Print the effective configuration as TOML, secrets masked
    Dump(Sources),
}

impl Config {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self.action {
            Action::Check(sources) => {
                let config = config::load(&sources, std::env::vars())?;
                println!("ok: data folder {}", config.data_dir.display());
            }
            Action::Dump(sources) => {
                print!("{}", config::dump(&config::load(&sources, std::env::vars())?)?);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
