//! Rounds of plain `read` and `write`: where io_uring is not to be had, for cables, and for ports with few frames.
//!
//! One buffer is enough, and stays in the cache: each frame is written before the next is read.

use super::Forward;
use super::buffers::{Buffers, READ_SPACE, read_offset};
use super::dispatch::{Desk, Outbox};
use super::worker::{MOST_FRAMES, Ports, Reading};
use crate::forwarding::{Instant, PortIndex};
use crate::port::TxPort;

#[derive(Debug)]
pub(super) struct Plain {
    buffers: Buffers,
}

/// Writes at once.
struct Direct {
    worker: usize,
}

impl Outbox for Direct {
    #[inline]
    fn send(&mut self, _network: u32, _port: PortIndex, tx: &TxPort, bytes: &[u8]) {
        tx.count(self.worker, bytes.len() - tx.header_len(), tx.write(bytes));
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
    /// itself; how many frames were read.
    pub(super) fn burst<F: Forward>(
        &mut self,
        at: usize,
        most: usize,
        forward: &F,
        ports: &mut Ports,
        desk: &mut Desk<F>,
        now: Instant,
    ) -> usize {
        let Some(served) = ports.active(at) else { return 0 };
        let mut outbox = Direct { worker: desk.worker };
        let buffer = self.buffers.get_mut(0);
        let offset = read_offset(served.rx.header_len());
        let (mut frames, mut outward) = (0, 0);
        while frames < MOST_FRAMES && outward < most {
            match Reading::of(served.rx.read(&mut buffer[offset..READ_SPACE])) {
                Reading::Frame(len) => {
                    served.saw_frame(len, now);
                    outward += usize::from(!desk.dispatch(forward, served, buffer, len, now, &mut outbox));
                    frames += 1;
                    if served.due(now).is_some() {
                        ports.found_spent(at);
                        return frames;
                    }
                }
                Reading::Empty => {
                    ports.found_empty(at);
                    return frames;
                }
                Reading::Gone => {
                    ports.found_gone(at);
                    return frames;
                }
            }
        }
        if outward == most {
            served.crowd();
        }
        frames
    }
}
