//! Questions to the names at the gateway that come by UDP, and their answers: between frames and [`crate::gateway`]'s link.
//!
//! An answer is one frame: the names cut what would not fit one. A container that has moved to another worker meanwhile gets it
//! from here all the same.

use std::net::{IpAddr, SocketAddr};

use super::{Cx, Incoming, home};
use crate::engine::Activity;
use crate::forwarding::DropReason;
use crate::frame::{Gso, Layer4, Mac, Offload, checksum};
use crate::gateway::{Asker, DNS, Reply};

/// Most answers of one turn; the worker turns again for more.
const MAX_REPLIES: usize = 32;

const ETHERNET_LEN: usize = 14;
const UDP_LEN: usize = 8;
const UDP: u8 = 17;
/// RFC 1340's time to live, which Linux uses too.
const HOP_LIMIT: u8 = 64;

/// Whether `incoming` is such a question: a whole datagram to the gateway's own address.
pub(super) fn is_question(cx: &Cx<'_>, incoming: &Incoming<'_>) -> bool {
    let plan = &cx.plan().networks[incoming.home.place.network as usize];
    let is_gateway = match incoming.packet.dst {
        IpAddr::V4(v4) => v4 == plan.gateway4,
        IpAddr::V6(v6) => plan.gateway6 == Some(v6),
    };
    is_gateway && matches!(incoming.packet.l4, Layer4::Udp { dst_port: DNS, .. })
}

/// Passes a question on.
///
/// # Errors
/// It is malformed, or nobody takes it.
pub(super) fn deliver(cx: &mut Cx<'_>, incoming: &Incoming<'_>) -> Result<(), DropReason> {
    let Incoming { home, bytes, packet, offload, .. } = *incoming;
    let Layer4::Udp { src_port, dst_port } = packet.l4 else { return Err(DropReason::NoService) };
    let datagram = &bytes[packet.l4_offset..packet.end];
    if !offload.needs_csum && !is_whole(packet.src, packet.dst, datagram) {
        return Err(DropReason::Malformed);
    }
    let (near, far) = (SocketAddr::new(packet.src, src_port), SocketAddr::new(packet.dst, dst_port));
    let network = &cx.plan().networks[home.place.network as usize].name;
    let payload = &datagram[UDP_LEN..];
    // A sender that leaves the cutting to the device (UDP_SEGMENT) sends several questions at once.
    let size = match offload.gso {
        Gso::Udp { size } => usize::from(size),
        _ => payload.len().max(1),
    };
    for question in payload.chunks(size) {
        let asker = Asker { network: network.clone(), port: home.port };
        cx.names.query(asker, near, far, question)?;
    }
    Ok(())
}

/// Whether the sum over a UDP datagram is right, or was left out (RFC 768; not over IPv6, RFC 8200 8.1).
fn is_whole(src: IpAddr, dst: IpAddr, datagram: &[u8]) -> bool {
    if datagram[6..8] == [0, 0] {
        return src.is_ipv4();
    }
    let pseudo = checksum::pseudo_header(src, dst, UDP, datagram.len() as u32);
    checksum::sum(datagram, pseudo.into()) == 0xffff
}

/// Sends the answers that came.
pub(super) fn turn(cx: &mut Cx<'_>) -> Activity {
    let mut activity = Activity::Idle;
    for _ in 0..MAX_REPLIES {
        let Some(reply) = cx.names.reply() else { return activity };
        activity = Activity::Small;
        send(cx, &reply);
    }
    activity
}

fn send(cx: &mut Cx<'_>, reply: &Reply) {
    // It may have been detached meanwhile.
    let Some(home) = home(cx.out.forward(), reply.port) else { return };
    let Some(headers) = headers(home.mac, home.gateway, reply.far, reply.near, &reply.payload) else { return };
    if headers.len() - ETHERNET_LEN + reply.payload.len() <= home.mtu as usize {
        // Counted as a copy that was not sent; the asker asks again.
        let _ = cx.out.send(home.place, &Offload::NONE, &headers, &[&reply.payload]);
    }
}

/// The headers of a datagram. None where it is too long for one, or its addresses are not of one family.
fn headers(to: Mac, from: Mac, src: SocketAddr, dst: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
    let len = u16::try_from(UDP_LEN + payload.len()).ok()?;
    let mut frame = Vec::with_capacity(ETHERNET_LEN + 40 + UDP_LEN);
    frame.extend(to.octets());
    frame.extend(from.octets());
    match (src.ip(), dst.ip()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            frame.extend([0x08, 0x00]);
            let total = len.checked_add(20)?.to_be_bytes();
            // Not to be fragmented, so without an identification (RFC 6864 4).
            let mut header = [0x45, 0, total[0], total[1], 0, 0, 0x40, 0, HOP_LIMIT, UDP, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            header[12..16].copy_from_slice(&src.octets());
            header[16..20].copy_from_slice(&dst.octets());
            let sum = !checksum::sum(&header, 0);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            frame.extend(header);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(len.to_be_bytes());
            frame.extend([UDP, HOP_LIMIT]);
            frame.extend(src.octets());
            frame.extend(dst.octets());
        }
        _ => return None,
    }
    let l4 = frame.len();
    frame.extend([src.port(), dst.port(), len, 0].map(u16::to_be_bytes).concat());
    let pseudo = checksum::pseudo_header(src.ip(), dst.ip(), UDP, len.into());
    let sum = !checksum::sum(payload, checksum::sum(&frame[l4..], pseudo.into()).into());
    // Zero would say that there is no sum. RFC 768.
    let sum = if sum == 0 { 0xffff } else { sum };
    frame[l4 + 6..l4 + 8].copy_from_slice(&sum.to_be_bytes());
    Some(frame)
}

#[cfg(test)]
mod tests;
