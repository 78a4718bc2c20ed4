//! Two ports cabled together, and a broadcast storm.

use std::time::Duration;

use tapswitch::forwarding::DropReason;
use tapswitch::frame::offload::HEADER_LEN;
use tapswitch::port::Cable;

use crate::lan::Lan;
use crate::line::Faults;
use crate::rng::for_seeds;
use crate::stream::{Stream, finish};

/// The flood budget of a port, in full copies a second, and as many at once.
const COPIES: u64 = 500;

fn broadcast(lan: &Lan, from: usize, len: usize) -> Vec<u8> {
    [&[0xff; 6][..], &lan.hosts[from].mac.octets(), &[0x88, 0xb5], &vec![0; len - 14]].concat()
}

#[test]
fn two_guarded_ports_cabled_together_carry_each_flood_once_and_drop_it() {
    let mut lan = Lan::of_hosts(1, 2, Faults::default());
    let (a, b) = Cable::new();
    let looped =
        [lan.attach_plug(0, HEADER_LEN, a.clone(), b.clone(), true), lan.attach_plug(0, HEADER_LEN, b, a, true)];
    let frame = broadcast(&lan, 0, 60);
    (0..10).for_each(|_| lan.hosts[0].line.send(frame.clone()));
    let mut streams = [Stream::open(&mut lan, 0, 1, false, 80, 50_000, 1)];
    finish(&mut lan, "the transfer beside", &mut streams);
    for port in looped {
        let counts = lan.counts(port);
        assert!(counts.tx_frames >= 10);
        assert_eq!(counts.rx_drops[DropReason::SpoofedMac.index()], counts.rx_frames);
    }
    lan.check();
}

#[test]
fn a_loop_of_ports_that_learn_goes_round_within_the_flood_budget_and_disturbs_nobody() {
    for_seeds(6, |seed| {
        let mut lan = Lan::of_hosts(seed, 2, Faults::default());
        let (a, b) = Cable::new();
        let looped = [lan.attach_plug(0, 0, a.clone(), b.clone(), false), lan.attach_plug(0, 0, b, a, false)];
        let mut streams = [Stream::open(&mut lan, 0, 1, false, 80, 60_000, seed)];
        let frame = broadcast(&lan, 0, 1514);
        lan.hosts[0].line.send(frame);
        let start = lan.now;
        lan.run_for(Duration::from_secs(10), |lan| {
            streams[0].pump(lan);
        });
        finish(&mut lan, "the transfer beside", &mut streams);
        let seconds = lan.now.since(start).as_secs() + 1;
        for port in looped {
            let counts = lan.counts(port);
            // Each flood goes to three other ports, and is paid for by the port that it came in at.
            assert!(counts.flooded > 0 && counts.flooded * 3 <= COPIES * (seconds + 1) + 3, "{counts:?}");
        }
        lan.check();
    });
}

#[test]
fn a_storm_at_line_rate_reaches_others_at_the_budget_and_their_transfer_goes_on() {
    for_seeds(6, |seed| {
        let mut lan = Lan::of_hosts(seed, 4, Faults::default());
        let mut streams = [Stream::open(&mut lan, 1, 2, seed % 2 == 1, 80, 200_000, seed)];
        let frame = broadcast(&lan, 0, 1514);
        let (start, mut sent) = (lan.now, 0);
        let seconds = 2;
        lan.run_for(Duration::from_secs(seconds), |lan| {
            (0..64).for_each(|_| lan.hosts[0].line.send(frame.clone()));
            sent += 64;
            streams[0].pump(lan);
        });
        finish(&mut lan, "the transfer beside", &mut streams);
        let counts = lan.counts(lan.hosts[0].port);
        let most = COPIES * (lan.now.since(start).as_secs() + 2) / 3 + 1;
        assert!(counts.flooded <= most, "{} floods, at most {most}", counts.flooded);
        assert!(counts.rx_drops[DropReason::FloodLimit.index()] > 10 * counts.flooded, "{counts:?} of {sent}");
        lan.check();
    });
}
