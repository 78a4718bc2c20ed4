//! Echoes through a worker: frames of one container on one side, this host on the other.
//!
//! Whether it may send any is the host's to say; both answers are tested for what follows from them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::udp::testing::*;
use super::*;
use crate::frame::testing;
use crate::frame::{Frame, Layer4, Packet, Payload, checksum};

const LOOPBACKS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
const ID: u16 = 77;

fn is_permitted() -> bool {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ping_group_range").unwrap();
    let [low, high]: [u32; 2] =
        range.split_whitespace().map(|gid| gid.parse().unwrap()).collect::<Vec<_>>().try_into().unwrap();
    let mut gids: Vec<u32> = nix::unistd::getgroups().unwrap().into_iter().map(|gid| gid.as_raw()).collect();
    gids.push(nix::unistd::getegid().as_raw());
    gids.iter().any(|gid| (low..=high).contains(gid))
}

fn request(to: IpAddr, payload: &[u8]) -> Vec<u8> {
    match to {
        IpAddr::V4(v4) => testing::icmp_echo4(A, GATEWAY, A4, v4, ID, payload),
        IpAddr::V6(v6) => testing::icmp_echo6(A, GATEWAY, A6, v6, ID, payload),
    }
}

fn packet(bytes: &[u8]) -> Packet<'_> {
    let Payload::Ip(packet) = Frame::parse(bytes).expect("well-formed").payload else { panic!("no IP packet") };
    packet
}

#[test]
fn a_request_leaves_and_its_reply_comes_back_under_the_containers_identifier() {
    for address in LOOPBACKS {
        let mut stage = Stage::new();
        stage.send(&request(address, b"payload"));
        if !is_permitted() {
            assert_eq!(stage.drops(DropReason::PingForbidden), 1);
            continue;
        }
        let reply = stage.receive();
        let packet = packet(&reply);
        assert_eq!((packet.src, packet.dst), (address, near(address)));
        let (Layer4::Icmp4 { kind, id, .. } | Layer4::Icmp6 { kind, id, .. }) = packet.l4 else {
            panic!("no ICMP: {packet:?}")
        };
        assert_eq!((kind, id), (if address.is_ipv4() { 0 } else { 129 }, ID));
        let message = &reply[packet.l4_offset..packet.end];
        assert_eq!((&message[6..8], &message[8..]), (&[0, 1][..], &b"payload"[..]));
        let len = message.len() as u32;
        let start = if address.is_ipv4() { 0 } else { checksum::pseudo_header(packet.src, packet.dst, 58, len) };
        assert_eq!(checksum::sum(message, start.into()), 0xffff);
    }
}

#[test]
fn a_damaged_request_and_what_is_no_request_do_not_leave() {
    let mut stage = Stage::new();
    let mut frame = request(LOOPBACKS[0], b"payload");
    *frame.last_mut().unwrap() ^= 1;
    stage.send(&frame);
    assert_eq!(stage.drops(DropReason::Malformed), 1);
    // A timestamp request, and a reply.
    for kind in [13, 0] {
        stage.send(&testing::icmp4(A, GATEWAY, A4, Ipv4Addr::LOCALHOST, kind, 0, [0, ID as u8, 0, 1], b""));
    }
    assert_eq!(stage.drops(DropReason::NoService), 2);
    assert!(stage.is_silent());
}

#[test]
fn a_hop_limit_that_ends_here_is_answered_by_the_gateway() {
    let mut stage = Stage::new();
    let mut frame = request(LOOPBACKS[0], b"payload");
    frame[22] = 1;
    stage.send(&frame);
    assert!(matches!(packet(&stage.receive()).l4, Layer4::Icmp4 { kind: 11, code: 0, quote: Some(_), .. }));
    assert_eq!(stage.drops(DropReason::HopLimit), 1);
}

#[test]
fn the_identifier_and_the_sum_are_the_containers_and_to_be_made() {
    let (header, data) = echo::own(&[0, 0, 9, 9, 5, 5, 0, 3, 1, 2], ID).unwrap();
    assert_eq!((header, data), ([0, 0, 0, 0, 0, 77, 0, 3], &[1, 2][..]));
    assert_eq!(echo::own(&[0; 7], ID), None);
}
