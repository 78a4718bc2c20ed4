//! IPv6 settings of a device in the calling thread's namespace.
//!
//! `/proc/sys/net` shows each thread its own namespace, so no mount is needed.

use std::{fs, io};

/// Sets what a container of ours wants before its device comes up: no router is listened to or asked for, the switch
/// has configured it; IPv6 is on where an IPv6 address is to be set.
///
/// A kernel without IPv6, or a read-only `/proc/sys`, leaves the settings as they are: what then cannot work fails with
/// its own error when the address is set.
pub(crate) fn prepare_ipv6(ifname: &str, wanted: bool) {
    let mut settings = vec![("accept_ra", "0"), ("router_solicitations", "0")];
    if wanted {
        settings.push(("disable_ipv6", "0"));
    }
    for (key, value) in settings {
        // See above: best effort.
        let _: io::Result<()> = fs::write(format!("/proc/sys/net/ipv6/conf/{ifname}/{key}"), value);
    }
}

/// Sets what a device wants whose kernel routes for the others on its link, before it comes up: no router is listened to,
/// nobody is redirected, its addresses are not probed for, and its link-local one follows from its MAC.
///
/// Best effort, as [`prepare_ipv6`].
pub(crate) fn prepare_router(ifname: &str, ipv6: bool) {
    let disabled = if ipv6 { "0" } else { "1" };
    for (family, key, value) in [
        ("ipv4", "send_redirects", "0"),
        ("ipv6", "accept_ra", "0"),
        ("ipv6", "router_solicitations", "0"),
        ("ipv6", "accept_dad", "0"),
        ("ipv6", "addr_gen_mode", "0"),
        ("ipv6", "disable_ipv6", disabled),
    ] {
        // See above: best effort.
        let _: io::Result<()> = fs::write(format!("/proc/sys/net/{family}/conf/{ifname}/{key}"), value);
    }
}

/// Keeps the kernel from saying anything of its own by a device that only waits to be taken elsewhere: no IPv6, no link-local
/// address. The namespace it is taken to begins anew with its own defaults.
///
/// Best effort, as [`prepare_ipv6`]: the device is down.
pub(crate) fn silence(ifname: &str) {
    for (key, value) in [("addr_gen_mode", "1"), ("disable_ipv6", "1")] {
        // See above: best effort.
        let _: io::Result<()> = fs::write(format!("/proc/sys/net/ipv6/conf/{ifname}/{key}"), value);
    }
}
