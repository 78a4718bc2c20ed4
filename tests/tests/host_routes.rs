//! The host's routes as the kernel of a real namespace tells them, and the ranges chosen by them.
//!
//! Each test starts itself again under unshare(1), root or not, so the routes it makes are its own.

use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tapswitch::daemon::host::{Host, Watch};
use tapswitch_ipam::{Choice, Occupied, Pool, RouteKind, choose};

const INSIDE: &str = "TAPSWITCH_TEST_INSIDE";

/// Runs the body in a network namespace of its own, in a second process of this test.
fn in_namespace(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let namespaces: &[&str] = if nix::unistd::geteuid().is_root() { &["--net"] } else { &["--map-root-user", "--net"] };
    let output = Command::new("unshare")
        .args(namespaces)
        .arg("--")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare must run: apt-get install util-linux");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success() && text.contains("1 passed"), "inside the namespace:\n{text}");
}

/// Commands of ip(8), one a line; all must succeed.
fn ip(commands: &str) {
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("ip must run: apt-get install iproute2");
    child.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "ip -batch failed on:\n{commands}");
}

/// A host on 10.1.2.0/24. The link is an idle TAP: what the product needs anyway.
fn link() {
    ip("link set lo up
        tuntap add dev wan mode tap
        address add 10.1.2.3/24 dev wan
        address add fd00:77::3/64 dev wan nodad
        link set wan up");
}

fn read() -> Occupied {
    Host::open().unwrap().occupied(&[]).unwrap()
}

fn kinds(occupied: &Occupied, prefix: &str) -> Vec<RouteKind> {
    occupied.routes.iter().filter(|route| route.prefix.to_string() == prefix).map(|route| route.kind).collect()
}

fn chosen() -> Choice {
    choose(Pool::Docker, &read()).unwrap()
}

#[test]
fn routes_of_every_table_are_read_with_their_kind() {
    in_namespace("routes_of_every_table_are_read_with_their_kind", || {
        link();
        ip("route add default via 10.1.2.1
            route add 172.17.0.0/16 via 10.1.2.1 table 100
            route add 172.18.0.0/16 dev wan table 100000
            route add 172.19.0.0/16 nexthop via 10.1.2.1 nexthop via 10.1.2.2
            route add blackhole 10.0.0.0/8
            route add unreachable 172.16.0.0/12
            route add prohibit 192.168.0.0/16
            route add throw 172.20.0.0/16
            route add local 172.21.0.0/16 dev lo
            route add fd00:88::/64 via fd00:77::1
            route add blackhole fd00:99::/64");
        let occupied = read();
        let expected = [
            ("0.0.0.0/0", RouteKind::Gateway),
            ("10.1.2.0/24", RouteKind::OnLink),
            ("172.17.0.0/16", RouteKind::Gateway),
            ("172.18.0.0/16", RouteKind::OnLink),
            ("172.19.0.0/16", RouteKind::Gateway),
            ("10.0.0.0/8", RouteKind::Blackhole),
            ("172.16.0.0/12", RouteKind::Unreachable),
            ("192.168.0.0/16", RouteKind::Prohibit),
            ("172.20.0.0/16", RouteKind::Throw),
            ("172.21.0.0/16", RouteKind::OnLink),
            ("127.0.0.0/8", RouteKind::OnLink),
            ("fd00:77::/64", RouteKind::OnLink),
            ("fd00:88::/64", RouteKind::Gateway),
            ("fd00:99::/64", RouteKind::Blackhole),
        ];
        for (prefix, kind) in expected {
            assert_eq!(kinds(&occupied, prefix), [kind], "{prefix}");
        }
        assert_eq!(occupied.networks, []);
    });
}

#[test]
fn addresses_are_read_and_those_of_a_link_that_is_down_too() {
    in_namespace("addresses_are_read_and_those_of_a_link_that_is_down_too", || {
        link();
        ip("tuntap add dev idle mode tap
            address add 172.17.0.1/16 dev idle
            tuntap add dev ptp mode tun
            address add 10.8.0.6 peer 10.8.0.5 dev ptp
            link set ptp up");
        let occupied = read();
        for address in ["10.1.2.3", "127.0.0.1", "::1", "fd00:77::3", "172.17.0.1", "10.8.0.6"] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(occupied.addresses.iter().filter(|a| **a == address).count(), 1, "{address}");
        }
        assert_eq!(kinds(&occupied, "10.8.0.5/32"), [RouteKind::OnLink]);
        assert_eq!(chosen().subnet.net().to_string(), "172.18.0.0/16");
    });
}

#[test]
fn all_that_is_the_host_itself_is_told_apart_from_where_routes_lead() {
    in_namespace("all_that_is_the_host_itself_is_told_apart_from_where_routes_lead", || {
        link();
        ip("route add local 172.21.0.0/16 dev lo
            route add local 172.22.0.0/16 dev lo table 100
            route add local 172.23.0.7/32 dev lo
            route add local fd00:66::/64 dev lo
            route add 172.24.0.0/16 via 10.1.2.1");
        let occupied = read();
        let local: Vec<String> = occupied.local.iter().map(|net| net.to_string()).collect();
        assert_eq!(local, ["127.0.0.0/8", "172.21.0.0/16", "172.22.0.0/16", "fd00:66::/64"]);
        assert!(occupied.addresses.contains(&"172.23.0.7".parse().unwrap()));
        assert!(occupied.broadcasts.contains(&"10.1.2.255".parse().unwrap()), "{:?}", occupied.broadcasts);
    });
}

#[test]
fn nameservers_of_both_files_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let (stub, real) = (directory.path().join("resolv.conf"), directory.path().join("real.conf"));
    std::fs::write(&stub, "nameserver 127.0.0.53\n").unwrap();
    std::fs::write(&real, "nameserver 172.17.0.2\nnameserver 127.0.0.53\n").unwrap();
    let missing = Path::new("/nonexistent/resolv.conf");
    let occupied = Host::open().unwrap().occupied(&[&stub, &real, missing]).unwrap();
    let expected: Vec<IpAddr> = ["127.0.0.53", "172.17.0.2"].map(|a| a.parse().unwrap()).into();
    assert_eq!(occupied.nameservers, expected);
}

#[test]
fn a_host_route_to_172_17_makes_the_default_network_172_18() {
    in_namespace("a_host_route_to_172_17_makes_the_default_network_172_18", || {
        link();
        assert_eq!(chosen().subnet.net().to_string(), "172.17.0.0/16");
        ip("route add 172.17.0.0/16 via 10.1.2.1");
        assert_eq!(chosen().subnet.net().to_string(), "172.18.0.0/16");
        assert_eq!(chosen().warning, None);
    });
}

#[test]
fn a_vpn_over_all_private_ranges_warns_and_all_of_them_on_link_is_an_error() {
    in_namespace("a_vpn_over_all_private_ranges_warns_and_all_of_them_on_link_is_an_error", || {
        link();
        ip("route add 10.0.0.0/8 via 10.1.2.1
            route add 172.16.0.0/12 via 10.1.2.1
            route add 192.168.0.0/16 via 10.1.2.1");
        assert_eq!(chosen().subnet.net().to_string(), "172.17.0.0/16");
        assert!(chosen().warning.unwrap().to_string().contains("172.16.0.0/12 through a gateway"));
        ip("route replace 172.16.0.0/12 dev wan
            route replace 192.168.0.0/16 dev wan");
        let error = choose(Pool::Docker, &read()).unwrap_err().to_string();
        assert!(error.contains("every one of the 31 default ranges is taken") && error.contains("--subnet"), "{error}");
    });
}

#[test]
fn ten_thousand_routes_are_read_whole() {
    in_namespace("ten_thousand_routes_are_read_whole", || {
        link();
        ip(&many_routes(10_000));
        let occupied = read();
        assert_eq!(occupied.routes.iter().filter(|r| r.prefix.to_string().starts_with("11.")).count(), 10_000);
    });
}

#[test]
fn routes_that_change_while_they_are_read_do_no_harm() {
    in_namespace("routes_that_change_while_they_are_read_do_no_harm", || {
        link();
        ip(&many_routes(5000));
        let churn = std::thread::spawn(|| {
            for _ in 0..20 {
                ip(&"route add 172.17.0.0/16 dev wan\nroute del 172.17.0.0/16 dev wan\n".repeat(200));
            }
        });
        let mut host = Host::open().unwrap();
        while !churn.is_finished() {
            let occupied = host.occupied(&[]).unwrap();
            assert_eq!(kinds(&occupied, "10.1.2.0/24"), [RouteKind::OnLink]);
        }
        churn.join().unwrap();
    });
}

fn many_routes(count: u32) -> String {
    (0..count).map(|i| format!("route add 11.{}.{}.0/24 dev wan\n", i / 250, i % 250)).collect()
}

/// Watches in a thread; each burst sends one message.
fn watch() -> Receiver<()> {
    let watch = Watch::open().unwrap();
    let (told, bursts) = channel();
    std::thread::spawn(move || watch.watch(|| told.send(()).is_ok()).unwrap());
    bursts
}

const DEADLINE: Duration = Duration::from_secs(20);

/// Waits for bursts until one leaves the host as wanted; gives how many there were.
fn until(bursts: &Receiver<()>, wanted: impl Fn(&Occupied) -> bool) -> usize {
    let deadline = Instant::now() + DEADLINE;
    let mut count = 0;
    loop {
        bursts.recv_timeout(deadline.saturating_duration_since(Instant::now())).expect("a change is told");
        count += 1;
        if wanted(&read()) {
            return count;
        }
    }
}

#[test]
fn a_route_or_address_that_comes_or_goes_is_told() {
    in_namespace("a_route_or_address_that_comes_or_goes_is_told", || {
        link();
        let bursts = watch();
        ip("route add 172.17.0.0/16 via 10.1.2.1");
        until(&bursts, |occupied| !kinds(occupied, "172.17.0.0/16").is_empty());
        ip("route add fd00:88::/64 dev wan");
        until(&bursts, |occupied| !kinds(occupied, "fd00:88::/64").is_empty());
        ip("address add 172.30.0.1/32 dev lo");
        until(&bursts, |occupied| occupied.addresses.contains(&"172.30.0.1".parse().unwrap()));
        ip("link set wan down");
        until(&bursts, |occupied| kinds(occupied, "172.17.0.0/16").is_empty());
    });
}

#[test]
fn a_burst_of_changes_is_told_few_times() {
    in_namespace("a_burst_of_changes_is_told_few_times", || {
        link();
        let bursts = watch();
        ip(&many_routes(1000));
        let told = until(&bursts, |occupied| kinds(occupied, "11.3.249.0/24") == [RouteKind::OnLink]);
        assert!(told <= 3, "told {told} times of 1000 changes");
    });
}

#[test]
fn an_overrun_is_a_change_and_the_watch_goes_on() {
    in_namespace("an_overrun_is_a_change_and_the_watch_goes_on", || {
        link();
        let watch = Watch::open().unwrap();
        // Nobody listens yet: far more than the socket holds.
        ip(&many_routes(10_000));
        let (told, bursts) = channel();
        std::thread::spawn(move || watch.watch(|| told.send(()).is_ok()).unwrap());
        until(&bursts, |occupied| kinds(occupied, "11.39.249.0/24") == [RouteKind::OnLink]);
        ip("route add 172.17.0.0/16 via 10.1.2.1");
        until(&bursts, |occupied| !kinds(occupied, "172.17.0.0/16").is_empty());
    });
}
