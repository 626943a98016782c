//! Requests that share a compressed record: each waits until the record that holds its payloads is stored. Only with
//! `compression.enabled`; without it every request has records of its own.
//!
//! A request that became several records is not among them: all of its parts lie in one batch of the log, which a shared
//! record could not promise. The first payload opens a record and sets its time; the record is stored when that is over or when it is full. The
//! waiting is a task of its own, so that a client that goes away takes nobody's payload with it.

use crate::config::Compression;
use crate::container::Container;
use crate::sink::store::{Refusal, Storing};
use bytes::Bytes;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// What became of a record.
pub(crate) type Stored = Result<(), Refusal>;

/// Stores records; called once for each closed record, from a task.
pub(crate) type Store = dyn Fn(Vec<Bytes>) -> Storing + Send + Sync;

/// The record that is open now.
pub(crate) struct Batching {
    config: Compression,
    record_bytes_max: usize,
    open: Mutex<Open>,
    store: Box<Store>,
}

#[derive(Default)]
struct Open {
    /// Counts records, so that a timer closes only its own.
    number: u64,
    container: Option<Container>,
    waiting: Vec<oneshot::Sender<Stored>>,
}

impl std::fmt::Debug for Batching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batching").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Batching {
    pub(crate) fn new(
        config: &Compression,
        record_bytes_max: usize,
        store: Box<Store>,
    ) -> Arc<Batching> {
        let (config, open) = (config.clone(), Mutex::default());
        Arc::new(Batching { config, record_bytes_max, open, store })
    }

    /// Adds a payload; the answer comes when its record is stored. To be called within a runtime.
    ///
    /// # Errors
    /// When the compression fails, which only a lack of memory can make it do. Then the record that was open is lost to
    /// all who wait for it, and they see that nobody answers.
    pub(crate) fn add(
        self: &Arc<Batching>,
        payload: &[u8],
    ) -> io::Result<oneshot::Receiver<Stored>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let added = self.put(&mut open, payload);
        if added.is_err() {
            open.container = None;
            open.waiting.clear();
            open.number += 1;
        }
        added
    }

    fn put(
        self: &Arc<Batching>,
        open: &mut Open,
        payload: &[u8],
    ) -> io::Result<oneshot::Receiver<Stored>> {
        let has_room = match &mut open.container {
            Some(container) => container.has_room(payload)?,
            None => false,
        };
        if !has_room {
            self.close(open);
            self.close_in_time(open.number);
        }
        let container = match &mut open.container {
            Some(container) => container,
            None => open.container.insert(Container::new(&self.config, self.record_bytes_max)?),
        };
        container.push(payload)?;
        let (answer, wait) = oneshot::channel();
        open.waiting.push(answer);
        Ok(wait)
    }

    /// Stores the open record, if there is one.
    pub(crate) fn flush(self: &Arc<Batching>) {
        self.close(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn close_in_time(self: &Arc<Batching>, number: u64) {
        let batching = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(batching.config.time_limit).await;
            let mut open = batching.open.lock().unwrap_or_else(PoisonError::into_inner);
            if open.number == number {
                batching.close(&mut open);
            }
        });
    }

    fn close(self: &Arc<Batching>, open: &mut Open) {
        let Some(container) = open.container.take() else { return };
        let waiting = std::mem::take(&mut open.waiting);
        open.number += 1;
        match container.finish() {
            Ok(record) => {
                let append = (self.store)(vec![Bytes::from(record)]);
                tokio::spawn(async move {
                    let stored = append.await;
                    // Who is gone by now is not told.
                    waiting.into_iter().for_each(|answer| drop(answer.send(stored.clone())));
                });
            }
            // Those who wait see that nobody will answer.
            Err(error) => tracing::warn!(%error, "a compressed record could not be finished"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::tests::read;
    use model::position::Offset;
    use model::time::Timestamp;
    use std::time::Duration;
    use stream::Stream;
    use stream::memory::Memory;

    fn batching(raw: &Memory, record_bytes_max: usize) -> Arc<Batching> {
        let raw = raw.clone();
        let store = crate::sink::store::Store::direct(Arc::new(raw));
        let store = move |records| store.store(records, &Bytes::new(), Timestamp(0));
        let config = Compression { enabled: true, ..Compression::default() };
        Batching::new(&config, record_bytes_max, Box::new(store))
    }

    fn stored(raw: &Memory) -> Vec<Vec<Vec<u8>>> {
        let chunk = raw.read(&raw.partitions()[0], Offset::BEGINNING, usize::MAX).unwrap();
        chunk.records.iter().map(|record| read(&record.bytes)).collect()
    }

    fn run<F: Future>(future: F) -> F::Output {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().start_paused(true).build().unwrap().block_on(future)
    }

    async fn answered(wait: oneshot::Receiver<Stored>) {
        wait.await.unwrap().unwrap();
    }

    #[test]
    fn requests_of_one_time_share_a_record_and_are_answered_when_it_is_stored() {
        let raw = Memory::new("raw", 1);
        run(async {
            let batching = batching(&raw, 1_000_000);
            let begin = tokio::time::Instant::now();
            let waits: Vec<_> = (b'0'..=b'9').map(|it| batching.add(&[it]).unwrap()).collect();
            assert_eq!(stored(&raw).len(), 0);
            for wait in waits {
                answered(wait).await;
            }
            assert_eq!(begin.elapsed(), Duration::from_millis(300));
        });
        let expect: Vec<Vec<u8>> = (b'0'..=b'9').map(|it| vec![it]).collect();
        assert_eq!(stored(&raw), [expect]);
    }

    #[test]
    fn a_full_record_is_stored_at_once_and_its_timer_closes_no_other() {
        let raw = Memory::new("raw", 1);
        run(async {
            let batching = batching(&raw, 200);
            let first = batching.add(b"first").unwrap();
            tokio::time::sleep(Duration::from_millis(250)).await;
            // Not to be compressed: bytes that do not repeat.
            let noise: Vec<u8> = (0..150_u8).map(|it| it.wrapping_mul(37)).collect();
            let second = batching.add(&noise).unwrap();
            let begin = tokio::time::Instant::now();
            answered(first).await;
            assert_eq!(begin.elapsed(), Duration::ZERO);
            answered(second).await;
            assert_eq!(begin.elapsed(), Duration::from_millis(300));
        });
        assert_eq!(stored(&raw).len(), 2);
    }

    #[test]
    fn a_client_that_is_gone_takes_nothing_with_it() {
        let raw = Memory::new("raw", 1);
        run(async {
            let batching = batching(&raw, 1_000_000);
            drop(batching.add(b"gone").unwrap());
            let here = batching.add(b"here").unwrap();
            batching.flush();
            answered(here).await;
        });
        assert_eq!(stored(&raw), [[b"gone".to_vec(), b"here".to_vec()]]);
    }
}
