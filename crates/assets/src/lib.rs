//! What the enrich function looks up: fetched here, pinned here as a recipe, and handed to both layers by digest.
//!
//! The only crate that fetches anything for `enrich`. Today the one source is a set of folders with Iglu schemas; a
//! recipe made from them and from the embedded schemas answers every question by itself, so [`drive`] never waits.
//!
//! - [`registry`]: where schemas come from.
//! - [`recipes`]: the recipe in force, its durable copy, and the way back by digest.

pub mod recipes;
pub mod registry;

use std::io;
use std::path::PathBuf;

use enrich::{InvalidRecipe, Missing, Outcome, Recipe};
use model::position::RawRecord;

pub use recipes::{current_recipe, load, pin};
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
    #[error("{} is not named as a schema: expected vendor/name/jsonschema/1-0-0 ({source})", path.display())]
    Misplaced { path: PathBuf, source: model::iglu::InvalidKey },
    /// A schema that says that it is another one than its place says.
    #[error("{} lies where {place} belongs, but its `self` says {found}", path.display())]
    OtherSchema { path: PathBuf, place: String, found: String },
    /// No recipe of this digest was pinned in this data folder, or its file is gone.
    #[error("recipe {digest} is not in {} (restore the file from a backup, or rebuild with the current recipe)", path.display())]
    UnknownRecipe { digest: String, path: PathBuf },
    /// The file is there, but it is not what was pinned.
    #[error(
        "recipe {digest} is damaged: {} has digest {found} (restore the file from a backup, or remove it and rebuild with the current recipe)",
        path.display()
    )]
    DamagedRecipe { digest: String, found: String, path: PathBuf },
    /// The recipe is whole, but this binary cannot enrich with it.
    #[error("use recipe {} (run the version of snowmelt that made it, or rebuild with the current recipe)", path.display())]
    UnusableRecipe { path: PathBuf, source: InvalidRecipe },
    /// The recipe lacks answers, and there is nobody to ask.
    #[error(transparent)]
    Missing(#[from] Missing),
}

/// Enriches one record, fetching what the recipe lacks. Both layers call this.
///
/// # Errors
/// [`Error::Missing`] when the recipe leaves a question open: no registry can be asked at this point, so an open
/// question stays open. It never becomes a bad row.
pub fn drive(record: &RawRecord<'_>, recipe: &Recipe) -> Result<Vec<Outcome>, Error> {
    Ok(enrich::enrich(record, recipe)?)
}
