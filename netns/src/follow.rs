//! Where a device is that an engine takes to its containers.
//!
//! Docker finds a device in its own namespace, moves it to the container's, renames it there, sets its addresses, brings it up; and
//! at the end takes it back the same way. Nobody tells us: the device's own descriptor says where it is and what it is called
//! (TUNGETDEVNETNS, TUNGETIFF), and when to ask again is known from the events of the namespace it is in. Nothing is asked
//! in intervals.
//!
//! All of it needs CAP_NET_ADMIN over both namespaces. The user namespace entered is the owner of the one where the descriptor was
//! opened, the engine's: who has rights there has them in every container below it, also one with a user namespace of
//! its own. A descriptor that was [attached again](crate::reattach) was opened in the container: seen from there, a device
//! that went back to an engine above it can no more be looked for, which is an error.
//!
//! While it waits the follower is in the device's namespace, and keeps it alive.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;

use crate::birth::open_netlink;
use crate::error::{Error, Os, Result};
use crate::names::NameSockets;
use crate::namespace::{Namespace, NamespaceId};
use crate::netlink::{LinkEvents, Netlink};
use crate::tun;

/// Where a device was found.
#[derive(Debug)]
pub struct Followed {
    /// Its namespace.
    pub namespace: NamespaceId,
    /// Its name there.
    pub ifname: String,
    /// Sockets for the names of the container it is in, where nobody answers at their resolver's address; or why there are
    /// none.
    pub names: Result<Option<NameSockets>>,
}

/// Looks where the device of the descriptor `tap` is; with `wait`, once it has left the namespace `engine` and is up. Where it is up
/// in a container it looks after the container's names ([`NameSockets`]), of which `gateway` knows where the engine does not.
///
/// Waits as long as it takes: for a forked child that is killed at its limit. Leaves the process in the device's namespace.
///
/// # Errors
///
/// [`Error::Namespace`] when the device is gone, when it went where this process has no rights, and before Linux 5.7.
pub fn follow(tap: BorrowedFd<'_>, engine: NamespaceId, wait: bool, gateway: IpAddr) -> Result<Followed> {
    let own = Namespace::current()?.id();
    tun::opened_in(tap)?.owner()?.enter()?;
    loop {
        let there = tun::device_namespace(tap)?;
        there.enter()?;
        let at_home = there.id() == engine;
        // The container's process starts soon after the device is up, too soon for all that is to be found out by then.
        let held = if wait && !at_home && there.id() != own { NameSockets::hold() } else { None };
        if let Some((ifname, up)) = watch(tap, there.id(), |up| !wait || (up && !at_home))? {
            // In the engine's own namespace, and in ours, 127.0.0.11 is nobody's resolver.
            let in_container = up && !at_home && there.id() != own;
            let names = if in_container { NameSockets::make(gateway, held) } else { Ok(None) };
            return Ok(Followed { namespace: there.id(), ifname, names });
        }
    }
}

/// Waits in the calling thread's namespace `there` until the device is as it is `wanted` to be, up or down, and gives its name;
/// `None` once it has left.
fn watch(tap: BorrowedFd<'_>, there: NamespaceId, wanted: impl Fn(bool) -> bool) -> Result<Option<(String, bool)>> {
    // Before the first look: what happens after it is not missed.
    let events = LinkEvents::subscribe().map_err(|os| Error::netlink("listen to the namespace's devices", os))?;
    let mut netlink = open_netlink()?;
    loop {
        let (ifname, _) = tun::iff(tap).map_err(gone)?;
        let up = is_up(&mut netlink, &ifname)?;
        if tun::device_namespace(tap)?.id() != there {
            return Ok(None);
        }
        // One that was renamed in between is looked at again by its new name: that was an event.
        if let Some(up) = up.filter(|&up| wanted(up)) {
            return Ok(Some((ifname, up)));
        }
        events.wait().map_err(|os| Error::netlink("wait for the device to come up", os))?;
    }
}

/// Whether the device is up; `None` when there is none of that name.
fn is_up(netlink: &mut Netlink, ifname: &str) -> Result<Option<bool>> {
    let link = netlink.link(ifname).map_err(|os| Error::netlink(format!("look for device {ifname}"), os))?;
    Ok(link.map(|link| link.up))
}

fn gone(errno: Errno) -> Error {
    Error::Namespace { name: "of the device".into(), os: Os::from(errno) }
}
