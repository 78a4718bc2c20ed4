//! Traffic between containers, and with the gateway: what docker0 did.

use std::net::IpAddr;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;
use tapswitch_tests::frames::{self, EXPERIMENTAL};
use tapswitch_tests::iperf::{self, Load};
use tapswitch_tests::{Container, Probe, Switch, Who, as_root_and_user, eventually};

as_root_and_user! {
    fn containers_and_the_gateway_answer_over_both_ip_versions(who: Who) {
        let before = links();
        let switch = Switch::start(who, &[]);
        let (web, db) = (Container::new(&switch, "web"), Container::new(&switch, "db"));
        let network = switch.json(&["network", "inspect", "default"]);
        let gateways: [IpAddr; 2] = ["gateway", "gateway6"].map(|field| address(&network[field]));

        for (from, to) in [(&web, &db), (&db, &web)] {
            for target in to.addresses().into_iter().chain(gateways) {
                assert!(from.reaches(target), "no answer from {target}");
            }
        }
        for gateway in gateways {
            assert_eq!(neighbour_mac(&web, gateway), network["gateway_mac"], "of {gateway}");
        }
        for target in db.addresses() {
            assert_eq!(neighbour_mac(&web, target), db.mac(), "of {target}");
        }
        assert_eq!(links(), before, "something new on the host");
    }
}

as_root_and_user! {
    /// A nested switch: frames of a second station leave through the endpoint of the first.
    fn without_the_guard_a_second_mac_is_learned_and_reached(who: Who) {
        const NESTED: &str = "02:00:00:00:00:77";
        let switch = Switch::start(who, &[]);
        let (nested, peer) = (Container::with(&switch, "nested", &["--guard", "off"]), Container::new(&switch, "peer"));
        let (at_nested, at_peer) = (Probe::watch(&nested), Probe::watch(&peer));
        let send = |from: &Container, to: &str, mac: &str, mark: &[u8]| {
            Probe::send(from, &frames::ethernet(to, mac, EXPERIMENTAL, mark));
        };
        send(&nested, &peer.mac(), NESTED, b"from the nested one");
        eventually("its frame", Duration::from_secs(5), || at_peer.saw(b"from the nested one"));
        let fdb = switch.json(&["fdb"]);
        let learned = fdb.as_array().expect("an array").iter().find(|line| line["mac"] == NESTED);
        let learned = learned.unwrap_or_else(|| panic!("not learned: {fdb}"));
        assert_eq!((&learned["kind"], &learned["endpoint"]), (&"learned".into(), &"nested".into()));
        send(&peer, NESTED, &peer.mac(), b"to the nested one");
        eventually("the answer", Duration::from_secs(5), || at_nested.saw(b"to the nested one"));
        // With the guard the same frame does not leave.
        let spoofed = switch.drops("spoofed_mac");
        send(&peer, &nested.mac(), NESTED, b"with the guard");
        eventually("spoofed_mac", Duration::from_secs(5), || switch.drops("spoofed_mac") > spoofed);
        assert!(!at_nested.saw(b"with the guard"));
    }
}

as_root_and_user! {
    fn an_address_that_comes_back_with_another_mac_is_reached_at_once(who: Who) {
        let switch = Switch::start(who, &[]);
        let (web, first) = (Container::new(&switch, "web"), Container::new(&switch, "db"));
        let [ip, ip6] = first.addresses();
        assert!(web.reaches(ip) && web.reaches(ip6));
        switch.ok(&["detach", "db"]);
        let mac = "02:00:00:00:00:77";
        let second = Container::with(&switch, "db", &["--ip", &ip.to_string(), "--ip6", &ip6.to_string(), "--mac", mac]);
        for address in second.addresses() {
            assert_eq!(neighbour_mac(&web, address), mac, "of {address}");
            assert!(web.reaches(address), "not at once");
        }
    }
}

as_root_and_user! {
    fn an_attached_container_is_configured_and_shown(who: Who) {
        let switch = Switch::start(who, &["--subnet", "192.168.227.0/24"]);
        let web = Container::new(&switch, "web");
        let db = Container::with(&switch, "db", &["--ip", "192.168.227.77"]);

        assert_eq!(web.ipv4().to_string(), "192.168.227.2");
        assert_eq!(web.mac(), "02:42:c0:a8:e3:02");
        assert_eq!(db.ipv4().to_string(), "192.168.227.77");
        let device = &web.ip(&["address", "show", "dev", "eth0"])[0];
        assert_eq!(device["address"], "02:42:c0:a8:e3:02");
        assert_eq!(device["mtu"], 1500);
        let locals: Vec<_> = device["addr_info"].as_array().expect("an array").iter().map(|info| &info["local"]).collect();
        assert!(web.addresses().iter().all(|ours| locals.iter().any(|local| **local == ours.to_string())), "{device}");
        assert_eq!(web.ip(&["route", "show", "default"])[0]["gateway"], "192.168.227.1");

        let network = switch.json(&["network", "inspect", "default"]);
        assert_eq!(network["subnet"], "192.168.227.0/24");
        assert_eq!(network["endpoints"], serde_json::json!(["db", "web"]));
        let fdb = switch.json(&["fdb"]);
        let shows = |mac: &Value| fdb.as_array().expect("an array").iter().any(|line| &line["mac"] == mac);
        assert!(shows(&web.mac().into()) && shows(&network["gateway_mac"]), "{fdb}");

        assert!(web.reaches(db.ipv4()));
        let line = switch.endpoint("web").expect("web is attached");
        assert!(line["rx_frames"].as_u64() > Some(0) && line["tx_frames"].as_u64() > Some(0), "{line}");
        switch.ok(&["detach", "web"]);
        assert!(switch.endpoint("web").is_none() && !web.has_device("eth0"));
        assert!(!db.reaches(web.ipv4()));
    }
}

as_root_and_user! {
    fn tcp_and_udp_pass_at_mtu_1500(who: Who) {
        every_load_passes(who, &["--mtu", "1500"]);
    }
}

as_root_and_user! {
    fn tcp_and_udp_pass_at_mtu_9000(who: Who) {
        every_load_passes(who, &["--mtu", "9000"]);
    }
}

as_root_and_user! {
    fn tcp_and_udp_pass_at_mtu_65521(who: Who) {
        every_load_passes(who, &["--mtu", "65521"]);
    }
}

as_root_and_user! {
    fn plain_ports_carry_the_same_traffic(who: Who) {
        every_load_passes(who, &["--offload", "off"]);
    }
}

as_root_and_user! {
    /// Offload is the daemon's choice for the devices that it makes. The next daemon takes the first's device as it is.
    fn a_plain_port_and_one_with_offload_carry_the_same_traffic(who: Who) {
        let first = Switch::start(who, &["--offload", "on"]);
        let server = Container::new(&first, "server");
        first.kill_keeper();
        let switch = Switch::start_in(Rc::clone(first.session()), &["--offload", "off"]);
        let client = Container::new(&switch, "client");
        let has_header = |container: &Container| {
            container.ip(&["-details", "link", "show", "eth0"])[0]["linkinfo"]["info_data"]["vnet_hdr"].clone()
        };
        assert_eq!([&server, &client].map(has_header), [true, false]);
        every_load_passes_between(&switch, &server, &client);
    }
}

as_root_and_user! {
    fn networks_are_isolated_and_one_namespace_can_be_on_two(who: Who) {
        let switch = Switch::start(who, &[]);
        switch.ok(&["network", "create", "back"]);
        let front = Container::new(&switch, "front");
        let back = Container::with(&switch, "back", &["--network", "back"]);
        assert_ne!(front.ipv4().octets()[..2], back.ipv4().octets()[..2]);
        assert!(!front.reaches(back.ipv4()) && !back.reaches(front.ipv6()));

        let both = Container::with(&switch, "both", &[]);
        both.attach(&switch, "both-back", &["--network", "back", "--ifname", "eth1"]);
        for target in [front.addresses(), back.addresses()].concat() {
            assert!(both.reaches(target), "no answer from {target}");
        }
        assert!(!front.reaches(back.ipv4()), "a container on two networks must not join them");
    }
}

/// TCP and UDP, both ways, both IP versions; then both laws of conservation, in the live counters.
fn every_load_passes(who: Who, flags: &[&str]) {
    let switch = Switch::start(who, flags);
    let (server, client) = (Container::new(&switch, "server"), Container::new(&switch, "client"));
    every_load_passes_between(&switch, &server, &client);
}

fn every_load_passes_between(switch: &Switch, server: &Container, client: &Container) {
    for address in server.addresses() {
        for load in [Load::Tcp, Load::Udp] {
            for reverse in [false, true] {
                iperf::measure(server, client, address, load, reverse, 1);
            }
        }
    }
    eventually("quiet counters that obey both laws", Duration::from_secs(5), || {
        let stats = switch.json(&["stats"]);
        let endpoints = stats["endpoints"].as_array().expect("an array");
        endpoints.len() == 2 && endpoints.iter().chain([&stats["total"]]).all(obeys_both_laws)
    });
    for reason in ["malformed", "truncated", "bad_offload", "too_big", "refused", "tx_too_big"] {
        assert_eq!(switch.drops(reason), 0, "{reason}: {}", switch.total());
    }
}

fn obeys_both_laws(port: &Value) -> bool {
    let count = |field: &str| port[field].as_u64().expect("a count");
    let drops =
        |field: &str| port[field].as_object().expect("reason to count").values().filter_map(Value::as_u64).sum::<u64>();
    count("rx_frames") == count("unicast") + count("flooded") + count("answered") + count("local") + drops("rx_drops")
        && count("tx_decided") == count("tx_frames") + drops("tx_drops")
}

fn neighbour_mac(container: &Container, address: IpAddr) -> String {
    let entry = container.ip(&["neighbour", "show", &address.to_string()]);
    entry[0]["lladdr"].as_str().unwrap_or_else(|| panic!("no neighbour {address}: {entry}")).to_owned()
}

fn address(value: &Value) -> IpAddr {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{value} is no address"))
}

/// The names of the host's devices.
fn links() -> Vec<String> {
    let output = Command::new(tapswitch_tests::tool("ip")).args(["-brief", "link", "show"]).output().expect("run ip");
    let text = String::from_utf8(output.stdout).expect("ip prints text");
    text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}
