//! The write side of a port.

use std::io::IoSlice;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::sys::uio::writev;

use super::counters::TxCounters;
use super::{Link, PortCounts, Shaper};
use crate::forwarding::{EgressDrop, PortId, Rate};
use crate::frame::offload::HEADER_LEN;

/// The write side: reached by every worker through the snapshot. Each write is one frame, so that two workers may write
/// one TAP without a lock.
#[derive(Debug)]
pub struct TxPort {
    id: PortId,
    link: Link,
    header_len: usize,
    longest: usize,
    /// What the writers ask first, where its rate has a limit. Control's announcements pass by it.
    shaper: Option<Box<Shaper>>,
    /// One set per worker, and control's, each with one writer.
    counters: Box<[TxCounters]>,
}

impl TxPort {
    pub(super) fn new(
        id: PortId,
        link: Link,
        header_len: usize,
        longest: usize,
        workers: usize,
        limit: Option<Rate>,
    ) -> Self {
        let shaper = limit.map(|rate| Box::new(Shaper::new(rate)));
        let counters = (0..=workers).map(|_| TxCounters::default()).collect();
        TxPort { id, link, header_len, longest, shaper, counters }
    }

    /// Its port.
    pub fn id(&self) -> PortId {
        self.id
    }

    /// Bytes of offload header before each frame; 0 is a port without the offload.
    pub fn header_len(&self) -> usize {
        self.header_len
    }

    /// Longest frame that may be written, in bytes without the offload header: of TCP, whose lengths are not in the header of
    /// IP any more, even more than [`MAX_FRAME`](crate::frame::MAX_FRAME). The kernel may have no memory for such, and then has for shorter ones.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    /// Whom to ask before each write, where its rate has a limit.
    #[inline]
    pub(crate) fn shaper(&self) -> Option<&Shaper> {
        self.shaper.as_deref()
    }

    /// The descriptor, for registration with a ring; a cable has none.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.link.fd()
    }

    /// Writes one frame, `header_len` bytes of offload header first.
    ///
    /// # Errors
    /// Why this copy was not sent.
    pub fn write(&self, bytes: &[u8]) -> Result<(), EgressDrop> {
        match &self.link {
            Link::Tap(fd) => nix::unistd::write(fd, bytes).map(drop).map_err(reason),
            Link::Cable(plug) => plug.send(&[bytes]).then_some(()).ok_or(EgressDrop::NoMemory),
        }
    }

    /// Writes one frame that needs nothing more done to it, behind an empty offload header where the port has one.
    ///
    /// # Errors
    /// Why it was not sent.
    pub fn write_finished(&self, frame: &[u8]) -> Result<(), EgressDrop> {
        let header = &[0; HEADER_LEN][..self.header_len];
        match &self.link {
            Link::Tap(fd) => writev(fd, &[IoSlice::new(header), IoSlice::new(frame)]).map(drop).map_err(reason),
            Link::Cable(plug) => plug.send(&[header, frame]).then_some(()).ok_or(EgressDrop::NoMemory),
        }
    }

    /// Writes one frame in pieces: the offload header, the headers, at most two of payload. Only for a port with the
    /// header.
    ///
    /// # Errors
    /// Why it was not sent.
    pub(crate) fn write_parts(&self, header: &[u8], headers: &[u8], payload: &[&[u8]]) -> Result<(), EgressDrop> {
        let part = |at: usize| payload.get(at).copied().unwrap_or_default();
        match &self.link {
            Link::Tap(fd) => {
                let parts = [header, headers, part(0), part(1)].map(IoSlice::new);
                writev(fd, &parts[..2 + payload.len()]).map(drop).map_err(reason)
            }
            Link::Cable(plug) => {
                plug.send(&[header, headers, part(0), part(1)]).then_some(()).ok_or(EgressDrop::NoMemory)
            }
        }
    }

    /// Writes and counts one frame of the switch's own. For control's thread alone: its counters have one writer.
    pub(crate) fn announce(&self, frame: &[u8]) {
        let control = self.counters.last().expect("control's set is always there");
        control.count(frame.len(), self.write_finished(frame));
    }

    /// Counts a copy of `bytes` that `worker` decided and this became of.
    pub(crate) fn count(&self, worker: usize, bytes: usize, outcome: Result<(), EgressDrop>) {
        self.counters[worker].count(bytes, outcome);
    }

    pub(super) fn add_counters_to(&self, counts: &mut PortCounts) {
        self.counters.iter().for_each(|set| set.add_to(counts));
    }
}

/// What a failed write to a TAP says. All but EBADFD are about this one frame (`tun_get_user` in drivers/net/tun.c).
pub(crate) fn reason(errno: Errno) -> EgressDrop {
    match errno {
        Errno::EIO | Errno::ENETDOWN => EgressDrop::Down,
        Errno::EAGAIN | Errno::ENOMEM | Errno::ENOBUFS => EgressDrop::NoMemory,
        Errno::EBADFD | Errno::EBADF | Errno::ENODEV => EgressDrop::Gone,
        _ => EgressDrop::Refused,
    }
}
