//! Sockets at the address where a container's resolver is expected.
//!
//! Docker writes `nameserver 127.0.0.11` into its containers, has its own resolver listen at random ports of that address, in the
//! container's namespace, and leads port 53 there by nat rules in the container. Then a connection to port 53 is accepted, and
//! nothing is to be done: a socket at port 53 would stand in the way of a DNS server in the container. On a kernel that has no nat
//! the connection is refused, and so is every name. Then sockets are made at port 53 for a process outside to serve, and
//! it is looked who can answer: Docker's own resolver where it serves all the same, else the network's gateway.
//!
//! A Docker that could not make its rules serves its resolver all the same (20.10), or leaves the sockets open with nobody behind
//! them (its later resolver.go). So the resolver is asked: what holds no question is answered by a server at once, without asking
//! anybody (RFC 1035 section 4.1.1, format error).
//!
//! The sockets keep the container's namespace alive: its death does not show until they are closed.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::netlink::Netlink;

/// Where Docker's containers ask.
const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const PORT: u16 = 53;
/// What the loopback device takes at the most; a rule that swallows what is sent there takes for ever.
const PATIENCE: Duration = Duration::from_millis(250);
/// A query that asks nothing: identifier, flags, and no section.
const NO_QUESTION: [u8; 12] = [0x74, 0x73, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// include/net/tcp_states.h, TCP_LISTEN.
const LISTENS: &str = "0A";

/// Sockets made in a container's namespace, for its names to be answered by a process outside it. All are non-blocking and
/// closed on exec.
#[derive(Debug)]
pub struct NameSockets {
    /// UDP, bound to 127.0.0.11 port 53.
    pub queries: OwnedFd,
    /// TCP, listening there.
    pub listener: OwnedFd,
    /// UDP, connected to [`NameUpstream::udp`].
    pub relay: OwnedFd,
    /// TCP, neither bound nor connected: to connect to [`NameUpstream::tcp`] with, one connection after the other.
    pub stream: OwnedFd,
    /// Who knows the names.
    pub upstream: NameUpstream,
}

/// Who knows a container's names: the engine's own resolver, whose ports differ, or the network's gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameUpstream {
    /// Where datagrams go.
    pub udp: SocketAddr,
    /// Where connections go.
    pub tcp: SocketAddr,
}

impl NameSockets {
    /// A socket for the queries in the calling thread's namespace, before it is known who answers there: what comes waits in it, so
    /// that what a container asks first is not refused. Rules that lead elsewhere do so all the same. `None` where it cannot be.
    pub(crate) fn hold() -> Option<UdpSocket> {
        UdpSocket::bind((RESOLVER, PORT)).ok()
    }

    /// Makes them in the calling thread's namespace; `None` where somebody answers, or has the port, or lo is down. `held` is what
    /// [`hold`](NameSockets::hold) gave.
    pub(crate) fn make(gateway: IpAddr, held: Option<UdpSocket>) -> Result<Option<NameSockets>> {
        if !lo_is_up()? || somebody_listens() {
            return Ok(None);
        }
        let upstream = engines_resolver().unwrap_or_else(|| NameUpstream::at(gateway));
        match NameSockets::bind(upstream, held) {
            // A DNS server of the container's own, for datagrams alone.
            Err((_, error)) if error.kind() == ErrorKind::AddrInUse => Ok(None),
            Err((step, error)) => Err(Error::Names { step, os: error.into() }),
            Ok(sockets) => Ok(Some(sockets)),
        }
    }

    /// The descriptors, in the order of the fields.
    pub fn into_parts(self) -> (NameUpstream, Vec<OwnedFd>) {
        (self.upstream, vec![self.queries, self.listener, self.relay, self.stream])
    }

    /// From what [`into_parts`](NameSockets::into_parts) gave; `None` when it is not four descriptors.
    pub fn from_parts(upstream: NameUpstream, fds: Vec<OwnedFd>) -> Option<NameSockets> {
        let [queries, listener, relay, stream] = fds.try_into().ok()?;
        Some(NameSockets { queries, listener, relay, stream, upstream })
    }

    fn bind(upstream: NameUpstream, held: Option<UdpSocket>) -> std::result::Result<NameSockets, (String, io::Error)> {
        let here = SocketAddr::from((RESOLVER, PORT));
        let at_resolver = |error| (format!("bind {here}"), error);
        let queries = held.map_or_else(|| UdpSocket::bind(here), Ok).and_then(non_blocking).map_err(at_resolver)?;
        let listener = TcpListener::bind(here).map_err(at_resolver)?;
        listener.set_nonblocking(true).map_err(at_resolver)?;
        let to_upstream = |error| (format!("connect to {}", upstream.udp), error);
        let relay = connected(upstream.udp).and_then(non_blocking).map_err(to_upstream)?;
        let family = if upstream.tcp.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
        let stream = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)
            .map_err(|errno| ("make a socket".to_owned(), errno.into()))?;
        Ok(NameSockets { queries: queries.into(), listener: listener.into(), relay: relay.into(), stream, upstream })
    }
}

impl NameUpstream {
    fn at(gateway: IpAddr) -> NameUpstream {
        let both = SocketAddr::new(gateway, PORT);
        NameUpstream { udp: both, tcp: both }
    }
}

fn lo_is_up() -> Result<bool> {
    let lo = Netlink::open().and_then(|mut netlink| netlink.link("lo"));
    let lo = lo.map_err(|os| Error::netlink("look for device lo", os))?;
    Ok(lo.is_some_and(|lo| lo.up))
}

/// All but a refusal is somebody: a rule that swallows what is sent there is too.
fn somebody_listens() -> bool {
    let connection = TcpStream::connect_timeout(&(RESOLVER, PORT).into(), PATIENCE);
    !connection.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// Docker's resolver, when it is there and answers.
fn engines_resolver() -> Option<NameUpstream> {
    let port = |table: &str, state: Option<&str>| {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{table}")).ok()?;
        port_of_resolver(&text, state)
    };
    let at = |port| SocketAddr::from((RESOLVER, port));
    let resolver = NameUpstream { udp: at(port("udp", None)?), tcp: at(port("tcp", Some(LISTENS))?) };
    answers(resolver.udp).then_some(resolver)
}

fn answers(resolver: SocketAddr) -> bool {
    let asked = || {
        let socket = connected(resolver)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send(&NO_QUESTION)?;
        socket.recv(&mut [0; 512])
    };
    asked().is_ok()
}

/// The port of a socket at the resolver's address, from a text of /proc/net/{tcp,udp}, which writes the address as it lies in
/// memory; of several, the first. Port 53 is not the engine's.
fn port_of_resolver(table: &str, state: Option<&str>) -> Option<u16> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, is, ..] = fields[..] else { return None };
        let (address, port) = local.split_once(':')?;
        let address = u32::from_str_radix(address, 16).ok()?.to_ne_bytes();
        let is_it = address == RESOLVER.octets() && state.is_none_or(|state| state == is);
        // Not one that was made here before.
        let port = u16::from_str_radix(port, 16).ok().filter(|port| *port != PORT)?;
        is_it.then_some(port)
    };
    table.lines().skip(1).find_map(line)
}

fn connected(to: SocketAddr) -> io::Result<UdpSocket> {
    let any = if to.is_ipv6() { IpAddr::from(Ipv6Addr::UNSPECIFIED) } else { Ipv4Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    Ok(socket)
}

fn non_blocking(socket: UdpSocket) -> io::Result<UdpSocket> {
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resolver_is_found_in_the_kernels_table() {
        let header =
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
        let line = |address: [u8; 4], state: &str| {
            format!("   0: {:08X}:A1B2 00000000:0000 {state} 00000000:00000000\n", u32::from_ne_bytes(address))
        };
        let other = line([127, 0, 0, 1], LISTENS);
        let connected = line(RESOLVER.octets(), "01");
        let listens = line(RESOLVER.octets(), LISTENS);
        assert_eq!(port_of_resolver(&format!("{header}{other}{connected}{listens}"), Some(LISTENS)), Some(0xa1b2));
        assert_eq!(port_of_resolver(&format!("{header}{other}{connected}"), Some(LISTENS)), None);
        assert_eq!(port_of_resolver(&format!("{header}{connected}"), None), Some(0xa1b2));
        assert_eq!(port_of_resolver("", None), None);
        let held = format!("   0: {:08X}:0035 00000000:0000 07\n", u32::from_ne_bytes(RESOLVER.octets()));
        assert_eq!(port_of_resolver(&format!("{header}{held}{listens}"), None), Some(0xa1b2), "not our own");
    }

    #[test]
    fn who_does_not_answer_is_no_resolver() {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(!answers(silent.local_addr().unwrap()));
        let at = silent.local_addr().unwrap();
        drop(silent);
        assert!(!answers(at), "nobody is there");
    }

    #[test]
    fn parts_are_four() {
        let fds = |count| (0..count).map(|_| OwnedFd::from(fs::File::open("/dev/null").unwrap())).collect::<Vec<_>>();
        let upstream = NameUpstream::at("172.17.0.1".parse().unwrap());
        assert_eq!(upstream.udp, "172.17.0.1:53".parse().unwrap());
        for count in [0, 3, 5] {
            assert!(NameSockets::from_parts(upstream, fds(count)).is_none());
        }
        let sockets = NameSockets::from_parts(upstream, fds(4)).unwrap();
        assert_eq!(sockets.into_parts().1.len(), 4);
    }
}
