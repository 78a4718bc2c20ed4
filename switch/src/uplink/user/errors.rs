//! ICMP errors towards containers: why a packet of theirs did not arrive.
//!
//! [`send`] speaks for the gateway; [`relay`] passes on what a router or host beyond it said. Both quote the packet that it is
//! about, as much of it as a whole error may hold, and stay silent where RFC 1122 3.2.2 and RFC 4443 2.4 (e) demand it: about an
//! ICMP error, a part of a datagram, or a packet from or to what is no single station. Neither may be made a weapon:
//! [`Budget`] bounds what one worker sends.

use std::net::{IpAddr, SocketAddr};

use etherparse::{LaxIpSlice, ip_number};
use nix::errno::Errno;

use super::datagram::{self, Datagram, HEADER_LEN, HOP_LIMIT, ICMP4, ICMP6};
use super::{Cx, Home, Incoming};
use crate::forwarding::{DropReason, Instant, Limiter, Rate};
use crate::uplink::plan::{Destination, Transport};

/// Longest ICMP error over IPv4, in bytes of IP packet: RFC 1812 4.3.2.3.
const MOST4: usize = 576;
/// The same over IPv6: RFC 4443 2.4 (c).
const MOST6: usize = 1280;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;

/// What one worker may send, in bytes: about the 1,000 errors a second that Linux allows itself (`icmp_msgs_per_sec`).
const RATE: Rate = Rate { bytes_per_second: 512 * 1024, burst: 128 * 1024 };

/// What is left to one worker.
#[derive(Debug)]
pub(crate) struct Budget(Limiter);

impl Default for Budget {
    fn default() -> Self {
        Budget(Limiter::new(RATE, Instant::default()))
    }
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreachable {
    /// No route to its network.
    Network,
    /// No answer from its host.
    Host,
    /// Nobody listens there.
    Port,
    /// It must not go there.
    Prohibited,
    /// It does not fit the way, which takes IP packets of this many bytes.
    TooBig {
        /// Largest IP packet, in bytes.
        mtu: u32,
    },
    /// Its hop limit was reached at the gateway.
    HopLimit,
}

/// The first word and the second of an ICMP error's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// Type of ICMP or ICMPv6.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// What is behind the checksum: an MTU, a pointer, or nothing.
    pub rest: u32,
}

impl Unreachable {
    /// RFC 792, RFC 1191 4, RFC 1812 5.2.7.1.
    fn message4(self) -> Message {
        let (kind, code, rest) = match self {
            Unreachable::Network => (3, 0, 0),
            Unreachable::Host => (3, 1, 0),
            Unreachable::Port => (3, 3, 0),
            Unreachable::Prohibited => (3, 13, 0),
            Unreachable::TooBig { mtu } => (3, 4, mtu & 0xffff),
            Unreachable::HopLimit => (11, 0, 0),
        };
        Message { kind, code, rest }
    }

    /// RFC 4443 3.
    fn message6(self) -> Message {
        let (kind, code, rest) = match self {
            Unreachable::Network => (1, 0, 0),
            Unreachable::Host => (1, 3, 0),
            Unreachable::Port => (1, 4, 0),
            Unreachable::Prohibited => (1, 1, 0),
            Unreachable::TooBig { mtu } => (2, 0, mtu),
            Unreachable::HopLimit => (3, 0, 0),
        };
        Message { kind, code, rest }
    }
}

/// Tells the container that `packet`, an IP packet of its own of which at least the upper-layer header is here, did not
/// arrive. Comes from the gateway.
pub(crate) fn send(cx: &mut Cx<'_>, home: &Home, packet: &[u8], why: Unreachable) {
    let plan = &cx.plan().networks[home.place.network as usize];
    match packet.first().map(|first| first >> 4) {
        Some(4) => relay(cx, home, plan.gateway4.into(), packet, why.message4()),
        Some(6) => {
            if let Some(gateway) = plan.gateway6 {
                relay(cx, home, gateway.into(), packet, why.message6());
            }
        }
        _ => {}
    }
}

/// Tells the container what `from`, of the family of `packet`, said of `packet`.
pub(crate) fn relay(cx: &mut Cx<'_>, home: &Home, from: IpAddr, packet: &[u8], message: Message) {
    let Some((datagram, quote)) = error(from, packet, message) else { return };
    if cx.errors.0.take(quote.len() as u64, RATE, cx.now) {
        // A lost error is one that the container waits out, as everywhere.
        let _ = datagram::send(cx, home, &datagram, quote);
    }
}

/// Where a packet to `to` goes; its sender is told where it may not.
///
/// # Errors
/// As [`Plan::destination`](crate::uplink::Plan::destination).
pub(crate) fn destination(
    cx: &mut Cx<'_>,
    incoming: &Incoming<'_>,
    transport: Option<Transport>,
    to: SocketAddr,
) -> Result<Destination, DropReason> {
    let network = incoming.home.place.network;
    cx.plan().destination(network, transport, to).inspect_err(|reason| {
        let nobody_listens = *reason == DropReason::NoService;
        let why = if nobody_listens { Unreachable::Port } else { Unreachable::Prohibited };
        send(cx, &incoming.home, incoming.ip(), why);
    })
}

/// Whether a packet may go by the socket that was made for it; its sender is told where it may not.
///
/// # Errors
/// As [`Plan::confirm`](crate::uplink::Plan::confirm).
pub(crate) fn confirm(
    cx: &mut Cx<'_>,
    incoming: &Incoming<'_>,
    transport: Option<Transport>,
    far: SocketAddr,
) -> Result<(), DropReason> {
    let confirmed = cx.confirm(incoming.home.place.network, transport, far);
    confirmed.inspect_err(|_| send(cx, &incoming.home, incoming.ip(), Unreachable::Prohibited))
}

/// Sees to it that a packet may go one hop further; its sender is told where it may not.
///
/// # Errors
/// `HopLimit`.
pub(crate) fn check_hops(cx: &mut Cx<'_>, incoming: &Incoming<'_>) -> Result<(), DropReason> {
    if incoming.packet.hop_limit > 1 {
        return Ok(());
    }
    send(cx, &incoming.home, incoming.ip(), Unreachable::HopLimit);
    Err(DropReason::HopLimit)
}

/// Tells a container why the kernel did not take its packet, on a path that takes IP packets of `mtu` bytes; the reason that is
/// counted.
pub(crate) fn refuse(cx: &mut Cx<'_>, incoming: &Incoming<'_>, errno: Errno, mtu: Option<u32>) -> DropReason {
    let (why, reason) = of(errno, mtu);
    if let Some(why) = why {
        send(cx, &incoming.home, incoming.ip(), why);
    }
    reason
}

/// What to say, and to count, where the kernel did not take a packet; nothing is said where it is only full.
fn of(errno: Errno, mtu: Option<u32>) -> (Option<Unreachable>, DropReason) {
    match errno {
        Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM => (None, DropReason::UplinkFull),
        Errno::EMFILE | Errno::ENFILE => (None, DropReason::FlowLimit),
        Errno::EMSGSIZE => (mtu.map(|mtu| Unreachable::TooBig { mtu }), DropReason::TooBig),
        Errno::ECONNREFUSED => (Some(Unreachable::Port), DropReason::NoUplink),
        Errno::ENETUNREACH | Errno::EADDRNOTAVAIL | Errno::EAFNOSUPPORT | Errno::ENETDOWN => {
            (Some(Unreachable::Network), DropReason::NoUplink)
        }
        Errno::EACCES | Errno::EPERM | Errno::EINVAL => (Some(Unreachable::Prohibited), DropReason::NoUplink),
        _ => (Some(Unreachable::Host), DropReason::NoUplink),
    }
}

/// The error, and what it quotes of `packet`; none where there must be none.
fn error(from: IpAddr, packet: &[u8], message: Message) -> Option<(Datagram, &[u8])> {
    let (ip, _) = LaxIpSlice::from_slice(packet).ok()?;
    let (src, dst) = (ip.source_addr(), ip.destination_addr());
    let (protocol, most) = match (from, src) {
        (IpAddr::V4(_), IpAddr::V4(_)) => (ICMP4, MOST4 - IPV4_LEN - HEADER_LEN),
        (IpAddr::V6(_), IpAddr::V6(_)) => (ICMP6, MOST6 - IPV6_LEN - HEADER_LEN),
        _ => return None,
    };
    if !is_station(src) || !is_station(dst) || ip.payload().fragmented || is_silent_icmp(&ip) {
        return None;
    }
    let [r0, r1, r2, r3] = message.rest.to_be_bytes();
    let header = [message.kind, message.code, 0, 0, r0, r1, r2, r3];
    let datagram = Datagram { from, to: src, protocol, hop_limit: HOP_LIMIT, header };
    Some((datagram, &packet[..packet.len().min(most)]))
}

fn is_station(address: IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !address.is_unspecified() && !address.is_multicast() && !is_broadcast
}

/// Whether it is an ICMP message that nothing is said about: all but what asks for something. Of ICMPv6 the errors are those
/// below 128, of ICMP one knows them by name.
fn is_silent_icmp(ip: &LaxIpSlice<'_>) -> bool {
    let payload = ip.payload();
    match (payload.ip_number, payload.payload.first()) {
        (ip_number::ICMP, Some(kind)) => !matches!(kind, 0 | 8 | 13 | 14),
        (ip_number::IPV6_ICMP, Some(kind)) => *kind < 128,
        (ip_number::ICMP | ip_number::IPV6_ICMP, None) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::testing::{self, stations::*};

    const WHY: [Unreachable; 6] = [
        Unreachable::Network,
        Unreachable::Host,
        Unreachable::Port,
        Unreachable::Prohibited,
        Unreachable::TooBig { mtu: 1400 },
        Unreachable::HopLimit,
    ];

    fn error4(frame: &[u8]) -> Option<(Datagram, Vec<u8>)> {
        let (datagram, quote) = error(B4.into(), &frame[14..], Unreachable::Port.message4())?;
        Some((datagram, quote.to_vec()))
    }

    fn error6(frame: &[u8]) -> Option<(Datagram, Vec<u8>)> {
        let (datagram, quote) = error(B6.into(), &frame[14..], Unreachable::Port.message6())?;
        Some((datagram, quote.to_vec()))
    }

    #[test]
    fn a_packet_is_quoted_from_its_start_and_no_longer_than_an_error_may_be() {
        for len in [0, 1, 100, 1400] {
            let frame = testing::udp4(A, B, A4, B4, 1, 2, &vec![7; len]);
            let (datagram, quote) = error4(&frame).unwrap();
            assert_eq!((datagram.from, datagram.to, datagram.protocol), (B4.into(), A4.into(), 1));
            assert_eq!(datagram.header, [3, 3, 0, 0, 0, 0, 0, 0]);
            assert_eq!(quote, &frame[14..frame.len().min(14 + 548)]);
            let frame = testing::udp6(A, B, A6, B6, 1, 2, &vec![7; len]);
            let (datagram, quote) = error6(&frame).unwrap();
            assert_eq!((datagram.from, datagram.to, datagram.protocol), (B6.into(), A6.into(), 58));
            assert_eq!(datagram.header, [1, 4, 0, 0, 0, 0, 0, 0]);
            assert_eq!(quote, &frame[14..frame.len().min(14 + 1232)]);
        }
    }

    #[test]
    fn a_packet_too_big_is_told_what_fits() {
        let [.., too_big, _] = WHY;
        assert_eq!(too_big.message4(), Message { kind: 3, code: 4, rest: 1400 });
        assert_eq!(too_big.message6(), Message { kind: 2, code: 0, rest: 1400 });
    }

    #[test]
    fn all_that_is_said_over_ipv6_is_an_error() {
        assert!(WHY.iter().all(|why| why.message6().kind < 128));
    }

    #[test]
    fn nothing_is_said_about_an_icmp_error_but_about_an_echo() {
        let quoted = testing::udp4(B, A, B4, A4, 1, 2, b"x");
        assert!(error4(&testing::icmp_error4(A, B, A4, B4, 3, 3, &quoted)).is_none());
        assert!(error4(&testing::icmp_error4(A, B, A4, B4, 11, 0, &quoted)).is_none());
        assert!(error4(&testing::icmp_echo4(A, B, A4, B4, 7, b"x")).is_some());
        let quoted = testing::udp6(B, A, B6, A6, 1, 2, b"x");
        assert!(error6(&testing::icmp_error6(A, B, A6, B6, 1, 4, &quoted)).is_none());
        assert!(error6(&testing::icmp_echo6(A, B, A6, B6, 7, b"x")).is_some());
    }

    #[test]
    fn nothing_is_said_to_or_about_a_group() {
        for (from, to) in [("0.0.0.0", "10.0.0.2"), ("255.255.255.255", "10.0.0.2"), ("10.0.0.1", "224.0.0.9")] {
            let frame = testing::udp4(A, B, from.parse().unwrap(), to.parse().unwrap(), 1, 2, b"x");
            assert!(error4(&frame).is_none(), "{from} to {to}");
        }
        for (from, to) in [("::", "fd00::2"), ("ff02::1", "fd00::2"), ("fd00::1", "ff02::1")] {
            let frame = testing::udp6(A, B, from.parse().unwrap(), to.parse().unwrap(), 1, 2, b"x");
            assert!(error6(&frame).is_none(), "{from} to {to}");
        }
    }

    #[test]
    fn nothing_is_said_about_a_part_or_about_what_is_no_packet() {
        let later = testing::ip4_at(A, B, A4, B4, 17, 2, &[0; 16]);
        assert!(error4(&later).is_none());
        let body = [&*testing::fragment_header(17, 2, false, 7), &[0; 16]].concat();
        assert!(error6(&testing::ip6(A, B, A6, B6, 44, &body)).is_none());
        for packet in [&[][..], &[0x45], &[0x60; 39], &[0xff; 60]] {
            assert!(error(B4.into(), packet, Unreachable::Port.message4()).is_none());
            assert!(error(B6.into(), packet, Unreachable::Port.message6()).is_none());
        }
    }

    #[test]
    fn one_worker_says_no_more_than_its_budget() {
        let mut budget = Budget::default();
        let said = (0..10_000).filter(|_| budget.0.take(548, RATE, Instant(1_000_000_000))).count();
        assert!((200..300).contains(&said), "{said}");
        assert!(budget.0.take(548, RATE, Instant(2_000_000_000)));
    }
}
