//! Where a subnet and the host overlap, and whether that is bearable.
//!
//! A packet of a container to an address inside its own subnet never leaves the switch, so whoever else has that
//! address cannot be reached from there. With a network behind a gateway, as a VPN that routes all of 10.0.0.0/8,
//! that is a loss one may choose to bear: a [`Warning`]. With the host's own addresses, its links and our other
//! networks it is a mistake: [`Refused`].

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::{Occupied, OwnNetwork, RouteKind};

/// One thing on the host that a subnet overlaps. The order is the one they are shown in: what hurts most, first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Collision {
    /// Another network of ours.
    Network(OwnNetwork),
    /// An address of the host.
    Address(IpAddr),
    /// A network on one of the host's links.
    OnLink(IpNet),
    /// A nameserver of the host.
    Nameserver(IpAddr),
    /// A network the host reaches through a gateway.
    Routed(IpNet),
}

impl Collision {
    /// Whether this keeps a default range from being chosen even in the second pass.
    pub fn blocks_choice(&self) -> bool {
        !matches!(self, Collision::Routed(_))
    }

    /// Whether this refuses a subnet the user gave. A nameserver does not: whoever gives a range has decided, and
    /// is warned.
    pub fn refuses_given(&self) -> bool {
        matches!(self, Collision::Network(_) | Collision::Address(_) | Collision::OnLink(_))
    }
}

impl fmt::Display for Collision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Collision::Network(own) => write!(f, "network {} ({})", own.name, own.subnet),
            Collision::Address(address) => write!(f, "the host's address {address}"),
            Collision::OnLink(prefix) => write!(f, "the host's on-link route {prefix}"),
            Collision::Nameserver(address) => write!(f, "the host's nameserver {address}"),
            Collision::Routed(prefix) => write!(f, "the host's route {prefix} through a gateway"),
        }
    }
}

/// Everything on the host that `subnet` overlaps, sorted, each thing once. Empty is what one wishes for.
pub fn collisions(subnet: IpNet, occupied: &Occupied) -> Vec<Collision> {
    let networks = occupied.networks.iter().filter(|own| overlap(subnet, own.subnet)).cloned().map(Collision::Network);
    let addresses = occupied.addresses.iter().filter(|a| subnet.contains(*a)).copied().map(Collision::Address);
    let nameservers = occupied.nameservers.iter().filter(|a| subnet.contains(*a)).copied().map(Collision::Nameserver);
    let routes = occupied.routes.iter().filter(|route| route.counts() && overlap(subnet, route.prefix)).map(|route| {
        let prefix = route.prefix.trunc();
        if route.kind == RouteKind::OnLink { Collision::OnLink(prefix) } else { Collision::Routed(prefix) }
    });
    let mut found: Vec<Collision> = networks.chain(addresses).chain(nameservers).chain(routes).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Whether a subnet the user gave may be had on this host, and what to tell about it.
///
/// # Errors
/// It overlaps another network of ours, an address of the host, or a network on one of its links.
pub fn check(subnet: IpNet, occupied: &Occupied) -> Result<Option<Warning>, Refused> {
    let found = collisions(subnet, occupied);
    let (refused, bearable): (Vec<_>, Vec<_>) = found.into_iter().partition(Collision::refuses_given);
    if refused.is_empty() { Ok(Warning::about(subnet, bearable)) } else { Err(Refused { subnet, collisions: refused }) }
}

/// A subnet in use overlaps something; to be shown in `status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The subnet.
    pub subnet: IpNet,
    /// What it overlaps; never empty.
    pub collisions: Vec<Collision>,
}

impl Warning {
    /// The warning there is to give about these, if any. Also for what [`collisions`] finds later.
    pub fn about(subnet: IpNet, collisions: Vec<Collision>) -> Option<Self> {
        (!collisions.is_empty()).then_some(Warning { subnet, collisions })
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Warning { subnet, collisions } = self;
        let flag = if matches!(subnet, IpNet::V4(_)) { "--subnet" } else { "--ipv6" };
        let list = List(collisions);
        write!(
            f,
            "{subnet} overlaps {list}: addresses of it outside the switch cannot be reached from its containers \
             (another range: {flag})"
        )
    }
}

/// A given subnet overlaps what it must not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("subnet {subnet} overlaps {}; give another one", List(.collisions))]
pub struct Refused {
    /// The subnet.
    pub subnet: IpNet,
    /// What it overlaps and must not; never empty.
    pub collisions: Vec<Collision>,
}

/// The first few of them, in one line.
struct List<'a>(&'a [Collision]);

/// A line stays readable with this many; a router of the default-free zone has a million routes.
const SHOWN: usize = 3;

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, collision) in self.0.iter().take(SHOWN).enumerate() {
            write!(f, "{}{collision}", if i == 0 { "" } else { ", " })?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Whether two networks share an address.
pub(crate) fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NetworkName, Route};

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn routed(prefix: &str) -> Occupied {
        Occupied { routes: vec![Route { prefix: net(prefix), kind: RouteKind::Gateway }], ..Occupied::default() }
    }

    fn on_link(prefix: &str) -> Occupied {
        Occupied { routes: vec![Route { prefix: net(prefix), kind: RouteKind::OnLink }], ..Occupied::default() }
    }

    #[test]
    fn overlap_holds_both_ways_and_not_across_families() {
        assert!(overlap(net("10.0.0.0/8"), net("10.9.0.0/16")));
        assert!(overlap(net("10.9.0.0/16"), net("10.0.0.0/8")));
        assert!(!overlap(net("10.0.0.0/9"), net("10.128.0.0/9")));
        assert!(!overlap(net("0.0.0.0/0"), net("fd00::/8")));
    }

    #[test]
    fn a_given_subnet_over_a_gateway_route_is_accepted_with_a_warning() {
        let warning = check(net("10.9.0.0/16"), &routed("10.0.0.0/8")).unwrap().unwrap();
        assert_eq!(warning.collisions, [Collision::Routed(net("10.0.0.0/8"))]);
        assert_eq!(
            warning.to_string(),
            "10.9.0.0/16 overlaps the host's route 10.0.0.0/8 through a gateway: addresses of it outside the switch \
             cannot be reached from its containers (another range: --subnet)"
        );
    }

    #[test]
    fn a_given_subnet_over_an_on_link_route_is_refused_by_name() {
        let refused = check(net("10.9.0.0/16"), &on_link("10.9.8.0/24")).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "subnet 10.9.0.0/16 overlaps the host's on-link route 10.9.8.0/24; give another one"
        );
    }

    #[test]
    fn a_given_subnet_over_an_address_or_another_network_is_refused() {
        let occupied = Occupied {
            addresses: vec!["10.9.1.1".parse().unwrap()],
            networks: vec![OwnNetwork { name: NetworkName::new("blue"), subnet: net("10.8.0.0/15") }],
            ..Occupied::default()
        };
        let refused = check(net("10.9.0.0/16"), &occupied).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "subnet 10.9.0.0/16 overlaps network blue (10.8.0.0/15), the host's address 10.9.1.1; give another one"
        );
    }

    #[test]
    fn a_given_subnet_over_a_nameserver_is_accepted_with_a_warning() {
        let occupied = Occupied { nameservers: vec!["10.9.0.53".parse().unwrap()], ..Occupied::default() };
        assert!(check(net("10.9.0.0/16"), &occupied).unwrap().is_some());
    }

    #[test]
    fn a_given_subnet_over_nothing_passes_without_a_word() {
        assert_eq!(check(net("10.9.0.0/16"), &on_link("10.10.0.0/16")), Ok(None));
    }

    #[test]
    fn the_same_route_in_two_tables_is_one_collision() {
        let mut occupied = on_link("10.9.0.0/24");
        occupied.routes.push(occupied.routes[0]);
        assert_eq!(collisions(net("10.9.0.0/16"), &occupied).len(), 1);
    }

    #[test]
    fn a_thousand_collisions_still_make_one_line() {
        let routes = (0..1000u32).map(|i| Route {
            prefix: IpNet::V4(ipnet::Ipv4Net::new(std::net::Ipv4Addr::from(0x0a00_0000 + (i << 8)), 24).unwrap()),
            kind: RouteKind::OnLink,
        });
        let occupied = Occupied { routes: routes.collect(), ..Occupied::default() };
        let text = check(net("10.0.0.0/8"), &occupied).unwrap_err().to_string();
        assert!(text.contains("and 997 more") && text.len() < 240, "{text}");
    }
}
