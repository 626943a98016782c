//! Makes a damaged partition whole again: rewrites each damaged segment with the records that can still be read, and
//! fills the positions between them with what the caller gives.
//!
//! Called by `snowmelt stream repair` on a log that no process has open. The caller decides what stands at a lost
//! position: the record itself, from an archive, or a record that says that one was lost. Nothing is thrown away: the
//! damaged file stays beside its successor as `<base>.damaged`. Each file is replaced in one step, in order, so that a
//! repair that is killed leaves a log that can be repaired.

use std::io;
use std::path::{Path, PathBuf};

use model::files::{File, Files};
use model::position::Offset;

use super::entry::{self, Entry};
use super::salvage;
use super::segment::{self, Header, RECORDS_AT, io_error};
use super::survey::{Part, Survey};
use super::{Durability, SegmentIds};
use crate::{Chunk, Error, Record};

/// The new file while it is written.
const PREPARED: &str = "repair.prepared";

/// Where positions of unknown files are laid into more than one new file.
const SEGMENT_BYTES_MAX: usize = 64 << 20;

/// One file that was written.
#[derive(Clone, Debug)]
pub struct Repaired {
    pub path: PathBuf,
    /// Where the damaged file lies now, if there was one.
    pub kept: Option<PathBuf>,
    /// Records that were read from the damaged file, and those that came from the caller.
    pub records_kept: u64,
    pub records_filled: u64,
}

/// Replaces every damaged file that `survey` found. `fill` is asked for lost positions: it returns records of
/// [`from`, `next`) with `next` above `from` and at most `to`, as [`crate::Stream::read`] does. It leaves out only what
/// never was a record, which only happens between two files.
///
/// # Errors
/// [`Error::Io`], and those of `fill`; files that were replaced before stay replaced.
pub fn repair<E: From<Error>>(
    files: &dyn Files,
    survey: &Survey,
    segment_ids: &SegmentIds,
    mut fill: impl FnMut(Offset, Offset) -> Result<Chunk, E>,
) -> Result<Vec<Repaired>, E> {
    let Some(dir) = survey.parts.first().and_then(|part| part.path.parent()) else {
        return Ok(Vec::new());
    };
    discard(files, &dir.join(PREPARED))?;
    let mut repair = Repair { files, dir, survey, segment_ids, done: Vec::new(), before: None };
    let mut next_batch = 0;
    for part in &survey.parts {
        if part.is_damaged {
            repair.replace(part, next_batch, &mut fill)?;
        } else {
            repair.before = part.base;
        }
        next_batch = part.last_batch.map_or(next_batch, |last| last + 1);
    }
    Ok(repair.done)
}

struct Repair<'a> {
    files: &'a dyn Files,
    dir: &'a Path,
    survey: &'a Survey,
    segment_ids: &'a SegmentIds,
    done: Vec<Repaired>,
    /// The base of the segment before.
    before: Option<u64>,
}

impl Repair<'_> {
    fn replace<E: From<Error>>(
        &mut self,
        part: &Part,
        next_batch: u64,
        fill: &mut impl FnMut(Offset, Offset) -> Result<Chunk, E>,
    ) -> Result<(), E> {
        let content = match part.is_there {
            true => {
                let read = self.files.read(&part.path);
                read.map_err(|error| io_error("read", &part.path, error))?
            }
            false => Vec::new(),
        };
        let begins = part.header.as_ref().map_or(part.begins, |header| header.predecessor_end);
        let first_batch = part.header.as_ref().map_or(next_batch, |header| header.first_batch);
        let mut segment = self.begin(part, part.base.unwrap_or(begins), begins, first_batch);
        // Below its first record a file has none, whatever it answers for.
        let mut position = part.base.map_or(begins, |base| base.max(begins));
        let ends = std::iter::once((part.ends, None));
        let stops = part.runs.iter().map(|run| (run.from, Some(run))).chain(ends);
        for (stop, run) in stops {
            while position < stop {
                let wanted = (Offset::from_number(position), Offset::from_number(stop));
                let chunk = fill(wanted.0, wanted.1)?;
                for Record { offset, bytes } in &chunk.records {
                    let is_gap = offset.number() != segment.next;
                    let is_full = segment.content.len() >= SEGMENT_BYTES_MAX;
                    if part.base.is_none() && (is_gap || is_full) {
                        let ended = segment.next;
                        let batch = segment.header.first_batch + 1;
                        let next = self.begin(part, offset.number(), ended, batch);
                        self.publish(std::mem::replace(&mut segment, next), part)?;
                        segment.header.predecessor_base = self.before;
                    }
                    segment.push(offset.number(), bytes, &part.path)?;
                    segment.filled += 1;
                }
                position = chunk.next.number().clamp(position + 1, stop);
            }
            for (offset, bytes) in
                run.into_iter().flat_map(|run| salvage::records_of(&content, part.id, run))
            {
                segment.push(offset, bytes, &part.path)?;
                segment.kept += 1;
                position = offset + 1;
            }
        }
        self.publish(segment, part).map_err(E::from)
    }

    fn begin(&self, part: &Part, base: u64, predecessor_end: u64, first_batch: u64) -> Laid {
        let header = part.header.as_ref();
        let id = self.segment_ids.next();
        let predecessor_base = header.map_or(self.before, |header| header.predecessor_base);
        let header = Header {
            id,
            base,
            predecessor_base,
            predecessor_end,
            first_batch,
            capacity_bytes: 0,
            durability: header.map_or(Durability::Synced, |header| header.durability),
            partition: self.survey.partition.as_str().to_owned(),
        };
        let content = vec![0; RECORDS_AT as usize];
        Laid { header, content, next: base, index: 0, kept: 0, filled: 0 }
    }

    /// Writes a segment and gives it its name, in place of the damaged file if that has it.
    fn publish(&mut self, mut segment: Laid, part: &Part) -> Result<(), Error> {
        let path = self.dir.join(segment::file_name(segment.header.base));
        let is_empty_extra = part.base.is_none() && segment.kept + segment.filled == 0;
        if is_empty_extra {
            return Ok(());
        }
        let bytes = segment.content.len().max(2 * RECORDS_AT as usize);
        segment.content.resize(bytes, 0);
        segment.header.capacity_bytes = bytes as u64;
        segment.content[..RECORDS_AT as usize].copy_from_slice(&segment.header.encode());
        let prepared = self.dir.join(PREPARED);
        let written = self.files.create(&prepared).and_then(|file: Box<dyn File>| {
            file.write_all_at(&segment.content, 0).and_then(|()| file.sync())
        });
        if let Err(error) = written {
            // The space is worth more than the reason why it cannot be given back.
            let _ = self.files.remove(&prepared);
            return Err(io_error("write", &prepared, error));
        }
        let kept = match part.is_there && path == part.path {
            true => Some(self.keep(&path)?),
            false => None,
        };
        self.files
            .rename(&prepared, &path)
            .and_then(|()| self.files.sync_dir(self.dir))
            .map_err(|error| io_error("replace", &path, error))?;
        self.before = Some(segment.header.base);
        self.done.push(Repaired {
            path,
            kept,
            records_kept: segment.kept,
            records_filled: segment.filled,
        });
        Ok(())
    }

    /// Gives a damaged file a second name: `<base>.damaged`, with a number if there is one already.
    fn keep(&self, path: &Path) -> Result<PathBuf, Error> {
        for attempt in 0.. {
            let kept = match attempt {
                0 => path.with_extension("damaged"),
                _ => path.with_extension(format!("{attempt}.damaged")),
            };
            match self.files.hard_link(path, &kept) {
                Ok(()) => {
                    let synced = self.files.sync_dir(self.dir);
                    return synced
                        .map(|()| kept)
                        .map_err(|error| io_error("sync", self.dir, error));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(io_error("link", &kept, error)),
            }
        }
        unreachable!("there are more numbers than files")
    }
}

fn discard(files: &dyn Files, path: &Path) -> Result<(), Error> {
    match files.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("remove", path, error))
        }
        _ => Ok(()),
    }
}

/// A segment in memory. All of its records are one log batch.
struct Laid {
    header: Header,
    content: Vec<u8>,
    /// The offset that the next record must have.
    next: u64,
    index: u32,
    kept: u64,
    filled: u64,
}

impl Laid {
    /// # Errors
    /// When the record does not follow the one before: in one segment there are no gaps.
    fn push(&mut self, offset: u64, bytes: &[u8], path: &Path) -> Result<(), Error> {
        if offset != self.next {
            let what = format!("nothing fills the position {}", Offset::from_number(self.next));
            return Err(Error::Damaged {
                path: path.to_owned(),
                at: self.content.len() as u64,
                what,
            });
        }
        let Header { id, first_batch, .. } = self.header;
        let entry = Entry { offset, batch: first_batch, index: self.index, bytes };
        entry::encode(&mut self.content, id, &entry);
        self.next += 1;
        self.index += 1;
        Ok(())
    }
}
