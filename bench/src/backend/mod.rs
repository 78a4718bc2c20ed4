//! What is compared: each joins two namespaces, the client's and the server's.
//!
//! Across the switch both are containers. On the way out the client is a container and the server is far away: behind a host,
//! a namespace too, in which the backend runs.

pub(crate) mod bare;
mod bridge;
mod host;
mod pasta;
mod routed;
mod slirp4netns;
mod tapswitch;

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Serialize, Serializer};

use crate::measure::far::{self, Service};
use crate::namespace::Namespace;
use crate::process::Running;
use host::Host;

/// The addresses of the two ends, in every backend that leaves the choice.
const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 77, 0, 2), Ipv4Addr::new(10, 77, 0, 3)];
/// Their subnet.
const SUBNET: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 0);
/// Its prefix length.
const PREFIX: u8 = 24;
/// The client's device, in every backend.
pub(crate) const DEVICE: &str = "eth0";
/// Most that a backend may take to give the client its device.
const LIMIT: Duration = Duration::from_secs(10);

/// A way from one namespace to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Backend {
    /// The switch between two containers: guard, icc with a rule, counters, all on.
    Tapswitch,
    /// A kernel bridge and two veth pairs: what docker0 is.
    Bridge,
    /// Two TAPs and the engine's own loop, with no lookup: what the switch could reach at best.
    Bare,
    /// The switch's user uplink, with the container at the ordinary MTU of 1500.
    Uplink,
    /// pasta with that of any network.
    Pasta1500,
    /// pasta with its own, the largest there is.
    Pasta65520,
    /// slirp4netns with its own.
    Slirp1500,
    /// slirp4netns with the largest there is.
    Slirp65520,
    /// A kernel bridge, a veth pair and routing: what docker0 is on the way out.
    Routed,
}

impl Backend {
    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Backend::Tapswitch | Backend::Uplink => "tapswitch",
            Backend::Bridge => "bridge",
            Backend::Bare => "bare",
            Backend::Pasta1500 => "pasta 1500",
            Backend::Pasta65520 => "pasta 65520",
            Backend::Slirp1500 => "slirp4netns 1500",
            Backend::Slirp65520 => "slirp4netns 65520",
            Backend::Routed => "routed",
        }
    }

    /// The program it needs beyond those that every one needs, and the Debian package that brings it.
    pub(crate) fn needs(self) -> Option<(&'static str, &'static str)> {
        match self {
            Backend::Pasta1500 | Backend::Pasta65520 => Some(("pasta", "passt")),
            Backend::Slirp1500 | Backend::Slirp65520 => Some(("slirp4netns", "slirp4netns")),
            _ => None,
        }
    }

    /// Makes the namespaces, joins them, and starts the servers.
    pub(crate) fn set_up(self) -> Result<Joined> {
        let client = Namespace::new()?;
        let (server, address, carrier) = match self {
            Backend::Tapswitch | Backend::Bridge | Backend::Bare => {
                let ends = [client, Namespace::new()?];
                let (addresses, carrier) = match self {
                    Backend::Tapswitch => tapswitch::join(&ends)?,
                    Backend::Bridge => bridge::join(&ends)?,
                    _ => bare::join(&ends)?,
                };
                let [client, server] = ends;
                return Joined::new(client, server, addresses[1], carrier);
            }
            Backend::Uplink => tapswitch::lead_out(&client, Host::new()?)?,
            Backend::Pasta1500 => pasta::lead_out(&client, Host::new()?, 1500)?,
            Backend::Pasta65520 => pasta::lead_out(&client, Host::new()?, 65520)?,
            Backend::Slirp1500 => slirp4netns::lead_out(&client, Host::new()?, 1500)?,
            Backend::Slirp65520 => slirp4netns::lead_out(&client, Host::new()?, 65520)?,
            Backend::Routed => routed::lead_out(&client, Host::new()?)?,
        };
        Joined::new(client, server, address, carrier)
    }
}

impl Serialize for Backend {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Two joined namespaces, the second with servers. Dropped, all goes: first what runs, then where it ran.
#[derive(Debug)]
pub(crate) struct Joined {
    _servers: Running,
    carrier: Carrier,
    client: Namespace,
    server: Namespace,
    address: Ipv4Addr,
}

/// What moves the frames.
#[derive(Debug, Default)]
struct Carrier {
    /// The processes that do; none where the kernel does, in nobody's time.
    pids: Vec<u32>,
    /// Held for their drops, as all below.
    _running: Vec<Running>,
    _state: Option<tapswitch::State>,
    /// The host it leads out of.
    host: Option<Namespace>,
    /// A namespace that it has for itself.
    _within: Option<Namespace>,
}

impl Joined {
    fn new(client: Namespace, server: Namespace, address: Ipv4Addr, carrier: Carrier) -> Result<Joined> {
        let mut servers = own(&server)?;
        servers.args(["far", &address.to_string()]);
        let mut servers = Running::start(servers)?;
        servers.wait_ready("the servers")?;
        Ok(Joined { _servers: servers, carrier, client, server, address })
    }

    /// The end that measures from.
    pub(crate) fn client(&self) -> &Namespace {
        &self.client
    }

    /// This very program, inside the client's end.
    pub(crate) fn own_client(&self) -> Result<Command> {
        own(&self.client)
    }

    /// The end with the servers.
    pub(crate) fn server(&self) -> &Namespace {
        &self.server
    }

    /// Where the servers listen.
    pub(crate) fn server_address(&self) -> Ipv4Addr {
        self.address
    }

    /// Where one of them does.
    pub(crate) fn service(&self, service: Service) -> String {
        far::address(self.address.into(), service).to_string()
    }

    /// Has the carrier's own sockets use a congestion control; without effect on a carrier that has none.
    pub(crate) fn set_congestion(&self, name: &str) -> Result<()> {
        match &self.carrier.host {
            Some(host) => host::set_congestion(host, name),
            None => Ok(()),
        }
    }

    /// User and system time of the processes that forward; `None` where the kernel does.
    pub(crate) fn cpu_time(&self) -> Option<Duration> {
        self.sum(cpu_time)
    }

    /// Bytes that these processes hold in memory; `None` where the kernel forwards.
    pub(crate) fn resident(&self) -> Option<u64> {
        self.sum(resident)
    }

    fn sum<T: std::iter::Sum>(&self, of: fn(u32) -> Option<T>) -> Option<T> {
        let pids = &self.carrier.pids;
        if pids.is_empty() { None } else { pids.iter().map(|pid| of(*pid)).sum() }
    }
}

fn own(namespace: &Namespace) -> Result<Command> {
    let path = std::env::current_exe().context("find this program")?;
    Ok(namespace.command(path.to_str().context("this program's path is text")?))
}

fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Counted from the field after the parenthesised name: utime is the 12th, stime the 13th (proc(5): 14 and 15).
    let fields: Vec<_> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
    Some(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

fn resident(pid: u32) -> Option<u64> {
    resident_in(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?)
}

/// The `Rss` line of a process's sums. Exact, unlike that of its `status`, which lags by up to 64 pages a thread.
fn resident_in(sums: &str) -> Option<u64> {
    let line = sums.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_bytes_are_read_from_a_process_s_sums() {
        let sums = "5600-7ffd ---p 00000000 00:00 0   [rollup]\nRss:    1524 kB\nPss:      91 kB\n";
        assert_eq!(resident_in(sums), Some(1524 * 1024));
        assert_eq!(resident_in("Pss: 91 kB"), None);
    }

    #[test]
    fn this_process_has_time_and_memory() {
        let own = std::process::id();
        assert!(cpu_time(own).is_some());
        assert!(resident(own).is_some_and(|bytes| bytes > 4096));
    }

    #[test]
    fn a_process_that_is_gone_has_neither() {
        assert_eq!((cpu_time(u32::MAX), resident(u32::MAX)), (None, None));
    }
}
