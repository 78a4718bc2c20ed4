//! The netavark plugin, called as podman and netavark call it.

mod plugged;

use serde_json::{Value, json};
use tapswitch_tests::{Container, Internet, Switch, Who, as_root_and_user};

use plugged::{Answer, recorded};

fn plugin(switch: &Switch, words: &[&str], stdin: &Value) -> Answer {
    let mut command = switch.session().command("tapswitch");
    command.arg("netavark").args(words);
    Answer::of(plugged::start(command, &stdin.to_string()))
}

/// The message of an error, which has no other key.
#[track_caller]
fn error(answer: Answer) -> String {
    assert_ne!(answer.code, 0, "{answer:?}");
    let object: Value = serde_json::from_str(&answer.stdout).expect("an error is JSON");
    assert_eq!(object.as_object().expect("an object").len(), 1, "{object}");
    object["error"].as_str().expect("a message").to_owned()
}

fn network(more: Value) -> Value {
    let mut network = json!({"name": "nv1", "id": "70d0", "driver": "tapswitch", "ipv6_enabled": false, "internal": false, "dns_enabled": true});
    network.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    network
}

as_root_and_user! {
    fn what_podman_5_sends_is_answered(who: Who) {
        let internet = Internet::new(who);
        let switch = internet.switch(&[]);
        let container = Container::unattached(switch.session());
        let netns = format!("/proc/{}/ns/net", container.pid());
        for request in recorded("netavark-1.14.jsonl") {
            let word = request["argv"][1].as_str().unwrap();
            let mut stdin = request["stdin"].clone();
            let mut wanted = request["out"].clone();
            match word {
                "create" => {
                    let refused = error(plugin(&switch, &["create"], &stdin));
                    assert!(refused.contains("option x"), "{refused}");
                    stdin["options"] = json!({"icc": "true"});
                    wanted["options"] = stdin["options"].clone();
                    wanted["dns_enabled"] = false.into();
                    wanted["ipam_options"] = json!({"driver": "host-local"});
                    wanted["subnets"][0]["gateway"] = "10.95.0.1".into();
                    assert_eq!(plugin(&switch, &["create"], &stdin).ok(), wanted);
                }
                "setup" => {
                    let made = plugin(&switch, &["setup", &netns], &stdin).ok();
                    let mac = &container.ip(&["link", "show", "eth0"])[0]["address"];
                    wanted["interfaces"]["eth0"]["mac_address"] = mac.clone();
                    wanted["dns_server_ips"] = json!(["10.95.0.1"]);
                    assert_eq!(made, wanted);
                    let endpoint = switch.endpoint("q1").expect("it has the container's name");
                    assert_eq!(endpoint["published"][0]["host_port"], 8086);
                    assert_eq!(endpoint["aliases"], json!(["49825037e538"]));
                }
                _ => {
                    plugin(&switch, &["teardown", &netns], &stdin).silent();
                    assert!(!container.has_device("eth0"));
                    plugin(&switch, &["teardown", "/run/netns/gone"], &stdin).silent();
                }
            }
        }
        assert_eq!(switch.json(&["ls"]), json!([]));
    }
}

as_root_and_user! {
    fn a_subnet_that_is_left_open_is_chosen_and_the_network_is_found_again(who: Who) {
        let switch = Switch::start(who, &[]);
        let made = plugin(&switch, &["create"], &network(json!({"ipv6_enabled": true, "options": {"mtu": "1400"}}))).ok();
        let shown = switch.json(&["network", "inspect", "nv1"]);
        assert_eq!(made["subnets"][0], json!({"subnet": shown["subnet"], "gateway": shown["gateway"]}));
        assert_eq!(made["subnets"][1]["subnet"], shown["subnet6"]);
        assert_eq!(shown["mtu"], 1400);
        // podman keeps no container on it, and the switch is told to forget it: setup makes it anew, as podman keeps it.
        switch.ok(&["network", "rm", "nv1"]);
        let container = Container::unattached(switch.session());
        let netns = format!("/proc/{}/ns/net", container.pid());
        let setup = json!({
            "container_id": "c1", "container_name": "db", "port_mappings": null, "network": made,
            "network_options": {"interface_name": "eth7", "static_ips": null, "static_mac": "02:00:00:00:00:77"},
        });
        let status = plugin(&switch, &["setup", &netns], &setup).ok();
        assert_eq!(status["interfaces"]["eth7"]["mac_address"], "02:00:00:00:00:77");
        assert!(container.has_device("eth7"));
        assert_eq!(switch.json(&["network", "inspect", "nv1"])["subnet"], shown["subnet"]);
        error(plugin(&switch, &["setup", &netns], &setup));
        plugin(&switch, &["teardown", &netns], &setup).silent();
        assert!(!container.has_device("eth7"));
    }
}

#[test]
fn a_container_on_two_networks_has_its_ports_once_as_root() {
    let switch = Switch::start(Who::Root, &[]);
    let container = Container::unattached(switch.session());
    let netns = format!("/proc/{}/ns/net", container.pid());
    let setup = |name: &str, subnet: &str, ifname: &str| {
        let made = plugin(&switch, &["create"], &network(json!({"name": name, "subnets": [{"subnet": subnet}]}))).ok();
        let setup = json!({
            "container_id": "c1", "container_name": "db", "network": made,
            "port_mappings": [{"container_port": 80, "host_ip": "", "host_port": 28080, "protocol": "tcp", "range": 1}],
            "network_options": {"interface_name": ifname, "static_ips": null, "static_mac": null},
        });
        plugin(&switch, &["setup", &netns], &setup).ok();
        setup
    };
    let publishers = || -> Vec<String> {
        let endpoints = switch.json(&["ls"]);
        let endpoints = endpoints.as_array().unwrap().iter();
        let publish = endpoints.filter(|endpoint| endpoint["published"] != json!([]));
        publish.map(|endpoint| endpoint["network"].as_str().unwrap().to_owned()).collect()
    };
    let web = setup("web", "10.95.0.0/24", "eth0");
    let back = setup("back", "10.96.0.0/24", "eth1");
    assert_eq!(publishers(), ["web"]);
    plugin(&switch, &["teardown", &netns], &web).silent();
    assert_eq!(publishers(), ["back"]);
    plugin(&switch, &["teardown", &netns], &back).silent();
    assert_eq!(switch.json(&["ls"]), json!([]));
}

as_root_and_user! {
    fn errors_are_one_object_and_change_nothing(who: Who) {
        let switch = Switch::start(who, &[]);
        for more in [
            json!({"options": {"mtu": "12"}}),
            json!({"ipam_options": {"driver": "dhcp"}}),
            json!({"subnets": [{"subnet": "10.95.0.7/24"}]}),
            json!({"name": "../nv1"}),
        ] {
            error(plugin(&switch, &["create"], &network(more)));
        }
        error(plugin(&switch, &["create"], &json!([])));
        error(plugin(&switch, &["fly"], &json!({})));
        assert_eq!(switch.json(&["network", "ls"]).as_array().unwrap().len(), 1);
        for words in [&["info"][..], &[]] {
            assert_eq!(plugin(&switch, words, &json!({})).ok()["api_version"], "1.0.0");
        }
    }
}

#[test]
fn the_page_s_commands_work_as_root() {
    let switch = Switch::start(Who::Root, &[]);
    let drivers = switch.session().dir().join("netavark");
    std::fs::create_dir(&drivers).unwrap();
    let program = tapswitch_tests::program("tapswitch");
    let request = switch.session().dir().join("one.json");
    let said = plugged::run_page(
        &switch,
        "netavark.md",
        &[("/usr/local/libexec/netavark", &drivers), ("/usr/local/bin/tapswitch", &program), ("request", &request)],
    );
    for needle in ["api_version", "netavark:4982", "mac_address"] {
        assert!(said.contains(needle), "{said}");
    }
    assert_eq!(switch.json(&["network", "ls"]).as_array().unwrap().len(), 1);
}
