//! A container's IP fragments on their way out, put together: a socket sends whole datagrams.
//!
//! Limits, so that what never becomes whole costs little: datagrams under way per port and per worker, pieces that do not touch
//! each other, half a minute. A port that has too many loses its oldest; where all have too many, the one that has most does.
//! One worker owns it; parts of a datagram that changes workers midway are lost.

use std::net::IpAddr;
use std::time::Duration;

use etherparse::defrag::{IpDefragBuf, IpFragRange};
use etherparse::{IpFragOffset, IpNumber, Ipv4HeaderSlice, Ipv6FragmentHeaderSlice};

use crate::forwarding::{DropReason, Instant, PortId};
use crate::frame::{Fragment, Packet, checksum};

/// Datagrams of one port under way: 2 MiB at most.
const MOST_OF_PORT: usize = 32;
/// Datagrams under way in one worker: 8 MiB at most.
const MOST: usize = 128;
/// Pieces of one datagram with holes between them. Fragments come nearly in order; thousands of tiny ones in a bad order are
/// an attack on who sorts them.
const MOST_PIECES: usize = 64;
/// Linux's `ipfrag_time`.
const LIFETIME: Duration = Duration::from_secs(30);
/// Buffers kept for later datagrams.
const MOST_SPARE: usize = 8;

const ETHERNET_LEN: usize = 14;
const IPV6_LEN: usize = 40;
const FRAGMENT_LEN: usize = 8;
/// The next header that says: a fragment header.
const FRAGMENT_HEADER: u8 = 44;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    port: PortId,
    src: IpAddr,
    dst: IpAddr,
    /// RFC 791: part of an IPv4 datagram's identity; of an IPv6 one (RFC 8200 4.5) it is not: 0.
    protocol: u8,
    id: u32,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    began: Instant,
    /// Ethernet and IP header of the first fragment, once it is here.
    head: Vec<u8>,
    body: IpDefragBuf,
}

/// Datagrams that are not whole yet.
#[derive(Debug, Default)]
pub(crate) struct Fragments {
    /// In the order in which they began.
    entries: Vec<Entry>,
    spare: Vec<(Vec<u8>, Vec<u8>, Vec<IpFragRange>)>,
}

/// What a fragment says of its place.
struct Part<'a> {
    offset: IpFragOffset,
    more: bool,
    data: &'a [u8],
    /// Of the datagram's first header behind IP's.
    next: u8,
}

impl Fragments {
    /// Adds a fragment from `port`, `packet` of the frame `bytes`. When its datagram is whole, `whole` is made the frame that would
    /// have carried it in one piece, and true returned.
    ///
    /// # Errors
    /// `Fragment` for one that contradicts the others, or that no sender makes.
    pub(crate) fn add(
        &mut self,
        port: PortId,
        bytes: &[u8],
        packet: &Packet<'_>,
        now: Instant,
        whole: &mut Vec<u8>,
    ) -> Result<bool, DropReason> {
        let (Fragment::First { id } | Fragment::Later { id }) = packet.fragment else {
            return Err(DropReason::Fragment);
        };
        let part = part(bytes, packet).ok_or(DropReason::Fragment)?;
        let protocol = if packet.src.is_ipv4() { packet.protocol } else { 0 };
        let key = Key { port, src: packet.src, dst: packet.dst, protocol, id };
        self.expire(now);
        let at = self.entries.iter().position(|entry| entry.key == key).unwrap_or_else(|| self.begin(key, now));
        let entry = &mut self.entries[at];
        if let Fragment::First { .. } = packet.fragment {
            keep_head(bytes, packet, part.next, &mut entry.head);
        }
        if entry.body.add(part.offset, part.more, part.data).is_err() || !is_sound(&entry.body) {
            self.end(at);
            return Err(DropReason::Fragment);
        }
        if !entry.body.is_complete() {
            return Ok(false);
        }
        let is_made = assemble(&entry.head, entry.body.data(), whole);
        self.end(at);
        if is_made { Ok(true) } else { Err(DropReason::Fragment) }
    }

    /// Gives up what did not become whole in time.
    pub(crate) fn expire(&mut self, now: Instant) {
        while self.deadline().is_some_and(|deadline| deadline <= now) {
            self.end(0);
        }
    }

    /// When [`Fragments::expire`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.entries.first().map(|entry| entry.began + LIFETIME)
    }

    /// Gives up all of a port that is not served here any more.
    pub(crate) fn forget(&mut self, port: PortId) {
        self.entries.retain(|entry| entry.key.port != port);
    }

    fn begin(&mut self, key: Key, now: Instant) -> usize {
        if self.count(key.port) >= MOST_OF_PORT {
            self.end_oldest(key.port);
        } else if self.entries.len() >= MOST {
            let greediest = self.entries.iter().map(|entry| entry.key.port).max_by_key(|port| self.count(*port));
            self.end_oldest(greediest.expect("there are entries"));
        }
        let (head, data, pieces) = self.spare.pop().unwrap_or_default();
        let body = IpDefragBuf::new(IpNumber(key.protocol), data, pieces);
        self.entries.push(Entry { key, began: now, head, body });
        self.entries.len() - 1
    }

    fn count(&self, port: PortId) -> usize {
        self.entries.iter().filter(|entry| entry.key.port == port).count()
    }

    fn end_oldest(&mut self, port: PortId) {
        if let Some(at) = self.entries.iter().position(|entry| entry.key.port == port) {
            self.end(at);
        }
    }

    fn end(&mut self, at: usize) {
        let Entry { mut head, body, .. } = self.entries.remove(at);
        if self.spare.len() < MOST_SPARE {
            head.clear();
            let (data, pieces) = body.take_bufs();
            self.spare.push((head, data, pieces));
        }
    }
}

/// Whether there are few pieces, and none behind the end.
fn is_sound(body: &IpDefragBuf) -> bool {
    let pieces = body.sections();
    let is_within = |end| pieces.iter().all(|piece| piece.end <= end);
    pieces.len() <= MOST_PIECES && body.end().is_none_or(is_within)
}

/// Over IPv6 only where the fragment header follows at once, as all senders have it: extension headers before it, which are
/// for routers, nobody here would heed.
fn part<'a>(bytes: &'a [u8], packet: &Packet<'_>) -> Option<Part<'a>> {
    let ip = bytes.get(packet.l3_offset..packet.end)?;
    if packet.src.is_ipv4() {
        let header = Ipv4HeaderSlice::from_slice(ip).ok()?;
        let (offset, more) = (header.fragments_offset(), header.more_fragments());
        return Some(Part { offset, more, data: &ip[header.slice().len()..], next: packet.protocol });
    }
    if ip[6] != FRAGMENT_HEADER {
        return None;
    }
    let header = Ipv6FragmentHeaderSlice::from_slice(&ip[IPV6_LEN..]).ok()?;
    let (offset, more, next) = (header.fragment_offset(), header.more_fragments(), header.next_header().0);
    Some(Part { offset, more, data: &ip[IPV6_LEN + FRAGMENT_LEN..], next })
}

/// Ethernet and IP header of a first fragment, as if it were none but for lengths and sums.
fn keep_head(bytes: &[u8], packet: &Packet<'_>, next: u8, head: &mut Vec<u8>) {
    head.clear();
    if packet.src.is_ipv4() {
        head.extend_from_slice(&bytes[..packet.l4_offset]);
        // Flags and offset.
        head[ETHERNET_LEN + 6..ETHERNET_LEN + 8].fill(0);
    } else {
        head.extend_from_slice(&bytes[..ETHERNET_LEN + IPV6_LEN]);
        head[ETHERNET_LEN + 6] = next;
    }
}

/// The whole frame; false if there is no such packet.
fn assemble(head: &[u8], body: &[u8], whole: &mut Vec<u8>) -> bool {
    whole.clear();
    if head.len() < ETHERNET_LEN {
        return false;
    }
    whole.extend_from_slice(head);
    whole.extend_from_slice(body);
    let ip = &mut whole[ETHERNET_LEN..];
    let is_ipv4 = ip[0] >> 4 == 4;
    let Ok(len) = u16::try_from(if is_ipv4 { ip.len() } else { ip.len() - IPV6_LEN }) else { return false };
    if is_ipv4 {
        ip[2..4].copy_from_slice(&len.to_be_bytes());
        ip[10..12].fill(0);
        let sum = !checksum::sum(&ip[..head.len() - ETHERNET_LEN], 0);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        ip[4..6].copy_from_slice(&len.to_be_bytes());
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::testing::{self, stations::*};
    use crate::frame::{Frame, Payload};
    use proptest::prelude::*;

    const PORT: PortId = PortId(7);

    fn at(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000_000)
    }

    fn add(fragments: &mut Fragments, port: PortId, bytes: &[u8], now: Instant) -> Result<Option<Vec<u8>>, DropReason> {
        let Payload::Ip(packet) = Frame::parse(bytes).unwrap().payload else { panic!("no IP packet") };
        let mut whole = Vec::new();
        Ok(fragments.add(port, bytes, &packet, now, &mut whole)?.then_some(whole))
    }

    /// A datagram over IPv4 cut into pieces of `size` bytes, a multiple of 8.
    fn cut4(message: &[u8], size: usize) -> Vec<Vec<u8>> {
        (0..message.len())
            .step_by(size)
            .map(|offset| {
                let end = message.len().min(offset + size);
                let more = if end < message.len() { 0x2000 } else { 0 };
                testing::ip4_at(A, B, A4, B4, 17, more | (offset / 8) as u16, &message[offset..end])
            })
            .collect()
    }

    fn cut6(message: &[u8], size: usize) -> Vec<Vec<u8>> {
        (0..message.len())
            .step_by(size)
            .map(|offset| {
                let end = message.len().min(offset + size);
                let header = testing::fragment_header(17, (offset / 8) as u16, end < message.len(), 7);
                testing::ip6(A, B, A6, B6, 44, &[&header, &message[offset..end]].concat())
            })
            .collect()
    }

    fn message4(len: usize) -> Vec<u8> {
        let payload: Vec<u8> = (0..len).map(|n| n as u8).collect();
        testing::udp(A4.into(), B4.into(), 4000, 53, &payload)
    }

    fn message6(len: usize) -> Vec<u8> {
        let payload: Vec<u8> = (0..len).map(|n| n as u8).collect();
        testing::udp(A6.into(), B6.into(), 4000, 53, &payload)
    }

    proptest! {
        #[test]
        fn fragments_in_any_order_become_the_datagram(
            len in 500usize..4000,
            size in 2usize..60,
            shuffle in any::<u64>(),
            twice in any::<bool>(),
        ) {
            for ipv6 in [false, true] {
                let message = if ipv6 { message6(len) } else { message4(len) };
                let mut parts = if ipv6 { cut6(&message, size * 8) } else { cut4(&message, size * 8) };
                prop_assume!(parts.len() <= MOST_PIECES);
                if twice {
                    let first = parts[0].clone();
                    parts.insert(0, first);
                }
                let count = parts.len() as u64;
                parts.sort_by_key(|part| (part[19] as u64 ^ shuffle).wrapping_mul(part.len() as u64) % count);
                let mut fragments = Fragments::default();
                let mut made = Vec::new();
                for part in &parts {
                    made.extend(add(&mut fragments, PORT, part, at(0)).unwrap());
                }
                let expected =
                    if ipv6 { testing::ip6(A, B, A6, B6, 17, &message) } else { testing::ip4(A, B, A4, B4, 17, &message) };
                prop_assert_eq!(&made[..1], &[expected][..]);
            }
        }
    }

    #[test]
    fn ports_and_datagrams_are_kept_apart() {
        let message = message4(100);
        let parts = cut4(&message, 64);
        let mut fragments = Fragments::default();
        assert_eq!(add(&mut fragments, PORT, &parts[0], at(0)), Ok(None));
        assert_eq!(add(&mut fragments, PortId(8), &parts[1], at(0)), Ok(None));
        assert!(add(&mut fragments, PORT, &parts[1], at(0)).unwrap().is_some());
    }

    #[test]
    fn what_is_not_whole_in_time_is_given_up() {
        let message = message4(100);
        let parts = cut4(&message, 64);
        let mut fragments = Fragments::default();
        assert_eq!(add(&mut fragments, PORT, &parts[0], at(0)), Ok(None));
        assert_eq!(fragments.deadline(), Some(at(30)));
        assert_eq!(add(&mut fragments, PORT, &parts[1], at(30)), Ok(None));
        fragments.expire(at(60));
        assert_eq!((fragments.entries.len(), fragments.deadline()), (0, None));
    }

    #[test]
    fn two_ends_contradict_each_other() {
        let last = |len| testing::ip4_at(A, B, A4, B4, 17, 8, &vec![0; len]);
        let mut fragments = Fragments::default();
        assert_eq!(add(&mut fragments, PORT, &last(10), at(0)), Ok(None));
        assert_eq!(add(&mut fragments, PORT, &last(20), at(0)), Err(DropReason::Fragment));
        assert!(fragments.entries.is_empty());
    }

    #[test]
    fn many_tiny_pieces_with_holes_are_refused() {
        let mut fragments = Fragments::default();
        let piece = |at: u16| testing::ip4_at(A, B, A4, B4, 17, 0x2000 | (2 * at + 2), &[0; 8]);
        assert!((0..64).all(|n| add(&mut fragments, PORT, &piece(n), at(0)) == Ok(None)));
        assert_eq!(add(&mut fragments, PORT, &piece(64), at(0)), Err(DropReason::Fragment));
    }

    #[test]
    fn a_port_with_too_many_loses_its_own_oldest() {
        let mut fragments = Fragments::default();
        let first = |id: u32| {
            let header = testing::fragment_header(17, 0, true, id);
            testing::ip6(A, B, A6, B6, 44, &[&header, &message6(56)[..]].concat())
        };
        assert_eq!(add(&mut fragments, PortId(8), &first(0), at(0)), Ok(None));
        for id in 0..100 {
            assert_eq!(add(&mut fragments, PORT, &first(id), at(1)), Ok(None));
        }
        assert_eq!((fragments.count(PORT), fragments.count(PortId(8))), (MOST_OF_PORT, 1));
        let ids: Vec<u32> = fragments.entries.iter().skip(1).map(|entry| entry.key.id).collect();
        assert_eq!(ids, (68..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_worker_with_too_many_takes_from_who_has_most() {
        let mut fragments = Fragments::default();
        let message = message4(100);
        let parts = cut4(&message, 64);
        for port in 0..4 {
            for id in 0..MOST_OF_PORT as u16 {
                let mut part = parts[0].clone();
                part[18..20].copy_from_slice(&id.to_be_bytes());
                assert_eq!(add(&mut fragments, PortId(port), &part, at(0)), Ok(None));
            }
        }
        assert_eq!(add(&mut fragments, PortId(9), &parts[0], at(1)), Ok(None));
        assert_eq!((fragments.entries.len(), fragments.count(PortId(9))), (MOST, 1));
    }

    #[test]
    fn an_end_before_what_is_there_makes_no_datagram_of_less() {
        let mut fragments = Fragments::default();
        let far = testing::ip4_at(A, B, A4, B4, 17, 0x2000 | 4, &[1; 64]);
        let last = testing::ip4_at(A, B, A4, B4, 17, 2, &[2; 16]);
        assert_eq!(add(&mut fragments, PORT, &far, at(0)), Ok(None));
        assert_eq!(add(&mut fragments, PORT, &last, at(0)), Err(DropReason::Fragment));
    }
}
