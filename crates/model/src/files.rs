//! Files as a trait, so that the simulator can lose pages, tear writes, fill the disk and fail an fsync.
//!
//! The real one is `stream::disk`; the faulty one is in `sim`. Nothing here touches a disk. What a crash may keep is the
//! contract of every method: bytes are durable after [`File::sync`], a name is durable after [`Files::sync_dir`] of its
//! folder, and nothing else is.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The operations on names. Blocking; call them outside of an async runtime's workers.
pub trait Files: Send + Sync + fmt::Debug {
    /// Creates an empty file for reading and writing.
    ///
    /// # Errors
    /// `AlreadyExists` when the name is taken.
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>>;

    /// Opens a file that exists, for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn File>>;

    /// Opens a file that exists, for reading; works on a folder that may not be written.
    fn open_read(&self, path: &Path) -> io::Result<Box<dyn File>>;

    /// The whole content.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open_read(path)?;
        let mut content = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
        file.read_exact_at(&mut content, 0)?;
        Ok(content)
    }

    /// The names in a folder, sorted. Only for recovery and tidying: no answer may depend on a listing.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Creates a folder and its parents; each new name is made durable in its parent.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Gives a file a second name.
    ///
    /// # Errors
    /// `AlreadyExists` when the new name is taken: this is how a name is created only if absent.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Replaces `to` by `from`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names of a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Room on the disk that holds `dir`.
    fn space(&self, dir: &Path) -> io::Result<Space>;
}

/// An open file; reads and writes name their place. Safe to share: the callers order their writes.
#[expect(
    clippy::len_without_is_empty,
    reason = "it can fail, and nobody asks whether a file is empty"
)]
pub trait File: Send + Sync + fmt::Debug {
    /// Reads up to `into.len()` bytes from `at`; fewer only at the end of the file.
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `at`, growing the file if need be. On an error any part may have been written.
    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Makes content and length durable (fdatasync).
    ///
    /// # Errors
    /// After an error the state of every unsynced byte is unknown, and a later success says nothing about them.
    fn sync(&self) -> io::Result<()>;

    fn len(&self) -> io::Result<u64>;

    /// Fills `into` from `at`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before.
    fn read_exact_at(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        let mut done = 0;
        while done < into.len() {
            match self.read_at(&mut into[done..], at + done as u64)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => done += count,
            }
        }
        Ok(())
    }
}

/// Bytes of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub total_bytes: u64,
    /// What an ordinary user may still write.
    pub available_bytes: u64,
}

/// What became of a create-only write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Published {
    /// The name is ours, and durable.
    New,
    /// The name was there already; its content was not touched.
    Taken,
}

/// How the names of temporary files begin. One that no running process is writing may be removed at any time.
pub const TEMPORARY_PREFIX: &str = ".new-";

/// Writes a file that nobody may change: temporary file, fsync, create-only hard link, fsync of the folder. When it
/// returns, the whole content is durable under the name, or the name was taken. The folder is created if need be.
/// A crash leaves at most a file whose name starts with [`TEMPORARY_PREFIX`].
///
/// # Errors
/// Any error of the disk; then the name may or may not exist, but never with part of the content.
pub fn publish(files: &dyn Files, path: &Path, content: &[u8]) -> io::Result<Published> {
    let (dir, temporary) = beside(path)?;
    files.create_dir_all(&dir)?;
    write_temporary(files, &temporary, content)?;
    let linked = files.hard_link(&temporary, path);
    files.remove(&temporary)?;
    match linked {
        Ok(()) => {
            files.sync_dir(&dir)?;
            Ok(Published::New)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // The winner may have crashed before its own fsync of the folder.
            files.sync_dir(&dir)?;
            Ok(Published::Taken)
        }
        Err(error) => Err(error),
    }
}

/// Replaces a small file that may change (a hint, `run.json`): temporary file, fsync, rename, fsync of the folder.
/// Readers see the old content or the new, never a mixture.
pub fn replace(files: &dyn Files, path: &Path, content: &[u8]) -> io::Result<()> {
    let (dir, temporary) = beside(path)?;
    files.create_dir_all(&dir)?;
    write_temporary(files, &temporary, content)?;
    files.rename(&temporary, path)?;
    files.sync_dir(&dir)
}

fn beside(path: &Path) -> io::Result<(PathBuf, PathBuf)> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str()))
    else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} has no folder", path.display()),
        ));
    };
    // Two writers of one name in one process (two archivers) must not share a temporary file.
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let write = WRITES.fetch_add(1, Ordering::Relaxed);
    Ok((dir.to_owned(), dir.join(format!("{TEMPORARY_PREFIX}{write}-{name}"))))
}

fn write_temporary(files: &dyn Files, temporary: &Path, content: &[u8]) -> io::Result<()> {
    // A leftover of an earlier process: the folder's lock says that it is gone.
    match files.remove(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = files.create(temporary)?;
    let written = file.write_all_at(content, 0).and_then(|()| file.sync());
    if written.is_err() {
        // Give the space back; if even that fails, the next attempt removes it.
        let _ = files.remove(temporary);
    }
    written
}
