//! Parquet as this project writes it: equal rows give equal bytes.
//!
//! zstd, bounded row groups, statistics, the rows in the order given (that of positions). The reader gives back exactly
//! the types of [`crate::schema`]. Format: `docs/formats/table-files.md`.

use arrow::array::RecordBatch;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use crate::Error;

/// Rows of one row group. A reader holds one column chunk of a group at a time.
pub const ROW_GROUP_ROWS_MAX: usize = 64 * 1024;

/// The format of a table file, as it stands in the file's own metadata under [`FORMAT_KEY`].
pub const FORMAT: u64 = 1;
pub const FORMAT_KEY: &str = "snowmelt.table.format";

const ZSTD_LEVEL: i32 = 1;

/// One file with the rows of all batches, in their order. The batches have one schema.
///
/// # Errors
/// [`Error::Arrow`] when there is no batch, so that the schema is not known; [`Error::Parquet`] when schemas differ.
pub fn encode(batches: &[RecordBatch]) -> Result<Vec<u8>, Error> {
    let Some(first) = batches.first() else {
        return Err(arrow::error::ArrowError::InvalidArgumentError(
            "a table file is made of at least one batch, which may be empty".to_owned(),
        )
        .into());
    };
    let mut writer = ArrowWriter::try_new(Vec::new(), first.schema(), Some(properties()?))?;
    for batch in batches {
        writer.write(batch)?;
    }
    Ok(writer.into_inner()?)
}

/// All rows of a file, in their order, in batches of at most 8192.
///
/// # Errors
/// [`Error::Parquet`] or [`Error::Arrow`] for bytes that are not such a file; the caller names the path.
pub fn decode(bytes: Bytes) -> Result<Vec<RecordBatch>, Error> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)?.with_batch_size(8192).build()?;
    Ok(reader.collect::<Result<_, _>>()?)
}

/// The format that the file says it has; 0 when it says none, so that it is not ours.
pub(crate) fn format_of(bytes: &Bytes) -> Result<u64, Error> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes.clone())?;
    let entries = builder.metadata().file_metadata().key_value_metadata();
    let entry = entries.into_iter().flatten().find(|entry| entry.key == FORMAT_KEY);
    Ok(entry.and_then(|entry| entry.value.as_ref()?.parse().ok()).unwrap_or(0))
}

fn properties() -> Result<WriterProperties, Error> {
    Ok(WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS_MAX))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_key_value_metadata(Some(vec![KeyValue::new(
            FORMAT_KEY.to_owned(),
            FORMAT.to_string(),
        )]))
        .build())
}
