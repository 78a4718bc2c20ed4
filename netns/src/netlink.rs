//! Links, addresses and routes of one namespace, by route netlink.
//!
//! Blocking, in the calling thread. A socket speaks to the namespace it was opened in, wherever the thread is later. Each
//! request waits for its acknowledgement; the kernel answers these from memory, so there is no deadline here beyond the
//! forked child's own.

mod answer;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;

use self::answer::{Answer, consistent};
use crate::error::Os;
use crate::routes::Route;

/// Longest datagram of the kernel: a dump is cut at 32 KiB (NLMSG_GOODSIZE grows to that).
const DATAGRAM_MAX: usize = 64 * 1024;

/// A result whose error is what the kernel said; the caller adds what was being done.
pub(crate) type Result<T> = std::result::Result<T, Os>;

/// A device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinkIndex(u32);

/// What is asked of a device's state.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// Its index.
    pub(crate) index: LinkIndex,
    /// Its hardware address.
    pub(crate) address: Vec<u8>,
    /// Whether it was brought up.
    pub(crate) up: bool,
}

/// A socket to one namespace's route netlink.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// To the namespace the calling thread is in.
    pub(crate) fn open() -> Result<Netlink> {
        let socket = Socket::new(NETLINK_ROUTE)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Netlink { socket, sequence: 0 })
    }

    /// The device of that name, if there is one.
    pub(crate) fn link(&mut self, ifname: &str) -> Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(ifname.into()));
        match self.request(RouteNetlinkMessage::GetLink(message), 0) {
            Ok(answers) => Ok(answers.into_iter().find_map(as_link)),
            Err(Os(errno)) if errno == Errno::ENODEV as i32 => Ok(None),
            Err(os) => Err(os),
        }
    }

    /// Sets the hardware address and MTU of a device.
    pub(crate) fn set_address_and_mtu(&mut self, index: LinkIndex, mac: [u8; 6], mtu: u32) -> Result<()> {
        self.set(index, vec![LinkAttribute::Address(mac.to_vec()), LinkAttribute::Mtu(mtu)])
    }

    /// Sets the MTU of a device.
    pub(crate) fn set_mtu(&mut self, index: LinkIndex, mtu: u32) -> Result<()> {
        self.set(index, vec![LinkAttribute::Mtu(mtu)])
    }

    /// Moves a device to another namespace and names it there.
    pub(crate) fn move_to(&mut self, index: LinkIndex, namespace: BorrowedFd<'_>, ifname: &str) -> Result<()> {
        self.set(index, vec![LinkAttribute::NetNsFd(namespace.as_raw_fd()), LinkAttribute::IfName(ifname.into())])
    }

    /// Brings a device up.
    pub(crate) fn set_up(&mut self, index: LinkIndex) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index.0;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.request(RouteNetlinkMessage::SetLink(message), 0).map(drop)
    }

    /// Removes a device.
    pub(crate) fn delete(&mut self, index: LinkIndex) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index.0;
        self.request(RouteNetlinkMessage::DelLink(message), 0).map(drop)
    }

    /// Adds an address; an IPv6 one is usable at once, without duplicate address detection: it is leased to nobody else.
    pub(crate) fn add_address(&mut self, index: LinkIndex, address: IpNet) -> Result<()> {
        let mut message = AddressMessage::default();
        message.header.index = index.0;
        message.header.prefix_len = address.prefix_len();
        message.header.scope = AddressScope::Universe;
        message.attributes.push(AddressAttribute::Address(address.addr()));
        message.attributes.push(AddressAttribute::Local(address.addr()));
        match address {
            IpNet::V4(net) => {
                message.header.family = AddressFamily::Inet;
                // RFC 3021: a /31 has no broadcast address, and neither has a /32.
                if net.prefix_len() < 31 {
                    message.attributes.push(AddressAttribute::Broadcast(net.broadcast()));
                }
            }
            IpNet::V6(_) => {
                message.header.family = AddressFamily::Inet6;
                message.header.flags = AddressHeaderFlags::Nodad;
                message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            }
        }
        self.request(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL).map(drop)
    }

    /// The addresses of a device, of both families.
    pub(crate) fn addresses(&mut self, index: LinkIndex) -> Result<Vec<IpNet>> {
        let answers = self.request(RouteNetlinkMessage::GetAddress(AddressMessage::default()), NLM_F_DUMP)?;
        let mine = answers.iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewAddress(message) if message.header.index == index.0 => as_address(message),
            _ => None,
        });
        Ok(mine.collect())
    }

    /// The unicast routes of the main table that leave by a device, of both families.
    pub(crate) fn routes(&mut self, index: LinkIndex) -> Result<Vec<Route>> {
        let answers = self.request(RouteNetlinkMessage::GetRoute(RouteMessage::default()), NLM_F_DUMP)?;
        let mine = answers.iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewRoute(message) => as_route(message, index),
            _ => None,
        });
        Ok(mine.collect())
    }

    /// Adds a route by a device; without a gateway, to what is on its link.
    pub(crate) fn add_route(&mut self, index: LinkIndex, route: &Route) -> Result<()> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(route.to.addr());
        message.header.destination_prefix_length = route.to.prefix_len();
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.scope = if route.gateway.is_some() { RouteScope::Universe } else { RouteScope::Link };
        message.header.kind = RouteType::Unicast;
        if route.to.prefix_len() > 0 {
            message.attributes.push(RouteAttribute::Destination(RouteAddress::from(route.to.network())));
        }
        message.attributes.extend(route.gateway.map(|gateway| RouteAttribute::Gateway(RouteAddress::from(gateway))));
        message.attributes.push(RouteAttribute::Oif(index.0));
        self.request(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_EXCL).map(drop)
    }

    /// Whether the main table has a default route of the family of `like`.
    pub(crate) fn has_default_route(&mut self, like: IpAddr) -> Result<bool> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(like);
        let routes = self.request(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP)?;
        Ok(routes.iter().any(|route| matches!(route, RouteNetlinkMessage::NewRoute(route) if is_default(route))))
    }

    /// Adds the default route by `gateway`; `onlink` when no prefix of the device's holds the gateway.
    pub(crate) fn add_default_route(&mut self, index: LinkIndex, gateway: IpAddr, onlink: bool) -> Result<()> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(gateway);
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.scope = RouteScope::Universe;
        message.header.kind = RouteType::Unicast;
        if onlink {
            message.header.flags = RouteFlags::Onlink;
        }
        message.attributes.push(RouteAttribute::Gateway(RouteAddress::from(gateway)));
        message.attributes.push(RouteAttribute::Oif(index.0));
        self.request(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_EXCL).map(drop)
    }

    fn set(&mut self, index: LinkIndex, attributes: Vec<LinkAttribute>) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index.0;
        message.attributes = attributes;
        self.request(RouteNetlinkMessage::SetLink(message), 0).map(drop)
    }

    /// Sends a request and gathers what comes before its end; a dump under which nothing changed, if there is one to be had.
    fn request(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<Vec<RouteNetlinkMessage>> {
        consistent(|| self.ask(message.clone(), flags))
    }

    /// Sends one request and gathers what comes before its end: the acknowledgement, or the last part of a dump.
    fn ask(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<Answer> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags | if flags & NLM_F_DUMP == NLM_F_DUMP { 0 } else { NLM_F_ACK };
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;

        let mut answer = Answer::default();
        let mut buffer = vec![0; DATAGRAM_MAX];
        loop {
            let length = match self.socket.recv(&mut &mut buffer[..], 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                received => received?,
            };
            if answer.take(&buffer[..length], self.sequence)? {
                return Ok(answer);
            }
        }
    }
}

/// What happens to the devices of one namespace.
#[derive(Debug)]
pub(crate) struct LinkEvents {
    socket: Socket,
}

impl LinkEvents {
    /// Of the namespace the calling thread is in, from now on.
    pub(crate) fn subscribe() -> Result<LinkEvents> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        // include/uapi/linux/rtnetlink.h: RTMGRP_LINK.
        socket.bind(&SocketAddr::new(0, 1))?;
        Ok(LinkEvents { socket })
    }

    /// Waits for something to happen to any of them: what, the caller asks. Events that were lost are one.
    pub(crate) fn wait(&self) -> Result<()> {
        // Not read whole: what is left of a message is thrown away.
        match self.socket.recv(&mut &mut [0; 16][..], 0) {
            Ok(_) => Ok(()),
            Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn as_link(message: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(link) = message else { return None };
    let address = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(address) => Some(address.clone()),
        _ => None,
    });
    let up = link.header.flags.contains(LinkFlags::Up);
    Some(Link { index: LinkIndex(link.header.index), address: address.unwrap_or_default(), up })
}

fn as_address(message: &AddressMessage) -> Option<IpNet> {
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        // On a point-to-point device the other attribute is the peer's.
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let plain = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    IpNet::new(address.or(plain)?, message.header.prefix_len).ok()
}

fn as_route(message: &RouteMessage, index: LinkIndex) -> Option<Route> {
    let header = &message.header;
    let (mut to, mut gateway, mut by) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => to = as_ip(address),
            RouteAttribute::Gateway(address) => gateway = as_ip(address),
            RouteAttribute::Oif(index) => by = Some(*index),
            _ => {}
        }
    }
    if by != Some(index.0) || header.table != RouteHeader::RT_TABLE_MAIN || header.kind != RouteType::Unicast {
        return None;
    }
    let anywhere = match header.address_family {
        AddressFamily::Inet => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        _ => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    let to = IpNet::new(to.unwrap_or(anywhere), header.destination_prefix_length).ok()?;
    Some(Route { to, gateway })
}

fn as_ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// A unicast route to anywhere in the main table: an `unreachable default`, which every IPv6 loopback has, is none.
fn is_default(route: &RouteMessage) -> bool {
    route.header.destination_prefix_length == 0
        && route.header.kind == RouteType::Unicast
        && route.header.table == RouteHeader::RT_TABLE_MAIN
}
