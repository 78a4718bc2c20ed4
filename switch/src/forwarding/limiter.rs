//! A token bucket in bytes: a port's flood budget, and the limit of an endpoint's rate in each direction. Time is an argument.
//!
//! A flood multiplies what one container sends, so it is charged copies x bytes to its sender. Tokens are counted in
//! byte-nanoseconds: refilling is then exact however often it happens, and a flooder that asks a million times a second
//! neither gains nor loses by rounding. A bucket has one owner: the worker that owns the port's read side, or, of what is
//! sent to a port, whoever holds the lock of its queue.

use std::time::Duration;

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

/// What is saved up at least: a worker's sleep ends to the millisecond, and late on a busy machine; what came due meanwhile
/// would be lost for good.
const LEAST_BURST: Duration = Duration::from_millis(4);

/// What is saved up where nobody said how much.
const DEFAULT_BURST: Duration = Duration::from_millis(20);

/// The same at slow rates: one frame of the longest.
const DEFAULT_BURST_BYTES: u64 = 65_536;

impl Rate {
    /// The limit of an endpoint's rate: `bits_per_second`, and `burst` bits at once. A burst that is smaller than what passes in
    /// 4 ms counts as that, for a bucket that small would give less than its rate.
    pub fn limit(bits_per_second: u64, burst: Option<u64>) -> Self {
        let bytes_per_second = (bits_per_second / 8).max(1);
        let within = |time: Duration| {
            let bytes = u128::from(bytes_per_second) * time.as_nanos() / 1_000_000_000;
            u64::try_from(bytes).unwrap_or(u64::MAX)
        };
        let wanted = burst.map_or(within(DEFAULT_BURST).max(DEFAULT_BURST_BYTES), |bits| bits / 8);
        Rate { bytes_per_second, burst: wanted.max(within(LEAST_BURST)).max(1) }
    }

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
        let left = self.has_any(rate, now);
        if left {
            self.spend(bytes);
        }
        left
    }

    /// Whether [`Limiter::take`] would give anything.
    pub fn has_any(&mut self, rate: Rate, now: Instant) -> bool {
        self.refill(rate, now);
        self.tokens > 0
    }

    /// Takes `bytes` whether anything is left or not: of what has passed already.
    pub fn charge(&mut self, bytes: u64, rate: Rate, now: Instant) {
        self.refill(rate, now);
        self.spend(bytes);
    }

    /// When something is left again, if nothing is now.
    pub fn due(&self, rate: Rate, now: Instant) -> Option<Instant> {
        if self.tokens > 0 {
            return None;
        }
        let rate = i128::from(rate.bytes_per_second);
        // Without a rate there is no time at which.
        let nanos = 1_i128.saturating_sub(self.tokens).saturating_add(rate - 1).checked_div(rate);
        let wait = nanos.and_then(|nanos| u64::try_from(nanos).ok()).map_or(Duration::MAX, Duration::from_nanos);
        Some(self.filled + wait).filter(|due| *due > now)
    }

    fn refill(&mut self, rate: Rate, now: Instant) {
        // Saturates at zero: a `now` before the last one refills nothing.
        let elapsed = now.since(self.filled).as_nanos();
        self.filled = self.filled.max(now);
        let refill = i128::try_from(elapsed).unwrap_or(i128::MAX).saturating_mul(i128::from(rate.bytes_per_second));
        self.tokens = self.tokens.saturating_add(refill).min(rate.full());
    }

    fn spend(&mut self, bytes: u64) {
        self.tokens = self.tokens.saturating_sub(i128::from(bytes) * NANOS);
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

    #[test]
    fn what_has_passed_is_owed_and_paid_off_when_due() {
        let mut bucket = Limiter::new(RATE, at(0));
        bucket.charge(1999, RATE, at(0));
        assert_eq!(bucket.due(RATE, at(0)), None);
        bucket.charge(501, RATE, at(0));
        let due = bucket.due(RATE, at(0)).unwrap();
        assert_eq!((due, bucket.due(RATE, due)), (Instant(500_000_001), None));
        assert!(!bucket.take(1, RATE, at(500)) && bucket.take(1, RATE, due));
    }

    #[test]
    fn what_never_comes_is_due_at_the_end_of_time() {
        let none = Rate { bytes_per_second: 0, burst: 0 };
        assert_eq!(Limiter::new(none, at(0)).due(none, at(0)), Some(Instant(u64::MAX)));
    }

    #[test]
    fn a_limit_is_in_bits_and_saves_up_enough_to_be_reached() {
        let limit = |bits, burst| {
            let Rate { bytes_per_second, burst } = Rate::limit(bits, burst);
            (bytes_per_second, burst)
        };
        assert_eq!(limit(8_000_000, Some(8_000_000)), (1_000_000, 1_000_000));
        assert_eq!(limit(8_000_000, Some(8)), (1_000_000, 4_000));
        assert_eq!(limit(8_000_000, None), (1_000_000, 65_536));
        assert_eq!(limit(80_000_000_000, None), (10_000_000_000, 200_000_000));
        assert_eq!(limit(1, Some(1)), (1, 1));
        assert_eq!(limit(u64::MAX, Some(u64::MAX)).1, u64::MAX / 8);
    }

    proptest! {
        /// Whoever sends whenever he may, and owes what he sent too much, sends what the rate allows: never more than the burst
        /// and one frame beyond it, and never less by more than he slept too long.
        #[test]
        fn sending_whenever_it_is_due_gives_the_rate(
            bytes_per_second in 1_000_u64..10_000_000, burst in 4_000_u64..200_000,
            frames in proptest::collection::vec((1_u64..65_536, 0_u64..1_000_000), 1..200),
        ) {
            let rate = Rate { bytes_per_second, burst };
            let mut bucket = Limiter::new(rate, Instant(0));
            let (mut now, mut sent, mut slept) = (Instant(0), 0, 0);
            for (bytes, late) in frames {
                let allowed = u128::from(now.0) * u128::from(bytes_per_second) / 1_000_000_000;
                prop_assert!(u128::from(sent) <= allowed + u128::from(burst), "{sent} sent, {allowed} allowed");
                let lost = u128::from(slept) * u128::from(bytes_per_second) / 1_000_000_000;
                prop_assert!(u128::from(sent) + lost + 1 >= allowed, "{sent} sent, {allowed} allowed");
                bucket.charge(bytes, rate, now);
                sent += bytes;
                if let Some(due) = bucket.due(rate, now) {
                    prop_assert!(due > now);
                    now = due + Duration::from_nanos(late);
                    slept += late;
                }
            }
        }

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
