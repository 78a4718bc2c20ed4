//! The commands that run something: demo, run, exec, up --detach, doctor.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tapswitch_tests::{Container, Session, Switch, Who, as_root_and_user, page_commands, run};

as_root_and_user! {
    fn the_demo_needs_nothing_and_succeeds(who: Who) {
        let session = Session::new(who);
        let mut demo = session.command("tapswitch");
        demo.arg("demo");
        let output = run(demo, Duration::from_secs(120));
        assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
        assert!(output.stdout.contains("bit/s"), "no rate: {}", output.stdout);
        assert!(output.stdout.contains("spoofed"), "no spoof attempt dropped by name: {}", output.stdout);
    }
}

as_root_and_user! {
    fn run_passes_on_the_exit_status_and_detaches_at_the_end(who: Who) {
        let switch = Switch::start(who, &[]);
        let db = Container::new(&switch, "db");
        let target = db.ipv4().to_string();
        switch.ok(&["run", "--name", "job", "--", "ping", "-n", "-q", "-c", "1", "-W", "2", &target]);
        for (words, code) in [
            (&["sh", "-c", "exit 7"][..], 7),
            (&["/no/such/program"], 127),
            (&["/dev/null"], 126),
        ] {
            let output = switch.cli(&[&["run", "--name", "job", "--"], words].concat());
            assert_eq!(output.code, code, "{words:?}: {}", output.stderr);
        }
        switch.cli(&["run", "--network", "nowhere", "--", "true"]).one_line_of_failure(125);
        tapswitch_tests::eventually("run's endpoint to go", Duration::from_secs(10), || switch.endpoint("job").is_none());
    }
}

as_root_and_user! {
    fn exec_enters_the_namespace_of_an_endpoint(who: Who) {
        let switch = Switch::start(who, &[]);
        let web = Container::new(&switch, "web");
        let shown = switch.ok(&["exec", "web", "--", "ip", "-brief", "address", "show", "eth0"]);
        assert!(shown.contains(&web.ipv4().to_string()), "{shown}");
        assert_eq!(switch.cli(&["exec", "default/web", "--", "sh", "-c", "exit 9"]).code, 9);
        switch.cli(&["exec", "nobody", "--", "true"]).one_line_of_failure(125);
    }
}

as_root_and_user! {
    fn up_detached_returns_once_it_serves_and_down_ends_it(who: Who) {
        let session = Session::new(who);
        // flock hands the descriptor of its lock down, as a test runner does its own.
        let lock = session.dir().join("of-the-caller");
        let mut up = session.command("flock");
        up.arg(&lock).arg(session.program("tapswitch")).args(["up", "--detach", "--state"]).arg(session.dir().join("state"));
        run(up, Duration::from_secs(30)).ok();
        let mut again = session.command("flock");
        again.arg("--nonblock").arg(&lock).arg("true");
        run(again, Duration::from_secs(30)).ok();
        let command = |words: &[&str]| {
            let mut command = session.command("tapswitch");
            command.args(words);
            run(command, Duration::from_secs(30))
        };
        let status: Value = serde_json::from_str(&command(&["status", "--json"]).ok()).expect("JSON");
        let container = Container::unattached(&session);
        command(&["attach", &container.pid().to_string(), "--name", "web"]).ok();
        command(&["down"]).ok();
        assert!(!container.has_device("eth0"));
        for process in ["keeper_pid", "switch_pid"] {
            let path = format!("/proc/{}/comm", status[process]);
            tapswitch_tests::eventually("its end", Duration::from_secs(10), || {
                !std::fs::read_to_string(&path).is_ok_and(|comm| comm.starts_with("tapswitch"))
            });
        }
    }
}

as_root_and_user! {
    fn a_switch_that_hangs_is_said_to_and_down_ends_it(who: Who) {
        let switch = Switch::start(who, &[]);
        let web = Container::new(&switch, "web");
        kill(Pid::from_raw(switch.switch_pid().cast_signed()), Signal::SIGSTOP).expect("it runs");
        let line = switch.cli(&["status"]).one_line_of_failure(1);
        assert!(line.contains("no answer within 5 s") && line.contains("tapswitch down"), "{line}");
        let down = switch.cli(&["down"]);
        assert!(down.code == 0 && down.stderr.contains("does not answer: killing it"), "{}", down.stderr);
        assert!(!web.has_device("eth0"));
    }
}

as_root_and_user! {
    fn the_log_says_who_serves_and_where(who: Who) {
        let session = std::rc::Rc::new(Session::new(who));
        let mut up = Switch::up(&session, &[]);
        up.env("TAPSWITCH_LOG", "nonsense===");
        let switch = Switch::start_command(session, up);
        let first = format!("serves at {}: keeper {}", switch.session().socket().display(), switch.keeper_pid());
        assert!(switch.log().contains(&first), "{}", switch.log());
        assert!(switch.log().starts_with("tapswitch: warning: TAPSWITCH_LOG=nonsense===: "), "{}", switch.log());
        kill(Pid::from_raw(switch.switch_pid().cast_signed()), Signal::SIGKILL).expect("it runs");
        tapswitch_tests::eventually("the next switch", Duration::from_secs(10), || {
            switch.log().contains(" INFO a new switch, pid ")
        });
    }
}

as_root_and_user! {
    fn a_signal_that_comes_to_a_process_and_its_group_is_one(who: Who) {
        let switch = Switch::start(who, &[]);
        let [keeper, hung] = [switch.keeper_pid(), switch.switch_pid()].map(|pid| Pid::from_raw(pid.cast_signed()));
        let has_read = || {
            let status = std::fs::read_to_string(format!("/proc/{keeper}/status")).expect("it runs");
            status.lines().any(|line| line == "ShdPnd:\t0000000000000000")
        };
        // It does not stop before both have come.
        kill(hung, Signal::SIGSTOP).expect("it runs");
        for _ in 0..2 {
            kill(keeper, Signal::SIGTERM).expect("it runs");
            tapswitch_tests::eventually("the keeper to take it", Duration::from_secs(10), has_read);
        }
        // As timeout(1) continues what it ends.
        kill(hung, Signal::SIGCONT).expect("it is not killed at once");
        tapswitch_tests::eventually("the end of the keeper", Duration::from_secs(10), || {
            std::fs::read_to_string(format!("/proc/{keeper}/stat")).map_or(true, |stat| stat.contains(") Z "))
        });
        assert!(!switch.log().contains("killing it"), "{}", switch.log());
    }
}

as_root_and_user! {
    fn doctor_finds_this_host_able(who: Who) {
        let session = Session::new(who);
        let mut doctor = session.command("tapswitch");
        doctor.args(["doctor", "--json"]);
        let output = run(doctor, Duration::from_secs(30)).ok();
        let _: Value = serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {output}"));
    }
}

as_root_and_user! {
    fn settings_come_from_a_file_and_flags_win(who: Who) {
        let session = std::rc::Rc::new(Session::new(who));
        let path = session.dir().join("tapswitch.toml");
        let text = "workers = 1\n[[network]]\nname = \"default\"\nsubnet = \"192.168.227.0/24\"\nicc = false\nmtu = 9000\n";
        std::fs::write(&path, text).expect("write our own file");
        let file = path.to_str().expect("a plain path");
        let switch = Switch::start_in(session, &["--config", file, "--mtu", "1400"]);
        let network = switch.json(&["network", "inspect", "default"]);
        assert_eq!((&network["subnet"], &network["icc"]), (&"192.168.227.0/24".into(), &false.into()));
        assert_eq!(network["mtu"], 1400);
        assert_eq!(switch.json(&["status"])["workers"], 1);
    }
}

#[test]
fn the_tour_of_the_readme_begins_where_what_stands_before_it_ends() {
    let session = Session::new(Who::User);
    let tour = page_commands("../README.md", "# ");
    let tour = tour.lines().filter(|line| line.starts_with("tapswitch ")).take_while(|line| !line.contains("inspect"));
    let tour: String = tour.map(|line| format!("{line}\n")).collect();
    let mut shell = session.command("sh");
    let folder = session.program("tapswitch").parent().expect("it is in a folder").display().to_string();
    shell.args([
        "-exc",
        &format!("PATH={folder}:$PATH\ntapswitch up -d\ntapswitch down\n{tour}tapswitch network ls\ntapswitch down"),
    ]);
    let said = run(shell, Duration::from_secs(60));
    assert!(said.code == 0 && said.stdout.contains("192.168.227.0/24"), "{}{}", said.stdout, said.stderr);
}
