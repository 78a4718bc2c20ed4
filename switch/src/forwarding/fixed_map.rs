//! A hash table that is made once and then only read: who holds an address.
//!
//! Open addressing with linear probing in a power-of-two array at most half full, so a look-up that fails ends at an
//! empty slot after a probe or two. Published inside an immutable [`super::Network`]: any thread may read it.

use super::PortIndex;
use super::seed::{Key, Seed};

/// Who holds an address of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// The switch itself.
    Gateway,
    /// A port.
    Port(PortIndex),
}

/// The table.
#[derive(Debug)]
pub(super) struct FixedMap<K> {
    seed: Seed,
    mask: usize,
    slots: Box<[Option<(K, Holder)>]>,
}

impl<K: Key> FixedMap<K> {
    /// A table of `entries`; of two with the same key the first counts. Says whether every key was unique.
    pub(super) fn new(entries: impl ExactSizeIterator<Item = (K, Holder)>) -> (Self, bool) {
        let size = (entries.len() * 2).next_power_of_two().max(2);
        let mut map = FixedMap { seed: Seed::random(), mask: size - 1, slots: vec![None; size].into_boxed_slice() };
        let mut unique = true;
        for (key, holder) in entries {
            let at = map.slot_of(key);
            match &mut map.slots[at] {
                Some(_) => unique = false,
                empty => *empty = Some((key, holder)),
            }
        }
        (map, unique)
    }

    /// Who holds `key`.
    #[inline]
    pub(super) fn lookup(&self, key: K) -> Option<Holder> {
        self.slots[self.slot_of(key)].map(|(_, holder)| holder)
    }

    /// The slot that holds `key`, or the empty one where it would stand. Ends, for half of the slots are empty.
    #[inline]
    fn slot_of(&self, key: K) -> usize {
        let mut at = key.hash(self.seed) as usize & self.mask;
        while let Some((held, _)) = self.slots[at] {
            if held == key {
                break;
            }
            at = (at + 1) & self.mask;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn of(entries: &BTreeMap<u128, u32>) -> FixedMap<u128> {
        let (map, unique) = FixedMap::new(
            entries.iter().map(|(&k, &v)| (k, Holder::Port(PortIndex(v)))).collect::<Vec<_>>().into_iter(),
        );
        assert!(unique);
        map
    }

    #[test]
    fn an_empty_table_holds_nothing() {
        assert_eq!(of(&BTreeMap::new()).lookup(0), None);
    }

    #[test]
    fn of_a_key_given_twice_the_first_counts_and_it_is_told() {
        let (map, unique) = FixedMap::new([(5_u32, Holder::Gateway), (5, Holder::Port(PortIndex(1)))].into_iter());
        assert!(!unique);
        assert_eq!(map.lookup(5), Some(Holder::Gateway));
    }

    proptest! {
        #[test]
        fn holds_exactly_what_it_was_made_of(entries: BTreeMap<u128, u32>, probe: Vec<u128>) {
            let map = of(&entries);
            for key in entries.keys().chain(&probe) {
                let want = entries.get(key).map(|&v| Holder::Port(PortIndex(v)));
                prop_assert_eq!(map.lookup(*key), want);
            }
        }
    }
}
