//! Published ports: checked, then bound by the keeper one after the other, then kept in the endpoint's file, then served.
//! What fails is undone: of a range that is half bound nothing stays.
//!
//! Publishing again what is published already is well and gives the same answer. A port that is taken is refused with who
//! has it: an endpoint of ours by its name, another process as far as it may be looked at. While sockets are bound the
//! endpoint may go: then they are closed again. The keeper closes a socket after every worker let go of it, and whoever
//! waits is answered after that: on return the port is free. An engine asks the same of each endpoint of a container:
//! [`standby`].

mod binding;
mod conflict;
mod standby;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tapswitch_netns::NamespaceId;

use super::jobs::Job;
use super::resolve::{self, Place};
use super::{Control, Reply};
use crate::daemon::api::types::{AttachRequest, EndpointInfo, PublicationInfo, PublishRequest};
use crate::daemon::endpoint::Endpoint;
use crate::daemon::keeper::SOCKETS_MAX;
use crate::daemon::keeper::message::{SocketKey, ToKeeper};
use crate::daemon::name::{Target, printable};
use crate::daemon::publish::{PublishSpec, UnpublishSpec, Wanted};
use crate::daemon::refusal::{Outcome, Refusal};
use crate::daemon::state::{EndpointRecord, PublicationRecord};
use crate::forwarding::PortId;
use crate::uplink::Publication;
use binding::{Asker, Bind};
pub(super) use binding::{Binding, NotBound};
use conflict::{overlap, shown};
use standby::Container;

/// Most specs of one request.
const MAX_SPECS: usize = 256;

/// What an attachment asks to be published.
#[derive(Debug, Default)]
pub(super) struct ToPublish {
    pub(super) specs: Vec<PublishSpec>,
    /// As [`AttachRequest::publish_once`] says.
    once: bool,
}

/// What is to be done for specs.
#[derive(Default)]
struct Planned {
    /// Published by the endpoint already.
    before: Vec<PublicationInfo>,
    /// Published by another endpoint of its container.
    standby: Vec<PublicationRecord>,
    /// To be bound.
    todo: VecDeque<Bind>,
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

impl Control {
    /// Publishes what `request` says; `reply` comes when clients are accepted, with what that is.
    pub(crate) fn publish_ports(&mut self, request: &PublishRequest, reply: Reply<Vec<PublicationInfo>>) {
        let during = format!("publish {}", printable(&request.endpoint));
        let planned = || {
            let at = self.endpoint_to_publish(&request.endpoint)?;
            let specs = parse_each(&request.publish)?;
            let Planned { before, todo, .. } = self.plan_binding(Some(&at), None, &specs)?;
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
        match self.keeper.check().and_then(|()| self.plan_binding(Some(&at), None, specs)) {
            Ok(Planned { before, todo, .. }) => self.bind_all(at, todo, Asker::Publish(reply, before)),
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
            self.publish(std::slice::from_ref(at));
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
    pub(super) fn publish_at_attach(&self, request: &AttachRequest, namespace: NamespaceId) -> Outcome<ToPublish> {
        let (specs, once) = (parse_each(&request.publish)?, request.publish_once);
        let container = Container { netns: &request.netns, namespace };
        self.plan_binding(None, once.then_some(container), &specs)?;
        Ok(ToPublish { specs, once })
    }

    /// Publishes for an endpoint that was just attached, and answers who attached it.
    pub(super) fn publish_attached(&mut self, at: &Place, publish: &ToPublish, reply: Reply<EndpointInfo>) {
        let container = self.endpoint(at).filter(|_| publish.once).map(Container::of);
        match self.plan_binding(Some(at), container, &publish.specs) {
            Ok(Planned { standby, todo, .. }) => {
                if let Some(endpoint) = self.endpoint_mut(at) {
                    // Its file says so along with what is bound.
                    endpoint.record.standby = standby;
                }
                self.bind_all(at.clone(), todo, Asker::Attach(reply));
            }
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

    /// What of `specs` is published by the endpoint already or, where `container` is given, by another of it, and what is to
    /// be bound.
    fn plan_binding(
        &self,
        at: Option<&Place>,
        container: Option<Container<'_>>,
        specs: &[PublishSpec],
    ) -> Outcome<Planned> {
        let endpoint = at.and_then(|at| self.networks.get(&at.network)?.endpoints.get(&at.name));
        let Planned { mut before, mut standby, mut todo } = Planned::default();
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
                    let record =
                        PublicationRecord { transport: wanted.transport, host: address, container: wanted.container };
                    if container.is_some_and(|container| self.is_published_by(container, &record)) {
                        standby.push(record);
                        continue;
                    }
                    self.refuse_taken(key)?;
                    if todo.iter().any(|bind: &Bind| overlap(bind.key(), key)) {
                        return Err(Refusal::Malformed(format!("port {} is asked for twice", shown(key))));
                    }
                }
                // Before each is compared with all.
                if todo.len() == SOCKETS_MAX {
                    return Err(Refusal::Failed(format!(
                        "more than {SOCKETS_MAX} sockets, which is the most of a daemon"
                    )));
                }
                let (transport, container) = (wanted.transport, wanted.container);
                todo.push_back(Bind { transport, address, container, paired: nth > 0 });
            }
        }
        Ok(Planned { before, standby, todo })
    }

    /// An error where an endpoint of ours has the port.
    fn refuse_taken(&self, key: SocketKey) -> Outcome<()> {
        let there = self.published.at(key.transport, key.address.port());
        if let Some(by) = there.iter().find(|p| overlap(key_of(p), key)) {
            let by = self.networks.values().find_map(|network| network.endpoints.with_port(by.port));
            let by = by.map_or_else(|| "an endpoint".into(), |endpoint| endpoint.key().0);
            return Err(Refusal::Conflict(format!("port {} is published by {by} already", shown(key))));
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
        self.publish(&[at]);
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
