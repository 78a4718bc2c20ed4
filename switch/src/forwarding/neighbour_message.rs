//! Neighbour solicitations and advertisements as they are received, checked by RFC 4861 7.1.
//!
//! Hosts differ in which of two options of one type they take; a guard that took the other one would be blind. So a
//! message with two is refused, and so is a link-layer address of another length than Ethernet's.

use std::net::{IpAddr, Ipv6Addr};

use smoltcp::wire::{Icmpv6Packet, NdiscNeighborFlags, NdiscOption, NdiscOptionType};

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
        let Layer4::Icmp6 { kind: kind @ (SOLICITATION | ADVERTISEMENT), code, message, .. } = packet.l4 else {
            return Ok(None);
        };
        let (IpAddr::V6(src), IpAddr::V6(dst)) = (packet.src, packet.dst) else { return Err(Malformed) };
        if packet.hop_limit != 255 || code != 0 || packet.fragment != Fragment::Whole || !is_sum_right(packet, message)
        {
            return Err(Malformed);
        }
        let icmp = Icmpv6Packet::new_checked(message).map_err(|_| Malformed)?;
        let target = icmp.target_addr();
        if target.is_multicast() {
            return Err(Malformed);
        }
        if kind == SOLICITATION {
            let source_mac = link_layer_option(icmp.payload(), NdiscOptionType::SourceLinkLayerAddr)?;
            if src.is_unspecified() && (source_mac.is_some() || dst != solicited_node(target)) {
                return Err(Malformed);
            }
            return Ok(Some(NeighbourMessage::Solicitation { from: src, target, source_mac }));
        }
        let target_mac = link_layer_option(icmp.payload(), NdiscOptionType::TargetLinkLayerAddr)?;
        let solicited = icmp.neighbor_flags().contains(NdiscNeighborFlags::SOLICITED);
        if solicited && dst.is_multicast() {
            return Err(Malformed);
        }
        Ok(Some(NeighbourMessage::Advertisement { target, target_mac, solicited }))
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

/// The address in the one option of type `wanted`; every option must have a length and end within the message.
fn link_layer_option(mut options: &[u8], wanted: NdiscOptionType) -> Result<Option<Mac>, Malformed> {
    let mut found = None;
    while !options.is_empty() {
        let option = NdiscOption::new_checked(options).map_err(|_| Malformed)?;
        // In units of 8 bytes, type and length included. RFC 4861 4.6.
        let length = usize::from(option.data_len()) * 8;
        if option.option_type() == wanted {
            let octets: [u8; 6] = options[2..length].try_into().map_err(|_| Malformed)?;
            if found.replace(Mac::new(octets)).is_some() {
                return Err(Malformed);
            }
        }
        options = &options[length..];
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::testing::{self, mac, multicast_mac};
    use crate::frame::{Frame, Payload};
    use proptest::prelude::*;

    const A: Mac = mac(1);
    const B: Mac = mac(2);
    const A6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
    const B6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

    fn parse(bytes: &[u8]) -> Result<Option<NeighbourMessage>, Malformed> {
        let Payload::Ip(packet) = Frame::parse(bytes).unwrap().payload else { panic!("no IP packet") };
        NeighbourMessage::parse(&packet)
    }

    /// A solicitation of A for B whose options are `options`.
    fn solicitation(from: Ipv6Addr, to: Ipv6Addr, options: &[u8]) -> Vec<u8> {
        let body = [&B6.octets(), options].concat();
        testing::icmp6(A, multicast_mac(to), from, to, SOLICITATION, 0, [0; 4], &body)
    }

    #[test]
    fn a_solicitation_is_read() {
        let expected = NeighbourMessage::Solicitation { from: A6, target: B6, source_mac: Some(A) };
        assert_eq!(parse(&testing::ns(A, A6, B6)), Ok(Some(expected)));
        assert_eq!(parse(&testing::ns_to(A, B, A6, B6, B6)), Ok(Some(expected)));
    }

    #[test]
    fn duplicate_address_detection_has_no_source() {
        let from = Ipv6Addr::UNSPECIFIED;
        let expected = NeighbourMessage::Solicitation { from, target: B6, source_mac: None };
        assert_eq!(parse(&testing::ns(A, from, B6)), Ok(Some(expected)));
        assert_eq!(parse(&solicitation(from, solicited_node(B6), &[1, 1, 2, 0, 0, 0, 0, 1])), Err(Malformed));
        for to in [B6, ALL_NODES, solicited_node(A6)] {
            assert_eq!(parse(&solicitation(from, to, &[])), Err(Malformed), "{to}");
        }
        // A nonce is allowed: RFC 7527.
        assert_eq!(parse(&solicitation(from, solicited_node(B6), &[14, 1, 1, 2, 3, 4, 5, 6])), Ok(Some(expected)));
    }

    #[test]
    fn an_advertisement_is_read() {
        let expected = NeighbourMessage::Advertisement { target: A6, target_mac: Some(A), solicited: true };
        assert_eq!(parse(&testing::na(A, B, A6, B6, A6, true)), Ok(Some(expected)));
        assert_eq!(parse(&testing::na(A, multicast_mac(ALL_NODES), A6, ALL_NODES, A6, true)), Err(Malformed));
        assert!(parse(&testing::na(A, multicast_mac(ALL_NODES), A6, ALL_NODES, A6, false)).is_ok());
    }

    #[test]
    fn other_messages_are_none() {
        assert_eq!(parse(&testing::icmp_echo6(A, B, A6, B6, 1, b"")), Ok(None));
        assert_eq!(parse(&testing::udp6(A, B, A6, B6, 1, 2, b"")), Ok(None));
    }

    #[test]
    fn hop_limit_code_sum_and_length_are_checked() {
        let good = testing::ns(A, A6, B6);
        let mut hops = good.clone();
        hops[21] = 254;
        assert_eq!(parse(&hops), Err(Malformed));
        let mut sum = good.clone();
        sum[57] ^= 1;
        assert_eq!(parse(&sum), Err(Malformed));
        let body = [&B6.octets()[..], &[1, 1, 2, 0, 0, 0, 0, 1]].concat();
        assert_eq!(parse(&testing::icmp6(A, B, A6, B6, SOLICITATION, 1, [0; 4], &body)), Err(Malformed));
        assert_eq!(parse(&testing::icmp6(A, B, A6, B6, SOLICITATION, 0, [0; 4], &body[..15])), Err(Malformed));
    }

    #[test]
    fn a_group_is_no_target() {
        assert_eq!(parse(&testing::ns_to(A, B, A6, B6, ALL_NODES)), Err(Malformed));
        assert_eq!(parse(&testing::na(A, B, A6, B6, ALL_NODES, false)), Err(Malformed));
    }

    #[test]
    fn a_fragmented_message_is_malformed() {
        let whole = testing::ns(A, A6, B6);
        let body = [&*testing::fragment_header(58, 0, true, 7), &whole[54..]].concat();
        assert_eq!(parse(&testing::ip6_hops(A, B, A6, B6, 44, 255, &body)), Err(Malformed));
    }

    #[test]
    fn options_that_two_hosts_could_read_differently_are_malformed() {
        let ours = [1, 1, 2, 0, 0, 0, 0, 1];
        let theirs = [1, 1, 2, 0, 0, 0, 0, 9];
        let other = [5, 1, 0, 0, 0, 0, 5, 220];
        for (options, is_good) in [
            ([ours, other].concat(), true),
            ([other, ours].concat(), true),
            ([ours, theirs].concat(), false),
            ([theirs, ours].concat(), false),
            ([[1, 2, 2, 0, 0, 0, 0, 1], [0; 8]].concat(), false),
            (vec![1, 0, 2, 0, 0, 0, 0, 1], false),
            (vec![14, 0, 0, 0, 0, 0, 0, 0], false),
            (vec![1, 2, 2, 0, 0, 0, 0, 1], false),
            (vec![1], false),
            (vec![1, 1, 2, 0], false),
        ] {
            assert_eq!(parse(&solicitation(A6, B6, &options)).is_ok(), is_good, "{options:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_options_never_panic(options in proptest::collection::vec(0u8..8, 0..80)) {
            let _ = parse(&solicitation(A6, B6, &options));
        }
    }
}
