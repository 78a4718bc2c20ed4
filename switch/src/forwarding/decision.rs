//! The outcome for one frame.

use super::{DropReason, PortIndex};

/// What becomes of a frame. Each frame read gets exactly one: that is the first law of conservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// To one port.
    Unicast(PortIndex),
    /// A copy to each port of [`Scratch::recipients`], which holds at least one.
    Flood,
    /// [`Scratch::answer`] goes back to the port that the frame came from.
    Answer,
    /// To the switch itself: a service at the gateway, or an uplink that ends in the switch.
    Local,
    /// To nobody.
    Drop(DropReason),
}

/// A worker's reusable space for what a decision carries, so that deciding allocates nothing.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The ports of a flood. Its capacity is made when a network is adopted.
    pub recipients: Vec<PortIndex>,
    /// The frame of an answer, complete, without offload header and with all sums made.
    pub answer: Vec<u8>,
}

impl Scratch {
    /// Space for floods to `ports` ports and for the longest answer.
    pub fn with_ports(ports: usize) -> Self {
        Scratch { recipients: Vec::with_capacity(ports), answer: Vec::with_capacity(65_536 + 14) }
    }

    /// Makes room for floods to `ports` ports; called between bursts.
    pub fn reserve_ports(&mut self, ports: usize) {
        self.recipients.clear();
        self.recipients.reserve(ports);
    }
}
