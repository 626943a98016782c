//! Which event specifications an event obeys, by its schema, its entities and constraints on both.
//! Snowplow: `enrichments.md` 23.
//!
//! The specifications come from a file. An event that its tracker has named a specification for keeps that one alone.

use std::collections::BTreeMap;

use jsonschema::Validator;
use model::bad_row::EnrichmentError;
use model::event::{COLUMNS, Cell, EnrichedEvent};
use model::iglu::{SchemaKey, SelfDescribing};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::inputs::cell_text;
use super::{Assets, Enrichment, Kind, Work, configured};
use crate::entity::Entity;
use crate::path::SNOWPLOW;

pub(super) const KIND: Kind = Kind {
    name: "event_spec_enrichment_config",
    criterion: "iglu:com.snowplowanalytics.snowplow.enrichments/event_spec_enrichment_config/jsonschema/1-0-0",
    schema: include_str!("event_spec.schema.json"),
    identifier: "event-spec",
    many: false,
    assets: |data| file(data).into_iter().collect(),
    build: |data, assets: &Assets| {
        let asset = file(data).and_then(|address| assets.get(&address));
        let asset = asset.ok_or_else(|| "its file is missing".to_owned())?;
        let file: File = serde_json::from_str(asset.text()?).map_err(|error| error.to_string())?;
        Ok(Box::new(EventSpecs::new(file)?))
    },
};

const ENTITY: &str = "event_specification";
const ENTITY_KEY: &str = "iglu:com.snowplowanalytics.snowplow/event_specification/jsonschema/1-0-4";

fn file(data: &Value) -> Option<String> {
    let text = |name: &str| data["parameters"][name].as_str();
    Some(configured::address(text("uri")?, text("database")?))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    event_specs: Vec<Written>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    id: String,
    name: Option<String>,
    version: Option<u32>,
    schema_key: String,
    constraint: Option<Value>,
    #[serde(default)]
    entities: Vec<WrittenEntity>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenEntity {
    schema_key: String,
    min_cardinality: Option<usize>,
    max_cardinality: Option<usize>,
    constraint: Option<Value>,
}

#[derive(Debug)]
struct EventSpecs(Vec<Spec>);

#[derive(Debug)]
struct Spec {
    /// What its entity says.
    data: Value,
    event: SchemaKey,
    constraint: Option<Validator>,
    entities: Vec<Entities>,
}

/// How many entities of a schema there are to be, and what each of them obeys.
#[derive(Debug)]
struct Entities {
    schema: SchemaKey,
    min: usize,
    max: usize,
    constraint: Option<Validator>,
}

impl EventSpecs {
    fn new(file: File) -> Result<EventSpecs, String> {
        let mut newest: BTreeMap<&str, u32> = BTreeMap::new();
        for Written { id, version, .. } in &file.event_specs {
            let newest = newest.entry(id).or_default();
            *newest = version.unwrap_or_default().max(*newest);
        }
        let is_newest =
            |it: &&Written| it.version.is_none_or(|version| newest[it.id.as_str()] == version);
        file.event_specs
            .iter()
            .filter(is_newest)
            .map(Spec::new)
            .collect::<Result<_, _>>()
            .map(EventSpecs)
    }
}

impl Spec {
    fn new(written: &Written) -> Result<Spec, String> {
        let of_spec = |what: String| format!("event specification {}: {what}", written.id);
        let mut data = Map::new();
        data.insert("id".to_owned(), written.id.clone().into());
        if let Some(name) = &written.name {
            data.insert("name".to_owned(), name.clone().into());
        }
        if let Some(version) = written.version {
            data.insert("version".to_owned(), version.into());
        }
        let entities = written.entities.iter().map(|entity| {
            Ok(Entities {
                schema: key(&entity.schema_key)?,
                min: entity.min_cardinality.unwrap_or(0),
                max: entity.max_cardinality.unwrap_or(usize::MAX),
                constraint: compiled(entity.constraint.as_ref())?,
            })
        });
        Ok(Spec {
            data: data.into(),
            event: key(&written.schema_key).map_err(of_spec)?,
            constraint: compiled(written.constraint.as_ref()).map_err(of_spec)?,
            entities: entities.collect::<Result<_, String>>().map_err(of_spec)?,
        })
    }

    fn is_obeyed(&self, event: &Value, work: &Work<'_>) -> bool {
        self.constraint.as_ref().is_none_or(|constraint| constraint.is_valid(event))
            && self.entities.iter().all(|entities| entities.are_there(work))
    }
}

impl Entities {
    fn are_there(&self, work: &Work<'_>) -> bool {
        let of_schema = |entity: &&Entity| entity.schema == self.schema;
        let obeys = |entity: &Entity| {
            self.constraint.as_ref().is_none_or(|constraint| constraint.is_valid(entity.data()))
        };
        let all = || work.contexts.iter().chain(&work.derived).filter(of_schema);
        (self.min..=self.max).contains(&all().count()) && all().all(obeys)
    }
}

impl Enrichment for EventSpecs {
    fn run(&self, work: &mut Work<'_>) -> Result<(), Vec<EnrichmentError>> {
        let names_one =
            |entity: &Entity| entity.schema.vendor() == SNOWPLOW && entity.schema.name() == ENTITY;
        if work.contexts.iter().chain(&work.derived).any(names_one) {
            return Ok(());
        }
        let built;
        let (schema, data) = match (&work.unstruct, work.event.event.as_deref()) {
            (Some(event), _) => (&event.schema, event.data()),
            (None, Some(name @ ("page_view" | "page_ping"))) => {
                built = page_event(name, &work.event);
                (&built.schema, &built.data)
            }
            (None, _) => return Ok(()),
        };
        let ours = self.0.iter().filter(|spec| spec.event == *schema);
        let found: Vec<Value> =
            ours.filter(|spec| spec.is_obeyed(data, work)).map(|spec| spec.data.clone()).collect();
        for data in found.into_iter().rev() {
            work.derive(known_key(ENTITY_KEY), data);
        }
        Ok(())
    }
}

/// A page view or ping as if it were self-describing: its columns under their names.
fn page_event(name: &str, event: &EnrichedEvent) -> SelfDescribing {
    let mut data = Map::new();
    for (at, column) in COLUMNS.iter().enumerate() {
        if !column.name.starts_with("page_") && !column.name.starts_with("pp_") {
            continue;
        }
        let value = match event.cell(at) {
            Cell::Null => continue,
            Cell::Int(number) => json!(number),
            cell => cell_text(cell).into(),
        };
        data.insert(column.name.to_owned(), value);
    }
    let schema = known_key(&format!("iglu:{SNOWPLOW}/{name}/jsonschema/1-0-0"));
    SelfDescribing { schema, data: data.into() }
}

fn known_key(uri: &str) -> SchemaKey {
    SchemaKey::parse(uri).expect("the key is well-formed")
}

fn key(uri: &str) -> Result<SchemaKey, String> {
    SchemaKey::parse(uri).map_err(|error| format!("schemaKey `{uri}`: {error}"))
}

fn compiled(constraint: Option<&Value>) -> Result<Option<Validator>, String> {
    let compile = |constraint| jsonschema::draft7::new(constraint);
    constraint.map(compile).transpose().map_err(|error| format!("constraint: {error}"))
}

#[cfg(test)]
mod tests {
    use super::super::trial::{self, Trial, contexts, entities};
    use super::*;

    fn trial(specs: Value) -> Result<Trial, String> {
        let parameters = json!({"uri": "file:///specs", "database": "a.json"});
        let schema = ".enrichments/event_spec_enrichment_config/jsonschema/1-0-0";
        let config = trial::config("a.json", schema, &parameters);
        let assets =
            trial::asset("file:///specs/a.json", &json!({"eventSpecs": specs}).to_string());
        Trial::with_assets(vec![config], &assets).map_err(|error| error.to_string())
    }

    fn ids(specs: &Value, parameters: &[(&str, &str)]) -> Vec<Value> {
        let event = trial(specs.clone()).unwrap().event(parameters);
        let found = entities(event.derived_contexts.as_deref());
        found.into_iter().map(|entity| entity["data"].clone()).collect()
    }

    const PAGE_VIEW: &str = "iglu:com.snowplowanalytics.snowplow/page_view/jsonschema/1-0-0";
    const U: &str = "iglu:com.acme/u/jsonschema/1-0-0";

    #[test]
    fn of_each_specification_the_newest_version_that_is_obeyed_is_named() {
        let title =
            json!({"properties": {"page_title": {"enum": ["Home"]}}, "required": ["page_title"]});
        let specs = json!([
            {"id": "a", "name": "A", "version": 1, "schemaKey": PAGE_VIEW},
            {"id": "a", "name": "A", "version": 2, "schemaKey": PAGE_VIEW, "constraint": title},
            {"id": "b", "name": "B", "schemaKey": PAGE_VIEW},
            {"id": "c", "schemaKey": U},
        ]);
        let [a, b] =
            [json!({"id": "a", "name": "A", "version": 2}), json!({"id": "b", "name": "B"})];
        assert_eq!(ids(&specs, &[("page", "Home")]), [a, b.clone()]);
        assert_eq!(ids(&specs, &[("page", "Away")]), [b]);
        assert_eq!(ids(&specs, &[("e", "pp")]), Vec::<Value>::new());
    }

    #[test]
    fn entities_are_counted_by_their_exact_key_and_each_obeys() {
        let with =
            |entity: Value| json!([{"id": "a", "schemaKey": PAGE_VIEW, "entities": [entity]}]);
        let sent = contexts(&json!([
            {"schema": U, "data": {"n": 1}}, {"schema": U, "data": {"n": 2}},
        ]));
        let matches = |entity: Value| !ids(&with(entity), &[("co", &sent)]).is_empty();
        assert!(matches(json!({"schemaKey": U})));
        assert!(matches(json!({"schemaKey": U, "minCardinality": 2, "maxCardinality": 2})));
        assert!(!matches(json!({"schemaKey": U, "minCardinality": 3})));
        assert!(!matches(json!({"schemaKey": U, "maxCardinality": 1})));
        assert!(!matches(json!({"schemaKey": U.replace("1-0-0", "1-0-1"), "minCardinality": 1})));
        let small = |most: u32| json!({"properties": {"n": {"maximum": most}}});
        assert!(matches(json!({"schemaKey": U, "constraint": small(2)})));
        assert!(!matches(json!({"schemaKey": U, "constraint": small(1)})));
    }

    #[test]
    fn what_the_tracker_named_stays_alone_and_a_broken_file_is_refused() {
        let specs = json!([{"id": "a", "schemaKey": PAGE_VIEW}]);
        let sent = contexts(&json!([{"schema": ENTITY_KEY, "data": {"id": "mine"}}]));
        assert!(ids(&specs, &[("co", &sent)]).is_empty());
        for broken in [
            json!([{"id": "a", "schemaKey": "page_view"}]),
            json!([{"id": "a", "schemaKey": PAGE_VIEW, "constraint": {"type": 3}}]),
            json!([{"schemaKey": PAGE_VIEW}]),
        ] {
            assert!(trial(broken).is_err());
        }
    }
}
