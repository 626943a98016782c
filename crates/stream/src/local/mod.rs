//! The embedded log: a stream in a folder of the local disk, `<data>/streams/NAME/PARTITION/`.
//!
//! One process owns the folder. The format of its files is drawn in `docs/formats/segment.md`.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::files::Files;
use model::position::{Offset, Partition};

use crate::memory::Memory;
use crate::{Append, Chunk, Error, Stream};

/// How the embedded log works. The default is that of the raw stream.
#[derive(Clone, Debug)]
pub struct Options {
    /// What an acknowledged record has survived. Default: [`Durability::Synced`].
    pub durability: Durability,
    /// Who does the work. Default: [`Drive::Threads`].
    pub drive: Drive,
    /// The size of the first segment; each next one is twice as large. Default: 1 MiB.
    pub segment_bytes_first: u64,
    /// Where the doubling ends. A batch that does not fit gets a segment of its own size. Default: 64 MiB.
    pub segment_bytes_max: u64,
    /// What may wait for the disk in one partition; beyond it appends fail with [`Error::Busy`]. Default: 32 MiB.
    pub queue_bytes_max: usize,
    /// How much is written before one sync, unless a single append is larger. Default: 1 MiB.
    pub batch_bytes_max: usize,
    /// With [`Durability::Relaxed`], how much may be written before a sync. Default: 8 MiB.
    pub relaxed_sync_bytes: u64,
    /// Free space of the disk that appends leave to others. `None`: the larger of 1 GiB and 5 % of the disk.
    /// `Some(0)`: none. Default: `None`.
    pub disk_reserve_bytes: Option<u64>,
    /// The largest record. Default: 10 MiB.
    pub record_bytes_max: usize,
    /// Where the random ids of segments come from; a simulator seeds it. Default: the system's randomness.
    pub segment_ids: SegmentIds,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            durability: Durability::Synced,
            drive: Drive::Threads,
            segment_bytes_first: 1 << 20,
            segment_bytes_max: 64 << 20,
            queue_bytes_max: 32 << 20,
            batch_bytes_max: 1 << 20,
            relaxed_sync_bytes: 8 << 20,
            disk_reserve_bytes: None,
            record_bytes_max: 10 << 20,
            segment_ids: SegmentIds::default(),
        }
    }
}

/// What an acknowledged record has survived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Records are acknowledged and readable after an fsync: they survive a loss of power.
    Synced,
    /// Records are acknowledged and readable after a write: they survive the end of the process, and after a loss of
    /// power the stream ends earlier. For what can be derived again.
    Relaxed,
}

/// Who does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drive {
    /// A writer thread per partition, which writes as one batch what was queued during the last one.
    Threads,
    /// The caller: each append writes and syncs before it returns, and its future is ready. For simulations and
    /// offline commands.
    Inline,
}

/// A source of random numbers that name segments, so that no bytes of another segment or of a user can pass for a
/// record of this one.
#[derive(Clone)]
pub struct SegmentIds(Arc<dyn Fn() -> u64 + Send + Sync>);

impl SegmentIds {
    /// Takes the numbers from `next`.
    pub fn new(next: impl Fn() -> u64 + Send + Sync + 'static) -> SegmentIds {
        SegmentIds(Arc::new(next))
    }

    pub(crate) fn next(&self) -> u64 {
        (self.0)()
    }
}

impl Default for SegmentIds {
    fn default() -> SegmentIds {
        // The keys of a `RandomState` come from the system; the hash does not show them.
        SegmentIds::new(|| RandomState::new().build_hasher().finish())
    }
}

impl fmt::Debug for SegmentIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SegmentIds")
    }
}

/// The embedded log.
#[derive(Debug)]
pub struct Local {
    inner: Memory,
}

impl Local {
    /// Opens the stream `name` below `streams_dir`, or creates it.
    pub fn open(
        _files: Arc<dyn Files>,
        _streams_dir: &Path,
        name: &str,
        partitions: u32,
        options: Options,
    ) -> Result<Local, Error> {
        let _ = options.segment_ids.next();
        Ok(Local { inner: Memory::new(name, partitions) })
    }

    /// Writes what is queued, and ends the threads. Later appends fail with [`Error::Closed`]; reads go on.
    pub fn close(&self) {
        self.inner.close();
    }
}

impl Stream for Local {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn partitions(&self) -> &[Partition] {
        self.inner.partitions()
    }

    fn append(&self, partition: &Partition, records: Vec<Bytes>) -> Append {
        self.inner.append(partition, records)
    }

    fn read(&self, partition: &Partition, from: Offset, bytes_max: usize) -> Result<Chunk, Error> {
        self.inner.read(partition, from, bytes_max)
    }

    fn start(&self, partition: &Partition) -> Result<Offset, Error> {
        self.inner.start(partition)
    }

    fn end(&self, partition: &Partition) -> Result<Offset, Error> {
        self.inner.end(partition)
    }

    fn trim(&self, partition: &Partition, below: Offset) -> Result<(), Error> {
        self.inner.trim(partition, below)
    }

    fn wait(&self, partition: &Partition, beyond: Offset, at_most: Duration) -> bool {
        self.inner.wait(partition, beyond, at_most)
    }
}
