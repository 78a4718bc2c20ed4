//! Where the uplink `user` must not lead: the host itself, its links, and our own networks.
//!
//! | destination | without host access | with it |
//! |---|---|---|
//! | an address of the host: of any interface, or of a local route (127.0.0.0/8, AnyIP); ::1 | refused | reached |
//! | 169.254.0.0/16 and fe80::/10: neighbours of the host alone, as metadata services | refused | reached |
//! | 0.0.0.0/8, 224.0.0.0/4, 240.0.0.0/4, broadcast addresses of the host's links | nowhere | nowhere |
//! | ::, ::a.b.c.d, ::ffff:a.b.c.d, ff00::/8 | nowhere | nowhere |
//! | every subnet of ours, of either family | nowhere | nowhere |
//! | 64:ff9b::a.b.c.d | as a.b.c.d | as a.b.c.d |
//!
//! The kernel takes 0.0.0.0 and :: for the host, and ::ffff:a.b.c.d for a.b.c.d; none of them belongs in a packet (RFC 1122
//! 3.2.1.3, RFC 4291 2.5, RFC 4942 2.2), so no host access opens them.
//!
//! What is the host's is followed by netlink, and an address that it got a moment ago is not in here yet. So the kernel has
//! the last word, about each socket that was connected ([`Plan::confirm`](super::Plan::confirm)).
//!
//! Immutable once made; any thread may read it. Look-ups are binary searches in as many ranges as the host has addresses,
//! which are far fewer than its routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

use crate::forwarding::{DropReason, Ranges};

/// What of the host must not be reached; made anew when the host changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostAddresses {
    local: Ranges,
    broadcasts: Ranges,
}

impl HostAddresses {
    /// Of the host's prefixes and addresses, and of the broadcast addresses of its links; in any order.
    pub fn new(local: impl Iterator<Item = IpNet>, broadcasts: impl Iterator<Item = IpAddr>) -> Self {
        HostAddresses { local: Ranges::new(local), broadcasts: Ranges::new(broadcasts.map(IpNet::from)) }
    }
}

/// All that is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    host: Arc<HostAddresses>,
    ours: Ranges,
}

impl Refused {
    /// On this host, beside these subnets of ours.
    pub fn new(host: Arc<HostAddresses>, ours: impl Iterator<Item = IpNet>) -> Self {
        Refused { host, ours: Ranges::new(ours) }
    }

    /// Whether a packet may leave for `to`.
    ///
    /// # Errors
    /// [`DropReason::HostAccess`] where host access would open it, [`DropReason::NoUplink`] where nothing does.
    pub fn check(&self, to: IpAddr, host_access: bool) -> Result<(), DropReason> {
        let to = match to {
            IpAddr::V6(v6) => translated(v6).map_or(to, IpAddr::V4),
            IpAddr::V4(_) => to,
        };
        if leads_nowhere(to) || self.host.broadcasts.contains(to) || self.ours.contains(to) {
            return Err(DropReason::NoUplink);
        }
        let is_hosts = is_of_any_host(to) || self.host.local.contains(to);
        if is_hosts && !host_access { Err(DropReason::HostAccess) } else { Ok(()) }
    }
}

impl Refused {
    /// Whether `to` is an address of the host by which others reach it.
    pub(super) fn is_host(&self, to: IpAddr) -> bool {
        !to.is_loopback() && !leads_nowhere(to) && self.host.local.contains(to)
    }
}

/// RFC 6052 2.1: the IPv4 address that a translator sends to.
fn translated(to: Ipv6Addr) -> Option<Ipv4Addr> {
    let [0x0064, 0xff9b, 0, 0, 0, 0, high, low] = to.segments() else { return None };
    Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
}

/// What is no single station's address.
fn leads_nowhere(to: IpAddr) -> bool {
    match to {
        // RFC 1122 3.2.1.3, RFC 5771, RFC 1112 4 (class E, which holds 255.255.255.255).
        IpAddr::V4(v4) => v4.octets()[0] == 0 || v4.octets()[0] >= 224,
        IpAddr::V6(v6) => v6.is_multicast() || has_ipv4_inside(v6) && v6 != Ipv6Addr::LOCALHOST,
    }
}

/// ::/96, with :: and ::1 in it, and ::ffff:0:0/96. RFC 4291 2.5.5.
fn has_ipv4_inside(to: Ipv6Addr) -> bool {
    matches!(to.segments(), [0, 0, 0, 0, 0, 0 | 0xffff, _, _])
}

/// What is the host's own, or its links', whatever it has been told of.
fn is_of_any_host(to: IpAddr) -> bool {
    match to {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests;
