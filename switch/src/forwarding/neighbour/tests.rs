use std::net::{Ipv4Addr, Ipv6Addr};

use smoltcp::wire::{Icmpv6Packet, NdiscNeighborFlags, NdiscRepr};

use super::super::testing::*;
use super::super::{RulePort, link_local};
use super::*;
use crate::frame::testing::*;
use crate::frame::{Layer4, Payload};

const NONE4: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const NONE6: Ipv6Addr = Ipv6Addr::UNSPECIFIED;

/// Who the ARP answer says has what, and to whom it says so.
fn arp_answer_of(lan: &Lan) -> (Mac, Ipv4Addr, Mac) {
    match Frame::parse(&lan.scratch.answer).unwrap().payload {
        Payload::Arp(arp) => {
            assert_eq!(arp.operation, 2);
            (arp.sender_mac, arp.sender_ip, arp.target_mac)
        }
        other => panic!("no ARP: {other:?}"),
    }
}

/// Target, its MAC, the router flag and the destination of the advertisement.
fn na_of(lan: &Lan) -> (Ipv6Addr, Mac, bool, std::net::IpAddr) {
    let frame = Frame::parse(&lan.scratch.answer).unwrap();
    let Payload::Ip(packet) = frame.payload else { panic!("no IP packet") };
    let Layer4::Icmp6 { message, .. } = packet.l4 else { panic!("no ICMPv6") };
    match NdiscRepr::parse(&Icmpv6Packet::new_checked(message).unwrap()).unwrap() {
        NdiscRepr::NeighborAdvert { flags, target_addr, lladdr } => {
            let mac = Mac::new(lladdr.unwrap().as_bytes().try_into().unwrap());
            (target_addr, mac, flags.contains(NdiscNeighborFlags::ROUTER), packet.dst)
        }
        other => panic!("no advertisement: {other:?}"),
    }
}

#[test]
fn arp_for_a_leased_address_is_answered_with_its_owners_mac() {
    let mut lan = Lan::new(spec());
    assert_eq!(lan.send(A, &arp_request(A_MAC, A4, B4)), Decision::Answer);
    assert_eq!(arp_answer_of(&lan), (B_MAC, B4, A_MAC));
}

#[test]
fn a_unicast_request_is_answered_as_well() {
    let mut lan = Lan::new(spec());
    assert_eq!(lan.send(A, &arp(A_MAC, B_MAC, 1, (A_MAC, A4), (B_MAC, B4))), Decision::Answer);
    assert_eq!(arp_answer_of(&lan), (B_MAC, B4, A_MAC));
    assert_eq!(lan.send(A, &ns_to(A_MAC, B_MAC, A6, B6, B6)), Decision::Answer);
    assert_eq!(na_of(&lan), (B6, B_MAC, false, A6.into()));
    assert_eq!(
        lan.send(A, &arp(A_MAC, GATEWAY_MAC, 1, (A_MAC, A4), (B_MAC, B4))),
        Decision::Answer,
        "whoever it is to"
    );
}

#[test]
fn a_solicitation_for_a_leased_address_is_answered_with_its_owners_mac() {
    let mut lan = Lan::new(spec());
    assert_eq!(lan.send(A, &ns(A_MAC, A6, B6)), Decision::Answer);
    assert_eq!(na_of(&lan), (B6, B_MAC, false, A6.into()));
}

#[test]
fn the_gateways_addresses_are_always_answered_with_its_mac() {
    for spec in [spec(), isolated(&[]), nested(&[A])] {
        let mut lan = Lan::new(spec);
        assert_eq!(lan.send(A, &arp_request(A_MAC, A4, GATEWAY4)), Decision::Answer);
        assert_eq!(arp_answer_of(&lan), (GATEWAY_MAC, GATEWAY4, A_MAC));
        for target in [GATEWAY6, link_local::eui64(GATEWAY_MAC)] {
            assert_eq!(lan.send(A, &ns(A_MAC, A6, target)), Decision::Answer);
            assert_eq!(na_of(&lan), (target, GATEWAY_MAC, true, A6.into()));
        }
        let unicast = ns_to(A_MAC, GATEWAY_MAC, A6, GATEWAY6, GATEWAY6);
        assert_eq!(lan.send(A, &unicast), Decision::Answer);
    }
}

#[test]
fn a_link_local_asker_is_answered_too() {
    let mut lan = Lan::new(spec());
    let asker = link_local::eui64(A_MAC);
    assert_eq!(lan.send(A, &ns(A_MAC, asker, B6)), Decision::Answer);
    assert_eq!(na_of(&lan), (B6, B_MAC, false, asker.into()));
}

#[test]
fn the_owners_own_probe_and_detection_are_never_answered() {
    let mut lan = Lan::new(spec());
    assert_eq!(lan.send(A, &arp_request(A_MAC, NONE4, A4)), Decision::Flood);
    assert_eq!(lan.send(A, &ns(A_MAC, NONE6, A6)), Decision::Flood);
    let mut lan = Lan::new(isolated(&[]));
    assert_eq!(lan.send(A, &arp_request(A_MAC, NONE4, A4)), drop(DropReason::Icc));
    assert_eq!(lan.send(A, &ns(A_MAC, NONE6, A6)), drop(DropReason::Icc));
}

#[test]
fn somebody_elses_probe_and_detection_are_answered() {
    let mut lan = Lan::new(spec());
    assert_eq!(lan.send(A, &arp_request(A_MAC, NONE4, B4)), Decision::Answer);
    assert_eq!(arp_answer_of(&lan).0, B_MAC);
    assert_eq!(lan.send(A, &ns(A_MAC, NONE6, B6)), Decision::Answer);
    assert_eq!(na_of(&lan), (B6, B_MAC, false, ALL_NODES.into()));
    assert_eq!(lan.send(A, &arp_request(A_MAC, NONE4, GATEWAY4)), Decision::Answer);
    assert_eq!(lan.send(A, &ns(A_MAC, NONE6, GATEWAY6)), Decision::Answer);
}

#[test]
fn nobody_makes_anothers_detection_fail_by_one_of_his_own() {
    let claimed = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xaaaa);
    for target in [link_local::eui64(A_MAC), claimed] {
        let mut lan = Lan::new(nested(&[C]));
        let detection = |mac| ns(mac, NONE6, target);
        assert_eq!(lan.send(A, &detection(A_MAC)), Decision::Flood, "its own");
        for (neighbour, mac) in [(B, B_MAC), (C, C_MAC)] {
            assert_eq!(lan.send(neighbour, &detection(mac)), Decision::Answer, "{target} is A's");
            assert_eq!(na_of(&lan), (target, A_MAC, false, ALL_NODES.into()));
        }
        let answer = na(B_MAC, A_MAC, B6, A6, target, true);
        assert_eq!(lan.send(B, &answer), drop(DropReason::SpoofedNa));
        assert_eq!(lan.send(A, &detection(A_MAC)), Decision::Flood, "again");
        assert_eq!(lan.send(B, &ns(B_MAC, B6, target)), Decision::Flood, "a question of another kind is for A");
    }
}

#[test]
fn without_icc_detection_of_a_link_local_address_learns_of_those_that_a_rule_relates() {
    let mut lan = Lan::new(isolated(&[(A, B, None)]));
    let detection = |mac| ns(mac, NONE6, link_local::eui64(A_MAC));
    assert_eq!(lan.send(B, &detection(B_MAC)), Decision::Answer);
    assert_eq!(lan.send(C, &detection(C_MAC)), drop(DropReason::Unanswered));
    assert_eq!(lan.send(A, &detection(A_MAC)), drop(DropReason::Unanswered), "its own is nobody else's matter");
}

#[test]
fn an_address_that_a_port_claimed_which_is_gone_is_nobodys() {
    let mut lan = Lan::new(spec());
    let detection = |mac| ns(mac, NONE6, Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xaaaa));
    assert_eq!(lan.send(C, &detection(C_MAC)), Decision::Flood);
    let mut spec = spec();
    spec.ports.pop();
    lan.publish(spec);
    assert_eq!(lan.send(A, &detection(A_MAC)), Decision::Flood);
}

#[test]
fn nobodys_address_is_flooded_where_containers_talk_freely() {
    let mut lan = Lan::new(spec());
    assert_eq!(lan.send(A, &arp_request(A_MAC, A4, X4)), Decision::Flood);
    assert_eq!(lan.recipients(), [B, C]);
    assert_eq!(lan.send(A, &ns(A_MAC, A6, X6)), Decision::Flood);
    assert_eq!(lan.send(A, &ns(A_MAC, A6, link_local::eui64(B_MAC))), Decision::Flood, "link-local is not leased");
}

#[test]
fn nobodys_address_is_unanswered_where_they_do_not() {
    let mut lan = Lan::new(isolated(&[(A, B, None)]));
    assert_eq!(lan.send(A, &arp_request(A_MAC, A4, X4)), drop(DropReason::Unanswered));
    assert_eq!(lan.send(A, &ns(A_MAC, A6, X6)), drop(DropReason::Unanswered));
    assert_eq!(lan.send(A, &ns(A_MAC, A6, link_local::eui64(B_MAC))), drop(DropReason::Unanswered));
    assert_eq!(lan.send(A, &ns_to(A_MAC, B_MAC, A6, B6, X6)), drop(DropReason::Unanswered));
}

#[test]
fn without_icc_the_two_of_a_rule_find_each_other_in_both_directions_and_others_do_not() {
    let mut lan = Lan::new(isolated(&[(A, B, Some(RulePort::Tcp(80)))]));
    assert_eq!(lan.send(A, &arp_request(A_MAC, A4, B4)), Decision::Answer);
    assert_eq!(lan.send(B, &arp_request(B_MAC, B4, A4)), Decision::Answer);
    assert_eq!(lan.send(B, &ns(B_MAC, B6, A6)), Decision::Answer);
    assert_eq!(lan.send(A, &arp_request(A_MAC, A4, C4)), drop(DropReason::Unanswered));
    assert_eq!(lan.send(C, &arp_request(C_MAC, C4, A4)), drop(DropReason::Unanswered));
    assert_eq!(lan.send(C, &ns(C_MAC, NONE6, A6)), drop(DropReason::Unanswered), "not even by detection");
    assert_eq!(lan.send(C, &arp(C_MAC, A_MAC, 1, (C_MAC, C4), (A_MAC, A4))), drop(DropReason::Unanswered));
}

#[test]
fn an_address_whose_port_is_gone_is_nobodys() {
    let mut lan = Lan::new(spec());
    let mut spec = spec();
    spec.ports.remove(1);
    lan.publish(spec);
    assert_eq!(lan.send(A, &arp_request(A_MAC, A4, B4)), Decision::Flood);
    assert_eq!(lan.recipients(), [B], "C, at B's place now");
}

#[test]
fn a_gratuitous_announcement_of_the_lease_floods() {
    let mut lan = Lan::new(spec());
    assert_eq!(lan.send(A, &arp_request(A_MAC, A4, A4)), Decision::Flood);
    assert_eq!(lan.send(A, &arp(A_MAC, Mac::BROADCAST, 2, (A_MAC, A4), (A_MAC, A4))), Decision::Flood);
    let all = multicast_mac(ALL_NODES);
    assert_eq!(lan.send(A, &na(A_MAC, all, A6, ALL_NODES, A6, false)), Decision::Flood);
}

#[test]
fn announcements_are_charged_as_floods() {
    let mut spec = spec();
    spec.settings.flood_rate = crate::forwarding::Rate { bytes_per_second: 0, burst: 100 };
    let mut lan = Lan::new(spec);
    let announcement = arp_request(A_MAC, A4, A4);
    let passed = (0..50).filter(|_| lan.send(A, &announcement) == Decision::Flood).count();
    assert_eq!(passed, 2, "84 bytes each, the second overdraws");
    assert_eq!(lan.send(A, &announcement), drop(DropReason::FloodLimit));
    assert_eq!(lan.send(A, &arp_request(A_MAC, A4, B4)), Decision::Answer, "an answer is no flood");
}

#[test]
fn another_ports_announcement_of_a_leased_address_is_answered_not_flooded() {
    let mut lan = Lan::new(nested(&[C]));
    assert_eq!(lan.send(C, &arp_request(C_MAC, A4, A4)), Decision::Answer);
    assert_eq!(arp_answer_of(&lan).0, A_MAC);
}

#[test]
fn replies_go_to_their_addressee_where_policy_lets_them() {
    let mut lan = Lan::new(spec());
    assert_eq!(lan.send(A, &arp_answer(A_MAC, A4, B_MAC, B4)), Decision::Unicast(B));
    assert_eq!(lan.send(A, &na(A_MAC, B_MAC, A6, B6, A6, true)), Decision::Unicast(B));
    let mut lan = Lan::new(isolated(&[(A, B, None)]));
    assert_eq!(lan.send(A, &arp_answer(A_MAC, A4, B_MAC, B4)), drop(DropReason::Icc));
    assert_eq!(lan.send(A, &na(A_MAC, B_MAC, A6, B6, A6, true)), drop(DropReason::Icc));
    assert_eq!(lan.send(A, &arp_answer(A_MAC, A4, GATEWAY_MAC, GATEWAY4)), drop(DropReason::NoService));
}

#[test]
fn an_unguarded_port_that_answers_for_a_nested_address_is_heard() {
    let mut lan = Lan::new(nested(&[C]));
    assert_eq!(lan.send(A, &arp_request(A_MAC, A4, X4)), Decision::Flood);
    assert_eq!(lan.send(C, &arp_answer(X_MAC, X4, A_MAC, A4)), Decision::Unicast(A));
    assert_eq!(lan.send(A, &udp4(A_MAC, X_MAC, A4, X4, 1, 2, b"")), Decision::Unicast(C));
}
