//! Ports of the host that lead to containers: for clients from afar, from the host and from containers; who may have them,
//! and how long.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tapswitch_tests::{Background, Container, Internet, Probe, Switch, Who, as_root_and_user, eventually};

const SOON: Duration = Duration::from_secs(10);
/// Where containers listen, and where clients find them.
const INSIDE: u16 = 80;
const OUTSIDE: u16 = 8080;

as_root_and_user! {
    fn a_client_from_afar_reaches_a_published_tcp_port_and_is_seen_as_itself(who: Who) {
        let internet = Internet::new(who);
        let switch = internet.switch(&["--icc", "false"]);
        let web = Container::with(&switch, "web", &["-p", "8080:80"]);
        let mut seen = serve(&web, "peer");
        for (host, far) in internet.host_addresses().into_iter().zip(internet.addresses()) {
            let said = Probe::ask(internet.far(), "read", host, OUTSIDE, &[]);
            assert_eq!(said, format!("ready\nyou are {far}\nend"));
            seen.wait_for_line(&format!("peer {far}"), SOON);
        }
    }
}

as_root_and_user! {
    fn a_client_from_afar_reaches_a_published_udp_port_and_is_seen_as_itself(who: Who) {
        let internet = Internet::new(who);
        let switch = internet.switch(&["--icc", "false"]);
        switch.ok(&["network", "create", "inner", "--uplink", "none"]);
        let web = Container::with(&switch, "web", &["-p", "8080:80/udp"]);
        let inner = Container::with(&switch, "inner", &["--network", "inner", "-p", "8081:80/udp"]);
        let (mut seen, _inner) = (serve(&web, "peer-udp"), serve(&inner, "echo-udp"));
        for (host, far) in internet.host_addresses().into_iter().zip(internet.addresses()) {
            for (port, bytes) in [OUTSIDE, 8081].into_iter().flat_map(|port| ["1", "1472", "9000"].map(|bytes| (port, bytes))) {
                assert_eq!(Probe::ask(internet.far(), "ask-udp", host, port, &[bytes]), "answered", "{port}: {bytes}");
            }
            seen.wait_for_line(&format!("peer {far}"), SOON);
        }
        for host in internet.host_addresses() {
            assert_eq!(Probe::ask(internet.far(), "many-udp", host, OUTSIDE, &["200"]), "answered 200");
        }
    }
}

as_root_and_user! {
    fn a_client_on_the_host_is_seen_as_the_gateway(who: Who) {
        let internet = Internet::new(who);
        let switch = internet.switch(&[]);
        let web = Container::with(&switch, "web", &["-p", "8080:80", "-p", "8080:80/udp"]);
        let (mut tcp, mut udp) = (serve(&web, "peer"), serve(&web, "peer-udp"));
        let network = switch.json(&["network", "inspect", "default"]);
        for (loopback, gateway) in [("127.0.0.1", "gateway"), ("::1", "gateway6")] {
            let loopback: IpAddr = loopback.parse().expect("an address");
            let seen = format!("peer {}", network[gateway].as_str().expect("it has one"));
            for bytes in ["1", "1473", "9000"] {
                assert_eq!(Probe::ask(internet.host(), "ask-udp", loopback, OUTSIDE, &[bytes]), "answered", "{bytes}");
            }
            udp.wait_for_line(&seen, SOON);
            Probe::ask(internet.host(), "read", loopback, OUTSIDE, &[]);
            tcp.wait_for_line(&seen, SOON);
        }
    }
}

as_root_and_user! {
    fn clients_of_both_families_reach_a_server_that_listens_at_one(who: Who) {
        let internet = Internet::new(who);
        let switch = internet.switch(&[]);
        let web = Container::with(&switch, "web", &["-p", "8080:80"]);
        let network = switch.json(&["network", "inspect", "default"]);
        let loopbacks: [IpAddr; 2] = ["127.0.0.1", "::1"].map(|loopback| loopback.parse().expect("an address"));
        for (listens, gateway) in web.addresses().into_iter().zip(["gateway", "gateway6"]) {
            let at = SocketAddr::new(listens, INSIDE).to_string();
            let mut seen = web.spawn(&["tapswitch-probe", "peer", &at]);
            seen.wait_until_ready();
            let gateway = network[gateway].as_str().expect("it has one");
            let you_are = |seen: &str| format!("ready\nyou are {seen}\nend");
            for (host, far) in internet.host_addresses().into_iter().zip(internet.addresses()) {
                let shown = if far.is_ipv4() == listens.is_ipv4() { far.to_string() } else { gateway.into() };
                let said = Probe::ask(internet.far(), "read", host, OUTSIDE, &[]);
                assert_eq!(said, you_are(&shown), "{listens}, asked at {host}");
            }
            for loopback in loopbacks {
                let said = Probe::ask(internet.host(), "read", loopback, OUTSIDE, &[]);
                assert_eq!(said, you_are(gateway), "{listens}, asked at {loopback}");
            }
        }
    }
}

as_root_and_user! {
    fn a_published_udp_port_answers_from_the_address_that_was_asked(who: Who) {
        let internet = Internet::new(who);
        internet.host().ok(&["sh", "-ec", "ip address add 198.51.100.3/24 dev wan; ip address add 2001:db8:100::3/64 dev wan nodad"]);
        let switch = internet.switch(&[]);
        let web = Container::with(&switch, "web", &["-p", "8080:80/udp"]);
        let _echo = serve(&web, "echo-udp");
        for second in ["198.51.100.3", "2001:db8:100::3"] {
            let second = second.parse().expect("an address");
            assert_eq!(Probe::ask(internet.far(), "ask-udp", second, OUTSIDE, &["1"]), "answered", "{second}");
        }
    }
}

as_root_and_user! {
    fn containers_reach_published_ports_of_any_network_at_the_host_and_at_their_gateway(who: Who) {
        let internet = Internet::new(who);
        let switch = internet.switch(&["--icc", "false"]);
        switch.ok(&["network", "create", "inner", "--uplink", "none"]);
        let web = Container::with(&switch, "web", &["-p", "8080:80", "-p", "8080:80/udp", "-p", "127.0.0.1:8081:80/udp"]);
        let (_tcp, _udp) = (serve(&web, "echo"), serve(&web, "echo-udp"));
        let other = Container::new(&switch, "other");
        let inner = Container::with(&switch, "inner", &["--network", "inner"]);
        for (container, network, by_address) in
            [(&web, "default", true), (&other, "default", true), (&inner, "inner", false)]
        {
            let shown = switch.json(&["network", "inspect", network]);
            let gateways = ["gateway", "gateway6"].map(|name| shown[name].as_str().expect("it has one").parse().expect("an address"));
            let hosts = if by_address { internet.host_addresses().to_vec() } else { vec![] };
            for address in gateways.into_iter().chain(hosts) {
                for bytes in ["1", "9000"] {
                    let said = Probe::ask(container, "ask-udp", address, OUTSIDE, &[bytes]);
                    assert_eq!(said, "answered", "{network}: {address}, {bytes} bytes");
                }
                assert!(Probe::dials(container, address, OUTSIDE), "{network}: {address}");
            }
            let said = Probe::ask(container, "ask-udp", gateways[0], 8081, &["1"]);
            assert_ne!(said, "answered", "one at loopback is for the host alone");
        }
    }
}

as_root_and_user! {
    fn a_taken_port_is_refused_with_who_has_it_and_nothing_stays_published(who: Who) {
        let internet = Internet::new(who);
        let switch = internet.switch(&[]);
        let (web, _db) = (Container::new(&switch, "web"), Container::new(&switch, "db"));
        let mut other = Background::start({
            let mut command = switch.session().command("tapswitch-probe");
            command.args(["echo", "0.0.0.0:8085"]);
            command
        });
        other.wait_until_ready();
        let line = switch.cli(&["publish", "web", "8080-8090:80-90"]).one_line_of_failure(1);
        let holder = format!("port 8085/tcp is in use by tapswitch-probe (pid {})", other.pid());
        assert!(line.contains(&holder), "{line}");
        assert!(published(&switch, "web").is_empty());
        switch.ok(&["publish", "db", "8080-8084:80-84"]);
        let line = switch.cli(&["publish", "web", "8084:80"]).one_line_of_failure(1);
        assert!(line.contains("port 8084/tcp is published by default/db already"), "{line}");
        let line = web.try_attach(&switch, &["--name", "again", "--ifname", "eth1", "-p", "8084:80"]).one_line_of_failure(1);
        assert!(line.contains("default/db") && switch.endpoint("again").is_none(), "{line}");
        drop(other);
        eventually("the port to be free", SOON, || switch.cli(&["publish", "web", "8085:80"]).code == 0);
    }
}

as_root_and_user! {
    fn a_privileged_port_is_roots_and_a_user_is_told_of_the_sysctl(who: Who) {
        let internet = Internet::new(who);
        let switch = internet.switch(&[]);
        let web = Container::new(&switch, "web");
        let _echo = serve(&web, "echo-udp");
        let asked = switch.cli(&["publish", "web", "80:80/udp"]);
        if who == Who::User {
            let line = asked.one_line_of_failure(1);
            assert!(line.contains("net.ipv4.ip_unprivileged_port_start"), "{line}");
            internet.host().ok(&["sh", "-c", "echo 80 >/proc/sys/net/ipv4/ip_unprivileged_port_start"]);
            switch.ok(&["publish", "web", "80:80/udp"]);
        } else {
            asked.ok();
        }
        assert_eq!(Probe::ask(internet.far(), "ask-udp", internet.host_addresses()[0], 80, &["1"]), "answered");
    }
}

as_root_and_user! {
    fn a_free_port_is_told_shown_and_taken_back(who: Who) {
        let internet = Internet::new(who);
        let switch = internet.switch(&[]);
        let web = Container::new(&switch, "web");
        let _echo = serve(&web, "echo-udp");
        let said = switch.ok(&["publish", "web", "80/udp"]);
        assert_eq!(switch.ok(&["publish", "web", "80/udp"]), said, "asked twice");
        let port = published(&switch, "web")[0].port();
        assert_eq!(said, format!("0.0.0.0:{port}->80/udp\n[::]:{port}->80/udp\n"));
        assert!(switch.ok(&["ls"]).contains(&format!("0.0.0.0:{port}->80/udp, [::]:{port}->80/udp")));
        let host = internet.host_addresses()[0];
        assert_eq!(Probe::ask(internet.far(), "ask-udp", host, port, &["1"]), "answered");
        switch.ok(&["unpublish", "web", &format!("{port}/udp")]);
        assert_eq!(Probe::ask(internet.far(), "ask-udp", host, port, &["1"]), "ECONNREFUSED");
        let line = switch.cli(&["unpublish", "web", &format!("{port}/udp")]).one_line_of_failure(1);
        assert!(line.contains("default/web has nothing published at"), "{line}");
    }
}

as_root_and_user! {
    fn ports_go_with_their_endpoint(who: Who) {
        let internet = Internet::new(who);
        let switch = internet.switch(&[]);
        let host = internet.host_addresses()[0];
        let _web = Container::with(&switch, "web", &["-p", "8080:80", "-p", "8080:80/udp"]);
        switch.ok(&["detach", "web"]);
        assert_eq!(Probe::ask(internet.far(), "connect", host, OUTSIDE, &[]), "ECONNREFUSED");
        let doomed = Container::with(&switch, "doomed", &["-p", "8080:80", "-p", "8080:80/udp"]);
        drop(doomed);
        eventually("the ports to go with the namespace", SOON, || {
            Probe::ask(internet.far(), "connect", host, OUTSIDE, &[]) == "ECONNREFUSED"
        });
        eventually("the next to have them", SOON, || switch.endpoint("doomed").is_none());
        Container::with(&switch, "next", &["-p", "8080:80", "-p", "8080:80/udp"]);
    }
}

as_root_and_user! {
    fn published_ports_outlive_the_switch_and_its_keeper(who: Who) {
        let internet = Internet::new(who);
        let switch = internet.switch(&[]);
        let web = Container::with(&switch, "web", &["-p", "8080:80", "-p", "8080:80/udp"]);
        let (_tcp, _udp) = (serve(&web, "echo"), serve(&web, "echo-udp"));
        let before = published(&switch, "web");
        let still_serves = |switch: &Switch, what: &str| {
            assert_eq!(published(switch, "web"), before, "{what}");
            for host in internet.host_addresses() {
                assert_eq!(Probe::ask(internet.far(), "ask-udp", host, OUTSIDE, &["1"]), "answered", "{what}: {host}");
                eventually(what, SOON, || Probe::dials(internet.far(), host, OUTSIDE));
            }
        };
        still_serves(&switch, "at first");
        let victim = switch.switch_pid();
        kill(Pid::from_raw(victim.cast_signed()), Signal::SIGKILL).expect("the switch runs");
        for _ in 0..20 {
            let said = Probe::ask(internet.far(), "connect", internet.host_addresses()[0], OUTSIDE, &[]);
            assert_eq!(said, "connected", "the keeper holds the socket meanwhile");
        }
        eventually("another switch process", SOON, || switch.cli(&["status"]).code == 0 && switch.switch_pid() != victim);
        still_serves(&switch, "after the death of the switch");
        switch.kill_keeper();
        still_serves(&switch, "after the death of the keeper");
        let next = internet.switch(&[]);
        still_serves(&next, "after a takeover");
        drop(switch);
        next.kill();
        let again = internet.switch(&[]);
        eventually("the endpoint to be up again", SOON, || again.endpoint("web").is_some_and(|line| line["state"] == "up"));
        still_serves(&again, "after the death of both");
        again.ok(&["detach", "web"]);
    }
}

/// `tapswitch-probe VERB` at both addresses of `container`.
#[track_caller]
fn serve(container: &Container, verb: &str) -> Background {
    let at = container.addresses().map(|address| SocketAddr::new(address, INSIDE).to_string());
    let mut service = container.spawn(&["tapswitch-probe", verb, &at[0], &at[1]]);
    service.wait_until_ready();
    service
}

/// Where an endpoint is published.
#[track_caller]
fn published(switch: &Switch, name: &str) -> Vec<SocketAddr> {
    let line = switch.endpoint(name).unwrap_or_else(|| panic!("`ls` does not show {name}"));
    let ports = line["published"].as_array().expect("an array").iter();
    ports
        .map(|p| {
            let (ip, port) = (p["ip"].as_str().expect("an address"), p["host_port"].as_u64().expect("a port"));
            SocketAddr::new(ip.parse().expect("an address"), u16::try_from(port).expect("a port"))
        })
        .collect()
}
