//! Questions about an event that only the world outside can answer (HTTP APIs, databases), and the answers that are known.
//!
//! Nothing here asks: an event that needs an answer which is not known gives [`crate::Missing`]; `assets` asks, records
//! the answer for good under the record's position, the enrichment and the request, and calls again. Answers belong to
//! one record, so they are handed over with it and stand in no recipe. An error is an answer too.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What to ask, and how long what is said may be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The name of the enrichment's configuration, such as `api_request_enrichment_config`.
    pub enrichment: &'static str,
    pub request: HttpRequest,
    pub cache: Cache,
}

/// Bounds of what a process remembers of the answers to one configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Answers; 0 for none.
    pub size: usize,
    /// How long a good answer may be given again, in seconds; a tenth of it for an error.
    pub ttl_s: u32,
}

/// A request to an HTTP API.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// `GET`, `POST` or `PUT`.
    pub method: &'static str,
    pub uri: String,
    /// A JSON text.
    pub body: Option<String>,
    pub timeout_ms: u32,
    /// User name and password.
    pub basic: Option<(String, String)>,
}

/// The JSON that was answered, or in words why there is none.
pub type Answer = Result<Value, String>;

/// The answers that are known about one record, by [`Question::digest`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answers(BTreeMap<String, Answer>);

impl Answers {
    pub fn insert(&mut self, question: &Question, answer: Answer) {
        self.0.insert(question.digest(), answer);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Question {
    /// What an answer is known by: SHA-256 over the enrichment and the request, 64 hex digits. Secrets are not in it.
    pub fn digest(&self) -> String {
        let HttpRequest { method, uri, body, basic, .. } = &self.request;
        let user = basic.as_ref().map(|(user, _)| user);
        let text = json!([self.enrichment, method, uri, body, user]).to_string();
        Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Without secrets: a query may hold a key, and the part before `@` a password.
impl fmt::Display for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.uri.split(['?', '#']).next().unwrap_or_default();
        let (scheme, rest) = shown.split_once("://").unwrap_or(("http", shown));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let host = authority.rsplit('@').next().unwrap_or_default();
        write!(f, "{} {scheme}://{host}/{path}", self.method)
    }
}

impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What an enrichment asks with, for one event.
pub(crate) struct Asking<'a> {
    known: &'a Answers,
    /// Takes note of what is not known, of all events of the record.
    open: &'a RefCell<Vec<Question>>,
    is_waiting: Cell<bool>,
}

impl<'a> Asking<'a> {
    pub(crate) fn new(known: &'a Answers, open: &'a RefCell<Vec<Question>>) -> Asking<'a> {
        Asking { known, open, is_waiting: Cell::new(false) }
    }

    /// The answer, if it is known. Otherwise it is asked for, and what becomes of the event is thrown away. An event
    /// asks one question at a time: what the second one asks may depend on the answer to the first.
    pub(crate) fn ask(&self, question: Question) -> Option<&'a Answer> {
        if self.is_waiting.get() {
            return None;
        }
        let known = self.known.0.get(&question.digest());
        if known.is_none() {
            self.is_waiting.set(true);
            self.open.borrow_mut().push(question);
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(uri: &str, password: &str) -> Question {
        let basic = Some(("me".to_owned(), password.to_owned()));
        let request =
            HttpRequest { method: "GET", uri: uri.to_owned(), body: None, timeout_ms: 1, basic };
        Question { enrichment: "e", request, cache: Cache { size: 1, ttl_s: 1 } }
    }

    #[test]
    fn secrets_are_neither_shown_nor_in_the_digest() {
        let question_a = question("https://u:s3cret@a.example/b/c?key=s3cret#s3cret", "s3cret");
        let shown = format!("{question_a:?} {}", question_a.request);
        assert!(
            !shown.contains("s3cret") && shown.contains("GET https://a.example/b/c"),
            "{shown}"
        );
        assert_eq!(
            question("http://a.example", "a").digest(),
            question("http://a.example", "b").digest()
        );
        assert_ne!(
            question("http://a.example", "a").digest(),
            question("http://b.example", "a").digest()
        );
    }

    #[test]
    fn an_event_waits_for_one_answer_at_a_time() {
        let (known, open) = (Answers::default(), RefCell::default());
        let asking = Asking::new(&known, &open);
        assert_eq!(asking.ask(question("http://a.example", "")), None);
        assert_eq!(asking.ask(question("http://b.example", "")), None);
        assert_eq!(open.borrow().len(), 1);
        let mut known = Answers::default();
        known.insert(&question("http://a.example", ""), Err("e".to_owned()));
        let asking = Asking::new(&known, &open);
        assert_eq!(asking.ask(question("http://a.example", "")), Some(&Err("e".to_owned())));
        assert_eq!(asking.ask(question("http://b.example", "")), None);
        assert_eq!(open.borrow().len(), 2);
    }
}
