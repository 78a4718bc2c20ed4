//! Ranges that Docker has from us, as its IPAM driver: given out before the network exists that they are for, and kept in
//! files of their own, since Docker remembers them for good.
//!
//! A pool holds no leases. Before its network exists Docker asks for the gateway alone, and for addresses that are to be left
//! out; from then on the network's own leases are the one table, where an address on its way to an endpoint is leased to
//! the MAC that Docker will give it, both families at once.
//!
//! Limit: [`MAX_POOLS`].

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use tapswitch_ipam::{
    Leases, NetworkName, OwnNetwork, Owner, Pool, Subnet, SubnetV6, Wanted, check, choose, choose_v6,
};

use super::attach::lease_refusal;
use super::{Control, MAX_NETWORKS};
use crate::daemon::network::Network;
use crate::daemon::refusal::{Outcome, Refusal};
use crate::daemon::state::{Orders, PoolRecord, StateDir};
use crate::frame::Mac;

/// Both families of every network.
const MAX_POOLS: usize = 2 * MAX_NETWORKS;
/// How pools are called where they are in somebody's way.
const NAME: &str = "of a Docker pool";

/// The pools, by subnet.
#[derive(Debug)]
pub(super) struct Pools {
    dir: StateDir,
    disk: Orders,
    pools: BTreeMap<IpNet, PoolRecord>,
}

/// What an address is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The network's gateway.
    Gateway,
    /// To be left out, or for whom nothing is known of.
    Other,
    /// The endpoint that will have this MAC.
    Endpoint(Mac),
}

impl Pools {
    /// Those of `dir`, and one line about each bad file.
    pub(super) fn open(dir: StateDir, disk: Orders) -> io::Result<(Pools, Vec<String>)> {
        let loaded = dir.read_all::<PoolRecord>()?;
        let pools = loaded.entries.into_iter().map(|(_, pool)| (pool.subnet, pool)).collect();
        Ok((Pools { dir, disk, pools }, loaded.bad.into_iter().map(|(_, warning)| warning).collect()))
    }

    /// As networks must avoid them.
    pub(super) fn occupied(&self) -> impl Iterator<Item = OwnNetwork> {
        self.subnets().map(|subnet| OwnNetwork { name: NetworkName::new(NAME), subnet })
    }

    fn subnets(&self) -> impl Iterator<Item = IpNet> {
        self.pools.keys().copied()
    }

    /// The pool of this subnet.
    pub(super) fn of(&self, subnet: IpNet) -> Option<PoolRecord> {
        self.pools.get(&subnet).copied()
    }

    fn insert(&mut self, pool: PoolRecord) -> Outcome<()> {
        if self.pools.len() >= MAX_POOLS {
            return Err(Refusal::Failed(format!("there are {MAX_POOLS} pools, which is the most")));
        }
        self.disk.write(&self.dir, &key(pool.subnet), &pool).map_err(failed)?;
        self.pools.insert(pool.subnet, pool);
        Ok(())
    }

    /// Removes one, if it is there.
    pub(super) fn remove(&mut self, subnet: IpNet) -> Outcome<()> {
        if self.pools.contains_key(&subnet) {
            self.disk.remove(&self.dir, &key(subnet)).map_err(failed)?;
            self.pools.remove(&subnet);
        }
        Ok(())
    }
}

impl Control {
    /// A range for a network of Docker's: this one, or a new one that overlaps nothing. This one again is the same until a
    /// network is there. Then it is refused, before Docker takes addresses for another: those it would give back when that is
    /// refused, and they are containers'.
    ///
    /// # Errors
    /// It cannot be, or overlaps what it must not, or none is left.
    pub(crate) fn request_pool(&mut self, given: Option<IpNet>, range: Option<Ipv4Net>, v6: bool) -> Outcome<IpNet> {
        let Some(subnet) = given else {
            let subnet = self.free_range(v6)?;
            self.pools.insert(PoolRecord { subnet, range: None })?;
            return Ok(subnet);
        };
        let subnet = subnet_of(subnet, range)?;
        let pool = PoolRecord { subnet, range };
        if self.pools.of(subnet) == Some(pool) {
            return match self.user(subnet) {
                None => Ok(subnet),
                Some(name) => Err(Refusal::Conflict(format!("subnet {subnet} is network {name}'s; give another one"))),
            };
        }
        let occupied = self.take_occupied();
        let checked = check(subnet, &occupied).map_err(|e| Refusal::Conflict(e.to_string()));
        self.give_back(occupied);
        checked?;
        self.pools.insert(pool)?;
        Ok(subnet)
    }

    /// Docker wants a range no more. One that is a network's goes with that, of which Docker speaks next.
    ///
    /// # Errors
    /// Its file stays.
    pub(crate) fn release_pool(&mut self, subnet: IpNet) -> Outcome<()> {
        if self.user(subnet).is_some() { Ok(()) } else { self.pools.remove(subnet) }
    }

    /// Forgets ranges that no network has: of a dockerd that ended between asking for one and making its network.
    pub(super) fn drop_unused_pools(&mut self) {
        for subnet in self.pools.subnets().filter(|subnet| self.user(*subnet).is_none()).collect::<Vec<_>>() {
            if let Err(error) = self.pools.remove(subnet) {
                self.warn(format!("forget range {subnet} of Docker's: {error}"));
            }
        }
    }

    /// The network that has this subnet.
    fn user(&self, subnet: IpNet) -> Option<&super::Name> {
        let user = self.networks.values().find(|network| network.subnets().any(|own| own == subnet));
        user.map(|network| &network.record.name)
    }

    /// An address of a pool, with its prefix length: this one, or the lowest that is free. An endpoint that asks again gets
    /// the same.
    ///
    /// # Errors
    /// There is no such pool, or the address is taken, or none is left.
    pub(crate) fn request_address(&mut self, of: IpNet, given: Option<IpAddr>, purpose: Purpose) -> Outcome<IpNet> {
        let pool = self.pools.of(of).ok_or_else(|| unknown_pool(of))?;
        let address = match purpose {
            Purpose::Gateway => gateway(&pool, given)?,
            Purpose::Other => given.filter(|address| of.contains(address)).ok_or_else(|| {
                Refusal::Impossible(format!("an address of {of} to be left out must be given, and be in it"))
            })?,
            Purpose::Endpoint(mac) => self.lease_to(mac, of, given)?,
        };
        Ok(IpNet::new(address, of.prefix_len()).expect("the pool's own length"))
    }

    /// Docker wants an address no more. If an endpoint of its has it still, Docker has forgotten it; that one's name is
    /// returned, for it to be detached.
    pub(crate) fn release_address(&mut self, of: IpNet, address: IpAddr) -> Option<super::Place> {
        let now = self.lease_time();
        let network = self.networks.values_mut().find(|network| network.subnets().any(|subnet| subnet == of))?;
        let owner = network.leases.owner_of(address)?.clone();
        if owner.as_str().starts_with(OWNER) {
            network.leases.release(&owner, now);
            return None;
        }
        let endpoint = network.with_address(address).filter(|e| e.record.docker.is_some() && e.visible())?;
        Some(super::Place { network: network.record.name.clone(), name: endpoint.record.name.clone() })
    }

    /// Gives up the lease of an endpoint on its way, for it to have it by its own name.
    pub(super) fn hand_lease_over(&mut self, network: &super::Name, mac: Mac) {
        let now = self.lease_time();
        if let Some(network) = self.networks.get_mut(network) {
            network.leases.release(&to_mac(mac), now);
        }
    }

    /// Leases to whoever will have `mac`. Of two families the first asked for brings the other one's address along.
    fn lease_to(&mut self, mac: Mac, of: IpNet, given: Option<IpAddr>) -> Outcome<IpAddr> {
        let now = self.lease_time();
        let at = |network: &&mut Network| network.subnets().any(|subnet| subnet == of);
        let network = self.networks.values_mut().find(at).ok_or_else(|| {
            Refusal::Unknown(format!("pool {of} is no network's yet, so that nobody can have an address of it"))
        })?;
        let owner = to_mac(mac);
        let has = network.leases.of(&owner).cloned();
        let wanted = match given {
            Some(IpAddr::V4(ipv4)) => Wanted { ipv4: Some(ipv4), ipv6: None },
            Some(IpAddr::V6(ipv6)) => Wanted { ipv4: has.as_ref().map(|has| has.ipv4), ipv6: Some(ipv6) },
            None => Wanted::default(),
        };
        let changes = has.filter(|has| wanted.ipv6.is_some_and(|ipv6| has.ipv6 != Some(ipv6)));
        if changes.is_some() {
            network.leases.release(&owner, now);
        }
        let lease = match network.leases.request(&owner, wanted, now) {
            Ok(lease) => lease,
            Err(error) => {
                restore(&mut network.leases, changes, now);
                return Err(lease_refusal(error));
            }
        };
        match of {
            IpNet::V4(_) => Ok(lease.ipv4.into()),
            IpNet::V6(_) => Ok(lease.ipv6.expect("the network has this subnet").into()),
        }
    }

    /// A range that overlaps nothing.
    fn free_range(&mut self, v6: bool) -> Outcome<IpNet> {
        let occupied = self.take_occupied();
        let chosen = if v6 {
            let chosen = choose_v6(self.global_id, &NetworkName::new("docker"), &beside(), &occupied);
            chosen.map(|choice| choice.subnet.net().into()).map_err(|e| e.to_string())
        } else {
            choose(self.auto_ranges(), &occupied).map(|choice| choice.subnet.net().into()).map_err(|e| e.to_string())
        };
        self.give_back(occupied);
        chosen.map_err(Refusal::Conflict)
    }

    /// What the host, our networks and the pools use: taken out of `self.host`, for [`Control::give_back`].
    fn take_occupied(&mut self) -> tapswitch_ipam::Occupied {
        let mut occupied = std::mem::take(&mut self.host);
        occupied.networks = self.networks.values().flat_map(Network::own_networks).collect();
        occupied.networks.extend(self.pools.occupied());
        occupied
    }

    fn give_back(&mut self, mut occupied: tapswitch_ipam::Occupied) {
        occupied.networks.clear();
        self.host = occupied;
    }
}

/// Before the MAC of an endpoint on its way. No endpoint's name has a space.
const OWNER: &str = "docker ";

fn to_mac(mac: Mac) -> Owner {
    Owner::new(format!("{OWNER}{mac}"))
}

fn restore(leases: &mut Leases, had: Option<tapswitch_ipam::Lease>, now: std::time::Duration) {
    if let Some(had) = had {
        let again = Wanted { ipv4: Some(had.ipv4), ipv6: had.ipv6 };
        // It was given up a moment ago, and nobody else has had a turn.
        let _ = leases.request(&had.owner, again, now);
    }
}

/// The gateway asked for, or the one that a network has by itself.
fn gateway(pool: &PoolRecord, given: Option<IpAddr>) -> Outcome<IpAddr> {
    let impossible = |e: &dyn std::fmt::Display| Refusal::Impossible(e.to_string());
    match (pool.subnet, given) {
        (IpNet::V4(net), None) => Ok(Subnet::new(net, None, pool.range).map_err(|e| impossible(&e))?.gateway().into()),
        (IpNet::V4(net), Some(IpAddr::V4(given))) => {
            Ok(Subnet::new(net, Some(given), pool.range).map_err(|e| impossible(&e))?.gateway().into())
        }
        (IpNet::V6(net), None) => Ok(SubnetV6::new(net, None, &beside()).map_err(|e| impossible(&e))?.gateway().into()),
        (IpNet::V6(net), Some(IpAddr::V6(given))) => {
            Ok(SubnetV6::new(net, Some(given), &beside()).map_err(|e| impossible(&e))?.gateway().into())
        }
        (subnet, Some(given)) => Err(Refusal::Impossible(format!("{given} cannot be a gateway of {subnet}"))),
    }
}

/// The pool asked for, if it can be a network.
fn subnet_of(subnet: IpNet, range: Option<Ipv4Net>) -> Outcome<IpNet> {
    let checked = match subnet {
        IpNet::V4(net) => Subnet::new(net, None, range).map(drop).map_err(|e| e.to_string()),
        IpNet::V6(net) => SubnetV6::new(net, None, &beside()).map(drop).map_err(|e| e.to_string()),
    };
    checked.map(|()| subnet).map_err(Refusal::Impossible)
}

/// An IPv4 subnet whose gateway is its first address, as all that choose their own.
fn beside() -> Subnet {
    Pool::Docker.subnets().next().expect("the list is not empty")
}

fn unknown_pool(subnet: IpNet) -> Refusal {
    Refusal::Unknown(format!("there is no pool {subnet}"))
}

/// A file's name.
fn key(subnet: IpNet) -> String {
    subnet.to_string().replace(['/', ':'], "-")
}

fn failed(error: io::Error) -> Refusal {
    Refusal::Failed(error.to_string())
}
