//! What a statement is planned and run in: one pin for all its scans, the tables over it, a session of its own.
//!
//! Called by the engine on its own threads. Limits of time and turns are the engine's; memory, disk and what a
//! statement may be are settled here, the same for every door.

use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList,
    MemorySchemaProvider, SchemaProvider,
};
use datafusion::datasource::object_store::ObjectStoreUrl;
use datafusion::execution::FunctionRegistry as _;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::SessionContext;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryConsumer, MemoryReservation};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::object_store::memory::InMemory;
use datafusion::prelude::SessionConfig;
use model::cut::Cut;
use tokio::task::spawn_blocking;
use views::catalog::{Table, TableFile};
use views::lambda::Pin;

use crate::adapt::{Adapter, told_types};
use crate::batch_files::BatchFiles;
use crate::bounded_functions;
use crate::catalogue::{self, Catalogues};
use crate::error::Error;
use crate::json_records::{self, JsonRecords};
use crate::lambda_tables::{Basis, Kind, LambdaTable};
use crate::merge::{Merged, STORE};
use crate::names::{Names, make_lists_unique};
use crate::sql::{CATALOG, DEFAULT_SCHEMA, Limits, Request, Sources};
use crate::statement;
use crate::timestamp_text::TimestampText;
use crate::wide::{WideCache, WideCounts};

/// What every session begins with.
pub(crate) struct Sessions {
    pub(crate) sources: Sources,
    tables: Arc<BatchFiles>,
    session: SessionState,
    catalogues: Catalogues,
    wide: WideCache,
    adapter: Adapter,
}

/// A statement that runs.
pub(crate) struct Started {
    pub(crate) schema: SchemaRef,
    /// The columns as clients see them.
    pub(crate) names: Vec<String>,
    pub(crate) batches: SendableRecordBatchStream,
    pub(crate) pin: Arc<Pin>,
    /// Counts what is kept for the client against the memory limit.
    pub(crate) reservation: MemoryReservation,
}

/// What a statement wants and gives.
#[derive(Clone, Debug)]
pub struct Description {
    /// The types of `$1`, `$2`, …; `None` where the statement does not say.
    pub parameters: Vec<Option<DataType>>,
    pub names: Vec<String>,
    pub schema: SchemaRef,
}

struct Planned {
    context: SessionContext,
    plan: LogicalPlan,
    names: Names,
    pin: Arc<Pin>,
}

impl Sessions {
    pub(crate) fn new(sources: Sources, limits: &Limits) -> Result<Sessions, Error> {
        let failed = |error: datafusion::error::DataFusionError| Error::Engine(error.to_string());
        let environment = environment(&sources.data_dir, limits).map_err(failed)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let session = SessionStateBuilder::new()
            .with_default_features()
            .with_config(session_config(cores))
            .with_runtime_env(environment)
            .build();
        let (catalogues, mut session) = Catalogues::install(session).map_err(failed)?;
        // Before the operators of JSON, which take texts alone.
        session.register_expr_planner(Arc::new(JsonRecords)).map_err(failed)?;
        session.register_udf(Arc::new(json_records::to_json())).map_err(failed)?;
        // The fields of self-describing events and entities: `unstruct_event->'data'->>'name'`.
        datafusion_functions_json::register_all(&mut session).map_err(failed)?;
        session.register_expr_planner(Arc::new(TimestampText)).map_err(failed)?;
        // Last, so that no function is left without its bound.
        bounded_functions::bound(&mut session).map_err(failed)?;
        let adapter = Adapter::new(catalogue::table_names());
        let tables = Arc::new(BatchFiles::new(sources.files.clone(), &sources.data_dir));
        let wide = WideCache::default();
        Ok(Sessions { sources, tables, session, catalogues, wide, adapter })
    }

    /// The wide columns that the last statement saw.
    pub(crate) fn wide_counts(&self) -> WideCounts {
        self.wide.counts()
    }

    /// Plans a statement with its parameters, and begins to run it.
    pub(crate) async fn start(&self, request: &Request) -> Result<Started, Error> {
        let Planned { context, mut plan, names, pin } = self.plan(request).await?;
        if !request.parameters.is_empty() {
            plan = plan.with_param_values(request.parameters.clone())?;
        }
        let frame = context.execute_logical_plan(plan).await?;
        let batches = frame.execute_stream().await?;
        let schema = batches.schema();
        let reservation =
            MemoryConsumer::new("answer").register(&context.runtime_env().memory_pool);
        Ok(Started { names: names.of_result(&schema), schema, batches, pin, reservation })
    }

    /// Plans a statement only.
    pub(crate) async fn describe(&self, request: &Request) -> Result<Description, Error> {
        let Planned { plan, names, .. } = self.plan(request).await?;
        let told = told_types(&statement::parse(&request.sql)?);
        let mut parameters = request.declared.clone();
        for (name, data_type) in plan.get_parameter_types()? {
            let number = name.strip_prefix('$').and_then(|number| number.parse::<usize>().ok());
            let Some(at) = number.and_then(|number| number.checked_sub(1)) else {
                return Err(Error::Syntax(format!("{name} is no parameter; they are $1, $2, …")));
            };
            if at >= PARAMETERS_MAX {
                let what = "parameters";
                return Err(Error::StatementTooLarge { what, count: at + 1, max: PARAMETERS_MAX });
            }
            if parameters.len() <= at {
                parameters.resize(at + 1, None);
            }
            if parameters[at].is_none() {
                let planned = data_type.filter(|data_type| *data_type != DataType::Null);
                parameters[at] = told.get(&at).cloned().or(planned);
            }
        }
        let schema: SchemaRef = Arc::new(plan.schema().as_arrow().clone());
        Ok(Description { parameters, names: names.of_result(&schema), schema })
    }

    async fn plan(&self, request: &Request) -> Result<Planned, Error> {
        let mut statement = statement::parse(&request.sql)?;
        let names = Names::of_statement(&statement);
        self.adapter.adapt(&mut statement, &request.sql, &request.declared);
        make_lists_unique(&mut statement);
        // What it became is held against the same rule.
        statement::check(&statement)?;
        let (pin, raw_ends) = self.pin(request.generation).await?;
        let mut session = self.session.clone();
        session.register_catalog_list(self.catalogs(&pin, raw_ends)?);
        if let Some(schema) =
            request.search_path.iter().find(|name| SCHEMAS.contains(&name.as_str()))
        {
            session.config_mut().options_mut().catalog.default_schema = schema.clone();
        }
        session.mark_start_execution();
        let plan = session.statement_to_plan(statement).await?;
        statement::check_plan(&plan)?;
        Ok(Planned { context: SessionContext::new_with_state(session), plan, names, pin })
    }

    async fn pin(&self, generation: Option<u64>) -> Result<(Arc<Pin>, Cut), Error> {
        let sources = self.sources.clone();
        let pinned = spawn_blocking(move || {
            let pin = match generation {
                None => sources.lambda.pin()?,
                Some(generation) => pin_generation(&sources, generation)?,
            };
            // After the pin, so that an end is not below the frontier.
            Ok::<_, Error>((Arc::new(pin), (sources.raw_ends)()))
        });
        pinned.await.map_err(|error| Error::Execution(format!("pin the views: {error}")))?
    }

    fn catalogs(
        &self,
        pin: &Arc<Pin>,
        raw_ends: Cut,
    ) -> Result<Arc<dyn CatalogProviderList>, Error> {
        let wide = self.wide.of(pin);
        let atomic = MemorySchemaProvider::new();
        for table in Table::ALL {
            let columns = wide.of(table).clone();
            let merged = Merged::new(table, pin.clone(), columns, self.tables.clone());
            atomic.register_table(table.name().to_owned(), Arc::new(merged))?;
        }
        let catalog = self.sources.lambda.catalog().clone();
        let basis = Arc::new(Basis { pin: pin.clone(), catalog, raw_ends });
        let lambda = MemorySchemaProvider::new();
        for kind in Kind::ALL {
            let table = LambdaTable { kind, basis: basis.clone() };
            lambda.register_table(kind.name().to_owned(), Arc::new(table))?;
        }
        let catalog = MemoryCatalogProvider::new();
        catalog.register_schema(DEFAULT_SCHEMA, Arc::new(atomic))?;
        catalog.register_schema("lambda", Arc::new(lambda))?;
        self.catalogues.of(&wide)?.register(&catalog)?;
        let list = MemoryCatalogProviderList::new();
        list.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
        Ok(Arc::new(list))
    }
}

/// The schemas that a search path may name; others are passed over, as PostgreSQL passes over those that do not exist.
const SCHEMAS: [&str; 4] = [DEFAULT_SCHEMA, "lambda", "information_schema", "pg_catalog"];

/// Parameters of one statement.
const PARAMETERS_MAX: usize = 1000;

/// The files of generations before the oldest one that is kept may be gone.
fn pin_generation(sources: &Sources, generation: u64) -> Result<Pin, Error> {
    let newest = sources.lambda.catalog().newest().generation;
    let oldest = newest.saturating_sub(sources.generations_kept);
    let none = Error::NoGeneration { generation, oldest, newest };
    if !(oldest..=newest).contains(&generation) {
        return Err(none);
    }
    let Some(pin) = sources.lambda.pin_generation(generation)? else { return Err(none) };
    // One that was given up when fewer were kept does not come back.
    let is_there =
        |file: &TableFile| sources.files.open_read(&file.path_in(&sources.data_dir)).is_ok();
    if generation < newest && !pin.manifest.files.iter().all(is_there) {
        return Err(none);
    }
    Ok(pin)
}

fn session_config(cores: usize) -> SessionConfig {
    let mut config = SessionConfig::new()
        // Ours is PostgreSQL's; see `catalogue`.
        .with_information_schema(false)
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(CATALOG, DEFAULT_SCHEMA)
        .with_target_partitions(cores);
    let options = config.options_mut();
    // One Arrow type for texts everywhere: sketches hash a view and a text differently.
    options.execution.parquet.schema_force_view_types = false;
    options.sql_parser.map_string_types_to_utf8view = false;
    options.execution.time_zone = Some("+00:00".to_owned());
    config
}

fn environment(data_dir: &Path, limits: &Limits) -> datafusion::error::Result<Arc<RuntimeEnv>> {
    let disk = match limits.spill_bytes {
        0 => DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled),
        bytes => DiskManagerBuilder::default()
            .with_mode(DiskManagerMode::Directories(vec![data_dir.join("spill").join("sql")]))
            .with_max_temp_directory_size(bytes),
    };
    let environment = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(limits.memory_bytes)))
        .with_disk_manager_builder(disk)
        .build()?;
    // The engine itself can reach no file: ours are opened by us, and the local file system is taken away.
    environment.deregister_object_store(ObjectStoreUrl::local_filesystem().as_ref())?;
    environment
        .register_object_store(ObjectStoreUrl::parse(STORE)?.as_ref(), Arc::new(InMemory::new()));
    Ok(Arc::new(environment))
}
