//! What can go wrong with the views, by what the caller does about it.
//!
//! A damaged or missing file is never skipped: a wrong answer is worse than none (law 7).

use std::io;
use std::path::{Path, PathBuf};

use model::position::{Offset, Partition, Position};

/// An error of the views.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk failed; trying again may help.
    #[error("{action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },

    /// A file that a manifest names is gone.
    #[error("{} is missing: restore it from a backup, or rebuild the batch view", .0.display())]
    Missing(PathBuf),

    /// The catalogue ends below an iteration that was committed: to go on would take a published cut back (law 3).
    #[error(
        "{} is missing, although {} names it as committed: restore it from a backup; in a copy that was made while a \
         server ran, remove {} instead",
        manifest.display(), hint.display(), hint.display()
    )]
    LostNewest { manifest: PathBuf, hint: PathBuf },

    /// A file does not hold what was written.
    #[error("{} is damaged ({detail}): {way_out}", path.display())]
    Damaged { path: PathBuf, detail: String, way_out: &'static str },

    /// A later version of the program wrote the file.
    #[error("{} has format {found}, this program reads up to {known}: use a newer version of snowmelt", path.display())]
    Newer { path: PathBuf, found: u64, known: u64 },

    /// A manifest that breaks a rule of the catalogue; nothing was written.
    #[error("iteration {iteration} cannot be committed: {detail}")]
    Rejected { iteration: u64, detail: String },

    /// The first manifest could not be made.
    #[error("make the first manifest")]
    First(#[source] Box<dyn std::error::Error + Send + Sync>),

    /// A batch of rows that does not have the table's form, or whose rows do not lie where they are said to.
    #[error("rows of {partition} from {from}: {detail}")]
    Rows { partition: Partition, from: Offset, detail: String },

    /// The real-time view is at its limit and cannot spill. The chunk was not taken: offer it again when an iteration
    /// has moved the cut.
    #[error("the real-time view is full ({bytes} bytes of {bytes_max}) and cannot spill: {reason}")]
    Full { bytes: u64, bytes_max: u64, reason: String },

    /// Rows of the real-time view that were written to a file of this process are gone or damaged.
    #[error(
        "{} is gone or damaged ({detail}): restart the server, which fills the real-time view again from the streams",
        path.display()
    )]
    LostSpill { path: PathBuf, detail: String },

    /// Between cut and frontier there are positions that the real-time view does not hold. Passes when the server
    /// moves on to the newest iteration, or when the speed layer has filled the range.
    #[error("the real-time view of {partition} begins at {begin}, above the cut at {cut}")]
    Uncovered { partition: Partition, cut: Offset, begin: Offset },

    /// One position twice, or on the wrong side of the cut. Always a bug or a damaged data folder.
    #[error("position {position} stands in the answer wrongly: {detail}")]
    Position { position: Position, detail: &'static str },

    /// Arrow refused an operation in memory.
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),

    /// Parquet could not be written or read.
    #[error(transparent)]
    Parquet(#[from] ::parquet::errors::ParquetError),
}

impl Error {
    /// For `map_err`: what was being done to which path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { action, path, source }
    }

    /// The same for a read, where absence is an answer of its own.
    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::NotFound => Error::Missing(path),
            _ => Error::Io { action: "read", path, source },
        }
    }
}
