//! Published ports: checked, then bound by the keeper one after the other, then kept in the endpoint's file, then served.
//! What fails is undone: of a range that is half bound nothing stays.
//!
//! Publishing again what is published already is well and gives the same answer. A port that is taken is refused with who
//! has it: an endpoint of ours by its name, another process as far as it may be looked at. While sockets are bound the
//! endpoint may go: then they are closed again. The keeper closes a socket after every worker let go of it, and whoever
//! waits is answered after that: on return the port is free.

mod conflict;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::errno::Errno;

use super::detach::Then;
use super::jobs::Job;
use super::resolve::{self, Place};
use super::{Control, Reply};
use crate::daemon::api::types::{EndpointInfo, PublicationInfo, PublishRequest};
use crate::daemon::endpoint::Endpoint;
use crate::daemon::keeper::message::{Holder, SocketKey, ToKeeper};
use crate::daemon::name::{Target, printable};
use crate::daemon::publish::{PublishSpec, UnpublishSpec, Wanted};
use crate::daemon::refusal::{Outcome, Refusal};
use crate::daemon::state::{EndpointRecord, PublicationRecord};
use crate::forwarding::PortId;
use crate::uplink::{Publication, Transport};
use conflict::{overlap, refusal, shown};

/// Most specs of one request.
const MAX_SPECS: usize = 256;
/// How often another free port is tried where IPv4 had one that IPv6 has not: they hardly ever differ.
const FREE_TRIES: u32 = 16;

/// Sockets of an endpoint, on their way.
#[derive(Debug)]
pub(super) struct Binding {
    at: Place,
    /// Its port: a later endpoint of that name has another.
    port: PortId,
    /// The first is with the keeper.
    todo: VecDeque<Bind>,
    made: Vec<Arc<Publication>>,
    tries: u32,
    asker: Asker,
}

/// A socket to be bound.
#[derive(Clone, Copy, Debug)]
struct Bind {
    transport: Transport,
    /// Port 0 is one that is free.
    address: SocketAddr,
    container: u16,
    /// The same port as the one before it, which has the other family.
    paired: bool,
}

/// Who waits for a binding.
#[derive(Debug)]
enum Asker {
    /// Who published, and what of it was published before.
    Publish(Reply<Vec<PublicationInfo>>, Vec<PublicationInfo>),
    /// Who attached.
    Attach(Reply<EndpointInfo>),
    /// Nobody: it was published before the start.
    Restore,
}

/// Who waits until sockets are closed.
#[derive(Debug)]
pub(super) enum Closed {
    /// Nobody.
    Nothing,
    /// Who unpublished them.
    Confirm(Reply<()>),
    /// Who published them, in vain, and why.
    Refuse(Reply<Vec<PublicationInfo>>, Refusal),
}

/// Why the keeper bound nothing.
#[derive(Debug)]
pub(super) struct NotBound {
    /// What the kernel said.
    pub(super) errno: i32,
    /// Who has the port.
    pub(super) holder: Option<Holder>,
}

impl Control {
    /// Publishes what `request` says; `reply` comes when clients are accepted, with what that is.
    pub(crate) fn publish_ports(&mut self, request: &PublishRequest, reply: Reply<Vec<PublicationInfo>>) {
        let during = format!("publish {}", printable(&request.endpoint));
        let planned = || {
            let at = self.endpoint_to_publish(&request.endpoint)?;
            let specs = parse_each(&request.publish)?;
            let (before, todo) = self.plan_binding(Some(&at), &specs)?;
            Ok((at, before, todo))
        };
        match planned() {
            Ok((at, before, todo)) => self.bind_all(at, todo, Asker::Publish(reply, before)),
            Err(refusal) => reply.send(Err(Refusal::during(refusal, &during))),
        }
    }

    /// Publishes for the endpoint at `at`; `reply` comes when clients are accepted.
    pub(super) fn publish_specs(&mut self, at: Place, specs: &[PublishSpec], reply: Reply<Vec<PublicationInfo>>) {
        let during = format!("publish {at}");
        match self.keeper.check().and_then(|()| self.plan_binding(Some(&at), specs)) {
            Ok((before, todo)) => self.bind_all(at, todo, Asker::Publish(reply, before)),
            Err(refusal) => reply.send(Err(refusal.during(&during))),
        }
    }

    /// Takes back all that the endpoint at `at` publishes; `reply` comes when its ports are free.
    pub(super) fn unpublish_all(&mut self, at: &Place, reply: Reply<()>) {
        let mut taken_back = || {
            let endpoint = self.endpoint(at).ok_or_else(|| resolve::unknown_endpoint(at))?;
            let record = EndpointRecord { published: Vec::new(), ..endpoint.record.clone() };
            self.keep(at, record)?;
            let endpoint = self.endpoint_mut(at).ok_or_else(|| resolve::unknown_endpoint(at))?;
            let closing = std::mem::take(&mut endpoint.publications);
            self.publish([&at.network]);
            Ok(closing)
        };
        match taken_back() {
            Ok(closing) => self.close(closing, Closed::Confirm(reply)),
            Err(refusal) => reply.send(Err(Refusal::during(refusal, &format!("unpublish {at}")))),
        }
    }

    /// Takes back what `request` says; `reply` comes when its ports are free.
    pub(crate) fn unpublish_ports(&mut self, request: &PublishRequest, reply: Reply<()>) {
        let during = format!("unpublish {}", printable(&request.endpoint));
        match self.take_back(request) {
            Ok(closing) => self.close(closing, Closed::Confirm(reply)),
            Err(refusal) => reply.send(Err(refusal.during(&during))),
        }
    }

    /// What an attachment asks to be published, checked as far as it can be before the endpoint is there.
    pub(super) fn publish_at_attach(&self, specs: &[String]) -> Outcome<Vec<PublishSpec>> {
        let specs = parse_each(specs)?;
        self.plan_binding(None, &specs)?;
        Ok(specs)
    }

    /// Publishes for an endpoint that was just attached, and answers who attached it.
    pub(super) fn publish_attached(&mut self, at: &Place, specs: &[PublishSpec], reply: Reply<EndpointInfo>) {
        match self.plan_binding(Some(at), specs) {
            Ok((_, todo)) => self.bind_all(at.clone(), todo, Asker::Attach(reply)),
            Err(refusal) => self.refuse(Asker::Attach(reply), at, refusal),
        }
    }

    /// Publishes again what an endpoint's file names and no socket was kept for.
    pub(super) fn publish_again(&mut self, at: &Place, lost: Vec<PublicationRecord>) {
        let bind = |r: PublicationRecord| Bind {
            transport: r.transport,
            address: r.host,
            container: r.container,
            paired: false,
        };
        // One by one: one that is taken meanwhile keeps no other from being published.
        for record in lost {
            self.bind_all(at.clone(), [bind(record)].into(), Asker::Restore);
        }
    }

    /// Whether something from before the start is still on its way.
    pub(super) fn is_publishing_again(&self) -> bool {
        self.jobs.values().any(|job| matches!(job, Job::Bind(binding) if matches!(binding.asker, Asker::Restore)))
    }

    /// A socket of `record`'s, for workers and for [`Endpoint::publications`].
    pub(super) fn publication(&mut self, port: PortId, record: &PublicationRecord, fd: OwnedFd) -> Arc<Publication> {
        let id = self.next_publication;
        self.next_publication += 1;
        let PublicationRecord { transport, host, container } = *record;
        Arc::new(Publication { id, port, transport, host, container, socket: fd })
    }

    fn endpoint_to_publish(&self, text: &str) -> Outcome<Place> {
        let target: Target = text.parse().map_err(|e| Refusal::Malformed(format!("{e}")))?;
        self.keeper.check()?;
        resolve::endpoint(&self.networks, &target)
    }

    /// What of `specs` is published by the endpoint already, and what is to be bound.
    fn plan_binding(
        &self,
        at: Option<&Place>,
        specs: &[PublishSpec],
    ) -> Outcome<(Vec<PublicationInfo>, VecDeque<Bind>)> {
        let endpoint = at.and_then(|at| self.networks.get(&at.network)?.endpoints.get(&at.name));
        let (mut before, mut todo) = (Vec::new(), VecDeque::new());
        for wanted in specs.iter().flat_map(PublishSpec::wanted) {
            let same: Vec<_> = endpoint.into_iter().flat_map(|e| published_as(e, &wanted)).collect();
            if wanted.host.is_none() && !same.is_empty() {
                before.extend(same.into_iter().map(info));
                continue;
            }
            for (nth, address) in wanted.addresses().into_iter().enumerate() {
                if let Some(publication) = same.iter().find(|p| p.host == address) {
                    before.push(info(publication));
                    continue;
                }
                let key = SocketKey { transport: wanted.transport, address };
                if address.port() != 0 {
                    self.refuse_taken(key)?;
                    if todo.iter().any(|bind: &Bind| overlap(bind.key(), key)) {
                        return Err(Refusal::Malformed(format!("port {} is asked for twice", shown(key))));
                    }
                }
                let (transport, container) = (wanted.transport, wanted.container);
                todo.push_back(Bind { transport, address, container, paired: nth > 0 });
            }
        }
        Ok((before, todo))
    }

    /// An error where an endpoint of ours has the port.
    fn refuse_taken(&self, key: SocketKey) -> Outcome<()> {
        let all = self.networks.values().flat_map(|network| network.endpoints.values());
        for endpoint in all {
            if endpoint.publications.iter().any(|p| overlap(key_of(p), key)) {
                return Err(Refusal::Conflict(format!(
                    "port {} is published by {} already",
                    shown(key),
                    endpoint.key().0
                )));
            }
        }
        let on_their_way = self.jobs.values().filter_map(|job| match job {
            Job::Bind(binding) => Some(binding),
            _ => None,
        });
        for binding in on_their_way {
            let todo = binding.todo.iter().map(|bind| bind.key());
            if todo.chain(binding.made.iter().map(|p| key_of(p))).any(|other| overlap(other, key)) {
                return Err(Refusal::Conflict(format!("port {} is being published by {}", shown(key), binding.at)));
            }
        }
        Ok(())
    }

    fn bind_all(&mut self, at: Place, todo: VecDeque<Bind>, asker: Asker) {
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
    pub(super) fn bound(&mut self, mut binding: Box<Binding>, outcome: Result<(SocketKey, OwnedFd), NotBound>) {
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
            self.publish([&at.network]);
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
    pub(super) fn undo(&mut self, binding: Binding, refusal: Refusal) {
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

    fn refuse(&mut self, asker: Asker, at: &Place, refusal: Refusal) {
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

    /// Takes out of service what `request` means, and out of the endpoint's file.
    fn take_back(&mut self, request: &PublishRequest) -> Outcome<Vec<Arc<Publication>>> {
        let at = self.endpoint_to_publish(&request.endpoint)?;
        let specs = parse_each::<UnpublishSpec>(&request.publish)?;
        let means = |r: &PublicationRecord| specs.iter().any(|spec| spec.means(r.transport, r.host, r.container));
        let endpoint = self.endpoint(&at).ok_or_else(|| resolve::unknown_endpoint(&at))?;
        for (spec, text) in specs.iter().zip(&request.publish) {
            if !endpoint.record.published.iter().any(|r| spec.means(r.transport, r.host, r.container)) {
                let text = format!("{at} has nothing published at {} (`tapswitch ls` shows what is)", printable(text));
                return Err(Refusal::Unknown(text));
            }
        }
        let mut record = endpoint.record.clone();
        record.published.retain(|r| !means(r));
        self.keep(&at, record)?;
        let endpoint = self.endpoint_mut(&at).ok_or_else(|| resolve::unknown_endpoint(&at))?;
        let closing = endpoint.publications.extract_if(.., |p| means(&record_of(p))).collect();
        self.publish([&at.network]);
        Ok(closing)
    }

    /// Has the keeper close sockets that no worker serves any more; the answer comes after the last.
    pub(super) fn close(&mut self, closing: Vec<Arc<Publication>>, then: Closed) {
        let keys: Vec<SocketKey> = closing.iter().map(|p| key_of(p)).collect();
        // Ours go first: the port is free when the keeper's has gone.
        drop(closing);
        let mut then = Some(then);
        for (nth, socket) in keys.iter().enumerate() {
            let last = if nth + 1 == keys.len() { then.take() } else { None };
            let submitted = self.keeper.submit(|job| ToKeeper::Unbind { job, socket: *socket }, None);
            match submitted {
                Ok(job) => drop(self.jobs.insert(job, Job::Unbind(last.unwrap_or(Closed::Nothing)))),
                // A keeper that is gone holds nothing open.
                Err(_) => last.into_iter().for_each(closed),
            }
        }
        then.into_iter().for_each(closed);
    }

    /// Writes an endpoint's file and goes by it.
    pub(super) fn keep(&mut self, at: &Place, record: EndpointRecord) -> Outcome<()> {
        let key = EndpointRecord::file_key(&at.network, &at.name);
        self.live.write(&key, &record).map_err(|e| Refusal::Failed(e.to_string()))?;
        if let Some(endpoint) = self.endpoint_mut(at) {
            endpoint.record = record;
        }
        Ok(())
    }

    /// The endpoint, while commands see it.
    fn endpoint(&self, at: &Place) -> Option<&Endpoint> {
        self.networks.get(&at.network)?.endpoints.get(&at.name).filter(|e| e.visible())
    }

    fn endpoint_mut(&mut self, at: &Place) -> Option<&mut Endpoint> {
        self.networks.get_mut(&at.network)?.endpoints.get_mut(&at.name).filter(|e| e.visible())
    }
}

/// Answers who waited until sockets are closed.
pub(super) fn closed(then: Closed) {
    match then {
        Closed::Nothing => {}
        Closed::Confirm(reply) => reply.send(Ok(())),
        Closed::Refuse(reply, refusal) => reply.send(Err(refusal)),
    }
}

impl Bind {
    fn key(&self) -> SocketKey {
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

fn parse_each<T: std::str::FromStr<Err: std::fmt::Display>>(texts: &[String]) -> Outcome<Vec<T>> {
    if texts.len() > MAX_SPECS {
        return Err(Refusal::Malformed(format!("{} at once; {MAX_SPECS} is the most", texts.len())));
    }
    texts.iter().map(|text| text.parse().map_err(|e| Refusal::Malformed(format!("{e}")))).collect()
}

/// What the endpoint publishes that is `wanted`, at whichever port where none is named.
fn published_as<'a>(endpoint: &'a Endpoint, wanted: &Wanted) -> impl Iterator<Item = &'a Arc<Publication>> {
    let wanted = *wanted;
    endpoint.publications.iter().filter(move |p| {
        let host = p.host;
        p.transport == wanted.transport
            && p.container == wanted.container
            && wanted.host.is_none_or(|port| port == host.port())
            && wanted.ip.map_or(host.ip().is_unspecified(), |ip| ip == host.ip())
    })
}

/// As `ls` shows it.
pub(crate) fn info(publication: &Arc<Publication>) -> PublicationInfo {
    PublicationInfo {
        ip: publication.host.ip(),
        host_port: publication.host.port(),
        container_port: publication.container,
        protocol: publication.transport,
    }
}

fn record_of(p: &Publication) -> PublicationRecord {
    PublicationRecord { transport: p.transport, host: p.host, container: p.container }
}

fn key_of(p: &Publication) -> SocketKey {
    SocketKey { transport: p.transport, address: p.host }
}
