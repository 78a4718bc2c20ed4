//! Whether what is sent to an address leaves this host, as its kernel routes now.
//!
//! It is asked for the route, for nothing else tells. What was heard of the host's addresses is late by as long as they keep
//! changing. The address that a connected socket got is the destination itself for some of the host's own only: a secondary
//! one is reached from the primary one, and a local route names any source. A socket bound to the address would take every one
//! where `net.ipv4.ip_nonlocal_bind` is set, and of IPv6 none of a local route.
//!
//! A question is two system calls on a socket that stays open. The kernel answers within the first one and takes no lock that a
//! change of the routes holds (`RTNL_FLAG_DOIT_UNLOCKED`), so neither blocks. One worker owns it.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// Room for a route: some dozen attributes, of which an encapsulation is the longest.
const ANSWER: usize = 4096;

/// The host's routes.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    /// To the kernel, and to nobody else.
    socket: Option<Socket>,
    sequence: u32,
}

impl Routes {
    /// Of the calling thread's network namespace. Opened when the worker starts, so that it is there when the process may open no
    /// more; without it nothing leaves.
    pub(crate) fn open() -> Self {
        let open = || {
            let socket = Socket::new(NETLINK_ROUTE)?;
            socket.connect(&SocketAddr::new(0, 0))?;
            io::Result::Ok(socket)
        };
        let failed = |error: &io::Error| {
            tracing::error!("containers reach nothing: open a netlink socket to ask for the host's routes: {error}");
        };
        Routes { socket: open().inspect_err(failed).ok(), sequence: 0 }
    }

    /// Whether `far` is another host's. What the kernel says nothing of is not.
    pub(crate) fn is_elsewhere(&mut self, far: IpAddr) -> bool {
        self.kind(far).is_ok_and(|kind| kind == RouteType::Unicast)
    }

    fn kind(&mut self, far: IpAddr) -> io::Result<RouteType> {
        self.sequence = self.sequence.wrapping_add(1);
        let socket = self.socket.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        socket.send(&question(far, self.sequence), 0)?;
        loop {
            let mut space = [0; ANSWER];
            let len = socket.recv(&mut &mut space[..], libc::MSG_DONTWAIT)?;
            let answer = NetlinkBuffer::new_checked(&space[..len]).map_err(io::Error::other)?;
            if answer.sequence_number() != self.sequence {
                continue; // to a question that was given up
            }
            if answer.message_type() != libc::RTM_NEWROUTE {
                return Err(io::ErrorKind::NetworkUnreachable.into());
            }
            return Ok(RouteHeader::parse(answer.payload()).map_err(io::Error::other)?.kind);
        }
    }
}

fn question(far: IpAddr, sequence: u32) -> Vec<u8> {
    let mut message = RouteMessage::default();
    (message.header.address_family, message.header.destination_prefix_length) =
        if far.is_ipv4() { (AddressFamily::Inet, 32) } else { (AddressFamily::Inet6, 128) };
    message.attributes.push(RouteAttribute::Destination(RouteAddress::from(far)));
    let mut header = NetlinkHeader::default();
    (header.flags, header.sequence_number) = (NLM_F_REQUEST, sequence);
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(RouteNetlinkMessage::GetRoute(message)));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_for_this_host_leaves_it() {
        let mut routes = Routes::open();
        for far in ["127.0.0.1", "127.1.2.3", "0.0.0.0", "::1"] {
            assert_eq!(routes.kind(far.parse().unwrap()).unwrap(), RouteType::Local, "{far}");
        }
    }
}
