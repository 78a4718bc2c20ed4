//! A live network: what its file says, its leases, its endpoints, and what the workers were last told of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tapswitch_ipam::{Leases, NetworkName, OwnNetwork};

use super::announce::LastMacs;
use super::api::types::{NetworkInfo, PortStats, RuleInfo, UplinkKind};
use super::endpoint::{Endpoint, Phase, Port};
use super::host_access;
use super::name::Name;
use super::names;
use super::state::{NetworkRecord, RuleRecord};
use super::tally;
use crate::engine::NetworkView;
use crate::forwarding::{FdbLimits, Network as Forwarding, NetworkSpec, Rate, Rule, Tables, Uplink};
use crate::gateway::Zone;
use crate::uplink::NetworkPlan;

/// The network. Control's one thread owns it.
#[derive(Debug)]
pub(crate) struct Network {
    /// What its file says.
    pub record: NetworkRecord,
    /// Addresses given out.
    pub leases: Leases,
    /// Its endpoints, by name.
    pub endpoints: BTreeMap<Name, Endpoint>,
    /// What is wrong with it, as an overlapping host route.
    pub warnings: Vec<String>,
    /// What traffic taught it.
    pub tables: Arc<Tables>,
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
        let view = view(&record, 0, &BTreeMap::new(), &tables);
        let zone = Arc::new(names::zone(&record, view.network.spec(), []));
        Network {
            leases: host_access::leases(&record),
            endpoints: BTreeMap::new(),
            warnings: Vec::new(),
            last_macs: LastMacs::default(),
            gone: PortStats::default(),
            policy_generation: 0,
            record,
            tables,
            view,
            zone,
        }
    }

    /// Makes [`Network::view`] and [`Network::zone`] say what the network is now.
    pub(crate) fn refresh_view(&mut self) {
        self.view = view(&self.record, self.policy_generation, &self.endpoints, &self.tables);
        self.zone = Arc::new(names::zone(&self.record, self.view.network.spec(), self.endpoints.values()));
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
            endpoints: self.visible().map(|e| e.record.name.to_string()).collect(),
            warnings: self.warnings.clone(),
        }
    }

    /// What the sockets of the switch go by.
    pub(crate) fn plan(&self) -> NetworkPlan {
        let spec = self.view.network.spec();
        NetworkPlan {
            name: self.record.name.as_str().into(),
            egress: self.record.uplink == UplinkKind::User,
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

/// What the workers are told of a network: the endpoints that are up, by port; the rules between them.
fn view(
    record: &NetworkRecord,
    policy_generation: u64,
    endpoints: &BTreeMap<Name, Endpoint>,
    tables: &Arc<Tables>,
) -> NetworkView {
    let mut up: Vec<_> = endpoints.values().filter_map(|e| Some((e.spec(), e.port()?.tx.clone()))).collect();
    up.sort_unstable_by_key(|(spec, _)| spec.id);
    let (ports, tx) = up.into_iter().unzip();
    let spec = NetworkSpec {
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
            UplinkKind::Host | UplinkKind::None => Uplink::None,
        },
        icc: record.icc,
        rules: record.rules.iter().filter_map(|rule| in_force(rule, endpoints)).collect(),
        policy_generation,
        flood_rate: Rate::of_copies(record.flood_limit, record.mtu),
        ports,
    };
    NetworkView { network: Arc::new(Forwarding::new(spec, tables.clone())), tx }
}

/// A rule by ports, while both its endpoints are up.
fn in_force(rule: &RuleRecord, endpoints: &BTreeMap<Name, Endpoint>) -> Option<Rule> {
    let port = |name| endpoints.get(name).filter(|e| e.port().is_some()).map(|e| e.record.port);
    Some(Rule { from: port(&rule.from)?, to: port(&rule.to)?, port: rule.what.map(|what| what.0) })
}
