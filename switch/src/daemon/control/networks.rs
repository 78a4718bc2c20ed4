//! Networks come, change and go.

use std::borrow::Cow;
use std::io::Read;

use ipnet::IpNet;
use tapswitch_ipam::{
    GlobalId, NetworkName, Occupied, OwnNetwork, Pool, Subnet, SubnetV6, Warning, check, choose, choose_v6, collisions,
};

use super::attach::lease_refusal;
use super::{Control, MAX_NETWORKS, Reply};
use crate::daemon::api::types::{NetworkCreate, NetworkInfo, NetworkSet, Subnet4, Subnet6};
use crate::daemon::host_access;
use crate::daemon::name::Name;
use crate::daemon::network::Network;
use crate::daemon::refusal::{Outcome, Refusal};
use crate::daemon::state::{DockerNetworkRecord, NetworkRecord};
use crate::daemon::wanted;
use crate::frame::Mac;

impl Control {
    /// Makes a network.
    ///
    /// # Errors
    /// When its name is taken, a value cannot be, its subnet overlaps what it must not, or it cannot be kept.
    pub(crate) fn create_network(
        &mut self,
        wanted: &NetworkCreate,
        docker: Option<DockerNetworkRecord>,
    ) -> Outcome<NetworkInfo> {
        let asked = wanted;
        let wanted = &*as_can_be(asked, self.has_ipv6);
        let name = wanted::check(wanted).map_err(Refusal::Impossible)?;
        let creating = format!("create network {name}");
        self.check_ipv6(wanted).map_err(|e| e.during(&creating))?;
        self.check_uplink(wanted.uplink.unwrap_or_default()).map_err(|e| e.during(&creating))?;
        // Upper and lower case are one in the names at the gateway.
        let is_same = |other: &&Name| other.as_str().eq_ignore_ascii_case(name.as_str());
        if let Some(other) = self.networks.keys().find(is_same) {
            let same = if *other == name { String::new() } else { format!(", {other}") };
            return Err(Refusal::Conflict(format!("there is one of that name already{same}")).during(&creating));
        }
        if self.networks.len() >= MAX_NETWORKS {
            let text = format!("there are {MAX_NETWORKS} networks, which is the most");
            return Err(Refusal::Failed(text).during(&creating));
        }
        let mut occupied = self.occupied_but(&name);
        let from_pool = docker.as_ref().is_some_and(|docker| docker.ours);
        occupied.networks.extend(self.pools.occupied().filter(|pool| !(from_pool && is_given(wanted, pool.subnet))));
        let chosen = subnets(wanted, &name, self.auto_ranges(), self.global_id, &occupied);
        self.host = occupied;
        let (subnet, subnet6) = chosen.map_err(|e| e.during(&creating))?;
        let mut record = NetworkRecord {
            // Locally administered, and of nobody's address but the gateway's own.
            gateway_mac: Mac::of_ipv4(subnet.gateway()),
            name: name.clone(),
            subnet,
            subnet6,
            chosen: !matches!(wanted.subnet, Some(Subnet4::Given(_))),
            icc: wanted.icc.unwrap_or(true),
            mtu: wanted.mtu.unwrap_or(wanted::DEFAULT_MTU),
            uplink: wanted.uplink.unwrap_or_default(),
            host_access: wanted.host_access.unwrap_or(false),
            host: None,
            ageing: wanted.ageing.unwrap_or(wanted::DEFAULT_AGEING),
            fdb_limit: wanted.fdb_limit.unwrap_or(wanted::DEFAULT_FDB_LIMIT),
            flood_limit: wanted.flood_limit.unwrap_or(wanted::DEFAULT_FLOOD_LIMIT),
            rules: std::collections::BTreeSet::new(),
            docker,
        };
        let host = host_access::lease(&mut host_access::leases(&record), &record, self.lease_time());
        record.host = host.map_err(|e| lease_refusal(e).during(&creating))?;
        self.store(&record).map_err(|e| e.during(&creating))?;
        tracing::info!("network {name}: {} made", subnet.net());
        if wanted.ipv6 != asked.ipv6 {
            tracing::info!("network {name}: of IPv4 alone, for this host's kernel has no IPv6");
        }
        self.networks.insert(name.clone(), Network::new(record));
        self.networks_changed();
        self.look_for_collisions();
        self.network_info(&name)
    }

    /// Whether this host can have the subnet that `wanted` gives for IPv6.
    fn check_ipv6(&self, wanted: &NetworkCreate) -> Outcome<()> {
        match wanted.ipv6 {
            Some(Subnet6::Given(net)) if !self.has_ipv6 => Err(Refusal::Impossible(format!(
                "this host's kernel has no IPv6 for {net}: leave it out, or start the kernel without `ipv6.disable=1`"
            ))),
            _ => Ok(()),
        }
    }

    /// Changes a live network. icc is in force when `reply` comes, for live flows too; an MTU is on every device.
    pub(crate) fn set_network(&mut self, name: &Name, set: &NetworkSet, reply: Reply<NetworkInfo>) {
        match self.apply(name, set) {
            Ok(false) => reply.send(self.network_info(name)),
            Ok(true) => self.order_mtu(name, reply),
            Err(refusal) => reply.send(Err(refusal.during(&format!("set network {name}")))),
        }
    }

    /// Checks and applies `set`; whether the devices need another MTU.
    fn apply(&mut self, name: &Name, set: &NetworkSet) -> Outcome<bool> {
        let network = self.network(name)?;
        let mut record = network.record.clone();
        if let Some(mtu) = set.mtu {
            wanted::check_mtu(mtu, record.subnet6.is_some()).map_err(Refusal::Impossible)?;
            if network.visible().next().is_some() && mtu != record.mtu {
                self.keeper.check()?;
            }
            if self.is_changing_mtu(name) {
                return Err(Refusal::Conflict("its MTU is being changed already: try again".into()));
            }
            record.mtu = mtu;
        }
        record.icc = set.icc.unwrap_or(record.icc);
        record.host_access = set.host_access.unwrap_or(record.host_access);
        let resized = record.mtu != network.record.mtu;
        if record != network.record {
            let now = self.lease_time();
            let leases = &mut self.network_mut(name)?.leases;
            record.host = host_access::lease(leases, &record, now).map_err(lease_refusal)?;
            let changed = self.change_settings(name, record);
            let network = self.network_mut(name)?;
            host_access::tidy(&mut network.leases, &network.record, now);
            changed?;
        }
        Ok(resized)
    }

    /// Gives a network without endpoints another IPv4 range, which is not `taken`.
    ///
    /// # Errors
    /// None is left, or its file cannot be written; then it has the one it had.
    pub(super) fn renumber(&mut self, name: &Name, taken: ipnet::Ipv4Net) -> Outcome<ipnet::Ipv4Net> {
        let mut record = self.network(name)?.record.clone();
        let mut occupied = self.occupied_but(name);
        occupied.networks.extend(self.pools.occupied());
        occupied.networks.push(OwnNetwork { name: NetworkName::new("of Docker"), subnet: taken.into() });
        let chosen = choose(self.auto_ranges(), &occupied).map_err(|e| Refusal::Conflict(e.to_string()));
        self.host = occupied;
        record.subnet = chosen?.subnet;
        record.gateway_mac = Mac::of_ipv4(record.subnet.gateway());
        record.host = None;
        let host = host_access::lease(&mut host_access::leases(&record), &record, self.lease_time());
        record.host = host.map_err(lease_refusal)?;
        self.store(&record)?;
        let net = record.subnet.net();
        self.networks.insert(name.clone(), Network::new(record));
        self.networks_changed();
        Ok(net)
    }

    /// The ranges to choose from for whoever names none.
    pub(super) fn auto_ranges(&self) -> Pool {
        if self.settings.docker_socket.is_some() { Pool::BesideDocker } else { Pool::Docker }
    }

    /// What the host uses now.
    pub(super) fn host_changed(&mut self, host: Occupied) {
        let addresses = host_access::addresses(&host);
        self.host = self.but_ours(host);
        self.look_for_collisions();
        if addresses != *self.host_addresses {
            self.host_addresses = addresses.into();
            self.publish_networks([]);
        }
    }

    /// Renews every network's warnings about what it overlaps, and logs the new ones.
    pub(super) fn look_for_collisions(&mut self) {
        for name in self.networks.keys().cloned().collect::<Vec<_>>() {
            let occupied = self.occupied_but(&name);
            let network = self.networks.get_mut(&name).expect("its name was just read");
            let warnings: Vec<String> = network
                .subnets()
                .filter_map(|subnet| Warning::about(subnet, collisions(subnet, &occupied)))
                .map(|warning| warning.to_string())
                .collect();
            for new in warnings.iter().filter(|w| !network.warnings.contains(w)) {
                tracing::warn!("network {name}: {new}");
            }
            network.warnings = warnings;
            self.host = occupied;
        }
        self.host.networks.clear();
    }

    /// What the host and our other networks use. It is taken out of `self.host`, which may hold a million routes, and
    /// is for the caller to put back.
    fn occupied_but(&mut self, name: &Name) -> Occupied {
        let mut occupied = std::mem::take(&mut self.host);
        let others = self.networks.values().filter(|n| n.record.name != *name);
        occupied.networks = others.flat_map(Network::own_networks).collect();
        occupied
    }
}

/// Whether `wanted` asks for a subnet of `network`'s by number.
pub(super) fn is_its(wanted: &NetworkCreate, network: &Network) -> bool {
    network.subnets().any(|subnet| is_given(wanted, subnet))
}

/// `wanted`, with no IPv6 where `auto` is asked for and the kernel has none: `auto` is what the host can.
fn as_can_be(wanted: &NetworkCreate, has_ipv6: bool) -> Cow<'_, NetworkCreate> {
    match wanted.ipv6.unwrap_or_default() {
        Subnet6::Auto if !has_ipv6 => Cow::Owned(NetworkCreate { ipv6: Some(Subnet6::Off), ..wanted.clone() }),
        _ => Cow::Borrowed(wanted),
    }
}

/// Whether `wanted` asks for this subnet by number.
fn is_given(wanted: &NetworkCreate, subnet: IpNet) -> bool {
    match subnet {
        IpNet::V4(net) => wanted.subnet == Some(Subnet4::Given(net)),
        IpNet::V6(net) => wanted.ipv6 == Some(Subnet6::Given(net)),
    }
}

/// The subnets that `wanted` asks for or leaves to us.
fn subnets(
    wanted: &NetworkCreate,
    name: &Name,
    auto: Pool,
    global_id: GlobalId,
    occupied: &Occupied,
) -> Outcome<(Subnet, Option<SubnetV6>)> {
    let impossible = |e: &dyn std::fmt::Display| Refusal::Impossible(e.to_string());
    let overlaps = |e: &dyn std::fmt::Display| Refusal::Conflict(e.to_string());
    let subnet = match wanted.subnet.unwrap_or_default() {
        Subnet4::Auto => choose(auto, occupied).map_err(|e| overlaps(&e))?.subnet,
        Subnet4::Auto2013 => choose(Pool::Docker2013, occupied).map_err(|e| overlaps(&e))?.subnet,
        Subnet4::Given(net) => {
            let subnet = Subnet::new(net, wanted.gateway, wanted.range).map_err(|e| impossible(&e))?;
            check(net.into(), occupied).map_err(|e| overlaps(&e))?;
            subnet
        }
    };
    let subnet6 = match wanted.ipv6.unwrap_or_default() {
        Subnet6::Off => None,
        Subnet6::Auto => {
            let name = NetworkName::new(name.as_str());
            Some(choose_v6(global_id, &name, &subnet, occupied).map_err(|e| overlaps(&e))?.subnet)
        }
        Subnet6::Given(net) => {
            let subnet6 = SubnetV6::new(net, wanted.gateway6, &subnet).map_err(|e| impossible(&e))?;
            check(net.into(), occupied).map_err(|e| overlaps(&e))?;
            Some(subnet6)
        }
    };
    Ok((subnet, subnet6))
}

/// A global id of our own: 40 random bits.
///
/// # Errors
/// When the kernel gives none.
pub(super) fn random_global_id() -> std::io::Result<GlobalId> {
    let mut random = [0; 5];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(GlobalId::new(random))
}
