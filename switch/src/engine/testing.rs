//! A worker by hand, on cables, and on socket pairs in the place of TAPs: one packet a read, never waiting, and a
//! descriptor that io_uring takes.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use tapswitch_netns::{Tap, TapInfo};

use super::rounds::Rounds;
use super::{Changed, IoChoice, NetworkView, Nobody, Snapshot, Worker};
use crate::forwarding::{FdbLimits, Instant, Network, NetworkSettings, NetworkSpec, PortId, PortSpec, Rate, Tables};
use crate::frame::Mac;
use crate::frame::offload::HEADER_LEN;
use crate::port::{self, Cable, Limits, Plug, PortCounts, RxCounters, RxPort, TxPort};

pub(super) const NOW: Instant = Instant(1_000_000_000);
/// Workers that may serve a port.
pub(super) const WORKERS: usize = 2;
pub(super) const BOTH: [IoChoice; 2] = [IoChoice::Uring, IoChoice::Plain];

pub(super) fn mac(n: u32) -> Mac {
    Mac::of_ipv4(address(n))
}

pub(super) fn address(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0000 + n)
}

/// A frame of an unknown type from port `from` to a MAC.
pub(super) fn frame(from: u32, to: Mac) -> Vec<u8> {
    [&to.octets()[..], &mac(from).octets(), &[0x88, 0xb5], &[0; 46]].concat()
}

/// What ports `1..` look like to control.
#[derive(Default)]
pub(super) struct Ports {
    pub(super) tx: Vec<Arc<TxPort>>,
    pub(super) rx: Vec<Arc<RxCounters>>,
}

impl Ports {
    pub(super) fn add(&mut self, (rx, tx): (RxPort, Arc<TxPort>)) -> RxPort {
        self.tx.push(tx);
        self.rx.push(rx.counters().clone());
        rx
    }

    /// A publication of all of them.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        let port = |tx: &Arc<TxPort>| PortSpec {
            id: tx.id(),
            mac: mac(tx.id().0),
            ipv4: Some(address(tx.id().0)),
            ipv6: None,
            guard: true,
            learn: false,
            published: Default::default(),
        };
        let spec = NetworkSpec {
            settings: NetworkSettings {
                gateway_mac: mac(254),
                gateway4: address(254),
                gateway6: None,
                host4: None,
                host6: None,
                uplink: Default::default(),
                subnet4: "10.0.0.0/24".parse().unwrap(),
                subnet6: None,
                mtu: 1500,
                icc: true,
                policy_generation: 1,
                flood_rate: Rate::of_copies(1_000_000, 1500),
            },
            rules: Vec::new(),
            ports: self.tx.iter().map(port).collect(),
        };
        let network = Arc::new(Network::new(spec, Arc::new(Tables::new(FdbLimits::default()))));
        Arc::new(Snapshot::new(vec![NetworkView::new(network, self.tx.clone())], ()))
    }

    pub(super) fn counts(&self, at: usize) -> PortCounts {
        let counts = port::counts(&self.rx[at], &self.tx[at]);
        assert!(counts.ingress_is_conserved() && counts.egress_is_conserved(), "{counts:?}");
        counts
    }
}

/// Ports on cables with this header length, a worker, and the far ends.
pub(super) fn on_cables(count: u32, header_len: usize) -> (Ports, Worker<Snapshot>, Vec<Plug>) {
    let (mut ports, mut plugs, mut read) = (Ports::default(), Vec::new(), Vec::new());
    for id in 1..=count {
        let (far, near) = Cable::new();
        read.push(ports.add(port::open_cable(PortId(id), near, header_len, WORKERS)));
        plugs.push(far);
    }
    let mut worker = Worker::by_hand(0, ports.snapshot(), Nobody);
    read.into_iter().for_each(|rx| worker.take(rx, NOW));
    (ports, worker, plugs)
}

/// Ports on socket pairs, a worker with this I/O, and the far ends.
pub(super) fn on_sockets(count: u32, io: IoChoice) -> (Ports, Worker<Snapshot>, Vec<OwnedFd>) {
    on_limited_sockets(count, io, Limits::default())
}

/// The same with limits of their rates.
pub(super) fn on_limited_sockets(count: u32, io: IoChoice, limits: Limits) -> (Ports, Worker<Snapshot>, Vec<OwnedFd>) {
    let (mut ports, mut fars, mut read) = (Ports::default(), Vec::new(), Vec::new());
    for id in 1..=count {
        let (far, fd) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_NONBLOCK).unwrap();
        let info = TapInfo { ifname: "eth0".into(), header_len: HEADER_LEN, offload: 0 };
        read.push(ports.add(port::open_limited(PortId(id), Tap { fd, info }, WORKERS, limits)));
        fars.push(far);
    }
    let rounds = Rounds::choose(io).expect("a kernel with io_uring");
    let mut worker = Worker::new(0, Arc::new(Snapshot::default()), rounds, Nobody);
    worker.enable();
    worker.adopt(ports.snapshot(), &Changed::All, NOW);
    read.into_iter().for_each(|rx| worker.take(rx, NOW));
    (ports, worker, fars)
}

pub(super) fn send(far: &OwnedFd, frame: &[u8]) {
    let bytes = [&[0; HEADER_LEN][..], frame].concat();
    assert_eq!(nix::unistd::write(far, &bytes), Ok(bytes.len()));
}

/// Turns, as a worker's thread does before it waits: until nothing is left to read, and what was decided last is written.
pub(super) fn finish(worker: &mut Worker<Snapshot>) {
    for _ in 0..10_000 {
        if worker.turn(NOW) == 0 && worker.ports.all_were_read() {
            return;
        }
    }
    panic!("frames without end");
}

pub(super) fn received(far: &OwnedFd) -> usize {
    let mut buffer = [0; 2048];
    let mut frames = 0;
    loop {
        match nix::unistd::read(far, &mut buffer) {
            Ok(_) => frames += 1,
            Err(Errno::EAGAIN) => return frames,
            Err(error) => panic!("read descriptor {}: {error}", far.as_raw_fd()),
        }
    }
}
