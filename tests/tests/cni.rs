//! The CNI face, called as a runtime calls it: environment, configuration on stdin, JSON on stdout.

mod plugged;

use std::thread;

use serde_json::{Value, json};
use tapswitch_tests::{Container, Internet, Probe, Switch, Who, as_root_and_user};

use plugged::{Answer, Cni, recorded};

fn conf(version: &str, more: Value) -> Value {
    let mut conf = json!({"cniVersion": version, "name": "labnet", "type": "tapswitch-cni"});
    conf.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    conf
}

fn labnet() -> Value {
    conf("1.0.0", json!({"ipam": {"subnet": "10.94.0.0/24"}}))
}

fn with(conf: &Value, key: &str, value: &Value) -> Value {
    let mut conf = conf.clone();
    conf[key] = value.clone();
    conf
}

fn names(switch: &Switch) -> Vec<String> {
    let endpoints = switch.json(&["ls"]);
    endpoints.as_array().unwrap().iter().map(|e| e["name"].as_str().unwrap().to_owned()).collect()
}

as_root_and_user! {
    fn containers_get_address_and_route_and_reach_each_other(who: Who) {
        let switch = Switch::start(who, &[]);
        let (a, b) = (Container::unattached(switch.session()), Container::unattached(switch.session()));
        let (cni_a, cni_b) = (Cni::new(&switch, "a-id", &a), Cni::new(&switch, "b-id", &b));

        let result = cni_a.call("ADD", &labnet()).ok();
        let mac = result["interfaces"][0]["mac"].clone();
        assert_eq!(
            result,
            json!({
                "cniVersion": "1.0.0",
                "interfaces": [{"name": "eth0", "mac": mac, "sandbox": cni_a.netns()}],
                "ips": [{"address": "10.94.0.2/24", "gateway": "10.94.0.1", "interface": 0}],
                "routes": [{"dst": "0.0.0.0/0", "gw": "10.94.0.1"}],
                "dns": {"nameservers": ["10.94.0.1"]},
            })
        );
        cni_b.call("ADD", &labnet()).ok();
        assert_eq!(a.ip(&["link", "show", "eth0"])[0]["address"], mac);
        assert!(a.reaches([10, 94, 0, 3]) && b.reaches([10, 94, 0, 2]));
        assert_eq!(names(&switch), ["a-id", "b-id"]);

        cni_a.call("CHECK", &with(&labnet(), "prevResult", &result)).silent();
        cni_a.call("DEL", &with(&labnet(), "prevResult", &result)).silent();
        cni_a.call("DEL", &labnet()).silent();
        assert!(!a.has_device("eth0"));
        assert_eq!(names(&switch), ["b-id"]);
        cni_b.without_netns().call("DEL", &labnet()).silent();
        assert!(!b.has_device("eth0"));
        cni_b.gone_netns().call("DEL", &labnet()).silent();
        assert!(names(&switch).is_empty());
    }
}

as_root_and_user! {
    fn each_version_has_its_own_shape_and_both_families_are_told(who: Who) {
        let switch = Switch::start(who, &[]);
        let ranges = json!([[{"subnet": "10.94.0.0/24"}], [{"subnet": "fd00:94::/64"}]]);
        for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            let container = Container::unattached(switch.session());
            let cni = Cni::new(&switch, "t1", &container);
            let conf = conf(version, json!({"ipam": {"type": "tapswitch", "ranges": ranges}}));
            let result = cni.call("ADD", &conf).ok();
            assert_eq!(result["cniVersion"], version);
            assert_eq!(result["ips"].as_array().unwrap().len(), 2, "{result}");
            assert_eq!(result["ips"][1]["gateway"], "fd00:94::1");
            assert_eq!(result["ips"][1]["version"] == "6", version.starts_with('0'), "{result}");
            assert_eq!(result["interfaces"][0]["mtu"] == 1500, version == "1.1.0", "{result}");
            assert_eq!(result["routes"].as_array().unwrap().len(), 2, "{result}");
            cni.call("DEL", &conf).silent();
        }
    }
}

as_root_and_user! {
    fn check_detects_what_is_missing(who: Who) {
        let switch = Switch::start(who, &[]);
        let conf = conf("1.0.0", json!({
            "ipam": {"subnet": "10.94.0.0/24", "routes": [{"dst": "10.1.0.0/16"}, {"dst": "0.0.0.0/0"}]},
        }));
        for (damage, needle) in [
            (&["ip", "route", "del", "default"][..], "0.0.0.0/0"),
            (&["ip", "route", "del", "10.1.0.0/16"], "10.1.0.0/16"),
            (&["ip", "address", "flush", "dev", "eth0"], "10.94.0."),
            (&["ip", "link", "set", "eth0", "address", "02:00:00:00:00:99"], "MAC"),
            (&["ip", "link", "set", "eth0", "name", "other"], "eth0"),
        ] {
            let container = Container::unattached(switch.session());
            let cni = Cni::new(&switch, "t1", &container);
            let result = cni.call("ADD", &conf).ok();
            assert_eq!(result["routes"][1], json!({"dst": "10.1.0.0/16", "gw": "10.94.0.1"}));
            let check = with(&conf, "prevResult", &result);
            cni.call("CHECK", &check).silent();
            container.ok(damage);
            let error = cni.call("CHECK", &check).error(101);
            assert!(error.contains(needle), "{damage:?}: {error}");
            cni.call("DEL", &check).silent();
        }
        let container = Container::unattached(switch.session());
        let cni = Cni::new(&switch, "t1", &container);
        let result = cni.call("ADD", &conf).ok();
        container.ok(&["ip", "link", "del", "eth0"]);
        cni.call("CHECK", &with(&conf, "prevResult", &result)).error(101);
        cni.call("CHECK", &conf).error(7);
        cni.call("DEL", &conf).silent();
    }
}

as_root_and_user! {
    fn many_at_once_get_one_network_and_different_addresses(who: Who) {
        const MANY: usize = 12;
        let switch = Switch::start(who, &[]);
        let containers: Vec<_> = (0..MANY).map(|_| Container::unattached(switch.session())).collect();
        let cnis: Vec<_> = containers.iter().enumerate().map(|(n, c)| Cni::new(&switch, &format!("c{n}"), c)).collect();
        let all = |command: &'static str| -> Vec<Answer> {
            let running: Vec<_> = cnis
                .iter()
                // The same pod name for all: names need not differ.
                .map(|cni| cni.with("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=web").start(command, &labnet()))
                .map(|child| thread::spawn(move || Answer::of(child)))
                .collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        };
        let mut addresses: Vec<String> =
            all("ADD").into_iter().map(|answer| answer.ok()["ips"][0]["address"].to_string()).collect();
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), MANY);
        assert!(names(&switch).contains(&"web".to_owned()));
        all("DEL").into_iter().for_each(Answer::silent);
        assert!(names(&switch).is_empty());
    }
}

as_root_and_user! {
    fn gc_takes_what_no_runtime_knows_and_leaves_what_people_attached(who: Who) {
        let switch = Switch::start(who, &[]);
        let conf = conf("1.1.0", json!({"ipam": {"subnet": "10.94.0.0/24"}}));
        let containers: Vec<_> = (0..3).map(|_| Container::unattached(switch.session())).collect();
        for (id, container) in ["keep", "stale"].iter().zip(&containers) {
            Cni::new(&switch, id, container).call("ADD", &conf).ok();
        }
        containers[2].attach(&switch, "mine", &["--network", "labnet"]);
        let gc = Cni::of_network(&switch);
        gc.call("GC", &with(&conf, "cni.dev/valid-attachments", &json!([{"containerID": "keep", "ifname": "eth0"}]))).silent();
        assert_eq!(names(&switch), ["keep", "mine"]);
        assert!(!containers[1].has_device("eth0"));
        gc.call("GC", &conf).silent();
        assert_eq!(names(&switch), ["mine"]);
        gc.call("GC", &labnet()).error(1);
    }
}

as_root_and_user! {
    fn status_tells_a_full_network_and_an_absent_daemon(who: Who) {
        let switch = Switch::start(who, &[]);
        let conf = conf("1.1.0", json!({"name": "tiny", "ipam": {"subnet": "10.94.0.0/30"}}));
        let status = Cni::of_network(&switch);
        status.call("STATUS", &conf).silent();
        let (a, b) = (Container::unattached(switch.session()), Container::unattached(switch.session()));
        Cni::new(&switch, "a", &a).call("ADD", &conf).ok();
        status.call("STATUS", &conf).error(50);
        Cni::new(&switch, "b", &b).call("ADD", &conf).error(100);

        let nobody = switch.session().dir().join("nobody/api.sock");
        let absent = with(&conf, "socket", &json!(nobody));
        let error = status.call("STATUS", &absent).error(51);
        assert!(error.contains("tapswitch up"), "{error}");
        let late = Cni::new(&switch, "b", &b);
        late.call("ADD", &absent).error(11);
        // The device may be there still: to be tried again. With its namespace gone, so is the device.
        late.call("DEL", &absent).error(11);
        late.without_netns().call("DEL", &absent).silent();
        late.call("VERSION", &absent).ok();
    }
}

as_root_and_user! {
    fn a_failed_add_leaves_nothing(who: Who) {
        let switch = Switch::start(who, &[]);
        let ipam = plugged::fake_ipam(switch.session(), "10.94.0.9/24", "10.94.0.1");
        let (a, b) = (Container::unattached(switch.session()), Container::unattached(switch.session()));
        let delegated = conf("1.0.0", json!({"ipam": {"type": "fake-ipam"}}));
        let cni = |id, container| Cni::new(&switch, id, container).with("CNI_PATH", ipam.path());

        let result = cni("a", &a).call("ADD", &delegated).ok();
        assert_eq!(result["ips"][0]["address"], "10.94.0.9/24");
        assert_eq!(ipam.log(), "ADD a\n");
        cni("a", &a).call("CHECK", &with(&delegated, "prevResult", &result)).silent();
        // The address is taken: the switch refuses, and the delegated plugin has it back.
        cni("b", &b).call("ADD", &delegated).error(100);
        assert_eq!(ipam.log(), "ADD a\nCHECK a\nADD b\nDEL b\n");
        assert!(!b.has_device("eth0"));
        cni("a", &a).call("DEL", &delegated).silent();
        cni("a", &a).without_netns().call("DEL", &delegated).silent();
        assert!(ipam.log().ends_with("DEL b\nDEL a\nDEL a\n"));
        // A delegated plugin that is gone is no reason to leave the device.
        cni("a", &a).call("ADD", &delegated).ok();
        cni("a", &a).with("CNI_PATH", "/nowhere").call("DEL", &delegated).error(5);
        assert!(!a.has_device("eth0"));

        // A route by a gateway that nobody is: the device is taken away again.
        let astray = conf("1.0.0", json!({"ipam": {"subnet": "10.94.0.0/24", "routes": [{"dst": "10.1.0.0/16", "gw": "10.9.9.9"}]}}));
        cni("b", &b).call("ADD", &astray).error(5);
        assert!(names(&switch).is_empty());
        // A device of that name is there already.
        b.attach(&switch, "mine", &[]);
        cni("b", &b).call("ADD", &labnet()).error(100);
        assert_eq!(names(&switch), ["mine"]);
        cni("b", &b).call("ADD", &conf("1.0.0", json!({"ipam": {"type": "not-there"}}))).error(5);
    }
}

as_root_and_user! {
    fn wishes_for_address_and_mac_are_granted_or_refused(who: Who) {
        let switch = Switch::start(who, &[]);
        let (a, b) = (Container::unattached(switch.session()), Container::unattached(switch.session()));
        let conf = conf("1.0.0", json!({
            "ipam": {"subnet": "10.94.0.0/24"}, "mtu": 1400, "icc": false, "uplink": "none",
            "runtimeConfig": {"ips": ["10.94.0.77/24"], "mac": "02:12:34:56:78:9a"},
        }));
        let result = Cni::new(&switch, "a", &a).call("ADD", &conf).ok();
        assert_eq!(result["ips"][0]["address"], "10.94.0.77/24");
        let link = &a.ip(&["link", "show", "eth0"])[0];
        assert_eq!((&link["mtu"], &link["address"]), (&json!(1400), &json!("02:12:34:56:78:9a")));
        let network = switch.json(&["network", "inspect", "labnet"]);
        assert_eq!((&network["icc"], &network["uplink"]), (&json!(false), &json!("none")));

        let b = Cni::new(&switch, "b", &b);
        let error = b.call("ADD", &conf).error(100);
        assert!(error.contains("10.94.0.77") || error.contains("02:12:34:56:78:9a"), "{error}");
        b.with("CNI_ARGS", "IP=10.94.0.1").call("ADD", &labnet()).error(100);
        b.with("CNI_ARGS", "WHAT=ever").call("ADD", &labnet()).error(4);
        b.with("CNI_IFNAME", "a/b").call("ADD", &labnet()).error(4);
        b.call("ADD", &with(&labnet(), "ipam", &json!({"subnet": "10.95.0.0/24"}))).error(7);
        b.call("ADD", &with(&labnet(), "vlan", &json!(5))).error(2);
        b.call("ADD", &with(&labnet(), "prevResult", &json!({}))).error(7);
        b.call("ADD", &with(&labnet(), "cniVersion", &json!("0.2.0"))).error(1);
        b.call("FLY", &labnet()).error(4);
        b.send("ADD", "{\"cniVersion\":").error(6);
        b.send("ADD", &" ".repeat(5 << 20)).error(5);
        b.with("CNI_NETNS", "/dev/null").call("ADD", &labnet()).error(8);
        b.with("CNI_NETNS", "/proc/self/ns/net").call("ADD", &labnet()).error(8);
        b.without_netns().call("ADD", &labnet()).error(4);
        assert_eq!(names(&switch), ["a"]);
    }
}

/// Requests of real engines, with our namespace, and answers as they were but for addresses. The ports that they ask for are
/// those of a host of its own.
fn replay(who: Who, file: &str) {
    let internet = Internet::new(who);
    let switch = internet.switch(&[]);
    let ipam = plugged::fake_ipam(switch.session(), "10.94.0.77/24", "10.94.0.1");
    let container = Container::unattached(switch.session());
    let mut made = Value::Null;
    for request in recorded(file) {
        let mut cni = Cni::new(&switch, "", &container);
        for (key, value) in request["env"].as_object().unwrap() {
            let value = value.as_str().unwrap();
            cni = match key.as_str() {
                "CNI_PATH" => cni.with(key, ipam.path()),
                "CNI_NETNS" if value.starts_with('/') => cni.with(key, cni.netns()),
                _ => cni.with(key, value),
            };
        }
        let mut stdin = request["stdin"].clone();
        if stdin.get("ipam").is_some() {
            stdin["ipam"]["type"] = "fake-ipam".into();
        }
        if stdin.get("prevResult").is_some() {
            stdin["prevResult"] = made.clone();
        }
        let command = request["env"]["CNI_COMMAND"].as_str().unwrap();
        let answer = cni.call(command, &stdin);
        match command {
            "ADD" => {
                made = answer.ok();
                let mut wanted = request["out"].clone();
                wanted["interfaces"][0]["sandbox"] = cni.netns().into();
                wanted["interfaces"][0]["mac"] = container.ip(&["link", "show", "eth0"])[0]["address"].clone();
                wanted["ips"][0]["address"] = "10.94.0.77/24".into();
                wanted["dns"] = json!({"nameservers": ["10.94.0.1"]});
                assert_eq!(made, wanted);
                let args = request["env"]["CNI_ARGS"].as_str().unwrap();
                let mac = args.split(';').find_map(|arg| arg.strip_prefix("MAC="));
                assert!(mac.is_none_or(|mac| made["interfaces"][0]["mac"] == mac), "{made}");
                let pod = args.split(';').find_map(|arg| arg.strip_prefix("K8S_POD_NAME="));
                let endpoint = switch.endpoint(pod.unwrap_or("default-t1")).expect("it has the pod's name");
                let ports = &request["stdin"]["runtimeConfig"]["portMappings"];
                assert_eq!(endpoint["published"][0]["host_port"], ports[0]["hostPort"], "{endpoint}");
                let aliases = &request["stdin"]["runtimeConfig"]["aliases"]["labnet"];
                assert!(aliases.is_null() || endpoint["aliases"] == *aliases, "{endpoint}");
            }
            "DEL" => {
                answer.silent();
                assert!(names(&switch).is_empty());
                assert!(!container.has_device("eth0"));
            }
            _ => assert_eq!(answer.ok()["supportedVersions"].as_array().unwrap().len(), 5),
        }
    }
}

as_root_and_user! {
    fn what_containerd_s_ctr_sends_is_answered(who: Who) {
        replay(who, "cni-ctr.jsonl");
    }
}

as_root_and_user! {
    fn what_podman_4_sends_is_answered(who: Who) {
        replay(who, "cni-podman-4.3.jsonl");
    }
}

as_root_and_user! {
    fn a_port_of_a_container_on_two_networks_leads_to_the_first_and_then_to_the_other(who: Who) {
        let internet = Internet::new(who);
        let switch = internet.switch(&[]);
        let container = Container::unattached(switch.session());
        let first = Cni::new(&switch, "a-id", &container);
        let second = first.with("CNI_IFNAME", "eth1");
        let ports = json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]});
        let labnet = with(&labnet(), "runtimeConfig", &ports);
        let back = with(&with(&labnet, "name", &json!("back")), "ipam", &json!({"subnet": "10.96.0.0/24"}));
        first.call("ADD", &labnet).ok();
        second.call("ADD", &back).ok();
        let mut server = container.spawn(&["tapswitch-probe", "peer", "0.0.0.0:80"]);
        server.wait_until_ready();
        let (host, far) = (internet.host_addresses()[0], internet.addresses()[0]);
        let from_afar = format!("ready\nyou are {far}\nend");
        assert_eq!(Probe::ask(internet.far(), "read", host, 8080, &[]), from_afar);
        first.call("DEL", &labnet).silent();
        let loopback = [127, 0, 0, 1].into();
        assert_eq!(Probe::ask(internet.host(), "read", loopback, 8080, &[]), "ready\nyou are 10.96.0.1\nend");
        // The default route went with the first network's device.
        container.ok(&["ip", "route", "add", "default", "via", "10.96.0.1"]);
        assert_eq!(Probe::ask(internet.far(), "read", host, 8080, &[]), from_afar);
        second.call("DEL", &back).silent();
        let other = Container::unattached(switch.session());
        Cni::new(&switch, "b-id", &other).call("ADD", &labnet).ok();
    }
}

as_root_and_user! {
    fn a_link_by_its_name_is_the_plugin(who: Who) {
        let switch = Switch::start(who, &[]);
        let container = Container::unattached(switch.session());
        let cni = Cni::new(&switch, "t1", &container).by_link(switch.session(), "tapswitch-cni");
        cni.call("ADD", &labnet()).ok();
        assert!(container.has_device("eth0"));
        cni.call("DEL", &labnet()).silent();
        let said = cni.call("", &labnet());
        assert_eq!((said.code, said.stdout.as_str()), (0, ""));
        assert!(said.stderr.contains("CNI plugin"), "{}", said.stderr);
    }
}

#[test]
fn the_page_s_commands_work_as_root() {
    let switch = Switch::start(Who::Root, &[]);
    let dir = switch.session().dir();
    let (bin, conf) = (dir.join("cni-bin"), dir.join("net.d"));
    std::fs::create_dir(&bin).unwrap();
    std::fs::create_dir(&conf).unwrap();
    let program = tapswitch_tests::program("tapswitch");
    let said = plugged::run_page(
        &switch,
        "cni.md",
        &[("/opt/cni/bin", &bin), ("/etc/cni/net.d", &conf), ("/usr/local/bin/tapswitch", &program)],
    );
    for needle in ["10.94.0.2/24", "cni:web1"] {
        assert!(said.contains(needle), "{said}");
    }
    // The list is one that a runtime reads.
    let list: Value = serde_json::from_str(&std::fs::read_to_string(conf.join("10-web.conflist")).unwrap()).unwrap();
    assert_eq!(list["plugins"][0]["type"], "tapswitch-cni");
    assert!(names(&switch).is_empty());
}
