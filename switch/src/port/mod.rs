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
mod tx;

pub use cable::{Cable, Plug};
pub use counters::{PortCounts, RxCounters};
pub use rx::RxPort;
pub use tx::TxPort;
pub(crate) use tx::reason as drop_reason;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use tapswitch_netns::Tap;

use crate::forwarding::PortId;

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

/// Splits `tap`. `workers` is how many threads will write it.
pub fn open(id: PortId, tap: Tap, workers: usize) -> (RxPort, Arc<TxPort>) {
    split(id, Link::Tap(Arc::new(tap.fd)), tap.info.header_len, workers)
}

/// Splits the switch's end of a cable; frames on it carry `header_len` bytes of offload header, 0 or
/// [`crate::frame::offload::HEADER_LEN`].
pub fn open_cable(id: PortId, plug: Plug, header_len: usize, workers: usize) -> (RxPort, Arc<TxPort>) {
    split(id, Link::Cable(plug), header_len, workers)
}

fn split(id: PortId, link: Link, header_len: usize, workers: usize) -> (RxPort, Arc<TxPort>) {
    let tx = TxPort::new(id, link.clone(), header_len, workers);
    (RxPort::new(id, link, header_len), Arc::new(tx))
}

/// Reads the counters of both sides, as `stats` shows them. While frames flow the parts are not of one instant.
pub fn counts(rx: &RxCounters, tx: &TxPort) -> PortCounts {
    let mut counts = PortCounts::default();
    rx.add_to(&mut counts);
    tx.add_counters_to(&mut counts);
    counts
}
