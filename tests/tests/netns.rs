//! TAPs in real namespaces: born, moved, configured, attached again; as root and as an ordinary user.
//!
//! Needs root, iproute2, util-linux and /dev/net/tun.

#[allow(dead_code)]
mod lab;

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tapswitch_netns::{
    DeviceSpec, Error, Namespace, OffloadMode, Scratch, Tap, birth, in_child, reattach, remove, set_mtu,
};

use lab::{Container, LIMIT, Netns, addresses, become_user, has_carrier, json, private_mounts, run, spec, until};

fn attach_in(target: &Namespace, scratch: &Scratch, spec: &DeviceSpec) -> Result<Tap, Error> {
    let (info, fd) = in_child("attach", &[target.as_fd(), scratch.as_fd()], LIMIT, || {
        let tap = birth(target, scratch, spec)?;
        Ok((tap.info, Some(tap.fd)))
    })?;
    let tap = Tap { fd: fd.unwrap(), info };
    tap.persist(spec.owner)?;
    Ok(tap)
}

fn attach(target: &Namespace, spec: &DeviceSpec) -> Result<Tap, Error> {
    attach_in(target, &Scratch::beside(target, LIMIT)?, spec)
}

#[test]
fn a_tap_has_what_was_asked_for() {
    let netns = Netns::new();
    let before = run(&["ip", "-o", "link"]);
    let tap = attach(&netns.open(), &spec()).unwrap();
    assert_eq!(run(&["ip", "-o", "link"]), before, "nothing appears on the host");

    let link = netns.link("eth0");
    assert_eq!(link["address"], "02:42:ac:11:00:02");
    assert_eq!(link["mtu"], 1400);
    assert!(has_carrier(&link));
    assert_eq!(link["linkinfo"]["info_data"]["type"], "tap");
    assert_eq!(link["linkinfo"]["info_data"]["persist"], true);
    assert_eq!(addresses(&link), ["172.17.0.2/16", "fd00:17::2/64"]);
    assert!(!link.to_string().contains("dadfailed"));
    let v6 = &netns.ip("-6 addr show dev eth0 scope global")[0]["addr_info"][0];
    assert_eq!(v6["nodad"], true);
    assert_eq!(v6["tentative"], serde_json::Value::Null);
    assert_eq!(netns.ip("route show default")[0]["gateway"], "172.17.0.1");
    assert_eq!(netns.ip("-6 route show default")[0]["gateway"], "fd00:17::1");
    assert!(netns.link("lo")["flags"].as_array().unwrap().contains(&"UP".into()));
    assert_eq!(netns.exec("cat /proc/sys/net/ipv6/conf/eth0/accept_ra").trim(), "0");
    assert_eq!(tap.info.ifname, "eth0");
}

#[test]
fn all_offloads_this_kernel_has_are_granted() {
    let netns = Netns::new();
    let tap = attach(&netns.open(), &DeviceSpec { offload: OffloadMode::On, ..spec() }).unwrap();
    assert_eq!(tap.info.header_len, 10);
    // CSUM, TSO4, TSO6, ECN: every kernel since 2.6.27.
    assert_eq!(tap.info.offload & 0x0f, 0x0f);
}

#[test]
fn a_plain_tap_has_no_header() {
    let netns = Netns::new();
    let tap = attach(&netns.open(), &DeviceSpec { offload: OffloadMode::Off, ..spec() }).unwrap();
    assert_eq!((tap.info.header_len, tap.info.offload), (0, 0));
    assert_eq!(netns.link("eth0")["linkinfo"]["info_data"]["vnet_hdr"], false);
    let flags = nix::fcntl::fcntl(&tap.fd, nix::fcntl::FcntlArg::F_GETFL).unwrap();
    assert!(nix::fcntl::OFlag::from_bits_truncate(flags).contains(nix::fcntl::OFlag::O_NONBLOCK));
}

#[test]
fn a_taken_name_is_refused_and_undone() {
    let netns = Netns::new();
    run(&["ip", "-n", &netns.0, "tuntap", "add", "eth0", "mode", "tap"]);
    let before = netns.ip("link").to_string();
    let target = netns.open();
    let scratch = Scratch::beside(&target, LIMIT).unwrap();
    let error = attach_in(&target, &scratch, &spec()).unwrap_err();
    assert_eq!(error, Error::NameTaken { ifname: "eth0".into() });
    assert_eq!(netns.ip("link").to_string(), before);
    // The scratch is usable, and the other name free.
    attach_in(&target, &scratch, &DeviceSpec { ifname: "eth1".into(), ..spec() }).unwrap();
}

#[test]
fn a_bad_address_undoes_the_whole_device() {
    let netns = Netns::new();
    let twice = vec!["172.17.0.2/16".parse().unwrap(); 2];
    let error = attach(&netns.open(), &DeviceSpec { addresses: twice, ..spec() }).unwrap_err();
    assert_eq!(error.to_string(), "set address 172.17.0.2/16 on eth0: file exists");
    until("the device is gone", || netns.link("eth0").is_null());
}

#[test]
fn a_namespace_with_ipv6_switched_off_has_it_on_our_device() {
    let netns = Netns::new();
    netns.exec("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1");
    let (address, gateway) = ("fd00::2/64".parse().unwrap(), "fd00::1".parse().unwrap());
    let _tap =
        attach(&netns.open(), &DeviceSpec { addresses: vec![address], gateways: vec![gateway], ..spec() }).unwrap();
    assert!(addresses(&netns.link("eth0")).contains(&"fd00::2/64".to_owned()));
}

#[test]
fn a_family_with_a_default_route_keeps_it() {
    let netns = Netns::new();
    let target = netns.open();
    let _first = attach(&target, &spec()).unwrap();
    let second = DeviceSpec {
        ifname: "eth1".into(),
        mac: [2, 0x42, 0xac, 0x12, 0, 2],
        addresses: vec!["172.18.0.2/16".parse().unwrap()],
        gateways: vec!["172.18.0.1".parse().unwrap()],
        ..spec()
    };
    let _second = attach(&target, &second).unwrap();
    let routes = netns.ip("route show default");
    assert_eq!(routes.as_array().unwrap().len(), 1);
    assert_eq!(routes[0]["gateway"], "172.17.0.1");
}

#[test]
fn a_gateway_outside_the_prefix_is_reached_on_link() {
    let netns = Netns::new();
    let spec = DeviceSpec {
        addresses: vec!["10.1.2.3/32".parse().unwrap()],
        gateways: vec!["169.254.1.1".parse().unwrap()],
        ..spec()
    };
    let _tap = attach(&netns.open(), &spec).unwrap();
    assert_eq!(netns.ip("route show default")[0]["flags"][0], "onlink");
}

#[test]
fn the_death_of_the_namespace_shows_at_once() {
    let netns = Netns::new();
    let tap = {
        let target = netns.open();
        attach(&target, &spec()).unwrap()
    };
    run(&["ip", "netns", "del", &netns.0]);
    wait_for_death(tap.as_fd());
    tap.destroy().unwrap();
}

#[test]
fn a_persistent_tap_is_attached_again_by_name() {
    let netns = Netns::new();
    let target = netns.open();
    let spec = spec();
    let again = || {
        let (info, fd) = in_child("reattach", &[target.as_fd()], LIMIT, || {
            let tap = reattach(&target, &spec)?;
            Ok((tap.info, Some(tap.fd)))
        })?;
        Ok(Tap { fd: fd.unwrap(), info })
    };
    let first = attach(&target, &spec).unwrap();
    let info = first.info.clone();
    let busy: Result<Tap, Error> = again();
    assert!(busy.unwrap_err().to_string().contains("busy"));
    drop(first);
    until("carrier is lost", || !has_carrier(&netns.link("eth0")));

    let second: Tap = again().unwrap();
    assert_eq!(second.info, info);
    assert_eq!(addresses(&netns.link("eth0"))[0], "172.17.0.2/16");
    until("carrier is back", || has_carrier(&netns.link("eth0")));
    second.destroy().unwrap();
    until("the device is gone", || netns.link("eth0").is_null());
    let error = again().unwrap_err();
    assert_eq!(error, Error::NoDevice { ifname: "eth0".into() });
}

#[test]
fn what_is_not_ours_is_not_attached() {
    let netns = Netns::new();
    let target = netns.open();
    let mac = "02:42:ac:11:00:02";
    let spec = spec();
    let again = || in_child("reattach", &[target.as_fd()], LIMIT, || Ok((reattach(&target, &spec)?.info, None)));
    run(&["ip", "-n", &netns.0, "tuntap", "add", "eth0", "mode", "tap", "multi_queue"]);
    assert_eq!(again().unwrap_err(), Error::NotOurTap { ifname: "eth0".into() }, "another MAC");
    run(&["ip", "-n", &netns.0, "link", "set", "eth0", "address", mac]);
    assert_eq!(again().unwrap_err(), Error::NotOurTap { ifname: "eth0".into() }, "other flags");
    run(&["ip", "-n", &netns.0, "link", "del", "eth0"]);
    run(&["ip", "-n", &netns.0, "tuntap", "add", "eth0", "mode", "tun"]);
    assert_eq!(again().unwrap_err(), Error::NotOurTap { ifname: "eth0".into() });
}

#[test]
fn mtu_is_changed_live_and_a_device_is_removed() {
    let netns = Netns::new();
    let target = netns.open();
    let tap = attach(&target, &spec()).unwrap();
    let set = |mtu| in_child("set MTU", &[target.as_fd()], LIMIT, || Ok((set_mtu(&target, "eth0", mtu)?, None)));
    set(9000).unwrap();
    assert_eq!(netns.link("eth0")["mtu"], 9000);
    set(65521).unwrap();
    assert_eq!(set(65522).unwrap_err().to_string(), "MTU 65522: want 68 to 65521");
    in_child("remove", &[target.as_fd()], LIMIT, || Ok((remove(&target, "eth0")?, None))).unwrap();
    assert!(netns.link("eth0").is_null());
    tap.destroy().unwrap();
}

#[test]
fn one_scratch_serves_births_at_once() {
    let netns: Vec<Netns> = (0..8).map(|_| Netns::new()).collect();
    let scratch = Scratch::beside(&netns[0].open(), LIMIT).unwrap();
    std::thread::scope(|scope| {
        for netns in &netns {
            let scratch = &scratch;
            scope.spawn(move || attach_in(&netns.open(), scratch, &spec()).unwrap());
        }
    });
}

#[test]
fn a_user_attaches_a_container_of_its_own() {
    let (links, fd) = in_child("as a user", &[], 3 * LIMIT, || {
        become_user();
        let container = Container::start();
        let target = Namespace::of_pid(container.pid())?;
        let tap = attach(&target, &spec())?;
        let links = container.exec("ip -d -j addr show eth0");
        Ok((links, Some(tap.fd)))
    })
    .unwrap();
    let link = &json(&links)[0];
    assert_eq!(link["address"], "02:42:ac:11:00:02");
    assert!(has_carrier(link));
    assert_eq!(addresses(link), ["172.17.0.2/16", "fd00:17::2/64"]);
    // Its only process is dead: the descriptor shows it here, in another process and user namespace.
    wait_for_death(fd.unwrap().as_fd());
}

#[test]
fn a_user_may_not_attach_roots_container() {
    let netns = Netns::new();
    let target = netns.open();
    let error = in_child::<()>("as a user", &[target.as_fd()], LIMIT, || {
        become_user();
        attach(&target, &spec())?;
        Ok(((), None))
    })
    .unwrap_err()
    .to_string();
    assert!(error.contains("owned by another user"), "{error}");
    assert!(netns.link("eth0").is_null());
}

#[test]
fn a_closed_node_is_said_to_be_closed() {
    let netns = Netns::new();
    let target = netns.open();
    let hidden = |path: &str| {
        in_child::<()>("test", &[target.as_fd()], LIMIT, || {
            private_mounts();
            run(&["mount", "--bind", path, "/dev/net"]);
            attach(&target, &spec())?;
            Ok(((), None))
        })
        .unwrap_err()
        .to_string()
    };
    let empty = tempfile::tempdir().unwrap();
    let error = hidden(empty.path().to_str().unwrap());
    assert_eq!(error, "open /dev/net/tun: no such file or directory (load the tun module: modprobe tun)");
}

/// Reads what there is until the descriptor shows its device gone, as a worker would.
fn wait_for_death(tap: BorrowedFd<'_>) {
    let start = Instant::now();
    let mut frame = [0; 2048];
    loop {
        // The driver's wake-up on death is that of a frame: who does not ask for POLLIN sleeps through it.
        let mut fds = [PollFd::new(tap, PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, PollTimeout::try_from(LIMIT).unwrap()), Ok(1), "the namespace is pinned");
        if fds[0].revents().unwrap().contains(PollFlags::POLLERR) {
            assert!(start.elapsed() < LIMIT / 2, "nothing woke it");
            return;
        }
        // A frame, or EBADFD: the next poll says.
        let _ = nix::unistd::read(tap, &mut frame);
    }
}
