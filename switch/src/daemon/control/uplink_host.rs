//! The uplink `host`: the host's own device on a network.
//!
//! It is an endpoint of its network in all that the workers, the counters and the keeper do, named as the host is, but for what
//! makes it the network's: it comes and goes with it, no file speaks of it, nobody attaches or detaches it. The keeper makes
//! it in the host's namespace and then has the kernel route for it; what does not work of that is a warning of the
//! network's. One that is lost, since somebody removed it, is made again.

use tapswitch_ipam::Occupied;
use tapswitch_netns::{Namespace, Tap};

use super::attach::lease_refusal;
use super::jobs::Job;
use super::resolve::Place;
use super::{Control, Reply};
use crate::daemon::api::types::{NetworkCreate, NetworkInfo, UplinkKind};
use crate::daemon::endpoint::{self, Endpoint, Phase};
use crate::daemon::host_access;
use crate::daemon::keeper::message::ToKeeper;
use crate::daemon::name::Name;
use crate::daemon::network::Network;
use crate::daemon::refusal::{Outcome, Refusal};
use crate::daemon::state::{DockerNetworkRecord, EndpointRecord, NetworkRecord};

/// What the host's namespace is called.
const NETNS: &str = "host";

impl Control {
    /// Makes a network, with the host's device where its uplink is that; `reply` comes when all is there, or nothing.
    pub(crate) fn make_network(&mut self, wanted: &NetworkCreate, reply: Reply<NetworkInfo>) {
        self.make_network_of(wanted, None, reply);
    }

    /// The same, for Docker where it is one of its.
    pub(super) fn make_network_of(
        &mut self,
        wanted: &NetworkCreate,
        docker: Option<DockerNetworkRecord>,
        reply: Reply<NetworkInfo>,
    ) {
        let made = self.create_network(wanted, docker);
        match made.as_ref().map(|info| (info.uplink, info.name.parse::<Name>())) {
            Ok((UplinkKind::Host, Ok(name))) => self.attach_host(&name, Some(reply)),
            _ => reply.send(made),
        }
    }

    /// Whether this daemon can have a network with this uplink.
    ///
    /// # Errors
    /// It is an ordinary user's.
    pub(super) fn check_uplink(&self, uplink: UplinkKind) -> Outcome<()> {
        if uplink == UplinkKind::Host && !self.privileged {
            return Err(Refusal::Impossible(
                "uplink host makes a device on the host, which needs root: run `tapswitch up` as root, or use \
                 `--uplink user`, which needs nothing"
                    .into(),
            ));
        }
        Ok(())
    }

    /// Serves the devices of before, and orders those that are missing.
    pub(super) fn restore_host_devices(&mut self, mut kept: impl FnMut(&Name) -> Option<Tap>) {
        let with_host = self.networks.values().filter(|n| n.record.uplink == UplinkKind::Host);
        for name in with_host.map(|n| n.record.name.clone()).collect::<Vec<_>>() {
            match kept(&name) {
                None => self.attach_host(&name, None),
                Some(tap) => match self.reserve_host(&name) {
                    Ok(at) => self.serve_host(&at, tap, None),
                    Err(refusal) => self.warn(format!("network {name}: {refusal}")),
                },
            }
        }
    }

    /// Has the keeper make the host's device.
    fn attach_host(&mut self, network: &Name, reply: Option<Reply<NetworkInfo>>) {
        let ordered = self.reserve_host(network).and_then(|at| {
            let (endpoint, device) = (endpoint::key(&at.network, &at.name), self.device_of(&at));
            self.keeper.submit(|job| ToKeeper::AttachHost { job, endpoint, device }, None)
        });
        match ordered {
            Ok(job) => drop(self.jobs.insert(job, Job::AttachHost(network.clone(), reply))),
            Err(refusal) => self.host_failed(network, reply, refusal),
        }
    }

    /// Takes the place of the host's endpoint.
    fn reserve_host(&mut self, network: &Name) -> Outcome<Place> {
        self.check_uplink(UplinkKind::Host)?;
        let namespace = Namespace::current().map_err(|e| Refusal::Failed(e.to_string()))?.id();
        let port = self.ports.next()?;
        let now = self.lease_time();
        let mut record = self.network(network)?.record.clone();
        if record.host.is_none() {
            let leases = &mut self.network_mut(network)?.leases;
            record.host = host_access::lease(leases, &record, now).map_err(lease_refusal)?;
            self.store(&record)?;
        }
        let host = record.host.expect("it was just leased");
        let name = host_access::name();
        let at = Place { network: network.clone(), name: name.clone() };
        let endpoint = EndpointRecord {
            network: network.clone(),
            name: name.clone(),
            netns: NETNS.into(),
            namespace,
            ifname: host_access::ifname(network),
            mac: record.gateway_mac,
            ipv4: host.ipv4,
            ipv6: host.ipv6,
            guard: true,
            port,
            aliases: Default::default(),
            rate_in: None,
            rate_out: None,
            published: Vec::new(),
            standby: Vec::new(),
            docker: None,
        };
        let network = self.network_mut(network)?;
        network.record = record;
        network.endpoints.insert(Endpoint::new(endpoint, Phase::Coming));
        Ok(at)
    }

    /// The keeper made the host's device, or did not.
    pub(super) fn attach_host_done(&mut self, network: &Name, device: Outcome<Tap>, reply: Option<Reply<NetworkInfo>>) {
        if !self.networks.contains_key(network) {
            return reply.into_iter().for_each(|reply| reply.send(Err(removed(network))));
        }
        match device {
            Ok(tap) => self.serve_host(&Place { network: network.clone(), name: host_access::name() }, tap, reply),
            Err(refusal) => self.host_failed(network, reply, refusal),
        }
    }

    /// Serves the device, and has the kernel route for it; then `reply` is sent.
    fn serve_host(&mut self, at: &Place, tap: Tap, reply: Option<Reply<NetworkInfo>>) {
        let ifname = tap.info.ifname.clone();
        let endpoint = self.networks.get_mut(&at.network).and_then(|network| {
            let subnets = network.subnets().collect();
            Some((network.endpoints.get_mut(&at.name)?, subnets))
        });
        let Some((endpoint, subnets)) = endpoint else {
            return reply.into_iter().for_each(|reply| reply.send(Err(removed(&at.network))));
        };
        endpoint.record.ifname.clone_from(&ifname);
        self.devices.insert((endpoint.record.namespace, ifname.clone()), at.clone());
        self.serve(vec![(at.clone(), tap)]);
        tracing::info!("network {}: the host is on it by {ifname}", at.network);
        match self.keeper.submit(|job| ToKeeper::Route { job, ifname, subnets }, None) {
            Ok(job) => drop(self.jobs.insert(job, Job::Route(at.network.clone(), reply))),
            Err(refusal) => self.routed(&at.network, Err(refusal), reply),
        }
    }

    /// The kernel routes for a network, or does not quite.
    pub(super) fn routed(&mut self, name: &Name, outcome: Outcome<()>, reply: Option<Reply<NetworkInfo>>) {
        let Some(network) = self.networks.get_mut(name) else {
            return reply.into_iter().for_each(|reply| reply.send(Err(removed(name))));
        };
        network.routing_warning = outcome.err().map(|refusal| refusal.to_string());
        if let Some(warning) = &network.routing_warning {
            tracing::warn!("network {name}: {warning}");
        }
        reply.into_iter().for_each(|reply| reply.send(self.network_info(name)));
    }

    /// There is no device. A network that was to be made with it is not made; one that is there has no way out.
    pub(super) fn host_failed(&mut self, network: &Name, reply: Option<Reply<NetworkInfo>>, refusal: Refusal) {
        let at = Place { network: network.clone(), name: host_access::name() };
        self.forget(&at);
        match reply {
            Some(reply) => {
                if self.networks.contains_key(network)
                    && let Err(error) = self.drop_network(network)
                {
                    self.warn(error.to_string());
                }
                reply.send(Err(refusal.during(&format!("create network {network}"))));
            }
            None => self.warn(format!("network {network} has no way out: {refusal}")),
        }
    }

    /// The host's device is gone: a network that is still there gets another.
    pub(super) fn host_detached(&mut self, name: &Name) {
        // One that was made by that name meanwhile has one on its way.
        let lacks_one = |network: &Network| {
            network.record.uplink == UplinkKind::Host && !network.endpoints.contains_key(&host_access::name())
        };
        if self.down.is_none() && self.networks.get(name).is_some_and(lacks_one) {
            self.attach_host(name, None);
        }
    }

    /// What the host has but for what it has by our own devices.
    pub(super) fn but_ours(&self, mut host: Occupied) -> Occupied {
        for record in self.networks.values().map(|n| &n.record).filter(|r| r.uplink == UplinkKind::Host) {
            take_out(record, &mut host);
        }
        host
    }
}

/// It cannot be said any more what it is.
fn removed(network: &Name) -> Refusal {
    Refusal::Unknown(format!("network {network} was removed meanwhile"))
}

fn take_out(record: &NetworkRecord, host: &mut Occupied) {
    let subnet6 = record.subnet6.map(|subnet| subnet.net());
    let nets = [Some(record.subnet.net().into()), subnet6.map(ipnet::IpNet::from)];
    host.routes.retain(|route| !nets.contains(&Some(route.prefix)));
    // The kernel of a router has the anycast address too: RFC 4291 2.6.1.
    let ours = [
        record.host.map(|host| host.ipv4.into()),
        record.host.and_then(|host| host.ipv6).map(std::net::IpAddr::from),
        subnet6.map(|net| net.network().into()),
    ];
    host.addresses.retain(|address| !ours.contains(&Some(*address)));
}

impl Network {
    /// What is wrong with it.
    pub(crate) fn all_warnings(&self) -> impl Iterator<Item = &String> {
        self.warnings.iter().chain(&self.routing_warning)
    }
}
