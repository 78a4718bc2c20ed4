//! Rounds of plain `read` and `write`: where io_uring is not to be had, for cables, and for ports with few frames.
//!
//! One buffer is enough, and stays in the cache: each frame is written before the next is read.
//!
//! A small frame may be answered while it is written: within our write the kernel runs the receiver's stack, which
//! answers pings and acknowledges, and perhaps the receiver right after it. So the answer is looked for where it comes from
//! before the sender is read on; on a busy machine it would otherwise wait for the next look at the poll
//! (docs/benchmarks.md, what was tried).

use super::Forward;
use super::buffers::{Buffers, READ_SPACE, read_offset};
use super::dispatch::{BULK_BYTES, Desk, Outbox};
use super::worker::{MOST_FRAMES, Ports, Reading};
use crate::forwarding::{Instant, PortId, PortIndex};
use crate::port::TxPort;

#[derive(Debug)]
pub(super) struct Plain {
    buffers: Buffers,
}

/// Most answers that are read within one burst: the time that a turn goes by grows old meanwhile.
const MOST_ANSWERS: usize = 4;

/// Writes at once.
struct Direct {
    worker: usize,
    /// Who was written to last, if it was a small frame: whose answer may be there already.
    to: Option<PortId>,
}

impl Outbox for Direct {
    #[inline]
    fn send(&mut self, _network: u32, _port: PortIndex, tx: &TxPort, bytes: &[u8]) {
        tx.count(self.worker, bytes.len() - tx.header_len(), tx.write(bytes));
        self.to = (bytes.len() <= BULK_BYTES).then(|| tx.id());
    }

    fn settle(&mut self) {}
}

impl Plain {
    pub(super) fn new() -> Self {
        Plain { buffers: Buffers::new(1) }
    }

    /// A burst from each active port; how many frames were read.
    pub(super) fn turn<F: Forward>(
        &mut self,
        forward: &F,
        ports: &mut Ports,
        desk: &mut Desk<F>,
        now: Instant,
    ) -> usize {
        ports.rotation().map(|at| self.burst(at, MOST_FRAMES, forward, ports, desk, now)).sum()
    }

    /// A burst from the port at `at` of the rotation, until it has nothing more, or `most` frames were for others than the switch
    /// itself; and what those answer meanwhile to whom a small one went. How many frames were read.
    pub(super) fn burst<F: Forward>(
        &mut self,
        at: usize,
        most: usize,
        forward: &F,
        ports: &mut Ports,
        desk: &mut Desk<F>,
        now: Instant,
    ) -> usize {
        let mut outbox = Direct { worker: desk.worker, to: None };
        let buffer = self.buffers.get_mut(0);
        let (mut from, mut frames, mut outward) = (at, 0, 0);
        // While its answers come, a port does not send in numbers.
        let (mut answers, mut looks) = (0, true);
        'ports: while let Some(served) = ports.active(from) {
            let offset = read_offset(served.rx.header_len());
            let receiver = loop {
                if frames == MOST_FRAMES || outward >= most + answers || answers == MOST_ANSWERS {
                    break 'ports;
                }
                match Reading::of(served.rx.read(&mut buffer[offset..READ_SPACE])) {
                    Reading::Frame(len) => {
                        served.saw_frame(len, now);
                        let is_inward = desk.dispatch(forward, served, buffer, len, now, &mut outbox);
                        frames += 1;
                        outward += usize::from(!is_inward);
                        answers += usize::from(from != at);
                        if served.due(now).is_some() {
                            ports.found_spent(from);
                            return frames;
                        }
                        if looks && let Some(receiver) = outbox.to.take() {
                            break Some(receiver);
                        }
                    }
                    Reading::Empty => {
                        ports.found_empty(from);
                        if from == at {
                            return frames;
                        }
                        break None;
                    }
                    Reading::Gone => {
                        ports.found_gone(from);
                        return frames;
                    }
                }
            };
            match receiver.and_then(|id| ports.activate_sparse(id)) {
                Some(receiver) => from = receiver,
                None => (from, looks) = (at, false),
            }
        }
        if outward == most
            && answers == 0
            && let Some(served) = ports.active(at)
        {
            served.crowd();
        }
        frames
    }
}
