//! `snowmelt send`: load for a collector, with an account of what was accepted.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::load::{self, Plan, Report};

/// Send synthetic tracker-protocol events to a collector, and report what it accepted
///
/// A request whose fate is unknown (the connection broke before the answer) is not repeated: its events may be
/// stored or not, and are counted as unknown.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  snowmelt send http://127.0.0.1:8080
  snowmelt send --rate 5000 --duration 60s --connections 32 --events-per-request 10 http://127.0.0.1:8080
  snowmelt send --ids accepted.txt --json http://127.0.0.1:8080"
)]
pub(crate) struct Send {
    /// Events per second; 0 for as many as the collector answers
    #[arg(long, default_value_t = 100)]
    rate: u64,
    /// How long, for example 500ms, 10s, 5m
    #[arg(long, default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// Connections at a time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// Events in one POST
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    events_per_request: u16,
    /// Write the event id of every accepted event to this file, one per line, as they are accepted
    #[arg(long, value_name = "FILE")]
    ids: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// The collector, for example http://127.0.0.1:8080; the path defaults to tp2
    url: String,
}

impl Send {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let (address, path) = load::parse_url(&self.url)?;
        let plan = Plan {
            address,
            path,
            events_per_second: self.rate,
            duration: self.duration,
            connections: self.connections.into(),
            events_per_request: self.events_per_request.into(),
            bad_one_in: 0,
            seed: load::fresh_seed(),
        };
        let ids = self
            .ids
            .as_ref()
            .map(|path| {
                File::create(path)
                    .with_context(|| format!("create `{}`", path.display()))
                    .map(Mutex::new)
            })
            .transpose()?
            .map(Arc::new);
        let failed_write = Arc::new(Mutex::new(None));
        let failed = Arc::clone(&failed_write);
        let on_accepted: load::OnAccepted = Arc::new(move |accepted| {
            let Some(file) = &ids else { return };
            let lines: String = accepted.iter().map(|id| format!("{id}\n")).collect();
            if let Err(error) = file.lock().expect("no writer panics").write_all(lines.as_bytes()) {
                *failed.lock().expect("no writer panics") = Some(error);
            }
        });
        let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
        let report = runtime.block_on(load::run(&plan, on_accepted))?;
        self.print(&report)?;
        match failed_write.lock().expect("all writers have ended").take() {
            Some(error) => Err(error).context("write the ids"),
            None if report.accepted == 0 && report.sent > 0 => bail!(
                "no event was accepted at `{}`; the `ready` line of `snowmelt up` and `run.json` name the collector's \
                 address",
                self.url
            ),
            None => Ok(ExitCode::SUCCESS),
        }
    }

    fn print(&self, report: &Report) -> Result<()> {
        let millis = |share: f64| report.percentile(share).as_secs_f64() * 1000.0;
        let per_second = report.accepted as f64 / report.elapsed.as_secs_f64().max(1e-9);
        let mut out = std::io::stdout().lock();
        if self.json {
            let report = json!({
                "sent": report.sent,
                "accepted": report.accepted,
                "rejected": report.rejected,
                "unknown": report.unknown,
                "accepted_per_second": per_second,
                "p50_ms": millis(0.5),
                "p99_ms": millis(0.99),
                "max_ms": millis(1.0),
                "last_trouble": report.last_trouble,
            });
            writeln!(out, "{report}")?;
            return Ok(());
        }
        writeln!(out, "sent      {:>10} events", report.sent)?;
        writeln!(out, "accepted  {:>10} events ({per_second:.0}/s)", report.accepted)?;
        writeln!(out, "rejected  {:>10} events", report.rejected)?;
        writeln!(out, "unknown   {:>10} events", report.unknown)?;
        writeln!(
            out,
            "latency   p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
            millis(0.5),
            millis(0.99),
            millis(1.0)
        )?;
        if let Some(trouble) = &report.last_trouble {
            writeln!(out, "last trouble: {trouble}")?;
        }
        Ok(())
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    model::duration::parse(text).map_err(|error| error.to_string())
}
