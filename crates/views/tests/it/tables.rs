//! Events and bad rows as columns and as Parquet: nothing is lost that the types can hold, and equal rows are equal bytes.

use std::path::Path;

use model::decimal::Decimal;
use model::event::EnrichedEvent;
use model::failed::FAILURE;
use model::files::Files;
use model::position::Position;
use model::time::Timestamp;
use proptest::prelude::*;
use views::catalog::Table;
use views::rows::{self, Row};
use views::shred::{BadRowRows, EventRows};
use views::tables::{self, Lot};
use views::{Error, parquet, schema};

use crate::disk::Disk;
use crate::log::{self, DATA, at, range, raw};

fn position(offset: u64, index: u32) -> Position {
    Position { partition: raw(0), offset: at(offset), index }
}

fn row_of(event: &EnrichedEvent) -> Row {
    let mut builder = EventRows::new();
    builder.push(&position(7, 1), event);
    rows::read(&[builder.finish()]).unwrap().remove(0)
}

fn check(event: &EnrichedEvent, column: &str, expect: Option<&str>) {
    let place = schema::events().index_of(column).unwrap();
    assert_eq!(row_of(event).cells[place].as_deref(), expect, "{column}");
}

fn bad_row(json: &str) -> Row {
    let mut builder = BadRowRows::new();
    builder.push(&position(7, 0), json);
    rows::read(&[builder.finish()]).unwrap().remove(0)
}

#[test]
fn each_kind_of_column_keeps_its_value() {
    let event = EnrichedEvent {
        app_id: Some("shop".to_owned()),
        txn_id: Some(-7),
        br_cookies: Some(true),
        se_value: Some(Decimal::parse("18.50").unwrap()),
        tr_total: Some(Decimal::parse("18.5").unwrap()),
        geo_latitude: Some(37.1),
        collector_tstamp: Some(Timestamp(1_700_000_000_123)),
        contexts: Some("{\"a\":1}".to_owned()),
        ..EnrichedEvent::default()
    };
    check(&event, "app_id", Some("shop"));
    check(&event, "txn_id", Some("-7"));
    check(&event, "br_cookies", Some("true"));
    check(&event, "se_value", Some("18.5"));
    check(&event, "tr_total", Some("18.50"));
    check(&event, "geo_latitude", Some("37.1"));
    check(&event, "collector_tstamp", Some("1700000000123000"));
    check(&event, "contexts", Some("{\"a\":1}"));
    check(&event, "user_id", None);
    let row = row_of(&event);
    assert_eq!(row.position, position(7, 1));
    assert_eq!(row.cells.iter().flatten().count(), 8);
}

#[test]
fn what_a_type_cannot_hold_is_null() {
    let event = EnrichedEvent {
        tr_total: Some(Decimal::parse("10000000000000000").unwrap()),
        se_value: Some(Decimal::parse("1E999").unwrap()),
        geo_latitude: Some(f32::NAN),
        true_tstamp: Some(Timestamp(i64::MAX)),
        page_title: Some(String::new()),
        ..EnrichedEvent::default()
    };
    assert_eq!(row_of(&event).cells.iter().flatten().count(), 0);
}

#[test]
fn a_bad_row_is_shown_by_its_parts() {
    let json = r#"{"schema":"iglu:com.snowplowanalytics.snowplow.badrows/adapter_failures/jsonschema/1-0-0","data":{"processor":{"artifact":"a","version":"1"},"failure":{"timestamp":"2026-03-01T10:00:01.250Z","vendor":"v","messages":[{"field":"x"}]},"payload":{"n":1.10}}}"#;
    let row = bad_row(json);
    let cells: Vec<_> = row.cells.iter().map(Option::as_deref).collect();
    assert_eq!(
        cells,
        [
            Some("iglu:com.snowplowanalytics.snowplow.badrows/adapter_failures/jsonschema/1-0-0"),
            Some("adapter_failures"),
            Some("1772359201250000"),
            Some(r#"[{"field":"x"}]"#),
            Some(r#"{"n":1.10}"#),
            Some(json),
        ]
    );
}

#[test]
fn messages_are_an_array_in_every_kind_of_bad_row() {
    for (failure, messages) in [
        (r#"{"message":{"error":"e"}}"#, Some(r#"[{"error":"e"}]"#)),
        (r#"{"errors":["e"]}"#, Some(r#"["e"]"#)),
        (r#"{"expectation":"smaller"}"#, Some(r#"["smaller"]"#)),
        (r#"[{"x":1}]"#, None),
    ] {
        let row = bad_row(&format!(r#"{{"data":{{"failure":{failure},"payload":"text"}}}}"#));
        assert_eq!(row.cells[3].as_deref(), messages, "{failure}");
        assert_eq!(row.cells[4].as_deref(), Some("\"text\""));
    }
    assert_eq!(bad_row("not json").cells.iter().flatten().collect::<Vec<_>>(), ["not json"]);
}

#[test]
fn failure_times_and_attempts_are_left_out_of_equality() {
    let json = |time: &str, attempts: u32| {
        format!(
            r#"{{"data":{{"failure":{{"timestamp":"{time}","messages":[{{"error":{{"lookupHistory":[{{"repository":"r","attempts":{attempts},"lastAttempt":"{time}"}}]}}}}]}},"payload":{{"attempts":1}}}}}}"#
        )
    };
    let (one, other) =
        (bad_row(&json("2026-03-01T10:00:01Z", 1)), bad_row(&json("2026-03-02T10:00:01.5Z", 4)));
    assert_ne!(one, other);
    assert_eq!(one.clone().without_failure_time(), other.without_failure_time());
    assert!(one.without_failure_time().cells[5].as_ref().unwrap().contains(r#"{"attempts":1}"#));
    let stamped = EnrichedEvent { etl_tstamp: Some(Timestamp(5)), ..EnrichedEvent::default() };
    let expect = row_of(&EnrichedEvent::default());
    assert_eq!(row_of(&stamped).without_stamps(), expect);
}

#[test]
fn a_failed_event_is_compared_without_the_time_of_its_failures() {
    let row = |time: &str, history: &str, message: &str| {
        let cell = format!(
            r#"{{"schema":"iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-1","data":[
                {{"schema":"{FAILURE}","data":{{"errors":[{{"message":"{message}"{history}}}],"timestamp":"{time}"}}}},
                {{"schema":"iglu:a/b/jsonschema/1-0-0","data":{{"timestamp":"kept"}}}}]}}"#
        );
        let derived_contexts = Some(cell);
        row_of(&EnrichedEvent { derived_contexts, ..EnrichedEvent::default() })
            .without_failure_stamps()
    };
    let one = row("2026-11-22T10:00:00.123Z", r#","lookupHistory":[{"attempts":1}]"#, "x");
    assert_eq!(one, row("2026-11-22T10:00:09.000Z", r#","lookupHistory":[{"attempts":2}]"#, "x"));
    assert_ne!(one, row("2026-11-22T10:00:00.123Z", r#","lookupHistory":[{"attempts":1}]"#, "y"));
    let kept = |row: &Row| row.cells.iter().flatten().any(|cell| cell.contains("kept"));
    assert!(kept(&one));
}

#[test]
fn equal_rows_make_equal_bytes_and_read_back_with_our_types() {
    for table in Table::ALL {
        let build = || log::shred(&range(0, 0, 3000)).tables[table as usize].clone();
        let schema = schema::of(table);
        let bytes = parquet::encode(&[build()]).unwrap();
        assert_eq!(bytes, parquet::encode(&[build()]).unwrap());
        let read = parquet::decode(bytes.into()).unwrap();
        assert!(read.iter().all(|batch| batch.schema().fields() == schema.fields()));
        assert_eq!(rows::read(&read).unwrap(), rows::read(&[build()]).unwrap());
    }
}

#[test]
fn an_uncommitted_file_of_another_attempt_is_left_alone() {
    let disk = Disk::default();
    let write = |to: u64| {
        let range = range(0, 0, to);
        let log::Shredded { tables: [events, ..], .. } = log::shred(&range);
        tables::write(
            &disk,
            Path::new(DATA),
            Table::Events,
            &range,
            Lot::Iteration(4),
            "r",
            &[events],
        )
        .unwrap()
    };
    let (first, same, second) = (write(5), write(5), write(6));
    assert_eq!(first, same);
    assert_eq!(first.path, "tables/events/4/raw-0-00000000000000000000.parquet");
    assert_eq!(second.path, "tables/events/4/raw-0-00000000000000000000.1.parquet");
    for file in [&first, &second] {
        let batches = tables::read(&disk, Path::new(DATA), file).unwrap();
        assert_eq!(rows::read(&batches).unwrap().len() as u64, file.rows);
    }
}

#[test]
fn a_file_with_other_rows_than_the_manifest_says_is_refused() {
    let disk = Disk::default();
    let range = range(0, 0, 5);
    let log::Shredded { tables: [events, ..], .. } = log::shred(&range);
    let file = tables::write(
        &disk,
        Path::new(DATA),
        Table::Events,
        &range,
        Lot::Iteration(1),
        "r",
        &[events],
    )
    .unwrap();
    let refused = |file| match tables::read(&disk, Path::new(DATA), &file).unwrap_err() {
        Error::Damaged { detail, .. } => detail,
        other => panic!("{other}"),
    };
    let more = views::catalog::TableFile { rows: file.rows + 1, ..file.clone() };
    assert!(refused(more).contains("rows instead of"));
    let other = views::catalog::TableFile { table: Table::BadRows, ..file };
    assert!(refused(other).contains("columns"));
    assert_eq!(disk.list(Path::new("/data/tables/events/1")).unwrap().len(), 1);
}

#[test]
fn a_batch_of_one_row_is_small() {
    let log::Shredded { tables: [events, ..], .. } = log::shred(&range(0, 0, 1));
    let bytes = events.get_array_memory_size();
    assert!(bytes < 100_000, "{bytes} bytes in memory");
    let file = parquet::encode(&[events]).unwrap();
    assert!(file.len() < 60_000, "{} bytes as a file", file.len());
}

proptest! {
    #[test]
    fn an_event_that_went_through_tsv_makes_the_same_row(
        text in "[ -~\\t\\n]{0,6}", int in any::<i32>(), bit in any::<bool>(), latitude in any::<f32>(),
        millis in Timestamp::from_tsv("0000-01-01 00:00:00.000").unwrap().0..253_402_300_800_000,
        unscaled in any::<i64>(), scale in 0u32..40,
    ) {
        let decimal = Decimal::parse(&format!("{unscaled}E-{scale}")).unwrap();
        let event = EnrichedEvent {
            page_title: Some(text.clone()),
            contexts: Some(text),
            domain_sessionidx: Some(int),
            br_cookies: Some(bit),
            geo_latitude: Some(latitude),
            derived_tstamp: Some(Timestamp(millis)),
            se_value: Some(decimal.clone()),
            ti_price: Some(decimal),
            ..EnrichedEvent::default()
        };
        let line = event.to_tsv();
        prop_assert_eq!(row_of(&EnrichedEvent::from_tsv(&line).unwrap()), row_of(&event));
    }
}
