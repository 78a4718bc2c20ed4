//! Podman itself, with containers made of busybox: through CNI (podman 4), and through the OCI hook, as `tapswitch install` puts
//! them.
//!
//! Needs root. podman, its containers and what they leave are on a copy of the machine that goes with the test.

mod plugged;

use std::time::Duration;

use serde_json::json;
use tapswitch_tests::{Switch, Who, run, tool};

/// Some seconds are usual.
const PATIENCE: Duration = Duration::from_secs(120);

/// Has `tapswitch install` put what podman finds by itself, and makes the shell function `podman`. $W is a folder.
const SETUP: &str = r#"
W=/tmp/w; mkdir -p $W /run/lock
for folder in bin etc proc sys dev; do mkdir -p $W/rootfs/$folder; done
cp "$BUSYBOX" $W/rootfs/bin/busybox
for applet in sh ip ping nslookup sleep cat; do ln -s busybox $W/rootfs/bin/$applet; done
$TS install --cni --podman
cat >$W/containers.conf <<END
[network]
network_backend = "cni"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
enable_port_reservation = false
END
export CONTAINERS_CONF=$W/containers.conf
podman() { command podman --root /var/lib/p --runroot /run/p --tmpdir /run/t "$@"; }
set -x
"#;

/// Runs `script` after [`SETUP`], on a machine of its own, and takes away what was installed; its output.
#[track_caller]
fn script(switch: &Switch, script: &str) -> String {
    for name in ["podman", "runc"] {
        // The script starts them; one that is missing is named here.
        tool(name);
    }
    let script = format!("{SETUP}{script}\n$TS install --uninstall");
    run(plugged::on_a_machine(switch.session(), &script), PATIENCE).ok()
}

#[test]
fn containers_of_the_installed_network_have_address_name_and_ports_as_root() {
    let switch = Switch::start(Who::Root, &["--subnet", "10.94.0.0/24"]);
    let said = script(
        &switch,
        r#"
$TS doctor || :
podman run -d --name db --network tapswitch --mac-address 02:00:00:00:00:77 -p 127.0.0.1:28082:80 --rootfs $W/rootfs sleep 100
$TS ls --json
podman run --rm --name p1 --network tapswitch --ip 10.94.0.77 --rootfs $W/rootfs \
    sh -c 'ip addr; ip route; nslookup db; ping -c 1 -W 5 db'
podman rm -f -t 0 db
"#,
    );
    for needle in [
        "ok    cni plugin",
        "ok    cni network",
        "ok    podman hook",
        "10.94.0.77/24",
        "default via 10.94.0.1",
        "1 packets received",
        "28082",
        "02:00:00:00:00:77",
        "removed  /etc/cni/net.d/99-tapswitch.conflist",
    ] {
        assert!(said.contains(needle), "{needle}: {said}");
    }
    assert_eq!(switch.json(&["ls"]), json!([]));
}

/// By hand: a network of the list's own, as docs/cni.md has it.
#[test]
fn containers_of_a_network_of_a_list_by_hand_have_its_addresses_as_root() {
    let switch = Switch::start(Who::Root, &[]);
    let said = script(
        &switch,
        r#"
cat >/etc/cni/net.d/10-web.conflist <<END
{"cniVersion": "0.4.0", "name": "web", "plugins": [{"type": "tapswitch-cni", "ipam": {"subnet": "10.94.0.0/24"},
  "socket": "$TAPSWITCH_SOCKET", "capabilities": {"aliases": true, "ips": true}}]}
END
podman run --rm --network web --ip 10.94.0.77 --rootfs $W/rootfs sh -c 'ip addr; ping -c 1 -W 5 10.94.0.1'
"#,
    );
    for needle in ["10.94.0.77/24", "1 packets received"] {
        assert!(said.contains(needle), "{needle}: {said}");
    }
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
