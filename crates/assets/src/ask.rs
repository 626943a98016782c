//! The seam to registries on the network: one question to one of them.
//!
//! Two implementations: [`crate::http`], and the scripted registries of tests and of the simulator. What is made of the
//! replies of several registries is in [`crate::resolve`].

use std::fmt::Debug;

use enrich::iglu::Repository;
use model::bad_row::LookupError;
use model::iglu::SchemaKey;
use serde_json::Value;

/// Asks registries. Blocking, for seconds at most.
pub trait Ask: Send + Sync + Debug {
    /// What a registry says about exactly this key.
    ///
    /// # Errors
    /// When it says nothing that counts as an answer; the same question may be asked again.
    fn ask(&self, repository: &Repository, key: &SchemaKey) -> Result<Reply, NoReply>;

    /// How many questions may be under way at the same time for one record.
    fn at_once(&self) -> usize {
        1
    }
}

/// An answer of one registry. It stays true: it may be recorded.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// The schema as it is stored there. Whether it is the one asked for, and a valid one, was not looked at.
    Schema(Value),
    /// It does not have it, or will not give it to anybody.
    Not(LookupError),
}

/// Why a registry gave no answer, in words for the operator: `connection refused`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoReply(pub String);

/// A question that stays open because a registry gives no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the registry `{repository}` gives no answer about {key}: {why}")]
pub struct Unanswered {
    pub repository: String,
    pub key: SchemaKey,
    pub why: String,
}

impl Reply {
    /// The plain absence.
    pub fn not_found() -> Reply {
        Reply::Not(LookupError { error: "NotFound".to_owned(), message: None })
    }
}
