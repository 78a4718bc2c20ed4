//! The endpoints of a network: by name, and found by what else is one endpoint's alone. Control's one thread owns them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Deref;

use super::docker::DockerId;
use super::endpoint::Endpoint;
use super::name::Name;
use crate::forwarding::PortId;
use crate::frame::Mac;

/// By name, as it is read. What an endpoint is found by here does not change while it is there.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    by_name: BTreeMap<Name, Endpoint>,
    by_mac: BTreeMap<Mac, Name>,
    by_port: BTreeMap<PortId, Name>,
    by_docker: BTreeMap<DockerId, Name>,
    /// In lower case. More than one is of a version that took names for two which differ in case alone.
    by_lower: BTreeMap<String, Vec<Name>>,
}

impl Deref for Endpoints {
    type Target = BTreeMap<Name, Endpoint>;

    fn deref(&self) -> &Self::Target {
        &self.by_name
    }
}

impl Endpoints {
    /// Adds an endpoint whose name, MAC and port are nobody's: who adds it has looked.
    pub(crate) fn insert(&mut self, endpoint: Endpoint) {
        let record = &endpoint.record;
        let name = record.name.clone();
        self.by_mac.insert(record.mac, name.clone());
        self.by_port.insert(record.port, name.clone());
        if let Some(docker) = &record.docker {
            self.by_docker.insert(docker.id.clone(), name.clone());
        }
        self.by_lower.entry(name.lower()).or_default().push(name.clone());
        self.by_name.insert(name, endpoint);
    }

    /// Takes the endpoint of that name out.
    pub(crate) fn remove(&mut self, name: &Name) -> Option<Endpoint> {
        let endpoint = self.by_name.remove(name)?;
        let record = &endpoint.record;
        self.by_mac.remove(&record.mac);
        self.by_port.remove(&record.port);
        if let Some(docker) = &record.docker {
            self.by_docker.remove(&docker.id);
        }
        if let Entry::Occupied(mut same) = self.by_lower.entry(name.lower()) {
            same.get_mut().retain(|other| other != name);
            if same.get().is_empty() {
                same.remove();
            }
        }
        Some(endpoint)
    }

    /// The endpoint of that name, to be changed.
    pub(crate) fn get_mut(&mut self, name: &Name) -> Option<&mut Endpoint> {
        self.by_name.get_mut(name)
    }

    /// Who has `name`, or one that differs from it in upper and lower case alone, which are one in the names at the gateway.
    pub(crate) fn with_name_as(&self, name: &Name) -> Option<&Endpoint> {
        self.by_name.get(name).or_else(|| self.by_name.get(self.by_lower.get(&name.lower())?.first()?))
    }

    /// Whose `mac` is.
    pub(crate) fn with_mac(&self, mac: Mac) -> Option<&Endpoint> {
        self.by_name.get(self.by_mac.get(&mac)?)
    }

    /// Whose `port` is.
    pub(crate) fn with_port(&self, port: PortId) -> Option<&Endpoint> {
        self.by_name.get(self.by_port.get(&port)?)
    }

    /// What Docker calls `id`.
    pub(crate) fn with_docker_id(&self, id: &DockerId) -> Option<&Endpoint> {
        self.by_name.get(self.by_docker.get(id)?)
    }
}
