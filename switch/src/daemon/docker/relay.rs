//! Names at 127.0.0.11 inside a container.
//!
//! A container of Docker's asks its names at 127.0.0.11 port 53. dockerd's resolver listens in the container's namespace, but
//! at a port of its own: the way from 53 to it are nat rules in the container, which a kernel without netfilter has not.
//! Then the keeper makes sockets at port 53 in there, and here what comes by them is handed on to dockerd's resolver, and its
//! answers back, byte for byte. Where dockerd has no resolver there either, the network's gateway is asked, which knows our
//! own names and the host's resolvers.
//!
//! dockerd's resolver moves to other ports when dockerd is restarted under running containers: the old ones refuse then. The
//! sockets are closed, and the keeper looks again, and makes others ([`Control::renew_names`]); while dockerd is gone, that is
//! done again now and then, by when the gateway is asked. What is asked at that moment is lost, and asked again by the client.
//!
//! The sockets keep the container's namespace alive: they are closed when the container leaves.
//!
//! Limits, each container: [`MAX_WAITING`] questions, one connection at a time for [`CONNECTION`], [`MAX_MESSAGE`] bytes a
//! datagram. Threads: one task a container, in the api thread.
//!
//! [`Control::renew_names`]: crate::daemon::control::Control::renew_names

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use tapswitch_netns::{NameSockets, NameUpstream};
use tokio::net::{TcpListener, TcpSocket, UdpSocket};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::daemon::control::Handle;
use crate::daemon::keeper::message::EndpointKey;

/// Most questions of a container without an answer yet; the oldest is forgotten for the next.
const MAX_WAITING: usize = 256;
/// Longest datagram, in bytes. Resolvers ask for 4096 at the most, by convention (RFC 6891 6.2.5).
const MAX_MESSAGE: usize = 8192;
/// Longest connection: some questions in a row.
const CONNECTION: Duration = Duration::from_secs(10);
/// Between two looks for a dockerd that is gone: what one takes to start.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Bytes of a DNS header, RFC 1035 4.1.1; the first two are the id.
const HEADER: usize = 12;

/// Has containers' names answered.
#[derive(Clone, Debug)]
pub(crate) struct Relays(Option<mpsc::UnboundedSender<Change>>);

#[derive(Debug)]
enum Change {
    Serve(EndpointKey, NameSockets),
    End(EndpointKey, Option<EndpointKey>),
}

impl Relays {
    /// Nobody's names are answered.
    #[cfg(test)]
    pub(crate) fn nobody() -> Self {
        Relays(None)
    }

    /// Answers by these sockets, and by no earlier ones of that endpoint.
    pub(crate) fn serve(&self, endpoint: EndpointKey, sockets: NameSockets) {
        self.tell(Change::Serve(endpoint, sockets));
    }

    /// Closes an endpoint's sockets, if there are any; then has names looked for again for `heir`, which is in the same
    /// container by another network.
    pub(crate) fn end(&self, endpoint: &EndpointKey, heir: Option<EndpointKey>) {
        self.tell(Change::End(endpoint.clone(), heir));
    }

    fn tell(&self, change: Change) {
        // Control tells one thing of an endpoint at a time. Nobody listens when the process ends.
        let _ = self.0.as_ref().map(|to| to.send(change));
    }
}

/// The task that answers, to be run, and what tells it.
pub(crate) fn relays() -> (Relays, Relaying) {
    let (to, from) = mpsc::unbounded_channel();
    (Relays(Some(to)), Relaying { changes: from })
}

/// Answers for all containers.
#[derive(Debug)]
pub(crate) struct Relaying {
    changes: mpsc::UnboundedReceiver<Change>,
}

impl Relaying {
    /// Serves until nobody tells it anything any more.
    pub(crate) async fn run(mut self, control: Handle) {
        let mut tasks = JoinSet::new();
        let mut running: BTreeMap<EndpointKey, oneshot::Sender<Option<EndpointKey>>> = BTreeMap::new();
        // Whose names a dockerd knew: it will know them again.
        let mut engines: BTreeSet<EndpointKey> = BTreeSet::new();
        loop {
            tokio::select! {
                change = self.changes.recv() => match change {
                    None => return,
                    Some(Change::End(endpoint, heir)) => {
                        engines.remove(&endpoint);
                        // One that ended by itself has nobody to be told.
                        let _ = running.remove(&endpoint).map(|task| task.send(heir));
                    }
                    Some(Change::Serve(endpoint, sockets)) => {
                        if sockets.upstream.udp.ip().is_loopback() {
                            engines.insert(endpoint.clone());
                        }
                        let look_again = engines.contains(&endpoint);
                        let (end, ended) = oneshot::channel();
                        tasks.spawn(relay(endpoint.clone(), sockets, look_again, ended));
                        // The one before ends with its sender.
                        running.insert(endpoint, end);
                    }
                },
                Some(ended) = tasks.join_next() => {
                    running.retain(|_, task| !task.is_closed());
                    if let Ok(Some(endpoint)) = ended {
                        look(&control, endpoint).await;
                    }
                }
            }
        }
    }
}

fn note(endpoint: &EndpointKey, ended: &io::Result<()>) {
    match ended {
        Ok(()) => tracing::debug!("the names of {}: looking who knows them", endpoint.0),
        Err(error) => tracing::warn!("the names of {}: {error}", endpoint.0),
    }
}

/// Has control look who knows an endpoint's names now.
async fn look(control: &Handle, endpoint: EndpointKey) {
    let told = control.call(move |c| {
        c.renew_names(&endpoint);
        Ok(())
    });
    if let Err(error) = told.await {
        tracing::debug!("the names of a container: {error}");
    }
}

/// One container's names, until whoever knows them is gone, or may be back, or `told` to end. Whose names are then to be looked
/// for, after the sockets are closed.
async fn relay(
    endpoint: EndpointKey,
    sockets: NameSockets,
    look_again: bool,
    told: oneshot::Receiver<Option<EndpointKey>>,
) -> Option<EndpointKey> {
    let NameSockets { queries, listener, relay, stream, upstream } = sockets;
    let by_engine = upstream.udp.ip().is_loopback();
    let again = (look_again && !by_engine).then(|| Instant::now() + LOOK_AGAIN);
    let ended = tokio::select! {
        heir = told => return heir.ok().flatten(),
        ended = datagrams(queries, relay, by_engine, again) => ended,
        ended = connections(listener, stream, upstream, by_engine) => ended,
    };
    note(&endpoint, &ended);
    Some(endpoint)
}

/// Hands questions on and answers back, until dockerd's resolver refuses, or the first question after `again`.
async fn datagrams(queries: OwnedFd, relay: OwnedFd, by_engine: bool, again: Option<Instant>) -> io::Result<()> {
    let queries = UdpSocket::from_std(queries.into())?;
    let relay = UdpSocket::from_std(relay.into())?;
    let mut waiting = Waiting::default();
    let mut buffers = [vec![0; MAX_MESSAGE], vec![0; MAX_MESSAGE]];
    let [query, answer] = &mut buffers;
    loop {
        let gone = tokio::select! {
            asked = queries.recv_from(query) => {
                let (length, client) = asked?;
                if again.is_some_and(|again| Instant::now() >= again) {
                    return Ok(());
                }
                let sent = match waiting.ask(&mut query[..length], client) {
                    true => relay.send(&query[..length]).await,
                    false => Ok(0),
                };
                sent.is_err_and(|error| is_refused(&error))
            }
            answered = relay.recv(answer) => match answered {
                Ok(length) => {
                    if let Some(client) = waiting.answer(&mut answer[..length]) {
                        // A client that has closed its socket has given up.
                        let _ = queries.send_to(&answer[..length], client).await;
                    }
                    false
                }
                Err(error) => is_refused(&error),
            }
        };
        if gone && by_engine {
            return Ok(());
        }
    }
}

fn is_refused(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}

/// Serves connections one after the other, each by the one socket there is, until dockerd's resolver refuses.
async fn connections(listener: OwnedFd, stream: OwnedFd, upstream: NameUpstream, by_engine: bool) -> io::Result<()> {
    let listener = TcpListener::from_std(listener.into())?;
    loop {
        let (mut client, _) = listener.accept().await?;
        let socket = TcpSocket::from_std_stream(stream.try_clone()?.into());
        let conversation = async {
            let mut far = socket.connect(upstream.tcp).await?;
            tokio::io::copy_bidirectional(&mut client, &mut far).await
        };
        match tokio::time::timeout(CONNECTION, conversation).await {
            Ok(Err(error)) if is_refused(&error) && by_engine => return Ok(()),
            // The client sees the end of its connection, and asks again.
            Ok(_) | Err(_) => {}
        }
        disconnect(&stream)?;
    }
}

/// Makes a TCP socket as new. connect(2): "connecting to an address with the sa_family member set to AF_UNSPEC".
fn disconnect(socket: &OwnedFd) -> io::Result<()> {
    let unspecified = libc::sockaddr { sa_family: libc::AF_UNSPEC as libc::sa_family_t, sa_data: [0; 14] };
    let length = size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: the descriptor is open, and the kernel reads `length` bytes of an address that is so long.
    match unsafe { libc::connect(socket.as_raw_fd(), &unspecified, length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whose answers are awaited, and under which id each asked: two clients may use the same. Pure.
#[derive(Debug, Default)]
struct Waiting {
    /// Id that we ask with, who asks, and his id; oldest first.
    asked: VecDeque<(u16, SocketAddr, [u8; 2])>,
    next: u16,
}

impl Waiting {
    /// Gives a question an id of its own; whether it is one.
    fn ask(&mut self, message: &mut [u8], client: SocketAddr) -> bool {
        if message.len() < HEADER {
            return false;
        }
        if self.asked.len() >= MAX_WAITING {
            self.asked.pop_front();
        }
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        self.asked.push_back((id, client, [message[0], message[1]]));
        message[..2].copy_from_slice(&id.to_be_bytes());
        true
    }

    /// Gives an answer the id of its question, and says to whom it goes.
    fn answer(&mut self, message: &mut [u8]) -> Option<SocketAddr> {
        if message.len() < HEADER {
            return None;
        }
        let id = u16::from_be_bytes([message[0], message[1]]);
        let at = self.asked.iter().position(|(asked, ..)| *asked == id)?;
        let (_, client, theirs) = self.asked.remove(at)?;
        message[..2].copy_from_slice(&theirs);
        Some(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    fn message(id: u16) -> Vec<u8> {
        [&id.to_be_bytes()[..], &[0; 10]].concat()
    }

    #[test]
    fn each_answer_goes_to_who_asked_under_the_id_he_used() {
        let mut waiting = Waiting::default();
        let (mut a, mut b) = (message(7), message(7));
        assert!(waiting.ask(&mut a, client(1)) && waiting.ask(&mut b, client(2)));
        assert_ne!(a, b);
        assert_eq!((waiting.answer(&mut b), &b), (Some(client(2)), &message(7)));
        assert_eq!((waiting.answer(&mut a), &a), (Some(client(1)), &message(7)));
        assert_eq!(waiting.answer(&mut message(0)), None, "answered once");
    }

    #[test]
    fn what_is_no_message_is_passed_over() {
        let mut waiting = Waiting::default();
        assert!(!waiting.ask(&mut [0; 11], client(1)));
        assert_eq!(waiting.answer(&mut []), None);
    }

    #[test]
    fn the_oldest_question_is_forgotten_for_the_newest() {
        let mut waiting = Waiting::default();
        let mut first = message(1);
        waiting.ask(&mut first, client(1));
        for _ in 0..MAX_WAITING {
            waiting.ask(&mut message(2), client(2));
        }
        assert_eq!(waiting.answer(&mut first), None);
        assert_eq!(waiting.asked.len(), MAX_WAITING);
    }

    /// The sockets of a container whose names `udp` and `tcp` answer, and where its clients ask.
    fn sockets(upstream: NameUpstream) -> (NameSockets, SocketAddr, SocketAddr) {
        let queries = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        relay.connect(upstream.udp).unwrap();
        let at = (queries.local_addr().unwrap(), listener.local_addr().unwrap());
        for nonblocking in [queries.set_nonblocking(true), relay.set_nonblocking(true), listener.set_nonblocking(true)]
        {
            nonblocking.unwrap();
        }
        let stream = nix::sys::socket::socket(
            nix::sys::socket::AddressFamily::Inet,
            nix::sys::socket::SockType::Stream,
            nix::sys::socket::SockFlag::SOCK_NONBLOCK,
            None,
        );
        let sockets = NameSockets {
            queries: queries.into(),
            listener: listener.into(),
            relay: relay.into(),
            stream: stream.unwrap(),
            upstream,
        };
        (sockets, at.0, at.1)
    }

    #[tokio::test]
    async fn questions_and_connections_reach_the_engine_s_resolver_and_come_back() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (udp, tcp) =
            (UdpSocket::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let upstream = NameUpstream { udp: udp.local_addr().unwrap(), tcp: tcp.local_addr().unwrap() };
        let (sockets, ask_udp, ask_tcp) = sockets(upstream);
        let (handle, _commands) = crate::daemon::control::channel();
        let (relays, service) = relays();
        let served = tokio::spawn(service.run(handle));
        relays.serve(EndpointKey("web/a".into()), sockets);

        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.send_to(&message(4711), ask_udp).await.unwrap();
        let mut bytes = [0; 64];
        let (length, from) = udp.recv_from(&mut bytes).await.unwrap();
        bytes[length] = 9;
        udp.send_to(&bytes[..=length], from).await.unwrap();
        let (length, _) = client.recv_from(&mut bytes).await.unwrap();
        assert_eq!(bytes[..length], [message(4711), vec![9]].concat());

        // Twice, since both times it is the same socket.
        for word in [b"one", b"two"] {
            let mut client = tokio::net::TcpStream::connect(ask_tcp).await.unwrap();
            client.write_all(word).await.unwrap();
            let (mut far, _) = tcp.accept().await.unwrap();
            far.read_exact(&mut bytes[..3]).await.unwrap();
            assert_eq!(&bytes[..3], word);
            far.write_all(b"yes").await.unwrap();
            client.read_exact(&mut bytes[..3]).await.unwrap();
            assert_eq!(&bytes[..3], b"yes");
            drop((client, far));
        }
        drop(relays);
        served.await.unwrap();
    }
}
