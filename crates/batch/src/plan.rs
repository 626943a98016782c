//! What the next iteration does: the next cut, and the files of the master dataset between the published cut and it.
//!
//! Pure: footers in, work out. The batcher reads the footers and does the work. Nothing here opens a file.

use std::collections::BTreeMap;
use std::path::Path;

use model::cut::Cut;
use model::position::{Offset, Partition};

use crate::Error;
use crate::master::{self, Footer};

/// One iteration's work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The published cut that the work starts from.
    pub since: Cut,
    /// The cut that the iteration publishes; not below `since` in any partition.
    pub cut: Cut,
    /// The files between the two, by partition and position. Each is one piece of work.
    pub work: Vec<Footer>,
}

impl Plan {
    /// Whether no record lies between the two cuts.
    pub fn is_empty(&self) -> bool {
        self.work.is_empty()
    }

    pub fn records(&self) -> u64 {
        self.work.iter().map(|footer| footer.records).sum()
    }
}

/// Plans from the published cut along the chains that were found behind it.
///
/// # Errors
/// [`Error::Hole`] when a file does not begin where its predecessor, or the published cut, ends.
pub fn plan(data_dir: &Path, published: &Cut, chains: Vec<Footer>) -> Result<Plan, Error> {
    let mut by_partition: BTreeMap<Partition, Vec<Footer>> = BTreeMap::new();
    for footer in chains {
        by_partition.entry(footer.range.partition.clone()).or_default().push(footer);
    }
    let mut cut = published.clone();
    let mut work = Vec::new();
    for (partition, mut links) in by_partition {
        links.sort_by_key(|footer| footer.range.from);
        let end = end_of_chain(data_dir, &partition, published.of(&partition), &links)?;
        cut.raise(&partition, end);
        work.extend(links);
    }
    Ok(Plan { since: published.clone(), cut, work })
}

/// The order in which workers take the pieces: the longest first, so that the last one is short.
pub fn order_of_work(work: &[Footer]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..work.len()).collect();
    order.sort_by_key(|&at| (std::cmp::Reverse(work[at].bytes), at));
    order
}

fn end_of_chain(
    data_dir: &Path,
    partition: &Partition,
    from: Offset,
    links: &[Footer],
) -> Result<Offset, Error> {
    let mut end = from;
    for link in links {
        if link.range.from != end {
            let path = master::path(data_dir, partition, end);
            let to = link.range.from;
            return Err(Error::Hole { partition: partition.clone(), from: end, to, path });
        }
        end = link.range.to;
    }
    Ok(end)
}
