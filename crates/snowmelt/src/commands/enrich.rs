//! `snowmelt enrich`: the enrich function alone, offline: raw records in, outcomes out.
//!
//! Nothing is stored, and nobody is asked unless a resolver is given: the same input, folders and answers give the same
//! output, but for the times of bad rows and `etl_tstamp`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use ::enrich::Outcome;
use anyhow::{Context, Result, bail};
use assets::enrichments::{Configured, Source};
use assets::resolver_config::ResolverConfig;
use assets::{Answers, Driver};
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use model::position::{Offset, Partition, RawRecord};
use model::time::{Clock, Timestamp};
use serde_json::{Value, json};

use crate::clock::SystemClock;

/// With padding or without, as the stdout sink of a collector prints it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Enrich raw records offline and print their outcomes
///
/// Input: one raw record per line, base64 of the Thrift collector payload (what `snowmelt stream dump raw` prints, or the
/// stdout sink of a collector).
/// Output: one JSON line per record: {"position":…,"good":[TSV,…],"bad":[{bad row},…],"failed":[TSV,…],"dropped":0}
/// Each event that was refused has a bad row, and a failed event: as much of it as is valid, with what went wrong among
/// its derived contexts.
/// The position's partition is offline/FILE, its offset the line number from 0; empty lines are skipped.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  snowmelt stream dump raw --data-dir ./snowmelt-data | snowmelt enrich
  snowmelt run collector --set collector.streams.sink=stdout | snowmelt enrich
  snowmelt enrich --schemas ./schemas records.b64
  snowmelt enrich --resolver ./resolver.json records.b64
  snowmelt enrich --enrichments ./enrichments records.b64"
)]
pub(crate) struct Enrich {
    /// A folder of Iglu schemas laid out as vendor/name/format/version, or a JSON file with an array of schemas; may be
    /// given more than once
    #[arg(long, value_name = "DIR")]
    schemas: Vec<PathBuf>,
    /// A Snowplow resolver JSON, or `iglu-central`: ask these registries for all other schemas. Without it no network
    /// is used, and a schema that is in no folder is absent
    #[arg(long, value_name = "FILE")]
    resolver: Option<String>,
    /// A folder of Snowplow's enrichment configurations, one JSON file each. Without it only those run that need none
    #[arg(long, value_name = "DIR")]
    enrichments: Option<PathBuf>,
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
            if !folder.is_dir() && !folder.is_file() {
                bail!("`--schemas {}` is neither a folder nor a file", folder.display());
            }
        }
        let mut driver = driver(self.schemas, self.resolver.as_deref(), self.enrichments)?;
        let files = if self.files.is_empty() { vec![PathBuf::from("-")] } else { self.files };
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        for file in &files {
            let Input::ThriftBase64 = self.input;
            enrich_file(file, &mut driver, &mut out)
                .with_context(|| format!("enrich `{}`", file.display()))?;
        }
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The recipe of these folders and registries, and who asks the latter.
fn driver(
    mut folders: Vec<PathBuf>,
    resolver: Option<&str>,
    enrichments: Option<PathBuf>,
) -> Result<Driver> {
    let files = Arc::new(stream::disk::Disk);
    let config = resolver.map(|named| ResolverConfig::read(&*files, named)).transpose();
    let config = config.context("read `--resolver`")?;
    folders.extend(config.iter().flat_map(|config| config.folders.clone()));
    let answers = match &config {
        None => Answers::none(),
        Some(config) => {
            let uris = config.resolver.repositories.iter().map(|it| it.uri.as_str());
            let uris: Vec<&str> = uris.collect();
            eprintln!("schemas that are not at hand are asked for at {}", uris.join(", "));
            Answers::in_memory(Arc::new(config.http()))
        }
    };
    let registry = assets::Folders::new(files.clone(), folders);
    let settings = ::enrich::Settings { failed_events: true, ..::enrich::Settings::default() };
    let resolver = config.as_ref().map(|config| &config.resolver);
    let recipe = assets::proposed_recipe(&registry, settings, resolver, None, &answers);
    let mut recipe = recipe.context("read the schemas")?;
    if let Some(folder) = enrichments {
        let read = Source::new(files, Configured::Folder(folder)).read();
        recipe = recipe.with_enrichments(read.context("read `--enrichments`")?);
    }
    Ok(Driver::new(Arc::new(recipe), Arc::new(answers)))
}

fn enrich_file(file: &Path, driver: &mut Driver, out: &mut dyn Write) -> Result<()> {
    let input: Box<dyn Read> = if file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(File::open(file)?)
    };
    let mut input = BufReader::new(input);
    let partition = Partition::offline(&file.to_string_lossy());
    let mut line = String::new();
    for number in 0.. {
        // A collector at the other end of the pipe may be silent for long: what is known is shown.
        if input.buffer().is_empty() {
            out.flush()?;
        }
        line.clear();
        let read = input.read_line(&mut line);
        if read.with_context(|| format!("read line {}", number + 1))? == 0 {
            break;
        }
        if line.trim().is_empty() {
            continue;
        }
        let bytes = BASE64
            .decode(line.trim())
            .with_context(|| format!("line {} is not base64", number + 1))?;
        let record =
            RawRecord { partition: &partition, offset: Offset::from_number(number), bytes: &bytes };
        let outcomes = driver.drive(&record).with_context(|| {
            format!("enrich line {}; what comes before it is printed", number + 1)
        })?;
        writeln!(out, "{}", to_json(&record, outcomes, SystemClock.now())?)?;
    }
    Ok(())
}

fn to_json(record: &RawRecord<'_>, outcomes: Vec<Outcome>, now: Timestamp) -> Result<Value> {
    let (mut good, mut bad, mut failed, mut dropped) =
        (Vec::new(), Vec::<Value>::new(), Vec::new(), 0);
    let mut pii = Vec::new();
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
            Outcome::Failed { bad_row, event } => {
                print_bad(&bad_row)?;
                failed.push(event.stamp(&::enrich::processor(), now).to_tsv());
            }
            Outcome::Bad(row) => print_bad(&row)?,
            Outcome::Dropped { .. } => dropped += 1,
            Outcome::Pii(mut event) => {
                event.etl_tstamp = Some(now);
                pii.push(event.to_tsv());
            }
        }
    }
    let position =
        json!({"partition": record.partition.as_str(), "offset": record.offset.to_string()});
    let mut line = json!({
        "position": position, "good": good, "bad": bad, "failed": failed, "dropped": dropped,
    });
    if !pii.is_empty() {
        line["pii"] = json!(pii);
    }
    Ok(line)
}
