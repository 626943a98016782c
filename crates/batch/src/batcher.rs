//! One iteration: plan, enrich the new files of the master dataset, write table files, publish one manifest.
//!
//! The batch service calls [`Batcher::iterate`]; the simulator and the offline commands do so with one worker. What is
//! written before the commit is read by nobody: a killed iteration is begun again from the published manifest, and who
//! loses the race for a number plans again. The real-time view and the raw stream are not known here.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use assets::{Answers, Driver};
use enrich::Recipe;
use model::files::Files;
use model::position::{Partition, Range};
use model::time::Clock;
use views::catalog::{Catalog, Commit, Manifest, Table, TableFile};
use views::tables::{self, Lot};
use views::wide::{Inventory, Mentions};

use crate::Error;
use crate::compaction::{self, Bounds};
use crate::error::sentence;
use crate::garbage::Garbage;
use crate::master::{self, Footer};
use crate::pieces::{self, Job, Piece};
use crate::plan::{self, Plan};
use crate::progress::Progress;
use crate::rebuild::Rebuild;

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
    /// Neighbouring table files of like size that are joined; 0 leaves all as they are.
    pub compact_files: usize,
    /// Older generations whose files are kept.
    pub generations_kept: u64,
}

/// Bytes of a joined table file. Rows in memory take about ten times that.
const JOINED_BYTES_MAX: u64 = 16 << 20;

impl Default for Config {
    fn default() -> Config {
        Config {
            workers: NonZeroUsize::MIN,
            part_rows_max: views::parquet::ROW_GROUP_ROWS_MAX,
            part_bytes_max: 128 << 20,
            compact_files: 8,
            generations_kept: 1,
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
    in_force: Option<Driver>,
    /// What registries have answered, and who asks them.
    answers: Arc<Answers>,
    garbage: Garbage,
    /// Whether an attempt may have left files that no manifest lists.
    may_have_leftovers: bool,
    progress: Arc<Progress>,
}

impl Batcher {
    /// `partitions` are those of the raw stream; those that the cut names come with it. Removes what an earlier process
    /// has left unfinished: while this one lives, no other may write to the folder.
    pub fn new(
        catalog: Arc<Catalog>,
        files: Arc<dyn Files>,
        data_dir: PathBuf,
        partitions: &[Partition],
        clock: Arc<dyn Clock>,
        config: Config,
    ) -> Batcher {
        let kept = config.generations_kept;
        let garbage = Garbage::open(files.clone(), data_dir.clone(), partitions, &catalog, kept);
        let answers = Arc::new(Answers::reading(files.clone(), &data_dir));
        Batcher {
            answers,
            may_have_leftovers: garbage.is_left(),
            garbage,
            catalog,
            files,
            data_dir,
            partitions: partitions.to_vec(),
            clock,
            config,
            in_force: None,
            progress: Arc::default(),
        }
    }

    /// The same batcher, asking registries for what nobody has answered yet. Without it a recipe's open questions stay
    /// open, unless their answers are facts on the disk.
    #[must_use]
    pub fn with_answers(self, answers: Arc<Answers>) -> Batcher {
        Batcher { answers, ..self }
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
    /// Where a record waits for a registry, the iteration fails and is to be tried again. If another recipe is proposed
    /// then, that one is named from the published cut on: it may be the way out, such as other registries.
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
            let (manifest, records) = match self.build(&parent, &plan, proposed) {
                Ok(manifest) => (manifest, plan.records()),
                Err(error) => {
                    // Give the room back at once: it may be what was missing.
                    self.remove_leftovers(&parent);
                    if !error.waits() || parent.next_recipe == proposed.digest() {
                        return Err(error);
                    }
                    tracing::info!(
                        error = sentence(&error),
                        "going over to another recipe at the published cut"
                    );
                    let cut = parent.cut.clone();
                    let nothing = Plan { since: cut.clone(), cut, work: Vec::new() };
                    (self.build(&parent, &nothing, proposed)?, 0)
                }
            };
            match self.catalog.commit(manifest)? {
                Commit::Published(manifest) => {
                    self.may_have_leftovers = false;
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

    /// Removes files that the view has dropped, as far as nobody needs them; `in_use` are the iterations that are served
    /// or pinned now.
    pub fn collect_garbage(&mut self, in_use: &[u64]) {
        self.garbage.collect(&self.catalog.newest(), in_use);
    }

    /// Joins small table files in a commit of its own, with the same cut. `None` when there are none to be joined.
    ///
    /// # Errors
    /// Nothing was published, except after a failed write of the manifest itself.
    pub fn compact(&mut self) -> Result<Option<Iterated>, Error> {
        let Some(files) = NonZeroUsize::new(self.config.compact_files) else { return Ok(None) };
        let parent = self.catalog.refresh()?;
        self.remove_leftovers(&parent);
        let rows_max = self.config.part_rows_max as u64;
        let bounds = Bounds { files, rows_max, bytes_max: JOINED_BYTES_MAX };
        let groups = compaction::plan(&parent.files, bounds);
        if groups.is_empty() {
            return Ok(None);
        }
        self.may_have_leftovers = true;
        let manifest = match self.join_files(&parent, &groups) {
            Ok(manifest) => manifest,
            Err(error) => {
                self.remove_leftovers(&parent);
                return Err(error);
            }
        };
        match self.catalog.commit(manifest)? {
            Commit::Published(manifest) => {
                self.may_have_leftovers = false;
                self.garbage.dropped_by(&parent, &manifest);
                let iteration = manifest.iteration;
                let joined: usize = groups.iter().map(Vec::len).sum();
                tracing::info!(iteration, joined, into = groups.len(), "table files joined");
                Ok(Some(Iterated { iteration, published: true, manifest, records: 0 }))
            }
            // Whoever was faster has changed the files; the next iteration looks again.
            Commit::Lost(_) => Ok(None),
        }
    }

    fn join_files(&self, parent: &Manifest, groups: &[Vec<TableFile>]) -> Result<Manifest, Error> {
        let iteration = parent.iteration + 1;
        let (files, data_dir) = (self.files.as_ref(), &self.data_dir);
        let mut manifest = Manifest {
            iteration,
            parent: Some(parent.iteration),
            committed_at: self.clock.now().to_iso(),
            recipe: parent.next_recipe.clone(),
            ..parent.clone()
        };
        for group in groups {
            self.progress.check_stop()?;
            let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
            let mut rows = Vec::new();
            for file in group {
                rows.extend(tables::read(files, data_dir, file)?);
            }
            let (partition, from, to) = (first.partition.clone(), first.from, last.to);
            let range = Range { partition, from, to };
            let lot = Lot::Iteration(iteration);
            let joined =
                tables::write(files, data_dir, first.table, &range, lot, &first.recipe, &rows)?;
            drop(rows);
            let back = tables::read(files, data_dir, &joined)?;
            let back: u64 = back.iter().map(|batch| batch.num_rows() as u64).sum();
            let expected: u64 = group.iter().map(|file| file.rows).sum();
            if back != expected {
                let Range { partition, from, to } = range;
                let what = format!("{expected} rows were joined, {back} were written");
                return Err(Error::LedgerOpen { partition, from, to, what });
            }
            manifest.files.retain(|file| !group.contains(file));
            manifest.files.push(joined);
        }
        Ok(manifest)
    }

    /// Begins to make a new generation with `recipe`, which asks registries again for what was absent; see [`Rebuild`].
    /// One at a time.
    ///
    /// # Errors
    /// When the recipe cannot be made durable, or the catalogue not be read.
    pub fn begin_rebuild(&self, recipe: Recipe, progress: Arc<Progress>) -> Result<Rebuild, Error> {
        // Iterations go on beside it.
        let workers = NonZeroUsize::new(self.config.workers.get().div_ceil(2));
        let config = Config { workers: workers.unwrap_or(NonZeroUsize::MIN), ..self.config };
        let (catalog, files) = (self.catalog.clone(), self.files.clone());
        let data_dir = self.data_dir.clone();
        let recipe = self.driver(assets::asking_anew(&recipe, &self.answers)?);
        Rebuild::begin(catalog, files, data_dir, config, recipe, self.clock.now(), progress)
    }

    /// Puts a rebuilt generation in the place of the published one, in one commit with the same cut; first it does what
    /// the rebuild still lacks.
    ///
    /// # Errors
    /// Nothing was published, except after a failed write of the manifest itself. What the rebuild wrote is removed.
    pub fn publish_rebuild(&mut self, mut rebuild: Rebuild) -> Result<Iterated, Error> {
        let generation = rebuild.generation();
        let published = self.try_publish(&mut rebuild);
        if published.is_err() {
            self.give_up_rebuild(generation);
        }
        published
    }

    /// Removes what a rebuild that will not be published has written.
    pub fn give_up_rebuild(&mut self, generation: u64) {
        // A manifest whose write seemed to fail may be there after all: then its files are listed.
        match self.catalog.refresh() {
            Ok(newest) => self.garbage.after_failure(&newest, Some(generation)),
            Err(error) => {
                tracing::warn!(
                    generation,
                    error = sentence(&error),
                    "left the files of an unfinished rebuild for the next start"
                );
            }
        }
    }

    fn try_publish(&mut self, rebuild: &mut Rebuild) -> Result<Iterated, Error> {
        let mut iteration = 0;
        for _attempt in 0..ATTEMPTS_MAX {
            while rebuild.catch_up()? {}
            let parent = self.catalog.refresh()?;
            iteration = parent.iteration + 1;
            if rebuild.is_overtaken(&parent) {
                break;
            }
            let manifest = rebuild.manifest(&parent, self.clock.now().to_iso());
            if manifest.cut_of_ledger() != parent.cut {
                continue;
            }
            if let Commit::Published(manifest) = self.catalog.commit(manifest)? {
                self.garbage.dropped_by(&parent, &manifest);
                let generation = manifest.generation;
                tracing::info!(iteration, generation, "a rebuilt generation answers from now on");
                return Ok(Iterated { iteration, published: true, manifest, records: 0 });
            }
        }
        Err(Error::Overtaken { iteration, attempts: ATTEMPTS_MAX })
    }

    fn remove_leftovers(&mut self, newest: &Manifest) {
        if self.may_have_leftovers {
            self.garbage.after_failure(newest, None);
            self.may_have_leftovers = self.garbage.is_left();
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
        self.progress.begin(plan.work.len() as u64, plan.records());
        let job = Job {
            files: self.files.as_ref(),
            data_dir: &self.data_dir,
            lot: Lot::Iteration(iteration),
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
            recipe: recipe.recipe().digest().to_owned(),
            next_recipe: proposed.digest().to_owned(),
            files: parent.files.clone(),
            ledger: parent.ledger.clone(),
            schemas: None,
        };
        let mut schemas = match &parent.schemas {
            Some(schemas) => schemas.clone(),
            None => self.schemas_of_files(parent, &recipe)?,
        };
        for piece in run(&job, &plan.work, self.config.workers)? {
            manifest.files.extend(piece.files);
            manifest.ledger.push(piece.entry);
            schemas.admit(&piece.schemas, iteration);
        }
        manifest.schemas = Some(schemas);
        Ok(manifest)
    }

    /// What the events of a view hold whose manifest does not say it yet, as those of releases without wide columns: the
    /// texts in its files say it. Done once for a data folder. What schemas say is asked of the recipe that a file was made
    /// with, or of the one in force, where this binary cannot use that one any more.
    fn schemas_of_files(&self, parent: &Manifest, in_force: &Driver) -> Result<Inventory, Error> {
        let mut all = Inventory::default();
        let mut recipes: BTreeMap<&str, Driver> = BTreeMap::new();
        for file in parent.files.iter().filter(|file| file.table != Table::BadRows) {
            self.progress.check_stop()?;
            let recipe = recipes.entry(&file.recipe).or_insert_with(|| {
                match assets::load(self.files.as_ref(), &self.data_dir, &file.recipe) {
                    Ok(recipe) => self.driver(recipe),
                    Err(_) => in_force.clone(),
                }
            });
            let mut mentions = Mentions::default();
            for rows in tables::read(self.files.as_ref(), &self.data_dir, file)? {
                mentions.note_rows(&rows)?;
            }
            let schemas = mentions.schemas(|schema| pieces::shape(recipe, schema))?;
            let seen = match file.table {
                Table::FailedEvents => Inventory { failed_events: schemas, ..Inventory::default() },
                Table::Events | Table::BadRows => {
                    Inventory { events: schemas, ..Inventory::default() }
                }
            };
            all.admit(&seen, file.iteration);
        }
        Ok(all)
    }

    fn in_force(&mut self, digest: &str) -> Result<Driver, Error> {
        if let Some(recipe) = self.in_force.as_ref().filter(|it| it.recipe().digest() == digest) {
            return Ok(recipe.clone());
        }
        let recipe = self.driver(assets::load(self.files.as_ref(), &self.data_dir, digest)?);
        self.in_force = Some(recipe.clone());
        Ok(recipe)
    }

    fn driver(&self, recipe: Recipe) -> Driver {
        Driver::new(Arc::new(recipe), self.answers.clone())
    }
}

/// All pieces in the order of `work`, done by up to `workers` threads. After an error no further piece is begun.
pub(crate) fn run(
    job: &Job<'_>,
    work: &[Footer],
    workers: NonZeroUsize,
) -> Result<Vec<Piece>, Error> {
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
