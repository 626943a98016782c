//! The query engine: one statement in, its rows or one error out. Every door asks it: the API, and the Postgres wire.
//!
//! Each statement has one pin for all its scans, a session of its own, and shares turns, memory, disk and time limits
//! with the others; passing a limit is an error, never a shorter answer. Statements run on threads of their own, so that
//! a heavy one does not delay `/health`. Dropping the future of a call, or the [`Rows`], cancels the statement.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ScalarValue;
use futures::StreamExt;
use model::cut::Cut;
use model::files::Files;
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use views::lambda::Lambda;

use crate::error::Error;
pub use crate::json::Answer;
use crate::json::AnswerWriter;
pub use crate::session::Description;
use crate::session::{Sessions, Started};
use crate::wide::WideCounts;

/// The catalogue of all schemas, and the schema of a table that is named alone.
pub const CATALOG: &str = "snowmelt";
pub const DEFAULT_SCHEMA: &str = "atomic";

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

/// One statement, and how it is to be answered.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub sql: String,
    /// The values of `$1`, `$2`, …
    pub parameters: Vec<ScalarValue>,
    /// Their types, where the client says them.
    pub declared: Vec<Option<DataType>>,
    /// Without it, the generation that is served answers, with the real-time view.
    pub generation: Option<u64>,
    /// Shorter than the limit of all statements.
    pub timeout: Option<Duration>,
    /// The schemas of tables that are named alone; the first that exists is taken.
    pub search_path: Vec<String>,
}

/// Answers statements. Safe to share; drop it outside of its own threads.
pub struct Engine {
    sessions: Arc<Sessions>,
    limits: Limits,
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// `None` only while it is dropped.
    threads: Option<Runtime>,
}

/// The rows of a statement that runs. Whoever takes them slowly slows the statement down; the time limit holds all the
/// same. Dropping them cancels it.
#[derive(Debug)]
pub struct Rows {
    pub names: Vec<String>,
    pub schema: SchemaRef,
    parts: mpsc::Receiver<Result<Part, Error>>,
    has_ended: bool,
    _running: Running<()>,
}

/// What a running statement hands over.
enum Part {
    Columns(Vec<String>, SchemaRef),
    Rows(RecordBatch),
    /// Without it, an answer is not whole.
    End,
}

impl Engine {
    /// Starts the threads.
    ///
    /// # Errors
    /// [`Error::Engine`] when a limit or the spill folder cannot be set up.
    pub fn start(sources: Sources, limits: Limits) -> Result<Engine, Error> {
        let sessions = Arc::new(Sessions::new(sources, &limits)?);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = tokio::runtime::Builder::new_multi_thread()
            // Planning does not yield: it must not keep the other statements from their threads.
            .worker_threads(cores + limits.running)
            .thread_name("sql")
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()
            .map_err(|error| Error::Engine(error.to_string()))?;
        Ok(Engine {
            sessions,
            turns: Arc::new(Semaphore::new(limits.running)),
            waiting: AtomicUsize::new(0),
            threads: Some(threads),
            limits,
        })
    }

    /// Answers one statement in JSON.
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
        let request = Request { sql, generation, ..Request::default() };
        let (sessions, rows_max) = (self.sessions.clone(), self.limits.rows);
        self.in_turn(None, async move { answer(&sessions, &request, rows_max).await }).await
    }

    /// Plans a statement without running it: its parameters and its columns.
    ///
    /// # Errors
    /// As [`Engine::run`].
    pub async fn describe(&self, request: Request) -> Result<Description, Error> {
        let sessions = self.sessions.clone();
        self.in_turn(request.timeout, async move { sessions.describe(&request).await }).await
    }

    /// Runs a statement and hands over its rows as they come.
    ///
    /// # Errors
    /// As [`Engine::run`]; later ones come from [`Rows::next`].
    pub async fn open(&self, request: Request) -> Result<Rows, Error> {
        let (deadline, timeout) = self.deadline(request.timeout);
        let turn = self.turn(deadline, timeout).await?;
        let (sender, mut parts) = mpsc::channel(1);
        let (sessions, rows_max) = (self.sessions.clone(), self.limits.rows);
        let running = self.spawn(async move {
            let streamed = stream(&sessions, &request, rows_max, &sender);
            let streamed = timeout_at(deadline, streamed).await;
            // Given back before a slow client takes the error.
            drop(turn);
            let end = streamed.unwrap_or(Err(Error::Timeout(timeout))).map(|()| Part::End);
            // Nobody may be listening any more.
            let _ = sender.send(end).await;
        })?;
        // Planning does not yield, so the limit inside of the task cannot end it.
        let first =
            timeout_at(deadline, parts.recv()).await.map_err(|_| Error::Timeout(timeout))?;
        match first {
            Some(Ok(Part::Columns(names, schema))) => {
                Ok(Rows { names, schema, parts, has_ended: false, _running: running })
            }
            Some(Err(error)) => Err(error),
            Some(Ok(_)) | None => match running.end().await {
                Ok(()) => Err(Error::Stopping),
                Err(error) => Err(error),
            },
        }
    }

    /// The wide columns that the last statement saw.
    pub(crate) fn wide_counts(&self) -> WideCounts {
        self.sessions.wide_counts()
    }

    /// Statements that are running now.
    pub fn running(&self) -> usize {
        self.limits.running - self.turns.available_permits().min(self.limits.running)
    }

    /// Runs `work` when it is its turn, within the time limit.
    async fn in_turn<T: Send + 'static>(
        &self,
        shorter: Option<Duration>,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let (deadline, timeout) = self.deadline(shorter);
        let turn = self.turn(deadline, timeout).await?;
        let running = self.spawn(async move {
            let done = work.await;
            // Held to the real end: a cancelled statement may take a moment to notice.
            drop(turn);
            done
        })?;
        timeout_at(deadline, running.end()).await.map_err(|_| Error::Timeout(timeout))??
    }

    fn deadline(&self, shorter: Option<Duration>) -> (Instant, Duration) {
        let timeout = shorter.map_or(self.limits.timeout, |it| it.min(self.limits.timeout));
        (Instant::now() + timeout, timeout)
    }

    async fn turn(
        &self,
        deadline: Instant,
        timeout: Duration,
    ) -> Result<OwnedSemaphorePermit, Error> {
        if let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned() {
            return Ok(turn);
        }
        let _waiting = self.wait()?;
        let turn = timeout_at(deadline, Arc::clone(&self.turns).acquire_owned()).await;
        turn.map_err(|_| Error::Timeout(timeout))?.map_err(|_| Error::Stopping)
    }

    fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<Running<T>, Error> {
        let threads = self.threads.as_ref().ok_or(Error::Stopping)?;
        Ok(Running(threads.spawn(work)))
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

impl Rows {
    /// The next rows, at most [`ROWS_PER_SLICE`]; `None` when the answer is whole.
    ///
    /// # Errors
    /// What ends the statement before that.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, Error> {
        if self.has_ended {
            return Ok(None);
        }
        match self.parts.recv().await {
            Some(Ok(Part::Rows(rows))) => Ok(Some(rows)),
            Some(Ok(Part::End)) => {
                self.has_ended = true;
                Ok(None)
            }
            Some(Ok(Part::Columns(..))) => Err(Error::Execution("columns came twice".to_owned())),
            Some(Err(error)) => Err(error),
            None => Err(Error::Execution("the query engine ended before its answer".to_owned())),
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

/// Work that is cancelled when nobody waits for it any more.
#[derive(Debug)]
struct Running<T>(JoinHandle<T>);

impl<T> Running<T> {
    async fn end(mut self) -> Result<T, Error> {
        match (&mut self.0).await {
            Ok(done) => Ok(done),
            Err(error) if error.is_cancelled() => Err(Error::Stopping),
            Err(error) => Err(Error::Execution(format!("the query engine panicked: {error}"))),
        }
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Rows that are handed over at once: memory is asked for as an answer grows.
pub const ROWS_PER_SLICE: usize = 256;

fn slices(batch: &RecordBatch) -> impl Iterator<Item = RecordBatch> + '_ {
    let from = (0..batch.num_rows()).step_by(ROWS_PER_SLICE);
    from.map(|from| batch.slice(from, ROWS_PER_SLICE.min(batch.num_rows() - from)))
}

/// Bytes of a batch itself: it may be a slice of a larger one.
fn bytes_of(batch: &RecordBatch) -> usize {
    let bytes = |column: &ArrayRef| match column.as_string_view_opt() {
        // What the views point to is counted for each of them: it may be shared, but not for long.
        Some(texts) => texts.lengths().map(|length| length as usize + size_of::<u128>()).sum(),
        None => {
            let slice = column.to_data().get_slice_memory_size();
            slice.unwrap_or_else(|_| column.get_array_memory_size())
        }
    };
    batch.columns().iter().map(bytes).sum()
}

/// Counts rows, and stops where there are too many.
struct RowCount {
    rows: u64,
    max: u64,
}

impl RowCount {
    fn add(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        self.rows += batch.num_rows() as u64;
        if self.rows > self.max { Err(Error::RowLimit(self.max)) } else { Ok(()) }
    }
}

async fn answer(sessions: &Sessions, request: &Request, max: u64) -> Result<Answer, Error> {
    let Started { schema, names, mut batches, pin, reservation } = sessions.start(request).await?;
    let mut writer = AnswerWriter::new(&schema, &names, reservation)?;
    let mut count = RowCount { rows: 0, max };
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        count.add(&batch)?;
        for slice in slices(&batch) {
            writer.rows(&slice)?;
        }
    }
    let served = request.generation.map(|_| sessions.sources.lambda.served().generation);
    writer.finish(&pin, served)
}

async fn stream(
    sessions: &Sessions,
    request: &Request,
    max: u64,
    to: &mpsc::Sender<Result<Part, Error>>,
) -> Result<(), Error> {
    let started = sessions.start(request).await?;
    let Started { schema, names, mut batches, pin: _pin, reservation } = started;
    let hand_over = async |part| to.send(Ok(part)).await.map_err(|_| Error::Stopping);
    hand_over(Part::Columns(names, schema)).await?;
    let mut count = RowCount { rows: 0, max };
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        count.add(&batch)?;
        // What waits for the client counts, too.
        reservation.try_resize(bytes_of(&batch))?;
        for slice in slices(&batch) {
            hand_over(Part::Rows(slice)).await?;
        }
    }
    Ok(())
}
