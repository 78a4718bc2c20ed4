//! icc off and on, allow and deny, while traffic flows.

use std::time::Duration;

use smoltcp::socket::tcp::State;
use tapswitch::forwarding::{DropReason, RulePort};

use crate::lan::{Lan, gateway4};
use crate::line::Faults;
use crate::rng::for_seeds;
use crate::stream::{Stream, finish};

const SOME_LOSS: Faults = Faults { lost: 10, doubled: 5, swapped: 10 };
const WEB: u16 = 80;

#[test]
fn with_icc_off_nothing_passes_but_the_gateway_answers() {
    for_seeds(12, |seed| {
        let mut lan = Lan::of_hosts(seed, 3, Faults::default());
        lan.set_policy(0, false, &[]);
        let other = lan.hosts[1].address(false);
        lan.hosts[1].listen(WEB);
        let socket = lan.hosts[0].connect(other, WEB, 4000);
        let mut answered = false;
        lan.run_for(Duration::from_secs(5), |lan| {
            lan.hosts[0].ping(gateway4(0).into(), 1);
            lan.hosts[0].ping(other, 2);
            let frame = [&[0xff; 6][..], &lan.hosts[0].mac.octets(), &[0x88, 0xb5], &[0; 46]].concat();
            lan.hosts[0].line.send(frame);
            while let Some((seq_no, _)) = lan.hosts[0].pong() {
                assert_eq!(seq_no, 1, "only the gateway may answer");
                answered = true;
            }
        });
        assert!(answered);
        assert_ne!(lan.hosts[0].stream(socket).state(), State::Established);
        assert!(lan.dropped(0, DropReason::Icc) > 0);
        for silent in [1, 2] {
            assert_eq!(lan.hosts[silent].line.traffic.arrived, 0);
        }
        lan.check();
    });
}

#[test]
fn a_rule_opens_one_port_in_one_direction_with_its_replies() {
    for_seeds(16, |seed| {
        let mut lan = Lan::of_hosts(seed, 3, SOME_LOSS);
        lan.set_policy(0, false, &[(0, 1, Some(RulePort::Tcp(WEB)))]);
        let v6 = seed % 2 == 1;
        let mut allowed = [Stream::open(&mut lan, 0, 1, v6, WEB, 40_000, seed)];
        let mut refused = [
            Stream::open(&mut lan, 0, 1, v6, WEB + 1, 1, seed),
            Stream::open(&mut lan, 1, 0, v6, WEB + 2, 1, seed),
            Stream::open(&mut lan, 0, 2, v6, WEB + 3, 1, seed),
            Stream::open(&mut lan, 2, 1, v6, WEB + 4, 1, seed),
        ];
        finish(&mut lan, "the allowed one", &mut allowed);
        lan.run_for(Duration::from_secs(5), |lan| {
            for stream in &mut refused {
                stream.pump(lan);
            }
        });
        assert!(refused.iter().all(|stream| stream.arrived() == 0));
        assert_eq!(lan.hosts[2].line.traffic.arrived, lan.counts(lan.hosts[2].port).answered);
        lan.check();
    });
}

#[test]
fn deny_stops_a_live_flow_at_once_and_allow_lets_it_go_on() {
    for_seeds(16, |seed| {
        let mut lan = Lan::of_hosts(seed, 2, SOME_LOSS);
        let rule = [(0, 1, Some(RulePort::Tcp(WEB)))];
        lan.set_policy(0, false, &rule);
        let mut streams = [Stream::open(&mut lan, 0, 1, false, WEB, 100_000, seed)];
        lan.run("it is under way", |lan| {
            streams[0].pump(lan);
            streams[0].arrived() > 20_000
        });
        for (icc, rules) in [(false, &rule[..]), (true, &[])] {
            lan.set_policy(0, false, &[]);
            // What the switch had sent before may still be taken.
            for host in &mut lan.hosts {
                host.line.take_in();
            }
            let before = [0, 1].map(|at| lan.hosts[at].line.traffic.arrived);
            let answered = |lan: &Lan| [0, 1].map(|at| lan.counts(lan.hosts[at].port).answered);
            let own = answered(&lan);
            lan.run_for(Duration::from_secs(3), |lan| {
                streams[0].pump(lan);
            });
            for at in 0..2 {
                let answers = answered(&lan)[at] - own[at];
                assert_eq!(lan.hosts[at].line.traffic.arrived - before[at], answers, "only the switch's own answers");
            }
            lan.set_policy(0, icc, rules);
            let so_far = streams[0].arrived();
            lan.run("it goes on", |lan| {
                streams[0].pump(lan);
                streams[0].arrived() > so_far + 10_000
            });
        }
        finish(&mut lan, "the rest", &mut streams);
        lan.check();
    });
}
