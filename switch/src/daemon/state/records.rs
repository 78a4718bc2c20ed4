//! What the files say of a network and of an endpoint.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};
use tapswitch_ipam::{GlobalId, Subnet, SubnetV6};
use tapswitch_netns::NamespaceId;

use crate::daemon::api::types::UplinkKind;
use crate::daemon::docker::DockerId;
use crate::daemon::name::{Name, printable};
use crate::daemon::rate_limit::RateLimit;
use crate::forwarding::{PortId, RulePort};
use crate::frame::Mac;
use crate::uplink::Transport;

/// A network as it is kept: every default resolved, so that it stays what it was when a default changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NetworkRecord {
    /// Its name; the file's too.
    pub name: Name,
    /// IPv4 subnet, gateway and range.
    pub subnet: Subnet,
    /// IPv6 subnet and gateway.
    pub subnet6: Option<SubnetV6>,
    /// The IPv4 subnet was chosen here, and nobody asked for it.
    #[serde(default)]
    pub chosen: bool,
    /// The switch's own MAC there, stable for the network's life.
    pub gateway_mac: Mac,
    /// Containers talk freely.
    pub icc: bool,
    /// Largest IP packet, in bytes.
    pub mtu: u32,
    /// The way out.
    pub uplink: UplinkKind,
    /// Containers may reach the host.
    #[serde(default)]
    pub host_access: bool,
    /// The host's own addresses there, where it has any.
    #[serde(default)]
    pub host: Option<HostRecord>,
    /// Seconds after which a learned MAC is forgotten.
    pub ageing: u32,
    /// Most learned MACs.
    pub fdb_limit: u32,
    /// Full-sized flooded copies a second that one port may cause.
    pub flood_limit: u32,
    /// What is open while `icc` is false.
    #[serde(default)]
    pub rules: BTreeSet<RuleRecord>,
    /// What it is to Docker, where that made it.
    #[serde(default)]
    pub docker: Option<DockerNetworkRecord>,
}

/// A network as Docker knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DockerNetworkRecord {
    /// Its id there.
    pub id: DockerId,
    /// Its addresses are given out by us, and not by Docker itself.
    pub ours: bool,
    /// Where ports are published that name no address of the host.
    pub bind: Option<Ipv4Addr>,
    /// Addresses that no endpoint is to have: Docker leaves them out itself where it gives addresses out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aux: Vec<Ipv4Addr>,
}

/// The addresses of the host on a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HostRecord {
    /// Leased to it.
    pub ipv4: Ipv4Addr,
    /// Leased to it.
    pub ipv6: Option<Ipv6Addr>,
}

/// One `allow`, by names: it may be given before its endpoints come.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleRecord {
    /// Who opens.
    pub from: Name,
    /// Towards whom.
    pub to: Name,
    /// What; absent is any IP packet.
    pub what: Option<RulePortRecord>,
}

impl RuleRecord {
    /// Whether it speaks of `endpoint`.
    pub(crate) fn names(&self, endpoint: &Name) -> bool {
        self.from == *endpoint || self.to == *endpoint
    }
}

/// [`RulePort`] as text: `tcp/5432`, `udp/53`, `icmp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct RulePortRecord(pub RulePort);

impl fmt::Display for RulePortRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            RulePort::Tcp(port) => write!(f, "tcp/{port}"),
            RulePort::Udp(port) => write!(f, "udp/{port}"),
            RulePort::Icmp => f.write_str("icmp"),
        }
    }
}

impl FromStr for RulePortRecord {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // `parse` would take a sign.
        let port = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            digits.parse::<u16>().ok().filter(|port| plain && *port != 0)
        };
        let rule = match text.split_once('/') {
            None if text == "icmp" => Some(RulePort::Icmp),
            Some(("tcp", digits)) => port(digits).map(RulePort::Tcp),
            Some(("udp", digits)) => port(digits).map(RulePort::Udp),
            _ => None,
        };
        rule.map(RulePortRecord)
            .ok_or_else(|| format!("`{}` is neither tcp/PORT, udp/PORT nor icmp, PORT 1 to 65535", printable(text)))
    }
}

impl TryFrom<String> for RulePortRecord {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<RulePortRecord> for String {
    fn from(rule: RulePortRecord) -> String {
        rule.to_string()
    }
}

/// An endpoint as it is kept: its lease and where its device is. The rest follows from its network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndpointRecord {
    /// Its network.
    pub network: Name,
    /// Its name there.
    pub name: Name,
    /// Other names, which it may share with others there.
    #[serde(default)]
    pub aliases: Vec<Name>,
    /// What the client called its namespace.
    pub netns: String,
    /// Which namespace that is.
    pub namespace: NamespaceId,
    /// Its device's name there.
    pub ifname: String,
    /// Its MAC.
    pub mac: Mac,
    /// Leased to it.
    pub ipv4: Ipv4Addr,
    /// Leased to it.
    pub ipv6: Option<Ipv6Addr>,
    /// The source guard is on.
    pub guard: bool,
    /// Its port.
    pub port: PortId,
    /// The limit of what is sent to it.
    #[serde(default)]
    pub rate_in: Option<RateLimit>,
    /// The limit of what it sends.
    #[serde(default)]
    pub rate_out: Option<RateLimit>,
    /// What of it is published.
    #[serde(default)]
    pub published: Vec<PublicationRecord>,
    /// What another endpoint of its container publishes, and this one when that goes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub standby: Vec<PublicationRecord>,
    /// What it is to Docker, where that made it.
    #[serde(default)]
    pub docker: Option<DockerEndpointRecord>,
}

/// An endpoint as Docker knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DockerEndpointRecord {
    /// Its id there.
    pub id: DockerId,
    /// The dockerd that made it.
    pub pid: i32,
    /// That one's namespace, where its device is born and comes back to.
    pub engine: NamespaceId,
}

/// A range that Docker has from us: a network's, or on its way to be one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PoolRecord {
    /// All of it.
    pub subnet: IpNet,
    /// Addresses to lease from, where narrower.
    pub range: Option<Ipv4Net>,
}

/// A port of the host that leads to one of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublicationRecord {
    /// TCP or UDP.
    pub transport: Transport,
    /// Where the socket is bound.
    pub host: SocketAddr,
    /// Where the container listens.
    pub container: u16,
}

impl EndpointRecord {
    /// The file's name. `@` is in no [`Name`], so no two endpoints share one.
    pub(crate) fn file_key(network: &Name, name: &Name) -> String {
        format!("{network}@{name}")
    }
}

impl PublicationRecord {
    /// The endpoint's port, as the forwarding core knows it.
    pub(crate) fn rule_port(&self) -> RulePort {
        match self.transport {
            Transport::Tcp => RulePort::Tcp(self.container),
            Transport::Udp => RulePort::Udp(self.container),
        }
    }
}

/// What the daemon keeps for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SiteRecord {
    /// Makes its unique local IPv6 subnets unlike everybody else's.
    pub global_id: GlobalId,
}

/// The first port number that was never given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PortIds {
    /// It.
    pub next: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_rule_opens_is_text_both_ways() {
        for text in ["tcp/5432", "udp/53", "icmp"] {
            assert_eq!(text.parse::<RulePortRecord>().unwrap().to_string(), text);
        }
        for text in
            ["", "tcp", "tcp/", "tcp/0", "tcp/65536", "tcp/+1", "tcp/ 1", "sctp/1", "icmp/8", "TCP/1", "tcp/1/2"]
        {
            assert!(text.parse::<RulePortRecord>().is_err(), "{text}");
        }
    }
}
