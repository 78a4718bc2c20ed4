//! CHECK: whether what ADD said still holds. STATUS: whether ADD would work.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use ipnet::IpNet;
use serde::Deserialize;
use tapswitch_ipam::Subnet;
use tapswitch_netns::{DeviceState, Namespace, Route};

use super::Job;
use super::config::{Rates, RouteSpec, invalid};
use super::error::{CniError, Code};
use crate::daemon::api::types::{EndpointInfo, EndpointState, NetworkInfo};
use crate::plugin::inside;

/// The parts of a result that are ours to check.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Previous {
    interfaces: Vec<Interface>,
    ips: Vec<Ip>,
    routes: Vec<RouteSpec>,
}

#[derive(Debug, Deserialize)]
struct Interface {
    name: String,
    #[serde(default)]
    mac: String,
    #[serde(default)]
    sandbox: String,
}

#[derive(Debug, Deserialize)]
struct Ip {
    address: IpNet,
    interface: Option<usize>,
}

impl Job<'_> {
    /// Compares the previous result with the switch and with the namespace.
    pub(super) fn check(&self) -> Result<(), CniError> {
        let previous = self.config.prev_result().ok_or_else(|| {
            invalid("prevResult is missing: CHECK compares what is there with the result of ADD, given there")
        })?;
        let previous: Previous =
            Previous::deserialize(previous).map_err(|e| CniError::new(Code::DECODE, format!("prevResult: {e}")))?;
        let ifname = &self.environment.attachment().ifname;
        let network = self.switch.network(self.config.network.as_str())?;
        let network = network.ok_or_else(|| differs(format!("network {} is not there", self.config.network)))?;
        let endpoint =
            self.own()?.pop().ok_or_else(|| differs(format!("{ifname}: the switch has no such endpoint")))?;
        let namespace = Namespace::open(Path::new(&self.environment.netns))?;
        if namespace.id() != endpoint.namespace {
            return Err(differs(format!("{ifname} is in another namespace than {}", self.environment.netns)));
        }
        if let Some(Rates { ingress, egress }) = self.config.rates()?
            && (endpoint.rate_in, endpoint.rate_out) != (ingress, egress)
        {
            return Err(differs(format!("{ifname}: the limits of its rate are not those of bandwidth")));
        }
        let state = inside::examine(&namespace, ifname).map_err(|error| differs(error.to_string()))?;
        compare(&previous, &self.environment.netns, &endpoint, &network, &state)?;
        self.delegate()?.map_or(Ok(()), |delegate| delegate.ask("CHECK"))
    }

    /// Whether the daemon answers, and has an address left.
    pub(super) fn status(&self) -> Result<(), CniError> {
        // Containers have no way to each other without it.
        let status = self.switch.status().map_err(|e| CniError::new(Code::IMPAIRED, e.to_string()))?;
        if status.keeper_pid.is_none() {
            let msg = "the daemon's keeper is gone, so that nothing can be attached: `tapswitch up -d` starts it again";
            return Err(CniError::new(Code::IMPAIRED, msg));
        }
        if let Some(network) = self.switch.network(self.config.network.as_str())?
            && self.delegate()?.is_none()
            && network.endpoints.len() >= capacity(&network)
        {
            let msg = format!("network {}: all {} addresses are leased", network.name, capacity(&network));
            return Err(CniError::new(Code::UNAVAILABLE, msg));
        }
        self.delegate()?.map_or(Ok(()), |delegate| delegate.ask_if_known("STATUS"))
    }
}

/// How many endpoints can be at once, beside the host itself.
fn capacity(network: &NetworkInfo) -> usize {
    let subnet = Subnet::new(network.subnet, Some(network.gateway), network.range);
    // What the daemon has was checked when it was made.
    subnet.map_or(usize::MAX, |subnet| {
        let is_leased = |host: &Ipv4Addr| subnet.range().contains(host);
        subnet.capacity() as usize - usize::from(network.host.as_ref().is_some_and(is_leased))
    })
}

/// What of ours is not as it was said.
fn compare(
    previous: &Previous,
    sandbox: &str,
    endpoint: &EndpointInfo,
    network: &NetworkInfo,
    state: &DeviceState,
) -> Result<(), CniError> {
    let ifname = &endpoint.ifname;
    if endpoint.state != EndpointState::Up {
        return Err(differs(format!("{ifname}: the switch lost its device")));
    }
    let said = |interface: &Interface| interface.name == *ifname && interface.sandbox == sandbox;
    let at = previous.interfaces.iter().position(said);
    let at = at.ok_or_else(|| invalid(format!("prevResult: no interface {ifname} in {sandbox}")))?;
    let mac = &previous.interfaces[at].mac;
    if !mac.is_empty() && !mac.eq_ignore_ascii_case(&endpoint.mac.to_string()) {
        return Err(differs(format!("{ifname}: its MAC is {}, not {mac}", endpoint.mac)));
    }
    if state.mac != endpoint.mac.octets() {
        return Err(differs(format!("{ifname}: the device's MAC was changed from {}", endpoint.mac)));
    }
    for ip in previous.ips.iter().filter(|ip| ip.interface == Some(at)) {
        let leased = [endpoint.ipv4.map(IpAddr::from), endpoint.ipv6.map(IpAddr::from)];
        if !leased.contains(&Some(ip.address.addr())) {
            return Err(differs(format!("{ifname}: {} is not leased to it", ip.address.addr())));
        }
        if !state.addresses.contains(&ip.address) {
            return Err(differs(format!("{ifname}: address {} is not on it", ip.address)));
        }
    }
    // Routes by other gateways are other plugins'.
    let gateways = [Some(IpAddr::from(network.gateway)), network.gateway6.map(IpAddr::from)];
    for route in previous.routes.iter().filter(|route| route.gw.is_some() && gateways.contains(&route.gw)) {
        if !state.routes.contains(&Route { to: route.dst.trunc(), gateway: route.gw }) {
            return Err(differs(format!("{ifname}: no route to {} any more", route.dst)));
        }
    }
    Ok(())
}

fn differs(msg: String) -> CniError {
    CniError::new(Code::DIFFERS, msg)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::switch::tests::web;

    #[test]
    fn the_host_s_address_is_no_endpoint_s() {
        assert_eq!(capacity(&web()), 253);
        let with_host = NetworkInfo { host: "10.94.0.254".parse().ok(), ..web() };
        assert_eq!(capacity(&with_host), 252);
        // Of a range from 16 to 31 nothing is reserved, and the host's address is beside it.
        let beside = NetworkInfo { range: "10.94.0.16/28".parse().ok(), ..with_host };
        assert_eq!(capacity(&beside), 16);
    }
}
