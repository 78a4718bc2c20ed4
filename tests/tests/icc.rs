//! What passes between containers of one network with icc on, with icc off, and through a rule.

use std::time::Duration;

use tapswitch_tests::frames::{self, BROADCAST, EXPERIMENTAL};
use tapswitch_tests::iperf::{self, Load};
use tapswitch_tests::{Container, Probe, Switch, as_root_and_user, eventually};

/// Long enough for a frame that passes to be seen, by far: it takes some ten microseconds.
const SETTLE: Duration = Duration::from_millis(300);

as_root_and_user! {
    /// The positive control of the next test: with icc on, the same frames are seen.
    fn with_icc_every_untagged_frame_passes(who: Who) {
        let switch = Switch::start(who, &[]);
        let (a, b) = (Container::new(&switch, "a"), Container::new(&switch, "b"));
        let watch = Probe::watch(&b);
        let sent = send_one_of_each(&a, &b);
        for (name, mark, may_pass) in &sent {
            if *may_pass {
                eventually(name, Duration::from_secs(5), || watch.saw(mark));
            }
        }
        std::thread::sleep(SETTLE);
        for (name, mark, may_pass) in &sent {
            assert_eq!(watch.saw(mark), *may_pass, "{name}");
        }
        assert!(switch.drops("vlan") >= 2, "{}", switch.total());
    }
}

as_root_and_user! {
    fn without_icc_no_frame_of_any_ethertype_passes(who: Who) {
        let switch = Switch::start(who, &["--icc", "false"]);
        let (a, b) = (Container::new(&switch, "a"), Container::new(&switch, "b"));
        let watch = Probe::watch(&b);
        let sent = send_one_of_each(&a, &b);
        assert!(!a.reaches(b.ipv4()) && !a.reaches(b.ipv6()));
        std::thread::sleep(SETTLE);
        for (name, mark, _) in &sent {
            assert!(!watch.saw(mark), "{name} passed");
        }
        assert!(switch.drops("icc") > 0, "{}", switch.total());
        // The gateway is nobody's neighbour: it answers all the same.
        let gateway = switch.json(&["network", "inspect", "default"])["gateway"].as_str().expect("an address").to_owned();
        assert!(a.reaches(gateway.parse::<std::net::IpAddr>().expect("an address")));
    }
}

as_root_and_user! {
    fn a_rule_opens_exactly_one_port_in_one_direction_with_its_replies(who: Who) {
        let switch = Switch::start(who, &["--icc", "false"]);
        let (web, db) = (Container::new(&switch, "web"), Container::new(&switch, "db"));
        let other = Container::new(&switch, "other");
        let mut servers = Vec::new();
        for container in [&web, &db, &other] {
            for address in container.addresses() {
                servers.push(Probe::echo(container, address, 5432));
                servers.push(Probe::echo(container, address, 5433));
            }
        }
        for address in db.addresses() {
            assert!(!Probe::dials(&web, address, 5432), "open before the rule");
        }
        switch.ok(&["allow", "web", "db", "tcp/5432"]);
        for address in db.addresses() {
            // Though the asker's kernel may be in the middle of the three neighbour requests that nobody answered before.
            assert!(Probe::dials(&web, address, 5432), "not open after the rule");
            assert!(!Probe::dials(&web, address, 5433), "another port is open");
            assert!(!Probe::dials(&other, address, 5432), "open to another");
            assert!(!web.reaches(address), "ping passes");
        }
        for address in web.addresses() {
            assert!(!Probe::dials(&db, address, 5432), "open in reverse");
        }
        let rules = switch.json(&["rules"]);
        let rule = &rules.as_array().expect("an array")[0];
        assert_eq!((&rule["from"], &rule["to"], &rule["what"]), (&"web".into(), &"db".into(), &"tcp/5432".into()));

        switch.ok(&["deny", "web", "db", "tcp/5432"]);
        for address in db.addresses() {
            assert!(!Probe::dials(&web, address, 5432), "open after deny");
        }
        assert_eq!(switch.json(&["rules"]), serde_json::json!([]));
    }
}

as_root_and_user! {
    fn deny_and_icc_false_hold_before_they_return_on_live_flows(who: Who) {
        let switch = Switch::start(who, &["--icc", "false"]);
        let (a, b) = (Container::new(&switch, "a"), Container::new(&switch, "b"));
        let sinks = b.addresses().map(|address| Probe::sink(&b, address, 4000));
        let _senders = b.addresses().map(|address| Probe::stamps(&a, address, 4000));
        let open = |open: &[&str], close: &[&str]| {
            switch.ok(open);
            let opened = Probe::now();
            for sink in &sinks {
                eventually("stamps at the sink", Duration::from_secs(10), || {
                    sink.arrived().last().is_some_and(|last| *last > opened)
                });
            }
            switch.ok(close);
            let closed = Probe::now();
            std::thread::sleep(SETTLE);
            for sink in &sinks {
                let late = sink.arrived().iter().filter(|stamp| **stamp > closed).count();
                assert_eq!(late, 0, "frames sent after `{close:?}` returned have passed");
            }
        };
        open(&["allow", "a", "b", "udp/4000"], &["deny", "a", "b", "udp/4000"]);
        open(&["network", "set", "default", "--icc", "true"], &["network", "set", "default", "--icc", "false"]);
        open(&["allow", "a", "b"], &["deny", "a", "b"]);
    }
}

as_root_and_user! {
    fn an_allowed_flow_runs_at_full_size_while_rules_change_beside_it(who: Who) {
        let switch = Switch::start(who, &["--icc", "false"]);
        let (server, client) = (Container::new(&switch, "server"), Container::new(&switch, "client"));
        switch.ok(&["allow", "client", "server", "tcp/5201"]);
        let run = iperf::start(&server, &client, server.ipv4().into(), Load::Tcp, false, 2);
        for port in 6000..6020 {
            switch.ok(&["allow", "client", "server", &format!("tcp/{port}")]);
        }
        run.finish();
    }
}

as_root_and_user! {
    fn fragments_of_an_allowed_datagram_pass_and_no_others(who: Who) {
        let switch = Switch::start(who, &["--icc", "false"]);
        let (a, b) = (Container::new(&switch, "a"), Container::new(&switch, "b"));
        switch.ok(&["allow", "a", "b", "icmp"]);
        for address in b.addresses() {
            let big = a.run(&["ping", "-n", "-q", "-c", "1", "-W", "2", "-s", "4000", &address.to_string()]);
            assert_eq!(big.code, 0, "a ping of 4000 bytes: {}", big.stdout);
        }
        switch.ok(&["deny", "a", "b", "icmp"]);
        for address in b.addresses() {
            let big = a.run(&["ping", "-n", "-q", "-c", "1", "-W", "1", "-s", "4000", &address.to_string()]);
            assert_ne!(big.code, 0, "fragments pass without a rule");
        }
    }
}

as_root_and_user! {
    fn spoofed_frames_are_dropped_by_name(who: Who) {
        let switch = Switch::start(who, &[]);
        let (a, b) = (Container::new(&switch, "a"), Container::new(&switch, "b"));
        let network = switch.json(&["network", "inspect", "default"]);
        let gateway = network["gateway"].as_str().and_then(|text| text.parse().ok()).expect("an address");
        let gateway_mac = network["gateway_mac"].as_str().expect("a MAC");
        let watch = Probe::watch(&b);
        let datagram = |from| frames::udp4((from, 1), (b.ipv4(), 9), b"spoofed");
        let claim = |mac: &str, address| frames::arp(2, (mac, address), (BROADCAST, b.ipv4()), b"spoofed");
        let attempts = [
            ("spoofed_mac", frames::ethernet(&b.mac(), "02:00:00:00:00:99", EXPERIMENTAL, b"spoofed")),
            ("group_source", frames::ethernet(&b.mac(), "03:00:00:00:00:99", EXPERIMENTAL, b"spoofed")),
            ("spoofed_ipv4", frames::ethernet(&b.mac(), &a.mac(), 0x0800, &datagram([203, 0, 113, 5].into()))),
            ("spoofed_arp", frames::ethernet(BROADCAST, &a.mac(), 0x0806, &claim(&a.mac(), b.ipv4()))),
            ("gateway_claim", frames::ethernet(BROADCAST, &a.mac(), 0x0806, &claim(&a.mac(), gateway))),
            ("gateway_claim", frames::ethernet(&b.mac(), gateway_mac, EXPERIMENTAL, b"spoofed")),
            ("reserved_mac", frames::ethernet("01:80:c2:00:00:00", &a.mac(), EXPERIMENTAL, b"spoofed")),
            (
                "spoofed_ipv6",
                frames::ethernet(
                    &b.mac(),
                    &a.mac(),
                    0x86dd,
                    &frames::ipv6_nothing([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(), b.ipv6(), b"spoofed"),
                ),
            ),
        ];
        for (reason, frame) in &attempts {
            let before = switch.drops(reason);
            Probe::send(&a, frame);
            eventually(reason, Duration::from_secs(5), || switch.drops(reason) > before);
        }
        assert!(!watch.saw(b"spoofed"), "one of them passed");
        assert!(a.reaches(b.ipv4()), "the guard must not cost the sender its own traffic");
    }
}

/// One frame of each sort from `a` to `b`, its payload its own mark: name, mark, whether icc lets it pass.
fn send_one_of_each(a: &Container, b: &Container) -> Vec<(&'static str, Vec<u8>, bool)> {
    let datagram = |mark: &[u8]| frames::udp4((a.ipv4(), 7), (b.ipv4(), 9), mark);
    let packet6 = |mark: &[u8]| frames::ipv6_nothing(a.ipv6(), b.ipv6(), mark);
    let request = |mark: &[u8]| frames::arp(1, (&a.mac(), a.ipv4()), ("00:00:00:00:00:00", unowned(a)), mark);
    let mut sent = Vec::new();
    let mut send = |name: &'static str, may_pass: bool, frame: &dyn Fn(&[u8]) -> Vec<u8>| {
        let mark = format!("<{name}>").into_bytes();
        Probe::send(a, &frame(&mark));
        sent.push((name, mark, may_pass));
    };
    let (to, from) = (b.mac(), a.mac());
    send("ipv4 unicast", true, &|mark| frames::ethernet(&to, &from, 0x0800, &datagram(mark)));
    send("ipv4 broadcast", true, &|mark| frames::ethernet(BROADCAST, &from, 0x0800, &datagram(mark)));
    send("ipv6 unicast", true, &|mark| frames::ethernet(&to, &from, 0x86dd, &packet6(mark)));
    send("ipv6 multicast", true, &|mark| frames::ethernet("33:33:00:00:00:01", &from, 0x86dd, &packet6(mark)));
    // Nobody's address: a request for a leased one is answered by the switch and goes nowhere.
    send("arp broadcast", true, &|mark| frames::ethernet(BROADCAST, &from, 0x0806, &request(mark)));
    send("0x88b5 unicast", true, &|mark| frames::ethernet(&to, &from, EXPERIMENTAL, mark));
    send("0x88b5 broadcast", true, &|mark| frames::ethernet(BROADCAST, &from, EXPERIMENTAL, mark));
    send("vlan unicast", false, &|mark| frames::tagged(7, &to, &from, EXPERIMENTAL, mark));
    send("vlan broadcast", false, &|mark| frames::tagged(7, BROADCAST, &from, EXPERIMENTAL, mark));
    sent
}

/// An address of the same subnet that is not leased.
fn unowned(container: &Container) -> std::net::Ipv4Addr {
    let [a, b, c, _] = container.ipv4().octets();
    [a, b, c, 250].into()
}
