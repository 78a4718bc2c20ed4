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
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1000);
    const NOTHING: Wanted = Wanted { ipv4: None, ipv6: None };

    fn subnet(net: &str, range: Option<&str>) -> Subnet {
        Subnet::new(net.parse().unwrap(), None, range.map(|r| r.parse().unwrap())).unwrap()
    }

    fn plain(net: &str) -> Leases {
        Leases::new(subnet(net, None), None)
    }

    fn dual(net: &str) -> Leases {
        let subnet = subnet(net, None);
        Leases::new(subnet, Some(SubnetV6::new("fd00::/64".parse().unwrap(), None, &subnet).unwrap()))
    }

    fn owner(name: &str) -> Owner {
        Owner::new(name)
    }

    fn v4(address: &str) -> Wanted {
        Wanted { ipv4: Some(address.parse().unwrap()), ipv6: None }
    }

    fn v6(address: &str) -> Wanted {
        Wanted { ipv4: None, ipv6: Some(address.parse().unwrap()) }
    }

    fn get(leases: &mut Leases, name: &str, wanted: Wanted) -> String {
        leases.request(&owner(name), wanted, NOW).unwrap().ipv4.to_string()
    }

    fn refused(leases: &mut Leases, name: &str, wanted: Wanted) -> String {
        leases.request(&owner(name), wanted, NOW).unwrap_err().to_string()
    }

    #[test]
    fn the_first_container_gets_dockers_first_address() {
        let mut leases = plain("172.17.0.0/16");
        assert_eq!(get(&mut leases, "a", NOTHING), "172.17.0.2");
        assert_eq!(get(&mut leases, "b", NOTHING), "172.17.0.3");
    }

    #[test]
    fn asking_again_gives_the_same_lease() {
        let mut leases = dual("172.17.0.0/16");
        let first = leases.request(&owner("a"), NOTHING, NOW).unwrap();
        assert_eq!(leases.request(&owner("a"), NOTHING, NOW), Ok(first.clone()));
        assert_eq!(leases.request(&owner("a"), v4("172.17.0.2"), NOW), Ok(first.clone()));
        assert_eq!(leases.request(&owner("a"), v6("fd00::2"), NOW), Ok(first));
        assert_eq!(leases.len(), 1);
    }

    #[test]
    fn asking_for_another_address_than_one_has_is_refused() {
        let mut leases = dual("172.17.0.0/16");
        get(&mut leases, "a", NOTHING);
        let text = "a has address 172.17.0.2 and asks for 172.17.0.9; release the first";
        assert_eq!(refused(&mut leases, "a", v4("172.17.0.9")), text);
        assert!(refused(&mut leases, "a", v6("fd00::9")).contains("has address fd00::2"));
    }

    #[test]
    fn a_static_request_is_passed_over_by_dynamic_ones() {
        let mut leases = plain("172.17.0.0/16");
        assert_eq!(get(&mut leases, "s", v4("172.17.0.3")), "172.17.0.3");
        assert_eq!(get(&mut leases, "a", NOTHING), "172.17.0.2");
        assert_eq!(get(&mut leases, "b", NOTHING), "172.17.0.4");
    }

    #[test]
    fn static_requests_outside_reserved_or_taken_are_refused_by_name() {
        let mut leases = dual("10.0.0.0/24");
        get(&mut leases, "a", NOTHING);
        let cases = [
            (v4("10.0.1.1"), "address 10.0.1.1 is outside the subnet 10.0.0.0/24"),
            (v4("10.0.0.0"), "address 10.0.0.0 is reserved: it is the network address of 10.0.0.0/24"),
            (v4("10.0.0.255"), "address 10.0.0.255 is reserved: it is the broadcast address of 10.0.0.0/24"),
            (v4("10.0.0.1"), "address 10.0.0.1 is reserved: it is the gateway of 10.0.0.0/24"),
            (v4("10.0.0.2"), "address 10.0.0.2 is taken by a"),
            (v6("fd01::1"), "address fd01::1 is outside the subnet fd00::/64"),
            (v6("fd00::"), "address fd00:: is reserved: it is the subnet-router anycast address of fd00::/64"),
            (v6("fd00::1"), "address fd00::1 is reserved: it is the gateway of fd00::/64"),
            (v6("fd00::2"), "address fd00::2 is taken by a"),
        ];
        for (wanted, text) in cases {
            assert_eq!(refused(&mut leases, "b", wanted), text);
        }
        assert_eq!(leases.len(), 1);
        assert!(refused(&mut plain("10.0.0.0/24"), "b", v6("fd00::2")).contains("no IPv6"));
    }

    #[test]
    fn a_range_confines_the_choice_but_not_the_wish() {
        let mut leases = Leases::new(subnet("172.20.0.0/16", Some("172.20.5.0/30")), None);
        assert_eq!(get(&mut leases, "s", v4("172.20.9.9")), "172.20.9.9");
        assert_eq!(get(&mut leases, "a", NOTHING), "172.20.5.0");
        for name in ["b", "c", "d"] {
            get(&mut leases, name, NOTHING);
        }
        assert!(refused(&mut leases, "e", NOTHING).starts_with("no free address left in 172.20.5.0/30 (5 leased)"));
        leases.release(&owner("s"), NOW);
        assert!(refused(&mut leases, "e", NOTHING).contains("no free address"));
    }

    #[test]
    fn a_released_address_cools_for_a_minute() {
        let mut leases = plain("10.0.0.0/24");
        get(&mut leases, "a", NOTHING);
        leases.release(&owner("a"), NOW).unwrap();
        let soon = leases.request(&owner("b"), NOTHING, NOW + Duration::from_secs(59)).unwrap();
        let later = leases.request(&owner("c"), NOTHING, NOW + Duration::from_secs(60)).unwrap();
        assert_eq!((soon.ipv4.to_string(), later.ipv4.to_string()), ("10.0.0.3".into(), "10.0.0.2".into()));
    }

    #[test]
    fn a_cooling_address_is_given_when_nothing_else_is_left() {
        let mut leases = plain("10.0.0.0/30");
        get(&mut leases, "a", NOTHING);
        assert!(refused(&mut leases, "b", NOTHING).contains("no free address"));
        leases.release(&owner("a"), NOW);
        assert_eq!(get(&mut leases, "b", NOTHING), "10.0.0.2");
    }

    #[test]
    fn a_cooling_address_is_given_to_who_asks_for_it() {
        let mut leases = plain("10.0.0.0/24");
        get(&mut leases, "a", NOTHING);
        leases.release(&owner("a"), NOW);
        assert_eq!(get(&mut leases, "b", v4("10.0.0.2")), "10.0.0.2");
    }

    #[test]
    fn a_release_of_nothing_is_nothing() {
        assert_eq!(plain("10.0.0.0/24").release(&owner("a"), NOW), None);
    }

    #[test]
    fn the_ipv6_address_has_the_same_host_number() {
        let lease = dual("172.17.0.0/16").request(&owner("a"), v4("172.17.1.5"), NOW).unwrap();
        assert_eq!(lease.ipv6.unwrap().to_string(), "fd00::105");
    }

    #[test]
    fn an_ipv6_address_asked_for_keeps_its_ipv4_original_from_being_chosen() {
        let mut leases = dual("10.0.0.0/24");
        let a = leases.request(&owner("a"), v6("fd00::3"), NOW).unwrap();
        assert_eq!(a.ipv4.to_string(), "10.0.0.2");
        assert_eq!(get(&mut leases, "b", NOTHING), "10.0.0.4");
        assert_eq!(refused(&mut leases, "c", v4("10.0.0.3")), "address fd00::3 is taken by a");
        let both = Wanted { ipv6: v6("fd00::77").ipv6, ..v4("10.0.0.3") };
        assert_eq!(get(&mut leases, "c", both), "10.0.0.3");
    }

    #[test]
    fn a_gateway_of_another_host_number_reserves_its_ipv4_original() {
        let subnet = subnet("10.0.0.0/24", None);
        let subnet6 = SubnetV6::new("fd00::/64".parse().unwrap(), "fd00::2".parse().ok(), &subnet).unwrap();
        assert_eq!(get(&mut Leases::new(subnet, Some(subnet6)), "a", NOTHING), "10.0.0.3");
    }

    #[test]
    fn stored_leases_are_had_again_and_a_clash_costs_the_later_one() {
        let mut before = dual("10.0.0.0/24");
        for name in ["a", "b"] {
            get(&mut before, name, NOTHING);
        }
        let mut stored: Vec<Lease> = before.iter().cloned().collect();
        stored.push(Lease { owner: owner("c"), ..stored[0].clone() });
        let (after, refused) = Leases::restore(*before.subnet(), before.subnet6().copied(), stored.clone());
        assert_eq!(after.iter().cloned().collect::<Vec<_>>(), stored[..2]);
        assert_eq!(refused.len(), 1);
        assert_eq!(refused[0].0.owner, owner("c"));
        assert!(matches!(&refused[0].1, LeaseError::Taken { by, .. } if *by == owner("a")));
    }

    #[test]
    fn a_slash_16_is_leased_to_the_last_address_and_100_000_leases_come_and_go_quickly() {
        let mut leases = dual("172.17.0.0/16");
        let capacity = leases.subnet().capacity();
        for i in 0..capacity {
            let lease = leases.request(&owner(&i.to_string()), NOTHING, NOW).unwrap();
            assert_eq!(lease.ipv4, leases.subnet().address(i + 2));
        }
        assert!(matches!(
            leases.request(&owner("one more"), NOTHING, NOW),
            Err(LeaseError::Exhausted { leased: 65533, .. })
        ));
        for i in 0..100_000u32 {
            leases.release(&owner(&(i % capacity).to_string()), NOW).unwrap();
            leases
                .request(&owner(&(i % capacity).to_string()), NOTHING, NOW + Duration::from_millis(i.into()))
                .unwrap();
        }
        assert_eq!(leases.len(), 65533);
    }

    #[test]
    fn a_hundred_thousand_leases_fit_a_slash_8() {
        let mut leases = plain("10.0.0.0/8");
        for i in 0..100_000u32 {
            leases.request(&owner(&i.to_string()), NOTHING, NOW).unwrap();
        }
        assert_eq!(leases.owner_of("10.1.134.161".parse().unwrap()), Some(&owner("99999")));
    }
}
