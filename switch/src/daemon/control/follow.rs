//! Where devices are that dockerd takes to its containers, and the names in there.
//!
//! The keeper is asked, which has the descriptors: when dockerd is about to take one, when a dockerd has started, and when this
//! process has. What it finds goes into the endpoint's file, so that the device is found again when both processes have died;
//! with it come sockets for the container's names, where they are needed.

use tapswitch_netns::{NameSockets, NamespaceId};

use super::Control;
use super::detach::Then;
use super::jobs::Job;
use super::resolve::Place;
use crate::daemon::endpoint::{self, Endpoint};
use crate::daemon::keeper::message::{EndpointKey, ToKeeper};
use crate::daemon::refusal::Outcome;

impl Control {
    /// A dockerd has started: what one that is dead left lying in its namespace is to go, and what it had asked for.
    pub(crate) fn docker_started(&mut self) {
        self.drop_unused_pools();
        let left = |e: &&Endpoint| e.record.docker.as_ref().is_some_and(|docker| !is_alive(docker.pid));
        let left: Vec<Place> =
            self.networks.values().flat_map(|n| n.visible()).filter(left).map(Endpoint::place).collect();
        for at in left {
            if let Err(error) = self.follow(&at, false) {
                self.warn(format!("look for the device of {at}: {error}"));
            }
        }
    }

    /// Whoever knows a container's names is gone: looks who does now.
    pub(crate) fn renew_names(&mut self, endpoint: &EndpointKey) {
        let at = self.networks.values().flat_map(|n| n.visible()).find(|e| e.key() == *endpoint).map(Endpoint::place);
        if let Some(at) = at
            && let Err(error) = self.follow(&at, false)
        {
            tracing::warn!("the names of {at}: {error}");
        }
    }

    /// Has the keeper tell where the devices that were served before are now, and make the sockets of their names again.
    pub(super) fn follow_all(&mut self) {
        let all = self.networks.values().flat_map(|n| n.visible()).filter(|e| e.port().is_some());
        for at in all.map(Endpoint::place).collect::<Vec<_>>() {
            self.follow_again(&at);
        }
    }

    /// The same for one of them. One that was on its way to its container is waited for.
    pub(super) fn follow_again(&mut self, at: &Place) {
        let wait = self.is_with_engine(at);
        if let Err(error) = self.follow(at, wait) {
            self.warn(format!("look for the device of {at}: {error}"));
        }
    }

    /// The keeper tells where a device is.
    pub(super) fn device_moved(
        &mut self,
        endpoint: &EndpointKey,
        namespace: NamespaceId,
        ifname: &str,
        names: Option<NameSockets>,
    ) {
        let place = Place::of_key(endpoint);
        let found = place.and_then(|at| self.networks.get(&at.network)?.endpoints.get(&at.name));
        let found = found.filter(|endpoint| endpoint.visible());
        let Some((at, docker)) = found.and_then(|e| Some((e.place(), e.record.docker.clone()?))) else { return };
        if namespace == docker.engine && !is_alive(docker.pid) {
            tracing::info!("{at}: a dockerd that is dead has left its device");
            return self.withdraw(vec![(at, Then::Nothing)], true);
        }
        if let Err(error) = self.moved_to(&at, namespace, ifname) {
            self.warn(format!("{at}: its device has moved: {error}"));
        }
        if let Some(names) = names {
            self.relays.serve(endpoint.clone(), names);
        }
    }

    /// Has the keeper tell where a device is; with `wait`, once it is in a container.
    pub(super) fn follow(&mut self, at: &Place, wait: bool) -> Outcome<()> {
        let network = &self.networks[&at.network];
        let gateway = network.record.subnet.gateway().into();
        let record = &network.endpoints[&at.name].record;
        let Some(engine) = record.docker.as_ref().map(|docker| docker.engine) else { return Ok(()) };
        let endpoint = endpoint::key(&at.network, &at.name);
        let job = self.keeper.submit(|job| ToKeeper::Follow { job, endpoint, engine, wait, gateway }, None)?;
        self.jobs.insert(job, Job::Follow(at.clone()));
        Ok(())
    }

    /// Notes where a device is.
    pub(super) fn moved_to(&mut self, at: &Place, namespace: NamespaceId, ifname: &str) -> Outcome<()> {
        let Some(endpoint) = self.networks.get_mut(&at.network).and_then(|n| n.endpoints.get_mut(&at.name)) else {
            return Ok(());
        };
        let mut record = endpoint.record.clone();
        if (record.namespace, record.ifname.as_str()) == (namespace, ifname) {
            return Ok(());
        }
        endpoint.renamed(ifname);
        record.namespace = namespace;
        let was = (endpoint.record.namespace, std::mem::replace(&mut record.ifname, ifname.to_owned()));
        self.devices.remove(&was);
        self.devices.insert((namespace, ifname.to_owned()), at.clone());
        self.keep(at, record)
    }

    /// Notes the namespace of the dockerd that a new device is with.
    pub(super) fn born_with(&mut self, at: &Place, engine: NamespaceId) {
        let Some(endpoint) = self.networks.get_mut(&at.network).and_then(|n| n.endpoints.get_mut(&at.name)) else {
            return;
        };
        let record = &mut endpoint.record;
        let Some(docker) = &mut record.docker else { return };
        docker.engine = engine;
        self.devices.remove(&(record.namespace, record.ifname.clone()));
        record.namespace = engine;
        self.devices.insert((engine, record.ifname.clone()), at.clone());
    }

    /// Closes the sockets of a container's names, which go over to another network's endpoint in it, if there is one.
    pub(super) fn end_names(&self, at: &Place) {
        let Some(endpoint) = self.networks.get(&at.network).and_then(|n| n.endpoints.get(&at.name)) else { return };
        if endpoint.record.docker.is_none() {
            return;
        }
        let beside = |e: &&Endpoint| {
            e.record.docker.is_some()
                && e.record.netns == endpoint.record.netns
                && e.place() != *at
                && e.port().is_some()
        };
        let namespace = endpoint.record.namespace;
        let in_it = self.devices.range((namespace, String::new())..).take_while(|((other, _), _)| *other == namespace);
        let there = in_it.filter_map(|(_, at)| self.networks.get(&at.network)?.endpoints.get(&at.name));
        let heir = there.filter(|endpoint| endpoint.visible()).find(beside).map(Endpoint::key);
        self.relays.end(&endpoint.key(), heir);
    }

    fn is_with_engine(&self, at: &Place) -> bool {
        let record = &self.networks[&at.network].endpoints[&at.name].record;
        record.docker.as_ref().is_some_and(|docker| docker.engine == record.namespace)
    }
}

/// Whether a process is there, whoever's it is.
fn is_alive(pid: i32) -> bool {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None) != Err(nix::errno::Errno::ESRCH)
}
