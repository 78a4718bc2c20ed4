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
    /// Addresses of the host itself.
    pub addresses: Arc<[IpAddr]>,
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
        if !plan.egress { Err(DropReason::NoUplink) } else { Ok(Destination::Far(to)) }
    }

    /// Where a container is led that asks for a published port at the gateway or at an address of the host. Such a port is
    /// open for everybody, whatever else of the host may not be reached; one at a loopback address is for the host's own
    /// processes alone.
    fn hairpin(&self, is_gateway: bool, transport: Option<Transport>, to: SocketAddr) -> Option<SocketAddr> {
        let is_host = !to.ip().is_loopback() && self.addresses.contains(&to.ip());
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
mod tests {
    use super::*;

    const HOST: &str = "192.0.2.7:8080";
    const GATEWAY: &str = "10.1.0.1:8080";

    /// One network without a way out, and what is published where.
    fn plan(published: &[(Transport, &str)]) -> Plan {
        let network = NetworkPlan {
            name: "default".into(),
            egress: false,
            host_access: false,
            gateway4: [10, 1, 0, 1].into(),
            gateway6: Some("fd00::1".parse().unwrap()),
            host4: None,
            host6: None,
        };
        let publication = |(id, (transport, host)): (u64, &(Transport, &str))| {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into();
            let (port, host) = (PortId(1), host.parse().unwrap());
            Arc::new(Publication { id, port, transport: *transport, host, container: 80, socket })
        };
        Plan {
            networks: vec![network],
            publications: (0..).zip(published).map(publication).collect(),
            addresses: ["192.0.2.7", "127.0.0.1", "2001:db8::7", "::1"].map(|ip| ip.parse().unwrap()).into(),
        }
    }

    fn tcp(plan: &Plan, to: &str) -> Result<Destination, DropReason> {
        plan.destination(0, Some(Transport::Tcp), to.parse().unwrap())
    }

    fn far(to: &str) -> Result<Destination, DropReason> {
        Ok(Destination::Far(to.parse().unwrap()))
    }

    #[test]
    fn a_published_port_is_reached_at_the_host_and_at_the_gateway() {
        let plan = plan(&[(Transport::Tcp, "0.0.0.0:8080"), (Transport::Tcp, "[::]:8080")]);
        assert_eq!(tcp(&plan, HOST), far(HOST));
        assert_eq!(tcp(&plan, GATEWAY), far("127.0.0.1:8080"));
        assert_eq!(tcp(&plan, "[2001:db8::7]:8080"), far("[2001:db8::7]:8080"));
        assert_eq!(tcp(&plan, "[fd00::1]:8080"), far("[::1]:8080"));
    }

    #[test]
    fn one_at_an_address_is_reached_there_and_by_the_gateway() {
        let plan = plan(&[(Transport::Tcp, HOST)]);
        assert_eq!(tcp(&plan, HOST), far(HOST));
        assert_eq!(tcp(&plan, GATEWAY), far(HOST));
        assert_eq!(tcp(&plan, "[fd00::1]:8080"), Err(DropReason::NoService));
    }

    #[test]
    fn one_at_loopback_is_for_the_host_alone() {
        let plan = plan(&[(Transport::Tcp, "127.0.0.1:8080"), (Transport::Tcp, "[::1]:8080")]);
        for to in [GATEWAY, "[fd00::1]:8080"] {
            assert_eq!(tcp(&plan, to), Err(DropReason::NoService), "{to}");
        }
        for to in [HOST, "127.0.0.1:8080", "[::1]:8080"] {
            assert_eq!(tcp(&plan, to), Err(DropReason::NoUplink), "{to}");
        }
    }

    #[test]
    fn nothing_else_is_opened_by_a_published_port() {
        let plan = plan(&[(Transport::Tcp, "0.0.0.0:8080"), (Transport::Tcp, "0.0.0.0:53")]);
        let to = HOST.parse().unwrap();
        assert_eq!(plan.destination(0, Some(Transport::Udp), to), Err(DropReason::NoUplink));
        assert_eq!(plan.destination(0, None, to), Err(DropReason::NoUplink));
        for to in ["192.0.2.7:8081", "192.0.2.8:8080", "169.254.169.254:8080", "127.0.0.1:8080", "0.0.0.0:8080"] {
            assert_eq!(tcp(&plan, to), Err(DropReason::NoUplink), "{to}");
        }
        assert_eq!(tcp(&plan, "10.1.0.1:8081"), Err(DropReason::NoService));
        assert_eq!(tcp(&plan, "10.1.0.1:53"), Ok(Destination::Names), "the gateway's own names come first");
    }
}
