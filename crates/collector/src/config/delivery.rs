//! When a request hears 200, and how records are brought to a sink: `collector.durability` and `collector.streams`.
//! Snowplow: `collector.md` 7 and 8.2.

use crate::sink::backoff::Algorithm;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// When a request hears 200, and what happens while the sink is away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Durability {
    /// When 200 is sent. `sink`: when the sink has confirmed, which for the embedded log is its fsync. `spool`: when
    /// the request is in the local spool and synced. `buffer`: when it is in memory, as Snowplow's collector does; a
    /// kill loses what waits. Default: `sink`.
    #[schemars(with = "String")]
    pub ack: Ack,
    /// What happens when the spool has reached its `max-bytes`. `reject`: 503, and trackers keep their events.
    /// `buffer`: requests wait in memory instead, and a kill loses those. Default: `reject`.
    #[schemars(with = "String")]
    pub on_full: OnFull,
    /// The local spool of `ack = "spool"`.
    pub spool: SpoolConfig,
}

/// When a request hears 200.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ack {
    #[default]
    Sink,
    Spool,
    Buffer,
}

/// What happens when the spool is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFull {
    #[default]
    Reject,
    Buffer,
}

/// Requests that are too large for a record and cannot be split, or have an event that is too large alone. Their bad rows
/// hold a tenth of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Oversized {
    /// Whether the whole payload of each is kept in a file of its own, one line of Base64, which `snowmelt enrich` reads.
    /// Nothing removes these files but you. Default: false.
    pub keep: bool,
    /// Their folder. Default: `oversized` in the data folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// What the folder may hold, in bytes; what comes then is not kept, and counted. Default: 1073741824 (1 GiB).
    pub max_bytes: u64,
}

impl Default for Oversized {
    fn default() -> Oversized {
        Oversized { keep: false, dir: None, max_bytes: 1 << 30 }
    }
}

/// The local spool. It is synced by group commit: as soon as the disk is free, for all that came meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct SpoolConfig {
    /// Its folder, which must be this process's alone. Default: `spool` in the data folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// The size of its files, in bytes; a file goes when the sink has confirmed all of it. Default: 67108864 (64 MiB).
    pub segment_bytes: u64,
    /// What it may take of the disk, in bytes and whole files; beyond it see `on-full`. Default: 10737418240 (10 GiB).
    pub max_bytes: u64,
}

/// The two sinks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Streams {
    /// Where records go. `log`: the raw stream in the data folder, which all layers read. `stdout`: lines of Base64 on
    /// stdout and bad rows on stderr, for `snowmelt run collector` alone. Default: `log`.
    #[schemars(with = "String")]
    pub sink: SinkKind,
    /// The sink of recorded requests. The keys below have no effect on the embedded log with `durability.ack = "sink"`,
    /// which commits together what arrives together.
    pub good: SinkConfig,
    /// The sink of what was answered 200 but cannot be recorded as it is: size violations.
    pub bad: SinkConfig,
}

/// Where records go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SinkKind {
    #[default]
    Log,
    Stdout,
}

/// How records are brought to one sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct SinkConfig {
    /// What is sent together.
    pub buffer: Buffer,
    /// What happens after a failed attempt.
    pub backoff_policy: BackoffPolicy,
    /// How many batches may be on their way at a time, those that wait for their next attempt included. Default: 10.
    pub thread_pool_size: usize,
    /// How often a sink that is not healthy is asked. Default: 1s.
    #[serde(with = "model::duration::serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub startup_check_interval: Duration,
}

/// What is sent together: a batch goes when the next record would exceed a limit, or when its time has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Buffer {
    /// The most bytes of a batch, partition keys included. Default: 1000000. More than the sink takes is as much as it
    /// takes.
    pub byte_limit: usize,
    /// The most records of a batch. Default: 500.
    pub record_limit: usize,
    /// From one batch to the next. Default: 500ms. With `ack = "sink"` a request may wait so long for its answer.
    #[serde(with = "model::duration::serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub time_limit: Duration,
}

/// What happens after a failed attempt: wait, longer from time to time, and send what failed again, for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct BackoffPolicy {
    /// `decorrelated`: `min(max, min + U · (3 · last − min))`, which grows. `uniform`, as Snowplow's since 2.2.1: a
    /// random time between both bounds, so that a large `max-backoff` delays the first retry already. Default:
    /// `decorrelated`.
    #[schemars(with = "String")]
    pub algorithm: Algorithm,
    /// The first wait. Default: 500ms.
    #[serde(with = "model::duration::serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub min_backoff: Duration,
    /// The longest wait. Default: 10m. A sink that is back is noticed by its probe, and then nobody waits longer. The
    /// embedded log is asked at least every second.
    #[serde(with = "model::duration::serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub max_backoff: Duration,
    /// Retries after which the sink is not healthy any more, which `/sink-health` says. Default: 3.
    pub max_retries: u32,
}

impl Default for SpoolConfig {
    fn default() -> SpoolConfig {
        SpoolConfig { dir: None, segment_bytes: 64 << 20, max_bytes: 10 << 30 }
    }
}

impl Default for SinkConfig {
    fn default() -> SinkConfig {
        SinkConfig {
            buffer: Buffer::default(),
            backoff_policy: BackoffPolicy::default(),
            thread_pool_size: 10,
            startup_check_interval: Duration::from_secs(1),
        }
    }
}

impl Default for Buffer {
    fn default() -> Buffer {
        Buffer { byte_limit: 1_000_000, record_limit: 500, time_limit: Duration::from_millis(500) }
    }
}

impl Default for BackoffPolicy {
    fn default() -> BackoffPolicy {
        BackoffPolicy {
            algorithm: Algorithm::Decorrelated,
            min_backoff: Duration::from_millis(500),
            max_backoff: Duration::from_mins(10),
            max_retries: 3,
        }
    }
}

/// Looks at the values that a type cannot refuse; `refuse` is told of each problem and its key.
pub(super) fn check(config: &super::Config, mut refuse: impl FnMut(bool, &str, &str)) {
    let positive = "must be above 0";
    let spool = &config.durability.spool;
    refuse(
        spool.segment_bytes < 64 << 10 || spool.segment_bytes > 1 << 30,
        "durability.spool.segment-bytes",
        "must be between 64 KiB and 1 GiB",
    );
    refuse(
        spool.max_bytes < spool.segment_bytes,
        "durability.spool.max-bytes",
        "must be at least `durability.spool.segment-bytes`",
    );
    for (stream, sink) in [("good", &config.streams.good), ("bad", &config.streams.bad)] {
        let mut refuse =
            |wrong, key: &str, why| refuse(wrong, &format!("streams.{stream}.{key}"), why);
        refuse(sink.buffer.byte_limit == 0, "buffer.byte-limit", positive);
        refuse(sink.buffer.record_limit == 0, "buffer.record-limit", positive);
        refuse(sink.buffer.time_limit.is_zero(), "buffer.time-limit", positive);
        let policy = &sink.backoff_policy;
        refuse(policy.min_backoff.is_zero(), "backoff-policy.min-backoff", positive);
        refuse(
            policy.max_backoff < policy.min_backoff,
            "backoff-policy.max-backoff",
            "must be at least `min-backoff`",
        );
        refuse(policy.max_retries == 0, "backoff-policy.max-retries", positive);
        refuse(
            !(1..=1000).contains(&sink.thread_pool_size),
            "thread-pool-size",
            "must be between 1 and 1000",
        );
        refuse(sink.startup_check_interval.is_zero(), "startup-check-interval", positive);
    }
}

/// What can be used but is hardly meant.
pub(super) fn warnings(config: &super::Config) -> Vec<String> {
    let mut warnings = Vec::new();
    for (stream, sink) in [("good", &config.streams.good), ("bad", &config.streams.bad)] {
        let policy = &sink.backoff_policy;
        if policy.algorithm == Algorithm::Uniform && policy.max_backoff > policy.min_backoff * 30 {
            warnings.push(format!(
                "`collector.streams.{stream}.backoff-policy`: with `uniform` the first retry waits for half of \
                 `max-backoff` on average; use `decorrelated`, or a smaller `max-backoff`"
            ));
        }
    }
    if config.durability.ack == Ack::Buffer {
        warnings.push(
            "`collector.durability.ack` is `buffer`: what was answered 200 and is not with the sink yet is lost when \
             the process is killed"
                .to_owned(),
        );
    }
    if config.durability.ack == Ack::Spool {
        warnings.push(
            "`collector.durability.ack` is `spool`: a kill sends again what was sent during the last second, and the \
             second copy of an event is an event like any other; the enrichment event_fingerprint shows which are equal"
                .to_owned(),
        );
    }
    warnings
}
