//! A switch with some number of ports, as it ships: guard on, icc on, the uplink of its user.
//!
//! Of its containers some take part in what is measured, and are namespaces like those of a comparison. The others are only
//! there: each is one descriptor of this program.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

use crate::backend::own;
use crate::backend::tapswitch::{Daemon, built, wait_until_reached};
use crate::measure::Quantile;
use crate::measure::iperf::Way;
use crate::measure::ping;
use crate::namespace::Namespace;
use crate::process::{Running, end_orphan, wait};

/// Most pairs that are busy at once.
pub(super) const MOST_PAIRS: usize = 32;
/// How often it is looked whether all is quiet.
const LOOK: Duration = Duration::from_secs(1);
/// Most that the stacks of containers may go on speaking after they were attached, and that containers may take to go.
const SETTLE: Duration = Duration::from_secs(60);

/// The switch and its containers.
#[derive(Debug)]
pub(super) struct Site {
    ports: u32,
    // Gone before the daemon is ended, which then has nothing to hold on to.
    busy: Vec<(Namespace, Ipv4Addr)>,
    idle: Vec<OwnedFd>,
    pids: Vec<u32>,
    daemon: Option<Daemon>,
}

/// A container that has no device yet.
#[derive(Debug)]
pub(super) enum Container {
    /// One that will take part.
    Busy(Namespace),
    /// One that will not.
    Idle(OwnedFd),
}

impl Container {
    /// Its namespace's path.
    pub(super) fn path(&self) -> String {
        match self {
            Container::Busy(namespace) => format!("/proc/{}/ns/net", namespace.pid()),
            Container::Idle(fd) => format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd()),
        }
    }
}

impl Site {
    /// A switch, and nobody at it.
    pub(super) fn new(ports: u32) -> Result<Site> {
        let daemon = Daemon::up(&built()?, None, &format!("scale-{ports}"), &[])?;
        let pids = daemon.pids()?;
        Ok(Site { ports, busy: Vec::new(), idle: Vec::new(), pids, daemon: Some(daemon) })
    }

    /// How many it will have, or has.
    pub(super) fn ports(&self) -> u32 {
        self.ports
    }

    /// The processes of the switch.
    pub(super) fn pids(&self) -> &[u32] {
        &self.pids
    }

    pub(super) fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("there until it is dropped")
    }

    /// The next container; the first ones take part.
    pub(super) fn next_container(&self) -> Result<Container> {
        if self.busy.len() < MOST_PAIRS * 2 {
            return Ok(Container::Busy(Namespace::new()?));
        }
        Ok(Container::Idle(bare_namespace()?))
    }

    /// Keeps one that has its device now, with this address.
    pub(super) fn keep(&mut self, container: Container, address: Ipv4Addr) {
        match container {
            Container::Busy(namespace) => self.busy.push((namespace, address)),
            Container::Idle(fd) => self.idle.push(fd),
        }
    }

    /// Waits until no container says anything of itself any more.
    pub(super) fn wait_until_quiet(&self) -> Result<()> {
        let mut last = None;
        let start = Instant::now();
        while start.elapsed() < SETTLE {
            let stats: Value = serde_json::from_str(&self.daemon().ask(&["stats", "--json"])?)?;
            let read = stats["total"]["rx_frames"].as_u64().context("tapswitch stats names no rx_frames")?;
            if last.replace(read) == Some(read) {
                break;
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Gbit/s over at most so many pairs, one stream each, all together.
    pub(super) fn throughput(&self, most: usize, time: Duration) -> Result<f64> {
        let pairs = self.busy.chunks_exact(2).take(most);
        let ways = pairs.map(|pair| Way { client: &pair[0].0, server: &pair[1].0, address: pair[1].1 });
        let servers = ways.map(Way::serve).collect::<Result<Vec<_>>>()?;
        // All servers are there: the clients start together, but for the time to start a program.
        let runs = servers.into_iter().map(|server| server.run(time, &["--congestion", "cubic"]));
        let runs = runs.collect::<Result<Vec<_>>>()?;
        let rates = runs.into_iter().map(|run| Ok(run.received(time)?.gigabits()));
        rates.sum()
    }

    /// The distribution of pings between two, in microseconds.
    pub(super) fn pings(&self, time: Duration) -> Result<Vec<(Quantile, f64)>> {
        let [(from, _), (_, to), ..] = self.busy.as_slice() else { return Ok(Vec::new()) };
        wait_until_reached(from, *to)?;
        ping::pings(from, *to, time)
    }

    /// Has the third one flood, until it is dropped.
    pub(super) fn flood(&self) -> Result<Running> {
        let (flooder, _) = self.busy.get(2).context("a flood needs a third container")?;
        let mut command = own(flooder)?;
        command.arg("flood");
        let mut flood = Running::start(command)?;
        flood.wait_ready("the flood")?;
        Ok(flood)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.busy.clear();
        self.idle.clear();
        let Some(daemon) = self.daemon.take() else { return };
        let gone = || {
            let status: Value = serde_json::from_str(&daemon.ask(&["status", "--json"])?)?;
            Ok((status["endpoints"] == 0).then_some(()))
        };
        // Ended all the same if some stay, or the user is in a hurry.
        let _ = wait("containers to go", SETTLE, gone);
        drop(daemon);
        // A keeper that had to be killed leaves a switch that forwards on.
        self.pids.iter().copied().for_each(end_orphan);
    }
}

/// A namespace without a process: it goes with the descriptor.
fn bare_namespace() -> Result<OwnedFd> {
    // Of a thread that ends: this one stays where it is.
    let made = std::thread::spawn(|| -> Result<OwnedFd> {
        unshare(CloneFlags::CLONE_NEWNET).context("make a namespace")?;
        // Router solicitations and the like are not what is measured.
        for scope in ["all", "default"] {
            let path = format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6");
            std::fs::write(&path, "1").with_context(|| format!("write {path}"))?;
        }
        Ok(tapswitch_netns::Namespace::current().context("open a namespace")?.into())
    });
    made.join().map_err(|_| anyhow!("the thread that makes a namespace panicked"))?
}
