//! The table files of the batch view as the query engine reads them: exactly the files of the pinned manifest, each
//! checked against it before a single row is used.
//!
//! Called by [`crate::merge`] for every scan. A file that is missing, shorter or longer than the manifest says, has
//! another digest or other row counts is a hole (law 7): the statement fails and names it. The digest is checked when
//! this process first uses a file, its length at every scan. Footers are kept in a bounded cache, because files never
//! change under their name.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion::common::Statistics;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::error::{DataFusionError, Result};
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::arrow::parquet_to_arrow_schema;
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::metadata::{
    PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader,
};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;
use model::files::{File, Files};
use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;
use views::catalog::TableFile;

use crate::error::Hole;

/// Bytes of footers that are kept; a file beyond it is read again.
const FOOTER_BYTES_MAX: usize = 32 << 20;

/// Bytes that are hashed at a time.
const PIECE_BYTES: usize = 1 << 20;

/// The columns of a table's files, and the same as the engine scans them.
#[derive(Clone, Debug)]
pub(crate) struct TableSchemas {
    pub(crate) stored: SchemaRef,
    pub(crate) scanned: SchemaRef,
}

/// Opens and checks table files. One for the process; safe to share.
#[derive(Debug)]
pub(crate) struct BatchFiles {
    files: Arc<dyn Files>,
    data_dir: PathBuf,
    known: Mutex<Known>,
}

/// What this process knows of files that it has checked.
#[derive(Debug, Default)]
struct Known {
    /// By path in the data folder: the digest that was found, and the footer if it is in memory.
    entries: BTreeMap<String, Entry>,
    footer_bytes: usize,
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    sha256: String,
    footer: Option<Arc<Footer>>,
    last_use: u64,
}

/// What stands at the end of a file.
#[derive(Debug)]
pub(crate) struct Footer {
    metadata: Arc<ParquetMetaData>,
    statistics: Arc<Statistics>,
    bytes: usize,
}

/// A checked file, open for one statement: a file that is removed meanwhile can still be read.
#[derive(Debug)]
pub(crate) struct OpenFile {
    path: PathBuf,
    file: Arc<dyn File>,
    footer: Arc<Footer>,
}

impl OpenFile {
    /// Row count and column statistics over the table's columns, from the footer.
    pub(crate) fn statistics(&self) -> &Arc<Statistics> {
        &self.footer.statistics
    }
}

impl BatchFiles {
    pub(crate) fn new(files: Arc<dyn Files>, data_dir: &Path) -> BatchFiles {
        BatchFiles { files, data_dir: data_dir.to_owned(), known: Mutex::default() }
    }

    /// Opens and checks the files, in their order. Blocks on the disk.
    ///
    /// # Errors
    /// A hole, which names the first file that is not what the manifest says.
    pub(crate) fn open_all(
        &self,
        files: &[TableFile],
        schema: &TableSchemas,
    ) -> Result<Vec<Arc<OpenFile>>, Hole> {
        files.iter().map(|file| self.open(file, schema).map(Arc::new)).collect()
    }

    fn open(&self, listed: &TableFile, schema: &TableSchemas) -> Result<OpenFile, Hole> {
        let path = listed.path_in(&self.data_dir);
        let hole = |problem: String| Hole(format!("table file {} {problem}", path.display()));
        let file: Arc<dyn File> = match self.files.open_read(&path) {
            Ok(file) => file.into(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(hole("is missing".to_owned()));
            }
            Err(error) => return Err(hole(format!("cannot be opened: {error}"))),
        };
        let bytes = file.len().map_err(|error| hole(format!("cannot be read: {error}")))?;
        if bytes != listed.bytes {
            return Err(hole(format!("has {bytes} bytes, the manifest says {}", listed.bytes)));
        }
        let (checked, footer) = self.known(listed);
        if !checked {
            let sha256 = digest(file.as_ref(), bytes)
                .map_err(|error| hole(format!("cannot be read: {error}")))?;
            if sha256 != listed.sha256 {
                return Err(hole("is damaged: its digest is not the manifest's".to_owned()));
            }
        }
        let footer = match footer {
            Some(footer) => footer,
            None => {
                let footer = Footer::read(file.as_ref(), listed, schema).map_err(hole)?;
                self.keep(listed, Arc::new(footer))
            }
        };
        Ok(OpenFile { path, file, footer })
    }

    fn known(&self, listed: &TableFile) -> (bool, Option<Arc<Footer>>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.uses += 1;
        let uses = known.uses;
        let Some(entry) = known.entries.get_mut(&listed.path) else { return (false, None) };
        if entry.sha256 != listed.sha256 {
            return (false, None);
        }
        entry.last_use = uses;
        (true, entry.footer.clone())
    }

    /// Keeps a footer, and lets go of those that were not used for longest beyond the limit.
    fn keep(&self, listed: &TableFile, footer: Arc<Footer>) -> Arc<Footer> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = Entry {
            sha256: listed.sha256.clone(),
            footer: Some(footer.clone()),
            last_use: known.uses,
        };
        let before =
            known.entries.insert(listed.path.clone(), entry).and_then(|entry| entry.footer);
        known.footer_bytes += footer.bytes;
        known.footer_bytes -= before.map_or(0, |footer| footer.bytes);
        while known.footer_bytes > FOOTER_BYTES_MAX {
            let held = known.entries.values_mut().filter(|entry| entry.footer.is_some());
            let Some(oldest) = held.min_by_key(|entry| entry.last_use) else { break };
            let freed = oldest.footer.take().map_or(0, |footer| footer.bytes);
            known.footer_bytes -= freed;
        }
        footer
    }
}

impl Footer {
    fn read(file: &dyn File, listed: &TableFile, schema: &TableSchemas) -> Result<Footer, String> {
        let damaged = |error: &dyn std::fmt::Display| format!("is damaged: {error}");
        let whole = Source { file, bytes: listed.bytes };
        let metadata = ParquetMetaDataReader::new()
            .with_page_index_policy(PageIndexPolicy::Optional)
            .parse_and_finish(&whole)
            .map_err(|error| damaged(&error))?;
        let properties = metadata.file_metadata().key_value_metadata();
        let format =
            properties.into_iter().flatten().find(|entry| entry.key == views::parquet::FORMAT_KEY);
        let format = format.and_then(|entry| entry.value.as_ref()?.parse::<u64>().ok());
        if format.is_none_or(|format| format > views::parquet::FORMAT) {
            let found = format.map_or("unknown".to_owned(), |format| format.to_string());
            return Err(format!(
                "has format {found}, this program reads up to {}",
                views::parquet::FORMAT
            ));
        }
        let columns = parquet_to_arrow_schema(metadata.file_metadata().schema_descr(), properties)
            .map_err(|error| damaged(&error))?;
        if columns.fields() != schema.stored.fields() {
            return Err("does not have the columns of its table".to_owned());
        }
        let rows: i64 = metadata.row_groups().iter().map(|group| group.num_rows()).sum();
        if u64::try_from(rows) != Ok(listed.rows) {
            return Err(format!("has {rows} rows, the manifest says {}", listed.rows));
        }
        let statistics =
            DFParquetMetadata::statistics_from_parquet_metadata(&metadata, &schema.scanned)
                .map_err(|error| damaged(&error))?;
        let bytes = metadata.memory_size()
            + schema.scanned.fields().len() * size_of::<datafusion::common::ColumnStatistics>();
        Ok(Footer { metadata: Arc::new(metadata), statistics: Arc::new(statistics), bytes })
    }
}

/// A file as the footer's reader wants it.
struct Source<'a> {
    file: &'a dyn File,
    bytes: u64,
}

impl datafusion::parquet::file::reader::Length for Source<'_> {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl datafusion::parquet::file::reader::ChunkReader for Source<'_> {
    type T = io::Cursor<Bytes>;

    fn get_read(&self, start: u64) -> datafusion::parquet::errors::Result<Self::T> {
        let length = usize::try_from(self.bytes.saturating_sub(start)).unwrap_or(usize::MAX);
        self.get_bytes(start, length).map(io::Cursor::new)
    }

    fn get_bytes(&self, start: u64, length: usize) -> datafusion::parquet::errors::Result<Bytes> {
        read(self.file, start..start + length as u64)
            .map_err(|error| ParquetError::External(Box::new(error)))
    }
}

fn read(file: &dyn File, range: Range<u64>) -> io::Result<Bytes> {
    let length =
        usize::try_from(range.end.saturating_sub(range.start)).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes.into())
}

fn digest(file: &dyn File, bytes: u64) -> io::Result<String> {
    let mut digest = Sha256::new();
    let mut piece = vec![0; PIECE_BYTES];
    let mut at = 0;
    while at < bytes {
        let length = PIECE_BYTES.min(usize::try_from(bytes - at).unwrap_or(usize::MAX));
        file.read_exact_at(&mut piece[..length], at)?;
        digest.update(&piece[..length]);
        at += length as u64;
    }
    let mut hex = String::with_capacity(64);
    for byte in digest.finalize() {
        use std::fmt::Write;
        write!(hex, "{byte:02x}").expect("writing to a string does not fail");
    }
    Ok(hex)
}

/// Gives the engine's Parquet scan the files that were opened and checked when it was planned.
#[derive(Debug)]
pub(crate) struct Readers;

impl ParquetFileReaderFactory for Readers {
    fn create_reader(
        &self,
        _partition: usize,
        file: PartitionedFile,
        _footer_hint: Option<usize>,
        _metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let Some(open) = file.extension::<Arc<OpenFile>>() else {
            return Err(DataFusionError::Internal(format!("{} was not opened", file.path())));
        };
        Ok(Box::new(Reader(open.clone())))
    }
}

struct Reader(Arc<OpenFile>);

impl Reader {
    fn read(
        &self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'static, Result<Vec<Bytes>, ParquetError>> {
        let open = self.0.clone();
        async move {
            let reading = spawn_blocking(move || {
                ranges
                    .into_iter()
                    .map(|range| {
                        read(open.file.as_ref(), range).map_err(|error| {
                            Hole(format!(
                                "table file {} cannot be read: {error}",
                                open.path.display()
                            ))
                        })
                    })
                    .collect::<Result<Vec<_>, Hole>>()
            });
            reading
                .await
                .map_err(|error| ParquetError::External(Box::new(error)))?
                .map_err(|hole| ParquetError::External(Box::new(hole)))
        }
        .boxed()
    }
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        let reading = self.read(vec![range]);
        async move { Ok(reading.await?.pop().unwrap_or_default()) }.boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        self.read(ranges)
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        let metadata = self.0.footer.metadata.clone();
        async move { Ok(metadata) }.boxed()
    }
}
