//! Sockets of published ports on their way: the keeper binds one after the other, and then all are kept and served, or none.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::errno::Errno;

use super::super::detach::Then;
use super::super::jobs::Job;
use super::super::resolve::{self, Place};
use super::super::{Control, Reply};
use super::conflict::refusal;
use super::{Closed, info, record_of};
use crate::daemon::api::types::{EndpointInfo, PublicationInfo};
use crate::daemon::keeper::message::{Holder, SocketKey, ToKeeper};
use crate::daemon::refusal::Refusal;
use crate::daemon::state::PublicationRecord;
use crate::forwarding::PortId;
use crate::uplink::{Publication, Transport};

/// How often another free port is tried where IPv4 had one that IPv6 has not: they hardly ever differ.
const FREE_TRIES: u32 = 16;

/// Sockets of an endpoint, on their way.
#[derive(Debug)]
pub(in crate::daemon::control) struct Binding {
    pub(super) at: Place,
    /// Its port: a later endpoint of that name has another.
    port: PortId,
    /// The first is with the keeper.
    pub(super) todo: VecDeque<Bind>,
    pub(super) made: Vec<Arc<Publication>>,
    tries: u32,
    pub(super) asker: Asker,
}

/// A socket to be bound.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bind {
    pub(super) transport: Transport,
    /// Port 0 is one that is free.
    pub(super) address: SocketAddr,
    pub(super) container: u16,
    /// The same port as the one before it, which has the other family.
    pub(super) paired: bool,
}

/// Who waits for a binding.
#[derive(Debug)]
pub(super) enum Asker {
    /// Who published, and what of it was published before.
    Publish(Reply<Vec<PublicationInfo>>, Vec<PublicationInfo>),
    /// Who attached.
    Attach(Reply<EndpointInfo>),
    /// Nobody: it was published before the start.
    Restore,
}

/// Why the keeper bound nothing.
#[derive(Debug)]
pub(in crate::daemon::control) struct NotBound {
    /// What the kernel said.
    pub(in crate::daemon::control) errno: i32,
    /// Who has the port.
    pub(in crate::daemon::control) holder: Option<Holder>,
}

impl Control {
    pub(super) fn bind_all(&mut self, at: Place, todo: VecDeque<Bind>, asker: Asker) {
        let Some(port) = self.endpoint(&at).map(|e| e.record.port) else {
            return self.refuse(asker, &at, resolve::unknown_endpoint(&at));
        };
        self.bind_next(Box::new(Binding { at, port, todo, made: Vec::new(), tries: 0, asker }));
    }

    /// Has the keeper bind the next socket, or ends.
    fn bind_next(&mut self, binding: Box<Binding>) {
        let Some(bind) = binding.todo.front() else { return self.all_bound(*binding) };
        let mut socket = bind.key();
        if bind.paired
            && socket.address.port() == 0
            && let Some(pair) = binding.made.last()
        {
            socket.address.set_port(pair.host.port());
        }
        match self.keeper.submit(|job| ToKeeper::Bind { job, socket }, None) {
            Ok(job) => drop(self.jobs.insert(job, Job::Bind(binding))),
            Err(refusal) => self.undo(*binding, refusal),
        }
    }

    /// The keeper bound a socket, or did not.
    pub(in crate::daemon::control) fn bound(
        &mut self,
        mut binding: Box<Binding>,
        outcome: Result<(SocketKey, OwnedFd), NotBound>,
    ) {
        let Some(bind) = binding.todo.pop_front() else { return };
        if self.endpoint(&binding.at).is_none_or(|e| e.record.port != binding.port) {
            let gone = Refusal::Unknown(format!("{} was detached meanwhile", binding.at));
            if let Ok((key, fd)) = outcome {
                binding.made.push(self.publication(binding.port, &bind.record(key), fd));
            }
            return self.undo(*binding, gone);
        }
        match outcome {
            Ok((key, fd)) => {
                binding.made.push(self.publication(binding.port, &bind.record(key), fd));
                self.bind_next(binding);
            }
            Err(NotBound { errno, .. }) if bind.may_be_left_out(errno) => self.bind_next(binding),
            Err(NotBound { errno, .. }) if bind.is_free_pair(errno) && binding.tries < FREE_TRIES => {
                self.try_another(binding, bind);
            }
            Err(NotBound { errno, holder }) => {
                let key = bind.key();
                let refusal = match self.refuse_taken(key) {
                    Err(ours) if errno == Errno::EADDRINUSE as i32 => ours,
                    _ => refusal(key, Errno::from_raw(errno), holder),
                };
                self.undo(*binding, refusal);
            }
        }
    }

    /// IPv4 has a free port that IPv6 has not: gives it back, and asks for another.
    fn try_another(&mut self, mut binding: Box<Binding>, bind: Bind) {
        binding.tries += 1;
        binding.todo.push_front(bind);
        if let Some(made) = binding.made.pop() {
            let mut free = made.host;
            free.set_port(0);
            binding.todo.push_front(Bind { address: free, paired: false, ..bind });
            self.close(vec![made], Closed::Nothing);
        }
        self.bind_next(binding);
    }

    /// Keeps it in the file, serves it, and answers.
    fn all_bound(&mut self, binding: Binding) {
        let Binding { at, port, made, asker, .. } = binding;
        let Some(endpoint) = self.endpoint_mut(&at) else {
            let refusal = resolve::unknown_endpoint(&at);
            return self.undo(Binding { at, port, todo: VecDeque::new(), made, tries: 0, asker }, refusal);
        };
        let mut record = endpoint.record.clone();
        record.published.extend(made.iter().map(|publication| record_of(publication)));
        record.published.sort_unstable();
        record.published.dedup();
        if let Err(refusal) = self.keep(&at, record) {
            return self.undo(Binding { at, port, todo: VecDeque::new(), made, tries: 0, asker }, refusal);
        }
        let shown: Vec<PublicationInfo> = made.iter().map(info).collect();
        if let Some(endpoint) = self.endpoint_mut(&at)
            && !made.is_empty()
        {
            endpoint.publications.extend(made);
            endpoint.publications.sort_unstable_by_key(|p| record_of(p));
            self.publish(std::slice::from_ref(&at));
        }
        match asker {
            Asker::Publish(reply, before) => {
                let mut all = [before, shown].concat();
                all.sort_unstable();
                all.dedup();
                reply.send(Ok(all));
            }
            Asker::Attach(reply) => reply.send(self.endpoint_info(&at)),
            Asker::Restore => {}
        }
    }

    /// Closes what was bound, then refuses.
    pub(in crate::daemon::control) fn undo(&mut self, binding: Binding, refusal: Refusal) {
        let Binding { at, made, asker, .. } = binding;
        match asker {
            Asker::Publish(reply, _) => {
                let refusal = refusal.during(&format!("publish {at}"));
                self.close(made, Closed::Refuse(reply, refusal));
            }
            other => {
                self.close(made, Closed::Nothing);
                self.refuse(other, &at, refusal);
            }
        }
    }

    pub(super) fn refuse(&mut self, asker: Asker, at: &Place, refusal: Refusal) {
        match asker {
            Asker::Publish(reply, _) => reply.send(Err(refusal.during(&format!("publish {at}")))),
            Asker::Attach(reply) => {
                let refusal = refusal.during(&format!("attach {at}: publish"));
                if self.endpoint(at).is_some() {
                    self.withdraw(vec![(at.clone(), Then::Refuse(reply, refusal))], true);
                } else {
                    reply.send(Err(refusal));
                }
            }
            Asker::Restore => self.warn(format!("{at}: publish again: {refusal}")),
        }
    }
}

impl Bind {
    pub(super) fn key(&self) -> SocketKey {
        SocketKey { transport: self.transport, address: self.address }
    }

    fn record(&self, bound: SocketKey) -> PublicationRecord {
        PublicationRecord { transport: bound.transport, host: bound.address, container: self.container }
    }

    /// A host without IPv6 publishes for IPv4 alone, where nobody asked for an IPv6 address.
    fn may_be_left_out(&self, errno: i32) -> bool {
        self.paired && [Errno::EAFNOSUPPORT as i32, Errno::EADDRNOTAVAIL as i32].contains(&errno)
    }

    fn is_free_pair(&self, errno: i32) -> bool {
        self.paired && self.address.port() == 0 && errno == Errno::EADDRINUSE as i32
    }
}
