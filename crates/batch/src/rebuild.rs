//! A rebuild: the whole batch view again, from the master dataset, with one recipe, beside the iterations that go on.
//!
//! Begun by the batcher, carried on by a thread of its own, and published by the batcher when it has caught up: a new
//! generation comes in with one commit, and the old one answers until then. It replays the ledger: the same ranges, the
//! same iteration that first covered each of them. What it wrote before a kill is garbage, and it is begun again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use assets::Driver;
use model::files::Files;
use model::position::{Offset, Partition};
use model::time::Timestamp;
use views::catalog::{Catalog, LedgerEntry, Manifest};
use views::tables::Lot;
use views::wide::Inventory;

use crate::Error;
use crate::batcher::{self, Config};
use crate::master::{self, Footer, Reader};
use crate::pieces::{Job, Piece};
use crate::progress::Progress;

/// Ranges that are enriched before the next look at what iterations have added: bounds what an error throws away.
const RANGES_AT_ONCE: usize = 256;

/// One rebuild under way.
#[derive(Debug)]
pub struct Rebuild {
    catalog: Arc<Catalog>,
    files: Arc<dyn Files>,
    data_dir: PathBuf,
    config: Config,
    recipe: Driver,
    now: Timestamp,
    generation: u64,
    /// The recipe that was in force when the rebuild was begun.
    replaced: String,
    /// What is done, by partition and beginning of the range.
    pieces: BTreeMap<(Partition, Offset), Piece>,
    progress: Arc<Progress>,
}

impl Rebuild {
    pub(crate) fn begin(
        catalog: Arc<Catalog>,
        files: Arc<dyn Files>,
        data_dir: PathBuf,
        config: Config,
        recipe: Driver,
        now: Timestamp,
        progress: Arc<Progress>,
    ) -> Result<Rebuild, Error> {
        assets::pin(files.as_ref(), &data_dir, recipe.recipe())?;
        let parent = catalog.refresh()?;
        let ranges = parent.ledger.len() as u64;
        progress.begin(ranges, parent.ledger.iter().map(|entry| entry.records).sum());
        let generation = parent.generation + 1;
        tracing::info!(
            generation,
            ranges,
            recipe = recipe.recipe().digest(),
            "rebuilding the batch view"
        );
        Ok(Rebuild {
            catalog,
            files,
            data_dir,
            config,
            recipe,
            now,
            generation,
            replaced: parent.next_recipe.clone(),
            pieces: BTreeMap::new(),
            progress,
        })
    }

    /// The number of the generation that is being made.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Enriches up to some hundred ranges that the published batch view covers and the rebuild does not. False when
    /// there was none: it has caught up for now.
    ///
    /// # Errors
    /// [`Error::Hole`] for a file of the master dataset that is gone, [`Error::Damaged`], [`Error::Stopped`]; what was
    /// done before stays done. [`Error::RecipeChanged`]: the rebuild is over.
    pub fn catch_up(&mut self) -> Result<bool, Error> {
        let parent = self.catalog.refresh()?;
        if parent.next_recipe != self.replaced {
            return Err(Error::RecipeChanged { generation: self.generation });
        }
        let missing = self.missing(&parent)?;
        if missing.is_empty() {
            return Ok(false);
        }
        let work = missing.iter().map(|entry| self.footer(entry)).collect::<Result<Vec<_>, _>>()?;
        let job = Job {
            files: self.files.as_ref(),
            data_dir: &self.data_dir,
            lot: Lot::Generation(self.generation),
            iteration: 0,
            recipe: &self.recipe,
            processor: &enrich::processor(),
            now: self.now,
            progress: &self.progress,
            part_rows_max: self.config.part_rows_max,
            part_bytes_max: self.config.part_bytes_max,
        };
        for (entry, mut piece) in
            missing.into_iter().zip(batcher::run(&job, &work, self.config.workers)?)
        {
            // Which copy of an event came first does not change with a rebuild.
            piece.entry.iteration = entry.iteration;
            self.pieces.insert((entry.partition.clone(), entry.from), piece);
        }
        Ok(true)
    }

    /// The manifest that puts this generation in the place of `parent`'s, whose every range is done.
    pub(crate) fn manifest(&self, parent: &Manifest, committed_at: String) -> Manifest {
        let iteration = parent.iteration + 1;
        let mut files = Vec::new();
        let mut ledger = Vec::new();
        let mut schemas = Inventory::default();
        for piece in self.pieces.values() {
            files.extend(piece.files.iter().cloned().map(|mut file| {
                file.iteration = iteration;
                file
            }));
            schemas.admit(&piece.schemas, piece.entry.iteration);
            ledger.push(piece.entry.clone());
        }
        Manifest {
            iteration,
            parent: Some(parent.iteration),
            generation: self.generation,
            committed_at,
            cut: parent.cut.clone(),
            recipe: self.recipe.recipe().digest().to_owned(),
            next_recipe: self.recipe.recipe().digest().to_owned(),
            files,
            ledger,
            schemas: Some(schemas),
        }
    }

    /// Whether another rebuild was published meanwhile.
    pub(crate) fn is_overtaken(&self, parent: &Manifest) -> bool {
        parent.generation + 1 != self.generation
    }

    fn missing(&self, parent: &Manifest) -> Result<Vec<LedgerEntry>, Error> {
        let mut missing = Vec::new();
        for entry in &parent.ledger {
            match self.pieces.get(&(entry.partition.clone(), entry.from)) {
                None => missing.push(entry.clone()),
                Some(piece) if piece.entry.to == entry.to => {}
                Some(piece) => {
                    let (partition, from, to) = (entry.partition.clone(), entry.from, entry.to);
                    let what = format!("the rebuild found it to end at {}", piece.entry.to);
                    return Err(Error::LedgerOpen { partition, from, to, what });
                }
            }
        }
        missing.truncate(RANGES_AT_ONCE);
        Ok(missing)
    }

    fn footer(&self, entry: &LedgerEntry) -> Result<Footer, Error> {
        let (partition, from, to) = (&entry.partition, entry.from, entry.to);
        let path = master::path(&self.data_dir, partition, from);
        let reader = Reader::open(self.files.as_ref(), &self.data_dir, partition, from)?;
        let Some(reader) = reader else {
            return Err(Error::Hole { partition: partition.clone(), from, to, path });
        };
        let footer = reader.footer().clone();
        if footer.range.to != to || footer.records != entry.records {
            let what = format!("it covers [{from}, {}), the ledger says {to}", footer.range.to);
            return Err(Error::damaged(&path, what));
        }
        Ok(footer)
    }
}
