//! What the host has: its routes, addresses and nameservers, read into the [`Occupied`] that ranges are chosen by.
//!
//! Routes and addresses come from netlink dumps of all tables and both families; neither dumps nor [`Watch`] need privilege. The
//! socket is opened once, so that reading goes on when the process may open no more. How the kernel's routes are understood:
//!
//! | the kernel says | it is |
//! |---|---|
//! | unicast without a gateway | on-link: somebody answers there, a VPN device without gateways included |
//! | unicast with one | through a gateway; with several next hops only if each has one |
//! | local /32 or /128 | an address: AnyIP, and addresses of links that are down, count too |
//! | local and shorter | on-link: the host answers for all of it, as for 127.0.0.0/8 |
//! | blackhole, unreachable, prohibit, throw | that; they take nothing |
//! | broadcast, anycast, multicast | nothing: their network has a route of its own |
//! | cloned | nothing: what was learnt of one destination, as its MTU |
//!
//! One thread owns a [`Host`]; each of two threads may have its own.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHop, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use tapswitch_ipam::{Occupied, Route, RouteKind};

mod watch;

pub use watch::Watch;

/// Where a Linux host says which nameservers it asks. The second holds the real ones where the first names only a local stub.
pub const RESOLV_CONFS: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// A dump that changes meanwhile is begun again this often; then it is taken as it is, since on a host whose routes never rest
/// (BGP) a slightly old answer beats none, and what changed is news to the [`Watch`].
const TRIES: u32 = 5;

/// The kernel answers a dump at once; this only keeps a lost answer from holding the caller for ever.
const ANSWER_WITHIN: i64 = 5;

/// The kernel fills no datagram of a dump further than 32 KiB.
const DATAGRAM: usize = 64 << 10;

/// Longer files are no resolv.conf.
const RESOLV_CONF_MAX: u64 = 64 << 10;

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
    /// Opens the netlink socket. Everything is read from the calling thread's network namespace, wherever it reads from later.
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

    /// Everything the host has, sorted, each thing once; `networks` is empty, for they are ours. A resolv.conf that cannot be read names
    /// no nameserver.
    ///
    /// # Errors
    /// The kernel did not answer a dump, or with an error.
    pub fn occupied(&mut self, resolv_confs: &[&Path]) -> Result<Occupied, HostError> {
        let mut occupied = Occupied::default();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            for message in self.dump("read the host's routes", route_request(family))? {
                let RouteNetlinkMessage::NewRoute(route) = message else { continue };
                match classify(&route, family) {
                    Some(Fact::Route(route)) => occupied.routes.push(route),
                    Some(Fact::Address(address)) => occupied.addresses.push(address),
                    None => {}
                }
            }
            for message in self.dump("read the host's addresses", address_request(family))? {
                let RouteNetlinkMessage::NewAddress(address) = message else { continue };
                occupied.addresses.extend(address_of(&address));
            }
        }
        occupied.nameservers = resolv_confs.iter().flat_map(|path| nameservers(&read_conf(path))).collect();
        sort(&mut occupied.routes);
        sort(&mut occupied.addresses);
        sort(&mut occupied.nameservers);
        Ok(occupied)
    }

    fn dump(
        &mut self,
        what: &'static str,
        request: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, HostError> {
        consistent(|| self.dump_once(request.clone())).map_err(doing(what))
    }

    /// One dump, and whether the tables changed under it.
    fn dump_once(&mut self, request: RouteNetlinkMessage) -> io::Result<(Vec<RouteNetlinkMessage>, bool)> {
        self.send(request)?;
        let (mut answer, mut interrupted) = (Vec::new(), false);
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
                    Some(NetlinkPayload::InnerMessage(inner)) => answer.push(inner),
                    Some(NetlinkPayload::Done(done)) if done.code < 0 => {
                        return Err(io::Error::from_raw_os_error(-done.code));
                    }
                    Some(NetlinkPayload::Done(_)) => return Ok((answer, interrupted)),
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

/// What a message says. One that cannot be read, as with an encapsulation newer than the parser, costs that route alone.
fn parse(message: &NetlinkBuffer<&[u8]>) -> Option<NetlinkPayload<RouteNetlinkMessage>> {
    match NetlinkMessage::deserialize(message.clone().into_inner()) {
        Ok(message) => Some(message.payload),
        Err(error) => {
            tracing::warn!(%error, "a route of the host is in a form unknown here; ranges are chosen without it");
            None
        }
    }
}

/// What one message of a route dump tells.
#[derive(Debug, PartialEq, Eq)]
enum Fact {
    Route(Route),
    Address(IpAddr),
}

fn classify(message: &RouteMessage, family: AddressFamily) -> Option<Fact> {
    // A kernel without IPv6 answers with all families.
    if message.header.address_family != family || message.header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let prefix = prefix(message)?;
    let kind = match message.header.kind {
        RouteType::Unicast if through_gateway(message) => RouteKind::Gateway,
        RouteType::Local if prefix.prefix_len() == prefix.max_prefix_len() => {
            return Some(Fact::Address(prefix.addr()));
        }
        RouteType::Unicast | RouteType::Local => RouteKind::OnLink,
        RouteType::BlackHole => RouteKind::Blackhole,
        RouteType::Unreachable => RouteKind::Unreachable,
        RouteType::Prohibit => RouteKind::Prohibit,
        RouteType::Throw => RouteKind::Throw,
        _ => return None,
    };
    Some(Fact::Route(Route { prefix, kind }))
}

fn prefix(message: &RouteMessage) -> Option<IpNet> {
    let unspecified = || match message.header.address_family {
        AddressFamily::Inet => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        _ => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    };
    let destination = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    });
    IpNet::new(destination.unwrap_or_else(unspecified), message.header.destination_prefix_length).ok()
}

/// Whether every next hop is a gateway.
fn through_gateway(message: &RouteMessage) -> bool {
    let is_gateway = |a: &RouteAttribute| matches!(a, RouteAttribute::Gateway(_) | RouteAttribute::Via(_));
    let hop_is_gateway = |hop: &RouteNextHop| hop.attributes.iter().any(is_gateway);
    let is_object = |a: &RouteAttribute| matches!(a, RouteAttribute::NhId(_));
    for attribute in &message.attributes {
        match attribute {
            attribute if is_gateway(attribute) => return true,
            RouteAttribute::MultiPath(hops) => return hops.iter().all(hop_is_gateway),
            _ => {}
        }
    }
    // With net.ipv4.nexthop_compat_mode=0 a next hop object is not spelled out; IPv4 shows by the scope what it is.
    message.header.address_family == AddressFamily::Inet
        && message.attributes.iter().any(is_object)
        && message.header.scope == RouteScope::Universe
}

/// The host's own end, where it is a point-to-point address; the other end has an on-link route.
fn address_of(message: &AddressMessage) -> Option<IpAddr> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}

/// The text of a resolv.conf; empty if it cannot be read: hosts without one are common, and ask nobody.
fn read_conf(path: &Path) -> String {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(RESOLV_CONF_MAX).read_to_end(&mut bytes)) {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}

/// resolv.conf(5): a line is a keyword and its values; an IPv6 address may name a zone. What is no address is passed over.
fn nameservers(text: &str) -> Vec<IpAddr> {
    let value = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let is_one = words.next() == Some("nameserver");
        let address = words.next().filter(|_| is_one)?;
        address.split('%').next()?.parse().ok()
    };
    text.lines().filter_map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: AddressFamily = AddressFamily::Inet;

    fn route(destination: &str, kind: RouteType, attributes: Vec<RouteAttribute>) -> RouteMessage {
        let net: IpNet = destination.parse().unwrap();
        let mut message = RouteMessage::default();
        message.header.address_family = if net.addr().is_ipv4() { V4 } else { AddressFamily::Inet6 };
        message.header.destination_prefix_length = net.prefix_len();
        message.header.kind = kind;
        message.attributes = attributes;
        if net.prefix_len() > 0 {
            message.attributes.push(RouteAttribute::Destination(net.addr().into()));
        }
        message
    }

    fn kind_of(message: &RouteMessage) -> Option<RouteKind> {
        match classify(message, message.header.address_family)? {
            Fact::Route(route) => Some(route.kind),
            Fact::Address(_) => panic!("a route is expected"),
        }
    }

    fn gateway() -> RouteAttribute {
        RouteAttribute::Gateway(RouteAddress::Inet("10.0.0.1".parse().unwrap()))
    }

    #[test]
    fn a_route_is_on_link_unless_it_has_a_gateway() {
        assert_eq!(kind_of(&route("10.0.0.0/8", RouteType::Unicast, vec![])), Some(RouteKind::OnLink));
        assert_eq!(kind_of(&route("10.0.0.0/8", RouteType::Unicast, vec![gateway()])), Some(RouteKind::Gateway));
    }

    #[test]
    fn several_next_hops_are_a_gateway_only_if_each_is() {
        let hop = |attributes: Vec<RouteAttribute>| {
            let mut hop = RouteNextHop::default();
            hop.attributes = attributes;
            hop
        };
        let all = RouteAttribute::MultiPath(vec![hop(vec![gateway()]), hop(vec![gateway()])]);
        let one = RouteAttribute::MultiPath(vec![hop(vec![gateway()]), hop(vec![])]);
        assert_eq!(kind_of(&route("10.0.0.0/8", RouteType::Unicast, vec![all])), Some(RouteKind::Gateway));
        assert_eq!(kind_of(&route("10.0.0.0/8", RouteType::Unicast, vec![one])), Some(RouteKind::OnLink));
    }

    #[test]
    fn a_next_hop_object_that_is_not_spelled_out_is_told_by_its_scope() {
        let mut message = route("10.0.0.0/8", RouteType::Unicast, vec![RouteAttribute::NhId(7)]);
        assert_eq!(kind_of(&message), Some(RouteKind::Gateway));
        message.header.scope = RouteScope::Link;
        assert_eq!(kind_of(&message), Some(RouteKind::OnLink));
    }

    #[test]
    fn a_local_host_route_is_an_address_and_a_wider_one_is_on_link() {
        let address = route("10.1.2.3/32", RouteType::Local, vec![]);
        assert_eq!(classify(&address, V4), Some(Fact::Address("10.1.2.3".parse().unwrap())));
        assert_eq!(kind_of(&route("127.0.0.0/8", RouteType::Local, vec![])), Some(RouteKind::OnLink));
    }

    #[test]
    fn discarding_routes_keep_their_kind_and_group_routes_are_nothing() {
        assert_eq!(kind_of(&route("10.0.0.0/8", RouteType::BlackHole, vec![])), Some(RouteKind::Blackhole));
        assert_eq!(kind_of(&route("10.0.0.0/8", RouteType::Throw, vec![])), Some(RouteKind::Throw));
        assert_eq!(classify(&route("10.1.2.255/32", RouteType::Broadcast, vec![]), V4), None);
        assert_eq!(kind_of(&route("ff00::/8", RouteType::Multicast, vec![])), None);
    }

    #[test]
    fn a_route_without_destination_is_the_default_route() {
        let message = route("0.0.0.0/0", RouteType::Unicast, vec![gateway()]);
        let default = Route { prefix: "0.0.0.0/0".parse().unwrap(), kind: RouteKind::Gateway };
        assert_eq!(classify(&message, V4), Some(Fact::Route(default)));
    }

    #[test]
    fn cloned_routes_and_other_families_are_nothing() {
        let mut message = route("10.1.2.3/32", RouteType::Unicast, vec![gateway()]);
        assert_eq!(classify(&message, AddressFamily::Inet6), None);
        message.header.flags = RouteFlags::Cloned;
        assert_eq!(classify(&message, V4), None);
    }

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
    fn nameservers_are_read_with_zone_comment_and_nonsense() {
        let text = "# nameserver 1.1.1.1\nsearch lan\nnameserver 10.0.0.53 # the old one\n\tnameserver\tfe80::1%eth0\n\
                    nameserver nonsense\nnameserver\nnameservers 9.9.9.9\noptions ndots:0";
        let read: Vec<String> = nameservers(text).iter().map(|a| a.to_string()).collect();
        assert_eq!(read, ["10.0.0.53", "fe80::1"]);
    }

    #[test]
    fn a_resolv_conf_that_is_not_there_names_nobody() {
        assert_eq!(nameservers(&read_conf(Path::new("/nonexistent/resolv.conf"))), Vec::<IpAddr>::new());
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
