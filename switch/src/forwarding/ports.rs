//! The ports of a published network, each at a place that is its as long as it is there.
//!
//! A place that became free is given to the next port that comes, so that places stay few. Immutable once published: any
//! thread may read it.

use super::{PortId, PortIndex, PortSpec};
use crate::persistent::{Map, Vector};

/// What is at a place.
#[derive(Clone, Debug)]
enum Slot {
    /// Nothing, and the place that became free before this one.
    Free(Option<PortIndex>),
    /// A port.
    Port(PortSpec),
}

impl Default for Slot {
    fn default() -> Self {
        Slot::Free(None)
    }
}

/// The ports.
#[derive(Clone, Debug, Default)]
pub(super) struct Ports {
    slots: Vector<Slot>,
    by_id: Map<PortId, PortIndex>,
    /// The place that became free last.
    free: Option<PortIndex>,
    /// Places that were ever given.
    places: u32,
    count: u32,
}

impl Ports {
    /// How many there are.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.count as usize
    }

    /// The port at `at`.
    #[inline]
    pub(super) fn get(&self, at: PortIndex) -> Option<&PortSpec> {
        match self.slots.get(at.get())? {
            Slot::Port(port) => Some(port),
            Slot::Free(_) => None,
        }
    }

    /// The port at `at`, where one is.
    ///
    /// # Panics
    /// When none is.
    #[inline]
    pub(super) fn at(&self, at: PortIndex) -> &PortSpec {
        self.get(at).expect("whoever holds an address is there")
    }

    /// Where `id` is.
    #[inline]
    pub(super) fn index_of(&self, id: PortId) -> Option<PortIndex> {
        self.by_id.get(&id).copied()
    }

    /// All of them, by place.
    pub(super) fn iter(&self) -> impl Iterator<Item = (PortIndex, &PortSpec)> {
        (0..self.places).zip(self.slots.iter()).filter_map(|(at, slot)| match slot {
            Slot::Port(port) => Some((PortIndex(at), port)),
            Slot::Free(_) => None,
        })
    }

    /// Gives `port` a place, or the one that it has.
    pub(super) fn insert(&mut self, port: PortSpec) -> PortIndex {
        if let Some(at) = self.index_of(port.id) {
            *self.slots.get_mut(at.get()) = Slot::Port(port);
            return at;
        }
        let at = self.free.unwrap_or(PortIndex(self.places));
        self.by_id.insert(port.id, at);
        match std::mem::replace(self.slots.get_mut(at.get()), Slot::Port(port)) {
            Slot::Free(before) if self.free.is_some() => self.free = before,
            _ => self.places += 1,
        }
        self.count += 1;
        at
    }

    /// Takes the port `id` out.
    pub(super) fn remove(&mut self, id: PortId) -> Option<(PortIndex, PortSpec)> {
        let at = self.by_id.remove(&id)?;
        let Slot::Port(port) = std::mem::replace(self.slots.get_mut(at.get()), Slot::Free(self.free)) else {
            unreachable!("what has a place is there")
        };
        self.free = Some(at);
        self.count -= 1;
        Some((at, port))
    }
}
