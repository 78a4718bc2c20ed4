//! What commands ask for, and nothing is changed by.

use super::resolve;
use super::{Control, MAX_WARNINGS, Place};
use crate::daemon::api::types::{
    EndpointInfo, EndpointState, EndpointStats, FdbEntry, FdbKind, NetworkInfo, RuleInfo, Stats, Status,
};
use crate::daemon::endpoint::{Endpoint, Port};
use crate::daemon::name::{Name, Target};
use crate::daemon::network::Network;
use crate::daemon::refusal::Outcome;
use crate::daemon::tally;
use crate::daemon::tun_node;

/// Which endpoints a question is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    /// Those of this network.
    pub network: Option<Name>,
    /// This one.
    pub target: Option<Target>,
}

impl Control {
    /// The daemon itself.
    pub(crate) fn status(&self) -> Status {
        // As it is now, for it may have been mended. Where it can be opened nobody asks: closing it takes the kernel's lock of all
        // devices (`tun_chr_close`).
        let tun = self.lacks_tun.then(|| tun_node::warning(self.privileged)).flatten();
        let mut warnings: Vec<String> = tun.into_iter().collect();
        warnings.extend(self.warnings.iter().cloned());
        for network in self.networks.values() {
            warnings.extend(network.all_warnings().map(|w| format!("network {}: {w}", network.record.name)));
            let lost = network.visible().filter(|e| e.info().state == EndpointState::Lost);
            warnings.extend(lost.map(|e| format!("endpoint {}: its device could not be attached again", e.key().0)));
        }
        warnings.truncate(MAX_WARNINGS);
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            keeper_pid: self.keeper.pid(),
            switch_pid: std::process::id(),
            uptime_seconds: self.started.elapsed().as_secs(),
            restarts: self.restarts,
            workers: self.settings.workers,
            io: self.engine.io_name().into(),
            state_dir: self.settings.state_dir.display().to_string(),
            run_dir: self.settings.run_dir.display().to_string(),
            docker_socket: self.settings.docker_socket.as_ref().map(|path| path.display().to_string()),
            networks: self.networks.len(),
            endpoints: self.networks.values().flat_map(|n| n.visible()).filter(|e| !e.is_host()).count(),
            warnings,
        }
    }

    /// Every network, by name.
    pub(crate) fn network_infos(&self) -> Vec<NetworkInfo> {
        self.networks.values().map(Network::info).collect()
    }

    /// One network.
    ///
    /// # Errors
    /// When it is not there.
    pub(crate) fn network_info(&self, name: &Name) -> Outcome<NetworkInfo> {
        self.network(name).map(Network::info)
    }

    /// Endpoints, by network and name. One that is named is there, or the answer is an error.
    ///
    /// # Errors
    /// When what is selected is not there, or ambiguous.
    pub(crate) fn endpoint_infos(&self, selection: &Selection) -> Outcome<Vec<EndpointInfo>> {
        Ok(self.selected(selection)?.into_iter().map(Endpoint::info).collect())
    }

    /// Counters of endpoints, and sums over them; without a name, also over the ports that are gone.
    ///
    /// # Errors
    /// See [`Control::endpoint_infos`].
    pub(crate) fn stats(&self, selection: &Selection) -> Outcome<Stats> {
        let mut stats = Stats::default();
        for endpoint in self.selected(selection)? {
            let port = tally::stats(&endpoint.port().map(Port::counts).unwrap_or_default());
            tally::add(&mut stats.total, &port);
            let (network, name) = (endpoint.record.network.to_string(), endpoint.record.name.to_string());
            stats.endpoints.push(EndpointStats { network, name, port });
        }
        if selection.target.is_none() {
            for network in self.of_network(selection.network.as_ref())? {
                tally::add(&mut stats.total, network.gone());
            }
        }
        Ok(stats)
    }

    /// MAC tables, by network and MAC.
    ///
    /// # Errors
    /// When the network is not there.
    pub(crate) fn fdb(&self, network: Option<&Name>) -> Outcome<Vec<FdbEntry>> {
        let mut entries = Vec::new();
        for network in self.of_network(network)? {
            let from = entries.len();
            entries.push(gateway_entry(network));
            entries.extend(network.endpoints.values().filter(|e| e.port().is_some() && !e.is_host()).map(static_entry));
            for learned in network.tables.fdb.entries(self.engine.now()) {
                let endpoint = network.endpoints.with_port(learned.port);
                entries.push(FdbEntry {
                    mac: learned.mac,
                    network: network.record.name.to_string(),
                    port: Some(learned.port.0),
                    endpoint: endpoint.map(|e| e.record.name.to_string()),
                    kind: FdbKind::Learned,
                    age_ms: u64::try_from(learned.age.as_millis()).unwrap_or(u64::MAX),
                });
            }
            entries[from..].sort_by_key(|entry| entry.mac);
        }
        Ok(entries)
    }

    /// Rules, by network, from and to.
    ///
    /// # Errors
    /// When the network is not there.
    pub(crate) fn rules(&self, network: Option<&Name>) -> Outcome<Vec<RuleInfo>> {
        Ok(self.of_network(network)?.into_iter().flat_map(Network::rule_infos).collect())
    }

    fn of_network(&self, name: Option<&Name>) -> Outcome<Vec<&Network>> {
        match name {
            Some(name) => Ok(vec![self.network(name)?]),
            None => Ok(self.networks.values().collect()),
        }
    }

    fn selected(&self, selection: &Selection) -> Outcome<Vec<&Endpoint>> {
        let Some(target) = &selection.target else {
            return Ok(self.of_network(selection.network.as_ref())?.into_iter().flat_map(Network::visible).collect());
        };
        let network = target.network.clone().or_else(|| selection.network.clone());
        let Place { network, name } =
            resolve::endpoint(&self.networks, &Target { network, name: target.name.clone() })?;
        Ok(vec![&self.networks[&network].endpoints[&name]])
    }
}

fn gateway_entry(network: &Network) -> FdbEntry {
    FdbEntry {
        mac: network.record.gateway_mac,
        network: network.record.name.to_string(),
        port: None,
        endpoint: None,
        kind: FdbKind::Static,
        age_ms: 0,
    }
}

fn static_entry(endpoint: &Endpoint) -> FdbEntry {
    FdbEntry {
        mac: endpoint.record.mac,
        network: endpoint.record.network.to_string(),
        port: Some(endpoint.record.port.0),
        endpoint: Some(endpoint.record.name.to_string()),
        kind: FdbKind::Static,
        age_ms: 0,
    }
}
