//! One verdict from all that may tell a robot. Snowplow: `enrichments.md` 9.
//!
//! It looks at entities of other enrichments and of the tracker, by their exact schema keys. What is not there counts as
//! no.

use model::bad_row::EnrichmentError;
use model::iglu::SchemaKey;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Assets, Enrichment, Kind, Work, configured, iab, ip_lookups, yauaa};
use crate::entity::Entity;

pub(super) const KIND: Kind = Kind {
    name: "bot_detection_enrichment_config",
    criterion: "iglu:com.snowplowanalytics.snowplow.enrichments/bot_detection_enrichment_config/jsonschema/1-0-*",
    schema: include_str!("bot_detection.schema.json"),
    identifier: "bot-detection",
    many: false,
    assets: configured::no_assets,
    build: |data, _: &Assets| {
        let uses = configured::parameters(data)?;
        Ok(Box::new(BotDetection { uses, schema: configured::schema_key(ENTITY) }))
    },
};

const ENTITY: &str = "iglu:com.snowplowanalytics.snowplow/bot_detection/jsonschema/1-0-1";

/// What the tracker's own detection sends.
const CLIENT_SIDE: &str =
    "iglu:com.snowplowanalytics.snowplow/client_side_bot_detection/jsonschema/1-0-0";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Uses {
    use_yauaa: bool,
    use_iab: bool,
    use_asn_lookups: bool,
    #[serde(default)]
    use_client_side_detection: bool,
}

#[derive(Debug)]
struct BotDetection {
    uses: Uses,
    schema: SchemaKey,
}

impl Enrichment for BotDetection {
    fn run(&self, work: &mut Work<'_>) -> Result<(), Vec<EnrichmentError>> {
        let text_is = |data: &Value, field: &str, words: &[&str]| {
            data.get(field).and_then(Value::as_str).is_some_and(|text| words.contains(&text))
        };
        let is_true = |data: &Value, field: &str| data.get(field) == Some(&Value::Bool(true));
        let by_agent = |data: &Value| {
            text_is(data, "deviceClass", &["Robot", "Robot Mobile", "Robot Imitator"])
                || text_is(data, "agentClass", &["Robot", "Robot Mobile"])
        };
        let derived = &work.derived;
        let Uses { use_yauaa, use_iab, use_asn_lookups, use_client_side_detection } = self.uses;
        let sources = [
            ("yauaa", use_yauaa && any(derived, yauaa::ENTITY, by_agent)),
            ("iab", use_iab && any(derived, iab::ENTITY, |it| is_true(it, "spiderOrRobot"))),
            (
                "asnLookups",
                use_asn_lookups && any(derived, ip_lookups::ASN, |it| is_true(it, "likelyBot")),
            ),
            (
                "clientSideDetection",
                use_client_side_detection
                    && any(&work.contexts, CLIENT_SIDE, |it| is_true(it, "bot")),
            ),
        ];
        let found = sources.into_iter().filter(|(_, found)| *found);
        let indicators: Vec<&str> = found.map(|(name, _)| name).collect();
        let data = json!({"bot": !indicators.is_empty(), "indicators": indicators});
        work.derive(self.schema.clone(), data);
        Ok(())
    }
}

fn any(entities: &[Entity], schema: &str, says: impl Fn(&Value) -> bool) -> bool {
    entities.iter().any(|entity| entity.schema.as_str() == schema && says(entity.data()))
}
