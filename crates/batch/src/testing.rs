//! A disk in memory for the tests of this crate: it can die at any operation, and then loses what was not synced.
//! Listing fails, unless it is allowed: nothing here may depend on one.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use model::files::{File, Files, Space};

/// A disk; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryDisk(Arc<Mutex<State>>);

#[derive(Clone, Debug, Default)]
struct State {
    contents: Vec<Content>,
    names: BTreeMap<PathBuf, usize>,
    durable: BTreeMap<PathBuf, usize>,
    operations: u64,
    dies_at: Option<u64>,
    may_list: bool,
}

#[derive(Clone, Debug, Default)]
struct Content {
    written: Vec<u8>,
    synced: Vec<u8>,
}

impl MemoryDisk {
    /// The operation after which the disk is dead, counted from now; operations that change nothing do not count.
    pub(crate) fn die_after(&self, operations: u64) {
        let mut state = self.0.lock().unwrap();
        state.dies_at = Some(state.operations + operations);
    }

    /// As after a loss of power: names and bytes that were not synced are gone. Says whether the disk had died.
    pub(crate) fn restart(&self) -> bool {
        let mut state = self.0.lock().unwrap();
        state.names = state.durable.clone();
        for content in &mut state.contents {
            content.written = content.synced.clone();
        }
        let dead = state.is_dead();
        state.dies_at = None;
        dead
    }

    /// As after the process was killed: nothing is lost, and nothing more is durable. Says whether the disk had died.
    pub(crate) fn revive(&self) -> bool {
        let mut state = self.0.lock().unwrap();
        let dead = state.is_dead();
        state.dies_at = None;
        dead
    }

    /// Another disk with the same files.
    pub(crate) fn copy(&self) -> MemoryDisk {
        MemoryDisk(Arc::new(Mutex::new(self.0.lock().unwrap().clone())))
    }

    pub(crate) fn allow_listing(&self, allowed: bool) {
        self.0.lock().unwrap().may_list = allowed;
    }

    pub(crate) fn change(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.0.lock().unwrap();
        let at = state.names[path];
        change(&mut state.contents[at].written);
        state.contents[at].synced = state.contents[at].written.clone();
    }

    /// All names, which only a test may ask for.
    pub(crate) fn names(&self) -> Vec<PathBuf> {
        self.0.lock().unwrap().names.keys().cloned().collect()
    }

    fn operate<T>(&self, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.0.lock().unwrap();
        if state.is_dead() {
            return Err(io::Error::other("the disk is dead"));
        }
        state.operations += 1;
        act(&mut state)
    }

    fn look<T>(&self, act: impl FnOnce(&State) -> io::Result<T>) -> io::Result<T> {
        let state = self.0.lock().unwrap();
        if state.is_dead() {
            return Err(io::Error::other("the disk is dead"));
        }
        act(&state)
    }

    fn file(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let at = self.look(|state| state.find(path))?;
        Ok(Box::new(MemoryFile { disk: self.clone(), at }))
    }
}

impl State {
    fn is_dead(&self) -> bool {
        self.dies_at.is_some_and(|at| self.operations >= at)
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Files for MemoryDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let at = self.operate(|state| {
            if state.names.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            state.contents.push(Content::default());
            let at = state.contents.len() - 1;
            state.names.insert(path.to_owned(), at);
            Ok(at)
        })?;
        Ok(Box::new(MemoryFile { disk: self.clone(), at }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.file(path)
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.look(|state| {
            if !state.may_list {
                return Err(io::Error::other(format!("{} was listed", dir.display())));
            }
            // Files and folders alike: the first name below the folder.
            let below = state.names.keys().filter_map(|path| path.strip_prefix(dir).ok());
            let mut names: Vec<String> = below
                .filter_map(|rest| Some(rest.components().next()?.as_os_str().to_str()?.to_owned()))
                .collect();
            names.dedup();
            Ok(names)
        })
    }

    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        self.look(|_| Ok(()))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operate(|state| {
            if state.names.contains_key(to) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let at = state.find(from)?;
            state.names.insert(to.to_owned(), at);
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operate(|state| {
            let at = state.find(from)?;
            state.names.remove(from);
            state.names.insert(to.to_owned(), at);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.operate(|state| {
            state.find(path)?;
            state.names.remove(path);
            Ok(())
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.operate(|state| {
            state.durable.retain(|path, _| path.parent() != Some(dir));
            let inside = state.names.iter().filter(|(path, _)| path.parent() == Some(dir));
            let inside: Vec<_> = inside.map(|(path, at)| (path.clone(), *at)).collect();
            state.durable.extend(inside);
            Ok(())
        })
    }

    fn space(&self, _dir: &Path) -> io::Result<Space> {
        Ok(Space { total_bytes: u64::MAX, available_bytes: u64::MAX })
    }
}

#[derive(Debug)]
struct MemoryFile {
    disk: MemoryDisk,
    at: usize,
}

impl File for MemoryFile {
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.disk.look(|state| {
            let content = &state.contents[self.at].written;
            let from = content.len().min(usize::try_from(at).unwrap());
            let count = into.len().min(content.len() - from);
            into[..count].copy_from_slice(&content[from..from + count]);
            Ok(count)
        })
    }

    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.disk.operate(|state| {
            let content = &mut state.contents[self.at].written;
            let at = usize::try_from(at).unwrap();
            content.resize(content.len().max(at + bytes.len()), 0);
            content[at..at + bytes.len()].copy_from_slice(bytes);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.operate(|state| {
            let content = &mut state.contents[self.at];
            content.synced = content.written.clone();
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.look(|state| Ok(state.contents[self.at].written.len() as u64))
    }
}
