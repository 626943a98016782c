//! The query engine: one statement in, one JSON answer or one error out.
//!
//! Called by the API. Each statement has one pin for all its scans, a session of its own, and shares memory, disk and
//! time limits with the others; passing a limit is an error, never a shorter answer. Statements run on threads of their
//! own, so that a heavy one does not delay `/health`. Dropping the future of [`Engine::run`] cancels the statement.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList,
    MemorySchemaProvider, SchemaProvider,
};
use datafusion::datasource::object_store::ObjectStoreUrl;
use datafusion::execution::context::SessionContext;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryConsumer, MemoryReservation};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::object_store::memory::InMemory;
use datafusion::prelude::SessionConfig;
use futures::StreamExt;
use model::cut::Cut;
use model::files::Files;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout_at};
use views::catalog::Table;
use views::lambda::{Lambda, Pin};

use crate::answer;
use crate::batch_files::BatchFiles;
use crate::bounded_functions;
use crate::error::Error;
use crate::lambda_tables::{Basis, Kind, LambdaTable};
use crate::merge::{Merged, STORE};
use crate::statement;

/// The catalogue of all schemas, and the schema of a table that is named alone.
pub const CATALOG: &str = "snowmelt";
pub const DEFAULT_SCHEMA: &str = "atomic";

/// Bytes after which a segment of the answer is closed.
const SEGMENT_BYTES: usize = 64 << 10;

/// The stack of a thread that plans: expressions of a long statement are walked by recursion.
const STACK_BYTES: usize = 16 << 20;

/// The limits of all statements.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How long a statement may wait and run.
    pub timeout: Duration,
    pub rows: u64,
    /// Bytes for all statements and answers together.
    pub memory_bytes: usize,
    /// Bytes of disk for sorts and joins; 0 is none.
    pub spill_bytes: u64,
    /// Statements that run at once, and that may wait.
    pub running: usize,
    pub waiting: usize,
}

/// Where the engine reads.
#[derive(Clone)]
pub struct Sources {
    pub lambda: Arc<Lambda>,
    pub files: Arc<dyn Files>,
    pub data_dir: PathBuf,
    /// The ends of the raw stream's partitions, for `lambda.cut` and the pending part of `lambda.ledger`.
    pub raw_ends: Arc<dyn Fn() -> Cut + Send + Sync>,
    /// Older generations that can be asked.
    pub generations_kept: u64,
}

/// Answers statements. Safe to share; drop it outside of its own threads.
pub struct Engine {
    shared: Arc<Shared>,
    limits: Limits,
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// `None` only while it is dropped.
    threads: Option<Runtime>,
}

/// What a running statement needs.
struct Shared {
    sources: Sources,
    tables: Arc<BatchFiles>,
    session: SessionState,
    rows_max: u64,
}

/// The JSON of one answer in segments, and how much there is of it.
pub struct Answer {
    segments: Vec<Bytes>,
    pub rows: u64,
    /// Counts the segments against the memory limit until they are sent.
    reservation: MemoryReservation,
}

impl Answer {
    /// The segments in their order; their memory is given back when the iterator is dropped.
    pub fn into_segments(self) -> impl Iterator<Item = Bytes> + Send {
        let Answer { segments, reservation, rows: _ } = self;
        segments.into_iter().inspect(move |segment| reservation.shrink(segment.len()))
    }

    /// The whole answer as one text.
    pub fn to_json(&self) -> Vec<u8> {
        self.segments.concat()
    }
}

impl Engine {
    /// Starts the threads.
    ///
    /// # Errors
    /// [`Error::Engine`] when a limit or the spill folder cannot be set up.
    pub fn start(sources: Sources, limits: Limits) -> Result<Engine, Error> {
        let failed = |error: &dyn std::fmt::Display| Error::Engine(error.to_string());
        let environment =
            environment(&sources.data_dir, &limits).map_err(|error| failed(&error))?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = tokio::runtime::Builder::new_multi_thread()
            // Planning does not yield: it must not keep the other statements from their threads.
            .worker_threads(cores + limits.running)
            .thread_name("sql")
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()
            .map_err(|error| failed(&error))?;
        let mut session = SessionStateBuilder::new()
            .with_default_features()
            .with_config(session_config(cores))
            .with_runtime_env(environment)
            .build();
        bounded_functions::bound(&mut session).map_err(|error| failed(&error))?;
        let tables = Arc::new(BatchFiles::new(sources.files.clone(), &sources.data_dir));
        Ok(Engine {
            shared: Arc::new(Shared { sources, tables, session, rows_max: limits.rows }),
            turns: Arc::new(Semaphore::new(limits.running)),
            waiting: AtomicUsize::new(0),
            threads: Some(threads),
            limits,
        })
    }

    /// Answers one statement.
    ///
    /// # Errors
    /// The statement's own faults, limits, and holes in the views; see [`Error::code`].
    pub async fn run(&self, sql: String) -> Result<Answer, Error> {
        self.run_on(sql, None).await
    }

    /// The same, from the batch view of one generation. An older one answers for the positions below its own cut,
    /// without the real-time view, and the answer says so.
    ///
    /// # Errors
    /// Also [`Error::NoGeneration`].
    pub async fn run_on(&self, sql: String, generation: Option<u64>) -> Result<Answer, Error> {
        let deadline = Instant::now() + self.limits.timeout;
        let timeout = |_| Error::Timeout(self.limits.timeout);
        let turn = match Arc::clone(&self.turns).try_acquire_owned() {
            Ok(turn) => turn,
            Err(_) => {
                let _waiting = self.wait()?;
                let turn = timeout_at(deadline, Arc::clone(&self.turns).acquire_owned());
                turn.await.map_err(timeout)?.map_err(|_| Error::Stopping)?
            }
        };
        let shared = self.shared.clone();
        let threads = self.threads.as_ref().ok_or(Error::Stopping)?;
        let running = Running(threads.spawn(async move {
            let answer = shared.answer(&sql, generation).await;
            // Held to the real end: a cancelled statement may take a moment to notice.
            drop(turn);
            answer
        }));
        timeout_at(deadline, running.end()).await.map_err(timeout)?
    }

    /// Statements that are running now.
    pub fn running(&self) -> usize {
        self.limits.running - self.turns.available_permits().min(self.limits.running)
    }

    fn wait(&self) -> Result<Waiting<'_>, Error> {
        let waiting = self.waiting.fetch_add(1, Ordering::AcqRel);
        let place = Waiting(&self.waiting);
        if waiting >= self.limits.waiting {
            return Err(Error::Busy { running: self.limits.running, waiting });
        }
        Ok(place)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}

/// A place in the queue.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A statement that is cancelled when nobody waits for it any more.
struct Running(JoinHandle<Result<Answer, Error>>);

impl Running {
    async fn end(mut self) -> Result<Answer, Error> {
        match (&mut self.0).await {
            Ok(answer) => answer,
            Err(error) if error.is_cancelled() => Err(Error::Stopping),
            Err(error) => Err(Error::Execution(format!("the query engine panicked: {error}"))),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Shared {
    async fn answer(&self, sql: &str, generation: Option<u64>) -> Result<Answer, Error> {
        let statement = statement::parse(sql)?;
        let (pin, raw_ends) = self.pin(generation).await?;
        let mut session = self.session.clone();
        session.register_catalog_list(self.catalogs(&pin, raw_ends)?);
        session.mark_start_execution();
        let plan = session.statement_to_plan(statement).await?;
        statement::check_plan(&plan)?;
        let context = SessionContext::new_with_state(session);
        let frame = context.execute_logical_plan(plan).await?;
        let mut batches = frame.execute_stream().await?;
        let mut writer = AnswerWriter::new(
            MemoryConsumer::new("answer").register(&context.runtime_env().memory_pool),
        );
        writer.push(&answer::opening(&batches.schema()))?;
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            writer.rows += batch.num_rows() as u64;
            if writer.rows > self.rows_max {
                return Err(Error::RowLimit(self.rows_max));
            }
            // In slices: memory is asked for as the text grows.
            for from in (0..batch.num_rows()).step_by(ROWS_PER_SLICE) {
                let slice = batch.slice(from, ROWS_PER_SLICE.min(batch.num_rows() - from));
                writer.rows(&slice)?;
            }
        }
        let served = generation.map(|_| self.sources.lambda.served().generation);
        writer.push(&closing(&pin, served))?;
        writer.finish()
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
        let atomic = MemorySchemaProvider::new();
        for table in [Table::Events, Table::BadRows] {
            let merged = Merged::new(table, pin.clone(), self.tables.clone());
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
        let list = MemoryCatalogProviderList::new();
        list.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
        Ok(Arc::new(list))
    }
}

const ROWS_PER_SLICE: usize = 256;

/// Collects the answer within the memory limit.
struct AnswerWriter {
    segments: Vec<Bytes>,
    open: String,
    rows: u64,
    rows_written: bool,
    reservation: MemoryReservation,
}

impl AnswerWriter {
    fn new(reservation: MemoryReservation) -> AnswerWriter {
        AnswerWriter {
            segments: Vec::new(),
            open: String::new(),
            rows: 0,
            rows_written: false,
            reservation,
        }
    }

    fn push(&mut self, text: &str) -> Result<(), Error> {
        self.open.push_str(text);
        self.count(text.len())
    }

    fn rows(&mut self, rows: &arrow::array::RecordBatch) -> Result<(), Error> {
        let before = self.open.len();
        answer::write_rows(&mut self.open, rows, !self.rows_written)
            .map_err(|error| Error::Execution(error.to_string()))?;
        self.rows_written |= rows.num_rows() > 0;
        self.count(self.open.len() - before)
    }

    fn count(&mut self, bytes: usize) -> Result<(), Error> {
        self.reservation.try_grow(bytes)?;
        if self.open.len() >= SEGMENT_BYTES {
            let mut segment = std::mem::take(&mut self.open);
            segment.shrink_to_fit();
            self.segments.push(segment.into());
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Answer, Error> {
        self.segments.push(self.open.into());
        Ok(Answer { segments: self.segments, rows: self.rows, reservation: self.reservation })
    }
}

/// The files of generations before the oldest one that is kept may be gone.
fn pin_generation(sources: &Sources, generation: u64) -> Result<Pin, Error> {
    let newest = sources.lambda.catalog().newest().generation;
    let oldest = newest.saturating_sub(sources.generations_kept);
    let none = Error::NoGeneration { generation, oldest, newest };
    if !(oldest..=newest).contains(&generation) {
        return Err(none);
    }
    sources.lambda.pin_generation(generation)?.ok_or(none)
}

/// What follows the rows. `served` is the generation that answers when none is named, told when one was named.
fn closing(pin: &Pin, served: Option<u64>) -> String {
    let vector =
        |vector: &Cut| serde_json::to_string(vector).expect("a vector of positions is JSON");
    let mut text = format!(
        "\n],\"cut\":{},\"frontier\":{},\"iteration\":{}",
        vector(&pin.manifest.cut),
        vector(&pin.frontier),
        pin.manifest.iteration
    );
    let generation = pin.manifest.generation;
    match served {
        None => {}
        Some(served) if served == generation => {
            text.push_str(&format!(",\"generation\":{generation}"));
        }
        Some(served) => text.push_str(&format!(
            ",\"generation\":{generation},\"note\":\"generation {generation} answers for the positions below its cut, \
             without the real-time view; generation {served} is served\""
        )),
    }
    text.push_str("}\n");
    text
}

fn session_config(cores: usize) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_information_schema(true)
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
