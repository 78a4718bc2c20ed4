//! Networks made, changed and removed.

use super::*;

#[test]
fn a_subnet_is_chosen_beside_the_others_and_a_later_route_is_a_warning() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    let auto = |name: &str| NetworkCreate { name: name.into(), ..NetworkCreate::default() };
    let [a, b] = ["a", "b"].map(|name| daemon.call(move |control| control.create_network(&auto(name), None)).unwrap());
    assert_eq!((a.subnet.to_string(), b.subnet.to_string()), ("172.17.0.0/16".into(), "172.18.0.0/16".into()));
    assert!(a.subnet6.is_some() && a.subnet6 != b.subnet6 && a.uplink == UplinkKind::User);
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
        (network("B", "10.9.0.0/24"), "already, b"),
        (NetworkCreate { mtu: Some(67), ..network("c", "10.9.0.0/24") }, "mtu 67"),
    ] {
        let error = daemon.call(move |control| control.create_network(&bad, None)).unwrap_err().to_string();
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
    let remove =
        |daemon: &Daemon| wait(daemon.handle.ask(|c, reply| c.remove_network(&"default".parse().unwrap(), reply)));
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
    let info = set(NetworkSet { icc: Some(false), mtu: Some(9000), ..NetworkSet::default() }).unwrap();
    assert_eq!((info.icc, info.mtu), (false, 9000));
    assert!(daemon.keeper.heard.lock().iter().any(|h| h == "mtu eth0 9000"));
    assert!(matches!(set(NetworkSet { mtu: Some(65_522), ..NetworkSet::default() }), Err(Refusal::Impossible(_))));
    let keeper = daemon.stop();
    let daemon = Daemon::start(settings(dir.path()), 1, keeper, Box::new(|_| Act::Do)).unwrap();
    let info = daemon.call(|c| c.network_info(&"default".parse().unwrap())).unwrap();
    assert_eq!((info.icc, info.mtu, info.endpoints), (false, 9000, vec!["web".to_owned()]));
    daemon.stop();
}

#[test]
fn a_device_that_was_ordered_before_the_mtu_was_changed_gets_it_too() {
    let dir = dir();
    let (gate, judge) = Gate::before(|said| matches!(said, ToKeeper::Attach { .. }));
    let daemon = Daemon::start(settings(dir.path()), 0, Keeper::default(), judge).unwrap();
    let mtu = NetworkSet { mtu: Some(9000), ..NetworkSet::default() };
    std::thread::scope(|scope| {
        let attached = scope.spawn(|| daemon.attach("web", "eth0"));
        gate.await_keeper();
        let set = daemon.handle.ask(move |c, reply| c.set_network(&"default".parse().unwrap(), &mtu, reply));
        assert_eq!(wait(set).unwrap().mtu, 9000);
        gate.open();
        attached.join().unwrap().unwrap();
    });
    until("its MTU", || daemon.keeper.heard.lock().iter().any(|h| h == "mtu eth0 9000"));
    daemon.stop();
}

#[test]
fn a_change_that_cannot_be_written_is_not_in_the_files_either() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    let file = dir.path().join("state/networks/default.json");
    let before = std::fs::read(&file).unwrap();
    let spare = dir.path().join("run/networks");
    std::fs::remove_dir_all(&spare).unwrap();
    std::fs::write(&spare, "").unwrap();
    let set = NetworkSet { icc: Some(false), ..NetworkSet::default() };
    let set = daemon.handle.ask(move |c, reply| c.set_network(&"default".parse().unwrap(), &set, reply));
    assert!(matches!(wait(set), Err(Refusal::Failed(_))));
    assert_eq!(std::fs::read(&file).unwrap(), before);
    assert!(daemon.call(|c| c.network_info(&"default".parse().unwrap())).unwrap().icc);
    daemon.stop();
}

#[test]
fn auto_is_ipv4_alone_on_a_kernel_without_ipv6_and_a_given_subnet_is_refused() {
    let dir = dir();
    let daemon = Daemon::without_ipv6(dir.path());
    let create = |wanted: NetworkCreate| daemon.call(move |control| control.create_network(&wanted, None));
    let of = |name: &str, ipv6| NetworkCreate { name: name.into(), ipv6, ..NetworkCreate::default() };
    for (name, ipv6) in [("unset", None), ("auto", Some(Subnet6::Auto)), ("off", Some(Subnet6::Off))] {
        assert_eq!(create(of(name, ipv6)).unwrap().subnet6, None, "{name}");
    }
    // Less than IPv6 could do with.
    assert_eq!(create(NetworkCreate { mtu: Some(1000), ..of("small", None) }).unwrap().mtu, 1000);
    let given = create(of("given", Some(Subnet6::Given("fd00::/64".parse().unwrap()))));
    assert!(
        matches!(&given, Err(Refusal::Impossible(why)) if why.contains("no IPv6") && why.contains("ipv6.disable=1"))
    );
    daemon.stop();
}
