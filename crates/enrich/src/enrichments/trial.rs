//! For the tests of enrichments: one event through a recipe with some configurations.

use std::sync::Arc;

use model::bad_row::{BadRow, EnrichmentError};
use model::event::EnrichedEvent;
use model::payload::CollectorPayload;
use model::position::{Offset, Partition, RawRecord};
use serde_json::{Value, json};

use super::{Assets, Config, Enrichments, InvalidEnrichment};
use crate::iglu::Schemas;
use crate::look_up::Answers;
use crate::{Missing, Outcome, Recipe, Settings, enrich_knowing};
use model::iglu::SchemaKey;

/// What a test enriches with.
pub(crate) struct Trial {
    pub(crate) recipe: Recipe,
    pub(crate) headers: Vec<String>,
    pub(crate) offset: u64,
    pub(crate) answers: Answers,
}

/// The whole configuration file of an enrichment of Snowplow's.
pub(crate) fn config(file: &str, schema: &str, parameters: &Value) -> Config {
    let schema = format!("iglu:com.snowplowanalytics.snowplow{schema}");
    let data = json!({"vendor": "v", "name": "n", "enabled": true, "parameters": parameters});
    Config { file: file.to_owned(), json: json!({"schema": schema, "data": data}) }
}

/// The schema of an object of anything, for tests.
pub(crate) fn open_schema(key: &str) -> (SchemaKey, Value) {
    (SchemaKey::parse(key).unwrap(), json!({"type": "object"}))
}

impl Trial {
    pub(crate) fn of(configs: Vec<Config>) -> Trial {
        Trial::with_assets(configs, &Assets::new()).unwrap()
    }

    pub(crate) fn with_assets(
        configs: Vec<Config>,
        assets: &Assets,
    ) -> Result<Trial, InvalidEnrichment> {
        let enrichments = Enrichments::new(configs, assets)?;
        let schemas = Schemas::embedded().with_local(
            ["u", "v", "w"]
                .map(|name| open_schema(&format!("iglu:com.acme/{name}/jsonschema/1-0-0"))),
        );
        let recipe = Recipe::new(schemas, Settings::default()).with_enrichments(enrichments);
        Ok(Trial { recipe, headers: Vec::new(), offset: 7, answers: Answers::default() })
    }

    /// The outcomes of one request with these parameters and a few that every event needs.
    pub(crate) fn outcomes(&self, parameters: &[(&str, &str)]) -> Vec<Outcome> {
        self.try_outcomes(parameters).unwrap()
    }

    pub(crate) fn try_outcomes(
        &self,
        parameters: &[(&str, &str)],
    ) -> Result<Vec<Outcome>, Missing> {
        let mut event = json!({"e": "pv", "p": "web", "tv": "t-1", "aid": "shop"});
        for (name, value) in parameters {
            event[*name] = json!(value);
        }
        let schema = "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4";
        let bytes = CollectorPayload {
            ip_address: "203.0.113.7".to_owned(),
            timestamp: 1_790_000_000_000,
            encoding: "UTF-8".to_owned(),
            collector: "collector-1".to_owned(),
            path: Some("/com.snowplowanalytics.snowplow/tp2".to_owned()),
            content_type: Some("application/json".to_owned()),
            headers: Some(self.headers.clone()),
            body: Some(json!({"schema": schema, "data": [event]}).to_string()),
            schema: "iglu:com.snowplowanalytics.snowplow/CollectorPayload/thrift/1-0-0".to_owned(),
            ..CollectorPayload::default()
        }
        .encode();
        let partition = Partition::of_stream("raw", 0);
        let offset = Offset::from_number(self.offset);
        let record = RawRecord { partition: &partition, offset, bytes: &bytes };
        enrich_knowing(&record, &self.recipe, &self.answers)
    }

    /// The one event that a request gives.
    pub(crate) fn event(&self, parameters: &[(&str, &str)]) -> EnrichedEvent {
        match <[Outcome; 1]>::try_from(self.outcomes(parameters)) {
            Ok([Outcome::Enriched(event)]) => *event,
            other => panic!("{other:?}"),
        }
    }

    /// The failures of the one event that a request gives.
    pub(crate) fn failures(&self, parameters: &[(&str, &str)]) -> Vec<String> {
        let outcomes = self.outcomes(parameters);
        let [Outcome::Bad(row)] = &outcomes[..] else { panic!("{outcomes:?}") };
        let BadRow::EnrichmentFailures { messages, .. } = &**row else { panic!("{row:?}") };
        let text = |message: &EnrichmentError| match message {
            EnrichmentError::Simple { error } => error.clone(),
            EnrichmentError::InputData { field, value, expectation } => {
                format!("{field} {value:?} {expectation}")
            }
            other => panic!("{other:?}"),
        };
        messages.iter().map(|message| text(&message.message)).collect()
    }
}

/// The entities of a column.
pub(crate) fn entities(column: Option<&str>) -> Vec<Value> {
    let Some(text) = column else { return Vec::new() };
    let mut envelope: Value = serde_json::from_str(text).unwrap();
    match envelope["data"].take() {
        Value::Array(items) => items,
        other => vec![other],
    }
}

/// The text of a tracker's `co` parameter.
pub(crate) fn contexts(entities: &Value) -> String {
    let schema = "iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-0";
    json!({"schema": schema, "data": entities}).to_string()
}

/// A file among the assets.
pub(crate) fn asset(address: &str, text: &str) -> Assets {
    let bytes: Arc<dyn AsRef<[u8]> + Send + Sync> = Arc::new(text.to_owned().into_bytes());
    Assets::from([(address.to_owned(), super::Asset::of(bytes))])
}

/// The acceptance cases of an enrichment; none where the specification's folder does not lie beside the checkout and is
/// not named by `SHARED_FIXTURES`.
pub(crate) fn acceptance_cases(enrichment: &str) -> Option<Vec<Value>> {
    let repository = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let shared = std::env::var_os("SHARED_FIXTURES")
        .map_or_else(|| repository.join("../shared"), std::path::PathBuf::from);
    let file = shared.join("fixtures/upstream-adapters/cases/enrichments.json");
    let Ok(text) = std::fs::read_to_string(&file) else {
        println!("{} is not here: our own vectors alone were run", file.display());
        return None;
    };
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    Some(cases.into_iter().filter(|case| case["enrichment"] == enrichment).collect())
}
