//! A bounded hash table whose entries live until a time: what traffic opened, and for how long.
//!
//! Sets of eight slots, found by a keyed hash. A new entry takes an empty or expired slot of its set; with none left it
//! takes that of the owner who has most in the set, there the one that would expire first. The hash spreads everyone
//! evenly, so that what holds for a set holds for the table: whoever floods it loses his own. Nothing sweeps the table;
//! an expired entry is one that is not found.
//!
//! Thread-safety: the sets are dealt out to [`SHARDS`] mutexes; each guards its sets, is held for one look-up, never across
//! a system call, and never two at once. The sets are made by [`Expiring::prepare`]; before that nothing is found or kept.

use std::sync::OnceLock;

use parking_lot::Mutex;

use super::{Instant, PortId};
use crate::persistent::{Key, Seed};

/// Slots per set.
const WAYS: usize = 8;
/// Mutexes: several times the workers of a large machine, so that two seldom want the same.
const SHARDS: usize = 64;

/// One entry.
#[derive(Clone, Debug)]
pub(super) struct Entry<K, V> {
    pub(super) key: K,
    pub(super) value: V,
    /// On whose account it is here.
    pub(super) owner: PortId,
    /// It is live before this.
    pub(super) expires: Instant,
}

/// The table.
#[derive(Debug)]
pub(super) struct Expiring<K, V> {
    seed: Seed,
    sets: usize,
    shards: OnceLock<Box<[Shard<K, V>]>>,
}

type Shard<K, V> = Mutex<Box<[Option<Entry<K, V>>]>>;

impl<K: Key, V> Expiring<K, V> {
    /// Room for `capacity` entries, rounded up, once it is prepared.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        let sets = capacity.div_ceil(SHARDS * WAYS).next_power_of_two();
        Expiring { seed: Seed::random(), sets, shards: OnceLock::new() }
    }

    /// Makes the sets, once; called by control before a network that uses them is published.
    pub(super) fn prepare(&self) {
        let shard = || Mutex::new((0..self.sets * WAYS).map(|_| None).collect());
        self.shards.get_or_init(|| (0..SHARDS).map(|_| shard()).collect());
    }

    /// Calls `f` with the set of `key` locked; `None` when the table is not prepared.
    pub(super) fn with<R>(&self, key: &K, f: impl FnOnce(Set<'_, K, V>) -> R) -> Option<R> {
        let hash = key.hash(self.seed);
        let mut shard = self.shards.get()?[hash as usize % SHARDS].lock();
        let start = (hash >> 32) as usize % self.sets * WAYS;
        Some(f(Set(&mut shard[start..start + WAYS])))
    }
}

/// The slots of one set, locked.
pub(super) struct Set<'a, K, V>(&'a mut [Option<Entry<K, V>>]);

impl<K: Key, V> Set<'_, K, V> {
    /// The live entry of `key`.
    pub(super) fn find(&mut self, key: &K, now: Instant) -> Option<&mut Entry<K, V>> {
        self.0.iter_mut().flatten().find(|entry| entry.key == *key && now < entry.expires)
    }

    /// Forgets `key`.
    pub(super) fn remove(&mut self, key: &K) {
        for slot in self.0.iter_mut().filter(|slot| slot.as_ref().is_some_and(|entry| entry.key == *key)) {
            *slot = None;
        }
    }

    /// Puts `entry` in, in the place of one with the same key if there is one.
    pub(super) fn insert(&mut self, entry: Entry<K, V>, now: Instant) {
        let at = self.place_for(&entry, now);
        self.0[at] = Some(entry);
    }

    fn place_for(&self, entry: &Entry<K, V>, now: Instant) -> usize {
        let same = |slot: &Option<Entry<K, V>>| slot.as_ref().is_some_and(|held| held.key == entry.key);
        let free = |slot: &Option<Entry<K, V>>| slot.as_ref().is_none_or(|held| held.expires <= now);
        let found = self.0.iter().position(same).or_else(|| self.0.iter().position(free));
        found.unwrap_or_else(|| self.victim(entry.owner))
    }

    /// Of a full set: of the owner with most, `asking` itself where it is among them, the entry that expires first.
    fn victim(&self, asking: PortId) -> usize {
        let held_by = |owner| self.0.iter().flatten().filter(|entry| entry.owner == owner).count();
        let worth = |entry: &Entry<K, V>| {
            (std::cmp::Reverse(held_by(entry.owner)), entry.owner != asking, entry.owner, entry.expires)
        };
        let slots = self.0.iter().enumerate();
        slots.filter_map(|(at, slot)| Some((worth(slot.as_ref()?), at))).min().map_or(0, |(_, at)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const A: PortId = PortId(1);
    const B: PortId = PortId(2);

    /// One set, so that every key collides.
    fn table() -> Expiring<u64, u64> {
        Expiring { seed: Seed::random(), sets: 1, shards: OnceLock::new() }
    }

    fn one_set(entries: &[(u64, PortId, u64)]) -> Box<[Option<Entry<u64, u64>>]> {
        let mut slots: Box<[_]> = (0..WAYS).map(|_| None).collect();
        for &(key, owner, expires) in entries {
            Set(&mut slots).insert(Entry { key, value: key, owner, expires: Instant(expires) }, Instant(0));
        }
        slots
    }

    fn keys(slots: &[Option<Entry<u64, u64>>]) -> Vec<u64> {
        let mut keys: Vec<_> = slots.iter().flatten().map(|e| e.key).collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn what_was_put_in_is_found_until_it_expires() {
        let table = table();
        table.prepare();
        let soon = Instant(0) + Duration::from_secs(1);
        table.with(&7, |mut set| set.insert(Entry { key: 7, value: 70, owner: A, expires: soon }, Instant(0)));
        let value = |now| table.with(&7, |mut set| set.find(&7, now).map(|e| e.value)).unwrap();
        assert_eq!(value(Instant(0)), Some(70));
        assert_eq!(value(soon), None);
    }

    #[test]
    fn an_unprepared_table_keeps_nothing() {
        assert_eq!(table().with(&7, |_| ()), None);
    }

    #[test]
    fn a_key_is_held_once() {
        let slots = one_set(&[(1, A, 10), (1, B, 20)]);
        assert_eq!(keys(&slots), [1]);
    }

    #[test]
    fn who_floods_a_full_set_loses_his_own() {
        let mut entries: Vec<_> = (0..3).map(|n| (n, B, 10)).collect();
        entries.extend((10..100).map(|n| (n, A, n)));
        let kept = keys(&one_set(&entries));
        assert_eq!(kept[..3], [0, 1, 2]);
        assert_eq!(kept[7], 99);
    }

    #[test]
    fn a_newcomer_to_a_full_set_takes_from_whoever_has_most() {
        let mut entries: Vec<_> = (0..8).map(|n| (n, A, 100 - n)).collect();
        entries.push((50, B, 1));
        assert_eq!(keys(&one_set(&entries)), [0, 1, 2, 3, 4, 5, 6, 50], "the one that expires first went");
    }

    #[test]
    fn removing_a_key_leaves_the_others() {
        let mut slots = one_set(&[(1, A, 10), (2, A, 10)]);
        Set(&mut slots).remove(&1);
        assert_eq!(keys(&slots), [2]);
    }
}
