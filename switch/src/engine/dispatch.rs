//! From a frame that was read to the copies of it that are sent.

use super::backlog::Space;
use super::buffers::{READ_SPACE, read_offset};
use super::served::Served;
use super::{Arrival, Forward, Local, Out, Place, Verdict};
use crate::forwarding::{Decision, DropReason, EgressDrop, Instant, PortIndex, Scratch};
use crate::frame::Offload;
use crate::frame::offload::{HEADER_LEN, MAX_SEGMENTS};
use crate::frame::segment::segment;
use crate::port::TxPort;

/// Where copies go: written at once, or queued for the round's one system call.
pub(super) trait Outbox {
    /// Sends `bytes`, offload header first, to `tx`, which stands at `port` of `network`, and counts what became of it.
    /// `bytes` lie in one of the worker's buffers, which is not read into again before the copy was written.
    fn send(&mut self, network: u32, port: PortIndex, tx: &TxPort, bytes: &[u8]);

    /// Has everything written that was sent so far, so that what is written past the outbox does not overtake it.
    fn settle(&mut self);
}

/// What a worker needs at hand for each frame.
#[derive(Debug)]
pub(super) struct Desk<F: Forward> {
    /// The worker's number: which set of counters of a [`TxPort`] is its own.
    pub(super) worker: usize,
    pub(super) scratch: Scratch,
    /// For frames that go out past the outbox.
    pub(super) space: Space,
    /// When the last frame was read.
    pub(super) last_frame: Instant,
    /// It was part of a bulk transfer.
    pub(super) last_was_bulk: bool,
    /// Some frame of this turn was.
    pub(super) saw_bulk: bool,
    /// Takes what is addressed to the switch itself.
    pub(super) local: F::Local,
}

/// A frame longer than this is part of a bulk transfer.
pub(super) const BULK_BYTES: usize = 32 * 1024;

impl<F: Forward> Desk<F> {
    pub(super) fn new(worker: usize, local: F::Local) -> Self {
        Desk {
            worker,
            scratch: Scratch::with_ports(0),
            space: Space::default(),
            last_frame: Instant::default(),
            last_was_bulk: true,
            saw_bulk: false,
            local,
        }
    }

    /// Who takes what is addressed to the switch itself, and how he sends.
    pub(super) fn local<'a>(&'a mut self, forward: &'a F, now: Instant) -> (&'a mut F::Local, Out<'a, F>) {
        (&mut self.local, Out { forward, worker: self.worker, space: &mut self.space, now })
    }

    /// Decides about the `read_len` bytes that were read from `served` into `buffer`, and sends what is to be sent. Whether the
    /// frame was for the switch itself, so that no copy of it lies in the buffer waiting to be written.
    pub(super) fn dispatch(
        &mut self,
        forward: &F,
        served: &mut Served,
        buffer: &mut [u8],
        read_len: usize,
        now: Instant,
        outbox: &mut impl Outbox,
    ) -> bool {
        let Some(place) = served.place else { return false };
        self.last_frame = now;
        self.last_was_bulk = read_len > BULK_BYTES;
        self.saw_bulk |= self.last_was_bulk;
        let header_len = served.rx.header_len();
        let frame_len = read_len.saturating_sub(header_len);
        let verdict = if read_len + read_offset(header_len) >= READ_SPACE {
            Verdict { decision: Decision::Drop(DropReason::Truncated), offload: Offload::NONE }
        } else if served.loses(frame_len, now) {
            Verdict { decision: Decision::Drop(DropReason::RateLimit), offload: Offload::NONE }
        } else {
            if header_len == 0 {
                buffer[..HEADER_LEN].fill(0);
            }
            let bytes = &mut buffer[..HEADER_LEN + frame_len];
            forward.forward(place, &mut served.limiter, bytes, now, &mut self.scratch)
        };
        if verdict.decision != Decision::Drop(DropReason::RateLimit) {
            served.charge(&verdict.offload, frame_len, now);
        }
        let mut decision = verdict.decision;
        if decision == Decision::Local {
            let bytes = &buffer[HEADER_LEN..HEADER_LEN + frame_len];
            let arrival = Arrival { port: served.rx.id(), place, bytes, offload: &verdict.offload };
            let (local, out) = self.local(forward, now);
            if let Err(reason) = local.deliver(arrival, out, now) {
                decision = Decision::Drop(reason);
            }
        }
        served.rx.counters().count(frame_len, &decision);
        match decision {
            Decision::Unicast(port) => {
                let bytes = &buffer[..HEADER_LEN + frame_len];
                self.send(forward, Place { port, ..place }, bytes, &verdict.offload, now, outbox);
            }
            Decision::Flood => {
                let bytes = &buffer[..HEADER_LEN + frame_len];
                for at in 0..self.scratch.recipients.len() {
                    let port = self.scratch.recipients[at];
                    self.send(forward, Place { port, ..place }, bytes, &verdict.offload, now, outbox);
                }
            }
            Decision::Answer => {
                // The request is not needed any more: its buffer carries the answer.
                let end = HEADER_LEN + self.scratch.answer.len();
                buffer[HEADER_LEN..end].copy_from_slice(&self.scratch.answer);
                Offload::NONE.write(&mut buffer[..HEADER_LEN]);
                self.send(forward, place, &buffer[..end], &Offload::NONE, now, outbox);
            }
            Decision::Local | Decision::Drop(_) => {}
        }
        verdict.decision == Decision::Local
    }

    #[inline]
    fn send(
        &mut self,
        forward: &F,
        to: Place,
        bytes: &[u8],
        offload: &Offload,
        now: Instant,
        outbox: &mut impl Outbox,
    ) {
        let tx = forward.tx(to.network, to.port);
        if let Some(shaper) = tx.shaper() {
            // What became of it is counted there.
            let _ = self.space.send_shaped((tx, shaper), offload, &[bytes], self.worker, now);
        } else if takes_whole(tx, bytes.len() - HEADER_LEN, offload) {
            outbox.send(to.network, to.port, tx, bytes);
        } else {
            outbox.settle();
            let frame = &bytes[HEADER_LEN..];
            tx.count(self.worker, frame.len(), finish(tx, frame, offload, &mut self.space.finished));
        }
    }
}

/// Whether `tx` takes a frame of `frame_len` bytes, behind an offload header, as it is.
#[inline]
pub(super) fn takes_whole(tx: &TxPort, frame_len: usize, offload: &Offload) -> bool {
    tx.header_len() == HEADER_LEN && offload.segments(frame_len) <= MAX_SEGMENTS
}

/// Writes `bytes`, offload header first, at once.
pub(super) fn write_whole(tx: &TxPort, bytes: &[u8], offload: &Offload, space: &mut Vec<u8>) -> Result<(), EgressDrop> {
    let frame = &bytes[HEADER_LEN..];
    if takes_whole(tx, frame.len(), offload) { tx.write(bytes) } else { finish(tx, frame, offload, space) }
}

/// To a port without the offload, or cut so fine that no kernel shall do it at once: the sums made, the segments cut. Written at
/// once, since `space` is used again.
pub(super) fn finish(tx: &TxPort, frame: &[u8], offload: &Offload, space: &mut Vec<u8>) -> Result<(), EgressDrop> {
    let mut outcome: Result<(), EgressDrop> = Ok(());
    let emitted = segment(frame, offload, space, |finished| {
        outcome = tx.write_finished(finished);
        outcome.is_ok()
    });
    if emitted == 0 && outcome.is_ok() {
        outcome = Err(EgressDrop::TooBig);
    }
    outcome
}
