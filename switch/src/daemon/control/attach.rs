//! Attaching: everything is checked, then name, addresses and device are reserved, then the keeper makes the device, then
//! the workers serve it, then its file is written. What fails is undone in reverse.

use tapswitch_ipam::Wanted;
use tapswitch_netns::{DeviceSpec, Namespace, NamespaceId, Tap};

use super::detach::Then;
use super::jobs::Job;
use super::publish::ToPublish;
use super::resolve::Place;
use super::{Control, MAX_ENDPOINTS, OTHER_DESCRIPTORS, Reply, owner};
use crate::daemon::api::types::{AttachRequest, EndpointInfo};
use crate::daemon::endpoint::{self, Endpoint, Phase, Port};
use crate::daemon::endpoints::Endpoints;
use crate::daemon::keeper::message::ToKeeper;
use crate::daemon::name::Name;
use crate::daemon::network::Network;
use crate::daemon::refusal::{Outcome, Refusal};
use crate::daemon::state::{DockerEndpointRecord, EndpointRecord};
use crate::daemon::wanted;
use crate::frame::Mac;
use crate::port;

/// Most aliases of one endpoint.
const MAX_ALIASES: usize = 16;
/// Longest word for a namespace: a path.
const MAX_NETNS: usize = 4096;

impl Control {
    /// Attaches `namespace` as `request` says; `reply` comes when it is served, or will not be.
    pub(crate) fn attach(&mut self, request: &AttachRequest, namespace: Namespace, reply: Reply<EndpointInfo>) {
        let reserved = self
            .publish_at_attach(request, namespace.id())
            .and_then(|publish| Ok((self.reserve(request, namespace.id(), None)?, publish)));
        let (at, publish) = match reserved {
            Ok(reserved) => reserved,
            Err(refusal) => return reply.send(Err(refusal.during(&attaching(request)))),
        };
        let (endpoint, device) = (endpoint::key(&at.network, &at.name), self.device_of(&at));
        match self.keeper.submit(|job| ToKeeper::Attach { job, endpoint, device }, Some(namespace.into())) {
            Ok(job) => drop(self.jobs.insert(job, Job::Attach(at, publish, reply))),
            Err(refusal) => {
                self.forget(&at);
                reply.send(Err(refusal.during(&attaching(request))));
            }
        }
    }

    /// The device that an endpoint's record and its network's ask for.
    pub(super) fn device_of(&self, at: &Place) -> DeviceSpec {
        let network = &self.networks[&at.network];
        endpoint::device(&network.record, &network.endpoints[&at.name].record, self.offload())
    }

    /// Checks everything and takes name, addresses and device name for it.
    pub(super) fn reserve(
        &mut self,
        request: &AttachRequest,
        namespace: NamespaceId,
        docker: Option<DockerEndpointRecord>,
    ) -> Outcome<Place> {
        self.keeper.check()?;
        if self.down.is_some() {
            return Err(Refusal::Failed("the daemon is going down".into()));
        }
        check_room(self.networks.values().map(|n| n.endpoints.len()).sum(), self.descriptors)?;
        let network = match &request.network {
            Some(text) => text.parse().map_err(|e| Refusal::Malformed(format!("network: {e}")))?,
            None => Name::default_network(),
        };
        let name = self.new_name(request, &network)?;
        let aliases = aliases(request)?;
        std::iter::once(&name).chain(&aliases).try_for_each(check_name)?;
        let at = Place { network, name };
        check_rates(request)?;
        let ifname = self.new_ifname(request, namespace)?;
        let port = self.ports.next()?;
        let now = self.lease_time();
        let network = self.network_mut(&at.network)?;
        if let Some(mac) = request.mac {
            check_mac(mac, network)?;
        }
        let mut wanted = Wanted { ipv4: request.ip, ipv6: request.ip6 };
        // Docker gives the lowest ones, and does not ask.
        if wanted.ipv4.is_none() && network.record.docker.as_ref().is_some_and(|docker| !docker.ours) {
            wanted.ipv4 = Some(network.leases.highest(now).map_err(lease_refusal)?);
        }
        let lease = network.leases.request(&owner(&at.name), wanted, now).map_err(lease_refusal)?;
        let mac = request.mac.unwrap_or(Mac::new(lease.mac()));
        if request.mac.is_none()
            && let Err(refusal) = check_mac(mac, network)
        {
            network.leases.release(&owner(&at.name), now);
            return Err(refusal);
        }
        let record = EndpointRecord {
            network: at.network.clone(),
            name: at.name.clone(),
            aliases,
            netns: request.netns.clone(),
            namespace,
            ifname: ifname.clone(),
            mac,
            ipv4: lease.ipv4,
            ipv6: lease.ipv6,
            guard: request.guard.unwrap_or(true),
            port,
            rate_in: request.rate_in,
            rate_out: request.rate_out,
            published: Vec::new(),
            standby: Vec::new(),
            docker,
        };
        network.endpoints.insert(Endpoint::new(record, Phase::Coming));
        self.devices.insert((namespace, ifname), at.clone());
        Ok(at)
    }

    fn new_name(&self, request: &AttachRequest, network: &Name) -> Outcome<Name> {
        let endpoints = &self.network(network)?.endpoints;
        if request.netns.len() > MAX_NETNS || request.netns.contains(char::is_control) {
            return Err(Refusal::Malformed(format!("netns: longer than {MAX_NETNS} bytes, or not printable")));
        }
        match &request.name {
            Some(text) => {
                let name: Name = text.parse().map_err(|e| Refusal::Malformed(format!("name: {e}")))?;
                match endpoints.with_name_as(&name) {
                    None => Ok(name),
                    Some(taken) => Err(name_taken(taken)),
                }
            }
            None => Ok(free_name(&request.netns, endpoints)),
        }
    }

    fn new_ifname(&self, request: &AttachRequest, namespace: NamespaceId) -> Outcome<String> {
        let ifname = request.ifname.clone().unwrap_or_else(|| "eth0".into());
        wanted::check_ifname(&ifname).map_err(Refusal::Impossible)?;
        match self.devices.get(&(namespace, ifname.clone())) {
            None => Ok(ifname),
            Some(by) => {
                let text = format!("{ifname} in that namespace is {by}'s: choose another ifname");
                Err(Refusal::Conflict(text))
            }
        }
    }

    /// The keeper made the device, or did not.
    pub(super) fn attach_done(
        &mut self,
        at: &Place,
        device: Outcome<Tap>,
        publish: &ToPublish,
        reply: Reply<EndpointInfo>,
    ) {
        let tap = match device {
            Ok(tap) => tap,
            Err(refusal) => {
                self.forget(at);
                return reply.send(Err(refusal));
            }
        };
        let too_late = if self.down.is_some() {
            Some("the daemon is going down")
        } else {
            // Whoever gave up does not know of it, and nobody would take it away.
            reply.is_closed().then_some("nobody waits for it any more")
        };
        if let Some(why) = too_late {
            tracing::info!("attach {at}: {why}");
            return self.withdraw(vec![(at.clone(), Then::Refuse(reply, Refusal::Failed(why.into())))], true);
        }
        self.serve(vec![(at.clone(), tap)]);
        if let Some(network) = self.networks.get_mut(&at.network) {
            let moved = network.note_macs(&at.name);
            network.announce(&at.name, &moved);
        }
        let record = &self.networks[&at.network].endpoints[&at.name].record;
        match self.live.write(&EndpointRecord::file_key(&at.network, &at.name), record) {
            Ok(()) => {
                tracing::info!("attached {at}: {} {} in {}", record.ipv4, record.mac, record.netns);
                if publish.specs.is_empty() {
                    reply.send(self.endpoint_info(at));
                } else {
                    self.publish_attached(at, publish, reply);
                }
            }
            Err(error) => {
                let refusal = Refusal::Failed(error.to_string());
                self.withdraw(vec![(at.clone(), Then::Refuse(reply, refusal))], true);
            }
        }
    }

    /// Has the workers serve devices that are there, of endpoints that are.
    pub(super) fn serve(&mut self, arrived: Vec<(Place, Tap)>) {
        let mut opened = Vec::new();
        let mut served = Vec::new();
        let mut late = Vec::new();
        for (at, tap) in arrived {
            let workers = self.settings.workers;
            let Some(endpoint) = self.awaited(&at) else { continue };
            if std::mem::take(&mut endpoint.has_old_mtu) {
                late.push(at.clone());
            }
            let info = tap.info.clone();
            let limits = endpoint.limits();
            let (rx, tx) = port::open_limited(endpoint.record.port, tap, workers, limits);
            endpoint.phase = Phase::Up(Port { rx: rx.counters().clone(), tx, info });
            opened.push(rx);
            served.push(at);
        }
        self.publish(&served);
        for rx in opened {
            self.engine.attach(rx);
        }
        late.iter().for_each(|at| self.renew_mtu(at));
    }

    /// The endpoint at `at`, while its device may be on its way.
    pub(super) fn awaited(&mut self, at: &Place) -> Option<&mut Endpoint> {
        let endpoint = self.networks.get_mut(&at.network)?.endpoints.get_mut(&at.name)?;
        matches!(endpoint.phase, Phase::Coming | Phase::Lost).then_some(endpoint)
    }

    /// Gives back what [`Control::reserve`] took.
    pub(super) fn forget(&mut self, at: &Place) {
        let now = self.lease_time();
        let Some(network) = self.networks.get_mut(&at.network) else { return };
        if let Some(endpoint) = network.endpoints.remove(&at.name) {
            // The host's lease is the network's.
            if !endpoint.is_host() {
                network.leases.release(&owner(&at.name), now);
            }
            self.devices.remove(&(endpoint.record.namespace, endpoint.record.ifname));
        }
    }
}

fn attaching(request: &AttachRequest) -> String {
    let name = request.name.as_deref().unwrap_or(&request.netns);
    format!("attach {}", crate::daemon::name::printable(name))
}

/// Whether there may be one endpoint more than there are, where a process may have so many `descriptors`.
fn check_room(endpoints: usize, descriptors: u64) -> Outcome<()> {
    let within_limit = descriptors.saturating_sub(OTHER_DESCRIPTORS);
    if endpoints as u64 >= within_limit {
        return Err(Refusal::Failed(format!(
            "there are {endpoints} endpoints, the most within the limit of {descriptors} open files (raise it: ulimit -Hn, or \
             LimitNOFILE= of the unit)"
        )));
    }
    if endpoints >= MAX_ENDPOINTS {
        return Err(Refusal::Failed(format!("there are {endpoints} endpoints, which is the most")));
    }
    Ok(())
}

/// The aliases asked for, each once. They need not be free: a name wins over them, and others may have them too.
fn aliases(request: &AttachRequest) -> Outcome<Vec<Name>> {
    if request.aliases.len() > MAX_ALIASES {
        return Err(Refusal::Malformed(format!("aliases: more than {MAX_ALIASES}")));
    }
    let mut aliases: Vec<Name> = Vec::new();
    for text in &request.aliases {
        let alias = text.parse().map_err(|e| Refusal::Malformed(format!("alias: {e}")))?;
        if !aliases.contains(&alias) {
            aliases.push(alias);
        }
    }
    Ok(aliases)
}

/// What is below `tapswitch` the names at the gateway answer by themselves ([`crate::gateway`]): the host's, and the gateway's.
fn check_name(name: &Name) -> Outcome<()> {
    if name.as_str().to_ascii_lowercase().ends_with(".tapswitch") {
        return Err(Refusal::Impossible(format!("{name}: names below tapswitch are the switch's own: choose another")));
    }
    Ok(())
}

fn check_rates(request: &AttachRequest) -> Outcome<()> {
    for (what, limit) in [("rate_in", request.rate_in), ("rate_out", request.rate_out)] {
        limit.map_or(Ok(()), |limit| limit.check()).map_err(|e| Refusal::Impossible(format!("{what}: {e}")))?;
    }
    Ok(())
}

fn name_taken(taken: &Endpoint) -> Refusal {
    let (name, network) = (&taken.record.name, &taken.record.network);
    let state = match taken.phase {
        Phase::Coming => ", which is being attached",
        Phase::Going => ", which is being detached",
        Phase::Up(_) | Phase::Lost => "",
    };
    Refusal::Conflict(format!("network {network} has an endpoint {name} already{state}"))
}

/// A name made from what the namespace was called: a path's last part, or `pid-N`.
fn free_name(netns: &str, endpoints: &Endpoints) -> Name {
    let word = netns.rsplit('/').find(|part| !part.is_empty()).unwrap_or("endpoint");
    let word = if word.bytes().all(|b| b.is_ascii_digit()) { format!("pid-{word}") } else { word.to_owned() };
    let name = Name::nearest(&word).unwrap_or_else(|| Name::nearest("endpoint").expect("a name"));
    if endpoints.with_name_as(&name).is_none() {
        return name;
    }
    let is_taken = |number: u32| endpoints.with_name_as(&name.numbered(number)).is_some();
    // Twice as far until one is free; then by halves to one that is and whose predecessor is not: the lowest, unless one before
    // it was given back. Looking at each would make the thousandth of a name look at a thousand.
    let (mut taken, mut free) = (1, 2);
    while is_taken(free) {
        (taken, free) = (free, free * 2);
    }
    while taken + 1 < free {
        let middle = taken + (free - taken) / 2;
        if is_taken(middle) { taken = middle } else { free = middle }
    }
    name.numbered(free)
}

/// Whether an endpoint may have `mac`.
fn check_mac(mac: Mac, network: &Network) -> Outcome<()> {
    wanted::check_mac(mac).map_err(Refusal::Impossible)?;
    if mac == network.record.gateway_mac {
        return Err(Refusal::Conflict(format!("mac {mac} is the gateway's")));
    }
    match network.endpoints.with_mac(mac) {
        Some(taken) => Err(Refusal::Conflict(format!("mac {mac} is {}'s", taken.record.name))),
        None => Ok(()),
    }
}

pub(super) fn lease_refusal(error: tapswitch_ipam::LeaseError) -> Refusal {
    use tapswitch_ipam::LeaseError::{Exhausted, HasAnother, NoIpv6, Outside, Reserved, Taken};
    match error {
        Outside { .. } | Reserved { .. } | NoIpv6 { .. } => Refusal::Impossible(error.to_string()),
        Taken { .. } | HasAnother { .. } | Exhausted { .. } => Refusal::Conflict(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_as_many_as_may_be_or_as_descriptors_allow() {
        assert!(check_room(MAX_ENDPOINTS - 1, 1 << 20).is_ok());
        let full = check_room(MAX_ENDPOINTS, 1 << 20).unwrap_err().to_string();
        assert!(full.ends_with("there are 4096 endpoints, which is the most"), "{full}");
        assert!(check_room(3999, 4096).is_ok());
        let short = check_room(4000, 4096).unwrap_err().to_string();
        assert!(short.contains("the limit of 4096 open files (raise it: ulimit -Hn"), "{short}");
        assert!(check_room(0, 10).is_err(), "fewer than this process has anyway");
    }

    #[test]
    fn a_name_is_made_from_the_namespace() {
        for (netns, name) in [
            ("blue", "blue"),
            ("4711", "pid-4711"),
            ("/run/netns/red one", "red-one"),
            ("/proc/7/ns/net", "net"),
            ("", "endpoint"),
            ("///", "endpoint"),
            ("é", "endpoint"),
        ] {
            assert_eq!(free_name(netns, &Endpoints::default()).as_str(), name, "{netns}");
        }
    }
}
