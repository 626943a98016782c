//! Keeps requests that are too large to be recorded whole, for an operator to look at or to send again. Snowplow:
//! `collector.md` 6.4.
//!
//! The bad row of such a request holds a tenth of it. With [`config::Oversized::keep`](crate::config::Oversized) its whole
//! payload becomes a file of its own beside, one line of Base64 as `snowmelt enrich --input thrift-base64` reads it. The
//! request is answered when the file is durable, which is begun once its records are: what is refused comes again. A file that cannot be written is counted and told in the log, and the
//! request is answered as without it: its bad row says what happened, and a tracker would only send it again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::causes::Causes;
use model::files::{Files, Published, publish};
use model::time::Timestamp;
use tokio::sync::Semaphore;

use crate::counters::Counters;

/// Files written at a time; other requests wait for their turn, and give up with their timeout.
const TURNS: usize = 4;
const SUFFIX: &str = ".thrift-base64";

/// The folder of kept requests.
#[derive(Clone, Debug)]
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    turns: Arc<Semaphore>,
}

#[derive(Debug)]
struct Shared {
    files: Arc<dyn Files>,
    dir: PathBuf,
    bytes_max: u64,
    /// Free space that is left to others.
    reserve_bytes: u64,
    /// In all files of the folder.
    bytes: AtomicU64,
    /// Makes names differ that were given in one millisecond.
    number: AtomicU64,
    counters: Arc<Counters>,
}

impl Keeper {
    /// Makes the folder, and measures what is in it.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn open(
        files: Arc<dyn Files>,
        dir: PathBuf,
        bytes_max: u64,
        disk_reserve_bytes: Option<u64>,
        counters: Arc<Counters>,
    ) -> std::io::Result<Keeper> {
        files.create_dir_all(&dir)?;
        let total = files.space(&dir)?.total_bytes;
        let shared = Shared {
            bytes: AtomicU64::new(measure(&*files, &dir)?),
            files,
            dir,
            bytes_max,
            reserve_bytes: disk_reserve_bytes.unwrap_or((total / 20).max(1 << 30)),
            number: AtomicU64::new(0),
            counters,
        };
        Ok(Keeper { shared: Arc::new(shared), turns: Arc::new(Semaphore::new(TURNS)) })
    }

    /// Ready when the payload is durable, or is known not to become so.
    pub(crate) async fn keep(self, payload: Vec<u8>, now: Timestamp) {
        // It is never closed.
        let Ok(turn) = self.turns.acquire_owned().await else { return };
        let shared = self.shared;
        let kept = tokio::task::spawn_blocking(move || {
            shared.keep(&payload, now);
            drop(turn);
        });
        if let Err(error) = kept.await {
            tracing::error!(%error, "an oversized request was not kept");
        }
    }
}

impl Shared {
    fn keep(&self, payload: &[u8], now: Timestamp) {
        match self.write(payload, now) {
            Ok(path) => {
                self.counters.kept();
                tracing::warn!(
                    bytes = payload.len(),
                    file = %path.display(),
                    "a request is too large for a record: its bad row holds a part of it, this file all"
                );
            }
            Err(error) => {
                self.counters.not_kept();
                tracing::error!(
                    bytes = payload.len(),
                    dir = %self.dir.display(),
                    error = %Causes(&error),
                    "an oversized request was not kept"
                );
            }
        }
    }

    fn write(&self, payload: &[u8], now: Timestamp) -> std::io::Result<PathBuf> {
        let mut line = STANDARD.encode(payload);
        line.push('\n');
        let bytes = line.len() as u64;
        if self.files.space(&self.dir)?.available_bytes.saturating_sub(bytes) < self.reserve_bytes {
            return Err(std::io::Error::other("the disk has reached `stream.disk-reserve`"));
        }
        if !self.has_room(bytes) {
            // Somebody may have moved files away.
            self.bytes.store(measure(&*self.files, &self.dir)?, Ordering::Relaxed);
        }
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let written = if before.saturating_add(bytes) > self.bytes_max {
            Err(std::io::Error::other(
                "the folder has reached `collector.oversized.max-bytes`: move its files away",
            ))
        } else {
            self.write_new(line.as_bytes(), now)
        };
        if written.is_err() {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        written
    }

    fn has_room(&self, bytes: u64) -> bool {
        self.bytes.load(Ordering::Relaxed).saturating_add(bytes) <= self.bytes_max
    }

    fn write_new(&self, line: &[u8], now: Timestamp) -> std::io::Result<PathBuf> {
        loop {
            let number = self.number.fetch_add(1, Ordering::Relaxed);
            let path = self.dir.join(format!("{:013}-{number}{SUFFIX}", now.0));
            if publish(&*self.files, &path, line)? == Published::New {
                return Ok(path);
            }
        }
    }
}

/// The bytes of all files of the folder.
fn measure(files: &dyn Files, dir: &Path) -> std::io::Result<u64> {
    let names = files.list(dir)?;
    let kept = names.iter().filter(|name| name.ends_with(SUFFIX));
    kept.map(|name| files.open_read(&dir.join(name))?.len()).sum()
}

/// The folder where none is named.
pub(crate) fn default_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("oversized")
}
