//! What look-ups were answered, on disk: one fact for each record and question, or for a question alone where its answer
//! holds for all records; written once, kept for good.
//!
//! A fact is found by name: `facts/look-ups/<first two digits>/<hash>.json`, where the hash is that of partition, offset
//! and question, or of the question alone. The first write of a name wins, and what is handed out is durable. The lines around it are those of the
//! facts about schemas ([`crate::fact`]); the folder's size is counted with theirs ([`crate::facts`]).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use enrich::look_up::{Answer, Question};
use model::files::{self, Files, Published};
use model::position::RawRecord;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Error;
use crate::fact::{self, Broken};

/// In the folder of the facts.
const FOLDER: &str = "facts/look-ups";

/// The facts about look-ups of one data folder.
#[derive(Debug)]
pub(crate) struct LookUpFacts {
    files: Arc<dyn Files>,
    folder: PathBuf,
}

/// Whom a fact is about.
#[derive(Clone, Copy)]
pub(crate) enum About<'a> {
    Record(&'a RawRecord<'a>),
    AllRecords,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Body {
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<String>,
    question: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl LookUpFacts {
    /// Reads nothing.
    pub(crate) fn new(files: Arc<dyn Files>, data_dir: &Path) -> LookUpFacts {
        LookUpFacts { files, folder: data_dir.join(FOLDER) }
    }

    /// The answer that was recorded; none if the question was not answered for this record. With `durable` it is made
    /// durable first: whoever wrote it may have died before its own fsync of the folder.
    ///
    /// # Errors
    /// [`Error::DamagedLookUp`], [`Error::NewerFact`], or the disk's.
    pub(crate) fn read(
        &self,
        about: About<'_>,
        question: &Question,
        durable: bool,
    ) -> Result<Option<Answer>, Error> {
        let path = self.path(about, question);
        let bytes = match self.files.read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io("read the fact", &path)(error)),
        };
        let answer = decode(&bytes, about, question).map_err(|broken| match broken {
            Broken::Newer(format) => {
                Error::NewerFact { path: path.clone(), format, known: fact::FORMAT }
            }
            Broken::Damaged(what) => Error::DamagedLookUp { path: path.clone(), what },
        })?;
        if durable {
            let folder = path.parent().unwrap_or(&self.folder);
            self.files.sync_dir(folder).map_err(io("sync the folder", folder))?;
        }
        Ok(Some(answer))
    }

    /// Makes an answer durable. Gives the one that holds: this one, or one that was recorded before it.
    pub(crate) fn record(
        &self,
        about: About<'_>,
        question: &Question,
        answer: Answer,
    ) -> Result<Answer, Error> {
        let path = self.path(about, question);
        let text = encode(about, question, &answer);
        let published = files::publish(&*self.files, &path, text.as_bytes());
        match published.map_err(io("record the fact", &path))? {
            Published::New => Ok(answer),
            Published::Taken => self.read(about, question, true)?.ok_or_else(|| {
                io("read the fact", &path)(io::Error::from(io::ErrorKind::NotFound))
            }),
        }
    }

    fn path(&self, about: About<'_>, question: &Question) -> PathBuf {
        let name = match about.position() {
            Some((partition, offset)) => format!("{partition}\n{offset}\n{}", question.digest()),
            None => question.digest(),
        };
        let name = fact::sha256(&name);
        self.folder.join(&name[..2]).join(format!("{name}.json"))
    }
}

impl About<'_> {
    fn position(self) -> Option<(String, String)> {
        match self {
            About::Record(record) => {
                Some((record.partition.to_string(), record.offset.to_string()))
            }
            About::AllRecords => None,
        }
    }
}

fn encode(about: About<'_>, question: &Question, answer: &Answer) -> String {
    let (partition, offset) = about.position().unzip();
    let body = Body {
        partition,
        offset,
        question: question.digest(),
        answer: answer.as_ref().ok().cloned(),
        error: answer.as_ref().err().cloned(),
    };
    fact::frame(&serde_json::to_string(&body).expect("texts and JSON values print"))
}

fn decode(bytes: &[u8], about: About<'_>, question: &Question) -> Result<Answer, Broken> {
    let damaged = |what: String| Broken::Damaged(what);
    // A `null` that was answered is not the same as no answer.
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    struct Read {
        partition: Option<String>,
        offset: Option<String>,
        question: String,
        #[serde(default, deserialize_with = "there")]
        answer: Option<Value>,
        error: Option<String>,
    }
    fn there<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
        Value::deserialize(from).map(Some)
    }
    let read: Read =
        serde_json::from_str(fact::body_of(bytes)?).map_err(|error| damaged(error.to_string()))?;
    let (partition, offset) = about.position().unzip();
    if (&read.partition, &read.offset) != (&partition, &offset)
        || read.question != question.digest()
    {
        let said = [read.partition, read.offset].map(Option::unwrap_or_default).join(" ");
        return Err(damaged(format!("it is about something else: {said} {}", read.question)));
    }
    match (read.answer, read.error) {
        (Some(answer), None) => Ok(Ok(answer)),
        (None, Some(error)) => Ok(Err(error)),
        _ => Err(damaged("it holds not one answer".to_owned())),
    }
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { action, path: path.to_owned(), source }
}
