//! Tells when the host's routes, addresses or links change.
//!
//! The notifications are not read, only noticed: whoever is told reads everything again. So nothing can be missed
//! in translation, and an overrun of the socket (ENOBUFS: the kernel had more to say than it holds) is a change
//! like any other. Changes come in bursts, as a link with all its routes: a burst is told once, when it has been
//! quiet for [`QUIET`], or goes on for [`LONGEST`]. Links are watched because the routes that vanish with one are
//! not announced. resolv.conf is not watched: it is read with the next change.
//!
//! One thread owns it and blocks in it.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{HostError, doing};

/// A burst is over when nothing has come for this long.
const QUIET: Duration = Duration::from_millis(250);

/// And is told after this long in any case; a host whose routes never rest is read again at most this often.
const LONGEST: Duration = Duration::from_secs(5);

const GROUPS: [u32; 5] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV6_ROUTE,
];

/// A socket that hears of changes from the moment it is opened.
pub struct Watch {
    socket: Socket,
}

impl Watch {
    /// Subscribes, in the calling thread's network namespace. Opened before the first reading, it misses nothing
    /// in between.
    ///
    /// # Errors
    /// The kernel refused the socket.
    pub fn open() -> Result<Self, HostError> {
        const DOING: &str = "open a netlink socket to watch the host's routes";
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(doing(DOING))?;
        socket.bind_auto().map_err(doing(DOING))?;
        for group in GROUPS {
            socket.add_membership(group).map_err(doing(DOING))?;
        }
        Ok(Watch { socket })
    }

    /// Blocks, and calls `on_change` after each burst of changes until it returns false. It is to read everything
    /// again, and may find nothing new.
    ///
    /// # Errors
    /// The socket failed for good; there are no changes to be had from it any more.
    pub fn watch(&self, mut on_change: impl FnMut() -> bool) -> Result<(), HostError> {
        loop {
            self.burst().map_err(doing("watch the host's routes"))?;
            if !on_change() {
                return Ok(());
            }
        }
    }

    /// Waits for a change, and for its burst to end.
    fn burst(&self) -> io::Result<()> {
        self.readable(None)?;
        let until = Instant::now() + LONGEST;
        loop {
            self.drain(until)?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.readable(Some(QUIET.min(left)))? {
                return Ok(());
            }
        }
    }

    /// Whether something came in this time; without a limit, waits until it does.
    fn readable(&self, limit: Option<Duration>) -> io::Result<bool> {
        let timeout = match limit {
            None => PollTimeout::NONE,
            Some(limit) => PollTimeout::try_from(limit).expect("a few seconds fit"),
        };
        loop {
            match poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], timeout) {
                Err(Errno::EINTR) if limit.is_none() => {}
                Err(Errno::EINTR) => return Ok(true),
                events => return Ok(events? > 0),
            }
        }
    }

    /// Throws away what came, until nothing is left or `until`.
    fn drain(&self, until: Instant) -> io::Result<()> {
        // A datagram is thrown away whole with its first byte.
        let mut rest = Vec::with_capacity(64);
        while Instant::now() < until {
            rest.clear();
            match self.socket.recv(&mut rest, libc::MSG_DONTWAIT) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // Overrun: the kernel says so once, and goes on.
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {}
                received => drop(received?),
            }
        }
        Ok(())
    }
}
