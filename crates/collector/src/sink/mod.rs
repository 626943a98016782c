//! Where records go: the port that every sink implements, and the machinery between a request and a sink.
//!
//! A sink only sends a batch and says what became of each record. All policy lies above it and is the same for every
//! sink: when a request hears 200 ([`store`]), what is sent together ([`buffer`]), what is sent again and when
//! ([`retry`], [`backoff`]), whether the sink is healthy ([`health`]), what survives a kill while the sink is away
//! ([`spool`]), and what happens to all of it at the end (`delivery`). The embedded log is a sink whose answer is its
//! fsync; when a request waits for just that, its records go there without any of this in between.
//!
//! ```text
//!  ack = "sink", the log    request ─────────────────────────────────────────► log        200 after the fsync
//!  ack = "sink"             request ──► buffer ──► retry ──────────────────► sink         200 after its answer
//!  ack = "buffer"           request ──► buffer (200) ──► retry ────────────► sink
//!  ack = "spool"            request ──► spool (200 after the fsync) ──► buffer ──► retry ──► sink ──► trim
//! ```

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

pub mod backoff;

pub mod retry;

pub mod buffer;

pub mod health;

pub mod stats;

mod delivery;

pub mod log;

pub mod lines;

mod entry;

pub mod spool;

pub mod store;

pub mod fallback;

pub mod scripted;

pub use store::Destination;

/// The answer of a sink, some time later.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// One record on its way, and what a sink with shards or partitions chooses one by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub bytes: Bytes,
    /// The partition key: all records of one request have the same. At most 255 bytes.
    pub key: Bytes,
}

impl Entry {
    /// What the entry takes of a batch: service limits count the key as well.
    pub fn len(&self) -> usize {
        self.bytes.len() + self.key.len()
    }

    /// A record of no bytes is never sent; here for the sake of [`Entry::len`].
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a sink takes at most. Nothing larger is ever given to [`Sink::send`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub record_bytes_max: usize,
    pub batch_records_max: usize,
    pub batch_bytes_max: usize,
}

/// A place for records: the embedded log, a Kinesis stream, a Kafka topic, a script in a test.
///
/// An implementation sends once and reports; it does not buffer, retry, wait between attempts or judge its own health.
pub trait Sink: Send + Sync + fmt::Debug {
    /// For logs and metrics: `raw`, `kinesis/good`.
    fn name(&self) -> &str;

    fn limits(&self) -> Limits;

    /// Sends a batch of at least one entry, in order. When the answer comes, every entry that it does not name is as
    /// durable as the sink promises.
    ///
    /// # Errors
    /// Nothing is known about any entry: all of them are sent again, and some may arrive twice.
    fn send<'a>(&'a self, batch: &'a [Entry]) -> Answer<'a, Vec<Refused>>;

    /// Asks whether the sink would take records now, without sending one.
    ///
    /// # Errors
    /// It would not: the stream is missing, or nobody answers.
    fn probe(&self) -> Answer<'_, ()>;

    /// Whether it is a file or a pipe of this machine. Then it counts as healthy until it fails; no probe tells more than
    /// an attempt, which costs nothing and is made at least every second; and an attempt is never given up, since it
    /// would come to its end all the same, and what it sends would be sent twice.
    fn is_local(&self) -> bool {
        false
    }

    /// How many batches it may be sent at a time; one keeps them in order.
    fn batches_max(&self) -> usize {
        usize::MAX
    }

    /// Whether nothing will ever be taken again: nobody waits for it at the end.
    fn is_gone(&self) -> bool {
        false
    }
}

/// An entry that the sink did not take, although it answered. It is sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its place in the batch.
    pub index: usize,
    pub reason: String,
}

/// Why there was no answer, for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);
