//! Who holds an address of the network.

use super::PortIndex;
use crate::persistent::{Key, Map};

/// The switch, or one of its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// The switch itself.
    Gateway,
    /// A port.
    Port(PortIndex),
}

/// Address -> holder, as part of a published [`super::Network`]: any thread may read it. An address has one holder.
#[derive(Clone, Debug)]
pub(super) struct Holders<K>(Map<K, Holder>);

impl<K: Key> Default for Holders<K> {
    fn default() -> Self {
        Holders(Map::default())
    }
}

impl<K: Key + Clone> Holders<K> {
    /// Who holds `key`.
    #[inline]
    pub(super) fn lookup(&self, key: K) -> Option<Holder> {
        self.0.get(&key).copied()
    }

    /// Gives `key` to `holder`; whether it was nobody else's, who keeps it.
    pub(super) fn give(&mut self, key: K, holder: Holder) -> bool {
        match self.0.get(&key) {
            Some(by) => *by == holder,
            None => self.0.insert(key, holder).is_none(),
        }
    }

    /// Takes `key` from `holder`, if it is its.
    pub(super) fn take(&mut self, key: K, holder: Holder) {
        if self.lookup(key.clone()) == Some(holder) {
            self.0.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Holder = Holder::Port(PortIndex(0));

    #[test]
    fn who_had_it_first_keeps_it_until_it_is_taken_from_him() {
        let mut holders = Holders::default();
        assert!(holders.give(5_u32, Holder::Gateway) && holders.give(5, Holder::Gateway));
        assert!(!holders.give(5, A));
        holders.take(5, A);
        assert_eq!(holders.lookup(5), Some(Holder::Gateway));
        holders.take(5, Holder::Gateway);
        assert!(holders.give(5, A));
        assert_eq!((holders.lookup(5), holders.lookup(6)), (Some(A), None));
    }
}
