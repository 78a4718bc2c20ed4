//! Counters of a port.

/// Of the read side: written by the worker that owns it, read by anybody.
#[derive(Debug, Default)]
pub struct RxCounters {}

/// Of the write side: one set per worker, each written by that worker alone.
#[derive(Debug, Default)]
pub struct TxCounters {}

/// A reading of both sides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortCounts {
    /// Frames read.
    pub rx_frames: u64,
    /// Bytes read, without offload headers.
    pub rx_bytes: u64,
    /// Of the frames read: sent to one port.
    pub unicast: u64,
    /// Flooded.
    pub flooded: u64,
    /// Answered by the switch.
    pub answered: u64,
    /// Dropped, by [`crate::forwarding::DropReason::index`].
    pub rx_drops: [u64; crate::forwarding::DropReason::COUNT],
    /// Copies decided for this port.
    pub tx_decided: u64,
    /// Written.
    pub tx_frames: u64,
    /// Bytes written, without offload headers.
    pub tx_bytes: u64,
    /// Not written, by [`crate::forwarding::EgressDrop::index`].
    pub tx_drops: [u64; crate::forwarding::EgressDrop::COUNT],
}
