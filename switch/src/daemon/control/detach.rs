//! Detaching, and what a namespace's death comes to: the workers let go of the port, then its rules and its file go, then
//! the keeper destroys the device, and then name and addresses are free.

use std::collections::BTreeSet;

use crossbeam_channel::Receiver;

use super::jobs::Job;
use super::publish::Closed;
use super::removal::Removal;
use super::resolve::{self, Place};
use super::{Control, DockerEndpoint, Reply};
use crate::daemon::api::types::{EndpointInfo, NetworkInfo};
use crate::daemon::endpoint;
use crate::daemon::host_access;
use crate::daemon::keeper::message::ToKeeper;
use crate::daemon::name::Target;
use crate::daemon::refusal::{Outcome, Refusal};
use crate::daemon::state::EndpointRecord;
use crate::engine::EngineEvent;
use crate::forwarding::PortId;

/// Who waits until a device is gone.
#[derive(Debug)]
pub(super) enum Then {
    /// Nobody.
    Nothing,
    /// Who detached it.
    Confirm(Reply<()>),
    /// Who removes the network.
    RemoveNetwork(Removal),
    /// Docker, which makes another endpoint in its place.
    Replace(Box<DockerEndpoint>, Reply<EndpointInfo>),
    /// Who attached it, in vain, and why.
    Refuse(Reply<EndpointInfo>, Refusal),
    /// Who makes a network, if somebody does, in vain: this was the host's device.
    RefuseHost(Option<Reply<NetworkInfo>>, Refusal),
}

impl Control {
    /// Detaches the endpoint that `target` means; its rules go with it. Where `port` is given, only the one that has it: by
    /// name alone, who attached one would detach another that got the name since.
    pub(crate) fn detach(&mut self, target: &Target, port: Option<PortId>, reply: Reply<()>) {
        let place = match host_access::is_taken(&target.name) {
            true => Err(Refusal::Impossible("it is the host's own device, which goes with its network".into())),
            false => self.with_port(target, port),
        };
        match place.and_then(|at| self.keeper.check().map(|()| at)) {
            Ok(at) => self.withdraw(vec![(at, Then::Confirm(reply))], false),
            Err(refusal) => reply.send(Err(refusal.during(&format!("detach {target}")))),
        }
    }

    fn with_port(&self, target: &Target, port: Option<PortId>) -> Outcome<Place> {
        let at = resolve::endpoint(&self.networks, target)?;
        let endpoint = self.networks.get(&at.network).and_then(|network| network.endpoints.get(&at.name));
        match port {
            Some(port) if endpoint.is_none_or(|endpoint| endpoint.record.port != port) => {
                Err(Refusal::Unknown(format!("{at} has another port than {}", port.0)))
            }
            _ => Ok(at),
        }
    }

    /// Detaches everything, keeps networks and rules, and ends.
    pub(crate) fn go_down(&mut self, reply: Reply<()>) {
        if self.down.is_some() {
            return reply.send(Err(Refusal::Conflict("the daemon is going down already".into())));
        }
        self.down = Some(reply);
        let visible = self.networks.values().flat_map(|n| n.visible());
        let all = visible.map(|e| Place { network: e.record.network.clone(), name: e.record.name.clone() });
        let all = all.map(|at| (at, Then::Nothing)).collect();
        self.withdraw(all, true);
    }

    /// Devices that are gone, `first` and what else was told since.
    pub(super) fn ports_gone(&mut self, first: EngineEvent, more: &Receiver<EngineEvent>) {
        let gone: Vec<PortId> = std::iter::once(first).chain(more.try_iter()).map(|EngineEvent::Gone(id)| id).collect();
        let whose = |port: &PortId| self.networks.values().find_map(|network| network.endpoints.with_port(*port));
        let died = gone.iter().filter_map(whose).filter(|endpoint| endpoint.visible());
        let died: Vec<_> = died.map(|endpoint| (endpoint.place(), Then::Nothing)).collect();
        for (at, _) in &died {
            tracing::info!("{at}: its namespace or its device is gone");
        }
        self.withdraw(died, false);
    }

    /// Takes endpoints out of service and has their devices destroyed. On return none of their frames is forwarded, and
    /// unless `keep_rules` none of their rules is in force.
    pub(super) fn withdraw(&mut self, places: Vec<(Place, Then)>, keep_rules: bool) {
        let mut ports = Vec::new();
        let mut closing = Vec::new();
        let mut ruled = BTreeSet::new();
        for (at, _) in &places {
            self.end_names(at);
            let Some(network) = self.networks.get_mut(&at.network) else { continue };
            let endpoint = network.endpoints.get_mut(&at.name);
            closing.extend(endpoint.map(|e| (at.clone(), std::mem::take(&mut e.publications))));
            ports.extend(network.retire(&at.name).map(|port| (at.network.clone(), port)));
            // What flows they opened has an end that is gone: no other need be looked at again.
            if !keep_rules && network.forget_rules_of(&at.name) {
                ruled.insert(at.network.clone());
            }
        }
        let (heirs, closing) = self.pass_on(closing);
        self.publish(&places.iter().map(|(at, _)| at.clone()).chain(heirs).collect::<Vec<_>>());
        // Before the device is ordered destroyed, so that whoever waits for that finds the ports free.
        self.close(closing, Closed::Nothing);
        let is_nobody_elses = self.keeper.check().is_err();
        for (network, port) in ports {
            // Its descriptor here is the last one then, and nobody else would take the device away.
            if is_nobody_elses && let Some(Err(error)) = port.tx.fd().map(tapswitch_netns::let_go) {
                self.warn(format!("a device of network {network} stays: {error}"));
            }
            if let Some(network) = self.networks.get_mut(&network) {
                network.bury(port);
            }
        }
        for name in &ruled {
            if let Err(error) = self.store(&self.networks[name].record) {
                self.warn(format!("the removed rules of network {name} are still in its file: {error}"));
            }
        }
        for (at, then) in places {
            self.destroy(at, then);
        }
    }

    /// Removes the file and orders the device's destruction.
    fn destroy(&mut self, at: Place, then: Then) {
        if let Err(error) = self.live.remove(&EndpointRecord::file_key(&at.network, &at.name)) {
            self.warn(format!("detach {at}: {error}"));
        }
        let endpoint = endpoint::key(&at.network, &at.name);
        match self.keeper.submit(|job| ToKeeper::Detach { job, endpoint }, None) {
            Ok(job) => drop(self.jobs.insert(job, Job::Detach(at, then))),
            // It goes with its last descriptor, which is closed.
            Err(refusal) => self.detach_done(&at, then, Err(refusal)),
        }
    }

    /// The device is gone, or as gone as it gets.
    pub(super) fn detach_done(&mut self, at: &Place, then: Then, outcome: Outcome<()>) {
        if let Err(error) = &outcome {
            self.warn(format!("detach {at}: {error}"));
        }
        self.forget(at);
        tracing::info!("detached {at}");
        match then {
            Then::Nothing => {}
            Then::Confirm(reply) => reply.send(outcome),
            Then::RemoveNetwork(then) if self.networks.contains_key(&at.network) => {
                self.remove_network_then(&at.network, then);
            }
            // It was made in vain meanwhile, and is not there any more.
            Then::RemoveNetwork(then) => self.removed(Ok(()), then),
            Then::Replace(request, reply) => self.create_docker_endpoint(&request, reply),
            Then::Refuse(reply, refusal) => reply.send(Err(refusal)),
            // Another would fare the same.
            Then::RefuseHost(reply, refusal) => return self.host_failed(&at.network, reply, refusal),
        }
        if host_access::is_taken(&at.name) {
            self.host_detached(&at.network);
        }
    }
}
