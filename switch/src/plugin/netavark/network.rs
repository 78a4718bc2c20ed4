//! A network as podman keeps it, and what it is on the switch.
//!
//! podman chooses no subnet for a plugin's network: where none is given the switch does, and `create` says which. Options are
//! checked at `create`; podman does not. `podman network rm` does not tell its plugin: the switch's network stays.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use anyhow::{Context, bail};
use ipnet::{IpNet, Ipv4Net};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tapswitch_netns::Route;

use crate::daemon::api::types::{NetworkCreate, NetworkInfo, Subnet4, Subnet6, UplinkKind};
use crate::daemon::name::{Name, printable};
use crate::daemon::rate_limit::RateLimit;
use crate::plugin::switch::Switch;

/// What `-o` takes.
const OPTIONS: [&str; 7] = ["mtu", "icc", "uplink", "host_access", "network", "rate_in", "rate_out"];

/// podman's own leases: its default too.
const HOST_LOCAL: &str = "host-local";

/// The parts of a network that mean something here.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Network {
    name: String,
    #[serde(default)]
    subnets: Option<Vec<SubnetSpec>>,
    #[serde(default)]
    routes: Option<Vec<RouteSpec>>,
    #[serde(default)]
    ipv6_enabled: bool,
    #[serde(default)]
    internal: bool,
    #[serde(default)]
    options: Option<BTreeMap<String, String>>,
    #[serde(default)]
    ipam_options: Option<BTreeMap<String, String>>,
    /// Resolvers that were asked for by hand.
    #[serde(default)]
    pub(super) network_dns_servers: Option<Vec<IpAddr>>,
}

#[derive(Clone, Debug, Deserialize)]
struct SubnetSpec {
    subnet: IpNet,
    #[serde(default)]
    gateway: Option<IpAddr>,
}

#[derive(Clone, Debug, Deserialize)]
struct RouteSpec {
    destination: IpNet,
    #[serde(default)]
    gateway: Option<IpAddr>,
    #[serde(default)]
    metric: Option<u32>,
    #[serde(default)]
    route_type: Option<String>,
}

/// `create`: the network with what was left open, made on the switch.
///
/// # Errors
/// An option that is not had, a subnet that cannot be, no daemon.
pub(super) fn create(switch: &Switch, asked: Map<String, Value>) -> anyhow::Result<Value> {
    let network = Network::deserialize(Value::Object(asked.clone())).context("read the network")?;
    network.check()?;
    let wanted = network.wanted()?;
    let info = switch.ensure(&wanted).with_context(|| format!("create network {}", network.name))?;
    Ok(completed(asked, &network, &info))
}

/// `asked` with subnets and their gateways, as podman keeps it from now on.
fn completed(mut asked: Map<String, Value>, network: &Network, info: &NetworkInfo) -> Value {
    let v6 = info.subnet6.zip(info.gateway6);
    match asked.get_mut("subnets").and_then(Value::as_array_mut).filter(|given| !given.is_empty()) {
        Some(given) => {
            for subnet in given.iter_mut().filter(|subnet| subnet["gateway"].is_null()) {
                let is_v6 = subnet["subnet"].as_str().is_some_and(|text| text.contains(':'));
                let gateway =
                    if is_v6 { v6.map(|(_, gateway)| IpAddr::from(gateway)) } else { Some(info.gateway.into()) };
                subnet["gateway"] = json!(gateway);
            }
        }
        None if network.leased_here() => {}
        None => {
            let v4 = json!({"subnet": info.subnet, "gateway": info.gateway});
            let v6 = v6.map(|(subnet, gateway)| json!({"subnet": subnet, "gateway": gateway}));
            asked.insert("subnets".into(), std::iter::once(v4).chain(v6).collect());
            asked.insert("ipv6_enabled".into(), info.subnet6.is_some().into());
        }
    }
    if let Some(host) = info.host.filter(|_| !network.leased_here()) {
        let subnets = asked.get_mut("subnets").and_then(Value::as_array_mut);
        subnets.into_iter().flatten().for_each(|subnet| keep_off(host, subnet));
    }
    if !network.leased_here() {
        // podman refuses an address outside the subnets only where it is told that it leases.
        asked.insert("ipam_options".into(), json!({"driver": HOST_LOCAL}));
    }
    // The switch answers for names; podman's own resolver is not told of a plugin's containers.
    asked.insert("dns_enabled".into(), false.into());
    Value::Object(asked)
}

/// Has podman, which leases one address after the other, end before the last one where that is the host's.
fn keep_off(host: Ipv4Addr, subnet: &mut Value) {
    let net: Option<Ipv4Net> = subnet["subnet"].as_str().and_then(|text| text.parse().ok());
    let is_last = |net: Ipv4Net| u32::from(host).checked_add(1) == Some(net.broadcast().into());
    if net.is_some_and(is_last) && subnet["lease_range"].is_null() {
        subnet["lease_range"] = json!({"end_ip": Ipv4Addr::from(u32::from(host) - 1)});
    }
}

impl Network {
    /// The switch's network.
    ///
    /// # Errors
    /// A value that cannot be. Unknown options are for [`Network::check`].
    pub(super) fn wanted(&self) -> anyhow::Result<NetworkCreate> {
        let name = self.option("network").unwrap_or(&self.name);
        let name: Name = name.parse().context("network")?;
        let mut wanted = NetworkCreate {
            name: name.to_string(),
            ipv6: Some(if self.ipv6_enabled { Subnet6::Auto } else { Subnet6::Off }),
            mtu: self.read("mtu", "not a number")?,
            icc: self.read("icc", "neither true nor false")?,
            host_access: self.read("host_access", "neither true nor false")?,
            uplink: self.option("uplink").map(uplink).transpose()?,
            ..NetworkCreate::default()
        };
        if self.internal {
            if wanted.uplink.is_some_and(|uplink| uplink != UplinkKind::None) {
                bail!("an internal network has no way out, and option uplink asks for one");
            }
            wanted.uplink = Some(UplinkKind::None);
        }
        for spec in self.subnets.iter().flatten() {
            spec.enter(&mut wanted)?;
        }
        Ok(wanted)
    }

    /// Whether podman leaves the addresses to us.
    fn leased_here(&self) -> bool {
        self.ipam_driver() == Some("none")
    }

    fn ipam_driver(&self) -> Option<&str> {
        self.ipam_options.as_ref()?.get("driver").map(String::as_str)
    }

    fn option(&self, key: &str) -> Option<&str> {
        self.options.as_ref()?.get(key).map(String::as_str)
    }

    /// What option `key` says; `otherwise` is what a value is that cannot be.
    fn read<T: FromStr>(&self, key: &str, otherwise: &str) -> anyhow::Result<Option<T>> {
        let refused = |text: &str| anyhow::anyhow!("option {key}: `{}` is {otherwise}", printable(text));
        self.option(key).map(|text| text.parse().map_err(|_| refused(text))).transpose()
    }

    /// The limit of each container's rate that option `key` asks for.
    ///
    /// # Errors
    /// A value that cannot be.
    pub(super) fn rate(&self, key: &str) -> anyhow::Result<Option<RateLimit>> {
        let read = |text: &str| text.parse().map_err(|e| anyhow::anyhow!("option {key}: {e}"));
        self.option(key).map(read).transpose()
    }

    /// Refuses what is not had here.
    fn check(&self) -> anyhow::Result<()> {
        self.rate("rate_in").and(self.rate("rate_out"))?;
        if let Some(unknown) = self.options.iter().flat_map(BTreeMap::keys).find(|key| !OPTIONS.contains(&key.as_str()))
        {
            bail!("option {}: there are {}", printable(unknown), OPTIONS.join(", "));
        }
        if let Some(driver) = self.ipam_driver().filter(|driver| !matches!(*driver, "" | HOST_LOCAL | "none")) {
            bail!("ipam driver {}: there are host-local and none", printable(driver));
        }
        for route in self.routes.iter().flatten() {
            let plain = route.route_type.as_deref().is_none_or(|kind| kind == "unicast");
            if !plain || route.metric.is_some() {
                bail!("route to {}: only unicast routes without a metric are had", route.destination);
            }
        }
        Ok(())
    }

    /// Routes beside the default one.
    pub(super) fn routes(&self, info: &NetworkInfo) -> Vec<Route> {
        let by = |to: &IpNet| match to {
            IpNet::V4(_) => Some(info.gateway.into()),
            IpNet::V6(_) => info.gateway6.map(IpAddr::from),
        };
        let specs = self.routes.iter().flatten();
        specs.map(|r| Route { to: r.destination.trunc(), gateway: r.gateway.or_else(|| by(&r.destination)) }).collect()
    }
}

impl SubnetSpec {
    fn enter(&self, wanted: &mut NetworkCreate) -> anyhow::Result<()> {
        match (self.subnet, self.gateway) {
            (IpNet::V4(net), None | Some(IpAddr::V4(_))) if wanted.subnet.is_none() => {
                wanted.subnet = Some(Subnet4::Given(net));
                wanted.gateway = if let Some(IpAddr::V4(gateway)) = self.gateway { Some(gateway) } else { None };
            }
            (IpNet::V6(net), None | Some(IpAddr::V6(_))) if !matches!(wanted.ipv6, Some(Subnet6::Given(_))) => {
                wanted.ipv6 = Some(Subnet6::Given(net));
                wanted.gateway6 = if let Some(IpAddr::V6(gateway)) = self.gateway { Some(gateway) } else { None };
            }
            _ => bail!("subnet {}: a network has one of a family, with a gateway of that family", self.subnet),
        }
        Ok(())
    }
}

fn uplink(text: &str) -> anyhow::Result<UplinkKind> {
    match text {
        "user" => Ok(UplinkKind::User),
        "host" => Ok(UplinkKind::Host),
        "none" => Ok(UplinkKind::None),
        _ => bail!("option uplink: `{}` is none of user, host and none", printable(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::switch::tests::web;

    fn network(json: Value) -> Network {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_network_of_one_subnet_is_the_switch_s() {
        let wanted = network(json!({
            "name": "nv1", "subnets": [{"subnet": "10.95.0.0/24"}], "ipv6_enabled": false, "internal": true,
            "options": {"mtu": "1400", "icc": "false"},
        }))
        .wanted()
        .unwrap();
        assert_eq!(wanted.subnet, Some(Subnet4::Given("10.95.0.0/24".parse().unwrap())));
        assert_eq!((wanted.ipv6, wanted.uplink), (Some(Subnet6::Off), Some(UplinkKind::None)));
        assert_eq!((wanted.mtu, wanted.icc), (Some(1400), Some(false)));
    }

    #[test]
    fn what_is_not_had_is_named() {
        for (more, needle) in [
            (json!({"options": {"x": "y"}}), "option x"),
            (json!({"options": {"mtu": "many"}}), "option mtu: `many` is not a number"),
            (json!({"options": {"icc": "maybe"}}), "option icc: `maybe` is neither true nor false"),
            (json!({"options": {"host_access": "1"}}), "option host_access: `1` is neither true nor false"),
            (json!({"options": {"uplink": "moon"}}), "moon"),
            (json!({"options": {"rate_in": "fast"}}), "option rate_in"),
            (json!({"options": {"uplink": "user"}, "internal": true}), "internal"),
            (json!({"ipam_options": {"driver": "dhcp"}}), "dhcp"),
            (json!({"routes": [{"destination": "10.1.0.0/16", "metric": 5}]}), "10.1.0.0/16"),
            (json!({"routes": [{"destination": "10.1.0.0/16", "route_type": "blackhole"}]}), "unicast"),
            (json!({"subnets": [{"subnet": "10.1.0.0/16"}, {"subnet": "10.2.0.0/16"}]}), "10.2.0.0/16"),
            (json!({"subnets": [{"subnet": "10.1.0.0/16", "gateway": "fd00::1"}]}), "gateway"),
        ] {
            let mut object = json!({"name": "nv1"});
            object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let network = network(object);
            let error = network.check().and_then(|()| network.wanted().map(drop)).unwrap_err();
            assert!(format!("{error:#}").contains(needle), "{error:#}");
        }
    }

    #[test]
    fn what_was_left_open_is_filled_in_and_nothing_else_changed() {
        let asked =
            json!({"name": "web", "id": "70d0", "driver": "tapswitch", "dns_enabled": true, "labels": {"a": "b"}});
        let object = asked.as_object().unwrap().clone();
        let completed = completed(object, &network(asked.clone()), &web());
        let mut wanted = asked;
        wanted["subnets"] = json!([{"subnet": "10.94.0.0/24", "gateway": "10.94.0.1"}]);
        wanted["dns_enabled"] = false.into();
        wanted["ipv6_enabled"] = false.into();
        wanted["ipam_options"] = json!({"driver": "host-local"});
        assert_eq!(completed, wanted);
    }

    #[test]
    fn podman_is_told_that_it_leases_so_that_it_refuses_addresses_outside() {
        let driver_of = |given: Value| {
            let asked = json!({"name": "web", "ipam_options": given});
            let completed = completed(asked.as_object().unwrap().clone(), &network(asked.clone()), &web());
            completed["ipam_options"].clone()
        };
        for open in [Value::Null, json!({}), json!({"driver": ""})] {
            assert_eq!(driver_of(open), json!({"driver": "host-local"}));
        }
        assert_eq!(driver_of(json!({"driver": "none"})), json!({"driver": "none"}));
    }

    #[test]
    fn podman_leases_up_to_the_host_s_address_unless_it_was_told_otherwise() {
        let info = NetworkInfo { host: "10.94.0.254".parse().ok(), ..web() };
        let range_of = |asked: Value, info: &NetworkInfo| {
            let completed = completed(asked.as_object().unwrap().clone(), &network(asked.clone()), info);
            completed["subnets"][0]["lease_range"].clone()
        };
        let range = json!({"end_ip": "10.94.0.253"});
        assert_eq!(range_of(json!({"name": "web"}), &info), range);
        let given =
            |range: Value| json!({"name": "web", "subnets": [{"subnet": "10.94.0.0/24", "lease_range": range}]});
        assert_eq!(range_of(given(Value::Null), &info), range);
        let own = json!({"start_ip": "10.94.0.9"});
        assert_eq!(range_of(given(own.clone()), &info), own);
        assert_eq!(range_of(json!({"name": "web"}), &web()), Value::Null);
        let inside = NetworkInfo { host: "10.94.0.126".parse().ok(), ..web() };
        assert_eq!(range_of(json!({"name": "web"}), &inside), Value::Null, "there are others behind it");
    }

    #[test]
    fn a_given_subnet_gets_its_gateway() {
        let asked =
            json!({"name": "web", "subnets": [{"subnet": "10.94.0.0/24", "lease_range": {"start_ip": "10.94.0.9"}}]});
        let completed = completed(asked.as_object().unwrap().clone(), &network(asked.clone()), &web());
        assert_eq!(
            completed["subnets"],
            json!([{"subnet": "10.94.0.0/24", "gateway": "10.94.0.1", "lease_range": {"start_ip": "10.94.0.9"}}])
        );
    }
}
