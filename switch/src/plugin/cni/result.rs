//! What ADD says, in the shape of each version. CNI 1.1.0, section 6. The switch has no device on the host's side, so the only
//! interface is the container's.

use std::net::IpAddr;

use serde_json::{Value, json};
use tapswitch_netns::{DeviceState, Route};

use super::config::{Dns, RouteSpec};
use super::environment::Environment;
use super::version::Version;
use crate::daemon::api::types::{EndpointInfo, NetworkInfo};
use crate::plugin::switch::addresses;

/// What was made.
#[derive(Debug)]
pub(super) struct Made<'a> {
    pub(super) endpoint: &'a EndpointInfo,
    pub(super) network: &'a NetworkInfo,
    /// What the device was seen to have.
    pub(super) state: &'a DeviceState,
    /// Routes that were asked for.
    pub(super) routes: &'a [Route],
    pub(super) dns: Option<Dns>,
}

impl Made<'_> {
    /// The result.
    pub(super) fn object(&self, version: Version, environment: &Environment) -> Value {
        let mut interface = json!({
            "name": self.endpoint.ifname,
            "mac": self.endpoint.mac,
            "sandbox": environment.netns,
        });
        if version.has_status() {
            interface["mtu"] = self.network.mtu.into();
        }
        let ips: Vec<Value> = addresses(self.endpoint, self.network)
            .into_iter()
            .map(|(address, gateway)| {
                let mut ip = json!({"address": address, "gateway": gateway, "interface": 0});
                if version.tells_families() {
                    ip["version"] = if gateway.is_ipv4() { "4" } else { "6" }.into();
                }
                ip
            })
            .collect();
        let mut object = json!({
            "cniVersion": version.as_str(),
            "interfaces": [interface],
            "ips": ips,
            "routes": self.routes(),
        });
        let dns = self.dns.clone().unwrap_or_else(|| gateway_dns(self.network));
        object["dns"] = serde_json::to_value(dns).expect("strings only");
        object
    }

    /// The default routes that are there, and what was asked for.
    fn routes(&self) -> Vec<RouteSpec> {
        let gateways = [Some(IpAddr::from(self.network.gateway)), self.network.gateway6.map(IpAddr::from)];
        let defaults =
            self.state.routes.iter().filter(|route| {
                route.to.prefix_len() == 0 && route.gateway.is_some() && gateways.contains(&route.gateway)
            });
        let more = self.routes.iter().filter(|route| route.to.prefix_len() != 0 || !gateways.contains(&route.gateway));
        defaults.chain(more).map(|route| RouteSpec { dst: route.to, gw: route.gateway }).collect()
    }
}

/// The switch answers for names at the gateway.
fn gateway_dns(network: &NetworkInfo) -> Dns {
    Dns { nameservers: vec![network.gateway.to_string()], ..Dns::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::api::types::EndpointState;
    use crate::plugin::cni::environment::tests::environment;
    use crate::plugin::switch::tests::web;

    fn endpoint(ipv6: Option<&str>) -> EndpointInfo {
        serde_json::from_value(json!({
            "name": "p1", "network": "web", "netns": "cni:t1", "namespace": {"dev": 4, "ino": 5}, "ifname": "eth0",
            "mac": "02:42:0a:5e:00:07", "ipv4": "10.94.0.7", "ipv6": ipv6, "port": 1, "state": EndpointState::Up,
            "rx_frames": 0, "rx_bytes": 0, "tx_frames": 0, "tx_bytes": 0, "drops": {}, "published": [], "aliases": [],
        }))
        .unwrap()
    }

    fn state(routes: &[(&str, Option<&str>)]) -> DeviceState {
        DeviceState { mac: vec![2, 0x42, 10, 94, 0, 7], addresses: Vec::new(), routes: routes_of(routes) }
    }

    fn routes_of(routes: &[(&str, Option<&str>)]) -> Vec<Route> {
        let parse = |gateway: &str| gateway.parse().unwrap();
        routes.iter().map(|(to, via)| Route { to: to.parse().unwrap(), gateway: via.map(parse) }).collect()
    }

    fn object(version: Version, ipv6: Option<&str>) -> Value {
        let mut network = web();
        if ipv6.is_some() {
            network.subnet6 = "fd00:94::/64".parse().ok();
            network.gateway6 = "fd00:94::1".parse().ok();
        }
        let environment = environment(&[
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "t1"),
            ("CNI_NETNS", "/proc/64/ns/../ns/net"),
            ("CNI_IFNAME", "eth0"),
        ]);
        let state = state(&[("10.94.0.0/24", None), ("0.0.0.0/0", Some("10.94.0.1"))]);
        let routes = routes_of(&[("10.1.0.0/16", Some("10.94.0.9"))]);
        let made = Made { endpoint: &endpoint(ipv6), network: &network, state: &state, routes: &routes, dns: None };
        made.object(version, &environment.unwrap())
    }

    #[test]
    fn version_0_4_0_tells_families_and_no_mtu() {
        assert_eq!(
            object(Version::V0_4_0, None),
            json!({
                "cniVersion": "0.4.0",
                "interfaces": [{"name": "eth0", "mac": "02:42:0a:5e:00:07", "sandbox": "/proc/64/ns/../ns/net"}],
                "ips": [{"version": "4", "address": "10.94.0.7/24", "gateway": "10.94.0.1", "interface": 0}],
                "routes": [{"dst": "0.0.0.0/0", "gw": "10.94.0.1"}, {"dst": "10.1.0.0/16", "gw": "10.94.0.9"}],
                "dns": {"nameservers": ["10.94.0.1"]},
            })
        );
    }

    #[test]
    fn version_1_1_0_tells_the_mtu_and_no_families() {
        let object = object(Version::V1_1_0, Some("fd00:94::7"));
        assert_eq!(object["interfaces"][0]["mtu"], 1500);
        assert_eq!(
            object["ips"],
            json!([
                {"address": "10.94.0.7/24", "gateway": "10.94.0.1", "interface": 0},
                {"address": "fd00:94::7/64", "gateway": "fd00:94::1", "interface": 0},
            ])
        );
    }

    #[test]
    fn a_default_route_that_another_network_has_is_not_claimed() {
        let network = web();
        let state = state(&[("10.94.0.0/24", None)]);
        let endpoint = endpoint(None);
        let made = Made { endpoint: &endpoint, network: &network, state: &state, routes: &[], dns: None };
        assert!(made.routes().is_empty());
    }
}
