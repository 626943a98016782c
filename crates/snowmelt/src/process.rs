//! The roles of a process as others look at them, put together by [`crate::roles`]: what [`crate::health`] and
//! [`crate::metrics`] are made of, and what the server asks for in [`crate::control`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use collector::counters::Counters;
use collector::meter::Meter;
use collector::sink::store::Store;
use model::files::Files;
use model::position::Partition;
use stream::Stream;
use stream::local::Local;
use views::lambda::Lambda;

use crate::watch::Watch;

/// All roles of a process.
pub(crate) struct Process {
    pub(crate) batch: batch::service::Handle,
    pub(crate) speed: Arc<speed::Running>,
    pub(crate) intake: Intake,
    pub(crate) lambda: Arc<Lambda>,
    pub(crate) answers: Arc<assets::Answers>,
    /// Where enrichments and the files that they read come from.
    pub(crate) enrichments: Arc<assets::enrichments::Source>,
    pub(crate) raw: Arc<Local>,
    pub(crate) files: Arc<dyn Files>,
    pub(crate) data_dir: PathBuf,
    /// `stream.disk-reserve`.
    pub(crate) disk_reserve: Option<u64>,
    /// `batch.interval`.
    pub(crate) interval: Duration,
    pub(crate) watch: Arc<Watch>,
}

/// The collector's account of itself.
#[derive(Clone, Debug)]
pub(crate) struct Intake {
    pub(crate) counters: Arc<Counters>,
    pub(crate) meter: Arc<Meter>,
    /// The way to its sink, and that of bad rows where it is another.
    pub(crate) good: Arc<Store>,
    pub(crate) bad: Option<Arc<Store>>,
}

impl Intake {
    pub(crate) fn of(collector: &collector::server::Running) -> Intake {
        Intake {
            counters: Arc::clone(&collector.counters),
            meter: Arc::clone(&collector.meter),
            good: Arc::clone(&collector.good),
            bad: collector.bad.clone(),
        }
    }
}

/// Bytes of the disk that holds the data folder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) free_bytes: u64,
    pub(crate) reserve_bytes: u64,
}

impl Room {
    /// # Errors
    /// When the system does not tell.
    pub(crate) fn of(
        files: &dyn Files,
        data_dir: &Path,
        disk_reserve: Option<u64>,
    ) -> std::io::Result<Room> {
        let space = files.space(data_dir)?;
        let reserve_bytes = disk_reserve.unwrap_or((space.total_bytes / 20).max(1 << 30));
        Ok(Room { free_bytes: space.available_bytes, reserve_bytes })
    }
}

impl Process {
    /// The partitions of the raw stream.
    pub(crate) fn partitions(&self) -> &[Partition] {
        self.raw.partitions()
    }

    /// The room on the disk of the data folder.
    ///
    /// # Errors
    /// When the system does not tell.
    pub(crate) fn disk(&self) -> std::io::Result<Room> {
        Room::of(&*self.files, &self.data_dir, self.disk_reserve)
    }
}
