//! The places of names in a fixed list of short names: the parameters of the tracker protocol, the properties of a
//! schema. An event has some sixty of them to be found, so they are found without a general hash.

/// A list of names that is looked things up in.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    names: Vec<Box<str>>,
    /// By hash: a place in `names`, plus one. At most half of them are taken, so that an empty one ends each search.
    slots: Vec<u16>,
}

impl Names {
    /// The list of these names; of equal ones the first counts. They must be fewer than 30,000.
    pub(crate) fn new(names: impl IntoIterator<Item = impl Into<Box<str>>>) -> Names {
        let names: Vec<Box<str>> = names.into_iter().map(Into::into).collect();
        assert!(names.len() < 30_000, "a list of names is short");
        let mut list = Names { slots: vec![0; (names.len() * 4).next_power_of_two()], names };
        for place in 0..list.names.len() {
            if let Err(slot) = list.search(&list.names[place]) {
                list.slots[slot] = place as u16 + 1;
            }
        }
        list
    }

    /// The name's place in the list.
    pub(crate) fn place(&self, name: &str) -> Option<usize> {
        self.search(name).ok()
    }

    /// How many names were given.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// The place of a name, or the slot where it would stand.
    fn search(&self, name: &str) -> Result<usize, usize> {
        let mask = self.slots.len() - 1;
        let mut slot = hash(name) & mask;
        loop {
            match self.slots[slot] {
                0 => return Err(slot),
                place if *self.names[usize::from(place) - 1] == *name => {
                    return Ok(usize::from(place) - 1);
                }
                _ => slot = (slot + 1) & mask,
            }
        }
    }
}

/// Of the length and the last eight bytes. Whoever knows it can only make searches as long as the list, which is not
/// his.
fn hash(name: &str) -> usize {
    let bytes = name.as_bytes();
    let tail = match bytes.last_chunk::<8>() {
        Some(tail) => u64::from_le_bytes(*tail),
        None => bytes.iter().fold(0, |tail, byte| tail << 8 | u64::from(*byte)),
    };
    let mixed = (tail ^ (bytes.len() as u64) << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 40) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_its_place_and_others_have_none() {
        let names: Vec<String> = (0..1000).map(|n| format!("name-of-{n}")).collect();
        let list = Names::new(names.iter().map(String::as_str));
        for (place, name) in names.iter().enumerate() {
            assert_eq!(list.place(name), Some(place));
            assert_eq!(list.place(&name[1..]), None);
        }
        let twice = Names::new(["a", "b", "a", ""]);
        assert_eq!(
            ["a", "b", "", "c"].map(|name| twice.place(name)),
            [Some(0), Some(1), Some(3), None]
        );
        assert_eq!(Names::new([""; 0]).place(""), None);
    }
}
