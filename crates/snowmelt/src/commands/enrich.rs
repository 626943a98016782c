//! `snowmelt enrich`: the enrich function alone, offline: raw records in, outcomes out.
//!
//! Nothing is stored and nothing is asked: the same input and folders give the same output, but for the times of
//! bad rows and `etl_tstamp`.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use ::enrich::{Outcome, Recipe};
use anyhow::{Context, Result, bail};
use base64::Engine;
use model::position::{Offset, Partition, RawRecord};
use model::time::{Clock, Timestamp};
use serde_json::{Value, json};

use crate::clock::SystemClock;

/// Enrich raw records offline and print their outcomes
///
/// Input: one raw record per line, base64 of the Thrift collector payload (what `snowmelt stream dump raw` prints).
/// Output: one JSON line per record: {"position":…,"good":[TSV,…],"bad":[{bad row},…],"failed":[],"dropped":0}
/// The position's partition is offline/FILE, its offset the line number from 0; empty lines are skipped.
///
/// Examples:
///   snowmelt stream dump raw --data-dir ./snowmelt-data | snowmelt enrich
///   snowmelt enrich --schemas ./schemas records.b64
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Enrich {
    /// A folder of Iglu schemas laid out as vendor/name/format/version; may be given more than once
    #[arg(long, value_name = "DIR")]
    schemas: Vec<PathBuf>,
    /// The form of the input
    #[arg(long, value_enum, default_value_t = Input::ThriftBase64)]
    input: Input,
    /// Files to read; `-` or none for standard input
    files: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Input {
    /// One record per line: base64 of the Thrift bytes
    ThriftBase64,
}

impl Enrich {
    pub(crate) fn run(self) -> Result<ExitCode> {
        for folder in &self.schemas {
            if !folder.is_dir() {
                bail!("`--schemas {}` is not a folder", folder.display());
            }
        }
        let registry = assets::Folders::new(Arc::new(stream::disk::Disk), self.schemas);
        let recipe = assets::current_recipe(&registry, ::enrich::Settings::default())
            .context("read the schemas")?;
        let files = if self.files.is_empty() { vec![PathBuf::from("-")] } else { self.files };
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        for file in &files {
            let Input::ThriftBase64 = self.input;
            enrich_file(file, &recipe, &mut out)
                .with_context(|| format!("enrich `{}`", file.display()))?;
        }
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }
}

fn enrich_file(file: &Path, recipe: &Recipe, out: &mut dyn Write) -> Result<()> {
    let lines: Box<dyn BufRead> = if file == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(file)?))
    };
    let partition = Partition::offline(&file.to_string_lossy());
    for (number, line) in lines.lines().enumerate() {
        let line = line.with_context(|| format!("read line {}", number + 1))?;
        if line.trim().is_empty() {
            continue;
        }
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(line.trim())
            .with_context(|| format!("line {} is not base64", number + 1))?;
        let record = RawRecord {
            partition: &partition,
            offset: Offset::from_number(number as u64),
            bytes: &bytes,
        };
        let outcomes = assets::drive(&record, recipe)?;
        writeln!(out, "{}", to_json(&record, outcomes, SystemClock.now())?)?;
    }
    Ok(())
}

fn to_json(record: &RawRecord<'_>, outcomes: Vec<Outcome>, now: Timestamp) -> Result<Value> {
    let (mut good, mut bad, mut failed, mut dropped) =
        (Vec::new(), Vec::<Value>::new(), Vec::new(), 0);
    let mut print_bad = |row: &model::bad_row::BadRow| -> Result<()> {
        let text = row.to_json(&::enrich::processor(), now);
        bad.push(serde_json::from_str(&text).context("read back a bad row")?);
        Ok(())
    };
    for outcome in outcomes {
        match outcome {
            Outcome::Enriched(mut event) => {
                event.etl_tstamp = Some(now);
                good.push(event.to_tsv());
            }
            Outcome::Failed { bad_row, mut event } => {
                print_bad(&bad_row)?;
                event.etl_tstamp = Some(now);
                failed.push(event.to_tsv());
            }
            Outcome::Bad(row) => print_bad(&row)?,
            Outcome::Dropped { .. } => dropped += 1,
        }
    }
    let position =
        json!({"partition": record.partition.as_str(), "offset": record.offset.to_string()});
    Ok(
        json!({"position": position, "good": good, "bad": bad, "failed": failed, "dropped": dropped}),
    )
}
