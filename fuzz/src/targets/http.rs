//! Whole connections: requests, bodies, chunks and cookies as bytes, in the default configuration and in others.
//!
//! However the bytes arrive, the same is answered and the same is recorded; every record is a payload that reads back,
//! or a bad row that enrich passes on as it is; none is larger than allowed; and in the default configuration each has
//! an answer 200 of its own.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use enrich::iglu::Schemas;
use enrich::{Outcome, Recipe, Settings};
use model::payload::CollectorPayload;
use model::position::{Offset, Partition, RawRecord};
use model::time::{Clock, Timestamp};
use stream::Stream;
use stream::memory::Memory;

static RECIPE: LazyLock<Recipe> =
    LazyLock::new(|| Recipe::new(Schemas::embedded(), Settings::default()));

/// What a record is.
#[derive(Debug, PartialEq)]
enum Recorded {
    /// Its network user id is random where the client brings none, and left out; everything else must be equal.
    Payload(Box<CollectorPayload>),
    BadRow(String),
}

#[derive(Debug)]
struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        Timestamp(1_700_000_000_123)
    }
}

/// The default configuration.
pub(crate) fn connection(bytes: &[u8]) {
    let (statuses, recorded) = in_any_pieces(0, bytes);
    let accepted = statuses.iter().filter(|status| status.starts_with("200 ")).count();
    assert!(recorded.len() <= accepted, "{} records, {accepted} answers of 200", recorded.len());
}

/// The configuration that the first byte chooses.
pub(crate) fn settings(bytes: &[u8]) {
    let Some((&number, bytes)) = bytes.split_first() else { return };
    let (statuses, recorded) = in_any_pieces(number, bytes);
    assert!(recorded.is_empty() || !statuses.is_empty(), "recorded and not answered");
}

fn in_any_pieces(number: u8, bytes: &[u8]) -> (Vec<String>, Vec<Recorded>) {
    let whole = exchange(number, bytes, usize::MAX);
    // The first byte of an input is part of the request too: any piece size will do.
    let piece = 1 + usize::from(bytes.first().copied().unwrap_or(0) % 7);
    assert_eq!(exchange(number, bytes, piece), whole, "in pieces of {piece}");
    whole
}

/// The status lines and the records that come of an input in pieces of this size.
fn exchange(number: u8, bytes: &[u8], piece: usize) -> (Vec<String>, Vec<Recorded>) {
    let config = collector::fuzzing::setting(number);
    // A strict part can come out one byte too large, as Snowplow's does.
    let bytes_max = config.networking.max_record_size + usize::from(config.compat.strict);
    let raw = Memory::new("raw", 1);
    let stream = Arc::new(raw.clone());
    let answers = collector::fuzzing::serve(config, stream, Arc::new(Noon), bytes, piece);
    let answers = String::from_utf8_lossy(&answers);
    let statuses: Vec<String> = answers
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|rest| rest.lines().next().unwrap_or_default().to_owned())
        // Asked for only while the body is not there yet, so it does depend on the pieces.
        .filter(|status| status != "100 Continue")
        .collect();
    let chunk = raw.read(&raw.partitions()[0], Offset::BEGINNING, usize::MAX);
    let records: Vec<Bytes> =
        chunk.expect("a stream in memory reads").records.into_iter().map(|it| it.bytes).collect();
    (statuses, records.iter().map(|record| recorded(record, bytes_max)).collect())
}

fn recorded(record: &[u8], bytes_max: usize) -> Recorded {
    if record.starts_with(b"{") {
        return Recorded::BadRow(bad_row(record));
    }
    assert!(record.len() <= bytes_max, "a payload of {} bytes", record.len());
    let payload = CollectorPayload::decode(record).expect("a record reads back");
    assert_eq!(payload.encode(), record, "a record is written as the model writes it");
    Recorded::Payload(Box::new(CollectorPayload { network_userid: None, ..payload }))
}

/// The row, as enrich passes it on.
fn bad_row(record: &[u8]) -> String {
    let partition = Partition::of_stream("raw", 0);
    let raw = RawRecord { partition: &partition, offset: Offset::BEGINNING, bytes: record };
    let outcomes = enrich::enrich(&raw, &RECIPE).expect("nobody is asked");
    let [Outcome::Bad(row)] = &outcomes[..] else { panic!("one bad row: {outcomes:?}") };
    let text = row.to_json(&enrich::processor(), Noon.now());
    assert_eq!(text.as_bytes(), record, "a row is passed on as it is");
    text
}
