//! The start of a switch process: what the files say, what the keeper kept, and what becomes of it.
//!
//! | endpoint's file | TAP kept by the keeper | then |
//! |---|---|---|
//! | there | yes | up at once, same addresses, same port number; its namespace noticed nothing |
//! | there | no | the persistent device is attached again by name; dropped where its namespace is gone, else `lost` |
//! | none, or bad | yes | destroyed: nobody knows its addresses |
//!
//! A network's file that is bad is replaced by its spare copy in the run directory. What cannot be restored is named in a
//! warning and never keeps the switch from starting.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, never};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::{TimeVal, TimeValLike};
use tapswitch_ipam::{GlobalId, Occupied, Wanted};
use tapswitch_netns::{Tap, message};

use super::contradiction::contradiction;
use super::detach::Then;
use super::jobs::Job;
use super::networks::random_global_id;
use super::pools::Pools;
use super::port_ids::Ports;
use super::publish::Closed;
use super::resolve::Place;
use super::{Control, owner};
use crate::daemon::docker::Relays;
use crate::daemon::endpoint::{self, Endpoint, Phase};
use crate::daemon::host_access;
use crate::daemon::keeper::message::{EndpointKey, SocketKey, ToKeeper, ToSwitch};
use crate::daemon::keeper_link::KeeperLink;
use crate::daemon::name::Name;
use crate::daemon::network::Network;
use crate::daemon::refusal::{Outcome, Refusal};
use crate::daemon::settings::Settings;
use crate::daemon::state::{
    Disk, EndpointRecord, Loaded, NetworkRecord, Orders, PublicationRecord, SiteRecord, StateDir,
};
use crate::daemon::tun_node;
use crate::engine::{Engine, EngineConfig, EngineEvent, Snapshot};
use crate::gateway::Names;
use crate::uplink::Published;
use crate::uplink::user::{User, udp_permits};

/// How long the keeper may take between two of the TAPs that it hands over.
const HANDOVER: i64 = 10;

/// What control begins with.
#[derive(Debug)]
pub(crate) struct Begin {
    /// The daemon's settings.
    pub settings: Settings,
    /// The channel to the keeper, which hands over what it kept.
    pub keeper: OwnedFd,
    /// The keeper's process.
    pub keeper_pid: u32,
    /// The daemon is root's.
    pub privileged: bool,
    /// The kernel has IPv6.
    pub has_ipv6: bool,
    /// How many switch processes this keeper had before.
    pub restarts: u32,
    /// The listener of `keeper.sock`, for after the keeper's death.
    pub takeover: OwnedFd,
    /// What the host uses.
    pub host: Occupied,
    /// The names at the gateways.
    pub names: Names,
    /// The names at the resolvers of Docker's containers.
    pub relays: Relays,
    /// Where workers tell what happens to ports.
    pub events: Sender<EngineEvent>,
    /// Brings files to the disk.
    pub disk: Disk,
}

/// Restores everything; on return what the keeper kept is forwarded.
///
/// # Errors
/// One line, when the switch cannot start for good.
pub(crate) fn begin(begin: Begin) -> Result<Control, String> {
    let mut warnings = Vec::new();
    let Dirs { kept, spare, site, live, ports, pools } = Dirs::open(&begin.settings).map_err(|e| e.to_string())?;
    let disk = begin.disk.orders();
    let (networks, lost) = networks(&kept, &spare, disk, &mut warnings).map_err(|e| e.to_string())?;
    if begin.restarts == 0 {
        warnings.extend(contradictions(&begin.settings, &networks, begin.has_ipv6));
    }
    let global_id = global_id(&site, disk, &mut warnings).map_err(|e| e.to_string())?;
    let config = EngineConfig { workers: begin.settings.workers, io: begin.settings.io };
    let udp_permits = udp_permits();
    let user = |_| User::new(begin.names.link(), udp_permits.clone());
    let engine = Engine::start(config, Snapshot::default(), begin.events, user);
    let engine = engine.map_err(|e| format!("start workers: {e}"))?;
    let endpoints = live.read_all::<EndpointRecord>().map_err(|e| e.to_string())?;
    let (ports, warning) = Ports::open(ports, endpoints.entries.iter().map(|(_, record)| record.port));
    warnings.extend(warning);
    let (descriptors, _) =
        getrlimit(Resource::RLIMIT_NOFILE).map_err(|e| format!("read the limit of open files: {e}"))?;
    let (pools, bad) = Pools::open(pools, disk.clone()).map_err(|e| e.to_string())?;
    warnings.extend(bad);
    let mut control = Control {
        settings: begin.settings,
        networks,
        devices: BTreeMap::new(),
        engine,
        names: begin.names,
        keeper: KeeperLink::new(begin.keeper.try_clone().map_err(|e| e.to_string())?, begin.keeper_pid),
        jobs: BTreeMap::new(),
        mtu_changes: Vec::new(),
        next_change: 0,
        next_publication: 0,
        ports,
        pools,
        relays: begin.relays,
        disk: begin.disk,
        kept,
        spare,
        live,
        global_id,
        host_addresses: host_access::addresses(&begin.host).into(),
        host: begin.host,
        warnings: Vec::new(),
        published: Published::default(),
        descriptors,
        restarts: begin.restarts,
        privileged: begin.privileged,
        has_ipv6: begin.has_ipv6,
        lacks_tun: false,
        started: Instant::now(),
        ready: false,
        down: None,
        ending: None,
        expire: never(),
        takeover: begin.takeover,
        knocks: never(),
    };
    let host = std::mem::take(&mut control.host);
    control.host = control.but_ours(host);
    warnings.into_iter().for_each(|warning| control.warn(warning));
    control.networks_changed();
    let handed_over = handed_over(&begin.keeper)?;
    // What runs must go on.
    let may_refuse = control.restarts == 0 && handed_over.taps.is_empty();
    control.make_missing_networks(may_refuse, &lost)?;
    control.restore_endpoints(endpoints, handed_over);
    control.look_for_collisions();
    // Nobody is kept waiting yet.
    if let Err(error) = control.disk.settle()
        && may_refuse
    {
        return Err(error);
    }
    if let Some(warning) = tun_node::warning(control.privileged) {
        tracing::warn!("{warning}");
        control.lacks_tun = true;
    }
    Ok(control)
}

/// The directories.
struct Dirs {
    kept: StateDir,
    spare: StateDir,
    site: StateDir,
    live: StateDir,
    ports: StateDir,
    pools: StateDir,
}

impl Dirs {
    fn open(settings: &Settings) -> io::Result<Dirs> {
        let (state, run) = (&settings.state_dir, &settings.run_dir);
        Ok(Dirs {
            kept: StateDir::open(networks_dir(settings))?,
            site: StateDir::open(state.join("site"))?,
            spare: StateDir::open(run.join("networks"))?,
            live: StateDir::open(run.join("endpoints"))?,
            ports: StateDir::open(run.join("ports"))?,
            pools: StateDir::open(state.join("pools"))?,
        })
    }
}

/// The stored networks, and the keys of those that are lost.
fn networks(
    kept: &StateDir,
    spare: &StateDir,
    disk: &Orders,
    warnings: &mut Vec<String>,
) -> io::Result<(BTreeMap<Name, Network>, Vec<String>)> {
    let Loaded { entries, bad } = kept.read_all::<NetworkRecord>()?;
    let mut networks = BTreeMap::new();
    let mut lost = Vec::new();
    for (key, record) in entries {
        if record.name.as_str() == key {
            // None is left after the machine has started.
            if spare.read::<NetworkRecord>(&key).ok().as_ref() != Some(&record) {
                spare.write(&key, &record)?;
            }
            networks.insert(record.name.clone(), Network::new(record));
        } else {
            warnings.push(kept.move_aside(&key, "it speaks of another network"));
        }
    }
    for (key, warning) in bad {
        match spare.read::<NetworkRecord>(&key).ok().filter(|record| record.name.as_str() == key) {
            Some(record) => {
                warnings.push(format!("{warning}; restored from its copy in the run directory"));
                disk.write(kept, &key, &record)?;
                networks.insert(record.name.clone(), Network::new(record));
            }
            None => {
                warnings.push(format!("{warning}; network {key} is lost"));
                lost.push(key);
            }
        }
    }
    Ok((networks, lost))
}

/// Refuses to start with flags that contradict the stored network. It changes nothing that is stored, so that it may be asked before
/// anything is taken over.
///
/// # Errors
/// One line that names both values.
pub(crate) fn refuse_contradiction(settings: &Settings, has_ipv6: bool) -> Result<(), String> {
    let Some(flags) = &settings.flags else { return Ok(()) };
    let kept = StateDir::open(networks_dir(settings)).map_err(|e| e.to_string())?;
    // One that is bad or not there contradicts nothing.
    let stored = kept.read::<NetworkRecord>(&flags.name).ok();
    let Some(contradiction) = stored.and_then(|stored| contradiction(flags, &stored, has_ipv6)) else { return Ok(()) };
    Err(format!("{}: {}", contradiction.text, contradiction.remedy(&flags.name)))
}

fn networks_dir(settings: &Settings) -> PathBuf {
    settings.state_dir.join("networks")
}

/// A line of the settings file that contradicts a stored network is a warning: `network set` may have changed it since.
fn contradictions(settings: &Settings, networks: &BTreeMap<Name, Network>, has_ipv6: bool) -> Vec<String> {
    let stored = |name: &str| networks.values().find(|n| n.record.name.as_str() == name).map(|n| &n.record);
    let of_file = settings.networks.iter().filter_map(|wanted| contradiction(wanted, stored(&wanted.name)?, has_ipv6));
    of_file.map(|found| format!("settings: {}; the stored value is kept", found.text)).collect()
}

fn global_id(site: &StateDir, disk: &Orders, warnings: &mut Vec<String>) -> io::Result<GlobalId> {
    const KEY: &str = "site";
    let loaded = site.read_all::<SiteRecord>()?;
    warnings.extend(loaded.bad.into_iter().map(|(_, warning)| warning));
    if let Some((_, record)) = loaded.entries.iter().find(|(key, _)| key == KEY) {
        return Ok(record.global_id);
    }
    let global_id = random_global_id()?;
    disk.write(site, KEY, &SiteRecord { global_id })?;
    Ok(global_id)
}

/// What the keeper kept.
#[derive(Default)]
struct Kept {
    taps: BTreeMap<EndpointKey, Tap>,
    /// Of published ports.
    sockets: BTreeMap<SocketKey, OwnedFd>,
}

fn handed_over(keeper: &OwnedFd) -> Result<Kept, String> {
    let timeout = |seconds| setsockopt(keeper, ReceiveTimeout, &TimeVal::seconds(seconds)).map_err(|e| e.to_string());
    timeout(HANDOVER)?;
    let mut kept = Kept::default();
    loop {
        match message::recv::<ToSwitch>(keeper.as_fd()) {
            Ok(Some((ToSwitch::Kept { endpoint, tap: info }, Some(fd)))) => {
                drop(kept.taps.insert(endpoint, Tap { fd, info }))
            }
            Ok(Some((ToSwitch::KeptSocket { socket }, Some(fd)))) => drop(kept.sockets.insert(socket, fd)),
            Ok(Some((ToSwitch::KeptAll, _))) => break,
            Ok(Some((other, _))) => return Err(format!("take over from the keeper: unexpected message {other:?}")),
            Ok(None) => return Err("take over from the keeper: it is gone".into()),
            Err(error) => return Err(format!("take over from the keeper: {error}")),
        }
    }
    timeout(0)?;
    Ok(kept)
}

impl Control {
    /// Makes what the settings name and the state does not have. While the daemon runs that is what is `lost`; others were removed.
    fn make_missing_networks(&mut self, may_refuse: bool, lost: &[String]) -> Result<(), String> {
        for wanted in self.settings.networks.clone() {
            let is_there = self.networks.keys().any(|name| name.as_str() == wanted.name);
            if is_there || (self.restarts > 0 && !lost.contains(&wanted.name)) {
                continue;
            }
            match self.create_network(&wanted, None) {
                Ok(_) => {}
                Err(error) if may_refuse => return Err(error.to_string()),
                Err(error) => self.warn(error.to_string()),
            }
        }
        Ok(())
    }

    fn restore_endpoints(&mut self, loaded: Loaded<EndpointRecord>, handed_over: Kept) {
        let Kept { mut taps, mut sockets } = handed_over;
        let mut closed = Vec::new();
        loaded.bad.into_iter().for_each(|(_, warning)| self.warn(warning));
        let mut kept = Vec::new();
        let mut lost = Vec::new();
        for (key, record) in loaded.entries {
            match self.reserve_again(&key, record) {
                Ok(at) => {
                    closed.push((at.clone(), self.publish_kept(&at, &mut sockets)));
                    match taps.remove(&endpoint::key(&at.network, &at.name)) {
                        Some(tap) => kept.push((at, tap)),
                        None => lost.push(at),
                    }
                }
                Err(why) => {
                    let warning = self.live.move_aside(&key, &why);
                    self.warn(warning);
                }
            }
        }
        self.serve(kept);
        lost.into_iter().for_each(|at| self.reattach(at));
        self.restore_host_devices(|network| taps.remove(&endpoint::key(network, &host_access::name())));
        taps.into_iter().for_each(|(key, tap)| self.destroy_stray(key, tap));
        sockets.into_iter().for_each(|(key, fd)| self.close_stray(key, fd));
        closed.into_iter().for_each(|(at, records)| self.publish_again(&at, records));
        self.follow_all();
    }

    /// Takes the sockets of what an endpoint publishes; returns what none was kept of.
    fn publish_kept(&mut self, at: &Place, sockets: &mut BTreeMap<SocketKey, OwnedFd>) -> Vec<PublicationRecord> {
        let record = &self.networks[&at.network].endpoints[&at.name].record;
        let (port, published) = (record.port, record.published.clone());
        let mut none = Vec::new();
        for record in published {
            let kept = sockets.remove(&SocketKey { transport: record.transport, address: record.host });
            let Some(fd) = kept else {
                none.push(record);
                continue;
            };
            let publication = self.publication(port, &record, fd);
            if let Some(endpoint) = self.networks.get_mut(&at.network).and_then(|n| n.endpoints.get_mut(&at.name)) {
                endpoint.publications.push(publication);
                self.published.set(port, &endpoint.publications);
            }
        }
        none
    }

    /// Takes name, addresses and device name again, as `reserve` did.
    fn reserve_again(&mut self, key: &str, record: EndpointRecord) -> Result<Place, String> {
        if EndpointRecord::file_key(&record.network, &record.name) != key {
            return Err("it speaks of another endpoint".into());
        }
        let device = (record.namespace, record.ifname.clone());
        if let Some(by) = self.devices.get(&device) {
            return Err(format!("its device is {by}'s"));
        }
        let network = self.networks.get_mut(&record.network).ok_or_else(|| format!("no network {}", record.network))?;
        let endpoints = &network.endpoints;
        if let Some(other) = endpoints.with_mac(record.mac).or_else(|| endpoints.with_port(record.port)) {
            return Err(format!("its MAC or port is {}'s", other.record.name));
        }
        if record.mac.is_group() || record.mac == network.record.gateway_mac {
            return Err(format!("mac {} cannot be an endpoint's", record.mac));
        }
        let wanted = Wanted { ipv4: Some(record.ipv4), ipv6: record.ipv6 };
        network.leases.request(&owner(&record.name), wanted, Duration::ZERO).map_err(|e| e.to_string())?;
        let at = Place { network: record.network.clone(), name: record.name.clone() };
        network.endpoints.insert(Endpoint::new(record, Phase::Lost));
        // Neighbours know: it was served before.
        network.note_macs(&at.name);
        self.devices.insert(device, at.clone());
        Ok(at)
    }

    fn reattach(&mut self, at: Place) {
        let (endpoint, device) = (endpoint::key(&at.network, &at.name), self.device_of(&at));
        let namespace = self.networks[&at.network].endpoints[&at.name].record.namespace;
        match self.keeper.submit(|job| ToKeeper::Reattach { job, endpoint, namespace, device }, None) {
            Ok(job) => drop(self.jobs.insert(job, Job::Reattach(at))),
            Err(error) => self.warn(format!("attach {at} again: {error}")),
        }
    }

    /// An endpoint's device was attached again, or was not.
    pub(super) fn reattach_done(&mut self, at: &Place, device: Outcome<Tap>) {
        match device {
            // It may have been detached meanwhile, and the keeper destroys it.
            Ok(_) if self.awaited(at).is_none() => {}
            Ok(tap) => {
                self.serve(vec![(at.clone(), tap)]);
                self.follow_again(at);
            }
            // A container may end while no daemon runs, as at any other time.
            Err(Refusal::Unknown(_)) => {
                tracing::info!("{at} has ended while it was not served: detached");
                self.withdraw(vec![(at.clone(), Then::Nothing)], false);
            }
            Err(error) => self.warn(format!("{at}: {error}")),
        }
    }

    fn destroy_stray(&mut self, key: EndpointKey, tap: Tap) {
        drop(tap);
        self.warn(format!("a device of {} was kept, and its addresses are not known: removed", key.0));
        let label = key.0.clone();
        if let Ok(job) = self.keeper.submit(|job| ToKeeper::Detach { job, endpoint: key }, None) {
            self.jobs.insert(job, Job::Stray(label));
        }
    }

    /// A socket that was bound for nobody's publication, or for one that was never written down.
    fn close_stray(&mut self, socket: SocketKey, fd: OwnedFd) {
        drop(fd);
        self.unbind(socket);
    }

    /// Has the keeper close a socket that nothing here serves.
    pub(super) fn unbind(&mut self, socket: SocketKey) {
        if let Ok(job) = self.keeper.submit(|job| ToKeeper::Unbind { job, socket }, None) {
            self.jobs.insert(job, Job::Unbind(Closed::Nothing));
        }
    }
}
