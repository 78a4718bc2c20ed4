//! Frames of containers on cables, a worker whose turns are called by hand, and the names on a thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use mio::{Poll, Token, Waker};

use super::super::User;
use super::super::datagram::HEADER_LEN;
use crate::engine::{Local, NetworkView, Snapshot, Worker};
use crate::forwarding::{
    DropReason, FdbLimits, Instant as Clock, Network, NetworkSettings, NetworkSpec, Permits, PortId, PortSpec, Rate,
    Tables,
};
use crate::frame::testing::{udp4, udp6};
use crate::frame::{Frame, Layer4, Mac, Payload};
use crate::gateway::{Link, Resolvers, Station, Zone, ZoneSpec, Zones, service};
use crate::port::{self, Cable, Plug, RxCounters, TxPort};
use crate::uplink::{NetworkPlan, Plan, View};

const A: Mac = Mac::new([2, 0, 0, 0, 0, 1]);
const G: Mac = Mac::new([2, 0, 0, 0, 0, 9]);

const NOW: Clock = Clock(1_000_000_000);
const A4: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 1, 0, 2);
const G4: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 1, 0, 1);
const A6: std::net::Ipv6Addr = std::net::Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 2);
const G6: std::net::Ipv6Addr = std::net::Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1);

/// One network with one container, whose name is `web`.
struct Lan {
    worker: Worker<View>,
    poll: Poll,
    far: Plug,
    rx: Arc<RxCounters>,
    tx: Arc<TxPort>,
}

impl Lan {
    fn new() -> Self {
        let (names, service) = service(Resolvers::new(&[], 1));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        std::thread::spawn(move || runtime.block_on(service.run()));
        names.publish(zones());
        Lan::with(names.link())
    }

    fn with(names: Link) -> Self {
        let (far, near) = Cable::new();
        let (rx, tx) = port::open_cable(PortId(1), near, 0, 1);
        let counters = rx.counters().clone();
        let spec = spec();
        let plan = NetworkPlan {
            name: "default".into(),
            egress: false,
            host_access: false,
            gateway4: G4,
            gateway6: Some(G6),
            host4: None,
            host6: None,
        };
        let network = Arc::new(Network::new(spec, Arc::new(Tables::new(FdbLimits::default()))));
        let view = NetworkView::new(network, [tx.clone()]);
        let mut all = Plan::default();
        all.networks.push(plan);
        let poll = Poll::new().unwrap();
        let mut user = User::new(names, Permits::new(1));
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        user.start(poll.registry().try_clone().unwrap(), waker);
        let mut worker = Worker::by_hand(0, Arc::new(Snapshot::new(vec![view], all)), user);
        worker.take(rx, NOW);
        Lan { worker, poll, far, rx: counters, tx }
    }

    /// Has the worker sleep as its thread would, until an answer wakes it.
    fn answer(&mut self) -> Vec<u8> {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut frame = vec![0; 2048];
        loop {
            while self.worker.turn(NOW) > 0 {}
            if let Some(len) = self.far.receive(&mut frame) {
                frame.truncate(len);
                return frame;
            }
            let left = deadline.checked_duration_since(Instant::now()).expect("no answer");
            self.poll.poll(&mut mio::Events::with_capacity(1), Some(left)).unwrap();
        }
    }
}

fn zones() -> Zones {
    let spec = ZoneSpec {
        network: "default".into(),
        forwards: false,
        mtu: 1500,
        subnets: vec!["10.1.0.0/24".parse().unwrap()],
        gateway: vec![G4.into(), G6.into()],
        host: Vec::new(),
    };
    let web = Station { name: "web".into(), aliases: Vec::new(), addresses: vec![A4.into(), A6.into()] };
    Zones::new([Arc::new(Zone::new(spec, [web]))])
}

fn spec() -> NetworkSpec {
    NetworkSpec {
        settings: NetworkSettings {
            gateway_mac: G,
            gateway4: G4,
            gateway6: Some(G6),
            host4: None,
            host6: None,
            uplink: Default::default(),
            subnet4: "10.1.0.0/24".parse().unwrap(),
            subnet6: Some("fd00:1::/64".parse().unwrap()),
            mtu: 1500,
            icc: true,
            policy_generation: 1,
            flood_rate: Rate::of_copies(1_000_000, 1500),
        },
        rules: Vec::new(),
        ports: vec![PortSpec {
            id: PortId(1),
            mac: A,
            ipv4: Some(A4),
            ipv6: Some(A6),
            guard: true,
            learn: false,
            published: Default::default(),
        }],
    }
}

fn question() -> Vec<u8> {
    let mut question = Message::new(9, MessageType::Query, OpCode::Query);
    question.add_query(Query::query(Name::from_ascii("web.").unwrap(), RecordType::A));
    question.to_vec().unwrap()
}

#[test]
fn a_container_asks_its_gateway_in_either_family_and_has_its_answer() {
    let mut lan = Lan::new();
    for asked in [udp4(A, G, A4, G4, 4711, 53, &question()), udp6(A, G, A6, G6, 4711, 53, &question())] {
        assert!(lan.far.send(&[&asked]));
        let frame = lan.answer();
        let parsed = Frame::parse(&frame).unwrap();
        let Payload::Ip(packet) = &parsed.payload else { panic!("not IP") };
        assert_eq!((parsed.src, parsed.dst), (G, A));
        assert!(matches!(packet.l4, Layer4::Udp { src_port: 53, dst_port: 4711 }));
        let answer = Message::from_vec(&frame[packet.l4_offset + HEADER_LEN..packet.end]).unwrap();
        assert_eq!((answer.id, answer.answers.len()), (9, 1));
    }
}

#[test]
fn what_is_damaged_or_for_another_port_of_the_gateway_is_dropped_and_counted() {
    let mut lan = Lan::new();
    let mut damaged = udp4(A, G, A4, G4, 4711, 53, &question());
    *damaged.last_mut().unwrap() ^= 1;
    for frame in [damaged, udp4(A, G, A4, G4, 4711, 54, &question()), udp4(A, G, A4, G4, 4711, 53, &[0; 4])] {
        assert!(lan.far.send(&[&frame]));
    }
    while lan.worker.turn(NOW) > 0 {}
    let counts = port::counts(&lan.rx, &lan.tx);
    let drops = [DropReason::Malformed, DropReason::NoService].map(|reason| counts.rx_drops[reason.index()]);
    assert_eq!((counts.rx_frames, drops, counts.local), (3, [1, 1], 1));
}

#[test]
fn who_asks_more_than_is_answered_is_dropped_as_busy() {
    // Nobody runs this service, so nothing is answered.
    let (names, _service) = service(Resolvers::new(&[], 1));
    let mut lan = Lan::with(names.link());
    for _ in 0..100 {
        assert!(lan.far.send(&[&udp4(A, G, A4, G4, 4711, 53, &question())]));
    }
    while lan.worker.turn(NOW) > 0 {}
    let counts = port::counts(&lan.rx, &lan.tx);
    assert!(counts.ingress_is_conserved());
    assert_eq!((counts.local, counts.rx_drops[DropReason::NamesBusy.index()]), (64, 36));
}
