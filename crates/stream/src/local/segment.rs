//! One segment file: its name, its header, and how it comes to be.
//!
//! ```text
//!  <base, 20 digits>.segment
//!
//!  0                    4096                                                     capacity
//!  ├────────────────────┼────────┬────────┬────────┬──────────────────────────────┤
//!  │ header             │ record │ record │ record │ zeros: not yet written       │
//!  └────────────────────┴────────┴────────┴────────┴──────────────────────────────┘
//! ```
//!
//! A file is filled with zeros and synced under another name before it becomes a segment, so that appending to it changes
//! neither its length nor its place on the disk. No file is ever used for a second segment.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use model::files::{File, Files};

use super::Durability;
use super::entry::number;
use crate::Error;

/// Where the first record begins: the header has a page of its own, which appends never touch.
pub(crate) const RECORDS_AT: u64 = 4096;

/// The version that is written, and the newest that is read.
pub(crate) const FORMAT: u32 = 1;

/// The next segment before it has a header.
pub(crate) const PREPARED: &str = "next.prepared";

const MAGIC: &[u8; 8] = b"snowseg\0";

/// In `predecessor_base`: this is the first segment of the partition.
const NO_PREDECESSOR: u64 = u64::MAX;

/// Above every offset and batch number that is ever handed out. Bytes that name this or a higher one are damage,
/// whatever their checksum says: one cannot count on from there. A segment without records may begin here.
pub(crate) const NUMBER_MAX: u64 = 1 << 62;

/// How far entries of the index lie apart, in bytes.
const INDEX_STEP: u64 = 64 << 10;

/// How far they lie apart in a segment whose file is closed: what is kept of a log for long must take no memory to speak
/// of (16 bytes a MiB), and finding a place in it costs one window of reading in any case.
const CLOSED_INDEX_STEP: u64 = 1 << 20;

/// How many places are remembered at which readers stopped.
const STOPS_MAX: usize = 8;

/// What a segment says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Random; part of each record's checksum.
    pub(crate) id: u64,
    /// The offset of the first record.
    pub(crate) base: u64,
    pub(crate) predecessor_base: Option<u64>,
    /// The durable end of what lies before: nothing at or beyond it is read from the predecessor.
    pub(crate) predecessor_end: u64,
    /// The number of the first log batch.
    pub(crate) first_batch: u64,
    /// The length of the file.
    pub(crate) capacity_bytes: u64,
    pub(crate) durability: Durability,
    /// The partition's name.
    pub(crate) partition: String,
}

impl Header {
    /// The whole page.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut page = Vec::with_capacity(RECORDS_AT as usize);
        page.extend_from_slice(MAGIC);
        page.extend_from_slice(&FORMAT.to_le_bytes());
        page.extend_from_slice(&[0; 4]);
        for number in [
            self.id,
            self.base,
            self.predecessor_base.unwrap_or(NO_PREDECESSOR),
            self.predecessor_end,
            self.first_batch,
            self.capacity_bytes,
        ] {
            page.extend_from_slice(&number.to_le_bytes());
        }
        page.push(match self.durability {
            Durability::Synced => 0,
            Durability::Relaxed => 1,
        });
        page.push(u8::try_from(self.partition.len()).expect("names have at most 255 bytes"));
        page.extend_from_slice(self.partition.as_bytes());
        page.resize(RECORDS_AT as usize, 0);
        let sum = checksum(&page);
        page[12..16].copy_from_slice(&sum.to_le_bytes());
        page
    }

    /// Reads a page; `path` is for the error.
    pub(crate) fn decode(page: &[u8], path: &Path) -> Result<Header, Error> {
        let damaged =
            |what: &str| Error::Damaged { path: path.to_owned(), at: 0, what: what.to_owned() };
        if page.len() < RECORDS_AT as usize {
            return Err(damaged("the header is cut off"));
        }
        let page = &page[..RECORDS_AT as usize];
        if &page[..8] != MAGIC {
            return Err(damaged("the header is not that of a segment"));
        }
        let found = number(&page[8..12]) as u32;
        if found > FORMAT {
            return Err(Error::NewerFormat { path: path.to_owned(), found, known: FORMAT });
        }
        if number(&page[12..16]) != u64::from(checksum(page)) {
            return Err(damaged("the checksum of the header differs"));
        }
        let field = |index: usize| number(&page[16 + 8 * index..24 + 8 * index]);
        let durability = match page[64] {
            0 => Durability::Synced,
            1 => Durability::Relaxed,
            _ => return Err(damaged("the header names an unknown durability")),
        };
        let partition = std::str::from_utf8(&page[66..66 + usize::from(page[65])])
            .map_err(|_| damaged("the header names no partition"))?;
        let header = Header {
            id: field(0),
            base: field(1),
            predecessor_base: (field(2) != NO_PREDECESSOR).then_some(field(2)),
            predecessor_end: field(3),
            first_batch: field(4),
            capacity_bytes: field(5),
            durability,
            partition: partition.to_owned(),
        };
        if header.base.max(header.first_batch) > NUMBER_MAX {
            return Err(damaged("the header names an offset or a batch that cannot be"));
        }
        if header.predecessor_end > header.base {
            return Err(damaged("the header ends its predecessor above its own beginning"));
        }
        Ok(header)
    }

    /// Reads the header of a file and checks that it lies where it says.
    pub(crate) fn read(file: &dyn File, path: &Path, partition: &str) -> Result<Header, Error> {
        let mut page = vec![0; RECORDS_AT as usize];
        let mut filled = 0;
        while filled < page.len() {
            match file.read_at(&mut page[filled..], filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) => return Err(io_error("read", path, error)),
            }
        }
        let header = Header::decode(&page[..filled], path)?;
        if header.partition != partition
            || path.file_name() != Some(file_name(header.base).as_ref())
        {
            let what =
                format!("the file belongs to `{}` at {}", header.partition, file_name(header.base));
            return Err(Error::Damaged { path: path.to_owned(), at: 0, what });
        }
        Ok(header)
    }
}

fn checksum(page: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&page[..12]), &page[16..])
}

/// The name of the segment whose first record has the offset `base`.
pub(crate) fn file_name(base: u64) -> String {
    format!("{base:020}.segment")
}

/// The bases of the segments among the names of a folder, in order.
pub(crate) fn bases(names: &[String]) -> Vec<u64> {
    let mut bases: Vec<u64> = names
        .iter()
        .filter_map(|name| {
            name.strip_suffix(".segment")?.parse().ok().filter(|&base| file_name(base) == *name)
        })
        .collect();
    bases.sort_unstable();
    bases
}

pub(crate) fn io_error(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io { action, path: path.to_owned(), source: Arc::new(source) }
}

/// Whether an error of the system means that there is no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Makes the file that the next segment will be: `bytes` zeros, synced.
///
/// # Errors
/// Any error of the disk; then no file is left, if that can be helped.
pub(crate) fn prepare(files: &dyn Files, dir: &Path, bytes: u64) -> io::Result<Box<dyn File>> {
    let path = dir.join(PREPARED);
    discard_prepared(files, dir)?;
    let file = files.create(&path)?;
    let zeros = vec![0; bytes.min(1 << 20) as usize];
    let mut at = 0;
    while at < bytes {
        let count = (bytes - at).min(zeros.len() as u64);
        if let Err(error) = file.write_all_at(&zeros[..count as usize], at) {
            // The space is worth more than the reason why it cannot be given back.
            let _ = files.remove(&path);
            return Err(error);
        }
        at += count;
    }
    if let Err(error) = file.sync() {
        let _ = files.remove(&path);
        return Err(error);
    }
    Ok(file)
}

/// Removes what an earlier process, or an earlier failure, prepared.
pub(crate) fn discard_prepared(files: &dyn Files, dir: &Path) -> io::Result<()> {
    match files.remove(&dir.join(PREPARED)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A segment of an open partition.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
    file: Mutex<Option<Arc<dyn File>>>,
    index: Mutex<Index>,
}

/// Places in a segment: the offset of a record, and the byte at which it begins.
#[derive(Debug, Default)]
struct Index {
    /// Every 64 KiB of what was written or read so far, in order; every MiB once the file was closed.
    sparse: Vec<(u64, u64)>,
    /// Where readers stopped lately, which is where they go on.
    stops: VecDeque<(u64, u64)>,
}

impl Segment {
    pub(crate) fn new(path: PathBuf, header: Header) -> Segment {
        Segment { path, header, file: Mutex::default(), index: Mutex::default() }
    }

    /// The open file, opened if need be. Says whether it was opened now.
    pub(crate) fn file(&self, files: &dyn Files) -> io::Result<(Arc<dyn File>, bool)> {
        let mut slot = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &*slot {
            return Ok((Arc::clone(file), false));
        }
        let file: Arc<dyn File> = Arc::from(files.open_read(&self.path)?);
        *slot = Some(Arc::clone(&file));
        Ok((file, true))
    }

    /// Keeps an open file.
    pub(crate) fn set_file(&self, file: Arc<dyn File>) {
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
    }

    /// Forgets the open file, and most of the index.
    pub(crate) fn close(&self) {
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept_at = RECORDS_AT;
        let is_kept = |&&(_, at): &&(u64, u64)| {
            let far = kept_at + CLOSED_INDEX_STEP <= at;
            if far {
                kept_at = at;
            }
            far
        };
        // A new list, so that the next segment can have the whole place of the old one: cut short where it is, it would
        // leave a hole too small for that beside each segment.
        let kept: Vec<(u64, u64)> = index.sparse.iter().filter(is_kept).copied().collect();
        index.sparse = kept.into_boxed_slice().into_vec();
    }

    /// The nearest known place of a record at or below `offset`.
    pub(crate) fn place_before(&self, offset: u64) -> (u64, u64) {
        let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let sparse = index.sparse[..index.sparse.partition_point(|place| place.0 <= offset)].last();
        let stop = index.stops.iter().filter(|place| place.0 <= offset).max();
        sparse.into_iter().chain(stop).copied().fold((self.header.base, RECORDS_AT), Ord::max)
    }

    /// Learns that the record `offset` begins at the byte `at`.
    pub(crate) fn learn(&self, offset: u64, at: u64) {
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let next = index.sparse.partition_point(|place| place.1 <= at);
        let before = next.checked_sub(1).map_or(RECORDS_AT, |before| index.sparse[before].1);
        let far = index.sparse.get(next).is_none_or(|after| at + INDEX_STEP <= after.1);
        if far && before + INDEX_STEP <= at {
            index.sparse.insert(next, (offset, at));
        }
    }

    /// Learns that a reader will go on at `offset`, which begins, or will begin, at the byte `at`.
    pub(crate) fn learn_stop(&self, offset: u64, at: u64) {
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if index.stops.len() == STOPS_MAX {
            index.stops.pop_front();
        }
        index.stops.push_back((offset, at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            id: 7,
            base: 42,
            predecessor_base: Some(3),
            predecessor_end: 40,
            first_batch: 9,
            capacity_bytes: 1 << 20,
            durability: Durability::Relaxed,
            partition: "raw/0".to_owned(),
        }
    }

    #[test]
    fn a_header_reads_back_and_every_flipped_byte_is_seen() {
        let path = Path::new("somewhere");
        let page = header().encode();
        assert_eq!(Header::decode(&page, path).unwrap(), header());
        for at in 0..page.len() {
            let mut flipped = page.clone();
            flipped[at] ^= 0x10;
            assert!(Header::decode(&flipped, path).is_err(), "byte {at}");
        }
        assert!(Header::decode(&page[..100], path).is_err());
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let mut page = header().encode();
        page[8] = 2;
        let error = Header::decode(&page, Path::new("somewhere")).unwrap_err();
        assert!(error.to_string().contains("somewhere has segment format 2"), "{error}");
    }

    #[test]
    fn only_names_of_segments_are_segments() {
        let names =
            ["00000000000000000007.segment", "next.prepared", "x.segment", "7.segment", "0.torn"];
        assert_eq!(bases(&names.map(str::to_owned)), [7]);
    }

    #[test]
    fn the_nearest_known_place_is_found() {
        let segment = Segment::new(PathBuf::new(), header());
        assert_eq!(segment.place_before(50), (42, RECORDS_AT));
        segment.learn(44, RECORDS_AT + 100);
        assert_eq!(segment.place_before(50), (42, RECORDS_AT), "too near to be worth an entry");
        segment.learn(100, RECORDS_AT + INDEX_STEP * 4);
        segment.learn(60, RECORDS_AT + INDEX_STEP * 2);
        segment.learn_stop(70, RECORDS_AT + INDEX_STEP * 3);
        assert_eq!(segment.place_before(59), (42, RECORDS_AT));
        assert_eq!(segment.place_before(60), (60, RECORDS_AT + INDEX_STEP * 2));
        assert_eq!(segment.place_before(99), (70, RECORDS_AT + INDEX_STEP * 3));
        assert_eq!(segment.place_before(1000), (100, RECORDS_AT + INDEX_STEP * 4));
    }

    #[test]
    fn a_closed_segment_knows_a_place_for_each_mebibyte_and_learns_again() {
        let segment = Segment::new(PathBuf::new(), header());
        (1..=1024).for_each(|step| segment.learn(100 + step, RECORDS_AT + INDEX_STEP * step));
        assert_eq!(segment.index.lock().unwrap().sparse.len(), 1024);
        segment.close();
        let sparse = segment.index.lock().unwrap().sparse.clone();
        assert_eq!((sparse.len(), sparse[0]), (64, (116, RECORDS_AT + CLOSED_INDEX_STEP)));
        assert_eq!(segment.place_before(115), (42, RECORDS_AT));
        assert_eq!(segment.place_before(131), (116, RECORDS_AT + CLOSED_INDEX_STEP));
        segment.learn(125, RECORDS_AT + INDEX_STEP * 25);
        assert_eq!(segment.place_before(131), (125, RECORDS_AT + INDEX_STEP * 25));
    }
}
