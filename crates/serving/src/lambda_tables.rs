//! `lambda.cut`, `lambda.iterations` and `lambda.ledger` of one pin: what the answers of the same statement rest on.
//!
//! A table is made when it is scanned. In the ledger, ranges below the cut come from the pinned manifest, those from
//! there to the frontier from the marks of the speed layer, and what lies beyond is `pending`: its counts are null,
//! because offsets are never subtracted to make a number.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::TableType;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use model::cut::Cut;
use model::position::{Offset, Partition};
use model::time::Timestamp;
use tokio::task::spawn_blocking;
use views::catalog::{Catalog, Counts, Manifest, Table};
use views::lambda::Pin;
use views::realtime::Chunk;

use crate::merge::{chunks_of, external, joined, partitions};

/// What the tables are made from, the same for a whole statement.
#[derive(Debug)]
pub(crate) struct Basis {
    pub(crate) pin: Arc<Pin>,
    pub(crate) catalog: Arc<Catalog>,
    /// The ends of the raw stream's partitions, asked after the pin was taken.
    pub(crate) raw_ends: Cut,
}

/// The tables of the schema `lambda`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Cut,
    Iterations,
    Ledger,
}

impl Kind {
    pub(crate) const ALL: [Kind; 3] = [Kind::Cut, Kind::Iterations, Kind::Ledger];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Cut => "cut",
            Kind::Iterations => "iterations",
            Kind::Ledger => "ledger",
        }
    }

    pub(crate) fn schema(self) -> SchemaRef {
        static CUT: LazyLock<SchemaRef> = LazyLock::new(|| {
            schema(&[
                ("partition", TEXT, false),
                ("cut_offset", TEXT, false),
                ("frontier", TEXT, false),
            ])
        });
        static ITERATIONS: LazyLock<SchemaRef> = LazyLock::new(|| {
            schema(&[
                ("iteration", BIGINT, false),
                ("generation", BIGINT, false),
                ("committed_at", TIMESTAMP, true),
                ("cut", TEXT, false),
                ("recipe", TEXT, false),
                ("events", BIGINT, false),
                ("bad_rows", BIGINT, false),
            ])
        });
        static LEDGER: LazyLock<SchemaRef> = LazyLock::new(|| {
            schema(&[
                ("partition", TEXT, false),
                ("from_offset", TEXT, false),
                ("to_offset", TEXT, false),
                ("records", BIGINT, true),
                ("outcomes", BIGINT, true),
                ("enriched", BIGINT, true),
                ("failed", BIGINT, true),
                ("bad", BIGINT, true),
                ("dropped", BIGINT, true),
                ("erased", BIGINT, true),
                ("duplicates", BIGINT, true),
                ("pending", DataType::Boolean, false),
            ])
        });
        match self {
            Kind::Cut => CUT.clone(),
            Kind::Iterations => ITERATIONS.clone(),
            Kind::Ledger => LEDGER.clone(),
        }
    }
}

const TEXT: DataType = DataType::Utf8;
const BIGINT: DataType = DataType::Int64;
const TIMESTAMP: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

fn schema(columns: &[(&str, DataType, bool)]) -> SchemaRef {
    let fields = columns
        .iter()
        .map(|(name, data_type, nullable)| Field::new(*name, data_type.clone(), *nullable));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// One table for one statement.
#[derive(Debug)]
pub(crate) struct LambdaTable {
    pub(crate) kind: Kind,
    pub(crate) basis: Arc<Basis>,
}

#[async_trait]
impl TableProvider for LambdaTable {
    fn schema(&self) -> SchemaRef {
        self.kind.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (kind, basis) = (self.kind, self.basis.clone());
        let rows = spawn_blocking(move || match kind {
            Kind::Cut => cut(&basis),
            Kind::Iterations => iterations(&basis),
            Kind::Ledger => ledger(&basis),
        })
        .await
        .map_err(joined)??;
        let source =
            MemorySourceConfig::try_new(&[vec![rows]], self.kind.schema(), projection.cloned())?;
        Ok(DataSourceExec::from_data_source(source.with_limit(limit)))
    }
}

/// One row per partition that has a record, sorted by name.
fn cut(basis: &Basis) -> Result<RecordBatch> {
    let (cut, frontier) = (&basis.pin.manifest.cut, &basis.pin.frontier);
    let names = partitions(&[cut, frontier, &basis.raw_ends]);
    let columns: Vec<ArrayRef> = vec![
        texts(names.iter()),
        texts(names.iter().map(|name| cut.of(name))),
        texts(names.iter().map(|name| frontier.of(name))),
    ];
    Ok(RecordBatch::try_new(Kind::Cut.schema(), columns)?)
}

/// One row per iteration up to the pinned one; `events` and `bad_rows` are the rows of the whole batch view that it
/// published, `recipe` is the one that its new ranges were made with.
fn iterations(basis: &Basis) -> Result<RecordBatch> {
    let mut rows = Vec::new();
    for iteration in 0..basis.pin.manifest.iteration {
        let manifest = basis.catalog.manifest(iteration).map_err(external)?;
        // One at a time: a manifest names every file of its view.
        rows.extend(manifest.as_ref().map(Iteration::of));
    }
    rows.push(Iteration::of(&basis.pin.manifest));
    let columns: Vec<ArrayRef> = vec![
        bigints(rows.iter().map(|row| Some(row.iteration))),
        bigints(rows.iter().map(|row| Some(row.generation))),
        Arc::new(rows.iter().map(|row| row.committed_at_us).collect::<TimestampMicrosecondArray>()),
        texts(rows.iter().map(|row| &row.cut)),
        texts(rows.iter().map(|row| &row.recipe)),
        bigints(rows.iter().map(|row| Some(row.events))),
        bigints(rows.iter().map(|row| Some(row.bad_rows))),
    ];
    Ok(RecordBatch::try_new(Kind::Iterations.schema(), columns)?)
}

struct Iteration {
    iteration: u64,
    generation: u64,
    committed_at_us: Option<i64>,
    cut: String,
    recipe: String,
    events: u64,
    bad_rows: u64,
}

impl Iteration {
    fn of(manifest: &Manifest) -> Iteration {
        let rows = |table| manifest.files_of(table).map(|file| file.rows).sum();
        let as_tsv = manifest.committed_at.replace('T', " ").replace('Z', "");
        Iteration {
            iteration: manifest.iteration,
            generation: manifest.generation,
            committed_at_us: Timestamp::from_tsv(&as_tsv).map(|Timestamp(millis)| millis * 1000),
            cut: serde_json::to_string(&manifest.cut).expect("a vector of positions is JSON"),
            recipe: manifest.recipe.clone(),
            events: rows(Table::Events),
            bad_rows: rows(Table::BadRows),
        }
    }
}

/// One row per range, sorted by partition and position.
fn ledger(basis: &Basis) -> Result<RecordBatch> {
    let pin = &basis.pin;
    let mut rows: Vec<Line> = pin
        .manifest
        .ledger
        .iter()
        .map(|entry| Line {
            partition: entry.partition.clone(),
            from: entry.from,
            to: entry.to,
            counted: Counted::all(entry.records, &entry.counts),
            pending: false,
        })
        .collect();
    for chunk in chunks_of(pin) {
        let range = chunk.range();
        rows.push(Line {
            partition: range.partition.clone(),
            from: range.from.max(pin.manifest.cut.of(&range.partition)),
            to: range.to,
            counted: counted(chunk, &pin.manifest.cut)?,
            pending: false,
        });
    }
    for partition in partitions(&[&basis.raw_ends]) {
        let (from, to) = (pin.frontier.of(&partition), basis.raw_ends.of(&partition));
        if from < to {
            rows.push(Line { partition, from, to, counted: Counted::default(), pending: true });
        }
    }
    rows.sort_by(|a, b| (&a.partition, a.from).cmp(&(&b.partition, b.from)));
    let counts = |of: fn(&Counted) -> Option<u64>| bigints(rows.iter().map(|row| of(&row.counted)));
    let columns: Vec<ArrayRef> = vec![
        texts(rows.iter().map(|row| &row.partition)),
        texts(rows.iter().map(|row| row.from)),
        texts(rows.iter().map(|row| row.to)),
        counts(|counted| counted.records),
        counts(|counted| counted.outcomes),
        counts(|counted| counted.enriched),
        counts(|counted| counted.failed),
        counts(|counted| counted.bad),
        counts(|counted| counted.dropped),
        counts(|counted| counted.erased),
        counts(|counted| counted.duplicates),
        Arc::new(rows.iter().map(|row| Some(row.pending)).collect::<BooleanArray>()),
    ];
    Ok(RecordBatch::try_new(Kind::Ledger.schema(), columns)?)
}

struct Line {
    partition: Partition,
    from: Offset,
    to: Offset,
    counted: Counted,
    pending: bool,
}

/// Counts of a range; `None` where the number is not known.
#[derive(Default)]
struct Counted {
    records: Option<u64>,
    outcomes: Option<u64>,
    enriched: Option<u64>,
    failed: Option<u64>,
    bad: Option<u64>,
    dropped: Option<u64>,
    erased: Option<u64>,
    duplicates: Option<u64>,
}

impl Counted {
    fn all(records: u64, counts: &Counts) -> Counted {
        Counted {
            records: Some(records),
            outcomes: Some(counts.outcomes),
            enriched: Some(counts.enriched),
            failed: Some(counts.failed),
            bad: Some(counts.bad),
            dropped: Some(counts.dropped),
            erased: Some(counts.erased),
            // Every enriched row is shown.
            duplicates: Some(0),
        }
    }
}

/// The counts of what the cut leaves of a chunk. A chunk that it enters is counted again from its rows; what leaves no
/// row (a dropped outcome, a tombstone) is not known then.
fn counted(chunk: &Chunk, cut: &Cut) -> Result<Counted> {
    let range = chunk.range();
    let whole = cut.of(&range.partition) <= range.from;
    if whole && let Some((records, counts)) = chunk.tally() {
        return Ok(Counted::all(records, &counts));
    }
    let rows = |table| chunk.rows_beyond(table, cut).map_err(external);
    let (events, bad_rows) = (rows(Table::Events)?, rows(Table::BadRows)?);
    let (enriched, failed) =
        (events.num_rows() as u64, rows(Table::FailedEvents)?.num_rows() as u64);
    if !chunk.every_outcome_is_a_row() {
        let known = Counted::default();
        let (enriched, failed) = (Some(enriched), Some(failed));
        return Ok(Counted { enriched, failed, duplicates: Some(0), ..known });
    }
    // Each record has at least one outcome, and here every outcome is an event or has a bad row.
    let mut records: Vec<&str> =
        offsets(&events)?.iter().chain(offsets(&bad_rows)?).flatten().collect();
    records.sort_unstable();
    records.dedup();
    let with_bad_row = bad_rows.num_rows() as u64;
    let counts = Counts {
        outcomes: enriched + with_bad_row,
        enriched,
        failed,
        bad: with_bad_row - failed,
        dropped: 0,
        erased: 0,
    };
    Ok(Counted::all(records.len() as u64, &counts))
}

/// The column `_offset`.
fn offsets(rows: &RecordBatch) -> Result<&StringArray> {
    let column = rows.column_by_name(views::schema::POSITION_COLUMNS[1]);
    let column = column.and_then(|column| column.as_string_opt::<i32>());
    column.ok_or_else(|| {
        DataFusionError::Internal("real-time rows without text in `_offset`".to_owned())
    })
}

fn texts(values: impl Iterator<Item = impl ToString>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values.map(|value| value.to_string())))
}

fn bigints(values: impl Iterator<Item = Option<u64>>) -> ArrayRef {
    let to_bigint = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    Arc::new(values.map(|value| value.map(to_bigint)).collect::<Int64Array>())
}
