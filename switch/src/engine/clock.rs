//! The one place that reads the clock.

use crate::forwarding::Instant;

/// Monotonic time since the engine started; steps of the wall clock do not reach it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: std::time::Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Clock { start: std::time::Instant::now() }
    }

    pub(super) fn now(self) -> Instant {
        Instant(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}
