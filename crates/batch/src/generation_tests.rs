//! New generations, joined files, and what is removed when: the view stays what one sequential run gives.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use enrich::Recipe;
use model::position::{Offset, Partition};
use views::catalog::{Catalog, Manifest, Table};

use crate::Error;
use crate::batcher::{Batcher, Config, Iterated};
use crate::batcher_tests::{DATA, World, filled, recipe, record, tiny};
use crate::progress::Progress;

fn config() -> Config {
    Config { workers: NonZeroUsize::MIN, compact_files: 2, ..Config::default() }
}

/// A data folder whose folders can be listed.
fn tidy(world: World) -> World {
    World { tidies: true, ..world }
}

fn grow(world: &World, from: u32, count: u32) {
    let partitions = stream::Stream::partitions(&world.raw).len() as u32;
    for n in from..from + count {
        world.append((n % partitions) as usize, record(n % 4, n));
    }
}

/// As the service does it.
fn rebuild(batcher: &mut Batcher, recipe: Recipe) -> Result<Iterated, Error> {
    let mut rebuild = batcher.begin_rebuild(recipe, Arc::new(Progress::default()))?;
    let generation = rebuild.generation();
    loop {
        match rebuild.catch_up() {
            Ok(true) => {}
            Ok(false) => return batcher.publish_rebuild(rebuild),
            Err(error) => {
                batcher.give_up_rebuild(generation);
                return Err(error);
            }
        }
    }
}

fn always(recipe: &Recipe) -> impl Fn(&Partition, Offset) -> Recipe {
    let recipe = recipe.clone();
    move |_, _| recipe.clone()
}

fn exist(world: &World, manifest: &Manifest) -> bool {
    let names = world.disk.names();
    manifest.files.iter().all(|file| names.contains(&file.path_in(Path::new(DATA))))
}

fn none_exist(world: &World, manifest: &Manifest) -> bool {
    let names = world.disk.names();
    manifest.files.iter().all(|file| !names.contains(&file.path_in(Path::new(DATA))))
}

fn open(world: &World) -> (Arc<Catalog>, Batcher) {
    let catalog = world.catalog().unwrap();
    let batcher = world.batcher_with(&catalog, 5, config());
    (catalog, batcher)
}

#[test]
fn a_rebuild_is_a_run_that_had_its_recipe_from_the_beginning() {
    let world = tidy(filled(2, 24));
    world.live(1, &tiny()).unwrap();
    grow(&world, 24, 12);
    let before = world.live(2, &tiny()).unwrap().manifest;
    assert_ne!(world.view(&before), world.expect(&before.cut, always(&recipe(50))));
    let (catalog, mut batcher) = open(&world);
    let after = rebuild(&mut batcher, recipe(50)).unwrap().manifest;
    assert_eq!((after.iteration, after.generation, &after.cut), (3, 1, &before.cut));
    assert_eq!(
        (after.recipe.as_str(), after.next_recipe.as_str()),
        (recipe(50).digest(), recipe(50).digest())
    );
    assert_eq!(world.view(&after), world.expect(&after.cut, always(&recipe(50))));
    let covered = |manifest: &Manifest| -> Vec<_> {
        manifest
            .ledger
            .iter()
            .map(|e| (e.partition.clone(), e.from, e.iteration, e.master.clone()))
            .collect()
    };
    let (mut old, mut new) = (covered(&before), covered(&after));
    old.sort();
    new.sort();
    assert_eq!(old, new, "the cut history is replayed");
    let last = catalog.last_of_generation(0).unwrap().unwrap();
    assert_eq!(*last, *before);
    batcher.collect_garbage(&[3]);
    assert_eq!(world.view(&last), world.view(&before), "the generation before it can be read");
}

#[test]
fn iterations_go_on_beside_a_rebuild_and_are_part_of_it() {
    let world = tidy(filled(2, 24));
    world.live(1, &recipe(50)).unwrap();
    let (catalog, mut batcher) = open(&world);
    let mut rebuild = batcher.begin_rebuild(recipe(40), Arc::new(Progress::default())).unwrap();
    assert!(rebuild.catch_up().unwrap());
    grow(&world, 24, 10);
    world.archive(&catalog);
    let iterated = batcher.iterate(&recipe(50)).unwrap();
    assert_eq!((iterated.iteration, iterated.manifest.generation), (2, 0));
    grow(&world, 34, 4);
    world.archive(&catalog);
    assert_eq!(batcher.iterate(&recipe(50)).unwrap().iteration, 3);
    let manifest = batcher.publish_rebuild(rebuild).unwrap().manifest;
    assert_eq!((manifest.iteration, manifest.generation), (4, 1));
    for partition in stream::Stream::partitions(&world.raw) {
        let end = stream::Stream::end(&world.raw, partition).unwrap();
        assert_eq!(manifest.cut.of(partition), end);
    }
    assert_eq!(world.view(&manifest), world.expect(&manifest.cut, always(&recipe(40))));
    // The next iteration goes on with the recipe of the rebuild.
    grow(&world, 38, 4);
    world.archive(&catalog);
    let next = batcher.iterate(&recipe(40)).unwrap().manifest;
    assert_eq!(
        (next.iteration, next.generation, next.recipe.as_str()),
        (5, 1, recipe(40).digest())
    );
    assert_eq!(world.view(&next), world.expect(&next.cut, always(&recipe(40))));
}

#[test]
fn a_recipe_that_an_iteration_names_during_a_rebuild_ends_it() {
    let world = filled(1, 6);
    world.live(1, &recipe(50)).unwrap();
    let (catalog, mut batcher) = open(&world);
    let mut rebuild = batcher.begin_rebuild(recipe(40), Arc::new(Progress::default())).unwrap();
    assert!(rebuild.catch_up().unwrap());
    assert!(batcher.iterate(&tiny()).unwrap().published);
    let published = batcher.publish_rebuild(rebuild);
    assert!(matches!(published, Err(Error::RecipeChanged { generation: 1 })), "{published:?}");
    let manifest = catalog.newest();
    assert_eq!((manifest.iteration, manifest.generation), (2, 0));
    assert_eq!(manifest.next_recipe, tiny().digest());
    assert_eq!(catalog.newest().iteration, manifest.iteration);
}

#[test]
fn only_the_kept_generations_keep_their_files() {
    let world = tidy(filled(2, 24));
    let first = world.live(1, &recipe(50)).unwrap().manifest;
    let (catalog, mut batcher) = open(&world);
    let second = rebuild(&mut batcher, recipe(40)).unwrap().manifest;
    batcher.collect_garbage(&[second.iteration]);
    assert!(exist(&world, &first) && exist(&world, &second));
    let third = rebuild(&mut batcher, recipe(41)).unwrap().manifest;
    // A statement still reads the first generation.
    batcher.collect_garbage(&[first.iteration, third.iteration]);
    assert!(exist(&world, &first));
    batcher.collect_garbage(&[third.iteration]);
    assert!(none_exist(&world, &first) && exist(&world, &second) && exist(&world, &third));
    assert_eq!(catalog.last_of_generation(2).unwrap().unwrap().iteration, third.iteration);
    assert_eq!(catalog.last_of_generation(3).unwrap(), None);
    // The next process knows it as well, and gives the second up when it is its turn.
    drop(batcher);
    let (_, mut batcher) = open(&world);
    assert!(exist(&world, &second) && exist(&world, &third));
    let fourth = rebuild(&mut batcher, recipe(42)).unwrap().manifest;
    batcher.collect_garbage(&[fourth.iteration]);
    assert!(none_exist(&world, &second) && exist(&world, &third) && exist(&world, &fourth));
}

#[test]
fn joined_files_hold_the_same_rows_and_the_old_ones_go_when_nobody_reads_them() {
    let world = tidy(World::new(2));
    let (catalog, mut batcher) = open(&world);
    for round in 0..6 {
        grow(&world, round * 8, 8);
        world.archive(&catalog);
        batcher.iterate(&recipe(50)).unwrap();
    }
    let before = catalog.newest();
    let view = world.view(&before);
    let joined = batcher.compact().unwrap().unwrap().manifest;
    assert_eq!((joined.iteration, &joined.cut, joined.generation), (7, &before.cut, 0));
    assert_eq!(joined.ledger, before.ledger);
    assert!(
        joined.files.len() < before.files.len() / 2,
        "{} of {}",
        joined.files.len(),
        before.files.len()
    );
    assert_eq!(world.view(&joined), view);
    for table in Table::ALL {
        let rows =
            |manifest: &Manifest| manifest.files_of(table).map(|file| file.rows).sum::<u64>();
        assert_eq!(rows(&joined), rows(&before));
    }
    batcher.collect_garbage(&[before.iteration, joined.iteration]);
    assert_eq!(world.view(&before), view, "a statement still reads the files before");
    batcher.collect_garbage(&[joined.iteration]);
    world.check_no_leftovers(&joined);
    assert!(batcher.compact().unwrap().is_none());
    assert!(!batcher.iterate(&recipe(50)).unwrap().published);
}

#[test]
fn killed_at_any_operation_of_a_rebuild_or_a_compaction_nothing_is_lost_or_left() {
    let begun = tidy(filled(2, 8));
    begun.live(1, &recipe(50)).unwrap();
    grow(&begun, 8, 8);
    begun.live(2, &recipe(50)).unwrap();
    let mut deaths = 0;
    for operation in 0.. {
        let world =
            tidy(World { raw: begun.raw.clone(), disk: begun.disk.copy(), ..World::new(2) });
        let (_, mut batcher) = open(&world);
        world.disk.die_after(operation);
        let ended =
            batcher.compact().and_then(|_| rebuild(&mut batcher, recipe(40)).map(|_| ())).is_ok();
        drop(batcher);
        let died = world.disk.restart();
        let (catalog, mut batcher) = open(&world);
        let newest = catalog.newest();
        let in_force = if newest.generation == 0 { recipe(50) } else { recipe(40) };
        assert_eq!(
            world.view(&newest),
            world.expect(&newest.cut, always(&in_force)),
            "operation {operation}"
        );
        batcher.collect_garbage(&[newest.iteration]);
        if newest.generation == 0 {
            world.check_no_leftovers(&newest);
        }
        let rebuilt = rebuild(&mut batcher, recipe(41)).unwrap().manifest;
        assert_eq!(world.view(&rebuilt), world.expect(&rebuilt.cut, always(&recipe(41))));
        if !died {
            assert!(ended);
            break;
        }
        deaths += 1;
    }
    assert!(deaths > 60, "{deaths}");
}

#[test]
fn a_missing_file_of_the_master_dataset_fails_the_rebuild_by_name_and_the_old_view_stays() {
    let world = tidy(filled(1, 24));
    let before = world.live(1, &recipe(50)).unwrap().manifest;
    let (catalog, mut batcher) = open(&world);
    let lost = before.ledger[1].master.clone();
    model::files::Files::remove(&world.disk, &Path::new(DATA).join(&lost)).unwrap();
    let error = rebuild(&mut batcher, recipe(40)).unwrap_err();
    assert!(matches!(error, Error::Hole { .. }) && error.to_string().contains(&lost), "{error}");
    assert_eq!(catalog.refresh().unwrap().iteration, before.iteration);
    world.check_no_leftovers(&before);
}
