//! Bad input gives one clear line and changes nothing.

use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tapswitch_tests::{Container, Session, Switch, Tun, Who, as_root_and_user, run};

as_root_and_user! {
    fn each_bad_command_says_one_line_and_changes_nothing(who: Who) {
        let switch = Switch::start(who, &["--subnet", "192.168.227.0/24"]);
        switch.ok(&["network", "create", "closed", "--icc", "false"]);
        let _web = Container::new(&switch, "web");
        let _other = Container::with(&switch, "web", &["--network", "closed"]);
        let free = Container::unattached(switch.session());
        let pid = free.pid().to_string();
        let before = everything(&switch);
        let attach = |flags: &[&'static str]| [&["attach", pid.as_str()], flags].concat();

        let bad: Vec<(Vec<&str>, &str)> = vec![
            (vec!["attach", "4194305"], "4194305"),
            (vec!["attach", "no-such-namespace"], "no-such-namespace"),
            (vec!["attach", "/dev/null"], "/dev/null"),
            (attach(&["--name", "web"]), "web"),
            (attach(&["--name", "a/b"]), "a/b"),
            (attach(&["--ip", "192.168.227.2"]), "192.168.227.2"),
            (attach(&["--ip", "192.168.228.2"]), "192.168.228.2"),
            (attach(&["--ip", "192.168.227.0"]), "192.168.227.0"),
            (attach(&["--ip", "192.168.227.1"]), "192.168.227.1"),
            (attach(&["--ip", "192.168.227.255"]), "192.168.227.255"),
            (attach(&["--mac", "03:00:00:00:00:01"]), "03:00:00:00:00:01"),
            (attach(&["--ifname", "a-name-that-is-too-long"]), "a-name-that-is-too-long"),
            (attach(&["--ifname", "lo"]), "lo"),
            (attach(&["--network", "nowhere"]), "nowhere"),
            (vec!["detach", "nobody"], "nobody"),
            (vec!["detach", "nowhere/web"], "nowhere"),
            (vec!["detach", "web"], "closed/web"),
            (vec!["stats", "nobody"], "nobody"),
            (vec!["network", "inspect", "nowhere"], "nowhere"),
            (vec!["network", "rm", "nowhere"], "nowhere"),
            (vec!["network", "rm", "closed"], "closed"),
            (vec!["network", "create", "closed"], "closed"),
            (vec!["network", "create", "n", "--subnet", "192.168.227.128/25"], "192.168.227.0/24"),
            (vec!["network", "create", "n", "--subnet", "10.9.8.7/24"], "10.9.8.0/24"),
            (vec!["network", "create", "n", "--subnet", "10.9.8.0/24", "--gateway", "10.9.9.1"], "10.9.9.1"),
            (vec!["network", "create", "n", "--subnet", "10.9.8.0/24", "--range", "10.9.9.0/25"], "10.9.9.0/25"),
            (vec!["network", "create", "n", "--mtu", "67"], "67"),
            (vec!["network", "create", "n", "--mtu", "65522"], "65522"),
            (vec!["network", "create", "../n"], "../n"),
            (vec!["network", "set", "default", "--mtu", "1279"], "1279"),
            (vec!["network", "set", "nowhere", "--icc", "false"], "nowhere"),
            (vec!["allow", "a", "b", "tcp/65536"], "tcp/65536"),
            (vec!["allow", "a", "b", "sctp/1"], "sctp/1"),
            (vec!["allow", "default/a", "closed/b", "tcp/1"], "closed"),
        ];
        for (args, names) in &bad {
            let output = switch.cli(args);
            // clap's own complaints are usage errors: 2, and may show the usage below the line.
            assert!(output.code == 1 || output.code == 2, "{}: exit {}: {}", output.command, output.code, output.stderr);
            assert!(output.stdout.is_empty(), "{}: {}", output.command, output.stdout);
            let line = if output.code == 1 { output.clone().one_line_of_failure(1) } else { first_line(&output.stderr) };
            assert!(line.contains(names), "{}: `{names}` is not named: {line}", output.command);
        }
        assert_eq!(everything(&switch), before);
        assert!(!free.has_device("eth0"), "a refused attachment left a device");
        free.attach(&switch, "free", &["--ip", "192.168.227.3"]);
    }
}

as_root_and_user! {
    fn malformed_and_endless_json_is_refused_and_the_daemon_serves_on(who: Who) {
        let switch = Switch::start(who, &[]);
        let before = everything(&switch);
        let probe = |words: &[&str]| {
            let mut command = switch.session().command("tapswitch-probe");
            let socket = switch.session().socket();
            command.arg(words[0]).arg(socket).args(&words[1..]);
            run(command, Duration::from_secs(60)).ok()
        };
        for body in ["{\"name\":", "", "[]", "{\"name\":\"x\",\"no-such-field\":1}", "{\"name\":\"x\",\"mtu\":\"many\"}"] {
            let answer = probe(&["request", "POST", "/v1/networks", body]);
            assert!(answer.starts_with("HTTP/1.1 4"), "{body}: {answer}");
            let error: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).expect("a body")).expect("JSON");
            let text = error["error"].as_str().unwrap_or_else(|| panic!("{body}: {answer}"));
            assert!(!text.is_empty() && !text.contains('\n'), "{body}: {text}");
        }
        assert!(probe(&["request", "GET", "/v1/nothing", ""]).starts_with("HTTP/1.1 404"));

        let answer = probe(&["flood", "/v1/networks", "1073741824"]);
        let taken: usize = answer.lines().next().and_then(|line| line.strip_prefix("taken ")?.parse().ok()).expect("a count");
        assert!(taken < 16 << 20, "{taken} bytes were taken");
        assert_eq!(everything(&switch), before);
        let _still_serving = Container::new(&switch, "web");
    }
}

as_root_and_user! {
    fn a_second_daemon_on_the_same_state_is_refused_and_touches_nothing(who: Who) {
        let switch = Switch::start(who, &[]);
        let (a, b) = (Container::new(&switch, "a"), Container::new(&switch, "b"));
        let before = (everything(&switch), switch.switch_pid());
        let second = Switch::up(switch.session(), &["--name", "other", "--subnet", "10.9.8.0/24"]);
        run(second, Duration::from_secs(30)).one_line_of_failure(1);
        assert_eq!((everything(&switch), switch.switch_pid()), before);
        assert!(a.reaches(b.ipv4()));
    }
}

as_root_and_user! {
    fn a_daemon_whose_socket_another_serves_is_refused_and_touches_nothing(who: Who) {
        let switch = Switch::start(who, &[]);
        let (a, b) = (Container::new(&switch, "a"), Container::new(&switch, "b"));
        let before = (everything(&switch), switch.switch_pid());
        // The session's socket is the first's.
        let mut second = switch.session().command("tapswitch");
        second.args(["up", "--subnet", "10.9.8.0/24", "--state"]).arg(switch.session().dir().join("other"));
        let line = run(second, Duration::from_secs(30)).one_line_of_failure(1);
        assert!(line.contains("in use"), "{line}");
        assert_eq!((everything(&switch), switch.switch_pid()), before);
        assert!(a.reaches(b.ipv4()));
    }
}

as_root_and_user! {
    fn a_flag_that_contradicts_the_stored_network_is_refused_naming_both_values(who: Who) {
        let switch = Switch::start(who, &["--subnet", "192.168.227.0/24"]);
        let session = switch.terminate();
        let line = run(Switch::up(&session, &["--subnet", "10.9.8.0/24"]), Duration::from_secs(30)).one_line_of_failure(1);
        assert!(line.contains("192.168.227.0/24") && line.contains("10.9.8.0/24"), "{line}");
        let switch = Switch::start_in(session, &[]);
        assert_eq!(switch.json(&["network", "inspect", "default"])["subnet"], "192.168.227.0/24");
    }
}

as_root_and_user! {
    fn a_refused_start_leaves_the_switch_that_outlived_its_keeper_as_it_was(who: Who) {
        let switch = Switch::start(who, &[]);
        let (a, b) = (Container::new(&switch, "a"), Container::new(&switch, "b"));
        let before = switch.switch_pid();
        switch.kill_keeper();
        let line = run(Switch::up(switch.session(), &["--icc", "false"]), Duration::from_secs(30)).one_line_of_failure(1);
        assert!(line.contains("icc true") && line.contains("icc false"), "{line}");
        assert_eq!(switch.switch_pid(), before);
        assert!(a.reaches(b.ipv4()));
    }
}

as_root_and_user! {
    fn bad_flags_of_up_are_refused_and_leave_no_daemon(who: Who) {
        let session = Session::new(who);
        for flags in [
            ["--subnet", "10.9.8.7"],
            ["--subnet", "10.9.8.0/31"],
            ["--mtu", "0"],
            ["--gateway", "10.9.8.1"],
            ["--workers", "0"],
            ["--uplink", "moon"],
            ["--config", "/no/such/file"],
        ] {
            let output = run(Switch::up(&session, &flags), Duration::from_secs(30));
            assert!(output.code == 1 || output.code == 2, "{flags:?}: exit {}: {}", output.code, output.stderr);
            assert!(!first_line(&output.stderr).is_empty(), "{flags:?} says nothing");
            if output.code == 1 {
                output.one_line_of_failure(1);
            }
        }
        let mut status = session.command("tapswitch");
        status.arg("status");
        run(status, Duration::from_secs(30)).one_line_of_failure(1);
    }
}

#[test]
fn a_missing_or_forbidden_tun_is_named_as_root() {
    // 0600 is no obstacle to root.
    refused_without_tun(Who::Root, Tun::Absent);
    refused_without_tun(Who::User, Tun::Absent);
    refused_without_tun(Who::User, Tun::Forbidden);
}

#[test]
fn a_user_cannot_attach_a_namespace_that_is_not_theirs_as_root() {
    let switch = Switch::start(Who::User, &[]);
    let theirs = Session::new(Who::Root);
    let foreign = Container::unattached(&theirs);
    let before = everything(&switch);
    let line = foreign.try_attach(&switch, &["--name", "web"]).one_line_of_failure(1);
    assert!(line.contains("permission") || line.contains("Permission") || line.contains("not permitted"), "{line}");
    assert_eq!(everything(&switch), before);
    assert!(!foreign.has_device("eth0"));
}

#[test]
fn another_user_cannot_use_the_sockets_as_root() {
    let switch = Switch::start(Who::Root, &[]);
    let stranger = Session::new(Who::User);
    let mut command = stranger.command("tapswitch");
    command.arg("ls").env("TAPSWITCH_SOCKET", switch.session().socket());
    run(command, Duration::from_secs(30)).one_line_of_failure(1);
}

/// Either the daemon does not start, or it starts and attaches nothing; one line names the node in both cases.
fn refused_without_tun(who: Who, tun: Tun) {
    let session = Rc::new(Session::with_tun(who, tun));
    let mut detached = Switch::up(&session, &["--detach"]);
    detached.env("RUST_BACKTRACE", "0");
    let up = run(detached, Duration::from_secs(30));
    let line = if up.code == 0 {
        let warning = "tapswitch: warning: no container can be attached: open /dev/net/tun: ";
        assert!(up.stderr.starts_with(warning), "{who:?}, {tun:?}: {}", up.stderr);
        let container = Container::unattached(&session);
        let mut attach = session.command("tapswitch");
        attach.args(["attach", &container.pid().to_string()]);
        let output = run(attach, Duration::from_secs(30));
        let mut down = session.command("tapswitch");
        down.arg("down");
        run(down, Duration::from_secs(30)).ok();
        output.one_line_of_failure(1)
    } else {
        up.one_line_of_failure(1)
    };
    assert!(line.contains("/dev/net/tun"), "{who:?}, {tun:?}: {line}");
}

/// What a refused command must leave as it is: networks, endpoints and rules, without counters.
fn everything(switch: &Switch) -> Value {
    let fields = ["name", "network", "ifname", "mac", "ipv4", "ipv6", "port", "state"];
    let endpoints = switch.json(&["ls"]);
    let lines = endpoints.as_array().expect("an array").iter().map(|line| fields.map(|field| line[field].clone()));
    json!([switch.json(&["network", "ls"]), lines.collect::<Vec<_>>(), switch.json(&["rules"])])
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
