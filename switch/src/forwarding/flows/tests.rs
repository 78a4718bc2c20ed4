use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::testing::*;
use super::super::{Decision, DropReason, PortIndex};
use super::*;
use crate::frame::testing::{ACK, FIN, RST, SYN};

const RULE: (PortIndex, PortIndex, Option<RulePort>) = (A, B, Some(RulePort::Tcp(80)));
const GONE: Decision = drop(DropReason::Icc);

/// Packets of one connection of A to B.
struct Connection(Lan);

impl Connection {
    fn new() -> Self {
        Connection(Lan::new(isolated(&[RULE])))
    }

    fn forward(&mut self, flags: u8) {
        assert_eq!(self.0.tcp(A, B, 4000, 80, flags), Decision::Unicast(B));
    }

    fn reply(&mut self, flags: u8) {
        assert_eq!(self.0.tcp(B, A, 80, 4000, flags), Decision::Unicast(A));
    }

    /// No packet of B passes after `seconds` without any.
    fn lives(mut self, seconds: u64) {
        self.0.wait(seconds);
        assert_eq!(self.0.tcp(B, A, 80, 4000, ACK), GONE, "after {seconds} s");
    }

    fn open(mut self) -> Self {
        self.forward(SYN);
        self.reply(SYN | ACK);
        self.forward(ACK);
        self
    }
}

#[test]
fn an_established_connection_may_be_silent_for_7440_s() {
    let mut connection = Connection::new().open();
    connection.0.wait(7439);
    connection.reply(ACK);
    connection.0.wait(7439);
    connection.reply(ACK);
    connection.lives(7440);
}

#[test]
fn a_connection_that_is_not_answered_is_forgotten_after_240_s() {
    let mut connection = Connection::new();
    connection.forward(SYN);
    connection.0.wait(239);
    connection.forward(SYN);
    connection.lives(240);
}

#[test]
fn a_connection_closed_by_both_ends_is_forgotten_after_60_s() {
    let mut connection = Connection::new().open();
    connection.forward(FIN | ACK);
    connection.0.wait(1000);
    connection.reply(ACK); // half closed: B may send on
    connection.reply(FIN | ACK);
    connection.0.wait(59);
    connection.forward(ACK);
    connection.lives(60);
}

#[test]
fn a_reset_connection_is_forgotten_after_10_s() {
    let mut connection = Connection::new().open();
    connection.reply(RST);
    connection.0.wait(9);
    connection.reply(RST);
    connection.lives(10);
}

#[test]
fn a_reset_that_its_receiver_refused_does_not_shorten_the_connection() {
    let mut connection = Connection::new().open();
    connection.reply(RST);
    connection.forward(ACK);
    connection.0.wait(1000);
    connection.reply(ACK);
}

#[test]
fn ports_used_again_make_a_new_connection() {
    let mut connection = Connection::new().open();
    connection.forward(FIN | ACK);
    connection.reply(FIN | ACK);
    connection.forward(SYN);
    connection.0.wait(100);
    connection.reply(SYN | ACK);
    connection.0.wait(7000);
    connection.reply(ACK);
}

#[test]
fn whoever_opens_many_flows_loses_his_own_first() {
    let mut lan = Lan::new(isolated(&[(A, B, None), (C, B, None)]));
    assert_eq!(lan.udp(C, B, 1, 2), Decision::Unicast(B));
    for n in 0..200_000_u32 {
        let [src, dst] = [(n >> 16) as u16 + 100, n as u16];
        assert_eq!(lan.udp(A, B, src, dst), Decision::Unicast(B));
    }
    assert_eq!(lan.udp(B, C, 2, 1), Decision::Unicast(C), "C's flow lives on");
}

#[test]
fn without_rules_there_is_no_table_and_no_flow() {
    let lan = Lan::new(isolated(&[]));
    let way = Way { from: Side::new(id(A), A4.into(), 1), to: Side::new(id(B), B4.into(), 2), protocol: 17 };
    assert!(!lan.network.tables().flows.pass(&way, true, None, &lan.network.policy, lan.now));
}

#[test]
fn a_syn_of_the_other_end_begins_a_connection_of_its_own_where_it_may() {
    let mut lan = Lan::new(isolated(&[(A, B, None), (B, A, None)]));
    lan.tcp(A, B, 4000, 80, FIN | ACK);
    lan.tcp(B, A, 80, 4000, FIN | ACK);
    lan.tcp(B, A, 80, 4000, SYN);
    lan.wait(200);
    lan.publish_rules(&[(B, A, None)]);
    assert_eq!(lan.tcp(A, B, 4000, 80, SYN | ACK), Decision::Unicast(B), "B's flow, and not closed");
}

#[test]
fn a_full_table_takes_six_mebibytes() {
    let entry = size_of::<Option<Entry<FlowKey, Flow>>>();
    assert!(entry * CAPACITY <= 6 << 20, "{entry} bytes each");
}

/// An end of a flow in the model: container and port.
type End = (u32, u16);

/// UDP flows by their words: alive while not idle for 300 s and while their opener may still open them.
#[derive(Default)]
struct Model(BTreeMap<[End; 2], (End, u64)>);

impl Model {
    fn pass(&mut self, from: End, to: End, allows: impl Fn(u32, u32, u16) -> bool, now: u64) -> bool {
        let mut key = [from, to];
        key.sort_unstable();
        let alive = self.0.get(&key).copied().filter(|&(opener, last)| {
            let other = if opener == key[0] { key[1] } else { key[0] };
            now < last + 300 && allows(opener.0, other.0, other.1)
        });
        let opener = alive.map(|(opener, _)| opener).or_else(|| allows(from.0, to.0, to.1).then_some(from));
        match opener {
            Some(opener) => self.0.insert(key, (opener, now)),
            None => self.0.remove(&key),
        };
        opener.is_some()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Packet(u32, u32, u16, u16),
    Wait(u64),
    Rules(Vec<(u32, u32, u16)>),
}

fn any_step() -> impl Strategy<Value = Step> {
    let rule = (0_u32..3, 0_u32..3, 0_u16..3);
    prop_oneof![
        12 => (0_u32..3, 0_u32..3, 0_u16..3, 0_u16..3).prop_map(|(a, b, p, q)| Step::Packet(a, b, p, q)),
        2 => (0_u64..400).prop_map(Step::Wait),
        1 => prop::collection::vec(rule, 1..6).prop_map(Step::Rules),
    ]
}

proptest! {
    #[test]
    fn agrees_with_a_naive_model(steps in prop::collection::vec(any_step(), 0..150)) {
        let mut rules = vec![(0, 1, 1)];
        let to_spec = |rules: &[(u32, u32, u16)]| -> Vec<_> {
            rules.iter().map(|&(a, b, p)| (PortIndex(a), PortIndex(b), Some(RulePort::Udp(p)))).collect()
        };
        let mut lan = Lan::new(isolated(&to_spec(&rules)));
        let mut model = Model::default();
        let mut now = 0;
        for step in steps {
            match step {
                Step::Wait(seconds) => { lan.wait(seconds); now += seconds; }
                Step::Rules(new) => { rules = new; lan.publish_rules(&to_spec(&rules)); }
                Step::Packet(a, b, ..) if a == b => {}
                Step::Packet(a, b, p, q) => {
                    let allows = |from, to, port| rules.contains(&(from, to, port));
                    let want = model.pass((a, p), (b, q), allows, now);
                    let got = lan.udp(PortIndex(a), PortIndex(b), p, q);
                    prop_assert_eq!(got, if want { Decision::Unicast(PortIndex(b)) } else { GONE });
                }
            }
        }
    }
}

#[test]
fn many_threads_use_one_table_without_losing_a_flow() {
    let lan = Lan::new(isolated(&[(A, B, None)]));
    let (flows, policy, now) = (&lan.network.tables().flows, &lan.network.policy, lan.now);
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            scope.spawn(move || {
                for n in 0..2000 {
                    let way = Way {
                        from: Side::new(id(A), A4.into(), thread * 2000 + n),
                        to: Side::new(id(B), B4.into(), 80),
                        protocol: 17,
                    };
                    assert!(flows.pass(&way, true, None, policy, now));
                    assert!(flows.pass(&way.reversed(), false, None, policy, now), "its reply");
                    assert!(flows.quoted(&way, policy, now));
                }
            });
        }
    });
}
