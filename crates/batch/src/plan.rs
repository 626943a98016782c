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

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;
    use stream::Record;

    fn file(partition: u32, from: u64, to: u64) -> Footer {
        let partition = Partition::of_stream("raw", partition);
        let mut writer = master::Writer::new(partition, Offset::from_number(from));
        let offset = Offset::from_number(from);
        writer.push(&Record { offset, bytes: Bytes::from(vec![0; (to - from) as usize]) });
        writer.finish(Offset::from_number(to)).1
    }

    fn cut(entries: &[(u32, u64)]) -> Cut {
        entries
            .iter()
            .map(|(p, o)| (Partition::of_stream("raw", *p), Offset::from_number(*o)))
            .collect()
    }

    #[test]
    fn the_next_cut_is_the_end_of_each_chain() {
        let files = vec![file(1, 3, 9), file(0, 7, 8), file(0, 5, 7)];
        let plan = plan(Path::new("/d"), &cut(&[(0, 5), (1, 3), (2, 4)]), files).unwrap();
        assert_eq!(plan.cut, cut(&[(0, 8), (1, 9), (2, 4)]));
        assert_eq!(plan.records(), 3);
        let froms: Vec<u64> = plan.work.iter().map(|footer| footer.range.from.number()).collect();
        assert_eq!(froms, [5, 7, 3]);
        assert_eq!(order_of_work(&plan.work), [2, 0, 1]);
    }

    #[test]
    fn without_files_the_cut_stays() {
        let published = cut(&[(0, 5)]);
        let plan = plan(Path::new("/d"), &published, Vec::new()).unwrap();
        assert!(plan.is_empty());
        assert_eq!(plan.cut, published);
    }

    #[test]
    fn a_file_that_does_not_join_its_predecessor_is_a_hole() {
        let error = plan(Path::new("/d"), &cut(&[]), vec![file(0, 0, 2), file(0, 3, 4)]);
        let Err(Error::Hole { from, to, .. }) = error else { panic!("{error:?}") };
        assert_eq!((from.number(), to.number()), (2, 3));
    }

    proptest! {
        #[test]
        fn a_planned_cut_never_retreats_and_the_work_fills_it_without_a_gap(
            published in proptest::collection::vec(0u64..50, 3),
            lengths in proptest::collection::vec(proptest::collection::vec(1u64..20, 0..5), 3),
        ) {
            let since = cut(&[(0, published[0]), (1, published[1]), (2, published[2])]);
            let mut files = Vec::new();
            for (partition, (from, lengths)) in (0u32..).zip(published.iter().zip(&lengths)) {
                let mut from = *from;
                for length in lengths {
                    files.push(file(partition, from, from + length));
                    from += length;
                }
            }
            files.reverse();
            let plan = plan(Path::new("/d"), &since, files).unwrap();
            prop_assert!(plan.cut.is_at_or_beyond(&since));
            let mut end = since;
            for footer in &plan.work {
                prop_assert_eq!(footer.range.from, end.of(&footer.range.partition));
                end.raise(&footer.range.partition, footer.range.to);
            }
            prop_assert_eq!(end, plan.cut);
            let mut order = order_of_work(&plan.work);
            order.sort_unstable();
            prop_assert_eq!(order, (0..plan.work.len()).collect::<Vec<_>>());
        }
    }
}
