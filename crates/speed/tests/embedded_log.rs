//! The speed layer on the embedded log: it starts again from what it finds on the disk.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod site;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use model::cut::Cut;
use model::position::Offset;
use site::{PARTITIONS, Sent, Standing, cut, new_view, recipe, record};
use speed::derived::Derived;
use speed::enricher::Streams;
use speed::service::{Ports, raw_ends};
use speed::{Config, Running, Speed};
use stream::Stream;
use stream::disk::Disk;
use stream::local::{Drive, Durability, Local, Options};
use views::realtime::RealtimeView;

fn open(dir: &Path, name: &str) -> Arc<Local> {
    let options = Options {
        durability: Durability::Relaxed,
        drive: Drive::Threads,
        disk_reserve_bytes: Some(0),
        ..Options::default()
    };
    Arc::new(speed::derived::open(Arc::new(Disk), dir, name, PARTITIONS, options).unwrap())
}

/// One run of the process.
struct Process {
    logs: [Arc<Local>; 5],
    view: Arc<RealtimeView>,
    speed: Running,
}

impl Process {
    fn start(dir: &Path, cut: &Cut) -> Process {
        let logs = ["raw", "enriched", "bad", "failed", "pii"].map(|name| open(dir, name));
        let [raw, enriched, bad, failed, pii] = logs.clone();
        let view = new_view();
        let streams = Streams { raw, derived: Derived { enriched, bad, failed }, pii };
        let ports = Ports { streams, realtime: Arc::clone(&view), clock: Arc::new(Standing) };
        let speed = Speed::start(ports, recipe(true), cut.clone(), Config::default()).unwrap();
        Process { logs, view, speed }
    }

    fn send(&self, count: u64) {
        let raw = &self.logs[0];
        for partition in raw.partitions() {
            let records = (0..count).map(|number| record(Sent::Several, number)).collect();
            block_on(raw.append(partition, records)).unwrap();
        }
    }

    fn catch_up(&self) {
        let ends = raw_ends(&*self.logs[0]).unwrap();
        let since = Instant::now();
        while !self.speed.caught_up(&ends) {
            assert!(since.elapsed() < Duration::from_secs(60), "{:?}", self.speed.status());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Events, bad rows, failed events.
    fn rows(&self) -> (u64, u64, u64) {
        let metrics = self.view.metrics();
        (metrics.event_rows, metrics.bad_row_rows, metrics.failed_event_rows)
    }

    fn stop(self) {
        self.speed.shutdown();
        self.logs.iter().for_each(|log| log.close());
    }
}

#[test]
fn what_was_written_before_a_restart_is_loaded_and_not_enriched_again() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path(), &Cut::default());
    process.send(500);
    process.catch_up();
    assert_eq!(process.rows(), (3000, 1000, 1000));
    process.stop();

    let process = Process::start(dir.path(), &Cut::default());
    process.catch_up();
    assert_eq!(process.rows(), (3000, 1000, 1000));
    assert_eq!(process.speed.status().tally().records, 0);
    process.send(10);
    process.catch_up();
    assert_eq!(process.rows(), (3060, 1020, 1020));
    assert_eq!(process.speed.status().tally().records, 20);
    process.stop();
}

#[test]
fn a_removed_derived_stream_is_made_again_from_the_cut_on() {
    for removed in ["bad", "failed"] {
        let dir = tempfile::tempdir().unwrap();
        let process = Process::start(dir.path(), &Cut::default());
        process.send(100);
        process.catch_up();
        process.stop();

        std::fs::remove_dir_all(dir.path().join(removed)).unwrap();
        let process = Process::start(dir.path(), &cut(40, 0));
        process.catch_up();
        assert_eq!(process.rows(), (480, 160, 160));
        let visible = process.speed.frontier();
        assert!(visible.iter().all(|(_, offset)| offset >= Offset::from_number(100)));
        process.stop();
    }
}
