//! The one place where the batch view and the real-time view are joined: a manifest and a snapshot, pinned together.
//!
//! Serving pins once per statement. Which manifest is served, which cuts are pinned and what is forgotten change under
//! one lock, so that no chunk can be dropped between the choice of a cut and its pin.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::cut::{Cut, Frontier};
use model::position::Offset;

use crate::Error;
use crate::catalog::{Catalog, Manifest, Table};
use crate::realtime::{RealtimeView, Snapshot};
use crate::wide::{Columns, Union};

/// Both views of one data folder. Safe to share.
#[derive(Debug)]
pub struct Lambda {
    catalog: Arc<Catalog>,
    realtime: Arc<RealtimeView>,
    uses: Arc<Mutex<Uses>>,
}

#[derive(Debug)]
struct Uses {
    served: Arc<Manifest>,
    /// Pinned manifests by iteration, with the number of their pins.
    pinned: BTreeMap<u64, (Arc<Manifest>, usize)>,
    /// Iterations pinned as the last of an older generation. They answer without the real-time view, so their cuts hold
    /// up nothing; only their files must stay.
    older: BTreeMap<u64, usize>,
}

/// What one statement answers from: batch rows below the cut, real-time rows with cut ≤ position < frontier. Neither
/// changes while it is held; on drop it is released.
#[derive(Debug)]
pub struct Pin {
    pub manifest: Arc<Manifest>,
    pub snapshot: Snapshot,
    /// The first position of each partition that the answer does not cover.
    pub frontier: Frontier,
    _lease: Lease,
}

impl Pin {
    /// Whether the real-time view takes part: the frontier lies beyond the cut somewhere.
    pub fn is_ahead(&self) -> bool {
        self.frontier != self.manifest.cut
    }

    /// What the wide columns of a table follow from: the schemas of the batch view, and those of real-time rows from the
    /// cut to the frontier. Together they are the same wherever the cut is.
    pub fn schemas(&self, table: Table) -> Union<'_> {
        let mut all = Union::new();
        if let Some(schemas) = self.manifest.schemas.as_ref().and_then(|batch| batch.of(table)) {
            schemas.add_to(&mut all, Offset::BEGINNING);
        }
        for (partition, speed) in &self.snapshot.schemas {
            if let Some(schemas) = speed.of(table) {
                schemas.add_to(&mut all, self.manifest.cut.of(partition));
            }
        }
        all
    }

    /// The wide columns of a table. They are made anew with each call.
    pub fn wide_columns(&self, table: Table) -> Columns {
        Columns::of(&self.schemas(table))
    }
}

/// Counts one pin until it is dropped.
#[derive(Debug)]
struct Lease {
    uses: Arc<Mutex<Uses>>,
    iteration: u64,
    /// Whether it is in `older`.
    older: bool,
}

impl Lambda {
    /// Serves the newest iteration of the catalogue at first.
    pub fn new(catalog: Arc<Catalog>, realtime: Arc<RealtimeView>) -> Lambda {
        let (pinned, older) = (BTreeMap::new(), BTreeMap::new());
        let uses = Uses { served: catalog.newest(), pinned, older };
        Lambda { catalog, realtime, uses: Arc::new(Mutex::new(uses)) }
    }

    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    pub fn realtime(&self) -> &Arc<RealtimeView> {
        &self.realtime
    }

    /// Pins the served manifest and what the real-time view holds for the recipe in force from its cut on.
    ///
    /// # Errors
    /// [`Error::Uncovered`] when the real-time view begins above the served cut, and moving on to the newest iteration
    /// does not help.
    pub fn pin(&self) -> Result<Pin, Error> {
        let mut uses = lock(&self.uses);
        let mut snapshot = self.realtime.snapshot(&uses.served.next_recipe);
        if covers(&snapshot, &uses.served.cut).is_err() {
            // The speed layer was started again from a newer cut than the served one.
            self.advance_locked(&mut uses);
            snapshot = self.realtime.snapshot(&uses.served.next_recipe);
            covers(&snapshot, &uses.served.cut)?;
        }
        let manifest = uses.served.clone();
        let entry = uses.pinned.entry(manifest.iteration).or_insert_with(|| (manifest.clone(), 0));
        entry.1 += 1;
        drop(uses);
        Ok(Pin {
            frontier: manifest.cut.join(&snapshot.frontier),
            _lease: Lease { uses: self.uses.clone(), iteration: manifest.iteration, older: false },
            manifest,
            snapshot,
        })
    }

    /// Pins what a generation answers from: the served one as [`Lambda::pin`] does, any other by its last iteration, for
    /// the positions below its cut and without the real-time view. `None` when there is no such generation. The caller
    /// knows which older generations are kept.
    ///
    /// # Errors
    /// As [`Lambda::pin`], and when a manifest cannot be read.
    pub fn pin_generation(&self, generation: u64) -> Result<Option<Pin>, Error> {
        if self.served().generation == generation {
            let pin = self.pin()?;
            // Another one may have been swapped in since.
            if pin.manifest.generation == generation {
                return Ok(Some(pin));
            }
        }
        let Some(manifest) = self.catalog.last_of_generation(generation)? else {
            return Ok(None);
        };
        let iteration = manifest.iteration;
        *lock(&self.uses).older.entry(iteration).or_default() += 1;
        Ok(Some(Pin {
            frontier: manifest.cut.clone(),
            _lease: Lease { uses: self.uses.clone(), iteration, older: true },
            snapshot: Snapshot::default(),
            manifest,
        }))
    }

    /// The iterations that are served or pinned: their files must stay.
    pub fn iterations_in_use(&self) -> Vec<u64> {
        let uses = lock(&self.uses);
        let newer = uses.in_use().map(|manifest| manifest.iteration);
        let mut iterations: Vec<u64> = newer.chain(uses.older.keys().copied()).collect();
        iterations.sort_unstable();
        iterations.dedup();
        iterations
    }

    /// The manifest that statements are answered from.
    pub fn served(&self) -> Arc<Manifest> {
        lock(&self.uses).served.clone()
    }

    /// Moves on to [`Catalog::newest`]; true when it did. Where that iteration names another recipe from its cut on, the
    /// move waits until the real-time view of that recipe reaches every position that is answered now, so that no answer
    /// gets shorter. Never moves back.
    ///
    /// # Errors
    /// None today; room for a catalogue that has to be read.
    pub fn advance(&self) -> Result<bool, Error> {
        Ok(self.advance_locked(&mut lock(&self.uses)))
    }

    /// The lowest cut that is served or pinned, in every partition. The raw log is trimmed below it, and nothing above
    /// it is ever forgotten.
    pub fn oldest_pinned_cut(&self) -> Cut {
        lock(&self.uses).oldest_cut()
    }

    /// Drops real-time chunks that no statement can need again: wholly below the oldest cut in use, or of a recipe that
    /// neither a statement nor the newest iteration names.
    pub fn forget(&self) {
        let uses = lock(&self.uses);
        let mut recipes: Vec<String> =
            uses.in_use().map(|manifest| manifest.next_recipe.clone()).collect();
        // The speed layer may be preparing the newest iteration's recipe, which is not served yet.
        recipes.push(self.catalog.newest().next_recipe.clone());
        self.realtime.forget(&uses.oldest_cut(), &recipes);
    }

    fn advance_locked(&self, uses: &mut Uses) -> bool {
        let newest = self.catalog.newest();
        if newest.iteration <= uses.served.iteration {
            return false;
        }
        if newest.next_recipe != uses.served.next_recipe {
            let now = uses.served.cut.join(&self.realtime.frontier(&uses.served.next_recipe));
            let then = self.realtime.snapshot(&newest.next_recipe);
            let reaches = newest.cut.join(&then.frontier).is_at_or_beyond(&now);
            if !reaches || covers(&then, &newest.cut).is_err() {
                return false;
            }
        }
        uses.served = newest;
        true
    }
}

impl Uses {
    fn in_use(&self) -> impl Iterator<Item = &Arc<Manifest>> {
        self.pinned.values().map(|(manifest, _)| manifest).chain([&self.served])
    }

    fn oldest_cut(&self) -> Cut {
        self.in_use().fold(self.served.cut.clone(), |oldest, manifest| oldest.meet(&manifest.cut))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut uses = lock(&self.uses);
        if self.older {
            if let Some(pins) = uses.older.get_mut(&self.iteration) {
                *pins -= 1;
                if *pins == 0 {
                    uses.older.remove(&self.iteration);
                }
            }
            return;
        }
        if let Some((_, pins)) = uses.pinned.get_mut(&self.iteration) {
            *pins -= 1;
            if *pins == 0 {
                uses.pinned.remove(&self.iteration);
            }
        }
    }
}

/// Whether the snapshot holds everything from the cut to its own frontier.
fn covers(snapshot: &Snapshot, cut: &Cut) -> Result<(), Error> {
    for (partition, end) in snapshot.frontier.iter() {
        let (cut, begin) = (cut.of(partition), snapshot.begin.of(partition));
        if end > cut && begin > cut {
            return Err(Error::Uncovered { partition: partition.clone(), cut, begin });
        }
    }
    Ok(())
}

fn lock(uses: &Mutex<Uses>) -> MutexGuard<'_, Uses> {
    uses.lock().unwrap_or_else(PoisonError::into_inner)
}
