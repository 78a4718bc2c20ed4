//! A worker's hot buffers.

use crate::frame::MAX_FRAME;
use crate::frame::offload::HEADER_LEN;

/// What one read may fill: a read that fills all of it was cut by the kernel.
pub(super) const READ_SPACE: usize = HEADER_LEN + MAX_FRAME + 1;

/// Distance of two buffers: whole cache lines.
const STRIDE: usize = READ_SPACE.next_multiple_of(64);

/// Fixed buffers in one piece of memory, of which only touched pages are resident. Each holds an offload header and behind it the
/// frame; a frame from a port without the header is read to the same place.
#[derive(Debug)]
pub(super) struct Buffers {
    memory: Box<[u8]>,
}

impl Buffers {
    pub(super) fn new(count: usize) -> Self {
        Buffers { memory: vec![0; count * STRIDE].into_boxed_slice() }
    }

    /// Buffer `at`, of [`READ_SPACE`] bytes.
    pub(super) fn get_mut(&mut self, at: usize) -> &mut [u8] {
        &mut self.memory[at * STRIDE..at * STRIDE + READ_SPACE]
    }
}

/// Where in a buffer a port with `header_len` bytes of offload header is read to.
pub(super) fn read_offset(header_len: usize) -> usize {
    HEADER_LEN - header_len
}
