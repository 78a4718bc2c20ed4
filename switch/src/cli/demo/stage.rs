//! What the demonstration plays on: a daemon with a state directory of its own, and two containers. Dropped, all is gone.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::forge::Station;
use super::inside::Inside;
use crate::cli::attach::attach;
use crate::cli::container::Container;
use crate::daemon::api::client::Client;
use crate::daemon::api::types::{AttachRequest, EndpointInfo, Status};

/// How long the daemon may take to serve; it takes some 50 ms.
const STARTING: Duration = Duration::from_secs(10);
/// How long it may take to end before it is killed.
const ENDING: Duration = Duration::from_secs(3);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// The daemon, and the directory that holds all it keeps.
#[derive(Debug)]
pub(super) struct Switch {
    daemon: Child,
    switch_pid: Option<u32>,
    client: Client,
    // Last: it is removed when the daemon is gone.
    directory: TempDir,
}

/// A container of the demonstration.
#[derive(Debug)]
pub(super) struct Actor {
    /// Its endpoint.
    pub endpoint: EndpointInfo,
    /// Where its sockets are made.
    pub inside: Inside,
    /// Its MAC and address.
    pub station: Station,
    _container: Container,
}

impl Switch {
    /// Starts a daemon in a directory of its own and returns when it serves; `interrupted` is asked while it starts.
    ///
    /// # Errors
    /// What the daemon said last, where it could not start.
    pub(super) fn start(interrupted: impl Fn() -> anyhow::Result<()>) -> anyhow::Result<Self> {
        let private = fs::Permissions::from_mode(0o700);
        let directory = tempfile::Builder::new().prefix("tapswitch-demo-").permissions(private).tempdir();
        let directory = directory.context("make a directory")?;
        let daemon = spawn(&directory)?;
        let client = Client::new(directory.path().join("run/api.sock"));
        let mut switch = Switch { daemon, switch_pid: None, client, directory };
        switch.await_serving(interrupted)?;
        Ok(switch)
    }

    /// Its control API.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// A container called `name`, attached.
    ///
    /// # Errors
    /// When it cannot be made or attached.
    pub(super) fn actor(&self, name: &str) -> anyhow::Result<Actor> {
        let container = Container::start(|| {
            // Its end is a signal.
            loop {
                nix::unistd::pause();
            }
        })?;
        let request = AttachRequest {
            name: Some(name.into()),
            netns: format!("demo:{}", container.pid()),
            ..AttachRequest::default()
        };
        let endpoint = attach(&self.client, &request, container.namespace()?.as_fd())?;
        let ip = endpoint.ipv4.context("an endpoint without an IPv4 address")?;
        let station = Station { mac: endpoint.mac, ip };
        Ok(Actor { inside: Inside::of(&container)?, endpoint, station, _container: container })
    }

    fn await_serving(&mut self, interrupted: impl Fn() -> anyhow::Result<()>) -> anyhow::Result<()> {
        let deadline = Instant::now() + STARTING;
        loop {
            if let Ok(status) = self.client.get::<Status>("/v1/status", &[]) {
                self.switch_pid = Some(status.switch_pid);
                return Ok(());
            }
            if self.daemon.try_wait()?.is_some() {
                return Err(anyhow!(self.last_words()));
            }
            if Instant::now() > deadline {
                bail!("the switch does not serve after {} s: {}", STARTING.as_secs(), self.last_words());
            }
            interrupted()?;
            sleep(PAUSE);
        }
    }

    /// The last line of its log.
    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        let last = log.lines().rev().find(|line| !line.trim().is_empty());
        last.map_or_else(|| "the switch died".into(), |line| line.trim_start_matches("tapswitch: ").to_owned())
    }

    fn has_ended(&mut self) -> bool {
        let deadline = Instant::now() + ENDING;
        while matches!(self.daemon.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                return false;
            }
            sleep(PAUSE);
        }
        true
    }
}

impl Drop for Switch {
    /// Asks it to end, and kills both of its processes where it does not.
    fn drop(&mut self) {
        let asked = self.client.post::<_, serde_json::Value>("/v1/down", &serde_json::json!({}));
        if asked.is_ok() && self.has_ended() {
            return;
        }
        // What fails here is gone already.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        if let Some(pid) = self.switch_pid.and_then(|pid| i32::try_from(pid).ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// The daemon is this binary, in the foreground of a process group of its own (Ctrl-C is ours to act on), and ends with us.
fn spawn(directory: &TempDir) -> anyhow::Result<Child> {
    let log = fs::File::create(directory.path().join("log")).context("make a log")?;
    let mut command = Command::new("/proc/self/exe");
    command
        .args(["up", "--state"])
        .arg(directory.path())
        .env_remove("TAPSWITCH_SOCKET")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0);
    // SAFETY: prctl is all it calls, which is async-signal-safe.
    unsafe { command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGTERM)?)) };
    command.spawn().context("start the switch")
}
