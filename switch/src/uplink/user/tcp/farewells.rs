//! The last word to flows that are over. When our acknowledgement of a container's FIN is lost, the FIN comes again
//! after the flow is gone, and must not be answered by a reset. Kept for the last flows of a worker only: what TCP's
//! TIME-WAIT is for, without its cost.

use super::sequence::Seq;
use super::table::Key;

/// Flows remembered. The FIN comes again after 200 ms or so; within it a thousand short connections may end.
const MOST: usize = 1024;

/// What is left of a flow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Farewell {
    /// What we sent last, and what we expect.
    pub(super) seq: Seq,
    pub(super) ack: Seq,
}

#[derive(Debug, Default)]
pub(super) struct Farewells {
    last: Vec<(Key, Farewell)>,
    /// The oldest, once there are [`MOST`].
    oldest: usize,
}

impl Farewells {
    pub(super) fn remember(&mut self, key: Key, farewell: Farewell) {
        if self.last.len() < MOST {
            self.last.push((key, farewell));
        } else {
            self.last[self.oldest] = (key, farewell);
            self.oldest = (self.oldest + 1) % MOST;
        }
    }

    /// What to answer a FIN of a flow that is over. Looked through from one end to the other, for it is rarely asked.
    pub(super) fn recall(&self, key: &Key) -> Option<Farewell> {
        self.last.iter().rev().find(|(known, _)| known == key).map(|(_, farewell)| *farewell)
    }
}
