//! Answers to the look-ups of enrichments: recorded ones first, then remembered ones, then by asking.
//!
//! What a record was answered is a durable fact before it is handed out, an error too, so that the other layer and any
//! replay see the same. Some answers (the exchange rates of a day) are facts for all records. Part of [`crate::Answers`], which both layers share; each question is under way once, however
//! many records wait for it.

use std::collections::HashMap;
use std::fmt::Debug;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use enrich::look_up::{self, Answer, Holds, Question, Request};
use model::files::Files;
use model::position::RawRecord;

use crate::Error;
use crate::look_up_cache::LookUpCache;
use crate::look_up_facts::{About, LookUpFacts};

/// Asks the world outside. Blocking, as long as the request allows.
pub trait LookUp: Send + Sync + Debug {
    /// What is answered, in words that hold no secret where it is an error.
    fn look_up(&self, request: &Request) -> Answer;
}

/// Where answers come from.
#[derive(Debug, Default)]
pub(crate) struct LookUps {
    facts: Option<LookUpFacts>,
    /// Whether facts may be written.
    writes: bool,
    ask: Option<Arc<dyn LookUp>>,
    cache: Mutex<LookUpCache>,
    /// Answers that hold for all records, by question.
    for_all: Mutex<HashMap<String, Answer>>,
    under_way: Mutex<HashMap<String, Turn>>,
}

/// Whoever holds it asks; who waits for it finds what was answered.
type Turn = Arc<Mutex<()>>;

/// Answers for all records that are kept in memory; the days of late events have room.
const FOR_ALL_MAX: usize = 32;

impl LookUps {
    pub(crate) fn recording(files: Arc<dyn Files>, data_dir: &Path) -> LookUps {
        LookUps { writes: true, ..LookUps::reading(files, data_dir) }
    }

    pub(crate) fn reading(files: Arc<dyn Files>, data_dir: &Path) -> LookUps {
        LookUps { facts: Some(LookUpFacts::new(files, data_dir)), ..LookUps::default() }
    }

    pub(crate) fn asking(self, ask: Arc<dyn LookUp>) -> LookUps {
        LookUps { ask: Some(ask), ..self }
    }

    /// Answers these questions about a record; all that are given are durable.
    ///
    /// # Errors
    /// [`Error::NobodyLooksUp`] when an answer was not recorded and nobody is asked; or the disk's.
    pub(crate) fn answer(
        &self,
        record: &RawRecord<'_>,
        questions: &[Question],
        known: &mut look_up::Answers,
    ) -> Result<(), Error> {
        for question in questions {
            let answer = match question.holds {
                Holds::ForTheRecord => self.for_the_record(record, question)?,
                Holds::ForAll { .. } => {
                    self.in_turn(question, || self.for_all(record, question))?
                }
            };
            known.insert(question, answer);
        }
        Ok(())
    }

    fn for_the_record(&self, record: &RawRecord<'_>, question: &Question) -> Result<Answer, Error> {
        if let Some(recorded) = self.recorded(About::Record(record), question)? {
            return Ok(recorded);
        }
        let ask = self.asked(question)?;
        let answer = self.remembered(question).unwrap_or_else(|| {
            // Somebody may have been answered while we waited for our turn.
            self.in_turn(question, || {
                self.remembered(question).unwrap_or_else(|| self.ask(question, ask))
            })
        });
        self.record(About::Record(record), question, answer)
    }

    /// To be called in turn: so a record that was told of an error is not told of an answer by whoever asks at the same
    /// time.
    fn for_all(&self, record: &RawRecord<'_>, question: &Question) -> Result<Answer, Error> {
        // What a record was told first counts, also if the answer came later.
        if let Some(error) = self.recorded(About::Record(record), question)? {
            return Ok(error);
        }
        let digest = question.digest();
        if let Some(known) = lock(&self.for_all).get(&digest) {
            return Ok(known.clone());
        }
        let answer = match self.recorded(About::AllRecords, question)? {
            Some(recorded) => recorded,
            None => {
                let ask = self.asked(question)?;
                let answer = self.remembered(question).unwrap_or_else(|| self.ask(question, ask));
                if !question.holds_for_all(&answer) {
                    let odd = |_| {
                        Err(format!("{}: the answer is not what was asked for", question.request))
                    };
                    return self.record(About::Record(record), question, answer.and_then(odd));
                }
                self.record(About::AllRecords, question, answer)?
            }
        };
        let mut for_all = lock(&self.for_all);
        if for_all.len() >= FOR_ALL_MAX {
            for_all.clear();
        }
        for_all.insert(digest, answer.clone());
        Ok(answer)
    }

    fn recorded(&self, about: About<'_>, question: &Question) -> Result<Option<Answer>, Error> {
        match &self.facts {
            Some(facts) => facts.read(about, question, self.writes),
            None => Ok(None),
        }
    }

    fn record(
        &self,
        about: About<'_>,
        question: &Question,
        answer: Answer,
    ) -> Result<Answer, Error> {
        match &self.facts {
            Some(facts) if self.writes => facts.record(about, question, answer),
            _ => Ok(answer),
        }
    }

    fn asked(&self, question: &Question) -> Result<&dyn LookUp, Error> {
        self.ask.as_deref().ok_or_else(|| {
            let request = question.request.to_string();
            Error::NobodyLooksUp { enrichment: question.enrichment, request }
        })
    }

    fn remembered(&self, question: &Question) -> Option<Answer> {
        lock(&self.cache).get(question, Instant::now())
    }

    fn ask(&self, question: &Question, ask: &dyn LookUp) -> Answer {
        let answer = ask.look_up(&question.request);
        lock(&self.cache).put(question, answer, Instant::now())
    }

    /// Does something while nobody else does it for the same question.
    fn in_turn<T>(&self, question: &Question, act: impl FnOnce() -> T) -> T {
        let digest = question.digest();
        let turn = Arc::clone(lock(&self.under_way).entry(digest.clone()).or_default());
        let mine = lock(&turn);
        let done = act();
        drop(mine);
        let mut under_way = lock(&self.under_way);
        // It stays for those who wait for it: two turns of one question must not be there at a time.
        if Arc::strong_count(&turn) <= 2 {
            under_way.remove(&digest);
        }
        done
    }
}

/// No panic leaves these half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
