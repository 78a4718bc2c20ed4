//! A live network: what its file says, its leases, its endpoints, and what the workers were last told of it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tapswitch_ipam::{Leases, NetworkName, OwnNetwork};

use super::announce::LastMacs;
use super::api::types::{NetworkInfo, PortStats, RuleInfo, UplinkKind};
use super::endpoint::{Endpoint, Phase, Port};
use super::endpoints::Endpoints;
use super::host_access;
use super::name::Name;
use super::names;
use super::state::{NetworkRecord, RuleRecord};
use super::tally;
use crate::engine::NetworkView;
use crate::forwarding::{
    FdbLimits, Network as Forwarding, NetworkSettings, NetworkSpec, PortId, Ranges, Rate, Rule, Tables, Uplink,
};
use crate::gateway::Zone;
use crate::uplink::NetworkPlan;

/// The network. Control's one thread owns it.
#[derive(Debug)]
pub(crate) struct Network {
    /// What its file says.
    pub record: NetworkRecord,
    /// Addresses given out.
    pub leases: Leases,
    /// Its endpoints.
    pub endpoints: Endpoints,
    /// What is wrong with it, as an overlapping host route.
    pub warnings: Vec<String>,
    /// What does not work of the host's routing for it.
    pub routing_warning: Option<String>,
    /// What traffic taught it.
    pub tables: Arc<Tables>,
    /// The subnets of all networks.
    ours: Arc<Ranges>,
    /// What the workers go by, or will at the next publication.
    pub view: NetworkView,
    /// What the names at its gateway know, or will at the next publication.
    pub zone: Arc<Zone>,
    /// Where neighbours last saw its addresses.
    pub(super) last_macs: LastMacs,
    /// Counters of ports that are gone.
    gone: PortStats,
    /// Rises with every change of icc and rules.
    policy_generation: u64,
}

impl Network {
    /// The network of `record`, without endpoints.
    pub(crate) fn new(record: NetworkRecord) -> Self {
        let limits = FdbLimits {
            ageing: Duration::from_secs(record.ageing.into()),
            entries: record.fdb_limit as usize,
            ..FdbLimits::default()
        };
        let tables = Arc::new(Tables::new(limits));
        let view = view(&record, 0, &Endpoints::default(), &tables, Arc::default());
        let zone = Arc::new(names::zone(&record, view.network().settings()));
        Network {
            leases: host_access::leases(&record),
            endpoints: Endpoints::default(),
            warnings: Vec::new(),
            routing_warning: None,
            last_macs: LastMacs::default(),
            gone: PortStats::default(),
            policy_generation: 0,
            ours: Arc::default(),
            record,
            tables,
            view,
            zone,
        }
    }

    /// Makes [`Network::view`] and [`Network::zone`] say what the network is now, all of it anew.
    pub(crate) fn refresh(&mut self) {
        let ours = Arc::clone(&self.ours);
        self.view = view(&self.record, self.policy_generation, &self.endpoints, &self.tables, ours);
        let mut zone = names::zone(&self.record, self.view.network().settings());
        self.endpoints.values().filter_map(names::station).for_each(|station| zone.add(station));
        self.zone = Arc::new(zone);
    }

    /// Makes them say what these endpoints are now, where nothing else has changed: the same as all of it anew, at a cost that
    /// does not grow with the others.
    pub(crate) fn refresh_endpoints<'a>(&mut self, names: impl Iterator<Item = &'a Name> + Clone) {
        let endpoints = || names.clone().filter_map(|name| self.endpoints.get(name));
        let zone = Arc::make_mut(&mut self.zone);
        // Those that went make room for those that came.
        for gone in endpoints().filter(|endpoint| endpoint.port().is_none()) {
            self.view.detach(gone.record.port);
            zone.remove(gone.record.name.as_str());
        }
        for endpoint in endpoints() {
            let Some(port) = endpoint.port() else { continue };
            self.view.attach(endpoint.spec(), port.tx.clone());
            names::station(endpoint).into_iter().for_each(|station| zone.add(station));
        }
        for endpoint in endpoints().filter(|endpoint| endpoint.port().is_some()) {
            let rules = self.record.rules.iter().filter(|rule| rule.names(&endpoint.record.name));
            rules.filter_map(|rule| in_force(rule, &self.endpoints)).for_each(|rule| self.view.allow(rule));
        }
    }

    /// Makes them say what icc and the rules are now, where nothing else has changed.
    pub(crate) fn refresh_policy(&mut self) {
        self.policy_generation += 1;
        let rules = self.record.rules.iter().filter_map(|rule| in_force(rule, &self.endpoints)).collect();
        self.view.change_policy(self.record.icc, self.policy_generation, rules);
    }

    /// Notes the subnets of all networks, and goes by them.
    pub(crate) fn stand_beside(&mut self, ours: Arc<Ranges>) {
        self.ours = Arc::clone(&ours);
        self.view.stand_beside(ours);
    }

    /// Notes that icc or the rules changed: every flow is looked at again.
    pub(crate) fn policy_changed(&mut self) {
        self.policy_generation += 1;
    }

    /// Takes an endpoint out of the next view, and hands out its port if it has one: to be kept until that view is
    /// published, then given to [`Network::bury`].
    pub(crate) fn retire(&mut self, name: &Name) -> Option<Port> {
        let endpoint = self.endpoints.get_mut(name)?;
        match std::mem::replace(&mut endpoint.phase, Phase::Going) {
            Phase::Up(port) => Some(port),
            Phase::Coming | Phase::Lost | Phase::Going => None,
        }
    }

    /// Forgets what was learned behind a port that no worker serves any more, keeps its counts, and closes it.
    pub(crate) fn bury(&mut self, port: Port) {
        self.tables.forget_port(port.tx.id());
        tally::add(&mut self.gone, &tally::stats(&port.counts()));
    }

    /// Removes the rules that name `endpoint`; whether there were any.
    pub(crate) fn forget_rules_of(&mut self, endpoint: &Name) -> bool {
        let before = self.record.rules.len();
        self.record.rules.retain(|rule| !rule.names(endpoint));
        before != self.record.rules.len()
    }

    /// The endpoint that has `address`.
    pub(crate) fn with_address(&self, address: IpAddr) -> Option<&Endpoint> {
        let name = self.leases.owner_of(address)?.as_str().parse().ok()?;
        self.endpoints.get(&name).filter(|endpoint| endpoint.has(address))
    }

    /// The endpoints that commands see.
    pub(crate) fn visible(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.values().filter(|endpoint| endpoint.visible())
    }

    /// Counters of the ports that are gone.
    pub(crate) fn gone(&self) -> &PortStats {
        &self.gone
    }

    /// Its subnets.
    pub(crate) fn subnets(&self) -> impl Iterator<Item = IpNet> + use<> {
        let v6 = self.record.subnet6.map(|subnet| subnet.net().into());
        std::iter::once(self.record.subnet.net().into()).chain(v6)
    }

    /// Its subnets, as other networks must avoid them.
    pub(crate) fn own_networks(&self) -> impl Iterator<Item = OwnNetwork> + '_ {
        let name = NetworkName::new(self.record.name.as_str());
        self.subnets().map(move |subnet| OwnNetwork { name: name.clone(), subnet })
    }

    /// As `network inspect` shows it.
    pub(crate) fn info(&self) -> NetworkInfo {
        let record = &self.record;
        let (net, range) = (record.subnet.net(), record.subnet.range());
        NetworkInfo {
            name: record.name.to_string(),
            subnet: net,
            gateway: record.subnet.gateway(),
            range: (range != net).then_some(range),
            subnet6: record.subnet6.map(|s| s.net()),
            gateway6: record.subnet6.map(|s| s.gateway()),
            gateway_mac: record.gateway_mac,
            mtu: record.mtu,
            icc: record.icc,
            uplink: record.uplink,
            host_access: record.host_access,
            host: record.host.map(|host| host.ipv4),
            host6: record.host.and_then(|host| host.ipv6),
            endpoints: self.visible().filter(|e| !e.is_host()).map(|e| e.record.name.to_string()).collect(),
            warnings: self.all_warnings().cloned().collect(),
        }
    }

    /// What the sockets of the switch go by.
    pub(crate) fn plan(&self) -> NetworkPlan {
        let spec = self.view.network().settings();
        NetworkPlan {
            name: self.record.name.as_str().into(),
            // With the uplink `host` it is that of published ports alone.
            egress: self.record.uplink != UplinkKind::None,
            host_access: self.record.host_access,
            gateway4: spec.gateway4,
            gateway6: spec.gateway6,
            host4: spec.host4,
            host6: spec.host6,
        }
    }

    /// Its rules, as `rules` shows them.
    pub(crate) fn rule_infos(&self) -> impl Iterator<Item = RuleInfo> + '_ {
        self.record.rules.iter().map(|rule| RuleInfo {
            network: self.record.name.to_string(),
            from: rule.from.to_string(),
            to: rule.to.to_string(),
            what: rule.what.map(|what| what.to_string()),
        })
    }
}

/// What the workers are told of a network: the endpoints that are up, the rules between them.
fn view(
    record: &NetworkRecord,
    policy_generation: u64,
    endpoints: &Endpoints,
    tables: &Arc<Tables>,
    ours: Arc<Ranges>,
) -> NetworkView {
    let up = || endpoints.values().filter_map(|endpoint| Some((endpoint, endpoint.port()?)));
    let settings = NetworkSettings {
        gateway_mac: record.gateway_mac,
        gateway4: record.subnet.gateway(),
        gateway6: record.subnet6.map(|s| s.gateway()),
        subnet4: record.subnet.net(),
        subnet6: record.subnet6.map(|s| s.net()),
        host4: record.host.map(|host| host.ipv4),
        host6: record.host.and_then(|host| host.ipv6),
        mtu: record.mtu,
        uplink: match record.uplink {
            UplinkKind::User => Uplink::User,
            UplinkKind::Host => host_port(endpoints).map_or(Uplink::None, Uplink::Host),
            UplinkKind::None => Uplink::None,
        },
        icc: record.icc,
        policy_generation,
        flood_rate: Rate::of_copies(record.flood_limit, record.mtu),
    };
    let spec = NetworkSpec {
        settings,
        rules: record.rules.iter().filter_map(|rule| in_force(rule, endpoints)).collect(),
        ports: up().map(|(endpoint, _)| endpoint.spec()).collect(),
    };
    let mut network = Forwarding::new(spec, tables.clone());
    network.stand_beside(ours);
    NetworkView::new(network, up().map(|(_, port)| port.tx.clone()))
}

/// The host's own port, while it is up.
fn host_port(endpoints: &Endpoints) -> Option<PortId> {
    let host = endpoints.get(&host_access::name())?;
    host.port().map(|_| host.record.port)
}

/// A rule by ports, while both its endpoints are up.
fn in_force(rule: &RuleRecord, endpoints: &Endpoints) -> Option<Rule> {
    let port = |name| endpoints.get(name).filter(|e| e.port().is_some()).map(|e| e.record.port);
    Some(Rule { from: port(&rule.from)?, to: port(&rule.to)?, port: rule.what.map(|what| what.0) })
}

#[cfg(test)]
mod tests;
