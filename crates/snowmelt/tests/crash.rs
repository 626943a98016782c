//! Rounds of `kill -9` under load: every event that was answered 200 is in every later answer, once.
//!
//! Collector, archiver, batcher and speed layer work on one data folder and are killed together at a random moment;
//! iterations are short, so that the cut lies everywhere between and inside the files. Table files are joined and the
//! whole batch view is rebuilt meanwhile. The seed is printed;
//! `SNOWMELT_CRASH_SEED` repeats the moments, not the schedule of the machine.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::{Load, Up, failing_body_of, wait_until};
use serde_json::Value;

/// Kills in an ordinary run; `ROUNDS=100` makes it a long one.
const ROUNDS: usize = 30;

const SETTINGS: [&str; 5] = [
    "batch.interval=300ms",
    "batch.file-bytes-max=65536",
    "speed.batch-bytes=16384",
    // Small enough that chunks are spilled.
    "speed.memory-bytes-max=262144",
    "batch.compact-files=3",
];

#[test]
fn every_accepted_event_is_counted_once_after_any_kill() {
    let seed = std::env::var("SNOWMELT_CRASH_SEED")
        .map_or_else(|_| fresh_seed(), |text| text.parse().unwrap());
    eprintln!("SNOWMELT_CRASH_SEED={seed}");
    let mut numbers = Numbers(seed);
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let mut known = Known::default();
    let mut statements = 0;
    let started = Instant::now();
    let rounds = std::env::var("ROUNDS").map_or(ROUNDS, |text| text.parse().unwrap());
    for round in 0..rounds {
        let up = Up::start(&data_dir, &SETTINGS);
        // At once: ready means caught up.
        known.check_count(&up);
        known.check_cut(&up);
        match round % 10 {
            // Every other time a rebuild: those that are asked for below may all be killed before they come in.
            4 => statements += known.watch(&up, round % 20 == 4),
            1 | 7 => check_ledger(&up),
            _ => {}
        }
        let load = Load::start(&up, &folder.path().join(format!("ids-{round}")));
        let failing = send_failing(&up, round);
        let life = Duration::from_millis(numbers.between(50, 1200));
        let asking = (numbers.between(0, 2) == 0).then(|| {
            let after = life.mul_f64(numbers.between(0, 100) as f64 / 100.0);
            let rebuild = numbers.between(0, 2) == 0;
            ask_for_an_iteration(&up, after, rebuild)
        });
        std::thread::sleep(life);
        up.kill9();
        if let Some(asking) = asking {
            asking.join().unwrap();
        }
        known.add(load.end());
        known.failed.extend(failing.join().unwrap());
        eprintln!(
            "round {round}: {} events, iteration {}, {:?}",
            known.accepted.len(),
            known.iteration,
            started.elapsed()
        );
    }
    let up = Up::start(&data_dir, &SETTINGS);
    known.check_ids(&up, "before the last iteration");
    check_ledger(&up);
    let iteration = up.batch_run();
    known.check_ids(&up, "after the last iteration");
    check_ledger(&up);
    known.check_cut(&up);
    assert!(up.terminate().success());
    let up = Up::start(&data_dir, &SETTINGS);
    known.check_ids(&up, "after an end in order");
    check_history(&up);
    assert!(
        iteration >= 5,
        "only {iteration} iterations: the rounds were too short to mean anything"
    );
    assert!(known.accepted.len() >= 1000, "only {} events were accepted", known.accepted.len());
    assert!(known.failed.len() >= 100, "only {} failed events were accepted", known.failed.len());
    let generations = up.number("SELECT max(generation) FROM lambda.iterations");
    assert!(generations > 0, "no rebuild ever came in");
    eprintln!(
        "{rounds} kills, {iteration} iterations, {generations} rebuilds, {} events and {} failed ones accepted, {statements} comparisons around a cut, {:?}",
        known.accepted.len(),
        known.failed.len(),
        started.elapsed()
    );
}

/// What must be in every answer from now on.
#[derive(Default)]
struct Known {
    accepted: BTreeSet<String>,
    /// Accepted ones that fail validation.
    failed: BTreeSet<String>,
    /// The highest cut seen, by partition.
    cut: BTreeMap<String, String>,
    iteration: u64,
    /// The most events ever shown: none may go again.
    shown: u64,
}

impl Known {
    fn add(&mut self, ids: Vec<String>) {
        for id in ids {
            assert!(self.accepted.insert(id), "`send` made an id twice");
        }
    }

    /// Cheap: nothing is doubled, and nothing got less.
    fn check_count(&mut self, up: &Up) {
        let row = &up.sql("SELECT count(*), count(DISTINCT event_id) FROM atomic.events")[0];
        let (rows, distinct) = (row[0].as_u64().unwrap(), row[1].as_u64().unwrap());
        assert_eq!(rows, distinct, "events are doubled");
        assert!(
            rows >= self.accepted.len() as u64,
            "{rows} rows, {} accepted",
            self.accepted.len()
        );
        assert!(rows >= self.shown, "{rows} rows after {} were shown", self.shown);
        self.shown = rows;
    }

    /// Thorough: every accepted id, once; those that fail as failed events, each beside its bad row.
    fn check_ids(&mut self, up: &Up, when: &str) {
        check_table(up, "events", &self.accepted, when);
        check_table(up, "failed_events", &self.failed, when);
        let statement = "SELECT count(*), count(b._offset), count(DISTINCT f.event_id) FROM atomic.failed_events f \
            LEFT JOIN atomic.bad_rows b \
            ON f._partition = b._partition AND f._offset = b._offset AND f._index = b._index AND f._layer = b._layer";
        let row = &up.sql(statement)[0];
        assert!(
            row[0] == row[1] && row[0] == row[2],
            "{when}: failed events without their bad rows: {row:?}"
        );
        self.check_count(up);
    }

    /// Compares before, while and after an iteration or a rebuild runs; the number of comparisons.
    fn watch(&mut self, up: &Up, rebuild: bool) -> usize {
        self.check_ids(up, "before an iteration");
        let mut comparisons = 1;
        std::thread::scope(|scope| {
            let iterating = scope.spawn(|| match rebuild {
                true => up.rebuild(),
                false => up.batch_run(),
            });
            while !iterating.is_finished() {
                self.check_ids(up, "during an iteration");
                comparisons += 1;
            }
            iterating.join().unwrap();
        });
        wait_until("the iteration is served", || {
            let rows = up.sql("SELECT bool_and(cut_offset = frontier) FROM lambda.cut");
            rows[0][0] != Value::Bool(false)
        });
        self.check_ids(up, "after an iteration");
        check_ledger(up);
        self.check_cut(up);
        comparisons + 1
    }

    /// Neither cut nor iteration ever goes back.
    fn check_cut(&mut self, up: &Up) {
        for row in up.sql("SELECT partition, cut_offset, frontier FROM lambda.cut") {
            let text = |at: usize| row[at].as_str().unwrap().to_owned();
            let (partition, cut, frontier) = (text(0), text(1), text(2));
            assert!(
                cut <= frontier,
                "the cut {cut} of {partition} is above its frontier {frontier}"
            );
            if let Some(before) = self.cut.insert(partition.clone(), cut.clone()) {
                assert!(before <= cut, "the cut of {partition} went back from {before} to {cut}");
            }
        }
        let iteration = up.number("SELECT max(iteration) FROM lambda.iterations");
        assert!(self.iteration <= iteration, "{iteration} after {}", self.iteration);
        self.iteration = iteration;
    }
}

/// Every id of these is in the table, and none is there twice.
fn check_table(up: &Up, table: &str, accepted: &BTreeSet<String>, when: &str) {
    let rows = up.sql(&format!("SELECT event_id, count(*) FROM atomic.{table} GROUP BY event_id"));
    let mut seen = HashSet::new();
    for row in &rows {
        assert_eq!(row[1].as_u64(), Some(1), "{when}: {} is doubled in {table}", row[0]);
        seen.insert(row[0].as_str().unwrap());
    }
    let lost: Vec<&String> = accepted.iter().filter(|id| !seen.contains(id.as_str())).collect();
    assert!(
        lost.is_empty(),
        "{when}: {} rows of {table} are lost, such as {:?}",
        lost.len(),
        &lost[..lost.len().min(3)]
    );
}

/// Sends events that fail validation, one request after the other, until the server is gone; the ids that were
/// answered 200.
fn send_failing(up: &Up, round: usize) -> std::thread::JoinHandle<Vec<String>> {
    let address = up.collector.clone();
    std::thread::spawn(move || {
        let mut accepted = Vec::new();
        for number in 0u64.. {
            let id = format!("{round:08x}-0000-4000-9000-{number:012x}");
            let body = failing_body_of(&[&id]).to_string();
            let request = format!(
                "POST /com.snowplowanalytics.snowplow/tp2 HTTP/1.1\r\nHost: {address}\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let Ok(mut connection) = TcpStream::connect(&address) else { break };
            let mut answer = Vec::new();
            let answered = connection
                .write_all(request.as_bytes())
                .and_then(|()| connection.read_to_end(&mut answer));
            if answer.starts_with(b"HTTP/1.1 200") {
                accepted.push(id);
            } else if answered.is_err() || answer.is_empty() {
                break;
            }
        }
        accepted
    })
}

/// Asks for an iteration, or a rebuild, after a while; the answer may never come, because the server is killed.
fn ask_for_an_iteration(up: &Up, after: Duration, rebuild: bool) -> std::thread::JoinHandle<()> {
    let address = up.http.clone();
    std::thread::spawn(move || {
        std::thread::sleep(after);
        let body = format!("{{\"rebuild\":{rebuild}}}");
        let request = format!(
            "POST /api/v1/batch HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let Ok(mut connection) = TcpStream::connect(&address) else { return };
        let _ = connection.write_all(request.as_bytes());
        let _ = connection.read_to_end(&mut Vec::new());
    })
}

/// Each range that is not pending adds up, ranges join without a gap, and the sums are what the tables show.
fn check_ledger(up: &Up) {
    let statement = "SELECT \
        coalesce(sum(outcomes), 0) AS outcomes, \
        coalesce(sum(enriched + failed + bad + dropped + erased), 0) AS parts, \
        coalesce(sum(enriched - duplicates), 0), \
        coalesce(sum(bad + failed), 0), \
        coalesce(sum(CASE WHEN outcomes < records THEN 1 ELSE 0 END), 0), \
        (SELECT count(*) FROM atomic.events) AS events, \
        (SELECT count(*) FROM atomic.bad_rows) AS bad_rows, \
        coalesce(sum(failed), 0), \
        (SELECT count(*) FROM atomic.failed_events) AS failed_events \
        FROM lambda.ledger WHERE NOT pending";
    let row = &up.sql(statement)[0];
    let number = |at: usize| {
        row[at].as_str().map_or_else(|| row[at].as_u64(), |text| text.parse().ok()).unwrap()
    };
    assert_eq!(number(0), number(1), "the outcomes do not add up: {row:?}");
    assert_eq!(number(2), number(5), "the ledger's events are not those shown: {row:?}");
    assert_eq!(number(3), number(6), "the ledger's bad rows are not those shown: {row:?}");
    assert_eq!(number(7), number(8), "the ledger's failed events are not those shown: {row:?}");
    assert_eq!(number(4), 0, "a record without an outcome: {row:?}");
    let ranges = up.sql(
        "SELECT partition, from_offset, to_offset FROM lambda.ledger ORDER BY partition, from_offset",
    );
    let mut ends: BTreeMap<String, String> = BTreeMap::new();
    for range in &ranges {
        let text = |at: usize| range[at].as_str().unwrap().to_owned();
        let from = text(1);
        match ends.insert(text(0), text(2)) {
            Some(end) => assert_eq!(end, from, "a gap or an overlap in the ledger of {}", text(0)),
            None => assert_eq!(
                from.trim_start_matches('0'),
                "",
                "the ledger of {} begins at {from}",
                text(0)
            ),
        }
    }
}

/// No iteration is missing from the history.
fn check_history(up: &Up) {
    let data_dir = up.data_dir.to_str().unwrap();
    let listed = common::stdout_of(["batch", "list", "--json", "--data-dir", data_dir]);
    let iterations: Vec<u64> = listed
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["iteration"].as_u64().unwrap())
        .collect();
    assert!(iterations.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{iterations:?}");
}

/// SplitMix64.
struct Numbers(u64);

impl Numbers {
    fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        low + (mixed ^ (mixed >> 31)) % (high - low)
    }
}

fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}
