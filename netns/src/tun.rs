//! The ioctls of `/dev/net/tun` (include/uapi/linux/if_tun.h), typed.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::namespace::Namespace;

/// The device node.
pub(crate) const NODE: &str = "/dev/net/tun";

/// include/uapi/linux/sockios.h; of this driver since Linux 5.1.
const SIOCGSKNS: libc::c_ulong = 0x894c;
/// Since Linux 5.7.
const TUNGETDEVNETNS: libc::c_ulong = nix::request_code_none!(b'T', 227);

mod ioctls {
    nix::ioctl_write_ptr_bad!(set_iff, nix::request_code_write!(b'T', 202, 4), libc::ifreq);
    nix::ioctl_write_int_bad!(set_persist, nix::request_code_write!(b'T', 203, 4));
    nix::ioctl_write_int_bad!(set_owner, nix::request_code_write!(b'T', 204, 4));
    nix::ioctl_read_bad!(get_features, nix::request_code_read!(b'T', 207, 4), libc::c_uint);
    nix::ioctl_write_int_bad!(set_offload, nix::request_code_write!(b'T', 208, 4));
    nix::ioctl_read_bad!(get_iff, nix::request_code_read!(b'T', 210, 4), libc::ifreq);
    nix::ioctl_write_ptr_bad!(set_vnet_hdr_sz, nix::request_code_write!(b'T', 216, 4), libc::c_int);
    nix::ioctl_write_ptr_bad!(set_vnet_le, nix::request_code_write!(b'T', 220, 4), libc::c_int);
}

/// Opens the node in the calling thread's namespace, where the device will be made.
pub(crate) fn open_node() -> Result<OwnedFd> {
    let mut options = File::options();
    let node = options.read(true).write(true).custom_flags(libc::O_NONBLOCK).open(NODE);
    Ok(node.map_err(|error| Error::TunNode { os: error.into() })?.into())
}

/// What the kernel's driver can do: IFF_* bits.
pub(crate) fn features(fd: BorrowedFd<'_>) -> nix::Result<libc::c_int> {
    let mut features: libc::c_uint = 0;
    // SAFETY: TUNGETFEATURES writes one unsigned int, which outlives the call.
    unsafe { ioctls::get_features(fd.as_raw_fd(), &mut features) }?;
    Ok(features as libc::c_int)
}

/// Makes a device, or attaches to the persistent one of that name. Returns the name it got: `%d` becomes a number.
pub(crate) fn set_iff(fd: BorrowedFd<'_>, name: &str, flags: libc::c_int) -> nix::Result<String> {
    let mut request = ifreq(name);
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which outlives the call. It writes through the pointer although
    // it is a write ioctl, so the pointer is made from a mutable reference.
    unsafe { ioctls::set_iff(fd.as_raw_fd(), &raw mut request) }?;
    Ok(name_of(&request))
}

/// The name and IFF_* flags of the attached device.
pub(crate) fn iff(fd: BorrowedFd<'_>) -> nix::Result<(String, libc::c_int)> {
    let mut request = ifreq("");
    // SAFETY: TUNGETIFF writes one ifreq, which outlives the call.
    unsafe { ioctls::get_iff(fd.as_raw_fd(), &mut request) }?;
    // SAFETY: TUNGETIFF wrote the flags member; any bits are a valid short.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    // The kernel's short holds IFF_* bits up to 0x8000: widen without sign.
    Ok((name_of(&request), libc::c_int::from(flags as u16)))
}

/// Sets the length of the virtio-net header.
pub(crate) fn set_vnet_hdr_sz(fd: BorrowedFd<'_>, length: usize) -> nix::Result<()> {
    let length = length as libc::c_int;
    // SAFETY: reads one int, which outlives the call.
    unsafe { ioctls::set_vnet_hdr_sz(fd.as_raw_fd(), &length) }.map(drop)
}

/// Makes the header's fields little-endian, whatever the machine.
pub(crate) fn set_vnet_le(fd: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: reads one int, which is a constant.
    unsafe { ioctls::set_vnet_le(fd.as_raw_fd(), &1) }.map(drop)
}

/// Asks for exactly these TUN_F_* offloads; EINVAL where one is unknown.
pub(crate) fn set_offload(fd: BorrowedFd<'_>, offload: u32) -> nix::Result<()> {
    // SAFETY: takes a number, touches no memory.
    unsafe { ioctls::set_offload(fd.as_raw_fd(), offload as libc::c_int) }.map(drop)
}

/// Lets the device outlive its descriptors, or no more.
pub(crate) fn set_persist(fd: BorrowedFd<'_>, persist: bool) -> nix::Result<()> {
    // SAFETY: takes a number, touches no memory.
    unsafe { ioctls::set_persist(fd.as_raw_fd(), libc::c_int::from(persist)) }.map(drop)
}

/// Sets who may attach to it again, as numbered in the caller's user namespace.
pub(crate) fn set_owner(fd: BorrowedFd<'_>, uid: u32) -> nix::Result<()> {
    // SAFETY: takes a number, touches no memory.
    unsafe { ioctls::set_owner(fd.as_raw_fd(), uid as libc::c_int) }.map(drop)
}

/// The namespace where the device is now. Needs CAP_NET_ADMIN over it. EBADFD where the device is gone.
pub(crate) fn device_namespace(fd: BorrowedFd<'_>) -> Result<Namespace> {
    namespace(fd, TUNGETDEVNETNS, "of the device")
}

/// The namespace where the node was opened, which the descriptor keeps alive. Needs CAP_NET_ADMIN over it.
pub(crate) fn opened_in(fd: BorrowedFd<'_>) -> Result<Namespace> {
    namespace(fd, SIOCGSKNS, "where the device was born")
}

fn namespace(fd: BorrowedFd<'_>, request: libc::c_ulong, name: &str) -> Result<Namespace> {
    // SAFETY: the descriptor is open; neither request takes an argument or touches memory of ours.
    let opened = Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), request) });
    let opened = opened.map_err(|os| Error::Namespace { name: known(name, os), os: os.into() })?;
    // SAFETY: the ioctl just returned this descriptor; nobody else knows it.
    Namespace::from_fd(unsafe { OwnedFd::from_raw_fd(opened) })
}

/// An older driver's answer is told from the others.
fn known(name: &str, os: Errno) -> String {
    match os {
        Errno::EINVAL | Errno::ENOTTY => format!("{name}, which is known since Linux 5.7"),
        _ => name.into(),
    }
}

/// `name` was checked to fit; an empty one asks.
fn ifreq(name: &str) -> libc::ifreq {
    // SAFETY: an ifreq is plain data; all zeros is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name[..libc::IFNAMSIZ - 1].iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request
}

fn name_of(request: &libc::ifreq) -> String {
    let bytes = request.ifr_name.map(|c| c as u8);
    // The kernel ends it with a zero; were there none, the name would be empty and found nowhere.
    CStr::from_bytes_until_nul(&bytes).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
