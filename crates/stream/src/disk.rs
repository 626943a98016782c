//! The real disk behind [`model::files::Files`].
//!
//! Made once by the process that owns a data folder and handed to everything that stores something. No caching, no
//! retries, no locking: an error of the system is the caller's answer.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use model::files::{File, Files, Space};

/// Files of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

/// An open file of the operating system.
#[derive(Debug)]
struct DiskFile(fs::File);

impl Files for Disk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let file = fs::OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        Ok(Box::new(DiskFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Box::new(DiskFile(file)))
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn File>> {
        Ok(Box::new(DiskFile(fs::File::open(path)?)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            // A name that is not text is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut missing: Vec<PathBuf> = Vec::new();
        let mut at = dir;
        while !at.as_os_str().is_empty() && !at.is_dir() {
            missing.push(at.to_owned());
            let Some(parent) = at.parent() else { break };
            at = parent;
        }
        for folder in missing.iter().rev() {
            match fs::create_dir(folder) {
                // Another thread was faster; its name is made durable below all the same.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
                made => made?,
            }
            match folder.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => self.sync_dir(parent)?,
                Some(_) => self.sync_dir(Path::new("."))?,
                None => {}
            }
        }
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(Space {
            total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
            available_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }
}

impl File for DiskFile {
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        loop {
            match self.0.read_at(into, at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                answer => return answer,
            }
        }
    }

    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::files::{Published, publish, replace};

    #[test]
    fn a_published_name_is_never_written_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/c");
        assert_eq!(publish(&Disk, &path, b"first").unwrap(), Published::New);
        assert_eq!(publish(&Disk, &path, b"second").unwrap(), Published::Taken);
        assert_eq!(Disk.read(&path).unwrap(), b"first");
        assert_eq!(Disk.list(&dir.path().join("a/b")).unwrap(), ["c"]);
    }

    #[test]
    fn a_replaced_file_has_the_new_content_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hint");
        replace(&Disk, &path, b"a long first content").unwrap();
        replace(&Disk, &path, b"second").unwrap();
        assert_eq!(Disk.read(&path).unwrap(), b"second");
        assert_eq!(Disk.list(dir.path()).unwrap(), ["hint"]);
    }

    #[test]
    fn a_file_in_the_way_of_a_folder_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        drop(Disk.create(&dir.path().join("taken")).unwrap());
        assert!(Disk.create_dir_all(&dir.path().join("taken/below")).is_err());
        assert!(Disk.create_dir_all(&dir.path().join("taken")).is_err());
        Disk.create_dir_all(dir.path()).unwrap();
    }

    #[test]
    fn a_read_at_the_end_is_short_and_a_read_only_file_refuses_writes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        Disk.create(&path).unwrap().write_all_at(b"abc", 2).unwrap();
        assert_eq!(
            Disk.create(&path).map(|_| ()).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        let file = Disk.open_read(&path).unwrap();
        let mut into = [9; 8];
        assert_eq!(file.read_at(&mut into, 1).unwrap(), 4);
        assert_eq!(&into[..4], b"\0abc");
        assert!(file.read_exact_at(&mut into, 1).is_err());
        assert!(file.write_all_at(b"x", 0).is_err());
        assert!(Disk.space(dir.path()).unwrap().total_bytes > 0);
    }
}
