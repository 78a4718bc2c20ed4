use serde_json::json;

use super::*;

fn config(more: Value) -> Config {
    let mut object = json!({"cniVersion": "1.0.0", "name": "labnet", "type": "tapswitch-cni"});
    object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Config::read(object.to_string().as_bytes()).unwrap()
}

fn wishes(more: Value) -> Result<Wishes, CniError> {
    config(more).wishes(&CniArgs::default())
}

#[test]
fn a_bridge_s_usual_configuration_is_taken() {
    let wishes = wishes(json!({
        "bridge": "cni0", "isGateway": true, "isDefaultGateway": true, "ipMasq": true, "mtu": 0, "hairpinMode": false,
        "myopt": "x", "capabilities": {"portMappings": true}, "vlan": 0, "portIsolation": true,
    }));
    let network = wishes.unwrap().network;
    assert_eq!((network.name.as_str(), network.mtu, network.icc), ("labnet", None, Some(false)));
}

#[test]
fn what_is_not_had_here_is_refused_by_its_name() {
    for (key, value) in [
        ("hairpinMode", json!(true)),
        ("promiscMode", json!(true)),
        ("vlan", json!(7)),
        ("vlanTrunk", json!([{"id": 7}])),
        ("enabledad", json!(true)),
        ("disableContainerInterface", json!(true)),
    ] {
        let error = wishes(json!({key: value})).unwrap_err();
        assert_eq!(error.code, Code::UNSUPPORTED);
        assert!(error.msg.contains(key), "{error}");
    }
}

#[test]
fn the_runtime_s_limits_of_the_rate_are_those_of_the_pod() {
    let rates = |bandwidth: Value| wishes(json!({"runtimeConfig": {"bandwidth": bandwidth}})).unwrap().rates;
    let limit = |rate, burst| Some(RateLimit { rate, burst: Some(burst) });
    let both = json!({"ingressRate": 8000, "ingressBurst": 9000, "egressRate": 1000, "egressBurst": u32::MAX});
    let wanted = Rates { ingress: limit(8000, 9000), egress: limit(1000, u32::MAX.into()) };
    assert_eq!(rates(both), wanted);
    let one = json!({"egressRate": 1000, "egressBurst": 1, "ingressRate": 0, "ingressBurst": 0});
    assert_eq!(rates(one), Rates { ingress: None, egress: limit(1000, 1) });
    for none in [json!({}), json!(null), json!({"ingressRate": 0})] {
        assert_eq!(rates(none), Rates::default());
    }
}

#[test]
fn a_limit_of_the_rate_that_cannot_be_is_invalid() {
    for (bandwidth, needle) in [
        (json!({"ingressRate": 8000}), "ingressRate asks for ingressBurst"),
        (json!({"egressBurst": 8000}), "egressBurst asks for egressRate"),
        (json!({"ingressRate": 8000, "ingressBurst": 1_u64 << 36}), "burst"),
        (json!({"ingressRate": 7, "ingressBurst": 8000}), "7 bits per second"),
        (json!({"ingressRate": -1, "ingressBurst": 8000}), "bandwidth"),
        (json!({"ingressRate": "1M"}), "bandwidth"),
        (json!(1000), "bandwidth"),
    ] {
        let error = wishes(json!({"runtimeConfig": {"bandwidth": bandwidth}})).unwrap_err();
        assert_eq!(error.code, Code::CONFIG);
        assert!(error.msg.contains(needle), "{error}");
    }
}

#[test]
fn the_runtime_s_mac_wins_over_the_others() {
    let args = CniArgs { mac: Some("02:00:00:00:00:03".into()), ..CniArgs::default() };
    let mac = |more| config(more).wishes(&args).unwrap().mac.unwrap().to_string();
    let conventional = json!({"cni": {"mac": "02:00:00:00:00:02"}});
    assert_eq!(mac(json!({"runtimeConfig": {"mac": "02:00:00:00:00:01"}, "args": conventional})), "02:00:00:00:00:01");
    assert_eq!(mac(json!({"args": conventional})), "02:00:00:00:00:02");
    assert_eq!(mac(json!({})), "02:00:00:00:00:03");
    assert_eq!(wishes(json!({"runtimeConfig": {"mac": "zz"}})).unwrap_err().code, Code::CONFIG);
}

#[test]
fn addresses_are_gathered_from_all_places_once() {
    let args = CniArgs { ips: vec!["10.94.0.7".parse().unwrap()], ..CniArgs::default() };
    let more = json!({"runtimeConfig": {"ips": ["10.94.0.7/24", "fd00::7"]}, "args": {"cni": {"ips": ["10.94.0.7"]}}});
    let wishes = config(more).wishes(&args).unwrap();
    assert_eq!(wishes.ips, ["10.94.0.7".parse::<IpAddr>().unwrap(), "fd00::7".parse().unwrap()]);
}

#[test]
fn ports_and_aliases_are_read_as_podman_and_others_send_them() {
    let runtime = json!({
        "portMappings": [{"hostPort": 8082, "containerPort": 80, "protocol": "tcp", "hostIP": "127.0.0.1"}],
        "aliases": {"labnet": ["232544a6bb60", "not a name"], "other": ["x"]},
    });
    let podman = wishes(json!({"runtimeConfig": runtime})).unwrap();
    assert_eq!((podman.publish, podman.aliases), (vec!["127.0.0.1:8082:80/tcp".into()], vec!["232544a6bb60".into()]));
    assert_eq!(wishes(json!({"runtimeConfig": {"aliases": ["db"]}})).unwrap().aliases, ["db"]);
    let bad = json!({"runtimeConfig": {"portMappings": [{"hostPort": 0, "containerPort": 80}]}});
    assert_eq!(wishes(bad).unwrap_err().code, Code::CONFIG);
}

#[test]
fn what_is_no_configuration_has_the_specification_s_code() {
    for (text, code) in [
        ("", Code::DECODE),
        ("[]", Code::DECODE),
        (r#"{"cniVersion":"1.0.0","name":"n","mtu":"many"}"#, Code::DECODE),
        (r#"{"name":"n"}"#, Code::VERSION),
        (r#"{"cniVersion":"0.2.0","name":"n"}"#, Code::VERSION),
        (r#"{"cniVersion":"1.0.0"}"#, Code::CONFIG),
        (r#"{"cniVersion":"1.0.0","name":"../x"}"#, Code::CONFIG),
        (&format!(r#"{{"cniVersion":"1.0.0","name":"{}"}}"#, "n".repeat(64)), Code::CONFIG),
    ] {
        assert_eq!(Config::read(text.as_bytes()).unwrap_err().code, code, "{text}");
    }
}

#[test]
fn both_spellings_of_the_list_of_the_living_are_read() {
    let list = json!([{"containerID": "t1", "ifname": "eth0"}]);
    let one = ValidAttachment { container: "t1".into(), ifname: "eth0".into() };
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        assert_eq!(config(json!({key: list})).valid_attachments(), std::slice::from_ref(&one), "{key}");
    }
    assert!(config(json!({})).valid_attachments().is_empty());
}

#[test]
fn the_runtime_s_resolver_wins_over_the_configuration_s() {
    let dns = json!({"nameservers": ["10.0.0.1"]});
    let runtime = json!({"dns": {"servers": ["10.0.0.2"], "searches": ["x"]}});
    let both = config(json!({"dns": dns, "runtimeConfig": runtime})).dns().unwrap();
    assert_eq!((both.nameservers, both.search), (vec!["10.0.0.2".to_owned()], vec!["x".to_owned()]));
    assert_eq!(config(json!({"dns": dns})).dns().unwrap().nameservers, ["10.0.0.1"]);
    assert_eq!(config(json!({"dns": {}})).dns(), None);
}

#[test]
fn a_value_of_another_kind_is_an_error_that_names_its_key() {
    for (more, needle) in [
        (json!({"icc": "maybe"}), "read the configuration: icc: invalid type: string \"maybe\", expected a boolean"),
        (json!({"ipam": 7}), "read the configuration: ipam: "),
        (json!({"runtimeConfig": {"mac": 7}}), "read the configuration: runtimeConfig: mac: invalid type"),
        (json!({"uplink": "moon"}), "read the configuration: uplink: unknown variant `moon`"),
    ] {
        let mut object = json!({"cniVersion": "1.0.0", "name": "labnet", "mtu": 1400});
        object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let error = Config::read(object.to_string().as_bytes()).unwrap_err();
        assert_eq!(error.code, Code::DECODE);
        assert!(error.msg.starts_with(needle), "{error}");
    }
}
