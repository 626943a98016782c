//! The running role: requests, status, failures that pass, failures that do not.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::cut::Cut;
use model::position::Offset;
use model::time::{Clock, Timestamp};
use stream::Stream;
use views::catalog::Catalog;

use crate::batcher_tests::{DATA, Fixed, World, filled, recipe, record};
use crate::service::{self, Ports, Service};
use crate::{Config, Error};

const LONG: Duration = Duration::from_secs(60);

/// A running service, and what the test can do to it.
struct Running {
    world: World,
    catalog: Arc<Catalog>,
    service: Service,
    commits: Receiver<u64>,
    pinned: Arc<Mutex<Cut>>,
    schemas_unreadable: Arc<AtomicBool>,
}

fn start(world: World, interval: Duration) -> Running {
    start_at(world, interval, Arc::new(Fixed(1)))
}

fn start_at(world: World, interval: Duration, clock: Arc<dyn Clock>) -> Running {
    let catalog = world.catalog().unwrap();
    let pinned = Arc::new(Mutex::new(Cut::default()));
    let schemas_unreadable = Arc::new(AtomicBool::new(false));
    let (told, commits) = mpsc::channel();
    let (oldest, unreadable) = (pinned.clone(), schemas_unreadable.clone());
    let ports = Ports {
        raw: Arc::new(world.raw.clone()),
        files: world.files(),
        data_dir: DATA.into(),
        catalog: catalog.clone(),
        clock,
        answers: Arc::new(assets::Answers::none()),
        propose: Box::new(move || match unreadable.load(Ordering::SeqCst) {
            true => Err("the schema folder is gone".into()),
            false => Ok(recipe(50)),
        }),
        after_commit: Box::new(move |manifest| {
            assert!(manifest.iteration < 1000, "told of iteration {}", manifest.iteration);
            told.send(manifest.iteration).unwrap();
        }),
        oldest_pinned: Box::new(move || oldest.lock().unwrap().clone()),
        in_use: Box::new(Vec::new),
    };
    let config = Config { interval, workers: 2, ..Config::default() };
    let service = service::spawn(ports, config).unwrap();
    Running { world, catalog, service, commits, pinned, schemas_unreadable }
}

#[test]
fn an_iteration_on_request_covers_all_that_was_readable_before() {
    let running = start(filled(2, 20), LONG);
    let handle = running.service.handle();
    let iterated = handle.run_now().unwrap();
    assert!(iterated.published);
    for partition in running.world.raw.partitions() {
        let end = running.world.raw.end(partition).unwrap();
        assert_eq!(iterated.manifest.cut.of(partition), end);
    }
    let view = running.world.view(&iterated.manifest);
    assert_eq!(view, running.world.expect(&iterated.manifest.cut, |_, _| recipe(50)));
    assert!(!handle.run_now().unwrap().published);
    let status = handle.status();
    assert_eq!((status.iteration, status.published, status.records), (1, 1, 20));
    assert_eq!(status.archived, iterated.manifest.cut);
    running.service.shutdown();
    assert_eq!(running.commits.iter().collect::<Vec<_>>(), [1]);
}

#[test]
fn iterations_come_by_themselves_at_intervals() {
    let running = start(filled(1, 3), Duration::from_millis(100));
    assert_eq!(running.commits.recv_timeout(LONG).unwrap(), 1);
    running.world.append(0, record(0, 77));
    assert_eq!(running.commits.recv_timeout(LONG).unwrap(), 2);
    running.service.shutdown();
    assert_eq!(running.catalog.newest().iteration, 2);
}

/// Jumps by hours each time it is asked, forth and back, and before 1970.
#[derive(Debug, Default)]
struct Jumping(AtomicI64);

impl Clock for Jumping {
    fn now(&self) -> Timestamp {
        let asked = self.0.fetch_add(1, Ordering::SeqCst);
        Timestamp((asked % 5 - 2) * asked * 3_600_000)
    }
}

#[test]
fn a_clock_that_jumps_by_hours_neither_stops_iterations_nor_turns_the_cut_back() {
    let running = start_at(filled(2, 6), Duration::from_millis(20), Arc::new(Jumping::default()));
    let mut cut = Cut::default();
    for iteration in 1..=8_u32 {
        assert_eq!(running.commits.recv_timeout(LONG).unwrap(), u64::from(iteration));
        let now = running.catalog.newest().cut.clone();
        assert!(now.is_at_or_beyond(&cut), "{now:?} after {cut:?}");
        cut = now;
        running.world.append(iteration as usize % 2, record(iteration % 2, 100 + iteration));
    }
    let manifest = running.service.handle().run_now().unwrap().manifest;
    assert_eq!(
        running.world.view(&manifest),
        running.world.expect(&manifest.cut, |_, _| recipe(50))
    );
    running.service.shutdown();
    let times: Vec<String> =
        running.catalog.history().unwrap().into_iter().map(|it| it.committed_at).collect();
    assert!(!times.is_sorted(), "the clock did not jump: {times:?}");
}

#[test]
fn the_raw_stream_is_trimmed_below_the_oldest_pinned_cut_and_not_above() {
    let running = start(filled(1, 20), LONG);
    let (handle, raw) = (running.service.handle(), running.world.raw.clone());
    let partition = &raw.partitions()[0];
    let cut = handle.run_now().unwrap().manifest.cut.clone();
    assert_eq!(raw.start(partition).unwrap(), Offset::BEGINNING);
    let pinned = Offset::from_number(7);
    *running.pinned.lock().unwrap() = Cut::new([(partition.clone(), pinned)]);
    handle.run_now().unwrap();
    assert_eq!(raw.start(partition).unwrap(), pinned);
    // A reader may know a later manifest than this service: what is not below our cut stays.
    running.world.append(0, record(0, 1));
    *running.pinned.lock().unwrap() = Cut::new([(partition.clone(), Offset::from_number(999))]);
    running.schemas_unreadable.store(true, Ordering::SeqCst);
    let later = handle.run_now().unwrap().manifest.cut.clone();
    assert!(later.of(partition) > cut.of(partition));
    assert_eq!(raw.start(partition).unwrap(), later.of(partition));
    running.service.shutdown();
}

#[test]
fn what_the_master_dataset_lost_is_not_trimmed() {
    let running = start(filled(1, 20), LONG);
    let (handle, raw) = (running.service.handle(), running.world.raw.clone());
    let partition = &raw.partitions()[0];
    let first = handle.run_now().unwrap().manifest;
    let archived = Path::new(DATA).join(&first.ledger[0].master);
    let whole = model::files::Files::read(&running.world.disk, &archived).unwrap();
    let everywhere = Cut::new([(partition.clone(), Offset::from_number(999))]);
    *running.pinned.lock().unwrap() = everywhere;
    running.world.disk.change(&archived, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    running.world.append(0, record(0, 1));
    handle.run_now().unwrap();
    assert_eq!(raw.start(partition).unwrap(), Offset::BEGINNING, "damaged");
    model::files::Files::remove(&running.world.disk, &archived).unwrap();
    running.world.append(0, record(0, 2));
    handle.run_now().unwrap();
    assert_eq!(raw.start(partition).unwrap(), Offset::BEGINNING, "missing");
    let error = handle.status().trim_error.unwrap();
    assert!(error.contains(&first.ledger[0].master), "{error}");
    let back = model::files::publish(&running.world.disk, &archived, &whole).unwrap();
    assert_eq!(back, model::files::Published::New);
    running.world.append(0, record(0, 3));
    let cut = handle.run_now().unwrap().manifest.cut.clone();
    assert_eq!(raw.start(partition).unwrap(), cut.of(partition));
    assert_eq!(handle.status().trim_error, None);
    running.service.shutdown();
}

#[test]
fn a_file_that_was_lost_after_its_records_were_trimmed_does_not_keep_later_ones() {
    let running = start(filled(1, 20), LONG);
    let (handle, raw) = (running.service.handle(), running.world.raw.clone());
    let partition = &raw.partitions()[0];
    let everywhere = Cut::new([(partition.clone(), Offset::from_number(999))]);
    *running.pinned.lock().unwrap() = everywhere;
    let first = handle.run_now().unwrap().manifest;
    assert_eq!(raw.start(partition).unwrap(), first.cut.of(partition));
    let archived = Path::new(DATA).join(&first.ledger[0].master);
    model::files::Files::remove(&running.world.disk, &archived).unwrap();
    running.world.append(0, record(0, 1));
    let second = handle.run_now().unwrap().manifest;
    assert_eq!(raw.start(partition).unwrap(), second.cut.of(partition));
    assert_eq!(handle.status().trim_error, None);
    running.service.shutdown();
}

#[test]
fn without_readable_schemas_the_recipe_in_force_stays_and_the_status_says_so() {
    let running = start(filled(1, 4), LONG);
    let handle = running.service.handle();
    running.schemas_unreadable.store(true, Ordering::SeqCst);
    let iterated = handle.run_now().unwrap();
    assert!(iterated.published);
    assert_eq!(iterated.manifest.next_recipe, recipe(50).digest());
    assert_eq!(handle.status().recipe_error.as_deref(), Some("the schema folder is gone"));
    running.schemas_unreadable.store(false, Ordering::SeqCst);
    handle.run_now().unwrap();
    assert_eq!(handle.status().recipe_error, None);
    running.service.shutdown();
}

#[test]
fn a_failing_disk_shows_in_the_status_and_the_next_attempt_goes_on() {
    let running = start(filled(1, 4), LONG);
    let handle = running.service.handle();
    running.world.disk.die_after(10);
    assert!(matches!(handle.run_now(), Err(Error::Io { .. } | Error::Views(_) | Error::Assets(_))));
    let status = handle.status();
    assert!(status.failures > 0 && status.stopped.is_none());
    let error = status.error.unwrap();
    assert!(error.contains("the disk is dead"), "{error}");
    running.world.disk.restart();
    let manifest = handle.run_now().unwrap().manifest;
    assert_eq!(manifest.iteration, 1);
    assert_eq!(
        running.world.view(&manifest),
        running.world.expect(&manifest.cut, |_, _| recipe(50))
    );
    let status = handle.status();
    assert_eq!((status.failures, status.error), (0, None));
    running.service.shutdown();
}

#[test]
fn after_a_shutdown_requests_are_answered_with_an_error() {
    let running = start(filled(1, 4), LONG);
    let handle = running.service.handle();
    running.service.shutdown();
    assert!(matches!(handle.run_now(), Err(Error::Stopped { .. })));
    assert_eq!(handle.status().stopped.as_deref(), Some("shut down"));
}

#[test]
fn a_panic_is_in_the_status_and_who_waits_hears_of_it() {
    let Running { world, catalog, service, commits, .. } = start(filled(1, 4), LONG);
    // The callback that tells of commits panics: nobody listens any more.
    drop(commits);
    let handle = service.handle();
    let error = handle.run_now().unwrap_err();
    assert!(error.to_string().contains("panic"), "{error}");
    assert!(handle.status().stopped.unwrap().starts_with("panic: "));
    service.shutdown();
    // What was published before the panic stays published.
    assert_eq!(catalog.newest().iteration, 1);
    assert_eq!(
        world.view(&catalog.newest()),
        world.expect(&catalog.newest().cut, |_, _| recipe(50))
    );
}

#[test]
fn a_rebuild_on_request_answers_when_the_new_generation_does() {
    let running = start(filled(2, 20), LONG);
    let handle = running.service.handle();
    let iterated = handle.rebuild_now().unwrap();
    // The records that were readable are covered first.
    assert_eq!((iterated.iteration, iterated.manifest.generation), (2, 1));
    let manifest = &iterated.manifest;
    assert_eq!(
        running.world.view(manifest),
        running.world.expect(&manifest.cut, |_, _| recipe(50))
    );
    let status = handle.status();
    assert_eq!((status.rebuilding, status.rebuild_error, status.iteration), (None, None, 2));
    running.world.append(0, record(0, 1));
    let next = handle.run_now().unwrap().manifest;
    assert_eq!((next.iteration, next.generation), (3, 1));
    running.service.shutdown();
    assert_eq!(running.commits.iter().collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn a_rebuild_that_fails_says_why_and_leaves_the_view_as_it_is() {
    let running = start(filled(1, 20), LONG);
    let handle = running.service.handle();
    let before = handle.run_now().unwrap().manifest;
    let lost = std::path::Path::new(DATA).join(&before.ledger[0].master);
    model::files::Files::remove(&running.world.disk, &lost).unwrap();
    let error = handle.rebuild_now().unwrap_err();
    assert!(matches!(error, Error::Hole { .. }), "{error}");
    assert!(handle.status().rebuild_error.unwrap().contains("raw.zst"));
    assert_eq!(running.catalog.newest().iteration, before.iteration);
    running.service.shutdown();
}
