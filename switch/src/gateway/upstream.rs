//! Asking the host's resolvers what is not ours, from the host: so one on its loopback, as systemd-resolved's, is reached too.
//!
//! Each question goes out by a socket of its own, so that its port is as hard to guess as its number (RFC 5452), and an
//! answer counts only if it repeats the question. A server that does not answer, or fails, is passed over for the next, and
//! not asked first again until that one fails: as systemd-resolved does. What does not fit a datagram is asked again over
//! TCP; a server that does not know EDNS is asked again without.
//!
//! Limits: [`MAX_ASKING`] questions at a time, of which one asker never has more than are left for the others; an answer is
//! there within [`WITHIN`] or not at all.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, ResponseCode};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::answer::UDP_PAYLOAD;
use super::cache::{Cache, Question};
use super::resolv_conf::Resolvers;
use crate::forwarding::{Permits, PortId};

/// Most questions that are asked at a time: each holds a descriptor, and a process has some thousand, of which ports need most.
const MAX_ASKING: usize = 256;
/// How long one server has for an answer, by each protocol.
const TRY: Duration = Duration::from_millis(1500);
/// How often a question is sent at most, over all servers.
const TRIES: usize = 3;
/// How long a question may take in all: askers give up after 5 s (resolv.conf(5), timeout).
const WITHIN: Duration = Duration::from_millis(4800);
/// Longest datagram that is taken. We ask for less, but some send what they like.
const MAX_DATAGRAM: usize = 4096;

/// The resolvers and what they told.
#[derive(Debug)]
pub(super) struct Upstream {
    resolvers: Mutex<Resolvers>,
    cache: Mutex<Cache>,
    /// Of questions under way.
    asking: Arc<Permits>,
    /// The number of the server that is asked first.
    first: AtomicUsize,
}

impl Upstream {
    pub(super) fn new(resolvers: Resolvers) -> Self {
        Upstream {
            resolvers: Mutex::new(resolvers),
            cache: Mutex::default(),
            asking: Permits::new(MAX_ASKING),
            first: AtomicUsize::new(0),
        }
    }

    /// What is known already.
    pub(super) fn known(&self, question: &Question, now: Instant) -> Option<Message> {
        self.servers(now);
        self.cache.lock().find(question, now)
    }

    /// The servers; what others told is forgotten.
    fn servers(&self, now: Instant) -> Vec<SocketAddr> {
        let mut resolvers = self.resolvers.lock();
        let (servers, others) = resolvers.now(now);
        if others {
            self.cache.lock().clear();
            // Relaxed: it is a hint, and this is one thread.
            self.first.store(0, Ordering::Relaxed);
        }
        servers.to_vec()
    }

    /// Asks the resolvers on behalf of `asker`. `None` when too much is asked already, or nobody answered.
    pub(super) async fn ask(&self, asker: PortId, question: Question) -> Option<Message> {
        let _permit = self.asking.take(asker)?;
        let servers = self.servers(Instant::now());
        let told = timeout(WITHIN, self.ask_in_turn(&servers, &question)).await.ok()??;
        let now = Instant::now();
        // What a server said that is asked no more, as that of a VPN which ended meanwhile, is for this asker alone.
        if self.servers(now) == servers {
            self.cache.lock().keep(question, &told, now);
        }
        Some(told)
    }

    async fn ask_in_turn(&self, servers: &[SocketAddr], question: &Question) -> Option<Message> {
        let first = self.first.load(Ordering::Relaxed) % servers.len();
        let mut left: VecDeque<usize> = (first..servers.len()).chain(0..first).collect();
        let mut failed = None;
        let mut edns = true;
        for _ in 0..TRIES {
            let Some(at) = left.pop_front() else { break };
            match ask_one(servers[at], question, edns).await {
                Ok(told) if edns && told.response_code == ResponseCode::FormErr => {
                    edns = false;
                    left.push_front(at);
                }
                Ok(told) if !is_failure(told.response_code) => {
                    // Of others, which are asked meanwhile, it would be a number at random.
                    if self.servers(Instant::now()) == servers {
                        self.first.store(at, Ordering::Relaxed);
                    }
                    return Some(told);
                }
                // It would say so again.
                Ok(told) => failed = Some(told),
                Err(error) => {
                    tracing::debug!("ask {} for a name: {error}", servers[at]);
                    left.push_back(at);
                }
            }
        }
        failed
    }
}

/// What another server may know better.
fn is_failure(code: ResponseCode) -> bool {
    matches!(code, ResponseCode::ServFail | ResponseCode::Refused | ResponseCode::NotImp | ResponseCode::FormErr)
}

async fn ask_one(server: SocketAddr, question: &Question, edns: bool) -> io::Result<Message> {
    let asked = message(question, edns);
    let bytes = asked.to_vec().map_err(io::Error::other)?;
    let told = timeout(TRY, ask_udp(server, &asked, &bytes)).await??;
    if told.truncation { timeout(TRY, ask_tcp(server, &asked, &bytes)).await? } else { Ok(told) }
}

fn message(question: &Question, edns: bool) -> Message {
    // Its number is random.
    let mut asked = Message::query();
    asked.metadata.recursion_desired = true;
    asked.metadata.authentic_data = true; // RFC 6840 5.7: tell whether it is
    asked.metadata.checking_disabled = question.checking_disabled;
    asked.add_query(question.query());
    if edns {
        asked.set_edns(Edns::new().set_max_payload(UDP_PAYLOAD).set_dnssec_ok(question.dnssec_ok).clone());
    }
    asked
}

async fn ask_udp(server: SocketAddr, asked: &Message, bytes: &[u8]) -> io::Result<Message> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    // Connected, it hears of nobody else, and at once when nobody is there.
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let len = socket.recv(&mut buffer).await?;
        if let Some(told) = read(asked, &buffer[..len]) {
            return Ok(told);
        }
    }
}

async fn ask_tcp(server: SocketAddr, asked: &Message, bytes: &[u8]) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let len = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&len.to_be_bytes(), bytes].concat()).await?;
    let mut answer = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut answer).await?;
    read(asked, &answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an answer to that question"))
}

/// The answer to `asked`, if it is one. The number, and the question word for word.
fn read(asked: &Message, bytes: &[u8]) -> Option<Message> {
    let told = Message::from_vec(bytes).ok()?;
    let is_it = told.id == asked.id && told.message_type == hickory_proto::op::MessageType::Response;
    // Who does not understand the question cannot repeat it.
    let repeats =
        told.queries == asked.queries || (told.queries.is_empty() && told.response_code == ResponseCode::FormErr);
    (is_it && repeats).then_some(told)
}

#[cfg(test)]
mod tests;
