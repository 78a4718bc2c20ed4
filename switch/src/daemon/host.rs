//! What the host has: its routes, addresses and nameservers, read into the [`Occupied`] that ranges are chosen by.
//!
//! Routes and addresses come from netlink dumps of all tables and both families; neither dumps nor [`Watch`] need
//! privilege. The socket is opened once, so that reading goes on when the process may open no more.
//!
//! One thread owns a [`Host`]; each of two threads may have its own.

use std::io;
use std::path::Path;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily as Family, SockFlag, SockType, setsockopt, socket, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use tapswitch_ipam::{Occupied, Route, RouteKind};

mod fact;
mod watch;

use self::fact::Fact;
pub use self::watch::Watch;
use crate::gateway::resolv_conf;

/// Where a Linux host says which nameservers it asks. The second holds the real ones where the first names only a
/// local stub.
pub const RESOLV_CONFS: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// A dump that changes meanwhile is begun again this often; then it is taken as it is, since on a host whose
/// routes never rest (BGP) a slightly old answer beats none, and what changed is news to the [`Watch`].
const TRIES: u32 = 5;

/// The kernel answers a dump at once; this only keeps a lost answer from holding the caller for ever.
const ANSWER_WITHIN: i64 = 5;

/// The kernel fills no datagram of a dump further than 32 KiB.
const DATAGRAM: usize = 64 << 10;

/// Something the kernel would not tell.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {source}")]
pub struct HostError {
    /// What was being done.
    doing: &'static str,
    /// What came of it.
    source: io::Error,
}

/// Attaches what was being done.
fn doing(doing: &'static str) -> impl FnOnce(io::Error) -> HostError {
    move |source| HostError { doing, source }
}

/// Reads the network namespace it was opened in.
pub struct Host {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Host {
    /// Opens the netlink socket. Everything is read from the calling thread's network namespace, wherever it reads
    /// from later.
    ///
    /// # Errors
    /// The kernel refused the socket.
    pub fn open() -> Result<Self, HostError> {
        const DOING: &str = "open a netlink socket to read the host's routes";
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(doing(DOING))?;
        socket.bind_auto().map_err(doing(DOING))?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(ANSWER_WITHIN))
            .map_err(|e| doing(DOING)(e.into()))?;
        Ok(Host { socket, sequence: 0, buffer: Vec::with_capacity(DATAGRAM) })
    }

    /// Everything the host has, sorted, each thing once; `networks` is empty, for they are ours. A resolv.conf
    /// that cannot be read names no nameserver.
    ///
    /// # Errors
    /// The kernel did not answer a dump, or with an error.
    pub fn occupied(&mut self, resolv_confs: &[&Path]) -> Result<Occupied, HostError> {
        let mut occupied = Occupied::default();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            for request in [route_request(family), address_request(family)] {
                for fact in self.dump(request, family).map_err(doing("read the host's routes and addresses"))? {
                    match fact {
                        Fact::Route(route) => occupied.routes.push(route),
                        Fact::Address(address) => occupied.addresses.push(address),
                        Fact::Local(prefix) => {
                            occupied.routes.push(Route { prefix, kind: RouteKind::OnLink });
                            occupied.local.push(prefix);
                        }
                        Fact::Broadcast(address) => occupied.broadcasts.push(address),
                    }
                }
            }
        }
        occupied.nameservers =
            resolv_confs.iter().flat_map(|path| resolv_conf::read(path)).map(|server| server.address).collect();
        sort(&mut occupied.routes);
        sort(&mut occupied.addresses);
        sort(&mut occupied.local);
        sort(&mut occupied.broadcasts);
        sort(&mut occupied.nameservers);
        Ok(occupied)
    }

    fn dump(&mut self, request: RouteNetlinkMessage, family: AddressFamily) -> io::Result<Vec<Fact>> {
        consistent(|| self.dump_once(request.clone(), family))
    }

    /// One dump, and whether the tables changed under it. Each message is reduced as it comes: a router has a million.
    fn dump_once(&mut self, request: RouteNetlinkMessage, family: AddressFamily) -> io::Result<(Vec<Fact>, bool)> {
        self.send(request)?;
        let (mut facts, mut interrupted) = (Vec::new(), false);
        loop {
            self.buffer.clear();
            let (_, from) = match self.socket.recv_from(&mut self.buffer, 0) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                received => received?,
            };
            if from.port_number() != 0 {
                continue; // only the kernel is asked
            }
            for message in messages(&self.buffer).filter(|message| message.sequence_number() == self.sequence) {
                interrupted |= message.flags() & NLM_F_DUMP_INTR != 0;
                match parse(&message) {
                    Some(NetlinkPayload::InnerMessage(message)) => facts.extend(fact::of(&message, family)),
                    Some(NetlinkPayload::Done(done)) if done.code < 0 => {
                        return Err(io::Error::from_raw_os_error(-done.code));
                    }
                    Some(NetlinkPayload::Done(_)) => return Ok((facts, interrupted)),
                    Some(NetlinkPayload::Error(error)) => return Err(error.to_io()),
                    _ => {}
                }
            }
        }
    }

    fn send(&mut self, request: RouteNetlinkMessage) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send_to(&bytes, &SocketAddr::new(0, 0), 0).map(drop)
    }
}

/// Whether this kernel has IPv6. One that was built without it, or started with `ipv6.disable=1`, makes no such socket; the
/// settings `disable_ipv6` are each namespace's own, and no matter here.
pub fn has_ipv6() -> bool {
    let tried = socket(Family::Inet6, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None);
    !matches!(tried, Err(Errno::EAFNOSUPPORT))
}

/// A reading that was not interrupted, if there is one to be had; each comes with whether it was.
fn consistent<T>(mut read: impl FnMut() -> io::Result<(T, bool)>) -> io::Result<T> {
    let mut tries = 0;
    loop {
        tries += 1;
        let (read, interrupted) = read()?;
        if !interrupted || tries == TRIES {
            return Ok(read);
        }
    }
}

fn sort<T: Ord>(list: &mut Vec<T>) {
    list.sort_unstable();
    list.dedup();
}

fn route_request(family: AddressFamily) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    RouteNetlinkMessage::GetRoute(message)
}

fn address_request(family: AddressFamily) -> RouteNetlinkMessage {
    let mut message = AddressMessage::default();
    message.header.family = family;
    RouteNetlinkMessage::GetAddress(message)
}

/// The messages of a datagram; ends at the first that is not whole.
fn messages(mut datagram: &[u8]) -> impl Iterator<Item = NetlinkBuffer<&[u8]>> {
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(datagram).ok()?;
        let length = usize::try_from(message.length()).ok()?.next_multiple_of(4);
        let whole;
        (whole, datagram) = datagram.split_at(length.min(datagram.len()));
        NetlinkBuffer::new_checked(whole).ok()
    })
}

/// What a message says. One that cannot be read, as with an encapsulation newer than the parser, costs that route
/// alone.
fn parse(message: &NetlinkBuffer<&[u8]>) -> Option<NetlinkPayload<RouteNetlinkMessage>> {
    match NetlinkMessage::deserialize(message.clone().into_inner()) {
        Ok(message) => Some(message.payload),
        Err(error) => {
            tracing::warn!(%error, "a route of the host is in a form unknown here; ranges are chosen without it");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_reading_is_begun_again_but_not_for_ever() {
        let readings = |interrupted: u32| {
            let mut count = 0;
            let read = || {
                count += 1;
                Ok((count, count <= interrupted))
            };
            consistent(read).unwrap()
        };
        assert_eq!([readings(0), readings(2), readings(1000)], [1, 3, TRIES]);
    }

    #[test]
    fn a_cut_or_lying_datagram_ends_the_messages() {
        assert_eq!(messages(&[]).count(), 0);
        assert_eq!(messages(&[0; 15]).count(), 0);
        let mut lying = [0; 16];
        lying[0] = 200;
        assert_eq!(messages(&lying).count(), 0);
        let mut two = [0; 36];
        (two[0], two[20]) = (17, 16);
        assert_eq!(messages(&two).count(), 2);
    }
}
