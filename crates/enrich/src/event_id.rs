//! The event id of an event whose tracker sent none: derived from where the event lies.
//!
//! Snowplow draws a random id, so two runs over one record differ; both of our layers must say the same.

use model::position::{Offset, Partition};
use uuid::Uuid;

/// The namespace of our derived ids; it never changes, or rebuilt events would get new ids.
const NAMESPACE: Uuid = Uuid::from_u128(0x6b1f_9c52_7c0e_4d4e_9a83_5e0d_2f47_a1c6);

/// UUID v5 over partition, offset and index of the outcome.
pub(crate) fn derive(partition: &Partition, offset: Offset, index: usize) -> String {
    Uuid::new_v5(&NAMESPACE, format!("{partition}\n{offset}\n{index}").as_bytes()).to_string()
}

/// The id of the event that tells what was pseudonymised in the outcome `index`. No event has it.
pub(crate) fn derive_pii(partition: &Partition, offset: Offset, index: usize) -> String {
    Uuid::new_v5(&NAMESPACE, format!("{partition}\n{offset}\n{index}\npii").as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_follows_from_partition_offset_and_index_alone() {
        let (a, b) = (Partition::of_stream("raw", 0), Partition::of_stream("raw", 1));
        let at = Offset::from_number;
        // A changed value here would re-identify every event without an id in every installation.
        assert_eq!(derive(&a, at(7), 0), "1ae733ac-300b-5c53-8846-06fc3f75f86d");
        let others = [derive(&b, at(7), 0), derive(&a, at(8), 0), derive(&a, at(7), 1)];
        assert!(others.iter().all(|other| *other != derive(&a, at(7), 0)));
    }
}
