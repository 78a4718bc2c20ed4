//! Requests and answers as dockerd's Go structs have them. What we do not use is left out: unknown fields are passed over, as
//! Go does. Null and absent are the same.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::id::DockerId;
use crate::frame::Mac;

/// `NetworkDriver.CreateNetwork`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CreateNetwork {
    #[serde(rename = "NetworkID")]
    pub network: DockerId,
    #[serde(default, deserialize_with = "nullable")]
    pub options: BTreeMap<String, Value>,
    #[serde(rename = "IPv4Data", default, deserialize_with = "nullable")]
    pub ipv4: Vec<IpamData>,
    #[serde(rename = "IPv6Data", default, deserialize_with = "nullable")]
    pub ipv6: Vec<IpamData>,
}

/// A range and what of it is given out.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct IpamData {
    pub pool: IpNet,
    /// With the pool's length.
    #[serde(default, deserialize_with = "empty_is_none")]
    pub gateway: Option<IpNet>,
    /// To be left out, by name; with the pool's length.
    #[serde(default, rename = "AuxAddresses")]
    pub aux: Option<BTreeMap<String, IpNet>>,
}

/// What names a network: `DeleteNetwork`.
#[derive(Debug, Deserialize)]
pub(super) struct OfNetwork {
    #[serde(rename = "NetworkID")]
    pub network: DockerId,
}

/// What names an endpoint: `DeleteEndpoint`, `Leave`, `EndpointOperInfo`, `RevokeExternalConnectivity`.
#[derive(Debug, Deserialize)]
pub(super) struct OfEndpoint {
    #[serde(rename = "EndpointID")]
    pub endpoint: DockerId,
}

/// `NetworkDriver.CreateEndpoint`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CreateEndpoint {
    #[serde(rename = "NetworkID")]
    pub network: DockerId,
    #[serde(rename = "EndpointID")]
    pub endpoint: DockerId,
    #[serde(default, deserialize_with = "nullable")]
    pub interface: Interface,
    #[serde(default, deserialize_with = "nullable")]
    pub options: BTreeMap<String, Value>,
}

/// What Docker has decided of an endpoint already.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Interface {
    #[serde(default, deserialize_with = "empty_is_none")]
    pub address: Option<ipnet::Ipv4Net>,
    #[serde(rename = "AddressIPv6", default, deserialize_with = "empty_is_none")]
    pub address6: Option<ipnet::Ipv6Net>,
    #[serde(default, deserialize_with = "empty_is_none")]
    pub mac_address: Option<Mac>,
}

/// `NetworkDriver.Join`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Join {
    #[serde(rename = "EndpointID")]
    pub endpoint: DockerId,
    #[serde(default)]
    pub sandbox_key: String,
}

/// `NetworkDriver.ProgramExternalConnectivity`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Program {
    #[serde(rename = "EndpointID")]
    pub endpoint: DockerId,
    #[serde(default, deserialize_with = "nullable")]
    pub options: ProgramOptions,
}

/// Its options.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ProgramOptions {
    #[serde(rename = "com.docker.network.portmap", default, deserialize_with = "nullable")]
    pub ports: Vec<PortBinding>,
}

/// A port that `-p` names.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PortBinding {
    /// Of IP: 6, 17 or 132.
    pub proto: u8,
    /// The container's.
    pub port: u16,
    #[serde(rename = "HostIP", default, deserialize_with = "empty_is_none")]
    pub host_ip: Option<IpAddr>,
    /// 0 is one that is free.
    #[serde(default)]
    pub host_port: u16,
    /// The last that may be had instead.
    #[serde(default)]
    pub host_port_end: u16,
}

/// `IpamDriver.RequestPool`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RequestPool {
    #[serde(default, deserialize_with = "empty_is_none")]
    pub pool: Option<IpNet>,
    #[serde(default, deserialize_with = "empty_is_none")]
    pub sub_pool: Option<IpNet>,
    #[serde(default, deserialize_with = "nullable")]
    pub options: BTreeMap<String, String>,
    #[serde(rename = "V6", default)]
    pub v6: bool,
}

/// `IpamDriver.ReleasePool`.
#[derive(Debug, Deserialize)]
pub(super) struct ReleasePool {
    #[serde(rename = "PoolID")]
    pub pool: String,
}

/// `IpamDriver.RequestAddress`, and `ReleaseAddress`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Address {
    #[serde(rename = "PoolID")]
    pub pool: String,
    #[serde(default, deserialize_with = "empty_is_none")]
    pub address: Option<IpAddr>,
    #[serde(default, deserialize_with = "nullable")]
    pub options: BTreeMap<String, String>,
}

/// `Join`'s answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Joined {
    pub interface_name: InterfaceName,
    /// Empty where there is none.
    pub gateway: String,
    #[serde(rename = "GatewayIPv6")]
    pub gateway6: String,
    pub static_routes: [(); 0],
    /// Without it dockerd would give a container that has no gateway a second device, on a bridge of the kernel's.
    pub disable_gateway_service: bool,
}

/// Which device dockerd is to take, and what it becomes: `eth` and a number.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct InterfaceName {
    pub src_name: String,
    pub dst_prefix: &'static str,
}

/// Null is the default.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

/// Go says an empty string where there is nothing.
fn empty_is_none<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let text = Option::<String>::deserialize(from)?.filter(|text| !text.is_empty());
    let read = |text: String| {
        let quoted = crate::daemon::name::printable(&text);
        text.parse().map_err(|e| serde::de::Error::custom(format!("`{quoted}`: {e}")))
    };
    text.map(read).transpose()
}

/// An address as Docker writes it, or an empty string.
pub(super) fn text(address: Option<impl Into<IpAddr>>) -> String {
    address.map(|address| address.into().to_string()).unwrap_or_default()
}

/// The addresses of one family or the other.
pub(super) fn v4(net: Option<IpNet>) -> Option<Ipv4Addr> {
    match net.map(|net| net.addr()) {
        Some(IpAddr::V4(address)) => Some(address),
        _ => None,
    }
}

/// See [`v4`].
pub(super) fn v6(net: Option<IpNet>) -> Option<Ipv6Addr> {
    match net.map(|net| net.addr()) {
        Some(IpAddr::V6(address)) => Some(address),
        _ => None,
    }
}
