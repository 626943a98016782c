//! Pseudonymisation: personal data is replaced by its salted hash. Snowplow: `enrichments.md` 22.
//!
//! Runs after all steps that need the clear values. What it has replaced can be told in an event of its own, which holds
//! the clear values: off unless the configuration says `emitEvent`. The event is made in `pipeline`, and is for the PII
//! stream alone.

use std::borrow::Cow;

use model::bad_row::EnrichmentError;
use model::event::EnrichedEvent;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::hash::Hash;
use super::inputs::{Field, Locator, WrittenColumn, WrittenJson};
use super::{Assets, Enrichment, Kind, Work, configured};
use crate::entity::Entity;
use crate::json;
use crate::path::SNOWPLOW;
use crate::self_describing::{CONTEXTS, UNSTRUCT_EVENT};

const TRANSFORMATION: &str =
    "iglu:com.snowplowanalytics.snowplow/pii_transformation/jsonschema/1-0-0";
const PARENT_EVENT: &str = "iglu:com.snowplowanalytics.snowplow/parent_event/jsonschema/1-0-0";

pub(super) const KIND: Kind = Kind {
    name: "pii_enrichment_config",
    criterion: "iglu:com.snowplowanalytics.snowplow.enrichments/pii_enrichment_config/jsonschema/2-0-*",
    schema: include_str!("pii.schema.json"),
    identifier: "pii-pseudonymization",
    many: false,
    assets: configured::no_assets,
    build: |data, _: &Assets| {
        let data: Data = serde_json::from_value(data.clone()).map_err(|error| error.to_string())?;
        Ok(Box::new(Pii::new(data)?))
    },
};

/// The columns that may be replaced.
const COLUMNS: [(&str, Column); 18] = [
    ("user_id", |event| &mut event.user_id),
    ("user_ipaddress", |event| &mut event.user_ipaddress),
    ("user_fingerprint", |event| &mut event.user_fingerprint),
    ("domain_userid", |event| &mut event.domain_userid),
    ("network_userid", |event| &mut event.network_userid),
    ("ip_organization", |event| &mut event.ip_organization),
    ("ip_domain", |event| &mut event.ip_domain),
    ("tr_orderid", |event| &mut event.tr_orderid),
    ("ti_orderid", |event| &mut event.ti_orderid),
    ("mkt_term", |event| &mut event.mkt_term),
    ("mkt_content", |event| &mut event.mkt_content),
    ("se_category", |event| &mut event.se_category),
    ("se_action", |event| &mut event.se_action),
    ("se_label", |event| &mut event.se_label),
    ("se_property", |event| &mut event.se_property),
    ("mkt_clickid", |event| &mut event.mkt_clickid),
    ("refr_domain_userid", |event| &mut event.refr_domain_userid),
    ("domain_sessionid", |event| &mut event.domain_sessionid),
];

type Column = fn(&mut EnrichedEvent) -> &mut Option<String>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    emit_event: bool,
    #[serde(default)]
    anonymous_only: bool,
    parameters: Parameters,
}

#[derive(Deserialize)]
struct Parameters {
    pii: Vec<Written>,
    strategy: Strategy,
}

#[derive(Deserialize)]
struct Written {
    pojo: Option<WrittenColumn>,
    json: Option<WrittenJson>,
}

#[derive(Deserialize)]
struct Strategy {
    pseudonymize: Pseudonymize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pseudonymize {
    hash_function: Value,
    salt: String,
}

struct Pii {
    columns: Vec<(&'static str, Column)>,
    /// With the text of their path, in the configured order.
    locators: Vec<(Locator, String)>,
    hash: Hash,
    /// As the configuration writes it.
    hash_name: Value,
    salt: String,
    emit_event: bool,
    anonymous_only: bool,
}

/// What was replaced, the newest change last.
#[derive(Default)]
struct Changes {
    columns: Vec<Value>,
    json: Vec<Value>,
}

impl Pii {
    fn new(data: Data) -> Result<Pii, String> {
        let Pseudonymize { hash_function, salt } = data.parameters.strategy.pseudonymize;
        let hash = Hash::deserialize(&hash_function).map_err(|error| error.to_string())?;
        let (mut columns, mut locators) = (Vec::new(), Vec::new());
        for Written { pojo, json } in data.parameters.pii {
            if let Some(WrittenColumn { field }) = pojo {
                let known = COLUMNS.iter().find(|(name, _)| *name == field);
                columns.push(*known.ok_or_else(|| format!("`{field}` cannot be replaced"))?);
            }
            if let Some(json) = json {
                locators.push((json.locator()?, json.json_path));
            }
        }
        Ok(Pii {
            columns,
            locators,
            hash,
            hash_name: hash_function,
            salt,
            emit_event: data.emit_event,
            anonymous_only: data.anonymous_only,
        })
    }

    fn replacement(&self, text: &str) -> String {
        let mut salted = Vec::with_capacity(text.len() + self.salt.len());
        salted.extend_from_slice(text.as_bytes());
        salted.extend_from_slice(self.salt.as_bytes());
        self.hash.hex(&salted)
    }

    /// Applies all locators of a field to an entity, each to what the one before it has left.
    fn entity(&self, field: Field, entity: &mut Entity, changes: &mut Changes) {
        let schema = entity.schema.clone();
        let ours = |(locator, _): &&(Locator, String)| {
            locator.field == field && locator.criterion.matches(&schema)
        };
        for (locator, path) in self.locators.iter().filter(ours) {
            locator.path.change(entity.data_mut(), &mut |place| {
                self.place(place, &mut |original, modified| {
                    if self.emit_event {
                        changes.json.push(json!({
                            "fieldName": field.name(), "originalValue": original,
                            "modifiedValue": modified, "jsonPath": path, "schema": schema.as_str(),
                        }));
                    }
                });
            });
        }
    }

    /// Replaces a text, or the texts that stand directly in an array.
    fn place(&self, place: &mut Value, tell: &mut dyn FnMut(&str, &str)) {
        let texts = match place {
            Value::String(_) => std::slice::from_mut(place),
            Value::Array(items) => items.as_mut_slice(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => return,
        };
        for item in texts {
            if let Value::String(text) = item {
                let replacement = self.replacement(text);
                tell(text, &replacement);
                *text = replacement;
            }
        }
    }

    /// The data of the event that tells what was replaced.
    fn report(&self, changes: Changes) -> Option<Value> {
        let mut groups = Map::new();
        for (name, mut list) in [("pojo", changes.columns), ("json", changes.json)] {
            if !list.is_empty() {
                list.reverse();
                groups.insert(name.to_owned(), list.into());
            }
        }
        (!groups.is_empty()).then(|| {
            json!({
                "pii": groups,
                "strategy": {"pseudonymize": {"hashFunction": self.hash_name}},
            })
        })
    }
}

impl Enrichment for Pii {
    fn run(&self, work: &mut Work<'_>) -> Result<(), Vec<EnrichmentError>> {
        if self.anonymous_only && !is_anonymous(&work.request.headers) {
            return Ok(());
        }
        let mut changes = Changes::default();
        for (name, column) in &self.columns {
            if let Some(text) = column(&mut work.event) {
                let replacement = self.replacement(text);
                if self.emit_event {
                    changes.columns.push(json!({
                        "fieldName": name, "originalValue": text, "modifiedValue": replacement,
                    }));
                }
                *text = replacement;
            }
        }
        if !self.locators.is_empty() {
            let Work { unstruct, contexts, derived, .. } = work;
            let unstruct = unstruct.iter_mut().map(|it| (Field::UnstructEvent, it));
            let contexts = contexts.iter_mut().map(|it| (Field::Contexts, it));
            let derived = derived.iter_mut().rev().map(|it| (Field::DerivedContexts, it));
            for (field, entity) in unstruct.chain(contexts).chain(derived) {
                self.entity(field, entity, &mut changes);
            }
        }
        if self.emit_event {
            work.pii = self.report(changes);
        }
        Ok(())
    }
}

/// The event that tells what was replaced in its parent. What Snowplow takes from the clock comes from the collector's.
pub(crate) fn transformation_event(
    parent: &EnrichedEvent,
    data: Value,
    event_id: String,
) -> EnrichedEvent {
    const NAME: &str = "pii_transformation";
    let transformation = json::self_describing(TRANSFORMATION, data);
    let parent_id = json!({"parentEventId": parent.event_id});
    let entities = json!([json::self_describing(PARENT_EVENT, parent_id)]);
    EnrichedEvent {
        app_id: parent.app_id.clone(),
        platform: Some("srv".to_owned()),
        collector_tstamp: parent.collector_tstamp,
        event: Some(NAME.to_owned()),
        event_id: Some(event_id),
        // Readers of enriched events want one.
        v_collector: parent.v_collector.clone(),
        v_etl: parent.v_etl.clone(),
        contexts: Some(json::self_describing(CONTEXTS, entities).to_string()),
        unstruct_event: Some(json::self_describing(UNSTRUCT_EVENT, transformation).to_string()),
        derived_tstamp: parent.collector_tstamp,
        event_vendor: Some(SNOWPLOW.to_owned()),
        event_name: Some(NAME.to_owned()),
        event_format: Some("jsonschema".to_owned()),
        event_version: Some("1-0-0".to_owned()),
        true_tstamp: parent.collector_tstamp,
        ..EnrichedEvent::default()
    }
}

impl std::fmt::Debug for Pii {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The salt is a secret.
        f.write_str("Pii")
    }
}

/// Whether the visitor asked not to be known.
fn is_anonymous(headers: &[Cow<'_, str>]) -> bool {
    const NAME: &str = "sp-anonymous";
    let begins = |header: &Cow<'_, str>| {
        header.get(..NAME.len()).is_some_and(|start| start.eq_ignore_ascii_case(NAME))
    };
    headers.iter().any(begins)
}

#[cfg(test)]
mod tests {
    use super::super::trial::{self, Trial, contexts, entities};
    use super::super::{Config, InvalidEnrichment};
    use super::*;
    use crate::Outcome;

    fn config(pii: Value, hash: &str, salt: &str) -> Config {
        let strategy = json!({"pseudonymize": {"hashFunction": hash, "salt": salt}});
        let parameters = json!({"pii": pii, "strategy": strategy});
        let schema = ".enrichments/pii_enrichment_config/jsonschema/2-0-1";
        let mut config = trial::config("pii.json", schema, &parameters);
        config.json["data"]["emitEvent"] = json!(false);
        config
    }

    fn refused(config: Config) -> InvalidEnrichment {
        let result = Trial::with_assets(vec![config], &Assets::new());
        result.err().expect("it is refused")
    }

    fn json_of_u(path: &str) -> Value {
        json!({"json": {
            "field": "contexts", "schemaCriterion": "iglu:com.acme/u/jsonschema/1-*-*", "jsonPath": path,
        }})
    }

    fn u(data: &Value) -> Value {
        json!({"schema": "iglu:com.acme/u/jsonschema/1-0-0", "data": data})
    }

    #[test]
    fn the_salt_stands_behind_the_value() {
        let trial = Trial::of(vec![config(
            json!([{"pojo": {"field": "user_id"}}, {"pojo": {"field": "se_label"}}]),
            "SHA-256",
            "pepper123",
        )]);
        let event = trial.event(&[("uid", "john@acme.com"), ("se_pr", "john@acme.com")]);
        assert_eq!(
            event.user_id.as_deref(),
            Some("7d8a4beae5bc9d314600667d2f410918f9af265017a6ade99f60a9c8f3aac6e9")
        );
        assert_eq!(event.se_property.as_deref(), Some("john@acme.com"));
        assert_eq!(event.se_label, None);
    }

    #[test]
    fn in_json_the_texts_at_the_path_are_replaced_and_nothing_else() {
        let trial = |path| Trial::of(vec![config(json!([json_of_u(path)]), "SHA-256", "s")]);
        let after = |path, data: Value| {
            let sent = contexts(
                &json!([u(&data), {"schema": "iglu:com.acme/v/jsonschema/1-0-0", "data": data}]),
            );
            let event = trial(path).event(&[("co", &sent)]);
            let found = entities(event.contexts.as_deref());
            assert_eq!(found[1]["data"], data, "another schema");
            found[0]["data"].clone()
        };
        let hashed = "77446959447ab34c66cf8af39f80736a3c464fa2a1820377a9fad0cabdac6fce";
        assert_eq!(
            after("$.['email','phone','missing']", json!({"email": "a@x.example", "n": 5})),
            json!({"email": hashed, "n": 5})
        );
        let other = json!({"a": 1, "b": null, "c": {"d": "x"}, "e": true});
        assert_eq!(after("$.['a','b','c','e']", other.clone()), other);
        let tags = after("$.tags", json!({"tags": ["a@x.example", 1, null, ["b"], {"c": "d"}]}));
        assert_eq!(tags, json!({"tags": [hashed, 1, null, ["b"], {"c": "d"}]}));
    }

    #[test]
    fn every_locator_works_on_what_the_one_before_it_has_left() {
        let twice = config(json!([json_of_u("$.a"), json_of_u("$..a")]), "MD5", "s");
        let once = config(json!([json_of_u("$.a")]), "MD5", "s");
        let run = |config, value: &str| {
            let sent = contexts(&json!([u(&json!({"a": value}))]));
            let event = Trial::of(vec![config]).event(&[("co", &sent)]);
            entities(event.contexts.as_deref())[0]["data"]["a"].as_str().unwrap().to_owned()
        };
        assert_eq!(run(twice, "x"), run(once.clone(), &run(once, "x")));
    }

    #[test]
    fn only_those_who_asked_not_to_be_known_where_it_says_so() {
        let mut config = config(json!([{"pojo": {"field": "user_id"}}]), "MD5", "s");
        config.json["data"]["anonymousOnly"] = json!(true);
        let mut trial = Trial::of(vec![config]);
        assert_eq!(trial.event(&[("uid", "ana")]).user_id.as_deref(), Some("ana"));
        trial.headers = vec!["SP-Anonymous: *".to_owned()];
        assert_ne!(trial.event(&[("uid", "ana")]).user_id.as_deref(), Some("ana"));
    }

    #[test]
    fn the_event_that_tells_what_was_replaced_is_no_outcome_of_the_record() {
        let fields = json!([{"pojo": {"field": "user_id"}}, {"pojo": {"field": "network_userid"}}, json_of_u("$.['a','b']")]);
        let mut config = config(fields, "SHA-1", "s4lt");
        config.json["data"]["emitEvent"] = json!(true);
        let trial = Trial::of(vec![config]);
        assert_eq!(trial.outcomes(&[]).len(), 1, "nothing was replaced");
        let sent = contexts(&json!([u(&json!({"a": "x", "b": ["y"]}))]));
        let outcomes = trial.outcomes(&[("uid", "ana"), ("co", &sent)]);
        let [Outcome::Enriched(parent), Outcome::Pii(told)] = &outcomes[..] else {
            panic!("{outcomes:?}")
        };
        assert_eq!(told.event_name.as_deref(), Some("pii_transformation"));
        assert_eq!((told.app_id.as_deref(), told.platform.as_deref()), (Some("shop"), Some("srv")));
        assert_eq!(told.collector_tstamp, parent.collector_tstamp);
        assert!(told.event_id.is_some() && told.event_id != parent.event_id);
        let context = &entities(told.contexts.as_deref())[0];
        assert_eq!(context["data"]["parentEventId"], json!(parent.event_id));
        let data = &entities(told.unstruct_event.as_deref())[0]["data"];
        assert_eq!(data["strategy"], json!({"pseudonymize": {"hashFunction": "SHA-1"}}));
        assert_eq!(
            data["pii"]["pojo"],
            json!([{"fieldName": "user_id", "originalValue": "ana", "modifiedValue": "738ba07a8a80d6b66eaf90ba0106e4cf1e1393ec"}])
        );
        let originals: Vec<&Value> =
            data["pii"]["json"].as_array().unwrap().iter().map(|it| &it["originalValue"]).collect();
        assert_eq!(originals, ["y", "x"], "the newest first");
        assert_eq!(data["pii"]["json"][0]["schema"], "iglu:com.acme/u/jsonschema/1-0-0");
        assert_eq!(trial.outcomes(&[("uid", "ana"), ("co", &sent)]), outcomes);
    }

    #[test]
    fn a_configuration_that_cannot_be_meant_is_refused() {
        let path = config(json!([json_of_u("$.a.")]), "MD5", "s");
        assert!(refused(path).to_string().contains("at character 5"));
        let field = config(json!([{"pojo": {"field": "page_url"}}]), "MD5", "s");
        assert!(refused(field).to_string().contains("page_url"));
        assert!(refused(config(json!([]), "CRC32", "s")).to_string().contains("CRC32"));
        let mut old = config(json!([]), "MD5", "s");
        let schema = old.json["schema"].as_str().unwrap().replace("2-0-1", "1-0-0");
        old.json["schema"] = json!(schema);
        assert!(refused(old).to_string().contains("is not supported"));
    }

    /// The acceptance cases, where the specification's folder is at hand.
    #[test]
    fn the_acceptance_cases_hold() {
        let Some(cases) = trial::acceptance_cases("pii") else { return };
        assert_eq!(cases.len(), 6);
        for case in cases {
            let it = &case["config"];
            let text = |name: &str| it[name].as_str().unwrap_or_default();
            let locator = match it["pojo"].as_str() {
                Some(field) => json!({"pojo": {"field": field}}),
                None => json!({"json": {
                    "field": it["field"], "schemaCriterion": it["schemaCriterion"], "jsonPath": it["jsonPath"],
                }}),
            };
            let trial =
                Trial::of(vec![config(json!([locator]), text("hashFunction"), text("salt"))]);
            let (input, expect) = (&case["input"], &case["expect"]);
            if let Some(data) = input.get("data") {
                let event = trial.event(&[("co", &contexts(&json!([u(data)])))]);
                assert_eq!(
                    entities(event.contexts.as_deref())[0]["data"],
                    expect["data"],
                    "{case}"
                );
                continue;
            }
            for (column, parameter) in [("user_id", "uid"), ("domain_userid", "duid")] {
                let Some(value) = input[column].as_str() else { continue };
                let event = trial.event(&[(parameter, value)]);
                let found = [&event.user_id, &event.domain_userid];
                let found = found[usize::from(column == "domain_userid")];
                assert_eq!(found.as_deref(), expect[column].as_str(), "{case}");
            }
        }
    }
}
