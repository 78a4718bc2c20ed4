//! Namespaces for a test, asked about with `ip -json`.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tapswitch_netns::{DeviceSpec, Namespace, OffloadMode};

/// More than any step here takes, on a loaded machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// A named network namespace, deleted with this value.
pub(crate) struct Netns(pub(crate) String);

impl Netns {
    pub(crate) fn new() -> Netns {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tswlab-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        run(&["ip", "netns", "add", &name]);
        Netns(name)
    }

    pub(crate) fn open(&self) -> Namespace {
        Namespace::resolve(&self.0).unwrap()
    }

    /// `ip -n NS -j ARGS`.
    pub(crate) fn ip(&self, args: &str) -> Value {
        let mut command = vec!["ip", "-n", &self.0, "-d", "-j"];
        command.extend(args.split(' '));
        json(&run(&command))
    }

    /// The device, or null.
    pub(crate) fn link(&self, ifname: &str) -> Value {
        let links = self.ip("addr");
        links.as_array().unwrap().iter().find(|link| link["ifname"] == ifname).cloned().unwrap_or_default()
    }

    /// A process inside, which ends with the calling thread at the latest.
    pub(crate) fn process(&self) -> Process {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0, "sleep", "60"]).stdin(std::process::Stdio::null());
        // SAFETY: prctl is async-signal-safe.
        unsafe { command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?)) };
        let process = Process(command.spawn().unwrap());
        let id = self.open().id();
        until("the process is inside", || Namespace::of_pid(process.pid()).is_ok_and(|theirs| theirs.id() == id));
        process
    }

    /// What `command` prints inside.
    pub(crate) fn exec(&self, command: &str) -> String {
        let mut words = vec!["ip", "netns", "exec", &self.0];
        words.extend(command.split(' '));
        run(&words)
    }
}

/// A process in a namespace. Ends with this value.
pub(crate) struct Process(std::process::Child);

impl Process {
    pub(crate) fn pid(&self) -> i32 {
        self.0.id() as i32
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ended already: nothing to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What Docker does with a device: moves it in, renames it, gives it an address, brings it up.
pub(crate) fn take_in(engine: &Netns, ifname: &str, container: &Netns, name: &str) {
    run(&["ip", "-n", &engine.0, "link", "set", ifname, "netns", &container.0]);
    run(&["ip", "-n", &container.0, "link", "set", ifname, "name", name]);
    run(&["ip", "-n", &container.0, "addr", "add", "172.17.0.2/16", "dev", name]);
    run(&["ip", "-n", &container.0, "link", "set", name, "up"]);
}

/// The same backwards.
pub(crate) fn take_back(container: &Netns, name: &str, engine: &Netns, ifname: &str) {
    run(&["ip", "-n", &container.0, "link", "set", name, "down"]);
    run(&["ip", "-n", &container.0, "link", "set", name, "name", ifname]);
    run(&["ip", "-n", &container.0, "link", "set", ifname, "netns", &engine.0]);
}

/// Whether a device was brought up.
pub(crate) fn is_up(link: &Value) -> bool {
    link["flags"].as_array().unwrap().contains(&"UP".into())
}

impl Drop for Netns {
    fn drop(&mut self) {
        // A test that deleted it itself has nothing left to delete.
        let _ = Command::new("ip").args(["netns", "del", &self.0]).stderr(std::process::Stdio::null()).status();
    }
}

/// `eth0` with an address of each family.
pub(crate) fn spec() -> DeviceSpec {
    DeviceSpec {
        ifname: "eth0".into(),
        mac: [0x02, 0x42, 0xac, 0x11, 0, 2],
        mtu: 1400,
        addresses: vec!["172.17.0.2/16".parse().unwrap(), "fd00:17::2/64".parse().unwrap()],
        gateways: vec!["172.17.0.1".parse().unwrap(), "fd00:17::1".parse().unwrap()],
        offload: OffloadMode::Auto,
        owner: nix::unistd::getuid().as_raw(),
    }
}

/// Whether somebody holds the TAP's descriptor. Not `operstate`: a TAP's is "unknown" until its carrier first changes.
pub(crate) fn has_carrier(link: &Value) -> bool {
    link["flags"].as_array().is_some_and(|flags| flags.contains(&"LOWER_UP".into()))
}

/// The addresses a link has that are not link-local.
pub(crate) fn addresses(link: &Value) -> Vec<String> {
    let infos = link["addr_info"].as_array().cloned().unwrap_or_default();
    let global = infos.iter().filter(|info| info["scope"] == "global");
    global.map(|info| format!("{}/{}", info["local"].as_str().unwrap(), info["prefixlen"])).collect()
}

/// Runs a command that must succeed; what it printed.
pub(crate) fn run(command: &[&str]) -> String {
    let output = Command::new(command[0]).args(&command[1..]).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error} (apt-get install iproute2 util-linux)"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// `ip -j` prints nothing for an empty list.
pub(crate) fn json(text: &str) -> Value {
    if text.trim().is_empty() { Value::Array(vec![]) } else { serde_json::from_str(text).unwrap() }
}

/// Waits for a condition.
#[track_caller]
pub(crate) fn until(what: &str, condition: impl FnMut() -> bool) {
    tapswitch_tests::eventually(what, LIMIT, condition);
}

/// Gives this process mounts of its own.
pub(crate) fn private_mounts() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    run(&["mount", "--make-rprivate", "/"]);
}

/// Turns this process into an ordinary user, who sees /dev/net/tun as distributions ship it: 0666.
pub(crate) fn become_user() {
    const NOBODY: u32 = 65534;
    private_mounts();
    run(&["mount", "-t", "tmpfs", "none", "/dev/net"]);
    run(&["mknod", "-m", "666", "/dev/net/tun", "c", "10", "200"]);
    nix::unistd::setgroups(&[]).unwrap();
    let (uid, gid) = (nix::unistd::Uid::from_raw(NOBODY), nix::unistd::Gid::from_raw(NOBODY));
    nix::unistd::setresgid(gid, gid, gid).unwrap();
    nix::unistd::setresuid(uid, uid, uid).unwrap();
    nix::sys::prctl::set_dumpable(true).unwrap();
    std::env::set_current_dir("/").unwrap();
}

/// A container of the calling user's: a process in user and network namespaces of its own. Ends with this value.
pub(crate) struct Container(std::process::Child);

impl Container {
    pub(crate) fn start() -> Container {
        Container::start_by(&["unshare", "-Urn", "sleep", "60"], &Namespace::current().unwrap())
    }

    /// One of this container's own.
    pub(crate) fn start_inside(&self) -> Container {
        let pid = self.pid().to_string();
        let enter = ["nsenter", "-t", &pid, "-U", "--preserve-credentials", "-n"];
        let words = [&enter[..], &["unshare", "-Urn", "sleep", "60"]].concat();
        let ours = Namespace::current().unwrap();
        let theirs = Namespace::of_pid(self.pid()).unwrap();
        let inner = Container::start_by(&words, &ours);
        until("the container inside has its namespace", || {
            Namespace::of_pid(inner.pid()).is_ok_and(|inner| inner.id() != theirs.id())
        });
        inner
    }

    fn start_by(words: &[&str], ours: &Namespace) -> Container {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(std::process::Stdio::null());
        // SAFETY: prctl is async-signal-safe. The container ends with this process.
        unsafe { command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?)) };
        let container = Container(command.spawn().unwrap());
        until("the container has its namespace", || {
            Namespace::of_pid(container.pid()).is_ok_and(|theirs| theirs.id() != ours.id())
        });
        container
    }

    pub(crate) fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    /// What `command` prints inside.
    pub(crate) fn exec(&self, command: &str) -> String {
        let inside = format!("nsenter -t {} -U --preserve-credentials -n {command}", self.pid());
        run(&inside.split(' ').collect::<Vec<_>>())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Ended already: nothing to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
