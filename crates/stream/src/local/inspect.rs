//! The embedded log for people: what there is, and its records, read beside a running process.
//!
//! Used by `snowmelt stream list|tail|dump`. Opens files for reading only; never creates, cuts, removes or locks
//! anything, and works on a folder that may not be written. It may see records a moment before they are synced.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::files::{File, Files};
use model::position::{Offset, Partition};

use super::recovery::{self, Found};
use super::scan::{self, Scan, Step};
use super::segment::{Segment, io_error};
use super::{Durability, partition_indexes};
use crate::{Error, Record};

/// One partition as it lies on the disk.
#[derive(Clone, Debug)]
pub struct Listing {
    pub stream: String,
    pub partition: Partition,
    /// In order; none if the partition was never opened to the end.
    pub segments: Vec<SegmentListing>,
    /// The first offset still kept.
    pub start: Offset,
    /// One above the last record.
    pub end: Offset,
    /// Of all segments, unwritten places included.
    pub bytes: u64,
    pub state: State,
}

/// One segment file.
#[derive(Clone, Debug)]
pub struct SegmentListing {
    pub path: PathBuf,
    /// The offset of its first record.
    pub first: Offset,
    pub bytes: u64,
    pub durability: Durability,
}

/// What the end of a partition looks like. Only the last segment is read to the end for this.
#[derive(Clone, Debug)]
pub enum State {
    Whole,
    /// A batch that is being written at this moment, or that a crash tore; the next start cuts it off.
    TornTail {
        path: PathBuf,
        at: u64,
    },
    /// What opening the log would fail with; start and end are then what could still be learned.
    Damaged(Error),
}

/// How often a look at a log that moves is repeated.
const LOOKS_MAX: usize = 16;

/// All partitions of all streams, sorted by stream and index.
///
/// # Errors
/// [`Error::Io`] when a folder cannot be listed; damage is a state of its partition.
pub fn list(files: &dyn Files, streams_dir: &Path) -> Result<Vec<Listing>, Error> {
    let mut listings = Vec::new();
    for partition in partitions(files, streams_dir)? {
        listings.push(list_partition(files, streams_dir, partition)?);
    }
    Ok(listings)
}

/// The names of all partitions, sorted by stream and index.
pub fn partitions(files: &dyn Files, streams_dir: &Path) -> Result<Vec<Partition>, Error> {
    let mut partitions = Vec::new();
    for stream in list_dir(files, streams_dir)? {
        partitions.extend(partitions_of(files, streams_dir, &stream)?);
    }
    Ok(partitions)
}

/// Those of one stream; none where the name is that of something else.
fn partitions_of(
    files: &dyn Files,
    streams_dir: &Path,
    stream: &str,
) -> Result<Vec<Partition>, Error> {
    let dir = streams_dir.join(stream);
    let names = match files.list(&dir) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(Vec::new()),
        Err(error) => return Err(io_error("list", &dir, error)),
    };
    let indexes = partition_indexes(&names).into_iter();
    Ok(indexes.map(|index| Partition::of_stream(stream, index)).collect())
}

/// The first partition of one stream; `None` where there is none.
///
/// # Errors
/// As [`list`].
pub fn list_stream(
    files: &dyn Files,
    streams_dir: &Path,
    stream: &str,
) -> Result<Option<Listing>, Error> {
    let first = partitions_of(files, streams_dir, stream)?.into_iter().next();
    first.map(|partition| list_partition(files, streams_dir, partition)).transpose()
}

fn list_dir(files: &dyn Files, dir: &Path) -> Result<Vec<String>, Error> {
    files.list(dir).map_err(|error| io_error("list", dir, error))
}

fn list_partition(
    files: &dyn Files,
    streams_dir: &Path,
    partition: Partition,
) -> Result<Listing, Error> {
    let mut listing = Listing {
        stream: partition.as_str().split('/').next().unwrap_or_default().to_owned(),
        partition,
        segments: Vec::new(),
        start: Offset::BEGINNING,
        end: Offset::BEGINNING,
        bytes: 0,
        state: State::Whole,
    };
    let dir = streams_dir.join(listing.partition.as_str());
    let segments = match segments(files, &dir, &listing.partition) {
        Ok(segments) => segments,
        Err(error @ (Error::Damaged { .. } | Error::NewerFormat { .. })) => {
            listing.state = State::Damaged(error);
            return Ok(listing);
        }
        Err(error) => return Err(error),
    };
    for segment in &segments {
        let opened = segment.file(files).and_then(|(file, _)| file.len());
        let bytes = opened.map_err(|error| io_error("read", &segment.path, error))?;
        listing.bytes += bytes;
        listing.segments.push(SegmentListing {
            path: segment.path.clone(),
            first: Offset::from_number(segment.header.base),
            bytes,
            durability: segment.header.durability,
        });
    }
    let (Some(first), Some(last)) = (segments.front(), segments.back()) else {
        return Ok(listing);
    };
    listing.start = Offset::from_number(first.header.predecessor_end);
    listing.end = Offset::from_number(last.header.predecessor_end);
    let (file, _) = last.file(files).map_err(|error| io_error("open", &last.path, error))?;
    match find_end(&file, last) {
        Ok(found) => {
            if found.end > last.header.base {
                listing.end = Offset::from_number(found.end);
            }
            if let Some(torn) = found.torn {
                listing.state = State::TornTail { path: last.path.clone(), at: torn.from };
            }
        }
        Err(error @ Error::Damaged { .. }) => listing.state = State::Damaged(error),
        Err(error) => return Err(error),
    }
    Ok(listing)
}

/// The segments of a partition, from which the owner may take away the oldest at any moment.
fn segments(
    files: &dyn Files,
    dir: &Path,
    partition: &Partition,
) -> Result<VecDeque<Arc<Segment>>, Error> {
    let mut looks = 0;
    loop {
        looks += 1;
        let listed = recovery::list(files, dir, partition).and_then(|segments| {
            for segment in &segments {
                segment.file(files).map_err(|error| io_error("open", &segment.path, error))?;
            }
            Ok(segments)
        });
        match listed {
            // Trimmed, or replaced, while we looked.
            Err(Error::Io { source, path, .. })
                if source.kind() == io::ErrorKind::NotFound && path != dir && looks < LOOKS_MAX => {
            }
            listed => return listed,
        }
    }
}

/// As [`recovery::find_end`], for a log that may be written to meanwhile.
fn find_end(file: &Arc<dyn File>, segment: &Segment) -> Result<Found, Error> {
    let mut damaged_at = None;
    for _ in 0..LOOKS_MAX {
        match recovery::find_end(file, segment) {
            // A batch that was half written when it was read, and others that were written since, look like damage. But
            // then the first is whole by now.
            Err(Error::Damaged { at, .. }) if damaged_at != Some(at) => damaged_at = Some(at),
            found => return found,
        }
    }
    recovery::find_end(file, segment)
}

/// Reads the records of one partition in order, up to an end that may move.
#[derive(Debug)]
pub struct Reader {
    files: Arc<dyn Files>,
    dir: PathBuf,
    partition: Partition,
    segments: VecDeque<Arc<Segment>>,
    current: Option<(Arc<Segment>, Scan)>,
    /// The next offset that is wanted.
    position: u64,
    /// Whether what follows the end was looked through.
    checked: bool,
}

impl Reader {
    /// Starts at `from`, or at the first record that is kept.
    ///
    /// # Errors
    /// [`Error::Trimmed`], [`Error::Damaged`] for a segment that has lost its header or its predecessor,
    /// [`Error::NewerFormat`], [`Error::Io`] also when there is no such partition.
    pub fn open(
        files: Arc<dyn Files>,
        streams_dir: &Path,
        partition: &Partition,
        from: Option<Offset>,
    ) -> Result<Reader, Error> {
        let dir = streams_dir.join(partition.as_str());
        let segments = segments(&*files, &dir, partition)?;
        let start = segments.front().map_or(0, |first| first.header.predecessor_end);
        let position = from.map_or(start, Offset::number);
        let partition = partition.clone();
        let reader =
            Reader { files, dir, partition, segments, current: None, position, checked: false };
        if position < start {
            return Err(reader.trimmed());
        }
        Ok(reader)
    }

    /// The next record; `None` at the end, after which a later call may find more.
    ///
    /// # Errors
    /// [`Error::Damaged`] where stored bytes are not what was written, [`Error::Trimmed`] when the owner trimmed away
    /// what comes next. The reader stays where it is.
    pub fn read_next(&mut self) -> Result<Option<Record>, Error> {
        loop {
            let Some((segment, mut scan)) = self.take_current()? else { return Ok(None) };
            if self.bound(&segment).is_some_and(|bound| scan.offset() >= bound) {
                self.position = self.position.max(scan.offset());
                continue;
            }
            let at = scan.at();
            match scan.next(&segment.path)? {
                Step::Record(stored) => {
                    self.current = Some((segment, scan));
                    if stored.offset >= self.position {
                        self.position = stored.offset + 1;
                        let offset = Offset::from_number(stored.offset);
                        return Ok(Some(Record { offset, bytes: stored.bytes }));
                    }
                }
                Step::Nothing => {
                    if self.is_end(&segment, scan, at, None)? {
                        return Ok(None);
                    }
                }
                Step::Invalid(what) => {
                    if self.is_end(&segment, scan, at, Some(what))? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Where the next record is looked for.
    fn take_current(&mut self) -> Result<Option<(Arc<Segment>, Scan)>, Error> {
        if self.current.is_some() {
            return Ok(self.current.take());
        }
        if self.segments.is_empty() {
            self.segments = segments(&*self.files, &self.dir, &self.partition)?;
        }
        let count = self.segments.partition_point(|it| it.header.predecessor_end <= self.position);
        let Some(segment) = count.checked_sub(1).and_then(|last| self.segments.get(last)) else {
            return if self.segments.is_empty() { Ok(None) } else { Err(self.trimmed()) };
        };
        let opened = segment.file(&*self.files).and_then(|(file, _)| Ok((file.len()?, file)));
        let (bytes, file) = opened.map_err(|error| io_error("open", &segment.path, error))?;
        let scan = scan::whole(file, segment.header.id, segment.header.base, bytes);
        Ok(Some((Arc::clone(segment), scan)))
    }

    /// The offset at which a segment ends, if it has a successor.
    fn bound(&self, segment: &Segment) -> Option<u64> {
        let after = self.segments.iter().position(|it| it.header.id == segment.header.id)? + 1;
        self.segments.get(after).map(|next| next.header.predecessor_end)
    }

    /// Whether the place after the last record of `segment` is the end of the log. If not, there is more to read.
    fn is_end(
        &mut self,
        segment: &Arc<Segment>,
        mut scan: Scan,
        at: u64,
        invalid: Option<&str>,
    ) -> Result<bool, Error> {
        if self.bound(segment).is_some() {
            let what = invalid.unwrap_or("a record is missing").to_owned();
            return Err(Error::Damaged { path: segment.path.clone(), at, what });
        }
        self.segments = segments(&*self.files, &self.dir, &self.partition)?;
        let is_last = self.segments.back().is_some_and(|it| it.header.id == segment.header.id);
        let is_known = self.segments.iter().any(|it| it.header.id == segment.header.id);
        if !is_known {
            // Trimmed or replaced: go on from the position.
            return Ok(false);
        }
        let (file, _) =
            segment.file(&*self.files).map_err(|error| io_error("open", &segment.path, error))?;
        let bytes = file.len().map_err(|error| io_error("read", &segment.path, error))?;
        if is_last && (invalid.is_some() || !self.checked) {
            find_end(&file, segment)?;
            self.checked = true;
        }
        // What was read ahead may have been written since.
        scan.look_again(bytes);
        self.current = Some((Arc::clone(segment), scan));
        Ok(is_last)
    }

    fn trimmed(&self) -> Error {
        let start = self.segments.front().map_or(0, |first| first.header.predecessor_end);
        Error::Trimmed {
            partition: self.partition.clone(),
            from: Offset::from_number(self.position),
            start: Offset::from_number(start),
        }
    }
}
