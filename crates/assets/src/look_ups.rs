//! Answers to the look-ups of enrichments: recorded ones first, then remembered ones, then by asking.
//!
//! What a record was answered is a durable fact before it is handed out, an error too, so that the other layer and any
//! replay see the same. Part of [`crate::Answers`], which both layers share; each question is under way once, however
//! many records wait for it.

use std::collections::HashMap;
use std::fmt::Debug;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use enrich::look_up::{self, Answer, Question, Request};
use model::files::Files;
use model::position::RawRecord;

use crate::Error;
use crate::look_up_cache::LookUpCache;
use crate::look_up_facts::LookUpFacts;

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
    under_way: Mutex<HashMap<String, Arc<Mutex<()>>>>,
}

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
            let recorded = match &self.facts {
                Some(facts) => facts.read(record, question, self.writes)?,
                None => None,
            };
            let answer = match recorded {
                Some(answer) => answer,
                None => self.ask_and_record(record, question)?,
            };
            known.insert(question, answer);
        }
        Ok(())
    }

    fn ask_and_record(&self, record: &RawRecord<'_>, question: &Question) -> Result<Answer, Error> {
        let Some(ask) = &self.ask else {
            let request = question.request.to_string();
            return Err(Error::NobodyLooksUp { enrichment: question.enrichment, request });
        };
        let answer = self.remembered(question, &**ask);
        match &self.facts {
            Some(facts) if self.writes => facts.record(record, question, answer),
            _ => Ok(answer),
        }
    }

    fn remembered(&self, question: &Question, ask: &dyn LookUp) -> Answer {
        let cached = || lock(&self.cache).get(question, Instant::now());
        if let Some(answer) = cached() {
            return answer;
        }
        let digest = question.digest();
        let turn = Arc::clone(lock(&self.under_way).entry(digest.clone()).or_default());
        let mine = lock(&turn);
        // Somebody may have been answered while we waited for our turn.
        let answer = cached().unwrap_or_else(|| {
            let answer = ask.look_up(&question.request);
            lock(&self.cache).put(question, answer, Instant::now())
        });
        lock(&self.under_way).remove(&digest);
        drop(mine);
        answer
    }
}

/// No panic leaves these half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
