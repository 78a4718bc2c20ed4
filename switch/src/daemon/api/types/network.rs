//! Networks.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::frame::Mac;

/// `auto`, `auto-2013`, or a given subnet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Subnet4 {
    /// The first of Docker's ranges that overlaps nothing on the host.
    #[default]
    Auto,
    /// The same of Docker's list of 2013, for scripts that know its addresses.
    Auto2013,
    /// This one.
    Given(Ipv4Net),
}

/// `auto`, `off`, or a given subnet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Subnet6 {
    /// A unique local /64 of our own.
    #[default]
    Auto,
    /// No IPv6.
    Off,
    /// This one.
    Given(Ipv6Net),
}

/// The way out of a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UplinkKind {
    /// Through sockets of the daemon's user.
    #[default]
    User,
    /// Through the host's routing; needs root.
    Host,
    /// There is none: an internal network.
    None,
}

impl std::fmt::Display for UplinkKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            UplinkKind::User => "user",
            UplinkKind::Host => "host",
            UplinkKind::None => "none",
        })
    }
}

/// A network to be made; what is absent takes its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkCreate {
    /// Its name.
    pub name: String,
    /// IPv4 subnet; `auto`.
    pub subnet: Option<Subnet4>,
    /// IPv4 gateway; the first address.
    pub gateway: Option<Ipv4Addr>,
    /// Addresses to lease from; the subnet.
    pub range: Option<Ipv4Net>,
    /// IPv6 subnet; `auto`.
    pub ipv6: Option<Subnet6>,
    /// IPv6 gateway; the first address.
    pub gateway6: Option<Ipv6Addr>,
    /// Containers talk freely; true.
    pub icc: Option<bool>,
    /// Largest IP packet, 68 to 65521 bytes (1280 at least with IPv6); 1500.
    pub mtu: Option<u32>,
    /// The way out; user.
    pub uplink: Option<UplinkKind>,
    /// Containers may reach the host itself; false.
    pub host_access: Option<bool>,
    /// Seconds after which a learned MAC is forgotten, 15 to 3600; 300.
    pub ageing: Option<u32>,
    /// Most learned MACs; 8192.
    pub fdb_limit: Option<u32>,
    /// Full-sized flooded copies a second that one port may cause; 500.
    pub flood_limit: Option<u32>,
}

/// A change of a live network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkSet {
    /// Containers talk freely.
    pub icc: Option<bool>,
    /// Largest IP packet, in bytes.
    pub mtu: Option<u32>,
    /// Containers may reach the host itself.
    pub host_access: Option<bool>,
}

/// A network, as `network inspect` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkInfo {
    /// Its name.
    pub name: String,
    /// IPv4 subnet.
    pub subnet: Ipv4Net,
    /// IPv4 gateway.
    pub gateway: Ipv4Addr,
    /// Addresses leased from, where narrower than the subnet.
    pub range: Option<Ipv4Net>,
    /// IPv6 subnet.
    pub subnet6: Option<Ipv6Net>,
    /// IPv6 gateway.
    pub gateway6: Option<Ipv6Addr>,
    /// The switch's own MAC there.
    pub gateway_mac: Mac,
    /// Largest IP packet, in bytes.
    pub mtu: u32,
    /// Containers talk freely.
    pub icc: bool,
    /// The way out.
    pub uplink: UplinkKind,
    /// Containers may reach the host itself.
    pub host_access: bool,
    /// The address by which containers reach the host, where they may.
    pub host: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub host6: Option<Ipv6Addr>,
    /// Names of its endpoints, sorted.
    pub endpoints: Vec<String>,
    /// What is wrong with it, as an overlapping host route.
    pub warnings: Vec<String>,
}

macro_rules! text_enum {
    ($name:ident, $($text:literal => $variant:ident),+) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self {
                    $($name::$variant => f.write_str($text),)+
                    $name::Given(net) => write!(f, "{net}"),
                }
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok($name::$variant),)+
                    other => other.parse().map($name::Given).map_err(|_| {
                        format!("`{other}` is neither {} nor a subnet in CIDR notation", [$($text),+].join(" nor "))
                    }),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

text_enum!(Subnet4, "auto" => Auto, "auto-2013" => Auto2013);
text_enum!(Subnet6, "auto" => Auto, "off" => Off);
