//! Network namespaces, and TAP devices born, moved and configured in them.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A namespace's identity: what `stat` says of its nsfs file. Valid while the namespace lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NamespaceId {
    /// Device number of nsfs.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
}

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

/// What an opened TAP is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TapInfo {
    /// Its name in its namespace.
    pub ifname: String,
    /// Bytes of virtio-net header before each frame; 0 is a plain TAP.
    pub header_len: usize,
    /// The TUN_F_* bits the kernel granted.
    pub offload: u32,
}

/// An open TAP. Non-blocking; the send buffer was never set.
#[derive(Debug)]
pub struct Tap {
    /// The descriptor.
    pub fd: OwnedFd,
    /// What it is.
    pub info: TapInfo,
}
