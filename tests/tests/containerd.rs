//! containerd itself, with a container of busybox by `ctr run --cni`.
//!
//! Needs root. containerd, its containers and what they leave in /run, /opt and /etc are in namespaces that go with the test.

use std::time::Duration;

use serde_json::json;
use tapswitch_tests::{Switch, Who, program, run, tool};

/// Some seconds are usual.
const PATIENCE: Duration = Duration::from_secs(120);

/// $W is a folder, $TS our program.
const SCRIPT: &str = r#"
set -ex
mount --make-rprivate /
mount -t tmpfs none /run
mount -t tmpfs none /opt
mkdir -p /opt/cni/bin $W/etc $W/rootfs/bin $W/rootfs/etc $W/rootfs/proc $W/rootfs/sys $W/rootfs/dev
cp -a /etc/. $W/etc && mount --bind $W/etc /etc
mkdir -p /etc/cni/net.d && mount -t tmpfs none /etc/cni/net.d
cp "$BUSYBOX" $W/rootfs/bin/busybox
for applet in sh ip ping sleep; do ln -s busybox $W/rootfs/bin/$applet; done
ln -s $TS /opt/cni/bin/tapswitch-cni
cat >/etc/cni/net.d/10-web.conflist <<END
{"cniVersion": "1.0.0", "name": "web", "plugins": [
  {"type": "tapswitch-cni", "socket": "$TAPSWITCH_SOCKET", "ipam": {"subnet": "10.94.0.0/24"}}]}
END
cat >$W/config.toml <<END
version = 2
root = "$W/root"
state = "/run/state"
[grpc]
address = "/run/c.sock"
END
containerd -c $W/config.toml >$W/log 2>&1 &
until ctr -a /run/c.sock version >/dev/null 2>&1; do kill -0 $!; sleep 0.1; done
ctr -a /run/c.sock run -d --cni --rootfs $W/rootfs t1 /bin/sleep 100
$TS ls
ctr -a /run/c.sock run --rm --cni --rootfs $W/rootfs t2 /bin/sh -c 'ip address; ip route; ping -c 1 -W 5 10.94.0.2'
ctr -a /run/c.sock task kill -s 9 t1
"#;

#[test]
fn containers_of_ctr_get_an_address_and_reach_each_other_as_root() {
    let switch = Switch::start(Who::Root, &[]);
    for name in ["containerd", "ctr", "runc"] {
        // The script starts them; one that is missing is named here.
        tool(name);
    }
    let mut command = switch.session().command("unshare");
    command.args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", SCRIPT]);
    command.env("W", switch.session().dir().join("containerd")).env("TS", program("tapswitch"));
    command.env("BUSYBOX", tool("busybox"));
    let said = run(command, PATIENCE).ok();
    for needle in ["cni:default-t1", "10.94.0.3/24", "default via 10.94.0.1", "1 packets received"] {
        assert!(said.contains(needle), "{needle}: {said}");
    }
    // t2 was deleted; t1's namespace died with its process, before anybody could.
    tapswitch_tests::eventually("the switch to be empty", PATIENCE, || switch.json(&["ls"]) == json!([]));
}
