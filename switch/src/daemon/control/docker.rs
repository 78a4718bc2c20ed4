//! What Docker asks for, as far as it is not what everybody may: networks by its ids, and endpoints whose devices it takes
//! to its containers itself.
//!
//! ```text
//!  CreateEndpoint   the device is made in dockerd's namespace, down            served from now on
//!  Join             the keeper is asked to follow it                           record: where it is, its name there
//!  (dockerd moves it in, sets its addresses, brings it up)
//!  Moved            the keeper found it in the container
//!  Leave            dockerd takes it back                                      record: dockerd's namespace
//!  DeleteEndpoint   it is destroyed
//! ```
//!
//! dockerd's word is the last: it never asks again, and forgets what we refuse to give back. So what it gives an address to
//! ends whatever of its had that address; and when a dockerd starts, what an earlier one made and left lying in its namespace
//! is destroyed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tapswitch_netns::NamespaceId;

use super::detach::Then;
use super::jobs::Job;
use super::publish::ToPublish;
use super::removal::Removal;
use super::resolve::Place;
use super::{Control, Reply};
use crate::daemon::api::types::{
    AttachRequest, EndpointInfo, NetworkCreate, NetworkInfo, PublicationInfo, Subnet4, UplinkKind,
};
use crate::daemon::docker::{DockerId, PREFIX};
use crate::daemon::endpoint::{self, Endpoint};
use crate::daemon::keeper::message::ToKeeper;
use crate::daemon::name::Name;
use crate::daemon::network::Network;
use crate::daemon::publish::PublishSpec;
use crate::daemon::rate_limit::RateLimit;
use crate::daemon::refusal::{Outcome, Refusal};
use crate::daemon::state::{DockerEndpointRecord, DockerNetworkRecord};
use crate::frame::Mac;

/// Of a device that is not made yet: no namespace has it.
const NOWHERE: NamespaceId = NamespaceId { dev: 0, ino: 0 };

/// A network that Docker makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DockerNetwork {
    /// Its id.
    pub id: DockerId,
    /// All else; without a name it is called by its id.
    pub wanted: NetworkCreate,
    /// Where ports are published that name no address of the host.
    pub bind: Option<Ipv4Addr>,
    /// Addresses that no endpoint is to have.
    pub aux: Vec<Ipv4Addr>,
}

/// An endpoint that Docker makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DockerEndpoint {
    /// Its network's id.
    pub network: DockerId,
    /// Its id.
    pub id: DockerId,
    /// Its name; without one it is called by its id.
    pub name: Option<String>,
    /// What Docker gives it.
    pub ipv4: Option<Ipv4Addr>,
    /// The same.
    pub ipv6: Option<Ipv6Addr>,
    /// The same.
    pub mac: Option<Mac>,
    /// The limit of what is sent to it.
    pub rate_in: Option<RateLimit>,
    /// The limit of what it sends.
    pub rate_out: Option<RateLimit>,
    /// The dockerd that asks.
    pub pid: i32,
}

/// What an endpoint got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Born {
    /// Its address.
    pub ipv4: ipnet::Ipv4Net,
    /// Its MAC.
    pub mac: Mac,
}

/// What dockerd needs to know to take a device to its container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Joined {
    /// The device's name in dockerd's namespace.
    pub ifname: String,
    /// Where the way out is, if there is one.
    pub gateway: Option<Ipv4Addr>,
    /// The same.
    pub gateway6: Option<Ipv6Addr>,
}

impl Control {
    /// Makes a network. One that is there with that id is well; one that Docker must have forgotten, since it gives its range to
    /// another, goes.
    pub(crate) fn create_docker_network(&mut self, request: DockerNetwork, reply: Reply<NetworkInfo>) {
        if let Some(network) = self.networks.values().find(|n| has_id(n, &request.id)) {
            return reply.send(Ok(network.info()));
        }
        if let Some(name) = self.forgotten_network(&request.wanted) {
            tracing::info!("network {name}: Docker gives its range to another");
            return self.remove_network_then(&name, Removal::Replace(Box::new(request), reply));
        }
        let DockerNetwork { id, mut wanted, bind, aux } = request;
        if wanted.name.is_empty() {
            wanted.name = id.as_name("docker-").to_string();
        }
        let pool = match wanted.subnet {
            Some(Subnet4::Given(net)) => self.pools.of(net.into()),
            _ => None,
        };
        let ours = pool.is_some();
        match pool {
            Some(pool) => wanted.range = pool.range,
            None => self.make_way(&wanted),
        }
        self.make_network_of(&wanted, Some(DockerNetworkRecord { id, ours, bind, aux }), reply);
    }

    /// Removes a network; `reply` comes when it is gone. One that is not there is gone. Docker knows of no endpoint on it any
    /// more: those of its that there are it has forgotten.
    pub(crate) fn remove_docker_network(&mut self, id: &DockerId, reply: Reply<()>) {
        let Some(network) = self.networks.values().find(|n| has_id(n, id)) else { return reply.send(Ok(())) };
        let name = network.record.name.clone();
        let mut forgotten: Vec<Place> =
            network.visible().filter(|e| e.record.docker.is_some()).map(Endpoint::place).collect();
        match forgotten.pop() {
            None => self.remove_network(&name, reply),
            Some(last) => {
                tracing::info!("network {name}: Docker has forgotten {last}");
                let others = forgotten.into_iter().map(|at| (at, Then::Nothing));
                let then = Then::RemoveNetwork(Removal::Confirm(reply));
                self.withdraw(others.chain([(last, then)]).collect(), true);
            }
        }
    }

    /// Docker does not see our networks when it takes a range: one that nobody is on, and whose range nobody asked for, gets
    /// another. Where that cannot be, the network that is to be made is refused by its overlap.
    fn make_way(&mut self, wanted: &NetworkCreate) {
        let Some(Subnet4::Given(range)) = wanted.subnet else { return };
        let overlaps = |net: ipnet::Ipv4Net| net.contains(&range) || range.contains(&net);
        let in_the_way = |n: &&Network| {
            let record = &n.record;
            let movable = record.chosen && record.docker.is_none() && record.uplink != UplinkKind::Host;
            movable && n.endpoints.is_empty() && overlaps(record.subnet.net())
        };
        for name in self.networks.values().filter(in_the_way).map(|n| n.record.name.clone()).collect::<Vec<_>>() {
            match self.renumber(&name, range) {
                Ok(net) => tracing::info!("network {name}: Docker takes {range}: it has {net} now"),
                Err(error) => self.warn(format!("network {name}: in the way of Docker's {range}: {error}")),
            }
        }
    }

    /// Makes an endpoint; `reply` comes when its device waits in dockerd's namespace. Asked again the answer is the same.
    pub(crate) fn create_docker_endpoint(&mut self, request: &DockerEndpoint, reply: Reply<EndpointInfo>) {
        if let Some(at) = self.docker_endpoint(&request.id) {
            return reply.send(self.endpoint_info(&at));
        }
        let mut forgotten = self.forgotten(request);
        if let Some(last) = forgotten.pop() {
            tracing::info!("{last}: Docker gives its address to {}", request.id.short());
            let others = forgotten.into_iter().map(|at| (at, Then::Nothing));
            let places = others.chain([(last, Then::Replace(Box::new(request.clone()), reply))]).collect();
            return self.withdraw(places, true);
        }
        let failed = |refusal: Refusal| refusal.during(&format!("endpoint {}", request.id.short()));
        let at = match self.reserve_docker(request) {
            Ok(at) => at,
            Err(refusal) => return reply.send(Err(failed(refusal))),
        };
        let (endpoint, device) = (endpoint::key(&at.network, &at.name), self.device_of(&at));
        let pid = request.pid;
        match self.keeper.submit(|job| ToKeeper::AttachDown { job, endpoint, pid, device }, None) {
            Ok(job) => drop(self.jobs.insert(job, Job::Attach(at, ToPublish::default(), reply))),
            Err(refusal) => {
                self.forget(&at);
                reply.send(Err(failed(refusal)));
            }
        }
    }

    /// Destroys an endpoint; `reply` comes when its device is gone. One that is not there is gone.
    pub(crate) fn delete_docker_endpoint(&mut self, id: &DockerId, reply: Reply<()>) {
        match self.docker_endpoint(id) {
            Some(at) => self.withdraw(vec![(at, Then::Confirm(reply))], true),
            None => reply.send(Ok(())),
        }
    }

    /// dockerd takes the endpoint's device to the container of `sandbox`.
    ///
    /// # Errors
    /// It is not there.
    pub(crate) fn join(&mut self, id: &DockerId, sandbox: &str) -> Outcome<Joined> {
        let at = self.docker_endpoint(id).ok_or_else(|| unknown(id))?;
        let mut record = self.networks[&at.network].endpoints[&at.name].record.clone();
        record.netns = crate::daemon::name::printable(sandbox);
        let ifname = record.ifname.clone();
        self.keep(&at, record)?;
        self.follow(&at, true)?;
        let network = &self.networks[&at.network].record;
        let leads_out = network.uplink != UplinkKind::None;
        Ok(Joined {
            ifname,
            gateway: leads_out.then(|| network.subnet.gateway()),
            gateway6: network.subnet6.filter(|_| leads_out).map(|subnet| subnet.gateway()),
        })
    }

    /// dockerd takes the device back. An endpoint that is not there has left.
    ///
    /// # Errors
    /// Its file cannot be written.
    pub(crate) fn leave(&mut self, id: &DockerId) -> Outcome<()> {
        let Some(at) = self.docker_endpoint(id) else { return Ok(()) };
        self.end_names(&at);
        let record = &self.networks[&at.network].endpoints[&at.name].record;
        let engine = record.docker.as_ref().map_or(NOWHERE, |docker| docker.engine);
        self.moved_to(&at, engine, &device_name(id))
    }

    /// Publishes for an endpoint; `reply` comes when clients are accepted.
    pub(crate) fn publish_docker(&mut self, id: &DockerId, specs: &[PublishSpec], reply: Reply<Vec<PublicationInfo>>) {
        match self.docker_endpoint(id) {
            Some(at) => self.publish_specs(at, specs, reply),
            None => reply.send(Err(unknown(id))),
        }
    }

    /// Takes back all that an endpoint publishes; `reply` comes when its ports are free. One that is not there publishes nothing.
    pub(crate) fn unpublish_docker(&mut self, id: &DockerId, reply: Reply<()>) {
        match self.docker_endpoint(id) {
            Some(at) => self.unpublish_all(&at, reply),
            None => reply.send(Ok(())),
        }
    }

    /// Where ports of an endpoint are published that name no address of the host.
    pub(crate) fn docker_bind(&self, id: &DockerId) -> Option<Ipv4Addr> {
        let at = self.docker_endpoint(id)?;
        self.networks[&at.network].record.docker.as_ref()?.bind
    }

    /// What an endpoint got.
    ///
    /// # Errors
    /// It is not there.
    pub(crate) fn born(&self, id: &DockerId) -> Outcome<Born> {
        let at = self.docker_endpoint(id).ok_or_else(|| unknown(id))?;
        let network = &self.networks[&at.network];
        let record = &network.endpoints[&at.name].record;
        let length = network.record.subnet.net().prefix_len();
        Ok(Born { ipv4: ipnet::Ipv4Net::new_assert(record.ipv4, length), mac: record.mac })
    }

    /// What an endpoint is here, if it is.
    pub(crate) fn docker_endpoint_info(&self, id: &DockerId) -> Option<EndpointInfo> {
        self.endpoint_info(&self.docker_endpoint(id)?).ok()
    }

    /// Docker gave back the address of an endpoint that it has forgotten.
    pub(crate) fn docker_released(&mut self, of: ipnet::IpNet, address: IpAddr) {
        if let Some(at) = self.release_address(of, address) {
            tracing::info!("{at}: Docker gave its address back");
            self.withdraw(vec![(at, Then::Nothing)], true);
        }
    }

    /// Checks everything and takes name, addresses and device name for it.
    fn reserve_docker(&mut self, request: &DockerEndpoint) -> Outcome<Place> {
        let unknown = || Refusal::Unknown(format!("no network {} (it was removed here)", request.network.short()));
        let network = self.networks.values().find(|n| has_id(n, &request.network)).ok_or_else(unknown)?;
        let network = network.record.name.clone();
        if let Some(mac) = request.mac {
            self.hand_lease_over(&network, mac);
        }
        let docker = DockerEndpointRecord { id: request.id.clone(), pid: request.pid, engine: NOWHERE };
        let name = request.name.clone().unwrap_or_else(|| request.id.short().into());
        let attach = AttachRequest {
            network: Some(network.to_string()),
            name: Some(name),
            netns: format!("docker:{}", request.id.short()),
            ip: request.ipv4,
            ip6: request.ipv6,
            mac: request.mac,
            ifname: Some(device_name(&request.id)),
            rate_in: request.rate_in,
            rate_out: request.rate_out,
            ..AttachRequest::default()
        };
        self.reserve(&attach, NOWHERE, Some(docker))
    }

    /// An endpoint of Docker's that has an address which Docker gives to another now is one that it has forgotten.
    fn forgotten(&self, request: &DockerEndpoint) -> Vec<Place> {
        let Some(network) = self.networks.values().find(|n| has_id(n, &request.network)) else { return Vec::new() };
        let given = [request.ipv4.map(IpAddr::from), request.ipv6.map(IpAddr::from)];
        let owners = given.into_iter().flatten().filter_map(|address| network.with_address(address));
        let mut forgotten: Vec<Place> =
            owners.filter(|e| e.record.docker.is_some() && e.visible()).map(Endpoint::place).collect();
        forgotten.sort_unstable();
        forgotten.dedup();
        forgotten
    }

    /// A network of Docker's without endpoints, whose range Docker gives to another, is one that it has forgotten. Not if the range is
    /// a pool of ours, which is given once.
    fn forgotten_network(&self, wanted: &NetworkCreate) -> Option<Name> {
        let is_ours = matches!(wanted.subnet, Some(Subnet4::Given(net)) if self.pools.of(net.into()).is_some());
        let taken = |n: &&Network| {
            n.record.docker.is_some()
                && n.endpoints.values().all(Endpoint::is_host)
                && super::networks::is_its(wanted, n)
        };
        self.networks.values().filter(|_| !is_ours).find(taken).map(|n| n.record.name.clone())
    }

    /// The endpoint with that id, while commands see it.
    fn docker_endpoint(&self, id: &DockerId) -> Option<Place> {
        let found = self.networks.values().find_map(|network| network.endpoints.with_docker_id(id));
        found.filter(|endpoint| endpoint.visible()).map(Endpoint::place)
    }
}

/// The device's name in dockerd's namespace, where it must be nobody else's.
fn device_name(id: &DockerId) -> String {
    format!("{PREFIX}{}", id.short())
}

fn has_id(network: &Network, id: &DockerId) -> bool {
    network.record.docker.as_ref().is_some_and(|docker| docker.id == *id)
}

fn unknown(id: &DockerId) -> Refusal {
    Refusal::Unknown(format!("no endpoint {}", id.short()))
}
