//! The real-time view: per recipe and partition a gap-free prefix of chunks above the cut, in memory within a bound.
//!
//! Filled by the speed layer's loader, read through [`crate::lambda`]. It knows nothing of commits: which cut is in use
//! is told to it. After a restart it is empty, and the loader fills it again.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::causes::Causes;
use model::cut::{Cut, Frontier};
use model::files::Files;
use model::position::{Offset, Partition};

use crate::Error;
use crate::catalog::Table;
use crate::wide::Inventory;

mod chunk;

pub use chunk::{Chunk, NewChunk};

/// A chunk does not grow beyond these by joining.
const JOINED_ROWS_MAX: usize = 64 * 1024;
const JOINED_BYTES_MAX: u64 = 16 << 20;

/// How the view is bounded.
#[derive(Clone, Debug)]
pub struct Options {
    /// Rows in memory; what pins still hold after it was spilled or forgotten is not counted.
    pub memory_bytes_max: u64,
    /// The folder that takes the oldest chunks beyond the bound. Its `.arrow` files are removed at the start. Without
    /// it, the view refuses what it cannot hold.
    pub spill: Option<(Arc<dyn Files>, PathBuf)>,
}

/// What became of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Applied {
    /// All of it that was new is visible.
    Taken,
    /// All of it was there already.
    Known,
    /// Something before it is missing; nothing changed.
    Gap,
}

/// A moment of the view: what lies below its frontier, for one recipe.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The end of each partition's prefix.
    pub frontier: Frontier,
    /// The beginning of each partition's prefix: nothing below it is held.
    pub begin: Cut,
    /// In the order of partition and range.
    pub chunks: Vec<Arc<Chunk>>,
    /// Which schemas the events of each partition hold, and up to which record: also of what was forgotten since.
    pub schemas: Vec<(Partition, Arc<Inventory>)>,
}

/// Sizes of the view, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    pub event_rows: u64,
    pub bad_row_rows: u64,
    pub failed_event_rows: u64,
    pub chunks: u64,
    pub memory_bytes: u64,
    pub spilled_chunks: u64,
    pub spilled_bytes: u64,
    /// Failed attempts to spill since the start; the rows stayed in memory.
    pub spill_failures: u64,
}

/// The view. Safe to share; one writer works at a time, readers never wait for a disk.
#[derive(Debug)]
pub struct RealtimeView {
    options: Options,
    recipes: Mutex<Recipes>,
    /// Held through an `apply`, so that joining and spilling can go on without the lock that readers need.
    writer: Mutex<()>,
    spill_number: AtomicU64,
    spill_failures: AtomicU64,
}

type Recipes = BTreeMap<String, BTreeMap<Partition, Prefix>>;

/// What is held of one partition: each chunk begins where the one before it ends, and the last ends at `next`.
#[derive(Debug)]
struct Prefix {
    next: Offset,
    chunks: VecDeque<Arc<Chunk>>,
    /// Also of chunks that were forgotten: which of it lies beyond a cut is told by the last record.
    schemas: Arc<Inventory>,
}

impl Prefix {
    fn begin(&self) -> Offset {
        self.chunks.front().map_or(self.next, |chunk| chunk.range().from)
    }
}

impl RealtimeView {
    /// An empty view.
    pub fn new(options: Options) -> RealtimeView {
        if let Some((files, dir)) = &options.spill {
            tidy(files.as_ref(), dir);
        }
        RealtimeView {
            options,
            recipes: Mutex::default(),
            writer: Mutex::default(),
            spill_number: AtomicU64::new(0),
            spill_failures: AtomicU64::new(0),
        }
    }

    /// Adds the outcomes of a range, the rows of all tables at once. The first chunk of a partition must contain `base`, the
    /// cut that the speed layer started from; each later one must touch or overlap what is there, and what is there
    /// already is cut off row by row.
    ///
    /// A base above the partition's frontier means that the speed layer was started again above a cut that had overtaken
    /// it: when the chunk at the base comes, what lies below is let go.
    ///
    /// # Errors
    /// [`Error::Rows`] when rows are not in their range or order; [`Error::Full`] when memory is used up and cannot be
    /// spilled. Nothing changes then.
    pub fn apply(&self, recipe: &str, base: &Cut, mut chunk: NewChunk) -> Result<Applied, Error> {
        let _one_writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let partition = chunk.range.partition.clone();
        let base = base.of(&partition);
        let next = joint(&self.lock(), recipe, &partition, base);
        if chunk.range.to <= next {
            return Ok(Applied::Known);
        }
        if chunk.range.from > next {
            return Ok(Applied::Gap);
        }
        let schemas = std::mem::take(&mut chunk.schemas);
        let chunk = Chunk::take(chunk, next)?;
        self.make_room(chunk.memory_bytes())?;
        if !self.push(recipe, base, next, Arc::new(chunk), &schemas) {
            return Ok(Applied::Gap);
        }
        while self.join_last_two(recipe, &partition)? {}
        Ok(Applied::Taken)
    }

    /// The end of each partition's prefix.
    pub fn frontier(&self, recipe: &str) -> Frontier {
        let recipes = self.lock();
        let prefixes = recipes.get(recipe).into_iter().flatten();
        prefixes.map(|(partition, prefix)| (partition.clone(), prefix.next)).collect()
    }

    /// What is held for a recipe, at one moment for all partitions.
    pub fn snapshot(&self, recipe: &str) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (partition, prefix) in self.lock().get(recipe).into_iter().flatten() {
            snapshot.frontier.raise(partition, prefix.next);
            snapshot.begin.raise(partition, prefix.begin());
            snapshot.chunks.extend(prefix.chunks.iter().cloned());
            snapshot.schemas.push((partition.clone(), prefix.schemas.clone()));
        }
        snapshot
    }

    /// Lets go of chunks that lie wholly below the cut, and of recipes that are not named. Whoever holds a snapshot
    /// keeps its chunks. Called by [`crate::lambda`], which knows the oldest cut in use.
    pub fn forget(&self, below: &Cut, recipes_in_use: &[String]) {
        let mut forgotten = Vec::new();
        let mut recipes = self.lock();
        recipes.retain(|recipe, prefixes| {
            let in_use = recipes_in_use.contains(recipe);
            if !in_use {
                forgotten.extend(
                    std::mem::take(prefixes).into_values().flat_map(|prefix| prefix.chunks),
                );
            }
            in_use
        });
        for (partition, prefix) in recipes.values_mut().flatten() {
            let kept = |chunk: &Arc<Chunk>| chunk.range().to > below.of(partition);
            let count = prefix.chunks.iter().position(kept).unwrap_or(prefix.chunks.len());
            forgotten.extend(prefix.chunks.drain(..count));
        }
        drop(recipes);
        // Spill files are removed here, when nobody waits for the lock.
        drop(forgotten);
    }

    /// Sizes of all recipes together.
    pub fn metrics(&self) -> Metrics {
        let recipes = self.lock();
        let chunks = recipes.values().flat_map(BTreeMap::values).flat_map(|prefix| &prefix.chunks);
        let sizes = Metrics {
            spill_failures: self.spill_failures.load(Ordering::Relaxed),
            ..Metrics::default()
        };
        chunks.fold(sizes, |sum, chunk| Metrics {
            event_rows: sum.event_rows + chunk.row_count(Table::Events) as u64,
            bad_row_rows: sum.bad_row_rows + chunk.row_count(Table::BadRows) as u64,
            failed_event_rows: sum.failed_event_rows + chunk.row_count(Table::FailedEvents) as u64,
            chunks: sum.chunks + 1,
            memory_bytes: sum.memory_bytes + chunk.memory_bytes(),
            spilled_chunks: sum.spilled_chunks + u64::from(!chunk.is_in_memory()),
            spilled_bytes: sum.spilled_bytes + chunk.spilled_bytes(),
            spill_failures: sum.spill_failures,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Recipes> {
        self.recipes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a chunk that begins at `next`. False when the prefix was forgotten since `next` was read.
    fn push(
        &self,
        recipe: &str,
        base: Offset,
        next: Offset,
        chunk: Arc<Chunk>,
        schemas: &Inventory,
    ) -> bool {
        let mut recipes = self.lock();
        let partition = &chunk.range().partition;
        if joint(&recipes, recipe, partition, base) != next {
            return false;
        }
        let prefixes = recipes.entry(recipe.to_owned()).or_default();
        let prefix = prefixes.entry(partition.clone()).or_insert_with(|| Prefix {
            next,
            chunks: VecDeque::new(),
            schemas: Arc::default(),
        });
        let overtaken =
            if prefix.next < next { std::mem::take(&mut prefix.chunks) } else { VecDeque::new() };
        prefix.next = chunk.range().to;
        prefix.chunks.push_back(chunk);
        Arc::make_mut(&mut prefix.schemas).add(schemas);
        drop(recipes);
        drop(overtaken);
        true
    }

    /// Joins the last chunk with the one before it while they are of like size, so that a row is copied a few times at
    /// most and thousands of small chunks never pile up. True when it did.
    fn join_last_two(&self, recipe: &str, partition: &Partition) -> Result<bool, Error> {
        let last_two = |recipes: &Recipes| {
            let chunks = &recipes.get(recipe)?.get(partition)?.chunks;
            Some((chunks.get(chunks.len().checked_sub(2)?)?.clone(), chunks.back()?.clone()))
        };
        let Some((before, last)) = last_two(&self.lock()) else {
            return Ok(false);
        };
        let alike = before.row_count_of_all() <= 2 * last.row_count_of_all() + 1;
        let small = before.row_count_of_all() + last.row_count_of_all() <= JOINED_ROWS_MAX
            && before.memory_bytes() + last.memory_bytes() <= JOINED_BYTES_MAX;
        if !(alike && small && before.is_in_memory() && last.is_in_memory()) {
            return Ok(false);
        }
        let joined = Arc::new(before.joined(&last)?);
        let mut recipes = self.lock();
        // `forget` may have taken the first of the two meanwhile.
        match last_two(&recipes) {
            Some((first, second))
                if Arc::ptr_eq(&first, &before) && Arc::ptr_eq(&second, &last) => {}
            Some(_) | None => return Ok(false),
        }
        let Some(prefix) = recipes.get_mut(recipe).and_then(|prefixes| prefixes.get_mut(partition))
        else {
            return Ok(false);
        };
        prefix.chunks.truncate(prefix.chunks.len() - 2);
        prefix.chunks.push_back(joined);
        Ok(true)
    }

    /// Spills the oldest chunks until `incoming` bytes fit. A chunk larger than the bound is taken alone.
    fn make_room(&self, incoming: u64) -> Result<(), Error> {
        let bytes_max = self.options.memory_bytes_max;
        loop {
            let (bytes, oldest) = self.memory();
            let Some((recipe, chunk)) = oldest.filter(|_| bytes + incoming > bytes_max) else {
                return Ok(());
            };
            let full = |reason| Error::Full { bytes: bytes + incoming, bytes_max, reason };
            let Some((files, dir)) = &self.options.spill else {
                return Err(full("there is no folder for it".to_owned()));
            };
            let number = self.spill_number.fetch_add(1, Ordering::Relaxed);
            match chunk.spilled(files, dir, number) {
                Ok(spilled) => self.replace(&recipe, &chunk, Arc::new(spilled)),
                Err(error) => {
                    self.spill_failures.fetch_add(1, Ordering::Relaxed);
                    let reason = Causes(&error).to_string();
                    tracing::warn!(file = %dir.display(), error = reason, "could not spill: the rows stay in memory");
                    return Err(full(reason));
                }
            }
        }
    }

    /// The bytes in memory, and of the chunks there the one with the most chunks after it in its prefix.
    fn memory(&self) -> (u64, Option<(String, Arc<Chunk>)>) {
        let recipes = self.lock();
        let mut bytes = 0;
        let mut oldest: Option<(usize, &String, &Arc<Chunk>)> = None;
        for (recipe, prefixes) in recipes.iter() {
            for prefix in prefixes.values() {
                for (after, chunk) in prefix.chunks.iter().rev().enumerate() {
                    bytes += chunk.memory_bytes();
                    if chunk.memory_bytes() > 0 && oldest.is_none_or(|(most, ..)| after >= most) {
                        oldest = Some((after, recipe, chunk));
                    }
                }
            }
        }
        (bytes, oldest.map(|(_, recipe, chunk)| (recipe.clone(), chunk.clone())))
    }

    /// Puts a chunk in the place of another with the same rows, if that is still there.
    fn replace(&self, recipe: &str, old: &Arc<Chunk>, new: Arc<Chunk>) {
        let mut recipes = self.lock();
        let chunks = recipes
            .get_mut(recipe)
            .and_then(|prefixes| prefixes.get_mut(&old.range().partition))
            .map(|prefix| &mut prefix.chunks);
        let place =
            chunks.and_then(|chunks| chunks.iter_mut().find(|chunk| Arc::ptr_eq(chunk, old)));
        if let Some(place) = place {
            *place = new;
        }
    }
}

/// Where the next chunk of a partition must join.
fn joint(recipes: &Recipes, recipe: &str, partition: &Partition, base: Offset) -> Offset {
    let prefix = recipes.get(recipe).and_then(|prefixes| prefixes.get(partition));
    prefix.map_or(base, |prefix| prefix.next.max(base))
}

/// Removes what an earlier process spilled. A failure costs disk, not rows.
fn tidy(files: &dyn Files, dir: &Path) {
    let removed = files.create_dir_all(dir).and_then(|()| files.list(dir)).and_then(|names| {
        let mut spilled = names.iter().filter(|name| name.ends_with(".arrow"));
        spilled.try_for_each(|name| files.remove(&dir.join(name)))
    });
    if let Err(error) = removed {
        tracing::warn!(file = %dir.display(), %error, "could not tidy the spill folder");
    }
}
