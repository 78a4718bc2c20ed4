//! Hosts whose rate has a limit: it holds, it is reached, and nobody else pays for it.

use std::time::Duration;

use tapswitch::forwarding::{DropReason, EgressDrop, Rate};
use tapswitch::frame::offload::HEADER_LEN;
use tapswitch::port::Limits;

use crate::lan::Lan;
use crate::line::Faults;
use crate::rng::for_seeds;
use crate::stream::{Stream, finish};

/// A million bytes a second.
const LIMIT: Rate = Rate { bytes_per_second: 1_000_000, burst: 65_536 };
const OF_WHAT_IT_SENDS: Limits = Limits { rx: Some(LIMIT), tx: None };
const OF_WHAT_IT_GETS: Limits = Limits { rx: None, tx: Some(LIMIT) };

/// A host with `limits`, and one without.
fn lan(seed: u64, limits: Limits, header_len: usize) -> Lan {
    let mut lan = Lan::new(seed, 1, Faults::default());
    lan.limits = limits;
    lan.attach(0, header_len);
    lan.limits = Limits::default();
    lan.attach(0, HEADER_LEN - header_len);
    lan
}

#[test]
fn tcp_settles_at_the_limit_of_either_direction() {
    const BYTES: usize = 2_000_000;
    for_seeds(8, |seed| {
        let limits = if seed % 2 == 0 { OF_WHAT_IT_SENDS } else { OF_WHAT_IT_GETS };
        let mut lan = lan(seed, limits, if seed % 4 < 2 { HEADER_LEN } else { 0 });
        let start = lan.now;
        let stream = Stream::open(&mut lan, 0, 1, seed % 3 == 0, 80, BYTES, seed);
        finish(&mut lan, "a transfer", &mut [stream]);
        let took = lan.now.since(start);
        // Less the burst; more the headers, the acknowledgements of the other way, and what smoltcp, which has neither SACK nor
        // congestion control, makes of a loss.
        let (least, most) = (Duration::from_millis(1934), Duration::from_millis(4000));
        assert!((least..most).contains(&took), "{BYTES} bytes in {took:?} with {limits:?}");
        lan.check();
    });
}

#[test]
fn a_burst_waits_in_its_sender_s_device_and_is_not_lost() {
    for_seeds(4, |seed| {
        let mut lan = lan(seed, OF_WHAT_IT_SENDS, HEADER_LEN);
        let to = lan.hosts[1].address(false);
        let (mut sent, mut arrived) = (0, 0);
        lan.run("all arrive", |lan| {
            if sent < 120 {
                (0..4).for_each(|_| lan.hosts[0].send_datagram(to, &[0; 1000]));
                sent += 4;
            }
            while lan.hosts[1].receive_datagram().is_some() {
                arrived += 1;
            }
            arrived == 120
        });
        lan.check();
    });
}

#[test]
fn a_sender_whose_queue_does_not_end_loses_a_frame_now_and_then() {
    for_seeds(4, |seed| {
        let mut lan = lan(seed, OF_WHAT_IT_SENDS, HEADER_LEN);
        let to = lan.hosts[1].address(false);
        let mut arrived = 0;
        lan.run_for(Duration::from_secs(1), |lan| {
            // In a millisecond, which is at least that long: 2 MB a second.
            (0..2).for_each(|_| lan.hosts[0].send_datagram(to, &[0; 1000]));
            arrived += std::iter::from_fn(|| lan.hosts[1].receive_datagram()).count();
        });
        assert!((900..=1025).contains(&arrived), "{arrived} of 1042 bytes in a second");
        let lost = lan.dropped(0, DropReason::RateLimit);
        assert!((10..=20).contains(&lost), "{lost} lost");
        lan.check();
    });
}

#[test]
fn what_is_too_much_for_a_host_is_dropped_by_name_and_others_get_theirs() {
    for_seeds(4, |seed| {
        let mut lan = lan(seed, OF_WHAT_IT_GETS, HEADER_LEN);
        lan.attach(0, 0);
        let (slow, fast) = (lan.hosts[0].address(false), lan.hosts[2].address(false));
        // A host asks for one neighbour at a time.
        for (to, at) in [(slow, 0), (fast, 2)] {
            lan.run("a datagram arrives", |lan| {
                lan.hosts[1].send_datagram(to, &[0; 100]);
                lan.hosts[at].receive_datagram().is_some()
            });
        }
        let (mut to_slow, mut to_fast) = (0, 0);
        lan.run_for(Duration::from_secs(1), |lan| {
            // In a millisecond, which is at least that long: 5 MB a second.
            for _ in 0..5 {
                lan.hosts[1].send_datagram(slow, &[0; 1000]);
            }
            lan.hosts[1].send_datagram(fast, &[0; 100]);
            while lan.hosts[0].receive_datagram().is_some() {
                to_slow += 1;
            }
            while lan.hosts[2].receive_datagram().is_some() {
                to_fast += 1;
            }
        });
        // The burst beside the rate; each has 42 bytes of headers.
        assert!((900..=1025).contains(&to_slow), "{to_slow} of 1042 bytes in a second");
        assert!(to_fast >= 900, "{to_fast} of 1000");
        assert!(lan.not_sent(0, EgressDrop::RateLimit) > 3000);
        assert_eq!(lan.not_sent(2, EgressDrop::RateLimit), 0);
        lan.check();
    });
}

#[test]
fn what_waits_for_a_host_that_goes_is_counted() {
    let mut lan = lan(1, OF_WHAT_IT_GETS, HEADER_LEN);
    let (to, port) = (lan.hosts[0].address(false), lan.hosts[0].port);
    let mut sent = 0;
    lan.run("frames wait", |lan| {
        for _ in 0..50 {
            lan.hosts[1].send_datagram(to, &[0; 1000]);
        }
        sent += 50;
        sent == 200
    });
    let counts = lan.withdraw(port);
    assert!(counts.tx_drops[EgressDrop::Gone.index()] > 10, "{counts:?}");
}
