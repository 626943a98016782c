//! Redirects: a click on `/r/tp2?u=…` becomes an event with the target as an entity. Snowplow: `enrich-core.md` 1.9.

use model::bad_row::FailureMessage;
use serde_json::{Value, json};

use super::{Adapted, input_data, not_json};
use crate::request::{Parameters, Request};
use crate::self_describing::{CONTEXTS, Checker, UNSTRUCT_EVENT};
use crate::{base64_lenient, json};

const URI_REDIRECT: &str = "iglu:com.snowplowanalytics.snowplow/uri_redirect/jsonschema/1-0-0";

pub(super) fn adapt<'r>(request: &'r Request<'_>, checker: Checker<'_>) -> Adapted<'r> {
    let mut parameters = request.parameters();
    if parameters.is_empty() {
        let expectation = "empty querystring: not a valid URI redirect";
        return Err(vec![input_data("querystring", None, expectation)]);
    }
    let Some(target) = parameters.value("u") else {
        let expectation = "missing `u` parameter: not a valid URI redirect";
        return Err(vec![input_data("querystring", Some(&joined(request)), expectation)]);
    };
    let entity = json::self_describing(URI_REDIRECT, json!({"uri": target}));
    attach(entity, &mut parameters, checker.json_depth_max).map_err(|message| vec![message])?;
    parameters.remove("u");
    parameters.set("tv", "r-tp2".to_owned());
    if parameters.value("p").is_none() {
        parameters.set("p", "web".to_owned());
    }
    Ok(vec![parameters])
}

/// The query string's pairs, put together again.
fn joined(request: &Request<'_>) -> String {
    let pairs = request.querystring.iter();
    let texts: Vec<String> =
        pairs.map(|(k, v)| format!("{k}={}", v.as_deref().unwrap_or("null"))).collect();
    texts.join("&")
}

/// Makes the entity the event itself where there is none, else one of its contexts.
fn attach(
    entity: Value,
    parameters: &mut Parameters<'_>,
    depth_max: u32,
) -> Result<(), FailureMessage> {
    if parameters.get("e").is_none() {
        parameters.set("e", "ue".to_owned());
        parameters.set("ue_pr", json::self_describing(UNSTRUCT_EVENT, entity).to_string());
    } else if let Some(encoded) = parameters.value("cx") {
        let contexts = prepend(entity, &base64_lenient::decode(encoded), depth_max)?;
        parameters.set("cx", base64_lenient::encode(&contexts));
    } else {
        let contexts = match parameters.value("co") {
            None | Some("") => {
                json::self_describing(CONTEXTS, Value::Array(vec![entity])).to_string()
            }
            Some(contexts) => prepend(entity, contexts, depth_max)?,
        };
        parameters.set("co", contexts);
    }
    Ok(())
}

/// Puts the entity before the others and leaves the rest of the JSON as it is.
fn prepend(entity: Value, contexts: &str, depth_max: u32) -> Result<String, FailureMessage> {
    let failed = |error| not_json("co|cx", contexts, error);
    let mut value = json::parse(contexts, depth_max).map_err(failed)?;
    let Some(Value::Array(entities)) = value.get_mut("data") else {
        return Err(failed("invalid json: no array `data`".to_owned()));
    };
    entities.insert(0, entity);
    Ok(value.to_string())
}
