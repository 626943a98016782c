//! Wide columns in a plan: a node above the scans of both layers that makes those a statement names from the JSON columns
//! of the same rows.
//!
//! A statement that names none has no such node, and reads nothing for it. Rows and their order stay, so that limits and
//! filters over other columns go through to the scans.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::config::ConfigOptions;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionMapping;
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterDescription, FilterPushdownPhase, FilterPushdownPropagation,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
    PlanProperties,
};
use futures::{StreamExt, TryStreamExt, stream};
use views::catalog::Table;
use views::lambda::Pin;
use views::wide::{self, Columns, Seen, Since, Sources};

use crate::merge::external;

/// JSON text that is taken apart at once.
const PIECE_BYTES: usize = 256 << 10;

/// The wide columns of each table for what a pin has seen.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct WideTables([Arc<Columns>; Table::ALL.len()]);

impl WideTables {
    pub(crate) fn of(&self, table: Table) -> &Arc<Columns> {
        &self.0[table as usize]
    }

    /// Families that have no column, in the table that lacks most.
    pub(crate) fn left_out(&self) -> usize {
        self.0.iter().map(|columns| columns.left_out()).max().unwrap_or(0)
    }
}

/// The columns of the newest pin: most statements see what the one before saw.
#[derive(Debug, Default)]
pub(crate) struct WideCache(Mutex<Option<(Known, Arc<WideTables>)>>);

/// What columns were made from, for each table.
type Known = [BTreeMap<Seen, Since>; Table::ALL.len()];

impl WideCache {
    pub(crate) fn of(&self, pin: &Pin) -> Arc<WideTables> {
        let mut cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = Table::ALL.map(|table| pin.schemas(table));
        if let Some((known, tables)) = &*cached
            && known.iter().zip(&seen).all(|(known, seen)| {
                known.iter().eq(seen.iter().map(|(seen, since)| (*seen, since)))
            })
        {
            return tables.clone();
        }
        let tables = WideTables(seen.each_ref().map(|seen| Arc::new(Columns::of(seen))));
        // Another inventory may still say the same: then what hangs on the columns stays.
        let tables = match &*cached {
            Some((_, known)) if **known == tables => known.clone(),
            Some(_) | None => Arc::new(tables),
        };
        if tables.left_out() > 0 && cached.as_ref().is_none_or(|(_, known)| known.left_out() == 0) {
            let (max, left_out) = (wide::COLUMNS_MAX, tables.left_out());
            tracing::warn!(
                max,
                left_out,
                "more families of schemas than wide columns: the last ones are in the JSON columns alone"
            );
        }
        let known =
            seen.map(|seen| seen.into_iter().map(|(seen, since)| (seen.clone(), since)).collect());
        *cached = Some((known, tables.clone()));
        tables
    }

    pub(crate) fn counts(&self) -> WideCounts {
        let cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cached.as_ref().map_or_else(WideCounts::default, |(_, tables)| WideCounts {
            columns: tables.of(Table::Events).len(),
            left_out: tables.left_out(),
        })
    }
}

/// What there is to tell of wide columns.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WideCounts {
    /// Of `atomic.events`.
    pub(crate) columns: usize,
    pub(crate) left_out: usize,
}

/// The node: the rows below, and behind their columns some wide ones.
#[derive(Clone, Debug)]
pub(crate) struct WideExec {
    input: Arc<dyn ExecutionPlan>,
    columns: Arc<Columns>,
    wanted: Vec<usize>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl WideExec {
    /// `input` has the JSON columns that the wanted wide ones are made from.
    pub(crate) fn new(
        input: Arc<dyn ExecutionPlan>,
        columns: Arc<Columns>,
        wanted: Vec<usize>,
    ) -> Result<WideExec> {
        let below = input.schema();
        let made = wanted.iter().filter_map(|at| columns.get(*at));
        let made = made.map(|column| Arc::new(column.field()));
        let fields: Vec<_> = below.fields().iter().cloned().chain(made).collect();
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let same = below.fields().iter().enumerate().map(|(at, field)| {
            (Arc::new(Column::new(field.name(), at)) as Arc<dyn PhysicalExpr>, field.name().clone())
        });
        let same = ProjectionMapping::try_new(same, &below)?;
        let properties = PlanProperties::new(
            input.equivalence_properties().project(&same, schema.clone()),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        Ok(WideExec { input, columns, wanted, schema, properties: Arc::new(properties) })
    }

    /// What makes the rows of one piece of a batch. What they take of memory counts until the next piece is made.
    fn maker(
        &self,
        context: &TaskContext,
    ) -> impl Fn(&RecordBatch, Range<usize>) -> Result<RecordBatch> + Send + Sync + use<> {
        let (columns, wanted, schema) =
            (self.columns.clone(), self.wanted.clone(), self.schema.clone());
        let held = MemoryConsumer::new("wide columns").register(context.memory_pool());
        move |batch, rows| {
            held.free();
            let mut refusal = None;
            let grow = |bytes| match held.try_grow(bytes) {
                Ok(()) => true,
                Err(error) => {
                    refusal = Some(error);
                    false
                }
            };
            let made = wide::read(&columns, &wanted, sources(batch), rows.clone(), grow);
            let Some(made) = made.map_err(external)? else {
                let nothing =
                    || DataFusionError::Internal("wide columns without a word".to_owned());
                return Err(refusal.unwrap_or_else(nothing));
            };
            let below = batch.slice(rows.start, rows.len());
            let values = below.columns().iter().cloned().chain(made).collect();
            Ok(RecordBatch::try_new(schema.clone(), values)?)
        }
    }
}

fn sources(batch: &RecordBatch) -> Sources<'_> {
    let source = |name| batch.column_by_name(name);
    Sources {
        unstruct_event: source("unstruct_event"),
        contexts: source("contexts"),
        derived_contexts: source("derived_contexts"),
    }
}

impl DisplayAs for WideExec {
    fn fmt_as(&self, _form: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let made = self.wanted.iter().filter_map(|at| self.columns.get(*at));
        let names: Vec<&str> = made.map(wide::Column::name).collect();
        write!(f, "WideExec: columns=[{}]", names.join(", "))
    }
}

impl ExecutionPlan for WideExec {
    fn name(&self) -> &'static str {
        "WideExec"
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => {
                Ok(Arc::new(WideExec::new(input, self.columns.clone(), self.wanted.clone())?))
            }
            _ => Err(DataFusionError::Internal("wide columns have one input".to_owned())),
        }
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let make = Arc::new(self.maker(&context));
        let (columns, wanted) = (self.columns.clone(), self.wanted.clone());
        let rows = self.input.execute(partition, context)?.map(move |batch| {
            let batch = batch?;
            let (rows, sources) = (batch.num_rows(), sources(&batch));
            let pieces = wide::pieces(&columns, &wanted, sources, rows, PIECE_BYTES);
            let make = make.clone();
            let rows = stream::iter(pieces.map_err(external)?).then(move |piece| {
                let (make, batch) = (make.clone(), batch.clone());
                async move {
                    // A statement that has run out of time is given up here.
                    tokio::task::yield_now().await;
                    make(&batch, piece)
                }
            });
            Ok::<_, DataFusionError>(rows)
        });
        let rows = rows.try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows)))
    }

    fn supports_limit_pushdown(&self) -> bool {
        true
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }

    /// Filters over columns of the rows below reach them by name; wide columns are not there.
    fn gather_filters_for_pushdown(
        &self,
        _phase: FilterPushdownPhase,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        _config: &ConfigOptions,
    ) -> Result<FilterDescription> {
        FilterDescription::from_children(filters, &self.children())
    }

    fn handle_child_pushdown_result(
        &self,
        _phase: FilterPushdownPhase,
        result: ChildPushdownResult,
        _config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        Ok(FilterPushdownPropagation::if_all(result))
    }
}
