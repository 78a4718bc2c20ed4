//! Learned MACs.

use std::time::Duration;

use super::{Instant, PortId};
use crate::frame::Mac;

/// The table's limits, all settable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdbLimits {
    /// Entries not seen for this long are forgotten. IEEE 802.1D-2004 7.9.2: 300 s by default.
    pub ageing: Duration,
    /// Most entries in all.
    pub entries: usize,
    /// Most entries of one port.
    pub per_port: usize,
}

impl Default for FdbLimits {
    fn default() -> Self {
        FdbLimits { ageing: Duration::from_secs(300), entries: 8192, per_port: 16 }
    }
}

/// A learned entry, for `fdb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LearnedEntry {
    /// The address.
    pub mac: Mac,
    /// Where it was seen last.
    pub port: PortId,
    /// How long ago, to a second.
    pub age: Duration,
}

/// The table.
#[derive(Debug)]
pub struct Fdb {
    limits: FdbLimits,
}

impl Fdb {
    /// An empty table.
    pub fn new(limits: FdbLimits) -> Self {
        Fdb { limits }
    }

    /// Where `mac` was seen last, unless too long ago. Lock-free.
    pub fn lookup(&self, mac: Mac, now: Instant) -> Option<PortId> {
        let _ = (mac, now, self.limits);
        unimplemented!()
    }

    /// Notes that `mac` was seen behind `port`. `port_limit` is how many the port may have.
    pub fn learn(&self, mac: Mac, port: PortId, now: Instant) {
        let _ = (mac, port, now);
        unimplemented!()
    }

    /// Forgets all that was learned behind `port`.
    pub fn forget_port(&self, port: PortId) {
        let _ = port;
        unimplemented!()
    }

    /// Frees entries that aged out; called now and then by control.
    pub fn expire(&self, now: Instant) {
        let _ = now;
        unimplemented!()
    }

    /// All live entries, by MAC.
    pub fn entries(&self, now: Instant) -> Vec<LearnedEntry> {
        let _ = now;
        unimplemented!()
    }
}
