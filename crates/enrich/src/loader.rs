//! From the bytes of a payload to a checked request. Snowplow: `enrich-core.md` 1.2 and 1.3.
//!
//! All checks are made; each that fails gives a bad row of its own. A payload that cannot be read, or whose charset is
//! unknown, gives one.

use std::borrow::Cow;
use std::sync::LazyLock;

use model::bad_row::FormatMessage;
use model::iglu::{Criterion, SchemaKey};
use model::payload::{Payload, SCHEMA};
use model::time::Timestamp;
use model::uuid;

use crate::charset::Charset;
use crate::client_ip::client_ip;
use crate::querystring::Pair;
use crate::request::Request;
use crate::self_describing::criterion;
use crate::{Settings, path, querystring};

/// The schemas that a payload may name.
static CRITERION: LazyLock<Criterion> = LazyLock::new(|| {
    criterion("iglu:com.snowplowanalytics.snowplow/CollectorPayload/thrift/1-0-*")
});

/// Reads one payload.
///
/// # Errors
/// At least one message, in the order of the checks.
pub(crate) fn load<'a>(
    bytes: &'a [u8],
    settings: &Settings,
) -> Result<Request<'a>, Vec<FormatMessage>> {
    let payload = Payload::decode(bytes).map_err(|cause| vec![unreadable(&cause)])?;
    let Some(charset) = Charset::of_name(&payload.encoding) else {
        let cause = match &*payload.encoding {
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

fn check_querystring<'a>(
    payload: &Payload<'a>,
    charset: Charset,
) -> Result<Vec<Pair<'a>>, FormatMessage> {
    let pairs = match &payload.querystring {
        None => return Ok(Vec::new()),
        Some(Cow::Borrowed(text)) => querystring::parse(text, charset),
        Some(Cow::Owned(mended)) => {
            let own = |(name, value): Pair<'_>| {
                (name.into_owned().into(), value.map(|value| value.into_owned().into()))
            };
            querystring::parse(mended, charset).map(|pairs| pairs.into_iter().map(own).collect())
        }
    };
    pairs.map_err(|cause| FormatMessage::InputData {
        payload_field: "querystring".to_owned(),
        value: payload.querystring.as_deref().map(str::to_owned),
        expectation: format!(
            "could not extract name-value pairs from querystring with encoding {}: {cause}",
            payload.encoding
        ),
    })
}

/// Vendor and version.
type Route<'a> = (Cow<'a, str>, Cow<'a, str>);

fn check_path<'a>(payload: &Payload<'a>) -> Result<Route<'a>, FormatMessage> {
    let failed = |value: Option<&str>, expectation: &str| FormatMessage::InputData {
        payload_field: "path".to_owned(),
        value: value.map(str::to_owned),
        expectation: expectation.to_owned(),
    };
    let Some(text) = &payload.path else {
        return Err(failed(None, "request does not contain a path"));
    };
    let route: Option<Route<'a>> = match text {
        Cow::Borrowed(text) => {
            path::vendor_and_version(text).map(|(vendor, version)| (vendor.into(), version.into()))
        }
        Cow::Owned(mended) => path::vendor_and_version(mended)
            .map(|(vendor, version)| (vendor.to_owned().into(), version.to_owned().into())),
    };
    route.ok_or_else(|| failed(Some(text), path::EXPECTATION))
}

fn check_network_userid(payload: &Payload<'_>) -> Result<Option<String>, FormatMessage> {
    let Some(text) = &payload.network_userid else { return Ok(None) };
    uuid::lenient(text).map(Some).ok_or_else(|| FormatMessage::InputData {
        payload_field: "networkUserId".to_owned(),
        value: Some(text.clone().into_owned()),
        expectation: "not valid UUID".to_owned(),
    })
}

fn check_schema(payload: &Payload<'_>) -> Result<(), FormatMessage> {
    // What every collector writes needs no reading.
    if payload.schema == SCHEMA {
        return Ok(());
    }
    match SchemaKey::parse(&payload.schema) {
        Ok(key) if CRITERION.matches(&key) => Ok(()),
        _ => Err(FormatMessage::Fallback {
            error: format!("verifying record as {} failed: found {}", *CRITERION, payload.schema),
        }),
    }
}
