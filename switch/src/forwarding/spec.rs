//! What control publishes of a network, in plain words: [`Network`](super::Network) makes its look-up structures of it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::{PortId, Rate, Rule, RulePort};
use crate::frame::Mac;

/// What control publishes of a network; checked by control, trusted here.
#[derive(Clone, Debug)]
pub struct NetworkSpec {
    /// What is common to all of it.
    pub settings: NetworkSettings,
    /// What is open while `settings.icc` is false, between `ports`.
    pub rules: Vec<Rule>,
    /// The ports.
    pub ports: Vec<PortSpec>,
}

/// What does not change while ports come and go.
#[derive(Clone, Debug)]
pub struct NetworkSettings {
    /// The switch's own MAC on this network.
    pub gateway_mac: Mac,
    /// The gateway's IPv4 address.
    pub gateway4: Ipv4Addr,
    /// The gateway's IPv6 address, where the network has IPv6. Its link-local one follows from `gateway_mac`.
    pub gateway6: Option<Ipv6Addr>,
    /// The IPv4 subnet.
    pub subnet4: ipnet::Ipv4Net,
    /// The IPv6 subnet.
    pub subnet6: Option<ipnet::Ipv6Net>,
    /// The address by which containers reach the host, where they may.
    pub host4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub host6: Option<Ipv6Addr>,
    /// Largest IP packet, in bytes.
    pub mtu: u32,
    /// Where packets for elsewhere go.
    pub uplink: Uplink,
    /// Whether containers talk freely to each other.
    pub icc: bool,
    /// Rises with every change of `icc` and of the rules between ports that are there; flows that an older one let pass are
    /// looked at again.
    pub policy_generation: u64,
    /// Each port's flood budget.
    pub flood_rate: Rate,
}

/// The way out of a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Uplink {
    /// There is none.
    #[default]
    None,
    /// Through sockets of the switch.
    User,
    /// Through the host's routing, behind this port, whose MAC is the gateway's.
    Host(PortId),
}

/// One port of a [`NetworkSpec`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSpec {
    /// Its id.
    pub id: PortId,
    /// The MAC assigned to it: static in the FDB.
    pub mac: Mac,
    /// Leased to it.
    pub ipv4: Option<Ipv4Addr>,
    /// Leased to it.
    pub ipv6: Option<Ipv6Addr>,
    /// The source guard is on. Off only for nested switches, behind which MACs are learned.
    pub guard: bool,
    /// MACs behind it are learned, and it gets what is for nobody known. The guard, where it is on, still holds its sender to
    /// the assigned one.
    pub learn: bool,
    /// Where it serves clients of published ports: what it sends from there goes back by the switch's sockets.
    pub published: Arc<[RulePort]>,
}

impl PortSpec {
    /// Whether MACs that nobody assigned may be behind it.
    pub(super) fn is_opaque(&self) -> bool {
        self.learn || !self.guard
    }
}
