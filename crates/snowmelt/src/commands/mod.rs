//! The command line: one file per command, one variant here.

mod batch;
mod config;
mod demo;
mod enrich;
mod send;
mod sql;
mod stream;
pub(crate) mod up;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// A Snowplow-compatible event pipeline: collector, enrich, batch layer, speed layer and SQL in one binary.
///
/// New here? `snowmelt demo` shows it in two minutes. Then run `snowmelt up`, point a tracker at port 8080, and ask
/// `snowmelt sql "SELECT event, count(*) FROM atomic.events GROUP BY event"`.
#[derive(Debug, Parser)]
#[command(name = "snowmelt", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct CommandLine {
    /// Log what the roles do, to stderr (finer: SNOWMELT_LOG=debug)
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::Up),
    Demo(demo::Demo),
    Send(send::Send),
    Sql(sql::Sql),
    Batch(batch::Batch),
    Enrich(enrich::Enrich),
    Stream(stream::Stream),
    Config(config::Config),
}

impl CommandLine {
    /// Runs the command; the exit code is the command's own where it is not simply success.
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self.command {
            Command::Up(command) => command.run(),
            Command::Demo(command) => command.run(),
            Command::Send(command) => command.run(),
            Command::Sql(command) => command.run(),
            Command::Batch(command) => command.run(),
            Command::Enrich(command) => command.run(),
            Command::Stream(command) => command.run(),
            Command::Config(command) => command.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        CommandLine::command().debug_assert();
    }
}
