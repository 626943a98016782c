//! `snowmelt config check|dump|reference|import`: what a configuration amounts to, without starting anything.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
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
    /// Print in our form what a configuration of Snowplow's collector (HOCON: r89, 2.x, 3.x) says
    ///
    /// The keys go to stdout as TOML. Every key that has no place here is named on stderr, with the reason. Variables
    /// of the environment are written down as they are now.
    #[command(after_help = "\
Examples:
  snowmelt config import collector.hocon > snowmelt.toml")]
    Import {
        /// The HOCON file
        file: PathBuf,
    },
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
                config.collector.warnings().iter().for_each(|it| eprintln!("warning: {it}"));
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
            Action::Import { file } => import(&file)?,
            Action::Dump(sources) => {
                print!("{}", config::dump(&config::load(&sources, std::env::vars())?)?);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn import(file: &Path) -> Result<()> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("read `{}`", file.display()))?;
    let variable = |name: &str| std::env::var(name).ok();
    let imported = collector::import::import(&text, &variable)
        .with_context(|| format!("`{}` cannot be imported", file.display()))?;
    let mut out = std::io::stdout().lock();
    write!(out, "{}", imported.toml())?;
    out.flush()?;
    imported.dropped.iter().for_each(|(key, why)| eprintln!("dropped: `{key}`: {why}"));
    imported.notes.iter().for_each(|note| eprintln!("note: {note}"));
    Ok(())
}
