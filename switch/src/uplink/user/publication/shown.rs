//! How a container sees a client of a port that it publishes. Pure.
//!
//! By its own address, unless that could not appear inside: the container would not answer it by the gateway (loopback,
//! its own subnet, a link-local address), or has no address of that family. Then the client is shown as the gateway, with
//! its own port. So it is where the container is called by its address of the other family.

use std::net::{IpAddr, SocketAddr};

use super::Ends;
use crate::forwarding::{NetworkSettings, PortSpec};

/// Both ends as the container sees them, for each address that it has: first that of the client's family.
pub(super) fn ways(
    network: &NetworkSettings,
    port: &PortSpec,
    container: u16,
    client: SocketAddr,
) -> impl Iterator<Item = Ends> + use<> {
    let v4 = port.ipv4.map(|near| (IpAddr::V4(near), IpAddr::V4(network.gateway4)));
    let v6 = port.ipv6.zip(network.gateway6).map(|(near, gateway)| (IpAddr::V6(near), IpAddr::V6(gateway)));
    let in_order = if client.is_ipv4() { [v4, v6] } else { [v6, v4] };
    let appears = may_appear(network, client.ip());
    in_order.into_iter().flatten().map(move |(near, gateway)| {
        let far = if client.is_ipv4() == near.is_ipv4() && appears { client.ip() } else { gateway };
        Ends { near: SocketAddr::new(near, container), far: SocketAddr::new(far, client.port()) }
    })
}

/// How many ports are tried for a client that another is shown as already.
const PORTS_TRIED: u16 = 16;

/// `ends`, or with the next port of the client's that `is_taken` does not have: two clients must never be one to a
/// container. They can be by addresses that are not shown, and by two ports of the host that lead to one.
pub(super) fn alone(ends: Ends, mut is_taken: impl FnMut(Ends) -> bool) -> Option<Ends> {
    let port = ends.far.port();
    // Behind the last port come the first ones; 0 is none.
    let nth = |n: u16| Ends { far: SocketAddr::new(ends.far.ip(), port.checked_add(n).unwrap_or(n)), ..ends };
    (0..PORTS_TRIED).map(nth).find(|ends| !is_taken(*ends))
}

/// Whether a container answers this address by its gateway.
fn may_appear(network: &NetworkSettings, client: IpAddr) -> bool {
    let of_nobody = client.is_loopback() || client.is_unspecified() || client.is_multicast();
    let inside = match client {
        IpAddr::V4(v4) => network.subnet4.contains(&v4) || v4.is_broadcast(),
        IpAddr::V6(v6) => network.subnet6.is_some_and(|subnet| subnet.contains(&v6)) || v6.is_unicast_link_local(),
    };
    !of_nobody && !inside
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::forwarding::{NetworkSpec, PortId, Rate};
    use crate::frame::testing;

    fn network(with_ipv6: bool) -> NetworkSpec {
        let port = PortSpec {
            id: PortId(1),
            mac: testing::mac(1),
            ipv4: Some(Ipv4Addr::new(10, 0, 0, 2)),
            ipv6: with_ipv6.then(|| "fd00::2".parse().unwrap()),
            guard: true,
            learn: false,
            published: Default::default(),
        };
        NetworkSpec {
            settings: NetworkSettings {
                gateway_mac: testing::mac(2),
                gateway4: Ipv4Addr::new(10, 0, 0, 1),
                gateway6: with_ipv6.then(|| "fd00::1".parse().unwrap()),
                host4: None,
                host6: None,
                uplink: Default::default(),
                subnet4: "10.0.0.0/24".parse().unwrap(),
                subnet6: with_ipv6.then(|| "fd00::/64".parse().unwrap()),
                mtu: 1500,
                icc: true,
                policy_generation: 1,
                flood_rate: Rate::of_copies(500, 1500),
            },
            rules: vec![],
            ports: vec![port],
        }
    }

    fn first(network: &NetworkSpec, client: &str) -> Ends {
        ways(&network.settings, &network.ports[0], 80, client.parse().unwrap()).next().unwrap()
    }

    /// Near and far of a client of port 80.
    fn seen(network: &NetworkSpec, client: &str) -> (String, String) {
        let ends = first(network, client);
        (ends.near.to_string(), ends.far.to_string())
    }

    #[test]
    fn a_client_from_elsewhere_keeps_its_address_and_port() {
        for (client, near) in [("192.0.2.9:40000", "10.0.0.2:80"), ("[2001:db8::9]:40000", "[fd00::2]:80")] {
            assert_eq!(seen(&network(true), client), (near.into(), client.into()));
        }
    }

    #[test]
    fn one_that_could_not_appear_inside_is_shown_as_the_gateway() {
        for client in ["127.0.0.1:7", "0.0.0.0:7", "10.0.0.9:7", "10.0.0.1:7", "255.255.255.255:7", "224.0.0.1:7"] {
            assert_eq!(seen(&network(true), client).1, "10.0.0.1:7", "{client}");
        }
        for client in ["[::1]:7", "[::]:7", "[fd00::9]:7", "[fe80::1%2]:7", "[ff02::1]:7"] {
            assert_eq!(seen(&network(true), client).1, "[fd00::1]:7", "{client}");
        }
    }

    #[test]
    fn two_clients_are_never_one_to_a_container() {
        let client = |port| first(&network(true), &format!("127.0.0.1:{port}"));
        let taken = [client(7), client(8), client(65_535)];
        let port = |ends| alone(ends, |ends| taken.contains(&ends)).unwrap().far.port();
        assert_eq!([port(client(6)), port(client(7)), port(client(65_535))], [6, 9, 1]);
        assert_eq!(alone(client(7), |_| true), None);
    }

    #[test]
    fn a_client_of_ipv6_reaches_a_container_that_has_none_by_the_gateway() {
        let (near, far) = seen(&network(false), "[2001:db8::9]:7");
        assert_eq!((near.as_str(), far.as_str()), ("10.0.0.2:80", "10.0.0.1:7"));
    }

    #[test]
    fn by_the_containers_other_address_a_client_is_seen_as_the_gateway() {
        for (client, near, far) in [
            ("[2001:db8::9]:7", "10.0.0.2:80", "10.0.0.1:7"),
            ("[::1]:7", "10.0.0.2:80", "10.0.0.1:7"),
            ("192.0.2.9:7", "[fd00::2]:80", "[fd00::1]:7"),
        ] {
            let network = network(true);
            let ways: Vec<_> = ways(&network.settings, &network.ports[0], 80, client.parse().unwrap()).collect();
            let other = Ends { near: near.parse().unwrap(), far: far.parse().unwrap() };
            assert_eq!(ways[1..], [other], "{client}");
        }
    }
}
