//! Bad rows that the collector made and put into the raw stream, so that what it answered 200 has a position. They are
//! passed on unchanged, with the collector's name and the time at which it made them.
//!
//! No payload begins like them: a bare one begins with a Thrift field, a container like zstd or gzip. Anything else that
//! begins so is judged like any record that cannot be read.

use model::bad_row::BadRow;
use serde_json::Value;

/// What such a record begins with.
const PREFIX: &[u8] = b"{\"schema\":\"iglu:com.snowplowanalytics.snowplow.badrows/";

const SCHEMAS: [&str; 2] = [
    "iglu:com.snowplowanalytics.snowplow.badrows/size_violation/jsonschema/1-0-0",
    "iglu:com.snowplowanalytics.snowplow.badrows/generic_error/jsonschema/1-0-0",
];

/// The row that a record is, if it is one line of JSON with the form of the collector's rows.
pub(crate) fn read(record: &[u8]) -> Option<BadRow> {
    if !record.starts_with(PREFIX) {
        return None;
    }
    let json = str::from_utf8(record).ok()?;
    if json.contains(['\n', '\r']) {
        return None;
    }
    let value: Value = serde_json::from_str(json).ok()?;
    let schema = SCHEMAS.into_iter().find(|schema| value["schema"] == *schema)?;
    let data = &value["data"];
    let processor = &data["processor"];
    let is_row = processor["artifact"].is_string()
        && processor["version"].is_string()
        && data["failure"]["timestamp"].is_string()
        && data["payload"].is_string();
    is_row.then(|| BadRow::Forwarded { schema, json: json.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &str = r#"{"schema":"iglu:com.snowplowanalytics.snowplow.badrows/size_violation/jsonschema/1-0-0","data":{"processor":{"artifact":"snowmelt-collector","version":"1.2.3"},"failure":{"timestamp":"2025-04-01T12:00:00.123Z","maximumAllowedSizeBytes":1000,"actualSizeBytes":1018,"expectation":"oversized collector payload: GET requests cannot be split"},"payload":"CollectorPayload(…"}}"#;

    #[test]
    fn a_row_of_the_collector_is_passed_on_as_it_is() {
        for row in [ROW.to_owned(), ROW.replace("size_violation", "generic_error")] {
            let Some(BadRow::Forwarded { schema, json }) = read(row.as_bytes()) else {
                panic!("{row}")
            };
            assert!(row.contains(schema));
            assert_eq!(json, row);
        }
    }

    #[test]
    fn what_only_looks_like_one_is_not() {
        for other in [
            "{}".to_owned(),
            "{\"schema\":\"iglu:com.snowplowanalytics.snowplow.badrows/".to_owned(),
            ROW.replace("size_violation", "schema_violations"),
            ROW.replace("1-0-0", "2-0-0"),
            ROW.replace("payload\"", "p\""),
            ROW.replace("\"failure\"", "\"f\""),
            ROW.replace("artifact", "a"),
            ROW.replacen(",\"data\"", ",\n\"data\"", 1),
            format!("{ROW}x"),
            ROW[..ROW.len() - 1].to_owned(),
        ] {
            assert_eq!(read(other.as_bytes()), None, "{other}");
        }
    }
}
