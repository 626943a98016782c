//! Removes table files that nobody can ask for any more, and what attempts that were never committed have left.
//!
//! The batcher calls it: once when a process starts, after a failed attempt, and when a commit has dropped files from
//! the view. A file stays while the newest manifest lists it, while a statement that began before the drop still runs,
//! and while its generation is kept. No answer depends on it: what cannot be listed or removed costs space. It relies
//! on the data folder's lock: no other process writes here.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::files::{Files, TEMPORARY_PREFIX};
use model::position::Partition;
use views::catalog::{self, Catalog, Manifest, Table};
use views::tables::{self, Lot};

use crate::error::sentence;
use crate::master;

/// The garbage of one data folder.
#[derive(Debug)]
pub(crate) struct Garbage {
    files: Arc<dyn Files>,
    data_dir: PathBuf,
    /// Older generations whose files stay.
    generations_kept: u64,
    dropped: Vec<Dropped>,
    /// Whether something could not be listed or removed.
    is_left: bool,
}

/// A file that the newest manifest does not list any more.
#[derive(Debug)]
struct Dropped {
    /// Relative to the data folder.
    name: String,
    /// The last iteration that lists it, and whether that is the last one of its generation.
    last: u64,
    generation: u64,
    ends_generation: bool,
}

impl Garbage {
    /// Tidies what an earlier process left: temporary files, and table files that neither the newest manifest nor a
    /// generation that is kept lists.
    pub(crate) fn open(
        files: Arc<dyn Files>,
        data_dir: PathBuf,
        partitions: &[Partition],
        catalog: &Catalog,
        generations_kept: u64,
    ) -> Garbage {
        let (dropped, is_left) = (Vec::new(), false);
        let mut garbage = Garbage { files, data_dir, generations_kept, dropped, is_left };
        garbage.remove_temporary_files(&garbage.data_dir.join(catalog::FOLDER));
        garbage.remove_temporary_files(&garbage.data_dir.join(assets::recipes::FOLDER));
        garbage.remove_temporary_files(&garbage.data_dir.join(assets::recipes::ASSETS_FOLDER));
        for partition in partitions {
            garbage.remove_temporary_files(&master::folder(&garbage.data_dir, partition));
        }
        match garbage.kept(catalog) {
            Ok(kept) => garbage.remove_unlisted(|_| true, &kept),
            Err(error) => {
                tracing::warn!(
                    error = sentence(&error),
                    "left the files of unfinished iterations for the next start"
                );
            }
        }
        garbage
    }

    /// Whether some garbage could not be removed.
    pub(crate) fn is_left(&self) -> bool {
        self.is_left
    }

    /// Removes what was written for an iteration that was not published, the one after `newest` or later; for
    /// `rebuild`, what was written for a generation that will not be.
    pub(crate) fn after_failure(&mut self, newest: &Manifest, rebuild: Option<u64>) {
        self.is_left = false;
        let listed = newest.files.iter().map(|file| file.path.clone()).collect();
        let is_meant = |lot: Lot| match (lot, rebuild) {
            (Lot::Iteration(iteration), None) => iteration >= newest.iteration,
            (Lot::Generation(generation), Some(rebuild)) => generation == rebuild,
            (Lot::Iteration(_), Some(_)) | (Lot::Generation(_), None) => false,
        };
        self.remove_unlisted(is_meant, &listed);
    }

    /// Takes note of the files that a commit has dropped from the view.
    pub(crate) fn dropped_by(&mut self, before: &Manifest, after: &Manifest) {
        let listed: BTreeSet<&str> = after.files.iter().map(|file| file.path.as_str()).collect();
        let dropped = before.files.iter().filter(|file| !listed.contains(file.path.as_str()));
        self.dropped.extend(dropped.map(|file| Dropped {
            name: file.path.clone(),
            last: before.iteration,
            generation: before.generation,
            ends_generation: before.generation != after.generation,
        }));
    }

    /// Removes dropped files that no statement and no generation needs; `in_use` are the iterations that are served or
    /// pinned now. Statements that begin later are answered from a later iteration.
    pub(crate) fn collect(&mut self, newest: &Manifest, in_use: &[u64]) {
        let oldest_kept = newest.generation.saturating_sub(self.generations_kept);
        let is_needed = |file: &Dropped| {
            let is_kept = file.ends_generation && file.generation >= oldest_kept;
            is_kept || in_use.iter().any(|used| *used <= file.last)
        };
        let (stay, go): (Vec<_>, Vec<_>) = self.dropped.drain(..).partition(is_needed);
        self.dropped = stay;
        for file in go {
            self.remove(&self.data_dir.join(file.name));
        }
    }

    /// The names that the newest manifest and the kept generations list. What only the latter list is dropped when they
    /// are given up.
    fn kept(&mut self, catalog: &Catalog) -> Result<BTreeSet<String>, views::Error> {
        let newest = catalog.newest();
        let mut kept: BTreeSet<String> =
            newest.files.iter().map(|file| file.path.clone()).collect();
        let oldest = newest.generation.saturating_sub(self.generations_kept);
        for generation in oldest..newest.generation {
            if let Some(last) = catalog.last_of_generation(generation)? {
                self.dropped_by(&last, &newest);
                kept.extend(last.files.iter().map(|file| file.path.clone()));
            }
        }
        Ok(kept)
    }

    fn remove_unlisted(&mut self, is_meant: impl Fn(Lot) -> bool, listed: &BTreeSet<String>) {
        for table in Table::ALL {
            for lot in self.names(&tables::folder(&self.data_dir, table)) {
                let Some(lot) = Lot::parse(&lot).filter(|lot| is_meant(*lot)) else { continue };
                let folder = lot.folder(&self.data_dir, table);
                for name in self.names(&folder) {
                    let path = folder.join(name);
                    let relative = path.strip_prefix(&self.data_dir).ok().and_then(Path::to_str);
                    if relative.is_some_and(|relative| !listed.contains(relative)) {
                        self.remove(&path);
                    }
                }
            }
        }
    }

    fn remove_temporary_files(&mut self, folder: &Path) {
        for name in self.names(folder) {
            if name.starts_with(TEMPORARY_PREFIX) {
                self.remove(&folder.join(name));
            }
        }
    }

    fn names(&mut self, folder: &Path) -> Vec<String> {
        match self.files.list(folder) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                tracing::warn!(file = %folder.display(), %error, "could not look for leftovers");
                self.is_left = true;
                Vec::new()
            }
        }
    }

    fn remove(&mut self, path: &Path) {
        match self.files.remove(path) {
            Ok(()) => tracing::debug!(file = %path.display(), "removed a file that nobody needs"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "could not remove a file that nobody needs");
                self.is_left = true;
            }
        }
    }
}
