//! Whose address is it: the leased IPv4 and IPv6 addresses of a published network, and the gateway's own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::fixed_map::{FixedMap, Holder};
use super::{NetworkSpec, PortIndex, link_local};

/// Address -> holder. Immutable: any thread may read it. Where two ports are leased one address, which control does not
/// do, the first has it.
#[derive(Debug)]
pub(super) struct Leases {
    v4: FixedMap<u32>,
    v6: FixedMap<u128>,
}

impl Leases {
    /// Those of `spec`. Of link-local addresses only the gateway's is here: a container need not use its own.
    pub(super) fn new(spec: &NetworkSpec) -> Self {
        let ports = || (0..).zip(&spec.ports).map(|(at, port)| (port, Holder::Port(PortIndex(at))));
        let mut v4 = vec![(spec.gateway4.to_bits(), Holder::Gateway)];
        v4.extend(spec.host4.map(|address| (address.to_bits(), Holder::Gateway)));
        v4.extend(ports().filter_map(|(port, holder)| Some((port.ipv4?.to_bits(), holder))));
        let mut v6 = vec![(link_local::eui64(spec.gateway_mac).to_bits(), Holder::Gateway)];
        v6.extend(spec.gateway6.map(|address| (address.to_bits(), Holder::Gateway)));
        v6.extend(spec.host6.map(|address| (address.to_bits(), Holder::Gateway)));
        v6.extend(ports().filter_map(|(port, holder)| Some((port.ipv6?.to_bits(), holder))));
        Leases { v4: FixedMap::new(v4.into_iter()).0, v6: FixedMap::new(v6.into_iter()).0 }
    }

    /// Who has `address`.
    #[inline]
    pub(super) fn holder4(&self, address: Ipv4Addr) -> Option<Holder> {
        self.v4.lookup(address.to_bits())
    }

    /// Who has `address`.
    #[inline]
    pub(super) fn holder6(&self, address: Ipv6Addr) -> Option<Holder> {
        self.v6.lookup(address.to_bits())
    }

    /// Whether `address` is one of the gateway's: the host's too, where there is one.
    #[inline]
    pub(super) fn is_gateway(&self, address: IpAddr) -> bool {
        let holder = match address {
            IpAddr::V4(v4) => self.holder4(v4),
            IpAddr::V6(v6) => self.holder6(v6),
        };
        holder == Some(Holder::Gateway)
    }
}
