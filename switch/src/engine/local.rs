//! Where frames for the switch itself go: the gateway's services and the uplinks, which live above the engine.
//!
//! A worker's [`Local`] belongs to that worker's thread alone, and is called between reads: with each frame that was decided to
//! be for it, with what became of descriptors it waits for, and once a turn. What belongs to one port, its flows, moves along
//! as [`Local::Baggage`] when the port changes workers.

use std::fmt::Debug;
use std::sync::Arc;

use mio::{Registry, Waker};

use super::backlog::Space;
use super::dispatch::{finish, takes_whole};
use super::{Changed, Forward, Place};
use crate::forwarding::{DropReason, EgressDrop, Instant, PortId};
use crate::frame::offload::HEADER_LEN;
use crate::frame::{MAX_FRAME, Offload};
use crate::port::TxPort;

/// Tokens from here on are a [`Local`]'s own; below it they are ports.
pub const LOCAL_TOKENS: usize = 1 << 62;

/// Most pieces of one frame's payload.
const MAX_PARTS: usize = 2;

/// Takes what is addressed to the switch itself.
pub trait Local<F: Forward>: Send + 'static {
    /// What a port takes along to another worker.
    type Baggage: Debug + Send + 'static;

    /// Called once, before anything else. Descriptors are registered with `registry` under tokens from [`LOCAL_TOKENS`] on;
    /// `waker` has another thread end the worker's sleep, after which there is a turn.
    fn start(&mut self, registry: Registry, waker: Arc<Waker>);

    /// What is published is new in what `changed` says; what is known of those ports, or of all, is void.
    fn adopt(&mut self, changed: &Changed, out: Out<'_, F>, now: Instant);

    /// A port is served here from now on.
    fn take(&mut self, port: PortId, baggage: Option<Self::Baggage>, out: Out<'_, F>, now: Instant);

    /// A port is not served here any more.
    fn let_go(&mut self, port: PortId) -> Option<Self::Baggage>;

    /// A frame, Ethernet header first, that `arrival`'s port sent to the switch.
    ///
    /// # Errors
    /// Why it went nowhere, which is counted.
    fn deliver(&mut self, arrival: Arrival<'_>, out: Out<'_, F>, now: Instant) -> Result<(), DropReason>;

    /// What became of a registered descriptor.
    fn event(&mut self, token: usize, ready: Ready);

    /// What is due: descriptors that became ready, and timers.
    fn turn(&mut self, out: Out<'_, F>, now: Instant) -> Activity;

    /// When the next timer is due, at the latest.
    fn deadline(&self) -> Option<Instant>;
}

/// A frame and where it came in.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The sender's port.
    pub port: PortId,
    /// Its place.
    pub place: Place,
    /// The frame, without offload header.
    pub bytes: &'a [u8],
    /// The checked offload.
    pub offload: &'a Offload,
}

/// What became of a descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// There is something to read, or an error.
    pub readable: bool,
    /// There is room to write, or an error.
    pub writable: bool,
    /// The other side will send no more.
    pub read_closed: bool,
    /// An urgent byte is in what is to be read.
    pub urgent: bool,
    /// There is an error to fetch.
    pub error: bool,
}

impl From<&mio::event::Event> for Ready {
    fn from(event: &mio::event::Event) -> Self {
        Ready {
            readable: event.is_readable(),
            writable: event.is_writable(),
            read_closed: event.is_read_closed(),
            urgent: event.is_priority(),
            error: event.is_error(),
        }
    }
}

/// What a turn moved, by which the worker decides how to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Activity {
    /// Nothing.
    Idle,
    /// Little: an answer may come soon.
    Small,
    /// Part of a bulk transfer.
    Bulk,
}

/// How a [`Local`] sends to ports.
#[derive(Debug)]
pub struct Out<'a, F> {
    pub(super) forward: &'a F,
    pub(super) worker: usize,
    pub(super) space: &'a mut Space,
    pub(super) now: Instant,
}

impl<'a, F: Forward> Out<'a, F> {
    /// For whoever calls a [`Local`] by hand, as a simulation does. `worker` is whose counters count what is sent, `space` is
    /// where frames are finished for plain ports.
    pub fn by_hand(forward: &'a F, worker: usize, space: &'a mut Space, now: Instant) -> Self {
        Out { forward, worker, space, now }
    }

    /// What is published.
    pub fn forward(&self) -> &'a F {
        self.forward
    }

    /// For another call.
    pub fn again(&mut self) -> Out<'_, F> {
        Out { forward: self.forward, worker: self.worker, space: self.space, now: self.now }
    }

    /// How many bytes the port at `place` takes now without losing one: all, but where its rate has a limit. There too, where nothing
    /// waits, at least one frame of `least`.
    pub fn room(&self, place: Place, least: usize) -> usize {
        self.forward.tx(place.network, place.port).shaper().map_or(usize::MAX, |shaper| shaper.room(least))
    }

    /// Longest frame that the port at `place` takes, in bytes from Ethernet on.
    pub fn longest(&self, place: Place) -> usize {
        self.forward.tx(place.network, place.port).longest()
    }

    /// Sends one frame to the port at `place`: `headers`, from Ethernet to the upper layer, and at most two pieces of payload. `offload`
    /// says what is left to do to it, which is done here where the port has no offload. Counted as a copy sent to
    /// that port.
    ///
    /// # Errors
    /// Why it was not sent: `NoMemory` when the receiver's queue is full, `RateLimit` when that of the limit of its rate is.
    ///
    /// # Panics
    /// When there are more than two pieces.
    pub fn send(
        &mut self,
        place: Place,
        offload: &Offload,
        headers: &[u8],
        payload: &[&[u8]],
    ) -> Result<(), EgressDrop> {
        assert!(payload.len() <= MAX_PARTS, "at most two pieces");
        let tx = self.forward.tx(place.network, place.port);
        let len = headers.len() + payload.iter().map(|part| part.len()).sum::<usize>();
        let mut header = [0; HEADER_LEN];
        offload.write(&mut header);
        if let Some(shaper) = tx.shaper() {
            let parts = [&[&header[..], headers][..], payload].concat();
            return self.space.send_shaped((tx, shaper), offload, &parts, self.worker, self.now);
        }
        // Only the switch's own are longer, whose segments it has chosen.
        if len > MAX_FRAME || takes_whole(tx, len, offload) {
            let outcome = tx.write_parts(&header, headers, payload);
            tx.count(self.worker, len, outcome);
            return outcome;
        }
        self.send_finished(tx, offload, headers, payload)
    }

    /// To a port without the offload: rare, so the whole frame is put together anew.
    fn send_finished(
        &mut self,
        tx: &TxPort,
        offload: &Offload,
        headers: &[u8],
        payload: &[&[u8]],
    ) -> Result<(), EgressDrop> {
        let frame = [&[headers], payload].concat().concat();
        let outcome = finish(tx, &frame, offload, &mut self.space.finished);
        tx.count(self.worker, frame.len(), outcome);
        outcome
    }
}

/// Nobody is there: what is addressed to the switch is dropped.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nobody;

impl<F: Forward> Local<F> for Nobody {
    type Baggage = ();

    fn start(&mut self, _: Registry, _: Arc<Waker>) {}
    fn adopt(&mut self, _: &Changed, _: Out<'_, F>, _: Instant) {}
    fn take(&mut self, _: PortId, _: Option<()>, _: Out<'_, F>, _: Instant) {}
    fn let_go(&mut self, _: PortId) -> Option<()> {
        None
    }
    fn deliver(&mut self, _: Arrival<'_>, _: Out<'_, F>, _: Instant) -> Result<(), DropReason> {
        Err(DropReason::NoService)
    }
    fn event(&mut self, _: usize, _: Ready) {}
    fn turn(&mut self, _: Out<'_, F>, _: Instant) -> Activity {
        Activity::Idle
    }
    fn deadline(&self) -> Option<Instant> {
        None
    }
}
