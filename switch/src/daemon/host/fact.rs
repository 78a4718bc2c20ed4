//! What one message of the kernel's dumps says about the host.
//!
//! | the kernel says | it is |
//! |---|---|
//! | unicast without a gateway | on-link: somebody answers there, a VPN device without gateways included |
//! | unicast with one | through a gateway; with several next hops only if each has one |
//! | local /32 or /128 | an address of the host |
//! | local and shorter | on-link, and local: the host answers for all of it, as for 127.0.0.0/8 |
//! | anycast | an address of the host, as the subnet-router address of RFC 4291 2.6.1 |
//! | broadcast | a broadcast address |
//! | blackhole, unreachable, prohibit, throw | that; they take nothing |
//! | multicast | nothing |
//! | cloned | nothing: what was learnt of one destination, as its MTU |
//!
//! Pure; addresses come from a dump of their own as well, which holds those of links that are down.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHop, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use tapswitch_ipam::{Route, RouteKind};

/// What one message of a dump tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fact {
    Route(Route),
    Address(IpAddr),
    /// A prefix that is all the host's: on-link, too.
    Local(IpNet),
    Broadcast(IpAddr),
}

/// What this message tells of this family.
pub(super) fn of(message: &RouteNetlinkMessage, family: AddressFamily) -> Option<Fact> {
    match message {
        RouteNetlinkMessage::NewRoute(route) => classify(route, family),
        RouteNetlinkMessage::NewAddress(address) => address_of(address, family).map(Fact::Address),
        _ => None,
    }
}

fn classify(message: &RouteMessage, family: AddressFamily) -> Option<Fact> {
    // A kernel without IPv6 answers with all families.
    if message.header.address_family != family || message.header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let prefix = prefix(message)?;
    let is_address = prefix.prefix_len() == prefix.max_prefix_len();
    let kind = match message.header.kind {
        RouteType::Unicast if through_gateway(message) => RouteKind::Gateway,
        RouteType::Local | RouteType::Anycast if is_address => return Some(Fact::Address(prefix.addr())),
        RouteType::Local | RouteType::Anycast => return Some(Fact::Local(prefix)),
        RouteType::Broadcast if is_address => return Some(Fact::Broadcast(prefix.addr())),
        RouteType::Unicast => RouteKind::OnLink,
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
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        _ => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
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
    // With net.ipv4.nexthop_compat_mode=0 a next hop object is not spelled out; IPv4 shows by the scope what it
    // is.
    message.header.address_family == AddressFamily::Inet
        && message.attributes.iter().any(is_object)
        && message.header.scope == RouteScope::Universe
}

/// The host's own end, where it is a point-to-point address; the other end has an on-link route.
fn address_of(message: &AddressMessage, family: AddressFamily) -> Option<IpAddr> {
    if message.header.family != family {
        return None;
    }
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
            other => panic!("a route is expected: {other:?}"),
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
    fn a_local_host_route_is_an_address_and_a_wider_one_is_all_the_hosts() {
        let address = route("10.1.2.3/32", RouteType::Local, vec![]);
        assert_eq!(classify(&address, V4), Some(Fact::Address("10.1.2.3".parse().unwrap())));
        let local = route("127.0.0.0/8", RouteType::Local, vec![]);
        assert_eq!(classify(&local, V4), Some(Fact::Local("127.0.0.0/8".parse().unwrap())));
    }

    #[test]
    fn an_anycast_address_is_the_hosts_and_a_broadcast_address_is_told() {
        let anycast = route("fd00::/128", RouteType::Anycast, vec![]);
        assert_eq!(classify(&anycast, AddressFamily::Inet6), Some(Fact::Address("fd00::".parse().unwrap())));
        let broadcast = route("10.1.2.255/32", RouteType::Broadcast, vec![]);
        assert_eq!(classify(&broadcast, V4), Some(Fact::Broadcast("10.1.2.255".parse().unwrap())));
    }

    #[test]
    fn discarding_routes_keep_their_kind_and_group_routes_are_nothing() {
        assert_eq!(kind_of(&route("10.0.0.0/8", RouteType::BlackHole, vec![])), Some(RouteKind::Blackhole));
        assert_eq!(kind_of(&route("10.0.0.0/8", RouteType::Throw, vec![])), Some(RouteKind::Throw));
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
}
