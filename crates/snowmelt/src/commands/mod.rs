//! The command line: one file per command, one variant here.

mod backup;
mod batch;
mod check_assets;
mod completions;
mod config;
mod demo;
mod enrich;
mod fetch_assets;
mod man;
mod run;
mod schema;
mod send;
mod sql;
mod status;
mod stream;
mod up;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};

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
    /// How log lines are written to stderr
    #[arg(long, global = true, value_enum, default_value_t, env = "SNOWMELT_LOG_FORMAT")]
    pub(crate) log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object per line: timestamp, level, target, message, and what it is about (partition, offset, file, error)
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::Up),
    Run(run::Run),
    Demo(demo::Demo),
    Send(send::Send),
    Sql(sql::Sql),
    Status(status::Status),
    Batch(batch::Batch),
    Enrich(enrich::Enrich),
    Backup(backup::Backup),
    Schema(schema::Schema),
    FetchAssets(fetch_assets::FetchAssets),
    CheckAssets(check_assets::CheckAssets),
    Stream(stream::Stream),
    Config(config::Config),
    Completions(completions::Completions),
    Man(man::Man),
}

impl CommandLine {
    /// Runs the command; the exit code is the command's own where it is not simply success.
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self.command {
            Command::Up(command) => command.run(),
            Command::Run(command) => command.run(),
            Command::Demo(command) => command.run(),
            Command::Send(command) => command.run(),
            Command::Sql(command) => command.run(),
            Command::Batch(command) => command.run(),
            Command::Enrich(command) => command.run(),
            Command::Schema(command) => command.run(),
            Command::FetchAssets(command) => command.run(),
            Command::CheckAssets(command) => command.run(),
            Command::Stream(command) => command.run(),
            Command::Config(command) => command.run(),
            Command::Backup(command) => command.run(),
            Command::Status(command) => command.run(),
            Command::Completions(command) => command.run(),
            Command::Man(command) => command.run(),
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
