//! When a worker gives ports away.
//!
//! Two containers that talk are forwarded fastest by one thread: one ring round carries both directions, and nobody waits for a
//! wake-up. So ports start together, and move only when it pays: their worker never sleeps, has had a whole core all the
//! time (or the machine has no core to spare, and a second thread would only take turns with the first), and another worker
//! sleeps. Half of the busy ports move at a time. A port that brings little beside another, as one with the acknowledgements of
//! the other's stream, is not busy: of one stream alone nothing moves.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::forwarding::Instant;

/// How long a worker must have been saturated.
const WINDOW: Duration = Duration::from_millis(100);

/// Of the window, at least this much on a core, in percent.
const ON_CORE_PERCENT: u32 = 95;

/// Of the window, at most this much asleep, in percent.
const ASLEEP_PERCENT: u32 = 5;

/// What a worker notes of itself.
#[derive(Debug)]
pub(super) struct Saturation {
    start: Instant,
    cpu_at_start: Duration,
    asleep: Duration,
}

impl Saturation {
    pub(super) fn new(now: Instant) -> Self {
        Saturation { start: now, cpu_at_start: thread_cpu_time(), asleep: Duration::ZERO }
    }

    pub(super) fn slept(&mut self, time: Duration) {
        self.asleep += time;
    }

    /// At the end of a window: whether the worker was saturated in it.
    pub(super) fn check(&mut self, now: Instant) -> Option<bool> {
        let wall = now.since(self.start);
        if wall < WINDOW {
            return None;
        }
        let cpu = thread_cpu_time();
        let saturated = is_saturated(wall, cpu.saturating_sub(self.cpu_at_start), self.asleep);
        *self = Saturation { start: now, cpu_at_start: cpu, asleep: Duration::ZERO };
        Some(saturated)
    }
}

fn is_saturated(wall: Duration, cpu: Duration, asleep: Duration) -> bool {
    asleep * 100 <= wall * ASLEEP_PERCENT && cpu * 100 >= wall * ON_CORE_PERCENT
}

fn thread_cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn a_worker_with_a_whole_core_and_no_sleep_is_saturated() {
        assert!(is_saturated(MS(100), MS(99), MS(1)));
    }

    #[test]
    fn a_worker_that_waits_for_a_core_is_not() {
        assert!(!is_saturated(MS(100), MS(70), MS(0)));
    }

    #[test]
    fn a_worker_that_sleeps_is_not() {
        assert!(!is_saturated(MS(100), MS(60), MS(40)));
    }
}
