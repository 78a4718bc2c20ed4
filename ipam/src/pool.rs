//! The ranges a network may get by itself, and which of them it gets.
//!
//! Two passes over the list, in its order. The first wants a range that overlaps nothing at all: no route of any
//! table, no address, no nameserver, no other network of ours. A host whose VPN routes all of 10/8, 172.16/12 and
//! 192.168/16 through a gateway has no such range; refusing to start there would be useless, so the second pass
//! lets routes through a gateway be overlapped, and says so in a [`Warning`].

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use crate::{Collision, Occupied, Subnet, Warning, collisions};

/// A list of ranges to choose from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pool {
    /// Docker's since 1.9: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/20 to 192.168.240.0/20; 31 in all.
    // moby v28.5.2 libnetwork/ipamutils/utils.go
    #[default]
    Docker,
    /// The same from its end: for networks beside those of a Docker that gives out addresses itself, which takes the list from its
    /// beginning, and does not see ours.
    BesideDocker,
    /// Docker's of 2013, whose gateways end in .42.1: scripts of that time knew the address.
    // moby v0.7.2 network.go
    Docker2013,
}

impl Pool {
    /// Its ranges with their gateways, in the order they are tried.
    pub fn subnets(self) -> impl Iterator<Item = Subnet> {
        self.gateways().into_iter().map(|(gateway, len)| {
            let net = Ipv4Net::new_assert(gateway.into(), len).trunc();
            Subnet::new(net, Some(gateway.into()), None).expect("the list holds valid subnets")
        })
    }

    fn gateways(self) -> Vec<([u8; 4], u8)> {
        let slash16 = (17..=31).map(|b| ([172, b, 0, 1], 16));
        let slash20 = (0..16).map(|i| ([192, 168, 16 * i, 1], 20));
        match self {
            Pool::Docker => slash16.chain(slash20).collect(),
            Pool::BesideDocker => slash16.chain(slash20).rev().collect(),
            Pool::Docker2013 => GATEWAYS_2013.to_vec(),
        }
    }
}

/// The candidates of 2013. 172.16.0.0/16 is left out because EC2's nameserver was 172.16.0.23.
const GATEWAYS_2013: [([u8; 4], u8); 12] = [
    ([172, 17, 42, 1], 16),
    ([10, 0, 42, 1], 16),
    ([10, 1, 42, 1], 16),
    ([10, 42, 42, 1], 16),
    ([172, 16, 42, 1], 24),
    ([172, 16, 43, 1], 24),
    ([172, 16, 44, 1], 24),
    ([10, 0, 42, 1], 24),
    ([10, 0, 43, 1], 24),
    ([192, 168, 42, 1], 24),
    ([192, 168, 43, 1], 24),
    ([192, 168, 44, 1], 24),
];

/// What [`choose`] chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The subnet.
    pub subnet: Subnet,
    /// Set by the second pass: what was overlapped for want of better.
    pub warning: Option<Warning>,
}

/// The first range of the pool that overlaps nothing, or else nothing but networks behind a gateway.
///
/// # Errors
/// Every range overlaps something on a link of the host, an address, a nameserver or another network of ours.
pub fn choose(pool: Pool, occupied: &Occupied) -> Result<Choice, AllTaken> {
    let mut routed = None;
    let mut taken = Vec::new();
    for subnet in pool.subnets() {
        let net = IpNet::V4(subnet.net());
        let found = collisions(net, occupied);
        match found.first() {
            None => return Ok(Choice { subnet, warning: None }),
            // The worst comes first: where it does not block, none does.
            Some(worst) if worst.blocks_choice() => taken.push((subnet.net(), worst.clone())),
            Some(_) if routed.is_none() => routed = Some(Choice { subnet, warning: Warning::about(net, found) }),
            Some(_) => {}
        }
    }
    routed.ok_or(AllTaken { taken })
}

/// There is no default range left on this host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "every one of the {} default ranges is taken on this host ({}); give a range that is free with --subnet",
    taken.len(), first_and_last(taken)
)]
pub struct AllTaken {
    /// Each range, with the worst of what it overlaps.
    pub taken: Vec<(Ipv4Net, Collision)>,
}

fn first_and_last(taken: &[(Ipv4Net, Collision)]) -> String {
    let text = |(net, by): &(Ipv4Net, Collision)| format!("{net} by {by}");
    match taken {
        [] => String::new(),
        [only] => text(only),
        [first, .., last] => format!("{}, .. {}", text(first), text(last)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NetworkName, OwnNetwork, Route, RouteKind};

    const PRIVATE: [&str; 3] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];

    fn routes(kind: RouteKind, prefixes: &[&str]) -> Occupied {
        let routes = prefixes.iter().map(|p| Route { prefix: p.parse().unwrap(), kind }).collect();
        Occupied { routes, ..Occupied::default() }
    }

    fn chosen(occupied: &Occupied) -> String {
        let choice = choose(Pool::Docker, occupied).unwrap();
        assert_eq!(choice.warning, None);
        choice.subnet.net().to_string()
    }

    #[test]
    fn an_empty_host_gives_docker0s_own_range() {
        assert_eq!(chosen(&Occupied::default()), "172.17.0.0/16");
    }

    #[test]
    fn the_modern_list_is_dockers_31_networks_in_order() {
        let list: Vec<String> = Pool::Docker.subnets().map(|s| s.net().to_string()).collect();
        assert_eq!(list.len(), 31);
        assert_eq!(list[..2], ["172.17.0.0/16", "172.18.0.0/16"]);
        assert_eq!(list[14..17], ["172.31.0.0/16", "192.168.0.0/20", "192.168.16.0/20"]);
        assert_eq!(list[30], "192.168.240.0/20");
    }

    #[test]
    fn beside_docker_the_list_is_taken_from_its_end() {
        let mut list: Vec<Subnet> = Pool::BesideDocker.subnets().collect();
        assert_eq!(list[0].net().to_string(), "192.168.240.0/20");
        list.reverse();
        assert_eq!(list, Pool::Docker.subnets().collect::<Vec<_>>());
    }

    #[test]
    fn the_list_of_2013_keeps_its_gateways() {
        let list: Vec<Subnet> = Pool::Docker2013.subnets().collect();
        assert_eq!(list.len(), 12);
        assert_eq!(
            (list[0].net().to_string(), list[0].gateway().to_string()),
            ("172.17.0.0/16".into(), "172.17.42.1".into())
        );
        assert_eq!(
            (list[11].net().to_string(), list[11].gateway().to_string()),
            ("192.168.44.0/24".into(), "192.168.44.1".into())
        );
    }

    #[test]
    fn a_host_route_to_172_17_makes_it_172_18() {
        for kind in [RouteKind::OnLink, RouteKind::Gateway] {
            assert_eq!(chosen(&routes(kind, &["172.17.0.0/16"])), "172.18.0.0/16");
        }
    }

    #[test]
    fn a_route_inside_a_range_takes_the_whole_range() {
        assert_eq!(chosen(&routes(RouteKind::Gateway, &["172.17.200.0/24", "172.18.0.1/32"])), "172.19.0.0/16");
    }

    #[test]
    fn addresses_nameservers_and_own_networks_take_their_range() {
        let occupied = Occupied {
            addresses: vec!["172.17.9.9".parse().unwrap()],
            nameservers: vec!["172.18.0.2".parse().unwrap()],
            networks: vec![OwnNetwork { name: NetworkName::new("blue"), subnet: "172.19.0.0/24".parse().unwrap() }],
            ..Occupied::default()
        };
        assert_eq!(chosen(&occupied), "172.20.0.0/16");
    }

    #[test]
    fn default_and_discarding_routes_take_nothing() {
        let mut occupied = routes(RouteKind::Gateway, &["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1"]);
        for kind in [RouteKind::Blackhole, RouteKind::Unreachable, RouteKind::Prohibit, RouteKind::Throw] {
            occupied.routes.extend(routes(kind, &PRIVATE).routes);
        }
        assert_eq!(chosen(&occupied), "172.17.0.0/16");
    }

    #[test]
    fn a_vpn_over_all_private_ranges_still_starts_and_warns() {
        let choice = choose(Pool::Docker, &routes(RouteKind::Gateway, &PRIVATE)).unwrap();
        assert_eq!(choice.subnet.net().to_string(), "172.17.0.0/16");
        let warning = choice.warning.unwrap().to_string();
        assert!(
            warning.contains("172.17.0.0/16 overlaps the host's route 172.16.0.0/12 through a gateway"),
            "{warning}"
        );
    }

    #[test]
    fn the_second_pass_still_avoids_what_is_on_link() {
        let mut occupied = routes(RouteKind::Gateway, &PRIVATE);
        occupied.routes.extend(routes(RouteKind::OnLink, &["172.17.0.0/16"]).routes);
        occupied.nameservers.push("172.18.0.2".parse().unwrap());
        let choice = choose(Pool::Docker, &occupied).unwrap();
        assert_eq!(choice.subnet.net().to_string(), "172.19.0.0/16");
        assert!(choice.warning.is_some());
    }

    #[test]
    fn a_free_range_late_in_the_list_beats_an_overlapped_early_one() {
        assert_eq!(chosen(&routes(RouteKind::Gateway, &["172.16.0.0/12"])), "192.168.0.0/20");
    }

    #[test]
    fn every_pool_on_link_is_an_error_that_says_so() {
        let error = choose(Pool::Docker, &routes(RouteKind::OnLink, &PRIVATE)).unwrap_err();
        assert_eq!(error.taken.len(), 31);
        assert_eq!(
            error.to_string(),
            "every one of the 31 default ranges is taken on this host (172.17.0.0/16 by the host's on-link route \
             172.16.0.0/12, .. 192.168.240.0/20 by the host's on-link route 192.168.0.0/16); give a range that is free \
             with --subnet"
        );
    }
}
