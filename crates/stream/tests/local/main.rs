//! The embedded log on a real folder: the contract, recovery scenario by scenario, faults of the disk, laws, and the
//! stored format.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod faults;
mod faulty;
mod folder;
mod format;
mod inspection;
mod laws;
mod recovery;
mod repair;

use std::sync::Arc;
use std::sync::Mutex;

use stream::Stream;
use stream::disk::Disk;
use stream::local::{Drive, Durability, Local, Options};

#[test]
fn the_embedded_log_keeps_the_contract_in_each_mode() {
    for durability in [Durability::Synced, Durability::Relaxed] {
        for drive in [Drive::Threads, Drive::Inline] {
            let folders = Mutex::new(Vec::new());
            stream::conformance::all(&|| {
                let dir = tempfile::tempdir().unwrap();
                // Small segments, so that each check crosses several.
                let options = Options {
                    durability,
                    drive,
                    segment_bytes_first: 8192,
                    segment_bytes_max: 16384,
                    disk_reserve_bytes: Some(0),
                    ..Options::default()
                };
                let log = Local::open(Arc::new(Disk), dir.path(), "raw", 2, options).unwrap();
                folders.lock().unwrap().push(dir);
                Arc::new(log) as Arc<dyn Stream>
            });
        }
    }
}
