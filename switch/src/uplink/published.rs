//! What is published, found by the container's port and by the host's. A copy shares what is the same, so that a publication
//! comes and goes at the same cost however many there are. Immutable in a plan: workers read.

use std::sync::Arc;

use super::{Publication, Transport};
use crate::forwarding::PortId;
use crate::persistent::Map;

type List = Arc<[Arc<Publication>]>;

/// All of it, on any network.
#[derive(Clone, Debug, Default)]
pub struct Published {
    of: Map<PortId, List>,
    at: Map<u32, List>,
    changes: u64,
}

impl Published {
    /// What the endpoint behind `port` publishes from now on, in this order.
    pub fn set(&mut self, port: PortId, publications: &[Arc<Publication>]) {
        let before = self.of(port).to_vec();
        let is_in = |list: &[Arc<Publication>], one: &Publication| list.iter().any(|other| other.id == one.id);
        let gone = before.iter().filter(|one| !is_in(publications, one));
        let new = publications.iter().filter(|one| !is_in(&before, one));
        let mut changes = 0;
        for one in gone.clone().chain(new.clone()) {
            let key = key(one.transport, one.host.port());
            let rest = self.at.get(&key).into_iter().flat_map(|list| list.iter()).filter(|other| other.id != one.id);
            let mut list: Vec<_> = rest.cloned().chain(is_in(publications, one).then(|| one.clone())).collect();
            list.sort_by_key(|one| (one.host, one.id));
            if list.is_empty() {
                self.at.remove(&key)
            } else {
                self.at.insert(key, list.into())
            };
            changes += 1;
        }
        if changes > 0 {
            self.changes += 1;
            if publications.is_empty() {
                self.of.remove(&port)
            } else {
                self.of.insert(port, publications.into())
            };
        }
    }

    /// What the endpoint behind `port` publishes.
    pub fn of(&self, port: PortId) -> &[Arc<Publication>] {
        self.of.get(&port).map_or(&[], |list| list)
    }

    /// What is published at a port of the host, by address.
    pub fn at(&self, transport: Transport, port: u16) -> &[Arc<Publication>] {
        self.at.get(&key(transport, port)).map_or(&[], |list| list)
    }

    /// Rises with every change.
    pub fn changes(&self) -> u64 {
        self.changes
    }
}

fn key(transport: Transport, port: u16) -> u32 {
    u32::from(port) << 1 | u32::from(transport == Transport::Udp)
}

impl FromIterator<Arc<Publication>> for Published {
    fn from_iter<T: IntoIterator<Item = Arc<Publication>>>(all: T) -> Self {
        let mut published = Published::default();
        for one in all {
            let list = [published.of(one.port), std::slice::from_ref(&one)].concat();
            published.set(one.port, &list);
        }
        published
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    fn publication(id: u64, port: u32, host: u16) -> Arc<Publication> {
        let transport = if id.is_multiple_of(2) { Transport::Tcp } else { Transport::Udp };
        let host = (Ipv4Addr::new(127, 0, 0, 1 + (id % 3) as u8), host).into();
        let socket = std::fs::File::open("/dev/null").unwrap().into();
        Arc::new(Publication { id, port: PortId(port), transport, host, container: 80, socket })
    }

    proptest! {
        #[test]
        fn it_holds_what_was_set_last(sets in prop::collection::vec((0..4_u32, prop::collection::vec(0..5_u16, 0..4)), 1..20)) {
            let mut published = Published::default();
            let mut model: BTreeMap<u32, Vec<Arc<Publication>>> = BTreeMap::new();
            let mut id = 0;
            for (port, hosts) in sets {
                // What was there before stays or goes; the rest is new.
                let mut list: Vec<_> = model.remove(&port).unwrap_or_default();
                list.truncate(hosts.len() / 2);
                for host in &hosts[list.len()..] {
                    id += 1;
                    list.push(publication(id, port, *host));
                }
                published.set(PortId(port), &list);
                model.insert(port, list);
                let ids = |list: &[Arc<Publication>]| list.iter().map(|one| one.id).collect::<Vec<_>>();
                for port in 0..4 {
                    prop_assert_eq!(ids(published.of(PortId(port))), ids(model.get(&port).map_or(&[], |list| list)));
                }
                for host in 0..5 {
                    for transport in [Transport::Tcp, Transport::Udp] {
                        let is_it = |one: &&Arc<Publication>| one.transport == transport && one.host.port() == host;
                        let mut all: Vec<_> = model.values().flatten().filter(is_it).map(|one| (one.host, one.id)).collect();
                        all.sort_unstable();
                        prop_assert_eq!(ids(published.at(transport, host)), all.iter().map(|one| one.1).collect::<Vec<_>>());
                    }
                }
            }
        }
    }
}
