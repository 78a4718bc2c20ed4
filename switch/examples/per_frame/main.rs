//! Forwards prepared frames, to count the instructions per frame: `per_frame CASE BYTES FRAMES ENDPOINTS`.
//!
//! Frames go from A to B on cables. Reading from a cable and writing to one copy the frame once each, as the kernel does with a TAP;
//! filling the cables and emptying them is outside of [`forwarding_on_cables`], which alone is to be counted:
//!
//! ```text
//! valgrind --tool=callgrind --toggle-collect='*forwarding_on_cables*' per_frame full 1514 96 2
//! ```
//!
//! The cases, each more than the one before: `copy` reads and writes; `bare` does it in a worker that looks at nothing but
//! counts; `open` parses, checks the offload, and looks up the receiver; `guard` holds the sender to its addresses; `full`
//! also has icc off and a rule, by which the flow was opened. Beside them, `learned` is `open` with MACs that nobody assigned,
//! one behind each endpoint. `publish` forwards nothing but makes all that workers go by anew, as a change of a network's
//! settings does, FRAMES times; and `attach` has one endpoint more come and go, FRAMES times, with all that this changes in memory.
//! A and B are in the middle of the endpoints. `tests/tests/instructions.rs` reads the figures.

#[path = "lan.rs"]
mod lan;

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;

use lan::{Checks, HEADERS, NOW, OPEN, Pair, learned_mac, tcp_frame};
use tapswitch::engine::{Changed, Forward, Local, NetworkView, Nobody, Place, Snapshot, Verdict, Worker};
use tapswitch::forwarding::{
    Decision, FdbLimits, Instant, Limiter, Network, NetworkSettings, Permits, PortId, PortIndex, PortSpec, Rate, Rule,
    Scratch, Tables,
};
use tapswitch::frame::Offload;
use tapswitch::frame::offload::HEADER_LEN;
use tapswitch::gateway::{Link, Station, Zone, ZoneSpec};
use tapswitch::port::{self, Cable, Plug, RxPort, TxPort};
use tapswitch::uplink::Plan;
use tapswitch::uplink::user::User;

/// Longest Ethernet frame that one IPv4 packet fills.
const LONGEST: usize = 14 + 65_535;
/// Most frames that wait on a cable.
const MOST_FRAMES: usize = 1000;

/// Most endpoints: far more than a daemon serves.
const MOST_ENDPOINTS: u32 = 1_000_000;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [case, numbers @ ..] = args.as_slice() else { return usage() };
    let numbers: Vec<usize> = numbers.iter().map_while(|number| number.parse().ok()).collect();
    let [bytes, frames, endpoints] = numbers[..] else { return usage() };
    let Ok(endpoints @ 2..=MOST_ENDPOINTS) = u32::try_from(endpoints) else { return usage() };
    if !(HEADERS + 1..=LONGEST).contains(&bytes) || frames > MOST_FRAMES {
        return usage();
    }
    let on = |guard, icc| Checks { guard, icc };
    match case.as_str() {
        "copy" => copy(bytes, frames),
        "bare" => worker(2, Wire, frame(2, bytes), frames),
        "open" => worker(endpoints, |tx| snapshot(tx, on(false, true)), frame(endpoints, bytes), frames),
        "guard" => worker(endpoints, |tx| snapshot(tx, on(true, true)), frame(endpoints, bytes), frames),
        "full" => worker(endpoints, |tx| snapshot(tx, on(true, false)), frame(endpoints, bytes), frames),
        "learned" => worker(endpoints, learned, unassigned(frame(endpoints, bytes), endpoints), frames),
        "publish" => publish(endpoints, frames),
        "attach" => attach(endpoints, frames),
        _ => return usage(),
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!(
        "usage: per_frame copy|bare|open|guard|full|learned|publish|attach BYTES FRAMES ENDPOINTS \
         ({HEADERS} < BYTES <= {LONGEST}, FRAMES <= {MOST_FRAMES}, 2 <= ENDPOINTS <= {MOST_ENDPOINTS})"
    );
    ExitCode::FAILURE
}

/// What is counted.
#[inline(never)]
fn forwarding_on_cables(mut work: impl FnMut()) {
    work();
}

/// A frame with the offload header before it.
type Prepared = ([u8; HEADER_LEN], Vec<u8>);

/// Of A for B.
fn frame(endpoints: u32, bytes: usize) -> Prepared {
    tcp_frame(Pair::among(endpoints), 40_000, OPEN, bytes)
}

/// The same between MACs that nobody assigned.
fn unassigned((header, mut frame): Prepared, endpoints: u32) -> Prepared {
    let Pair { a, b } = Pair::among(endpoints);
    frame[..6].copy_from_slice(&learned_mac(b).octets());
    frame[6..12].copy_from_slice(&learned_mac(a).octets());
    (header, frame)
}

/// The containers' ends of A's and B's cables, and the switch's of all.
struct Ends {
    a: Plug,
    b: Plug,
    /// A's and B's: nobody else sends.
    rx: Vec<RxPort>,
    tx: Vec<Arc<TxPort>>,
}

impl Ends {
    fn new(endpoints: u32) -> Self {
        let pair = Pair::among(endpoints);
        let (mut far, mut rx, mut tx) = (Vec::new(), Vec::new(), Vec::new());
        for id in 1..=endpoints {
            let (container, near) = Cable::new();
            let (read, write) = port::open_cable(PortId(id), near, HEADER_LEN, 1);
            tx.push(write);
            if id == pair.a || id == pair.b {
                far.push(container);
                rx.push(read);
            }
        }
        let [a, b] = <[Plug; 2]>::try_from(far).expect("both are among the endpoints");
        Ends { a, b, rx, tx }
    }

    /// Fills A's cable, has `work` forward it, and empties B's; the first time unmeasured, which makes all buffers.
    fn run(a: &Plug, b: &Plug, (header, frame): &Prepared, frames: usize, mut work: impl FnMut()) {
        let mut space = vec![0; HEADER_LEN + LONGEST];
        for measured in [false, true] {
            for _ in 0..frames {
                assert!(a.send(&[header, frame]), "room was made");
            }
            if measured {
                forwarding_on_cables(&mut work)
            } else {
                work()
            }
            for _ in 0..frames {
                assert_eq!(b.receive(&mut space), Some(HEADER_LEN + frame.len()), "every frame arrives");
            }
        }
    }
}

/// Reads and writes, and nothing else.
fn copy(bytes: usize, frames: usize) {
    let Ends { a, b, mut rx, tx } = Ends::new(2);
    let mut buffer = vec![0; HEADER_LEN + LONGEST];
    Ends::run(&a, &b, &frame(2, bytes), frames, || {
        while let Ok(len) = rx[0].read(&mut buffer) {
            tx[1].write(&buffer[..len]).expect("room was made");
        }
    });
}

fn worker<F: Forward<Local = Nobody>>(
    endpoints: u32,
    forward: impl FnOnce(Vec<Arc<TxPort>>) -> F,
    frame: Prepared,
    frames: usize,
) {
    let Ends { a, b, rx, tx } = Ends::new(endpoints);
    let mut worker = Worker::by_hand(0, Arc::new(forward(tx)), Nobody);
    rx.into_iter().for_each(|rx| worker.take(rx, NOW));
    Ends::run(&a, &b, &frame, frames, || while black_box(worker.turn(NOW)) != 0 {});
}

/// Makes networks of all endpoints as control does when a network's settings change.
fn publish(endpoints: u32, times: usize) {
    let tables = Arc::new(Tables::new(FdbLimits::default()));
    let spec = lan::spec(endpoints, Checks { guard: true, icc: false });
    let tx = Ends::new(endpoints).tx;
    forwarding_on_cables(|| {
        for _ in 0..times {
            let network = Arc::new(Network::new(spec.clone(), tables.clone()));
            black_box(Snapshot::new(vec![NetworkView::new(network, tx.clone())], ()));
        }
    });
}

/// One endpoint more comes and goes: in what workers go by, with a rule of its, in the names, and in the worker, which reads the
/// ports of all.
fn attach(endpoints: u32, times: usize) {
    let poll = mio::Poll::new().expect("a poll");
    let waker = Arc::new(mio::Waker::new(poll.registry(), mio::Token(0)).expect("a waker"));
    let mut all = lan::spec(endpoints + 1, Checks { guard: true, icc: false });
    let port = all.ports.pop().expect("one more");
    all.rules.retain(|rule| rule.to != port.id);
    let rule = Rule { from: PortId(1), to: port.id, port: None };
    let station = |port: &PortSpec| Station {
        name: format!("endpoint-{}", port.id.0),
        aliases: vec![format!("alias-{}", port.id.0)],
        addresses: port.ipv4.into_iter().map(Into::into).collect(),
    };
    let mut zone = Arc::new(Zone::new(zone_spec(&all.settings), all.ports.iter().map(station)));
    let (mut read, mut tx) = (Vec::new(), Vec::new());
    for port in &all.ports {
        let (read_side, write_side) = port::open_cable(port.id, Cable::new().1, HEADER_LEN, 1);
        read.push(read_side);
        tx.push(write_side);
    }
    let tables = Arc::new(Tables::new(FdbLimits::default()));
    let mut view = NetworkView::new(Network::new(all, tables.clone()), tx);
    let mut user = User::new(Link::nobody(), Permits::new(1));
    user.start(poll.registry().try_clone().expect("another descriptor"), waker);
    let snapshot = |view: &NetworkView| Arc::new(Snapshot::new(vec![view.clone()], Plan::default()));
    let mut worker = Worker::by_hand(0, snapshot(&view), user);
    read.into_iter().for_each(|rx| worker.take(rx, NOW));
    let opened: Vec<_> = (0..=times).map(|_| port::open_cable(port.id, Cable::new().1, HEADER_LEN, 1)).collect();
    let changed = Changed::Ports([port.id].into());
    let mut names = zone.clone();
    let mut come_and_go = |(rx, tx)| {
        view.attach(port.clone(), tx);
        view.allow(rule);
        Arc::make_mut(&mut zone).add(station(&port));
        names = zone.clone();
        worker.adopt(snapshot(&view), &changed, NOW);
        worker.take(rx, NOW);
        view.detach(port.id);
        Arc::make_mut(&mut zone).remove(&station(&port).name);
        names = zone.clone();
        for slot in worker.adopt(snapshot(&view), &changed, NOW) {
            worker.drop_port(slot);
        }
        tables.forget_port(port.id);
    };
    let mut opened = opened.into_iter();
    // The first one makes buffers longer.
    opened.by_ref().take(1).for_each(&mut come_and_go);
    forwarding_on_cables(|| opened.by_ref().for_each(&mut come_and_go));
}

fn zone_spec(settings: &NetworkSettings) -> ZoneSpec {
    ZoneSpec {
        network: "default".into(),
        forwards: true,
        mtu: settings.mtu,
        subnets: vec![settings.subnet4.into()],
        gateway: vec![settings.gateway4.into()],
        host: Vec::new(),
    }
}

/// What comes in at one end goes out at the other: as [`Forward`] of the benchmark's bare wire.
struct Wire(Vec<Arc<TxPort>>);

impl Forward for Wire {
    type Local = Nobody;

    fn place_of(&self, port: PortId) -> Option<Place> {
        Some(Place { network: 0, port: PortIndex(port.0 - 1) })
    }

    fn flood_rate(&self, _: u32) -> Rate {
        Rate { bytes_per_second: 0, burst: 0 }
    }

    fn forward(&self, from: Place, _: &mut Limiter, _: &mut [u8], _: Instant, _: &mut Scratch) -> Verdict {
        Verdict { decision: Decision::Unicast(PortIndex(1 - from.port.0)), offload: Offload::NONE }
    }

    fn egress(&self) -> impl Iterator<Item = (Place, &Arc<TxPort>)> {
        (0..).zip(&self.0).map(|(at, tx)| (Place { network: 0, port: PortIndex(at) }, tx))
    }

    fn most_ports(&self) -> usize {
        self.0.len()
    }

    fn tx(&self, _: u32, port: PortIndex) -> &TxPort {
        &self.0[port.get()]
    }
}

fn snapshot(tx: Vec<Arc<TxPort>>, checks: Checks) -> Snapshot {
    let network = Arc::new(lan::network(tx.len() as u32, checks));
    Snapshot::new(vec![NetworkView::new(network, tx)], ())
}

/// Without the guard, and with a MAC known behind each endpoint.
fn learned(tx: Vec<Arc<TxPort>>) -> Snapshot {
    let endpoints = tx.len() as u32;
    let limits = FdbLimits { entries: tx.len(), ..FdbLimits::default() };
    let tables = Arc::new(Tables::new(limits));
    let spec = lan::spec(endpoints, Checks { guard: false, icc: true });
    let network = Arc::new(Network::new(spec, tables.clone()));
    (1..=endpoints).for_each(|n| tables.fdb.learn(learned_mac(n), PortId(n), NOW));
    Snapshot::new(vec![NetworkView::new(network, tx)], ())
}
