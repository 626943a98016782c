//! A digest of what the tracker sent, by which two deliveries of one event are known. Snowplow: `enrichments.md` 13.
//!
//! The batch layer compares it: events with one id and one fingerprint are one event.

use std::collections::BTreeSet;

use model::bad_row::EnrichmentError;
use serde::Deserialize;

use super::hash::Hash;
use super::{Assets, Enrichment, Kind, Work, configured};

pub(super) const KIND: Kind = Kind {
    name: "event_fingerprint_config",
    criterion: "iglu:com.snowplowanalytics.snowplow/event_fingerprint_config/jsonschema/1-0-*",
    schema: include_str!("event_fingerprint.schema.json"),
    identifier: "event-fingerprint",
    many: false,
    assets: configured::no_assets,
    build: |data, _: &Assets| Ok(Box::new(configured::parameters::<EventFingerprint>(data)?)),
};

/// Stands behind each name and each value.
const SEPARATOR: u8 = 0x1F;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventFingerprint {
    hash_algorithm: Hash,
    exclude_parameters: BTreeSet<String>,
}

impl Enrichment for EventFingerprint {
    fn run(&self, work: &mut Work<'_>) -> Result<(), Vec<EnrichmentError>> {
        let mut values = work.parameters.values();
        // Java compares UTF-16 units. The order of bytes is another one only outside ASCII.
        if !values.iter().all(|(name, _)| name.is_ascii()) {
            values.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
        }
        let mut text = Vec::with_capacity(2048);
        for (name, value) in values {
            if self.exclude_parameters.contains(name) {
                continue;
            }
            for part in [name, value] {
                text.extend_from_slice(part.as_bytes());
                text.push(SEPARATOR);
            }
        }
        work.event.event_fingerprint = Some(self.hash_algorithm.hex(&text));
        Ok(())
    }
}
