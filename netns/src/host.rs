//! The host's own end of a network: a TAP in the namespace whose kernel routes for the containers.
//!
//! It is born like any other, and configured for a router: it takes no router's word, sends no redirects, and has its
//! addresses at once. Its link-local address follows from its MAC. Everything here leaves the calling process in another
//! namespace and is for a forked child.

use crate::birth::{bear, enter, find};
use crate::device::DeviceSpec;
use crate::error::{Error, Result};
use crate::namespace::Namespace;
use crate::netlink::Netlink;
use crate::scratch::Scratch;
use crate::sysctl;
use crate::tap::Tap;

/// Most names that are tried: as many daemons may have a network of the same name.
const NAMES_MAX: u32 = 9;

/// Makes a TAP in `scratch`, moves it into `target` and configures it there as `spec` says, for a kernel that routes. One of that
/// name with that MAC was left by a daemon that was killed: it is removed first. Where another has the name, a number is put
/// behind it: [`TapInfo::ifname`](crate::TapInfo) says. Leaves the process in `target`.
///
/// # Errors
///
/// As [`birth`](crate::birth).
///
/// # Panics
///
/// When `scratch` serves another owner's namespaces.
pub fn birth_on_host(target: &Namespace, scratch: &Scratch, spec: &DeviceSpec) -> Result<Tap> {
    spec.check()?;
    let ifname = free_name(&mut enter(target)?, spec)?;
    let spec = DeviceSpec { ifname, ..spec.clone() };
    let (tap, mut netlink) = bear(target, scratch, &spec)?;
    configure(&mut netlink, &spec)?;
    Ok(tap)
}

fn free_name(netlink: &mut Netlink, spec: &DeviceSpec) -> Result<String> {
    for number in 1..=NAMES_MAX {
        let name = numbered(&spec.ifname, number);
        match find(netlink, &name) {
            Err(Error::NoDevice { .. }) => return Ok(name),
            Ok(left) if left.address == spec.mac => {
                netlink
                    .delete(left.index)
                    .map_err(|os| Error::netlink(format!("remove the {name} left behind"), os))?;
                return Ok(name);
            }
            Ok(_) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::NameTaken { ifname: spec.ifname.clone() })
}

/// The first is the name itself; the others end in a digit, in place of its last two letters where it is full.
fn numbered(ifname: &str, number: u32) -> String {
    if number == 1 {
        return ifname.to_owned();
    }
    let stem: String = ifname.chars().take(crate::device::NAME_MAX - 2).collect();
    format!("{stem}.{number}")
}

fn configure(netlink: &mut Netlink, spec: &DeviceSpec) -> Result<()> {
    let ifname = &spec.ifname;
    let index = find(netlink, ifname)?.index;
    sysctl::prepare_router(ifname, spec.addresses.iter().any(|address| address.addr().is_ipv6()));
    for &address in &spec.addresses {
        netlink.add_address(index, address).map_err(|os| Error::Address { address, ifname: ifname.clone(), os })?;
    }
    netlink.set_up(index).map_err(|os| Error::netlink(format!("bring {ifname} up"), os))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_name_fits_the_kernel_too() {
        assert_eq!(numbered("ts-default", 1), "ts-default");
        assert_eq!(numbered("ts-default", 2), "ts-default.2");
        assert_eq!(numbered("fifteen-letters", 9), "fifteen-lette.9");
    }
}
