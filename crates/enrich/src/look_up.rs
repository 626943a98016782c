//! Questions about an event that only the world outside can answer (HTTP APIs, databases), and the answers that are known.
//!
//! Nothing here asks: an event that needs an answer which is not known gives [`crate::Missing`]; `assets` asks, records
//! the answer for good under the record's position, the enrichment and the request, and calls again. Answers belong to
//! one record, so they are handed over with it and stand in no recipe. An error is an answer too.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What to ask, and how long what is said may be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The name of the enrichment's configuration, such as `api_request_enrichment_config`.
    pub enrichment: &'static str,
    pub request: Request,
    pub cache: Cache,
    pub holds: Holds,
}

/// Bounds of what a process remembers of the answers to one configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Answers; 0 for none.
    pub size: usize,
    /// How long a good answer may be given again, in seconds; a tenth of it for an error.
    pub ttl_s: u32,
}

/// Whom an answer is recorded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// The record that asked; another record may be answered otherwise.
    ForTheRecord,
    /// Every record that asks the same, for good, if the answer is an object that has an object under this name.
    /// An error holds for the record that met it.
    ForAll { member: &'static str },
}

/// Whom to ask, and what.
#[derive(Clone, PartialEq, Eq)]
pub enum Request {
    Http(HttpRequest),
    Sql(SqlRequest),
}

/// A request to an HTTP API.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// `GET`, `POST` or `PUT`.
    pub method: &'static str,
    pub uri: String,
    /// A parameter that is added to the query of the address and shown to nobody else: its name and its value.
    pub secret: Option<(&'static str, String)>,
    /// A JSON text.
    pub body: Option<String>,
    pub timeout_ms: u32,
    /// User name and password.
    pub basic: Option<(String, String)>,
}

/// A query to a database.
#[derive(Clone, PartialEq, Eq)]
pub struct SqlRequest {
    pub database: Arc<Database>,
    /// One statement with `$1` … `$n`.
    pub statement: Arc<str>,
    /// The values of `$1` … `$n`.
    pub values: Vec<SqlValue>,
    pub timeout_ms: u32,
}

/// A PostgreSQL database, and who asks it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Database {
    pub host: String,
    pub port: u16,
    pub tls: Tls,
    pub username: String,
    pub password: String,
    pub name: String,
}

/// How the way to a database is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tls {
    Off,
    /// The server's certificate is verified.
    Verified,
    /// Any certificate will do.
    Unverified,
}

/// A value that is bound to a placeholder: how its type is declared, and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlValue {
    pub kind: SqlKind,
    pub text: String,
}

/// The type that a value is declared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SqlKind {
    Boolean,
    /// 16 bits.
    Short,
    /// 32 bits.
    Integer,
    /// 64 bits.
    Long,
    Float,
    Double,
    Decimal,
    Text,
}

/// The JSON that was answered, or in words why there is none. That of a database is [`Rows`].
pub type Answer = Result<Value, String>;

/// What a database answers, in a form that keeps what it has said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rows {
    pub columns: Vec<RowColumn>,
    /// The values in the database's own spelling; a null is none.
    pub rows: Vec<Vec<Option<String>>>,
}

/// A column of [`Rows`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowColumn {
    pub label: String,
    #[serde(rename = "type")]
    pub kind: RowKind,
}

/// What kind of value a column has, as far as it changes what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowKind {
    /// `t` or `f`.
    Boolean,
    Integer,
    Float,
    Text,
    /// `2026-11-22`.
    Date,
    Other,
}

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
        let text = match &self.request {
            Request::Http(HttpRequest { method, uri, body, basic, .. }) => {
                let user = basic.as_ref().map(|(user, _)| user);
                json!([self.enrichment, method, uri, body, user])
            }
            Request::Sql(SqlRequest { database, statement, values, .. }) => {
                let Database { host, port, username, name, .. } = &**database;
                let value = |it: &SqlValue| json!([it.kind.name(), it.text]);
                let values: Vec<Value> = values.iter().map(value).collect();
                json!([
                    self.enrichment,
                    "postgresql",
                    host,
                    port,
                    name,
                    username,
                    &**statement,
                    values
                ])
            }
        };
        let digest = Sha256::digest(text.to_string().as_bytes());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether this may be the answer for all records.
    pub fn holds_for_all(&self, answer: &Answer) -> bool {
        match (self.holds, answer) {
            (Holds::ForAll { member }, Ok(answer)) => answer[member].is_object(),
            (Holds::ForAll { .. }, Err(_)) | (Holds::ForTheRecord, _) => false,
        }
    }
}

impl SqlKind {
    /// The name in [`Question::digest`]: it never changes.
    fn name(self) -> &'static str {
        match self {
            SqlKind::Boolean => "boolean",
            SqlKind::Short => "short",
            SqlKind::Integer => "integer",
            SqlKind::Long => "long",
            SqlKind::Float => "float",
            SqlKind::Double => "double",
            SqlKind::Decimal => "decimal",
            SqlKind::Text => "text",
        }
    }
}

/// Without secrets, as those below.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Request::Http(request) => request.fmt(f),
            Request::Sql(request) => request.fmt(f),
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
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

/// Without user, password, statement and values.
impl fmt::Display for SqlRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Database { host, port, name, .. } = &*self.database;
        write!(f, "SQL postgresql://{host}:{port}/{name}")
    }
}

/// Without user and password.
impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Database { host, port, name, .. } = self;
        write!(f, "postgresql://{host}:{port}/{name}")
    }
}

impl fmt::Debug for SqlRequest {
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
        let secret = Some(("app_id", password.to_owned()));
        let request = HttpRequest {
            method: "GET",
            uri: uri.to_owned(),
            secret,
            body: None,
            timeout_ms: 1,
            basic,
        };
        asked(Request::Http(request))
    }

    fn asked(request: Request) -> Question {
        let cache = Cache { size: 1, ttl_s: 1 };
        Question { enrichment: "e", request, cache, holds: Holds::ForTheRecord }
    }

    fn query(password: &str, value: SqlValue) -> Question {
        let database = Database {
            host: "db.example".to_owned(),
            port: 5432,
            tls: Tls::Verified,
            username: "reader".to_owned(),
            password: password.to_owned(),
            name: "crm".to_owned(),
        };
        asked(Request::Sql(SqlRequest {
            database: Arc::new(database),
            statement: "SELECT $1".into(),
            values: vec![value],
            timeout_ms: 1000,
        }))
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
    fn a_query_is_known_by_its_values_and_their_types_and_shown_without_any() {
        let text = |text: &str| SqlValue { kind: SqlKind::Text, text: text.to_owned() };
        let number = SqlValue { kind: SqlKind::Integer, text: "7".to_owned() };
        let first = query("s3cret", text("7"));
        assert_eq!(format!("{:?}", first.request), "SQL postgresql://db.example:5432/crm");
        assert!(!format!("{first:?}").contains("s3cret"));
        assert_eq!(first.digest(), query("other", text("7")).digest());
        assert_ne!(first.digest(), query("s3cret", text("8")).digest());
        assert_ne!(first.digest(), query("s3cret", number).digest());
    }

    #[test]
    fn the_digest_of_a_request_never_changes() {
        // Facts are found by it: these are the values of the first release.
        let digest = question("https://a.example/b?c=1", "p").digest();
        assert_eq!(digest, "943a7d3b9f6dcf5e0961cb8cb13dc5b9a343e768a9289be0669c5473e9e36842");
        let value = SqlValue { kind: SqlKind::Long, text: "7".to_owned() };
        assert_eq!(
            query("p", value).digest(),
            "23c68798d64040a36a517811509a91852cb6c3ec6d197e749a240eb41c9628d2"
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
