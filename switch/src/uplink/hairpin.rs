//! Containers that ask for published ports: at the gateway, or at an address of the host.
//!
//! A published port is open for everybody, whatever else of the host a network may not reach. The way there is a socket
//! of ours to the publication's, as any client's; it is bound to the host, so nothing of another's is reached by it. One at a
//! loopback address is for the host's own processes alone. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Plan, Transport};

impl Plan {
    /// Where a container is led that asks for a published port at `to`; `None` where none is there.
    pub(super) fn hairpin(&self, is_gateway: bool, transport: Option<Transport>, to: SocketAddr) -> Option<SocketAddr> {
        if !is_gateway && !self.refused.is_host(to.ip()) {
            return None;
        }
        let bound = self.bound(transport, to);
        let open =
            |host: &IpAddr| if is_gateway { !host.is_loopback() } else { *host == to.ip() || host.is_unspecified() };
        let ip = match bound.into_iter().find(open)? {
            host if !host.is_unspecified() => host,
            _ if !is_gateway => to.ip(),
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        Some(SocketAddr::new(ip, to.port()))
    }

    /// Whether a socket that reached the host at `far` reached what is published.
    pub(super) fn is_published(&self, transport: Option<Transport>, far: SocketAddr) -> bool {
        self.bound(transport, far).any(|host| host == far.ip() || host.is_unspecified())
    }

    /// At which addresses of its family the port of `to` is published.
    fn bound(&self, transport: Option<Transport>, to: SocketAddr) -> impl Iterator<Item = IpAddr> + use<'_> {
        let is_it = move |host: &SocketAddr| host.is_ipv4() == to.is_ipv4();
        let all = transport.map_or(&[][..], |transport| self.published.at(transport, to.port()));
        all.iter().map(|publication| publication.host).filter(is_it).map(|host| host.ip())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::plan::Destination;
    use super::super::{HostAddresses, NetworkPlan, Publication, Refused};
    use super::*;
    use crate::forwarding::{DropReason, PortId};

    const HOST: &str = "192.0.2.7:8080";
    const GATEWAY: &str = "10.1.0.1:8080";

    /// A network that may not reach the host, and what is published where.
    fn plan(egress: bool, published: &[(Transport, &str)]) -> Plan {
        let local = ["192.0.2.7/32", "127.0.0.0/8", "2001:db8::7/128", "::1/128"].map(|net| net.parse().unwrap());
        let network = NetworkPlan {
            name: "default".into(),
            egress,
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
        let host = HostAddresses::new(local.into_iter(), [].into_iter());
        Plan {
            networks: vec![network],
            published: (0..).zip(published).map(publication).collect(),
            refused: Refused::new(host.into(), [].into_iter()),
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
        for egress in [true, false] {
            let plan = plan(egress, &[(Transport::Tcp, "0.0.0.0:8080"), (Transport::Tcp, "[::]:8080")]);
            assert_eq!(tcp(&plan, HOST), far(HOST));
            assert_eq!(tcp(&plan, GATEWAY), far("127.0.0.1:8080"));
            assert_eq!(tcp(&plan, "[2001:db8::7]:8080"), far("[2001:db8::7]:8080"));
            assert_eq!(tcp(&plan, "[fd00::1]:8080"), far("[::1]:8080"));
        }
    }

    #[test]
    fn one_at_an_address_is_reached_there_and_by_the_gateway() {
        let plan = plan(true, &[(Transport::Tcp, HOST)]);
        assert_eq!(tcp(&plan, HOST), far(HOST));
        assert_eq!(tcp(&plan, GATEWAY), far(HOST));
        assert_eq!(tcp(&plan, "[fd00::1]:8080"), Err(DropReason::NoService));
    }

    #[test]
    fn one_at_loopback_is_for_the_host_alone() {
        let plan = plan(true, &[(Transport::Tcp, "127.0.0.1:8080"), (Transport::Tcp, "[::1]:8080")]);
        for to in [GATEWAY, "[fd00::1]:8080"] {
            assert_eq!(tcp(&plan, to), Err(DropReason::NoService), "{to}");
        }
        for to in [HOST, "127.0.0.1:8080", "[::1]:8080"] {
            assert_eq!(tcp(&plan, to), Err(DropReason::HostAccess), "{to}");
        }
    }

    #[test]
    fn nothing_else_is_opened_by_a_published_port() {
        let plan = plan(true, &[(Transport::Tcp, "0.0.0.0:8080"), (Transport::Tcp, "0.0.0.0:53")]);
        let to = HOST.parse().unwrap();
        assert_eq!(plan.destination(0, Some(Transport::Udp), to), Err(DropReason::HostAccess));
        assert_eq!(plan.destination(0, None, to), Err(DropReason::HostAccess));
        for to in ["192.0.2.7:8081", "169.254.169.254:8080", "127.0.0.1:8080"] {
            assert_eq!(tcp(&plan, to), Err(DropReason::HostAccess), "{to}");
        }
        assert_eq!(tcp(&plan, "0.0.0.0:8080"), Err(DropReason::NoUplink));
        assert_eq!(tcp(&plan, "192.0.2.8:8080"), far("192.0.2.8:8080"));
        assert_eq!(tcp(&plan, "10.1.0.1:8081"), Err(DropReason::NoService));
        assert_eq!(tcp(&plan, "10.1.0.1:53"), Ok(Destination::Names), "the gateway's own names come first");
    }

    #[test]
    fn a_connected_socket_that_reached_what_is_published_is_confirmed() {
        let plan = plan(true, &[(Transport::Tcp, "0.0.0.0:8080"), (Transport::Tcp, "192.0.2.9:81")]);
        let confirm = |transport, far: &str| plan.confirm(0, Some(transport), far.parse().unwrap(), || false);
        assert_eq!(confirm(Transport::Tcp, "127.0.0.1:8080"), Ok(()));
        assert_eq!(confirm(Transport::Tcp, HOST), Ok(()));
        for (transport, far) in
            [(Transport::Udp, HOST), (Transport::Tcp, "192.0.2.7:80"), (Transport::Tcp, "192.0.2.7:81")]
        {
            assert_eq!(confirm(transport, far), Err(DropReason::HostAccess), "{far}");
        }
    }
}
