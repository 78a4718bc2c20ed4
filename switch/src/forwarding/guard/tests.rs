use super::super::testing::*;
use super::super::{Decision, PortIndex};
use super::*;
use crate::frame::Mac;
use crate::frame::testing::*;

const LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xaaaa);

/// The decision on `bytes` from A, of a network where A is guarded.
fn guarded(bytes: &[u8]) -> Decision {
    Lan::new(spec()).send(A, bytes)
}

/// The decision on `bytes` from A, where A is not.
fn unguarded(bytes: &[u8]) -> Decision {
    Lan::new(nested(&[A])).send(A, bytes)
}

fn dropped_always(reason: DropReason, bytes: &[u8]) {
    assert_eq!(guarded(bytes), drop(reason), "guarded");
    assert_eq!(unguarded(bytes), drop(reason), "unguarded");
}

fn dropped_when_guarded(reason: DropReason, bytes: &[u8]) {
    assert_eq!(guarded(bytes), drop(reason), "guarded");
    assert!(!matches!(unguarded(bytes), Decision::Drop(_)), "unguarded: {:?}", unguarded(bytes));
}

fn passes(bytes: &[u8]) {
    assert!(!matches!(guarded(bytes), Decision::Drop(_)), "{:?}", guarded(bytes));
}

#[test]
fn only_the_assigned_mac_may_be_source() {
    passes(&raw(A_MAC, B_MAC, 0x88b5, b""));
    dropped_when_guarded(DropReason::SpoofedMac, &raw(X_MAC, B_MAC, 0x88b5, b""));
    dropped_when_guarded(DropReason::SpoofedMac, &tcp4(C_MAC, B_MAC, A4, B4, 1, 2, SYN, b""));
}

#[test]
fn no_group_address_may_be_source() {
    for src in [Mac::BROADCAST, Mac::new([1, 0, 0x5e, 0, 0, 1]), Mac::new([0x33, 0x33, 0, 0, 0, 1])] {
        dropped_always(DropReason::GroupSource, &raw(src, B_MAC, 0x88b5, b""));
    }
}

#[test]
fn nobody_may_use_the_gateways_mac() {
    dropped_always(DropReason::GatewayClaim, &raw(GATEWAY_MAC, B_MAC, 0x88b5, b""));
    dropped_always(DropReason::GatewayClaim, &tcp4(GATEWAY_MAC, B_MAC, A4, B4, 1, 2, SYN, b""));
}

#[test]
fn reserved_addresses_are_never_forwarded() {
    for last in 0..16 {
        dropped_always(DropReason::ReservedMac, &raw(A_MAC, Mac::new([1, 0x80, 0xc2, 0, 0, last]), 0x88cc, b""));
    }
    passes(&raw(A_MAC, Mac::new([1, 0x80, 0xc2, 0, 0, 16]), 0x88b5, b""));
}

#[test]
fn vlan_tags_are_dropped_on_an_access_port() {
    for tag in [0x8100, 0x88a8] {
        dropped_always(DropReason::Vlan, &raw(A_MAC, B_MAC, tag, &[0, 5, 8, 0]));
        dropped_always(DropReason::Vlan, &raw(A_MAC, Mac::BROADCAST, tag, &[0, 5, 8, 6]));
    }
}

#[test]
fn arp_speaks_of_its_sender_only() {
    let hear = |sender| guarded(&arp(A_MAC, B_MAC, 2, sender, (B_MAC, B4)));
    assert_eq!(hear((A_MAC, A4)), Decision::Unicast(B));
    assert_eq!(hear((B_MAC, A4)), drop(DropReason::SpoofedArp), "sender hardware address");
    assert_eq!(hear((A_MAC, C4)), drop(DropReason::SpoofedArp), "another's address");
    assert_eq!(hear((A_MAC, X4)), drop(DropReason::SpoofedArp), "nobody's address");
    assert_eq!(hear((A_MAC, Ipv4Addr::UNSPECIFIED)), drop(DropReason::SpoofedArp), "a reply is no probe");
    dropped_when_guarded(DropReason::SpoofedArp, &arp_request(A_MAC, C4, X4));
}

#[test]
fn an_arp_probe_passes() {
    passes(&arp_request(A_MAC, Ipv4Addr::UNSPECIFIED, A4));
    passes(&arp_request(A_MAC, Ipv4Addr::UNSPECIFIED, X4));
}

#[test]
fn arp_in_the_gateways_name_is_a_claim() {
    dropped_always(DropReason::GatewayClaim, &arp_request(A_MAC, GATEWAY4, B4));
    dropped_always(DropReason::GatewayClaim, &arp_answer(A_MAC, GATEWAY4, B_MAC, B4));
    dropped_always(DropReason::GatewayClaim, &arp(A_MAC, Mac::BROADCAST, 1, (A_MAC, GATEWAY4), (A_MAC, GATEWAY4)));
    dropped_always(DropReason::GatewayClaim, &arp(A_MAC, B_MAC, 2, (GATEWAY_MAC, A4), (B_MAC, B4)));
}

#[test]
fn only_leased_ipv4_sources_pass() {
    passes(&udp4(A_MAC, B_MAC, A4, B4, 1, 2, b""));
    for src in [B4, C4, X4, FAR4, Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, Ipv4Addr::LOCALHOST] {
        dropped_when_guarded(DropReason::SpoofedIpv4, &udp4(A_MAC, B_MAC, src, B4, 1, 2, b""));
    }
    dropped_always(DropReason::GatewayClaim, &udp4(A_MAC, B_MAC, GATEWAY4, B4, 1, 2, b""));
}

#[test]
fn a_dhcp_client_may_ask_without_an_address_and_only_that() {
    let ask = |dst, src_port, dst_port| {
        guarded(&udp4(A_MAC, Mac::BROADCAST, Ipv4Addr::UNSPECIFIED, dst, src_port, dst_port, b""))
    };
    assert_eq!(ask(Ipv4Addr::BROADCAST, 68, 67), drop(DropReason::NoService), "past the guard; nobody serves it");
    assert_eq!(ask(Ipv4Addr::BROADCAST, 68, 69), drop(DropReason::SpoofedIpv4));
    assert_eq!(ask(Ipv4Addr::BROADCAST, 69, 67), drop(DropReason::SpoofedIpv4));
    assert_eq!(ask(B4, 68, 67), drop(DropReason::SpoofedIpv4));
}

#[test]
fn dhcp_servers_are_not_heard() {
    dropped_always(DropReason::RogueDhcp, &udp4(A_MAC, B_MAC, A4, B4, 67, 68, b"offer"));
    dropped_always(DropReason::RogueDhcp, &udp4(A_MAC, Mac::BROADCAST, A4, Ipv4Addr::BROADCAST, 67, 68, b"offer"));
    dropped_always(DropReason::RogueDhcp, &udp6(A_MAC, B_MAC, A6, B6, 547, 546, b"advertise"));
    passes(&udp4(A_MAC, B_MAC, A4, B4, 547, 68, b""));
    passes(&udp6(A_MAC, B_MAC, A6, B6, 67, 546, b""));
}

#[test]
fn only_leased_and_own_link_local_ipv6_sources_pass() {
    passes(&udp6(A_MAC, B_MAC, A6, B6, 1, 2, b""));
    passes(&udp6(A_MAC, B_MAC, link_local::eui64(A_MAC), B6, 1, 2, b""));
    passes(&udp6(A_MAC, B_MAC, LOCAL, B6, 1, 2, b""));
    for src in [B6, X6, Ipv6Addr::UNSPECIFIED, Ipv6Addr::LOCALHOST, ALL_NODES, link_local::eui64(B_MAC)] {
        dropped_when_guarded(DropReason::SpoofedIpv6, &udp6(A_MAC, B_MAC, src, B6, 1, 2, b""));
    }
    for src in [GATEWAY6, link_local::eui64(GATEWAY_MAC)] {
        dropped_always(DropReason::GatewayClaim, &udp6(A_MAC, B_MAC, src, B6, 1, 2, b""));
    }
}

#[test]
fn at_most_four_link_local_addresses_are_claimed_first_come() {
    let mut lan = Lan::new(spec());
    let mut send = |from: PortIndex, n| {
        let src = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, n);
        lan.send(from, &udp6(mac_of(from), C_MAC, src, C6, 1, 2, b""))
    };
    for n in 1..=4 {
        assert_eq!(send(A, n), Decision::Unicast(C));
    }
    assert_eq!(send(A, 5), drop(DropReason::SpoofedIpv6), "a fifth");
    assert_eq!(send(A, 1), Decision::Unicast(C), "the first again");
    assert_eq!(send(B, 1), drop(DropReason::SpoofedIpv6), "a second claimant");
    assert_eq!(send(B, 5), Decision::Unicast(C), "what was refused is free");
}

#[test]
fn duplicate_detection_claims_a_link_local_address_before_anybody_hears_of_it() {
    let mut lan = Lan::new(spec());
    let theft = na(A_MAC, multicast_mac(ALL_NODES), LOCAL, ALL_NODES, LOCAL, false);
    assert_eq!(lan.send(B, &ns(B_MAC, Ipv6Addr::UNSPECIFIED, LOCAL)), Decision::Flood);
    assert_eq!(lan.send(A, &theft), drop(DropReason::SpoofedIpv6));
    assert_eq!(lan.send(A, &na(A_MAC, B_MAC, A6, B6, LOCAL, true)), drop(DropReason::SpoofedNa));
    assert_eq!(lan.send(B, &udp6(B_MAC, A_MAC, LOCAL, A6, 1, 2, b"")), Decision::Unicast(A));
    assert_eq!(lan.send(A, &ns(A_MAC, Ipv6Addr::UNSPECIFIED, LOCAL)), Decision::Answer, "on behalf of its holder");
}

#[test]
fn duplicate_detection_claims_for_the_asker_alone_and_no_more_than_it_may_have() {
    let mut lan = Lan::new(spec());
    let address = |n| Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, n);
    for target in (1..=5).map(address).chain([X6, link_local::eui64(X_MAC)]) {
        assert_eq!(lan.send(A, &ns(A_MAC, Ipv6Addr::UNSPECIFIED, target)), Decision::Flood, "{target}");
    }
    let mut use_of = |from: PortIndex, src| lan.send(from, &udp6(mac_of(from), C_MAC, src, C6, 1, 2, b""));
    assert_eq!(use_of(B, address(4)), drop(DropReason::SpoofedIpv6));
    assert_eq!(use_of(B, address(5)), Decision::Unicast(C), "a fifth stayed free");
    let mut lan = Lan::new(nested(&[A]));
    lan.send(A, &ns(A_MAC, Ipv6Addr::UNSPECIFIED, LOCAL));
    assert_eq!(lan.send(B, &udp6(B_MAC, C_MAC, LOCAL, C6, 1, 2, b"")), Decision::Unicast(C), "of no guarded port");
}

#[test]
fn the_unspecified_ipv6_source_is_for_duplicate_detection_and_listener_reports() {
    let from = Ipv6Addr::UNSPECIFIED;
    passes(&ns(A_MAC, from, A6));
    for kind in [131, 132, 143] {
        let report = icmp6(A_MAC, multicast_mac(ALL_NODES), from, ALL_NODES, kind, 0, [0; 4], &[0; 16]);
        assert_eq!(guarded(&report), drop(DropReason::NoService), "past the guard; for routers only");
    }
    assert_eq!(
        guarded(&icmp_echo6(A_MAC, multicast_mac(ALL_NODES), from, ALL_NODES, 1, b"")),
        drop(DropReason::SpoofedIpv6)
    );
    assert_eq!(guarded(&icmp6(A_MAC, B_MAC, from, B6, 143, 0, [0; 4], &[])), drop(DropReason::SpoofedIpv6));
}

#[test]
fn router_advertisements_and_redirects_are_dropped_of_everybody() {
    let message = |kind, from| icmp6(A_MAC, multicast_mac(ALL_NODES), from, ALL_NODES, kind, 0, [0; 4], &[0; 40]);
    for from in [A6, link_local::eui64(A_MAC)] {
        dropped_always(DropReason::RogueRa, &message(134, from));
        dropped_always(DropReason::RogueRedirect, &message(137, from));
    }
    dropped_always(DropReason::RogueRa, &icmp6(A_MAC, B_MAC, A6, B6, 134, 0, [0; 4], &[0; 40]));
    dropped_always(DropReason::RogueRedirect, &icmp4(A_MAC, B_MAC, A4, B4, 5, 1, [10, 0, 0, 2], &[0; 28]));
}

#[test]
fn a_router_advertisement_behind_extension_headers_is_one() {
    let whole = icmp6(A_MAC, B_MAC, A6, B6, 134, 0, [0; 4], &[0; 40]);
    let behind = [&[58, 0, 0, 0, 0, 0, 0, 0], &whole[54..]].concat();
    dropped_always(DropReason::RogueRa, &ip6_hops(A_MAC, B_MAC, A6, B6, 60, 255, &behind));
    let first = [&*fragment_header(58, 0, true, 1), &whole[54..]].concat();
    dropped_always(DropReason::RogueRa, &ip6_hops(A_MAC, B_MAC, A6, B6, 44, 255, &first));
}

#[test]
fn neighbour_discovery_in_fragments_is_malformed() {
    let whole = na(A_MAC, B_MAC, A6, B6, A6, true);
    let first = [&*fragment_header(58, 0, true, 1), &whole[54..]].concat();
    dropped_always(DropReason::Malformed, &ip6_hops(A_MAC, B_MAC, A6, B6, 44, 255, &first));
}

#[test]
fn a_solicitation_that_came_through_a_router_is_malformed() {
    let whole = ns(A_MAC, A6, B6);
    let far = ip6_hops(A_MAC, multicast_mac(B6), A6, solicited_node(B6), 58, 254, &whole[54..]);
    dropped_always(DropReason::Malformed, &far);
}

#[test]
fn only_own_addresses_are_advertised() {
    let advertise = |target| na(A_MAC, B_MAC, A6, B6, target, true);
    passes(&advertise(A6));
    passes(&advertise(link_local::eui64(A_MAC)));
    passes(&advertise(LOCAL));
    for target in [B6, X6, link_local::eui64(B_MAC)] {
        dropped_when_guarded(DropReason::SpoofedNa, &advertise(target));
    }
    for target in [GATEWAY6, link_local::eui64(GATEWAY_MAC)] {
        dropped_always(DropReason::GatewayClaim, &advertise(target));
    }
}

#[test]
fn neighbour_messages_carry_the_senders_mac_only() {
    let with_mac = |kind, option, mac: Mac| {
        let body = [&X6.octets()[..], &[option, 1], &mac.octets()].concat();
        let target = if kind == 136 { &A6.octets()[..] } else { &X6.octets()[..] };
        let body = [target, &body[16..]].concat();
        icmp6(A_MAC, B_MAC, A6, B6, kind, 0, [0; 4], &body)
    };
    for (kind, option) in [(135, 1), (136, 2)] {
        passes(&with_mac(kind, option, A_MAC));
        dropped_when_guarded(DropReason::SpoofedNa, &with_mac(kind, option, C_MAC));
        dropped_always(DropReason::GatewayClaim, &with_mac(kind, option, GATEWAY_MAC));
    }
}

#[test]
fn a_port_without_leases_may_use_its_link_local_address_only() {
    let mut spec = spec();
    spec.ports[0].ipv4 = None;
    spec.ports[0].ipv6 = None;
    let mut lan = Lan::new(spec);
    assert_eq!(lan.send(A, &udp4(A_MAC, B_MAC, A4, B4, 1, 2, b"")), drop(DropReason::SpoofedIpv4));
    assert_eq!(lan.send(A, &udp6(A_MAC, B_MAC, A6, B6, 1, 2, b"")), drop(DropReason::SpoofedIpv6));
    assert_eq!(lan.send(A, &arp_request(A_MAC, A4, X4)), drop(DropReason::SpoofedArp));
    assert_eq!(lan.send(A, &udp6(A_MAC, B_MAC, link_local::eui64(A_MAC), B6, 1, 2, b"")), Decision::Unicast(B));
}
