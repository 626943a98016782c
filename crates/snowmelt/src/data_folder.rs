//! The data folder: its lock, and `run.json`, where the commands find a running process.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// Addresses of the process that owns a data folder; written when it is ready, removed when it ends in order.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Run {
    pub(crate) pid: u32,
    pub(crate) collector: String,
    pub(crate) http: String,
    pub(crate) pg: String,
}

/// Holds the folder's lock; the operating system gives it back when the process ends in any way.
#[derive(Debug)]
pub(crate) struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Creates the folder if need be, and takes its lock.
    ///
    /// # Errors
    /// When the folder cannot be written, or another process owns it; both name the folder and the way out.
    pub(crate) fn lock(path: &Path) -> Result<DataFolder> {
        let way_out = "choose another with `--data-dir`";
        std::fs::create_dir_all(path)
            .with_context(|| format!("create data folder `{}` ({way_out})", path.display()))?;
        let lock_path = path.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&lock_path)
            .with_context(|| format!("write to data folder `{}` ({way_out})", path.display()))?;
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let owner = read_run(path)
                    .ok()
                    .flatten()
                    .map(|run| format!(" (pid {})", run.pid))
                    .unwrap_or_default();
                bail!(
                    "data folder `{}` is in use by another snowmelt process{owner}: stop it, or {way_out}",
                    path.display()
                );
            }
            Err(error) => {
                return Err(io::Error::from(error))
                    .with_context(|| format!("lock `{}`", lock_path.display()));
            }
        }
        // A leftover of a process that was killed.
        remove_if_there(&path.join("run.json"))?;
        Ok(DataFolder { path: path.to_owned(), _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Publishes the addresses of this process.
    pub(crate) fn write_run(&self, run: &Run) -> Result<()> {
        let text = serde_json::to_vec_pretty(run).context("print run.json")?;
        model::files::replace(&stream::disk::Disk, &self.path.join("run.json"), &text)
            .with_context(|| format!("write `{}`", self.path.join("run.json").display()))
    }
}

impl Drop for DataFolder {
    fn drop(&mut self) {
        let _ = remove_if_there(&self.path.join("run.json"));
    }
}

/// The addresses of the process that owns the folder, if one is ready.
///
/// # Errors
/// When `run.json` is there and cannot be read.
pub(crate) fn read_run(data_dir: &Path) -> Result<Option<Run>> {
    let path = data_dir.join("run.json");
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .with_context(|| format!("read `{}`", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read `{}`", path.display())),
    }
}

fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove `{}`", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_owner() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataFolder::lock(dir.path()).unwrap();
        let error = DataFolder::lock(dir.path()).unwrap_err().to_string();
        assert!(error.contains("in use") && error.contains("--data-dir"), "{error}");
        drop(first);
        DataFolder::lock(dir.path()).unwrap();
    }

    #[test]
    fn the_addresses_are_there_while_the_owner_is() {
        let dir = tempfile::tempdir().unwrap();
        let folder = DataFolder::lock(dir.path()).unwrap();
        assert!(read_run(dir.path()).unwrap().is_none());
        let run = Run {
            pid: 1,
            collector: "127.0.0.1:1".into(),
            http: "127.0.0.1:2".into(),
            pg: "off".into(),
        };
        folder.write_run(&run).unwrap();
        assert_eq!(read_run(dir.path()).unwrap().unwrap().http, run.http);
        drop(folder);
        assert!(read_run(dir.path()).unwrap().is_none());
    }
}
