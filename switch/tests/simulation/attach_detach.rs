//! Ten thousand ports that come and go under traffic: nothing grows, and the last costs what the first did.

use std::time::{Duration, Instant};

use tapswitch::frame::offload::HEADER_LEN;
use tapswitch::port::Cable;

use crate::lan::Lan;
use crate::line::Faults;
use crate::stream::Stream;

const CYCLES: usize = 10_000;
/// Measured apart.
const PART: usize = CYCLES / 10;

#[test]
fn ten_thousand_attachments_leave_nothing_and_cost_the_same_throughout() {
    let mut lan = Lan::of_hosts(1, 2, Faults::default());
    let mut stream = Stream::open(&mut lan, 0, 1, false, 80, 30_000_000, 1);
    let mut times = Vec::new();
    let mut arrived = 0;
    for cycle in 0..CYCLES {
        let start = Instant::now();
        let (far, near) = Cable::new();
        // Every second one may have any MAC behind it, and shows one of its own.
        let opaque = cycle % 2 == 1;
        let port = lan.attach_plug(0, HEADER_LEN, near, far.clone(), !opaque);
        let mac = if opaque { [2, 1, 0, 0, (cycle >> 8) as u8, cycle as u8] } else { lan.ports[&port].mac().octets() };
        let frame = [&[0; HEADER_LEN][..], &lan.hosts[0].mac.octets(), &mac, &[0x88, 0xb5], &[0; 46]].concat();
        assert!(far.send(&[&frame]));
        lan.turns();
        assert_eq!(lan.learned(0), usize::from(opaque));
        let counts = lan.withdraw(port);
        assert_eq!((counts.rx_frames, counts.unicast), (1, 1));
        times.push(start.elapsed());
        if cycle % 10 == 0 {
            stream.pump(&mut lan);
            lan.step();
            lan.now = lan.now + Duration::from_millis(1);
        }
        if cycle % PART == PART - 1 {
            assert!(stream.arrived() > arrived, "the transfer stands still");
            arrived = stream.arrived();
        }
    }
    assert_eq!((lan.learned(0), lan.ports.len()), (0, 2));
    assert_eq!(lan.highest_slot, 2, "the worker's slots are used again");
    let median = |part: &[Duration]| {
        let mut part = part.to_vec();
        part.sort_unstable();
        part[part.len() / 2]
    };
    let (first, last) = (median(&times[..PART]), median(&times[CYCLES - PART..]));
    // Three times is for a machine with other things to do; growth by ten thousand entries would show tenfold.
    assert!(last < first * 3, "an attachment took {first:?} at first and {last:?} at last");
    lan.check();
}
