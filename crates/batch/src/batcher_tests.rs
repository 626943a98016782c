//! The laws of an iteration: the batch view is what one sequential run of the function gives, whatever was killed.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use enrich::iglu::Schemas;
use enrich::{Outcome, Recipe, Settings};
use futures::executor::block_on;
use model::cut::Cut;
use model::files::Files;
use model::iglu::SchemaKey;
use model::payload::{CollectorPayload, SCHEMA};
use model::position::{Offset, Partition, Position, RawRecord};
use model::time::{Clock, Timestamp};
use proptest::prelude::*;
use stream::Stream;
use stream::memory::Memory;
use views::catalog::{Catalog, Counts, Manifest, Table};
use views::merge::MergedRows;
use views::shred::{BadRowRows, EventRows};
use views::wide::{self, Inventory, Shape};

use crate::Error;
use crate::archiver::{self, Archiver};
use crate::batcher::{Batcher, Config, Iterated};
use crate::testing::MemoryDisk;

pub(crate) const DATA: &str = "/d";

#[derive(Debug)]
pub(crate) struct Fixed(pub(crate) i64);

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp(self.0)
    }
}

/// The raw stream and the data folder: what outlives a process.
pub(crate) struct World {
    pub(crate) raw: Memory,
    pub(crate) disk: MemoryDisk,
    pub(crate) file_bytes_max: u64,
    pub(crate) workers: usize,
    /// Whether folders can be listed, and so be tidied.
    pub(crate) tidies: bool,
}

impl World {
    pub(crate) fn new(partitions: u32) -> World {
        let (raw, disk) = (Memory::new("raw", partitions), MemoryDisk::default());
        World { raw, disk, file_bytes_max: 1500, workers: 1, tidies: false }
    }

    pub(crate) fn append(&self, partition: usize, record: Vec<u8>) {
        let partition = &self.raw.partitions()[partition];
        block_on(self.raw.append(partition, vec![Bytes::from(record)])).unwrap();
    }

    pub(crate) fn files(&self) -> Arc<dyn Files> {
        Arc::new(self.disk.clone())
    }

    /// Opening may list, to find a manifest that is missing; nothing afterwards may.
    pub(crate) fn catalog(&self) -> Result<Arc<Catalog>, views::Error> {
        self.disk.allow_listing(true);
        let first = || {
            let recipe = recipe(50);
            assets::pin(&self.disk, Path::new(DATA), &recipe)?;
            Ok(Manifest::first(recipe.digest(), &Timestamp(0).to_iso()))
        };
        let catalog = Catalog::open(self.files(), Path::new(DATA), first);
        self.disk.allow_listing(self.tidies);
        catalog.map(Arc::new)
    }

    fn batcher(&self, catalog: &Arc<Catalog>, now: i64) -> Batcher {
        let workers = NonZeroUsize::new(self.workers).unwrap();
        self.batcher_with(catalog, now, Config { workers, part_rows_max: 3, ..Config::default() })
    }

    pub(crate) fn batcher_with(&self, catalog: &Arc<Catalog>, now: i64, config: Config) -> Batcher {
        let (files, clock) = (self.files(), Arc::new(Fixed(now)));
        Batcher::new(catalog.clone(), files, DATA.into(), self.raw.partitions(), clock, config)
    }

    /// One life of the batch layer: start, archive everything, iterate.
    pub(crate) fn live(&self, now: i64, proposed: &Recipe) -> Result<Iterated, Error> {
        let catalog = self.catalog()?;
        let raw = Arc::new(self.raw.clone());
        let config = archiver::Config { file_bytes_max: self.file_bytes_max };
        let cut = &catalog.newest().cut;
        Archiver::new(raw, self.files(), DATA.into(), cut, config)?.flush()?;
        self.batcher(&catalog, now).iterate(proposed)
    }

    /// Archives all that the raw stream holds.
    pub(crate) fn archive(&self, catalog: &Catalog) {
        let raw = Arc::new(self.raw.clone());
        let config = archiver::Config { file_bytes_max: self.file_bytes_max };
        let cut = &catalog.newest().cut;
        Archiver::new(raw, self.files(), DATA.into(), cut, config).unwrap().flush().unwrap();
    }

    /// Every table file is listed in the manifest, and no temporary file is left.
    pub(crate) fn check_no_leftovers(&self, manifest: &Manifest) {
        for path in self.disk.names() {
            let name = path.file_name().unwrap().to_str().unwrap();
            let is_listed = || manifest.files.iter().any(|f| f.path_in(Path::new(DATA)) == path);
            let is_table = path.starts_with("/d/tables");
            assert!(!name.starts_with(".new-"), "{} is left", path.display());
            assert!(!is_table || is_listed(), "{} is left", path.display());
        }
    }

    fn records(&self) -> Vec<(Partition, Offset, Bytes)> {
        let mut records = Vec::new();
        for partition in self.raw.partitions() {
            let chunk = self.raw.read(partition, Offset::BEGINNING, usize::MAX).unwrap();
            records
                .extend(chunk.records.into_iter().map(|r| (partition.clone(), r.offset, r.bytes)));
        }
        records
    }

    /// What one sequential run gives for all records below the cut, each with the recipe of its range.
    pub(crate) fn expect(
        &self,
        cut: &Cut,
        recipe_of: impl Fn(&Partition, Offset) -> Recipe,
    ) -> View {
        let (mut events, mut bad_rows) = (EventRows::new(), BadRowRows::new());
        let mut failed_events = EventRows::new();
        let processor = enrich::processor();
        let mut counts = Counts::default();
        for (partition, offset, bytes) in self.records() {
            if !cut.covers(&partition, offset) {
                continue;
            }
            let raw = RawRecord { partition: &partition, offset, bytes: &bytes };
            let outcomes = assets::drive(&raw, &recipe_of(&partition, offset)).unwrap();
            for (index, outcome) in (0..).zip(outcomes) {
                let position = Position { partition: partition.clone(), offset, index };
                counts.outcomes += 1;
                match outcome {
                    Outcome::Enriched(event) => {
                        events.push(&position, &event);
                        counts.enriched += 1;
                    }
                    Outcome::Bad(bad_row) => {
                        bad_rows.push(&position, &bad_row.to_json(&processor, Timestamp(0)));
                        counts.bad += 1;
                    }
                    Outcome::Failed { bad_row, event } => {
                        bad_rows.push(&position, &bad_row.to_json(&processor, Timestamp(0)));
                        failed_events.push(&position, &event.stamp(&processor, Timestamp(0)));
                        counts.failed += 1;
                    }
                    Outcome::Dropped { .. } | Outcome::Pii(_) => {
                        unreachable!("no rule drops anything, and nothing is pseudonymised")
                    }
                }
            }
        }
        let read = |batch| views::rows::read(&[batch]).unwrap();
        let schemas = Inventory {
            events: events.mentions().schemas(shape).unwrap(),
            failed_events: failed_events.mentions().schemas(shape).unwrap(),
        };
        let rows = MergedRows {
            events: read(events.finish()),
            bad_rows: read(bad_rows.finish()),
            failed_events: read(failed_events.finish()),
        };
        View::of(rows, counts, &schemas)
    }

    /// What the manifest's files and ledger say.
    pub(crate) fn view(&self, manifest: &Manifest) -> View {
        let rows = |table| {
            let mut rows = Vec::new();
            for file in manifest.files_of(table) {
                let batches = views::tables::read(&self.disk, Path::new(DATA), file).unwrap();
                rows.extend(views::rows::read(&batches).unwrap());
            }
            rows
        };
        let counts = manifest.ledger.iter().fold(Counts::default(), |sum, e| sum.plus(&e.counts));
        assert!(counts.closes());
        let records: u64 = manifest.ledger.iter().map(|entry| entry.records).sum();
        let below = |(p, o, _): &&(Partition, Offset, Bytes)| manifest.cut.covers(p, *o);
        assert_eq!(records, self.records().iter().filter(below).count() as u64);
        let mut found = MergedRows::default();
        Table::ALL.into_iter().for_each(|table| *found.of(table) = rows(table));
        View::of(found, counts, manifest.schemas.as_ref().unwrap())
    }
}

/// The batch view without its stamps, by position.
#[derive(Debug, PartialEq)]
pub(crate) struct View {
    rows: MergedRows,
    counts: Counts,
    /// Which schemas the events hold.
    schemas: Vec<String>,
}

/// What the schemas say is not compared here.
fn shape(_: &SchemaKey) -> Result<Shape, Infallible> {
    Ok(Shape::Json)
}

impl View {
    fn of(rows: MergedRows, counts: Counts, inventory: &Inventory) -> View {
        let mut rows = rows.comparable();
        Table::ALL.into_iter().for_each(|table| rows.of(table).sort());
        let named = |table: &str, schemas: &wide::Schemas| -> Vec<String> {
            schemas.keys().map(|(is_context, key)| format!("{table} {is_context} {key}")).collect()
        };
        let events = named("events", &inventory.events);
        let schemas = [events, named("failed events", &inventory.failed_events)].concat();
        View { rows, counts, schemas }
    }
}

/// The recipe with this depth of JSON; depth 0 stands for the one that makes a size violation of everything.
/// Each is made once: schemas are compiled with the first record that needs them.
pub(crate) fn recipe(depth: u32) -> Recipe {
    static RECIPES: Mutex<BTreeMap<u32, Recipe>> = Mutex::new(BTreeMap::new());
    let ours = Settings { failed_events: true, ..Settings::default() };
    let settings = match depth {
        0 => Settings { record_bytes_max: 100, ..ours },
        json_depth_max => Settings { json_depth_max, ..ours },
    };
    let make = || Recipe::new(Schemas::embedded(), settings);
    RECIPES.lock().unwrap().entry(depth).or_insert_with(make).clone()
}

pub(crate) fn tiny() -> Recipe {
    recipe(0)
}

fn request(path: &str, querystring: &str) -> Vec<u8> {
    let payload = CollectorPayload {
        ip_address: "192.0.2.1".to_owned(),
        timestamp: 1_700_000_000_000,
        encoding: "UTF-8".to_owned(),
        collector: "snowmelt-0.1.0-log".to_owned(),
        user_agent: Some("test".to_owned()),
        path: Some(path.to_owned()),
        querystring: Some(querystring.to_owned()),
        schema: SCHEMA.to_owned(),
        ..CollectorPayload::default()
    };
    payload.encode()
}

/// The parameter with the entity of some page views.
fn context(n: u32) -> String {
    if !n.is_multiple_of(5) {
        return String::new();
    }
    let data = format!("{{\"id\":\"00000000-0000-4000-8000-{n:012}\"}}");
    let entity = format!(
        "{{\"schema\":\"iglu:com.snowplowanalytics.snowplow/web_page/jsonschema/1-0-0\",\"data\":{data}}}"
    );
    let contexts = "iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-0";
    let json = format!("{{\"schema\":\"{contexts}\",\"data\":[{entity}]}}");
    let escaped = json.bytes().map(|byte| format!("%{byte:02x}"));
    format!("&co={}", escaped.collect::<String>())
}

/// A page view, sometimes with an entity or without an event id; a request of no known adapter or a page view whose contexts are no JSON;
/// bytes that are no payload.
pub(crate) fn record(kind: u32, n: u32) -> Vec<u8> {
    match kind {
        0 => request("/i", &format!("e=pv&p=web&tv=js-1&url=http%3A%2F%2Fa.example%2F{n}")),
        1 => request(
            "/i",
            &format!(
                "e=pv&p=web&tv=js-1&eid=00000000-0000-4000-8000-{n:012}&aid=shop{}",
                context(n)
            ),
        ),
        2 if n / 4 % 2 == 1 => request("/i", &format!("e=pv&p=web&tv=js-1&aid=shop{n}&co=no+json")),
        2 => request("/org.example/v1", "a=b"),
        _ => vec![u8::try_from(n % 250).unwrap() + 1; 20],
    }
}

pub(crate) fn filled(partitions: u32, count: u32) -> World {
    let world = World::new(partitions);
    for n in 0..count {
        world.append((n % partitions) as usize, record(n % 4, n));
    }
    world
}

#[test]
fn the_batch_view_is_what_a_sequential_run_gives() {
    let world = filled(2, 40);
    let iterated = world.live(1000, &recipe(50)).unwrap();
    assert!(iterated.published);
    assert_eq!((iterated.iteration, iterated.records), (1, 40));
    let view = world.view(&iterated.manifest);
    let Counts { enriched, failed, bad, .. } = view.counts;
    assert!(enriched >= 20 && failed >= 5 && bad >= 15, "{:?}", view.counts);
    assert_eq!(view, world.expect(&iterated.manifest.cut, |_, _| recipe(50)));
    for partition in world.raw.partitions() {
        assert_eq!(iterated.manifest.cut.of(partition), world.raw.end(partition).unwrap());
    }
}

#[test]
fn the_manifest_says_which_schemas_the_events_hold_and_what_they_say() {
    let world = filled(2, 40);
    let manifest = world.live(1000, &recipe(50)).unwrap().manifest;
    let schemas = manifest.schemas.as_ref().unwrap();
    let keys = |schemas: &wide::Schemas| -> Vec<String> {
        schemas.keys().map(|(_, key)| key.as_str().to_owned()).collect()
    };
    let page = "iglu:com.snowplowanalytics.snowplow/web_page/jsonschema/1-0-0";
    assert_eq!(keys(&schemas.events), [page]);
    assert_eq!(keys(&schemas.failed_events), [model::failed::FAILURE]);
    let json = serde_json::to_value(schemas).unwrap();
    assert_eq!(json["events"][0]["since"], 1);
    assert_eq!(json["events"][0]["shape"], serde_json::json!({"id": "text"}));
}

#[test]
fn a_folder_of_a_release_without_wide_columns_gets_them_with_its_next_iteration() {
    let grow = |world: &World, is_older: bool| {
        for round in 1..4 {
            for n in 0..20 {
                world.append(0, record(n % 4, round * 20 + n));
            }
            let newest = world.live(i64::from(round) * 1000, &recipe(50)).unwrap().manifest;
            if is_older && round < 3 {
                let path = format!("{DATA}/catalog/{:020}.json", newest.iteration);
                let older = Manifest { schemas: None, ..Manifest::clone(&newest) };
                world.disk.change(Path::new(&path), |bytes| *bytes = older.encode());
            }
        }
        world.catalog().unwrap().newest()
    };
    let (older, newer) = (World::new(1), World::new(1));
    let (older, newer) = (grow(&older, true), grow(&newer, false));
    assert!(newer.schemas.as_ref().is_some_and(|schemas| !schemas.events.is_empty()));
    assert_eq!(older.schemas, newer.schemas);
}

#[test]
fn rows_carry_the_time_of_the_iteration() {
    let world = filled(1, 8);
    let iterated = world.live(1_700_000_123_456, &recipe(50)).unwrap();
    let place = views::schema::events().index_of("etl_tstamp").unwrap();
    let mut stamps = Vec::new();
    for file in iterated.manifest.files_of(Table::Events) {
        let batches = views::tables::read(&world.disk, Path::new(DATA), file).unwrap();
        let rows = views::rows::read(&batches).unwrap();
        stamps.extend(rows.into_iter().map(|row| row.cells[place].clone().unwrap()));
    }
    assert!(!stamps.is_empty());
    assert!(stamps.iter().all(|stamp| stamp == "1700000123456000"), "{stamps:?}");
}

#[test]
fn many_workers_give_the_same_manifest_as_one() {
    let manifest = |workers| {
        let world = World { workers, ..filled(3, 90) };
        let manifest = world.live(1000, &recipe(50)).unwrap().manifest;
        assert!(manifest.ledger.len() > 6);
        manifest
    };
    assert_eq!(manifest(1), manifest(4));
}

#[test]
fn without_new_data_nothing_is_published() {
    let world = filled(1, 5);
    assert!(world.live(1, &recipe(50)).unwrap().published);
    let before = world.disk.names();
    let again = world.live(2, &recipe(50)).unwrap();
    assert!(!again.published);
    assert_eq!(again.iteration, 1);
    assert_eq!(world.disk.names(), before);
    assert!(!World::new(1).live(1, &recipe(50)).unwrap().published);
}

#[test]
fn a_recipe_is_in_force_from_the_cut_that_named_it() {
    let world = filled(2, 10);
    // Below the first cut: the recipe in force at the beginning, not the one proposed.
    let first = world.live(1, &tiny()).unwrap().manifest;
    assert_eq!(first.recipe, recipe(50).digest());
    assert_eq!(first.next_recipe, tiny().digest());
    for n in 10..20 {
        world.append((n % 2) as usize, record(n % 4, n));
    }
    let second = world.live(2, &recipe(49)).unwrap().manifest;
    assert_eq!(
        (second.recipe.as_str(), second.next_recipe.as_str()),
        (tiny().digest(), recipe(49).digest())
    );
    let of_range = |partition: &Partition, offset| {
        if first.cut.covers(partition, offset) { recipe(50) } else { tiny() }
    };
    assert_eq!(world.view(&second), world.expect(&second.cut, of_range));
    // Size violations only: the second recipe really was another.
    assert!(second.ledger.iter().filter(|e| e.iteration == 2).all(|e| e.counts.enriched == 0));
}

#[test]
fn a_new_recipe_without_new_data_is_a_commit_with_the_same_cut() {
    let world = filled(1, 5);
    let first = world.live(1, &recipe(50)).unwrap().manifest;
    let second = world.live(2, &recipe(40)).unwrap();
    assert!(second.published);
    assert_eq!((second.iteration, &second.manifest.cut), (2, &first.cut));
    assert_eq!(second.manifest.files, first.files);
    assert_eq!(second.manifest.next_recipe, recipe(40).digest());
}

#[test]
fn a_damaged_or_missing_master_file_stops_the_iteration_and_is_named() {
    let world = filled(1, 20);
    let catalog = world.catalog().unwrap();
    let raw = Arc::new(world.raw.clone());
    let config = archiver::Config { file_bytes_max: 1000 };
    Archiver::new(raw, world.files(), DATA.into(), &Cut::default(), config)
        .unwrap()
        .flush()
        .unwrap();
    let is_master = |path: &&PathBuf| path.starts_with("/d/master");
    let path = world.disk.names().iter().find(is_master).unwrap().clone();
    world.disk.change(&path, |content| content[40] ^= 1);
    let error = world.batcher(&catalog, 1).iterate(&recipe(50)).unwrap_err();
    assert!(matches!(&error, Error::Damaged { path: named, .. } if *named == path), "{error}");
    assert_eq!(catalog.refresh().unwrap().iteration, 0);
    world.disk.change(&path, |content| content[40] ^= 1);
    assert!(world.batcher(&catalog, 1).iterate(&recipe(50)).unwrap().published);
}

#[test]
fn who_loses_the_race_for_a_number_plans_again() {
    let world = filled(1, 4);
    let (ours, theirs) = (world.catalog().unwrap(), world.catalog().unwrap());
    let mut batcher = world.batcher(&ours, 5);
    let other = theirs.newest();
    let first = world.live(4, &recipe(40)).unwrap().manifest;
    assert_eq!(other.iteration, 0);
    world.append(0, record(1, 99));
    let raw = Arc::new(world.raw.clone());
    let config = archiver::Config { file_bytes_max: 1000 };
    Archiver::new(raw, world.files(), DATA.into(), &first.cut, config).unwrap().flush().unwrap();
    let iterated = batcher.iterate(&recipe(40)).unwrap();
    assert_eq!((iterated.iteration, iterated.records), (2, 1));
}

#[test]
fn a_failed_attempt_leaves_nothing_behind() {
    for operation in 0.. {
        let world = World { tidies: true, ..filled(2, 12) };
        let catalog = world.catalog().unwrap();
        let (raw, config) =
            (Arc::new(world.raw.clone()), archiver::Config { file_bytes_max: 1000 });
        Archiver::new(raw, world.files(), DATA.into(), &Cut::default(), config)
            .unwrap()
            .flush()
            .unwrap();
        let mut batcher = world.batcher(&catalog, 1);
        world.disk.die_after(operation);
        let failed = batcher.iterate(&recipe(40)).is_err();
        world.disk.restart();
        // The same process goes on, at another time: its files have other bytes.
        let manifest = batcher.at(Arc::new(Fixed(2))).iterate(&recipe(40)).unwrap().manifest;
        world.check_no_leftovers(&manifest);
        assert_eq!(world.view(&manifest), world.expect(&manifest.cut, |_, _| recipe(50)));
        if !failed {
            assert!(operation > 30, "{operation}");
            break;
        }
    }
}

#[test]
fn killed_at_any_operation_the_next_life_gives_the_same_view_once() {
    killed_at_any_operation(false);
}

#[test]
fn killed_at_any_operation_the_next_life_leaves_nothing_behind() {
    killed_at_any_operation(true);
}

fn killed_at_any_operation(tidies: bool) {
    let begun = World { tidies, ..filled(2, 8) };
    begun.live(1, &recipe(50)).unwrap();
    for n in 8..16 {
        begun.append((n % 2) as usize, record(n % 4, n));
    }
    let mut deaths = 0;
    for operation in 0.. {
        let world = World { raw: begun.raw.clone(), disk: begun.disk.copy(), ..begun };
        world.disk.die_after(operation);
        let first = world.live(2, &recipe(40));
        let died = world.disk.restart();
        let manifest = world.live(3, &recipe(40)).unwrap().manifest;
        assert_eq!(manifest.iteration, 2, "operation {operation}");
        assert_eq!(world.view(&manifest), world.expect(&manifest.cut, |_, _| recipe(50)));
        if tidies {
            world.check_no_leftovers(&manifest);
        }
        for partition in world.raw.partitions() {
            assert_eq!(manifest.cut.of(partition), world.raw.end(partition).unwrap());
        }
        if !died {
            assert!(first.unwrap().published);
            break;
        }
        deaths += 1;
    }
    assert!(deaths > 50, "{deaths}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn any_log_with_any_deaths_and_recipes_gives_the_sequential_view(
        lives in proptest::collection::vec(
            (proptest::collection::vec((0usize..2, 0u32..4), 0..12), proptest::option::of(0u64..150), 40u32..43),
            1..5,
        ),
        file_bytes_max in 200u64..3000,
        workers in 1usize..4,
    ) {
        let world = World { file_bytes_max, workers, ..World::new(2) };
        let mut n = 0;
        for (now, (appended, death, depth)) in (1..).zip(&lives) {
            for (partition, kind) in appended {
                world.append(*partition, record(*kind, n));
                n += 1;
            }
            if let Some(death) = death {
                world.disk.die_after(*death);
            }
            let proposed = if *depth == 42 { tiny() } else { recipe(*depth) };
            let result = world.live(now, &proposed);
            if !world.disk.restart() {
                result.unwrap();
            }
        }
        world.live(100, &recipe(50)).unwrap();
        let catalog = world.catalog().unwrap();
        let history = catalog.history().unwrap();
        let known = [tiny(), recipe(40), recipe(41), recipe(50)];
        let of_range = |partition: &Partition, offset| {
            let covering = history.iter().find(|m| m.cut.covers(partition, offset)).unwrap();
            known.iter().find(|recipe| recipe.digest() == covering.recipe).unwrap().clone()
        };
        for pair in history.windows(2) {
            prop_assert!(pair[1].cut.is_at_or_beyond(&pair[0].cut));
            prop_assert_eq!(&pair[1].recipe, &pair[0].next_recipe);
        }
        let newest = catalog.newest();
        prop_assert_eq!(world.view(&newest), world.expect(&newest.cut, of_range));
    }
}
