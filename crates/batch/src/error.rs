//! What can fail in the batch layer. Data that is wrong never comes here: it is a bad row.
//! An iteration that meets one of these publishes nothing; the next attempt starts from the published manifest.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::position::{Offset, Partition};

/// Cheap to clone, so that everyone who waits for one iteration gets its error.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The disk failed: worth trying again (it may have been full).
    #[error("{action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: Arc<io::Error> },

    /// A file of the master dataset is not what was written. Nothing is enriched from it.
    #[error("{}: damaged: {what}; restore the file from a backup", path.display())]
    Damaged { path: PathBuf, what: String },

    /// A file of the master dataset was written by a later release.
    #[error(
        "{}: format version {version} is newer than this binary reads ({known}); use a newer release",
        path.display()
    )]
    Newer { path: PathBuf, version: u32, known: u32 },

    /// The master dataset lacks a range that was archived, or that the raw stream has forgotten (law 7).
    #[error(
        "hole in {partition}: [{from}, {to}) is missing from the master dataset; restore {} from a backup",
        path.display()
    )]
    Hole { partition: Partition, from: Offset, to: Offset, path: PathBuf },

    /// Two sides of the ledger were counted from different data and differ: a fault of ours or of the disk.
    #[error("the ledger of {partition} [{from}, {to}) does not close: {what}")]
    LedgerOpen { partition: Partition, from: Offset, to: Offset, what: String },

    /// Other writers of the catalogue were faster, again and again.
    #[error("iteration {iteration} was committed by somebody else, {attempts} times in a row")]
    Overtaken { iteration: u64, attempts: u32 },

    /// Only one rebuild runs at a time.
    #[error(
        "generation {generation} is being rebuilt already: wait until it answers, then ask again if the recipe has changed since"
    )]
    RebuildRuns { generation: u64 },

    /// The rows that the other recipe has made meanwhile would be taken back by the rebuilt generation.
    #[error(
        "generation {generation} was not published: an iteration has put another recipe in force while it was rebuilt; \
         rebuild again"
    )]
    RecipeChanged { generation: u64 },

    /// What a rebuild would be made with.
    #[error("nothing was rebuilt: the recipe as it is now cannot be read: {what}")]
    NoRecipe { what: String },

    /// The batch layer has been shut down, or died of a panic that is in the log.
    #[error("the batch layer has stopped: {why}")]
    Stopped { why: String },

    /// Where the partition cannot be read or trimmed.
    #[error("raw stream")]
    Stream(#[source] Arc<stream::Error>),

    /// A recipe cannot be pinned or loaded, or lacks an answer.
    #[error("recipe")]
    Assets(#[source] Arc<assets::Error>),

    /// A table file or a manifest cannot be written or read.
    #[error("batch view")]
    Views(#[source] Arc<views::Error>),
}

impl Error {
    /// Whether a registry gives no answer: nothing is broken here.
    pub fn waits(&self) -> bool {
        matches!(self, Error::Assets(source) if source.waits())
    }

    /// For `map_err`: what was being done to which path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { action, path: path.to_owned(), source: Arc::new(source) }
    }

    pub(crate) fn damaged(path: &Path, what: impl Into<String>) -> Error {
        Error::Damaged { path: path.to_owned(), what: what.into() }
    }
}

/// The error and its causes as one sentence, for logs and status.
pub(crate) fn sentence(error: &(dyn std::error::Error + 'static)) -> String {
    model::causes::Causes(error).to_string()
}

impl From<stream::Error> for Error {
    fn from(error: stream::Error) -> Error {
        Error::Stream(Arc::new(error))
    }
}

impl From<assets::Error> for Error {
    fn from(error: assets::Error) -> Error {
        Error::Assets(Arc::new(error))
    }
}

impl From<views::Error> for Error {
    fn from(error: views::Error) -> Error {
        Error::Views(Arc::new(error))
    }
}
