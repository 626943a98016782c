//! A sink that follows a script: for tests of everything above a sink. It never touches a network, and it remembers
//! when it was sent what.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::time::Instant;

use super::{Answer, Entry, Failure, Limits, Refused, Sink};

/// What becomes of one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// All of it is taken.
    Take,
    /// All of it but these places.
    Refuse(Vec<usize>),
    /// Nothing is taken, and there is an error.
    Fail,
    /// All of it is taken, but the answer gets lost.
    TakeAndFail,
    /// There is never an answer.
    Hang,
}

/// One call of [`Sink::send`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub at: Instant,
    pub records: Vec<Bytes>,
}

/// See the module. Clones share everything.
#[derive(Clone)]
pub struct Scripted {
    name: Arc<str>,
    limits: Limits,
    state: Arc<Mutex<State>>,
}

type Script = Box<dyn FnMut(&[Entry]) -> Reply + Send>;

struct State {
    script: Script,
    answers_probes: bool,
    attempts: Vec<Attempt>,
    taken: Vec<Bytes>,
}

impl Scripted {
    /// A sink that takes everything.
    pub fn new(name: &str) -> Scripted {
        let limits =
            Limits { record_bytes_max: 1 << 20, batch_records_max: 500, batch_bytes_max: 5 << 20 };
        let state = State {
            script: Box::new(|_| Reply::Take),
            answers_probes: true,
            attempts: Vec::new(),
            taken: Vec::new(),
        };
        Scripted { name: name.into(), limits, state: Arc::new(Mutex::new(state)) }
    }

    /// Like the real service before its stream exists: nothing is taken, and no probe answered.
    pub fn missing(name: &str) -> Scripted {
        let sink = Scripted::new(name);
        sink.set(false, |_| Reply::Fail);
        sink
    }

    /// From now on `script` answers, and probes succeed or not.
    pub fn set(
        &self,
        answers_probes: bool,
        script: impl FnMut(&[Entry]) -> Reply + Send + 'static,
    ) {
        let mut state = self.lock();
        state.answers_probes = answers_probes;
        state.script = Box::new(script);
    }

    /// From now on it takes everything.
    pub fn recover(&self) {
        self.set(true, |_| Reply::Take);
    }

    /// Every batch it was sent, in order.
    pub fn attempts(&self) -> Vec<Attempt> {
        self.lock().attempts.clone()
    }

    /// Every record it took, in order; one that it took twice is there twice.
    pub fn taken(&self) -> Vec<Bytes> {
        self.lock().taken.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripted").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Sink for Scripted {
    fn name(&self) -> &str {
        &self.name
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn send<'a>(&'a self, batch: &'a [Entry]) -> Answer<'a, Vec<Refused>> {
        let mut state = self.lock();
        let records: Vec<Bytes> = batch.iter().map(|entry| entry.bytes.clone()).collect();
        state.attempts.push(Attempt { at: Instant::now(), records: records.clone() });
        let reply = (state.script)(batch);
        let refused = match &reply {
            Reply::Take | Reply::TakeAndFail => Vec::new(),
            Reply::Refuse(places) => places.clone(),
            Reply::Fail | Reply::Hang => (0..batch.len()).collect(),
        };
        let taken = records.into_iter().enumerate().filter(|(place, _)| !refused.contains(place));
        state.taken.extend(taken.map(|(_, record)| record));
        drop(state);
        let reason = || "as the script says".to_owned();
        Box::pin(async move {
            match reply {
                Reply::Take | Reply::Refuse(_) => Ok(refused
                    .into_iter()
                    .map(|index| Refused { index, reason: reason() })
                    .collect()),
                Reply::Fail | Reply::TakeAndFail => Err(Failure(reason())),
                Reply::Hang => std::future::pending().await,
            }
        })
    }

    fn probe(&self) -> Answer<'_, ()> {
        let answers = self.lock().answers_probes;
        let answer = if answers { Ok(()) } else { Err(Failure("not there".to_owned())) };
        Box::pin(std::future::ready(answer))
    }
}
