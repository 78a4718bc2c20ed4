//! Podman itself, with containers made of busybox: through CNI (podman 4), and through the OCI hook.
//!
//! Needs root. podman, its containers and what they leave in /run and /var/lib are in namespaces that go with the test.

use std::time::Duration;

use serde_json::json;
use tapswitch_tests::{Switch, Who, program, run, tool};

/// Some seconds are usual.
const PATIENCE: Duration = Duration::from_secs(120);

/// Makes what podman is to find, and the shell function `podman`. $W is a folder, $TS our program.
const SETUP: &str = r#"
set -e
mount --make-rprivate /
mount -t tmpfs none /run
mount -t tmpfs none /var/lib
mkdir -p /run/lock $W/cni $W/net.d $W/hooks.d $W/bin $W/rootfs/bin $W/rootfs/etc $W/rootfs/proc $W/rootfs/sys $W/rootfs/dev
cp "$BUSYBOX" $W/rootfs/bin/busybox
for applet in sh ip ping nslookup sleep cat; do ln -s busybox $W/rootfs/bin/$applet; done
ln -s $TS $W/cni/tapswitch-cni
ln -s $TS $W/bin/tapswitch-oci
cat >$W/net.d/10-web.conflist <<END
{"cniVersion": "0.4.0", "name": "web", "plugins": [{"type": "tapswitch-cni", "ipam": {"subnet": "10.94.0.0/24"},
  "capabilities": {"aliases": true, "portMappings": true, "ips": true, "mac": true}}]}
END
cat >$W/hooks.d/tapswitch.json <<END
{"version": "1.0.0", "hook": {"path": "$W/bin/tapswitch-oci", "args": ["tapswitch-oci", "--socket", "$TAPSWITCH_SOCKET"]},
  "when": {"annotations": {"^org[.]tapswitch[.]network\$": ".+"}}, "stages": ["createRuntime", "poststop"]}
END
cat >$W/containers.conf <<END
[network]
network_backend = "cni"
cni_plugin_dirs = ["$W/cni"]
network_config_dir = "$W/net.d"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
enable_port_reservation = false
hooks_dir = ["$W/hooks.d"]
END
export CONTAINERS_CONF=$W/containers.conf
podman() { command podman --root /var/lib/p --runroot /run/p --tmpdir /run/t "$@"; }
set -x
"#;

/// Runs `script` after [`SETUP`]; its output.
#[track_caller]
fn script(switch: &Switch, script: &str) -> String {
    let busybox = tool("busybox");
    // Not used from here, but not to be missed by a line of the shell.
    tool("podman");
    tool("runc");
    let mut command = switch.session().command("unshare");
    command.args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]);
    command.args(["sh", "-c", &format!("{SETUP}{script}")]).env("BUSYBOX", busybox);
    command.env("W", switch.session().dir().join("podman")).env("TS", program("tapswitch"));
    run(command, PATIENCE).ok()
}

#[test]
fn containers_of_a_cni_network_have_address_name_and_ports_as_root() {
    let switch = Switch::start(Who::Root, &[]);
    let said = script(
        &switch,
        r#"
podman run -d --name db --network web --mac-address 02:00:00:00:00:77 -p 127.0.0.1:28082:80 --rootfs $W/rootfs sleep 100
$TS ls --json
podman run --rm --name p1 --network web --ip 10.94.0.77 --rootfs $W/rootfs sh -c 'ip addr; ip route; nslookup db; ping -c 1 -W 5 db'
podman rm -f -t 0 db
"#,
    );
    for needle in ["10.94.0.77/24", "default via 10.94.0.1", "1 packets received", "28082", "02:00:00:00:00:77"] {
        assert!(said.contains(needle), "{needle}: {said}");
    }
    assert_eq!(switch.json(&["ls"]), json!([]));
    assert_eq!(switch.json(&["network", "inspect", "web"])["subnet"], "10.94.0.0/24");
}

#[test]
fn a_container_without_a_network_is_attached_by_the_hook_as_root() {
    let switch = Switch::start(Who::Root, &[]);
    let said = script(
        &switch,
        r#"
HOOKED="--network none --annotation org.tapswitch.network=default"
podman run -d $HOOKED --annotation org.tapswitch.name=db --rootfs $W/rootfs sleep 100 >$W/id
$TS ls --json
podman run --rm $HOOKED --annotation org.tapswitch.ip=172.17.0.77 --rootfs $W/rootfs \
    sh -c 'ip addr; ping -c 1 -W 5 172.17.0.2; nslookup db 172.17.0.1'
podman rm -f -t 0 $(cat $W/id)
"#,
    );
    for needle in ["oci:", "172.17.0.77/16", "1 packets received"] {
        assert!(said.contains(needle), "{needle}: {said}");
    }
    assert_eq!(switch.json(&["ls"]), json!([]));
}
