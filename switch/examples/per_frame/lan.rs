//! A network of any size, and frames in it: for what counts instructions, and for `benches/forwarding.rs`, which measures time.

use std::net::Ipv4Addr;
use std::sync::Arc;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr,
    TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};
use tapswitch::forwarding::{
    FdbLimits, Instant, Network, NetworkSettings, NetworkSpec, PortId, PortSpec, Rate, Rule, RulePort, Tables,
};
use tapswitch::frame::offload::HEADER_LEN;
use tapswitch::frame::{Frame, Mac, Offload, OffloadHeader};

/// Of every network.
pub(crate) const MTU: u32 = 1500;
/// When everything happens.
pub(crate) const NOW: Instant = Instant(1_000_000_000);
/// What the rules open.
pub(crate) const OPEN: u16 = 5201;
/// Headers of Ethernet, IPv4 and TCP with the timestamp option that every Linux sends.
pub(crate) const HEADERS: usize = 14 + 20 + 32;

/// What is on.
#[derive(Clone, Copy)]
pub(crate) struct Checks {
    /// The source guard; off, MACs are learned.
    pub(crate) guard: bool,
    /// Every container may speak to every other.
    pub(crate) icc: bool,
}

/// Two neighbours in the middle of so many endpoints; a rule opens the way from the first to the second.
#[derive(Clone, Copy)]
pub(crate) struct Pair {
    /// The sender.
    pub(crate) a: u32,
    /// The receiver.
    pub(crate) b: u32,
}

impl Pair {
    /// Of a network of that size.
    pub(crate) fn among(endpoints: u32) -> Self {
        let a = (endpoints / 2) | 1;
        Pair { a, b: a + 1 }
    }
}

/// What control publishes of so many endpoints. Where icc is off, each second one may open one port of its neighbour.
pub(crate) fn spec(endpoints: u32, checks: Checks) -> NetworkSpec {
    let port = |n| PortSpec {
        id: PortId(n),
        mac: Mac::of_ipv4(address(n)),
        ipv4: Some(address(n)),
        ipv6: None,
        guard: checks.guard,
        learn: !checks.guard,
        published: Default::default(),
    };
    let rule = |n| Rule { from: PortId(n), to: PortId(n + 1), port: Some(RulePort::Tcp(OPEN)) };
    NetworkSpec {
        settings: NetworkSettings {
            gateway_mac: Mac::of_ipv4(GATEWAY),
            gateway4: GATEWAY,
            gateway6: None,
            host4: None,
            host6: None,
            uplink: Default::default(),
            subnet4: "10.0.0.0/8".parse().expect("a subnet"),
            subnet6: None,
            mtu: MTU,
            icc: checks.icc,
            policy_generation: 1,
            flood_rate: Rate::of_copies(500, MTU),
        },
        rules: (1..endpoints).step_by(2).map(rule).collect(),
        ports: (1..=endpoints).map(port).collect(),
    }
}

/// So many endpoints, with tables of the usual size.
pub(crate) fn network(endpoints: u32, checks: Checks) -> Network {
    Network::new(spec(endpoints, checks), Arc::new(Tables::new(FdbLimits::default())))
}

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 255, 255, 254);

/// The address of an endpoint.
pub(crate) fn address(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0000 + n)
}

/// A MAC that nobody assigned, behind an endpoint.
pub(crate) fn learned_mac(n: u32) -> Mac {
    let [_, b, c, d] = n.to_be_bytes();
    Mac::new([2, 1, 0, b, c, d])
}

/// A frame of `bytes` as Linux sends it, and its offload header: the sum left to the receiver, and more than one segment to be
/// cut there.
pub(crate) fn tcp_frame(pair: Pair, src_port: u16, dst_port: u16, bytes: usize) -> ([u8; HEADER_LEN], Vec<u8>) {
    let (from, to) = (address(pair.a), address(pair.b));
    let payload = vec![7; bytes - HEADERS];
    let tcp = TcpRepr {
        src_port,
        dst_port,
        control: TcpControl::Psh,
        seq_number: TcpSeqNumber(1),
        ack_number: Some(TcpSeqNumber(1)),
        window_len: 1000,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: Some(smoltcp::wire::TcpTimestampRepr::new(1, 1)),
        payload: &payload,
    };
    let ip = Ipv4Repr {
        src_addr: from,
        dst_addr: to,
        next_header: IpProtocol::Tcp,
        payload_len: tcp.buffer_len(),
        hop_limit: 64,
    };
    let mut frame = vec![0; bytes];
    let mac = |address| EthernetAddress(Mac::of_ipv4(address).octets());
    EthernetRepr { src_addr: mac(from), dst_addr: mac(to), ethertype: EthernetProtocol::Ipv4 }
        .emit(&mut EthernetFrame::new_unchecked(&mut frame));
    let sums = ChecksumCapabilities::default();
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut frame[14..]), &sums);
    let (from, to) = (IpAddress::Ipv4(from), IpAddress::Ipv4(to));
    tcp.emit(&mut TcpPacket::new_unchecked(&mut frame[34..]), &from, &to, &sums);

    let parsed = Frame::parse(&frame).expect("well-formed");
    let mut header = [0; HEADER_LEN];
    Offload::check(asked(bytes), &parsed, MTU).expect("as Linux makes it").write(&mut header);
    (header, frame)
}

/// What the sender's kernel asks for with a frame of that length.
pub(crate) fn asked(bytes: usize) -> OffloadHeader {
    let (gso_type, gso_size) = if bytes > MTU as usize + 14 { (1, MTU as u16 - 52) } else { (0, 0) };
    OffloadHeader { flags: 1, gso_type, hdr_len: 0, gso_size, csum_start: 34, csum_offset: 16 }
}
