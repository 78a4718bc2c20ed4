//! pasta in the host's namespace, its TAP in the container's.

use std::net::Ipv4Addr;

use anyhow::Result;

use super::host::{FAR, Host, LINK_DEVICE};
use super::{Carrier, DEVICE, LIMIT};
use crate::namespace::Namespace;
use crate::process::Running;

/// The container's namespace, as pasta sees it.
const SHOWN: &str = "/run/container";

pub(super) fn lead_out(client: &Namespace, host: Host, mtu: u16) -> Result<(Namespace, Ipv4Addr, Carrier)> {
    // pasta gives up the privilege to open another process's namespace before it does so: it is shown it as a file, in a
    // mount namespace that ends with it.
    let shown = format!("mount -t tmpfs tmpfs /run; : >{SHOWN}; mount --bind /proc/{}/ns/net {SHOWN}", client.pid());
    let mut command = host.inside.command("unshare");
    command.args(["--mount", "sh", "-ec", &format!("{shown}; exec pasta \"$@\""), "pasta"]);
    command.args(["--foreground", "--quiet", "--config-net", "--mtu", &mtu.to_string()]);
    // It would become nobody, and then may not enter the container's namespace.
    command.args(["--runas", "0"]);
    command.args(["--interface", LINK_DEVICE, "--ns-ifname", DEVICE, "--no-map-gw"]);
    // No port is published, in either direction.
    command.args(["-t", "none", "-u", "none", "-T", "none", "-U", "none"]);
    command.args(["--netns", SHOWN]);
    let mut pasta = Running::start(command)?;
    pasta.wait_for("pasta", LIMIT, || client.has_default_route())?;
    let carrier =
        Carrier { pids: vec![pasta.pid()], _running: vec![pasta], host: Some(host.inside), ..Carrier::default() };
    Ok((host.far, FAR, carrier))
}
