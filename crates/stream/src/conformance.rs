//! The contract of [`Stream`] as checks that every implementation passes.
//!
//! A new implementation calls [`all`] with a function that makes empty streams of two partitions. Each check panics with
//! the fact that does not hold. What is particular to one implementation (recovery, limits) is tested beside it.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use futures::executor::block_on;
use model::position::{Offset, Partition};

use crate::{Chunk, Error, Record, Stream};

/// Runs every check, each on a stream of its own.
pub fn all(empty_stream_of_two: &dyn Fn() -> Arc<dyn Stream>) {
    for check in [
        a_new_stream_is_empty,
        records_read_back_in_order_from_any_offset,
        a_chunk_has_at_least_one_record_and_otherwise_keeps_its_bound,
        partitions_are_apart,
        the_records_of_an_append_lie_side_by_side,
        an_append_without_bytes_is_refused,
        an_unknown_partition_is_an_error,
        beyond_the_end_there_is_nothing,
        what_is_trimmed_is_said_to_be_trimmed,
        trimming_everything_does_not_turn_back_offsets,
        a_waiter_is_woken_by_an_append,
        a_wait_ends_in_time,
        a_dropped_append_happens_all_the_same,
    ] {
        let stream = empty_stream_of_two();
        assert_eq!(stream.partitions().len(), 2, "the checks want a stream of two partitions");
        check(&*stream);
    }
    many_appenders_lose_nothing(&empty_stream_of_two());
}

/// Appends and waits for the answer; returns what readers will see.
fn append(stream: &dyn Stream, partition: &Partition, texts: &[&str]) -> Vec<Record> {
    let records = texts.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect();
    let appended = block_on(stream.append(partition, records)).expect("an append is taken");
    let first = appended.first.number();
    let records: Vec<Record> =
        (first..).zip(texts).map(|(offset, text)| record(offset, text)).collect();
    assert_eq!(records.last().map(|last| last.offset), Some(appended.last));
    assert!(appended.next > appended.last);
    assert!(
        stream.end(partition).expect("the end is known") >= appended.next,
        "what is acknowledged is readable"
    );
    records
}

fn record(offset: u64, text: &str) -> Record {
    Record { offset: Offset::from_number(offset), bytes: Bytes::copy_from_slice(text.as_bytes()) }
}

fn read(stream: &dyn Stream, partition: &Partition, from: Offset, bytes_max: usize) -> Chunk {
    let chunk = stream.read(partition, from, bytes_max).expect("a read is answered");
    let mut at = from;
    for record in &chunk.records {
        assert!(record.offset >= at, "offsets rise");
        at = record.offset;
    }
    match chunk.records.last() {
        Some(last) => assert!(chunk.next > last.offset),
        None => assert_eq!(chunk.next, from, "an empty chunk does not move the reader"),
    }
    chunk
}

/// Everything from `from` to the end, in chunks.
fn read_all(
    stream: &dyn Stream,
    partition: &Partition,
    from: Offset,
    bytes_max: usize,
) -> Vec<Record> {
    let mut records = Vec::new();
    let mut from = from;
    loop {
        let chunk = read(stream, partition, from, bytes_max);
        if chunk.records.is_empty() {
            let end = stream.end(partition).expect("the end is known");
            assert_eq!(from.max(end), from, "a reader arrives at the end");
            return records;
        }
        records.extend(chunk.records);
        from = chunk.next;
    }
}

/// A new stream begins and ends at the beginning.
pub fn a_new_stream_is_empty(stream: &dyn Stream) {
    for (index, partition) in (0..).zip(stream.partitions()) {
        assert_eq!(*partition, Partition::of_stream(stream.name(), index));
        assert_eq!(stream.start(partition).expect("a start"), Offset::BEGINNING);
        assert_eq!(stream.end(partition).expect("an end"), Offset::BEGINNING);
        assert!(read(stream, partition, Offset::BEGINNING, 100).records.is_empty());
    }
}

/// Whatever the size of the chunks, a reader sees each record once.
pub fn records_read_back_in_order_from_any_offset(stream: &dyn Stream) {
    let partition = &stream.partitions()[0];
    let mut written = append(stream, partition, &["one", "two", "three"]);
    written.extend(append(stream, partition, &["four"]));
    written.extend(append(stream, partition, &["five", "six"]));
    for bytes_max in [0, 1, 4, 9, 1000] {
        for (skipped, first) in written.iter().enumerate() {
            let found = read_all(stream, partition, first.offset, bytes_max);
            assert_eq!(found, written[skipped..], "from {} by {bytes_max} bytes", first.offset);
        }
    }
    assert_eq!(read_all(stream, partition, Offset::BEGINNING, 1000), written);
}

/// The bound holds for all but the first record.
pub fn a_chunk_has_at_least_one_record_and_otherwise_keeps_its_bound(stream: &dyn Stream) {
    let partition = &stream.partitions()[0];
    append(stream, partition, &["0123456789", "ab", "cd", "ef"]);
    let count = |from: u64, bytes_max| {
        read(stream, partition, Offset::from_number(from), bytes_max).records.len()
    };
    assert_eq!((count(0, 0), count(0, 5), count(0, 12)), (1, 1, 2));
    assert_eq!((count(1, 1), count(1, 5), count(1, 6)), (1, 2, 3));
}

/// What goes to one partition is not seen in another.
pub fn partitions_are_apart(stream: &dyn Stream) {
    let [left, right] = stream.partitions() else { panic!("two partitions") };
    let in_left = append(stream, left, &["left"]);
    assert!(read_all(stream, right, Offset::BEGINNING, 100).is_empty());
    let in_right = append(stream, right, &["right", "right again"]);
    assert_eq!(read_all(stream, left, Offset::BEGINNING, 100), in_left);
    assert_eq!(read_all(stream, right, Offset::BEGINNING, 100), in_right);
}

/// `first` to `last` are the records of this append and of no other.
pub fn the_records_of_an_append_lie_side_by_side(stream: &dyn Stream) {
    let partition = &stream.partitions()[1];
    let appends: Vec<_> = (0..50)
        .map(|number: usize| {
            let records = vec![Bytes::from(format!("append {number}")); number % 5 + 1];
            (number, stream.append(partition, records))
        })
        .collect();
    for (number, append) in appends {
        let appended = block_on(append).expect("an append is taken");
        let found = read(stream, partition, appended.first, 10_000).records;
        let own = &found[..number % 5 + 1];
        assert!(own.iter().all(|record| record.bytes == format!("append {number}")));
        assert_eq!(own.last().map(|last| last.offset), Some(appended.last));
    }
}

/// No records, or a record of no bytes, cannot be stored.
pub fn an_append_without_bytes_is_refused(stream: &dyn Stream) {
    let partition = &stream.partitions()[0];
    for records in [vec![], vec![Bytes::new()], vec![Bytes::from_static(b"x"), Bytes::new()]] {
        let refused = block_on(stream.append(partition, records));
        assert!(matches!(refused, Err(Error::Empty { .. })), "{refused:?}");
    }
    assert_eq!(stream.end(partition).expect("an end"), Offset::BEGINNING);
}

/// A partition of another stream is not taken for one of this.
pub fn an_unknown_partition_is_an_error(stream: &dyn Stream) {
    let other = Partition::of_stream("some-other-stream", 0);
    let appended = block_on(stream.append(&other, vec![Bytes::from_static(b"x")]));
    assert!(matches!(appended, Err(Error::UnknownPartition { .. })));
    assert!(matches!(stream.end(&other), Err(Error::UnknownPartition { .. })));
    assert!(!stream.wait(&other, Offset::BEGINNING, Duration::from_secs(3600)));
}

/// Reading there is not an error: a reader may know more than a stream that was cut.
pub fn beyond_the_end_there_is_nothing(stream: &dyn Stream) {
    let partition = &stream.partitions()[0];
    append(stream, partition, &["one"]);
    for from in [1, 2, 1 << 40] {
        assert!(read(stream, partition, Offset::from_number(from), 100).records.is_empty());
    }
}

/// A stream may keep more than it must, and says where it starts.
pub fn what_is_trimmed_is_said_to_be_trimmed(stream: &dyn Stream) {
    let partition = &stream.partitions()[0];
    let written = append(stream, partition, &["one", "two", "three", "four"]);
    stream.trim(partition, written[2].offset).expect("a trim");
    let start = stream.start(partition).expect("a start");
    assert!(start <= written[2].offset, "no more is trimmed than allowed");
    let kept: Vec<Record> = written.iter().filter(|it| it.offset >= start).cloned().collect();
    assert_eq!(read_all(stream, partition, start, 100), kept);
    if start > Offset::BEGINNING {
        let read = stream.read(partition, Offset::BEGINNING, 100);
        assert!(matches!(read, Err(Error::Trimmed { start: said, .. }) if said == start));
    }
    stream.trim(partition, Offset::BEGINNING).expect("a trim of nothing");
    assert_eq!(stream.start(partition).expect("a start"), start);
}

/// A position names one record for ever.
pub fn trimming_everything_does_not_turn_back_offsets(stream: &dyn Stream) {
    let partition = &stream.partitions()[0];
    let written = append(stream, partition, &["one", "two", "three"]);
    stream.trim(partition, Offset::from_number(u64::MAX)).expect("a trim");
    let start = stream.start(partition).expect("a start");
    assert!(start <= stream.end(partition).expect("an end"));
    let next = append(stream, partition, &["four"]);
    assert!(next[0].offset > written[2].offset);
    assert_eq!(read_all(stream, partition, start, 100).last(), next.last());
}

/// A waiter need not ask again and again.
pub fn a_waiter_is_woken_by_an_append(stream: &dyn Stream) {
    let partition = &stream.partitions()[0];
    thread::scope(|scope| {
        let waiter =
            scope.spawn(|| stream.wait(partition, Offset::BEGINNING, Duration::from_secs(60)));
        append(stream, partition, &["one"]);
        assert!(waiter.join().expect("the waiter ends"), "woken by the append");
    });
    assert!(stream.wait(partition, Offset::BEGINNING, Duration::ZERO), "it is there already");
}

/// Nothing comes, and the waiter goes on.
pub fn a_wait_ends_in_time(stream: &dyn Stream) {
    let partition = &stream.partitions()[0];
    assert!(!stream.wait(partition, Offset::BEGINNING, Duration::ZERO));
    append(stream, partition, &["one"]);
    assert!(!stream.wait(partition, Offset::from_number(1), Duration::from_millis(1)));
    assert!(stream.wait(partition, Offset::BEGINNING, Duration::MAX));
}

/// An append is taken when it is asked for, not when it is waited for.
pub fn a_dropped_append_happens_all_the_same(stream: &dyn Stream) {
    let partition = &stream.partitions()[0];
    drop(stream.append(partition, vec![Bytes::from_static(b"dropped")]));
    append(stream, partition, &["kept"]);
    let found = read_all(stream, partition, Offset::BEGINNING, 100);
    let texts: Vec<&[u8]> = found.iter().map(|record| &record.bytes[..]).collect();
    assert_eq!(texts, [b"dropped".as_slice(), b"kept"]);
}

/// Each acknowledged record is readable once, at its offset, beside those of its append.
pub fn many_appenders_lose_nothing(stream: &Arc<dyn Stream>) {
    const APPENDERS: usize = 8;
    const APPENDS: usize = 40;
    let appenders: Vec<_> = (0..APPENDERS)
        .map(|appender| {
            let stream = Arc::clone(stream);
            thread::spawn(move || {
                let partition = stream.partitions()[appender % 2].clone();
                let texts = |append| {
                    (0..append % 3 + 1).map(move |part| format!("{appender}.{append}.{part}"))
                };
                let mut acknowledged = Vec::new();
                for append in 0..APPENDS {
                    let records = texts(append).map(Bytes::from).collect();
                    let appended =
                        block_on(stream.append(&partition, records)).expect("an append is taken");
                    let offsets = appended.first.number()..;
                    acknowledged.extend(
                        offsets.zip(texts(append)).map(|(offset, text)| record(offset, &text)),
                    );
                    assert_eq!(acknowledged.last().map(|it| it.offset), Some(appended.last));
                }
                (partition, acknowledged)
            })
        })
        .collect();
    let mut acknowledged: Vec<(Partition, Record)> = Vec::new();
    for appender in appenders {
        let (partition, records) = appender.join().expect("an appender ends");
        acknowledged.extend(records.into_iter().map(|record| (partition.clone(), record)));
    }
    acknowledged.sort_by(|left, right| (&left.0, left.1.offset).cmp(&(&right.0, right.1.offset)));
    let mut found = Vec::new();
    for partition in stream.partitions() {
        let records = read_all(&**stream, partition, Offset::BEGINNING, 500);
        found.extend(records.into_iter().map(|record| (partition.clone(), record)));
    }
    assert_eq!(found, acknowledged);
}
