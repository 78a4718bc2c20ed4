//! A port's flood budget: a token bucket in bytes. Time is an argument.

use super::Instant;

/// Bytes per second, and at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Refill, in bytes per second.
    pub bytes_per_second: u64,
    /// Most that can be saved up, in bytes.
    pub burst: u64,
}

impl Rate {
    /// `copies` full-sized copies a second on a network whose largest IP packet is `mtu` bytes, one second saved up.
    pub const fn of_copies(copies: u32, mtu: u32) -> Self {
        let bytes = copies as u64 * (mtu as u64 + 14);
        Rate { bytes_per_second: bytes, burst: bytes }
    }
}

/// The bucket. Owned by the worker that owns the port's read side.
#[derive(Debug)]
pub struct Limiter {
    tokens: i64,
    filled: Instant,
}

impl Limiter {
    /// A full bucket.
    pub fn new(rate: Rate, now: Instant) -> Self {
        Limiter { tokens: i64::try_from(rate.burst).unwrap_or(i64::MAX), filled: now }
    }

    /// Takes `bytes` if anything is left; the last taking may overdraw, so that one frame larger than the burst can pass.
    pub fn take(&mut self, bytes: u64, rate: Rate, now: Instant) -> bool {
        let _ = (bytes, rate, now, self.tokens, self.filled);
        unimplemented!()
    }
}
