//! The queue between appenders and the writer of one partition, and how one commit answers all of its appends.
//!
//! Appends gather in a shared batch under one short lock; the writer takes the whole batch, and its result is set once
//! and wakes everybody. There is no channel and no allocation per record.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use model::position::Offset;

use super::entry;
use crate::{Appended, Error};

/// What waits for the writer.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    batches: VecDeque<Batch>,
    /// Of all batches here, and of the one that the writer took last.
    bytes: usize,
    writer_sleeps: bool,
    closed: bool,
}

/// Records that are written and synced together.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) records: Vec<Bytes>,
    /// As [`queued_bytes`] counts them.
    pub(crate) bytes: usize,
    pub(crate) done: Arc<Done>,
}

/// Why a queue did not take an append.
#[derive(Debug)]
pub(crate) enum Refused {
    Closed,
    /// With the bytes that wait.
    Busy(usize),
}

impl Queue {
    /// Adds the records of one append to the last batch, or to a new one if that has `batch_bytes_max`.
    pub(crate) fn push(
        &self,
        records: Vec<Bytes>,
        queue_bytes_max: usize,
        batch_bytes_max: usize,
    ) -> Result<Appending, Refused> {
        let bytes = queued_bytes(&records);
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(Refused::Closed);
        }
        if waiting.bytes + bytes > queue_bytes_max {
            return Err(Refused::Busy(waiting.bytes));
        }
        waiting.bytes += bytes;
        let count = records.len();
        let batch = match waiting.batches.back_mut() {
            Some(batch) if batch.bytes + bytes <= batch_bytes_max => batch,
            _ => {
                waiting.batches.push_back(Batch {
                    records: Vec::new(),
                    bytes: 0,
                    done: Arc::default(),
                });
                waiting.batches.back_mut().expect("one was pushed")
            }
        };
        let index = batch.records.len();
        batch.bytes += bytes;
        batch.records.extend(records);
        let appending = Appending { done: Arc::clone(&batch.done), index, count, slot: None };
        let wake = std::mem::take(&mut waiting.writer_sleeps);
        drop(waiting);
        if wake {
            self.filled.notify_one();
        }
        Ok(appending)
    }

    /// The next batch, as soon as there is one; `None` when the queue is closed and empty.
    pub(crate) fn take(&self) -> Option<Batch> {
        let mut waiting = self.lock();
        loop {
            if let Some(batch) = waiting.batches.pop_front() {
                return Some(batch);
            }
            if waiting.closed {
                return None;
            }
            waiting.writer_sleeps = true;
            waiting = self.filled.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Gives the room of a taken batch to others.
    pub(crate) fn release(&self, bytes: usize) {
        self.lock().bytes -= bytes;
    }

    /// What waits, the batch that the writer has in hand included.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // No panic can happen between two changes that belong together.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The common answer to all appends of a batch.
#[derive(Debug, Default)]
pub(crate) struct Done {
    state: Mutex<DoneState>,
}

#[derive(Debug, Default)]
struct DoneState {
    /// The offset of the batch's first record.
    result: Option<Result<u64, Error>>,
    wakers: Vec<Waker>,
}

impl Done {
    /// Answers all appends. Only the first answer counts.
    pub(crate) fn set(&self, result: Result<u64, Error>) {
        let mut state = self.lock();
        if state.result.is_none() {
            state.result = Some(result);
        }
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        for waker in wakers {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, DoneState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An append that waits for its batch.
#[derive(Debug)]
pub(crate) struct Appending {
    done: Arc<Done>,
    /// The place of the first record in the batch.
    index: usize,
    count: usize,
    /// Where this future's waker lies among those of the batch.
    slot: Option<usize>,
}

impl Future for Appending {
    type Output = Result<Appended, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let done = Arc::clone(&self.done);
        let mut state = done.lock();
        match &state.result {
            Some(Ok(first)) => Poll::Ready(Ok(appended(first + self.index as u64, self.count))),
            Some(Err(error)) => Poll::Ready(Err(error.clone())),
            None => {
                match self.slot {
                    Some(slot) => state.wakers[slot].clone_from(context.waker()),
                    None => {
                        self.slot = Some(state.wakers.len());
                        state.wakers.push(context.waker().clone());
                    }
                }
                Poll::Pending
            }
        }
    }
}

/// What records take of a queue's bound: their bytes in the segment, so that tiny ones do not pass for nothing.
pub(crate) fn queued_bytes(records: &[Bytes]) -> usize {
    records.iter().map(|record| entry::stored_bytes(record.len()) as usize).sum()
}

/// The place of `count` records of which the first has the offset `first`.
pub(crate) fn appended(first: u64, count: usize) -> Appended {
    let next = first + count as u64;
    Appended {
        first: Offset::from_number(first),
        last: Offset::from_number(next - 1),
        next: Offset::from_number(next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use futures::executor::block_on;

    fn record(length: usize) -> Vec<Bytes> {
        vec![Bytes::from(vec![1; length])]
    }

    #[test]
    fn appends_share_a_batch_up_to_its_bound() {
        let queue = Queue::default();
        let mut first = queue.push(record(40), 1000, 160).unwrap();
        let second = queue.push(record(60), 1000, 160).unwrap();
        let third = queue.push(record(1), 1000, 160).unwrap();
        assert!((&mut first).now_or_never().is_none());
        let batch = queue.take().unwrap();
        assert_eq!((batch.records.len(), batch.bytes), (2, 160));
        batch.done.set(Ok(7));
        assert_eq!(block_on(first).unwrap(), appended(7, 1));
        assert_eq!(block_on(second).unwrap(), appended(8, 1));
        queue.take().unwrap().done.set(Err(Error::Closed { stream: "raw".to_owned() }));
        assert!(block_on(third).is_err());
    }

    #[test]
    fn a_full_queue_refuses_until_a_batch_is_released() {
        let queue = Queue::default();
        let _waits = queue.push(record(80), 150, 150).unwrap();
        assert!(matches!(queue.push(record(21), 150, 150), Err(Refused::Busy(112))));
        let batch = queue.take().unwrap();
        assert!(matches!(queue.push(record(21), 150, 150), Err(Refused::Busy(112))));
        queue.release(batch.bytes);
        let _waits = queue.push(record(21), 150, 150).unwrap();
    }

    #[test]
    fn a_closed_queue_gives_what_it_has_and_takes_nothing() {
        let queue = Queue::default();
        let _waits = queue.push(record(1), 100, 100).unwrap();
        queue.close();
        assert!(matches!(queue.push(record(1), 100, 100), Err(Refused::Closed)));
        assert!(queue.take().is_some());
        assert!(queue.take().is_none());
    }
}
