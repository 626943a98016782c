//! `snowmelt demo`: a walk through the whole loop with a synthetic web shop, in a folder that is removed at the end.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::client::Server;
use crate::config::{self, Sources};
use crate::endings::{Ending, Endings};
use crate::load::{self, Plan, Report};
use crate::roles::Roles;
use crate::table::Table;

/// Show it: traffic in, a live count, an iteration, the cut moving while the answer stays exact, and one bad row
///
/// Takes less than a minute. Everything lies in a temporary folder that is removed at the end. Without --exit it stays
/// up, with some traffic, to be looked at until Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  snowmelt demo
  snowmelt demo --exit --rate 2000"
)]
pub(crate) struct Demo {
    /// End by itself after the walk
    #[arg(long)]
    exit: bool,
    /// Events per second of the synthetic shop
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u64).range(1..=20_000))]
    rate: u64,
    /// One key of the configuration, for example `--set collector.port=8080`
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// How long traffic flows in front of the visitor.
const WATCHING: Duration = Duration::from_secs(8);

impl Demo {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let folder = Temporary::create()?;
        // Any free port: the demo must not disturb a pipeline that runs already.
        let free = [
            "collector.port=0",
            "collector.bind=127.0.0.1",
            "server.http-port=0",
            "server.pg-port=0",
            "stream.disk-reserve=0",
        ];
        let set = free.iter().map(|text| (*text).to_owned()).chain(self.set.clone()).collect();
        let sources = Sources { set, data_dir: Some(folder.0.clone()), ..Sources::default() };
        let config = config::load(&sources, std::env::vars())?;
        let endings = Endings::watch()?;
        say("Starting every role of the pipeline in this process …")?;
        let Some(roles) = Roles::start(&config, &endings)? else { return Ok(ExitCode::SUCCESS) };
        println!("{}", roles.ready_line());
        let walked = Walk::through(&roles, self.rate, &endings).and_then(|ending| match ending {
            None if !self.exit => stay(&roles, &endings).map(Some),
            ending => Ok(ending),
        });
        roles.stop();
        drop(folder);
        match walked? {
            Some(Ending::Panicked) => Ok(ExitCode::from(70)),
            Some(Ending::Asked | Ending::ReaderGone) | None => Ok(ExitCode::SUCCESS),
        }
    }
}

/// A folder that is removed when the demo ends in order.
struct Temporary(std::path::PathBuf);

impl Temporary {
    fn create() -> Result<Temporary> {
        let path = std::env::temp_dir().join(format!("snowmelt-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("create `{}`", path.display()))?;
        Ok(Temporary(path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("snowmelt: remove `{}`: {error}", self.0.display());
        }
    }
}

/// Where the visitor is led.
struct Walk<'a> {
    server: Server,
    endings: &'a Endings,
}

impl Walk<'_> {
    /// The whole walk; ends early when the process is asked to end.
    fn through(roles: &Roles, rate: u64, endings: &Endings) -> Result<Option<Ending>> {
        let walk = Walk { server: server_of(roles), endings };
        say(&format!(
            "\n1. Traffic. A synthetic web shop posts about {rate} events per second to the collector with the tracker\n   \
             protocol. Each is answered 200 when it is on disk. The count is live:"
        ))?;
        let traffic = Traffic::start(roles, rate, WATCHING + Duration::from_secs(2));
        if let Some(ending) = walk.watch_the_count()? {
            return Ok(Some(ending));
        }
        say("\n2. What came in, by type:")?;
        walk.show("SELECT event, count(*) AS events FROM atomic.events GROUP BY event ORDER BY events DESC")?;
        let report = traffic.end()?;
        walk.wait_for(report.accepted)?;

        say(
            "\n3. The traffic pauses. All of it was answered from the speed layer, since the cut is at the beginning:",
        )?;
        let before = walk.layers()?;
        say(
            "\n4. One iteration of the batch layer: archive the raw records, enrich them again from the archive, publish\n   \
             batch view and cut in one commit …",
        )?;
        let started = Instant::now();
        let answer = walk.server.post("/api/v1/batch", &json!({}))?;
        println!(
            "   iteration {} published after {:.1} s",
            answer["iteration"],
            started.elapsed().as_secs_f64()
        );
        say(
            "\n5. The cut has moved, and the same question has the same answer, now from the batch layer:",
        )?;
        let after = walk.layers()?;
        walk.show("SELECT * FROM lambda.cut")?;
        let same =
            if before == after { "equal, to the event" } else { "NOT EQUAL: please report this" };
        println!("   {} events before, {} after: {same}.", before, after);

        say(
            "\n6. Some events named a schema that nobody has. None was lost; each is a failed event, and a bad row with its reason:",
        )?;
        walk.show_a_bad_row()?;
        say("\n7. The ledger. Everything accepted has an outcome:")?;
        walk.account(&report)?;
        Ok(walk.endings.is_over())
    }

    fn watch_the_count(&self) -> Result<Option<Ending>> {
        let started = Instant::now();
        while started.elapsed() < WATCHING {
            if let Some(ending) = self.endings.is_over() {
                return Ok(Some(ending));
            }
            std::thread::sleep(Duration::from_secs(1));
            println!("   {:>8} events", self.count("SELECT count(*) FROM atomic.events")?);
        }
        Ok(None)
    }

    /// Waits until everything that was accepted is visible.
    fn wait_for(&self, accepted: u64) -> Result<()> {
        let patience = Instant::now() + Duration::from_secs(30);
        while self.rows()? < accepted && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn rows(&self) -> Result<u64> {
        let count = |table| self.count(&format!("SELECT count(*) FROM atomic.{table}"));
        Ok(count("events")? + count("bad_rows")?)
    }

    /// Shows how many events each layer answers, and returns their sum.
    fn layers(&self) -> Result<u64> {
        self.show("SELECT _layer AS layer, count(*) AS events FROM atomic.events GROUP BY _layer")?;
        self.count("SELECT count(*) FROM atomic.events")
    }

    fn show_a_bad_row(&self) -> Result<()> {
        let answer = self.ask("SELECT type, messages FROM atomic.bad_rows LIMIT 1")?;
        let table = Table::from_answer(&answer);
        if let Some([Value::String(kind), Value::String(messages)]) =
            table.rows.first().map(Vec::as_slice)
        {
            let messages: Value = serde_json::from_str(messages).unwrap_or(Value::Null);
            let text = serde_json::to_string_pretty(&messages).context("print a bad row")?;
            println!("   {kind}\n   {}", text.replace('\n', "\n   "));
        }
        Ok(())
    }

    fn account(&self, report: &Report) -> Result<()> {
        self.show(
            "SELECT partition, sum(records) AS records, sum(enriched) AS enriched, sum(failed) AS failed, \
             sum(bad) AS bad FROM lambda.ledger WHERE records IS NOT NULL GROUP BY partition ORDER BY partition",
        )?;
        let rows = self.rows()?;
        let verdict = if rows == report.accepted {
            "nothing lost, nothing twice"
        } else {
            "NOT EQUAL: please report this"
        };
        println!(
            "   accepted by the collector: {}; events and bad rows together: {rows}: {verdict}.",
            report.accepted
        );
        Ok(())
    }

    fn count(&self, statement: &str) -> Result<u64> {
        let answer = self.ask(statement)?;
        answer["rows"][0][0].as_u64().with_context(|| format!("no count from `{statement}`"))
    }

    fn ask(&self, statement: &str) -> Result<Value> {
        self.server
            .post("/api/v1/sql", &json!({"sql": statement}))
            .with_context(|| format!("ask `{statement}`"))
    }

    fn show(&self, statement: &str) -> Result<()> {
        println!("   > {statement}");
        let mut text = Vec::new();
        Table::from_answer(&self.ask(statement)?).print_text(&mut text)?;
        for line in String::from_utf8_lossy(&text).lines() {
            println!("   {line}");
        }
        Ok(())
    }
}

/// Traffic in the background.
struct Traffic(JoinHandle<Result<Report>>);

impl Traffic {
    fn start(roles: &Roles, rate: u64, duration: Duration) -> Traffic {
        let plan = Plan {
            address: roles.addresses().collector.clone(),
            path: "/com.snowplowanalytics.snowplow/tp2".to_owned(),
            events_per_second: rate,
            duration,
            connections: 4,
            events_per_request: 2,
            bad_one_in: 100,
            seed: load::fresh_seed(),
        };
        Traffic(std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("start the runtime of the traffic")?;
            runtime.block_on(load::run(&plan, Arc::new(|_| {})))
        }))
    }

    fn end(self) -> Result<Report> {
        self.0.join().map_err(|_| anyhow::anyhow!("the traffic ended by a panic"))?
    }
}

/// Leaves the pipeline running, with some traffic, until the process is asked to end.
fn stay(roles: &Roles, endings: &Endings) -> Result<Ending> {
    let http = &roles.addresses().http;
    say(&format!(
        "\nIt stays up, with some traffic, until you press Ctrl-C. Look around:\n  \
         snowmelt sql --url http://{http} \"SELECT * FROM lambda.ledger\"\n  \
         curl http://{http}/api/v1/status\n  \
         point a tracker at http://{}",
        roles.addresses().collector
    ))?;
    loop {
        let traffic = Traffic::start(roles, 20, Duration::from_secs(5));
        let ended = traffic.end();
        if let Some(ending) = endings.is_over() {
            return Ok(ending);
        }
        ended?;
    }
}

fn server_of(roles: &Roles) -> Server {
    Server {
        url: Some(format!("http://{}", roles.addresses().http)),
        data_dir: std::path::PathBuf::new(),
        password: None,
    }
}

fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}
