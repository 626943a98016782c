//! A log whose outcomes are known from the position alone, so that every answer can be computed a second time.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use model::cut::{Cut, Frontier};
use model::event::EnrichedEvent;
use model::files::Files;
use model::iglu::SchemaKey;
use model::position::{Offset, Partition, Position, Range};
use views::catalog::{Catalog, Commit, Counts, LedgerEntry, Manifest, Table};
use views::merge::{MergedRows, WideRows};
use views::realtime::{NewChunk, Options, RealtimeView};
use views::rows;
use views::shred::{BadRowRows, EventRows};
use views::tables::{self, Lot};
use views::wide::{Columns, Inventory, Shape, Union};

pub(crate) const DATA: &str = "/data";
pub(crate) const RECIPE: &str = "recipe-a";

pub(crate) fn data_dir() -> PathBuf {
    PathBuf::from(DATA)
}

pub(crate) fn raw(index: u32) -> Partition {
    Partition::of_stream("raw", index)
}

pub(crate) fn at(number: u64) -> Offset {
    Offset::from_number(number)
}

pub(crate) fn range(partition: u32, from: u64, to: u64) -> Range {
    Range { partition: raw(partition), from: at(from), to: at(to) }
}

pub(crate) fn cut(first: u64, second: u64) -> Cut {
    Cut::new([(raw(0), at(first)), (raw(1), at(second))])
}

#[derive(Clone, Copy)]
enum Outcome {
    Enriched,
    Failed,
    Bad,
}

/// The outcomes of the record at an offset. Each offset that is 3 modulo 4 is a hole.
fn outcomes(offset: u64) -> Vec<Outcome> {
    match offset % 4 {
        0 => vec![Outcome::Enriched],
        1 => vec![Outcome::Enriched, Outcome::Bad, Outcome::Enriched],
        2 => vec![Outcome::Failed],
        _ => Vec::new(),
    }
}

/// The outcomes of a range as rows of each table.
pub(crate) struct Shredded {
    pub(crate) tables: [RecordBatch; 3],
    pub(crate) records: u64,
    pub(crate) counts: Counts,
    pub(crate) schemas: Inventory,
}

/// The outcomes of a range as rows of each table, with records and counts.
pub(crate) fn shred(range: &Range) -> Shredded {
    let (mut events, mut failed_events) = (EventRows::new(), EventRows::new());
    let mut bad_rows = BadRowRows::new();
    let (mut records, mut counts) = (0, Counts::default());
    for offset in range.from.number()..range.to.number() {
        let outcomes = outcomes(offset);
        records += u64::from(!outcomes.is_empty());
        for (index, outcome) in (0u32..).zip(outcomes) {
            let position =
                Position { partition: range.partition.clone(), offset: at(offset), index };
            let event_id = Some(position.to_string());
            let event = EnrichedEvent { event_id, ..self_describing(offset, index) };
            let bad_row = format!("{{\"data\":{{\"payload\":\"{position}\"}}}}");
            counts.outcomes += 1;
            match outcome {
                Outcome::Enriched => {
                    counts.enriched += 1;
                    events.push(&position, &event);
                }
                Outcome::Failed => {
                    counts.failed += 1;
                    failed_events.push(&position, &event);
                    bad_rows.push(&position, &bad_row);
                }
                Outcome::Bad => {
                    counts.bad += 1;
                    bad_rows.push(&position, &bad_row);
                }
            }
        }
    }
    let schemas = Inventory {
        events: events.mentions().schemas(shape).unwrap(),
        failed_events: failed_events.mentions().schemas(shape).unwrap(),
    };
    let tables = [events.finish(), bad_rows.finish(), failed_events.finish()];
    Shredded { tables, records, counts, schemas }
}

/// An event with an entity, and sometimes a self-describing event, whose schemas change along the log.
fn self_describing(offset: u64, index: u32) -> EnrichedEvent {
    let entity = |name: &str, version: String, data| serde_json::json!({"schema": format!("iglu:com.acme/{name}/jsonschema/{version}"), "data": data});
    let contexts = entity(
        "contexts",
        "1-0-0".to_owned(),
        serde_json::json!([
            entity(
                &format!("e{}", offset / 5),
                "1-0-0".to_owned(),
                serde_json::json!({"a": offset})
            ),
            entity(
                "user",
                format!("1-0-{}", offset / 3),
                serde_json::json!({"id": index, "p0": 1, "p1": "x"})
            ),
        ]),
    );
    let cart = entity("cart", format!("1-0-{}", offset / 4), serde_json::json!({"total": offset}));
    let unstruct = entity("unstruct_event", "1-0-0".to_owned(), cart);
    EnrichedEvent {
        contexts: Some(contexts.to_string()),
        unstruct_event: offset.is_multiple_of(2).then(|| unstruct.to_string()),
        ..EnrichedEvent::default()
    }
}

/// What the schemas say: later versions of `user` have more properties, `cart` changes the type of its own.
fn shape(schema: &SchemaKey) -> Result<Shape, std::convert::Infallible> {
    let addition = schema.version().addition();
    let json = match schema.name() {
        "user" if addition > 0 => {
            serde_json::json!({"id": "bigint", format!("p{}", addition % 2): "json"})
        }
        "user" => serde_json::json!({"id": "bigint"}),
        "cart" if addition > 1 => serde_json::json!({"total": "double"}),
        "cart" => serde_json::json!({"total": "bigint"}),
        _ => serde_json::json!({"a": "bigint"}),
    };
    Ok(json.try_into().unwrap())
}

/// The wide columns of the events below the frontier, computed from nothing else.
pub(crate) fn expected_wide(table: Table, frontier: &Frontier) -> WideRows {
    let (mut batches, mut schemas) = (Vec::new(), Inventory::default());
    for (partition, end) in frontier.iter() {
        let whole = Range { partition: partition.clone(), from: Offset::BEGINNING, to: end };
        let shredded = shred(&whole);
        schemas.add(&shredded.schemas);
        batches.push(shredded.tables[table as usize].clone());
    }
    let mut all = Union::new();
    if let Some(schemas) = schemas.of(table) {
        schemas.add_to(&mut all, Offset::BEGINNING);
    }
    WideRows::of(&Columns::of(&all), &batches).unwrap()
}

pub(crate) fn chunk(range: Range) -> NewChunk {
    let Shredded { tables: [events, bad_rows, failed_events], records, counts, schemas } =
        shred(&range);
    NewChunk { range, records, counts, events, bad_rows, failed_events, schemas }
}

/// All rows of the log below the frontier, computed from nothing else.
pub(crate) fn expected(frontier: &Frontier) -> MergedRows {
    let mut expected = MergedRows::default();
    for (partition, end) in frontier.iter() {
        let whole = Range { partition: partition.clone(), from: Offset::BEGINNING, to: end };
        for (table, rows) in Table::ALL.into_iter().zip(shred(&whole).tables) {
            expected.of(table).extend(rows::read(&[rows]).unwrap());
        }
    }
    expected
}

pub(crate) fn open(files: &Arc<dyn Files>) -> Catalog {
    Catalog::open(files.clone(), Path::new(DATA), || Ok(Manifest::first(RECIPE, "t"))).unwrap()
}

pub(crate) fn view() -> RealtimeView {
    RealtimeView::new(Options { memory_bytes_max: u64::MAX, spill: None })
}

/// The manifest of the iteration that moves the newest one's cut to `to`; its files are written.
pub(crate) fn plan(files: &dyn Files, newest: &Manifest, to: &Cut) -> Manifest {
    let iteration = newest.iteration + 1;
    let recipe = newest.next_recipe.clone();
    let mut next = Manifest {
        iteration,
        parent: Some(newest.iteration),
        committed_at: "t".to_owned(),
        cut: to.clone(),
        recipe: recipe.clone(),
        ..newest.clone()
    };
    for (partition, end) in to.iter() {
        let from = newest.cut.of(partition);
        if from == end {
            continue;
        }
        let range = Range { partition: partition.clone(), from, to: end };
        let Shredded { tables, records, counts, schemas } = shred(&range);
        next.schemas.get_or_insert_default().admit(&schemas, iteration);
        for (table, rows) in Table::ALL.into_iter().zip(tables) {
            let written = tables::write(
                files,
                Path::new(DATA),
                table,
                &range,
                Lot::Iteration(iteration),
                &recipe,
                &[rows],
            );
            next.files.push(written.unwrap());
        }
        let partition = partition.clone();
        let (recipe, master) = (recipe.clone(), "master/x".to_owned());
        next.ledger.push(LedgerEntry {
            partition,
            from,
            to: end,
            records,
            counts,
            iteration,
            recipe,
            master,
        });
    }
    next
}

/// Moves the cut by one iteration.
pub(crate) fn iterate(files: &dyn Files, catalog: &Catalog, to: &Cut) {
    let next = plan(files, &catalog.newest(), to);
    match catalog.commit(next).unwrap() {
        Commit::Published(_) => {}
        Commit::Lost(newest) => panic!("lost to iteration {}", newest.iteration),
    }
}
