//! The catalogue: one file per iteration, created only if absent. That creation is the commit; nothing else is.
//!
//! Written by the batcher, read by everybody who answers. Manifests are found by name: N, then N+1, from a hint that may
//! be old or missing, but never ahead. No answer depends on a listing; a listing only makes a lost manifest show. Durability comes from
//! [`model::files::publish`]. Removing unlisted table files is not done here.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use model::files::{self, Files, Published};

use crate::Error;

mod manifest;

pub(crate) use manifest::hex;
pub use manifest::{Counts, FORMAT, LedgerEntry, Manifest, Table, TableFile};

/// The folder of the manifests in the data folder.
pub const FOLDER: &str = "catalog";

/// The file that names a recent iteration.
pub const HINT: &str = "newest.hint";

/// The commits of one data folder. Safe to share.
#[derive(Debug)]
pub struct Catalog {
    files: Arc<dyn Files>,
    dir: PathBuf,
    /// Whether names that we find are made durable, and the hint is kept.
    writable: bool,
    newest: Mutex<Arc<Manifest>>,
}

/// What became of a commit.
#[derive(Clone, Debug)]
#[must_use]
pub enum Commit {
    /// It is durable, and it is the newest.
    Published(Arc<Manifest>),
    /// Another commit took the number; this is the newest now. Plan again.
    Lost(Arc<Manifest>),
}

impl Catalog {
    /// Opens the catalogue of a data folder; if there is none, commits iteration 0 as `first` gives it.
    ///
    /// # Errors
    /// [`Error::Damaged`] and [`Error::Newer`] name the manifest; [`Error::Missing`] names one that is gone although a
    /// later one exists, [`Error::LostNewest`] one that is gone although it was committed last; [`Error::First`] comes
    /// from `first`.
    pub fn open(
        files: Arc<dyn Files>,
        data_dir: &Path,
        first: impl FnOnce() -> Result<Manifest, Box<dyn std::error::Error + Send + Sync>>,
    ) -> Result<Catalog, Error> {
        let dir = data_dir.join(FOLDER);
        files.create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        if let Some(catalog) = Catalog::find(files.clone(), dir.clone(), true)? {
            return Ok(catalog);
        }
        let manifest = first().map_err(Error::First)?;
        check_first(&manifest)?;
        let path = path_of(&dir, 0);
        // Taken: another process was first; its manifest is as good.
        let _ = files::publish(files.as_ref(), &path, &manifest.encode())
            .map_err(Error::io("commit", &path))?;
        Catalog::find(files, dir, true)?.ok_or(Error::Missing(path))
    }

    /// Opens the catalogue of a data folder that may belong to a running server, or not be writable. `None` when it has
    /// no iteration.
    ///
    /// # Errors
    /// As [`Catalog::open`].
    pub fn open_read(files: Arc<dyn Files>, data_dir: &Path) -> Result<Option<Catalog>, Error> {
        Catalog::find(files, data_dir.join(FOLDER), false)
    }

    /// The newest manifest that this process knows of.
    pub fn newest(&self) -> Arc<Manifest> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks for commits of other processes, and returns the newest.
    ///
    /// # Errors
    /// As [`Catalog::open`]; then [`Catalog::newest`] is as before.
    pub fn refresh(&self) -> Result<Arc<Manifest>, Error> {
        let known = self.newest();
        let found = follow(self.files.as_ref(), &self.dir, known.iteration)?;
        if found == known.iteration {
            return Ok(known);
        }
        if self.writable {
            // Who committed may have crashed before its fsync of the folder: nobody may build on a name that is lost
            // with the next crash.
            self.files.sync_dir(&self.dir).map_err(Error::io("sync", &self.dir))?;
        }
        let manifest = read(self.files.as_ref(), &self.dir, found)?;
        Ok(self.adopt(Arc::new(manifest)))
    }

    /// Publishes an iteration. All files that it names are durable before this is called.
    ///
    /// # Errors
    /// [`Error::Rejected`] when the manifest breaks a rule: it follows the newest; the cut retreats nowhere; within a
    /// generation the new ranges are made with the recipe in force, and a new generation is the next one; the ledger
    /// closes, reaches from the beginning to the cut, and the files hold what it says. [`Error::Io`] leaves open whether
    /// the commit exists: [`Catalog::refresh`] tells.
    pub fn commit(&self, manifest: Manifest) -> Result<Commit, Error> {
        let newest = self.refresh()?;
        if manifest.iteration <= newest.iteration {
            return Ok(Commit::Lost(newest));
        }
        check_follows(&manifest, &newest)?;
        let path = path_of(&self.dir, manifest.iteration);
        let published = files::publish(self.files.as_ref(), &path, &manifest.encode())
            .map_err(Error::io("commit", &path))?;
        match published {
            Published::New => {
                let manifest = self.adopt(Arc::new(manifest));
                self.keep_hint(manifest.iteration);
                Ok(Commit::Published(manifest))
            }
            Published::Taken => Ok(Commit::Lost(self.refresh()?)),
        }
    }

    /// One iteration; `None` when it does not exist yet.
    ///
    /// # Errors
    /// As [`Catalog::open`].
    pub fn manifest(&self, iteration: u64) -> Result<Option<Manifest>, Error> {
        if iteration > self.newest().iteration {
            return Ok(None);
        }
        read(self.files.as_ref(), &self.dir, iteration).map(Some)
    }

    /// All iterations, from 0 to the newest: the cut history.
    ///
    /// # Errors
    /// As [`Catalog::open`].
    pub fn history(&self) -> Result<Vec<Manifest>, Error> {
        let newest = self.newest().iteration;
        (0..=newest).map(|iteration| read(self.files.as_ref(), &self.dir, iteration)).collect()
    }

    /// The last iteration of a generation: what that generation answers from. `None` when there is none with this
    /// number. Reads about as many manifests as the newest iteration's number has binary digits.
    ///
    /// # Errors
    /// As [`Catalog::open`].
    pub fn last_of_generation(&self, generation: u64) -> Result<Option<Arc<Manifest>>, Error> {
        let newest = self.newest();
        if newest.generation <= generation {
            return Ok((newest.generation == generation).then_some(newest));
        }
        // Generations never fall: below `low` all are at most the one asked for, from `high` on they are later.
        let (mut low, mut high) = (0, newest.iteration);
        let mut last = None;
        while low < high {
            let middle = low + (high - low) / 2;
            let manifest = read(self.files.as_ref(), &self.dir, middle)?;
            if manifest.generation > generation {
                high = middle;
            } else {
                low = middle + 1;
                last = Some(manifest);
            }
        }
        Ok(last.filter(|manifest| manifest.generation == generation).map(Arc::new))
    }

    fn find(files: Arc<dyn Files>, dir: PathBuf, writable: bool) -> Result<Option<Catalog>, Error> {
        let disk = files.as_ref();
        let hint = read_hint(disk, &dir);
        let start = match hint {
            Some(hint) if exists(disk, &dir, hint)? => hint,
            Some(_) | None => 0,
        };
        let newest: Option<u64> = loop {
            let newest =
                if exists(disk, &dir, start)? { Some(follow(disk, &dir, start)?) } else { None };
            let next = newest.map_or(0, |newest| newest + 1);
            match highest_listed(disk, &dir)? {
                // Another process may have committed since we followed the names.
                Some(listed) if listed >= next && exists(disk, &dir, next)? => {}
                Some(listed) if listed >= next => return Err(Error::Missing(path_of(&dir, next))),
                Some(_) | None => break newest,
            }
        };
        if let Some(hint) = hint.filter(|hint| newest.is_none_or(|newest| *hint > newest)) {
            // It is written after a commit is durable.
            return Err(Error::LostNewest { manifest: path_of(&dir, hint), hint: dir.join(HINT) });
        }
        let Some(newest) = newest else {
            return Ok(None);
        };
        if writable {
            disk.sync_dir(&dir).map_err(Error::io("sync", &dir))?;
        }
        let manifest = read(disk, &dir, newest)?;
        let catalog = Catalog { dir, writable, newest: Mutex::new(Arc::new(manifest)), files };
        if hint != Some(newest) {
            catalog.keep_hint(newest);
        }
        Ok(Some(catalog))
    }

    /// Takes the manifest as the newest, unless another thread has taken a later one meanwhile.
    fn adopt(&self, manifest: Arc<Manifest>) -> Arc<Manifest> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if manifest.iteration > newest.iteration {
            *newest = manifest;
        }
        newest.clone()
    }

    /// Only a shorter way at the next start: without it the names are followed from 0.
    fn keep_hint(&self, iteration: u64) {
        if !self.writable {
            return;
        }
        let path = self.dir.join(HINT);
        if let Err(error) =
            files::replace(self.files.as_ref(), &path, format!("{iteration}\n").as_bytes())
        {
            tracing::warn!(file = %path.display(), %error, "could not write the catalogue's hint");
        }
    }
}

fn check_first(manifest: &Manifest) -> Result<(), Error> {
    let empty = manifest.files.is_empty() && manifest.ledger.is_empty() && manifest.cut.is_empty();
    if manifest.iteration == 0 && manifest.parent.is_none() && empty {
        return Ok(());
    }
    let detail = "the first iteration has number 0, no parent, and covers nothing".to_owned();
    Err(Error::Rejected { iteration: manifest.iteration, detail })
}

fn check_follows(manifest: &Manifest, newest: &Manifest) -> Result<(), Error> {
    let rejected = |detail: String| Error::Rejected { iteration: manifest.iteration, detail };
    if manifest.iteration != newest.iteration + 1 || manifest.parent != Some(newest.iteration) {
        return Err(rejected(format!("it does not follow iteration {}", newest.iteration)));
    }
    if !manifest.cut.is_at_or_beyond(&newest.cut) {
        return Err(rejected(format!(
            "its cut {:?} is below the published one {:?}",
            manifest.cut, newest.cut
        )));
    }
    let same_generation = manifest.generation == newest.generation;
    if !same_generation && manifest.generation != newest.generation + 1 {
        return Err(rejected(format!("generation {} is published", newest.generation)));
    }
    if same_generation && manifest.recipe != newest.next_recipe {
        return Err(rejected(format!(
            "its ranges are made with recipe {}, in force is {}",
            manifest.recipe, newest.next_recipe
        )));
    }
    let forgets = match (&newest.schemas, &manifest.schemas) {
        (Some(known), Some(schemas)) => !schemas.covers(known),
        (known, None) => known.is_some(),
        (None, Some(_)) => false,
    };
    if same_generation && forgets {
        return Err(rejected("it forgets schemas that its events hold".to_owned()));
    }
    manifest.check_whole().map_err(rejected)
}

fn path_of(dir: &Path, iteration: u64) -> PathBuf {
    dir.join(format!("{iteration:020}.json"))
}

fn exists(files: &dyn Files, dir: &Path, iteration: u64) -> Result<bool, Error> {
    let path = path_of(dir, iteration);
    match files.open_read(&path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("read", &path)(error)),
    }
}

/// The last iteration that is reached from `start`, which exists, by adding one.
fn follow(files: &dyn Files, dir: &Path, start: u64) -> Result<u64, Error> {
    let mut last = start;
    while exists(files, dir, last + 1)? {
        last += 1;
    }
    Ok(last)
}

fn read(files: &dyn Files, dir: &Path, iteration: u64) -> Result<Manifest, Error> {
    let path = path_of(dir, iteration);
    let bytes = files.read(&path).map_err(Error::read(&path))?;
    let manifest = Manifest::decode(&path, &bytes)?;
    if manifest.iteration == iteration {
        return Ok(manifest);
    }
    Err(Error::Damaged {
        path,
        detail: format!("it holds iteration {}", manifest.iteration),
        way_out: "give the file its name back",
    })
}

fn read_hint(files: &dyn Files, dir: &Path) -> Option<u64> {
    let bytes = files.read(&dir.join(HINT)).ok()?;
    std::str::from_utf8(&bytes).ok()?.trim().parse().ok()
}

/// The highest number among the manifests of the folder. Only to notice that one below it is lost.
fn highest_listed(files: &dyn Files, dir: &Path) -> Result<Option<u64>, Error> {
    let names = match files.list(dir) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(Error::io("list", dir)(error)),
    };
    let number =
        |name: &String| name.strip_suffix(".json").filter(|stem| stem.len() == 20)?.parse().ok();
    Ok(names.iter().filter_map(number).max())
}
