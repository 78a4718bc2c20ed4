//! ICMP errors towards containers: why a packet of theirs did not arrive.

use super::{Cx, Home};

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreachable {
    /// No route to its network.
    Network,
    /// No answer from its host.
    Host,
    /// Nobody listens there.
    Port,
    /// It must not go there.
    Prohibited,
    /// It does not fit the way, which takes IP packets of this many bytes.
    TooBig {
        /// Largest IP packet, in bytes.
        mtu: u32,
    },
    /// Its hop limit was reached at the gateway.
    HopLimit,
}

/// Tells the container that `packet`, an IP packet of its own of which at least the upper-layer header is here, did not
/// arrive. Comes from the gateway.
pub(crate) fn send(_cx: &mut Cx<'_>, _home: &Home, _packet: &[u8], _why: Unreachable) {}
