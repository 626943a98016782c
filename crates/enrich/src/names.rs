//! The places of names in a fixed list of short names: the parameters of the tracker protocol, the properties of a
//! schema. An event has some sixty of them to be found, so they are found without a general hash.

/// A list of names that is looked things up in.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    names: Vec<Box<str>>,
    /// By hash. At most half of them are taken, so that a free one ends each search.
    slots: Vec<Slot>,
}

/// What is known of a name without a look at it.
#[derive(Clone, Copy, Debug)]
struct Slot {
    tail: u64,
    len: usize,
    /// The name's place in the list; [`FREE`] if there is none.
    place: u16,
}

const FREE: u16 = u16::MAX;

impl Names {
    /// The list of these names; of equal ones the first counts. They must be fewer than 30,000.
    pub(crate) fn new(names: impl IntoIterator<Item = impl Into<Box<str>>>) -> Names {
        let names: Vec<Box<str>> = names.into_iter().map(Into::into).collect();
        assert!(names.len() < 30_000, "a list of names is short");
        let free = Slot { tail: 0, len: 0, place: FREE };
        let slots = vec![free; (names.len() * 4).next_power_of_two()];
        let mut list = Names { slots, names };
        for place in 0..list.names.len() {
            let name = &*list.names[place];
            if let Err(slot) = list.search(name) {
                let (tail, len) = (tail(name), name.len());
                list.slots[slot] = Slot { tail, len, place: place as u16 };
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
        let (tail, len) = (tail(name), name.len());
        let mask = self.slots.len() - 1;
        let mut slot = hash(tail, len) & mask;
        loop {
            let found = self.slots[slot];
            let place = usize::from(found.place);
            if found.place == FREE {
                return Err(slot);
            }
            // A short name is known by its tail.
            if found.tail == tail
                && found.len == len
                && (len <= size_of::<u64>() || *self.names[place] == *name)
            {
                return Ok(place);
            }
            slot = (slot + 1) & mask;
        }
    }
}

/// The last eight bytes of a name. Of a shorter one, all of them: no two of one length have the same.
fn tail(name: &str) -> u64 {
    let bytes = name.as_bytes();
    if let Some(tail) = bytes.last_chunk::<8>() {
        return u64::from_le_bytes(*tail);
    }
    // Both halves may hold the bytes in the middle.
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        return u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last));
    }
    bytes.iter().fold(0, |tail, byte| tail << 8 | u64::from(*byte))
}

/// Whoever knows it can only make searches as long as the list, which is not his.
fn hash(tail: u64, len: usize) -> usize {
    let mixed = (tail ^ (len as u64) << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15);
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
        let short: Vec<String> = (0..8).map(|len| "abcdefgh"[..len].to_owned()).collect();
        let list = Names::new(short.iter().map(String::as_str));
        for (place, name) in short.iter().enumerate() {
            assert_eq!(list.place(name), Some(place));
            for at in 0..name.len() {
                let mut other = name.clone();
                other.replace_range(at..=at, "x");
                assert_eq!(list.place(&other), None, "{other}");
            }
        }
        let twice = Names::new(["a", "b", "a", ""]);
        assert_eq!(
            ["a", "b", "", "c"].map(|name| twice.place(name)),
            [Some(0), Some(1), Some(3), None]
        );
        assert_eq!(Names::new([""; 0]).place(""), None);
    }
}
