//! All TCP flows of one worker: which one a segment is of, and whose turn it is.
//!
//! A frame's work is done when it comes, but for reading sockets, which waits for the turn: each flow that has something
//! to do then does a bounded piece of it, in the order in which they had. Acknowledgements that nothing hurries go out
//! when a turn has brought no more payload of that flow, or after [`PATIENCE`] where little came, for an answer may take them along.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry};

use super::super::errors::{self, Unreachable};
use super::super::{Cx, Ends, Home, Incoming, Kind};
use super::account::Account;
use super::farewells::{Farewell, Farewells};
use super::flow::{End, Flow, Stage, Work};
use super::headers::{ACK, Fields, RST, Template, quoted_syn};
use super::options::Options;
use super::pool::Pool;
use super::segment::Segment;
use super::sequence::Seq;
use super::slab::Slab;
use super::socket::FarSocket;
use super::timers::Timers;
use crate::engine::{Activity, Ready};
use crate::forwarding::{DropReason, Instant, PortId};
use crate::frame::Layer4;
use crate::gateway::Asker;
use crate::uplink::plan::{Destination, Transport};

/// Bytes read from one socket in one turn.
const SPACE: usize = 512 * 1024;

/// How long an acknowledgement of little waits for an answer that takes it along.
const PATIENCE: Duration = Duration::from_millis(1);

/// Payload of which an acknowledgement waits no longer than until the next turn: the sender is not asking, but sending.
const LITTLE: u32 = 2 * 1460;

/// How often idle flows are looked for.
const SWEEP: Duration = Duration::from_secs(30);

/// Idle time after which the container is asked whether it still knows of a flow; as Linux's keepalive.
const IDLE: Duration = Duration::from_secs(2 * 60 * 60);

/// The same for a flow that one side has ended: a container forgets those it closed after 60 s (tcp_fin_timeout).
const HALF_CLOSED_IDLE: Duration = Duration::from_secs(60);

/// How long it may take to answer.
const SILENCE: Duration = Duration::from_secs(120);

/// Whose flow it is. Two networks may have the same addresses, so the port belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) port: PortId,
    pub(super) ends: Ends,
}

/// One worker's flows.
#[derive(Debug)]
pub(crate) struct Tcp {
    flows: Slab,
    index: HashMap<Key, usize>,
    /// The flow of the last segment.
    last: Option<(Key, usize)>,
    accounts: BTreeMap<PortId, Account>,
    runnable: Vec<usize>,
    owing: Vec<usize>,
    /// Emptied lists, so that a turn allocates nothing.
    spare: Vec<usize>,
    timers: Timers,
    farewells: Farewells,
    pool: Pool,
    space: Box<[u8]>,
    /// Turns made.
    turn: u64,
    swept: Instant,
    /// When the first of the patient acknowledgements is due.
    patience: Option<Instant>,
    seed: RandomState,
}

/// The flows of one port, on their way to another worker.
#[derive(Debug, Default)]
pub(crate) struct Baggage {
    flows: Vec<Box<Flow>>,
}

impl Tcp {
    pub(crate) fn new() -> Self {
        Tcp {
            flows: Slab::default(),
            index: HashMap::new(),
            last: None,
            accounts: BTreeMap::new(),
            runnable: Vec::new(),
            owing: Vec::new(),
            spare: Vec::new(),
            timers: Timers::default(),
            farewells: Farewells::default(),
            pool: Pool::default(),
            space: vec![0; SPACE].into_boxed_slice(),
            turn: 1,
            swept: Instant::default(),
            patience: None,
            seed: RandomState::new(),
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// What is published has changed; `cx.homes` is renewed.
    pub(crate) fn adopt(&mut self, cx: &mut Cx<'_>) {
        for at in self.flows.indices() {
            let Some(flow) = self.flows.get_mut(at) else { continue };
            match cx.homes.get(&flow.home.port) {
                Some(&home) if home != flow.home => flow.move_to(home),
                Some(_) => {}
                None => self.end(cx, at, End::Abandoned),
            }
        }
    }

    /// The flows of a port that is served here from now on.
    pub(crate) fn unpack(&mut self, cx: &mut Cx<'_>, baggage: Baggage) {
        for mut flow in baggage.flows {
            let Some(&home) = cx.homes.get(&flow.home.port) else { continue };
            flow.move_to(home);
            flow.slot = Default::default();
            let account = self.accounts.entry(home.port).or_default();
            if !account.add_flow() {
                continue;
            }
            account.change(0, flow.held);
            // Registered anew, the socket tells what it has by an event.
            if let Some(at) = self.insert(cx, flow) {
                let flow = self.flows.get_mut(at).expect("inserted");
                flow.slot.is_runnable = true;
                self.settle(at);
            }
        }
    }

    /// Takes out the flows of a port that is not served here any more.
    pub(crate) fn pack(&mut self, registry: &Registry, port: PortId) -> Baggage {
        let mut baggage = Baggage::default();
        for at in self.flows.indices() {
            if self.flows.get_mut(at).is_none_or(|flow| flow.home.port != port) {
                continue;
            }
            let Some(flow) = self.remove(at) else { continue };
            // Registered it was; a poll that lost it has nothing to forget.
            let _ = registry.deregister(&mut SourceFd(&flow.socket().as_fd().as_raw_fd()));
            baggage.flows.push(flow);
        }
        baggage
    }

    /// A packet of a container.
    pub(crate) fn deliver(&mut self, cx: &mut Cx<'_>, incoming: &Incoming<'_>) -> Result<(), DropReason> {
        let Layer4::Tcp { src_port, dst_port, .. } = incoming.packet.l4 else { return Err(DropReason::Malformed) };
        let near = SocketAddr::new(incoming.packet.src, src_port);
        let far = SocketAddr::new(incoming.packet.dst, dst_port);
        let key = Key { port: incoming.home.port, ends: Ends { near, far } };
        let segment = Segment::read(incoming)?;
        match self.find(&key) {
            Some(at) if self.is_new_call(at, &segment) => {
                self.end(cx, at, End::Abandoned);
                self.called(cx, incoming, &key, &segment)
            }
            Some(at) => {
                self.receive(cx, at, &segment);
                Ok(())
            }
            None if segment.syn && segment.ack.is_none() && !segment.rst => self.called(cx, incoming, &key, &segment),
            None => self.unknown(cx, &incoming.home, &key, &segment),
        }
    }

    fn find(&mut self, key: &Key) -> Option<usize> {
        match self.last {
            Some((last, at)) if last == *key => Some(at),
            _ => {
                let at = *self.index.get(key)?;
                self.last = Some((*key, at));
                Some(at)
            }
        }
    }

    /// Whether a segment of a known flow begins another one: the container has used its port again.
    fn is_new_call(&mut self, at: usize, segment: &Segment<'_>) -> bool {
        let flow = self.flows.get_mut(at).expect("found");
        segment.syn && segment.ack.is_none() && flow.stage != Stage::Calling && segment.seq != flow.first
    }

    fn receive(&mut self, cx: &mut Cx<'_>, at: usize, segment: &Segment<'_>) {
        let has_payload = !segment.payload.is_empty();
        let outcome = self.with(cx, at, |flow, work| flow.receive(segment, work));
        if let Some(flow) = self.flows.get_mut(at)
            && has_payload
        {
            (flow.slot.fed, flow.slot.fed_at) = (self.turn, cx.now);
        }
        self.conclude(cx, at, outcome);
    }

    /// The container calls.
    fn called(
        &mut self,
        cx: &mut Cx<'_>,
        incoming: &Incoming<'_>,
        key: &Key,
        syn: &Segment<'_>,
    ) -> Result<(), DropReason> {
        let home = incoming.home;
        if !self.accounts.entry(home.port).or_default().add_flow() {
            self.refuse(cx, &home, &key.ends, syn);
            return Err(DropReason::FlowLimit);
        }
        let reached = match cx.plan().destination(home.place.network, Some(Transport::Tcp), key.ends.far) {
            Ok(Destination::Far(to)) => FarSocket::connect(to),
            Ok(Destination::Names) => {
                let network = cx.plan().networks[home.place.network as usize].name.clone();
                cx.names.stream(Asker { network, port: home.port }).map(FarSocket::of)
            }
            Err(reason) => {
                self.close_account(home.port, 0);
                let packet = &incoming.bytes[incoming.packet.l3_offset..incoming.packet.end];
                match reason {
                    DropReason::NoService => self.refuse(cx, &home, &key.ends, syn),
                    _ => errors::send(cx, &home, packet, Unreachable::Prohibited),
                }
                return Err(reason);
            }
        };
        let first = self.first_sequence(key, cx.now);
        match reached {
            Ok(socket) => {
                let flow = Flow::outbound(key.ends, home, socket, syn, first, cx.now);
                self.insert(cx, Box::new(flow));
                Ok(())
            }
            Err(error) => {
                self.close_account(home.port, 0);
                if is_exhausted(&error) {
                    self.refuse(cx, &home, &key.ends, syn);
                    return Err(DropReason::FlowLimit);
                }
                if !answer_failure(cx, &home, &key.ends, syn.seq, &error) {
                    self.refuse(cx, &home, &key.ends, syn);
                }
                Ok(())
            }
        }
    }

    /// Whether a container has a connection between these ends.
    pub(crate) fn has(&mut self, port: PortId, ends: Ends) -> bool {
        self.find(&Key { port, ends }).is_some()
    }

    /// A client of a published port: a connected, non-blocking socket. The container at `near` sees it come from `far`.
    pub(crate) fn accept(&mut self, cx: &mut Cx<'_>, home: &Home, socket: OwnedFd, near: SocketAddr, far: SocketAddr) {
        let key = Key { port: home.port, ends: Ends { near, far } };
        let socket = FarSocket::of(socket);
        if self.find(&key).is_some() || !self.accounts.entry(home.port).or_default().add_flow() {
            return socket.abort();
        }
        let first = self.first_sequence(&key, cx.now);
        let flow = Flow::inbound(key.ends, *home, socket, first, cx.now);
        let Some(at) = self.insert(cx, Box::new(flow)) else { return };
        let outcome = self.with(cx, at, |flow, work| {
            flow.call(work);
            Ok(())
        });
        self.conclude(cx, at, outcome);
    }

    /// A flow's socket became ready.
    pub(crate) fn event(&mut self, index: usize, ready: Ready) {
        // An event of a flow that is gone, or of one before at this index, which looks in vain.
        if let Some(flow) = self.flows.get_mut(index) {
            flow.event(ready);
            self.settle(index);
        }
    }

    /// What is due.
    pub(crate) fn turn(&mut self, cx: &mut Cx<'_>) -> Activity {
        while let Some((at, entry)) = self.timers.expired(cx.now) {
            self.expire(cx, at, entry);
        }
        if cx.now.since(self.swept) > SWEEP {
            self.sweep(cx);
        }
        let mut activity = Activity::Idle;
        let mut list = std::mem::replace(&mut self.runnable, std::mem::take(&mut self.spare));
        for at in list.drain(..) {
            let Some(flow) = self.flows.get_mut(at) else { continue };
            flow.slot.is_queued = false;
            let mut moved = Activity::Idle;
            let outcome = self.with(cx, at, |flow, work| flow.run(work).map(|activity| moved = activity));
            activity = activity.max(moved);
            self.conclude(cx, at, outcome);
        }
        self.spare = list;
        let owed = self.acknowledge(cx);
        self.turn += 1;
        activity.max(owed)
    }

    /// When the next timer is due, at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let sweep = (!self.index.is_empty()).then(|| self.swept + SWEEP);
        [self.timers.next(), self.patience, sweep].into_iter().flatten().min()
    }

    /// Acknowledgements that waited long enough.
    fn acknowledge(&mut self, cx: &mut Cx<'_>) -> Activity {
        let mut activity = Activity::Idle;
        let mut list = std::mem::replace(&mut self.owing, std::mem::take(&mut self.spare));
        self.patience = None;
        for at in list.drain(..) {
            let Some(flow) = self.flows.get_mut(at) else { continue };
            flow.slot.is_owing = false;
            if !flow.slot.owes {
                continue;
            }
            let due = flow.slot.fed_at + PATIENCE;
            let is_asking = flow.unacked() <= LITTLE && cx.now < due;
            if flow.slot.fed == self.turn || is_asking {
                flow.slot.is_owing = true;
                self.owing.push(at);
                self.patience = self.patience.into_iter().chain([due]).min();
                continue;
            }
            activity = Activity::Bulk;
            let outcome = self.with(cx, at, |flow, work| {
                flow.acknowledge(work);
                Ok(())
            });
            self.conclude(cx, at, outcome);
        }
        self.spare = list;
        activity
    }

    fn expire(&mut self, cx: &mut Cx<'_>, at: usize, entry: Instant) {
        let Some(flow) = self.flows.get_mut(at) else { return };
        if flow.slot.scheduled != Some(entry) {
            return;
        }
        flow.slot.scheduled = None;
        let is_due = flow.due().is_some_and(|due| due <= cx.now);
        let outcome = if is_due { self.with(cx, at, Flow::expire) } else { Ok(()) };
        self.conclude(cx, at, outcome);
    }

    /// Asks containers whether they still know of flows that are idle, and ends those of which they do not say so.
    fn sweep(&mut self, cx: &mut Cx<'_>) {
        self.swept = cx.now;
        for at in self.flows.indices() {
            let Some(flow) = self.flows.get_mut(at).filter(|flow| flow.stage == Stage::Open) else { continue };
            let idle = cx.now.since(flow.active);
            let most = if flow.is_half_closed() { HALF_CLOSED_IDLE } else { IDLE };
            if idle <= most {
                continue;
            }
            let outcome = self.with(cx, at, |flow, work| {
                flow.probe(work);
                if idle > most + SILENCE { Err(End::Reset) } else { Ok(()) }
            });
            self.conclude(cx, at, outcome);
        }
    }

    /// Has a flow do something.
    fn with(
        &mut self,
        cx: &mut Cx<'_>,
        at: usize,
        act: impl FnOnce(&mut Flow, &mut Work<'_, '_>) -> Result<(), End>,
    ) -> Result<(), End> {
        let Some(flow) = self.flows.get_mut(at) else { return Ok(()) };
        let account = self.accounts.get_mut(&flow.home.port).expect("a flow is counted");
        let (pool, space, now) = (&mut self.pool, &mut self.space[..], cx.now);
        act(flow, &mut Work { out: cx.out.again(), account, pool, space, now })
    }

    fn conclude(&mut self, cx: &mut Cx<'_>, at: usize, outcome: Result<(), End>) {
        match outcome {
            Ok(()) => self.settle(at),
            Err(end) => self.end(cx, at, end),
        }
    }

    /// Puts a flow into the lists that it belongs in.
    fn settle(&mut self, at: usize) {
        let Some(flow) = self.flows.get_mut(at) else { return };
        let due = flow.due();
        let slot = &mut flow.slot;
        if slot.is_runnable && !slot.is_queued {
            slot.is_queued = true;
            self.runnable.push(at);
        }
        if slot.owes && !slot.is_owing {
            slot.is_owing = true;
            self.owing.push(at);
        }
        if let Some(due) = due {
            slot.scheduled = Some(self.timers.schedule(at, due, slot.scheduled));
        }
    }

    /// Puts a flow, which is counted, into the table and its socket into the poll.
    fn insert(&mut self, cx: &mut Cx<'_>, flow: Box<Flow>) -> Option<usize> {
        let key = Key { port: flow.home.port, ends: flow.ends };
        let at = self.flows.insert(flow);
        let flow = self.flows.get_mut(at).expect("inserted");
        let raw = flow.socket().as_fd().as_raw_fd();
        let both = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = cx.registry.register(&mut SourceFd(&raw), Kind::Tcp.token(at), both) {
            tracing::warn!(%error, "a connection cannot be waited for: it is refused");
            self.index.insert(key, at);
            self.end(cx, at, End::Reset);
            return None;
        }
        self.index.insert(key, at);
        Some(at)
    }

    fn remove(&mut self, at: usize) -> Option<Box<Flow>> {
        let flow = self.flows.remove(at)?;
        let key = Key { port: flow.home.port, ends: flow.ends };
        self.index.remove(&key);
        self.last = None;
        self.close_account(key.port, flow.held);
        Some(flow)
    }

    fn close_account(&mut self, port: PortId, held: usize) {
        let account = self.accounts.get_mut(&port).expect("a flow is counted");
        account.remove_flow(held);
        if account.is_unused() {
            self.accounts.remove(&port);
        }
    }

    /// Ends a flow. Closing its socket takes it out of the poll.
    fn end(&mut self, cx: &mut Cx<'_>, at: usize, end: End) {
        let Some(mut flow) = self.remove(at) else { return };
        match end {
            End::Done => {
                let key = Key { port: flow.home.port, ends: flow.ends };
                self.farewells.remember(key, flow.farewell());
            }
            End::Reset => {
                flow.reset(&mut cx.out);
                flow.into_socket().abort();
            }
            End::Abandoned => flow.into_socket().abort(),
            End::Failed(error) => {
                if !answer_failure(cx, &flow.home, &flow.ends, flow.first, &error) {
                    flow.reset(&mut cx.out);
                }
            }
        }
    }

    /// Where our numbers of a flow start: not to be guessed, and later for a later flow of the same ends. RFC 6528.
    fn first_sequence(&self, key: &Key, now: Instant) -> Seq {
        Seq((self.seed.hash_one(key) as u32).wrapping_add((now.0 >> 8) as u32))
    }

    /// A segment of no flow.
    fn unknown(&mut self, cx: &mut Cx<'_>, home: &Home, key: &Key, segment: &Segment<'_>) -> Result<(), DropReason> {
        if segment.rst {
            return Err(DropReason::NoFlow);
        }
        let is_last = segment.fin && segment.payload.is_empty();
        match self.farewells.recall(key).filter(|farewell| is_last && segment.end() == farewell.ack) {
            Some(Farewell { seq, ack }) => {
                send(cx, home, &key.ends, Fields { seq, ack, flags: ACK, window: 0, options: Options::NONE });
                Ok(())
            }
            None => {
                self.refuse(cx, home, &key.ends, segment);
                Err(DropReason::NoFlow)
            }
        }
    }

    /// Answers a segment, which is no reset, by one. RFC 9293 3.5.2.
    fn refuse(&self, cx: &mut Cx<'_>, home: &Home, ends: &Ends, segment: &Segment<'_>) {
        let (seq, ack, flags) = match segment.ack {
            Some(ack) => (ack, Seq(0), RST),
            None => (Seq(0), segment.end(), RST | ACK),
        };
        send(cx, home, ends, Fields { seq, ack, flags, window: 0, options: Options::NONE });
    }
}

/// One segment without payload. What is lost of these comes again when the container asks again.
fn send(cx: &mut Cx<'_>, home: &Home, ends: &Ends, fields: Fields) {
    let headers = Template::new(home, ends).make(&fields, 0, 1);
    let _ = cx.out.send(home.place, &headers.offload, headers.as_bytes(), &[]);
}

/// Whether it was the switch that had no room.
fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EAGAIN))
}

/// Tells a container by ICMP why its call failed; false: that is for a reset to say.
fn answer_failure(cx: &mut Cx<'_>, home: &Home, ends: &Ends, seq: Seq, error: &io::Error) -> bool {
    let why = match error.raw_os_error() {
        Some(libc::ENETUNREACH | libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL) => Unreachable::Network,
        Some(libc::EHOSTUNREACH | libc::ETIMEDOUT | libc::EHOSTDOWN) => Unreachable::Host,
        Some(libc::EACCES | libc::EPERM) => Unreachable::Prohibited,
        _ => return false,
    };
    errors::send(cx, home, &quoted_syn(ends, seq), why);
    true
}
