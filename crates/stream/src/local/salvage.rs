//! Reads the records of one segment file, going on behind what is none.
//!
//! Where [`super::scan`] stops at the first damage, this looks for the next record of the segment's id: no other bytes
//! can pass for one. Used by [`super::survey`], [`super::repair`] and [`super::copy`] on a file that is in memory; what a
//! gap means is theirs to judge.

use super::Durability;
use super::entry::{self, Parsed};
use super::segment::RECORDS_AT;

/// Records that stand one behind the other: [`from`, `to`), the first at the byte `at`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) at: u64,
}

/// What one file holds.
pub(crate) struct Salvaged {
    pub(crate) runs: Vec<Run>,
    pub(crate) gaps: Vec<Gap>,
    pub(crate) end: u64,
    pub(crate) end_at: u64,
    /// Why the records end there.
    pub(crate) what: &'static str,
    pub(crate) last_batch: Option<u64>,
}

/// Positions of which no record was found, between two that were.
pub(crate) struct Gap {
    pub(crate) at: u64,
    pub(crate) what: &'static str,
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// The highest offset at which a batch begins of which a record was found behind the gap.
    pub(crate) batch_behind: u64,
}

/// Reads all records of a file below `limit`, going on behind what is none.
pub(crate) fn read(content: &[u8], id: Option<u64>, base: u64, limit: u64) -> Salvaged {
    let (mut runs, mut gaps) = (Vec::<Run>::new(), Vec::<Gap>::new());
    let (mut at, mut offset) = (RECORDS_AT as usize, base);
    let mut before: Option<(u64, u32)> = None;
    let mut what = "a record is missing";
    while let Some(id) = id
        && offset < limit
    {
        let rest = content.get(at..).unwrap_or_default();
        match entry::parse(rest, rest.len() as u64, id) {
            Parsed::Entry(found)
                if found.offset == offset
                    && before.is_none_or(|before| follows(before, &found)) =>
            {
                match runs.last_mut() {
                    Some(run) if run.to == offset && before.is_some() => run.to += 1,
                    _ => runs.push(Run { from: offset, to: offset + 1, at: at as u64 }),
                }
                let batch_began = offset.saturating_sub(u64::from(found.index));
                gaps.iter_mut()
                    .for_each(|gap| gap.batch_behind = gap.batch_behind.max(batch_began));
                before = Some((found.batch, found.index));
                at += entry::stored_bytes(found.bytes.len()) as usize;
                offset += 1;
                continue;
            }
            Parsed::Entry(_) => what = "a record that does not follow the one before",
            Parsed::Nothing | Parsed::More(_) => what = "a record is missing",
            Parsed::Invalid(why) => what = why,
        }
        let Some((next_at, next)) = next_record(content, at, id, offset..limit) else { break };
        gaps.push(Gap { at: at as u64, what, from: offset, to: next, batch_behind: 0 });
        (at, offset, before) = (next_at, next, None);
    }
    let last_batch = before.map(|(batch, _)| batch);
    Salvaged { runs, gaps, end: offset, end_at: at as u64, what, last_batch }
}

/// The byte at which the records end that stand one behind the other from the beginning on.
pub(crate) fn readable_end(content: &[u8], id: u64, base: u64) -> u64 {
    let found = read(content, Some(id), base, u64::MAX);
    found.gaps.first().map_or(found.end_at, |gap| gap.at)
}

fn follows((batch, index): (u64, u32), found: &entry::Entry<'_>) -> bool {
    if found.batch == batch {
        index.checked_add(1) == Some(found.index)
    } else {
        found.batch > batch && found.index == 0
    }
}

/// The next record whose offset lies in `wanted`: where it begins, and its offset.
fn next_record(
    content: &[u8],
    from: usize,
    id: u64,
    wanted: std::ops::Range<u64>,
) -> Option<(usize, u64)> {
    let places = (from..content.len()).step_by(entry::ALIGNMENT as usize);
    places.into_iter().find_map(|at| {
        let rest = &content[at..];
        // Most places fail here, before a checksum is counted over what a stray number calls a length.
        let is_likely = rest.get(8..16).is_some_and(|it| wanted.contains(&entry::number(it)));
        if !is_likely {
            return None;
        }
        match entry::parse(rest, rest.len() as u64, id) {
            Parsed::Entry(found) if wanted.contains(&found.offset) => Some((at, found.offset)),
            _ => None,
        }
    })
}

impl Salvaged {
    /// The end of the last file, as opening would judge it: a gap behind which no later batch begins is a torn tail.
    pub(crate) fn cut_torn_tail(&mut self, durability: Durability) {
        let is_torn = |gap: &Gap| match durability {
            Durability::Synced => gap.batch_behind <= gap.from,
            Durability::Relaxed => true,
        };
        let Some(first) = self.gaps.iter().position(is_torn) else { return };
        let gap = &self.gaps[first];
        (self.end, self.end_at, self.what) = (gap.from, gap.at, gap.what);
        self.runs.retain(|run| run.from < self.end);
        self.gaps.truncate(first);
    }
}

/// The records of a run, read again from the content of its file.
pub(crate) fn records_of<'a>(
    content: &'a [u8],
    id: u64,
    run: &Run,
) -> impl Iterator<Item = (u64, &'a [u8])> + use<'a> {
    let (mut at, mut offset, to) = (run.at as usize, run.from, run.to);
    std::iter::from_fn(move || {
        if offset >= to {
            return None;
        }
        let rest = content.get(at..)?;
        let Parsed::Entry(found) = entry::parse(rest, rest.len() as u64, id) else { return None };
        at += entry::stored_bytes(found.bytes.len()) as usize;
        offset += 1;
        Some((found.offset, found.bytes))
    })
}
