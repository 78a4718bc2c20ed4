//! Learned MACs.
//!
//! How it works: the MACs stand in the slots of a fixed hash table ([`slots`]), each with its port and the second of its last
//! sight. Beside them an index says which slots each port has; it is what limits and evicts.
//!
//! Limits: [`FdbLimits::entries`] in all and [`FdbLimits::per_port`] of one port. At its own limit a port loses its own
//! oldest entry; when the whole table is full, the port with most entries loses its oldest. So a flood of MACs costs only
//! its sender. The slots are made by [`Fdb::prepare`], before any port that learns is published; before that the table
//! is empty and learns nothing, so that the many networks where no port learns hold no memory for it.
//!
//! Thread-safety: looking up and refreshing a known MAC take no lock and are safe beside everything else. Whatever gives a
//! slot to another MAC or port holds the mutex, which guards the index.

mod slots;

use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::Mutex;

use self::slots::{Seen, Slots};
use super::{Instant, PortId};
use crate::frame::Mac;

/// Shortest ageing time: IEEE 802.1D-2004 table 7-5 allows 10 s; 15 leaves room for hosts that speak every ten.
pub const MIN_AGEING: Duration = Duration::from_secs(15);
/// Longest ageing time: an hour; the assigned MACs, which are the many, do not age at all.
pub const MAX_AGEING: Duration = Duration::from_secs(3600);

/// The table's limits, all settable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdbLimits {
    /// Entries not seen for this long are forgotten: from [`MIN_AGEING`] to [`MAX_AGEING`]. IEEE 802.1D-2004 7.9.2: 300 s
    /// by default.
    pub ageing: Duration,
    /// Most entries in all.
    pub entries: usize,
    /// Most entries of one port.
    pub per_port: usize,
}

impl Default for FdbLimits {
    fn default() -> Self {
        FdbLimits { ageing: Duration::from_secs(300), entries: 8192, per_port: 16 }
    }
}

/// A learned entry, for `fdb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LearnedEntry {
    /// The address.
    pub mac: Mac,
    /// Where it was seen last.
    pub port: PortId,
    /// How long ago, to a second.
    pub age: Duration,
}

/// The table.
#[derive(Debug)]
pub struct Fdb {
    ageing: u32,
    entries: usize,
    per_port: usize,
    slots: OnceLock<Slots>,
    /// Guards the index, and is held by whoever gives a slot to another MAC or port.
    index: Mutex<Index>,
}

impl Fdb {
    /// An empty table. An ageing time outside its range is brought to the nearer end; control refuses it before.
    pub fn new(limits: FdbLimits) -> Self {
        let ageing = limits.ageing.clamp(MIN_AGEING, MAX_AGEING).as_secs();
        Fdb {
            ageing: u32::try_from(ageing).expect("an hour fits"),
            entries: limits.entries,
            per_port: limits.per_port,
            slots: OnceLock::new(),
            index: Mutex::default(),
        }
    }

    /// Makes the slots, once; called by control before a port that learns is published.
    pub(super) fn prepare(&self) {
        self.slots.get_or_init(|| Slots::new(self.entries));
    }

    /// Where `mac` was seen last, unless too long ago. Lock-free.
    #[inline]
    pub fn lookup(&self, mac: Mac, now: Instant) -> Option<PortId> {
        let (_, seen) = self.slots.get()?.find(mac)?;
        (seen.age(now) <= self.ageing).then_some(seen.port)
    }

    /// Notes that `mac` was seen behind `port`.
    #[inline]
    pub fn learn(&self, mac: Mac, port: PortId, now: Instant) {
        let Some(slots) = self.slots.get() else { return };
        let fresh = Seen { port, second: now.coarse_seconds() };
        match slots.find(mac) {
            Some((at, old)) if old.port == port => slots.refresh(at, old, fresh),
            _ => self.learn_slowly(slots, mac, fresh),
        }
    }

    /// A MAC that is new, or moved.
    #[cold]
    fn learn_slowly(&self, slots: &Slots, mac: Mac, fresh: Seen) {
        if self.per_port == 0 || self.entries == 0 {
            return;
        }
        let mut index = self.index.lock();
        // Another thread may have been quicker: look again, now that nobody can move it.
        let known = slots.find(mac);
        if let Some((at, old)) = known
            && old.port == fresh.port
        {
            return slots.refresh(at, old, fresh);
        }
        if index.of(fresh.port).len() >= self.per_port {
            index.evict_oldest(slots, fresh.port);
        }
        if let Some((at, old)) = known {
            slots.move_to(at, fresh);
            index.remove(old.port, at);
            index.add(fresh.port, at);
            return;
        }
        if index.total >= self.entries {
            let fullest = index.fullest(fresh.port);
            index.evict_oldest(slots, fullest);
        }
        // With both buckets full, which a keyed hash at half load all but excludes, the MAC stays unknown: it is flooded.
        if let Some(at) = slots.free_for(mac) {
            slots.give(at, mac, fresh);
            index.add(fresh.port, at);
        }
    }

    /// Forgets all that was learned behind `port`.
    pub fn forget_port(&self, port: PortId) {
        let Some(slots) = self.slots.get() else { return };
        let mut index = self.index.lock();
        for at in index.forget(port) {
            slots.free(at);
        }
    }

    /// Frees entries that aged out; called now and then by control.
    pub fn expire(&self, now: Instant) {
        let Some(slots) = self.slots.get() else { return };
        self.index.lock().retain(|at| {
            let keep = slots.seen(at).age(now) <= self.ageing;
            if !keep {
                slots.free(at);
            }
            keep
        });
    }

    /// All live entries, by MAC.
    pub fn entries(&self, now: Instant) -> Vec<LearnedEntry> {
        let Some(slots) = self.slots.get() else { return Vec::new() };
        let index = self.index.lock();
        let mut entries: Vec<_> = (index.ports.iter())
            .flat_map(|(_, held)| held)
            .map(|&at| (slots.mac(at), slots.seen(at)))
            .filter(|(_, seen)| seen.age(now) <= self.ageing)
            .map(|(mac, seen)| LearnedEntry { mac, port: seen.port, age: Duration::from_secs(seen.age(now).into()) })
            .collect();
        entries.sort_by_key(|entry| entry.mac);
        entries
    }
}

/// Which slots each port has. The lists keep their capacity, so that only a port's first entries allocate.
#[derive(Debug, Default)]
struct Index {
    /// Sorted by port.
    ports: Vec<(PortId, Vec<usize>)>,
    total: usize,
}

impl Index {
    fn place(&self, port: PortId) -> Result<usize, usize> {
        self.ports.binary_search_by_key(&port, |(id, _)| *id)
    }

    fn of(&self, port: PortId) -> &[usize] {
        self.place(port).map_or(&[], |at| &self.ports[at].1)
    }

    fn add(&mut self, port: PortId, slot: usize) {
        let at = self.place(port).unwrap_or_else(|at| {
            self.ports.insert(at, (port, Vec::new()));
            at
        });
        self.ports[at].1.push(slot);
        self.total += 1;
    }

    fn remove(&mut self, port: PortId, slot: usize) {
        if let Ok(at) = self.place(port)
            && let Some(n) = self.ports[at].1.iter().position(|&held| held == slot)
        {
            self.ports[at].1.swap_remove(n);
            self.total -= 1;
        }
    }

    fn evict_oldest(&mut self, slots: &Slots, port: PortId) {
        if let Some(&oldest) = self.of(port).iter().min_by_key(|&&at| (slots.seen(at).second, slots.mac(at))) {
            slots.free(oldest);
            self.remove(port, oldest);
        }
    }

    /// The port with most entries, `asking` itself where it is among them. Looks at every port, which only a full table
    /// asks for; an ordered set would allocate for each frame of a flood instead.
    fn fullest(&self, asking: PortId) -> PortId {
        let most = self.ports.iter().map(|(_, held)| held.len()).max().unwrap_or(0);
        if self.of(asking).len() == most {
            return asking;
        }
        self.ports.iter().find(|(_, held)| held.len() == most).map_or(asking, |(port, _)| *port)
    }

    fn forget(&mut self, port: PortId) -> Vec<usize> {
        let Ok(at) = self.place(port) else { return Vec::new() };
        let (_, held) = self.ports.remove(at);
        self.total -= held.len();
        held
    }

    fn retain(&mut self, mut keep: impl FnMut(usize) -> bool) {
        for (_, held) in &mut self.ports {
            held.retain(|&at| keep(at));
        }
        self.ports.retain(|(_, held)| !held.is_empty());
        self.total = self.ports.iter().map(|(_, held)| held.len()).sum();
    }
}

#[cfg(test)]
mod tests;
