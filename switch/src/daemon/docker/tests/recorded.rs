//! What real engines asked a driver, call by call, and what ours answers.
//!
//! Each line of `recorded/*.jsonl` is a call with its request, and the id of the pool that its answer named. The recorded driver
//! chose ranges of its own, so they are asked for by number here; it failed some calls on purpose, which succeed here; and it
//! wanted to be asked again for what it had given, which ours does not.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::Plugin;
use crate::daemon::control::testing::dir;

#[test]
fn docker_20_10_gets_the_right_answers() {
    replay(include_str!("../recorded/docker-20.10.jsonl"));
}

#[test]
fn docker_26_1_gets_the_right_answers() {
    replay(include_str!("../recorded/docker-26.1.jsonl"));
}

/// What is known of the engine's networks, by id.
#[derive(Default)]
struct Seen {
    gateways: BTreeMap<String, (String, String)>,
    internal: BTreeSet<String>,
    /// Their ranges.
    pools: BTreeMap<String, Vec<String>>,
    /// Those whose DeleteNetwork the recorded driver failed, or that were to fail themselves.
    calls: BTreeSet<String>,
}

fn replay(recorded: &str) {
    let dir = dir();
    let plugin = Plugin::new(dir.path());
    let mut seen = Seen::default();
    for line in recorded.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let call = line["call"].as_str().unwrap();
        let request = as_ours(&line);
        if call == "IpamDriver.RequestPool" && seen.pools.values().flatten().any(|pool| request["Pool"] == *pool) {
            let refusal = plugin.fails(call, &request);
            assert!(refusal.contains("is network"), "{refusal}");
            continue;
        }
        let answer = plugin.well(call, &request);
        check(call, &request, &answer, &mut seen);
        seen.calls.insert(call.to_owned());
    }
    assert!(seen.calls.len() >= 16, "every call of both drivers: {:?}", seen.calls);
    assert!(plugin.daemon().list().len() <= 2, "what Docker forgot is gone: {:?}", plugin.daemon().list());
}

/// The request, with the range that the recorded driver chose, and our ids of it.
fn as_ours(line: &Value) -> Value {
    let mut request = line["req"].clone();
    if let Some((_, pool)) = line["gave"].as_str().and_then(|id| id.split_once('/')) {
        request["Pool"] = pool.into();
    }
    if let Some((_, pool)) = request["PoolID"].as_str().and_then(|id| id.split_once('/')) {
        request["PoolID"] = format!("tapswitch/{pool}").into();
    }
    request
}

fn check(call: &str, request: &Value, answer: &Value, seen: &mut Seen) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let short = |id: &Value| text(id)[..12].to_owned();
    match call {
        "Plugin.Activate" => assert_eq!(answer, &json!({ "Implements": ["NetworkDriver", "IpamDriver"] })),
        "NetworkDriver.GetCapabilities" => {
            assert_eq!(answer, &json!({ "Scope": "local", "ConnectivityScope": "local" }));
        }
        "IpamDriver.GetCapabilities" => {
            assert_eq!(answer, &json!({ "RequiresMACAddress": true, "RequiresRequestReplay": false }));
        }
        "IpamDriver.GetDefaultAddressSpaces" => {
            assert_ne!(answer["LocalDefaultAddressSpace"], answer["GlobalDefaultAddressSpace"]);
        }
        "NetworkDriver.CreateNetwork" => {
            let id = text(&request["NetworkID"]);
            if request["Options"]["com.docker.network.internal"] == true {
                seen.internal.insert(id.clone());
            }
            let gateway =
                |family: &str| text(&request[family][0]["Gateway"]).split('/').next().unwrap_or_default().to_owned();
            let pools = ["IPv4Data", "IPv6Data"].map(|family| text(&request[family][0]["Pool"]));
            seen.pools.insert(id.clone(), pools.into());
            seen.gateways.insert(id, (gateway("IPv4Data"), gateway("IPv6Data")));
            assert_eq!(answer, &json!({}));
        }
        "NetworkDriver.DeleteNetwork" => {
            seen.pools.remove(&text(&request["NetworkID"]));
            assert_eq!(answer, &json!({}));
        }
        "NetworkDriver.CreateEndpoint" => {
            // What Docker has said may not be said again, and what it has not is a MAC.
            let interface = answer["Interface"].as_object().unwrap();
            let asked = request["Interface"]["MacAddress"] == "";
            assert_eq!(interface.keys().collect::<Vec<_>>(), if asked { vec!["MacAddress"] } else { vec![] });
            if asked {
                let [a, b, c, d] = octets(&text(&request["Interface"]["Address"]));
                assert_eq!(interface["MacAddress"], format!("02:42:{a:02x}:{b:02x}:{c:02x}:{d:02x}"));
            }
        }
        "NetworkDriver.Join" => {
            let id = text(&request["NetworkID"]);
            let internal = seen.internal.contains(&id);
            let (v4, v6) = seen.gateways[&id].clone();
            let (v4, v6) = if internal { Default::default() } else { (v4, v6) };
            let wanted = json!({
                "InterfaceName": {"SrcName": format!("tsd{}", short(&request["EndpointID"])), "DstPrefix": "eth"},
                "Gateway": v4, "GatewayIPv6": v6, "StaticRoutes": [], "DisableGatewayService": internal,
            });
            assert_eq!(answer, &wanted);
        }
        "NetworkDriver.EndpointOperInfo" => assert!(answer["Value"].is_object()),
        "IpamDriver.RequestPool" => {
            assert_eq!(answer["Pool"], request["Pool"]);
            assert_eq!(answer["PoolID"], format!("tapswitch/{}", text(&request["Pool"])));
        }
        "IpamDriver.RequestAddress" => {
            let (address, length) =
                text(&answer["Address"]).split_once('/').map(|(a, l)| (a.to_owned(), l.to_owned())).unwrap();
            assert!(text(&request["PoolID"]).ends_with(&format!("/{length}")), "{request}: {answer}");
            if request["Address"] != "" {
                assert_eq!(request["Address"], address);
            }
        }
        _ => assert_eq!(answer, &json!({}), "{call}"),
    }
}

fn octets(address: &str) -> [u8; 4] {
    address.split('/').next().unwrap().parse::<std::net::Ipv4Addr>().unwrap().octets()
}
