//! Time of each part of a frame's way, and of it all among more and more endpoints: `cargo bench -p tapswitch`.
//!
//! Nothing here fails: machines differ, and one machine from hour to hour. What must not become dearer unnoticed is counted in
//! instructions by `tests/tests/instructions.rs`.

#[path = "../examples/per_frame/lan.rs"]
mod lan;

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use lan::{Checks, NOW, OPEN, Pair, asked, learned_mac, network, tcp_frame};
use tapswitch::forwarding::{Decision, FdbLimits, Limiter, Network, PortId, PortIndex, Scratch, Tables};
use tapswitch::frame::offload::HEADER_LEN;
use tapswitch::frame::{Frame, Offload, OffloadHeader};
use tapswitch_ipam::{Leases, Owner, Subnet, Wanted};

/// From a few to far more than a daemon serves.
const ENDPOINTS: [u32; 4] = [100, 1_000, 10_000, 100_000];
/// An ordinary full segment, and the longest that TCP gives to a device with offload.
const SIZES: [usize; 2] = [1514, 65_226];

const GUARDED: Checks = Checks { guard: true, icc: true };
const CLOSED: Checks = Checks { guard: true, icc: false };
const LEARNING: Checks = Checks { guard: false, icc: true };

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    for bytes in SIZES {
        let (_, frame) = tcp_frame(Pair::among(2), 40_000, OPEN, bytes);
        group.bench_function(BenchmarkId::new("tcp", bytes), |b| b.iter(|| Frame::parse(black_box(&frame)).is_ok()));
    }
    let arp = arp(1, 2);
    group.bench_function("arp", |b| b.iter(|| Frame::parse(black_box(&arp)).is_ok()));
}

/// Checking what the sender's kernel asked for, and writing what the receiver's is asked.
fn offload_header(c: &mut Criterion) {
    let mut group = c.benchmark_group("offload_header");
    for bytes in SIZES {
        let (_, frame) = tcp_frame(Pair::among(2), 40_000, OPEN, bytes);
        let parsed = Frame::parse(&frame).expect("well-formed");
        let header: OffloadHeader = asked(bytes);
        group.bench_function(BenchmarkId::new("rebuild", bytes), |b| {
            let mut out = [0; HEADER_LEN];
            b.iter(|| {
                let offload = Offload::check(black_box(header), &parsed, lan::MTU).expect("as Linux makes it");
                offload.write(&mut out);
                out
            })
        });
    }
}

fn fdb(c: &mut Criterion) {
    let mut group = c.benchmark_group("fdb");
    let full = FdbLimits::default().entries as u32;
    for entries in [100, full] {
        let network = learning(entries, entries as usize);
        let fdb = &network.tables().fdb;
        let (known, unknown) = (learned_mac(entries / 2), learned_mac(entries + 1));
        group.bench_function(BenchmarkId::new("hit", entries), |b| b.iter(|| fdb.lookup(black_box(known), NOW)));
        group.bench_function(BenchmarkId::new("miss", entries), |b| b.iter(|| fdb.lookup(black_box(unknown), NOW)));
        group.bench_function(BenchmarkId::new("refresh", entries), |b| {
            b.iter(|| fdb.learn(black_box(known), PortId(entries / 2), NOW))
        });
    }
    // Every new MAC evicts one: what a flood of them costs.
    let network = learning(full, full as usize);
    let mut next = full;
    group.bench_function(BenchmarkId::new("new in a full table", full), |b| {
        b.iter(|| {
            next = next.wrapping_add(1);
            network.tables().fdb.learn(learned_mac(next), PortId(1), NOW)
        })
    });
}

/// A network whose table has one MAC behind each endpoint.
fn learning(endpoints: u32, entries: usize) -> Network {
    let tables = Arc::new(Tables::new(FdbLimits { entries, ..FdbLimits::default() }));
    let network = Network::new(lan::spec(endpoints, LEARNING), tables);
    (1..=endpoints).for_each(|n| network.tables().fdb.learn(learned_mac(n), PortId(n), NOW));
    network
}

/// Decides about one frame of the pair in the middle, again and again.
struct Desk {
    network: Network,
    pair: Pair,
    limiter: Limiter,
    scratch: Scratch,
}

impl Desk {
    fn new(network: Network) -> Self {
        let endpoints = network.port_count();
        let pair = Pair::among(endpoints as u32);
        let limiter = Limiter::new(network.settings().flood_rate, NOW);
        Desk { pair, limiter, scratch: Scratch::with_ports(endpoints), network }
    }

    fn decide(&mut self, bytes: &[u8]) -> Decision {
        let frame = Frame::parse(bytes).expect("well-formed");
        let Desk { network, pair, limiter, scratch } = self;
        let from = PortIndex(pair.a - 1);
        network.ingress(from, limiter, black_box(&frame), &Offload::NONE, NOW, scratch)
    }
}

fn policy(c: &mut Criterion) {
    let mut group = c.benchmark_group("policy");
    let mut desk = Desk::new(network(100, CLOSED));
    let to = Decision::Unicast(PortIndex(desk.pair.b - 1));
    let (_, live) = tcp_frame(desk.pair, 40_000, OPEN, 1514);
    assert_eq!(desk.decide(&live), to);
    group.bench_function("live flow", |b| b.iter(|| desk.decide(&live)));

    let (_, refused) = tcp_frame(desk.pair, 40_000, OPEN + 1, 1514);
    assert_ne!(desk.decide(&refused), to);
    group.bench_function("refused", |b| b.iter(|| desk.decide(&refused)));

    // Many more than the table keeps: each opens a flow, and in the end takes the place of another.
    let opening: Vec<_> = (1024..u16::MAX).map(|port| tcp_frame(desk.pair, port, OPEN, 100).1).collect();
    let mut each = opening.iter().cycle();
    group.bench_function("new flow", |b| b.iter(|| desk.decide(each.next().expect("it begins again"))));

    let mut desk = Desk::new(network(100, GUARDED));
    assert_eq!(desk.decide(&live), to);
    group.bench_function("icc on", |b| b.iter(|| desk.decide(&live)));
}

/// The whole decision, by number of endpoints.
fn decide(c: &mut Criterion) {
    let mut group = c.benchmark_group("decide");
    for endpoints in ENDPOINTS {
        let pair = Pair::among(endpoints);
        let (_, frame) = tcp_frame(pair, 40_000, OPEN, 1514);
        for (name, checks) in [("guard", GUARDED), ("guard and icc off", CLOSED)] {
            let mut desk = Desk::new(network(endpoints, checks));
            assert_eq!(desk.decide(&frame), Decision::Unicast(PortIndex(pair.b - 1)));
            group.bench_function(BenchmarkId::new(name, endpoints), |b| b.iter(|| desk.decide(&frame)));
        }
        let mut desk = Desk::new(learning(endpoints, endpoints as usize));
        let mut unassigned = frame.clone();
        unassigned[..6].copy_from_slice(&learned_mac(pair.b).octets());
        unassigned[6..12].copy_from_slice(&learned_mac(pair.a).octets());
        assert_eq!(desk.decide(&unassigned), Decision::Unicast(PortIndex(pair.b - 1)));
        group.bench_function(BenchmarkId::new("learned", endpoints), |b| b.iter(|| desk.decide(&unassigned)));

        let mut desk = Desk::new(network(endpoints, GUARDED));
        let request = arp(pair.a, pair.b);
        assert_eq!(desk.decide(&request), Decision::Answer);
        group.bench_function(BenchmarkId::new("arp", endpoints), |b| b.iter(|| desk.decide(&request)));
    }
}

/// What one attachment costs beside the kernel's part: what the workers go by is made anew, and an address is leased.
fn attach(c: &mut Criterion) {
    let mut group = c.benchmark_group("attach");
    for endpoints in ENDPOINTS {
        let tables = Arc::new(Tables::new(FdbLimits::default()));
        let spec = lan::spec(endpoints, CLOSED);
        group.bench_function(BenchmarkId::new("publish", endpoints), |b| {
            b.iter_batched(|| spec.clone(), |spec| Network::new(spec, tables.clone()), BatchSize::LargeInput)
        });

        let subnet = Subnet::new("10.0.0.0/8".parse().expect("a subnet"), Some(Ipv4Addr::new(10, 0, 0, 1)), None);
        let mut leases = Leases::new(subnet.expect("a subnet with a gateway"), None);
        for n in 0..endpoints {
            leases.request(&owner(n), Wanted::default(), Duration::ZERO).expect("a /8 has room");
        }
        let one_more = owner(endpoints);
        let mut hour = 0;
        group.bench_function(BenchmarkId::new("lease and release", endpoints), |b| {
            b.iter(|| {
                // What is released cools for a minute: an hour later it is free again.
                hour += 1;
                let now = Duration::from_secs(3600 * hour);
                leases.request(&one_more, Wanted::default(), now).expect("a /8 has room");
                leases.release(&one_more, now)
            })
        });
    }
}

fn owner(n: u32) -> Owner {
    Owner::new(format!("c{n}"))
}

/// Who has the address of `target`?
fn arp(from: u32, target: u32) -> Vec<u8> {
    let source = tapswitch::frame::Mac::of_ipv4(lan::address(from)).octets();
    let fixed = [8, 6, 0, 1, 8, 0, 6, 4, 0, 1];
    let (sender, target) = (lan::address(from).octets(), lan::address(target).octets());
    [&[0xff; 6][..], &source, &fixed, &source, &sender, &[0; 6], &target].concat()
}

criterion_group! {
    name = benches;
    // Short: what is looked for is a factor, and the whole shall take minutes.
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = parse, offload_header, fdb, policy, decide, attach
}
criterion_main!(benches);
