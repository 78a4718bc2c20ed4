//! An open TAP.
//!
//! Normally it carries the virtio-net header with every offload the kernel grants: a container's TCP then hands over
//! frames of up to 64 KB unsummed and unsegmented. A kernel without IFF_VNET_HDR, or `OffloadMode::Off`, gets the plain
//! TAP of `tun-tap`: header length 0, else the same.
//!
//! Deliberately absent: TUNSETSNDBUF. A write takes the kernel's cheap path for small frames only while the descriptor is
//! non-blocking and the send buffer was never set (drivers/net/tun.c, tun_can_build_skb).

use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use serde::{Deserialize, Serialize};
use tun_tap::{Iface, Mode};

use crate::device::OffloadMode;
use crate::error::{Error, Os, Result};
use crate::kernel::kernel_version;
use crate::tun;

/// `struct virtio_net_hdr`, virtio 1.2 section 5.1.6, without num_buffers.
const HEADER_LEN: usize = 10;

// include/uapi/linux/if_tun.h
const TUN_F_CSUM: u32 = 0x01;
const TUN_F_TSO4: u32 = 0x02;
const TUN_F_TSO6: u32 = 0x04;
const TUN_F_TSO_ECN: u32 = 0x08;
const TUN_F_USO4: u32 = 0x20;
const TUN_F_USO6: u32 = 0x40;

/// Offloads in the order they are asked for: the first the kernel knows is had. USO is Linux 6.2's.
const OFFLOADS: [u32; 5] = [
    TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN | TUN_F_USO4 | TUN_F_USO6,
    TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN,
    TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6,
    TUN_F_CSUM,
    0,
];

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

/// The first kernel whose IPv4 takes a packet of more than 64 KB, whose length field is 0 then: 6.3. Its IPv6 takes them as
/// RFC 2675 has them, with their length in an option.
const BIG_TCP_KERNEL: (u32, u32) = (6, 3);

impl TapInfo {
    /// Whether TCP may be written to it in frames of more than 64 KB, which the kernel calls BIG TCP. It never sends such itself.
    pub fn takes_big_tcp(&self) -> bool {
        let tso = TUN_F_TSO4 | TUN_F_TSO6;
        self.offload & tso == tso && kernel_version().is_some_and(|version| version >= BIG_TCP_KERNEL)
    }
}

/// An open TAP. Non-blocking; the send buffer was never set.
#[derive(Debug)]
pub struct Tap {
    /// The descriptor.
    pub fd: OwnedFd,
    /// What it is.
    pub info: TapInfo,
}

impl Tap {
    /// Makes a TAP named `name` (`%d` becomes a number) in the calling thread's namespace, or attaches to the persistent
    /// one of that name. It goes with its last descriptor until [`persist`](Tap::persist) is called.
    pub(crate) fn open(name: &str, mode: OffloadMode) -> Result<Tap> {
        let node = tun::open_node()?;
        let features = tun::features(node.as_fd()).map_err(|os| Error::TunNode { os: os.into() })?;
        let able = features & libc::IFF_VNET_HDR != 0;
        match mode {
            OffloadMode::On if !able => Err(Error::NoOffload { ifname: name.into() }),
            OffloadMode::On | OffloadMode::Auto if able => Tap::with_header(node, name, mode),
            _ => {
                drop(node);
                Tap::plain(name)
            }
        }
    }

    /// Lets the device outlive every process that holds it, owned by the user `owner` of the caller's user namespace: one
    /// without an owner could be attached by whoever opens the node.
    pub fn persist(&self, owner: u32) -> Result<()> {
        tun::set_owner(self.fd.as_fd(), owner).map_err(|os| self.failed("set its owner", os))?;
        tun::set_persist(self.fd.as_fd(), true).map_err(|os| self.failed("make it persistent", os))
    }

    /// Lets the device go with its last descriptor, and closes this one, which takes the kernel 16 ms when it is the last.
    /// A device that is gone already, with its namespace, is no error.
    pub fn destroy(self) -> Result<()> {
        let_go(self.fd.as_fd()).map_err(|os| self.failed("make it not persistent", os))
    }

    /// Another descriptor of the same device.
    pub fn duplicate(&self) -> Result<Tap> {
        let fd = self.fd.try_clone().map_err(|error| self.failed("duplicate its descriptor", Os::from(error)))?;
        Ok(Tap { fd, info: self.info.clone() })
    }

    fn with_header(node: OwnedFd, name: &str, mode: OffloadMode) -> Result<Tap> {
        let fd = node.as_fd();
        let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        let ifname = tun::set_iff(fd, name, flags).map_err(|os| failed(name, "create", os))?;
        tun::set_vnet_hdr_sz(fd, HEADER_LEN).map_err(|os| failed(&ifname, "set the header's length", os))?;
        tun::set_vnet_le(fd).map_err(|os| failed(&ifname, "set the header's byte order", os))?;
        let offload = grant(fd, &ifname)?;
        if mode == OffloadMode::On && offload == 0 {
            return Err(Error::NoOffload { ifname });
        }
        check(fd, &ifname, flags)?;
        Ok(Tap { fd: node, info: TapInfo { ifname, header_len: HEADER_LEN, offload } })
    }

    fn plain(name: &str) -> Result<Tap> {
        let iface =
            Iface::without_packet_info(name, Mode::Tap).map_err(|error| failed(name, "create", Os::from(error)))?;
        let ifname = iface.name().to_owned();
        // SAFETY: the descriptor was just given up by its only owner.
        let fd = unsafe { OwnedFd::from_raw_fd(iface.into_raw_fd()) };
        fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK))
            .and_then(|_| fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)))
            .map_err(|os| failed(&ifname, "make it non-blocking", os))?;
        // A device attached again may have been another program's, with offloads set.
        tun::set_offload(fd.as_fd(), 0).map_err(|os| failed(&ifname, "set its offloads", os))?;
        check(fd.as_fd(), &ifname, libc::IFF_TAP | libc::IFF_NO_PI)?;
        Ok(Tap { fd, info: TapInfo { ifname, header_len: 0, offload: 0 } })
    }

    fn failed(&self, step: &str, os: impl Into<Os>) -> Error {
        failed(&self.info.ifname, step, os)
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Asks downwards for offloads until the kernel knows all of a set.
fn grant(fd: BorrowedFd<'_>, ifname: &str) -> Result<u32> {
    for offload in OFFLOADS {
        match tun::set_offload(fd, offload) {
            Ok(()) => return Ok(offload),
            Err(Errno::EINVAL) => {}
            Err(os) => return Err(failed(ifname, "set its offloads", os)),
        }
    }
    Ok(0)
}

/// The device is the kind asked for: attaching by name can find another.
fn check(fd: BorrowedFd<'_>, ifname: &str, wanted: libc::c_int) -> Result<()> {
    let (_, flags) = tun::iff(fd).map_err(|os| failed(ifname, "ask what it is", os))?;
    let kind = libc::IFF_TAP | libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;
    if flags & kind == wanted { Ok(()) } else { Err(Error::NotOurTap { ifname: ifname.into() }) }
}

/// Lets the device of `fd` go with its last descriptor, for whoever has one and no [`Tap`]. A device that is gone is no error.
///
/// # Errors
/// The kernel's.
pub fn let_go(fd: BorrowedFd<'_>) -> std::result::Result<(), Errno> {
    match tun::set_persist(fd, false) {
        Err(errno) if errno != Errno::EBADFD => Err(errno),
        _ => Ok(()),
    }
}

fn failed(ifname: &str, step: &str, os: impl Into<Os>) -> Error {
    Error::Tap { ifname: ifname.into(), step: step.into(), os: os.into() }
}
