//! The durable streams between the roles: append records, read them from an offset, find the tail, trim the head.
//!
//! The raw stream is the ground state of the whole pipeline; the enriched, bad and failed streams are derived from it. Roles
//! see only the trait [`Stream`]; which implementation they were given is decided where the process is put together.
//! Nothing here looks into a record, and nothing here knows the cut.
//!
//! Reading order: the trait below, [`memory`] (the same contract in a page), [`local`] (the embedded log),
//! [`conformance`] (the contract as tests that every implementation passes).
//!
//! ```text
//!  offsets of one partition
//!
//!      trimmed        │ readable                           │ written, not yet durable │ not yet handed out
//!   0 ─────────────── start ────────────────────────────── end ─────────────────────────────────────────────►
//!                     first offset still kept              first offset not yet readable
//!
//!   readers get records of [start, end); acknowledged records are always below `end`
//! ```

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use model::position::{Offset, Partition};

pub mod memory;

pub mod local;

pub mod disk;

pub mod conformance;

/// A stream of N partitions. Order is kept within a partition, and only there.
///
/// Offsets grow, but may have holes: a reader carries them and compares them, it never calculates one.
pub trait Stream: Send + Sync + fmt::Debug {
    /// The stream's name, the first part of its partitions' names: `raw`.
    fn name(&self) -> &str;

    /// The partitions in the order of their index: `raw/0`, `raw/1`. The list never changes while the stream is open.
    fn partitions(&self) -> &[Partition];

    /// Takes records at the end of a partition. They are queued before this returns, whether or not the future is
    /// polled; dropping the future does not take them back.
    ///
    /// All records of one call lie in one log batch, in order, side by side. The future is ready when they are as
    /// durable as the stream promises (for the raw stream: synced to disk) and readable. After an error they may or may
    /// not be in the stream later.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Full`], [`Error::Io`], [`Error::Poisoned`]: nothing was promised, ask again later.
    /// [`Error::Empty`], [`Error::TooLarge`]: never acceptable. [`Error::Closed`], [`Error::UnknownPartition`].
    fn append(&self, partition: &Partition, records: Vec<Bytes>) -> Append;

    /// Reads records from `from` on, in order: as many as fit into `bytes_max`, and at least one if there is one.
    ///
    /// At the end (and beyond it) the chunk is empty and `next` is `from`. Never returns what could still be lost.
    ///
    /// # Errors
    /// [`Error::Trimmed`] when `from` lies below [`Stream::start`]; [`Error::Damaged`] when stored bytes are not what
    /// was written: a record is never skipped.
    fn read(&self, partition: &Partition, from: Offset, bytes_max: usize) -> Result<Chunk, Error>;

    /// The first offset still kept. Never falls while the stream is open.
    fn start(&self, partition: &Partition) -> Result<Offset, Error>;

    /// The first offset not yet readable: one above the last readable record, or [`Stream::start`] if there is none.
    /// A reader that carries `next` from chunk to chunk arrives exactly here.
    fn end(&self, partition: &Partition) -> Result<Offset, Error>;

    /// Allows the stream to forget records below `below`, which may exceed the end. It may keep more than it must.
    /// Offsets go on rising even if nothing is left.
    fn trim(&self, partition: &Partition, below: Offset) -> Result<(), Error>;

    /// Blocks until the end lies above `beyond`, the time is over or the stream is closed. Says whether it lies above.
    fn wait(&self, partition: &Partition, beyond: Offset, at_most: Duration) -> bool;
}

/// One record and its place in the partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub offset: Offset,
    pub bytes: Bytes,
}

/// The records of `[from, next)`; `next` is where the reader goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    pub records: Vec<Record>,
    pub next: Offset,
}

/// Where the records of one append lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub first: Offset,
    pub last: Offset,
    /// Where a reader goes on that has seen `last`.
    pub next: Offset,
}

/// The answer to an append; see [`Stream::append`].
pub type Append = BoxFuture<'static, Result<Appended, Error>>;

/// What a stream can answer instead. Cheap to clone: one failure can fail many appends.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Ends by itself when space comes back.
    #[error(
        "no room to append to `{partition}`: {available_bytes} bytes are free, and {reserve_bytes} are kept as a reserve; \
         free some space, or lower `stream.disk-reserve`"
    )]
    Full { partition: Partition, available_bytes: u64, reserve_bytes: u64 },

    /// Ends by itself when the queue drains.
    #[error(
        "the queue of `{partition}` is full: {queued_bytes} of {queue_bytes_max} bytes wait for the disk"
    )]
    Busy { partition: Partition, queued_bytes: usize, queue_bytes_max: usize },

    /// Ends with a restart; reads go on.
    #[error("`{partition}` takes no records until the next start: {reason}")]
    Poisoned { partition: Partition, reason: String },

    #[error("too large for `{partition}`: {bytes} bytes, at most {bytes_max} are taken")]
    TooLarge { partition: Partition, bytes: usize, bytes_max: usize },

    #[error(
        "an append to `{partition}` without a record, or with a record of no bytes, says nothing"
    )]
    Empty { partition: Partition },

    #[error("`{partition}` was asked for offset {from}, but is trimmed below {start}")]
    Trimmed { partition: Partition, from: Offset, start: Offset },

    #[error("the stream `{stream}` has no partition `{partition}`")]
    UnknownPartition { stream: String, partition: Partition },

    #[error(
        "{} is damaged at byte {at}: {what}; stop the server and run `snowmelt stream repair`",
        path.display()
    )]
    Damaged { path: PathBuf, at: u64, what: String },

    #[error(
        "{} has segment format {found}, this binary reads up to {known}; use a newer snowmelt",
        path.display()
    )]
    NewerFormat { path: PathBuf, found: u32, known: u32 },

    #[error("the stream `{stream}` is closed")]
    Closed { stream: String },

    #[error("{action} {}", path.display())]
    Io {
        /// What was tried: `read`, `sync`.
        action: &'static str,
        path: PathBuf,
        source: Arc<std::io::Error>,
    },
}
