//! `snowmelt config check|dump|reference`: what a configuration amounts to, without starting anything.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use crate::config::{self, Sources};
use crate::reference;

/// Check a configuration, or show every key with its effective value
///
/// Values come from the defaults, then `--config FILE`, then the environment (SNOWMELT_COLLECTOR__PORT is
/// collector.port), then `--set KEY=VALUE`.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  snowmelt config check --config snowmelt.toml
  snowmelt config reference"
)]
pub(crate) struct Config {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Say whether the configuration and the schemas it names can be used; exit code 1 and the first problem if not
    #[command(after_help = "\
Examples:
  snowmelt config check
  snowmelt config check --config snowmelt.toml --set batch.interval=1m")]
    Check(Sources),
    /// Print the effective configuration as TOML, secrets masked
    #[command(after_help = "\
Examples:
  snowmelt config dump
  snowmelt config dump --config snowmelt.toml")]
    Dump(Sources),
    /// Print every key with its type, default and meaning, as Markdown
    #[command(after_help = "\
Examples:
  snowmelt config reference
  snowmelt config reference --json > snowmelt.schema.json")]
    Reference {
        /// The JSON schema of the configuration
        #[arg(long)]
        json: bool,
    },
}

impl Config {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self.action {
            Action::Check(sources) => {
                let config = config::load(&sources, std::env::vars())?;
                crate::roles::check_recipe(&config)?;
                println!("ok: data folder {}", config.data_dir.display());
            }
            Action::Reference { json } => {
                let mut out = std::io::stdout().lock();
                if json {
                    writeln!(out, "{:#}", reference::schema())?;
                } else {
                    write!(out, "{}", reference::markdown())?;
                }
                out.flush()?;
            }
            Action::Dump(sources) => {
                print!("{}", config::dump(&config::load(&sources, std::env::vars())?)?);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
