//! A disk that is slow when it is told to be, and what can be seen from outside of a collector that writes to it: what
//! is stored, and how much memory it takes. For the tests of hard times.

use model::files::{File, Files, Space};
use model::payload::CollectorPayload;
use model::position::Offset;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use stream::Stream;
use stream::disk::Disk;
use stream::local::Local;

/// The real disk, on which an fsync takes longer.
#[derive(Clone, Debug, Default)]
pub struct SlowDisk {
    sync_ms: Arc<AtomicU64>,
}

#[derive(Debug)]
struct SlowFile {
    inner: Box<dyn File>,
    disk: SlowDisk,
}

impl SlowDisk {
    fn wrap(&self, inner: io::Result<Box<dyn File>>) -> io::Result<Box<dyn File>> {
        Ok(Box::new(SlowFile { inner: inner?, disk: self.clone() }))
    }

    pub fn sync_takes(&self, ms: u64) {
        self.sync_ms.store(ms, Ordering::SeqCst);
    }
}

impl Files for SlowDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.wrap(Disk.create(path))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.wrap(Disk.open(path))
    }
    fn open_read(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.wrap(Disk.open_read(path))
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
        Disk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        Disk.sync_dir(dir)
    }
    fn space(&self, dir: &Path) -> io::Result<Space> {
        Disk.space(dir)
    }
}

impl File for SlowFile {
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.inner.read_at(into, at)
    }
    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.inner.write_all_at(bytes, at)
    }
    fn sync(&self) -> io::Result<()> {
        std::thread::sleep(Duration::from_millis(self.disk.sync_ms.load(Ordering::SeqCst)));
        self.inner.sync()
    }
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
}

/// How often each id is stored.
pub fn stored(log: &Local) -> BTreeMap<String, usize> {
    let mut stored = BTreeMap::new();
    for partition in log.partitions() {
        let mut from = Offset::BEGINNING;
        loop {
            let chunk = log.read(partition, from, 1 << 20).unwrap();
            if chunk.records.is_empty() {
                break;
            }
            for record in chunk.records {
                let body = CollectorPayload::decode(&record.bytes).unwrap().body.unwrap();
                *stored.entry(body.split(' ').next().unwrap().to_owned()).or_insert(0) += 1;
            }
            from = chunk.next;
        }
    }
    stored
}

/// The resident memory of this process.
pub fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}
