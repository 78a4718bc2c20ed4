//! Nothing on the way of a frame allocates: counted by an allocator that counts what its thread asks for.
//!
//! The other tests of this binary run beside, each on a thread of its own, and do not disturb the count.

mod turn;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpAddress, IpProtocol, IpRepr, TcpControl,
    TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
};
use tapswitch::forwarding::{
    Decision, DropReason, FdbLimits, Instant, Limiter, Network, NetworkSettings, NetworkSpec, PortId, PortIndex,
    PortSpec, Rate, Rule, Scratch, Tables,
};
use tapswitch::frame::segment::segment;
use tapswitch::frame::{Frame, Gso, Mac, Offload, OffloadHeader, Payload};

/// The system's allocator, with a count per thread of blocks asked for or grown.
struct Counting;

thread_local! {
    // No initialiser to run and nothing to drop: looking at it allocates nothing.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is the one that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is the one that `System` asks for.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is the one that `System` asks for.
        unsafe { System.realloc(block, layout, new_size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the one that `System` asks for.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `work` allocated on this thread.
fn allocations_in(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

const A4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const B4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const A6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const B6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const MTU: u32 = 1500;
const SPACE: usize = 65_535 + 14;

/// A frame around the upper-layer bytes that `emit` writes into `len` bytes.
fn ip_frame(src: IpAddress, dst: IpAddress, protocol: IpProtocol, len: usize, emit: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let ip = IpRepr::new(src, dst, protocol, len, 64);
    let mut bytes = vec![0; 14 + ip.buffer_len()];
    let ethertype = if let IpRepr::Ipv4(_) = ip { EthernetProtocol::Ipv4 } else { EthernetProtocol::Ipv6 };
    let (src_addr, dst_addr) = (EthernetAddress([2, 0, 0, 0, 0, 1]), EthernetAddress([2, 0, 0, 0, 0, 2]));
    EthernetRepr { src_addr, dst_addr, ethertype }.emit(&mut EthernetFrame::new_unchecked(&mut bytes));
    ip.emit(&mut bytes[14..], &ChecksumCapabilities::default());
    emit(&mut bytes[14 + ip.header_len()..]);
    bytes
}

fn tcp(src: IpAddress, dst: IpAddress, payload: &[u8]) -> Vec<u8> {
    let repr = TcpRepr {
        src_port: 4000,
        dst_port: 80,
        control: TcpControl::Psh,
        seq_number: TcpSeqNumber(1),
        ack_number: Some(TcpSeqNumber(1)),
        window_len: 1000,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload,
    };
    ip_frame(src, dst, IpProtocol::Tcp, repr.buffer_len(), |body| {
        repr.emit(&mut TcpPacket::new_unchecked(body), &src, &dst, &ChecksumCapabilities::default());
    })
}

fn udp(src: IpAddress, dst: IpAddress, payload: &[u8]) -> Vec<u8> {
    let repr = UdpRepr { src_port: 4000, dst_port: 53 };
    ip_frame(src, dst, IpProtocol::Udp, 8 + payload.len(), |body| {
        let mut packet = UdpPacket::new_unchecked(body);
        let write = |space: &mut [u8]| space.copy_from_slice(payload);
        repr.emit(&mut packet, &src, &dst, payload.len(), write, &ChecksumCapabilities::default());
    })
}

/// Frames with the offload header that their sender's kernel would give them, and how many a plain port gets.
fn frames() -> Vec<(Vec<u8>, OffloadHeader, usize)> {
    let whole = |csum_start, csum_offset, gso_type, gso_size| OffloadHeader {
        flags: u8::from(csum_start != 0),
        gso_type,
        hdr_len: 0,
        gso_size,
        csum_start,
        csum_offset,
    };
    let payload = vec![7; 60_000];
    vec![
        (tcp(A4.into(), B4.into(), b"payload"), whole(0, 0, 0, 0), 1),
        (tcp(A4.into(), B4.into(), b"payload"), whole(34, 16, 0, 0), 1),
        (tcp(A4.into(), B4.into(), &payload), whole(34, 16, 1, 1460), 42),
        (tcp(A6.into(), B6.into(), &payload), whole(54, 16, 4, 1440), 42),
        (tcp(A4.into(), B4.into(), &payload), whole(34, 16, 1, 48), 1250),
        (udp(A4.into(), B4.into(), &payload), whole(34, 6, 5, 1472), 41),
        (udp(A6.into(), B6.into(), b"query"), whole(54, 6, 0, 0), 1),
        (Vec::from([0xff; 60]), whole(0, 0, 0, 0), 1),
    ]
}

#[test]
fn the_allocator_counts() {
    assert_eq!(allocations_in(|| drop(black_box(Box::new(1)))), 1);
    let mut grown = Vec::with_capacity(1);
    assert_eq!(allocations_in(|| grown.extend_from_slice(black_box(&[0u8; 100]))), 1);
    assert_eq!(allocations_in(|| ()), 0);
}

#[test]
fn parsing_checking_and_rebuilding_allocate_nothing() {
    for (bytes, header, _) in frames() {
        let count = allocations_in(|| {
            let frame = Frame::parse(black_box(&bytes)).expect("well-formed");
            let offload = Offload::check(header, &frame, MTU).expect("as a kernel makes it");
            let mut out = [0; 12];
            offload.write(&mut out);
            black_box(out);
        });
        assert_eq!(count, 0, "{header:?}");
    }
}

#[test]
fn refusing_allocates_nothing() {
    for (mut bytes, header, _) in frames() {
        let bad = OffloadHeader { flags: 1, csum_start: 14, csum_offset: 10, ..header };
        let count = allocations_in(|| {
            let frame = Frame::parse(&bytes).expect("well-formed");
            assert!(Offload::check(bad, &frame, MTU).is_err());
        });
        assert_eq!(count, 0);
        bytes.truncate(20);
        bytes[12..14].copy_from_slice(&[8, 0]);
        assert_eq!(allocations_in(|| assert!(Frame::parse(&bytes).is_err())), 0);
    }
}

#[test]
fn cutting_and_summing_reuse_the_space_given() {
    let mut space = Vec::with_capacity(SPACE);
    for (bytes, header, expected) in frames() {
        let frame = Frame::parse(&bytes).expect("well-formed");
        let offload = Offload::check(header, &frame, MTU).expect("as a kernel makes it");
        let mut emitted = 0;
        let count = allocations_in(|| {
            emitted = segment(&bytes, &offload, &mut space, |part| !black_box(part).is_empty());
        });
        assert_eq!((count, emitted), (0, expected), "{header:?}");
        assert_eq!(matches!(offload.gso, Gso::None), expected == 1);
    }
}

#[test]
fn the_frames_of_this_test_are_what_they_should_be() {
    let frames = frames();
    let parsed = Frame::parse(&frames[0].0).expect("well-formed");
    assert_eq!(parsed.src, Mac::new([2, 0, 0, 0, 0, 1]));
    assert!(matches!(parsed.payload, Payload::Ip(_)));
    assert!(matches!(Frame::parse(&frames[7].0).expect("well-formed").payload, Payload::Other));
}

const GATEWAY: Mac = Mac::new([2, 0, 0, 0, 0, 0xfe]);
const GATEWAY4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);

/// A network of three: A and B, guarded, and C, behind which MACs are learned.
fn network(icc: bool) -> Network {
    let port = |n: u8, guard| PortSpec {
        id: PortId(n.into()),
        mac: Mac::new([2, 0, 0, 0, 0, n]),
        ipv4: Some(Ipv4Addr::new(10, 0, 0, n)),
        ipv6: Some(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n.into())),
        guard,
        learn: !guard,
        published: Default::default(),
    };
    let spec = NetworkSpec {
        settings: NetworkSettings {
            gateway_mac: GATEWAY,
            gateway4: GATEWAY4,
            gateway6: None,
            host4: None,
            host6: None,
            uplink: Default::default(),
            subnet4: "10.0.0.0/24".parse().expect("a subnet"),
            subnet6: None,
            mtu: MTU,
            icc,
            policy_generation: 1,
            flood_rate: Rate::of_copies(500, MTU),
        },
        rules: vec![Rule { from: PortId(1), to: PortId(2), port: None }],
        ports: vec![port(1, true), port(2, true), port(3, false)],
    };
    Network::new(spec, Arc::new(Tables::new(FdbLimits::default())))
}

/// An ARP request of A for `target`.
fn arp(target: Ipv4Addr) -> Vec<u8> {
    let head = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1];
    [&head[..], &A4.octets(), &[0; 6], &target.octets()].concat()
}

/// An echo request of A to the gateway.
fn echo() -> Vec<u8> {
    let mut bytes = ip_frame(A4.into(), GATEWAY4.into(), IpProtocol::Icmp, 64, |body| body[0] = 8);
    bytes[..6].copy_from_slice(&GATEWAY.octets());
    bytes
}

#[test]
fn deciding_allocates_nothing_whatever_the_decision() {
    let broadcast = |mut bytes: Vec<u8>| {
        bytes[..6].fill(0xff);
        bytes
    };
    let query = || udp(A4.into(), B4.into(), b"query");
    let part = |place: [u8; 2]| {
        let mut bytes = query();
        bytes[20..22].copy_from_slice(&place);
        bytes
    };
    let to_b = Decision::Unicast(PortIndex(1));
    for (bytes, open, closed) in [
        (tcp(A4.into(), B4.into(), b"payload"), to_b, to_b),
        (tcp(A6.into(), B6.into(), b"payload"), to_b, to_b),
        (part([0x20, 0]), to_b, to_b),
        (part([0, 9]), to_b, to_b),
        (broadcast(query()), Decision::Flood, Decision::Flood),
        (arp(B4), Decision::Answer, Decision::Answer),
        (arp(GATEWAY4), Decision::Answer, Decision::Answer),
        (arp(A4), Decision::Flood, Decision::Drop(DropReason::Icc)),
        (echo(), Decision::Answer, Decision::Answer),
        (
            udp(B4.into(), A4.into(), b"spoofed"),
            Decision::Drop(DropReason::SpoofedIpv4),
            Decision::Drop(DropReason::SpoofedIpv4),
        ),
    ] {
        for (icc, expected) in [(true, open), (false, closed)] {
            let network = network(icc);
            let mut scratch = Scratch::with_ports(3);
            let mut limiter = Limiter::new(network.settings().flood_rate, Instant(0));
            let frame = Frame::parse(&bytes).expect("well-formed");
            for now in [Instant(0), Instant(2_000_000_000)] {
                let mut decision = None;
                let count = allocations_in(|| {
                    let (from, offload) = (PortIndex(0), Offload::NONE);
                    decision = Some(network.ingress(from, &mut limiter, &frame, &offload, now, &mut scratch));
                });
                assert_eq!((decision, count), (Some(expected), 0), "icc {icc}: {frame:?}");
            }
        }
    }
}

#[test]
fn a_flood_of_source_macs_allocates_for_a_ports_first_ones_only() {
    let network = network(true);
    let mut scratch = Scratch::with_ports(3);
    let mut limiter = Limiter::new(network.settings().flood_rate, Instant(0));
    let mut send = |n: u32| {
        let [a, b, c, d] = n.to_be_bytes();
        let bytes = [&[2, 0, 0, 0, 0, 1, 6, 0, a, b, c, d, 0x88, 0xb5], &[0; 46][..]].concat();
        let frame = Frame::parse(&bytes).expect("well-formed");
        allocations_in(|| {
            let (from, offload, now) = (PortIndex(2), Offload::NONE, Instant(n.into()));
            let decision = network.ingress(from, &mut limiter, &frame, &offload, now, &mut scratch);
            assert_eq!(decision, Decision::Unicast(PortIndex(0)));
        })
    };
    for n in 0..16 {
        send(n);
    }
    assert_eq!((16..1000).map(send).sum::<u64>(), 0);
}
