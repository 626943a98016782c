//! What can go wrong in the speed layer, besides bad data, which is a bad row, and besides a derived stream that takes
//! nothing for now, which is [`Progress::Stalled`](crate::enricher::Progress::Stalled).

use model::position::{Offset, Partition};

/// A failure of the world around the speed layer. All of them may be tried again; none of them moves a frontier.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "the stream `{stream}` has {found} partitions, the raw stream needs {wanted}: all need the same number"
    )]
    Partitions { stream: String, wanted: usize, found: usize },

    #[error(transparent)]
    Stream(#[from] stream::Error),

    #[error(
        "`{partition}` is trimmed below {start}, but the newest cut known here is {cut}; waiting for a newer cut"
    )]
    BelowTheLog { partition: Partition, start: Offset, cut: Offset },

    #[error("enrich the record at {offset} of `{partition}`")]
    Enrich { partition: Partition, offset: Offset, source: assets::Error },

    #[error("update the real-time view")]
    View(#[from] views::Error),

    #[error("start the thread of `{partition}`")]
    Thread { partition: Partition, source: std::io::Error },
}

impl Error {
    /// Whether a registry gives no answer: nothing is broken here.
    pub fn waits(&self) -> bool {
        matches!(self, Error::Enrich { source, .. } if source.waits())
    }
}
