//! Who sent the visitor: the marketing columns, from the parameters of the page's URL.
//! Snowplow: `enrichments.md` 10.
//!
//! Of a column's parameters the first that is present counts, even without a value.

use model::bad_row::EnrichmentError;
use model::event::EnrichedEvent;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Assets, Enrichment, Kind, Work, configured};
use crate::convert::tsv_safe;

pub(super) const KIND: Kind = Kind {
    name: "campaign_attribution",
    criterion: "iglu:com.snowplowanalytics.snowplow/campaign_attribution/jsonschema/1-0-*",
    schema: include_str!("campaign_attribution.schema.json"),
    identifier: "campaign-attribution",
    many: false,
    assets: configured::no_assets,
    build: |data, _: &Assets| {
        let settings: Settings = configured::parameters(data)?;
        Ok(Box::new(CampaignAttribution::new(settings.fields)))
    },
};

/// The networks that are known without a configuration, in the order in which they are looked for.
const NETWORKS: [(&str, &str); 3] =
    [("gclid", "Google"), ("msclkid", "Microsoft"), ("dclid", "DoubleClick")];

#[derive(Deserialize)]
struct Settings {
    fields: Fields,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    mkt_medium: Vec<String>,
    mkt_source: Vec<String>,
    mkt_term: Vec<String>,
    mkt_content: Vec<String>,
    mkt_campaign: Vec<String>,
    #[serde(default)]
    mkt_click_id: Map<String, Value>,
}

#[derive(Debug)]
struct CampaignAttribution {
    columns: [(Column, Vec<String>); 5],
    /// Parameter and network.
    clicks: Vec<(String, String)>,
}

type Column = fn(&mut EnrichedEvent) -> &mut Option<String>;

impl CampaignAttribution {
    fn new(fields: Fields) -> CampaignAttribution {
        let mut configured = fields.mkt_click_id;
        let network = |value: Value| value.as_str().unwrap_or_default().to_owned();
        let mut clicks: Vec<(String, String)> = NETWORKS
            .into_iter()
            .map(|(name, known)| match configured.shift_remove(name) {
                Some(other) => (name.to_owned(), network(other)),
                None => (name.to_owned(), known.to_owned()),
            })
            .collect();
        clicks.extend(configured.into_iter().map(|(name, value)| (name, network(value))));
        let columns: [(Column, Vec<String>); 5] = [
            (|event| &mut event.mkt_medium, fields.mkt_medium),
            (|event| &mut event.mkt_source, fields.mkt_source),
            (|event| &mut event.mkt_term, fields.mkt_term),
            (|event| &mut event.mkt_content, fields.mkt_content),
            (|event| &mut event.mkt_campaign, fields.mkt_campaign),
        ];
        CampaignAttribution { columns, clicks }
    }
}

impl Enrichment for CampaignAttribution {
    fn run(&self, work: &mut Work<'_>) -> Result<(), Vec<EnrichmentError>> {
        // Most pages have no query at all.
        if work.page_query().is_empty() {
            return Ok(());
        }
        // A name without `=` has the value "", so that the first present name wins with it too.
        let value = |work: &Work<'_>, name: &str| {
            let last = work.page_query().iter().rev().find(|(known, _)| known == name);
            last.map(|(_, value)| value.clone().unwrap_or_default())
        };
        for (column, names) in &self.columns {
            if let Some(found) = names.iter().find_map(|name| value(work, name)) {
                *column(&mut work.event) = tsv_safe(&found);
            }
        }
        let click = self
            .clicks
            .iter()
            .find_map(|(name, network)| value(work, name).map(|found| (found, network)));
        if let Some((found, network)) = click {
            work.event.mkt_clickid = tsv_safe(&found);
            work.event.mkt_network = tsv_safe(network);
        }
        Ok(())
    }
}
