//! The IPv6 side of a network: subnet and gateway, checked.
//!
//! There is no range: an endpoint's host number is the one of its IPv4 address (see [`Leases`](crate::Leases)), so
//! a subnet must leave at least 32 bits for it.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};

use crate::Subnet;

/// An IPv6 subnet with its gateway. It cannot be had unchecked, not even from a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked", into = "Unchecked")]
pub struct SubnetV6 {
    net: Ipv6Net,
    gateway: Ipv6Addr,
}

/// Longer ones leave less than the 32 bits of an IPv4 host number.
const LONGEST: u8 = 96;

/// Blocks that mean something to every IP stack. RFC 4291 2.4.
const SPECIAL: [(Ipv6Net, &str); 3] = [
    (Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 8), "loopback, mapped and translated addresses (::/8)"),
    (Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10), "link-local (fe80::/10)"),
    (Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8), "multicast (ff00::/8)"),
];

impl SubnetV6 {
    /// A subnet with this gateway, or with the one whose host number is that of the IPv4 gateway: `::1` beside
    /// `.0.1`.
    ///
    /// # Errors
    /// [`SubnetV6Error`] says which of them cannot be, and why.
    pub fn new(net: Ipv6Net, gateway: Option<Ipv6Addr>, beside: &Subnet) -> Result<Self, SubnetV6Error> {
        let mirror = Ipv6Addr::from(u128::from(net.network()) | u128::from(beside.host(beside.gateway())));
        Self::checked(net, gateway.unwrap_or(mirror))
    }

    /// The subnet itself.
    pub fn net(&self) -> Ipv6Net {
        self.net
    }

    /// The gateway, never leased.
    pub fn gateway(&self) -> Ipv6Addr {
        self.gateway
    }

    /// The address with an IPv4 address's host number.
    pub(crate) fn mirror(&self, host: u32) -> Ipv6Addr {
        Ipv6Addr::from(u128::from(self.net.network()) | u128::from(host))
    }

    /// The host number of an address inside, if an IPv4 address could have it.
    pub(crate) fn host(&self, address: Ipv6Addr) -> Option<u32> {
        u32::try_from(u128::from(address) - u128::from(self.net.network())).ok()
    }

    fn checked(net: Ipv6Net, gateway: Ipv6Addr) -> Result<Self, SubnetV6Error> {
        if net.trunc() != net {
            Err(SubnetV6Error::HostBits { given: net, meant: net.trunc() })
        } else if let Some((_, what)) = SPECIAL.iter().find(|(block, _)| block.contains(&net) || net.contains(block)) {
            Err(SubnetV6Error::Special { net, what })
        } else if net.prefix_len() > LONGEST {
            Err(SubnetV6Error::TooSmall { net })
        } else if !net.contains(&gateway) {
            Err(SubnetV6Error::GatewayOutside { gateway, net })
        } else if gateway == net.network() {
            Err(SubnetV6Error::GatewayIsAnycast { gateway, net })
        } else {
            Ok(SubnetV6 { net, gateway })
        }
    }
}

/// Why an IPv6 subnet and gateway cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubnetV6Error {
    /// The address part reaches beyond the prefix.
    #[error("subnet {given} has host bits set (meant {meant}?)")]
    HostBits {
        /// As given.
        given: Ipv6Net,
        /// With them cleared.
        meant: Ipv6Net,
    },
    /// Part of it is set aside for something else.
    #[error("subnet {net} overlaps the addresses set aside for {what}")]
    Special {
        /// The subnet.
        net: Ipv6Net,
        /// For what.
        what: &'static str,
    },
    /// No place for an IPv4 host number.
    #[error("subnet {net} is too small (/{LONGEST} at the longest: 32 bits hold the host number of the IPv4 address)")]
    TooSmall {
        /// The subnet.
        net: Ipv6Net,
    },
    /// The gateway is elsewhere.
    #[error("gateway {gateway} is outside the subnet {net}")]
    GatewayOutside {
        /// The gateway.
        gateway: Ipv6Addr,
        /// The subnet.
        net: Ipv6Net,
    },
    /// The gateway is the first address.
    #[error("gateway {gateway} is the subnet-router anycast address of {net}")]
    GatewayIsAnycast {
        /// The gateway.
        gateway: Ipv6Addr,
        /// The subnet.
        net: Ipv6Net,
    },
}

/// A [`SubnetV6`] as it is written in files.
#[derive(Serialize, Deserialize)]
struct Unchecked {
    net: Ipv6Net,
    gateway: Ipv6Addr,
}

impl From<SubnetV6> for Unchecked {
    fn from(SubnetV6 { net, gateway }: SubnetV6) -> Self {
        Unchecked { net, gateway }
    }
}

impl TryFrom<Unchecked> for SubnetV6 {
    type Error = SubnetV6Error;

    fn try_from(raw: Unchecked) -> Result<Self, SubnetV6Error> {
        SubnetV6::checked(raw.net, raw.gateway)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(net: &str, gateway: Option<&str>) -> Result<SubnetV6, String> {
        let beside = Subnet::new("10.0.0.0/24".parse().unwrap(), Some("10.0.0.254".parse().unwrap()), None).unwrap();
        SubnetV6::new(net.parse().unwrap(), gateway.map(|g| g.parse().unwrap()), &beside).map_err(|e| e.to_string())
    }

    #[test]
    fn the_gateway_has_the_ipv4_gateways_host_number_unless_given() {
        assert_eq!(subnet("fd00:1::/64", None).unwrap().gateway().to_string(), "fd00:1::fe");
        assert_eq!(subnet("fd00:1::/64", Some("fd00:1::1")).unwrap().gateway().to_string(), "fd00:1::1");
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_reason() {
        let refused = |net, gateway| subnet(net, gateway).unwrap_err();
        assert_eq!(refused("fd00::1/64", None), "subnet fd00::1/64 has host bits set (meant fd00::/64?)");
        for net in ["fe80::/64", "ff02::/64", "::/96", "::ffff:0:0/96", "fe00::/8", "::/0"] {
            assert!(refused(net, None).contains("set aside"), "{net}");
        }
        assert!(refused("fd00::/97", None).contains("too small"));
        assert_eq!(
            refused("fd00::/64", Some("fd00:0:0:1::1")),
            "gateway fd00:0:0:1::1 is outside the subnet fd00::/64"
        );
        assert_eq!(
            refused("fd00::/64", Some("fd00::")),
            "gateway fd00:: is the subnet-router anycast address of fd00::/64"
        );
    }

    #[test]
    fn a_stored_subnet_is_read_back_and_a_broken_one_refused() {
        let kept = subnet("fd00:1::/64", None).unwrap();
        let text = serde_json::to_string(&kept).unwrap();
        assert_eq!(serde_json::from_str::<SubnetV6>(&text).unwrap(), kept);
        assert!(serde_json::from_str::<SubnetV6>(&text.replace("::fe", "::")).is_err());
    }
}
