//! Messages between our own processes: JSON in one message of a SOCK_SEQPACKET socket, with at most one descriptor; those
//! that say so, [`send_with`] and [`recv_with`], with at most [`DESCRIPTORS_MAX`].
//!
//! Limits: [`LIMIT`] bytes a message, and the descriptors. A message that breaks them is refused, its descriptors are
//! closed. On a non-blocking socket both directions return `WouldBlock`.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest message, in bytes. A device with 500 addresses fits; the kernel's default send buffer holds three.
pub const LIMIT: usize = 64 * 1024;

/// Most descriptors that come with one message: those of [`NameSockets`](crate::NameSockets).
pub const DESCRIPTORS_MAX: usize = 4;

/// Most descriptors the kernel passes in one message: include/net/scm.h.
const SCM_MAX_FD: usize = 253;

/// A connected pair, closed on exec.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// Sends one message.
///
/// # Errors
///
/// `InvalidData` when it is longer than [`LIMIT`]; `BrokenPipe` when the peer is gone, without a signal.
pub fn send<T: Serialize>(socket: BorrowedFd<'_>, message: &T, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    send_with(socket, message, fd.as_slice())
}

/// Sends one message with several descriptors, for [`recv_with`].
///
/// # Errors
///
/// As [`send`], and `InvalidData` when there are more than [`DESCRIPTORS_MAX`].
pub fn send_with<T: Serialize>(socket: BorrowedFd<'_>, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > LIMIT {
        return Err(invalid("message longer than 64 KiB"));
    }
    if fds.len() > DESCRIPTORS_MAX {
        return Err(invalid("message with too many descriptors"));
    }
    let raw: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &rights[..0] } else { &rights[..] };
    let parts = [IoSlice::new(&bytes)];
    retry(|| sendmsg::<()>(socket.as_raw_fd(), &parts, control, MsgFlags::MSG_NOSIGNAL, None))?;
    Ok(())
}

/// Receives one message and the descriptor that came with it; `None` when the peer closed, after all that it said before.
///
/// # Errors
///
/// `InvalidData` when the message is too long, not what `T` is, or came with more than one descriptor. It is consumed. What comes
/// while this process may open no more comes without its descriptors.
pub fn recv<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Option<(T, Option<OwnedFd>)>> {
    let received = recv_most(socket, 1)?;
    Ok(received.map(|(message, mut fds)| (message, fds.pop())))
}

/// Receives one message and the descriptors that came with it, in their order; `None` when the peer closed.
///
/// # Errors
///
/// As [`recv`], for more than [`DESCRIPTORS_MAX`].
pub fn recv_with<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    recv_most(socket, DESCRIPTORS_MAX)
}

fn recv_most<T: DeserializeOwned>(socket: BorrowedFd<'_>, most: usize) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; LIMIT];
    let Some((length, fds)) = recv_bytes(socket, &mut bytes, most)? else { return Ok(None) };
    let message = serde_json::from_slice(&bytes[..length])?;
    Ok(Some((message, fds)))
}

fn recv_bytes(socket: BorrowedFd<'_>, bytes: &mut [u8], most: usize) -> io::Result<Option<(usize, Vec<OwnedFd>)>> {
    // Room for all one message can carry: where the control data is cut, nix does not say which descriptors came.
    let mut control = vec![0; nix::cmsg_space!([RawFd; SCM_MAX_FD]).capacity()];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let mut receive = || {
        let mut parts = [IoSliceMut::new(bytes)];
        let received = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
        let (length, flags) = (received.bytes, received.flags);
        let fds: Vec<OwnedFd> = match flags.contains(MsgFlags::MSG_CTRUNC) {
            false => received.cmsgs()?.flat_map(rights).collect(),
            true => installed(&control),
        };
        Ok((length, flags, fds))
    };
    let (length, flags, mut fds) = match retry(&mut receive) {
        // The peer closed without reading all of ours, which is told once. What it said before is behind that.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => retry(receive)?,
        received => received?,
    };
    if flags.contains(MsgFlags::MSG_TRUNC) {
        return Err(invalid("message longer than 64 KiB"));
    }
    if fds.len() > most {
        return Err(invalid("message with too many descriptors"));
    }
    // There was room: this process may have no more open.
    if flags.contains(MsgFlags::MSG_CTRUNC) {
        fds.clear();
    }
    Ok((length > 0).then_some((length, fds)))
}

/// Those of a message's descriptors that the kernel could install; nix does not tell of them where there were more.
fn installed(control: &[u8]) -> Vec<OwnedFd> {
    let size = size_of::<libc::cmsghdr>();
    if control.len() < size {
        return Vec::new();
    }
    // SAFETY: as long as a header, and any bytes are one. Where the kernel wrote none they are the zeros of before.
    let header: libc::cmsghdr = unsafe { std::ptr::read_unaligned(control.as_ptr().cast()) };
    #[allow(clippy::useless_conversion, reason = "its type differs between C libraries")]
    let len = usize::try_from(header.cmsg_len).unwrap_or(0);
    if (header.cmsg_level, header.cmsg_type) != (libc::SOL_SOCKET, libc::SCM_RIGHTS) || len > control.len() {
        return Vec::new();
    }
    let numbers = control[size..len.max(size)].chunks_exact(size_of::<RawFd>());
    let fds = numbers.map(|bytes| RawFd::from_ne_bytes(bytes.try_into().expect("so long is a chunk")));
    // SAFETY: as in `rights`.
    fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect()
}

fn rights(message: ControlMessageOwned) -> Vec<OwnedFd> {
    let ControlMessageOwned::ScmRights(fds) = message else { return Vec::new() };
    let own = |fd| {
        // SAFETY: the kernel installed this descriptor for this message; nobody else knows it.
        unsafe { OwnedFd::from_raw_fd(fd) }
    };
    fds.into_iter().map(own).collect()
}

fn retry<R>(mut call: impl FnMut() -> nix::Result<R>) -> io::Result<R> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::time::Duration;

    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    use super::*;
    use crate::in_child;

    #[test]
    fn a_descriptor_arrives_open() {
        let (a, b) = pair().unwrap();
        let file = File::open("/proc/self/comm").unwrap();
        send(a.as_fd(), &"hello", Some(file.as_fd())).unwrap();
        let (text, fd): (String, _) = recv(b.as_fd()).unwrap().unwrap();
        assert_eq!(text, "hello");
        let mut read = String::new();
        File::from(fd.unwrap()).read_to_string(&mut read).unwrap();
        assert!(!read.is_empty());
    }

    #[test]
    fn a_closed_peer_is_the_end() {
        let (a, b) = pair().unwrap();
        drop(a);
        assert!(recv::<String>(b.as_fd()).unwrap().is_none());
        assert_eq!(send(b.as_fd(), &"x", None).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn the_last_words_of_a_peer_that_did_not_listen_are_heard() {
        let (a, b) = pair().unwrap();
        send(b.as_fd(), &"unread", None).unwrap();
        send(a.as_fd(), &1, None).unwrap();
        send(a.as_fd(), &2, None).unwrap();
        drop(a);
        let heard = || recv::<u64>(b.as_fd()).unwrap().map(|(said, _)| said);
        assert_eq!([heard(), heard(), heard()], [Some(1), Some(2), None]);
    }

    #[test]
    fn a_message_too_long_is_refused_on_both_sides() {
        let (a, b) = pair().unwrap();
        let long = "x".repeat(LIMIT);
        assert_eq!(send(a.as_fd(), &long, None).unwrap_err().kind(), io::ErrorKind::InvalidData);
        nix::sys::socket::send(a.as_raw_fd(), &vec![b'1'; LIMIT + 1], MsgFlags::empty()).unwrap();
        assert_eq!(recv::<u64>(b.as_fd()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        send(a.as_fd(), &1, None).unwrap();
        assert_eq!(recv::<u64>(b.as_fd()).unwrap().unwrap().0, 1);
    }

    #[test]
    fn several_descriptors_arrive_in_their_order() {
        let (a, b) = pair().unwrap();
        let pipes: Vec<_> = (0..DESCRIPTORS_MAX).map(|_| nix::unistd::pipe().unwrap()).collect();
        let writers: Vec<_> = pipes.iter().map(|(_, write)| write.as_fd()).collect();
        send_with(a.as_fd(), &1, &writers).unwrap();
        let (_, fds) = recv_with::<u64>(b.as_fd()).unwrap().unwrap();
        assert_eq!(fds.len(), DESCRIPTORS_MAX);
        for (number, (fd, (read, _))) in fds.iter().zip(&pipes).enumerate() {
            nix::unistd::write(fd, &[number as u8]).unwrap();
            let mut byte = [0xff];
            nix::unistd::read(read, &mut byte).unwrap();
            assert_eq!(byte, [number as u8]);
        }
        let five = vec![pipes[0].1.as_fd(); DESCRIPTORS_MAX + 1];
        assert_eq!(send_with(a.as_fd(), &1, &five).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_descriptor_too_many_is_refused_and_none_is_left_open() {
        fn one(socket: BorrowedFd<'_>) -> io::Result<()> {
            recv::<u64>(socket).map(drop)
        }
        fn several(socket: BorrowedFd<'_>) -> io::Result<()> {
            recv_with::<u64>(socket).map(drop)
        }
        too_many_are_refused(one, &[2, 3, DESCRIPTORS_MAX, SCM_MAX_FD]);
        too_many_are_refused(several, &[DESCRIPTORS_MAX + 1, SCM_MAX_FD]);
    }

    #[test]
    fn what_comes_while_no_more_may_be_open_comes_without_its_descriptors() {
        let (a, b) = pair().unwrap();
        let file = File::open("/dev/null").unwrap();
        let work = || {
            send_with(a.as_fd(), &1, &[file.as_fd(); 3]).unwrap();
            send(a.as_fd(), &2, None).unwrap();
            let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            let free = |count: u64| {
                let next = file.try_clone().unwrap().as_raw_fd();
                setrlimit(Resource::RLIMIT_NOFILE, next as u64 + count, most).unwrap();
            };
            // One of three can be installed, and is closed again.
            free(1);
            let one: Option<(u64, Vec<OwnedFd>)> = recv_with(b.as_fd()).unwrap();
            let (one, fds) = one.unwrap();
            let next: Option<(u64, Option<OwnedFd>)> = recv(b.as_fd()).unwrap();
            let is_free = file.try_clone().is_ok();
            Ok(((one, fds.len(), next.unwrap().0, is_free), None))
        };
        let told = in_child("receive", &[a.as_fd(), b.as_fd(), file.as_fd()], Duration::from_secs(10), work);
        assert_eq!(told.unwrap().0, (1, 0, 2, true));
    }

    fn too_many_are_refused(receive: fn(BorrowedFd<'_>) -> io::Result<()>, counts: &[usize]) {
        let (a, b) = pair().unwrap();
        for &count in counts {
            let (read, write) = nix::unistd::pipe().unwrap();
            let raw = vec![write.as_raw_fd(); count];
            let parts = [IoSlice::new(b"1")];
            let control = [ControlMessage::ScmRights(&raw)];
            sendmsg::<()>(a.as_raw_fd(), &parts, &control, MsgFlags::empty(), None).unwrap();
            drop(write);
            assert_eq!(receive(b.as_fd()).unwrap_err().kind(), io::ErrorKind::InvalidData);
            // End of file: no writer is left.
            assert_eq!(nix::unistd::read(&read, &mut [0; 1]).unwrap(), 0);
        }
    }
}
