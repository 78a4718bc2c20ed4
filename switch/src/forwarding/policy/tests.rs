use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::super::testing::*;
use super::super::{Decision, PortIndex};
use super::*;
use crate::frame::Mac;
use crate::frame::testing::*;

const DB: Option<RulePort> = Some(RulePort::Tcp(5432));
const DNS: Option<RulePort> = Some(RulePort::Udp(53));
const PING: Option<RulePort> = Some(RulePort::Icmp);
const ICC: Decision = drop(DropReason::Icc);

fn lan(rules: &[(PortIndex, PortIndex, Option<RulePort>)]) -> Lan {
    Lan::new(isolated(rules))
}

#[test]
fn without_rules_no_frame_of_any_ethertype_passes() {
    let mut lan = lan(&[]);
    for dst in [B_MAC, Mac::BROADCAST] {
        for frame in [
            tcp4(A_MAC, dst, A4, B4, 1, 5432, SYN, b""),
            tcp6(A_MAC, dst, A6, B6, 1, 5432, SYN, b""),
            udp4(A_MAC, dst, A4, B4, 1, 53, b""),
            icmp_echo4(A_MAC, dst, A4, B4, 1, b""),
            icmp_echo6(A_MAC, dst, A6, B6, 1, b""),
            arp(A_MAC, dst, 2, (A_MAC, A4), (B_MAC, B4)),
            na(A_MAC, dst, A6, B6, A6, false),
            raw(A_MAC, dst, 0x88b5, b"raw"),
            raw(A_MAC, dst, 0x0004, b"llc"),
            ip4(A_MAC, dst, A4, B4, 132, b"sctp"),
        ] {
            assert_eq!(lan.send(A, &frame), ICC, "{frame:02x?}");
        }
        let tagged = raw(A_MAC, dst, 0x8100, &[0, 1, 8, 0]);
        assert_eq!(lan.send(A, &tagged), drop(DropReason::Vlan));
    }
}

#[test]
fn a_rule_opens_its_protocol_and_port_in_its_direction_only() {
    let mut lan = lan(&[(A, B, DB)]);
    assert_eq!(lan.tcp(A, B, 4000, 5432, SYN), Decision::Unicast(B));
    assert_eq!(lan.tcp(A, B, 4000, 5433, SYN), ICC, "another port");
    assert_eq!(lan.udp(A, B, 4000, 5432), ICC, "another protocol");
    assert_eq!(lan.tcp(B, A, 4000, 5432, SYN), ICC, "the other direction");
    assert_eq!(lan.tcp(A, C, 4000, 5432, SYN), ICC, "another container");
    assert_eq!(lan.tcp(C, B, 4000, 5432, SYN), ICC, "from another container");
    assert_eq!(lan.send(A, &raw(A_MAC, B_MAC, 0x88b5, b"")), ICC, "not IP");
}

#[test]
fn a_rule_opens_ipv6_as_well() {
    let mut lan = lan(&[(A, B, DB)]);
    assert_eq!(lan.send(A, &tcp6(A_MAC, B_MAC, A6, B6, 4000, 5432, SYN, b"")), Decision::Unicast(B));
    assert_eq!(lan.send(B, &tcp6(B_MAC, A_MAC, B6, A6, 5432, 4000, SYN | ACK, b"")), Decision::Unicast(A));
    assert_eq!(lan.send(B, &tcp6(B_MAC, A_MAC, B6, A6, 5432, 4001, SYN | ACK, b"")), ICC);
}

#[test]
fn replies_of_a_flow_pass_and_nothing_that_only_looks_like_one() {
    let mut lan = lan(&[(A, B, DB)]);
    assert_eq!(lan.tcp(B, A, 5432, 4000, SYN | ACK), ICC, "before the flow");
    lan.tcp(A, B, 4000, 5432, SYN);
    assert_eq!(lan.tcp(B, A, 5432, 4000, SYN | ACK), Decision::Unicast(A));
    assert_eq!(lan.tcp(B, A, 5432, 4001, ACK), ICC, "another port of A");
    assert_eq!(lan.tcp(B, A, 5433, 4000, ACK), ICC, "another port of B");
    assert_eq!(lan.udp(B, A, 5432, 4000), ICC, "another protocol");
    assert_eq!(lan.tcp(C, A, 5432, 4000, ACK), ICC, "another container");
}

#[test]
fn a_flow_is_picked_up_from_any_forward_packet() {
    let mut lan = lan(&[(A, B, DB)]);
    assert_eq!(lan.tcp(A, B, 4000, 5432, ACK), Decision::Unicast(B));
    assert_eq!(lan.tcp(B, A, 5432, 4000, ACK), Decision::Unicast(A));
}

#[test]
fn a_rule_without_a_port_opens_every_ip_packet_but_no_neighbour_discovery() {
    let mut lan = lan(&[(A, B, None)]);
    for frame in [
        tcp4(A_MAC, B_MAC, A4, B4, 1, 2, SYN, b""),
        udp6(A_MAC, B_MAC, A6, B6, 1, 2, b""),
        icmp_echo4(A_MAC, B_MAC, A4, B4, 1, b""),
        ip4(A_MAC, B_MAC, A4, B4, 132, b"sctp"),
        icmp4(A_MAC, B_MAC, A4, B4, 13, 0, [0; 4], &[0; 12]),
        ip4_at(A_MAC, B_MAC, A4, B4, 17, 100, &[0; 8]),
    ] {
        assert_eq!(lan.send(A, &frame), Decision::Unicast(B), "{frame:02x?}");
    }
    assert_eq!(lan.send(A, &na(A_MAC, B_MAC, A6, B6, A6, true)), ICC);
    assert_eq!(lan.send(A, &raw(A_MAC, B_MAC, 0x88b5, b"")), ICC);
    assert_eq!(lan.send(B, &ip4(B_MAC, A_MAC, B4, A4, 132, b"sctp")), Decision::Unicast(A), "its reply");
    assert_eq!(lan.send(B, &ip4(B_MAC, A_MAC, B4, A4, 47, b"gre")), ICC, "no reply");
}

#[test]
fn an_echo_rule_opens_requests_and_their_replies() {
    let mut lan = lan(&[(A, B, PING)]);
    assert_eq!(lan.send(A, &icmp_echo4(A_MAC, B_MAC, A4, B4, 7, b"")), Decision::Unicast(B));
    let reply = |id| icmp4(B_MAC, A_MAC, B4, A4, 0, 0, [0, id, 0, 1], b"");
    assert_eq!(lan.send(B, &reply(7)), Decision::Unicast(A));
    assert_eq!(lan.send(B, &reply(8)), ICC, "another identifier");
    assert_eq!(lan.send(B, &icmp_echo4(B_MAC, A_MAC, B4, A4, 7, b"")), ICC, "a request is no reply");
    assert_eq!(lan.send(A, &icmp4(A_MAC, B_MAC, A4, B4, 13, 0, [0, 7, 0, 1], &[0; 12])), ICC, "not an echo");
    assert_eq!(lan.send(A, &icmp4(A_MAC, B_MAC, A4, B4, 0, 0, [0, 7, 0, 1], b"")), ICC, "a reply to nothing");
    assert_eq!(lan.tcp(A, B, 1, 2, SYN), ICC);
    assert_eq!(lan.send(A, &icmp_echo6(A_MAC, B_MAC, A6, B6, 0, b"")), Decision::Unicast(B), "identifier 0");
    assert_eq!(lan.send(B, &icmp6(B_MAC, A_MAC, B6, A6, 129, 0, [0, 0, 0, 1], b"")), Decision::Unicast(A));
}

#[test]
fn an_icmp_error_that_quotes_a_live_flow_passes_from_either_end() {
    let mut lan = lan(&[(A, B, DNS)]);
    let query = udp4(A_MAC, B_MAC, A4, B4, 4000, 53, b"query");
    let answer = udp4(B_MAC, A_MAC, B4, A4, 53, 4000, b"answer");
    let from_b = |quoted: &[u8]| icmp_error4(B_MAC, A_MAC, B4, A4, 3, 3, quoted);
    let from_a = icmp_error4(A_MAC, B_MAC, A4, B4, 3, 3, &answer);
    assert_eq!(lan.send(B, &from_b(&query)), ICC, "no flow yet");
    lan.send(A, &query);
    assert_eq!(lan.send(B, &from_b(&query)), Decision::Unicast(A));
    assert_eq!(lan.send(A, &from_a), Decision::Unicast(B));
    let other = udp4(A_MAC, B_MAC, A4, B4, 4001, 53, b"query");
    assert_eq!(lan.send(B, &from_b(&other)), ICC, "another flow");
    assert_eq!(lan.send(B, &from_b(&answer)), ICC, "a packet that B sent itself");
    let strange = udp4(A_MAC, C_MAC, A4, C4, 4000, 53, b"query");
    assert_eq!(lan.send(B, &from_b(&strange)), ICC, "a packet to somebody else");
}

#[test]
fn an_icmp_error_about_an_echo_passes() {
    let mut lan = lan(&[(A, B, PING)]);
    let ping = icmp_echo6(A_MAC, B_MAC, A6, B6, 9, b"");
    lan.send(A, &ping);
    assert_eq!(lan.send(B, &icmp_error6(B_MAC, A_MAC, B6, A6, 1, 4, &ping)), Decision::Unicast(A));
    let other = icmp_echo6(A_MAC, B_MAC, A6, B6, 10, b"");
    assert_eq!(lan.send(B, &icmp_error6(B_MAC, A_MAC, B6, A6, 1, 4, &other)), ICC);
}

#[test]
fn an_icmp_error_keeps_no_flow_alive() {
    let mut lan = lan(&[(A, B, DNS)]);
    let query = udp4(A_MAC, B_MAC, A4, B4, 4000, 53, b"query");
    lan.send(A, &query);
    let error = icmp_error4(B_MAC, A_MAC, B4, A4, 3, 3, &query);
    lan.wait(299);
    assert_eq!(lan.send(B, &error), Decision::Unicast(A));
    lan.wait(1);
    assert_eq!(lan.send(B, &error), ICC);
}

#[test]
fn denying_takes_effect_on_live_flows_at_once_in_both_directions() {
    let mut lan = lan(&[(A, B, DB), (A, B, DNS)]);
    lan.tcp(A, B, 4000, 5432, SYN);
    lan.udp(A, B, 4000, 53);
    lan.publish_rules(&[(A, B, DNS)]);
    let quoted = tcp4(A_MAC, B_MAC, A4, B4, 4000, 5432, ACK, b"data");
    assert_eq!(lan.send(B, &icmp_error4(B_MAC, A_MAC, B4, A4, 3, 3, &quoted)), ICC);
    assert_eq!(lan.tcp(B, A, 5432, 4000, ACK), ICC);
    assert_eq!(lan.tcp(A, B, 4000, 5432, ACK), ICC);
    assert_eq!(lan.udp(B, A, 53, 4000), Decision::Unicast(A), "what is still allowed goes on");
    lan.publish_rules(&[(A, B, DB)]);
    assert_eq!(lan.tcp(B, A, 5432, 4000, ACK), ICC, "the flow is gone, not asleep");
    assert_eq!(lan.tcp(A, B, 4000, 5432, ACK), Decision::Unicast(B), "its opener may take it up again");
    assert_eq!(lan.tcp(B, A, 5432, 4000, ACK), Decision::Unicast(A));
}

#[test]
fn a_flow_that_both_ends_may_open_outlives_the_rule_of_one() {
    let mut lan = lan(&[(A, B, None), (B, A, None)]);
    lan.udp(A, B, 1, 2);
    lan.publish_rules(&[(B, A, None)]);
    assert_eq!(lan.udp(B, A, 2, 1), Decision::Unicast(A), "opened anew by B");
    assert_eq!(lan.udp(A, B, 1, 2), Decision::Unicast(B), "its reply");
    assert_eq!(lan.udp(A, B, 1, 3), ICC);
}

#[test]
fn switching_icc_on_and_off_takes_effect_at_once() {
    let mut lan = Lan::new(spec());
    assert_eq!(lan.tcp(A, B, 1, 2, SYN), Decision::Unicast(B));
    lan.publish_rules(&[]);
    assert_eq!(lan.tcp(A, B, 1, 2, ACK), ICC);
    assert_eq!(lan.tcp(B, A, 2, 1, ACK), ICC);
    lan.publish(spec());
    assert_eq!(lan.tcp(A, B, 1, 2, ACK), Decision::Unicast(B));
}

#[test]
fn a_packet_for_another_address_than_its_receivers_is_not_what_a_rule_opens() {
    let mut lan = lan(&[(A, B, None)]);
    for dst in [C4, X4, FAR4, GATEWAY4, Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 251)] {
        assert_eq!(lan.send(A, &udp4(A_MAC, B_MAC, A4, dst, 1, 2, b"")), ICC, "{dst}");
    }
    assert_eq!(lan.send(A, &udp6(A_MAC, B_MAC, A6, X6, 1, 2, b"")), ICC);
}

#[test]
fn a_group_packet_reaches_those_whom_a_rule_opens_and_opens_no_replies() {
    let mut lan = lan(&[(A, C, DNS), (A, B, DB)]);
    let group = Ipv4Addr::new(224, 0, 0, 251);
    let frame = udp4(A_MAC, Mac::new([1, 0, 0x5e, 0, 0, 0xfb]), A4, group, 4000, 53, b"");
    assert_eq!(lan.send(A, &frame), Decision::Flood);
    assert_eq!(lan.recipients(), [C]);
    assert_eq!(lan.udp(C, A, 53, 4000), ICC);
    let other = udp4(A_MAC, Mac::BROADCAST, A4, Ipv4Addr::BROADCAST, 4000, 54, b"");
    assert_eq!(lan.send(A, &other), ICC);
}

#[test]
fn a_rule_for_a_port_that_is_gone_or_for_oneself_floods_to_nobody() {
    let mut spec = isolated(&[(A, A, None)]);
    spec.rules.push(Rule { from: id(A), to: PortId(9999), port: None });
    let frame = udp4(A_MAC, Mac::BROADCAST, A4, Ipv4Addr::BROADCAST, 1, 2, b"");
    assert_eq!(Lan::new(spec).send(A, &frame), ICC);
}

#[test]
fn unknown_unicast_follows_the_rules_as_well() {
    let mut spec = nested(&[B, C]);
    spec.settings.icc = false;
    spec.rules = vec![Rule { from: id(A), to: id(C), port: DNS }];
    let mut lan = Lan::new(spec);
    assert_eq!(lan.send(A, &udp4(A_MAC, X_MAC, A4, X4, 1, 53, b"")), Decision::Flood);
    assert_eq!(lan.recipients(), [C]);
    assert_eq!(lan.send(A, &udp4(A_MAC, X_MAC, A4, X4, 1, 54, b"")), ICC);
    assert_eq!(lan.send(A, &raw(A_MAC, X_MAC, 0x88b5, b"")), ICC);
}

#[test]
fn link_local_addresses_do_not_pass_a_guarded_ports_rule() {
    let mut lan = lan(&[(A, B, None)]);
    let local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);
    assert_eq!(lan.send(A, &udp6(A_MAC, B_MAC, local, local, 1, 2, b"")), ICC);
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let port = prop_oneof![
        Just(None),
        (0_u16..3).prop_map(|n| Some(RulePort::Tcp(n))),
        (0_u16..3).prop_map(|n| Some(RulePort::Udp(n))),
        Just(PING),
    ];
    (0_u32..5, 0_u32..5, port).prop_map(|(from, to, port)| Rule { from: PortId(from), to: PortId(to), port })
}

proptest! {
    #[test]
    fn the_sorted_rules_say_what_a_list_of_them_says(rules in prop::collection::vec(any_rule(), 0..40), asked in any_rule()) {
        let policy = Policy::new(false, 1, rules.clone());
        let Rule { from, to, port } = asked;
        let any = |f: &dyn Fn(&Rule) -> bool| rules.iter().any(f);
        let matches = |r: &Rule| r.from == from && r.to == to && (r.port.is_none() || r.port == port);
        prop_assert_eq!(policy.opens(from, to, port), any(&matches));
        let pair = |r: &Rule| (r.from, r.to) == (from, to) || (r.from, r.to) == (to, from);
        prop_assert_eq!(policy.relates(from, to), any(&pair));
        let mut targets: Vec<_> = rules.iter().filter(|r| r.from == from).map(|r| r.to).collect();
        targets.sort_unstable();
        targets.dedup();
        prop_assert_eq!(policy.targets(from).collect::<Vec<_>>(), targets);
    }
}
