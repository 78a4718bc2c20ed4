//! A switch on cables, driven by hand on virtual time: one worker, what control publishes to it, and hosts.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use smoltcp::time::Instant as HostInstant;
use tapswitch::engine::{Changed, NetworkView, Nobody, Snapshot, Worker};
use tapswitch::forwarding::{
    DropReason, EgressDrop, FdbLimits, Instant, Network, NetworkSettings, NetworkSpec, PortId, PortSpec, Rate, Rule,
    RulePort, Tables,
};
use tapswitch::frame::Mac;
use tapswitch::frame::offload::HEADER_LEN;
use tapswitch::port::{self, Cable, Limits, Plug, PortCounts, RxCounters, TxPort};

use crate::host::Host;
use crate::line::{Faults, Line, MTU};
use crate::rng::Rng;

/// Turns of the worker in one step: a loop in the cabling never lets it find nothing.
const MAX_TURNS: usize = 64;
/// Longest that time jumps while nothing happens.
const MAX_JUMP: Duration = Duration::from_millis(100);
const STEP: Duration = Duration::from_millis(1);
/// Longest that a scenario waits for something, in virtual time.
const DEADLINE: Duration = Duration::from_secs(300);

/// The switch's side of a cable, as control keeps it.
pub(crate) struct Port {
    pub(crate) network: usize,
    spec: PortSpec,
    tx: Arc<TxPort>,
    rx: Arc<RxCounters>,
    /// To look at what the worker has not read yet, and what nobody has taken yet.
    plug: Plug,
    far: Plug,
}

pub(crate) struct Lan {
    pub(crate) now: Instant,
    pub(crate) hosts: Vec<Host>,
    pub(crate) ports: BTreeMap<PortId, Port>,
    worker: Worker<Snapshot>,
    /// All but their ports.
    networks: Vec<NetworkSpec>,
    tables: Vec<Arc<Tables>>,
    /// What was last published.
    views: Vec<NetworkView>,
    faults: Faults,
    rng: Rng,
    next_port: u32,
    /// Of the rate of ports that are attached from now on.
    pub(crate) limits: Limits,
    /// The highest of the worker's slots that a withdrawn port had.
    pub(crate) highest_slot: usize,
    /// Somebody asks for segments, so that a port may get more frames than are counted.
    pub(crate) with_segments: bool,
}

impl Port {
    pub(crate) fn mac(&self) -> Mac {
        self.spec.mac
    }
}

impl Lan {
    pub(crate) fn new(seed: u64, networks: u8, faults: Faults) -> Self {
        let networks: Vec<_> = (0..networks).map(spec).collect();
        let tables: Vec<_> = networks.iter().map(|_| Arc::new(Tables::new(FdbLimits::default()))).collect();
        let mut lan = Lan {
            now: Instant(1_000_000_000),
            hosts: Vec::new(),
            ports: BTreeMap::new(),
            worker: Worker::by_hand(0, Arc::new(Snapshot::default()), Nobody),
            networks,
            tables,
            views: Vec::new(),
            faults,
            rng: Rng::new(seed),
            next_port: 1,
            limits: Limits::default(),
            highest_slot: 0,
            with_segments: false,
        };
        lan.views = lan.views_anew();
        lan
    }

    /// A network with this many hosts, of which every second has no offload header.
    pub(crate) fn of_hosts(seed: u64, hosts: usize, faults: Faults) -> Self {
        let mut lan = Lan::new(seed, 1, faults);
        for n in 0..hosts {
            lan.attach(0, if n % 2 == 0 { HEADER_LEN } else { 0 });
        }
        lan
    }

    /// A new host; its place in `hosts`, valid until the next [`Lan::detach`].
    pub(crate) fn attach(&mut self, network: usize, header_len: usize) -> usize {
        let (far, near) = Cable::new();
        let line = Line::new(far.clone(), header_len, self.faults, Rng::new(self.rng.next()));
        let port = self.attach_plug(network, header_len, near, far, true);
        let spec = &self.ports[&port].spec;
        let (ip4, ip6) = (spec.ipv4.expect("leased"), spec.ipv6.expect("leased"));
        self.hosts.push(Host::new(port, ip4, ip6, line, self.rng.next()));
        self.hosts.len() - 1
    }

    /// A port on any plug, whose other end is `far`.
    pub(crate) fn attach_plug(
        &mut self,
        network: usize,
        header_len: usize,
        near: Plug,
        far: Plug,
        guard: bool,
    ) -> PortId {
        let id = PortId(self.next_port);
        self.next_port += 1;
        // The lowest free address; the gateway has the first. Addresses come again, ids never.
        let taken = |n: u8| self.ports.values().any(|port| port.spec.ipv4 == Some(address4(network, n)));
        let n = (2..255).find(|&n| !taken(n)).expect("a /24 has room");
        let ipv4 = address4(network, n);
        let ipv6 = Ipv6Addr::new(0xfd00, 0, 0, network as u16, 0, 0, 0, n.into());
        let (rx, tx) = port::open_cable_limited(id, near.clone(), header_len, 1, self.limits);
        let spec = PortSpec {
            id,
            mac: Mac::of_ipv4(ipv4),
            ipv4: Some(ipv4),
            ipv6: Some(ipv6),
            guard,
            learn: !guard,
            published: Default::default(),
        };
        self.views[network].attach(spec.clone(), tx.clone());
        let port = Port { network, spec, tx, rx: rx.counters().clone(), plug: near, far };
        self.ports.insert(id, port);
        self.publish(&Changed::Ports([id].into()));
        self.worker.take(rx, self.now);
        id
    }

    /// Withdraws a host and checks what was counted of it. The last of `hosts` takes its place.
    pub(crate) fn detach(&mut self, at: usize) {
        let mut host = self.hosts.swap_remove(at);
        let counts = self.withdraw(host.port);
        host.line.take_in();
        assert_eq!(counts.tx_frames, host.line.traffic.arrived, "what was sent is what arrived");
    }

    /// Withdraws a port; its last counts.
    pub(crate) fn withdraw(&mut self, id: PortId) -> PortCounts {
        let port = self.ports.remove(&id).expect("attached");
        self.networks[port.network].rules.retain(|rule| rule.from != id && rule.to != id);
        assert!(self.views[port.network].detach(id));
        self.publish(&Changed::Ports([id].into()));
        self.tables[port.network].forget_port(id);
        let counts = port::counts(&port.rx, &port.tx);
        check_laws(id, &counts);
        counts
    }

    pub(crate) fn set_policy(&mut self, network: usize, icc: bool, rules: &[(usize, usize, Option<RulePort>)]) {
        let id = |at: usize| self.hosts[at].port;
        let rules = rules.iter().map(|&(from, to, port)| Rule { from: id(from), to: id(to), port }).collect();
        let spec = &mut self.networks[network];
        spec.settings.icc = icc;
        spec.rules = rules;
        spec.settings.policy_generation += 1;
        self.views[network].change_policy(icc, spec.settings.policy_generation, spec.rules.clone());
        self.publish(&Changed::Ports([].into()));
    }

    /// What is to be published, all of it made anew.
    fn views_anew(&self) -> Vec<NetworkView> {
        (self.networks.iter().zip(&self.tables).enumerate())
            .map(|(at, (spec, tables))| {
                let ports = || self.ports.values().filter(|port| port.network == at);
                let spec = NetworkSpec { ports: ports().map(|port| port.spec.clone()).collect(), ..spec.clone() };
                NetworkView::new(Network::new(spec, tables.clone()), ports().map(|port| port.tx.clone()))
            })
            .collect()
    }

    /// What control does after every change: publishes what `changed`, or now and then all of it, made anew.
    fn publish(&mut self, changed: &Changed) {
        let is_anew = self.rng.next().is_multiple_of(4);
        if is_anew {
            self.views = self.views_anew();
        }
        let changed = if is_anew { &Changed::All } else { changed };
        for slot in self.worker.adopt(Arc::new(Snapshot::new(self.views.clone(), ())), changed, self.now) {
            self.highest_slot = self.highest_slot.max(slot);
            self.worker.drop_port(slot);
        }
    }

    /// The hosts' and the switch's work of a moment; how many frames moved.
    pub(crate) fn step(&mut self) -> usize {
        let mut moved = 0;
        for host in &mut self.hosts {
            moved += host.poll(host_time(self.now));
        }
        moved + self.turns()
    }

    /// The switch's part of it.
    pub(crate) fn turns(&mut self) -> usize {
        let mut frames = 0;
        for _ in 0..MAX_TURNS {
            match self.worker.turn(self.now) {
                0 => break,
                n => frames += n,
            }
        }
        assert_eq!(self.worker.drain_gone().count(), 0, "a cable is never gone");
        frames
    }

    /// Steps until `done`, which is asked, and may work, after each.
    ///
    /// # Panics
    /// When it takes too long in virtual time.
    pub(crate) fn run(&mut self, what: &str, mut done: impl FnMut(&mut Lan) -> bool) {
        let end = self.now + DEADLINE;
        while !done(self) {
            assert!(self.now < end, "{what}: not within {DEADLINE:?} of virtual time");
            let moved = self.step();
            self.now = self.now + if moved > 0 { STEP } else { self.idle_time() };
        }
    }

    /// Steps for a length of virtual time.
    pub(crate) fn run_for(&mut self, time: Duration, mut work: impl FnMut(&mut Lan)) {
        let end = self.now + time;
        self.run("time passes", |lan| {
            work(lan);
            lan.now >= end
        });
    }

    /// Until a host or the worker has something to do.
    fn idle_time(&mut self) -> Duration {
        let now = host_time(self.now);
        let wants = self.hosts.iter_mut().filter_map(|host| host.wants(now)).min();
        let idle = wants.map_or(MAX_JUMP, |at| Duration::from_micros((at - now).total_micros()));
        let due = self.worker.deadline().map_or(MAX_JUMP, |due| due.since(self.now));
        idle.min(due).clamp(STEP, MAX_JUMP)
    }

    pub(crate) fn counts(&self, id: PortId) -> PortCounts {
        let port = &self.ports[&id];
        port::counts(&port.rx, &port.tx)
    }

    /// How many MACs a network has learned.
    pub(crate) fn learned(&self, network: usize) -> usize {
        self.tables[network].fdb.entries(self.now).len()
    }

    pub(crate) fn dropped(&self, host: usize, reason: DropReason) -> u64 {
        self.counts(self.hosts[host].port).rx_drops[reason.index()]
    }

    pub(crate) fn not_sent(&self, host: usize, reason: EgressDrop) -> u64 {
        self.counts(self.hosts[host].port).tx_drops[reason.index()]
    }

    /// Both laws of conservation for every port, and that cables carry what was counted.
    pub(crate) fn check(&self) {
        for (&id, port) in &self.ports {
            let counts = self.counts(id);
            check_laws(id, &counts);
            let Some(host) = self.hosts.iter().find(|host| host.port == id) else { continue };
            let traffic = host.line.traffic;
            let (unread, untaken) = (port.plug.waiting() as u64, port.far.waiting() as u64);
            assert_eq!(counts.rx_frames + unread, traffic.sent, "{id:?}: what was read is what was sent");
            let arrived = traffic.arrived + untaken;
            if self.with_segments {
                assert!(counts.tx_frames <= arrived, "{id:?}: a frame that was cut is counted once");
            } else {
                assert_eq!(counts.tx_frames, arrived, "{id:?}: what was sent is what arrived");
            }
        }
    }
}

fn check_laws(id: PortId, counts: &PortCounts) {
    assert!(counts.ingress_is_conserved(), "{id:?}: {counts:?}");
    assert!(counts.egress_is_conserved(), "{id:?}: {counts:?}");
}

pub(crate) fn host_time(now: Instant) -> HostInstant {
    HostInstant::from_micros(i64::try_from(now.0 / 1000).expect("a scenario is short"))
}

pub(crate) fn gateway4(network: usize) -> Ipv4Addr {
    address4(network, 1)
}

fn address4(network: usize, n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, network as u8, n)
}

pub(crate) fn gateway6(network: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, network as u16, 0, 0, 0, 1)
}

fn spec(network: u8) -> NetworkSpec {
    let at = usize::from(network);
    NetworkSpec {
        settings: NetworkSettings {
            gateway_mac: Mac::of_ipv4(gateway4(at)),
            gateway4: gateway4(at),
            gateway6: Some(gateway6(at)),
            host4: None,
            host6: None,
            uplink: Default::default(),
            subnet4: format!("10.0.{network}.0/24").parse().expect("a subnet"),
            subnet6: Some(format!("fd00:0:0:{network:x}::/64").parse().expect("a subnet")),
            mtu: MTU as u32,
            icc: true,
            policy_generation: 1,
            flood_rate: Rate::of_copies(500, MTU as u32),
        },
        rules: Vec::new(),
        ports: Vec::new(),
    }
}
