//! A worker's end of the names served at the gateway.
//!
//! Queries go over one bounded channel from all workers to the service's thread; answers come back over one bounded channel
//! per worker, whose poll is woken. Neither side ever waits for the other: what does not fit is dropped, as on a network,
//! and asked again.
//!
//! Fairness: what one asker has under way is counted, and an asker with too much is refused before the common channel is
//! touched, so that no container keeps the others from their names.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};

use crossbeam_channel::{Receiver, Sender, bounded};
use mio::Waker;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::MAX_QUERY;
use crate::forwarding::{DropReason, PortId};

/// Most questions of one asker that have no answer yet. A browser's page has some tens.
const MAX_QUERIES_EACH: usize = 64;
/// Most connections of one asker.
const MAX_STREAMS_EACH: usize = 8;
/// Most questions of all workers that wait for the service's thread: some milliseconds of its work.
pub(super) const MAX_WAITING: usize = 1024;
/// Most answers that wait for one worker.
const MAX_REPLIES: usize = 1024;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    /// His network's name.
    pub network: Arc<str>,
    /// His port.
    pub port: PortId,
}

/// An answer for a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The asker's port.
    pub port: PortId,
    /// The asker's address, whereto it goes.
    pub near: SocketAddr,
    /// The gateway's address that was asked, from which it comes.
    pub far: SocketAddr,
    /// The message, without UDP header.
    pub payload: Vec<u8>,
}

/// What a worker hands to the service.
#[derive(Debug)]
pub(super) struct Job {
    pub asker: Asker,
    pub what: What,
    /// Counted as the asker's until it is dropped.
    pub ticket: Ticket,
}

/// How it was asked.
#[derive(Debug)]
pub(super) enum What {
    /// By a datagram.
    Query { near: SocketAddr, far: SocketAddr, payload: Vec<u8>, outbox: Arc<Outbox> },
    /// By a connection.
    Stream(UnixStream),
}

/// One thing that an asker has under way.
pub(super) type Ticket = Arc<()>;

/// The service's way to one worker.
#[derive(Debug)]
pub(super) struct Outbox {
    replies: Sender<Reply>,
    waker: OnceLock<Arc<Waker>>,
}

impl Outbox {
    /// Sends an answer. One that the worker has no room for is lost, as on a network.
    pub(super) fn send(&self, reply: Reply) {
        if self.replies.try_send(reply).is_err() {
            return;
        }
        if let Some(Err(error)) = self.waker.get().map(|waker| waker.wake()) {
            tracing::error!(%error, "a worker cannot be woken");
        }
    }
}

/// A worker's end.
#[derive(Debug)]
pub struct Link {
    service: Option<mpsc::Sender<Job>>,
    outbox: Arc<Outbox>,
    replies: Receiver<Reply>,
    /// Of this worker's thread alone; the lock is there because the calls take `&self`.
    askers: Mutex<Askers>,
}

/// What those who have asked have under way.
#[derive(Debug, Default)]
struct Askers {
    queries: BTreeMap<PortId, Ticket>,
    streams: BTreeMap<PortId, Ticket>,
}

impl Link {
    /// Nobody answers.
    pub fn nobody() -> Self {
        Link::new(None)
    }

    pub(super) fn new(service: Option<mpsc::Sender<Job>>) -> Self {
        let (sender, replies) = bounded(MAX_REPLIES);
        let outbox = Arc::new(Outbox { replies: sender, waker: OnceLock::new() });
        Link { service, outbox, replies, askers: Mutex::default() }
    }

    /// Has answers wake the worker by `waker`, so that it looks for them with [`Link::reply`].
    pub fn start(&self, waker: Arc<Waker>) {
        // A second call would be a second start of the same worker, which there is not.
        let _ = self.outbox.waker.set(waker);
    }

    /// A query that `near` sent to the gateway's `far` over UDP. The answer, if there is one, comes by [`Link::reply`].
    ///
    /// # Errors
    /// Nobody answers, or too many wait.
    pub fn query(&self, asker: Asker, near: SocketAddr, far: SocketAddr, payload: &[u8]) -> Result<(), DropReason> {
        if payload.len() > MAX_QUERY {
            return Err(DropReason::Malformed);
        }
        let ticket = ticket(&mut self.askers.lock().queries, asker.port, MAX_QUERIES_EACH);
        let ticket = ticket.ok_or(DropReason::NamesBusy)?;
        let what = What::Query { near, far, payload: payload.to_vec(), outbox: self.outbox.clone() };
        self.send(Job { asker, what, ticket })
    }

    /// A connection over which queries come as over TCP: our end of a pair of Unix stream sockets, non-blocking.
    ///
    /// # Errors
    /// Nobody answers, or too many wait.
    pub fn stream(&self, asker: Asker) -> io::Result<OwnedFd> {
        let ticket = ticket(&mut self.askers.lock().streams, asker.port, MAX_STREAMS_EACH);
        let ticket = ticket.ok_or(io::ErrorKind::ConnectionRefused)?;
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        match self.send(Job { asker, what: What::Stream(theirs), ticket }) {
            Ok(()) => Ok(ours.into()),
            Err(_) => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }

    /// The next answer.
    pub fn reply(&self) -> Option<Reply> {
        self.replies.try_recv().ok()
    }

    fn send(&self, job: Job) -> Result<(), DropReason> {
        let service = self.service.as_ref().ok_or(DropReason::NoService)?;
        service.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => DropReason::NamesBusy,
            TrySendError::Closed(_) => DropReason::NoService,
        })
    }
}

/// One more for `port`, unless it has `most`. The table forgets whoever has nothing under way, so that it holds no more ports
/// than ask.
fn ticket(table: &mut BTreeMap<PortId, Ticket>, port: PortId, most: usize) -> Option<Ticket> {
    if !table.contains_key(&port) {
        table.retain(|_, tickets| Arc::strong_count(tickets) > 1);
    }
    let tickets = table.entry(port).or_default();
    (Arc::strong_count(tickets) <= most).then(|| tickets.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 0, 2)), 4711);
    const GATEWAY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 0, 1)), 53);

    fn asker(port: u32) -> Asker {
        Asker { network: "default".into(), port: PortId(port) }
    }

    #[test]
    fn nobody_s_names_are_no_service() {
        let link = Link::nobody();
        assert_eq!(link.query(asker(1), ASKER, GATEWAY, &[0; 12]), Err(DropReason::NoService));
        assert_eq!(link.stream(asker(1)).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(link.reply(), None);
    }

    #[test]
    fn who_has_too_many_questions_open_is_refused_and_nobody_else() {
        let (sender, mut inbox) = mpsc::channel(MAX_WAITING);
        let link = Link::new(Some(sender));
        let ask = |port| link.query(asker(port), ASKER, GATEWAY, &[0; 12]);
        assert!((0..MAX_QUERIES_EACH).all(|_| ask(1).is_ok()));
        assert_eq!(ask(1), Err(DropReason::NamesBusy));
        assert_eq!(ask(2), Ok(()));
        drop(inbox.try_recv().unwrap());
        assert_eq!(ask(1), Ok(()));
    }

    #[test]
    fn a_full_channel_is_busy_and_a_closed_one_no_service() {
        let (sender, inbox) = mpsc::channel(1);
        let link = Link::new(Some(sender));
        assert_eq!(link.query(asker(1), ASKER, GATEWAY, &[0; 12]), Ok(()));
        assert_eq!(link.query(asker(2), ASKER, GATEWAY, &[0; 12]), Err(DropReason::NamesBusy));
        drop(inbox);
        assert_eq!(link.query(asker(3), ASKER, GATEWAY, &[0; 12]), Err(DropReason::NoService));
    }

    #[test]
    fn the_table_of_askers_holds_only_those_who_wait() {
        let mut table = BTreeMap::new();
        let held: Vec<Ticket> = (0..10).map(|port| ticket(&mut table, PortId(port), 4).unwrap()).collect();
        drop(held);
        let _one = ticket(&mut table, PortId(99), 4).unwrap();
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn a_connection_is_a_pair_of_which_the_service_has_the_other_end() {
        use std::io::{Read, Write};
        let (sender, mut inbox) = mpsc::channel(1);
        let ours = Link::new(Some(sender)).stream(asker(1)).unwrap();
        let Some(Job { what: What::Stream(mut theirs), .. }) = inbox.try_recv().ok() else { panic!("no stream") };
        UnixStream::from(ours).write_all(b"x").unwrap();
        let mut byte = [0];
        theirs.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    }
}
