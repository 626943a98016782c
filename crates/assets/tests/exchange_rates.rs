//! The exchange rates of `currency_conversion_config`, from an API of our own on loopback: one fact for each day, and an
//! error for the record that met it.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops at what it does not expect, also in its helpers"
)]

mod loopback;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use assets::outside::Outside;
use assets::{Answers, Driver, Error};
use enrich::enrichments::{Assets, Config};
use enrich::iglu::Schemas;
use enrich::{Enrichments, Outcome, Recipe, Settings};
use model::payload::CollectorPayload;
use model::position::{Offset, Partition, RawRecord};
use serde_json::json;
use stream::disk::Disk;
use tempfile::TempDir;

use loopback::Registry;

/// 2026-09-21, in the afternoon.
const MONDAY: i64 = 1_790_000_000_000;
const DAY: i64 = 86_400_000;
const SUNDAYS: &str = "/historical/2026-09-20.json?app_id=s3cret";

fn recipe(api: &Registry, ignores: bool) -> Arc<Recipe> {
    let parameters = json!({
        "apiKey": "s3cret", "baseCurrency": "EUR", "rateAt": "EOD_PRIOR", "accountType": "DEVELOPER",
        "uri": api.uri(), "ignoreOnError": ignores,
    });
    let schema = "iglu:com.snowplowanalytics.snowplow/currency_conversion_config/jsonschema/1-0-0";
    let data = json!({"vendor": "v", "name": "n", "enabled": true, "parameters": parameters});
    let config =
        Config { file: "currency.json".to_owned(), json: json!({"schema": schema, "data": data}) };
    let enrichments = Enrichments::new(vec![config], &Assets::new()).unwrap();
    Arc::new(Recipe::new(Schemas::embedded(), Settings::default()).with_enrichments(enrichments))
}

fn answers(data: &Path) -> Arc<Answers> {
    let outside = Outside::new(vec!["127.0.0.1".parse().unwrap()]);
    let answers = Answers::open(Arc::new(Disk), data, None, 10).unwrap();
    Arc::new(answers.looking_up(Arc::new(outside)))
}

fn driver(recipe: &Arc<Recipe>, data: &Path) -> Driver {
    Driver::new(Arc::clone(recipe), answers(data))
}

fn try_drive(driver: &mut Driver, offset: u64, at: i64) -> Result<Outcome, Error> {
    let bytes = CollectorPayload {
        ip_address: "203.0.113.7".to_owned(),
        timestamp: at,
        encoding: "UTF-8".to_owned(),
        collector: "c".to_owned(),
        path: Some("/i".to_owned()),
        querystring: Some("e=tr&p=web&tv=t&tr_id=1&tr_cu=GBP&tr_tt=12.99".to_owned()),
        schema: "iglu:com.snowplowanalytics.snowplow/CollectorPayload/thrift/1-0-0".to_owned(),
        ..CollectorPayload::default()
    }
    .encode();
    let partition = Partition::of_stream("raw", 0);
    let offset = Offset::from_number(offset);
    let outcomes = driver.drive(&RawRecord { partition: &partition, offset, bytes: &bytes });
    outcomes.map(|mut outcomes| outcomes.remove(0))
}

/// What the amount is in euros; nothing for a bad row.
fn drive(driver: &mut Driver, offset: u64, at: i64) -> Option<String> {
    match try_drive(driver, offset, at).unwrap() {
        Outcome::Enriched(event) => event.tr_total_base.map(|it| it.as_str().to_owned()),
        _ => None,
    }
}

fn rates(euros: f64) -> String {
    json!({"base": "USD", "rates": {"USD": 1, "GBP": 0.79, "EUR": euros}}).to_string()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let of = |folder: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    of(&folder.join("facts/look-ups")).iter().flat_map(|folder| of(folder)).collect()
}

#[test]
fn the_table_of_a_day_is_asked_for_once_and_never_changes() {
    let (data, api) = (TempDir::new().unwrap(), Registry::start());
    api.answer_at(SUNDAYS, 200, &rates(0.92));
    let recipe = recipe(&api, false);
    let mut first = driver(&recipe, data.path());
    for offset in 0..5 {
        assert_eq!(drive(&mut first, offset, MONDAY).as_deref(), Some("15.13"));
    }
    assert_eq!(api.requests().len(), 1);
    assert_eq!(files(data.path()).len(), 1, "one fact for all records");
    let text = std::fs::read_to_string(&files(data.path())[0]).unwrap();
    assert!(text.contains("0.92") && !text.contains("s3cret"), "{text}");
    // Rates that are given otherwise later change nothing, for no process.
    api.answer_at(SUNDAYS, 200, &rates(2.0));
    let mut second = driver(&recipe, data.path());
    assert_eq!(drive(&mut second, 77, MONDAY).as_deref(), Some("15.13"));
    let reading = Arc::new(Answers::reading(Arc::new(Disk), data.path()));
    let mut guest = Driver::new(Arc::clone(&recipe), reading);
    assert_eq!(drive(&mut guest, 78, MONDAY).as_deref(), Some("15.13"));
    assert_eq!(api.requests().len(), 1);
    // Another day is another question.
    api.answer_at("/historical/2026-09-21.json?app_id=s3cret", 200, &rates(1.0));
    assert_eq!(drive(&mut first, 100, MONDAY + DAY).as_deref(), Some("16.44"));
    assert_eq!(answers(data.path()).stats().facts, 2);
    let waiting = try_drive(&mut guest, 101, MONDAY + 2 * DAY).unwrap_err();
    assert!(waiting.waits() && !waiting.to_string().contains("s3cret"), "{waiting}");
}

#[test]
fn an_error_holds_for_the_record_that_met_it() {
    let (data, api) = (TempDir::new().unwrap(), Registry::start());
    api.answer_at(SUNDAYS, 200, r#"{"message": "a page of a proxy"}"#);
    let recipe = recipe(&api, false);
    assert_eq!(drive(&mut driver(&recipe, data.path()), 1, MONDAY), None);
    api.answer_at(SUNDAYS, 401, "{}");
    assert_eq!(drive(&mut driver(&recipe, data.path()), 2, MONDAY), None);
    api.answer_at(SUNDAYS, 200, &rates(0.92));
    // Once it is there, it is there for all others; those stay what they are.
    let mut later = driver(&recipe, data.path());
    assert_eq!(drive(&mut later, 3, MONDAY).as_deref(), Some("15.13"));
    for _ in 0..2 {
        assert_eq!(drive(&mut later, 1, MONDAY), None);
        assert_eq!(drive(&mut later, 2, MONDAY), None);
    }
    assert_eq!(files(data.path()).len(), 3);
    let lenient = self::recipe(&api, true);
    let Ok(Outcome::Enriched(event)) = try_drive(&mut driver(&lenient, data.path()), 1, MONDAY)
    else {
        panic!("ignoreOnError")
    };
    assert_eq!((event.base_currency.as_deref(), event.tr_total_base), (Some("EUR"), None));
}

#[test]
fn many_threads_that_meet_errors_and_answers_agree_for_each_record() {
    let (data, api) = (TempDir::new().unwrap(), Registry::start());
    let recipe = recipe(&api, false);
    let shared = answers(data.path());
    // Nothing is there at first: each day's first question is an error, which is remembered for a while, so days differ.
    let days: Vec<i64> = (0..6).collect();
    let seen: Vec<Vec<Option<String>>> = std::thread::scope(|scope| {
        let race = || {
            let mut driver = Driver::new(Arc::clone(&recipe), Arc::clone(&shared));
            let mut seen = Vec::new();
            for day in &days {
                for offset in 0..4 {
                    let offset = *day as u64 * 10 + offset;
                    seen.push(drive(&mut driver, offset, MONDAY + day * DAY));
                }
            }
            seen
        };
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(race)).collect();
        for day in ["22", "24", "25"] {
            let path = format!("/historical/2026-09-{day}.json?app_id=s3cret");
            api.answer_at(&path, 200, &rates(0.92));
        }
        threads.into_iter().map(|it| it.join().unwrap()).collect()
    });
    assert!(seen.iter().all(|it| *it == seen[0]), "{seen:?}");
    let mut later = Driver::new(recipe, Arc::new(Answers::reading(Arc::new(Disk), data.path())));
    let mut replay = Vec::new();
    for day in &days {
        for offset in 0..4 {
            replay.push(drive(&mut later, *day as u64 * 10 + offset, MONDAY + day * DAY));
        }
    }
    assert_eq!(replay, seen[0]);
}

#[test]
fn a_damaged_table_is_never_used() {
    let (data, api) = (TempDir::new().unwrap(), Registry::start());
    api.answer_at(SUNDAYS, 200, &rates(0.92));
    let recipe = recipe(&api, false);
    drive(&mut driver(&recipe, data.path()), 1, MONDAY).unwrap();
    let path = files(data.path()).remove(0);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("0.92", "0.93")).unwrap();
    let error = try_drive(&mut driver(&recipe, data.path()), 1, MONDAY).unwrap_err();
    assert!(matches!(error, Error::DamagedLookUp { .. }), "{error}");
}
