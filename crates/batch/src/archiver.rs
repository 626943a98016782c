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
            if !links.is_empty() {
                // Who archived them may have been killed before its fsync of the folder: nobody may build on a name
                // that is lost with the next loss of power.
                let folder = master::folder(&data_dir, partition);
                files.sync_dir(&folder).map_err(Error::io("sync", &folder))?;
            }
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
        self.each_chain(|archiver, at| {
            let end = archiver.raw.end(&archiver.chains[at].partition)?;
            archiver.fill(at, end)?;
            if archiver.chains[at].pending.bytes() >= archiver.config.file_bytes_max {
                archived.extend(archiver.publish(at)?);
            }
            Ok(())
        })?;
        Ok(if archived.is_empty() { Step::Idle } else { Step::Archived(archived) })
    }

    /// Archives everything that was readable when it was called, and returns the ends of the chains.
    ///
    /// # Errors
    /// Those of [`Archiver::step`]; the other partitions are archived even so.
    pub fn flush(&mut self) -> Result<Cut, Error> {
        let mut ends = Vec::new();
        for chain in &self.chains {
            ends.push(self.raw.end(&chain.partition)?);
        }
        self.each_chain(|archiver, at| {
            while archiver.chains[at].end < ends[at] {
                archiver.fill(at, ends[at])?;
                if archiver.chains[at].pending.records() == 0 {
                    // Offsets without records at the end of the stream: the next file covers them.
                    break;
                }
                archiver.publish(at)?;
            }
            Ok(())
        })?;
        Ok(self.end())
    }

    /// Does the same for each partition, whatever becomes of the others; the first error, if there was one.
    fn each_chain(
        &mut self,
        mut archive: impl FnMut(&mut Archiver, usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut first = Ok(());
        for at in 0..self.chains.len() {
            first = first.and(archive(self, at));
        }
        first
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
                let theirs = master::verify(self.files.as_ref(), &self.data_dir, &partition, from)?
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::MemoryDisk;
    use bytes::Bytes;
    use futures::executor::block_on;
    use proptest::prelude::*;
    use std::path::Path;
    use stream::Record;
    use stream::memory::Memory;

    const DATA: &str = "/d";

    fn append(raw: &Memory, partition: usize, records: &[&str]) {
        let records = records.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect();
        block_on(raw.append(&raw.partitions()[partition], records)).unwrap();
    }

    fn open(raw: &Memory, disk: &MemoryDisk, from: &Cut, file_bytes_max: u64) -> Archiver {
        let (raw, files) = (Arc::new(raw.clone()), Arc::new(disk.clone()));
        Archiver::new(raw, files, DATA.into(), from, Config { file_bytes_max }).unwrap()
    }

    /// All archived records of a partition, found along the chain from the beginning.
    fn archived(disk: &MemoryDisk, partition: &Partition) -> Vec<Record> {
        let (data, beginning) = (Path::new(DATA), Offset::BEGINNING);
        let mut records = Vec::new();
        for link in master::chain(disk, data, partition, beginning, beginning).unwrap() {
            let mut reader =
                master::Reader::open(disk, data, partition, link.range.from).unwrap().unwrap();
            while let Some(frame) = reader.read_frame().unwrap() {
                records.extend(frame);
            }
        }
        records
    }

    fn all(raw: &Memory, partition: &Partition) -> Vec<Record> {
        raw.read(partition, Offset::BEGINNING, usize::MAX).unwrap().records
    }

    #[test]
    fn a_step_archives_whole_files_only_and_a_flush_the_rest() {
        let (raw, disk) = (Memory::new("raw", 2), MemoryDisk::default());
        let mut archiver = open(&raw, &disk, &Cut::default(), 10);
        append(&raw, 0, &["aaaa", "bbbb"]);
        append(&raw, 1, &["cccc"]);
        assert_eq!(archiver.step().unwrap(), Step::Idle);
        append(&raw, 0, &["dddd", "eeee"]);
        let Step::Archived(files) = archiver.step().unwrap() else { panic!("nothing archived") };
        assert_eq!(files.iter().map(|file| file.records).collect::<Vec<_>>(), [3]);
        let end = archiver.flush().unwrap();
        assert_eq!(end, archiver.end());
        for partition in raw.partitions() {
            assert_eq!(end.of(partition), raw.end(partition).unwrap());
            assert_eq!(archived(&disk, partition), all(&raw, partition));
        }
        assert_eq!(archiver.step().unwrap(), Step::Idle);
        assert_eq!(archiver.flush().unwrap(), end);
    }

    #[test]
    fn a_partition_with_a_hole_does_not_hold_up_the_others() {
        let (raw, disk) = (Memory::new("raw", 2), MemoryDisk::default());
        let mut archiver = open(&raw, &disk, &Cut::default(), 10);
        append(&raw, 0, &["aaaa", "bbbb"]);
        append(&raw, 1, &["cccc"]);
        raw.trim(&raw.partitions()[0], Offset::from_number(1)).unwrap();
        let error = archiver.flush().unwrap_err();
        assert!(matches!(error, Error::Hole { .. }), "{error}");
        let whole = &raw.partitions()[1];
        assert_eq!(archived(&disk, whole), all(&raw, whole));
    }

    /// The name that a killed archiver gave is not durable before its fsync of the folder.
    #[test]
    fn what_an_archiver_says_is_there_survives_a_kill_before_and_a_loss_of_power_after() {
        let mut has_died = true;
        for operations in 0.. {
            if !has_died {
                break;
            }
            let (raw, disk) = (Memory::new("raw", 1), MemoryDisk::default());
            let partition = &raw.partitions()[0];
            append(&raw, 0, &["aaaa", "bbbb"]);
            let mut killed = open(&raw, &disk, &Cut::default(), 100);
            disk.die_after(operations);
            let _ = killed.flush();
            has_died = disk.revive();
            let mut archiver = open(&raw, &disk, &Cut::default(), 100);
            assert_eq!(archiver.flush().unwrap().of(partition), raw.end(partition).unwrap());
            disk.restart();
            assert_eq!(archived(&disk, partition), all(&raw, partition), "{operations}");
        }
    }

    #[test]
    fn an_idle_archiver_writes_no_file() {
        let (raw, disk) = (Memory::new("raw", 1), MemoryDisk::default());
        let mut archiver = open(&raw, &disk, &Cut::default(), 10);
        assert_eq!(archiver.flush().unwrap(), Cut::default());
        assert_eq!(disk.names(), Vec::<PathBuf>::new());
    }

    #[test]
    fn two_archivers_are_harmless() {
        let (raw, disk) = (Memory::new("raw", 1), MemoryDisk::default());
        let mut a = open(&raw, &disk, &Cut::default(), 8);
        let mut b = open(&raw, &disk, &Cut::default(), 12);
        let partition = raw.partitions()[0].clone();
        for round in 0..10 {
            append(&raw, 0, &["1234", "5678", "9"]);
            if round % 3 == 0 {
                a.flush().unwrap();
            }
            b.step().unwrap();
            a.step().unwrap();
        }
        assert_eq!(a.flush().unwrap(), b.flush().unwrap());
        assert_eq!(archived(&disk, &partition), all(&raw, &partition));
    }

    #[test]
    fn two_archivers_in_two_threads_are_harmless() {
        let (raw, disk) = (Memory::new("raw", 1), MemoryDisk::default());
        let partition = raw.partitions()[0].clone();
        for n in 0..300 {
            append(&raw, 0, &[&format!("{n:04}")]);
        }
        let mut archivers = [8, 20].map(|bytes| open(&raw, &disk, &Cut::default(), bytes));
        std::thread::scope(|scope| {
            for archiver in &mut archivers {
                scope.spawn(|| archiver.flush().unwrap());
            }
        });
        assert_eq!(archived(&disk, &partition), all(&raw, &partition));
    }

    #[test]
    fn what_the_raw_stream_lost_before_it_was_archived_is_a_hole() {
        let (raw, disk) = (Memory::new("raw", 1), MemoryDisk::default());
        append(&raw, 0, &["a", "b", "c"]);
        raw.trim(&raw.partitions()[0], Offset::from_number(2)).unwrap();
        let error = open(&raw, &disk, &Cut::default(), 8).flush().unwrap_err();
        let Error::Hole { partition, from, to, .. } = &error else { panic!("{error}") };
        assert_eq!((partition.as_str(), from.number(), to.number()), ("raw/0", 0, 2));
    }

    #[test]
    fn the_chain_goes_on_in_an_archiver_that_starts_later() {
        let (raw, disk) = (Memory::new("raw", 1), MemoryDisk::default());
        let partition = raw.partitions()[0].clone();
        append(&raw, 0, &["a", "b"]);
        let cut = open(&raw, &disk, &Cut::default(), 8).flush().unwrap();
        append(&raw, 0, &["c"]);
        let end = open(&raw, &disk, &Cut::default(), 8).flush().unwrap();
        assert_eq!(open(&raw, &disk, &cut, 8).end(), end);
        raw.trim(&partition, end.of(&partition)).unwrap();
        append(&raw, 0, &["d"]);
        open(&raw, &disk, &cut, 8).flush().unwrap();
        let texts: Vec<_> = archived(&disk, &partition).into_iter().map(|r| r.bytes).collect();
        assert_eq!(texts, ["a", "b", "c", "d"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn a_killed_archiver_leaves_a_chain_that_the_next_one_completes(
            sizes in proptest::collection::vec(1usize..12, 1..20),
            deaths in proptest::collection::vec(0u64..40, 0..4),
        ) {
            let (raw, disk) = (Memory::new("raw", 1), MemoryDisk::default());
            let partition = raw.partitions()[0].clone();
            for size in &sizes {
                append(&raw, 0, &[&"x".repeat(*size)]);
            }
            for death in deaths {
                disk.die_after(death);
                let (raw, files) = (Arc::new(raw.clone()), Arc::new(disk.clone()));
                let config = Config { file_bytes_max: 16 };
                let _ = Archiver::new(raw, files, DATA.into(), &Cut::default(), config)
                    .and_then(|mut archiver| archiver.flush());
                disk.restart();
            }
            open(&raw, &disk, &Cut::default(), 16).flush().unwrap();
            prop_assert_eq!(archived(&disk, &partition), all(&raw, &partition));
        }
    }
}
