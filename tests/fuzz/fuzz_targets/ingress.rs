//! What containers can make of a network together: sequences of frames through [`Network::ingress`]. Beside "no panic" it
//! holds that each frame gets one sane decision and that nothing reaches whom it must not.
//!
//! Input: settings (1 byte), then frames: sender (1), seconds passed (1), length (2, little endian), bytes. Every frame
//! begins with a MAC pair picked by two bytes, so that the fuzzer need not guess addresses. See Cargo.toml for how to run
//! it.
#![no_main]

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tapswitch::forwarding::{
    Decision, FdbLimits, Instant, Limiter, Network, NetworkSettings, NetworkSpec, PortId, PortIndex, PortSpec, Rate, Rule, Scratch,
    Tables,
};
use tapswitch::frame::{Frame, Mac, Offload};

const PORTS: u8 = 4;
const GATEWAY: Mac = Mac::new([2, 0, 0, 0, 0, 0xfe]);

fuzz_target!(|input: &[u8]| {
    let Some((&settings, mut input)) = input.split_first() else { return };
    let spec = spec(settings);
    let start = Instant(0);
    let mut limiters: Vec<_> = spec.ports.iter().map(|_| Limiter::new(spec.settings.flood_rate, start)).collect();
    let ruled = !spec.rules.is_empty();
    let network = Network::new(spec, Arc::new(Tables::new(FdbLimits::default())));
    let mut scratch = Scratch::with_ports(PORTS.into());
    let mut now = start;
    while let Some((&[from, gap, low, high], rest)) = input.split_first_chunk() {
        let (bytes, rest) = rest.split_at(rest.len().min(u16::from_le_bytes([low, high]).into()));
        input = rest;
        now = now + Duration::from_secs(gap.into());
        let Some(bytes) = addressed(bytes) else { continue };
        let Ok(frame) = Frame::parse(&bytes) else { continue };
        let from = PortIndex(u32::from(from % PORTS));
        let limiter = &mut limiters[from.get()];
        let decision = network.ingress(from, limiter, &frame, &Offload::NONE, now, &mut scratch);
        check(&network, ruled, from, &frame, decision, &scratch);
    }
});

/// Bit 0: icc; bit 1: a rule from the first port to the second; bit 2: the last port is unguarded.
fn spec(settings: u8) -> NetworkSpec {
    let port = |n: u8| {
        let open = n == PORTS - 1 && settings & 4 != 0;
        PortSpec {
            id: PortId(n.into()),
            mac: Mac::new([2, 0, 0, 0, 0, n]),
            ipv4: Some(Ipv4Addr::new(10, 0, 0, n)),
            ipv6: Some(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n.into())),
            guard: !open,
            learn: open,
            published: Default::default(),
        }
    };
    NetworkSpec { settings: NetworkSettings { gateway_mac: GATEWAY, gateway4: Ipv4Addr::new(10, 0, 0, 254), gateway6: Some(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0xfe)), host4: None, host6: None, uplink: Default::default(), subnet4: "10.0.0.0/24".parse().expect("a subnet"), subnet6: Some("fd00::/64".parse().expect("a subnet")), mtu: 1500, icc: settings & 1 != 0, policy_generation: 1, flood_rate: Rate::of_copies(500, 1500), }, rules: if settings & 2 == 0 { vec![] } else { vec![Rule { from: PortId(0), to: PortId(1), port: None }] }, ports: (0..PORTS).map(port).collect(), }
}

/// `bytes` with two MACs in the place of its first two bytes.
fn addressed(bytes: &[u8]) -> Option<Vec<u8>> {
    let (&[dst, src], rest) = bytes.split_first_chunk()?;
    let mac = |n: u8| match n {
        0xff => Mac::BROADCAST,
        0xfd => Mac::new([0x33, 0x33, 0, 0, 0, 1]),
        _ => Mac::new([2, 0, 0, 0, 0, n]),
    };
    Some([&mac(dst).octets()[..], &mac(src).octets(), rest].concat())
}

fn check(
    network: &Network,
    ruled: bool,
    from: PortIndex,
    frame: &Frame<'_>,
    decision: Decision,
    scratch: &Scratch,
) {
    let reached = match decision {
        Decision::Unicast(to) => vec![to],
        Decision::Flood => scratch.recipients.clone(),
        Decision::Answer => {
            let answer = Frame::parse(&scratch.answer).expect("an answer is a frame");
            assert!(!answer.src.is_group());
            vec![]
        }
        Decision::Local | Decision::Drop(_) => vec![],
    };
    assert!(decision != Decision::Flood || !reached.is_empty());
    assert!(!reached.contains(&from), "a frame left by the port it came in on");
    let sender = network.port(from).expect("a port of the network");
    if !reached.is_empty() {
        assert!(frame.src != GATEWAY && !frame.src.is_group() && !frame.dst.is_reserved());
        assert!(!sender.guard || frame.src == sender.mac);
    }
    if !network.settings().icc {
        let related = |to: PortIndex| ruled && from.get() < 2 && to.get() < 2;
        assert!(reached.iter().all(|&to| related(to)), "passed while icc is off");
    }
}
