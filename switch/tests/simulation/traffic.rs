//! Hosts that talk: TCP, UDP and echoes, over good cables and bad ones.

use std::time::Duration;

use smoltcp::wire::IpAddress;
use tapswitch::forwarding::DropReason;
use tapswitch::frame::offload::HEADER_LEN;

use crate::lan::{Lan, gateway4, gateway6};
use crate::line::Faults;
use crate::rng::for_seeds;
use crate::stream::{Stream, finish};

const GOOD: Faults = Faults { lost: 0, doubled: 0, swapped: 0 };
const BAD: Faults = Faults { lost: 20, doubled: 10, swapped: 30 };

/// Pings until a reply comes.
fn reach(lan: &mut Lan, from: usize, to: IpAddress) {
    let (mut seq_no, mut next) = (0, lan.now);
    lan.run(&format!("an echo comes back from {to}"), |lan| {
        if lan.now >= next {
            seq_no += 1;
            lan.hosts[from].ping(to, seq_no);
            next = lan.now + Duration::from_secs(1);
        }
        lan.hosts[from].pong().is_some_and(|(_, source)| source == to)
    });
}

#[test]
fn tcp_both_ways_over_both_families_between_every_pair_of_hosts() {
    for_seeds(12, |seed| {
        let mut lan = Lan::of_hosts(seed, 3, GOOD);
        let mut streams = Vec::new();
        for (n, (from, to)) in [(0, 1), (1, 2), (2, 0)].into_iter().enumerate() {
            for v6 in [false, true] {
                let port = 80 + 2 * n as u16 + u16::from(v6);
                streams.push(Stream::open(&mut lan, from, to, v6, port, 60_000, seed));
            }
        }
        finish(&mut lan, "transfers", &mut streams);
        lan.check();
        assert_eq!(lan.dropped(0, DropReason::BadOffload), 0);
    });
}

#[test]
fn tcp_comes_through_loss_doubling_and_reordering() {
    for_seeds(20, |seed| {
        let mut lan = Lan::of_hosts(seed, 3, BAD);
        let v6 = seed % 2 == 1;
        let mut streams =
            [Stream::open(&mut lan, 0, 1, v6, 80, 50_000, seed), Stream::open(&mut lan, 2, 0, !v6, 81, 50_000, seed)];
        finish(&mut lan, "transfers", &mut streams);
        lan.check();
    });
}

#[test]
fn datagrams_arrive_whole_and_in_order_or_not_at_all() {
    for_seeds(16, |seed| {
        let mut lan = Lan::of_hosts(seed, 2, Faults { lost: 20, ..GOOD });
        let to = lan.hosts[1].address(seed % 2 == 1);
        let payload = |n: u32| [&n.to_be_bytes()[..], &vec![n as u8; (n as usize * 37) % 1400]].concat();
        let (mut sent, mut arrived, mut last) = (0, 0, None);
        lan.run_for(Duration::from_secs(2), |lan| {
            if sent < 300 {
                lan.hosts[0].send_datagram(to, &payload(sent));
                sent += 1;
            }
            while let Some(got) = lan.hosts[1].receive_datagram() {
                let n = u32::from_be_bytes(got[..4].try_into().unwrap());
                assert_eq!(got, payload(n));
                assert!(last.replace(n) < Some(n));
                arrived += 1;
            }
        });
        assert!((250..=300).contains(&arrived), "{arrived} of {sent}");
        lan.check();
    });
}

#[test]
fn the_gateway_and_the_others_answer_echoes() {
    for_seeds(20, |seed| {
        let mut lan = Lan::of_hosts(seed, 2, if seed % 2 == 0 { GOOD } else { BAD });
        for from in 0..2 {
            let targets = [gateway4(0).into(), gateway6(0).into()];
            let other = &lan.hosts[1 - from];
            for to in targets.into_iter().chain([other.address(false), other.address(true)]) {
                reach(&mut lan, from, to);
            }
        }
        lan.check();
    });
}

#[test]
fn two_networks_do_not_hear_each_other() {
    for_seeds(12, |seed| {
        let mut lan = Lan::new(seed, 2, GOOD);
        let hosts: Vec<_> = [(0, HEADER_LEN), (0, 0), (1, HEADER_LEN), (1, 0)]
            .into_iter()
            .map(|(network, header_len)| lan.attach(network, header_len))
            .collect();
        let mut streams: Vec<_> =
            [(0, 1), (2, 3)].map(|(from, to)| Stream::open(&mut lan, from, to, false, 80, 50_000, seed)).into();
        finish(&mut lan, "transfers", &mut streams);
        while lan.step() > 0 {}
        // By the other's MAC, by everybody's, by one that nobody has here.
        let quiet = lan.hosts[2].line.traffic.arrived + lan.hosts[3].line.traffic.arrived;
        for dst in [lan.hosts[2].mac.octets(), [0xff; 6], [0x33, 0x33, 0, 0, 0, 1]] {
            let frame = [&dst[..], &lan.hosts[0].mac.octets(), &[0x88, 0xb5], &[0; 46]].concat();
            lan.hosts[hosts[0]].line.send(frame);
        }
        while lan.step() > 0 {}
        assert_eq!(lan.hosts[2].line.traffic.arrived + lan.hosts[3].line.traffic.arrived, quiet);
        assert_eq!(lan.dropped(0, DropReason::UnknownUnicast), 1);
        lan.check();
    });
}
