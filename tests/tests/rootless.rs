//! An ordinary user's switch with the containers of others: unshare(1), rootless Podman, bubblewrap; and what `doctor` says
//! to a user whose host stands in the way. No image registry: the root file system is a busybox.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tapswitch_tests::{
    Background, Container, Internet, Output, Probe, Session, Switch, Tun, Who, eventually, program, run, tool,
};

const SOON: Duration = Duration::from_secs(30);
const ECHO: u16 = 7;

#[test]
fn a_container_of_unshare_is_attached_and_reaches_others_and_far_hosts_as_root() {
    let internet = Internet::new(Who::User);
    let mut command = internet.session().command("unshare");
    command.args(["--user", "--map-root-user", "--net", "sh", "-c", "echo pid $$; exec sleep 1000"]);
    of_another_program(&internet, command, |line| line.to_owned());
}

#[test]
fn a_container_of_bubblewrap_is_attached_and_reaches_others_and_far_hosts_as_root() {
    let internet = Internet::new(Who::User);
    let mut command = internet.session().command("bwrap");
    command.args(["--unshare-user", "--unshare-net", "--bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]);
    command.args(["sh", "-c", "echo pid $$; exec sleep 1000"]);
    of_another_program(&internet, command, |line| line.to_owned());
}

#[test]
fn a_container_of_rootless_podman_is_attached_and_reaches_others_and_far_hosts_as_root() {
    let internet = Internet::new(Who::User);
    let podman = Podman::new(internet.session());
    let mut command = podman.command();
    command.args(["run", "--rm", "--name", "pod", "--network", "none", "--rootfs"]).arg(podman.rootfs());
    command.args(["sh", "-c", "echo pid $$; exec sleep 1000"]);
    // The number that the container's shell sees is not ours.
    of_another_program(&internet, command, |_| {
        let mut inspect = podman.command();
        inspect.args(["inspect", "--format", "{{.State.Pid}}", "pod"]);
        run(inspect, SOON).ok()
    });
}

#[test]
fn a_container_of_rootless_podman_is_attached_by_the_hook_as_root() {
    let internet = Internet::new(Who::User);
    let _echo = internet.serve("echo", ECHO, &[]);
    let switch = internet.switch(&[]);
    let session = internet.session();
    switch.ok(&["install", "--podman"]);
    let hooks = session.dir().join(".config/containers/oci/hooks.d");
    let podman = Podman::new(session);
    let mut command = podman.command();
    command.arg("--hooks-dir").arg(&hooks).args(["run", "--rm", "--network", "none"]);
    command.args([
        "--annotation",
        "org.tapswitch.network=default",
        "--annotation",
        "org.tapswitch.name=pod",
        "--rootfs",
    ]);
    command.arg(podman.rootfs()).args(["sh", "-c", "echo pid $$; exec sleep 1000"]);
    let mut container = Background::start(command);
    container.wait_for_line("pid ", SOON);
    let endpoint = switch.endpoint("pod").expect("the hook attached it before its process ran");
    assert!(endpoint["netns"].as_str().is_some_and(|netns| netns.starts_with("oci:")), "{endpoint}");
    let probe = session.program("tapswitch-probe").display().to_string();
    for far in internet.addresses() {
        let to = std::net::SocketAddr::new(far, ECHO).to_string();
        switch.ok(&["exec", "pod", "--", &probe, "dial", &to]);
    }
    drop(podman);
    eventually("the switch to be empty", SOON, || switch.endpoint("pod").is_none());
}

/// podman 4 starts the plugin as uid 0 of its own namespaces; the daemon is outside, the user's own.
#[test]
fn a_container_of_rootless_podman_is_attached_by_cni_as_root() {
    let internet = Internet::new(Who::User);
    let switch = internet.switch(&["--subnet", "10.94.0.0/24"]);
    let session = internet.session();
    // podman's own namespace for rootless networks has its own way out, which is not used.
    tool("slirp4netns");
    switch.ok(&["install", "--cni"]);
    let plugins = session.dir().join(".local/libexec/cni");
    let settings = format!("[network]\nnetwork_backend = \"cni\"\ncni_plugin_dirs = [{plugins:?}]\n");
    let file = session.dir().join("containers.conf");
    std::fs::write(&file, settings).expect("write a file in our own folder");
    let _web = Container::new(&switch, "web");
    let podman = Podman::new(session);
    let mut command = podman.command();
    command.env("CONTAINERS_CONF", file).args(["run", "--rm", "--name", "pod", "--network", "tapswitch", "--rootfs"]);
    command.arg(podman.rootfs()).args(["sh", "-c", "busybox ip address; busybox ping -c 1 -W 5 web"]);
    let said = run(command, SOON).ok();
    assert!(said.contains("10.94.0.3/24") && said.contains("1 packets received"), "{said}");
    // Podman may leave the cleaning up to another process of its own.
    eventually("the endpoint to go", SOON, || switch.endpoint("pod").is_none());
}

/// Starts `command`, which says `pid N` once its namespaces are made, attaches it, and has it reach others and be reached.
fn of_another_program(internet: &Internet, command: Command, pid: impl FnOnce(&str) -> String) {
    let (_echo, _datagrams) = (internet.serve("echo", ECHO, &[]), internet.serve("echo-udp", ECHO, &[]));
    let switch = internet.switch(&[]);
    let probe = internet.session().program("tapswitch-probe").display().to_string();
    let mut container = Background::start(command);
    let line = container.wait_for_line("pid ", SOON);
    let pid = pid(line.trim_start_matches("pid "));
    switch.ok(&["attach", pid.trim(), "--name", "theirs"]);

    let mut web = internet.session().command("tapswitch");
    web.args(["run", "--name", "web", "--", &probe, "echo", "[::]:80"]);
    let mut web = Background::start(web);
    web.wait_until_ready();
    let addresses = |name: &str| {
        let endpoint = switch.endpoint(name).unwrap_or_else(|| panic!("{name} is not shown"));
        ["ipv4", "ipv6"].map(|field| endpoint[field].as_str().expect("it has both").to_owned())
    };
    let exec = |words: &[&str]| -> Output {
        let mut command = internet.session().command("tapswitch");
        command.args(["exec", "theirs", "--"]).args(words);
        run(command, SOON)
    };
    let [web4, web6] = addresses("web");
    exec(&[&probe, "dial", &format!("{web4}:80")]).ok();
    exec(&[&probe, "dial", &format!("[{web6}]:80")]).ok();
    for far in internet.addresses() {
        let to = std::net::SocketAddr::new(far, ECHO).to_string();
        exec(&[&probe, "dial", &to]).ok();
        assert_eq!(exec(&[&probe, "ask-udp", &to, "100"]).ok().trim(), "answered");
        exec(&["ping", "-n", "-q", "-c", "1", "-W", "2", &far.to_string()]).ok();
    }
    // And a port of theirs is published while it runs.
    let [theirs4, _] = addresses("theirs");
    let mut service = internet.session().command("tapswitch");
    service.args(["exec", "theirs", "--", &probe, "peer", &format!("{theirs4}:80")]);
    let mut service = Background::start(service);
    service.wait_until_ready();
    switch.ok(&["publish", "theirs", "8080:80"]);
    let said = Probe::ask(internet.far(), "read", internet.host_addresses()[0], 8080, &[]);
    assert!(said.contains(&format!("you are {}", internet.addresses()[0])), "{said}");

    switch.ok(&["detach", "theirs"]);
    assert!(container.is_running(), "detaching ended it");
}

/// Podman with its files in a session's folder. Dropped, its containers go.
struct Podman<'a>(&'a Session);

impl Podman<'_> {
    fn new(session: &Session) -> Podman<'_> {
        let podman = Podman(session);
        // By the user, so that it is theirs.
        let mut make = session.command("sh");
        let script = "mkdir -p $0/bin $0/dev $0/etc $0/proc $0/run $0/sys $0/tmp; cp $1 $0/bin/busybox
            ln -s busybox $0/bin/sh; ln -s busybox $0/bin/sleep";
        make.args(["-ec", script]).arg(podman.rootfs()).arg(tool("busybox"));
        run(make, SOON).ok();
        podman
    }

    fn rootfs(&self) -> PathBuf {
        self.0.dir().join("rootfs")
    }

    /// Control groups as they are, since the user has no systemd session; no overlay, whatever the kernel has.
    fn command(&self) -> Command {
        let mut command = self.0.command("podman");
        command.args([
            "--runtime",
            "runc",
            "--cgroup-manager",
            "cgroupfs",
            "--storage-driver",
            "vfs",
            "--log-level",
            "error",
        ]);
        command.arg("--root").arg(self.0.dir().join("run/graph"));
        command
    }
}

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        let mut command = self.command();
        command.args(["rm", "--force", "--all", "--time", "0"]);
        // What it leaves ends with the session, but for the process that keeps its user namespace, without our environment.
        let _ = command.output();
        let pause = std::fs::read_to_string(self.0.dir().join("run/libpod/tmp/pause.pid")).unwrap_or_default();
        if let Ok(pid) = pause.trim().parse() {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

#[test]
fn exec_by_root_takes_no_group_of_root_s_along_as_root() {
    let switch = Switch::start(Who::User, &[]);
    let _web = Container::new(&switch, "web");
    let mut command = Command::new(tool("setpriv"));
    command.args(["--groups", "6"]).arg(program("tapswitch")).arg("--socket").arg(switch.session().socket());
    command.args(["exec", "web", "--", "grep", "Groups:", "/proc/self/status"]);
    assert_eq!(run(command, SOON).ok().trim(), "Groups:");
}

#[test]
fn a_forbidden_tun_is_what_doctor_names_with_its_remedy_as_root() {
    let session = Session::with_tun(Who::User, Tun::Forbidden);
    let (code, checks) = doctor(&session);
    let tun = find(&checks, "/dev/net/tun");
    assert_eq!((code, tun["result"].as_str()), (1, Some("fail")), "{tun}");
    assert!(tun["remedy"].as_str().is_some_and(|remedy| remedy.contains("chmod 0666 /dev/net/tun")), "{tun}");
}

#[test]
fn settings_that_forbid_user_namespaces_are_what_doctor_names_as_root() {
    let session = Session::with_own_host(Who::User, "true");
    let (code, checks) = doctor(&session);
    assert_eq!((code, find(&checks, "namespaces")["result"].as_str()), (0, Some("ok")), "{checks}");
    // The limit is that of the user namespace it stands in, so that of the machine stays as it is.
    let program = session.program("tapswitch").display().to_string();
    let mut command = session.command("unshare");
    let script = format!(
        "echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all --inh-caps=-all {program} doctor --json"
    );
    command.args(["--user", "--map-root-user", "--keep-caps", "sh", "-c", &script]);
    let output = run(command, SOON);
    let checks: Value =
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", output.stderr));
    let shown = find(&checks, "ordinary users").to_string();
    assert!(shown.contains("user.max_user_namespaces"), "{shown}");
}

#[test]
fn who_may_not_ping_or_bind_low_ports_is_told_the_setting_as_root() {
    let session = Session::with_own_host(
        Who::User,
        "echo 1 0 >/proc/sys/net/ipv4/ping_group_range; echo 1024 >/proc/sys/net/ipv4/ip_unprivileged_port_start",
    );
    let (code, checks) = doctor(&session);
    assert_eq!(code, 0, "the switch runs without: {checks}");
    for (check, setting) in
        [("ping outside", "net.ipv4.ping_group_range"), ("publish ports", "net.ipv4.ip_unprivileged_port_start")]
    {
        let shown = find(&checks, check);
        assert_eq!(shown["result"], "warn", "{shown}");
        assert!(shown["remedy"].as_str().is_some_and(|remedy| remedy.contains(setting)), "{shown}");
    }
    let open = Session::with_own_host(
        Who::User,
        "echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range; echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start",
    );
    let (_, checks) = doctor(&open);
    assert_eq!(
        [find(&checks, "ping outside"), find(&checks, "publish ports")].map(|c| c["result"].clone()),
        ["ok", "ok"]
    );
}

#[test]
fn a_privileged_port_as_a_user_names_the_setting_as_root() {
    let internet = Internet::new(Who::User);
    let switch: Switch = internet.switch(&[]);
    let line = switch.cli(&["run", "-p", "80:80", "--", "true"]).one_line_of_failure(125);
    assert!(line.contains("net.ipv4.ip_unprivileged_port_start"), "{line}");
}

/// Its exit status and what it found.
fn doctor(session: &Session) -> (i32, Value) {
    let mut command = session.command("tapswitch");
    command.args(["doctor", "--json"]);
    let output = run(command, SOON);
    let checks = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", output.stderr));
    (output.code, checks)
}

fn find<'a>(checks: &'a Value, name: &str) -> &'a Value {
    let list = checks.as_array().expect("an array");
    list.iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("no check `{name}`: {checks}"))
}
