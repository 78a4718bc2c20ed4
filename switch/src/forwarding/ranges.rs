//! A set of addresses, made once of prefixes and then only read.

use std::net::IpAddr;

use ipnet::IpNet;

/// A set of addresses: disjoint ranges, first to last, sorted. IPv4 addresses stand in their mapped form, which no entry
/// of IPv6 has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Box<[(u128, u128)]>);

impl Ranges {
    /// What these prefixes hold, in any order.
    pub fn new(prefixes: impl Iterator<Item = IpNet>) -> Self {
        let mut ranges: Vec<(u128, u128)> =
            prefixes.map(|net| (number(net.network()), number(net.broadcast()))).collect();
        ranges.sort_unstable();
        ranges.dedup_by(|next, held| {
            let overlaps = next.0 <= held.1;
            if overlaps {
                held.1 = held.1.max(next.1);
            }
            overlaps
        });
        Ranges(ranges.into_boxed_slice())
    }

    /// Whether `address` is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = number(address);
        let behind = self.0.partition_point(|(first, _)| *first <= address);
        behind.checked_sub(1).is_some_and(|at| address <= self.0[at].1)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn net() -> impl Strategy<Value = IpNet> {
        // Few bits differ, so that prefixes overlap, touch and hold each other.
        let v4 = (any::<u8>(), 24..=32_u8)
            .prop_map(|(low, len)| IpNet::new(Ipv4Addr::new(10, 0, 0, low).into(), len).unwrap());
        let v6 = (any::<u8>(), 120..=128_u8).prop_map(|(low, len)| {
            IpNet::new(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, low.into()).into(), len).unwrap()
        });
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn ranges_hold_what_one_of_their_prefixes_holds(prefixes in prop::collection::vec(net(), 0..20), low: u8) {
            let ranges = Ranges::new(prefixes.iter().copied());
            for address in [
                IpAddr::V4(Ipv4Addr::new(10, 0, 0, low)),
                IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, low.into())),
            ] {
                prop_assert_eq!(ranges.contains(address), prefixes.iter().any(|net| net.contains(&address)));
            }
            prop_assert!(ranges.0.windows(2).all(|pair| pair[0].1 < pair[1].0), "sorted and disjoint");
        }
    }
}
