//! Laws that hold for any bytes: no panic, at least one outcome, and the same outcomes twice. And bounds for records
//! made to be slow or huge.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops at what it does not expect, also in its helpers"
)]

use std::io::Write;
use std::time::{Duration, Instant};

use enrich::iglu::Schemas;
use enrich::{Outcome, Recipe, Settings, enrich, processor};
use model::bad_row::BadRow;
use model::event::EnrichedEvent;
use model::payload::CollectorPayload;
use model::position::{Offset, Partition, RawRecord};
use model::time::Timestamp;
use proptest::prelude::*;

fn recipe() -> Recipe {
    Recipe::new(Schemas::embedded(), Settings::default())
}

fn outcomes(bytes: &[u8], recipe: &Recipe) -> Vec<Outcome> {
    let partition = Partition::of_stream("raw", 3);
    let record = RawRecord { partition: &partition, offset: Offset::from_number(41), bytes };
    enrich(&record, recipe).unwrap()
}

/// Checks the laws and that every outcome can be written and read.
fn check(bytes: &[u8], recipe: &Recipe) -> Result<(), TestCaseError> {
    let first = outcomes(bytes, recipe);
    prop_assert!(!first.is_empty());
    prop_assert_eq!(&outcomes(bytes, recipe), &first);
    for outcome in &first {
        match outcome {
            Outcome::Enriched(event) => {
                let line = event.to_tsv();
                prop_assert!(!line.contains(['\n', '\r']));
                prop_assert_eq!(EnrichedEvent::from_tsv(&line).unwrap(), (**event).clone());
                prop_assert!(event.event_id.is_some() && event.collector_tstamp.is_some());
            }
            Outcome::Bad(row) => {
                let text = row.to_json(&processor(), Timestamp(0));
                prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
            }
            other => prop_assert!(false, "nothing asks for it: {other:?}"),
        }
    }
    check_failed(bytes, recipe, &first)
}

/// With failed events the outcomes are the same, but that some bad rows have an event beside them.
fn check_failed(bytes: &[u8], recipe: &Recipe, plain: &[Outcome]) -> Result<(), TestCaseError> {
    let settings = Settings { failed_events: true, ..recipe.settings().clone() };
    let found = outcomes(bytes, &Recipe::new(recipe.schemas().clone(), settings));
    prop_assert_eq!(found.len(), plain.len());
    for (found, plain) in found.into_iter().zip(plain) {
        let Outcome::Failed { bad_row, event } = found else {
            prop_assert_eq!(&found, plain);
            continue;
        };
        prop_assert_eq!(&Outcome::Bad(bad_row), plain);
        let event = event.stamp(&processor(), Timestamp(0));
        prop_assert_eq!(EnrichedEvent::from_tsv(&event.to_tsv()).unwrap(), event.clone());
        let read = model::sdk::Event::parse(&event.to_tsv());
        let is_whole = event.v_collector.is_some() && event.collector_tstamp.is_some();
        prop_assert!(!is_whole || read.is_ok(), "{:?}", read);
    }
    Ok(())
}

fn payload() -> CollectorPayload {
    CollectorPayload {
        ip_address: "192.0.2.1".into(),
        timestamp: 1_790_000_000_000,
        encoding: "UTF-8".into(),
        collector: "collector-1".into(),
        path: Some("/i".into()),
        querystring: Some("e=pv&p=web&tv=t".into()),
        schema: model::payload::SCHEMA.into(),
        ..CollectorPayload::default()
    }
}

fn container(entries: &[&[u8]]) -> Vec<u8> {
    let mut content = vec![1, 1];
    for entry in entries {
        content.extend((entry.len() as u32).to_be_bytes());
        content.extend(*entry);
    }
    content
}

fn zstd_of(content: &[u8]) -> Vec<u8> {
    zstd::encode_all(content, 3).unwrap()
}

fn gzip_of(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

const POST: &str = r#"{"schema":"iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4","data":[{"e":"pv","p":"web","tv":"t","url":"http://a.example/?_sp=a.1"},{"e":"ue","p":"web","tv":"t","ue_pr":"{}"}]}"#;

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_have_an_outcome(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        check(&bytes, &recipe())?;
    }

    #[test]
    fn any_bytes_behind_the_mark_of_a_codec_have_an_outcome(
        zstd in any::<bool>(), bytes in proptest::collection::vec(any::<u8>(), 0..200)
    ) {
        let mark: &[u8] = if zstd { &[0x28, 0xB5, 0x2F, 0xFD] } else { &[0x1F, 0x8B, 8] };
        check(&[mark, &bytes].concat(), &recipe())?;
    }

    #[test]
    fn any_query_string_has_an_outcome(
        querystring in "([a-z_]{1,5}=?[^&]{0,8}&){0,6}",
        known in proptest::collection::vec(
            ("(e|p|eid|tid|dtm|stm|ttm|url|refr|vp|se_va|ue_pr|ue_px|co|cx|ip|ua|cv|tv)", "[a-z0-9%+.:/x-]{0,9}"), 0..8
        ),
        redirect in any::<bool>(),
    ) {
        let known: String = known.iter().map(|(name, value)| format!("{name}={value}&")).collect();
        for querystring in [querystring.clone() + &known, known] {
            let path = Some(if redirect { "/r/tp2".into() } else { "/i".into() });
            check(&CollectorPayload { path, querystring: Some(querystring), ..payload() }.encode(), &recipe())?;
        }
    }

    #[test]
    fn any_text_in_a_field_has_an_outcome(path in ".{0,20}", body in ".{0,40}", header in ".{0,40}", encoding in ".{0,6}") {
        let payload = CollectorPayload {
            body: Some(body),
            content_type: Some("application/json".into()),
            headers: Some(vec![format!("X-Forwarded-For: {header}"), header]),
            ..payload()
        };
        check(&CollectorPayload { path: Some(path), ..payload.clone() }.encode(), &recipe())?;
        let tracker = Some("/com.snowplowanalytics.snowplow/tp2".to_owned());
        check(&CollectorPayload { path: tracker, ..payload.clone() }.encode(), &recipe())?;
        check(&CollectorPayload { encoding, ..payload }.encode(), &recipe())?;
    }

    #[test]
    fn a_payload_with_changed_bytes_has_an_outcome(changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..6), cut in any::<usize>()) {
        let payload = CollectorPayload {
            path: Some("/com.snowplowanalytics.snowplow/tp2".into()),
            content_type: Some("application/json".into()),
            body: Some(POST.into()),
            headers: Some(vec!["Forwarded: for=192.0.2.9".into()]),
            network_userid: Some("11111111-1111-4111-8111-111111111111".into()),
            ..payload()
        };
        let mut bytes = payload.encode();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        check(&bytes, &recipe())?;
        check(&bytes[..cut % bytes.len()], &recipe())?;
        let packed = container(&[&bytes, &bytes]);
        for mut record in [zstd_of(&packed), gzip_of(&packed)] {
            check(&record, &recipe())?;
            let at = cut % record.len();
            record[at] ^= 1;
            check(&record, &recipe())?;
            check(&record[..at], &recipe())?;
        }
    }
}

#[test]
fn the_outcomes_of_a_container_are_numbered_through() {
    let payload = payload().encode();
    let record = container(&[&payload, b"\x01", &payload]);
    for record in [zstd_of(&record), gzip_of(&record)] {
        let found = outcomes(&record, &recipe());
        let [Outcome::Enriched(first), Outcome::Bad(bad), Outcome::Enriched(third)] = &found[..]
        else {
            panic!("{found:?}");
        };
        assert!(matches!(**bad, BadRow::CollectorPayloadFormatViolation { .. }));
        assert_ne!(first.event_id, third.event_id);
    }
}

/// The schema of a bad row, and its failure without the time.
fn failure(outcome: &Outcome) -> String {
    let Outcome::Bad(row) = outcome else { panic!("{outcome:?}") };
    let row: serde_json::Value =
        serde_json::from_str(&row.to_json(&processor(), Timestamp(0))).unwrap();
    let mut failure = row["data"]["failure"].clone();
    failure.as_object_mut().unwrap().shift_remove("timestamp");
    format!("{} {failure}", row["schema"].as_str().unwrap().split('/').nth(1).unwrap())
}

#[test]
fn a_broken_container_keeps_what_came_before() {
    let payload = payload().encode();
    let whole = container(&[&payload, &payload]);
    let corrupt = r#"collector_payload_format_violation {"loader":"thrift","message":{"error":"corrupt compressed payload"}}"#;
    for cut in [whole.len() - 3, whole.len() - payload.len() - 2] {
        let found = outcomes(&zstd_of(&whole[..cut]), &recipe());
        assert_eq!(found.len(), 2);
        assert!(matches!(found[0], Outcome::Enriched(_)));
        assert_eq!(failure(&found[1]), corrupt);
    }
    let versions = outcomes(&gzip_of(&[1, 2]), &recipe());
    assert_eq!(
        failure(&versions[0]),
        r#"collector_payload_format_violation {"loader":"thrift","message":{"error":"Unsupported versions in compressed record header: 1, 2"}}"#
    );
    assert_eq!(failure(&outcomes(&zstd_of(&[1]), &recipe())[0]), corrupt);
    assert_eq!(
        outcomes(&zstd_of(&[1, 1]), &recipe()).len(),
        1,
        "a container of nothing is seen too"
    );
}

#[test]
fn a_payload_that_is_too_large_is_passed_over() {
    let payload = payload().encode();
    let large = vec![0; payload.len() + 1];
    let settings = Settings { payload_bytes_max: payload.len() as u64, ..Settings::default() };
    let record = zstd_of(&container(&[&payload, &large, &payload]));
    let found = outcomes(&record, &Recipe::new(Schemas::embedded(), settings));
    assert_eq!(found.len(), 3);
    assert!(matches!((&found[0], &found[2]), (Outcome::Enriched(_), Outcome::Enriched(_))));
    assert!(failure(&found[1]).starts_with("size_violation "), "{}", failure(&found[1]));
}

#[test]
fn a_small_record_that_unfolds_to_gigabytes_is_stopped() {
    // A claimed length allocates nothing, and a run of zeros is read only up to the bound.
    let mut content = container(&[&payload().encode()]);
    content.extend(u32::MAX.to_be_bytes());
    content.resize(content.len() + (80 << 20), 0);
    let found = outcomes(&zstd_of(&content), &recipe());
    assert_eq!(found.len(), 2);
    assert!(failure(&found[1]).starts_with("size_violation "));
}

#[test]
fn an_event_is_refused_from_one_byte_beyond_the_limit() {
    let bytes = payload().encode();
    let Outcome::Enriched(event) = &outcomes(&bytes, &recipe())[0] else { panic!("not enriched") };
    // The line as the layer writes it: with its own 23 bytes of etl_tstamp.
    let length = event.to_tsv().len() as u64 + 23;
    let with = |record_bytes_max| {
        Recipe::new(Schemas::embedded(), Settings { record_bytes_max, ..Settings::default() })
    };
    assert!(matches!(outcomes(&bytes, &with(length))[0], Outcome::Enriched(_)));
    let Outcome::Bad(row) = &outcomes(&bytes, &with(length - 1))[0] else { panic!("not refused") };
    let BadRow::SizeViolation {
        maximum_allowed_size_bytes,
        actual_size_bytes,
        expectation,
        payload,
    } = &**row
    else {
        panic!("{row:?}");
    };
    assert_eq!((*maximum_allowed_size_bytes, *actual_size_bytes), (length - 1, length));
    assert_eq!(
        *expectation,
        format!("Enriched event exceeds the maximum allowed size of {} bytes", length - 1)
    );
    assert_eq!(payload.chars().count() as u64, (length - 1) / 10);
}

#[test]
fn hostile_requests_take_time_in_proportion_to_their_length() {
    let long = 300_000;
    let nested = "[".repeat(long);
    let items: String = "{\"schema\":\"iglu:a/b/c/1-0-0\",\"data\":{}},".repeat(8_000);
    let contexts = format!(
        "{{\"schema\":\"iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-1\",\"data\":[{}]}}",
        items.trim_end_matches(',')
    );
    let tracker = "/com.snowplowanalytics.snowplow/tp2";
    let events = r#"{"e":"pv","p":"web","tv":"t"},"#.repeat(10_000);
    let envelope = format!(
        "{{\"schema\":\"iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4\",\"data\":[{}]}}",
        events.trim_end_matches(',')
    );
    let hostile: [(&str, String, Option<String>); 7] = [
        // A long query string stands over each of ten thousand events.
        (tracker, (0..10_000).map(|n| format!("p{n}=1&")).collect(), Some(envelope)),
        ("/i", (0..60_000).map(|n| format!("p{n}=1&")).collect(), None),
        ("/i", "e=pv&".repeat(long / 5), None),
        ("/i", format!("e=pv&url=http://a.example/{}", "%7C/".repeat(long / 4)), None),
        (
            "/i",
            format!(
                "e=se&se_va={}&tid={}&dtm={}",
                "9".repeat(long),
                "0".repeat(long),
                "1".repeat(long)
            ),
            None,
        ),
        (tracker, String::new(), Some(nested)),
        ("/r/tp2", "u=x&e=pv&co=[]".into(), Some(contexts)),
    ];
    for (path, querystring, body) in hostile {
        let payload = CollectorPayload {
            path: Some(path.into()),
            content_type: body.as_ref().map(|_| "application/json".into()),
            querystring: Some(querystring),
            body,
            ..payload()
        };
        let begin = Instant::now();
        assert!(!outcomes(&payload.encode(), &recipe()).is_empty());
        // Milliseconds in truth; a quadratic step over these lengths would take minutes.
        assert!(begin.elapsed() < Duration::from_secs(100), "{path} took {:?}", begin.elapsed());
    }
}

#[test]
fn a_bad_row_of_the_collector_is_one_outcome_and_stays_as_it_is() {
    let row = r#"{"schema":"iglu:com.snowplowanalytics.snowplow.badrows/size_violation/jsonschema/1-0-0","data":{"processor":{"artifact":"snowmelt-collector","version":"1.2.3"},"failure":{"timestamp":"2025-04-01T12:00:00.123Z","maximumAllowedSizeBytes":1000,"actualSizeBytes":1018,"expectation":"oversized collector payload: GET requests cannot be split"},"payload":"Coll"}}"#;
    let outcomes = outcomes(row.as_bytes(), &recipe());
    let [Outcome::Bad(bad)] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!(bad.to_json(&processor(), Timestamp(0)), row);
    assert!(row.contains(bad.schema()));
    // What a reader of bad rows could not take in is cut like any other.
    let long = row.replace("Coll", &"C".repeat(2_000_000));
    let [Outcome::Bad(bad)] = &self::outcomes(long.as_bytes(), &recipe())[..] else {
        panic!("one outcome")
    };
    assert!(matches!(**bad, BadRow::SizeViolation { .. }));
}
