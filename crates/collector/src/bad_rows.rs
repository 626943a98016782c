//! Bad rows that the collector itself makes, of what it answers 200 but cannot record as it is. Snowplow:
//! `collector.md` 6.4 and 6.5.
//!
//! A row is one line of JSON in the raw stream, where it has a position like any record. Enrich knows it by its first
//! bytes, which no payload has, and passes it on unchanged.

use model::bad_row::{BadRow, Processor};
use model::payload::CollectorPayload;
use model::time::Timestamp;
use std::fmt::Write;

/// Who makes these rows.
const ARTIFACT: &str = "snowmelt-collector";
/// What the schema allows for `expectation`, in characters.
const EXPECTATION_CHARS_MAX: usize = 256;

/// Makes rows of one instant.
#[derive(Clone, Debug)]
pub(crate) struct Maker {
    processor: Processor,
    now: Timestamp,
}

impl Maker {
    pub(crate) fn new(version: &str, now: Timestamp) -> Maker {
        let processor = Processor { artifact: ARTIFACT.to_owned(), version: version.to_owned() };
        Maker { processor, now }
    }

    /// A payload of `actual` bytes where `maximum` are allowed. `payload` is its text, already cut.
    pub(crate) fn size_violation(
        &self,
        maximum: usize,
        actual: usize,
        reason: &str,
        payload: &str,
    ) -> String {
        let expectation = format!("oversized collector payload: {reason}");
        let row = BadRow::SizeViolation {
            maximum_allowed_size_bytes: maximum as u64,
            actual_size_bytes: actual as u64,
            expectation: expectation.chars().take(EXPECTATION_CHARS_MAX).collect(),
            payload: payload.to_owned(),
        };
        row.to_json(&self.processor, self.now)
    }

    /// A request that cannot be recorded for another reason.
    pub(crate) fn generic_error(&self, error: String, payload: String) -> String {
        BadRow::GenericError { errors: vec![error], payload }.to_json(&self.processor, self.now)
    }
}

/// The payload as Snowplow's rows show it, at most `units_max` UTF-16 units of it: the fields in the order of the
/// interface text, the first five in any case.
pub(crate) fn payload_text(payload: &CollectorPayload, units_max: usize) -> String {
    let shown = |text: &str| if text.is_empty() { "null".to_owned() } else { text.to_owned() };
    let mut text = format!(
        "CollectorPayload(schema:{}, ipAddress:{}, timestamp:{}, encoding:{}, collector:{}",
        shown(&payload.schema),
        shown(&payload.ip_address),
        payload.timestamp,
        shown(&payload.encoding),
        shown(&payload.collector),
    );
    let headers = payload.headers.as_ref().map(|headers| format!("[{}]", headers.join(", ")));
    for (name, value) in [
        ("userAgent", &payload.user_agent),
        ("refererUri", &payload.referer_uri),
        ("path", &payload.path),
        ("querystring", &payload.querystring),
        ("body", &payload.body),
        ("headers", &headers),
        ("contentType", &payload.content_type),
        ("hostname", &payload.hostname),
        ("networkUserId", &payload.network_userid),
    ] {
        if let Some(value) = value {
            // Writing to a text does not fail.
            let _ = write!(text, ", {name}:{value}");
        }
    }
    text.push(')');
    cut(text, units_max)
}

/// At most `units_max` UTF-16 units, as Snowplow counts, and no half character.
fn cut(mut text: String, units_max: usize) -> String {
    let mut units = 0;
    let end = text.char_indices().find_map(|(at, char)| {
        units += char.len_utf16();
        (units > units_max).then_some(at)
    });
    if let Some(end) = end {
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_body(body: &str) -> CollectorPayload {
        CollectorPayload { body: Some(body.to_owned()), ..CollectorPayload::default() }
    }

    #[test]
    fn the_text_of_a_payload_is_cut_to_the_character() {
        let payload = with_body(&"s".repeat(1000));
        let expect = "CollectorPayload(schema:null, ipAddress:null, timestamp:0, encoding:null, collector:null, body:sssss";
        assert_eq!((payload_text(&payload, 100).as_str(), expect.len()), (expect, 100));
        assert_eq!(payload_text(&payload, 10), "CollectorP");
        assert_eq!(payload_text(&payload, 0), "");
        let wide = cut("a😀é".to_owned(), 2);
        assert_eq!(wide, "a");
        assert_eq!(cut("a😀é".to_owned(), 3), "a😀");
        assert_eq!(cut("a😀é".to_owned(), 4), "a😀é");
    }

    #[test]
    fn the_text_names_all_that_is_set_in_the_order_of_the_interface() {
        let payload = CollectorPayload {
            ip_address: "1.2.3.4".to_owned(),
            timestamp: 5,
            encoding: "UTF-8".to_owned(),
            collector: "c".to_owned(),
            path: Some("/a/b".to_owned()),
            querystring: Some(String::new()),
            headers: Some(vec!["A: b".to_owned(), "C: d".to_owned()]),
            network_userid: Some("n".to_owned()),
            schema: "s".to_owned(),
            ..CollectorPayload::default()
        };
        let expect = "CollectorPayload(schema:s, ipAddress:1.2.3.4, timestamp:5, encoding:UTF-8, collector:c, \
                      path:/a/b, querystring:, headers:[A: b, C: d], networkUserId:n)";
        assert_eq!(payload_text(&payload, 1000), expect);
    }

    #[test]
    fn a_row_has_the_keys_of_its_schema_in_order_and_its_reason_is_cut() {
        let maker = Maker::new("1.2.3", Timestamp(1_743_508_800_123));
        let row =
            maker.size_violation(1_000_000, 1_048_577, "GET requests cannot be split", "Coll");
        let expect = r#"{"schema":"iglu:com.snowplowanalytics.snowplow.badrows/size_violation/jsonschema/1-0-0","data":{"processor":{"artifact":"snowmelt-collector","version":"1.2.3"},"failure":{"timestamp":"2025-04-01T12:00:00.123Z","maximumAllowedSizeBytes":1000000,"actualSizeBytes":1048577,"expectation":"oversized collector payload: GET requests cannot be split"},"payload":"Coll"}}"#;
        assert_eq!(row, expect);
        let long = maker.size_violation(1, 2, &"é".repeat(300), "");
        let read: serde_json::Value = serde_json::from_str(&long).unwrap();
        let expectation = read["data"]["failure"]["expectation"].as_str().unwrap();
        assert_eq!(expectation.chars().count(), 256);
        let row = maker.generic_error("why".to_owned(), "q".to_owned());
        let expect = r#"{"schema":"iglu:com.snowplowanalytics.snowplow.badrows/generic_error/jsonschema/1-0-0","data":{"processor":{"artifact":"snowmelt-collector","version":"1.2.3"},"failure":{"timestamp":"2025-04-01T12:00:00.123Z","errors":["why"]},"payload":"q"}}"#;
        assert_eq!(row, expect);
    }
}
