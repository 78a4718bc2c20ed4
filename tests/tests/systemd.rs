//! The unit of `tapswitch install` under systemd itself: with its limits the daemon serves, one of its processes is replaced while
//! the other serves on, and a restart keeps what is attached.
//!
//! Needs root. systemd is the first process of a copy of the machine, with units of the test's alone, in namespaces and control
//! groups that go with the test.

mod plugged;

use std::path::PathBuf;
use std::time::Duration;

use tapswitch_tests::{Background, Session, Who, eventually, tool};

/// A few seconds are usual.
const PATIENCE: Duration = Duration::from_secs(60);

/// Behind `plugged::MACHINE`: control groups and devices of its own, units, and systemd.
const BOOT: &str = r#"
if [ -e $S/unified ]; then
    mount -t cgroup2 none /sys/fs/cgroup
else
    mount -t tmpfs none /sys/fs/cgroup
    mkdir /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup/devices
    mount -t cgroup -o none,name=systemd none /sys/fs/cgroup/systemd
    mount -t cgroup2 none /sys/fs/cgroup/unified
    mount -t cgroup -o devices none /sys/fs/cgroup/devices
fi
mount -t tmpfs -o mode=755 none /dev; mkdir /dev/net /dev/shm /dev/pts; mknod -m 600 /dev/net/tun c 10 200
for node in null:3 zero:5 full:7 random:8 urandom:9; do mknod -m 666 /dev/${node%:*} c 1 ${node#*:}; done
rm -rf /etc/systemd/system; mkdir /etc/systemd/system; cd /etc/systemd/system
for name in sysinit basic shutdown multi-user; do echo "[Unit]\nDescription=$name" >$name.target; done
cat >test.service <<END
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'sh -ex $S/script >$S/said 2>&1; echo \$? >$S/status'
END
# None of the machine's own units: some of them would set up its devices.
export container=test SYSTEMD_UNIT_PATH=/etc/systemd/system
exec /lib/systemd/systemd --unit=test.service --log-target=null --show-status=no </dev/null
"#;

/// What is done there.
const SCRIPT: &str = r#"
export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
main() { systemctl show --property MainPID --value tapswitch; }
ip link set lo up
tapswitch install --docker --cni
systemctl daemon-reload
systemctl start tapswitch
ip netns add a; ip netns add b
tapswitch attach a; tapswitch attach b
B=$(ip -n b -4 -o address show eth0 | awk '{ sub("/.*", "", $4); print $4 }')
ip netns exec a ping -c 1 -W 5 $B
tapswitch publish a 80
tapswitch network create routed --uplink host
test -S /run/docker/plugins/tapswitch.sock
# 2: by a filter.
grep '^NoNewPrivs:.*1$' /proc/$(main)/status; grep '^Seccomp:.*2$' /proc/$(main)/status

KEEPER=$(main); SWITCH=$(tapswitch status --json | sed -n 's/.*"switch_pid": \([0-9]*\).*/\1/p')
kill -9 $SWITCH
tapswitch status --wait 10; ip netns exec a ping -c 1 -W 5 $B
test $(main) = $KEEPER
kill -9 $KEEPER
ip netns exec a ping -c 1 -W 5 $B
until [ $(systemctl is-active tapswitch) = active ]; do sleep 0.05; done
test $(main) != $KEEPER
ip netns exec a ping -c 1 -W 5 $B

systemctl restart tapswitch
tapswitch status --wait 10; ip netns exec a ping -c 1 -W 5 $B
tapswitch ls
tapswitch down
until [ $(systemctl is-active tapswitch || :) = inactive ]; do sleep 0.05; done
tapswitch install --uninstall
"#;

#[test]
fn the_unit_s_limits_and_restarts_cost_no_traffic_as_root() {
    for name in ["unshare", "systemctl", "ping", "nft"] {
        // The scripts start them; one that is missing is named here.
        tool(name);
    }
    let session = Session::new(Who::Root);
    let groups = Groups::new(&session);
    std::fs::write(session.dir().join("script"), SCRIPT).expect("write a file in our own folder");
    let machine = plugged::on_a_machine(&session, BOOT);
    let mut command = session.command("sh");
    let join: String = groups.0.iter().map(|group| format!("echo $$ >{}/cgroup.procs; ", group.display())).collect();
    // `machine` is unshare with its options: some more of them.
    command.args(["-ec", &format!("{join}exec \"$0\" --net --cgroup --ipc --uts \"$@\"")]);
    command.arg(machine.get_program()).args(machine.get_args());
    for (name, value) in machine.get_envs() {
        command.env(name, value.expect("it is set"));
    }
    let mut systemd = Background::start(command);
    let status = session.dir().join("status");
    eventually("the script under systemd to end", PATIENCE, || status.exists() || !systemd.is_running());
    let said = std::fs::read_to_string(session.dir().join("said")).unwrap_or_default();
    eventually("its status", PATIENCE, || {
        std::fs::read_to_string(&status).is_ok_and(|text| !text.is_empty()) || !systemd.is_running()
    });
    assert_eq!(std::fs::read_to_string(&status).unwrap_or_default().trim(), "0", "{said}{:?}", systemd.errors());
    drop(systemd);
}

/// A control group in each hierarchy that systemd wants. Dropped, they go, with those that systemd made in them.
struct Groups(Vec<PathBuf>);

impl Groups {
    /// Says in the session's folder, by a file `unified`, that there is but one hierarchy.
    fn new(session: &Session) -> Groups {
        let mounts = std::fs::read_to_string("/proc/self/mounts").expect("the kernel lists its mounts");
        let wanted = |line: &&str| {
            let fields: Vec<&str> = line.split(' ').collect();
            let options: Vec<&str> = fields[3].split(',').collect();
            fields[2] == "cgroup2"
                || (fields[2] == "cgroup" && ["name=systemd", "devices"].iter().any(|o| options.contains(o)))
        };
        let mounts: Vec<&str> = mounts.lines().filter(wanted).collect();
        assert!(!mounts.is_empty(), "no control groups are mounted");
        if mounts.iter().all(|line| line.split(' ').nth(2) == Some("cgroup2")) {
            std::fs::write(session.dir().join("unified"), "").expect("write a file in our own folder");
        }
        let name = format!("tapswitch-test-{}", std::process::id());
        let group = |line: &&str| PathBuf::from(line.split(' ').nth(1).expect("a mount has a place")).join(&name);
        let groups = Groups(mounts.iter().map(group).collect());
        for group in &groups.0 {
            std::fs::create_dir(group).expect("make a control group");
        }
        groups
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for group in &self.0 {
            // The last process may be on its way out.
            let empty = || {
                remove(group);
                !group.exists()
            };
            if !std::thread::panicking() {
                eventually("a control group to be empty", PATIENCE, empty);
            } else {
                let start = std::time::Instant::now();
                while !empty() && start.elapsed() < Duration::from_secs(5) {
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }
}

/// Removes a control group and those in it, as far as they are empty.
fn remove(group: &std::path::Path) {
    let inner = std::fs::read_dir(group).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    inner.filter(|path| path.is_dir()).for_each(|path| remove(&path));
    // One that has processes still is tried again.
    let _ = std::fs::remove_dir(group);
}
