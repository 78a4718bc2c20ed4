//! What the workers' sockets go by: for each network whether it has a way out, what of the host may be reached, and what is
//! published. Immutable; control makes a new one with each publication, workers only read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::engine::{self, Snapshot};
use crate::forwarding::{DropReason, PortId};
use crate::gateway::DNS;

use super::refused::{Refused, is_host_itself};
use super::user::User;

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// By the network's index in the snapshot.
    pub networks: Vec<NetworkPlan>,
    /// What is published, on any network.
    pub publications: Vec<Arc<Publication>>,
    /// Where no network's packets go.
    pub refused: Refused,
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

impl NetworkPlan {
    /// The host's loopback address of the family of `to`, where that is the address by which it is reached. Not under
    /// the uplink `host`, where the host has that address itself.
    fn host(&self, to: IpAddr) -> Option<IpAddr> {
        let is_host = match to {
            IpAddr::V4(v4) => self.host4 == Some(v4),
            IpAddr::V6(v6) => self.host6 == Some(v6),
        };
        let loopback = match to {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        (is_host && self.host_access).then_some(loopback)
    }
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

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        })
    }
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
        if is_gateway && transport.is_some() && to.port() == DNS {
            return Ok(Destination::Names);
        }
        if let Some(far) = self.hairpin(is_gateway, transport, to) {
            return Ok(Destination::Far(far));
        }
        if is_gateway {
            return Err(DropReason::NoService);
        }
        if let Some(loopback) = plan.host(to.ip()) {
            return Ok(Destination::Far(SocketAddr::new(loopback, to.port())));
        }
        if !plan.egress {
            return Err(DropReason::NoUplink);
        }
        self.refused.check(to.ip(), plan.host_access)?;
        Ok(Destination::Far(to))
    }

    /// Whether a packet of `network` may go by a socket of the switch that is connected, and thereby has the address `near`:
    /// asked before anything of the container's is sent by it. An address that the host got only now is not refused yet.
    ///
    /// # Errors
    /// It reached the host, and the network may not; a published port is open for everybody.
    pub fn confirm(
        &self,
        network: u32,
        transport: Option<Transport>,
        near: IpAddr,
        far: SocketAddr,
    ) -> Result<(), DropReason> {
        if self.networks[network as usize].host_access || !is_host_itself(near, far.ip()) {
            return Ok(());
        }
        let is_published = |p: &Publication| {
            let open = p.host.ip().is_unspecified() || p.host.ip() == far.ip();
            Some(p.transport) == transport && p.host.port() == far.port() && p.host.is_ipv4() == far.is_ipv4() && open
        };
        if self.publications.iter().any(|p| is_published(p)) { Ok(()) } else { Err(DropReason::HostAccess) }
    }

    /// Where a container is led that asks for a published port at the gateway or at an address of the host. Such a port is
    /// open for everybody, whatever else of the host may not be reached; one at a loopback address is for the host's own
    /// processes alone.
    fn hairpin(&self, is_gateway: bool, transport: Option<Transport>, to: SocketAddr) -> Option<SocketAddr> {
        let is_host = !to.ip().is_loopback() && self.refused.is_host(to.ip());
        if !is_gateway && !is_host {
            return None;
        }
        let mut bound = self.publications.iter().filter(|p| Some(p.transport) == transport).map(|p| p.host);
        let hit = |host: SocketAddr| {
            let open = if is_gateway { !host.ip().is_loopback() } else { host.ip() == to.ip() };
            host.port() == to.port() && host.is_ipv4() == to.is_ipv4() && (open || host.ip().is_unspecified())
        };
        let host = bound.find(|host| hit(*host))?;
        let ip = match host.ip() {
            ip if !ip.is_unspecified() => ip,
            _ if is_host => to.ip(),
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        Some(SocketAddr::new(ip, to.port()))
    }

    /// What is published of the endpoint behind `port`.
    pub fn published_of(&self, port: PortId) -> impl Iterator<Item = &Arc<Publication>> {
        self.publications.iter().filter(move |publication| publication.port == port)
    }
}

/// The snapshot that carries it.
pub type View = Snapshot<Plan>;

#[cfg(test)]
mod tests;
