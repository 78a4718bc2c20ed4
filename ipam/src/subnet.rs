//! The IPv4 side of a network: subnet, gateway and the range leased from, checked against each other once and for
//! all.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// A subnet with its gateway and the range that addresses are leased from. It cannot be had unchecked, not even
/// from a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked", into = "Unchecked")]
pub struct Subnet {
    net: Ipv4Net,
    gateway: Ipv4Addr,
    range: Ipv4Net,
}

/// A /30 holds a gateway and one endpoint.
const LONGEST: u8 = 30;

/// Blocks that mean something to every IP stack. RFC 6890.
const SPECIAL: [(Ipv4Net, &str); 5] = [
    (Ipv4Net::new_assert(Ipv4Addr::new(0, 0, 0, 0), 8), "\"this network\" (0.0.0.0/8)"),
    (Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8), "loopback (127.0.0.0/8)"),
    (Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16), "link-local (169.254.0.0/16)"),
    (Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4), "multicast (224.0.0.0/4)"),
    (Ipv4Net::new_assert(Ipv4Addr::new(240, 0, 0, 0), 4), "reserved (240.0.0.0/4)"),
];

impl Subnet {
    /// A subnet with this gateway, or its first address; leasing from this range, or from all of it.
    ///
    /// # Errors
    /// [`SubnetError`] says which of them cannot be, and why.
    pub fn new(net: Ipv4Net, gateway: Option<Ipv4Addr>, range: Option<Ipv4Net>) -> Result<Self, SubnetError> {
        if net.trunc() != net {
            return Err(SubnetError::HostBits { given: net, meant: net.trunc() });
        }
        if let Some((_, what)) = SPECIAL.iter().find(|(block, _)| block.contains(&net) || net.contains(block)) {
            return Err(SubnetError::Special { net, what });
        }
        if net.prefix_len() > LONGEST {
            return Err(SubnetError::TooSmall { net });
        }
        let gateway = gateway.unwrap_or(Ipv4Addr::from(u32::from(net.network()) + 1));
        check_gateway(net, gateway)?;
        let subnet = Subnet { net, gateway, range: range.unwrap_or(net) };
        subnet.check_range()?;
        Ok(subnet)
    }

    /// The subnet itself.
    pub fn net(&self) -> Ipv4Net {
        self.net
    }

    /// The gateway, never leased.
    pub fn gateway(&self) -> Ipv4Addr {
        self.gateway
    }

    /// Where addresses that nobody asked for by number come from; the subnet, unless narrowed.
    pub fn range(&self) -> Ipv4Net {
        self.range
    }

    /// How many addresses of the range can be leased; 1 at least.
    pub fn capacity(&self) -> u32 {
        let reserved = [self.net.network(), self.net.broadcast(), self.gateway];
        let hosts = self.range_hosts();
        let lost = reserved.iter().filter(|address| self.range.contains(*address)).count();
        hosts.end() - hosts.start() + 1 - u32::try_from(lost).expect("three at most")
    }

    /// The host number of an address inside: its distance from the network's.
    pub(crate) fn host(&self, address: Ipv4Addr) -> u32 {
        u32::from(address) - u32::from(self.net.network())
    }

    /// The address of a host number.
    pub(crate) fn address(&self, host: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.net.network()) + host)
    }

    /// The host numbers of the range, reserved ones included.
    pub(crate) fn range_hosts(&self) -> std::ops::RangeInclusive<u32> {
        self.host(self.range.network())..=self.host(self.range.broadcast())
    }

    fn check_range(&self) -> Result<(), SubnetError> {
        let Subnet { net, range, .. } = *self;
        if range.trunc() != range {
            return Err(SubnetError::RangeHostBits { given: range, meant: range.trunc() });
        }
        if !net.contains(&range) {
            return Err(SubnetError::RangeOutside { range, net });
        }
        if self.capacity() == 0 {
            return Err(SubnetError::RangeEmpty { range });
        }
        Ok(())
    }
}

fn check_gateway(net: Ipv4Net, gateway: Ipv4Addr) -> Result<(), SubnetError> {
    if !net.contains(&gateway) {
        Err(SubnetError::GatewayOutside { gateway, net })
    } else if gateway == net.network() {
        Err(SubnetError::GatewayIsNetwork { gateway, net })
    } else if gateway == net.broadcast() {
        Err(SubnetError::GatewayIsBroadcast { gateway, net })
    } else {
        Ok(())
    }
}

/// Why a subnet, gateway and range cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubnetError {
    /// The address part reaches beyond the prefix.
    #[error("subnet {given} has host bits set (meant {meant}?)")]
    HostBits {
        /// As given.
        given: Ipv4Net,
        /// With them cleared.
        meant: Ipv4Net,
    },
    /// Part of it is set aside for something else.
    #[error("subnet {net} overlaps the addresses set aside for {what}")]
    Special {
        /// The subnet.
        net: Ipv4Net,
        /// For what.
        what: &'static str,
    },
    /// No place for a gateway and an endpoint.
    #[error("subnet {net} is too small for a gateway and an endpoint (/{LONGEST} at the longest)")]
    TooSmall {
        /// The subnet.
        net: Ipv4Net,
    },
    /// The gateway is elsewhere.
    #[error("gateway {gateway} is outside the subnet {net}")]
    GatewayOutside {
        /// The gateway.
        gateway: Ipv4Addr,
        /// The subnet.
        net: Ipv4Net,
    },
    /// The gateway is the first address.
    #[error("gateway {gateway} is the network address of {net}")]
    GatewayIsNetwork {
        /// The gateway.
        gateway: Ipv4Addr,
        /// The subnet.
        net: Ipv4Net,
    },
    /// The gateway is the last address.
    #[error("gateway {gateway} is the broadcast address of {net}")]
    GatewayIsBroadcast {
        /// The gateway.
        gateway: Ipv4Addr,
        /// The subnet.
        net: Ipv4Net,
    },
    /// The address part of the range reaches beyond its prefix.
    #[error("range {given} has host bits set (meant {meant}?)")]
    RangeHostBits {
        /// As given.
        given: Ipv4Net,
        /// With them cleared.
        meant: Ipv4Net,
    },
    /// The range is elsewhere, or wider than the subnet.
    #[error("range {range} is not inside the subnet {net}")]
    RangeOutside {
        /// The range.
        range: Ipv4Net,
        /// The subnet.
        net: Ipv4Net,
    },
    /// Nothing but network, broadcast and gateway address in the range.
    #[error("range {range} holds no address to lease: the network, broadcast and gateway address are reserved")]
    RangeEmpty {
        /// The range.
        range: Ipv4Net,
    },
}

/// A [`Subnet`] as it is written in files.
#[derive(Serialize, Deserialize)]
struct Unchecked {
    net: Ipv4Net,
    gateway: Ipv4Addr,
    range: Ipv4Net,
}

impl From<Subnet> for Unchecked {
    fn from(Subnet { net, gateway, range }: Subnet) -> Self {
        Unchecked { net, gateway, range }
    }
}

impl TryFrom<Unchecked> for Subnet {
    type Error = SubnetError;

    fn try_from(raw: Unchecked) -> Result<Self, SubnetError> {
        Subnet::new(raw.net, Some(raw.gateway), Some(raw.range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(net: &str, gateway: Option<&str>, range: Option<&str>) -> Result<Subnet, String> {
        Subnet::new(net.parse().unwrap(), gateway.map(|g| g.parse().unwrap()), range.map(|r| r.parse().unwrap()))
            .map_err(|e| e.to_string())
    }

    #[test]
    fn the_gateway_is_the_first_address_and_the_range_the_subnet_unless_given() {
        let plain = subnet("192.168.227.0/24", None, None).unwrap();
        assert_eq!((plain.gateway().to_string(), plain.range()), ("192.168.227.1".into(), plain.net()));
        let given = subnet("192.168.227.0/24", Some("192.168.227.254"), Some("192.168.227.128/25")).unwrap();
        assert_eq!(
            (given.gateway().to_string(), given.range().to_string()),
            ("192.168.227.254".into(), "192.168.227.128/25".into())
        );
    }

    #[test]
    fn host_bits_are_refused_with_what_was_meant() {
        assert_eq!(
            subnet("10.1.2.3/24", None, None),
            Err("subnet 10.1.2.3/24 has host bits set (meant 10.1.2.0/24?)".into())
        );
        assert_eq!(
            subnet("10.1.2.0/24", None, Some("10.1.2.3/25")),
            Err("range 10.1.2.3/25 has host bits set (meant 10.1.2.0/25?)".into())
        );
    }

    #[test]
    fn subnets_of_special_meaning_are_refused() {
        for net in ["127.0.0.0/8", "127.9.0.0/16", "126.0.0.0/7", "169.254.0.0/16", "169.254.169.0/24", "224.0.0.0/24"]
        {
            assert!(subnet(net, None, None).unwrap_err().contains("set aside"), "{net}");
        }
        for net in ["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "0.1.0.0/16", "240.0.0.0/8", "255.255.255.252/30"] {
            assert!(subnet(net, None, None).unwrap_err().contains("set aside"), "{net}");
        }
    }

    #[test]
    fn a_slash_30_is_the_smallest() {
        assert_eq!(subnet("10.0.0.0/30", None, None).unwrap().capacity(), 1);
        for net in ["10.0.0.0/31", "10.0.0.0/32"] {
            assert!(subnet(net, None, None).unwrap_err().contains("too small"), "{net}");
        }
    }

    #[test]
    fn the_gateway_must_be_a_host_of_the_subnet() {
        let refused = |gateway| subnet("10.1.2.0/24", Some(gateway), None).unwrap_err();
        assert_eq!(refused("10.1.3.1"), "gateway 10.1.3.1 is outside the subnet 10.1.2.0/24");
        assert_eq!(refused("10.1.2.0"), "gateway 10.1.2.0 is the network address of 10.1.2.0/24");
        assert_eq!(refused("10.1.2.255"), "gateway 10.1.2.255 is the broadcast address of 10.1.2.0/24");
    }

    #[test]
    fn the_range_must_be_inside_and_hold_an_address() {
        let refused = |range| subnet("10.1.2.0/24", None, Some(range)).unwrap_err();
        assert_eq!(refused("10.1.3.0/25"), "range 10.1.3.0/25 is not inside the subnet 10.1.2.0/24");
        assert_eq!(refused("10.1.0.0/16"), "range 10.1.0.0/16 is not inside the subnet 10.1.2.0/24");
        for range in ["10.1.2.0/31", "10.1.2.1/32", "10.1.2.255/32"] {
            assert!(refused(range).contains("holds no address to lease"), "{range}");
        }
        assert_eq!(subnet("10.1.2.0/24", None, Some("10.1.2.2/32")).unwrap().capacity(), 1);
    }

    #[test]
    fn capacity_leaves_out_what_is_reserved_in_the_range() {
        assert_eq!(subnet("172.17.0.0/16", None, None).unwrap().capacity(), 65533);
        assert_eq!(subnet("172.17.0.0/16", None, Some("172.17.5.0/24")).unwrap().capacity(), 256);
        assert_eq!(subnet("172.17.0.0/16", Some("172.17.5.7"), Some("172.17.5.0/24")).unwrap().capacity(), 255);
    }

    #[test]
    fn a_stored_subnet_is_read_back_and_a_broken_one_refused() {
        let kept = subnet("10.1.2.0/24", Some("10.1.2.9"), Some("10.1.2.128/25")).unwrap();
        let text = serde_json::to_string(&kept).unwrap();
        assert_eq!(serde_json::from_str::<Subnet>(&text).unwrap(), kept);
        let broken = text.replace("10.1.2.9", "10.9.9.9");
        assert!(serde_json::from_str::<Subnet>(&broken).unwrap_err().to_string().contains("outside the subnet"));
    }
}
