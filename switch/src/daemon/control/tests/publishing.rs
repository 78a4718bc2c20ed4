//! Ports published and taken back.

use super::*;

/// A daemon with endpoints `web` and `db`.
fn daemon(dir: &tempfile::TempDir) -> Daemon {
    let daemon = Daemon::new(dir.path());
    daemon.attach("web", "eth0").unwrap();
    daemon.attach("db", "eth1").unwrap();
    daemon
}

fn binds(daemon: &Daemon) -> usize {
    daemon.keeper.heard.lock().iter().filter(|heard| heard.starts_with("bind")).count()
}

/// What the keeper has bound.
fn bound(keeper: &Keeper) -> Vec<String> {
    keeper.sockets.lock().keys().map(|key| format!("{} {}", key.transport, key.address)).collect()
}

#[test]
fn a_port_is_published_on_both_families_and_asked_twice_gives_the_same_answer() {
    let dir = dir();
    let daemon = daemon(&dir);
    for _ in 0..2 {
        assert_eq!(daemon.publish("web", &["8080:80"]).unwrap(), ["0.0.0.0:8080 80/tcp", "[::]:8080 80/tcp"]);
    }
    assert_eq!(binds(&daemon), 2);
    assert_eq!(daemon.published(), ["0.0.0.0:8080 80/tcp", "[::]:8080 80/tcp"]);
    let view = daemon.call(|control| Ok(control.networks.values().next().unwrap().view.clone())).unwrap();
    assert_eq!(view.network().ports().next().unwrap().1.published.len(), 2, "replies must take the way of the socket");
    daemon.stop();
}

#[test]
fn a_free_port_is_the_same_for_both_families_and_for_whoever_asks_again() {
    let dir = dir();
    let daemon = daemon(&dir);
    let first = daemon.publish("web", &["80"]).unwrap();
    assert_eq!(first, ["0.0.0.0:49153 80/tcp", "[::]:49153 80/tcp"]);
    assert_eq!(daemon.publish("web", &["80"]).unwrap(), first);
    assert_eq!(daemon.publish("db", &["127.0.0.1::80/udp"]).unwrap(), ["127.0.0.1:49154 80/udp"]);
    daemon.stop();
}

#[test]
fn a_free_port_that_ipv6_has_not_is_given_back_for_another() {
    let dir = dir();
    let mut refused = 0;
    let judge = move |said: &ToKeeper| match said {
        ToKeeper::Bind { socket, .. } if socket.address.is_ipv6() && refused < 2 => {
            refused += 1;
            Act::Fail("other")
        }
        _ => Act::Do,
    };
    let daemon = Daemon::start(settings(dir.path()), 0, Keeper::default(), Box::new(judge)).unwrap();
    daemon.attach("web", "eth0").unwrap();
    assert_eq!(daemon.publish("web", &["80"]).unwrap().len(), 2);
    until("what was given back is closed", || bound(&daemon.keeper).len() == 2);
    daemon.stop();
}

#[test]
fn a_host_without_ipv6_publishes_on_ipv4_unless_ipv6_is_asked_for() {
    let dir = dir();
    let judge = |said: &ToKeeper| match said {
        ToKeeper::Bind { socket, .. } if socket.address.is_ipv6() => Act::Gone,
        _ => Act::Do,
    };
    let daemon = Daemon::start(settings(dir.path()), 0, Keeper::default(), Box::new(judge)).unwrap();
    daemon.attach("web", "eth0").unwrap();
    assert_eq!(daemon.publish("web", &["8080:80"]).unwrap(), ["0.0.0.0:8080 80/tcp"]);
    let error = daemon.publish("web", &["[::1]:8081:80"]).unwrap_err();
    assert!(error.to_string().contains("this host has no IPv6"), "{error}");
    daemon.stop();
}

#[test]
fn what_cannot_be_published_is_refused_in_one_line_and_nothing_stays() {
    let dir = dir();
    let judge = |said: &ToKeeper| match said {
        ToKeeper::Bind { socket, .. } if socket.address.port() == 8005 => Act::Fail("nginx"),
        _ => Act::Do,
    };
    let daemon = Daemon::start(settings(dir.path()), 0, Keeper::default(), Box::new(judge)).unwrap();
    daemon.attach("web", "eth0").unwrap();
    daemon.attach("db", "eth1").unwrap();
    daemon.publish("db", &["127.0.0.1:8080:80"]).unwrap();
    for (endpoint, spec, needle) in [
        ("web", "8080:80", "publish web: port 8080/tcp is published by default/db already"),
        ("web", "127.0.0.1:8080:80", "port 127.0.0.1:8080/tcp is published by default/db already"),
        ("web", "8000-8010:80-90", "port 8005/tcp is in use by nginx (pid 4711)"),
        ("web", "8000:80x", "is not [IP:][HOST:]CONTAINER"),
        ("nobody", "8000:80", "no endpoint nobody"),
        ("a/b/c", "8000:80", "is not a name"),
    ] {
        let error = daemon.publish(endpoint, &[spec]).unwrap_err().to_string();
        assert!(error.contains(needle) && !error.contains('\n'), "{error}");
    }
    let twice = daemon.publish("web", &["8000:80", "8000:81"]).unwrap_err().to_string();
    assert!(twice.contains("port 8000/tcp is asked for twice"), "{twice}");
    assert_eq!(bound(&daemon.keeper), ["tcp 127.0.0.1:8080"]);
    assert_eq!(daemon.published(), ["127.0.0.1:8080 80/tcp"]);
    daemon.publish("web", &["8080:80/udp", "127.0.0.2:8080:80"]).unwrap();
    daemon.stop();
}

#[test]
fn unpublishing_closes_what_it_names_and_says_when_that_is_nothing() {
    let dir = dir();
    let daemon = daemon(&dir);
    daemon.publish("web", &["8000-8003:80-83", "8000:80/udp"]).unwrap();
    daemon.unpublish("web", &["8000-8002:80-82"]).unwrap();
    assert_eq!(bound(&daemon.keeper), ["tcp 0.0.0.0:8003", "tcp [::]:8003", "udp 0.0.0.0:8000", "udp [::]:8000"]);
    daemon.unpublish("web", &["0.0.0.0:8003", "8000/udp"]).unwrap();
    assert_eq!(daemon.published(), ["[::]:8003 83/tcp"]);
    for (endpoint, spec) in [("web", "8000:80"), ("web", "8003:80"), ("db", "8003"), ("web", "8003/udp")] {
        let error = daemon.unpublish(endpoint, &[spec]).unwrap_err();
        assert!(matches!(&error, Refusal::Unknown(text) if text.contains("has nothing published at")), "{error}");
    }
    daemon.publish("db", &["8000:80"]).unwrap();
    daemon.stop();
}

#[test]
fn what_is_attached_with_ports_has_them_or_is_not_attached() {
    let dir = dir();
    let judge = |said: &ToKeeper| match said {
        ToKeeper::Bind { socket, .. } if socket.address.port() == 8005 => Act::Fail("nginx"),
        _ => Act::Do,
    };
    let daemon = Daemon::start(settings(dir.path()), 0, Keeper::default(), Box::new(judge)).unwrap();
    let attach = |name: &str, publish: &str| {
        daemon.attach_as(AttachRequest {
            name: Some(name.into()),
            publish: vec![publish.into()],
            ifname: Some(format!("{name}0")),
            ..AttachRequest::default()
        })
    };
    assert_eq!(attach("web", "8080:80").unwrap().published.len(), 2);
    for (publish, needle) in [
        ("8004-8005:80-81", "port 8005/tcp is in use by nginx (pid 4711)"),
        ("8080:81", "attach db: port 8080/tcp is published by default/web already"),
        ("8080:81/x", "neither tcp nor udp"),
    ] {
        let error = attach("db", publish).unwrap_err().to_string();
        assert!(error.contains(needle), "{error}");
    }
    assert_eq!(daemon.list().len(), 1);
    until("the half of the range is closed", || bound(&daemon.keeper).len() == 2);
    assert!(!dir.path().join("run/endpoints/default@db.json").exists());
    attach("db", "8004:80").unwrap();
    daemon.stop();
}

#[test]
fn ports_go_with_their_endpoint() {
    let dir = dir();
    let daemon = daemon(&dir);
    daemon.publish("web", &["8080:80"]).unwrap();
    daemon.detach("web").unwrap();
    assert!(bound(&daemon.keeper).is_empty(), "detaching returns when the ports are free");
    daemon.publish("db", &["8080:80"]).unwrap();
    let port = daemon.call(|control| control.endpoint_infos(&Selection::default())).unwrap()[0].port;
    daemon.events.send(EngineEvent::Gone(PortId(port))).unwrap();
    until("the ports of a dead namespace are free", || bound(&daemon.keeper).is_empty());
    daemon.stop();
}

#[test]
fn an_endpoint_that_goes_while_its_ports_are_bound_leaves_none() {
    let dir = dir();
    let judge = |said: &ToKeeper| match said {
        ToKeeper::Bind { socket, .. } if socket.address.is_ipv6() => Act::Hold,
        _ => Act::Do,
    };
    let daemon = Daemon::start(settings(dir.path()), 0, Keeper::default(), Box::new(judge)).unwrap();
    daemon.attach("web", "eth0").unwrap();
    std::thread::scope(|scope| {
        let publishing = scope.spawn(|| daemon.publish("web", &["8080:80"]));
        until("one is bound", || binds(&daemon) == 2);
        let error = daemon.publish("web", &["8080:81"]).unwrap_err();
        assert!(error.to_string().contains("is being published by default/web"), "{error}");
        daemon.detach("web").unwrap();
        daemon.kill_keeper();
        assert!(publishing.join().unwrap().is_err());
    });
}

#[test]
fn a_restarted_switch_serves_the_sockets_that_were_kept_and_binds_the_others_again() {
    let dir = dir();
    let daemon = daemon(&dir);
    daemon.publish("web", &["8080:80", "53:53/udp"]).unwrap();
    let before = daemon.published();
    let keeper = daemon.stop();
    // One was lost; one was bound for what nobody wrote down.
    let first = *keeper.sockets.lock().keys().next().unwrap();
    let pair = keeper.sockets.lock().remove(&first).unwrap();
    let mut stray = first;
    stray.address.set_port(9999);
    keeper.sockets.lock().insert(stray, pair);
    let daemon = Daemon::start(settings(dir.path()), 1, keeper, Box::new(|_| Act::Do)).unwrap();
    until("the switch serves", || daemon.keeper.heard.lock().iter().any(|h| h == "Ready"));
    assert_eq!(daemon.published(), before);
    assert_eq!(binds(&daemon), 1);
    until("the stray is closed", || !daemon.keeper.sockets.lock().contains_key(&stray));
    daemon.stop();
}

#[test]
fn a_port_that_was_taken_between_two_starts_is_a_warning() {
    let dir = dir();
    let daemon = daemon(&dir);
    daemon.publish("web", &["8080:80", "8081:81"]).unwrap();
    let keeper = daemon.stop();
    keeper.sockets.lock().clear();
    let judge = |said: &ToKeeper| match said {
        ToKeeper::Bind { socket, .. } if socket.address.port() == 8080 => Act::Fail("nginx"),
        _ => Act::Do,
    };
    let daemon = Daemon::start(settings(dir.path()), 1, keeper, Box::new(judge)).unwrap();
    until("the switch serves", || daemon.keeper.heard.lock().iter().any(|h| h == "Ready"));
    assert_eq!(daemon.published(), ["0.0.0.0:8081 81/tcp", "[::]:8081 81/tcp"]);
    let warnings = daemon.call(|control| Ok(control.status().warnings)).unwrap().join("\n");
    assert!(warnings.contains("default/web: publish again: port 8080/tcp is in use by nginx (pid 4711)"), "{warnings}");
    daemon.unpublish("web", &["8080"]).unwrap();
    daemon.stop();
}

#[test]
fn more_than_a_daemon_may_have_is_refused_before_it_is_compared() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    daemon.attach("web", "eth0").unwrap();
    let specs: Vec<String> =
        (0..120).map(|n| 512 * n + 1).map(|at| format!("{at}-{0}:{at}-{0}/udp", at + 511)).collect();
    let specs: Vec<&str> = specs.iter().map(String::as_str).collect();
    assert!(matches!(daemon.publish("web", &specs), Err(Refusal::Failed(text)) if text.contains("2048")));
    daemon.stop();
}

/// A container on `default` as eth0 and on `back` as eth1, for which its engine asked for port 8080 with both.
fn on_two_networks(daemon: &Daemon) {
    daemon.call(|control| control.create_network(&network("back", "10.2.0.0/24"), None)).unwrap();
    of_engine(daemon, "default", "eth0", "8080:80").unwrap();
    of_engine(daemon, "back", "eth1", "8080:80").unwrap();
}

fn of_engine(daemon: &Daemon, network: &str, ifname: &str, publish: &str) -> Result<(), Refusal> {
    let request = AttachRequest {
        network: Some(network.into()),
        name: Some("web".into()),
        netns: "netavark:49825037e538".into(),
        ifname: Some(ifname.into()),
        publish: vec![publish.into()],
        publish_once: true,
        ..AttachRequest::default()
    };
    daemon.attach_as(request).map(drop)
}

fn publisher(daemon: &Daemon) -> Vec<String> {
    let infos = daemon.call(|control| control.endpoint_infos(&Selection::default())).unwrap();
    infos.into_iter().filter(|info| !info.published.is_empty()).map(|info| info.network).collect()
}

#[test]
fn a_container_on_two_networks_publishes_by_the_first_and_then_by_the_other() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    on_two_networks(&daemon);
    assert_eq!((publisher(&daemon), binds(&daemon)), (vec!["default".into()], 2));
    let before = bound(&daemon.keeper);
    daemon.detach("default/web").unwrap();
    assert_eq!(publisher(&daemon), ["back"]);
    assert_eq!(daemon.published(), ["0.0.0.0:8080 80/tcp", "[::]:8080 80/tcp"]);
    assert_eq!((bound(&daemon.keeper), binds(&daemon)), (before, 2), "the sockets are the same");
    let view = daemon.call(|control| Ok(control.networks[&"back".parse().unwrap()].view.clone())).unwrap();
    assert_eq!(view.network().ports().next().unwrap().1.published.len(), 2, "replies must take the way of the socket");
    daemon.unpublish("back/web", &["8080:80"]).unwrap();
    assert!(bound(&daemon.keeper).is_empty());
    daemon.stop();
}

#[test]
fn ports_of_a_container_on_two_networks_go_with_it() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    on_two_networks(&daemon);
    daemon.detach("back/web").unwrap();
    assert_eq!(publisher(&daemon), ["default"]);
    of_engine(&daemon, "back", "eth1", "8080:80").unwrap();
    daemon.detach("default/web").unwrap();
    daemon.detach("back/web").unwrap();
    assert!(bound(&daemon.keeper).is_empty());
    daemon.stop();
}

#[test]
fn who_stands_by_for_a_port_does_so_after_a_restart_too() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    on_two_networks(&daemon);
    let daemon = Daemon::start(settings(dir.path()), 1, daemon.stop(), Box::new(|_| Act::Do)).unwrap();
    until("the switch serves", || daemon.keeper.heard.lock().iter().any(|h| h == "Ready"));
    assert_eq!(publisher(&daemon), ["default"]);
    daemon.detach("default/web").unwrap();
    assert_eq!(publisher(&daemon), ["back"]);
    daemon.stop();
}

#[test]
fn a_port_of_another_container_or_for_another_port_of_it_is_taken() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    on_two_networks(&daemon);
    let taken = "port 8080/tcp is published by default/web already";
    let other_port = of_engine(&daemon, "default", "eth2", "8080:81").unwrap_err().to_string();
    assert!(other_port.contains(taken), "{other_port}");
    let request = AttachRequest {
        name: Some("db".into()),
        netns: "netavark:232544a6bb60".into(),
        ifname: Some("eth3".into()),
        publish: vec!["8080:80".into()],
        publish_once: true,
        ..AttachRequest::default()
    };
    let other_container = daemon.attach_as(request.clone()).unwrap_err().to_string();
    assert!(other_container.contains(taken), "{other_container}");
    // A person who asks for it is to know who has it.
    let netns = "netavark:49825037e538".into();
    let person = daemon.attach_as(AttachRequest { netns, publish_once: false, ..request }).unwrap_err().to_string();
    assert!(person.contains(taken), "{person}");
    daemon.stop();
}
