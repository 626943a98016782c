//! The configuration of the speed layer. Its defaults run on a laptop.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much the speed layer takes at once, and how much it keeps.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Bytes of raw records that are enriched at once in one partition. Default: 1048576 (1 MiB).
    /// More costs latency under load, and memory; less costs throughput.
    pub batch_bytes: usize,
    /// The largest record written to a derived stream (enriched, bad, failed), in bytes; a larger output is cut into parts.
    /// Default: 8388608 (8 MiB). It must stay below what the stream takes, 10 MiB in the embedded log.
    pub entry_bytes_max: usize,
    /// Bytes of memory that the rows of the real-time view may fill before the oldest of them are written to `spill/`.
    /// Default: 134217728 (128 MiB).
    pub memory_bytes_max: usize,
    /// Bytes that each partition of each derived stream (enriched, bad, failed) keeps. What the batch view covers is given up
    /// in any case; beyond this size the oldest entries are given up too, and a restart enriches that part of raw again.
    /// Default: 1073741824 (1 GiB).
    pub retention_bytes: usize,
    /// Bytes that each partition of the PII stream keeps, the newest; nothing else removes its entries. It is written where
    /// the enrichment `pii_enrichment_config` says `emitEvent`. Default: 1073741824 (1 GiB).
    pub pii_retention_bytes: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            batch_bytes: 1 << 20,
            entry_bytes_max: 8 << 20,
            memory_bytes_max: 128 << 20,
            retention_bytes: 1 << 30,
            pii_retention_bytes: 1 << 30,
        }
    }
}

/// What the embedded log takes as one record.
const ENTRY_BYTES_LIMIT: usize = 10 << 20;

impl Config {
    /// What cannot work, each with its key below `speed`; empty when all is well.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !(64 << 10..=ENTRY_BYTES_LIMIT).contains(&self.entry_bytes_max) {
            let bytes = self.entry_bytes_max;
            problems.push(format!(
                "`speed.entry-bytes-max`: {bytes} is not between 65536 and {ENTRY_BYTES_LIMIT}"
            ));
        }
        if self.batch_bytes == 0 {
            problems.push("`speed.batch-bytes`: 0 is not a size".to_owned());
        }
        problems
    }
}
