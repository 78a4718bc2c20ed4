//! A flow's socket towards the far side: UDP, or the kernel's "ping" socket, connected and non-blocking.
//!
//! The kernel does what it does best: checksums, segmentation of bursts (UDP_SEGMENT, UDP_GRO), fragments, path MTU. What the
//! container set in its packets, the hop limit and whether they may be cut, is carried over, at the price of a system call
//! when it changes. ICMP errors are read from the socket's error queue. Owned by one worker.

use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc::{self, c_int};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6,
    SockaddrStorage, connect, getsockopt, recvmsg, send, setsockopt, socket, sockopt,
};

use super::errors::Message;

/// Room for a whole datagram, or for a burst that was put together.
const DATAGRAM: usize = 65_536;
/// Room for as much that was read before.
const SPACE: usize = 2 * DATAGRAM;

/// What a socket is read into; one worker's, for all its flows.
#[derive(Debug)]
pub(crate) struct Space {
    pub bytes: Box<[u8]>,
    control: Vec<u8>,
}

impl Default for Space {
    fn default() -> Self {
        // The largest set: an error with an IPv6 offender, the hop limit, the size of a burst's datagrams.
        let control = cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6, libc::c_int, libc::c_int);
        Space { bytes: vec![0; SPACE].into_boxed_slice(), control }
    }
}

/// A datagram, or a burst, in a [`Space`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub len: usize,
    /// It is a burst of datagrams of this length, of which the last may be shorter.
    pub segment: Option<u16>,
    /// The hop limit that was left; of echo replies only.
    pub hop_limit: Option<u8>,
    pub from: Option<IpAddr>,
}

/// What somebody on the way said of a packet, the payload of which is in a [`Space`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub by: IpAddr,
    pub message: Message,
    pub len: usize,
}

/// What an ICMP error is about, of which [`Socket`] tells only those that came from elsewhere.
const ORIGIN_ICMP: u8 = libc::SO_EE_ORIGIN_ICMP;
const ORIGIN_ICMP6: u8 = libc::SO_EE_ORIGIN_ICMP6;

/// The hop limit that a socket starts with, of its own and of the container's packets. Of these it is carried over only where
/// it differs: Linux's default, RFC 1700.
const USUAL_HOPS: u8 = 64;

/// The socket.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    ipv6: bool,
    /// The hop limit in the container's packets.
    hops: u8,
    /// Packets must not be cut.
    whole: bool,
    /// UDP_SEGMENT; 0 is off.
    segment: u16,
}

impl Socket {
    /// Connected to `far`, over UDP.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn udp(far: SocketAddr) -> Result<Self, Errno> {
        let socket = Self::new(far, SockProtocol::Udp)?;
        // Without it datagrams are read one by one.
        let _ = setsockopt(&socket.fd, sockopt::UdpGroSegment, &true);
        Ok(socket)
    }

    /// Connected to `far`, for echoes.
    ///
    /// # Errors
    /// What the kernel says: `EACCES` where the daemon's groups are not in `net.ipv4.ping_group_range`.
    pub(crate) fn ping(far: IpAddr) -> Result<Self, Errno> {
        let protocol = if far.is_ipv4() { SockProtocol::Icmp } else { SockProtocol::IcmpV6 };
        let socket = Self::new(SocketAddr::new(far, 0), protocol)?;
        if socket.ipv6 {
            setsockopt(&socket.fd, sockopt::Ipv6RecvHopLimit, &true)?;
        } else {
            setsockopt(&socket.fd, sockopt::Ipv4RecvTtl, &true)?;
        }
        Ok(socket)
    }

    fn new(far: SocketAddr, protocol: SockProtocol) -> Result<Self, Errno> {
        let ipv6 = far.is_ipv6();
        let family = if ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd = socket(family, SockType::Datagram, flags, protocol)?;
        if ipv6 {
            setsockopt(&fd, sockopt::Ipv6RecvErr, &true)?;
        } else {
            setsockopt(&fd, sockopt::Ipv4RecvErr, &true)?;
        }
        let mut socket = Socket { fd, ipv6, hops: USUAL_HOPS, whole: false, segment: 0 };
        socket.set_whole(true)?;
        connect(socket.fd.as_raw_fd(), &SockaddrStorage::from(far))?;
        Ok(socket)
    }

    /// To be waited for.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn register(&self, registry: &Registry, token: Token) -> std::io::Result<()> {
        registry.register(&mut SourceFd(&self.fd.as_raw_fd()), token, Interest::READABLE)
    }

    /// Not to be waited for any more.
    pub(crate) fn deregister(&self, registry: &Registry) {
        // It fails only for what is not registered.
        let _ = registry.deregister(&mut SourceFd(&self.fd.as_raw_fd()));
    }

    /// What the container's next packet looks like: its hop limit, above 1, and whether routers may not cut it.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn shape(&mut self, hop_limit: u8, whole: bool) -> Result<(), Errno> {
        if hop_limit != self.hops {
            // One hop is this one; the usual limit stays the usual one.
            let hops = i32::from(if hop_limit == USUAL_HOPS { USUAL_HOPS } else { hop_limit - 1 });
            if self.ipv6 {
                setsockopt(&self.fd, sockopt::Ipv6Ttl, &hops)?;
            } else {
                setsockopt(&self.fd, sockopt::Ipv4Ttl, &hops)?;
            }
            self.hops = hop_limit;
        }
        self.set_whole(whole)
    }

    fn set_whole(&mut self, whole: bool) -> Result<(), Errno> {
        if whole == self.whole {
            return Ok(());
        }
        if self.ipv6 {
            let how = if whole { libc::IPV6_PMTUDISC_DO } else { libc::IPV6_PMTUDISC_WANT };
            self.set(libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, how)?;
        } else {
            let how = if whole { libc::IP_PMTUDISC_DO } else { libc::IP_PMTUDISC_WANT };
            self.set(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, how)?;
        }
        self.whole = whole;
        Ok(())
    }

    fn set_segment(&mut self, size: u16) -> Result<(), Errno> {
        if self.segment != size {
            setsockopt(&self.fd, sockopt::UdpGsoSegment, &i32::from(size))?;
            self.segment = size;
        }
        Ok(())
    }

    /// Largest IP packet that fits the path, as far as known, in bytes.
    pub(crate) fn path_mtu(&self) -> Option<u32> {
        let mtu = if self.ipv6 { self.mtu6() } else { getsockopt(&self.fd, sockopt::IpMtu) };
        mtu.ok().and_then(|mtu| u32::try_from(mtu).ok())
    }

    /// An option that `nix` has no name for.
    fn set(&self, level: c_int, option: c_int, value: c_int) -> Result<(), Errno> {
        let len = size_of::<c_int>() as libc::socklen_t;
        // SAFETY: the kernel reads `len` bytes of `value`, which outlives the call.
        let result = unsafe { libc::setsockopt(self.fd.as_raw_fd(), level, option, (&raw const value).cast(), len) };
        Errno::result(result).map(drop)
    }

    /// IPV6_MTU, which `nix` has no name for either.
    fn mtu6(&self) -> Result<c_int, Errno> {
        let mut value: c_int = 0;
        let mut len = size_of::<c_int>() as libc::socklen_t;
        let (level, option) = (libc::IPPROTO_IPV6, libc::IPV6_MTU);
        let fd = self.fd.as_raw_fd();
        // SAFETY: the kernel writes at most `len` bytes to `value`, and to `len` how many; both outlive the call.
        let result = unsafe { libc::getsockopt(fd, level, option, (&raw mut value).cast(), &raw mut len) };
        Errno::result(result).map(|_| value)
    }

    /// Sends one datagram.
    ///
    /// # Errors
    /// What the kernel says, of this datagram and not of an earlier one.
    pub(crate) fn send(&mut self, payload: &[u8]) -> Result<(), Errno> {
        if payload.len() > self.segment.into() {
            self.set_segment(0)?;
        }
        self.push(payload)
    }

    /// Sends a burst of datagrams of `size` bytes each, of which the last may be shorter.
    ///
    /// # Errors
    /// What the kernel says of the first that was not sent.
    pub(crate) fn send_burst(&mut self, payload: &[u8], size: u16) -> Result<(), Errno> {
        if self.set_segment(size).is_ok() {
            match self.push(payload) {
                // Too many for this kernel, larger than the path's MTU, or a device that cannot sum.
                Err(Errno::EINVAL | Errno::EMSGSIZE | Errno::EIO) => {}
                outcome => return outcome,
            }
        }
        self.set_segment(0)?;
        payload.chunks(size.into()).try_for_each(|datagram| self.push(datagram))
    }

    /// The error of an earlier datagram is told to the next call, whatever that is: so it is called once more.
    fn push(&self, payload: &[u8]) -> Result<(), Errno> {
        let push = || send(self.fd.as_raw_fd(), payload, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL).map(drop);
        match push() {
            Err(Errno::EAGAIN) => Err(Errno::EAGAIN),
            Err(_) => push(),
            Ok(()) => Ok(()),
        }
    }

    /// The next datagram or burst, put at `at` of the space, which is no more than half of it.
    ///
    /// # Errors
    /// `EAGAIN`: there is none. Anything else is about an earlier datagram, and the next call tells more.
    pub(crate) fn receive(&self, space: &mut Space, at: usize) -> Result<Received, Errno> {
        let mut parts = [IoSliceMut::new(&mut space.bytes[at..at + DATAGRAM])];
        let (fd, flags) = (self.fd.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
        let message = recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut space.control), flags)?;
        let mut received =
            Received { len: message.bytes, segment: None, hop_limit: None, from: message.address.and_then(ip_of) };
        for control in message.cmsgs()? {
            match control {
                ControlMessageOwned::UdpGroSegments(size) => received.segment = u16::try_from(size).ok(),
                ControlMessageOwned::Ipv4Ttl(hops) | ControlMessageOwned::Ipv6HopLimit(hops) => {
                    received.hop_limit = u8::try_from(hops).ok();
                }
                _ => {}
            }
        }
        Ok(received)
    }

    /// The next ICMP error, which leaves what the packet carried in `space`; those of this host's own making are passed over,
    /// for they were told when it was sent.
    pub(crate) fn refused(&self, space: &mut Space) -> Option<Refused> {
        /// More in a row are not waited out.
        const MOST: usize = 64;
        for _ in 0..MOST {
            let mut parts = [IoSliceMut::new(&mut space.bytes)];
            let (fd, flags) = (self.fd.as_raw_fd(), MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_ERRQUEUE);
            let message = recvmsg::<()>(fd, &mut parts, Some(&mut space.control), flags).ok()?;
            let told = message.cmsgs().ok()?.find_map(|control| match control {
                ControlMessageOwned::Ipv4RecvErr(error, by) => {
                    told(&error, ORIGIN_ICMP, by.map(|by| SockaddrIn::from(by).ip().into()))
                }
                ControlMessageOwned::Ipv6RecvErr(error, by) => {
                    told(&error, ORIGIN_ICMP6, by.map(|by| SockaddrIn6::from(by).ip().into()))
                }
                _ => None,
            });
            if let Some((by, message_of)) = told {
                return Some(Refused { by, message: message_of, len: message.bytes });
            }
        }
        None
    }
}

fn ip_of(address: SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| v4.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| v6.ip().into()))
}

fn told(error: &libc::sock_extended_err, origin: u8, by: Option<IpAddr>) -> Option<(IpAddr, Message)> {
    let is_theirs = error.ee_origin == origin;
    // What does not fit is told with what does; nothing else has anything in its header's second word.
    let is_too_big = matches!((origin, error.ee_type, error.ee_code), (ORIGIN_ICMP, 3, 4) | (ORIGIN_ICMP6, 2, _));
    let rest = if is_too_big { error.ee_info } else { 0 };
    let message = Message { kind: error.ee_type, code: error.ee_code, rest };
    by.filter(|_| is_theirs).map(|by| (by, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::time::Duration;

    /// A socket of the far side, and one connected to it.
    fn pair() -> (UdpSocket, Socket) {
        let far = UdpSocket::bind("127.0.0.1:0").unwrap();
        far.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let socket = Socket::udp(far.local_addr().unwrap()).unwrap();
        (far, socket)
    }

    #[test]
    fn after_a_burst_a_longer_datagram_is_not_cut() {
        let (far, mut socket) = pair();
        let mut buffer = [0; 3000];
        socket.send_burst(&[1; 1500], 1000).unwrap();
        socket.send(&[2; 2500]).unwrap();
        socket.send(&[3; 10]).unwrap();
        let lens: Vec<usize> = (0..4).map(|_| far.recv(&mut buffer).unwrap()).collect();
        assert_eq!(lens, [1000, 500, 2500, 10]);
    }

    #[test]
    fn a_burst_too_long_for_the_kernel_leaves_all_the_same() {
        let (far, mut socket) = pair();
        // More datagrams than UDP_MAX_SEGMENTS of any kernel.
        socket.send_burst(&[7; 600], 3).unwrap();
        let mut buffer = [0; 100];
        assert!((0..200).all(|_| far.recv(&mut buffer).unwrap() == 3));
    }

    #[test]
    fn the_error_of_an_earlier_datagram_does_not_stop_the_next() {
        let (far, mut socket) = pair();
        let address = far.local_addr().unwrap();
        // It hears one who is not there, and so nobody; nobody else gets its port.
        far.connect((address.ip(), 9)).unwrap();
        socket.send(b"lost").unwrap();
        let near = nix::sys::socket::getsockname::<SockaddrIn>(socket.fd.as_raw_fd()).unwrap();
        far.connect(std::net::SocketAddrV4::from(near)).unwrap();
        socket.send(b"heard").unwrap();
        let mut buffer = [0; 100];
        assert_eq!(far.recv(&mut buffer).unwrap(), 5);
        let mut space = Space::default();
        let refused = socket.refused(&mut space).expect("the first was refused");
        assert_eq!((refused.by, refused.message), (address.ip(), Message { kind: 3, code: 3, rest: 0 }));
        assert_eq!(&space.bytes[..refused.len], b"lost");
        assert_eq!(socket.refused(&mut space), None);
    }

    #[test]
    fn a_hop_limit_is_carried_less_one_and_the_usual_one_stays() {
        let (_far, mut socket) = pair();
        for (hop_limit, expected) in [(64, 64), (2, 1), (255, 254), (64, 64)] {
            socket.shape(hop_limit, true).unwrap();
            assert_eq!(getsockopt(&socket.fd, sockopt::Ipv4Ttl), Ok(expected));
        }
    }
}
