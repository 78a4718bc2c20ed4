//! icc: what passes from one container to another.

use super::PortId;

/// One `allow`: what `from` may open towards `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// Who opens.
    pub from: PortId,
    /// Towards whom.
    pub to: PortId,
    /// What; `None` is any IP packet.
    pub port: Option<RulePort>,
}

/// The protocol and port of a [`Rule`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RulePort {
    /// A TCP port of `to`.
    Tcp(u16),
    /// A UDP port of `to`.
    Udp(u16),
    /// Echo requests, IPv4 and IPv6.
    Icmp,
}
