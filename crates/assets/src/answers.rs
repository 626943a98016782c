//! All that is known of what registries answer: in memory, then on disk, then by asking.
//!
//! One for a process, shared by both layers, so that they see the same answers. An answer is a durable fact before it is
//! handed out. Memory is bounded; what falls out of it is read from disk again. Driving a record with it is in
//! [`crate::driver`].

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use enrich::iglu::{Answer, Resolver};
use model::files::Files;
use model::iglu::SchemaKey;

use crate::Error;
use crate::ask::{Ask, Unanswered};
use crate::facts::{Facts, Under};
use crate::look_ups::{LookUp, LookUps};
use crate::resolve::{Said, resolve};

/// Answers in memory where nobody says how many.
pub const IN_MEMORY_DEFAULT: usize = 500;

/// Absences that are remembered, to be asked for again. Beyond them the oldest are left to a rebuild.
const ABSENCES_MAX: usize = 1000;

/// Epochs of which absences are remembered: the one in force, that of a rebuild, and those that were.
const EPOCHS_MAX: usize = 4;

/// Absences that are asked for again at a time.
const ASKED_AGAIN_MAX: usize = 100;

/// Answers by question: found where they are known, asked for where they are not.
#[derive(Debug)]
pub struct Answers {
    /// None: they last as long as this does.
    facts: Option<Facts>,
    /// None: nobody is asked.
    ask: Option<Arc<dyn Ask>>,
    /// Whether the folder is another's, where nothing may be written.
    is_guest: bool,
    in_memory_max: usize,
    memory: Mutex<Memory>,
    /// Questions under way, so that each is asked once however many wait for it.
    under_way: Mutex<HashMap<(Under, SchemaKey), Slot>>,
    asked: Mutex<BTreeMap<(String, Said), u64>>,
    pub(crate) look_ups: LookUps,
    /// Moves the place where a list of questions is begun, so that none is always behind one that fails.
    turn: AtomicUsize,
}

type Slot = Arc<Mutex<Option<Result<Arc<Answer>, Unanswered>>>>;

#[derive(Debug, Default)]
struct Memory {
    answers: HashMap<(Under, SchemaKey), Arc<Answer>>,
    /// What was absent, the oldest first.
    absent: HashMap<Under, VecDeque<SchemaKey>>,
}

/// What there is to tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Facts on disk, and their bytes.
    pub facts: u64,
    pub bytes: u64,
    /// Questions to each registry since the start, by what came of them.
    pub questions: Vec<(String, Said, u64)>,
}

impl Answers {
    /// Keeps facts in a data folder, of which this process is the one owner.
    ///
    /// # Errors
    /// When the facts that are there cannot be counted.
    pub fn open(
        files: Arc<dyn Files>,
        data_dir: &Path,
        ask: Option<Arc<dyn Ask>>,
        in_memory_max: usize,
    ) -> Result<Answers, Error> {
        let look_ups = LookUps::recording(Arc::clone(&files), data_dir);
        let facts = Facts::new(files, data_dir);
        facts.tidy()?;
        Ok(Answers { facts: Some(facts), ask, in_memory_max, look_ups, ..Answers::none() })
    }

    /// Reads the facts of a data folder, and changes nothing there. Nobody is asked.
    pub fn reading(files: Arc<dyn Files>, data_dir: &Path) -> Answers {
        let look_ups = LookUps::reading(Arc::clone(&files), data_dir);
        let facts = Some(Facts::new(files, data_dir));
        Answers { facts, is_guest: true, look_ups, ..Answers::none() }
    }

    /// The same, and asks the world outside what enrichments want to know.
    #[must_use]
    pub fn looking_up(self, ask: Arc<dyn LookUp>) -> Answers {
        Answers { look_ups: self.look_ups.asking(ask), ..self }
    }

    /// Asks, and keeps nothing beyond its own life.
    pub fn in_memory(ask: Arc<dyn Ask>) -> Answers {
        Answers { ask: Some(ask), in_memory_max: usize::MAX, ..Answers::none() }
    }

    /// Knows nothing: enough for a recipe without a resolver.
    pub fn none() -> Answers {
        Answers {
            facts: None,
            ask: None,
            is_guest: false,
            in_memory_max: IN_MEMORY_DEFAULT,
            memory: Mutex::default(),
            under_way: Mutex::default(),
            asked: Mutex::default(),
            look_ups: LookUps::default(),
            turn: AtomicUsize::new(0),
        }
    }

    /// Answers in memory, for one recipe, before they are dropped.
    pub fn in_memory_max(&self) -> usize {
        self.in_memory_max
    }

    pub fn stats(&self) -> Stats {
        let (facts, bytes) = self.facts.as_ref().map(Facts::size).unwrap_or_default();
        let asked = lock(&self.asked);
        let questions =
            asked.iter().map(|((name, said), count)| (name.clone(), *said, *count)).collect();
        Stats { facts, bytes, questions }
    }

    /// As many answers as can be had, each durable; and why there are not all of them.
    pub(crate) fn get(
        &self,
        resolver: &Resolver,
        keys: &[SchemaKey],
    ) -> (Vec<(SchemaKey, Arc<Answer>)>, Option<Error>) {
        let under = Under::of(resolver);
        let (mut answers, mut open) = (Vec::new(), Vec::new());
        for key in keys {
            match self.known(&under, key) {
                Ok(Some(answer)) => answers.push((key.clone(), answer)),
                Ok(None) => open.push(key.clone()),
                Err(error) => return (answers, Some(error)),
            }
        }
        if open.is_empty() {
            return (answers, None);
        }
        let Some(ask) = &self.ask else {
            return (answers, Some(Error::NobodyToAsk { schemas: open }));
        };
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % open.len();
        open.rotate_left(turn);
        for some in open.chunks(ask.at_once().max(1)) {
            let mut error = None;
            for (key, answer) in at_once(some, |key| self.ask_once(&under, resolver, key, &**ask)) {
                match answer {
                    Ok(answer) => answers.push((key.clone(), answer)),
                    Err(other) => error = error.or(Some(other)),
                }
            }
            // Where one registry gives no answer, the next question may hang as long.
            if error.is_some() {
                return (answers, error);
            }
        }
        (answers, None)
    }

    /// Asks, without recording anything, for what was absent; whether some of it is there now.
    pub(crate) fn has_ended_absence(&self, resolver: &Resolver) -> bool {
        let Some(ask) = &self.ask else { return false };
        let again: Vec<SchemaKey> = {
            let mut memory = lock(&self.memory);
            let Some(absent) = memory.absent.get_mut(&Under::of(resolver)) else { return false };
            let count = absent.len().min(ASKED_AGAIN_MAX);
            let again = absent.iter().take(count).cloned().collect();
            absent.rotate_left(count);
            again
        };
        for some in again.chunks(ask.at_once().max(1)) {
            for (key, answer) in at_once(some, |key| self.resolve(resolver, key, &**ask)) {
                match answer {
                    Ok(answer) if answer.schema().is_some() => {
                        tracing::info!(%key, "a schema that was absent is there now");
                        return true;
                    }
                    Ok(_) => {}
                    // The absences that are known hold; the next iteration asks again.
                    Err(_) => return false,
                }
            }
        }
        false
    }

    /// An epoch after the resolver's in which no question has an answer yet.
    pub(crate) fn fresh_epoch(&self, resolver: &Resolver) -> Result<u64, Error> {
        match &self.facts {
            Some(facts) => facts.fresh_epoch(resolver),
            None => Ok(resolver.epoch + 1),
        }
    }

    /// From memory or from disk.
    fn known(&self, under: &Under, key: &SchemaKey) -> Result<Option<Arc<Answer>>, Error> {
        if let Some(answer) = lock(&self.memory).answers.get(&(under.clone(), key.clone())) {
            return Ok(Some(Arc::clone(answer)));
        }
        let Some(facts) = &self.facts else { return Ok(None) };
        let answer = if self.is_guest {
            facts.peek(under, key)?
        } else {
            match facts.read(under, key)? {
                Some(answer) => Some(answer),
                None => facts.inherit(under, key)?,
            }
        };
        Ok(answer.map(|answer| self.remember(under, key, answer)))
    }

    /// Asks and records; or waits for whoever asks the same already, and takes what comes of that.
    fn ask_once(
        &self,
        under: &Under,
        resolver: &Resolver,
        key: &SchemaKey,
        ask: &dyn Ask,
    ) -> Result<Arc<Answer>, Error> {
        let question = (under.clone(), key.clone());
        let slot = Slot::default();
        let mut mine = lock(&slot);
        let theirs = {
            let mut under_way = lock(&self.under_way);
            let theirs = under_way.get(&question).cloned();
            if theirs.is_none() {
                under_way.insert(question.clone(), Arc::clone(&slot));
            }
            theirs
        };
        if let Some(theirs) = theirs
            && let Some(answer) = &*lock(&theirs)
        {
            return answer.clone().map_err(Error::Unanswered);
        }
        let answer = self.ask_and_record(under, resolver, key, ask);
        *mine = match &answer {
            Ok(answer) => Some(Ok(Arc::clone(answer))),
            Err(Error::Unanswered(unanswered)) => Some(Err(unanswered.clone())),
            // A failing disk is found by whoever comes next.
            Err(_) => None,
        };
        let mut under_way = lock(&self.under_way);
        if under_way.get(&question).is_some_and(|it| Arc::ptr_eq(it, &slot)) {
            under_way.remove(&question);
        }
        answer
    }

    fn ask_and_record(
        &self,
        under: &Under,
        resolver: &Resolver,
        key: &SchemaKey,
        ask: &dyn Ask,
    ) -> Result<Arc<Answer>, Error> {
        // Somebody may have answered between our look and our turn.
        if let Some(answer) = self.known(under, key)? {
            return Ok(answer);
        }
        let answer = self.resolve(resolver, key, ask)?;
        let answer = match &self.facts {
            Some(facts) => facts.record(under, key, answer)?,
            None => answer,
        };
        Ok(self.remember(under, key, answer))
    }

    fn resolve(
        &self,
        resolver: &Resolver,
        key: &SchemaKey,
        ask: &dyn Ask,
    ) -> Result<Answer, Unanswered> {
        resolve(resolver, key, ask, |repository, said| {
            *lock(&self.asked).entry((repository.name.clone(), said)).or_default() += 1;
        })
    }

    /// Keeps an answer in memory. Two of one question are the same, so the first stays, with its compiled schema.
    fn remember(&self, under: &Under, key: &SchemaKey, answer: Answer) -> Arc<Answer> {
        let mut memory = lock(&self.memory);
        if answer.absence().is_some() {
            memory.add_absent(under, key);
        }
        if memory.answers.len() >= self.in_memory_max {
            memory.answers.clear();
        }
        let question = (under.clone(), key.clone());
        Arc::clone(memory.answers.entry(question).or_insert_with(|| Arc::new(answer)))
    }
}

impl Memory {
    fn add_absent(&mut self, under: &Under, key: &SchemaKey) {
        if !self.absent.contains_key(under) && self.absent.len() >= EPOCHS_MAX {
            let oldest = self.absent.keys().min_by_key(|under| under.epoch).cloned();
            oldest.and_then(|oldest| self.absent.remove(&oldest));
        }
        let absent = self.absent.entry(under.clone()).or_default();
        if absent.contains(key) {
            return;
        }
        if absent.len() >= ABSENCES_MAX {
            absent.pop_front();
        }
        absent.push_back(key.clone());
    }
}

/// One answer for each key, in their order; more than one key, each in a thread of its own.
fn at_once<'k, T: Send>(
    keys: &'k [SchemaKey],
    answer: impl Fn(&'k SchemaKey) -> T + Sync,
) -> Vec<(&'k SchemaKey, T)> {
    if let [key] = keys {
        return vec![(key, answer(key))];
    }
    std::thread::scope(|scope| {
        let answer = &answer;
        let threads: Vec<_> =
            keys.iter().map(|key| scope.spawn(move || (key, answer(key)))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    })
}

/// No panic leaves these half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
