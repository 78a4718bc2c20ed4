//! Networks go: the host's device first, where there is one, and then the network, whose name is taken until then.

use super::detach::Then;
use super::resolve::Place;
use super::{Control, DockerNetwork, Reply};
use crate::daemon::api::types::NetworkInfo;
use crate::daemon::endpoint::Endpoint;
use crate::daemon::name::Name;
use crate::daemon::network::Network;
use crate::daemon::refusal::{Outcome, Refusal};

/// Who waits until a network is gone.
#[derive(Debug)]
pub(super) enum Removal {
    /// Who removes it.
    Confirm(Reply<()>),
    /// Docker, which makes another in its place.
    Replace(Box<DockerNetwork>, Reply<NetworkInfo>),
}

impl Control {
    /// Removes a network that has no endpoints; `then` follows when it is gone, and the host's device with it, or not: when it is not
    /// there, or has endpoints, or its file stays.
    pub(super) fn remove_network_then(&mut self, name: &Name, then: Removal) {
        match self.removable(name) {
            Err(refusal) => self.removed(Err(refusal), then),
            Ok(Some(host)) if !self.networks[name].endpoints[&host.name].visible() => {
                let text = format!("remove network {name}: its device on the host is being made or removed: try again");
                self.removed(Err(Refusal::Conflict(text)), then);
            }
            Ok(Some(host)) => self.withdraw(vec![(host, Then::RemoveNetwork(then))], true),
            Ok(None) => {
                let outcome = self.drop_network(name);
                self.removed(outcome, then);
            }
        }
    }

    /// The same, and `reply` comes then.
    pub(crate) fn remove_network(&mut self, name: &Name, reply: Reply<()>) {
        self.remove_network_then(name, Removal::Confirm(reply));
    }

    /// A network is gone, or is not.
    pub(super) fn removed(&mut self, outcome: Outcome<()>, then: Removal) {
        match (then, outcome) {
            (Removal::Confirm(reply), outcome) => reply.send(outcome),
            (Removal::Replace(request, reply), Ok(())) => self.create_docker_network(*request, reply),
            (Removal::Replace(_, reply), Err(refusal)) => reply.send(Err(refusal)),
        }
    }

    /// Checks that a network has no containers; the host's endpoint on it.
    fn removable(&self, name: &Name) -> Outcome<Option<Place>> {
        let network = self.network(name)?;
        let containers = || network.endpoints.values().filter(|e| !e.is_host()).map(|e| e.record.name.as_str());
        if containers().next().is_some() {
            let names: Vec<&str> = containers().take(5).collect();
            let more = if containers().count() > names.len() { " and more" } else { "" };
            let text = format!("remove network {name}: it has endpoints: detach {}{more} first", names.join(", "));
            return Err(Refusal::Conflict(text));
        }
        Ok(network.endpoints.values().find(|e| e.is_host()).map(Endpoint::place))
    }

    /// Removes a network on which nobody is.
    ///
    /// # Errors
    /// Its file stays, and it; or a pool's file stays.
    pub(super) fn drop_network(&mut self, name: &Name) -> Outcome<()> {
        let failed = |e: std::io::Error| Refusal::Failed(format!("remove network {name}: {e}"));
        // The spare would bring it back.
        self.spare.remove(name.as_str()).map_err(failed)?;
        self.disk.orders().remove(&self.kept, name.as_str()).map_err(failed)?;
        let removed = self.networks.remove(name);
        let pools: Outcome<()> = removed.iter().flat_map(Network::subnets).try_for_each(|pool| self.pools.remove(pool));
        self.devices.retain(|_, place| place.network != *name);
        self.networks_changed();
        self.look_for_collisions();
        pools
    }
}
