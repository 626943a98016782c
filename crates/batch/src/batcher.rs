//! One iteration: plan, enrich the new files of the master dataset, write table files, publish one manifest.
//!
//! The batch service calls [`Batcher::iterate`]; the simulator and the offline commands do so with one worker. What is
//! written before the commit is read by nobody: a killed iteration is begun again from the published manifest, and who
//! loses the race for a number plans again. The real-time view and the raw stream are not known here.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use enrich::Recipe;
use model::files::Files;
use model::position::Partition;
use model::time::Clock;
use views::catalog::{Catalog, Commit, Manifest};

use crate::Error;
use crate::garbage;
use crate::master::{self, Footer};
use crate::pieces::{Job, Piece};
use crate::plan::{self, Plan};

/// How often an iteration is planned again because somebody else took its number.
const ATTEMPTS_MAX: u32 = 8;

/// How an iteration is worked through.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Files enriched at the same time; 1 works in the calling thread.
    pub workers: NonZeroUsize,
    /// Rows after which a table file is closed.
    pub part_rows_max: usize,
    /// Bytes of rows in memory after which a table file is closed. A worker holds about twice that.
    pub part_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            workers: NonZeroUsize::MIN,
            part_rows_max: views::parquet::ROW_GROUP_ROWS_MAX,
            part_bytes_max: 128 << 20,
        }
    }
}

/// The result of [`Batcher::iterate`].
#[derive(Clone, Debug)]
pub struct Iterated {
    /// The iteration that answers now.
    pub iteration: u64,
    /// Whether this call published it; if not, there was nothing new.
    pub published: bool,
    pub manifest: Arc<Manifest>,
    /// Raw records that this call put below the cut.
    pub records: u64,
}

/// Runs iterations over the master dataset of one data folder.
#[derive(Debug)]
pub struct Batcher {
    catalog: Arc<Catalog>,
    files: Arc<dyn Files>,
    data_dir: PathBuf,
    partitions: Vec<Partition>,
    clock: Arc<dyn Clock>,
    config: Config,
    /// The recipe that was last loaded; compiled schemas are worth keeping.
    in_force: Option<Arc<Recipe>>,
    /// Whether an attempt, or an earlier process, may have left files that no manifest lists.
    may_have_leftovers: bool,
    progress: Arc<Progress>,
}

impl Batcher {
    /// `partitions` are those of the raw stream; those that the cut names come with it.
    pub fn new(
        catalog: Arc<Catalog>,
        files: Arc<dyn Files>,
        data_dir: PathBuf,
        partitions: &[Partition],
        clock: Arc<dyn Clock>,
        config: Config,
    ) -> Batcher {
        Batcher {
            catalog,
            files,
            data_dir,
            partitions: partitions.to_vec(),
            clock,
            config,
            in_force: None,
            may_have_leftovers: true,
            progress: Arc::default(),
        }
    }

    /// How far the present iteration has come; also the way to stop it.
    pub fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// Puts all that is archived below the cut, and names `proposed` as the recipe in force from there on.
    ///
    /// The new ranges are enriched with the recipe that was in force since the published cut, which is the one the
    /// speed layer used for them. Without new records and without a new recipe nothing is published. When it returns,
    /// the manifest and all that it names are durable.
    ///
    /// # Errors
    /// Nothing was published, except after a failed write of the manifest itself: then the next call finds out.
    pub fn iterate(&mut self, proposed: &Recipe) -> Result<Iterated, Error> {
        // The manifest may name it, so it must outlive this process.
        assets::pin(self.files.as_ref(), &self.data_dir, proposed)?;
        let mut iteration = 0;
        for _attempt in 0..ATTEMPTS_MAX {
            let parent = self.catalog.refresh()?;
            self.remove_leftovers(&parent);
            let plan = self.plan(&parent)?;
            if plan.is_empty() && parent.next_recipe == proposed.digest() {
                let iteration = parent.iteration;
                return Ok(Iterated { iteration, published: false, manifest: parent, records: 0 });
            }
            iteration = parent.iteration + 1;
            // Until the commit is known: after a failed one, what is listed shows with the next look.
            self.may_have_leftovers = true;
            let manifest = match self.build(&parent, &plan, proposed) {
                Ok(manifest) => manifest,
                Err(error) => {
                    // Give the room back at once: it may be what was missing.
                    self.remove_leftovers(&parent);
                    return Err(error);
                }
            };
            match self.catalog.commit(manifest)? {
                Commit::Published(manifest) => {
                    self.may_have_leftovers = false;
                    let records = plan.records();
                    tracing::info!(iteration, records, cut = ?manifest.cut, "iteration published");
                    return Ok(Iterated { iteration, published: true, manifest, records });
                }
                Commit::Lost(newest) => {
                    tracing::info!(
                        iteration,
                        newest = newest.iteration,
                        "overtaken, planning again"
                    );
                }
            }
        }
        Err(Error::Overtaken { iteration, attempts: ATTEMPTS_MAX })
    }

    /// The same batcher with another clock.
    #[cfg(test)]
    pub(crate) fn at(&mut self, clock: Arc<dyn Clock>) -> &mut Batcher {
        self.clock = clock;
        self
    }

    fn remove_leftovers(&mut self, newest: &Manifest) {
        if self.may_have_leftovers {
            let removed =
                garbage::remove(self.files.as_ref(), &self.data_dir, &self.partitions, newest);
            self.may_have_leftovers = removed.failed > 0;
        }
    }

    /// Follows the chains from the published cut.
    fn plan(&self, parent: &Manifest) -> Result<Plan, Error> {
        let mut partitions = self.partitions.clone();
        partitions.extend(parent.cut.iter().map(|(partition, _)| partition.clone()));
        partitions.sort();
        partitions.dedup();
        let mut chains = Vec::new();
        for partition in &partitions {
            let cut = parent.cut.of(partition);
            chains.extend(master::chain(self.files.as_ref(), &self.data_dir, partition, cut, cut)?);
        }
        plan::plan(&self.data_dir, &parent.cut, chains)
    }

    /// Does the plan's work and gives the manifest to commit.
    fn build(
        &mut self,
        parent: &Manifest,
        plan: &Plan,
        proposed: &Recipe,
    ) -> Result<Manifest, Error> {
        let recipe = self.in_force(&parent.next_recipe)?;
        let now = self.clock.now();
        let iteration = parent.iteration + 1;
        self.progress.begin(plan);
        let job = Job {
            files: self.files.as_ref(),
            data_dir: &self.data_dir,
            iteration,
            recipe: &recipe,
            processor: &enrich::processor(),
            now,
            progress: &self.progress,
            part_rows_max: self.config.part_rows_max,
            part_bytes_max: self.config.part_bytes_max,
        };
        let mut manifest = Manifest {
            iteration,
            parent: Some(parent.iteration),
            generation: parent.generation,
            committed_at: now.to_iso(),
            cut: plan.cut.clone(),
            recipe: recipe.digest().to_owned(),
            next_recipe: proposed.digest().to_owned(),
            files: parent.files.clone(),
            ledger: parent.ledger.clone(),
        };
        for piece in run(&job, &plan.work, self.config.workers)? {
            manifest.files.extend(piece.files);
            manifest.ledger.push(piece.entry);
        }
        Ok(manifest)
    }

    fn in_force(&mut self, digest: &str) -> Result<Arc<Recipe>, Error> {
        if let Some(recipe) = self.in_force.as_ref().filter(|recipe| recipe.digest() == digest) {
            return Ok(recipe.clone());
        }
        let recipe = Arc::new(assets::load(self.files.as_ref(), &self.data_dir, digest)?);
        self.in_force = Some(recipe.clone());
        Ok(recipe)
    }
}

/// All pieces in the order of `work`, done by up to `workers` threads. After an error no further piece is begun.
fn run(job: &Job<'_>, work: &[Footer], workers: NonZeroUsize) -> Result<Vec<Piece>, Error> {
    let order = plan::order_of_work(work);
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let worker = || {
        let mut pieces = Vec::new();
        while !failed.load(Ordering::Relaxed) {
            let Some(&at) = order.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            match job.run(&work[at]) {
                Ok(piece) => pieces.push((at, piece)),
                Err(error) => {
                    failed.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
            job.progress.file_done();
        }
        Ok(pieces)
    };
    let mut pieces = Vec::with_capacity(work.len());
    if workers.get().min(work.len()) <= 1 {
        pieces = worker()?;
    } else {
        let results: Vec<Result<Vec<(usize, Piece)>, Error>> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..workers.get().min(work.len())).map(|_| scope.spawn(worker)).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().map(join).collect()
        });
        for result in results {
            pieces.extend(result?);
        }
    }
    pieces.sort_by_key(|(at, _)| *at);
    Ok(pieces.into_iter().map(|(_, piece)| piece).collect())
}

/// How far the present iteration has come, for status and logs.
#[derive(Debug, Default)]
pub struct Progress {
    files_done: AtomicU64,
    files: AtomicU64,
    records_done: AtomicU64,
    records: AtomicU64,
    stop: AtomicBool,
}

/// The numbers of a [`Progress`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Done {
    pub files_done: u64,
    pub files: u64,
    pub records_done: u64,
    pub records: u64,
}

impl Progress {
    pub fn done(&self) -> Done {
        Done {
            files_done: self.files_done.load(Ordering::Relaxed),
            files: self.files.load(Ordering::Relaxed),
            records_done: self.records_done.load(Ordering::Relaxed),
            records: self.records.load(Ordering::Relaxed),
        }
    }

    /// Ends the present iteration, and each later one, with [`Error::Stopped`] at its next step.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(crate) fn check_stop(&self) -> Result<(), Error> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::Stopped { why: "shut down".to_owned() });
        }
        Ok(())
    }

    pub(crate) fn add_records(&self, records: u64) {
        self.records_done.fetch_add(records, Ordering::Relaxed);
    }

    fn begin(&self, plan: &Plan) {
        self.files_done.store(0, Ordering::Relaxed);
        self.records_done.store(0, Ordering::Relaxed);
        self.files.store(plan.work.len() as u64, Ordering::Relaxed);
        self.records.store(plan.records(), Ordering::Relaxed);
    }

    /// Logs about twenty times in a long iteration, and not at all in a short one.
    fn file_done(&self) {
        let done = self.files_done.fetch_add(1, Ordering::Relaxed) + 1;
        let files = self.files.load(Ordering::Relaxed);
        let step_reached = done * 20 / files.max(1) > (done - 1) * 20 / files.max(1);
        if files >= 8 && step_reached {
            let (records, of) =
                (self.records_done.load(Ordering::Relaxed), self.records.load(Ordering::Relaxed));
            tracing::info!(
                files_done = done,
                files,
                records_done = records,
                records = of,
                "iterating"
            );
        }
    }
}
