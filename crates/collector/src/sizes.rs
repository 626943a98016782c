//! Makes records that are not too large: one as it is, several smaller ones, or bad rows that say why not. Snowplow:
//! `collector.md` 6.
//!
//! Nothing vanishes: a request gives at least one record or one row. What splitting may take is bounded, since every
//! part repeats what stands around the events.

use crate::bad_rows::{self, Maker};
use crate::config::{Compat, Networking};
use crate::counters::Violation;
use crate::memory::{Exhausted, Held};
use crate::record::Written;
use crate::split::{Events, Unsplittable, pack};
use bytes::Bytes;
use model::payload::CollectorPayload;
use std::ops::Range;

/// How many times its own size a request may become by repeating what stands around its events; also for its rows.
const GROWTH_MAX: usize = 4;

const EVENT_TOO_LARGE: &str = "this POST request split is still too large";

/// What one request becomes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Fitted {
    /// Payloads, each of an allowed size.
    pub(crate) payloads: Vec<Bytes>,
    /// Bad rows, each one line of JSON.
    pub(crate) bad_rows: Vec<Bytes>,
    /// Why there are any; of one request all rows have one reason.
    pub(crate) violation: Option<Violation>,
}

impl Fitted {
    /// A request that becomes one row.
    fn row(row: impl Into<Bytes>, violation: Violation) -> Fitted {
        Fitted { payloads: Vec::new(), bad_rows: vec![row.into()], violation: Some(violation) }
    }
}

/// The sizes that count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    record_bytes_max: usize,
    /// Above it nothing is split, where this is a limit at all.
    payload_bytes_max: Option<usize>,
    strict: bool,
}

impl Limits {
    pub(crate) fn new(networking: &Networking, compat: Compat) -> Limits {
        Limits {
            record_bytes_max: networking.max_record_size,
            payload_bytes_max: compat.strict.then_some(networking.max_payload_size),
            strict: compat.strict,
        }
    }

    /// Whether a record of this size is stored as it is.
    pub(crate) fn fits(self, bytes: usize) -> bool {
        bytes < self.record_bytes_max
    }

    /// What becomes of a record that does not fit. All memory that this takes is held first.
    pub(crate) fn split(
        self,
        record: &Written,
        maker: &Maker,
        held: &mut Held<'_>,
    ) -> Result<Fitted, Exhausted> {
        let size = record.bytes.len();
        // The payload read back, its text, and the rows or records made of it.
        held.add((2 + GROWTH_MAX) * size)?;
        let text = |maximum: usize| {
            let payload = CollectorPayload::decode(&record.bytes).unwrap_or_default();
            bad_rows::payload_text(&payload, maximum / 10)
        };
        if let Some(maximum) = self.payload_bytes_max.filter(|&maximum| size > maximum) {
            let reason = format!("Payload exceeds max size of {maximum}. Actual length: {size}");
            let row = maker.size_violation(maximum, size, &reason, &text(maximum));
            return Ok(Fitted::row(row, Violation::Payload));
        }
        let payload = text(self.record_bytes_max);
        let row = |actual: usize, reason: &str| {
            Bytes::from(maker.size_violation(self.record_bytes_max, actual, reason, &payload))
        };
        let body = record.body.clone().and_then(|place| str::from_utf8(&record.bytes[place]).ok());
        if let Some(body) = body {
            // Its compact form, and for each event its place and its batch.
            let events_max = 1 + memchr::memchr_iter(b',', body.as_bytes()).count();
            held.add(body.len() + events_max * (size_of::<Range<usize>>() + size_of::<usize>()))?;
        }
        Ok(match self.parts(record, body, &row) {
            Ok(fitted) => fitted,
            Err(reason) => Fitted::row(row(size, &reason.to_string()), reason.violation()),
        })
    }

    fn parts(
        self,
        record: &Written,
        body: Option<&str>,
        row: &dyn Fn(usize, &str) -> Bytes,
    ) -> Result<Fitted, Unsplittable> {
        let (Some(body), Some(place)) = (body, record.body.clone()) else {
            return Err(Unsplittable::NoBody);
        };
        let events = Events::read(body)?;
        let size = record.bytes.len();
        // Upstream measures what stands around the events in the record as it came. Ours measures what each part will
        // have around them, so that no part comes out one byte too large.
        let around = match self.strict {
            true => size.saturating_sub(events.data_bytes()),
            false => size - place.len() + events.empty_body_bytes(),
        };
        if around >= self.record_bytes_max {
            return Err(Unsplittable::TooLargeAround);
        }
        let join = 1;
        let budget = self.record_bytes_max - around + if self.strict { 0 } else { join };
        let packed = pack(events.sizes(), budget, join);
        let grown = packed.batches.len().saturating_mul(around).saturating_add(events.data_bytes());
        if grown > GROWTH_MAX * size || (packed.batches.is_empty() && packed.too_large.is_empty()) {
            return Err(Unsplittable::TooLargeAround);
        }
        let sizes: Vec<usize> = packed.too_large.iter().map(|&event| events.size(event)).collect();
        let mut fitted = Fitted {
            payloads: packed
                .batches
                .iter()
                .map(|batch| match self.strict {
                    true => events.body(batch.iter().rev().copied()),
                    false => events.body(batch.iter().copied()),
                })
                .map(|body| with_body(record, &place, &body))
                .collect(),
            bad_rows: rows(&sizes, GROWTH_MAX * size, row),
            violation: (!sizes.is_empty()).then_some(Violation::Event),
        };
        if self.strict {
            // Upstream's lists grow at their heads.
            fitted.payloads.reverse();
            fitted.bad_rows.reverse();
        }
        Ok(fitted)
    }
}

/// A row for each event that is too large alone; those beyond the room for them share the last one.
fn rows(sizes: &[usize], bytes_max: usize, row: &dyn Fn(usize, &str) -> Bytes) -> Vec<Bytes> {
    let mut rows = Vec::new();
    let mut bytes = 0;
    for (at, &size) in sizes.iter().enumerate() {
        let left = &sizes[at..];
        if bytes > bytes_max && left.len() > 1 {
            let reason = format!("{EVENT_TOO_LARGE} ({} events)", left.len());
            rows.push(row(left.iter().sum(), &reason));
            break;
        }
        let made = row(size, EVENT_TOO_LARGE);
        bytes += made.len();
        rows.push(made);
    }
    rows
}

/// The record with another body; everything else stays as it is.
fn with_body(record: &Written, place: &Range<usize>, body: &str) -> Bytes {
    let (before, after) = (&record.bytes[..place.start - 4], &record.bytes[place.end..]);
    let length = i32::try_from(body.len()).expect("a part is shorter than the whole");
    let mut bytes = Vec::with_capacity(before.len() + 4 + body.len() + after.len());
    bytes.extend_from_slice(before);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(body.as_bytes());
    bytes.extend_from_slice(after);
    Bytes::from(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Budget;
    use model::payload::{Field, Writer};
    use model::time::Timestamp;
    use proptest::prelude::*;
    use serde_json::Value;
    use std::sync::Arc;

    const SCHEMA: &str =
        "iglu:com.snowplowanalytics.snowplow.badrows/size_violation/jsonschema/1-0-0";

    /// A payload that has only a timestamp and a body, as in upstream's vectors.
    fn bare(body: Option<&str>) -> Written {
        let mut writer = Writer::with_capacity(0);
        writer.timestamp(0);
        let mut place = None;
        if let Some(body) = body {
            writer.text(Field::Body, body);
            let end = writer.bytes_written();
            place = Some(end - body.len()..end);
        }
        // `finish` adds the schema, which these payloads do not have.
        let payload_end = writer.bytes_written();
        let mut bytes = writer.finish("");
        bytes.truncate(payload_end);
        bytes.push(0);
        Written { bytes, body: place, ip_address: String::new() }
    }

    fn limits(record_bytes_max: usize, payload_bytes_max: usize, strict: bool) -> Limits {
        Limits { record_bytes_max, payload_bytes_max: strict.then_some(payload_bytes_max), strict }
    }

    fn split(limits: Limits, record: &Written) -> Fitted {
        assert!(!limits.fits(record.bytes.len()));
        let budget = Budget::new(1 << 30, Arc::default());
        let maker = Maker::new("1.2.3", Timestamp(0));
        limits.split(record, &maker, &mut budget.hold()).unwrap()
    }

    fn bodies(fitted: &Fitted) -> Vec<Value> {
        let body = |bytes: &Bytes| CollectorPayload::decode(bytes).unwrap().body.unwrap();
        fitted.payloads.iter().map(|it| serde_json::from_str(&body(it)).unwrap()).collect()
    }

    /// Maximum, actual size, reason, payload of each row.
    fn told(fitted: &Fitted) -> Vec<(u64, u64, String, String)> {
        let read = |bytes: &Bytes| {
            let row: Value = serde_json::from_slice(bytes).unwrap();
            assert_eq!(row["schema"], SCHEMA);
            let data = &row["data"];
            let failure = &data["failure"];
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (
                failure["maximumAllowedSizeBytes"].as_u64().unwrap(),
                failure["actualSizeBytes"].as_u64().unwrap(),
                text(&failure["expectation"]).replace("oversized collector payload: ", ""),
                text(&data["payload"]),
            )
        };
        fitted.bad_rows.iter().map(read).collect()
    }

    fn event(value: &str) -> String {
        format!("{{\"e\":\"se\",\"tv\":\"{value}\"}}")
    }

    fn body_of(events: &[String]) -> String {
        format!("{{\"schema\":\"{SCHEMA}\",\"data\":[{}]}}", events.join(","))
    }

    fn seven_events() -> Written {
        let mut events =
            vec![event(&"x".repeat(600)), event(&"x".repeat(5)), event(&"x".repeat(600))];
        events.extend(std::iter::repeat_n(event(&"y".repeat(1000)), 4));
        bare(Some(&body_of(&events)))
    }

    #[test]
    fn sizes_of_almost_empty_payloads() {
        assert_eq!(bare(None).bytes.len(), 12);
        assert_eq!(bare(Some(&"s".repeat(1000))).bytes.len(), 1019);
        assert_eq!(bare(Some(&"s".repeat(1010))).bytes.len(), 1029);
        assert!(limits(1020, 1, false).fits(1019));
        assert!(!limits(1019, 1, false).fits(1019));
    }

    #[test]
    fn the_seven_event_vector() {
        let record = seven_events();
        let place = record.body.clone().unwrap();
        let events = Events::read(str::from_utf8(&record.bytes[place]).unwrap()).unwrap();
        assert_eq!((record.bytes.len(), events.data_bytes()), (5454, 5339));
        for strict in [true, false] {
            let fitted = split(limits(1000, 10_000, strict), &record);
            let mut sizes: Vec<usize> = fitted.payloads.iter().map(Bytes::len).collect();
            sizes.sort_unstable();
            assert_eq!(sizes, [735, 759]);
            let rows = told(&fitted);
            assert_eq!(rows.len(), 4);
            for (maximum, actual, reason, payload) in rows {
                assert_eq!((maximum, actual, reason.as_str()), (1000, 1018, EVENT_TOO_LARGE));
                assert_eq!(payload.len(), 100);
                assert!(
                    payload
                        .starts_with("CollectorPayload(schema:null, ipAddress:null, timestamp:0, ")
                );
            }
        }
    }

    #[test]
    fn five_events_keep_their_order_and_upstream_reverses_them() {
        let events: Vec<String> = ["1", "2", "3", "4", "5"].map(event).to_vec();
        let record = bare(Some(&body_of(&events)));
        let two = bare(Some(&body_of(&events[..2]))).bytes.len();
        let numbers = |fitted: &Fitted| -> Vec<Vec<String>> {
            bodies(fitted)
                .iter()
                .map(|body| {
                    let events = body["data"].as_array().unwrap().iter();
                    events.map(|event| event["tv"].as_str().unwrap().to_owned()).collect()
                })
                .collect()
        };
        let kept = numbers(&split(limits(two, 10_000, false), &record));
        assert_eq!(kept, [vec!["1", "2"], vec!["3", "4"], vec!["5"]]);
        let reversed = numbers(&split(limits(two, 10_000, true), &record));
        assert_eq!(reversed, [vec!["5"], vec!["4", "3"], vec!["2", "1"]]);
    }

    #[test]
    fn what_cannot_be_split_is_one_row_with_the_reason() {
        let too_large = bare(Some(&"s".repeat(1010)));
        for (record, reason) in [
            (
                &bare(Some("[]")),
                "cannot split POST requests which are not self-describing it is no object",
            ),
            (&bare(None), "GET requests cannot be split"),
        ] {
            let size = record.bytes.len();
            let fitted = split(limits(size, 10_000, false), record);
            assert_eq!((fitted.payloads.len(), fitted.bad_rows.len()), (0, 1));
            let (maximum, actual, told, _) = told(&fitted).remove(0);
            assert_eq!((maximum, actual, told.as_str()), (size as u64, size as u64, reason));
        }
        let rows = told(&split(limits(1000, 10_000, true), &too_large));
        assert_eq!((rows[0].0, rows[0].1), (1000, 1029));
        assert!(rows[0].2.starts_with("cannot split POST requests which are not json "));
        assert!(rows[0].3.ends_with("body:sssss"));
    }

    #[test]
    fn above_the_largest_payload_nothing_is_split_when_strict() {
        let record = seven_events();
        let rows = told(&split(limits(1000, 5000, true), &record));
        let reason = "Payload exceeds max size of 5000. Actual length: 5454";
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].0, rows[0].1, rows[0].2.as_str()), (5000, 5454, reason));
        assert_eq!(rows[0].3.len(), 500);
        assert_eq!(split(limits(1000, 5000, false), &record).payloads.len(), 2);
    }

    #[test]
    fn a_part_is_the_record_with_another_body() {
        let mut writer = Writer::with_capacity(0);
        writer.text(Field::IpAddress, "1.2.3.4");
        let body = body_of(&[event("a"), event("b")]);
        writer.text(Field::Body, &body);
        let end = writer.bytes_written();
        writer.headers().push(&["Content-Length: ", "999"]);
        writer.text(Field::Hostname, "h");
        let place = end - body.len()..end;
        let bytes = writer.finish("s");
        let record = Written { bytes, body: Some(place), ip_address: "1.2.3.4".to_owned() };
        let fitted = split(limits(record.bytes.len() - 1, 10_000, false), &record);
        let whole = CollectorPayload::decode(&record.bytes).unwrap();
        assert_eq!(fitted.payloads.len(), 2);
        for (bytes, value) in fitted.payloads.iter().zip(["a", "b"]) {
            let part = CollectorPayload::decode(bytes).unwrap();
            assert_eq!(part.body.as_deref(), Some(body_of(&[event(value)]).as_str()));
            assert_eq!(CollectorPayload { body: whole.body.clone(), ..part }, whole);
        }
    }

    #[test]
    fn a_small_request_does_not_become_a_flood() {
        // What stands around the events is repeated for each; here it leaves room for one.
        let vendor = "v".repeat(100_000);
        let schema = format!("iglu:{vendor}/n/jsonschema/1-0-0");
        let events = vec!["1"; 50_000].join(",");
        let record = bare(Some(&format!("{{\"schema\":\"{schema}\",\"data\":[{events}]}}")));
        let around = 12 + 7 + schema.len() + 23;
        for room in [0, 1, 2, 3, 10] {
            let fitted = split(limits(around + room, 1 << 30, false), &record);
            let bytes =
                fitted.payloads.iter().chain(&fitted.bad_rows).map(Bytes::len).sum::<usize>();
            assert!(bytes <= 5 * record.bytes.len() + around, "{room}: {bytes}");
            assert!(!fitted.bad_rows.is_empty());
        }
        // Events that are too large alone have a row each as long as there is room, and share the last.
        let record = bare(Some(&body_of(&vec![event("z"); 5000])));
        let rows = told(&split(limits(125, 1 << 30, false), &record));
        assert!((2..5000).contains(&rows.len()), "{}", rows.len());
        let (last, each) = rows.split_last().unwrap();
        let shared = 5000 - each.len();
        assert_eq!(last.2, format!("{EVENT_TOO_LARGE} ({shared} events)"));
        assert_eq!(last.1, (shared * event("z").len()) as u64);
    }

    #[test]
    fn memory_that_is_not_there_makes_no_row() {
        let record = seven_events();
        let budget = Budget::new(record.bytes.len() * 6 - 1, Arc::default());
        let maker = Maker::new("1.2.3", Timestamp(0));
        let result = limits(1000, 10_000, false).split(&record, &maker, &mut budget.hold());
        assert_eq!(result, Err(Exhausted));
    }

    proptest! {
        #[test]
        fn every_event_is_in_one_part_or_has_a_row_and_no_part_is_too_large(
            sizes in prop::collection::vec(0_usize..400, 1..30),
            maximum in 120_usize..900,
            spaced: bool,
        ) {
            let events: Vec<String> = sizes.iter().map(|&size| event(&"e".repeat(size))).collect();
            let body = match spaced {
                true => body_of(&events).replace(':', " : "),
                false => body_of(&events),
            };
            // The schema has colons of its own.
            let body = body.replace("iglu : com", "iglu:com");
            let record = bare(Some(&body));
            prop_assume!(record.bytes.len() >= maximum);
            let fitted = split(limits(maximum, 1 << 30, false), &record);
            for part in &fitted.payloads {
                prop_assert!(part.len() <= maximum);
            }
            let shown: usize =
                bodies(&fitted).iter().map(|body| body["data"].as_array().unwrap().len()).sum();
            let refused_whole = told(&fitted).iter().any(|row| row.2 != EVENT_TOO_LARGE);
            prop_assert!(refused_whole || shown + fitted.bad_rows.len() == events.len());
        }
    }
}
