//! The `batch` section of the configuration.
//! The binary puts it into its tree and hands it to the service; values are checked by [`Config::validate`] only.

use std::num::NonZeroUsize;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{archiver, batcher};

/// How the batch layer works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// How long after an iteration the next one begins; without new data there is none. Default: `10m`.
    /// Shorter keeps the real-time view smaller, and makes more and smaller table files.
    #[serde(with = "model::duration::serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub interval: Duration,
    /// Uncompressed bytes of raw records after which a file of the master dataset is closed. Default: 67108864 (64 MiB).
    /// Each file is one piece of work of an iteration: smaller files spread a short iteration over more cores.
    pub file_bytes_max: u64,
    /// Files that are enriched at the same time; each takes about 300 MB at most. Default: 0, as many as there are
    /// cores. Lower it where memory is short.
    pub workers: usize,
    /// Neighbouring table files of like size after which they are joined into one, up to 16 MiB. Default: 8. 0 leaves all
    /// files as they are; each iteration adds up to three per partition, and a statement opens all of its tables.
    pub compact_files: usize,
    /// Older generations of the batch view that a rebuild leaves queryable by number, and on disk. Default: 1.
    pub generations_kept: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            interval: Duration::from_secs(600),
            file_bytes_max: archiver::Config::default().file_bytes_max,
            workers: 0,
            compact_files: batcher::Config::default().compact_files,
            generations_kept: batcher::Config::default().generations_kept,
        }
    }
}

impl Config {
    /// What is wrong with the values, each with its key inside the section.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.interval < Duration::from_millis(100) {
            problems
                .push("interval: at least 100ms, so that iterations leave room for reading".into());
        }
        if !(1 << 16..=1 << 30).contains(&self.file_bytes_max) {
            problems.push("file-bytes-max: from 65536 (64 KiB) to 1073741824 (1 GiB)".into());
        }
        if self.compact_files == 1 {
            problems.push("compact-files: 0 for none, or at least 2".into());
        }
        problems
    }

    /// The archiver's part.
    pub fn archiver(&self) -> archiver::Config {
        archiver::Config { file_bytes_max: self.file_bytes_max }
    }

    /// The batcher's part; the number of cores is asked for here.
    pub fn batcher(&self) -> batcher::Config {
        let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let workers = NonZeroUsize::new(self.workers).unwrap_or_else(cores);
        let (compact_files, generations_kept) = (self.compact_files, self.generations_kept);
        batcher::Config { workers, compact_files, generations_kept, ..batcher::Config::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_reads_back() {
        let config = Config::default();
        assert!(config.validate().is_empty());
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(
            text,
            r#"{"interval":"10m","file-bytes-max":67108864,"workers":0,"compact-files":8,"generations-kept":1}"#
        );
        assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), config);
    }

    #[test]
    fn unknown_keys_are_refused_and_all_problems_are_named() {
        assert!(serde_json::from_str::<Config>(r#"{"file-byte-max":1}"#).is_err());
        let config = Config {
            interval: Duration::ZERO,
            file_bytes_max: 1,
            compact_files: 1,
            ..Config::default()
        };
        assert_eq!(config.validate().len(), 3);
    }
}
