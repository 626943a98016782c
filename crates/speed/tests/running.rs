//! The speed layer as it runs: threads, orders, readiness, and derived streams that take nothing for a while.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod site;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use model::position::{Offset, Partition};
use site::{PARTITIONS, Sent, Site, Standing, cut, recipe};
use speed::enricher::{PartitionEnricher, Progress};
use speed::service::Ports;
use speed::{Running, Speed};
use stream::memory::Memory;
use stream::{Append, Chunk, Error, Stream};
use views::catalog::Counts;

use Sent::{Boxed, Garbage, Several, View};

/// A stream whose disk is full at times.
#[derive(Debug)]
struct Fillable {
    inner: Memory,
    full: AtomicBool,
}

impl Fillable {
    fn new(inner: &Memory) -> Arc<Fillable> {
        Arc::new(Fillable { inner: inner.clone(), full: AtomicBool::new(false) })
    }
}

impl Stream for Fillable {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn partitions(&self) -> &[Partition] {
        self.inner.partitions()
    }

    fn append(&self, partition: &Partition, records: Vec<Bytes>) -> Append {
        if self.full.load(Ordering::SeqCst) {
            let partition = partition.clone();
            let full = Error::Full { partition, available_bytes: 0, reserve_bytes: 1 };
            return std::future::ready(Err(full)).boxed();
        }
        self.inner.append(partition, records)
    }

    fn read(&self, partition: &Partition, from: Offset, bytes_max: usize) -> Result<Chunk, Error> {
        self.inner.read(partition, from, bytes_max)
    }

    fn start(&self, partition: &Partition) -> Result<Offset, Error> {
        self.inner.start(partition)
    }

    fn end(&self, partition: &Partition) -> Result<Offset, Error> {
        self.inner.end(partition)
    }

    fn trim(&self, partition: &Partition, below: Offset) -> Result<(), Error> {
        self.inner.trim(partition, below)
    }

    fn wait(&self, partition: &Partition, beyond: Offset, at_most: Duration) -> bool {
        self.inner.wait(partition, beyond, at_most)
    }
}

fn start(site: &Site, bad: Arc<dyn Stream>) -> Running {
    let mut streams = site.streams();
    streams.derived.bad = bad;
    let ports = Ports { streams, realtime: Arc::clone(&site.view), clock: Arc::new(Standing) };
    Speed::start(ports, Arc::clone(&site.recipe), site.cut.clone(), site.config.clone()).unwrap()
}

fn started(site: &Site) -> Running {
    start(site, Arc::new(site.bad.clone()))
}

/// Waits until something holds; a test that waits 20 seconds has failed.
fn until(what: &str, holds: impl Fn() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < Duration::from_secs(60), "it never came to this: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn a_site_with_records() -> Site {
    let mut site = Site::new();
    for partition in 0..PARTITIONS {
        site.send(partition, &[View, Several, Garbage, Boxed, View]);
    }
    site
}

#[test]
fn it_is_ready_when_what_it_found_is_visible() {
    let mut site = a_site_with_records();
    let running = started(&site);
    until("ready", || running.ready());
    site.check();
    assert!(site.view.frontier(site.recipe.digest()).is_at_or_beyond(&cut(5, 5)));
    site.send(0, &[View, Garbage]);
    until("caught up", || running.caught_up(&cut(7, 5)));
    site.check();
    let status = running.status();
    let tally = status.tally();
    let Counts { enriched, failed, bad, .. } = tally.counts;
    assert_eq!((tally.records, enriched, failed, bad), (12, 13, 2, 3));
    assert_eq!((tally.bad_by_schema.values().sum::<u64>(), tally.invalid_enriched), (5, 0));
    assert_eq!((status.stalled(), status.partitions[0].raw_end), (None, Offset::from_number(7)));
    running.shutdown();
}

#[test]
fn an_empty_site_is_ready_at_once() {
    let site = Site::new();
    let running = started(&site);
    until("ready", || running.ready());
    assert_eq!(running.frontier(), cut(0, 0));
}

#[test]
fn a_full_bad_stream_holds_up_the_view_and_says_so_until_there_is_room() {
    let mut site = a_site_with_records();
    let bad = Fillable::new(&site.bad);
    bad.full.store(true, Ordering::SeqCst);
    let running = start(&site, Arc::clone(&bad) as Arc<dyn Stream>);
    until("held up", || {
        running.status().stalled().is_some_and(|reason| reason.contains("no room"))
    });
    site.send(1, &[View]);
    assert!(!running.ready());
    assert!(site.shown().events.is_empty(), "a record's rows become visible together");
    bad.full.store(false, Ordering::SeqCst);
    until("caught up", || running.caught_up(&cut(5, 6)));
    site.check();
    until("no longer held up", || running.status().stalled().is_none());
}

#[test]
fn a_stream_that_has_its_half_of_a_range_is_not_given_it_again() {
    let site = a_site_with_records();
    let bad = Fillable::new(&site.bad);
    bad.full.store(true, Ordering::SeqCst);
    let mut streams = site.streams();
    streams.derived.bad = Arc::clone(&bad) as Arc<dyn Stream>;
    let (recipe, clock) = (Arc::clone(&site.recipe), Arc::new(Standing));
    let mut enricher =
        PartitionEnricher::open(&streams, 0, recipe, &site.cut, clock, site.config.clone())
            .unwrap();
    let entries = |stream: &Memory| site::all(stream, &stream.partitions()[0]).len();
    for _ in 0..5 {
        assert!(matches!(enricher.step().unwrap(), Progress::Stalled { .. }));
    }
    let held = entries(&site.enriched);
    assert_eq!((enricher.position(), entries(&site.bad)), (Offset::BEGINNING, 0));
    bad.full.store(false, Ordering::SeqCst);
    assert_eq!(enricher.step().unwrap(), Progress::Moved);
    assert_eq!(entries(&site.enriched), held, "the half that was there was written again");
    while enricher.step().unwrap() == Progress::Moved {}
    assert_eq!(enricher.position(), Offset::from_number(5));
}

#[test]
fn a_switch_counts_as_caught_up_only_with_the_new_recipe() {
    let mut site = a_site_with_records();
    let running = started(&site);
    until("ready", || running.ready());
    let old = Arc::clone(&site.recipe);
    (site.recipe, site.cut) = (recipe(false), cut(2, 3));
    running.switch(Arc::clone(&site.recipe), &site.cut);
    until("caught up", || running.caught_up(&cut(5, 5)));
    assert_eq!(running.status().recipe, site.recipe.digest());
    site.check();
    assert_eq!(site.shown_with(&old, &cut(0, 0)), site.expected(&old, &cut(0, 0), &cut(5, 5)));
}

#[test]
fn a_raised_cut_and_what_may_be_forgotten_are_obeyed() {
    let mut site = a_site_with_records();
    let running = started(&site);
    until("ready", || running.ready());
    site.cut = cut(5, 5);
    running.raise(&site.cut);
    running.forget(&site.cut);
    site.send(0, &[Garbage, View]);
    until("caught up", || running.caught_up(&cut(7, 5)));
    site.check();
}

#[test]
fn entries_that_got_lost_while_it_runs_are_enriched_again() {
    let mut site = a_site_with_records();
    let bad = Fillable::new(&site.bad);
    bad.full.store(true, Ordering::SeqCst);
    let running = start(&site, Arc::clone(&bad) as Arc<dyn Stream>);
    until("held up", || running.status().stalled().is_some());
    // What only one stream took is damaged before its partner comes: the loader cannot use it.
    let partition = &site.enriched.partitions()[0];
    site.enriched.trim(partition, site.enriched.end(partition).unwrap()).unwrap();
    bad.full.store(false, Ordering::SeqCst);
    until("ready", || running.ready());
    site.check();
    site.restart();
    site.settle();
    site.check();
}
