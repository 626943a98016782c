//! How far an iteration or a rebuild has come. Written by the workers, read by the status; also the way to stop them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::Error;

/// How far the present work has come, for status and logs; also the way to stop it.
#[derive(Debug, Default)]
pub struct Progress {
    files_done: AtomicU64,
    files: AtomicU64,
    records_done: AtomicU64,
    records: AtomicU64,
    stop: AtomicBool,
}

/// The numbers of a [`Progress`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Done {
    pub files_done: u64,
    pub files: u64,
    pub records_done: u64,
    pub records: u64,
}

impl Progress {
    pub fn done(&self) -> Done {
        Done {
            files_done: self.files_done.load(Ordering::Relaxed),
            files: self.files.load(Ordering::Relaxed),
            records_done: self.records_done.load(Ordering::Relaxed),
            records: self.records.load(Ordering::Relaxed),
        }
    }

    /// Ends the present work, and all that comes later, with [`Error::Stopped`] at its next step.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(crate) fn check_stop(&self) -> Result<(), Error> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::Stopped { why: "shut down".to_owned() });
        }
        Ok(())
    }

    pub(crate) fn add_records(&self, records: u64) {
        self.records_done.fetch_add(records, Ordering::Relaxed);
    }

    pub(crate) fn begin(&self, files: u64, records: u64) {
        self.files_done.store(0, Ordering::Relaxed);
        self.records_done.store(0, Ordering::Relaxed);
        self.files.store(files, Ordering::Relaxed);
        self.records.store(records, Ordering::Relaxed);
    }

    /// Logs about twenty times in a long run, and not at all in a short one.
    pub(crate) fn file_done(&self) {
        let done = self.files_done.fetch_add(1, Ordering::Relaxed) + 1;
        let files = self.files.load(Ordering::Relaxed);
        let step_reached = done * 20 / files.max(1) > (done - 1) * 20 / files.max(1);
        if files >= 8 && step_reached {
            let (records, of) =
                (self.records_done.load(Ordering::Relaxed), self.records.load(Ordering::Relaxed));
            tracing::info!(
                files_done = done,
                files,
                records_done = records,
                records = of,
                "files of the master dataset enriched"
            );
        }
    }
}
