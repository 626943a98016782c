//! `snowmelt man`: the help as manual pages, one per command.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};

/// Print the manual page, or write the pages of all commands into a folder
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  snowmelt man | man -l -
  snowmelt man --out ~/.local/share/man/man1")]
pub(crate) struct Man {
    /// Write snowmelt.1 and a page for each command into this folder, which is made if need be
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Man {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let command = super::CommandLine::command();
        let Some(dir) = self.out else {
            let mut out = std::io::stdout().lock();
            out.write_all(&page(command)?)?;
            out.flush()?;
            return Ok(ExitCode::SUCCESS);
        };
        std::fs::create_dir_all(&dir).with_context(|| format!("create `{}`", dir.display()))?;
        clap_mangen::generate_to(command, &dir)
            .with_context(|| format!("write the pages into `{}`", dir.display()))?;
        println!("wrote snowmelt.1 and a page for each command into {}", dir.display());
        Ok(ExitCode::SUCCESS)
    }
}

fn page(command: Command) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page).context("print a manual page")?;
    Ok(page)
}
