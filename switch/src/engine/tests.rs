//! What a worker does, on cables and on socket pairs.

use std::sync::Arc;

use super::buffers::READ_SPACE;
use super::rounds::Rounds;
use super::testing::{
    BOTH, NOW, address, finish, frame, mac, on_cables, on_limited_sockets, on_sockets, received, send,
};
use super::worker::MOST_FRAMES;
use super::{Changed, IoChoice, Nobody, Snapshot, Worker};
use crate::forwarding::{DropReason, PortId, Rate};
use crate::frame::offload::HEADER_LEN;
use crate::frame::{Mac, testing};
use crate::port::{self, Cable, Limits};

#[test]
fn floods_of_any_width_leave_room_for_the_next_reads() {
    // Eight frames a round are copied to all others: 208 to 272 writes, around the 256 that the ring holds.
    for io in BOTH {
        for count in 27..=35 {
            let (ports, mut worker, fars) = on_sockets(count, io);
            let frames = 31;
            (0..frames).for_each(|_| send(&fars[0], &frame(1, Mac::BROADCAST)));
            finish(&mut worker);
            for (at, far) in fars.iter().enumerate().skip(1) {
                assert_eq!((received(far), ports.counts(at).tx_frames), (frames, frames as u64), "{io:?} {count}");
            }
            assert_eq!(ports.counts(0).flooded, frames as u64);
        }
    }
}

#[test]
fn both_ways_of_io_keep_the_order_of_frames() {
    for io in BOTH {
        let (_, mut worker, fars) = on_sockets(2, io);
        for n in 0..100_u8 {
            let mut bytes = frame(1, mac(2));
            bytes[20] = n;
            send(&fars[0], &bytes);
        }
        finish(&mut worker);
        let mut buffer = [0; 2048];
        for n in 0..100 {
            nix::unistd::read(&fars[1], &mut buffer).unwrap();
            assert_eq!(buffer[HEADER_LEN + 20], n, "{io:?}");
        }
    }
}

#[test]
fn frames_keep_their_order_while_a_port_becomes_dense_and_sparse_again() {
    for io in BOTH {
        let (_, mut worker, fars) = on_sockets(2, io);
        let mut count = 0_u32;
        for burst in [1, 1, 9, 40, 1].into_iter().chain([1; 20]).chain([0; 10]).chain([6, 1, 1, 33, 0, 1]) {
            for _ in 0..burst {
                let mut bytes = frame(1, mac(2));
                bytes[20..24].copy_from_slice(&count.to_be_bytes());
                send(&fars[0], &bytes);
                count += 1;
            }
            // Not until all is written: what waits must not be overtaken by what comes next.
            worker.ports.activate(0);
            worker.turn(NOW);
        }
        finish(&mut worker);
        let mut buffer = [0; 2048];
        for n in 0..count {
            nix::unistd::read(&fars[1], &mut buffer).unwrap();
            assert_eq!(buffer[HEADER_LEN + 20..][..4], n.to_be_bytes(), "{io:?}");
        }
        assert_eq!(received(&fars[1]), 0);
    }
}

#[test]
fn what_a_receiver_answers_at_once_is_read_before_more_of_the_sender() {
    for io in BOTH {
        let (ports, mut worker, fars) = on_sockets(2, io);
        finish(&mut worker);
        (0..2).for_each(|_| send(&fars[0], &frame(1, mac(2))));
        send(&fars[1], &frame(2, mac(1)));
        // Of the answer nobody tells.
        worker.ports.activate(0);
        assert_eq!(worker.turn(NOW), 3, "{io:?}");
        assert_eq!((ports.counts(0).tx_frames, ports.counts(1).tx_frames), (1, 2));
    }
}

#[test]
fn a_sender_is_read_in_numbers_unless_it_is_answered() {
    for (answers, is_sparse) in [(0, false), (1, true)] {
        let (_, mut worker, fars) = on_sockets(2, IoChoice::Uring);
        finish(&mut worker);
        (0..8).for_each(|_| send(&fars[0], &frame(1, mac(2))));
        (0..answers).for_each(|_| send(&fars[1], &frame(2, mac(1))));
        worker.ports.activate(0);
        worker.turn(NOW);
        assert_eq!(worker.ports.served(0).unwrap().is_sparse(), is_sparse, "{answers} answers");
        finish(&mut worker);
        assert_eq!((received(&fars[0]), received(&fars[1])), (answers, 8));
    }
}

#[test]
fn who_is_asked_without_end_is_still_asked_in_turn() {
    for io in BOTH {
        let (ports, mut worker, fars) = on_sockets(3, io);
        finish(&mut worker);
        (0..100).for_each(|_| send(&fars[0], &frame(1, mac(2))));
        (0..100).for_each(|_| send(&fars[1], &frame(2, mac(1))));
        worker.ports.activate(0);
        assert!((3..=MOST_FRAMES).contains(&worker.turn(NOW)), "{io:?}");
        send(&fars[2], &frame(3, mac(1)));
        worker.ports.activate(2);
        worker.turn(NOW);
        assert_eq!(ports.counts(2).rx_frames, 1, "{io:?}");
        finish(&mut worker);
        assert_eq!((received(&fars[0]), received(&fars[1])), (101, 100), "{io:?}");
    }
}

#[test]
fn the_core_is_offered_to_receivers_of_many_small_frames_and_not_of_bulk() {
    let (_, mut worker, plugs) = on_cables(2, 0);
    for (small, bulk, offers) in [(1, 0, false), (8, 0, true), (7, 1, false), (8, 0, true)] {
        (0..small).for_each(|_| assert!(plugs[0].send(&[&frame(1, mac(2))])));
        (0..bulk).for_each(|_| assert!(plugs[0].send(&[&frame(1, mac(2)), &[0; 60_000]])));
        let frames = worker.turn(NOW);
        assert_eq!((frames, worker.may_flood(frames)), (small + bulk, offers), "{small} small and {bulk} of bulk");
    }
}

#[test]
fn of_ports_that_are_busy_every_second_is_given_away() {
    let (_, mut worker, fars) = on_sockets(4, IoChoice::Plain);
    let bring = |worker: &mut Worker<Snapshot>, frames: [usize; 4]| {
        for (at, count) in frames.into_iter().enumerate() {
            (0..count).for_each(|_| send(&fars[at], &frame(at as u32 + 1, mac(254))));
            worker.ports.activate(at);
        }
        worker.turn(NOW);
        for at in 0..4 {
            worker.ports.activate(at);
        }
        worker.ports.every_second_busy()
    };
    assert_eq!(bring(&mut worker, [16, 1, 1, 0]).len(), 0, "the others only acknowledge");
    assert_eq!(bring(&mut worker, [16, 1, 16, 0]).len(), 1);
    assert_eq!(bring(&mut worker, [16, 2, 16, 16]).len(), 2);
}

#[test]
fn frames_for_the_switch_between_others_leave_each_as_it_was_and_in_order() {
    for io in BOTH {
        let (ports, mut worker, fars) = on_sockets(3, io);
        let question = |from| testing::udp4(mac(from), mac(254), address(from), address(254), 1000, 53, b"?");
        let mut sent = [Vec::new(), Vec::new()];
        for n in 0..90_u8 {
            for (from, sent) in [1, 2].into_iter().zip(&mut sent) {
                // At first nothing else, then some runs of one and of three.
                if n < 20 || ![3, 6, 7, 8].contains(&(n % 10)) {
                    send(&fars[from as usize - 1], &question(from));
                    continue;
                }
                let mut bytes = frame(from, mac(3));
                bytes[20] = n;
                send(&fars[from as usize - 1], &bytes);
                sent.push(n);
            }
            if n % 7 == 0 {
                finish(&mut worker);
                (0..2).for_each(|slot| worker.ports.activate(slot));
            }
        }
        finish(&mut worker);
        let (mut buffer, mut got) = ([0; 2048], [Vec::new(), Vec::new()]);
        while nix::unistd::read(&fars[2], &mut buffer).is_ok() {
            let from = if buffer[HEADER_LEN + 6..][..6] == mac(1).octets() { 0 } else { 1 };
            got[from].push(buffer[HEADER_LEN + 20]);
        }
        assert_eq!(got, sent, "{io:?}");
        for at in 0..2 {
            let for_us = ports.counts(at).rx_drops[DropReason::NoService.index()];
            assert_eq!((for_us, ports.counts(at).rx_frames), (90 - 28, 90), "{io:?}");
        }
    }
}

#[test]
fn a_port_with_much_to_send_does_not_keep_another_waiting() {
    for io in BOTH {
        let (ports, mut worker, fars) = on_sockets(12, io);
        // Eleven that always have more to send than a round holds, and one that has a single frame.
        for from in 1..=11 {
            (0..100).for_each(|_| send(&fars[from as usize - 1], &frame(from, mac(250))));
        }
        // Their depth grows before the twelfth begins.
        for _ in 0..4 {
            worker.turn(NOW);
        }
        send(&fars[11], &frame(12, mac(1)));
        worker.ports.activate(11);
        let mut turns = 0;
        while ports.counts(11).rx_frames == 0 {
            worker.turn(NOW);
            turns += 1;
            assert!(turns <= 12, "{io:?}: not in {turns} turns of a rotation of 12");
        }
        finish(&mut worker);
        assert!((0..11).all(|at| ports.counts(at).rx_frames == 100), "{io:?}");
        assert_eq!(received(&fars[0]), 1);
    }
}

#[test]
fn a_worker_does_not_rest_before_it_has_read_every_port() {
    // Two become so deep that they fill a round, and end while the third has more.
    for count in [[52, 34, 34], [34, 52, 34], [34, 34, 52]] {
        let (ports, mut worker, fars) = on_sockets(3, IoChoice::Uring);
        finish(&mut worker);
        for (at, count) in count.into_iter().enumerate() {
            (0..count).for_each(|_| send(&fars[at], &frame(at as u32 + 1, mac(250))));
            worker.ports.activate(at);
        }
        finish(&mut worker);
        assert_eq!([0, 1, 2].map(|at| ports.counts(at).rx_frames), count);
    }
}

#[test]
fn a_port_that_changes_workers_keeps_the_order_of_its_frames() {
    let (ports, mut one, fars) = on_sockets(2, IoChoice::Uring);
    let mut other = Worker::new(1, ports.snapshot(), Rounds::plain(), Nobody);
    finish(&mut one);
    for n in 0..40 {
        let mut bytes = frame(1, mac(2));
        bytes[20] = n;
        send(&fars[0], &bytes);
    }
    one.ports.activate(0);
    let before = one.turn(NOW);
    assert!((1..40).contains(&before), "{before} frames");
    let (served, baggage) = one.let_go(0).unwrap();
    other.take_served(served, baggage, NOW);
    finish(&mut other);
    finish(&mut one);
    let mut buffer = [0; 2048];
    for n in 0..40 {
        nix::unistd::read(&fars[1], &mut buffer).unwrap();
        assert_eq!(buffer[HEADER_LEN + 20], n);
    }
}

#[test]
fn a_read_that_fills_the_buffer_was_cut_and_is_dropped() {
    for header_len in [0, HEADER_LEN] {
        let (ports, mut worker, plugs) = on_cables(2, header_len);
        for len in [READ_SPACE - HEADER_LEN - 1, READ_SPACE - HEADER_LEN, 80_000] {
            let mut bytes = frame(1, mac(2));
            bytes.resize(len, 0);
            assert!(plugs[0].send(&[&[0; HEADER_LEN][..header_len], &bytes]));
        }
        finish(&mut worker);
        let drops = ports.counts(0).rx_drops;
        assert_eq!((drops[DropReason::Truncated.index()], drops[DropReason::TooBig.index()]), (2, 1), "{header_len}");
    }
}

#[test]
fn a_read_shorter_than_the_header_is_malformed() {
    let (ports, mut worker, plugs) = on_cables(2, HEADER_LEN);
    for len in 1..HEADER_LEN + 14 {
        assert!(plugs[0].send(&[&vec![0; len]]));
    }
    finish(&mut worker);
    let counts = ports.counts(0);
    assert_eq!(counts.rx_drops[DropReason::Malformed.index()], (HEADER_LEN + 14 - 1) as u64);
    assert_eq!(counts.rx_bytes, (0..14).sum::<u64>());
}

#[test]
fn a_publication_drops_the_ports_that_it_does_not_name_and_their_slots_are_used_again() {
    let (mut ports, mut worker, plugs) = on_cables(3, 0);
    ports.tx.remove(1);
    let removed = ports.rx.remove(1);
    let slots = worker.adopt(ports.snapshot(), &Changed::All, NOW);
    assert_eq!(slots, [1]);
    slots.into_iter().for_each(|slot| worker.drop_port(slot));
    assert!(plugs[1].send(&[&frame(2, mac(1))]) && plugs[2].send(&[&frame(3, mac(2))]));
    finish(&mut worker);
    assert_eq!(port::counts(&removed, &ports.tx[0]).rx_frames, 0, "it is not read any more");
    assert_eq!(ports.counts(1).rx_drops[DropReason::UnknownUnicast.index()], 1, "nobody has its MAC any more");

    let (far, near) = Cable::new();
    let rx = ports.add(port::open_cable(PortId(4), near, 0, 1));
    worker.adopt(ports.snapshot(), &Changed::All, NOW);
    worker.take(rx, NOW);
    assert!(far.send(&[&frame(4, mac(1))]));
    finish(&mut worker);
    assert_eq!((ports.counts(2).unicast, plugs[0].waiting()), (1, 1));
    assert!(worker.ports.served(1).is_some() && worker.ports.served(3).is_none());
}

#[test]
fn a_port_that_is_not_published_is_not_taken() {
    let (_, mut worker, _plugs) = on_cables(1, 0);
    let (far, near) = Cable::new();
    let (rx, _) = port::open_cable(PortId(9), near, 0, 1);
    let counters = rx.counters().clone();
    worker.take(rx, NOW);
    assert!(far.send(&[&frame(9, mac(1))]));
    finish(&mut worker);
    assert_eq!(Arc::strong_count(&counters), 1, "its read side was dropped");
}

/// A frame of this file takes 60 ms.
const SLOW: Rate = Rate { bytes_per_second: 1000, burst: 1 };

#[test]
fn a_port_that_sent_too_much_is_not_read_before_that_is_paid_off() {
    for io in BOTH {
        let (ports, mut worker, fars) = on_limited_sockets(2, io, Limits { rx: Some(SLOW), tx: None });
        (0..3).for_each(|_| send(&fars[0], &frame(1, mac(2))));
        let mut now = NOW;
        for passed in 1..=3 {
            (0..4).for_each(|_| _ = worker.turn(now));
            assert_eq!(received(&fars[1]), 1, "{io:?}, frame {passed}");
            // What becomes readable meanwhile does not change that.
            worker.ports.activate(0);
            worker.turn(now);
            let due = worker.deadline().expect("it is due");
            assert!((59..=60).contains(&due.since(now).as_millis()), "{io:?}");
            now = due;
        }
        worker.turn(now);
        assert_eq!(worker.deadline(), None, "nothing is owed, and nothing wakes the thread");
        assert_eq!(ports.counts(0).unicast, 3);
    }
}

#[test]
fn frames_for_a_port_with_a_limit_wait_in_order_and_wake_the_worker_when_due() {
    for io in BOTH {
        let (ports, mut worker, fars) = on_limited_sockets(2, io, Limits { rx: None, tx: Some(SLOW) });
        (0..3).for_each(|_| send(&fars[0], &frame(1, mac(2))));
        finish(&mut worker);
        let mut now = NOW;
        for passed in 1..=3 {
            worker.turn(now);
            assert_eq!(received(&fars[1]), 1, "{io:?}, frame {passed}");
            assert_eq!(ports.counts(1).tx_frames, passed);
            if let Some(due) = worker.deadline() {
                now = due;
            }
        }
        worker.turn(now);
        assert_eq!(worker.deadline(), None, "nothing waits, and nothing wakes the thread");
    }
}
