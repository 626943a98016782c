//! Table files of the batch view: written once for one iteration, read only when they are what the manifest says.
//!
//! Written by the batcher before its commit; [`read`] is for the plain merge, `verify` and tests (serving lets its
//! engine read the files). Format: `docs/formats/table-files.md`.

use std::fmt;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use bytes::Bytes;
use model::files::{self, Files, Published};
use model::position::Range;
use sha2::{Digest, Sha256};

use crate::Error;
use crate::catalog::{Table, TableFile, hex};
use crate::{parquet, schema};

const WAY_OUT: &str = "restore it from a backup, or rebuild the batch view from the master dataset with `snowmelt batch run --rebuild`";

/// The folder of all files of a table; it has one folder per [`Lot`].
pub fn folder(data_dir: &Path, table: Table) -> PathBuf {
    data_dir.join(format!("tables/{}", table.name()))
}

/// What files are written for; each has a folder of its own below the table's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lot {
    /// One iteration, whose number is known beforehand: `tables/events/12/`.
    Iteration(u64),
    /// A rebuild, whose iteration is known only when it is published: `tables/events/g1/`.
    Generation(u64),
}

impl Lot {
    /// Reads the name of a folder; `None` for a name that is no lot's.
    pub fn parse(name: &str) -> Option<Lot> {
        match name.strip_prefix('g') {
            Some(generation) => generation.parse().ok().map(Lot::Generation),
            None => name.parse().ok().map(Lot::Iteration),
        }
    }

    /// The folder of its files.
    pub fn folder(self, data_dir: &Path, table: Table) -> PathBuf {
        folder(data_dir, table).join(self.to_string())
    }
}

impl fmt::Display for Lot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lot::Iteration(iteration) => write!(f, "{iteration}"),
            Lot::Generation(generation) => write!(f, "g{generation}"),
        }
    }
}

/// Writes the rows of one range as a file of a lot, durable when this returns, and gives the entry for the manifest. A
/// file of a generation gets its iteration when that is published; until then it says 0.
///
/// The name is created only if absent. Where an attempt that never was committed left another file under it, the next
/// free name with a number is taken: what a manifest lists can never be replaced by someone else's attempt.
///
/// # Errors
/// [`Error::Io`]; [`Error::Parquet`] and [`Error::Arrow`] when the batches are not rows of the table.
pub fn write(
    files: &dyn Files,
    data_dir: &Path,
    table: Table,
    range: &Range,
    lot: Lot,
    recipe: &str,
    batches: &[RecordBatch],
) -> Result<TableFile, Error> {
    let bytes = parquet::encode(batches)?;
    let sha256 = hex(&Sha256::digest(&bytes));
    let folder = range.partition.as_str().replace('/', "-");
    for attempt in 0u32.. {
        let suffix = if attempt == 0 { String::new() } else { format!(".{attempt}") };
        let name = format!("tables/{}/{lot}/{folder}-{}{suffix}.parquet", table.name(), range.from);
        let path = data_dir.join(&name);
        let published = files::publish(files, &path, &bytes).map_err(Error::io("write", &path))?;
        let same = match published {
            Published::New => true,
            Published::Taken => files.read(&path).map_err(Error::read(&path))? == bytes,
        };
        if same {
            return Ok(TableFile {
                table,
                path: name,
                partition: range.partition.clone(),
                from: range.from,
                to: range.to,
                rows: batches.iter().map(|batch| batch.num_rows() as u64).sum(),
                bytes: bytes.len() as u64,
                sha256,
                iteration: match lot {
                    Lot::Iteration(iteration) => iteration,
                    Lot::Generation(_) => 0,
                },
                recipe: recipe.to_owned(),
            });
        }
    }
    unreachable!("2^32 attempts at one file")
}

/// All rows of a file that a manifest lists.
///
/// # Errors
/// [`Error::Missing`], [`Error::Newer`], and [`Error::Damaged`] when length, digest, row count or columns differ from
/// what the manifest and [`schema`] say.
pub fn read(
    files: &dyn Files,
    data_dir: &Path,
    file: &TableFile,
) -> Result<Vec<RecordBatch>, Error> {
    let path = file.path_in(data_dir);
    let damaged = |detail: String| Error::Damaged { path: path.clone(), detail, way_out: WAY_OUT };
    let bytes = Bytes::from(files.read(&path).map_err(Error::read(&path))?);
    if bytes.len() as u64 != file.bytes {
        return Err(damaged(format!("{} bytes instead of {}", bytes.len(), file.bytes)));
    }
    if hex(&Sha256::digest(&bytes)) != file.sha256 {
        return Err(damaged("the digest differs".to_owned()));
    }
    let format = parquet::format_of(&bytes).map_err(|error| damaged(error.to_string()))?;
    if format > parquet::FORMAT {
        return Err(Error::Newer { path, found: format, known: parquet::FORMAT });
    }
    let batches = parquet::decode(bytes).map_err(|error| damaged(error.to_string()))?;
    let rows: u64 = batches.iter().map(|batch| batch.num_rows() as u64).sum();
    if rows != file.rows {
        return Err(damaged(format!("{rows} rows instead of {}", file.rows)));
    }
    let expected = schema::of(file.table);
    match batches.iter().find(|batch| batch.schema().fields() != expected.fields()) {
        Some(_) => Err(damaged(format!("the columns are not those of {}", file.table.name()))),
        None => Ok(batches),
    }
}
