//! `snowmelt run`: a role without the others, until it is asked to end.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use collector::config::SinkKind;

use crate::config::{self, Sources};
use crate::endings::{Endings, exit_code};
use crate::roles::collector_alone::CollectorAlone;
use crate::stderr;

/// Run a role without the others
///
/// The collector is the one that can: it appends to the raw stream in the data folder, and the next `up` on that folder
/// goes on from there. With collector.streams.sink=stdout it stores nothing and prints each raw record as a line of base64 on
/// stdout, bad rows likewise on stderr. The other roles share the raw stream, so they run in one process: `snowmelt up`.
/// Prints one line when it answers: ready collector=HOST:PORT admin=HOST:PORT (on stderr where records go to stdout).
/// Health and metrics are at the second address. It ends as `up` does, with the same exit codes.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  snowmelt run collector --data-dir /var/lib/snowmelt
  snowmelt run collector --set collector.streams.sink=stdout | snowmelt enrich"
)]
pub(crate) struct Run {
    /// The roles, parted by commas
    #[arg(value_name = "ROLE", value_delimiter = ',', required = true)]
    roles: Vec<Role>,
    #[command(flatten)]
    sources: Sources,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Role {
    /// Takes tracker requests
    Collector,
}

impl Run {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let config = config::load(&self.sources, std::env::vars())?;
        let endings = Endings::watch()?;
        // One role is known, so that is the one that was named.
        let collector = CollectorAlone::start(&config, &endings)?;
        let line = collector.ready_line();
        match config.collector.streams.sink {
            SinkKind::Log => {
                let mut out = std::io::stdout().lock();
                writeln!(out, "{line}")?;
                out.flush()?;
            }
            SinkKind::Stdout => stderr::say(&line),
        }
        let ending = endings.wait();
        let code = exit_code(ending, collector.stop());
        stderr::flush();
        Ok(code)
    }
}
