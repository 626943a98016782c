//! The entity of a visit that began on another domain. Snowplow: `enrichments.md` 12.
//!
//! The columns are set by `cross_domain` in any case. With this on, its failures carry the enrichment's name.

use model::bad_row::EnrichmentError;
use model::iglu::SchemaKey;
use model::time::Timestamp;
use serde_json::json;

use super::{Assets, Enrichment, Kind, Work, configured, cross_domain};

pub(super) const KIND: Kind = Kind {
    name: "cross_navigation_config",
    criterion: "iglu:com.snowplowanalytics.snowplow.enrichments/cross_navigation_config/jsonschema/1-0-*",
    schema: include_str!("cross_navigation.schema.json"),
    identifier: "cross-navigation",
    many: false,
    assets: configured::no_assets,
    build: |_, _: &Assets| Ok(Box::new(CrossNavigation { schema: configured::schema_key(ENTITY) })),
};

const ENTITY: &str = "iglu:com.snowplowanalytics.snowplow/cross_navigation/jsonschema/1-0-0";

#[derive(Debug)]
struct CrossNavigation {
    schema: SchemaKey,
}

impl Enrichment for CrossNavigation {
    fn run(&self, work: &mut Work<'_>) -> Result<(), Vec<EnrichmentError>> {
        let link = cross_domain::set_columns(work).map_err(|error| vec![error])?;
        let Some(link) = link else { return Ok(()) };
        let (Some(userid), Some(timestamp)) = (link.domain_userid, link.timestamp) else {
            return Ok(());
        };
        let data = json!({
            "domain_user_id": userid,
            "timestamp": Timestamp::to_iso(timestamp),
            "session_id": link.session_id,
            "user_id": link.user_id,
            "source_id": link.source_id,
            "source_platform": link.source_platform,
            "reason": link.reason,
        });
        work.derive(self.schema.clone(), data);
        Ok(())
    }
}
