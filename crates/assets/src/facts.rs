//! Facts on disk: each answer of the registries in a file of its own, written once, kept for good.
//!
//! A fact is found by name: `facts/<resolver>/<epoch>/<key>.json`, so no answer depends on a listing. The first write
//! of a name wins. What is handed out is durable, content and name, before anybody can build on it. An epoch that asks
//! anew takes over the schemas that earlier epochs were given (published versions never change), and only those: they
//! are linked under `facts/<resolver>/found/`. Asking is not here, see [`crate::answers`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use enrich::iglu::{Answer, Resolver};
use model::files::{self, Files, Published, TEMPORARY_PREFIX};
use model::iglu::SchemaKey;
use sha2::{Digest, Sha256};

use crate::Error;
use crate::fact::{self, Broken};

/// The folder of the facts in the data folder.
const FOLDER: &str = "facts";

/// Where epochs find the schemas of those before them.
const FOUND: &str = "found";

/// Under which registries and in which epoch an answer holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Under {
    pub(crate) resolver: Arc<str>,
    pub(crate) epoch: u64,
}

impl Under {
    pub(crate) fn of(resolver: &Resolver) -> Under {
        Under { resolver: resolver.digest().into(), epoch: resolver.epoch }
    }
}

/// The facts of one data folder.
#[derive(Debug)]
pub(crate) struct Facts {
    files: Arc<dyn Files>,
    folder: PathBuf,
    count: AtomicU64,
    bytes: AtomicU64,
}

impl Facts {
    /// Reads nothing.
    pub(crate) fn new(files: Arc<dyn Files>, data_dir: &Path) -> Facts {
        let folder = data_dir.join(FOLDER);
        Facts { files, folder, count: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }

    /// Counts what is there, and removes what an earlier process has left unfinished: while this one lives, no other
    /// may write to the folder.
    pub(crate) fn tidy(&self) -> Result<(), Error> {
        for resolver in self.list(&self.folder)? {
            let resolver = self.folder.join(resolver);
            for epoch in self.list(&resolver)? {
                let folder = resolver.join(&epoch);
                for name in self.list(&folder)? {
                    let path = folder.join(&name);
                    if name.starts_with(TEMPORARY_PREFIX) {
                        self.files.remove(&path).map_err(io("remove the unfinished", &path))?;
                    } else if epoch != FOUND {
                        let file = self.files.open_read(&path);
                        let bytes = file.and_then(|file| file.len());
                        self.add(bytes.map_err(io("read the fact", &path))?);
                    }
                }
            }
        }
        Ok(())
    }

    /// The answer that was recorded, made durable before it is given; none if the question was not asked yet.
    ///
    /// # Errors
    /// [`Error::DamagedFact`], [`Error::NewerFact`], or the disk's.
    pub(crate) fn read(&self, under: &Under, key: &SchemaKey) -> Result<Option<Answer>, Error> {
        let path = self.path(under, key);
        let Some(answer) = self.load(&path, key)? else { return Ok(None) };
        // Whoever wrote it may have died, or may be, before its own fsync of the folder.
        self.sync_folder(&path)?;
        Ok(Some(answer))
    }

    /// As [`Facts::read`], for whoever may not write: only looks.
    pub(crate) fn peek(&self, under: &Under, key: &SchemaKey) -> Result<Option<Answer>, Error> {
        self.load(&self.path(under, key), key)
    }

    /// Takes a schema over from an earlier epoch. None if no earlier epoch was given it.
    pub(crate) fn inherit(&self, under: &Under, key: &SchemaKey) -> Result<Option<Answer>, Error> {
        let (from, path) = (self.found_path(under, key), self.path(under, key));
        if self.load(&from, key)?.is_none() {
            return Ok(None);
        }
        self.make_folder(&path)?;
        self.link(&from, &path)?;
        // It may be another answer that was faster.
        self.read(under, key)
    }

    /// Makes an answer durable. Gives the one that holds: this one, or one that was recorded before it.
    pub(crate) fn record(
        &self,
        under: &Under,
        key: &SchemaKey,
        answer: Answer,
    ) -> Result<Answer, Error> {
        let path = self.path(under, key);
        let text = fact::encode(key, &answer);
        let published = files::publish(&*self.files, &path, text.as_bytes());
        match published.map_err(io("record the fact", &path))? {
            Published::New => self.add(text.len() as u64),
            Published::Taken => {
                let taken = self.load(&path, key)?;
                return taken.ok_or_else(|| {
                    io("read the fact", &path)(io::Error::from(io::ErrorKind::NotFound))
                });
            }
        }
        if answer.schema().is_some() {
            // Without this link a later epoch asks again, which does no harm: the fact itself is durable.
            let found = self.found_path(under, key);
            let linked = self.make_folder(&found).and_then(|()| self.link(&path, &found));
            if let Err(error) = linked {
                tracing::debug!(%error, "a later epoch will ask again");
            }
        }
        Ok(answer)
    }

    /// The first epoch after the resolver's in which nothing was recorded.
    pub(crate) fn fresh_epoch(&self, resolver: &Resolver) -> Result<u64, Error> {
        let mut under = Under::of(resolver);
        loop {
            under.epoch += 1;
            let folder = self.epoch_folder(&under);
            match self.files.list(&folder) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(under.epoch),
                Err(error) => return Err(io("list the folder", &folder)(error)),
            }
        }
    }

    /// Facts and their bytes. What [`Facts::tidy`] found, and what was recorded since.
    pub(crate) fn size(&self) -> (u64, u64) {
        (self.count.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    fn add(&self, bytes: u64) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn load(&self, path: &Path, key: &SchemaKey) -> Result<Option<Answer>, Error> {
        let bytes = match self.files.read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io("read the fact", path)(error)),
        };
        match fact::decode(&bytes, key) {
            Ok(answer) => Ok(Some(answer)),
            Err(Broken::Newer(format)) => {
                let (path, known) = (path.to_owned(), fact::FORMAT);
                Err(Error::NewerFact { path, format, known })
            }
            Err(Broken::Damaged(what)) => {
                Err(Error::DamagedFact { path: path.to_owned(), key: key.clone(), what })
            }
        }
    }

    /// A second, durable name for a durable fact; a name that is taken stays as it is.
    fn link(&self, from: &Path, to: &Path) -> Result<(), Error> {
        match self.files.hard_link(from, to) {
            Ok(()) => self.sync_folder(to),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(io("record the fact", to)(error)),
        }
    }

    fn make_folder(&self, path: &Path) -> Result<(), Error> {
        let folder = path.parent().unwrap_or(&self.folder);
        self.files.create_dir_all(folder).map_err(io("create the folder", folder))
    }

    fn sync_folder(&self, path: &Path) -> Result<(), Error> {
        let folder = path.parent().unwrap_or(&self.folder);
        self.files.sync_dir(folder).map_err(io("sync the folder", folder))
    }

    fn list(&self, folder: &Path) -> Result<Vec<String>, Error> {
        match self.files.list(folder) {
            Ok(names) => Ok(names),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(io("list the folder", folder)(error)),
        }
    }

    fn epoch_folder(&self, under: &Under) -> PathBuf {
        self.folder.join(&*under.resolver).join(under.epoch.to_string())
    }

    fn path(&self, under: &Under, key: &SchemaKey) -> PathBuf {
        self.epoch_folder(under).join(name(key))
    }

    fn found_path(&self, under: &Under, key: &SchemaKey) -> PathBuf {
        self.folder.join(&*under.resolver).join(FOUND).join(name(key))
    }
}

/// A file's name for a key. A hash, since a vendor may be `..`, or longer than any name of a file.
fn name(key: &SchemaKey) -> String {
    let hash = Sha256::digest(key.as_str().as_bytes());
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{hex}.json")
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { action, path: path.to_owned(), source }
}
