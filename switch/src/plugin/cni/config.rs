//! The configuration on stdin: the plugin's object of a conflist with what the runtime puts into it. CNI 1.1.0, section 1, and the
//! options of the bridge plugin where they mean the same here.
//!
//! Read in two steps, so that DEL is never refused for an option: [`Config::read`] takes what every command needs,
//! [`Config::wishes`] checks the rest for ADD. Keys that nobody here knows are let pass, as all runtimes' plugins do; known keys
//! that ask for what is not had are refused with code 2.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::environment::{CniArgs, address, is_cni_name};
use super::error::{CniError, Code};
use super::ipam::Section;
use super::version::Version;
use crate::daemon::api::types::{NetworkCreate, Subnet6, UplinkKind};
use crate::daemon::name::{Name, printable};
use crate::daemon::rate_limit::RateLimit;
use crate::frame::Mac;
use crate::plugin::ports::PortMapping;

/// The configuration as far as every command needs it.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) version: Version,
    /// The switch's network.
    pub(super) network: Name,
    raw: Raw,
}

/// What ADD is to do beyond its addresses.
#[derive(Clone, Debug)]
pub(super) struct Wishes {
    /// The network, without its subnets.
    pub(super) network: NetworkCreate,
    /// The source guard.
    pub(super) guard: Option<bool>,
    pub(super) mac: Option<Mac>,
    pub(super) ips: Vec<IpAddr>,
    /// What is to be published, as `tapswitch publish` reads it.
    pub(super) publish: Vec<String>,
    pub(super) rates: Rates,
    /// Further names of the container.
    pub(super) aliases: Vec<String>,
    /// The endpoint's name, if it may have it.
    pub(super) name: Option<Name>,
    pub(super) ipv6: Option<Subnet6>,
}

/// How names are resolved, as a result says it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Dns {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) nameservers: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) domain: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) search: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) options: Vec<String>,
}

/// A route, of a configuration or a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RouteSpec {
    pub(super) dst: IpNet,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) gw: Option<IpAddr>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    cni_version: String,
    name: String,
    network: Option<String>,
    socket: Option<PathBuf>,
    ipam: Option<Section>,
    dns: Option<Dns>,
    mtu: Option<u32>,
    icc: Option<bool>,
    port_isolation: Option<bool>,
    uplink: Option<UplinkKind>,
    host_access: Option<bool>,
    guard: Option<bool>,
    ipv6: Option<Subnet6>,
    hairpin_mode: Option<bool>,
    promisc_mode: Option<bool>,
    vlan: Option<u32>,
    vlan_trunk: Option<Vec<Value>>,
    enabledad: Option<bool>,
    disable_container_interface: Option<bool>,
    runtime_config: Option<RuntimeConfig>,
    args: Option<Args>,
    prev_result: Option<Value>,
    #[serde(rename = "cni.dev/valid-attachments")]
    valid_attachments: Option<Vec<ValidAttachment>>,
    /// As libcni 1.3 spells it too.
    #[serde(rename = "cni.dev/attachments")]
    attachments: Option<Vec<ValidAttachment>>,
}

/// One line of GC's list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) struct ValidAttachment {
    #[serde(rename = "containerID")]
    pub(super) container: String,
    pub(super) ifname: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RuntimeConfig {
    port_mappings: Option<Vec<Mapped>>,
    aliases: Option<Aliases>,
    ips: Option<Vec<String>>,
    mac: Option<String>,
    ip_ranges: Option<Vec<Vec<super::ipam::Range>>>,
    /// Read by itself: values that cannot be are the configuration's fault, and not the decoder's.
    bandwidth: Option<Value>,
    dns: Option<RuntimeDns>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mapped {
    host_port: i64,
    container_port: i64,
    #[serde(default)]
    protocol: String,
    #[serde(default, rename = "hostIP")]
    host_ip: String,
}

/// podman sends them by network, others as a list.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Aliases {
    Here(Vec<String>),
    ByNetwork(BTreeMap<String, Vec<String>>),
}

/// Bits per second, and bits, as the pod sees the directions.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Bandwidth {
    ingress_rate: u64,
    ingress_burst: u64,
    egress_rate: u64,
    egress_burst: u64,
}

/// What of a container's rate is limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rates {
    /// Of what is sent to it.
    pub(super) ingress: Option<RateLimit>,
    /// Of what it sends.
    pub(super) egress: Option<RateLimit>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RuntimeDns {
    servers: Option<Vec<String>>,
    searches: Option<Vec<String>>,
    options: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Args {
    cni: Option<ConventionalArgs>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ConventionalArgs {
    ips: Option<Vec<String>>,
    mac: Option<String>,
}

impl Config {
    /// Reads what came on stdin.
    ///
    /// # Errors
    /// Code 6 for what is no configuration, 1 for a version that is not spoken, 7 for a name that no network can have.
    pub(super) fn read(stdin: &[u8]) -> Result<Self, CniError> {
        let undecoded = |e: &dyn fmt::Display| CniError::new(Code::DECODE, format!("read the configuration: {e}"));
        // An object: of an array, the fields would be taken in their order.
        let object: Map<String, Value> = serde_json::from_slice(stdin).map_err(|e| undecoded(&e))?;
        let raw = Raw::deserialize(&Value::Object(object.clone())).map_err(|e| undecoded(&at_its_key(&object, &e)))?;
        let version = Version::read(&raw.cni_version).ok_or_else(|| {
            CniError::new(Code::VERSION, "incompatible CNI versions").with_details(format!(
                "the configuration is of version `{}`; spoken are {}",
                printable(&raw.cni_version),
                Version::list()
            ))
        })?;
        if !is_cni_name(&raw.name) {
            return Err(invalid(format!("name: `{}` is no network's name", printable(&raw.name))));
        }
        let network = raw.network.as_ref().unwrap_or(&raw.name);
        let network = network.parse().map_err(|e| invalid(format!("network: {e}")))?;
        Ok(Config { version, network, raw })
    }

    /// The version of a configuration that could not be read otherwise.
    pub(super) fn version_of(stdin: &[u8]) -> Option<Version> {
        let value: Value = serde_json::from_slice(stdin).ok()?;
        Version::read(value["cniVersion"].as_str()?)
    }

    /// The daemon's control socket, where the configuration names it.
    pub(super) fn socket(&self) -> Option<PathBuf> {
        self.raw.socket.clone()
    }

    /// The section that says where addresses come from.
    pub(super) fn ipam(&self) -> Section {
        let mut section = self.raw.ipam.clone().unwrap_or_default();
        if let Some(ranges) = self.raw.runtime_config.as_ref().and_then(|runtime| runtime.ip_ranges.clone()) {
            section.set_ranges(ranges);
        }
        section
    }

    /// What the plugins before, or our own ADD, made.
    pub(super) fn prev_result(&self) -> Option<&Value> {
        self.raw.prev_result.as_ref()
    }

    /// Who may stay, for GC. Without a list nobody may.
    pub(super) fn valid_attachments(&self) -> Vec<ValidAttachment> {
        self.raw.valid_attachments.clone().or_else(|| self.raw.attachments.clone()).unwrap_or_default()
    }

    /// How names are resolved, as far as the configuration or the runtime says it.
    pub(super) fn dns(&self) -> Option<Dns> {
        let runtime = self.raw.runtime_config.as_ref().and_then(|runtime| runtime.dns.clone()).map(|dns| Dns {
            nameservers: dns.servers.unwrap_or_default(),
            domain: None,
            search: dns.searches.unwrap_or_default(),
            options: dns.options.unwrap_or_default(),
        });
        runtime.or_else(|| self.raw.dns.clone()).filter(|dns| *dns != Dns::default())
    }

    /// What ADD is to do; `args` is CNI_ARGS.
    ///
    /// # Errors
    /// Code 2 for what is not had here, 7 for values that cannot be.
    pub(super) fn wishes(&self, args: &CniArgs) -> Result<Wishes, CniError> {
        self.refuse_unsupported()?;
        let raw = &self.raw;
        let icc = match (raw.icc, raw.port_isolation) {
            (Some(true), Some(true)) => return Err(invalid("icc true and portIsolation true contradict each other")),
            (None, Some(true)) => Some(false),
            (icc, _) => icc,
        };
        let runtime = raw.runtime_config.clone().unwrap_or_default();
        let conventional = raw.args.clone().and_then(|args| args.cni).unwrap_or_default();
        // The bridge plugin's order.
        let mac = runtime.mac.or(conventional.mac).or_else(|| args.mac.clone()).filter(|mac| !mac.is_empty());
        let mac = mac.map(|mac| mac.parse().map_err(|e| invalid(format!("mac: {e}")))).transpose()?;
        let mut ips = args.ips.clone();
        for text in runtime.ips.iter().chain(&conventional.ips).flatten() {
            ips.push(address(text).ok_or_else(|| invalid(format!("ips: `{}` is no address", printable(text))))?);
        }
        ips.sort_unstable();
        ips.dedup();
        Ok(Wishes {
            network: NetworkCreate {
                name: self.network.to_string(),
                icc,
                // The bridge plugin's word for the default.
                mtu: raw.mtu.filter(|mtu| *mtu != 0),
                uplink: raw.uplink,
                host_access: raw.host_access,
                ..NetworkCreate::default()
            },
            guard: raw.guard,
            mac,
            ips,
            publish: published(runtime.port_mappings.unwrap_or_default())?,
            rates: self.rates()?.unwrap_or_default(),
            aliases: runtime.aliases.map(|aliases| self.aliases(aliases)).unwrap_or_default(),
            name: args.pod.as_deref().and_then(|pod| pod.parse().ok()),
            ipv6: raw.ipv6,
        })
    }

    /// The limits of the container's rate, where the runtime speaks of them.
    ///
    /// # Errors
    /// Code 7 for values that cannot be.
    pub(super) fn rates(&self) -> Result<Option<Rates>, CniError> {
        let bandwidth = self.raw.runtime_config.as_ref().and_then(|runtime| runtime.bandwidth.as_ref());
        let Some(value) = bandwidth.filter(|value| !value.is_null()) else { return Ok(None) };
        let asked = Bandwidth::deserialize(value).map_err(|e| invalid(format!("bandwidth: {e}")))?;
        Ok(Some(Rates {
            ingress: limit("ingress", asked.ingress_rate, asked.ingress_burst)?,
            egress: limit("egress", asked.egress_rate, asked.egress_burst)?,
        }))
    }

    /// Those of this network that can be names: runtimes have others too.
    fn aliases(&self, aliases: Aliases) -> Vec<String> {
        let here = match aliases {
            Aliases::Here(aliases) => aliases,
            Aliases::ByNetwork(mut networks) => networks.remove(&self.raw.name).unwrap_or_default(),
        };
        here.into_iter().filter(|alias| alias.parse::<Name>().is_ok()).collect()
    }

    fn refuse_unsupported(&self) -> Result<(), CniError> {
        let raw = &self.raw;
        let on = |option: Option<bool>| option == Some(true);
        let found = [
            (on(raw.hairpin_mode), "hairpinMode true", "a frame never leaves by the port it came in on"),
            (on(raw.promisc_mode), "promiscMode true", "a container gets what is addressed to it"),
            (raw.vlan.is_some_and(|vlan| vlan != 0), "vlan", "make a network for each"),
            (raw.vlan_trunk.as_ref().is_some_and(|trunk| !trunk.is_empty()), "vlanTrunk", "make a network for each"),
            (on(raw.enabledad), "enabledad true", "addresses are leased, and usable at once"),
            (on(raw.disable_container_interface), "disableContainerInterface true", "a device is born up"),
        ]
        .into_iter()
        .find(|(asked, ..)| *asked);
        match found {
            None => Ok(()),
            Some((_, key, why)) => Err(CniError::new(Code::UNSUPPORTED, format!("unsupported: {key}: {why}"))),
        }
    }
}

/// `error` with the key whose value it is about, which serde does not say: each is read alone.
fn at_its_key(object: &Map<String, Value>, error: &serde_json::Error) -> String {
    fn wrong<T: DeserializeOwned>(object: &Map<String, Value>) -> Option<(&str, &Value, serde_json::Error)> {
        let read =
            |key: &str, value: &Value| T::deserialize(&Value::Object(Map::from_iter([(key.into(), value.clone())])));
        object.iter().find_map(|(key, value)| Some((key.as_str(), value, read(key, value).err()?)))
    }
    let Some((key, value, error_of_key)) = wrong::<Raw>(object) else { return error.to_string() };
    let inside = value.as_object().filter(|_| key == "runtimeConfig").and_then(wrong::<RuntimeConfig>);
    match inside {
        Some((inner, _, error)) => format!("{key}: {inner}: {error}"),
        None => format!("{key}: {error_of_key}"),
    }
}

/// The reference plugin's rules: neither is no limit, and one asks for the other.
fn limit(direction: &str, rate: u64, burst: u64) -> Result<Option<RateLimit>, CniError> {
    let limit = match (rate, burst) {
        (0, 0) => return Ok(None),
        (_, 0) => return Err(invalid(format!("bandwidth: {direction}Rate asks for {direction}Burst too"))),
        (0, _) => return Err(invalid(format!("bandwidth: {direction}Burst asks for {direction}Rate too"))),
        _ => RateLimit { rate, burst: Some(burst) },
    };
    limit.check().map_err(|e| invalid(format!("bandwidth: {direction}: {e}")))?;
    Ok(Some(limit))
}

fn published(mappings: Vec<Mapped>) -> Result<Vec<String>, CniError> {
    let mut specs = Vec::new();
    for Mapped { host_port, container_port, protocol, host_ip } in mappings {
        let mapping = PortMapping { address: host_ip, host: host_port, container: container_port, count: 1, protocol };
        specs.extend(mapping.specs().map_err(invalid)?);
    }
    Ok(specs)
}

/// A value that cannot be.
pub(super) fn invalid(msg: impl Into<String>) -> CniError {
    CniError::new(Code::CONFIG, msg)
}

#[cfg(test)]
mod tests;
