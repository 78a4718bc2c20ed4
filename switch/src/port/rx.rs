//! The read side of a port.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::{Link, RxCounters};
use crate::forwarding::{PortId, Rate};

/// The read side: owned by one worker by value, moved by message between bursts.
#[derive(Debug)]
pub struct RxPort {
    id: PortId,
    link: Link,
    header_len: usize,
    limit: Option<Rate>,
    counters: Arc<RxCounters>,
}

impl RxPort {
    pub(super) fn new(id: PortId, link: Link, header_len: usize, limit: Option<Rate>) -> Self {
        RxPort { id, link, header_len, limit, counters: Arc::default() }
    }

    /// Its port.
    pub fn id(&self) -> PortId {
        self.id
    }

    /// Bytes of offload header before each frame.
    pub fn header_len(&self) -> usize {
        self.header_len
    }

    /// How much of it may be read; its owner sees to that.
    pub fn limit(&self) -> Option<Rate> {
        self.limit
    }

    /// Its counters, for control to keep.
    pub fn counters(&self) -> &Arc<RxCounters> {
        &self.counters
    }

    /// The descriptor to wait on; a cable has none.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.link.fd()
    }

    /// Reads one frame, offload header first, and returns its length. A frame that fills `buffer` was cut.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; any other error means that the device is gone.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.link {
            Link::Tap(fd) => Ok(nix::unistd::read(fd, buffer)?),
            Link::Cable(plug) => plug.receive(buffer).ok_or_else(|| io::ErrorKind::WouldBlock.into()),
        }
    }
}
