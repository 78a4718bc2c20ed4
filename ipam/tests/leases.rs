//! Leases, against a model that looks at every address of the range each time.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::Ipv4Net;
use proptest::prelude::*;
use tapswitch_ipam::{COOLING, Lease, Leases, Owner, Subnet, SubnetV6, Wanted};

const NET: u32 = 0x0a00_0000;
const NET6: u128 = 0xfd00 << 112;

#[derive(Clone, Debug)]
enum Op {
    /// Owner, IPv4 and IPv6 host number asked for.
    Request(u8, Option<u32>, Option<u32>),
    Release(u8),
    Wait(u64),
}

/// What it is about: how many addresses, from where to lease, which are the gateways, and is there IPv6.
#[derive(Clone, Debug)]
struct Shape {
    len: u8,
    range: Option<(u32, u8)>,
    gateway: u32,
    gateway6: Option<u32>,
}

impl Shape {
    fn subnet(&self) -> Option<Subnet> {
        let net = Ipv4Net::new(Ipv4Addr::from(NET), self.len).unwrap();
        let range = self.range.map(|(host, len)| Ipv4Net::new(Ipv4Addr::from(NET + host), len).unwrap().trunc());
        Subnet::new(net, Some(Ipv4Addr::from(NET + self.gateway)), range).ok()
    }

    fn subnet6(&self, beside: &Subnet) -> Option<SubnetV6> {
        let gateway = Ipv6Addr::from(NET6 + u128::from(self.gateway6?));
        SubnetV6::new("fd00::/64".parse().unwrap(), Some(gateway), beside).ok()
    }
}

struct Model {
    subnet: Subnet,
    subnet6: Option<SubnetV6>,
    leases: Vec<Lease>,
    /// Host number and time of every release, newest last.
    released: Vec<(u32, Duration)>,
}

impl Model {
    fn size(&self) -> u32 {
        1 << (32 - self.subnet.net().prefix_len())
    }

    fn v4_can(&self, host: u32) -> bool {
        let address = Ipv4Addr::from(NET.wrapping_add(host));
        host > 0
            && host < self.size() - 1
            && address != self.subnet.gateway()
            && !self.leases.iter().any(|lease| lease.ipv4 == address)
    }

    fn v6_can(&self, host: u32) -> bool {
        let Some(subnet6) = self.subnet6 else { return false };
        let address = Ipv6Addr::from(NET6 + u128::from(host));
        host > 0 && address != subnet6.gateway() && !self.leases.iter().any(|lease| lease.ipv6 == Some(address))
    }

    fn choice(&self, now: Duration) -> Option<u32> {
        let can = |host: &u32| {
            self.subnet.range().contains(&Ipv4Addr::from(NET + host))
                && self.v4_can(*host)
                && (self.subnet6.is_none() || self.v6_can(*host))
        };
        let released = |host: &u32| self.released.iter().rev().find(|(h, _)| h == host).map(|(_, at)| *at);
        let warm = |host: &u32| released(host).is_some_and(|at| now - at < COOLING);
        let free: Vec<u32> = (0..self.size()).filter(can).collect();
        let cold = free.iter().copied().find(|host| !warm(host));
        cold.or_else(|| free.iter().copied().min_by_key(|host| (released(host), *host)))
    }

    fn request(&mut self, owner: &Owner, v4: Option<u32>, v6: Option<u32>, now: Duration) -> Option<Lease> {
        let ipv4 = |host| Ipv4Addr::from(NET + host);
        let ipv6 = |host| Ipv6Addr::from(NET6 + u128::from(host));
        if let Some(has) = self.leases.iter().find(|lease| lease.owner == *owner) {
            let same = v4.is_none_or(|h| has.ipv4 == ipv4(h)) && v6.is_none_or(|h| has.ipv6 == Some(ipv6(h)));
            return same.then(|| has.clone());
        }
        let host = match v4 {
            Some(host) => host,
            None => self.choice(now)?,
        };
        let host6 = v6.or(self.subnet6.map(|_| host));
        if !self.v4_can(host) || host6.is_some_and(|host6| !self.v6_can(host6)) {
            return None;
        }
        let lease = Lease { owner: owner.clone(), ipv4: ipv4(host), ipv6: host6.map(ipv6) };
        self.leases.push(lease.clone());
        Some(lease)
    }

    fn release(&mut self, owner: &Owner, now: Duration) -> Option<Lease> {
        let at = self.leases.iter().position(|lease| lease.owner == *owner)?;
        let lease = self.leases.remove(at);
        self.released.push((u32::from(lease.ipv4) - NET, now));
        if let Some(ipv6) = lease.ipv6 {
            self.released.push(((u128::from(ipv6) - NET6) as u32, now));
        }
        Some(lease)
    }
}

fn op() -> impl Strategy<Value = Op> {
    let host = || prop_oneof![3 => Just(None), 1 => (0u32..40).prop_map(Some)];
    prop_oneof![
        5 => (0u8..24, host(), host()).prop_map(|(owner, v4, v6)| Op::Request(owner, v4, v6)),
        3 => (0u8..24).prop_map(Op::Release),
        1 => (0u64..45).prop_map(Op::Wait),
    ]
}

fn shape() -> impl Strategy<Value = Shape> {
    (27u8..=30).prop_flat_map(|len| {
        let size = 1u32 << (32 - len);
        let range = prop::option::of((0..size, len..=32));
        (range, 1..size - 1, prop::option::of(1..size)).prop_map(move |(range, gateway, gateway6)| Shape {
            len,
            range,
            gateway,
            gateway6,
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn leases_are_the_models(shape in shape(), ops in prop::collection::vec(op(), 0..120)) {
        let Some(subnet) = shape.subnet() else { return Ok(()) };
        let subnet6 = shape.subnet6(&subnet);
        let mut leases = Leases::new(subnet, subnet6);
        let mut model = Model { subnet, subnet6, leases: Vec::new(), released: Vec::new() };
        let mut now = Duration::ZERO;
        for op in ops {
            match op {
                Op::Request(owner, v4, v6) => {
                    let owner = Owner::new(owner.to_string());
                    let wanted = Wanted {
                        ipv4: v4.map(|host| Ipv4Addr::from(NET + host)),
                        ipv6: v6.map(|host| Ipv6Addr::from(NET6 + u128::from(host))),
                    };
                    prop_assert_eq!(leases.request(&owner, wanted, now).ok(), model.request(&owner, v4, v6, now));
                }
                Op::Release(owner) => {
                    let owner = Owner::new(owner.to_string());
                    prop_assert_eq!(leases.release(&owner, now), model.release(&owner, now));
                }
                Op::Wait(seconds) => now += Duration::from_secs(seconds),
            }
        }
        model.leases.sort_by(|a, b| a.owner.cmp(&b.owner));
        prop_assert_eq!(leases.iter().cloned().collect::<Vec<_>>(), model.leases.clone());
        let (restored, refused) = Leases::restore(subnet, subnet6, leases.iter().cloned());
        prop_assert!(refused.is_empty());
        prop_assert_eq!(restored.iter().cloned().collect::<Vec<_>>(), model.leases);
    }

    #[test]
    fn a_subnet_can_lease_exactly_its_capacity(shape in shape()) {
        let Some(subnet) = shape.subnet() else { return Ok(()) };
        let mut leases = Leases::new(subnet, None);
        for i in 0..subnet.capacity() {
            prop_assert!(leases.request(&Owner::new(i.to_string()), Wanted::default(), Duration::ZERO).is_ok());
        }
        prop_assert!(leases.request(&Owner::new("one more"), Wanted::default(), Duration::ZERO).is_err());
    }
}
