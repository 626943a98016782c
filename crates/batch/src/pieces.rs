//! One piece of an iteration's work: a file of the master dataset becomes table files and an entry of the ledger.
//!
//! The batcher's workers call it. Rows go to the disk in parts of bounded size. Every count in the ledger is taken
//! twice, from different data: records by the archiver and by the reader, outcomes by the function and by the rows that
//! were read back.

use std::path::Path;

use arrow::array::RecordBatch;
use assets::Driver;
use enrich::Outcome;
use model::bad_row::Processor;
use model::files::Files;
use model::iglu::SchemaKey;
use model::position::{Offset, Position, Range, RawRecord};
use model::time::Timestamp;
use stream::Record;
use views::catalog::{Counts, LedgerEntry, Table, TableFile};
use views::shred::{BadRowRows, EventRows};
use views::tables::{self, Lot};
use views::wide::{Inventory, Shape};

use crate::Error;
use crate::master::{self, Footer, Reader};
use crate::progress::Progress;

/// Rows, or bytes of bad rows, after which the builders hand their columns over: keeps a column far below 2 GiB.
const BATCH_ROWS: usize = 8192;
const BATCH_BAD_ROW_BYTES: usize = 32 << 20;

/// What all pieces of one iteration have in common.
pub(crate) struct Job<'a> {
    pub(crate) files: &'a dyn Files,
    pub(crate) data_dir: &'a Path,
    /// Where table files are written.
    pub(crate) lot: Lot,
    /// The iteration that covers the ranges first.
    pub(crate) iteration: u64,
    /// In an iteration, the recipe in force since the published cut.
    pub(crate) recipe: &'a Driver,
    pub(crate) processor: &'a Processor,
    /// `etl_tstamp` and failure time of every row: the moment at which the iteration was planned.
    pub(crate) now: Timestamp,
    pub(crate) progress: &'a Progress,
    /// Bounds of one table file; it ends with the record that reaches one of them.
    pub(crate) part_rows_max: usize,
    pub(crate) part_bytes_max: usize,
}

/// What a piece leaves for the manifest.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) files: Vec<TableFile>,
    pub(crate) entry: LedgerEntry,
    /// Which schemas the events hold.
    pub(crate) schemas: Inventory,
}

impl Job<'_> {
    /// Reads, checks, enriches and writes one file of the master dataset.
    pub(crate) fn run(&self, footer: &Footer) -> Result<Piece, Error> {
        let Range { partition, from, to } = &footer.range;
        let path = master::path(self.data_dir, partition, *from);
        let mut reader =
            Reader::open(self.files, self.data_dir, partition, *from)?.ok_or_else(|| {
                let (partition, path) = (partition.clone(), path.clone());
                Error::Hole { partition, from: *from, to: *to, path }
            })?;
        if reader.footer() != footer {
            return Err(Error::damaged(&path, "it is not the file that was planned with"));
        }
        let mut part = Part::new(self, footer);
        while let Some(records) = reader.read_frame()? {
            self.progress.check_stop()?;
            for record in &records {
                part.add(record)?;
            }
            self.progress.add_records(records.len() as u64);
        }
        part.finish()
    }
}

/// The rows of one piece on their way to the disk.
struct Part<'a> {
    job: &'a Job<'a>,
    /// The recipe, and what it has learned.
    recipe: Driver,
    footer: &'a Footer,
    /// Where the table files being built begin.
    from: Offset,
    events: EventRows,
    bad_rows: BadRowRows,
    bad_row_bytes: usize,
    failed_events: EventRows,
    /// Finished batches of each table, in the order of [`Table::ALL`].
    batches: [Vec<RecordBatch>; Table::ALL.len()],
    held: Held,
    records: u64,
    counts: Counts,
    files: Vec<TableFile>,
    /// Rows of each table that were found in the written files.
    rows_back: [u64; Table::ALL.len()],
}

/// What the finished batches hold.
#[derive(Default)]
struct Held {
    rows: usize,
    bytes: usize,
}

impl<'a> Part<'a> {
    fn new(job: &'a Job<'a>, footer: &'a Footer) -> Part<'a> {
        Part {
            job,
            recipe: job.recipe.clone(),
            footer,
            from: footer.range.from,
            events: EventRows::new(),
            bad_rows: BadRowRows::new(),
            bad_row_bytes: 0,
            failed_events: EventRows::new(),
            batches: Default::default(),
            held: Held::default(),
            records: 0,
            counts: Counts::default(),
            files: Vec::new(),
            rows_back: Default::default(),
        }
    }

    fn add(&mut self, record: &Record) -> Result<(), Error> {
        if self.is_full() {
            self.write(record.offset)?;
        }
        let partition = &self.footer.range.partition;
        let raw = RawRecord { partition, offset: record.offset, bytes: &record.bytes };
        let outcomes = self.recipe.drive(&raw)?;
        self.records += 1;
        for (index, outcome) in (0u32..).zip(outcomes) {
            if matches!(outcome, Outcome::Pii(_)) {
                // For the PII stream, which the speed layer writes.
                continue;
            }
            self.counts.outcomes += 1;
            let position = Position { partition: partition.clone(), offset: record.offset, index };
            self.push(&position, outcome);
        }
        Ok(())
    }

    fn push(&mut self, position: &Position, outcome: Outcome) {
        match outcome {
            Outcome::Enriched(mut event) => {
                event.etl_tstamp = Some(self.job.now);
                self.events.push(position, &event);
                self.counts.enriched += 1;
            }
            Outcome::Failed { bad_row, event } => {
                let event = event.stamp(self.job.processor, self.job.now);
                self.failed_events.push(position, &event);
                self.push_bad_row(position, &bad_row.to_json(self.job.processor, self.job.now));
                self.counts.failed += 1;
            }
            Outcome::Bad(bad_row) => {
                self.push_bad_row(position, &bad_row.to_json(self.job.processor, self.job.now));
                self.counts.bad += 1;
            }
            Outcome::Dropped { rule: _ } => self.counts.dropped += 1,
            Outcome::Pii(_) => {}
        }
        let batch_is_full = self.events.len() >= BATCH_ROWS
            || self.bad_rows.len() >= BATCH_ROWS
            || self.failed_events.len() >= BATCH_ROWS
            || self.bad_row_bytes >= BATCH_BAD_ROW_BYTES;
        if batch_is_full {
            self.finish_batches();
        }
    }

    fn push_bad_row(&mut self, position: &Position, json: &str) {
        self.bad_row_bytes += json.len();
        self.bad_rows.push(position, json);
    }

    fn finish_batches(&mut self) {
        let events = (!self.events.is_empty()).then(|| self.events.finish());
        let bad_rows = (!self.bad_rows.is_empty()).then(|| self.bad_rows.finish());
        let failed_events = (!self.failed_events.is_empty()).then(|| self.failed_events.finish());
        self.bad_row_bytes = 0;
        for (batches, finished) in self.batches.iter_mut().zip([events, bad_rows, failed_events]) {
            if let Some(batch) = &finished {
                self.held.rows += batch.num_rows();
                self.held.bytes += batch.get_array_memory_size();
            }
            batches.extend(finished);
        }
    }

    fn is_full(&self) -> bool {
        let open = self.events.len() + self.bad_rows.len() + self.failed_events.len();
        self.held.rows + open >= self.job.part_rows_max
            || self.held.bytes >= self.job.part_bytes_max
    }

    /// Writes what was added as the table files of [`from`, `to`).
    fn write(&mut self, to: Offset) -> Result<(), Error> {
        self.finish_batches();
        let range = Range { partition: self.footer.range.partition.clone(), from: self.from, to };
        for table in Table::ALL {
            let batches = std::mem::take(&mut self.batches[table as usize]);
            self.rows_back[table as usize] += self.write_table(table, &range, batches)?;
        }
        self.held = Held::default();
        self.from = to;
        Ok(())
    }

    /// Writes one table's file, unless it has no rows, and counts the rows that can be read from it.
    fn write_table(
        &mut self,
        table: Table,
        range: &Range,
        batches: Vec<RecordBatch>,
    ) -> Result<u64, Error> {
        if batches.is_empty() {
            return Ok(0);
        }
        let Job { files, data_dir, lot, recipe, .. } = self.job;
        let digest = recipe.recipe().digest();
        let file = tables::write(*files, data_dir, table, range, *lot, digest, &batches)?;
        drop(batches);
        let back = tables::read(*files, data_dir, &file)?;
        self.files.push(file);
        Ok(back.iter().map(|batch| batch.num_rows() as u64).sum())
    }

    fn finish(mut self) -> Result<Piece, Error> {
        let Range { partition, from, to } = self.footer.range.clone();
        self.write(to)?;
        let counts = self.counts;
        let rows = Table::ALL.map(|table| table.rows_of(&counts));
        let differs = if self.records != self.footer.records {
            Some(format!("{} records archived, {} read", self.footer.records, self.records))
        } else if !counts.closes() || counts.outcomes < self.records {
            Some(format!("{} records, {counts:?}", self.records))
        } else if rows != self.rows_back {
            let [events, bad_rows, failed_events] = self.rows_back;
            Some(format!(
                "{counts:?}, but {events} events, {bad_rows} bad rows and {failed_events} failed events were written"
            ))
        } else {
            None
        };
        if let Some(what) = differs {
            return Err(Error::LedgerOpen { partition, from, to, what });
        }
        let shape = |schema: &SchemaKey| shape(&self.recipe, schema);
        let schemas = Inventory {
            events: self.events.mentions().schemas(shape)?,
            failed_events: self.failed_events.mentions().schemas(shape)?,
        };
        let entry = LedgerEntry {
            partition,
            from,
            to,
            records: self.footer.records,
            counts,
            iteration: self.job.iteration,
            recipe: self.job.recipe.recipe().digest().to_owned(),
            master: self.footer.name(),
        };
        Ok(Piece { files: self.files, entry, schemas })
    }
}

/// What a schema says of the columns of its data: nothing where there is none.
pub(crate) fn shape(recipe: &Driver, schema: &SchemaKey) -> Result<Shape, Error> {
    Ok(recipe.schema(schema)?.as_ref().map_or(Shape::Json, Shape::of_schema))
}
