//! The enricher: reads raw records, calls the enrich function, and writes what comes of them to the derived streams
//! (enriched, bad, failed), in the order of the flow: read, enrich, write, advance.
//!
//! Its only memory is its own output: it opens where the ranges that all these streams have end, counted without a gap from
//! the cut, or at the cut if they do not reach back to it. Nothing here ever holds up the raw stream: where a derived
//! stream takes nothing, the position stays, and what that stream lacks of the range is offered to it again. Run by [`crate::service`], or step by step.

use std::collections::{BTreeMap, VecDeque};
use std::iter::Peekable;
use std::sync::Arc;

use assets::Driver;
use bytes::Bytes;
use enrich::Outcome;
use model::cut::{Cut, Frontier};
use model::position::{Offset, Partition, Range, RawRecord};
use model::time::{Clock, Timestamp};
use stream::{Record, Stream};
use views::catalog::Counts;

use crate::derived::Derived;
use crate::output::{self, Kind, Mark, Rows};
use crate::pii::PiiPartition;
use crate::ranges::{Joint, Ranges};
use crate::{Config, Error};

/// Encoded rows of one stream at which a range ends, so that the loader takes it in bites.
const RANGE_BYTES: usize = 4 << 20;

/// What a step came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There may be more to do at once.
    Moved,
    /// All that could be read was done.
    Idle,
    /// A derived stream takes nothing for now; the position stays. Try again after a while.
    Stalled { partition: Partition, reason: String },
}

/// What was written since the enricher was opened. A range that is written again counts again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub records: u64,
    pub counts: Counts,
    /// Bad rows by their schema, a full Iglu URI.
    pub bad_by_schema: BTreeMap<&'static str, u64>,
    /// Events that are good only because the recipe accepts texts that are too long.
    pub invalid_enriched: u64,
}

/// The enricher of all partitions of a raw stream.
#[derive(Debug)]
pub struct Enricher {
    partitions: Vec<PartitionEnricher>,
}

impl Enricher {
    /// Opens every partition; see [`PartitionEnricher::open`].
    ///
    /// # Errors
    /// When the streams have not the same number of partitions, or cannot be read.
    pub fn open(
        streams: &Streams,
        recipe: impl Into<Driver>,
        cut: &Cut,
        clock: Arc<dyn Clock>,
        config: Config,
    ) -> Result<Enricher, Error> {
        let recipe = recipe.into();
        let open = |index| {
            let (recipe, clock) = (recipe.clone(), Arc::clone(&clock));
            PartitionEnricher::open(streams, index, recipe, cut, clock, config.clone())
        };
        let partitions = (0..streams.partitions()?).map(open).collect::<Result<_, Error>>()?;
        Ok(Enricher { partitions })
    }

    /// One bounded batch of each partition. [`Progress::Moved`] if any moved, else the first that stalled.
    ///
    /// # Errors
    /// Those of [`PartitionEnricher::step`]; partitions before the failing one have done their batch.
    pub fn step(&mut self) -> Result<Progress, Error> {
        let mut all = Progress::Idle;
        for partition in &mut self.partitions {
            all = match (all, partition.step()?) {
                (Progress::Moved, _) | (_, Progress::Moved) => Progress::Moved,
                (stalled @ Progress::Stalled { .. }, _) => stalled,
                (Progress::Idle, progress) => progress,
            };
        }
        Ok(all)
    }

    /// For each partition the first position that is not yet in all derived streams.
    pub fn frontier(&self) -> Frontier {
        self.partitions.iter().map(|p| (p.raw.clone(), p.position)).collect()
    }

    /// See [`PartitionEnricher::raise`].
    pub fn raise(&mut self, cut: &Cut) {
        self.partitions.iter_mut().for_each(|partition| partition.raise(cut));
    }

    /// See [`PartitionEnricher::rewind`].
    pub fn rewind(&mut self, to: &Frontier) {
        self.partitions.iter_mut().for_each(|partition| partition.rewind(to));
    }

    /// Goes over to another recipe from `cut` on, or from where its own earlier output already reaches.
    ///
    /// # Errors
    /// When the derived streams cannot be read; then nothing has changed.
    pub fn switch(&mut self, recipe: impl Into<Driver>, cut: &Cut) -> Result<(), Error> {
        let recipe = recipe.into();
        let switched = self.partitions.iter().map(|it| it.switched(recipe.clone(), cut));
        self.partitions = switched.collect::<Result<_, Error>>()?;
        Ok(())
    }
}

/// What the enricher reads, and what it writes.
#[derive(Clone, Debug)]
pub struct Streams {
    pub raw: Arc<dyn Stream>,
    pub derived: Derived,
    /// Clear values of what was pseudonymised, where the recipe asks for them; no view is made of it.
    pub pii: Arc<dyn Stream>,
}

impl Streams {
    /// How many partitions each of them has.
    ///
    /// # Errors
    /// When it is not the same number.
    pub fn partitions(&self) -> Result<usize, Error> {
        let wanted = self.raw.partitions().len();
        self.derived.expect_partitions(wanted)?;
        Ok(wanted)
    }
}

/// The enricher of one partition.
#[derive(Debug)]
pub struct PartitionEnricher {
    streams: Streams,
    pii: PiiPartition,
    index: usize,
    raw: Partition,
    /// The recipe, and what it has learned.
    recipe: Driver,
    cut: Offset,
    position: Offset,
    /// The sequence number of the next range, never used before in any of the streams.
    sequence: u64,
    /// The range that one of the streams has not taken wholly.
    unwritten: Option<Unwritten>,
    clock: Arc<dyn Clock>,
    config: Config,
    tally: Tally,
}

impl PartitionEnricher {
    /// Reads the derived streams and opens where the ranges that all have with this recipe end, without a gap from the
    /// cut on; at the cut if there are none.
    ///
    /// # Errors
    /// When the partition is not in all streams, or a derived stream cannot be read.
    pub fn open(
        streams: &Streams,
        index: usize,
        recipe: impl Into<Driver>,
        cut: &Cut,
        clock: Arc<dyn Clock>,
        config: Config,
    ) -> Result<PartitionEnricher, Error> {
        let recipe = recipe.into();
        let raw =
            streams.raw.partitions().get(index).cloned().ok_or_else(|| Error::Partitions {
                stream: streams.raw.name().to_owned(),
                wanted: index + 1,
                found: streams.raw.partitions().len(),
            })?;
        let mut ranges = Ranges::open(&streams.derived, index)?;
        let mut position = cut.of(&raw);
        while let Some(written) = ranges.next()? {
            let Mark { recipe: of, range, .. } = written.mark();
            if of == recipe.recipe().digest()
                && range.partition == raw
                && Joint::of(range, position) == Joint::Next
            {
                position = range.to;
            }
        }
        Ok(PartitionEnricher {
            streams: streams.clone(),
            pii: PiiPartition::open(&streams.pii, index, config.pii_retention_bytes)?,
            index,
            cut: cut.of(&raw),
            raw,
            recipe,
            position,
            sequence: ranges.next_sequence()?,
            unwritten: None,
            clock,
            config,
            tally: Tally::default(),
        })
    }

    /// Enriches and writes one bounded batch.
    ///
    /// # Errors
    /// [`Error::BelowTheLog`] until [`PartitionEnricher::raise`] tells the cut below which raw was trimmed. Also when raw
    /// cannot be read, or a record's enriching waits for something outside; the position stays at the last range that
    /// was written.
    pub fn step(&mut self) -> Result<Progress, Error> {
        if self.unwritten.is_some() {
            return Ok(self.write());
        }
        let read = self.streams.raw.read(&self.raw, self.position, self.config.batch_bytes);
        let chunk = match read {
            Ok(chunk) => chunk,
            Err(stream::Error::Trimmed { start, .. }) => {
                // Raw is trimmed below a cut that is served, and the position is never below the cut known here.
                let (partition, cut) = (self.raw.clone(), self.cut);
                return Err(Error::BelowTheLog { partition, start, cut });
            }
            Err(error) => return Err(error.into()),
        };
        if chunk.next <= self.position {
            return Ok(Progress::Idle);
        }
        let now = self.clock.now();
        let mut records = chunk.records.iter().peekable();
        while self.position < chunk.next {
            let made = self.enrich_range(&mut records, chunk.next, now)?;
            self.unwritten = Some(Unwritten::new(made, self.config.entry_bytes_max));
            if let stalled @ Progress::Stalled { .. } = self.write() {
                return Ok(stalled);
            }
        }
        Ok(Progress::Moved)
    }

    /// The first offset that is not yet in all derived streams.
    pub fn position(&self) -> Offset {
        self.position
    }

    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Takes note of a later cut: what lies below it needs no enriching any more. The caller serves that cut already.
    pub fn raise(&mut self, cut: &Cut) {
        self.cut = self.cut.max(cut.of(&self.raw));
        self.position = self.position.max(self.cut);
        if self.unwritten.as_ref().is_some_and(|unwritten| unwritten.range_to() <= self.position) {
            self.unwritten = None;
        }
    }

    /// Goes back to where a reader of the derived streams got stuck: what lies behind is enriched and written again.
    pub fn rewind(&mut self, to: &Frontier) {
        self.position = self.position.min(to.of(&self.raw)).max(self.cut);
        self.unwritten = None;
    }

    /// The enricher of the same partition with another recipe, from `cut` on.
    ///
    /// # Errors
    /// Those of [`PartitionEnricher::open`].
    pub fn switched(
        &self,
        recipe: impl Into<Driver>,
        cut: &Cut,
    ) -> Result<PartitionEnricher, Error> {
        let (clock, config) = (Arc::clone(&self.clock), self.config.clone());
        let mut next =
            PartitionEnricher::open(&self.streams, self.index, recipe, cut, clock, config)?;
        next.sequence = next.sequence.max(self.sequence);
        next.tally = self.tally.clone();
        Ok(next)
    }

    /// Enriches records from the position on, until they run out, one stream has a bite full, or a record waits for
    /// something outside. The range ends where the next record begins, or at `end`.
    ///
    /// # Errors
    /// When the first record waits.
    fn enrich_range<'a>(
        &mut self,
        records: &mut Peekable<impl Iterator<Item = &'a Record>>,
        end: Offset,
        now: Timestamp,
    ) -> Result<Made, Error> {
        let range = Range { partition: self.raw.clone(), from: self.position, to: end };
        let recipe = self.recipe.recipe().digest().to_owned();
        let counts = Counts::default();
        let mark = Mark { recipe, range, sequence: self.sequence, records: 0, counts };
        // A number stands for one attempt at one range: a reader never joins the parts of two.
        self.sequence += 1;
        let mut made = Made {
            mark,
            enriched: Rows::default(),
            bad: Rows::default(),
            failed: Rows::default(),
            pii: Rows::default(),
            bad_by_schema: BTreeMap::new(),
            invalid_enriched: 0,
        };
        while let Some(record) = records.peek() {
            if made.is_a_bite() {
                made.mark.range.to = record.offset;
                break;
            }
            let at =
                RawRecord { partition: &self.raw, offset: record.offset, bytes: &record.bytes };
            match self.recipe.drive(&at) {
                Ok(outcomes) => {
                    let recipe = self.recipe.recipe();
                    let is_too_long = |outcome: &&Outcome| match outcome {
                        Outcome::Enriched(event) => recipe.accepts_too_long(event),
                        _ => false,
                    };
                    made.invalid_enriched += outcomes.iter().filter(is_too_long).count() as u64;
                    made.add(record.offset, outcomes, now);
                }
                // What comes before it does not wait: it is written, and the next range begins with this record.
                Err(_) if made.mark.records > 0 => {
                    made.mark.range.to = record.offset;
                    break;
                }
                Err(source) => {
                    let (partition, offset) = (self.raw.clone(), record.offset);
                    return Err(Error::Enrich { partition, offset, source });
                }
            }
            records.next();
        }
        Ok(made)
    }

    /// Writes what is still missing of the range in hand, and advances when all streams have all of it. A stream that
    /// has its part is not given it again, however often another one refuses.
    fn write(&mut self) -> Progress {
        let Some(unwritten) = &mut self.unwritten else { return Progress::Idle };
        if let Err(error) = unwritten.write(&self.streams, &mut self.pii, self.index) {
            let reason = error.to_string();
            return Progress::Stalled { partition: self.raw.clone(), reason };
        }
        self.position = self.position.max(unwritten.range_to());
        self.tally.add(&unwritten.made);
        self.unwritten = None;
        Progress::Moved
    }
}

/// An enriched range on its way into the streams.
#[derive(Debug)]
struct Unwritten {
    made: Made,
    /// What each stream still has to take, in order; the streams in the order of [`Derived::by_kind`].
    entries: [VecDeque<Bytes>; 3],
    /// What the PII stream still has to take.
    pii: VecDeque<Bytes>,
}

impl Unwritten {
    fn new(mut made: Made, entry_bytes_max: usize) -> Unwritten {
        let (enriched, bad) = (std::mem::take(&mut made.enriched), std::mem::take(&mut made.bad));
        let failed = std::mem::take(&mut made.failed);
        let kinds = [(Kind::Enriched, enriched), (Kind::Bad, bad), (Kind::Failed, failed)];
        let entries = kinds
            .map(|(kind, rows)| output::encode(kind, &made.mark, &rows, entry_bytes_max).into());
        let pii = std::mem::take(&mut made.pii);
        let pii = match pii.bytes() {
            0 => VecDeque::new(),
            _ => output::encode(Kind::Pii, &made.mark, &pii, entry_bytes_max).into(),
        };
        Unwritten { made, entries, pii }
    }

    fn range_to(&self) -> Offset {
        self.made.mark.range.to
    }

    /// Appends until all streams have all parts, or one refuses. An entry whose append failed is not in its stream, or
    /// is there twice after the next attempt, which readers do not mind.
    fn write(
        &mut self,
        streams: &Streams,
        pii: &mut PiiPartition,
        index: usize,
    ) -> Result<(), stream::Error> {
        pii.write(&mut self.pii)?;
        for ((_, stream), entries) in streams.derived.by_kind().into_iter().zip(&mut self.entries) {
            let partition = &stream.partitions()[index];
            while let Some(entry) = entries.front() {
                futures::executor::block_on(stream.append(partition, vec![entry.clone()]))?;
                entries.pop_front();
            }
        }
        Ok(())
    }
}

/// What became of one range.
#[derive(Debug)]
struct Made {
    mark: Mark,
    enriched: Rows,
    bad: Rows,
    failed: Rows,
    pii: Rows,
    bad_by_schema: BTreeMap<&'static str, u64>,
    /// Of the enriched, those with texts that are too long.
    invalid_enriched: u64,
}

impl Made {
    /// Whether one stream has so much of it that the range is to end.
    fn is_a_bite(&self) -> bool {
        let all = [&self.enriched, &self.bad, &self.failed, &self.pii];
        all.iter().any(|rows| rows.bytes() >= RANGE_BYTES)
    }

    fn add(&mut self, offset: Offset, outcomes: Vec<Outcome>, now: Timestamp) {
        self.mark.records += 1;
        for (index, outcome) in (0..).zip(outcomes) {
            if !matches!(outcome, Outcome::Pii(_)) {
                self.mark.counts.outcomes += 1;
            }
            match outcome {
                Outcome::Enriched(mut event) => {
                    event.etl_tstamp = Some(now);
                    self.enriched.push(offset, index, &event.to_tsv());
                    self.mark.counts.enriched += 1;
                }
                Outcome::Failed { bad_row, event } => {
                    self.add_bad_row(offset, index, &bad_row, now);
                    let event = event.stamp(&enrich::processor(), now);
                    self.failed.push(offset, index, &event.to_tsv());
                    self.mark.counts.failed += 1;
                }
                Outcome::Bad(bad_row) => {
                    self.add_bad_row(offset, index, &bad_row, now);
                    self.mark.counts.bad += 1;
                }
                Outcome::Dropped { rule: _ } => self.mark.counts.dropped += 1,
                Outcome::Pii(mut event) => {
                    event.etl_tstamp = Some(now);
                    self.pii.push(offset, index, &event.to_tsv());
                }
            }
        }
    }

    fn add_bad_row(
        &mut self,
        offset: Offset,
        index: u32,
        bad_row: &model::bad_row::BadRow,
        now: Timestamp,
    ) {
        self.bad.push(offset, index, &bad_row.to_json(&enrich::processor(), now));
        *self.bad_by_schema.entry(bad_row.schema()).or_default() += 1;
    }
}

impl Tally {
    /// The sum of two.
    pub fn join(&mut self, other: &Tally) {
        self.records += other.records;
        self.counts = self.counts.plus(&other.counts);
        self.invalid_enriched += other.invalid_enriched;
        for (schema, count) in &other.bad_by_schema {
            *self.bad_by_schema.entry(schema).or_default() += count;
        }
    }

    fn add(&mut self, made: &Made) {
        self.records += made.mark.records;
        self.counts = self.counts.plus(&made.mark.counts);
        self.invalid_enriched += made.invalid_enriched;
        for (schema, count) in &made.bad_by_schema {
            *self.bad_by_schema.entry(schema).or_default() += count;
        }
    }
}
