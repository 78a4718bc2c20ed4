//! `setup` and `teardown`: one container's device on one network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use tapswitch_netns::Namespace;

use super::FACE;
use super::network::Network;
use crate::daemon::api::client::ClientError;
use crate::daemon::api::types::{AttachRequest, EndpointInfo, NetworkInfo};
use crate::daemon::name::{Name, printable};
use crate::frame::Mac;
use crate::plugin::holder::Holder;
use crate::plugin::ports::PortMapping;
use crate::plugin::switch::{Switch, addresses};
use crate::plugin::{inside, note, socket};

/// What comes on stdin for both.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Request {
    container_id: String,
    #[serde(default)]
    container_name: String,
    #[serde(default)]
    port_mappings: Option<Vec<Mapped>>,
    network: Network,
    network_options: Options,
}

#[derive(Clone, Debug, Deserialize)]
struct Mapped {
    container_port: i64,
    host_port: i64,
    #[serde(default)]
    host_ip: String,
    #[serde(default)]
    protocol: String,
    #[serde(default)]
    range: u16,
}

#[derive(Clone, Debug, Deserialize)]
struct Options {
    interface_name: String,
    #[serde(default)]
    aliases: Option<Vec<String>>,
    #[serde(default)]
    static_ips: Option<Vec<IpAddr>>,
    #[serde(default)]
    static_mac: Option<String>,
}

/// `setup`: attaches the namespace at `netns`.
///
/// # Errors
/// When it cannot be: then nothing was changed.
pub(super) fn setup(switch: &Switch, netns: &str, request: &Request) -> anyhow::Result<Value> {
    let namespace = Namespace::open(Path::new(netns))?;
    let wanted = request.network.wanted()?;
    let mut attach = request.attach(&wanted.name)?;
    if socket::rootless().is_some() && !attach.publish.is_empty() {
        // podman starts its own forwarder for every rootless network; two cannot have one port.
        note("rootless podman publishes the ports itself, and hides the clients' addresses (docs/netavark.md)");
        attach.publish.clear();
    }
    let info = switch.ensure(&wanted)?;
    let endpoint = switch.attach(&request.holder(), attach, namespace.as_fd())?;
    if let Err(error) = inside::add(&namespace, &endpoint.ifname, &request.network.routes(&info)) {
        switch.detach(&endpoint).with_context(|| format!("after: {error}"))?;
        return Err(error.into());
    }
    Ok(status(&endpoint, &info, request.network.network_dns_servers.as_deref()))
}

/// `teardown`: what is gone is torn down.
///
/// # Errors
/// When the daemon cannot be asked, and the namespace at `netns` is still there.
pub(super) fn teardown(switch: &Switch, netns: &str, request: &Request) -> anyhow::Result<()> {
    let network = request.network.wanted()?.name;
    let holder = request.holder().to_string();
    let ours = |e: &&EndpointInfo| e.netns == holder && e.ifname == request.network_options.interface_name;
    let endpoints = match switch.endpoints(Some(&network)) {
        // The device went with its namespace, and the daemon forgets it when it starts.
        Err(error @ ClientError::NoDaemon(_)) if !Path::new(netns).exists() => {
            note(&error.to_string());
            return Ok(());
        }
        asked => asked?,
    };
    for endpoint in endpoints.iter().filter(ours) {
        switch.detach(endpoint)?;
    }
    Ok(())
}

/// netavark's StatusBlock.
fn status(endpoint: &EndpointInfo, info: &NetworkInfo, dns: Option<&[IpAddr]>) -> Value {
    let subnets: Vec<Value> = addresses(endpoint, info)
        .into_iter()
        .map(|(ipnet, gateway)| json!({"ipnet": ipnet, "gateway": gateway}))
        .collect();
    let dns = dns.filter(|dns| !dns.is_empty()).map_or_else(|| vec![info.gateway.into()], <[IpAddr]>::to_vec);
    json!({
        "dns_search_domains": [],
        "dns_server_ips": dns,
        "interfaces": {(endpoint.ifname.as_str()): {"mac_address": endpoint.mac, "subnets": subnets}},
    })
}

impl Request {
    fn holder(&self) -> Holder {
        Holder::new(FACE, &self.container_id)
    }

    fn attach(&self, network: &str) -> anyhow::Result<AttachRequest> {
        if self.container_id.is_empty() || self.container_id.contains(char::is_control) {
            bail!("container_id: `{}` is no id", printable(&self.container_id));
        }
        let options = &self.network_options;
        let (ip, ip6) = one_of_each(options.static_ips.as_deref().unwrap_or_default())?;
        let mac = options.static_mac.as_deref().filter(|mac| !mac.is_empty());
        let named = Name::nearest(&self.container_name).or_else(|| Name::nearest(self.holder().short()));
        Ok(AttachRequest {
            network: Some(network.to_owned()),
            name: named.map(String::from),
            ip,
            ip6,
            mac: mac.map(str::parse::<Mac>).transpose().context("static_mac")?,
            ifname: Some(options.interface_name.clone()),
            aliases: self.aliases(),
            publish: self.publish()?,
            rate_in: self.network.rate("rate_in")?,
            rate_out: self.network.rate("rate_out")?,
            ..AttachRequest::default()
        })
    }

    /// Those that can be names.
    fn aliases(&self) -> Vec<String> {
        let all = self.network_options.aliases.iter().flatten();
        all.filter(|alias| alias.parse::<Name>().is_ok()).cloned().collect()
    }

    fn publish(&self) -> anyhow::Result<Vec<String>> {
        let mut specs = Vec::new();
        for mapped in self.port_mappings.iter().flatten() {
            let mapping = PortMapping {
                address: mapped.host_ip.clone(),
                host: mapped.host_port,
                container: mapped.container_port,
                count: mapped.range,
                protocol: mapped.protocol.clone(),
            };
            specs.extend(mapping.specs().map_err(anyhow::Error::msg)?);
        }
        Ok(specs)
    }
}

fn one_of_each(ips: &[IpAddr]) -> anyhow::Result<(Option<Ipv4Addr>, Option<Ipv6Addr>)> {
    let (mut v4, mut v6) = (None, None);
    for ip in ips {
        let had = match ip {
            IpAddr::V4(ip) => v4.replace(*ip).map(IpAddr::from),
            IpAddr::V6(ip) => v6.replace(*ip).map(IpAddr::from),
        };
        if let Some(had) = had {
            bail!("addresses {had} and {ip}: a container has one of a family");
        }
    }
    Ok((v4, v6))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(options: Value) -> Request {
        serde_json::from_value(json!({
            "container_id": "49825037e538cf37", "container_name": "q1", 
            "port_mappings": [{"container_port": 80, "host_ip": "", "host_port": 8086, "protocol": "tcp,udp", "range": 2}],
            "network": {"name": "nv1", "id": "70d0", "driver": "tapswitch"}, "network_options": options,
        }))
        .unwrap()
    }

    #[test]
    fn podman_s_lease_and_names_are_asked_for() {
        let request =
            request(json!({"interface_name": "eth0", "static_ips": ["10.95.0.7", "fd00::7"], "static_mac": null}));
        let attach = request.attach("nv1").unwrap();
        assert_eq!((attach.ip, attach.ip6), ("10.95.0.7".parse().ok(), "fd00::7".parse().ok()));
        assert_eq!((attach.name.as_deref(), attach.ifname.as_deref()), (Some("q1"), Some("eth0")));
        assert_eq!(attach.publish, ["8086-8087:80-81/tcp", "8086-8087:80-81/udp"]);
    }

    #[test]
    fn without_a_daemon_what_went_with_its_namespace_is_torn_down_and_what_is_there_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let switch = Switch::new(&dir.path().join("api.sock"));
        let request = request(json!({"interface_name": "eth0"}));
        let there = dir.path().to_str().unwrap();
        teardown(&switch, &format!("{there}/gone"), &request).unwrap();
        assert!(teardown(&switch, there, &request).unwrap_err().to_string().contains("no daemon answers"));
    }

    #[test]
    fn two_addresses_of_a_family_are_refused() {
        let request = request(json!({"interface_name": "eth0", "static_ips": ["10.95.0.7", "10.95.0.8"]}));
        assert!(request.attach("nv1").unwrap_err().to_string().contains("10.95.0.8"));
    }
}
