//! The port behind which the host is, on a network whose uplink is the host's routing.
//!
//! It shares the gateway's MAC: what a container sends to its gateway for elsewhere goes there as it is, and the host's kernel
//! routes it. Towards the containers the host is a neighbour whatever icc says: docker0 is such a one too. It hears every
//! group frame that is not for routers alone, and what it sends to a group goes to all.
//!
//! The host routes for the whole world, so it may send from any address but those that are somebody's here: leased to a
//! container, or the gateway's. Its own are the addresses leased to it and the gateway's link-local one, which follows from
//! the MAC they share; for the network the switch answers for that one. The gateway's own addresses stay the switch's.
//! Routers' and DHCP servers' messages are not taken from the host either: the switch is the only one of each.
//!
//! Pure; called by the worker that owns the sender's port.

use std::net::{IpAddr, Ipv6Addr};

use super::guard::{self, DHCP_SERVER, DHCP6_SERVER};
use super::holders::Holder;
use super::neighbour::ARP_REQUEST;
use super::neighbour_message::NeighbourMessage;
use super::{Decision, DropReason, Network, PortIndex, PortSpec, Scratch, Uplink, link_local};
use crate::frame::{Arp, Fragment, Frame, Layer4, Packet, Payload};

impl Network {
    /// Whether `port` is the host's.
    #[inline]
    pub(super) fn is_host_port(&self, port: &PortSpec) -> bool {
        self.settings.uplink == Uplink::Host(port.id)
    }

    /// Drops what the host may not send.
    pub(super) fn guard_host(
        &self,
        port: &PortSpec,
        frame: &Frame<'_>,
    ) -> Result<Option<NeighbourMessage>, DropReason> {
        if frame.src != port.mac {
            return Err(if frame.src.is_group() { DropReason::GroupSource } else { DropReason::SpoofedMac });
        }
        match &frame.payload {
            Payload::Ip(packet) => self.guard_host_ip(frame, packet),
            Payload::Arp(arp) => self.guard_host_arp(frame, arp).map(|()| None),
            Payload::Vlan => Err(DropReason::Vlan),
            Payload::Other => Ok(None),
        }
    }

    fn guard_host_arp(&self, frame: &Frame<'_>, arp: &Arp) -> Result<(), DropReason> {
        // RFC 5227 1.1: a probe is a request whose sender address is zero.
        let is_probe = arp.sender_ip.is_unspecified() && arp.operation == ARP_REQUEST;
        if arp.sender_mac != frame.src {
            Err(DropReason::SpoofedArp)
        } else if is_probe {
            Ok(())
        } else {
            self.guard_host_source(arp.sender_ip.into(), DropReason::SpoofedArp)
        }
    }

    fn guard_host_ip(&self, frame: &Frame<'_>, packet: &Packet<'_>) -> Result<Option<NeighbourMessage>, DropReason> {
        match packet.src {
            IpAddr::V4(src) if src.is_unspecified() || src.is_multicast() || src.is_broadcast() => {
                return Err(DropReason::SpoofedIpv4);
            }
            IpAddr::V4(_) => self.guard_host_source(packet.src, DropReason::SpoofedIpv4)?,
            IpAddr::V6(src) if src.is_unspecified() && guard::may_be_unspecified(packet) => {}
            IpAddr::V6(src) if src.is_unspecified() || src.is_multicast() => return Err(DropReason::SpoofedIpv6),
            IpAddr::V6(_) => self.guard_host_source(packet.src, DropReason::SpoofedIpv6)?,
        }
        match packet.l4 {
            Layer4::Udp { src_port: DHCP_SERVER, .. } if packet.src.is_ipv4() => Err(DropReason::RogueDhcp),
            Layer4::Udp { src_port: DHCP6_SERVER, .. } if packet.src.is_ipv6() => Err(DropReason::RogueDhcp),
            Layer4::Icmp4 { kind: guard::ICMP_REDIRECT, .. } => Err(DropReason::RogueRedirect),
            Layer4::Icmp6 { kind, .. } if guard::NEIGHBOUR_DISCOVERY.contains(&kind) => {
                self.guard_host_neighbour(frame, packet, kind)
            }
            _ => Ok(None),
        }
    }

    /// An address that the host speaks from: nobody's here, or its own.
    fn guard_host_source(&self, src: IpAddr, spoofed: DropReason) -> Result<(), DropReason> {
        let holder = match src {
            IpAddr::V4(v4) => self.leases.holder4(v4),
            IpAddr::V6(v6) => self.leases.holder6(v6),
        };
        match holder {
            None => Ok(()),
            Some(Holder::Gateway) if self.is_hosts_own(src) => Ok(()),
            Some(Holder::Gateway) => Err(DropReason::GatewayClaim),
            Some(Holder::Port(_)) => Err(spoofed),
        }
    }

    #[cold]
    fn guard_host_neighbour(
        &self,
        frame: &Frame<'_>,
        packet: &Packet<'_>,
        kind: u8,
    ) -> Result<Option<NeighbourMessage>, DropReason> {
        match kind {
            guard::ROUTER_ADVERTISEMENT => return Err(DropReason::RogueRa),
            guard::REDIRECT => return Err(DropReason::RogueRedirect),
            _ if packet.fragment != Fragment::Whole => return Err(DropReason::Malformed),
            _ => {}
        }
        let message = NeighbourMessage::parse(packet).map_err(|_| DropReason::Malformed)?;
        let is_own = match message {
            Some(NeighbourMessage::Advertisement { target, target_mac, .. }) => {
                self.is_hosts_own(target.into()) && target_mac.is_none_or(|mac| mac == frame.src)
            }
            Some(NeighbourMessage::Solicitation { source_mac, .. }) => source_mac.is_none_or(|mac| mac == frame.src),
            None => true,
        };
        if is_own { Ok(message) } else { Err(DropReason::SpoofedNa) }
    }

    /// Whether `address` is one that the host has on this network: see the head of this file.
    pub(super) fn is_hosts_own(&self, address: IpAddr) -> bool {
        let is_link_local = |v6: Ipv6Addr| v6 == link_local::eui64(self.settings.gateway_mac);
        self.is_host(address) || matches!(address, IpAddr::V6(v6) if is_link_local(v6))
    }

    /// Whether `address` is leased to the host.
    pub(super) fn is_host(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.settings.host4 == Some(v4),
            IpAddr::V6(v6) => self.settings.host6 == Some(v6),
        }
    }

    /// To the host's port, from `from`.
    pub(super) fn to_host_port(&self, from: &PortSpec) -> Result<Decision, DropReason> {
        match self.host {
            Some(_) if self.is_host_port(from) => Err(DropReason::SamePort),
            Some(host) => Ok(Decision::Unicast(host)),
            None => Err(DropReason::NoUplink),
        }
    }

    /// Puts the host among those that a group frame of `from` goes to.
    pub(super) fn add_host(&self, from: PortIndex, scratch: &mut Scratch) {
        let Some(host) = self.host.filter(|host| *host != from) else { return };
        if let Err(at) = scratch.recipients.binary_search(&host) {
            scratch.recipients.insert(at, host);
        }
    }
}

#[cfg(test)]
mod tests;
