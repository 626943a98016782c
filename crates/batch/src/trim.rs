//! Lets the raw stream forget what the master dataset has and no reader needs.
//!
//! The batch service calls it after each iteration. That a published manifest covers a range says that it was archived
//! and read back once; a disk may have lost a file since, and then the raw stream has the only copy. So the files of
//! what is about to be forgotten are read once more.

use std::path::PathBuf;
use std::sync::Arc;

use model::cut::Cut;
use model::files::Files;
use model::position::{Offset, Partition};
use stream::Stream;
use views::catalog::Manifest;

use crate::{Error, master};

/// Trims raw streams of one data folder.
pub struct Trimmer {
    files: Arc<dyn Files>,
    data_dir: PathBuf,
    /// For each partition a file of the master dataset that begins at or below what the raw stream still has: from there
    /// the chain is followed.
    begins: Cut,
}

impl Trimmer {
    pub fn new(files: Arc<dyn Files>, data_dir: PathBuf) -> Trimmer {
        Trimmer { files, data_dir, begins: Cut::default() }
    }

    /// Trims below the smaller of the published cut and the oldest cut that a reader still has pinned. The stream may keep
    /// more.
    ///
    /// # Errors
    /// [`Error::Hole`] or [`Error::Damaged`] when the master dataset does not have, whole, what would be forgotten: that
    /// partition is left as it is, and the others are trimmed.
    pub fn trim(
        &mut self,
        raw: &dyn Stream,
        published: &Manifest,
        oldest_pinned: &Cut,
    ) -> Result<(), Error> {
        let bound = published.cut.meet(oldest_pinned);
        let mut result = Ok(());
        for partition in raw.partitions() {
            let (start, below) = (raw.start(partition)?, bound.of(partition));
            if below > start {
                match self.prove(partition, start, below) {
                    Ok(()) => raw.trim(partition, below)?,
                    Err(error) => result = Err(error),
                }
            }
        }
        result
    }

    /// Reads every file that has something of [`start`, `below`).
    fn prove(&mut self, partition: &Partition, start: Offset, below: Offset) -> Result<(), Error> {
        let (files, data_dir) = (self.files.as_ref(), &self.data_dir);
        let mut at = self.begins.of(partition);
        while at < below {
            let footer = match master::Footer::read(files, data_dir, partition, at)? {
                Some(footer) if footer.range.to <= start => Some(footer),
                Some(_) => master::verify(files, data_dir, partition, at)?,
                None => None,
            };
            let Some(footer) = footer else {
                let path = master::path(data_dir, partition, at);
                return Err(Error::Hole {
                    partition: partition.clone(),
                    from: at,
                    to: below,
                    path,
                });
            };
            if footer.range.to <= start {
                self.begins.raise(partition, footer.range.to);
            }
            at = footer.range.to;
        }
        Ok(())
    }
}
