//! A worker by hand with one container on a cable, and real sockets of this host for the far side.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant as Wall};

use mio::{Events, Poll, Token, Waker};

use crate::engine::{Changed, Local, NetworkView, Out, Ready, Snapshot, Space, Worker};
use crate::forwarding::{
    DropReason, FdbLimits, Instant, Network, NetworkSettings, NetworkSpec, Permits, PortId, PortSpec, Rate, Tables,
    Uplink,
};
use crate::frame::offload::HEADER_LEN;
use crate::frame::testing::mac;
use crate::frame::{Mac, OffloadHeader};
use crate::gateway::Link;
use crate::port::{self, Cable, Plug, PortCounts, RxCounters, TxPort};
use crate::uplink::user::{Baggage, User};
use crate::uplink::{NetworkPlan, Plan, Publication, View};

pub(in crate::uplink::user) const PORT: PortId = PortId(7);
pub(in crate::uplink::user) const A: Mac = mac(1);
pub(in crate::uplink::user) const GATEWAY: Mac = mac(0xfe);
pub(in crate::uplink::user) const A4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub(in crate::uplink::user) const A6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
pub(in crate::uplink::user) const GATEWAY4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const MTU: u32 = 1500;
/// Loopback answers within microseconds; a busy machine is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// The worker, its container's end of the cable, and a clock that is told.
pub(in crate::uplink::user) struct Stage {
    pub(in crate::uplink::user) worker: Worker<View>,
    tx: Arc<TxPort>,
    rx: Arc<RxCounters>,
    plug: Plug,
    poll: Poll,
    pub(in crate::uplink::user) now: Instant,
}

impl Stage {
    /// The container's port has the offload; there are ports of the host's for as many flows as it may have.
    pub(in crate::uplink::user) fn new() -> Self {
        Stage::with(Permits::new(10_000))
    }

    /// The same, with these permits for flows.
    pub(in crate::uplink::user) fn with(permits: Arc<Permits>) -> Self {
        let (plug, near) = Cable::new();
        let (rx, tx) = port::open_cable(PORT, near, HEADER_LEN, 1);
        let counters = rx.counters().clone();
        let now = Instant(1_000_000_000_000);
        let mut worker = Worker::by_hand(0, view(tx.clone(), true, Vec::new()), User::new(Link::nobody(), permits));
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        worker.local().start(poll.registry().try_clone().unwrap(), waker);
        worker.take(rx, now);
        Stage { worker, tx, rx: counters, plug, poll, now }
    }

    /// What control does.
    pub(in crate::uplink::user) fn publish(&mut self, egress: bool, publications: Vec<Arc<Publication>>) {
        self.worker.adopt(view(self.tx.clone(), egress, publications), &Changed::All, self.now);
    }

    pub(in crate::uplink::user) fn wait(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
    }

    /// The container sends a frame.
    pub(in crate::uplink::user) fn send(&mut self, frame: &[u8]) {
        self.plug.send(&[&[0; HEADER_LEN], frame]);
        self.turn();
    }

    /// The container sends a frame with an offload header.
    pub(in crate::uplink::user) fn send_offloaded(&mut self, (frame, header): &(Vec<u8>, OffloadHeader)) {
        let mut bytes = vec![header.flags, header.gso_type];
        for field in [header.hdr_len, header.gso_size, header.csum_start, header.csum_offset] {
            bytes.extend(field.to_le_bytes());
        }
        self.plug.send(&[&bytes, frame]);
        self.turn();
    }

    /// Events that there are, and turns until nothing is left.
    pub(in crate::uplink::user) fn turn(&mut self) {
        let mut events = Events::with_capacity(64);
        self.poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        for event in &events {
            self.worker.local().event(event.token().0, Ready::from(event));
        }
        while self.worker.turn(self.now) > 0 {}
    }

    /// A client of a published port sends a datagram.
    pub(in crate::uplink::user) fn client(
        &mut self,
        publication: &Arc<Publication>,
        near: SocketAddr,
        shown: SocketAddr,
        client: SocketAddr,
        payload: &[u8],
    ) {
        let view = view(self.tx.clone(), true, vec![publication.clone()]);
        let mut space = Space::default();
        let home = crate::uplink::user::home(&view, PORT).unwrap();
        let (_, udp, _, mut cx) = self.worker.local().parts(Out::by_hand(&view, 0, &mut space, self.now), self.now);
        udp.client(&mut cx, &home, publication.clone(), near, shown, client).unwrap();
        super::send_datagram(&mut cx, &home, near, shown, payload).unwrap();
    }

    /// The container's port comes from another worker.
    pub(in crate::uplink::user) fn take(&mut self, baggage: Option<Baggage>) {
        let view = view(self.tx.clone(), true, Vec::new());
        let mut space = Space::default();
        self.worker.local().take(PORT, baggage, Out::by_hand(&view, 0, &mut space, self.now), self.now);
    }

    /// The next frame for the container, with its offload header; waits for it.
    pub(in crate::uplink::user) fn receive_offloaded(&mut self) -> (OffloadHeader, Vec<u8>) {
        let start = Wall::now();
        let mut buffer = vec![0; 70_000];
        loop {
            if let Some(len) = self.plug.receive(&mut buffer) {
                return (OffloadHeader::read(&buffer), buffer[HEADER_LEN..len].to_vec());
            }
            assert!(start.elapsed() < PATIENCE, "no frame for the container: {:?}", self.counts());
            self.turn();
        }
    }

    /// The next frame for the container, without offload header.
    pub(in crate::uplink::user) fn receive(&mut self) -> Vec<u8> {
        self.receive_offloaded().1
    }

    /// Nothing is on its way to the container.
    pub(in crate::uplink::user) fn is_silent(&mut self) -> bool {
        self.turn();
        self.plug.waiting() == 0
    }

    pub(in crate::uplink::user) fn drops(&self, reason: DropReason) -> u64 {
        self.counts().rx_drops[reason.index()]
    }

    fn counts(&self) -> PortCounts {
        port::counts(&self.rx, &self.tx)
    }
}

/// One network with one container.
fn view(tx: Arc<TxPort>, egress: bool, publications: Vec<Arc<Publication>>) -> Arc<View> {
    let port = PortSpec {
        id: PORT,
        mac: A,
        ipv4: Some(A4),
        ipv6: Some(A6),
        guard: true,
        learn: false,
        published: Default::default(),
    };
    let spec = NetworkSpec {
        settings: NetworkSettings {
            gateway_mac: GATEWAY,
            gateway4: GATEWAY4,
            gateway6: Some(GATEWAY6),
            host4: None,
            host6: None,
            uplink: Uplink::User,
            subnet4: "10.0.0.0/24".parse().unwrap(),
            subnet6: Some("fd00::/64".parse().unwrap()),
            mtu: MTU,
            icc: true,
            policy_generation: 1,
            flood_rate: Rate::of_copies(500, MTU),
        },
        rules: Vec::new(),
        ports: vec![port],
    };
    let network = Arc::new(Network::new(spec, Arc::new(Tables::new(FdbLimits::default()))));
    let plan = NetworkPlan {
        name: "default".into(),
        egress,
        host_access: true,
        gateway4: GATEWAY4,
        gateway6: Some(GATEWAY6),
        host4: None,
        host6: None,
    };
    let plan = Plan { networks: vec![plan], published: publications.into_iter().collect(), ..Plan::default() };
    Arc::new(Snapshot::new(vec![NetworkView::new(network, [tx])], plan))
}

/// The container's address of the family of `far`.
pub(in crate::uplink::user) fn near(far: IpAddr) -> IpAddr {
    if far.is_ipv4() { A4.into() } else { A6.into() }
}
