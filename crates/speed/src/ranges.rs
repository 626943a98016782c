//! Reads the derived streams of one partition side by side and yields the ranges that lie in all of them.
//!
//! The enricher uses it when it opens, to see how far its own output reaches; the loader, to see what is new. Both thus
//! agree on what counts as written. Entries are joined by their sequence number: a head that is smaller than another has
//! no partner there (it was torn off, damaged or never written) and is left out. What does not decode is left out
//! likewise; the gap that it leaves is noticed by the caller, and the enricher writes that range again. So are, once,
//! the ranges that a program without failed events wrote: their third entry is missing.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use model::position::{Offset, Partition, Range};
use stream::{Record, Stream};

use crate::Error;
use crate::derived::Derived;
use crate::output::{self, InvalidEntry, Kind, Mark, Part, Row};

/// Bytes that are read from a stream at once.
const READ_BYTES: usize = 2 << 20;

/// Bytes of a stream that share one entry of the map from raw offsets to its own.
const GROUP_BYTES: usize = 256 << 10;

/// A range that all streams have.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) enriched: Entry,
    pub(crate) bad: Entry,
    pub(crate) failed: Entry,
}

/// A whole entry, its parts joined.
#[derive(Debug)]
pub(crate) struct Entry {
    kind: Kind,
    mark: Mark,
    rows: u32,
    body: Bytes,
}

/// How a range lies to a prefix that ends at some offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joint {
    /// The range ends at the prefix or below.
    Known,
    /// The range makes the prefix longer.
    Next,
    /// Something is missing between prefix and range.
    Gap,
}

/// The streams of one partition, read from their beginning on.
#[derive(Debug)]
pub(crate) struct Ranges {
    /// Of the enriched, the bad and the failed stream.
    sources: [Source; 3],
}

impl Written {
    /// The mark that all entries carry.
    pub(crate) fn mark(&self) -> &Mark {
        self.enriched.mark()
    }
}

impl Entry {
    pub(crate) fn mark(&self) -> &Mark {
        &self.mark
    }

    pub(crate) fn rows(&self) -> Result<Vec<Row<'_>>, InvalidEntry> {
        output::rows(self.kind, &self.mark, self.rows, &self.body)
    }
}

impl Joint {
    pub(crate) fn of(range: &Range, prefix: Offset) -> Joint {
        if range.to <= prefix {
            Joint::Known
        } else if range.from <= prefix {
            Joint::Next
        } else {
            Joint::Gap
        }
    }
}

impl Ranges {
    /// The partitions with this index of all streams.
    pub(crate) fn open(streams: &Derived, index: usize) -> Result<Ranges, Error> {
        let open = |(kind, stream)| Source::open(stream, index, kind);
        let [enriched, bad, failed] = streams.by_kind();
        Ok(Ranges { sources: [open(enriched)?, open(bad)?, open(failed)?] })
    }

    /// The next range that all streams have; `None` when one of them has nothing more for now.
    pub(crate) fn next(&mut self) -> Result<Option<Written>, Error> {
        loop {
            let mut sequences = [0; 3];
            for (sequence, source) in sequences.iter_mut().zip(&mut self.sources) {
                let Some(entry) = source.head()? else { return Ok(None) };
                *sequence = entry.mark.sequence;
            }
            let newest = sequences.into_iter().max().unwrap_or_default();
            if sequences != [newest; 3] {
                let behind = self.sources.iter_mut().zip(sequences);
                behind.filter(|(_, of)| *of < newest).for_each(|(source, _)| source.head = None);
                continue;
            }
            let heads = self.sources.each_mut().map(|source| source.head.take());
            if let [Some(enriched), Some(bad), Some(failed)] = heads
                && enriched.mark == bad.mark
                && enriched.mark == failed.mark
            {
                return Ok(Some(Written { enriched, bad, failed }));
            }
        }
    }

    /// Reads the streams to their ends and says which sequence number no entry has yet. Ranges that were not asked for
    /// are lost.
    pub(crate) fn next_sequence(mut self) -> Result<u64, Error> {
        let mut next = 0;
        for source in &mut self.sources {
            while source.head()?.is_some() {
                source.head = None;
            }
            next = next.max(source.next_sequence);
        }
        Ok(next)
    }

    /// Lets the streams forget what lies below `cut`, and the oldest entries where they keep more than
    /// `retention_bytes`; only what was read already.
    pub(crate) fn trim(&mut self, cut: Offset, retention_bytes: usize) -> Result<(), Error> {
        self.sources.iter_mut().try_for_each(|source| source.trim(cut, retention_bytes))
    }
}

/// One partition of one of the streams.
#[derive(Debug)]
struct Source {
    stream: Arc<dyn Stream>,
    partition: Partition,
    kind: Kind,
    position: Offset,
    ahead: VecDeque<Record>,
    /// Parts of an entry whose last part is still to come.
    collected: Option<(Part, BytesMut)>,
    head: Option<Entry>,
    next_sequence: u64,
    groups: VecDeque<Group>,
    groups_bytes: usize,
}

/// Neighbouring entries: which raw offsets they reach.
#[derive(Debug)]
struct Group {
    first: Offset,
    raw_to: Offset,
    bytes: usize,
}

impl Source {
    fn open(stream: &Arc<dyn Stream>, index: usize, kind: Kind) -> Result<Source, Error> {
        let partition = stream.partitions().get(index).ok_or_else(|| Error::Partitions {
            stream: stream.name().to_owned(),
            wanted: index + 1,
            found: stream.partitions().len(),
        })?;
        Ok(Source {
            stream: Arc::clone(stream),
            partition: partition.clone(),
            kind,
            position: stream.start(partition)?,
            ahead: VecDeque::new(),
            collected: None,
            head: None,
            next_sequence: 0,
            groups: VecDeque::new(),
            groups_bytes: 0,
        })
    }

    fn head(&mut self) -> Result<Option<&Entry>, Error> {
        while self.head.is_none() {
            match self.ahead.pop_front() {
                Some(record) => self.take(&record),
                None if self.read()? => {}
                None => return Ok(None),
            }
        }
        Ok(self.head.as_ref())
    }

    /// Whether the stream had more.
    fn read(&mut self) -> Result<bool, Error> {
        let next = match self.stream.read(&self.partition, self.position, READ_BYTES) {
            Ok(chunk) => {
                self.ahead = chunk.records.into();
                chunk.next
            }
            Err(stream::Error::Trimmed { start, .. }) => start,
            // Derived data: what lies behind the damage is made again from raw rather than waited for.
            Err(error @ stream::Error::Damaged { .. }) => {
                tracing::warn!(partition = %self.partition, from = %self.position, %error, "skipped the rest of a damaged stream");
                self.stream.end(&self.partition)?
            }
            Err(error) => return Err(error.into()),
        };
        let moved = next > self.position;
        self.position = next;
        Ok(moved)
    }

    fn take(&mut self, record: &Record) {
        let part = match output::decode(&record.bytes) {
            Ok(part) if part.kind == self.kind => part,
            Ok(_) => return self.skip(record, &InvalidEntry::Field("kind")),
            Err(error) => return self.skip(record, &error),
        };
        self.remember(record, part.mark.range.to);
        self.next_sequence = self.next_sequence.max(part.mark.sequence.saturating_add(1));
        let (first, body) = match self.collected.take() {
            _ if part.part == 0 => (part.clone(), BytesMut::new()),
            Some((first, body)) if part.follows(&first) => (part.clone(), body),
            // Delivered again after an append of unknown fate.
            Some((last, body)) if part == last => {
                self.collected = Some((last, body));
                return;
            }
            // The beginning is missing: a torn tail. The range is written again behind it.
            Some(_) | None => return,
        };
        let body = if part.parts == 1 {
            part.body
        } else {
            let mut body = body;
            body.extend_from_slice(&part.body);
            if part.part + 1 < part.parts {
                self.collected = Some((first, body));
                return;
            }
            body.freeze()
        };
        self.head = Some(Entry { kind: part.kind, mark: part.mark, rows: part.rows, body });
    }

    fn skip(&mut self, record: &Record, error: &InvalidEntry) {
        tracing::warn!(partition = %self.partition, offset = %record.offset, %error, "skipped an entry");
        self.collected = None;
        self.remember(record, Offset::BEGINNING);
    }

    fn remember(&mut self, record: &Record, raw_to: Offset) {
        let bytes = record.bytes.len();
        self.groups_bytes += bytes;
        match self.groups.back_mut() {
            Some(group) if group.bytes < GROUP_BYTES => {
                group.raw_to = group.raw_to.max(raw_to);
                group.bytes += bytes;
            }
            Some(_) | None => self.groups.push_back(Group { first: record.offset, raw_to, bytes }),
        }
    }

    fn trim(&mut self, cut: Offset, retention_bytes: usize) -> Result<(), Error> {
        let mut below = None;
        // The last group stays: it may still grow, and where it ends is not known before the next begins.
        while let (Some(oldest), Some(following)) = (self.groups.front(), self.groups.get(1)) {
            if oldest.raw_to > cut && self.groups_bytes <= retention_bytes {
                break;
            }
            below = Some(following.first);
            self.groups_bytes -= oldest.bytes;
            self.groups.pop_front();
        }
        match below {
            Some(below) => Ok(self.stream.trim(&self.partition, below)?),
            None => Ok(()),
        }
    }
}

impl Part {
    /// Whether this is the part after `before` of the same entry.
    fn follows(&self, before: &Part) -> bool {
        self.mark == before.mark
            && (self.rows, self.parts) == (before.rows, before.parts)
            && self.part == before.part + 1
    }
}
