//! Names in Docker's containers. Docker's own resolver is at a random port of 127.0.0.11 in each, and netfilter rules of Docker's
//! lead port 53 to it; where there is no netfilter the switch does.

mod docked;

use docked::{CREATE, Engine, PATIENCE, Setup};
use tapswitch_tests::{Background, eventually};

const FAR_NAME: &str = "far.test";
/// Without iptables and nft.
const BARE: Setup = Setup { who: tapswitch_tests::Who::Root, netfilter: false, dockerd: "--live-restore" };

#[test]
fn names_are_found_without_netfilter_as_root() {
    let engine = Engine::start(BARE);
    let names = serve_names(&engine);
    engine.ok(&format!("{CREATE} web && {CREATE} --internal back"));
    engine.ok("docker run -d --name db --network web --network-alias store lab sleep 1000");
    // Asked by the first thing that a container does.
    for name in ["db", "store", FAR_NAME, "db", "store"] {
        engine.ok(&format!("docker run --rm --network web lab ping -c 1 -W 5 {name}"));
    }
    assert!(names.lines().iter().any(|line| line.starts_with("question far.test")), "{:?}", names.lines());

    engine.ok("docker run -d --name app --network web lab sleep 1000");
    let db = engine.address("db", "web");
    for transport in ["+notcp", "+tcp"] {
        assert_eq!(dig(&engine, "app", &format!("{transport} db")), db);
        assert_eq!(
            dig(&engine, "app", &format!("{transport} {FAR_NAME}")),
            engine.internet().addresses()[0].to_string()
        );
        assert_eq!(dig(&engine, "app", &format!("{transport} -x {db}")), "db.web.");
        assert_eq!(dig(&engine, "app", &format!("{transport} nobody.test")), "");
    }

    // A second network, whose names come and go with it; from an internal one nothing is asked outside.
    engine.ok("docker run -d --name inner --network back lab sleep 1000");
    assert_eq!(dig(&engine, "app", "+tries=1 inner"), "");
    engine.ok("docker network connect back app");
    assert_eq!(dig(&engine, "app", "inner"), engine.address("inner", "back"));
    assert_eq!(dig(&engine, "inner", "app"), engine.address("app", "back"));
    engine.ok("docker network disconnect web app");
    assert_eq!(dig(&engine, "app", "inner"), engine.address("inner", "back"));
    assert_eq!(dig(&engine, "app", "+tries=1 +time=2 db"), "");
    engine.ok("docker rm -f app db inner");
    eventually("nothing to be left", PATIENCE, || engine.json("tapswitch ls") == serde_json::json!([]));
}

#[test]
fn names_are_found_without_netfilter_after_either_was_killed_as_root() {
    let mut engine = Engine::start(BARE);
    engine.ok(&format!("{CREATE} web"));
    engine.ok("docker run -d --name db --network web lab sleep 1000");
    engine.ok("docker run -d --name app --network web lab sleep 1000");
    let db = engine.address("db", "web");
    let found = |engine: &Engine| dig(engine, "app", "+tries=1 +time=1 db") == db;
    assert!(found(&engine));
    // The engine's resolver is at another port after each start of it.
    for signal in ["TERM", "KILL"] {
        engine.end_dockerd(signal);
        engine.start_dockerd();
        eventually("the name, after the engine's end", PATIENCE, || found(&engine));
    }
    engine.kill_daemon(&["switch_pid"]);
    eventually("the name, after the switch's end", PATIENCE, || found(&engine));
    for pids in [&["keeper_pid"][..], &["keeper_pid", "switch_pid"]] {
        engine.kill_daemon(pids);
        engine.up();
        eventually("the name, after the daemon's end", PATIENCE, || found(&engine));
    }
}

#[test]
fn where_dockers_own_rules_serve_the_switch_stays_away_as_root() {
    let engine = Engine::start(Setup::default());
    let _names = serve_names(&engine);
    engine.ok(&format!("{CREATE} web"));
    engine.ok("docker run -d --name db --network web lab sleep 1000");
    engine.ok(&format!("docker run --rm --network web lab ping -c 1 -W 5 {FAR_NAME}"));
    engine.ok("docker run -d --name app --network web lab sleep 1000");
    for transport in ["+notcp", "+tcp"] {
        assert_eq!(dig(&engine, "app", &format!("{transport} db")), engine.address("db", "web"));
    }
    // Where this kernel has no nat the rules could not be made.
    let rules = engine.sh("unshare --net iptables --table nat --list").code == 0;
    assert_eq!(listens(&engine, "app"), !rules, "the switch listens where Docker's rules do not serve, and only there");
}

#[test]
fn without_netfilter_the_switch_listens_in_the_container_as_root() {
    let engine = Engine::start(BARE);
    engine.ok(&format!("{CREATE} web"));
    engine.ok("docker run -d --name app --network web lab sleep 1000");
    assert_eq!(dig(&engine, "app", "app"), engine.address("app", "web"));
    assert!(listens(&engine, "app"));
}

/// The far resolver, which the host's /etc/resolv.conf names.
fn serve_names(engine: &Engine) -> Background {
    let internet = engine.internet();
    let [v4, v6] = internet.addresses();
    internet.serve("names", 53, &[&format!("{FAR_NAME}={v4}"), &format!("{FAR_NAME}={v6}")])
}

/// What dig(1) finds in a container's network; nothing where there is nothing.
#[track_caller]
fn dig(engine: &Engine, container: &str, words: &str) -> String {
    let pid = engine.pid(container);
    let said = engine.sh(&format!("nsenter --net=/proc/{pid}/ns/net dig +short @127.0.0.11 {words}")).stdout;
    said.lines().filter(|line| !line.starts_with(';')).collect::<Vec<_>>().join("\n")
}

/// Whether anything is bound to 127.0.0.11:53 in a container.
#[track_caller]
fn listens(engine: &Engine, container: &str) -> bool {
    let pid = engine.pid(container);
    let sockets = engine.ok(&format!("cat /proc/{pid}/net/udp /proc/{pid}/net/tcp"));
    // proc(5): the second field, the address in the byte order of the machine, the port in that of people.
    let address = format!("{:08X}:0035", u32::from_ne_bytes([127, 0, 0, 11]));
    sockets.lines().any(|line| line.split_whitespace().nth(1) == Some(&address))
}
