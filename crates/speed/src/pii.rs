//! The PII stream: the events that tell in clear what was pseudonymised, for whoever may know. Snowplow:
//! `enrichments.md` 22.
//!
//! It stands beside the derived streams and is none of them: no view is made of it, and no mark waits for it. The entries
//! of a range are written before those of the derived streams, so that a range that counts as written has told all of its
//! clear values. A range that is written again tells them again, at the same positions. An iteration that covers records
//! before the enricher came to them leaves them untold; they can be told from the master dataset at any time.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use model::position::{Offset, Partition};
use stream::Stream;

use crate::Error;

/// Bytes that are read at once to learn what is there.
const READ_BYTES: usize = 2 << 20;

/// Bytes that go together when old entries are removed.
const GROUP_BYTES: usize = 256 << 10;

/// One partition of it, and how much of it is kept.
#[derive(Debug)]
pub(crate) struct PiiPartition {
    stream: Arc<dyn Stream>,
    partition: Partition,
    retention_bytes: usize,
    /// The first offset of each group and its bytes, the oldest first.
    groups: VecDeque<(Offset, usize)>,
    bytes: usize,
}

impl PiiPartition {
    /// Reads through what is there.
    ///
    /// # Errors
    /// When the stream has no such partition, or cannot be read for another reason than damage.
    pub(crate) fn open(
        stream: &Arc<dyn Stream>,
        index: usize,
        retention_bytes: usize,
    ) -> Result<PiiPartition, Error> {
        let partition =
            stream.partitions().get(index).cloned().ok_or_else(|| Error::Partitions {
                stream: stream.name().to_owned(),
                wanted: index + 1,
                found: stream.partitions().len(),
            })?;
        let mut opened = PiiPartition {
            stream: Arc::clone(stream),
            partition,
            retention_bytes,
            groups: VecDeque::new(),
            bytes: 0,
        };
        let mut from = stream.start(&opened.partition)?;
        loop {
            let chunk = match stream.read(&opened.partition, from, READ_BYTES) {
                // Nothing waits for what is in it, so nothing may stop because of it.
                Err(error @ stream::Error::Damaged { .. }) => {
                    tracing::warn!(
                        partition = %opened.partition,
                        %error,
                        "the PII stream is damaged and goes on behind the damage; `snowmelt enrich` tells what was in it \
                         from the master dataset"
                    );
                    return Ok(opened);
                }
                chunk => chunk?,
            };
            for record in &chunk.records {
                opened.count(record.offset, record.bytes.len());
            }
            if chunk.next == from {
                return Ok(opened);
            }
            from = chunk.next;
        }
    }

    /// Appends entries in order, and takes each that the stream has off the list. Then removes the oldest beyond the size
    /// that is kept.
    ///
    /// # Errors
    /// When the stream refuses; what is left in the list is not in it, or is there twice after the next attempt.
    pub(crate) fn write(&mut self, entries: &mut VecDeque<Bytes>) -> Result<(), stream::Error> {
        while let Some(entry) = entries.front() {
            let append = self.stream.append(&self.partition, vec![entry.clone()]);
            let appended = futures::executor::block_on(append)?;
            self.count(appended.first, entry.len());
            entries.pop_front();
        }
        self.trim()
    }

    fn count(&mut self, offset: Offset, bytes: usize) {
        self.bytes += bytes;
        match self.groups.back_mut() {
            Some(group) if group.1 < GROUP_BYTES => group.1 += bytes,
            Some(_) | None => self.groups.push_back((offset, bytes)),
        }
    }

    fn trim(&mut self) -> Result<(), stream::Error> {
        let mut below = None;
        while self.bytes > self.retention_bytes
            && let (Some(&(_, bytes)), Some(&(following, _))) =
                (self.groups.front(), self.groups.get(1))
        {
            below = Some(following);
            self.bytes -= bytes;
            self.groups.pop_front();
        }
        below.map_or(Ok(()), |below| self.stream.trim(&self.partition, below))
    }
}
