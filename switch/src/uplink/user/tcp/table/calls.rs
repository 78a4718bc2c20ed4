//! Calls: a container's to the outside, a client's to a container, and segments that belong to none.

use std::hash::BuildHasher;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::super::super::errors::{self, Unreachable};
use super::super::super::publication;
use super::super::super::{Cx, Ends, Home, Incoming};
use super::super::farewells::Farewell;
use super::super::flow::Flow;
use super::super::headers::{ACK, Fields, RST, Template, quoted_syn};
use super::super::options::Options;
use super::super::segment::Segment;
use super::super::sequence::Seq;
use super::super::socket::FarSocket;
use super::{Key, Tcp, deregister};
use crate::forwarding::{DropReason, Instant};
use crate::gateway::Asker;
use crate::uplink::plan::{Destination, Publication, Transport};

impl Tcp {
    /// The container calls.
    pub(super) fn called(
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
        let reached = match reach(cx, &home, key.ends.far) {
            Ok(reached) => reached,
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

    /// A client of `publication`: a connected, non-blocking socket. `ends` are as the container sees them.
    pub(crate) fn accept(
        &mut self,
        cx: &mut Cx<'_>,
        home: &Home,
        publication: &Publication,
        socket: OwnedFd,
        ends: Ends,
    ) {
        self.call(cx, home, publication, FarSocket::of(socket), ends);
    }

    /// The container refused a client's call: it may listen at its address of the other family alone.
    pub(super) fn call_otherwise(&mut self, cx: &mut Cx<'_>, refused: Flow) {
        let (home, tried) = (refused.home, refused.ends.near);
        let of = |publication: &&Arc<Publication>| refused.publication == Some(publication.id);
        let publication = cx.plan().published.of(home.port).iter().find(of).cloned();
        let socket = refused.into_socket();
        deregister(cx.registry, &socket);
        let way = publication
            .as_ref()
            .and_then(|publication| publication::way(cx, self, &home, publication, socket.as_fd(), Some(tried)));
        match (publication, way) {
            (Some(publication), Some(ends)) => self.call(cx, &home, &publication, socket, ends),
            _ => socket.abort(),
        }
    }

    fn call(&mut self, cx: &mut Cx<'_>, home: &Home, publication: &Publication, socket: FarSocket, ends: Ends) {
        let key = Key { port: home.port, ends };
        if self.find(&key).is_some() || !self.accounts.entry(home.port).or_default().add_flow() {
            return socket.abort();
        }
        let first = self.first_sequence(&key, cx.now);
        let flow = Flow::inbound(key.ends, *home, publication.id, socket, first, cx.now);
        let Some(at) = self.insert(cx, Box::new(flow)) else { return };
        let outcome = self.with(cx, at, |flow, work| {
            flow.call(work);
            Ok(())
        });
        self.conclude(cx, at, outcome);
    }

    /// Where our numbers of a flow start: not to be guessed, and later for a later flow of the same ends. RFC 6528.
    fn first_sequence(&self, key: &Key, now: Instant) -> Seq {
        Seq((self.seed.hash_one(key) as u32).wrapping_add((now.0 >> 8) as u32))
    }

    /// A segment of no flow.
    pub(super) fn unknown(
        &mut self,
        cx: &mut Cx<'_>,
        home: &Home,
        key: &Key,
        segment: &Segment<'_>,
    ) -> Result<(), DropReason> {
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

/// A socket to where a container's call goes, or why there is none.
///
/// # Errors
/// Why it must not go there.
fn reach(cx: &mut Cx<'_>, home: &Home, far: SocketAddr) -> Result<io::Result<FarSocket>, DropReason> {
    let network = home.place.network;
    match cx.plan().destination(network, Some(Transport::Tcp), far)? {
        Destination::Far(to) => {
            let socket = match FarSocket::connect(to) {
                Ok(socket) => socket,
                Err(error) => return Ok(Err(error)),
            };
            cx.confirm(network, Some(Transport::Tcp), to)?;
            Ok(Ok(socket))
        }
        Destination::Names => {
            let network = cx.plan().networks[network as usize].name.clone();
            Ok(cx.names.stream(Asker { network, port: home.port }).map(FarSocket::of))
        }
    }
}

/// One segment without payload. What is lost of these comes again when the container asks again.
fn send(cx: &mut Cx<'_>, home: &Home, ends: &Ends, fields: Fields) {
    let headers = Template::new(home, ends).make(&fields, 0, 1);
    let _ = cx.out.send(home.place, &headers.offload, headers.as_bytes(), &[]);
}

/// Whether the switch or its host had no room for one more.
fn is_exhausted(error: &io::Error) -> bool {
    // EADDRNOTAVAIL: every port of the host has a connection to there, or had one a minute ago.
    let exhausted = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EAGAIN, libc::EADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|errno| exhausted.contains(&errno))
}

/// Tells a container by ICMP why its call failed; false: that is for a reset to say.
pub(super) fn answer_failure(cx: &mut Cx<'_>, home: &Home, ends: &Ends, seq: Seq, error: &io::Error) -> bool {
    let why = match error.raw_os_error() {
        Some(libc::ENETUNREACH | libc::EAFNOSUPPORT) => Unreachable::Network,
        Some(libc::EHOSTUNREACH | libc::ETIMEDOUT | libc::EHOSTDOWN) => Unreachable::Host,
        Some(libc::EACCES | libc::EPERM) => Unreachable::Prohibited,
        _ => return false,
    };
    errors::send(cx, home, &quoted_syn(ends, seq), why);
    true
}
