//! What the enrich function looks up: fetched here, pinned here as a recipe, and handed to both layers by digest.
//!
//! The only crate that fetches anything for `enrich`. Schemas from folders stand in the recipe itself. What only
//! registries on the network have is asked for when a record needs it, and the answer is kept as a durable fact, so that
//! both layers, and any later replay, see the same.
//!
//! - [`registry`]: where the schemas of a recipe come from.
//! - [`recipes`]: the recipe in force, its durable copy, and the way back by digest.
//! - [`enrichments`]: Snowplow's enrichment files, and the files that they name.
//! - [`packages`]: files for enrichments that others publish, fetched when an operator asks for them.
//! - [`resolver_config`]: Snowplow's resolver JSON.
//! - [`driver`]: a record to its outcomes.
//! - [`answers`]: what is known, in memory and as facts, and the asking.
//! - [`ask`], [`http`]: one question to one registry.
//! - [`look_ups`]: what enrichments ask the world outside, recorded for each record; [`outside`]: who is asked, over
//!   HTTP or as a database.

pub mod registry;

pub mod recipes;

pub mod enrichments;

mod remote;

mod fetch;

#[cfg(feature = "cloud")]
mod cloud;

pub mod packages;

pub mod resolver_config;

pub mod driver;

pub mod answers;

mod facts;

mod fact;

mod resolve;

pub mod ask;

pub mod http;

mod look_up_cache;

mod look_up_facts;

pub mod look_ups;

pub mod outside;

pub mod look_up_http;

pub mod look_up_sql;

mod postgres;

mod any_certificate;

mod pauses;

#[cfg(test)]
mod scripted;

use std::io;
use std::path::PathBuf;

use enrich::enrichments::InvalidEnrichment;
use enrich::{InvalidRecipe, Missing, Outcome, Recipe};
use model::iglu::SchemaKey;
use model::position::RawRecord;

pub use answers::{Answers, Stats};
pub use ask::Unanswered;
pub use driver::Driver;
pub use recipes::{asking_anew, current_recipe, load, pin, proposed_recipe};
pub use registry::{Folders, Registry};

/// What stands between a record and its outcomes, other than the record.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A folder or a file that cannot be read or written.
    #[error("{action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// A file in a schema folder that is no JSON.
    #[error("read the schema {} (move it out of the folder, or mend it)", path.display())]
    NotJson { path: PathBuf, source: serde_json::Error },
    /// A file whose place is no schema key.
    #[error(
        "{} is not named as a schema: expected vendor/name/jsonschema/1-0-0, without an ending ({source})",
        path.display()
    )]
    Misplaced { path: PathBuf, source: model::iglu::InvalidKey },
    /// A schema that says that it is another one than its place says.
    #[error("{} lies where {place} belongs, but its `self` says {found}", path.display())]
    OtherSchema { path: PathBuf, place: String, found: String },
    /// A schema in a file of several that does not say who it is.
    #[error("{}: schema {place} of the file has no `self` that is a schema key", path.display())]
    NoSelf { path: PathBuf, place: usize },
    /// No recipe of this digest was pinned in this data folder, or its file is gone.
    #[error("recipe {digest} is not in {} (restore the file from a backup)", path.display())]
    UnknownRecipe { digest: String, path: PathBuf },
    /// The file is there, but it is not what was pinned.
    #[error(
        "recipe {digest} is damaged: {} has digest {found} (restore the file from a backup; without one, remove it, and the next start goes over to the recipe of its configuration at the cut)",
        path.display()
    )]
    DamagedRecipe { digest: String, found: String, path: PathBuf },
    /// The recipe is whole, but this binary cannot enrich with it.
    #[error("use recipe {} (run the version of snowmelt that made it)", path.display())]
    UnusableRecipe { path: PathBuf, source: InvalidRecipe },
    /// A file in the folder of enrichments that is no JSON.
    #[error("read the enrichment {} (move it out of the folder, or mend it)", path.display())]
    EnrichmentNotJson { path: PathBuf, source: serde_json::Error },
    /// A configuration of an enrichment that cannot be used.
    #[error(transparent)]
    Enrichment(#[from] InvalidEnrichment),
    /// A file that an enrichment names and that cannot be had.
    #[error("fetch {address}, which an enrichment needs: {what}")]
    Asset { address: String, what: String },
    /// A file that was pinned with a recipe, and that is gone or another one now.
    #[error("{}, which a recipe needs, {what} (restore the file from a backup)", path.display())]
    PinnedAsset { path: PathBuf, what: &'static str },
    /// The recipe lacks answers that were not looked for.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// The recipe names registries, but this process asks none.
    #[error(
        "nobody has answered yet whether there is {}, and no registry is asked (set `enrich.resolver` as it was, or run an iteration, which goes over to the configuration as it is)",
        list(schemas)
    )]
    NobodyToAsk { schemas: Vec<SchemaKey> },
    /// A registry gives no answer now.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
    /// A fact that is not what was recorded.
    #[error(
        "{}: the fact about {key} is damaged: {what} (restore the file from a backup; without it the registries are asked again, and may answer otherwise than before)",
        path.display()
    )]
    DamagedFact { path: PathBuf, key: SchemaKey, what: String },
    /// A fact that was written by a later release.
    #[error(
        "{}: format version {format} is newer than this binary reads ({known}); use a newer release",
        path.display()
    )]
    NewerFact { path: PathBuf, format: u64, known: u64 },
    /// A fact about a look-up that is not what was recorded.
    #[error(
        "{}: the fact about a look-up is damaged: {what} (restore the file from a backup; without it the question is asked again, and may be answered otherwise than before)",
        path.display()
    )]
    DamagedLookUp { path: PathBuf, what: String },
    /// An enrichment looks something up, but this process asks nobody.
    #[error(
        "nobody has answered yet what {enrichment} asks: {request}, and no look-up is made here (the enricher of the running server makes them)"
    )]
    NobodyLooksUp { enrichment: &'static str, request: String },
    /// A resolver configuration that cannot be used.
    #[error("resolver configuration {}: {what}", path.display())]
    ResolverConfig { path: PathBuf, what: String },
}

impl Error {
    /// Whether the record waits for an answer from outside; nothing here is broken, and trying again is all there is to
    /// do.
    pub fn waits(&self) -> bool {
        matches!(
            self,
            Error::Missing(_)
                | Error::NobodyToAsk { .. }
                | Error::NobodyLooksUp { .. }
                | Error::Unanswered(_)
        )
    }
}

fn list(keys: &[SchemaKey]) -> String {
    let some: Vec<&str> = keys.iter().take(3).map(SchemaKey::as_str).collect();
    let more = keys.len().saturating_sub(some.len());
    let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{rest}", some.join(", "))
}

/// Enriches one record with a recipe alone. What asks registries is [`Driver::drive`].
///
/// # Errors
/// [`Error::Missing`] when the recipe leaves a question open, which one without a resolver never does.
pub fn drive(record: &RawRecord<'_>, recipe: &Recipe) -> Result<Vec<Outcome>, Error> {
    Ok(enrich::enrich(record, recipe)?)
}
