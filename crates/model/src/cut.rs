//! The cut: for each partition the first offset that is *not* in the batch view. Also every other vector of positions:
//! the frontier of the speed layer, the end of the archive.
//!
//! A record is in the batch view if its offset is below its partition's entry, and in the real-time view if not: never
//! a matter of time. A partition that is not named stands at its beginning. Nothing else compares offsets of the two
//! layers.

use std::collections::BTreeMap;
use std::fmt;

use crate::position::{Offset, Partition};

/// A vector of positions. Equal vectors may differ in naming a partition at its beginning; [`Cut::new`] and
/// [`Cut::raise`] never keep such an entry, so that equality is plain.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Cut(BTreeMap<Partition, Offset>);

/// The first position per partition that the speed layer has not yet seen.
pub type Frontier = Cut;

impl Cut {
    /// The vector with these entries.
    pub fn new(entries: impl IntoIterator<Item = (Partition, Offset)>) -> Cut {
        Cut(entries.into_iter().filter(|(_, offset)| *offset > Offset::BEGINNING).collect())
    }

    /// The first offset of `partition` that lies at or beyond the cut.
    pub fn of(&self, partition: &Partition) -> Offset {
        self.0.get(partition).copied().unwrap_or(Offset::BEGINNING)
    }

    /// Whether a record at `offset` lies below the cut.
    pub fn covers(&self, partition: &Partition, offset: Offset) -> bool {
        offset < self.of(partition)
    }

    /// Moves one partition forward; an offset below the present one changes nothing.
    pub fn raise(&mut self, partition: &Partition, offset: Offset) {
        if offset > self.of(partition) {
            self.0.insert(partition.clone(), offset);
        }
    }

    /// Whether this cut is not below `other` in any partition.
    pub fn is_at_or_beyond(&self, other: &Cut) -> bool {
        other.0.iter().all(|(partition, offset)| self.of(partition) >= *offset)
    }

    /// The larger of the two in every partition.
    pub fn join(&self, other: &Cut) -> Cut {
        let mut joined = self.clone();
        for (partition, offset) in &other.0 {
            joined.raise(partition, *offset);
        }
        joined
    }

    /// The smaller of the two in every partition.
    pub fn meet(&self, other: &Cut) -> Cut {
        Cut::new(
            self.0
                .iter()
                .map(|(partition, offset)| (partition.clone(), (*offset).min(other.of(partition)))),
        )
    }

    /// The named partitions, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&Partition, Offset)> {
        self.0.iter().map(|(partition, offset)| (partition, *offset))
    }

    /// Whether every partition stands at its beginning.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.0).finish()
    }
}

impl FromIterator<(Partition, Offset)> for Cut {
    fn from_iter<I: IntoIterator<Item = (Partition, Offset)>>(entries: I) -> Cut {
        Cut::new(entries)
    }
}

/// As JSON and TOML: an object from partition to the offset's 20 digits, in the order of the names.
impl serde::Serialize for Cut {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            self.0.iter().map(|(partition, offset)| (partition.as_str(), offset.to_string())),
        )
    }
}

impl<'de> serde::Deserialize<'de> for Cut {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Cut, D::Error> {
        use serde::de::Error;
        let entries = BTreeMap::<String, String>::deserialize(deserializer)?;
        entries
            .iter()
            .map(|(name, offset)| {
                let partition = Partition::parse(name).map_err(D::Error::custom)?;
                Ok((partition, offset.parse().map_err(D::Error::custom)?))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cuts() -> impl Strategy<Value = Cut> {
        proptest::collection::vec((0u32..4, 0u64..6), 0..5).prop_map(|entries| {
            Cut::new(
                entries
                    .into_iter()
                    .map(|(p, o)| (Partition::of_stream("raw", p), Offset::from_number(o))),
            )
        })
    }

    proptest! {
        #[test]
        fn join_is_the_least_cut_beyond_both_and_meet_the_greatest_below_both(a in cuts(), b in cuts(), c in cuts()) {
            let (join, meet) = (a.join(&b), a.meet(&b));
            prop_assert!(join.is_at_or_beyond(&a) && join.is_at_or_beyond(&b));
            prop_assert!(a.is_at_or_beyond(&meet) && b.is_at_or_beyond(&meet));
            if c.is_at_or_beyond(&a) && c.is_at_or_beyond(&b) {
                prop_assert!(c.is_at_or_beyond(&join));
            }
            if a.is_at_or_beyond(&c) && b.is_at_or_beyond(&c) {
                prop_assert!(meet.is_at_or_beyond(&c));
            }
        }

        #[test]
        fn two_cuts_that_bound_each_other_are_equal(a in cuts(), b in cuts()) {
            prop_assert_eq!(a == b, a.is_at_or_beyond(&b) && b.is_at_or_beyond(&a));
        }

        #[test]
        fn each_record_is_on_one_side_and_stays_below_a_cut_that_moves_on(a in cuts(), b in cuts(), p in 0u32..4, o in 0u64..6) {
            let (partition, offset) = (Partition::of_stream("raw", p), Offset::from_number(o));
            prop_assert_eq!(a.covers(&partition, offset), offset < a.of(&partition));
            if a.covers(&partition, offset) {
                prop_assert!(a.join(&b).covers(&partition, offset));
            }
        }

        #[test]
        fn the_json_form_reads_back(a in cuts()) {
            let text = serde_json::to_string(&a).unwrap();
            prop_assert_eq!(serde_json::from_str::<Cut>(&text).unwrap(), a);
        }
    }
}
