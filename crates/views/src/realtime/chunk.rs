//! One chunk of the real-time view: the outcomes of one short range, the rows of all tables together. Immutable: a chunk
//! is replaced by a larger or by a spilled one, never changed, so that whoever holds it goes on reading.

use std::fmt;
use std::io::{self, Cursor};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt64Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use model::cut::Cut;
use model::files::Files;
use model::position::{Offset, Range};

use crate::Error;
use crate::catalog::{Counts, Table};
use crate::rows::Places;
use crate::schema;
use crate::wide::Inventory;

/// What the speed layer hands over: all outcomes of one range.
#[derive(Clone, Debug)]
pub struct NewChunk {
    pub range: Range,
    pub records: u64,
    pub counts: Counts,
    /// Rows of [`schema::events`] in the order of positions.
    pub events: RecordBatch,
    /// Rows of [`schema::bad_rows`] in the order of positions.
    pub bad_rows: RecordBatch,
    /// Rows of [`schema::events`] in the order of positions: the failed events, each beside its bad row.
    pub failed_events: RecordBatch,
    /// Which schemas the events and failed events hold.
    pub schemas: Inventory,
}

/// The outcomes of one range as they lie in the view, in memory or in a spill file.
#[derive(Debug)]
pub struct Chunk {
    range: Range,
    tally: Option<(u64, Counts)>,
    every_outcome_is_a_row: bool,
    data: ByTable<Data>,
}

/// A value for each table, in the order of [`Table::ALL`].
type ByTable<T> = [T; Table::ALL.len()];

/// The rows of one table.
enum Data {
    /// Most ranges have no row of some table, and a batch without rows takes kilobytes.
    Empty,
    Memory(RecordBatch),
    Spilled(SpillFile),
}

impl Chunk {
    pub fn range(&self) -> &Range {
        &self.range
    }

    /// Records and outcomes of the range; `None` when part of a redelivered range was cut off, so that the mark's
    /// numbers are not those of what is left.
    pub fn tally(&self) -> Option<(u64, Counts)> {
        self.tally
    }

    /// Whether each outcome of the range has a row here: none was dropped or erased. Then the rows of any part of it
    /// tell that part's numbers.
    pub fn every_outcome_is_a_row(&self) -> bool {
        self.every_outcome_is_a_row
    }

    /// How many rows of a table there are.
    pub fn row_count(&self, table: Table) -> usize {
        match self.data(table) {
            Data::Empty => 0,
            Data::Memory(rows) => rows.num_rows(),
            Data::Spilled(file) => file.rows,
        }
    }

    /// The rows of a table, in the order of positions. Reads the spill file if the chunk was spilled; blocking then.
    ///
    /// # Errors
    /// When the spill file is gone or damaged.
    pub fn rows(&self, table: Table) -> Result<RecordBatch, Error> {
        match self.data(table) {
            Data::Empty => Ok(RecordBatch::new_empty(schema::of(table))),
            Data::Memory(rows) => Ok(rows.clone()),
            Data::Spilled(file) => file.read(),
        }
    }

    /// The rows of a table that the cut does not cover: for a chunk that the cut enters, a part. Copies nothing.
    ///
    /// # Errors
    /// As [`Chunk::rows`].
    pub fn rows_beyond(&self, table: Table, cut: &Cut) -> Result<RecordBatch, Error> {
        from_offset(self.rows(table)?, cut.of(&self.range.partition))
    }

    /// Bytes in memory; 0 once it is spilled.
    pub fn memory_bytes(&self) -> u64 {
        let bytes = |data: &Data| match data {
            Data::Memory(rows) => rows.get_array_memory_size() as u64,
            Data::Empty | Data::Spilled(_) => 0,
        };
        self.data.iter().map(bytes).sum()
    }

    /// Bytes of the spill files; 0 while it is in memory.
    pub fn spilled_bytes(&self) -> u64 {
        let bytes = |data: &Data| match data {
            Data::Spilled(file) => file.bytes,
            Data::Empty | Data::Memory(_) => 0,
        };
        self.data.iter().map(bytes).sum()
    }

    pub(super) fn row_count_of_all(&self) -> usize {
        Table::ALL.iter().map(|table| self.row_count(*table)).sum()
    }

    pub(super) fn is_in_memory(&self) -> bool {
        !self.data.iter().any(|data| matches!(data, Data::Spilled(_)))
    }

    fn data(&self, table: Table) -> &Data {
        &self.data[table as usize]
    }

    /// The part of what was handed over that lies at or beyond `from`, after a check that the rows lie in their range
    /// and in order.
    pub(super) fn take(new: NewChunk, from: Offset) -> Result<Chunk, Error> {
        let NewChunk { range, records, counts, events, bad_rows, failed_events, schemas: _ } = new;
        let tables = [events, bad_rows, failed_events];
        for (table, rows) in Table::ALL.into_iter().zip(&tables) {
            check(&range, table, rows)?;
        }
        let is_a_row = matches!(counts, Counts { dropped: 0, erased: 0, .. });
        if from <= range.from {
            return Ok(Chunk::in_memory(range, Some((records, counts)), is_a_row, tables));
        }
        let mut left = Vec::with_capacity(tables.len());
        for rows in tables {
            left.push(copied(&from_offset(rows, from)?)?);
        }
        Ok(Chunk::in_memory(Range { from, ..range }, None, is_a_row, left))
    }

    /// Two neighbours as one.
    pub(super) fn joined(&self, next: &Chunk) -> Result<Chunk, Error> {
        debug_assert_eq!(self.range.to, next.range.from, "only neighbours are joined");
        let tally =
            self.tally.zip(next.tally).map(|((records, counts), (more_records, more_counts))| {
                (records + more_records, counts.plus(&more_counts))
            });
        let mut tables = Vec::with_capacity(Table::ALL.len());
        for table in Table::ALL {
            tables.push(match (self.row_count(table), next.row_count(table)) {
                (_, 0) => self.rows(table)?,
                (0, _) => next.rows(table)?,
                _ => concat_batches(&schema::of(table), [&self.rows(table)?, &next.rows(table)?])?,
            });
        }
        let range = Range { to: next.range.to, ..self.range.clone() };
        let is_a_row = self.every_outcome_is_a_row && next.every_outcome_is_a_row;
        Ok(Chunk::in_memory(range, tally, is_a_row, tables))
    }

    /// The same chunk with its rows in files of `dir`, one for each table that it has rows of, which are removed with
    /// it.
    pub(super) fn spilled(
        &self,
        files: &Arc<dyn Files>,
        dir: &Path,
        number: u64,
    ) -> Result<Chunk, Error> {
        let mut data = [const { Data::Empty }; Table::ALL.len()];
        for table in Table::ALL.into_iter().filter(|table| self.row_count(*table) > 0) {
            let path = dir.join(format!("{number:020}-{}.arrow", table.name()));
            let file = SpillFile::write(files, path, &self.rows(table)?)?;
            data[table as usize] = Data::Spilled(file);
        }
        Ok(Chunk { range: self.range.clone(), data, ..*self })
    }

    fn in_memory(
        range: Range,
        tally: Option<(u64, Counts)>,
        every_outcome_is_a_row: bool,
        tables: impl IntoIterator<Item = RecordBatch>,
    ) -> Chunk {
        let mut data = [const { Data::Empty }; Table::ALL.len()];
        for (data, rows) in data.iter_mut().zip(tables) {
            if rows.num_rows() > 0 {
                *data = Data::Memory(rows);
            }
        }
        Chunk { range, tally, every_outcome_is_a_row, data }
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Data::Empty => write!(f, "Empty"),
            Data::Memory(rows) => write!(f, "Memory({} rows)", rows.num_rows()),
            Data::Spilled(file) => write!(f, "Spilled({file:?})"),
        }
    }
}

/// Rows in an Arrow IPC file that belongs to this process alone; removed on drop. Not durable: after a restart the
/// speed layer fills the view again.
struct SpillFile {
    files: Arc<dyn Files>,
    path: PathBuf,
    rows: usize,
    bytes: u64,
    crc32c: u32,
}

impl SpillFile {
    fn write(
        files: &Arc<dyn Files>,
        path: PathBuf,
        rows: &RecordBatch,
    ) -> Result<SpillFile, Error> {
        let mut writer = FileWriter::try_new(Vec::new(), &rows.schema())?;
        writer.write(rows)?;
        let content = writer.into_inner()?;
        // A leftover of an earlier process that could not be tidied away.
        let _ = files.remove(&path);
        let created = match files.create(&path) {
            // Somebody removed the folder under the running process.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let dir = path.parent().unwrap_or(&path);
                files.create_dir_all(dir).and_then(|()| files.create(&path))
            }
            created => created,
        };
        let file = created.map_err(Error::io("create", &path))?;
        // From here on a failure removes the file, by drop.
        let (bytes, crc32c) = (content.len() as u64, crc32c::crc32c(&content));
        let spill = SpillFile { files: files.clone(), path, rows: rows.num_rows(), bytes, crc32c };
        file.write_all_at(&content, 0).map_err(Error::io("write", &spill.path))?;
        Ok(spill)
    }

    fn read(&self) -> Result<RecordBatch, Error> {
        let damaged = |detail: String| Error::LostSpill { path: self.path.clone(), detail };
        let content = self.files.read(&self.path).map_err(|error| damaged(error.to_string()))?;
        if content.len() as u64 != self.bytes || crc32c::crc32c(&content) != self.crc32c {
            return Err(damaged("the checksum differs".to_owned()));
        }
        let mut batches = FileReader::try_new(Cursor::new(content), None)?;
        batches.next().ok_or_else(|| damaged("no rows".to_owned()))?.map_err(Error::from)
    }
}

impl fmt::Debug for SpillFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())
    }
}

impl Drop for SpillFile {
    fn drop(&mut self) {
        if let Err(error) = self.files.remove(&self.path) {
            tracing::warn!(file = %self.path.display(), %error, "could not remove a spill file");
        }
    }
}

/// Rows have the table's columns, lie in the range, and each position is larger than the one before.
fn check(range: &Range, table: Table, rows: &RecordBatch) -> Result<(), Error> {
    let wrong = |detail: &str| Error::Rows {
        partition: range.partition.clone(),
        from: range.from,
        detail: detail.to_owned(),
    };
    if range.from >= range.to {
        return Err(wrong("the range is empty"));
    }
    if rows.schema().fields() != schema::of(table).fields() {
        return Err(wrong("the columns are not those of the table"));
    }
    let places = Places::of(rows)?;
    let mut last = None;
    for at in 0..rows.num_rows() {
        let place = (places.offset(at)?, places.index(at)?);
        let in_range = place.0 >= range.from && place.0 < range.to;
        if !in_range || places.partition(at) != range.partition.as_str() {
            return Err(wrong("a row lies outside of the range"));
        }
        if last.is_some_and(|last| last >= place) {
            return Err(wrong("the rows are not in the order of their positions"));
        }
        last = Some(place);
    }
    Ok(())
}

/// The rows at or beyond `from`, of rows in the order of positions.
fn from_offset(rows: RecordBatch, from: Offset) -> Result<RecordBatch, Error> {
    let places = Places::of(&rows)?;
    let (mut low, mut high) = (0, rows.num_rows());
    while low < high {
        let middle = low + (high - low) / 2;
        if places.offset(middle)? < from { low = middle + 1 } else { high = middle }
    }
    Ok(rows.slice(low, rows.num_rows() - low))
}

/// The rows without what lies around them in memory.
fn copied(rows: &RecordBatch) -> Result<RecordBatch, Error> {
    let all = UInt64Array::from_iter_values(0..rows.num_rows() as u64);
    Ok(take_record_batch(rows, &all)?)
}
