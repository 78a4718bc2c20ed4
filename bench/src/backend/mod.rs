//! What is compared: each joins two namespaces.

pub(crate) mod bare;
mod bridge;
mod tapswitch;

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::namespace::Namespace;
use crate::process::Running;

/// The addresses of the two ends, in every backend that leaves the choice.
const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 77, 0, 2), Ipv4Addr::new(10, 77, 0, 3)];
/// The port of iperf3's server.
pub(crate) const IPERF_PORT: u16 = 5201;
/// The port of the ping-pong.
pub(crate) const PONG_PORT: u16 = 5202;

/// A way from one namespace to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Backend {
    /// The switch: guard, icc with a rule, counters, all on.
    Tapswitch,
    /// A kernel bridge and two veth pairs: what docker0 is.
    Bridge,
    /// Two TAPs and the engine's own loop, with no lookup: what the switch could reach at best.
    Bare,
}

impl Backend {
    /// All, the switch first.
    pub(crate) const ALL: [Backend; 3] = [Backend::Tapswitch, Backend::Bridge, Backend::Bare];

    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Backend::Tapswitch => "tapswitch",
            Backend::Bridge => "bridge",
            Backend::Bare => "bare",
        }
    }

    /// Makes both namespaces and joins them.
    pub(crate) fn set_up(self) -> Result<Joined> {
        let ends = [Namespace::new()?, Namespace::new()?];
        let (addresses, switch) = match self {
            Backend::Tapswitch => tapswitch::join(&ends)?,
            Backend::Bridge => bridge::join(&ends)?,
            Backend::Bare => bare::join(&ends)?,
        };
        let mut iperf = ends[1].command("iperf3");
        iperf.args(["--server", "--port", &IPERF_PORT.to_string()]);
        let mut pong = own(&ends[1])?;
        pong.args(["pong", &format!("{}:{PONG_PORT}", addresses[1])]);
        let servers = [Running::start(iperf)?, Running::start(pong)?];
        for port in [IPERF_PORT, PONG_PORT] {
            ends[1].wait_for_listener(port)?;
        }
        Ok(Joined { _servers: servers, switch, ends, addresses })
    }
}

/// Two joined namespaces, the second with servers. Dropped, all goes.
#[derive(Debug)]
pub(crate) struct Joined {
    _servers: [Running; 2],
    switch: Switch,
    ends: [Namespace; 2],
    addresses: [Ipv4Addr; 2],
}

/// What moves the frames.
#[derive(Debug)]
enum Switch {
    /// Processes of the kernel's own, which show up in nobody's time.
    Kernel(#[allow(dead_code, reason = "held for its drop")] Namespace),
    /// Our processes, and what they need while they run.
    Processes(
        Vec<u32>,
        #[allow(dead_code, reason = "held for their drops")] Vec<Running>,
        #[allow(dead_code, reason = "held for its drop")] Option<tapswitch::State>,
    ),
}

impl Joined {
    /// The end that measures from.
    pub(crate) fn client(&self) -> &Namespace {
        &self.ends[0]
    }

    /// This very program, inside the client's end.
    pub(crate) fn own_client(&self) -> Result<Command> {
        own(self.client())
    }

    /// Where the servers listen.
    pub(crate) fn server_address(&self) -> Ipv4Addr {
        self.addresses[1]
    }

    /// User and system time of the processes that forward; `None` where the kernel does.
    pub(crate) fn cpu_time(&self) -> Option<Duration> {
        match &self.switch {
            Switch::Kernel(_) => None,
            Switch::Processes(pids, ..) => pids.iter().map(|pid| cpu_time(*pid)).sum(),
        }
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
