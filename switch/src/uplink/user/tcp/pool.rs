//! Buffers for bytes that a socket does not take at once: used again, so that a steady transfer allocates nothing.

use std::collections::VecDeque;

/// Spare buffers kept. More flows than these rarely wait at once; theirs are freed.
const MAX_SPARE: usize = 8;

/// Buffers of one worker.
#[derive(Debug, Default)]
pub(super) struct Pool {
    spare: Vec<VecDeque<u8>>,
}

impl Pool {
    /// An empty buffer.
    pub(super) fn take(&mut self) -> VecDeque<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes back a buffer that is not needed any more.
    pub(super) fn put(&mut self, mut buffer: VecDeque<u8>) {
        if self.spare.len() < MAX_SPARE && buffer.capacity() > 0 {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}
