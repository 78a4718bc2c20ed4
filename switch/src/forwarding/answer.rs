//! What the switch itself says on a network: ARP replies, neighbour advertisements, echo replies and announcements.
//!
//! Each function clears `out` and writes one whole frame into it, without offload header and with all sums made. It
//! allocates nothing where the capacity of `out` suffices, which [`super::Scratch`] sees to. Whether there is
//! anything to answer is decided elsewhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::frame::{Arp, EtherType, Frame, Mac, Packet};

/// The answer to `request`: its target address is at `owner`.
pub(super) fn arp_reply(request: &Arp, owner: Mac, out: &mut Vec<u8>) {
    let _ = (request, owner, out);
    unimplemented!()
}

/// Tells everybody that `address` is at `owner` now. An ARP announcement: RFC 5227 3.
pub(crate) fn gratuitous_arp(address: Ipv4Addr, owner: Mac, out: &mut Vec<u8>) {
    let _ = (address, owner, out, EtherType::ARP);
    unimplemented!()
}

/// The answer to a solicitation of `asker` at `from` for `target`, which is at `owner`. Where `from` is `::` (duplicate
/// address detection) it goes to all nodes, unsolicited: RFC 4861 7.2.4.
pub(super) fn neighbour_advertisement(
    asker: Mac,
    from: Ipv6Addr,
    target: Ipv6Addr,
    owner: Mac,
    router: bool,
    out: &mut Vec<u8>,
) {
    let _ = (asker, from, target, owner, router, out);
    unimplemented!()
}

/// Tells everybody that `address` is at `owner` now. RFC 4861 7.2.6.
pub(crate) fn unsolicited_na(address: Ipv6Addr, owner: Mac, router: bool, out: &mut Vec<u8>) {
    let _ = (address, owner, router, out);
    unimplemented!()
}

/// The answer of the gateway to the echo request `packet` of `frame`, which must be a whole datagram. `from` is the address
/// that answers: the request's destination, unless that is a group. Options and extension headers are not echoed.
///
/// # Panics
/// When `packet` is no whole echo request of `from`'s family.
pub(super) fn echo_reply(frame: &Frame<'_>, packet: &Packet<'_>, gateway: Mac, from: IpAddr, out: &mut Vec<u8>) {
    let _ = (frame, packet, gateway, from, out);
    unimplemented!()
}
