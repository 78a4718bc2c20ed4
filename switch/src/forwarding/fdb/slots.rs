//! The slots of the learned FDB, read without a lock.
//!
//! A MAC may stand in any of the eight slots of two buckets, found by a keyed hash, so that a table at most half full has
//! a place for each and nobody can choose MACs that collide. A slot is two words: the key (MAC and a version) and the
//! value (port and the coarse second of the last sight).
//!
//! Thread-safety: a slot is read as by a seqlock: key, value, key again. It is rewritten key = 0, value, key with the next
//! version, by whoever holds the lock of [`super::Fdb`]. A refresh is one compare-and-swap of the value, by anybody, and
//! only when the coarse second changed: should the slot have been given to another MAC meanwhile, the value differs
//! and nothing is written. A version is 15 bits: a reader is misled only if a slot changes 32,768 times while it reads one
//! word, and then sees an entry that was true for another MAC.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::forwarding::{Instant, PortId};
use crate::frame::Mac;
use crate::persistent::Seed;

/// A slot's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) port: PortId,
    pub(super) second: u32,
}

impl Seen {
    const fn pack(self) -> u64 {
        (self.port.0 as u64) << 32 | self.second as u64
    }

    const fn unpack(word: u64) -> Self {
        Seen { port: PortId((word >> 32) as u32), second: word as u32 }
    }

    pub(super) const fn age(self, now: Instant) -> u32 {
        now.coarse_seconds().saturating_sub(self.second)
    }
}

/// Slots per bucket: two cache lines.
const WAYS: usize = 8;
/// Key bit: the slot holds something. The 15 bits above are its version, the 48 above those the MAC.
const OCCUPIED: u64 = 1;
const VERSION: u64 = 0xfffe;

#[derive(Debug, Default)]
struct Slot {
    key: AtomicU64,
    value: AtomicU64,
}

/// The slots. All that changes a key is called with the index locked.
#[derive(Debug)]
pub(super) struct Slots {
    seed: Seed,
    mask: usize,
    slots: Box<[Slot]>,
}

impl Slots {
    /// Twice as many as there may be entries, and two buckets at least.
    pub(super) fn new(entries: usize) -> Self {
        let buckets = (entries * 2).div_ceil(WAYS).next_power_of_two().max(2);
        Slots { seed: Seed::random(), mask: buckets - 1, slots: (0..buckets * WAYS).map(|_| Slot::default()).collect() }
    }

    /// The two buckets in which `mac` may stand; never the same one twice.
    #[inline]
    fn buckets(&self, mac: Mac) -> [Range<usize>; 2] {
        let hash = self.seed.hash(mac.to_u64());
        let first = hash as usize & self.mask;
        let second = first ^ ((hash >> 32) as usize & self.mask | 1);
        [first, second].map(|bucket| bucket * WAYS..(bucket + 1) * WAYS)
    }

    #[inline]
    pub(super) fn find(&self, mac: Mac) -> Option<(usize, Seen)> {
        let wanted = mac.to_u64() << 16 | OCCUPIED;
        self.buckets(mac).into_iter().flatten().find_map(|at| {
            let slot = &self.slots[at];
            // Acquire: a value as new as this key, or newer.
            let key = slot.key.load(Ordering::Acquire);
            if key & !VERSION != wanted {
                return None;
            }
            // Relaxed: the fence below puts it before the second look at the key.
            let value = slot.value.load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            // Relaxed: ordered by that fence. Unchanged, version and all: the value was this key's.
            (slot.key.load(Ordering::Relaxed) == key).then(|| (at, Seen::unpack(value)))
        })
    }

    #[inline]
    pub(super) fn refresh(&self, at: usize, old: Seen, fresh: Seen) {
        if fresh.second > old.second {
            // Relaxed: one word that nothing else hangs on. Failure means that somebody else wrote it: leave theirs.
            let _ =
                self.slots[at].value.compare_exchange(old.pack(), fresh.pack(), Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    pub(super) fn move_to(&self, at: usize, fresh: Seen) {
        // Relaxed: the key stays, and either value is one that was true.
        self.slots[at].value.store(fresh.pack(), Ordering::Relaxed);
    }

    /// A free slot in the emptier bucket: so all but never are both full.
    pub(super) fn free_for(&self, mac: Mac) -> Option<usize> {
        // Relaxed: keys change only under the lock that the caller holds.
        let is_free = |at: &usize| self.slots[*at].key.load(Ordering::Relaxed) & OCCUPIED == 0;
        let emptier = self.buckets(mac).into_iter().max_by_key(|bucket| bucket.clone().filter(is_free).count())?;
        emptier.into_iter().find(is_free)
    }

    pub(super) fn give(&self, at: usize, mac: Mac, fresh: Seen) {
        let slot = &self.slots[at];
        // Relaxed: keys change only under the lock that the caller holds.
        let version = slot.key.load(Ordering::Relaxed).wrapping_add(2) & VERSION;
        // Release: whoever reads this value sees at its second look that the key had been taken away before.
        fence(Ordering::Release);
        // Relaxed: ordered by the fence above and the release below.
        slot.value.store(fresh.pack(), Ordering::Relaxed);
        // Release: whoever sees the key sees the value.
        slot.key.store(mac.to_u64() << 16 | version | OCCUPIED, Ordering::Release);
    }

    /// Empties the slot; its version stays, so that the next key there differs from all recent ones.
    pub(super) fn free(&self, at: usize) {
        let slot = &self.slots[at];
        // Relaxed: the lock and the fence in `give` put it before the next value.
        slot.key.store(slot.key.load(Ordering::Relaxed) & VERSION, Ordering::Relaxed);
    }

    pub(super) fn seen(&self, at: usize) -> Seen {
        // Relaxed: one word; the caller holds the lock, so its key stays.
        Seen::unpack(self.slots[at].value.load(Ordering::Relaxed))
    }

    pub(super) fn mac(&self, at: usize) -> Mac {
        // Relaxed: keys change only under the lock that the caller holds.
        Mac::from_u64(self.slots[at].key.load(Ordering::Relaxed) >> 16)
    }
}

#[cfg(test)]
impl Slots {
    /// How many slots hold something.
    pub(super) fn occupied(&self) -> usize {
        // Relaxed: a test counts when all is quiet.
        self.slots.iter().filter(|slot| slot.key.load(Ordering::Relaxed) & OCCUPIED != 0).count()
    }
}
