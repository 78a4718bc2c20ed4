//! Whose rights, which files and which host network the programs of a test see.
//!
//! An ordinary user is made without touching the machine: a private mount namespace in which /dev/net/tun is 0666, as
//! distributions ship it, and a uid that nobody has. Where the tests themselves run as an ordinary user, that one is used, and
//! the machine's own /dev/net/tun.
//!
//! A host of its own is a network namespace that root made: the session's programs enter it before they become the user.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Gid, Uid};
use tempfile::TempDir;

use crate::container::Container;
use crate::process::{Background, kill_all};
use crate::program::{program, tool};

/// The throw-away user. It need not exist.
const NOBODY_ELSE: u32 = 12_345;

/// Who runs the switch and the containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// uid 0.
    Root,
    /// An ordinary user, and containers in user namespaces.
    User,
}

/// What /dev/net/tun is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tun {
    /// Open to whoever the session is.
    #[default]
    Usable,
    /// Not there.
    Absent,
    /// 0600, root's.
    Forbidden,
}

/// See the head of this file. Its folder and namespaces go when it is dropped.
#[derive(Debug)]
pub struct Session {
    who: Who,
    // Before the folder: what is mounted in it goes first.
    mounts: Option<Background>,
    host: Option<Container>,
    dir: TempDir,
}

impl Session {
    /// A session on the machine's own network.
    pub fn new(who: Who) -> Session {
        Session::with_tun(who, Tun::Usable)
    }

    /// A session on the machine's own network that sees another /dev/net/tun.
    pub fn with_tun(who: Who, tun: Tun) -> Session {
        Session::make(who, tun, None)
    }

    /// A session whose host network is a namespace of its own, in which `setup`, a shell script, was run.
    pub fn with_own_host(who: Who, setup: &str) -> Session {
        let mut session = Session::new(who);
        session.enter_own_host(setup);
        session
    }

    /// The same, and the host's /etc/resolv.conf says `resolv_conf`; it is the file [`Session::resolv_conf`].
    pub fn with_own_host_and_names(who: Who, setup: &str, resolv_conf: &str) -> Session {
        let mut session = Session::make(who, Tun::Usable, Some(resolv_conf));
        session.enter_own_host(setup);
        session
    }

    fn make(who: Who, tun: Tun, resolv_conf: Option<&str>) -> Session {
        let effective = Uid::effective();
        assert!(
            effective.is_root() || (who == Who::User && tun == Tun::Usable),
            "this test needs root: run `sudo tests/run`"
        );
        let dir = tempfile::Builder::new().prefix("tapswitch-test-").tempdir().expect("make a temporary folder");
        for folder in ["bin", "run", "state"] {
            std::fs::create_dir(dir.path().join(folder)).expect("make a folder in our own folder");
        }
        let mut session = Session { who, mounts: None, host: None, dir };
        if let Some(text) = resolv_conf {
            std::fs::write(session.resolv_conf(), text).expect("make a file in our own folder");
        }
        if effective.is_root() && (who == Who::User || tun != Tun::Usable || resolv_conf.is_some()) {
            session.mounts = Some(session.private_mounts(tun));
        }
        if effective.is_root() && who == Who::User {
            for folder in [".", "bin", "run", "state"] {
                let path = session.dir().join(folder);
                let (uid, gid) = (Uid::from_raw(NOBODY_ELSE), Gid::from_raw(NOBODY_ELSE));
                nix::unistd::chown(&path, Some(uid), Some(gid)).expect("give the folder to the user");
                std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).expect("close the folder to others");
            }
        }
        session
    }

    fn enter_own_host(&mut self, setup: &str) {
        assert!(Uid::effective().is_root(), "a host of its own needs root: run `sudo tests/run`");
        let host = Container::of_the_machine();
        host.ok(&["sh", "-ec", &format!("ip link set lo up; {setup}")]);
        self.host = Some(host);
    }

    /// Who it is.
    pub fn who(&self) -> Who {
        self.who
    }

    /// Its folder: `state`, `run`, and its home.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The control socket of the daemon of this session.
    pub fn socket(&self) -> PathBuf {
        self.dir().join("state/run/api.sock")
    }

    /// What its host's /etc/resolv.conf is, where the session was made with one.
    pub fn resolv_conf(&self) -> PathBuf {
        self.dir().join("resolv.conf")
    }

    /// Its host network; `None` is the machine's own.
    pub fn host(&self) -> Option<&Container> {
        self.host.as_ref()
    }

    /// Its host network, to be entered by the harness; `None` is the machine's own.
    pub fn host_pid(&self) -> Option<u32> {
        self.host.as_ref().map(Container::pid)
    }

    /// One of our own programs, where this session's programs find it.
    pub fn program(&self, name: &str) -> PathBuf {
        if self.mounts.is_some() { self.dir().join("bin").join(name) } else { program(name) }
    }

    /// `program` with the rights and the view of this session. Ours (`tapswitch`) are named without a path.
    pub fn command(&self, name: &str) -> Command {
        let path = match name {
            "tapswitch" | "tapswitch-probe" => self.program(name),
            other => tool(other),
        };
        let mut words: Vec<Box<OsStr>> = Vec::new();
        let mut word = |text: &dyn AsRef<OsStr>| words.push(text.as_ref().into());
        if self.mounts.is_some() || self.host.is_some() {
            word(&tool("nsenter"));
            if let Some(mounts) = &self.mounts {
                word(&format!("--mount=/proc/{}/ns/mnt", mounts.pid()));
            }
            if let Some(host) = &self.host {
                word(&format!("--net=/proc/{}/ns/net", host.pid()));
            }
        }
        if self.who == Who::User && Uid::effective().is_root() {
            word(&tool("setpriv"));
            for option in ["--reuid", "--regid"] {
                word(&option);
                word(&NOBODY_ELSE.to_string());
            }
            word(&"--clear-groups");
            word(&"--inh-caps=-all");
        }
        word(&path);
        let mut command = Command::new(&*words[0]);
        command.args(&words[1..]).current_dir("/").env_clear();
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("HOME", self.dir()).env("XDG_RUNTIME_DIR", self.dir().join("run"));
        command.env("XDG_STATE_HOME", self.dir().join("state")).env("TAPSWITCH_SOCKET", self.socket());
        command
    }

    /// Holds a mount namespace with another /dev/net/tun, and with our programs where the user can read them.
    fn private_mounts(&self, tun: Tun) -> Background {
        let bin = self.dir().join("bin");
        let node = match tun {
            Tun::Usable => "mknod -m 666 /dev/net/tun c 10 200",
            Tun::Absent => ":",
            Tun::Forbidden => "mknod -m 600 /dev/net/tun c 10 200",
        };
        let mut script =
            format!("mount --make-rprivate /; mkdir -p /dev/net; mount -t tmpfs -o mode=755 none /dev/net; {node}\n");
        for name in ["tapswitch", "tapswitch-probe"] {
            let path = bin.join(name);
            std::fs::write(&path, "").expect("make a file in our own folder");
            script += &format!("mount --bind '{}' '{}'\n", program(name).display(), path.display());
        }
        if self.resolv_conf().exists() {
            script += &format!("mount --bind '{}' /etc/resolv.conf\n", self.resolv_conf().display());
        }
        script += "exec sleep infinity";
        let mut command = Command::new(tool("unshare"));
        command.args(["--mount", "sh", "-ec", &script]);
        let holder = Background::start(command);
        wait_for_sleep(holder.pid());
        holder
    }
}

impl Drop for Session {
    /// Ends what detached itself from us, known by our socket in its environment.
    fn drop(&mut self) {
        let ours = format!("TAPSWITCH_SOCKET={}", self.socket().display());
        kill_all(|pid| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == ours.as_bytes())
        });
    }
}

/// `unshare OPTIONS sleep infinity`, appended to `command`: a process that keeps its namespaces alive.
pub(crate) fn held_namespace(mut command: Command, options: &[&str]) -> Command {
    command.args(options).args(["sleep", "infinity"]);
    command
}

/// Waits until the holder is `sleep`: all that it had to make is made.
pub(crate) fn wait_for_sleep(pid: u32) {
    crate::wait::eventually("a namespace to be made", crate::wait::PATIENCE, || {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "sleep")
    });
}
