//! All TCP flows of one worker: which one a segment is of, and whose turn it is.
//!
//! A frame's work is done when it comes, but for reading sockets, which waits for the turn: each flow that has something
//! to do then does a bounded piece of it, in the order in which they had. Acknowledgements that nothing hurries go out
//! when a turn has brought no more payload of that flow, or after a millisecond where little came, for an answer may take them along.

mod calls;
mod turns;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::RandomState;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry};

use super::super::{Cx, Ends, Incoming, Kind};
use super::account::Account;
use super::farewells::Farewells;
use super::flow::{End, Flow, Stage, Work};
use super::pool::Pool;
use super::segment::Segment;
use super::slab::Slab;
use super::socket::FarSocket;
use super::timers::Timers;
use crate::engine::{Changed, Ready};
use crate::forwarding::{DropReason, Instant, PortId};
use crate::frame::Layer4;
use crate::uplink::Transport;
use calls::answer_failure;

/// Bytes read from one socket in one turn.
const SPACE: usize = 512 * 1024;

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
    by_port: BTreeSet<(PortId, usize)>,
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
    #[allow(clippy::vec_box, reason = "they are boxed where they come from and where they go")]
    flows: Vec<Box<Flow>>,
}

impl Tcp {
    pub(crate) fn new() -> Self {
        Tcp {
            flows: Slab::default(),
            index: HashMap::new(),
            by_port: BTreeSet::new(),
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

    /// Of a container with flows.
    #[cfg(test)]
    pub(super) fn account(&mut self, port: PortId) -> &mut Account {
        self.accounts.get_mut(&port).expect("it has flows")
    }

    /// What is published has changed; `cx.homes` is renewed. Flows end that may not be there any more.
    pub(crate) fn adopt(&mut self, cx: &mut Cx<'_>, changed: &Changed) {
        let concerned: Vec<usize> = match changed {
            Changed::All => self.by_port.iter().map(|(_, at)| *at).collect(),
            Changed::Ports(ports) => ports.iter().flat_map(|port| self.of(*port)).collect(),
        };
        for at in concerned {
            let Some(flow) = self.flows.get_mut(at) else { continue };
            let Some(&home) = cx.homes.get(&flow.home.port) else {
                self.end(cx, at, End::Abandoned);
                continue;
            };
            if home != flow.home {
                flow.move_to(home);
            }
            let may = match flow.publication {
                Some(id) => cx.plan().published.of(home.port).iter().any(|publication| publication.id == id),
                None => cx.plan().destination(home.place.network, Some(Transport::Tcp), flow.ends.far).is_ok(),
            };
            if !may {
                self.end(cx, at, End::Reset);
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
        for at in self.of(port).collect::<Vec<_>>() {
            let Some(flow) = self.remove(at) else { continue };
            deregister(registry, flow.socket());
            baggage.flows.push(flow);
        }
        baggage
    }

    /// The flows of a port.
    fn of(&self, port: PortId) -> impl Iterator<Item = usize> + '_ {
        self.by_port.range((port, 0)..=(port, usize::MAX)).map(|(_, at)| *at)
    }

    /// A packet of a container.
    pub(crate) fn deliver(&mut self, cx: &mut Cx<'_>, incoming: &Incoming<'_>) -> Result<(), DropReason> {
        let Layer4::Tcp { src_port, dst_port, .. } = incoming.packet.l4 else { return Err(DropReason::Malformed) };
        let near = SocketAddr::new(incoming.packet.src, src_port);
        let far = SocketAddr::new(incoming.packet.dst, dst_port);
        let key = Key { port: incoming.home.port, ends: Ends { near, far } };
        let segment = Segment::read(incoming.bytes, incoming.packet, incoming.offload)?;
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

    /// Whether a container has a connection between these ends.
    pub(crate) fn has(&mut self, port: PortId, ends: Ends) -> bool {
        self.find(&Key { port, ends }).is_some()
    }

    /// A flow's socket became ready.
    pub(crate) fn event(&mut self, index: usize, ready: Ready) {
        // An event of a flow that is gone, or of one before at this index, which looks in vain.
        if let Some(flow) = self.flows.get_mut(index) {
            flow.event(ready);
            self.settle(index);
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
        self.by_port.insert((key.port, at));
        let flow = self.flows.get_mut(at).expect("inserted");
        let raw = flow.socket().as_fd().as_raw_fd();
        let all = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
        if let Err(error) = cx.registry.register(&mut SourceFd(&raw), Kind::Tcp.token(at), all) {
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
        self.by_port.remove(&(key.port, at));
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
            End::Refused => self.call_otherwise(cx, *flow),
            End::Failed(error) => {
                if !answer_failure(cx, &flow.home, &flow.ends, flow.first, &error) {
                    flow.reset(&mut cx.out);
                }
            }
        }
    }
}

/// Takes a flow's socket out of the poll. It is in there; a poll that lost it has nothing to forget.
fn deregister(registry: &Registry, socket: &FarSocket) {
    let _ = registry.deregister(&mut SourceFd(&socket.as_fd().as_raw_fd()));
}
