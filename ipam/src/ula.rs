//! The IPv6 subnet a network gets by itself: a unique local /64.
//!
//! RFC 4193 3.1: `fd`, a global id of 40 random bits, a subnet id of 16 bits. The caller makes the global id once
//! and keeps it with its state; the subnet id follows from the network's name, so that a network made again under
//! its name has its addresses again whatever else was made before it. Names whose ids meet, and ids that overlap
//! something on the host, go on to the next id.
//!
//! The two passes are those of [`choose`](crate::choose).

use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::collision::overlap;
use crate::{NetworkName, Occupied, Subnet, SubnetV6, Warning, collisions};

/// The 40 random bits that make this installation's unique local addresses unlike all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GlobalId([u8; 5]);

impl GlobalId {
    /// From random octets: RFC 4193 3.2.1 wants them unpredictable and never assigned by hand.
    pub const fn new(random: [u8; 5]) -> Self {
        GlobalId(random)
    }

    /// The /48 that is ours.
    pub fn prefix(self) -> Ipv6Net {
        let GlobalId([a, b, c, d, e]) = self;
        let mut octets = [0; 16];
        octets[..6].copy_from_slice(&[0xfd, a, b, c, d, e]);
        Ipv6Net::new_assert(octets.into(), 48)
    }

    /// The /64 of a subnet id.
    fn subnet(self, id: u16) -> Ipv6Net {
        let base = u128::from(self.prefix().network());
        Ipv6Net::new_assert(Ipv6Addr::from(base | u128::from(id) << 64), 64)
    }
}

/// What [`choose_v6`] chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChoiceV6 {
    /// The subnet.
    pub subnet: SubnetV6,
    /// Set by the second pass: what was overlapped for want of better.
    pub warning: Option<Warning>,
}

/// The /64 of the network `name`, beside its IPv4 subnet.
///
/// # Errors
/// None of the 65,536 is left.
pub fn choose_v6(
    id: GlobalId,
    name: &NetworkName,
    beside: &Subnet,
    occupied: &Occupied,
) -> Result<ChoiceV6, NoUlaLeft> {
    let near = within(id.prefix(), occupied);
    let first = subnet_id(name);
    let mut routed = None;
    for step in 0..=u16::MAX {
        let net = id.subnet(first.wrapping_add(step));
        let found = collisions(IpNet::V6(net), &near);
        let warning = match found.first() {
            None => None,
            Some(worst) if worst.blocks_choice() || routed.is_some() => continue,
            Some(_) => Warning::about(IpNet::V6(net), found),
        };
        let subnet = SubnetV6::new(net, None, beside).expect("a /64 under fd00::/8 is valid");
        if warning.is_none() {
            return Ok(ChoiceV6 { subnet, warning });
        }
        routed = Some(ChoiceV6 { subnet, warning });
    }
    routed.ok_or(NoUlaLeft { prefix: id.prefix() })
}

/// Every unique local subnet of ours overlaps something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("every /64 of {prefix} is taken on this host; give a free one with --ipv6, or turn IPv6 off with --ipv6 off")]
pub struct NoUlaLeft {
    /// The /48 they are from.
    pub prefix: Ipv6Net,
}

/// Only what can overlap a subnet of `prefix`: the search looks at it up to 65,536 times.
fn within(prefix: Ipv6Net, occupied: &Occupied) -> Occupied {
    let prefix = IpNet::V6(prefix);
    Occupied {
        routes: occupied.routes.iter().filter(|route| overlap(prefix, route.prefix)).copied().collect(),
        addresses: occupied.addresses.iter().filter(|a| prefix.contains(*a)).copied().collect(),
        nameservers: occupied.nameservers.iter().filter(|a| prefix.contains(*a)).copied().collect(),
        networks: occupied.networks.iter().filter(|own| overlap(prefix, own.subnet)).cloned().collect(),
        ..Occupied::default()
    }
}

/// FNV-1a of the name, folded to 16 bits: the same on every host and in every version, which the standard
/// library's hashers do not promise.
fn subnet_id(name: &NetworkName) -> u16 {
    let hash =
        name.as_str().bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let [a, b, c, d] = hash.to_be_bytes();
    u16::from_be_bytes([a ^ c, b ^ d])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{OwnNetwork, Route, RouteKind};

    const ID: GlobalId = GlobalId::new([0x12, 0x34, 0x56, 0x78, 0x9a]);

    fn beside() -> Subnet {
        Subnet::new("172.17.0.0/16".parse().unwrap(), None, None).unwrap()
    }

    fn choose(name: &str, occupied: &Occupied) -> Result<ChoiceV6, NoUlaLeft> {
        choose_v6(ID, &NetworkName::new(name), &beside(), occupied)
    }

    fn route(prefix: &str, kind: RouteKind) -> Occupied {
        Occupied { routes: vec![Route { prefix: prefix.parse().unwrap(), kind }], ..Occupied::default() }
    }

    #[test]
    fn a_network_gets_the_same_unique_local_64_every_time() {
        let choice = choose("default", &Occupied::default()).unwrap();
        assert_eq!(choice, choose("default", &Occupied::default()).unwrap());
        assert_eq!(choice.warning, None);
        assert_eq!(choice.subnet.net().prefix_len(), 64);
        assert!(ID.prefix().contains(&choice.subnet.net()));
        assert_eq!(ID.prefix().to_string(), "fd12:3456:789a::/48");
        // Written down so that an upgrade cannot move the addresses of a live network unseen.
        assert_eq!(choice.subnet.gateway().to_string(), "fd12:3456:789a:c8e5::1");
    }

    #[test]
    fn another_name_gets_another_64() {
        let none = Occupied::default();
        assert_ne!(choose("default", &none).unwrap().subnet, choose("blue", &none).unwrap().subnet);
    }

    #[test]
    fn a_64_that_is_taken_is_passed_over() {
        let first = choose("default", &Occupied::default()).unwrap().subnet;
        let own = OwnNetwork { name: NetworkName::new("other"), subnet: IpNet::V6(first.net()) };
        let taken = Occupied { networks: vec![own], ..Occupied::default() };
        let second = choose("default", &taken).unwrap();
        assert_ne!(second.subnet, first);
        assert_eq!(second.warning, None);
    }

    #[test]
    fn a_vpn_over_all_unique_local_addresses_is_borne_with_a_warning() {
        let choice = choose("default", &route("fc00::/7", RouteKind::Gateway)).unwrap();
        assert_eq!(choice.subnet, choose("default", &Occupied::default()).unwrap().subnet);
        assert!(choice.warning.unwrap().to_string().contains("fc00::/7 through a gateway"));
    }

    #[test]
    fn all_of_it_on_link_is_an_error_that_says_what_to_do() {
        let error = choose("default", &route("fd00::/8", RouteKind::OnLink)).unwrap_err();
        assert!(error.to_string().contains("--ipv6"), "{error}");
    }
}
