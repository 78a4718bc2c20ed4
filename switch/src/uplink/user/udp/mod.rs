//! UDP flows.
//!
//! A flow is what a container's port has with one far port. The container starts it: a connected socket of its own, read
//! by this worker. Or a client of a published port does: then the container's datagrams leave by the publication's socket,
//! which its own reader reads. Bursts stay bursts both ways: one frame of the container is one system call, and what the
//! kernel put together of the far side's datagrams is one frame.
//!
//! Hop limits and path MTU work as through a router: what ends here is answered by the gateway, what ends beyond comes back from
//! there as the ICMP error that it was. Limits: flows per container, datagrams per flow and turn; and those with a socket of their
//! own have a permit each of those that all workers share ([`super::ephemeral`]). Whoever has more of them than he would get now
//! gives his oldest up, in use or not, a few in each turn of his worker. One worker owns it all but the permits.

mod flow;
mod inbound;
mod outbound;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
mod train;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mio::Registry;
use nix::errno::Errno;

pub(crate) use self::flow::Client;
use self::flow::{Flow, Way};
use self::inbound::Inbound;
use self::outbound::Outbound;
use super::datagram::{self, Datagram};
use super::errors;
use super::ready::{Pending, ReadyQueue};
use super::socket::Socket;
use super::table::{BUSY, Key, Table};
use super::{Cx, Ends, Home, Incoming, Kind};
use crate::engine::{Activity, Changed, Forward, Ready};
use crate::forwarding::{DropReason, EgressDrop, Instant, Permit, Permits, PortId};
use crate::gateway::Asker;
use crate::uplink::plan::{Destination, Publication, Transport};

/// Most flows of one container: each is a descriptor, and a process has half a million of them at best.
const MOST_FLOWS: usize = 2048;

/// Most flows that are taken from those who have too many in a turn: closing a socket costs some microseconds.
const MOST_TAKEN: usize = 64;

/// More bytes at once are part of a bulk transfer.
const BULK_BYTES: usize = 32 * 1024;

/// One worker's flows.
#[derive(Debug)]
pub(crate) struct Udp {
    flows: Table<Flow>,
    /// Of flows with sockets of their own; all workers'.
    permits: Arc<Permits>,
    ready: ReadyQueue,
    inbound: Inbound,
}

/// The flows of one port, on their way to another worker.
#[derive(Debug, Default)]
pub(crate) struct Baggage(Vec<(Key, Flow)>);

impl Udp {
    pub(crate) fn new(permits: Arc<Permits>) -> Self {
        Udp { flows: Table::new(MOST_FLOWS), permits, ready: ReadyQueue::default(), inbound: Inbound::default() }
    }

    /// What is published has changed; `cx.homes` is renewed. Flows end that may not be there any more.
    pub(crate) fn adopt(&mut self, cx: &mut Cx<'_>, changed: &Changed) {
        let plan = cx.plan();
        self.flows.retain(changed, |key, flow| match &flow.way {
            // Of a port that is gone there is no place, and its home is of before.
            Way::Own { far, .. } => cx.out.forward().place_of(key.port).is_some_and(|place| {
                plan.destination(place.network, Some(Transport::Udp), key.ends.far) == Ok(Destination::Far(*far))
            }),
            Way::Published { publication, .. } => {
                plan.published.of(key.port).iter().any(|published| published.id == publication.id)
            }
        });
    }

    /// The flows of a port that is served here from now on.
    pub(crate) fn unpack(&mut self, cx: &mut Cx<'_>, baggage: Baggage) {
        for (key, flow) in baggage.0 {
            let timeout = flow.timeout(key.ends.far);
            if self.flows.find(&key).is_none() {
                let index = self.flows.insert(key, flow, timeout, cx.now);
                self.watch(cx.registry, index);
            }
        }
    }

    /// Takes out the flows of a port that is not served here any more.
    pub(crate) fn pack(&mut self, registry: &Registry, port: PortId) -> Baggage {
        let flows = self.flows.take_port(port);
        for (_, flow) in &flows {
            if let Way::Own { socket, .. } = &flow.way {
                socket.deregister(registry);
            }
        }
        Baggage(flows)
    }

    /// A packet of a container.
    pub(crate) fn deliver(&mut self, cx: &mut Cx<'_>, incoming: &Incoming<'_>) -> Result<(), DropReason> {
        let outbound = Outbound::read(incoming)?;
        let key = Key { port: incoming.home.port, ends: outbound.ends };
        let index = match self.flows.find(&key) {
            Some(index) => {
                errors::check_hops(cx, incoming)?;
                index
            }
            None => match errors::destination(cx, incoming, Some(Transport::Udp), outbound.ends.far)? {
                Destination::Names => return ask(cx, &incoming.home, &outbound),
                Destination::Far(far) => {
                    errors::check_hops(cx, incoming)?;
                    self.open(cx, incoming, key, far)?
                }
            },
        };
        let Some((_, flow)) = self.flows.at(index) else { return Err(DropReason::NoUplink) };
        let timeout = flow.timeout(key.ends.far);
        match flow.send(&outbound) {
            Ok(()) => {
                self.flows.touch(index, timeout, cx.now);
                Ok(())
            }
            Err(errno) => {
                let mtu = flow.path_mtu();
                Err(errors::refuse(cx, incoming, errno, mtu))
            }
        }
    }

    /// A flow with a socket of its own.
    fn open(
        &mut self,
        cx: &mut Cx<'_>,
        incoming: &Incoming<'_>,
        key: Key,
        far: SocketAddr,
    ) -> Result<usize, DropReason> {
        self.flows.admit(key.port, cx.now)?;
        let permit = self.permit(key.port, cx.now)?;
        let socket = match Socket::udp(far) {
            Ok(socket) => socket,
            Err(Errno::EMFILE | Errno::ENFILE | Errno::EAGAIN) => {
                // One of its own instead, for the next datagram.
                self.flows.give_up(key.port, BUSY, cx.now, Flow::is_own)?;
                return Err(DropReason::FlowLimit);
            }
            Err(errno) => return Err(errors::refuse(cx, incoming, errno, None)),
        };
        errors::confirm(cx, incoming, Some(Transport::Udp), far)?;
        let flow = Flow::new(Way::Own { socket, far, _permit: permit });
        let timeout = flow.timeout(key.ends.far);
        let index = self.flows.insert(key, flow, timeout, cx.now);
        self.watch(cx.registry, index);
        Ok(index)
    }

    /// A permit for one more flow of `port`, instead of another of its own where it must.
    fn permit(&mut self, port: PortId, now: Instant) -> Result<Permit, DropReason> {
        if let Some(permit) = self.permits.take(port) {
            return Ok(permit);
        }
        self.flows.give_up(port, BUSY, now, Flow::is_own)?;
        self.permits.take(port).ok_or(DropReason::FlowLimit)
    }

    /// Takes flows from the containers served here that have more than they would get now.
    fn take_back(&mut self, cx: &Cx<'_>) {
        for _ in 0..MOST_TAKEN {
            let Some(port) = self.permits.over(|port| cx.homes.contains_key(&port)) else { return };
            if self.flows.give_up(port, Duration::ZERO, cx.now, Flow::is_own).is_err() {
                return;
            }
        }
    }

    /// Has the poll tell of the flow's socket, and looks at it once: what came before is not told.
    fn watch(&mut self, registry: &Registry, index: usize) {
        let Some((_, flow)) = self.flows.at(index) else { return };
        let Way::Own { socket, .. } = &flow.way else { return };
        if socket.register(registry, Kind::Udp.token(index)).is_err() {
            self.flows.remove(index);
            return;
        }
        flow.pending = Pending::all();
        self.ready.push(index, &mut flow.pending);
    }

    /// A client of a published port sent something: what the container at `near` sends to `far`, as which the client is shown to
    /// it, leaves by the publication's socket to `client`. To be called with each datagram of a client, before
    /// [`send_datagram`].
    ///
    /// # Errors
    /// `FlowLimit`: the container has as many flows as it may have.
    pub(crate) fn client(
        &mut self,
        cx: &mut Cx<'_>,
        home: &Home,
        publication: Arc<Publication>,
        near: SocketAddr,
        far: SocketAddr,
        client: impl Into<Client>,
    ) -> Result<(), DropReason> {
        let client = client.into();
        let key = Key { port: home.port, ends: Ends { near, far } };
        if let Some(index) = self.flows.find(&key)
            && let Some((_, flow)) = self.flows.at(index)
            && let Way::Published { publication: known, client: known_client } = &mut flow.way
            && (known.id, known_client.address) == (publication.id, client.address)
        {
            *known_client = client;
            flow.is_answered = true;
            let timeout = flow.timeout(far);
            self.flows.touch(index, timeout, cx.now);
            return Ok(());
        }
        if let Some(index) = self.flows.find(&key) {
            self.flows.remove(index);
        }
        self.flows.admit(key.port, cx.now)?;
        let flow = Flow::new(Way::Published { publication, client });
        let timeout = flow.timeout(far);
        self.flows.insert(key, flow, timeout, cx.now);
        Ok(())
    }

    /// Whether a container has, between these ends, a client other than this one of `publication`.
    pub(crate) fn has_another(
        &mut self,
        port: PortId,
        ends: Ends,
        publication: &Publication,
        client: SocketAddr,
    ) -> bool {
        let Some(index) = self.flows.find(&Key { port, ends }) else { return false };
        match self.flows.at(index).map(|(_, flow)| &flow.way) {
            Some(Way::Published { publication: known, client: other }) => {
                (known.id, other.address) != (publication.id, client)
            }
            _ => false,
        }
    }

    /// A flow's socket became ready.
    pub(crate) fn event(&mut self, index: usize, ready: Ready) {
        if let Some((_, flow)) = self.flows.at(index) {
            self.ready.note(index, &mut flow.pending, ready);
        }
    }

    /// What is due.
    pub(crate) fn turn(&mut self, cx: &mut Cx<'_>) -> Activity {
        let mut activity = Activity::Idle;
        for _ in 0..self.ready.len() {
            let Some(index) = self.ready.pop() else { break };
            activity = activity.max(self.serve(cx, index));
        }
        self.flows.expire(cx.now);
        self.take_back(cx);
        activity
    }

    /// When the next timer is due, at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.flows.deadline()
    }

    /// Brings a flow's container what came for it.
    fn serve(&mut self, cx: &mut Cx<'_>, index: usize) -> Activity {
        let Some((key, flow)) = self.flows.at(index) else { return Activity::Idle };
        flow.pending.taken();
        let (Way::Own { socket, far, .. }, Some(home)) = (&flow.way, cx.homes.get(&key.port)) else {
            return Activity::Idle;
        };
        let (bytes, count) = self.inbound.read(cx, home, key.ends, socket, &mut flow.pending);
        self.inbound.hear(cx, home, key.ends, socket, far.ip(), &mut flow.pending);
        self.ready.push(index, &mut flow.pending);
        flow.is_answered |= bytes > 0;
        if count == 0 {
            return Activity::Idle;
        }
        let timeout = flow.timeout(key.ends.far);
        self.flows.touch(index, timeout, cx.now);
        if bytes > BULK_BYTES { Activity::Bulk } else { Activity::Small }
    }
}

/// Sends a datagram to the container at `near`, which sees it come from `far`.
///
/// # Errors
/// Why it was not sent.
pub(crate) fn send_datagram(
    cx: &mut Cx<'_>,
    home: &Home,
    near: SocketAddr,
    far: SocketAddr,
    payload: &[u8],
) -> Result<(), EgressDrop> {
    if payload.len() > datagram::MOST_PAYLOAD {
        return Err(EgressDrop::TooBig);
    }
    datagram::send(cx, home, &Datagram::udp(far, near, payload.len()), payload)
}

/// To the names at the gateway.
fn ask(cx: &mut Cx<'_>, home: &Home, outbound: &Outbound<'_>) -> Result<(), DropReason> {
    let network = &cx.plan().networks[home.place.network as usize].name;
    let Ends { near, far } = outbound.ends;
    // A burst is several questions.
    let size = outbound.segment.map_or(outbound.payload.len(), usize::from).max(1);
    for question in outbound.payload.chunks(size) {
        let asker = Asker { network: network.clone(), port: home.port };
        cx.names.query(asker, near, far, question)?;
    }
    Ok(())
}
