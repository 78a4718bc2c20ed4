//! Whose address is it: the leased IPv4 and IPv6 addresses of a published network, and the gateway's own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::holders::{Holder, Holders};
use super::{NetworkSettings, PortSpec, link_local};

/// Address -> holder. Immutable once published: any thread may read it. Where two ports are leased one address, which control
/// does not do, the first has it.
#[derive(Clone, Debug)]
pub(super) struct Leases {
    v4: Holders<u32>,
    v6: Holders<u128>,
}

impl Leases {
    /// The gateway's. Of link-local addresses only the gateway's is here: a container need not use its own.
    pub(super) fn new(settings: &NetworkSettings) -> Self {
        let (mut v4, mut v6) = (Holders::default(), Holders::default());
        for address in [Some(settings.gateway4), settings.host4].into_iter().flatten() {
            v4.give(address.to_bits(), Holder::Gateway);
        }
        let link_local = link_local::eui64(settings.gateway_mac);
        for address in [Some(link_local), settings.gateway6, settings.host6].into_iter().flatten() {
            v6.give(address.to_bits(), Holder::Gateway);
        }
        Leases { v4, v6 }
    }

    /// Gives `port` its addresses.
    pub(super) fn give(&mut self, port: &PortSpec, holder: Holder) {
        port.ipv4.map(|v4| self.v4.give(v4.to_bits(), holder));
        port.ipv6.map(|v6| self.v6.give(v6.to_bits(), holder));
    }

    /// Takes them from it.
    pub(super) fn take(&mut self, port: &PortSpec, holder: Holder) {
        if let Some(v4) = port.ipv4 {
            self.v4.take(v4.to_bits(), holder);
        }
        if let Some(v6) = port.ipv6 {
            self.v6.take(v6.to_bits(), holder);
        }
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
