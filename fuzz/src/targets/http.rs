//! Whole connections: requests, bodies, chunks and cookies as bytes.
//!
//! However the bytes arrive, the same is answered and the same is recorded; every record is a payload that reads back;
//! and each has an answer 200 of its own.

use std::sync::Arc;

use bytes::Bytes;
use model::payload::CollectorPayload;
use model::position::Offset;
use model::time::{Clock, Timestamp};
use stream::Stream;
use stream::memory::Memory;

/// The record's network user id is random where the client brings none; everything else must be equal.
type Recorded = Vec<CollectorPayload>;

#[derive(Debug)]
struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        Timestamp(1_700_000_000_123)
    }
}

pub(crate) fn connection(bytes: &[u8]) {
    let whole = exchange(bytes, usize::MAX);
    // The first byte of an input is part of the request too: any piece size will do.
    let piece = 1 + usize::from(bytes.first().copied().unwrap_or(0) % 7);
    assert_eq!(exchange(bytes, piece), whole, "in pieces of {piece}");
}

/// The status lines and the records that come of an input in pieces of this size.
fn exchange(bytes: &[u8], piece: usize) -> (Vec<String>, Recorded) {
    let raw = Memory::new("raw", 1);
    let answers = collector::fuzzing::serve(Arc::new(raw.clone()), Arc::new(Noon), bytes, piece);
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
    let accepted = statuses.iter().filter(|status| status.starts_with("200 ")).count();
    assert!(records.len() <= accepted, "{} records, {accepted} answers of 200", records.len());
    let recorded = records.iter().map(|record| recorded(record)).collect();
    (statuses, recorded)
}

fn recorded(record: &[u8]) -> CollectorPayload {
    let payload = CollectorPayload::decode(record).expect("a record reads back");
    assert_eq!(payload.encode(), record, "a record is written as the model writes it");
    CollectorPayload { network_userid: None, ..payload }
}
