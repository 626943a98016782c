//! Opening a partition: find its segments, find the end of the last one, and tell a torn tail from damage.
//!
//! A crash can break only what was not synced, and only one log batch at a time is not synced. So where the valid records
//! of the last segment end, what follows is a torn tail only if no valid record of a later batch follows; otherwise
//! something else destroyed records that were acknowledged, and opening refuses to go on as if nothing had been there.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::files::{File, Files};
use model::position::Partition;

use super::entry::{self, Parsed};
use super::partition::Shared;
use super::scan::{self, Step};
use super::segment::{self, Header, RECORDS_AT, Segment, io_error};
use super::writer::{self, Active, NoSegment, Writer};
use super::{Durability, Options};
use crate::Error;

/// Opens the partition whose folder is `dir`, or creates it.
pub(crate) fn open(
    files: Arc<dyn Files>,
    dir: PathBuf,
    partition: Partition,
    options: Options,
) -> Result<(Shared, Writer), Error> {
    create_dir(&*files, &dir)?;
    let segments = list(&*files, &dir, &partition)?;
    // What a crash left half prepared was never part of the log.
    segment::discard_prepared(&*files, &dir)
        .and_then(|()| files.sync_dir(&dir))
        .map_err(|error| io_error("tidy", &dir, error))?;
    let Some(last) = segments.back() else {
        return create(files, dir, partition, options);
    };
    let tail = recover(&*files, last)?;
    // An untouched segment leaves the end where its predecessor's is.
    let end = if tail.end_at == RECORDS_AT { last.header.predecessor_end } else { tail.end };
    let is_of_our_kind = last.header.durability == options.durability;
    let active = Active {
        segment: Arc::clone(last),
        file: Arc::clone(&tail.file),
        at: tail.end_at,
        file_bytes: tail.file_bytes,
    };
    last.set_file(tail.file);
    let shared = Shared::new(files, dir, partition, options, segments, (end, tail.end_at));
    let mut writer = Writer::new(active, tail.end, tail.next_batch, end);
    if !is_of_our_kind {
        // A segment says how its tail is to be judged, so a change of durability begins a new one.
        writer.roll(&shared, 0).map_err(|no| match no {
            NoSegment::Now(error) | NoSegment::Ever(error) => error,
        })?;
    }
    Ok((shared, writer))
}

/// The folder, with all names above it durable: an earlier process may have died between making and syncing them.
fn create_dir(files: &dyn Files, dir: &Path) -> Result<(), Error> {
    files.create_dir_all(dir).map_err(|error| io_error("create", dir, error))?;
    let streams = [Some(dir), dir.parent(), dir.parent().and_then(Path::parent)];
    for folder in streams.into_iter().flatten().filter(|it| !it.as_os_str().is_empty()) {
        files.sync_dir(folder).map_err(|error| io_error("sync", folder, error))?;
    }
    Ok(())
}

fn create(
    files: Arc<dyn Files>,
    dir: PathBuf,
    partition: Partition,
    options: Options,
) -> Result<(Shared, Writer), Error> {
    let header = Header {
        id: options.segment_ids.next(),
        base: 0,
        predecessor_base: None,
        predecessor_end: 0,
        first_batch: 0,
        capacity_bytes: options.segment_bytes_first.max(RECORDS_AT * 2),
        durability: options.durability,
        partition: partition.as_str().to_owned(),
    };
    let active = writer::first_segment(&*files, &dir, header)?;
    let segments = VecDeque::from([Arc::clone(&active.segment)]);
    let shared = Shared::new(files, dir, partition, options, segments, (0, RECORDS_AT));
    Ok((shared, Writer::new(active, 0, 0, 0)))
}

/// The segments of a folder in order, with valid headers that form a chain.
pub(crate) fn list(
    files: &dyn Files,
    dir: &Path,
    partition: &Partition,
) -> Result<VecDeque<Arc<Segment>>, Error> {
    let names = files.list(dir).map_err(|error| io_error("list", dir, error))?;
    let mut segments: VecDeque<Arc<Segment>> = VecDeque::new();
    for base in segment::bases(&names) {
        let path = dir.join(segment::file_name(base));
        let file = files.open_read(&path).map_err(|error| io_error("open", &path, error))?;
        let header = Header::read(&*file, &path, partition.as_str())?;
        if let Some(before) = segments.back()
            && header.predecessor_base != Some(before.header.base)
        {
            let missing =
                header.predecessor_base.map_or_else(|| "nothing".to_owned(), segment::file_name);
            let what = format!("it follows {missing}, which is not there");
            return Err(Error::Damaged { path, at: 0, what });
        }
        if let Some(before) = segments.back()
            && header.predecessor_end < before.header.predecessor_end
        {
            let what = "its predecessor would end before it begins".to_owned();
            return Err(Error::Damaged { path, at: 0, what });
        }
        segments.push_back(Arc::new(Segment::new(path, header)));
    }
    Ok(segments)
}

/// Where the last segment ends.
struct Tail {
    file: Arc<dyn File>,
    file_bytes: u64,
    /// One above the last record, or the segment's base.
    end: u64,
    end_at: u64,
    next_batch: u64,
}

/// Finds the end of the last segment, cuts off a torn tail, and makes durable what is kept.
fn recover(files: &dyn Files, segment: &Segment) -> Result<Tail, Error> {
    let path = &segment.path;
    let file: Arc<dyn File> =
        files.open(path).map_err(|error| io_error("open", path, error))?.into();
    let found = find_end(&file, segment)?;
    if let Some(torn) = &found.torn {
        cut(files, &*file, segment, torn)?;
    }
    // Only the last batch may have been written without its sync being seen to succeed. A sync alone proves nothing for
    // pages of which an earlier sync failed, so its bytes are written once more.
    if found.last_batch_at < found.end_at {
        let mut batch = vec![0; (found.end_at - found.last_batch_at) as usize];
        file.read_exact_at(&mut batch, found.last_batch_at)
            .and_then(|()| file.write_all_at(&batch, found.last_batch_at))
            .map_err(|error| io_error("write", path, error))?;
    }
    file.sync().map_err(|error| io_error("sync", path, error))?;
    let Found { file_bytes, end, end_at, next_batch, .. } = found;
    Ok(Tail { file, file_bytes, end, end_at, next_batch })
}

/// What a scan of the last segment found; nothing is changed yet.
pub(crate) struct Found {
    pub(crate) file_bytes: u64,
    pub(crate) end: u64,
    pub(crate) end_at: u64,
    /// Where the last valid batch begins.
    last_batch_at: u64,
    next_batch: u64,
    pub(crate) torn: Option<Torn>,
}

/// A tail of which no record was ever acknowledged.
pub(crate) struct Torn {
    pub(crate) from: u64,
    /// One above the last byte that is not zero.
    pub(crate) to: u64,
    what: &'static str,
}

/// Finds the end of the last segment of a partition that nobody writes to.
///
/// # Errors
/// [`Error::Damaged`] when what ends the valid records is not a torn tail.
pub(crate) fn find_end(file: &Arc<dyn File>, segment: &Segment) -> Result<Found, Error> {
    let Segment { path, header, .. } = segment;
    let file_bytes = file.len().map_err(|error| io_error("read", path, error))?;
    let damaged = |at, what: &str| Error::Damaged { path: path.clone(), at, what: what.to_owned() };
    if file_bytes < header.capacity_bytes {
        // Its length was durable before its name: no crash makes it shorter.
        return Err(damaged(
            file_bytes,
            &format!("the file ends here instead of at {}", header.capacity_bytes),
        ));
    }
    let mut scan = scan::whole(Arc::clone(file), header.id, header.base, file_bytes);
    let mut last_batch = None;
    let mut last_batch_at = RECORDS_AT;
    let what = loop {
        match scan.next(path)? {
            Step::Record(stored) => {
                segment.learn(stored.offset, stored.at);
                if last_batch != Some(stored.batch) {
                    last_batch = Some(stored.batch);
                    last_batch_at = stored.at;
                }
            }
            Step::Nothing => break "an unwritten place before written ones",
            Step::Invalid(what) => break what,
        }
    };
    let (end, end_at) = (scan.offset(), scan.at());
    let mut next_batch = last_batch.map_or(header.first_batch, |batch| batch + 1);
    let rest = read_rest(&**file, path, end_at, file_bytes)?;
    let torn = match rest.iter().rposition(|&byte| byte != 0) {
        None => None,
        Some(last) => {
            for later in records_anywhere(&rest, header.id) {
                let batch_began_at = later.offset.saturating_sub(u64::from(later.index));
                let is_of_later_batch = batch_began_at > end;
                match header.durability {
                    Durability::Synced if is_of_later_batch => return Err(damaged(end_at, what)),
                    // Pages of unsynced batches are lost in any order; what can be derived again ends earlier.
                    Durability::Synced | Durability::Relaxed => {}
                }
                next_batch = next_batch.max(later.batch + 1);
            }
            Some(Torn { from: end_at, to: end_at + last as u64 + 1, what })
        }
    };
    Ok(Found { file_bytes, end, end_at, last_batch_at, next_batch, torn })
}

fn read_rest(file: &dyn File, path: &Path, from: u64, to: u64) -> Result<Vec<u8>, Error> {
    let mut rest = vec![0; (to - from) as usize];
    file.read_exact_at(&mut rest, from).map_err(|error| io_error("read", path, error))?;
    Ok(rest)
}

/// All valid records of a segment among `bytes`, at whatever place.
fn records_anywhere(bytes: &[u8], segment_id: u64) -> impl Iterator<Item = entry::Entry<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() {
            let rest = &bytes[at..];
            match entry::parse(rest, rest.len() as u64, segment_id) {
                Parsed::Entry(found) => {
                    at += entry::stored_bytes(found.bytes.len()) as usize;
                    return Some(found);
                }
                Parsed::Nothing | Parsed::More(_) | Parsed::Invalid(_) => {
                    at += entry::ALIGNMENT as usize;
                }
            }
        }
        None
    })
}

/// Keeps a torn tail in a file beside the segment, and puts zeros in its place.
fn cut(files: &dyn Files, file: &dyn File, segment: &Segment, torn: &Torn) -> Result<(), Error> {
    let path = &segment.path;
    let mut bytes = read_rest(file, path, torn.from, torn.to)?;
    let (kept_path, kept) = create_torn(files, path, torn.from)?;
    let dir = path.parent().expect("a segment lies in a folder");
    kept.write_all_at(&bytes, 0)
        .and_then(|()| kept.sync())
        .and_then(|()| files.sync_dir(dir))
        .map_err(|error| io_error("write", &kept_path, error))?;
    tracing::warn!(
        partition = segment.header.partition,
        file = %path.display(),
        byte = torn.from,
        bytes = torn.to - torn.from,
        found = torn.what,
        kept = %kept_path.display(),
        "cut off a torn tail: records that were never acknowledged",
    );
    bytes.fill(0);
    file.write_all_at(&bytes, torn.from)
        .and_then(|()| file.sync())
        .map_err(|error| io_error("write", path, error))
}

/// `<base>.<byte>.torn`, with a number if a tail was torn there before.
fn create_torn(files: &dyn Files, path: &Path, at: u64) -> Result<(PathBuf, Box<dyn File>), Error> {
    for attempt in 0.. {
        let torn = match attempt {
            0 => path.with_extension(format!("{at}.torn")),
            _ => path.with_extension(format!("{at}-{attempt}.torn")),
        };
        match files.create(&torn) {
            Ok(file) => return Ok((torn, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io_error("create", &torn, error)),
        }
    }
    unreachable!("there are more numbers than files")
}
