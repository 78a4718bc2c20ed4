//! The leases of one network.
//!
//! An owner asks for addresses, and asking again gives the same ones. IPv4 addresses nobody asked for by number
//! are the lowest free ones of the range, as with Docker, save that an address released less than [`COOLING`] ago
//! is given only when nothing else is left.
//!
//! The IPv6 address is the IPv4 one's mirror: the same host number in the IPv6 subnet, 172.17.1.5 with fd00::105.
//! One table is then enough to hold both families, one exhaustion, one cooling; no duplicate detection is needed,
//! as two mirrors are as different as their originals; and whoever knows one address knows the other. (An address
//! made from the MAC would hold the same 32 bits and be longer; a random one would have to be remembered and
//! checked.) Somebody may ask for another IPv6 address; if it is the mirror of an IPv4 address, that IPv4 address
//! is not chosen for anybody while this lasts, and who asks for it by number is told who has its mirror.
//!
//! Every operation is O(log n) in the number of leases, whatever the size of the subnet. Releases are forgotten
//! with the process. One thread owns it: the daemon's control thread.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;

use crate::free::Free;
use crate::{Lease, LeaseError, Owner, Reserved, Subnet, SubnetV6, Wanted};

/// How long a released address is left alone: as long as Linux keeps a neighbour that nobody confirms
/// (`gc_stale_time`, 60 s).
pub const COOLING: Duration = Duration::from_secs(60);

/// Who has which address of one network.
#[derive(Clone, Debug)]
pub struct Leases {
    subnet: Subnet,
    subnet6: Option<SubnetV6>,
    by_owner: BTreeMap<Owner, Lease>,
    by_ipv4: BTreeMap<Ipv4Addr, Owner>,
    by_ipv6: BTreeMap<Ipv6Addr, Owner>,
    /// The host numbers of the range whose addresses of both families can be given.
    free: Free,
}

impl Leases {
    /// No leases yet.
    pub fn new(subnet: Subnet, subnet6: Option<SubnetV6>) -> Self {
        let mut free = Free::new(subnet.range_hosts(), COOLING);
        for address in [subnet.net().network(), subnet.net().broadcast(), subnet.gateway()] {
            free.take(subnet.host(address));
        }
        if let Some(host) = subnet6.and_then(|subnet6| subnet6.host(subnet6.gateway())) {
            free.take(host);
        }
        Leases { subnet, subnet6, by_owner: BTreeMap::new(), by_ipv4: BTreeMap::new(), by_ipv6: BTreeMap::new(), free }
    }

    /// The leases that stored endpoints held, and those among them that cannot be again, each with the reason: the
    /// first of two that claim one address has it.
    pub fn restore(
        subnet: Subnet,
        subnet6: Option<SubnetV6>,
        stored: impl IntoIterator<Item = Lease>,
    ) -> (Self, Vec<(Lease, LeaseError)>) {
        let mut leases = Leases::new(subnet, subnet6);
        let mut refused = Vec::new();
        for lease in stored {
            let wanted = Wanted { ipv4: Some(lease.ipv4), ipv6: lease.ipv6 };
            if let Err(error) = leases.request(&lease.owner, wanted, Duration::ZERO) {
                refused.push((lease, error));
            }
        }
        (leases, refused)
    }

    /// Addresses for this owner: the ones it has, the ones it asks for, or free ones.
    ///
    /// # Errors
    /// [`LeaseError`] says which address cannot be had, and why; nothing is changed then.
    pub fn request(&mut self, owner: &Owner, wanted: Wanted, now: Duration) -> Result<Lease, LeaseError> {
        if let Some(has) = self.by_owner.get(owner) {
            return same(has, wanted);
        }
        if let Some(ipv6) = wanted.ipv6 {
            self.check_ipv6(ipv6)?;
        }
        let host = match wanted.ipv4 {
            Some(ipv4) => {
                self.check_ipv4(ipv4)?;
                self.subnet.host(ipv4)
            }
            None => self.free.next(now).ok_or_else(|| self.exhausted())?,
        };
        let ipv6 = match (wanted.ipv6, self.subnet6) {
            (None, Some(subnet6)) => {
                let mirror = subnet6.mirror(host);
                self.check_ipv6(mirror)?;
                Some(mirror)
            }
            (asked, _) => asked,
        };
        let lease = Lease { owner: owner.clone(), ipv4: self.subnet.address(host), ipv6 };
        self.record(&lease);
        Ok(lease)
    }

    /// The highest address of the range that is free: for what shall not stand in the way of the endpoints, which get the
    /// lowest ones.
    ///
    /// # Errors
    /// [`LeaseError::Exhausted`].
    pub fn highest(&mut self, now: Duration) -> Result<Ipv4Addr, LeaseError> {
        let host = self.free.last(now).ok_or_else(|| self.exhausted())?;
        Ok(self.subnet.address(host))
    }

    /// Ends this owner's lease, and says what it was. Its addresses cool from `now` on.
    pub fn release(&mut self, owner: &Owner, now: Duration) -> Option<Lease> {
        let lease = self.by_owner.remove(owner)?;
        self.by_ipv4.remove(&lease.ipv4);
        if let Some(ipv6) = lease.ipv6 {
            self.by_ipv6.remove(&ipv6);
        }
        let (host, host6) = self.hosts(&lease);
        for host in [Some(host), host6.filter(|host6| *host6 != host)].into_iter().flatten() {
            if self.leasable(host) {
                self.free.cool(host, now);
            }
        }
        Some(lease)
    }

    /// This owner's lease.
    pub fn of(&self, owner: &Owner) -> Option<&Lease> {
        self.by_owner.get(owner)
    }

    /// Who has this address.
    pub fn owner_of(&self, address: IpAddr) -> Option<&Owner> {
        match address {
            IpAddr::V4(address) => self.by_ipv4.get(&address),
            IpAddr::V6(address) => self.by_ipv6.get(&address),
        }
    }

    /// All of them, by owner.
    pub fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.by_owner.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_owner.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_owner.is_empty()
    }

    /// The IPv4 subnet they are in.
    pub fn subnet(&self) -> &Subnet {
        &self.subnet
    }

    /// The IPv6 subnet they are in.
    pub fn subnet6(&self) -> Option<&SubnetV6> {
        self.subnet6.as_ref()
    }

    fn record(&mut self, lease: &Lease) {
        let (host, host6) = self.hosts(lease);
        self.free.take(host);
        if let Some(host6) = host6 {
            self.free.take(host6);
        }
        self.by_ipv4.insert(lease.ipv4, lease.owner.clone());
        if let Some(ipv6) = lease.ipv6 {
            self.by_ipv6.insert(ipv6, lease.owner.clone());
        }
        self.by_owner.insert(lease.owner.clone(), lease.clone());
    }

    /// The host numbers a lease keeps from others: its IPv4 address's, and the one its IPv6 address is the mirror
    /// of.
    fn hosts(&self, lease: &Lease) -> (u32, Option<u32>) {
        let host6 = self.subnet6.zip(lease.ipv6).and_then(|(subnet6, ipv6)| subnet6.host(ipv6));
        (self.subnet.host(lease.ipv4), host6)
    }

    /// Whether both addresses of a host number can be given without being asked for.
    fn leasable(&self, host: u32) -> bool {
        self.subnet.range_hosts().contains(&host)
            && self.check_ipv4(self.subnet.address(host)).is_ok()
            && self.subnet6.is_none_or(|subnet6| self.check_ipv6(subnet6.mirror(host)).is_ok())
    }

    fn check_ipv4(&self, address: Ipv4Addr) -> Result<(), LeaseError> {
        let (net, subnet) = (self.subnet.net(), IpNet::V4(self.subnet.net()));
        if !net.contains(&address) {
            return Err(LeaseError::Outside { address: address.into(), subnet });
        }
        let roles = [
            (net.network(), Reserved::Network),
            (net.broadcast(), Reserved::Broadcast),
            (self.subnet.gateway(), Reserved::Gateway),
        ];
        if let Some((_, role)) = roles.into_iter().find(|(reserved, _)| *reserved == address) {
            return Err(LeaseError::Reserved { address: address.into(), role, subnet });
        }
        self.check_taken(address.into())
    }

    fn check_ipv6(&self, address: Ipv6Addr) -> Result<(), LeaseError> {
        let subnet6 = self.subnet6.ok_or(LeaseError::NoIpv6 { address })?;
        let (net, subnet) = (subnet6.net(), IpNet::V6(subnet6.net()));
        if !net.contains(&address) {
            return Err(LeaseError::Outside { address: address.into(), subnet });
        }
        let roles = [(net.network(), Reserved::RouterAnycast), (subnet6.gateway(), Reserved::Gateway)];
        if let Some((_, role)) = roles.into_iter().find(|(reserved, _)| *reserved == address) {
            return Err(LeaseError::Reserved { address: address.into(), role, subnet });
        }
        self.check_taken(address.into())
    }

    fn check_taken(&self, address: IpAddr) -> Result<(), LeaseError> {
        match self.owner_of(address) {
            Some(by) => Err(LeaseError::Taken { address, by: by.clone() }),
            None => Ok(()),
        }
    }

    fn exhausted(&self) -> LeaseError {
        LeaseError::Exhausted { range: self.subnet.range(), leased: self.len() }
    }
}

/// The lease an owner has, unless it asks for another one now.
fn same(has: &Lease, wanted: Wanted) -> Result<Lease, LeaseError> {
    let differs = |has: IpAddr, wanted: IpAddr| (has != wanted).then_some((has, wanted));
    let ipv4 = wanted.ipv4.and_then(|wanted| differs(has.ipv4.into(), wanted.into()));
    let ipv6 = match (has.ipv6, wanted.ipv6) {
        (Some(has), Some(wanted)) => differs(has.into(), wanted.into()),
        (None, Some(address)) => return Err(LeaseError::NoIpv6 { address }),
        (_, None) => None,
    };
    match ipv4.or(ipv6) {
        None => Ok(has.clone()),
        Some((address, wanted)) => Err(LeaseError::HasAnother { owner: has.owner.clone(), has: address, wanted }),
    }
}

#[cfg(test)]
mod tests;
