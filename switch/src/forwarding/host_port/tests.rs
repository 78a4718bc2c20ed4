use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::super::testing::*;
use super::super::{NetworkSettings, NetworkSpec, RulePort};
use super::*;
use crate::frame::Mac;
use crate::frame::testing::*;

const HOST: PortIndex = C;
const HOST4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);
const HOST6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0xfe);
const HOST_LINK_LOCAL: Ipv6Addr = link_local::eui64(GATEWAY_MAC);
const FAR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const UNKNOWN: Mac = Mac::new([0; 6]);

/// Containers A and B, and the host in the place of C.
fn with_host(mut spec: NetworkSpec) -> NetworkSpec {
    let port = &mut spec.ports[HOST.get()];
    (port.mac, port.ipv4, port.ipv6) = (GATEWAY_MAC, None, None);
    let settings =
        NetworkSettings { uplink: Uplink::Host(id(HOST)), host4: Some(HOST4), host6: Some(HOST6), ..spec.settings };
    NetworkSpec { settings, ..spec }
}

/// With icc on, and off.
fn lans() -> [Lan; 2] {
    [Lan::new(with_host(spec())), Lan::new(with_host(isolated(&[])))]
}

#[test]
fn what_is_for_elsewhere_or_for_the_host_goes_to_its_port_whatever_icc_says() {
    for mut lan in lans() {
        for frame in [
            tcp4(A_MAC, GATEWAY_MAC, A4, FAR4, 9, 80, SYN, b""),
            tcp4(A_MAC, GATEWAY_MAC, A4, HOST4, 9, 80, SYN, b""),
            icmp_echo4(A_MAC, GATEWAY_MAC, A4, HOST4, 9, b"ping"),
            udp6(A_MAC, GATEWAY_MAC, A6, FAR6, 9, 53, b""),
            icmp_echo6(A_MAC, GATEWAY_MAC, A6, HOST6, 9, b"ping"),
        ] {
            assert_eq!(lan.send(A, &frame), Decision::Unicast(HOST));
        }
        assert_eq!(lan.send(A, &tcp4(A_MAC, GATEWAY_MAC, A4, B4, 9, 80, SYN, b"")), drop(DropReason::NoUplink));
        assert_eq!(lan.send(A, &icmp_echo4(A_MAC, GATEWAY_MAC, A4, GATEWAY4, 9, b"ping")), Decision::Answer);
        assert_eq!(lan.send(A, &udp4(A_MAC, GATEWAY_MAC, A4, GATEWAY4, 9, 53, b"")), Decision::Local);
    }
}

#[test]
fn a_published_port_answers_the_host_by_its_device_and_others_by_the_switch() {
    let mut spec = with_host(spec());
    spec.ports[A.get()].published = [RulePort::Tcp(80)].into();
    let mut lan = Lan::new(spec);
    assert_eq!(lan.send(A, &tcp4(A_MAC, GATEWAY_MAC, A4, HOST4, 80, 9, SYN, b"")), Decision::Unicast(HOST));
    assert_eq!(lan.send(A, &tcp4(A_MAC, GATEWAY_MAC, A4, FAR4, 80, 9, SYN, b"")), Decision::Local);
}

#[test]
fn the_host_reaches_containers_from_any_address_that_is_nobodys_here() {
    for mut lan in lans() {
        for src in [HOST4, FAR4, X4, Ipv4Addr::LOCALHOST] {
            assert_eq!(lan.send(HOST, &udp4(GATEWAY_MAC, A_MAC, src, A4, 53, 9, b"")), Decision::Unicast(A), "{src}");
        }
        for src in [HOST6, FAR6, HOST_LINK_LOCAL] {
            assert_eq!(lan.send(HOST, &udp6(GATEWAY_MAC, A_MAC, src, A6, 53, 9, b"")), Decision::Unicast(A), "{src}");
        }
    }
}

#[test]
fn the_host_may_not_speak_for_a_container_or_for_the_gateway() {
    let claim = drop(DropReason::GatewayClaim);
    for mut lan in lans() {
        assert_eq!(lan.send(HOST, &udp4(GATEWAY_MAC, A_MAC, B4, A4, 9, 9, b"")), drop(DropReason::SpoofedIpv4));
        assert_eq!(lan.send(HOST, &udp6(GATEWAY_MAC, A_MAC, B6, A6, 9, 9, b"")), drop(DropReason::SpoofedIpv6));
        assert_eq!(lan.send(HOST, &udp4(GATEWAY_MAC, A_MAC, GATEWAY4, A4, 9, 9, b"")), claim);
        assert_eq!(lan.send(HOST, &udp6(GATEWAY_MAC, A_MAC, GATEWAY6, A6, 9, 9, b"")), claim);
        let arp_as = |ip| arp(GATEWAY_MAC, Mac::BROADCAST, 2, (GATEWAY_MAC, ip), (A_MAC, A4));
        assert_eq!(lan.send(HOST, &arp_as(B4)), drop(DropReason::SpoofedArp));
        assert_eq!(lan.send(HOST, &arp_as(GATEWAY4)), claim);
        assert_eq!(lan.send(HOST, &udp4(B_MAC, A_MAC, HOST4, A4, 9, 9, b"")), drop(DropReason::SpoofedMac));
        assert_eq!(lan.send(HOST, &udp4(GATEWAY_MAC, A_MAC, HOST4, A4, 67, 68, b"")), drop(DropReason::RogueDhcp));
        let ra = icmp6(GATEWAY_MAC, multicast_mac(ALL_NODES), HOST_LINK_LOCAL, ALL_NODES, 134, 0, [0; 4], &[0; 8]);
        assert_eq!(lan.send(HOST, &ra), drop(DropReason::RogueRa));
        let redirect = icmp4(GATEWAY_MAC, A_MAC, HOST4, A4, 5, 1, [0; 4], b"");
        assert_eq!(lan.send(HOST, &redirect), drop(DropReason::RogueRedirect));
    }
}

#[test]
fn a_container_may_not_speak_for_the_host() {
    for mut lan in lans() {
        assert_eq!(lan.send(A, &udp4(A_MAC, B_MAC, HOST4, B4, 9, 9, b"")), drop(DropReason::GatewayClaim));
        assert_eq!(lan.send(A, &udp4(GATEWAY_MAC, B_MAC, A4, B4, 9, 9, b"")), drop(DropReason::GatewayClaim));
        assert_eq!(lan.send(A, &udp6(A_MAC, B_MAC, HOST_LINK_LOCAL, B6, 9, 9, b"")), drop(DropReason::GatewayClaim));
    }
}

#[test]
fn the_switch_answers_the_host_about_containers_and_containers_about_the_host() {
    for mut lan in lans() {
        let ask = |of| arp(GATEWAY_MAC, Mac::BROADCAST, 1, (GATEWAY_MAC, HOST4), (UNKNOWN, of));
        assert_eq!(lan.send(HOST, &ask(A4)), Decision::Answer);
        assert_eq!(lan.send(HOST, &ns(GATEWAY_MAC, HOST_LINK_LOCAL, A6)), Decision::Answer);
        assert_eq!(lan.send(HOST, &ns(GATEWAY_MAC, HOST6, A6)), Decision::Answer);
        assert_eq!(lan.send(HOST, &ask(GATEWAY4)), Decision::Answer);
        let ask = arp(A_MAC, Mac::BROADCAST, 1, (A_MAC, A4), (UNKNOWN, HOST4));
        assert_eq!(lan.send(A, &ask), Decision::Answer);
        let Payload::Arp(reply) = Frame::parse(&lan.scratch.answer).unwrap().payload else { panic!("no ARP") };
        assert_eq!((reply.sender_mac, reply.sender_ip), (GATEWAY_MAC, HOST4));
    }
}

#[test]
fn the_host_is_not_told_that_somebody_has_its_own_address() {
    let mut lan = Lan::new(with_host(spec()));
    let own = arp(GATEWAY_MAC, Mac::BROADCAST, 1, (GATEWAY_MAC, HOST4), (UNKNOWN, HOST4));
    assert_eq!(lan.send(HOST, &own), Decision::Flood);
    assert_eq!(lan.send(HOST, &ns(GATEWAY_MAC, Ipv6Addr::UNSPECIFIED, HOST_LINK_LOCAL)), Decision::Flood);
}

#[test]
fn what_the_host_sends_to_the_gateways_mac_does_not_come_back_to_it() {
    for mut lan in lans() {
        let same = drop(DropReason::SamePort);
        assert_eq!(lan.send(HOST, &tcp4(GATEWAY_MAC, GATEWAY_MAC, HOST4, FAR4, 9, 80, SYN, b"")), same);
        assert_eq!(lan.send(HOST, &udp4(GATEWAY_MAC, GATEWAY_MAC, FAR4, HOST4, 9, 80, b"")), same);
        let ping = icmp_echo4(GATEWAY_MAC, GATEWAY_MAC, HOST4, GATEWAY4, 7, b"");
        assert_eq!(lan.send(HOST, &ping), Decision::Answer, "of the gateway itself");
    }
}

#[test]
fn the_host_hears_groups_and_is_heard_by_all_whatever_icc_says() {
    let [mut open, mut closed] = lans();
    let hello = udp4(A_MAC, Mac::BROADCAST, A4, Ipv4Addr::BROADCAST, 9, 9, b"hello");
    assert_eq!((open.send(A, &hello), open.recipients()), (Decision::Flood, &[B, HOST][..]));
    assert_eq!((closed.send(A, &hello), closed.recipients()), (Decision::Flood, &[HOST][..]));
    let other = raw(A_MAC, Mac::BROADCAST, 0x88b5, b"hello");
    assert_eq!((closed.send(A, &other), closed.recipients()), (Decision::Flood, &[HOST][..]));
    let mut ruled = Lan::new(with_host(isolated(&[(A, B, None)])));
    assert_eq!((ruled.send(A, &hello), ruled.recipients()), (Decision::Flood, &[B, HOST][..]));
    for mut lan in lans() {
        let hello = udp4(GATEWAY_MAC, Mac::BROADCAST, HOST4, Ipv4Addr::BROADCAST, 9, 9, b"hello");
        assert_eq!((lan.send(HOST, &hello), lan.recipients()), (Decision::Flood, &[A, B][..]));
        let discover = udp4(A_MAC, Mac::BROADCAST, A4, Ipv4Addr::BROADCAST, 68, 67, b"discover");
        assert_eq!(lan.send(A, &discover), drop(DropReason::NoService), "for routers only");
    }
}

#[test]
fn between_containers_icc_holds_as_without_a_host() {
    let [_, mut closed] = lans();
    assert_eq!(closed.tcp(A, B, 9, 80, SYN), drop(DropReason::Icc));
}

#[test]
fn the_hosts_routing_leads_to_no_other_network_of_ours() {
    let ours = ["10.0.0.0/24", "10.0.7.0/24", "fd00:7::/64"].map(|net| net.parse().unwrap());
    let mut lan = Lan::new(with_host(spec()));
    lan.network.stand_beside(super::super::Ranges::new(ours.into_iter()).into());
    let [other4, other6] = [Ipv4Addr::new(10, 0, 7, 2), Ipv4Addr::new(10, 0, 8, 2)];
    assert_eq!(lan.send(A, &udp4(A_MAC, GATEWAY_MAC, A4, other4, 9, 9, b"")), Decision::Local, "to be refused");
    assert_eq!(lan.send(A, &udp4(A_MAC, GATEWAY_MAC, A4, other6, 9, 9, b"")), Decision::Unicast(HOST));
    let other: Ipv6Addr = "fd00:7::2".parse().unwrap();
    assert_eq!(lan.send(A, &udp6(A_MAC, GATEWAY_MAC, A6, other, 9, 9, b"")), Decision::Local);
}

#[test]
fn a_host_whose_device_is_not_there_takes_nothing() {
    let mut spec = with_host(spec());
    spec.ports.remove(HOST.get());
    let mut lan = Lan::new(spec);
    assert_eq!(lan.send(A, &tcp4(A_MAC, GATEWAY_MAC, A4, FAR4, 9, 80, SYN, b"")), drop(DropReason::NoUplink));
}

proptest! {
    /// [`Lan::send`] asserts invariant 1 of every decision.
    #[test]
    fn no_frame_of_any_port_goes_back_to_it_and_none_passes_between_containers(
        from in 0..3_u32, src in 0..4_usize, dst in 0..5_usize, to in 0..5_usize, group: bool, port: u16,
    ) {
        let addresses = [A4, B4, HOST4, FAR4, GATEWAY4];
        let macs = [A_MAC, B_MAC, GATEWAY_MAC, X_MAC, Mac::BROADCAST];
        let from = PortIndex(from);
        let own = [A_MAC, B_MAC, GATEWAY_MAC][from.get()];
        let to = if group { Mac::BROADCAST } else { macs[to] };
        let frame = udp4(own, to, addresses[src], addresses[dst], port, 9, b"x");
        let [_, mut closed] = lans();
        match closed.send(from, &frame) {
            Decision::Unicast(at) => prop_assert!(from == HOST || at == HOST),
            Decision::Flood => prop_assert!(from == HOST || closed.recipients() == [HOST]),
            Decision::Answer | Decision::Local | Decision::Drop(_) => {}
        }
    }
}
