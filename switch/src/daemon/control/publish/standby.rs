//! One container on several networks. Its engine asks for the same ports with each of them, and a port of the host leads to one
//! endpoint: to the first. The others stand by, which is in their files, and when the one that publishes goes, what they stand
//! by for goes to one of them: the same socket, without a moment in which it is closed.
//!
//! Of one container are endpoints of one namespace that the client called the same. Of several that stand by the first of them, by
//! the name of its device, is the one that publishes next.

use std::collections::BTreeSet;
use std::sync::Arc;

use tapswitch_netns::NamespaceId;

use super::super::Control;
use super::super::resolve::Place;
use super::record_of;
use crate::daemon::endpoint::Endpoint;
use crate::daemon::state::PublicationRecord;
use crate::uplink::Publication;

/// What endpoints of one container have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Container<'a> {
    pub(super) netns: &'a str,
    pub(super) namespace: NamespaceId,
}

impl<'a> Container<'a> {
    pub(super) fn of(endpoint: &'a Endpoint) -> Self {
        Container { netns: &endpoint.record.netns, namespace: endpoint.record.namespace }
    }
}

impl Control {
    /// Whether an endpoint of `container` publishes just that.
    pub(super) fn is_published_by(&self, container: Container<'_>, record: &PublicationRecord) -> bool {
        let there = self.published.at(record.transport, record.host.port()).iter();
        let whose = |p: &Arc<Publication>| self.networks.values().find_map(|n| n.endpoints.with_port(p.port));
        there.filter(|p| record_of(p) == *record).filter_map(whose).any(|by| Container::of(by) == container)
    }

    /// Gives what endpoints published that go to those that stand by for it. Returns who got some, and what nobody got. The workers
    /// are to be told.
    pub(in crate::daemon::control) fn pass_on(
        &mut self,
        going: Vec<(Place, Vec<Arc<Publication>>)>,
    ) -> (BTreeSet<Place>, Vec<Arc<Publication>>) {
        let (mut heirs, mut left) = (BTreeSet::new(), Vec::new());
        for (from, publications) in going {
            for publication in publications {
                let heir = self.heir(&from, &record_of(&publication));
                match heir.filter(|at| self.inherit(at, &publication)) {
                    Some(at) => drop(heirs.insert(at)),
                    None => left.push(publication),
                }
            }
        }
        (heirs, left)
    }

    /// Who stands by for what the endpoint at `from` published.
    fn heir(&self, from: &Place, published: &PublicationRecord) -> Option<Place> {
        let container = Container::of(self.networks.get(&from.network)?.endpoints.get(&from.name)?);
        let first = (container.namespace, String::new());
        let there = self.devices.range(first..).take_while(|((namespace, _), _)| *namespace == container.namespace);
        let there = there.filter_map(|(_, at)| self.networks.get(&at.network)?.endpoints.get(&at.name));
        let mut stand_by = there.filter(|e| e.port().is_some() && e.record.standby.contains(published));
        stand_by.find(|e| Container::of(e) == container).map(Endpoint::place)
    }

    /// Whether the endpoint at `at` publishes from now on what another did; if not, why is a warning.
    fn inherit(&mut self, at: &Place, publication: &Publication) -> bool {
        let Some(endpoint) = self.endpoint(at) else { return false };
        let (port, published) = (endpoint.record.port, record_of(publication));
        let mut record = endpoint.record.clone();
        record.standby.retain(|other| *other != published);
        record.published.push(published);
        record.published.sort_unstable();
        let fd = match publication.socket.try_clone() {
            Ok(fd) => fd,
            Err(error) => {
                self.warn(format!("{at}: publish what its container did: {error}"));
                return false;
            }
        };
        if let Err(refusal) = self.keep(at, record) {
            self.warn(format!("{at}: publish what its container did: {refusal}"));
            return false;
        }
        let publication = self.publication(port, &published, fd);
        if let Some(endpoint) = self.endpoint_mut(at) {
            endpoint.publications.push(publication);
            endpoint.publications.sort_unstable_by_key(|p| record_of(p));
        }
        true
    }
}
