//! The harness keeps its word: what it calls an ordinary user is one, and its watcher sees what arrives.

use std::time::Duration;

use tapswitch_tests::frames::{self, BROADCAST, EXPERIMENTAL};
use tapswitch_tests::{Container, Internet, Probe, Session, Who, as_root_and_user, eventually, run};

as_root_and_user! {
    fn a_container_is_a_namespace_with_nothing_but_lo(who: Who) {
        let session = Session::new(who);
        let container = Container::unattached(&session);
        let links = container.ip(&["link", "show"]);
        assert_eq!(links.as_array().map(Vec::len), Some(1), "{links}");
        assert_eq!(links[0]["ifname"], "lo");
    }
}

as_root_and_user! {
    fn a_session_has_the_rights_it_says_and_an_open_tun(who: Who) {
        let session = Session::new(who);
        let mut command = session.command("sh");
        command.args(["-c", "id -u; test -r /dev/net/tun && test -w /dev/net/tun && echo open; test -w $HOME/state && echo home"]);
        let output = run(command, Duration::from_secs(10)).ok();
        let lines: Vec<_> = output.lines().collect();
        assert_eq!(lines[0] == "0", who == Who::Root, "{output}");
        assert_eq!(lines[1..], ["open", "home"]);
    }
}

#[test]
fn the_watcher_sees_what_another_sent_as_root() {
    let session = Session::new(Who::Root);
    let (a, b) = (Container::unattached(&session), Container::unattached(&session));
    a.ok(&["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", &b.pid().to_string()]);
    for container in [&a, &b] {
        container.ok(&["ip", "link", "set", "eth0", "up"]);
    }
    let watch = Probe::watch(&b);
    let frame = frames::ethernet(BROADCAST, "02:00:00:00:00:01", EXPERIMENTAL, b"seen by the other");
    eventually("the frame at the watcher", Duration::from_secs(5), || {
        Probe::send(&a, &frame);
        watch.saw(b"seen by the other")
    });
}

as_root_and_user! {
    fn the_internet_has_far_hosts_that_answer_and_some_that_do_not_as_root(who: Who) {
        let internet = Internet::new(who);
        let host = internet.host();
        let _echo = internet.serve("echo", 7, &[]);
        for at in 0..2 {
            assert!(host.reaches(internet.addresses()[at]));
            assert!(Probe::dials(host, internet.addresses()[at], 7));
            let refused = host.run(&["ping", "-n", "-c", "1", "-W", "1", &internet.unreachable()[at].to_string()]);
            assert!(refused.stdout.contains("nreachable") || refused.stdout.contains("No route"), "{}", refused.stdout);
            let silent = host.run(&["ping", "-n", "-c", "1", "-W", "1", &internet.silent()[at].to_string()]);
            assert!(silent.stdout.contains("100% packet loss") && !silent.stdout.contains("From"), "{}", silent.stdout);
            assert!(internet.far().reaches(internet.host_addresses()[at]));
        }
        // The daemon's user is there, and sees that host's names.
        let mut command = internet.session().command("sh");
        command.args(["-c", "id -u; cat /etc/resolv.conf"]);
        let output = run(command, Duration::from_secs(10)).ok();
        assert_eq!(output.starts_with("0\n"), who == Who::Root);
        assert!(output.contains(&internet.addresses()[0].to_string()), "{output}");
    }
}

/// Without a switch: what they say of the kernel's own way is what the tests of the switch expect.
#[test]
fn the_probes_say_what_happens_to_their_flows_as_root() {
    let internet = Internet::new(Who::Root);
    let (host, megabyte) = (internet.host(), "1048576");
    let mut services: Vec<_> = ["echo", "end-first", "stall", "reset", "peer", "files"]
        .into_iter()
        .zip(1..)
        .map(|(verb, port)| internet.serve(verb, port, &[]))
        .collect();
    services.push(internet.serve("echo-udp", 1, &[]));
    services.push(internet.serve("names", 53, &["far.test=203.0.113.7", "far.test=2001:db8:7::7"]));
    for at in 0..2 {
        let (far, own) = (internet.addresses()[at], internet.host_addresses()[at]);
        let ask = |verb: &str, port: u16, words: &[&str]| Probe::ask(host, verb, far, port, words);
        assert_eq!(ask("half-close", 1, &[megabyte]), "returned 1048576");
        assert_eq!(ask("churn", 1, &["100"]), "lost 0");
        assert_eq!(ask("together", 1, &["100"]), "lost 0");
        assert_eq!(ask("read-then-write", 2, &["1000"]), "read 8");
        services[1].wait_for_line("took 1000", Duration::from_secs(5));
        assert_eq!(ask("read", 4, &[]), "ready\nECONNRESET");
        assert_eq!(ask("read", 5, &[]), format!("ready\nyou are {own}\nend"));
        assert_eq!(ask("get", 6, &[megabyte]), "verified 1048576");
        assert_eq!(ask("put", 6, &[megabyte]), "verified 1048576");
        assert_eq!(ask("connect", 1, &[]), "connected");
        assert_eq!(ask("connect", 9, &[]), "ECONNREFUSED");
        assert_eq!(ask("ask-udp", 1, &["9000"]), "answered");
        assert_eq!(ask("ask-udp", 9, &["1"]), "ECONNREFUSED");
        assert_eq!(ask("many-udp", 1, &["50"]), "answered 50");
        let unreachable = Probe::ask(host, "connect", internet.unreachable()[at], 1, &[]);
        assert!(["EHOSTUNREACH", "ENETUNREACH"].contains(&unreachable.as_str()), "{unreachable}");
        for transport in ["+notcp", "+tcp"] {
            let kind = if far.is_ipv4() { "A" } else { "AAAA" };
            let found = host.ok(&["dig", "+short", transport, &format!("@{far}"), "far.test", kind]);
            assert_eq!(found.trim(), far.to_string());
        }
    }
}
