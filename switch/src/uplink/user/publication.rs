//! Published ports: clients of the host's sockets become flows of the container's.
//!
//! ```text
//!  listening socket readable ─▶ accept ─▶ a TCP flow towards the container
//!  UDP socket readable ─▶ receive ─▶ a UDP flow by the client's address ─▶ frame to the container
//! ```
//!
//! The worker that serves a port waits for its publications' sockets; when the port moves, the next one does, and what
//! arrived meanwhile waits in the kernel. How the container sees a client is [`shown`]'s. A socket gets at most
//! [`AT_ONCE`] clients or datagrams served a turn, so that none starves the others; when descriptors are short it pauses
//! for [`PAUSE`], and clients wait in its backlog. How many flows a container may have is the tables' affair. One worker
//! owns it.

mod receive;
mod shown;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use nix::errno::Errno;
use nix::sys::socket::{SockFlag, SockaddrStorage, accept4, getpeername};

use super::tcp::Tcp;
use super::udp::{Client, Udp, send_datagram};
use super::{Cx, Ends, Home, Kind};
use crate::engine::{Activity, Ready};
use crate::forwarding::{Instant, PortId};
use crate::uplink::{Publication, Transport};
use receive::{Space, address};

/// Clients or datagrams of one socket in one turn.
const AT_ONCE: usize = 32;
/// How long sockets rest when there are no descriptors or no memory.
const PAUSE: Duration = Duration::from_millis(50);

/// The publications of the ports that one worker serves.
#[derive(Debug, Default)]
pub(crate) struct Publications {
    /// By their id, which is also their token's.
    served: BTreeMap<u64, Arc<Publication>>,
    by_port: BTreeSet<(PortId, u64)>,
    /// Those whose sockets may have something.
    ready: BTreeSet<u64>,
    /// Until when all rest.
    paused: Option<Instant>,
    space: Option<Box<Space>>,
}

/// What became of one look at a socket.
enum Look {
    /// Something was there, and more may be.
    Found,
    /// Nothing is left.
    Empty,
    /// There is no room for more now.
    Full,
}

impl Publications {
    /// Waits for the sockets of what a port that is served here publishes, which is `wanted`, and for no others of its.
    pub(crate) fn adopt(&mut self, port: PortId, wanted: &[Arc<Publication>], registry: &Registry) {
        self.forget(registry, port, |id| !wanted.iter().any(|publication| publication.id == id));
        for publication in wanted {
            let id = publication.id;
            if self.served.contains_key(&id) {
                continue;
            }
            let raw = publication.socket.as_raw_fd();
            let token = Kind::Publication.token(usize::try_from(id).expect("ids count up from 0"));
            match registry.register(&mut SourceFd(&raw), token, Interest::READABLE) {
                Ok(()) => {
                    self.served.insert(id, publication.clone());
                    self.by_port.insert((port, id));
                }
                Err(error) => tracing::error!(%error, "published port {} cannot be waited for", publication.host),
            }
        }
    }

    /// A port is not served here any more.
    pub(crate) fn let_go(&mut self, registry: &Registry, port: PortId) {
        self.forget(registry, port, |_| true);
    }

    fn forget(&mut self, registry: &Registry, port: PortId, gone: impl Fn(u64) -> bool) {
        for (port, id) in self.by_port.extract_if((port, 0)..=(port, u64::MAX), |(_, id)| gone(*id)) {
            self.ready.remove(&id);
            let publication = self.served.remove(&id).expect("whatever a port publishes here is served");
            debug_assert_eq!(publication.port, port);
            let raw = publication.socket.as_raw_fd();
            if let Err(error) = registry.deregister(&mut SourceFd(&raw)) {
                tracing::error!(%error, "published port {} is still waited for", publication.host);
            }
        }
    }

    /// A socket became ready.
    pub(crate) fn event(&mut self, index: usize, _ready: Ready) {
        let id = index as u64;
        if self.served.contains_key(&id) {
            self.ready.insert(id);
        }
    }

    /// Serves the clients that are there.
    pub(crate) fn turn(&mut self, cx: &mut Cx<'_>, tcp: &mut Tcp, udp: &mut Udp) -> Activity {
        if self.ready.is_empty() || self.paused.is_some_and(|until| cx.now < until) {
            return Activity::Idle;
        }
        self.paused = None;
        let mut activity = Activity::Idle;
        for id in self.ready.iter().copied().collect::<Vec<_>>() {
            let Some(publication) = self.served.get(&id).cloned() else { continue };
            let Some(home) = cx.homes.get(&publication.port).copied() else { continue };
            for _ in 0..AT_ONCE {
                let look = match publication.transport {
                    Transport::Tcp => accept(cx, tcp, &home, &publication),
                    Transport::Udp => {
                        let space = self.space.get_or_insert_with(Box::default);
                        receive(cx, udp, &home, &publication, space)
                    }
                };
                match look {
                    Look::Found => activity = Activity::Small,
                    Look::Empty => {
                        self.ready.remove(&id);
                        break;
                    }
                    Look::Full => {
                        self.paused = Some(cx.now + PAUSE);
                        return activity;
                    }
                }
            }
        }
        activity
    }

    /// When the pause ends.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.paused.filter(|_| !self.ready.is_empty())
    }
}

/// Takes one TCP client.
fn accept(cx: &mut Cx<'_>, tcp: &mut Tcp, home: &Home, publication: &Publication) -> Look {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = match accept4(publication.socket.as_raw_fd(), flags) {
        // SAFETY: accept4 has just made this descriptor, and nobody else knows of it.
        Ok(raw) => unsafe { OwnedFd::from_raw_fd(raw) },
        Err(Errno::EAGAIN) => return Look::Empty,
        Err(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) => return Look::Full,
        // accept(2): what had become of the client already.
        Err(_) => return Look::Found,
    };
    if let Some(ends) = way(cx, tcp, home, publication, socket.as_fd(), None) {
        tcp.accept(cx, home, publication, socket, ends);
    }
    Look::Found
}

/// The ends between which the TCP client at `socket` can call the container: by the container's address that comes after
/// `tried`. A client that is gone again needs none.
pub(crate) fn way(
    cx: &Cx<'_>,
    tcp: &mut Tcp,
    home: &Home,
    publication: &Publication,
    socket: BorrowedFd<'_>,
    tried: Option<SocketAddr>,
) -> Option<Ends> {
    let client = address(&getpeername::<SockaddrStorage>(socket.as_raw_fd()).ok()?)?;
    let mut ways = ways(cx, home, publication, client)?;
    let way = match tried {
        Some(tried) => ways.skip_while(|way| way.near != tried).nth(1),
        None => ways.next(),
    };
    shown::alone(way?, |ends| tcp.has(home.port, ends))
}

/// Takes one datagram.
fn receive(cx: &mut Cx<'_>, udp: &mut Udp, home: &Home, publication: &Arc<Publication>, space: &mut Space) -> Look {
    let received = match receive::receive(publication, space) {
        Ok(received) => received,
        Err(Errno::EAGAIN) => return Look::Empty,
        Err(Errno::ENOBUFS | Errno::ENOMEM) => return Look::Full,
        // The kernel tells what became of an answer to a client that is gone.
        Err(_) => return Look::Found,
    };
    let Some(client) = received.client else { return Look::Found };
    let seen = ways(cx, home, publication, client).and_then(|mut ways| ways.next());
    let alone = |ends| udp.has_another(home.port, ends, publication, client);
    if let Some(Ends { near, far }) = seen.and_then(|seen| shown::alone(seen, alone))
        && udp
            .client(cx, home, publication.clone(), near, far, Client { address: client, asked: received.asked })
            .is_ok()
    {
        // What a full queue loses is counted there.
        let _ = send_datagram(cx, home, near, far, &space.bytes()[..received.len]);
    }
    Look::Found
}

fn ways(
    cx: &Cx<'_>,
    home: &Home,
    publication: &Publication,
    client: SocketAddr,
) -> Option<impl Iterator<Item = Ends> + use<>> {
    let network = cx.out.forward().network(home.place);
    Some(shown::ways(network.settings(), network.port(home.place.port)?, publication.container, client))
}
