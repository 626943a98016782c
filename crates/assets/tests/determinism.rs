//! Law 2: equal records and equal recipes have equal outcomes, to the byte.
//!
//! The same records are enriched from the in-memory stream and from the embedded log, in other orders, by other numbers
//! of threads, with the recipe that was printed and read back. Enrichments are on, those among them that remember what
//! they have made and a script that draws lots. Only what a layer stamps is left out: here it is one fixed time.
//! `RECORDS=100000 cargo test -p assets --test determinism` takes more of them than the test command.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops at what it does not expect, also in its helpers"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use enrich::enrichments::{Assets, Config};
use enrich::iglu::Schemas;
use enrich::{Enrichments, Outcome, Recipe, Settings, processor};
use model::iglu::SchemaKey;
use model::payload::CollectorPayload;
use model::position::{Offset, Partition, RawRecord};
use model::time::Timestamp;
use serde_json::json;
use stream::disk::Disk;
use stream::local::{Local, Options};
use stream::memory::Memory;
use stream::{Record, Stream};

/// What a layer stamps.
const AT: Timestamp = Timestamp(1_790_000_000_000);

const PARTITIONS: u32 = 3;

/// Outcomes by position, as they would be written.
type Outcomes = BTreeMap<(Partition, Offset), Vec<String>>;

/// A generator whose numbers follow from its seed alone.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    fn shuffled<T>(&mut self, mut items: Vec<T>) -> Vec<T> {
        for at in (1..items.len()).rev() {
            let other = self.below(at + 1);
            items.swap(at, other);
        }
        items
    }
}

fn count() -> usize {
    std::env::var("RECORDS").map_or(2000, |count| count.parse().unwrap())
}

/// Requests of every kind: good, bad, with and without ids, of one event and of several.
fn records() -> Vec<Vec<u8>> {
    let mut numbers = Numbers(7);
    (0..count()).map(|at| payload(at, &mut numbers).encode()).collect()
}

fn payload(at: usize, numbers: &mut Numbers) -> CollectorPayload {
    let id = format!("&eid={:08x}-0000-4000-8000-{at:012x}", numbers.below(1 << 30));
    let id = if numbers.below(2) == 0 { String::new() } else { id };
    let pixel = |query: &str| CollectorPayload {
        path: Some("/i".to_owned()),
        querystring: Some(format!("{query}&p=web&tv=t-1{id}")),
        ..CollectorPayload::default()
    };
    let post = |events: serde_json::Value| {
        CollectorPayload {
        path: Some("/com.snowplowanalytics.snowplow/tp2".to_owned()),
        querystring: Some(format!("aid=shop-{at}")),
        content_type: Some("application/json".to_owned()),
        body: Some(
            json!({"schema": "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4", "data": events})
                .to_string(),
        ),
        ..CollectorPayload::default()
    }
    };
    let described = |sku: serde_json::Value| {
        json!({
            "schema": "iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0",
            "data": {"schema": "iglu:com.acme/cart/jsonschema/1-0-0", "data": {"sku": sku, "at": at}},
        })
        .to_string()
    };
    let payload = match numbers.below(10) {
        0..3 => pixel(&format!(
            "e=pv&url=http://shop.example/{at}%3Fq=1&page=P{at}&refr=http://a.example/"
        )),
        3 => pixel(&format!("e=se&se_ca=c&se_ac=a&se_va={}.50&ev_ca=old", numbers.below(900))),
        4 => pixel("e=none&res=1x&tid=x"),
        5 => pixel("e=ad&cv="),
        6 => post(json!([
            {"e": "pv", "p": "web", "tv": "t", "page": format!("P{at}")},
            {"e": "ue", "p": "web", "tv": "t", "ue_pr": described(json!("a"))},
            {"e": "ue", "p": "web", "tv": "t", "ue_pr": described(json!(1))},
        ])),
        7 => post(json!([{"e": "pv", "p": "web", "tv": "t", "unknown": "x"}])),
        8 => CollectorPayload {
            path: Some(format!("/org.example/v{at}")),
            ..CollectorPayload::default()
        },
        _ => pixel("%zz"),
    };
    CollectorPayload {
        ip_address: format!("192.0.2.{}", at % 256),
        timestamp: 1_790_000_000_000 + at as i64,
        encoding: "UTF-8".to_owned(),
        collector: "collector-1".to_owned(),
        user_agent: Some(format!("Agent/{}", at % 17)),
        schema: model::payload::SCHEMA.to_owned(),
        ..payload
    }
}

fn recipe() -> Recipe {
    let schema = |name: &str, rest: serde_json::Value| {
        let uri = format!("iglu:com.acme/{name}/jsonschema/1-0-0");
        (SchemaKey::parse(&uri).unwrap(), rest)
    };
    let cart = json!({"type": "object", "properties": {"sku": {"type": "string"}}, "$supersededBy": "1-0-1"});
    let newer = SchemaKey::parse("iglu:com.acme/cart/jsonschema/1-0-1").unwrap();
    let newer = (
        newer,
        json!({"type": "object", "properties": {"sku": {"type": "string", "maxLength": 9}}}),
    );
    let schemas = Schemas::embedded().with_local([schema("cart", cart), newer]);
    Recipe::new(schemas, Settings { failed_events: true, ..Settings::default() })
        .with_enrichments(Enrichments::new(configs(), &Assets::new()).unwrap())
}

fn configs() -> Vec<Config> {
    let script = "function process(event) {
        if (event.getPlatform() !== 'web') return;
        event.setUser_id(String(Math.random()));
        event.setUser_fingerprint(new Date().toISOString());
    }";
    let config = |file: &str, key: &str, parameters: serde_json::Value| {
        let data = json!({"vendor": "", "name": "", "enabled": true, "parameters": parameters});
        let schema = format!("iglu:com.snowplowanalytics.{key}");
        Config { file: file.to_owned(), json: json!({"schema": schema, "data": data}) }
    };
    let fields = json!({
        "mktMedium": ["q"], "mktSource": [], "mktTerm": [], "mktContent": [], "mktCampaign": [],
    });
    let fingerprint = json!({"hashAlgorithm": "MD5", "excludeParameters": ["eid"]});
    let enrichments = "snowplow.enrichments";
    vec![
        config("anon", "snowplow/anon_ip/jsonschema/1-0-1", json!({"anonOctets": 1})),
        config(
            "campaign",
            "snowplow/campaign_attribution/jsonschema/1-0-1",
            json!({"fields": fields}),
        ),
        config("fingerprint", "snowplow/event_fingerprint_config/jsonschema/1-0-1", fingerprint),
        config(
            "referer",
            "snowplow/referer_parser/jsonschema/2-0-1",
            json!({"internalDomains": []}),
        ),
        config(
            "script",
            "snowplow/javascript_script_config/jsonschema/1-0-1",
            json!({"script": STANDARD.encode(script)}),
        ),
        config("ua", "snowplow/ua_parser_config/jsonschema/1-0-1", json!({})),
        config(
            "yauaa",
            &format!("{enrichments}/yauaa_enrichment_config/jsonschema/1-0-0"),
            json!({}),
        ),
    ]
}

fn fill(stream: &dyn Stream, records: &[Vec<u8>]) {
    for (at, some) in records.chunks(200).enumerate() {
        let partition = &stream.partitions()[at % PARTITIONS as usize];
        let some = some.iter().map(|bytes| bytes.clone().into()).collect();
        futures::executor::block_on(stream.append(partition, some)).unwrap();
    }
}

fn all_of(stream: &dyn Stream) -> Vec<(Partition, Record)> {
    let mut all = Vec::new();
    for partition in stream.partitions() {
        let mut from = stream.start(partition).unwrap();
        loop {
            let chunk = stream.read(partition, from, 1 << 20).unwrap();
            if chunk.records.is_empty() {
                break;
            }
            all.extend(chunk.records.into_iter().map(|record| (partition.clone(), record)));
            from = chunk.next;
        }
    }
    all
}

/// Enriches all records by so many threads, each with its own share and its own copy of the recipe.
fn enriched(records: Vec<(Partition, Record)>, threads: usize, recipe: &Recipe) -> Outcomes {
    let share = records.len().div_ceil(threads);
    let enrich_share = |records: &[(Partition, Record)]| {
        let recipe = Recipe::from_json(&recipe.to_json()).unwrap();
        let of_one = |(partition, record): &(Partition, Record)| {
            let raw = RawRecord { partition, offset: record.offset, bytes: &record.bytes };
            let outcomes = assets::drive(&raw, &recipe).unwrap();
            ((partition.clone(), record.offset), outcomes.into_iter().map(written).collect())
        };
        records.iter().map(of_one).collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        let shares = records.chunks(share);
        let workers: Vec<_> = shares.map(|some| scope.spawn(|| enrich_share(some))).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

fn written(outcome: Outcome) -> String {
    match outcome {
        Outcome::Enriched(mut event) => {
            event.etl_tstamp = Some(AT);
            event.to_tsv()
        }
        Outcome::Failed { bad_row, event } => {
            let line = event.stamp(&processor(), AT).to_tsv();
            format!("{}\n{line}", bad_row.to_json(&processor(), AT))
        }
        Outcome::Bad(row) => row.to_json(&processor(), AT),
        Outcome::Dropped { rule } => rule,
        Outcome::Pii(event) => event.to_tsv(),
    }
}

#[test]
fn the_same_records_have_the_same_outcomes_from_any_stream_in_any_order_by_any_number_of_threads() {
    let (records, recipe) = (records(), recipe());
    let folder = tempfile::tempdir().unwrap();
    let memory = Memory::new("raw", PARTITIONS);
    let options = Options { disk_reserve_bytes: Some(0), ..Options::default() };
    let local = Local::open(Arc::new(Disk), folder.path(), "raw", PARTITIONS, options).unwrap();
    fill(&memory, &records);
    fill(&local, &records);

    let first = enriched(all_of(&memory), 1, &recipe);
    assert_eq!(first.len(), records.len());
    let kinds = |prefix: &str| first.values().flatten().filter(|it| it.starts_with(prefix)).count();
    assert!(kinds("{") > records.len() / 5 && kinds("\t") + kinds("shop") > records.len() / 5);

    let mut numbers = Numbers(11);
    let mut backwards = all_of(&memory);
    backwards.reverse();
    for (records, threads) in
        [(backwards, 2), (all_of(&local), 3), (numbers.shuffled(all_of(&local)), 4)]
    {
        let again = enriched(records, threads, &recipe);
        assert_eq!(again.len(), first.len());
        let different = first.iter().find(|(position, outcomes)| again[*position] != **outcomes);
        if let Some((position, outcomes)) = different {
            panic!("{position:?} by {threads} threads:\n{outcomes:?}\n{:?}", again[position]);
        }
    }
}
