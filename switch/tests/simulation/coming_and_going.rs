//! Ports that come and go while others transfer.

use tapswitch::frame::offload::HEADER_LEN;

use crate::lan::Lan;
use crate::line::Faults;
use crate::rng::{Rng, for_seeds};
use crate::stream::{Stream, finish};

#[test]
fn hosts_that_come_talk_and_go_disturb_nobody() {
    for_seeds(16, |seed| {
        let mut chance = Rng::new(seed);
        let mut lan = Lan::of_hosts(seed, 2, Faults::default());
        let mut lasting = [
            Stream::open(&mut lan, 0, 1, false, 80, 1_000_000, seed),
            Stream::open(&mut lan, 1, 0, true, 81, 1_000_000, seed),
        ];
        let mut visit: Option<Stream> = None;
        let mut visits = 0;
        lan.run("the lasting transfers", |lan| {
            match &mut visit {
                None => {
                    let guest = lan.attach(0, if chance.permille(500) { HEADER_LEN } else { 0 });
                    let port = 1000 + visits;
                    visit = Some(Stream::open(lan, guest, chance.below(2), chance.permille(500), port, 20_000, seed));
                    visits += 1;
                }
                Some(stream) => {
                    // Most go in the middle of it.
                    if stream.pump(lan) || chance.permille(200) {
                        visit = None;
                        lan.detach(2);
                    }
                }
            }
            let mut done = true;
            for stream in &mut lasting {
                done &= stream.pump(lan);
            }
            done
        });
        assert!(visits > 3, "{visits}");
        lan.check();
    });
}

#[test]
fn a_receiver_that_never_reads_loses_its_own_frames_only() {
    let mut lan = Lan::of_hosts(1, 3, Faults::default());
    let deaf = lan.hosts.pop().expect("three hosts");
    let mut streams = [Stream::open(&mut lan, 0, 1, false, 80, 100_000, 1)];
    let frame = [&deaf.mac.octets()[..], &lan.hosts[0].mac.octets(), &[0x88, 0xb5], &[0; 46]].concat();
    lan.run("the transfer beside", |lan| {
        (0..100).for_each(|_| lan.hosts[0].line.send(frame.clone()));
        streams[0].pump(lan)
    });
    finish(&mut lan, "nothing is left", &mut streams);
    let counts = lan.counts(deaf.port);
    assert_eq!(counts.tx_frames, 1000, "a cable's length");
    assert!(counts.egress_is_conserved() && counts.tx_decided > 1500, "{counts:?}");
    lan.hosts.push(deaf);
    assert!(lan.not_sent(2, tapswitch::forwarding::EgressDrop::NoMemory) > 500);
    lan.check();
}
