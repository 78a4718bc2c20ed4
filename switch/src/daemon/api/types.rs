//! What the control API speaks: the bodies of requests and answers, shared by the daemon and its clients.
//!
//! | method and path | body | answer |
//! |---|---|---|
//! | GET /v1/status | | [`Status`] |
//! | POST /v1/down | | `{}` |
//! | GET /v1/networks | | `[NetworkInfo]` |
//! | POST /v1/networks | [`NetworkCreate`] | [`NetworkInfo`] |
//! | GET /v1/networks/N | | [`NetworkInfo`] |
//! | PATCH /v1/networks/N | [`NetworkSet`] | [`NetworkInfo`] |
//! | DELETE /v1/networks/N | | `{}` |
//! | GET /v1/endpoints?network=N&name=X | | `[EndpointInfo]` |
//! | DELETE /v1/endpoints/N/X | | `{}` |
//! | GET /v1/fdb?network=N | | `[FdbEntry]` |
//! | GET /v1/rules?network=N | | `[RuleInfo]` |
//! | POST /v1/rules | [`RuleChange`] | `{}` |
//! | DELETE /v1/rules | [`RuleChange`] | `{}` |
//! | POST /v1/publications | [`PublishRequest`] | `[PublicationInfo]` |
//! | DELETE /v1/publications | [`PublishRequest`] | `{}` |
//! | GET /v1/stats?network=N&name=X | | [`Stats`] |
//!
//! Attaching needs a descriptor and goes over `attach.sock`: SOCK_SEQPACKET, one message = [`AttachRequest`] as JSON with
//! one nsfs descriptor, answered by one message = [`AttachReply`].
//!
//! A failed request answers with [`ApiError`]: 400 malformed, 404 unknown, 409 conflict, 422 impossible value, 500.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use tapswitch_netns::NamespaceId;

use crate::daemon::rate_limit::RateLimit;
use crate::frame::Mac;
use crate::uplink::Transport;

/// The body of every failed request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// One line: what was being done, to whom, what to do about it.
    pub error: String,
}

/// `auto`, `auto-2013`, or a given subnet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Subnet4 {
    /// The first of Docker's ranges that overlaps nothing on the host.
    #[default]
    Auto,
    /// The same of Docker's list of 2013, for scripts that know its addresses.
    Auto2013,
    /// This one.
    Given(Ipv4Net),
}

/// `auto`, `off`, or a given subnet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Subnet6 {
    /// A unique local /64 of our own.
    #[default]
    Auto,
    /// No IPv6.
    Off,
    /// This one.
    Given(Ipv6Net),
}

/// The way out of a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UplinkKind {
    /// Through sockets of the daemon's user.
    #[default]
    User,
    /// Through the host's routing; needs root.
    Host,
    /// There is none: an internal network.
    None,
}

impl std::fmt::Display for UplinkKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            UplinkKind::User => "user",
            UplinkKind::Host => "host",
            UplinkKind::None => "none",
        })
    }
}

/// A network to be made; what is absent takes its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkCreate {
    /// Its name.
    pub name: String,
    /// IPv4 subnet; `auto`.
    pub subnet: Subnet4,
    /// IPv4 gateway; the first address.
    pub gateway: Option<Ipv4Addr>,
    /// Addresses to lease from; the subnet.
    pub range: Option<Ipv4Net>,
    /// IPv6 subnet; `auto`.
    pub ipv6: Option<Subnet6>,
    /// IPv6 gateway; the first address.
    pub gateway6: Option<Ipv6Addr>,
    /// Containers talk freely; true.
    pub icc: Option<bool>,
    /// Largest IP packet, 68 to 65521 bytes (1280 at least with IPv6); 1500.
    pub mtu: Option<u32>,
    /// The way out; user.
    pub uplink: Option<UplinkKind>,
    /// Containers may reach the host itself; false.
    pub host_access: Option<bool>,
    /// Seconds after which a learned MAC is forgotten, 15 to 3600; 300.
    pub ageing: Option<u32>,
    /// Most learned MACs; 8192.
    pub fdb_limit: Option<u32>,
    /// Full-sized flooded copies a second that one port may cause; 500.
    pub flood_limit: Option<u32>,
}

/// A change of a live network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkSet {
    /// Containers talk freely.
    pub icc: Option<bool>,
    /// Largest IP packet, in bytes.
    pub mtu: Option<u32>,
    /// Containers may reach the host itself.
    pub host_access: Option<bool>,
}

/// A network, as `network inspect` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkInfo {
    /// Its name.
    pub name: String,
    /// IPv4 subnet.
    pub subnet: Ipv4Net,
    /// IPv4 gateway.
    pub gateway: Ipv4Addr,
    /// Addresses leased from, where narrower than the subnet.
    pub range: Option<Ipv4Net>,
    /// IPv6 subnet.
    pub subnet6: Option<Ipv6Net>,
    /// IPv6 gateway.
    pub gateway6: Option<Ipv6Addr>,
    /// The switch's own MAC there.
    pub gateway_mac: Mac,
    /// Largest IP packet, in bytes.
    pub mtu: u32,
    /// Containers talk freely.
    pub icc: bool,
    /// The way out.
    pub uplink: UplinkKind,
    /// Containers may reach the host itself.
    pub host_access: bool,
    /// The address by which containers reach the host, where they may.
    pub host: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub host6: Option<Ipv6Addr>,
    /// Names of its endpoints, sorted.
    pub endpoints: Vec<String>,
    /// What is wrong with it, as an overlapping host route.
    pub warnings: Vec<String>,
}

/// An endpoint, as `ls` shows it. rx = received by the switch from the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointInfo {
    /// Its name, unique in its network.
    pub name: String,
    /// Its network.
    pub network: String,
    /// Other names that it answers to.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// What the client called its namespace.
    pub netns: String,
    /// Which namespace that is.
    pub namespace: NamespaceId,
    /// Its device's name there.
    pub ifname: String,
    /// Its MAC.
    pub mac: Mac,
    /// Its IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// Its port number in the switch.
    pub port: u32,
    /// `up`, or `lost` while its device could not be attached again.
    pub state: EndpointState,
    /// Frames read from it.
    pub rx_frames: u64,
    /// Bytes read from it.
    pub rx_bytes: u64,
    /// Frames written to it.
    pub tx_frames: u64,
    /// Bytes written to it.
    pub tx_bytes: u64,
    /// The limit of what is sent to it; null is none.
    #[serde(default)]
    pub rate_in: Option<RateLimit>,
    /// The limit of what it sends; null is none.
    #[serde(default)]
    pub rate_out: Option<RateLimit>,
    /// Reason to count, of what it sent and of what was meant for it; zeros left out.
    pub drops: BTreeMap<String, u64>,
    /// Ports of the host that lead to it, sorted.
    #[serde(default)]
    pub published: Vec<PublicationInfo>,
}

/// A port of the host that leads to one of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PublicationInfo {
    /// `tcp` or `udp`.
    pub protocol: Transport,
    /// Address of the host; `0.0.0.0` and `::` are all of them.
    pub ip: IpAddr,
    /// Port of the host.
    pub host_port: u16,
    /// Port of the endpoint.
    pub container_port: u16,
}

/// `publish` or `unpublish`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishRequest {
    /// X: `[NETWORK/]NAME`.
    pub endpoint: String,
    /// To publish, `[IP:][HOST:]CONTAINER[/tcp|udp]`; to take back, `[IP:]HOST[:CONTAINER][/tcp|udp]`. Ports or ranges.
    pub publish: Vec<String>,
}

/// Whether an endpoint is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointState {
    /// Its frames are forwarded.
    Up,
    /// Its device could not be attached again.
    Lost,
}

/// One line of `fdb`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FdbEntry {
    /// The address.
    pub mac: Mac,
    /// Its network.
    pub network: String,
    /// Port number; null is the gateway.
    pub port: Option<u32>,
    /// Endpoint of that port; null is the gateway.
    pub endpoint: Option<String>,
    /// Assigned or learned.
    pub kind: FdbKind,
    /// Time since it was last seen, in milliseconds; 0 for static ones.
    pub age_ms: u64,
}

/// Where a line of `fdb` comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FdbKind {
    /// Assigned at attach.
    Static,
    /// Seen in traffic.
    Learned,
}

/// One line of `rules`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RuleInfo {
    /// Its network.
    pub network: String,
    /// Endpoint that may open. It need not exist yet.
    pub from: String,
    /// Endpoint towards which.
    pub to: String,
    /// `tcp/5432`, `udp/53`, `icmp`; null is any IP packet.
    pub what: Option<String>,
}

/// `allow` or `deny`. X is `[NETWORK/]NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleChange {
    /// X that may open.
    pub from: String,
    /// X towards which.
    pub to: String,
    /// `tcp/5432`, `udp/53`, `icmp`; absent is any IP packet.
    #[serde(default)]
    pub what: Option<String>,
}

/// Counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Of each port.
    pub endpoints: Vec<EndpointStats>,
    /// Sums over them, and over the ports that are gone.
    pub total: PortStats,
}

/// Counters of one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointStats {
    /// Its network.
    pub network: String,
    /// Its name.
    pub name: String,
    /// Its counters.
    #[serde(flatten)]
    pub port: PortStats,
}

/// Both laws of conservation, in numbers: `rx_frames` = `unicast` + `flooded` + `answered` + `local` + sum of `rx_drops`; copies decided =
/// `tx_frames` + sum of `tx_drops`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortStats {
    /// Frames read.
    pub rx_frames: u64,
    /// Bytes read.
    pub rx_bytes: u64,
    /// Of those, sent to one port.
    pub unicast: u64,
    /// Of those, flooded.
    pub flooded: u64,
    /// Of those, answered by the switch.
    pub answered: u64,
    /// Of those, taken by a service at the gateway or by the uplink.
    #[serde(default)]
    pub local: u64,
    /// Of those, dropped, by reason; zeros left out.
    pub rx_drops: BTreeMap<String, u64>,
    /// Copies decided for this port.
    pub tx_decided: u64,
    /// Of those, written.
    pub tx_frames: u64,
    /// Bytes written.
    pub tx_bytes: u64,
    /// Of those, not written, by reason; zeros left out.
    pub tx_drops: BTreeMap<String, u64>,
}

/// The daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its version.
    pub version: String,
    /// Keeper process; null after it died.
    pub keeper_pid: Option<u32>,
    /// Switch process.
    pub switch_pid: u32,
    /// Seconds since the switch process started.
    pub uptime_seconds: u64,
    /// How often the keeper had to start the switch again.
    pub restarts: u32,
    /// Forwarding threads.
    pub workers: usize,
    /// `io_uring` or `read/write`.
    pub io: String,
    /// State directory.
    pub state_dir: String,
    /// Run directory.
    pub run_dir: String,
    /// Number of networks.
    pub networks: usize,
    /// Number of endpoints.
    pub endpoints: usize,
    /// What is wrong; empty is well.
    pub warnings: Vec<String>,
}

/// What comes with a namespace's descriptor on `attach.sock`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AttachRequest {
    /// Network; `default`.
    pub network: Option<String>,
    /// Endpoint name; made from the namespace where absent.
    pub name: Option<String>,
    /// Other names for it, 16 at most, which others may share.
    pub aliases: Vec<String>,
    /// What the user called the namespace, for `ls`.
    pub netns: String,
    /// IPv4 address wanted.
    pub ip: Option<Ipv4Addr>,
    /// IPv6 address wanted.
    pub ip6: Option<Ipv6Addr>,
    /// MAC wanted.
    pub mac: Option<Mac>,
    /// Name of the device in the namespace; `eth0`.
    pub ifname: Option<String>,
    /// The source guard; true. Off lets a nested switch speak for many MACs, which are then learned.
    pub guard: Option<bool>,
    /// Ports to publish, as in [`PublishRequest`].
    pub publish: Vec<String>,
    /// The limit of what is sent to it.
    pub rate_in: Option<RateLimit>,
    /// The limit of what it sends.
    pub rate_out: Option<RateLimit>,
}

/// The answer on `attach.sock`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachReply {
    /// It is attached, and served from now on. More published ports than fit one message, some hundreds, are left out:
    /// `GET /v1/endpoints` has them.
    Attached(Box<EndpointInfo>),
    /// It is not, and nothing was changed.
    Error(String),
}

macro_rules! text_enum {
    ($name:ident, $($text:literal => $variant:ident),+) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self {
                    $($name::$variant => f.write_str($text),)+
                    $name::Given(net) => write!(f, "{net}"),
                }
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok($name::$variant),)+
                    other => other.parse().map($name::Given).map_err(|_| {
                        format!("`{other}` is neither {} nor a subnet in CIDR notation", [$($text),+].join(" nor "))
                    }),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

text_enum!(Subnet4, "auto" => Auto, "auto-2013" => Auto2013);
text_enum!(Subnet6, "auto" => Auto, "off" => Off);
