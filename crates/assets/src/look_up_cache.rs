//! What look-ups were answered lately, in memory: so that one question of a thousand events is asked once, and an API
//! that is away for a moment does not fail them. Snowplow: `enrichments.md` 1.6.
//!
//! What it gives depends on the moment. That does no harm, because what is given is recorded for the record it is given
//! to. Each enrichment has its own bound; the entry that was used longest ago goes first.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use enrich::look_up::{Answer, Cache, Question};
use serde_json::Value;

/// Answers by question, for each enrichment apart.
#[derive(Debug, Default)]
pub(crate) struct LookUpCache(HashMap<&'static str, Entries>);

#[derive(Debug, Default)]
struct Entries {
    by_question: HashMap<String, Entry>,
    /// Questions by when they were last used, counted.
    by_use: BTreeMap<u64, String>,
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    answer: Answer,
    /// What was answered before the error.
    last_good: Option<Value>,
    stored: Instant,
    used: u64,
}

impl LookUpCache {
    /// The answer, if it is fresh enough: a good one for the whole time, an error for a tenth of it.
    pub(crate) fn get(&mut self, question: &Question, now: Instant) -> Option<Answer> {
        let entries = self.0.get_mut(question.enrichment)?;
        let digest = question.digest();
        let ttl = u64::from(question.cache.ttl_s);
        let entry = entries.by_question.get(&digest)?;
        let ttl = if entry.answer.is_ok() { ttl } else { ttl / 10 };
        if now.saturating_duration_since(entry.stored) > Duration::from_secs(ttl) {
            return None;
        }
        let given = entry.given();
        entries.touch(&digest);
        Some(given)
    }

    /// Keeps an answer. Gives what counts: an earlier good one in place of an error.
    pub(crate) fn put(&mut self, question: &Question, answer: Answer, now: Instant) -> Answer {
        let Cache { size, .. } = question.cache;
        if size == 0 {
            return answer;
        }
        let entries = self.0.entry(question.enrichment).or_default();
        let digest = question.digest();
        let last_good = entries.by_question.get(&digest).and_then(Entry::good).cloned();
        let entry = Entry { answer, last_good, stored: now, used: 0 };
        let given = entry.given();
        if let Some(old) = entries.by_question.insert(digest.clone(), entry) {
            entries.by_use.remove(&old.used);
        }
        entries.touch(&digest);
        while entries.by_question.len() > size {
            let Some((_, oldest)) = entries.by_use.pop_first() else { break };
            entries.by_question.remove(&oldest);
        }
        given
    }
}

impl Entries {
    fn touch(&mut self, digest: &str) {
        self.uses += 1;
        if let Some(entry) = self.by_question.get_mut(digest) {
            self.by_use.remove(&entry.used);
            entry.used = self.uses;
            self.by_use.insert(self.uses, digest.to_owned());
        }
    }
}

impl Entry {
    fn good(&self) -> Option<&Value> {
        self.answer.as_ref().ok().or(self.last_good.as_ref())
    }

    fn given(&self) -> Answer {
        match (&self.answer, &self.last_good) {
            (Err(_), Some(good)) => Ok(good.clone()),
            (answer, _) => answer.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use enrich::look_up::{Holds, HttpRequest, Request};
    use serde_json::json;

    use super::*;

    fn question(uri: &str, size: usize, ttl_s: u32) -> Question {
        let request = HttpRequest {
            method: "GET",
            uri: uri.to_owned(),
            secret: None,
            body: None,
            timeout_ms: 1,
            basic: None,
        };
        let (request, cache) = (Request::Http(request), Cache { size, ttl_s });
        Question { enrichment: "e", request, cache, holds: Holds::ForTheRecord }
    }

    #[test]
    fn a_good_answer_is_kept_for_its_time_and_an_error_for_a_tenth() {
        let mut cache = LookUpCache::default();
        let (start, a) = (Instant::now(), question("a", 10, 100));
        let at = |s| start + Duration::from_secs(s);
        assert_eq!(cache.get(&a, at(0)), None);
        assert!(cache.put(&a, Ok(json!(1)), at(0)).is_ok());
        assert_eq!(cache.get(&a, at(100)), Some(Ok(json!(1))));
        assert_eq!(cache.get(&a, at(101)), None);
        // An API that is away does not fail what it once answered.
        assert_eq!(cache.put(&a, Err("e".to_owned()), at(101)), Ok(json!(1)));
        assert_eq!(cache.get(&a, at(111)), Some(Ok(json!(1))));
        assert_eq!(cache.get(&a, at(112)), None);
        assert_eq!(cache.put(&a, Err("e".to_owned()), at(112)), Ok(json!(1)));
        let b = question("b", 10, 100);
        assert_eq!(cache.put(&b, Err("e".to_owned()), at(0)), Err("e".to_owned()));
        assert_eq!(cache.get(&b, at(10)), Some(Err("e".to_owned())));
        assert_eq!(cache.get(&b, at(11)), None);
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let mut cache = LookUpCache::default();
        let now = Instant::now();
        let of = |at: usize| question(&at.to_string(), 3, 100);
        (0..3).for_each(|at| drop(cache.put(&of(at), Ok(json!(at)), now)));
        assert!(cache.get(&of(0), now).is_some());
        drop(cache.put(&of(3), Ok(json!(3)), now));
        let there: Vec<bool> = (0..4).map(|at| cache.get(&of(at), now).is_some()).collect();
        assert_eq!(there, [true, false, true, true]);
        let none = question("n", 0, 100);
        drop(cache.put(&none, Ok(json!(1)), now));
        assert_eq!(cache.get(&none, now), None);
    }
}
