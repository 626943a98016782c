//! Lets the raw stream forget what the master dataset has and no reader needs.
//!
//! The batch service calls it after each iteration. What a published manifest covers was archived, and its batcher read
//! every byte of those files back before the commit; so the manifest is the proof, and nothing else is asked.

use model::cut::Cut;
use stream::Stream;
use views::catalog::Manifest;

use crate::Error;

/// Trims below the smaller of the published cut and the oldest cut that a reader still has pinned. The stream may keep
/// more.
pub fn trim(raw: &dyn Stream, published: &Manifest, oldest_pinned: &Cut) -> Result<(), Error> {
    let bound = published.cut.meet(oldest_pinned);
    for partition in raw.partitions() {
        let below = bound.of(partition);
        if below > raw.start(partition)? {
            raw.trim(partition, below)?;
        }
    }
    Ok(())
}
