//! A real engine on real TAPs in namespaces, without the daemon: io_uring where the kernel has it, and plain reads and
//! writes.
//!
//! Needs root, iproute2, iputils-ping and /dev/net/tun.

#[allow(dead_code)]
mod lab;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::Receiver;
use tapswitch::engine::{Changed, Engine, EngineConfig, EngineEvent, IoChoice, NetworkView, Nobody, Snapshot};
use tapswitch::forwarding::{FdbLimits, Network, NetworkSettings, NetworkSpec, PortId, PortSpec, Rate, Tables};
use tapswitch::frame::Mac;
use tapswitch::port::{self, PortCounts, RxCounters, TxPort};
use tapswitch_netns::{DeviceSpec, OffloadMode, Scratch, Tap, birth, in_child};

use lab::{LIMIT, Netns, run, spec, until};

/// Both ways of reading and writing. `Auto` is io_uring wherever the kernel grants it.
const BOTH: [IoChoice; 2] = [IoChoice::Auto, IoChoice::Plain];
const MTU: u32 = 1500;
const TRANSFER: usize = 16 << 20;

struct Container {
    netns: Netns,
    spec: PortSpec,
    tx: Arc<TxPort>,
    rx: Arc<RxCounters>,
}

impl Container {
    fn ip4(&self) -> Ipv4Addr {
        self.spec.ipv4.unwrap()
    }

    fn counts(&self) -> PortCounts {
        port::counts(&self.rx, &self.tx)
    }

    fn ping(&self, to: &Container) {
        self.netns.exec(&format!("ping -q -c 2 -i 0.2 -W 5 {}", to.ip4()));
        self.netns.exec(&format!("ping -q -c 2 -i 0.2 -W 5 {}", to.spec.ipv6.unwrap()));
    }

    /// A thread that works inside.
    fn inside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let target = self.netns.open();
        std::thread::spawn(move || {
            nix::sched::setns(target.as_fd(), nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            drop(target);
            work()
        })
    }
}

/// What control does, as far as the engine sees it.
struct Rig {
    engine: Engine,
    events: Receiver<EngineEvent>,
    tables: Arc<Tables>,
    containers: Vec<Container>,
    next: u8,
}

impl Rig {
    fn new(io: IoChoice, workers: usize) -> Rig {
        let (sender, events) = crossbeam_channel::unbounded();
        let engine = Engine::start(EngineConfig { workers, io }, Snapshot::default(), sender, |_| Nobody).unwrap();
        assert_eq!(engine.workers(), workers);
        println!("{io:?}: {}", engine.io_name());
        Rig { engine, events, tables: Arc::new(Tables::new(FdbLimits::default())), containers: Vec::new(), next: 2 }
    }

    fn of_two(io: IoChoice) -> Rig {
        let mut rig = Rig::new(io, 1);
        rig.attach(OffloadMode::Auto);
        rig.attach(OffloadMode::Auto);
        rig
    }

    fn attach(&mut self, offload: OffloadMode) {
        let n = self.next;
        self.next += 1;
        let ipv4 = Ipv4Addr::new(172, 17, 0, n);
        let ipv6 = Ipv6Addr::new(0xfd00, 0x17, 0, 0, 0, 0, 0, n.into());
        let mac = Mac::of_ipv4(ipv4);
        let device = DeviceSpec {
            mac: mac.octets(),
            mtu: MTU,
            addresses: vec![format!("{ipv4}/16").parse().unwrap(), format!("{ipv6}/64").parse().unwrap()],
            offload,
            ..spec()
        };
        let netns = Netns::new();
        let id = PortId(n.into());
        let (rx, tx) = port::open(id, tap(&netns, &device), self.engine.workers());
        let spec = PortSpec {
            id,
            mac,
            ipv4: Some(ipv4),
            ipv6: Some(ipv6),
            guard: true,
            learn: false,
            published: Default::default(),
        };
        self.containers.push(Container { netns, spec, tx, rx: rx.counters().clone() });
        self.publish();
        self.engine.attach(rx);
    }

    fn detach(&mut self) {
        let container = self.containers.pop().unwrap();
        self.publish();
        self.tables.forget_port(container.spec.id);
        // Nobody writes it any more, so that the counts are of one instant.
        assert_conserved(&container.counts());
    }

    fn publish(&mut self) {
        let spec = NetworkSpec {
            settings: NetworkSettings {
                gateway_mac: Mac::of_ipv4(Ipv4Addr::new(172, 17, 0, 1)),
                gateway4: Ipv4Addr::new(172, 17, 0, 1),
                gateway6: Some("fd00:17::1".parse().unwrap()),
                host4: None,
                host6: None,
                uplink: Default::default(),
                subnet4: "172.17.0.0/16".parse().unwrap(),
                subnet6: Some("fd00:17::/64".parse().unwrap()),
                mtu: MTU,
                icc: true,
                policy_generation: 1,
                flood_rate: Rate::of_copies(500, MTU),
            },
            rules: Vec::new(),
            ports: self.containers.iter().map(|container| container.spec.clone()).collect(),
        };
        let network = Arc::new(Network::new(spec, self.tables.clone()));
        let tx = self.containers.iter().map(|container| container.tx.clone());
        self.engine.publish(Snapshot::new(vec![NetworkView::new(network, tx)], ()), Changed::All);
    }

    /// Withdraws everybody; what was counted of them.
    fn end(mut self) -> Vec<PortCounts> {
        let containers = std::mem::take(&mut self.containers);
        self.publish();
        let counts: Vec<_> = containers.iter().map(Container::counts).collect();
        counts.iter().for_each(assert_conserved);
        counts
    }
}

fn assert_conserved(counts: &PortCounts) {
    assert!(counts.ingress_is_conserved() && counts.egress_is_conserved(), "{counts:?}");
}

fn tap(netns: &Netns, device: &DeviceSpec) -> Tap {
    let target = netns.open();
    let scratch = Scratch::beside(&target, LIMIT).unwrap();
    let (info, fd) = in_child("attach", &[target.as_fd(), scratch.as_fd()], LIMIT, || {
        let tap = birth(&target, &scratch, device)?;
        Ok((tap.info, Some(tap.fd)))
    })
    .unwrap();
    Tap { info, fd: fd.unwrap() }
}

/// `TRANSFER` bytes from one container to the other; ends when all have arrived as they were sent.
fn transfer(from: &Container, to: &Container) -> JoinHandle<()> {
    let address = (to.ip4(), 5000);
    let (ready, is_ready) = crossbeam_channel::bounded(1);
    let receiver = to.inside(move || {
        let listener = TcpListener::bind(address).unwrap();
        ready.send(()).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let (mut at, mut buffer) = (0, vec![0; 1 << 16]);
        loop {
            let len = stream.read(&mut buffer).unwrap();
            if len == 0 {
                assert_eq!(at, TRANSFER);
                return;
            }
            assert!(buffer[..len].iter().zip(at..).all(|(&got, at)| got == byte(at)), "near {at}");
            at += len;
        }
    });
    is_ready.recv().unwrap();
    let sender = from.inside(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        for start in (0..TRANSFER).step_by(1 << 16) {
            let chunk: Vec<u8> = (start..start + (1 << 16)).map(byte).collect();
            stream.write_all(&chunk).unwrap();
        }
    });
    std::thread::spawn(move || {
        sender.join().unwrap();
        receiver.join().unwrap();
    })
}

fn byte(at: usize) -> u8 {
    (at ^ at >> 8 ^ at >> 16) as u8
}

#[test]
fn two_namespaces_reach_each_other_by_both_ways_of_io() {
    for io in BOTH {
        for second in [OffloadMode::Auto, OffloadMode::Off] {
            let mut rig = Rig::new(io, 1);
            rig.attach(OffloadMode::Auto);
            rig.attach(second);
            rig.containers[0].ping(&rig.containers[1]);
            rig.containers[1].ping(&rig.containers[0]);
            transfer(&rig.containers[0], &rig.containers[1]).join().unwrap();
            let counts = rig.end();
            assert!(counts[1].tx_bytes > TRANSFER as u64, "{counts:?}");
        }
    }
}

#[test]
fn several_workers_serve_every_pair() {
    for io in BOTH {
        let mut rig = Rig::new(io, 2);
        (0..4).for_each(|_| rig.attach(OffloadMode::Auto));
        let ends = [(0, 1), (2, 3), (1, 2), (3, 0)];
        let running: Vec<_> =
            ends.iter().map(|&(from, to)| transfer(&rig.containers[from], &rig.containers[to])).collect();
        running.into_iter().for_each(|running| running.join().unwrap());
        rig.containers[0].ping(&rig.containers[2]);
        rig.end();
    }
}

#[test]
fn the_death_of_a_namespace_is_told_once_and_the_others_go_on() {
    for io in BOTH {
        let mut rig = Rig::of_two(io);
        rig.attach(OffloadMode::Auto);
        let dead = rig.containers.pop().unwrap();
        let id = dead.spec.id;
        run(&["ip", "netns", "del", &dead.netns.0]);
        assert_eq!(rig.events.recv_timeout(LIMIT), Ok(EngineEvent::Gone(id)));
        rig.publish();
        rig.containers[0].ping(&rig.containers[1]);
        assert!(rig.events.is_empty(), "told once");
        rig.end();
    }
}

#[test]
fn ports_come_and_go_under_traffic() {
    for io in BOTH {
        let mut rig = Rig::of_two(io);
        let running = transfer(&rig.containers[0], &rig.containers[1]);
        let mut guests = 0;
        while !running.is_finished() || guests < 5 {
            rig.attach(if guests % 2 == 0 { OffloadMode::Auto } else { OffloadMode::Off });
            rig.detach();
            guests += 1;
        }
        running.join().unwrap();
        assert!(rig.events.is_empty(), "nobody died");
        rig.end();
    }
}

#[test]
fn a_dropped_engine_has_joined_its_threads_and_let_go_of_every_port() {
    for io in BOTH {
        let Rig { engine, containers, .. } = Rig::of_two(io);
        containers[0].ping(&containers[1]);
        drop(engine);
        for Container { netns, tx, .. } in containers {
            assert_eq!(Arc::strong_count(&tx), 1, "the threads hold nothing");
            drop(tx);
            until("carrier is lost", || !lab::has_carrier(&netns.link("eth0")));
        }
    }
}
