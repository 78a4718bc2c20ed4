//! `tapswitch run` as a person has it: a terminal, Ctrl-C, job control, signals, and what is left when it ends.

use std::rc::Rc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tapswitch_tests::{Background, CTRL_C, CTRL_Z, Session, Switch, Terminal, as_root_and_user, eventually};

const SOON: Duration = Duration::from_secs(10);

as_root_and_user! {
    fn ctrl_c_reaches_the_command_and_its_endpoint_goes(who: Who) {
        let switch = Switch::start(who, &[]);
        let mut terminal = on_terminal(&switch, &["run", "--name", "job", "--", "sh", "-c", "echo started; exec sleep 100"]);
        terminal.wait_for("started");
        assert!(switch.endpoint("job").is_some());
        terminal.types(CTRL_C);
        assert_eq!(terminal.finish(), 128 + 2);
        // Before it ended, so that the next command finds the name free.
        assert!(switch.endpoint("job").is_none());
    }
}

as_root_and_user! {
    fn ctrl_c_is_passed_on_to_a_command_that_left_the_terminal(who: Who) {
        let switch = Switch::start(who, &[]);
        let mut terminal = on_terminal(&switch, &["run", "--", "setsid", "sh", "-c", "echo started; exec sleep 100"]);
        terminal.wait_for("started");
        terminal.types(CTRL_C);
        assert_eq!(terminal.finish(), 128 + 2);
    }
}

as_root_and_user! {
    fn a_command_that_takes_the_interrupt_ends_as_it_likes(who: Who) {
        let switch = Switch::start(who, &[]);
        let script = "trap 'echo interrupted' INT; echo started; sleep 100; exit 5";
        let mut terminal = on_terminal(&switch, &["run", "--name", "job", "--", "sh", "-c", script]);
        terminal.wait_for("started");
        // Until the sleep runs; the trap holds before.
        std::thread::sleep(Duration::from_millis(100));
        terminal.types(CTRL_C);
        terminal.wait_for("interrupted");
        assert!(!terminal.shown().contains("interrupted"), "it came twice: {}", terminal.shown());
        assert_eq!(terminal.finish(), 5);
    }
}

as_root_and_user! {
    fn a_shell_has_its_terminal_and_job_control(who: Who) {
        let switch = Switch::start(who, &[]);
        let mut terminal = on_terminal(&switch, &["run", "--name", "job", "--", "bash", "--norc", "--noprofile", "-i"]);
        let mut says = |typed: &str, shown: &str| {
            terminal.types(typed);
            terminal.wait_for(shown);
        };
        // What is typed is shown too: only what the shell makes of it is waited for.
        says("PS1=; echo so-$((40+2))\n", "so-42");
        says("tty >/dev/null; echo tty-$?\n", "tty-0");
        says("sleep 100\n", "sleep 100");
        std::thread::sleep(Duration::from_millis(200));
        says(CTRL_C, "^C");
        says("echo status-$?\n", "status-130");
        says("sleep 101\n", "sleep 101");
        std::thread::sleep(Duration::from_millis(200));
        says(CTRL_Z, "Stopped");
        says("kill %1; fg; echo back-$?\n", "back-");
        says("ip -brief address show eth0 | cut -c1-4\n", "eth0");
        terminal.types("exit 9\n");
        assert!(!terminal.shown().contains("no job control"), "{}", terminal.shown());
        assert_eq!(terminal.finish(), 9);
        assert!(switch.endpoint("job").is_none());
    }
}

as_root_and_user! {
    fn a_shell_stops_it_and_takes_it_up_again(who: Who) {
        let switch = Switch::start(who, &[]);
        let mut shell = switch.session().command("bash");
        shell.args(["--norc", "--noprofile", "-i"]);
        let mut terminal = Terminal::start(shell);
        let program = switch.session().program("tapswitch").display().to_string();
        terminal.types("PS1=; echo so-$((40+2))\n");
        terminal.wait_for("so-42");
        terminal.types(&format!("{program} run --name job -- sh -c 'echo started-$((1+1)); exec sleep 100'\n"));
        terminal.wait_for("started-2");
        terminal.types(CTRL_Z);
        terminal.wait_for("Stopped");
        terminal.types("echo still-$((1+1))\n");
        terminal.wait_for("still-2");
        assert!(switch.endpoint("job").is_some());
        terminal.types("fg\n");
        terminal.wait_for("run --name job");
        std::thread::sleep(Duration::from_millis(200));
        terminal.types(CTRL_C);
        terminal.types("echo status-$?\n");
        terminal.wait_for("status-130");
        assert!(switch.endpoint("job").is_none());
        terminal.types("exit\n");
        terminal.finish();
    }
}

as_root_and_user! {
    fn a_shell_that_stops_itself_gives_the_terminal_back(who: Who) {
        let switch = Switch::start(who, &[]);
        let mut shell = switch.session().command("bash");
        shell.args(["--norc", "--noprofile", "-i"]);
        let mut terminal = Terminal::start(shell);
        let program = switch.session().program("tapswitch").display().to_string();
        let mut says = |typed: &str, shown: &str| {
            terminal.types(typed);
            terminal.wait_for(shown);
        };
        says("PS1=; echo so-$((40+2))\n", "so-42");
        says(&format!("{program} run --name job -- bash --norc --noprofile -i\n"), "job");
        says("PS1=; echo inside-$((1+1))\n", "inside-2");
        for (stop, round) in [("suspend", 3), ("kill -STOP $$", 4)] {
            says(&format!("{stop}\n"), "Stopped");
            says(&format!("echo outside-$((1+{round})); jobs %1 | grep -c Stopped\n"), &format!("outside-{}", 1 + round));
            says("fg\n", "run --name job");
            says(&format!("echo back-$((1+{round}))\n"), &format!("back-{}", 1 + round));
            // Its job control holds too.
            says("sleep 100\n", "sleep 100");
            std::thread::sleep(Duration::from_millis(200));
            says(CTRL_C, "^C");
            says(&format!("echo status-$?-{round}\n"), &format!("status-130-{round}"));
        }
        says("exit 9\n", "exit");
        says("echo ended-$?\n", "ended-9");
        terminal.types("exit\n");
        terminal.finish();
    }
}

as_root_and_user! {
    fn a_signal_ends_it_while_the_daemon_does_not_answer(who: Who) {
        let switch = Switch::start(who, &[]);
        let hung = Pid::from_raw(switch.switch_pid().cast_signed());
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            kill(hung, Signal::SIGSTOP).expect("it runs");
            let job = start(&switch, &["true"]);
            let children = format!("/proc/{0}/task/{0}/children", job.pid());
            eventually("its process in namespaces", SOON, || {
                std::fs::read_to_string(&children).is_ok_and(|children| !children.is_empty())
            });
            job.signal(signal);
            assert_eq!(job.finish(SOON).code, 128 + signal as i32);
            kill(hung, Signal::SIGCONT).expect("it is stopped");
            eventually("the endpoint to go", SOON, || switch.endpoint("job").is_none());
        }
    }
}

as_root_and_user! {
    fn a_resized_terminal_is_told(who: Who) {
        let switch = Switch::start(who, &[]);
        let script = "trap 'echo resized; stty size' WINCH; echo started; while :; do sleep 0.1; done";
        let mut terminal = on_terminal(&switch, &["run", "--", "sh", "-c", script]);
        terminal.wait_for("started");
        terminal.resize(33, 77);
        terminal.wait_for("resized");
        terminal.wait_for("33 77");
    }
}

as_root_and_user! {
    fn a_terminal_that_hangs_up_ends_the_command(who: Who) {
        let switch = Switch::start(who, &[]);
        // It reads nothing from the terminal: the signal alone tells it.
        let mut terminal = on_terminal(&switch, &["run", "--name", "job", "--", "sh", "-c", "echo started; exec sleep 100"]);
        terminal.wait_for("started");
        terminal.hang_up();
        eventually("the endpoint to go", SOON, || switch.endpoint("job").is_none());
        assert_eq!(terminal.finish(), 128 + 1);
    }
}

as_root_and_user! {
    fn every_signal_is_passed_on(who: Who) {
        let switch = Switch::start(who, &[]);
        for (signal, name) in [
            (Signal::SIGTERM, "TERM"), (Signal::SIGINT, "INT"), (Signal::SIGHUP, "HUP"), (Signal::SIGQUIT, "QUIT"),
            (Signal::SIGUSR1, "USR1"), (Signal::SIGUSR2, "USR2"), (Signal::SIGWINCH, "WINCH"),
            (Signal::SIGPWR, "PWR"), (Signal::SIGCONT, "CONT"),
        ] {
            let script = format!("trap 'echo got; exit 3' {name}; echo started; while :; do sleep 0.05; done");
            let mut job = start(&switch, &["sh", "-c", &script]);
            job.wait_for_line("started", SOON);
            job.signal(signal);
            let output = job.finish(SOON);
            assert_eq!((output.code, output.stdout.as_str()), (3, "started\ngot\n"), "{name}: {}", output.stderr);
        }
    }
}

as_root_and_user! {
    fn an_alarm_from_before_it_started_is_passed_on(who: Who) {
        let switch = Switch::start(who, &[]);
        let mut command = switch.session().command("perl");
        command.args(["-e", "alarm 1; exec @ARGV"]).arg(switch.session().program("tapswitch"));
        command.args(["run", "--", "sleep", "100"]);
        assert_eq!(tapswitch_tests::run(command, SOON).code, 128 + 14);
    }
}

as_root_and_user! {
    fn a_signal_that_ends_the_command_shows_in_the_status(who: Who) {
        let switch = Switch::start(who, &[]);
        for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR1] {
            let mut job = start(&switch, &["sh", "-c", "echo started; exec sleep 100"]);
            job.wait_for_line("started", SOON);
            job.signal(signal);
            assert_eq!(job.finish(SOON).code, 128 + signal as i32);
            assert!(switch.endpoint("job").is_none());
        }
        // The last one is a real-time signal, which has no name.
        for (kill, number) in [("kill -KILL $$", 9), ("kill -40 $$", 40)] {
            let output = switch.cli(&["run", "--", "sh", "-c", kill]);
            assert_eq!(output.code, 128 + number, "{}", output.stderr);
        }
    }
}

as_root_and_user! {
    fn killed_it_takes_the_command_and_the_endpoint_along(who: Who) {
        let switch = Switch::start(who, &[]);
        let mut job = start(&switch, &["sh", "-c", "echo pid $$; exec sleep 100"]);
        let line = job.wait_for_line("pid ", SOON);
        let inside = format!("/proc/{}/cmdline", line.trim_start_matches("pid "));
        job.signal(Signal::SIGKILL);
        assert_eq!(job.finish(SOON).code, 128 + 9);
        eventually("the endpoint to go", SOON, || switch.endpoint("job").is_none());
        // Empty where only its parent has not looked yet.
        assert_eq!(std::fs::read(&inside).unwrap_or_default(), b"", "the command lives on");
    }
}

as_root_and_user! {
    fn a_caller_that_ignores_its_children_gets_the_status(who: Who) {
        let switch = Switch::start(who, &[]);
        let mut command = switch.session().command("env");
        command.arg("--ignore-signal=CHLD").arg(switch.session().program("tapswitch"));
        command.args(["run", "--", "sh", "-c", "exit 4"]);
        assert_eq!(tapswitch_tests::run(command, SOON).code, 4);
    }
}

as_root_and_user! {
    fn its_end_spares_another_endpoint_that_got_its_name(who: Who) {
        let switch = Switch::start(who, &[]);
        let mut first = start(&switch, &["sh", "-c", "echo started; exec sleep 100"]);
        first.wait_for_line("started", SOON);
        switch.ok(&["detach", "job"]);
        let mut second = start(&switch, &["sh", "-c", "echo started; exec sleep 100"]);
        second.wait_for_line("started", SOON);
        let output = first.terminate();
        assert_eq!((output.code, output.stderr.as_str()), (128 + 15, ""));
        assert!(switch.endpoint("job").is_some(), "the second one's was detached");
    }
}

as_root_and_user! {
    fn failures_have_dockers_statuses_and_one_line(who: Who) {
        let switch = Switch::start(who, &[]);
        let run = |words: &[&str]| switch.cli(&[&["run", "--name", "job"], words].concat());
        run(&["--", "/no/such/program"]).one_line_of_failure(127);
        run(&["--", "no-such-program"]).one_line_of_failure(127);
        run(&["--", "/etc/passwd"]).one_line_of_failure(126);
        run(&["--", "/etc"]).one_line_of_failure(126);
        run(&["--network", "nowhere", "--", "true"]).one_line_of_failure(125);
        run(&["--ip", "8.8.8.8", "--", "true"]).one_line_of_failure(125);
        assert!(switch.endpoint("job").is_none());
        let session: Rc<Session> = switch.terminate();
        let mut command = session.command("tapswitch");
        command.args(["run", "--", "true"]);
        let line = tapswitch_tests::run(command, SOON).one_line_of_failure(125);
        assert!(line.contains("tapswitch up"), "the remedy is not named: {line}");
    }
}

as_root_and_user! {
    fn standard_streams_are_the_commands_own(who: Who) {
        let switch = Switch::start(who, &[]);
        let program = switch.session().program("tapswitch").display().to_string();
        let mut shell = switch.session().command("sh");
        shell.args(["-c", &format!("printf 'one\\ntwo\\n' | {program} run -- sh -c 'cat; echo aside >&2' | tr a-z A-Z")]);
        let output = tapswitch_tests::run(shell, SOON);
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("ONE\nTWO\n", "aside\n"));
    }
}

/// `tapswitch WORDS` on a terminal.
fn on_terminal(switch: &Switch, words: &[&str]) -> Terminal {
    let mut command = switch.session().command("tapswitch");
    command.args(words);
    Terminal::start(command)
}

/// `tapswitch run --name job -- WORDS` without a terminal.
fn start(switch: &Switch, words: &[&str]) -> Background {
    let mut command = switch.session().command("tapswitch");
    command.args(["run", "--name", "job", "--"]).args(words);
    Background::start(command)
}
