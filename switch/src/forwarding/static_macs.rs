//! The assigned MACs of a published network, the gateway's among them.

use super::fixed_map::{FixedMap, Holder};
use super::{NetworkSpec, PortIndex, Uplink};
use crate::frame::Mac;

/// MAC -> holder. Immutable: any thread may read it.
#[derive(Debug)]
pub(super) struct StaticMacs(FixedMap<u64>);

impl StaticMacs {
    /// Those of `spec`. The host's port has the gateway's MAC, which stays the gateway's.
    ///
    /// # Panics
    /// When a MAC is assigned twice: control has checked that.
    pub(super) fn new(spec: &NetworkSpec) -> Self {
        let mut entries = vec![(spec.gateway_mac.to_u64(), Holder::Gateway)];
        let assigned = (0..).zip(&spec.ports).filter(|(_, port)| spec.uplink != Uplink::Host(port.id));
        entries.extend(assigned.map(|(at, port)| (port.mac.to_u64(), Holder::Port(PortIndex(at)))));
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
