//! Namespace work, each piece in a forked child.
//!
//! At most [`RUNNING_MAX`] at once, [`QUEUED_MAX`] wait, each has [`LIMIT`]. A child that is killed leaves nothing: its
//! device is not persistent yet.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use nix::poll::{PollFd, PollFlags, poll};
use serde::{Deserialize, Serialize};
use tapswitch_netns::{Child, DeviceSpec, Error, Namespace, NamespaceId, Scratch, Tap, TapInfo, in_child};

use super::host_routing;
use super::message::{EndpointKey, JobId};
use super::run::until;

/// Moving a device takes the kernel 16 ms, mostly waiting: eight at once attach 400 containers a second.
const RUNNING_MAX: usize = 8;
/// A thousand containers starting at once; each may hold one descriptor.
const QUEUED_MAX: usize = 1024;
/// A birth takes 20 ms; a loaded machine gets 500 times that.
const LIMIT: Duration = Duration::from_secs(10);
/// User namespaces in use at once by the containers being attached. A TAP keeps its own scratch alive.
const SCRATCHES_MAX: usize = 8;

/// What is to be done.
#[derive(Debug)]
pub(super) enum Work {
    Attach { endpoint: EndpointKey, target: Namespace, device: DeviceSpec },
    AttachHost { endpoint: EndpointKey, host: Namespace, device: DeviceSpec },
    AttachDown { endpoint: EndpointKey, engine: Namespace, device: DeviceSpec },
    Route { ifname: String, subnets: Vec<IpNet> },
    Unroute { ifname: String },
    Reattach { endpoint: EndpointKey, namespace: NamespaceId, device: DeviceSpec },
    SetMtu { namespace: NamespaceId, ifname: String, mtu: u32 },
}

/// What became of it.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) job: JobId,
    pub(super) endpoint: Option<EndpointKey>,
    pub(super) namespace: Option<NamespaceId>,
    /// The TAP that was made, if one was to be.
    pub(super) result: Result<Option<Tap>, Failure>,
}

/// Why it was not done.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// One line.
    pub(super) error: String,
    /// The namespace is not there any more.
    pub(super) gone: bool,
}

/// What a child sends back.
#[derive(Debug, Serialize, Deserialize)]
struct Made {
    tap: Option<TapInfo>,
    /// Why it was not done, where no step of a device's failed.
    problem: Option<String>,
}

#[derive(Debug)]
struct Running {
    job: JobId,
    work: Work,
    end: Instant,
    child: Child<Made>,
}

/// All namespace work, waiting and running.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    queue: VecDeque<(JobId, Work)>,
    running: Vec<Running>,
    /// Most recently used last.
    scratches: Vec<Scratch>,
}

impl Jobs {
    /// Queues a piece of work.
    pub(super) fn submit(&mut self, job: JobId, work: Work) -> Result<(), String> {
        if work.endpoint().is_some_and(|endpoint| self.is_busy(endpoint)) {
            return Err(work.failed("it is being attached already"));
        }
        if self.queue.len() >= QUEUED_MAX {
            return Err(work.failed("too many at once, try again"));
        }
        self.queue.push_back((job, work));
        Ok(())
    }

    /// Starts what may run; returns what could not be started.
    pub(super) fn start(&mut self, now: Instant) -> Vec<Finished> {
        let mut failed = Vec::new();
        while self.running.len() < RUNNING_MAX {
            let Some(next) = self.queue.iter().position(|(_, work)| !self.waits(work)) else { break };
            let (job, work) = self.queue.remove(next).expect("it is there");
            match self.spawn(&work) {
                Ok(child) => self.running.push(Running { job, work, end: now + LIMIT, child }),
                Err(error) => failed.push(work.finished(job, Err(error))),
            }
        }
        failed
    }

    /// Takes the results of all that ended, or ran out of time.
    pub(super) fn collect(&mut self, now: Instant) -> Vec<Finished> {
        let ended = self.running.extract_if(.., |running| running.child.finished() || running.end <= now);
        ended.map(|Running { job, work, child, .. }| work.finished(job, child.finish())).collect()
    }

    /// Stops what is being done for an endpoint; returns the jobs that got no answer.
    pub(super) fn cancel(&mut self, endpoint: &EndpointKey) -> Vec<JobId> {
        let is_its = |work: &Work| work.endpoint() == Some(endpoint);
        let (queued, stay): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.queue).into_iter().partition(|(_, work)| is_its(work));
        self.queue = stay;
        let running = self.running.extract_if(.., |running| is_its(&running.work));
        queued.into_iter().map(|(job, _)| job).chain(running.map(|running| running.job)).collect()
    }

    /// Stops all: who asked is dead.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.running.clear();
    }

    /// Stops all but what is being done about routing, which is waited for, and what is to end some, which is done: a child that is
    /// killed leaves `nft` behind, which then does what nobody undoes. Returns what became of that.
    pub(super) fn finish_routing(&mut self) -> Vec<Finished> {
        self.queue.retain(|(_, work)| matches!(work, Work::Unroute { .. }));
        self.running.retain(|running| running.work.routed().is_some());
        let mut finished = Vec::new();
        while !self.queue.is_empty() || !self.running.is_empty() {
            let now = Instant::now();
            finished.extend(self.start(now));
            let mut fds: Vec<_> = self.sockets().map(|socket| PollFd::new(socket, PollFlags::POLLIN)).collect();
            // Woken for nothing, it is looked again.
            let _ = poll(&mut fds, until(self.deadline().or(Some(now)), now));
            finished.extend(self.collect(Instant::now()));
        }
        finished
    }

    /// What to wait for, and until when.
    pub(super) fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.running.iter().map(|running| running.child.socket())
    }

    /// When the first runs out of time.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.running.iter().map(|running| running.end).min()
    }

    /// Whether it must not begin: what is done about a device's routing is done in order.
    fn waits(&self, work: &Work) -> bool {
        work.routed().is_some_and(|ifname| self.running.iter().any(|running| running.work.routed() == Some(ifname)))
    }

    fn is_busy(&self, endpoint: &EndpointKey) -> bool {
        let mut works = self.queue.iter().map(|(_, work)| work).chain(self.running.iter().map(|running| &running.work));
        works.any(|work| work.endpoint() == Some(endpoint))
    }

    fn spawn(&mut self, work: &Work) -> Result<Child<Made>, Error> {
        match work {
            Work::Attach { target, device, .. } => {
                let scratch = self.scratch_for(target)?;
                Child::spawn("make the device", &[target.as_fd(), scratch.as_fd()], LIMIT, || {
                    Ok(made(tapswitch_netns::birth(target, scratch, device)?))
                })
            }
            Work::AttachHost { host, device, .. } => {
                let scratch = self.scratch_for(host)?;
                Child::spawn("make the device", &[host.as_fd(), scratch.as_fd()], LIMIT, || {
                    Ok(made(tapswitch_netns::birth_on_host(host, scratch, device)?))
                })
            }
            Work::AttachDown { engine, device, .. } => {
                Child::spawn("make the device", &[engine.as_fd()], LIMIT, || {
                    Ok(made(tapswitch_netns::birth_down(engine, device)?))
                })
            }
            Work::Route { ifname, subnets } => {
                Child::spawn("set up routing", &[], LIMIT, || Ok(told(host_routing::route(ifname, subnets))))
            }
            Work::Unroute { ifname } => Child::spawn("end routing", &[], LIMIT, || Ok(told(leave_host(ifname)))),
            Work::Reattach { namespace, device, .. } => Child::spawn("find the device", &[], LIMIT, || {
                Ok(made(tapswitch_netns::reattach(&find(*namespace)?, device)?))
            }),
            Work::SetMtu { namespace, ifname, mtu } => Child::spawn("set it", &[], LIMIT, || {
                tapswitch_netns::set_mtu(&find(*namespace)?, ifname, *mtu)?;
                Ok(told(Ok(())))
            }),
        }
    }

    /// The scratch of the target's owner, made at its first use.
    fn scratch_for(&mut self, target: &Namespace) -> Result<&Scratch, Error> {
        let owner = target.owner()?.id();
        let scratch = match self.scratches.iter().position(|scratch| scratch.owner() == owner) {
            Some(index) => self.scratches.remove(index),
            None => Scratch::beside(target, LIMIT)?,
        };
        if self.scratches.len() >= SCRATCHES_MAX {
            self.scratches.remove(0);
        }
        self.scratches.push(scratch);
        Ok(self.scratches.last().expect("one was just pushed"))
    }
}

impl Work {
    fn endpoint(&self) -> Option<&EndpointKey> {
        match self {
            Work::Attach { endpoint, .. }
            | Work::AttachHost { endpoint, .. }
            | Work::AttachDown { endpoint, .. }
            | Work::Reattach { endpoint, .. } => Some(endpoint),
            Work::SetMtu { .. } | Work::Route { .. } | Work::Unroute { .. } => None,
        }
    }

    /// The device whose routing it is about.
    fn routed(&self) -> Option<&str> {
        match self {
            Work::Route { ifname, .. } | Work::Unroute { ifname } => Some(ifname),
            _ => None,
        }
    }

    fn namespace(&self) -> Option<NamespaceId> {
        match self {
            Work::Attach { target, .. } => Some(target.id()),
            Work::AttachHost { host, .. } => Some(host.id()),
            Work::AttachDown { engine, .. } => Some(engine.id()),
            Work::Reattach { namespace, .. } | Work::SetMtu { namespace, .. } => Some(*namespace),
            Work::Route { .. } | Work::Unroute { .. } => None,
        }
    }

    /// One line: what was being done, to whom, and why it failed.
    fn failed(&self, why: impl std::fmt::Display) -> String {
        match self {
            Work::Route { ifname, .. } => format!("route for {ifname}: {why}"),
            Work::Unroute { ifname } => format!("end the routing for {ifname}: {why}"),
            Work::Attach { endpoint, .. } | Work::AttachHost { endpoint, .. } | Work::AttachDown { endpoint, .. } => {
                format!("attach {}: {why}", endpoint.0)
            }
            Work::Reattach { endpoint, .. } => format!("attach {} again: {why}", endpoint.0),
            Work::SetMtu { ifname, mtu, .. } => format!("set MTU of {ifname} to {mtu}: {why}"),
        }
    }

    fn finished(self, job: JobId, result: Result<(Made, Option<OwnedFd>), Error>) -> Finished {
        let result = match result {
            Ok((Made { problem: Some(why), .. }, _)) => Err(Failure { error: self.failed(why), gone: false }),
            Ok((Made { tap: Some(info), .. }, Some(fd))) => Ok(Some(Tap { fd, info })),
            Ok((Made { tap: None, .. }, _)) => Ok(None),
            Ok((Made { tap: Some(_), .. }, None)) => {
                Err(Failure { error: self.failed("no descriptor came back"), gone: false })
            }
            Err(error) => {
                Err(Failure { gone: matches!(error, Error::UnknownNamespace { .. }), error: self.failed(error) })
            }
        };
        Finished { job, endpoint: self.endpoint().cloned(), namespace: self.namespace(), result }
    }
}

fn made(tap: Tap) -> (Made, Option<OwnedFd>) {
    (Made { tap: Some(tap.info), problem: None }, Some(tap.fd))
}

fn told(outcome: Result<(), String>) -> (Made, Option<OwnedFd>) {
    (Made { tap: None, problem: outcome.err() }, None)
}

/// Takes the host's own device `ifname` away, and what was set up for its routing. A device goes with its last descriptor too,
/// but the kernel gives up those of a process that ended whenever it likes.
fn leave_host(ifname: &str) -> Result<(), String> {
    let removed = Namespace::current().and_then(|host| tapswitch_netns::remove(&host, ifname));
    let removed = match removed {
        Ok(()) | Err(Error::NoDevice { .. }) => Ok(()),
        Err(error) => Err(error.to_string()),
    };
    removed.and(host_routing::unroute(ifname))
}

/// Takes the host's own device `ifname` away with its routing, and waits until it is.
pub(super) fn unroute_now(ifname: &str) -> Result<(), String> {
    let made = in_child("end routing", &[], LIMIT, || Ok(told(leave_host(ifname))));
    made.map_or_else(|error| Err(error.to_string()), |(made, _)| made.problem.map_or(Ok(()), Err))
}

fn find(namespace: NamespaceId) -> Result<Namespace, Error> {
    let found = Namespace::find(namespace).map(|found| found.namespace);
    found.ok_or_else(|| Error::UnknownNamespace { name: format!("net:[{}]", namespace.ino) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_whether_the_namespace_is_gone() {
        let namespace = NamespaceId { dev: 4, ino: 7 };
        let failure = |error| {
            let work = Work::SetMtu { namespace, ifname: "eth0".into(), mtu: 1500 };
            work.finished(JobId(1), Err(error)).result.unwrap_err()
        };
        let gone = failure(find(NamespaceId { dev: 0, ino: 0 }).unwrap_err());
        assert!(
            gone.gone && gone.error.starts_with("set MTU of eth0 to 1500: namespace net:[0]: not found"),
            "{gone:?}"
        );
        assert!(!failure(Error::NoDevice { ifname: "eth0".into() }).gone);
    }
}
