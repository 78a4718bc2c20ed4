//! One container, one worker, and the time that passes.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Poll, Token, Waker};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp;

use super::super::super::{Ends, User};
use super::super::account::Account;
use super::container::Container;
use crate::engine::{Changed, Local, NetworkView, Out, Ready, Space, Worker};
use crate::forwarding::{
    DropReason, FdbLimits, Instant, Network, NetworkSettings, NetworkSpec, Permits, PortId, PortSpec, Rate, Tables,
    Uplink,
};
use crate::frame::Mac;
use crate::frame::offload::HEADER_LEN;
use crate::gateway::Link;
use crate::port::{self, BIG_TCP, Cable, Limits, Plug, PortCounts, RxCounters, RxPort, TxPort};
use crate::uplink::{NetworkPlan, Plan, Publication, Published, Transport, View};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const PORT: PortId = PortId(1);

/// That of a container's device, if nothing else is said.
pub(super) const MTU: u32 = 1500;

/// Longest that anything is waited for.
const DEADLINE: Duration = Duration::from_secs(60);

pub(super) struct Lab {
    poll: Poll,
    events: Events,
    worker: Worker<View>,
    view: Arc<View>,
    container: Container,
    counters: Arc<RxCounters>,
    tx: Arc<TxPort>,
    start: std::time::Instant,
    /// The container takes no frames.
    is_away: bool,
    /// Time that was skipped.
    skipped: Duration,
}

/// Bytes that tell when they are not where they belong.
pub(super) fn stream(len: usize) -> Vec<u8> {
    (0..len as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

fn view(tx: Option<Arc<TxPort>>, mtu: u32, published: Published) -> View {
    let port = PortSpec {
        id: PORT,
        mac: Mac::of_ipv4(ADDRESS),
        ipv4: Some(ADDRESS),
        ipv6: None,
        guard: true,
        learn: false,
        published: Default::default(),
    };
    let spec = NetworkSpec {
        settings: NetworkSettings {
            gateway_mac: Mac::of_ipv4(GATEWAY),
            gateway4: GATEWAY,
            gateway6: None,
            subnet4: "10.0.0.0/24".parse().unwrap(),
            subnet6: None,
            host4: None,
            host6: None,
            mtu,
            uplink: Uplink::User,
            icc: true,
            policy_generation: 1,
            flood_rate: Rate::of_copies(500, mtu),
        },
        rules: Vec::new(),
        ports: tx.iter().map(|_| port.clone()).collect(),
    };
    let network = Arc::new(Network::new(spec, Arc::new(Tables::new(FdbLimits::default()))));
    let plan = NetworkPlan {
        name: "lab".into(),
        egress: true,
        host_access: true,
        gateway4: GATEWAY,
        gateway6: None,
        host4: None,
        host6: None,
    };
    View::new(vec![NetworkView::new(network, tx)], Plan { networks: vec![plan], published, ..Plan::default() })
}

/// Leads to port `container` of the container.
fn publication(id: u64, container: u16) -> Arc<Publication> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let host = listener.local_addr().unwrap();
    Arc::new(Publication { id, port: PORT, transport: Transport::Tcp, host, container, socket: listener.into() })
}

impl Lab {
    /// `loss` frames of a thousand are lost, each way.
    pub(super) fn new(loss: u64) -> Self {
        Lab::limited(loss, MTU, Limits::default())
    }

    /// The same with this MTU, and the container's rate has `limits`.
    pub(super) fn limited(loss: u64, mtu: u32, limits: Limits) -> Self {
        let (near, far) = Cable::new();
        Lab::on(port::open_cable_limited(PORT, near, HEADER_LEN, 1, limits), far, loss, mtu)
    }

    /// The container takes frames of more than 64 KB, and has windows for them; it acknowledges every few segments.
    pub(super) fn big() -> Self {
        let (near, far) = Cable::new();
        let mut lab = Lab::on(port::open_big_cable(PORT, near, 1), far, 0, MTU);
        lab.container.buffer = 4 * BIG_TCP;
        lab.container.line.most = 16;
        lab
    }

    fn on((rx, tx): (RxPort, Arc<TxPort>), far: Plug, loss: u64, mtu: u32) -> Self {
        let view = Arc::new(view(Some(tx.clone()), mtu, Published::default()));
        let poll = Poll::new().expect("epoll");
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).expect("a waker"));
        let mut user = User::new(Link::nobody(), Permits::new(1));
        user.start(poll.registry().try_clone().expect("a registry"), waker);
        let mut worker = Worker::by_hand(0, view.clone(), user);
        let counters = rx.counters().clone();
        worker.take(rx, Instant(1));
        let container = Container::new(far, Mac::of_ipv4(ADDRESS), ADDRESS, GATEWAY, mtu, loss);
        let start = std::time::Instant::now();
        let (events, is_away, skipped) = (Events::with_capacity(64), false, Duration::ZERO);
        Lab { poll, events, worker, view, container, counters, tx, start, is_away, skipped }
    }

    fn now(&self) -> Instant {
        Instant((self.start.elapsed() + self.skipped).as_nanos() as u64 + 1_000_000_000)
    }

    fn step(&mut self) {
        self.poll.poll(&mut self.events, Some(Duration::ZERO)).expect("poll");
        for event in &self.events {
            if event.token() != Token(0) {
                self.worker.local().event(event.token().0, Ready::from(event));
            }
        }
        let now = self.now();
        let time = smoltcp::time::Instant::from_micros((now.0 / 1000) as i64);
        let is_busy = (!self.is_away && self.container.poll(time)) | (self.worker.turn(now) > 0);
        if !is_busy {
            // Other threads play the far end.
            std::thread::yield_now();
        }
    }

    /// Steps until `done`, which may work, too.
    pub(super) fn run(&mut self, what: &str, mut done: impl FnMut(&mut Lab) -> bool) {
        let start = std::time::Instant::now();
        while !done(self) {
            assert!(start.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
            self.step();
        }
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let start = std::time::Instant::now();
        self.run("time passes", |_| start.elapsed() >= time);
    }

    /// For switch and container so much time passes, in steps in which they answer each other.
    pub(super) fn skip(&mut self, time: Duration) {
        const STEP: Duration = Duration::from_secs(10);
        let until = self.skipped + time;
        while self.skipped < until {
            self.skipped += STEP;
            (0..20).for_each(|_| self.step());
        }
    }

    pub(super) fn connect(&mut self, to: SocketAddr) -> SocketHandle {
        self.container.connect(to)
    }

    pub(super) fn listen(&mut self, port: u16) -> SocketHandle {
        self.container.listen(port)
    }

    pub(super) fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.container.sockets.get_mut(handle)
    }

    /// The container knows nothing more of this socket.
    pub(super) fn forget(&mut self, handle: SocketHandle) {
        self.container.sockets.remove(handle);
    }

    /// Sends `bytes` and the end of the stream.
    pub(super) fn write_to_end(&mut self, handle: SocketHandle, mut bytes: &[u8]) {
        self.run("all is sent", |lab| {
            let socket = lab.socket(handle);
            if socket.can_send() {
                bytes = &bytes[socket.send_slice(bytes).unwrap()..];
            }
            bytes.is_empty()
        });
        self.socket(handle).close();
    }

    /// Reads until the far end has ended.
    pub(super) fn read_to_end(&mut self, handle: SocketHandle) -> Vec<u8> {
        let mut got = Vec::new();
        self.run("all is read", |lab| {
            let socket = lab.socket(handle);
            while socket.can_recv() {
                socket.recv(|bytes| (bytes.len(), got.extend_from_slice(bytes))).unwrap();
            }
            !got.is_empty() && !socket.may_recv()
        });
        got
    }

    /// Sends all of `bytes` to the far end at `to`, and reads its answer.
    pub(super) fn exchange(&mut self, to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
        let socket = self.connect(to);
        self.run("connected", |lab| lab.socket(socket).may_send());
        self.write_to_end(socket, bytes);
        self.read_to_end(socket)
    }

    pub(super) fn flows(&mut self) -> usize {
        self.worker.local().tcp.len()
    }

    /// What the container's flows take.
    pub(super) fn account(&mut self) -> &mut Account {
        self.worker.local().tcp.account(PORT)
    }

    pub(super) fn dropped(&self, reason: DropReason) -> u64 {
        self.counts().rx_drops[reason.index()]
    }

    pub(super) fn counts(&self) -> PortCounts {
        port::counts(&self.counters, &self.tx)
    }

    /// The container takes no frames, and its queue is full; or it does again.
    pub(super) fn go_away(&mut self, is_away: bool) {
        // Of an EtherType for experiments.
        let mut frame = [0; HEADER_LEN + 60];
        frame[HEADER_LEN + 12..][..2].copy_from_slice(&[0x88, 0xb5]);
        self.is_away = is_away;
        while is_away && self.tx.write(&frame).is_ok() {}
    }

    /// For long frames the kernel has no memory any more.
    pub(super) fn lack_memory(&mut self) {
        self.container.line.lack_memory();
    }

    /// Bytes of each frame that the container got.
    pub(super) fn came(&self) -> &[usize] {
        &self.container.line.came
    }

    /// From now on the container's TCP sums are wrong.
    pub(super) fn break_sums(&mut self) {
        self.container.line.breaks_sums = true;
    }

    /// A client at 192.0.2.9 calls port `port` of the container by publication 1.
    pub(super) fn accept(&mut self, socket: OwnedFd, port: u16) {
        let now = self.now();
        nix::fcntl::fcntl(&socket, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
        let view = self.view.clone();
        let mut space = Space::default();
        let (tcp, _, _, mut cx) = self.worker.local().parts(Out::by_hand(&*view, 0, &mut space, now), now);
        let home = cx.homes[&PORT];
        let far = SocketAddr::from(([192, 0, 2, 9], 5555));
        let ends = Ends { near: SocketAddr::from((ADDRESS, port)), far };
        tcp.accept(&mut cx, &home, &publication(1, port), socket, ends);
    }

    /// The port's flows leave the worker, and come back to it.
    pub(super) fn change_workers(&mut self) {
        let (now, view) = (self.now(), self.view.clone());
        let mut space = Space::default();
        let user = self.worker.local();
        let baggage = user.let_go(PORT);
        assert_eq!(user.tcp.len(), 0);
        user.take(PORT, baggage, Out::by_hand(&*view, 0, &mut space, now), now);
    }

    /// The flows are gone, as after a restart.
    pub(super) fn forget_flows(&mut self) {
        let (now, view) = (self.now(), self.view.clone());
        let mut space = Space::default();
        let user = self.worker.local();
        user.let_go(PORT);
        user.take(PORT, None, Out::by_hand(&*view, 0, &mut space, now), now);
    }

    /// Control publishes port `port` of the container, in a way for each of `ids`, and in no other.
    pub(super) fn publish(&mut self, ids: &[u64], port: u16) {
        let now = self.now();
        let published = ids.iter().map(|id| publication(*id, port)).collect();
        self.view = Arc::new(view(Some(self.tx.clone()), MTU, published));
        assert!(self.worker.adopt(self.view.clone(), &Changed::Ports([PORT].into()), now).is_empty());
    }

    /// Control withdraws the port.
    pub(super) fn withdraw(&mut self) {
        let now = self.now();
        self.view = Arc::new(view(None, MTU, Published::default()));
        for slot in self.worker.adopt(self.view.clone(), &Changed::Ports([PORT].into()), now) {
            self.worker.drop_port(slot);
        }
    }
}
