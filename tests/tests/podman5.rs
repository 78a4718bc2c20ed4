//! podman 5 with netavark, from Debian 13: the driver as `tapswitch install` puts it there, containers of busybox on a network of
//! its own, the way out, and published ports.
//!
//! `tests/podman5` makes the Debian, names it in TAPSWITCH_DEBIAN13, and runs this. Needs root. The daemon is on the host; podman,
//! root's or a user's, is in that Debian, in mount and process namespaces that go with the test, and in the host's network.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tapswitch_tests::{Background, Internet, Who, eventually, tool};

/// Some seconds are usual.
const PATIENCE: Duration = Duration::from_secs(120);
const ECHO: u16 = 7;

/// $R is the Debian, $TS our program. Its changes are in memory.
const SETUP: &str = r#"
set -e
mount --make-rprivate /
mount --bind $R $R
for folder in sys dev; do mount --rbind /$folder $R/$folder; done
mount -t tmpfs none $R/dev/net; mknod -m 666 $R/dev/net/tun c 10 200
mount -t proc proc $R/proc
for folder in run tmp var/lib; do mount -t tmpfs none $R/$folder; done
mkdir -p $R$S $R/tmp/w; mount --bind $S $R$S
L=$S/changes; mkdir -p $L; mount -t tmpfs none $L
for folder in etc usr; do
    mkdir $L/$folder $L/$folder.work
    mount -t overlay -o lowerdir=$R/$folder,upperdir=$L/$folder,workdir=$L/$folder.work none $R/$folder
done
umount $R/sys/fs/cgroup/unified 2>/dev/null || :
cp $TS $R/usr/local/bin/tapswitch
mkdir $R/run/old; cd $R; pivot_root . run/old; cd /; umount -l /run/old; rmdir /run/old
exec /bin/bash -c "$IN"
"#;

/// Inside, as root: podman without what a machine has and a chroot has not.
const PODMAN: &str = r#"
set -e
mkdir -p /run/lock /dev/shm
for folder in bin etc proc sys dev; do mkdir -p /tmp/w/rootfs/$folder; done
cp /usr/bin/busybox /tmp/w/rootfs/bin/busybox
for applet in sh ip ping nslookup sleep nc httpd cat; do ln -s busybox /tmp/w/rootfs/bin/$applet; done
cat >/tmp/w/containers.conf <<END
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
enable_port_reservation = false
END
export CONTAINERS_CONF=/tmp/w/containers.conf PODMAN_IGNORE_CGROUPSV1_WARNING=1
podman() { command podman --root /var/lib/p --runroot /run/p --tmpdir /run/t "$@"; }
tapswitch install --podman
tapswitch doctor || :
set -x
"#;

/// Inside, as the session's user, who owns $S: a driver in that user's own folder.
const ROOTLESS: &str = r#"
set -e
for folder in bin etc proc sys dev run tmp; do mkdir -p /tmp/w/rootfs/$folder; done
cp /usr/bin/busybox /tmp/w/rootfs/bin/busybox
for applet in sh ip ping nc; do ln -s busybox /tmp/w/rootfs/bin/$applet; done
cat >/tmp/w/containers.conf <<END
[network]
netavark_plugin_dirs = ["$S/.local/libexec/netavark"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
END
OWNER=$(stat -c %u $S); chown -R $OWNER /tmp/w; echo "user:x:$OWNER:$OWNER::$S:/bin/sh" >>/etc/passwd
cat >/tmp/w/user <<'END'
set -ex
podman() { command podman --storage-driver vfs --root $S/run/graph "$@"; }
tapswitch install --podman
tapswitch doctor || :
podman network create -d tapswitch --subnet 10.95.0.0/24 web
podman run -d --name db --network web --rootfs /tmp/w/rootfs sh -c 'while :; do sleep 1; done'
tapswitch ls
podman run --rm --cap-add NET_RAW --name sh --network web -p 28083:80 --rootfs /tmp/w/rootfs sh -c "
    ip address; ping -c 1 -W 5 db; echo hello-to-the-world | nc -w 5 $FAR"
podman rm -f -t 0 --all
podman network rm web
tapswitch network rm web
tapswitch install --uninstall
END
exec setpriv --reuid $OWNER --regid $OWNER --clear-groups --inh-caps=-all env HOME=$S XDG_RUNTIME_DIR=$S/run \
    XDG_STATE_HOME=$S/state CONTAINERS_CONF=/tmp/w/containers.conf PODMAN_IGNORE_CGROUPSV1_WARNING=1 bash /tmp/w/user
"#;

/// A script in the Debian, as root there, started.
fn podman(internet: &Internet, script: &str) -> Background {
    let debian = std::env::var_os("TAPSWITCH_DEBIAN13").expect("tests/podman5 sets TAPSWITCH_DEBIAN13 and runs this");
    assert!(PathBuf::from(&debian).join("usr/bin/podman").exists(), "{debian:?} is no Debian with podman");
    let session = internet.session();
    // Root, whoever the session is: the file system is to be put together first.
    let mut command = Command::new(tool("nsenter"));
    command.arg(format!("--net=/proc/{}/ns/net", internet.host().pid())).arg(tool("unshare"));
    command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", SETUP]).env_clear();
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.env("R", debian).env("S", session.dir()).env("TS", tapswitch_tests::program("tapswitch"));
    command.env("TAPSWITCH_SOCKET", session.socket()).env("IN", script);
    command.env("FAR", format!("{} {ECHO}", internet.addresses()[0]));
    Background::start(command)
}

#[test]
#[ignore = "needs a Debian 13 with podman: run by tests/podman5"]
fn containers_of_podman_5_find_each_other_reach_the_world_and_leave_nothing_as_root() {
    let internet = Internet::new(Who::Root);
    let _echo = internet.serve("echo", ECHO, &[]);
    let switch = internet.switch(&[]);
    let script = r#"
podman --version
podman network create -d tapswitch --subnet 10.95.0.0/24 web
podman run -d --name db --network web --rootfs /tmp/w/rootfs sleep 1000
tapswitch ls
podman run --rm --cap-add NET_RAW --name sh --network web --ip 10.95.0.77 --rootfs /tmp/w/rootfs sh -c "
    ip address; ip route; ping -c 1 -W 5 db; ping -c 1 -W 5 ${FAR% *}; echo hello-to-the-world | nc -w 5 $FAR"
podman run --rm --network web --ip 1.2.3.4 --rootfs /tmp/w/rootfs sh -c true || echo an-address-outside-is-refused
podman rm -f -t 0 --all
podman network rm web
tapswitch network rm web
tapswitch install --uninstall
"#;
    let said = podman(&internet, &format!("{PODMAN}{script}")).finish(PATIENCE).ok();
    for needle in [
        "podman version 5",
        "ok    podman driver",
        "netavark:",
        "10.95.0.77/24",
        "default via 10.95.0.1",
        "hello-to-the-world",
        "an-address-outside-is-refused",
    ] {
        assert!(said.contains(needle), "{needle}: {said}");
    }
    assert_eq!(said.matches("1 packets received").count(), 2, "{said}");
    assert_eq!(switch.json(&["ls"]), json!([]));
    assert_eq!(switch.json(&["network", "ls"]).as_array().expect("an array").len(), 1);
}

#[test]
#[ignore = "needs a Debian 13 with podman: run by tests/podman5"]
fn a_port_of_podman_5_shows_its_clients_own_address_as_root() {
    let internet = Internet::new(Who::Root);
    let switch = internet.switch(&[]);
    let script = r#"
podman network create -d tapswitch web
podman network create -d tapswitch back
mkdir -p /tmp/w/rootfs/www/cgi-bin
printf '#!/bin/sh\necho; echo you are $REMOTE_ADDR\n' >/tmp/w/rootfs/www/cgi-bin/who; chmod +x /tmp/w/rootfs/www/cgi-bin/who
podman run -d --name web --network web --network back -p 8080:80 --rootfs /tmp/w/rootfs httpd -f -p 80 -h /www
echo serving
while [ ! -e $S/over ]; do sleep 0.1; done
podman network disconnect web web
tapswitch ls
podman rm -f -t 0 web
podman network rm web back
echo over
"#;
    let mut container = podman(&internet, &format!("{PODMAN}{script}"));
    container.wait_for_line("serving", PATIENCE);
    let who = format!("http://{}:8080/cgi-bin/who", internet.host_addresses()[0]);
    let said = internet.far().ok(&["busybox", "wget", "-q", "-O", "-", &who]);
    assert!(said.starts_with("you are ") && said.contains(&internet.addresses()[0].to_string()), "{said}");
    std::fs::write(switch.session().dir().join("over"), "").expect("write a file in our own folder");
    container.wait_for_line("over", PATIENCE);
    let said = container.finish(PATIENCE).ok();
    let on_back = said.lines().find(|line| line.contains("netavark:")).unwrap_or_else(|| panic!("{said}"));
    assert!(on_back.contains("back") && on_back.contains("0.0.0.0:8080->80/tcp"), "{on_back}");
    eventually("the switch to be empty", PATIENCE, || switch.json(&["ls"]) == json!([]));
}

/// The plugin runs in podman's own namespaces, where the user is uid 0; the daemon is outside, the user's own.
#[test]
#[ignore = "needs a Debian 13 with podman: run by tests/podman5"]
fn containers_of_rootless_podman_5_find_each_other_and_reach_the_world_as_root() {
    let internet = Internet::new(Who::User);
    let _echo = internet.serve("echo", ECHO, &[]);
    let switch = internet.switch(&[]);
    let output = podman(&internet, ROOTLESS).finish(PATIENCE);
    let said = output.clone().ok();
    for needle in ["ok    podman driver", "netavark:", "10.95.0.3/24", "1 packets received", "hello-to-the-world"] {
        assert!(said.contains(needle), "{needle}: {said}");
    }
    // Its ports are podman's own, which hides the clients.
    let note = "tapswitch: rootless podman publishes the ports itself";
    assert_eq!(output.stderr.matches(note).count(), 1, "{}", output.stderr);
    assert_eq!(switch.json(&["ls"]), json!([]));
}
