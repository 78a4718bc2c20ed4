//! Sockets made inside a container's namespaces and used from outside: a socket belongs to the namespace it was made in.
//!
//! So `demo` needs no program in its containers, and never enters one itself: a forked child does, and sends back a descriptor.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use anyhow::Context;
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use tapswitch_netns::{Error, Namespace, in_child};

use crate::cli::container::Container;

/// For one child; it takes a millisecond.
const LIMIT: Duration = Duration::from_secs(5);

/// The namespaces of a container.
#[derive(Debug)]
pub(super) struct Inside {
    user: File,
    /// Whether it is another user namespace than ours.
    foreign: bool,
    network: Namespace,
}

impl Inside {
    /// Of this container.
    ///
    /// # Errors
    /// When it died.
    pub(super) fn of(container: &Container) -> anyhow::Result<Self> {
        let user = File::open(format!("/proc/{}/ns/user", container.pid())).context("open its user namespace")?;
        let foreign = user.metadata()?.ino() != fs::metadata("/proc/self/ns/user")?.ino();
        Ok(Inside { user, foreign, network: container.namespace()? })
    }

    /// A TCP socket.
    ///
    /// # Errors
    /// As `socket(2)`, and when the namespace cannot be entered.
    pub(super) fn tcp(&self) -> anyhow::Result<OwnedFd> {
        self.make(|| socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None))
    }

    /// A raw ICMP socket.
    ///
    /// # Errors
    /// See [`Inside::tcp`].
    pub(super) fn icmp(&self) -> anyhow::Result<OwnedFd> {
        self.make(|| socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp))
    }

    /// A socket that sends Ethernet frames by `ifname`, and receives none.
    ///
    /// # Errors
    /// See [`Inside::tcp`].
    pub(super) fn ethernet(&self, ifname: &'static str) -> anyhow::Result<OwnedFd> {
        self.make(|| {
            let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
            bind_to_device(&socket, if_nametoindex(ifname)?)?;
            Ok(socket)
        })
    }

    fn make(&self, make: impl FnOnce() -> nix::Result<OwnedFd>) -> anyhow::Result<OwnedFd> {
        let keep = [self.user.as_fd(), self.network.as_fd()];
        let ((), socket) = in_child("make a socket inside", &keep, LIMIT, || {
            self.enter().map_err(|os| Error::Enter { what: "the container".into(), os: os.into() })?;
            let socket = make().map_err(|os| Error::Enter { what: "the container: socket".into(), os: os.into() })?;
            Ok(((), Some(socket)))
        })?;
        socket.context("make a socket inside: no descriptor came back")
    }

    /// In the forked child.
    fn enter(&self) -> nix::Result<()> {
        if self.foreign {
            setns(&self.user, CloneFlags::CLONE_NEWUSER)?;
        }
        setns(&self.network, CloneFlags::CLONE_NEWNET)
    }
}

/// Binds a packet socket; nix has no constructor of its address.
fn bind_to_device(socket: &OwnedFd, index: u32) -> nix::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as libc::c_ushort,
        sll_protocol: 0,
        sll_ifindex: index as libc::c_int,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the pointer and the length are those of an address that outlives the call.
    Errno::result(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) }).map(drop)
}
