use std::net::Ipv4Addr;

use super::super::testing::*;
use super::super::{DropReason, NetworkSettings, NetworkSpec, link_local};
use super::*;
use crate::frame::Mac;
use crate::frame::testing::*;

fn lan() -> Lan {
    Lan::new(spec())
}

/// `spec` with other settings.
fn with(mut spec: NetworkSpec, change: impl FnOnce(&mut NetworkSettings)) -> NetworkSpec {
    change(&mut spec.settings);
    spec
}

#[test]
fn the_gateway_answers_echoes_at_each_of_its_addresses() {
    for spec in [spec(), isolated(&[])] {
        let mut lan = Lan::new(spec);
        assert_eq!(lan.send(A, &icmp_echo4(A_MAC, GATEWAY_MAC, A4, GATEWAY4, 7, b"ping")), Decision::Answer);
        assert_eq!(addresses(&lan.scratch.answer), (GATEWAY4.into(), A4.into()));
        for (asker, target) in [(A6, GATEWAY6), (link_local::eui64(A_MAC), link_local::eui64(GATEWAY_MAC))] {
            assert_eq!(lan.send(A, &icmp_echo6(A_MAC, GATEWAY_MAC, asker, target, 7, b"ping")), Decision::Answer);
            assert_eq!(addresses(&lan.scratch.answer), (target.into(), asker.into()));
        }
    }
}

#[test]
fn a_fragmented_echo_is_not_answered() {
    let whole = icmp_echo4(A_MAC, GATEWAY_MAC, A4, GATEWAY4, 7, &[0; 64]);
    for place in [0x2000, 8] {
        let part = ip4_at(A_MAC, GATEWAY_MAC, A4, GATEWAY4, 1, place, &whole[34..]);
        assert_eq!(lan().send(A, &part), drop(DropReason::NoService));
    }
}

#[test]
fn echoes_from_no_station_are_not_answered() {
    for src in [Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 1)] {
        let frame = icmp_echo4(A_MAC, GATEWAY_MAC, src, GATEWAY4, 7, b"");
        assert_eq!(Lan::new(nested(&[A])).send(A, &frame), drop(DropReason::NoService));
    }
}

#[test]
fn an_echo_reply_is_not_answered() {
    let reply = icmp4(A_MAC, GATEWAY_MAC, A4, GATEWAY4, 0, 0, [0; 4], b"");
    assert_eq!(lan().send(A, &reply), drop(DropReason::NoService));
}

#[test]
fn what_speaks_to_the_gateway_is_for_its_services_and_the_rest_has_none() {
    let mut lan = lan();
    assert_eq!(lan.send(A, &udp4(A_MAC, GATEWAY_MAC, A4, GATEWAY4, 9, 53, b"")), Decision::Local);
    assert_eq!(lan.send(A, &tcp6(A_MAC, GATEWAY_MAC, A6, GATEWAY6, 9, 80, SYN, b"")), Decision::Local);
    assert_eq!(lan.send(A, &raw(A_MAC, GATEWAY_MAC, 0x88b5, b"")), drop(DropReason::NoService));
}

#[test]
fn what_is_for_beyond_is_the_switchs_to_carry_or_to_refuse() {
    for uplink in [Uplink::User, Uplink::None] {
        let mut lan = Lan::new(with(spec(), |s| s.uplink = uplink));
        assert_eq!(lan.send(A, &tcp4(A_MAC, GATEWAY_MAC, A4, FAR4, 9, 80, SYN, b"")), Decision::Local);
        assert_eq!(lan.send(A, &icmp_echo4(A_MAC, GATEWAY_MAC, A4, FAR4, 9, b"")), Decision::Local);
    }
}

#[test]
fn the_host_is_the_switchs_where_sockets_lead_to_it_and_a_ping_of_it_is_answered() {
    let (host4, host6) = (Ipv4Addr::new(10, 0, 0, 254), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0xfe));
    for uplink in [Uplink::None, Uplink::User] {
        let mut lan = Lan::new(with(spec(), |s| (s.uplink, s.host4, s.host6) = (uplink, Some(host4), Some(host6))));
        assert_eq!(lan.send(A, &tcp4(A_MAC, GATEWAY_MAC, A4, host4, 9, 80, SYN, b"")), Decision::Local);
        assert_eq!(lan.send(A, &udp6(A_MAC, GATEWAY_MAC, A6, host6, 9, 80, b"")), Decision::Local);
        assert_eq!(lan.send(A, &icmp_echo4(A_MAC, GATEWAY_MAC, A4, host4, 7, b"ping")), Decision::Answer);
        assert_eq!(addresses(&lan.scratch.answer), (host4.into(), A4.into()));
        assert_eq!(
            lan.send(A, &arp(A_MAC, Mac::BROADCAST, 1, (A_MAC, A4), (Mac::new([0; 6]), host4))),
            Decision::Answer
        );
    }
}

#[test]
fn nobody_claims_the_hosts_address() {
    let host4 = Ipv4Addr::new(10, 0, 0, 254);
    let mut lan = Lan::new(with(nested(&[A]), |s| s.host4 = Some(host4)));
    let claim = arp(A_MAC, Mac::BROADCAST, 2, (A_MAC, host4), (A_MAC, host4));
    assert_eq!(lan.send(A, &claim), drop(DropReason::GatewayClaim));
    assert_eq!(lan.send(A, &udp4(A_MAC, B_MAC, host4, B4, 9, 9, b"")), drop(DropReason::GatewayClaim));
}

#[test]
fn what_a_published_port_sends_goes_back_by_the_switch_though_the_host_is_the_uplink() {
    let mut spec = with(spec(), |s| s.uplink = Uplink::Host(id(B)));
    spec.ports[A.get()].published = [RulePort::Tcp(80)].into();
    let mut lan = Lan::new(spec);
    assert_eq!(lan.send(A, &tcp4(A_MAC, GATEWAY_MAC, A4, FAR4, 80, 9, SYN, b"")), Decision::Local);
    assert_eq!(lan.send(A, &tcp4(A_MAC, GATEWAY_MAC, A4, FAR4, 81, 9, SYN, b"")), Decision::Unicast(B));
    assert_eq!(lan.send(A, &udp4(A_MAC, GATEWAY_MAC, A4, FAR4, 80, 9, b"")), Decision::Unicast(B));
}

/// A later fragment of a datagram of A.
fn later(dst: Ipv4Addr, protocol: u8) -> Vec<u8> {
    ip4_at(A_MAC, GATEWAY_MAC, A4, dst, protocol, 185, &[0; 24])
}

/// The first fragment of one, from UDP port `src_port`.
fn first(dst: Ipv4Addr, src_port: u16) -> Vec<u8> {
    let body = udp(A4.into(), dst.into(), src_port, 9, &[0; 1480]);
    ip4_at(A_MAC, GATEWAY_MAC, A4, dst, 17, 0x2000, &body[..1480])
}

#[test]
fn all_fragments_of_what_is_for_the_gateways_services_are_theirs() {
    for uplink in [Uplink::None, Uplink::User, Uplink::Host(id(C))] {
        let mut lan = Lan::new(with(spec(), |s| s.uplink = uplink));
        assert_eq!(lan.send(A, &first(GATEWAY4, 80)), Decision::Local);
        assert_eq!(lan.send(A, &later(GATEWAY4, 17)), Decision::Local);
        assert_eq!(lan.send(A, &later(GATEWAY4, 6)), Decision::Local);
        let later6 = [&*fragment_header(17, 185, false, 7), &[0; 24]].concat();
        assert_eq!(lan.send(A, &ip6(A_MAC, GATEWAY_MAC, A6, GATEWAY6, 44, &later6)), Decision::Local);
        for protocol in [1, 47] {
            assert_eq!(lan.send(A, &later(GATEWAY4, protocol)), drop(DropReason::NoService), "{protocol}");
        }
    }
}

#[test]
fn later_fragments_go_where_the_first_one_of_a_published_port_went() {
    let mut spec = with(spec(), |s| s.uplink = Uplink::Host(id(B)));
    spec.ports[A.get()].published = [RulePort::Udp(80)].into();
    let other = Decision::Unicast(B);
    let mut lan = Lan::new(spec.clone());
    assert_eq!(lan.send(A, &later(FAR4, 17)), other, "before the first");
    assert_eq!(lan.send(A, &first(FAR4, 80)), Decision::Local);
    assert_eq!(lan.send(A, &later(FAR4, 17)), Decision::Local);
    assert_eq!(lan.send(A, &later(FAR4, 47)), other, "another protocol");
    assert_eq!(lan.send(A, &later(Ipv4Addr::new(192, 0, 2, 9), 17)), other, "to somebody else");
    lan.wait(30);
    assert_eq!(lan.send(A, &later(FAR4, 17)), other, "its receiver has given it up");
    let mut lan = Lan::new(spec);
    assert_eq!(lan.send(A, &first(FAR4, 81)), other);
    assert_eq!(lan.send(A, &later(FAR4, 17)), other, "of another port");
}

#[test]
fn the_gateway_is_no_way_around_icc() {
    let user = with(spec(), |s| s.uplink = Uplink::User);
    for spec in [spec(), user, isolated(&[]), isolated(&[(A, B, None)])] {
        let mut lan = Lan::new(spec);
        assert_eq!(lan.send(A, &tcp4(A_MAC, GATEWAY_MAC, A4, B4, 9, 80, SYN, b"")), drop(DropReason::NoUplink));
        assert_eq!(lan.send(A, &icmp_echo6(A_MAC, GATEWAY_MAC, A6, B6, 9, b"")), drop(DropReason::NoUplink));
    }
}

#[test]
fn requests_for_nobodys_address_sent_to_the_gateway_alone_are_unanswered() {
    let mut lan = lan();
    let arp = arp(A_MAC, GATEWAY_MAC, 1, (A_MAC, A4), (Mac::new([0; 6]), X4));
    assert_eq!(lan.send(A, &arp), drop(DropReason::Unanswered));
    assert_eq!(lan.send(A, &ns_to(A_MAC, GATEWAY_MAC, A6, GATEWAY6, X6)), drop(DropReason::Unanswered));
}

#[test]
fn reports_and_solicitations_for_routers_are_not_flooded() {
    let routers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
    let reports = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
    let igmp = Ipv4Addr::new(224, 0, 0, 22);
    for frame in [
        icmp6(A_MAC, multicast_mac(routers), A6, routers, 133, 0, [0; 4], &[]),
        icmp6(A_MAC, multicast_mac(reports), A6, reports, 143, 0, [0; 4], &[]),
        ip4(A_MAC, Mac::new([1, 0, 0x5e, 0, 0, 22]), A4, igmp, 2, &[0x22, 0, 0, 0, 0, 0, 0, 0]),
        udp4(A_MAC, Mac::BROADCAST, A4, Ipv4Addr::BROADCAST, 68, 67, b"discover"),
        udp6(A_MAC, multicast_mac(ALL_NODES), A6, ALL_NODES, 546, 547, b"solicit"),
    ] {
        assert_eq!(lan().send(A, &frame), drop(DropReason::NoService));
        assert_eq!(Lan::new(isolated(&[(A, B, None)])).send(A, &frame), drop(DropReason::NoService));
    }
}

#[test]
fn a_group_frame_with_the_gateways_address_is_neither_answered_nor_flooded() {
    let echo = icmp_echo4(A_MAC, Mac::BROADCAST, A4, GATEWAY4, 7, b"");
    assert_eq!(lan().send(A, &echo), drop(DropReason::NoService));
    let echo = icmp_echo6(A_MAC, multicast_mac(ALL_NODES), A6, GATEWAY6, 7, b"");
    assert_eq!(lan().send(A, &echo), drop(DropReason::NoService));
}

#[test]
fn an_echo_to_a_group_floods_and_the_gateway_is_silent() {
    let mut lan = lan();
    let echo = icmp_echo6(A_MAC, multicast_mac(ALL_NODES), A6, ALL_NODES, 7, b"");
    assert_eq!(lan.send(A, &echo), Decision::Flood);
    assert_eq!(lan.recipients(), [B, C]);
    assert_eq!(lan.send(A, &icmp_echo4(A_MAC, Mac::BROADCAST, A4, Ipv4Addr::BROADCAST, 7, b"")), Decision::Flood);
}
