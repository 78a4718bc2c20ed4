//! A small network for the tests of this folder: containers A, B and C, a gateway, a clock that stands still until it is
//! told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::frame::{Frame, Mac, Offload, OffloadHeader, testing};

pub(super) const A: PortIndex = PortIndex(0);
pub(super) const B: PortIndex = PortIndex(1);
pub(super) const C: PortIndex = PortIndex(2);
pub(super) const A_MAC: Mac = testing::mac(1);
pub(super) const B_MAC: Mac = testing::mac(2);
pub(super) const C_MAC: Mac = testing::mac(3);
/// Nobody's.
pub(super) const X_MAC: Mac = testing::mac(0x77);
pub(super) const GATEWAY_MAC: Mac = testing::mac(0xfe);
pub(super) const A4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub(super) const B4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);
pub(super) const C4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 4);
/// Nobody's.
pub(super) const X4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 99);
pub(super) const GATEWAY4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(super) const FAR4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(super) const A6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
pub(super) const B6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 3);
pub(super) const C6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 4);
/// Nobody's.
pub(super) const X6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x99);
pub(super) const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
pub(super) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The id of the port at `index`.
pub(super) fn id(index: PortIndex) -> PortId {
    PortId(10 * (index.0 + 1))
}

/// Containers A, B and C, guarded; IPv4 and IPv6; `icc` on.
pub(super) fn spec() -> NetworkSpec {
    let port = |at, mac, ipv4, ipv6| PortSpec {
        id: id(at),
        mac,
        ipv4: Some(ipv4),
        ipv6: Some(ipv6),
        guard: true,
        learn: false,
        published: Default::default(),
    };
    NetworkSpec {
        settings: NetworkSettings {
            gateway_mac: GATEWAY_MAC,
            gateway4: GATEWAY4,
            gateway6: Some(GATEWAY6),
            host4: None,
            host6: None,
            uplink: Default::default(),
            subnet4: "10.0.0.0/24".parse().unwrap(),
            subnet6: Some("fd00::/64".parse().unwrap()),
            mtu: 1500,
            icc: true,
            policy_generation: 1,
            flood_rate: Rate::of_copies(500, 1500),
        },
        rules: vec![],
        ports: vec![port(A, A_MAC, A4, A6), port(B, B_MAC, B4, B6), port(C, C_MAC, C4, C6)],
    }
}

/// [`spec`] with `icc` off and these rules.
pub(super) fn isolated(rules: &[(PortIndex, PortIndex, Option<RulePort>)]) -> NetworkSpec {
    let rules = rules.iter().map(|&(from, to, port)| Rule { from: id(from), to: id(to), port }).collect();
    let mut spec = NetworkSpec { rules, ..spec() };
    spec.settings.icc = false;
    spec
}

/// [`spec`] with the ports `opaque` unguarded and learning.
pub(super) fn nested(opaque: &[PortIndex]) -> NetworkSpec {
    let mut spec = spec();
    for at in opaque {
        spec.ports[at.get()].guard = false;
        spec.ports[at.get()].learn = true;
    }
    spec
}

/// A network, its senders' budgets, and the time.
pub(super) struct Lan {
    pub(super) network: Network,
    limiters: Vec<Limiter>,
    pub(super) scratch: Scratch,
    pub(super) now: Instant,
}

impl Lan {
    pub(super) fn new(spec: NetworkSpec) -> Self {
        let now = Instant(1_000_000_000_000);
        Lan {
            limiters: spec.ports.iter().map(|_| Limiter::new(spec.settings.flood_rate, now)).collect(),
            scratch: Scratch::with_ports(spec.ports.len()),
            network: Network::new(spec, Arc::new(Tables::new(FdbLimits::default()))),
            now,
        }
    }

    /// What control does: another spec over the same tables.
    pub(super) fn publish(&mut self, spec: NetworkSpec) {
        self.network = Network::new(spec, self.network.tables().clone());
    }

    /// `icc` rules of the next generation.
    pub(super) fn publish_rules(&mut self, rules: &[(PortIndex, PortIndex, Option<RulePort>)]) {
        let mut spec = isolated(rules);
        spec.settings.policy_generation = self.network.settings().policy_generation + 1;
        self.publish(spec);
    }

    pub(super) fn wait(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
    }

    /// The decision on a plain frame; recipients are checked to be sane.
    pub(super) fn send(&mut self, from: PortIndex, bytes: &[u8]) -> Decision {
        self.offer(from, bytes, Offload::NONE)
    }

    /// The decision on a frame with an offload header.
    pub(super) fn send_offloaded(&mut self, from: PortIndex, (bytes, header): &(Vec<u8>, OffloadHeader)) -> Decision {
        let frame = Frame::parse(bytes).unwrap();
        let offload = Offload::check(*header, &frame, self.network.settings().mtu).unwrap();
        self.offer(from, bytes, offload)
    }

    fn offer(&mut self, from: PortIndex, bytes: &[u8], offload: Offload) -> Decision {
        let frame = Frame::parse(bytes).unwrap();
        let limiter = &mut self.limiters[from.get()];
        let decision = self.network.ingress(from, limiter, &frame, &offload, self.now, &mut self.scratch);
        match decision {
            Decision::Unicast(to) => assert_ne!(to, from, "invariant 1"),
            Decision::Flood => {
                let recipients = &self.scratch.recipients;
                assert!(!recipients.is_empty() && !recipients.contains(&from), "invariant 1");
                assert!(recipients.is_sorted_by(|a, b| a < b), "each once, in a defined order");
            }
            Decision::Answer => assert!(Frame::parse(&self.scratch.answer).is_ok(), "a well-formed answer"),
            Decision::Local | Decision::Drop(_) => {}
        }
        decision
    }

    /// Who gets the flood that was decided last.
    pub(super) fn recipients(&self) -> &[PortIndex] {
        &self.scratch.recipients
    }

    /// A TCP segment between two of A, B and C.
    pub(super) fn tcp(&mut self, from: PortIndex, to: PortIndex, src_port: u16, dst_port: u16, flags: u8) -> Decision {
        let frame =
            testing::tcp4(mac_of(from), mac_of(to), ip4_of(from), ip4_of(to), src_port, dst_port, flags, b"data");
        self.send(from, &frame)
    }

    /// A UDP datagram between two of A, B and C.
    pub(super) fn udp(&mut self, from: PortIndex, to: PortIndex, src_port: u16, dst_port: u16) -> Decision {
        let frame = testing::udp4(mac_of(from), mac_of(to), ip4_of(from), ip4_of(to), src_port, dst_port, b"data");
        self.send(from, &frame)
    }
}

pub(super) fn mac_of(index: PortIndex) -> Mac {
    [A_MAC, B_MAC, C_MAC][index.get()]
}

pub(super) fn ip4_of(index: PortIndex) -> Ipv4Addr {
    [A4, B4, C4][index.get()]
}

pub(super) fn ip6_of(index: PortIndex) -> Ipv6Addr {
    [A6, B6, C6][index.get()]
}

/// The addresses of a frame's IP packet, for the tests of the tables.
pub(super) fn addresses(bytes: &[u8]) -> (IpAddr, IpAddr) {
    match Frame::parse(bytes).unwrap().payload {
        crate::frame::Payload::Ip(packet) => (packet.src, packet.dst),
        other => panic!("no IP packet: {other:?}"),
    }
}

pub(super) const fn drop(reason: DropReason) -> Decision {
    Decision::Drop(reason)
}
