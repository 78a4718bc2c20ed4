//! containerd itself, with a container of busybox by `ctr run --cni`, and the list that `tapswitch install` puts.
//!
//! Needs root. containerd, its containers and what they leave are on a copy of the machine that goes with the test.

mod plugged;

use std::time::Duration;

use serde_json::json;
use tapswitch_tests::{Switch, Who, run, tool};

/// Some seconds are usual.
const PATIENCE: Duration = Duration::from_secs(120);

/// $W is a folder. The list that `install` put is the only one, and so the default.
const SCRIPT: &str = r#"
W=/tmp/w; mkdir -p $W
for folder in bin etc proc sys dev; do mkdir -p $W/rootfs/$folder; done
cp "$BUSYBOX" $W/rootfs/bin/busybox
for applet in sh ip ping sleep; do ln -s busybox $W/rootfs/bin/$applet; done
rm -f /etc/cni/net.d/*
$TS install --cni
set -x
cat >$W/config.toml <<END
version = 2
root = "/var/lib/c"
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
$TS install --uninstall
"#;

#[test]
fn containers_of_ctr_get_an_address_and_reach_each_other_as_root() {
    let switch = Switch::start(Who::Root, &["--subnet", "10.94.0.0/24"]);
    for name in ["containerd", "ctr", "runc"] {
        // The script starts them; one that is missing is named here.
        tool(name);
    }
    let said = run(plugged::on_a_machine(switch.session(), SCRIPT), PATIENCE).ok();
    for needle in ["cni:default-t1", "10.94.0.3/24", "default via 10.94.0.1", "1 packets received"] {
        assert!(said.contains(needle), "{needle}: {said}");
    }
    // t2 was deleted; t1's namespace died with its process, before anybody could.
    tapswitch_tests::eventually("the switch to be empty", PATIENCE, || switch.json(&["ls"]) == json!([]));
}
