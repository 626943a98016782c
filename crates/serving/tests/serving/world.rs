//! A small data folder whose log is known, so that every answer can be held against it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::RecordBatch;
use model::cut::{Cut, Frontier};
use model::decimal::Decimal;
use model::event::EnrichedEvent;
use model::files::Files;
use model::iglu::SchemaKey;
use model::position::{Offset, Partition, Position, Range};
use model::time::Timestamp;
use serde_json::{Value, json};
use serving::Error;
use serving::sql::{Engine, Limits, Sources};
use stream::disk::Disk;
use views::catalog::{Catalog, Commit, Counts, LedgerEntry, Manifest, Table};
use views::lambda::Lambda;
use views::realtime::{Applied, NewChunk, Options, RealtimeView};
use views::shred::{BadRowRows, EventRows};
use views::wide::{Inventory, Shape};

pub(crate) const RECIPE: &str = "r0";

/// One outcome of a record.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Event(Box<EnrichedEvent>),
    Failed(Box<EnrichedEvent>, String),
    Bad(String),
}

/// Records by offset, in each partition of the raw stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(pub(crate) BTreeMap<Partition, BTreeMap<u64, Vec<Outcome>>>);

pub(crate) fn partition(index: u32) -> Partition {
    Partition::of_stream("raw", index)
}

pub(crate) fn offset(number: u64) -> Offset {
    Offset::from_number(number)
}

pub(crate) fn cut(entries: &[(u32, u64)]) -> Cut {
    entries.iter().map(|(index, number)| (partition(*index), offset(*number))).collect()
}

/// The event of one number; the same number gives the same event.
pub(crate) fn event(number: u64) -> Outcome {
    Outcome::Event(Box::new(EnrichedEvent {
        app_id: Some(format!("app{}", number % 3)),
        event_id: Some(format!("00000000-0000-4000-8000-{number:012}")),
        event_name: Some(
            if number.is_multiple_of(2) { "page_view" } else { "page_ping" }.to_owned(),
        ),
        collector_tstamp: Some(Timestamp(1_700_000_000_000 + number as i64 * 1000)),
        page_urlhost: (!number.is_multiple_of(5)).then(|| format!("h{}.example", number % 4)),
        domain_userid: Some(format!("user{}", number % 7)),
        domain_sessionidx: Some(number as i32 % 10),
        tr_total: Some(Decimal::parse(&format!("{}.25", number % 100)).unwrap()),
        se_value: Some(Decimal::parse(&format!("{}.5", number % 10)).unwrap()),
        br_cookies: Some(number.is_multiple_of(2)),
        ..EnrichedEvent::default()
    }))
}

/// The bad row of one number.
pub(crate) fn bad(number: u64) -> Outcome {
    Outcome::Bad(bad_row(number))
}

/// The failed event of one number, with the bad row that [`bad`] has.
pub(crate) fn failed(number: u64) -> Outcome {
    let Outcome::Event(event) = event(number) else { unreachable!("it makes events") };
    Outcome::Failed(event, bad_row(number))
}

fn bad_row(number: u64) -> String {
    serde_json::json!({
            "schema": "iglu:com.snowplowanalytics.snowplow.badrows/adapter_failures/jsonschema/1-0-0",
            "data": {
                "failure": {"timestamp": "2026-11-22T10:00:00.000Z", "messages": [{"field": "a", "value": number}]},
                "payload": {"n": number},
            },
        })
        .to_string()
}

impl Log {
    /// Records with the given outcomes, at offsets with holes: 0, 2, 4, …
    pub(crate) fn of(partitions: &[Vec<Vec<Outcome>>]) -> Log {
        let mut log = Log::default();
        for (index, records) in partitions.iter().enumerate() {
            let records =
                records.iter().enumerate().map(|(at, outcomes)| (at as u64 * 2, outcomes.clone()));
            log.0.insert(partition(index as u32), records.collect());
        }
        log
    }

    pub(crate) fn end(&self, partition: &Partition) -> Offset {
        let last = self.0.get(partition).and_then(|records| records.keys().next_back().copied());
        offset(last.map_or(0, |last| last + 1))
    }

    pub(crate) fn ends(&self) -> Cut {
        self.0.keys().map(|partition| (partition.clone(), self.end(partition))).collect()
    }

    /// All outcomes of records in a range, in the order of positions.
    pub(crate) fn outcomes(&self, range: &Range) -> Vec<(Position, Outcome)> {
        let records = self.0.get(&range.partition).into_iter().flatten();
        let inside =
            records.filter(|(at, _)| (range.from.number()..range.to.number()).contains(at));
        let positions = inside.flat_map(|(at, outcomes)| {
            outcomes.iter().enumerate().map(|(index, outcome)| {
                let position = Position {
                    partition: range.partition.clone(),
                    offset: offset(*at),
                    index: index as u32,
                };
                (position, outcome.clone())
            })
        });
        positions.collect()
    }

    /// All events below a frontier, in the order of positions.
    pub(crate) fn events(&self, frontier: &Frontier) -> Vec<(Position, EnrichedEvent)> {
        let below = self.below(frontier);
        let events = below.into_iter().filter_map(|(position, outcome)| match outcome {
            Outcome::Event(event) => Some((position, *event)),
            Outcome::Failed(..) | Outcome::Bad(_) => None,
        });
        events.collect()
    }

    /// The positions of failed events below a frontier, with their event ids.
    pub(crate) fn failed_events(&self, frontier: &Frontier) -> Vec<(Position, Option<String>)> {
        let below = self.below(frontier);
        let failed = below.into_iter().filter_map(|(position, outcome)| match outcome {
            Outcome::Failed(event, _) => Some((position, event.event_id)),
            Outcome::Event(_) | Outcome::Bad(_) => None,
        });
        failed.collect()
    }

    pub(crate) fn bad_rows(&self, frontier: &Frontier) -> Vec<Position> {
        let below = self.below(frontier);
        let bad = below.into_iter().filter_map(|(position, outcome)| match outcome {
            Outcome::Event(_) => None,
            Outcome::Failed(..) | Outcome::Bad(_) => Some(position),
        });
        bad.collect()
    }

    fn below(&self, frontier: &Frontier) -> Vec<(Position, Outcome)> {
        let partitions = self.0.keys();
        partitions
            .flat_map(|partition| {
                let to = frontier.of(partition);
                self.outcomes(&Range { partition: partition.clone(), from: Offset::BEGINNING, to })
            })
            .collect()
    }
}

/// The data folder with both views over a log, and an engine that answers from it.
pub(crate) struct World {
    pub(crate) log: Log,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) lambda: Arc<Lambda>,
    /// How far the speed layer was given the log.
    seen: Mutex<Cut>,
    engine: Engine,
}

pub(crate) fn limits() -> Limits {
    Limits {
        timeout: Duration::from_secs(60),
        rows: 1_000_000,
        memory_bytes: 256 << 20,
        spill_bytes: 64 << 20,
        running: 4,
        waiting: 64,
    }
}

impl World {
    pub(crate) fn new(log: Log) -> World {
        World::with(log, limits(), 1 << 30)
    }

    /// `realtime_bytes` small enough makes chunks spill.
    pub(crate) fn with(log: Log, limits: Limits, realtime_bytes: u64) -> World {
        let dir = tempfile::tempdir().unwrap();
        let files: Arc<dyn Files> = Arc::new(Disk);
        let first = || Ok(Manifest::first(RECIPE, "2026-11-22T10:00:00.000Z"));
        let catalog = Arc::new(Catalog::open(files.clone(), dir.path(), first).unwrap());
        let spill = Some((files.clone(), dir.path().join("spill").join("realtime")));
        let realtime =
            Arc::new(RealtimeView::new(Options { memory_bytes_max: realtime_bytes, spill }));
        let lambda = Arc::new(Lambda::new(catalog, realtime));
        let engine = Engine::start(sources(&lambda, dir.path(), log.ends()), limits).unwrap();
        World { log, dir, lambda, seen: Mutex::default(), engine }
    }

    /// Gives the speed layer the log of one partition up to `to`, in chunks that end at the given offsets.
    pub(crate) fn see(&self, index: u32, to: u64) {
        let partition = partition(index);
        let mut seen = self.seen.lock().unwrap();
        let range = Range { from: seen.of(&partition), to: offset(to), partition };
        if range.from >= range.to {
            return;
        }
        let ([events, bad_rows, failed_events], records, counts, schemas) = self.rows(&range);
        let range_seen = range.clone();
        let chunk = NewChunk {
            range: range_seen,
            records,
            counts,
            events,
            bad_rows,
            failed_events,
            schemas,
        };
        let applied = self.lambda.realtime().apply(RECIPE, &Cut::default(), chunk).unwrap();
        assert_eq!(applied, Applied::Taken);
        seen.raise(&range.partition, range.to);
    }

    /// Gives the speed layer everything.
    pub(crate) fn see_all(&self) {
        for (partition, end) in self.log.ends().iter() {
            let index: u32 = partition.as_str()["raw/".len()..].parse().unwrap();
            self.see(index, end.number());
        }
    }

    /// Publishes an iteration with this cut, or the present one where that is higher, and serves it.
    pub(crate) fn commit(&self, cut: &Cut) -> Arc<Manifest> {
        self.commit_unserved(cut);
        self.lambda.advance().unwrap();
        self.lambda.served()
    }

    pub(crate) fn commit_unserved(&self, cut: &Cut) {
        let newest = self.lambda.catalog().newest();
        let mut next = Manifest::clone(&newest);
        next.iteration += 1;
        next.parent = Some(newest.iteration);
        next.committed_at = format!("2026-11-22T10:00:{:02}.000Z", next.iteration % 60);
        next.cut = newest.cut.join(cut);
        for (partition, to) in next.cut.clone().iter() {
            let range = Range { partition: partition.clone(), from: newest.cut.of(partition), to };
            if range.from < range.to {
                self.cover(&mut next, &range);
            }
        }
        let committed = self.lambda.catalog().commit(next).unwrap();
        assert!(matches!(committed, Commit::Published(_)));
    }

    fn cover(&self, manifest: &mut Manifest, range: &Range) {
        let (tables, records, counts, schemas) = self.rows(range);
        manifest.schemas.get_or_insert_default().admit(&schemas, manifest.iteration);
        for (table, rows) in Table::ALL.into_iter().zip(tables) {
            let file = views::tables::write(
                &Disk,
                self.dir.path(),
                table,
                range,
                views::tables::Lot::Iteration(manifest.iteration),
                RECIPE,
                &[rows],
            );
            manifest.files.push(file.unwrap());
        }
        manifest.ledger.push(LedgerEntry {
            partition: range.partition.clone(),
            from: range.from,
            to: range.to,
            records,
            counts,
            iteration: manifest.iteration,
            recipe: RECIPE.to_owned(),
            master: "master/raw/0/x.raw.zst".to_owned(),
        });
    }

    /// The rows of each table, records and counts, and the schemas that the events hold.
    fn rows(&self, range: &Range) -> ([RecordBatch; 3], u64, Counts, Inventory) {
        let (mut events, mut bad_rows, mut counts) =
            (EventRows::new(), BadRowRows::new(), Counts::default());
        let mut failed_events = EventRows::new();
        let outcomes = self.log.outcomes(range);
        let records = outcomes.iter().filter(|(position, _)| position.index == 0).count() as u64;
        for (position, outcome) in outcomes {
            counts.outcomes += 1;
            match outcome {
                Outcome::Event(event) => {
                    counts.enriched += 1;
                    events.push(&position, &event);
                }
                Outcome::Failed(event, json) => {
                    counts.failed += 1;
                    failed_events.push(&position, &event);
                    bad_rows.push(&position, &json);
                }
                Outcome::Bad(json) => {
                    counts.bad += 1;
                    bad_rows.push(&position, &json);
                }
            }
        }
        let schemas = Inventory {
            events: events.mentions().schemas(shape).unwrap(),
            failed_events: failed_events.mentions().schemas(shape).unwrap(),
        };
        let tables = [events.finish(), bad_rows.finish(), failed_events.finish()];
        (tables, records, counts, schemas)
    }

    /// The whole JSON answer.
    pub(crate) fn ask(&self, sql: &str) -> Result<Value, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answer = runtime.block_on(self.engine.run(sql.to_owned()))?;
        let json = answer.to_json();
        let value: Value = serde_json::from_slice(&json).unwrap_or_else(|error| {
            panic!("{error}: {}", String::from_utf8_lossy(&json));
        });
        assert_eq!(value["rows"].as_array().unwrap().len() as u64, answer.rows);
        Ok(value)
    }

    /// The rows of the answer.
    pub(crate) fn rows_of(&self, sql: &str) -> Vec<Value> {
        let mut answer = self.ask(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        match answer["rows"].take() {
            Value::Array(rows) => rows,
            other => panic!("{other}"),
        }
    }

    pub(crate) fn code(&self, sql: &str) -> &'static str {
        self.ask(sql).map_or_else(|error| error.code(), |_| "ok")
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What pin and frontier are now.
    pub(crate) fn frontier(&self) -> Frontier {
        self.lambda.pin().unwrap().frontier.clone()
    }
}

/// What the schemas of `com.acme` say; of others nothing is known.
fn shape(schema: &SchemaKey) -> Result<Shape, Infallible> {
    let json = match (schema.vendor(), schema.name(), schema.version().addition()) {
        ("com.acme", "cart", 0) => json!({"total": "bigint", "items": [{"sku": "text"}]}),
        ("com.acme", "cart", _) => {
            json!({"total": "double", "couponCode": "text", "at": "timestamp"})
        }
        ("com.acme", "user", _) => {
            json!({"userId": "text", "since": "date", "price": "decimal(18,2)"})
        }
        _ => json!("json"),
    };
    Ok(json.try_into().unwrap())
}

fn sources(lambda: &Arc<Lambda>, data_dir: &Path, ends: Cut) -> Sources {
    Sources {
        lambda: lambda.clone(),
        files: Arc::new(Disk),
        data_dir: data_dir.to_owned(),
        raw_ends: Arc::new(move || ends.clone()),
        generations_kept: 1,
    }
}

/// Two partitions with events, failed events and bad rows, some records with several outcomes.
pub(crate) fn small_log() -> Log {
    let first = (0..10).map(|n| match n % 4 {
        0 => vec![event(n), event(n + 100)],
        1 => vec![failed(n)],
        2 => vec![event(n), bad(n)],
        _ => vec![event(n)],
    });
    let second = (20..26).map(|n| vec![event(n)]);
    Log::of(&[first.collect(), second.collect()])
}
