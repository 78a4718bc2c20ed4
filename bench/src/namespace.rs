//! A network namespace held by a process: no global name is made, and it goes with this program.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::process::{Running, run, wait};

/// States of TCP in the kernel's tables.
const ESTABLISHED: &str = "01";
const LISTEN: &str = "0A";

/// A network namespace; dropped, it goes.
#[derive(Debug)]
pub(crate) struct Namespace {
    holder: Running,
}

impl Namespace {
    /// A new one, with nothing in it but `lo`.
    pub(crate) fn new() -> Result<Namespace> {
        let mut command = Command::new("unshare");
        command.args(["--net", "sleep", "infinity"]);
        let holder = Running::start(command)?;
        let comm = format!("/proc/{}/comm", holder.pid());
        wait("a namespace", Duration::from_secs(10), || {
            Ok(fs::read_to_string(&comm).is_ok_and(|comm| comm.trim() == "sleep").then_some(()))
        })?;
        let namespace = Namespace { holder };
        // MLD and router solicitations are not what is measured.
        namespace.sh(
            "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1; ip link set lo up",
        )?;
        Ok(namespace)
    }

    /// The process that holds it.
    pub(crate) fn pid(&self) -> u32 {
        self.holder.pid()
    }

    /// `program` inside.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.pid())).arg(program);
        command
    }

    /// A shell script inside.
    pub(crate) fn sh(&self, script: &str) -> Result<()> {
        let mut command = self.command("sh");
        command.args(["-ec", script]);
        run(command, script).map(drop)
    }

    /// Whether what leads out of it is set up.
    pub(crate) fn has_default_route(&self) -> bool {
        default_route(&fs::read_to_string(format!("/proc/{}/net/route", self.pid())).unwrap_or_default())
    }

    /// Whether a device of that name is in it.
    pub(crate) fn has_device(&self, name: &str) -> bool {
        has_device(&fs::read_to_string(format!("/proc/{}/net/dev", self.pid())).unwrap_or_default(), name)
    }

    /// Waits until something in it listens on a TCP port.
    pub(crate) fn wait_for_listener(&self, port: u16) -> Result<()> {
        self.wait_for_sockets("a server", port, LISTEN, 1)
    }

    /// Waits until so many clients are connected to a TCP port of it.
    pub(crate) fn wait_for_clients(&self, port: u16, count: usize) -> Result<()> {
        self.wait_for_sockets("its clients", port, ESTABLISHED, count)
    }

    fn wait_for_sockets(&self, what: &str, port: u16, state: &str, count: usize) -> Result<()> {
        wait(what, Duration::from_secs(10), || {
            let tables = ["tcp", "tcp6"]
                .map(|table| fs::read_to_string(format!("/proc/{}/net/{table}", self.pid())).unwrap_or_default());
            let found: usize = tables.iter().map(|table| sockets(table, port, state)).sum();
            Ok((found >= count).then_some(()))
        })
    }
}

/// How many sockets of a table, as the kernel prints it, have this local port and state.
fn sockets(table: &str, port: u16, state: &str) -> usize {
    let local = format!(":{port:04X}");
    let lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.filter(|fields| fields.len() > 3 && fields[1].ends_with(&local) && fields[3] == state).count()
}

/// Whether a table of devices, as the kernel prints it, has one of that name.
fn has_device(table: &str, name: &str) -> bool {
    table.lines().filter_map(|line| line.split_once(':')).any(|(device, _)| device.trim() == name)
}

/// Whether a table of routes, as the kernel prints it, has one to everywhere.
fn default_route(table: &str) -> bool {
    let mut routes = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    routes.any(|fields| fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";

    #[test]
    fn a_route_to_everywhere_is_the_default_one() {
        let table = format!("{HEAD}\neth0\t00000000\t016433C6\t0003\t0\t0\t0\t00000000\t0\t0\t0\n");
        assert!(default_route(&table));
    }

    #[test]
    fn sockets_are_counted_by_local_port_and_state() {
        let table = "  sl  local_address rem_address   st tx_queue\n\
            0: 00000000:1451 00000000:0000 0A 00000000:00000000\n\
            1: 0300004D:1451 0200004D:8A3C 01 00000000:00000000\n\
            2: 0300004D:8A3C 0200004D:1451 01 00000000:00000000\n";
        assert_eq!((sockets(table, 0x1451, LISTEN), sockets(table, 0x1451, ESTABLISHED)), (1, 1));
    }

    #[test]
    fn a_device_is_known_by_its_whole_name() {
        let table = "Inter-|   Receive\n face |bytes\n    lo:  0 0\n  eth0:  0 0\n";
        assert!(has_device(table, "eth0") && !has_device(table, "eth"));
    }

    #[test]
    fn a_route_to_a_subnet_is_not() {
        let table = format!("{HEAD}\neth0\t00004D0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n");
        assert!(!default_route(&table));
        assert!(!default_route(HEAD));
    }
}
