//! `snowmelt up`: every role in one process, until it is asked to end.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;

use crate::config::{self, Sources};
use crate::endings::{Endings, exit_code};
use crate::roles::Roles;

/// Run every role in one process, with embedded defaults
///
/// Prints one line when all of it answers: ready collector=HOST:PORT http=HOST:PORT pg=HOST:PORT
/// SIGTERM or Ctrl-C ends it in order: requests in flight are answered, what waits for a sink is sent, then every role
/// ends; exit code 0, or 1 with the count when a deadline left connections or records. Killing it loses nothing that
/// was answered 200. SIGHUP reads the certificates again and opens the access log anew.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  snowmelt up
  snowmelt up --data-dir /var/lib/snowmelt --set enrich.schemas=/etc/snowmelt/schemas
  snowmelt up --set collector.port=9090 --set batch.interval=1m --log-format json"
)]
pub(crate) struct Up {
    #[command(flatten)]
    sources: Sources,
}

impl Up {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let config = config::load(&self.sources, std::env::vars())?;
        let endings = Endings::watch()?;
        let Some(roles) = Roles::start(&config, &endings)? else { return Ok(ExitCode::SUCCESS) };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", roles.ready_line())?;
        out.flush()?;
        let ending = endings.wait();
        Ok(exit_code(ending, roles.stop()))
    }
}
