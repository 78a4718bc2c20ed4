//! A network's MTU, as it comes to the devices of all its endpoints.

use super::jobs::Job;
use super::resolve::Place;
use super::{Control, Reply};
use crate::daemon::api::types::NetworkInfo;
use crate::daemon::endpoint::Endpoint;
use crate::daemon::keeper::message::ToKeeper;
use crate::daemon::name::Name;
use crate::daemon::refusal::{Outcome, Refusal};

/// An MTU on its way to the devices of a network.
#[derive(Debug)]
pub(super) struct MtuChange {
    /// Its jobs know it by this.
    id: u64,
    /// Whose.
    network: Name,
    /// Jobs that are not answered.
    left: usize,
    /// One line for each device that kept its MTU.
    failures: Vec<String>,
    /// Who waits.
    reply: Reply<NetworkInfo>,
}

impl Control {
    /// Whether the devices of a network are on their way to another one.
    pub(super) fn is_changing_mtu(&self, name: &Name) -> bool {
        self.mtu_changes.iter().any(|change| change.network == *name)
    }

    /// Has the keeper set the MTU of every device of a network.
    pub(super) fn order_mtu(&mut self, name: &Name, reply: Reply<NetworkInfo>) {
        let id = self.next_change;
        self.next_change += 1;
        let mut change = MtuChange { id, network: name.clone(), left: 0, failures: Vec::new(), reply };
        for at in self.networks[name].endpoints.values().map(Endpoint::place).collect::<Vec<_>>() {
            if let Some(endpoint) = self.awaited(&at) {
                // Its device is ordered with the old one.
                endpoint.has_old_mtu = true;
            } else if self.networks[name].endpoints[&at.name].port().is_some() {
                match self.submit_mtu(&at, Some(id)) {
                    Ok(()) => change.left += 1,
                    Err(error) => change.failures.push(format!("{}: {error}", at.name)),
                }
            }
        }
        self.mtu_changes.push(change);
        self.mtu_settled(id);
    }

    /// Has the keeper set the MTU of a device that was ordered before it was changed.
    pub(super) fn renew_mtu(&mut self, at: &Place) {
        if let Err(error) = self.submit_mtu(at, None) {
            self.warn(format!("{at}: its device keeps the MTU of before: {error}"));
        }
    }

    fn submit_mtu(&mut self, at: &Place, change: Option<u64>) -> Outcome<()> {
        let network = &self.networks[&at.network];
        let (mtu, record) = (network.record.mtu, &network.endpoints[&at.name].record);
        let (namespace, ifname) = (record.namespace, record.ifname.clone());
        let job = self.keeper.submit(|job| ToKeeper::SetMtu { job, namespace, ifname, mtu }, None)?;
        self.jobs.insert(job, Job::SetMtu(at.clone(), change));
        Ok(())
    }

    /// One device has its MTU, or keeps its old one. A device that went meanwhile needs none.
    pub(super) fn mtu_done(&mut self, at: &Place, change: Option<u64>, outcome: Outcome<()>) {
        let there = self.networks.get(&at.network).and_then(|n| n.endpoints.get(&at.name)).is_some_and(|e| e.visible());
        let Some(id) = change else {
            if let (Err(error), true) = (outcome, there) {
                self.warn(format!("{at}: its device keeps the MTU of before: {error}"));
            }
            return;
        };
        if let Some(change) = self.mtu_changes.iter_mut().find(|change| change.id == id) {
            change.left -= 1;
            if let (Err(error), true) = (outcome, there) {
                change.failures.push(format!("{}: {error}", at.name));
            }
        }
        self.mtu_settled(id);
    }

    fn mtu_settled(&mut self, id: u64) {
        let Some(at) = self.mtu_changes.iter().position(|change| change.id == id && change.left == 0) else { return };
        let change = self.mtu_changes.swap_remove(at);
        let outcome = match change.failures.as_slice() {
            [] => self.network_info(&change.network),
            [first, rest @ ..] => Err(Refusal::Failed(format!(
                "set network {}: the MTU is set, but {} device(s) kept theirs: {first}",
                change.network,
                rest.len() + 1
            ))),
        };
        change.reply.send(outcome);
    }
}
