//! runc and crun themselves, each with a bundle of its own: through the hook, and in a namespace that is attached already.
//!
//! Needs root. What a runtime leaves is on a copy of the machine that goes with the test.

mod plugged;

use std::time::Duration;

use serde_json::{Value, json};
use tapswitch_tests::{Container, Switch, Who, run, tool};

/// A second is usual.
const PATIENCE: Duration = Duration::from_secs(60);
const RUNTIMES: [&str; 2] = ["runc", "crun"];
/// What the container runs: asked as well as answered.
const INSIDE: &str =
    "busybox ip -4 address show eth0; busybox ping -c 1 -W 5 172.17.0.1; busybox ping -c 1 -W 5 172.17.0.2";

/// A bundle's `config.json`: `more` over the least that a runtime takes.
fn config(namespace: &Value, more: &Value) -> Value {
    let mut namespaces: Vec<Value> = ["pid", "ipc", "uts", "mount"].map(|kind| json!({"type": kind})).into();
    namespaces.push(namespace.clone());
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false, "user": {"uid": 0, "gid": 0}, "cwd": "/", "env": ["PATH=/bin"],
            "args": ["/bin/busybox", "sh", "-c", INSIDE],
            "capabilities": {"bounding": ["CAP_NET_RAW"], "effective": ["CAP_NET_RAW"], "permitted": ["CAP_NET_RAW"]},
        },
        "root": {"path": "rootfs", "readonly": true},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"namespaces": namespaces},
    });
    config.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    config
}

/// What a container of this bundle said. A namespace that is attached as `holder` is there by the path /proc/HOLDER/ns/net.
#[track_caller]
fn run_bundle(switch: &Switch, runtime: &str, config: &Value) -> String {
    tool(runtime);
    std::fs::write(switch.session().dir().join("config.json"), config.to_string())
        .expect("write a file in our own folder");
    let script = r#"
mkdir -p /tmp/b/rootfs/bin /tmp/b/rootfs/dev /tmp/b/rootfs/proc; cd /tmp/b; cp "$BUSYBOX" rootfs/bin/busybox
$TS install --podman >/dev/null
unshare --net sleep 100 & PID=$!
while [ /proc/$PID/ns/net -ef /proc/self/ns/net ]; do :; done
$TS attach $PID --name holder
sed "s/HOLDER/$PID/" $S/config.json >config.json
"#;
    run(plugged::on_a_machine(switch.session(), &format!("{script}{runtime} --root /run/r run t1")), PATIENCE).ok()
}

#[test]
fn a_bundle_with_the_hook_is_attached_while_it_runs_as_root() {
    for runtime in RUNTIMES {
        let switch = Switch::start(Who::Root, &[]);
        let other = Container::new(&switch, "other");
        assert_eq!(other.ipv4().to_string(), "172.17.0.2", "a container pings it");
        let hook = json!([{"path": "/usr/local/bin/tapswitch-oci", "args": ["tapswitch-oci", "--socket", switch.session().socket()]}]);
        let more = json!({
            "hooks": {"createRuntime": hook, "poststop": hook},
            "annotations": {"org.tapswitch.network": "default", "org.tapswitch.name": runtime, "org.tapswitch.ip": "172.17.0.77"},
        });
        let said = run_bundle(&switch, runtime, &config(&json!({"type": "network"}), &more));
        assert!(
            said.contains("172.17.0.77/16") && said.matches("1 packets received").count() == 2,
            "{runtime}: {said}"
        );
        assert!(switch.endpoint(runtime).is_none(), "{runtime}: the hook has detached it");
    }
}

#[test]
fn a_bundle_in_an_attached_namespace_has_its_device_as_root() {
    for runtime in RUNTIMES {
        let switch = Switch::start(Who::Root, &[]);
        let other = Container::new(&switch, "other");
        assert_eq!(other.ipv4().to_string(), "172.17.0.2", "a container pings it");
        let namespace = json!({"type": "network", "path": "/proc/HOLDER/ns/net"});
        let said = run_bundle(&switch, runtime, &config(&namespace, &json!({})));
        assert!(said.contains("172.17.0.3/16") && said.matches("1 packets received").count() == 2, "{runtime}: {said}");
    }
}
