//! The two sides of a TAP, or of an in-memory cable.
//!
//! [`open`] splits a TAP into its read side, [`RxPort`], which one worker owns by value, and its write side, [`TxPort`],
//! which every worker reaches through the published snapshot. Both share the descriptor; control keeps the last `Arc` of
//! the write side, so that closing it, which takes the kernel 16 ms, never happens in a worker.

mod counters;

pub use counters::{PortCounts, RxCounters, TxCounters};

use std::sync::Arc;

use tapswitch_netns::Tap;

use crate::forwarding::PortId;

/// The read side of a port.
#[derive(Debug)]
pub struct RxPort {
    id: PortId,
    counters: Arc<RxCounters>,
}

/// The write side of a port.
#[derive(Debug)]
pub struct TxPort {
    id: PortId,
}

/// Splits `tap`. `workers` is how many threads will write it.
pub fn open(id: PortId, tap: Tap, workers: usize) -> (RxPort, Arc<TxPort>) {
    let _ = (id, tap, workers);
    unimplemented!()
}

impl RxPort {
    /// Its port.
    pub fn id(&self) -> PortId {
        self.id
    }

    /// Its counters, for control to keep.
    pub fn counters(&self) -> &Arc<RxCounters> {
        &self.counters
    }
}

impl TxPort {
    /// Its port.
    pub fn id(&self) -> PortId {
        self.id
    }
}

/// Sums the counters of both sides, as `stats` shows them.
pub fn counts(rx: &RxCounters, tx: &TxPort) -> PortCounts {
    let _ = (rx, tx);
    unimplemented!()
}
