//! The in-memory twin: the contract of [`Stream`] without a disk.
//!
//! For tests of the roles and for offline commands. Appends are ready at once; nothing survives the process. It trims
//! exactly, never has a hole and is never full, so a role that works here may still trip over the real one.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use model::position::{Offset, Partition};

use crate::{Append, Appended, Chunk, Error, Record, Stream};

/// A stream in memory. Clones share the records.
#[derive(Clone, Debug)]
pub struct Memory {
    name: Arc<str>,
    partitions: Arc<[Partition]>,
    logs: Arc<[Log]>,
}

#[derive(Debug, Default)]
struct Log {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct State {
    start: u64,
    records: Vec<Bytes>,
    closed: bool,
}

/// The largest record that is taken, as in the embedded log.
const RECORD_BYTES_MAX: usize = 10 << 20;

impl Memory {
    /// An empty stream with the partitions `name/0` to `name/(partitions - 1)`.
    pub fn new(name: &str, partitions: u32) -> Memory {
        Memory {
            name: name.into(),
            partitions: (0..partitions).map(|index| Partition::of_stream(name, index)).collect(),
            logs: (0..partitions).map(|_| Log::default()).collect(),
        }
    }

    /// Refuses all later appends and wakes all waiters.
    pub fn close(&self) {
        for log in self.logs.iter() {
            log.lock().closed = true;
            log.moved.notify_all();
        }
    }

    fn log(&self, partition: &Partition) -> Result<&Log, Error> {
        let index = self.partitions.iter().position(|known| known == partition);
        index.map(|index| &self.logs[index]).ok_or_else(|| Error::UnknownPartition {
            stream: self.name.to_string(),
            partition: partition.clone(),
        })
    }

    fn take(&self, partition: &Partition, records: Vec<Bytes>) -> Result<Appended, Error> {
        let log = self.log(partition)?;
        check(partition, &records, RECORD_BYTES_MAX)?;
        let mut state = log.lock();
        if state.closed {
            return Err(Error::Closed { stream: self.name.to_string() });
        }
        let first = state.end();
        state.records.extend(records);
        let next = state.end();
        drop(state);
        log.moved.notify_all();
        Ok(Appended {
            first: Offset::from_number(first),
            last: Offset::from_number(next - 1),
            next: Offset::from_number(next),
        })
    }
}

/// What no implementation takes.
pub(crate) fn check(
    partition: &Partition,
    records: &[Bytes],
    record_bytes_max: usize,
) -> Result<(), Error> {
    if records.is_empty() || records.iter().any(Bytes::is_empty) {
        return Err(Error::Empty { partition: partition.clone() });
    }
    match records.iter().map(Bytes::len).find(|&bytes| bytes > record_bytes_max) {
        Some(bytes) => Err(Error::TooLarge {
            partition: partition.clone(),
            bytes,
            bytes_max: record_bytes_max,
        }),
        None => Ok(()),
    }
}

impl Stream for Memory {
    fn name(&self) -> &str {
        &self.name
    }

    fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    fn append(&self, partition: &Partition, records: Vec<Bytes>) -> Append {
        std::future::ready(self.take(partition, records)).boxed()
    }

    fn read(&self, partition: &Partition, from: Offset, bytes_max: usize) -> Result<Chunk, Error> {
        let state = self.log(partition)?.lock();
        if from.number() < state.start {
            let start = Offset::from_number(state.start);
            return Err(Error::Trimmed { partition: partition.clone(), from, start });
        }
        let mut chunk = Chunk { records: Vec::new(), next: from };
        let mut bytes = 0;
        let skip = usize::try_from(from.number() - state.start).unwrap_or(usize::MAX);
        for (number, record) in (from.number()..).zip(state.records.iter().skip(skip)) {
            bytes += record.len();
            if bytes > bytes_max && !chunk.records.is_empty() {
                break;
            }
            chunk.next = Offset::from_number(number + 1);
            let offset = Offset::from_number(number);
            chunk.records.push(Record { offset, bytes: record.clone() });
        }
        Ok(chunk)
    }

    fn start(&self, partition: &Partition) -> Result<Offset, Error> {
        Ok(Offset::from_number(self.log(partition)?.lock().start))
    }

    fn end(&self, partition: &Partition) -> Result<Offset, Error> {
        Ok(Offset::from_number(self.log(partition)?.lock().end()))
    }

    fn trim(&self, partition: &Partition, below: Offset) -> Result<(), Error> {
        let mut state = self.log(partition)?.lock();
        let start = below.number().clamp(state.start, state.end());
        let gone = (start - state.start) as usize;
        state.records.drain(..gone);
        state.start = start;
        Ok(())
    }

    fn wait(&self, partition: &Partition, beyond: Offset, at_most: Duration) -> bool {
        let Ok(log) = self.log(partition) else { return false };
        let begun = Instant::now();
        let mut state = log.lock();
        loop {
            if state.end() > beyond.number() {
                return true;
            }
            let left = at_most.saturating_sub(begun.elapsed());
            if state.closed || left.is_zero() {
                return false;
            }
            state = log.moved.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic cannot leave the state half changed: each change is one step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn end(&self) -> u64 {
        self.start + self.records.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_twin_keeps_the_contract() {
        crate::conformance::all(&|| Arc::new(Memory::new("raw", 2)));
    }

    #[test]
    fn a_closed_stream_takes_nothing_and_is_still_read() {
        let stream = Memory::new("raw", 1);
        let partition = stream.partitions()[0].clone();
        stream.take(&partition, vec![Bytes::from_static(b"one")]).unwrap();
        stream.close();
        let refused = stream.take(&partition, vec![Bytes::from_static(b"two")]);
        assert!(matches!(refused, Err(Error::Closed { .. })));
        assert_eq!(stream.read(&partition, Offset::BEGINNING, 10).unwrap().records.len(), 1);
        assert!(!stream.wait(&partition, Offset::from_number(1), Duration::from_secs(3600)));
    }
}
