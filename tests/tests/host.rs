//! The range of the default network on hosts whose addresses and routes stand in its way. Each host is a namespace.

use std::rc::Rc;
use std::time::Duration;

use tapswitch_tests::{Container, Session, Switch, Who, eventually, run};

#[test]
fn on_an_empty_host_the_default_network_is_docker0s_as_root() {
    let switch = on_host(Who::Root, "true");
    assert_eq!(switch.json(&["network", "inspect", "default"])["subnet"], "172.17.0.0/16");
    assert_eq!(warnings(&switch), "[]");
}

#[test]
fn a_route_to_172_17_moves_the_default_network_to_172_18_as_root() {
    for who in [Who::Root, Who::User] {
        let switch = on_host(who, "ip route add 172.17.0.0/16 dev lo");
        assert_eq!(switch.json(&["network", "inspect", "default"])["subnet"], "172.18.0.0/16");
        let (a, b) = (Container::new(&switch, "a"), Container::new(&switch, "b"));
        assert!(a.reaches(b.ipv4()));
    }
}

#[test]
fn addresses_and_routes_of_other_tables_count_too_as_root() {
    let switch = on_host(
        Who::Root,
        "ip address add 172.17.5.5/24 dev lo; ip route add 172.18.9.0/24 dev lo table 77; ip route add blackhole 172.19.0.0/16",
    );
    assert_eq!(switch.json(&["network", "inspect", "default"])["subnet"], "172.19.0.0/16", "a blackhole is nobody's");
}

#[test]
fn with_a_vpn_over_all_private_ranges_it_starts_and_warns_as_root() {
    let vpn = "ip tuntap add dev vpn0 mode tun; ip address add 100.64.0.2/24 dev vpn0; ip link set vpn0 up
        for net in 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16; do ip route add $net via 100.64.0.1 dev vpn0; done";
    for who in [Who::Root, Who::User] {
        let switch = on_host(who, vpn);
        assert_eq!(switch.json(&["network", "inspect", "default"])["subnet"], "172.17.0.0/16");
        assert!(warnings(&switch).contains("172.16.0.0/12"), "{}", warnings(&switch));
    }
}

#[test]
fn with_every_pool_on_link_the_error_says_so_as_root() {
    let session = Session::with_own_host(
        Who::Root,
        "for net in 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16; do ip route add $net dev lo scope link; done",
    );
    let line = run(Switch::up(&session, &[]), Duration::from_secs(30)).one_line_of_failure(1);
    assert!(line.contains("--subnet"), "the remedy is not named: {line}");
}

#[test]
fn a_colliding_route_that_appears_later_is_reported_as_root() {
    let switch = on_host(Who::Root, "true");
    assert_eq!(warnings(&switch), "[]");
    let host = switch.session().host_pid().expect("this session has its own host");
    let change = |verb: &str| {
        let mut command = std::process::Command::new(tapswitch_tests::tool("nsenter"));
        command.arg(format!("--net=/proc/{host}/ns/net")).args(["ip", "route", verb, "172.17.4.0/24", "dev", "lo"]);
        run(command, Duration::from_secs(10)).ok();
    };
    change("add");
    eventually("a warning", Duration::from_secs(10), || warnings(&switch).contains("172.17.4.0/24"));
    assert!(switch.log().contains("172.17.4.0/24"), "not in the log: {}", switch.log());
    change("del");
    eventually("the warning to go", Duration::from_secs(10), || warnings(&switch) == "[]");
}

fn on_host(who: Who, setup: &str) -> Switch {
    Switch::start_in(Rc::new(Session::with_own_host(who, setup)), &[])
}

fn warnings(switch: &Switch) -> String {
    switch.json(&["status"])["warnings"].to_string()
}
