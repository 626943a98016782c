//! A site of two partitions on streams in memory, whose process can crash, lose tails and find damage, and the rows that
//! must come of its raw records: enriched one after the other, through the same row builders.

#![allow(dead_code, reason = "each test program uses its own part")]

use std::collections::BTreeMap;
use std::sync::Arc;

use assets::Driver;
use bytes::Bytes;
use enrich::iglu::Schemas;
use enrich::{Outcome, Recipe, Settings};
use futures::executor::block_on;
use model::cut::{Cut, Frontier};
use model::iglu::SchemaKey;
use model::payload::CollectorPayload;
use model::position::{Offset, Partition, Position, RawRecord};
use model::time::{Clock, Timestamp};
use speed::Config;
use speed::derived::Derived;
use speed::enricher::{Enricher, Progress, Streams};
use speed::loader::Loader;
use speed::output::Kind;
use stream::Stream;
use stream::memory::Memory;
use views::catalog::{Counts, Table};
use views::realtime::{Options, RealtimeView};
use views::rows::Row;
use views::shred::{BadRowRows, EventRows};

pub(crate) const PARTITIONS: u32 = 2;

/// A clock that stands still, so that stamps need no leaving out.
#[derive(Debug)]
pub(crate) struct Standing;

impl Clock for Standing {
    fn now(&self) -> Timestamp {
        Timestamp(1_790_000_000_000)
    }
}

/// Two recipes with different outcomes for [`Sent::Boxed`]: one has its schema, the other has not.
pub(crate) fn recipe(knows_boxes: bool) -> Arc<Recipe> {
    recipe_with(knows_boxes, Settings { failed_events: true, ..Settings::default() })
}

/// The first of the two as an older program has it.
pub(crate) fn recipe_without_failed_events() -> Arc<Recipe> {
    recipe_with(true, Settings::default())
}

fn recipe_with(knows_boxes: bool, settings: Settings) -> Arc<Recipe> {
    let key = SchemaKey::parse("iglu:test.shop/box/jsonschema/1-0-0").unwrap();
    let schema = serde_json::json!({
        "$schema": "http://iglucentral.com/schemas/com.snowplowanalytics.self-desc/schema/jsonschema/1-0-0#",
        "self": { "vendor": "test.shop", "name": "box", "format": "jsonschema", "version": "1-0-0" },
        "type": "object",
    });
    let schemas = Schemas::embedded().with_local(knows_boxes.then_some((key, schema)));
    Arc::new(Recipe::new(schemas, settings))
}

/// The kinds of raw records that the tests send.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sent {
    /// One enriched event.
    View,
    /// Four events, the second of which is a failed one with a bad row.
    Several,
    /// No collector payload at all: one bad row and no event.
    Garbage,
    /// Its outcome depends on the recipe.
    Boxed,
    /// Some kilobytes.
    Long,
}

pub(crate) fn record(sent: Sent, number: u64) -> Bytes {
    let page =
        |more: &str| format!("e=pv&p=web&tv=test-1&url=https%3A%2F%2Fshop.test%2F{number}{more}");
    let body = match sent {
        Sent::View => return payload(number, Some(page("")), None),
        Sent::Long => {
            return payload(number, Some(page(&format!("%3Fq={}", "x".repeat(3000)))), None);
        }
        Sent::Garbage => return Bytes::from(format!("garbage {number}")),
        Sent::Several => {
            let view = format!(
                r#"{{"e":"pv","p":"web","tv":"test-1","url":"https://shop.test/{number}"}}"#
            );
            let bad = view.replace(r#""e":"pv""#, r#""e":"pv","ue_pr":"{}","co":"no json""#);
            format!("{view},{bad},{view},{view}")
        }
        Sent::Boxed => {
            let data = r#"[{"schema":"iglu:test.shop/box/jsonschema/1-0-0","data":{"a":1}}]"#;
            let contexts = "iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-0";
            let contexts =
                format!(r#"{{"schema":"{contexts}","data":{data}}}"#).replace('"', r#"\""#);
            format!(r#"{{"e":"pv","p":"web","tv":"test-1","co":"{contexts}"}}"#)
        }
    };
    let schema = "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4";
    payload(number, None, Some(format!(r#"{{"schema":"{schema}","data":[{body}]}}"#)))
}

fn payload(number: u64, querystring: Option<String>, body: Option<String>) -> Bytes {
    let post = body.is_some();
    let payload = CollectorPayload {
        ip_address: "192.0.2.7".to_owned(),
        timestamp: 1_780_000_000_000 + i64::try_from(number).unwrap(),
        encoding: "UTF-8".to_owned(),
        collector: "test".to_owned(),
        path: Some(if post { "/com.snowplowanalytics.snowplow/tp2" } else { "/i" }.to_owned()),
        querystring,
        content_type: post.then(|| "application/json".to_owned()),
        body,
        network_userid: Some("11111111-2222-4333-8444-555555555555".to_owned()),
        schema: model::payload::SCHEMA.to_owned(),
        ..CollectorPayload::default()
    };
    payload.encode().into()
}

/// All rows of a view, by position, and what the marks say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Shown {
    pub(crate) events: BTreeMap<Position, Vec<Option<String>>>,
    pub bad_rows: BTreeMap<Position, Vec<Option<String>>>,
    pub failed_events: BTreeMap<Position, Vec<Option<String>>>,
}

impl Shown {
    fn add(rows: Vec<Row>, cut: &Cut, into: &mut BTreeMap<Position, Vec<Option<String>>>) {
        for row in
            rows.into_iter().filter(|row| !cut.covers(&row.position.partition, row.position.offset))
        {
            let twice = into.insert(row.position.clone(), row.cells);
            assert!(twice.is_none(), "{} stands twice in the view", row.position);
        }
    }
}

#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) raw: Memory,
    pub(crate) enriched: Memory,
    pub(crate) bad: Memory,
    pub(crate) failed: Memory,
    pub(crate) pii: Memory,
    pub(crate) view: Arc<RealtimeView>,
    pub(crate) recipe: Arc<Recipe>,
    pub(crate) cut: Cut,
    pub(crate) enricher: Enricher,
    pub(crate) loader: Loader,
    pub(crate) config: Config,
    sent: u64,
}

impl Site {
    pub(crate) fn new() -> Site {
        let stream = |name| Memory::new(name, PARTITIONS);
        let [raw, enriched, bad, failed, pii] =
            ["raw", "enriched", "bad", "failed", "pii"].map(stream);
        let config = Config { batch_bytes: 2000, entry_bytes_max: 4000, ..Config::default() };
        let (recipe, cut, view) = (recipe(true), Cut::default(), new_view());
        let streams = streams(&raw, [&enriched, &bad, &failed], &pii);
        let enricher = open_enricher(&streams, &recipe, &cut, &config);
        let loader = open_loader(&streams, &view, &recipe, &cut);
        Site {
            raw,
            enriched,
            bad,
            failed,
            pii,
            view,
            recipe,
            cut,
            enricher,
            loader,
            config,
            sent: 0,
        }
    }

    pub(crate) fn streams(&self) -> Streams {
        streams(&self.raw, [&self.enriched, &self.bad, &self.failed], &self.pii)
    }

    pub(crate) fn send(&mut self, partition: u32, sent: &[Sent]) {
        for &sent in sent {
            self.sent += 1;
            let partition = &self.raw.partitions()[partition as usize];
            block_on(self.raw.append(partition, vec![record(sent, self.sent)])).unwrap();
        }
    }

    /// The process ends and starts again: what is in memory is lost.
    pub(crate) fn restart(&mut self) {
        self.view = new_view();
        self.reopen();
    }

    /// Opens both halves again on the view that there is.
    pub(crate) fn reopen(&mut self) {
        let streams = self.streams();
        self.enricher = open_enricher(&streams, &self.recipe, &self.cut, &self.config);
        self.loader = open_loader(&streams, &self.view, &self.recipe, &self.cut);
    }

    /// The process crashes, and of one of the streams the last `count` entries of each partition are not found again.
    pub(crate) fn tear(&mut self, of: Kind, count: usize) {
        self.change(of, |entries| entries.truncate(entries.len().saturating_sub(count)));
    }

    /// The process crashes, and one entry of each partition reads as something else.
    pub(crate) fn damage(&mut self, of: Kind, at: usize) {
        self.change(of, |entries| {
            if !entries.is_empty() {
                let at = at % entries.len();
                let mut bytes = entries[at].to_vec();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0x55;
                entries[at] = bytes.into();
            }
        });
    }

    pub(crate) fn change(&mut self, of: Kind, change: impl Fn(&mut Vec<Bytes>)) {
        let stream = match of {
            Kind::Enriched => &mut self.enriched,
            Kind::Bad => &mut self.bad,
            Kind::Failed => &mut self.failed,
            Kind::Pii => &mut self.pii,
        };
        *stream = changed(stream, change);
        self.restart();
    }

    pub(crate) fn raise(&mut self, cut: &Cut) {
        self.cut = self.cut.join(cut);
        self.enricher.raise(cut);
        self.loader.raise(cut);
    }

    /// Goes over to another recipe from `cut` on; the view keeps what it has.
    pub(crate) fn switch(&mut self, recipe: Arc<Recipe>, cut: Cut) {
        (self.recipe, self.cut) = (recipe, cut);
        self.enricher.switch(Arc::clone(&self.recipe), &self.cut).unwrap();
        self.loader = open_loader(&self.streams(), &self.view, &self.recipe, &self.cut);
    }

    pub(crate) fn ends(&self) -> Cut {
        speed::service::raw_ends(&self.raw).unwrap()
    }

    /// Both halves until nothing moves and everything is visible, as the service drives them.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            while self.loader.step().unwrap() == Progress::Moved {}
            if self.enricher.step().unwrap() == Progress::Moved {
                continue;
            }
            let visible = self.loader.frontier();
            if visible.is_at_or_beyond(&self.enricher.frontier()) {
                assert!(visible.is_at_or_beyond(&self.ends()), "{visible:?}");
                return;
            }
            self.enricher.rewind(&visible);
        }
        panic!("it does not settle: {self:?}");
    }

    /// What the view shows between cut and frontier.
    pub(crate) fn shown(&self) -> Shown {
        self.shown_with(&self.recipe, &self.cut)
    }

    pub(crate) fn shown_with(&self, recipe: &Recipe, cut: &Cut) -> Shown {
        let mut shown = Shown::default();
        for chunk in &self.view.snapshot(recipe.digest()).chunks {
            let rows = |table| views::rows::read(&[chunk.rows(table).unwrap()]).unwrap();
            Shown::add(rows(Table::Events), cut, &mut shown.events);
            Shown::add(rows(Table::BadRows), cut, &mut shown.bad_rows);
            Shown::add(rows(Table::FailedEvents), cut, &mut shown.failed_events);
        }
        shown
    }

    /// What must stand between `cut` and `frontier`.
    pub(crate) fn expected(&self, recipe: &Recipe, cut: &Cut, frontier: &Frontier) -> Shown {
        let (mut events, mut bad_rows) = (EventRows::default(), BadRowRows::default());
        let mut failed_events = EventRows::default();
        let (processor, now) = (enrich::processor(), Standing.now());
        for partition in self.raw.partitions() {
            for record in all(&self.raw, partition) {
                let inside = !cut.covers(partition, record.offset)
                    && frontier.covers(partition, record.offset);
                let raw = RawRecord { partition, offset: record.offset, bytes: &record.bytes };
                let outcomes =
                    if inside { enrich::enrich(&raw, recipe).unwrap() } else { Vec::new() };
                for (index, outcome) in (0..).zip(outcomes) {
                    let at =
                        Position { partition: partition.clone(), offset: record.offset, index };
                    match outcome {
                        Outcome::Enriched(mut event) => {
                            event.etl_tstamp = Some(now);
                            events.push(&at, &event);
                        }
                        Outcome::Failed { bad_row, event } => {
                            bad_rows.push(&at, &bad_row.to_json(&processor, now));
                            failed_events.push(&at, &event.stamp(&processor, now));
                        }
                        Outcome::Bad(bad_row) => {
                            bad_rows.push(&at, &bad_row.to_json(&processor, now));
                        }
                        Outcome::Dropped { .. } | Outcome::Pii(_) => {}
                    }
                }
            }
        }
        let mut expected = Shown::default();
        let read = |batch| views::rows::read(&[batch]).unwrap();
        Shown::add(read(events.finish()), cut, &mut expected.events);
        Shown::add(read(bad_rows.finish()), cut, &mut expected.bad_rows);
        Shown::add(read(failed_events.finish()), cut, &mut expected.failed_events);
        expected
    }

    /// The view shows what it must between cut and frontier, each row once, and nothing else.
    pub(crate) fn check(&self) {
        let frontier = self.cut.join(&self.view.snapshot(self.recipe.digest()).frontier);
        assert_eq!(self.shown(), self.expected(&self.recipe, &self.cut, &frontier));
    }

    /// The sum of all marks that the view took, and its records.
    pub(crate) fn marked(&self) -> (u64, Counts) {
        let chunks = &self.view.snapshot(self.recipe.digest()).chunks;
        let sum = |(records, counts): (u64, Counts), (more, plus): (u64, Counts)| {
            (records + more, counts.plus(&plus))
        };
        chunks.iter().map(|chunk| chunk.tally().unwrap()).fold((0, Counts::default()), sum)
    }
}

pub(crate) fn new_view() -> Arc<RealtimeView> {
    Arc::new(RealtimeView::new(Options { memory_bytes_max: 1 << 30, spill: None }))
}

fn streams(raw: &Memory, derived: [&Memory; 3], pii: &Memory) -> Streams {
    let stream = |stream: &Memory| -> Arc<dyn Stream> { Arc::new(stream.clone()) };
    let [enriched, bad, failed] = derived.map(stream);
    Streams { raw: stream(raw), derived: Derived { enriched, bad, failed }, pii: stream(pii) }
}

fn open_enricher(streams: &Streams, recipe: &Arc<Recipe>, cut: &Cut, config: &Config) -> Enricher {
    let (recipe, clock) = (Arc::clone(recipe), Arc::new(Standing));
    Enricher::open(streams, recipe, cut, clock, config.clone()).unwrap()
}

fn open_loader(streams: &Streams, view: &Arc<RealtimeView>, recipe: &Recipe, cut: &Cut) -> Loader {
    let digest = recipe.digest().to_owned();
    let schemas = Driver::from(Arc::new(recipe.clone()));
    Loader::open(&streams.derived, Arc::clone(view), digest, schemas, cut.clone()).unwrap()
}

/// The stream with other entries; the places of those that stay do not matter.
fn changed(stream: &Memory, change: impl Fn(&mut Vec<Bytes>)) -> Memory {
    let copy = Memory::new(stream.name(), PARTITIONS);
    for partition in stream.partitions() {
        let mut entries = all(stream, partition).into_iter().map(|record| record.bytes).collect();
        change(&mut entries);
        if !entries.is_empty() {
            block_on(copy.append(partition, entries)).unwrap();
        }
    }
    copy
}

pub(crate) fn all(stream: &Memory, partition: &Partition) -> Vec<stream::Record> {
    let start = stream.start(partition).unwrap();
    stream.read(partition, start, usize::MAX).unwrap().records
}

/// A cut at these offsets.
pub(crate) fn cut(zero: u64, one: u64) -> Cut {
    let offsets = [zero, one].into_iter();
    (0..)
        .zip(offsets)
        .map(|(p, o)| (Partition::of_stream("raw", p), Offset::from_number(o)))
        .collect()
}
