//! What the API asks of the process around it: an iteration now, its status, its metrics, its health.
//!
//! The binary implements it over the roles that it runs; tests have their own. Nothing here touches the views.

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

/// The process around the server.
pub trait Control: Send + Sync {
    /// Runs one iteration and answers after it is published and served.
    fn batch<'a>(
        &'a self,
        request: BatchRequest,
    ) -> BoxFuture<'a, Result<BatchAnswer, ControlError>>;

    /// Fields that are added to the answer of `GET /api/v1/status`; an object.
    fn status(&self) -> serde_json::Value;

    /// Metrics of the other roles in Prometheus text form; each line ends with a line feed.
    fn metrics(&self) -> String;

    fn health(&self) -> Health;
}

/// The body of `POST /api/v1/batch`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchRequest {
    /// Write a new generation with the newest recipe.
    pub rebuild: bool,
    /// Derive again only what can change.
    pub heal: bool,
}

/// The answer after publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct BatchAnswer {
    /// The newest iteration.
    pub iteration: u64,
    /// Whether this request made it; `false` when there was nothing new.
    pub published: bool,
}

/// Why there is no iteration: an error of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlError {
    /// A stable word, for example `batch_failed`.
    pub code: String,
    /// What went wrong; lower-case, names the object.
    pub message: String,
    /// The way out, or empty.
    pub hint: String,
}

/// Whether the process does its work: every check, in an order that does not change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    pub checks: Vec<Check>,
    /// What somebody should look at although the work is done.
    pub warnings: Vec<Failure>,
}

/// One thing that must be so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// A stable word, for example `disk`.
    pub name: &'static str,
    /// Why it is not so.
    pub failure: Option<Failure>,
}

/// What is wrong, and the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Names the object; without a full stop.
    pub message: String,
    /// What to do, or what happens by itself.
    pub hint: String,
}

impl Health {
    /// What fails, in order.
    pub fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.checks.iter().filter_map(|check| check.failure.as_ref())
    }
}
