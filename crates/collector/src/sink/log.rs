//! The embedded log as a sink: its answer is the fsync.
//!
//! Used where something lies between a request and the log (`ack = "buffer"` or `"spool"`); a request that waits for
//! the log itself appends to it directly, see [`super::store`].

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use model::causes::Causes;
use stream::Stream;

use super::{Answer, Entry, Failure, Limits, Refused, Sink};

/// A stream as a sink; the key of a request chooses its partition.
#[derive(Debug)]
pub struct Log(Arc<dyn Stream>);

impl Log {
    pub fn new(stream: Arc<dyn Stream>) -> Log {
        Log(stream)
    }
}

/// A number that equal keys share, in every process of one build.
pub(super) fn place_of(key: &Bytes) -> usize {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    // Which bits are lost on a small machine does not matter.
    hasher.finish() as usize
}

impl Sink for Log {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn limits(&self) -> Limits {
        Limits {
            record_bytes_max: 10 << 20,
            batch_records_max: usize::MAX,
            batch_bytes_max: 16 << 20,
        }
    }

    fn send<'a>(&'a self, batch: &'a [Entry]) -> Answer<'a, Vec<Refused>> {
        let partitions = self.0.partitions();
        let mut parts: Vec<(Vec<usize>, Vec<Bytes>)> = vec![Default::default(); partitions.len()];
        for (index, entry) in batch.iter().enumerate() {
            let (places, records) = &mut parts[place_of(&entry.key) % partitions.len()];
            places.push(index);
            records.push(entry.bytes.clone());
        }
        // All are on their way before the first answer is waited for.
        let appends = partitions.iter().zip(parts).filter(|(_, (places, _))| !places.is_empty());
        let appends: Vec<_> = appends
            .map(|(partition, (places, records))| (places, self.0.append(partition, records)))
            .collect();
        Box::pin(async move {
            let mut refused = Vec::new();
            for (places, append) in appends {
                if let Err(error) = append.await {
                    let reason = Causes(&error).to_string();
                    let refuse = |index| Refused { index, reason: reason.clone() };
                    refused.extend(places.into_iter().map(refuse));
                }
            }
            match refused.pop() {
                // Nothing was taken: that is no answer.
                Some(last) if refused.len() + 1 == batch.len() => Err(Failure(last.reason)),
                Some(last) => {
                    refused.push(last);
                    Ok(refused)
                }
                None => Ok(refused),
            }
        })
    }

    fn probe(&self) -> Answer<'_, ()> {
        // A log does not tell whether it would take a record; the next attempt will.
        Box::pin(std::future::ready(Err(Failure("a log is asked by appending".to_owned()))))
    }

    fn is_local(&self) -> bool {
        true
    }
}
