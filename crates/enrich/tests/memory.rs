//! Memory stays flat whatever comes: events that all name another user agent, address, cookie and page, and each tenth a
//! schema that was never seen before. What steps remember is bounded, and so are the answers of registries that a recipe
//! knows.
//!
//! `MEMORY_EVENTS` (40,000) is how many events are enriched: with a million and more it is the long form, in which
//! `ua_parser` runs too; an unoptimised build of its rules is too slow for every day. Ten million events bring a million
//! schemas.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops at what it does not expect, also in its helpers"
)]

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use enrich::enrichments::{Assets, Config};
use enrich::iglu::{Answer, Repository, Resolver, Schemas};
use enrich::{Enrichments, Outcome, Recipe, Settings, enrich};
use model::iglu::SchemaKey;
use model::payload::{CollectorPayload, SCHEMA};
use model::position::{Offset, Partition, RawRecord};
use serde_json::{Value, json};

/// How much more memory the last third of the events may take than the first: what the allocator keeps between them.
const GROWTH_MAX: u64 = 8 << 20;

/// So often in a run the memory is looked at.
const LOOKS: usize = 300;

/// How many answers a recipe knows at once.
const ANSWERS_MAX: usize = 100;

/// Each so many events name a new schema.
const SCHEMA_EVERY: usize = 10;

const LONG_FORM: usize = 1_000_000;

fn config(name: &str, key: &str, parameters: Value) -> Config {
    let mut data = json!({"vendor": "", "name": "", "enabled": true, "parameters": parameters});
    if name == "pii" {
        data["emitEvent"] = false.into();
    }
    let json = json!({"schema": format!("iglu:com.snowplowanalytics.{key}"), "data": data});
    Config { file: format!("{name}.json"), json }
}

fn recipe(events: usize) -> Recipe {
    let repository = Repository {
        name: "Acme".to_owned(),
        priority: 0,
        vendor_prefixes: Vec::new(),
        uri: "https://registry.example/api".to_owned(),
    };
    let resolver = Resolver { epoch: 1, repositories: vec![repository], embedded: Vec::new() };
    let schemas = Schemas::embedded().with_resolver(resolver);
    let fingerprint = json!({"hashAlgorithm": "MD5", "excludeParameters": []});
    let yauaa = "snowplow.enrichments/yauaa_enrichment_config/jsonschema/1-0-0";
    let referer = json!({"internalDomains": []});
    let script = "function process(event) {
        event.setUser_id('u' + event.getUser_ipaddress());
        if (event.getApp_id() === 'none') event.drop();
    }";
    let pii = json!({
        "pii": [{"pojo": {"field": "user_ipaddress"}}, {"pojo": {"field": "domain_userid"}}],
        "strategy": {"pseudonymize": {"hashFunction": "SHA-256", "salt": "pepper"}},
    });
    let fields = json!({
        "mktMedium": ["utm_medium"], "mktSource": ["utm_source"], "mktTerm": ["q"], "mktContent": [],
        "mktCampaign": [],
    });
    let mut configs = vec![
        config(
            "campaign",
            "snowplow/campaign_attribution/jsonschema/1-0-1",
            json!({"fields": fields}),
        ),
        config("anon", "snowplow/anon_ip/jsonschema/1-0-1", json!({"anonOctets": 1})),
        config("pii", "snowplow.enrichments/pii_enrichment_config/jsonschema/2-0-1", pii),
        config(
            "cookies",
            "snowplow/cookie_extractor_config/jsonschema/1-0-0",
            json!({"cookies": ["visitor"]}),
        ),
        config(
            "headers",
            "snowplow.enrichments/http_header_extractor_config/jsonschema/1-0-0",
            json!({"headersPattern": "(?i)x-.*"}),
        ),
        config(
            "script",
            "snowplow/javascript_script_config/jsonschema/1-0-1",
            json!({"script": STANDARD.encode(script)}),
        ),
        config("yauaa", yauaa, json!({"cacheSize": 1000})),
        config("referer", "snowplow/referer_parser/jsonschema/2-0-1", referer),
        config("fingerprint", "snowplow/event_fingerprint_config/jsonschema/1-0-1", fingerprint),
    ];
    if events >= LONG_FORM {
        configs.push(config("ua", "snowplow/ua_parser_config/jsonschema/1-0-1", json!({})));
    }
    let enrichments = Enrichments::new(configs, &Assets::new()).unwrap();
    Recipe::new(schemas, Settings::default()).with_enrichments(enrichments)
}

/// A page view of somebody who was never here before.
fn record(n: usize) -> Vec<u8> {
    let entity = json!({
        "schema": format!("iglu:com.acme/entity_{}/jsonschema/1-0-0", n / SCHEMA_EVERY),
        "data": {"n": n},
    });
    let contexts = json!({
        "schema": "iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-1",
        "data": [entity],
    });
    let event = json!({
        "e": "pv", "p": "web", "tv": "js-4.6.0", "duid": format!("visitor-{n}"), "co": contexts.to_string(),
        "url": format!("https://shop.example/{n}?q={n}"), "refr": format!("https://site-{n}.example/"),
    });
    let body = json!({
        "schema": "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4",
        "data": [event],
    });
    let address = format!("{}.{}.{}.{}", 10 + (n >> 24), n >> 16 & 255, n >> 8 & 255, n & 255);
    let headers = [
        format!("X-Forwarded-For: {address}"),
        format!("Cookie: visitor={n}; sp={n:08x}-0000-4000-8000-000000000000"),
    ];
    let payload = CollectorPayload {
        ip_address: "192.0.2.1".to_owned(),
        timestamp: 1_790_000_000_000 + n as i64,
        encoding: "UTF-8".to_owned(),
        collector: "test".to_owned(),
        user_agent: Some(format!("Mozilla/5.0 (X11; Linux x86_64) Thing/{n}.0 Gecko/{n}")),
        path: Some("/com.snowplowanalytics.snowplow/tp2".to_owned()),
        content_type: Some("application/json".to_owned()),
        headers: Some(headers.into()),
        body: Some(body.to_string()),
        schema: SCHEMA.to_owned(),
        ..CollectorPayload::default()
    };
    payload.encode()
}

/// As `assets` does: what is asked is answered, and the record is enriched again.
fn answered(recipe: &Recipe, key: SchemaKey) -> Recipe {
    let schema = json!({
        "type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": false,
    });
    let answer = Answer::found(&key, "Acme".to_owned(), schema, None);
    recipe.with_answers([(key, Arc::new(answer))], ANSWERS_MAX)
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

#[test]
fn memory_is_flat_over_schemas_user_agents_and_addresses_without_end() {
    let events = std::env::var("MEMORY_EVENTS").map_or(40_000, |text| text.parse().unwrap());
    let mut recipe = recipe(events);
    let partition = Partition::of_stream("raw", 0);
    let (mut first, mut last, mut asked) = (0, 0, 0);
    for n in 0..events {
        if n % (events / LOOKS).max(1) == 0 {
            let third = if n < events / 3 { &mut first } else { &mut last };
            if n < events / 3 || n >= events - events / 3 {
                *third = resident_bytes().max(*third);
            }
        }
        let bytes = record(n);
        let offset = Offset::from_number(n as u64);
        let record = RawRecord { partition: &partition, offset, bytes: &bytes };
        let outcomes = enrich(&record, &recipe).unwrap_or_else(|missing| {
            asked += missing.schemas.len();
            recipe = answered(&recipe, missing.schemas[0].clone());
            enrich(&record, &recipe).unwrap()
        });
        assert!(matches!(&outcomes[..], [Outcome::Enriched(_)]), "{outcomes:?}");
    }
    assert_eq!(asked, events.div_ceil(SCHEMA_EVERY));
    println!(
        "{events} events: at most {first} bytes resident in the first third, {last} in the last"
    );
    assert!(last <= first + GROWTH_MAX, "{first} bytes in the first third, {last} in the last");
}
