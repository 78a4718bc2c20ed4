//! What a worker sends to ports whose rate has a limit, and what of it waits.
//!
//! Such a port is written by plain calls alone, past the ring, so that what waited and what passes at once keep their order. Which
//! port a worker takes frames out for it notes by its id: when the port is withdrawn nothing here holds on to it.
//!
//! Owned by one worker; the queues are the ports' own ([`Shaper`]).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::buffers::READ_SPACE;
use super::dispatch::write_whole;
use super::{Forward, Place};
use crate::forwarding::{EgressDrop, Instant, PortId};
use crate::frame::Offload;
use crate::frame::offload::HEADER_LEN;
use crate::port::{Admission, Next, Shaper, TxPort, Waiting};

/// Most frames taken out for one port before others have their turn.
const MOST_FRAMES: usize = 32;

/// What a worker sends frames by past its outbox: room to finish them in software, and the ports for which it takes out what waits.
#[derive(Debug)]
pub struct Space {
    /// One frame at a time.
    pub(super) finished: Vec<u8>,
    /// Ports for which this worker takes out what waits, an entry each, when the first of their frames is due.
    due: BinaryHeap<Reverse<(Instant, PortId)>>,
}

impl Default for Space {
    fn default() -> Self {
        Space { finished: Vec::with_capacity(READ_SPACE), due: BinaryHeap::new() }
    }
}

impl Space {
    /// Sends a frame, which is the concatenation of `parts`, offload header first, to a port that has this `shaper`; writes it at
    /// once, or copies it. What became of it is counted, now or later.
    pub(super) fn send_shaped(
        &mut self,
        (tx, shaper): (&TxPort, &Shaper),
        offload: &Offload,
        parts: &[&[u8]],
        worker: usize,
        now: Instant,
    ) -> Result<(), EgressDrop> {
        let frame_len = parts.iter().map(|part| part.len()).sum::<usize>() - HEADER_LEN;
        let cost = offload.bytes(frame_len);
        match shaper.admit(cost, now) {
            Admission::Pass => {
                let outcome = match parts {
                    [whole] => write_whole(tx, whole, offload, &mut self.finished),
                    _ => write_whole(tx, &parts.concat(), offload, &mut self.finished),
                };
                tx.count(worker, frame_len, outcome);
                return outcome;
            }
            Admission::Wait => {
                if let Ok(first_due) = shaper.wait(Waiting { offload: *offload, bytes: parts.concat(), cost }, now) {
                    self.due.extend(first_due.map(|due| Reverse((due, tx.id()))));
                    return Ok(());
                }
            }
            Admission::Full => {}
        }
        tx.count(worker, frame_len, Err(EgressDrop::RateLimit));
        Err(EgressDrop::RateLimit)
    }

    /// Writes what is due; how many frames.
    pub(super) fn take_out(&mut self, forward: &impl Forward, worker: usize, now: Instant) -> usize {
        let mut frames = 0;
        while let Some(&Reverse((due, id))) = self.due.peek()
            && due <= now
        {
            self.due.pop();
            let Some((tx, shaper)) = shaped(forward, id) else { continue };
            let mut later = Some(now);
            for _ in 0..MOST_FRAMES {
                match shaper.next(now) {
                    Next::Send(frame) => {
                        let outcome = write_whole(tx, &frame.bytes, &frame.offload, &mut self.finished);
                        tx.count(worker, frame.bytes.len() - HEADER_LEN, outcome);
                        frames += 1;
                    }
                    Next::Later(due) => {
                        later = Some(due);
                        break;
                    }
                    Next::Done => {
                        later = None;
                        break;
                    }
                }
            }
            self.due.extend(later.map(|due| Reverse((due, id))));
            if later == Some(now) {
                // The rest has its turn with the next call.
                break;
            }
        }
        frames
    }

    /// When the next frame is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((due, _))| *due)
    }

    /// Drops, and counts, what waits for ports that were in `old` and are not in `new`.
    pub(super) fn adopt<F: Forward>(&mut self, old: &F, new: &F, worker: usize) {
        self.due.retain(|Reverse((_, id))| {
            if new.place_of(*id).is_some() {
                return true;
            }
            if let Some((tx, shaper)) = shaped(old, *id) {
                for frame in shaper.clear() {
                    tx.count(worker, frame.bytes.len() - HEADER_LEN, Err(EgressDrop::Gone));
                }
            }
            false
        });
    }
}

fn shaped(forward: &impl Forward, id: PortId) -> Option<(&TxPort, &Shaper)> {
    let Place { network, port } = forward.place_of(id)?;
    let tx = forward.tx(network, port);
    Some((tx, tx.shaper()?))
}
