use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::super::testing::*;
use super::*;
use crate::forwarding::{FdbLimits, Rate, RulePort, Uplink};
use crate::frame::testing::{self, *};

fn data(src: Mac, dst: Mac) -> Vec<u8> {
    raw(src, dst, 0x88b5, b"data")
}

#[test]
fn known_unicast_goes_to_the_port_that_the_mac_is_assigned_to() {
    let mut lan = Lan::new(spec());
    assert_eq!(lan.tcp(A, B, 1000, 80, SYN), Decision::Unicast(B));
    assert_eq!(lan.udp(B, C, 1000, 53), Decision::Unicast(C));
    assert_eq!(lan.send(A, &tcp6(A_MAC, B_MAC, A6, B6, 1000, 80, SYN, b"")), Decision::Unicast(B));
    assert_eq!(lan.send(C, &data(C_MAC, A_MAC)), Decision::Unicast(A), "any ethertype while icc is on");
}

#[test]
fn broadcast_and_multicast_flood_all_but_ingress() {
    let mut lan = Lan::new(spec());
    assert_eq!(lan.send(B, &data(B_MAC, Mac::BROADCAST)), Decision::Flood);
    assert_eq!(lan.recipients(), [A, C]);
    let group = Ipv4Addr::new(224, 0, 0, 251);
    let frame = udp4(A_MAC, Mac::new([1, 0, 0x5e, 0, 0, 0xfb]), A4, group, 5353, 5353, b"");
    assert_eq!(lan.send(A, &frame), Decision::Flood);
    assert_eq!(lan.recipients(), [B, C]);
}

#[test]
fn a_group_frame_of_a_lone_port_has_no_listener() {
    let mut spec = spec();
    spec.ports.truncate(1);
    assert_eq!(Lan::new(spec).send(A, &data(A_MAC, Mac::BROADCAST)), drop(DropReason::NoListener));
}

#[test]
fn a_frame_to_its_own_sender_is_dropped() {
    let mut lan = Lan::new(spec());
    assert_eq!(lan.tcp(A, A, 1, 2, SYN), drop(DropReason::SamePort));
}

#[test]
fn unknown_unicast_is_dropped_where_every_mac_is_assigned() {
    let mut lan = Lan::new(spec());
    assert_eq!(lan.send(A, &data(A_MAC, X_MAC)), drop(DropReason::UnknownUnicast));
}

#[test]
fn unknown_unicast_floods_to_the_ports_that_may_have_it_but_not_to_ingress() {
    let mut lan = Lan::new(nested(&[B, C]));
    assert_eq!(lan.send(A, &data(A_MAC, X_MAC)), Decision::Flood);
    assert_eq!(lan.recipients(), [B, C]);
    assert_eq!(lan.send(B, &data(B_MAC, X_MAC)), Decision::Flood);
    assert_eq!(lan.recipients(), [C]);
    let mut lan = Lan::new(nested(&[B]));
    assert_eq!(lan.send(B, &data(B_MAC, X_MAC)), drop(DropReason::UnknownUnicast));
}

#[test]
fn a_learned_mac_is_found_until_it_ages_out() {
    let mut lan = Lan::new(nested(&[B]));
    assert_eq!(lan.send(B, &data(X_MAC, A_MAC)), Decision::Unicast(A));
    assert_eq!(lan.send(A, &data(A_MAC, X_MAC)), Decision::Unicast(B));
    assert_eq!(lan.send(B, &data(B_MAC, X_MAC)), drop(DropReason::SamePort), "behind the same port");
    lan.wait(301);
    assert_eq!(lan.send(A, &data(A_MAC, X_MAC)), Decision::Flood);
}

#[test]
fn an_assigned_mac_is_never_learned_elsewhere() {
    let mut lan = Lan::new(nested(&[B]));
    lan.send(B, &data(A_MAC, C_MAC));
    assert_eq!(lan.send(C, &data(C_MAC, A_MAC)), Decision::Unicast(A));
    assert!(lan.network.tables().fdb.entries(lan.now).is_empty());
}

#[test]
fn a_guarded_port_teaches_nothing_and_neither_does_the_zero_mac() {
    let mut lan = Lan::new(nested(&[B]));
    lan.send(A, &data(X_MAC, C_MAC));
    lan.send(B, &data(Mac::new([0; 6]), C_MAC));
    assert!(lan.network.tables().fdb.entries(lan.now).is_empty());
}

#[test]
fn a_mac_learned_behind_a_port_that_is_gone_is_unknown() {
    let mut lan = Lan::new(nested(&[B, C]));
    lan.send(C, &data(X_MAC, A_MAC));
    let mut spec = nested(&[B, C]);
    spec.ports.pop();
    lan.publish(spec);
    assert_eq!(lan.send(A, &data(A_MAC, X_MAC)), Decision::Flood);
    assert_eq!(lan.recipients(), [B]);
}

#[test]
fn a_packet_longer_than_the_mtu_is_too_big() {
    let mut lan = Lan::new(spec());
    let udp = |payload: usize| udp4(A_MAC, B_MAC, A4, B4, 1, 2, &vec![0; payload]);
    assert_eq!(lan.send(A, &udp(1500 - 28)), Decision::Unicast(B));
    assert_eq!(lan.send(A, &udp(1500 - 27)), drop(DropReason::TooBig));
    let other = |len: usize| raw(A_MAC, B_MAC, 0x88b5, &vec![0; len]);
    assert_eq!(lan.send(A, &other(1504)), Decision::Unicast(B));
    assert_eq!(lan.send(A, &other(1505)), drop(DropReason::TooBig));
}

#[test]
fn padding_does_not_smuggle_more_than_the_mtu() {
    let mut lan = Lan::new(spec());
    let mut frame = udp4(A_MAC, B_MAC, A4, B4, 1, 2, b"");
    frame.resize(1518, 0xaa);
    assert_eq!(lan.send(A, &frame), Decision::Unicast(B));
    frame.resize(1519, 0xaa);
    assert_eq!(lan.send(A, &frame), drop(DropReason::TooBig));
}

#[test]
fn a_frame_that_the_kernel_will_cut_may_be_longer_than_the_mtu() {
    let mut lan = Lan::new(spec());
    let frame = gso(&tcp4(A_MAC, B_MAC, A4, B4, 1, 2, ACK, &[0; 60_000]), 1400);
    assert_eq!(lan.send_offloaded(A, &frame), Decision::Unicast(B));
}

#[test]
fn a_flood_is_charged_copies_times_bytes_to_its_sender_alone() {
    let mut spec = spec();
    let frame = data(A_MAC, Mac::BROADCAST);
    let cost = 2 * frame.len() as u64;
    spec.settings.flood_rate = Rate { bytes_per_second: cost, burst: 3 * cost };
    let mut lan = Lan::new(spec);
    for _ in 0..3 {
        assert_eq!(lan.send(A, &frame), Decision::Flood);
    }
    assert_eq!(lan.send(A, &frame), drop(DropReason::FloodLimit));
    assert_eq!(lan.send(B, &data(B_MAC, Mac::BROADCAST)), Decision::Flood, "another's budget is untouched");
    assert_eq!(lan.send(A, &data(A_MAC, B_MAC)), Decision::Unicast(B), "unicast is not charged");
    lan.wait(1);
    assert_eq!(lan.send(A, &frame), Decision::Flood);
    assert_eq!(lan.send(A, &frame), drop(DropReason::FloodLimit));
}

/// A second's budget is two copies of `frame`.
fn with_budget_for_two(mut spec: NetworkSpec, frame: &[u8]) -> Lan {
    let cost = 2 * frame.len() as u64;
    spec.settings.flood_rate = Rate { bytes_per_second: cost, burst: cost };
    Lan::new(spec)
}

#[test]
fn a_flood_beyond_the_budget_is_dropped_before_anybody_is_looked_for() {
    let frame = data(A_MAC, Mac::BROADCAST);
    for spec in [spec(), nested(&[B])] {
        let mut lan = with_budget_for_two(spec, &frame);
        assert_eq!(lan.send(A, &frame), Decision::Flood);
        assert_eq!(lan.send(A, &frame), drop(DropReason::FloodLimit));
        assert_eq!(lan.recipients(), []);
        let for_routers = udp4(A_MAC, Mac::BROADCAST, A4, Ipv4Addr::BROADCAST, 68, 67, b"discover");
        assert_eq!(lan.send(A, &for_routers), drop(DropReason::NoService));
        lan.wait(1);
        assert_eq!(lan.send(A, &frame), Decision::Flood);
        assert_eq!(lan.recipients(), [B, C]);
    }
}

#[test]
fn an_unknown_unicast_beyond_the_budget_is_dropped_before_anybody_is_looked_for() {
    let frame = data(A_MAC, X_MAC);
    let mut lan = with_budget_for_two(nested(&[A, B, C]), &frame);
    assert_eq!(lan.send(A, &frame), Decision::Flood);
    assert_eq!(lan.send(A, &frame), drop(DropReason::FloodLimit));
    assert_eq!(lan.recipients(), []);
    lan.wait(1);
    assert_eq!(lan.send(A, &frame), Decision::Flood);
    assert_eq!(lan.recipients(), [B, C]);
}

#[test]
fn an_unknown_unicast_for_nobody_counts_as_that_beyond_the_budget_too() {
    let mut spec = nested(&[A]);
    spec.settings.flood_rate = Rate { bytes_per_second: 0, burst: 0 };
    assert_eq!(Lan::new(spec).send(A, &data(A_MAC, X_MAC)), drop(DropReason::UnknownUnicast));
}

#[test]
fn without_icc_a_forbidden_flood_counts_as_forbidden_beyond_the_budget_too() {
    let mut spec = isolated(&[]);
    spec.settings.flood_rate = Rate { bytes_per_second: 0, burst: 0 };
    assert_eq!(Lan::new(spec).send(A, &data(A_MAC, Mac::BROADCAST)), drop(DropReason::Icc));
}

#[test]
fn a_flood_to_be_cut_is_charged_the_headers_of_each_segment() {
    let group = Ipv4Addr::new(239, 1, 1, 1);
    let frame = gso(&udp4(A_MAC, Mac::new([1, 0, 0x5e, 1, 1, 1]), A4, group, 1, 2, &[0; 1000]), 10);
    let plain = frame.0.len() as u64;
    let mut spec = spec();
    spec.settings.flood_rate = Rate { bytes_per_second: 0, burst: 2 * (plain + 99 * 42) + 1 };
    let mut lan = Lan::new(spec);
    assert_eq!(lan.send_offloaded(A, &frame), Decision::Flood);
    assert_eq!(lan.send(A, &data(A_MAC, Mac::BROADCAST)), Decision::Flood, "one byte was left, and overdrawn");
    assert_eq!(lan.send(A, &data(A_MAC, Mac::BROADCAST)), drop(DropReason::FloodLimit));
}

#[test]
fn a_port_that_is_not_in_the_publication_is_detached() {
    let lan = Lan::new(spec());
    let bytes = data(A_MAC, B_MAC);
    let mut scratch = Scratch::with_ports(3);
    let mut limiter = Limiter::new(lan.network.settings().flood_rate, lan.now);
    let frame = Frame::parse(&bytes).unwrap();
    let decision = lan.network.ingress(PortIndex(3), &mut limiter, &frame, &Offload::NONE, lan.now, &mut scratch);
    assert_eq!(decision, drop(DropReason::Detached));
}

#[test]
#[should_panic(expected = "a MAC is assigned once")]
fn assigning_a_mac_twice_panics() {
    let mut spec = spec();
    spec.ports[1].mac = A_MAC;
    Lan::new(spec);
}

#[test]
fn forgetting_a_port_frees_its_link_local_addresses_and_learned_macs() {
    let mut lan = Lan::new(nested(&[B]));
    lan.send(B, &data(X_MAC, A_MAC));
    let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 7);
    assert_eq!(lan.send(A, &udp6(A_MAC, C_MAC, link_local, C6, 1, 2, b"")), Decision::Unicast(C));
    assert_eq!(lan.send(C, &udp6(C_MAC, A_MAC, link_local, A6, 1, 2, b"")), drop(DropReason::SpoofedIpv6));
    lan.network.tables().forget_port(id(A));
    lan.network.tables().forget_port(id(B));
    assert_eq!(lan.send(C, &udp6(C_MAC, A_MAC, link_local, A6, 1, 2, b"")), Decision::Unicast(A));
    assert!(lan.network.tables().fdb.entries(lan.now).is_empty());
}

/// Frames of every kind, from and to anybody; then bent.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let macs = prop::sample::select(vec![A_MAC, B_MAC, C_MAC, X_MAC, GATEWAY_MAC, Mac::BROADCAST, multicast_mac(A6)]);
    let v4 = prop::sample::select(vec![A4, B4, C4, X4, GATEWAY4, FAR4, Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST]);
    let v6 = prop::sample::select(vec![A6, B6, C6, X6, GATEWAY6, ALL_NODES, Ipv6Addr::UNSPECIFIED]);
    let ports = prop::sample::select(vec![1_u16, 53, 67, 80, 547]);
    (0_u8..11, macs.clone(), macs, (v4.clone(), v4), (v6.clone(), v6), (ports.clone(), ports), any::<u8>())
        .prop_flat_map(|(kind, src, dst, (from4, to4), (from6, to6), (from, to), n)| {
            let bytes = match kind {
                0 => arp(src, dst, u16::from(n % 3), (src, from4), (dst, to4)),
                1 => tcp4(src, dst, from4, to4, from, to, n, b"data"),
                2 => udp4(src, dst, from4, to4, from, to, b"data"),
                3 => tcp6(src, dst, from6, to6, from, to, n, b"data"),
                4 => udp6(src, dst, from6, to6, from, to, b"data"),
                5 => icmp_echo4(src, dst, from4, to4, from, b"ping"),
                6 => icmp_echo6(src, dst, from6, to6, from, b"ping"),
                7 => ns_to(src, dst, from6, to6, from6),
                8 => na(src, dst, from6, to6, from6, n & 1 == 1),
                9 => ip4_at(
                    src,
                    dst,
                    from4,
                    to4,
                    17,
                    u16::from(n) << 7,
                    &testing::udp(from4.into(), to4.into(), from, to, b"data"),
                ),
                _ => raw(src, dst, 0x88b5, &[n]),
            };
            let bend = (any::<prop::sample::Index>(), any::<u8>(), 0_u8..3);
            bend.prop_map(move |(at, value, bent)| {
                let mut bytes = bytes.clone();
                if bent == 0 {
                    let at = at.index(bytes.len());
                    bytes[at] = value;
                }
                bytes
            })
        })
}

/// What the guard promises, said another way: by what a delivered frame holds.
fn speaks_for_itself(from: PortIndex, bytes: &[u8]) -> bool {
    let frame = Frame::parse(bytes).unwrap();
    let (mac, ip4, ip6) = (mac_of(from), ip4_of(from), ip6_of(from));
    let is_local = |v6: Ipv6Addr| v6.is_unicast_link_local();
    let is_source = match &frame.payload {
        Payload::Arp(arp) => arp.sender_mac == mac && (arp.sender_ip == ip4 || arp.sender_ip.is_unspecified()),
        Payload::Ip(packet) => match packet.src {
            std::net::IpAddr::V4(src) => src == ip4 || (src.is_unspecified() && packet.dst == Ipv4Addr::BROADCAST),
            std::net::IpAddr::V6(src) => src == ip6 || is_local(src) || src.is_unspecified(),
        },
        Payload::Vlan => false,
        Payload::Other => true,
    };
    frame.src == mac && !frame.dst.is_reserved() && is_source
}

proptest! {
    /// The first law of conservation, invariant 1 (checked by [`Lan::send`]), and nothing to whom it is forbidden.
    #[test]
    fn every_frame_gets_one_decision_and_reaches_no_forbidden_port(
        frames in prop::collection::vec((0_u32..3, any_frame()), 1..40),
        icc: bool, unguarded in 0_u32..4, rule: bool,
    ) {
        let mut spec = if unguarded < 3 { nested(&[PortIndex(unguarded)]) } else { spec() };
        spec.settings.icc = icc;
        if rule {
            spec.rules = vec![Rule { from: id(A), to: id(B), port: None }];
        }
        let mut lan = Lan::new(spec);
        for (from, bytes) in frames {
            let from = PortIndex(from);
            if Frame::parse(&bytes).is_err() {
                continue;
            }
            let reached = match lan.send(from, &bytes) {
                Decision::Unicast(to) => vec![to],
                Decision::Flood => lan.recipients().to_vec(),
                Decision::Answer | Decision::Local | Decision::Drop(_) => vec![],
            };
            if !reached.is_empty() && lan.network.port(from).unwrap().guard {
                prop_assert!(speaks_for_itself(from, &bytes), "{from:?} forged {bytes:02x?}");
            }
            if !icc {
                let permitted = |to| rule && from != C && to != C;
                prop_assert!(reached.iter().all(|&to| permitted(to)), "{from:?} reached {reached:?}");
            }
        }
    }
}

#[test]
fn tables_are_made_only_where_they_are_needed() {
    let tables = Arc::new(Tables::new(FdbLimits::default()));
    Network::new(spec(), tables.clone());
    tables.fdb.learn(X_MAC, id(A), Instant(0));
    assert!(tables.fdb.entries(Instant(0)).is_empty(), "no port learns");
    Network::new(nested(&[A]), tables.clone());
    tables.fdb.learn(X_MAC, id(A), Instant(0));
    assert_eq!(tables.fdb.entries(Instant(0)).len(), 1);
}

/// A change of a network, of ports 0 to 7.
#[derive(Clone, Copy, Debug)]
enum Change {
    Attach { n: u8, guard: bool },
    Detach { n: u8 },
    Allow { from: u8, to: u8, port: Option<RulePort> },
}

fn any_change() -> impl Strategy<Value = Change> {
    let rule = prop::sample::select(vec![None, Some(RulePort::Tcp(1)), Some(RulePort::Udp(1))]);
    prop_oneof![
        3 => (0_u8..8, any::<bool>()).prop_map(|(n, guard)| Change::Attach { n, guard }),
        2 => (0_u8..8).prop_map(|n| Change::Detach { n }),
        3 => (0_u8..8, 0_u8..8, rule).prop_map(|(from, to, port)| Change::Allow { from, to, port }),
    ]
}

/// All that a network says of ports, by their ids, which are 1000 apart of their numbers and never the same.
fn said(network: &Network, ids: std::ops::Range<u32>) -> String {
    use std::fmt::Write;
    let mut said = String::new();
    let id_at = |at: PortIndex| network.port(at).map(|port| port.id.0);
    let id_of = |holder: Option<Holder>| match holder {
        Some(Holder::Port(at)) => id_at(at),
        Some(Holder::Gateway) => Some(0),
        None => None,
    };
    let sorted = |places: &mut dyn Iterator<Item = PortIndex>| {
        let mut ids: Vec<_> = places.map(id_at).collect();
        ids.sort_unstable();
        ids
    };
    let all = sorted(&mut network.ports().map(|(at, _)| at));
    assert_eq!(all.len(), network.port_count());
    assert!(network.opaque.is_sorted_by(|a, b| a < b));
    write!(said, "{all:?} opaque {:?} host {:?}", sorted(&mut network.opaque.iter().copied()), network.host.map(id_at))
        .unwrap();
    for n in 0..8 {
        let macs = network.macs.lookup(testing::mac(10 + n).to_u64());
        let v4 = network.leases.holder4(Ipv4Addr::new(10, 0, 0, 10 + n));
        let v6 = network.leases.holder6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 16 + u16::from(n)));
        write!(said, "\n{n}: {:?} {:?} {:?}", id_of(macs), id_of(v4), id_of(v6)).unwrap();
    }
    for from in ids.clone().map(PortId) {
        let port = network.index_of(from).and_then(|at| network.port(at));
        write!(said, "\n{from:?} {port:?} {:?}", network.policy.targets(from).collect::<Vec<_>>()).unwrap();
        for to in ids.clone().map(PortId) {
            let opens =
                [None, Some(RulePort::Tcp(1)), Some(RulePort::Udp(1))].map(|one| network.policy.opens(from, to, one));
            write!(said, " {}{opens:?}", network.policy.relates(from, to)).unwrap();
        }
    }
    said
}

proptest! {
    #[test]
    fn a_changed_network_says_what_one_made_anew_says(changes in prop::collection::vec(any_change(), 1..60), host: bool) {
        let tables = Arc::new(Tables::new(FdbLimits::default()));
        let mut model = NetworkSpec { ports: Vec::new(), ..isolated(&[]) };
        if host {
            model.settings.uplink = Uplink::Host(PortId(1));
        }
        let mut network = Network::new(model.clone(), tables.clone());
        let mut versions = Vec::new();
        // A number's id: another each time that it comes.
        let (mut ids, mut next) = ([0; 8], 1);
        for change in changes {
            match change {
                Change::Attach { n, guard } => {
                    let at = usize::from(n);
                    if ids[at] == 0 {
                        ids[at] = next;
                        next += 1;
                    }
                    let port = PortSpec {
                        id: PortId(ids[at]),
                        mac: testing::mac(10 + n),
                        ipv4: Some(Ipv4Addr::new(10, 0, 0, 10 + n)),
                        ipv6: (n % 2 == 0).then(|| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 16 + u16::from(n))),
                        guard,
                        learn: !guard,
                        published: [RulePort::Tcp(n.into())].into(),
                    };
                    let before = network.index_of(port.id);
                    model.ports.retain(|other| other.id != port.id);
                    model.ports.push(port.clone());
                    let place = network.attach(port);
                    prop_assert!(before.is_none_or(|before| before == place), "it keeps its place");
                }
                Change::Detach { n } => {
                    let id = PortId(std::mem::take(&mut ids[usize::from(n)]));
                    model.ports.retain(|port| port.id != id);
                    model.rules.retain(|rule| rule.from != id && rule.to != id);
                    network.detach(id);
                }
                Change::Allow { from, to, port } => {
                    let [from, to] = [from, to].map(|n| PortId(ids[usize::from(n)]));
                    if from != to && from.0 != 0 && to.0 != 0 {
                        model.rules.push(Rule { from, to, port });
                        network.allow(Rule { from, to, port });
                    }
                }
            }
            versions.push((model.clone(), network.clone()));
        }
        for (model, network) in versions {
            let most = model.ports.len();
            let anew = Network::new(model, tables.clone());
            prop_assert!(network.ports().all(|(at, _)| at.get() < 8), "places are given again: {most}");
            prop_assert_eq!(said(&network, 1..next), said(&anew, 1..next));
        }
    }
}
