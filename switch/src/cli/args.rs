//! Arguments that several commands share, and finding the endpoint that X names.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::bail;
use clap::builder::TypedValueParser;
use ipnet::Ipv4Net;

use crate::daemon::api::client::Client;
use crate::daemon::api::types::{EndpointInfo, NetworkCreate, Subnet4, Subnet6, UplinkKind};
use crate::daemon::name::{Name, Target};
use crate::daemon::publish::PublishSpec;
use crate::daemon::rate_limit::RateLimit;
use crate::daemon::wanted;
use crate::frame::Mac;

/// The properties of a network: `up` and `network create` take them.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Network")]
pub(super) struct NetworkFlags {
    /// IPv4 subnet: `auto`, the first of the usual ones that collides with nothing on this host; `auto-2013`, of those that
    /// Docker had then; or CIDR
    #[arg(long, value_name = "auto|CIDR")]
    pub subnet: Option<Subnet4>,
    /// IPv4 gateway [default: the subnet's first address]
    #[arg(long, value_name = "IP")]
    pub gateway: Option<Ipv4Addr>,
    /// Lease addresses from this part of the subnet only
    #[arg(long, value_name = "CIDR")]
    pub range: Option<Ipv4Net>,
    /// IPv6 subnet: `auto`, a unique local /64, `off`, or CIDR
    #[arg(long, value_name = "auto|CIDR|off")]
    pub ipv6: Option<Subnet6>,
    /// IPv6 gateway [default: with the IPv4 gateway's number in its subnet]
    #[arg(long, value_name = "IP")]
    pub gateway6: Option<Ipv6Addr>,
    /// Containers talk freely; with false only what `allow` opens passes [default: true]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "true|false")]
    pub icc: Option<bool>,
    /// Largest IP packet, in bytes [default: 1500]
    #[arg(long, value_name = "N", value_parser = mtu)]
    pub mtu: Option<u32>,
    /// The way out: `user`, sockets of the daemon's user; `host`, the host's routing (needs root); `none`, an internal
    /// network [default: user]
    #[arg(long, value_name = "user|host|none", value_parser = uplink_kind())]
    pub uplink: Option<UplinkKind>,
    /// Containers may reach the host itself, as host.tapswitch [default: false]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "true|false")]
    pub host_access: Option<bool>,
}

impl NetworkFlags {
    /// As a request for the network `name`; without one nobody's yet.
    pub(super) fn create(&self, name: Option<&Name>) -> NetworkCreate {
        NetworkCreate {
            name: name.map(Name::to_string).unwrap_or_default(),
            subnet: self.subnet,
            gateway: self.gateway,
            range: self.range,
            ipv6: self.ipv6,
            gateway6: self.gateway6,
            icc: self.icc,
            mtu: self.mtu,
            uplink: self.uplink,
            host_access: self.host_access,
            ..NetworkCreate::default()
        }
    }
}

/// The properties of an endpoint: `run` and `attach` take them.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct EndpointFlags {
    /// The network
    #[arg(long, value_name = "N", default_value = "default")]
    pub network: Option<Name>,
    /// The endpoint's name, unique in its network
    #[arg(long, value_name = "X")]
    pub name: Option<Name>,
    /// Another name for it, which others may share; may be repeated
    #[arg(long = "alias", value_name = "X")]
    pub aliases: Vec<Name>,
    /// IPv4 address [default: the lowest that is free]
    #[arg(long, value_name = "A")]
    pub ip: Option<Ipv4Addr>,
    /// IPv6 address [default: made from the IPv4 one]
    #[arg(long, value_name = "A")]
    pub ip6: Option<Ipv6Addr>,
    /// Let clients of the host's port HOST, or one that is free, reach CONTAINER; ports or ranges; repeatable
    #[arg(short = 'p', long, value_name = "[IP:][HOST:]CONTAINER[/tcp|udp]")]
    pub publish: Vec<PublishSpec>,
    /// Most bits per second that are sent to it, as 100mbit or 1.5gbit [default: no limit]
    #[arg(long, value_name = "RATE")]
    pub rate_in: Option<RateLimit>,
    /// Most bits per second that it sends
    #[arg(long, value_name = "RATE")]
    pub rate_out: Option<RateLimit>,
}

/// Which endpoints, where a command can show some or all.
#[derive(Debug, Default, clap::Args)]
pub(super) struct NetworkFilter {
    /// Of this network only
    #[arg(long, value_name = "N")]
    pub network: Option<Name>,
}

impl NetworkFilter {
    /// As a query.
    pub(super) fn query(&self) -> [(&'static str, Option<&str>); 1] {
        [("network", self.network.as_ref().map(Name::as_str))]
    }
}

fn uplink_kind() -> impl TypedValueParser<Value = UplinkKind> {
    clap::builder::PossibleValuesParser::new(["user", "host", "none"]).map(|word| match word.as_str() {
        "user" => UplinkKind::User,
        "host" => UplinkKind::Host,
        _ => UplinkKind::None,
    })
}

/// The MAC a container may be given.
pub(super) fn device_mac(text: &str) -> Result<Mac, String> {
    let mac: Mac = text.parse().map_err(|e| format!("{e}"))?;
    wanted::check_mac(mac).map(|()| mac)
}

/// An MTU that some network could have.
pub(super) fn mtu(text: &str) -> Result<u32, String> {
    let mtu = text.parse().map_err(|e| format!("{e}"))?;
    wanted::check_mtu(mtu, false).map(|()| mtu)
}

/// A value that `check` lets pass, sent as it was given.
pub(super) fn checked<E: ToString>(
    check: impl Fn(&str) -> Result<(), E> + Clone,
) -> impl Fn(&str) -> Result<String, String> + Clone {
    move |text| check(text).map(|()| text.to_owned()).map_err(|e| e.to_string())
}

/// The one endpoint that `target` names.
///
/// # Errors
/// When there is none, or one in each of several networks: these are listed.
pub(super) fn endpoint(client: &Client, target: &Target) -> anyhow::Result<EndpointInfo> {
    let network = target.network.as_ref().map(Name::as_str);
    let query = [("network", network), ("name", Some(target.name.as_str()))];
    let found: Vec<EndpointInfo> = client.get("/v1/endpoints", &query)?;
    only_one(target, found)
}

fn only_one(target: &Target, mut found: Vec<EndpointInfo>) -> anyhow::Result<EndpointInfo> {
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (None, _) => bail!("no endpoint {target} (`tapswitch ls` shows them)"),
        (Some(last), false) => {
            found.push(last);
            let names: Vec<String> = found.iter().map(|e| format!("{}/{}", e.network, e.name)).collect();
            bail!("endpoint {target} is ambiguous: say which of {}", names.join(", "))
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use tapswitch_netns::NamespaceId;

    use super::*;
    use crate::daemon::api::types::EndpointState;

    pub(in crate::cli) fn web_of(network: &str) -> EndpointInfo {
        EndpointInfo {
            name: "web".into(),
            network: network.into(),
            aliases: Vec::new(),
            netns: "4711".into(),
            namespace: NamespaceId { dev: 4, ino: 4_026_531_840 },
            ifname: "eth0".into(),
            mac: Mac::of_ipv4([172, 17, 0, 2].into()),
            ipv4: Some([172, 17, 0, 2].into()),
            ipv6: None,
            port: 1,
            state: EndpointState::Up,
            rx_frames: 3,
            rx_bytes: 1_500,
            tx_frames: 2,
            tx_bytes: 84,
            rate_in: None,
            rate_out: None,
            drops: BTreeMap::from([("icc".into(), 5), ("spoofed_mac".into(), 2)]),
            published: Vec::new(),
        }
    }

    #[test]
    fn an_unknown_endpoint_is_named() {
        let error = only_one(&"blue/web".parse().unwrap(), Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "no endpoint blue/web (`tapswitch ls` shows them)");
    }

    #[test]
    fn an_ambiguous_endpoint_lists_its_candidates() {
        let error = only_one(&"web".parse().unwrap(), vec![web_of("blue"), web_of("default")]).unwrap_err();
        assert_eq!(error.to_string(), "endpoint web is ambiguous: say which of blue/web, default/web");
    }

    #[test]
    fn the_only_endpoint_is_it() {
        assert_eq!(only_one(&"web".parse().unwrap(), vec![web_of("blue")]).unwrap().network, "blue");
    }

    #[test]
    fn no_station_has_a_group_address_or_none() {
        assert!(device_mac("02:42:ac:11:00:02").is_ok());
        assert!(device_mac("ff:ff:ff:ff:ff:ff").unwrap_err().contains("group"));
        assert!(device_mac("00:00:00:00:00:00").unwrap_err().contains("zero"));
        assert!(device_mac("zz").is_err());
    }
}
