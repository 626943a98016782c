//! The batch layer as a running role: one thread that archives all the time and iterates at times, and at times a second
//! one that rebuilds.
//!
//! The binary spawns it and hands its [`Handle`] to whoever wants an iteration or a rebuild now, or a status. A failing
//! disk or a failing schema folder never ends the thread: it tries again, later and later, and says so in the status.
//! Every commit is made by the one thread, so that none has to wait for another. What an iteration does is in
//! [`crate::batcher`], a rebuild in [`crate::rebuild`]; here is only when.

use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use assets::Answers;
use enrich::Recipe;
use model::cut::Cut;
use model::files::Files;
use model::time::Clock;
use stream::Stream;
use views::catalog::{Catalog, Manifest};

use crate::archiver::{Archiver, Step};
use crate::batcher::{Batcher, Iterated};
use crate::error::sentence;
use crate::progress::{Done, Progress};
use crate::rebuild::Rebuild;
use crate::trim::trim;
use crate::{Config, Error};

/// How often the archiver looks for new records while nothing else happens.
const ARCHIVE_EVERY: Duration = Duration::from_secs(1);
/// The wait after the first failure; it doubles with each further one, up to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Why there is no recipe to propose; any error of the binary's own.
pub type ProposalError = Box<dyn std::error::Error + Send + Sync>;

/// See [`Ports::propose`].
pub type Propose = Box<dyn Fn() -> Result<Recipe, ProposalError> + Send>;
/// See [`Ports::after_commit`].
pub type AfterCommit = Box<dyn Fn(&Arc<Manifest>) + Send>;
/// See [`Ports::oldest_pinned`].
pub type OldestPinned = Box<dyn Fn() -> Cut + Send>;
/// See [`Ports::in_use`].
pub type InUse = Box<dyn Fn() -> Vec<u64> + Send>;

/// What the service works on, and whom it asks and tells.
pub struct Ports {
    pub raw: Arc<dyn Stream>,
    pub files: Arc<dyn Files>,
    pub data_dir: PathBuf,
    pub catalog: Arc<Catalog>,
    pub clock: Arc<dyn Clock>,
    /// What registries have answered, and who asks them; the speed layer has the same.
    pub answers: Arc<Answers>,
    /// The recipe as the configuration and the schema folders have it now; asked before each iteration. After an error
    /// the recipe in force stays.
    pub propose: Propose,
    /// Told each new manifest once, in order of iterations (those of other processes included), on this thread.
    pub after_commit: AfterCommit,
    /// The oldest cut that a reader has pinned: the raw stream is never trimmed above it.
    pub oldest_pinned: OldestPinned,
    /// The iterations that are served or pinned: files that they list are never removed.
    pub in_use: InUse,
}

/// What the service says about itself.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Status {
    /// The newest iteration that the service has seen.
    pub iteration: u64,
    /// The ends of the master dataset.
    pub archived: Cut,
    /// Iterations that this service published, and the records they put below the cut.
    pub published: u64,
    pub records: u64,
    /// How long iterations took that published something: the last one, and all together.
    pub last_took: Duration,
    pub took: Duration,
    /// The iteration that is running now.
    pub running: Option<Done>,
    /// The rebuild that is running now.
    pub rebuilding: Option<Done>,
    /// Why the last rebuild failed; the generation before it stays.
    pub rebuild_error: Option<String>,
    /// Why the last attempt to archive or to iterate failed; it is tried again.
    pub error: Option<String>,
    /// Why the raw stream could not be trimmed. It grows until then; where the master dataset has a hole, it has the only
    /// copy.
    pub trim_error: Option<String>,
    /// Why the recipe in force stays although another was asked for.
    pub recipe_error: Option<String>,
    /// Failures in a row.
    pub failures: u32,
    /// Why there is no thread any more.
    pub stopped: Option<String>,
}

enum Request {
    Iterate(Answer),
    Rebuild(Answer),
    /// From the thread that rebuilds: it has caught up, or failed with this generation.
    Rebuilt(Box<Result<Rebuild, (u64, Error)>>),
    Stop,
}

type Answer = Sender<Result<Iterated, Error>>;

/// The way to a running service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    requests: Sender<Request>,
    status: Arc<Mutex<Status>>,
    progress: Arc<Progress>,
    rebuild_progress: Arc<Progress>,
}

impl Handle {
    /// Archives and iterates now, and returns after publication. All records that were readable when this was called
    /// are below the cut then. Blocks: call it outside of an async runtime's workers.
    ///
    /// # Errors
    /// Those of the iteration, which the service will try again by itself; [`Error::Stopped`] after a shutdown.
    pub fn run_now(&self) -> Result<Iterated, Error> {
        self.ask(Request::Iterate)
    }

    /// Iterates, then makes a new generation of the batch view with the recipe as it is now, and returns when that
    /// answers: after minutes or hours, by the length of history. Iterations go on meanwhile. Blocks as
    /// [`Handle::run_now`].
    ///
    /// # Errors
    /// [`Error::RebuildRuns`] while another one is under way; else those of the rebuild, after which the generation
    /// before it stays. It is not tried again by itself, and ends with the process.
    pub fn rebuild_now(&self) -> Result<Iterated, Error> {
        self.ask(Request::Rebuild)
    }

    fn ask(&self, request: impl FnOnce(Answer) -> Request) -> Result<Iterated, Error> {
        let (answer, answered) = mpsc::channel();
        let stopped = || {
            let why = lock(&self.status).stopped.clone();
            Error::Stopped { why: why.unwrap_or_else(|| "shut down".to_owned()) }
        };
        self.requests.send(request(answer)).map_err(|_| stopped())?;
        answered.recv().map_err(|_| stopped())?
    }

    pub fn status(&self) -> Status {
        let mut status = lock(&self.status).clone();
        if status.running.is_some() {
            status.running = Some(self.progress.done());
        }
        if status.rebuilding.is_some() {
            status.rebuilding = Some(self.rebuild_progress.done());
        }
        status
    }
}

/// A running service. Dropping it leaves the thread running; use [`Service::shutdown`].
#[derive(Debug)]
pub struct Service {
    handle: Handle,
    thread: JoinHandle<()>,
}

impl Service {
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Stops at the next step and joins the thread. A running iteration is given up; its records stay in the raw stream
    /// and the master dataset.
    pub fn shutdown(self) {
        self.handle.progress.stop();
        self.handle.rebuild_progress.stop();
        // An error means that the thread has ended already.
        let _ = self.handle.requests.send(Request::Stop);
        // A panic of the thread was caught, logged and put into the status.
        let _ = self.thread.join();
    }
}

/// Opens the archiver at the published cut and starts the thread.
///
/// # Errors
/// When the chain of the master dataset cannot be followed, or no thread can be made.
pub fn spawn(ports: Ports, config: Config) -> Result<Service, Error> {
    let (requests, inbox) = mpsc::channel();
    let status = Arc::new(Mutex::new(Status::default()));
    let rebuild_progress = Arc::new(Progress::default());
    let mut worker = Worker::open(ports, &config, inbox, status.clone())?;
    worker.rebuild_progress = rebuild_progress.clone();
    worker.to_self = Some(requests.clone());
    let progress = worker.batcher.progress();
    let handle = Handle { requests, status: status.clone(), progress, rebuild_progress };
    let run = move || {
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| worker.run()));
        let why = match result {
            Ok(()) => "shut down".to_owned(),
            Err(panic) => {
                let why = format!("panic: {}", text_of(panic.as_ref()));
                tracing::error!(why, "the batch layer has stopped");
                why
            }
        };
        let mut status = lock(&status);
        status.running = None;
        status.rebuilding = None;
        status.stopped = Some(why);
        // Requests that wait are answered by the end of their channel, after the status says why.
        drop(status);
        if let Some(rebuilder) = worker.rebuilder.take() {
            worker.rebuild_progress.stop();
            // Its result goes nowhere: what it wrote is removed at the next start.
            let _ = rebuilder.join();
        }
        drop(worker);
    };
    let thread = std::thread::Builder::new()
        .name("batch".to_owned())
        .spawn(run)
        .map_err(Error::io("start the thread of", std::path::Path::new("batch")))?;
    Ok(Service { handle, thread })
}

struct Worker {
    ports: Ports,
    config: Config,
    inbox: Receiver<Request>,
    status: Arc<Mutex<Status>>,
    archiver: Archiver,
    batcher: Batcher,
    /// The last recipe that could be read.
    proposed: Option<Recipe>,
    /// The last iteration that `after_commit` was told.
    told: u64,
    /// What failed last, until it succeeds; an iteration archives as well.
    failing: Option<Action>,
    failures: u32,
    /// Who waits for the next iteration. Kept here so that a panic is in the status before they hear of it.
    waiting: Vec<Answer>,
    /// Who wants a rebuild begun, and who waits for the one that runs.
    rebuild_asked: Option<Answer>,
    rebuild_waiting: Option<Answer>,
    rebuild_progress: Arc<Progress>,
    rebuilder: Option<JoinHandle<()>>,
    rebuilt: Option<Result<Rebuild, (u64, Error)>>,
    /// For the thread that rebuilds.
    to_self: Option<Sender<Request>>,
}

/// What can fail.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Archive,
    Iterate,
    Compact,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Action::Archive => "archive",
            Action::Iterate => "iterate",
            Action::Compact => "join table files",
        }
    }
}

impl Worker {
    fn open(
        ports: Ports,
        config: &Config,
        inbox: Receiver<Request>,
        status: Arc<Mutex<Status>>,
    ) -> Result<Worker, Error> {
        let manifest = ports.catalog.newest();
        let archiver = Archiver::new(
            ports.raw.clone(),
            ports.files.clone(),
            ports.data_dir.clone(),
            &manifest.cut,
            config.archiver(),
        )?;
        let batcher = Batcher::new(
            ports.catalog.clone(),
            ports.files.clone(),
            ports.data_dir.clone(),
            ports.raw.partitions(),
            ports.clock.clone(),
            config.batcher(),
        )
        .with_answers(ports.answers.clone());
        {
            let mut status = lock(&status);
            status.iteration = manifest.iteration;
            status.archived = archiver.end();
        }
        let (told, config) = (manifest.iteration, config.clone());
        Ok(Worker {
            ports,
            config,
            inbox,
            status,
            archiver,
            batcher,
            proposed: None,
            told,
            failing: None,
            failures: 0,
            waiting: Vec::new(),
            rebuild_asked: None,
            rebuild_waiting: None,
            rebuild_progress: Arc::default(),
            rebuilder: None,
            rebuilt: None,
            to_self: None,
        })
    }

    fn run(&mut self) {
        let mut next_archive = Instant::now();
        let mut next_iteration = Instant::now() + self.config.interval;
        loop {
            if self.wait(next_archive.min(next_iteration)).is_break() {
                return;
            }
            if let Some(rebuilt) = self.rebuilt.take() {
                self.end_rebuild(rebuilt);
            }
            let asked = !self.waiting.is_empty() || self.rebuild_asked.is_some();
            if asked || Instant::now() >= next_iteration {
                let result = self.iterate();
                for answer in self.waiting.drain(..) {
                    // Who asked may have gone. Without anyone, the error is in the log and in the status.
                    let _ = answer.send(result.clone());
                }
                self.compact_after(&result);
                if let Some(answer) = self.rebuild_asked.take() {
                    match result.map(|_| ()).and_then(|()| self.begin_rebuild()) {
                        Ok(()) => self.rebuild_waiting = Some(answer),
                        Err(error) => drop(answer.send(Err(error))),
                    }
                }
                next_iteration = Instant::now() + self.pause(self.config.interval);
                next_archive = Instant::now() + self.pause(ARCHIVE_EVERY);
            } else if Instant::now() >= next_archive {
                let more = self.archive();
                let pause = if more { Duration::ZERO } else { self.pause(ARCHIVE_EVERY) };
                next_archive = Instant::now() + pause;
            }
        }
    }

    /// Sleeps until `until` or the first request; then takes all requests that are there. An iteration that begins
    /// afterwards covers what each of them wants covered. Breaks off when it is asked to stop.
    fn wait(&mut self, until: Instant) -> ControlFlow<()> {
        let pause = until.saturating_duration_since(Instant::now());
        let mut request = match self.inbox.recv_timeout(pause) {
            Ok(request) => Some(request),
            Err(RecvTimeoutError::Timeout) => None,
            // Nobody can ask or stop us any more.
            Err(RecvTimeoutError::Disconnected) => return ControlFlow::Break(()),
        };
        while let Some(taken) = request {
            match taken {
                Request::Stop => return ControlFlow::Break(()),
                Request::Iterate(answer) => self.waiting.push(answer),
                Request::Rebuild(answer) => {
                    if self.rebuild_asked.is_some() || self.rebuild_waiting.is_some() {
                        let generation = self.ports.catalog.newest().generation + 1;
                        // Who asked may have gone.
                        let _ = answer.send(Err(Error::RebuildRuns { generation }));
                    } else {
                        self.rebuild_asked = Some(answer);
                    }
                }
                Request::Rebuilt(rebuilt) => self.rebuilt = Some(*rebuilt),
            }
            request = self.inbox.try_recv().ok();
        }
        ControlFlow::Continue(())
    }

    /// How long to wait: `usual`, or while something fails, a short time that grows.
    fn pause(&self, usual: Duration) -> Duration {
        if self.failures == 0 {
            return usual;
        }
        (RETRY_FIRST * 2u32.pow((self.failures - 1).min(6))).min(RETRY_MAX)
    }

    /// One step of the archiver; whether there may be more to do at once.
    fn archive(&mut self) -> bool {
        let step = self.archiver.step();
        let end = self.archiver.end();
        lock(&self.status).archived = end;
        match step {
            Ok(step) => {
                if self.failing == Some(Action::Archive) {
                    self.recovered();
                }
                matches!(step, Step::Archived(_))
            }
            Err(error) => {
                self.failed(Action::Archive, &error);
                false
            }
        }
    }

    /// One iteration with all that belongs to it.
    fn iterate(&mut self) -> Result<Iterated, Error> {
        lock(&self.status).running = Some(Done::default());
        let begun = Instant::now();
        let result = self.archive_and_iterate();
        {
            let mut status = lock(&self.status);
            status.running = None;
            if result.as_ref().is_ok_and(|iterated| iterated.published) {
                let took = begun.elapsed();
                status.last_took = took;
                status.took += took;
            }
        }
        match &result {
            Ok(iterated) => self.succeeded(iterated),
            Err(Error::Stopped { .. }) => {}
            Err(error) => self.failed(Action::Iterate, error),
        }
        result
    }

    /// Joins small files after an iteration that has added some, and gives back what nobody needs.
    fn compact_after(&mut self, result: &Result<Iterated, Error>) {
        if result.as_ref().is_ok_and(|iterated| iterated.published) {
            match self.batcher.compact() {
                Ok(Some(iterated)) => self.succeeded(&iterated),
                Ok(None) | Err(Error::Stopped { .. }) => {}
                Err(error) => self.failed(Action::Compact, &error),
            }
        }
        self.batcher.collect_garbage(&(self.ports.in_use)());
    }

    /// Starts the thread that rebuilds. It hands its result to this one, which publishes it between two iterations.
    fn begin_rebuild(&mut self) -> Result<(), Error> {
        if let Some(what) = lock(&self.status).recipe_error.clone() {
            return Err(Error::NoRecipe { what });
        }
        let recipe = self.proposed.clone().expect("an iteration has just proposed a recipe");
        let mut rebuild = self.batcher.begin_rebuild(recipe, self.rebuild_progress.clone())?;
        let generation = rebuild.generation();
        let to_worker = self.to_self.clone().expect("the worker was given its own address");
        let work = move || {
            let result = std::panic::catch_unwind(AssertUnwindSafe(move || {
                while rebuild.catch_up().map_err(|error| (generation, error))? {}
                Ok(rebuild)
            }));
            let result = result.unwrap_or_else(|panic| {
                let why = format!("the rebuild panicked: {}", text_of(panic.as_ref()));
                Err((generation, Error::Stopped { why }))
            });
            // Without a worker the process is ending.
            let _ = to_worker.send(Request::Rebuilt(Box::new(result)));
        };
        let thread = std::thread::Builder::new().name("rebuild".to_owned()).spawn(work);
        let thread =
            thread.map_err(Error::io("start the thread of", std::path::Path::new("rebuild")))?;
        self.rebuilder = Some(thread);
        let mut status = lock(&self.status);
        status.rebuilding = Some(Done::default());
        status.rebuild_error = None;
        Ok(())
    }

    fn end_rebuild(&mut self, rebuilt: Result<Rebuild, (u64, Error)>) {
        if let Some(thread) = self.rebuilder.take() {
            // It has sent its result, panics included.
            let _ = thread.join();
        }
        let result = match rebuilt {
            Ok(rebuild) => self.batcher.publish_rebuild(rebuild),
            Err((generation, error)) => {
                self.batcher.give_up_rebuild(generation);
                Err(error)
            }
        };
        {
            let mut status = lock(&self.status);
            status.rebuilding = None;
            status.rebuild_error = result.as_ref().err().map(|error| sentence(error));
        }
        match &result {
            Ok(iterated) => self.succeeded(iterated),
            Err(error) => tracing::error!(
                error = sentence(error),
                "the rebuild has failed, and the generation before it stays"
            ),
        }
        if let Some(answer) = self.rebuild_waiting.take() {
            // Who asked may have gone; the status and the log have it.
            let _ = answer.send(result);
        }
        self.batcher.collect_garbage(&(self.ports.in_use)());
    }

    fn archive_and_iterate(&mut self) -> Result<Iterated, Error> {
        let archived = self.archiver.flush();
        lock(&self.status).archived = self.archiver.end();
        archived?;
        self.propose()?;
        let proposed = self.proposed.as_ref().expect("a recipe was proposed just now");
        self.batcher.iterate(proposed)
    }

    /// Asks for the recipe. If it cannot be told, the last one stays; at first, the one that is in force.
    fn propose(&mut self) -> Result<(), Error> {
        let recipe_error = match (self.ports.propose)() {
            Ok(recipe) => {
                self.proposed = Some(recipe);
                None
            }
            Err(error) => Some(sentence(error.as_ref())),
        };
        {
            let mut status = lock(&self.status);
            if recipe_error.is_some() && status.recipe_error != recipe_error {
                tracing::warn!(error = recipe_error, "the recipe in force stays");
            }
            status.recipe_error = recipe_error;
        }
        if self.proposed.is_none() {
            let digest = self.ports.catalog.newest().next_recipe.clone();
            let files = self.ports.files.as_ref();
            self.proposed = Some(assets::load(files, &self.ports.data_dir, &digest)?);
        }
        Ok(())
    }

    fn succeeded(&mut self, iterated: &Iterated) {
        self.recovered();
        {
            let mut status = lock(&self.status);
            status.iteration = iterated.iteration;
            status.published += u64::from(iterated.published);
            status.records += iterated.records;
        }
        // Also a commit whose write seemed to fail, or that another process made.
        if iterated.iteration > self.told {
            self.told = iterated.iteration;
            (self.ports.after_commit)(&iterated.manifest);
        }
        self.trim(&iterated.manifest);
    }

    /// Space that cannot be given back now is given back after the next iteration.
    fn trim(&mut self, manifest: &Manifest) {
        let oldest_pinned = (self.ports.oldest_pinned)();
        let Ports { raw, files, data_dir, .. } = &self.ports;
        let result = trim(raw.as_ref(), files.as_ref(), data_dir, manifest, &oldest_pinned);
        let error = result.err().map(|error| sentence(&error));
        if let Some(error) = &error {
            tracing::warn!(error, "could not trim the raw stream");
        }
        lock(&self.status).trim_error = error;
    }

    fn failed(&mut self, action: Action, error: &Error) {
        self.failing = Some(action);
        self.failures = self.failures.saturating_add(1);
        let (action, error) = (action.name(), sentence(error));
        let retry = self.pause(ARCHIVE_EVERY);
        tracing::error!(action, error, failures = self.failures, ?retry, "the batch layer failed");
        let mut status = lock(&self.status);
        status.error = Some(format!("{action}: {error}"));
        status.failures = self.failures;
    }

    fn recovered(&mut self) {
        if self.failing.take().is_some() {
            tracing::info!(failures = self.failures, "the batch layer works again");
        }
        self.failures = 0;
        let mut status = lock(&self.status);
        status.error = None;
        status.failures = 0;
    }
}

/// The status is plain data: a panic in between leaves it readable.
fn lock(status: &Mutex<Status>) -> MutexGuard<'_, Status> {
    status.lock().unwrap_or_else(PoisonError::into_inner)
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
