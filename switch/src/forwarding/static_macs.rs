//! The assigned MACs of a published network, the gateway's among them.

use super::fixed_map::{FixedMap, Holder};
use super::{NetworkSpec, PortIndex};
use crate::frame::Mac;

/// MAC -> holder. Immutable: any thread may read it.
#[derive(Debug)]
pub(super) struct StaticMacs(FixedMap<u64>);

impl StaticMacs {
    /// Those of `spec`.
    ///
    /// # Panics
    /// When a MAC is assigned twice: control has checked that.
    pub(super) fn new(spec: &NetworkSpec) -> Self {
        let mut entries = vec![(spec.gateway_mac.to_u64(), Holder::Gateway)];
        entries.extend((0..).zip(&spec.ports).map(|(at, port)| (port.mac.to_u64(), Holder::Port(PortIndex(at)))));
        let (map, unique) = FixedMap::new(entries.into_iter());
        assert!(unique, "a MAC is assigned once in a network");
        StaticMacs(map)
    }

    /// Who has `mac` by assignment.
    #[inline]
    pub(super) fn holder(&self, mac: Mac) -> Option<Holder> {
        self.0.lookup(mac.to_u64())
    }
}
