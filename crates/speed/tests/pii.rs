//! The PII stream: what was pseudonymised is told there and nowhere else.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod site;

use std::sync::Arc;

use enrich::enrichments::{Assets, Config, Enrichments};
use enrich::iglu::Schemas;
use enrich::{Recipe, Settings};
use model::sdk::Event;
use serde_json::{Value, json};
use site::{Sent, Site, all};
use speed::output::{self, Kind};
use stream::Stream;

use Sent::{Garbage, Several, View};

const ID: &str = "11111111-2222-4333-8444-555555555555";

/// Hashes the network user id, and tells of it.
fn recipe() -> Arc<Recipe> {
    let schema =
        "iglu:com.snowplowanalytics.snowplow.enrichments/pii_enrichment_config/jsonschema/2-0-1";
    let data = json!({
        "vendor": "v", "name": "n", "enabled": true, "emitEvent": true,
        "parameters": {
            "pii": [{"pojo": {"field": "network_userid"}}],
            "strategy": {"pseudonymize": {"hashFunction": "SHA-1", "salt": "s4lt"}},
        },
    });
    let json = json!({"schema": schema, "data": data});
    let config = Config { file: "pii.json".to_owned(), json };
    let enrichments = Enrichments::new(vec![config], &Assets::new()).unwrap();
    let settings = Settings { failed_events: true, ..Settings::default() };
    Arc::new(Recipe::new(Schemas::embedded(), settings).with_enrichments(enrichments))
}

fn site() -> Site {
    let mut site = Site::new();
    site.config.entry_bytes_max = 1 << 20;
    let cut = site.ends();
    site.switch(recipe(), cut);
    site.reopen();
    site
}

/// Offset and place of each row of the stream, with its event.
fn told(site: &Site) -> Vec<(String, u32, Event)> {
    let partition = &site.pii.partitions()[0];
    let mut told = Vec::new();
    for record in all(&site.pii, partition) {
        let part = output::decode(&record.bytes).unwrap();
        assert_eq!((part.kind, part.parts), (Kind::Pii, 1));
        for row in output::rows(part.kind, &part.mark, part.rows, &part.body).unwrap() {
            told.push((row.offset.to_string(), row.index, Event::parse(row.text).unwrap()));
        }
    }
    told
}

#[test]
fn clear_values_are_in_the_pii_stream_and_in_no_view() {
    let mut site = site();
    site.send(0, &[View, Garbage, Several]);
    site.settle();
    site.check();
    let (records, counts) = site.marked();
    assert_eq!(
        (records, counts.outcomes, counts.enriched),
        (3, 6, 4),
        "those told of are not counted"
    );
    assert!(counts.closes());
    let shown = site.shown();
    // The bad row of an event that failed shows its payload as it came, as Snowplow's does.
    for rows in [&shown.events, &shown.failed_events] {
        assert!(!format!("{rows:?}").contains(ID));
    }
    for stream in [&site.enriched, &site.bad, &site.failed] {
        for record in all(stream, &stream.partitions()[0]) {
            let text = String::from_utf8_lossy(&record.bytes);
            assert!(!text.contains("pii_transformation"), "{}", stream.name());
        }
    }

    let told = told(&site);
    let places: Vec<(&str, u32)> =
        told.iter().map(|(at, index, _)| (&at[at.len() - 1..], *index)).collect();
    assert_eq!(
        places,
        [("0", 1), ("2", 4), ("2", 5), ("2", 6)],
        "behind the outcomes of their record"
    );
    for (_, _, event) in &told {
        let flat = Value::Object(event.to_flat_json());
        assert_eq!(flat["event_name"], "pii_transformation");
        let data = &flat["unstruct_event_com_snowplowanalytics_snowplow_pii_transformation_1"];
        assert_eq!(data["pii"]["pojo"][0]["originalValue"], ID);
    }
    let mut ids: Vec<_> = told
        .iter()
        .map(|(_, _, event)| format!("{:?}", event.to_flat_json()["event_id"]))
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), told.len());
}

#[test]
fn what_is_enriched_again_is_told_again_at_its_place_and_the_oldest_goes() {
    let mut site = site();
    site.send(0, &[View]);
    site.settle();
    site.tear(Kind::Enriched, 1);
    site.restart();
    site.settle();
    site.check();
    let twice = told(&site);
    assert_eq!(twice.len(), 2);
    assert_eq!(
        (&twice[0].0, twice[0].1),
        (&twice[1].0, twice[1].1),
        "a reader knows the copy by its place"
    );

    // A group of entries is the least that is removed.
    site.config.pii_retention_bytes = 300 << 10;
    site.reopen();
    let partition = site.pii.partitions()[0].clone();
    for _ in 0..1500 {
        site.send(0, &[View]);
        site.settle();
    }
    let left: usize = all(&site.pii, &partition).iter().map(|record| record.bytes.len()).sum();
    assert!((40 << 10..=(300 + 256) << 10).contains(&left), "{left}");
    assert!(told(&site).last().unwrap().0.ends_with("1500"), "the newest stay");
}
