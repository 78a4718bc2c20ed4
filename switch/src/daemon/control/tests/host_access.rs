//! The host's address on a network, and what the workers are told of the host's own.

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::forwarding::DropReason;
use crate::uplink::Transport;
use crate::uplink::plan::Destination;

/// Where the workers send a packet of the default network to `to`.
fn destination(daemon: &Daemon, to: &str) -> Result<Destination, DropReason> {
    let to = to.parse().unwrap();
    daemon.call(move |control| Ok(control.plan().destination(0, Some(Transport::Tcp), to))).unwrap()
}

fn set(daemon: &Daemon, host_access: bool) -> NetworkInfo {
    let set = NetworkSet { host_access: Some(host_access), ..NetworkSet::default() };
    wait(daemon.handle.ask(move |c, reply| c.set_network(&"default".parse().unwrap(), &set, reply))).unwrap()
}

#[test]
fn host_access_is_given_and_taken_live_and_outlives_a_restart() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    assert_eq!(destination(&daemon, "127.0.0.1:80"), Err(DropReason::HostAccess));
    let info = set(&daemon, true);
    assert_eq!((info.host_access, info.host), (true, Some(Ipv4Addr::new(10, 1, 0, 254))));
    let loopback = Ok(Destination::Far("127.0.0.1:80".parse().unwrap()));
    assert_eq!(destination(&daemon, "10.1.0.254:80"), loopback);
    let refused = daemon.attach_as(AttachRequest { ip: Some([10, 1, 0, 254].into()), ..AttachRequest::default() });
    assert!(refused.unwrap_err().to_string().contains("taken by host.tapswitch"));
    let keeper = daemon.stop();
    let daemon = Daemon::start(settings(dir.path()), 0, keeper, Box::new(|_| Act::Do)).unwrap();
    let taken = daemon.attach("host.tapswitch", "eth0").unwrap_err();
    assert!(taken.to_string().contains("the switch's own"), "{taken}");
    daemon.attach("web", "eth0").unwrap();
    assert_eq!(destination(&daemon, "10.1.0.254:80"), loopback);
    assert_eq!(set(&daemon, false).host, None);
    assert_eq!(destination(&daemon, "10.1.0.254:80"), Err(DropReason::NoUplink));
    daemon.stop();
}

#[test]
fn an_address_that_the_host_gets_is_refused_from_then_on() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    daemon.attach("web", "eth0").unwrap();
    let address: IpAddr = "192.0.2.5".parse().unwrap();
    assert!(destination(&daemon, "192.0.2.5:80").is_ok());
    daemon.host.send(Occupied { addresses: vec![address], ..Occupied::default() }).unwrap();
    until("it is refused", || destination(&daemon, "192.0.2.5:80") == Err(DropReason::HostAccess));
    daemon.host.send(Occupied::default()).unwrap();
    until("it is open again", || destination(&daemon, "192.0.2.5:80").is_ok());
    daemon.stop();
}

#[test]
fn another_networks_subnet_is_refused_as_soon_as_it_is_there() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    daemon.attach("web", "eth0").unwrap();
    assert!(destination(&daemon, "10.2.0.2:80").is_ok());
    // Its name is behind `default`, which stays the first.
    daemon.call(|control| control.create_network(&network("other", "10.2.0.0/24"), None)).unwrap();
    assert_eq!(destination(&daemon, "10.2.0.2:80"), Err(DropReason::NoUplink));
    daemon.stop();
}
