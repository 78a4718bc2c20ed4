//! One SOCK_SEQPACKET message with at most one descriptor: how `attach.sock` and the keeper's channel are spoken.
//!
//! A message that was cut, or that carries more descriptors than one, is refused whole, and every descriptor that came
//! with it is closed: a client cannot make the daemon hold what it did not ask for.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// Longest message, in bytes.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// A received message.
#[derive(Debug)]
pub struct Packet {
    /// Its text; empty at the end of the conversation.
    pub bytes: Vec<u8>,
    /// What came with it.
    pub fd: Option<OwnedFd>,
}

/// Sends `bytes` with `fd` in one message.
///
/// # Errors
/// As `sendmsg(2)`; EMSGSIZE where `bytes` is longer than [`MAX_MESSAGE`].
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    if bytes.len() > MAX_MESSAGE {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    let raw = fd.map(|fd| [fd.as_raw_fd()]);
    let rights = raw.as_ref().map(|fds| ControlMessage::ScmRights(fds));
    let sent = retry(|| {
        let flags = MsgFlags::MSG_NOSIGNAL;
        sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], rights.as_slice(), flags, None)
    })?;
    if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Receives one message into `buffer`, whose length is the longest that is taken; as long as the socket blocks.
///
/// # Errors
/// As `recvmsg(2)`, and `InvalidData` for a message that was cut or carries more than one descriptor.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Packet> {
    // Room for more than is allowed, so that too many descriptors are received, seen and closed.
    let mut control = cmsg_space!([libc::c_int; 4]);
    let (length, flags, fds) = retry(|| {
        let mut slices = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags)?;
        Ok((message.bytes, message.flags, owned_fds(message.cmsgs()?)))
    })?;
    if flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) || fds.len() > 1 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "message too long, or with more than one descriptor"));
    }
    Ok(Packet { bytes: buffer[..length].to_vec(), fd: fds.into_iter().next() })
}

fn owned_fds(messages: nix::sys::socket::CmsgIterator<'_>) -> Vec<OwnedFd> {
    let rights = messages.filter_map(|message| match message {
        ControlMessageOwned::ScmRights(fds) => Some(fds),
        _ => None,
    });
    // SAFETY: the kernel has just made each of these descriptors for this message, and nobody else knows of them.
    rights.flatten().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect()
}

fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(nix::errno::Errno::EINTR) => {}
            result => return result.map_err(io::Error::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap()
    }

    #[test]
    fn a_message_arrives_with_its_descriptor() {
        let (a, b) = pair();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "x").unwrap();
        send(a.as_fd(), b"hello", Some(file.as_file().as_fd())).unwrap();
        send(a.as_fd(), b"bare", None).unwrap();
        let got = receive(b.as_fd(), &mut [0; 16]).unwrap();
        let mut text = String::new();
        std::fs::File::from(got.fd.unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!((got.bytes.as_slice(), text.as_str()), (b"hello".as_slice(), "x"));
        assert!(receive(b.as_fd(), &mut [0; 16]).unwrap().fd.is_none());
    }

    #[test]
    fn a_message_cut_short_is_refused_and_so_is_a_second_descriptor() {
        let (a, b) = pair();
        send(a.as_fd(), b"longer than four", None).unwrap();
        assert_eq!(receive(b.as_fd(), &mut [0; 4]).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let fds = [a.as_raw_fd(), b.as_raw_fd()];
        let two = [ControlMessage::ScmRights(&fds)];
        sendmsg::<()>(a.as_raw_fd(), &[IoSlice::new(b"two")], &two, MsgFlags::empty(), None).unwrap();
        assert_eq!(receive(b.as_fd(), &mut [0; 16]).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn the_end_of_the_conversation_is_an_empty_message() {
        let (a, b) = pair();
        drop(a);
        assert!(receive(b.as_fd(), &mut [0; 4]).unwrap().bytes.is_empty());
    }
}
