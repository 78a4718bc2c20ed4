//! Networks with the uplink `host`: a device of the host's own on each.

use std::pin::pin;
use std::task::{Context, Waker};

use super::*;
use crate::daemon::control::Control;
use crate::forwarding::Uplink;

const KEY: &str = "lab/host.tapswitch";

fn lab() -> NetworkCreate {
    NetworkCreate { uplink: Some(UplinkKind::Host), ..network("lab", "10.2.0.0/24") }
}

fn make(daemon: &Daemon, wanted: NetworkCreate) -> Result<NetworkInfo, Refusal> {
    wait(daemon.handle.ask(move |c, reply| c.make_network(&wanted, reply)))
}

fn remove(daemon: &Daemon) -> Result<(), Refusal> {
    wait(daemon.handle.ask(|c, reply| c.remove_network(&name(), reply)))
}

fn name() -> Name {
    "lab".parse().unwrap()
}

fn uplink(daemon: &Daemon) -> Uplink {
    daemon.call(|c| Ok(c.networks[&name()].view.network().settings().uplink)).unwrap()
}

fn heard(daemon: &Daemon, what: &str) -> bool {
    daemon.keeper.heard.lock().iter().any(|heard| heard.starts_with(what))
}

fn start(dir: &tempfile::TempDir, restarts: u32, keeper: Keeper) -> Daemon {
    Daemon::start(settings(dir.path()), restarts, keeper, Box::new(|_| Act::Do)).unwrap()
}

/// With the network, and a keeper that waits before it takes the first device away.
fn start_gated(dir: &tempfile::TempDir) -> (Gate, Daemon) {
    let (gate, judge) = Gate::before(|said| matches!(said, ToKeeper::Detach { .. }));
    let daemon = Daemon::start(settings(dir.path()), 0, Keeper::default(), judge).unwrap();
    make(&daemon, lab()).unwrap();
    (gate, daemon)
}

#[test]
fn a_network_comes_with_the_hosts_device_and_its_routing_and_goes_with_both() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    let info = make(&daemon, lab()).unwrap();
    assert_eq!((info.host, info.endpoints), (Some([10, 2, 0, 254].into()), vec![]));
    assert!(heard(&daemon, "attach host lab/host.tapswitch"));
    assert!(heard(&daemon, "route ts-lab [10.2.0.0/24]"));
    assert!(matches!(uplink(&daemon), Uplink::Host(_)));
    let host = daemon.call(|c| c.endpoint_infos(&Selection::default())).unwrap().pop().unwrap();
    assert_eq!((host.name.as_str(), host.netns.as_str(), host.ifname.as_str()), ("host.tapswitch", "host", "ts-lab"));
    assert_eq!(host.mac, info.gateway_mac);
    assert_eq!(daemon.call(|c| c.fdb(Some(&name()))).unwrap().len(), 1, "the MAC is the gateway's");
    let kept = daemon.detach("host.tapswitch").unwrap_err();
    assert!(kept.to_string().contains("goes with its network"), "{kept}");
    remove(&daemon).unwrap();
    until("its end", || heard(&daemon, "detach lab/host.tapswitch"));
    make(&daemon, lab()).unwrap();
    daemon.stop();
}

#[test]
fn a_network_whose_device_cannot_be_made_is_not_made() {
    let dir = dir();
    let judge = |said: &ToKeeper| match said {
        ToKeeper::AttachHost { .. } => Act::Fail("no device today"),
        _ => Act::Do,
    };
    let daemon = Daemon::start(settings(dir.path()), 0, Keeper::default(), Box::new(judge)).unwrap();
    let error = make(&daemon, lab()).unwrap_err().to_string();
    assert_eq!(error, "create network lab: no device today");
    assert!(daemon.call(|c| c.network_info(&name())).is_err());
    daemon.stop();
}

#[test]
fn a_device_whose_descriptor_cannot_be_received_is_taken_away_again() {
    let dir = dir();
    let mut cuts = 1;
    let judge = move |said: &ToKeeper| match said {
        ToKeeper::AttachHost { .. } if cuts > 0 => {
            cuts -= 1;
            Act::Cut
        }
        _ => Act::Do,
    };
    let daemon = Daemon::start(settings(dir.path()), 0, Keeper::default(), Box::new(judge)).unwrap();
    let error = make(&daemon, lab()).unwrap_err().to_string();
    assert_eq!(error, "create network lab: too many files are open in the daemon");
    assert!(daemon.keeper.kept.lock().is_empty(), "the keeper would refuse to make another");
    make(&daemon, lab()).unwrap();
    daemon.stop();
}

#[test]
fn a_network_that_is_there_does_not_ask_for_such_a_device_again_and_again() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    make(&daemon, lab()).unwrap();
    let keeper = daemon.stop();
    keeper.kept.lock().clear();
    let judge = |said: &ToKeeper| if matches!(said, ToKeeper::AttachHost { .. }) { Act::Cut } else { Act::Do };
    let daemon = Daemon::start(settings(dir.path()), 0, keeper, Box::new(judge)).unwrap();
    let warned = || daemon.call(|c| Ok(c.status().warnings)).unwrap();
    until("the warning", || warned() == ["network lab has no way out: too many files are open in the daemon"]);
    // The keeper answers in order.
    daemon.attach("web", "eth0").unwrap();
    assert_eq!(daemon.keeper.heard.lock().iter().filter(|heard| heard.starts_with("attach host")).count(), 1);
    daemon.stop();
}

#[test]
fn what_does_not_work_of_the_routing_is_a_warning() {
    let dir = dir();
    let judge = |said: &ToKeeper| match said {
        ToKeeper::Route { .. } => Act::Fail("route for ts-lab: no nft"),
        _ => Act::Do,
    };
    let daemon = Daemon::start(settings(dir.path()), 0, Keeper::default(), Box::new(judge)).unwrap();
    make(&daemon, lab()).unwrap();
    let warned = || daemon.call(|c| Ok(c.status().warnings)).unwrap();
    assert_eq!(warned(), ["network lab: route for ts-lab: no nft"]);
    daemon.stop();
}

#[test]
fn a_network_is_there_when_the_host_routes_for_it_and_not_before() {
    let dir = dir();
    let (gate, judge) = Gate::before(|said| matches!(said, ToKeeper::Route { .. }));
    let daemon = Daemon::start(settings(dir.path()), 0, Keeper::default(), judge).unwrap();
    let handle = daemon.handle.clone();
    let mut made = pin!(handle.ask(|c, reply| c.make_network(&lab(), reply)));
    let mut look = || made.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(look().is_pending());
    gate.await_keeper();
    // Behind the step in which control asked for the routing.
    daemon.call(|c| Ok(c.status())).unwrap();
    assert!(look().is_pending());
    gate.open();
    wait(made).unwrap();
    daemon.stop();
}

#[test]
fn an_ordinary_user_is_told_that_it_needs_root() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    let of_a_user = |c: &mut Control| {
        c.privileged = false;
        Ok(())
    };
    daemon.call(of_a_user).unwrap();
    let error = make(&daemon, lab()).unwrap_err().to_string();
    assert!(error.contains("needs root") && error.contains("--uplink user"), "{error}");
    assert!(daemon.call(|c| c.network_info(&name())).is_err());
    daemon.stop();
}

#[test]
fn the_next_switch_goes_on_with_the_device_and_a_lost_one_is_made_again() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    make(&daemon, lab()).unwrap();
    let web = AttachRequest { network: Some("lab".into()), ..AttachRequest::default() };
    daemon.attach_as(web).unwrap();
    let keeper = daemon.stop();
    let daemon = start(&dir, 1, keeper);
    assert!(matches!(uplink(&daemon), Uplink::Host(_)));
    assert!(!heard(&daemon, "attach host"), "it was kept");
    until("routing", || heard(&daemon, "route "));
    let keeper = daemon.stop();
    keeper.kept.lock().remove(KEY).unwrap();
    let daemon = start(&dir, 0, keeper);
    until("a new one", || matches!(uplink(&daemon), Uplink::Host(_)));
    assert!(heard(&daemon, "attach host lab/host.tapswitch"));
    daemon.stop();
}

#[test]
fn a_removed_network_is_gone_with_its_device_so_that_another_may_have_its_name() {
    let dir = dir();
    let (gate, daemon) = start_gated(&dir);
    std::thread::scope(|scope| {
        let removed = scope.spawn(|| remove(&daemon));
        gate.await_keeper();
        assert!(
            matches!(make(&daemon, lab()), Err(Refusal::Conflict(text)) if text.contains("one of that name already"))
        );
        assert!(matches!(remove(&daemon), Err(Refusal::Conflict(text)) if text.contains("try again")));
        gate.open();
        removed.join().unwrap().unwrap();
    });
    make(&daemon, lab()).unwrap();
    assert!(matches!(uplink(&daemon), Uplink::Host(_)));
    assert!(daemon.keeper.kept.lock().contains_key(KEY));
    daemon.stop();
}

#[test]
fn a_network_that_somebody_joins_while_it_is_removed_stays_with_another_device() {
    let dir = dir();
    let (gate, daemon) = start_gated(&dir);
    std::thread::scope(|scope| {
        let removed = scope.spawn(|| remove(&daemon));
        gate.await_keeper();
        let web = AttachRequest { network: Some("lab".into()), name: Some("web".into()), ..AttachRequest::default() };
        let joined = scope.spawn(|| daemon.attach_as(web));
        until("web is on its way", || {
            daemon.call(|c| Ok(c.networks[&name()].endpoints.contains_key(&"web".parse().unwrap()))).unwrap()
        });
        gate.open();
        assert!(matches!(removed.join().unwrap(), Err(Refusal::Conflict(text)) if text.contains("detach web first")));
        joined.join().unwrap().unwrap();
    });
    until("another device", || matches!(uplink(&daemon), Uplink::Host(_)));
    daemon.stop();
}

#[test]
fn a_device_that_somebody_removes_is_made_again() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    make(&daemon, lab()).unwrap();
    let Uplink::Host(port) = uplink(&daemon) else { panic!("no host") };
    daemon.events.send(EngineEvent::Gone(port)).unwrap();
    until("another", || matches!(uplink(&daemon), Uplink::Host(other) if other != port));
    daemon.stop();
}

#[test]
fn down_takes_the_device_away() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    make(&daemon, lab()).unwrap();
    wait(daemon.handle.ask(|c, reply| c.go_down(reply))).unwrap();
    assert!(heard(&daemon, "detach lab/host.tapswitch"));
    assert!(daemon.keeper.kept.lock().is_empty());
    assert_eq!(daemon.ended(), Ending::Down);
}

#[test]
fn the_host_s_own_routes_and_addresses_by_the_device_stand_in_nobodys_way() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    make(&daemon, lab()).unwrap();
    let on_link = |net: &str| Route { prefix: net.parse().unwrap(), kind: RouteKind::OnLink };
    let seen = Occupied {
        routes: vec![on_link("10.2.0.0/24"), on_link("10.1.0.0/25")],
        addresses: vec!["10.2.0.254".parse().unwrap()],
        ..Occupied::default()
    };
    daemon.host.send(seen).unwrap();
    let warnings = |of: &'static str| daemon.call(move |c| Ok(c.network_info(&of.parse().unwrap())?.warnings)).unwrap();
    until("the other route is seen", || warnings("default").len() == 1);
    assert_eq!(warnings("lab"), [""; 0]);
    daemon.stop();
}
