//! Two scripted sinks below the real delivery, on tokio's paused clock.

use super::*;
use crate::sink::backoff::{Algorithm, Backoff, Random};
use crate::sink::buffer::Bounds;
use crate::sink::delivery::{self, Delivery};
use crate::sink::scripted::{Reply, Scripted};
use bytes::Bytes;
use model::time::{Clock, Timestamp};
use std::collections::BTreeSet;
use tokio::runtime::Handle;

#[derive(Debug)]
struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        Timestamp(1_700_000_000_123)
    }
}

const SETTINGS: Settings =
    Settings { retries: 3, second_record_bytes_max: 100, probe_interval: Duration::from_secs(1) };

struct Setup {
    first: Scripted,
    second: Scripted,
    delivery: Delivery,
}

fn start() -> Setup {
    let (first, second) = (Scripted::new("stream"), Scripted::new("queue"));
    let pair = Fallback::new(Arc::new(first.clone()), Arc::new(second.clone()), SETTINGS);
    let settings = delivery::Settings {
        bounds: Bounds {
            records_max: 500,
            bytes_max: 1_000_000,
            time_limit: Duration::from_millis(100),
        },
        backoff: Backoff { algorithm: Algorithm::Uniform, min_ms: 500, max_ms: 1500 },
        retries: 3,
        batches_max: 10,
        bytes_max: 1_000_000,
        probe_interval: Duration::from_secs(1),
    };
    let random = Random::seeded(42);
    let clock = Arc::new(FixedClock);
    let delivery = Delivery::start(Arc::new(pair), settings, clock, random, &Handle::current());
    Setup { first, second, delivery }
}

fn entry(name: &str) -> Entry {
    Entry { bytes: Bytes::from(name.to_owned()), key: Bytes::new() }
}

fn taken(sink: &Scripted) -> BTreeSet<Bytes> {
    sink.taken().into_iter().collect()
}

fn set(names: &[&str]) -> BTreeSet<Bytes> {
    names.iter().map(|name| Bytes::from((*name).to_owned())).collect()
}

async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await;
}

#[tokio::test(start_paused = true)]
async fn the_first_takes_everything_while_it_is_there() {
    let setup = start();
    setup.delivery.take(vec![entry("a"), entry("b")]).unwrap();
    seconds(1).await;
    assert_eq!(taken(&setup.first), set(&["a", "b"]));
    assert!(setup.second.attempts().is_empty() && setup.delivery.health().is_healthy());
}

#[tokio::test(start_paused = true)]
async fn after_its_retries_the_second_takes_over_and_a_probe_brings_the_first_back() {
    let setup = start();
    setup.first.set(false, |_| Reply::Fail);
    setup.delivery.take(vec![entry("a")]).unwrap();
    seconds(10).await;
    assert_eq!((setup.first.attempts().len(), taken(&setup.second)), (4, set(&["a"])));
    assert!(setup.delivery.health().is_healthy(), "one of the two is enough");
    // What comes now goes straight to the second.
    setup.delivery.take(vec![entry("b")]).unwrap();
    seconds(1).await;
    assert_eq!((setup.first.attempts().len(), taken(&setup.second)), (4, set(&["a", "b"])));
    // Nothing is sent to the first before its probe is answered.
    setup.first.recover();
    seconds(2).await;
    setup.delivery.take(vec![entry("c")]).unwrap();
    seconds(1).await;
    assert_eq!((taken(&setup.first), setup.second.attempts().len()), (set(&["c"]), 2));
}

#[tokio::test(start_paused = true)]
async fn a_record_too_large_for_the_second_waits_for_the_first() {
    let setup = start();
    setup.first.set(false, |_| Reply::Fail);
    let large = "x".repeat(101);
    setup.delivery.take(vec![entry("a"), entry(&large), entry("b")]).unwrap();
    seconds(60).await;
    assert_eq!(taken(&setup.second), set(&["a", "b"]));
    assert_eq!(setup.second.taken().len(), 2, "each once");
    assert!(setup.first.taken().is_empty());
    setup.first.recover();
    seconds(60).await;
    assert_eq!(taken(&setup.first), set(&[&large]));
}

#[tokio::test(start_paused = true)]
async fn while_both_are_away_each_has_its_turn_and_nothing_is_dropped() {
    let setup = start();
    setup.first.set(false, |_| Reply::Fail);
    setup.second.set(false, |_| Reply::Hang);
    setup.delivery.take(vec![entry("a")]).unwrap();
    seconds(120).await;
    assert!(!setup.delivery.health().is_healthy());
    let (first, second) = (setup.first.attempts().len(), setup.second.attempts().len());
    assert!(first >= 8 && second >= 8, "{first} and {second} attempts");
    setup.second.recover();
    seconds(10).await;
    assert_eq!(taken(&setup.second).union(&taken(&setup.first)).count(), 1);
    assert!(setup.delivery.health().is_healthy());
}

#[tokio::test(start_paused = true)]
async fn what_the_second_refuses_alone_is_sent_again_alone() {
    let setup = start();
    setup.first.set(false, |_| Reply::Fail);
    let mut is_first_time = true;
    setup.second.set(true, move |_| {
        if std::mem::take(&mut is_first_time) { Reply::Refuse(vec![1]) } else { Reply::Take }
    });
    setup.delivery.take(vec![entry("a"), entry("b"), entry("c")]).unwrap();
    seconds(30).await;
    let sent: Vec<usize> = setup.second.attempts().iter().map(|it| it.records.len()).collect();
    assert_eq!((sent, taken(&setup.second)), (vec![3, 1], set(&["a", "b", "c"])));
}

#[test]
fn groups_are_as_large_as_allowed_and_never_empty() {
    let batch: Vec<Entry> = (0..10).map(|_| entry("ten bytes!")).collect();
    let places: Vec<usize> = (0..10).collect();
    let sizes = |records, bytes, places: &[usize]| -> Vec<usize> {
        let limits =
            Limits { record_bytes_max: 100, batch_records_max: records, batch_bytes_max: bytes };
        groups(&batch, places, limits).iter().map(|group| group.len()).collect()
    };
    assert!(sizes(3, 1000, &[]).is_empty());
    assert_eq!(sizes(3, 1000, &places), [3, 3, 3, 1]);
    assert_eq!(sizes(100, 30, &places), [3, 3, 3, 1]);
    assert_eq!(sizes(0, 0, &places), [1; 10]);
}
