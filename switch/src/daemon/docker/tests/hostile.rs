//! What no dockerd would send, and what one might send at a bad time.

use serde_json::{Value, json};

use super::{A, B, NETWORK, Plugin, endpoint, failure, network, of};
use crate::daemon::api::types::{AttachRequest, NetworkCreate};
use crate::daemon::control::testing::{Daemon, SlowDisk, dir};

/// Every call that takes a body.
const CALLS: [&str; 13] = [
    "NetworkDriver.CreateNetwork",
    "NetworkDriver.DeleteNetwork",
    "NetworkDriver.CreateEndpoint",
    "NetworkDriver.DeleteEndpoint",
    "NetworkDriver.EndpointOperInfo",
    "NetworkDriver.Join",
    "NetworkDriver.Leave",
    "NetworkDriver.ProgramExternalConnectivity",
    "NetworkDriver.RevokeExternalConnectivity",
    "IpamDriver.RequestPool",
    "IpamDriver.ReleasePool",
    "IpamDriver.RequestAddress",
    "IpamDriver.ReleaseAddress",
];

fn nothing_is_left(plugin: &Plugin) {
    assert_eq!(plugin.daemon().list(), []);
    let networks = plugin.daemon().call(|c| Ok(c.network_infos())).unwrap();
    assert_eq!(networks.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(), ["default"]);
}

#[test]
fn a_connection_does_not_outlast_its_call() {
    let dir = dir();
    let plugin = Plugin::new(dir.path());
    let answer = plugin.exchange(b"POST /Plugin.Activate HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
}

#[test]
fn a_body_that_is_none_is_an_error_in_the_protocol_s_shape() {
    let dir = dir();
    let plugin = Plugin::new(dir.path());
    for call in CALLS {
        for body in
            ["", "{", "[]", "null", "7", "\"x\"", r#"{"NetworkID":7,"EndpointID":7,"PoolID":7,"Pool":7}"#, "\0\0"]
        {
            let text = failure(call, plugin.post(call, body.as_bytes()));
            assert!(text.contains("body") || text.contains("JSON"), "{call} {body}: {text}");
        }
    }
    nothing_is_left(&plugin);
}

#[test]
fn a_hundred_megabytes_are_refused_before_they_are_read() {
    let dir = dir();
    let plugin = Plugin::new(dir.path());
    for call in ["NetworkDriver.Join", "Plugin.Activate"] {
        let head =
            format!("POST /{call} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 104857600\r\n\r\n{{");
        let answer = plugin.exchange(head.as_bytes());
        assert!(
            answer.starts_with("HTTP/1.1 413 ") && answer.contains("\"Err\":") && answer.contains("\"Error\":"),
            "{answer}"
        );
    }
    let (status, _) = plugin.post("NetworkDriver.Join", &vec![b' '; 100000]);
    assert_eq!(status, 413);
    nothing_is_left(&plugin);
}

#[test]
fn ids_that_are_none_are_refused_and_unknown_ones_are_gone_already() {
    let dir = dir();
    let plugin = Plugin::new(dir.path());
    for id in ["", "../../etc", "é", "G", &"a".repeat(1000), "x\ny"] {
        let text = plugin.fails("NetworkDriver.Join", &json!({"NetworkID": id, "EndpointID": id}));
        assert!(text.contains("id of Docker's"), "{text}");
    }
    for call in ["DeleteEndpoint", "Leave", "RevokeExternalConnectivity", "DeleteNetwork"] {
        assert_eq!(plugin.well(&format!("NetworkDriver.{call}"), &of(A)), json!({}));
    }
    assert_eq!(plugin.well("NetworkDriver.EndpointOperInfo", &of(A)), json!({"Value": {}}));
    for call in ["Join", "ProgramExternalConnectivity"] {
        assert!(plugin.fails(&format!("NetworkDriver.{call}"), &of(A)).contains("no endpoint 08bf98db7514"));
    }
    let text = plugin.fails("NetworkDriver.CreateEndpoint", &endpoint(NETWORK, A, "10.91.0.2/24"));
    assert!(text.contains("no network e9b9385a3486"), "{text}");
    for call in ["ReleasePool", "ReleaseAddress"] {
        assert_eq!(
            plugin.well(&format!("IpamDriver.{call}"), &json!({"PoolID": "x", "Address": "10.0.0.1"})),
            json!({})
        );
    }
    assert!(plugin.fails("IpamDriver.RequestAddress", &json!({"PoolID": "x"})).contains("no such pool"));
    nothing_is_left(&plugin);
}

#[test]
fn what_is_no_call_is_not_found_and_nothing_but_post_goes() {
    let dir = dir();
    let plugin = Plugin::new(dir.path());
    let (status, value) = plugin.post("NetworkDriver.Fly", b"{}");
    assert!(status == 404 && value["Err"] == "there is no /NetworkDriver.Fly", "{status} {value}");
    let answer = plugin.exchange(b"GET /Plugin.Activate HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("POST does"), "{answer}");
}

#[test]
fn what_is_asked_twice_gives_the_same_answer() {
    let dir = dir();
    let plugin = Plugin::new(dir.path());
    let calls: [(&str, Value); 8] = [
        ("CreateNetwork", network(NETWORK, "10.91.0.0/24")),
        ("CreateEndpoint", endpoint(NETWORK, A, "10.91.0.2/24")),
        (
            "Join",
            json!({"NetworkID": NETWORK, "EndpointID": A, "SandboxKey": "/var/run/docker/netns/7c800c2b77ee", "Options": null}),
        ),
        (
            "ProgramExternalConnectivity",
            json!({"EndpointID": A, "Options": {"com.docker.network.portmap": [
            {"Proto": 6, "Port": 80, "HostPort": 8080, "HostPortEnd": 8080}]}}),
        ),
        ("RevokeExternalConnectivity", of(A)),
        ("Leave", of(A)),
        ("DeleteEndpoint", of(A)),
        ("DeleteNetwork", of(A)),
    ];
    for (call, request) in calls {
        let call = format!("NetworkDriver.{call}");
        assert_eq!(plugin.well(&call, &request), plugin.well(&call, &request), "{call}");
    }
    nothing_is_left(&plugin);
}

#[test]
fn many_at_once_are_all_answered_and_nothing_is_left_of_them() {
    let dir = dir();
    let plugin = Plugin::new(dir.path());
    plugin.well("NetworkDriver.CreateNetwork", &network(NETWORK, "10.91.0.0/24"));
    std::thread::scope(|scope| {
        for n in 2..34u8 {
            let plugin = &plugin;
            scope.spawn(move || {
                let id = format!("{n:02x}").repeat(32);
                let request = endpoint(NETWORK, &id, &format!("10.91.0.{n}/24"));
                // Some twice at once: the second is told that the first is under way, or gets its answer.
                let [one, other] = [(); 2].map(|()| {
                    scope.spawn({
                        let request = request.clone();
                        move || plugin.call("NetworkDriver.CreateEndpoint", &request)
                    })
                });
                let answers = [one, other].map(|call| call.join().unwrap());
                assert!(answers.iter().any(|(status, _)| *status == 200), "{answers:?}");
                for answer in answers.into_iter().filter(|(status, _)| *status != 200) {
                    assert!(failure("CreateEndpoint", answer).contains("being attached"));
                }
                plugin.well("NetworkDriver.Join", &json!({"NetworkID": NETWORK, "EndpointID": id, "SandboxKey": ""}));
                plugin.well("NetworkDriver.Leave", &json!({"EndpointID": id}));
                plugin.well("NetworkDriver.DeleteEndpoint", &json!({"EndpointID": id}));
            });
        }
    });
    plugin.well("NetworkDriver.DeleteNetwork", &json!({"NetworkID": NETWORK}));
    nothing_is_left(&plugin);
}

#[test]
fn an_address_given_to_another_ends_whoever_had_it() {
    let dir = dir();
    let plugin = Plugin::new(dir.path());
    plugin.well("NetworkDriver.CreateNetwork", &network(NETWORK, "10.91.0.0/24"));
    plugin.well("NetworkDriver.CreateEndpoint", &endpoint(NETWORK, A, "10.91.0.2/24"));
    plugin.well("NetworkDriver.CreateEndpoint", &endpoint(NETWORK, B, "10.91.0.2/24"));
    let name = format!("docker-{}/{}", &NETWORK[..12], &B[..12]);
    assert_eq!(plugin.daemon().list(), [(name, [10, 91, 0, 2].into())]);
}

#[test]
fn a_range_given_to_another_network_ends_an_empty_one_and_no_other() {
    let dir = dir();
    let plugin = Plugin::new(dir.path());
    plugin.well("NetworkDriver.CreateNetwork", &network(NETWORK, "10.91.0.0/24"));
    plugin.well("NetworkDriver.CreateNetwork", &network(A, "10.91.0.0/24"));
    plugin.well("NetworkDriver.CreateEndpoint", &endpoint(A, A, "10.91.0.2/24"));
    let text = plugin.fails("NetworkDriver.CreateNetwork", &network(B, "10.91.0.0/24"));
    assert!(text.contains("10.91.0.0/24"), "{text}");
    let text = plugin.fails("NetworkDriver.CreateNetwork", &network(B, "10.1.0.0/24"));
    assert!(text.contains("default"), "one that is not Docker's: {text}");
}

#[test]
fn a_range_that_nobody_asked_for_makes_way_unless_somebody_is_there() {
    let dir = dir();
    let plugin = Plugin::new(dir.path());
    let auto = NetworkCreate { name: "auto".into(), ..NetworkCreate::default() };
    let subnet =
        |name: &'static str| plugin.daemon().call(move |c| c.network_info(&name.parse().unwrap())).unwrap().subnet;
    plugin.daemon().call(move |c| c.create_network(&auto, None)).unwrap();
    assert_eq!(subnet("auto").to_string(), "172.17.0.0/16");
    plugin.well("NetworkDriver.CreateNetwork", &network(NETWORK, "172.17.0.0/16"));
    assert_eq!(subnet("auto").to_string(), "172.18.0.0/16");
    let there = AttachRequest { network: Some("auto".into()), name: Some("web".into()), ..AttachRequest::default() };
    assert_eq!(plugin.daemon().attach_as(there).unwrap().ipv4, Some([172, 18, 0, 2].into()));
    let text = plugin.fails("NetworkDriver.CreateNetwork", &network(A, "172.18.0.0/16"));
    assert!(text.contains("overlaps network auto"), "{text}");
}

#[test]
fn who_waits_for_the_disk_keeps_no_other_waiting() {
    let dir = dir();
    let (slow, disk) = SlowDisk::new();
    let plugin = Plugin::over(Daemon::on_disk(dir.path(), disk), dir.path());
    plugin.well("NetworkDriver.CreateNetwork", &network(NETWORK, "10.91.0.0/24"));
    slow.slow();
    std::thread::scope(|scope| {
        let made = scope.spawn(|| plugin.well("NetworkDriver.CreateNetwork", &network(A, "10.92.0.0/24")));
        slow.await_sync();
        for (call, request) in [
            ("CreateEndpoint", endpoint(NETWORK, A, "10.91.0.2/24")),
            ("Join", json!({"NetworkID": NETWORK, "EndpointID": A, "SandboxKey": "", "Options": null})),
            ("EndpointOperInfo", of(A)),
            ("Leave", of(A)),
            ("DeleteEndpoint", of(A)),
        ] {
            plugin.well(&format!("NetworkDriver.{call}"), &request);
        }
        assert!(!made.is_finished(), "it is not kept yet");
        slow.hurry();
        assert_eq!(made.join().unwrap(), json!({}));
    });
}
