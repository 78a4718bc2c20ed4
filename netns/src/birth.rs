//! Birth of a device, its return after both processes died, and what is changed of it later.
//!
//! Everything here leaves the calling process in another namespace and is for a forked child ([`Child`](crate::Child)).
//! What a failure leaves behind is undone by closing the descriptor: the device is not persistent yet.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::device::{DeviceSpec, MTU_MIN, check_mtu, check_name};
use crate::error::{Error, Os, Result};
use crate::namespace::Namespace;
use crate::netlink::{Link, LinkIndex, Netlink};
use crate::scratch::Scratch;
use crate::sysctl;
use crate::tap::Tap;

/// Its name in the scratch namespace, where others may be on their way: the kernel puts a free number.
const NAME_IN_SCRATCH: &str = "tapswitch%d";

/// How long a device may be held by one that is about to end: what a killed process takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two attempts at a held device.
const INTERVAL: Duration = Duration::from_millis(5);

/// Makes a TAP in `scratch`, moves it into `target` and configures it there as `spec` says.
///
/// It is neither owned nor persistent: that is for whoever gets the descriptor ([`Tap::persist`]), in whose user
/// namespace the owner's number means what it says. Leaves the process in `target`.
///
/// # Errors
///
/// Each says what was being done. Nothing of the device is left, in either namespace.
///
/// # Panics
///
/// When `scratch` serves another owner's namespaces.
pub fn birth(target: &Namespace, scratch: &Scratch, spec: &DeviceSpec) -> Result<Tap> {
    spec.check()?;
    let (tap, mut there) = bear(target, scratch, spec)?;
    configure(&mut there, spec)?;
    Ok(tap)
}

/// Makes a TAP in `scratch` and moves it into `target`, where the process is left; and the target's netlink.
pub(crate) fn bear(target: &Namespace, scratch: &Scratch, spec: &DeviceSpec) -> Result<(Tap, Netlink)> {
    let owner = target.owner()?;
    assert_eq!(owner.id(), scratch.owner(), "the scratch namespace serves the target's owner");
    owner.enter()?;
    target.enter()?;
    let mut there = open_netlink()?;
    refuse_taken_name(&mut there, &spec.ifname)?;

    scratch.namespace().enter()?;
    let mut tap = Tap::open(NAME_IN_SCRATCH, spec.offload)?;
    let mut here = open_netlink()?;
    let born = find(&mut here, &tap.info.ifname)?.index;
    let step = |what: &str| format!("set {what} of {}", spec.ifname);
    here.set_address_and_mtu(born, spec.mac, spec.mtu).map_err(|os| Error::netlink(step("MAC and MTU"), os))?;
    here.move_to(born, target.as_fd(), &spec.ifname).map_err(|os| move_error(&spec.ifname, os))?;
    tap.info.ifname.clone_from(&spec.ifname);

    target.enter()?;
    Ok((tap, there))
}

/// Makes a TAP in `engine`, the namespace of an engine that takes it to a container itself: down, silent, with MAC and MTU
/// and nothing else. The addresses and gateways of `spec` are the engine's to set.
///
/// It is born where the engine looks for it, and not moved there: its descriptor pins that namespace, and a container's
/// death shows. As [`birth`], it is neither owned nor persistent. Leaves the process in `engine`.
///
/// # Errors
///
/// Each says what was being done. Nothing of the device is left.
pub fn birth_down(engine: &Namespace, spec: &DeviceSpec) -> Result<Tap> {
    spec.check()?;
    let mut netlink = enter(engine)?;
    refuse_taken_name(&mut netlink, &spec.ifname)?;
    let tap = Tap::open(&spec.ifname, spec.offload)?;
    sysctl::silence(&spec.ifname);
    let index = find(&mut netlink, &spec.ifname)?.index;
    netlink
        .set_address_and_mtu(index, spec.mac, spec.mtu)
        .map_err(|os| Error::netlink(format!("set MAC and MTU of {}", spec.ifname), os))?;
    Ok(tap)
}

/// Attaches again to the persistent TAP that `spec` describes in `target`.
///
/// The descriptor keeps the target's namespace alive: its death shows no more (see [`birth`]). Leaves the process in `target`.
/// A holder that was killed a moment ago still has the device until the kernel has taken its process apart: that is waited
/// for.
///
/// # Errors
///
/// [`Error::NoDevice`] when it is gone, [`Error::NotOurTap`] when something else has its name, or its MAC is another.
pub fn reattach(target: &Namespace, spec: &DeviceSpec) -> Result<Tap> {
    spec.check()?;
    let mut netlink = enter(target)?;
    let before = find(&mut netlink, &spec.ifname)?;
    let not_ours = || Error::NotOurTap { ifname: spec.ifname.clone() };
    if before.address != spec.mac {
        return Err(not_ours());
    }
    let tap = open_when_free(spec).map_err(|error| match error {
        // The driver's answers to a device that is no TAP, or one made with other flags.
        Error::Tap { os: Os(errno), .. } if errno == Errno::EINVAL as i32 => not_ours(),
        error => error,
    })?;
    // Had it gone meanwhile, the kernel would have made a new one.
    let after = find(&mut netlink, &spec.ifname)?;
    if before.index != after.index { Err(Error::NoDevice { ifname: spec.ifname.clone() }) } else { Ok(tap) }
}

/// Opens the device, once whoever holds it has let go.
fn open_when_free(spec: &DeviceSpec) -> Result<Tap> {
    let start = Instant::now();
    loop {
        match Tap::open(&spec.ifname, spec.offload) {
            Err(Error::Tap { os: Os(errno), .. }) if errno == Errno::EBUSY as i32 && start.elapsed() < PATIENCE => {
                std::thread::sleep(INTERVAL);
            }
            outcome => return outcome,
        }
    }
}

/// Sets the MTU of the device `ifname` in `target`. Leaves the process in `target`.
pub fn set_mtu(target: &Namespace, ifname: &str, mtu: u32) -> Result<()> {
    check_name(ifname)?;
    check_mtu(mtu, MTU_MIN)?;
    let mut netlink = enter(target)?;
    let index = find(&mut netlink, ifname)?.index;
    netlink.set_mtu(index, mtu).map_err(|os| Error::netlink(format!("set MTU of {ifname} to {mtu}"), os))
}

/// Removes the device `ifname` from `target`, whoever holds a descriptor of it. Leaves the process in `target`.
pub fn remove(target: &Namespace, ifname: &str) -> Result<()> {
    check_name(ifname)?;
    let mut netlink = enter(target)?;
    let index = find(&mut netlink, ifname)?.index;
    netlink.delete(index).map_err(|os| Error::netlink(format!("remove {ifname}"), os))
}

pub(crate) fn enter(target: &Namespace) -> Result<Netlink> {
    target.owner()?.enter()?;
    target.enter()?;
    open_netlink()
}

pub(crate) fn open_netlink() -> Result<Netlink> {
    Netlink::open().map_err(|os| Error::netlink("open a netlink socket", os))
}

pub(crate) fn find(netlink: &mut Netlink, ifname: &str) -> Result<Link> {
    let link = netlink.link(ifname).map_err(|os| Error::netlink(format!("look for device {ifname}"), os))?;
    link.ok_or_else(|| Error::NoDevice { ifname: ifname.into() })
}

fn refuse_taken_name(netlink: &mut Netlink, ifname: &str) -> Result<()> {
    match find(netlink, ifname) {
        Ok(_) => Err(Error::NameTaken { ifname: ifname.into() }),
        Err(Error::NoDevice { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// A name taken since it was looked for.
fn move_error(ifname: &str, os: Os) -> Error {
    if os == Os::from(Errno::EEXIST) {
        Error::NameTaken { ifname: ifname.into() }
    } else {
        Error::netlink(format!("move {ifname} into the namespace"), os)
    }
}

/// Addresses, lo up, device up, routes: the calling thread is in the target.
fn configure(netlink: &mut Netlink, spec: &DeviceSpec) -> Result<()> {
    let index = find(netlink, &spec.ifname)?.index;
    sysctl::prepare_ipv6(&spec.ifname, spec.addresses.iter().any(|address| address.addr().is_ipv6()));
    for &address in &spec.addresses {
        netlink.add_address(index, address).map_err(|os| Error::Address {
            address,
            ifname: spec.ifname.clone(),
            os,
        })?;
    }
    let lo = find(netlink, "lo")?.index;
    netlink.set_up(lo).map_err(|os| Error::netlink("bring lo up", os))?;
    netlink.set_up(index).map_err(|os| Error::netlink(format!("bring {} up", spec.ifname), os))?;
    for &gateway in &spec.gateways {
        add_default_route(netlink, index, spec, gateway)
            .map_err(|os| Error::netlink(format!("set default route by {gateway}"), os))?;
    }
    Ok(())
}

fn add_default_route(
    netlink: &mut Netlink,
    index: LinkIndex,
    spec: &DeviceSpec,
    gateway: IpAddr,
) -> std::result::Result<(), Os> {
    if netlink.has_default_route(gateway)? {
        return Ok(());
    }
    let onlink = !spec.addresses.iter().any(|address| address.contains(&gateway));
    netlink.add_default_route(index, gateway, onlink)
}
