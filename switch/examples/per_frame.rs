//! Forwards prepared frames, to count the instructions per frame: `per_frame CASE BYTES FRAMES`.
//!
//! Frames go from A to B on cables. Reading from a cable and writing to one copy the frame once each, as the kernel does with a TAP;
//! filling the cables and emptying them is outside of [`forwarding`], which alone is to be counted:
//!
//! ```text
//! valgrind --tool=callgrind --toggle-collect='*forwarding_on_cables*' per_frame full 1514 96
//! ```
//!
//! The cases, each more than the one before: `copy` reads and writes; `bare` does it in a worker that looks at nothing but
//! counts; `open` parses, checks the offload, and looks up the receiver; `guard` holds the sender to its addresses; `full`
//! also has icc off and a rule, by which the flow was opened. `tests/tests/instructions.rs` reads the figures.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::Arc;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr,
    TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};
use tapswitch::engine::{Forward, NetworkView, Nobody, Place, Snapshot, Verdict, Worker};
use tapswitch::forwarding::{
    Decision, FdbLimits, Instant, Limiter, Network, NetworkSpec, PortId, PortIndex, PortSpec, Rate, Rule, RulePort,
    Scratch, Tables,
};
use tapswitch::frame::offload::HEADER_LEN;
use tapswitch::frame::{Mac, Offload, OffloadHeader};
use tapswitch::port::{self, Cable, Plug, RxPort, TxPort};

const MTU: u32 = 1500;
/// Headers of Ethernet, IPv4 and TCP with the timestamp option that every Linux sends.
const HEADERS: usize = 14 + 20 + 32;
/// Longest Ethernet frame that one IPv4 packet fills.
const LONGEST: usize = 14 + 65_535;
/// Most frames that wait on a cable.
const MOST_FRAMES: usize = 1000;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let parsed = match args.as_slice() {
        [case, bytes, frames] => bytes.parse().ok().zip(frames.parse().ok()).map(|(b, f)| (case.as_str(), b, f)),
        _ => None,
    };
    let Some((case, bytes, frames)) = parsed else { return usage() };
    if !(HEADERS + 1..=LONGEST).contains(&bytes) || frames > MOST_FRAMES {
        return usage();
    }
    match case {
        "copy" => copy(bytes, frames),
        "bare" => worker(Wire, bytes, frames),
        "open" => worker(|tx| snapshot(tx, false, true), bytes, frames),
        "guard" => worker(|tx| snapshot(tx, true, true), bytes, frames),
        "full" => worker(|tx| snapshot(tx, true, false), bytes, frames),
        _ => return usage(),
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!(
        "usage: per_frame copy|bare|open|guard|full BYTES FRAMES ({HEADERS} < BYTES <= {LONGEST}, FRAMES <= {MOST_FRAMES})"
    );
    ExitCode::FAILURE
}

/// What is counted.
#[inline(never)]
fn forwarding_on_cables(mut work: impl FnMut()) {
    work();
}

/// A's and B's ends of two cables, and the switch's.
struct Ends {
    a: Plug,
    b: Plug,
    rx: Vec<RxPort>,
    tx: Vec<Arc<TxPort>>,
}

impl Ends {
    fn new() -> Self {
        let (a, at_a) = Cable::new();
        let (b, at_b) = Cable::new();
        let (rx, tx) = [at_a, at_b]
            .into_iter()
            .zip(1..)
            .map(|(plug, id)| port::open_cable(PortId(id), plug, HEADER_LEN, 1))
            .unzip();
        Ends { a, b, rx, tx }
    }

    /// Fills A's cable, has `work` forward it, and empties B's; the first time unmeasured, which makes all buffers.
    fn run(a: &Plug, b: &Plug, bytes: usize, frames: usize, mut work: impl FnMut()) {
        let (header, frame) = tcp_frame(bytes);
        let mut space = vec![0; HEADER_LEN + LONGEST];
        for measured in [false, true] {
            for _ in 0..frames {
                assert!(a.send(&[&header, &frame]), "room was made");
            }
            if measured {
                forwarding_on_cables(&mut work)
            } else {
                work()
            }
            for _ in 0..frames {
                assert_eq!(b.receive(&mut space), Some(HEADER_LEN + bytes), "every frame arrives");
            }
        }
    }
}

/// Reads and writes, and nothing else.
fn copy(bytes: usize, frames: usize) {
    let Ends { a, b, mut rx, tx } = Ends::new();
    let mut buffer = vec![0; HEADER_LEN + LONGEST];
    Ends::run(&a, &b, bytes, frames, || {
        while let Ok(len) = rx[0].read(&mut buffer) {
            tx[1].write(&buffer[..len]).expect("room was made");
        }
    });
}

fn worker<F: Forward<Local = Nobody>>(forward: impl FnOnce(Vec<Arc<TxPort>>) -> F, bytes: usize, frames: usize) {
    let now = Instant(1_000_000_000);
    let Ends { a, b, rx, tx } = Ends::new();
    let mut worker = Worker::by_hand(0, Arc::new(forward(tx)), Nobody);
    rx.into_iter().for_each(|rx| worker.take(rx, now));
    Ends::run(&a, &b, bytes, frames, || while black_box(worker.turn(now)) != 0 {});
}

/// What comes in at one end goes out at the other: as [`Forward`] of the benchmark's bare wire.
struct Wire(Vec<Arc<TxPort>>);

impl Forward for Wire {
    type Local = Nobody;

    fn place_of(&self, port: PortId) -> Option<Place> {
        Some(Place { network: 0, port: PortIndex(port.0 - 1) })
    }

    fn flood_rate(&self, _: u32) -> Rate {
        Rate { bytes_per_second: 0, burst: 0 }
    }

    fn forward(&self, from: Place, _: &mut Limiter, _: &mut [u8], _: Instant, _: &mut Scratch) -> Verdict {
        Verdict { decision: Decision::Unicast(PortIndex(1 - from.port.0)), offload: Offload::NONE }
    }

    fn egress(&self) -> impl Iterator<Item = &[Arc<TxPort>]> {
        std::iter::once(self.0.as_slice())
    }

    fn tx(&self, _: u32, port: PortIndex) -> &TxPort {
        &self.0[port.get()]
    }
}

fn snapshot(tx: Vec<Arc<TxPort>>, guard: bool, icc: bool) -> Snapshot {
    let ports = [1, 2].map(|n| PortSpec {
        id: PortId(n),
        mac: Mac::of_ipv4(address(n)),
        ipv4: Some(address(n)),
        ipv6: None,
        guard,
        learn: false,
        published: Vec::new(),
    });
    let spec = NetworkSpec {
        gateway_mac: Mac::of_ipv4(address(254)),
        gateway4: address(254),
        gateway6: None,
        host4: None,
        host6: None,
        uplink: Default::default(),
        subnet4: "10.0.0.0/24".parse().expect("a subnet"),
        subnet6: None,
        mtu: MTU,
        icc,
        rules: vec![Rule { from: PortId(1), to: PortId(2), port: Some(RulePort::Tcp(5201)) }],
        policy_generation: 1,
        flood_rate: Rate::of_copies(500, MTU),
        ports: ports.to_vec(),
    };
    let network = Arc::new(Network::new(spec, Arc::new(Tables::new(FdbLimits::default()))));
    Snapshot::new(vec![NetworkView { network, tx }], ())
}

fn address(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0000 + n)
}

/// A frame of `bytes` as Linux sends it: the sum left to the receiver, and more than one segment to be cut there.
fn tcp_frame(bytes: usize) -> ([u8; HEADER_LEN], Vec<u8>) {
    let (from, to) = (address(1), address(2));
    let payload = vec![7; bytes - HEADERS];
    let tcp = TcpRepr {
        src_port: 40_000,
        dst_port: 5201,
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

    let (gso_type, gso_size) = if bytes > MTU as usize + 14 { (1, MTU as u16 - 52) } else { (0, 0) };
    let asked = OffloadHeader { flags: 1, gso_type, hdr_len: 0, gso_size, csum_start: 34, csum_offset: 16 };
    let parsed = tapswitch::frame::Frame::parse(&frame).expect("well-formed");
    let mut header = [0; HEADER_LEN];
    Offload::check(asked, &parsed, MTU).expect("as Linux makes it").write(&mut header);
    (header, frame)
}
