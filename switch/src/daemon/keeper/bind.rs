//! Sockets of published ports, bound with the keeper's rights: ports below 1024 need one that the switch has not.
//!
//! A socket is bound in the keeper's own network namespace, the host's; nothing else is done there. It is made ready
//! here to the last option, so that the switch only accepts and receives. At most [`SOCKETS_MAX`] are kept, so that a
//! switch that was taken over cannot take every port and descriptor of the host.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, getsockname, listen, setsockopt, socket, sockopt,
};

use super::message::SocketKey;
use crate::uplink::Transport;

/// Most sockets, of all containers.
pub(crate) const SOCKETS_MAX: usize = 2048;
/// Connections that wait to be accepted: the kernel's own default limit (net.core.somaxconn), which cuts it where it is lower.
const BACKLOG: i32 = 4096;

/// Binds a socket, non-blocking, listening where it is TCP. Port 0 is one that the kernel chooses: what it is bound to
/// comes back.
///
/// # Errors
/// What the kernel said.
pub(super) fn bound(key: SocketKey) -> nix::Result<(SocketKey, OwnedFd)> {
    let family = if key.address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let kind = match key.transport {
        Transport::Tcp => SockType::Stream,
        Transport::Udp => SockType::Datagram,
    };
    let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    if key.address.is_ipv6() {
        // The other family has a socket of its own, and clients of it their own address.
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    match key.transport {
        // Connections of an earlier listener may be waiting for their end.
        Transport::Tcp => setsockopt(&fd, sockopt::ReuseAddr, &true)?,
        // Which of the host's addresses a client wrote to: the answer must come from there.
        Transport::Udp if key.address.is_ipv6() => setsockopt(&fd, sockopt::Ipv6RecvPacketInfo, &true)?,
        Transport::Udp => setsockopt(&fd, sockopt::Ipv4PacketInfo, &true)?,
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(key.address))?;
    if key.transport == Transport::Tcp {
        listen(&fd, Backlog::new(BACKLOG)?)?;
    }
    let address = local_address(&fd)?;
    Ok((SocketKey { address, ..key }, fd))
}

fn local_address(fd: &OwnedFd) -> nix::Result<SocketAddr> {
    let name: SockaddrStorage = getsockname(fd.as_raw_fd())?;
    let v4 = name.as_sockaddr_in().map(|sin| SocketAddr::new(IpAddr::V4(sin.ip()), sin.port()));
    let v6 = name.as_sockaddr_in6().map(|sin| SocketAddr::new(IpAddr::V6(sin.ip()), sin.port()));
    v4.or(v6).ok_or(Errno::EAFNOSUPPORT)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpStream, UdpSocket};

    use super::*;

    fn key(transport: Transport, address: &str) -> SocketKey {
        SocketKey { transport, address: address.parse().unwrap() }
    }

    #[test]
    fn port_zero_comes_back_as_the_one_that_listens() {
        let (bound_to, _fd) = bound(key(Transport::Tcp, "127.0.0.1:0")).unwrap();
        assert_ne!(bound_to.address.port(), 0);
        TcpStream::connect(bound_to.address).unwrap();
    }

    #[test]
    fn both_families_have_the_same_port_side_by_side() {
        let (v4, _a) = bound(key(Transport::Tcp, "0.0.0.0:0")).unwrap();
        let both = SocketKey { address: SocketAddr::new("::".parse().unwrap(), v4.address.port()), ..v4 };
        assert_eq!(bound(both).map(|(key, _)| key), Ok(both));
    }

    #[test]
    fn a_port_of_another_is_refused_for_either_transport() {
        for transport in [Transport::Tcp, Transport::Udp] {
            let (taken, _fd) = bound(key(transport, "127.0.0.1:0")).unwrap();
            assert_eq!(bound(taken).unwrap_err(), Errno::EADDRINUSE);
            let all = SocketKey { address: SocketAddr::new("0.0.0.0".parse().unwrap(), taken.address.port()), ..taken };
            assert_eq!(bound(all).unwrap_err(), Errno::EADDRINUSE);
        }
    }

    #[test]
    fn a_datagram_arrives() {
        let (to, fd) = bound(key(Transport::Udp, "127.0.0.1:0")).unwrap();
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", to.address).unwrap();
        assert_eq!(nix::sys::socket::recv(fd.as_raw_fd(), &mut [0; 8], nix::sys::socket::MsgFlags::empty()), Ok(1));
    }

    #[test]
    fn an_address_of_nobody_is_refused() {
        assert_eq!(bound(key(Transport::Tcp, "192.0.2.1:0")).unwrap_err(), Errno::EADDRNOTAVAIL);
    }
}
