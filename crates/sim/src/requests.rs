//! Requests and schemas for the simulated world: good ones, bad ones, and ones whose fate depends on the registry.

use model::iglu::SchemaKey;
use model::payload::CollectorPayload;
use serde_json::{Value, json};

use crate::chance::Chance;

/// The schema that comes and changes. The data below obeys some of its forms and not others.
const CHANGING: &str = "iglu:com.acme/flake/jsonschema/1-0-0";

/// One raw record, different from every other by `number`.
pub fn record(chance: &mut Chance, number: u64) -> Vec<u8> {
    if chance.one_in(25) {
        return format!("not a collector payload {number}").into_bytes();
    }
    let mut payload = CollectorPayload {
        ip_address: "203.0.113.7".to_owned(),
        timestamp: 1_790_000_000_000 + number as i64,
        encoding: "UTF-8".to_owned(),
        collector: "snowmelt-0.1.0-log".to_owned(),
        user_agent: Some("sim/1".to_owned()),
        network_userid: Some("10000000-0000-4000-8000-000000000000".to_owned()),
        headers: Some(vec![]),
        schema: "iglu:com.snowplowanalytics.snowplow/CollectorPayload/thrift/1-0-0".to_owned(),
        ..CollectorPayload::default()
    };
    match chance.below(10) {
        0 => {
            payload.path = Some("/com.acme/track".to_owned());
            payload.querystring = Some(format!("n={number}"));
        }
        1..4 => {
            payload.path = Some("/i".to_owned());
            // No event id: it is derived from the position.
            payload.querystring =
                Some(format!("e=pv&p=web&url=https%3A%2F%2Fshop.example%2F{number}"));
        }
        _ => {
            let events: Vec<Value> =
                (0..1 + chance.below(3)).map(|at| event(chance, number, at)).collect();
            let schema = "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4";
            payload.path = Some("/com.snowplowanalytics.snowplow/tp2".to_owned());
            payload.content_type = Some("application/json".to_owned());
            payload.body = Some(json!({"schema": schema, "data": events}).to_string());
        }
    }
    payload.encode()
}

fn event(chance: &mut Chance, number: u64, at: u64) -> Value {
    let id = format!("00000000-0000-4000-8000-{:012x}", number * 16 + at);
    if chance.coin() {
        return json!({"e": "pv", "p": "web", "tv": "sim-1", "eid": id, "page": format!("page {number}")});
    }
    let schema = match chance.below(3) {
        0 => remote(chance.below(REMOTE)).to_string(),
        _ => CHANGING.to_owned(),
    };
    let wrapper = "iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0";
    let data = if chance.coin() { json!({"arms": 6}) } else { json!({"arms": "six"}) };
    let event = json!({"schema": wrapper, "data": {"schema": schema, "data": data}});
    json!({"e": "ue", "p": "srv", "tv": "sim-1", "eid": id, "ue_pr": event.to_string()})
}

/// The next form of the schema that changes.
pub fn schema(chance: &mut Chance) -> (SchemaKey, Value) {
    let key = SchemaKey::parse(CHANGING).expect("a valid key");
    (key.clone(), form(&key, chance))
}

/// A schema that only registries on the network have.
pub fn remote_schema(chance: &mut Chance) -> (SchemaKey, Value) {
    let at = chance.below(REMOTE);
    let key = remote(at);
    let mut schema = form(&key, chance);
    if at + 1 < REMOTE && chance.one_in(4) {
        schema["$supersededBy"] = json!(remote(at + 1).version().to_string());
    }
    (key, schema)
}

/// How many schemas there are on the network, in time.
const REMOTE: u64 = 5;

fn remote(at: u64) -> SchemaKey {
    SchemaKey::parse(&format!("iglu:com.acme/remote/jsonschema/1-0-{at}")).expect("a valid key")
}

fn form(key: &SchemaKey, chance: &mut Chance) -> Value {
    let kind = match chance.below(3) {
        0 => json!("integer"),
        1 => json!("string"),
        _ => json!(["integer", "string"]),
    };
    json!({
        "$schema": "http://iglucentral.com/schemas/com.snowplowanalytics.self-desc/schema/jsonschema/1-0-0#",
        "self": {
            "vendor": key.vendor(), "name": key.name(), "format": key.format(),
            "version": key.version().to_string(),
        },
        "type": "object",
        "properties": {"arms": {"type": kind}},
        "required": ["arms"],
    })
}
