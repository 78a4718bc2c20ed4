//! Single flows of the way out: many of them, slow ones, broken ones, large ones. Nothing is lost and nothing is left.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tapswitch_tests::iperf::{self, Load};
use tapswitch_tests::{Background, Container, Internet, Probe, Switch, Who, as_root_and_user, eventually, run};

const ECHO: u16 = 7;
const OTHER: u16 = 8;
/// A transfer of the size, and one for where it was done already.
const GIBIBYTE: usize = 1 << 30;
const SOME: usize = 64 << 20;
/// How long a gibibyte may take on a loaded machine.
const TRANSFER: Duration = Duration::from_secs(120);

as_root_and_user! {
    fn ten_thousand_connections_in_a_row_lose_none_and_leave_nothing(who: Who) {
        every_connection_is_served_and_none_left(who, "churn", "5000");
    }
}

as_root_and_user! {
    fn a_thousand_connections_at_once_lose_none_and_leave_nothing(who: Who) {
        every_connection_is_served_and_none_left(who, "together", "1000");
    }
}

as_root_and_user! {
    /// The host's ports to one far service are used up by TIME_WAIT, as any client's of that host would be. That is said at
    /// once, and no other service is the worse for it.
    fn ports_that_wait_are_missed_by_one_far_service_only(who: Who) {
        let internet = Internet::new(who);
        internet.host().ok(&["sh", "-c", "echo 40000 40199 >/proc/sys/net/ipv4/ip_local_port_range"]);
        let _services = [internet.serve("echo", ECHO, &[]), internet.serve("echo", OTHER, &[])];
        let switch = internet.switch(&[]);
        let web = Container::new(&switch, "web");
        let before = descriptors(&switch);
        let far = internet.addresses()[0];
        let start = Instant::now();
        let said = finished(&web, "churn", far, &["400"]);
        assert!(start.elapsed() < Duration::from_secs(20), "{said} after {:?}", start.elapsed());
        assert!(Probe::dials(&web, far, OTHER), "another service after {said}");
        eventually("every descriptor to be closed", Duration::from_secs(10), || descriptors(&switch) <= before);
    }
}

as_root_and_user! {
    fn an_end_of_one_side_leaves_the_other_open(who: Who) {
        let internet = Internet::new(who);
        let (_echo, mut first) = (internet.serve("echo", ECHO, &[]), internet.serve("end-first", OTHER, &[]));
        let switch = internet.switch(&[]);
        let web = Container::new(&switch, "web");
        for (far, bytes) in internet.addresses().into_iter().zip(["3000000", "5000000"]) {
            assert_eq!(Probe::ask(&web, "half-close", far, ECHO, &[bytes]), format!("returned {bytes}"));
            assert_eq!(Probe::ask(&web, "read-then-write", far, OTHER, &[bytes]), "read 8");
            first.wait_for_line(&format!("took {bytes}"), Duration::from_secs(10));
        }
    }
}

as_root_and_user! {
    fn a_reset_passes_on_as_a_reset_both_ways(who: Who) {
        let internet = Internet::new(who);
        let (_reset, echo) = (internet.serve("reset", OTHER, &[]), internet.serve("echo", ECHO, &[]));
        let switch = internet.switch(&[]);
        let web = Container::new(&switch, "web");
        for (at, far) in internet.addresses().into_iter().enumerate() {
            assert_eq!(Probe::ask(&web, "read", far, OTHER, &[]), "ready\nECONNRESET");
            Probe::ask(&web, "abort", far, ECHO, &[]);
            eventually("the reset out there", Duration::from_secs(10), || {
                echo.lines().iter().filter(|line| *line == "ECONNRESET").count() > at
            });
        }
    }
}

as_root_and_user! {
    fn the_death_of_a_far_end_is_a_reset_inside(who: Who) {
        let internet = Internet::new(who);
        let switch = internet.switch(&[]);
        let web = Container::new(&switch, "web");
        for far in internet.addresses() {
            let mut stall = internet.serve("stall", ECHO, &[]);
            let mut pour = background(&web, "pour", far, ECHO, &[]);
            stall.wait_for_line("accepted", Duration::from_secs(10));
            wait_until_quiet(&switch, "web");
            drop(stall);
            pour.wait_for_line("ECONNRESET", Duration::from_secs(10));
        }
    }
}

as_root_and_user! {
    fn a_slow_reader_out_there_slows_only_its_own_flow(who: Who) {
        let internet = Internet::new(who);
        let (mut stall, _echo) = (internet.serve("stall", OTHER, &[]), internet.serve("echo", ECHO, &[]));
        let switch = internet.switch(&[]);
        let web = Container::new(&switch, "web");
        let far = internet.addresses();
        let alone = iperf::measure(internet.far(), &web, far[0], Load::Tcp, false, 1);
        let mut pours: Vec<_> = (0..8).map(|at| background(&web, "pour", far[at % 2], OTHER, &[])).collect();
        for pour in &mut pours {
            pour.wait_until_ready();
        }
        stall.wait_for_line("accepted", Duration::from_secs(10));
        wait_until_quiet(&switch, "web");
        let beside = iperf::measure(internet.far(), &web, far[0], Load::Tcp, false, 1);
        // Other tests share the machine: only a stall would be a tenth.
        assert!(beside > alone / 10, "{beside} bytes beside them, {alone} alone");
        assert_eq!(finished(&web, "churn", far[1], &["100"]), "lost 0");
        assert!(pours.iter_mut().all(Background::is_running), "a flow whose reader is slow ended");
        // A container that does not read stops its own flow only, too.
        let rss = rss_kb(switch.switch_pid());
        assert!(rss < 64 * 1024, "{rss} kB for eight flows that wait");
    }
}

as_root_and_user! {
    fn a_gibibyte_each_way_arrives_whole(who: Who) {
        // The same code serves both; the ordinary user is whom it is for.
        let bytes = if who == Who::User { GIBIBYTE } else { SOME };
        let internet = Internet::new(who);
        let _files = internet.serve("files", 80, &[]);
        let switch = internet.switch(&[]);
        let web = Container::new(&switch, "web");
        for far in internet.addresses() {
            for verb in ["get", "put"] {
                let start = Instant::now();
                let said = finished_at(&web, verb, far, 80, &[&bytes.to_string()]);
                assert_eq!(said, format!("verified {bytes}"), "{verb} {far}");
                println!("{verb} {far}: {:.1} Gbit/s", bytes as f64 * 8e-9 / start.elapsed().as_secs_f64());
            }
        }
    }
}

as_root_and_user! {
    fn plain_ports_carry_files_whole(who: Who) {
        let internet = Internet::new(who);
        let _files = internet.serve("files", 80, &[]);
        let switch = internet.switch(&["--offload", "off"]);
        let web = Container::new(&switch, "web");
        for far in internet.addresses() {
            for verb in ["get", "put"] {
                let start = Instant::now();
                assert_eq!(finished_at(&web, verb, far, 80, &["4194304"]), "verified 4194304", "{verb} {far}");
                println!("{verb} {far}: {:.2} Gbit/s", (4 << 20) as f64 * 8e-9 / start.elapsed().as_secs_f64());
            }
            let url = format!("http://{}/1000000", SocketAddr::new(far, 80));
            let sizes = ["-s", "-o", "/dev/null", "-w", "%{http_code} %{size_download}"];
            assert_eq!(web.ok(&[&["curl", &url], &sizes[..]].concat()).trim(), "200 1000000");
        }
    }
}

as_root_and_user! {
    fn files_streams_datagrams_and_questions_come_in_by_published_ports(who: Who) {
        let internet = Internet::new(who);
        let switch = internet.switch(&[]);
        let published = ["8080:80", "5201:5201", "5201:5201/udp", "5353:53", "5353:53/udp"];
        let flags: Vec<&str> = published.iter().flat_map(|port| ["-p", port]).collect();
        let (web, far) = (Container::with(&switch, "web", &flags), internet.far());
        let inside = web.addresses();
        let serve = |verb: &str, port: u16, words: &[&str]| {
            let at = inside.map(|address| SocketAddr::new(address, port).to_string());
            let mut service = web.spawn(&[&["tapswitch-probe", verb, &at[0], &at[1]], words].concat());
            service.wait_until_ready();
            service
        };
        let _services = [serve("files", 80, &[]), serve("names", 53, &["here.test=192.0.2.1"])];
        for host in internet.host_addresses() {
            for verb in ["get", "put"] {
                let bytes = SOME.to_string();
                assert_eq!(finished_at(far, verb, host, 8080, &[&bytes]), format!("verified {bytes}"), "{verb} {host}");
            }
            for load in [Load::Tcp, Load::Udp] {
                for reverse in [false, true] {
                    iperf::measure(&web, far, host, load, reverse, 1);
                }
            }
            for transport in ["+notcp", "+tcp"] {
                let words = ["dig", "+short", transport, "-p", "5353", &format!("@{host}"), "here.test", "A"];
                assert_eq!(far.ok(&words).trim(), "192.0.2.1");
            }
        }
    }
}

as_root_and_user! {
    fn frames_lost_inside_are_sent_again(who: Who) {
        let internet = Internet::new(who);
        let _files = internet.serve("files", 80, &[]);
        let switch = internet.switch(&[]);
        let web = Container::new(&switch, "web");
        // One of a hundred, each way; a frame is up to 64 KB. nft may be missing: then this test says so.
        web.ok(&["nft", "add table inet loss; \
            add chain inet loss in { type filter hook input priority 0; }; \
            add chain inet loss out { type filter hook output priority 0; }; \
            add rule inet loss in tcp sport 80 numgen random mod 100 0 counter drop; \
            add rule inet loss out tcp dport 80 numgen random mod 100 0 counter drop"]);
        for far in internet.addresses() {
            for verb in ["get", "put"] {
                assert_eq!(finished_at(&web, verb, far, 80, &["16777216"]), "verified 16777216", "{verb} {far}");
            }
        }
    }
}

as_root_and_user! {
    fn who_holds_all_the_flows_it_may_is_refused_more_and_nobody_else_is(who: Who) {
        /// More than any limit of one endpoint.
        const MANY: &str = "9000";
        let internet = Internet::new(who);
        let _echo = internet.serve("echo-udp", ECHO, &[]);
        let _tcp = internet.serve("echo", ECHO, &[]);
        let switch = internet.switch(&[]);
        let (greedy, web) = (Container::new(&switch, "greedy"), Container::new(&switch, "web"));
        let far = internet.addresses()[0];
        let before = descriptors(&switch);
        let said = finished(&greedy, "many-udp", far, &[MANY]);
        let answered: usize = said.rsplit(' ').next().and_then(|count| count.parse().ok()).expect("a count");
        assert!(answered >= 256, "{said}: {}", switch.total());
        let limited = descriptors(&switch);
        assert!(limited < before + 9000, "{limited} descriptors for one container");
        assert_eq!(Probe::ask(&web, "ask-udp", far, ECHO, &["10"]), "answered", "{}", switch.total());
        assert!(Probe::dials(&web, far, ECHO), "{}", switch.total());
    }
}

as_root_and_user! {
    fn flows_survive_nothing_but_leave_nothing_when_their_container_dies(who: Who) {
        let internet = Internet::new(who);
        let mut echo = internet.serve("echo", ECHO, &[]);
        let switch = internet.switch(&[]);
        let before = descriptors(&switch);
        let web = Container::new(&switch, "web");
        let mut held = background(&web, "hold", internet.addresses()[0], ECHO, &["100"]);
        held.wait_for_line("held 100", Duration::from_secs(10));
        assert!(descriptors(&switch) >= before + 100);
        drop((held, web));
        eventually("its descriptors to be closed", Duration::from_secs(10), || descriptors(&switch) <= before);
        let other = Container::new(&switch, "other");
        assert!(Probe::dials(&other, internet.addresses()[0], ECHO));
        assert!(echo.is_running());
    }
}

/// What a probe with many flows to the echo prints at its end.
#[track_caller]
fn finished(container: &Container, verb: &str, far: IpAddr, words: &[&str]) -> String {
    finished_at(container, verb, far, ECHO, words)
}

#[track_caller]
fn finished_at(container: &Container, verb: &str, far: IpAddr, port: u16, words: &[&str]) -> String {
    let to = SocketAddr::new(far, port).to_string();
    let command = container.command(&[&["tapswitch-probe", verb, &to], words].concat());
    run(command, TRANSFER).ok().trim().to_owned()
}

#[track_caller]
fn background(container: &Container, verb: &str, far: IpAddr, port: u16, words: &[&str]) -> Background {
    let to = SocketAddr::new(far, port).to_string();
    container.spawn(&[&["tapswitch-probe", verb, &to], words].concat())
}

/// Until what `endpoint` sends has nowhere to go any more.
#[track_caller]
fn wait_until_quiet(switch: &Switch, endpoint: &str) {
    let sent = || switch.endpoint(endpoint).and_then(|line| line["rx_bytes"].as_u64()).expect("it is attached");
    eventually("the flow to stop", Duration::from_secs(20), || {
        let before = sent();
        std::thread::sleep(Duration::from_millis(300));
        // Window probes and acknowledgements go on.
        sent() < before + 10_000
    });
}

/// So many connections to each far address, in the way of the probe's `verb`.
#[track_caller]
fn every_connection_is_served_and_none_left(who: Who, verb: &str, count: &str) {
    let internet = Internet::new(who);
    let _echo = internet.serve("echo", ECHO, &[]);
    let switch = internet.switch(&[]);
    let web = Container::new(&switch, "web");
    let before = descriptors(&switch);
    for far in internet.addresses() {
        assert_eq!(finished(&web, verb, far, &[count]), "lost 0", "{}", switch.total());
    }
    eventually("every descriptor to be closed", Duration::from_secs(10), || descriptors(&switch) <= before);
}

/// How many descriptors the switch has open.
fn descriptors(switch: &Switch) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", switch.switch_pid())).expect("the switch runs").count()
}

fn rss_kb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a process has memory");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).expect("a number")
}
