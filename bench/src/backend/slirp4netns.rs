//! slirp4netns in the host's namespace, its TAP in the container's.

use std::net::Ipv4Addr;

use anyhow::Result;

use super::host::{FAR, Host};
use super::{Carrier, DEVICE, LIMIT};
use crate::namespace::Namespace;
use crate::process::Running;

pub(super) fn lead_out(client: &Namespace, host: Host, mtu: u16) -> Result<(Namespace, Ipv4Addr, Carrier)> {
    let mut command = host.inside.command("slirp4netns");
    command.args(["--configure", &format!("--mtu={mtu}"), "--disable-host-loopback", "--netns-type=path"]);
    command.args([&format!("/proc/{}/ns/net", client.pid()), DEVICE]);
    let mut slirp = Running::start(command)?;
    slirp.wait_for("slirp4netns", LIMIT, || client.has_default_route())?;
    let carrier =
        Carrier { pids: vec![slirp.pid()], _running: vec![slirp], host: Some(host.inside), ..Carrier::default() };
    Ok((host.far, FAR, carrier))
}
