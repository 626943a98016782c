//! Reads the records of one segment in order and says where, and why, they end.
//!
//! Used by recovery (up to the tail), by readers (up to the durable end) and by inspection (up to a tail that moves). It
//! does not judge: whether an end is the end of the log, a torn tail or damage depends on what the caller knows.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use model::files::File;

use super::entry::{self, Parsed};
use super::segment::{RECORDS_AT, io_error};
use crate::Error;

/// A place in a segment from which records are read.
#[derive(Debug)]
pub(crate) struct Scan {
    file: Arc<dyn File>,
    segment_id: u64,
    /// Nothing at or beyond this byte is read.
    limit: u64,
    /// How much is read at once.
    window_bytes: usize,
    window: Bytes,
    window_at: u64,
    /// The byte at which the next record begins.
    at: u64,
    /// The offset that the next record must have.
    offset: u64,
    /// Batch and index of the record before, if one was seen.
    before: Option<(u64, u32)>,
}

/// A record, and where it lies.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) offset: u64,
    pub(crate) batch: u64,
    pub(crate) at: u64,
    pub(crate) bytes: Bytes,
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Step {
    Record(Stored),
    /// Only zeros, or the end of the file.
    Nothing,
    /// Not a record that could follow here.
    Invalid(&'static str),
}

impl Scan {
    /// Starts at the record `offset`, which begins at the byte `at`.
    pub(crate) fn new(file: Arc<dyn File>, segment_id: u64, place: (u64, u64), limit: u64) -> Scan {
        Scan {
            file,
            segment_id,
            limit,
            window_bytes: 256 << 10,
            window: Bytes::new(),
            window_at: 0,
            at: place.1,
            offset: place.0,
            before: None,
        }
    }

    pub(crate) fn with_window(mut self, window_bytes: usize) -> Scan {
        self.window_bytes = window_bytes;
        self
    }

    /// The byte at which the next record begins.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// The offset that the next record must have.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Forgets what was read ahead, since the file may have grown in place, and moves the limit.
    pub(crate) fn look_again(&mut self, limit: u64) {
        self.window = Bytes::new();
        self.limit = limit;
    }

    /// The next record. After anything else, the scan stays where it is.
    pub(crate) fn next(&mut self, path: &Path) -> Result<Step, Error> {
        let room = self.limit.saturating_sub(self.at);
        if room == 0 {
            return Ok(Step::Nothing);
        }
        loop {
            let from = usize::try_from(self.at - self.window_at.min(self.at)).unwrap_or(usize::MAX);
            let seen = self.window.get(from..).unwrap_or_default();
            let needed = match entry::parse(seen, room, self.segment_id) {
                Parsed::Nothing => return Ok(Step::Nothing),
                Parsed::Invalid(what) => return Ok(Step::Invalid(what)),
                Parsed::More(needed) => needed,
                Parsed::Entry(found) => {
                    if let Some(what) = self.misplaced(&found) {
                        return Ok(Step::Invalid(what));
                    }
                    let begin = from + entry::HEADER_BYTES;
                    let stored = Stored {
                        offset: found.offset,
                        batch: found.batch,
                        at: self.at,
                        bytes: self.window.slice(begin..begin + found.bytes.len()),
                    };
                    self.before = Some((found.batch, found.index));
                    self.at += entry::stored_bytes(stored.bytes.len());
                    self.offset += 1;
                    return Ok(Step::Record(stored));
                }
            };
            self.fill(needed, path)?;
        }
    }

    fn misplaced(&self, found: &entry::Entry<'_>) -> Option<&'static str> {
        let follows = match self.before {
            None => true,
            Some((batch, index)) if found.batch == batch => {
                index.checked_add(1) == Some(found.index)
            }
            Some((batch, _)) => found.batch > batch && found.index == 0,
        };
        if found.offset != self.offset {
            Some("a record whose offset does not follow")
        } else if follows {
            None
        } else {
            Some("a record whose batch does not follow")
        }
    }

    /// Reads a window that begins at the next record and has at least `needed` bytes.
    fn fill(&mut self, needed: usize, path: &Path) -> Result<(), Error> {
        let room = usize::try_from(self.limit - self.at).unwrap_or(usize::MAX);
        let mut window = vec![0; needed.max(self.window_bytes).min(room)];
        let mut filled = 0;
        while filled < window.len() {
            match self.file.read_at(&mut window[filled..], self.at + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) => return Err(io_error("read", path, error)),
            }
        }
        window.truncate(filled);
        if filled < needed {
            // The file is shorter than it was: what is gone is no record.
            self.limit = self.at + filled as u64;
            let what = "the file ends inside of a record".to_owned();
            return Err(Error::Damaged { path: path.to_owned(), at: self.at, what });
        }
        self.window = Bytes::from(window);
        self.window_at = self.at;
        Ok(())
    }
}

/// Scans a whole segment from its first record on.
pub(crate) fn whole(file: Arc<dyn File>, segment_id: u64, base: u64, limit: u64) -> Scan {
    Scan::new(file, segment_id, (base, RECORDS_AT), limit)
}
