//! What a worker asks about each frame.

use std::sync::Arc;

use super::Local;
use crate::forwarding::{Decision, Instant, Limiter, PortId, PortIndex, Rate, Scratch};
use crate::frame::Offload;
use crate::port::TxPort;

/// A port's place in what is published: its as long as it is there and no network comes or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index of its network.
    pub network: u32,
    /// Its index there.
    pub port: PortIndex,
}

/// In what a publication differs from the one before it: a worker looks at that alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// Whatever there is.
    All,
    /// These ports came, went, or are not what they were; nothing else is different.
    Ports(Arc<[PortId]>),
}

/// What becomes of a frame, and what still has to be done to it.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    /// Where it goes.
    pub decision: Decision,
    /// The checked offload, for a port that gets the frame finished in software.
    pub offload: Offload,
}

/// Decides for workers: the switch's [`super::Snapshot`], or the bare wire of the benchmark, which measures what the same
/// loop does without any decision.
pub trait Forward: Sized + Send + Sync + 'static {
    /// Takes, in each worker, what is addressed to the switch itself.
    type Local: Local<Self>;

    /// Where `port` stands in this publication.
    fn place_of(&self, port: PortId) -> Option<Place>;

    /// The flood budget of the ports of a network.
    fn flood_rate(&self, network: u32) -> Rate;

    /// Decides about the frame `buffer[HEADER_LEN..]`, and turns the offload header before it into the one that the receivers get.
    fn forward(
        &self,
        from: Place,
        limiter: &mut Limiter,
        buffer: &mut [u8],
        now: Instant,
        scratch: &mut Scratch,
    ) -> Verdict;

    /// The write sides of all ports, and where each stands.
    fn egress(&self) -> impl Iterator<Item = (Place, &Arc<TxPort>)>;

    /// Ports of the largest network.
    fn most_ports(&self) -> usize;

    /// One write side.
    fn tx(&self, network: u32, port: PortIndex) -> &TxPort;
}
