//! What Docker's options of a network mean here.
//!
//! | `-o KEY` | here |
//! |---|---|
//! | `com.docker.network.bridge.enable_icc`, `icc` | icc |
//! | `com.docker.network.driver.mtu`, `mtu` | MTU |
//! | `com.docker.network.bridge.name` | the network's name |
//! | `com.docker.network.bridge.host_binding_ipv4` | where ports are published that name no address |
//! | `com.docker.network.bridge.gateway_mode_ipv4`, `.._ipv6` | `nat`: uplink user; `routed`: host; `isolated`: none |
//! | `uplink` | user, host or none |
//! | `host_access` | host access |
//!
//! Of one thing said twice the two must agree. Other keys are named in the log and passed over, as Docker's own driver does.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde_json::Value;

use super::wire;
use super::wire::{CreateNetwork, IpamData, v4, v6};
use crate::daemon::api::types::{NetworkCreate, Subnet4, Subnet6, UplinkKind};
use crate::daemon::control::DockerNetwork;
use crate::daemon::name::{Name, printable};
use crate::daemon::rate_limit::RateLimit;
use crate::daemon::refusal::{Outcome, Refusal};

/// Where Docker puts what `-o` says.
const GENERIC: &str = "com.docker.network.generic";
const INTERNAL: &str = "com.docker.network.internal";
const ENABLE_IPV4: &str = "com.docker.network.enable_ipv4";
const ENABLE_IPV6: &str = "com.docker.network.enable_ipv6";
const ICC: &str = "com.docker.network.bridge.enable_icc";
const MTU: &str = "com.docker.network.driver.mtu";
const NAME: &str = "com.docker.network.bridge.name";
const BIND: &str = "com.docker.network.bridge.host_binding_ipv4";
const MODES: [&str; 2] = ["com.docker.network.bridge.gateway_mode_ipv4", "com.docker.network.bridge.gateway_mode_ipv6"];
const KNOWN: [&str; 10] = [ICC, MTU, NAME, BIND, MODES[0], MODES[1], "icc", "mtu", "uplink", "host_access"];

/// Of an endpoint.
const ENDPOINT: [&str; 3] = ["name", "rate_in", "rate_out"];
/// Before what Docker says of an endpoint by itself, more of it with each version.
const DOCKER: &str = "com.docker.network.";

/// The network that `request` asks for.
///
/// # Errors
/// One line that names the option or the range that cannot be.
pub(super) fn network(request: CreateNetwork) -> Outcome<DockerNetwork> {
    let options = Options::read(&request)?;
    if options.flag(ENABLE_IPV4) == Some(false) {
        return Err(impossible("a network without IPv4 is not had: every endpoint has an IPv4 address here"));
    }
    let ipv4 = one(&request.ipv4, "IPv4")?.ok_or_else(|| impossible("a network without an IPv4 range is not had"))?;
    let ipv6 = one(&request.ipv6, "IPv6")?.filter(|_| options.flag(ENABLE_IPV6) != Some(false));
    let uplink = options.uplink()?;
    let bind: Option<Ipv4Addr> = options.of(BIND, None, "not an IPv4 address")?;
    let name: Option<Name> = options.of(NAME, None, "not a network's name")?;
    Ok(DockerNetwork {
        wanted: NetworkCreate {
            name: name.map(|name| name.to_string()).unwrap_or_default(),
            subnet: Some(subnet4(ipv4)?),
            gateway: v4(ipv4.gateway),
            range: None,
            ipv6: Some(ipv6.map_or(Ok(Subnet6::Off), subnet6)?),
            gateway6: ipv6.and_then(|data| v6(data.gateway)),
            icc: options.of(ICC, Some("icc"), "neither true nor false")?,
            mtu: options.of(MTU, Some("mtu"), "not a number")?,
            uplink,
            host_access: options.of("host_access", None, "neither true nor false")?,
            ..NetworkCreate::default()
        },
        bind: bind.filter(|bind| !bind.is_unspecified()),
        aux: ipv4.aux.iter().flatten().filter_map(|(_, aux)| v4(Some(*aux))).collect(),
        id: request.network,
    })
}

/// What an endpoint is to be called, by `--network name=..,driver-opt=name=X`.
pub(super) fn endpoint_name(request: &wire::CreateEndpoint) -> Option<String> {
    request.options.get("name").and_then(Value::as_str).map(str::to_owned)
}

/// A limit of an endpoint's rate, by `--network name=..,driver-opt=rate_in=100mbit`.
pub(super) fn rate(request: &wire::CreateEndpoint, key: &str) -> Outcome<Option<RateLimit>> {
    let text = request.options.get(key).and_then(Value::as_str);
    text.map(|text| text.parse().map_err(|e| impossible(&format!("option {key}: {e}")))).transpose()
}

/// What of an endpoint's options is neither ours nor Docker's own: a typing error, or another driver's.
pub(super) fn unknown(request: &wire::CreateEndpoint) -> Vec<&str> {
    let is_known = |key: &str| ENDPOINT.contains(&key) || key.starts_with(DOCKER);
    request.options.keys().map(String::as_str).filter(|key| !is_known(key)).collect()
}

struct Options<'a> {
    all: &'a BTreeMap<String, Value>,
    /// Of `-o`.
    given: BTreeMap<&'a str, &'a str>,
}

impl<'a> Options<'a> {
    fn read(request: &'a CreateNetwork) -> Outcome<Self> {
        let generic = request.options.get(GENERIC).and_then(Value::as_object);
        let mut given = BTreeMap::new();
        for (key, value) in generic.into_iter().flatten() {
            let text = value.as_str().ok_or_else(|| impossible(&format!("option {}: not text", printable(key))))?;
            if !KNOWN.contains(&key.as_str()) {
                tracing::warn!("docker: network {}: option {} is not known", request.network.short(), printable(key));
            }
            given.insert(key.as_str(), text);
        }
        Ok(Options { all: &request.options, given })
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.all.get(key).and_then(Value::as_bool)
    }

    /// What `key`, or our own word for it, says; `otherwise` is what a value is that cannot be.
    fn of<T: FromStr + PartialEq>(&self, key: &str, ours: Option<&str>, otherwise: &str) -> Outcome<Option<T>> {
        let read = |key: &str| {
            let refused = |text: &str| impossible(&format!("option {key}: `{}` is {otherwise}", printable(text)));
            self.given.get(key).map(|text| text.parse().map_err(|_| refused(text))).transpose()
        };
        match (read(key)?, ours.map(read).transpose()?.flatten()) {
            (Some(one), Some(other)) if one != other => {
                Err(impossible(&format!("options {key} and {} contradict each other", ours.unwrap_or_default())))
            }
            (one, other) => Ok(one.or(other)),
        }
    }

    fn uplink(&self) -> Outcome<Option<UplinkKind>> {
        let mut asked: Vec<(&str, UplinkKind)> = Vec::new();
        for key in MODES.into_iter().chain(["uplink"]) {
            if let Some(text) = self.given.get(key) {
                asked.push((key, uplink(key, text)?));
            }
        }
        if self.flag(INTERNAL) == Some(true) {
            asked.push(("--internal", UplinkKind::None));
        }
        match asked.iter().find(|(_, kind)| *kind != asked[0].1) {
            Some((other, _)) => Err(impossible(&format!("{} and {other} contradict each other", asked[0].0))),
            None => Ok(asked.first().map(|(_, kind)| *kind)),
        }
    }
}

fn uplink(key: &str, text: &str) -> Outcome<UplinkKind> {
    let own = key == "uplink";
    match text {
        "user" if own => Ok(UplinkKind::User),
        "host" if own => Ok(UplinkKind::Host),
        "none" if own => Ok(UplinkKind::None),
        "nat" if !own => Ok(UplinkKind::User),
        "routed" if !own => Ok(UplinkKind::Host),
        "isolated" if !own => Ok(UplinkKind::None),
        _ => {
            let known = if own { "user, host and none" } else { "nat, routed and isolated" };
            Err(impossible(&format!("option {key}: `{}` is none of {known}", printable(text))))
        }
    }
}

/// The only range of a family, where it has one.
fn one<'a>(ranges: &'a [IpamData], family: &str) -> Outcome<Option<&'a IpamData>> {
    match ranges {
        [] => Ok(None),
        [only] => Ok(Some(only)),
        more => Err(impossible(&format!("{} {family} ranges: one of a family is the most", more.len()))),
    }
}

fn subnet4(data: &IpamData) -> Outcome<Subnet4> {
    match data.pool {
        ipnet::IpNet::V4(net) if net.prefix_len() > 0 => Ok(Subnet4::Given(net)),
        pool => Err(impossible(&format!("pool {pool} cannot be a network's IPv4 range"))),
    }
}

fn subnet6(data: &IpamData) -> Outcome<Subnet6> {
    match data.pool {
        ipnet::IpNet::V6(net) => Ok(Subnet6::Given(net)),
        pool => Err(impossible(&format!("pool {pool} cannot be a network's IPv6 range"))),
    }
}

fn impossible(text: &str) -> Refusal {
    Refusal::Impossible(text.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(options: Value) -> Outcome<DockerNetwork> {
        let request = json!({
            "NetworkID": "e9b9385a34864d7f",
            "Options": options,
            "IPv4Data": [{
                "AddressSpace": "LocalDefault", "Pool": "10.91.0.0/24", "Gateway": "10.91.0.1/24",
                "AuxAddresses": {"dhcp": "10.91.0.2/24"},
            }],
            "IPv6Data": null,
        });
        network(serde_json::from_value(request).unwrap())
    }

    fn with(generic: Value) -> Outcome<DockerNetwork> {
        read(json!({ GENERIC: generic }))
    }

    #[test]
    fn without_options_there_are_docker_s_range_and_our_defaults() {
        let network = with(json!({})).unwrap();
        assert_eq!(network.wanted.subnet, Some(Subnet4::Given("10.91.0.0/24".parse().unwrap())));
        assert_eq!((network.wanted.gateway, network.wanted.ipv6), ("10.91.0.1".parse().ok(), Some(Subnet6::Off)));
        assert_eq!((network.wanted.name.as_str(), network.bind), ("", None));
        assert_eq!(network.aux, [Ipv4Addr::new(10, 91, 0, 2)]);
    }

    #[test]
    fn docker_s_words_and_ours_mean_the_same() {
        let docker = with(json!({
            "com.docker.network.bridge.enable_icc": "false",
            "com.docker.network.driver.mtu": "1400",
            "com.docker.network.bridge.name": "web",
            "com.docker.network.bridge.host_binding_ipv4": "127.0.0.1",
            "com.docker.network.bridge.gateway_mode_ipv4": "routed",
            "somebody.else": "x",
            "k": "v",
        }))
        .unwrap();
        let ours = with(json!({"icc": "false", "mtu": "1400", "uplink": "host"})).unwrap();
        assert_eq!(
            (docker.wanted.icc, docker.wanted.mtu, docker.wanted.uplink),
            (ours.wanted.icc, ours.wanted.mtu, ours.wanted.uplink)
        );
        assert_eq!((docker.wanted.name.as_str(), docker.bind), ("web", "127.0.0.1".parse().ok()));
    }

    #[test]
    fn an_internal_network_has_no_way_out() {
        let internal = read(json!({ INTERNAL: true, GENERIC: {} })).unwrap();
        assert_eq!(internal.wanted.uplink, Some(UplinkKind::None));
    }

    #[test]
    fn an_endpoint_s_options_that_nobody_knows_are_named() {
        let request = json!({
            "NetworkID": "e9b9385a34864d7f", "EndpointID": "08bf98db7514aa0f", "Interface": {},
            "Options": {
                "com.docker.network.portmap": [], "com.docker.network.endpoint.exposedports": [], "name": "db",
                "rate_in": "1mbit", "nope": "x",
            },
        });
        assert_eq!(unknown(&serde_json::from_value(request).unwrap()), ["nope"]);
    }

    #[test]
    fn what_cannot_be_is_an_error_that_names_it() {
        for (options, needle) in [
            (json!({"mtu": "many"}), "option mtu: `many` is not a number"),
            (json!({"icc": "maybe"}), "option icc: `maybe` is neither true nor false"),
            (json!({"host_access": "1"}), "option host_access: `1` is neither true nor false"),
            (json!({"mtu": "1400", "com.docker.network.driver.mtu": "1500"}), "contradict"),
            (json!({"uplink": "moon"}), "moon"),
            (json!({"uplink": "nat"}), "nat"),
            (json!({"com.docker.network.bridge.gateway_mode_ipv4": "user"}), "isolated"),
            (json!({"com.docker.network.bridge.name": "a b"}), "a b"),
            (json!({"com.docker.network.bridge.host_binding_ipv4": "::1"}), "::1"),
            (json!({"icc": 1}), "icc"),
        ] {
            let error = with(options).unwrap_err().to_string();
            assert!(error.contains(needle) && !error.contains('\n'), "{error}");
        }
        let error = read(json!({ INTERNAL: true, GENERIC: {"uplink": "user"} })).unwrap_err().to_string();
        assert!(error.contains("--internal"), "{error}");
        let error = read(json!({ ENABLE_IPV4: false })).unwrap_err().to_string();
        assert!(error.contains("IPv4"), "{error}");
    }
}
