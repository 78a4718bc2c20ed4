//! A device to be made.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Least MTU of an Ethernet device: ETH_MIN_MTU, RFC 791's 68 bytes.
pub const MTU_MIN: u32 = 68;
/// Largest MTU of a TAP: drivers/net/tun.c, MAX_MTU - ETH_HLEN.
pub const MTU_MAX: u32 = 65521;
/// RFC 8200 section 5: the least MTU of a link that carries IPv6.
const MTU_MIN_IPV6: u32 = 1280;
/// IFNAMSIZ less the final zero.
pub(crate) const NAME_MAX: usize = 15;

/// Whether a TAP carries the virtio-net header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OffloadMode {
    /// With all the kernel grants; plain where it grants nothing.
    #[default]
    Auto,
    /// With it, or an error.
    On,
    /// Plain.
    Off,
}

/// A device to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSpec {
    /// Its name in the namespace, as `eth0`.
    pub ifname: String,
    /// Its MAC.
    pub mac: [u8; 6],
    /// Largest IP packet, in bytes.
    pub mtu: u32,
    /// Addresses with their prefix lengths. IPv6 ones are set without DAD.
    pub addresses: Vec<IpNet>,
    /// Default routes; a family that has one already keeps it.
    pub gateways: Vec<IpAddr>,
    /// Offload wanted.
    pub offload: OffloadMode,
    /// TUNSETOWNER: the daemon's user, as seen from the host.
    pub owner: u32,
}

impl DeviceSpec {
    /// Checks what the kernel would refuse half-way.
    pub(crate) fn check(&self) -> Result<()> {
        check_name(&self.ifname)?;
        let has_ipv6 = self.addresses.iter().any(|address| matches!(address, IpNet::V6(_)));
        check_mtu(self.mtu, if has_ipv6 { MTU_MIN_IPV6 } else { MTU_MIN })
    }
}

/// Checks an MTU.
pub(crate) fn check_mtu(mtu: u32, min: u32) -> Result<()> {
    if (min..=MTU_MAX).contains(&mtu) { Ok(()) } else { Err(Error::BadMtu { mtu, min, max: MTU_MAX }) }
}

/// Checks a device name as the kernel's `dev_valid_name` does, and refuses `%`, which it takes for a pattern.
pub(crate) fn check_name(ifname: &str) -> Result<()> {
    let refused = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':' | '%');
    let bad =
        ifname.is_empty() || ifname.len() > NAME_MAX || matches!(ifname, "." | "..") || ifname.chars().any(refused);
    if bad { Err(Error::BadName { ifname: ifname.to_owned() }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_kernel_refuses_are_refused() {
        for name in ["", ".", "..", "a/b", "a b", "eth%d", "a:b", "a-name-of-16-by"] {
            assert_eq!(check_name(name).is_ok(), name == "a-name-of-16-by", "{name}");
        }
        assert!(check_name("sixteen-bytes-xx").is_err());
        assert!(check_name("eth0").is_ok());
    }

    #[test]
    fn ipv6_wants_1280() {
        let mut spec = DeviceSpec {
            ifname: "eth0".into(),
            mac: [2, 0, 0, 0, 0, 1],
            mtu: 1279,
            addresses: vec!["fd00::2/64".parse().unwrap()],
            gateways: vec![],
            offload: OffloadMode::Auto,
            owner: 0,
        };
        assert_eq!(spec.check(), Err(Error::BadMtu { mtu: 1279, min: 1280, max: MTU_MAX }));
        spec.addresses.clear();
        assert_eq!(spec.check(), Ok(()));
    }
}
