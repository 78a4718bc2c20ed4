//! The small types by which the core speaks of ports and time.

use std::time::Duration;

use crate::persistent::{Key, Seed};

/// A port's name for life: never reused, so what refers to a port that is gone refers to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct PortId(pub u32);

impl Key for PortId {
    #[inline]
    fn hash(&self, seed: Seed) -> u64 {
        self.0.hash(seed)
    }
}

/// A port's place in a published [`super::Network`]: its as long as it is there, then another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortIndex(pub u32);

impl PortIndex {
    /// As an index into a slice.
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

/// Monotonic time since some start, in nanoseconds. The engine reads the clock; the core is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(pub u64);

impl Instant {
    /// Whole seconds, the granularity of ageing.
    pub const fn coarse_seconds(self) -> u32 {
        (self.0 / 1_000_000_000) as u32
    }

    /// Time since `earlier`; zero when `earlier` is later.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, rhs: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}
