//! A disk that fails when told to: the next syncs, any new file, or all writes beyond its room.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use model::files::{File, Files, Space};
use stream::disk::Disk;

#[derive(Clone, Debug, Default)]
pub(crate) struct Faulty {
    pub(crate) faults: Arc<Faults>,
}

#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// So many of the next syncs of segments with records fail.
    pub(crate) syncs: AtomicU32,
    /// No file can be made.
    pub(crate) creates: AtomicBool,
    /// Every write fails for want of room, after half of it was written.
    pub(crate) full: AtomicBool,
    /// What is said to be free.
    pub(crate) available_bytes: Mutex<Option<u64>>,
    /// Folders are not synced.
    pub(crate) dirs: AtomicBool,
}

#[derive(Debug)]
struct FaultyFile {
    inner: Box<dyn File>,
    faults: Arc<Faults>,
}

fn broken() -> io::Error {
    io::Error::other("the disk is broken")
}

impl Faulty {
    fn wrap(&self, inner: Box<dyn File>) -> Box<dyn File> {
        Box::new(FaultyFile { inner, faults: Arc::clone(&self.faults) })
    }
}

impl Files for Faulty {
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        if self.faults.creates.load(Ordering::SeqCst) {
            return Err(broken());
        }
        Ok(self.wrap(Disk.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        Ok(self.wrap(Disk.open(path)?))
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn File>> {
        Ok(self.wrap(Disk.open_read(path)?))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        Disk.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        Disk.create_dir_all(dir)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.hard_link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Disk.remove(&PathBuf::from(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if self.faults.dirs.load(Ordering::SeqCst) {
            return Err(broken());
        }
        Disk.sync_dir(dir)
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        let space = Disk.space(dir)?;
        let available_bytes =
            self.faults.available_bytes.lock().unwrap().unwrap_or(space.available_bytes);
        Ok(Space { available_bytes, ..space })
    }
}

impl File for FaultyFile {
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.inner.read_at(into, at)
    }

    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        if self.faults.full.load(Ordering::SeqCst) {
            self.inner.write_all_at(&bytes[..bytes.len() / 2], at)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.inner.write_all_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        let left = self.faults.syncs.load(Ordering::SeqCst);
        if left > 0 {
            self.faults.syncs.store(left - 1, Ordering::SeqCst);
            return Err(broken());
        }
        self.inner.sync()
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
}
