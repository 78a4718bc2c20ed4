//! podman 5 with netavark, from Debian 13: the driver as `tapswitch install` puts it there, containers of busybox on a network of
//! its own, the way out, and published ports.
//!
//! `tests/podman5` makes the Debian, names it in TAPSWITCH_DEBIAN13, and runs this. Needs root. The daemon is on the host; podman is
//! in that Debian, in mount and process namespaces that go with the test, and so in the host's network.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use tapswitch_tests::{Background, Internet, Switch, Who, eventually, tool};

/// Some seconds are usual.
const PATIENCE: Duration = Duration::from_secs(120);
const ECHO: u16 = 7;

/// $R is the Debian, $TS our program. Its changes are in memory.
const SETUP: &str = r#"
set -e
mount --make-rprivate /
mount --bind $R $R
for folder in sys dev; do mount --rbind /$folder $R/$folder; done
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
exec chroot $R /bin/bash -c "$IN"
"#;

/// Inside: podman without what a machine has and a chroot has not.
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

/// A script in the Debian, started.
fn podman(switch: &Switch, script: &str) -> Background {
    let debian = std::env::var_os("TAPSWITCH_DEBIAN13").expect("tests/podman5 sets TAPSWITCH_DEBIAN13 and runs this");
    assert!(PathBuf::from(&debian).join("usr/bin/podman").exists(), "{debian:?} is no Debian with podman");
    let mut command = switch.session().command("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", SETUP]);
    command.env("R", debian).env("S", switch.session().dir()).env("TS", tapswitch_tests::program("tapswitch"));
    tool("chroot");
    command.env("IN", format!("{PODMAN}{script}"));
    Background::start(command)
}

#[test]
#[ignore = "needs a Debian 13 with podman: run by tests/podman5"]
fn containers_of_podman_5_find_each_other_reach_the_world_and_leave_nothing_as_root() {
    let internet = Internet::new(Who::Root);
    let _echo = internet.serve("echo", ECHO, &[]);
    let switch = internet.switch(&[]);
    let far = SocketAddr::new(internet.addresses()[0], ECHO);
    let said = podman(
        &switch,
        &format!(
            r#"
podman --version
podman network create -d tapswitch --subnet 10.95.0.0/24 web
podman run -d --name db --network web --rootfs /tmp/w/rootfs sleep 1000
tapswitch ls
podman run --rm --cap-add NET_RAW --name sh --network web --ip 10.95.0.77 --rootfs /tmp/w/rootfs sh -c '
    ip address; ip route; ping -c 1 -W 5 db; ping -c 1 -W 5 {far_ip}; echo hello-to-the-world | nc -w 5 {far_ip} {port}'
podman rm -f -t 0 --all
podman network rm web
tapswitch network rm web
tapswitch install --uninstall
"#,
            far_ip = far.ip(),
            port = far.port(),
        ),
    )
    .finish(PATIENCE)
    .ok();
    for needle in [
        "podman version 5",
        "ok    podman driver",
        "netavark:",
        "10.95.0.77/24",
        "default via 10.95.0.1",
        "hello-to-the-world",
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
    let mut container = podman(
        &switch,
        r#"
podman network create -d tapswitch web
mkdir -p /tmp/w/rootfs/www/cgi-bin
printf '#!/bin/sh\necho; echo you are $REMOTE_ADDR\n' >/tmp/w/rootfs/www/cgi-bin/who; chmod +x /tmp/w/rootfs/www/cgi-bin/who
podman run -d --name web --network web -p 8080:80 --rootfs /tmp/w/rootfs httpd -f -p 80 -h /www
echo serving
while [ ! -e $S/over ]; do sleep 0.1; done
podman rm -f -t 0 web
podman network rm web
echo over
"#,
    );
    container.wait_for_line("serving", PATIENCE);
    let who = format!("http://{}:8080/cgi-bin/who", internet.host_addresses()[0]);
    let said = internet.far().ok(&["busybox", "wget", "-q", "-O", "-", &who]);
    assert!(said.starts_with("you are ") && said.contains(&internet.addresses()[0].to_string()), "{said}");
    std::fs::write(switch.session().dir().join("over"), "").expect("write a file in our own folder");
    container.wait_for_line("over", PATIENCE);
    container.finish(PATIENCE).ok();
    eventually("the switch to be empty", PATIENCE, || switch.json(&["ls"]) == json!([]));
}
