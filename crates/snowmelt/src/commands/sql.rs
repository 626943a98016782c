//! `snowmelt sql`: one statement on a running server.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use crate::client::Server;
use crate::table::Table;

/// Run one SELECT on the running server and print its rows
///
/// Tables: atomic.events, atomic.bad_rows, atomic.failed_events, lambda.cut, lambda.iterations, lambda.ledger. Every
/// answer counts each raw record once: from the batch view below the cut, from the real-time view above it.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  snowmelt sql 'SELECT event, count(*) FROM atomic.events GROUP BY event'
  snowmelt sql 'SELECT type, messages FROM atomic.bad_rows LIMIT 5' --json
  snowmelt sql 'SELECT * FROM lambda.cut'"
)]
pub(crate) struct Sql {
    /// The statement
    statement: String,
    /// One JSON object per row
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Comma-separated values with a header
    #[arg(long)]
    csv: bool,
    /// Ask the batch view of this generation, without the real-time view if it is an older one
    #[arg(long, value_name = "N")]
    generation: Option<u64>,
    #[command(flatten)]
    server: Server,
}

impl Sql {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let mut request = json!({"sql": self.statement});
        if let Some(generation) = self.generation {
            request["generation"] = generation.into();
        }
        let answer = self.server.post("/api/v1/sql", &request)?;
        if let Some(note) = answer["note"].as_str() {
            eprintln!("note: {note}");
        }
        let table = Table::from_answer(&answer);
        let mut out = std::io::stdout().lock();
        match (self.json, self.csv) {
            (true, _) => table.print_json(&mut out)?,
            (false, true) => table.print_csv(&mut out)?,
            (false, false) => table.print_text(&mut out)?,
        }
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }
}
