//! The uplink `host`: a host of our own that the kernel routes on, and a far host behind it, all namespaces.
//!
//! ```text
//! container ── switch ── ts-default │ host │ wan ── veth ── far
//! ```

use std::fmt::Display;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;
use tapswitch_tests::iperf::{self, Load};
use tapswitch_tests::{Container, Session, Switch, Who, eventually, run, tool};

const FAR: [&str; 2] = ["198.51.100.1", "2001:db8:1::1"];
const PATIENCE: Duration = Duration::from_secs(20);

/// The host, whose daemon is not there yet, and the far one. The far one has no route to any container.
struct World {
    session: Rc<Session>,
    far: Container,
}

impl World {
    fn new() -> World {
        let session = Session::with_own_host(Who::Root, "true");
        let far = Container::unattached(&session);
        let world = World { session: Rc::new(session), far };
        world.host(&format!("ip link add wan type veth peer name lan netns {}", world.far.pid()));
        world.host(
            "ip address add 198.51.100.2/24 dev wan; ip address add 2001:db8:1::2/64 dev wan nodad; ip link set wan up
            ip route add default via 198.51.100.1; ip route add default via 2001:db8:1::1",
        );
        world.far.ok(&[
            "sh",
            "-ec",
            "ip link set lo up; ip address add 198.51.100.1/24 dev lan
            ip address add 2001:db8:1::1/64 dev lan nodad; ip link set lan up",
        ]);
        // IPv6 is slow to notice that a link is up.
        eventually("the link", PATIENCE, || FAR.iter().all(|address| world.host_reaches(address)));
        world
    }

    /// A shell script on the host.
    #[track_caller]
    fn host(&self, script: &str) -> String {
        let mut command = Command::new(tool("nsenter"));
        let host = self.session.host_pid().expect("it has a host of its own");
        command.arg(format!("--net=/proc/{host}/ns/net")).args(["sh", "-ec", script]);
        run(command, PATIENCE).ok()
    }

    /// Whether the host gets an answer from `address`.
    fn host_reaches(&self, address: impl Display) -> bool {
        self.host(&format!("ping -n -q -c 1 -W 1 {address} >&2 && echo yes || true")).contains("yes")
    }

    fn up(&self, flags: &[&str]) -> Switch {
        routed(Switch::start_in(Rc::clone(&self.session), &[&["--uplink", "host"], flags].concat()))
    }

    fn up_without_nft(&self) -> Switch {
        let mut command = Switch::up(&self.session, &["--uplink", "host"]);
        command.env("PATH", "/nonexistent");
        routed(Switch::start_command(Rc::clone(&self.session), command))
    }

    /// The devices of ours on the host.
    fn devices(&self) -> Vec<String> {
        let links = self.host("ip -brief link show");
        let names = links.lines().filter_map(|line| line.split_whitespace().next());
        names.filter(|name| name.starts_with("ts-")).map(str::to_owned).collect()
    }

    /// The tables on the host.
    fn tables(&self) -> Vec<String> {
        let nft = tool("nft");
        self.host(&format!("{} list tables", nft.display())).lines().map(str::to_owned).collect()
    }

    /// Nothing of ours is on the host.
    fn is_clean(&self) -> bool {
        self.devices().is_empty() && self.tables().is_empty()
    }
}

/// A daemon in the foreground answers before the host's device is there.
fn routed(switch: Switch) -> Switch {
    eventually("the host's device", PATIENCE, || switch.endpoint("host.tapswitch").is_some());
    switch
}

fn far() -> [IpAddr; 2] {
    FAR.map(|address| address.parse().expect("it is an address"))
}

fn hosts(switch: &Switch) -> [IpAddr; 2] {
    let network = switch.json(&["network", "inspect", "default"]);
    ["host", "host6"].map(|field| network[field].as_str().expect("an address").parse().expect("an address"))
}

fn warnings(switch: &Switch) -> String {
    switch.json(&["status"])["warnings"].to_string()
}

#[track_caller]
fn assert_reaches(from: &Container, to: &[IpAddr]) {
    for address in to {
        assert!(from.reaches(*address), "no answer from {address}");
    }
}

#[test]
fn containers_reach_the_world_masqueraded_and_the_host_reaches_them_as_root() {
    let world = World::new();
    let switch = world.up(&[]);
    assert_eq!(warnings(&switch), "[]");
    let web = Container::new(&switch, "web");
    assert_reaches(&web, &far());
    let settings = world.host("cd /proc/sys/net; cat ipv4/ip_forward ipv6/conf/all/forwarding ipv6/conf/wan/accept_ra");
    assert_eq!(settings.split_whitespace().collect::<Vec<_>>(), ["1", "1", "2"], "the host goes on to hear its router");
    assert_reaches(&web, &hosts(&switch));
    for address in web.addresses() {
        assert!(world.host_reaches(address), "the host gets no answer from {address}");
    }
    for address in far() {
        for load in [Load::Tcp, Load::Udp] {
            for reverse in [false, true] {
                iperf::measure(&world.far, &web, address, load, reverse, 1);
            }
        }
    }
    eventually("quiet counters that obey both laws", PATIENCE, || {
        switch.json(&["stats"])["endpoints"].as_array().expect("an array").iter().all(obeys_both_laws)
    });
    assert_eq!((world.devices(), world.tables().len()), (vec!["ts-default".to_owned()], 1));
    switch.ok(&["down"]);
    assert!(world.is_clean(), "{:?} {:?}", world.devices(), world.tables());
}

#[test]
fn from_outside_nobody_reaches_a_container_by_routing_through_the_host_as_root() {
    let world = World::new();
    let switch = world.up(&["--subnet", "10.99.0.0/24"]);
    let web = Container::new(&switch, "web");
    world.far.ok(&["ip", "route", "add", "10.99.0.0/24", "via", "198.51.100.2"]);
    assert!(!world.far.reaches(web.ipv4()));
    assert_reaches(&web, &far());
}

#[test]
fn without_nft_there_is_plain_routing_and_a_warning_as_root() {
    let world = World::new();
    let switch = world.up_without_nft();
    // It serves before it routes.
    eventually("the warning", PATIENCE, || warnings(&switch).contains("the next router needs a route back"));
    let web = Container::new(&switch, "web");
    assert_reaches(&web, &hosts(&switch));
    assert!(!web.reaches(far()[0]), "without a route back there is no answer");
    let network = switch.json(&["network", "inspect", "default"]);
    for (field, gateway) in [("subnet", "198.51.100.2"), ("subnet6", "2001:db8:1::2")] {
        world.far.ok(&["ip", "route", "add", network[field].as_str().expect("a subnet"), "via", gateway]);
    }
    assert_reaches(&web, &far());
    assert!(web.addresses().into_iter().all(|address| world.far.reaches(address)));
    assert_eq!(world.tables(), [""; 0]);
    switch.ok(&["down"]);
    assert!(world.is_clean());
}

#[test]
fn with_icc_off_the_host_is_reached_and_neighbours_are_not_as_root() {
    let world = World::new();
    let switch = world.up(&["--icc", "false"]);
    let (web, db) = (Container::new(&switch, "web"), Container::new(&switch, "db"));
    assert_reaches(&web, &far());
    assert_reaches(&web, &hosts(&switch));
    for address in db.addresses() {
        assert!(world.host_reaches(address));
        assert!(!web.reaches(address), "{address}");
    }
}

#[test]
fn two_networks_are_not_joined_by_the_hosts_routing_as_root() {
    let world = World::new();
    let switch = world.up(&[]);
    switch.ok(&["network", "create", "lab", "--uplink", "host"]);
    let (web, lab) = (Container::new(&switch, "web"), Container::with(&switch, "lab", &["--network", "lab"]));
    assert_reaches(&lab, &far());
    for (from, to) in [(&web, &lab), (&lab, &web)] {
        for address in to.addresses() {
            assert!(world.host_reaches(address));
            assert!(!from.reaches(address), "{address}");
        }
    }
    assert!(switch.drops("no_uplink") > 0, "the switch drops it, not only nftables");
    drop(lab);
    eventually("the container's end", PATIENCE, || switch.endpoint("lab").is_none());
    switch.ok(&["network", "rm", "lab"]);
    eventually("the network's end", PATIENCE, || world.devices() == ["ts-default"] && world.tables().len() == 1);
    assert_reaches(&web, &far());
}

#[test]
fn without_nft_two_networks_are_not_joined_either_as_root() {
    let world = World::new();
    let switch = world.up_without_nft();
    switch.ok(&["network", "create", "lab", "--uplink", "host"]);
    let (web, lab) = (Container::new(&switch, "web"), Container::with(&switch, "lab", &["--network", "lab"]));
    for (from, to) in [(&web, &lab), (&lab, &web)] {
        for address in to.addresses() {
            assert!(world.host_reaches(address));
            assert!(!from.reaches(address), "{address}");
        }
    }
}

#[test]
fn the_device_outlives_the_switch_and_goes_with_the_daemon_as_root() {
    let world = World::new();
    let switch = world.up(&[]);
    let web = Container::new(&switch, "web");
    let index = |world: &World| world.host("ip -o link show ts-default").split(':').next().map(str::to_owned);
    let before = (index(&world), switch.switch_pid());
    let pid = nix::unistd::Pid::from_raw(before.1.cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("the switch runs");
    eventually("another switch", PATIENCE, || switch.cli(&["status"]).code == 0 && switch.switch_pid() != before.1);
    eventually("the way out", PATIENCE, || web.reaches(far()[0]));
    assert_eq!(index(&world), before.0, "it is the same device");
    let hosts_before = hosts(&switch);
    switch.terminate();
    assert!(world.is_clean(), "{:?} {:?}", world.devices(), world.tables());
    let switch = world.up(&[]);
    assert_eq!(hosts(&switch), hosts_before);
    eventually("the way out", PATIENCE, || far().into_iter().all(|address| web.reaches(address)));
}

#[test]
fn routing_that_is_being_set_up_when_the_daemon_ends_is_ended_too_as_root() {
    let world = World::new();
    let folder = world.session.dir().join("slow");
    let (nft, log) = (folder.join("nft"), folder.join("log"));
    let script = format!(
        "#!/bin/sh\nscript=$(cat)\ncase $script in *masquerade*) echo begun >{log}; sleep 1; end=routed ;; esac\n\
         printf %s \"$script\" | {real} -f -; echo $end >>{log}\n",
        log = log.display(),
        real = tool("nft").display()
    );
    std::fs::create_dir(&folder).and_then(|()| std::fs::write(&nft, script)).expect("write in our own folder");
    std::fs::set_permissions(&nft, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    let said = |word: &str| std::fs::read_to_string(&log).is_ok_and(|text| text.contains(word));
    let mut command = Switch::up(&world.session, &["--uplink", "host"]);
    command.env("PATH", format!("{}:/usr/bin:/bin", folder.display()));
    let switch = Switch::start_command(Rc::clone(&world.session), command);
    eventually("nft", PATIENCE, || said("begun"));
    switch.terminate();
    assert!(said("routed"), "nobody waited for it");
    assert!(world.is_clean(), "{:?} {:?}", world.devices(), world.tables());
}

#[test]
fn after_both_processes_were_killed_the_next_daemon_replaces_what_is_left_as_root() {
    let world = World::new();
    let switch = world.up(&[]);
    let web = Container::new(&switch, "web");
    switch.kill();
    assert_eq!((world.devices().len(), world.tables().len()), (1, 1), "nobody was there to remove them");
    let switch = world.up(&[]);
    eventually("the way out", PATIENCE, || far().into_iter().all(|address| web.reaches(address)));
    assert_eq!((world.devices(), world.tables().len()), (vec!["ts-default".to_owned()], 1));
    assert_eq!(warnings(&switch), "[]");
    switch.ok(&["down"]);
    assert!(world.is_clean());
}

#[test]
fn the_next_keeper_takes_the_device_over_as_root() {
    let world = World::new();
    let first = world.up(&[]);
    let web = Container::new(&first, "web");
    first.kill_keeper();
    assert_reaches(&web, &far());
    let switch = world.up(&[]);
    assert_eq!(world.devices(), ["ts-default"]);
    assert_reaches(&web, &far());
    switch.ok(&["down"]);
    assert!(world.is_clean(), "{:?} {:?}", world.devices(), world.tables());
}

#[test]
fn an_mtu_is_set_on_the_hosts_device_too_as_root() {
    let world = World::new();
    let switch = world.up(&[]);
    switch.ok(&["network", "set", "default", "--mtu", "1400"]);
    assert!(world.host("ip link show ts-default").contains("mtu 1400"));
}

#[test]
fn a_device_of_that_name_that_is_anothers_is_left_alone_as_root() {
    let world = World::new();
    world.host("ip link add ts-default type veth peer name other");
    let switch = world.up(&[]);
    assert_eq!(world.host("ip -brief link show type tun").split_whitespace().next(), Some("ts-default.2"));
    let web = Container::new(&switch, "web");
    assert_reaches(&web, &far());
}

#[test]
fn an_ordinary_user_is_told_that_it_needs_root_as_root() {
    let session = Session::new(Who::User);
    let line = run(Switch::up(&session, &["--uplink", "host"]), PATIENCE).one_line_of_failure(1);
    assert!(line.contains("needs root") && line.contains("--uplink user"), "{line}");
    let switch = Switch::start_in(Rc::new(session), &[]);
    let line = switch.cli(&["network", "create", "lab", "--uplink", "host"]).one_line_of_failure(1);
    assert!(line.contains("needs root"), "{line}");
    assert_eq!(switch.json(&["network", "ls"]).as_array().map(Vec::len), Some(1));
}

fn obeys_both_laws(port: &Value) -> bool {
    let count = |field: &str| port[field].as_u64().expect("a count");
    let drops =
        |field: &str| port[field].as_object().expect("reason to count").values().filter_map(Value::as_u64).sum::<u64>();
    count("rx_frames") == count("unicast") + count("flooded") + count("answered") + count("local") + drops("rx_drops")
        && count("tx_decided") == count("tx_frames") + drops("tx_drops")
}
