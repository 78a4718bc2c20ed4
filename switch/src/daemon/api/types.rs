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
//! | DELETE /v1/endpoints/N/X?port=P | | `{}` |
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

mod endpoint;
mod network;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use endpoint::{AttachReply, AttachRequest, EndpointInfo, EndpointState, PublicationInfo, PublishRequest};
pub use network::{NetworkCreate, NetworkInfo, NetworkSet, Subnet4, Subnet6, UplinkKind};

use crate::frame::Mac;

/// The body of every failed request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// One line: what was being done, to whom, what to do about it.
    pub error: String,
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
    /// The socket of Docker's plugin; null where it is not served.
    #[serde(default)]
    pub docker_socket: Option<String>,
    /// Number of networks.
    pub networks: usize,
    /// Number of endpoints.
    pub endpoints: usize,
    /// What is wrong; empty is well.
    pub warnings: Vec<String>,
}
