//! The embedded log: a stream in a folder of the local disk, `<data>/streams/NAME/PARTITION/`.
//!
//! One process owns the folder. The format of its files is drawn in `docs/formats/segment.md`; the rules that it keeps,
//! and why:
//! - One log batch at a time is in flight per partition, and readers see nothing that is not synced. So a crash can break
//!   the last batch only, and nobody has seen it.
//! - After a failed sync a segment is closed for good: the system may have dropped the pages and called them clean.
//! - Segments are filled with zeros beforehand (a sync is then almost twice as fast) and never used again.
//! - A name in a folder is synced before anything acknowledged depends on it.
//!
//! Reading order: `entry` and `segment` (the bytes), `scan`, `writer`, `batch` (group commit), `partition` (what
//! readers see), `recovery`; for people, `inspect`, `survey` (every byte checked) and `repair`.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use model::files::Files;
use model::position::{Offset, Partition};

use crate::{Append, Chunk, Error, Stream, memory};

use self::batch::Refused;
use self::gauges::Gauges;
use self::partition::Shared;
use self::writer::Writer;

mod entry;

mod segment;

mod scan;

mod batch;

mod writer;

mod partition;

mod recovery;

mod lost_header;

mod salvage;

pub mod gauges;

pub mod inspect;

pub mod survey;

pub mod repair;

pub mod copy;

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
    /// What may wait for the disk in one partition (28 bytes and padding are added to each record); beyond it appends fail with [`Error::Busy`]. Default: 32 MiB.
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

/// The embedded log; see the module.
#[derive(Debug)]
pub struct Local {
    name: String,
    partitions: Vec<Partition>,
    logs: Vec<Arc<Log>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Log {
    shared: Shared,
    /// Held for the length of one commit.
    writer: Mutex<Writer>,
}

impl Local {
    /// Opens the stream `name` below `streams_dir`, or creates it, with at least `partitions` partitions: those that
    /// the folder has beyond that are opened as well, since partitions are only ever added.
    ///
    /// When this returns, all that can be read is durable, and what a crash tore off lies in a `.torn` file.
    ///
    /// # Errors
    /// [`Error::Damaged`] when acknowledged records are missing or changed, [`Error::NewerFormat`], [`Error::Io`].
    pub fn open(
        files: Arc<dyn Files>,
        streams_dir: &Path,
        name: &str,
        partitions: u32,
        options: Options,
    ) -> Result<Local, Error> {
        let dir = streams_dir.join(name);
        files.create_dir_all(&dir).map_err(|error| segment::io_error("create", &dir, error))?;
        let names = files.list(&dir).map_err(|error| segment::io_error("list", &dir, error))?;
        let kept = partition_indexes(&names).last().map_or(0, |last| last + 1);
        let mut local = Local {
            name: name.to_owned(),
            partitions: Vec::new(),
            logs: Vec::new(),
            threads: Mutex::default(),
        };
        for index in 0..partitions.max(kept) {
            let partition = Partition::of_stream(name, index);
            let (shared, writer) = recovery::open(
                Arc::clone(&files),
                dir.join(index.to_string()),
                partition.clone(),
                options.clone(),
            )?;
            local.partitions.push(partition);
            local.logs.push(Arc::new(Log { shared, writer: Mutex::new(writer) }));
        }
        match options.drive {
            Drive::Threads => local.spawn()?,
            Drive::Inline => {}
        }
        Ok(local)
    }

    /// Writes what is queued, and ends the threads. Later appends fail with [`Error::Closed`]; reads go on. Dropping does
    /// the same.
    pub fn close(&self) {
        for log in &self.logs {
            log.shared.queue.close();
        }
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A thread that panicked has told its appenders already.
            drop(thread.join());
        }
        for log in &self.logs {
            if let Ok(mut writer) = log.writer.lock() {
                writer.finish(&log.shared);
            }
            log.shared.close();
        }
    }

    /// What each partition says about itself now.
    pub fn gauges(&self) -> Vec<Gauges> {
        let gauges = |(partition, log): (&Partition, &Arc<Log>)| Gauges {
            partition: partition.clone(),
            queued_bytes: log.shared.queue.bytes(),
            commits: log.shared.counting.commits(),
            poisoned: log.shared.counting.poisoned(),
        };
        self.partitions.iter().zip(&self.logs).map(gauges).collect()
    }

    fn spawn(&self) -> Result<(), Error> {
        for (partition, log) in self.partitions.iter().zip(&self.logs) {
            let log = Arc::clone(log);
            let thread = std::thread::Builder::new()
                .name(partition.to_string())
                .spawn(move || log.run())
                .map_err(|error| {
                    segment::io_error("start a writer for", Path::new(partition.as_str()), error)
                })?;
            self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        Ok(())
    }

    fn log(&self, partition: &Partition) -> Result<&Arc<Log>, Error> {
        let index = self.partitions.iter().position(|known| known == partition);
        index.map(|index| &self.logs[index]).ok_or_else(|| Error::UnknownPartition {
            stream: self.name.clone(),
            partition: partition.clone(),
        })
    }

    fn take(&self, partition: &Partition, records: Vec<Bytes>) -> Result<Append, Error> {
        let log = self.log(partition)?;
        let Options { queue_bytes_max, batch_bytes_max, record_bytes_max, drive, .. } =
            log.shared.options;
        memory::check(partition, &records, record_bytes_max)?;
        let bytes = batch::queued_bytes(&records);
        if bytes > queue_bytes_max {
            let partition = partition.clone();
            return Err(Error::TooLarge { partition, bytes, bytes_max: queue_bytes_max });
        }
        match drive {
            Drive::Threads => {
                match log.shared.queue.push(records, queue_bytes_max, batch_bytes_max) {
                    Ok(appending) => Ok(Box::pin(appending)),
                    Err(Refused::Closed) => Err(self.closed()),
                    Err(Refused::Busy(queued_bytes)) => {
                        let partition = partition.clone();
                        Err(Error::Busy { partition, queued_bytes, queue_bytes_max })
                    }
                }
            }
            Drive::Inline if log.shared.queue.is_closed() => Err(self.closed()),
            Drive::Inline => {
                let first = log.commit(&records)?;
                Ok(Box::pin(std::future::ready(Ok(batch::appended(first, records.len())))))
            }
        }
    }

    fn closed(&self) -> Error {
        Error::Closed { stream: self.name.clone() }
    }
}

/// The partitions among the names of a stream's folder, in order.
fn partition_indexes(names: &[String]) -> Vec<u32> {
    let index = |name: &String| name.parse().ok().filter(|index: &u32| index.to_string() == *name);
    let mut indexes: Vec<u32> = names.iter().filter_map(index).collect();
    indexes.sort_unstable();
    indexes
}

impl Log {
    /// The writer's thread: one batch after the other, until the queue is closed and empty.
    fn run(&self) {
        while let Some(batch) = self.shared.queue.take() {
            let result = catch_unwind(AssertUnwindSafe(|| self.commit(&batch.records)));
            // After a panic the lock of the writer is poisoned, and so is the partition.
            let result = result.unwrap_or_else(|_| Err(self.panicked()));
            self.shared.queue.release(batch.bytes);
            batch.done.set(result);
        }
    }

    fn commit(&self, records: &[Bytes]) -> Result<u64, Error> {
        let mut writer = self.writer.lock().map_err(|_| self.panicked())?;
        let begun = Instant::now();
        let first = writer.commit(&self.shared, records)?;
        self.shared.counting.committed(begun.elapsed());
        Ok(first)
    }

    fn panicked(&self) -> Error {
        let reason = "its writer panicked".to_owned();
        self.shared.counting.poisoned_by(&reason);
        Error::Poisoned { partition: self.shared.partition.clone(), reason }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.close();
    }
}

impl Stream for Local {
    fn name(&self) -> &str {
        &self.name
    }

    fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    fn append(&self, partition: &Partition, records: Vec<Bytes>) -> Append {
        self.take(partition, records)
            .unwrap_or_else(|error| Box::pin(std::future::ready(Err(error))))
    }

    fn read(&self, partition: &Partition, from: Offset, bytes_max: usize) -> Result<Chunk, Error> {
        self.log(partition)?.shared.read(from.number(), bytes_max)
    }

    fn start(&self, partition: &Partition) -> Result<Offset, Error> {
        Ok(Offset::from_number(self.log(partition)?.shared.start()))
    }

    fn end(&self, partition: &Partition) -> Result<Offset, Error> {
        Ok(Offset::from_number(self.log(partition)?.shared.end()))
    }

    fn trim(&self, partition: &Partition, below: Offset) -> Result<(), Error> {
        self.log(partition)?.shared.trim(below.number())
    }

    fn wait(&self, partition: &Partition, beyond: Offset, at_most: Duration) -> bool {
        self.log(partition).is_ok_and(|log| log.shared.wait(beyond.number(), at_most))
    }
}
