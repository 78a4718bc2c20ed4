//! The source guard: what a container may claim to be.
//!
//! Of every port, guarded or not: no group address as source, none of the sixteen addresses that no bridge forwards, no
//! VLAN tag (every port is an access port), nothing in the gateway's name, and no router's or DHCP server's word, for
//! the switch is the only one of either. Of a guarded port besides: only the assigned MAC and the leased addresses, in the
//! Ethernet header, in ARP, in IP and in neighbour discovery. An unguarded one is for a nested switch, whose addresses
//! nobody here knows. The host's own port has rules of its own ([`super::host_port`]).
//!
//! Beside its leased address a guarded container may use those without which IPv6 and duplicate detection break: `::` for
//! duplicate detection and listener reports, 0.0.0.0 in an ARP probe and towards a DHCP server, the link-local address
//! of its MAC, and a few others that nobody has ([`super::claims`]).
//!
//! The usual frame costs one comparison of the MAC and one of the address: what equals the assigned ones is not the
//! gateway's. Pure but for the claims; called by the worker that owns the port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::holders::Holder;
use super::neighbour::ARP_REQUEST;
use super::neighbour_message::{NeighbourMessage, SOLICITATION};
use super::{DropReason, Network, PortSpec, link_local};
use crate::frame::{Arp, Fragment, Frame, Layer4, Packet, Payload};

/// RFC 2131 4.1.
pub(super) const DHCP_SERVER: u16 = 67;
const DHCP_CLIENT: u16 = 68;
/// RFC 8415 7.2.
pub(super) const DHCP6_SERVER: u16 = 547;
/// RFC 792.
pub(super) const ICMP_REDIRECT: u8 = 5;
/// RFC 4861 4: router solicitation to redirect.
pub(super) const ROUTER_ADVERTISEMENT: u8 = 134;
pub(super) const REDIRECT: u8 = 137;
pub(super) const NEIGHBOUR_DISCOVERY: std::ops::RangeInclusive<u8> = 133..=137;
/// RFC 2710 3: multicast listener query; report and done follow.
const LISTENER_REPORT: u8 = 131;
const LISTENER_DONE: u8 = 132;
/// RFC 3810 5.2.
const LISTENER_REPORT_2: u8 = 143;

impl Network {
    /// Drops what `port` may not send. What passes comes with its neighbour message, if it is one: read once, here.
    #[inline]
    pub(super) fn guard(&self, port: &PortSpec, frame: &Frame<'_>) -> Result<Option<NeighbourMessage>, DropReason> {
        if frame.dst.is_reserved() {
            return Err(DropReason::ReservedMac);
        }
        if self.is_host_port(port) {
            return self.guard_host(port, frame);
        }
        if !port.guard || frame.src != port.mac {
            self.guard_mac(port, frame)?;
        }
        match &frame.payload {
            Payload::Ip(packet) => self.guard_ip(port, frame, packet),
            Payload::Arp(arp) => self.guard_arp(port, frame, arp).map(|()| None),
            Payload::Vlan => Err(DropReason::Vlan),
            Payload::Other => Ok(None),
        }
    }

    /// A source MAC that is not the assigned one, or of a port that may have others.
    #[cold]
    fn guard_mac(&self, port: &PortSpec, frame: &Frame<'_>) -> Result<(), DropReason> {
        if frame.src.is_group() {
            Err(DropReason::GroupSource)
        } else if frame.src == self.settings.gateway_mac {
            Err(DropReason::GatewayClaim)
        } else if port.guard && frame.src != port.mac {
            Err(DropReason::SpoofedMac)
        } else {
            Ok(())
        }
    }

    fn guard_arp(&self, port: &PortSpec, frame: &Frame<'_>, arp: &Arp) -> Result<(), DropReason> {
        if arp.sender_mac == self.settings.gateway_mac || self.leases.is_gateway(arp.sender_ip.into()) {
            return Err(DropReason::GatewayClaim);
        }
        if !port.guard {
            return Ok(());
        }
        // RFC 5227 1.1: a probe is a request whose sender address is zero.
        let is_probe = arp.sender_ip.is_unspecified() && arp.operation == ARP_REQUEST;
        let is_own = arp.sender_mac == frame.src && (is_probe || port.ipv4 == Some(arp.sender_ip));
        if is_own { Ok(()) } else { Err(DropReason::SpoofedArp) }
    }

    #[inline]
    fn guard_ip(
        &self,
        port: &PortSpec,
        frame: &Frame<'_>,
        packet: &Packet<'_>,
    ) -> Result<Option<NeighbourMessage>, DropReason> {
        match packet.src {
            IpAddr::V4(src) if port.guard && port.ipv4 == Some(src) => {}
            IpAddr::V6(src) if port.guard && port.ipv6 == Some(src) => {}
            IpAddr::V4(src) => self.guard_ipv4(port, packet, src)?,
            IpAddr::V6(src) => self.guard_ipv6(port, packet, src)?,
        }
        match packet.l4 {
            Layer4::Tcp { .. } | Layer4::Other => Ok(None),
            Layer4::Udp { src_port, .. } => {
                let server = if packet.src.is_ipv4() { DHCP_SERVER } else { DHCP6_SERVER };
                if src_port == server { Err(DropReason::RogueDhcp) } else { Ok(None) }
            }
            Layer4::Icmp4 { kind: ICMP_REDIRECT, .. } => Err(DropReason::RogueRedirect),
            Layer4::Icmp4 { .. } => Ok(None),
            Layer4::Icmp6 { kind, .. } if NEIGHBOUR_DISCOVERY.contains(&kind) => {
                self.guard_neighbour(port, frame, packet, kind)
            }
            Layer4::Icmp6 { .. } => Ok(None),
        }
    }

    /// An IPv4 source other than the leased one, or of a port that may have others.
    #[cold]
    fn guard_ipv4(&self, port: &PortSpec, packet: &Packet<'_>, src: Ipv4Addr) -> Result<(), DropReason> {
        if self.leases.is_gateway(src.into()) {
            return Err(DropReason::GatewayClaim);
        }
        let asks_for_lease = src.is_unspecified()
            && packet.dst == IpAddr::V4(Ipv4Addr::BROADCAST)
            && packet.fragment == Fragment::Whole
            && matches!(packet.l4, Layer4::Udp { src_port: DHCP_CLIENT, dst_port: DHCP_SERVER });
        if !port.guard || asks_for_lease { Ok(()) } else { Err(DropReason::SpoofedIpv4) }
    }

    /// An IPv6 source other than the leased one, or of a port that may have others.
    fn guard_ipv6(&self, port: &PortSpec, packet: &Packet<'_>, src: Ipv6Addr) -> Result<(), DropReason> {
        if self.leases.holder6(src) == Some(Holder::Gateway) {
            return Err(DropReason::GatewayClaim);
        }
        let allowed = !port.guard
            || if src.is_unspecified() { may_be_unspecified(packet) } else { self.claim_link_local(port, src) };
        if allowed { Ok(()) } else { Err(DropReason::SpoofedIpv6) }
    }

    /// Neighbour discovery: routers' messages from nobody, advertisements for the sender's own addresses only.
    #[cold]
    fn guard_neighbour(
        &self,
        port: &PortSpec,
        frame: &Frame<'_>,
        packet: &Packet<'_>,
        kind: u8,
    ) -> Result<Option<NeighbourMessage>, DropReason> {
        match kind {
            ROUTER_ADVERTISEMENT => return Err(DropReason::RogueRa),
            REDIRECT => return Err(DropReason::RogueRedirect),
            // RFC 6980 5: nobody accepts neighbour discovery in fragments; we could not read the rest.
            _ if packet.fragment != Fragment::Whole => return Err(DropReason::Malformed),
            _ => {}
        }
        let message = NeighbourMessage::parse(packet).map_err(|_| DropReason::Malformed)?;
        match message {
            Some(NeighbourMessage::Advertisement { target, target_mac, .. }) => {
                if self.leases.holder6(target) == Some(Holder::Gateway) || target_mac == Some(self.settings.gateway_mac)
                {
                    return Err(DropReason::GatewayClaim);
                }
                let is_own = || port.ipv6 == Some(target) || self.claim_link_local(port, target);
                if port.guard && (target_mac.is_some_and(|mac| mac != frame.src) || !is_own()) {
                    return Err(DropReason::SpoofedNa);
                }
            }
            // Duplicate detection tells everybody of an address that is not in use yet: it is the asker's from here on, or who heard
            // of it could claim it by an advertisement. If somebody has it already, he is answered for ([`super::neighbour`]).
            Some(NeighbourMessage::Solicitation { from: Ipv6Addr::UNSPECIFIED, target, .. }) => {
                if port.guard {
                    self.claim_link_local(port, target);
                }
            }
            // The receiver notes the source link-layer address as it does an advertised one: RFC 4861 7.2.3.
            Some(NeighbourMessage::Solicitation { source_mac: Some(mac), .. }) => {
                if mac == self.settings.gateway_mac {
                    return Err(DropReason::GatewayClaim);
                }
                if port.guard && mac != frame.src {
                    return Err(DropReason::SpoofedNa);
                }
            }
            Some(NeighbourMessage::Solicitation { source_mac: None, .. }) | None => {}
        }
        Ok(message)
    }

    /// The port that has the link-local `address`, as far as the switch knows: it follows from its MAC, or was claimed.
    pub(super) fn link_local_holder(&self, address: Ipv6Addr) -> Option<Holder> {
        let of_its_mac = link_local::mac_of(address).and_then(|mac| self.macs.lookup(mac.to_u64()));
        of_its_mac.or_else(|| Some(Holder::Port(self.index_of(self.tables.claims.holder(address)?)?)))
    }

    /// Claims `address` for `port`; whether it is a link-local one that is the port's: that of its MAC, or another that it claimed first.
    fn claim_link_local(&self, port: &PortSpec, address: Ipv6Addr) -> bool {
        if !address.is_unicast_link_local() {
            return false;
        }
        match link_local::mac_of(address).map(|mac| (mac, self.macs.lookup(mac.to_u64()))) {
            Some((mac, _)) if mac == port.mac => true,
            // It follows from another's MAC: not to be claimed.
            Some((_, Some(_))) => false,
            _ => self.tables.claims.claim(address, port.id),
        }
    }
}

/// RFC 4861 7.2.2 and RFC 4862 5.4.2 (duplicate detection), RFC 3590 4 and RFC 3810 5.2.13 (listener reports).
pub(super) fn may_be_unspecified(packet: &Packet<'_>) -> bool {
    let IpAddr::V6(dst) = packet.dst else { return false };
    dst.is_multicast()
        && packet.fragment == Fragment::Whole
        && matches!(
            packet.l4,
            Layer4::Icmp6 { kind: SOLICITATION | LISTENER_REPORT | LISTENER_DONE | LISTENER_REPORT_2, .. }
        )
}

#[cfg(test)]
mod tests;
