//! The loader: feeds the real-time view from the derived streams.
//!
//! It takes ranges that all of them have with the recipe in force, so that all rows of a record become visible
//! together, and only those that join the prefix without a gap: its frontier moves by marks alone. What lies below the
//! prefix was seen before and is dropped. It also lets the derived streams forget what the batch view covers. Whether
//! something is missing for good, and is to be enriched again, is noticed by [`crate::service`].

use std::collections::HashMap;
use std::sync::Arc;

use assets::Driver;
use model::causes::Causes;
use model::cut::{Cut, Frontier};
use model::event::{EnrichedEvent, InvalidTsv};
use model::iglu::SchemaKey;
use model::position::{Partition, Position, Range};
use views::realtime::{Applied, NewChunk, RealtimeView};
use views::shred::{BadRowRows, EventRows};
use views::wide::{Inventory, Shape};

use crate::Error;
use crate::derived::Derived;
use crate::enricher::Progress;
use crate::output::{InvalidEntry, Mark, Row};
use crate::ranges::{Entry, Joint, Ranges, Written};

/// The loader of all partitions.
#[derive(Debug)]
pub struct Loader {
    partitions: Vec<PartitionLoader>,
}

impl Loader {
    /// Starts at `base`, the cut from which the recipe with the digest `recipe` is in force, and reads the streams from
    /// their beginning. What schemas say is asked of that recipe.
    ///
    /// # Errors
    /// When the streams have not the same number of partitions, or cannot be read.
    pub fn open(
        streams: &Derived,
        realtime: Arc<RealtimeView>,
        recipe: String,
        schemas: Driver,
        base: Cut,
    ) -> Result<Loader, Error> {
        let partitions = streams.enriched.partitions().len();
        streams.expect_partitions(partitions)?;
        let open = |index| {
            let realtime = Arc::clone(&realtime);
            let (recipe, schemas) = (recipe.clone(), schemas.clone());
            PartitionLoader::open(streams, index, realtime, recipe, schemas, base.clone())
        };
        Ok(Loader { partitions: (0..partitions).map(open).collect::<Result<_, Error>>()? })
    }

    /// At most one range of each partition.
    ///
    /// # Errors
    /// When a stream cannot be read, or the view takes nothing.
    pub fn step(&mut self) -> Result<Progress, Error> {
        let mut all = Progress::Idle;
        for partition in &mut self.partitions {
            if partition.step()? == Progress::Moved {
                all = Progress::Moved;
            }
        }
        Ok(all)
    }

    /// The base, and what the view was given beyond it.
    pub fn frontier(&self) -> Frontier {
        let nothing = Frontier::default();
        self.partitions.iter().fold(nothing, |all, partition| all.join(&partition.frontier))
    }

    /// See [`PartitionLoader::raise`].
    pub fn raise(&mut self, cut: &Cut) {
        self.partitions.iter_mut().for_each(|partition| partition.raise(cut));
    }

    /// See [`PartitionLoader::forget`].
    ///
    /// # Errors
    /// When a stream cannot be trimmed.
    pub fn forget(&mut self, below: &Cut, retention_bytes: usize) -> Result<(), Error> {
        self.partitions
            .iter_mut()
            .try_for_each(|partition| partition.forget(below, retention_bytes))
    }
}

/// The loader of one partition.
#[derive(Debug)]
pub struct PartitionLoader {
    ranges: Ranges,
    realtime: Arc<RealtimeView>,
    recipe: String,
    /// The recipe itself, which knows the schemas.
    schemas: Driver,
    /// What the schemas say that were met.
    shapes: HashMap<SchemaKey, Arc<Shape>>,
    /// The cut from which the view starts.
    base: Cut,
    frontier: Frontier,
    /// The raw partition, once a mark has told its name.
    raw: Option<Partition>,
    /// Read, but not taken by the view: it is offered again.
    refused: Option<Written>,
}

impl PartitionLoader {
    /// The partition `index` of the streams; see [`Loader::open`].
    ///
    /// # Errors
    /// When it is not in all streams, or a stream cannot be read.
    pub fn open(
        streams: &Derived,
        index: usize,
        realtime: Arc<RealtimeView>,
        recipe: String,
        schemas: Driver,
        base: Cut,
    ) -> Result<PartitionLoader, Error> {
        let ranges = Ranges::open(streams, index)?;
        let frontier = base.clone();
        let shapes = HashMap::new();
        Ok(PartitionLoader {
            ranges,
            realtime,
            recipe,
            schemas,
            shapes,
            base,
            frontier,
            raw: None,
            refused: None,
        })
    }

    /// Takes the next range that all streams have.
    ///
    /// # Errors
    /// When a stream cannot be read, or the view takes nothing; the next step tries the same again.
    pub fn step(&mut self) -> Result<Progress, Error> {
        let next = match self.refused.take() {
            Some(written) => Some(written),
            None => self.ranges.next()?,
        };
        let Some(written) = next else { return Ok(Progress::Idle) };
        let taken = self.take(&written);
        if taken.is_err() {
            self.refused = Some(written);
        }
        taken.map(|()| Progress::Moved)
    }

    fn take(&mut self, written: &Written) -> Result<(), Error> {
        let (recipe, range) = (&written.mark().recipe, &written.mark().range);
        self.raw.get_or_insert_with(|| range.partition.clone());
        let prefix = self.frontier.of(&range.partition);
        if *recipe != self.recipe || Joint::of(range, prefix) != Joint::Next {
            return Ok(());
        }
        let chunk = match rows(written) {
            Ok(rows) => self.chunk(written.mark(), rows)?,
            Err(error) => {
                tracing::warn!(partition = %range.partition, from = %range.from, to = %range.to, error = %Causes(&error), "skipped an entry of the derived streams");
                return Ok(());
            }
        };
        match self.realtime.apply(&self.recipe, &self.base, chunk)? {
            Applied::Taken | Applied::Known => self.frontier.raise(&range.partition, range.to),
            Applied::Gap => {
                tracing::warn!(partition = %range.partition, from = %range.from, to = %range.to, "the real-time view misses what lies before")
            }
        }
        Ok(())
    }

    /// The rows of a range with the schemas that they hold. What a schema says may have to be asked for.
    fn chunk(&mut self, mark: &Mark, mut rows: TableRows) -> Result<NewChunk, Error> {
        let (recipe, shapes) = (&self.schemas, &mut self.shapes);
        let mut shape = |schema: &SchemaKey| match shapes.get(schema) {
            Some(shape) => Ok(Arc::clone(shape)),
            None => {
                let found = recipe.schema(schema).map_err(|source| {
                    let Range { partition, from: offset, .. } = mark.range.clone();
                    Error::Enrich { partition, offset, source }
                })?;
                let shape = Arc::new(found.as_ref().map_or(Shape::Json, Shape::of_schema));
                shapes.insert(schema.clone(), Arc::clone(&shape));
                Ok::<_, Error>(shape)
            }
        };
        let schemas = Inventory {
            events: rows.events.mentions().schemas(&mut shape)?,
            failed_events: rows.failed_events.mentions().schemas(&mut shape)?,
        };
        Ok(NewChunk {
            range: mark.range.clone(),
            counts: mark.counts,
            records: mark.records,
            events: rows.events.finish(),
            bad_rows: rows.bad_rows.finish(),
            failed_events: rows.failed_events.finish(),
            schemas,
        })
    }

    /// The base, and what the view was given beyond it.
    pub fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// Takes note of a later cut: the view goes on from there. The caller serves that cut already.
    pub fn raise(&mut self, cut: &Cut) {
        self.base = self.base.join(cut);
        self.frontier = self.frontier.join(cut);
    }

    /// Lets the derived streams forget entries that lie wholly below `below`, the cut of the oldest iteration in use;
    /// and the oldest ones where a partition keeps more than `retention_bytes`, if they were read.
    ///
    /// # Errors
    /// When a stream cannot be trimmed.
    pub fn forget(&mut self, below: &Cut, retention_bytes: usize) -> Result<(), Error> {
        match &self.raw {
            Some(raw) => self.ranges.trim(below.of(raw), retention_bytes),
            None => Ok(()),
        }
    }
}

/// Why a range whose checksums hold cannot be shown: it was written by a program with a fault.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error(transparent)]
    Entry(#[from] InvalidEntry),
    #[error("the event at {position}: {source}")]
    Event { position: Position, source: InvalidTsv },
}

/// The rows of a range in the builders of their tables.
struct TableRows {
    events: EventRows,
    bad_rows: BadRowRows,
    failed_events: EventRows,
}

fn rows(written: &Written) -> Result<TableRows, Unusable> {
    let mark = written.mark();
    let mut bad_rows = BadRowRows::default();
    for row in written.bad.rows()? {
        bad_rows.push(&place_of(mark, &row), row.text);
    }
    let (events, failed_events) = (events(&written.enriched)?, events(&written.failed)?);
    Ok(TableRows { events, bad_rows, failed_events })
}

fn events(entry: &Entry) -> Result<EventRows, Unusable> {
    let mut events = EventRows::default();
    for row in entry.rows()? {
        let position = place_of(entry.mark(), &row);
        let event = EnrichedEvent::from_tsv(row.text)
            .map_err(|source| Unusable::Event { position: position.clone(), source })?;
        events.push(&position, &event);
    }
    Ok(events)
}

fn place_of(mark: &Mark, row: &Row<'_>) -> Position {
    Position { partition: mark.range.partition.clone(), offset: row.offset, index: row.index }
}
