//! What stays when a process ends, and what does not.

use super::*;
use crate::daemon::refuse_contradiction;

#[test]
fn a_restarted_switch_has_every_endpoint_again_as_it_was() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    let before: Vec<_> = [("web", "eth0"), ("db", "eth1"), ("lost", "eth2"), ("again", "eth3")]
        .map(|(name, ifname)| {
            let (name, ifname) = (Some(name.into()), Some(ifname.into()));
            let rate_in = "100mbit".parse().ok();
            daemon.attach_as(AttachRequest { name, ifname, rate_in, ..AttachRequest::default() }).unwrap()
        })
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
        assert_eq!((is.rate_in, is.rate_out), ("100mbit".parse().ok(), None));
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
        ToKeeper::Reattach { .. } => Act::Gone,
        _ => Act::Do,
    };
    let daemon = Daemon::start(settings(dir.path()), 1, keeper, Box::new(judge)).unwrap();
    until("it goes", || daemon.list().is_empty());
    until("its file goes", || !dir.path().join("run/endpoints/default@web.json").exists());
    until("its name is free", || daemon.attach("web", "eth0").is_ok());
    assert_eq!(daemon.call(|control| Ok(control.status().warnings)).unwrap(), Vec::<String>::new());
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
    let error = refuse_contradiction(&contrary, true).unwrap_err();
    assert!(
        error.contains("icc true") && error.contains("icc false") && error.contains("network set default"),
        "{error}"
    );
    Daemon::start(contrary.clone(), 1, Keeper::default(), Box::new(|_| Act::Do)).unwrap().stop();
    std::fs::write(dir.path().join("state/networks/default.json"), "bad").unwrap();
    refuse_contradiction(&contrary, true).expect("it comes from its spare, or is made anew");
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
    until("the keeper is told", || keeper.heard.lock().last().is_some_and(|said| said == "Down"));
    let daemon = Daemon::start(settings(dir.path()), 0, Keeper::default(), Box::new(|_| Act::Do)).unwrap();
    assert_eq!((daemon.list(), rules(&daemon)), (vec![], vec!["e1 e2 ".to_owned()]));
    daemon.stop();
}

#[test]
fn an_endpoint_that_is_detached_while_its_device_is_looked_for_is_not_served_again() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    daemon.attach("web", "eth0").unwrap();
    let keeper = daemon.stop();
    keeper.kept.lock().clear();
    let (gate, judge) = Gate::before(|said| matches!(said, ToKeeper::Reattach { .. }));
    let daemon = Daemon::start(settings(dir.path()), 1, keeper, judge).unwrap();
    gate.await_keeper();
    std::thread::scope(|scope| {
        let detached = scope.spawn(|| daemon.detach("web"));
        until("it goes", || daemon.list().is_empty());
        gate.open();
        detached.join().unwrap().unwrap();
    });
    let ports = daemon.call(|c| Ok(c.networks[&Name::default_network()].view.network().port_count())).unwrap();
    assert_eq!(ports, 0);
    daemon.attach("web", "eth0").unwrap();
    daemon.stop();
}

#[test]
fn a_network_that_was_removed_does_not_come_back_with_a_crash() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    wait(daemon.handle.ask(|c, reply| c.remove_network(&Name::default_network(), reply))).unwrap();
    let keeper = daemon.stop();
    let daemon = Daemon::start(settings(dir.path()), 1, keeper, Box::new(|_| Act::Do)).unwrap();
    assert_eq!(daemon.call(|c| Ok(c.network_infos())).unwrap(), []);
    daemon.stop();
}

#[test]
fn a_network_that_cannot_be_made_keeps_a_daemon_from_starting_but_not_what_runs_from_going_on() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    daemon.attach("web", "eth0").unwrap();
    let keeper = daemon.stop();
    let mut more = settings(dir.path());
    more.networks.push(network("lab", "10.1.0.0/16"));
    let daemon = Daemon::start(more.clone(), 0, keeper, Box::new(|_| Act::Do)).unwrap();
    assert_eq!(daemon.list().len(), 1);
    let warnings = daemon.call(|c| Ok(c.status().warnings)).unwrap();
    assert!(warnings.iter().any(|w| w.contains("lab")), "{warnings:?}");
    daemon.stop();
    let error = Daemon::start(more, 0, Keeper::default(), Box::new(|_| Act::Do)).err().unwrap();
    assert!(error.contains("lab"), "{error}");
}

#[test]
fn a_network_has_its_spare_after_the_machine_has_started() {
    let dir = dir();
    Daemon::new(dir.path()).stop();
    std::fs::remove_dir_all(dir.path().join("run")).unwrap();
    Daemon::new(dir.path()).stop();
    std::fs::write(dir.path().join("state/networks/default.json"), "bad").unwrap();
    let daemon = Daemon::start(settings(dir.path()), 1, Keeper::default(), Box::new(|_| Act::Do)).unwrap();
    let warnings = daemon.call(|c| Ok(c.status().warnings)).unwrap();
    assert!(warnings.iter().any(|w| w.contains("restored from its copy")), "{warnings:?}");
    daemon.stop();
}

#[test]
fn the_status_says_where_docker_s_plugin_is_served() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    assert_eq!(daemon.call(|control| Ok(control.status().docker_socket)).unwrap(), None);
    let mut served = settings(dir.path());
    served.docker_socket = Some("/run/docker/plugins/tapswitch.sock".into());
    let daemon = Daemon::start(served, 0, daemon.stop(), Box::new(|_| Act::Do)).unwrap();
    let socket = daemon.call(|control| Ok(control.status().docker_socket)).unwrap();
    assert_eq!(socket.as_deref(), Some("/run/docker/plugins/tapswitch.sock"));
    daemon.stop();
}
