use super::*;

const HOST: &str = "192.0.2.5:8080";
const GATEWAY: &str = "10.0.0.1:8080";

/// One network: 10.0.0.0/24 and fd00::/64, beside 10.0.9.0/24, on a host that is 192.0.2.5 and 2001:db8::5.
fn plan(egress: bool, host_access: bool) -> Plan {
    let local = ["192.0.2.5/32", "127.0.0.0/8", "2001:db8::5/128", "::1/128"].map(|net| net.parse().unwrap());
    let host = crate::uplink::HostAddresses::new(local.into_iter(), [].into_iter());
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
    Plan { networks: vec![network], refused: Refused::new(host.into(), ours.into_iter()), publications: Vec::new() }
}

/// Without a way out, but with ports that are published there.
fn publishing(published: &[(Transport, &str)]) -> Plan {
    let publication = |(id, (transport, host)): (u64, &(Transport, &str))| {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into();
        let (port, host) = (PortId(1), host.parse().unwrap());
        Arc::new(Publication { id, port, transport: *transport, host, container: 80, socket })
    };
    Plan { publications: (0..).zip(published).map(publication).collect(), ..plan(false, false) }
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
    let confirm = |plan: &Plan, near: &str, far: &str| {
        plan.confirm(0, Some(Transport::Tcp), near.parse().unwrap(), far.parse().unwrap())
    };
    assert_eq!(confirm(&plan(true, false), "203.0.113.9", "198.51.100.1:80"), Ok(()));
    assert_eq!(confirm(&plan(true, false), "203.0.113.9", "203.0.113.9:80"), Err(DropReason::HostAccess));
    assert_eq!(confirm(&plan(true, true), "203.0.113.9", "203.0.113.9:80"), Ok(()));
    let published = publishing(&[(Transport::Tcp, "0.0.0.0:80")]);
    assert_eq!(confirm(&published, "203.0.113.9", "203.0.113.9:80"), Ok(()), "everybody may");
    assert_eq!(confirm(&published, "203.0.113.9", "203.0.113.9:81"), Err(DropReason::HostAccess));
}

#[test]
fn a_published_port_is_reached_at_the_host_and_at_the_gateway() {
    let plan = publishing(&[(Transport::Tcp, "0.0.0.0:8080"), (Transport::Tcp, "[::]:8080")]);
    assert_eq!(to(&plan, HOST), far(HOST));
    assert_eq!(to(&plan, GATEWAY), far("127.0.0.1:8080"));
    assert_eq!(to(&plan, "[2001:db8::5]:8080"), far("[2001:db8::5]:8080"));
    assert_eq!(to(&plan, "[fd00::1]:8080"), far("[::1]:8080"));
}

#[test]
fn one_at_an_address_is_reached_there_and_by_the_gateway() {
    let plan = publishing(&[(Transport::Tcp, HOST)]);
    assert_eq!(to(&plan, HOST), far(HOST));
    assert_eq!(to(&plan, GATEWAY), far(HOST));
    assert_eq!(to(&plan, "[fd00::1]:8080"), Err(DropReason::NoService));
}

#[test]
fn one_at_loopback_is_for_the_host_alone() {
    let plan = publishing(&[(Transport::Tcp, "127.0.0.1:8080"), (Transport::Tcp, "[::1]:8080")]);
    for there in [GATEWAY, "[fd00::1]:8080"] {
        assert_eq!(to(&plan, there), Err(DropReason::NoService), "{there}");
    }
    for there in [HOST, "127.0.0.1:8080", "[::1]:8080"] {
        assert_eq!(to(&plan, there), Err(DropReason::NoUplink), "{there}");
    }
}

#[test]
fn nothing_else_is_opened_by_a_published_port() {
    let plan = publishing(&[(Transport::Tcp, "0.0.0.0:8080"), (Transport::Tcp, "0.0.0.0:53")]);
    let host = HOST.parse().unwrap();
    assert_eq!(plan.destination(0, Some(Transport::Udp), host), Err(DropReason::NoUplink));
    assert_eq!(plan.destination(0, None, host), Err(DropReason::NoUplink));
    for there in ["192.0.2.5:8081", "192.0.2.8:8080", "169.254.169.254:8080", "127.0.0.1:8080", "0.0.0.0:8080"] {
        assert_eq!(to(&plan, there), Err(DropReason::NoUplink), "{there}");
    }
    assert_eq!(to(&plan, "10.0.0.1:8081"), Err(DropReason::NoService));
    assert_eq!(to(&plan, "10.0.0.1:53"), Ok(Destination::Names), "the gateway's own names come first");
}
