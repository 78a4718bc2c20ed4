//! The thread that answers: it takes what the workers hand over, answers what is ours at once, and asks the host's resolvers for
//! the rest, many questions at a time.
//!
//! One thread runs it, on a current-thread runtime of its own, so that whoever floods it with questions slows names and nothing
//! else: neither the workers nor the control API. Everything is bounded where it comes in ([`super::link`]) and where it goes
//! out ([`super::upstream`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use hickory_proto::op::{Message, ResponseCode};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};

use super::answer::{self, Unreadable, Verdict};
use super::cache::Question;
use super::link::{Asker, Job, Link, MAX_WAITING, Reply, What};
use super::resolv_conf::Resolvers;
use super::stream::{self, Streams};
use super::upstream::Upstream;
use super::zone::Zones;

/// Where workers get their links, and control tells the names.
#[derive(Clone, Debug)]
pub struct Names {
    jobs: mpsc::Sender<Job>,
    zones: watch::Sender<Arc<Zones>>,
}

impl Names {
    /// A worker's end.
    pub fn link(&self) -> Link {
        Link::new(Some(self.jobs.clone()))
    }

    /// From now on these are the names.
    pub fn publish(&self, zones: Zones) {
        self.zones.send_replace(Arc::new(zones));
    }
}

/// The service, to be [`Service::run`].
#[derive(Debug)]
pub struct Service {
    jobs: mpsc::Receiver<Job>,
    streams: Streams,
    shared: Arc<Shared>,
}

/// How a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By UDP, which limits the answer.
    Datagram,
    /// Over a connection.
    Stream,
}

/// What all questions share.
#[derive(Debug)]
pub(super) struct Shared {
    zones: watch::Receiver<Arc<Zones>>,
    upstream: Upstream,
    /// Questions so far: rotates the addresses of shared names.
    turn: AtomicUsize,
}

/// A service that asks `resolvers` for what is not ours, and the way to it.
pub fn service(resolvers: Resolvers) -> (Names, Service) {
    let (sender, jobs) = mpsc::channel(MAX_WAITING);
    let (zones, published) = watch::channel(Arc::default());
    let shared = Shared { zones: published, upstream: Upstream::new(resolvers), turn: AtomicUsize::new(0) };
    (Names { jobs: sender, zones }, Service { jobs, streams: Streams::default(), shared: Arc::new(shared) })
}

impl Service {
    /// Answers until nobody has a link any more. Needs a runtime with time and I/O.
    pub async fn run(mut self) {
        while let Some(job) = self.jobs.recv().await {
            self.take(job);
        }
    }

    fn take(&mut self, Job { asker, what, ticket }: Job) {
        let shared = self.shared.clone();
        match what {
            What::Query { near, far, payload, outbox } => drop(tokio::spawn(async move {
                if let Some(payload) = shared.answer(&asker, &payload, Way::Datagram).await {
                    outbox.send(Reply { port: asker.port, near, far, payload });
                }
                drop(ticket);
            })),
            What::Stream(stream) => {
                let port = asker.port;
                if !self.streams.make_room(port) {
                    return;
                }
                match UnixStream::from_std(stream) {
                    Ok(stream) => self.streams.add(
                        port,
                        tokio::spawn(async move {
                            stream::serve(stream, asker, shared).await;
                            drop(ticket);
                        }),
                    ),
                    Err(error) => tracing::warn!("names over a connection: {error}"),
                }
            }
        }
    }
}

impl Shared {
    /// The answer to a message of `asker`, where it has one.
    pub(super) async fn answer(&self, asker: &Asker, bytes: &[u8], way: Way) -> Option<Vec<u8>> {
        let question = match answer::read(bytes) {
            Ok(question) => question,
            Err(Unreadable::Answered(sorry)) => return Some(sorry),
            Err(Unreadable::Ignored) => return None,
        };
        let zones = self.zones.borrow().clone();
        // A network that was just removed has no askers for long.
        let zone = zones.of(&asker.network)?;
        // Relaxed: any order of turns will do.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let answer = match answer::decide(&zones, zone, &question, turn) {
            Verdict::Answer(answer) => answer,
            Verdict::Forward => self.forward(asker, &question).await,
        };
        let mtu = (way == Way::Datagram).then(|| zone.mtu());
        answer::write(&question, answer, mtu)
    }

    async fn forward(&self, asker: &Asker, question: &Message) -> Message {
        // A verdict to forward is given for exactly one query.
        let query = &question.queries[0];
        let key = Question {
            network: asker.network.clone(),
            name: query.name.to_lowercase(),
            kind: query.query_type,
            dnssec_ok: answer::is_dnssec_ok(question),
            checking_disabled: question.checking_disabled,
        };
        let told = match self.upstream.known(&key, Instant::now()) {
            Some(known) => Some(known),
            None => self.upstream.ask(asker.port, key).await,
        };
        match told {
            Some(told) => answer::relayed(question, told),
            None => answer::failure(question, ResponseCode::ServFail),
        }
    }
}

#[cfg(test)]
mod tests;
