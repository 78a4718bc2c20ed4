//! The whole way of a frame, from a read to the last write: a worker's turns on cables.

use std::sync::Arc;
use std::time::Duration;

use tapswitch::engine::{Changed, NetworkView, Nobody, Snapshot, Worker};
use tapswitch::forwarding::{DropReason, Instant, PortId};
use tapswitch::frame::OffloadHeader;
use tapswitch::frame::offload::{HEADER_LEN, MAX_SEGMENTS};
use tapswitch::port::{self, Cable, Plug, PortCounts, RxCounters, TxPort};

use super::{A4, A6, B4, B6, allocations_in, arp, echo, frames, network, tcp, udp};

/// A, B and C of [`network`], on cables. A's has the offload header, C's has none.
struct Lan {
    worker: Worker<Snapshot>,
    plugs: Vec<Plug>,
    counters: Vec<(Arc<RxCounters>, Arc<TxPort>)>,
    now: Instant,
    space: Vec<u8>,
}

impl Lan {
    fn new(icc: bool, header_len_of_b: usize) -> Self {
        let now = Instant(1_000_000_000);
        let (mut plugs, mut rx, mut tx) = (Vec::new(), Vec::new(), Vec::new());
        for (id, header_len) in [(1, HEADER_LEN), (2, header_len_of_b), (3, 0)] {
            let (far, near) = Cable::new();
            let (read, write) = port::open_cable(PortId(id), near, header_len, 1);
            plugs.push(far);
            rx.push(read);
            tx.push(write);
        }
        let counters = rx.iter().map(|rx| rx.counters().clone()).zip(tx.iter().cloned()).collect();
        let snapshot = Snapshot::new(vec![NetworkView::new(network(icc), tx)], ());
        let mut worker = Worker::by_hand(0, Arc::new(Snapshot::default()), Nobody);
        worker.adopt(Arc::new(snapshot), &Changed::All, now);
        rx.into_iter().for_each(|rx| worker.take(rx, now));
        Lan { worker, plugs, counters, now, space: vec![0; HEADER_LEN + super::SPACE] }
    }

    /// Sends from A, has it forwarded, takes what comes to anybody; how many copies. A second passes.
    fn round(&mut self, header: &[u8], frame: &[u8]) -> usize {
        self.now = self.now + Duration::from_secs(1);
        assert!(self.plugs[0].send(&[header, frame]));
        while self.worker.turn(self.now) > 0 {}
        let mut copies = 0;
        for plug in &self.plugs {
            while plug.receive(&mut self.space).is_some() {
                copies += 1;
            }
        }
        copies
    }

    fn counts(&self, port: usize) -> PortCounts {
        let (rx, tx) = &self.counters[port];
        let counts = port::counts(rx, tx);
        assert!(counts.ingress_is_conserved() && counts.egress_is_conserved(), "{counts:?}");
        counts
    }

    /// Asserts that each round gives `copies` and that the later ones allocate nothing.
    fn expect(&mut self, header: OffloadHeader, frame: &[u8], copies: usize) {
        let header = bytes_of(header);
        // The first ones make the buffers of the cables, the MACs behind a port, the flow.
        for _ in 0..2 {
            assert_eq!(self.round(&header, frame), copies, "{header:?}");
        }
        let mut sum = 0;
        let count = allocations_in(|| sum = (0..100).map(|_| self.round(&header, frame)).sum());
        assert_eq!((sum, count), (100 * copies, 0), "{header:?}");
    }
}

const NOTHING: OffloadHeader =
    OffloadHeader { flags: 0, gso_type: 0, hdr_len: 0, gso_size: 0, csum_start: 0, csum_offset: 0 };

fn bytes_of(header: OffloadHeader) -> [u8; HEADER_LEN] {
    let [h, g, s, o] = [header.hdr_len, header.gso_size, header.csum_start, header.csum_offset].map(u16::to_le_bytes);
    [header.flags, header.gso_type, h[0], h[1], g[0], g[1], s[0], s[1], o[0], o[1]]
}

#[test]
fn a_unicast_frame_allocates_nothing_with_guard_and_with_icc_and_a_live_flow() {
    for icc in [true, false] {
        let mut lan = Lan::new(icc, HEADER_LEN);
        lan.expect(NOTHING, &tcp(A4.into(), B4.into(), b"payload"), 1);
        lan.expect(NOTHING, &udp(A6.into(), B6.into(), b"payload"), 1);
        assert_eq!((lan.counts(0).unicast, lan.counts(1).tx_frames), (204, 204));
    }
}

#[test]
fn a_frame_with_offload_allocates_nothing_whether_the_receiver_has_it_or_gets_it_cut() {
    for (bytes, header, segments) in frames().into_iter().filter(|(bytes, ..)| bytes[..6] == [2, 0, 0, 0, 0, 2]) {
        // Nor has a kernel to cut one into any number.
        let whole = if segments > MAX_SEGMENTS { segments } else { 1 };
        for (header_len, copies) in [(HEADER_LEN, whole), (0, segments)] {
            // More than fits the cable is lost, and costs no allocation either.
            let mut lan = Lan::new(true, header_len);
            lan.expect(header, &bytes, copies.min(1000));
        }
    }
}

#[test]
fn a_flood_and_an_answer_allocate_nothing() {
    let mut lan = Lan::new(true, 0);
    let mut group = udp(A4.into(), B4.into(), b"to all");
    group[..6].fill(0xff);
    lan.expect(NOTHING, &group, 2);
    lan.expect(NOTHING, &echo(), 1);
    lan.expect(NOTHING, &arp(B4), 1);
    assert_eq!((lan.counts(0).flooded, lan.counts(0).answered), (102, 204));
}

#[test]
fn a_drop_allocates_nothing() {
    let mut lan = Lan::new(false, HEADER_LEN);
    let mut malformed = tcp(A4.into(), B4.into(), b"payload");
    malformed.truncate(30);
    let bad = OffloadHeader { flags: 1, csum_start: 3, ..NOTHING };
    let whole = tcp(A4.into(), B4.into(), b"payload");
    let spoofed = tcp(B4.into(), A4.into(), b"payload");
    let cut = vec![0; super::SPACE];
    for (header, frame, reason) in [
        (NOTHING, &malformed, DropReason::Malformed),
        (bad, &whole, DropReason::BadOffload),
        (NOTHING, &spoofed, DropReason::SpoofedIpv4),
        (NOTHING, &arp(A4), DropReason::Icc),
        (NOTHING, &[&cut[..], &[0; 100]].concat(), DropReason::Truncated),
    ] {
        lan.expect(header, frame, 0);
        assert_eq!(lan.counts(0).rx_drops[reason.index()], 102, "{reason:?}");
    }
}

#[test]
fn a_full_receiver_allocates_nothing() {
    let mut lan = Lan::new(true, HEADER_LEN);
    let frame = tcp(A4.into(), B4.into(), b"payload");
    let mut round = |times: usize| {
        for _ in 0..times {
            assert!(lan.plugs[0].send(&[&[0; HEADER_LEN], &frame]));
            while lan.worker.turn(lan.now) > 0 {}
        }
    };
    round(1000);
    assert_eq!(allocations_in(|| round(100)), 0);
    assert_eq!(lan.counts(1).tx_drops.iter().sum::<u64>(), 100);
}
