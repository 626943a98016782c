//! The one writer of a partition: lays batches into the active segment, syncs, and only then shows them to readers.
//!
//! Called by the partition's thread or, inline, by the appender; never by two at once. What a failed write or sync leaves
//! behind is unknown, so the segment is closed for good and the next one says where its durable part ends.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use model::files::{File, Files};

use super::entry::{self, Entry};
use super::partition::Shared;
use super::segment::{self, Header, NUMBER_MAX, RECORDS_AT, Segment, io_error, is_full};
use super::{Drive, Durability};
use crate::Error;

/// The state of appending.
#[derive(Debug)]
pub(crate) struct Writer {
    active: Active,
    /// Above every offset that was ever handed out.
    next_offset: u64,
    next_batch: u64,
    /// The readable end.
    end: u64,
    /// What a loss of power leaves: always the readable end where each batch is synced.
    durable_end: u64,
    unsynced_bytes: u64,
    health: Health,
    /// The encoded batch; kept for its memory.
    encoded: Vec<u8>,
    preparing: Option<JoinHandle<io::Result<Prepared>>>,
}

/// The segment that takes records.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) segment: Arc<Segment>,
    pub(crate) file: Arc<dyn File>,
    /// Where the next record will begin.
    pub(crate) at: u64,
    /// The length of the file.
    pub(crate) file_bytes: u64,
}

#[derive(Debug)]
enum Health {
    Good,
    /// The active segment is closed for good, and there was no room for the next one.
    Closed,
    /// Until restart; with the reason.
    Poisoned(String),
}

/// A file of zeros that will be a segment.
#[derive(Debug)]
struct Prepared {
    file: Arc<dyn File>,
    bytes: u64,
}

/// Why there is no next segment.
#[derive(Debug)]
pub(crate) enum NoSegment {
    /// Try again with the next append.
    Now(Error),
    /// The folder is in an unknown state.
    Ever(Error),
}

/// Larger buffers are given back after use.
const ENCODED_BYTES_KEPT: usize = 4 << 20;

impl Writer {
    pub(crate) fn new(active: Active, next_offset: u64, next_batch: u64, end: u64) -> Writer {
        Writer {
            active,
            next_offset,
            next_batch,
            end,
            durable_end: end,
            unsynced_bytes: 0,
            health: Health::Good,
            encoded: Vec::new(),
            preparing: None,
        }
    }

    /// Writes one batch and returns the offset of its first record. When this returns, the batch is as durable as the
    /// options say and readable, or it will never be read while the log is open.
    pub(crate) fn commit(&mut self, shared: &Shared, records: &[Bytes]) -> Result<u64, Error> {
        if let Health::Poisoned(reason) = &self.health {
            return Err(poisoned(shared, reason));
        }
        if self.next_offset + records.len() as u64 > NUMBER_MAX || self.next_batch >= NUMBER_MAX {
            return Err(poisoned(shared, "it has come to the end of its offsets or batches"));
        }
        check_reserve(shared)?;
        let bytes: u64 = records.iter().map(|record| entry::stored_bytes(record.len())).sum();
        self.make_room(shared, bytes)?;

        let first = self.next_offset;
        self.encode(records);
        // Handed out from here on, whatever becomes of the write.
        self.next_offset += records.len() as u64;
        self.next_batch += 1;
        if let Err(error) = self.active.file.write_all_at(&self.encoded, self.active.at) {
            return Err(self.close_segment(shared, "write", error));
        }
        self.learn_places(first, records);
        self.active.at += bytes;
        self.unsynced_bytes += bytes;
        let sync_is_due = match shared.options.durability {
            Durability::Synced => true,
            Durability::Relaxed => self.unsynced_bytes >= shared.options.relaxed_sync_bytes,
        };
        if sync_is_due {
            if let Err(error) = self.active.file.sync() {
                return Err(self.close_segment(shared, "sync", error));
            }
            self.unsynced_bytes = 0;
            self.durable_end = self.next_offset;
        }
        self.end = self.next_offset;
        shared.publish(|tail| {
            tail.end = self.end;
            tail.end_at = self.active.at;
        });
        self.prepare_ahead(shared);
        Ok(first)
    }

    /// Makes everything durable that was written, and gives back what was prepared.
    pub(crate) fn finish(&mut self, shared: &Shared) {
        if let Some(preparing) = self.preparing.take() {
            // The next start removes it if this fails.
            drop(preparing.join());
            let _ = segment::discard_prepared(&*shared.files, &shared.dir);
        }
        if self.unsynced_bytes > 0
            && matches!(self.health, Health::Good)
            && let Err(error) = self.active.file.sync()
        {
            tracing::warn!(partition = %shared.partition, file = %self.active.segment.path.display(), %error, "could not sync a relaxed stream at its end");
        }
    }

    /// Sees to it that the active segment has room for so many bytes.
    fn make_room(&mut self, shared: &Shared, bytes: u64) -> Result<(), Error> {
        let is_closed = match self.health {
            Health::Good if self.active.at + bytes <= self.active.file_bytes => return Ok(()),
            Health::Good => false,
            Health::Closed => true,
            Health::Poisoned(_) => unreachable!("a poisoned writer takes no batch"),
        };
        match self.roll(shared, bytes) {
            Ok(()) => Ok(()),
            Err(NoSegment::Now(error @ Error::Full { .. })) => Err(error),
            Err(NoSegment::Now(error)) if !is_closed && matches!(self.health, Health::Good) => {
                Err(error)
            }
            Err(NoSegment::Now(error) | NoSegment::Ever(error)) => Err(self.poison(shared, &error)),
        }
    }

    fn encode(&mut self, records: &[Bytes]) {
        self.encoded.clear();
        self.encoded.shrink_to(ENCODED_BYTES_KEPT);
        let segment_id = self.active.segment.header.id;
        for (index, bytes) in (0..).zip(records) {
            let offset = self.next_offset + u64::from(index);
            let entry = Entry { offset, batch: self.next_batch, index, bytes };
            entry::encode(&mut self.encoded, segment_id, &entry);
        }
    }

    fn learn_places(&self, first: u64, records: &[Bytes]) {
        let mut at = self.active.at;
        for (offset, record) in (first..).zip(records) {
            self.active.segment.learn(offset, at);
            at += entry::stored_bytes(record.len());
        }
    }

    /// After a failed write or sync: nothing is added to this segment, and nothing beyond its durable end is read.
    fn close_segment(&mut self, shared: &Shared, action: &'static str, error: io::Error) -> Error {
        self.health = Health::Closed;
        // The records of a relaxed stream that were written before may still be saved.
        if self.unsynced_bytes > 0 && action == "write" && self.active.file.sync().is_ok() {
            self.durable_end = self.end;
        }
        tracing::error!(
            partition = %shared.partition,
            file = %self.active.segment.path.display(),
            durable_end = self.durable_end,
            %error,
            "closed a segment for good after it could not be {}",
            if action == "sync" { "synced" } else { "written" },
        );
        self.retreat(shared);
        let next = self.roll(shared, 0);
        match next {
            Ok(()) | Err(NoSegment::Now(Error::Full { .. })) => {}
            Err(NoSegment::Now(error) | NoSegment::Ever(error)) => {
                return self.poison(shared, &error);
            }
        }
        if is_full(&error) {
            full(shared)
        } else {
            io_error(action, &self.active.segment.path, error)
        }
    }

    fn poison(&mut self, shared: &Shared, error: &Error) -> Error {
        let reason = match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        tracing::error!(partition = %shared.partition, offset = self.next_offset, file = %self.active.segment.path.display(), reason, "takes no records until the next start");
        let answer = poisoned(shared, &reason);
        shared.counting.poisoned_by(&reason);
        self.health = Health::Poisoned(reason);
        answer
    }

    /// Goes on in a new segment with room for so many bytes.
    pub(crate) fn roll(&mut self, shared: &Shared, bytes: u64) -> Result<(), NoSegment> {
        self.seal(shared);
        let options = &shared.options;
        let needed = RECORDS_AT + bytes;
        let prepared = self
            .prepared(shared, needed)
            .map_err(|error| NoSegment::Now(no_file(shared, error)))?;
        let is_untouched = matches!(self.health, Health::Good)
            && self.active.at == RECORDS_AT
            && self.next_offset == self.active.segment.header.base;
        let before = &self.active.segment.header;
        // A segment that never had a record is replaced rather than followed: its name is taken, and it has no story.
        let (predecessor_base, predecessor_end) = if is_untouched {
            (before.predecessor_base, before.predecessor_end)
        } else {
            (Some(before.base), self.durable_end)
        };
        let header = Header {
            id: options.segment_ids.next(),
            base: self.next_offset,
            predecessor_base,
            predecessor_end,
            first_batch: self.next_batch,
            capacity_bytes: prepared.bytes,
            durability: options.durability,
            partition: shared.partition.as_str().to_owned(),
        };
        let next = install(&*shared.files, &shared.dir, header, &*prepared.file)?;
        let next = Arc::new(next);
        next.set_file(Arc::clone(&prepared.file));
        shared.publish(|tail| {
            if is_untouched {
                tail.segments.pop_back();
            }
            tail.segments.push_back(Arc::clone(&next));
            tail.end_at = RECORDS_AT;
        });
        let sealed = std::mem::replace(
            &mut self.active,
            Active {
                segment: next,
                file: prepared.file,
                at: RECORDS_AT,
                file_bytes: prepared.bytes,
            },
        );
        if is_untouched {
            sealed.segment.close();
        } else {
            shared.opened(&sealed.segment);
        }
        self.health = Health::Good;
        self.unsynced_bytes = 0;
        Ok(())
    }

    /// What is written to a relaxed stream is made durable before a later segment says that it is.
    fn seal(&mut self, shared: &Shared) {
        if self.unsynced_bytes == 0 || !matches!(self.health, Health::Good) {
            return;
        }
        match self.active.file.sync() {
            Ok(()) => self.durable_end = self.end,
            Err(error) => {
                self.health = Health::Closed;
                let durable_end = self.durable_end;
                tracing::error!(partition = %shared.partition, file = %self.active.segment.path.display(), %error, durable_end, "closed a segment for good after it could not be synced");
                self.retreat(shared);
            }
        }
        self.unsynced_bytes = 0;
    }

    /// Takes from the readers what may be lost; only in a relaxed stream is that anything.
    fn retreat(&mut self, shared: &Shared) {
        self.end = self.durable_end;
        shared.publish(|tail| tail.end = self.end);
    }

    /// The prepared file, or a new one.
    fn prepared(&mut self, shared: &Shared, needed: u64) -> io::Result<Prepared> {
        if let Some(preparing) = self.preparing.take()
            && let Ok(Ok(prepared)) = preparing.join()
            && prepared.bytes >= needed
        {
            return Ok(prepared);
        }
        let wanted = self.next_bytes(shared);
        prepare(&*shared.files, &shared.dir, wanted, needed, shared.options.segment_bytes_first)
    }

    fn next_bytes(&self, shared: &Shared) -> u64 {
        let first = shared.options.segment_bytes_first;
        let max = shared.options.segment_bytes_max.max(first);
        (self.active.file_bytes.saturating_mul(2)).clamp(first, max).max(RECORDS_AT * 2)
    }

    /// Lets a thread fill the next file with zeros while there is still room in this one.
    fn prepare_ahead(&mut self, shared: &Shared) {
        let is_threaded = match shared.options.drive {
            Drive::Threads => true,
            Drive::Inline => false,
        };
        if !is_threaded || self.preparing.is_some() || self.active.at < self.active.file_bytes / 2 {
            return;
        }
        let (files, dir) = (Arc::clone(&shared.files), shared.dir.clone());
        let wanted = self.next_bytes(shared);
        let first = shared.options.segment_bytes_first;
        // If there is no thread to be had, the file is made when it is needed.
        self.preparing = std::thread::Builder::new()
            .name("segment".to_owned())
            .spawn(move || prepare(&*files, &dir, wanted, 0, first))
            .ok();
    }
}

/// Makes a file of `wanted` bytes, or where the disk has no room for that, of as few as will do.
fn prepare(
    files: &dyn Files,
    dir: &Path,
    wanted: u64,
    needed: u64,
    first: u64,
) -> io::Result<Prepared> {
    let wanted = wanted.max(needed);
    let least = first.min(wanted).max(needed);
    // What was left of an earlier attempt counts as room.
    segment::discard_prepared(files, dir)?;
    let available = files.space(dir)?.available_bytes;
    let bytes = if available >= wanted { wanted } else { least };
    if available < bytes {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let file = Arc::from(segment::prepare(files, dir, bytes)?);
    Ok(Prepared { file, bytes })
}

/// Makes the very first segment of a partition.
pub(crate) fn first_segment(
    files: &dyn Files,
    dir: &Path,
    header: Header,
) -> Result<Active, Error> {
    let path = dir.join(segment::PREPARED);
    let file: Arc<dyn File> = segment::prepare(files, dir, header.capacity_bytes)
        .map_err(|error| io_error("create", &path, error))?
        .into();
    let file_bytes = header.capacity_bytes;
    let segment = match install(files, dir, header, &*file) {
        Ok(segment) => Arc::new(segment),
        Err(NoSegment::Now(error) | NoSegment::Ever(error)) => return Err(error),
    };
    segment.set_file(Arc::clone(&file));
    Ok(Active { segment, file, at: RECORDS_AT, file_bytes })
}

/// Turns the prepared file into a segment: header, sync, rename, sync of the folder.
fn install(
    files: &dyn Files,
    dir: &Path,
    header: Header,
    file: &dyn File,
) -> Result<Segment, NoSegment> {
    let prepared: PathBuf = dir.join(segment::PREPARED);
    let path = dir.join(segment::file_name(header.base));
    let written = file.write_all_at(&header.encode(), 0).and_then(|()| file.sync());
    written.map_err(|error| NoSegment::Now(io_error("write", &prepared, error)))?;
    files
        .rename(&prepared, &path)
        .map_err(|error| NoSegment::Ever(io_error("rename to", &path, error)))?;
    files.sync_dir(dir).map_err(|error| NoSegment::Ever(io_error("sync", dir, error)))?;
    Ok(Segment::new(path, header))
}

fn no_file(shared: &Shared, error: io::Error) -> Error {
    if is_full(&error) {
        full(shared)
    } else {
        io_error("create", &shared.dir.join(segment::PREPARED), error)
    }
}

/// Refuses to append where the disk has less room than its reserve.
fn check_reserve(shared: &Shared) -> Result<(), Error> {
    if shared.options.disk_reserve_bytes == Some(0) {
        return Ok(());
    }
    let (available_bytes, reserve_bytes) = space(shared)?;
    if available_bytes < reserve_bytes {
        return Err(Error::Full {
            partition: shared.partition.clone(),
            available_bytes,
            reserve_bytes,
        });
    }
    Ok(())
}

/// What is free and what is reserved.
fn space(shared: &Shared) -> Result<(u64, u64), Error> {
    let space = shared
        .files
        .space(&shared.dir)
        .map_err(|error| io_error("ask for room in", &shared.dir, error))?;
    let reserve =
        shared.options.disk_reserve_bytes.unwrap_or((space.total_bytes / 20).max(1 << 30));
    Ok((space.available_bytes, reserve))
}

fn full(shared: &Shared) -> Error {
    let (available_bytes, reserve_bytes) = space(shared).unwrap_or_default();
    Error::Full { partition: shared.partition.clone(), available_bytes, reserve_bytes }
}

fn poisoned(shared: &Shared, reason: &str) -> Error {
    Error::Poisoned { partition: shared.partition.clone(), reason: reason.to_owned() }
}
