//! Neighbour solicitations and advertisements as they are received, checked by RFC 4861 7.1.

use std::net::{IpAddr, Ipv6Addr};

use smoltcp::wire::{Icmpv6Packet, NdiscNeighborFlags, NdiscRepr, RawHardwareAddress};

use crate::frame::{Fragment, Layer4, Mac, Malformed, Packet, checksum};

/// ICMPv6 type of a neighbour solicitation. RFC 4861 4.3.
pub(super) const SOLICITATION: u8 = 135;
/// ICMPv6 type of a neighbour advertisement. RFC 4861 4.4.
pub(super) const ADVERTISEMENT: u8 = 136;

/// A neighbour discovery message about one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NeighbourMessage {
    /// Who has `target`?
    Solicitation {
        /// The asker; `::` is duplicate address detection.
        from: Ipv6Addr,
        /// The address asked for.
        target: Ipv6Addr,
        /// The asker's MAC, as it says itself.
        source_mac: Option<Mac>,
    },
    /// `target` is here.
    Advertisement {
        /// The address claimed.
        target: Ipv6Addr,
        /// Its MAC, as the message says.
        target_mac: Option<Mac>,
        /// It answers a solicitation.
        solicited: bool,
    },
}

impl NeighbourMessage {
    /// Reads the message of `packet`; `None` where it is not a solicitation or an advertisement.
    ///
    /// # Errors
    /// [`Malformed`] where a host must discard it: RFC 4861 7.1.1 and 7.1.2; also where it is fragmented (RFC 6980 5).
    pub(super) fn parse(packet: &Packet<'_>) -> Result<Option<NeighbourMessage>, Malformed> {
        let Layer4::Icmp6 { kind: SOLICITATION | ADVERTISEMENT, code, message, .. } = packet.l4 else {
            return Ok(None);
        };
        let (IpAddr::V6(src), IpAddr::V6(dst)) = (packet.src, packet.dst) else { return Err(Malformed) };
        if packet.hop_limit != 255 || code != 0 || packet.fragment != Fragment::Whole || !is_sum_right(packet, message)
        {
            return Err(Malformed);
        }
        let icmp = Icmpv6Packet::new_checked(message).map_err(|_| Malformed)?;
        let parsed = match NdiscRepr::parse(&icmp).map_err(|_| Malformed)? {
            NdiscRepr::NeighborSolicit { target_addr, lladdr } => {
                if src.is_unspecified() && (lladdr.is_some() || dst != solicited_node(target_addr)) {
                    return Err(Malformed);
                }
                NeighbourMessage::Solicitation { from: src, target: target_addr, source_mac: mac(lladdr)? }
            }
            NdiscRepr::NeighborAdvert { flags, target_addr, lladdr } => {
                let solicited = flags.contains(NdiscNeighborFlags::SOLICITED);
                if solicited && dst.is_multicast() {
                    return Err(Malformed);
                }
                NeighbourMessage::Advertisement { target: target_addr, target_mac: mac(lladdr)?, solicited }
            }
            _ => return Err(Malformed),
        };
        if parsed.target().is_multicast() { Err(Malformed) } else { Ok(Some(parsed)) }
    }

    /// The address that the message is about.
    pub(super) fn target(&self) -> Ipv6Addr {
        match *self {
            NeighbourMessage::Solicitation { target, .. } | NeighbourMessage::Advertisement { target, .. } => target,
        }
    }
}

/// ff02::1:ffXX:XXXX, the group that the holder of `address` listens to. RFC 4291 2.7.1.
pub(super) fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., g, h] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | g & 0x00ff, h)
}

fn is_sum_right(packet: &Packet<'_>, message: &[u8]) -> bool {
    let Ok(length) = u32::try_from(message.len()) else { return false };
    let pseudo = checksum::pseudo_header(packet.src, packet.dst, packet.protocol, length);
    checksum::sum(message, pseudo.into()) == 0xffff
}

/// A link-layer address option of Ethernet has exactly six octets.
fn mac(option: Option<RawHardwareAddress>) -> Result<Option<Mac>, Malformed> {
    let Some(address) = option else { return Ok(None) };
    let octets = address.as_bytes().try_into().map_err(|_| Malformed)?;
    Ok(Some(Mac::new(octets)))
}
