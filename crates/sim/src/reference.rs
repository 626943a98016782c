//! The sequential reference of law 1: the log, record by record, each with the recipe that was in force where it lies.
//!
//! It knows no layers, no files and no cut but as history: the recipe of a position is the one that the manifest named
//! from its cut on, whose next one covers the position; below the cut of a rebuild it is the rebuild's. What registries
//! answered it takes from the facts, and remembers: an answer that is lost and comes back as another one is found out.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use assets::Driver;
use bytes::Bytes;
use enrich::Outcome;
use model::cut::Frontier;
use model::iglu::SchemaKey;
use model::position::{Offset, Partition, Position, RawRecord};
use model::time::Timestamp;
use views::catalog::{Manifest, Table};
use views::merge::{MergedRows, WideRows};
use views::rows;
use views::shred::{BadRowRows, EventRows};
use views::wide::{Columns, Inventory, Shape, Union};

use crate::Violation;

/// The log as it was accepted, and what every recipe makes of it.
#[derive(Default)]
pub struct Reference {
    log: BTreeMap<(Partition, Offset), Bytes>,
    recipes: BTreeMap<String, Driver>,
    outcomes: BTreeMap<(String, Partition, Offset), Outcomes>,
}

/// What a record comes to.
#[derive(Clone)]
struct Outcomes {
    rows: MergedRows,
    events: RecordBatch,
    failed_events: RecordBatch,
    schemas: Inventory,
}

/// Everything that is answered.
#[derive(Default)]
pub struct Expected {
    pub rows: MergedRows,
    /// The wide columns of events, with their values.
    pub events: WideRows,
    /// Those of failed events; what failed has another time in each layer.
    pub failed_events: WideRows,
}

impl Reference {
    pub fn add(&mut self, partition: &Partition, offset: Offset, bytes: Bytes) {
        self.log.insert((partition.clone(), offset), bytes);
    }

    /// All rows below `frontier`, after the iterations of `history`, in the order of their positions.
    ///
    /// # Errors
    /// When a recipe cannot be loaded, or a record cannot be enriched with it.
    pub fn rows(
        &mut self,
        frontier: &Frontier,
        history: &[Manifest],
        load: impl Fn(&str) -> Result<Driver, assets::Error>,
    ) -> Result<Expected, Violation> {
        let mut all = MergedRows::default();
        let (mut events, mut failed_events) = (Vec::new(), Vec::new());
        let mut schemas = Inventory::default();
        let below: Vec<(Partition, Offset)> = self
            .log
            .keys()
            .filter(|(partition, offset)| frontier.covers(partition, *offset))
            .cloned()
            .collect();
        for (partition, offset) in below {
            let recipe = recipe_at(history, &partition, offset)?;
            let outcomes = self.outcomes_of(recipe, &partition, offset, &load)?;
            all.events.extend(outcomes.rows.events);
            all.bad_rows.extend(outcomes.rows.bad_rows);
            all.failed_events.extend(outcomes.rows.failed_events);
            events.push(outcomes.events);
            failed_events.push(outcomes.failed_events);
            schemas.add(&outcomes.schemas);
        }
        let wide = |table, batches: &[RecordBatch]| {
            let mut seen = Union::new();
            if let Some(schemas) = schemas.of(table) {
                schemas.add_to(&mut seen, Offset::BEGINNING);
            }
            WideRows::of(&Columns::of(&seen), batches)
                .map_err(|error| Violation::new(error.to_string()))
        };
        Ok(Expected {
            rows: all,
            events: wide(Table::Events, &events)?,
            failed_events: wide(Table::FailedEvents, &failed_events)?,
        })
    }

    fn outcomes_of(
        &mut self,
        recipe: &str,
        partition: &Partition,
        offset: Offset,
        load: impl Fn(&str) -> Result<Driver, assets::Error>,
    ) -> Result<Outcomes, Violation> {
        let key = (recipe.to_owned(), partition.clone(), offset);
        if let Some(rows) = self.outcomes.get(&key) {
            return Ok(rows.clone());
        }
        if !self.recipes.contains_key(recipe) {
            let loaded = load(recipe)
                .map_err(|error| Violation::new(format!("recipe {recipe}: {error}")))?;
            self.recipes.insert(recipe.to_owned(), loaded);
        }
        let bytes = &self.log[&(partition.clone(), offset)];
        let record = RawRecord { partition, offset, bytes };
        let driver = self.recipes.get_mut(recipe).expect("it was loaded just now");
        let outcomes = driver
            .drive(&record)
            .map_err(|error| Violation::new(format!("{partition} {offset}: {error}")))?;
        let outcomes = shred(partition, offset, outcomes, driver)?;
        self.outcomes.insert(key, outcomes.clone());
        Ok(outcomes)
    }
}

/// The digest of the recipe in force at a position, by the manifests up to the one that is served.
fn recipe_at<'a>(
    history: &'a [Manifest],
    partition: &Partition,
    offset: Offset,
) -> Result<&'a str, Violation> {
    let is_rebuild = |pair: &&[Manifest]| pair[1].generation > pair[0].generation;
    let rebuild = history.windows(2).rfind(is_rebuild).map(|pair| &pair[1]);
    if let Some(rebuild) = rebuild.filter(|rebuild| rebuild.cut.covers(partition, offset)) {
        return Ok(&rebuild.recipe);
    }
    let before =
        history.iter().take_while(|manifest| !manifest.cut.covers(partition, offset)).last();
    before
        .map(|manifest| manifest.next_recipe.as_str())
        .ok_or_else(|| Violation::new("there is no iteration 0"))
}

fn shred(
    partition: &Partition,
    offset: Offset,
    outcomes: Vec<Outcome>,
    driver: &Driver,
) -> Result<Outcomes, Violation> {
    let (mut events, mut bad_rows) = (EventRows::default(), BadRowRows::default());
    let mut failed_events = EventRows::default();
    let (processor, at) = (enrich::processor(), Timestamp(0));
    for (index, outcome) in outcomes.into_iter().enumerate() {
        let position = Position { partition: partition.clone(), offset, index: index as u32 };
        match outcome {
            Outcome::Enriched(event) => events.push(&position, &event),
            Outcome::Failed { bad_row, event } => {
                bad_rows.push(&position, &bad_row.to_json(&processor, at));
                failed_events.push(&position, &event.stamp(&processor, at));
            }
            Outcome::Bad(row) => bad_rows.push(&position, &row.to_json(&processor, at)),
            Outcome::Dropped { .. } | Outcome::Pii(_) => {}
        }
    }
    let shape = |schema: &SchemaKey| {
        let schema = driver.schema(schema).map_err(|error| Violation::new(error.to_string()))?;
        Ok(schema.as_ref().map_or(Shape::Json, Shape::of_schema))
    };
    let schemas = Inventory {
        events: events.mentions().schemas(shape)?,
        failed_events: failed_events.mentions().schemas(shape)?,
    };
    let (events, failed_events) = (events.finish(), failed_events.finish());
    let read = |rows: &RecordBatch| {
        rows::read(std::slice::from_ref(rows)).map_err(|error| Violation::new(error.to_string()))
    };
    let rows = MergedRows {
        events: read(&events)?,
        bad_rows: read(&bad_rows.finish())?,
        failed_events: read(&failed_events)?,
    };
    Ok(Outcomes { rows: rows.comparable(), events, failed_events, schemas })
}
