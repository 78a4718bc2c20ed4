//! The two sides of a TAP, or of an in-memory cable.
//!
//! [`open`] splits a TAP into its read side, [`RxPort`], which one worker owns by value, and its write side, [`TxPort`],
//! which every worker reaches through the published snapshot. Both share the descriptor; control keeps the last `Arc` of
//! the write side, so that closing it, which takes the kernel 16 ms, never happens in a worker.
//!
//! A frame on a port is `header_len` bytes of offload header and then the Ethernet frame. A plain TAP is a TAP with header
//! length 0, not another kind of port.

mod cable;
mod counters;
mod rx;
mod shaper;
mod tx;

pub use cable::{Cable, Plug};
pub use counters::{PortCounts, RxCounters};
pub use rx::RxPort;
pub(crate) use shaper::{Admission, Next, Shaper, Waiting};
pub use tx::TxPort;
pub(crate) use tx::reason as drop_reason;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use tapswitch_netns::Tap;

use crate::forwarding::{PortId, Rate};
use crate::frame::MAX_FRAME;

/// Longest frame of BIG TCP, in bytes. The kernel puts a frame into at most 17 pieces (MAX_SKB_FRAGS) of 32 KB.
pub(crate) const BIG_TCP: usize = 512 * 1024;

/// What a port's frames come from and go to.
#[derive(Clone, Debug)]
enum Link {
    Tap(Arc<OwnedFd>),
    Cable(Plug),
}

impl Link {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Link::Tap(fd) => Some(fd.as_fd()),
            Link::Cable(_) => None,
        }
    }
}

/// The limits of a port's rate, for its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Of what is read from it. It is not read while that is more: frames wait in the device's ring.
    pub rx: Option<Rate>,
    /// Of what is written to it. Frames wait in a short queue, and are dropped when that is full.
    pub tx: Option<Rate>,
}

/// Splits `tap`. `workers` is how many threads will write it.
pub fn open(id: PortId, tap: Tap, workers: usize) -> (RxPort, Arc<TxPort>) {
    open_limited(id, tap, workers, Limits::default())
}

/// As [`open`], with limits of its rate.
pub fn open_limited(id: PortId, tap: Tap, workers: usize, limits: Limits) -> (RxPort, Arc<TxPort>) {
    // Where a rate has a limit, frames are better short: one that is under way is not shared with others.
    let longest = if limits.tx.is_none() && tap.info.takes_big_tcp() { BIG_TCP } else { MAX_FRAME };
    split(id, Link::Tap(Arc::new(tap.fd)), tap.info.header_len, longest, workers, limits)
}

/// Splits the switch's end of a cable; frames on it carry `header_len` bytes of offload header, 0 or
/// [`crate::frame::offload::HEADER_LEN`].
pub fn open_cable(id: PortId, plug: Plug, header_len: usize, workers: usize) -> (RxPort, Arc<TxPort>) {
    open_cable_limited(id, plug, header_len, workers, Limits::default())
}

/// As [`open_cable`], with limits of its rate.
pub fn open_cable_limited(
    id: PortId,
    plug: Plug,
    header_len: usize,
    workers: usize,
    limits: Limits,
) -> (RxPort, Arc<TxPort>) {
    split(id, Link::Cable(plug), header_len, MAX_FRAME, workers, limits)
}

/// As [`open_cable`], for one who takes frames of [`BIG_TCP`].
#[cfg(test)]
pub(crate) fn open_big_cable(id: PortId, plug: Plug, workers: usize) -> (RxPort, Arc<TxPort>) {
    split(id, Link::Cable(plug), crate::frame::offload::HEADER_LEN, BIG_TCP, workers, Limits::default())
}

fn split(
    id: PortId,
    link: Link,
    header_len: usize,
    longest: usize,
    workers: usize,
    limits: Limits,
) -> (RxPort, Arc<TxPort>) {
    let tx = TxPort::new(id, link.clone(), header_len, longest, workers, limits.tx);
    (RxPort::new(id, link, header_len, limits.rx), Arc::new(tx))
}

/// Reads the counters of both sides, as `stats` shows them. While frames flow the parts are not of one instant.
pub fn counts(rx: &RxCounters, tx: &TxPort) -> PortCounts {
    let mut counts = PortCounts::default();
    rx.add_to(&mut counts);
    tx.add_counters_to(&mut counts);
    counts
}
