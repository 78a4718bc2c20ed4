//! What is addressed to the gateway: an echo is answered here, TCP and UDP to its own addresses are for the services that
//! listen there, and what is for elsewhere goes the uplink's way.
//!
//! The gateway is no way around icc: a packet to its MAC that carries another container's address is dropped. What no uplink
//! takes is the switch's too, which refuses it with an answer. What a published port sends back goes the way its client came,
//! whatever the uplink: where that differs from the uplink's, its first fragments are remembered, for the later ones do not
//! say their port. ARP and neighbour requests were answered before ([`super::neighbour`]). Pure; called by the worker that
//! owns the sender's port.

use std::net::{IpAddr, Ipv6Addr};

use super::guard::{DHCP_SERVER, DHCP6_SERVER};
use super::neighbour::ARP_REQUEST;
use super::neighbour_message::SOLICITATION;
use super::{Decision, DropReason, Instant, Network, PortSpec, RulePort, Scratch, Uplink, answer};
use crate::frame::{Fragment, Frame, Layer4, Packet, Payload};

/// RFC 2236: a membership report has protocol 2.
const IGMP: u8 = 2;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// The generation of published ports' fragments: rules do not govern them.
const UNRULED: u64 = 0;

impl Network {
    /// A frame to the gateway's own MAC.
    pub(super) fn to_gateway(
        &self,
        from: &PortSpec,
        frame: &Frame<'_>,
        now: Instant,
        scratch: &mut Scratch,
    ) -> Result<Decision, DropReason> {
        let packet = match &frame.payload {
            Payload::Ip(packet) => packet,
            // A request that was not answered: it asks for nobody's address, or for the asker's own.
            Payload::Arp(arp) if arp.operation == ARP_REQUEST => return Err(DropReason::Unanswered),
            Payload::Arp(_) | Payload::Vlan | Payload::Other => return Err(DropReason::NoService),
        };
        match packet.l4 {
            Layer4::Icmp6 { kind: SOLICITATION, .. } => Err(DropReason::Unanswered),
            Layer4::Icmp6 { kind: 133..=137, .. } => Err(DropReason::NoService),
            _ if !self.leases.is_gateway(packet.dst) => self.outwards(from, packet, now),
            _ if self.is_host(packet.dst) && matches!(self.settings.uplink, Uplink::Host(_)) => self.to_host_port(from),
            // In the host's name too, where it is reached by sockets: whoever answers this is on it.
            _ if is_answerable_echo(packet) => {
                answer::echo_reply(frame, packet, self.settings.gateway_mac, packet.dst, &mut scratch.answer);
                Ok(Decision::Answer)
            }
            _ if self.is_host(packet.dst) => Ok(Decision::Local),
            Layer4::Tcp { .. } | Layer4::Udp { .. } => Ok(Decision::Local),
            // The rest of such a packet, which is put together before it is looked at.
            _ if matches!(packet.fragment, Fragment::Later { .. }) && matches!(packet.protocol, TCP | UDP) => {
                Ok(Decision::Local)
            }
            _ => Err(DropReason::NoService),
        }
    }

    /// For elsewhere.
    fn outwards(&self, from: &PortSpec, packet: &Packet<'_>, now: Instant) -> Result<Decision, DropReason> {
        if self.is_inside(packet.dst) {
            return Err(DropReason::NoUplink);
        }
        match self.settings.uplink {
            // Where no uplink leads it is refused with an answer, for which nobody has to wait.
            Uplink::User | Uplink::None => Ok(Decision::Local),
            Uplink::Host(_) if self.is_from_published(from, packet, now) => Ok(Decision::Local),
            Uplink::Host(_) if self.ours.contains(packet.dst) => Ok(Decision::Local),
            Uplink::Host(_) => self.to_host_port(from),
        }
    }

    /// Whether a packet comes from a port that is published, or is a later fragment of one that does.
    fn is_from_published(&self, from: &PortSpec, packet: &Packet<'_>, now: Instant) -> bool {
        if from.published.is_empty() {
            return false;
        }
        // The table is icc's too, where no datagram goes from a port to itself.
        let (fragments, id) = (&self.tables.fragments, from.id);
        let source = match (packet.fragment, &packet.l4) {
            (Fragment::Later { id: datagram }, _) => return fragments.follows(id, id, packet, datagram, UNRULED, now),
            (_, &Layer4::Tcp { src_port, .. }) => RulePort::Tcp(src_port),
            (_, &Layer4::Udp { src_port, .. }) => RulePort::Udp(src_port),
            _ => return false,
        };
        let is_published = from.published.contains(&source);
        if let (true, Fragment::First { id: datagram }) = (is_published, packet.fragment) {
            fragments.note(id, id, packet, datagram, UNRULED, now);
        }
        is_published
    }

    fn is_inside(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.settings.subnet4.contains(&v4),
            IpAddr::V6(v6) => self.settings.subnet6.is_some_and(|subnet| subnet.contains(&v6)),
        }
    }

    /// Whether a frame to a group is for routers alone, of which the gateway is the only one: it is not flooded. Membership
    /// reports and router solicitations are such, for the switch sends every group to everyone and nobody else
    /// advertises routes; requests to DHCP servers, whose replies the guard drops; and packets to the gateway's own
    /// addresses, which it does not take from a group: nobody shall be made to answer by a broadcast.
    pub(super) fn is_for_gateway_only(&self, frame: &Frame<'_>) -> bool {
        let Payload::Ip(packet) = &frame.payload else { return false };
        match (packet.dst, &packet.l4) {
            (IpAddr::V4(_), _) if packet.protocol == IGMP => true,
            (IpAddr::V4(_), Layer4::Udp { dst_port: DHCP_SERVER, .. })
            | (IpAddr::V6(_), Layer4::Udp { dst_port: DHCP6_SERVER, .. })
            // RFC 2710 3 (query, report, done), RFC 4861 4.1 (router solicitation), RFC 3810 5.2 (report).
            | (IpAddr::V6(_), Layer4::Icmp6 { kind: 130..=133 | 143, .. }) => true,
            (IpAddr::V6(group), _) if is_routers_group(group) => true,
            (dst, _) => self.leases.is_gateway(dst),
        }
    }
}

/// ff02::2 (RFC 4291 2.7.1) and ff02::16 (RFC 3810 12).
fn is_routers_group(address: Ipv6Addr) -> bool {
    matches!(address.segments(), [0xff02, 0, 0, 0, 0, 0, 0, 0x2 | 0x16])
}

/// A whole echo request from an address that can be answered. One in fragments is not put together for a ping.
fn is_answerable_echo(packet: &Packet<'_>) -> bool {
    let is_request =
        matches!(packet.l4, Layer4::Icmp4 { kind: 8, code: 0, .. } | Layer4::Icmp6 { kind: 128, code: 0, .. });
    let is_station = match packet.src {
        IpAddr::V4(src) => !src.is_unspecified() && !src.is_multicast() && !src.is_broadcast(),
        IpAddr::V6(src) => !src.is_unspecified() && !src.is_multicast(),
    };
    is_request && is_station && packet.fragment == Fragment::Whole
}

#[cfg(test)]
mod tests;
