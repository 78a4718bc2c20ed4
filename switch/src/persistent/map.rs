//! A hash table whose copies share what they have in common.
//!
//! Linear hashing (Litwin 1980): with each few entries more one bucket is split in two, and with each few less two are joined, so
//! that there is never a moment at which all of it is made anew. A bucket is a short array that is searched from its start, of
//! one or two entries mostly; which one, the last bits of a hash say that nobody outside can predict.

use std::borrow::Borrow;
use std::sync::Arc;

use super::{Key, Seed, Vector};

/// Entries for each bucket beyond which one is split; of half as many, two are joined.
const LOAD: usize = 2;

type Bucket<K, V> = Arc<[(K, V)]>;

/// The table.
#[derive(Clone, Debug)]
pub(crate) struct Map<K, V> {
    seed: Seed,
    buckets: Vector<Bucket<K, V>>,
    /// Buckets in use, at least one. The last bits of a hash are a bucket, or, where that is none yet, all but the first of them.
    used: usize,
    len: usize,
}

impl<K: Key, V> Default for Map<K, V> {
    fn default() -> Self {
        Map { seed: Seed::random(), buckets: Vector::default(), used: 1, len: 0 }
    }
}

impl<K: Key + Clone, V: Clone> Map<K, V> {
    /// What is at `key`.
    #[inline]
    pub(crate) fn get<Q: Key + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let bucket = self.buckets.get(self.bucket_of(key))?;
        bucket.iter().find(|(held, _)| held.borrow() == key).map(|(_, value)| value)
    }

    /// Puts `value` at `key`; what was there before.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let at = self.bucket_of(&key);
        let bucket = self.buckets.get_mut(at);
        if let Some(nth) = bucket.iter().position(|(held, _)| *held == key) {
            let mut entries = bucket.to_vec();
            let before = std::mem::replace(&mut entries[nth].1, value);
            *bucket = entries.into();
            return Some(before);
        }
        *bucket = bucket.iter().cloned().chain([(key, value)]).collect();
        self.len += 1;
        if self.len > self.used * LOAD {
            self.split();
        }
        None
    }

    /// Takes out what is at `key`.
    pub(crate) fn remove<Q: Key + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let at = self.bucket_of(key);
        let nth = self.buckets.get(at)?.iter().position(|(held, _)| held.borrow() == key)?;
        let bucket = self.buckets.get_mut(at);
        let mut entries = bucket.to_vec();
        let (_, value) = entries.swap_remove(nth);
        *bucket = entries.into();
        self.len -= 1;
        if self.used > 1 && self.len < self.used * LOAD / 2 {
            self.join();
        }
        Some(value)
    }

    /// How many entries there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn bucket_of<Q: Key + ?Sized>(&self, key: &Q) -> usize {
        let mask = self.used.next_power_of_two() - 1;
        let at = key.hash(self.seed) as usize & mask;
        if at < self.used { at } else { at & mask >> 1 }
    }

    /// The bucket that the last one was split from.
    fn parent_of_last(&self) -> usize {
        (self.used - 1) & (self.used.next_power_of_two() - 1) >> 1
    }

    fn split(&mut self) {
        self.used += 1;
        let (parent, last) = (self.parent_of_last(), self.used - 1);
        let both = self.buckets.get(parent).cloned().unwrap_or_default();
        let (stay, go): (Vec<_>, Vec<_>) = both.iter().cloned().partition(|(key, _)| self.bucket_of(key) == parent);
        *self.buckets.get_mut(parent) = stay.into();
        *self.buckets.get_mut(last) = go.into();
    }

    fn join(&mut self) {
        let (parent, last) = (self.parent_of_last(), self.used - 1);
        let gone = std::mem::take(self.buckets.get_mut(last));
        let bucket = self.buckets.get_mut(parent);
        *bucket = bucket.iter().chain(gone.iter()).cloned().collect();
        self.used -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn an_empty_one_holds_nothing() {
        let mut map = Map::<u32, u32>::default();
        assert_eq!((map.get(&0), map.len()), (None, 0));
        assert_eq!(map.remove(&0), None);
    }

    #[test]
    fn words_are_found_by_their_letters() {
        let mut map = Map::<String, u32>::default();
        map.insert("web".into(), 1);
        map.insert("a-name-of-more-than-eight-letters".into(), 2);
        assert_eq!((map.get("web"), map.get("a-name-of-more-than-eight-letters")), (Some(&1), Some(&2)));
        assert_eq!((map.get("we"), map.get("web\0"), map.get("")), (None, None, None));
    }

    #[test]
    fn buckets_stay_short_and_go_again() {
        let mut map = Map::default();
        (0..10_000_u32).for_each(|key| assert!(map.insert(key, ()).is_none()));
        let longest = map.buckets.iter().map(|bucket| bucket.len()).max();
        assert!(longest < Some(20), "{longest:?}");
        assert_eq!(map.used, 5000);
        (0..10_000).for_each(|key| map.remove(&key).unwrap());
        assert_eq!((map.used, map.len()), (1, 0));
    }

    proptest! {
        #[test]
        fn every_version_holds_what_was_put_in_and_not_taken_out(
            changes in prop::collection::vec((0..60_u128, prop::option::of(any::<u32>())), 0..200),
        ) {
            let mut model = BTreeMap::new();
            let mut map = Map::default();
            let mut versions = Vec::new();
            for (key, value) in changes {
                let before = match value {
                    Some(value) => (model.insert(key, value), map.insert(key, value)),
                    None => (model.remove(&key), map.remove(&key)),
                };
                prop_assert_eq!(before.0, before.1);
                versions.push((model.clone(), map.clone()));
            }
            for (model, map) in versions {
                prop_assert_eq!(map.len(), model.len());
                for key in 0..60 {
                    prop_assert_eq!(map.get(&key), model.get(&key));
                }
            }
        }
    }
}
