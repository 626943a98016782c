//! Brings records to a sink: gathers them, sends batches side by side, sends again what was not taken, and at the end
//! sends until a deadline.
//!
//! Made by [`super::store`], one for each sink. Records are in memory here; what a kill must not lose lies in a spool
//! or was not acknowledged yet. Memory is bounded by [`Settings::bytes_max`]; beyond it nothing is taken.
//! Time is tokio's, so that a test with a paused clock sees the very delays.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use model::time::{Clock, Timestamp};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::backoff::{Backoff, Random};
use super::buffer::{Bounds, Buffer};
use super::health::Health;
use super::retry::{Next, Retry};
use super::stats::Stats;
use super::{Entry, Failure, Refused, Sink};

/// How long a sink may take to answer; then the attempt has failed, or a local sink is not healthy.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a sink is looked at that may be gone, at the end of the process.
const GONE_INTERVAL: Duration = Duration::from_millis(100);

/// The longest wait between attempts while the process is ending.
const DRAINING_WAIT: Duration = Duration::from_secs(1);

/// How records are brought to one sink.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) bounds: Bounds,
    pub(crate) backoff: Backoff,
    pub(crate) retries: u32,
    /// How many batches may be on their way, waiting ones included.
    pub(crate) batches_max: usize,
    /// What may be in memory.
    pub(crate) bytes_max: usize,
    /// How often an unhealthy sink is asked.
    pub(crate) probe_interval: Duration,
}

/// See the module. Dropping it gives up what it holds.
#[derive(Debug)]
pub(crate) struct Delivery {
    inner: Arc<Inner>,
    tasks: [JoinHandle<()>; 2],
}

#[derive(Debug)]
struct Inner {
    sink: Arc<dyn Sink>,
    settings: Settings,
    clock: Arc<dyn Clock>,
    random: Random,
    stats: Arc<Stats>,
    health: Health,
    state: Mutex<State>,
    /// There is a batch, or the time of the next flush has changed.
    changed: Notify,
    /// There is more room than before.
    freed: Notify,
    batches: Arc<Semaphore>,
    draining: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    buffer: Buffer<Held>,
    /// Full batches that wait for their turn.
    full: VecDeque<Vec<Held>>,
    /// Everything that is not confirmed: in the buffer, waiting, on its way.
    records: usize,
    bytes: usize,
    /// How many of those records came when.
    arrivals: BTreeMap<Timestamp, usize>,
    closed: bool,
}

#[derive(Debug)]
struct Held {
    entry: Entry,
    ticket: Ticket,
}

/// What goes with a record until it is confirmed.
#[derive(Clone, Debug)]
struct Ticket {
    request: Option<Arc<Request>>,
    arrived: Timestamp,
}

/// Somebody waits for all records of a request, or of a chunk of the spool.
#[derive(Debug)]
struct Request {
    left: AtomicUsize,
    done: Mutex<Option<oneshot::Sender<()>>>,
}

/// Ready when the sink has confirmed every record.
#[derive(Debug)]
pub(crate) struct Confirmed(oneshot::Receiver<()>);

/// Why records were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// Too much waits already.
    Full,
    /// The process is ending.
    Closed,
}

impl Delivery {
    /// Starts with a sink that is not healthy until it answers; a local one is until it does not.
    pub(crate) fn start(
        sink: Arc<dyn Sink>,
        settings: Settings,
        clock: Arc<dyn Clock>,
        random: Random,
        runtime: &Handle,
    ) -> Delivery {
        let _entered = runtime.enter();
        let state = State {
            buffer: Buffer::new(settings.bounds, Instant::now()),
            full: VecDeque::new(),
            records: 0,
            bytes: 0,
            arrivals: BTreeMap::new(),
            closed: false,
        };
        let health = if sink.is_local() { Health::good() } else { Health::default() };
        let inner = Arc::new(Inner {
            sink,
            settings,
            clock,
            random,
            stats: Arc::default(),
            health,
            state: Mutex::new(state),
            changed: Notify::new(),
            freed: Notify::new(),
            batches: Arc::new(Semaphore::new(settings.batches_max)),
            draining: watch::Sender::new(false),
        });
        let tasks = [
            runtime.spawn(Arc::clone(&inner).send_batches()),
            runtime.spawn(Arc::clone(&inner).probe()),
        ];
        Delivery { inner, tasks }
    }

    /// Takes the records of one request; nobody waits for them.
    pub(crate) fn take(&self, entries: Vec<Entry>) -> Result<(), NotTaken> {
        self.inner.take(entries, None)
    }

    /// Takes the records of one request, and tells when they are confirmed.
    pub(crate) fn take_and_confirm(&self, entries: Vec<Entry>) -> Result<Confirmed, NotTaken> {
        let (done, confirmed) = oneshot::channel();
        let left = AtomicUsize::new(entries.len());
        let request = Request { left, done: Mutex::new(Some(done)) };
        self.inner.take(entries, Some(Arc::new(request)))?;
        Ok(Confirmed(confirmed))
    }

    /// As [`Delivery::take_and_confirm`], but waits for room; `None` when the process is ending.
    pub(crate) async fn take_when_there_is_room(&self, entries: Vec<Entry>) -> Option<Confirmed> {
        loop {
            let freed = self.inner.freed.notified();
            match self.take_and_confirm(entries.clone()) {
                Ok(confirmed) => return Some(confirmed),
                Err(NotTaken::Closed) => return None,
                Err(NotTaken::Full) => freed.await,
            }
        }
    }

    /// Sends what waits in the buffer without waiting for its time.
    pub(crate) fn flush(&self) {
        let mut state = self.inner.lock();
        let batch = state.buffer.flush(Instant::now());
        state.full.extend(batch);
        drop(state);
        self.inner.changed.notify_one();
    }

    /// From now on waits between attempts are short, since the process is ending.
    pub(crate) fn hurry(&self) {
        self.inner.draining.send_replace(true);
        self.flush();
    }

    pub(crate) fn health(&self) -> &Health {
        &self.inner.health
    }

    pub(crate) fn stats(&self) -> &Arc<Stats> {
        &self.inner.stats
    }

    /// Takes nothing more, sends what it has, and sends again until `by`. How many records are left.
    pub(crate) async fn drain(&self, by: Instant) -> usize {
        self.inner.lock().closed = true;
        self.hurry();
        self.inner.freed.notify_waiters();
        let over = async {
            tokio::select! {
                () = tokio::time::sleep_until(by) => {}
                () = self.gone() => {}
            }
        };
        let mut over = std::pin::pin!(over);
        loop {
            let freed = self.inner.freed.notified();
            let left = self.inner.lock().records;
            let is_over = left == 0
                || tokio::select! {
                    biased;
                    () = freed => false,
                    () = &mut over => true,
                };
            if is_over {
                self.tasks.iter().for_each(JoinHandle::abort);
                return left;
            }
        }
    }

    /// Ends when the sink is gone for good.
    pub(crate) async fn gone(&self) {
        while !self.inner.sink.is_gone() {
            tokio::time::sleep(GONE_INTERVAL).await;
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Inner {
    fn take(&self, entries: Vec<Entry>, request: Option<Arc<Request>>) -> Result<(), NotTaken> {
        let bytes: usize = entries.iter().map(Entry::len).sum();
        let ticket = Ticket { request, arrived: self.clock.now() };
        let mut state = self.lock();
        if state.closed {
            return Err(NotTaken::Closed);
        }
        // One request is always taken by an empty buffer: otherwise it never would be.
        if state.records > 0 && state.bytes + bytes > self.settings.bytes_max {
            return Err(NotTaken::Full);
        }
        state.records += entries.len();
        state.bytes += bytes;
        *state.arrivals.entry(ticket.arrived).or_default() += entries.len();
        self.tell(&state);
        let was_idle = state.buffer.due_at().is_none();
        let held = entries.into_iter().map(|entry| {
            let bytes = entry.len();
            (Held { entry, ticket: ticket.clone() }, bytes)
        });
        let full = state.buffer.push(held.collect(), Instant::now());
        let wake = was_idle || !full.is_empty();
        state.full.extend(full);
        drop(state);
        if wake {
            self.changed.notify_one();
        }
        Ok(())
    }

    async fn send_batches(self: Arc<Inner>) {
        let mut on_their_way = JoinSet::new();
        loop {
            while on_their_way.try_join_next().is_some() {}
            let (batch, due_at) = self.next_batch();
            if let Some(batch) = batch {
                let turn = Arc::clone(&self.batches).acquire_owned();
                let turn = turn.await.expect("the semaphore is never closed");
                let inner = Arc::clone(&self);
                on_their_way.spawn(async move {
                    inner.deliver(batch).await;
                    drop(turn);
                });
                continue;
            }
            let changed = self.changed.notified();
            match due_at {
                // Whichever comes first, there is something to look at.
                Some(at) => drop(tokio::time::timeout_at(at, changed).await),
                None => changed.await,
            }
        }
    }

    fn next_batch(&self) -> (Option<Vec<Held>>, Option<Instant>) {
        let mut state = self.lock();
        let state = &mut *state;
        let batch = state.full.pop_front().or_else(|| state.buffer.flush_if_due(Instant::now()));
        (batch, state.buffer.due_at())
    }

    /// Sends a batch until nothing of it is left, or the sink is gone.
    async fn deliver(&self, batch: Vec<Held>) {
        let mut retry = Retry::new(self.settings.backoff, self.settings.retries);
        let mut draining = self.draining.subscribe();
        let (mut entries, mut tickets): (Vec<Entry>, Vec<Ticket>) =
            batch.into_iter().map(|held| (held.entry, held.ticket)).unzip();
        loop {
            let failure = self.attempt(&mut entries, &mut tickets).await;
            if entries.is_empty() {
                return;
            }
            self.stats.not_taken(entries.len());
            if self.sink.is_gone() {
                // Whoever waits for these hears at once that they were not taken.
                return;
            }
            let recovered = self.health.recovered();
            match retry.failed(self.random.draw()) {
                Next::After(wait) => {
                    tracing::info!(
                        sink = self.sink.name(),
                        records = entries.len(),
                        wait_ms = wait.as_millis() as u64,
                        error = failure,
                        "records are sent again"
                    );
                    self.pause(wait, recovered, &mut draining).await;
                }
                Next::Unhealthy => {
                    if self.health.down() {
                        tracing::warn!(
                            sink = self.sink.name(),
                            error = failure,
                            "the sink is unhealthy; its records wait"
                        );
                    }
                }
            }
        }
    }

    /// Sends once, and keeps what was not taken. Why, if there is any.
    async fn attempt(&self, entries: &mut Vec<Entry>, tickets: &mut Vec<Ticket>) -> String {
        let begun = Instant::now();
        let answer = self.answer(entries).await;
        self.stats.attempts.add(begun.elapsed());
        let refused = match answer {
            Ok(refused) => refused,
            Err(Failure(reason)) => return reason,
        };
        if self.health.up() {
            tracing::info!(sink = self.sink.name(), "the sink is healthy");
        }
        let mut is_refused = vec![false; entries.len()];
        let mut reason = String::new();
        for refused in refused {
            is_refused[refused.index] = true;
            reason = refused.reason;
        }
        let (mut records, mut bytes) = (0, 0);
        let mut arrivals: BTreeMap<Timestamp, usize> = BTreeMap::new();
        for ((entry, ticket), _) in
            entries.iter().zip(tickets.iter()).zip(&is_refused).filter(|(_, refused)| !**refused)
        {
            records += 1;
            bytes += entry.len();
            *arrivals.entry(ticket.arrived).or_default() += 1;
            ticket.request.iter().for_each(|request| request.confirm());
        }
        let mut keep = is_refused.iter().copied();
        entries.retain(|_| keep.next().unwrap_or(true));
        let mut keep = is_refused.iter().copied();
        tickets.retain(|_| keep.next().unwrap_or(true));
        if records > 0 {
            self.stats.confirmed(records, bytes, self.clock.now());
            let mut state = self.lock();
            state.records -= records;
            state.bytes -= bytes;
            state.leave(arrivals);
            self.tell(&state);
            drop(state);
            self.freed.notify_waiters();
        }
        reason
    }

    async fn answer(&self, entries: &[Entry]) -> Result<Vec<Refused>, Failure> {
        let mut answer = self.sink.send(entries);
        loop {
            let seconds = ANSWER_TIMEOUT.as_secs();
            match tokio::time::timeout(ANSWER_TIMEOUT, &mut answer).await {
                Ok(answer) => return answer,
                Err(_) if self.sink.is_local() => {
                    if self.health.down() {
                        let sink = self.sink.name();
                        tracing::warn!(sink, seconds, "the sink does not answer; its records wait");
                    }
                }
                Err(_) => return Err(Failure(format!("no answer within {seconds} s"))),
            }
        }
    }

    /// Waits before the next attempt: not longer than the sink is away, and not long at the end of the process.
    async fn pause(
        &self,
        wait: Duration,
        recovered: impl Future<Output = ()>,
        draining: &mut watch::Receiver<bool>,
    ) {
        let at_the_end = *draining.borrow_and_update();
        let wait = if at_the_end { wait.min(DRAINING_WAIT) } else { wait };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = recovered => {}
            Ok(()) = draining.changed() => {}
        }
    }

    /// Asks an unhealthy sink again and again, so that records do not wait out a long delay when it is back.
    async fn probe(self: Arc<Inner>) {
        loop {
            let turned = self.health.turned();
            if self.health.is_healthy() {
                turned.await;
                // It has just failed: ask a little later.
                tokio::time::sleep(self.settings.probe_interval).await;
                continue;
            }
            let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.sink.probe()).await;
            if let Ok(Ok(())) = answer {
                if self.health.up() {
                    tracing::info!(sink = self.sink.name(), "the sink is healthy");
                }
            } else {
                tokio::time::sleep(self.settings.probe_interval).await;
            }
        }
    }

    fn tell(&self, state: &State) {
        let oldest = state.arrivals.first_key_value().map(|(arrived, _)| *arrived);
        self.stats.holds(state.records, state.bytes, oldest);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No panic can happen between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes note that records of these times are held no more.
    fn leave(&mut self, arrivals: BTreeMap<Timestamp, usize>) {
        for (arrived, records) in arrivals {
            if let Some(left) = self.arrivals.get_mut(&arrived) {
                *left -= records;
                if *left == 0 {
                    self.arrivals.remove(&arrived);
                }
            }
        }
    }
}

impl Request {
    fn confirm(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            let done = self.done.lock().unwrap_or_else(PoisonError::into_inner).take();
            // Nobody waits any more: the request ran out of time.
            done.map(|done| done.send(()).is_ok());
        }
    }
}

impl Future for Confirmed {
    type Output = Result<(), NotTaken>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // The sender is dropped when the process ends before the sink has answered.
        Poll::Ready(ready!(Pin::new(&mut self.0).poll(context)).map_err(|_| NotTaken::Closed))
    }
}

#[cfg(test)]
mod tests;
