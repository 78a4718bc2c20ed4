//! Endpoints, and what is published of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use tapswitch_netns::NamespaceId;

use crate::daemon::rate_limit::RateLimit;
use crate::frame::Mac;
use crate::uplink::Transport;

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
    /// What another endpoint of that namespace and `netns` publishes alike is not to be published again, and no error: it comes
    /// to this one when the other goes.
    pub publish_once: bool,
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
