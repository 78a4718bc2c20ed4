//! A read side as its worker keeps it.

use std::time::Duration;

use super::{Forward, Place};
use crate::forwarding::{Instant, Limiter, Rate};
use crate::port::RxPort;

/// The largest depth of a round's reads from one port. Above 8 no gain was measured, and other ports wait longer.
const MAX_DEPTH: u32 = 8;

/// How long a port is read along with the others after its last frame, without waiting for an event: the acknowledgements of
/// a bulk flow come within it.
const LINGER: Duration = Duration::from_micros(100);

/// One port of a worker; travels whole when the port changes workers.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) rx: RxPort,
    pub(super) limiter: Limiter,
    pub(super) place: Option<Place>,
    /// In the worker's list of ports to read.
    pub(super) active: bool,
    /// Its device is gone and control was told.
    pub(super) gone: bool,
    /// Reads of the next round; doubles while all succeed.
    pub(super) depth: u32,
    /// Its last frames were all for the switch itself.
    pub(super) inward: bool,
    /// When the last frame was read.
    last_frame: Instant,
}

impl Served {
    pub(super) fn new(rx: RxPort, now: Instant) -> Self {
        let limiter = Limiter::new(Rate { bytes_per_second: 0, burst: 0 }, now);
        Served { rx, limiter, place: None, active: false, gone: false, depth: 1, inward: false, last_frame: now }
    }

    /// Finds its place in a new publication; its budget starts full when it had none.
    pub(super) fn settle(&mut self, forward: &impl Forward, now: Instant) {
        let place = forward.place_of(self.rx.id());
        if let (None, Some(place)) = (self.place, place) {
            self.limiter = Limiter::new(forward.flood_rate(place.network), now);
        }
        self.place = place;
    }

    pub(super) fn saw_frame(&mut self, now: Instant) {
        self.last_frame = now;
    }

    /// All reads of the round gave a frame.
    pub(super) fn deepen(&mut self) {
        self.depth = (self.depth * 2).min(MAX_DEPTH);
    }

    /// Whether to read it in the next turn too, though the last read found nothing. A cable has no descriptor to wait on,
    /// so it is read in every turn.
    pub(super) fn lingers(&self, now: Instant) -> bool {
        !self.gone && (self.rx.fd().is_none() || now.since(self.last_frame) < LINGER)
    }
}
