//! A network namespace held by a process, attached by that process's number: no global name is made.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::Command;

use nix::unistd::Uid;
use serde_json::Value;

use crate::process::{Background, Output, run};
use crate::program::tool;
use crate::session::{Session, Who, held_namespace, wait_for_sleep};
use crate::switch::Switch;
use crate::wait::{PATIENCE, eventually};

/// A network namespace; as an ordinary user, in a user namespace of its own. Dropped, it goes, and its device with it.
#[derive(Debug)]
pub struct Container {
    holder: Background,
    endpoint: Value,
}

impl Container {
    /// A namespace attached as `name` to the default network.
    ///
    /// # Panics
    /// When it cannot be attached.
    #[track_caller]
    pub fn new(switch: &Switch, name: &str) -> Container {
        Container::with(switch, name, &[])
    }

    /// A namespace attached as `name` with further flags of `attach`.
    ///
    /// # Panics
    /// When it cannot be attached.
    #[track_caller]
    pub fn with(switch: &Switch, name: &str, flags: &[&str]) -> Container {
        let mut container = Container::unattached(switch.session());
        container.endpoint = container.attach(switch, name, flags);
        container
    }

    /// A namespace of its own with nothing in it but `lo`.
    pub fn unattached(session: &Session) -> Container {
        let options: &[&str] = match session.who() {
            Who::Root => &["--net"],
            Who::User => &["--user", "--map-root-user", "--net"],
        };
        let holder = Background::start(held_namespace(session.command("unshare"), options));
        wait_for_sleep(holder.pid());
        Container { holder, endpoint: Value::Null }
    }

    /// A namespace of the machine's root, whoever a session is: what plays a host.
    ///
    /// # Panics
    /// When this is not root.
    pub fn of_the_machine() -> Container {
        let holder = Background::start(held_namespace(Command::new(tool("unshare")), &["--net"]));
        wait_for_sleep(holder.pid());
        Container { holder, endpoint: Value::Null }
    }

    /// Attaches it, once more where it is attached already. Returns the line of `ls`.
    ///
    /// # Panics
    /// When it cannot be attached.
    #[track_caller]
    pub fn attach(&self, switch: &Switch, name: &str, flags: &[&str]) -> Value {
        self.try_attach(switch, &[&["--name", name], flags].concat()).ok();
        switch.endpoint(name).unwrap_or_else(|| panic!("`ls` does not show {name}, just attached"))
    }

    /// `tapswitch attach` with these flags, to its end.
    #[track_caller]
    pub fn try_attach(&self, switch: &Switch, flags: &[&str]) -> Output {
        let pid = self.pid().to_string();
        switch.cli(&[&["attach", pid.as_str()], flags].concat())
    }

    /// The process that holds it.
    pub fn pid(&self) -> u32 {
        self.holder.pid()
    }

    /// Its first address.
    pub fn ipv4(&self) -> Ipv4Addr {
        self.parsed("ipv4")
    }

    /// Its first IPv6 address.
    pub fn ipv6(&self) -> Ipv6Addr {
        self.parsed("ipv6")
    }

    /// Both.
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.ipv4().into(), self.ipv6().into()]
    }

    /// The assigned MAC, as `02:42:ac:11:00:02`.
    pub fn mac(&self) -> String {
        self.endpoint["mac"].as_str().expect("an attached container has a MAC").to_owned()
    }

    /// `words` inside, not started.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(tool("nsenter"));
        if Uid::effective().is_root() {
            command.arg(format!("--net=/proc/{}/ns/net", self.pid()));
        } else {
            command.args(["--target", &self.pid().to_string(), "--user", "--net", "--preserve-credentials"]);
        }
        let program = match words[0] {
            ours if ours.starts_with("tapswitch") => crate::program(ours),
            path if path.contains('/') => Path::new(path).to_owned(),
            other => tool(other),
        };
        command.arg(program).args(&words[1..]).current_dir("/");
        command
    }

    /// `words` inside, to their end.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> Output {
        run(self.command(words), PATIENCE)
    }

    /// `words` inside, which succeed; their output.
    ///
    /// # Panics
    /// When they fail.
    #[track_caller]
    pub fn ok(&self, words: &[&str]) -> String {
        self.run(words).ok()
    }

    /// `words` inside, in the background.
    #[track_caller]
    pub fn spawn(&self, words: &[&str]) -> Background {
        Background::start(self.command(words))
    }

    /// Whether `address` answers a ping within a second.
    pub fn reaches(&self, address: impl Into<IpAddr>) -> bool {
        self.run(&["ping", "-n", "-q", "-c", "1", "-W", "1", &address.into().to_string()]).code == 0
    }

    /// `ip -json ARGS` inside.
    #[track_caller]
    pub fn ip(&self, args: &[&str]) -> Value {
        let text = self.ok(&[&["ip", "-json"], args].concat());
        serde_json::from_str(if text.trim().is_empty() { "[]" } else { &text }).expect("ip prints JSON")
    }

    /// Whether it has the device.
    pub fn has_device(&self, ifname: &str) -> bool {
        self.run(&["ip", "link", "show", ifname]).code == 0
    }

    /// How often its `eth0` gained or lost the carrier since it was made.
    pub fn carrier_changes(&self) -> u64 {
        let script = "mount --make-rprivate / && mount -t sysfs none /sys && cat /sys/class/net/eth0/carrier_changes";
        let text = self.ok(&["unshare", "--mount", "sh", "-c", script]);
        text.trim().parse().expect("the kernel writes a number")
    }

    /// Waits until something in it listens on a TCP port.
    #[track_caller]
    pub fn wait_for_listener(&self, port: u16) {
        let listens = format!(":{port:04X}");
        eventually(&format!("a listener on port {port}"), PATIENCE, || {
            ["tcp", "tcp6"].iter().any(|table| {
                let text = std::fs::read_to_string(format!("/proc/{}/net/{table}", self.pid())).unwrap_or_default();
                text.lines().any(|line| {
                    let fields: Vec<_> = line.split_whitespace().collect();
                    fields.len() > 3 && fields[1].ends_with(&listens) && fields[3] == "0A"
                })
            })
        });
    }

    fn parsed<T: std::str::FromStr>(&self, field: &str) -> T {
        let text = self.endpoint[field].as_str().unwrap_or_else(|| panic!("no {field} in {}", self.endpoint));
        text.parse().unwrap_or_else(|_| panic!("{field} is {text}"))
    }
}
