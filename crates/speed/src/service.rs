//! The speed layer as threads, one per partition: load what is written, enrich what is new, load it, wait for more.
//!
//! Started by the binary. Orders (another recipe, a later cut, what may be forgotten) are left with [`Running`] and obeyed
//! by each thread before its next batch. One thread does both halves of a partition, so a range is visible as soon as it
//! is written, and a range that got lost on the way is noticed when both have nothing to do: it is enriched again. What
//! fails is tried again after a pause and shown in the [`Status`] until then; nothing here ends a thread but its panic.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use assets::Driver;
use model::causes::Causes;
use model::cut::{Cut, Frontier};
use model::position::{Offset, Partition};
use model::time::Clock;
use stream::Stream;
use views::realtime::RealtimeView;

use crate::enricher::{PartitionEnricher, Progress, Streams, Tally};
use crate::loader::PartitionLoader;
use crate::{Config, Error};

/// How long a thread that has nothing to do waits for the raw stream before it looks for orders.
const IDLE_WAIT: Duration = Duration::from_millis(100);

/// How long a thread waits after a failure, and before it enriches again what got lost. Doubles with each further one,
/// up to [`RETRY_PAUSE_MAX`]: an order is obeyed no later than that.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(3);

/// What the speed layer works on.
#[derive(Clone, Debug)]
pub struct Ports {
    pub streams: Streams,
    pub realtime: Arc<RealtimeView>,
    pub clock: Arc<dyn Clock>,
}

/// Starts the speed layer; see [`Speed::start`].
#[derive(Debug)]
pub struct Speed;

impl Speed {
    /// Starts a thread per partition. `recipe` is the one in force from `cut` on: the `next_recipe` and the cut of the
    /// served manifest. Damaged or missing derived data is made again, whatever it takes; [`Running::ready`] says when.
    ///
    /// # Errors
    /// When the streams have not the same number of partitions, the raw stream's ends cannot be read, or a thread cannot
    /// be started.
    pub fn start(
        ports: Ports,
        recipe: impl Into<Driver>,
        cut: Cut,
        config: Config,
    ) -> Result<Running, Error> {
        ports.streams.partitions()?;
        let recipe = recipe.into();
        let ends_at_start = raw_ends(&*ports.streams.raw)?;
        let partitions = ports.streams.raw.partitions().iter();
        let states = partitions.map(|_| Mutex::new(State::new())).collect();
        let orders = Orders { number: 1, recipe, switched_at: 1, cut, forget: Cut::default() };
        let shared = Arc::new(Shared {
            ports,
            config,
            orders: Mutex::new(orders),
            states,
            stop: Mutex::new(false),
            stopped: Condvar::new(),
        });
        let mut running =
            Running { shared: Arc::clone(&shared), ends_at_start, threads: Vec::new() };
        for (index, raw) in shared.ports.streams.raw.partitions().iter().enumerate() {
            let worker = Worker::new(Arc::clone(&shared), index, raw.clone());
            let name = format!("speed {raw}");
            let thread = std::thread::Builder::new().name(name).spawn(move || worker.run());
            let failed = |source| Error::Thread { partition: raw.clone(), source };
            running.threads.push(thread.map_err(failed)?);
        }
        Ok(running)
    }
}

/// The speed layer while it runs. Dropping it stops it.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    ends_at_start: Cut,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    /// Whether all that the raw stream held when this was started is visible.
    pub fn ready(&self) -> bool {
        self.caught_up(&self.ends_at_start)
    }

    /// Whether everything below `ends` is in the real-time view of the recipe in force, or below its cut.
    pub fn caught_up(&self, ends: &Cut) -> bool {
        let switched_at = self.shared.orders().switched_at;
        let current = (0..self.shared.states.len())
            .all(|index| self.shared.state(index).obeyed >= switched_at);
        current && self.frontier().is_at_or_beyond(ends)
    }

    /// For each partition the first position that is not visible.
    pub fn frontier(&self) -> Frontier {
        let partitions = self.shared.ports.streams.raw.partitions().iter().enumerate();
        partitions.map(|(index, raw)| (raw.clone(), self.shared.state(index).visible_to)).collect()
    }

    /// Goes over to another recipe from `cut` on. Rows of the recipe before stay in the real-time view, at the frontier
    /// that they have reached, until [`RealtimeView::forget`]. To be called once the iteration that names the recipe is
    /// committed; `caught_up` then speaks of the new recipe.
    pub fn switch(&self, recipe: impl Into<Driver>, cut: &Cut) {
        let mut orders = self.shared.orders();
        orders.number += 1;
        orders.switched_at = orders.number;
        orders.recipe = recipe.into();
        orders.cut = cut.clone();
    }

    /// Takes note of a later cut of the recipe in force. To be called when the iteration with this cut is *served*: what
    /// lies between the frontier and that cut is then skipped.
    pub fn raise(&self, cut: &Cut) {
        let mut orders = self.shared.orders();
        orders.number += 1;
        orders.cut = orders.cut.join(cut);
    }

    /// Lets the derived streams forget what lies below the cut of the oldest iteration in use.
    pub fn forget(&self, below: &Cut) {
        let mut orders = self.shared.orders();
        orders.number += 1;
        orders.forget = orders.forget.join(below);
    }

    /// Where everything stands.
    pub fn status(&self) -> Status {
        let raw = &self.shared.ports.streams.raw;
        let partition = |(index, partition): (usize, &Partition)| {
            let state = self.shared.state(index).clone();
            PartitionStatus {
                partition: partition.clone(),
                written_to: state.written_to,
                visible_to: state.visible_to,
                raw_end: raw.end(partition).unwrap_or(state.written_to),
                stalled: state.stalled,
                waits: state.waits,
                rewinds: state.rewinds,
                tally: state.tally,
            }
        };
        let partitions = raw.partitions().iter().enumerate().map(partition).collect();
        Status { recipe: self.shared.orders().recipe.recipe().digest().to_owned(), partitions }
    }

    /// Ends the threads after the batch that each has in hand. What is not enriched yet lies in the raw stream.
    pub fn shutdown(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        *lock(&self.shared.stop) = true;
        self.shared.stopped.notify_all();
        for thread in self.threads.drain(..) {
            // A panic was shown in the status and printed by its hook.
            let _ = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Where the speed layer stands.
#[derive(Clone, Debug)]
pub struct Status {
    /// The digest of the recipe in force.
    pub recipe: String,
    /// In the order of the raw stream's partitions.
    pub partitions: Vec<PartitionStatus>,
}

/// Where one partition stands. `visible_to ≤ written_to ≤ raw_end` when nothing is moving.
#[derive(Clone, Debug)]
pub struct PartitionStatus {
    pub partition: Partition,
    /// The first position that is not in all derived streams.
    pub written_to: Offset,
    /// The first position that is not visible.
    pub visible_to: Offset,
    pub raw_end: Offset,
    /// Why nothing moves, if something is in the way.
    pub stalled: Option<String>,
    /// Whether that is a registry that gives no answer.
    pub waits: bool,
    /// How often ranges got lost in the derived streams and were enriched again.
    pub rewinds: u64,
    /// What was enriched since the start; ranges that were enriched again count again.
    pub tally: Tally,
}

impl Status {
    /// The sum over all partitions.
    pub fn tally(&self) -> Tally {
        let mut sum = Tally::default();
        self.partitions.iter().for_each(|partition| sum.join(&partition.tally));
        sum
    }

    /// Partitions that wait for a registry.
    pub fn waiting(&self) -> usize {
        self.partitions.iter().filter(|partition| partition.waits).count()
    }

    /// What is in the way of the first partition that is held up.
    pub fn stalled(&self) -> Option<&str> {
        self.partitions.iter().find_map(|partition| partition.stalled.as_deref())
    }
}

/// For each partition the first offset that is not yet readable.
///
/// # Errors
/// When the stream does not know.
pub fn raw_ends(raw: &dyn Stream) -> Result<Cut, Error> {
    let ends = raw.partitions().iter().map(|p| Ok((p.clone(), raw.end(p)?)));
    ends.collect::<Result<Cut, Error>>()
}

#[derive(Debug)]
struct Shared {
    ports: Ports,
    config: Config,
    orders: Mutex<Orders>,
    /// One per partition.
    states: Vec<Mutex<State>>,
    stop: Mutex<bool>,
    stopped: Condvar,
}

/// What the threads are to do, and the number of the newest order.
#[derive(Clone, Debug)]
struct Orders {
    number: u64,
    recipe: Driver,
    /// The order that named the recipe.
    switched_at: u64,
    cut: Cut,
    forget: Cut,
}

/// What a thread has reached.
#[derive(Clone, Debug)]
struct State {
    /// The newest order that is obeyed.
    obeyed: u64,
    written_to: Offset,
    visible_to: Offset,
    stalled: Option<String>,
    waits: bool,
    rewinds: u64,
    tally: Tally,
}

impl State {
    fn new() -> State {
        State {
            obeyed: 0,
            written_to: Offset::BEGINNING,
            visible_to: Offset::BEGINNING,
            stalled: None,
            waits: false,
            rewinds: 0,
            tally: Tally::default(),
        }
    }
}

impl Shared {
    fn orders(&self) -> MutexGuard<'_, Orders> {
        lock(&self.orders)
    }

    fn state(&self, index: usize) -> MutexGuard<'_, State> {
        lock(&self.states[index])
    }

    fn stopping(&self) -> bool {
        *lock(&self.stop)
    }

    /// Waits, but not beyond the order to stop.
    fn pause(&self, at_most: Duration) {
        let stop = lock(&self.stop);
        // Whether it was the time or the order, the caller looks at the order next.
        drop(self.stopped.wait_timeout_while(stop, at_most, |stop| !*stop));
    }
}

/// A panic cannot leave these values half changed: each is replaced or added to in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread of one partition.
struct Worker {
    shared: Arc<Shared>,
    index: usize,
    raw: Partition,
    obeyed: u64,
    /// The newest cut below which the derived streams may forget.
    forget: Cut,
    halves: Option<Halves>,
}

/// The two halves of the speed layer, with one recipe.
struct Halves {
    recipe: u64,
    enricher: PartitionEnricher,
    loader: PartitionLoader,
}

/// What a turn came to.
enum Turn {
    Moved,
    Idle,
    Held(String),
    /// A registry gives no answer.
    Waits(String),
}

impl Worker {
    fn new(shared: Arc<Shared>, index: usize, raw: Partition) -> Worker {
        Worker { shared, index, raw, obeyed: 0, forget: Cut::default(), halves: None }
    }

    fn run(mut self) {
        let mut pause = RETRY_PAUSE;
        while !self.shared.stopping() {
            let turn = self.turn().unwrap_or_else(|error| match error.waits() {
                true => Turn::Waits(Causes(&error).to_string()),
                false => Turn::Held(Causes(&error).to_string()),
            });
            let waits = matches!(turn, Turn::Waits(_));
            match turn {
                Turn::Moved => {
                    self.publish(None, waits);
                    pause = RETRY_PAUSE;
                }
                Turn::Idle => {
                    self.publish(None, waits);
                    pause = RETRY_PAUSE;
                    self.wait();
                }
                Turn::Held(reason) | Turn::Waits(reason) => {
                    self.publish(Some(reason), waits);
                    self.shared.pause(pause);
                    pause = (pause * 2).min(RETRY_PAUSE_MAX);
                }
            }
        }
    }

    fn turn(&mut self) -> Result<Turn, Error> {
        self.obey()?;
        let Some(Halves { enricher, loader, .. }) = &mut self.halves else { return Ok(Turn::Idle) };
        // What is written becomes visible before more is written.
        if loader.step()? == Progress::Moved {
            loader.forget(&self.forget, self.shared.config.retention_bytes)?;
            return Ok(Turn::Moved);
        }
        match enricher.step()? {
            Progress::Moved => return Ok(Turn::Moved),
            Progress::Stalled { partition: _, reason } => return Ok(Turn::Held(reason)),
            Progress::Idle => {}
        }
        // Both have nothing to do: the loader has read all that the enricher wrote.
        let visible_to = loader.frontier().of(&self.raw);
        if visible_to >= enricher.position() {
            return Ok(Turn::Idle);
        }
        enricher.rewind(loader.frontier());
        self.shared.state(self.index).rewinds += 1;
        Ok(Turn::Held(format!(
            "entries of the derived streams from {visible_to} of `{}` on got lost; enriching them again",
            self.raw
        )))
    }

    /// Carries out what was ordered since the last turn.
    fn obey(&mut self) -> Result<(), Error> {
        let orders = self.shared.orders().clone();
        if orders.number == self.obeyed {
            return Ok(());
        }
        match &mut self.halves {
            Some(halves) if halves.recipe == orders.switched_at => {
                halves.enricher.raise(&orders.cut);
                halves.loader.raise(&orders.cut);
            }
            Some(_) | None => self.halves = Some(self.open(&orders)?),
        }
        self.obeyed = orders.number;
        self.forget = orders.forget;
        match &mut self.halves {
            Some(halves) => halves.loader.forget(&self.forget, self.shared.config.retention_bytes),
            None => Ok(()),
        }
    }

    fn open(&self, orders: &Orders) -> Result<Halves, Error> {
        let Ports { streams, realtime, clock } = &self.shared.ports;
        let (recipe, config) = (orders.recipe.clone(), self.shared.config.clone());
        let (digest, schemas) = (recipe.recipe().digest().to_owned(), recipe.clone());
        let enricher = match &self.halves {
            Some(before) => before.enricher.switched(recipe, &orders.cut)?,
            None => {
                let clock = Arc::clone(clock);
                PartitionEnricher::open(streams, self.index, recipe, &orders.cut, clock, config)?
            }
        };
        let (realtime, base) = (Arc::clone(realtime), orders.cut.clone());
        let loader =
            PartitionLoader::open(&streams.derived, self.index, realtime, digest, schemas, base)?;
        Ok(Halves { recipe: orders.switched_at, enricher, loader })
    }

    fn wait(&self) {
        match &self.halves {
            Some(halves) => {
                let position = halves.enricher.position();
                self.shared.ports.streams.raw.wait(&self.raw, position, IDLE_WAIT);
            }
            None => self.shared.pause(IDLE_WAIT),
        }
    }

    fn publish(&self, stalled: Option<String>, waits: bool) {
        let mut state = self.shared.state(self.index);
        if let Some(reason) = &stalled
            && state.stalled.as_ref() != Some(reason)
        {
            tracing::warn!(partition = %self.raw, offset = %state.visible_to, reason, "the speed layer is held up");
        }
        state.stalled = stalled;
        state.waits = waits;
        state.obeyed = self.obeyed;
        if let Some(halves) = &self.halves {
            state.written_to = halves.enricher.position();
            state.visible_to = halves.loader.frontier().of(&self.raw);
            state.tally.clone_from(halves.enricher.tally());
        }
    }
}

/// A thread that panics says so in the status; the other partitions go on.
impl Drop for Worker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let reason = format!("the thread of `{}` panicked; see the log, and restart", self.raw);
            self.shared.state(self.index).stalled = Some(reason);
        }
    }
}
