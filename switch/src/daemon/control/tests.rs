use std::time::{Duration, Instant};

use tapswitch_ipam::{Occupied, Route, RouteKind};

use super::testing::{Act, Daemon, Keeper, settings, wait};
use super::{Ending, Selection};
use crate::daemon::api::types::{
    AttachRequest, EndpointState, NetworkCreate, NetworkSet, RuleChange, Subnet4, Subnet6, UplinkKind,
};
use crate::daemon::keeper::message::ToKeeper;
use crate::daemon::refusal::Refusal;
use crate::engine::EngineEvent;
use crate::forwarding::PortId;

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn network(name: &str, subnet: &str) -> NetworkCreate {
    NetworkCreate {
        name: name.into(),
        subnet: Subnet4::Given(subnet.parse().unwrap()),
        ipv6: Subnet6::Off,
        ..NetworkCreate::default()
    }
}

fn rule(from: &str, to: &str, what: Option<&str>) -> RuleChange {
    RuleChange { from: from.into(), to: to.into(), what: what.map(str::to_owned) }
}

fn rules(daemon: &Daemon) -> Vec<String> {
    let rules = daemon.call(|control| control.rules(None)).unwrap();
    rules.into_iter().map(|r| format!("{} {} {}", r.from, r.to, r.what.unwrap_or_default())).collect()
}

/// Waits until `holds`, for at most 5 s.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(5);
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within 5 s");
        std::thread::yield_now();
    }
}

#[test]
fn an_attached_endpoint_has_the_lowest_address_and_its_mac() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    let web = daemon.attach("web", "eth0").unwrap();
    assert_eq!((web.ipv4.unwrap().to_string(), web.mac.to_string()), ("10.1.0.2".into(), "02:42:0a:01:00:02".into()));
    assert_eq!((web.network.as_str(), web.state, web.ipv6), ("default", EndpointState::Up, None));
    assert_eq!(daemon.attach("db", "eth1").unwrap().ipv4.unwrap().to_string(), "10.1.0.3");
    assert!(dir.path().join("run/endpoints/default@web.json").exists());
    let fdb = daemon.call(|control| control.fdb(None)).unwrap();
    let shown: Vec<_> = fdb.iter().map(|e| (e.mac.to_string(), e.endpoint.as_deref())).collect();
    assert_eq!(
        shown,
        [
            ("02:42:0a:01:00:01".to_owned(), None),
            ("02:42:0a:01:00:02".to_owned(), Some("web")),
            ("02:42:0a:01:00:03".to_owned(), Some("db")),
        ]
    );
    daemon.stop();
}

#[test]
fn what_cannot_be_attached_is_refused_in_one_line_and_changes_nothing() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    daemon.attach("web", "eth0").unwrap();
    let base = || AttachRequest { name: Some("x".into()), ifname: Some("eth9".into()), ..AttachRequest::default() };
    let address = |ip: &str| AttachRequest { ip: Some(ip.parse().unwrap()), ..base() };
    let mac = |mac: &str| AttachRequest { mac: Some(mac.parse().unwrap()), ..base() };
    for (request, needle) in [
        (AttachRequest { name: Some("web".into()), ..base() }, "has an endpoint web already"),
        (AttachRequest { name: Some("a b".into()), ..base() }, "`a b` is not a name"),
        (AttachRequest { network: Some("blue".into()), ..base() }, "no network blue"),
        (AttachRequest { ifname: Some("eth0".into()), ..base() }, "is default/web's"),
        (AttachRequest { ifname: Some("a/b".into()), ..base() }, "cannot name a device"),
        (AttachRequest { netns: "a\nb".into(), ..base() }, "not printable"),
        (AttachRequest { ip6: Some("fd00::2".parse().unwrap()), ..base() }, "no IPv6"),
        (address("10.1.0.2"), "taken by web"),
        (address("10.2.0.2"), "outside the subnet"),
        (address("10.1.0.1"), "reserved"),
        (address("10.1.0.255"), "reserved"),
        (mac("02:42:0a:01:00:02"), "is web's"),
        (mac("02:42:0a:01:00:01"), "the gateway's"),
        (mac("01:00:00:00:00:01"), "group"),
        (mac("00:00:00:00:00:00"), "zero"),
    ] {
        let error = daemon.attach_as(request).unwrap_err().to_string();
        assert!(error.contains(needle) && !error.contains('\n'), "{error}");
    }
    assert_eq!(daemon.list().len(), 1);
    assert_eq!(daemon.keeper.heard.lock().iter().filter(|h| h.starts_with("attach")).count(), 1);
    assert_eq!(daemon.attach("x", "eth9").unwrap().ipv4.unwrap().to_string(), "10.1.0.3");
    daemon.stop();
}

#[test]
fn a_derived_mac_that_somebody_chose_before_is_refused_and_the_address_given_back() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    let chosen = AttachRequest {
        name: Some("a".into()),
        mac: Some("02:42:0a:01:00:03".parse().unwrap()),
        ..AttachRequest::default()
    };
    daemon.attach_as(chosen).unwrap();
    assert!(daemon.attach("b", "eth1").unwrap_err().to_string().contains("is a's"));
    let other = AttachRequest {
        ip: Some("10.1.0.3".parse().unwrap()),
        mac: Some("02:00:00:00:00:01".parse().unwrap()),
        ..AttachRequest::default()
    };
    daemon.attach_as(AttachRequest { name: Some("c".into()), ifname: Some("eth2".into()), ..other }).unwrap();
    daemon.stop();
}

#[test]
fn a_device_that_cannot_be_made_leaves_name_address_and_device_name_free() {
    let dir = dir();
    let mut failures = 1;
    let judge = move |said: &ToKeeper| {
        let fail = matches!(said, ToKeeper::Attach { .. }) && std::mem::take(&mut failures) > 0;
        if fail { Act::Fail("attach default/web: open /dev/net/tun: permission denied") } else { Act::Do }
    };
    let daemon = Daemon::start(settings(dir.path()), 0, Keeper::default(), Box::new(judge)).unwrap();
    assert!(daemon.attach("web", "eth0").unwrap_err().to_string().contains("permission denied"));
    assert_eq!(daemon.list(), []);
    daemon.attach("web", "eth0").unwrap();
    daemon.stop();
}

#[test]
fn other_commands_are_served_while_a_device_is_made_and_its_name_is_taken() {
    let dir = dir();
    let judge = |said: &ToKeeper| if matches!(said, ToKeeper::Attach { .. }) { Act::Hold } else { Act::Do };
    let daemon = Daemon::start(settings(dir.path()), 0, Keeper::default(), Box::new(judge)).unwrap();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| daemon.attach("web", "eth0"));
        until("the job is given", || daemon.keeper.heard.lock().iter().any(|h| h == "attach default/web"));
        let second = daemon.attach("web", "eth1").unwrap_err();
        assert!(second.to_string().contains("is being attached"), "{second}");
        assert_eq!(daemon.list(), []);
        assert!(matches!(daemon.detach("web"), Err(Refusal::Unknown(_))));
        daemon.kill_keeper();
        assert!(first.join().unwrap().unwrap_err().to_string().contains("keeper process is gone"));
    });
}

#[test]
fn a_detached_endpoint_is_gone_and_detaching_it_again_says_so() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    daemon.attach("web", "eth0").unwrap();
    daemon.detach("default/web").unwrap();
    let error = daemon.detach("web").unwrap_err();
    assert_eq!(error, Refusal::Unknown("detach web: no endpoint web (`tapswitch ls` shows them)".into()));
    assert_eq!(daemon.list(), []);
    assert!(daemon.keeper.kept.lock().is_empty());
    assert!(!dir.path().join("run/endpoints/default@web.json").exists());
    daemon.attach("web", "eth0").unwrap();
    daemon.stop();
}

#[test]
fn a_name_on_two_networks_must_be_said_with_its_network() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    daemon.call(|control| control.create_network(&network("blue", "10.2.0.0/24"))).unwrap();
    daemon.attach("web", "eth0").unwrap();
    let blue = AttachRequest {
        network: Some("blue".into()),
        name: Some("web".into()),
        ifname: Some("eth1".into()),
        ..AttachRequest::default()
    };
    daemon.attach_as(blue).unwrap();
    let error = daemon.detach("web").unwrap_err();
    assert!(matches!(&error, Refusal::Conflict(text) if text.contains("blue/web, default/web")), "{error}");
    daemon.detach("blue/web").unwrap();
    daemon.detach("web").unwrap();
    daemon.stop();
}

#[test]
fn rules_are_kept_by_name_and_go_with_their_endpoint() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    for change in [rule("web", "db", Some("tcp/5432")), rule("default/web", "db", None), rule("a", "b", Some("icmp"))] {
        daemon.call(move |control| control.allow(&change).and_then(|()| control.allow(&change))).unwrap();
    }
    let before = ["a b icmp", "web db ", "web db tcp/5432"];
    assert_eq!(rules(&daemon), before);
    let keeper = daemon.stop();
    let daemon = Daemon::start(settings(dir.path()), 1, keeper, Box::new(|_| Act::Do)).unwrap();
    assert_eq!(rules(&daemon), before);
    daemon.attach("web", "eth0").unwrap();
    daemon.attach("db", "eth1").unwrap();
    let in_force = daemon.call(|c| Ok(c.networks.values().next().unwrap().view.network.spec().rules.len())).unwrap();
    assert_eq!(in_force, 2);
    daemon.detach("db").unwrap();
    assert_eq!(rules(&daemon), ["a b icmp"]);
    let keeper = daemon.stop();
    assert_eq!(rules(&Daemon::start(settings(dir.path()), 2, keeper, Box::new(|_| Act::Do)).unwrap()), ["a b icmp"]);
}

#[test]
fn deny_removes_one_rule_or_all_between_two_and_says_when_there_is_none() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    for what in ["tcp/1", "tcp/2", "udp/3"] {
        daemon.call(move |control| control.allow(&rule("a", "b", Some(what)))).unwrap();
    }
    let deny = |what: Option<&'static str>| daemon.call(move |control| control.deny(&rule("a", "b", what)));
    deny(Some("tcp/1")).unwrap();
    assert!(matches!(deny(Some("tcp/1")), Err(Refusal::Unknown(_))));
    assert_eq!(rules(&daemon), ["a b tcp/2", "a b udp/3"]);
    deny(None).unwrap();
    assert_eq!(rules(&daemon), [""; 0]);
    for (bad, kind) in [
        (rule("a", "a", None), "itself"),
        (rule("a", "b", Some("x")), "neither"),
        (rule("n/a", "m/b", None), "different"),
    ] {
        let error = daemon.call(move |control| control.allow(&bad)).unwrap_err();
        assert!(matches!(&error, Refusal::Impossible(text) if text.contains(kind)), "{error:?}");
    }
    daemon.stop();
}

#[test]
fn a_namespace_that_dies_takes_port_lease_and_rules_with_it() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    let port = daemon.attach("web", "eth0").unwrap().port;
    daemon.attach("db", "eth1").unwrap();
    daemon.call(|control| control.allow(&rule("web", "db", None))).unwrap();
    daemon.events.send(EngineEvent::Gone(PortId(port))).unwrap();
    until("the endpoint goes", || daemon.list().len() == 1);
    until("the device goes", || daemon.keeper.heard.lock().iter().any(|h| h == "detach default/web"));
    assert_eq!(rules(&daemon), [""; 0]);
    assert!(!dir.path().join("run/endpoints/default@web.json").exists());
    daemon.events.send(EngineEvent::Gone(PortId(port))).unwrap();
    assert_eq!(daemon.list().len(), 1);
    daemon.stop();
}

#[test]
fn a_restarted_switch_has_every_endpoint_again_as_it_was() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    let before: Vec<_> = [("web", "eth0"), ("db", "eth1"), ("lost", "eth2"), ("again", "eth3")]
        .map(|(name, ifname)| daemon.attach(name, ifname).unwrap())
        .into();
    let keeper = daemon.stop();
    keeper.kept.lock().retain(|key, _| !key.ends_with("/lost") && !key.ends_with("/again"));
    let judge = |said: &ToKeeper| match said {
        ToKeeper::Reattach { endpoint, .. } if endpoint.0 == "default/lost" => Act::Fail("attach it again: busy"),
        _ => Act::Do,
    };
    let daemon = Daemon::start(settings(dir.path()), 1, keeper, Box::new(judge)).unwrap();
    until("the switch serves", || daemon.keeper.heard.lock().iter().any(|h| h == "Ready"));
    let after = daemon.call(|control| control.endpoint_infos(&Selection::default())).unwrap();
    for was in &before {
        let is = after.iter().find(|is| is.name == was.name).unwrap();
        assert_eq!((is.port, is.mac, is.ipv4, &is.ifname), (was.port, was.mac, was.ipv4, &was.ifname));
        assert_eq!(is.state == EndpointState::Lost, is.name == "lost");
    }
    let new = daemon.attach("new", "eth4").unwrap();
    assert!(before.iter().all(|was| was.port != new.port && was.ipv4 != new.ipv4));
    let warnings = daemon.call(|control| Ok(control.status().warnings)).unwrap();
    assert!(warnings.iter().any(|w| w.contains("default/lost")), "{warnings:?}");
    daemon.detach("lost").unwrap();
    daemon.stop();
}

#[test]
fn an_endpoint_whose_namespace_died_while_nobody_looked_is_dropped() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    daemon.attach("web", "eth0").unwrap();
    let keeper = daemon.stop();
    keeper.kept.lock().clear();
    let judge = |said: &ToKeeper| match said {
        ToKeeper::Reattach { .. } => Act::Fail("attach default/web again: namespace net:[7]: not found (give a pid)"),
        _ => Act::Do,
    };
    let daemon = Daemon::start(settings(dir.path()), 1, keeper, Box::new(judge)).unwrap();
    until("it goes", || daemon.list().is_empty());
    until("its file goes", || !dir.path().join("run/endpoints/default@web.json").exists());
    daemon.attach("web", "eth0").unwrap();
    daemon.stop();
}

#[test]
fn bad_files_cost_their_endpoint_alone_and_a_network_comes_from_its_spare() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    daemon.attach("web", "eth0").unwrap();
    daemon.attach("db", "eth1").unwrap();
    let keeper = daemon.stop();
    std::fs::write(dir.path().join("run/endpoints/default@db.json"), "torn").unwrap();
    std::fs::write(dir.path().join("state/networks/default.json"), "").unwrap();
    std::fs::write(dir.path().join("state/networks/other.json"), "x").unwrap();
    let daemon = Daemon::start(settings(dir.path()), 1, keeper, Box::new(|_| Act::Do)).unwrap();
    assert_eq!(daemon.list(), [("default/web".to_owned(), "10.1.0.2".parse().unwrap())]);
    until("the nameless device goes", || !daemon.keeper.kept.lock().contains_key("default/db"));
    let warnings = daemon.call(|control| Ok(control.status().warnings)).unwrap().join("\n");
    for needle in ["default@db.json", "default.json", "other is lost", "default/db"] {
        assert!(warnings.contains(needle), "{needle}: {warnings}");
    }
    daemon.attach("db", "eth1").unwrap();
    daemon.stop();
}

#[test]
fn a_flag_that_contradicts_a_stored_network_stops_a_first_start_only() {
    let dir = dir();
    Daemon::new(dir.path()).stop();
    let mut contrary = settings(dir.path());
    contrary.flags = Some(NetworkCreate { name: "default".into(), icc: Some(false), ..NetworkCreate::default() });
    let start = |restarts| Daemon::start(contrary.clone(), restarts, Keeper::default(), Box::new(|_| Act::Do));
    let error = start(0).err().unwrap();
    assert!(error.contains("icc true") && error.contains("icc false"), "{error}");
    start(1).unwrap().stop();
}

#[test]
fn without_a_keeper_traffic_goes_on_and_attaching_says_why_not() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    daemon.attach("web", "eth0").unwrap();
    daemon.kill_keeper();
    until("the switch notices", || daemon.call(|c| Ok(c.status())).unwrap().keeper_pid.is_none());
    for error in [daemon.attach("db", "eth1").unwrap_err(), daemon.detach("web").unwrap_err()] {
        assert!(error.to_string().contains("the keeper process is gone"), "{error}");
    }
    assert_eq!(daemon.list().len(), 1);
}

#[test]
fn a_subnet_is_chosen_beside_the_others_and_a_later_route_is_a_warning() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    let auto = |name: &str| NetworkCreate { name: name.into(), ..NetworkCreate::default() };
    let [a, b] = ["a", "b"].map(|name| daemon.call(move |control| control.create_network(&auto(name))).unwrap());
    assert_eq!((a.subnet.to_string(), b.subnet.to_string()), ("172.17.0.0/16".into(), "172.18.0.0/16".into()));
    assert!(a.subnet6.is_some() && a.subnet6 != b.subnet6 && a.uplink == UplinkKind::None);
    let route = Route { prefix: "172.18.9.0/24".parse().unwrap(), kind: RouteKind::OnLink };
    daemon.host.send(Occupied { routes: vec![route], ..Occupied::default() }).unwrap();
    let warnings =
        |name: &'static str| daemon.call(move |c| Ok(c.network_info(&name.parse().unwrap())?.warnings)).unwrap();
    until("the route is seen", || warnings("b").len() == 1);
    assert_eq!(warnings("a"), [""; 0]);
    for (bad, needle) in [
        (network("c", "10.1.0.0/16"), "network default"),
        (network("c", "172.18.9.0/25"), "on-link"),
        (network("c", "10.9.0.1/24"), "host bits"),
        (network("b", "10.9.0.0/24"), "already"),
        (NetworkCreate { mtu: Some(67), ..network("c", "10.9.0.0/24") }, "mtu 67"),
    ] {
        let error = daemon.call(move |control| control.create_network(&bad)).unwrap_err().to_string();
        assert!(error.contains(needle), "{error}");
    }
    daemon.host.send(Occupied::default()).unwrap();
    until("the route's end is seen", || warnings("b").is_empty());
    daemon.stop();
}

#[test]
fn a_network_with_endpoints_stays_and_an_empty_one_goes_for_good() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    daemon.attach("web", "eth0").unwrap();
    let remove = |daemon: &Daemon| daemon.call(|control| control.remove_network(&"default".parse().unwrap()));
    assert!(matches!(remove(&daemon), Err(Refusal::Conflict(text)) if text.contains("web")));
    daemon.detach("web").unwrap();
    remove(&daemon).unwrap();
    assert!(matches!(remove(&daemon), Err(Refusal::Unknown(_))));
    daemon.stop();
    let mut none = settings(dir.path());
    none.networks.clear();
    let daemon = Daemon::start(none, 0, Keeper::default(), Box::new(|_| Act::Do)).unwrap();
    assert_eq!(daemon.call(|c| Ok(c.network_infos())).unwrap(), []);
    daemon.stop();
}

#[test]
fn a_network_is_changed_with_its_devices() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    daemon.attach("web", "eth0").unwrap();
    let set = |set: NetworkSet| {
        wait(daemon.handle.ask(move |c, reply| c.set_network(&"default".parse().unwrap(), &set, reply)))
    };
    let info = set(NetworkSet { icc: Some(false), mtu: Some(9000) }).unwrap();
    assert_eq!((info.icc, info.mtu), (false, 9000));
    assert!(daemon.keeper.heard.lock().iter().any(|h| h == "mtu eth0 9000"));
    assert!(matches!(set(NetworkSet { icc: None, mtu: Some(65_522) }), Err(Refusal::Impossible(_))));
    let keeper = daemon.stop();
    let daemon = Daemon::start(settings(dir.path()), 1, keeper, Box::new(|_| Act::Do)).unwrap();
    let info = daemon.call(|c| c.network_info(&"default".parse().unwrap())).unwrap();
    assert_eq!((info.icc, info.mtu, info.endpoints), (false, 9000, vec!["web".to_owned()]));
    daemon.stop();
}

#[test]
fn down_detaches_everything_and_keeps_networks_and_rules() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    for n in 0..40 {
        daemon.attach(&format!("e{n}"), &format!("eth{n}")).unwrap();
    }
    daemon.call(|control| control.allow(&rule("e1", "e2", None))).unwrap();
    wait(daemon.handle.ask(|control, reply| control.go_down(reply))).unwrap();
    assert!(daemon.keeper.kept.lock().is_empty());
    let keeper = daemon.keeper.clone();
    assert_eq!(daemon.ended(), Ending::Down);
    assert_eq!(keeper.heard.lock().last().unwrap(), "Down");
    let daemon = Daemon::start(settings(dir.path()), 0, Keeper::default(), Box::new(|_| Act::Do)).unwrap();
    assert_eq!((daemon.list(), rules(&daemon)), (vec![], vec!["e1 e2 ".to_owned()]));
    daemon.stop();
}

#[test]
fn a_thousand_comings_and_goings_reuse_no_port_and_leak_nothing() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mut ports = std::collections::BTreeSet::new();
    for n in 0..1000 {
        let name = format!("e{}", n % 7);
        assert!(ports.insert(daemon.attach(&name, "eth0").unwrap().port));
        daemon.detach(&name).unwrap();
    }
    assert!(daemon.call(|control| Ok(control.devices.is_empty() && control.jobs.is_empty())).unwrap());
    assert!(daemon.keeper.kept.lock().is_empty());
    // Other tests of this process come and go meanwhile.
    assert!(descriptors() < 900, "{}", descriptors());
    daemon.stop();
}
