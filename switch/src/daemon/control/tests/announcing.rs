//! Who is told where an address is.

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use super::*;
use crate::daemon::control::Control;
use crate::forwarding::{gratuitous_arp, unsolicited_na};
use crate::frame::{Mac, offload};

const CHOSEN: Mac = Mac::new([2, 0, 0, 0, 0, 9]);
const A4: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
const B4: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 3);
const C4: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 4);
const D4: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 5);

/// A switch whose one network has IPv6 too.
fn start(dir: &tempfile::TempDir, icc: bool) -> Daemon {
    Daemon::start(of_both_families(dir, icc), 0, Keeper::default(), Box::new(|_| Act::Do)).unwrap()
}

fn of_both_families(dir: &tempfile::TempDir, icc: bool) -> crate::daemon::settings::Settings {
    let mut settings = settings(dir.path());
    settings.networks[0].ipv6 = Some(Subnet6::Given("fd00::/64".parse().unwrap()));
    settings.networks[0].icc = Some(icc);
    settings
}

fn attach(daemon: &Daemon, name: &str, ip: Ipv4Addr, mac: Option<Mac>) {
    let request = AttachRequest {
        name: Some(name.into()),
        ifname: Some(name.into()),
        ip: Some(ip),
        mac,
        ..AttachRequest::default()
    };
    daemon.attach_as(request).unwrap();
}

fn allow(daemon: &Daemon, from: &'static str, to: &'static str, what: Option<&'static str>) {
    daemon.call(move |control| control.allow(&rule(from, to, what))).unwrap();
}

/// What arrived at a container since the last look.
fn arrived(daemon: &Daemon, name: &str) -> Vec<Vec<u8>> {
    let kept = daemon.keeper.kept.lock();
    let (container, _) = &kept[&format!("default/{name}")];
    let mut buffer = [0; 2048];
    let next = || nix::unistd::read(container, &mut buffer).ok().map(|len| buffer[offload::HEADER_LEN..len].to_vec());
    std::iter::from_fn(next).collect()
}

/// ARP announcement and neighbour advertisement of an address and its mirror.
fn told(address: Ipv4Addr, mac: Mac) -> Vec<Vec<u8>> {
    let mirror = u128::from(u32::from(address) & 0xff) | u128::from("fd00::".parse::<std::net::Ipv6Addr>().unwrap());
    let (mut arp, mut advertisement) = (Vec::new(), Vec::new());
    gratuitous_arp(address, mac, &mut arp);
    unsolicited_na(mirror.into(), mac, false, &mut advertisement);
    vec![arp, advertisement]
}

fn nothing() -> Vec<Vec<u8>> {
    Vec::new()
}

#[test]
fn an_address_with_another_mac_than_last_is_announced_to_all_others() {
    let dir = dir();
    let daemon = start(&dir, true);
    attach(&daemon, "a", A4, None);
    attach(&daemon, "b", B4, None);
    assert_eq!((arrived(&daemon, "a"), arrived(&daemon, "b")), (nothing(), nothing()));
    for (mac, expected) in [
        (Some(CHOSEN), told(C4, CHOSEN)),
        (Some(CHOSEN), nothing()),
        (None, told(C4, Mac::of_ipv4(C4))),
        (None, nothing()),
    ] {
        attach(&daemon, "c", C4, mac);
        assert_eq!((arrived(&daemon, "a"), arrived(&daemon, "b")), (expected.clone(), expected), "{mac:?}");
        assert_eq!(arrived(&daemon, "c"), nothing());
        daemon.detach("c").unwrap();
    }
    daemon.stop();
}

#[test]
fn without_icc_only_those_that_a_rule_relates_to_it_are_told() {
    let dir = dir();
    let daemon = start(&dir, false);
    allow(&daemon, "asker", "new", Some("tcp/80"));
    allow(&daemon, "new", "asked", Some("tcp/80"));
    allow(&daemon, "asked", "other", None);
    for (name, ip) in [("asker", A4), ("asked", B4), ("other", C4)] {
        attach(&daemon, name, ip, None);
    }
    attach(&daemon, "new", D4, Some(CHOSEN));
    let expected = told(D4, CHOSEN);
    assert_eq!((arrived(&daemon, "asker"), arrived(&daemon, "asked")), (expected.clone(), expected));
    assert_eq!((arrived(&daemon, "other"), arrived(&daemon, "new")), (nothing(), nothing()));
    daemon.stop();
}

#[test]
fn a_restarted_switch_announces_nothing_and_knows_the_macs() {
    let dir = dir();
    let daemon = start(&dir, true);
    attach(&daemon, "a", A4, None);
    attach(&daemon, "b", B4, Some(CHOSEN));
    arrived(&daemon, "a");
    let keeper = daemon.stop();
    let daemon = Daemon::start(of_both_families(&dir, true), 1, keeper, Box::new(|_| Act::Do)).unwrap();
    assert_eq!((arrived(&daemon, "a"), arrived(&daemon, "b")), (nothing(), nothing()));
    daemon.detach("b").unwrap();
    attach(&daemon, "b", B4, None);
    assert_eq!(arrived(&daemon, "a"), told(B4, Mac::of_ipv4(B4)));
    daemon.stop();
}

#[test]
fn a_rule_introduces_its_two_ends_once() {
    let dir = dir();
    let daemon = start(&dir, false);
    for (name, ip) in [("a", A4), ("b", B4), ("c", C4)] {
        attach(&daemon, name, ip, None);
    }
    let heard = || ["a", "b", "c"].map(|name| arrived(&daemon, name));
    let introduced = || [told(B4, Mac::of_ipv4(B4)), told(A4, Mac::of_ipv4(A4)), nothing()];
    let deny = || daemon.call(|control| control.deny(&rule("a", "b", None))).unwrap();
    allow(&daemon, "a", "b", Some("tcp/80"));
    assert_eq!(heard(), introduced());
    allow(&daemon, "a", "b", Some("tcp/80"));
    allow(&daemon, "a", "b", Some("tcp/81"));
    allow(&daemon, "b", "a", Some("tcp/80"));
    allow(&daemon, "a", "absent", None);
    deny();
    assert_eq!(heard(), [nothing(), nothing(), nothing()]);
    daemon.call(|control| control.deny(&rule("b", "a", None))).unwrap();
    allow(&daemon, "a", "b", None);
    assert_eq!(heard(), introduced());
    daemon.stop();
}

#[test]
fn with_icc_a_rule_introduces_nobody() {
    let dir = dir();
    let daemon = start(&dir, true);
    attach(&daemon, "a", A4, None);
    attach(&daemon, "b", B4, None);
    allow(&daemon, "a", "b", None);
    assert_eq!((arrived(&daemon, "a"), arrived(&daemon, "b")), (nothing(), nothing()));
    daemon.stop();
}

#[test]
fn announcements_are_counted_also_where_they_cannot_be_written() {
    let dir = dir();
    let daemon = start(&dir, true);
    attach(&daemon, "a", A4, None);
    attach(&daemon, "deaf", B4, None);
    let deaf = daemon.keeper.kept.lock()["default/deaf"].0.as_raw_fd();
    nix::sys::socket::shutdown(deaf, nix::sys::socket::Shutdown::Read).unwrap();
    attach(&daemon, "c", C4, Some(CHOSEN));
    let counts = |name: &'static str| {
        let of = move |control: &mut Control| {
            let network = control.networks.values().next().unwrap();
            Ok(network.endpoints[&name.parse().unwrap()].port().unwrap().counts())
        };
        daemon.call(of).unwrap()
    };
    let (heard, deaf) = (counts("a"), counts("deaf"));
    let bytes = told(C4, CHOSEN).iter().map(|frame| frame.len() as u64).sum();
    assert_eq!((heard.tx_decided, heard.tx_frames, heard.tx_bytes), (2, 2, bytes));
    assert_eq!((deaf.tx_decided, deaf.tx_frames), (2, 0));
    assert!(heard.egress_is_conserved() && deaf.egress_is_conserved());
    daemon.stop();
}
