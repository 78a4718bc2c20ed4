//! Docker Engine with networks of ours, as its users drive it: by `docker`.

mod docked;

use docked::shown::Traces;
use docked::{CREATE, Engine, PATIENCE, Setup};
use serde_json::{Value, json};
use tapswitch_tests::{Probe, eventually};

const ECHO: u16 = 7;

#[test]
fn containers_of_a_network_reach_each_other_by_name_as_root() {
    let engine = Engine::start(Setup::default());
    engine.ok(&format!("{CREATE} web"));
    engine.ok(
        "docker run -d --name db --network web --network-alias store lab redis-server --save '' --protected-mode no",
    );
    engine.ok("docker run -d --name sink --network web lab iperf3 --server --one-off");
    for name in ["db", "store"] {
        let said = engine.ok(&format!("docker run --rm --network web lab ping -c 1 -W 5 {name}"));
        assert!(said.contains("1 packets received"), "{said}");
    }
    let said = engine.ok("docker run --rm --network web lab redis-cli -h db set key value");
    assert_eq!(said, "OK");
    let report = engine.ok("docker run --rm --network web lab iperf3 --client sink --time 1 --json");
    let report: Value = serde_json::from_str(&report).expect("iperf3 prints JSON");
    assert!(report["end"]["sum_received"]["bytes"].as_u64() > Some(0), "{report}");

    let line = engine.endpoint("db");
    assert_eq!(line["ipv4"], engine.address("db", "web"), "{line}");
    assert_eq!(line["netns"], engine.inspect("db", ".NetworkSettings.SandboxKey"), "{line}");
    assert_eq!(line["mac"], engine.inspect("db", ".NetworkSettings.Networks.web.MacAddress"), "{line}");
    assert_eq!(line["state"], "up", "{line}");
    let network: Value = serde_json::from_str(&engine.ok("docker network inspect web")).expect("JSON");
    assert_eq!(network[0]["Containers"].as_object().expect("a map").len(), 1, "sink ended by itself: {network}");

    let refused = engine.fails("docker network rm web");
    assert!(refused.contains("active endpoints"), "{refused}");
    engine.ok("docker rm -f db sink && docker network rm web");
    assert_eq!(engine.json("tapswitch ls"), json!([]));
    assert_eq!(engine.networks(), ["default"]);
}

#[test]
fn containers_reach_far_hosts_but_not_from_an_internal_network_as_root() {
    let engine = Engine::start(Setup::default());
    let internet = engine.internet();
    let (_echo, _datagrams) = (internet.serve("echo", ECHO, &[]), internet.serve("echo-udp", ECHO, &[]));
    let far = internet.addresses()[0];
    engine.ok(&format!("{CREATE} out && {CREATE} --internal in"));
    for (network, reaches) in [("out", true), ("in", false)] {
        engine.ok(&format!("docker run -d --name {network}side --network {network} lab sleep 1000"));
        let dials = engine.sh(&format!("docker exec {network}side tapswitch-probe dial {far}:{ECHO}"));
        assert_eq!(dials.code == 0, reaches, "{network}: {dials:?}");
        let pings = engine.sh(&format!("docker exec {network}side ping -c 1 -W 1 {far}"));
        assert_eq!(pings.code == 0, reaches, "{network}: {pings:?}");
    }
    let said = engine.ok(&format!("docker exec outside tapswitch-probe ask-udp {far}:{ECHO} 100"));
    assert_eq!(said, "answered");
    // Nor by what a second container on the same network might forward.
    engine.ok("docker run --rm --network in lab ping -c 1 -W 5 inside");
    engine.has_no_bridge();
}

#[test]
fn without_icc_containers_meet_at_published_ports_only_as_root() {
    let engine = Engine::start(Setup::default());
    engine.ok(&format!("{CREATE} -o com.docker.network.bridge.enable_icc=false apart"));
    engine.ok("docker run -d --name web --network apart -p 8080:80 lab tapswitch-probe echo 0.0.0.0:80 0.0.0.0:81");
    let web = engine.address("web", "apart");
    let gateway = engine.inspect("web", ".NetworkSettings.Networks.apart.Gateway");
    engine.ok("docker run -d --name other --network apart lab sleep 1000");
    let dials = |to: String| engine.sh(&format!("docker exec other tapswitch-probe dial {to}")).code == 0;
    assert!(!dials(format!("{web}:81")));
    assert_ne!(engine.sh("docker exec other ping -c 1 -W 1 web").code, 0);
    assert!(dials(format!("{gateway}:8080")), "a published port is an exception for everybody");
    engine.has_no_bridge();
}

#[test]
fn published_ports_are_reached_from_outside_with_the_clients_address_as_root() {
    let engine = Engine::start(Setup::default());
    let (far, host) = (engine.internet().far(), engine.internet().host_addresses()[0]);
    let client = engine.internet().addresses()[0];
    engine.ok(&format!("{CREATE} web"));
    engine.ok(
        "docker run -d --name tcp --network web -p 8080:80 -p 127.0.0.1:8081:80 lab tapswitch-probe peer 0.0.0.0:80",
    );
    engine.ok("docker run -d --name udp --network web -p 8053:53/udp lab tapswitch-probe peer-udp 0.0.0.0:53");

    let said = Probe::ask(far, "read", host, 8080, &[]);
    assert!(said.contains(&format!("you are {client}")), "{said}");
    assert_eq!(Probe::ask(far, "connect", host, 8081, &[]), "ECONNREFUSED", "published on the loopback alone");
    engine.ok("tapswitch-probe connect 127.0.0.1:8081 | grep connected");
    assert_eq!(Probe::ask(far, "ask-udp", host, 8053, &["100"]), "answered");
    eventually("the datagram's sender", PATIENCE, || engine.ok("docker logs udp").contains(&client.to_string()));

    let published = engine.endpoint("tcp")["published"].to_string();
    assert!(published.contains("8080") && published.contains("8081"), "{published}");

    // A port that somebody has: the container does not start, and the next one may have its address.
    let refused = engine.fails("docker run --name late --network web -p 8080:80 lab true");
    assert!(refused.contains("port 8080/tcp is published by"), "{refused}");
    assert_eq!(engine.json("tapswitch ls").as_array().map(Vec::len), Some(2));

    engine.ok("docker stop -t 0 tcp");
    assert_eq!(Probe::ask(far, "connect", host, 8080, &[]), "ECONNREFUSED");
    engine.ok("docker start tcp");
    eventually("the port to be served again", PATIENCE, || {
        let said = Probe::ask(far, "read", host, 8080, &[]);
        said.contains(&format!("you are {client}"))
    });
}

#[test]
fn addresses_and_macs_are_those_that_are_asked_for_as_root() {
    let engine = Engine::start(Setup::default());
    engine.ok(&format!("{CREATE} --ipv6 --subnet 10.90.0.0/24 --gateway 10.90.0.254 --subnet fd00:90::/64 web"));
    engine.ok(
        "docker run -d --name db --network web --ip 10.90.0.77 --ip6 fd00:90::77 --mac-address 02:00:00:00:00:77 lab sleep 1000",
    );
    let shown = engine.ok("docker exec db ip address show eth0; docker exec db ip route");
    for needle in ["10.90.0.77/24", "fd00:90::77/64", "02:00:00:00:00:77", "default via 10.90.0.254"] {
        assert!(shown.contains(needle), "{needle}: {shown}");
    }
    for address in ["10.90.0.77", "fd00:90::77", "10.90.0.254", "fd00:90::1"] {
        engine.ok(&format!("docker run --rm --network web lab ping -c 1 -W 5 {address}"));
    }
    let refused = engine.fails("docker run --rm --network web --ip 10.90.0.77 lab true");
    assert!(refused.contains("10.90.0.77"), "{refused}");
    let refused = engine.fails("docker run --rm --network web --ip 10.91.0.7 lab true");
    assert!(refused.contains("10.91.0.7"), "{refused}");
    // Its name, at both addresses.
    let said = engine.ok("docker run --rm --network web lab nslookup db");
    assert!(said.contains("10.90.0.77") && said.contains("fd00:90::77"), "{said}");
}

#[test]
fn running_containers_are_connected_and_disconnected_as_root() {
    let engine = Engine::start(Setup::default());
    engine.ok(&format!("{CREATE} front && {CREATE} back"));
    engine.ok("docker run -d --name db --network back lab sleep 1000");
    engine.ok("docker run -d --name app --network front -p 8080:80 lab tapswitch-probe peer 0.0.0.0:80");
    let reaches = |who: &str, whom: &str| engine.sh(&format!("docker exec {who} ping -c 1 -W 1 {whom}")).code == 0;
    assert!(!reaches("app", "db"));
    engine.ok("docker network connect back app");
    assert!(reaches("app", "db") && reaches("db", "app"));
    let devices = engine.ok("docker exec app ip -o link");
    assert!(devices.contains("eth0") && devices.contains("eth1"), "{devices}");
    assert_eq!(engine.endpoints("app").len(), 2);
    // docker gives both endpoints the container's ports; one of them serves.
    let (far, host) = (engine.internet().far(), engine.internet().host_addresses()[0]);
    assert!(Probe::ask(far, "read", host, 8080, &[]).contains("you are"));

    engine.ok("docker network disconnect front app");
    assert!(reaches("app", "db"));
    assert!(!engine.ok("docker exec app ip -o link").contains("eth0"));
    eventually("the port by the other network", PATIENCE, || {
        Probe::ask(far, "connect", host, 8080, &[]) == "connected"
            && Probe::ask(far, "read", host, 8080, &[]).contains("you are")
    });
    engine.has_no_bridge();
}

#[test]
fn nothing_is_left_of_containers_that_ended_as_root() {
    let engine = Engine::start(Setup::default());
    engine.ok(&format!("{CREATE} --subnet 10.90.0.0/29 web"));
    // The first container may make what stays.
    engine.ok("docker run --rm --network web -p 8080:80 lab true");
    let before = Traces::of(&engine);
    engine.ok("docker create --name one --network web -p 8080:80 lab sleep 1000");
    for end in ["stop -t 0", "kill", "restart -t 0", "stop -t 0"] {
        engine.ok(&format!("docker start one; docker {end} one"));
    }
    engine.ok("docker rm one");
    // Of six addresses that the subnet has, all but the gateway's, at once and again.
    for _ in 0..2 {
        for n in 1..=5 {
            engine.ok(&format!("docker run -d --name c{n} --network web lab sleep 1000"));
        }
        let refused = engine.fails("docker run --rm --network web lab true");
        assert!(refused.contains("10.90.0.0/29"), "{refused}");
        engine.ok("docker exec c1 ping -c 1 -W 5 c5");
        engine.ok("docker rm -f c1 c2 c3 c4 c5");
    }
    // One whose process ends by itself, one that cannot start, one whose namespace is killed under the engine.
    engine.ok("docker run --rm --network web lab true");
    engine.fails("docker run --rm --network web lab no-such-program");
    engine.ok("docker run -d --rm --name killed --network web lab sleep 1000");
    engine.ok(&format!("kill -s KILL {}", engine.pid("killed")));
    eventually("nothing to be left", PATIENCE, || Traces::of(&engine).are_those(&before));
}

#[test]
fn pools_and_addresses_are_leased_by_the_plugin_as_root() {
    let engine = Engine::start(Setup::default());
    engine.ok(&format!("{CREATE} one && {CREATE} two"));
    let subnet = |network: &str| {
        engine.ok(&format!("docker network inspect --format '{{{{(index .IPAM.Config 0).Subnet}}}}' {network}"))
    };
    assert_ne!(subnet("one"), subnet("two"));
    let taken = subnet("one");
    let refused = engine.fails(&format!("{CREATE} --subnet {taken} three"));
    assert!(refused.contains(&taken), "{refused}");

    engine
        .ok(&format!("{CREATE} --subnet 10.90.0.0/24 --ip-range 10.90.0.128/25 --aux-address dhcp=10.90.0.128 ranged"));
    let first = engine.ok("docker run --rm --network ranged lab ip -o -4 address show eth0");
    assert!(first.contains("10.90.0.129/24"), "{first}");

    // One container and the gateway: the second is told, and the engine goes on.
    engine.ok(&format!("{CREATE} --subnet 10.91.0.0/30 tiny"));
    engine.ok("docker run -d --name only --network tiny lab sleep 1000");
    let refused = engine.fails("docker run --rm --network tiny lab true");
    assert!(refused.contains("10.91.0.0/30"), "{refused}");
    engine.ok("docker rm -f only && docker run --rm --network tiny lab ping -c 1 -W 5 10.91.0.1");

    // Docker's own leases do as well, and the switch follows.
    engine.ok("docker network create --driver tapswitch --subnet 10.92.0.0/24 theirs");
    engine.ok("docker run -d --name own --network theirs lab sleep 1000");
    assert_eq!(engine.endpoint("own")["ipv4"], "10.92.0.2");
    engine.ok("docker run --rm --network theirs lab ping -c 1 -W 5 own");
    engine.ok("docker rm -f own && docker network rm one two ranged tiny theirs");
    assert_eq!(engine.networks(), ["default"]);
    // What was released is free again.
    engine.ok(&format!("{CREATE} --subnet {taken} one"));
}

#[test]
fn options_reach_the_switch_and_bad_ones_are_refused_as_root() {
    let engine = Engine::start(Setup::default());
    engine.ok(&format!(
        "{CREATE} -o com.docker.network.bridge.name=web -o com.docker.network.driver.mtu=1400 -o icc=false \
         -o com.docker.network.bridge.host_binding_ipv4=127.0.0.1 web1"
    ));
    engine.ok(&format!("{CREATE} -o com.docker.network.bridge.name=none -o uplink=none web2"));
    engine.ok(&format!(
        "{CREATE} -o com.docker.network.bridge.name=routed -o com.docker.network.bridge.gateway_mode_ipv4=routed web3"
    ));
    let options = |name: &str| {
        let network = engine.json(&format!("tapswitch network inspect {name}"));
        json!([network["mtu"], network["icc"], network["uplink"]])
    };
    assert_eq!(options("web"), json!([1400, false, "user"]));
    assert_eq!(options("none"), json!([1500, true, "none"]));
    assert_eq!(options("routed"), json!([1500, true, "host"]));
    engine.ok("docker run -d --name web --network web1 -p 8080:80 lab tapswitch-probe echo 0.0.0.0:80");
    assert!(engine.ok("docker exec web ip link show eth0").contains("mtu 1400"));
    engine.ok("tapswitch-probe dial 127.0.0.1:8080");
    let (far, host) = (engine.internet().far(), engine.internet().host_addresses()[0]);
    assert_eq!(Probe::ask(far, "connect", host, 8080, &[]), "ECONNREFUSED", "host_binding_ipv4 is the loopback");

    for option in ["mtu=12", "icc=perhaps", "uplink=moon"] {
        let refused = engine.fails(&format!("{CREATE} -o {option} web4"));
        let key = option.split('=').next().expect("a key");
        assert!(refused.contains(key), "{option}: {refused}");
    }
    assert_eq!(engine.networks(), ["default", "none", "routed", "web"]);
    // As Docker's own driver does with what is another's.
    engine.ok(&format!("{CREATE} -o no.such.option=1 web4"));
}
