//! From the bytes of a payload to a checked request. Snowplow: `enrich-core.md` 1.2 and 1.3.
//!
//! All checks are made; each that fails gives a bad row of its own. A payload that cannot be read, or whose charset is
//! unknown, gives one.

use model::bad_row::FormatMessage;
use model::iglu::{Criterion, SchemaKey};
use model::payload::CollectorPayload;
use model::time::Timestamp;
use model::uuid;

use crate::charset::Charset;
use crate::client_ip::client_ip;
use crate::request::Request;
use crate::{Settings, path, querystring};

/// The schemas that a payload may name.
const CRITERION: &str = "iglu:com.snowplowanalytics.snowplow/CollectorPayload/thrift/1-0-*";

/// Reads one payload.
///
/// # Errors
/// At least one message, in the order of the checks.
pub(crate) fn load(bytes: &[u8], settings: &Settings) -> Result<Request, Vec<FormatMessage>> {
    let payload = CollectorPayload::decode(bytes).map_err(|cause| vec![unreadable(&cause)])?;
    let Some(charset) = Charset::of_name(&payload.encoding) else {
        let cause = match payload.encoding.as_str() {
            "" => "no encoding".to_owned(),
            name => format!("unknown charset {name}"),
        };
        return Err(vec![unreadable(&cause)]);
    };
    let mut failures = Vec::new();
    let querystring = check_querystring(&payload, charset).map_err(|m| failures.push(m)).ok();
    let route = check_path(&payload).map_err(|m| failures.push(m)).ok();
    let userid = check_network_userid(&payload).map_err(|m| failures.push(m)).ok();
    let schema = check_schema(&payload).map_err(|m| failures.push(m)).ok();
    let (Some(querystring), Some((vendor, version)), Some(network_userid), Some(())) =
        (querystring, route, userid, schema)
    else {
        return Err(failures);
    };
    let headers = payload.headers.unwrap_or_default();
    Ok(Request {
        vendor,
        version,
        querystring,
        ip_address: client_ip(&headers, &payload.ip_address, settings.forwarded_must_be_last),
        headers,
        network_userid,
        charset,
        timestamp: Timestamp(payload.timestamp),
        content_type: payload.content_type,
        body: payload.body,
        collector: payload.collector,
        encoding: payload.encoding,
        hostname: payload.hostname,
        user_agent: payload.user_agent,
        referer_uri: payload.referer_uri,
    })
}

fn unreadable(cause: &dyn std::fmt::Display) -> FormatMessage {
    FormatMessage::Fallback { error: format!("error deserializing raw event: {cause}") }
}

fn check_querystring(
    payload: &CollectorPayload,
    charset: Charset,
) -> Result<Vec<querystring::Pair>, FormatMessage> {
    let Some(text) = &payload.querystring else { return Ok(Vec::new()) };
    querystring::parse(text, charset).map_err(|cause| FormatMessage::InputData {
        payload_field: "querystring".to_owned(),
        value: Some(text.clone()),
        expectation: format!(
            "could not extract name-value pairs from querystring with encoding {}: {cause}",
            payload.encoding
        ),
    })
}

fn check_path(payload: &CollectorPayload) -> Result<(String, String), FormatMessage> {
    let failed = |value: Option<&String>, expectation: &str| FormatMessage::InputData {
        payload_field: "path".to_owned(),
        value: value.cloned(),
        expectation: expectation.to_owned(),
    };
    let Some(text) = &payload.path else {
        return Err(failed(None, "request does not contain a path"));
    };
    match path::vendor_and_version(text) {
        Some((vendor, version)) => Ok((vendor.to_owned(), version.to_owned())),
        None => Err(failed(Some(text), path::EXPECTATION)),
    }
}

fn check_network_userid(payload: &CollectorPayload) -> Result<Option<String>, FormatMessage> {
    let Some(text) = &payload.network_userid else { return Ok(None) };
    uuid::lenient(text).map(Some).ok_or_else(|| FormatMessage::InputData {
        payload_field: "networkUserId".to_owned(),
        value: Some(text.clone()),
        expectation: "not valid UUID".to_owned(),
    })
}

fn check_schema(payload: &CollectorPayload) -> Result<(), FormatMessage> {
    let criterion = Criterion::parse(CRITERION).expect("the criterion is well-formed");
    match SchemaKey::parse(&payload.schema) {
        Ok(key) if criterion.matches(&key) => Ok(()),
        _ => Err(FormatMessage::Fallback {
            error: format!("verifying record as {CRITERION} failed: found {}", payload.schema),
        }),
    }
}
