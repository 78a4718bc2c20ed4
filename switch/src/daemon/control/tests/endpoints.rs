//! Endpoints attached and detached.

use std::future::Future;
use std::task::Poll;

use super::*;
use crate::daemon::state::EndpointRecord;
use crate::gateway::{Found, Zones};

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
        (AttachRequest { aliases: vec!["a/b".into()], ..base() }, "alias: `a/b` is not a name"),
        (AttachRequest { aliases: vec!["a".into(); 17], ..base() }, "more than 16"),
        (AttachRequest { aliases: vec!["Gateway.tapswitch".into()], ..base() }, "the switch's own"),
        (AttachRequest { ifname: Some("eth0".into()), ..base() }, "is default/web's: choose another ifname"),
        (AttachRequest { ifname: Some("a/b".into()), ..base() }, "cannot name a device"),
        (AttachRequest { netns: "a\nb".into(), ..base() }, "not printable"),
        (AttachRequest { rate_out: Some(RateLimit { rate: 7, burst: None }), ..base() }, "rate_out: 7 bits per second"),
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
fn a_detach_that_names_the_port_spares_another_of_that_name() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    let first = daemon.attach("web", "eth0").unwrap().port;
    daemon.detach("web").unwrap();
    let second = daemon.attach("web", "eth0").unwrap().port;
    let error = daemon.detach_port("default/web", Some(first)).unwrap_err();
    assert_eq!(error, Refusal::Unknown(format!("detach default/web: default/web has another port than {first}")));
    assert_eq!(daemon.list().len(), 1);
    daemon.detach_port("default/web", Some(second)).unwrap();
    assert_eq!(daemon.list(), []);
    daemon.stop();
}

#[test]
fn a_name_on_two_networks_must_be_said_with_its_network() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    daemon.call(|control| control.create_network(&network("blue", "10.2.0.0/24"), None)).unwrap();
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

#[test]
fn an_endpoint_s_names_are_known_while_it_is_served_and_its_aliases_shown_once() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    let aliases = vec!["db".into(), "sql".into(), "db".into()];
    let request = AttachRequest { name: Some("db1".into()), aliases, ..AttachRequest::default() };
    assert_eq!(daemon.attach_as(request).unwrap().aliases, ["db", "sql"]);
    let known = |name: &'static str| {
        daemon.call(move |control| {
            let zones = Zones::new(control.networks.values().map(|network| network.zone.clone()));
            Ok(zones.address(zones.of("default").unwrap(), name))
        })
    };
    for name in ["db1", "db1.default", "db", "sql.default"] {
        assert_eq!(known(name).unwrap(), Found::Addresses(vec!["10.1.0.2".parse().unwrap()]), "{name}");
    }
    daemon.detach("db1").unwrap();
    assert_eq!(known("db").unwrap(), Found::Nothing);
    daemon.stop();
}

#[test]
fn a_device_that_nobody_waits_for_any_more_is_taken_away() {
    let dir = dir();
    let (gate, judge) = Gate::before(|said| matches!(said, ToKeeper::Attach { .. }));
    let daemon = Daemon::start(settings(dir.path()), 0, Keeper::default(), judge).unwrap();
    let namespace = Namespace::current().unwrap();
    let request = AttachRequest { name: Some("web".into()), ..AttachRequest::default() };
    let mut asked = Box::pin(daemon.handle.ask(move |c, reply| c.attach(&request, namespace, reply)));
    let poll_once = std::future::poll_fn(|cx| Poll::Ready(asked.as_mut().poll(cx).is_pending()));
    assert!(wait(poll_once), "its device is being made");
    gate.await_keeper();
    drop(asked);
    gate.open();
    until("the device goes", || daemon.keeper.heard.lock().iter().any(|h| h == "detach default/web"));
    until("its name is free", || daemon.call(|c| Ok(c.devices.is_empty())).unwrap());
    assert!(daemon.list().is_empty() && daemon.keeper.kept.lock().is_empty());
    assert!(!dir.path().join("run/endpoints/default@web.json").exists());
    daemon.stop();
}

#[test]
fn a_name_that_differs_in_case_alone_is_taken() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    daemon.attach("DB", "eth0").unwrap();
    let error = daemon.attach("db", "eth1").unwrap_err().to_string();
    assert!(error.ends_with("network default has an endpoint DB already"), "{error}");
    let made = AttachRequest { netns: "/run/netns/Db".into(), ifname: Some("eth1".into()), ..AttachRequest::default() };
    assert_eq!(daemon.attach_as(made).unwrap().name, "Db-2", "a name that is made is free");
    assert_eq!(daemon.list()[0].0, "default/DB", "it is shown as it was given");
    daemon.detach("DB").unwrap();
    daemon.attach("db", "eth0").unwrap();
    daemon.stop();
}

#[test]
fn endpoints_of_before_whose_names_differ_in_case_alone_are_served_again() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    daemon.attach("DB", "eth0").unwrap();
    daemon.attach("other", "eth1").unwrap();
    let rename = |control: &mut crate::daemon::control::Control| {
        let [network, other, db]: [Name; 3] = ["default", "other", "db"].map(|name| name.parse().unwrap());
        let mut record = control.networks[&network].endpoints[&other].record.clone();
        record.name = db.clone();
        control.live.remove(&EndpointRecord::file_key(&network, &other)).unwrap();
        control.live.write(&EndpointRecord::file_key(&network, &db), &record).unwrap();
        Ok(())
    };
    daemon.call(rename).unwrap();
    let keeper = daemon.stop();
    let device = keeper.kept.lock().remove("default/other").unwrap();
    keeper.kept.lock().insert("default/db".into(), device);
    let daemon = Daemon::start(settings(dir.path()), 1, keeper, Box::new(|_| Act::Do)).unwrap();
    let served: Vec<String> = daemon.list().into_iter().map(|(name, _)| name).collect();
    assert_eq!(served, ["default/DB", "default/db"]);
    daemon.detach("DB").unwrap();
    let error = daemon.attach("DB", "eth0").unwrap_err().to_string();
    assert!(error.ends_with("has an endpoint db already"), "{error}");
    daemon.detach("db").unwrap();
    daemon.attach("DB", "eth0").unwrap();
    daemon.stop();
}
