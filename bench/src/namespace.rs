//! A network namespace held by a process: no global name is made, and it goes with this program.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::process::{Running, run, wait};

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

    /// Waits until something in it listens on a TCP port.
    pub(crate) fn wait_for_listener(&self, port: u16) -> Result<()> {
        let local = format!(":{port:04X}");
        wait("a server", Duration::from_secs(10), || {
            let listens = ["tcp", "tcp6"].iter().any(|table| {
                let text = fs::read_to_string(format!("/proc/{}/net/{table}", self.pid())).unwrap_or_default();
                text.lines().any(|line| {
                    let fields: Vec<_> = line.split_whitespace().collect();
                    fields.len() > 3 && fields[1].ends_with(&local) && fields[3] == "0A"
                })
            });
            Ok(listens.then_some(()))
        })
    }
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
    fn a_route_to_a_subnet_is_not() {
        let table = format!("{HEAD}\neth0\t00004D0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n");
        assert!(!default_route(&table));
        assert!(!default_route(HEAD));
    }
}
