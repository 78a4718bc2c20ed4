//! What the workers' sockets go by: for each network whether it has a way out, what of the host may be reached, and what is
//! published. Immutable; control makes a new one with each publication, workers only read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::engine::{self, Snapshot};
use crate::forwarding::{DropReason, PortId};
use crate::gateway::DNS;

use super::user::User;

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// By the network's index in the snapshot.
    pub networks: Vec<NetworkPlan>,
    /// What is published, on any network.
    pub publications: Vec<Arc<Publication>>,
}

impl engine::Plan for Plan {
    type Local = User;
}

/// What one network's sockets go by.
#[derive(Clone, Debug)]
pub struct NetworkPlan {
    /// Its name.
    pub name: Arc<str>,
    /// Its uplink is `user`.
    pub egress: bool,
    /// Its containers may reach the host.
    pub host_access: bool,
    /// The gateway's addresses.
    pub gateway4: Ipv4Addr,
    /// The same for IPv6.
    pub gateway6: Option<Ipv6Addr>,
    /// The address by which containers reach the host, where they may.
    pub host4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub host6: Option<Ipv6Addr>,
}

/// TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A port of the host that leads to a port of a container.
#[derive(Debug)]
pub struct Publication {
    /// Never used again.
    pub id: u64,
    /// The endpoint's port.
    pub port: PortId,
    /// TCP or UDP.
    pub transport: Transport,
    /// Where the socket is bound.
    pub host: SocketAddr,
    /// Where the container listens.
    pub container: u16,
    /// Bound, and listening where it is TCP; non-blocking.
    pub socket: OwnedFd,
}

/// Where a packet of a container goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To this address, through a socket of the switch.
    Far(SocketAddr),
    /// To the names served at the gateway.
    Names,
}

impl Plan {
    /// Where a packet of `network` to `to` goes.
    ///
    /// # Errors
    /// Why it must not go there, or that nobody is there.
    pub fn destination(
        &self,
        network: u32,
        transport: Option<Transport>,
        to: SocketAddr,
    ) -> Result<Destination, DropReason> {
        let plan = &self.networks[network as usize];
        let is_gateway = match to.ip() {
            IpAddr::V4(v4) => v4 == plan.gateway4,
            IpAddr::V6(v6) => plan.gateway6 == Some(v6),
        };
        if is_gateway {
            return if transport.is_some() && to.port() == DNS {
                Ok(Destination::Names)
            } else {
                Err(DropReason::NoService)
            };
        }
        if !plan.egress { Err(DropReason::NoUplink) } else { Ok(Destination::Far(to)) }
    }

    /// What is published of the endpoint behind `port`.
    pub fn published_of(&self, port: PortId) -> impl Iterator<Item = &Arc<Publication>> {
        self.publications.iter().filter(move |publication| publication.port == port)
    }
}

/// The snapshot that carries it.
pub type View = Snapshot<Plan>;
