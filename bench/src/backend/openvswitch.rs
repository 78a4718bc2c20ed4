//! Open vSwitch with its datapath in user space and a TAP for each end: what it is where its kernel module cannot be.
//!
//! Database and switch are ours alone: they know only a folder of their own, and the switch runs in a namespace of its own.

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::Result;

use super::{Carrier, DEVICE, LIMIT, addresses};
use crate::folder::Folder;
use crate::namespace::Namespace;
use crate::process::{Running, run};

/// Where Debian's package keeps the shape of the database.
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

pub(super) fn join(ends: &[Namespace]) -> Result<(Vec<Ipv4Addr>, Carrier)> {
    let (within, folder) = (Namespace::new()?, Folder::new("openvswitch"));
    std::fs::create_dir_all(folder.path())?;
    let place = |name: &str| folder.path().join(name);
    let (database, socket) = (place("conf.db"), place("db.sock"));
    let own = |mut command: Command| {
        for name in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR"] {
            command.env(name, folder.path());
        }
        command
    };

    let mut create = Command::new("ovsdb-tool");
    create.args([OsStr::new("create"), database.as_os_str(), OsStr::new(SCHEMA)]);
    run(own(create), "ovsdb-tool")?;
    let mut server = Command::new("ovsdb-server");
    server.arg(&database).arg(format!("--remote=punix:{}", socket.display()));
    let mut server = Running::start(own(server))?;
    server.wait_for("ovsdb-server", LIMIT, || socket.exists())?;
    let mut switch = within.command("ovs-vswitchd");
    switch.arg(format!("unix:{}", socket.display()));
    let switch = Running::start(own(switch))?;

    // It waits for the switch to have done it.
    let ask = |words: &str| {
        let mut command = Command::new("ovs-vsctl");
        command.arg(format!("--db=unix:{}", socket.display())).arg("--timeout=10").args(words.split(' '));
        run(own(command), "ovs-vsctl").map(drop)
    };
    ask("--no-wait init")?;
    ask("add-br br0 -- set bridge br0 datapath_type=netdev")?;
    for (at, (end, address)) in ends.iter().zip(addresses()).enumerate() {
        ask(&format!("add-port br0 p{at} -- set interface p{at} type=tap"))?;
        within.sh(&format!("ip link set p{at} netns {} name {DEVICE}", end.pid()))?;
        end.sh(&format!("ip address add {address}/24 dev {DEVICE}; ip link set {DEVICE} up"))?;
    }
    let carrier = Carrier {
        pids: vec![switch.pid(), server.pid()],
        _running: vec![switch, server],
        _folder: Some(folder),
        _within: Some(within),
        ..Carrier::default()
    };
    Ok((addresses().take(ends.len()).collect(), carrier))
}
