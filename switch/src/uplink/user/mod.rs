//! The uplink `user`: packets of containers leave through sockets of the daemon's user.
//!
//! ```text
//!  frame of a container ─▶ destination (plan) ─▶ flow ─▶ its socket
//!  socket ready ─▶ flow is runnable ─▶ turn: read it, build frames ─▶ the container's TAP
//! ```
//!
//! A flow lives in the worker that reads its endpoint's port, and its socket in that worker's poll; when the port changes
//! workers its flows go along. Nothing here is shared between threads, but how many ports of the host's they have.
//!
//! Each protocol has a table of its own ([`tcp`], [`udp`], [`icmp`]); all have limits per endpoint, and refuse the endpoint that has
//! reached them, nobody else. Of the host's ephemeral ports, which UDP uses up, all have a share ([`ephemeral`]).

pub(crate) mod datagram;
mod ephemeral;
pub(crate) mod errors;
mod fragments;
pub(crate) mod icmp;
mod names;
mod publication;
mod quote;
mod ready;
mod routes;
mod socket;
mod table;
pub(crate) mod tcp;
pub(crate) mod udp;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use mio::{Registry, Token, Waker};

pub use self::ephemeral::udp_permits;
use super::plan::{Plan, Transport, View};
use crate::engine::{Activity, Arrival, Changed, Forward, LOCAL_TOKENS, Local, Out, Place, Ready};
use crate::forwarding::{DropReason, Instant, Permits, PortId};
use crate::frame::{Fragment, Frame, Layer4, Mac, Offload, Packet, Payload};
use crate::gateway::Link;

/// Which table a token belongs to: in the bits below [`LOCAL_TOKENS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Kind {
    Tcp = 0,
    Udp = 1,
    Icmp = 2,
    Publication = 3,
}

/// Bits of a token's index within its table.
const INDEX_BITS: u32 = 48;

impl Kind {
    /// The token of entry `index` of this table.
    pub(crate) fn token(self, index: usize) -> Token {
        debug_assert!(index < 1 << INDEX_BITS, "tables are far smaller");
        Token(LOCAL_TOKENS | (self as usize) << INDEX_BITS | index)
    }

    fn of(token: usize) -> (Kind, usize) {
        let index = token & ((1 << INDEX_BITS) - 1);
        let kind = match (token & !LOCAL_TOKENS) >> INDEX_BITS {
            0 => Kind::Tcp,
            1 => Kind::Udp,
            2 => Kind::Icmp,
            _ => Kind::Publication,
        };
        (kind, index)
    }
}

/// A container as its flows see it: where to send frames for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Home {
    /// Its port.
    pub port: PortId,
    /// Where that stands in what is published now; renewed with each publication.
    pub place: Place,
    /// Its MAC.
    pub mac: Mac,
    /// The gateway's, from which frames come.
    pub gateway: Mac,
    /// Largest IP packet, in bytes.
    pub mtu: u32,
}

/// What the tables work with.
pub(crate) struct Cx<'a> {
    pub out: Out<'a, View>,
    pub registry: &'a Registry,
    /// The homes of the ports served here.
    pub homes: &'a BTreeMap<PortId, Home>,
    pub names: &'a Link,
    pub errors: &'a mut errors::Budget,
    pub idents: &'a mut datagram::Idents,
    pub routes: &'a mut routes::Routes,
    pub now: Instant,
}

impl<'a> Cx<'a> {
    /// What is published.
    pub(crate) fn plan(&self) -> &'a Plan {
        self.out.forward().plan()
    }

    /// As [`Plan::confirm`], of a socket that is connected to `far`.
    ///
    /// # Errors
    /// What that says.
    pub(crate) fn confirm(
        &mut self,
        network: u32,
        transport: Option<Transport>,
        far: SocketAddr,
    ) -> Result<(), DropReason> {
        self.plan().confirm(network, transport, far, || self.routes.is_elsewhere(far.ip()))
    }
}

/// A packet that a container sent to the switch.
#[derive(Clone, Copy)]
pub(crate) struct Incoming<'a> {
    pub home: Home,
    /// The frame, Ethernet header first.
    pub bytes: &'a [u8],
    pub packet: &'a Packet<'a>,
    pub offload: &'a Offload,
    /// It came in fragments.
    pub was_cut: bool,
}

impl<'a> Incoming<'a> {
    /// The IP packet, without padding.
    pub(crate) fn ip(&self) -> &'a [u8] {
        &self.bytes[self.packet.l3_offset..self.packet.end]
    }

    /// Routers may not cut it: IPv4 says so, and over IPv6 it is what its sender did not cut himself.
    pub(crate) fn is_whole(&self) -> bool {
        /// The bit in the sixth byte of an IPv4 header. RFC 791 3.1.
        const DONT_FRAGMENT: u8 = 0x40;
        match self.packet.src {
            IpAddr::V4(_) => self.bytes[self.packet.l3_offset + 6] & DONT_FRAGMENT != 0,
            IpAddr::V6(_) => !self.was_cut,
        }
    }
}

/// One worker's flows.
#[derive(Debug)]
pub struct User {
    registry: Option<Registry>,
    homes: BTreeMap<PortId, Home>,
    names: Link,
    errors: errors::Budget,
    idents: datagram::Idents,
    routes: routes::Routes,
    fragments: fragments::Fragments,
    /// A datagram that came in fragments.
    whole: Vec<u8>,
    tcp: tcp::Tcp,
    udp: udp::Udp,
    icmp: icmp::Icmp,
    published: publication::Publications,
    /// Of what is published anywhere, as last adopted.
    changes: u64,
}

/// The flows of one port, on their way to another worker.
#[derive(Debug)]
pub struct Baggage {
    tcp: tcp::Baggage,
    udp: udp::Baggage,
    icmp: icmp::Baggage,
}

impl User {
    /// Without flows; `names` answers at the gateway, and `udp_permits` are for UDP flows of all workers.
    pub fn new(names: Link, udp_permits: Arc<Permits>) -> Self {
        User {
            registry: None,
            homes: BTreeMap::new(),
            names,
            errors: Default::default(),
            idents: Default::default(),
            routes: Default::default(),
            fragments: Default::default(),
            whole: Vec::new(),
            tcp: tcp::Tcp::new(),
            udp: udp::Udp::new(udp_permits),
            icmp: icmp::Icmp::new(),
            published: publication::Publications::default(),
            changes: 0,
        }
    }

    /// Goes by what is published of a port that is served here.
    fn renew(&mut self, port: PortId, view: &View) {
        if let Some(found) = home(view, port) {
            self.homes.insert(port, found);
        }
        let registry = self.registry.as_ref().expect("a worker starts before its first port");
        self.published.adopt(port, view.plan().published.of(port), registry);
    }

    /// A part of a datagram, which leaves when it is whole.
    fn deliver_part(
        &mut self,
        home: Home,
        bytes: &[u8],
        packet: &Packet<'_>,
        out: Out<'_, View>,
        now: Instant,
    ) -> Result<(), DropReason> {
        if !self.fragments.add(home.port, bytes, packet, now, &mut self.whole)? {
            return Ok(());
        }
        // Taken for the call, which needs all of `self`; its room is used again.
        let whole = std::mem::take(&mut self.whole);
        let outcome = match Frame::parse(&whole).map(|frame| frame.payload) {
            Ok(Payload::Ip(packet)) if packet.fragment == Fragment::Whole => {
                let offload = &Offload::NONE;
                let incoming = Incoming { home, bytes: &whole, packet: &packet, offload, was_cut: true };
                self.deliver_whole(&incoming, out, now)
            }
            _ => Err(DropReason::Malformed),
        };
        self.whole = whole;
        outcome
    }

    fn deliver_whole(&mut self, incoming: &Incoming<'_>, out: Out<'_, View>, now: Instant) -> Result<(), DropReason> {
        let (tcp, udp, icmp, mut cx) = self.parts(out, now);
        match &incoming.packet.l4 {
            Layer4::Tcp { .. } => tcp.deliver(&mut cx, incoming),
            Layer4::Udp { .. } => udp.deliver(&mut cx, incoming),
            Layer4::Icmp4 { .. } | Layer4::Icmp6 { .. } => icmp.deliver(&mut cx, incoming),
            Layer4::Other => Err(DropReason::NoService),
        }
    }

    /// The tables, and what they work with.
    fn parts<'a>(
        &'a mut self,
        out: Out<'a, View>,
        now: Instant,
    ) -> (&'a mut tcp::Tcp, &'a mut udp::Udp, &'a mut icmp::Icmp, Cx<'a>) {
        let registry = self.registry.as_ref().expect("a worker starts before its first frame");
        let (errors, idents, routes) = (&mut self.errors, &mut self.idents, &mut self.routes);
        let cx = Cx { out, registry, homes: &self.homes, names: &self.names, errors, idents, routes, now };
        (&mut self.tcp, &mut self.udp, &mut self.icmp, cx)
    }
}

fn home(view: &View, port: PortId) -> Option<Home> {
    let place = view.place_of(port)?;
    let network = view.network(place);
    let (mac, settings) = (network.port(place.port)?.mac, network.settings());
    Some(Home { port, place, mac, gateway: settings.gateway_mac, mtu: settings.mtu })
}

impl Local<View> for User {
    type Baggage = Baggage;

    fn start(&mut self, registry: Registry, waker: Arc<Waker>) {
        self.registry = Some(registry);
        self.routes = routes::Routes::open();
        self.names.start(waker);
    }

    fn adopt(&mut self, changed: &Changed, out: Out<'_, View>, now: Instant) {
        let view = out.forward();
        let served: Vec<PortId> = match changed {
            Changed::All => self.homes.keys().copied().collect(),
            Changed::Ports(ports) => ports.iter().copied().filter(|port| self.homes.contains_key(port)).collect(),
        };
        for port in served {
            self.renew(port, view);
        }
        // Anybody's flow may lead to a published port, or to what is in its place.
        let changes = view.plan().published.changes();
        let changed = if changes == std::mem::replace(&mut self.changes, changes) { changed } else { &Changed::All };
        let (tcp, udp, icmp, mut cx) = self.parts(out, now);
        tcp.adopt(&mut cx, changed);
        udp.adopt(&mut cx, changed);
        icmp.adopt(&mut cx, changed);
    }

    fn take(&mut self, port: PortId, baggage: Option<Baggage>, out: Out<'_, View>, now: Instant) {
        if home(out.forward(), port).is_none() {
            return;
        }
        self.renew(port, out.forward());
        let (tcp, udp, icmp, mut cx) = self.parts(out, now);
        if let Some(baggage) = baggage {
            tcp.unpack(&mut cx, baggage.tcp);
            udp.unpack(&mut cx, baggage.udp);
            icmp.unpack(&mut cx, baggage.icmp);
            // What was published while they were on their way nobody asked of them yet.
            let moved = Changed::Ports([port].into());
            tcp.adopt(&mut cx, &moved);
            udp.adopt(&mut cx, &moved);
            icmp.adopt(&mut cx, &moved);
        }
    }

    fn let_go(&mut self, port: PortId) -> Option<Baggage> {
        self.homes.remove(&port)?;
        self.fragments.forget(port);
        let registry = self.registry.as_ref()?;
        self.published.let_go(registry, port);
        Some(Baggage {
            tcp: self.tcp.pack(registry, port),
            udp: self.udp.pack(registry, port),
            icmp: self.icmp.pack(registry, port),
        })
    }

    fn deliver(&mut self, arrival: Arrival<'_>, out: Out<'_, View>, now: Instant) -> Result<(), DropReason> {
        let frame = Frame::parse(arrival.bytes).map_err(|_| DropReason::Malformed)?;
        let Payload::Ip(packet) = &frame.payload else { return Err(DropReason::NoService) };
        let Some(&home) = self.homes.get(&arrival.port) else { return Err(DropReason::Detached) };
        if packet.fragment != Fragment::Whole {
            return self.deliver_part(home, arrival.bytes, packet, out, now);
        }
        let incoming = Incoming { home, bytes: arrival.bytes, packet, offload: arrival.offload, was_cut: false };
        self.deliver_whole(&incoming, out, now)
    }

    fn event(&mut self, token: usize, ready: Ready) {
        match Kind::of(token) {
            (Kind::Tcp, index) => self.tcp.event(index, ready),
            (Kind::Udp, index) => self.udp.event(index, ready),
            (Kind::Icmp, index) => self.icmp.event(index, ready),
            (Kind::Publication, index) => self.published.event(index, ready),
        }
    }

    fn turn(&mut self, out: Out<'_, View>, now: Instant) -> Activity {
        self.fragments.expire(now);
        let mut published = std::mem::take(&mut self.published);
        let (tcp, udp, icmp, mut cx) = self.parts(out, now);
        let clients = published.turn(&mut cx, tcp, udp);
        let names = names::turn(&mut cx);
        let moved = tcp.turn(&mut cx).max(udp.turn(&mut cx)).max(icmp.turn(&mut cx)).max(names);
        self.published = published;
        clients.max(moved)
    }

    fn deadline(&self) -> Option<Instant> {
        let (fragments, clients) = (self.fragments.deadline(), self.published.deadline());
        [self.tcp.deadline(), self.udp.deadline(), self.icmp.deadline(), fragments, clients].into_iter().flatten().min()
    }
}

/// Both ends of a flow, as the container sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ends {
    /// The container's own.
    pub near: SocketAddr,
    /// Whom it speaks with.
    pub far: SocketAddr,
}
