//! Docker Engine of an ordinary user, under RootlessKit; the daemon is outside, the same user's.

mod docked;

use std::path::Path;

use docked::{CREATE, Engine, Setup};
use serde_json::json;
use tapswitch_tests::{Probe, Who};

const ECHO: u16 = 7;

#[test]
fn containers_of_a_rootless_engine_reach_each_other_and_far_hosts_as_root() {
    let engine = Engine::start(Setup { who: Who::User, ..Setup::default() });
    let internet = engine.internet();
    let (_echo, far) = (internet.serve("echo", ECHO, &[]), internet.addresses()[0]);
    engine.ok(&format!("{CREATE} web"));
    engine.ok("docker run -d --name db --network web lab redis-server --save '' --protected-mode no");
    engine.ok("docker run -d --name app --network web -p 8080:80 lab tapswitch-probe peer 0.0.0.0:80");
    engine.ok("docker exec app ping -c 1 -W 5 db");
    assert_eq!(engine.ok("docker exec app redis-cli -h db ping"), "PONG");
    engine.ok(&format!("docker exec app tapswitch-probe dial {far}:{ECHO}"));
    // Published by the switch, on the host itself and not in RootlessKit's network: the client's address stays.
    let said = Probe::ask(internet.far(), "read", internet.host_addresses()[0], 8080, &[]);
    assert!(said.contains(&format!("you are {far}")), "{said}");
    engine.has_no_bridge();
    // RootlessKit's folder goes with the room.
    for folder in engine.ok("ls -d /tmp/rootlesskit*").lines() {
        assert!(!Path::new(folder).exists(), "{folder} is on the host");
    }
    engine.ok("docker rm -f app db && docker network rm web");
    assert_eq!(engine.json("tapswitch ls"), json!([]));
}
