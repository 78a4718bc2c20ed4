//! VDE: `vde_switch`, and a `vde_plug2tap` for each end, whose TAP it makes in that end's namespace.

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::Result;

use super::{Carrier, DEVICE, LIMIT, addresses};
use crate::folder::Folder;
use crate::namespace::Namespace;
use crate::process::Running;

pub(super) fn join(ends: &[Namespace]) -> Result<(Vec<Ipv4Addr>, Carrier)> {
    let folder = Folder::new("vde");
    std::fs::create_dir_all(folder.path())?;
    let sockets = folder.path().join("switch");
    let mut switch = Command::new("vde_switch");
    switch.arg("--sock").arg(&sockets);
    let mut switch = Running::start_waiting(switch)?;
    switch.wait_for("vde_switch", LIMIT, || sockets.join("ctl").exists())?;
    let mut running = vec![];
    for (end, address) in ends.iter().zip(addresses()) {
        let mut plug = end.command("vde_plug2tap");
        plug.arg("--sock").arg(&sockets).arg(DEVICE);
        let mut plug = Running::start(plug)?;
        plug.wait_for("vde_plug2tap", LIMIT, || end.has_device(DEVICE))?;
        end.sh(&format!("ip address add {address}/24 dev {DEVICE}; ip link set {DEVICE} up"))?;
        running.push(plug);
    }
    // Ended before those that are plugged into it, which then have nothing to clean up.
    running.insert(0, switch);
    let pids = running.iter().map(Running::pid).collect();
    let carrier = Carrier { pids, _running: running, _folder: Some(folder), ..Carrier::default() };
    Ok((addresses().take(ends.len()).collect(), carrier))
}
