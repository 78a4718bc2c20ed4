//! Echoes: what `ping` sends comes out of a "ping" socket of the kernel, which any user may have whose group is in
//! `net.ipv4.ping_group_range`.
//!
//! A flow is what a container sends to one address under one identifier. The kernel puts an identifier of its own in, by which it
//! finds the socket; replies get the container's back. Hop limits work both ways, so `ping -t` and `traceroute -I` do.
//! Requests leave, replies come in; all other ICMP is made here of what sockets tell ([`super::errors`]), never passed
//! through. One worker owns it all.

mod echo;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mio::Registry;
use nix::errno::Errno;

use self::echo::Request;
use super::datagram::{self, Datagram, HEADER_LEN};
use super::errors::{self, Unreachable};
use super::quote::Quote;
use super::ready::{Pending, ReadyQueue};
use super::socket::{Refused, Socket, Space};
use super::table::{Key, Table};
use super::{Cx, Home, Incoming, Kind};
use crate::engine::{Activity, Changed, Forward, Ready};
use crate::forwarding::{DropReason, Instant, PortId};
use crate::uplink::plan::Destination;

/// Most flows of one container: each is a descriptor. A sweep over a /24 fits.
const MOST_FLOWS: usize = 256;
/// How long a reply may take, and one request after another: Linux's `nf_conntrack_icmp_timeout`.
const IDLE: Duration = Duration::from_secs(30);
/// Replies, and errors, read from one flow before the others get their turn.
const MOST_READS: usize = 16;

/// A flow.
#[derive(Debug)]
struct Flow {
    socket: Socket,
    /// Where it leads: not always where the container believes.
    far: IpAddr,
    pending: Pending,
}

/// One worker's flows. Of a key's ends the near one has the identifier for a port, the far one none.
#[derive(Debug)]
pub(crate) struct Icmp {
    flows: Table<Flow>,
    ready: ReadyQueue,
    space: Space,
    /// That the host forbids it was logged.
    is_forbidden_logged: bool,
}

/// The flows of one port, on their way to another worker.
#[derive(Debug, Default)]
pub(crate) struct Baggage(Vec<(Key, Flow)>);

impl Icmp {
    pub(crate) fn new() -> Self {
        Icmp {
            flows: Table::new(MOST_FLOWS),
            ready: ReadyQueue::default(),
            space: Space::default(),
            is_forbidden_logged: false,
        }
    }

    /// What is published has changed; `cx.homes` is renewed. Flows end that may not be there any more.
    pub(crate) fn adopt(&mut self, cx: &mut Cx<'_>, changed: &Changed) {
        let plan = cx.plan();
        self.flows.retain(changed, |key, flow| {
            // Of a port that is gone there is no place, and its home is of before.
            cx.out.forward().place_of(key.port).is_some_and(|place| {
                plan.destination(place.network, None, key.ends.far)
                    == Ok(Destination::Far(SocketAddr::new(flow.far, 0)))
            })
        });
    }

    /// The flows of a port that is served here from now on.
    pub(crate) fn unpack(&mut self, cx: &mut Cx<'_>, baggage: Baggage) {
        for (key, flow) in baggage.0 {
            if self.flows.find(&key).is_none() {
                let index = self.flows.insert(key, flow, IDLE, cx.now);
                self.watch(cx.registry, index);
            }
        }
    }

    /// Takes out the flows of a port that is not served here any more.
    pub(crate) fn pack(&mut self, registry: &Registry, port: PortId) -> Baggage {
        let flows = self.flows.take_port(port);
        flows.iter().for_each(|(_, flow)| flow.socket.deregister(registry));
        Baggage(flows)
    }

    /// A packet of a container.
    pub(crate) fn deliver(&mut self, cx: &mut Cx<'_>, incoming: &Incoming<'_>) -> Result<(), DropReason> {
        let request = Request::read(incoming)?;
        let key = Key { port: incoming.home.port, ends: request.ends };
        let index = match self.flows.find(&key) {
            Some(index) => {
                errors::check_hops(cx, incoming)?;
                index
            }
            None => match errors::destination(cx, incoming, None, key.ends.far)? {
                Destination::Names => return Err(DropReason::NoService),
                Destination::Far(far) => {
                    errors::check_hops(cx, incoming)?;
                    self.open(cx, incoming, key, far.ip())?
                }
            },
        };
        let Some((_, flow)) = self.flows.at(index) else { return Err(DropReason::NoUplink) };
        let sent = flow
            .socket
            .shape(incoming.packet.hop_limit, incoming.is_whole())
            .and_then(|()| flow.socket.send(request.message));
        match sent {
            Ok(()) => {
                self.flows.touch(index, IDLE, cx.now);
                Ok(())
            }
            Err(errno) => {
                let mtu = flow.socket.path_mtu();
                Err(errors::refuse(cx, incoming, errno, mtu))
            }
        }
    }

    fn open(&mut self, cx: &mut Cx<'_>, incoming: &Incoming<'_>, key: Key, far: IpAddr) -> Result<usize, DropReason> {
        self.flows.admit(key.port, cx.now)?;
        let socket = match Socket::ping(far) {
            Ok(socket) => socket,
            Err(Errno::EACCES | Errno::EPERM) => {
                errors::send(cx, &incoming.home, incoming.ip(), Unreachable::Prohibited);
                return Err(self.forbidden());
            }
            Err(Errno::EMFILE | Errno::ENFILE | Errno::EAGAIN) => {
                // One of its own instead, for the next request.
                self.flows.give_up_one(key.port, cx.now)?;
                return Err(DropReason::FlowLimit);
            }
            Err(errno) => return Err(errors::refuse(cx, incoming, errno, None)),
        };
        errors::confirm(cx, incoming, None, SocketAddr::new(far, 0))?;
        let flow = Flow { socket, far, pending: Pending::default() };
        let index = self.flows.insert(key, flow, IDLE, cx.now);
        self.watch(cx.registry, index);
        Ok(index)
    }

    /// Says so once: it is the host's to change.
    fn forbidden(&mut self) -> DropReason {
        if !self.is_forbidden_logged {
            self.is_forbidden_logged = true;
            tracing::warn!(
                "containers cannot ping the outside: this host lets the daemon's group send no echo requests \
                 (allow it: sysctl net.ipv4.ping_group_range=\"0 2147483647\")"
            );
        }
        DropReason::PingForbidden
    }

    /// Has the poll tell of the flow's socket, and looks at it once: what came before is not told.
    fn watch(&mut self, registry: &Registry, index: usize) {
        let Some((_, flow)) = self.flows.at(index) else { return };
        if flow.socket.register(registry, Kind::Icmp.token(index)).is_err() {
            self.flows.remove(index);
            return;
        }
        flow.pending = Pending::all();
        self.ready.push(index, &mut flow.pending);
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
        let Some(home) = cx.homes.get(&key.port) else { return Activity::Idle };
        let mut count = 0;
        while flow.pending.data && count < MOST_READS {
            match flow.socket.receive(&mut self.space, 0) {
                Ok(received) => {
                    count += 1;
                    // The kernel tells the socket's replies by the identifier alone.
                    if received.from == Some(flow.far) {
                        let hop_limit = received.hop_limit.unwrap_or(datagram::HOP_LIMIT);
                        reply(cx, home, &key, hop_limit, &self.space.bytes[..received.len]);
                    }
                }
                Err(Errno::EAGAIN) => flow.pending.data = false,
                Err(_) => {
                    flow.pending.errors = true;
                    count += 1;
                }
            }
        }
        for _ in 0..MOST_READS {
            if !flow.pending.errors {
                break;
            }
            match flow.socket.refused(&mut self.space) {
                Some(refused) => relay(cx, home, &key, flow.far, &refused, &self.space.bytes[..refused.len]),
                None => flow.pending.errors = false,
            }
        }
        self.ready.push(index, &mut flow.pending);
        if count > 0 { Activity::Small } else { Activity::Idle }
    }
}

/// Brings a container an echo reply. What its queue has no room for is lost, as on any way; it is counted.
fn reply(cx: &mut Cx<'_>, home: &Home, key: &Key, hop_limit: u8, message: &[u8]) {
    let Some((header, data)) = echo::own(message, key.ends.near.port()) else { return };
    let (from, to) = (key.ends.far.ip(), key.ends.near.ip());
    let datagram = Datagram { from, to, protocol: echo::protocol(from), hop_limit, header };
    let _ = datagram::send(cx, home, &datagram, data);
}

/// Tells a container what somebody on the way said of its echo request.
fn relay(cx: &mut Cx<'_>, home: &Home, key: &Key, far: IpAddr, refused: &Refused, message: &[u8]) {
    let (near, shown) = (key.ends.near.ip(), key.ends.far.ip());
    let Some((header, data)): Option<([u8; HEADER_LEN], _)> = echo::own(message, key.ends.near.port()) else {
        return;
    };
    let quote = Quote::new(near, shown, echo::protocol(near), header, data);
    let by = if refused.by == far { shown } else { refused.by };
    errors::relay(cx, home, by, quote.packet(), refused.message);
}
