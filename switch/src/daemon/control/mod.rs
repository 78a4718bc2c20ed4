//! Control: one thread that owns every network and endpoint, and tells workers and keeper what follows.
//!
//! It waits for commands (of the API and of `attach.sock`), answers of the keeper, events of the workers, changes of the
//! host, and does one thing at a time. What takes long is done by the keeper: meanwhile an endpoint is `Coming` or
//! `Going`, which holds its name, addresses and device, a [`Job`] remembers who waits for it, and other commands are
//! served. The disk is waited for as little: what is to be kept is ordered, and an answer that depends on it leaves when it
//! is there ([`Reply`]). Nothing here is locked, and nothing wakes it but these channels: idle, it costs nothing.
//!
//! An order that is kept everywhere: a device exists before its endpoint's file and is destroyed after it, so that a
//! file always speaks of a device, and a device without a file is known to be nobody's.
//!
//! Limits: [`MAX_NETWORKS`], [`MAX_ENDPOINTS`], [`MAX_RULES`], and the length of the command channel.

mod attach;
mod command;
mod contradiction;
mod detach;
mod docker;
mod follow;
mod jobs;
mod mtu;
mod networks;
mod pools;
mod port_ids;
mod publish;
mod queries;
mod removal;
mod resolve;
mod restore;
mod rules;
mod takeover;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod uplink_host;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, never, select, tick};
use tapswitch_ipam::{GlobalId, Occupied, Owner};
use tapswitch_netns::{NamespaceId, OffloadMode};

pub(crate) use command::{Command, Handle, Reply, channel};
pub(crate) use docker::{DockerEndpoint, DockerNetwork};
pub(crate) use pools::Purpose;
pub(crate) use publish::info as publication_info;
pub(crate) use queries::Selection;
pub(crate) use resolve::Place;
pub(crate) use restore::{Begin, begin, refuse_contradiction};

use super::api::types::EndpointInfo;
use super::docker::Relays;
use super::host_access;
use super::keeper::message::JobId;
use super::keeper_link::{FromKeeper, KeeperLink};
use super::name::Name;
use super::network::Network;
use super::refusal::{Outcome, Refusal};
use super::settings::Settings;
use super::state::{Disk, NetworkRecord, StateDir};
use crate::engine::{Changed, Engine, EngineEvent, Snapshot};
use crate::forwarding::Ranges;
use crate::gateway::{Names, Zones};
use crate::uplink::{HostAddresses, Plan, Published, Refused, View};
use jobs::Job;
use mtu::MtuChange;
use pools::Pools;
use port_ids::Ports;

/// Most networks.
const MAX_NETWORKS: usize = 256;
/// Most endpoints: each holds a descriptor here and one in the keeper. Fewer where the limit of open files leaves less room.
const MAX_ENDPOINTS: usize = 4096;
/// Descriptors of this process, and of the keeper, that are no endpoint's: rings, channels, listeners, state directories.
const OTHER_DESCRIPTORS: u64 = 96;
/// Most rules of a network.
const MAX_RULES: usize = 4096;
/// Most warnings that are kept.
const MAX_WARNINGS: usize = 100;
/// How often aged MACs are cleared away, while some port learns.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);

/// How control ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Told to stop: devices stay, and the next start takes them over.
    Stopped,
    /// `tapswitch down`: nothing is left.
    Down,
    /// The next keeper has the devices, and waits for the end of this process.
    TakenOver,
}

/// What control waits for.
#[derive(Debug)]
pub(crate) struct Inputs {
    /// Of the API and of `attach.sock`.
    pub commands: Receiver<Command>,
    /// Of the workers.
    pub engine: Receiver<EngineEvent>,
    /// Of the keeper.
    pub keeper: Receiver<FromKeeper>,
    /// What the host uses now, after each change.
    pub host: Receiver<Occupied>,
}

/// All that the daemon serves.
#[derive(Debug)]
pub(crate) struct Control {
    settings: Settings,
    networks: BTreeMap<Name, Network>,
    /// Which endpoint has a device of that name in that namespace.
    devices: BTreeMap<(NamespaceId, String), Place>,
    engine: Engine<View>,
    names: Names,
    keeper: KeeperLink,
    jobs: BTreeMap<JobId, Job>,
    mtu_changes: Vec<MtuChange>,
    next_change: u64,
    next_publication: u64,
    ports: Ports,
    pools: Pools,
    relays: Relays,
    /// Brings files to the disk.
    disk: Disk,
    /// Networks, for good.
    kept: StateDir,
    /// The same once more beside the sockets, for the case that a file in `kept` is bad.
    spare: StateDir,
    /// Endpoints.
    live: StateDir,
    global_id: GlobalId,
    host: Occupied,
    /// Those of `host` that containers must not reach.
    host_addresses: Arc<HostAddresses>,
    warnings: Vec<String>,
    /// What is published of the endpoints, for the workers.
    published: Published,
    /// Most descriptors that this process may have, and the keeper.
    descriptors: u64,
    restarts: u32,
    /// It is root's, who may make devices on the host.
    privileged: bool,
    /// The kernel has IPv6.
    has_ipv6: bool,
    /// The tun node could not be opened when control began.
    lacks_tun: bool,
    started: Instant,
    /// The keeper was told that the switch serves.
    ready: bool,
    /// Who waits for `down`.
    down: Option<Reply<()>>,
    ending: Option<Ending>,
    expire: Receiver<Instant>,
    /// The listener of `keeper.sock`.
    takeover: OwnedFd,
    /// Somebody is there, after the keeper died.
    knocks: Receiver<()>,
}

impl Control {
    /// Serves until it is told to end.
    pub(crate) fn run(mut self, mut inputs: Inputs) -> Ending {
        loop {
            self.disk.orders().turn();
            self.settle();
            if let Some(ending) = self.ending {
                return ending;
            }
            // A channel whose other end is gone would be ready for ever.
            select! {
                recv(inputs.commands) -> command => match command {
                    Ok(command) => command(&mut self),
                    Err(_) => inputs.commands = never(),
                },
                recv(inputs.keeper) -> said => match said {
                    Ok(said) => self.hear(said),
                    Err(_) => inputs.keeper = never(),
                },
                recv(inputs.engine) -> event => match event {
                    Ok(event) => self.ports_gone(event, &inputs.engine),
                    Err(_) => inputs.engine = never(),
                },
                recv(inputs.host) -> host => match host {
                    Ok(host) => self.host_changed(host),
                    Err(_) => inputs.host = never(),
                },
                recv(self.disk.failures()) -> failure => failure.into_iter().for_each(|failure| self.warn(failure)),
                recv(self.expire) -> _ => self.expire_learned(),
                recv(self.knocks) -> knock => match knock {
                    Ok(()) => self.hand_over(),
                    Err(_) => self.knocks = never(),
                },
            }
        }
    }

    /// What may have become due after any input: telling the keeper that the switch serves, and the end of `down`.
    fn settle(&mut self) {
        let waited_for = |job: &Job| matches!(job, Job::Reattach(_) | Job::AttachHost(..) | Job::Route(..));
        if !self.ready && !self.jobs.values().any(waited_for) && !self.is_publishing_again() {
            self.ready = true;
            self.keeper.tell(&super::keeper::message::ToKeeper::Ready);
        }
        if self.jobs.is_empty()
            && let Some(reply) = self.down.take()
        {
            reply.send(Ok(()));
            self.keeper.tell(&super::keeper::message::ToKeeper::Down);
            self.ending = Some(Ending::Down);
        }
    }

    /// Brings the workers to what these endpoints are now, which came, went or publish other ports. On return no worker goes by
    /// anything older. The cost does not grow with the endpoints that did not change, in control and in the workers.
    fn publish(&mut self, changed: &[Place]) {
        // Where the host is, its network's settings say.
        let with_host: BTreeSet<Name> =
            changed.iter().filter(|at| host_access::is_taken(&at.name)).map(|at| at.network.clone()).collect();
        for of_one in changed.chunk_by(|a, b| a.network == b.network) {
            let name = &of_one[0].network;
            if let Some(network) = self.networks.get_mut(name).filter(|_| !with_host.contains(name)) {
                network.refresh_endpoints(of_one.iter().map(|at| &at.name));
            }
        }
        let mut ports = Vec::new();
        for at in changed {
            if let Some(endpoint) = self.networks.get(&at.network).and_then(|n| n.endpoints.get(&at.name)) {
                self.published.set(endpoint.record.port, &endpoint.publications);
                ports.push(endpoint.record.port);
            }
        }
        if with_host.is_empty() {
            self.publish_changed(Changed::Ports(ports.into()));
        } else {
            self.publish_networks(&with_host);
        }
    }

    /// Brings the workers to what these networks are now, and all else. On return no worker goes by anything older.
    fn publish_networks<'a>(&mut self, changed: impl IntoIterator<Item = &'a Name>) {
        for name in changed {
            if let Some(network) = self.networks.get_mut(name) {
                network.refresh();
            }
        }
        self.publish_changed(Changed::All);
    }

    fn publish_changed(&mut self, changed: Changed) {
        #[cfg(test)]
        self.networks.values().for_each(Network::assert_as_made_anew);
        let views = self.networks.values().map(|network| network.view.clone()).collect();
        self.names.publish(Zones::new(self.networks.values().map(|network| network.zone.clone())));
        self.engine.publish(Snapshot::new(views, self.plan()), changed);
        self.wind_expiry();
    }

    /// What the switch's sockets are to go by.
    fn plan(&self) -> Plan {
        let ours = self.networks.values().flat_map(Network::subnets);
        Plan {
            networks: self.networks.values().map(Network::plan).collect(),
            published: self.published.clone(),
            refused: Refused::new(Arc::clone(&self.host_addresses), ours),
        }
    }

    /// Notes that a network came or went: from now on nobody's packets lead there, or they do again.
    fn networks_changed(&mut self) {
        let ours = Arc::new(Ranges::new(self.networks.values().flat_map(Network::subnets)));
        self.networks.values_mut().for_each(|network| network.stand_beside(Arc::clone(&ours)));
        self.publish_networks([]);
    }

    /// A tick now and then while some port learns, and none otherwise.
    fn wind_expiry(&mut self) {
        if !self.networks.values().any(|network| network.view.network().learns()) {
            self.expire = never();
        } else if self.expire.same_channel(&never()) {
            self.expire = tick(EXPIRE_EVERY);
        }
    }

    fn expire_learned(&mut self) {
        let now = self.engine.now();
        for network in self.networks.values() {
            network.tables.fdb.expire(now);
        }
    }

    /// Time since control began: the clock of the leases.
    fn lease_time(&self) -> Duration {
        self.started.elapsed()
    }

    fn network(&self, name: &Name) -> Outcome<&Network> {
        self.networks.get(name).ok_or_else(|| unknown_network(name))
    }

    fn network_mut(&mut self, name: &Name) -> Outcome<&mut Network> {
        self.networks.get_mut(name).ok_or_else(|| unknown_network(name))
    }

    fn endpoint_info(&self, at: &Place) -> Outcome<EndpointInfo> {
        let network = self.network(&at.network)?;
        network.endpoints.get(&at.name).map(|e| e.info()).ok_or_else(|| resolve::unknown_endpoint(at))
    }

    /// Writes a network's file, and its spare: that first, since alone it is nothing. Who asked for it is answered when it is kept.
    fn store(&self, record: &NetworkRecord) -> Outcome<()> {
        let failed = |e: std::io::Error| Refusal::Failed(e.to_string());
        self.spare.write(record.name.as_str(), record).map_err(failed)?;
        self.disk.orders().write(&self.kept, record.name.as_str(), record).map_err(failed)
    }

    /// Notes, in the log and for `status`, what somebody should know.
    fn warn(&mut self, warning: String) {
        tracing::warn!("{warning}");
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(warning);
        }
    }

    fn offload(&self) -> OffloadMode {
        self.settings.offload
    }
}

fn unknown_network(name: &Name) -> Refusal {
    Refusal::Unknown(format!("no network {name} (`tapswitch network ls` shows them)"))
}

/// An endpoint's leases are its name's.
fn owner(name: &Name) -> Owner {
    Owner::new(name.as_str())
}

/// A TAP as the keeper sends it.
fn tap(fd: Option<OwnedFd>, info: tapswitch_netns::TapInfo) -> Outcome<tapswitch_netns::Tap> {
    let fd = fd.ok_or_else(|| Refusal::Failed("the keeper sent no descriptor with the device".into()))?;
    Ok(tapswitch_netns::Tap { fd, info })
}
