//! Docker Engine and the daemon killed beside each other, with containers that go on.

mod docked;

use docked::shown::Traces;
use docked::{CREATE, Engine, PATIENCE, Setup};
use serde_json::json;
use tapswitch_tests::{Background, Who, eventually};

/// Containers outlive the engine.
const LIVE: Setup = Setup { who: Who::Root, netfilter: true, dockerd: "--live-restore" };
const BOTH: &[&str] = &["keeper_pid", "switch_pid"];

#[test]
fn containers_talk_on_while_the_engine_restarts_as_root() {
    let mut engine = Engine::start(LIVE);
    let before = Traces::of(&engine);
    let mut pair = Pair::start(&engine);
    for signal in ["TERM", "KILL"] {
        engine.end_dockerd(signal);
        pair.talks("without an engine");
        engine.start_dockerd();
        pair.talks("after the engine's start");
        takes_another(&engine);
    }
    engine.ok("docker exec app ping -c 1 -W 5 db");
    // Told to leave by an engine that did not see them join.
    engine.ok("docker network disconnect web db");
    assert_eq!(engine.json("tapswitch ls").as_array().map(Vec::len), Some(1));
    engine.ok("docker network connect web db && docker exec app ping -c 1 -W 5 db");
    drop(pair);
    is_left_clean(&engine, &before);
}

#[test]
fn containers_talk_on_while_parts_of_the_daemon_are_killed_as_root() {
    let mut engine = Engine::start(LIVE);
    let before = Traces::of(&engine);
    let mut pair = Pair::start(&engine);
    engine.kill_daemon(&["switch_pid"]);
    pair.talks("by the keeper's next switch");
    takes_another(&engine);
    engine.kill_daemon(&["keeper_pid"]);
    pair.talks("without a keeper");
    engine.up();
    pair.talks("after the keeper's start");
    takes_another(&engine);
    engine.kill_daemon(BOTH);
    engine.up();
    pair.talks("after both were killed");
    takes_another(&engine);
    engine.ok("docker exec app ping -c 1 -W 5 db");
    drop(pair);
    is_left_clean(&engine, &before);
}

#[test]
fn the_engine_and_the_daemon_are_killed_in_every_order_as_root() {
    let mut engine = Engine::start(LIVE);
    let before = Traces::of(&engine);
    let mut pair = Pair::start(&engine);
    for pids in [&["switch_pid"][..], &["keeper_pid"], BOTH] {
        for engine_first in [true, false] {
            if engine_first {
                engine.end_dockerd("KILL");
            }
            engine.kill_daemon(pids);
            if !engine_first {
                engine.end_dockerd("KILL");
            }
            if pids != ["switch_pid"] {
                engine.up();
            }
            pair.talks("without an engine");
            engine.start_dockerd();
            takes_another(&engine);
        }
    }
    engine.ok("docker exec app ping -c 1 -W 5 db");
    drop(pair);
    is_left_clean(&engine, &before);
}

/// An engine asks for the plugin of its networks at its start. It waits some seconds, and goes on.
#[test]
fn an_engine_that_starts_first_finds_the_daemon_later_as_root() {
    let mut engine = Engine::start(LIVE);
    let before = Traces::of(&engine);
    let mut pair = Pair::start(&engine);
    engine.kill_daemon(BOTH);
    engine.end_dockerd("KILL");
    engine.start_dockerd();
    engine.up();
    pair.talks("after both");
    takes_another(&engine);
    drop(pair);
    is_left_clean(&engine, &before);
}

#[test]
fn containers_that_die_with_the_engine_leave_nothing_as_root() {
    let mut engine = Engine::start(Setup::default());
    engine.ok(&format!("{CREATE} --subnet 10.90.0.0/29 web"));
    engine.ok("docker run --rm --network web lab true");
    let before = Traces::of(&engine);
    for daemon_too in [false, true] {
        for n in 1..=5 {
            engine.ok(&format!("docker run -d --name c{n} --network web -p 80 --stop-signal KILL lab sleep 1000"));
        }
        if daemon_too {
            engine.kill_daemon(BOTH);
        }
        engine.end_dockerd("KILL");
        if daemon_too {
            engine.up();
        }
        engine.start_dockerd();
        eventually("the endpoints of the dead to go", PATIENCE, || engine.json("tapswitch ls") == json!([]));
        // All five addresses are free again.
        engine.ok("docker start c1 c2 c3 c4 c5 && docker exec c1 ping -c 1 -W 5 c5");
        engine.ok("docker rm -f c1 c2 c3 c4 c5");
        eventually("nothing to be left", PATIENCE, || Traces::of(&engine).are_those(&before));
    }
    engine.has_no_bridge();
}

/// Two containers, `app` and `db`; one sends to the other, whatever happens to engine and daemon.
struct Pair {
    sink: Background,
    _stamps: Background,
}

impl Pair {
    #[track_caller]
    fn start(engine: &Engine) -> Pair {
        engine.ok(&format!("{CREATE} web"));
        for name in ["app", "db"] {
            engine.ok(&format!("docker run -d --name {name} --network web lab sleep 1000"));
        }
        let to = format!("{}:9", engine.address("db", "web"));
        let inside = |name: &str| format!("exec nsenter --net=/proc/{}/ns/net tapswitch-probe", engine.pid(name));
        let mut sink = engine.spawn(&format!("{} sink {to}", inside("db")));
        sink.wait_until_ready();
        let stamps = engine.spawn(&format!("{} stamps {to}", inside("app")));
        let mut pair = Pair { sink, _stamps: stamps };
        pair.talks("from the start");
        pair
    }

    /// Waits until a hundred more have arrived.
    #[track_caller]
    fn talks(&mut self, when: &str) {
        let before = self.sink.lines().len();
        eventually(&format!("what is sent to arrive, {when}"), PATIENCE, || self.sink.lines().len() > before + 100);
    }
}

/// A new container starts, and finds the others.
#[track_caller]
fn takes_another(engine: &Engine) {
    engine.ok("docker run --rm --network web lab ping -c 1 -W 5 db");
}

/// After all containers and their network are gone.
#[track_caller]
fn is_left_clean(engine: &Engine, before: &Traces) {
    engine.has_no_bridge();
    engine.ok("docker rm -f app db && docker network rm web");
    eventually("nothing to be left", PATIENCE, || Traces::of(engine).are_those(before));
    assert_eq!(engine.networks(), ["default"]);
}
