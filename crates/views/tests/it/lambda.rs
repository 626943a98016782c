//! Pins, the served iteration, forgetting: alone, over a change of recipe, and from several threads at once.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use model::cut::Cut;
use model::files::Files;
use views::Error;
use views::catalog::{Catalog, Commit, Manifest};
use views::lambda::Lambda;
use views::merge;
use views::realtime::{Applied, RealtimeView};

use crate::disk::Disk;
use crate::log::{self, DATA, RECIPE, chunk, cut, range};

struct Place {
    files: Arc<dyn Files>,
    catalog: Arc<Catalog>,
    view: Arc<RealtimeView>,
    lambda: Lambda,
}

impl Place {
    fn new() -> Place {
        let files: Arc<dyn Files> = Arc::new(Disk::default());
        let catalog = Arc::new(log::open(&files));
        let view = Arc::new(log::view());
        Place { lambda: Lambda::new(catalog.clone(), view.clone()), files, catalog, view }
    }

    fn apply(&self, recipe: &str, base: &Cut, from: u64, to: u64) {
        let applied = self.view.apply(recipe, base, chunk(range(0, from, to))).unwrap();
        assert_eq!(applied, Applied::Taken);
    }

    fn iterate(&self, to: u64) {
        log::iterate(self.files.as_ref(), &self.catalog, &cut(to, 0));
    }

    fn check(&self, pin: &views::lambda::Pin) {
        let merged = merge::rows(pin, self.files.as_ref(), Path::new(DATA)).unwrap();
        assert_eq!(merged, log::expected(&pin.frontier));
    }
}

#[test]
fn a_commit_is_not_seen_before_the_server_moves_on() {
    let place = Place::new();
    place.apply(RECIPE, &Cut::default(), 0, 8);
    place.iterate(6);
    assert_eq!(place.lambda.pin().unwrap().manifest.iteration, 0);
    assert!(place.lambda.advance().unwrap());
    assert!(!place.lambda.advance().unwrap());
    let pin = place.lambda.pin().unwrap();
    assert_eq!((pin.manifest.iteration, &pin.frontier), (1, &cut(8, 0)));
    place.check(&pin);
}

#[test]
fn what_an_older_pin_needs_is_not_forgotten() {
    let place = Place::new();
    place.apply(RECIPE, &Cut::default(), 0, 4);
    place.apply(RECIPE, &Cut::default(), 4, 40);
    let old = place.lambda.pin().unwrap();
    place.iterate(20);
    place.lambda.advance().unwrap();
    assert_eq!(place.lambda.oldest_pinned_cut(), Cut::default());
    place.lambda.forget();
    assert_eq!(place.view.snapshot(RECIPE).begin, Cut::default());
    place.check(&old);
    drop(old);
    assert_eq!(place.lambda.oldest_pinned_cut(), cut(20, 0));
    place.iterate(40);
    place.lambda.advance().unwrap();
    place.lambda.forget();
    assert_eq!(place.view.metrics().chunks, 0);
    place.check(&place.lambda.pin().unwrap());
}

#[test]
fn a_cut_beyond_the_speed_layer_is_the_frontier() {
    let place = Place::new();
    place.apply(RECIPE, &Cut::default(), 0, 3);
    place.iterate(10);
    place.lambda.advance().unwrap();
    let pin = place.lambda.pin().unwrap();
    assert_eq!(pin.frontier, cut(10, 0));
    assert!(!pin.is_ahead());
    place.check(&pin);
}

#[test]
fn a_new_recipe_is_served_when_its_real_time_view_has_caught_up() {
    let place = Place::new();
    place.apply(RECIPE, &Cut::default(), 0, 12);
    let next = Manifest {
        next_recipe: "recipe-b".to_owned(),
        ..log::plan(place.files.as_ref(), &place.catalog.newest(), &cut(5, 0))
    };
    assert!(matches!(place.catalog.commit(next).unwrap(), Commit::Published(_)));
    let base = cut(5, 0);
    assert!(!place.lambda.advance().unwrap());
    place.apply("recipe-b", &base, 5, 11);
    assert!(!place.lambda.advance().unwrap());
    place.lambda.forget();
    place.check(&place.lambda.pin().unwrap());
    place.apply("recipe-b", &base, 11, 12);
    assert!(place.lambda.advance().unwrap());
    let pin = place.lambda.pin().unwrap();
    assert_eq!(pin.manifest.next_recipe, "recipe-b");
    place.check(&pin);
    place.lambda.forget();
    assert!(place.view.snapshot(RECIPE).chunks.is_empty());
    place.check(&pin);
}

#[test]
fn a_speed_layer_that_starts_above_the_served_cut_moves_the_server_on() {
    let place = Place::new();
    place.apply(RECIPE, &Cut::default(), 0, 4);
    place.iterate(10);
    let base = place.catalog.newest().cut.clone();
    place.apply(RECIPE, &base, 9, 14);
    let pin = place.lambda.pin().unwrap();
    assert_eq!((pin.manifest.iteration, &pin.frontier), (1, &cut(14, 0)));
    place.check(&pin);
}

#[test]
fn a_hole_between_cut_and_frontier_is_an_error_that_names_it() {
    let place = Place::new();
    place.apply(RECIPE, &cut(10, 0), 10, 14);
    let error = place.lambda.pin().unwrap_err();
    assert!(matches!(error, Error::Uncovered { .. }), "{error}");
}

#[test]
fn a_lost_or_damaged_table_file_fails_the_answer_by_name() {
    let disk = Disk::default();
    let files: Arc<dyn Files> = Arc::new(disk.clone());
    let catalog = Arc::new(log::open(&files));
    log::iterate(files.as_ref(), &catalog, &cut(6, 0));
    let lambda = Lambda::new(catalog.clone(), Arc::new(log::view()));
    let pin = lambda.pin().unwrap();
    let path = pin.manifest.files[0].path_in(Path::new(DATA));
    let answer = || merge::rows(&pin, files.as_ref(), Path::new(DATA)).unwrap_err().to_string();
    disk.damage(&path, |content| content[100] ^= 1);
    assert!(answer().contains("the digest differs") && answer().contains(path.to_str().unwrap()));
    disk.damage(&path, |content| content.truncate(200));
    assert!(answer().contains("200 bytes instead of"));
    disk.lose(&path);
    assert!(answer().contains("is missing") && answer().contains(path.to_str().unwrap()));
}

#[test]
fn pins_from_several_threads_are_exact_while_cut_and_frontier_move() {
    const END: u64 = 120;
    let place = Place::new();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = || {
            let mut answered = Cut::default();
            loop {
                let last = done.load(Ordering::Acquire);
                let pin = place.lambda.pin().unwrap();
                place.check(&pin);
                assert!(pin.frontier.is_at_or_beyond(&answered));
                answered = pin.frontier.clone();
                if last {
                    return answered;
                }
            }
        };
        let readers = [scope.spawn(reader), scope.spawn(reader)];
        let tidier = scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                place.lambda.advance().unwrap();
                place.lambda.forget();
                std::thread::yield_now();
            }
        });
        let batcher = scope.spawn(|| {
            for to in (10..=END).step_by(10) {
                place.iterate(to);
            }
        });
        for from in (0..END).step_by(3) {
            place.apply(RECIPE, &Cut::default(), from.saturating_sub(1), from + 3);
        }
        batcher.join().unwrap();
        done.store(true, Ordering::Release);
        tidier.join().unwrap();
        for reader in readers {
            assert_eq!(reader.join().unwrap(), cut(END, 0));
        }
    });
}

#[test]
fn an_older_generation_answers_below_its_own_cut_and_keeps_its_iteration_in_use() {
    let place = Place::new();
    place.apply(RECIPE, &Cut::default(), 0, 12);
    place.iterate(4);
    place.iterate(6);
    let before = place.catalog.newest();
    // A rebuild that changed nothing but its number.
    let rebuilt =
        Manifest { iteration: 3, parent: Some(2), generation: 1, ..Manifest::clone(&before) };
    let Commit::Published(_) = place.catalog.commit(rebuilt).unwrap() else { panic!("lost") };
    place.iterate(9);
    while place.lambda.advance().unwrap() {}
    assert_eq!(place.lambda.iterations_in_use(), [4]);
    let older = place.lambda.pin_generation(0).unwrap().unwrap();
    assert_eq!((older.manifest.iteration, &older.frontier), (2, &cut(6, 0)));
    place.check(&older);
    assert_eq!(place.lambda.iterations_in_use(), [2, 4]);
    // It reads nothing of the log, so it holds up neither trimming nor forgetting.
    assert_eq!(place.lambda.oldest_pinned_cut(), cut(9, 0));
    drop(older);
    assert_eq!(place.lambda.iterations_in_use(), [4]);
    let served = place.lambda.pin_generation(1).unwrap().unwrap();
    assert_eq!((served.manifest.iteration, &served.frontier), (4, &cut(12, 0)));
    assert!(place.lambda.pin_generation(2).unwrap().is_none());
}

#[test]
fn the_last_iteration_of_each_generation_is_found() {
    let place = Place::new();
    let mut last = std::collections::BTreeMap::from([(0, 0)]);
    let mut generation = 0;
    for (at, iteration) in (1..40u64).enumerate() {
        let newest = place.catalog.newest();
        generation += u64::from([3, 4, 9, 30].contains(&at));
        let next = Manifest {
            iteration,
            parent: Some(iteration - 1),
            generation,
            ..Manifest::clone(&newest)
        };
        let Commit::Published(_) = place.catalog.commit(next).unwrap() else { panic!("lost") };
        last.insert(generation, iteration);
        for (generation, iteration) in &last {
            let found = place.catalog.last_of_generation(*generation).unwrap().unwrap();
            assert_eq!(found.iteration, *iteration);
        }
    }
    assert!(place.catalog.last_of_generation(generation + 1).unwrap().is_none());
}
