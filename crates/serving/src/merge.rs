//! The tables of `atomic` over one pin: the table files of the pinned manifest, and beside them the real-time rows from
//! the cut to the frontier; a chunk that the cut enters is divided row by row.
//!
//! A table is made for one statement and sees nothing but its pin. `_layer` says which side a row came from; everything
//! else about a row is the same in both layers. There is no pruning by time and no look at a folder here.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{ScalarValue, Statistics};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::object_store::ObjectStoreUrl;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::union::UnionExec;
use futures::{StreamExt, stream};
use model::cut::Cut;
use model::position::Partition;
use tokio::task::spawn_blocking;
use views::catalog::Table;
use views::lambda::Pin;
use views::realtime::Chunk;
use views::wide::Columns;

use crate::batch_files::{BatchFiles, Readers, TableSchemas};
use crate::wide::WideExec;

/// The column that tells the layer of a row.
pub const LAYER_COLUMN: &str = "_layer";

/// The values of [`LAYER_COLUMN`].
pub const BATCH: &str = "batch";
pub const SPEED: &str = "speed";

/// The store that the engine asks for table files; every file is opened by us, so that nothing lies in it.
pub(crate) const STORE: &str = "snowmelt://tables/";

/// One merged table for one statement.
#[derive(Debug)]
pub(crate) struct Merged {
    table: Table,
    pin: Arc<Pin>,
    files: Arc<BatchFiles>,
    /// The columns of the view as the engine scans them, then `_layer`.
    schema: SchemaRef,
    wide: Arc<Columns>,
    /// What clients see: the wide columns stand before those of the position.
    shown: SchemaRef,
}

impl Merged {
    pub(crate) fn new(
        table: Table,
        pin: Arc<Pin>,
        wide: Arc<Columns>,
        files: Arc<BatchFiles>,
    ) -> Merged {
        let schema = with_layer(&scanned_schema(table));
        let shown = shown_schema(table, &wide);
        Merged { table, pin, files, schema, wide, shown }
    }

    /// Where a shown column comes from.
    fn source(&self, at: usize) -> Shown {
        let first = first_wide(self.table);
        let end = first + self.wide.len();
        match at {
            at if at < first => Shown::Below(at),
            at if at < end => Shown::Wide(at - first),
            at => Shown::Below(at - self.wide.len()),
        }
    }

    /// The rows of both layers, without wide columns.
    async fn rows(
        &self,
        target_partitions: usize,
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut plans = self.speed(target_partitions, projection, limit)?;
        if let Some(batch) = self.batch(target_partitions, projection, limit).await? {
            plans.insert(0, batch);
        }
        match plans.len() {
            0 => {
                let source = MemorySourceConfig::try_new(
                    &[vec![]],
                    self.schema.clone(),
                    projection.cloned(),
                )?;
                Ok(DataSourceExec::from_data_source(source))
            }
            1 => Ok(plans.remove(0)),
            _ => UnionExec::try_new(plans),
        }
    }

    /// The rows below the cut.
    async fn batch(
        &self,
        target_partitions: usize,
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let schemas = TableSchemas {
            stored: views::schema::of(self.table),
            scanned: scanned_schema(self.table),
        };
        let listed: Vec<_> = self.pin.manifest.files_of(self.table).cloned().collect();
        if listed.is_empty() {
            return Ok(None);
        }
        let open = {
            let (files, listed, schemas) = (self.files.clone(), listed.clone(), schemas.clone());
            spawn_blocking(move || files.open_all(&listed, &schemas)).await.map_err(joined)??
        };
        let scanned: Vec<PartitionedFile> = listed
            .iter()
            .zip(open)
            .filter(|(listed, _)| listed.rows > 0)
            .map(|(listed, open)| {
                PartitionedFile::new(listed.path.clone(), listed.bytes)
                    .with_partition_values(vec![ScalarValue::Utf8View(Some(BATCH.to_owned()))])
                    .with_statistics(open.statistics().clone())
                    .with_extension(open)
            })
            .collect();
        if scanned.is_empty() {
            return Ok(None);
        }
        let groups = FileGroup::new(scanned).split_files(target_partitions.max(1));
        let (groups, statistics) = summarise(groups, &self.schema)?;
        let layer = Arc::new(Field::new(LAYER_COLUMN, DataType::Utf8View, false));
        let columns =
            TableSchema::builder(schemas.scanned).with_table_partition_cols(vec![layer]).build();
        let source =
            ParquetSource::new(columns).with_parquet_file_reader_factory(Arc::new(Readers));
        let scan = FileScanConfigBuilder::new(ObjectStoreUrl::parse(STORE)?, Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(Some(DataSourceExec::from_data_source(scan)))
    }

    /// The rows from the cut to the frontier: those in memory as they are, spilled ones read when the scan gets there.
    fn speed(
        &self,
        target_partitions: usize,
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
    ) -> Result<Vec<Arc<dyn ExecutionPlan>>> {
        let mut in_memory = Vec::new();
        let mut spilled = Vec::new();
        for chunk in chunks_of(&self.pin).filter(|chunk| chunk.row_count(self.table) > 0) {
            let part = Part {
                chunk: chunk.clone(),
                pin: self.pin.clone(),
                table: self.table,
                schema: self.schema.clone(),
            };
            if chunk.spilled_bytes() > 0 {
                spilled.push(part);
                continue;
            }
            let rows = part.rows().map_err(external)?;
            if rows.num_rows() > 0 {
                in_memory.push(project(&rows, &self.schema, projection)?);
            }
        }
        let mut plans: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
        if !in_memory.is_empty() {
            let projected = match projection {
                Some(projection) => Arc::new(self.schema.project(projection)?),
                None => self.schema.clone(),
            };
            let share = in_memory.len().div_ceil(target_partitions.max(1));
            let partitions: Vec<Vec<RecordBatch>> =
                in_memory.chunks(share).map(<[RecordBatch]>::to_vec).collect();
            let source =
                MemorySourceConfig::try_new(&partitions, projected, None)?.with_limit(limit);
            plans.push(DataSourceExec::from_data_source(source));
        }
        if !spilled.is_empty() {
            let share = spilled.len().div_ceil(target_partitions.max(1));
            let partitions = spilled
                .chunks(share)
                .map(|chunks| {
                    let part = SpilledPart { chunks: chunks.to_vec(), schema: self.schema.clone() };
                    Arc::new(part) as Arc<dyn PartitionStream>
                })
                .collect();
            plans.push(Arc::new(StreamingTableExec::try_new(
                self.schema.clone(),
                partitions,
                projection,
                [],
                false,
                limit,
            )?));
        }
        Ok(plans)
    }
}

#[async_trait]
impl TableProvider for Merged {
    fn schema(&self) -> SchemaRef {
        self.shown.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    /// Filters reach the scans through the physical plan, and drop whole files, row groups and pages there; they stay
    /// above for the rows that remain.
    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let target_partitions = state.config().target_partitions();
        let all: Vec<usize>;
        let wanted = match projection {
            Some(wanted) => wanted,
            None if self.wide.is_empty() => {
                return self.rows(target_partitions, None, limit).await;
            }
            None => {
                all = (0..self.shown.fields().len()).collect();
                &all
            }
        };
        let sources: Vec<Shown> = wanted.iter().map(|at| self.source(*at)).collect();
        let mut below: Vec<usize> = Vec::with_capacity(sources.len());
        for source in &sources {
            match source {
                Shown::Below(at) => below.push(*at),
                Shown::Wide(at) => {
                    for name in self.wide.get(*at).map_or(&[][..], |column| column.sources()) {
                        below.push(self.schema.index_of(name)?);
                    }
                }
            }
        }
        if !sources.iter().any(|source| matches!(source, Shown::Wide(_))) {
            return self.rows(target_partitions, Some(&below), limit).await;
        }
        below.sort_unstable();
        below.dedup();
        let rows = self.rows(target_partitions, Some(&below), limit).await?;
        let mut made: Vec<usize> = sources
            .iter()
            .filter_map(|source| match source {
                Shown::Wide(at) => Some(*at),
                Shown::Below(_) => None,
            })
            .collect();
        made.sort_unstable();
        made.dedup();
        let places: Vec<usize> = sources
            .iter()
            .map(|source| match source {
                Shown::Below(at) => below.partition_point(|below| below < at),
                Shown::Wide(at) => below.len() + made.partition_point(|made| made < at),
            })
            .collect();
        let all: Arc<dyn ExecutionPlan> = Arc::new(WideExec::new(rows, self.wide.clone(), made)?);
        let schema = all.schema();
        let shown = places.into_iter().map(|at| {
            let name = schema.field(at).name();
            (Arc::new(Column::new(name, at)) as Arc<dyn PhysicalExpr>, name.clone())
        });
        Ok(Arc::new(ProjectionExec::try_new(shown.collect::<Vec<_>>(), all)?))
    }
}

/// Where a column that clients see comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// The column of the rows at this place.
    Below(usize),
    /// The wide column of this number.
    Wide(usize),
}

/// The columns of a table without `_layer`, as the engine scans them: a text is a view into what was read, so that the
/// values of a dictionary are not copied for each row, and most are told apart by their first bytes.
fn scanned_schema(table: Table) -> SchemaRef {
    let rows = views::schema::of(table);
    let fields = rows.fields().iter().map(|field| match field.data_type() {
        DataType::Utf8 => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8View)),
        _ => field.clone(),
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The columns of a table as clients see them.
pub(crate) fn shown_schema(table: Table, wide: &Columns) -> SchemaRef {
    let rows = with_layer(&scanned_schema(table));
    let (front, back) = rows.fields().split_at(first_wide(table));
    let wide = wide.iter().map(|column| Arc::new(column.field()));
    let all = front.iter().cloned().chain(wide).chain(back.iter().cloned());
    Arc::new(Schema::new(all.collect::<Vec<_>>()))
}

/// How many columns stand before the wide ones: all but those of the position.
fn first_wide(table: Table) -> usize {
    views::schema::of(table).fields().len() - views::schema::POSITION_COLUMNS.len()
}

fn with_layer(rows: &SchemaRef) -> SchemaRef {
    let mut fields = rows.fields().to_vec();
    fields.push(Arc::new(Field::new(LAYER_COLUMN, DataType::Utf8View, false)));
    Arc::new(Schema::new(fields))
}

/// The chunks with a range beyond the cut. What a snapshot holds lies below its frontier, so that only the cut needs to
/// be looked at.
pub(crate) fn chunks_of(pin: &Pin) -> impl Iterator<Item = &Arc<Chunk>> {
    pin.snapshot
        .chunks
        .iter()
        .filter(|chunk| chunk.range().to > pin.manifest.cut.of(&chunk.range().partition))
}

/// The columns asked for, `_layer` among them if it is.
fn project(
    rows: &RecordBatch,
    schema: &SchemaRef,
    projection: Option<&Vec<usize>>,
) -> Result<RecordBatch> {
    let layer_at = schema.fields().len() - 1;
    let count = rows.num_rows();
    let column = |at: usize| -> Result<ArrayRef> {
        if at == layer_at {
            let layers = std::iter::repeat_n(SPEED, count);
            return Ok(Arc::new(StringViewArray::from_iter_values(layers)));
        }
        // Of a text only the views are made.
        Ok(cast(rows.column(at), schema.field(at).data_type())?)
    };
    let (schema, columns) = match projection {
        Some(projection) => {
            let columns = projection.iter().map(|at| column(*at)).collect::<Result<_>>()?;
            (Arc::new(schema.project(projection)?), columns)
        }
        None => (schema.clone(), (0..=layer_at).map(column).collect::<Result<_>>()?),
    };
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}

/// The rows of one chunk that the cut does not cover.
#[derive(Clone, Debug)]
struct Part {
    chunk: Arc<Chunk>,
    pin: Arc<Pin>,
    table: Table,
    schema: SchemaRef,
}

impl Part {
    /// Blocks on the disk if the chunk is spilled.
    fn rows(&self) -> Result<RecordBatch, views::Error> {
        self.chunk.rows_beyond(self.table, &self.pin.manifest.cut)
    }

    fn read(&self) -> Result<RecordBatch> {
        project(&self.rows().map_err(external)?, &self.schema, None)
    }
}

#[derive(Debug)]
struct SpilledPart {
    chunks: Vec<Part>,
    schema: SchemaRef,
}

impl PartitionStream for SpilledPart {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches = stream::iter(self.chunks.clone()).then(|chunk| async move {
            spawn_blocking(move || chunk.read()).await.map_err(joined)?
        });
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches))
    }
}

/// Adds up the statistics of the files, so that a count needs no scan.
fn summarise(groups: Vec<FileGroup>, schema: &SchemaRef) -> Result<(Vec<FileGroup>, Statistics)> {
    let mut summarised = Vec::with_capacity(groups.len());
    for group in groups {
        let of_files = group.iter().filter_map(|file| file.statistics.as_deref());
        let statistics = Statistics::try_merge_iter(of_files, schema)?;
        summarised.push(group.with_statistics(Arc::new(statistics)));
    }
    let of_groups = summarised.iter().filter_map(|group| group.file_statistics(None));
    let statistics = Statistics::try_merge_iter(of_groups, schema)?;
    Ok((summarised, statistics))
}

pub(crate) fn joined(error: tokio::task::JoinError) -> DataFusionError {
    DataFusionError::ExecutionJoin(Box::new(error))
}

/// Carries an error of the views through the engine; [`crate::Error`] finds it again on the other side.
pub(crate) fn external(error: views::Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// The partitions that any of the vectors names, in the order of their names.
pub(crate) fn partitions(vectors: &[&Cut]) -> Vec<Partition> {
    let mut names: Vec<Partition> = vectors
        .iter()
        .flat_map(|vector| vector.iter().map(|(partition, _)| partition.clone()))
        .collect();
    names.sort();
    names.dedup();
    names
}
