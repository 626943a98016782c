//! One chunk of the real-time view: the outcomes of one short range, events and bad rows together. Immutable: a chunk
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
use crate::catalog::Counts;
use crate::rows::Places;
use crate::schema;

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
}

/// The outcomes of one range as they lie in the view, in memory or in a spill file.
#[derive(Debug)]
pub struct Chunk {
    range: Range,
    tally: Option<(u64, Counts)>,
    every_outcome_is_a_row: bool,
    event_rows: usize,
    bad_row_rows: usize,
    data: Data,
}

enum Data {
    Memory { events: RecordBatch, bad_rows: RecordBatch, bytes: u64 },
    Spilled { events: SpillFile, bad_rows: SpillFile },
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

    /// Whether each outcome of the range is an event or a bad row here: none was dropped, erased, or is a failed event.
    /// Then the rows of any part of it tell that part's numbers.
    pub fn every_outcome_is_a_row(&self) -> bool {
        self.every_outcome_is_a_row
    }

    pub fn event_rows(&self) -> usize {
        self.event_rows
    }

    pub fn bad_row_rows(&self) -> usize {
        self.bad_row_rows
    }

    /// The rows of `atomic.events`, in the order of positions. Reads the spill file if the chunk was spilled; blocking
    /// then.
    ///
    /// # Errors
    /// When the spill file is gone or damaged.
    pub fn events(&self) -> Result<RecordBatch, Error> {
        match &self.data {
            Data::Memory { events, .. } => Ok(events.clone()),
            Data::Spilled { events, .. } => events.read(),
        }
    }

    /// The rows of `atomic.bad_rows`; else as [`Chunk::events`].
    pub fn bad_rows(&self) -> Result<RecordBatch, Error> {
        match &self.data {
            Data::Memory { bad_rows, .. } => Ok(bad_rows.clone()),
            Data::Spilled { bad_rows, .. } => bad_rows.read(),
        }
    }

    /// The rows of `atomic.events` that the cut does not cover: for a chunk that the cut enters, a part. Copies nothing.
    ///
    /// # Errors
    /// As [`Chunk::events`].
    pub fn events_beyond(&self, cut: &Cut) -> Result<RecordBatch, Error> {
        from_offset(self.events()?, cut.of(&self.range.partition))
    }

    /// The rows of `atomic.bad_rows` that the cut does not cover.
    ///
    /// # Errors
    /// As [`Chunk::events`].
    pub fn bad_rows_beyond(&self, cut: &Cut) -> Result<RecordBatch, Error> {
        from_offset(self.bad_rows()?, cut.of(&self.range.partition))
    }

    /// Bytes in memory; 0 once it is spilled.
    pub fn memory_bytes(&self) -> u64 {
        match &self.data {
            Data::Memory { bytes, .. } => *bytes,
            Data::Spilled { .. } => 0,
        }
    }

    /// Bytes of the spill files; 0 while it is in memory.
    pub fn spilled_bytes(&self) -> u64 {
        match &self.data {
            Data::Memory { .. } => 0,
            Data::Spilled { events, bad_rows } => events.bytes + bad_rows.bytes,
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.event_rows + self.bad_row_rows
    }

    pub(super) fn is_in_memory(&self) -> bool {
        match &self.data {
            Data::Memory { .. } => true,
            Data::Spilled { .. } => false,
        }
    }

    /// The part of what was handed over that lies at or beyond `from`, after a check that the rows lie in their range
    /// and in order.
    pub(super) fn take(new: NewChunk, from: Offset) -> Result<Chunk, Error> {
        check(&new)?;
        let is_a_row = matches!(new.counts, Counts { failed: 0, dropped: 0, erased: 0, .. });
        if from <= new.range.from {
            return Ok(Chunk::in_memory(
                new.range,
                Some((new.records, new.counts)),
                is_a_row,
                new.events,
                new.bad_rows,
            ));
        }
        let events = copied(&from_offset(new.events, from)?)?;
        let bad_rows = copied(&from_offset(new.bad_rows, from)?)?;
        Ok(Chunk::in_memory(Range { from, ..new.range }, None, is_a_row, events, bad_rows))
    }

    /// Two neighbours as one.
    pub(super) fn joined(&self, next: &Chunk) -> Result<Chunk, Error> {
        debug_assert_eq!(self.range.to, next.range.from, "only neighbours are joined");
        let tally =
            self.tally.zip(next.tally).map(|((records, counts), (more_records, more_counts))| {
                (records + more_records, counts.plus(&more_counts))
            });
        let events = concat_batches(&schema::events(), [&self.events()?, &next.events()?])?;
        let bad_rows = concat_batches(&schema::bad_rows(), [&self.bad_rows()?, &next.bad_rows()?])?;
        let range = Range { to: next.range.to, ..self.range.clone() };
        let is_a_row = self.every_outcome_is_a_row && next.every_outcome_is_a_row;
        Ok(Chunk::in_memory(range, tally, is_a_row, events, bad_rows))
    }

    /// The same chunk with its rows in two files of `dir`, which are removed with it.
    pub(super) fn spilled(
        &self,
        files: &Arc<dyn Files>,
        dir: &Path,
        number: u64,
    ) -> Result<Chunk, Error> {
        let write = |table: &str, rows: &RecordBatch| {
            SpillFile::write(files, dir.join(format!("{number:020}-{table}.arrow")), rows)
        };
        let data = Data::Spilled {
            events: write("events", &self.events()?)?,
            bad_rows: write("bad_rows", &self.bad_rows()?)?,
        };
        Ok(Chunk { range: self.range.clone(), data, ..*self })
    }

    fn in_memory(
        range: Range,
        tally: Option<(u64, Counts)>,
        every_outcome_is_a_row: bool,
        events: RecordBatch,
        bad_rows: RecordBatch,
    ) -> Chunk {
        let bytes = events.get_array_memory_size() + bad_rows.get_array_memory_size();
        Chunk {
            range,
            tally,
            every_outcome_is_a_row,
            event_rows: events.num_rows(),
            bad_row_rows: bad_rows.num_rows(),
            data: Data::Memory { events, bad_rows, bytes: bytes as u64 },
        }
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Data::Memory { bytes, .. } => write!(f, "Memory({bytes} bytes)"),
            Data::Spilled { events, bad_rows } => write!(f, "Spilled({events:?}, {bad_rows:?})"),
        }
    }
}

/// Rows in an Arrow IPC file that belongs to this process alone; removed on drop. Not durable: after a restart the
/// speed layer fills the view again.
struct SpillFile {
    files: Arc<dyn Files>,
    path: PathBuf,
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
        let spill = SpillFile { files: files.clone(), path, bytes, crc32c };
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
fn check(new: &NewChunk) -> Result<(), Error> {
    let wrong = |detail: &str| Error::Rows {
        partition: new.range.partition.clone(),
        from: new.range.from,
        detail: detail.to_owned(),
    };
    if new.range.from >= new.range.to {
        return Err(wrong("the range is empty"));
    }
    for (rows, schema) in [(&new.events, schema::events()), (&new.bad_rows, schema::bad_rows())] {
        if rows.schema().fields() != schema.fields() {
            return Err(wrong("the columns are not those of the table"));
        }
        let places = Places::of(rows)?;
        let mut last = None;
        for at in 0..rows.num_rows() {
            let place = (places.offset(at)?, places.index(at)?);
            let in_range = place.0 >= new.range.from && place.0 < new.range.to;
            if !in_range || places.partition(at) != new.range.partition.as_str() {
                return Err(wrong("a row lies outside of the range"));
            }
            if last.is_some_and(|last| last >= place) {
                return Err(wrong("the rows are not in the order of their positions"));
            }
            last = Some(place);
        }
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
