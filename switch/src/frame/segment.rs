//! Cuts a frame into segments and completes checksums, for a port without the offload.

use super::Offload;

/// Makes of `frame` (no offload header) what a plain port can take, calling `emit` with each finished frame in order:
/// segments cut, lengths, ids, sequence numbers and flags set, every sum made. `space` holds the frame being made and is
/// reused; its capacity must be made beforehand. Stops at the first `emit` that returns false.
///
/// Returns how many frames were emitted.
pub fn segment(frame: &[u8], offload: &Offload, space: &mut Vec<u8>, emit: impl FnMut(&[u8]) -> bool) -> usize {
    let _ = (frame, offload, space, emit);
    unimplemented!()
}
