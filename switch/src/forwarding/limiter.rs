//! A port's flood budget: a token bucket in bytes. Time is an argument.
//!
//! A flood multiplies what one container sends, so it is charged copies x bytes to its sender. Tokens are counted in
//! byte-nanoseconds: refilling is then exact however often it happens, and a flooder that asks a million times a second
//! neither gains nor loses by rounding. Owned by the worker that owns the port's read side: no thread shares it.

use super::Instant;

/// Byte-nanoseconds per byte.
const NANOS: i128 = 1_000_000_000;

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

    const fn full(self) -> i128 {
        self.burst as i128 * NANOS
    }
}

/// The bucket. Owned by the worker that owns the port's read side.
#[derive(Debug)]
pub struct Limiter {
    /// Byte-nanoseconds; below zero after an overdraft.
    tokens: i128,
    filled: Instant,
}

impl Limiter {
    /// A full bucket.
    pub fn new(rate: Rate, now: Instant) -> Self {
        Limiter { tokens: rate.full(), filled: now }
    }

    /// Takes `bytes` if anything is left; the last taking may overdraw, so that one frame larger than the burst can pass.
    /// The debt is then paid off before anything passes again.
    pub fn take(&mut self, bytes: u64, rate: Rate, now: Instant) -> bool {
        // Saturates at zero: a `now` before the last one refills nothing.
        let elapsed = now.since(self.filled).as_nanos();
        self.filled = self.filled.max(now);
        let refill = i128::try_from(elapsed).unwrap_or(i128::MAX).saturating_mul(i128::from(rate.bytes_per_second));
        self.tokens = self.tokens.saturating_add(refill).min(rate.full());
        let left = self.tokens > 0;
        if left {
            self.tokens = self.tokens.saturating_sub(i128::from(bytes) * NANOS);
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RATE: Rate = Rate { bytes_per_second: 1000, burst: 2000 };

    fn at(millis: u64) -> Instant {
        Instant(millis * 1_000_000)
    }

    #[test]
    fn a_full_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Limiter::new(RATE, at(0));
        assert!(bucket.take(1500, RATE, at(0)));
        assert!(bucket.take(500, RATE, at(0)));
        assert!(!bucket.take(1, RATE, at(0)));
        assert!(bucket.take(100, RATE, at(100)));
        assert!(!bucket.take(1, RATE, at(100)));
    }

    #[test]
    fn one_frame_larger_than_the_burst_passes_and_is_paid_off() {
        let mut bucket = Limiter::new(RATE, at(0));
        assert!(bucket.take(5000, RATE, at(0)));
        assert!(!bucket.take(1, RATE, at(3000)));
        assert!(bucket.take(1, RATE, at(3001)));
    }

    #[test]
    fn asking_often_does_not_starve_the_refill() {
        let mut bucket = Limiter::new(RATE, at(0));
        assert!(bucket.take(2000, RATE, at(0)));
        let passed = (1..=1_000_000_u64).filter(|n| bucket.take(1, RATE, Instant(n * 1_000))).count();
        assert!((999..=1001).contains(&passed), "{passed} bytes in a second at 1000 a second");
    }

    #[test]
    fn a_clock_that_steps_back_refills_nothing() {
        let mut bucket = Limiter::new(RATE, at(5000));
        assert!(bucket.take(2000, RATE, at(5000)));
        assert!(!bucket.take(1, RATE, at(0)));
        assert!(!bucket.take(1, RATE, at(5000)));
        assert!(bucket.take(1, RATE, at(5001)));
    }

    #[test]
    fn a_gap_of_centuries_fills_to_the_burst_only() {
        let rate = Rate { bytes_per_second: u64::MAX, burst: 10 };
        let mut bucket = Limiter::new(rate, at(0));
        assert!(bucket.take(10, rate, Instant(u64::MAX)));
        assert!(!bucket.take(1, rate, Instant(u64::MAX)));
    }

    #[test]
    fn a_rate_of_nothing_passes_nothing() {
        let none = Rate { bytes_per_second: 0, burst: 0 };
        assert!(!Limiter::new(none, at(0)).take(1, none, at(1_000_000)));
    }

    #[test]
    fn a_lower_rate_counts_at_once() {
        let mut bucket = Limiter::new(RATE, at(0));
        let low = Rate { bytes_per_second: 1, burst: 1 };
        assert!(bucket.take(1, low, at(0)));
        assert!(!bucket.take(1, low, at(0)));
        assert!(bucket.take(1, low, at(1000)));
    }

    proptest! {
        /// The model counts in whole byte-nanoseconds from the start and recomputes everything each time.
        #[test]
        fn agrees_with_a_naive_model(
            bytes_per_second in 0_u64..5_000, burst in 0_u64..10_000,
            asks in proptest::collection::vec((0_u64..3_000_000_000, 0_u64..4_000), 0..200),
        ) {
            let rate = Rate { bytes_per_second, burst };
            let mut bucket = Limiter::new(rate, Instant(0));
            let (mut now, mut model) = (0_u64, i128::from(burst) * NANOS);
            for (gap, bytes) in asks {
                now += gap;
                model = (model + i128::from(gap) * i128::from(bytes_per_second)).min(i128::from(burst) * NANOS);
                let want = model > 0;
                if want {
                    model -= i128::from(bytes) * NANOS;
                }
                prop_assert_eq!(bucket.take(bytes, rate, Instant(now)), want);
            }
        }
    }
}
