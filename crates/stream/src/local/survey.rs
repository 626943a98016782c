//! Reads every byte of a partition and says what cannot be read of it: each damage with its file, its place and the
//! positions it costs.
//!
//! Used by `snowmelt stream verify` beside a running process, and by [`super::repair`], which starts from what is found
//! here. Opens files for reading only. Where opening and reading stop at the first damage, this goes on behind it: the
//! segment's random id tells a record from any other bytes.

use std::io;
use std::path::{Path, PathBuf};

use model::files::Files;
use model::position::{Offset, Partition};

use super::entry;
use super::salvage::{self, Run, Salvaged};
use super::segment::{self, Header, RECORDS_AT, io_error};
use super::{Durability, lost_header};
use crate::Error;

/// What is known of a partition from elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Nobody reads below this from here any more: the partition must not begin above. `None`: it may begin anywhere.
    pub needed_from: Option<Offset>,
    /// Records up to here were read from the partition once: it must not end below.
    pub seen: Offset,
}

impl Known {
    /// Only the partition's own files are asked.
    pub const NOTHING: Known = Known { needed_from: None, seen: Offset::BEGINNING };
}

/// What a partition holds, and what of it is damaged.
#[derive(Clone, Debug)]
pub struct Survey {
    pub partition: Partition,
    /// Files that are there.
    pub segments: usize,
    /// Records that can be read.
    pub records: u64,
    /// The first position that the partition answers for, and the first that it does not.
    pub start: Offset,
    pub end: Offset,
    /// Where a batch is being written at this moment, or was torn by a crash: the next start cuts it off.
    pub torn: Option<(PathBuf, u64)>,
    /// In the order of positions; none if all is whole.
    pub damages: Vec<Damage>,
    pub(crate) parts: Vec<Part>,
}

/// One place that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file, or where it should be.
    pub path: PathBuf,
    pub at: u64,
    pub what: String,
    /// The positions in [`from`, `to`) cannot be read; none if they are equal.
    pub from: Offset,
    /// `None`: what lay at and above `from` is gone, and nothing tells how far it reached.
    pub to: Option<Offset>,
}

/// One segment file that is there or should be.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// The offset in its name; `None`: the names between two files are not known.
    pub(crate) base: Option<u64>,
    pub(crate) path: PathBuf,
    pub(crate) is_there: bool,
    /// If it is valid.
    pub(crate) header: Option<Header>,
    /// It answers for [`begins`, `ends`).
    pub(crate) begins: u64,
    pub(crate) ends: u64,
    pub(crate) is_damaged: bool,
    /// What can be read, in order.
    pub(crate) runs: Vec<Run>,
    pub(crate) id: u64,
    pub(crate) last_batch: Option<u64>,
}

/// A log that moves is looked at again until two looks agree; at most so often.
const LOOKS_MAX: usize = 16;

/// Reads the whole partition. `known` is asked before each look: beside a running process, both sides move.
///
/// # Errors
/// [`Error::NewerFormat`], [`Error::Io`]; damage is an answer.
pub fn survey<E: From<Error>>(
    files: &dyn Files,
    streams_dir: &Path,
    partition: &Partition,
    mut known: impl FnMut() -> Result<Known, E>,
) -> Result<Survey, E> {
    let dir = streams_dir.join(partition.as_str());
    let mut before: Option<Vec<Damage>> = None;
    for look in 1.. {
        let found = match self::look(files, &dir, partition, &known()?) {
            // Trimmed, or replaced, while we looked.
            Err(Error::Io { source, path, .. })
                if source.kind() == io::ErrorKind::NotFound && path != dir && look < LOOKS_MAX =>
            {
                continue;
            }
            found => found?,
        };
        // A batch that was half written when it was read looks like damage; but then it is whole by now.
        let is_settled = found.damages.is_empty() || before.as_ref() == Some(&found.damages);
        if is_settled || look >= LOOKS_MAX {
            return Ok(found);
        }
        before = Some(found.damages);
    }
    unreachable!("the last look is an answer")
}

/// A file of the folder, before it is judged.
struct Found {
    base: u64,
    path: PathBuf,
    content: Vec<u8>,
    header: Result<Header, String>,
}

fn look(
    files: &dyn Files,
    dir: &Path,
    partition: &Partition,
    known: &Known,
) -> Result<Survey, Error> {
    let names = files.list(dir).map_err(|error| io_error("list", dir, error))?;
    let bases = segment::bases(&names);
    let headers = headers(files, dir, partition, &bases)?;
    let mut looking = Looking::new(dir, partition, known);
    for (index, (&base, header)) in bases.iter().zip(&headers).enumerate() {
        let path = dir.join(segment::file_name(base));
        let content = files.read(&path).map_err(|error| io_error("read", &path, error))?;
        let next = bases.get(index + 1).map(|next| (*next, headers[index + 1].as_ref().ok()));
        looking.segment(Found { base, path, content, header: header.clone() }, next);
    }
    Ok(looking.finish(bases.len()))
}

/// The headers of the files, or why one is none.
fn headers(
    files: &dyn Files,
    dir: &Path,
    partition: &Partition,
    bases: &[u64],
) -> Result<Vec<Result<Header, String>>, Error> {
    let mut headers: Vec<Result<Header, String>> = Vec::new();
    for (index, &base) in bases.iter().enumerate() {
        let path = dir.join(segment::file_name(base));
        let file = files.open_read(&path).map_err(|error| io_error("open", &path, error))?;
        let header = match Header::read(&*file, &path, partition.as_str()) {
            Ok(header) => {
                let before = index.checked_sub(1).map(|before| bases[before]);
                let follows = match (before, header.predecessor_base) {
                    (None, _) => true,
                    (Some(before), Some(named)) => before <= named && named < base,
                    (Some(_), None) => false,
                };
                if follows { Ok(header) } else { Err("it does not follow the file before".into()) }
            }
            Err(Error::Damaged { what, .. }) => Err(what),
            Err(error) => return Err(error),
        };
        headers.push(header);
    }
    Ok(headers)
}

/// The state of a look at one partition.
struct Looking<'a> {
    dir: &'a Path,
    known: &'a Known,
    survey: Survey,
    /// The next position; `None` before the first file.
    position: Option<u64>,
}

impl<'a> Looking<'a> {
    fn new(dir: &'a Path, partition: &Partition, known: &'a Known) -> Looking<'a> {
        let survey = Survey {
            partition: partition.clone(),
            segments: 0,
            records: 0,
            start: Offset::BEGINNING,
            end: Offset::BEGINNING,
            torn: None,
            damages: Vec::new(),
            parts: Vec::new(),
        };
        Looking { dir, known, survey, position: None }
    }

    /// Judges one file. `next` is the base of the next file, and its header if that is valid.
    fn segment(&mut self, found: Found, next: Option<(u64, Option<&Header>)>) {
        self.before(&found);
        let begins = match (&found.header, self.position) {
            (Ok(header), _) => header.predecessor_end,
            (Err(_), Some(position)) => position,
            // Nothing tells where the log began; what nobody reads need not be answered for.
            (Err(_), None) => {
                self.known.needed_from.map_or(found.base, |it| it.number().min(found.base))
            }
        };
        if let Err(what) = &found.header {
            self.damage(&found.path, 0, what.clone(), begins, Some(begins));
        }
        // Where this file ends, if its successor says so; and what it cannot hold.
        let (bound, limit) = match next {
            None => (None, u64::MAX),
            Some((_, Some(header))) if header.predecessor_base == Some(found.base) => {
                (Some(header.predecessor_end), header.predecessor_end)
            }
            Some((_, Some(header))) => (None, header.predecessor_base.unwrap_or(u64::MAX)),
            Some((base, None)) => (None, base),
        };
        let id = match &found.header {
            Ok(header) => Some(header.id),
            Err(_) => lost_header::find_id(&found.content, found.base),
        };
        let mut scan = salvage::read(&found.content, id, found.base, limit);
        let is_last = next.is_none();
        if is_last {
            let durability = found.header.as_ref().map_or(Durability::Synced, |it| it.durability);
            scan.cut_torn_tail(durability);
        }
        for gap in &scan.gaps {
            self.damage(&found.path, gap.at, gap.what.to_owned(), gap.from, Some(gap.to));
        }
        let mut ends = scan.end;
        match (next, bound) {
            (Some(_), Some(bound)) if scan.end < bound => {
                self.damage(&found.path, scan.end_at, scan.what.to_owned(), scan.end, Some(bound));
                ends = bound;
            }
            // The successor has lost its header: the offsets up to its name may have been records.
            (Some((base, None)), _) if scan.end < base => {
                self.damage(&found.path, scan.end_at, scan.what.to_owned(), scan.end, Some(base));
                ends = base;
            }
            (Some(_), _) => {}
            (None, _) => self.tail(&found, &scan, id.is_some()),
        }
        let has_damage = self.survey.damages.iter().any(|damage| damage.path == found.path);
        self.survey.records += scan.runs.iter().map(|run| run.to - run.from).sum::<u64>();
        self.position = Some(ends);
        self.survey.parts.push(Part {
            base: Some(found.base),
            path: found.path,
            is_there: true,
            header: found.header.ok(),
            begins,
            ends,
            is_damaged: has_damage,
            runs: scan.runs,
            id: id.unwrap_or_default(),
            last_batch: scan.last_batch,
        });
    }

    /// What should lie before a file and does not.
    fn before(&mut self, found: &Found) {
        let Ok(header) = &found.header else { return };
        let before = self.survey.parts.last().and_then(|part| part.base);
        match (before, self.position, header.predecessor_base) {
            (Some(before), Some(position), Some(named)) if before != named => {
                self.missing(position, Some(named), header.predecessor_end);
            }
            // The oldest files go when nobody reads them any more, and not before.
            (None, _, named) => {
                let Some(needed) = self.known.needed_from.map(Offset::number) else { return };
                if needed < header.predecessor_end {
                    let from = named.map_or(needed, |named| named.min(needed));
                    self.missing(from, named, header.predecessor_end);
                }
            }
            _ => {}
        }
    }

    /// The last file: what follows its records, and whether it has its length.
    fn tail(&mut self, found: &Found, scan: &Salvaged, is_readable: bool) {
        let length = found.content.len() as u64;
        let rest = found.content.get(scan.end_at as usize..).unwrap_or_default();
        let written = rest.iter().any(|&byte| byte != 0);
        let is_short = found.header.as_ref().is_ok_and(|header| length < header.capacity_bytes);
        if is_short || !is_readable {
            // An unwritten place behind the last record shows that nothing came after it.
            let is_end = is_readable && !written && rest.len() >= entry::HEADER_BYTES;
            let what = match &found.header {
                Ok(header) => format!("the file ends here instead of at {}", header.capacity_bytes),
                Err(_) => "no record can be told from damage without the header".to_owned(),
            };
            let to = is_end.then_some(scan.end);
            let at = if is_short { length } else { RECORDS_AT };
            self.damage(&found.path, at, what, scan.end, to);
        } else if written {
            self.survey.torn = Some((found.path.clone(), scan.end_at));
        }
    }

    /// Files that are gone; `named` is the last of them.
    fn missing(&mut self, from: u64, named: Option<u64>, to: u64) {
        let path = self.dir.join(segment::file_name(named.unwrap_or(from)));
        self.damage(&path, 0, "the file is missing".to_owned(), from, Some(to.max(from)));
        // The chain leads to the last missing file by name; the names of those before it nobody knows.
        let (named, to) = (named.unwrap_or(from), to.max(from));
        if from < named.min(to) {
            self.survey.parts.push(gone(None, path.clone(), from, named.min(to)));
        }
        self.survey.parts.push(gone(Some(named), path, from.max(named).min(to), to));
        self.position = Some(to);
    }

    fn damage(&mut self, path: &Path, at: u64, what: String, from: u64, to: Option<u64>) {
        self.survey.damages.push(Damage {
            path: path.to_owned(),
            at,
            what,
            from: Offset::from_number(from),
            to: to.map(Offset::from_number),
        });
    }

    fn finish(mut self, segments: usize) -> Survey {
        let end = self.position.unwrap_or_default();
        let seen = self.known.seen.number();
        if seen > end {
            let path = self.dir.join(segment::file_name(end));
            let what = "records that were read once are not there".to_owned();
            self.damage(&path, 0, what, end, Some(seen));
            match self.survey.parts.last_mut() {
                // A last file without a record has the name that the first of them wants.
                Some(last) if last.base == Some(end) => {
                    (last.ends, last.is_damaged) = (seen, true);
                }
                _ => self.survey.parts.push(gone(None, path, end, seen)),
            }
        }
        let (first, last) = (self.survey.parts.first(), self.survey.parts.last());
        let begins = first.map_or(0, |part| part.begins);
        // Offsets that were given up before a file without records are not part of the log yet.
        let ends = last.map_or(0, |part| {
            if part.ends == end && part.runs.is_empty() { part.begins } else { part.ends }
        });
        self.survey.segments = segments;
        self.survey.start = Offset::from_number(begins);
        self.survey.end = Offset::from_number(ends);
        self.survey
    }
}

/// The part of a file that is not there.
fn gone(base: Option<u64>, path: PathBuf, begins: u64, ends: u64) -> Part {
    Part {
        base,
        path,
        is_there: false,
        header: None,
        begins,
        ends,
        is_damaged: true,
        runs: Vec::new(),
        id: 0,
        last_batch: None,
    }
}
