//! `snowmelt status`: where the running process stands, for people.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::Value;

use crate::client::Server;
use crate::table::Table;

/// Show where the running server stands: iteration, and for each partition cut, archive, frontier and lag
///
/// The exit code is 1 when a check of /health fails; the failing checks are printed with the way out.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  snowmelt status
  snowmelt status --json --data-dir /var/lib/snowmelt")]
pub(crate) struct Status {
    /// Print the answer of /api/v1/status, with the checks under `health`
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

impl Status {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let mut status = self.server.get("/api/v1/status")?;
        let health = self.server.get_even_if_unwell("/health")?;
        let is_well = health["status"] == "ok";
        let mut out = std::io::stdout().lock();
        if self.json {
            status["health"] = health;
            writeln!(out, "{status}")?;
        } else {
            print(&status, &health, &mut out)?;
        }
        out.flush()?;
        Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn print(status: &Value, health: &Value, out: &mut dyn Write) -> Result<()> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    writeln!(
        out,
        "iteration {} (generation {}), committed at {}",
        status["iteration"],
        status["generation"],
        text(&status["committed_at"])
    )?;
    let running = match (&status["batch"]["running"], &status["batch"]["rebuilding"]) {
        (Value::Bool(true), _) => "an iteration runs",
        (_, Value::Object(_)) => "a rebuild runs",
        _ => "waits for the next iteration",
    };
    writeln!(out, "batch layer: {running}")?;
    writeln!(out, "collector: {} records accepted", status["collector"]["accepted"])?;
    let columns =
        ["partition", "cut", "archived to", "frontier", "raw end", "frontier lag s", "cut age s"];
    let seconds = |value: &Value| format!("{:.1}", value.as_f64().unwrap_or_default()).into();
    let row = |it: &Value| -> Vec<Value> {
        let partition = it["partition"].as_str().unwrap_or_default();
        let of = |cut: &Value| cut.get(partition).cloned().unwrap_or_else(|| "-".into());
        vec![
            partition.into(),
            of(&status["cut"]),
            of(&status["batch"]["archived"]),
            it["visible_to"].clone(),
            it["raw_end"].clone(),
            seconds(&it["frontier_lag_seconds"]),
            seconds(&it["cut_age_seconds"]),
        ]
    };
    let table = Table {
        columns: columns.map(str::to_owned).to_vec(),
        rows: status["partitions"].as_array().into_iter().flatten().map(row).collect(),
    };
    table.print_text(out)?;
    let failing: Vec<&Value> = health["checks"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|check| check["status"] != "ok")
        .collect();
    if failing.is_empty() {
        writeln!(out, "health: ok")?;
    }
    for check in failing {
        let part = |name: &str| check[name].as_str().unwrap_or_default();
        writeln!(out, "FAILING {}: {}\n  {}", part("name"), part("message"), part("hint"))?;
    }
    Ok(())
}
