use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::super::testing::*;
use super::super::{Decision, DropReason, PortIndex, RulePort};
use super::*;
use crate::frame::testing::*;
use crate::frame::{Frame, Mac, Payload};

const RULE: (PortIndex, PortIndex, Option<RulePort>) = (A, B, Some(RulePort::Udp(53)));
const LOST: Decision = drop(DropReason::Fragment);
/// Where the identification stands in an IPv4 frame, and its header checksum.
const ID_AT: usize = 18;

fn with_id(mut frame: Vec<u8>, id: u16) -> Vec<u8> {
    frame[ID_AT..ID_AT + 2].copy_from_slice(&id.to_be_bytes());
    frame
}

/// The first fragment of a datagram of A to port `dst_port` of B, and a later one.
fn first4(dst_port: u16, id: u16) -> Vec<u8> {
    let body = udp(A4.into(), B4.into(), 4000, dst_port, &[0; 64]);
    with_id(ip4_at(A_MAC, B_MAC, A4, B4, 17, 0x2000, &body[..48]), id)
}

fn later4(id: u16) -> Vec<u8> {
    with_id(ip4_at(A_MAC, B_MAC, A4, B4, 17, 6, &[0; 24]), id)
}

fn later_from(src: Mac, dst: Mac, from: Ipv4Addr, to: Ipv4Addr, protocol: u8) -> Vec<u8> {
    with_id(ip4_at(src, dst, from, to, protocol, 6, &[0; 24]), 7)
}

fn first6(id: u32) -> Vec<u8> {
    let body = udp(A6.into(), B6.into(), 4000, 53, &[0; 64]);
    ip6(A_MAC, B_MAC, A6, B6, 44, &[&*fragment_header(17, 0, true, id), &body[..48]].concat())
}

fn later6(id: u32) -> Vec<u8> {
    ip6(A_MAC, B_MAC, A6, B6, 44, &[&*fragment_header(17, 6, false, id), &[0; 24]].concat())
}

#[test]
fn later_fragments_follow_an_allowed_first_one() {
    let mut lan = Lan::new(isolated(&[RULE]));
    assert_eq!(lan.send(A, &later4(7)), LOST, "before the first");
    assert_eq!(lan.send(A, &first4(53, 7)), Decision::Unicast(B));
    assert_eq!(lan.send(A, &later4(7)), Decision::Unicast(B));
    assert_eq!(lan.send(A, &later4(8)), LOST, "another datagram");
    assert_eq!(lan.send(A, &later6(7)), LOST, "another family");
    assert_eq!(lan.send(A, &first6(7)), Decision::Unicast(B));
    assert_eq!(lan.send(A, &later6(7)), Decision::Unicast(B));
    assert_eq!(lan.send(A, &later6(0x1_0007)), LOST, "all 32 bits count");
}

#[test]
fn later_fragments_of_a_forbidden_first_one_are_dropped() {
    let mut lan = Lan::new(isolated(&[RULE]));
    assert_eq!(lan.send(A, &first4(54, 7)), drop(DropReason::Icc));
    assert_eq!(lan.send(A, &later4(7)), LOST);
}

#[test]
fn a_later_fragment_follows_between_the_same_two_of_the_same_protocol_only() {
    let mut lan = Lan::new(isolated(&[RULE]));
    assert_eq!(lan.send(A, &first4(53, 7)), Decision::Unicast(B));
    assert_eq!(lan.send(A, &later_from(A_MAC, B_MAC, A4, B4, 6)), LOST);
    assert_eq!(lan.send(A, &later_from(A_MAC, C_MAC, A4, C4, 17)), LOST);
    assert_eq!(lan.send(C, &later_from(C_MAC, B_MAC, C4, B4, 17)), LOST);
    assert_eq!(lan.send(B, &later_from(B_MAC, A_MAC, B4, A4, 17)), LOST);
}

#[test]
fn a_first_fragment_is_remembered_for_30_s() {
    let mut lan = Lan::new(isolated(&[RULE]));
    lan.send(A, &first4(53, 7));
    lan.wait(29);
    assert_eq!(lan.send(A, &later4(7)), Decision::Unicast(B));
    lan.wait(1);
    assert_eq!(lan.send(A, &later4(7)), LOST, "following does not prolong");
}

#[test]
fn fragments_of_a_reply_pass() {
    let mut lan = Lan::new(isolated(&[RULE]));
    lan.udp(A, B, 4000, 53);
    let body = udp(B4.into(), A4.into(), 53, 4000, &[0; 64]);
    let first = with_id(ip4_at(B_MAC, A_MAC, B4, A4, 17, 0x2000, &body[..48]), 7);
    assert_eq!(lan.send(B, &first), Decision::Unicast(A));
    assert_eq!(lan.send(B, &later_from(B_MAC, A_MAC, B4, A4, 17)), Decision::Unicast(A));
}

#[test]
fn a_rule_change_takes_effect_on_datagrams_in_parts() {
    let mut lan = Lan::new(isolated(&[RULE]));
    lan.send(A, &first4(53, 7));
    lan.publish_rules(&[(A, B, Some(RulePort::Tcp(80)))]);
    assert_eq!(lan.send(A, &later4(7)), LOST);
}

#[test]
fn while_icc_is_on_fragments_are_not_looked_at() {
    assert_eq!(Lan::new(spec()).send(A, &later4(7)), Decision::Unicast(B));
}

#[test]
fn fragments_to_a_group_follow_to_those_who_got_the_first() {
    let mut lan = Lan::new(isolated(&[(A, C, Some(RulePort::Udp(53))), (A, B, Some(RulePort::Udp(54)))]));
    let group = Ipv4Addr::new(239, 1, 1, 1);
    let to = Mac::new([1, 0, 0x5e, 1, 1, 1]);
    let body = udp(A4.into(), group.into(), 4000, 53, &[0; 64]);
    let later = with_id(ip4_at(A_MAC, to, A4, group, 17, 6, &[0; 24]), 7);
    assert_eq!(lan.send(A, &later), LOST);
    assert_eq!(lan.send(A, &with_id(ip4_at(A_MAC, to, A4, group, 17, 0x2000, &body[..48]), 7)), Decision::Flood);
    assert_eq!(lan.send(A, &later), Decision::Flood);
    assert_eq!(lan.recipients(), [C]);
}

#[test]
fn a_flood_of_first_fragments_costs_its_sender_alone() {
    let mut lan = Lan::new(isolated(&[RULE, (C, B, Some(RulePort::Udp(53)))]));
    let body = udp(C4.into(), B4.into(), 4000, 53, &[0; 64]);
    lan.send(C, &with_id(ip4_at(C_MAC, B_MAC, C4, B4, 17, 0x2000, &body[..48]), 7));
    for id in 0..=u16::MAX {
        lan.send(A, &first4(53, id));
    }
    assert_eq!(lan.send(C, &later_from(C_MAC, B_MAC, C4, B4, 17)), Decision::Unicast(B));
}

proptest! {
    #[test]
    fn agrees_with_a_naive_model(steps in prop::collection::vec((0_u8..4, 0_u16..8, 0_u64..20), 0..100)) {
        let mut lan = Lan::new(isolated(&[RULE]));
        let (mut model, mut now) = (BTreeMap::new(), 0);
        for (verb, id, gap) in steps {
            match verb {
                0 => { lan.wait(gap); now += gap; }
                1 => { lan.send(A, &first4(53, id)); model.insert(id, now); }
                2 => { lan.send(A, &first4(99, id)); }
                _ => {
                    let want = model.get(&id).is_some_and(|&then| now < then + 30);
                    prop_assert_eq!(lan.send(A, &later4(id)), if want { Decision::Unicast(B) } else { LOST });
                }
            }
        }
    }
}

#[test]
fn an_ipv6_datagrams_identity_leaves_the_protocol_out() {
    let bytes = later6(9);
    let Payload::Ip(mut packet) = Frame::parse(&bytes).unwrap().payload else { panic!("no IP packet") };
    let fragments = Fragments::new();
    fragments.prepare();
    fragments.note(id(A), id(B), &packet, 9, 1, Instant(0));
    packet.protocol = 60;
    assert!(fragments.follows(id(A), id(B), &packet, 9, 1, Instant(0)));
    assert!(!fragments.follows(id(A), id(B), &packet, 9, 2, Instant(0)), "another generation");
}
