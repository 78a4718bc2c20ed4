//! `allow` and `deny`.

use super::*;

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
    let in_force = daemon.call(|c| Ok(c.networks.values().next().unwrap().view.network().rules().count())).unwrap();
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
fn a_change_that_fails_says_which() {
    let dir = dir();
    let daemon = Daemon::new(dir.path());
    let error = daemon.call(|control| control.deny(&rule("a", "b", Some("tcp/1")))).unwrap_err().to_string();
    assert!(error.starts_with("deny a b tcp/1: no rule from a to b"), "{error}");
    let error = daemon.call(|control| control.allow(&rule("nowhere/a", "b", None))).unwrap_err().to_string();
    assert!(error.starts_with("allow nowhere/a b: no network nowhere"), "{error}");
    daemon.stop();
}
