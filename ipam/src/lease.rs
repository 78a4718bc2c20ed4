//! A lease: which addresses an endpoint has, under whose name, and why somebody cannot have one.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

/// Who holds a lease: any text that is unique and stays the same, as an endpoint's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Owner(String);

impl Owner {
    /// Any text.
    pub fn new(key: impl Into<String>) -> Self {
        Owner(key.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The addresses of one owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Whose.
    pub owner: Owner,
    /// The IPv4 address.
    pub ipv4: Ipv4Addr,
    /// The IPv6 address, where the network has IPv6.
    pub ipv6: Option<Ipv6Addr>,
}

impl Lease {
    /// The MAC of an endpoint that did not ask for another.
    pub fn mac(&self) -> [u8; 6] {
        mac_of(self.ipv4)
    }
}

/// Docker's derivation up to version 27: `02:42`, which is locally administered and no group, and the address. An
/// address that is leased again comes with the same MAC, so neighbours' caches stay right.
pub const fn mac_of(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x42, a, b, c, d]
}

/// The addresses somebody asks for; what is `None` is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// This IPv4 address, anywhere in the subnet, also outside the range.
    pub ipv4: Option<Ipv4Addr>,
    /// This IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
}

/// What an address that is never leased is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// First address of an IPv4 subnet.
    Network,
    /// Last address of an IPv4 subnet.
    Broadcast,
    /// First address of an IPv6 subnet: its routers' anycast address. RFC 4291 2.6.1.
    RouterAnycast,
    /// The gateway.
    Gateway,
}

impl fmt::Display for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reserved::Network => "network address",
            Reserved::Broadcast => "broadcast address",
            Reserved::RouterAnycast => "subnet-router anycast address",
            Reserved::Gateway => "gateway",
        })
    }
}

/// Why there is no lease. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// The address asked for is elsewhere.
    #[error("address {address} is outside the subnet {subnet}")]
    Outside {
        /// The address.
        address: IpAddr,
        /// The subnet.
        subnet: IpNet,
    },
    /// The address is never leased.
    #[error("address {address} is reserved: it is the {role} of {subnet}")]
    Reserved {
        /// The address.
        address: IpAddr,
        /// What it is.
        role: Reserved,
        /// Where.
        subnet: IpNet,
    },
    /// The address is somebody else's. It may be the IPv6 address that belongs to the IPv4 address asked for.
    #[error("address {address} is taken by {by}")]
    Taken {
        /// The address.
        address: IpAddr,
        /// Whose it is.
        by: Owner,
    },
    /// The owner has a lease, of another address than it asks for now.
    #[error("{owner} has address {has} and asks for {wanted}; release the first")]
    HasAnother {
        /// Who.
        owner: Owner,
        /// What it has.
        has: IpAddr,
        /// What it asks for.
        wanted: IpAddr,
    },
    /// An IPv6 address was asked for where there is no IPv6.
    #[error("address {address} cannot be had: the network has no IPv6 subnet")]
    NoIpv6 {
        /// The address.
        address: Ipv6Addr,
    },
    /// No address is left.
    #[error(
        "no free address left in {range} ({leased} leased); detach an endpoint, or make a network with a \
         larger range"
    )]
    Exhausted {
        /// Where addresses come from.
        range: Ipv4Net,
        /// Number of leases of the subnet.
        leased: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mac_is_02_42_and_the_address() {
        let lease = Lease { owner: Owner::new("web"), ipv4: Ipv4Addr::new(172, 17, 0, 2), ipv6: None };
        assert_eq!(lease.mac(), [0x02, 0x42, 0xac, 0x11, 0x00, 0x02]);
    }

    #[test]
    fn a_lease_is_read_back_from_text() {
        let lease =
            Lease { owner: Owner::new("web"), ipv4: Ipv4Addr::new(172, 17, 0, 2), ipv6: "fd00::2".parse().ok() };
        let text = r#"{"owner":"web","ipv4":"172.17.0.2","ipv6":"fd00::2"}"#;
        assert_eq!(serde_json::to_string(&lease).unwrap(), text);
        assert_eq!(serde_json::from_str::<Lease>(text).unwrap(), lease);
    }
}
