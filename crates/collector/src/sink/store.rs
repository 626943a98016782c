//! What a request hands its records to, and when it hears 200: `collector.durability.ack`.
//!
//! Made by the server, one for good and one for bad records. The embedded log with `ack = "sink"` is appended to
//! directly: that path has no task, no copy and no allocation of its own.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use model::files::Files;
use model::time::{Clock, Timestamp};
use stream::{Append, Stream};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

use super::backoff::{Backoff, Random};
use super::buffer::Bounds;
use super::delivery::{Confirmed, Delivery, NotTaken, Settings};
use super::health::Health;
use super::log::{self, Log};
use super::spool::{self, Left, Place, Spool};
use super::stats::Stats;
use super::{Entry, Sink};
use crate::config::{Ack, Durability, OnFull, SinkConfig};

/// Where the records of a store end up.
#[derive(Clone, Debug)]
pub enum Destination {
    /// The embedded log.
    Log(Arc<dyn Stream>),
    /// Any other sink.
    Sink(Arc<dyn Sink>),
}

impl Destination {
    /// The folder of its spool, for one of the streams `good` and `bad`. What waits for one sink is never sent to
    /// another.
    pub(crate) fn spool_name(&self, stream: &str) -> String {
        match self {
            Destination::Log(_) => stream.to_owned(),
            Destination::Sink(_) => format!("{stream}-{}", self.kind()),
        }
    }

    /// What kind of sink it is, as the record's `collector` field ends: `log`, `stdout`, `kinesis`.
    pub fn kind(&self) -> &str {
        match self {
            Destination::Log(_) => "log",
            Destination::Sink(sink) => sink.name().split('/').next().unwrap_or_default(),
        }
    }
}

/// What a store needs besides its configuration.
#[derive(Clone, Debug)]
pub struct Ground {
    pub clock: Arc<dyn Clock>,
    /// Runs the delivery.
    pub runtime: Handle,
    pub files: Arc<dyn Files>,
    /// Where spools lie unless `durability.spool.dir` says otherwise.
    pub spool_dir: PathBuf,
    /// As [`stream::local::Options::disk_reserve_bytes`].
    pub disk_reserve_bytes: Option<u64>,
    /// What a delivery may hold in memory: `memory.max-in-flight-bytes`.
    pub bytes_max: usize,
}

impl Ground {
    fn place(&self, durability: &Durability) -> Place {
        Place {
            files: Arc::clone(&self.files),
            dir: durability.spool.dir.clone().unwrap_or_else(|| self.spool_dir.clone()),
            segment_bytes: durability.spool.segment_bytes,
            bytes_max: durability.spool.max_bytes,
            disk_reserve_bytes: self.disk_reserve_bytes,
        }
    }

    /// The spools that hold requests which were answered 200 and are not with their sink, but for those named `open`.
    pub(crate) fn left_behind(&self, durability: &Durability, open: &[String]) -> Vec<Left> {
        let place = self.place(durability);
        spool::left_behind(&*place.files, &place.dir, open)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Store {
    name: String,
    way: Way,
    record_bytes_max: usize,
}

#[derive(Debug)]
enum Way {
    Direct {
        stream: Arc<dyn Stream>,
        next_partition: AtomicUsize,
        health: Health,
        stats: Arc<Stats>,
    },
    Memory {
        delivery: Arc<Delivery>,
        waits: bool,
    },
    Spool(Spooling),
}

#[derive(Debug)]
struct Spooling {
    spool: Arc<Spool>,
    delivery: Arc<Delivery>,
    on_full: OnFull,
    forwarding: Mutex<Option<JoinHandle<()>>>,
}

/// Why records were not stored; nothing was promised.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refusal {
    #[error(transparent)]
    Stream(#[from] stream::Error),
    #[error("more than `collector.memory.max-in-flight-bytes` wait for the sink")]
    MemoryFull,
    #[error("the spool has reached `collector.durability.spool.max-bytes`")]
    SpoolFull,
    #[error("a record of {0} bytes is more than the sink takes")]
    TooLarge(usize),
    #[error("the collector is ending")]
    Closed,
}

impl Store {
    /// Opens the way to a destination. `stream` is `good` or `bad`.
    ///
    /// # Errors
    /// Those of opening the spool.
    pub fn open(
        stream: &str,
        destination: Destination,
        durability: &Durability,
        config: &SinkConfig,
        ground: &Ground,
    ) -> Result<Store, stream::Error> {
        let spool_name = destination.spool_name(stream);
        let sink: Arc<dyn Sink> = match destination {
            Destination::Log(stream) if durability.ack == Ack::Sink => {
                return Ok(Store::direct(stream));
            }
            Destination::Log(stream) => Arc::new(Log::new(stream)),
            Destination::Sink(sink) => sink,
        };
        let limits = sink.limits();
        let sink_name = sink.name().to_owned();
        let settings = settings(config, &*sink, ground.bytes_max);
        let (clock, random) = (Arc::clone(&ground.clock), Random::of_the_system());
        let start = || Arc::new(Delivery::start(sink, settings, clock, random, &ground.runtime));
        let way = match durability.ack {
            Ack::Sink => Way::Memory { delivery: start(), waits: true },
            Ack::Buffer => Way::Memory { delivery: start(), waits: false },
            Ack::Spool => {
                let place = ground.place(durability);
                let spool = Arc::new(Spool::open(place, &spool_name)?);
                let delivery = start();
                let forward = Arc::clone(&spool).forward(Arc::clone(&delivery));
                let forwarding = Mutex::new(Some(ground.runtime.spawn(forward)));
                Way::Spool(Spooling { spool, delivery, on_full: durability.on_full, forwarding })
            }
        };
        Ok(Store { name: sink_name, way, record_bytes_max: limits.record_bytes_max })
    }

    /// The embedded log, without anything in between.
    pub fn direct(stream: Arc<dyn Stream>) -> Store {
        let name = stream.name().to_owned();
        let (health, stats, next_partition) = (Health::good(), Arc::default(), AtomicUsize::new(0));
        let way = Way::Direct { stream, next_partition, health, stats };
        Store { name, way, record_bytes_max: usize::MAX }
    }

    /// For logs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes all records of one request; they are on their way before this returns. Ready when the request may be
    /// answered 200. `key` is what a partition or shard is chosen by; an empty one means any.
    pub fn store(&self, records: Vec<Bytes>, key: &Bytes, now: Timestamp) -> Storing {
        match self.try_store(records, key, now) {
            Ok(storing) => storing,
            Err(refusal) => Storing(Step::Over(Err(Some(refusal)))),
        }
    }

    /// What `/sink-health` says of it.
    pub fn is_healthy(&self) -> bool {
        match &self.way {
            Way::Direct { health, .. } => health.is_healthy(),
            Way::Memory { delivery, .. } => delivery.health().is_healthy(),
            Way::Spool(Spooling { delivery, .. }) => delivery.health().is_healthy(),
        }
    }

    /// How often that changed.
    pub fn health_flips(&self) -> u64 {
        match &self.way {
            Way::Direct { health, .. } => health.flips(),
            Way::Memory { delivery, .. } | Way::Spool(Spooling { delivery, .. }) => {
                delivery.health().flips()
            }
        }
    }

    /// Notes whether an append to the log worked; the other paths know by themselves. True when that is news.
    pub fn settle(&self, stored: bool) -> bool {
        match &self.way {
            Way::Direct { health, .. } => {
                if stored {
                    health.up()
                } else {
                    health.down()
                }
            }
            Way::Memory { .. } | Way::Spool(_) => false,
        }
    }

    pub fn stats(&self) -> &Arc<Stats> {
        match &self.way {
            Way::Direct { stats, .. } => stats,
            Way::Memory { delivery, .. } | Way::Spool(Spooling { delivery, .. }) => {
                delivery.stats()
            }
        }
    }

    /// Takes nothing more, sends until `by`, and closes the spool. How many acknowledged or waiting records the sink
    /// has not confirmed; with a spool they are on disk and sent after the next start.
    pub async fn drain(&self, by: Instant) -> u64 {
        match &self.way {
            Way::Direct { .. } => 0,
            Way::Memory { delivery, .. } => delivery.drain(by).await as u64,
            Way::Spool(spooling) => spooling.drain(by).await,
        }
    }

    fn try_store(
        &self,
        records: Vec<Bytes>,
        key: &Bytes,
        now: Timestamp,
    ) -> Result<Storing, Refusal> {
        if let Some(record) = records.iter().find(|it| it.len() > self.record_bytes_max) {
            return Err(Refusal::TooLarge(record.len()));
        }
        let drawn;
        let key = match (key.is_empty(), &self.way) {
            (false, _) | (true, Way::Direct { .. }) => key,
            (true, Way::Memory { .. } | Way::Spool(_)) => {
                drawn = Bytes::from(Uuid::new_v4().to_string());
                &drawn
            }
        };
        let entries = |records: Vec<Bytes>| -> Vec<Entry> {
            records.into_iter().map(|bytes| Entry { bytes, key: key.clone() }).collect()
        };
        let step = match &self.way {
            Way::Direct { stream, next_partition, .. } => {
                let partitions = stream.partitions();
                let turn = match key.is_empty() {
                    true => next_partition.fetch_add(1, Ordering::Relaxed),
                    false => log::place_of(key),
                };
                Step::Log(stream.append(&partitions[turn % partitions.len()], records))
            }
            Way::Memory { delivery, waits: true } => {
                Step::Sink(delivery.take_and_confirm(entries(records))?)
            }
            Way::Memory { delivery, waits: false } => {
                delivery.take(entries(records))?;
                Step::Over(Ok(()))
            }
            Way::Spool(spooling) if spooling.spool.is_full() => match spooling.on_full {
                OnFull::Reject => return Err(Refusal::SpoolFull),
                OnFull::Buffer => {
                    spooling.delivery.take(entries(records))?;
                    Step::Over(Ok(()))
                }
            },
            Way::Spool(Spooling { spool, .. }) => {
                Step::Spool(spool.append(&records, key, now), Arc::clone(spool))
            }
        };
        Ok(Storing(step))
    }
}

impl Spooling {
    async fn drain(&self, by: Instant) -> u64 {
        // The spool goes on to be read while there is time; what it hands over is sent.
        let forwarding = {
            let mut slot = self.forwarding.lock().unwrap_or_else(PoisonError::into_inner);
            slot.take()
        };
        self.delivery.hurry();
        self.spool.notice();
        let all_or_never = async {
            tokio::select! {
                () = self.spool.forwarded() => {}
                () = self.delivery.gone() => {}
            }
        };
        let _ = tokio::time::timeout_at(by, all_or_never).await;
        let in_memory = self.delivery.drain(by).await as u64;
        if let Some(forwarding) = forwarding {
            forwarding.abort();
            // Its end is all that matters.
            let _ = forwarding.await;
        }
        let spool = Arc::clone(&self.spool);
        let on_disk = tokio::task::spawn_blocking(move || spool.close()).await.unwrap_or(u64::MAX);
        // What is in memory is in the spool too, except what `on-full = "buffer"` has let in.
        on_disk.max(in_memory)
    }
}

fn settings(config: &SinkConfig, sink: &dyn Sink, bytes_max: usize) -> Settings {
    let limits = sink.limits();
    let policy = &config.backoff_policy;
    let milliseconds = |it: std::time::Duration| u64::try_from(it.as_millis()).unwrap_or(u64::MAX);
    let max_ms = milliseconds(policy.max_backoff);
    Settings {
        bounds: Bounds {
            records_max: config.buffer.record_limit.min(limits.batch_records_max),
            bytes_max: config.buffer.byte_limit.min(limits.batch_bytes_max),
            time_limit: config.buffer.time_limit,
        },
        backoff: Backoff {
            algorithm: policy.algorithm,
            min_ms: milliseconds(policy.min_backoff),
            max_ms: if sink.is_local() { max_ms.min(1000) } else { max_ms },
        },
        retries: policy.max_retries,
        batches_max: config.thread_pool_size.min(sink.batches_max()),
        bytes_max,
        probe_interval: config.startup_check_interval,
    }
}

/// Ready when the request may be answered.
#[derive(Debug)]
pub struct Storing(Step);

enum Step {
    Log(Append),
    Sink(Confirmed),
    Spool(Append, Arc<Spool>),
    Over(Result<(), Option<Refusal>>),
}

impl Future for Storing {
    type Output = Result<(), Refusal>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Step::Log(append) => {
                append.as_mut().poll(context).map(|done| done.map(|_| ()).map_err(Refusal::from))
            }
            Step::Spool(append, spool) => append.as_mut().poll(context).map(|done| {
                spool.notice();
                done.map(|_| ()).map_err(Refusal::from)
            }),
            Step::Sink(confirmed) => Pin::new(confirmed).poll(context).map_err(Refusal::from),
            Step::Over(Ok(())) => Poll::Ready(Ok(())),
            Step::Over(Err(refusal)) => Poll::Ready(Err(refusal.take().unwrap_or(Refusal::Closed))),
        }
    }
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Step::Log(_) => "Log",
            Step::Sink(_) => "Sink",
            Step::Spool(..) => "Spool",
            Step::Over(_) => "Over",
        })
    }
}

impl From<NotTaken> for Refusal {
    fn from(not_taken: NotTaken) -> Refusal {
        match not_taken {
            NotTaken::Full => Refusal::MemoryFull,
            NotTaken::Closed => Refusal::Closed,
        }
    }
}
