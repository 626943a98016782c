//! `snowmelt completions`: a script that completes commands and flags in a shell.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, ValueEnum};

/// Print a script that completes commands and flags in your shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  snowmelt completions bash > ~/.local/share/bash-completion/completions/snowmelt
  snowmelt completions zsh > ~/.zfunc/_snowmelt
  snowmelt completions fish > ~/.config/fish/completions/snowmelt.fish")]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Completions {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let shell = match self.shell {
            Shell::Bash => clap_complete::Shell::Bash,
            Shell::Zsh => clap_complete::Shell::Zsh,
            Shell::Fish => clap_complete::Shell::Fish,
        };
        let mut script = Vec::new();
        let mut command = super::CommandLine::command();
        clap_complete::generate(shell, &mut command, "snowmelt", &mut script);
        let mut out = std::io::stdout().lock();
        out.write_all(&script)?;
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }
}
