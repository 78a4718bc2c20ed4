//! What is compared: each joins two namespaces, the client's and the server's.
//!
//! Across the switch both are containers. On the way out the client is a container and the server is far away: behind a host,
//! a namespace too, in which the backend runs.

pub(crate) mod bare;
mod bridge;
mod host;
mod openvswitch;
mod pasta;
mod routed;
mod slirp4netns;
pub(crate) mod tapswitch;
mod vde;
mod veth;

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Serialize, Serializer};

use crate::folder::Folder;
use crate::measure::far::{self, Service};
use crate::namespace::Namespace;
use crate::process::Running;
use crate::usage;
use host::Host;

/// The subnet of the ends, in every backend that leaves the choice.
const SUBNET: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 0);
/// Its prefix length.
const PREFIX: u8 = 24;
/// Ends that have an address in it: it has a network's and a broadcast's, and none of them has the first, which gateways like.
const MOST_ENDS: u32 = 253;
/// The client's device, in every backend.
pub(crate) const DEVICE: &str = "eth0";
/// Ends of a comparison between containers: two that are measured, and two more beside them.
const ENDS: usize = 4;
/// Most that a backend may take to give the client its device.
const LIMIT: Duration = Duration::from_secs(10);

/// A way from one namespace to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Backend {
    /// The switch between two containers: guard, icc with a rule, counters, all on.
    Tapswitch,
    /// Another build of it.
    Other,
    /// A kernel bridge and two veth pairs: what docker0 is.
    Bridge,
    /// A veth pair and no switch.
    Veth,
    /// Two TAPs and the engine's own loop, with no lookup: what the switch could reach at best.
    Bare,
    /// Open vSwitch with its datapath in user space, over TAPs.
    Openvswitch,
    /// `vde_switch`, over TAPs.
    Vde,
    /// The switch's user uplink, with the container at the ordinary MTU of 1500.
    Uplink,
    /// That of another build.
    OtherUplink,
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
            Backend::Other | Backend::OtherUplink => "other build",
            Backend::Bridge => "bridge",
            Backend::Veth => "veth",
            Backend::Bare => "bare",
            Backend::Openvswitch => "OVS userspace",
            Backend::Vde => "VDE",
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
            Backend::Openvswitch => Some(("ovs-vswitchd", "openvswitch-switch")),
            Backend::Vde => Some(("vde_plug2tap", "vde2")),
            Backend::Pasta1500 | Backend::Pasta65520 => Some(("pasta", "passt")),
            Backend::Slirp1500 | Backend::Slirp65520 => Some(("slirp4netns", "slirp4netns")),
            _ => None,
        }
    }

    /// Whether it is another build of the switch.
    pub(crate) fn is_other(self) -> bool {
        matches!(self, Backend::Other | Backend::OtherUplink)
    }

    /// Makes the namespaces, joins them, and starts the servers. `switch` is the program of those that are the switch.
    pub(crate) fn set_up(self, switch: &Path) -> Result<Joined> {
        let join: Box<dyn Fn(&[Namespace]) -> _> = match self {
            Backend::Tapswitch | Backend::Other => Box::new(|ends| tapswitch::join(ends, switch)),
            Backend::Bridge => Box::new(bridge::join),
            Backend::Veth => Box::new(veth::join),
            Backend::Bare => Box::new(bare::join),
            Backend::Openvswitch => Box::new(openvswitch::join),
            Backend::Vde => Box::new(vde::join),
            _ => return self.lead_out(switch),
        };
        let ends = (0..ENDS).map(|_| Namespace::new()).collect::<Result<Vec<_>>>()?;
        let (addresses, carrier) = join(&ends)?;
        let [client, server, from, to] = <[_; ENDS]>::try_from(ends).expect("as many as were made");
        let beside = Beside { from, _to: to, address: addresses[3] };
        Joined::new(client, server, addresses[1], Some(beside), carrier)
    }

    fn lead_out(self, switch: &Path) -> Result<Joined> {
        let (client, host) = (Namespace::new()?, Host::new()?);
        let (server, address, carrier) = match self {
            Backend::Pasta1500 => pasta::lead_out(&client, host, 1500)?,
            Backend::Pasta65520 => pasta::lead_out(&client, host, 65520)?,
            Backend::Slirp1500 => slirp4netns::lead_out(&client, host, 1500)?,
            Backend::Slirp65520 => slirp4netns::lead_out(&client, host, 65520)?,
            Backend::Routed => routed::lead_out(&client, host)?,
            _ => tapswitch::lead_out(&client, host, switch)?,
        };
        Joined::new(client, server, address, None, carrier)
    }
}

/// The addresses of the ends, in every backend that leaves the choice.
fn addresses() -> impl Iterator<Item = Ipv4Addr> {
    (0..MOST_ENDS).map(address)
}

/// The address of one of them.
const fn address(end: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(SUBNET.to_bits() + 2 + end)
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
    beside: Option<Beside>,
}

/// Two more, joined by the same carrier.
#[derive(Debug)]
struct Beside {
    from: Namespace,
    _to: Namespace,
    address: Ipv4Addr,
}

/// What moves the frames.
#[derive(Debug, Default)]
struct Carrier {
    /// The processes that do; none where the kernel does, in nobody's time.
    pids: Vec<u32>,
    /// Held for their drops, as all below.
    _running: Vec<Running>,
    _folder: Option<Folder>,
    /// The host it leads out of.
    host: Option<Namespace>,
    /// A namespace that it has for itself.
    _within: Option<Namespace>,
}

impl Joined {
    fn new(
        client: Namespace,
        server: Namespace,
        address: Ipv4Addr,
        beside: Option<Beside>,
        carrier: Carrier,
    ) -> Result<Joined> {
        let mut servers = own(&server)?;
        servers.args(["far", &address.to_string()]);
        let mut servers = Running::start(servers)?;
        servers.wait_ready("the servers")?;
        Ok(Joined { _servers: servers, carrier, client, server, address, beside })
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

    /// Another container on the same carrier, and the address of one more, where there are such.
    pub(crate) fn beside(&self) -> Option<(&Namespace, Ipv4Addr)> {
        self.beside.as_ref().map(|beside| (&beside.from, beside.address))
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
        usage::sum(&self.carrier.pids, usage::cpu_time)
    }

    /// Bytes that these processes hold in memory; `None` where the kernel forwards.
    pub(crate) fn resident(&self) -> Option<u64> {
        usage::sum(&self.carrier.pids, usage::resident)
    }
}

/// This very program, inside a namespace.
pub(crate) fn own(namespace: &Namespace) -> Result<Command> {
    let path = std::env::current_exe().context("find this program")?;
    Ok(namespace.command(path.to_str().context("this program's path is text")?))
}
