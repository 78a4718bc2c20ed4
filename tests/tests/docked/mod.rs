//! A real Docker Engine 20.10 with a daemon of ours beside it, in a *room*: mount and process namespaces of their own on the host
//! of an [`Internet`]. Both programs have their default folders in there, as on a machine of their own; `room.sh` furnishes it.
//! The room ends with its first process, and that with the test, however it ends.
//!
//! The engine has one image, `lab`: busybox with iperf3, redis and our probe. No registry is asked.
//!
//! In a room of [`Who::User`] the programs are an ordinary user's, and the engine runs under RootlessKit.
//!
//! Needs root, and Debian's docker.io; `tests/run` installs all.

// Each file of tests uses its part.
#![allow(dead_code)]

pub(crate) mod shown;

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tapswitch_tests::{Background, Internet, Output, Who, eventually, program, run, tool};

/// A network of ours, with both roles of the plugin.
pub(crate) const CREATE: &str = "docker network create --driver tapswitch --ipam-driver tapswitch";
/// Far above what any step takes: machines of CI are slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Nobody's uid.
const USER_ID: u32 = 12_345;
/// What an engine beside us is told.
const SETTINGS: &str = r#"{"bridge": "none", "iptables": false, "ip6tables": false, "log-level": "warn"}"#;
/// What the tests' shells find.
const PATH: &str = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// See `room.sh`.
const PATH_WITHOUT_NETFILTER: &str = "/run/room/no-netfilter";

/// How an engine is started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) who: Who,
    /// dockerd finds iptables; it does not where a kernel has no netfilter to speak of either.
    pub(crate) netfilter: bool,
    /// Flags of dockerd.
    pub(crate) dockerd: &'static str,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup { who: Who::Root, netfilter: true, dockerd: "" }
    }
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Engine {
    setup: Setup,
    dockerd: Option<Background>,
    daemon: Option<Background>,
    room: Background,
    internet: Internet,
}

impl Engine {
    /// Both run, and the image is there.
    #[track_caller]
    pub(crate) fn start(setup: Setup) -> Engine {
        let mut engine = Engine::furnish(setup);
        engine.up();
        engine.start_dockerd();
        if setup.who == Who::User {
            engine.link_plugin();
        }
        engine.import("lab");
        engine
    }

    /// An empty room: nothing runs.
    #[track_caller]
    pub(crate) fn furnish(setup: Setup) -> Engine {
        let internet = Internet::new(Who::Root);
        // The room's shell starts them; one that is missing is named here.
        for name in ["dockerd", "docker", "containerd", "runc", "iperf3", "redis-cli", "ip"] {
            tool(name);
        }
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/docked/room.sh");
        let mut command = internet.session().command("unshare");
        command.args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", script]);
        command.env("TAPSWITCH", program("tapswitch")).env("PROBE", program("tapswitch-probe"));
        command.env("BUSYBOX", tool("busybox")).env("RESOLV_CONF", internet.session().resolv_conf());
        command.env("USER_ID", USER_ID.to_string());
        let mut room = Background::start(command);
        room.wait_until_ready();
        let engine = Engine { setup, dockerd: None, daemon: None, room, internet };
        engine.as_root(&format!("echo '{SETTINGS}' >/etc/docker/daemon.json"));
        engine
    }

    /// What is around the host.
    pub(crate) fn internet(&self) -> &Internet {
        &self.internet
    }

    /// `tapswitch up --docker-plugin`, serving.
    #[track_caller]
    pub(crate) fn up(&mut self) {
        let daemon = self.spawn("exec tapswitch up --docker-plugin");
        self.daemon = Some(daemon);
        self.ok("tapswitch status --wait 30");
    }

    /// dockerd, serving.
    #[track_caller]
    pub(crate) fn start_dockerd(&mut self) {
        let flags = self.setup.dockerd;
        let script = match self.setup.who {
            Who::Root => format!("exec dockerd {flags}"),
            Who::User => format!("exec sh {ROOTLESS} --config-file /etc/docker/daemon.json {flags}"),
        };
        let path = if self.setup.netfilter { PATH } else { PATH_WITHOUT_NETFILTER };
        let mut command = self.command(self.setup.who, &script);
        command.env("PATH", path);
        self.dockerd = Some(Background::start(command));
        eventually("the engine to serve", PATIENCE, || self.sh("docker version").code == 0);
    }

    /// Our socket where a dockerd under RootlessKit looks for it, until that ends.
    #[track_caller]
    fn link_plugin(&self) {
        let inside = "nsenter -U --preserve-credentials -m -t $(cat $XDG_RUNTIME_DIR/docker.pid)";
        let plugins = "/run/docker/plugins";
        self.ok(&format!(
            "{inside} mkdir -p {plugins}; {inside} ln -s $XDG_RUNTIME_DIR/tapswitch/docker.sock {plugins}/tapswitch.sock"
        ));
    }

    /// The image, as `name`.
    #[track_caller]
    pub(crate) fn import(&self, name: &str) {
        self.ok(&format!("tar -C /run/room/rootfs -c . | docker import -c 'ENV PATH=/usr/bin:/bin' - {name}"));
    }

    /// A signal to dockerd, and its end.
    #[track_caller]
    pub(crate) fn end_dockerd(&mut self, signal: &str) {
        self.as_root(&format!("kill -s {signal} $(cat {}/docker.pid)", self.run_folder()));
        self.dockerd.take().expect("it runs").finish(PATIENCE);
    }

    /// SIGKILL to processes of the daemon, by the fields of `status` that name them, at once; and their end.
    #[track_caller]
    pub(crate) fn kill_daemon(&mut self, which: &[&str]) {
        let status = self.json("tapswitch status");
        let pids: Vec<String> = which.iter().map(|field| status[field].to_string()).collect();
        self.as_root(&format!("kill -s KILL {}", pids.join(" ")));
        for pid in pids {
            eventually(&format!("the end of {pid}"), PATIENCE, || self.sh(&format!("! kill -0 {pid}")).code == 0);
        }
    }

    /// A shell's command line, to its end.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> Output {
        run(self.command(self.setup.who, script), PATIENCE)
    }

    /// The output of one that succeeds.
    #[track_caller]
    pub(crate) fn ok(&self, script: &str) -> String {
        self.sh(script).ok().trim().to_owned()
    }

    /// What one that fails says on standard error.
    #[track_caller]
    pub(crate) fn fails(&self, script: &str) -> String {
        let output = self.sh(script);
        assert_ne!(output.code, 0, "{script}: {}", output.stdout);
        output.stderr.trim().to_owned()
    }

    /// `script --json`, parsed.
    #[track_caller]
    pub(crate) fn json(&self, script: &str) -> Value {
        let text = self.ok(&format!("{script} --json"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{script}: {error}: {text}"))
    }

    /// One in the background. Killing it ends what watches it here, not the command.
    #[track_caller]
    pub(crate) fn spawn(&self, script: &str) -> Background {
        Background::start(self.command(self.setup.who, script))
    }

    /// As root, whoever's the room is; it succeeds.
    #[track_caller]
    pub(crate) fn as_root(&self, script: &str) -> String {
        run(self.command(Who::Root, script), PATIENCE).ok().trim().to_owned()
    }

    /// `script` in the room, not started.
    pub(crate) fn command(&self, who: Who, script: &str) -> Command {
        let namespaces = format!("/proc/{}/ns", self.room.pid());
        let mut command = Command::new(tool("nsenter"));
        for (option, name) in [("mount", "mnt"), ("net", "net"), ("pid", "pid_for_children")] {
            command.arg(format!("--{option}={namespaces}/{name}"));
        }
        if who == Who::User {
            command.arg("setpriv").args(["--clear-groups", "--inh-caps=-all"]);
            command.args([format!("--reuid={USER_ID}"), format!("--regid={USER_ID}")]);
        }
        command.args(["sh", "-ec", script]).current_dir("/").env_clear().env("PATH", PATH);
        if who == Who::User {
            let runtime = format!("/run/user/{USER_ID}");
            command.env("HOME", "/home/lab").env("USER", "lab").env("XDG_RUNTIME_DIR", &runtime);
            command.env("DOCKER_HOST", format!("unix://{runtime}/docker.sock"));
        } else {
            command.env("HOME", "/root");
        }
        command
    }

    fn run_folder(&self) -> String {
        match self.setup.who {
            Who::Root => "/run".to_owned(),
            Who::User => format!("/run/user/{USER_ID}"),
        }
    }

    /// What both wrote, for whoever looks for the reason of a failure.
    fn tell(&self) {
        for (name, program) in [("dockerd", &self.dockerd), ("tapswitch", &self.daemon)] {
            let Some(program) = program else { continue };
            let lines = program.errors();
            let last = &lines[lines.len().saturating_sub(40)..];
            eprintln!("--- {name}\n{}\n---", last.join("\n"));
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell();
        }
    }
}

/// Where Debian puts it.
const ROOTLESS: &str = "/usr/share/docker.io/contrib/dockerd-rootless.sh";
