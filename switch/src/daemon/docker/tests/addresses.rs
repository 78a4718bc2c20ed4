//! Ranges and addresses that Docker has from us.

use serde_json::{Value, json};

use super::{A, NETWORK, Plugin, endpoint};
use crate::daemon::control::testing::{Act, Daemon, dir, settings};

fn pool(plugin: &Plugin, pool: &str, range: &str, v6: bool) -> String {
    let asked = json!({"AddressSpace": "tapswitch", "Pool": pool, "SubPool": range, "Options": {}, "V6": v6});
    plugin.well("IpamDriver.RequestPool", &asked)["PoolID"].as_str().unwrap().to_owned()
}

fn gateway(plugin: &Plugin, pool: &str) -> String {
    let asked = json!({"PoolID": pool, "Address": "", "Options": {"RequestAddressType": "com.docker.network.gateway"}});
    plugin.well("IpamDriver.RequestAddress", &asked)["Address"].as_str().unwrap().to_owned()
}

fn address(plugin: &Plugin, pool: &str, address: &str, mac: &str) -> (u16, Value) {
    let options = json!({"com.docker.network.endpoint.macaddress": mac});
    plugin.call("IpamDriver.RequestAddress", &json!({"PoolID": pool, "Address": address, "Options": options}))
}

/// A network of pools of ours, made as dockerd makes it; the ids of the pools.
fn network(plugin: &Plugin, subnet: &str, range: &str) -> [String; 2] {
    let pools = [pool(plugin, subnet, range, false), pool(plugin, "", "", true)];
    let data = |pool: &str| json!([{"AddressSpace": "tapswitch", "Pool": pool.strip_prefix("tapswitch/").unwrap(), "Gateway": gateway(plugin, pool)}]);
    let request = json!({
        "NetworkID": NETWORK,
        "Options": {"com.docker.network.enable_ipv6": true, "com.docker.network.generic": {}},
        "IPv4Data": data(&pools[0]),
        "IPv6Data": data(&pools[1]),
    });
    plugin.well("NetworkDriver.CreateNetwork", &request);
    pools
}

/// A network on 10.9.0.0/24 with an endpoint at 10.9.0.2; the id of its IPv4 pool.
fn network_with_endpoint(plugin: &Plugin) -> String {
    let [v4, _] = network(plugin, "10.9.0.0/24", "");
    address(plugin, &v4, "", MACS[0]);
    let mut request = endpoint(NETWORK, A, "10.9.0.2/24");
    request["Interface"]["MacAddress"] = MACS[0].into();
    plugin.well("NetworkDriver.CreateEndpoint", &request);
    v4
}

const MACS: [&str; 3] = ["02:42:00:00:00:0a", "02:42:00:00:00:0b", "02:42:00:00:00:0c"];

#[test]
fn ranges_left_to_us_are_new_ones_until_none_is_left() {
    let dir = dir();
    let plugin = Plugin::new(dir.path());
    let mut given = Vec::new();
    let error = loop {
        let asked = json!({"AddressSpace": "tapswitch", "Pool": "", "SubPool": "", "Options": null, "V6": false});
        let (status, answer) = plugin.call("IpamDriver.RequestPool", &asked);
        if status == 409 {
            break answer["Error"].as_str().unwrap().to_owned();
        }
        assert_eq!(status, 200, "{answer}");
        assert!(!given.contains(&answer["Pool"]), "{answer}");
        given.push(answer["Pool"].clone());
    };
    assert!(error.contains("every one of the 31 default ranges is taken"), "{error}");
    plugin.well("IpamDriver.ReleasePool", &json!({"PoolID": "tapswitch/172.18.0.0/16"}));
    assert_eq!(pool(&plugin, "", "", false), "tapswitch/172.18.0.0/16");
}

#[test]
fn a_given_range_is_given_again_and_one_that_overlaps_is_refused() {
    let dir = dir();
    let plugin = Plugin::new(dir.path());
    assert_eq!(pool(&plugin, "10.9.0.0/24", "", false), pool(&plugin, "10.9.0.0/24", "", false));
    for (subnet, needle) in [("10.9.0.0/16", "10.9.0.0/24"), ("10.1.0.0/24", "default"), ("10.8.0.1/24", "host bits")] {
        let text = plugin.fails("IpamDriver.RequestPool", &json!({"Pool": subnet, "V6": false}));
        assert!(text.contains(needle), "{text}");
    }
}

#[test]
fn both_addresses_of_an_endpoint_are_one_lease() {
    let dir = dir();
    let plugin = Plugin::new(dir.path());
    let [v4, v6] = network(&plugin, "10.9.0.0/24", "10.9.0.128/25");
    let net6 = v6.strip_prefix("tapswitch/").unwrap().strip_suffix("/64").unwrap();
    let (_, one) = address(&plugin, &v4, "", MACS[0]);
    let (_, other) = address(&plugin, &v6, "", MACS[0]);
    assert_eq!((&one["Address"], &other["Address"]), (&json!("10.9.0.128/24"), &json!(format!("{net6}80/64"))));
    assert_eq!(address(&plugin, &v4, "", MACS[0]).1, one, "asked again");
    let (_, chosen) = address(&plugin, &v6, &format!("{net6}77"), MACS[0]);
    assert_eq!(chosen["Address"], format!("{net6}77/64"));
    let (status, taken) = address(&plugin, &v4, "10.9.0.128", MACS[1]);
    assert!(status == 409 && taken["Error"].as_str().unwrap().contains("taken"), "{taken}");

    let mut request = endpoint(NETWORK, A, "10.9.0.128/24");
    request["Interface"]["AddressIPv6"] = format!("{net6}77/64").into();
    request["Interface"]["MacAddress"] = MACS[0].into();
    assert_eq!(plugin.well("NetworkDriver.CreateEndpoint", &request), json!({"Interface": {}}));
    plugin.well("NetworkDriver.DeleteEndpoint", &json!({"EndpointID": A}));
    for (pool, address) in [(&v4, "10.9.0.128".to_owned()), (&v6, format!("{net6}77"))] {
        plugin.well("IpamDriver.ReleaseAddress", &json!({"PoolID": pool, "Address": address}));
    }
    assert_eq!(address(&plugin, &v4, "10.9.0.128", MACS[1]).0, 200);
}

#[test]
fn an_address_that_docker_gives_back_ends_the_endpoint_it_has_forgotten() {
    let dir = dir();
    let plugin = Plugin::new(dir.path());
    let v4 = network_with_endpoint(&plugin);
    plugin.well("IpamDriver.ReleaseAddress", &json!({"PoolID": v4, "Address": "10.9.0.2"}));
    assert_eq!(plugin.daemon().list(), []);
}

#[test]
fn a_second_network_on_a_range_is_refused_before_it_takes_an_address_of_the_first() {
    let dir = dir();
    let plugin = Plugin::new(dir.path());
    network_with_endpoint(&plugin);
    // With `--gateway 10.9.0.2` dockerd would ask for that, and give it back when the network is refused.
    let text = plugin.fails("IpamDriver.RequestPool", &json!({"Pool": "10.9.0.0/24", "V6": false}));
    assert!(text.contains("is network docker-"), "{text}");
    assert_eq!(plugin.daemon().list().len(), 1);
}

#[test]
fn what_a_dockerd_asked_for_that_ended_before_it_made_a_network_is_free_for_the_next_one() {
    let dir = dir();
    let plugin = Plugin::new(dir.path());
    let [v4, _] = network(&plugin, "10.9.0.0/24", "");
    let lone = pool(&plugin, "", "", false);
    plugin.well("Plugin.Activate", &Value::Null);
    assert_eq!(pool(&plugin, "", "", false), lone);
    assert_eq!(address(&plugin, &v4, "", MACS[0]).0, 200, "that of a network stays");
}

#[test]
fn a_full_range_is_an_error_and_the_next_call_is_answered() {
    let dir = dir();
    let plugin = Plugin::new(dir.path());
    let [v4, _] = network(&plugin, "10.9.0.0/30", "");
    assert_eq!(address(&plugin, &v4, "", MACS[0]).0, 200);
    let (status, full) = address(&plugin, &v4, "", MACS[1]);
    assert!(status == 409 && full["Error"].as_str().unwrap().contains("no free address left"), "{full}");
    plugin.well("IpamDriver.ReleaseAddress", &json!({"PoolID": v4, "Address": "10.9.0.2"}));
    assert_eq!(address(&plugin, &v4, "", MACS[1]).0, 200);
}

#[test]
fn what_docker_has_from_us_survives_a_restart() {
    let dir = dir();
    let mut plugin = Plugin::new(dir.path());
    let [v4, v6] = network(&plugin, "10.9.0.0/24", "");
    let lone = pool(&plugin, "", "", false);
    address(&plugin, &v4, "", MACS[0]);
    let mut request = endpoint(NETWORK, A, "10.9.0.2/24");
    request["Interface"]["MacAddress"] = MACS[0].into();
    plugin.well("NetworkDriver.CreateEndpoint", &request);

    let keeper = plugin.daemon.take().unwrap().stop();
    let again = Daemon::start(settings(dir.path()), 1, keeper, Box::new(|_| Act::Do)).unwrap();
    drop(plugin);
    let plugin = Plugin::over(again, dir.path());
    assert_ne!(pool(&plugin, "", "", false), lone);
    let (status, taken) = address(&plugin, &v4, "10.9.0.2", MACS[1]);
    assert!(status == 409, "{taken}");
    plugin.well("NetworkDriver.DeleteEndpoint", &json!({"EndpointID": A}));
    assert!(plugin.daemon().keeper.heard.lock().iter().any(|said| said.starts_with("follow")), "where is its device?");
    // In dockerd's order: addresses and ranges first.
    for pool in [&v4, &v6] {
        plugin.well("IpamDriver.ReleasePool", &json!({"PoolID": pool}));
    }
    plugin.well("NetworkDriver.DeleteNetwork", &json!({"NetworkID": NETWORK}));
    assert_eq!(pool(&plugin, "10.9.0.0/16", "", false), "tapswitch/10.9.0.0/16", "nothing of it is left");
}
