//! A daemon with its own state.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::process::{Output, kill_session, run, wait_for_end};
use crate::session::{Session, Who};
use crate::wait::{PATIENCE, eventually};

/// A running daemon: keeper and switch. Dropped, both are killed; the devices of its containers go with them.
#[derive(Debug)]
pub struct Switch {
    session: Rc<Session>,
    child: Child,
}

impl Switch {
    /// `tapswitch up FLAGS` as `who`, serving.
    ///
    /// # Panics
    /// When it does not come to serve.
    #[track_caller]
    pub fn start(who: Who, flags: &[&str]) -> Switch {
        Switch::start_in(Rc::new(Session::new(who)), flags)
    }

    /// `tapswitch up FLAGS` in `session`, serving. A session outlives its daemons: state is found again.
    ///
    /// # Panics
    /// When it does not come to serve.
    #[track_caller]
    pub fn start_in(session: Rc<Session>, flags: &[&str]) -> Switch {
        let command = Switch::up(&session, flags);
        Switch::start_command(session, command)
    }

    /// What [`Switch::up`] gave, serving.
    ///
    /// # Panics
    /// When it does not come to serve.
    #[track_caller]
    pub fn start_command(session: Rc<Session>, mut command: Command) -> Switch {
        let log = File::create(session.dir().join("log")).expect("make a file in our own folder");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("duplicate a descriptor")).stderr(log);
        // SAFETY: setsid and prctl are async-signal-safe and touch no memory of ours.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?)
            });
        }
        let child = command.spawn().expect("start the daemon");
        let mut switch = Switch { session, child };
        let status = switch.cli(&["status", "--wait", "30"]);
        assert_eq!(status.code, 0, "the daemon does not serve: {}\n{}", status.stderr, switch.log());
        // A switch whose keeper was killed answers until this one has taken over.
        eventually("the new keeper's switch to serve", PATIENCE, || {
            let status = switch.cli(&["status", "--json"]);
            let shown: Value = serde_json::from_str(&status.stdout).unwrap_or_default();
            let ended = switch.child.try_wait().expect("a child of ours");
            assert_eq!(ended, None, "the daemon ended");
            shown["keeper_pid"] == switch.child.id()
        });
        switch
    }

    /// `tapswitch up FLAGS`, not started.
    pub fn up(session: &Session, flags: &[&str]) -> Command {
        let mut command = session.command("tapswitch");
        command.arg("up").arg("--state").arg(session.dir().join("state")).args(flags);
        command
    }

    /// Its session.
    pub fn session(&self) -> &Rc<Session> {
        &self.session
    }

    /// Who runs it.
    pub fn who(&self) -> Who {
        self.session.who()
    }

    /// `tapswitch ARGS`, to its end.
    #[track_caller]
    pub fn cli(&self, args: &[&str]) -> Output {
        let mut command = self.session.command("tapswitch");
        command.args(args);
        run(command, PATIENCE)
    }

    /// `tapswitch ARGS`, which succeeds; its output.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        self.cli(args).ok()
    }

    /// `tapswitch ARGS --json`, which succeeds; its output.
    ///
    /// # Panics
    /// When it fails or prints no JSON.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let args = [args, &["--json"]].concat();
        let text = self.ok(&args);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}"))
    }

    /// The line of `ls` of the endpoint `name`, in any network.
    pub fn endpoint(&self, name: &str) -> Option<Value> {
        self.json(&["ls"]).as_array().expect("ls is an array").iter().find(|line| line["name"] == name).cloned()
    }

    /// The counters of both directions of all ports, the gone ones too.
    pub fn total(&self) -> Value {
        self.json(&["stats"])["total"].clone()
    }

    /// How many frames were dropped for `reason`, over all ports.
    pub fn drops(&self, reason: &str) -> u64 {
        let total = self.total();
        ["rx_drops", "tx_drops"].iter().filter_map(|side| total[side][reason].as_u64()).sum()
    }

    /// Process of the switch.
    pub fn switch_pid(&self) -> u32 {
        pid(&self.json(&["status"])["switch_pid"])
    }

    /// Process of the keeper.
    pub fn keeper_pid(&self) -> u32 {
        pid(&self.json(&["status"])["keeper_pid"])
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.session.dir().join("log")).unwrap_or_default()
    }

    /// SIGKILL to the keeper alone, and its end. Returns the pid it had.
    pub fn kill_keeper(&self) -> u32 {
        let keeper = self.keeper_pid();
        kill(Pid::from_raw(keeper.cast_signed()), Signal::SIGKILL).expect("the keeper runs");
        wait_for_end(keeper, PATIENCE);
        keeper
    }

    /// SIGTERM to the keeper, and both processes gone: the devices stay. Returns the session.
    pub fn terminate(self) -> Rc<Session> {
        let (keeper, switch) = (self.keeper_pid(), self.switch_pid());
        kill(Pid::from_raw(keeper.cast_signed()), Signal::SIGTERM).expect("the keeper runs");
        wait_for_end(keeper, PATIENCE);
        wait_for_end(switch, PATIENCE);
        Rc::clone(&self.session)
    }

    /// SIGKILL to every process of the daemon. Returns the session.
    pub fn kill(self) -> Rc<Session> {
        Rc::clone(&self.session)
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        kill_session(self.child.id());
        // It fails only where it was reaped already.
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the daemon's log\n{}---", self.log());
        }
    }
}

#[track_caller]
fn pid(value: &Value) -> u32 {
    value.as_u64().and_then(|pid| u32::try_from(pid).ok()).unwrap_or_else(|| panic!("{value} is no process"))
}
