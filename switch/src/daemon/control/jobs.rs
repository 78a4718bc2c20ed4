//! What the keeper was asked to do, and what follows from its answers.

use std::os::fd::OwnedFd;

use tapswitch_netns::{NameSockets, NamespaceId, TapInfo};

use super::detach::Then;
use super::publish::{Binding, Closed, NotBound, ToPublish, closed};
use super::resolve::Place;
use super::{Control, Ending, Reply, tap};
use crate::daemon::api::types::{EndpointInfo, NetworkInfo};
use crate::daemon::host_access;
use crate::daemon::keeper::message::{JobId, SocketKey, ToSwitch};
use crate::daemon::keeper_link::FromKeeper;
use crate::daemon::name::Name;
use crate::daemon::refusal::{Outcome, Refusal};

/// Who waits for a job.
#[derive(Debug)]
pub(super) enum Job {
    /// A device is made.
    Attach(Place, ToPublish, Reply<EndpointInfo>),
    /// Sockets of published ports are bound.
    Bind(Box<Binding>),
    /// One is closed.
    Unbind(Closed),
    /// A device from before the start is attached again.
    Reattach(Place),
    /// The host's own device is made.
    AttachHost(Name, Option<Reply<NetworkInfo>>),
    /// The host's kernel is told to route for a network, for which somebody waits who makes it.
    Route(Name, Option<Reply<NetworkInfo>>),
    /// A device is destroyed.
    Detach(Place, Then),
    /// It is looked where a device of Docker's is.
    Follow(Place),
    /// A device that is nobody's is destroyed.
    Stray(String),
    /// The MTU of an endpoint's device is set, as part of the change of that number, or after it.
    SetMtu(Place, Option<u64>),
}

/// A device that the keeper made, or attached to again.
struct Made {
    fd: Option<OwnedFd>,
    info: TapInfo,
    namespace: NamespaceId,
}

impl Control {
    /// Takes what the keeper said.
    pub(super) fn hear(&mut self, from: FromKeeper) {
        match from {
            FromKeeper::Said(said, fds) => self.heed(said, fds),
            FromKeeper::Gone => self.keeper_gone(),
        }
    }

    fn heed(&mut self, said: ToSwitch, mut fds: Vec<OwnedFd>) {
        match said {
            ToSwitch::Attached { job, tap: info, namespace } => {
                self.answered(job, Ok(Some(Made { fd: fds.pop(), info, namespace })));
            }
            ToSwitch::Done { job } => self.answered(job, Ok(None)),
            ToSwitch::Failed { job, error, gone: false } => self.answered(job, Err(Refusal::Failed(error))),
            ToSwitch::Failed { job, error, gone: true } => self.answered(job, Err(Refusal::Unknown(error))),
            ToSwitch::Bound { job, socket } => {
                let failed = NotBound { errno: nix::errno::Errno::EMFILE as i32, holder: None };
                let fd = fds.pop();
                if fd.is_none() {
                    self.unbind(socket);
                }
                self.bind_answered(job, fd.map(|fd| (socket, fd)).ok_or(failed));
            }
            ToSwitch::NotBound { job, errno, holder } => self.bind_answered(job, Err(NotBound { errno, holder })),
            ToSwitch::Moved { endpoint, namespace, ifname, names } => {
                let names = names.and_then(|upstream| NameSockets::from_parts(upstream, fds));
                self.device_moved(&endpoint, namespace, &ifname, names);
            }
            ToSwitch::Stop => self.ending = Some(Ending::Stopped),
            ToSwitch::Kept { .. } | ToSwitch::KeptSocket { .. } | ToSwitch::KeptAll => {
                tracing::warn!("the keeper handed over a device out of turn")
            }
        }
    }

    fn answered(&mut self, id: JobId, outcome: Outcome<Option<Made>>) {
        self.keeper.answered();
        let Some(job) = self.jobs.remove(&id) else {
            tracing::warn!("the keeper answered job {}, which is not open", id.0);
            return;
        };
        let made = |outcome: Outcome<Option<Made>>| match outcome? {
            Some(Made { fd, info, namespace }) => Ok((tap(fd, info)?, namespace)),
            None => Err(Refusal::Failed("the keeper sent no device".into())),
        };
        // It is there, and no descriptor of it could be received.
        let is_cut = matches!(&outcome, Ok(Some(Made { fd: None, .. })));
        let too_many = || Refusal::Failed("too many files are open in the daemon".into());
        match job {
            Job::Attach(at, _, reply) if is_cut => {
                self.withdraw(vec![(at, Then::Refuse(reply, too_many()))], true);
            }
            Job::AttachHost(network, reply) if is_cut => {
                let at = Place { network, name: host_access::name() };
                self.withdraw(vec![(at, Then::RefuseHost(reply, too_many()))], true);
            }
            Job::Attach(at, publish, reply) => {
                let device = made(outcome).map(|(tap, namespace)| {
                    self.born_with(&at, namespace);
                    tap
                });
                self.attach_done(&at, device, &publish, reply);
            }
            Job::Follow(at) => {
                if let Err(error) = outcome {
                    tracing::warn!("look for the device of {at}: {error}");
                }
            }
            Job::Bind(binding) => {
                let nothing = Refusal::Failed("the keeper sent no socket".into());
                self.undo(*binding, outcome.err().unwrap_or(nothing));
            }
            Job::Unbind(then) => closed(then),
            Job::AttachHost(network, reply) => {
                self.attach_host_done(&network, made(outcome).map(|(tap, _)| tap), reply)
            }
            Job::Route(network, reply) => self.routed(&network, outcome.map(drop), reply),
            Job::Reattach(at) => self.reattach_done(&at, made(outcome).map(|(tap, _)| tap)),
            Job::Detach(at, then) => self.detach_done(&at, then, outcome.map(drop)),
            Job::Stray(key) => {
                if let Err(error) = outcome {
                    self.warn(format!("remove the device of {key}: {error}"));
                }
            }
            Job::SetMtu(at, change) => self.mtu_done(&at, change, outcome.map(drop)),
        }
    }

    fn bind_answered(&mut self, id: JobId, outcome: Result<(SocketKey, OwnedFd), NotBound>) {
        self.keeper.answered();
        match self.jobs.remove(&id) {
            Some(Job::Bind(binding)) => self.bound(binding, outcome),
            _ => tracing::warn!("the keeper answered job {}, which binds nothing", id.0),
        }
    }

    /// The keeper died: what was asked of it will not be answered. Traffic goes on.
    fn keeper_gone(&mut self) {
        self.keeper.gone();
        self.warn(
            "the keeper process is gone: traffic goes on, devices cannot be made or removed; `tapswitch up -d` starts it again"
                .into(),
        );
        for id in self.jobs.keys().copied().collect::<Vec<_>>() {
            let gone = self.keeper.check().map(|()| None);
            self.answered(id, gone);
        }
        self.await_next_keeper();
    }
}
