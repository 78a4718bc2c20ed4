//! Cuts a frame into segments and completes checksums, for a port without the offload.
//!
//! It makes what the sender's kernel would have made: identifications and sequence numbers count up, FIN and PSH are on the
//! last segment, CWR on the first. The sum starts from what the sender left in the checksum field, the pseudo-header's sum,
//! as `skb_checksum_help` does: right behind a routing header too. A sender that put something else there gets
//! the wrong sum it asked for.

use super::parse::ETHERNET_LEN;
use super::{EtherType, Gso, Offload, checksum};

/// Length of an IPv6 header, in bytes.
const IPV6_LEN: usize = 40;

// Bits of the byte of flags in a TCP header. RFC 9293 3.1.
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// Makes of `frame` (no offload header) what a plain port can take, calling `emit` with each finished frame in order:
/// segments cut, lengths, ids, sequence numbers and flags set, every sum made. `space` holds the frame being made and is
/// reused; its capacity must be made beforehand. Stops at the first `emit` that returns false.
///
/// Returns how many frames were emitted, one that `emit` refused included.
///
/// # Panics
/// When `offload` is not what [`Offload::check`] gave for this frame.
pub fn segment(frame: &[u8], offload: &Offload, space: &mut Vec<u8>, mut emit: impl FnMut(&[u8]) -> bool) -> usize {
    match offload.gso {
        Gso::None if !offload.needs_csum => {
            emit(frame);
            1
        }
        Gso::None => {
            space.clear();
            space.extend_from_slice(frame);
            complete(space, offload);
            emit(space);
            1
        }
        Gso::Tcp { size, .. } | Gso::Udp { size } => cut(frame, offload, size.into(), space, emit),
    }
}

fn cut(
    frame: &[u8],
    offload: &Offload,
    size: usize,
    space: &mut Vec<u8>,
    mut emit: impl FnMut(&[u8]) -> bool,
) -> usize {
    let (headers, payload) = frame.split_at(offload.header_len.into());
    let count = payload.len().div_ceil(size);
    for (index, part) in payload.chunks(size).enumerate() {
        space.clear();
        space.extend_from_slice(headers);
        space.extend_from_slice(part);
        renew_ip(space, index);
        match offload.gso {
            Gso::Tcp { .. } => {
                renew_tcp(&mut space[offload.csum_start.into()..], index, index * size, index + 1 == count)
            }
            _ => renew_udp(&mut space[offload.csum_start.into()..]),
        }
        shorten_pseudo_header(space, offload, frame.len());
        complete(space, offload);
        if !emit(space) {
            return index + 1;
        }
    }
    count
}

/// Sets the IP header's length to what is there; for IPv4 also the identification of segment `index`, and the sum.
fn renew_ip(frame: &mut [u8], index: usize) {
    let is_ipv4 = read(frame, 12) == EtherType::IPV4.0;
    let packet = &mut frame[ETHERNET_LEN..];
    if !is_ipv4 {
        return write(packet, 4, narrow(packet.len() - IPV6_LEN));
    }
    write(packet, 2, narrow(packet.len()));
    write(packet, 4, read(packet, 4).wrapping_add(narrow(index)));
    write(packet, 10, 0);
    let header_len = usize::from(packet[0] & 0x0f) * 4;
    write(packet, 10, !checksum::sum(&packet[..header_len], 0));
}

/// Sets the sequence number of the segment that starts `offset` bytes into the payload, and the flags of its place.
fn renew_tcp(tcp: &mut [u8], index: usize, offset: usize, is_last: bool) {
    let sequence: &mut [u8; 4] = (&mut tcp[4..8]).try_into().expect("four bytes");
    let offset = u32::try_from(offset).expect("a frame is shorter than 4 GiB");
    *sequence = u32::from_be_bytes(*sequence).wrapping_add(offset).to_be_bytes();
    if !is_last {
        tcp[13] &= !(FIN | PSH);
    }
    if index > 0 {
        tcp[13] &= !CWR;
    }
}

fn renew_udp(udp: &mut [u8]) {
    write(udp, 4, narrow(udp.len()));
}

/// Replaces, in the pseudo-header's sum that the checksum field holds, the length of the whole by that of the segment.
fn shorten_pseudo_header(segment: &mut [u8], offload: &Offload, whole_len: usize) {
    let start = usize::from(offload.csum_start);
    let at = start + usize::from(offload.csum_offset);
    let (before, after) = (narrow(whole_len - start), narrow(segment.len() - start));
    let sum = checksum::sum(&after.to_be_bytes(), u32::from(read(segment, at)) + u32::from(!before));
    write(segment, at, sum);
}

/// Makes the upper-layer sum of a frame whose checksum field holds the pseudo-header's.
fn complete(frame: &mut [u8], offload: &Offload) {
    let start = usize::from(offload.csum_start);
    let end = packet_end(frame);
    let sum = !checksum::sum(&frame[start..end], 0);
    // RFC 768: over UDP 0 means that there is no sum; 0xffff is the same number.
    let sum = if sum == 0 && offload.is_udp() { 0xffff } else { sum };
    write(frame, start + usize::from(offload.csum_offset), sum);
}

/// Where padding begins.
fn packet_end(frame: &[u8]) -> usize {
    if read(frame, 12) == EtherType::IPV4.0 {
        ETHERNET_LEN + usize::from(read(frame, ETHERNET_LEN + 2))
    } else {
        ETHERNET_LEN + IPV6_LEN + usize::from(read(frame, ETHERNET_LEN + 4))
    }
}

#[inline]
fn read(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[inline]
fn write(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// A length or count within one IP packet.
#[inline]
fn narrow(length: usize) -> u16 {
    u16::try_from(length).expect("an IP packet is shorter than 64 KiB")
}

#[cfg(test)]
mod tests {
    use super::super::testing::stations::{A, A4, A6, B, B4, B6};
    use super::super::testing::{self, ACK, CWR as CWR_BIT, FIN as FIN_BIT, IP_ID, PSH as PSH_BIT, SEQUENCE};
    use super::super::{Frame, OffloadHeader, Payload};
    use super::*;
    use proptest::prelude::*;
    use smoltcp::wire::{IpAddress, Ipv4Packet, Ipv6Packet, TcpPacket, UdpPacket};

    /// What `smoltcp` reads of a finished frame, with every sum verified.
    #[derive(Debug, PartialEq)]
    struct Read {
        id: Option<u16>,
        seq: Option<u32>,
        flags: Option<(bool, bool)>,
        payload: Vec<u8>,
    }

    fn read_with_smoltcp(frame: &[u8]) -> Read {
        let packet = &frame[14..];
        let (id, protocol, src, dst, body): (_, u8, IpAddress, IpAddress, _) = if packet[0] >> 4 == 4 {
            let ip = Ipv4Packet::new_checked(packet).unwrap();
            assert!(ip.verify_checksum());
            (Some(ip.ident()), ip.next_header().into(), ip.src_addr().into(), ip.dst_addr().into(), ip.payload())
        } else {
            let ip = Ipv6Packet::new_checked(packet).unwrap();
            (None, ip.next_header().into(), ip.src_addr().into(), ip.dst_addr().into(), ip.payload())
        };
        if protocol == 6 {
            let tcp = TcpPacket::new_checked(body).unwrap();
            assert!(tcp.verify_checksum(&src, &dst));
            let flags = Some((tcp.psh() || tcp.fin(), tcp.cwr()));
            Read { id, seq: Some(tcp.seq_number().0 as u32), flags, payload: tcp.payload().to_vec() }
        } else {
            let udp = UdpPacket::new_checked(body).unwrap();
            assert!(udp.checksum() != 0 && udp.verify_checksum(&src, &dst));
            assert_eq!(usize::from(udp.len()), body.len());
            Read { id, seq: None, flags: None, payload: udp.payload().to_vec() }
        }
    }

    fn all((frame, header): &(Vec<u8>, OffloadHeader)) -> Vec<Vec<u8>> {
        let offload = Offload::check(*header, &Frame::parse(frame).unwrap(), 65_521).unwrap();
        let mut segments = Vec::new();
        let mut space = Vec::with_capacity(frame.len());
        let count = segment(frame, &offload, &mut space, |bytes| {
            segments.push(bytes.to_vec());
            true
        });
        assert_eq!((count, offload.segments(frame.len())), (segments.len(), segments.len()));
        segments
    }

    /// A frame of each kind with `payload`.
    fn whole(kind: usize, payload: &[u8]) -> Vec<u8> {
        let flags = ACK | PSH_BIT | FIN_BIT | CWR_BIT;
        match kind {
            0 => testing::tcp4(A, B, A4, B4, 4000, 80, flags, payload),
            1 => testing::tcp6(A, B, A6, B6, 4000, 80, flags, payload),
            2 => testing::udp4(A, B, A4, B4, 4000, 53, payload),
            _ => testing::udp6(A, B, A6, B6, 4000, 53, payload),
        }
    }

    proptest! {
        #[test]
        fn segments_put_together_are_the_payload_and_every_sum_is_right(
            kind in 0usize..4,
            payload in proptest::collection::vec(any::<u8>(), 1..6000),
            size in 48u16..1500,
        ) {
            let segments = all(&testing::gso(&whole(kind, &payload), size));
            prop_assert_eq!(segments.len(), payload.len().div_ceil(size.into()));
            let mut joined = Vec::new();
            for (index, bytes) in segments.iter().enumerate() {
                let is_last = index + 1 == segments.len();
                prop_assert!(Frame::parse(bytes).is_ok());
                let part = read_with_smoltcp(bytes);
                prop_assert!(is_last || part.payload.len() == usize::from(size));
                prop_assert_eq!(part.id, (kind % 2 == 0).then(|| IP_ID.wrapping_add(index as u16)));
                if kind < 2 {
                    prop_assert_eq!(part.seq, Some(SEQUENCE.wrapping_add(joined.len() as u32)));
                    prop_assert_eq!(part.flags, Some((is_last, index == 0)));
                }
                joined.extend(part.payload);
            }
            prop_assert_eq!(joined, payload);
        }

        #[test]
        fn completing_a_sum_gives_the_frame_that_a_host_without_offload_sends(
            kind in 0usize..4,
            payload in proptest::collection::vec(any::<u8>(), 0..3000),
            padding in 0usize..20,
        ) {
            let mut expected = whole(kind, &payload);
            let (mut frame, header) = testing::partial(&expected);
            // Padding is whatever the sender's memory held, and never part of a sum.
            expected.resize(expected.len() + padding, 0xa5);
            frame.resize(frame.len() + padding, 0xa5);
            prop_assert_eq!(all(&(frame, header)), vec![expected]);
        }

        #[test]
        fn cutting_whatever_passes_the_check_never_panics(
            kind in 0usize..4,
            payload in proptest::collection::vec(any::<u8>(), 0..400),
            flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
            size in 0u16..100,
        ) {
            let (mut frame, header) = testing::gso(&whole(kind, &payload), size);
            for (at, value) in flips {
                let at = at.index(frame.len());
                frame[at] = value;
            }
            if let Ok(parsed) = Frame::parse(&frame)
                && let Ok(offload) = Offload::check(header, &parsed, 1500)
            {
                let mut space = Vec::with_capacity(frame.len());
                let count = segment(&frame, &offload, &mut space, |bytes| Frame::parse(bytes).is_ok());
                prop_assert_eq!(count, offload.segments(frame.len()));
            }
        }
    }

    #[test]
    fn a_frame_with_nothing_to_do_is_emitted_as_it_is() {
        let frame = whole(2, b"query");
        let mut space = Vec::new();
        let mut seen = Vec::new();
        assert_eq!(
            segment(&frame, &Offload::NONE, &mut space, |bytes| {
                seen.extend_from_slice(bytes);
                true
            }),
            1
        );
        assert_eq!((seen, space.capacity()), (frame, 0));
    }

    #[test]
    fn a_udp_sum_of_zero_is_sent_as_ones() {
        // Find a payload whose sum is 0: the constructor sends that as 0xffff too.
        let payload = (0..=u16::MAX).map(u16::to_be_bytes).find(|p| whole(2, p)[40..42] == [0xff, 0xff]);
        let expected = whole(2, &payload.expect("one of 2^16 words makes the sum 0"));
        assert_eq!(all(&testing::partial(&expected)), vec![expected]);
    }

    #[test]
    fn more_than_128_segments_of_tcp_are_cut() {
        let payload: Vec<u8> = (0..60_000u32).map(|n| n as u8).collect();
        let segments = all(&testing::gso(&whole(0, &payload), 48));
        assert_eq!(segments.len(), 1250);
        let joined: Vec<u8> = segments.iter().flat_map(|s| read_with_smoltcp(s).payload).collect();
        assert_eq!(joined, payload);
    }

    #[test]
    fn tcp_options_are_on_every_segment() {
        let mut frame = whole(0, &[7; 100]);
        // The first four bytes of payload become an option: data offset 6.
        frame[46] = 0x60;
        let segments = all(&testing::gso(&frame, 48));
        assert_eq!(segments.iter().map(|s| s.len() - 58).collect::<Vec<_>>(), [48, 48]);
        assert!(segments.iter().all(|s| s[54..58] == [7; 4]));
        segments.iter().for_each(|s| drop(read_with_smoltcp(s)));
    }

    #[test]
    fn extension_headers_are_on_every_segment() {
        let body = [&[6, 0, 1, 4, 0, 0, 0, 0], &*testing::tcp(A6.into(), B6.into(), 1, 2, ACK, &[7; 100])].concat();
        let frame = testing::ip6(A, B, A6, B6, 60, &body);
        let segments = all(&testing::gso(&frame, 60));
        assert_eq!(segments.len(), 2);
        for bytes in segments {
            let Payload::Ip(packet) = Frame::parse(&bytes).unwrap().payload else { unreachable!() };
            assert_eq!((packet.l4_offset, packet.end), (62, bytes.len()));
            let tcp = TcpPacket::new_checked(&bytes[62..]).unwrap();
            assert!(tcp.verify_checksum(&A6.into(), &B6.into()));
        }
    }

    #[test]
    fn it_stops_where_the_receiver_refuses() {
        let (frame, header) = testing::gso(&whole(0, &[0; 500]), 100);
        let offload = Offload::check(header, &Frame::parse(&frame).unwrap(), 1500).unwrap();
        let mut left = 2;
        let count = segment(&frame, &offload, &mut Vec::new(), |_| {
            left -= 1;
            left > 0
        });
        assert_eq!((count, left), (2, 0));
    }
}
