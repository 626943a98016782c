//! Lets the raw stream forget what the master dataset has and no reader needs.
//!
//! The batch service calls it after each iteration. That a published manifest covers a range says that it was archived
//! and read back once; a disk may have lost a file since, and then the raw stream has the only copy. So the files of
//! what is about to be forgotten are read once more: they are those that the ledger names. What was forgotten before is
//! not looked at; `stream verify` reads all of it.

use std::path::Path;

use model::cut::Cut;
use model::files::Files;
use model::position::{Offset, Partition};
use stream::Stream;
use views::catalog::{LedgerEntry, Manifest};

use crate::{Error, master};

/// Trims `raw` below the smaller of the published cut and the oldest cut that a reader still has pinned. The stream may
/// keep more.
///
/// # Errors
/// [`Error::Hole`] or [`Error::Damaged`] when the master dataset in `data_dir` does not have, whole, what would be
/// forgotten: that partition is left as it is, and the others are trimmed.
pub fn trim(
    raw: &dyn Stream,
    files: &dyn Files,
    data_dir: &Path,
    published: &Manifest,
    oldest_pinned: &Cut,
) -> Result<(), Error> {
    let bound = published.cut.meet(oldest_pinned);
    let mut result = Ok(());
    for partition in raw.partitions() {
        let (start, below) = (raw.start(partition)?, bound.of(partition));
        if below <= start {
            continue;
        }
        // Without gaps up to the cut: no manifest is published otherwise.
        let mut forgotten = published.ledger.iter().filter(|entry| {
            entry.partition == *partition && entry.from < below && entry.to > start
        });
        match forgotten.try_for_each(|entry| prove(files, data_dir, partition, entry)) {
            Ok(()) => raw.trim(partition, below)?,
            Err(error) => result = Err(error),
        }
    }
    result
}

/// Reads the whole file of this entry.
fn prove(
    files: &dyn Files,
    data_dir: &Path,
    partition: &Partition,
    entry: &LedgerEntry,
) -> Result<(), Error> {
    let (from, to): (Offset, Offset) = (entry.from, entry.to);
    let path = master::path(data_dir, partition, from);
    let Some(footer) = master::verify(files, data_dir, partition, from)? else {
        return Err(Error::Hole { partition: partition.clone(), from, to, path });
    };
    if footer.range.to != to || footer.records != entry.records {
        let what = format!("it covers [{from}, {}), the ledger says {to}", footer.range.to);
        return Err(Error::damaged(&path, what));
    }
    Ok(())
}
