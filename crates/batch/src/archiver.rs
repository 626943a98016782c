//! Copies raw records into the master dataset: from the published cut along the chain of files to its end, then from
//! the raw stream into new files.
//!
//! The batch service calls it; an offline command or the simulator may step it. It keeps no state on disk but the files
//! themselves, so a killed archiver starts again from their chain, and two archivers at once are harmless: a name is
//! created once, and who finds it taken goes on from the end of the file that has it.

use std::path::PathBuf;
use std::sync::Arc;

use model::cut::Cut;
use model::files::{Files, Published};
use model::position::{Offset, Partition};
use stream::Stream;

use crate::Error;
use crate::master::{self, Footer, Writer};

/// One read of the raw stream; bounds what is held beside the file being built.
const READ_BYTES: usize = 1 << 20;

/// Bounds of a file.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// A file is closed when its records reach this many bytes, uncompressed.
    pub file_bytes_max: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config { file_bytes_max: 64 << 20 }
    }
}

/// What a step did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// These files were added to the chain; there may be more to archive.
    Archived(Vec<Footer>),
    /// No partition has enough for a whole file; what it has is held in memory until there is, or until a flush.
    Idle,
}

/// Archives all partitions of one raw stream.
pub struct Archiver {
    raw: Arc<dyn Stream>,
    files: Arc<dyn Files>,
    data_dir: PathBuf,
    config: Config,
    chains: Vec<Chain>,
}

/// One partition: the end of its chain, and the file that is being built beyond it.
struct Chain {
    partition: Partition,
    end: Offset,
    pending: Writer,
    /// The first offset not yet read from the stream; `pending` covers [`end`, `next`).
    next: Offset,
}

impl Archiver {
    /// Follows the chains from `from` (the published cut) to their ends.
    pub fn new(
        raw: Arc<dyn Stream>,
        files: Arc<dyn Files>,
        data_dir: PathBuf,
        from: &Cut,
        config: Config,
    ) -> Result<Archiver, Error> {
        let mut chains = Vec::new();
        for partition in raw.partitions() {
            let start = from.of(partition);
            let links = master::chain(files.as_ref(), &data_dir, partition, start, start)?;
            let end = links.last().map_or(start, |link| link.range.to);
            chains.push(Chain::at(partition.clone(), end));
        }
        Ok(Archiver { raw, files, data_dir, config, chains })
    }

    /// The ends of the chains: all below is in the master dataset, durably.
    pub fn end(&self) -> Cut {
        self.chains.iter().map(|chain| (chain.partition.clone(), chain.end)).collect()
    }

    /// Reads on, and archives at most one file per partition that has enough for a whole one.
    ///
    /// # Errors
    /// [`Error::Hole`] when the raw stream no longer has what follows the chain.
    pub fn step(&mut self) -> Result<Step, Error> {
        let mut archived = Vec::new();
        for at in 0..self.chains.len() {
            let end = self.raw.end(&self.chains[at].partition)?;
            self.fill(at, end)?;
            if self.chains[at].pending.bytes() >= self.config.file_bytes_max {
                archived.extend(self.publish(at)?);
            }
        }
        Ok(if archived.is_empty() { Step::Idle } else { Step::Archived(archived) })
    }

    /// Archives everything that was readable when it was called, and returns the ends of the chains.
    pub fn flush(&mut self) -> Result<Cut, Error> {
        let mut ends = Vec::new();
        for chain in &self.chains {
            ends.push(self.raw.end(&chain.partition)?);
        }
        for (at, end) in ends.into_iter().enumerate() {
            while self.chains[at].end < end {
                self.fill(at, end)?;
                if self.chains[at].pending.records() == 0 {
                    // Offsets without records at the end of the stream: the next file covers them.
                    break;
                }
                self.publish(at)?;
            }
        }
        Ok(self.end())
    }

    /// Reads records below `until` until the pending file is full.
    fn fill(&mut self, at: usize, until: Offset) -> Result<(), Error> {
        let file_bytes_max = self.config.file_bytes_max;
        let chain = &mut self.chains[at];
        while chain.next < until && chain.pending.bytes() < file_bytes_max {
            let kept_from = self.raw.start(&chain.partition)?;
            if chain.next < kept_from {
                let path = master::path(&self.data_dir, &chain.partition, chain.end);
                let (partition, from) = (chain.partition.clone(), chain.next);
                return Err(Error::Hole { partition, from, to: kept_from, path });
            }
            let room = file_bytes_max - chain.pending.bytes();
            let bytes_max = usize::try_from(room).unwrap_or(READ_BYTES).min(READ_BYTES);
            let chunk = self.raw.read(&chain.partition, chain.next, bytes_max)?;
            for record in &chunk.records {
                chain.pending.push(record);
            }
            if chunk.next == chain.next {
                break;
            }
            chain.next = chunk.next;
        }
        Ok(())
    }

    /// Publishes the pending file. When another archiver was faster, its file is checked and the chain goes on there.
    fn publish(&mut self, at: usize) -> Result<Option<Footer>, Error> {
        let chain = &mut self.chains[at];
        let (partition, from, to) = (chain.partition.clone(), chain.end, chain.next);
        // If the disk fails, what was pending is read from the stream again.
        let pending = std::mem::replace(chain, Chain::at(partition.clone(), from)).pending;
        let (content, footer) = pending.finish(to);
        match master::publish(self.files.as_ref(), &self.data_dir, &content, &footer)? {
            Published::New => {
                self.chains[at] = Chain::at(partition, to);
                tracing::debug!(file = footer.name(), records = footer.records, "archived");
                Ok(Some(footer))
            }
            Published::Taken => {
                let path = master::path(&self.data_dir, &partition, from);
                let theirs =
                    master::verify(self.files.as_ref(), &self.data_dir, &partition, from)?
                        .ok_or_else(|| Error::damaged(&path, "it was there and is gone"))?;
                self.chains[at] = Chain::at(partition, theirs.range.to);
                Ok(None)
            }
        }
    }
}

impl Chain {
    fn at(partition: Partition, end: Offset) -> Chain {
        Chain { pending: Writer::new(partition.clone(), end), partition, end, next: end }
    }
}
