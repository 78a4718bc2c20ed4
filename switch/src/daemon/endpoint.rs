//! A live endpoint: its lease, its device, and its port while it has one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use tapswitch_netns::{DeviceSpec, OffloadMode, TapInfo};

use super::api::types::{EndpointInfo, EndpointState};
use super::control::{Place, publication_info as info};
use super::host_access;
use super::keeper::message::EndpointKey;
use super::name::Name;
use super::rate_limit::RateLimit;
use super::state::{EndpointRecord, NetworkRecord, PublicationRecord};
use super::tally;
use crate::forwarding::PortSpec;
use crate::port::{Limits, PortCounts, RxCounters, TxPort, counts};
use crate::uplink::Publication;

/// What control keeps of a served port. The `TxPort` here is the last one to go, after every worker let go of it.
#[derive(Debug)]
pub(crate) struct Port {
    /// Counters of the read side, which a worker owns.
    pub rx: Arc<RxCounters>,
    /// The write side.
    pub tx: Arc<TxPort>,
    /// What the device is, for the next keeper.
    pub info: TapInfo,
}

impl Port {
    /// Its counters now.
    pub(crate) fn counts(&self) -> PortCounts {
        counts(&self.rx, &self.tx)
    }
}

/// How far an endpoint is.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Its name and addresses are reserved; the keeper is making its device.
    Coming,
    /// It is served.
    Up(Port),
    /// Its device could not be attached again, and may still be there.
    Lost,
    /// It is served no more; the keeper is destroying its device, and until then its name and addresses stay taken.
    Going,
}

/// The endpoint.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// What its file says.
    pub record: EndpointRecord,
    /// How far it is.
    pub phase: Phase,
    /// What is bound of what it publishes, sorted.
    pub publications: Vec<Arc<Publication>>,
    /// The MTU of its network was changed while its device was on its way.
    pub has_old_mtu: bool,
}

impl Endpoint {
    /// One that publishes nothing yet.
    pub(crate) fn new(record: EndpointRecord, phase: Phase) -> Self {
        Endpoint { record, phase, publications: Vec::new(), has_old_mtu: false }
    }

    /// The keeper's label for it.
    pub(crate) fn key(&self) -> EndpointKey {
        key(&self.record.network, &self.record.name)
    }

    /// Where it is.
    pub(crate) fn place(&self) -> Place {
        Place { network: self.record.network.clone(), name: self.record.name.clone() }
    }

    /// Notes the name that its device has now, for the next keeper.
    pub(crate) fn renamed(&mut self, ifname: &str) {
        if let Phase::Up(port) = &mut self.phase {
            ifname.clone_into(&mut port.info.ifname);
        }
    }

    /// Its port, while it is served.
    pub(crate) fn port(&self) -> Option<&Port> {
        match &self.phase {
            Phase::Up(port) => Some(port),
            _ => None,
        }
    }

    /// Whether commands see it.
    pub(crate) fn visible(&self) -> bool {
        matches!(self.phase, Phase::Up(_) | Phase::Lost)
    }

    /// Whether it is the host's own device, which is the network's and nobody's container.
    pub(crate) fn is_host(&self) -> bool {
        host_access::is_taken(&self.record.name)
    }

    /// Whether `address` is one of its.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        self.record.ipv4 == address || self.record.ipv6.is_some_and(|ipv6| ipv6 == address)
    }

    /// As the forwarding core is told of it. The host's addresses are the network's to name.
    pub(crate) fn spec(&self) -> PortSpec {
        let record = &self.record;
        let leased = !self.is_host();
        PortSpec {
            id: record.port,
            mac: record.mac,
            ipv4: Some(record.ipv4).filter(|_| leased),
            ipv6: record.ipv6.filter(|_| leased),
            guard: record.guard,
            learn: !record.guard,
            published: record.published.iter().map(PublicationRecord::rule_port).collect(),
        }
    }

    /// What its port may carry. In and out are the container's, rx and tx the switch's.
    pub(crate) fn limits(&self) -> Limits {
        let rate = |limit: &Option<RateLimit>| limit.as_ref().map(RateLimit::rate);
        Limits { rx: rate(&self.record.rate_out), tx: rate(&self.record.rate_in) }
    }

    /// As `ls` shows it.
    pub(crate) fn info(&self) -> EndpointInfo {
        let counts = self.port().map(Port::counts).unwrap_or_default();
        let stats = tally::stats(&counts);
        let mut drops: BTreeMap<String, u64> = stats.rx_drops;
        drops.extend(stats.tx_drops);
        let record = &self.record;
        EndpointInfo {
            name: record.name.to_string(),
            network: record.network.to_string(),
            aliases: record.aliases.iter().map(Name::to_string).collect(),
            netns: record.netns.clone(),
            namespace: record.namespace,
            ifname: record.ifname.clone(),
            mac: record.mac,
            ipv4: Some(record.ipv4),
            ipv6: record.ipv6,
            port: record.port.0,
            state: if self.port().is_some() { EndpointState::Up } else { EndpointState::Lost },
            rx_frames: stats.rx_frames,
            rx_bytes: stats.rx_bytes,
            tx_frames: stats.tx_frames,
            tx_bytes: stats.tx_bytes,
            rate_in: record.rate_in,
            rate_out: record.rate_out,
            drops,
            published: self.publications.iter().map(info).collect(),
        }
    }
}

/// The keeper's label for an endpoint.
pub(crate) fn key(network: &Name, name: &Name) -> EndpointKey {
    EndpointKey(format!("{network}/{name}"))
}

/// The device of `endpoint` on `network`.
pub(crate) fn device(network: &NetworkRecord, endpoint: &EndpointRecord, offload: OffloadMode) -> DeviceSpec {
    let v4 = ipnet::Ipv4Net::new(endpoint.ipv4, network.subnet.net().prefix_len()).expect("a subnet's own length");
    let v6 = network.subnet6.zip(endpoint.ipv6).map(|(subnet, address)| {
        ipnet::Ipv6Net::new(address, subnet.net().prefix_len()).expect("a subnet's own length").into()
    });
    DeviceSpec {
        ifname: endpoint.ifname.clone(),
        mac: endpoint.mac.octets(),
        mtu: network.mtu,
        addresses: std::iter::once(v4.into()).chain(v6).collect(),
        // The host has a way out of its own.
        gateways: if host_access::is_taken(&endpoint.name) { Vec::new() } else { gateways(network) },
        offload,
        owner: nix::unistd::geteuid().as_raw(),
    }
}

fn gateways(network: &NetworkRecord) -> Vec<IpAddr> {
    std::iter::once(network.subnet.gateway().into())
        .chain(network.subnet6.map(|subnet| subnet.gateway().into()))
        .collect()
}
