//! Plugins called as engines call them.

// Each file of tests uses its part.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tapswitch_tests::{Container, Session, Switch, page_commands};

/// What a plugin left behind.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Answer {
    /// Waits for its end.
    pub(crate) fn of(child: Child) -> Answer {
        let output = child.wait_with_output().expect("wait for a plugin");
        let text = |bytes| String::from_utf8(bytes).expect("plugins write UTF-8");
        Answer { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// The result of a success.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A success that says nothing.
    #[track_caller]
    pub(crate) fn silent(self) {
        assert_eq!((self.code, self.stdout.as_str()), (0, ""), "{self:?}");
    }

    /// The message of CNI's error `code`.
    #[track_caller]
    pub(crate) fn error(self, code: u32) -> String {
        assert_ne!(self.code, 0, "{self:?}");
        let object: Value = serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        assert_eq!(object["code"], code, "{object}");
        assert!(object["cniVersion"].is_string(), "{object}");
        object["msg"].as_str().expect("an error has a msg").to_owned()
    }
}

/// A runtime's call of the CNI face, for one container.
#[derive(Clone, Debug)]
pub(crate) struct Cni<'a> {
    switch: &'a Switch,
    variables: BTreeMap<String, String>,
    link: Option<PathBuf>,
}

impl<'a> Cni<'a> {
    pub(crate) fn new(switch: &'a Switch, id: &str, container: &Container) -> Self {
        Cni::of_network(switch)
            .with("CNI_CONTAINERID", id)
            .with("CNI_NETNS", &format!("/proc/{}/ns/net", container.pid()))
            .with("CNI_IFNAME", "eth0")
    }

    /// For no container.
    pub(crate) fn of_network(switch: &'a Switch) -> Self {
        Cni { switch, variables: BTreeMap::from([("CNI_PATH".into(), "/nowhere".into())]), link: None }
    }

    pub(crate) fn with(&self, key: &str, value: &str) -> Self {
        let mut other = self.clone();
        other.variables.insert(key.into(), value.into());
        other
    }

    pub(crate) fn without_netns(&self) -> Self {
        self.with("CNI_NETNS", "")
    }

    pub(crate) fn gone_netns(&self) -> Self {
        self.with("CNI_NETNS", "/run/netns/gone-before-this-test")
    }

    pub(crate) fn netns(&self) -> &str {
        &self.variables["CNI_NETNS"]
    }

    /// Started by a link to the program.
    pub(crate) fn by_link(mut self, session: &Session, name: &str) -> Self {
        self.link = Some(link(session, name));
        self
    }

    /// Starts it.
    pub(crate) fn start(&self, command: &str, conf: &Value) -> Child {
        self.start_with(command, &conf.to_string())
    }

    #[track_caller]
    pub(crate) fn call(&self, command: &str, conf: &Value) -> Answer {
        Answer::of(self.start(command, conf))
    }

    /// With `stdin` as it is.
    #[track_caller]
    pub(crate) fn send(&self, command: &str, stdin: &str) -> Answer {
        Answer::of(self.start_with(command, stdin))
    }

    fn start_with(&self, command: &str, stdin: &str) -> Child {
        let mut program = match &self.link {
            Some(link) => {
                let mut program = self.switch.session().command("env");
                program.arg(link);
                program
            }
            None => {
                let mut program = self.switch.session().command("tapswitch");
                program.arg("cni");
                program
            }
        };
        program.envs(&self.variables).env("CNI_COMMAND", command);
        start(program, stdin)
    }
}

/// Starts `command` with `stdin`.
#[track_caller]
pub(crate) fn start(mut command: Command, stdin: &str) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    // A plugin that refuses may not read to the end.
    let _ = child.stdin.take().expect("stdin is piped").write_all(stdin.as_bytes());
    child
}

/// A link to the program in the session's folder.
pub(crate) fn link(session: &Session, name: &str) -> PathBuf {
    let target = session.dir().join("bin/tapswitch");
    let target = if target.exists() { target } else { tapswitch_tests::program("tapswitch") };
    let link = session.dir().join(name);
    std::os::unix::fs::symlink(target, &link).expect("make a link in our own folder");
    link
}

/// An IPAM plugin that gives one address and writes down what it is asked.
#[derive(Debug)]
pub(crate) struct FakeIpam {
    folder: PathBuf,
}

impl FakeIpam {
    /// Where it is.
    pub(crate) fn path(&self) -> &str {
        self.folder.to_str().expect("a plain path")
    }

    /// What it was asked, a line each.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

/// See [`FakeIpam`].
pub(crate) fn fake_ipam(session: &Session, address: &str, gateway: &str) -> FakeIpam {
    let folder = session.dir().join("ipam");
    std::fs::create_dir(&folder).expect("make a folder in our own folder");
    let program = folder.join("fake-ipam");
    let log = folder.join("log");
    let script = format!(
        r#"#!/bin/sh
cat >/dev/null
echo "$CNI_COMMAND $CNI_CONTAINERID" >>'{}'
[ "$CNI_COMMAND" = ADD ] || exit 0
echo '{{"cniVersion":"1.0.0","ips":[{{"address":"{address}","gateway":"{gateway}"}}],"routes":[{{"dst":"0.0.0.0/0"}}]}}'
"#,
        log.display()
    );
    std::fs::write(&program, script).expect("write a file in our own folder");
    std::fs::write(&log, "").expect("write a file in our own folder");
    for (path, mode) in [(&folder, 0o777), (&program, 0o755), (&log, 0o666)] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("open it to the user");
    }
    FakeIpam { folder }
}

/// The requests in a file of `tests/recorded`.
pub(crate) fn recorded(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).expect("one JSON value a line")).collect()
}

/// Runs the commands of a page of the documentation, those at the prompt `# `, in namespaces of their own. `places` says what
/// stands for the page's own paths. Returns what they wrote.
#[track_caller]
pub(crate) fn run_page(switch: &Switch, page: &str, places: &[(&str, &Path)]) -> String {
    let setup = "mount --make-rprivate /\nmount -t tmpfs none /run\n";
    let mut script = format!("set -ex\n{setup}{}", page_commands(page, "# "));
    for (from, to) in places {
        script = script.replace(from, to.to_str().expect("a plain path"));
    }
    let mut command = switch.session().command("unshare");
    let folder = tapswitch_tests::program("tapswitch");
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", folder.parent().expect("in a folder").display());
    command.args(["--mount", "sh", "-c", &script]).env("PATH", path);
    let output = tapswitch_tests::run(command, Duration::from_secs(60));
    assert_eq!(output.code, 0, "{page}:\n{}{}", output.stdout, output.stderr);
    output.stdout
}
