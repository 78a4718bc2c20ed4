//! Checked views over borrowed bytes. Pure: no clock, no descriptor, no allocation.
//!
//! [`Frame::parse`] looks at a frame once and remembers what the forwarding path asks for: addresses,
//! protocol, ports, fragment state. Everything above trusts it and never reads raw offsets again. The
//! offload header that stands before a frame is parsed and rebuilt in [`offload`].
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod checksum;
mod ip;
mod layer4;
mod mac;
pub mod offload;
mod parse;
pub mod segment;
#[cfg(test)]
pub(crate) mod testing;

/// Longest Ethernet frame, in bytes: header, one tag, and the longest IP packet, whose length field has 16 bits.
pub(crate) const MAX_FRAME: usize = 14 + 4 + 65_535;

pub use ip::{Fragment, Packet};
pub use layer4::{IcmpQuote, Layer4, TcpFlags};
pub use mac::Mac;
pub use offload::{Gso, Offload, OffloadHeader};
pub use parse::{Arp, EtherType, Frame, Malformed, Payload};
