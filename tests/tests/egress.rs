//! The way out by the switch's own sockets: what reaches far hosts, what is refused, and how failures show inside.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tapswitch_tests::iperf::{self, Load};
use tapswitch_tests::{Container, Internet, Probe, Switch, Who, as_root_and_user, eventually};

const ECHO: u16 = 7;
/// Nobody listens there.
const CLOSED: u16 = 9;
const NO_WAY: [&str; 2] = ["EHOSTUNREACH", "ENETUNREACH"];

as_root_and_user! {
    fn tcp_udp_and_icmp_reach_a_far_host_over_both_ip_versions(who: Who) {
        every_protocol_reaches_a_far_host(who, &[]);
    }
}

as_root_and_user! {
    fn plain_ports_reach_a_far_host_too(who: Who) {
        every_protocol_reaches_a_far_host(who, &["--offload", "off"]);
    }
}

fn every_protocol_reaches_a_far_host(who: Who, flags: &[&str]) {
    let internet = Internet::new(who);
    let _services = [internet.serve("echo", ECHO, &[]), internet.serve("echo-udp", ECHO, &[])];
    let switch = internet.switch(flags);
    let web = Container::new(&switch, "web");
    for far in internet.addresses() {
        assert!(Probe::dials(&web, far, ECHO), "TCP to {far}: {}", switch.total());
        assert_eq!(Probe::ask(&web, "half-close", far, ECHO, &["4194304"]), "returned 4194304");
        // The last is sent in fragments.
        for bytes in ["0", "1", "1400", "9000"] {
            assert_eq!(Probe::ask(&web, "ask-udp", far, ECHO, &[bytes]), "answered", "UDP, {bytes} bytes to {far}");
        }
        assert!(web.reaches(far), "ping to {far}: {}", switch.total());
        let large = ["ping", "-n", "-q", "-c", "1", "-W", "2", "-s", "4000", &far.to_string()];
        assert_eq!(web.run(&large).code, 0, "a ping of 4000 bytes to {far}: {}", switch.total());
    }
    for reason in ["malformed", "truncated", "bad_offload", "refused", "tx_too_big"] {
        assert_eq!(switch.drops(reason), 0, "{reason}: {}", switch.total());
    }
}

as_root_and_user! {
    fn iperf3_runs_up_and_down_over_both_ip_versions(who: Who) {
        every_load_passes(who, &[]);
    }
}

as_root_and_user! {
    fn iperf3_runs_up_and_down_through_plain_ports(who: Who) {
        every_load_passes(who, &["--offload", "off"]);
    }
}

fn every_load_passes(who: Who, flags: &[&str]) {
    let internet = Internet::new(who);
    let switch = internet.switch(flags);
    let web = Container::new(&switch, "web");
    for far in internet.addresses() {
        for load in [Load::Tcp, Load::Udp] {
            for reverse in [false, true] {
                iperf::measure(internet.far(), &web, far, load, reverse, 1);
            }
        }
    }
}

as_root_and_user! {
    fn far_hosts_see_the_hosts_address(who: Who) {
        let internet = Internet::new(who);
        let _peer = internet.serve("peer", ECHO, &[]);
        let switch = internet.switch(&[]);
        let web = Container::new(&switch, "web");
        for (far, host) in internet.addresses().into_iter().zip(internet.host_addresses()) {
            let said = Probe::ask(&web, "read", far, ECHO, &[]);
            assert!(said.contains(&format!("you are {host}")), "{said}");
        }
    }
}

as_root_and_user! {
    fn a_refused_port_is_refused_inside(who: Who) {
        let internet = Internet::new(who);
        let switch = internet.switch(&[]);
        let web = Container::new(&switch, "web");
        for far in internet.addresses() {
            let start = Instant::now();
            assert_eq!(Probe::ask(&web, "connect", far, CLOSED, &[]), "ECONNREFUSED");
            assert_eq!(Probe::ask(&web, "ask-udp", far, CLOSED, &["10"]), "ECONNREFUSED");
            assert!(start.elapsed() < Duration::from_secs(3), "not at once: {:?}", start.elapsed());
        }
    }
}

as_root_and_user! {
    fn an_unreachable_host_is_unreachable_inside(who: Who) {
        let internet = Internet::new(who);
        let switch = internet.switch(&[]);
        let web = Container::new(&switch, "web");
        for far in internet.unreachable() {
            for words in [&["connect"][..], &["ask-udp", "10"]] {
                // The router tells one host of one thing a second: the first answer may be missed.
                eventually("the error inside", Duration::from_secs(10), || {
                    let said = Probe::ask(&web, words[0], far, ECHO, &words[1..]);
                    assert!(NO_WAY.contains(&said.as_str()) || said == "silence", "{far}: {said}");
                    said != "silence"
                });
            }
            eventually("the error of a ping", Duration::from_secs(10), || {
                let ping = web.run(&["ping", "-n", "-c", "1", "-W", "1", &far.to_string()]);
                ping.code != 0 && (ping.stdout.contains("nreachable") || ping.stdout.contains("No route"))
            });
        }
    }
}

as_root_and_user! {
    fn a_silent_host_times_out_and_leaves_nothing(who: Who) {
        let internet = Internet::new(who);
        // 1 + 2 + 4 seconds of attempts; the container gives up after 1 + 2.
        internet.host().ok(&["sh", "-c", "echo 2 >/proc/sys/net/ipv4/tcp_syn_retries"]);
        let switch = internet.switch(&[]);
        let web = Container::new(&switch, "web");
        web.ok(&["sh", "-c", "echo 1 >/proc/sys/net/ipv4/tcp_syn_retries"]);
        let before = descriptors(&switch);
        for far in internet.silent() {
            let said = Probe::ask(&web, "connect", far, ECHO, &[]);
            assert!(["ETIMEDOUT", NO_WAY[0], NO_WAY[1]].contains(&said.as_str()), "{far}: {said}");
            assert_eq!(Probe::ask(&web, "ask-udp", far, ECHO, &["10"]), "silence");
            assert!(!web.reaches(far));
        }
        eventually("the attempts to end", Duration::from_secs(20), || tcp_descriptors_are_back(&switch, before));
    }
}

as_root_and_user! {
    fn what_is_no_far_host_is_refused(who: Who) {
        let internet = Internet::new(who);
        // Everybody out here would answer if asked.
        let _far = internet.serve("echo", ECHO, &[]);
        let host = internet.host();
        host.ok(&["ip", "address", "add", "192.0.2.77/32", "dev", "lo"]);
        let _host4 = Probe::echo(host, "0.0.0.0".parse().expect("an address"), ECHO);
        let _host6 = Probe::echo(host, "::".parse().expect("an address"), 8);
        let switch = internet.switch(&[]);
        switch.ok(&["network", "create", "other"]);
        let (web, other) = (Container::new(&switch, "web"), Container::with(&switch, "other", &["--network", "other"]));
        let _other4 = Probe::echo(&other, other.ipv4().into(), ECHO);
        let _other6 = Probe::echo(&other, other.ipv6().into(), 8);
        let [host4, host6] = internet.host_addresses();
        // Routes that a container could make for itself: the gateway is asked for each of these.
        let gateways = switch.json(&["network", "inspect", "default"]);
        let via = |field: &str| gateways[field].as_str().expect("it has one").to_owned();
        let forbidden: Vec<IpAddr> = [
            host4.to_string(), "192.0.2.77".into(), "169.254.169.254".into(), "127.0.0.1".into(), "0.0.0.0".into(),
            "224.0.0.251".into(), "255.255.255.255".into(), other.ipv4().to_string(), host6.to_string(), "::1".into(),
            "::ffff:127.0.0.1".into(), "fe80::1".into(), other.ipv6().to_string(),
        ].iter().map(|text| text.parse().expect("an address")).collect();
        for target in forbidden {
            // What a stack keeps to itself never gets here; the unit tests of the list hold those.
            let (family, gateway) = if target.is_ipv4() { ("-4", via("gateway")) } else { ("-6", via("gateway6")) };
            web.run(&["ip", family, "route", "add", &target.to_string(), "via", &gateway, "dev", "eth0"]);
            for port in [ECHO, 8] {
                assert!(!Probe::dials(&web, target, port), "{target} was reached");
            }
        }
        assert!(switch.drops("host_access") > 0 && switch.drops("no_uplink") > 0, "{}", switch.total());
        // An address that the host gets later is refused then.
        host.ok(&["ip", "address", "add", "192.0.2.78/32", "dev", "lo"]);
        eventually("the new address to be refused", Duration::from_secs(10), || {
            !Probe::dials(&web, "192.0.2.78".parse().expect("an address"), ECHO)
        });
        assert!(Probe::dials(&web, internet.addresses()[0], ECHO), "a far host is still reached");
    }
}

as_root_and_user! {
    fn the_host_is_not_reached_at_an_address_of_which_the_switch_has_not_heard_yet(who: Who) {
        let internet = Internet::new(who);
        let host = internet.host();
        let _echo = Probe::echo(host, "::".parse().expect("an address"), ECHO);
        let mut udp = host.spawn(&["tapswitch-probe", "peer-udp", &format!("[::]:{ECHO}")]);
        udp.wait_until_ready();
        let switch = internet.switch(&[]);
        let web = Container::new(&switch, "web");
        // While routes keep changing they are read again every 5 s only.
        let _changes = host.spawn(&["sh", "-c", "while sleep 0.05; do ip route replace 192.0.2.128/25 dev wan; ip route del 192.0.2.128/25; done"]);
        // The host reaches none of these from the address itself.
        host.ok(&["sh", "-ec", "ip address add 198.51.100.3/24 dev wan
            ip route add local 192.0.2.0/25 dev lo src 198.51.100.2; ip route add local 2001:db8:77::/64 dev lo"]);
        for target in ["198.51.100.3", "192.0.2.9", "2001:db8:77::9"].map(|text| text.parse().expect("an address")) {
            assert!(!Probe::dials(&web, target, ECHO), "TCP reached {target}");
            assert_ne!(Probe::ask(&web, "ask-udp", target, ECHO, &["10"]), "answered", "{target}");
            assert!(!web.reaches(target), "a ping reached {target}");
        }
        assert_eq!(udp.lines(), ["ready"], "it heard of nobody");
    }
}

as_root_and_user! {
    fn with_host_access_the_host_is_reached_by_name_and_address(who: Who) {
        let internet = Internet::new(who);
        let host = internet.host();
        let _on_any = Probe::echo(host, "::".parse().expect("an address"), ECHO);
        let _on_loopback = Probe::echo(host, "127.0.0.1".parse().expect("an address"), 8);
        let switch = internet.switch(&["--host-access"]);
        let web = Container::new(&switch, "web");
        for address in internet.host_addresses() {
            assert!(Probe::dials(&web, address, ECHO), "{address}: {}", switch.total());
        }
        let gateway = switch.json(&["network", "inspect", "default"])["gateway"].as_str().expect("it has one").to_owned();
        let found = web.ok(&["dig", "+short", &format!("@{gateway}"), "host.tapswitch", "A"]);
        let address: IpAddr = found.trim().parse().unwrap_or_else(|_| panic!("host.tapswitch is {found}"));
        for port in [ECHO, 8] {
            assert!(Probe::dials(&web, address, port), "{address} port {port}: {}", switch.total());
        }
    }
}

as_root_and_user! {
    fn without_an_uplink_nothing_leaves(who: Who) {
        let internet = Internet::new(who);
        let _services = [internet.serve("echo", ECHO, &[]), internet.serve("echo-udp", ECHO, &[])];
        let switch = internet.switch(&["--uplink", "none"]);
        let web = Container::new(&switch, "web");
        for far in internet.addresses() {
            assert!(!Probe::dials(&web, far, ECHO) && !web.reaches(far));
            // Linux's words for what is prohibited administratively.
            let refused = if far.is_ipv4() { "EHOSTUNREACH" } else { "EACCES" };
            for words in [&["connect"][..], &["ask-udp", "10"]] {
                assert_eq!(Probe::ask(&web, words[0], far, ECHO, &words[1..]), refused, "{words:?} to {far}");
            }
        }
        assert!(switch.drops("no_uplink") > 0);
    }
}

as_root_and_user! {
    fn flows_go_on_while_containers_come_and_go(who: Who) {
        let internet = Internet::new(who);
        let _echo = internet.serve("echo", ECHO, &[]);
        let switch = internet.switch(&[]);
        let web = Container::new(&switch, "web");
        let far = internet.addresses();
        let mut runs: Vec<_> = far.iter().zip([5201, 5202]).map(|(far, port)| {
            iperf::start_at(internet.far(), &web, SocketAddr::new(*far, port), Load::Tcp, port == 5202, 3)
        }).collect();
        // As many as this machine makes in that time.
        let mut count = 0;
        while runs.iter_mut().all(iperf::Run::is_running) {
            let other = Container::new(&switch, &format!("c{count}"));
            assert!(Probe::dials(&other, far[count % 2], ECHO));
            count += 1;
        }
        assert!(count > 0, "the machine was too slow for this to say anything");
        runs.into_iter().for_each(|run| assert!(run.finish() > 0));
    }
}

/// How many descriptors the switch has open.
fn descriptors(switch: &Switch) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", switch.switch_pid())).expect("the switch runs").count()
}

/// Flows of UDP and ICMP live on for a while: one of each was made for each IP version.
fn tcp_descriptors_are_back(switch: &Switch, before: usize) -> bool {
    descriptors(switch) <= before + 4
}
