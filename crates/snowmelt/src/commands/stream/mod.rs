//! `snowmelt stream list|tail|dump|verify|repair`: the embedded log, for people. All but `repair` work beside a running
//! process and change nothing.

mod repair;
mod verify;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine;
use clap::Subcommand;
use model::files::Files;
use model::payload::CollectorPayload;
use model::position::{Offset, Partition};
use model::sdk::Event;
use serde_json::{Value, json};
use speed::output;
use stream::Record;
use stream::disk::Disk;
use stream::local::inspect::{self, Reader};

use crate::table::Table;

/// Look into the streams of a data folder, check every byte of them, and repair what is damaged
///
/// All but repair work beside a running server and change nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  snowmelt stream list
  snowmelt stream verify")]
pub(crate) struct Stream {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the partitions: what they hold, and in what state
    #[command(after_help = "\
Examples:
  snowmelt stream list
  snowmelt stream list --json --data-dir /var/lib/snowmelt")]
    List {
        #[command(flatten)]
        folder: Folder,
        /// One JSON object per partition
        #[arg(long)]
        json: bool,
    },
    /// Print records as people read them: collector payloads, lines of enriched TSV, bad rows; the newest first ones last
    #[command(after_help = "\
Examples:
  snowmelt stream tail raw
  snowmelt stream tail enriched --json --lines 1
  snowmelt stream tail bad --follow --lines 1")]
    Tail {
        #[command(flatten)]
        folder: Folder,
        /// The stream (raw, enriched, bad, failed, pii) or one partition of it, for example raw/0
        #[arg(default_value = "raw")]
        stream: String,
        /// How many of the last records of each partition
        #[arg(long, short, default_value_t = 10)]
        lines: usize,
        /// Go on printing what is appended
        #[arg(long, short)]
        follow: bool,
        /// Print events as JSON, in the flat form of Snowplow's analytics SDKs; the other streams are JSON anyway
        #[arg(long)]
        json: bool,
    },
    /// Print every stored record, one per line, as base64 of its bytes: the input of `snowmelt enrich`
    #[command(after_help = "\
Examples:
  snowmelt stream dump raw > records.b64
  snowmelt stream dump raw/0 --json --from 00000000000000001000")]
    Dump {
        #[command(flatten)]
        folder: Folder,
        /// The stream (raw, enriched, bad, failed, pii) or one partition of it, for example raw/0
        #[arg(default_value = "raw")]
        stream: String,
        /// Print one JSON object per record, with its position
        #[arg(long)]
        json: bool,
        /// Start at this offset
        #[arg(long)]
        from: Option<Offset>,
    },
    /// Read every byte and name each damage: file, byte, positions; exit code 1 if there is any
    ///
    /// Checks checksums, the order of offsets and batches, the chain of segments and their durable ends, and holds the
    /// raw stream against the master dataset. Works beside a running server.
    #[command(after_help = "\
Examples:
  snowmelt stream verify
  snowmelt stream verify raw --json --data-dir /var/lib/snowmelt")]
    Verify {
        #[command(flatten)]
        folder: Folder,
        /// The stream (raw, enriched, bad, failed, pii) or one partition of it, for example raw/0; without it, all
        stream: Option<String>,
        /// One JSON object per partition
        #[arg(long)]
        json: bool,
    },
    /// Make a damaged log whole again; the server must be stopped
    ///
    /// Raw records that the master dataset has are taken from there. Records that are nowhere else are lost: each leaves
    /// a bad row at its position, so that no number is silently lower, and that wants --accept-loss. Damaged files are
    /// kept beside as *.damaged. Derived streams (enriched, bad, failed) are removed and made again at the next
    /// start.
    ///
    /// Exit code 1 when something stays damaged.
    #[command(after_help = "\
Examples:
  snowmelt stream repair --dry-run
  snowmelt stream repair --data-dir /var/lib/snowmelt
  snowmelt stream repair --accept-loss")]
    Repair {
        #[command(flatten)]
        folder: Folder,
        /// Say what would be done, and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Go on where raw records are lost for good
        #[arg(long)]
        accept_loss: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Folder {
    /// The data folder
    #[arg(long, value_name = "DIR", default_value = "./snowmelt-data")]
    data_dir: PathBuf,
}

impl Folder {
    fn streams(&self) -> Result<PathBuf> {
        let streams = self.data_dir.join("streams");
        if !streams.is_dir() {
            bail!(
                "`{}` is not a data folder: it has no `streams`; name one with `--data-dir`",
                self.data_dir.display()
            );
        }
        Ok(streams)
    }

    /// Those that `name` names, or all.
    fn partitions_of(&self, name: Option<&str>) -> Result<Vec<Partition>> {
        match name {
            Some(name) => self.partitions(name),
            None => {
                let mut all = inspect::partitions(&Disk, &self.streams()?)?;
                all.extend(crate::archive::known_partitions(&self.data_dir)?);
                all.sort();
                all.dedup();
                Ok(all)
            }
        }
    }

    /// The partitions that `name` names: one, or all of a stream.
    fn partitions(&self, name: &str) -> Result<Vec<Partition>> {
        let all = inspect::partitions(&Disk, &self.streams()?)?;
        let of_stream = |partition: &&Partition| {
            partition.as_str() == name
                || partition.as_str().rsplit_once('/').is_some_and(|(stream, _)| stream == name)
        };
        let found: Vec<Partition> = all.iter().filter(of_stream).cloned().collect();
        if found.is_empty() {
            let known: Vec<&str> = all.iter().map(Partition::as_str).collect();
            bail!(
                "no stream or partition `{name}` in `{}`: there are {}",
                self.data_dir.display(),
                known.join(", ")
            );
        }
        Ok(found)
    }

    fn reader(&self, partition: &Partition, from: Option<Offset>) -> Result<Reader> {
        let files: Arc<dyn Files> = Arc::new(Disk);
        Ok(Reader::open(files, &self.streams()?, partition, from)?)
    }
}

impl Stream {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        let mut is_whole = true;
        match self.action {
            Action::List { folder, json } => list(&folder, json, &mut out)?,
            Action::Tail { folder, stream, lines, follow, json } => {
                let wanted = Wanted { lines, follow, json };
                tail(&folder, &stream, wanted, &mut out)?
            }
            Action::Dump { folder, stream, json, from } => {
                for partition in folder.partitions(&stream)? {
                    dump(&folder, &partition, from, json, &mut out)
                        .with_context(|| format!("dump `{partition}`"))?;
                }
            }
            Action::Verify { folder, stream, json } => {
                is_whole = verify::verify(&folder, stream.as_deref(), json, &mut out)?;
            }
            Action::Repair { folder, dry_run, accept_loss } => {
                let allowed = repair::Allowed { dry_run, accept_loss };
                is_whole = repair::repair(&folder, allowed, &mut out)?;
            }
        }
        out.flush()?;
        Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn list(folder: &Folder, as_json: bool, out: &mut dyn Write) -> Result<()> {
    let columns = ["partition", "start", "end", "segments", "bytes", "state"];
    let row = |listing: inspect::Listing| -> Vec<Value> {
        vec![
            listing.partition.as_str().into(),
            listing.start.to_string().into(),
            listing.end.to_string().into(),
            listing.segments.len().into(),
            listing.bytes.into(),
            state_text(&listing.state).into(),
        ]
    };
    let listings = inspect::list(&Disk, &folder.streams()?)?;
    let table = Table {
        columns: columns.map(str::to_owned).to_vec(),
        rows: listings.into_iter().map(row).collect(),
    };
    if as_json {
        table.print_json(out)?
    } else {
        table.print_text(out)?
    }
    Ok(())
}

/// What `tail` is to print.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    lines: usize,
    follow: bool,
    json: bool,
}

fn tail(folder: &Folder, stream: &str, wanted: Wanted, out: &mut dyn Write) -> Result<()> {
    let mut readers = Vec::new();
    for partition in folder.partitions(stream)? {
        let mut reader = folder.reader(&partition, None)?;
        let mut last = std::collections::VecDeque::new();
        while let Some(record) =
            reader.read_next().with_context(|| format!("read `{partition}`"))?
        {
            last.push_back(record);
            if last.len() > wanted.lines {
                last.pop_front();
            }
        }
        let mut shown = Shown { partition, json: wanted.json, parts: Vec::new() };
        for record in last {
            shown.print(&record, out)?;
        }
        readers.push((shown, reader));
    }
    out.flush()?;
    if !wanted.follow {
        return Ok(());
    }
    loop {
        for (shown, reader) in &mut readers {
            while let Some(record) =
                reader.read_next().with_context(|| format!("read `{}`", shown.partition))?
            {
                shown.print(&record, out)?;
            }
        }
        out.flush()?;
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn dump(
    folder: &Folder,
    partition: &Partition,
    from: Option<Offset>,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<()> {
    let mut reader = folder.reader(partition, from)?;
    while let Some(record) = reader.read_next()? {
        let bytes = base64::engine::general_purpose::STANDARD.encode(&record.bytes);
        if as_json {
            let position =
                json!({"partition": partition.as_str(), "offset": record.offset.to_string()});
            writeln!(out, "{}", json!({"position": position, "record": bytes}))?;
        } else {
            writeln!(out, "{bytes}")?;
        }
    }
    Ok(())
}

/// Prints the records of one partition: a raw record as one JSON line, the rows of a derived entry as they are.
struct Shown {
    partition: Partition,
    /// Enriched and failed events as JSON.
    json: bool,
    /// Slices of an entry whose last part is still to come.
    parts: Vec<u8>,
}

impl Shown {
    fn print(&mut self, record: &Record, out: &mut dyn Write) -> Result<()> {
        if self.partition.as_str().starts_with("raw/") {
            writeln!(out, "{}", raw_to_json(&self.partition, record))?;
            return Ok(());
        }
        let place = || format!("read the entry at {} of `{}`", record.offset, self.partition);
        let part = output::decode(&record.bytes).with_context(place)?;
        if part.part == 0 {
            self.parts.clear();
        }
        self.parts.extend_from_slice(&part.body);
        if part.part + 1 < part.parts {
            return Ok(());
        }
        // The first parts may lie before what was asked for; then the entry is not whole, and not shown.
        if let Ok(rows) = output::rows(part.kind, &part.mark, part.rows, &self.parts) {
            for row in &rows {
                match part.kind {
                    output::Kind::Enriched | output::Kind::Failed | output::Kind::Pii
                        if self.json =>
                    {
                        let event = Event::parse(row.text).with_context(place)?;
                        writeln!(out, "{}", Value::Object(event.to_flat_json()))?;
                    }
                    output::Kind::Enriched
                    | output::Kind::Failed
                    | output::Kind::Pii
                    | output::Kind::Bad => {
                        writeln!(out, "{}", row.text)?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn raw_to_json(partition: &Partition, record: &Record) -> Value {
    let position = json!({"partition": partition.as_str(), "offset": record.offset.to_string()});
    // The collector's own bad rows are JSON already.
    if let Ok(row @ Value::Object(_)) = serde_json::from_slice::<Value>(&record.bytes) {
        return json!({"position": position, "bad_row": row});
    }
    match CollectorPayload::decode(&record.bytes) {
        Ok(payload) => json!({
            "position": position,
            "ip_address": payload.ip_address,
            "timestamp": model::time::Timestamp(payload.timestamp).to_iso(),
            "path": payload.path,
            "querystring": payload.querystring,
            "content_type": payload.content_type,
            "network_userid": payload.network_userid,
            "user_agent": payload.user_agent,
            "body": payload.body,
        }),
        Err(error) => {
            json!({"position": position, "bytes": record.bytes.len(), "error": error.to_string()})
        }
    }
}

fn state_text(state: &inspect::State) -> String {
    match state {
        inspect::State::Whole => "whole".to_owned(),
        inspect::State::TornTail { at, .. } => format!("a batch in flight or torn at byte {at}"),
        inspect::State::Damaged(error) => format!("damaged: {error}"),
    }
}
