//! A read side as its worker keeps it.

use std::time::Duration;

use super::buffers::READ_SPACE;
use super::{Forward, Place};
use crate::forwarding::{Instant, Limiter, Rate, Standing};
use crate::frame::Offload;
use crate::port::RxPort;

/// The largest depth of a round's reads from one port. Above 8 no gain was measured, and other ports wait longer.
const MAX_DEPTH: u32 = 8;

/// It is so many times as much where all frames are small: what a round costs besides is shared by more of them.
const SMALL_DEEPER: u32 = 2;

/// No frame of more bytes is small.
const SMALL_BYTES: usize = 2048;

/// How long a port is read along with dense ones after its last frame, without waiting for an event: the acknowledgements of
/// a bulk flow come within it.
const LINGER: Duration = Duration::from_micros(100);

/// Rounds in a row with at most one frame of a port, after which it is sparse.
const LEAN_ROUNDS: u32 = 8;

/// How a port's frames come, by which a ring reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Density {
    /// One by one, or for the switch itself: read and written by plain calls. A round trip is then shorter than through the
    /// ring (docs/benchmarks.md, what was tried), and frames for the switch itself, of which no copy waits to be written, share one buffer, which stays in the cache.
    Sparse,
    /// In numbers: read and written with those of other ports by one system call a round.
    Dense {
        /// Reads of the next round; doubles while all succeed.
        depth: u32,
        /// Rounds in a row with at most one frame.
        lean: u32,
    },
}

/// One port of a worker; travels whole when the port changes workers.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) rx: RxPort,
    pub(super) limiter: Limiter,
    /// The limit of its rate, where it has one.
    pace: Option<Pace>,
    /// It is not read before it may send again: frames wait in its device's ring.
    pub(super) held: bool,
    pub(super) place: Option<Place>,
    /// Its place in the worker's list of ports to read.
    pub(super) active: Option<usize>,
    /// Its device is gone and control was told.
    pub(super) gone: bool,
    /// The last read found nothing.
    drained: bool,
    pub(super) density: Density,
    most_depth: u32,
    /// When the last frame was read.
    last_frame: Instant,
    /// Bytes that were read since [`Served::take_bytes`].
    bytes: u64,
    /// Of the largest frame since the last round was counted.
    largest: usize,
}

/// How much is read of a port. What was read has passed, and is owed where it was too much.
#[derive(Debug)]
struct Pace {
    rate: Rate,
    bucket: Limiter,
    /// What waits meanwhile in its device.
    standing: Standing,
}

impl Served {
    pub(super) fn new(rx: RxPort, now: Instant) -> Self {
        let limiter = Limiter::new(Rate { bytes_per_second: 0, burst: 0 }, now);
        let pace = rx.limit().map(|rate| Pace { rate, bucket: Limiter::new(rate, now), standing: Standing::default() });
        // A round is read before it is charged: no more than the burst is owed, or one frame.
        let most_depth = pace.as_ref().map_or(MAX_DEPTH, |pace| {
            u32::try_from(pace.rate.burst / READ_SPACE as u64).unwrap_or(MAX_DEPTH).clamp(1, MAX_DEPTH)
        });
        Served {
            rx,
            limiter,
            pace,
            held: false,
            place: None,
            active: None,
            gone: false,
            drained: false,
            density: Density::Sparse,
            most_depth,
            last_frame: now,
            bytes: 0,
            largest: 0,
        }
    }

    /// A frame was read; whether it is lost, so that its sender hears of a queue that does not end.
    #[inline]
    pub(super) fn loses(&mut self, frame_len: usize, now: Instant) -> bool {
        self.pace.as_mut().is_some_and(|pace| pace.standing.loses(frame_len, now))
    }

    /// There was nothing to read.
    #[inline]
    pub(super) fn saw_nothing(&mut self) {
        self.drained = true;
        if let Some(pace) = &mut self.pace {
            pace.standing.end();
        }
    }

    /// A frame was read: it counts, whatever becomes of it.
    #[inline]
    pub(super) fn charge(&mut self, offload: &Offload, frame_len: usize, now: Instant) {
        if let Some(Pace { rate, bucket, .. }) = &mut self.pace {
            bucket.charge(offload.bytes(frame_len), *rate, now);
        }
    }

    /// When it may send again, where it may not now.
    #[inline]
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        self.pace.as_ref().and_then(|pace| pace.bucket.due(pace.rate, now))
    }

    /// Finds its place in a new publication; its budget starts full when it had none.
    pub(super) fn settle(&mut self, forward: &impl Forward, now: Instant) {
        let place = forward.place_of(self.rx.id());
        if let (None, Some(place)) = (self.place, place) {
            self.limiter = Limiter::new(forward.flood_rate(place.network), now);
        }
        self.place = place;
    }

    /// A read gave `len` bytes.
    pub(super) fn saw_frame(&mut self, len: usize, now: Instant) {
        self.drained = false;
        self.last_frame = now;
        self.bytes += len as u64;
        self.largest = self.largest.max(len);
    }

    /// Bytes that were read since the last call.
    pub(super) fn take_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.bytes)
    }

    pub(super) fn is_sparse(&self) -> bool {
        self.density == Density::Sparse
    }

    /// Reads of the next round.
    pub(super) fn depth(&self) -> u32 {
        match self.density {
            Density::Sparse => 0,
            Density::Dense { depth, .. } => depth,
        }
    }

    /// Frames come in numbers.
    pub(super) fn crowd(&mut self) {
        self.density = Density::Dense { depth: self.most_depth.min(2), lean: 0 };
    }

    /// Of `asked` reads of a round, `read` gave a frame, `inward` of these for the switch itself. A port becomes sparse only when
    /// no copy of its frames waits to be written, which later ones would overtake.
    pub(super) fn count_round(&mut self, asked: usize, read: usize, inward: usize) {
        let most = self.most_depth * if std::mem::take(&mut self.largest) <= SMALL_BYTES { SMALL_DEEPER } else { 1 };
        let Density::Dense { depth, lean } = self.density else { return };
        let lean = if read > 1 { 0 } else { lean + 1 };
        self.density = if read == inward && (read > 0 || lean >= LEAN_ROUNDS) {
            Density::Sparse
        } else if read == asked {
            Density::Dense { depth: (depth * 2).min(most), lean }
        } else {
            Density::Dense { depth: u32::try_from(read.max(1)).expect("at most a round"), lean }
        };
    }

    /// Whether to read it in the next turn too: it has given a frame since a read found nothing; or, though the last read found nothing,
    /// `beside_dense` ports while it may be part of their flows. A cable has no descriptor to wait on, so it is read in every turn.
    pub(super) fn lingers(&self, beside_dense: bool, now: Instant) -> bool {
        let is_near = beside_dense && now.since(self.last_frame) < LINGER;
        !self.gone && (!self.drained || self.rx.fd().is_none() || is_near)
    }
}

#[cfg(test)]
mod tests {
    use tapswitch_netns::{Tap, TapInfo};

    use super::*;
    use crate::forwarding::PortId;
    use crate::port::{Cable, open, open_cable};

    const NOW: Instant = Instant(0);

    fn served() -> Served {
        let (_far, near) = Cable::new();
        Served::new(open_cable(PortId(1), near, 0, 1).0, NOW)
    }

    #[test]
    fn a_dense_port_is_read_twice_as_deep_while_all_reads_give_a_frame_and_deepest_while_they_are_small() {
        let mut port = served();
        assert!(port.is_sparse());
        port.crowd();
        let mut depths = vec![port.depth()];
        for largest in [60, 1500, 1500, 1500, 60_000, 60_000] {
            port.saw_frame(largest, NOW);
            port.count_round(port.depth() as usize, port.depth() as usize, 0);
            depths.push(port.depth());
        }
        assert_eq!(depths, [2, 4, 8, 16, 16, 8, 8]);
        port.count_round(8, 3, 0);
        assert_eq!(port.depth(), 3);
    }

    #[test]
    fn a_port_with_single_frames_becomes_sparse_when_none_of_them_waits_to_be_written() {
        let mut port = served();
        port.crowd();
        (0..LEAN_ROUNDS).for_each(|_| port.count_round(1, 1, 0));
        assert!(!port.is_sparse(), "the last one waits");
        port.count_round(1, 0, 0);
        assert!(port.is_sparse());
    }

    #[test]
    fn a_port_is_waited_for_only_when_the_last_read_found_nothing() {
        let info = TapInfo { ifname: "eth0".into(), header_len: 10, offload: 0 };
        let tap = Tap { fd: std::fs::File::open("/dev/null").unwrap().into(), info };
        let mut port = Served::new(open(PortId(1), tap, 1).0, NOW);
        port.saw_nothing();
        port.saw_frame(60, NOW);
        assert!(port.lingers(false, NOW));
        port.saw_nothing();
        assert!(!port.lingers(false, NOW));
    }

    #[test]
    fn a_round_with_several_frames_begins_the_count_anew() {
        let mut port = served();
        port.crowd();
        (1..LEAN_ROUNDS).for_each(|_| port.count_round(1, 0, 0));
        port.count_round(2, 2, 0);
        (1..LEAN_ROUNDS).for_each(|_| port.count_round(1, 0, 0));
        assert!(!port.is_sparse());
    }

    #[test]
    fn a_port_whose_frames_are_all_for_the_switch_becomes_sparse_at_once() {
        let mut port = served();
        port.crowd();
        port.count_round(2, 2, 1);
        assert!(!port.is_sparse());
        port.count_round(4, 3, 3);
        assert!(port.is_sparse());
    }
}
