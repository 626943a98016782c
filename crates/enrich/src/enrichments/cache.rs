//! A bounded memory of what a text led to, so that a step that is dear runs once for texts that come again and again.
//!
//! What is remembered is what the step would give: outcomes are the same with any cache, or none. Several threads may
//! use one cache.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

/// More of them make threads wait less for each other.
const SHARDS: usize = 16;

/// Longer texts are rare and not worth their memory.
const TEXT_BYTES_MAX: usize = 2048;

/// The last texts that were asked for, and their values. Values are cheap to clone.
pub(super) struct Cache<V> {
    shards: [Mutex<Shard<V>>; SHARDS],
    hasher: RandomState,
    /// Of a shard's young entries.
    young_max: usize,
}

/// Entries that were used lately, and those that were used before that. When the young ones are too many they become
/// the old ones, and what was old and not asked for again is forgotten.
struct Shard<V> {
    young: HashMap<Box<str>, V>,
    old: HashMap<Box<str>, V>,
}

impl<V: Clone> Cache<V> {
    /// Remembers at least half as many texts as `entries`, and at most so many.
    pub(super) fn new(entries: usize) -> Cache<V> {
        let shard = || Mutex::new(Shard { young: HashMap::new(), old: HashMap::new() });
        Cache {
            shards: std::array::from_fn(|_| shard()),
            hasher: RandomState::new(),
            young_max: (entries / 2 / SHARDS).max(1),
        }
    }

    /// The value of `text`, made if it is not remembered. Two threads may make the same one.
    pub(super) fn get_or(&self, text: &str, make: impl FnOnce() -> V) -> V {
        if text.len() > TEXT_BYTES_MAX {
            return make();
        }
        let at = self.hasher.hash_one(text) as usize % SHARDS;
        let lock = || self.shards[at].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().find(text, self.young_max) {
            return known;
        }
        let value = make();
        lock().insert(text.into(), value.clone(), self.young_max);
        value
    }
}

impl<V: Clone> Shard<V> {
    fn find(&mut self, text: &str, young_max: usize) -> Option<V> {
        if let Some(value) = self.young.get(text) {
            return Some(value.clone());
        }
        let (text, value) = self.old.remove_entry(text)?;
        self.insert(text, value.clone(), young_max);
        Some(value)
    }

    fn insert(&mut self, text: Box<str>, value: V, young_max: usize) {
        if self.young.len() >= young_max {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(text, value);
    }
}

impl<V> std::fmt::Debug for Cache<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cache")
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn entries(cache: &Cache<usize>) -> usize {
        let len = |shard: &Mutex<Shard<usize>>| {
            let shard = shard.lock().unwrap();
            shard.young.len() + shard.old.len()
        };
        cache.shards.iter().map(len).sum()
    }

    #[test]
    fn a_text_that_comes_again_is_not_made_again() {
        let cache = Cache::new(1000);
        let made = Cell::new(0);
        for _ in 0..10 {
            let value = cache.get_or("a", || {
                made.set(made.get() + 1);
                7
            });
            assert_eq!(value, 7);
        }
        assert_eq!(made.get(), 1);
    }

    #[test]
    fn a_hundred_thousand_texts_leave_no_more_than_the_bound_and_all_values_are_right() {
        let cache = Cache::new(320);
        for n in 0..100_000 {
            assert_eq!(cache.get_or(&n.to_string(), || n), n);
            assert_eq!(cache.get_or("often", || 42), 42);
        }
        assert!(entries(&cache) <= 320, "{}", entries(&cache));
        let long = "x".repeat(TEXT_BYTES_MAX + 1);
        let before = entries(&cache);
        assert_eq!(cache.get_or(&long, || 1), 1);
        assert_eq!(entries(&cache), before);
    }
}
