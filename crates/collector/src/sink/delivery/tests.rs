//! The delivery against a scripted sink, on tokio's paused clock: time passes only while everybody waits, so every delay
//! is seen to the millisecond.

use super::*;
use crate::sink::backoff::Algorithm;
use crate::sink::scripted::{Reply, Scripted};
use bytes::Bytes;
use model::time::Timestamp;
use std::collections::BTreeSet;

const BEGIN: Timestamp = Timestamp(1_700_000_000_123);

/// Goes with tokio's time.
#[derive(Debug)]
struct TestClock(Instant);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(BEGIN.0 + i64::try_from(self.0.elapsed().as_millis()).unwrap())
    }
}

const SEED: u64 = 42;

fn settings() -> Settings {
    Settings {
        bounds: Bounds {
            records_max: 500,
            bytes_max: 1_000_000,
            time_limit: Duration::from_millis(500),
        },
        backoff: Backoff { algorithm: Algorithm::Uniform, min_ms: 500, max_ms: 1500 },
        retries: 3,
        batches_max: 10,
        bytes_max: 1_000_000,
        probe_interval: Duration::from_secs(1),
    }
}

fn start(sink: &Scripted, settings: Settings) -> Delivery {
    let sink = Arc::new(sink.clone());
    Delivery::start(
        sink,
        settings,
        Arc::new(TestClock(Instant::now())),
        Random::seeded(SEED),
        &Handle::current(),
    )
}

fn record(number: usize) -> Entry {
    Entry { bytes: Bytes::from(format!("record {number}")), key: Bytes::from_static(b"key") }
}

fn records(numbers: impl IntoIterator<Item = usize>) -> Vec<Entry> {
    numbers.into_iter().map(record).collect()
}

fn taken(sink: &Scripted) -> BTreeSet<Bytes> {
    sink.taken().into_iter().collect()
}

fn all(numbers: impl IntoIterator<Item = usize>) -> BTreeSet<Bytes> {
    numbers.into_iter().map(|number| record(number).bytes).collect()
}

/// Milliseconds from one attempt to the next.
fn waits(sink: &Scripted) -> Vec<u128> {
    let attempts = sink.attempts();
    let wait = |pair: &[crate::sink::scripted::Attempt]| (pair[1].at - pair[0].at).as_millis();
    attempts.windows(2).map(wait).collect()
}

#[tokio::test(start_paused = true)]
async fn a_sink_starts_unhealthy_and_one_answer_makes_it_healthy() {
    let sink = Scripted::missing("good");
    let delivery = start(&sink, settings());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!delivery.health().is_healthy());
    // The probe succeeds, without any record.
    sink.set(true, |_| Reply::Fail);
    tokio::time::sleep(Duration::from_millis(1001)).await;
    assert!(delivery.health().is_healthy());
    assert_eq!(sink.attempts().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_batch_goes_when_its_time_has_come_or_it_is_full() {
    let sink = Scripted::new("good");
    let small = Bounds { records_max: 2, ..settings().bounds };
    let delivery = start(&sink, Settings { bounds: small, ..settings() });
    let begun = Instant::now();
    delivery.take_and_confirm(records([1])).unwrap().await.unwrap();
    assert_eq!(begun.elapsed().as_millis(), 500);
    let first = delivery.take_and_confirm(records([2, 3])).unwrap();
    delivery.take(records([4])).unwrap();
    first.await.unwrap();
    assert_eq!(begun.elapsed().as_millis(), 500, "a full batch does not wait");
    assert_eq!(delivery.drain(Instant::now()).await, 1, "no time is left for the last");
    assert_eq!(taken(&sink), all([1, 2, 3]));
}

#[tokio::test(start_paused = true)]
async fn only_the_refused_records_are_sent_again_with_the_delays_of_the_formula() {
    let sink = Scripted::new("good");
    // Every third record of each batch is refused, until 8 attempts are over.
    let mut attempts = 0;
    sink.set(true, move |batch| {
        attempts += 1;
        let refused = (0..batch.len()).step_by(3).filter(|_| attempts <= 8).collect();
        Reply::Refuse(refused)
    });
    let delivery = start(&sink, settings());
    delivery.take_and_confirm(records(0..90)).unwrap().await.unwrap();
    let sizes: Vec<usize> = sink.attempts().iter().map(|it| it.records.len()).collect();
    assert_eq!(sizes, [90, 30, 10, 4, 2, 1, 1, 1, 1], "a third, rounded up");
    for pair in sink.attempts().windows(2) {
        let before: BTreeSet<&Bytes> = pair[0].records.iter().collect();
        assert!(pair[1].records.iter().all(|it| before.contains(it)));
    }
    // The same draws as the delivery made give the same delays.
    let (random, backoff) = (Random::seeded(SEED), settings().backoff);
    let mut expect = Vec::new();
    let mut retry = Retry::new(backoff, 3);
    for _ in 0..8 {
        expect.push(match retry.failed(random.draw()) {
            Next::After(wait) => wait.as_millis(),
            Next::Unhealthy => 0,
        });
    }
    assert_eq!(waits(&sink), expect);
    assert_eq!(expect[3], 0, "the fourth failure in a row: at once, and unhealthy");
    assert!(
        expect.iter().enumerate().all(|(at, wait)| (500..=1500).contains(wait) != (at % 4 == 3))
    );
    // Healthy with the first answer, unhealthy after the retries, and back with the next answer; twice.
    assert!(delivery.health().is_healthy());
    assert_eq!(delivery.health().flips(), 5);
    // Exactly once each, and in all.
    assert_eq!(sink.taken().len(), 90);
    assert_eq!(taken(&sink), all(0..90));
    let stats = delivery.stats();
    assert_eq!((stats.delivered(), stats.held(), stats.retried()), (90, 0, 50));
    let waited: u128 = 500 + expect.iter().sum::<u128>();
    assert_eq!(stats.last_success(), Some(Timestamp(BEGIN.0 + i64::try_from(waited).unwrap())));
}

#[tokio::test(start_paused = true)]
async fn batches_side_by_side_keep_their_own_delays_when_a_part_of_each_is_refused() {
    let sink = Scripted::new("good");
    sink.set(true, |batch| Reply::Refuse(vec![batch.len() - 1]));
    let growing = Backoff { algorithm: Algorithm::Decorrelated, min_ms: 500, max_ms: 600_000 };
    let bounds = Bounds { records_max: 50, ..settings().bounds };
    let delivery = start(&sink, Settings { backoff: growing, bounds, ..settings() });
    for batch in 0..10 {
        delivery.take(records(batch * 50..(batch + 1) * 50)).unwrap();
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(delivery.health().flips() > 10, "it turns with each batch that is used up");
    let attempts = sink.attempts().len();
    // The last record of each batch is refused again and again, with waits that grow; one by itself needs about 15.
    assert!((30..400).contains(&attempts), "{attempts} attempts in ten minutes");
    assert_eq!(delivery.stats().held(), 10);
}

#[tokio::test(start_paused = true)]
async fn an_outage_loses_nothing_and_its_end_is_noticed_at_once() {
    let sink = Scripted::missing("good");
    let long = Backoff { algorithm: Algorithm::Decorrelated, min_ms: 500, max_ms: 600_000 };
    let delivery = start(&sink, Settings { backoff: long, ..settings() });
    for number in 0..100 {
        delivery.take(records([number])).unwrap();
        tokio::time::sleep(Duration::from_secs(36)).await;
    }
    assert!(!delivery.health().is_healthy());
    assert!(sink.taken().is_empty());
    assert_eq!(delivery.stats().held_oldest(), Some(BEGIN), "an hour ago");
    let last = waits(&sink).into_iter().max().unwrap();
    assert!(last > 60_000, "after an hour attempts are rare: {last} ms");
    sink.recover();
    let back = Instant::now();
    let last = delivery.take_and_confirm(records([100])).unwrap();
    last.await.unwrap();
    while delivery.stats().held() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(back.elapsed() < Duration::from_secs(2), "{:?}", back.elapsed());
    assert_eq!(delivery.stats().held_oldest(), None);
    assert_eq!(taken(&sink), all(0..=100));
}

#[tokio::test(start_paused = true)]
async fn the_oldest_that_is_held_is_the_oldest_that_was_refused() {
    let sink = Scripted::new("good");
    let second = record(1).bytes;
    let mut attempts = 0;
    sink.set(true, move |batch| {
        attempts += 1;
        let is_refused = |at: &usize| attempts == 1 && batch[*at].bytes == second;
        Reply::Refuse((0..batch.len()).filter(is_refused).collect())
    });
    let delivery = start(&sink, settings());
    for number in 0..3 {
        delivery.take(records([number])).unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let oldest = || delivery.stats().held_oldest().map(|at| at.0 - BEGIN.0);
    assert_eq!((oldest(), delivery.stats().held()), (Some(0), 3));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((oldest(), delivery.stats().held()), (Some(100), 1));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((oldest(), delivery.stats().held()), (None, 0));
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_never_answers_is_a_failure_after_ten_seconds() {
    let sink = Scripted::new("good");
    sink.set(true, |_| Reply::Hang);
    let delivery = start(&sink, settings());
    let confirmed = delivery.take_and_confirm(records([1])).unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    sink.recover();
    confirmed.await.unwrap();
    assert_eq!(waits(&sink), [10_500]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_means_a_second_copy_and_never_none() {
    let sink = Scripted::new("good");
    let mut replies = [Reply::TakeAndFail, Reply::Take].into_iter();
    sink.set(true, move |_| replies.next().unwrap());
    let delivery = start(&sink, settings());
    delivery.take_and_confirm(records([1, 2])).unwrap().await.unwrap();
    assert_eq!(sink.taken().len(), 4);
    assert_eq!(taken(&sink), all([1, 2]));
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded_and_room_comes_back() {
    let sink = Scripted::missing("good");
    let delivery = start(&sink, Settings { bytes_max: 100, ..settings() });
    let size = record(0).len();
    for number in 0..(100 / size) {
        delivery.take(records([number])).unwrap();
    }
    assert_eq!(delivery.take(records([99])), Err(NotTaken::Full));
    assert!(delivery.stats().held_bytes() <= 100);
    let waits_for_room = delivery.take_when_there_is_room(records([99]));
    sink.recover();
    waits_for_room.await.unwrap().await.unwrap();
    assert!(taken(&sink).contains(&record(99).bytes));
}

#[tokio::test(start_paused = true)]
async fn no_more_batches_are_on_their_way_than_allowed() {
    let sink = Scripted::new("good");
    sink.set(true, |_| Reply::Hang);
    let one = Bounds { records_max: 1, ..settings().bounds };
    let delivery = start(&sink, Settings { bounds: one, batches_max: 3, ..settings() });
    for number in 0..10 {
        delivery.take(records([number])).unwrap();
    }
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(sink.attempts().len(), 3);
    sink.recover();
    assert_eq!(delivery.drain(Instant::now() + Duration::from_secs(60)).await, 0);
    assert_eq!(taken(&sink), all(0..10));
}

#[tokio::test(start_paused = true)]
async fn draining_sends_what_waits_and_retries_until_the_deadline() {
    let sink = Scripted::new("good");
    let delivery = start(&sink, settings());
    delivery.take(records(0..10)).unwrap();
    let begun = Instant::now();
    assert_eq!(delivery.drain(begun + Duration::from_secs(30)).await, 0);
    assert_eq!(begun.elapsed(), Duration::ZERO, "nobody waits for the buffer's time");
    assert_eq!(delivery.take(records([10])), Err(NotTaken::Closed));

    // A sink that comes back while the process is ending, long before the next attempt was due.
    let sink = Scripted::missing("good");
    let long = Backoff { algorithm: Algorithm::Decorrelated, min_ms: 60_000, max_ms: 600_000 };
    let delivery = start(&sink, Settings { backoff: long, ..settings() });
    delivery.take(records(0..10)).unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (begun, back) = (Instant::now(), sink.clone());
    let later = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(5)).await;
        back.set(false, |_| Reply::Take);
    });
    assert_eq!(delivery.drain(begun + Duration::from_secs(30)).await, 0);
    assert!(begun.elapsed() <= Duration::from_secs(6), "{:?}", begun.elapsed());
    later.await.unwrap();

    // One that does not: the count is what is left.
    let sink = Scripted::missing("good");
    let delivery = start(&sink, settings());
    let waiting = delivery.take_and_confirm(records(0..7)).unwrap();
    let begun = Instant::now();
    assert_eq!(delivery.drain(begun + Duration::from_secs(30)).await, 7);
    assert_eq!(begun.elapsed(), Duration::from_secs(30));
    drop(delivery);
    assert_eq!(waiting.await, Err(NotTaken::Closed), "nobody who waits hears 200");
}
