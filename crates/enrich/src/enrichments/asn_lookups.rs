//! Marks networks that robots are known to come from. Snowplow: `enrichments.md` 8.
//!
//! Only the entity that `ip_lookups` made is changed: without that one on, this does nothing.

use std::collections::BTreeSet;

use model::bad_row::EnrichmentError;
use serde::Deserialize;
use serde_json::Value;

use super::{Assets, Enrichment, Kind, Work, configured, ip_lookups};

pub(super) const KIND: Kind = Kind {
    name: "asn_lookups",
    criterion: "iglu:com.snowplowanalytics.snowplow.enrichments/asn_lookups/jsonschema/1-0-*",
    schema: include_str!("asn_lookups.schema.json"),
    identifier: "asn-lookups",
    many: false,
    assets: |data| configured::file_at(data, "botAsnsFile").into_iter().collect(),
    build: |data, assets| Ok(Box::new(AsnLookups::new(data, assets)?)),
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Settings {
    bot_asns: Vec<Network>,
    bypass_platforms: Vec<String>,
}

#[derive(Deserialize)]
struct Network {
    asn: u64,
}

#[derive(Debug)]
struct AsnLookups {
    bots: BTreeSet<u64>,
    bypass_platforms: Vec<String>,
}

impl AsnLookups {
    fn new(data: &Value, assets: &Assets) -> Result<AsnLookups, String> {
        let settings: Settings = configured::parameters(data)?;
        let mut bots: BTreeSet<u64> = settings.bot_asns.iter().map(|network| network.asn).collect();
        if let Some(address) = configured::file_at(data, "botAsnsFile") {
            let text = configured::asset(assets, &address)?.text()?;
            let lines = text.lines().enumerate().skip(1);
            for (at, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
                let number = line.split(',').next().unwrap_or_default().trim();
                bots.insert(number.parse().map_err(|_| {
                    format!("{address}, line {}: `{line}` begins with no number", at + 1)
                })?);
            }
        }
        Ok(AsnLookups { bots, bypass_platforms: settings.bypass_platforms })
    }
}

impl Enrichment for AsnLookups {
    fn run(&self, work: &mut Work<'_>) -> Result<(), Vec<EnrichmentError>> {
        let platform = work.event.platform.as_ref();
        if platform.is_some_and(|platform| self.bypass_platforms.contains(platform)) {
            return Ok(());
        }
        for entity in work.derived.iter_mut().filter(|it| it.schema.as_str() == ip_lookups::ASN) {
            let number = entity.data().get("number").and_then(Value::as_u64);
            let is_bot = number.is_some_and(|number| self.bots.contains(&number));
            if let Some(data) = entity.data_mut().as_object_mut() {
                data.insert("likelyBot".to_owned(), is_bot.into());
            }
        }
        Ok(())
    }
}
