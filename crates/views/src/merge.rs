//! The merge in plain Rust: batch rows below the cut and real-time rows from there to the frontier, each position once.
//!
//! The simulator, `verify` and tests use it as the reference for what serving answers in SQL. It reads everything into
//! memory, checks every digest, and fails rather than answer from less.

use std::path::Path;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use model::cut::{Cut, Frontier};
use model::files::Files;

use crate::Error;
use crate::catalog::{Table, TableFile};
use crate::lambda::Pin;
use crate::rows::{self, Row};
use crate::tables;
use crate::wide::{self, Column, Columns};

/// All rows below a frontier, in the order of their positions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MergedRows {
    pub events: Vec<Row>,
    pub bad_rows: Vec<Row>,
    pub failed_events: Vec<Row>,
}

impl MergedRows {
    /// The rows of one table.
    pub fn of(&mut self, table: Table) -> &mut Vec<Row> {
        match table {
            Table::Events => &mut self.events,
            Table::BadRows => &mut self.bad_rows,
            Table::FailedEvents => &mut self.failed_events,
        }
    }

    /// The rows without what equality leaves out: times that were stamped outside of the enrich function, and attempt
    /// counters.
    pub fn comparable(self) -> MergedRows {
        MergedRows {
            events: self.events.into_iter().map(Row::without_stamps).collect(),
            bad_rows: self.bad_rows.into_iter().map(Row::without_failure_time).collect(),
            failed_events: self
                .failed_events
                .into_iter()
                .map(Row::without_failure_stamps)
                .collect(),
        }
    }
}

/// The rows that a pin answers from.
///
/// # Errors
/// [`Error::Missing`] and [`Error::Damaged`] for a file of the batch view; [`Error::Position`] when a position occurs
/// twice or on the wrong side.
pub fn rows(pin: &Pin, files: &dyn Files, data_dir: &Path) -> Result<MergedRows, Error> {
    let cut = &pin.manifest.cut;
    let mut merged = MergedRows::default();
    for file in &pin.manifest.files {
        let found = batch_rows(file, cut, files, data_dir)?;
        merged.of(file.table).extend(found);
    }
    for chunk in &pin.snapshot.chunks {
        for table in Table::ALL {
            let found = rows::read(&[chunk.rows_beyond(table, cut)?])?;
            merged.of(table).extend(above(found, cut, &pin.frontier)?);
        }
    }
    for table in Table::ALL {
        sort_unique(merged.of(table))?;
    }
    Ok(merged)
}

/// The wide columns of one table as a pin answers them: what equals the reference, wherever the cut is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WideRows {
    /// Name and type of each column.
    pub columns: Vec<String>,
    /// In the order of the positions.
    pub rows: Vec<Row>,
}

impl WideRows {
    /// The wide columns of these rows.
    ///
    /// # Errors
    /// [`Error::Arrow`] when the batches are not rows of events.
    pub fn of(columns: &Columns, batches: &[RecordBatch]) -> Result<WideRows, Error> {
        let all = match batches {
            [] => Vec::new(),
            [first, ..] => {
                vec![wide::of_batch(columns, &concat_batches(&first.schema(), batches)?)?]
            }
        };
        let mut rows = rows::read(&all)?;
        sort_unique(&mut rows)?;
        let shown = |column: &Column| format!("{} {}", column.name(), column.data_type());
        Ok(WideRows { columns: columns.iter().map(shown).collect(), rows })
    }
}

/// The wide columns that a pin answers with, and their values.
///
/// # Errors
/// As [`rows()`].
pub fn wide_rows(
    pin: &Pin,
    table: Table,
    files: &dyn Files,
    data_dir: &Path,
) -> Result<WideRows, Error> {
    let mut batches = Vec::new();
    for file in pin.manifest.files_of(table) {
        batches.extend(tables::read(files, data_dir, file)?);
    }
    for chunk in &pin.snapshot.chunks {
        batches.push(chunk.rows_beyond(table, &pin.manifest.cut)?);
    }
    WideRows::of(&pin.wide_columns(table), &batches)
}

/// The rows of one file, which lie in its range and below the cut.
fn batch_rows(
    file: &TableFile,
    cut: &Cut,
    files: &dyn Files,
    data_dir: &Path,
) -> Result<Vec<Row>, Error> {
    let rows = rows::read(&tables::read(files, data_dir, file)?)?;
    for Row { position, .. } in &rows {
        let in_range =
            position.partition == file.partition && (file.from..file.to).contains(&position.offset);
        if !in_range || !cut.covers(&position.partition, position.offset) {
            let detail = "a row of a table file lies outside of the file's range or above the cut";
            return Err(Error::Position { position: position.clone(), detail });
        }
    }
    Ok(rows)
}

fn above(rows: Vec<Row>, cut: &Cut, frontier: &Frontier) -> Result<Vec<Row>, Error> {
    for Row { position, .. } in &rows {
        let below_cut = cut.covers(&position.partition, position.offset);
        if below_cut || !frontier.covers(&position.partition, position.offset) {
            let detail = "a real-time row lies below the cut or beyond the frontier";
            return Err(Error::Position { position: position.clone(), detail });
        }
    }
    Ok(rows)
}

fn sort_unique(rows: &mut [Row]) -> Result<(), Error> {
    rows.sort_by(|one, other| one.position.cmp(&other.position));
    match rows.windows(2).find(|pair| pair[0].position == pair[1].position) {
        Some(pair) => {
            Err(Error::Position { position: pair[0].position.clone(), detail: "it occurs twice" })
        }
        None => Ok(()),
    }
}
