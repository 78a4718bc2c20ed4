//! Devices that an engine takes to its containers itself: how they are named before, and who looks where they went.
//!
//! Each that is looked for has a forked child ([`tapswitch_netns::follow`]), for an answer may take as long as the engine does: so
//! they are none of the [jobs](super::job), and an endpoint has one at most. A child that is killed leaves nothing.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tapswitch_netns::{Child, Error, NameUpstream, NamespaceId, follow};

use super::kept::{KeptDescriptors, Label};
use super::message::EndpointKey;

/// Every device made in a namespace that is not a container's is named so.
pub(crate) const PREFIX: &str = "tsd";

/// Each is a process that sleeps: containers that an engine starts at once on a large host.
const RUNNING_MAX: usize = 64;
/// A new switch asks for the devices of all its engines at once; there are at most 4000 endpoints.
const QUEUED_MAX: usize = 4096;
/// What an engine may take from telling of a container to its device being up.
const WAIT_LIMIT: Duration = Duration::from_secs(60);
/// Looking once takes milliseconds; a loaded machine gets 500 times that.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

/// Whose device is looked for, and how.
#[derive(Debug)]
pub(super) struct Follow {
    pub(super) endpoint: EndpointKey,
    /// The namespace it starts from.
    pub(super) engine: NamespaceId,
    /// Only once it has left there and is up.
    pub(super) wait: bool,
    pub(super) gateway: IpAddr,
}

/// What a child sends back, with the descriptors of the sockets for names where there are some.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Whereabouts {
    pub(super) namespace: NamespaceId,
    pub(super) ifname: String,
    pub(super) names: Option<NameUpstream>,
    /// Why there are no sockets where there should be.
    problem: Option<Error>,
}

#[derive(Debug)]
struct Running {
    follow: Follow,
    end: Instant,
    child: Child<Whereabouts>,
}

/// All that are looked for, waiting and running.
#[derive(Debug, Default)]
pub(super) struct Followers {
    queue: VecDeque<Follow>,
    running: Vec<Running>,
}

impl Followers {
    /// Queues one, in place of an earlier one of the same endpoint.
    ///
    /// # Errors
    /// In one line, when there are too many.
    pub(super) fn submit(&mut self, follow: Follow) -> Result<(), String> {
        self.cancel(&follow.endpoint);
        if self.queue.len() >= QUEUED_MAX {
            return Err(format!("follow {}: too many at once, try again", follow.endpoint.0));
        }
        self.queue.push_back(follow);
        Ok(())
    }

    /// Starts what may run, of the devices that are `kept`.
    pub(super) fn start(&mut self, kept: &KeptDescriptors, now: Instant) {
        while self.running.len() < RUNNING_MAX {
            let Some(follow) = self.queue.pop_front() else { break };
            // One that was detached was cancelled.
            let Some(tap) = kept.fd(&Label::Tap(follow.endpoint.clone())) else { continue };
            let limit = if follow.wait { WAIT_LIMIT } else { LOOK_LIMIT };
            match spawn(&follow, tap, limit) {
                Ok(child) => self.running.push(Running { follow, end: now + limit, child }),
                Err(error) => warn(&follow.endpoint, &error),
            }
        }
    }

    /// Takes what was found. Of what was not, the log tells.
    pub(super) fn collect(&mut self, now: Instant) -> Vec<(EndpointKey, Whereabouts, Vec<OwnedFd>)> {
        let ended = self.running.extract_if(.., |running| running.child.finished() || running.end <= now);
        ended.filter_map(|Running { follow, child, .. }| found(follow, child)).collect()
    }

    /// Stops looking for an endpoint's device.
    pub(super) fn cancel(&mut self, endpoint: &EndpointKey) {
        self.queue.retain(|follow| follow.endpoint != *endpoint);
        self.running.retain(|running| running.follow.endpoint != *endpoint);
    }

    /// Stops all: who asked is dead.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.running.clear();
    }

    /// What to wait for.
    pub(super) fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.running.iter().map(|running| running.child.socket())
    }

    /// When the first runs out of time.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.running.iter().map(|running| running.end).min()
    }
}

fn spawn(asked: &Follow, tap: BorrowedFd<'_>, limit: Duration) -> Result<Child<Whereabouts>, Error> {
    let Follow { engine, wait, gateway, .. } = *asked;
    Child::spawn_with("look where its device is", &[tap], limit, || {
        let followed = follow(tap, engine, wait, gateway)?;
        let (names, problem) = match followed.names {
            Ok(names) => (names, None),
            Err(error) => (None, Some(error)),
        };
        let (upstream, fds) = names.map(|names| names.into_parts()).unzip();
        let whereabouts =
            Whereabouts { namespace: followed.namespace, ifname: followed.ifname, names: upstream, problem };
        Ok((whereabouts, fds.unwrap_or_default()))
    })
}

fn found(follow: Follow, child: Child<Whereabouts>) -> Option<(EndpointKey, Whereabouts, Vec<OwnedFd>)> {
    let endpoint = follow.endpoint;
    if !child.finished() && follow.wait {
        tracing::info!("{}: its engine did not bring its device up in {} s", endpoint.0, WAIT_LIMIT.as_secs());
        return None;
    }
    match child.finish_with() {
        Ok((whereabouts, fds)) => {
            if let Some(problem) = &whereabouts.problem {
                warn(&endpoint, problem);
            }
            Some((endpoint, whereabouts, fds))
        }
        Err(error) => {
            warn(&endpoint, &error);
            None
        }
    }
}

fn warn(endpoint: &EndpointKey, error: &Error) {
    tracing::warn!("follow {}: {error}", endpoint.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: &str, wait: bool) -> Follow {
        let engine = NamespaceId { dev: 4, ino: 7 };
        Follow { endpoint: EndpointKey(name.into()), engine, wait, gateway: "172.17.0.1".parse().unwrap() }
    }

    #[test]
    fn an_endpoint_is_followed_once_and_not_after_it_was_detached() {
        let mut followers = Followers::default();
        for (name, wait) in [("default/a", false), ("default/b", false), ("default/a", true)] {
            followers.submit(asked(name, wait)).unwrap();
        }
        let queued: Vec<_> = followers.queue.iter().map(|follow| (follow.endpoint.0.as_str(), follow.wait)).collect();
        assert_eq!(queued, [("default/b", false), ("default/a", true)]);
        followers.cancel(&EndpointKey("default/b".into()));
        assert_eq!(followers.queue.len(), 1);
    }

    #[test]
    fn too_many_are_refused() {
        let mut followers = Followers::default();
        for number in 0..QUEUED_MAX {
            followers.submit(asked(&format!("default/{number}"), true)).unwrap();
        }
        let error = followers.submit(asked("default/more", true)).unwrap_err();
        assert_eq!(error, "follow default/more: too many at once, try again");
    }
}
