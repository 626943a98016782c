//! Removes what attempts that were never committed have left behind: table files of iterations that are not published,
//! files beside them that the published manifest does not list, and temporary files of interrupted writes.
//!
//! The batcher calls it before the first iteration of a process and after each failed one. Nothing depends on it: where
//! a folder cannot be listed or a file not be removed, only space is lost. It relies on the data folder's lock: no
//! other process writes here.

use std::io;
use std::path::{Path, PathBuf};

use model::files::{Files, TEMPORARY_PREFIX};
use model::position::Partition;
use views::catalog::{self, Manifest, Table};
use views::tables;

use crate::master;

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Removed {
    pub(crate) files: u64,
    /// Files and folders that are still to be tidied: they could not be listed or removed.
    pub(crate) failed: u64,
}

/// Tidies the folders of the catalogue, the recipes, the master dataset, and of table files from iteration
/// `newest.iteration` on. What lies in earlier ones was tidied when they were published.
pub(crate) fn remove(
    files: &dyn Files,
    data_dir: &Path,
    partitions: &[Partition],
    newest: &Manifest,
) -> Removed {
    let mut sweep = Sweep { files, removed: Removed::default() };
    sweep.temporary_files(&data_dir.join(catalog::FOLDER));
    sweep.temporary_files(&data_dir.join(assets::recipes::FOLDER));
    for partition in partitions {
        sweep.temporary_files(&master::folder(data_dir, partition));
    }
    for table in Table::ALL {
        for iteration in sweep.iterations(&tables::folder(data_dir, table)) {
            if iteration >= newest.iteration {
                sweep.unlisted(data_dir, table, iteration, newest);
            }
        }
    }
    sweep.removed
}

struct Sweep<'a> {
    files: &'a dyn Files,
    removed: Removed,
}

impl Sweep<'_> {
    fn names(&mut self, folder: &Path) -> Vec<String> {
        match self.files.list(folder) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error, "could not look for leftovers");
                self.removed.failed += 1;
                Vec::new()
            }
        }
    }

    fn iterations(&mut self, folder: &Path) -> Vec<u64> {
        self.names(folder).iter().filter_map(|name| name.parse().ok()).collect()
    }

    fn temporary_files(&mut self, folder: &Path) {
        for name in self.names(folder) {
            if name.starts_with(TEMPORARY_PREFIX) {
                self.remove(&folder.join(name));
            }
        }
    }

    fn unlisted(&mut self, data_dir: &Path, table: Table, iteration: u64, newest: &Manifest) {
        let folder = tables::folder_of(data_dir, table, iteration);
        let listed: Vec<PathBuf> = newest
            .files_of(table)
            .filter(|file| file.iteration == iteration)
            .map(|file| file.path_in(data_dir))
            .collect();
        for name in self.names(&folder) {
            let path = folder.join(name);
            if !listed.contains(&path) {
                self.remove(&path);
            }
        }
    }

    fn remove(&mut self, path: &Path) {
        match self.files.remove(path) {
            Ok(()) => {
                tracing::info!(path = %path.display(), "removed a leftover of an unfinished write");
                self.removed.files += 1;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "could not remove a leftover");
                self.removed.failed += 1;
            }
        }
    }
}
