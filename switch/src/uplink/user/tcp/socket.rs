//! A flow's socket, and the bytes in it that the container has not acknowledged.
//!
//! The kernel keeps them: MSG_PEEK from an offset (SO_PEEK_OFF) reads them as often as is needed, and MSG_TRUNC drops what was
//! acknowledged without a copy. Where it cannot (TCP before Linux 6.9, over IPv6 before 6.11, and pairs of Unix sockets) they are
//! kept here, in a buffer that is released when it is empty. The sizes of the socket's own buffers are never set, which would end their tuning by the
//! kernel. This is where the uplink talks to the kernel about streams.

use std::collections::VecDeque;
use std::io;
use std::mem::size_of;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, Shutdown, SockFlag, SockProtocol, SockType, SockaddrStorage, connect, getpeername,
    getsockopt, recv, send, setsockopt, shutdown, socket, sockopt,
};

/// Bytes kept here at most for a socket that cannot be peeked at an offset: as the window of a container.
const MAX_HELD: usize = 1 << 20;

/// Idle seconds after which the kernel asks whether the far end lives.
const KEEPALIVE_SECONDS: u32 = 600;

#[derive(Debug)]
pub(super) struct FarSocket {
    fd: OwnedFd,
    kept: Kept,
}

/// Where the bytes are that are not acknowledged.
#[derive(Debug)]
enum Kept {
    /// In the socket; the next peek is at this offset.
    Socket(u32),
    /// Here.
    Here(VecDeque<u8>),
}

impl FarSocket {
    /// Starts to connect to `to`.
    ///
    /// # Errors
    /// When that is known at once to fail.
    pub(super) fn connect(to: SocketAddr) -> io::Result<Self> {
        let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd = socket(family, SockType::Stream, flags, SockProtocol::Tcp)?;
        let socket = FarSocket::of(fd);
        match connect(socket.fd.as_raw_fd(), &SockaddrStorage::from(to)) {
            Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket),
            Err(errno) => Err(errno.into()),
        }
    }

    /// A connected socket, which does not block.
    pub(super) fn of(fd: OwnedFd) -> Self {
        FarSocket { fd, kept: Kept::Here(VecDeque::new()) }
    }

    /// Whether the connection is there.
    ///
    /// # Errors
    /// Why it never will be.
    pub(super) fn is_connected(&self) -> io::Result<bool> {
        self.error()?;
        match getpeername::<SockaddrStorage>(self.fd.as_raw_fd()) {
            Ok(_) => Ok(true),
            Err(Errno::ENOTCONN) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Takes the socket's error.
    ///
    /// # Errors
    /// That.
    pub(super) fn error(&self) -> io::Result<()> {
        match getsockopt(&self.fd, sockopt::SocketError)? {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Once it is connected: as a flow needs it.
    pub(super) fn set_up(&mut self) {
        // Not for a Unix socket, which needs neither; the container's own stack decides what waits for what.
        if setsockopt(&self.fd, sockopt::TcpNoDelay, &true).is_ok() {
            // A far end that died is noticed later without it.
            let _ = setsockopt(&self.fd, sockopt::KeepAlive, &true);
            let _ = setsockopt(&self.fd, sockopt::TcpKeepIdle, &KEEPALIVE_SECONDS);
            // Urgent bytes stay in the stream, as RFC 6093 asks: a peek's offset does not count one that is skipped.
            let _ = setsockopt(&self.fd, sockopt::OobInline, &true);
            if self.set_peek_offset(0).is_ok() {
                self.kept = Kept::Socket(0);
            }
        }
    }

    /// Gives it `bytes`; how many it takes, 0 when it has no room.
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        match send(self.fd.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
            Ok(sent) => Ok(sent),
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENOBUFS | Errno::ENOMEM) => Ok(0),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Copies into `out` what stands `offset` bytes behind the last that was discarded; how many bytes, 0 at the end of
    /// the stream, `None` when there is nothing yet.
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) fn fetch(&mut self, offset: u32, out: &mut [u8]) -> io::Result<Option<usize>> {
        match &mut self.kept {
            Kept::Socket(at) if *at != offset => {
                *at = offset;
                self.set_peek_offset(offset)?;
                self.peek(out)
            }
            Kept::Socket(_) => self.peek(out),
            Kept::Here(held) if (offset as usize) < held.len() => {
                let len = out.len().min(held.len() - offset as usize);
                for (to, from) in out.iter_mut().zip(held.range(offset as usize..)) {
                    *to = *from;
                }
                Ok(Some(len))
            }
            Kept::Here(held) => {
                let most = out.len().min(MAX_HELD.saturating_sub(held.len()));
                let got = received(recv(self.fd.as_raw_fd(), &mut out[..most], MsgFlags::MSG_DONTWAIT))?;
                held.extend(&out[..got.unwrap_or(0)]);
                Ok(got)
            }
        }
    }

    fn peek(&mut self, out: &mut [u8]) -> io::Result<Option<usize>> {
        let got = received(recv(self.fd.as_raw_fd(), out, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK))?;
        if let (Kept::Socket(at), Some(got)) = (&mut self.kept, got) {
            *at += super::sequence::distance(got);
        }
        Ok(got)
    }

    /// The container has the first `count` bytes: they need not be kept.
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) fn discard(&mut self, mut count: usize) -> io::Result<()> {
        match &mut self.kept {
            Kept::Here(held) => {
                held.drain(..count.min(held.len()));
                if held.is_empty() {
                    *held = VecDeque::new();
                }
                Ok(())
            }
            Kept::Socket(at) => {
                *at = at.saturating_sub(super::sequence::distance(count));
                let fd = self.fd.as_raw_fd();
                while count > 0 {
                    let flags = libc::MSG_TRUNC | libc::MSG_DONTWAIT;
                    // SAFETY: with MSG_TRUNC TCP writes nothing to the buffer (tcp(7)), which may then be null.
                    let got = unsafe { libc::recv(fd, std::ptr::null_mut(), count, flags) };
                    match usize::try_from(got) {
                        Ok(0) => break,
                        Ok(got) => count -= got.min(count),
                        Err(_) => return Err(io::Error::last_os_error()),
                    }
                }
                Ok(())
            }
        }
    }

    /// Throws away what has not been fetched: a socket that is closed with such is reset by the kernel, which then loses what it has
    /// still to send.
    pub(super) fn discard_rest(&mut self) {
        const MOST: usize = 1 << 30;
        let flags = libc::MSG_TRUNC | libc::MSG_DONTWAIT;
        // SAFETY: as in `discard`. A Unix socket refuses the buffer, and is not reset either.
        while unsafe { libc::recv(self.fd.as_raw_fd(), std::ptr::null_mut(), MOST, flags) } > 0 {}
    }

    /// Bytes kept here.
    pub(super) fn held(&self) -> usize {
        match &self.kept {
            Kept::Socket(_) => 0,
            Kept::Here(held) => held.len(),
        }
    }

    /// How many bytes can be fetched at `offset` while `most` more may be kept here: what is here already goes first.
    pub(super) fn room(&self, offset: u32, most: usize) -> usize {
        match &self.kept {
            Kept::Socket(_) => usize::MAX,
            Kept::Here(held) => match held.len().saturating_sub(offset as usize) {
                0 => most,
                here => here,
            },
        }
    }

    /// Whether more can be fetched than was.
    pub(super) fn has_room(&self) -> bool {
        self.held() < MAX_HELD
    }

    /// Nothing more will be sent.
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) fn finish(&self) -> io::Result<()> {
        Ok(shutdown(self.fd.as_raw_fd(), Shutdown::Write)?)
    }

    /// Closes it so that the far end sees a reset.
    pub(super) fn abort(self) {
        let now = libc::linger { l_onoff: 1, l_linger: 0 };
        // A Unix socket has none: there a close is all that the other end sees.
        let _ = setsockopt(&self.fd, sockopt::Linger, &now);
    }

    fn set_peek_offset(&self, offset: u32) -> io::Result<()> {
        let offset = libc::c_int::try_from(offset).expect("a window is less than 2 GiB");
        // SAFETY: the pointer and the length are those of a live integer.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEEK_OFF,
                (&raw const offset).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl AsFd for FarSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn received(result: nix::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(got) => Ok(Some(got)),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}
