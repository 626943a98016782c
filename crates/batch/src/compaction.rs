//! Which table files are to be joined: neighbours of like size, as long as the result stays small enough to be written
//! at once.
//!
//! Pure: a list of files in, groups out. The batcher reads, writes and publishes. Sizes fall into classes that grow by a
//! factor of eight, and a row moves up a class each time it is written again: about five times in its life.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use model::position::Partition;
use views::catalog::{Table, TableFile};

/// How far files are joined.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Files of like size that lie side by side before they are joined.
    pub(crate) files: NonZeroUsize,
    /// Rows and bytes of a joined file.
    pub(crate) rows_max: u64,
    pub(crate) bytes_max: u64,
}

/// Groups of files that become one file each: of one table, one partition and one recipe, in the order of their ranges,
/// with nothing between them. No file stands in two groups.
pub(crate) fn plan(files: &[TableFile], bounds: Bounds) -> Vec<Vec<TableFile>> {
    let mut by_partition: BTreeMap<(Table, &Partition), Vec<&TableFile>> = BTreeMap::new();
    for file in files {
        by_partition.entry((file.table, &file.partition)).or_default().push(file);
    }
    let mut groups = Vec::new();
    for mut row in by_partition.into_values() {
        row.sort_by_key(|file| file.from);
        for of_one_recipe in row.chunk_by(|a, b| a.recipe == b.recipe) {
            plan_row(of_one_recipe, bounds, &mut groups);
        }
    }
    groups
}

/// The smallest class first: what it takes is left alone by the larger ones.
fn plan_row(row: &[&TableFile], bounds: Bounds, groups: &mut Vec<Vec<TableFile>>) {
    let mut is_taken = vec![false; row.len()];
    for class_max in 0..=class(u64::MAX) {
        let fits =
            |at: usize, is_taken: &[bool]| !is_taken[at] && class(row[at].bytes) <= class_max;
        let mut at = 0;
        while at < row.len() {
            let mut end = at;
            let (mut rows, mut bytes) = (0u64, 0u64);
            while end < row.len() && fits(end, &is_taken) {
                rows = rows.saturating_add(row[end].rows);
                bytes = bytes.saturating_add(row[end].bytes);
                if rows > bounds.rows_max || bytes > bounds.bytes_max {
                    break;
                }
                end += 1;
            }
            if end - at >= bounds.files.get().max(2) {
                groups.push(row[at..end].iter().map(|file| (*file).clone()).collect());
                is_taken[at..end].fill(true);
                at = end;
            } else {
                at += 1;
            }
        }
    }
}

/// The size class of so many bytes: one up for each factor of eight.
fn class(bytes: u64) -> u32 {
    bytes.max(1).ilog2() / 3
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::position::Offset;
    use proptest::prelude::*;

    fn file(partition: u32, from: u64, bytes: u64, recipe: &str) -> TableFile {
        TableFile {
            table: Table::Events,
            path: format!("{partition}-{from}"),
            partition: Partition::of_stream("raw", partition),
            from: Offset::from_number(from),
            to: Offset::from_number(from + 1),
            rows: bytes / 100,
            bytes,
            sha256: String::new(),
            iteration: 1,
            recipe: recipe.to_owned(),
        }
    }

    fn bounds(files: usize) -> Bounds {
        let files = NonZeroUsize::new(files).unwrap();
        Bounds { files, rows_max: 10_000, bytes_max: 1_000_000 }
    }

    fn planned(files: &[TableFile], at_least: usize) -> Vec<Vec<String>> {
        let names = |group: Vec<TableFile>| group.into_iter().map(|file| file.path).collect();
        plan(files, bounds(at_least)).into_iter().map(names).collect()
    }

    #[test]
    fn neighbours_of_like_size_are_joined() {
        let files: Vec<_> = (0..4).map(|at| file(0, at, 5000 + at, "r")).collect();
        assert_eq!(planned(&files, 4), [["0-0", "0-1", "0-2", "0-3"]]);
        assert!(planned(&files, 5).is_empty());
    }

    #[test]
    fn a_large_neighbour_waits_until_there_are_more_of_its_size() {
        let sizes = [400_000, 5000, 5000, 5000];
        let files: Vec<_> = (0..).zip(sizes).map(|(at, size)| file(0, at, size, "r")).collect();
        assert_eq!(planned(&files, 3), [["0-1", "0-2", "0-3"]]);
    }

    #[test]
    fn other_partitions_tables_and_recipes_are_not_mixed() {
        let mut files: Vec<_> = (0..4).map(|at| file(at as u32 % 2, at, 5000, "r")).collect();
        files.push(TableFile { table: Table::BadRows, ..file(0, 9, 5000, "r") });
        files.push(TableFile { table: Table::FailedEvents, ..file(0, 8, 5000, "r") });
        files.push(file(0, 10, 5000, "s"));
        assert!(planned(&files, 3).is_empty());
        assert_eq!(planned(&files, 2), [["0-0", "0-2"], ["1-1", "1-3"]]);
    }

    #[test]
    fn a_joined_file_stays_within_the_bounds() {
        let files: Vec<_> = (0..10).map(|at| file(0, at, 300_000, "r")).collect();
        let sizes: Vec<usize> = planned(&files, 2).iter().map(Vec::len).collect();
        assert_eq!(sizes, [3, 3, 3]);
    }

    proptest! {
        #[test]
        fn groups_are_disjoint_runs_in_order(
            sizes in proptest::collection::vec((0u32..2, 1u64..2_000_000, 0u8..2), 0..60),
            at_least in 2usize..6,
        ) {
            let files: Vec<_> = (0..)
                .zip(&sizes)
                .map(|(at, (partition, bytes, recipe))| file(*partition, at, *bytes, if *recipe == 0 { "r" } else { "s" }))
                .collect();
            let groups = plan(&files, bounds(at_least));
            let mut seen = std::collections::BTreeSet::new();
            for group in &groups {
                prop_assert!(group.len() >= at_least);
                prop_assert!(group.iter().map(|file| file.bytes).sum::<u64>() <= 1_000_000);
                for pair in group.windows(2) {
                    prop_assert!(pair[0].to <= pair[1].from);
                    let between = files.iter().any(|file| {
                        file.partition == pair[0].partition && file.from >= pair[0].to && file.to <= pair[1].from
                    });
                    prop_assert!(!between, "a file lies between two that were joined");
                }
                for file in group {
                    prop_assert!(seen.insert(file.path.clone()), "{} is joined twice", file.path);
                }
            }
        }
    }
}
