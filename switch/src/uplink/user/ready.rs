//! Flows whose sockets have something for us, in the order in which they became ready.
//!
//! Sockets are edge-triggered: one stays in the queue until it was read empty. One worker owns it.

use std::collections::VecDeque;

use crate::engine::Ready;

/// What a flow's socket has; part of the flow.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pending {
    pub data: bool,
    pub errors: bool,
    queued: bool,
}

impl Pending {
    /// There may be anything.
    pub(crate) fn all() -> Self {
        Pending { data: true, errors: true, queued: false }
    }

    /// It was taken out of the queue.
    pub(crate) fn taken(&mut self) {
        self.queued = false;
    }
}

/// Indices of flows with something pending.
#[derive(Debug, Default)]
pub(crate) struct ReadyQueue(VecDeque<usize>);

impl ReadyQueue {
    /// The socket of flow `index` became ready.
    pub(crate) fn note(&mut self, index: usize, pending: &mut Pending, ready: Ready) {
        pending.data |= ready.readable;
        pending.errors |= ready.error;
        self.push(index, pending);
    }

    /// To be looked at, if anything is pending.
    pub(crate) fn push(&mut self, index: usize, pending: &mut Pending) {
        if (pending.data || pending.errors) && !pending.queued {
            pending.queued = true;
            self.0.push_back(index);
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The next one; who looks at it calls [`Pending::taken`].
    pub(crate) fn pop(&mut self) -> Option<usize> {
        self.0.pop_front()
    }
}
