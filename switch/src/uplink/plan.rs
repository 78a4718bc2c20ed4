//! What the workers' sockets go by: for each network whether it has a way out, what of the host may be reached, and what is
//! published. Immutable; control makes a new one with each publication, workers only read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::engine::{self, Snapshot};
use crate::forwarding::{DropReason, PortId};
use crate::gateway::DNS;

use super::published::Published;
use super::refused::Refused;
use super::user::User;

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// By the network's index in the snapshot.
    pub networks: Vec<NetworkPlan>,
    /// What is published, on any network.
    pub published: Published,
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

    /// Whether a packet of `network` may go by a socket of the switch that is connected to `far`: asked before anything of the
    /// container's is sent by it. An address that the host got only now is not refused yet; whether what is sent there
    /// `leaves` the host is asked of the kernel, where it matters.
    ///
    /// # Errors
    /// It reached the host, and the network may not; what is published there everybody may reach.
    pub fn confirm(
        &self,
        network: u32,
        transport: Option<Transport>,
        far: SocketAddr,
        leaves: impl FnOnce() -> bool,
    ) -> Result<(), DropReason> {
        let may = self.networks[network as usize].host_access || self.is_published(transport, far) || leaves();
        if may { Ok(()) } else { Err(DropReason::HostAccess) }
    }
}

/// The snapshot that carries it.
pub type View = Snapshot<Plan>;

#[cfg(test)]
mod tests {
    use super::*;

    /// One network: 10.0.0.0/24 and fd00::/64, beside 10.0.9.0/24, on a host that is 192.0.2.5.
    fn plan(egress: bool, host_access: bool) -> Plan {
        let host = crate::uplink::HostAddresses::new(["192.0.2.5/32".parse().unwrap()].into_iter(), [].into_iter());
        let ours = ["10.0.0.0/24", "fd00::/64", "10.0.9.0/24"].map(|net| net.parse().unwrap());
        let network = NetworkPlan {
            name: "n".into(),
            egress,
            host_access,
            gateway4: Ipv4Addr::new(10, 0, 0, 1),
            gateway6: "fd00::1".parse().ok(),
            host4: host_access.then_some(Ipv4Addr::new(10, 0, 0, 254)),
            host6: if host_access { "fd00::fe".parse().ok() } else { None },
        };
        Plan { networks: vec![network], refused: Refused::new(host.into(), ours.into_iter()), ..Plan::default() }
    }

    fn to(plan: &Plan, to: &str) -> Result<Destination, DropReason> {
        plan.destination(0, Some(Transport::Tcp), to.parse().unwrap())
    }

    fn far(to: &str) -> Result<Destination, DropReason> {
        Ok(Destination::Far(to.parse().unwrap()))
    }

    #[test]
    fn what_is_far_is_far_and_what_is_the_hosts_or_ours_is_refused() {
        let plan = plan(true, false);
        assert_eq!(to(&plan, "198.51.100.1:80"), far("198.51.100.1:80"));
        assert_eq!(to(&plan, "192.0.2.5:80"), Err(DropReason::HostAccess));
        assert_eq!(to(&plan, "10.0.9.2:80"), Err(DropReason::NoUplink));
        assert_eq!(to(&plan, "10.0.0.254:80"), Err(DropReason::NoUplink), "there is no such address");
    }

    #[test]
    fn with_host_access_the_hosts_own_address_leads_to_its_loopback() {
        for egress in [true, false] {
            let plan = plan(egress, true);
            assert_eq!(to(&plan, "10.0.0.254:80"), far("127.0.0.1:80"));
            assert_eq!(to(&plan, "[fd00::fe]:80"), far("[::1]:80"));
            let by_another = if egress { far("192.0.2.5:80") } else { Err(DropReason::NoUplink) };
            assert_eq!(to(&plan, "192.0.2.5:80"), by_another);
            assert_eq!(to(&plan, "10.0.9.2:80"), Err(DropReason::NoUplink));
        }
    }

    #[test]
    fn a_connected_socket_that_reached_the_host_is_refused_though_its_address_was_not_known() {
        let far = "198.51.100.1:80".parse().unwrap();
        let confirm =
            |host_access, leaves: bool| plan(true, host_access).confirm(0, Some(Transport::Tcp), far, || leaves);
        assert_eq!(confirm(false, true), Ok(()));
        assert_eq!(confirm(false, false), Err(DropReason::HostAccess));
        assert_eq!(confirm(true, false), Ok(()));
    }
}
